"""Conjugate gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from xlops import engine
from xlops.errors import LabelError, UnitError
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import Callback, State, Step
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution
from xlops.space import sides_match

__all__ = ["cg"]


def cg(
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
    """Solve (A + damp²) x = y + damp² x_ref by conjugate gradients.

    Parameters
    ----------
    A : LinearOperator
        Equal to its adjoint and positive, such as ``B.gram``; from a space to itself.
    y : DataArray
        Data with the labels of ``A.range``; other dims pass through.
    x0 : DataArray, optional
        Where to start; zero unless given. Blocks as a mapping or a Dataset.
    niter : int, optional
        Iterations allowed; 4 per unknown, at least 100 and at most 10 000, unless given.
    tol : float
        Bound of the norm of the residual, relative to its first value.
    damp : float or quantity
        Its square is added to the operator; a quantity squared must have the units of A.
    x_ref : DataArray, optional
        The model that damping pulls to; zero unless given.
    preconditioner : LinearOperator, optional
        A positive operator on the model, near the inverse of A + damp².
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
    weights of A are computed in each of them: persist those that fit into memory. That
    A is its own adjoint is not checked; a direction in which it is not positive ends
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
        name="cg",
    )


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors, damp = problem.vectors, problem.damp
    if state is None:
        x, residual = problem.start()
        residual = engine.copied(residual)  # the data stay as they are
        r = problem.damped(residual, x)
        z = problem.precondition(r)
        p = engine.copied(z)
        gamma, ss, rr = vectors.dots((r, z), (r, r), (residual, residual))
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
        state = x, residual, r, p, new
        yield Step(x, residual, np.sqrt(rr), np.sqrt(ss), state, (gamma, delta))
        gamma = new
