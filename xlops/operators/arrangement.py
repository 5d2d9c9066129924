"""Operators that move samples along dims: Flip, Roll, Pad."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.errors import ArgumentError, DTypeError, LabelError, shown
from xlops.operators.common import about, along, along_each, called
from xlops.space import Space
from xlops.windows.pieces import Block, NDArray
from xlops.windows.rules import Padding, Permutation, Reach, Reversal

__all__ = ["Flip", "Pad", "Roll"]

Pair: TypeAlias = tuple[int, int]


class Flip(Elementary):
    """The samples of one dim, the last one first.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``.
    name : str, optional
        Names the operator in errors and in its repr.

    Notes
    -----
    Values move, labels stay: the first label gets what stood at the last one, and
    auxiliary coordinates stay with their labels. (To turn labels with their values, use
    ``d.isel(time=slice(None, None, -1))``.) Integers stay integers. The operator is its
    own adjoint and its own inverse.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> d = xr.DataArray([1, 2, 3], coords={"time": [0.0, 0.5, 1.0]}, dims="time")
    >>> y = xl.Flip(d.time) @ d
    >>> y.values, y.time.values
    (array([3, 2, 1]), array([0. , 0.5, 1. ]))
    """

    def __init__(self, coord: xr.DataArray | Space, *, name: str | None = None) -> None:
        space, axis = along(coord, "Flip")
        kernel = functools.partial(_flipped, axis.dim)
        super().__init__(
            space,
            space,
            window=Reversal(axis.dim, axis.size),
            forward=kernel,
            adjoint=kernel,
            params={},
            name=name,
            exact=(True, True),
            traits=("symmetric", "unitary"),
            keeps_constants=True,
        )


def _flipped(dim: Hashable, block: Block, out: NDArray) -> None:
    out[...] = np.flip(block.data, block.dims.index(dim))


class Roll(Elementary):
    """The samples of one dim moved on, those from the end to the front.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``.
    shift : int
        By how many samples; negative to the front.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    DTypeError
        Where the shift is not a whole number.

    Notes
    -----
    Values move, labels stay, and auxiliary coordinates stay with their labels. (To roll
    labels with their values, use ``d.roll(time=1, roll_coords=True)``.) Integers stay
    integers. The adjoint rolls back: it is the inverse.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> d = xr.DataArray([1, 2, 3, 4], coords={"time": [0.0, 0.5, 1.0, 1.5]}, dims="time")
    >>> y = xl.Roll(d.time) @ d
    >>> y.values, y.time.values
    (array([4, 1, 2, 3]), array([0. , 0.5, 1. , 1.5]))
    """

    def __init__(
        self, coord: xr.DataArray | Space, shift: int = 1, *, name: str | None = None
    ) -> None:
        space, axis = along(coord, "Roll")
        who = called(name, f"Roll({axis.dim})")
        if not _is_whole(shift):
            raise DTypeError(f"{who}: shift must be a whole number, got {shown(shift)}")
        n = axis.size
        shift = int(shift) % n
        sizes = {axis.dim: n}
        super().__init__(
            space,
            space,
            window=Permutation(sizes, sizes, (np.arange(n) - shift) % n),
            forward=functools.partial(_rolled, axis.dim, n, shift),
            adjoint=functools.partial(_rolled, axis.dim, n, (n - shift) % n),
            params={"shift": shift},
            name=name,
            exact=(True, True),
            traits=("symmetric", "unitary") if 2 * shift % n == 0 else ("unitary",),
            keeps_constants=True,
        )


def _rolled(dim: Hashable, size: int, shift: int, block: Block, out: NDArray) -> None:
    """Two slices: what lies before the end of the axis, and after it."""
    axis, want = block.dims.index(dim), block.want[dim]
    start, count = (want.start - shift) % size, want.stop - want.start
    ahead = min(count, size - start)
    before = (slice(None),) * axis
    out[(*before, slice(0, ahead))] = block.data[(*before, slice(start, start + ahead))]
    if ahead < count:
        out[(*before, slice(ahead, None))] = block.data[(*before, slice(0, count - ahead))]


class Pad(Elementary):
    """Zeros before and after the samples of one dim or several.

    Parameters
    ----------
    *coords : DataArray
        The coordinates, such as ``d.time``, each of another dim.
    pad : (int, int), or sequence of them
        How many zeros come before and after the samples: one pair for one coordinate,
        else a pair for each.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where labels cannot go on evenly: the axis is not even (the message says which
        step), has a single label, or its labels are NaN, repeated, unsorted or not
        numbers.
    DTypeError
        Where `pad` is not pairs of whole numbers.
    ArgumentError
        Where there are more or fewer pairs than coordinates, or for negative numbers.

    Notes
    -----
    Labels go on as evenly as they lie, with their attributes: numbers, dates and
    durations. Dims without labels stay without, and so does a dim that gets no zeros
    keep what it has, even or not. Auxiliary coordinates along padded dims are left out,
    since they are not known there. The adjoint crops, and gives back the labels and
    auxiliary coordinates that the operator was built from. Integers stay integers.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> d = xr.DataArray([1, 2, 3], coords={"time": [0.0, 0.5, 1.0]}, dims="time")
    >>> P = xl.Pad(d.time, pad=(1, 2))
    >>> y = P @ d
    >>> y.values, y.time.values
    (array([0, 1, 2, 3, 0, 0]), array([-0.5,  0. ,  0.5,  1. ,  1.5,  2. ]))
    >>> (P.H @ y).values
    array([1, 2, 3])
    """

    def __init__(
        self,
        *coords: xr.DataArray | Space,
        pad: Pair | Sequence[Pair],
        name: str | None = None,
    ) -> None:
        sides = along_each(coords, "Pad")
        axes = [axis for _, axis in sides]
        who = called(name, f"Pad({', '.join(str(axis.dim) for axis in axes)})")
        pairs = _pairs(pad, len(axes), who)
        reach = {
            axis.dim: Reach(axis.size, *pair)
            for axis, pair in zip(axes, pairs, strict=True)
        }
        domain = Space.of(*(space for space, _ in sides))
        super().__init__(
            domain,
            _padded_space(domain, reach, who),
            window=Padding(reach),
            forward=functools.partial(_padded, reach),
            adjoint=_cropped,
            params={"pad": pairs},
            name=name,
            exact=(True, True),
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _pairs(pad: Any, count: int, who: str) -> tuple[Pair, ...]:
    """A pair of whole numbers from 0 on for each coordinate."""
    try:
        given = [pad] if count == 1 and not _nested(pad) else list(pad)
        pairs = [tuple(pair) for pair in given]
    except TypeError:
        pairs = []
    if not pairs or any(len(p) != 2 or not all(map(_is_whole, p)) for p in pairs):
        raise DTypeError(
            f"{who}: pad must be a pair of whole numbers, (before, after), for each "
            f"coordinate, got {shown(pad)}"
        )
    if len(pairs) != count:
        raise ArgumentError(f"{who}: {len(pairs)} pairs are given for {count} coordinates")
    if any(number < 0 for pair in pairs for number in pair):
        raise ArgumentError(
            f"{who}: pad must not be negative; xl.Restriction leaves samples out"
        )
    return tuple((int(before), int(after)) for before, after in pairs)


def _nested(pad: Any) -> bool:
    """Whether these are pairs, not a pair."""
    return len(pad) > 0 and np.ndim(pad[0]) > 0


def _padded_space(domain: Space, reach: Mapping[Hashable, Reach], who: str) -> Space:
    """The space with more samples, labeled where it was."""
    sizes = {dim: n + before + after for dim, (n, before, after) in reach.items()}
    padded = [dim for dim, (n, *_) in reach.items() if sizes[dim] > n]
    labels = domain.labels
    longer = {
        dim: _longer(domain.axis(dim), reach[dim], who)
        for dim in padded
        if dim in labels.coords
    }
    return Space(sizes, labels.drop_dims(padded, errors="ignore").assign_coords(longer))


def _longer(axis: Axis, reach: Reach, who: str) -> xr.Variable:
    """The labels of an even axis, with more of them before and after."""
    labels, (n, before, after) = axis.labels, reach
    assert labels is not None
    if n == 1:
        raise LabelError(
            f"{who}: {str(axis.dim)!r} has a single label, so there is no step for more "
            "to go on with; drop it with .drop_vars or pad where there are more samples"
        )
    with about(who):
        step = axis.regular_step("padding")
    values, front, back = labels.values, np.arange(-before, 0), np.arange(1, after + 1)
    if values.dtype.kind == "f":
        ends = float(values[0]) + step * front, float(values[-1]) + step * back
        parts = [ends[0].astype(values.dtype), values, ends[1].astype(values.dtype)]
    elif values.dtype.kind in "iumM":
        parts = _longer_integers(values, before, after, f"{who}: labels of {axis.dim!s}")
    else:
        parts = [_longer_dates(values[0], step, front), values]
        parts.append(_longer_dates(values[-1], step, back))
    whole = np.concatenate(parts)
    return xr.Variable((axis.dim,), whole, labels.attrs, labels.encoding)


def _longer_integers(
    values: npt.NDArray[Any], before: int, after: int, who: str
) -> list[npt.NDArray[Any]]:
    """Integers, dates and durations, counted without rounding."""
    dtype, is_time = values.dtype, values.dtype.kind in "mM"
    ticks = values.view(np.int64) if is_time else values
    first, last, steps = int(ticks[0]), int(ticks[-1]), len(ticks) - 1
    front = [first + (last - first) * k // steps for k in range(-before, 0)]
    back = [last + (last - first) * k // steps for k in range(1, after + 1)]
    ends = [*front[:1], *back[-1:]]
    limits = np.iinfo(np.int64 if is_time else dtype)
    # The lowest number stands for no time at all.
    if any(not limits.min + is_time <= end <= limits.max for end in ends):
        limits = np.iinfo(np.int64)
        if is_time or any(not limits.min <= end <= limits.max for end in ends):
            raise LabelError(f"{who} would leave the range of {dtype}; pad with fewer")
        dtype = limits.dtype
    kind = np.int64 if is_time else dtype
    made = [np.array(part, kind) for part in (front, back)]
    if is_time:
        made = [part.view(dtype) for part in made]
    return [made[0], values.astype(dtype), made[1]]


def _longer_dates(
    origin: Any, step: float, counts: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    """Dates of cftime before or after one of them."""
    made = np.empty(len(counts), dtype=object)
    for i, count in enumerate(counts):
        made[i] = origin + dt.timedelta(microseconds=round(1e6 * step * int(count)))
    return made


def _padded(reach: Mapping[Hashable, Reach], block: Block, out: NDArray) -> None:
    """The samples that belong here, and zeros around them."""
    data = block.data
    inside: list[slice] = [slice(None)] * out.ndim
    for dim, (size, before, _) in reach.items():
        axis, want, have = block.dims.index(dim), block.want[dim], block.have[dim]
        low = min(max(want.start, before), want.stop)
        high = max(min(want.stop, before + size), low)
        # What was read just for want of an empty piece does not belong here.
        read = slice(low - before - have.start, high - before - have.start)
        data = data[(*(slice(None),) * axis, read if high > low else slice(0, 0))]
        left = (*inside[:axis], slice(0, low - want.start))
        right = (*inside[:axis], slice(high - want.start, None))
        for part in (left, right):
            out[(*part, *inside[axis + 1 :])] = 0
        inside[axis] = slice(low - want.start, high - want.start)
    out[tuple(inside)] = data


def _cropped(block: Block, out: NDArray) -> None:
    out[...] = block.data
