"""The last iterate of a solver, which outlives what goes wrong after it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from xlops import engine
from xlops.engine import Shelf, Tree
from xlops.errors import ClusterError
from xlops.solvers.problem import Problem

if TYPE_CHECKING:
    from xlops.solvers.driver import Step

__all__ = ["Keeper", "Label"]

# Puts labels on a plain vector.
Label: TypeAlias = Callable[[Tree], Any]


class Keeper:
    """Has the last iterate, in memory; a context manager around the iterations.

    Parameters
    ----------
    label, label_residual : callable
        Put labels on a model and on a residual.
    who : str
        The solver, for errors.

    Attributes
    ----------
    shelf : Shelf or None
        Where vectors lie on disk.
    problem : Problem
        What is solved; the driver says it before the first iterate.
    who : str
        The solver.
    """

    shelf: Shelf | None = None
    problem: Problem

    def __init__(self, label: Label, label_residual: Label, who: str) -> None:
        self._label, self._label_residual, self.who = label, label_residual, who
        self._last: Step | None = None
        self._iterations = -1

    def take(self, step: Step) -> None:
        """The next iterate; a residual that the method does without is made in the end."""
        self._last = step
        self._iterations += 1

    def model(self) -> Callable[[], Any]:
        """What gives the last model with its labels, as it is now."""
        assert self._last is not None
        # The next iteration changes it in place.
        return functools.partial(self._label, engine.copied(self._model()))

    def results(self) -> tuple[Any, Any]:
        """The last model and its residual, with their labels."""
        x, residual = self.vectors()
        return self._label(x), self._label_residual(residual)

    def vectors(self) -> tuple[Tree, Tree]:
        """The last model and its residual."""
        assert self._last is not None
        x, residual = self._model(), self._last.residual
        if residual is None:
            residual = self.problem.residual(x)
        return self.problem.persist(x, residual)

    def _model(self) -> Tree:
        assert self._last is not None
        x = self._last.x
        return x() if callable(x) else x

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say what is left after a failure."""
        if error is None:
            return
        lost, left = engine.loss(error), self._rescued()
        if lost is not None:
            when = f"after {max(self._iterations, 0)} iterations"
            raise ClusterError(f"{self.who}: {lost}, {when}; {left}") from error
        if self.shelf is not None:
            error.add_note(f"({left})")

    def _rescued(self) -> str:
        """Save what can be saved; how to go on from there."""
        return (
            "its vectors are gone; solve again, with store=… if the last iterate should "
            "be there when that happens"
        )
