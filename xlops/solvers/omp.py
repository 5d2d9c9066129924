"""Orthogonal matching pursuit."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import DTypeError
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.arithmetic import Arithmetic
from xlops.solvers.driver import State, Step
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution
from xlops.windows.pieces import Array, NDArray

__all__ = ["omp"]


@solver(without=("damp", "x_ref", "preconditioner", "store"))
def omp(
    A: LinearOperator,
    y: Any,
    *,
    normalizecols: bool = False,
    **common: Unpack[Common],
) -> Solution:
    """Few samples that explain the data: each iteration adds the one that fits best.

    Parameters
    ----------
    normalizecols : bool
        Whether columns of A count as if they had one norm; all norms are found at the
        start, which takes as many products as A has columns, many at once.
    tol : float
        Bound of ‖y − A x‖, relative to ‖y‖.

    Notes
    -----
    The sample is chosen at which the magnitude of Aᴴ r is largest, and all that are chosen
    are fitted anew: by a QR factorization of their columns that grows by one column each
    time. These columns are kept, as many vectors of data as there are iterations; on Dask,
    iterations are a few submissions, since the place has to be known before its column.
    Dims that pass through are part of the model: samples are chosen among all of them.

    References
    ----------
    .. [1] Y. C. Pati, R. Rezaiifar and P. S. Krishnaprasad, "Orthogonal matching pursuit:
       recursive function approximation with applications to wavelet decomposition",
       Asilomar Conf. Signals, Systems and Computers, 1993.
    .. [2] J. A. Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE
       Trans. Inf. Theory 50, 2004.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray([0.0, 2.0, 0.0, 0.0, -1.0], dims="time")
    >>> A = xl.Convolve1D(x.time, np.array([0.5, 1.0, 0.5]), offset=1)
    >>> xl.omp(A, A @ x, niter=2).x.values.round(6)
    array([ 0.,  2.,  0.,  0., -1.])
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"omp solves for an operator, got {type(A).__name__}")
    norms = A.gram.diagonal() if normalizecols else None
    steps = functools.partial(_steps, squares=norms)
    return driver.run(steps, A, y, None, name="omp", alone=True, **common)


def _steps(problem: Problem, state: State | None, squares: Any) -> Iterator[Step]:
    vectors = problem.vectors
    norms = None if squares is None else _laid_out(squares, problem.model)
    is_complex = any(leaf.data.dtype.kind == "c" for leaf in engine.leaves(problem.model))
    if is_complex and not getattr(problem.operator, "clinear", True):
        raise DTypeError(
            f"omp: {problem.operator} is linear over real numbers only and its model is "
            "complex: no column says what it does to a sample"
        )
    if state is None:
        _, r = problem.start()
        (rr,) = vectors.dots((r, r))
        r, rr = problem.persist(engine.copied(r), rr)
        places: NDArray = np.zeros(0)
        triangle: NDArray = np.zeros((0, 0), complex if is_complex else float)
        values, columns = triangle[0:0, :].sum(axis=1), []
        size = np.sqrt(rr)
        yield Step(problem.model, r, size, size, (r, places, triangle, values))
    else:
        r, places, triangle, values, *columns = state
    while True:
        c = problem.adjoint(r)
        if norms is not None:
            c = vectors.mapped(_ratio, c, norms)
        _, place = problem.persist(*engine.largest(c))
        a = problem.forward(engine.spikes(problem.model, [int(place)], [1.0]))
        (length,) = vectors.dots((a, a))
        a, length = problem.persist(a, length)
        along: NDArray = np.zeros(len(columns), triangle.dtype)
        for _ in range(2 if columns else 0):  # twice is enough
            more = _products(columns, a, problem, is_complex)
            for q, number in zip(columns, more, strict=True):
                a = vectors.axpy(-number, q, a)
            along = along + more
            (a,) = problem.persist(a)
        (rest,) = problem.persist(vectors.dots((a, a))[0])
        if not rest > problem.rounding * length or place in places:
            return  # it is one of those that are there already
        q = vectors.times(1 / np.sqrt(rest), a)
        (q,) = problem.persist(q)
        (value,) = _products([q], r, problem, is_complex)
        r, squared = vectors.axpy_norm(-value, q, r)
        r, rr = problem.persist(r, *vectors.dots(squared))
        grown = np.zeros((len(along) + 1,) * 2, triangle.dtype)
        grown[:-1, :-1], grown[:-1, -1], grown[-1, -1] = triangle, along, np.sqrt(rest)
        triangle, columns = grown, [*columns, q]
        places, values = np.append(places, place), np.append(values, value)
        x = functools.partial(_model, problem.model, places, triangle, values)
        size = np.sqrt(rr)
        yield Step(x, r, size, size, (r, places, triangle, values, *columns))


def _model(like: Tree, places: NDArray, triangle: NDArray, values: NDArray) -> Tree:
    """The samples that fit the data best, in their places."""
    found: NDArray = np.linalg.solve(triangle, values)
    return engine.spikes(like, [int(place) for place in places], [*found])


def _products(columns: list[Tree], a: Tree, problem: Problem, is_complex: bool) -> NDArray:
    """Scalar products with columns; the real parts where the model is real."""
    vectors: Arithmetic = problem.vectors
    pairs = [(q, a) for q in columns]
    if is_complex:
        pairs += [(vectors.times(1j, q), a) for q in columns]
    found = np.array(problem.persist(*vectors.dots(*pairs)))
    return found[: len(columns)] + 1j * found[len(columns) :] if is_complex else found


def _laid_out(squares: Any, model: Tree) -> Tree:
    """The norms of columns, as the model lies."""

    def one(like: Array, own: Any) -> Array:
        own = own.transpose(*(dim for dim in like.dims if dim in own.dims))
        shape = [n if dim in own.dims else 1 for dim, n in like.sizes.items()]
        norms = np.sqrt(np.abs(own.values)).astype(like.data.dtype).reshape(shape)
        return Array(np.broadcast_to(norms, like.data.shape).copy(), like.dims)

    if isinstance(model, dict):
        return engine.alike({n: one(a, squares[n]) for n, a in model.items()}, model)
    return engine.alike(one(model, squares), model)


def _ratio(c: NDArray, norms: NDArray) -> NDArray:
    return np.divide(c, norms, out=np.zeros_like(c), where=norms != 0)
