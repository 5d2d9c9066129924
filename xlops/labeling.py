"""The door between labeled arrays and the plain ones below: checks once, labels once."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.axis import Axis
from xlops.engine import is_lazy
from xlops.errors import DTypeError, LabelError, UnitError, listed
from xlops.space import Space
from xlops.windows.pieces import Array

__all__ = ["Origin", "admitted", "labeled"]

# Attributes that say something of values, which an operator makes untrue.
_OF_VALUES = ("actual_range", "valid_min", "valid_max", "valid_range", "cell_methods")


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a labeled array brings that its result should have again.

    Parameters
    ----------
    name : Hashable or None
        Its name.
    attrs : mapping
        Its attributes.
    unit : str or None
        Its unit; None where it has none.
    coords : Dataset
        Its coordinates.
    registry : object
        The pint registry of its data; None where its unit is an attribute.
    """

    name: Hashable
    attrs: Mapping[Any, Any]
    unit: str | None
    coords: xr.Dataset
    registry: Any = None


def admitted(x: Any, space: Space, new: Any, who: str) -> tuple[Array, Origin]:
    """The plain array inside x, after all checks, and what the result needs of x.

    Parameters
    ----------
    x : DataArray
        Given by the user.
    space : Space
        What the operator acts on.
    new : iterable of Hashable
        Dims that the operator makes and x must not have.
    who : str
        Names the operator in errors.

    Raises
    ------
    DTypeError
        Where x is not a DataArray of numbers on NumPy or Dask.
    LabelError
        Where dims, sizes or labels do not fit.
    """
    if not isinstance(x, xr.DataArray):
        hint = ""
        if isinstance(x, np.ndarray):
            hint = "; name its dims with xr.DataArray(values, dims=…, coords=…)"
        elif isinstance(x, xr.Dataset):
            hint = "; use ds.lops.apply, or choose a variable"
        raise DTypeError(f"{who} acts on a DataArray, got {type(x).__name__}{hint}")
    missing = [dim for dim in space.dims if dim not in x.dims]
    if missing:
        raise LabelError(
            f"{who}: dim {listed(missing)} is missing: expected {listed(space.dims)}, "
            f"got {listed(x.dims)}"
        )
    twice = [dim for dim in new if dim in x.dims and dim not in space]
    if twice:
        raise LabelError(
            f"{who} makes dim {listed(twice)}, which the data have already; rename "
            "that dim of the data"
        )
    empty = [dim for dim, size in x.sizes.items() if size == 0]
    if empty:
        raise LabelError(f"{who}: dim {listed(empty)} of the data is empty")
    for dim in space.dims:
        reason = space.axis(dim).difference(Axis.of(x, dim))
        if reason is not None:
            raise LabelError(f"{who}: {reason}")
    _check_dtype(x.dtype, space, who)
    data, unit, registry = _data(x, who)
    origin = Origin(x.name, x.attrs, unit, x.coords.to_dataset(), registry)
    return Array(data, x.dims), origin


def _check_dtype(dtype: np.dtype[Any], space: Space, who: str) -> None:
    if dtype.kind not in "biufc":
        kind = {"O": "objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
        what = kind.get(dtype.kind, "values")
        raise DTypeError(f"{who} acts on numbers, the data are {what} ({dtype})")
    if dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise DTypeError(
            f"{who} computes in single or double precision, the data are {dtype}; "
            "convert them with .astype"
        )
    if dtype.kind == "c" and space.kind == "real":
        raise DTypeError(
            f"{who} acts on real values, the data are {dtype}; take .real or .imag, "
            "or build the operator for complex values"
        )


def _data(x: xr.DataArray, who: str) -> tuple[Any, str | None, Any]:
    """Plain data, unit, and the pint registry where the data are a quantity."""
    data, registry = x.data, None
    unit = x.attrs.get("units")
    if units.is_quantity(data):
        registry = data._REGISTRY
        unit = format(data.units, "D")
        data = data.magnitude
    if not isinstance(unit, str):
        unit = None
    return plain(data, f"{who} acts on"), unit, registry


def plain(data: Any, who: str) -> Any:
    """NumPy or Dask data, all others refused by name.

    Raises
    ------
    DTypeError
        For other arrays, and for Dask arrays of them.
    """
    if isinstance(data, np.memmap):
        return np.asarray(data)
    kind = type(data._meta) if is_lazy(data) else type(data)
    if kind is np.ndarray:
        return data
    raise DTypeError(
        f"{who} NumPy and Dask arrays, got {kind.__module__}.{kind.__qualname__}; convert "
        "them first, for example with .as_numpy()"
    )


def labeled(
    array: Array, labels: xr.Dataset, origin: Origin, unit: str | None
) -> xr.DataArray:
    """A result with its labels.

    Parameters
    ----------
    array : Array
        The plain result.
    labels : Dataset
        Its coordinates.
    origin : Origin
        Name, attributes and form of units of the input.
    unit : str or None
        Its unit.
    """
    attrs = {k: v for k, v in origin.attrs.items() if k not in _OF_VALUES}
    attrs.pop("units", None)
    if unit != origin.unit:
        attrs.pop("standard_name", None)
    data = array.data
    if unit is not None and origin.registry is not None:
        data = _quantity(data, unit, origin.registry)
    elif unit is not None:
        # The unit keeps its place among the attributes.
        attrs = {k: v for k, v in origin.attrs.items() if k in attrs or k == "units"}
        attrs["units"] = unit
    result = xr.DataArray(data, coords=labels.coords, dims=array.dims, attrs=attrs)
    result.name = origin.name  # xarray would take the name of a Dask array for None
    return result


def _quantity(data: Any, unit: str, registry: Any) -> Any:
    try:
        return registry.Quantity(data, units.spelled(unit, registry))
    except Exception as error:
        raise UnitError(
            f"the unit {unit!r} of the result is not known to the pint registry of the "
            "data; define it there, or carry units as attributes (.pint.dequantify)"
        ) from error
