"""Vector updates of solvers, each in one pass over memory, mostly with its norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from xlops.kernels.once import once

__all__ = ["advance", "axpy", "blend", "dot"]


def axpy(
    a: complex,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> float:
    """Fill `out` with y + a x.

    Parameters
    ----------
    a : float or complex
        Complex with complex data only.
    x, y, out : ndarray
        C-contiguous, of one shape and one dtype: float or complex. `out` may be x or y;
        it does not overlap them otherwise.

    Returns
    -------
    float
        The squared norm of `out`, summed in double precision.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.vectors import axpy
    >>> x, y = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> axpy(2.0, x, y, y), y
    (25.0, array([3., 4.]))
    """
    if not x.dtype == y.dtype == out.dtype or not x.shape == y.shape == out.shape:
        raise TypeError(
            f"x, y and out differ: {x.dtype} {x.shape}, {y.dtype} {y.shape}, "
            f"{out.dtype} {out.shape}"
        )
    real, imag = float(a.real), float(a.imag)
    if imag and x.dtype.kind != "c":
        raise TypeError("a complex factor of real data")
    sources, target = (_floats(x), _floats(y)), _floats(out)
    start = _address(target)
    into_x, into_y = (_address(source) == start for source in sources)
    # A loop that knows which arrays are the same one need not fear that they overlap.
    if imag:
        turn = _compiled(_complex_axpy, target.dtype)
        return float(turn(real, imag, *sources, target))
    if into_x and into_y:
        return float(_compiled(_scale, target.dtype)(1.0 + real, target))
    if into_y:
        return float(_compiled(_scale_add, target.dtype)(1.0, real, sources[0], target))
    if into_x:
        return float(_compiled(_scale_add, target.dtype)(real, 1.0, sources[1], target))
    return float(_compiled(_axpy, target.dtype)(real, *sources, target))


def advance(
    a: float,
    b: float,
    x: npt.NDArray[Any],
    p: npt.NDArray[Any],
    z: npt.NDArray[Any],
    *out: npt.NDArray[Any],
) -> None:
    """Make x + a p and z + b p, reading p once.

    Parameters
    ----------
    a, b : float
        How far to go, and how much of the old direction stays in the new one.
    x, p, z : ndarray
        C-contiguous, of one shape and one dtype: float or complex; in memory of their own.
    *out : ndarray
        Where both results go, in memory of their own; into x and p unless given.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.vectors import advance
    >>> x, p, z = np.array([1.0]), np.array([10.0]), np.array([100.0])
    >>> advance(2.0, 3.0, x, p, z)
    >>> x, p
    (array([21.]), array([130.]))
    """
    arrays = (x, p, z, *out)
    if len({(array.dtype, array.shape) for array in arrays}) > 1:
        raise TypeError(f"vectors differ: {[(a.dtype, a.shape) for a in arrays]}")
    flat = [_floats(array) for array in arrays]
    loop = _new_advance if out else _advance
    _compiled(loop, flat[0].dtype)(a, b, *flat)


def blend(
    a: float, x: npt.NDArray[Any], b: float, y: npt.NDArray[Any], *out: npt.NDArray[Any]
) -> float:
    """Make a x + b y.

    Parameters
    ----------
    a, b : float
        The weights.
    x, y : ndarray
        C-contiguous, of one shape and one dtype: float or complex; in memory of their own.
    *out : ndarray
        Where the result goes, in memory of its own; into y unless given.

    Returns
    -------
    float
        The squared norm of the result, summed in double precision.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.vectors import blend
    >>> x, y = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> blend(2.0, x, 3.0, y), y
    (41.0, array([5., 4.]))
    """
    arrays = (x, y, *out)
    if len({(array.dtype, array.shape) for array in arrays}) > 1:
        raise TypeError(f"vectors differ: {[(v.dtype, v.shape) for v in arrays]}")
    flat = [_floats(array) for array in arrays]
    if out:
        return float(_compiled(_new_blend, flat[0].dtype)(a, b, *flat))
    return float(_compiled(_scale_add, flat[0].dtype)(b, a, *flat))


def dot(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """The real part of the scalar product, summed in double precision.

    Parameters
    ----------
    x, y : ndarray
        C-contiguous, of one shape and one dtype: float or complex.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.vectors import dot
    >>> dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    11.0
    """
    if x.dtype != y.dtype or x.shape != y.shape:
        raise TypeError(f"x and y differ: {x.dtype} {x.shape}, {y.dtype} {y.shape}")
    first, second = _floats(x), _floats(y)
    return float(_compiled(_dot, first.dtype)(first, second))


def _floats(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers of an array in a row; complex ones are two."""
    if not array.flags.c_contiguous:
        raise ValueError("vectors have to be C-contiguous")
    flat = array.reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


@once
def _compiled(loop: Callable[..., Any], real: np.dtype[Any]) -> Callable[..., Any]:
    number = numba.from_dtype(real)
    read = numba.types.Array(number, 1, "C", readonly=True)
    write = number[::1]
    arguments = {
        _advance: [numba.float64, numba.float64, write, write, read],
        _new_advance: [numba.float64, numba.float64, read, read, read, write, write],
        _dot: [read, read],
        _axpy: [numba.float64, read, read, write],
        _scale_add: [numba.float64, numba.float64, read, write],
        _new_blend: [numba.float64, numba.float64, read, read, write],
        _scale: [numba.float64, write],
        _complex_axpy: [numba.float64, numba.float64, read, read, write],
    }[loop]
    # Sums may be taken in another order, so that they vectorise.
    result = numba.void if loop in (_advance, _new_advance) else numba.float64
    decorate = numba.njit(
        result(*arguments),
        nogil=True,
        cache=True,
        fastmath={"contract", "reassoc"},
    )
    compiled: Callable[..., Any] = decorate(loop)
    return compiled


def _advance(a, b, x, p, z):  # type: ignore[no-untyped-def]
    a, b = x.dtype.type(a), x.dtype.type(b)
    for k in range(len(x)):
        value = p[k]
        x[k] += a * value
        p[k] = z[k] + b * value


def _new_advance(a, b, x, p, z, new_x, new_p):  # type: ignore[no-untyped-def]
    a, b = x.dtype.type(a), x.dtype.type(b)
    for k in range(len(x)):
        new_x[k] = x[k] + a * p[k]
        new_p[k] = z[k] + b * p[k]


def _dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(len(x)):
        total += np.float64(x[k]) * np.float64(y[k])
    return total


def _axpy(a, x, y, out):  # type: ignore[no-untyped-def]
    a = out.dtype.type(a)
    total = 0.0
    for k in range(len(out)):
        value = y[k] + a * x[k]
        out[k] = value
        total += np.float64(value) * np.float64(value)
    return total


def _scale_add(a, b, x, out):  # type: ignore[no-untyped-def]
    a, b = out.dtype.type(a), out.dtype.type(b)
    total = 0.0
    for k in range(len(out)):
        value = a * out[k] + b * x[k]
        out[k] = value
        total += np.float64(value) * np.float64(value)
    return total


def _new_blend(a, b, x, y, out):  # type: ignore[no-untyped-def]
    a, b = out.dtype.type(a), out.dtype.type(b)
    total = 0.0
    for k in range(len(out)):
        value = a * x[k] + b * y[k]
        out[k] = value
        total += np.float64(value) * np.float64(value)
    return total


def _scale(a, out):  # type: ignore[no-untyped-def]
    a = out.dtype.type(a)
    total = 0.0
    for k in range(len(out)):
        value = a * out[k]
        out[k] = value
        total += np.float64(value) * np.float64(value)
    return total


def _complex_axpy(real, imag, x, y, out):  # type: ignore[no-untyped-def]
    a, b = out.dtype.type(real), out.dtype.type(imag)
    total = 0.0
    for k in range(0, len(out) - 1, 2):
        first = y[k] + (a * x[k] - b * x[k + 1])
        second = y[k + 1] + (a * x[k + 1] + b * x[k])
        out[k] = first
        out[k + 1] = second
        total += np.float64(first) * np.float64(first)
        total += np.float64(second) * np.float64(second)
    return total
