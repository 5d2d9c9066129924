"""Iteratively reweighted least squares."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Literal, Unpack

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import ArgumentError, DTypeError, shown
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import State, Step
from xlops.solvers.inner import Inner, times
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import weight
from xlops.windows.pieces import NDArray

__all__ = ["irls"]


@solver(without=("damp", "x_ref", "preconditioner", "store"))
def irls(
    A: LinearOperator,
    y: Any,
    x0: Any = None,
    *,
    kind: Literal["data", "model", "datamodel"] = "data",
    eps: Any = None,
    epsR: float | None = None,
    niter_inner: int = 100,
    tol_inner: float = 1e-10,
    **common: Unpack[Common],
) -> Solution:
    """Robust or sparse solutions by reweighted least squares: sums of magnitudes.

    Parameters
    ----------
    kind : {"data", "model", "datamodel"}
        What is minimised: ‖y − A x‖₁, ½‖y − A x‖² + eps ‖x‖₁, or ‖y − A x‖₁ + eps ‖x‖₁.
        All magnitudes are smoothed: ‖c‖₁ stands for Σ √(cᵢ² + δ²).
    eps : float or quantity, optional
        Weight of the model. A quantity must have the units of A, for ``"model"`` those of
        A times those of y.
    epsR : float, optional
        δ, relative to the root mean square of the data, and of the least-squares solution;
        the root of the rounding of their precision unless given.
    niter_inner : int
        Iterations of conjugate gradients allowed in each iteration.
    tol_inner : float
        How far these let the gradient of their problem fall.
    tol : float
        Bound of the norm of the gradient of the objective, relative to its first value.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective.

    Notes
    -----
    The first iteration is plain least squares. Each one after it takes the weights
    1 / √(cᵢ² + δ²) of the last solution: the quadratic function with these weights touches
    the objective there and lies above it elsewhere, so the objective does not rise.
    Weights of the model are a change of variables x = √v p, in which small samples stay
    small. Each iteration of `cgls` inside is one submission on Dask.

    References
    ----------
    .. [1] J. A. Scales and A. Gersztenkorn, "Robust methods in inverse theory", Inverse
       Problems 4, 1988.
    .. [2] I. Daubechies, R. DeVore, M. Fornasier and C. S. Güntürk, "Iteratively reweighted
       least squares minimization for sparse recovery", Comm. Pure Appl. Math. 63, 2010.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray([1.0, 2.0, 4.0, 3.0, 90.0], dims="time")
    >>> A = xl.MatrixMult(xr.DataArray(np.ones((5, 1)), dims=("time", "one")), "one")
    >>> xl.irls(A, y).x.values.round(5)
    array([3.])
    """
    if kind not in ("data", "model", "datamodel"):
        raise ArgumentError(
            f"irls: kind must be 'data', 'model' or 'datamodel', got {shown(kind)}"
        )
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"irls solves for an operator, got {type(A).__name__}")
    if (eps is None) is not (kind == "data"):
        raise ArgumentError(
            "irls: eps weighs the model, which kind='data' leaves out"
            if kind == "data"
            else f"irls: kind={kind!r} needs eps, the weight of the model"
        )
    if epsR is not None and not 0 < epsR < 1:
        raise ArgumentError(f"irls: epsR must lie between 0 and 1, got {shown(epsR)}")
    if kind != "data":
        eps = weight(eps, A, y, "irls", data_power=2 if kind == "model" else 1)
    steps = functools.partial(
        _steps, kind=kind, eps=eps, small=epsR, inner=(niter_inner, tol_inner)
    )
    return driver.run(steps, A, y, x0, name="irls", alone=True, **common)


def _steps(
    problem: Problem,
    state: State | None,
    kind: str,
    eps: float | None,
    small: float | None,
    inner: tuple[int, float],
) -> Iterator[Step]:
    vectors = problem.vectors
    of_data, of_model = kind != "model", kind != "data"
    small = float(np.sqrt(problem.rounding)) if small is None else small
    if state is None:
        x, r = problem.start()
        x, r = engine.copied(x), engine.copied(r)
        (squared,) = problem.persist(vectors.dots((r, r))[0])
        deltas: tuple[Any, ...] = (small * np.sqrt(squared / engine.size(r)), 0.0)
        yield _measured(problem, x, r, deltas, eps, of_data, 0)
        done = 0
    else:
        x, r, *found, done = state
        deltas = tuple(found)
    while True:
        w = v = None
        if done and of_data:
            w = vectors.mapped(_root_weight, r, numbers=(deltas[0],))
        if done and of_model:
            v = vectors.mapped(_root_size, x, numbers=(deltas[1],))
        x, r = _least_squares(problem, x, r, w, v, eps if done and eps else 0.0, inner)
        if not done and of_model:
            (squared,) = problem.persist(vectors.dots((x, x))[0])
            deltas = deltas[0], small * np.sqrt(squared / engine.size(x))
        done += 1
        yield _measured(problem, x, r, deltas, eps, of_data, done)


def _least_squares(
    problem: Problem,
    x: Tree,
    r: Tree,
    w: Tree | None,
    v: Tree | None,
    eps: float,
    inner: tuple[int, float],
) -> tuple[Tree, Tree]:
    """Weighted least squares from x on; the new model and its residual."""
    vectors = problem.vectors

    def forward(p: Tree) -> Tree:
        return times(problem.forward(times(p, v, vectors)), w, vectors)

    def adjoint(s: Tree) -> Tree:
        return times(problem.adjoint(times(s, w, vectors)), v, vectors)

    p = x if v is None else vectors.mapped(np.divide, x, v)
    start = p, times(r, w, vectors)
    step = Inner(problem, forward, adjoint, start, float(np.sqrt(eps))).solve(*inner)
    assert not callable(step.x)
    x = times(step.x, v, vectors)
    return x, problem.residual(x)


def _measured(
    problem: Problem,
    x: Tree,
    r: Tree,
    deltas: Any,
    eps: float | None,
    of_data: bool,
    done: int,
) -> Step:
    """A step with its norms and its cost."""
    vectors = problem.vectors
    pull = vectors.mapped(_phase, r, numbers=(deltas[0],)) if of_data else r
    s = problem.adjoint(pull)
    (rr,) = vectors.dots((r, r))
    cost: Any = vectors.summed(_smooth, r, numbers=(deltas[0],)) if of_data else 0.0
    penalty: Any = 0.0
    if eps:
        phase = vectors.mapped(_phase, x, numbers=(deltas[1],))
        s = vectors.axpy(-eps, phase, s)
        penalty = vectors.summed(_smooth, x, numbers=(deltas[1],))
    (ss,) = vectors.dots((s, s))
    x, r, rr, ss, cost, penalty = problem.persist(x, r, rr, ss, cost, penalty)
    cost = (cost if of_data else rr / 2) + (eps or 0.0) * penalty
    return Step(x, r, np.sqrt(rr), np.sqrt(ss), (x, r, *deltas, done), cost=cost)


def _smooth(x: NDArray, delta: Any) -> NDArray:
    return np.asarray(np.hypot(np.abs(x), delta))


def _root_size(x: NDArray, delta: Any) -> NDArray:
    return np.asarray(np.sqrt(_smooth(x, delta)))


def _root_weight(x: NDArray, delta: Any) -> NDArray:
    return np.asarray(1 / np.maximum(_root_size(x, delta), np.finfo(x.dtype).tiny))


def _phase(x: NDArray, delta: Any) -> NDArray:
    size = _smooth(x, delta)
    return np.asarray(np.divide(x, size, out=np.zeros_like(x), where=size > 0))
