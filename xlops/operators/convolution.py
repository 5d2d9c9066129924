"""Convolutions with compact filters along one dim or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from xlops import units
from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.engine import is_lazy
from xlops.errors import ArgumentError, DTypeError, LabelError, UnitError, listed, shown
from xlops.labeling import plain
from xlops.operators.common import about, along_each, called, choice
from xlops.space import Space
from xlops.units import ONE, Gain
from xlops.windows.banded import Banded
from xlops.windows.pieces import Block, Kernel, NDArray
from xlops.windows.rules import Reach, Stencil

if TYPE_CHECKING:
    from xlops.kernels.band import Band

__all__ = ["Convolve1D", "ConvolveND"]

Method1D: TypeAlias = Literal["direct", "fft", "overlapadd"]
MethodND: TypeAlias = Literal["auto", "direct", "fft"]

# Up to this many taps along one dim are always quickest one by one; and then sums with
# derivatives and the like run as one pass.
FEW = 32
# What a sample that is transformed costs, in taps of one that is not.
TRANSFORMED = 64
# How far lags may be from multiples of the step of the axis, in steps.
NEAR = 0.01


@dataclasses.dataclass(frozen=True)
class _Filter:
    """Taps, where their first ones lie, and what they are used along.

    Parameters
    ----------
    taps : ndarray
        Axes of `shared` dims, then one for each of `dims`.
    first : tuple of int
        Lags of the first tap along `dims`.
    dims : tuple of Hashable
        The dims to convolve along.
    shared : tuple of Hashable
        Dims along which every line has taps of its own.
    """

    taps: NDArray
    first: tuple[int, ...]
    dims: tuple[Hashable, ...]
    shared: tuple[Hashable, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Taps along each of the dims."""
        return self.taps.shape[len(self.shared) :]

    @property
    def is_complex(self) -> bool:
        """Whether taps are complex."""
        return self.taps.dtype.kind == "c"

    def within(self, sizes: Sequence[int]) -> _Filter:
        """Without lags at which nothing meets, on axes of these sizes."""
        index, first = [], []
        for lag, count, size in zip(self.first, self.sizes, sizes, strict=True):
            low = max(0, 1 - size - lag)
            index.append(slice(low, min(count, size - lag)))
            first.append(lag + low)
        kept: Any = (..., *index)
        return dataclasses.replace(self, taps=self.taps[kept].copy(), first=tuple(first))

    def flipped(self) -> _Filter:
        """The filter of the adjoint."""
        from xlops.kernels.convolution import flipped

        taps, first = flipped(self.taps, self.first)
        return dataclasses.replace(self, taps=taps, first=first)

    def reach(self, sizes: Sequence[int]) -> dict[Hashable, Reach]:
        """How far the operator reads along each dim."""
        return {
            dim: Reach(size, max(0, lag + count - 1), max(0, -lag))
            for dim, size, lag, count in zip(
                self.dims, sizes, self.first, self.sizes, strict=True
            )
        }


class _Convolution:
    """Kernel of a convolution.

    Parameters
    ----------
    filter : _Filter
        What to convolve with.
    sizes : sequence of int
        Samples of the dims to convolve along.
    method : str or None
        How; None for what is quickest for a piece.
    """

    def __init__(self, filter: _Filter, sizes: Sequence[int], method: str | None) -> None:  # noqa: A002
        self.filter, self.sizes, self.method = filter, tuple(sizes), method
        self._spectra: dict[Any, NDArray] = {}
        one = len(sizes) == 1 and not filter.shared
        self._bands = _bands(filter, sizes[0]) if one else ()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_spectra": {}}

    def __call__(self, block: Block, out: NDArray) -> None:
        """Fill `out` with the piece that the block asks for."""
        from xlops.kernels.convolution import by_fft, by_line, by_tap, fft_samples

        filter_ = self.filter
        axes = [block.dims.index(dim) for dim in filter_.dims]
        have = [block.have[dim] for dim in filter_.dims]
        want = [block.want[dim] for dim in filter_.dims]
        made = np.prod([w.stop - w.start for w in want])
        method = self.method
        if method is None:
            transformed = TRANSFORMED * fft_samples(filter_.sizes, want) / made
            method = "direct" if np.prod(filter_.sizes) <= transformed else "fft"
        x = block.data
        if method == "direct":
            if self._bands:
                self._banded(block, out, axes[0])
                return
            taps = filter_.taps.astype(_precision(filter_.taps, out), copy=False)
            if filter_.shared:
                lines = self._lines(block, taps)
                moved = np.moveaxis(lines, -1, axes[0])
                by_line(x, out, moved, filter_.first[0], axes[0], have[0], want[0])
            else:
                by_tap(x, out, taps, filter_.first, axes, have, want)
            return
        parts = None
        if method == "overlapadd":
            parts = [4 * max(count, 16) for count in filter_.sizes]
        elif self.method == "fft" and len(axes) == 1:
            parts = [w.stop - w.start for w in want]
        taps = self._lines(block, filter_.taps) if filter_.shared else filter_.taps
        by_fft(x, out, taps, filter_.first, axes, have, want, parts, self._spectra)

    def _banded(self, block: Block, out: NDArray, axis: int) -> None:
        """Tap by tap along one dim; imaginary taps as a band of their own."""
        from xlops.kernels.stencil import star

        x = block.data
        starts = [[0] * x.ndim, [0] * x.ndim]
        (dim,) = self.filter.dims
        for start, window in zip(starts, (block.have, block.want), strict=True):
            start[axis] = window[dim].start
        if len(self._bands) == 1:
            star(x, out, [(axis, self._bands[0])], *starts)
            return
        parts = []
        for band in self._bands:
            parts.append(np.empty(out.shape, x.dtype))
            star(x, parts[-1], [(axis, band)], *starts)
        np.multiply(parts[1], out.dtype.type(1j), out=out)
        out += parts[0]

    def _lines(self, block: Block, taps: NDArray) -> NDArray:
        """The taps of the lines of a piece: its dims but those convolved along, taps."""
        shared = self.filter.shared
        taps = taps[tuple(block.want[dim] for dim in shared)]
        order = [shared.index(dim) for dim in block.dims if dim in shared]
        taps = taps.transpose([*order, *range(len(shared), taps.ndim)])
        index = tuple(
            slice(None) if dim in shared else None
            for dim in block.dims
            if dim not in self.filter.dims
        )
        return taps[(*index, ...)]


def _precision(taps: NDArray, out: NDArray) -> np.dtype[Any]:
    """Taps in the precision of the result, real where they are."""
    return out.dtype if taps.dtype.kind == "c" else out.real.dtype


class _Convolved(Elementary):
    """A convolution along some dims."""

    def __init__(
        self,
        sides: Sequence[tuple[Space, Axis]],
        filter_: _Filter,
        shared: Space,
        gain: Gain,
        method: str | None,
        default: str,
        who: str,
    ) -> None:
        sizes = [axis.size for _, axis in sides]
        space = Space({})
        with about(who):
            for side, axis in sides:
                axis.regular_step("the convolution")
                space = space.union(side)
            space = space.union(shared)
        if filter_.is_complex:
            space = space.of_kind("complex")
        filter_ = filter_.within(sizes)
        turned = filter_.flipped()
        reach = {
            **filter_.reach(sizes),
            **{dim: Reach(shared.sizes[dim], 0, 0) for dim in filter_.shared},
        }
        same = turned.first == filter_.first and np.array_equal(turned.taps, filter_.taps)
        kernel = _kernel(filter_, sizes, method)
        super().__init__(
            space,
            space,
            window=Stencil(reach, works_on_halo=not isinstance(kernel, Banded)),
            forward=kernel,
            adjoint=_kernel(turned, sizes, method),
            gain=gain,
            params={
                "h": filter_.taps,
                "first": filter_.first,
                "dims": filter_.dims,
                "shared": filter_.shared,
                "method": method or default,
                "gain": gain,
            },
            name=who,
            traits=("symmetric",) if same else (),
        )


def _kernel(filter_: _Filter, sizes: Sequence[int], method: str | None) -> Kernel:
    """The kernel of a convolution: a banded matrix where that is the way to go."""
    is_band = len(sizes) == 1 and not filter_.shared and not filter_.is_complex
    if is_band and (method == "direct" or (method is None and filter_.taps.size <= FEW)):
        (band,) = _bands(filter_, sizes[0])
        return Banded(((filter_.dims[0], band),))
    return _Convolution(filter_, sizes, method)


def _bands(filter_: _Filter, size: int) -> tuple[Band, ...]:
    """A filter along one dim as a banded matrix, or as two for complex taps."""
    from xlops.kernels.band import Band

    offsets = -(filter_.first[0] + np.arange(len(filter_.taps)))
    parts = [filter_.taps.real, filter_.taps.imag][: 1 + filter_.is_complex]
    return tuple(Band.constant(size, offsets, part) for part in parts)


class Convolve1D(_Convolved):
    r"""Convolution with a compact filter along one dim.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``, evenly sampled; rising or falling. A dim
        without a coordinate has unit steps.
    h : array or DataArray
        The filter, real or complex. A DataArray has a dim of lags: where that has a
        coordinate, it says where lag 0 is, in the step and the unit of `coord`.
        Other dims are dims of the data, along which every line has its own filter. Its
        ``units`` multiply the unit of the data.
    offset : int
        Index of the sample of `h` at lag 0, where no coordinate of `h` says it.
    method : {None, "direct", "fft", "overlapadd"}
        Sample by sample, by one Fourier transform, or by transforms of overlapping
        pieces; None for what is quickest. Results are the same up to rounding.
    lag : Hashable, optional
        The dim of lags of an `h` of several dims. That named as the dim of `coord`
        unless given.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where the axis is not even (the message says which step), lags have another step
        or no sample at 0, or filters of lines have other labels than lines.
    ArgumentError
        For an unknown method, or an offset outside of the filter.
    DTypeError
        Where the filter is not made of numbers, or is lazy.
    UnitError
        Where the unit of lags is not one of the axis.

    See Also
    --------
    ConvolveND : along several dims.

    Notes
    -----
    .. math:: y_i = \sum_k h_k \, x_{i - k + \mathrm{offset}}

    What lies beyond the ends of the axis counts as zero, and the result has the labels
    of the data, however long the filter is. (PyLops lengthens the result of a filter
    that is longer than the axis, where data have one dim; `Pad` and a convolution on the
    padded dim do the same.) There is no factor of the step: an integral over time
    is ``step * Convolve1D(…)``. The adjoint is the correlation, with the conjugate of
    complex filters.

    A transform spreads NaN over the whole axis; ``"direct"`` over the samples that
    the filter reaches.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.array([0.0, 1.0, 0.0, 0.0, 2.0]), dims="time")
    >>> (xl.Convolve1D(x.time, [1.0, 2.0, 3.0], offset=1) @ x).values
    array([1., 2., 3., 2., 4.])
    >>> wavelet = xr.DataArray([1.0, 2.0, 3.0], {"lag": [-1, 0, 1]}, dims="lag")
    >>> (xl.Convolve1D(x.time, wavelet) @ x).values
    array([1., 2., 3., 2., 4.])
    """

    def __init__(
        self,
        coord: xr.DataArray | Space,
        h: xr.DataArray | npt.ArrayLike,
        offset: int = 0,
        *,
        method: Method1D | None = None,
        lag: Hashable | None = None,
        name: str | None = None,
    ) -> None:
        sides = along_each([coord], "Convolve1D")
        axis = sides[0][1]
        who = called(name, f"Convolve1D({axis.dim})")
        if method is not None:
            choice(method, ("direct", "fft", "overlapadd"), "method", who)
        taps, labels, gain = _taps(h, who)
        shared = Space({})
        if labels is None:
            if taps.ndim != 1:
                raise LabelError(
                    f"{who}: h must have one dim, got {taps.ndim}; filters for each line "
                    "are a DataArray over the dims of the lines and its lags"
                )
            taps, first = _placed(taps, [None], [axis], [offset], who)
        else:
            own = _lag_dim(labels, axis.dim, lag, who)
            rest = [dim for dim in labels.dims if dim != own]
            if axis.dim in rest:
                raise LabelError(
                    f"{who}: h has lags along {str(own)!r} and is over "
                    f"{str(axis.dim)!r} too, along which it acts"
                )
            with about(f"{who}: h"):
                shared = Space.of(labels.isel({own: 0}, drop=True))
            taps = np.moveaxis(taps, labels.dims.index(own), -1)
            taps, first = _placed(taps, [Axis.of(labels, own)], [axis], [offset], who)
        super().__init__(
            sides,
            _Filter(taps, first, (axis.dim,), shared.dims),
            shared,
            gain,
            method,
            "",
            who,
        )


class ConvolveND(_Convolved):
    r"""Convolution with a compact filter along several dims.

    Parameters
    ----------
    *coords : DataArray
        The coordinates, such as ``d.x, d.y``, evenly sampled. Dims without a coordinate
        have unit steps.
    h : array or DataArray
        The filter, real or complex, with one dim for each of `coords`, in their order. A
        DataArray whose dims are named as those of `coords` may have any order; where
        dims have coordinates, these are lags, in the step and the unit of `coords`.
        Its ``units`` multiply the unit of the data.
    offset : int or sequence of int, optional
        Indices of the sample of `h` at lag 0, one for each dim, where no coordinate
        of `h` says it; 0 unless given.
    method : {"fft", "direct", "auto"}
        By Fourier transforms, sample by sample (quicker for small filters), or what is
        quickest. Results are the same up to rounding.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where an axis is not even (the message says which step), a dim is given twice, h
        has other dims, or lags have another step or no sample at 0.
    ArgumentError
        For an unknown method, or an offset outside of the filter.
    DTypeError
        Where the filter is not made of numbers, or is lazy.
    UnitError
        Where the unit of lags is not one of the axis.

    See Also
    --------
    Convolve1D : along one dim, with notes.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.array([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]), dims=("x", "y"))
    >>> h = np.arange(9.0).reshape(3, 3)
    >>> C = xl.ConvolveND(x.x, x.y, h=h, offset=(1, 1), method="direct")
    >>> (C @ x).values
    array([[0., 1., 2.],
           [3., 4., 5.],
           [6., 7., 8.]])
    """

    def __init__(
        self,
        *coords: xr.DataArray | Space,
        h: xr.DataArray | npt.ArrayLike,
        offset: int | Sequence[int] | None = None,
        method: MethodND | None = "fft",
        name: str | None = None,
    ) -> None:
        sides = along_each(coords, "ConvolveND")
        axes = [axis for _, axis in sides]
        dims = tuple(axis.dim for axis in axes)
        who = called(name, f"ConvolveND({', '.join(map(str, dims))})")
        if method is not None:
            choice(method, ("auto", "direct", "fft"), "method", who)
        taps, labels, gain = _taps(h, who)
        if taps.ndim != len(axes):
            raise LabelError(
                f"{who}: h must have one dim for each of {listed(dims)}, got {taps.ndim}"
            )
        lags: list[Axis | None] = [None] * len(axes)
        if labels is not None:
            order = _matched(labels.dims, dims)
            taps = taps.transpose([labels.dims.index(dim) for dim in order])
            lags = [Axis.of(labels, dim) for dim in order]
        if offset is None or isinstance(offset, (int, np.integer)):
            offset = [offset or 0] * len(axes)
        if isinstance(offset, str) or len(offset) != len(axes):
            raise ArgumentError(
                f"{who}: offset must be one number for each of {listed(dims)}, got "
                f"{shown(offset)}"
            )
        taps, first = _placed(taps, lags, axes, offset, who)
        way = None if method == "auto" else method
        super().__init__(
            sides, _Filter(taps, first, dims), Space({}), gain, way, "auto", who
        )


# --- filters ----------------------------------------------------------------------------


def _taps(h: Any, who: str) -> tuple[NDArray, xr.DataArray | None, Gain]:
    """Values of a filter, the DataArray that it was, and its unit."""
    labels = h if isinstance(h, xr.DataArray) else None
    values, unit = units.split(h if labels is None else labels.data)
    text = None if labels is None else labels.attrs.get("units")
    gain = Gain.of(text) if isinstance(text, str) else ONE
    if unit is not None:
        gain = unit
    if labels is not None:
        values = plain(values, f"{who}: h is")
    if is_lazy(values):
        raise DTypeError(f"{who}: h is lazy; give a filter with values at hand")
    taps: NDArray = np.asarray(values)
    if taps.dtype.kind not in "biufc":
        raise DTypeError(f"{who}: h must be made of numbers, got {taps.dtype}")
    if taps.size == 0:
        raise LabelError(f"{who}: h is empty")
    kind = np.complex128 if taps.dtype.kind == "c" else np.float64
    return taps.astype(kind), labels, gain


def _lag_dim(h: xr.DataArray, dim: Hashable, lag: Hashable | None, who: str) -> Hashable:
    """Which dim of a filter is that of its lags."""
    if lag is not None:
        if lag not in h.dims:
            raise LabelError(f"{who}: h has no dim {str(lag)!r}, but {listed(h.dims)}")
        return lag
    if dim in h.dims:
        return dim
    if len(h.dims) == 1:
        return h.dims[0]
    raise LabelError(
        f"{who}: which of the dims {listed(h.dims)} of h is that of lags? Say so with lag=…"
    )


def _matched(given: tuple[Hashable, ...], dims: Sequence[Hashable]) -> list[Hashable]:
    """The dims of a filter in the order of those it acts along: by name, then in order."""
    others = iter([dim for dim in given if dim not in dims])
    return [dim if dim in given else next(others) for dim in dims]


def _placed(
    taps: NDArray,
    lags: Sequence[Axis | None],
    axes: Sequence[Axis],
    offset: Sequence[Any],
    who: str,
) -> tuple[NDArray, tuple[int, ...]]:
    """Taps with rising lags, in samples, along the last dims; the first lags."""
    first = []
    for i, (lag, axis, at) in enumerate(zip(lags, axes, offset, strict=True)):
        position = taps.ndim - len(axes) + i
        size = taps.shape[position]
        if isinstance(at, (bool, np.bool_)) or not isinstance(at, (int, np.integer)):
            raise DTypeError(f"{who}: offset must be a whole number, got {shown(at)}")
        if not 0 <= at < size:
            raise ArgumentError(
                f"{who}: offset must be the index of one of the {size} samples of h along "
                f"{str(axis.dim)!r}, got {at}"
            )
        if lag is None or lag.labels is None:
            first.append(-int(at))
            continue
        numbers = _lags(lag, axis, who)
        if at and numbers[at]:
            raise ArgumentError(
                f"{who}: offset is {at}, but the coordinate of h has lag 0 at index "
                f"{int(np.argmin(np.abs(numbers)))}; leave offset out"
            )
        if numbers[-1] < numbers[0]:
            taps, numbers = np.flip(taps, position), numbers[::-1]
        first.append(int(numbers[0]))
    return np.ascontiguousarray(taps), tuple(first)


def _lags(lag: Axis, axis: Axis, who: str) -> npt.NDArray[np.int64]:
    """The labels of lags in samples of the axis; all in a row, 0 among them."""
    assert lag.labels is not None
    name, values = repr(str(lag.dim)), lag.labels.values
    if values.dtype.kind == "m":
        labels = values / np.timedelta64(1, "s")
    elif values.dtype.kind in "iuf":
        labels = values.astype(np.float64)
    else:
        raise LabelError(
            f"{who}: lags along {name} of h must be numbers or durations, got "
            f"{values.dtype}"
        )
    with about(f"{who}: h"):
        lag_step = lag.regular_step("the filter")
    unit, own = axis.units if axis.labels is not None else None, lag.units
    scale = 1.0
    if unit is not None and own is not None:
        factor = units.factor(Gain.of(own), Gain.of(unit))
        if factor is None:
            raise UnitError(
                f"{who}: lags along {name} of h are in {own}, the axis is in {unit}"
            )
        scale = factor
    with about(who):
        step = axis.regular_step("the convolution")
    scaled = labels * scale / step
    drift = abs(abs(lag_step * scale / step) - 1) * (lag.size - 1)
    if drift > NEAR:
        text = "" if unit is None else f" {unit}"
        raise LabelError(
            f"{who}: lags along {name} of h have steps of {abs(lag_step) * scale:.6g}{text}"
            f", the axis of {abs(step):.6g}{text}; interpolate one to the step of the other"
        )
    numbers: npt.NDArray[np.int64] = np.rint(scaled).astype(np.int64)
    if 0 not in numbers or np.max(np.abs(scaled - numbers)) > NEAR:
        raise LabelError(
            f"{who}: lag 0 must be one of the samples of h along {name}, which are {lag}; "
            "shift them, or fill h up with zeros"
        )
    return numbers
