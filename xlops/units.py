"""Units: pint behind one small door.

Below the labels no array ever carries a unit. What an operator does to units is a
`Gain`: unit names with their powers, multiplied on paper and given to pint only when
somebody asks. The registry is cf-xarray's, which understands the strings of the CF
conventions (``m s-1``, ``degrees_north``); it is loaded when first needed, and pint's
application registry stays what it was.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from xlops.errors import UnitError, XlopsWarning

if TYPE_CHECKING:
    import pint

__all__ = ["NONE", "ONE", "Gain", "UnitWarning"]


_loading = threading.Lock()


class UnitWarning(XlopsWarning):
    """A unit that could not be understood and had to be dropped."""


def registry() -> Any:
    """cf-xarray's unit registry, loaded without becoming pint's application registry."""
    with _loading:  # it sets pint's registry for a moment, which no other thread may see
        return _loaded()


@functools.cache
def _loaded() -> Any:
    import pint

    application = pint.get_application_registry()
    before = application.get()
    log = logging.getLogger("pint")
    level = log.level
    with warnings.catch_warnings():
        # cf-xarray mentions that plots will not carry units when matplotlib is absent,
        # and pint logs each unit that cf-xarray defines anew.
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            from cf_xarray.units import units
        finally:
            log.setLevel(level)
    if application.get() is not before:
        pint.set_application_registry(before)
    return units


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> pint.Unit | None:
    """The unit that a string names, or None where it names none."""
    import pint

    if " since " in text:  # a calendar, not a unit
        return None
    try:
        unit: pint.Unit = registry().parse_units(text)
        return unit
    except (pint.PintError, ValueError, TypeError, AttributeError, KeyError):
        return None
    except Exception as error:  # the tokenizer of Python raises many kinds of its own
        if type(error).__module__ in {"tokenize", "_tokenize", "builtins"}:
            return None
        raise


def written(unit: pint.Unit) -> str:
    """A unit as the CF conventions write it."""
    return f"{unit:cf}"


class Gain(NamedTuple):
    """What an operator does to units: ``unit(A @ x) = gain · unit(x)``.

    ``factors`` are unit names with their powers, None where the gain is not known (an
    axis whose coordinate has no units).
    """

    factors: tuple[tuple[str, Fraction], ...] | None = ()

    @classmethod
    def of(cls, text: str | None, power: int = 1) -> Gain:
        """A unit given by name, to a power; unknown for None."""
        if text is None:
            return NONE
        return ONE if text in ("1", "") else cls(((text, Fraction(power)),))

    def __mul__(self, other: object) -> Gain:
        if not isinstance(other, Gain):
            return NotImplemented
        if self.factors is None or other.factors is None:
            return NONE
        powers: dict[str, Fraction] = dict(self.factors)
        for name, power in other.factors:
            powers[name] = powers.get(name, Fraction(0)) + power
        return Gain(tuple(sorted((n, p) for n, p in powers.items() if p)))

    def __pow__(self, power: int | Fraction) -> Gain:
        if self.factors is None:
            return NONE
        scaled = ((name, p * power) for name, p in self.factors)
        return Gain(tuple((name, p) for name, p in scaled if p))

    def __truediv__(self, other: Gain) -> Gain:
        return self * other**-1

    @property
    def known(self) -> bool:
        """Whether the gain is known at all."""
        return self.factors is not None

    @property
    def unit(self) -> pint.Unit | None:
        """As a pint unit; None where unknown or where a name means nothing to pint."""
        return _gain_unit(self)

    def __str__(self) -> str:
        if self.factors is None:
            return "unknown"
        if not self.factors:
            return "1"
        unit = self.unit
        if unit is not None:
            return written(unit)
        return " ".join(n if p == 1 else f"({n})^{p}" for n, p in self.factors)


ONE = Gain(())
NONE = Gain(None)
HALF = Fraction(1, 2)


@functools.lru_cache(maxsize=4096)
def _gain_unit(gain: Gain) -> pint.Unit | None:
    if gain.factors is None:
        return None
    product: pint.Unit = registry().parse_units("")
    for name, power in gain.factors:
        unit = parse(name)
        if unit is None:
            return None
        exponent = int(power) if power.denominator == 1 else float(power)
        product = product * _delta(unit) ** exponent  # gains are of differences
    return product


def _delta(unit: pint.Unit) -> pint.Unit:
    """`unit` with offset units (degC) replaced by their differences.

    Logarithmic units (dB) have none and stay.
    """
    ureg = registry()
    product: pint.Unit = ureg.parse_units("")
    for name, power in unit._units.items():
        offset = not ureg._units[name].is_multiplicative and f"delta_{name}" in ureg
        product = product * ureg.Unit(f"delta_{name}" if offset else name) ** power
    return product


@functools.lru_cache(maxsize=4096)
def _scaled(text: str, gain: Gain, keeps_constants: bool) -> tuple[str | None, str]:
    """Unit after a gain, and the reason where there is none."""
    if not gain.known:
        return None, ""
    factor = gain.unit if gain.factors else None
    if not gain.factors or (factor is not None and not factor._units):
        if keeps_constants:
            return text, ""
        unit = parse(text)
        if unit is None or unit == _delta(unit):
            return text, ""
        return written(_delta(unit)), ""
    unit = parse(text)
    if unit is None:
        return None, text
    if factor is None:
        return None, " ".join(n for n, _ in gain.factors if parse(n) is None)
    return written(_delta(unit) * _delta(factor)), ""


_told: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar(
    "units that the user has been warned of", default=None
)


@contextlib.contextmanager
def one_warning() -> Iterator[None]:
    """One warning for each unit that is dropped inside, however often that happens."""
    if _told.get() is not None:
        yield
        return
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


def apply(gain: Gain, text: str | None, keeps_constants: bool, who: str) -> str | None:
    """Unit of ``A @ x`` from the unit of x: verbatim where it does not change.

    A unit that cannot be understood and would change is dropped with a warning.
    """
    if text is None:
        return None
    result, culprit = _scaled(text, gain, keeps_constants)
    told = _told.get()
    if culprit and (told is None or culprit not in told):
        if told is not None:
            told.add(culprit)
        warnings.warn(
            f"{who}: the unit {culprit!r} cannot be parsed, so the unit of the result "
            "is not known and has been dropped",
            UnitWarning,
            stacklevel=_outside(),
        )
    return result


def _outside() -> int:
    """Stack level of the first caller outside xlops, for warnings."""
    import sys

    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        "xlops."
    ):
        frame, level = frame.f_back, level + 1
    return level


def same(first: str | None, second: str | None) -> bool:
    """Whether two units are the same, or one of them is not given."""
    if first is None or second is None or first == second:
        return True
    one, other = parse(first), parse(second)
    # Directions of CF (degrees_north) are the same unit as plain degrees.
    return (
        one is not None
        and other is not None
        and (1 * one).to_root_units() == (1 * other).to_root_units()
    )


@functools.lru_cache(maxsize=4096)
def mixes_offsets(first: str | None, second: str | None) -> bool:
    """Whether values in the two units convert by a shift too, as °C and K do."""
    if first is None or second is None or same(first, second):
        return False
    one, other = parse(first), parse(second)
    if one is None or other is None:
        return False
    shifted = one != _delta(one) or other != _delta(other)
    return shifted and _delta(one) != _delta(other)


@functools.lru_cache(maxsize=4096)
def factor(given: Gain, wanted: Gain) -> float | None:
    """Number that converts a magnitude in `given` to `wanted`; None if it cannot."""
    import pint

    if given == wanted:
        return 1.0
    one, other = given.unit, wanted.unit
    if one is None or other is None:
        return None
    try:
        ureg = registry()
        return float(ureg.Quantity(1.0, _delta(one)).to(_delta(other)).magnitude)
    except pint.DimensionalityError:
        return None


def reduced(gain: Gain) -> tuple[float, Gain]:
    """A gain whose units of one kind are merged (h² s⁻² → 1), and the number left."""
    unit = gain.unit
    if unit is None or len(unit._units) < 2:
        return 1.0, gain
    quantity = registry().Quantity(1.0, unit).to_reduced_units()
    if quantity.units.dimensionless:
        return float(quantity.to_base_units().magnitude), ONE
    return float(quantity.magnitude), _of_unit(quantity.units)


def _of_unit(unit: Any) -> Gain:
    """Gain of a pint unit from any registry."""
    powers = ((name, Fraction(p).limit_denominator(64)) for name, p in unit._units.items())
    return Gain(tuple(sorted((name, p) for name, p in powers if p)))


def is_quantity(value: object) -> bool:
    """Whether a value is a pint quantity or unit, of whatever registry."""
    import pint

    return isinstance(value, (pint.Quantity, pint.Unit))


def split(value: Any) -> tuple[Any, Gain | None]:
    """Magnitude and unit of a quantity; the value itself and None for a bare number."""
    if not is_quantity(value):
        return value, None
    if not hasattr(value, "magnitude"):
        return 1, _of_unit(value)
    return value.magnitude, _of_unit(value.units)


def magnitude(value: Any, wanted: Gain, what: str) -> Any:
    """A number, or a quantity converted to `wanted`; bare numbers count in that unit.

    Raises
    ------
    UnitError
        Where the quantity does not convert, or the wanted unit is not known.
    """
    number, given = split(value)
    if given is None:
        return number
    if not wanted.known:
        raise UnitError(
            f"{what} is given in {given}, but the units it should have are not known, "
            "since a coordinate carries no units; give its coordinate units, or a "
            "bare number"
        )
    scale = factor(given, wanted)
    if scale is None:
        raise UnitError(f"{what} is given in {given}, expected {wanted}")
    return number if scale == 1.0 else number * scale


def spelled(text: str, registry_of_data: Any) -> str:
    """A unit as another registry may know it: directions of CF as plain degrees."""
    unit = parse(text)
    if unit is None:
        return text
    ureg = registry()
    result = ureg.parse_units("")
    for name, power in unit._units.items():
        plain = name
        if name not in registry_of_data:
            one = ureg.Quantity(1.0, name)
            if one.is_compatible_with("degree") and one.to("degree").magnitude == 1.0:
                plain = "degree"
        result = result * ureg.Unit(plain) ** power
    return format(result, "D")


def give_way(cls: type) -> None:
    """Let pint quantities leave ``quantity * object`` to objects of this class.

    pint asks its own table of types above it, not ``__array_ufunc__``.
    """
    from pint import compat

    upcast_types: Any = compat.upcast_type_map
    upcast_types[f"{cls.__module__}.{cls.__qualname__}"] = cls
