"""What is written: plain values without encodings, names and attributes checked."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.errors import DTypeError, FileError
from xlops.files.common import CONTENT, NAMED, UNNAMED

__all__ = ["parts_of", "storable"]

# Attributes by which readers decode values: written as they are, they would change them.
_CODING = {
    *("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned"),
    *("_Encoding", "dtype"),
}
# Attributes in which the formats keep dims and coordinates.
_STRUCTURE = {
    *("coordinates", "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"),
    *("_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"),
    "_ARRAY_DIMENSIONS",
}


def parts_of(obj: Any) -> tuple[str, dict[str, xr.Dataset], str]:
    """The kind of an object, a Dataset for each group, and words for its history."""
    if isinstance(obj, xr.DataArray):
        name = "an array" if obj.name is None else obj.name
        return "array", {"": _dataset(obj)}, f"saved {name}"
    if isinstance(obj, xr.Dataset):
        return "dataset", {"": obj}, f"saved {', '.join(map(str, obj.data_vars))}"
    if isinstance(obj, Mapping) and not isinstance(obj, (xr.DataTree, xr.Coordinates)):
        if not obj:
            raise FileError("xl.save: there is nothing to save, the mapping is empty")
        for name, block in obj.items():
            _check_name(name, "block")
            if not isinstance(block, xr.DataArray):
                raise DTypeError(
                    f"xl.save: block {name!r} is {type(block).__name__}, expected a "
                    "DataArray"
                )
        blocks = {name: _dataset(block) for name, block in obj.items()}
        return "blocks", blocks, f"saved blocks {', '.join(blocks)}"
    if hasattr(obj, "to_dataset") and not isinstance(obj, (xr.DataTree, xr.Coordinates)):
        what = f"saved {type(obj).__name__}"
        if hasattr(obj, "method") and hasattr(obj, "iterations"):
            what = f"method {obj.method}, {obj.iterations} iterations"
        return "dataset", {"": obj.to_dataset()}, what
    hint = ""
    if isinstance(obj, np.ndarray):
        hint = "; name its dims with xr.DataArray(values, dims=…, coords=…)"
    raise DTypeError(
        "xl.save: expected a DataArray, a Dataset, a mapping of names to DataArrays or a "
        f"Solution, got {type(obj).__name__}{hint}"
    )


def _dataset(array: xr.DataArray) -> xr.Dataset:
    if array.name is None:
        return array.to_dataset(name=UNNAMED)
    if array.name in array.coords or array.name in array.dims:
        return array.to_dataset(name=UNNAMED).assign_attrs({NAMED: array.name})
    return array.to_dataset(name=array.name)


def storable(dataset: xr.Dataset, group: str, zarr: bool) -> xr.Dataset:
    """What is written: plain values without encodings, names and attributes checked."""
    block = f" of block {group!r}" if group else ""
    for index in dataset.xindexes.values():
        if isinstance(index, xr.indexes.PandasMultiIndex):
            raise FileError(
                f"xl.save: dim {str(index.dim)!r}{block} has a MultiIndex, which files do "
                f"not hold; save .reset_index({str(index.dim)!r}) and set it when read"
            )
    for dim in dataset.dims:
        _check_name(dim, f"dim{block}")
    variables: dict[Hashable, xr.Variable] = {}
    times: dict[str, str | None] = {}
    for name, variable in dataset.variables.items():
        text = _check_name(name, f"variable{block}")
        own = dataset.attrs.get(NAMED) if text == UNNAMED else text
        who = ("the array" if own is None else repr(own)) + block
        stored = variables[name] = _plain(variable, who, zarr)
        unit = stored.attrs.get("units")
        if stored.dtype.kind == "M":
            times[text] = np.datetime_data(stored.dtype)[0]
        elif stored.dtype == object and _are_dates(stored.values, who):
            times[text] = "cftime"
        elif isinstance(unit, str) and "since" in unit:
            times[text] = None
        if name not in dataset.coords:
            continue
        if name not in dataset.dims and text.split() != [text]:
            raise FileError(
                f"xl.save: coordinate {who} has a space in its name, which files put "
                "between the names of coordinates; rename it"
            )
        if stored.dtype.kind == "f":
            stored.encoding["_FillValue"] = None  # CF wants none in coordinates
    attrs = _checked(dataset.attrs, "the Dataset", zarr, _STRUCTURE)
    attrs[CONTENT] = json.dumps({"times": times})
    coords = {name: variables.pop(name) for name in dataset.coords}
    return xr.Dataset(variables, xr.Coordinates(coords, indexes={}), attrs)


def _check_name(name: Any, what: str) -> str:
    if not isinstance(name, str):
        raise FileError(f"xl.save: {what} {name!r} is not named by text; rename it")
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise FileError(
            f"xl.save: {what} {name!r} has a name that files cannot keep: not empty, no "
            "slash and no dot at the beginning; rename it"
        )
    return name


def _plain(variable: xr.Variable, who: str, zarr: bool) -> xr.Variable:
    """A variable without encoding, of values that the format holds."""
    data: Any = variable._data  # .data would read what is opened without Dask
    attrs = dict(variable.attrs)
    if units.is_quantity(data):
        name = format(data.units, "D")
        unit = units.parse(name)
        attrs["units"] = name if unit is None else units.written(unit)
        data = data.magnitude
    maker = type(data).__module__
    if maker.partition(".")[0] not in ("numpy", "dask", "xarray"):
        raise DTypeError(
            f"xl.save: {who} is held in {maker}.{type(data).__qualname__}, expected NumPy "
            "or Dask; convert it first, for example with .as_numpy()"
        )
    reserved = _CODING | _STRUCTURE
    if data.dtype == object:
        data = variable.values
        if _are_dates(data, who):
            reserved |= {"units", "calendar"}
    elif not _fits(data.dtype, zarr):
        raise DTypeError(
            f"xl.save: {who} is of type {data.dtype}, which the file cannot hold; "
            "convert it with .astype"
        )
    elif data.dtype.kind in "mM":
        reserved |= {"units", "calendar"}
    plain = xr.Variable(variable.dims, data, _checked(attrs, who, zarr, reserved))
    if zarr and plain.chunks is not None:
        # All of Zarr's chunks along a dim are equal, but for a shorter last one.
        uneven = {
            dim: max(sizes)
            for dim, sizes in plain.chunksizes.items()
            if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]
        }
        plain = plain.chunk(uneven) if uneven else plain
    return plain


def _fits(dtype: Any, zarr: bool) -> bool:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcSUTmM":
        return False
    if dtype.kind in "fc":
        smallest = 2 if zarr else 4  # NetCDF has no half precision
        return smallest <= dtype.itemsize <= (16 if dtype.kind == "c" else 8)
    return True


def _are_dates(values: Any, who: str) -> bool:
    """Whether objects are cftime dates; refuses them where they are not text either."""
    kinds = {type(value) for value in values.flat}
    if all(issubclass(kind, str) for kind in kinds):
        return False
    if all(kind.__module__.startswith("cftime") for kind in kinds):
        return True
    names = sorted(kind.__name__ for kind in kinds)
    raise DTypeError(
        f"xl.save: {who} holds Python objects ({', '.join(names[:3])}), expected numbers, "
        "text or dates; convert it with .astype"
    )


def _checked(
    attrs: Mapping[Any, Any], who: str, zarr: bool, reserved: Iterable[str]
) -> dict[Any, Any]:
    """Attributes as the format holds them."""
    kept = {}
    for key, value in attrs.items():
        if not isinstance(key, str) or not key:
            raise FileError(f"xl.save: attribute {key!r} of {who} is not named by text")
        if key in reserved:
            raise FileError(
                f"xl.save: attribute {key!r} of {who} is one by which files encode "
                "values, dates or dims; remove it, or decode the data with xr.decode_cf"
            )
        try:
            kept[key] = _in_json(value) if zarr else _in_netcdf(value)
        except (TypeError, ValueError) as error:
            raise FileError(
                f"xl.save: attribute {key!r} of {who} is {type(value).__name__}, which "
                "the file cannot hold; write it as text or a number, or remove it"
            ) from error
    return kept


def _in_json(value: Any) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufSUTO":
            return value.tolist()
        raise TypeError

    return json.loads(json.dumps(value, default=plain))


def _in_netcdf(value: Any) -> Any:
    """Text, numbers, or lists of one of them."""
    if isinstance(value, bytes):
        value = value.decode()
    items = np.asarray(value, dtype=object)
    if items.size and all(isinstance(item, (str, bytes)) for item in items.flat):
        texts = [i.decode() if isinstance(i, bytes) else str(i) for i in items.flat]
        if items.ndim > 1 or b"\0" in "".join(texts).encode():
            raise ValueError
        return texts if items.ndim else texts[0]
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iufc" or not _fits(numbers.dtype, zarr=False):
        raise TypeError
    return numbers
