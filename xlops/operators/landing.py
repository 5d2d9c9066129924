"""Samples that land along a dim: which dims are which, where they land, and the kernel.

What spreads and sums along curves is made of this: a `Lookup` finds positions on an axis,
`Places` has them from a table or from a function, a `Landing` scatters and gathers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xlops.axis import Axis
from xlops.errors import DTypeError, LabelError, listed
from xlops.operators.common import about
from xlops.space import Space
from xlops.windows.pieces import Array, Block, NDArray, placed

__all__ = ["Landing", "Lookup", "Places", "Roles"]

Dims: TypeAlias = tuple[Hashable, ...]
_Found: TypeAlias = Iterator[tuple[tuple[slice, ...], NDArray]]

# Positions are looked up so many at a time.
PIECE = 2**17
# A position that lies beyond the ends by less than this part of a step lies on them.
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Roles:
    """The dims of a table: on both sides, of the data alone, of the model alone."""

    shared: Dims
    made: Dims
    over: Dims

    @classmethod
    def of(cls, given: Space, made: Space) -> Roles:
        """Those of a function, from the labels of both sides."""
        return cls(
            tuple(dim for dim in given.dims if dim in made),
            tuple(dim for dim in made.dims if dim not in given),
            tuple(dim for dim in given.dims if dim not in made),
        )

    @property
    def table(self) -> Dims:
        """All of them, in the order in which loops read a table."""
        return (*self.shared, *self.made, *self.over)


@dataclasses.dataclass(frozen=True, eq=False)
class Lookup:
    """Finds positions on an axis, counted in its samples.

    Parameters
    ----------
    size : int
        Samples of the axis; also what stands for positions that lie on none of them.
    linear : bool
        Whether to say how far between two samples a position lies.
    first : number, optional
        The first label; None where only times can be looked up.
    time : datetime64 or timedelta64, optional
        The first label, where times can be looked up.
    scale : float
        What positions are multiplied by to have the unit of the axis.
    step : float
        The step of an even axis.
    labels : ndarray of float64, optional
        How far labels lie from the first, where they are uneven.
    slack : float
        How far beyond the ends counts as rounding.
    """

    size: int
    linear: bool
    first: Any = 0
    time: Any = None
    scale: float = 1.0
    step: float = 1.0
    labels: npt.NDArray[np.float64] | None = None
    slack: float = ROUNDING

    @classmethod
    def of(cls, axis: Axis, positions: str, linear: bool, scale: float, who: str) -> Lookup:
        """Where the labels of an axis are, or its samples."""
        if positions == "indices" or axis.labels is None:
            return cls(axis.size, linear, scale=scale)
        with about(who):
            numbers = axis.numbers
            is_even = axis.is_regular
        label, time = axis.labels.values[0], None
        if axis.is_time:
            if axis.labels.dtype.kind not in "mM":
                raise DTypeError(
                    f"{who}: no positions can be given along dates of the calendar of "
                    f"{axis.dim}; give it dates of NumPy or numbers, or positions='indices'"
                )
            time, second = label, np.timedelta64(1, "s")
            label = label / second if axis.labels.dtype.kind == "m" else None
        slack = ROUNDING * abs(axis.step) if axis.size > 1 else 0.0
        return cls(
            axis.size,
            linear,
            label,
            time,
            scale,
            axis.step,
            None if is_even else np.abs(numbers),
            max(slack, min(axis.rounding, abs(axis.step) / 4)),
        )

    def check(self, dtype: np.dtype[Any], who: str) -> None:
        """Raise unless positions of that dtype can be looked up."""
        if dtype.kind in "mM":
            good = self.time is not None and np.asarray(self.time).dtype.kind == dtype.kind
        else:
            good = dtype.kind in "iuf" and self.first is not None
        if not good:
            wanted = "real numbers"
            if self.time is not None:
                wanted = "dates" if self.first is None else "durations, or real numbers"
            raise DTypeError(f"{who}: positions must be {wanted}, got {dtype}")

    def all(self, table: NDArray) -> NDArray:
        """A whole table, piece by piece."""
        result = np.empty(table.shape, np.float64 if self.linear else np.uint32)
        flat, found = np.ravel(table), result.reshape(-1)
        for start in range(0, flat.size, PIECE):
            piece = slice(start, start + PIECE)
            found[piece] = self(flat[piece])
        return result

    def __call__(self, positions: NDArray) -> NDArray:
        """The samples that positions are at; `size` for those outside of the axis."""
        far, last = self._from_first(positions), float(self.size - 1)
        slack = self.slack
        if positions.dtype.kind == "f" and positions.dtype.itemsize < 8:
            rough = 4 * float(np.finfo(positions.dtype).eps)
            # What was rounded was the position, not how far it is from the first label.
            ends = max(abs(self.first), abs(self.first + self.step * last))
            slack = max(slack, min(rough * ends, abs(self.step) / 4))
        if self.labels is not None:
            length, step = float(self.labels[-1]), 1.0
        else:
            length, step = abs(self.step) * last, abs(self.step)
        inside = (far >= -slack) & (far <= length + slack)
        far = np.clip(far, 0.0, length)
        if self.labels is not None:
            far = np.interp(far, self.labels, np.arange(float(self.size)))
        at = np.minimum(far / step, last)
        if self.linear:
            return np.where(inside, at, self.size)
        return np.where(inside, np.floor(at + 0.5), self.size).astype(np.uint32)

    def _from_first(self, positions: NDArray) -> npt.NDArray[np.float64]:
        """How far positions lie from the first label, towards the last one."""
        if positions.dtype.kind in "mM":
            far = (positions - self.time) / np.timedelta64(1, "s")
        elif positions.dtype.kind in "iu" and isinstance(self.first, (int, np.integer)):
            # In integers: those of nanoseconds since 1970 have more digits than floats.
            if self.scale != 1.0:
                far = positions * self.scale - float(self.first)
            else:
                if positions.dtype == np.uint64:  # beyond all int64 is outside
                    positions = np.minimum(positions, np.uint64(2**63 - 1))
                far = (positions.astype(np.int64) - int(self.first)).astype(np.float64)
        else:
            far = positions.astype(np.float64) * self.scale - float(self.first)
        return np.negative(far) if self.step < 0 else np.asarray(far)


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Where samples land, a piece at a time: as a table has it, or as a function makes it.

    Parameters
    ----------
    lookup : Lookup, optional
        Finds positions on the axis; None where the table has been looked up.
    function : callable, optional
        Makes positions from coordinates, which are the weights.
    names : tuple of str
        The arguments of the function.
    who : str
        Names the operator in errors.
    """

    lookup: Lookup | None = None
    function: Callable[..., Any] | None = None
    names: tuple[str, ...] = ()
    who: str = ""

    def of(self, weights: tuple[Array, ...], dims: Dims, sizes: tuple[int, ...]) -> _Found:
        """Pieces of a table, and what they say."""
        if self.lookup is None:
            yield tuple(slice(0, size) for size in sizes), weights[0].ordered(dims).data
            return
        for piece in _pieces(sizes):
            parts = [_part(weight, dims, piece) for weight in weights]
            if self.function is None:
                positions = parts[0]
            else:
                positions = self._made(parts, dims, piece)
            at = self.lookup(positions)
            yield piece, np.broadcast_to(at, [p.stop - p.start for p in piece])

    def _made(self, parts: list[NDArray], dims: Dims, piece: tuple[slice, ...]) -> NDArray:
        assert self.function is not None and self.lookup is not None
        result = self.function(**dict(zip(self.names, parts, strict=True)))
        if not isinstance(result, (np.ndarray, np.generic, int, float)):
            raise DTypeError(
                f"{self.who}: the function must give a NumPy array, got "
                f"{type(result).__name__}"
            )
        positions = np.asarray(result)
        self.lookup.check(positions.dtype, self.who)
        shape = tuple(p.stop - p.start for p in piece)
        if not _fits(positions.shape, shape):
            raise LabelError(
                f"{self.who}: the function gives an array of shape {positions.shape}, "
                f"which does not broadcast to {shape}, the axes {listed(dims)}"
            )
        return positions


def _part(weight: Array, dims: Dims, piece: tuple[slice, ...]) -> NDArray:
    """A piece of a weight, with an axis for every dim."""
    places = dict(zip(dims, piece, strict=True))
    order = [dim for dim in dims if dim in weight.dims]
    data = weight.ordered(order).data[(..., *(places[dim] for dim in order))]
    part: NDArray = data[tuple(slice(None) if d in order else np.newaxis for d in dims)]
    part.flags.writeable = False  # it may be a view of the coordinates
    return part


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array broadcasts to a shape."""
    if len(shape) > len(wanted):
        return False
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return all(size in (1, want) for size, want in pairs)


def _pieces(sizes: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Pieces of a table, cut along outer axes first, in order."""
    if math.prod(sizes) <= PIECE or not sizes:
        yield tuple(slice(0, size) for size in sizes)
        return
    first, *inner = sizes
    step = max(PIECE // math.prod(inner), 1)
    for start in range(0, first, step):
        outer = slice(start, min(start + step, first))
        if math.prod(inner) <= PIECE:
            yield (outer, *(slice(0, size) for size in inner))
        else:
            yield from ((outer, *rest) for rest in _pieces(tuple(inner)))


@dataclasses.dataclass(frozen=True, eq=False)
class Landing:
    """Scatters a piece of the model, or gathers it.

    Parameters
    ----------
    roles : Roles
        Which dims are which.
    along : Hashable
        The dim that samples land on.
    size : int
        Its samples.
    places : Places
        Where they land.
    adjoint : bool
        Whether to gather.
    """

    roles: Roles
    along: Hashable
    size: int
    places: Places
    adjoint: bool

    def __call__(self, block: Block, out: NDArray) -> None:
        """Fill `out` with the piece that the block asks for."""
        shared, made, over = self.roles.shared, self.roles.made, self.roles.over
        passing = tuple(dim for dim in block.dims if dim not in block.have)
        model, data = (*shared, *passing, *over), (*shared, *passing, *made, self.along)
        dims = placed(block.dims, block.have, block.want)
        domain, range_ = block.have, block.want
        if self.adjoint:
            model, data, domain, range_ = data, model, range_, domain
        source = block.data.transpose([block.dims.index(dim) for dim in model])
        target = out.transpose([dims.index(dim) for dim in data])
        window = {**range_, **domain}
        sizes = tuple(window[dim].stop - window[dim].start for dim in self.roles.table)
        places = self.places.of(block.weights, self.roles.table, sizes)
        fill = self._gather if self.adjoint else self._scatter
        fill(source, target, places, range_[self.along].start, len(passing))

    def _scatter(
        self, x: NDArray, out: NDArray, places: _Found, start: int, lines: int
    ) -> None:
        from xlops.kernels.scatter import scatter

        s, m = len(self.roles.shared), len(self.roles.made)
        x = np.ascontiguousarray(x)
        filled = out
        if not _merges(out, s, lines, m):
            filled = np.empty(out.shape, out.dtype)
        for piece, at in places:
            shared, made, over = piece[:s], piece[s : s + m], piece[s + m :]
            scatter(
                _merged(x[_index(shared, over)], s, lines),
                _merged(at, s, m),
                _view(filled[_index(shared, (*made, slice(None)))], s, lines, m),
                self.size,
                start,
                add=any(part.start for part in over),
            )
        if filled is not out:
            out[...] = filled

    def _gather(
        self, y: NDArray, out: NDArray, places: _Found, start: int, lines: int
    ) -> None:
        from xlops.kernels.scatter import gather

        s, m = len(self.roles.shared), len(self.roles.made)
        if not _merges(y, s, lines, m):
            y = np.ascontiguousarray(y)
        sums = np.zeros(out.shape, np.result_type(out.dtype, np.float64))
        for piece, at in places:
            shared, made, over = piece[:s], piece[s : s + m], piece[s + m :]
            gather(
                _merged(y[_index(shared, (*made, slice(None)))], s, lines, m),
                _merged(at, s, m),
                _view(sums[_index(shared, over)], s, lines),
                self.size,
                start,
            )
        out[...] = sums


def _index(shared: tuple[slice, ...], last: tuple[slice, ...]) -> Any:
    """The piece of an array whose first and last axes are cut."""
    return (*shared, ..., *last)


def _merged(array: NDArray, *counts: int, copy: bool | None = None) -> NDArray:
    """An array with so many axes merged into one, then so many more, and all others."""
    shape, at = [], 0
    for count in counts:
        shape.append(math.prod(array.shape[at : at + count]))
        at += count
    return np.reshape(array, (*shape, math.prod(array.shape[at:])), copy=copy)


_view = functools.partial(_merged, copy=False)


def _merges(array: NDArray, *counts: int) -> bool:
    """Whether axes can be merged without a copy."""
    try:
        _view(array, *counts)
    except ValueError:
        return False
    return True
