"""Functions of samples: what methods need beside sums and scalar products of vectors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from xlops.engine import threads
from xlops.engine.lazy import chunkwise, in_chunks, is_lazy
from xlops.engine.vectors import SMALL_BYTES, Tree, leaves, paired
from xlops.windows.pieces import Array, NDArray, of_kind

__all__ = ["largest", "mapped", "noise", "ranked", "size", "spikes", "summed"]

# Samples that a function gets at once: what it makes on the way stays in cache.
AT_ONCE = 2**15
# Results of chunks that one task puts together.
ADDED_AT_ONCE = 64
# Bits of a magnitude that one pass over the chunks tells apart.
BITS = 16


# --- sample by sample -----------------------------------------------------------------


def mapped(
    function: Callable[..., Any],
    *trees: Tree,
    numbers: Sequence[Any] = (),
    into: Tree | None = None,
    whole: bool = False,
) -> Tree:
    """A function of samples: of one of each vector, and of numbers.

    Parameters
    ----------
    function : callable
        Takes arrays, then the numbers; it has a name of its own in a module.
    *trees : Array or dict of Array
        Vectors of one shape; the result is like the first one.
    numbers : sequence of number
        Lazy ones too.
    into : Array or dict of Array, optional
        One of the vectors, where its memory may be used; Dask never does.
    whole : bool
        Whether the function takes arrays and chunks as they are, and not piece by piece.
    """
    targets = iter([None] * len(leaves(trees[0])) if into is None else leaves(into))

    def one(first: Array, *others: Array) -> Array:
        arrays = [first.data, *(other.ordered(first.dims).data for other in others)]
        target, dtype = next(targets), first.data.dtype
        if any(map(is_lazy, (*arrays, *numbers))):
            data = chunkwise(
                _mapped, _in_step(arrays), function, whole, *numbers, dtype=dtype
            )
            return Array(data, first.dims)
        if target is None:
            out = np.empty(first.data.shape, dtype)
        else:
            out = target.ordered(first.dims).data
        _fill(out, function, arrays, numbers, whole)
        return Array(out, first.dims)

    return paired(one, *trees)


def summed(
    function: Callable[..., Any],
    *trees: Tree,
    numbers: Sequence[Any] = (),
    whole: bool = False,
) -> Any:
    """The sum of a real function of samples, as for `mapped`, in double precision."""
    groups = _groups(*trees)
    if not any(map(is_lazy, (*itertools.chain(*groups), *numbers))):
        return sum(_total(function, arrays, numbers, whole) for arrays in groups)
    return _reduced(_partial_total, _sum, (float,), groups, function, whole, *numbers)[0]


def _groups(*trees: Tree) -> list[list[Any]]:
    """The data of the arrays that belong together."""
    return [
        [first.data, *(other.ordered(first.dims).data for other in others)]
        for first, *others in zip(*map(leaves, trees), strict=True)
    ]


def _in_step(arrays: Sequence[Any]) -> list[Any]:
    """Arrays in the chunks of one of them."""
    chunks = next(
        (array.chunks for array in arrays if is_lazy(array)),
        tuple((n,) for n in arrays[0].shape),
    )
    return [in_chunks(array, chunks) for array in arrays]


def _mapped(*given: Any) -> NDArray:
    """One chunk: arrays, the function, whether it takes all at once, numbers."""
    at = next(i for i, value in enumerate(given) if callable(value))
    arrays = [np.asarray(array) for array in given[:at]]
    out = np.empty(arrays[0].shape, arrays[0].dtype)
    _fill(out, given[at], arrays, given[at + 2 :], given[at + 1], threaded=False)
    return out


def _partial_total(
    where: Any, arrays: Sequence[NDArray], function: Any, whole: bool, *numbers: Any
) -> float:
    return _total(function, arrays, numbers, whole, threaded=False)


def _sum(parts: Sequence[Any]) -> Any:
    return sum(parts[1:], parts[0])


def in_precision(numbers: Sequence[Any], dtype: np.dtype[Any]) -> list[Any]:
    """Numbers that do not widen an array."""
    real = of_kind(dtype, "real")
    return [np.asarray(number).astype(real, copy=False)[()] for number in numbers]


def _fill(
    out: NDArray,
    function: Callable[..., Any],
    arrays: Sequence[NDArray],
    numbers: Sequence[Any],
    whole: bool,
    threaded: bool = True,
) -> None:
    numbers = in_precision(numbers, out.dtype)
    if whole:
        out[...] = function(*arrays, *numbers)
        return

    def work(left: Iterator[Sequence[NDArray]]) -> None:
        for target, *pieces in left:
            target[...] = function(*pieces, *numbers)

    _run(work, (out, *arrays), threaded)


def _total(
    function: Callable[..., Any],
    arrays: Sequence[NDArray],
    numbers: Sequence[Any],
    whole: bool,
    threaded: bool = True,
) -> float:
    numbers = in_precision(numbers, arrays[0].dtype)
    if whole:
        return float(np.sum(function(*arrays, *numbers), dtype=np.float64))
    parts: list[float] = []

    def work(left: Iterator[Sequence[NDArray]]) -> None:
        values = (function(*pieces, *numbers) for pieces in left)
        parts.extend(float(np.sum(value, dtype=np.float64)) for value in values)

    _run(work, arrays, threaded)
    return float(np.sum(np.sort(parts)))  # in one order, whichever thread was first


def _run(
    work: Callable[[Iterator[Sequence[NDArray]]], None],
    arrays: Sequence[NDArray],
    threaded: bool,
) -> None:
    """Let threads work on pieces of arrays; on whole ones where samples lie apart."""
    if arrays[0].size <= AT_ONCE or not all(a.flags.c_contiguous for a in arrays):
        return work(iter([arrays]))
    flat = [array.reshape(-1) for array in arrays]
    starts = range(0, flat[0].size, AT_ONCE)
    pieces = [[array[i : i + AT_ONCE] for array in flat] for i in starts]
    workers = threads.count() if threaded and arrays[0].nbytes > SMALL_BYTES else 1
    return threads.shared(work, pieces, workers)


# --- over all samples -----------------------------------------------------------------


def size(tree: Tree) -> int:
    """How many samples a vector has."""
    return sum(int(leaf.data.size) for leaf in leaves(tree))


def largest(tree: Tree) -> tuple[Any, Any]:
    """The largest magnitude, and where it is: its flat index, block after block."""
    groups = _groups(tree)
    if not any(map(is_lazy, itertools.chain(*groups))):
        starts = _starts(groups)
        parts = [
            _partial_largest((start, (0,) * data.ndim, data.shape), [data])
            for start, (data,) in zip(starts, groups, strict=True)
        ]
        return _most(parts)
    return _reduced(_partial_largest, _most, (_first, _second), groups)


def _starts(groups: Sequence[Sequence[Any]]) -> list[int]:
    """Where each array begins in a flat vector."""
    return [0, *itertools.accumulate(int(group[0].size) for group in groups)][:-1]


def _partial_largest(where: Any, arrays: Sequence[NDArray]) -> tuple[float, float]:
    start, corner, shape = where
    magnitudes = np.abs(arrays[0])
    at = int(np.argmax(magnitudes))
    local = np.unravel_index(at, magnitudes.shape)
    place = [int(i) + c for i, c in zip(local, corner, strict=True)]
    flat = int(np.ravel_multi_index(place, shape)) if shape else 0
    return float(magnitudes.reshape(-1)[at]), float(start + flat)


def _most(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The largest one; of equal ones the first, however they were cut."""
    return max(parts, key=lambda part: (part[0], -part[1]))


def _first(pair: Any) -> float:
    return float(pair[0])


def _second(pair: Any) -> float:
    return float(pair[1])


def ranked(tree: Tree, rank: int) -> Any:
    """The magnitude that `rank` others of a vector do not exceed, from 0 on.

    On Dask nothing is sorted or gathered: chunks count how many of their magnitudes begin
    with the same bits, some bits in each pass, all of it in one submission.
    """
    groups = _groups(tree)
    if not any(map(is_lazy, itertools.chain(*groups))):
        flat = np.concatenate([np.abs(data).reshape(-1) for (data,) in groups])
        return float(np.partition(flat, rank)[rank])
    known: Any = (0, rank)
    for level in range(64 // BITS):
        (known,) = _reduced(
            _counts, _sum, (_narrowed,), groups, known, level, after=(known,)
        )
    from xlops.engine.vectors import number

    return number(_magnitude, known)


def _bits(array: NDArray) -> NDArray:
    """Magnitudes as whole numbers in the same order."""
    return np.abs(array).astype(np.float64).reshape(-1).view(np.uint64)


def _counts(where: Any, arrays: Sequence[NDArray], known: Any, level: int) -> NDArray:
    """How many magnitudes that begin as is known go on in each way."""
    bits, shift = _bits(arrays[0]), 64 - BITS * (level + 1)
    if level:
        bits = bits[bits >> np.uint64(shift + BITS) == np.uint64(known[0])]
    which = (bits >> np.uint64(shift)) & np.uint64(2**BITS - 1)
    return np.bincount(which.astype(np.int64), minlength=2**BITS)


def _narrowed(counts: NDArray, known: Any) -> tuple[int, int]:
    """What is known after a pass: how the magnitude begins, its rank among those."""
    start, rank = known
    below = np.cumsum(counts)
    at = int(np.searchsorted(below, rank, side="right"))
    left = rank - (int(below[at - 1]) if at else 0)
    return (int(start) << BITS) | at, left


def _magnitude(known: Any) -> float:
    return float(np.array([known[0]], np.uint64).view(np.float64)[0])


def _reduced(
    partial: Callable[..., Any],
    together: Callable[[Sequence[Any]], Any],
    final: Sequence[Callable[..., Any]],
    groups: Sequence[Sequence[Any]],
    *others: Any,
    after: Sequence[Any] = (),
) -> tuple[Any, ...]:
    """Numbers made of all chunks: one task per chunk, and a tree of tasks over them.

    `partial` takes where a chunk lies (the flat index of its array's first sample, its own
    corner, the array's shape), the chunks of a group, and the others; `final` what
    `together` makes of all that, and what is given by `after`.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import List, Task, TaskRef
    from dask.tokenize import tokenize

    cut = [_in_step(arrays) for arrays in groups]
    sources = [array for arrays in cut for array in arrays]
    lazy = [value for value in others if is_lazy(value)]
    names = [value.name if is_lazy(value) else value for value in others]
    token = tokenize(partial, together, [s.name for s in sources], names)
    name = f"{partial.__name__.strip('_')}-{token}"
    given = [TaskRef((v.name,)) if is_lazy(v) else v for v in others]
    tasks: dict[Any, Any] = {}
    parts: list[Any] = []
    for at, (start, arrays) in enumerate(zip(_starts(cut), cut, strict=True)):
        first = arrays[0]
        corners = [[0, *itertools.accumulate(sizes)] for sizes in first.chunks]
        for index in itertools.product(*map(range, first.numblocks)):
            key = (f"{name}-part", at, *index)
            corner = tuple(corners[axis][i] for axis, i in enumerate(index))
            pieces = List(*(TaskRef((array.name, *index)) for array in arrays))
            where = (start, corner, first.shape)
            tasks[key] = Task(key, _of_chunk, partial, where, pieces, *given)
            parts.append(key)
    level = 0
    while len(parts) > ADDED_AT_ONCE:
        level += 1
        starts = range(0, len(parts), ADDED_AT_ONCE)
        sums = [List(*map(TaskRef, parts[i : i + ADDED_AT_ONCE])) for i in starts]
        parts = [(f"{name}-sum", level, i) for i in range(len(sums))]
        tasks |= {k: Task(k, together, terms) for k, terms in zip(parts, sums, strict=True)}
    tasks[(name,)] = Task((name,), together, List(*map(TaskRef, parts)))
    graph = HighLevelGraph.from_collections(name, tasks, [*sources, *lazy])
    results = []
    for number, function in enumerate(final):
        own = f"{name}-{number}"
        rest = [TaskRef((v.name,)) if is_lazy(v) else v for v in after]
        layer: Any = {(own,): Task((own,), function, TaskRef((name,)), *rest)}
        below = {name} | {v.name for v in after if is_lazy(v)}
        whole = HighLevelGraph(
            {**graph.layers, own: layer}, {**graph.dependencies, own: below}
        )
        results.append(da.Array(whole, own, (), dtype=np.float64))
    return tuple(results)


def _of_chunk(partial: Any, where: Any, pieces: Sequence[Any], *others: Any) -> Any:
    return partial(where, [np.asarray(piece) for piece in pieces], *others)


# --- vectors of one's own -------------------------------------------------------------


def spikes(like: Tree, places: Sequence[int], values: Sequence[Any]) -> Tree:
    """A vector like another one that is zero but at some flat indices."""
    flat, given = np.asarray(places, np.int64), np.asarray(values)
    result, start = [], 0
    for leaf in leaves(like):
        here = (flat >= start) & (flat < start + leaf.data.size)
        where = np.array(np.unravel_index(flat[here] - start, leaf.data.shape))
        result.append(_spiked(leaf, where.reshape(leaf.data.ndim, -1), given[here]))
        start += leaf.data.size
    if isinstance(like, dict):
        return dict(zip(like, result, strict=True))
    return result[0]


def _spiked(like: Array, where: NDArray, values: NDArray) -> Array:
    data = like.data
    if not is_lazy(data):
        return Array(_with_spikes(data.shape, data.dtype, where, values), like.dims)
    return Array(_from_pieces("spikes", data, _cut_spikes, where, values), like.dims)


def _cut_spikes(
    dtype: np.dtype[Any], cuts: Sequence[tuple[int, int]], where: NDArray, values: NDArray
) -> NDArray:
    corner = np.array([start for start, _ in cuts], np.int64)[:, None]
    shape = [stop - start for start, stop in cuts]
    local = where - corner
    here = ((local >= 0) & (local < np.array(shape, np.int64)[:, None])).all(axis=0)
    return _with_spikes(shape, dtype, local[:, here], values[here])


def _with_spikes(
    shape: Sequence[int], dtype: np.dtype[Any], where: NDArray, values: NDArray
) -> NDArray:
    out = np.zeros(shape, dtype)
    out[tuple(where)] = values
    return out


def noise(like: Tree) -> Tree:
    """A vector like another one to start from: always the same, however it is cut."""

    def one(leaf: Array) -> Array:
        data = leaf.data
        factors = [_factor(axis, n) for axis, n in enumerate(data.shape)]
        if is_lazy(data):
            return Array(_from_pieces("noise", data, _cut_noise, factors), leaf.dims)
        cuts = [(0, n) for n in data.shape]
        return Array(_cut_noise(data.dtype, cuts, factors), leaf.dims)

    return {n: one(a) for n, a in like.items()} if isinstance(like, dict) else one(like)


def _factor(axis: int, n: int) -> NDArray:
    return np.random.default_rng(axis).standard_normal(n)


def _cut_noise(
    dtype: np.dtype[Any], cuts: Sequence[tuple[int, int]], factors: Sequence[NDArray]
) -> NDArray:
    out = np.ones([stop - start for start, stop in cuts], dtype)
    for axis, ((start, stop), factor) in enumerate(zip(cuts, factors, strict=True)):
        shape = [-1 if other == axis else 1 for other in range(len(cuts))]
        out *= factor[start:stop].astype(of_kind(dtype, "real")).reshape(shape)
    return out


def _from_pieces(name: str, like: Any, function: Callable[..., Any], *given: Any) -> Any:
    """A Dask array whose chunks a function makes of where they lie."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import Task
    from dask.tokenize import tokenize

    name = f"{name}-{tokenize(like.chunks, like.dtype, *given)}"
    cuts = [[0, *itertools.accumulate(sizes)] for sizes in like.chunks]
    tasks: dict[Any, Any] = {}
    for index in itertools.product(*map(range, like.numblocks)):
        own = [(cuts[axis][i], cuts[axis][i + 1]) for axis, i in enumerate(index)]
        tasks[(name, *index)] = Task((name, *index), function, like.dtype, own, *given)
    graph = HighLevelGraph.from_collections(name, tasks, [])
    return da.Array(graph, name, like.chunks, dtype=like.dtype)
