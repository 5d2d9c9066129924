"""Axis: the labels along one dim, what they measure, and how evenly they lie.

One place knows how labels become numbers (times count in seconds), which labels are
the same, and what to say when they are not.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from xlops.errors import LabelError
from xlops.units import ONE, Gain, same

__all__ = ["Axis", "Place"]

# Steps agree within this part of the step: the axis is regular.
REGULAR = 1e-6
# Jitter of stored floats, which operators that need regular sampling put up with.
JITTER = 1e-3

# Labels that travel to other processes for the sake of errors.
MANY = 1024


class Axis:
    """The labels along one dim.

    Parameters
    ----------
    dim : Hashable
        Name of the dim.
    size : int
        Number of samples.
    labels : xarray.Variable, optional
        The dimension coordinate; None for a dim without one, which then has unit steps.
    """

    def __init__(self, dim: Hashable, size: int, labels: xr.Variable | None) -> None:
        self.dim = dim
        self.size = size
        self.labels = labels

    @classmethod
    def of(cls, obj: xr.DataArray | xr.Dataset, dim: Hashable) -> Axis:
        """The axis of an array along one of its dims."""
        return cls(dim, obj.sizes[dim], obj.coords.variables.get(dim))

    # --- what the labels measure -------------------------------------------------

    @functools.cached_property
    def is_time(self) -> bool:
        """Whether labels are dates or durations, which count in seconds."""
        if self.labels is None:
            return False
        if self.labels.dtype.kind in "mM":
            return True
        return self.labels.dtype == object and _is_cftime(self.labels)

    @property
    def units(self) -> str | None:
        """Unit that the labels count in; None where it is not known."""
        if self.labels is None:
            return "1"
        if self.is_time:
            return "s"
        text = self.labels.attrs.get("units")
        if not isinstance(text, str):
            return None
        return text.split(" since ")[0].strip()

    @property
    def gain(self) -> Gain:
        """The unit of the labels as a factor of an operator's units."""
        return ONE if self.labels is None else Gain.of(self.units)

    @functools.cached_property
    def numbers(self) -> npt.NDArray[np.float64]:
        """How far labels lie from the first, as float64; dates in seconds.

        Raises
        ------
        LabelError
            Where labels are NaN, repeated, unsorted or not numbers.
        """
        if self.labels is None:
            return np.arange(self.size, dtype=np.float64)
        values = self.labels.values
        if self.is_time:
            numbers = _seconds(values)
        elif values.dtype.kind in "iu" and values.max(initial=0) < 2**62:
            # In integers: those of nanoseconds since 1970 have more digits than floats.
            numbers = (values.astype(np.int64) - int(values[0])).astype(np.float64)
        elif values.dtype.kind in "iuf":
            numbers = values.astype(np.float64) - float(values[0])
        else:
            raise LabelError(
                f"labels of {str(self.dim)!r} are neither numbers nor times "
                f"({values.dtype}), so there is no spacing between them; give the dim "
                "a numeric coordinate"
            )
        self._check_order(numbers)
        return numbers

    def _check_order(self, numbers: npt.NDArray[np.float64]) -> None:
        name = repr(str(self.dim))
        bad = np.flatnonzero(~np.isfinite(numbers))
        if bad.size:
            raise LabelError(
                f"label {bad[0]} of {name} is {self._shown(bad[0])}, so there is no "
                f"spacing ({bad.size} such labels); drop or repair them first, "
                f"for example with .dropna({name})"
            )
        steps = np.diff(numbers)
        for what, wrong in (
            ("repeated", steps == 0),
            ("unsorted", np.sign(steps) != np.sign(numbers[-1] - numbers[0])),
        ):
            at = np.flatnonzero(wrong)
            if at.size:
                mend = ".drop_duplicates" if what == "repeated" else ".sortby"
                raise LabelError(
                    f"labels of {name} are {what}: label {at[0]} is "
                    f"{self._shown(at[0])}, label {at[0] + 1} is "
                    f"{self._shown(at[0] + 1)}; use {mend}({name}) first"
                )

    @functools.cached_property
    def step(self) -> float:
        """Mean step, (last − first)/(n − 1), with its sign; 1 for a single sample."""
        if self.size < 2:
            return 1.0
        numbers = self.numbers
        return float((numbers[-1] - numbers[0]) / (self.size - 1))

    @functools.cached_property
    def rounding(self) -> float:
        """What the dtype of the labels can resolve."""
        if self.labels is None or self.labels.dtype.kind != "f":
            return 0.0
        finite = np.abs(self.labels.values[np.isfinite(self.labels.values)])
        largest = float(np.max(finite, initial=0.0))
        return 4 * float(np.finfo(self.labels.dtype).eps) * largest

    def uneven_at(self, tolerance: float) -> int | None:
        """Index of the worst step that differs from the mean step, None if regular."""
        if self.labels is None or self.size < 3:
            return None
        error = np.abs(np.diff(self.numbers) - self.step)
        worst = int(np.argmax(error))
        rounding = min(self.rounding, abs(self.step) / 4)
        allowed = max(tolerance * abs(self.step), rounding)
        return worst if error[worst] > allowed else None

    @property
    def is_regular(self) -> bool:
        """Whether all steps are the same."""
        return self.uneven_at(REGULAR) is None

    @property
    def is_even(self) -> bool:
        """Whether labels are numbers that first and last one tell all of."""
        if self.labels is None or self.labels.dtype.kind not in "if":
            return False
        try:
            return self.is_regular
        except LabelError:  # NaN, repeated or unsorted
            return False

    def regular_step(self, who: str) -> float:
        """The step of an axis that must be regular.

        Raises
        ------
        LabelError
            Where it is not; the message says which step breaks it.
        """
        at = self.uneven_at(JITTER)
        if at is not None:
            numbers = self.numbers
            unit = "" if self.units is None else f" {self.units}"
            raise LabelError(
                f"{who} needs regular sampling along {str(self.dim)!r}: step {at} "
                f"(from {self._shown(at)} to {self._shown(at + 1)}) is "
                f"{numbers[at + 1] - numbers[at]:.6g}{unit}, the mean step is "
                f"{self.step:.6g}{unit}; interpolate to even labels with .interp first"
            )
        return self.step

    # --- which labels are the same ------------------------------------------------

    def difference(self, given: Axis) -> str | None:
        """What keeps `given` from being this axis, and what would mend it.

        None where they match: equal labels, or floats that differ by no more than
        1e-6 of the step or the rounding of their dtype. An axis without labels
        matches every axis of its size.
        """
        name = repr(str(self.dim))
        remedy = ""
        if self.size != given.size:
            what = "other size"
            remedy = f"choose labels with .sel({self.dim}=…) or .interp({self.dim}=…)"
        elif self.labels is None:
            return None
        elif given.labels is None:
            what = "no labels"
            remedy = f"give it labels with .assign_coords({self.dim}=…)"
        elif self.labels is given.labels:
            return None
        elif not same(self._text_units, given._text_units):
            what = (
                f"other units: {given._text_units!r} where {self._text_units!r} is expected"
            )
            remedy = "convert the coordinate"
        else:
            if self._equals(given):
                return None
            differs = self._differs(given)
            if not differs.any():
                return None
            at = int(np.argmax(differs))
            if not self._differs(given.reversed()).any():
                what = "the same labels in reverse order"
                remedy = f"turn it with .isel({self.dim}=slice(None, None, -1))"
            else:
                wanted, got = self._shown(at), given._shown(at)
                if wanted == got:  # they differ in digits that are not shown
                    wanted = str(self.labels.values[at])
                    got = str(given.labels.values[at])
                what = (
                    f"other labels, the first at index {at}: {got} where {wanted} is "
                    "expected"
                )
                remedy = f"choose with .sel({self.dim}=…) or .interp({self.dim}=…)"
        return (
            f"{name} has {what}: expected {self}, got {given}; {remedy}, or build the "
            "operator from this data"
        )

    @property
    def _text_units(self) -> str | None:
        if self.labels is None or self.is_time:
            return None
        text = self.labels.attrs.get("units")
        return text if isinstance(text, str) else None

    def _equals(self, given: Axis) -> bool:
        """Whether labels are the same to the last bit: quick, and so most often."""
        mine, theirs = self._values, given._values
        if mine.dtype.kind not in "biufmMUS" or mine.dtype != theirs.dtype:
            return False
        return bool((mine == theirs).all())

    @functools.cached_property
    def _values(self) -> npt.NDArray[Any]:
        assert self.labels is not None
        values: npt.NDArray[Any] = self.labels.values
        return values

    def _differs(self, given: Axis) -> npt.NDArray[np.bool_]:
        assert self.labels is not None and given.labels is not None
        mine, theirs = self.labels.values, given.labels.values
        numeric = mine.dtype.kind in "iuf" and theirs.dtype.kind in "iuf"
        if numeric and (mine.dtype.kind == "f" or theirs.dtype.kind == "f"):
            one, two = mine.astype(np.float64), theirs.astype(np.float64)
            finite = np.isfinite(one) & np.isfinite(two)
            ends = one[finite][[0, -1]] if finite.any() else np.zeros(2)
            span = abs(ends[1] - ends[0]) / max(one.size - 1, 1)
            # However coarse their dtype, labels a quarter of a step apart are others.
            rounding = max(self.rounding, given.rounding)
            rounding = min(rounding, span / 4) if span else rounding
            allowed = max(REGULAR * span, rounding)
            near = (one == two) | (np.isnan(one) & np.isnan(two))
            near[finite] |= np.abs(one[finite] - two[finite]) <= allowed
            return np.asarray(~near, dtype=bool)
        try:
            unequal = np.asarray(mine != theirs, dtype=bool)
            missing = np.asarray((mine != mine) & (theirs != theirs), dtype=bool)
        except TypeError:  # labels of kinds that do not compare
            return np.full(self.size, True)
        return np.broadcast_to(unequal & ~missing, (self.size,))

    def reversed(self) -> Axis:
        """The same labels in reverse order."""
        labels = None if self.labels is None else self.labels[::-1]
        return Axis(self.dim, self.size, labels)

    # --- words ----------------------------------------------------------------------

    def _shown(self, at: int) -> str:
        if self.labels is None:
            return str(at)
        return _label(self.labels.values[at])

    def within(self, piece: slice) -> str:
        """The labels of a piece: ``time 0.2 … 0.396 s [50:100]``."""
        at = f"[{piece.start}:{piece.stop}]"
        if self.labels is None or piece.stop <= piece.start:
            return f"{self.dim} {at}"
        unit = "" if self._text_units is None else f" {self._text_units}"
        ends = dict.fromkeys((self._shown(piece.start), self._shown(piece.stop - 1)))
        return f"{self.dim} {' … '.join(ends)}{unit} {at}"

    def __str__(self) -> str:
        if self.labels is None:
            return f"{self.size} samples"
        if self.size == 0:
            return "0 labels"
        ends = f"[{self._shown(0)} … {self._shown(-1)}]"
        if self.size == 1:
            ends = f"[{self._shown(0)}]"
        try:
            regular, step = self.is_regular, self.step
        except LabelError:  # no spacing: names, NaN, repeated or unsorted labels
            return f"{self.size} labels {ends}"
        unit = "" if self._text_units is None else f" {self._text_units}"
        if self.size == 1:
            return f"1 sample{unit} {ends}"
        if not regular:
            return f"{self.size} uneven{unit} {ends}"
        length = _duration(step) if self.is_time else f"{step:.6g}"
        return f"{self.size} × {length}{unit} {ends}"

    def __repr__(self) -> str:
        return f"<Axis {self.dim}: {self}>"


class Place:
    """Says where pieces of an axis lie, for errors; travels light.

    Parameters
    ----------
    axis : Axis
        The axis. On the way to another process even labels become two numbers, and many
        uneven ones stay behind.
    """

    __slots__ = ("_axis",)

    def __init__(self, axis: Axis) -> None:
        self._axis = axis

    def __call__(self, piece: slice) -> str:
        """The labels of a piece, in words."""
        return self._axis.within(piece)

    def __reduce__(self) -> tuple[Any, ...]:
        axis = self._axis
        labels = axis.labels
        if labels is not None and axis.is_even:
            units = {k: v for k, v in labels.attrs.items() if k == "units"}
            ends = labels.values[[0, -1]].tolist()
            return _even_place, (axis.dim, axis.size, *ends, units)
        if axis.size > MANY:
            labels = None
        return Place, (Axis(axis.dim, axis.size, labels),)


def _even_place(
    dim: Hashable, size: int, first: float, last: float, attrs: dict[Hashable, Any]
) -> Place:
    labels = xr.Variable(dim, np.linspace(first, last, size), attrs)
    return Place(Axis(dim, size, labels))


def _is_cftime(labels: xr.Variable) -> bool:
    first = labels.values.ravel()[:1]
    return first.size > 0 and hasattr(first[0], "calendar")


def _seconds(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if values.dtype.kind in "mM":
        passed = values - values[:1]
        seconds = passed / np.timedelta64(1, "s")
        return np.where(np.isnat(passed), np.nan, seconds).astype(np.float64)
    return np.array([(v - values[0]).total_seconds() for v in values], dtype=np.float64)


def _label(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return np.datetime_as_string(value, unit="auto")
    if isinstance(value, np.timedelta64):
        return _duration(float(value / np.timedelta64(1, "s")))
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return str(value)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if abs(seconds) >= size:
            return f"{seconds / size:.6g} {unit}"
    return f"{seconds:.6g} s"
