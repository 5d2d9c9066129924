"""Conjugate gradients for least squares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from xlops import engine
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import Callback, State, Step
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution

__all__ = ["cgls"]


def cgls(
    A: LinearOperator,
    y: Any,
    x0: Any = None,
    *,
    niter: int | None = None,
    tol: float = 1e-6,
    damp: Any = 0,
    x_ref: Any = None,
    preconditioner: LinearOperator | None = None,
    callback: Callback | None = None,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
) -> Solution:
    """Least squares by conjugate gradients: min ‖y − A x‖² + damp² ‖x − x_ref‖².

    Parameters
    ----------
    A : LinearOperator
        Any operator, a stack too.
    y : DataArray
        Data with the labels of ``A.range``; other dims pass through. Blocks as a mapping
        or a Dataset.
    x0 : DataArray, optional
        Where to start; zero unless given. Blocks as a mapping or a Dataset.
    niter : int, optional
        Iterations allowed; 4 per unknown, at least 100 and at most 10 000, unless given.
    tol : float
        Bound of ‖Aᴴ r − damp² (x − x_ref)‖, relative to its first value.
    damp : float or quantity
        Weight of the model in the objective; a quantity must have the units of A.
    x_ref : DataArray, optional
        The model that damping pulls to; zero unless given.
    preconditioner : LinearOperator, optional
        A positive operator on the model, near the inverse of AᴴA + damp².
    callback : callable, optional
        Called with a `Status` after each iteration; returning False stops.
    progress : bool, optional
        Whether to show a progress bar; as ``set_options(progress=…)`` says unless given.
    store : str or PathLike, optional
        A folder for the vectors of the solver, which need not fit into memory then: a new
        one, or that of an earlier solution, which is replaced in the end. ``x.zarr`` and
        ``residual.zarr`` stay there, also when the solver fails. The data must be lazy.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units.

    Raises
    ------
    LabelError, UnitError, DTypeError, ArgumentError
        Where an argument does not fit; before any work.
    DataError
        Where the data have NaN.
    ChunkError, FileError
        Where data or folder do not do for `store`.
    ClusterError
        Where a cluster is lost, or its workers die again and again.

    Notes
    -----
    Eager: with Dask every iteration is one submission, and x comes back persisted. Lazy
    weights of A are computed in each of them: persist those that fit into memory.

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
    return driver.run(
        _steps,
        A,
        y,
        x0,
        niter=niter,
        tol=tol,
        damp=damp,
        x_ref=x_ref,
        preconditioner=preconditioner,
        callback=callback,
        progress=progress,
        store=store,
        name="cgls",
    )


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors = problem.vectors
    if state is None:
        x, r = problem.start()
        s = problem.gradient(x, r)
        r = engine.copied(r)  # the data stay as they are
        p = z = problem.precondition(s)
        gamma, rr, ss = vectors.dots((s, z), (r, r), (s, s))
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
        x, r, p, new, delta, rr, ss = problem.persist(x, r, p, new, delta, rr, ss)
        yield Step(x, r, np.sqrt(rr), np.sqrt(ss), (x, r, p, new), (gamma, delta))
        gamma = new
