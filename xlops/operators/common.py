"""What the constructors of operators share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from types import CodeType
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.axis import Axis
from xlops.cf import dim_named
from xlops.engine import is_lazy
from xlops.errors import ArgumentError, DTypeError, LabelError, XlopsError, listed, shown
from xlops.labeling import plain
from xlops.operator import called
from xlops.space import Space
from xlops.units import NONE, ONE, Gain
from xlops.windows.pieces import Array

__all__ = [
    "about",
    "along",
    "along_each",
    "called",
    "choice",
    "function_code",
    "function_name",
    "gain_of",
    "named",
    "weights_of",
]


def along(coord: Any, who: str) -> tuple[Space, Axis]:
    """The one dim that an operator acts along.

    Raises
    ------
    DTypeError
        Where `coord` is not labeled.
    LabelError
        Where it has no dim or several, or is an auxiliary coordinate.
    """
    if isinstance(coord, Space):
        dims: tuple[Any, ...] = coord.dims
    elif isinstance(coord, xr.DataArray):
        dims = coord.dims
    else:
        raise DTypeError(
            f"{who} is built from a coordinate, such as d.time, got {type(coord).__name__}"
        )
    if len(dims) != 1:
        given = " and ".join(repr(str(dim)) for dim in dims) or "no dim"
        raise LabelError(
            f"{who} acts along one dim, got an array over {given}; give it a "
            "coordinate, such as d.time"
        )
    if isinstance(coord, xr.DataArray):
        name = coord.name
        if name != dims[0] and name in coord.coords:
            raise LabelError(
                f"{who}: {str(name)!r} is an auxiliary coordinate along "
                f"{str(dims[0])!r}, whose labels would be used; make it the dim first "
                f"with .swap_dims({dims[0]}={str(name)!r})"
            )
    with about(who):
        space = Space.of(coord)
    return space, space.axis(dims[0])


def along_each(coords: Sequence[Any], who: str) -> list[tuple[Space, Axis]]:
    """The dims that an operator acts along, each once; see `along`."""
    if not coords:
        raise LabelError(f"{who} needs at least one coordinate, such as d.x, d.y")
    sides = [along(coord, who) for coord in coords]
    dims = [axis.dim for _, axis in sides]
    if len(set(map(str, dims))) < len(dims):
        raise LabelError(f"{who}: each dim can be given once, got {listed(dims)}")
    return sides


@contextlib.contextmanager
def about(who: str) -> Iterator[None]:
    """Errors raised inside name the operator."""
    try:
        yield
    except XlopsError as error:
        raise type(error)(f"{who}: {error}") from None


def choice(value: Any, choices: tuple[Any, ...], what: str, who: str) -> None:
    """Raise unless a value is one of those that a parameter takes."""
    if not isinstance(value, (str, int, np.bool_)) or value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ArgumentError(f"{who}: {what} must be one of {allowed}, got {shown(value)}")


def weights_of(weights: Any, who: str, kinds: str) -> tuple[Array, Gain]:
    """The plain array inside weights, and their unit; reads nothing of lazy ones."""
    if not isinstance(weights, xr.DataArray):
        raise DTypeError(
            f"{who} is built from a DataArray, got {type(weights).__name__}; name its "
            "dims with xr.DataArray(values, dims=…, coords=…)"
        )
    if weights.dtype.kind not in kinds:
        wanted = "True and False" if kinds == "b" else "numbers"
        raise DTypeError(f"{who} is built from {wanted}, got {weights.dtype}")
    if 0 in weights.shape:
        raise LabelError(f"{who} is built from an empty array ({dict(weights.sizes)})")
    data, gain = units.split(weights.data)
    text = weights.attrs.get("units")
    if gain is None:
        gain = Gain.of(text) if isinstance(text, str) else ONE
    data = plain(data, f"{who} is built from")
    if not is_lazy(data):
        data = data.copy()  # operators are immutable, whatever happens to the weights
    dims: tuple[Hashable, ...] = weights.dims
    return Array(data, dims), gain


def gain_of(given: Any, who: str) -> Gain:
    """What users say that an operator does to units: a string, a unit, a quantity of 1.

    Raises
    ------
    ArgumentError
        Where it is no unit; None stands for a gain that is not known.
    """
    if given is None:
        return NONE
    number, gain = (1, Gain.of(given)) if isinstance(given, str) else units.split(given)
    if gain is None or number != 1 or (gain.factors and gain.unit is None):
        raise ArgumentError(
            f"{who}: units must be a unit, such as 'm s-1', got {shown(given)}"
        )
    return gain


def function_name(function: Any) -> str:
    """What a function is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def function_code(function: Any) -> Any:
    """What a function does, as far as it says so: its name alone may be used again."""
    while isinstance(function, functools.partial):
        function = function.func
    code = function if isinstance(function, CodeType) else None
    code = getattr(function, "__code__", code)
    if code is None:
        return None
    inner = [
        function_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts
    ]
    return code.co_code, code.co_names, inner


def named(
    array: xr.DataArray, names: Any, it: str, what: str, who: str
) -> tuple[Hashable, ...]:
    """Dims of an array, given by one name or several, in its own order."""
    dims = array.dims
    if isinstance(names, Hashable) and (names in dims or isinstance(names, str)):
        names = (names,)
    elif isinstance(names, Iterable):
        names = tuple(names)
    else:
        raise DTypeError(f"{who}: the dims {what} must be names, got {shown(names)}")
    names = tuple(dim_named(name, array, who) for name in names)
    missing = [name for name in names if name not in dims]
    if missing:
        raise LabelError(
            f"{who}: the {it} has no dim {listed(missing)} {what}, only {listed(dims)}"
        )
    return tuple(dim for dim in dims if dim in names)
