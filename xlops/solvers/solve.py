"""``solve``: least squares by the method that fits, and ``A / y``."""

from __future__ import annotations

from typing import Any, Literal

from xlops.errors import ArgumentError, DTypeError
from xlops.operator import LinearOperator, offer
from xlops.solvers.cg import cg
from xlops.solvers.cgls import cgls
from xlops.solvers.solution import Solution

__all__ = ["solve"]

_methods = {"cg": cg, "cgls": cgls}


@offer("solve")
def solve(
    A: LinearOperator,
    y: Any,
    method: Literal["cg", "cgls"] = "cgls",
    **kwargs: Any,
) -> Solution:
    """Solve A x = y, in the sense of least squares.

    Parameters
    ----------
    A : LinearOperator
        Any operator, a stack too.
    y : DataArray
        Data with the labels of ``A.range``; blocks as a mapping or a Dataset.
    method : {"cgls", "cg"}
        The solver; ``"cg"`` for operators equal to their adjoint and positive.
    **kwargs
        For the solver, such as ``x0``, ``niter`` and ``tol``; see `cgls`.

    Returns
    -------
    Solution
        ``A / y`` is its ``x``.

    Raises
    ------
    DTypeError
        Where A is no operator.
    ArgumentError
        For an unknown method, and as the solver says.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time")
    >>> A = xl.Diagonal(xr.DataArray([2.0, 4.0], dims="time"))
    >>> xl.solve(A, y).x.values.round(6)
    array([1., 2.])
    >>> (A / y).values.round(6)
    array([1., 2.])
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"solve solves for an operator, got {type(A).__name__}")
    if method not in _methods:
        known = ", ".join(map(repr, _methods))
        raise ArgumentError(f"solve: no method {method!r}; there are {known}")
    return _methods[method](A, y, **kwargs)
