"""Least squares inside of an iteration of another method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.solvers import cgls
from xlops.solvers.driver import Step
from xlops.solvers.problem import Problem

__all__ = ["Inner"]


class Inner:
    """min ‖r₀ − F (x − x₀)‖² + damp² ‖x‖², as methods see a problem.

    Parameters
    ----------
    problem : Problem
        The problem of the method outside.
    forward, adjoint : callable
        F and its adjoint, on plain vectors.
    start : pair
        x₀ and r₀, which stay as they are.
    damp : float
        Weight of the model.
    """

    def __init__(
        self,
        problem: Problem,
        forward: Callable[[Tree], Tree],
        adjoint: Callable[[Tree], Tree],
        start: tuple[Tree, Tree],
        damp: float = 0.0,
    ) -> None:
        self._start, self.vectors, self.persist = start, problem.vectors, problem.persist
        self.forward, self.adjoint, self.damp = forward, adjoint, damp

    def start(self) -> tuple[Tree, Tree]:
        """The first model and its residual."""
        return engine.copied(self._start[0]), self._start[1]

    def gradient(self, x: Tree, r: Tree) -> Tree:
        """``Fᴴ r − damp² x``."""
        s = self.adjoint(r)
        return self.vectors.axpy(-(self.damp**2), x, s) if self.damp else s

    def precondition(self, s: Tree) -> Tree:
        """The same vector."""
        return s

    def solve(self, niter: int, tol: float) -> Step:
        """The last step of conjugate gradients, one submission each on Dask."""
        steps = cgls._steps(cast(Problem, self), None)
        last = first = next(steps)
        for done, last in enumerate(steps, 1):
            if not all(np.all(np.asarray(pivot) > 0) for pivot in last.pivots):
                break
            if done >= niter or np.all(last.gradient_norm <= tol * first.gradient_norm):
                break
        return last


def times(x: Tree, w: Tree | None, vectors: Any) -> Tree:
    """A vector times weights, sample by sample."""
    return x if w is None else cast(Tree, vectors.mapped(np.multiply, x, w))
