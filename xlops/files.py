"""NetCDF and Zarr in and out.

What is saved comes back as it was, whatever file its parts were read from: values, types,
labels and attributes count, the packing of earlier files does not. A file appears under
its name when it is complete, and not before.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import importlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.errors import DTypeError, FileError, listed

__all__ = ["open", "save"]

_SUFFIXES = (".nc", ".nc4", ".netcdf", ".h5", ".zarr")
# xarray's own names for an array without a name, and for one named as its coordinate:
# xr.open_dataarray understands them too.
_UNNAMED = "__xarray_dataarray_variable__"
_NAMED = "__xarray_dataarray_name__"
# Global attribute that tells `open` what was saved. It never leaves this module.
_CONTENT = "xlops_content"
# Attributes by which readers undo a packing: as plain attributes they would change values.
_CODING = frozenset(
    "_FillValue missing_value scale_factor add_offset _Unsigned _Encoding dtype".split()
)
# Attributes in which the formats themselves keep dims and coordinates.
_FORMAT = frozenset(
    "coordinates CLASS NAME DIMENSION_LIST REFERENCE_LIST _Netcdf4Dimid "
    "_Netcdf4Coordinates _NCProperties _nc3_strict _ARRAY_DIMENSIONS".split()
)
_swapping = threading.Lock()


# --- open -----------------------------------------------------------------------------


def open(  # noqa: A001
    path: str | os.PathLike[str], variable: str | None = None, *, chunks: Any = "auto"
) -> xr.DataArray | xr.Dataset | dict[str, xr.DataArray]:
    """Open a NetCDF or Zarr file, lazily.

    Parameters
    ----------
    path : str or PathLike
        The file; its content says which format it has, not its name.
    variable : str, optional
        The variable to take, or the block. Unless given, what `save` wrote comes back
        as the kind it was; from other files a single data variable comes as a
        DataArray, several come as a Dataset.
    chunks : int, mapping, "auto" or None
        Dask chunks, as for `xarray.open_dataset`; None for no Dask.

    Returns
    -------
    DataArray, Dataset or dict of DataArray
        A DataArray carries the file's ``history`` among its attributes.

    Raises
    ------
    FileError
        Where there is no such file or variable, or the file cannot be read.

    Notes
    -----
    Numbers in units of time (``hours``) stay numbers; times ``since`` a date are decoded.

    Examples
    --------
    >>> import pathlib, tempfile, xarray as xr
    >>> from xlops import files
    >>> x = xr.DataArray([1.0, 2.0], dims="time", name="x", attrs={"units": "m"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.nc")
    ...     files.save(x, path)
    ...     files.open(path).load().attrs["units"]
    'm'
    """
    source = _path(path, "xl.open")
    engine = _engine(source)
    with _read(source, engine, chunks=None, decode_cf=False) as raw:
        content = _content(raw.attrs)
        history = _lines(raw.attrs.get("history"))
    if content.get("kind") == "blocks":
        names = content["names"]
        if variable is not None and variable not in names:
            raise FileError(_missing(source, "block", variable, names))
        blocks = {}
        for name in names if variable is None else [variable]:
            dataset = _decoded(source, engine, chunks, group=name)
            blocks[name] = _array(dataset, next(iter(dataset.data_vars)), history)
        return blocks if variable is None else blocks[variable]
    dataset = _decoded(source, engine, chunks)
    data = list(dataset.data_vars)
    if len(data) == 1 and (content.get("kind") == "array" or variable is None):
        single = _array(dataset, data[0], history)
        if variable in (None, single.name) and content.get("kind") != "dataset":
            return single
    if variable is None:
        return dataset
    if variable not in dataset.variables:
        names = [str(name) for name in [*data, *dataset.coords]]
        raise FileError(_missing(source, "variable", variable, names))
    return _array(dataset, variable, history)


def _engine(path: Path) -> dict[str, Any]:
    """What xarray has to know to open a file, by its first bytes."""
    if not os.path.exists(path):
        near = []
        if os.path.isdir(path.parent):
            near = difflib.get_close_matches(path.name, os.listdir(path.parent))
        elif path.parent != path:
            raise FileError(f"there is no folder {path.parent}, hence no {path.name}")
        hint = f"; did you mean {listed(near)}?" if near else ""
        raise FileError(f"there is no file {path}{hint}")
    if _is_zarr(path):
        return {"engine": "zarr", "consolidated": _checked_zarr(path)}
    if path.is_dir():
        raise FileError(f"{path} is a folder, expected a NetCDF file or a Zarr folder")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    if start == b"\x89HDF\r\n\x1a\n":
        # HDF5 of other makers may not name its dims; they get names by their sizes.
        return {"engine": "h5netcdf", "phony_dims": "sort"}
    if start[:3] == b"CDF":
        return {"engine": "scipy"}
    raise FileError(
        f"{path} is neither a NetCDF file nor a Zarr folder; read it with the package "
        "for its format and wrap the values in xr.DataArray(values, dims=…, coords=…)"
    )


def _is_zarr(path: Path) -> bool:
    return any((path / n).is_file() for n in (".zgroup", ".zmetadata", "zarr.json"))


def _checked_zarr(path: Path) -> bool:
    """Whether metadata are consolidated; refuses data that would have to be unpickled."""
    zarr = _zarr(path)
    consolidated = (path / ".zmetadata").is_file() or (
        (path / "zarr.json").is_file()
        and '"consolidated_metadata"' in (path / "zarr.json").read_text("utf-8")
    )
    try:
        group = zarr.open_group(path, mode="r", use_consolidated=consolidated)
        members = dict(group.members(max_depth=None))
    except Exception as error:
        raise FileError(f"{path} cannot be read as Zarr: {error}") from error
    for name, member in members.items():
        codecs = [getattr(member.metadata, k, None) for k in ("filters", "compressor")]
        if "pickle" in repr([*codecs, getattr(member.metadata, "codecs", None)]).lower():
            raise FileError(
                f"{path}: {name!r} holds pickled objects, which can run any code when "
                "they are read; write it anew as numbers or text"
            )
    return consolidated


def _zarr(path: Path) -> Any:
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise FileError(
            f'{path} is Zarr, which needs one more package: pip install "xlops[zarr]"'
        ) from error


def _read(path: Path, engine: dict[str, Any], **kwargs: Any) -> xr.Dataset:
    try:
        return xr.open_dataset(path, **engine, **kwargs)
    except NotImplementedError:
        if kwargs.get("chunks") != "auto":
            raise
        # Dask cannot tell the size of objects (text): then the chunks of the file.
        return _read(path, engine, **{**kwargs, "chunks": {}})
    except Exception as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def _decoded(
    path: Path, engine: dict[str, Any], chunks: Any, group: str | None = None
) -> xr.Dataset:
    """A Dataset of the file, decoded as it was encoded, without our own attributes."""
    more = {} if group is None else {"group": group}
    with _read(path, engine, chunks=None, decode_cf=False, **more) as raw:
        times = _content(raw.attrs).get("times", {})
    # A length of time is one that was saved as such: decoding by the unit alone would
    # turn every number in hours into one.
    lengths = xr.coders.CFTimedeltaCoder(decode_via_units=False)
    how = {"decode_timedelta": lengths, "chunks": chunks, **more}
    if times:
        how["decode_times"] = {name: _coder(kind) for name, kind in times.items()}
    dataset = _read(path, engine, **how)
    dataset.attrs.pop(_CONTENT, None)
    return dataset


def _coder(kind: Any) -> Any:
    """How times come back: False for numbers, else cftime or datetime64 of a unit."""
    if kind is None:
        return False
    if kind == "cftime":
        return xr.coders.CFDatetimeCoder(use_cftime=True)
    return xr.coders.CFDatetimeCoder(time_unit=kind)


def _content(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """What `save` noted of its content; nothing for files of others."""
    with contextlib.suppress(ValueError):
        content = json.loads(str(attrs.get(_CONTENT)))
        if isinstance(content, dict):
            return content
    return {}


def _array(dataset: xr.Dataset, name: Hashable, history: list[str]) -> xr.DataArray:
    array = dataset[name]
    own = [line for line in _lines(array.attrs.get("history")) if line not in history]
    if history:
        array = array.assign_attrs(history="\n".join(history + own))
    if name == _UNNAMED:
        array = array.rename(dataset.attrs.get(_NAMED))
    return array


def _missing(path: Path, what: str, name: object, names: list[str]) -> str:
    return f"{path} has no {what} {str(name)!r}; it has {listed(names)}"


# --- save -----------------------------------------------------------------------------


def save(obj: Any, path: str | os.PathLike[str], *, progress: bool = False) -> None:
    """Write labeled data to a NetCDF or Zarr file, which appears when it is complete.

    Dask arrays are computed chunk by chunk as they are written. An interruption leaves
    the file that was there before as it was.

    Parameters
    ----------
    obj : DataArray, Dataset, mapping of str to DataArray, or Solution
        What to save; `obj` itself is not changed. Blocks of a mapping become groups.
    path : str or PathLike
        Its suffix says the format: ``.nc``, ``.nc4``, ``.netcdf`` and ``.h5`` are NetCDF
        (version 4), ``.zarr`` is Zarr. It may be the file that `obj` is read from.
    progress : bool
        Whether to show a bar over the Dask tasks of this machine.

    Raises
    ------
    DTypeError
        Where `obj`, or data in it, is of a type that files do not hold.
    FileError
        Where the file cannot be written there, or names or attributes cannot be kept.

    Notes
    -----
    How an input was packed (``scale_factor``, integer types, compression) is not taken
    over. Quantities are written as numbers with ``units``. One line is added to the global
    attribute ``history``, which also takes in the ``history`` of the variables. Text and
    cftime dates in Dask arrays are loaded, since Dask does not know what they are.

    Examples
    --------
    >>> import pathlib, tempfile, xarray as xr
    >>> from xlops import files
    >>> x = xr.DataArray([1 + 2j, 3j], dims="freq", name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.nc")
    ...     files.save(x, path)
    ...     files.open(path).identical(x.assign_attrs(files.open(path).attrs))
    True
    """
    target, zarr = _target(path)
    kind, groups, what = _parts(obj)
    ready = {name: _storable(part, name, zarr) for name, part in groups.items()}
    root = ready[""] if "" in ready else xr.Dataset()
    content = _content(root.attrs) | {"kind": kind}
    if kind == "blocks":
        content["names"] = list(groups)
    root.attrs[_CONTENT] = json.dumps(content)
    root.attrs.setdefault("Conventions", "CF-1.11")
    root.attrs["history"] = _history(root, ready.values(), what)
    tree = xr.DataTree.from_dict({"/": root} | {f"/{name}": d for name, d in ready.items()})
    try:
        # Not a bare file: tasks that an interruption leaves behind cannot open it again
        # when its folder has gone.
        work = Path(tempfile.mkdtemp(prefix=".xlops-", dir=target.parent))
    except OSError as error:
        raise FileError(
            f"cannot write in the folder {target.parent}: {error.strerror}"
        ) from error
    try:
        new = work / target.name
        with _bar(f"save {target.name}", progress):
            _write(tree, new, zarr)
        _flush(new)
        _swap(new, target)
    except BaseException as error:
        error.add_note(f"while saving {target}: it is as it was before")
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _flush(target.parent, deep=False)
