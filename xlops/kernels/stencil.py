"""Sums of banded matrices along axes, in one pass over memory.

A run of memory is made at a time: the taps (distance in memory, weight) of all bands are
collected, then the run is the sum of its taps. Taps are the same for all of a run, so
that each is one multiplication of vectors, whatever axis it comes from. Complex data are
the same as floats, two by two, since weights are real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from xlops.kernels.band import Band, Flags
from xlops.kernels.once import once

__all__ = ["apply", "star"]

# Bytes of one run: it stays in the L1 cache where its taps are more than one loop takes.
_RUN = 1 << 15
# Bytes which the taps along leading axes come back to: more are worked on in blocks.
_FAR = 1 << 23
# Diagonals from which copies of a line, one for each alignment, are worth making.
_WIDE = 24


# --- what kernels take ----------------------------------------------------------------

# Columns of the table of terms.
_AXIS, _START, _ROWS, FIRST, LAST, ALIKE, _TRUNCATED = range(7)
_WIDTH, _OFFSETS, _INSIDE, _INNER, _WEIGHTS, _TABLE, _LENGTH, _FIELDS = range(7, 15)


class _Packed(NamedTuple):
    """The bands of a sum in three arrays."""

    terms: npt.NDArray[np.int64]
    integers: npt.NDArray[np.int64]
    reals: npt.NDArray[Any]
    used: Flags
    # The dictionary's key has the bands' identities, which hold while they live.
    bands: tuple[Band, ...]


def pack(bands: tuple[Band, ...], spacings: tuple[int, ...], dtype: Any) -> _Packed:
    """What the kernel takes; rows and offsets along an axis times its spacing."""
    key = (dtype, spacings, tuple(map(id, bands)))
    return bands[0].once(key, lambda: _pack(bands, spacings, dtype))


def _pack(bands: tuple[Band, ...], spacings: tuple[int, ...], dtype: Any) -> _Packed:
    terms = np.zeros((len(bands), _FIELDS), dtype=np.int64)
    integers: list[Any] = []
    reals: list[Any] = []
    used: list[Any] = []
    i = r = 0
    for term, band, spacing in zip(terms, bands, spacings, strict=True):
        inner = np.flatnonzero(band.inside)
        entries, uses = band.tables
        term[_ROWS] = band.n * spacing
        term[FIRST], term[LAST] = band.first * spacing, band.last * spacing
        term[ALIKE], term[_TRUNCATED] = band.weights is not None, band.truncated
        term[_WIDTH], term[_INNER] = len(band.offsets), len(inner)
        term[_OFFSETS], term[_INSIDE] = i, i + len(band.offsets)
        integers += [band.offsets * spacing, inner]
        i += len(band.offsets) + len(inner)
        weights = np.zeros(0) if band.weights is None else band.weights
        term[_WEIGHTS], term[_TABLE] = r, r + len(weights)
        term[_LENGTH] = entries.shape[1] * spacing
        # Uses stand where the coefficients stand.
        reals += [weights, np.repeat(entries, spacing, axis=1).ravel()]
        used += [np.ones(len(weights), np.bool_), np.repeat(uses, spacing, axis=1).ravel()]
        r += len(weights) + entries.size * spacing
    return _Packed(
        terms,
        np.concatenate(integers).astype(np.int64),
        np.concatenate(reals).astype(dtype),
        np.concatenate(used),
        bands,
    )


class Memory:
    """The memory from a strided array's lowest element to its highest, as one array."""

    def __init__(self, array: npt.NDArray[Any], real: Any, readonly: bool) -> None:
        extent, low = array.itemsize if array.size else 0, 0
        for size, stride in zip(array.shape, array.strides, strict=True):
            if stride < 0 < extent:
                low += (size - 1) * stride
            extent += (size - 1) * abs(stride) if extent else 0
        itemsize = real.itemsize
        self.start = -low // itemsize
        self._array = array
        self.__array_interface__ = {
            "version": 3,
            "typestr": real.str,
            "shape": (extent // itemsize,),
            "data": (array.__array_interface__["data"][0] + low, readonly),
        }


def apply(x: npt.NDArray[Any], band: Band, have: slice, want: slice) -> npt.NDArray[Any]:
    """Rows `want` of the product of a band with x, which holds samples `have`.

    Parameters
    ----------
    x : ndarray, shape (outer, samples, inner)
        The samples `have` of the whole axis; float or complex.
    band : Band
        The matrix, of the whole axis.
    have, want : slice
        Ranges of the whole axis, starts and stops given.
    """
    out = np.empty((x.shape[0], want.stop - want.start, x.shape[2]), dtype=x.dtype)
    star(x, out, [(1, band)], (0, have.start, 0), (0, want.start, 0))
    return out


def star(
    x: npt.NDArray[Any],
    out: npt.NDArray[Any],
    terms: Sequence[tuple[int, Band]],
    have: Sequence[int],
    want: Sequence[int],
) -> None:
    """Fill `out` with the sum of bands along axes of x.

    Parameters
    ----------
    x, out : ndarray
        float32, float64, complex64 or complex128, both the same; samples lie any whole
        number of samples apart. They do not overlap. x covers what rows of `out` read.
    terms : sequence of (int, Band)
        Axes and the matrices along them, of the whole axes.
    have, want : sequence of int
        By axis, where in the whole axis x and `out` start.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.band import Band
    >>> from xlops.kernels.stencil import star
    >>> x = np.arange(12.0).reshape(3, 4) ** 2
    >>> second = [-1, 0, 1], [1.0, -2.0, 1.0]
    >>> out = np.empty((1, 2))
    >>> terms = [(0, Band.constant(3, *second)), (1, Band.constant(4, *second))]
    >>> star(x, out, terms, have=(0, 0), want=(1, 1))
    >>> out
    array([[34., 34.]])
    """
    if not out.size:
        return
    if len({axis for axis, _ in terms}) < len(terms):
        sums: dict[int, Band] = {}
        for axis, band in terms:
            sums[axis] = sums[axis] + band if axis in sums else band
        terms = list(sums.items())
    if not terms:
        out[...] = 0
        return
    if x.dtype not in REAL or x.dtype != out.dtype:
        raise TypeError(f"no stencils from {x.dtype} into {out.dtype}")
    itemsize = x.itemsize
    banded = [axis for axis, _ in terms]
    # Single samples without a band are nothing to loop over.
    order = [i for i in range(x.ndim) if out.shape[i] > 1 or i in banded] or [x.ndim - 1]
    if not (_dense(x, order[-1]) and _dense(out, order[-1])):
        order = _line_last(x, out, order)
        if not _dense(x, order[-1]):
            x = _in_order(x, order, copy=True)
        if not _dense(out, order[-1]):
            filled = _in_order(out, order, copy=False)
            star(x, filled, terms, have, want)
            out[...] = filled
            return
    real = REAL[x.dtype]
    # Numbers in a sample, and bytes in a number.
    parts, size = itemsize // real.itemsize, real.itemsize
    source, at = as_numbers(x, real, True)
    target, to = as_numbers(out, real, False)
    shape, near, far = out.shape, x.strides, out.strides
    for axis in range(x.ndim):
        at += (want[axis] - have[axis]) * (near[axis] // size)
    # Axes with no band are one where memory allows. First the line, of numbers one apart.
    line = order.pop()
    axes = [[shape[line] * parts, 1, 1]]
    places = {line: 0} if line in banded else {}
    for axis in reversed(order):
        length, read, write = shape[axis], near[axis] // size, far[axis] // size
        inner = axes[-1]
        if axis in banded:
            places[axis] = len(axes)
        elif (
            len(axes) - 1 not in places.values()
            and inner[0] * inner[1] == read
            and inner[0] * inner[2] == write
        ):
            inner[0] *= length
            continue
        axes.append([length, read, write])
    if len(axes) == 1:
        axes.append([1, 0, 0])
    axes.reverse()
    last = len(axes) - 1
    spacings = tuple([1 if places[axis] else parts for axis in banded])
    packed = pack(tuple([band for _, band in terms]), spacings, real)
    table = packed.terms.copy()
    for term, axis, spacing in zip(table, banded, spacings, strict=True):
        term[_AXIS], term[_START] = last - places[axis], want[axis] * spacing
    _star(real)(
        source,
        at,
        target,
        to,
        np.array(axes, np.int64),
        table,
        packed.integers,
        packed.reals,
        packed.used,
    )


REAL = {
    np.dtype(kind): np.empty(0, kind).real.dtype
    for kind in (np.float32, np.float64, np.complex64, np.complex128)
}


def as_numbers(
    array: npt.NDArray[Any], real: np.dtype[Any], readonly: bool
) -> tuple[npt.NDArray[Any], int]:
    """The memory of an array, and where its first element stands there."""
    if array.flags.c_contiguous:
        return array.reshape(-1).view(real), 0
    memory = Memory(array, real, readonly)
    return np.asarray(memory), memory.start


def _dense(array: npt.NDArray[Any], axis: int) -> bool:
    """Whether samples along an axis are neighbours in memory."""
    return array.strides[axis] == array.itemsize or array.shape[axis] == 1


def _line_last(x: npt.NDArray[Any], out: npt.NDArray[Any], axes: list[int]) -> list[int]:
    """Axes in the order of memory; last one that is dense in both arrays, if any is."""
    order = sorted(axes, key=lambda axis: -abs(out.strides[axis]))
    for axis in order[::-1]:
        if _dense(x, axis) and _dense(out, axis):
            order.remove(axis)
            return [*order, axis]
    return order


def _in_order(array: npt.NDArray[Any], order: list[int], copy: bool) -> npt.NDArray[Any]:
    """An array like another, of which memory has these axes last and in this order."""
    rest = [axis for axis in range(array.ndim) if axis not in order]
    full = rest + order
    new = np.empty([array.shape[axis] for axis in full], array.dtype)
    view = new.transpose(np.argsort(full))
    if copy:
        view[...] = array
    return view


# --- the loops ------------------------------------------------------------------------


@once
def _star(real: np.dtype[Any]) -> Callable[..., None]:
    """The loop for one dtype; read-only arrays take the same one."""
    number = numba.from_dtype(real)

    def array(kind: Any, ndim: int = 1, readonly: bool = False) -> Any:
        return numba.types.Array(kind, ndim, "C", readonly=readonly)

    signature = numba.void(
        array(number, readonly=True),
        numba.int64,
        array(number),
        numba.int64,
        array(numba.int64, 2),
        array(numba.int64, 2),
        array(numba.int64),
        array(number),
        array(numba.boolean),
    )
    # A product and a sum may round once; NaN and infinity stay what they are.
    options = numba.njit(signature, nogil=True, cache=True, fastmath={"contract"})
    compiled: Callable[..., None] = options(_star_loop)
    return compiled


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def add_taps(out, x, at, offsets, weights, count):  # type: ignore[no-untyped-def]
    """Fill a run with the sum of taps, 8 to a loop."""
    m = len(out)
    if count == 0:
        out[:] = 0
        return
    # The first loop takes what is over, so that the others, which add, take 8.
    n = (count - 1) % 8 + 1
    s = at + offsets[0]
    x0, c0 = x[s : s + m], weights[0]
    s = at + offsets[min(1, n - 1)]
    x1, c1 = x[s : s + m], weights[min(1, n - 1)]
    s = at + offsets[min(2, n - 1)]
    x2, c2 = x[s : s + m], weights[min(2, n - 1)]
    s = at + offsets[min(3, n - 1)]
    x3, c3 = x[s : s + m], weights[min(3, n - 1)]
    s = at + offsets[min(4, n - 1)]
    x4, c4 = x[s : s + m], weights[min(4, n - 1)]
    s = at + offsets[min(5, n - 1)]
    x5, c5 = x[s : s + m], weights[min(5, n - 1)]
    s = at + offsets[min(6, n - 1)]
    x6, c6 = x[s : s + m], weights[min(6, n - 1)]
    s = at + offsets[min(7, n - 1)]
    x7, c7 = x[s : s + m], weights[min(7, n - 1)]
    if n == 1:
        for k in range(m):
            out[k] = c0 * x0[k]
    elif n == 2:
        for k in range(m):
            out[k] = c0 * x0[k] + c1 * x1[k]
    elif n == 3:
        for k in range(m):
            out[k] = c0 * x0[k] + c1 * x1[k] + c2 * x2[k]
    elif n == 4:
        for k in range(m):
            out[k] = c0 * x0[k] + c1 * x1[k] + c2 * x2[k] + c3 * x3[k]
    elif n == 5:
        for k in range(m):
            out[k] = c0 * x0[k] + c1 * x1[k] + c2 * x2[k] + c3 * x3[k] + c4 * x4[k]
    elif n == 6:
        for k in range(m):
            a = c0 * x0[k] + c1 * x1[k] + c2 * x2[k]
            out[k] = a + (c3 * x3[k] + c4 * x4[k] + c5 * x5[k])
    elif n == 7:
        for k in range(m):
            a = c0 * x0[k] + c1 * x1[k] + c2 * x2[k] + c3 * x3[k]
            out[k] = a + (c4 * x4[k] + c5 * x5[k] + c6 * x6[k])
    else:
        for k in range(m):
            a = c0 * x0[k] + c1 * x1[k] + c2 * x2[k] + c3 * x3[k]
            out[k] = a + (c4 * x4[k] + c5 * x5[k] + c6 * x6[k] + c7 * x7[k])
    for w in range(n, count, 8):
        s = at + offsets[w]
        x0, c0 = x[s : s + m], weights[w]
        s = at + offsets[w + 1]
        x1, c1 = x[s : s + m], weights[w + 1]
        s = at + offsets[w + 2]
        x2, c2 = x[s : s + m], weights[w + 2]
        s = at + offsets[w + 3]
        x3, c3 = x[s : s + m], weights[w + 3]
        s = at + offsets[w + 4]
        x4, c4 = x[s : s + m], weights[w + 4]
        s = at + offsets[w + 5]
        x5, c5 = x[s : s + m], weights[w + 5]
        s = at + offsets[w + 6]
        x6, c6 = x[s : s + m], weights[w + 6]
        s = at + offsets[w + 7]
        x7, c7 = x[s : s + m], weights[w + 7]
        for k in range(m):
            a = c0 * x0[k] + c1 * x1[k] + c2 * x2[k] + c3 * x3[k]
            out[k] += a + (c4 * x4[k] + c5 * x5[k] + c6 * x6[k] + c7 * x7[k])


@numba.njit(nogil=True, cache=True)
def collect(  # type: ignore[no-untyped-def]
    term, index, step, integers, reals, used, offsets, weights, count
):
    """Append the taps of one row; a band's own sample is one tap for all bands."""
    row = index + term[_START]
    first, last = term[FIRST], term[LAST]
    alike = term[ALIKE] == 1
    whole = alike and first <= row < last
    column = row - last + first if alike and row >= last else row
    for j in range(term[_INNER] if whole else term[_WIDTH]):
        w = integers[term[_INSIDE] + j] if whole else j
        place = term[_WEIGHTS] + w if whole else term[_TABLE] + w * term[_LENGTH] + column
        if not whole and not used[place]:
            continue
        offset = integers[term[_OFFSETS] + w] * step
        at = count
        if offset == 0:
            for k in range(count):
                if offsets[k] == 0:
                    at = k
        if at == count:
            offsets[at], weights[at] = offset, reals[place]
            count += 1
        else:
            weights[at] += reals[place]
    return count


@numba.njit(nogil=True, cache=True)
def _ends(  # type: ignore[no-untyped-def]
    term, start, stop, f, g, integers, reals, used, bounds, offsets, weights
):
    """The taps of the samples of a line that are not inside, [start, f) and [g, stop)."""
    count = 0
    for e in range(stop - start - (g - f)):
        k = start + e if start + e < f else start + e + g - f
        column = k + term[_START]
        if term[ALIKE] == 1 and column >= term[LAST]:
            column += term[FIRST] - term[LAST]
        bounds[e] = count
        for w in range(term[_WIDTH]):
            place = term[_TABLE] + w * term[_LENGTH] + column
            if used[place]:
                offsets[count] = k + integers[term[_OFFSETS] + w]
                weights[count] = reals[place]
                count += 1
    bounds[stop - start - (g - f)] = count


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _fill_ends(  # type: ignore[no-untyped-def]
    x,
    source,
    read,
    out,
    target,
    write,
    lines,
    start,
    stop,
    f,
    g,
    offsets,
    weights,
    n,
    bounds,
    own,
    entries,
):
    """The samples of some lines that are not inside."""
    for j in range(lines):
        p, q = source + j * read, target + j * write
        for e in range(stop - start - (g - f)):
            k = start + e if start + e < f else start + e + g - f
            total = out.dtype.type(0)
            for w in range(n):
                total += weights[w] * x[p + k + offsets[w]]
            for w in range(bounds[e], bounds[e + 1]):
                total += entries[w] * x[p + own[w]]
            out[q + k] = total


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _add_uneven(  # type: ignore[no-untyped-def]
    x, at, out, term, column, integers, reals, added
):
    """Rows inside an uneven band along the line, 3 diagonals to a loop."""
    m = len(out)
    count = term[_INNER]
    for j in range(0, count, 3):
        w = integers[term[_INSIDE] + j]
        s = at + integers[term[_OFFSETS] + w]
        t = term[_TABLE] + w * term[_LENGTH] + column
        x0, c0 = x[s : s + m], reals[t : t + m]
        w = integers[term[_INSIDE] + min(j + 1, count - 1)]
        s = at + integers[term[_OFFSETS] + w]
        t = term[_TABLE] + w * term[_LENGTH] + column
        x1, c1 = x[s : s + m], reals[t : t + m]
        w = integers[term[_INSIDE] + min(j + 2, count - 1)]
        s = at + integers[term[_OFFSETS] + w]
        t = term[_TABLE] + w * term[_LENGTH] + column
        x2, c2 = x[s : s + m], reals[t : t + m]
        left = count - j
        if not added:
            if left == 1:
                for k in range(m):
                    out[k] = c0[k] * x0[k]
            elif left == 2:
                for k in range(m):
                    out[k] = c0[k] * x0[k] + c1[k] * x1[k]
            else:
                for k in range(m):
                    out[k] = c0[k] * x0[k] + c1[k] * x1[k] + c2[k] * x2[k]
        elif left == 1:
            for k in range(m):
                out[k] += c0[k] * x0[k]
        elif left == 2:
            for k in range(m):
                out[k] += c0[k] * x0[k] + c1[k] * x1[k]
        else:
            for k in range(m):
                out[k] += c0[k] * x0[k] + c1[k] * x1[k] + c2[k] * x2[k]
        added = True
    if not added:
        out[:] = 0


@numba.njit(nogil=True, cache=True)
def _copy(x, out, add):  # type: ignore[no-untyped-def]
    if add:
        for k in range(len(out)):
            out[k] += x[k]
    else:
        for k in range(len(out)):
            out[k] = x[k]


@numba.njit(nogil=True, cache=True)
def _blocks(axes, terms, integers, run, itemsize):  # type: ignore[no-untyped-def]
    """Rows, and samples of a line, whose planes along other axes stay in the cache."""
    last = len(axes) - 1
    rows, line = axes[last - 1, 0], axes[last, 0]
    outer = across = 1
    for t in range(len(terms)):
        d = terms[t, _AXIS]
        if d < last and terms[t, _WIDTH]:
            first = terms[t, _OFFSETS]
            # The planes that one plane of output reads.
            planes = integers[first + terms[t, _WIDTH] - 1] - integers[first] + 1
            if d == last - 1:
                across = planes
            else:
                for inner in range(d + 1, last - 1):
                    planes *= axes[inner, 0]
                outer = max(outer, planes)
    if outer * rows * line * itemsize > _FAR:
        rows = max(1, _FAR // 2 // (outer * line * itemsize))
    planes = max(outer, across)
    if planes * line * itemsize > _FAR:
        # Many planes are read many times each: from the L2 cache.
        kept = _FAR // 2 if planes < 32 else _FAR // 16
        line = max(512, min(run, kept // (planes * itemsize)) // 512 * 512)
    return rows, line


def _star_loop(  # type: ignore[no-untyped-def]
    x, at, out, to, axes, terms, integers, reals, used
):
    last = len(axes) - 1
    outer = last - 1
    rows, read, write = axes[outer]
    line = axes[last, 0]
    in_line = in_rows = -1
    most = 1
    for t in range(len(terms)):
        most += terms[t, _WIDTH]
        if terms[t, _AXIS] == last:
            in_line = t
        elif terms[t, _AXIS] == outer:
            in_rows = t
    term = terms[max(in_line, 0)]
    padded = in_line >= 0 and term[_TRUNCATED] == 1
    uneven = in_line >= 0 and term[ALIKE] == 0

    # Long lines are cut in runs; short ones are joined where that is one piece of memory.
    run = _RUN // out.itemsize
    block, length = _blocks(axes, terms, integers, run, out.itemsize)
    if padded:
        run //= 4
        length = min(length, -(-line // -(-line // run)))
    length = min(length, line)
    joined = length == line and read == line and write == line and not uneven
    per = max(1, run // line) if joined or (padded and length == line) else 1
    block = -(-block // per) * per

    # Taps of leading axes; those and of rows; those and of the line.
    offsets = np.empty((3, most), np.int64)
    weights = np.empty((3, most), reals.dtype)

    # Lines of a padded band stand in a buffer with zeros between, repeated for each
    # alignment if there are many taps: a vector that crosses cache lines loads slowly.
    before = after = 0
    if padded and term[_WIDTH]:
        before = max(0, -integers[term[_OFFSETS]])
        after = max(0, integers[term[_OFFSETS] + term[_WIDTH] - 1])
    copies = 64 // out.itemsize if term[_WIDTH] >= _WIDE else 1
    whole = line == term[_ROWS]
    pitch = length + (max(before, after) if whole else before + after)
    room = -(-(per * pitch + before + after) // 16) * 16 + 16
    buffer = np.zeros(copies * room + 16 if padded else 0, out.dtype)
    sums = np.empty(per * pitch + 16 if padded else 0, out.dtype)
    aligned = (-buffer.ctypes.data // out.itemsize) % 16
    moved = np.empty(most, np.int64)
    scaled = np.empty(most, reals.dtype)
    count = 0
    for s in range(copies if padded else 0):
        for w in range(term[_WIDTH]):
            offset = before + integers[term[_OFFSETS] + w]
            if offset % copies == s:
                moved[count] = aligned + s * room + offset - s
                scaled[count] = reals[term[_WEIGHTS] + w]
                count += 1

    # Taps of the samples of the line that are not inside its band.
    several = in_line >= 0 and not padded
    size = min(length, term[_ROWS] - term[LAST] + term[FIRST]) if several else 0
    bounds = np.empty(size + 1, np.int64)
    own = np.empty(size * term[_WIDTH], np.int64)
    entries = np.empty(size * term[_WIDTH], reals.dtype)

    index = np.zeros(outer + 1, np.int64)
    for start in range(0, line, length):
        stop = min(start + length, line)
        # What one loop fills: the samples inside the line's band.
        f, g = start, stop
        if several:
            f = max(start, term[FIRST] - term[_START])
            g = min(stop, term[LAST] - term[_START])
            if f >= g:
                f = g = stop
            _ends(
                term,
                start,
                stop,
                f,
                g,
                integers,
                reals,
                used,
                bounds,
                own,
                entries,
            )
        for k in range(len(buffer)):
            buffer[k] = 0
        for top in range(0, rows, block):
            bottom = min(top + block, rows)
            index[:] = 0
            d = 0
            while d >= 0:
                p, q, n0 = at, to, 0
                for d in range(outer):
                    p += index[d] * axes[d, 1]
                    q += index[d] * axes[d, 2]
                for t in range(len(terms)):
                    d = terms[t, _AXIS]
                    if d < outer:
                        n0 = collect(
                            terms[t],
                            index[d],
                            axes[d, 1],
                            integers,
                            reals,
                            used,
                            offsets[0],
                            weights[0],
                            n0,
                        )
                r = top
                while r < bottom:
                    # Rows with the same taps.
                    end, n1 = bottom, n0
                    for w in range(n0):
                        offsets[1, w], weights[1, w] = offsets[0, w], weights[0, w]
                    if in_rows >= 0:
                        band = terms[in_rows]
                        n1 = collect(
                            band,
                            r,
                            read,
                            integers,
                            reals,
                            used,
                            offsets[1],
                            weights[1],
                            n0,
                        )
                        i = r + band[_START]
                        end = r + 1
                        if band[ALIKE] == 1 and band[FIRST] <= i < band[LAST]:
                            end = min(bottom, band[LAST] - band[_START])
                    # Taps of the loop, and whether there are none.
                    level, n2 = 1, n1
                    if several and not uneven and f < g:
                        level = 2
                        for w in range(n1):
                            offsets[2, w], weights[2, w] = offsets[1, w], weights[1, w]
                        n2 = collect(
                            term,
                            f,
                            1,
                            integers,
                            reals,
                            used,
                            offsets[2],
                            weights[2],
                            n1,
                        )
                    idle = f >= g or (n2 == 0 and (padded or uneven))
                    while r < end:
                        e = min(r + per, end)
                        source, target = p + r * read, q + r * write
                        # Between joined lines this fills their ends with what is
                        # replaced below.
                        m = g - f + ((e - r - 1) * line if joined else 0)
                        for j in range(0 if idle else 1 if joined else e - r):
                            for k in range(f, f + m, run):
                                o = target + j * write + k
                                add_taps(
                                    out[o : o + min(run, f + m - k)],
                                    x,
                                    source + j * read + k,
                                    offsets[level],
                                    weights[level],
                                    n2,
                                )
                        if padded:
                            i = term[_START] + start
                            low = max(0, i - before)
                            high = min(term[_ROWS], i + stop - start + after)
                            m = high - low
                            for j in range(e - r):
                                s = source + j * read + low - term[_START]
                                b = aligned + j * pitch + before + low - i
                                _copy(x[s : s + m], buffer[b : b + m], False)
                            m = (e - r - 1) * pitch + stop - start
                            n = m + before + after
                            for s in range(1, copies):
                                b = aligned + s * room
                                _copy(
                                    buffer[aligned + s : aligned + n],
                                    buffer[b : b + n - s],
                                    False,
                                )
                            add_taps(sums[:m], buffer, 0, moved, scaled, count)
                            m = stop - start
                            for j in range(e - r):
                                o = target + j * write + start
                                _copy(sums[j * pitch :][:m], out[o : o + m], n2 > 0)
                        elif several:
                            if f < g and uneven:
                                for k in range(f, g, run):
                                    _add_uneven(
                                        x,
                                        source + k,
                                        out[target + k : target + min(k + run, g)],
                                        term,
                                        k + term[_START],
                                        integers,
                                        reals,
                                        n2 > 0,
                                    )
                            if start < f or g < stop:
                                _fill_ends(
                                    x,
                                    source,
                                    read,
                                    out,
                                    target,
                                    write,
                                    e - r,
                                    start,
                                    stop,
                                    f,
                                    g,
                                    offsets[1],
                                    weights[1],
                                    n1,
                                    bounds,
                                    own,
                                    entries,
                                )
                        r = e
                d = outer - 1
                while d >= 0:
                    index[d] += 1
                    if index[d] < axes[d, 0]:
                        break
                    index[d] = 0
                    d -= 1
