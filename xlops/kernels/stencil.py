"""Banded matrices along one axis: derivatives and their adjoints."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["Band", "apply"]

# Samples of the fastest axis that one pass works on: they stay in the L1 cache.
_TILE = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Band:
    """A banded n × n matrix: ``y[i] = Σ_w coefficients[w, i] x[i + offsets[w]]``.

    Parameters
    ----------
    offsets : ndarray of int
        The diagonals, in order.
    coefficients : ndarray of float64
        Their entries by row, shape (offsets, n); 0 where a row does not use one.
    used : ndarray of bool
        Where rows use a diagonal: what they do not use they do not read, so that NaN
        there stays out.
    """

    offsets: npt.NDArray[np.intp]
    coefficients: npt.NDArray[np.float64]
    used: npt.NDArray[np.bool_]

    def scaled(self, f):
        return Band(self.offsets, self.coefficients * f, self.used)

    @functools.cached_property
    def inside(self) -> tuple[int, int]:
        """First and last row + 1 of those that use every diagonal."""
        rows = np.flatnonzero(self.used.all(axis=0))
        return (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)

    @functools.cached_property
    def transposed(self) -> Band:
        """The transposed matrix."""
        n = self.coefficients.shape[1]
        offsets = -self.offsets[::-1]
        coefficients = np.zeros_like(self.coefficients)
        used = np.zeros_like(self.used)
        for w, offset in enumerate(offsets):
            source = len(offsets) - 1 - w
            rows = np.arange(max(0, -offset), min(n, n - offset))
            coefficients[w, rows] = self.coefficients[source, rows + offset]
            used[w, rows] = self.used[source, rows + offset]
        return Band(offsets, coefficients, used)

    @property
    def reach(self) -> tuple[int, int]:
        """How many samples before and after it reads."""
        return max(0, -int(self.offsets[0])), max(0, int(self.offsets[-1]))


def apply(x: npt.NDArray[Any], band: Band, have: slice, want: slice) -> npt.NDArray[Any]:
    """Rows `want` of the product of a band with x, which holds samples `have`.

    Parameters
    ----------
    x : ndarray, shape (outer, samples, inner), C-contiguous
        The samples `have` of the whole axis; float or complex.
    band : Band
        The matrix, of the whole axis.
    have, want : slice
        Ranges of the whole axis, starts and stops given.
    """
    rows = slice(want.start, want.stop)
    coefficients = band.coefficients[:, rows].astype(x.real.dtype)
    used = np.ascontiguousarray(band.used[:, rows])
    first, last = (min(max(i - want.start, 0), used.shape[1]) for i in band.inside)
    out = np.zeros((x.shape[0], want.stop - want.start, x.shape[2]), dtype=x.dtype)
    shift = band.offsets + (want.start - have.start)
    _compiled(x.dtype)(x, coefficients, used, shift, first, max(first, last), out)
    return out


@functools.cache
def _compiled(dtype: np.dtype[Any]) -> Callable[..., None]:
    """The loop for one dtype; read-only arrays take the same one."""
    data = numba.from_dtype(dtype)
    real = numba.from_dtype(np.empty(0, dtype).real.dtype)

    def array(kind: Any, ndim: int, readonly: bool = True) -> Any:
        return numba.types.Array(kind, ndim, "C", readonly=readonly)

    signature = numba.void(
        array(data, 3),
        array(real, 2),
        array(numba.boolean, 2),
        array(numba.intp, 1),
        numba.intp,
        numba.intp,
        array(data, 3, readonly=False),
    )
    loop: Callable[..., None] = numba.njit(signature, nogil=True, cache=True)(_loop)
    return loop


def _loop(x, coefficients, used, shift, first, last, out):  # type: ignore[no-untyped-def]
    outer, rows, inner = out.shape
    width = len(shift)
    for o in range(outer):
        if inner == 1:
            for w in range(width):
                for i in range(first, last):
                    out[o, i, 0] += coefficients[w, i] * x[o, i + shift[w], 0]
        else:
            for i in range(first, last):
                for start in range(0, inner, _TILE):
                    stop = min(start + _TILE, inner)
                    for w in range(width):
                        c = coefficients[w, i]
                        source = i + shift[w]
                        for k in range(start, stop):
                            out[o, i, k] += c * x[o, source, k]
        for i in range(rows):
            if first <= i < last:
                continue
            for w in range(width):
                if used[w, i]:
                    c = coefficients[w, i]
                    source = i + shift[w]
                    for k in range(inner):
                        out[o, i, k] += c * x[o, source, k]


def star(x, out, terms, have, want):
    out[...] = 0
    for axis, band in terms:
        idx = [slice(w - h, w - h + s) for h, w, s in zip(have, want, out.shape)]
        idx[axis] = slice(None)
        xx = x[tuple(idx)]
        shp = xx.shape
        rows = np.ascontiguousarray(xx).reshape(
            int(np.prod(shp[:axis])), shp[axis], int(np.prod(shp[axis + 1 :]))
        )
        r = apply(
            rows,
            band,
            slice(have[axis], have[axis] + shp[axis]),
            slice(want[axis], want[axis] + out.shape[axis]),
        )
        out += r.reshape(out.shape)
