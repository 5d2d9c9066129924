"""Convolutions with compact filters along some axes: tap by tap, or by Fourier transforms.

Filters are arrays of taps and the lag of the first of them along each axis:
``y[i] = Σ_k taps[k] x[i - first - k]``, where what lies beyond the ends of x is zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from xlops.kernels.once import once

__all__ = ["by_fft", "by_line", "by_tap", "fft_samples", "flipped"]

NDArray: TypeAlias = npt.NDArray[Any]
Slices: TypeAlias = Sequence[slice]

# Samples that are worked on at a time: they stay in the L2 cache.
PIECE = 2**15
# Samples of one transform, from which on it is cut in overlapping pieces.
TRANSFORM = 2**17


def flipped(taps: NDArray, first: Sequence[int]) -> tuple[NDArray, tuple[int, ...]]:
    """The filter of the adjoint: correlation is convolution with the conjugate, reversed.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.convolution import flipped
    >>> flipped(np.array([1.0, 2.0, 3.0]), (0,))
    (array([3., 2., 1.]), (-2,))
    """
    count = len(first)
    own = taps.shape[taps.ndim - count :]
    turned = np.flip(taps, axis=tuple(range(-count, 0))).conj()
    lags = tuple(-(lag + size - 1) for lag, size in zip(first, own, strict=True))
    return turned, lags


# --- tap by tap -----------------------------------------------------------------------


def by_tap(
    x: NDArray,
    out: NDArray,
    taps: NDArray,
    first: Sequence[int],
    axes: Sequence[int],
    have: Slices,
    want: Slices,
) -> None:
    """Fill `out` with a convolution along some axes, computed tap by tap.

    Parameters
    ----------
    x, out : ndarray
        Float or complex, of the same precision; any strides. `out` is complex where `x`
        or `taps` are.
    taps : ndarray
        The filter, with one axis for each of `axes`.
    first : sequence of int
        The lag of its first tap along each.
    axes : sequence of int
        The axes of x and out to convolve along.
    have, want : sequence of slice
        Where along each of the whole axes `x` and `out` lie.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.convolution import by_tap
    >>> out = np.empty(4)
    >>> everything = [slice(0, 4)]
    >>> x, taps = np.array([1.0, 0, 0, 2]), np.array([3.0, 4])
    >>> by_tap(x, out, taps, [0], [0], everything, everything)
    >>> out
    array([3., 4., 0., 6.])
    """
    if taps.dtype.kind == "c":
        part = np.empty(out.shape, x.dtype)
        by_tap(x, part, taps.real, first, axes, have, want)
        out[...] = part
        by_tap(x, part, taps.imag, first, axes, have, want)
        if x.dtype.kind == "c":
            out.real -= part.imag
            out.imag += part.real
        else:
            out.imag = part
        return
    # Axes in the order of memory, so that runs are as long as may be.
    order = sorted(range(out.ndim), key=lambda axis: -abs(out.strides[axis]))
    x, out = x.transpose(order), out.transpose(order)
    real = x.real.dtype
    extra, before = [0] * out.ndim, [0] * out.ndim
    places = [order.index(axis) for axis in axes]
    for at, lag, size, h, w in zip(places, first, taps.shape, have, want, strict=True):
        extra[at] = size - 1
        # Samples of the buffer before those of x, where `out` starts.
        before[at] = h.start - (w.start - lag - (size - 1))
    loop = _lines(real)
    for piece in _pieces(out.shape, PIECE, places):
        shape = [p.stop - p.start for p in piece]
        buffer = np.zeros([n + e for n, e in zip(shape, extra, strict=True)], x.dtype)
        source, target = [], []
        for p, b, e, n in zip(piece, before, extra, x.shape, strict=True):
            low, high = max(p.start, b), min(p.stop + e, b + n)
            source.append(slice(low - b, max(low, high) - b))
            target.append(slice(low - p.start, max(low, high) - p.start))
        buffer[tuple(target)] = x[tuple(source)]
        strides = [s // real.itemsize for s in buffer.strides]
        filled = np.empty(shape, x.dtype)
        starts = sum(
            (np.arange(n) * s).reshape(-1, *(1,) * (len(shape) - 2 - i))
            for i, (n, s) in enumerate(zip(shape[:-1], strides, strict=False))
        )
        offsets = sum(
            ((size - 1 - np.arange(size)) * strides[at]).reshape(
                -1, *(1,) * (taps.ndim - 1 - i)
            )
            for i, (at, size) in enumerate(zip(places, taps.shape, strict=True))
        )
        loop(
            buffer.reshape(-1).view(real),
            np.ravel(starts).astype(np.int64),
            filled.reshape(-1, shape[-1]).view(real),
            np.ravel(offsets).astype(np.int64),
            np.ravel(taps).astype(real),
        )
        out[piece] = filled


def _pieces(
    shape: Sequence[int], limit: int, last: Sequence[int] = ()
) -> Iterator[tuple[slice, ...]]:
    """Pieces of an array of at most so many samples, outer axes cut first.

    Axes in `last` are cut after all others: pieces would read the same samples again.
    """
    sizes = list(shape)
    for axis in sorted(range(len(sizes)), key=lambda axis: axis in last):
        total = math.prod(sizes)
        if total <= limit:
            break
        sizes[axis] = max(1, limit * sizes[axis] // total)
    cuts = [
        [slice(at, min(at + size, n)) for at in range(0, n, size)]
        for n, size in zip(shape, sizes, strict=True)
    ]
    return itertools.product(*cuts)


@once
def _lines(real: np.dtype[Any]) -> Callable[..., None]:
    """The loop for one dtype."""
    number = numba.from_dtype(real)
    signature = numba.void(
        number[::1], numba.int64[::1], number[:, ::1], numba.int64[::1], number[::1]
    )
    options = numba.njit(signature, nogil=True, cache=True, fastmath={"contract"})
    compiled: Callable[..., None] = options(_line_loop)
    return compiled


def _line_loop(x, starts, out, offsets, weights):  # type: ignore[no-untyped-def]
    m, count = out.shape[1], len(offsets)
    for r in range(len(starts)):
        y, at = out[r], starts[r]
        # The first loop takes what is over, so that the others, which add, take 4.
        n = (count - 1) % 4 + 1
        for k in range(m):
            y[k] = 0
        for w in range(n):
            s = at + offsets[w]
            x0, c0 = x[s : s + m], weights[w]
            for k in range(m):
                y[k] += c0 * x0[k]
        for w in range(n, count, 4):
            s = at + offsets[w]
            x0, c0 = x[s : s + m], weights[w]
            s = at + offsets[w + 1]
            x1, c1 = x[s : s + m], weights[w + 1]
            s = at + offsets[w + 2]
            x2, c2 = x[s : s + m], weights[w + 2]
            s = at + offsets[w + 3]
            x3, c3 = x[s : s + m], weights[w + 3]
            for k in range(m):
                y[k] += c0 * x0[k] + c1 * x1[k] + (c2 * x2[k] + c3 * x3[k])


def by_line(
    x: NDArray,
    out: NDArray,
    taps: NDArray,
    first: int,
    axis: int,
    have: slice,
    want: slice,
) -> None:
    """Fill `out` with a convolution along one axis, every line with taps of its own.

    Parameters
    ----------
    x, out, first, axis, have, want
        As for `by_tap`, along one axis.
    taps : ndarray
        As many axes as x; along the axis the taps, along others the size of x or 1.
    """
    x, out, taps = (np.moveaxis(a, axis, -1) for a in (x, out, taps))
    for piece in _pieces(out.shape[:-1], max(1, PIECE // out.shape[-1])):
        lines = x[piece]
        filled = np.zeros(out[piece].shape, out.dtype)
        cut = tuple(
            p if n > 1 else slice(None) for p, n in zip(piece, taps.shape, strict=False)
        )
        own = taps[cut]
        for k in range(taps.shape[-1]):
            # Sample i of `out` reads sample i - lag of the axis.
            lag = first + k
            low = max(want.start, have.start + lag)
            high = min(want.stop, have.stop + lag)
            if low < high:
                read = lines[..., low - lag - have.start : high - lag - have.start]
                filled[..., low - want.start : high - want.start] += (
                    own[..., k, None] * read
                )
        out[piece] = filled


# --- by Fourier transforms ------------------------------------------------------------


def by_fft(
    x: NDArray,
    out: NDArray,
    taps: NDArray,
    first: Sequence[int],
    axes: Sequence[int],
    have: Slices,
    want: Slices,
    parts: Sequence[int] | None = None,
    spectra: dict[Any, NDArray] | None = None,
) -> None:
    """Fill `out` with a convolution along some axes, computed by Fourier transforms.

    Parameters
    ----------
    x, out, first, axes, have, want
        As for `by_tap`.
    taps : ndarray
        The filter: its last axes are one for each of `axes`. Where lines have filters of
        their own, it has others before them: as many as x has besides `axes`, of their
        size or 1.
    parts : sequence of int, optional
        Samples along each axis that are made by one transform; what `fft_samples` thinks
        best unless given.
    spectra : dict, optional
        Keeps transforms of the filter from one call to the next.
    """
    ndim = len(axes)
    sizes = taps.shape[taps.ndim - ndim :]
    if parts is None:
        parts = [n for n, _ in _transforms(sizes, want)]
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    order = sorted(rest, key=lambda axis: -abs(x.strides[axis]))
    if taps.ndim > ndim:
        turn = [rest.index(axis) for axis in order]
        taps = taps.transpose([*turn, *range(len(rest), taps.ndim)])
    x, out = x.transpose([*order, *axes]), out.transpose([*order, *axes])
    cuts = [
        [slice(at, min(at + part, w.stop)) for at in range(w.start, w.stop, part)]
        for w, part in zip(want, parts, strict=True)
    ]
    for piece in itertools.product(*cuts):
        read, write, near = [], [], []
        for p, lag, size, h, w in zip(piece, first, sizes, have, want, strict=True):
            low = max(h.start, p.start - lag - (size - 1))
            high = max(min(h.stop, p.stop - lag), low)
            near.append(slice(low, high))
            read.append(slice(low - h.start, high - h.start))
            write.append(slice(p.start - w.start, p.stop - w.start))
        source: Any = (..., *read)
        target: Any = (..., *write)
        _transformed(x[source], out[target], taps, first, near, piece, spectra)


def _transforms(sizes: Sequence[int], want: Slices) -> list[tuple[int, int]]:
    """By axis: samples that one transform makes, and how many it transforms."""
    from scipy.fft import next_fast_len

    lengths = [w.stop - w.start for w in want]
    pairs = list(zip(lengths, sizes, strict=True))
    if math.prod(n + size - 1 for n, size in pairs) > TRANSFORM:
        least = int(TRANSFORM ** (1 / len(pairs)))
        pairs = [(min(n, max(4 * size, least - size)), size) for n, size in pairs]
    return [(n, next_fast_len(n + size - 1, real=True)) for n, size in pairs]


def fft_samples(sizes: Sequence[int], want: Slices) -> int:
    """How many samples are transformed for each line of a piece.

    Parameters
    ----------
    sizes : sequence of int
        Taps along each axis.
    want : sequence of slice
        The piece to make.
    """
    total = 1
    for (part, samples), w in zip(_transforms(sizes, want), want, strict=True):
        total *= -(-(w.stop - w.start) // part) * samples
    return total


def _transformed(
    x: NDArray,
    out: NDArray,
    taps: NDArray,
    first: Sequence[int],
    have: Slices,
    want: Slices,
    spectra: dict[Any, NDArray] | None,
) -> None:
    """One piece by one transform; the axes to convolve along are the last ones."""
    from scipy.fft import next_fast_len

    from xlops.kernels.fourier import engine

    by = engine()
    ndim = len(first)
    rows = out.shape[: out.ndim - ndim]
    is_real = x.dtype.kind != "c" and taps.dtype.kind != "c"
    kind = out.dtype
    response_kind = np.result_type(kind, np.complex64)
    shape, write = [], []
    for lag, size, h, w in zip(
        first, taps.shape[taps.ndim - ndim :], have, want, strict=True
    ):
        length = h.stop - h.start
        # Samples that are read before the first and after the last: they must be zeros,
        # though those after the end of a transform are those at its start.
        before = max(0, h.start - (w.start - lag - (size - 1)))
        after = max(0, w.stop - lag - h.stop)
        shift = w.start - h.start
        least = max(length + max(before, after), shift + w.stop - w.start, 1)
        shape.append(next_fast_len(least, real=is_real))
        write.append((shift, w.stop - w.start))
    axes = tuple(range(len(rows), len(rows) + ndim))
    count = max(1, PIECE // math.prod(shape))
    if taps.ndim == ndim:
        key = (*shape, kind, is_real)
        response = None if spectra is None else spectra.get(key)
        if response is None:
            response = _spectrum(taps, first, shape, kind, is_real)
            if spectra is not None and len(spectra) < 16:
                spectra[key] = response
    # Memory for one piece, used again for the next.
    half = (*shape[:-1], shape[-1] // 2 + 1)
    memory = np.empty(count * math.prod(shape), kind)
    spare = np.empty(count * math.prod(half) if is_real else 0, response_kind)
    for piece in _pieces(rows, count):
        size = [p.stop - p.start for p in piece]
        if taps.ndim > ndim:
            cut = tuple(
                p if n > 1 else slice(None) for p, n in zip(piece, taps.shape, strict=False)
            )
            response = _spectrum(taps[cut], first, shape, kind, is_real)
        padded = memory[: math.prod(size) * math.prod(shape)].reshape(*size, *shape)
        _fill_up(padded, x[piece], axes)
        if is_real:
            values = spare[: math.prod(size) * math.prod(half)].reshape(*size, *half)
            by.r2c(padded, values, axes, "none")
            values *= response
            by.c2r(values, padded, axes, "1/n")
        else:
            by.c2c(padded, padded, axes, True, "none")
            padded *= response
            by.c2c(padded, padded, axes, False, "1/n")
        for axis, (shift, length) in zip(axes, write, strict=True):
            if shift < 0:
                padded = np.roll(padded, -shift, axis)
                shift = 0
            index: Any = (*(slice(None),) * axis, slice(shift, shift + length))
            padded = padded[index]
        out[piece] = padded


def _fill_up(padded: NDArray, x: NDArray, axes: Sequence[int]) -> None:
    """Fill an array with x and zeros after it."""
    kept: list[Any] = [slice(None)] * x.ndim
    for axis in axes:
        after = kept.copy()
        after[axis] = slice(x.shape[axis], None)
        padded[tuple(after)] = 0
        kept[axis] = slice(0, x.shape[axis])
    padded[tuple(kept)] = x


def _spectrum(
    taps: NDArray,
    first: Sequence[int],
    shape: Sequence[int],
    kind: np.dtype[Any],
    is_real: bool,
) -> NDArray:
    """The transform of a filter, its lags folded into the period; in double precision."""
    from xlops.kernels.fourier import engine

    ndim = len(first)
    lead = taps.shape[: taps.ndim - ndim]
    double = np.float64 if is_real else np.complex128
    folded = taps.astype(double)
    for axis, (lag, samples) in enumerate(zip(first, shape, strict=True), len(lead)):
        wrapped = np.zeros(
            (*folded.shape[:axis], samples, *folded.shape[axis + 1 :]), double
        )
        at = (lag + np.arange(folded.shape[axis])) % samples
        index: Any = (*(slice(None),) * axis, at)
        np.add.at(wrapped, index, folded)
        folded = wrapped
    axes = tuple(range(len(lead), len(lead) + ndim))
    if is_real:
        half = (*folded.shape[:-1], folded.shape[-1] // 2 + 1)
        values = np.empty(half, np.complex128)
        engine().r2c(folded, values, axes, "none")
    else:
        values = folded
        engine().c2c(folded, values, axes, True, "none")
    return values.astype(np.result_type(kind, np.complex64), copy=False)
