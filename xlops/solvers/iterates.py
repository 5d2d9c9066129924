"""The last iterate of a method, or of each of many problems that it solves at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.solvers.problem import Problem
from xlops.windows.pieces import Array, NDArray

if TYPE_CHECKING:
    from xlops.solvers.loop import Step

__all__ = ["Iterates"]


class Iterates:
    """Takes iterates as they come, and keeps those of problems that have stopped.

    Attributes
    ----------
    problem : Problem
        What is solved; to be said before the first iterate.
    """

    problem: Problem

    def __init__(self) -> None:
        self._last: Step | None = None
        self._kept: tuple[Tree, Tree] | None = None

    def take(self, step: Step) -> None:
        """The next iterate; a residual that the method does without is made in the end."""
        self._last = step

    def keep(self, stops: NDArray) -> None:
        """Keep the iterates of some of many problems: the others go on in their memory."""
        if not stops.ndim or (self._kept is None and stops.all()) or not stops.any():
            return
        now = self._now()
        if self._kept is None:
            self._kept = engine.copied(now[0]), engine.copied(now[1])
            return
        vectors = self.problem.vectors
        for kept, given in zip(self._kept, now, strict=True):

            def one(target: Array, source: Array) -> Array:
                where = vectors.spread(stops, target)
                np.copyto(target.data, source.ordered(target.dims).data, where=where)
                return target

            engine.paired(one, kept, given)

    def vectors(self) -> tuple[Tree, Tree]:
        """The last model and its residual."""
        return self._now() if self._kept is None else self._kept

    def _now(self) -> tuple[Tree, Tree]:
        assert self._last is not None
        x, residual = self._model(), self._last.residual
        if residual is None:
            residual = self.problem.residual(x)
        return self.problem.persist(x, residual)

    def _model(self) -> Tree:
        assert self._last is not None
        x = self._last.x
        return x() if callable(x) else x
