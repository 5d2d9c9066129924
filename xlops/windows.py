"""Windows: to make this piece of the output I need that piece of the input.

Pure planning, without Dask and without labels: dims are names, pieces are ranges or
indices along them. An operator hands the engine a `Step`: its window, two kernels and
the arrays that they weigh with. Nothing else has to be known to run it in pieces.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Block",
    "Chunks",
    "Extent",
    "Grid",
    "Pointwise",
    "Selection",
    "Stencil",
    "Step",
    "Whole",
    "Window",
    "WindowRule",
    "placed",
]

NDArray: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.intp]
Extent: TypeAlias = slice | Indices
Window: TypeAlias = Mapping[Hashable, Extent]
Chunks: TypeAlias = Mapping[Hashable, tuple[int, ...]]
Sizes: TypeAlias = Mapping[Hashable, int]
# A chunk and the extent inside it, None for all of it.
Part: TypeAlias = "tuple[int, Extent | None]"


class Array(NamedTuple):
    """An array below the labels: NumPy or Dask data and the names of its axes."""

    data: Any
    dims: tuple[Hashable, ...]

    def ordered(self, dims: Sequence[Hashable]) -> Array:
        """The same with its axes in another order; no data is moved."""
        if tuple(dims) == self.dims:
            return self
        order = [self.dims.index(dim) for dim in dims]
        return Array(self.data.transpose(order), tuple(dims))

    @property
    def sizes(self) -> dict[Hashable, int]:
        """Sizes by dim."""
        return dict(zip(self.dims, self.data.shape, strict=True))


@dataclasses.dataclass(frozen=True)
class Block:
    """What a kernel gets: a piece of the input, and where it lies in the whole.

    Parameters
    ----------
    data : ndarray
        The piece of the input, with the dims that pass through.
    dims : tuple of Hashable
        The names of its axes.
    have : Window
        Where the piece lies, along the operator's input dims.
    want : Window
        The piece of the output to make, along the operator's output dims.
    weights : tuple of Array
        The pieces of the operator's own arrays that belong to this block.
    """

    data: NDArray
    dims: tuple[Hashable, ...]
    have: Window
    want: Window
    weights: tuple[Array, ...] = ()

    def rows(self, dim: Hashable) -> tuple[NDArray, int]:
        """The data as (outer, axis, inner), and the position of the axis."""
        at = self.dims.index(dim)
        shape = self.data.shape
        outer = int(np.prod(shape[:at], dtype=np.int64))
        inner = int(np.prod(shape[at + 1 :], dtype=np.int64))
        view = np.ascontiguousarray(self.data).reshape(outer, shape[at], inner)
        return view, at

    def weight(self, index: int = 0) -> NDArray:
        """One of the weights, shaped to multiply the data."""
        array = self.weights[index]
        order = [dim for dim in self.dims if dim in array.dims]
        shape = [array.sizes.get(dim, 1) for dim in self.dims]
        return np.reshape(array.ordered(order).data, shape)


Kernel: TypeAlias = Callable[[Block], NDArray]


class WindowRule(Protocol):
    """Which piece of the input a piece of the output needs."""

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The piece of the input that the piece `out` of the output needs."""

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """Chunks of the output along the operator's dims, from those of the input."""

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """Input dims that every piece of the output needs from end to end."""


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """Every sample of the output needs the same sample of the input."""

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The same piece."""
        return out

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The chunks of the input."""
        return chunks

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """No dim."""
        return frozenset()


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Samples up to `before` behind and `after` ahead along one dim.

    Parameters
    ----------
    dim : Hashable
        The dim.
    size : int
        Its samples.
    before, after : int
        How far the forward operator reaches to either side; the adjoint reaches as
        far to the other.
    """

    dim: Hashable
    size: int
    before: int
    after: int

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The piece with its halo."""
        piece = out[self.dim]
        assert isinstance(piece, slice)
        before, after = self.before, self.after
        if adjoint:
            before, after = after, before
        low, high = max(piece.start - before, 0), min(piece.stop + after, self.size)
        return {self.dim: slice(low, high)}

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The chunks of the input."""
        return chunks

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """No dim."""
        return frozenset()


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Chosen samples along one dim, in any order, repeated or not.

    Parameters
    ----------
    dim : Hashable
        The dim.
    size : int
        Its samples before the selection.
    indices : ndarray of int
        The samples that are kept, counted from 0.
    """

    dim: Hashable
    size: int
    indices: Indices

    def needs(self, out: Window, adjoint: bool) -> Window:
        """The samples chosen for the piece; for the adjoint those that fall into it."""
        piece = out[self.dim]
        assert isinstance(piece, slice)
        if not adjoint:
            return {self.dim: self.indices[piece]}
        order, in_order = self._sorted
        low, high = np.searchsorted(in_order, (piece.start, piece.stop))
        return {self.dim: np.sort(order[low:high])}

    @functools.cached_property
    def _sorted(self) -> tuple[Indices, Indices]:
        """Where the indices stand in rising order, and the indices in that order."""
        order = np.argsort(self.indices, kind="stable")
        return order, self.indices[order]

    @functools.cached_property
    def is_sorted(self) -> bool:
        """Whether samples keep their order."""
        return bool(np.all(np.diff(self.indices) >= 0))

    def chunks(self, chunks: Chunks, adjoint: bool) -> Chunks:
        """The kept part of each chunk; for the adjoint, chunks that keep as much."""
        given = chunks[self.dim]
        new_size = self.size if adjoint else len(self.indices)
        if not self.is_sorted:
            # As many chunks as there are, or fewer.
            return {self.dim: _even(new_size, -(-new_size // len(given)))}
        ends = np.cumsum(given)
        if adjoint:
            # The first sample kept by the next chunk starts a new chunk.
            ends = np.append(self.indices[ends[:-1]], new_size)
        else:
            ends = np.searchsorted(self.indices, ends)
        sizes = np.diff(ends, prepend=0)
        return {self.dim: tuple(int(size) for size in sizes if size)}

    def whole(self, adjoint: bool) -> frozenset[Hashable]:
        """No dim."""
        return frozenset()


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
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


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """All that the engine has to know of an operator.

    Parameters
    ----------
    name : str
        Names the operator in graphs and errors.
    token : callable
        Names exactly this operator: the same token, the same numbers. Asked for by
        graphs only, since large weights take time to name.
    domain, range : mapping of Hashable to int
        Its dims and their sizes.
    window : WindowRule
        Which piece of the input a piece of the output needs.
    forward, adjoint : callable
        Kernels: a `Block` in, an array out, its dims placed as `placed` says.
        Module-level functions or partials of them, so that they pickle.
    weights : tuple of Array, optional
        NumPy or Dask arrays along the operator's dims, handed to the kernels in pieces.
    forward_kind, adjoint_kind : {"any", "real", "complex"}
        The values that come out; "any" are those that went in.
    exact : tuple of bool, optional
        Whether forward and adjoint only move values, so that integers stay integers.
    """

    name: str
    token: Callable[[], str] | None
    domain: Sizes
    range: Sizes
    window: WindowRule
    forward: Kernel
    adjoint: Kernel
    weights: tuple[Array, ...] = ()
    forward_kind: str = "any"
    adjoint_kind: str = "any"
    exact: tuple[bool, bool] = (False, False)

    def sides(self, adjoint: bool) -> tuple[Sizes, Sizes]:
        """Sizes going in and coming out."""
        return (self.range, self.domain) if adjoint else (self.domain, self.range)

    def dims(self, dims: Sequence[Hashable], adjoint: bool) -> tuple[Hashable, ...]:
        """Order of the dims of the output."""
        given, made = self.sides(adjoint)
        return placed(dims, given, made)

    def dtypes(self, dtype: np.dtype[Any], adjoint: bool) -> tuple[Any, Any]:
        """The dtype to compute in and the dtype of the result."""
        inner = dtype if self.exact[adjoint] else floating(dtype)
        kind = self.adjoint_kind if adjoint else self.forward_kind
        return inner.newbyteorder("="), of_kind(inner, kind).newbyteorder("=")


def placed(
    dims: Sequence[Hashable], given: Collection[Hashable], made: Collection[Hashable]
) -> tuple[Hashable, ...]:
    """Order of the dims of a result.

    Dims that are neither consumed nor made keep their place; new ones stand where the
    first consumed dim stood, and last if none was consumed.
    """
    new = [dim for dim in made if dim not in given]
    result: list[Hashable] = []
    for dim in dims:
        if dim in given and dim not in made:
            result += new
            new = []
        else:
            result.append(dim)
    return (*result, *new)


def full(sizes: Sizes) -> dict[Hashable, slice]:
    """The window that covers everything."""
    return {dim: slice(0, size) for dim, size in sizes.items()}


def floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that arithmetic on values of `dtype` is done in."""
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    if dtype.kind == "f" and dtype.itemsize == 2:
        return np.dtype(np.float32)
    return dtype


def of_kind(dtype: np.dtype[Any], kind: str) -> np.dtype[Any]:
    """`dtype` made real or complex, in the same precision."""
    if kind == "complex":
        return np.result_type(floating(dtype), np.complex64)
    if kind == "real" and dtype.kind == "c":
        return np.empty(0, dtype).real.dtype
    return dtype


def _even(size: int, chunk: int) -> tuple[int, ...]:
    """Chunks of one size, the last one perhaps smaller."""
    whole, rest = divmod(size, chunk)
    return (chunk,) * whole + ((rest,) if rest else ())


class Grid:
    """The chunks along one dim.

    Parameters
    ----------
    chunks : tuple of int
        Their sizes, none of them 0.
    """

    def __init__(self, chunks: tuple[int, ...]) -> None:
        self.chunks = chunks
        self.starts = [0, *itertools.accumulate(chunks)]
        self._starts = np.array(self.starts)

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, i: int) -> slice:
        return slice(self.starts[i], self.starts[i + 1])

    def cover(self, extent: Extent) -> tuple[list[Part], Indices | None]:
        """The chunks that hold an extent, and which part of each; None for all of it.

        The second value reorders the parts, laid end to end, into the order asked for.
        """
        if isinstance(extent, slice):
            return self._cover_range(extent), None
        if not extent.size:
            return [(0, slice(0, 0))], None
        order = np.argsort(extent, kind="stable")
        in_order = extent[order]
        touched = np.unique(np.searchsorted(self._starts, in_order, side="right") - 1)
        parts: list[Part] = []
        for i in map(int, touched):
            low, high = np.searchsorted(in_order, (self.starts[i], self.starts[i + 1]))
            local, size = in_order[low:high] - self.starts[i], self.chunks[i]
            whole = local.size == size and bool((local == np.arange(size)).all())
            parts.append((i, None if whole else local))
        unsorted = bool((order != np.arange(order.size)).any())
        return parts, np.argsort(order) if unsorted else None

    def _cover_range(self, extent: slice) -> list[Part]:
        parts: list[Part] = []
        for i in range(bisect.bisect_right(self.starts, extent.start) - 1, len(self)):
            start, size = self.starts[i], self.chunks[i]
            if start >= extent.stop:
                break
            low, high = max(extent.start - start, 0), min(extent.stop - start, size)
            whole = low == 0 and high == size
            parts.append((i, None if whole else slice(low, high)))
        return parts
