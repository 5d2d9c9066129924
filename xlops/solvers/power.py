"""The power iteration: the largest eigenvalue of an operator."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import ArgumentError, DTypeError, shown
from xlops.operator import LinearOperator
from xlops.solvers.admission import admitted_data, complex_together
from xlops.solvers.arithmetic import Arithmetic
from xlops.solvers.driver import _labeled_model
from xlops.solvers.problem import Problem
from xlops.solvers.rotations import inverse_root
from xlops.solvers.square import check_square, products
from xlops.windows.pieces import Array

__all__ = ["Eigenpair", "power_iteration"]


class Eigenpair(NamedTuple):
    """An eigenvalue and its vector.

    Parameters
    ----------
    value : float or complex
        The eigenvalue, in the units of the operator.
    vector : DataArray or dict of DataArray
        Of norm 1, with the labels of the domain.
    iterations : int
        Iterations done.
    converged : bool
        Whether the tolerance was reached.
    """

    value: Any
    vector: Any
    iterations: int
    converged: bool


def power_iteration(
    A: LinearOperator, like: Any = None, *, niter: int = 1000, tol: float = 1e-6
) -> Eigenpair:
    """The eigenvalue of largest magnitude, by applying an operator again and again.

    Parameters
    ----------
    A : LinearOperator
        From a space to itself. The root of the value of ``A.gram`` is the norm of A.
    like : DataArray, optional
        What A is applied to: chunks, precision and dims that pass through; zeros of the
        domain unless given.
    niter : int
        Iterations allowed.
    tol : float
        Bound of ‖A v − λ v‖, relative to ‖A v‖.

    Returns
    -------
    Eigenpair
        The value, the vector, the number of iterations and whether `tol` was reached.

    Raises
    ------
    LabelError
        Where A does not map its domain to itself, or `like` does not fit.
    ArgumentError
        Where `niter` or `tol` are none.

    Notes
    -----
    Starts from the same random vector every time. On Dask every iteration is one
    submission. It converges slowly where the next value is nearly as large, and not at
    all where several are equally large but different: `A.eigs` finds them.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> A = xl.Diagonal(xr.DataArray([1.0, -4.0, 2.0], dims="time"))
    >>> pair = xl.power_iteration(A)
    >>> round(pair.value, 9), abs(pair.vector).values.round(5)
    (-4.0, array([0., 1., 0.]))
    """
    who = "power_iteration"
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{who} is for an operator, got {type(A).__name__}")
    check_square(A, who)
    if not (isinstance(niter, (int, np.integer)) and niter >= 1):
        raise ArgumentError(f"{who}: niter must be from 1 on, got {shown(niter)}")
    if not (isinstance(tol, (int, float, np.floating)) and tol >= 0):
        raise ArgumentError(f"{who}: tol must be a number from 0 on, got {shown(tol)}")
    given, origins = admitted_data(A, {}, A.range.zeros() if like is None else like, who)
    given, *_ = complex_together(A, None, given, None, None)
    problem = Problem(A, given, 0.0, None, None, None, Arithmetic())
    vectors, inner = problem.vectors, products(problem)
    v = _random(problem.model)
    (vv,) = vectors.dots((v, v))
    v = vectors.times(vectors.number(inverse_root, vv), v)
    done, converged = 0, False
    while done < niter and not converged:
        done += 1
        w = problem.forward(v)
        (value,) = inner((v, w))
        rest = vectors.axpy(vectors.number(np.negative, value), v, w)
        ww, rr = vectors.dots((w, w), (rest, rest))
        new = vectors.times(vectors.number(inverse_root, ww), w)
        v, new, value, ww, rr = problem.persist(v, new, value, ww, rr)
        converged = bool(rr <= tol**2 * ww)
        v = v if converged else new
    number = value.item() if isinstance(value, np.generic) else value
    labeled = _labeled_model(A, origins, given, v)
    plain = (
        {name: one.drop_attrs(deep=False) for name, one in labeled.items()}
        if isinstance(labeled, dict)
        else labeled.drop_attrs(deep=False)
    )
    return Eigenpair(number, plain, done, converged)


def _random(model: Tree) -> Tree:
    """A random vector like the model, the same every time."""
    rng = np.random.default_rng(0)

    def one(like: Array) -> Array:
        values = rng.standard_normal(like.data.shape)
        if like.data.dtype.kind == "c":
            values = values + 1j * rng.standard_normal(like.data.shape)
        return Array(values.astype(like.data.dtype), like.dims)

    return engine.alike(engine.transform(one, model), model)
