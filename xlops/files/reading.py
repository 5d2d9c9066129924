"""Opening files, lazily, whatever wrote them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import xarray as xr

from xlops.engine.stored import import_zarr
from xlops.errors import FileError, listed
from xlops.files.common import (
    CONTENT,
    NAMED,
    UNNAMED,
    checked_path,
    history_lines,
    is_zarr,
    notes_of,
)

__all__ = ["open"]


def open(  # noqa: A001
    path: str | os.PathLike[str], variable: str | None = None, *, chunks: Any = "auto"
) -> xr.DataArray | xr.Dataset | dict[str, xr.DataArray]:
    """Open a NetCDF or Zarr file, lazily.

    Parameters
    ----------
    path : str or PathLike
        The file. Its content says which format it has, not its name.
    variable : str, optional
        The variable, or the block, to take. Unless given, what `save` wrote comes back
        as the kind it was; of other files a single data variable comes as a DataArray,
        several as a Dataset.
    chunks : int, mapping, "auto" or None
        Dask chunks, as for `xarray.open_dataset`; None for no Dask.

    Returns
    -------
    DataArray, Dataset or dict of DataArray
        A DataArray carries the ``history`` of the file among its attributes.

    Raises
    ------
    FileError
        Where there is no such file or variable, or it cannot be read.

    Notes
    -----
    Times ``since`` a date are decoded. Numbers in units of time (``hours``) stay numbers.

    Examples
    --------
    >>> import pathlib, tempfile, xarray as xr
    >>> from xlops import files
    >>> x = xr.DataArray([1.0, 2.0], dims="time", name="x", attrs={"units": "m"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.nc")
    ...     files.save(x, path)
    ...     files.open(path).attrs["units"]
    'm'
    """
    source = checked_path(path, "xl.open")
    engine = _engine(source)
    attrs = _attrs(source, engine)
    content, history = notes_of(attrs), history_lines(attrs.get("history"))
    if content.get("kind") == "blocks":
        names = content["names"] if variable is None else [variable]
        if variable is not None and variable not in content["names"]:
            raise FileError(_missing(source, "block", variable, content["names"]))
        blocks = {}
        for name in names:
            noted = notes_of(_attrs(source, engine, group=name))
            block = _decoded(source, engine, noted, chunks=chunks, group=name)
            blocks[name] = _array(block, next(iter(block.data_vars)), history)
        return blocks if variable is None else blocks[variable]
    dataset = _decoded(source, engine, content, chunks=chunks)
    data = list(dataset.data_vars)
    if variable is None:
        if len(data) != 1 or content.get("kind") == "dataset":
            return dataset
        return _array(dataset, data[0], history)
    if variable == dataset.attrs.get(NAMED) and UNNAMED in data:
        return _array(dataset, UNNAMED, history)
    if variable not in dataset.variables:
        there = [str(name) for name in [*data, *dataset.coords]]
        raise FileError(_missing(source, "variable", variable, there))
    return _array(dataset, variable, history)


def _engine(path: Path) -> dict[str, Any]:
    """What xarray has to know to open a file, from its first bytes."""
    if not os.path.exists(path):
        if not os.path.isdir(path.parent):
            raise FileError(f"there is no file {path}: its folder does not exist")
        near = difflib.get_close_matches(path.name, os.listdir(path.parent))
        hint = f"; did you mean {listed(near)}?" if near else ""
        raise FileError(f"there is no file {path}{hint}")
    if is_zarr(path):
        return {"engine": "zarr", "consolidated": _consolidated(path)}
    if os.path.isdir(path):
        raise FileError(f"{path} is a folder, expected a NetCDF file or Zarr")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    if start == b"\x89HDF\r\n\x1a\n":
        # In HDF5 that is not NetCDF, dims have no names: they are numbered.
        return {"engine": "h5netcdf", "phony_dims": "sort"}
    if start[:3] == b"CDF":
        return {"engine": "scipy"}
    raise FileError(
        f"{path} is neither NetCDF nor Zarr; read it with a package for its format, then "
        "xr.DataArray(values, dims=…, coords=…)"
    )


def _consolidated(path: Path) -> bool:
    """Whether Zarr's metadata are in one place; refuses data that would be unpickled."""
    zarr = import_zarr(path)
    version_3 = path / "zarr.json"
    consolidated = (path / ".zmetadata").is_file() or (
        version_3.is_file() and '"consolidated_metadata": {' in version_3.read_text("utf-8")
    )
    try:
        group = zarr.open_group(path, mode="r", use_consolidated=consolidated)
        members = dict(group.members(max_depth=None))
    except Exception as error:
        raise FileError(f"{path} cannot be read as Zarr: {error}") from error
    for name, member in members.items():
        coders = ("filters", "compressor", "codecs")
        if "pickle" in repr([getattr(member.metadata, c, "") for c in coders]).lower():
            raise FileError(
                f"{path}: {name!r} holds pickled objects, which may run any code when "
                "they are read; store numbers or text instead"
            )
    return consolidated


def _read(path: Path, **how: Any) -> xr.Dataset:
    try:
        return xr.open_dataset(path, **how)
    except NotImplementedError as error:
        # Dask cannot tell the size of objects such as text: then chunks as in the file.
        if how.get("chunks") == "auto":
            return _read(path, **{**how, "chunks": {}})
        raise FileError(f"{path} cannot be read: {error}") from error
    except Warning:  # advice of xarray, which the user has made an error
        raise
    except Exception as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def _attrs(path: Path, engine: dict[str, Any], **group: str) -> dict[Any, Any]:
    """The global attributes."""
    with _read(path, **engine, **group, chunks=None, decode_cf=False) as raw:
        return raw.attrs


def _decoded(
    path: Path, engine: dict[str, Any], content: dict[str, Any], **how: Any
) -> xr.Dataset:
    """The labeled data, without the attribute that is ours alone."""
    # Only what was saved as a length of time becomes one: going by units would make one
    # of every number in hours.
    how["decode_timedelta"] = xr.coders.CFTimedeltaCoder(decode_via_units=False)
    if content.get("times"):
        how["decode_times"] = {name: _coder(t) for name, t in content["times"].items()}
    dataset = _read(path, **engine, **how)
    dataset.attrs.pop(CONTENT, None)
    return dataset


def _coder(time: str | None) -> Any:
    """How a time comes back: as numbers, as cftime, or as datetime64 of some unit."""
    if time is None:
        return False
    if time == "cftime":
        return xr.coders.CFDatetimeCoder(use_cftime=True)
    unit: Any = time
    return xr.coders.CFDatetimeCoder(time_unit=unit)


def _array(dataset: xr.Dataset, name: Hashable, history: list[str]) -> xr.DataArray:
    array = dataset[name]
    if name == UNNAMED:
        array = array.rename(dataset.attrs.get(NAMED))
    if not history:
        return array
    own = [
        line for line in history_lines(array.attrs.get("history")) if line not in history
    ]
    return array.assign_attrs(history="\n".join([*history, *own]))


def _missing(path: Path, what: str, name: object, there: list[str]) -> str:
    near = difflib.get_close_matches(str(name), there, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{path} has no {what} {str(name)!r}; it has {listed(there)}{hint}"
