"""What holds for every operator of the catalogue, whatever the data look like."""

import copy
import dataclasses
import functools
import pickle
from typing import Any

import dask
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import ADJOINTS, CATALOGUE, ELEMENTARY, each_of, gather
from xlops.space import Blocks
from xlops.testing.members import cuts, filled

SETTINGS = hypothesis.settings(
    max_examples=2,  # for each of some 200 operators, most of which have much in common
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    suppress_health_check=list(hypothesis.HealthCheck),
)

every_operator = pytest.mark.parametrize("entry", CATALOGUE, ids=str)
# For tests that take their time.
telling_operators = each_of(CATALOGUE)

# Roundings that a value may have gone through, in units of the precision.
ROUNDINGS = 64


# --- data for any operator ------------------------------------------------------------


def blocks(value: Any) -> dict[str, Any]:
    """A value by block; a single one has no name."""
    if isinstance(value, (dict, Blocks)):
        return dict(value.items())
    return {"": value}


def like(value: Any, made: dict[str, Any]) -> Any:
    """The opposite of `blocks`."""
    return made if isinstance(value, (dict, Blocks)) else made[""]


def for_each(function: Any, *values: Any) -> Any:
    """A function of every block of one or several values."""
    first = values[0]
    return like(
        first,
        {key: function(*(blocks(value)[key] for value in values)) for key in blocks(first)},
    )


def template(d: xr.DataArray, space: xl.Space, batch: tuple[str, ...]) -> xr.DataArray:
    """An array over a space, with the labels that the gather d has along other dims."""
    d = d.isel({dim: slice(3) for dim in batch if dim in d.dims})
    sizes = {**space.sizes, **{dim: d.sizes.get(dim, 2) for dim in batch}}
    coords = dict(space.coords)
    for name, coord in d.coords.items():
        if coord.dims and set(coord.dims) <= set(batch):
            coords[name] = coord.variable
    array = xr.DataArray(
        np.zeros(tuple(sizes.values())),
        dims=tuple(sizes),
        name=d.name,
        attrs=copy.deepcopy(d.attrs),
    )
    return array.assign_coords(coords).assign_coords(shot_id=3)


@dataclasses.dataclass
class Case:
    """An operator and data for it: arrays on NumPy, and how Dask may cut them."""

    A: xl.LinearOperator
    x: Any
    cuts: dict[tuple[str, int], tuple[int, ...]]  # by dim and size

    def __repr__(self) -> str:
        arrays = [f"{x.dtype} {dict(x.sizes)}" for x in blocks(self.x).values()]
        return f"{self.A} on {'; '.join(arrays)} in {list(self.cuts.values())}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    @property
    def lazy(self) -> Any:
        """The data on Dask."""
        return for_each(
            lambda x: x.chunk({dim: self.cuts[dim, n] for dim, n in x.sizes.items()}),
            self.x,
        )

    def other(self, seed: int) -> Any:
        """Other data of the same kind."""
        return for_each(lambda x: filled(x, x.dtype, seed), self.x)


@st.composite
def cases(draw: Any, entry: Any) -> Case:
    """An operator or its adjoint, and data with any dims, order of dims and chunks."""
    d = gather(entry.time, tuple(draw(st.integers(5, 8)) for _ in range(3)))
    A = entry.build(d)
    if draw(st.booleans()):
        A = A.H
    own = {
        dim for side in (A.domain, A.range) for s in blocks(side).values() for dim in s.dims
    }
    free = [dim for dim in (*d.dims, "shot") if dim not in own]
    batch = tuple(draw(st.lists(st.sampled_from(free), unique=True, max_size=2)))
    dtypes = ["float64", "float32"]
    kinds = {space.kind for space in blocks(A.domain).values()}
    if "real" not in kinds:
        dtypes += ["complex128", "complex64"]
    dtype, seed = draw(st.sampled_from(dtypes)), draw(st.integers(0, 99))

    def member(space: xl.Space) -> xr.DataArray:
        array = template(d, space, batch)
        order = draw(st.permutations(array.dims))
        return filled(array.transpose(*order), dtype, seed)

    x = for_each(member, A.domain)
    sizes = {item: None for a in blocks(x).values() for item in a.sizes.items()}
    return Case(A, x, {(dim, size): draw(cuts(size)) for dim, size in sizes})


# --- comparing ------------------------------------------------------------------------


def values(x: Any) -> list[np.ndarray]:
    """The values of every block."""
    return [array.values for array in blocks(x).values()]


def precision(x: Any) -> float:
    """The coarsest precision among blocks."""
    return max(float(np.finfo(v.dtype).eps) for v in values(x))


def assert_near(actual: Any, expected: Any, scale: float = 0.0) -> None:
    """The same up to rounding, relative to the largest value."""
    for one, other in zip(values(actual), values(expected), strict=True):
        largest = max(np.max(np.abs(other), initial=0.0), scale)
        error = np.max(np.abs(one - other), initial=0.0)
        assert error <= ROUNDINGS * np.finfo(one.dtype).eps * largest


def inner(x: Any, y: Any) -> complex:
    """⟨x, y⟩ over all blocks, in double precision."""
    total = 0j
    for one, other in zip(blocks(x).values(), blocks(y).values(), strict=True):
        product = one.values.astype(complex) * other.transpose(*one.dims).values.conj()
        total += complex(product.sum())
    return total


def norm(x: Any) -> float:
    return abs(inner(x, x)) ** 0.5


def combined(a: complex, x: Any, b: complex, y: Any) -> Any:
    def one(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
        result = u.values.dtype.type(a) * u.values + u.values.dtype.type(b) * v.values
        return u.copy(data=result)

    return for_each(one, x, y)


# --- the properties -------------------------------------------------------------------


def assert_properties(case):
    before = copy.deepcopy(case.x)
    y = case.A @ case.x
    assert_labeled(case.A, case.x, y)
    assert_dtypes(case.A, case.x, y)
    assert_adjoint(case, y)
    assert_linear(case, y)
    assert_same_on_dask(case, y)
    assert_untouched(case, y, before)


@telling_operators
def test_properties(entry):
    _ = entry.operator  # imports what is imported when first used
    SETTINGS(hypothesis.given(cases(entry))(assert_properties))()


@pytest.mark.slow
def test_properties_on_more_data():
    more = hypothesis.settings(SETTINGS, max_examples=10)
    for entry in CATALOGUE:
        _ = entry.operator
        more(hypothesis.given(cases(entry))(assert_properties))()


def assert_labeled(A, x, y):
    """Dims in their order, and the labels of the range, the batch and the scalars."""
    assert isinstance(y, dict) == isinstance(A.range, Blocks)
    given = next(iter(blocks(x).values()))
    passing = [
        dim for dim in given.dims if dim not in next(iter(blocks(A.domain).values()))
    ]
    for key, space in blocks(A.range).items():
        made = blocks(y)[key]
        if not isinstance(A.domain, Blocks) and A.layouts[0] is None:
            assert made.dims == expected_dims(x.dims, A.domain.dims, space.dims)
        assert set(made.dims) == {*space.dims, *passing}
        for name, coord in space.coords.items():
            assert made.coords[name].variable.identical(coord.variable), name
        for name, coord in given.coords.items():
            if set(coord.dims) <= set(passing):
                assert made.coords[name].variable.identical(coord.variable), name
        assert set(made.coords) <= {*space.coords, *given.coords}
        assert made.name == "pressure"
        assert made.attrs["long_name"] == "sound"
        assert made.attrs["source"] == "a gun"


def expected_dims(dims, given, made):
    """Dims that stay keep their place; new ones come where the first consumed one was."""
    new = [dim for dim in made if dim not in given]
    consumed = [dim for dim in dims if dim in given and dim not in made]
    at = dims.index(consumed[0]) if consumed else len(dims)
    before = [dim for dim in dims[:at] if dim not in consumed]
    after = [dim for dim in dims[at:] if dim not in consumed]
    return (*before, *new, *after)


def assert_dtypes(A, x, y):
    """Single precision stays single, and values are real where their space is."""
    (single,) = {v.dtype.name in {"float32", "complex64"} for v in values(x)}
    is_complex = any(v.dtype.kind == "c" for v in values(x))
    for v, space in zip(values(y), blocks(A.range).values(), strict=True):
        assert v.dtype.name in (
            {"float32", "complex64"} if single else {"float64", "complex128"}
        )
        if space.kind == "real":
            assert v.dtype.kind == "f"
        elif is_complex or (space.kind == "complex" and not isinstance(A.range, Blocks)):
            assert v.dtype.kind == "c"


def assert_adjoint(case, y):
    """⟨A x, v⟩ = ⟨x, Aᴴ v⟩, and Aᴴ v has exactly the labels of the domain."""
    v = for_each(lambda a: filled(a, a.dtype, 7), y)
    back = case.A.H @ v
    assert_labeled(case.A.H, v, back)
    left, right = inner(y, v), inner(case.x, back)
    scale = norm(y) * norm(v) + norm(case.x) * norm(back)
    difference = left - right if case.A.clinear else (left - right).real
    assert abs(difference) <= ROUNDINGS * max(precision(case.x), precision(y)) * scale


def assert_linear(case, y):
    """A (a x + b z) = a A x + b A z, with complex a and b where A is complex-linear."""
    z = case.other(5)
    is_complex = all(v.dtype.kind == "c" for v in values(case.x))
    a, b = (2 + 1j, -3 + 0.5j) if case.A.clinear and is_complex else (2.0, -3.0)
    Az = case.A @ z
    both = combined(a, y, b, Az)
    scale = max(np.max(np.abs(v), initial=0.0) for u in (y, Az) for v in values(u))
    assert_near(case.A @ combined(a, case.x, b, z), both, scale=4 * scale)


def assert_same_on_dask(case, y):
    """Dask data give lazy results with the same labels and, rounding aside, values."""
    lazy = case.A @ case.lazy
    for key, one in blocks(lazy).items():
        other = blocks(y)[key]
        assert dask.is_dask_collection(one.data)
        assert one.dims == other.dims
        assert one.dtype == other.dtype
        assert one.attrs == other.attrs
    (computed,) = dask.compute(lazy, scheduler="sync")
    for key, one in blocks(computed).items():
        other = blocks(y)[key]
        assert one.dtype == other.dtype
        # Only now: Dask has cut coordinates too, and each comparison would compute them.
        assert one.coords.to_dataset().identical(other.coords.to_dataset())
    # Lazy weights make y lazy as well.
    assert_near(computed, dask.compute(y, scheduler="sync")[0])


def assert_untouched(case, y, before):
    """The data are what they were, and stay so when somebody writes into the result."""
    for one in blocks(y).values():
        if isinstance(one.data, np.ndarray):
            assert one.data.flags.writeable
            one.data[...] = 0
        one.attrs["long_name"] = "changed"
        for coord in one.coords.values():
            coord.attrs["long_name"] = "changed"
    for key, one in blocks(case.x).items():
        assert one.identical(blocks(before)[key])
        assert one.attrs == blocks(before)[key].attrs


# --- and some that need no luck ---------------------------------------------------------


def simple(A: xl.LinearOperator, d: xr.DataArray, dtype: Any = "float64") -> Any:
    """Data for A with the dims of a gather in their order."""
    own = [
        dim for side in (A.domain, A.range) for s in blocks(side).values() for dim in s.dims
    ]
    batch = tuple(dim for dim in d.dims if dim not in own)

    def member(space: xl.Space) -> xr.DataArray:
        array = template(d, space, batch)
        return filled(array.transpose(*d.dims, ..., missing_dims="ignore"), dtype, 1)

    return for_each(member, A.domain)


@functools.cache
def both_ways(entry: Any, sizes: tuple[int, int, int] = (7, 6, 5)) -> Any:
    """The operator and its adjoint, each with data on NumPy; made once for all tests."""
    d = gather(entry.time, sizes)
    A = entry.build(d)
    return [(B, simple(B, d)) for B in (A, A.H)]


@telling_operators
def test_dot_test(entry):
    A = entry.operator
    shots = xr.DataArray(np.zeros(2), dims="shot")
    assert xl.dottest(A, tol=1e-14)
    assert xl.dottest(A.H, like=shots.chunk(shot=1), tol=1e-14)
    if all(space.kind != "real" for space in blocks(A.domain).values()):
        assert xl.dottest(A, like=shots.astype(complex), tol=1e-14)
    else:
        assert xl.dottest(A, like=shots.astype("float32"), tol=1e-6)


@each_of([entry for entry in CATALOGUE if entry not in ADJOINTS])
def test_adjoint_gives_back_the_labels_of_the_domain(entry):
    """To the last bit, whatever rounding and editing the data have been through."""
    d, (A, x) = gather(entry.time), both_ways(entry)[0]
    back = A.H @ for_each(edited, A @ x)
    for key, space in blocks(A.domain).items():
        made = blocks(back)[key]
        for name, coord in space.coords.items():
            assert made.coords[name].variable.identical(coord.variable), name
            assert made.coords[name].dtype == coord.dtype
            if d[name].sizes == coord.sizes:
                assert d.coords[name].variable.identical(coord.variable), name


def edited(x: xr.DataArray) -> xr.DataArray:
    """The same data with rounded labels, other attributes, and no further coordinates."""
    x = x.drop_vars([name for name in x.coords if name not in x.dims])
    for dim in x.dims:
        if dim in x.coords and x.coords[dim].dtype.kind == "f" and x.sizes[dim] > 1:
            labels = np.nextafter(x.coords[dim].values, np.inf)
            x = x.assign_coords({dim: (dim, labels, {"long_name": "read from a file"})})
    return x


@every_operator
def test_knows_whether_it_is_linear_over_complex_numbers(entry):
    for A, x in both_ways(entry):
        real = any(space.kind == "real" for space in blocks(A.domain).values())
        x = for_each(lambda a: filled(a, "complex128", 2), x)
        if real:
            assert not A.clinear
            continue
        left = A @ for_each(lambda a: 1j * a, x)
        right = for_each(lambda a: 1j * a, A @ x)
        scale = max(np.max(np.abs(v)) for v in values(right))
        pairs = zip(values(left), values(right), strict=True)
        same = all(
            np.allclose(one, other, rtol=0, atol=1e-12 * scale) for one, other in pairs
        )
        assert A.clinear == same


@every_operator
def test_adjoint_of_adjoint_is_itself(entry):
    A = entry.operator
    assert A.H.H is A
    assert A.H is A.H
    assert A.H.domain is A.range
    assert A.H.range is A.domain
    assert A.H.clinear == A.clinear


@every_operator
def test_same_parameters_make_the_same_operator(entry):
    one, other = entry.operator, entry.build(gather(entry.time))
    assert one == other
    assert one.H == other.H
    assert hash(one) == hash(other)
    assert len({one, other, 2 * one, 2 * other}) == 2


@telling_operators
def test_pickles(entry):
    for A, x in both_ways(entry):
        A @ x  # whatever is cached by now travels too, or is left behind
        again = pickle.loads(pickle.dumps(A))
        assert again == A
        assert hash(again) == hash(A)
        assert repr(again) == repr(A)
        assert again.domain == A.domain
        assert again.range == A.range
        for one, other in zip(*(blocks(B @ x).values() for B in (A, again)), strict=True):
            assert one.identical(other)
            assert one.dtype == other.dtype


@every_operator
def test_units(entry):
    for A, x in both_ways(entry):
        if isinstance(A.domain, Blocks):  # blocks in one unit rarely add
            continue
        for key, made in blocks(A @ x).items():
            gain = A.units[key] if isinstance(A.range, Blocks) else A.units
            if gain is None:
                assert "units" not in made.attrs
            else:
                assert made.attrs["units"] == f"{unit('Pa') * gain:cf}"
        unlabeled = for_each(lambda a: a.drop_attrs(deep=False), x)
        assert all("units" not in made.attrs for made in blocks(A @ unlabeled).values())


def unit(text: str) -> Any:
    from cf_xarray.units import units

    return units.Unit(text)


@telling_operators
def test_integers_and_booleans(entry):
    """Selections keep them, all else computes in float64."""
    A = entry.operator
    kept = {"never": (), "forward": (A,), "always": (A, A.H)}[entry.integers]
    for B, floats in both_ways(entry):
        if isinstance(B.range, Blocks) or isinstance(B.domain, Blocks):
            continue
        for dtype in ("bool", "int8", "int64"):
            x = filled(floats, dtype, 1)
            y = B @ x
            if B in kept:
                assert y.dtype == x.dtype
            else:
                assert y.dtype in (np.float64, np.complex128)
            assert_near(y.astype(complex), (B @ x.astype(float)).astype(complex))
            if dtype == "int8":
                lazy = B @ x.chunk()
                assert lazy.dtype == y.dtype
                done = lazy.compute(scheduler="sync")
                assert_near(done.astype(complex), y.astype(complex))
                assert done.copy(data=y.values).identical(y)


@each_of(ELEMENTARY)
def test_complex_values_are_two_real_ones(entry):
    """Real and imaginary part each for itself, in the precision that came in."""
    for A, x in both_ways(entry):
        if not A.clinear:
            continue
        for real, pair in (("float32", "complex64"), ("float64", "complex128")):
            z = filled(x, pair, 5)
            expected = A @ z.real.astype(real) + 1j * (A @ z.imag.astype(real))
            for given in (z, z.chunk(2)):
                y = (A @ given).compute(scheduler="sync")
                assert y.dtype == expected.dtype == pair
                assert_near(y, expected.transpose(*y.dims))


@every_operator
def test_any_memory(entry):
    """Byte order, strides and read-only flags of the data make no difference."""
    for A, x in both_ways(entry):
        expected = A @ x
        for change in (strange, np.asfortranarray):
            y = A @ for_each(lambda a, change=change: a.copy(data=change(a.values)), x)
            assert_near(y, expected)
            for one, other in zip(values(y), values(expected), strict=True):
                assert one.dtype == other.dtype


def strange(values: np.ndarray) -> np.ndarray:
    """The same values with gaps between them, in foreign byte order, not to be changed."""
    foreign = values.astype(values.dtype.newbyteorder())
    result = np.repeat(foreign, 2, axis=-1)[..., ::2]
    result.flags.writeable = False
    return result


@each_of([entry for entry in ELEMENTARY if entry.tasks])
def test_tasks_per_chunk(entry):
    for A, x in both_ways(entry, sizes=(12, 12, 12)):
        x = x.chunk({dim: -(-size // 3) for dim, size in x.sizes.items()})
        y = A @ x
        tasks = y.data.__dask_graph__().keys() - x.data.__dask_graph__().keys()
        chunks = y.data.npartitions
        # The operator itself is one more node, and so is each of its arrays.
        assert len(tasks) <= entry.tasks * chunks + 2


@functools.cache
def matrices(entry: Any) -> Any:
    """The operator and its adjoint, each with its matrix."""
    A = entry.build(gather(entry.time, sizes=(5, 5, 5)))
    return [(B, dense(B)) for B in (A, A.H)]


@telling_operators
def test_matrix_of_adjoint_is_adjoint_matrix(entry):
    (_, matrix), (_, adjoint) = matrices(entry)
    assert matrix.shape == adjoint.T.shape
    scale = np.max(np.abs(matrix), initial=1e-300)
    np.testing.assert_allclose(adjoint, matrix.T, rtol=0, atol=1e-14 * scale)


@every_operator
def test_traits_hold(entry):
    for A, matrix in matrices(entry):
        if not A.traits:
            continue
        assert A.traits <= {"symmetric", "positive", "unitary", "explicit"}
        scale = np.max(np.abs(matrix), initial=1e-300)
        if "symmetric" in A.traits:
            np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-14 * scale)
        if "positive" in A.traits:
            assert np.linalg.eigvalsh(matrix)[0] >= -1e-14 * scale
        if "unitary" in A.traits:
            one = np.eye(len(matrix))
            np.testing.assert_allclose(matrix.T @ matrix, one, rtol=0, atol=1e-14)
            np.testing.assert_allclose(matrix @ matrix.T, one, rtol=0, atol=1e-14)


@every_operator
def test_what_keeps_constants(entry):
    for A in (entry.operator, entry.operator.H):
        if isinstance(A.domain, Blocks):
            continue
        made = blocks(A @ (3 * A.domain.ones()))
        for key, keeps in blocks(A.keeps_constants).items():
            if keeps:
                np.testing.assert_allclose(made[key].values, 3.0, rtol=1e-14)


def dense(A: xl.LinearOperator) -> np.ndarray:
    """The matrix of an operator over the real numbers.

    Where values are real or any, a sample is a row or column; where they are complex it
    is two, its real and its imaginary part.
    """
    domain, range_ = blocks(A.domain), blocks(A.range)
    parts = {key: 2 if s.kind == "complex" else 1 for key, s in domain.items()}
    size = sum(parts[key] * space.size for key, space in domain.items())
    columns, start = {}, 0
    for key, space in domain.items():
        unit = np.zeros((size, space.size), complex if parts[key] == 2 else float)
        for factor in (1.0, 1j)[: parts[key]]:
            unit[start : start + space.size] = factor * np.eye(space.size)
            start += space.size
        unit = unit.reshape(size, *space.sizes.values())
        columns[key] = xr.DataArray(unit, space.coords, ("unit", *space.dims))
    made, rows = blocks(A @ like(A.domain, columns)), []
    for key, space in range_.items():
        values = made[key].transpose("unit", *space.dims).values.reshape(size, -1)
        rows += [values.real, values.imag] if space.kind == "complex" else [values.real]
    return np.concatenate(rows, axis=1).T
