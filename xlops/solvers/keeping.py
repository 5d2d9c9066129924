"""The last iterate of a solver, which outlives what goes wrong after it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from xlops import engine
from xlops.engine import Shelf, Tree
from xlops.errors import ClusterError
from xlops.solvers.iterates import Iterates

if TYPE_CHECKING:
    from xlops.solvers.checkpoint import Saver
    from xlops.solvers.loop import Step

__all__ = ["Keeper", "Label"]

# Puts labels on a plain vector.
Label: TypeAlias = Callable[[Tree], Any]


class Keeper(Iterates):
    """Iterates in memory, with labels; a context manager around the iterations.

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
    saver : Saver or None
        Writes checkpoints.
    who : str
        The solver.
    """

    shelf: Shelf | None = None
    saver: Saver | None = None

    def __init__(self, label: Label, label_residual: Label, who: str) -> None:
        super().__init__()
        self._label, self._label_residual, self.who = label, label_residual, who
        self._iterations = -1

    def take(self, step: Step) -> None:
        """The next iterate."""
        super().take(step)
        self._iterations += 1

    @property
    def last(self) -> Step:
        """The last step."""
        assert self._last is not None
        return self._last

    def replace(self, step: Step) -> None:
        """Take the same iterate once more, from where it lies now."""
        self._last = step

    def resume(self, step: Step, iterations: int) -> None:
        """Take an iterate of an earlier run."""
        self._last, self._iterations = step, iterations

    def model(self) -> Callable[[], Any]:
        """What gives the last model with its labels, as it is now."""
        # The next iteration changes it in place.
        return functools.partial(self._label, engine.copied(self._model()))

    def results(self) -> tuple[Any, Any]:
        """The last model and its residual, with their labels."""
        x, residual = self.vectors()
        return self._label(x), self._label_residual(residual)

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
        if self.shelf is not None or self.saver is not None:
            error.add_note(f"({left})")

    def _rescued(self) -> str:
        """Save what can be saved; how to go on from there."""
        if self.saver is not None:
            return self.saver.left
        return (
            "its vectors are gone; solve again, with checkpoint=… or store=… if the last "
            "iterate should be there when that happens"
        )
