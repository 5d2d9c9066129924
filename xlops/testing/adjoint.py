"""Whether an operator is linear, and its adjoint its adjoint."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from xlops.errors import DTypeError
from xlops.operator import LinearOperator
from xlops.space import Blocks, Space
from xlops.windows.pieces import arranged, placed

__all__ = ["assert_linear", "dottest"]


def dottest(
    A: LinearOperator,
    like: xr.DataArray | None = None,
    *,
    tol: float | None = None,
    seed: int = 0,
) -> bool:
    """Check that the adjoint of an operator is its adjoint, labels included.

    Compares ⟨A u, v⟩ with ⟨u, Aᴴ v⟩ for random u and v: the difference must not exceed
    tol (‖A u‖ ‖v‖ + ‖u‖ ‖Aᴴ v‖), in real and imaginary part, or in the real part alone
    where A is linear over real numbers only.

    Parameters
    ----------
    A : LinearOperator
        The operator.
    like : DataArray, optional
        Gives the dims that pass through, the dtype, and chunks where it is lazy. Without
        it u has the dims of the domain only and is real unless the domain is complex.
    tol : float, optional
        1e-12, or 1e-5 in single precision, unless given.
    seed : int
        The same seed gives the same u and v.

    Returns
    -------
    bool
        True; what does not hold is raised.

    Raises
    ------
    AssertionError
        Where inner products differ, or a result does not have the labels of its space.
    DTypeError
        Where A is no operator.

    References
    ----------
    .. [1] J. F. Claerbout, "Earth Soundings Analysis: Processing versus Inversion",
       Blackwell, 1992.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.zeros((3, 8)), dims=("offset", "time"))
    >>> xl.dottest(xl.FirstDerivative(x.time), like=x)
    True
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"dottest checks an operator, got {type(A).__name__}")
    u = A.domain.random(seed, like=_batch(A, like))
    forward = A @ u
    _check_labels(A, u, forward, A.range, "forward")
    v = _random_like(forward, seed + 1, A)
    backward = A.H @ v
    _check_labels(A, v, backward, A.domain, "adjoint")

    one, other = _inner(forward, v), _inner(u, backward)
    scale = _norm(forward) * _norm(v) + _norm(u) * _norm(backward)
    if tol is None:
        tol = 1e-5 if _is_single(u, v) else 1e-12
    parts = {"real": (one.real, other.real)}
    if A.clinear:
        parts["imaginary"] = (one.imag, other.imag)
    for part, (left, right) in parts.items():
        error = abs(left - right)
        if not error <= tol * scale:
            raise AssertionError(
                f"{A} fails the dot test: the {part} part of ⟨A u, v⟩ is {left:.17g}, "
                f"that of ⟨u, Aᴴ v⟩ is {right:.17g}; they differ by {error:.3g}, allowed "
                f"is {tol * scale:.3g}"
            )
    return True


def assert_linear(
    A: LinearOperator,
    like: xr.DataArray | None = None,
    *,
    tol: float | None = None,
    seed: int = 0,
) -> None:
    """Check that A (a u + b v) equals a A u + b A v.

    Parameters
    ----------
    A : LinearOperator
        The operator.
    like : DataArray, optional
        As for `xlops.dottest`.
    tol : float, optional
        Bound of the difference, relative to the largest value; 1e-12, or 1e-5 in single
        precision, unless given.
    seed : int
        The same seed gives the same u and v.

    Raises
    ------
    AssertionError
        Where it is not linear; complex factors are tried where A is complex-linear.
    DTypeError
        Where A is no operator.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.zeros(8), dims="time")
    >>> xl.testing.assert_linear(xl.FirstDerivative(x.time))
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"assert_linear checks an operator, got {type(A).__name__}")
    like = _batch(A, like)
    u, v = A.domain.random(seed, like=like), A.domain.random(seed + 1, like=like)
    a: complex = 2.0
    b: complex = -3.0
    if A.clinear and all(_values(d).dtype.kind == "c" for d in _all(u)):
        a, b = 2.0 + 1.0j, -3.0 + 0.5j
    if tol is None:
        tol = 1e-5 if _is_single(u) else 1e-12
    Au, Av = A @ u, A @ v
    left, right = _all(A @ _combined(a, u, b, v)), _all(_combined(a, Au, b, Av))
    terms = [*left, *_all(Au), *_all(Av)]
    largest = max(float(np.max(np.abs(_values(d)))) for d in terms)
    for one, other in zip(left, right, strict=True):
        error = np.max(np.abs(_values(one) - _values(other.transpose(*one.dims))))
        if not error <= tol * largest:
            raise AssertionError(
                f"{A} is not linear: results differ by {error:.3g}, allowed is "
                f"{tol * largest:.3g}"
            )


def _is_single(*vectors: Any) -> bool:
    """Whether one of the vectors is in single precision."""
    arrays = [array for vector in vectors for array in _all(vector)]
    return any(_values(array).real.dtype == np.float32 for array in arrays)


def _batch(A: LinearOperator, like: xr.DataArray | None) -> xr.DataArray | None:
    """`like` with the dims that pass through A, and sizes alone for those of its domain."""
    if like is None:
        return None
    domains = A.domain.values() if isinstance(A.domain, Blocks) else (A.domain,)
    ranges = A.range.values() if isinstance(A.range, Blocks) else (A.range,)
    needed = {dim for space in domains for dim in space.dims}
    made = {dim for space in ranges for dim in space.dims}
    like = like.isel({dim: 0 for dim in like.dims if dim in made - needed}, drop=True)
    inside = {n for n, c in like.coords.items() if needed & set(c.dims)}
    return like.drop_vars(inside)


def _combined(a: complex, u: Any, b: complex, v: Any) -> Any:
    if isinstance(u, dict):
        return {name: _combined(a, u[name], b, v[name]) for name in u}
    return u.copy(data=a * u.data + b * v.data)


def _random_like(x: Any, seed: int, A: LinearOperator) -> Any:
    """Random values with the labels of a result."""
    if isinstance(x, dict):
        return {name: _random_like(d, seed + i, A) for i, (name, d) in enumerate(x.items())}
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(x.shape)
    if x.dtype.kind == "c":
        values = values + 1j * rng.standard_normal(x.shape)
    dtype = x.dtype if x.dtype.kind in "fc" else np.float64
    result = x.copy(data=values.astype(dtype))
    return result.chunk(x.variable.chunksizes) if x.chunks is not None else result


def _check_labels(
    A: LinearOperator, given: Any, made: Any, side: Space | Blocks, direction: str
) -> None:
    """Raise unless a result has exactly the labels of its space, dims in order."""
    if isinstance(side, Blocks):
        for name, space in side.items():
            _check_labels(A, given, made[name], space, direction)
        return
    for label, coord in side.labels.coords.items():
        back = made.coords.get(label)
        if (
            back is None
            or back.dtype != coord.dtype
            or not back.variable.identical(coord.variable)
        ):
            raise AssertionError(
                f"{A} ({direction}) does not give the label {label!r} back"
            )
    if isinstance(given, xr.DataArray):
        domain = A.domain if direction == "forward" else A.range
        expected = (
            placed(given.dims, list(domain), side.dims)
            if isinstance(domain, Blocks)
            else placed(given.dims, domain.sizes, side.sizes)
        )
        expected = arranged(expected, A.layouts[direction != "forward"])
        if made.dims != expected:
            raise AssertionError(
                f"{A} ({direction}) gives dims {made.dims}, expected {expected}"
            )


def _all(x: Any) -> list[xr.DataArray]:
    return list(x.values()) if isinstance(x, dict) else [x]


def _values(x: xr.DataArray) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(x.values)


def _inner(x: Any, y: Any) -> complex:
    pairs = zip(_all(x), _all(y), strict=True)
    return sum(
        (complex(np.vdot(_values(b.transpose(*a.dims)), _values(a))) for a, b in pairs), 0j
    )


def _norm(x: Any) -> float:
    return math.sqrt(_inner(x, x).real)
