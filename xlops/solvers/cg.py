"""Conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from xlops import engine
from xlops.errors import LabelError, UnitError
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import State, Step
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution
from xlops.space import sides_match

__all__ = ["cg"]


@solver()
def cg(A: LinearOperator, y: Any, x0: Any = None, **common: Unpack[Common]) -> Solution:
    """Solve (A + damp²) x = y + damp² x_ref by conjugate gradients.

    Parameters
    ----------
    A : LinearOperator
        Equal to its adjoint and positive, such as ``B.gram``; from a space to itself.
    tol : float
        Bound of the norm of the residual, relative to its first value.
    damp : float or quantity
        Its square is added to the operator; a quantity squared must have the units of A.
    preconditioner : LinearOperator, optional
        A positive operator on the model, near the inverse of A + damp².

    Notes
    -----
    That A is its own adjoint is not checked; a direction in which it is not positive ends
    the solver with ``Reason.BREAKDOWN``. In the history, ``gradient_norm`` is the norm of
    y + damp² x_ref − (A + damp²) x.

    References
    ----------
    .. [1] M. R. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving
       linear systems", J. Res. Nat. Bur. Stand. 49, 1952.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time")
    >>> A = xl.Diagonal(xr.DataArray([2.0, 4.0], dims="time"))
    >>> xl.cg(A, y).x.values.round(6)
    array([1., 2.])
    """
    if isinstance(A, LinearOperator):
        if not sides_match(A.domain, A.range):
            raise LabelError(
                f"cg needs an operator from a space to itself, {A} is none; use cgls, or "
                "A.gram with A.H @ y"
            )
        if len(set(A.gains.values())) > 1:
            raise UnitError(
                f"cg needs blocks in one unit, those of {A} come in several; use cgls, or "
                "scale them by quantities"
            )
    return driver.run(_steps, A, y, x0, name="cg", **common)


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors, damp = problem.vectors, problem.damp
    if state is None:
        x, residual = problem.start()
        residual = engine.copied(residual)  # the data stay as they are
        r = problem.damped(residual, x)
        z = problem.precondition(r)
        p = engine.copied(z)
        gamma, ss, rr = vectors.dots((r, z), (r, r), (residual, residual))
        del z
        x, residual, r, p, gamma, ss, rr = problem.persist(x, residual, r, p, gamma, ss, rr)
        yield Step(x, residual, np.sqrt(rr), np.sqrt(ss), (x, residual, r, p, gamma))
    else:
        x, residual, r, p, gamma = state
    while vectors.goes_on(gamma):
        q = damped = problem.forward(p)
        if damp:
            damped = vectors.axpy(damp**2, p, q)
        (delta,) = vectors.dots((p, damped))
        if not vectors.goes_on(delta):
            return
        alpha = vectors.ratio(gamma, delta)
        r, ss = vectors.axpy_norm(-alpha, damped, r, into=r)
        if damp:
            residual, rr = vectors.axpy_norm(-alpha, q, residual, into=residual)
        else:
            residual, rr = r, ss
        z = problem.precondition(r)
        new = ss if z is r else (r, z)
        ss, rr, new = vectors.dots(ss, rr, new)
        x, p = vectors.advance(x, p, z, alpha, vectors.ratio(new, gamma))
        x, residual, r, p, new, delta, ss, rr = problem.persist(
            x, residual, r, p, new, delta, ss, rr
        )
        del q, damped, z  # memory for the next ones
        state = x, residual, r, p, new
        yield Step(x, residual, np.sqrt(rr), np.sqrt(ss), state, (gamma, delta))
        gamma = new
