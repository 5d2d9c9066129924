"""Evaluation: one piece of a plan, from pieces of arrays, in this thread.

This is what a Dask task runs and what a thread runs on a tile of a NumPy array. Results
on the way live in scratch memory that is used again from tile to tile.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from xlops.windows.banded import Banded
from xlops.windows.lines import Lines
from xlops.windows.pieces import Array, Block, NDArray, Window, shape_of, volume
from xlops.windows.plan import Apply, Node, Source, Total, places
from xlops.windows.weighted import Weighted

__all__ = ["Piece", "Pieces", "Readers", "Scratch", "evaluate"]

# Bytes of a result for which one step reads a chunk and its strips as they are: for less,
# joining them costs less than being told where all of them lie.
BORDER_BYTES = 1 << 18


class Scratch:
    """Memory for results on the way, taken and given back like a stack."""

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)
        self._used = 0
        self._wanted = 0

    def take(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray:
        """An array that is not filled, valid until the stack is cut below it."""
        count = math.prod(shape) * dtype.itemsize
        start = self._used
        self._used += -(-count // 64) * 64  # keep the next one aligned
        self._wanted = max(self._wanted, self._used)
        if self._used > self._memory.size:
            return np.empty(shape, dtype)
        return self._memory[start : start + count].view(dtype).reshape(shape)

    def mark(self) -> int:
        """Where the stack ends now."""
        return self._used

    def cut(self, mark: int) -> None:
        """Give back all that was taken since `mark`."""
        self._used = mark
        if mark == 0 and self._wanted > self._memory.size:
            self._memory = np.empty(self._wanted, dtype=np.uint8)


class Reader(Protocol):
    """Gives pieces of an array."""

    def read(self, window: Window, scratch: Scratch) -> NDArray:
        """The piece, as a view where that is possible."""

    def view(self, window: Window) -> NDArray | None:
        """The piece as a view; None where that is not possible."""


Readers: TypeAlias = Mapping[Source, Reader]


class Piece:
    """An array, or one piece of it that starts at `starts`.

    Parameters
    ----------
    data : ndarray
        The values.
    dims : tuple of Hashable
        The names of its axes.
    starts : tuple of int, optional
        Where the piece lies in the whole; at 0 unless given.
    """

    def __init__(
        self,
        data: NDArray,
        dims: tuple[Hashable, ...],
        starts: tuple[int, ...] | None = None,
    ) -> None:
        self.data, self.dims = data, dims
        self.starts = starts or (0,) * len(dims)
        # Kernels count in samples, and those of records may lie any bytes apart.
        odd = any(stride % data.itemsize for stride in data.strides)
        self._is_odd = odd or not data.flags.aligned

    def read(self, window: Window, scratch: Scratch) -> NDArray:
        """A view, but a copy of what kernels cannot read."""
        return self._cut(window).copy() if self._is_odd else self._cut(window)

    def _cut(self, window: Window) -> NDArray:
        index: list[Any] = [...]  # a view, also where there are no dims
        bounds = zip(self.dims, self.starts, self.data.shape, strict=True)
        for dim, start, size in bounds:
            low, high = window[dim].start - start, window[dim].stop - start
            if not 0 <= low <= high <= size:
                raise AssertionError(f"a piece was not read: {dim} {window[dim]}")
            index.append(slice(low, high))
        view: NDArray = self.data[tuple(index)]
        return view

    def view(self, window: Window) -> NDArray | None:
        """The piece, where it lies in this one."""
        return None if self._is_odd or not self.holds(window) else self._cut(window)

    def extent(self, dim: Hashable) -> tuple[int, int]:
        """Where the piece starts and ends along a dim."""
        at = self.dims.index(dim)
        start = self.starts[at]
        return start, start + int(self.data.shape[at])

    def holds(self, window: Window) -> bool:
        """Whether all of a window lies in this piece."""
        return all(
            start <= window[dim].start and window[dim].stop <= start + size
            for dim, start, size in zip(
                self.dims, self.starts, self.data.shape, strict=True
            )
        )


class Pieces:
    """Several pieces of one array: a chunk and strips of its neighbours."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces

    def read(self, window: Window, scratch: Scratch) -> NDArray:
        """A view of one piece where it holds all of the window, else put together."""
        view = self.view(window)
        if view is not None:
            return view
        first = self.pieces[0]
        whole = scratch.take(shape_of(window, first.dims), first.data.dtype)
        origin = tuple(window[dim].start for dim in first.dims)
        for piece in self.pieces:
            shared = _overlap(piece, window)
            if shared is not None:
                target = Piece(whole, first.dims, origin).read(shared, scratch)
                target[...] = piece.read(shared, scratch)
        return whole

    def view(self, window: Window) -> NDArray | None:
        """A view of the piece that holds all of the window."""
        views = (piece.view(window) for piece in self.pieces)
        return next((view for view in views if view is not None), None)

    def along(self, dim: Hashable, window: Window) -> list[tuple[NDArray, int]] | None:
        """Views that make up a window one after the other along a dim, and their starts.

        None where pieces do not lie so.
        """
        found: list[tuple[NDArray, int]] = []
        at = window[dim].start
        for piece in sorted(self.pieces, key=lambda piece: piece.extent(dim)):
            low, high = piece.extent(dim)
            part = {**window, dim: slice(at, min(high, window[dim].stop))}
            if low <= at < part[dim].stop and piece.holds(part):
                found.append((piece.read(part, Scratch()), at))
                at = part[dim].stop
        return found if at == window[dim].stop else None


def _overlap(piece: Piece, window: Window) -> dict[Hashable, slice] | None:
    shared = {}
    for dim, start, size in zip(piece.dims, piece.starts, piece.data.shape, strict=True):
        low, high = max(start, window[dim].start), min(start + size, window[dim].stop)
        if low >= high:
            return None
        shared[dim] = slice(low, high)
    return shared


def evaluate(
    node: Node,
    want: Window,
    readers: Readers,
    out: NDArray,
    scratch: Scratch,
    part: Window | None = None,
    carry: NDArray | None = None,
) -> None:
    """Fill `out` with a piece of a node.

    Parameters
    ----------
    node : Node
        The plan.
    want : Window
        The piece, along all dims of the node.
    readers : mapping of Source to Reader
        The arrays that its sources stand for.
    out : ndarray
        Its axes are the node's dims; any strides.
    scratch : Scratch
        Memory for results on the way.
    part : Window, optional
        Where the topmost step adds up or scans: which part of its input to take.
    carry : ndarray, optional
        Where the topmost step scans: what has been summed up outside of that part.
    """
    if isinstance(node, Apply):
        if part is None and node.widened(want) is not want:
            mark = scratch.mark()
            out[...] = piece_of(node, want, readers, scratch)
            scratch.cut(mark)
            return
        _apply(node, want, readers, out, scratch, part or {}, carry)
    elif isinstance(node, Total) and node.along is not None:
        _put_together(node, node.along, want, readers, out, scratch)
    elif isinstance(node, Total):
        _add(node, want, readers, out, scratch)
    else:
        assert isinstance(node, Source)
        out[...] = readers[node].read(want, scratch)


def piece_of(node: Node, want: Window, readers: Readers, scratch: Scratch) -> NDArray:
    """A piece of a node: a view of a source, or computed into scratch memory."""
    if not volume(want, node.dims):
        return np.empty(shape_of(want, node.dims), node.dtype)
    if isinstance(node, Source):
        return readers[node].read(want, scratch)
    wide = node.widened(want)
    out = scratch.take(shape_of(wide, node.dims), node.dtype)
    evaluate(node, wide, readers, out, scratch)
    if wide is want:
        return out
    return Piece(out, node.dims, tuple(wide[d].start for d in node.dims)).read(
        want, scratch
    )


def block_of(
    node: Apply,
    want: Window,
    readers: Readers,
    scratch: Scratch,
    part: Window,
    carry: NDArray | None = None,
) -> Block:
    """What a kernel gets for a piece of the output."""
    step = node.step
    have = {**node.needs(want), **part}
    data = piece_of(node.child, have, readers, scratch)
    if data.dtype != node.inner_dtype:
        data = data.astype(node.inner_dtype)
    given, made = step.sides(node.adjoint)
    own_have = {dim: have[dim] for dim in given}
    own_want = {dim: want[dim] for dim in made}
    near = node.near(own_have, own_want) if step.weights else {}
    weights = tuple(_weight(weight, near, readers, scratch) for weight in step.weights)
    return Block(data, node.child.dims, own_have, own_want, weights, carry)


def _weight(weight: Any, near: Window, readers: Readers, scratch: Scratch) -> Array:
    if isinstance(weight, Source):
        return Array(piece_of(weight, near, readers, scratch), weight.dims)
    return Array(weight.data[(..., *(near[dim] for dim in weight.dims))], weight.dims)


def _apply(
    node: Apply,
    want: Window,
    readers: Readers,
    out: NDArray,
    scratch: Scratch,
    part: Window,
    carry: NDArray | None,
) -> None:
    if not part and _in_lines(node, want, readers, out, scratch):
        return
    mark = scratch.mark()
    block = block_of(node, want, readers, scratch, part, carry)
    kernel_dtype = node.step.dtypes(node.child.dtype, node.adjoint)[1]
    # Integers that are only moved, and then scaled, are moved first.
    target = out if out.dtype == kernel_dtype else scratch.take(out.shape, kernel_dtype)
    try:
        node.kernel(block, target)
    except Exception as error:
        words = places(node)
        where = ", ".join(
            words[dim](piece) if dim in words else f"{dim} [{piece.start}:{piece.stop}]"
            for dim, piece in want.items()
        )
        side = " (adjoint)" if node.adjoint else ""
        error.add_note(f"in the operator {node.step.name}{side}, making {where}")
        raise
    if node.factor != 1.0:
        np.multiply(target, out.dtype.type(node.factor), out=out)
    elif target is not out:
        out[...] = target
    scratch.cut(mark)


def _in_lines(
    node: Apply, want: Window, readers: Readers, out: NDArray, scratch: Scratch
) -> bool:
    """Fill `out` with what a chain along one dim makes in one pass; whether it did."""
    if isinstance(node.child, Source) and out.nbytes < BORDER_BYTES:
        return False
    chain = Lines.of(node, 1)
    if chain is None or not out.size or out.strides[-1] != out.itemsize:
        return False
    if chain.steps == 1:
        # A step alone, only where its input would have to be put together.
        reader = readers.get(chain.base) if isinstance(chain.base, Source) else None
        if not isinstance(reader, Pieces) or reader.view(node.needs(want)) is not None:
            return False
    from xlops.kernels import lines

    mark = scratch.mark()
    have, levels = want, []
    for band, weights in chain.levels[::-1]:
        weight, start, conjugate = None, 0, False
        if weights is not None:
            near = weights.near(have, have)
            (given,) = weights.step.weights
            array = _weight(given, near, readers, scratch)
            weight = Block(out, node.dims, have, have, (array,)).weight()
            start = have[chain.dim].start if chain.dim in array.dims else 0
            assert isinstance(weights.kernel, Weighted)
            conjugate = weights.kernel.conjugate
        matrix = None
        if band is not None:
            assert isinstance(band.kernel, Banded)
            matrix = band.kernel.scaled(band.factor).terms[0][1]
            have = band.needs(have)
        levels.append(lines.Level(matrix, weight, start, conjugate))
    pieces = _along(chain, have, readers, scratch, lines.PIECES)
    at = node.dims.index(chain.dim)
    lines.run(pieces, out, at, want[chain.dim].start, levels[::-1])
    scratch.cut(mark)
    return True


def _along(
    chain: Lines, have: Window, readers: Readers, scratch: Scratch, most: int
) -> list[tuple[NDArray, int]]:
    """What a chain reads, in pieces along its dim as they are where they are few."""
    dim, reader = chain.dim, None
    if isinstance(chain.base, Source):
        reader = readers[chain.base]
    if isinstance(reader, Pieces):
        found = reader.along(dim, have)
        if found is not None and len(found) <= most:
            return found
    return [(piece_of(chain.base, have, readers, scratch), have[dim].start)]


def _put_together(
    node: Total,
    dim: Hashable,
    want: Window,
    readers: Readers,
    out: NDArray,
    scratch: Scratch,
) -> None:
    """Fill `out` with terms of which each makes one sample of a dim, each in its place."""
    target = Piece(out, node.dims, tuple(want[d].start for d in node.dims))
    for i, term in enumerate(node.terms_in(want), want[dim].start):
        part = {**want, dim: slice(i, i + 1)}
        view = target.read(part, scratch)
        view = view.transpose([node.dims.index(d) for d in term.dims])
        if term.dtype == node.dtype:
            evaluate(term, part, readers, view, scratch)
        else:
            mark = scratch.mark()
            view[...] = piece_of(term, part, readers, scratch)
            scratch.cut(mark)


def _add(
    node: Total, want: Window, readers: Readers, out: NDArray, scratch: Scratch
) -> None:
    mark = scratch.mark()
    done = _banded_at_once(node, want, readers, out)
    started = bool(done)
    for term in node.terms:
        if term in done or _is_zero(term, want):
            continue
        view = out.transpose([node.dims.index(dim) for dim in term.dims])
        if not started and term.dtype == node.dtype:
            evaluate(term, want, readers, view, scratch)
        else:
            inner = scratch.mark()
            value = piece_of(term, want, readers, scratch)
            if started:
                np.add(view, value, out=view, casting="same_kind")
            else:
                view[...] = value
            scratch.cut(inner)
        started = True
    if not started:
        out[...] = 0
    scratch.cut(mark)


def _is_zero(node: Node, want: Window) -> bool:
    """Whether a piece is zero whatever it is computed from."""
    return isinstance(node, Apply) and node.window.is_zero(
        {dim: want[dim] for dim in node.made}, node.adjoint
    )


def _banded_at_once(
    node: Total, want: Window, readers: Readers, out: NDArray
) -> tuple[Apply, ...]:
    """Fill `out` with the terms that one pass can make; which those are.

    The pass reads a box around all windows. Where that is not at hand as a view, putting
    it together would read more than the terms need one by one.
    """
    kernel, members = node.banded
    if kernel is None:
        return ()
    have = dict(want)
    for term in members:
        for dim, piece in term.needs(want).items():
            low, high = have[dim].start, have[dim].stop
            have[dim] = slice(min(low, piece.start), max(high, piece.stop))
    child = members[0].child
    assert isinstance(child, Source)
    data = readers[child].view(have)
    if data is None:
        return ()
    kernel(Block(data, node.dims, have, want), out)
    return members
