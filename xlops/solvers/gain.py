"""How much an operator can amplify a vector: what bounds the steps of gradient methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.solvers.problem import Problem
from xlops.windows.pieces import NDArray

__all__ = ["gain_of", "largest_gain", "step_size"]

# What the bound may be above the largest eigenvalue, and how long it is looked for.
ACCURACY = 0.01
AT_MOST = 100


def largest_gain(
    problem: Problem,
    forward: Callable[[Tree], Tree] | None = None,
    adjoint: Callable[[Tree], Tree] | None = None,
) -> Any:
    """An upper bound of the largest eigenvalue of AᴴA, about one percent above it.

    Of A, or of another operator on its models. By the method of Lanczos, which keeps three
    vectors: the largest eigenvalue of its tridiagonal matrix, plus how far that may be from
    one of AᴴA. Without orthogonalisation eigenvalues come several times over; the largest
    one stays what it is.

    References
    ----------
    .. [1] G. H. Golub and C. F. Van Loan, "Matrix computations", 4th ed., Johns Hopkins
       University Press, 2013, §10.1.
    """
    vectors = problem.vectors
    forward, adjoint = forward or problem.forward, adjoint or problem.adjoint
    v = engine.noise(problem.model)
    (norm,) = problem.persist(vectors.dots((v, v))[0])
    v = vectors.times(vectors.ratio(1.0, np.sqrt(norm)), v)
    before, beta = None, 0.0
    diagonal: list[Any] = []
    beside: list[Any] = []
    bound: Any = 0.0
    for _ in range(AT_MOST):
        p = forward(v)
        (alpha,) = vectors.dots((p, p))
        w = vectors.axpy(vectors.number(np.negative, alpha), v, adjoint(p))
        if before is not None:
            w = vectors.axpy(-beta, before, w)
        (squared,) = vectors.dots((w, w))
        before, w, alpha, squared = problem.persist(v, w, alpha, squared)
        beta = np.sqrt(squared)
        diagonal.append(alpha)
        beside.append(beta)
        largest, last = _largest(diagonal, beside[:-1])
        off = beta * last
        bound = largest + off
        # A space that is as good as invariant has nothing more to tell.
        if np.all((off <= ACCURACY * largest) | (beta <= 1e-7 * largest)):
            break
        v = vectors.times(vectors.ratio(1.0, beta), w)
    problem.begin_again()
    return bound


def _largest(diagonal: list[Any], beside: list[Any]) -> tuple[Any, Any]:
    """The largest eigenvalue of tridiagonal matrices, the last entry of its vector."""
    count = len(diagonal)
    shape = np.broadcast_shapes(*map(np.shape, diagonal))
    matrix: NDArray = np.zeros((*shape, count, count))
    for i, value in enumerate(diagonal):
        matrix[..., i, i] = value
    for i, value in enumerate(beside):
        matrix[..., i, i + 1] = matrix[..., i + 1, i] = value
    values, found = np.linalg.eigh(matrix)
    return values[..., -1], np.abs(found[..., -1, -1])


def step_size(problem: Problem) -> Any:
    """A step that gradient methods may take: one over a bound of the eigenvalues of AᴴA."""
    return 1 / gain_of(problem)


def gain_of(problem: Problem) -> Any:
    """A bound of the eigenvalues of AᴴA; 1 for an operator that gives nothing."""
    if "unitary" in getattr(problem.operator, "traits", ()):
        return 1.0
    gain = np.asarray(largest_gain(problem))
    return np.where(gain > 0, gain, 1.0)[()]
