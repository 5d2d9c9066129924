"""Dask arrays: telling them, and cutting them as a plan needs."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from xlops.errors import ChunkError
from xlops.windows.pieces import Array
from xlops.windows.plan import Apply, Node, nodes

if TYPE_CHECKING:
    import dask.array as da

__all__ = [
    "check_known",
    "chunkwise",
    "in_chunks",
    "in_one_piece",
    "is_lazy",
    "like_weights",
    "without_empty_chunks",
]


def is_lazy(data: object) -> bool:
    """Whether data are a Dask array; does not import Dask to find out."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(data, module.Array)


def check_known(data: Any, who: str) -> None:
    """Raise unless the sizes of all chunks are known."""
    if any(math.isnan(size) for size in itertools.chain.from_iterable(data.chunks)):
        raise ChunkError(
            f"{who}: the sizes of the chunks of x are not known; call "
            ".compute_chunk_sizes() on its data first"
        )


def like_weights(x: Array, plan: Node) -> Array:
    """x as a Dask array, cut as the lazy weights of a plan are."""
    import dask.array as da

    if is_lazy(x.data):
        return Array(without_empty_chunks(x.data), x.dims)
    cuts = {
        dim: chunks
        for node in nodes(plan)
        if isinstance(node, Apply)
        for weight in node.step.weights
        if isinstance(weight, Array) and is_lazy(weight.data)
        for dim, chunks in zip(weight.dims, weight.data.chunks, strict=True)
    }
    fitting = {dim: c for dim, c in cuts.items() if sum(c) == x.sizes.get(dim)}
    chunks = tuple(fitting.get(dim, (size,)) for dim, size in x.sizes.items())
    return Array(da.from_array(x.data, chunks=chunks), x.dims)


def chunkwise(
    function: Callable[..., Any], arrays: Sequence[Any], *others: Any, dtype: Any
) -> Any:
    """A function of the chunks of arrays, as plain tasks.

    Parameters
    ----------
    function : callable
        Takes one chunk of each array, then the others.
    arrays : sequence of array
        Of one shape; at least one of them lazy, whose chunks all take on.
    *others : object
        Numbers, lazy or not.
    dtype : dtype
        The dtype of the result.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    chunks = next(array.chunks for array in arrays if is_lazy(array))
    arrays = [in_chunks(array, chunks) for array in arrays]
    lazy = [value for value in (*arrays, *others) if is_lazy(value)]
    given = [value.name if is_lazy(value) else value for value in (*arrays, *others)]
    name = f"{function.__name__.strip('_')}-{tokenize(function.__qualname__, given)}"
    numbers = [TaskRef((o.name,)) if is_lazy(o) else o for o in others]
    tasks: dict[Any, Any] = {}
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        key = (name, *index)
        pieces = (TaskRef((array.name, *index)) for array in arrays)
        tasks[key] = Task(key, function, *pieces, *numbers)
    graph = HighLevelGraph.from_collections(name, tasks, lazy)
    return da.Array(graph, name, chunks, dtype=dtype)


def in_chunks(array: Any, chunks: tuple[tuple[int, ...], ...]) -> Any:
    """An array as a Dask array with these chunks."""
    import dask.array as da

    if not is_lazy(array):
        return da.from_array(array, chunks=chunks)
    return array if array.chunks == chunks else array.rechunk(chunks)


def without_empty_chunks(data: Any) -> Any:
    """Dask data without chunks of size 0, as selections by a mask leave them."""
    if all(size for sizes in data.chunks for size in sizes):
        return data
    return data.rechunk(tuple(tuple(filter(None, sizes)) for sizes in data.chunks))


def in_one_piece(x: Array, dims: frozenset[Hashable]) -> Array:
    """x with one chunk along `dims`.

    Other dims are cut instead, so that chunks keep their size.
    """
    data: da.Array = x.data
    split = [i for i, d in enumerate(x.dims) if d in dims and data.numblocks[i] > 1]
    if not split:
        return x
    others = [i for i, d in enumerate(x.dims) if d not in dims]
    plan: dict[int, Any] = dict.fromkeys(split, -1)
    if others:
        plan.update(dict.fromkeys(others, "auto"))
        limit = math.prod(map(max, data.chunks)) * data.dtype.itemsize
        return Array(data.rechunk(plan, block_size_limit=limit), x.dims)
    return Array(data.rechunk(plan), x.dims)
