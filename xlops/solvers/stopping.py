"""When a solver stops: what the numbers of its steps and the clock say."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import time
from typing import Any

import numpy as np

from xlops import units
from xlops.errors import ArgumentError, shown
from xlops.solvers.solution import Reason
from xlops.units import Gain
from xlops.windows.pieces import NDArray

__all__ = ["Stopping", "seconds"]

# Iterations without a new minimum of the gradient: where rounding allows no less, and
# elsewhere, where there may be as many as two for each unknown.
AT_ROUNDING, ANYWHERE = 100, 1000
# A gradient of so many roundings of the product of A and the residual is one of rounding.
ROUNDINGS = 10


class Stopping:
    """Says of each iteration whether it is the last, and why.

    Norms are numbers, or arrays with one for each of many problems.

    Parameters
    ----------
    tol : float
        Bound of the gradient norm, relative to its first value.
    limit : int
        Iterations allowed.
    deadline : float
        What `time.monotonic` must not pass.
    unknowns : int
        Size of the model.
    rounding : float
        Of the precision of the vectors.
    """

    def __init__(
        self, tol: float, limit: int, deadline: float, unknowns: int, rounding: float
    ) -> None:
        self._tol, self._limit, self._deadline = tol, limit, deadline
        self._patience = max(ANYWHERE, 2 * unknowns)
        self._rounding = ROUNDINGS * rounding
        # The first gradient, the least one and when it was found, and what stands for ‖A‖.
        self._first: Any = 0.0
        self._least: Any = 0.0
        self._found: Any = 0
        self._largest: Any = 0.0

    def reason(self, done: int, residual: float, gradient: float) -> Reason | None:
        """The reason of one problem to stop after an iteration, if there is one.

        The same as `reasons`, in plain numbers: iterations may take microseconds.
        """
        if not done:
            self._first = self._least = gradient
            self._largest, self._found = 0.0, 0
        if not math.isfinite(residual + gradient):
            return Reason.NOT_FINITE
        if self._first == 0:
            return Reason.EXACT
        if gradient <= self._tol * self._first:
            return Reason.TOLERANCE
        if time.monotonic() > self._deadline:
            return Reason.TIME
        if done >= self._limit:
            return Reason.NITER
        if gradient < self._least:
            self._least, self._found = gradient, done
        if residual:
            self._largest = max(self._largest, gradient / residual)
        waited = done - self._found
        if waited < AT_ROUNDING:
            return None
        rounded = self._least <= self._rounding * self._largest * residual
        return Reason.STAGNATION if rounded or waited >= self._patience else None

    def reasons(self, done: int, residual: Any, gradient: Any) -> NDArray:
        """The reasons of many problems to stop, None where there is none."""
        if not done:
            self._first = self._least = gradient
            self._largest = np.zeros_like(gradient)
            self._found = np.zeros_like(gradient, dtype=int)
        found = np.full(np.shape(gradient), None, dtype=object)
        for reason, holds in (
            (Reason.STAGNATION, self._stagnates(done, residual, gradient)),
            (Reason.NITER, done >= self._limit),
            (Reason.TIME, time.monotonic() > self._deadline),
            (Reason.TOLERANCE, gradient <= self._tol * self._first),
            (Reason.EXACT, self._first == 0),
            (Reason.NOT_FINITE, ~np.isfinite(residual + gradient)),
        ):  # the last one counts
            if np.any(holds):
                found[holds] = reason
        return found

    def _stagnates(self, done: int, residual: Any, gradient: Any) -> Any:
        """Whether the gradient has not fallen for so long that it will not fall again.

        Its norm need not fall from step to step, and healthy methods may pass as many
        steps as there are unknowns without a new minimum. Only a gradient that is as
        small as rounding of ‖A‖ ‖r‖ makes it says more. ‖Aᴴ r‖ / ‖r‖ is ‖A‖ at most.
        """
        falls = gradient < self._least
        self._least = np.where(falls, gradient, self._least)
        self._found = np.where(falls, done, self._found)
        waited = done - self._found
        with np.errstate(all="ignore"):
            self._largest = np.fmax(self._largest, gradient / residual)
        rounded = self._least <= self._rounding * self._largest * residual
        return (waited >= self._patience) | (rounded & (waited >= AT_ROUNDING))


def seconds(limit: Any, who: str) -> float:
    """A time limit in seconds; infinite where there is none."""
    if limit is None:
        return math.inf
    number: Any = math.nan
    if isinstance(limit, (str, dt.timedelta, np.timedelta64)):
        import pandas as pd

        with contextlib.suppress(ValueError):
            number = pd.Timedelta(limit).total_seconds()
    elif not isinstance(limit, bool):
        number = units.magnitude(limit, Gain.of("s"), f"{who}: time_limit")
    try:
        found = float(number)
    except (TypeError, ValueError):
        found = math.nan
    if not found >= 0:
        raise ArgumentError(
            f'{who}: time_limit must be seconds, or a time such as "10 min", got '
            f"{shown(limit)}"
        )
    return found
