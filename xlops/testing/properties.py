"""All that holds for every operator, checked on one."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xlops.errors import AdjointError, DTypeError
from xlops.operator import LinearOperator
from xlops.space import Blocks, Space
from xlops.testing.adjoint import assert_linear, dottest
from xlops.testing.members import chunked, dtypes_of, filled, like_for, member
from xlops.windows.pieces import Array, arranged, placed
from xlops.windows.plan import Apply, nodes

__all__ = ["assert_operator"]


def assert_operator(
    A: LinearOperator,
    like: xr.DataArray | None = None,
    *,
    tol: float | None = None,
    tasks: int | None = None,
    seed: int = 0,
) -> None:
    """Check all that should hold for every operator, and for its adjoint.

    - the dot test and linearity, in single and double precision, real and complex;
    - results have the labels of their side, the adjoint those of the domain, even where
      the data have been rounded and lost other coordinates; dims stand where they should;
    - single precision stays single, and values are real where they are said to be;
    - Dask data give lazy results without anything being computed, with the values that
      NumPy data give, for any batch dims, orders of dims and chunks;
    - `explain` counts the tasks that there are;
    - what the operator says of itself is true: its traits, and that it keeps constants or
      integers;
    - inputs are left alone, and results are nobody else's memory;
    - the operator pickles, as the same operator with the same results.

    Parameters
    ----------
    A : LinearOperator
        The operator. Without an adjoint only its forward side is checked.
    like : DataArray, optional
        Gives the dims that may pass through, with their labels; two dims of its own
        making unless given.
    tol : float, optional
        Bound of differences, relative to the largest value: 1e-12, or 1e-5 in single
        precision, unless given.
    tasks : int, optional
        The most tasks per chunk of a result that Dask may need, where each dim of the
        operator comes in three chunks; any number unless given.
    seed : int
        The same seed tries the same data.

    Raises
    ------
    AssertionError
        Where something does not hold; says what, and for which data.
    DTypeError
        Where A is no operator.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> d = xr.DataArray(np.zeros((4, 12)), dims=("offset", "time"))
    >>> xl.testing.assert_operator(xl.FirstDerivative(d.time), tasks=3)
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"assert_operator checks an operator, got {type(A).__name__}")
    sides = [A]
    with contextlib.suppress(AdjointError):
        sides.append(A.H)
    batch = like_for([*_spaces(A.domain), *_spaces(A.range)], like)
    for B in sides:
        for number, dtype in enumerate(dtypes_of(B.domain)):
            rng = np.random.default_rng([seed, number])
            x = _members(B, batch, rng, dtype)
            with _about(B, x):
                assert_linear(B, _like(batch, dtype), tol=tol, seed=seed)
                _assert_member(B, x, tol, rng)
    if len(sides) == 2:
        _assert_adjoint(A, batch, tol, seed)
    for B in sides:
        _assert_true_of_itself(B, batch, tol, np.random.default_rng(seed))
    for B in sides:
        _assert_pickles(B, _members(B, batch, np.random.default_rng(seed), "float64"))
        _assert_few_tasks(B, batch, tasks, np.random.default_rng(seed))


def _assert_adjoint(
    A: LinearOperator, batch: xr.DataArray, tol: float | None, seed: int
) -> None:
    """The dot test for all dtypes, and the labels of the domain for edited data."""
    for dtype in dtypes_of(A.domain):
        dottest(A, _like(batch, dtype), tol=tol, seed=seed)
    for dtype in dtypes_of(A.range):
        dottest(A.H, _like(batch, dtype), tol=tol, seed=seed)
    if A.H.H is not A:
        raise AssertionError(f"{A}: the adjoint of its adjoint is another operator")
    y = _each(_edited, A @ _members(A, batch, np.random.default_rng(seed), "float64"))
    for made, space in zip(_arrays(A.H @ y), _spaces(A.domain), strict=True):
        _check_coords(A.H, made, dict(space.coords), "data with rounded labels")


def _assert_true_of_itself(
    B: LinearOperator, batch: xr.DataArray, tol: float | None, rng: np.random.Generator
) -> None:
    """Traits, by which products are simplified, and words on constants and integers."""
    for dtype in dtypes_of(B.domain)[::2]:
        x = _members(B, batch, rng, dtype)
        y = B @ x
        if "symmetric" in B.traits:
            _assert_equal(B.H @ x, y, tol, f"{B} says that it is symmetric: its adjoint")
        if "unitary" in B.traits:
            _assert_equal(B.H @ y, x, tol, f"{B} says that it is unitary: its inverse")
        if "positive" in B.traits:
            pairs = list(zip(_arrays(x), _arrays(y), strict=True))
            inner = sum(
                np.vdot(a.values, b.transpose(*a.dims).values).real for a, b in pairs
            )
            size = sum(
                np.sum(np.abs(a.values)) * np.max(np.abs(b.values)) for a, b in pairs
            )
            if inner < -_tolerance(pairs[0][0], tol) * size:
                raise AssertionError(
                    f"{B} says that it is positive: ⟨x, A x⟩ is {inner:.3g}"
                )
    ones = _each(xr.ones_like, _members(B, batch, rng, "float64"))
    made = zip(B.gains.rows, _arrays(B @ ones), strict=True)
    for array in [array for row, array in made if B.keeps(row)]:
        what = f"{B} says that it keeps constants: what it makes of ones"
        _assert_equal(array, xr.ones_like(array), tol, what)
    whole = _members(B, batch, rng, "int64")
    try:
        y = B @ whole
    except Exception as error:
        raise AssertionError(f"{B} fails for integers: {error}") from error
    exact = B @ _each(lambda a: a.astype(np.float64), whole)
    _assert_equal(y, exact, tol, f"what {B} makes of integers, {_arrays(y)[0].dtype},")


def _assert_equal(one: Any, other: Any, tol: float | None, what: str) -> None:
    """Raise where values differ, whatever the order of dims."""
    for a, b in zip(_arrays(one), _arrays(other), strict=True):
        values = b.transpose(*a.dims).values
        error = np.max(np.abs(a.values - values), initial=0.0)
        bound = _tolerance(b, tol) * np.max(np.abs(values), initial=0.0)
        if not error <= bound:
            raise AssertionError(f"{what} differs by {error:.3g}, allowed is {bound:.3g}")


def _assert_member(
    B: LinearOperator, x: Any, tol: float | None, rng: np.random.Generator
) -> None:
    """What can be seen on one member of the domain."""
    before = copy.deepcopy(x)
    y = B @ x
    _check_result(B, x, y)
    for _ in range(3):
        _check_on_dask(B, x, y, tol, rng)
    for made in _arrays(y):
        if not made.chunks and made.size:
            made.data[...] = 0
        made.attrs.clear()
    for one, other in zip(_arrays(x), _arrays(before), strict=True):
        if not one.identical(other):
            raise AssertionError(f"{B} changes its input, or gives it back as its result")


def _check_result(B: LinearOperator, x: Any, y: Any) -> None:
    """Dims in their order, labels, name and attributes, dtype."""
    given = _arrays(x)
    passing = [dim for dim in given[0].dims if dim not in _spaces(B.domain)[0]]
    batch = {
        name: coord
        for name, coord in given[0].coords.items()
        if set(coord.dims) <= set(passing)
    }
    single = given[0].dtype.itemsize == (8 if given[0].dtype.kind == "c" else 4)
    for made, space in zip(_arrays(y), _spaces(B.range), strict=True):
        _check_coords(B, made, {**batch, **space.coords}, "its result")
        if set(made.dims) != {*space.dims, *passing}:
            raise AssertionError(
                f"{B} gives dims {made.dims}, expected {(*space.dims, *passing)}"
            )
        if isinstance(B.domain, Space):
            dims = placed(given[0].dims, B.domain.sizes, space.sizes)
            if made.dims != (dims := arranged(dims, B.layouts[0])):
                raise AssertionError(f"{B} gives dims {made.dims}, expected {dims}")
        if made.name != given[0].name:
            raise AssertionError(f"{B} loses the name of its input")
        kind, wanted = made.dtype.kind, "f" if space.kind == "real" else "fc"
        if kind not in wanted or (made.dtype.name in ("float32", "complex64")) != single:
            raise AssertionError(
                f"{B} makes {made.dtype} of {given[0].dtype}; precision should stay, and "
                f"its values are {space.kind}"
            )


def _check_coords(
    B: LinearOperator, made: xr.DataArray, coords: Mapping[Any, Any], what: str
) -> None:
    for name, coord in coords.items():
        if name not in made.coords:
            raise AssertionError(f"{B} loses the label {str(name)!r} ({what})")
        back = made.coords[name]
        same = back.dtype == coord.dtype and back.variable.identical(coord.variable)
        if not same:
            raise AssertionError(f"{B} changes the label {str(name)!r} ({what})")


def _check_on_dask(
    B: LinearOperator, x: Any, y: Any, tol: float | None, rng: np.random.Generator
) -> None:
    """Lazy data in random chunks: nothing is computed, then the same comes out."""
    from dask.base import compute

    sizes = dict.fromkeys(item for one in _arrays(x) for item in one.sizes.items())
    chunks = {item: _cut(item[1], rng) for item in sizes}
    lazy = _each(lambda a: chunked(a, {d: chunks[d, n] for d, n in a.sizes.items()}), x)
    where = f"in chunks {list(chunks.values())}"
    result = _without_computing(B, lambda: B @ lazy, where)
    for one, other in zip(_arrays(result), _arrays(y), strict=True):
        if one.dims and one.chunks is None:
            raise AssertionError(f"{B} is not lazy: a NumPy array of Dask data {where}")
        described = one.dims == other.dims and one.dtype == other.dtype
        described &= one.attrs == other.attrs
        if not (described and one.coords.to_dataset().identical(other.coords.to_dataset())):
            raise AssertionError(f"{B} gives other labels or another dtype {where}")
    (computed,) = compute(result, scheduler="sync")
    for one, other in zip(_arrays(computed), _arrays(y), strict=True):
        error = np.max(np.abs(one.values - other.values), initial=0.0)
        bound = _tolerance(other, tol) * np.max(np.abs(other.values), initial=0.0)
        if one.dtype != other.dtype or not error <= bound:
            raise AssertionError(
                f"{B} gives other values {where} than on NumPy: they differ by "
                f"{error:.3g}, allowed is {bound:.3g}; {one.dtype} and {other.dtype}"
            )


def _assert_few_tasks(
    B: LinearOperator, batch: xr.DataArray, most: int | None, rng: np.random.Generator
) -> None:
    """As many tasks as `explain` says, and not more per chunk than allowed."""
    from dask.task_spec import Task

    x = _members(B, batch, rng, "float64")
    lazy = _each(lambda a: a.copy(data=a.variable.chunk(_thirds(a.sizes)).data), x)
    plan, arrays, _ = _without_computing(B, lambda: B._prepared(lazy), "in thirds")
    made = _without_computing(B, lambda: B._run(_tree(lazy, arrays), False), "in thirds")
    ends = list(plan.values()) if isinstance(plan, dict) else [plan]
    weights = [
        weight
        for end in ends
        for node in nodes(end)
        if isinstance(node, Apply)
        for weight in node.step.weights
    ]
    known: set[Any] = set()
    for array in (*arrays.values(), *weights):
        known.update(getattr(array.data, "dask", ()))
    results: list[Array] = list(made.values()) if isinstance(made, dict) else [made]
    graph: dict[Any, Any] = {}
    for array in results:
        graph.update(array.data.dask)
    count = sum(isinstance(t, Task) for key, t in graph.items() if key not in known)
    told = _without_computing(B, lambda: B.explain(lazy), "in thirds").tasks
    if not weights and told != count:
        raise AssertionError(
            f"{B} explains {told} tasks, but there are {count}, for {_described(lazy)}"
        )
    chunks = sum(int(array.data.npartitions) for array in results)
    if most is not None and count > most * chunks:
        raise AssertionError(
            f"{B} takes {count} tasks for {chunks} chunks, allowed are {most} for each"
        )


def _tree(lazy: Any, arrays: Mapping[Any, Array]) -> Any:
    """The plain arrays of a member, as operators run on them."""
    plain = list(arrays.values())
    return dict(zip(lazy, plain, strict=True)) if isinstance(lazy, dict) else plain[0]


def _assert_pickles(B: LinearOperator, x: Any) -> None:
    """The same operator comes back, used or not."""
    y = B @ x
    try:
        again = pickle.loads(pickle.dumps(B))
    except Exception as error:
        raise AssertionError(
            f"{B} does not pickle ({error}); kernels must be functions of a module, or "
            "functools.partial of them"
        ) from error
    if again != B or again.token != B.token or hash(again) != hash(B):
        raise AssertionError(f"{B} is another operator after pickling; its token changes")
    for one, other in zip(_arrays(again @ x), _arrays(y), strict=True):
        if not one.identical(other):
            raise AssertionError(f"{B} gives another result after pickling")


# --- data and words ---------------------------------------------------------------------


def _spaces(side: Space | Blocks) -> list[Space]:
    return list(side.values()) if isinstance(side, Blocks) else [side]


def _arrays(x: Any) -> list[xr.DataArray]:
    return list(x.values()) if isinstance(x, dict) else [x]


def _each(function: Callable[[Any], Any], x: Any) -> Any:
    if isinstance(x, dict):
        return {name: function(array) for name, array in x.items()}
    return function(x)


def _members(
    B: LinearOperator, batch: xr.DataArray, rng: np.random.Generator, dtype: str
) -> Any:
    """A member of the domain, with random dims that pass through, in random order."""
    count = rng.integers(0, len(batch.dims) + 1)
    passing: list[Hashable] = [batch.dims[i] for i in rng.permutation(len(batch.dims))]

    def one(space: Space) -> xr.DataArray:
        x = member(space, batch, passing[:count])
        turned = x.transpose(*(x.dims[i] for i in rng.permutation(x.ndim)))
        return filled(turned, dtype, int(rng.integers(2**16)))

    if isinstance(B.domain, Blocks):
        return {name: one(space) for name, space in B.domain.items()}
    return one(B.domain)


def _like(batch: xr.DataArray, dtype: str) -> xr.DataArray:
    return batch.copy(data=np.zeros(batch.shape, dtype))


def _edited(x: xr.DataArray) -> xr.DataArray:
    """The same data with rounded labels, other attributes and no further coordinates."""
    x = x.drop_vars([name for name in x.coords if name not in x.dims])
    for dim in x.dims:
        if dim in x.coords and x.coords[dim].dtype.kind == "f" and x.sizes[dim] > 1:
            labels = np.nextafter(x.coords[dim].values, np.inf)
            x = x.assign_coords({dim: (dim, labels, {"long_name": "rounded"})})
    return x


def _cut(size: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Random chunks of a dim; often one, or one for each sample."""
    form = rng.integers(4)
    if form < 2 or size == 1:
        return (size,) if form else (1,) * size
    at = np.unique(rng.integers(1, size, 3))
    return tuple(int(n) for n in np.diff([0, *at, size]))


def _thirds(sizes: Mapping[Any, int]) -> dict[Any, int]:
    return {dim: -(-size // 3) for dim, size in sizes.items()}


def _tolerance(x: xr.DataArray, tol: float | None) -> float:
    if tol is not None:
        return tol
    return 1e-5 if x.dtype.name in ("float32", "complex64") else 1e-12


def _described(x: Any) -> str:
    return "; ".join(f"{a.dtype} over {dict(a.sizes)}" for a in _arrays(x))


@contextlib.contextmanager
def _about(B: LinearOperator, x: Any) -> Iterator[None]:
    """Failures say for which data."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}; for {_described(x)}") from error


class _ComputedError(Exception):
    """Something was computed."""


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise _ComputedError


def _without_computing(B: LinearOperator, call: Callable[[], Any], where: str) -> Any:
    import dask

    try:
        with dask.config.set(scheduler=_refuse):
            return call()
    except _ComputedError as error:
        raise AssertionError(
            f"{B} is not lazy: it computes something while its graph is built, {where}"
        ) from error
