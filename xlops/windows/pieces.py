"""Pieces: plain arrays with named axes, the parts that work is cut into, their dtypes.

Dims are names, pieces are ranges along them; no labels and no Dask here.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Block",
    "Chunks",
    "Grid",
    "Kernel",
    "NDArray",
    "Order",
    "Sizes",
    "Window",
    "arranged",
    "floating",
    "full",
    "of_kind",
    "placed",
    "shape_of",
    "volume",
]

NDArray: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.intp]
Window: TypeAlias = Mapping[Hashable, slice]
Chunks: TypeAlias = Mapping[Hashable, tuple[int, ...]]
Sizes: TypeAlias = Mapping[Hashable, int]
# An order of dims; an ellipsis in it stands for all others.
Order: TypeAlias = tuple[Hashable | EllipsisType, ...]


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


@dataclasses.dataclass(slots=True)
class Block:
    """What a kernel gets: a piece of the input, and where it lies in the whole.

    Parameters
    ----------
    data : ndarray
        The piece of the input, with the dims that pass through. It may be a view with
        any strides, and must not be changed.
    dims : tuple of Hashable
        The names of its axes.
    have : Window
        Where the piece lies, along the operator's input dims.
    want : Window
        The piece of the output to make, along the operator's output dims.
    weights : tuple of Array
        The pieces of the operator's own arrays that belong to this block.
    carry : ndarray, optional
        For cumulative operators: what has been summed up outside of the piece, one
        sample along the axis. None where nothing has.
    """

    data: NDArray
    dims: tuple[Hashable, ...]
    have: Window
    want: Window
    weights: tuple[Array, ...] = ()
    carry: NDArray | None = None

    def weight(self, index: int = 0) -> NDArray:
        """One of the weights, shaped to multiply the data."""
        array = self.weights[index]
        order = [dim for dim in self.dims if dim in array.dims]
        shape = [array.sizes.get(dim, 1) for dim in self.dims]
        return np.reshape(array.ordered(order).data, shape)


# A kernel fills all of an array with the piece of the output that a block says; the
# array's axes are those that `placed` gives, its strides may be any.
Kernel: TypeAlias = Callable[[Block, NDArray], None]


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


def arranged(dims: Sequence[Hashable], layout: Order | None) -> tuple[Hashable, ...]:
    """Dims in the order of a layout; as they are where there is none."""
    if layout is None:
        return tuple(dims)
    others = [dim for dim in dims if dim not in layout]
    at = layout.index(...)
    return (*layout[:at], *others, *layout[at + 1 :])


def full(sizes: Sizes) -> dict[Hashable, slice]:
    """The window that covers everything."""
    return {dim: slice(0, size) for dim, size in sizes.items()}


def shape_of(window: Window, dims: Sequence[Hashable]) -> tuple[int, ...]:
    """The shape of a piece."""
    return tuple(window[dim].stop - window[dim].start for dim in dims)


def volume(want: Window, dims: Sequence[Hashable]) -> int:
    """Samples of a piece."""
    return math.prod(want[dim].stop - want[dim].start for dim in dims)


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

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, i: int) -> slice:
        return slice(self.starts[i], self.starts[i + 1])

    def cover(self, extent: slice) -> list[tuple[int, slice | None]]:
        """The chunks that hold a range, and which part of each; None for all of it."""
        parts: list[tuple[int, slice | None]] = []
        for i in range(bisect.bisect_right(self.starts, extent.start) - 1, len(self)):
            start, size = self.starts[i], self.chunks[i]
            if start >= extent.stop:
                break
            low, high = max(extent.start - start, 0), min(extent.stop - start, size)
            parts.append((i, None if low == 0 and high == size else slice(low, high)))
        return parts
