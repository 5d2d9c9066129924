"""What holds for every operator of the catalogue, whatever the data look like."""

import copy
import dataclasses
import pickle
from typing import Any

import dask
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import CATALOGUE, ELEMENTARY, gather
from xlops.space import Blocks

SETTINGS = hypothesis.settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)

every_operator = pytest.mark.parametrize("entry", CATALOGUE, ids=str)

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


def filled(template: xr.DataArray, dtype: Any, seed: int) -> xr.DataArray:
    """Random values with the labels of a template, in no precision but that of `dtype`."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    values = 4 * rng.standard_normal(template.shape)
    if dtype.kind == "c":
        values = values + 4j * rng.standard_normal(template.shape)
    if dtype.kind == "u":
        values = np.abs(values)
    values = values > 0 if dtype.kind == "b" else values.astype(dtype)
    return template.copy(data=values)


def template(d: xr.DataArray, space: xl.Space, batch: tuple[str, ...]) -> xr.DataArray:
    """An array over a space, with the labels that the gather d has along other dims."""
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


def cut(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Chunks of a dim: one; one for each sample; or some of any size."""
    some = st.sets(st.integers(1, max(size - 1, 1)), max_size=3).map(
        lambda at: tuple(np.diff([0, *sorted(at - {size}), size]).tolist())
    )
    return st.one_of(some, st.just((1,) * size), st.just((size,)))


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
    return Case(A, x, {(dim, size): draw(cut(size)) for dim, size in sizes})


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


@every_operator
def test_properties(entry):
    @SETTINGS
    @hypothesis.given(cases(entry))
    def check(case):
        before = copy.deepcopy(case.x)
        y = case.A @ case.x
        assert_labeled(case.A, case.x, y)
        assert_dtypes(case.A, case.x, y)
        assert_adjoint(case, y)
        assert_linear(case, y)
        assert_same_on_dask(case, y)
        assert_untouched(case, y, before)

    check()


def assert_labeled(A, x, y):
    """Dims in their order, and the labels of the range, the batch and the scalars."""
    assert isinstance(y, dict) == isinstance(A.range, Blocks)
    given = next(iter(blocks(x).values()))
    passing = [
        dim for dim in given.dims if dim not in next(iter(blocks(A.domain).values()))
    ]
    for key, space in blocks(A.range).items():
        made = blocks(y)[key]
        if not isinstance(A.domain, Blocks):
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
        if space.kind != "any":
            assert (v.dtype.kind == "c") == (space.kind == "complex")
        elif is_complex and "real" not in {s.kind for s in blocks(A.domain).values()}:
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
        assert one.data.dtype == one.data[(slice(0, 1),) * one.ndim].compute().dtype
        assert one.attrs == other.attrs
        assert one.coords.to_dataset().identical(other.coords.to_dataset())
    assert_near(
        for_each(lambda a: a.compute(scheduler="sync"), lazy),
        for_each(lambda a: a.compute(scheduler="sync"), y),
    )


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
