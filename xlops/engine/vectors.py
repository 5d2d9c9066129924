"""Vectors: the arithmetic of solvers, on arrays and named blocks of arrays."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from xlops.engine import threads
from xlops.engine.lazy import chunkwise, in_chunks, is_lazy
from xlops.windows.pieces import Array, NDArray, floating, of_kind

__all__ = ["Tree"]

Tree: TypeAlias = Array | dict[str, Array]

# Shorter vectors are not worth a thread.
SMALL_BYTES = 2**19
# Numbers that one task adds up.
ADDED_AT_ONCE = 64


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
    if not is_lazy(x.data):
        return Array(_scale(x.data, a), x.dims)
    scalar = np.dtype(getattr(a, "dtype", type(a)))
    dtype = _with_scalar(x.data.dtype, scalar)
    return Array(chunkwise(_scale, [x.data], a, dtype=dtype), x.dims)


def axpy(a: Any, x: Tree, y: Tree, into: Tree | None = None) -> Tree:
    """``y + a x`` in the precision of y; `a` may be a lazy number.

    `into` is y or x where its memory may be used for the result; Dask never does.
    """
    return axpy_norm(a, x, y, into)[0]


def axpy_norm(a: Any, x: Tree, y: Tree, into: Tree | None = None) -> tuple[Tree, Any]:
    """``y + a x`` and its squared norm, on NumPy in one pass; `into` as for `axpy`."""
    if any(is_lazy(v.data) for v in (*leaves(x), *leaves(y))) or is_lazy(a):
        result = paired(lambda v, u: _lazy_axpy(a, u.ordered(v.dims), v), y, x)
        return result, dot(result, result)
    norms: list[float] = []
    targets = iter([None] * len(leaves(y)) if into is None else leaves(into))

    def one(v: Array, u: Array) -> Array:
        u, target = u.ordered(v.dims), next(targets)
        out = np.empty_like(v.data) if target is None else target.ordered(v.dims).data
        norms.append(_axpy(a, u.data, v.data, out))
        return Array(out, v.dims)

    result = paired(one, y, x)
    return result, sum(norms)


def _lazy_axpy(a: Any, x: Array, y: Array) -> Array:
    pair = [y.data, x.data]
    if not any(map(is_lazy, pair)):  # blocks of a vector may be of both kinds
        pair = [in_chunks(data, tuple((n,) for n in data.shape)) for data in pair]
    return Array(chunkwise(_new_axpy, pair, a, dtype=y.data.dtype), y.dims)


def copied(tree: Tree) -> Tree:
    """A vector in memory of its own; what is lazy stays as it is."""
    return transform(lambda x: x if is_lazy(x.data) else Array(x.data.copy(), x.dims), tree)


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


def _new_axpy(y: NDArray, x: NDArray, a: Any) -> NDArray:
    y, x = np.asarray(y), np.asarray(x)
    out = np.empty_like(y)
    _axpy(np.asarray(a).item(), x, y, out, threaded=False)
    return out


def _axpy(a: complex, x: NDArray, y: NDArray, out: NDArray, threaded: bool = True) -> float:
    """Fill out with y + a x; its squared norm."""
    from xlops.kernels import vectors

    if not (x.dtype == y.dtype == out.dtype and _is_flat(x, y, out)):
        np.add(y, _scale(x, a), out=out, casting="same_kind")
        return _real_dot(out, out, threaded)
    return _in_blocks(functools.partial(vectors.axpy, a), (x, y, out), threaded=threaded)


def _is_flat(*arrays: NDArray) -> bool:
    return all(a.flags.c_contiguous and a.dtype.kind in "fc" for a in arrays)


def _in_blocks(
    function: Callable[..., float], arrays: Sequence[NDArray], threaded: bool
) -> float:
    """The sum of what a function of blocks of flat arrays gives, on threads."""
    flat = [array.reshape(-1) for array in arrays]
    workers = threads.count() if threaded and arrays[0].nbytes > SMALL_BYTES else 1
    if workers == 1:
        return function(*flat)
    size = -(-flat[0].size // workers)
    blocks = [[a[i : i + size] for a in flat] for i in range(0, flat[0].size, size)]
    parts = [0.0] * len(blocks)

    def work(left: Iterator[tuple[int, list[NDArray]]]) -> None:
        for i, block in left:
            parts[i] = function(*block)

    threads.shared(work, enumerate(blocks), workers)
    return sum(parts)


def _with_scalar(dtype: np.dtype[Any], scalar: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of an array times a number: a number may make it complex, not wider."""
    return of_kind(floating(dtype), "complex" if scalar.kind == "c" else "any")


def dot(x: Tree, y: Tree) -> Any:
    """Re⟨x, y⟩ over all blocks; a lazy number where one of them is lazy."""
    second = paired(lambda a, b: b.ordered(a.dims), x, y)
    pairs = list(zip(leaves(x), leaves(second), strict=True))
    lazy = [(a.data, b.data) for a, b in pairs if is_lazy(a.data) or is_lazy(b.data)]
    here = [(a.data, b.data) for a, b in pairs if not (is_lazy(a.data) or is_lazy(b.data))]
    known = float(sum(_real_dot(a, b) for a, b in here))
    if not lazy:
        return known
    return _lazy_dot(lazy) + known if here else _lazy_dot(lazy)


def _lazy_dot(pairs: Sequence[tuple[Any, Any]]) -> Any:
    """One task per chunk, and a tree of sums."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import List, Task, TaskRef
    from dask.tokenize import tokenize

    # Blocks that are chunked alike are summed up together.
    alike: dict[Any, list[Any]] = {}
    for a, b in pairs:
        chunks = a.chunks if is_lazy(a) else b.chunks
        both = [in_chunks(a, chunks), in_chunks(b, chunks)]
        alike.setdefault(chunks, []).extend(both)
    sources = [array for arrays in alike.values() for array in arrays]
    name = f"dot-{tokenize([array.name for array in sources])}"
    tasks: dict[Any, Any] = {}
    parts: list[Any] = []
    for number, arrays in enumerate(alike.values()):
        for index in itertools.product(*map(range, arrays[0].numblocks)):
            key = (f"{name}-part", number, *index)
            pieces = (TaskRef((array.name, *index)) for array in arrays)
            tasks[key] = Task(key, _partial_dot, *pieces)
            parts.append(key)
    level = 0
    while len(parts) > ADDED_AT_ONCE:
        level += 1
        groups = [parts[i : i + ADDED_AT_ONCE] for i in range(0, len(parts), ADDED_AT_ONCE)]
        parts = [(f"{name}-sum", level, i) for i in range(len(groups))]
        for key, group in zip(parts, groups, strict=True):
            tasks[key] = Task(key, sum, List(*map(TaskRef, group)))
    tasks[(name,)] = Task((name,), _summed, List(*map(TaskRef, parts)))
    graph = HighLevelGraph.from_collections(name, tasks, sources)
    return da.Array(graph, name, (), dtype=np.float64)


def _partial_dot(*arrays: NDArray) -> float:
    """Σ Re⟨x, y⟩ of arrays that come as x, y, x, y, and so on."""
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return sum(_real_dot(np.asarray(x), np.asarray(y), threaded=False) for x, y in pairs)


def _summed(parts: Sequence[float]) -> Any:
    return np.float64(sum(parts))


def _real_dot(x: NDArray, y: NDArray, threaded: bool = True) -> float:
    """Re⟨x, y⟩ in double precision: squares of single precision soon leave its range."""
    from xlops.kernels import vectors

    dtype = np.result_type(floating(x.dtype), floating(y.dtype))
    x, y = (np.ascontiguousarray(a, dtype=dtype) for a in (x, y))
    return _in_blocks(vectors.dot, (x, y), threaded)


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


def is_known(value: Any) -> bool:
    """Whether a number is there, and not only described."""
    return not is_lazy(value)


def ratio(a: Any, b: Any) -> Any:
    """``a / b`` of numbers, lazy where one is; NaN where b is 0."""
    if is_lazy(a) or is_lazy(b):
        return (
            chunkwise(_ratio, [a], b, dtype=np.float64)
            if is_lazy(a)
            else (chunkwise(_inverse_ratio, [b], a, dtype=np.float64))
        )
    return float(_ratio(a, b))


def _inverse_ratio(b: Any, a: Any) -> Any:
    return _ratio(a, b)


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
        for data in ([a.data for a in leaves(value)] if is_tree(value) else [value])
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
        if is_tree(value):
            return transform(lambda a: Array(done.get(id(a.data), a.data), a.dims), value)
        return floats.get(id(value), value)

    return tuple(finished(value) for value in values)


def is_tree(value: Any) -> bool:
    """Whether a value is a vector, and not a number."""
    return isinstance(value, (Array, dict))
