"""Contenders timed in turn, and what the times say about their ratios."""

from __future__ import annotations

import dataclasses
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["OWN", "Comparison", "Measurement", "Race", "Row", "Skipped"]

OWN = "xlops"


class Skipped(Exception):
    """A case that cannot run here, and why."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a ratio of two times, or a number with a limit.

    Attributes
    ----------
    own, other : float
        Median seconds; of a number with a limit, the number, and None.
    value, low, high : float
        The median and an interval that holds it with 95 % (see `interval`): of how often
        the time of xlops goes into that of the other, or of the number itself.
    wanted : float, optional
        What the ratio should reach, or the number should not exceed.
    """

    case: str
    side: str
    against: str
    own: float
    other: float | None
    value: float
    low: float
    high: float
    wanted: float | None
    unit: str
    runs: int

    @property
    def is_ratio(self) -> bool:
        return bool(self.against)

    @property
    def holds(self) -> str:
        """Whether the median holds; a question mark where the interval leaves it open."""
        if self.wanted is None:
            return ""
        good = self.value >= self.wanted if self.is_ratio else self.value <= self.wanted
        open_ = self.low <= self.wanted <= self.high
        return ("yes" if good else "no") + ("?" if open_ else "")


@dataclasses.dataclass(frozen=True)
class Race:
    """What is timed side by side: one operator in one direction.

    Attributes
    ----------
    side : str
        Such as "forward".
    contenders : mapping of str to callable
        By name, xlops's own among them; each call does the whole work anew.
    result : callable
        The result of a contender as something like a NumPy array.
    exempt : frozenset of str
        Contenders that do other work: their results are not compared.
    """

    side: str
    contenders: Mapping[str, Callable[[], Any]]
    result: Callable[[Any], Any] = np.asarray
    exempt: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A case that is timed against others.

    Attributes
    ----------
    races : callable
        Makes the data and yields the races.
    wanted : mapping of str to float
        The ratio to reach, by name of the other contender.
    tolerance : float
        How far results may differ, relative to the largest absolute value.
    full : bool
        Whether it is too large for the default run.
    """

    name: str
    races: Callable[[], Iterator[Race]]
    wanted: Mapping[str, float]
    tolerance: float = 1e-10
    full: bool = False

    def rows(self, runs: int) -> Iterator[Row]:
        for race in self.races():
            _assert_agreement(race, self.tolerance, self.name)
            gc.collect()
            seconds = _timed(race.contenders, runs)
            own = seconds.pop(OWN)
            for name, times in seconds.items():
                ratios = [b / a for a, b in zip(own, times, strict=True)]
                yield Row(
                    self.name,
                    race.side,
                    name,
                    statistics.median(own),
                    statistics.median(times),
                    statistics.median(ratios),
                    *interval(ratios),
                    self.wanted.get(name),
                    "s",
                    runs,
                )


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A case that has a limit, not a contender.

    Attributes
    ----------
    measure : callable
        Given a number of runs, the numbers by what they stand for.
    limits : mapping of str to float
        What they should not exceed; under "" for all that are not named.
    most : int
        The most runs that are worth their time.
    """

    name: str
    measure: Callable[[int], Mapping[str, Sequence[float]]]
    limits: Mapping[str, float]
    unit: str = "s"
    most: int = 15
    full: bool = False

    def rows(self, runs: int) -> Iterator[Row]:
        for side, values in self.measure(min(runs, self.most)).items():
            median = statistics.median(values)
            limit = self.limits.get(side, self.limits.get(""))
            low, high = interval(values)
            yield Row(
                self.name,
                side,
                "",
                median,
                None,
                median,
                low,
                high,
                limit,
                self.unit,
                len(values),
            )


def _timed(
    contenders: Mapping[str, Callable[[], Any]], runs: int
) -> dict[str, list[float]]:
    """Seconds of each run, the contenders taking turns in random order."""
    order = list(contenders)
    shuffled = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        shuffled.shuffle(order)
        for name in order:
            call = contenders[name]
            start = time.perf_counter()
            result = call()
            seconds[name].append(time.perf_counter() - start)
            del result  # outside the clock, and before the next one needs the memory
    return seconds


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with 95 %.

    It assumes nothing about the distribution: the number of values below the median is
    binomial. Fewer than 6 values have no such pair; theirs is the range.
    """
    ordered, n = sorted(values), len(values)
    left, outside = 0, 2 / 2**n  # all values on one side of the median
    while True:
        outside += 2 * math.comb(n, left + 1) / 2**n
        if outside > 0.05 or 2 * (left + 1) >= n:
            return ordered[left], ordered[-1 - left]
        left += 1


def _assert_agreement(race: Race, tolerance: float, case: str) -> None:
    """Every contender's result is xlops's own; it also warms everything up."""
    own = race.result(race.contenders[OWN]())
    for name, call in race.contenders.items():
        if name == OWN:
            continue
        other = call()
        if name in race.exempt:
            continue
        error = _relative_difference(own, race.result(other))
        assert error <= tolerance, f"{case}, {race.side}: {name} differs by {error:.1e}"
        del other


def _relative_difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """max |a − b| / max |b|, in pieces, so that it needs no memory."""
    a, b = a.reshape(-1), b.reshape(-1)
    assert a.shape == b.shape, f"{a.size} and {b.size} values"
    pieces = [slice(i, i + 2**20) for i in range(0, a.size, 2**20)]
    difference = max(float(np.abs(a[p] - b[p]).max()) for p in pieces)
    return difference / max(float(np.abs(b[p]).max()) for p in pieces)
