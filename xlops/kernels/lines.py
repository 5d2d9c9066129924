"""Chains of banded matrices and weights along one axis, in one pass over memory.

Some rows of the axis are made at a time: read, weighted, and handed from band to band
in buffers that stay in the cache. What the next rows need of a result on the way stays
in its buffer, so that nothing is made twice. A row is a line of samples across the
axis, which are neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from xlops.kernels.band import Band
from xlops.kernels.once import once
from xlops.kernels.stencil import (
    ALIKE,
    FIRST,
    LAST,
    REAL,
    add_taps,
    as_numbers,
    collect,
    pack,
)

__all__ = ["PIECES", "WEIGHTS", "Level", "run"]

NDArray = npt.NDArray[Any]

# Arrays that one call reads: pieces of x along the axis, and weights.
PIECES, WEIGHTS = 3, 5
# Bytes of a line, and of the rows that are made at a time.
_LINE = 1 << 12
_BATCH = 1 << 16
# Numbers that one loop makes: in the L1 cache where there are more taps than one takes.
_LOOP = 1 << 11


class Level(NamedTuple):
    """A banded matrix, and weights that its result is multiplied by.

    Parameters
    ----------
    band : Band or None
        The matrix, of the whole axis; None where x itself is weighted.
    weight : ndarray, optional
        Real, or of the dtype of the data; shaped to multiply them.
    start : int
        Where along the axis the weights start.
    conjugate : bool
        Whether their conjugate is used.
    """

    band: Band | None
    weight: NDArray | None = None
    start: int = 0
    conjugate: bool = False


def run(
    pieces: Sequence[tuple[NDArray, int]],
    out: NDArray,
    axis: int,
    start: int,
    levels: Sequence[Level],
) -> None:
    """Fill `out` with what a chain of bands and weights makes of x.

    Parameters
    ----------
    pieces : sequence of (ndarray, int)
        x along the axis, in up to `PIECES` pieces that follow each other, and where they
        start; float32, float64, complex64 or complex128, whole samples apart.
    out : ndarray
        The result, of the dtype of x; neighbours along the last axis are neighbours in
        memory.
    axis : int
        The axis of the bands, not the last one.
    start : int
        Where along the axis `out` starts.
    levels : sequence of Level
        The chain, first what is applied first. The first one has no band; up to
        `WEIGHTS` of them have weights.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.lines import Level, run
    >>> from xlops.kernels.band import Band
    >>> x = np.arange(8.0).reshape(4, 2)
    >>> difference = Band.constant(4, [0, 1], [-1.0, 1.0])
    >>> out = np.empty((2, 2))
    >>> run([(x, 0)], out, 0, 1, [Level(None, 10 * np.ones((1, 1))), Level(difference)])
    >>> out
    array([[20., 20.],
           [20., 20.]])
    """
    real = REAL[out.dtype]
    parts = out.itemsize // real.itemsize
    # From the result back: the rows that each level makes.
    table = np.zeros((len(levels), 7), np.int64)
    table[-1, :2] = start, start + out.shape[axis]
    for after, before, level in zip(
        table[:0:-1], table[-2::-1], levels[:0:-1], strict=True
    ):
        assert level.band is not None
        after[2:4] = level.band.reach
        before[0] = max(after[0] - after[2], 0)
        before[1] = min(after[1] + after[3], level.band.n)
    # All arrays, and where they start along the axis.
    arrays: list[tuple[NDArray, int]] = []
    ends = np.full(PIECES, table[0, 1])
    for n, (piece, at) in enumerate(pieces):
        arrays.append((piece, at))
        ends[n] = at + piece.shape[axis]
    ends[len(pieces) - 1] = table[0, 1]
    arrays += [arrays[-1]] * (PIECES - len(pieces))
    for row, level in zip(table, levels, strict=True):
        row[4] = -1
        if level.weight is not None:
            row[4:] = len(arrays), level.weight.dtype.kind == "c", level.conjugate
            shape = list(out.shape)
            shape[axis] = level.weight.shape[axis]
            at = level.start
            if level.weight.shape[axis] == 1 < row[1] - row[0]:
                shape[axis], at = int(row[1] - row[0]), int(row[0])
            arrays.append((np.broadcast_to(level.weight, shape), at))
    arrays += [arrays[0]] * (PIECES + WEIGHTS - len(arrays))
    arrays.append((out, start))
    flat, places, strides, length = _laid_out(arrays, axis, real)
    bands = tuple([level.band for level in levels[1:] if level.band is not None])
    packed = pack(bands, (1,) * len(bands), real)
    _run(real)(
        tuple(flat[:-1]),
        flat[-1],
        places,
        strides,
        length,
        parts,
        ends,
        table,
        packed.terms,
        packed.integers,
        packed.reals,
        packed.used,
    )


def _laid_out(
    arrays: Sequence[tuple[NDArray, int]], axis: int, real: np.dtype[Any]
) -> tuple[list[NDArray], npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Memory of arrays as numbers; where lines start; steps of axis and line; samples."""
    out = arrays[-1][0]
    steps = np.array([a.strides for a, _ in arrays], np.int64) // real.itemsize
    last = out.ndim - 1
    line, length = last, out.shape[last]
    # Axes next to the line are part of it where all arrays allow that.
    while line - 1 > axis and np.array_equal(
        steps[:, line - 1], steps[:, line] * out.shape[line]
    ):
        line -= 1
        length *= out.shape[line]
    flat, places = [], []
    others = [i for i in range(line) if i != axis]
    shape = tuple(out.shape[i] for i in others)
    for n, (array, start) in enumerate(arrays):
        numbers, at = as_numbers(array, real, n < len(arrays) - 1)
        flat.append(numbers)
        starts = np.full(shape, at - start * steps[n, axis], np.int64)
        for i, index in zip(others, np.indices(shape, sparse=True), strict=True):
            starts += index * steps[n, i]
        places.append(starts.reshape(-1))
    strides = np.stack([steps[:, axis], steps[:, last]], axis=1)
    return flat, np.stack(places, axis=1), strides, length


@once
def _run(real: np.dtype[Any]) -> Callable[..., None]:
    """The loop for one dtype; read-only arrays take the same one."""
    number = numba.from_dtype(real)

    def array(kind: Any, ndim: int = 1, readonly: bool = False) -> Any:
        return numba.types.Array(kind, ndim, "C", readonly=readonly)

    signature = numba.void(
        numba.types.UniTuple(  # type: ignore[no-untyped-call]
            array(number, readonly=True), PIECES + WEIGHTS
        ),
        array(number),
        array(numba.int64, 2),
        array(numba.int64, 2),
        numba.int64,
        numba.int64,
        array(numba.int64),
        array(numba.int64, 2),
        array(numba.int64, 2),
        array(numba.int64),
        array(number),
        array(numba.boolean),
    )
    options = numba.njit(signature, nogil=True, cache=True, fastmath={"contract"})
    compiled: Callable[..., None] = options(_run_loop)
    return compiled


@numba.njit(nogil=True, cache=True)
def _read(out, x, at, step, parts):  # type: ignore[no-untyped-def]
    """A line of x."""
    if step == parts:
        line = x[at : at + len(out)]
        for k in range(len(out)):
            out[k] = line[k]
    else:
        for k in range(len(out) // parts):
            for part in range(parts):
                out[k * parts + part] = x[at + k * step + part]


@numba.njit(nogil=True, cache=True)
def _weigh(out, w, at, step, parts, paired, conjugate):  # type: ignore[no-untyped-def]
    """A line of numbers times a line of weights."""
    if paired:
        sign = -1 if conjugate else 1
        for k in range(len(out) // 2):
            a, b = out[2 * k], out[2 * k + 1]
            c, d = w[at + k * step], sign * w[at + k * step + 1]
            out[2 * k], out[2 * k + 1] = a * c - b * d, a * d + b * c
    elif parts == 2:
        for k in range(len(out) // 2):
            c = w[at + k * step]
            out[2 * k] *= c
            out[2 * k + 1] *= c
    elif step == 1:
        line = w[at : at + len(out)]
        for k in range(len(out)):
            out[k] *= line[k]
    elif step == 0:
        c = w[at]
        for k in range(len(out)):
            out[k] *= c
    else:
        for k in range(len(out)):
            out[k] *= w[at + k * step]


@numba.njit(nogil=True, cache=True)
def _read_weighted(out, x, at, w, start):  # type: ignore[no-untyped-def]
    """A line of x times a line of weights, both of real neighbours."""
    m = len(out)
    line, weights = x[at : at + m], w[start : start + m]
    for k in range(m):
        out[k] = line[k] * weights[k]


def _run_loop(  # type: ignore[no-untyped-def]
    arrays,
    out,
    places,
    strides,
    length,
    parts,
    ends,
    levels,
    terms,
    integers,
    reals,
    used,
):
    top = len(levels) - 1
    result = len(arrays)
    longest = min(length, max(1, _LINE // out.itemsize // parts))
    rows = max(4, _BATCH // (longest * parts * out.itemsize))
    # A buffer for all levels but the last, whose rows are those of `out`.
    starts = np.zeros(top + 1, np.int64)
    reach, most = 0, 0
    for s in range(top, 0, -1):
        reach += levels[s, 2] + levels[s, 3]
        height = min(levels[s - 1, 1] - levels[s - 1, 0], rows + reach)
        starts[s - 1] = height * longest * parts
        most = max(most, levels[s, 2] + levels[s, 3] + 1)
    size = 0
    for s in range(top):
        starts[s], size = size, size + -(-starts[s] // 16) * 16
    buffer = np.empty(size, out.dtype)
    offsets, weights = np.empty(most, np.int64), np.empty(most, out.dtype)
    # Rows up to here are made; the first row in the buffer; up to where to make rows.
    done = np.empty(top + 1, np.int64)
    kept = np.empty(top + 1, np.int64)
    until = np.empty(top + 1, np.int64)
    for o in range(len(places)):
        for first in range(0, length, longest):
            samples = min(longest, length - first)
            pitch = samples * parts
            group = max(1, _LOOP // pitch)
            done[:] = levels[:, 0]
            kept[:] = levels[:, 0]
            while done[top] < levels[top, 1]:
                until[top] = min(done[top] + rows, levels[top, 1])
                for s in range(top, 0, -1):
                    until[s - 1] = min(until[s] + levels[s, 3], levels[s - 1, 1])
                for s in range(top + 1):
                    low, high = done[s], until[s]
                    target, goal, wide = out, places[o, result], strides[result, 0]
                    goal += first * strides[result, 1] + low * wide
                    if s < top:
                        # Make room: rows that the next level needs no more go.
                        keep = max(levels[s, 0], done[s + 1] - levels[s + 1, 2])
                        shift = (keep - kept[s]) * pitch
                        if shift:
                            b = starts[s]
                            for k in range(b, b + (low - keep) * pitch):
                                buffer[k] = buffer[k + shift]
                        kept[s] = keep
                        target, goal, wide = buffer, starts[s], pitch
                        goal += (low - keep) * pitch
                    slot = levels[s, 4]
                    at = step = start = across = 0
                    if slot >= 0:
                        step, across = strides[slot, 0], strides[slot, 1]
                        start = places[o, slot] + first * across
                    if s == 0:
                        for r in range(low, high):
                            p = 0
                            while r >= ends[p]:
                                p += 1
                            at = places[o, p] + r * strides[p, 0]
                            at += first * strides[p, 1]
                            line = target[goal : goal + pitch]
                            if slot >= 0 and parts == 1 == strides[p, 1] == across:
                                _read_weighted(
                                    line, arrays[p], at, arrays[slot], start + r * step
                                )
                            else:
                                _read(line, arrays[p], at, strides[p, 1], parts)
                                if slot >= 0:
                                    _weigh(
                                        line,
                                        arrays[slot],
                                        start + r * step,
                                        across,
                                        parts,
                                        levels[s, 5],
                                        levels[s, 6],
                                    )
                            goal += wide
                        done[s] = high
                        continue
                    band = terms[s - 1]
                    below = starts[s - 1] - kept[s - 1] * pitch
                    r = low
                    while r < high:
                        # Rows with the same taps.
                        end = r + 1
                        if band[ALIKE] == 1 and band[FIRST] <= r < band[LAST]:
                            end = min(high, band[LAST])
                        count = collect(
                            band, r, pitch, integers, reals, used, offsets, weights, 0
                        )
                        while r < end:
                            # As many rows as stay in the L1 cache; of `out`, where
                            # they are not neighbours, one.
                            n = min(end - r, group) if wide == pitch else 1
                            for k in range(0, n * pitch, _LOOP):
                                add_taps(
                                    target[goal + k : goal + min(k + _LOOP, n * pitch)],
                                    buffer,
                                    below + r * pitch + k,
                                    offsets,
                                    weights,
                                    count,
                                )
                            for i in range(n if slot >= 0 else 0):
                                _weigh(
                                    target[goal + i * pitch : goal + (i + 1) * pitch],
                                    arrays[slot],
                                    start + (r + i) * step,
                                    across,
                                    parts,
                                    levels[s, 5],
                                    levels[s, 6],
                                )
                            goal += n * wide
                            r += n
                    done[s] = high
