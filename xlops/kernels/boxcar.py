"""Sums over windows of many samples, at the price of three additions each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from xlops.kernels.once import once

__all__ = ["windows"]

NDArray = npt.NDArray[Any]

# Lines that are summed side by side, in vectors.
_LINES = 16


def windows(
    x: NDArray,
    out: NDArray,
    axis: int,
    reach: int,
    have: slice,
    want: slice,
    factor: float = 1.0,
) -> None:
    """Fill `out` with sums over windows of 2 · `reach` + 1 samples along an axis.

    What lies beyond the ends of the axis counts as zero. Samples are summed from the
    start of their block of one window's length, and from its end [1]_: every window is
    the end of one block and the start of the next. Nothing is ever subtracted, so that
    no digits are lost and NaN stays in the windows that have it.

    Parameters
    ----------
    x, out : ndarray
        float32, float64, complex64 or complex128, both the same, and of the same shape
        but for the axis; any strides.
    axis : int
        The axis.
    reach : int
        Samples of a window to either side of its middle.
    have, want : slice
        Where along the whole axis `x` and `out` lie; `x` covers all that windows need.
    factor : float
        What the sums are multiplied by.

    References
    ----------
    .. [1] M. van Herk, "A fast algorithm for local minimum and maximum filters on
       rectangular and octagonal kernels", Pattern Recognition Letters 13, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.boxcar import windows
    >>> out = np.empty(4)
    >>> windows(np.array([1.0, 2.0, 3.0, 4.0]), out, 0, 1, slice(0, 4), slice(0, 4))
    >>> out
    array([3., 6., 9., 7.])
    """
    if x.dtype.kind == "c":
        for part in ("real", "imag"):
            filled = getattr(out, part)
            windows(getattr(x, part), filled, axis, reach, have, want, factor)
        return
    before = have.start - (want.start - reach)  # samples that windows have before x
    fill = _windows(x.dtype)
    x, out = np.moveaxis(x, axis, 0), np.moveaxis(out, axis, 0)
    # Lines that are next to each other in memory are summed together.
    order = [0, *(1 + np.argsort([-abs(s) for s in out.strides[1:]], kind="stable"))]
    x, out = x.transpose(order), out.transpose(order)
    for lines, filled in _merged(x, out):
        fill(lines, filled, before, reach, factor)


def _merged(x: NDArray, out: NDArray) -> list[tuple[NDArray, NDArray]]:
    """Views with three axes: along the windows, and two across."""
    if out.ndim < 3:
        more = (..., *(None,) * (3 - out.ndim))
        return [(x[more], out[more])]
    shape = (-1, out.shape[-1])
    try:
        return [
            (
                x.reshape(len(x), *shape, copy=False),
                out.reshape(len(out), *shape, copy=False),
            )
        ]
    except ValueError:
        pieces = []
        for i in range(out.shape[1]):
            pieces += _merged(x[:, i], out[:, i])
        return pieces


@once
def _windows(real: np.dtype[Any]) -> Callable[..., None]:
    """The loop for one dtype; read-only arrays take the same one."""
    number = numba.from_dtype(real)
    signature = numba.void(
        numba.types.Array(number, 3, "A", readonly=True),
        numba.types.Array(number, 3, "A"),
        numba.int64,
        numba.int64,
        numba.float64,
    )
    compiled: Callable[..., None] = numba.njit(signature, nogil=True, cache=True)(_loop)
    return compiled


def _loop(x, out, before, reach, factor):  # type: ignore[no-untyped-def]
    length, count = 2 * reach + 1, len(out)
    size = (count + 2 * length - 1) // length * length
    low, high = max(0, -before), min(len(x), size - before)
    # Sums from the start of a block to before a sample, and from it to the end.
    starts = np.zeros((size + 1, _LINES))
    ends = np.zeros((size + 1, _LINES))
    outer, rows = x.shape[1], x.shape[2]
    for first in range(0, outer * rows, _LINES):
        lines = min(_LINES, outer * rows - first)
        ends[:] = 0.0
        for k in range(lines):
            i, j = (first + k) // rows, (first + k) % rows
            for s in range(low, high):
                ends[before + s, k] = x[s, i, j]
        for b in range(0, size, length):
            for s in range(b + 1, b + length):
                for k in range(_LINES):
                    starts[s, k] = starts[s - 1, k] + ends[s - 1, k]
            for s in range(b + length - 2, b - 1, -1):
                for k in range(_LINES):
                    ends[s, k] += ends[s + 1, k]
        for k in range(lines):
            i, j = (first + k) // rows, (first + k) % rows
            for s in range(count):
                out[s, i, j] = factor * (ends[s, k] + starts[s + length, k])
