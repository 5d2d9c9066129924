"""Vectors: the arithmetic of solvers, on arrays and named blocks of arrays."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xlops.engine import threads
from xlops.engine.lazy import chunkwise, in_chunks, is_lazy
from xlops.engine.loss import check_connected, client_of, gathered
from xlops.engine.placement import Homes
from xlops.engine.together import Both, is_on_board, on_board, rides
from xlops.windows.pieces import Array, NDArray, floating, of_kind

__all__ = ["Tree"]

Tree: TypeAlias = Array | dict[str, Array]


class Product(NamedTuple):
    """A scalar product Re⟨x, y⟩ that is still to be made: by `dots`, with others."""

    x: Tree
    y: Tree


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


def _data(*trees: Tree) -> list[Any]:
    return [array.data for tree in trees for array in leaves(tree)]


def paired(function: Callable[..., Array], first: Tree, *others: Tree) -> Tree:
    """A function of the arrays of several vectors, block by block."""
    if isinstance(first, dict):
        blocks = [other for other in others if isinstance(other, dict)]
        assert len(blocks) == len(others)
        return {n: function(a, *(other[n] for other in blocks)) for n, a in first.items()}
    return function(first, *others)


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
    """``y + a x`` and its squared norm, for `dots`; `into` as for `axpy`.

    On NumPy both come out of one pass, and the norm is a number.
    """
    if _lazy(a, *_data(x, y)):
        result = paired(lambda v, u: _lazy_axpy(a, u.ordered(v.dims), v), y, x)
        return result, Product(result, result)
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


def advance(x: Tree, p: Tree, z: Tree, a: Any, b: Any) -> tuple[Tree, Tree]:
    """``x + a p`` and ``z + b p``, reading p once; `a` and `b` may be lazy numbers.

    On NumPy results are in the memory of x and p. On Dask one task per chunk makes both:
    the first one travels with the second, and is taken out of it where it is asked for.
    """
    if _lazy(a, b, *_data(x, p, z)):
        second = paired(functools.partial(_lazy_advance, a, b), x, p, z)
        return paired(_on_board, second, x), second
    for group in zip(leaves(x), leaves(p), leaves(z), strict=True):
        dims, arrays = group[0].dims, [array.data for array in group]
        if any(array.dims != dims for array in group) or not _are_flat(*arrays):
            return axpy(a, p, x, into=x), axpy(b, p, z, into=p)
    for group in zip(leaves(x), leaves(p), leaves(z), strict=True):
        _advance(a, b, *(array.data for array in group))
    return x, p


def _lazy_advance(a: Any, b: Any, x: Array, p: Array, z: Array) -> Array:
    given = [z.data, p.ordered(z.dims).data, x.ordered(z.dims).data]
    if rides(given[2], given[1]) and getattr(z.data, "chunks", None) == given[1].chunks:
        del given[2]
    if not any(map(is_lazy, given)):
        given = [in_chunks(data, tuple((n,) for n in data.shape)) for data in given]
    return Array(chunkwise(_new_advance, given, a, b, dtype=z.data.dtype), z.dims)


def _on_board(carrier: Array, x: Array) -> Array:
    return Array(on_board(carrier.data, x.data.dtype), carrier.dims)


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


def _new_advance(z: NDArray, p: NDArray | Both, *others: Any) -> Both:
    """One chunk of both results; x comes third unless p has it on board."""
    *first, a, b = others
    x = first[0] if first else p.passenger  # type: ignore[union-attr]
    x, p, z = np.asarray(x), np.asarray(p), np.asarray(z)
    a, b = np.asarray(a).item(), np.asarray(b).item()
    if not _are_flat(x, p, z):
        return Both(_new_axpy(z, p, b), _new_axpy(x, p, a))
    out = np.empty_like(x), np.empty_like(z)
    _advance(a, b, x, p, z, out, threaded=False)
    return Both(out[1], out[0])


def _advance(
    a: float,
    b: float,
    x: NDArray,
    p: NDArray,
    z: NDArray,
    out: tuple[NDArray, ...] = (),
    threaded: bool = True,
) -> None:
    from xlops.kernels import vectors

    _in_blocks(functools.partial(vectors.advance, a, b), (x, p, z, *out), threaded)


def _axpy(a: complex, x: NDArray, y: NDArray, out: NDArray, threaded: bool = True) -> float:
    """Fill out with y + a x; its squared norm."""
    from xlops.kernels import vectors

    if not _are_flat(x, y, out):
        np.add(y, _scale(x, a), out=out, casting="same_kind")
        return _real_dot(out, out, threaded)
    return float(sum(_in_blocks(functools.partial(vectors.axpy, a), (x, y, out), threaded)))


def _are_flat(*arrays: NDArray) -> bool:
    """Whether arrays are of one dtype, and their samples in a row."""
    dtype = arrays[0].dtype
    return dtype.kind in "fc" and all(
        array.dtype == dtype and array.flags.c_contiguous for array in arrays
    )


def _in_blocks(
    function: Callable[..., Any], arrays: Sequence[NDArray], threaded: bool
) -> list[Any]:
    """What a function of blocks of flat arrays gives, block by block, on threads."""
    flat = [array.reshape(-1) for array in arrays]
    workers = threads.count() if threaded and arrays[0].nbytes > SMALL_BYTES else 1
    if workers == 1:
        return [function(*flat)]
    size = -(-flat[0].size // workers)
    blocks = [[a[i : i + size] for a in flat] for i in range(0, flat[0].size, size)]
    parts = [None] * len(blocks)

    def work(left: Iterator[tuple[int, list[NDArray]]]) -> None:
        for i, block in left:
            parts[i] = function(*block)

    threads.shared(work, enumerate(blocks), workers)
    return parts


def _with_scalar(dtype: np.dtype[Any], scalar: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of an array times a number: a number may make it complex, not wider."""
    return of_kind(floating(dtype), "complex" if scalar.kind == "c" else "any")


def dot(x: Tree, y: Tree) -> Any:
    """Re⟨x, y⟩ over all blocks; a lazy number where one of them is lazy."""
    return dots((x, y))[0]


def dots(*products: Product | tuple[Tree, Tree] | float) -> tuple[Any, ...]:
    """Re⟨x, y⟩ of several pairs of vectors, as `dot`; numbers are passed on.

    On Dask the chunks that stand in one place share a task: products that are wanted at
    the same time cost no more tasks than one of them.
    """
    pairs = {
        _names(*product): [
            (a.data, b.ordered(a.dims).data)
            for a, b in zip(leaves(product[0]), leaves(product[1]), strict=True)
        ]
        for product in products
        if isinstance(product, tuple)
    }
    numbers: dict[Any, Any] = {
        key: float(sum(_real_dot(a, b) for a, b in both if not _lazy(a, b)))
        for key, both in pairs.items()
    }
    lazy = {key: [pair for pair in both if _lazy(*pair)] for key, both in pairs.items()}
    lazy = {key: both for key, both in lazy.items() if both}
    if lazy:
        numbers |= _lazy_dots(lazy, numbers)
    return tuple(
        numbers[_names(*product)] if isinstance(product, tuple) else product
        for product in products
    )


def _names(x: Tree, y: Tree) -> Any:
    """The same for the same vectors."""
    return tuple(
        (getattr(v.data, "name", id(v.data)), v.dims) for v in leaves(x) + leaves(y)
    )


def _lazy(*arrays: Any) -> bool:
    return any(map(is_lazy, arrays))


def _lazy_dots(products: dict[Any, list[tuple[Any, Any]]], known: dict[Any, float]) -> Any:
    """One task per chunk, a tree of sums, and one task for each of the numbers."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import List, Task, TaskRef
    from dask.tokenize import tokenize

    # Arrays with chunks in the same places are summed up together.
    alike: dict[Any, list[list[Any]]] = {}
    for number, pairs in enumerate(products.values()):
        for a, b in pairs:
            chunks = a.chunks if is_lazy(a) else b.chunks
            both = [in_chunks(a, chunks), in_chunks(b, chunks)]
            places = alike.setdefault(both[0].numblocks, [[] for _ in products])
            places[number].extend(both)
    groups = list(alike.values())
    sources = [array for group in groups for arrays in group for array in arrays]
    counts = [[len(arrays) // 2 for arrays in group] for group in groups]
    name = f"dot-{tokenize([array.name for array in sources], counts)}"
    tasks: dict[Any, Any] = {}
    parts: list[Any] = []
    for at, (blocks, group) in enumerate(alike.items()):
        arrays = [array for part in group for array in part]
        for index in itertools.product(*map(range, blocks)):
            key = (f"{name}-part", at, *index)
            pieces = (TaskRef((array.name, *index)) for array in arrays)
            tasks[key] = Task(key, _partial_dots, counts[at], *pieces)
            parts.append(key)
    level = 0
    while len(parts) > ADDED_AT_ONCE:
        level += 1
        starts = range(0, len(parts), ADDED_AT_ONCE)
        sums = [List(*map(TaskRef, parts[i : i + ADDED_AT_ONCE])) for i in starts]
        parts = [(f"{name}-sum", level, i) for i in range(len(sums))]
        tasks |= {k: Task(k, _added, terms) for k, terms in zip(parts, sums, strict=True)}
    graph = HighLevelGraph.from_collections(name, tasks, sources)
    result = {}
    for number, key in enumerate(products):
        own = f"{name}-{number}-{tokenize(known[key])}"
        terms = List(*map(TaskRef, parts))
        layer: dict[Any, Any] = {(own,): Task((own,), _total, terms, number, known[key])}
        whole = HighLevelGraph(
            {**graph.layers, own: layer}, {**graph.dependencies, own: {name}}
        )
        result[key] = da.Array(whole, own, (), dtype=np.float64)
    return result


def _partial_dots(counts: Sequence[int], *arrays: Any) -> tuple[float, ...]:
    """Sums of as many Re⟨x, y⟩ as `counts` says, of arrays that come as x, y, x, y."""
    plain = map(np.asarray, arrays)
    return tuple(
        sum(_real_dot(next(plain), next(plain), threaded=False) for _ in range(count))
        for count in counts
    )


def _added(parts: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*parts, strict=True)))


def _total(parts: Sequence[tuple[float, ...]], number: int, known: float) -> Any:
    return np.float64(sum(part[number] for part in parts) + known)


def _real_dot(x: NDArray, y: NDArray, threaded: bool = True) -> float:
    """Re⟨x, y⟩ in double precision: squares of single precision soon leave its range."""
    from xlops.kernels import vectors

    dtype = np.result_type(floating(x.dtype), floating(y.dtype))
    x, y = (np.ascontiguousarray(a, dtype=dtype) for a in (x, y))
    return float(sum(_in_blocks(vectors.dot, (x, y), threaded)))


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


def number(function: Callable[..., Any], *given: Any) -> Any:
    """A number made of others: at once, or lazily where one of them is lazy.

    `function` has a name of its own in a module.
    """
    if not _lazy(*given):
        return function(*given)
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    lazy = [value for value in given if is_lazy(value)]
    names = [value.name if is_lazy(value) else value for value in given]
    name = f"number-{tokenize(function, names)}"
    numbers = [TaskRef((v.name,)) if is_lazy(v) else v for v in given]
    graph: Any = {(name,): Task((name,), function, *numbers)}
    whole = HighLevelGraph.from_collections(name, graph, lazy)
    return da.Array(whole, name, (), dtype=np.float64)


def ratio(a: Any, b: Any) -> Any:
    """``a / b`` of numbers, lazy where one is; NaN where b is 0."""
    return number(_ratio, a, b)


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


def total(tree: Tree) -> Any:
    """The sum of real and imaginary parts; a lazy number where the vector is lazy."""
    found: Any = 0.0
    for x in leaves(tree):
        for part in (x.data.real, x.data.imag) if x.data.dtype.kind == "c" else (x.data,):
            found = found + part.sum(dtype=np.float64)
    return found


def persist(*values: Any, homes: Homes | None = None) -> tuple[Any, ...]:
    """Compute what is lazy, all in one submission, and keep it where it was computed.

    Vectors come back as vectors, numbers as floats. What travels with another of these
    vectors stays on board. On a cluster, chunks are made at home where `homes` are given.
    """
    lazy = [data for data in _data(*filter(is_tree, values)) if is_lazy(data)]
    numbers = [value for value in values if is_lazy(value)]
    carriers = {id(data): other for data in lazy for other in lazy if rides(data, other)}
    own = [data for data in (*lazy, *numbers) if id(data) not in carriers]
    if not own:
        return values
    from dask.base import get_scheduler
    from dask.base import persist as persisted

    client = client_of(get_scheduler())
    check_connected(client)
    made = persisted(*own) if homes is None else homes.persist(client, own)
    done = dict(zip(map(id, own), made, strict=True))
    for data in lazy:
        if id(data) in carriers:
            done[id(data)] = on_board(done[id(carriers[id(data)])], data.dtype)
    fetched = _fetched([done[id(number)] for number in numbers])
    floats = {id(n): float(f) for n, f in zip(numbers, fetched, strict=True)}

    def finished(value: Any) -> Any:
        if is_tree(value):
            return transform(lambda a: Array(done.get(id(a.data), a.data), a.dims), value)
        return floats.get(id(value), value)

    return tuple(finished(value) for value in values)


def _fetched(numbers: Sequence[Any]) -> Sequence[Any]:
    """Persisted numbers: nothing is submitted for them."""
    distributed = sys.modules.get("distributed")
    futures = [] if distributed is None else distributed.futures_of(list(numbers))
    if futures:
        # Each number is one future.
        of = {future.key: future for future in futures}
        order = [of[number.__dask_keys__()[0]] for number in numbers]
        return gathered(order)
    from dask.base import compute

    return list(compute(*numbers, scheduler="sync"))


def settled(tree: Tree) -> Tree:
    """A vector whose chunks are arrays of their own; see `advance`."""
    chosen = {id(data): data for data in _data(tree) if is_lazy(data) and is_on_board(data)}
    if not chosen:
        return tree
    from dask.base import persist as persisted

    done = dict(zip(chosen, persisted(*chosen.values()), strict=True))
    return transform(lambda a: Array(done.get(id(a.data), a.data), a.dims), tree)


def is_tree(value: Any) -> bool:
    """Whether a value is a vector, and not a number."""
    return isinstance(value, (Array, dict))
