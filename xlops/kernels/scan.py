"""Running sums along one axis, a piece at a time, and their transposes.

The matrices are triangular: ``y[i] = Σ_{j<i} before[j] x[j] + own[i] x[i]``. What stands
before a piece enters as one number for every line, its carry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from xlops.kernels.once import once
from xlops.kernels.stencil import Memory

__all__ = ["scan", "total"]

# Samples across the axis whose running sums stay in the L1 cache.
_ACROSS = 1024
# Where there are fewer numbers than this across the axis, that many lines are summed at
# once, that many samples at a time: they stay in the L1 cache.
_FEW, _LINES, _LONG = 8, 16, 128


def scan(
    x: npt.NDArray[Any],
    out: npt.NDArray[Any],
    before: npt.NDArray[np.float64],
    own: npt.NDArray[np.float64],
    carry: npt.NDArray[Any] | None = None,
    reverse: bool = False,
) -> None:
    """Fill `out` with running sums of a piece of an axis, or with their transpose.

    Forward, ``out[i] = carry + Σ_{j<i} before[j] x[j] + own[i] x[i]``; in reverse,
    ``out[j] = before[j] (carry + Σ_{i>j} x[i]) + own[j] x[j]``. Sums are in double
    precision.

    Parameters
    ----------
    x, out : ndarray, shape (outer, samples, inner)
        Float or complex, both the same; any strides. They may be the same array.
    before, own : ndarray of float64, shape (samples,)
        The weights of the piece's samples.
    carry : ndarray, shape (outer, inner), optional
        What stands before the piece, or after it in reverse, as `total` gives it.
    reverse : bool
        Whether to apply the transpose.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.scan import scan
    >>> x = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    >>> out, ones = np.empty_like(x), np.ones(3)
    >>> scan(x, out, ones, ones)
    >>> out.ravel()
    array([1., 3., 6.])
    """
    if not out.size:
        return
    outer, _, inner = out.shape
    sums = np.zeros((outer, inner), _double(x.dtype))
    if carry is not None:
        sums[...] = carry
    if not _dense(x):
        x = np.ascontiguousarray(x)
    filled = out if _dense(out) else np.empty_like(out, order="C")
    _run(_SCAN, x, filled, before, own, sums, 2 if reverse else 1)
    if filled is not out:
        out[...] = filled


def total(
    x: npt.NDArray[Any],
    before: npt.NDArray[np.float64] | None,
    out: npt.NDArray[Any],
) -> None:
    """Fill `out` with what a piece adds to the carry of the next one.

    Parameters
    ----------
    x : ndarray, shape (outer, samples, inner)
        The piece.
    before : ndarray of float64, shape (samples,), or None
        Its weights; none for the transpose.
    out : ndarray, shape (outer, inner)
        ``Σ_j before[j] x[j]``; best float64 or complex128.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.scan import total
    >>> out = np.empty((1, 1))
    >>> total(np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), np.array([1.0, 1.0, 2.0]), out)
    >>> out
    array([[9.]])
    """
    sums = np.zeros(out.shape, _double(x.dtype))
    if x.size:
        x = x if _dense(x) else np.ascontiguousarray(x)
        weights = np.ones(x.shape[1]) if before is None else before
        _run(_TOTAL, x, None, weights, weights, sums, 0)
    out[...] = sums


def _double(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.float64)


def _dense(array: npt.NDArray[Any]) -> bool:
    return array.strides[2] == array.itemsize or array.shape[2] == 1


def _run(
    loop: Callable[..., None],
    x: npt.NDArray[Any],
    out: npt.NDArray[Any] | None,
    before: npt.NDArray[np.float64],
    own: npt.NDArray[np.float64],
    sums: npt.NDArray[Any],
    way: int,
) -> None:
    """Run a loop over the memory of arrays: complex numbers are two floats."""
    real = np.empty(0, x.dtype).real.dtype
    parts = x.itemsize // real.itemsize
    outer, samples, inner = x.shape
    source = Memory(x, real, True)
    read = [stride // real.itemsize for stride in x.strides[:2]]
    given: list[Any] = [np.asarray(source), source.start, *read]
    if out is not None:
        target = Memory(out, real, False)
        write = [stride // real.itemsize for stride in out.strides[:2]]
        given += [np.asarray(target), target.start, *write, way == 2]
    _compiled(loop, real)(
        outer,
        samples,
        inner * parts,
        np.ascontiguousarray(before, np.float64),
        np.ascontiguousarray(own, np.float64),
        sums.view(np.float64),
        *given,
    )


@once
def _compiled(loop: Callable[..., None], real: np.dtype[Any]) -> Callable[..., None]:
    number = numba.from_dtype(real)
    weights = numba.types.Array(numba.float64, 1, "C", readonly=True)
    signature = [numba.int64] * 3 + [weights, weights, numba.float64[:, ::1]]
    signature += [numba.types.Array(number, 1, "C", readonly=True)] + [numba.int64] * 3
    if loop is _SCAN:
        signature += [number[::1]] + [numba.int64] * 3 + [numba.boolean]
    decorate = numba.njit(
        numba.void(*signature), nogil=True, cache=True, fastmath={"contract"}
    )
    compiled: Callable[..., None] = decorate(loop)
    return compiled


def _scan_loop(  # type: ignore[no-untyped-def]
    outer,
    samples,
    inner,
    before,
    own,
    sums,
    x,
    at,
    far,
    near,
    out,
    to,
    wide,
    tight,
    reverse,
):
    if inner < _FEW:
        # A sum waits for the one before it: lines go side by side, as columns of a
        # block that is copied in and out.
        block = np.empty((_LONG, _LINES))
        running = np.zeros(_LINES)
        for top in range(0, outer * inner, _LINES):
            lines = min(_LINES, outer * inner - top)
            for line in range(lines):
                running[line] = sums[(top + line) // inner, (top + line) % inner]
            for done in range(0, samples, _LONG):
                count = min(_LONG, samples - done)
                first = samples - done - count if reverse else done
                for line in range(lines):
                    o, k = (top + line) // inner, (top + line) % inner
                    source = at + o * far + k + first * near
                    if near == 1:
                        values = x[source : source + count]
                        for i in range(count):
                            block[i, line] = values[i]
                    else:
                        for i in range(count):
                            block[i, line] = x[source + i * near]
                for step in range(count):
                    i = count - 1 - step if reverse else step
                    b, c = before[first + i], own[first + i]
                    # What enters the sum, and the weight of the sum.
                    enter, leave = (1.0, b) if reverse else (b, 1.0)
                    row = block[i]
                    for line in range(_LINES):
                        value = row[line]
                        row[line] = leave * running[line] + c * value
                        running[line] += enter * value
                for line in range(lines):
                    o, k = (top + line) // inner, (top + line) % inner
                    target = to + o * wide + k + first * tight
                    if tight == 1:
                        filled = out[target : target + count]
                        for i in range(count):
                            filled[i] = block[i, line]
                    else:
                        for i in range(count):
                            out[target + i * tight] = block[i, line]
        return
    for o in range(outer):
        for start in range(0, inner, _ACROSS):
            stop = min(start + _ACROSS, inner)
            sum_ = sums[o, start:stop]
            for step in range(samples):
                i = samples - 1 - step if reverse else step
                b, c = before[i], own[i]
                enter, leave = (1.0, b) if reverse else (b, 1.0)
                source = at + o * far + i * near
                target = to + o * wide + i * tight
                row = x[source + start : source + stop]
                filled = out[target + start : target + stop]
                for k in range(stop - start):
                    value = row[k]
                    filled[k] = leave * sum_[k] + c * value
                    sum_[k] += enter * value


def _total_loop(  # type: ignore[no-untyped-def]
    outer, samples, inner, before, own, sums, x, at, far, near
):
    if inner == 1:
        for o in range(outer):
            # Partial sums, that do not wait for each other.
            source = at + o * far
            s0 = s1 = s2 = s3 = 0.0
            even = samples - samples % 4
            for i in range(0, even, 4):
                s0 += before[i] * x[source + i * near]
                s1 += before[i + 1] * x[source + (i + 1) * near]
                s2 += before[i + 2] * x[source + (i + 2) * near]
                s3 += before[i + 3] * x[source + (i + 3) * near]
            for i in range(even, samples):
                s0 += before[i] * x[source + i * near]
            sums[o, 0] = (s0 + s1) + (s2 + s3)
        return
    for o in range(outer):
        for start in range(0, inner, _ACROSS):
            stop = min(start + _ACROSS, inner)
            sum_ = sums[o, start:stop]
            for i in range(samples):
                source = at + o * far + i * near
                row = x[source + start : source + stop]
                weight = before[i]
                for k in range(stop - start):
                    sum_[k] += weight * row[k]


_SCAN, _TOTAL = _scan_loop, _total_loop
