"""Conjugate gradients for least squares."""

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
from xlops.solvers.solution import Solution

__all__ = ["cgls"]


@solver()
def cgls(A: LinearOperator, y: Any, x0: Any = None, **common: Unpack[Common]) -> Solution:
    """Least squares by conjugate gradients: min ‖y − A x‖² + damp² ‖x − x_ref‖².

    References
    ----------
    .. [1] M. R. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving
       linear systems", J. Res. Nat. Bur. Stand. 49, 1952.
    .. [2] Å. Björck, "Numerical methods for least squares problems", SIAM, 1996, §7.4.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time", attrs={"units": "m"})
    >>> A = xl.Diagonal(xr.DataArray([2.0, 4.0], dims="time", attrs={"units": "m/s"}))
    >>> solution = xl.cgls(A, y)
    >>> solution.x.values.round(6), solution.x.units, solution.converged
    (array([1., 2.]), 's', True)
    """
    return driver.run(_steps, A, y, x0, name="cgls", **common)


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors = problem.vectors
    if state is None:
        x, r = problem.start()
        s = problem.gradient(x, r)
        r = engine.copied(r)  # the data stay as they are
        p = z = problem.precondition(s)
        gamma, rr, ss = vectors.dots((s, z), (r, r), (s, s))
        del s, z
        x, r, p, gamma, rr, ss = problem.persist(x, r, p, gamma, rr, ss)
        yield Step(x, r, np.sqrt(rr), np.sqrt(ss), (x, r, p, gamma))
    else:
        x, r, p, gamma = state
    while vectors.goes_on(gamma):
        q = problem.forward(p)
        if problem.damp:
            qq, pp = vectors.dots((q, q), (p, p))
            delta = qq + problem.damp**2 * pp
        else:
            (delta,) = vectors.dots((q, q))
        if not vectors.goes_on(delta):
            return
        alpha = vectors.ratio(gamma, delta)
        r, rr = vectors.axpy_norm(-alpha, q, r, into=r)
        del q  # memory for the gradient
        if problem.damp:  # the gradient pulls at the new model
            x = vectors.axpy(alpha, p, x, into=x)
        s = problem.gradient(x, r)
        z = problem.precondition(s)
        rr, ss, new = vectors.dots(rr, (s, s), (s, z))
        beta = vectors.ratio(new, gamma)
        if problem.damp:
            p = vectors.axpy(beta, p, z, into=p)
        else:
            x, p = vectors.advance(x, p, z, alpha, beta)
        del s, z  # and for the next q
        x, r, p, new, delta, rr, ss = problem.persist(x, r, p, new, delta, rr, ss)
        yield Step(x, r, np.sqrt(rr), np.sqrt(ss), (x, r, p, new), (gamma, delta))
        gamma = new
