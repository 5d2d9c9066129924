"""EXPLAIN: what a plan costs, read from the very graph (or tiles) that would run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from xlops.engine import threads
from xlops.engine.graph import Graphs, Report
from xlops.engine.run import stages_for
from xlops.engine.stages import Stage
from xlops.engine.tiles import Tiles, in_tiles, scratch_bytes
from xlops.markup import page
from xlops.windows.pieces import Array
from xlops.windows.plan import Apply, Node, Plan, Source, halo, nodes, reads

__all__ = ["Explanation", "Row", "chunks_for", "explain"]

# Chunks of this size are large against what a task costs, and small against memory.
CHUNK_BYTES = 2**25
# A dim is cut into pieces at least this many times as long as its halo.
LENGTH_TO_HALO = 16


@dataclasses.dataclass(frozen=True)
class Row:
    """One stage of a plan.

    Parameters
    ----------
    name : str
        What runs: steps in the order of the product, the last one first; or ``rechunk``.
    dims_in, dims_out : tuple of Hashable
        Dims of what it reads and of what it makes.
    windows : mapping of Hashable to str
        What a piece needs beyond its own samples, by dim: ``"halo 2 + 2"``, ``"whole"``,
        ``"in pieces, added up"`` or ``"running sum"``.
    pieces : int
        Chunks of the result (tiles on NumPy).
    tasks : mapping of str to int
        Dask tasks by kind: ``chunks``, ``strips``, ``partial results``, ….
    bytes_moved : int
        Bytes that tasks read beyond one chunk of each array: strips of neighbours, and
        chunks that other tasks read too.
    peak_bytes : int
        Bytes that one task holds at most: what it reads and makes, and results on the
        way. On NumPy: what all threads hold together.
    """

    name: str
    dims_in: tuple[Hashable, ...]
    dims_out: tuple[Hashable, ...]
    windows: Mapping[Hashable, str]
    pieces: int
    tasks: Mapping[str, int]
    bytes_moved: int
    peak_bytes: int


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What applying an operator costs: one row for each stage, in the order they run.

    Parameters
    ----------
    title : str
        The operator.
    where : str
        What it would run on.
    rows : tuple of Row
        The stages.
    units : str
        What becomes of the unit.
    """

    title: str
    where: str
    rows: tuple[Row, ...]
    units: str = ""

    def with_units(self, units: str) -> Explanation:
        """The same, and what becomes of the unit."""
        return dataclasses.replace(self, units=units)

    @property
    def tasks(self) -> int:
        """Number of Dask tasks, those of the input not counted."""
        return sum(sum(row.tasks.values()) for row in self.rows)

    @property
    def bytes_moved(self) -> int:
        """Bytes that tasks read beyond one chunk of each array."""
        return sum(row.bytes_moved for row in self.rows)

    @property
    def peak_bytes(self) -> int:
        """Bytes that the largest task holds at most."""
        return max((row.peak_bytes for row in self.rows), default=0)

    def _cells(self) -> list[list[str]]:
        lazy = bool(self.tasks)
        head = ["", "step", "dims", "needs", "chunks" if lazy else "tiles"]
        head += ["tasks", "moved", "task holds"] if lazy else ["holds"]
        table = [head]
        for number, row in enumerate(self.rows, 1):
            needs = ", ".join(f"{dim}: {text}" for dim, text in row.windows.items())
            same = row.dims_in == row.dims_out
            dims = _listed(row.dims_out)
            if not same:
                dims = f"{_listed(row.dims_in)} → {dims}"
            cells = [str(number), row.name, dims, needs or "–", str(row.pieces)]
            if lazy:
                kinds = " + ".join(f"{n} {kind}" for kind, n in row.tasks.items())
                cells += [kinds, _bytes(row.bytes_moved)]
            table.append([*cells, _bytes(row.peak_bytes)])
        return table

    def _summary(self) -> list[str]:
        parts = [f"{self.title} on {self.where}"]
        if self.tasks:
            parts += [f"{self.tasks} tasks", f"{_bytes(self.bytes_moved)} moved"]
        if self.units:
            parts.append(self.units)
        return parts

    def __repr__(self) -> str:
        table = self._cells()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in table
        ]
        return "\n".join(["; ".join(self._summary()), *(line.rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        facts = [f"on {self.where}", *self._summary()[1:]]
        shown = (page.span(fact, "faint") for fact in facts)
        head = page.head("Explanation", self.title, *shown)
        return page.page(repr(self), head + page.table(header, rows, len(header) - 4))


def explain(plan: Plan, arrays: dict[Source, Array], title: str) -> Explanation:
    """What running a plan on these arrays would do; reads no data."""
    runner = stages_for(plan, arrays)
    if isinstance(runner, Graphs):
        runner.sends = False
        runner.run(plan)
        where = "Dask"
        rows = [_graph_row(report) for report in runner.reports]
    else:
        dry = _Dry(arrays)
        dry.run(plan)
        workers = threads.count()
        where = f"NumPy, {workers} thread{'s' if workers > 1 else ''}"
        rows = dry.rows
    return Explanation(title, where, tuple(rows))


class _Dry(Tiles):
    """Goes through the stages on NumPy without computing."""

    def __init__(self, arrays: dict[Source, Array]) -> None:
        super().__init__(arrays)
        self.rows: list[Row] = []

    def compute(self, stage: Stage) -> Array:
        """Stands in for the result: its shape, no memory."""
        node = stage.node
        tiles = in_tiles(node)
        held = scratch_bytes(node, tiles[0]) * min(threads.count(), len(tiles))
        ends = [n for n in nodes(node) if isinstance(n, Source)]
        held += sum(n.size * n.dtype.itemsize for n in (node, *ends))
        inside = ends[0].dims if ends else ()
        name = named(node)
        row = Row(name, inside, node.dims, _windows(node, {}), len(tiles), {}, 0, held)
        self.rows.append(row)
        return Array(np.broadcast_to(np.zeros((), node.dtype), node.shape), node.dims)


def _graph_row(report: Report) -> Row:
    node = report.node
    if node is None:
        return Row(
            "rechunk",
            report.dims,
            report.dims,
            dict.fromkeys(report.split, "whole"),
            report.pieces,
            {"tasks": report.tasks["tasks"]},
            report.bytes_moved,
            report.peak_bytes,
        )
    return Row(
        named(node),
        report.dims,
        node.dims,
        _windows(node, dict.fromkeys(report.split, report.how)),
        report.pieces,
        report.tasks,
        report.bytes_moved,
        report.peak_bytes,
    )


def named(node: Node) -> str:
    """The steps of a plan in words, as products and sums."""
    if isinstance(node, Source):
        return ""
    below = [named(child) for child in node.children]
    if isinstance(node, Apply):
        own = node.step.name + (".H" if node.adjoint else "")
        if not below[0]:
            return own
        inner = f"({below[0]})" if " + " in below[0] else below[0]
        return f"{own} @ {inner}"
    return " + ".join(text or "x" for text in below)


def _windows(node: Node, split: Mapping[Hashable, str]) -> dict[Hashable, str]:
    """What a piece needs beyond its own samples, by dim of what is read."""
    result: dict[Hashable, str] = {}
    middle = {d: slice(n // 2, n // 2 + 1) for d, n in node.sizes.items()}
    for source, window in reads(node, middle):
        for dim, size in () if source.whole else source.sizes.items():
            piece = window[dim]
            # A dim that is gone may only have another name now.
            own = middle.get(dim, slice(size // 2, size // 2 + 1))
            made = node.sizes.get(dim, size)
            before, after = own.start - piece.start, piece.stop - own.stop
            if dim in split:
                result[dim] = split[dim]
            elif piece.stop - piece.start == size > (1 if dim in node.sizes else 0):
                result[dim] = "whole"
            elif made == size and (before > 0 or after > 0):
                text = f"halo {max(before, 0)} + {max(after, 0)}"
                result[dim] = max(result.get(dim, ""), text)
            elif made != size:
                result.setdefault(dim, "selection")
    return result


def _listed(dims: Sequence[Hashable]) -> str:
    return f"({', '.join(map(str, dims))})"


def _bytes(count: float) -> str:
    for unit in ("B", "kiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"


def chunks_for(plan: Plan, source: Source, limit: int = CHUNK_BYTES) -> dict[Hashable, int]:
    """Sizes of chunks of an array that would cost least.

    Dims that are needed whole are not cut, dims that pass through are cut before those
    with a halo.
    """
    ends = list(plan.values()) if isinstance(plan, dict) else [plan]
    extra = dict.fromkeys(source.dims, 0)
    for end in ends:
        reach = halo(end)
        middle = {d: slice(n // 2, n // 2 + 1) for d, n in end.sizes.items()}
        for found, window in reads(end, middle):
            if found is source:
                for dim in source.dims:
                    needed = window[dim].stop - window[dim].start - 1
                    whole = reach.get(dim, needed) >= source.sizes[dim] - 1
                    extra[dim] = max(extra[dim], source.sizes[dim] if whole else needed)
    sizes = dict(source.sizes)
    for dim in sorted(source.dims, key=lambda d: extra[d] / source.sizes[d]):
        bytes_ = math.prod(sizes.values()) * source.dtype.itemsize
        if bytes_ <= limit or extra[dim] >= source.sizes[dim]:
            break
        least = max(1, LENGTH_TO_HALO * extra[dim])
        if least < sizes[dim]:
            most = max(int(limit / (bytes_ / sizes[dim])), least)
            parts = -(-sizes[dim] // most)
            sizes[dim] = -(-sizes[dim] // parts)
    return sizes
