"""Window rules: to make this piece of the output I need that piece of the input.

A rule speaks of the dims that its operator acts on; all others pass through. Pieces are
ranges; an empty one says that nothing is needed. Rules are all that has to be known of an
operator to run it in pieces.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np

from xlops.windows.pieces import Chunks, Indices, Sizes, Window, full

__all__ = [
    "Beside",
    "Contraction",
    "Insertion",
    "Padding",
    "Permutation",
    "Pointwise",
    "Reach",
    "Renaming",
    "Reversal",
    "Scan",
    "Scatter",
    "Selection",
    "Stencil",
    "Whole",
    "WindowRule",
]

NOTHING: frozenset[Hashable] = frozenset()

# Samples of a partial result of a scatter: large against what a task costs.
LARGEST_PIECE = 2**22


class WindowRule(abc.ABC):
    """Which piece of the input a piece of the output needs."""

    @abc.abstractmethod
    def needs(self, out: Window, adjoint: bool) -> Window:
        """The piece of the input that the piece `out` of the output needs."""

    def is_zero(self, out: Window, adjoint: bool) -> bool:
        """Whether the piece `out` of the output is zero, whatever the input is."""
        return False

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """Chunks of the output along the operator's dims, from those of the input."""
        return chunks

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """Input dims that every piece of the output needs from end to end."""
        return NOTHING

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """Output dims whose pieces would each repeat the same work."""
        return NOTHING

    def adds(self, adjoint: bool) -> frozenset[Hashable]:
        """Input dims whose pieces give partial results that add up."""
        return NOTHING

    def scans(self, adjoint: bool) -> Hashable | None:
        """The dim along which a running value goes from piece to piece."""
        return None

    @property
    def joins(self) -> bool:
        """Whether pieces that give partial results may come several at once."""
        return False

    @property
    def shared(self) -> frozenset[Hashable]:
        """Dims of both sides whose samples are summed over one by one, where others are."""
        return NOTHING

    def first(self, adjoint: bool) -> frozenset[Hashable]:
        """Output dims to cut before others: pieces along those would share weights."""
        return NOTHING

    def near(self, domain: Window, range_: Window) -> Window:
        """Where the pieces of weights lie, from the pieces of both sides."""
        return {**domain, **range_}

    @property
    def samples(self) -> int:
        """Samples of weights, read or made, that the work grows with."""
        return 0


@dataclasses.dataclass(frozen=True)
class Pointwise(WindowRule):
    """Every sample of the output needs the same sample of the input."""

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The same piece."""
        return out


@dataclasses.dataclass(frozen=True)
class Renaming(WindowRule):
    """Every sample needs the same sample, along dims of other names.

    Parameters
    ----------
    new, old : mapping of Hashable to Hashable
        New names by old ones, and old ones by new ones.
    """

    new: Mapping[Hashable, Hashable]
    old: Mapping[Hashable, Hashable]

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The same piece, under the other names."""
        return {dim: out[made] for dim, made in (self.old if adjoint else self.new).items()}

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The same chunks, under the other names."""
        given = self.new if adjoint else self.old
        return {made: chunks[dim] for made, dim in given.items()}


class Reach(NamedTuple):
    """How far a stencil reads along one dim of ``size`` samples."""

    size: int
    before: int
    after: int


@dataclasses.dataclass(frozen=True)
class Stencil(WindowRule):
    """Samples up to `before` behind and `after` ahead, along one dim or several.

    Parameters
    ----------
    reach : mapping of Hashable to Reach
        How far the forward operator reaches along each dim; the adjoint reaches as far
        to the other side.
    works_on_halo : bool
        Whether the halo costs work, as in a Fourier transform, and is not only read.
    """

    reach: Mapping[Hashable, Reach]
    works_on_halo: bool = False

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The piece with its halo."""
        needed = {}
        for dim, (size, before, after) in self.reach.items():
            if adjoint:
                before, after = after, before
            piece = out[dim]
            needed[dim] = slice(max(piece.start - before, 0), min(piece.stop + after, size))
        return needed


@dataclasses.dataclass(frozen=True, eq=False)
class Selection(WindowRule):
    """Chosen samples along one dim, in rising order, repeated or not.

    Parameters
    ----------
    dim : Hashable
        The dim.
    size : int
        Its samples before the selection.
    indices : ndarray of int
        The samples that are kept, counted from 0, none smaller than the one before.
    """

    dim: Hashable
    size: int
    indices: Indices

    def needs(self, out: Window, adjoint: bool) -> Window:
        """From the first to the last sample that is needed; nothing where none is."""
        piece = out[self.dim]
        if not adjoint:
            low, last = self.indices[piece.start], self.indices[piece.stop - 1]
            return {self.dim: slice(int(low), int(last) + 1)}
        return {self.dim: slice(*self.chosen_in(piece))}

    def chosen_in(self, piece: slice) -> tuple[int, int]:
        """Where the samples chosen from a range begin and end among those kept."""
        low, high = np.searchsorted(self.indices, (piece.start, piece.stop))
        return int(low), int(high)

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The kept part of each chunk; for the adjoint, chunks that keep as much."""
        ends = np.cumsum(chunks[self.dim])
        if adjoint:
            # The first sample kept by the next chunk starts a new chunk.
            ends = np.append(self.indices[ends[:-1]], self.size)
        else:
            ends = np.searchsorted(self.indices, ends)
        sizes = np.diff(ends, prepend=0)
        return {self.dim: tuple(int(size) for size in sizes if size)}


@dataclasses.dataclass(frozen=True)
class Reversal(WindowRule):
    """All samples of one dim, the last one first.

    Parameters
    ----------
    dim : Hashable
        The dim.
    size : int
        Its samples.
    """

    dim: Hashable
    size: int

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The piece seen in the mirror."""
        piece = out[self.dim]
        return {self.dim: slice(self.size - piece.stop, self.size - piece.start)}

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The same chunks, the last one first."""
        return {self.dim: chunks[self.dim][::-1]}


@dataclasses.dataclass(frozen=True)
class Padding(WindowRule):
    """Zeros before and after the samples of some dims.

    Parameters
    ----------
    reach : mapping of Hashable to Reach
        Samples without the zeros, and how many zeros come before and after.
    """

    reach: Mapping[Hashable, Reach]

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The part of the piece that is not zeros; nothing where all of it is."""
        needed = {}
        for dim, (size, before, _) in self.reach.items():
            low, high = out[dim].start, out[dim].stop
            if adjoint:
                low, high = low + before, high + before
            else:
                low, high = (min(max(at - before, 0), size) for at in (low, high))
            needed[dim] = slice(low, high)
        return needed

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The chunks of the input, zeros added to (taken from) the first and last."""
        made = {}
        for dim, (size, before, after) in self.reach.items():
            ends = np.cumsum(chunks[dim])
            if adjoint:
                ends = np.unique(np.clip(ends - before, 0, size))
                ends = ends[ends > 0]
            else:
                ends = np.append(ends[:-1] + before, size + before + after)
            made[dim] = tuple(int(n) for n in np.diff(ends, prepend=0))
        return made


@dataclasses.dataclass(frozen=True)
class Insertion(WindowRule):
    """The input is one sample of a new dim, all others are zeros.

    Parameters
    ----------
    dim : Hashable
        The new dim.
    size : int
        Its samples.
    index : int
        Which of them the input is.
    """

    dim: Hashable
    size: int
    index: int

    def needs(self, out: Window, adjoint: bool) -> Window:
        """Along the new dim, for the adjoint: that sample."""
        return {self.dim: slice(self.index, self.index + 1)} if adjoint else {}

    def is_zero(self, out: Window, adjoint: bool) -> bool:
        """Where the piece does not have that sample."""
        return not adjoint and not out[self.dim].start <= self.index < out[self.dim].stop

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """One for each sample: they come from different inputs."""
        return {} if adjoint else {self.dim: (1,) * self.size}


@dataclasses.dataclass(frozen=True, eq=False)
class Whole(WindowRule):
    """Every sample of the output needs the whole of some dims of the input.

    Parameters
    ----------
    domain, range : mapping of Hashable to int
        The dims, and their sizes, that the forward operator consumes and makes.
    """

    domain: Sizes
    range: Sizes

    def needs(self, out: Window, adjoint: bool) -> Window:
        """All of them, from end to end."""
        return full(self.range if adjoint else self.domain)

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """One chunk along each dim that is made."""
        made = self.domain if adjoint else self.range
        return {dim: (size,) for dim, size in made.items()}

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """All dims of the input."""
        return frozenset(self.range if adjoint else self.domain)

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """All dims of the output."""
        return frozenset(self.domain if adjoint else self.range)


@dataclasses.dataclass(frozen=True, eq=False)
class Beside(WindowRule):
    """Pieces with their halo along some dims, and other dims whole.

    Parameters
    ----------
    stencil : Stencil
        The rule of the dims that come in pieces.
    whole_dims : Whole
        The rule of all other dims.
    """

    stencil: Stencil
    whole_dims: Whole

    def needs(self, out: Window, adjoint: bool) -> Window:
        """What each rule says of its dims."""
        return {**self.stencil.needs(out, adjoint), **self.whole_dims.needs(out, adjoint)}

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """Those of the input along dims in pieces, one along the others."""
        return {**chunks, **self.whole_dims.chunks(chunks, adjoint)}

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """The other dims of the input."""
        return self.whole_dims.whole(adjoint)

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """The other dims of the output."""
        return self.whole_dims.uncut(adjoint)


@dataclasses.dataclass(frozen=True, eq=False)
class Permutation(Whole):
    """All samples of one dim in another order.

    Parameters
    ----------
    domain, range : mapping of Hashable to int
        The dim and its size, twice.
    indices : ndarray of int
        Which sample of the input each sample of the output is.
    """

    indices: Indices

    def order(self, adjoint: bool) -> Indices:
        """Which sample of what goes in each sample of what comes out is."""
        return self._inverse if adjoint else self.indices

    @functools.cached_property
    def _inverse(self) -> Indices:
        return np.argsort(self.indices)

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """No dim: pieces only read."""
        return NOTHING


@dataclasses.dataclass(frozen=True, eq=False)
class Contraction(WindowRule):
    """Sums over some dims: matrix products, integrals, and their adjoints.

    Pieces of the dims that are summed over give partial results that add up.

    Parameters
    ----------
    domain, range : mapping of Hashable to int
        The dims, and their sizes, of both sides; those on both sides are not summed.
    """

    domain: Sizes
    range: Sizes

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The dims that are summed over from end to end, the others as asked for."""
        given = self.range if adjoint else self.domain
        return {dim: out.get(dim, slice(0, size)) for dim, size in given.items()}

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """One chunk along each new dim."""
        made = self.domain if adjoint else self.range
        return {dim: chunks.get(dim, (size,)) for dim, size in made.items()}

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """The dims that are summed over."""
        given, made = self.domain, self.range
        if adjoint:
            given, made = made, given
        return frozenset(dim for dim in given if dim not in made)

    def adds(self, adjoint: bool) -> frozenset[Hashable]:
        """The same."""
        return self.whole(adjoint)

    @property
    def shared(self) -> frozenset[Hashable]:
        """The dims on both sides."""
        return frozenset(self.domain.keys() & self.range.keys())

    def first(self, adjoint: bool) -> frozenset[Hashable]:
        """The dims on both sides: cut along others, a matrix is read for each piece."""
        return self.shared


@dataclasses.dataclass(frozen=True, eq=False)
class Scatter(WindowRule):
    """Samples that land somewhere along some dims of the output, as a table says.

    Forward, every piece of the input may land anywhere, and what pieces of it make adds
    up. The adjoint picks samples up where they have landed: what pieces of the dims that
    are landed on give adds up too. The table has all other dims, of both sides.

    Parameters
    ----------
    domain, range : mapping of Hashable to int
        The dims, and their sizes, of both sides. A dim may be on both without being
        shared, as time is where times of a model are spread over times of the data.
    both : frozenset of Hashable
        The dims whose samples stay what they are.
    along : frozenset of Hashable
        The dims of the range that samples land on.
    """

    domain: Sizes
    range: Sizes
    both: frozenset[Hashable]
    along: frozenset[Hashable]

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The dims that are shared as asked for, all others from end to end."""
        given = self.range if adjoint else self.domain
        return {d: out[d] if d in self.both else slice(0, n) for d, n in given.items()}

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """One along each dim that is landed on, and pieces of the dims that are made.

        Each chunk of the input makes a partial result as large as a chunk of the output:
        those must not be large.
        """
        given, made = self.domain, self.range
        if adjoint:
            given, made = made, given
        left = LARGEST_PIECE
        for dim, sizes in chunks.items():
            if dim in self.both or dim not in given:
                left //= max(sizes)
        result: dict[Hashable, tuple[int, ...]] = {}
        fixed = [dim for dim in made if not adjoint and dim in self.along]
        for dim in (*fixed, *(d for d in reversed(made) if d not in fixed)):
            size = made[dim]
            if dim in self.both:
                result[dim] = chunks[dim]
                continue
            parts = 1 if dim in fixed else -(-size // max(left, 1))
            parts = min(parts, size)
            result[dim] = tuple(
                int(n) for n in np.diff(np.arange(parts + 1) * size // parts)
            )
            left //= max(result[dim])
        return result

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """The dims that are not shared."""
        return frozenset(self.range if adjoint else self.domain) - self.both

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """The dims that are landed on: each piece would look at all samples again."""
        return NOTHING if adjoint else self.along

    def adds(self, adjoint: bool) -> frozenset[Hashable]:
        """The dims that are not shared."""
        return self.whole(adjoint)

    @property
    def joins(self) -> bool:
        """They may: a partial result is as large for a small piece as for a large one."""
        return True

    @property
    def shared(self) -> frozenset[Hashable]:
        """The dims whose samples stay what they are."""
        return self.both

    def first(self, adjoint: bool) -> frozenset[Hashable]:
        """The dims of the table."""
        return frozenset(self.domain) if adjoint else frozenset(self.range) - self.along

    def near(self, domain: Window, range_: Window) -> Window:
        """The table does not know the dims that are landed on."""
        return {**range_, **domain}

    @property
    def samples(self) -> int:
        """Those of the table."""
        table = {d: n for d, n in self.range.items() if d not in self.along}
        return math.prod({**table, **self.domain}.values())


@dataclasses.dataclass(frozen=True)
class Scan(WindowRule):
    """Running sums along one dim: forward over all samples before, adjoint after.

    Parameters
    ----------
    dim : Hashable
        The dim.
    size : int
        Its samples.
    """

    dim: Hashable
    size: int

    def needs(self, out: Window, adjoint: bool) -> Window:
        """All samples up to the end of the piece; for the adjoint, from its start."""
        piece = out[self.dim]
        start, stop = (piece.start, self.size) if adjoint else (0, piece.stop)
        return {self.dim: slice(start, stop)}

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """The dim."""
        return frozenset({self.dim})

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """The dim: each piece would sum up what comes before it again."""
        return frozenset({self.dim})

    def scans(self, adjoint: bool) -> Hashable | None:
        """The dim."""
        return self.dim
