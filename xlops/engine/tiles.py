"""Tiles: plans on NumPy arrays, in pieces that stay in cache, side by side on threads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from xlops.engine import threads
from xlops.engine.evaluate import Piece, Readers, Scratch, evaluate
from xlops.engine.stages import Stage, Stages
from xlops.windows.pieces import Array, NDArray, Window, full
from xlops.windows.plan import Apply, Node, Source, halo, nodes, uncut, volume

__all__ = ["Tiles", "fill", "tiles_of"]

# Results on the way should stay in the cache of one core; a step alone streams.
CHAIN_BYTES = 2**20
STEP_BYTES = 2**22
# Smaller work is not worth a thread.
SMALL_BYTES = 2**20
# Steps are kept apart where not even one piece of their results would stay in cache.
PIECE_BYTES = 2**23


class Tiles(Stages):
    """Runs plans on NumPy arrays."""

    def prepared(self, stage: Stage, alone: bool = False) -> Stage | None:
        """The stage itself, unless its smallest pieces leave the cache."""
        if alone or isinstance(stage.node, Source) or _bytes(stage.node) <= SMALL_BYTES:
            return stage
        if any(isinstance(n, Apply) and n.step.threaded for n in nodes(stage.node)):
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
    everything = full(node.sizes)
    threaded = any(isinstance(n, Apply) and n.step.threaded for n in nodes(node))
    if threaded or _bytes(node) <= SMALL_BYTES:
        evaluate(node, everything, readers, out, Scratch())
        return
    workers = threads.count()
    tiles = tiles_of(node, everything, _target(node, everything, workers))
    if workers == 1 or len(tiles) == 1:
        fill(node, tiles, readers, out)
        return
    # Each thread takes the next tile when it is done with one.
    waiting = iter(tiles)

    def work() -> None:
        fill(node, waiting, readers, out)

    futures = [threads.pool().submit(work) for _ in range(workers - 1)]
    try:
        work()
    finally:
        for future in futures:
            future.result()


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


def _target(node: Node, want: Window, workers: int) -> float:
    alone = all(isinstance(child, Source) for child in node.children)
    limit = STEP_BYTES if alone else CHAIN_BYTES
    return min(limit, footprint(node, want) / (4 * workers))


def tiles_of(node: Node, want: Window, target: float) -> list[Window]:
    """A piece of a plan cut into tiles of about `target` bytes.

    These are the bytes that a tile touches, results on the way included. Dims without a
    halo are cut first, the outermost first, and the last one not into short runs; dims
    with a halo only as far as the tiles do not overlap much.
    """
    sizes = {dim: want[dim].stop - want[dim].start for dim in node.dims}
    fixed, extra = uncut(node), halo(node)
    last: Hashable = node.dims[-1] if node.dims else None
    item: int = node.dtype.itemsize

    def least(dim: Hashable) -> int:
        if dim in fixed:
            return sizes[dim]
        shortest: int = max(1, 512 // item) if dim == last else 1
        return max(shortest, 8 * extra[dim])

    order = sorted(node.dims, key=lambda dim: (extra[dim] > 0, dim == last))
    tile = dict(sizes)
    for dim in order:
        per_sample = footprint(node, _at(want, tile)) / tile[dim]
        if per_sample * tile[dim] <= target:
            break
        count = max(int(target / per_sample), 1)
        # Tiles of one size: as few as keep to the target.
        parts = -(-sizes[dim] // max(count, min(least(dim), sizes[dim])))
        tile[dim] = -(-sizes[dim] // parts)
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


def _at(want: Window, tile: dict[Hashable, int]) -> Window:
    """A tile in the middle of a piece."""
    result = {}
    for dim, size in tile.items():
        start = want[dim].start + (want[dim].stop - want[dim].start - size) // 2
        result[dim] = slice(start, start + size)
    return result


def footprint(node: Node, want: Window) -> float:
    """Bytes that a piece touches: itself, what is on the way to it, what it reads."""
    own = float(volume(want, node.dims) * node.dtype.itemsize)
    if isinstance(node, Source):
        return own
    have = node.needs(want)
    if all(isinstance(child, Source) for child in node.children):
        # Terms of a sum mostly read the same samples.
        return own + max(footprint(child, have) for child in node.children)
    return own + sum(footprint(child, have) for child in node.children)


def _bytes(node: Node) -> float:
    """Bytes of a plan's result and of its sources."""
    ends = [n for n in nodes(node) if isinstance(n, Source)]
    return float(sum(math.prod(n.shape) * n.dtype.itemsize for n in (node, *ends)))
