"""Samples that land where a table says: scattered along an axis, or gathered from it.

Tables say for each sample where on the axis it lands: as whole numbers (uint32), or as
floats, whose sample is shared out between the two that it lies between. What lands
nowhere is at the length of the axis: there, beyond its end, are two more places that
nobody reads. So no loop asks where the axis ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["gather", "scatter"]

NDArray = npt.NDArray[Any]


def scatter(
    x: NDArray, at: NDArray, out: NDArray, length: int, start: int = 0, add: bool = False
) -> None:
    """Fill `out` with samples where they land; many may land on one.

    Parameters
    ----------
    x : ndarray, shape (shared, lines, samples)
        Float or complex.
    at : ndarray of uint32 or float64, shape (shared, made, samples)
        Where they land on the axis, from 0 to its last sample; at `length` they are lost.
    out : ndarray, shape (shared, lines, made, piece of the axis)
        Of the dtype of x. Sums are in double precision.
    length : int
        Samples of the whole axis.
    start : int
        Where on it `out` starts.
    add : bool
        Whether to add to what `out` holds.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.scatter import scatter
    >>> out = np.empty((1, 1, 1, 4))
    >>> scatter(np.array([[[1.0, 2.0]]]), np.array([[[0.0, 2.25]]]), out, 4)
    >>> out.ravel()
    array([1. , 0. , 1.5, 0.5])
    """
    axis = np.zeros(length + 2, _double(x.dtype))
    _compiled(_LOOPS["scatter", at.dtype.kind], x.dtype, at.dtype)(
        x, at, out, axis, start, add
    )


def gather(y: NDArray, at: NDArray, sums: NDArray, length: int, start: int = 0) -> None:
    """Add to `sums` what lies where samples land: the transpose of `scatter`.

    Parameters
    ----------
    y : ndarray, shape (shared, lines, made, piece of the axis)
        Float or complex; zeros elsewhere on the axis.
    at : ndarray of uint32 or float64, shape (shared, made, samples)
        As for `scatter`.
    sums : ndarray, shape (shared, lines, samples)
        Float64 or complex128.
    length, start : int
        As for `scatter`.
    """
    axis = np.zeros(length + 2, _double(y.dtype))
    _compiled(_LOOPS["gather", at.dtype.kind], y.dtype, at.dtype)(y, at, sums, axis, start)


def _double(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.float64)


@functools.cache
def _compiled(
    loop: Callable[..., None], dtype: np.dtype[Any], table: np.dtype[Any]
) -> Callable[..., None]:
    """The loop for one dtype; strides and flags of arrays make no difference."""

    def read(kind: np.dtype[Any], ndim: int) -> Any:
        return numba.types.Array(numba.from_dtype(kind), ndim, "A", readonly=True)

    number, double = numba.from_dtype(dtype), numba.from_dtype(_double(dtype))
    at, axis = read(table, 3), double[::1]
    if loop in (_scatter_nearest, _scatter_linear):
        out = numba.types.Array(number, 4, "A")
        signature: tuple[Any, ...]
        signature = (read(dtype, 3), at, out, axis, numba.int64, numba.boolean)
    else:
        signature = (read(dtype, 4), at, double[:, :, :], axis, numba.int64)
    decorate = numba.njit(
        numba.void(*signature), nogil=True, cache=True, fastmath={"contract"}
    )
    compiled: Callable[..., None] = decorate(loop)
    return compiled


def _scatter_nearest(x, at, out, axis, start, add):  # type: ignore[no-untyped-def]
    shared, lines, made, piece = out.shape
    for s in range(shared):
        for m in range(made):
            row = at[s, m]
            for line in range(lines):
                axis[:] = 0.0
                for k in range(len(row)):
                    axis[row[k]] += x[s, line, k]
                for t in range(piece):
                    before = out[s, line, m, t] if add else 0.0
                    out[s, line, m, t] = before + axis[start + t]


def _scatter_linear(x, at, out, axis, start, add):  # type: ignore[no-untyped-def]
    shared, lines, made, piece = out.shape
    for s in range(shared):
        for m in range(made):
            row = at[s, m]
            for line in range(lines):
                axis[:] = 0.0
                for k in range(len(row)):
                    value = x[s, line, k]
                    i = np.uint32(row[k])
                    far = row[k] - i
                    axis[i] += (1.0 - far) * value
                    if far:  # else the next one is none of its business, NaN or not
                        axis[i + np.uint32(1)] += far * value
                for t in range(piece):
                    before = out[s, line, m, t] if add else 0.0
                    out[s, line, m, t] = before + axis[start + t]


def _gather_nearest(y, at, sums, axis, start):  # type: ignore[no-untyped-def]
    shared, lines, made, piece = y.shape
    for s in range(shared):
        for m in range(made):
            row = at[s, m]
            for line in range(lines):
                for t in range(piece):
                    axis[start + t] = y[s, line, m, t]
                into = sums[s, line]
                for k in range(len(row)):
                    into[k] += axis[row[k]]


def _gather_linear(y, at, sums, axis, start):  # type: ignore[no-untyped-def]
    shared, lines, made, piece = y.shape
    for s in range(shared):
        for m in range(made):
            row = at[s, m]
            for line in range(lines):
                for t in range(piece):
                    axis[start + t] = y[s, line, m, t]
                into = sums[s, line]
                for k in range(len(row)):
                    i = np.uint32(row[k])
                    far = row[k] - i
                    value = (1.0 - far) * axis[i]
                    if far:
                        value += far * axis[i + np.uint32(1)]
                    into[k] += value


_LOOPS = {
    ("scatter", "u"): _scatter_nearest,
    ("scatter", "f"): _scatter_linear,
    ("gather", "u"): _gather_nearest,
    ("gather", "f"): _gather_linear,
}
