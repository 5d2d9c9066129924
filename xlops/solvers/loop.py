"""The steps of a method, one after the other, until there is a reason to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from xlops.engine import Tree
from xlops.solvers.solution import Reason
from xlops.solvers.stopping import Stopping
from xlops.windows.pieces import NDArray

if TYPE_CHECKING:
    from xlops.solvers.iterates import Iterates
    from xlops.solvers.problem import Problem

__all__ = ["Course", "Method", "Norms", "State", "Step"]

# All that a method goes on from: vectors and numbers.
State: TypeAlias = tuple[Any, ...]


class Step(NamedTuple):
    """What a method yields before its first iteration and after each one.

    Numbers are one each, or arrays with one for each of many problems.

    Parameters
    ----------
    x : Array or dict of Array, or callable
        The model, or what makes it where the method does without.
    residual : Array or dict of Array, optional
        y − A x; None where the method does without.
    residual_norm : number
        Its norm, or what the method knows of it.
    gradient_norm : number
        What the tolerance bounds, relative to its first value.
    state : tuple
        The vectors and numbers from which the method goes on in the same way; flat.
    pivots : tuple of number, optional
        Numbers that were divided by. Where one is not positive, the step counts for
        nothing and the method has broken down.
    cost : number, optional
        What the method minimises, where that is not the squared norm of the residual.
    """

    x: Tree | Callable[[], Tree]
    residual: Tree | None
    residual_norm: Any
    gradient_norm: Any
    state: State
    pivots: tuple[Any, ...] = ()
    cost: Any = None


# Steps from a state, or from the start. A method that ends has broken down.
Method: TypeAlias = Callable[["Problem", State | None], Iterator[Step]]


class Norms(NamedTuple):
    """What the history has of one iteration."""

    residual_norm: Any
    gradient_norm: Any
    cost: Any = None


# Nobody need be asked whether to go on.
SETTLED = (Reason.TOLERANCE, Reason.EXACT, Reason.NOT_FINITE)


class Course:
    """How the iterations went: norms, and why each problem has stopped.

    Parameters
    ----------
    stopping : Stopping
        Says when to stop.
    shape : tuple of int
        Of many problems that are solved at once; without dims for one problem.

    Attributes
    ----------
    norms : list of Norms
        Of all iterations; NaN for problems that have stopped.
    running : ndarray of bool
        Which problems go on.
    reasons : ndarray of Reason or None
        Why the others do not.
    iterations : ndarray of int
        How many there were.
    """

    def __init__(self, stopping: Stopping, shape: tuple[int, ...] = ()) -> None:
        self.stopping = stopping
        self.norms: list[Norms] = []
        self.running = np.ones(shape, dtype=bool)
        self.reasons = np.full(shape, None, dtype=object)
        self.iterations = np.zeros(shape, dtype=int)

    @property
    def done(self) -> int:
        """Iterations of those problems that took most."""
        return len(self.norms) - 1

    def run(
        self,
        steps: Iterator[Step],
        iterates: Iterates,
        ask: Callable[[Course], bool] | None = None,
        after: Callable[[Course, Step], Iterator[Step] | None] | None = None,
    ) -> None:
        """Take steps until no problem goes on.

        Parameters
        ----------
        steps : iterator of Step
            Those of a method.
        iterates : Iterates
            Takes the iterates, and keeps those of problems that have stopped.
        ask : callable, optional
            Asked after each iteration whether to go on.
        after : callable, optional
            Called after each step that counts; may give other steps to go on with.
        """
        while self.running.any():
            step = next(steps, None)
            if step is None or not self._take(step, iterates, ask):
                break
            if after is not None:
                steps = after(self, step) or steps
        if not self.running.any():
            return
        self.reasons[self.running] = Reason.BREAKDOWN
        iterates.keep(self.running)
        self.running = np.zeros_like(self.running)

    def resume(self, norms: list[Norms], reason: Reason | None) -> None:
        """Go on after iterations that have been; of one problem.

        Parameters
        ----------
        norms : list of Norms
            Of these iterations.
        reason : Reason or None
            Why there were no more.
        """
        found: Any = None
        for last in norms:
            self.norms.append(last)
            found = self.stopping.reason(self.done, float(last[0]), float(last[1]))
        if reason is Reason.BREAKDOWN:
            found = reason
        self.iterations[...] = self.done
        self.reasons[...] = found
        self.running = np.asarray(found is None)

    def _take(
        self,
        step: Step,
        iterates: Iterates,
        ask: Callable[[Course], bool] | None,
    ) -> bool:
        """Note a step; whether it counts for any problem."""
        if not self.running.ndim:
            return self._take_one(step, iterates, ask)
        fine = self.running.copy()
        for pivot in step.pivots:
            fine &= pivot > 0
        if not fine.any():
            return False
        broken = self.running & ~fine
        iterates.take(step)
        self.norms.append(
            Norms(*(_where(fine, value) for value in (*step[2:4], step.cost)))
        )
        self.iterations[fine] = self.done
        found = self.stopping.reasons(self.done, *self.norms[-1][:2])
        if ask is not None and self.done:
            asks = fine.copy()
            for reason in SETTLED:
                asks &= found != reason
            if asks.any() and not ask(self):
                found[asks] = Reason.CALLBACK
        found[~fine] = None
        found[broken] = Reason.BREAKDOWN
        stops = found != None  # noqa: E711, compared problem by problem
        if np.any(stops):
            self.reasons[stops] = found[stops]
            self.running = self.running & ~stops
            iterates.keep(stops)
        return True

    def _take_one(
        self,
        step: Step,
        iterates: Iterates,
        ask: Callable[[Course], bool] | None,
    ) -> bool:
        """The same for one problem."""
        if not all(pivot > 0 for pivot in step.pivots):
            return False
        iterates.take(step)
        residual, gradient = float(step.residual_norm), float(step.gradient_norm)
        cost = None if step.cost is None else float(step.cost)
        self.norms.append(Norms(residual, gradient, cost))
        self.iterations[...] = self.done
        reason = self.stopping.reason(self.done, residual, gradient)
        asks = ask is not None and self.done and reason not in SETTLED
        if asks and ask is not None and not ask(self):
            reason = Reason.CALLBACK
        if reason is not None:
            self.reasons[...] = reason
            self.running[...] = False
        return True


def _where(fine: NDArray, value: Any) -> Any:
    """Numbers of problems that go on, NaN for others."""
    return None if value is None else np.where(fine, value, np.nan)
