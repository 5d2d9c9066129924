"""Vectors: the arithmetic of solvers, on arrays and named blocks of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from xlops.engine.lazy import is_lazy
from xlops.windows.pieces import Array, NDArray, floating, of_kind

__all__ = ["Tree"]

Tree: TypeAlias = Array | dict[str, Array]


def transform(function: Callable[[Array], Array], tree: Tree) -> Tree:
    """A function of every array of a vector, which is one array or named blocks."""
    if isinstance(tree, dict):
        return {name: function(array) for name, array in tree.items()}
    return function(tree)


def leaves(tree: Tree) -> list[Array]:
    """The arrays of a vector."""
    return list(tree.values()) if isinstance(tree, dict) else [tree]


def paired(function: Callable[[Array, Array], Array], first: Tree, second: Tree) -> Tree:
    """A function of the arrays of two vectors, block by block; dims as in `first`."""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return {name: function(a, second[name]) for name, a in first.items()}
    assert not isinstance(second, dict)
    return function(first, second)


def scaled(a: Any, x: Array) -> Array:
    """``a * x`` in the precision of x."""
    scalar = np.dtype(getattr(a, "dtype", type(a)))
    return _elementwise(_scale, x, a, dtype=_with_scalar(x.data.dtype, scalar))


def axpy(a: Any, x: Tree, y: Tree) -> Tree:
    """``y + a * x`` in the precision of y; `a` may be a lazy number."""
    return paired(lambda v, u: _elementwise(_axpy, v, a, u), y, x)


def total(parts: Iterable[Array]) -> Array:
    """The sum of arrays, complex if one of them is; dims as in the first.

    On NumPy each part is added as it comes, so that they are not held all at once.
    """
    rest = iter(parts)
    running, owned = next(rest), False
    others: list[Array] = []
    for part in rest:
        if is_lazy(running.data) or is_lazy(part.data):
            others.append(part)
            continue
        running, owned = _added(running, part.ordered(running.dims), owned), True
    if not others:
        return running
    dtype = np.result_type(*(floating(p.data.dtype) for p in (running, *others)))
    return _elementwise(_total, running, *others, dtype=dtype)


def _added(x: Array, y: Array, into: bool) -> Array:
    dtype = np.result_type(floating(x.data.dtype), floating(y.data.dtype))
    out = x.data if into and x.data.dtype == dtype else None
    return Array(np.add(x.data, y.data, out=out, dtype=dtype), x.dims)


def _total(*parts: NDArray) -> NDArray:
    dtype = np.result_type(*(floating(part.dtype) for part in parts))
    result = np.add(parts[0], parts[1], dtype=dtype)
    for part in parts[2:]:
        result += part
    return np.asarray(result)


def times(a: Any, x: Tree) -> Tree:
    """``a * x`` of a vector."""
    return transform(lambda v: scaled(a, v), x)


def minus(x: Tree, y: Tree) -> Tree:
    """``x - y``."""
    return axpy(-1.0, y, x)


def real(x: Array) -> Array:
    """The real part."""
    return Array(x.data.real, x.dims) if x.data.dtype.kind == "c" else x


def _scale(x: NDArray, a: Any) -> NDArray:
    a = np.asarray(a)
    return np.asarray(x * a.astype(_with_scalar(x.dtype, a.dtype), copy=False))


def _axpy(y: NDArray, a: Any, x: NDArray) -> NDArray:
    result = _scale(x, a)
    if result.dtype == y.dtype:
        return np.add(result, y, out=result)
    return np.asarray(y + result).astype(y.dtype, copy=False, casting="same_kind")


def _with_scalar(dtype: np.dtype[Any], scalar: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of an array times a number: a number may make it complex, not wider."""
    return of_kind(floating(dtype), "complex" if scalar.kind == "c" else "any")


def _elementwise(
    function: Callable[..., NDArray], x: Array, *others: Any, dtype: Any = None
) -> Array:
    """A function of blocks of x and of what goes with it: arrays or numbers."""
    aligned = [o.ordered(x.dims).data if isinstance(o, Array) else o for o in others]
    if not any(is_lazy(o) for o in (x.data, *aligned)):
        return Array(function(x.data, *aligned), x.dims)
    import dask.array as da

    index = tuple(range(x.data.ndim))
    arguments: list[Any] = []
    for value in (x.data, *aligned):
        if np.ndim(value) == len(index) and index:
            arguments += [value, index]
        else:
            arguments += [value, _scalar(value)]
    if dtype is None:
        dtype = x.data.dtype
    meta = np.empty((0,) * len(index), dtype)
    result = da.blockwise(function, index, *arguments, dtype=dtype, meta=meta)
    return Array(result, x.dims)


def dot(x: Tree, y: Tree) -> Any:
    """Re⟨x, y⟩ over all blocks; a lazy number where one of them is lazy."""
    second = paired(lambda a, b: b.ordered(a.dims), x, y)
    pairs = list(zip(leaves(x), leaves(second), strict=True))
    if not any(is_lazy(array.data) for pair in pairs for array in pair):
        return float(sum(_partial_dot(a.data, b.data).item() for a, b in pairs))
    # Blocks that are chunked alike are summed up in one pass.
    alike: dict[Any, list[Any]] = {}
    for a, b in pairs:
        chunks = a.data.chunks if is_lazy(a.data) else a.data.shape
        alike.setdefault(chunks, []).extend([a.data, b.data])
    return sum(_lazy_dot(arrays) for arrays in alike.values())


def _lazy_dot(arrays: Sequence[Any]) -> Any:
    import dask.array as da

    index = tuple(range(arrays[0].ndim))
    partial = da.blockwise(
        _partial_dot,
        index,
        *(argument for array in arrays for argument in (array, index)),
        dtype=np.float64,
        adjust_chunks=dict.fromkeys(index, 1),
        meta=np.empty((0,) * len(index), np.float64),
    )
    return partial.sum(split_every=64)


def _partial_dot(*arrays: NDArray) -> NDArray:
    """Σ Re⟨x, y⟩ of arrays x, y, x, y, …, as an array of one element."""
    value = sum(_real_dot(x, y) for x, y in zip(arrays[::2], arrays[1::2], strict=True))
    return np.full((1,) * arrays[0].ndim, value, dtype=np.float64)


def _real_dot(x: NDArray, y: NDArray) -> float:
    """Re⟨x, y⟩ in double precision: squares of single precision soon leave its range."""
    if x.dtype != y.dtype:
        dtype = np.result_type(x, y)
        x, y = x.astype(dtype), y.astype(dtype)
    # Real and imaginary parts side by side: the real part of the product is their dot.
    x, y = (np.ascontiguousarray(a).ravel().view(a.real.dtype) for a in (x, y))
    if x.dtype == np.float64:
        return float(np.dot(x, y))
    pieces = (slice(i, i + 65536) for i in range(0, x.size, 65536))
    return float(
        sum(np.dot(x[p].astype(np.float64), y[p].astype(np.float64)) for p in pieces)
    )


def shares_memory(array: Array, tree: Tree) -> bool:
    """Whether a NumPy array and a vector use the same memory."""
    if not isinstance(array.data, np.ndarray):
        return False
    others = (other.data for other in leaves(tree))
    return any(
        isinstance(data, np.ndarray) and np.may_share_memory(array.data, data)
        for data in others
    )


def zeros_like(tree: Tree) -> Tree:
    """A vector of zeros of the same kind."""

    def zeros(x: Array) -> Array:
        if is_lazy(x.data):
            import dask.array as da

            return Array(da.zeros_like(x.data), x.dims)
        return Array(np.zeros(x.data.shape, x.data.dtype), x.dims)

    return transform(zeros, tree)


def alike(tree: Tree, like: Tree) -> Tree:
    """A vector with the dims order, dtype and chunks of another."""

    def adapt(model: Array, x: Array) -> Array:
        data = x.ordered(model.dims).data
        dtype = _with_scalar(model.data.dtype, data.dtype)
        data = data.astype(dtype, copy=False)
        if is_lazy(model.data):
            import dask.array as da

            if not is_lazy(data):
                data = da.from_array(data, chunks=model.data.chunks)
            elif data.chunks != model.data.chunks:
                data = data.rechunk(model.data.chunks)
        return Array(data, model.dims)

    return paired(adapt, like, tree)


def ratio(a: Any, b: Any) -> Any:
    """``a / b`` of numbers, lazy where one is; NaN where b is 0."""
    if is_lazy(a) or is_lazy(b):
        import dask.array as da

        return da.blockwise(
            _ratio,
            (),
            a,
            _scalar(a),
            b,
            _scalar(b),
            dtype=np.float64,
            meta=np.float64(0),
        )
    return float(_ratio(a, b))


def _scalar(value: Any) -> tuple[()] | None:
    return () if is_lazy(value) else None


def _ratio(a: Any, b: Any) -> Any:
    return np.float64(a) / np.float64(b) if b else np.float64(np.nan)


def count_nan(tree: Tree) -> Any:
    """Number of NaN in a vector; a lazy number where it is lazy."""
    total: Any = 0
    for x in leaves(tree):
        if x.data.dtype.kind not in "fc":
            continue
        if is_lazy(x.data):
            total = total + x.data.map_blocks(np.isnan, dtype=bool).sum()
        else:
            total = total + int(np.count_nonzero(np.isnan(x.data)))
    return total


def persist(*values: Any) -> tuple[Any, ...]:
    """Compute what is lazy, all in one submission, and keep it where it was computed.

    Vectors come back as vectors, numbers as floats.
    """
    arrays = [
        data
        for value in values
        for data in ([a.data for a in leaves(value)] if _is_tree(value) else [value])
    ]
    lazy = [data for data in arrays if is_lazy(data)]
    if not lazy:
        return values
    from dask.base import compute
    from dask.base import persist as persisted

    done = dict(zip(map(id, lazy), persisted(*lazy), strict=True))
    numbers = [value for value in values if is_lazy(value)]
    fetched = compute(*(done[id(number)] for number in numbers))
    floats = {id(n): float(f) for n, f in zip(numbers, fetched, strict=True)}

    def finished(value: Any) -> Any:
        if _is_tree(value):
            return transform(lambda a: Array(done.get(id(a.data), a.data), a.dims), value)
        return floats.get(id(value), value)

    return tuple(finished(value) for value in values)


def _is_tree(value: Any) -> bool:
    return isinstance(value, (Array, dict))
