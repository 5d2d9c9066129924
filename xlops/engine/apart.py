"""Plans that run on pieces of some dims, each apart from all others.

Whatever a plan does along these dims, it does sample by sample. So a task can take a
piece of all its arrays, with the weights that belong to it, and go on for as long as it
likes: nothing else has to be known of other pieces than where this one lies.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
import sys
import uuid
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from xlops.engine.evaluate import Piece
from xlops.engine.lazy import in_chunks, is_lazy
from xlops.engine.loss import check_connected, client_of, gathered
from xlops.engine.stages import Stage
from xlops.engine.tiles import Tiles, fill, tiles_of
from xlops.engine.vectors import Tree
from xlops.windows.pieces import Array, Chunks, Grid, Window, shape_of
from xlops.windows.plan import Apply, Node, Plan, Source, nodes, places
from xlops.windows.rules import Pointwise

__all__ = ["Apart", "apart", "coupling", "in_tasks"]


def coupling(plan: Plan, dims: Collection[Hashable]) -> tuple[str, Hashable] | None:
    """The name of a step that makes samples along one of these dims depend on others."""
    for end in plan.values() if isinstance(plan, dict) else [plan]:
        for node in nodes(end):
            if isinstance(node, Apply) and not isinstance(node.window, Pointwise):
                acting = {*node.step.domain, *node.step.range} - node.window.shared
                for dim in dims:
                    if dim in acting:
                        return node.step.name, dim
    return None


@dataclasses.dataclass(frozen=True)
class Apart:
    """A plan without what only names it.

    Parameters
    ----------
    plan : Node or dict of Node
        The plan, on arrays of their whole sizes.
    sources : dict of str to Source
        What stands for its input, by block.
    weights : tuple of Source
        What stands for weights that tasks are given.
    """

    plan: Plan
    sources: dict[str, Source]
    weights: tuple[Source, ...]

    def run(self, x: Tree, weights: Sequence[Any], where: Window, origin: Window) -> Tree:
        """What the plan makes of a piece, in this thread.

        Parameters
        ----------
        x : Array or dict of Array
            The piece of its input.
        weights : sequence of array
            What belongs to it of weights, or all of them.
        where : Window
            Where the piece lies along the dims that it is cut along.
        origin : Window
            Where the weights do.
        """
        given = x if isinstance(x, dict) else {"": x}
        arrays: dict[Source, Array] = {}
        for name, source in self.sources.items():
            data = given[name].ordered(source.dims).data
            arrays[source] = Array(data.astype(source.dtype, copy=False), source.dims)
        own = {
            source: Array(np.asarray(array), source.dims)
            for source, array in zip(self.weights, weights, strict=True)
        }
        return _Within(arrays, own, where, origin).run(self.plan)


class _Within(Tiles):
    """Runs plans on pieces, in this thread.

    Parameters
    ----------
    arrays, weights : dict of Source to Array
        The pieces.
    where, origin : Window
        Where they lie, along some dims.
    """

    def __init__(
        self,
        arrays: dict[Source, Array],
        weights: dict[Source, Array],
        where: Window,
        origin: Window,
    ) -> None:
        super().__init__(arrays)
        self._where = where
        self._weights = {s: _piece(array, s, origin) for s, array in weights.items()}

    def compute(self, stage: Stage) -> Array:
        """The piece of the result."""
        node = stage.node
        want = {dim: self._where.get(dim, slice(0, n)) for dim, n in node.sizes.items()}
        own = {s: _piece(a, s, self._where) for s, a in stage.arrays.items()}
        readers = self._weights | own
        out = np.empty(shape_of(want, node.dims), node.dtype)
        origin = [want[dim].start for dim in node.dims]
        fill(node, tiles_of(node, want), readers, out, origin)
        return Array(out, node.dims)

    def _there(self, stage: Stage) -> Stage:
        """A stage that has run: its source is of the size of the whole."""
        node = stage.node
        if isinstance(node, Source):
            return stage
        source = Source(node.dims, node.sizes, node.dtype, places(node))
        return Stage(source, {source: self._kept(stage)})


def _piece(array: Array, source: Source, where: Window) -> Piece:
    """An array where it lies; at 0 along dims in which it is whole."""
    starts = tuple(
        where[dim].start if dim in where and n < source.sizes[dim] else 0
        for dim, n in array.sizes.items()
    )
    return Piece(array.data, array.dims, starts)


def apart(plan: Plan, sources: dict[str, Source], lazy: bool) -> tuple[Apart, list[Array]]:
    """A plan for tasks, and the weights that they are given with it.

    These are lazy ones, and large ones. Where all is NumPy, the plan has its weights.
    """
    if not lazy:
        return Apart(plan, sources, ()), []
    from xlops.engine.graph import all_lazy, slim

    ends: dict[str, Node] = {}
    arrays: dict[Source, Array] = {}
    for name, end in plan.items() if isinstance(plan, dict) else [("", plan)]:
        stage = all_lazy(Stage(end, {}), True)
        ends[name] = slim(stage.node)
        arrays |= stage.arrays
    made = ends if isinstance(plan, dict) else ends[""]
    return Apart(made, sources, tuple(arrays)), list(arrays.values())


# --- tasks ----------------------------------------------------------------------------


def in_tasks(
    function: Callable[..., Any],
    job: Any,
    name: str,
    dims: Sequence[Hashable],
    given: Sequence[Array],
    weights: Sequence[Array],
    made: Sequence[Source],
) -> tuple[list[Array], list[Any]]:
    """Results of a function of pieces, one task for each, persisted.

    Parameters
    ----------
    function : callable
        Of the job, where the piece lies, and the pieces of `given` and `weights`. It
        gives a tuple: the pieces of `made`, and something small.
    job : object
        What all tasks share; one node of the graph.
    name : str
        What tasks are called.
    dims : sequence of Hashable
        The dims that everything is cut along, as the first array is.
    given, weights : sequence of Array
        Arrays with these dims; and arrays with some of them, or without.
    made : sequence of Source
        What the results look like.

    Returns
    -------
    list of Array, list
        The arrays, lazy and persisted; and the small things, piece by piece.
    """
    import dask.array as da
    from dask.base import get_scheduler, persist
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import DataNode, Task, TaskRef

    first = given[0]
    chunks = {dim: _chunks(first, dim) for dim in dims}
    arrays = [_cut(array, chunks) for array in given]
    arrays += [_cut(w, chunks) if w.data.npartitions > 1 else w for w in weights]
    own = f"{name}-{uuid.uuid4().hex}"
    tasks: dict[Any, Any] = {f"{own}-job": DataNode(f"{own}-job", job)}
    looks = [
        *((a.dims, tuple(chunks.get(d, (n,)) for d, n in a.sizes.items())) for a in made),
        (tuple(dims), tuple((1,) * len(sizes) for sizes in chunks.values())),
    ]
    parts: list[dict[Any, Any]] = [{} for _ in looks]
    for index, where in _pieces(chunks):
        at = dict(zip(dims, index, strict=True))
        keys: list[Any] = [(a.data.name, *_index(a, at)) for a in arrays]
        key: Any = (own, *index)
        tasks[key] = Task(key, function, TaskRef(f"{own}-job"), where, *map(TaskRef, keys))
        for i, (axes, _) in enumerate(looks):
            piece: Any = (f"{own}-{i}", *(at.get(dim, 0) for dim in axes))
            parts[i][piece] = Task(piece, operator.itemgetter(i), TaskRef(key))
    base = HighLevelGraph.from_collections(own, tasks, [array.data for array in arrays])
    dtypes = [*(source.dtype for source in made), np.dtype(object)]
    lazy = [
        da.Array(
            HighLevelGraph(
                {**base.layers, f"{own}-{i}": parts[i]},
                {**base.dependencies, f"{own}-{i}": {own}},
            ),
            f"{own}-{i}",
            cuts,
            dtype=dtype,
        )
        for i, ((_, cuts), dtype) in enumerate(zip(looks, dtypes, strict=True))
    ]
    check_connected(client_of(get_scheduler()))
    *results, notes = persist(*lazy)
    vectors = [Array(d, a.dims) for d, a in zip(results, made, strict=True)]
    return vectors, [note.item() for note in _values(notes)]


def _chunks(array: Array, dim: Hashable) -> tuple[int, ...]:
    """The chunks of an array along a dim; one where it is not in chunks."""
    if not is_lazy(array.data):
        return (array.sizes[dim],)
    cuts: tuple[int, ...] = array.data.chunks[array.dims.index(dim)]
    return cuts


def _cut(array: Array, chunks: Chunks) -> Array:
    """An array in these chunks, and in one piece along all other dims."""
    cuts = tuple(chunks.get(dim, (size,)) for dim, size in array.sizes.items())
    return Array(in_chunks(array.data, cuts), array.dims)


def _pieces(chunks: Chunks) -> Iterator[tuple[tuple[int, ...], Window]]:
    """The index of each piece, and where it lies."""
    grids = [Grid(sizes) for sizes in chunks.values()]
    for index in itertools.product(*(range(len(grid)) for grid in grids)):
        pieces = (grid[i] for grid, i in zip(grids, index, strict=True))
        yield index, dict(zip(chunks, pieces, strict=True))


def _index(array: Array, at: dict[Hashable, int]) -> Iterator[int]:
    """Which chunk of an array belongs to a piece."""
    for dim, count in zip(array.dims, array.data.numblocks, strict=True):
        yield at.get(dim, 0) if count > 1 else 0


def _values(persisted: Any) -> list[Any]:
    """The chunks of what has been persisted."""
    from dask.core import flatten
    from dask.local import get_sync

    keys = [*flatten(persisted.__dask_keys__())]
    distributed = sys.modules.get("distributed")
    futures = [] if distributed is None else distributed.futures_of(persisted)
    if futures:
        found = {future.key: future for future in futures}
        return gathered([found[key] for key in keys])
    return list(get_sync(dict(persisted.__dask_graph__()), keys))
