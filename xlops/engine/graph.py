"""Graphs: plans on Dask arrays, one task per chunk of a stage's result.

A task gets the chunks that it needs as they are, and thin strips of their neighbours as
slices of their own, which neighbours share. The plan itself is one node of the graph,
however many tasks refer to it, and so are large weights.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xlops.engine import threads
from xlops.engine.evaluate import Piece, Pieces, Readers, Scratch, block_of, evaluate
from xlops.engine.lazy import in_one_piece, is_lazy, like_weights, without_empty_chunks
from xlops.engine.stages import Stage, Stages
from xlops.engine.stored import strip, strips
from xlops.engine.tiles import fill, reads_sources, scratch_bytes, tiles_of
from xlops.engine.weights import LARGE, at_hand
from xlops.windows.pieces import (
    Array,
    Chunks,
    Grid,
    NDArray,
    Window,
    shape_of,
    volume,
)
from xlops.windows.plan import (
    Apply,
    Node,
    Source,
    Total,
    halo,
    nodes,
    reads,
    replaced,
    work,
)
from xlops.windows.rules import Permutation, Pointwise, Stencil

__all__ = ["Graphs", "Report", "all_lazy", "slim"]

# Steps run together as long as pieces do not overlap so much that this many times the
# work is done.
MOST_WORK = 2.0
# A larger part of a chunk than this travels as the whole chunk.
LARGEST_CUT = 0.5
# Strips at both ends of a chunk that are no larger parts of it come from one task, and
# both neighbours get both: less than a task costs, and twice the bytes at most.
THIN_CUT = 0.25
# Partial results that one task adds up.
ADDED_AT_ONCE = 8
# Tasks that there are at least where partial results are made of several chunks.
LEAST_TASKS = 8
# Smaller chunks are worked on as one tile.
SMALL_CHUNK = 2**16

Ranges: TypeAlias = tuple[tuple[int, int], ...]
Index: TypeAlias = tuple[int, ...]
# Of which source pieces are, where they start, and which ones of several they are.
Layout: TypeAlias = Sequence[tuple[int, Index, int | None]]


@dataclasses.dataclass(frozen=True)
class Report:
    """What one stage adds to a graph.

    Parameters
    ----------
    node : Node or None
        Its plan; None for a rechunk.
    dims : tuple of Hashable
        Dims of what it reads.
    pieces : int
        Chunks of its result.
    tasks : mapping of str to int
        Its tasks by kind.
    bytes_moved : int
        Bytes that tasks read beyond one chunk of each array.
    peak_bytes : int
        Bytes that a task holds at most.
    split : frozenset of Hashable
        Dims that come in pieces though they are needed whole (for a rechunk: that no
        longer do).
    how : str
        How a step does with that.
    """

    node: Node | None
    dims: tuple[Hashable, ...]
    pieces: int
    tasks: dict[str, int]
    bytes_moved: int
    peak_bytes: int
    split: frozenset[Hashable] = frozenset()
    how: str = ""


class Graphs(Stages):
    """Describes plans on Dask arrays.

    Attributes
    ----------
    reports : list of Report
        What each stage has added, in the order they run.
    sends : bool
        Whether large weights may be sent to workers; False for a look at the plan.
    """

    sends = True

    def __init__(self, arrays: dict[Source, Array]) -> None:
        super().__init__(arrays)
        self.reports: list[Report] = []
        self._pending: dict[Source, Report] = {}
        self._rechunked: set[str] = set()
        self._reported: set[str] = set()

    def prepared(self, stage: Stage, alone: bool = False) -> Stage | None:
        """The stage with all on Dask, and in one piece where a step needs that."""
        if isinstance(stage.node, Source):
            return stage
        stage = all_lazy(stage, self.sends)
        split = _split(stage)
        if split and not _runs_split(stage, split, alone):
            if not all(_is_local(node) for node in split):
                return None
            stage = self._in_one_piece(stage, split)
        if alone or _excess(stage) <= MOST_WORK:
            return stage
        return None

    def is_closed(self, stage: Stage) -> bool:
        """Where partial results are added up, or a running value is passed on."""
        return bool(_split(stage))

    def is_cheap(self, stage: Stage) -> bool:
        """Where all steps work sample by sample."""
        return all(
            isinstance(node, Source)
            or (isinstance(node, Apply) and isinstance(node.window, Pointwise))
            for node in nodes(stage.node)
        )

    def compute(self, stage: Stage) -> Array:
        """The result, as a Dask array."""
        stage = all_lazy(stage, self.sends)
        node = stage.node
        split = _split(stage).get(node)
        for source in node.sources:  # rechunks that this stage is the first to use
            if source in self._pending:
                self.reports.append(self._pending.pop(source))
        if split and isinstance(node, Apply) and isinstance(node.window, Permutation):
            result = _reordered(node, stage.arrays)
            report = _report_reordered(node, stage.arrays, result, split)
            self._add(result.data.name, report)
            return result
        layer = _Layer(stage)
        how = ""
        if not split:
            layer.piecewise()
        elif isinstance(node, Apply) and node.window.scans(node.adjoint) is not None:
            layer.scan(node, *split)
            how = "running sum"
        else:
            assert isinstance(node, Apply)
            layer.add_up(node, split)
            how = "in pieces, added up"
        self._add(layer.name, layer.report(split or frozenset(), how))
        return layer.array()

    def _add(self, name: str, report: Report) -> None:
        """Note what a stage adds: nothing where the very same one is there already."""
        if name not in self._reported:
            self._reported.add(name)
            self.reports.append(report)

    def _in_one_piece(self, stage: Stage, split: dict[Node, frozenset[Hashable]]) -> Stage:
        """The stage on sources that have the dims in one piece that steps need whole."""
        arrays = dict(stage.arrays)
        new: dict[Node, Source] = {}
        for top, cut in split.items():
            assert isinstance(top, Apply)
            dims = top.window.whole(top.adjoint)  # those in one piece stay so
            for node in nodes(top):
                if isinstance(node, Source) and node in arrays and node not in new:
                    array = in_one_piece(arrays[node], dims)
                    new[node] = Source.of(array, node.places)
                    known = {arrays[node].data.name, *self._rechunked}
                    if array.data.name not in known:
                        self._rechunked.add(array.data.name)
                        report = _report_rechunk(arrays[node], array, cut)
                        self._pending[new[node]] = report
                    arrays[new[node]] = array
        return Stage(replaced(stage.node, new.get), arrays)


# --- what a stage needs before it runs ------------------------------------------------


def all_lazy(stage: Stage, sends: bool) -> Stage:
    """The stage with all its sources on Dask, weights that are lazy or large too."""
    arrays = {source: like_weights(a, stage.node) for source, a in stage.arrays.items()}

    def weighed(node: Node) -> Node | None:
        if not isinstance(node, Apply):
            return None
        weights: list[Any] = []
        for weight in node.step.weights:
            array = None
            if isinstance(weight, Array) and is_lazy(weight.data):
                array = Array(without_empty_chunks(weight.data), weight.dims)
            elif isinstance(weight, Array) and weight.data.nbytes >= LARGE:
                array = Array(at_hand(weight.data, sends), weight.dims)
            if array is not None:
                weight = Source.of(array, whole=not is_lazy(weight.data))
                arrays[weight] = array
            weights.append(weight)
        if all(a is b for a, b in zip(weights, node.step.weights, strict=True)):
            return None
        step = dataclasses.replace(node.step, weights=tuple(weights))
        return Apply(step, node.adjoint, replaced(node.child, weighed), node.factor)

    return Stage(replaced(stage.node, weighed), arrays)


def _chunks(node: Node, arrays: dict[Source, Array]) -> Chunks:
    """The chunks of what a plan makes."""
    if isinstance(node, Source):
        array = arrays[node]
        return dict(zip(array.dims, array.data.chunks, strict=True))
    chunks = dict(node.chunks([_chunks(child, arrays) for child in node.children]))
    if isinstance(node, Apply):
        for weight in node.step.weights:
            if isinstance(weight, Source):
                new = {dim for dim in weight.dims if dim not in node.child.sizes}
                given = _chunks(weight, arrays)
                chunks.update({dim: given[dim] for dim in new if dim in chunks})
    return chunks


def _split(stage: Stage) -> dict[Node, frozenset[Hashable]]:
    """The steps that need whole dims which come in several chunks, and these dims."""
    result: dict[Node, frozenset[Hashable]] = {}
    for node in nodes(stage.node):
        if isinstance(node, Apply) and (whole := node.window.whole(node.adjoint)):
            chunks = _chunks(node.child, stage.arrays)
            dims = frozenset(dim for dim in whole if len(chunks[dim]) > 1)
            if dims:
                result[node] = dims
    return result


def _runs_split(stage: Stage, split: dict[Node, frozenset[Hashable]], alone: bool) -> bool:
    """Whether the topmost step, and no other, can do with several chunks."""
    node = stage.node
    if set(split) != {node} or not isinstance(node, Apply):
        return False
    if isinstance(node.window, Permutation):
        return isinstance(node.child, Source) and node.factor == 1.0
    scans = node.window.scans(node.adjoint) is not None
    return scans or split[node] <= node.window.adds(node.adjoint)


def _is_local(node: Node) -> bool:
    """Whether all below a node works on samples that lie close together."""
    return all(
        n is node or not isinstance(n, Apply) or isinstance(n.window, (Pointwise, Stencil))
        for n in nodes(node)
    )


def _excess(stage: Stage) -> float:
    """How many times the work is done where pieces overlap."""
    node = stage.node
    chunks = _chunks(node, stage.arrays)
    want = {dim: Grid(chunks[dim])[len(chunks[dim]) // 2] for dim in node.dims}
    share = volume(want, node.dims) / node.size
    once = sum(n.size for n in nodes(node) if not isinstance(n, Source))
    return work(node, want) / (share * once)


def _reordered(node: Apply, arrays: dict[Source, Array]) -> Array:
    """A permutation of samples, as Dask does it."""
    assert isinstance(node.child, Source) and isinstance(node.window, Permutation)
    array = arrays[node.child]
    (dim,) = node.window.domain
    index = [slice(None)] * array.data.ndim
    index[array.dims.index(dim)] = node.window.order(node.adjoint)  # type: ignore[call-overload]
    data = array.data[tuple(index)]
    return Array(data.astype(node.dtype, copy=False), array.dims)


def _report_rechunk(before: Array, after: Array, dims: frozenset[Hashable]) -> Report:
    return Report(
        node=None,
        dims=after.dims,
        pieces=math.prod(after.data.numblocks),
        tasks={"tasks": _new_tasks(before, after)},
        bytes_moved=before.data.nbytes,
        peak_bytes=2 * _chunk_bytes(after),
        split=dims & set(after.dims),
    )


def _report_reordered(
    node: Apply, arrays: dict[Source, Array], after: Array, split: frozenset[Hashable]
) -> Report:
    assert isinstance(node.child, Source)
    before = arrays[node.child]
    return Report(
        node=node,
        dims=before.dims,
        pieces=math.prod(after.data.numblocks),
        tasks={"tasks": _new_tasks(before, after)},
        bytes_moved=before.data.nbytes,
        peak_bytes=_chunk_bytes(before) + _chunk_bytes(after),
        split=split,
        how="reordered",
    )


def _new_tasks(before: Array, after: Array) -> int:
    """Tasks that make one Dask array from another."""
    from dask.task_spec import Task

    given = before.data.dask
    return sum(
        isinstance(node, Task) for key, node in after.data.dask.items() if key not in given
    )


def _chunk_bytes(array: Array) -> int:
    """Bytes of the largest chunk."""
    return int(math.prod(map(max, array.data.chunks)) * array.data.dtype.itemsize)


# --- graphs ---------------------------------------------------------------------------


class _Part(NamedTuple):
    """The part of one chunk along one dim that a task needs; `cut` is None for all."""

    chunk: int
    cut: tuple[int, int] | None
    share: float
    start: int
    chunk_start: int

    @classmethod
    def of(cls, grid: Grid, i: int, cut: slice | None) -> _Part:
        """The part `cut` of chunk `i`."""
        start = grid.starts[i]
        if cut is None:
            return cls(i, None, 1.0, start, start)
        share = (cut.stop - cut.start) / grid.chunks[i]
        return cls(i, (cut.start, cut.stop), share, start + cut.start, start)


class _Layer:
    """The tasks of one stage."""

    def __init__(self, stage: Stage) -> None:
        from dask.task_spec import DataNode
        from dask.tokenize import tokenize

        node = stage.node
        self.chunks = _chunks(node, stage.arrays)
        self.node, self._stage = node, stage
        self.sources = node.sources
        self.arrays = [stage.arrays[source] for source in self.sources]
        self.slots = {source: slot for slot, source in enumerate(self.sources)}
        names = {s: (a.data.name, a.dims) for s, a in stage.arrays.items()}
        self.name = f"{_named(node)}-{tokenize(_token(node, names), self.chunks)}"
        self.grids = {dim: Grid(sizes) for dim, sizes in self.chunks.items()}
        self._given = [
            dict(zip(a.dims, map(Grid, a.data.chunks), strict=True)) for a in self.arrays
        ]
        self._covers: dict[Any, list[_Part]] = {}
        plan_key = f"{self.name}-plan"
        self.tasks: dict[Any, Any] = {plan_key: DataNode(plan_key, slim(node))}
        self.plan_key = plan_key
        self._kinds: collections.Counter[str] = collections.Counter()
        self._readers: collections.Counter[Any] = collections.Counter()
        self._pairs: dict[Any, dict[Any, int]] = {}
        self._scratches: dict[tuple[int, ...], int] = {}
        self._moved = 0
        self._held: list[tuple[int, set[Any]]] = []  # bytes, and pairs of strips

    def report(self, split: frozenset[Hashable], how: str) -> Report:
        """What the layer adds to the graph."""
        ends = (n for n in nodes(self.node) if isinstance(n, Source))
        first = next((end.dims for end in ends), ())
        pairs = {key: sum(pair.values()) for key, pair in self._pairs.items()}
        strips = [sum(pairs[key] for key in keys) for _, keys in self._held]
        tasks = zip(self._held, strips, strict=True)
        return Report(
            node=self.node,
            dims=first,
            pieces=math.prod(map(len, self.grids.values())),
            tasks=dict(self._kinds),
            bytes_moved=self._moved + sum(strips),
            peak_bytes=max((held + more for (held, _), more in tasks), default=0),
            split=split,
            how=how,
        )

    def array(self) -> Array:
        """The lazy result."""
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph

        graph = HighLevelGraph.from_collections(
            self.name, self.tasks, [array.data for array in self.arrays]
        )
        chunks = tuple(self.chunks[dim] for dim in self.node.dims)
        data = da.Array(graph, self.name, chunks, dtype=self.node.dtype)
        return Array(data, self.node.dims)

    def piecewise(self) -> None:
        """One task per chunk."""
        node = self.node
        for index, want in self._outputs():
            self._task("chunks", (self.name, *index), _piece, want, reads(node, want))

    def scan(self, node: Apply, dim: Hashable) -> None:
        """One task per chunk, and a running value from chunk to chunk."""
        at = node.dims.index(dim)
        outputs = dict(self._outputs())
        carries: dict[Index, list[Any]] = {index: [] for index in outputs}
        for index in sorted(outputs, key=lambda i: i[at], reverse=node.adjoint):
            want = outputs[index]
            part = {dim: want[dim]}
            needed = [*_reads_part(node, want, part)]
            step = 1 if node.adjoint else -1
            before = (*index[:at], index[at] + step, *index[at + 1 :])
            if before in outputs:
                total = (f"{self.name}-total", *before)
                carries[index] = [total]
                if carries[before]:
                    carry = (f"{self.name}-carry", *index)
                    self._sum(carry, [total, *carries[before]])
                    carries[index] = [carry]
            last = 0 if node.adjoint else len(self.grids[dim]) - 1
            if index[at] != last:
                total = (f"{self.name}-total", *index)
                self._task("totals", total, _total, want, needed, part)
            self._task(
                "chunks", (self.name, *index), _piece, want, needed, part, carries[index]
            )

    def add_up(self, node: Apply, dims: frozenset[Hashable]) -> None:
        """Partial results of the chunks along `dims`, added up some at a time."""
        given = _chunks(node.child, self._stage.arrays)
        cuts = {dim: given[dim] for dim in node.child.dims if dim in dims}
        if node.window.joins:
            cuts = self._joined(node, cuts)
        grids = {dim: Grid(sizes) for dim, sizes in cuts.items()}
        combinations = [*itertools.product(*(range(len(g)) for g in grids.values()))]
        for index, want in self._outputs():
            partial = []
            for cut in combinations:
                part = {dim: grids[dim][i] for dim, i in zip(grids, cut, strict=True)}
                key = (f"{self.name}-partial", *index, *cut)
                self._task(
                    "partial results",
                    key,
                    _piece,
                    want,
                    _reads_part(node, want, part),
                    part,
                )
                partial.append(key)
            level = 0
            while len(partial) > ADDED_AT_ONCE:
                level += 1
                starts = range(0, len(partial), ADDED_AT_ONCE)
                groups = [partial[i : i + ADDED_AT_ONCE] for i in starts]
                partial = []
                for i, group in enumerate(groups):
                    key = (f"{self.name}-sum-{level}", *index, i)
                    self._sum(key, group)
                    partial.append(key)
            self._sum((self.name, *index), partial)

    def _joined(
        self, node: Apply, cuts: dict[Hashable, tuple[int, ...]]
    ) -> dict[Hashable, tuple[int, ...]]:
        """Chunks that are taken together, as long as a task reads less than it makes."""
        outputs = [want for _, want in self._outputs()]
        want = outputs[0]
        made = volume(want, node.dims) * node.dtype.itemsize
        needed = _reads_part(node, want, {})
        read = sum(volume(part, s.dims) * s.dtype.itemsize for s, part in needed)
        left = max(-(-read // made), -(-LEAST_TASKS // len(outputs)))
        joined = {}
        for dim, sizes in cuts.items():
            count = min(len(sizes), left)
            ends = [len(sizes) * i // count for i in range(count + 1)]
            joined[dim] = tuple(sum(sizes[a:b]) for a, b in itertools.pairwise(ends))
            left = max(left // count, 1)
        return joined

    def _outputs(self) -> Iterable[tuple[Index, dict[Hashable, slice]]]:
        """Indices and windows of all chunks of the result."""
        dims = self.node.dims
        pieces = [
            [(i, self.grids[dim][i]) for i in range(len(self.grids[dim]))] for dim in dims
        ]
        for combination in itertools.product(*pieces):
            index = tuple(i for i, _ in combination)
            yield index, {d: p for d, (_, p) in zip(dims, combination, strict=True)}

    def _sum(self, key: Any, keys: Iterable[Any]) -> None:
        from dask.task_spec import Task, TaskRef

        self._kinds["sums"] += 1
        self.tasks[key] = Task(key, _added, *map(TaskRef, keys))

    def _task(
        self,
        kind: str,
        key: Any,
        function: Any,
        want: Window,
        needed: Iterable[tuple[Source, Window]],
        part: Window | None = None,
        carries: Sequence[Any] = (),
    ) -> None:
        from dask.task_spec import Task, TaskRef

        layout, pieces, held = self._gathered(needed)
        made = volume(want, self.node.dims) * self.node.dtype.itemsize
        self._kinds[kind] += 1
        pairs = self._pairs.keys() & pieces
        self._held.append((held + made + self._scratch(want, part), pairs))
        ranges = tuple((want[d].start, want[d].stop) for d in self.node.dims)
        self.tasks[key] = Task(
            key,
            function,
            TaskRef(self.plan_key),
            ranges,
            layout,
            None if part is None else tuple((d, p.start, p.stop) for d, p in part.items()),
            *map(TaskRef, (*carries, *pieces)),
        )

    def _gathered(
        self, needed: Iterable[tuple[Source, Window]]
    ) -> tuple[tuple[Any, ...], list[Any], int]:
        """The pieces that a task needs: of which source and where, keys, and bytes."""
        chosen: dict[tuple[int, Index], dict[Any, Any]] = {}
        for source, window in needed:
            slot = self.slots[source]
            if source.whole:
                index = (0,) * len(source.dims)
                chosen[slot, index] = {None: index}
                continue
            covers = [self._cover(slot, dim, window[dim]) for dim in source.dims]
            for parts in itertools.product(*covers):
                index = tuple(part.chunk for part in parts)
                found = chosen.setdefault((slot, index), {})
                if None in found:
                    continue
                if math.prod(part.share for part in parts) > LARGEST_CUT:
                    found.clear()
                    found[None] = tuple(part.chunk_start for part in parts)
                else:
                    cuts = tuple(part.cut for part in parts)
                    found[cuts] = tuple(part.start for part in parts)
        layout, keys, held = [], [], 0
        for (slot, index), found in chosen.items():
            grids = self._given[slot]
            for cuts, starts in found.items():
                count = self.sources[slot].dtype.itemsize
                for n, dim in enumerate(self.sources[slot].dims):
                    cut = None if cuts is None else cuts[n]
                    count *= grids[dim].chunks[index[n]] if cut is None else cut[1] - cut[0]
                key, place = self._key(slot, index, cuts, count)
                layout.append((slot, starts, place))
                keys.append(key)
                if place is not None or self.sources[slot].whole:
                    continue  # pairs are weighed when complete, weights are there anyway
                held += count
                self._readers[key] += 1
                if cuts is not None or self._readers[key] > 1:
                    self._moved += count
        return tuple(layout), keys, held

    def _scratch(self, want: Window, part: Window | None) -> int:
        """Bytes of the results on the way in a task."""
        node = self.node
        if all(isinstance(child, Source) for child in node.children):
            return 0
        shape = shape_of(want, node.dims)
        if shape not in self._scratches:
            tile = want if part else max(_tiles(node, dict(want)), key=_size(node))
            self._scratches[shape] = scratch_bytes(node, tile)
        return self._scratches[shape]

    def _cover(self, slot: int, dim: Hashable, extent: slice) -> list[_Part]:
        """The chunks along one dim that hold a range."""
        key = (slot, dim, extent.start, extent.stop)
        if key not in self._covers:
            grid = self._given[slot][dim]
            self._covers[key] = [_Part.of(grid, i, cut) for i, cut in grid.cover(extent)]
        return self._covers[key]

    def _key(
        self, slot: int, index: Index, cuts: Any, count: int
    ) -> tuple[Any, int | None]:
        """The key of a chunk, or of slices of it, which are made where they are new.

        Slices from both ends of a chunk are one value; then comes which of them it is.
        """
        from dask.task_spec import Task, TaskRef

        whole = TaskRef((self.arrays[slot].data.name, *index))
        if cuts is None:
            return whole.key, None
        name = f"{self.name}-strip-{slot}"
        axis = self._thin_along(slot, index, cuts)
        if axis is not None:
            key: Any = (name, *index, axis)
            pair = self._pairs.setdefault(key, {})
            at_start = [known[axis][0] == 0 for known in pair]
            if cuts in pair or (cuts[axis][0] == 0) not in at_start:
                pair[cuts] = count
                self._kinds["strips"] += key not in self.tasks
                self.tasks[key] = Task(key, strips, whole, tuple(pair))
                return key, list(pair).index(cuts)
        key = (name, *index, *(":" if c is None else f"{c[0]}:{c[1]}" for c in cuts))
        if key not in self.tasks:
            self._kinds["strips"] += 1
            self.tasks[key] = Task(key, strip, whole, cuts)
        return key, None

    def _thin_along(self, slot: int, index: Index, cuts: Any) -> int | None:
        """The only axis along which a slice is cut, if it is a thin one from an end."""
        axes = [axis for axis, cut in enumerate(cuts) if cut is not None]
        if len(axes) != 1:
            return None
        (axis,) = axes
        dim = self.sources[slot].dims[axis]
        size = self._given[slot][dim].chunks[index[axis]]
        low, high = cuts[axis]
        at_end = low == 0 or high == size
        return axis if at_end and high - low <= THIN_CUT * size else None


def _size(node: Node) -> Callable[[Window], int]:
    return lambda window: volume(window, node.dims)


def _reads_part(node: Apply, want: Window, part: Window) -> Iterable[tuple[Source, Window]]:
    """What a piece of a result needs of a part of what its topmost step sums over."""
    have = {**node.needs(want), **part}
    yield from node.weighs(have, want)
    yield from reads(node.child, have)


def slim(node: Node) -> Node:
    """A plan as tasks need it: without what only names it."""

    def slim(n: Node) -> Node | None:
        if not isinstance(n, Apply):
            return None
        step = dataclasses.replace(n.step, token=None)
        return Apply(step, n.adjoint, replaced(n.child, slim), n.factor)

    return replaced(node, slim)


def _token(node: Node, names: dict[Source, Any]) -> Any:
    """What tells a plan and its arrays from others."""
    if isinstance(node, Source):
        return names[node]
    below = [_token(child, names) for child in node.children]
    if not isinstance(node, Apply):
        return ("total", below)
    assert node.step.token is not None
    return (node.step.token(), node.adjoint, node.factor, below)


def _named(node: Node) -> str:
    """What tasks are called."""
    if isinstance(node, Apply):
        inner = node.child
        name = node.step.name + (".H" if node.adjoint else "")
        if isinstance(inner, Source):
            return name
        return f"{name} @ {_named(inner)}" if len(name) < 60 else f"{name} @ …"
    if isinstance(node, Total):
        return "sum"
    return "copy"


# --- what tasks run -------------------------------------------------------------------


def _piece(
    node: Node,
    ranges: Ranges,
    layout: Layout,
    part: Sequence[tuple[Hashable, int, int]] | None,
    *arrays: NDArray,
) -> NDArray:
    """A chunk of the result, or what a part of the input adds to it."""
    want = _window(node, ranges)
    carry = arrays[0] if len(arrays) > len(layout) else None
    readers = _readers(node, layout, arrays[len(arrays) - len(layout) :])
    out = np.empty(shape_of(want, node.dims), node.dtype)
    with threads.limited(node):
        if part is not None:
            window = {dim: slice(low, high) for dim, low, high in part}
            evaluate(node, want, readers, out, Scratch(), window, carry)
        else:
            origin = [low for low, _ in ranges]
            fill(node, _tiles(node, want, readers), readers, out, origin)
    return out


def _total(
    node: Node,
    ranges: Ranges,
    layout: Layout,
    part: Sequence[tuple[Hashable, int, int]],
    *arrays: NDArray,
) -> NDArray:
    """What a chunk adds to a running value: one sample along the axis."""
    assert isinstance(node, Apply) and node.step.totals is not None
    want = _window(node, ranges)
    (dim, low, high), scratch = part[0], Scratch()
    readers = _readers(node, layout, arrays)
    block = block_of(node, want, readers, scratch, {dim: slice(low, high)})
    shape = [1 if d == dim else want[d].stop - want[d].start for d in node.dims]
    # Running values are added up many times: in double precision.
    dtype = node.step.dtypes(node.child.dtype, node.adjoint)[1]
    out = np.empty(shape, np.result_type(dtype, np.float64))
    node.step.totals[node.adjoint](block, out)
    return out


def _window(node: Node, ranges: Ranges) -> dict[Hashable, slice]:
    return {dim: slice(*extent) for dim, extent in zip(node.dims, ranges, strict=True)}


def _readers(
    node: Node,
    layout: Layout,
    arrays: Sequence[Any],
) -> Readers:
    sources = node.sources  # in the order in which the layer has them
    pieces: dict[Source, list[Piece]] = {}
    for (slot, starts, place), array in zip(layout, arrays, strict=True):
        source = sources[slot]
        data = np.asarray(array if place is None else array[place])
        piece = Piece(data, source.dims, starts)
        pieces.setdefault(source, []).append(piece)
    return {
        source: found[0] if len(found) == 1 else Pieces(found)
        for source, found in pieces.items()
    }


def _tiles(
    node: Node, want: dict[Hashable, slice], readers: Readers | None = None
) -> list[Window]:
    """A chunk cut into tiles.

    A step alone works on what lies inside without its halo, so that it reads the chunk
    itself; what a chain needs is put together tile by tile, in cache.
    """
    if volume(want, node.dims) * node.dtype.itemsize <= SMALL_CHUNK:
        return [want]
    if not reads_sources(node):
        return tiles_of(node, want)
    return list(_cut_at(want, _borders(node, want, readers or {})))


def _borders(
    node: Node, want: dict[Hashable, slice], readers: Readers
) -> dict[Hashable, tuple[int, int]]:
    """Along dims with neighbours: from where to where a piece reads one chunk only."""
    extra = halo(node)
    parts = [
        p for r in readers.values() for p in (r.pieces if isinstance(r, Pieces) else [])
    ]
    borders = {}
    for dim in node.dims:
        ends = [part.extent(dim) for part in parts if dim in part.dims]
        before = max((want[dim].start - low for low, _ in ends), default=0)
        after = max((high - want[dim].stop for _, high in ends), default=0)
        before, after = (min(max(n, 0), extra[dim]) for n in (before, after))
        if 0 < before + after < want[dim].stop - want[dim].start:
            borders[dim] = (want[dim].start + before, want[dim].stop - after)
    return borders


def _cut_at(tile: Window, borders: dict[Hashable, tuple[int, int]]) -> Iterable[Window]:
    cuts = []
    for dim, piece in tile.items():
        inside = (at for at in borders.get(dim, ()) if piece.start < at < piece.stop)
        ends = [piece.start, *inside, piece.stop]
        cuts.append([(dim, slice(*pair)) for pair in itertools.pairwise(ends)])
    return map(dict, itertools.product(*cuts))


def _added(first: NDArray, *others: NDArray) -> NDArray:
    """The sum of partial results."""
    if not others:
        return first
    result = first + others[0]
    for other in others[1:]:
        result += other
    return result
