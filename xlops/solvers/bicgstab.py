"""BiCGSTAB: square systems by two short recurrences and minimal residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from xlops import engine
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import State, Step
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.rotations import quiet, quotient, root
from xlops.solvers.solution import Solution
from xlops.solvers.square import check_square, damped_residual, forward, products, undamped

__all__ = ["bicgstab"]


@solver()
def bicgstab(
    A: LinearOperator, y: Any, x0: Any = None, **common: Unpack[Common]
) -> Solution:
    """Solve (A + damp²) x = y + damp² x_ref for any A from a space to itself, by BiCGSTAB.

    Parameters
    ----------
    A : LinearOperator
        Any operator from a space to itself.
    tol : float
        Bound of the norm of the residual, relative to its first value.
    damp : float or quantity
        Its square is added to the operator; a quantity squared must have the units of A.
    preconditioner : LinearOperator, optional
        Any operator on the model, near the inverse of A + damp².

    Notes
    -----
    Two applications of A per iteration, none of its adjoint, and seven vectors, however
    many iterations there are; the residual may rise on the way. Where one of the
    recurrences breaks down, it starts anew from where it is. Residuals that rounding may
    have made untrue are made from the model. In the history, ``gradient_norm`` is the norm
    of y + damp² x_ref − (A + damp²) x.

    References
    ----------
    .. [1] H. A. van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of
       Bi-CG for the solution of nonsymmetric linear systems", SIAM J. Sci. Stat. Comput.
       13, 1992.
    .. [2] H. A. van der Vorst and Q. Ye, "Residual replacement strategies for Krylov
       subspace iterative methods for the convergence of true residuals", SIAM J. Sci.
       Comput. 22, 2000.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0, 1.0], dims="time")
    >>> A = xl.Identity(y) + 0.5 * xl.Roll(y.time)
    >>> (A @ xl.bicgstab(A, y, tol=1e-12).x).values.round(9)
    array([2., 8., 1.])
    """
    check_square(A, "bicgstab")
    return driver.run(_steps, A, y, x0, name="bicgstab", **common)


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors, rounding = problem.vectors, problem.rounding
    inner = products(problem)

    def step(pivots: tuple[Any, ...] = ()) -> Step:
        state = x, r, shadow, p, v, rho, beta, omega, rr, ss, drift
        return Step(x, None, root(residual), root(rr), state, pivots)

    if state is None:
        x, r = problem.start()
        x, r = engine.copied(x), engine.copied(problem.damped(r, x))
        p = v = engine.zeros_like(r)
        shadow, p, v = engine.copied(r), engine.copied(p), engine.copied(v)
        (rr,) = vectors.dots((r, r))
        x, r, shadow, p, v, rr, residual = problem.persist(
            x, r, shadow, p, v, rr, undamped(problem, x, r, rr)
        )
        rho = ss = rr
        beta = omega = 0.0 * rr
        drift = rounding * root(rr)
        yield step()
    else:
        x, r, shadow, p, v, rho, beta, omega, rr, ss, drift = state
    while True:
        anew = (abs(rho) <= rounding * root(rr * ss)) | (abs(beta) == 0)
        if np.any(anew):
            shadow, _ = vectors.blend(1.0 * anew, r, 1.0 - anew, shadow)
            rho, beta, ss = (
                np.where(anew, new, old)[()]
                for new, old in ((rr, rho), (0.0, beta), (rr, ss))
            )
        p = vectors.axpy(beta, vectors.axpy(-omega, v, p, into=p), r, into=p)
        p_hat = problem.precondition(p)
        v = forward(problem, p_hat)
        (sigma,) = inner((shadow, v))
        (vv,) = vectors.dots((v, v))
        alpha = vectors.number(_alpha, rho, sigma, ss, vv, rounding)
        s = vectors.axpy(vectors.number(np.negative, alpha), v, r, into=r)
        s_hat = problem.precondition(s)
        t = forward(problem, s_hat)
        (ts,) = inner((t, s))
        (tt,) = vectors.dots((t, t))
        omega = vectors.number(quotient, ts, tt)
        x = vectors.combined(x, [alpha, omega], [p_hat, s_hat])
        r, rr = vectors.axpy_norm(vectors.number(np.negative, omega), t, s, into=s)
        (rr,) = vectors.dots(rr)
        (new,) = inner((shadow, r))
        residual = undamped(problem, x, r, rr)
        x, r, shadow, p, v, alpha, omega, new, rr, residual, vv, tt = problem.persist(
            x, r, shadow, p, v, alpha, omega, new, rr, residual, vv, tt
        )
        drift = drift + rounding * (
            abs(alpha) * root(vv) + abs(omega) * root(tt) + root(rr)
        )
        untrue = drift > np.sqrt(rounding) * root(rr)
        if np.any(untrue):
            r = engine.copied(damped_residual(problem, x))
            (rr,) = vectors.dots((r, r))
            (new,) = inner((shadow, r))
            r, rr, new, residual = problem.persist(r, rr, new, undamped(problem, x, r, rr))
            drift = rounding * root(rr)
        beta = _beta(new, rho, alpha, omega)
        rho = new
        yield step((abs(alpha) + abs(omega),))


@quiet
def _alpha(rho: Any, sigma: Any, ss: Any, vv: Any, rounding: float) -> Any:
    """ρ / σ, and 0 where σ is nothing but rounding: what is left is a step along r."""
    is_sound = abs(sigma) > rounding * root(ss * vv)
    return quotient(rho, np.where(is_sound, sigma, 0.0)[()])


@quiet
def _beta(new: Any, old: Any, alpha: Any, omega: Any) -> Any:
    """(ρ₊ / ρ) (α / ω), and 0 where there is no way on but to start anew."""
    return quotient(new, old) * quotient(alpha, omega)
