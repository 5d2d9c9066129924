"""Tiles: plans on NumPy arrays, in pieces that stay in cache, side by side on threads."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from xlops.engine import threads
from xlops.engine.evaluate import Piece, Readers, Scratch, evaluate
from xlops.engine.stages import Stage, Stages
from xlops.windows.lines import Lines
from xlops.windows.pieces import Array, NDArray, Window, full, volume
from xlops.windows.plan import Apply, Node, Source, Total, halo, nodes, uncut
from xlops.windows.rules import Stencil

__all__ = ["Tiles", "fill", "in_tiles", "reads_sources", "scratch_bytes", "tiles_of"]

# Bytes of a tile: where there are results on the way, all of them should stay in cache;
# where there are none, tiles only share out the work.
TILE_BYTES = 2**21
STREAM_BYTES = 2**25
# Memory is read in runs of at least this many bytes.
RUN_BYTES = 2**15
SHORT_RUN_BYTES = 2**8
# A tile is at least this many times as long as what it reads beyond its ends.
LENGTH_TO_HALO = 8
# Smaller work is not worth a thread.
SMALL_BYTES = 2**20
# Bytes of a sample of a table.
TABLE_ITEM = 8
# Steps are kept apart where not even one piece of their results would stay in cache.
PIECE_BYTES = 2**23


class Tiles(Stages):
    """Runs plans on NumPy arrays."""

    def prepared(self, stage: Stage, alone: bool = False) -> Stage | None:
        """The stage itself, unless its smallest pieces leave the cache."""
        if alone or isinstance(stage.node, Source) or _bytes(stage.node) <= SMALL_BYTES:
            return stage
        if threads.blas_shares(stage.node):
            return None  # it uses the threads better by itself
        fixed = uncut(stage.node)
        least = {
            dim: slice(0, size if dim in fixed else 1)
            for dim, size in stage.node.sizes.items()
        }
        return stage if footprint(stage.node, least) <= PIECE_BYTES else None

    def is_closed(self, stage: Stage) -> bool:
        """Never."""
        return False

    def is_cheap(self, stage: Stage) -> bool:
        """Only what is there already."""
        return isinstance(stage.node, Source)

    def compute(self, stage: Stage) -> Array:
        """The result, in a new array."""
        node = stage.node
        out = np.empty(node.shape, node.dtype)
        readers = {s: Piece(a.data, a.dims) for s, a in stage.arrays.items()}
        run(node, readers, out)
        return Array(out, node.dims)


def run(node: Node, readers: Readers, out: NDArray) -> None:
    """Fill an array with all that a plan makes, on as many threads as are worth it."""
    tiles, workers = in_tiles(node), threads.count()
    if workers == 1 or len(tiles) == 1:
        fill(node, tiles, readers, out)
        return
    with threads.limited(node):
        threads.shared(lambda left: fill(node, left, readers, out), tiles, workers)


def in_tiles(node: Node) -> list[Window]:
    """The pieces in which all that a plan makes is made."""
    everything = full(node.sizes)
    if _bytes(node) <= SMALL_BYTES or threads.blas_shares(node):
        return [everything]
    return tiles_of(node, everything, threads.count())


def fill(
    node: Node,
    tiles: Any,
    readers: Readers,
    out: NDArray,
    origin: Sequence[int] | None = None,
) -> None:
    """Fill an array, which starts at `origin` in the whole, tile by tile."""
    scratch = Scratch()
    target = Piece(out, node.dims, None if origin is None else tuple(origin))
    for tile in tiles:
        evaluate(node, tile, readers, target.read(tile, scratch), scratch)
        scratch.cut(0)


def tiles_of(node: Node, want: Window, workers: int = 1) -> list[Window]:
    """A piece of a plan cut into tiles, the outermost dims first.

    Before them come the dims that matrices share with the data, or that tables have: cut
    along others, the same weights would be read for each tile.

    Parameters
    ----------
    node : Node
        The plan.
    want : Window
        The piece.
    workers : int
        Threads that share the tiles.
    """
    sizes = {dim: want[dim].stop - want[dim].start for dim in node.dims}
    fixed = uncut(node)
    chain = Lines.of(node)
    in_lines = chain is not None and chain.streams
    streams = in_lines or (not fixed and reads_sources(node))
    # What sources are read twice costs little, what is computed twice does.
    extra = halo(node)
    if streams and not in_lines and not _works_on_halo(node):
        extra = dict.fromkeys(node.dims, 0)
    item = max(n.dtype.itemsize for n in nodes(node))
    whole = math.prod(sizes.values()) * item
    target = max(STREAM_BYTES if streams else TILE_BYTES, 1)
    if isinstance(node, Total) and node.along is not None:
        target *= sizes[node.along]  # what stays in cache is a piece of one term
    if workers > 1:
        target = min(target, max(whole // (4 * workers), RUN_BYTES))
    tile = dict(sizes)
    inside = itertools.accumulate(sizes.values(), operator.floordiv, initial=whole)
    runs = dict(zip(node.dims, itertools.islice(inside, 1, None), strict=True))
    steps = [n for n in nodes(node) if isinstance(n, Apply)]
    first = frozenset().union(*(n.window.first(n.adjoint) for n in steps))
    for shortest in (RUN_BYTES, SHORT_RUN_BYTES):
        for dim in sorted(node.dims, key=lambda dim: dim not in first):
            bytes_ = math.prod(tile.values()) * item
            least = max(LENGTH_TO_HALO * extra[dim], -(-shortest // runs[dim]), 1)
            if bytes_ > target and dim not in fixed and least < tile[dim]:
                # Tiles of one size: as few as keep to the target.
                most = max(target * tile[dim] // bytes_, least)
                parts = -(-sizes[dim] // most)
                tile[dim] = -(-sizes[dim] // parts)
        if math.prod(tile.values()) * workers <= node.size:
            break  # short runs only where threads would have nothing to do
    cuts = [
        [
            slice(low, min(low + tile[dim], want[dim].stop))
            for low in range(want[dim].start, want[dim].stop, tile[dim])
        ]
        for dim in node.dims
    ]
    return [
        dict(zip(node.dims, pieces, strict=True)) for pieces in itertools.product(*cuts)
    ]


def reads_sources(node: Node) -> bool:
    """Whether nothing is on the way from the sources to a node, or to its terms."""
    terms = node.terms if isinstance(node, Total) else (node,)
    return all(isinstance(n, Source) for term in terms for n in term.children)


def _works_on_halo(node: Node) -> bool:
    return any(
        isinstance(n, Apply) and isinstance(n.window, Stencil) and n.window.works_on_halo
        for n in nodes(node)
    )


def footprint(node: Node, want: Window) -> float:
    """Bytes that a piece touches: itself, what is on the way to it, what it reads."""
    own = float(volume(node.widened(want), node.dims) * node.dtype.itemsize)
    if isinstance(node, Source) or not own:
        return own
    have = node.needs(want)
    if all(isinstance(child, Source) for child in node.children):
        # Terms of a sum mostly read the same samples.
        return own + max(footprint(child, have) for child in node.children)
    return own + sum(footprint(child, have) for child in node.children)


def scratch_bytes(node: Node, want: Window) -> int:
    """Bytes of the results on the way to a piece."""
    if isinstance(node, Source) or not volume(want, node.dims):
        return 0
    chain = Lines.of(node)
    have = node.needs(want) if chain is None else chain.needs(want)

    def kept(child: Node) -> int:
        if isinstance(child, Source):
            return 0
        own = volume(child.widened(have), child.dims)
        return own * child.dtype.itemsize + scratch_bytes(child, have)

    if chain is not None:
        return kept(chain.base)  # and some lines
    if not isinstance(node, Total):
        return sum(map(kept, node.children))
    # Terms come one after the other, the first one where the sum is to be.
    together = node.banded[1]
    others = [term for term in node.terms if term not in together]
    first = 0 if together else scratch_bytes(others[0], have)
    return max([first, *map(kept, others if together else others[1:])])


def _bytes(node: Node) -> float:
    """Bytes of a plan's result, of its sources, and of tables that samples land by."""
    ends = [n for n in nodes(node) if isinstance(n, Source)]
    tables = [n.window.samples for n in nodes(node) if isinstance(n, Apply)]
    arrays = sum(math.prod(n.shape) * n.dtype.itemsize for n in (node, *ends))
    return float(arrays + TABLE_ITEM * sum(tables))
