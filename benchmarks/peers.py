"""What xlops is measured against, besides PyLops: copies, and stencils for map_overlap."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["Copy", "compiled", "expression", "thread_count"]

Array = npt.NDArray[Any]


def thread_count() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- copies ---------------------------------------------------------------------------


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(thread_count())


class Copy:
    """Reads the input and writes an output of the right size, on all threads.

    An output that is larger than the input is filled up with zeros; of a larger input
    only as much is read as the output holds.
    """

    def __init__(self, x: Array, size: int, dtype: np.dtype[Any]) -> None:
        self.x = np.ascontiguousarray(x).reshape(-1).view(dtype)
        self.size = size
        pieces = 4 * thread_count()
        edges = [size * i // pieces for i in range(pieces + 1)]
        self.slabs = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self.buffer: Array | None = None

    def fresh(self) -> Array:
        """Into a new array."""
        return self._into(np.empty(self.size, self.x.dtype))

    def warm(self) -> Array:
        """Into an array whose memory is there already."""
        if self.buffer is None:
            self.buffer = np.zeros(self.size, self.x.dtype)
        return self._into(self.buffer)

    def _into(self, out: Array) -> Array:
        def slab(piece: slice) -> None:
            source = self.x[piece]
            out[piece][: source.size] = source
            out[piece][source.size :] = 0

        list(_pool().map(slab, self.slabs))
        return out


# --- stencils along one axis: of a block, 0 where they would reach beyond it ----------

_THREE_POINTS = {"first": (-0.5, 0.0, 0.5), "second": (1.0, -2.0, 1.0)}
_SMOOTHED = 11


def compiled(kind: str, axis: int) -> Callable[[Array], Array]:
    """A stencil as a numba loop: "first", "second", "smooth" or "laplacian"."""
    if kind == "laplacian":
        return _laplacian

    def block(x: Array) -> Array:
        shape = x.shape
        rows = np.ascontiguousarray(x).reshape(
            int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :]))
        )
        if kind == "smooth":
            return np.asarray(_running_mean(rows)).reshape(shape)
        return np.asarray(_three_points(rows, *_THREE_POINTS[kind])).reshape(shape)

    return block


def expression(kind: str, axis: int | Sequence[int]) -> Callable[[Array], Array]:
    """The same stencil as one writes it in NumPy."""
    if kind == "laplacian":
        assert not isinstance(axis, int)
        seconds = [expression("second", a) for a in axis]
        return lambda x: np.asarray(sum(second(x) for second in seconds))
    assert isinstance(axis, int)

    def block(x: Array) -> Array:
        x = np.moveaxis(x, axis, 0)
        out = np.zeros_like(x)
        if kind == "first":
            out[1:-1] = 0.5 * (x[2:] - x[:-2])
        elif kind == "second":
            out[1:-1] = x[2:] - 2 * x[1:-1] + x[:-2]
        else:
            half, n = _SMOOTHED // 2, x.shape[0]
            for shift in range(-half, half + 1):
                to = slice(max(0, -shift), min(n, n - shift))
                out[to] += x[max(0, shift) : min(n, n + shift)]
            out /= _SMOOTHED
        return np.moveaxis(out, 0, axis)

    return block


_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@_jit
def _three_points(x, before, at, after):  # type: ignore[no-untyped-def]
    outer, rows, inner = x.shape
    out = np.empty_like(x)
    for o in range(outer):
        out[o, 0] = 0.0
        out[o, rows - 1] = 0.0
        if inner == 1:
            for i in range(1, rows - 1):
                out[o, i, 0] = (
                    before * x[o, i - 1, 0] + at * x[o, i, 0] + after * x[o, i + 1, 0]
                )
        else:
            for i in range(1, rows - 1):
                for k in range(inner):
                    out[o, i, k] = (
                        before * x[o, i - 1, k] + at * x[o, i, k] + after * x[o, i + 1, k]
                    )
    return out


@_jit
def _running_mean(x):  # type: ignore[no-untyped-def]
    outer, rows, inner = x.shape
    half = _SMOOTHED // 2
    out = np.zeros_like(x)
    for o in range(outer):
        for i in range(rows):
            for j in range(max(0, i - half), min(rows, i + half + 1)):
                for k in range(inner):
                    out[o, i, k] += x[o, j, k]
            for k in range(inner):
                out[o, i, k] *= 1.0 / _SMOOTHED
    return out


@_jit
def _laplacian(x):  # type: ignore[no-untyped-def]
    rows, columns, inner = x.shape
    out = np.zeros_like(x)
    for i in range(rows):
        for j in range(columns):
            for k in range(1, inner - 1):
                out[i, j, k] = x[i, j, k - 1] - 2.0 * x[i, j, k] + x[i, j, k + 1]
            if 0 < i < rows - 1:
                for k in range(inner):
                    out[i, j, k] += x[i - 1, j, k] - 2.0 * x[i, j, k] + x[i + 1, j, k]
            if 0 < j < columns - 1:
                for k in range(inner):
                    out[i, j, k] += x[i, j - 1, k] - 2.0 * x[i, j, k] + x[i, j + 1, k]
    return out
