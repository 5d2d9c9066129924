"""Products of matrices with all columns of an array: BLAS on any strides.

BLAS wants two axes of each array, one of them without gaps. Arrays come with any number
of axes in any order; they are looked at as matrices where their strides allow it, and
copied in pieces where they do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["contract"]

NDArray: TypeAlias = npt.NDArray[Any]

# Fewer columns than this in one product are gathered to more, at the price of a copy.
FEW_COLUMNS = 32
# Bytes of what is copied, or converted, at a time: what fits in the cache of one core
# where pieces have their own matrices, more where each piece reads the same one again.
OWN_PIECE = 2**20
PIECE = 2**23


def contract(
    matrix: NDArray,
    data: NDArray,
    out: NDArray,
    shared: int,
    made: int,
    conjugate: bool = False,
) -> None:
    """Fill `out` with Σₖ ``matrix[s, m, k] * data[s, k, r]``, with axes ``[s, m, r]``.

    Each of s, m, k and r stands for several axes, one or none.

    Parameters
    ----------
    matrix, data, out : ndarray
        Any strides. The product is computed in the finer precision of `matrix` and
        `data`; `out` is complex where one of them is.
    shared : int
        How many axes s stands for.
    made : int
        How many axes m stands for.
    conjugate : bool
        Whether to multiply by the conjugate of the matrix.
    """
    if data.dtype.kind == "c" and matrix.dtype.kind != "c":
        # Real and imaginary parts are columns of their own.
        data, out = _parts(data), _parts(out)
    inner = data.ndim - (matrix.ndim - made)  # axes that r stands for
    batch, rest = data.shape[:shared], data.shape[data.ndim - inner :]
    rows = math.prod(matrix.shape[shared : shared + made])
    summed = math.prod(matrix.shape[shared + made :])
    matrix = _blasable(matrix.reshape(*batch, rows, summed))
    data = data.reshape(*batch, summed, *rest)
    conjugate = conjugate and matrix.dtype.kind == "c"
    shape = (*batch, rows, *rest)
    try:
        target = out.reshape(shape, copy=False)
    except ValueError:  # its rows do not lie evenly
        result = np.empty(shape, out.dtype)
        _multiply(matrix, *_merged(data, result, shared + 1), conjugate)
        out[...] = result.reshape(out.shape)
    else:
        _multiply(matrix, *_merged(data, target, shared + 1), conjugate)


def _parts(x: NDArray) -> NDArray:
    """Complex values as real ones, with one more axis for the two parts."""
    return x[..., np.newaxis].view(x.real.dtype)


def _merged(data: NDArray, out: NDArray, lead: int) -> tuple[NDArray, NDArray]:
    """Both with as few axes from `lead` on as possible, without copying."""
    rest = [i for i in range(lead, data.ndim) if data.shape[i] > 1]
    rest.sort(key=lambda i: -abs(data.strides[i]))
    ones = [i for i in range(lead, data.ndim) if data.shape[i] == 1]
    order = (*range(lead), *rest, *ones)
    first: Any = (..., *(0,) * len(ones))
    data, out = data.transpose(order)[first], out.transpose(order)[first]
    for i in range(data.ndim - 2, lead - 1, -1):
        if _adjoin(data, i) and _adjoin(out, i):
            data, out = (
                x.reshape((*x.shape[:i], -1, *x.shape[i + 2 :]), copy=False)
                for x in (data, out)
            )
    return data, out


def _adjoin(x: NDArray, i: int) -> bool:
    """Whether axes i and i + 1 can be seen as one."""
    return bool(x.strides[i] == x.strides[i + 1] * x.shape[i + 1])


def _multiply(matrix: NDArray, data: NDArray, out: NDArray, conjugate: bool) -> None:
    """The product, with axes ``[s, m, k]``, ``[s, k, r]`` and ``[s, m, r]``.

    The matrix has one axis for each of m and k; s and r stand for any number.
    """
    dtype = np.result_type(matrix, data)
    shared = matrix.ndim - 2
    column = _columns(data, out, shared) if out.dtype == dtype else None
    if (column is None or conjugate or data.dtype != dtype) and _halved(
        matrix, data, out, conjugate, dtype.itemsize
    ):
        return
    if column is None:
        rest = data.shape[shared + 1 :]
        x = np.empty((*data.shape[: shared + 1], math.prod(rest)), dtype)
        x.reshape(data.shape)[...] = data
        y = np.empty((*matrix.shape[:-1], x.shape[-1]), dtype)
        if conjugate:
            np.conjugate(x, out=x)
        _product(matrix, x, y)
        if conjugate:
            np.conjugate(y, out=y)
        out[...] = y.reshape(out.shape)
        return
    if column < data.ndim:
        # The matrix is the same for all other axes of r.
        data, out = (_with_columns(x, shared, column) for x in (data, out))
        others = (1,) * (data.ndim - matrix.ndim)
        matrix = matrix.reshape(*matrix.shape[:shared], *others, *matrix.shape[-2:])
    else:
        data, out = data[..., np.newaxis], out[..., np.newaxis]
    if conjugate:
        data = np.conjugate(data.astype(dtype, copy=False))
    _product(matrix, data.astype(dtype, copy=False), out)
    if conjugate:
        np.conjugate(out, out=out)


def _columns(data: NDArray, out: NDArray, shared: int) -> int | None:
    """The axis whose samples are the columns of a product, as BLAS can read them.

    One past the last where there is but one column; None where there are too few.
    """
    if data.ndim == shared + 1:
        strides = (data.strides[-1], out.strides[-1])
        fit = all(s > 0 and s % data.itemsize == 0 for s in strides)
        return data.ndim if fit else None
    choices = [
        axis
        for axis in range(shared + 1, data.ndim)
        if _fits(data, shared, axis) and _fits(out, shared, axis)
    ]
    best = max(choices, key=lambda axis: data.shape[axis], default=None)
    alone = data.ndim == shared + 2
    return best if best is None or alone or data.shape[best] >= FEW_COLUMNS else None


def _with_columns(x: NDArray, shared: int, column: int) -> NDArray:
    """Axes ``[s, r, k, column]`` of one with ``[s, k, r]``."""
    others = [i for i in range(shared + 1, x.ndim) if i != column]
    return x.transpose(*range(shared), *others, shared, column)


def _fits(x: NDArray, row: int, column: int) -> bool:
    """Whether BLAS can read two axes as a matrix or as a transposed one."""
    return any(
        x.strides[a] == x.itemsize
        and x.strides[b] % x.itemsize == 0
        and x.strides[b] >= x.itemsize * x.shape[a]
        for a, b in ((row, column), (column, row))
    )


def _blasable(matrix: NDArray) -> NDArray:
    """The matrix itself, or a copy that BLAS can read."""
    fits = _fits(matrix, matrix.ndim - 2, matrix.ndim - 1)
    return matrix if fits else np.ascontiguousarray(matrix)


def _halved(
    matrix: NDArray, data: NDArray, out: NDArray, conjugate: bool, itemsize: int
) -> bool:
    """Multiply in two halves where there is more than a piece to copy; whether it did."""
    copied = itemsize * max(data.size, out.size)
    if copied <= OWN_PIECE:
        return False
    shared = matrix.ndim - 2
    axis = _longest(matrix.shape[:shared], 0)
    if axis is None:
        if copied <= PIECE:
            return False
        rest = data.shape[shared + 1 :]
        axis = _longest(rest, shared + 1)
        if axis is None or math.prod(rest) < 2 * FEW_COLUMNS:
            return False
    for half in _halves(data.shape[axis], axis):
        part = matrix[half] if axis < shared else matrix
        _multiply(part, data[half], out[half], conjugate)
    return True


def _longest(shape: Sequence[int], first: int) -> int | None:
    """The axis with most samples, counted from `first`; None where none has two."""
    axis = max(range(len(shape)), key=shape.__getitem__, default=None)
    return None if axis is None or shape[axis] < 2 else first + axis


def _halves(size: int, axis: int) -> list[tuple[slice, ...]]:
    before = (slice(None),) * axis
    return [(*before, slice(0, size // 2)), (*before, slice(size // 2, size))]


def _product(matrix: NDArray, x: NDArray, out: NDArray) -> None:
    """``matrix @ x``; a matrix of another type is converted in pieces."""
    if matrix.dtype == x.dtype or matrix.size * x.itemsize <= PIECE:
        np.matmul(matrix.astype(x.dtype, copy=False), x, out=out)
        return
    axis = _longest(matrix.shape[:-1], 0)
    if axis is None:
        np.matmul(matrix.astype(x.dtype), x, out=out)
        return
    rows = axis == matrix.ndim - 2
    for half in _halves(matrix.shape[axis], axis):
        _product(matrix[half], x if rows else x[half], out[half])
