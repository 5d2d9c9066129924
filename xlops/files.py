"""NetCDF and Zarr in and out.

What is saved comes back as it was: values, types, labels and attributes count, the packing
of the files that they were read from does not. A file appears under its name when it is
complete, and not before.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import importlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.errors import DTypeError, FileError, listed

__all__ = ["open", "save"]

_SUFFIXES = (".nc", ".nc4", ".netcdf", ".h5", ".zarr")
# xarray's own names for an array that has none, and for one named as a coordinate:
# xr.open_dataarray understands them too.
_UNNAMED = "__xarray_dataarray_variable__"
_NAMED = "__xarray_dataarray_name__"
# Global attribute by which `save` tells `open` what it wrote. Users never see it.
_CONTENT = "xlops_content"
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
# Two savers of this process do not swap the same folder at once.
_swapping = threading.Lock()


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
    source = _path(path, "xl.open")
    engine = _engine(source)
    attrs = _attrs(source, engine)
    content, history = _content(attrs), _lines(attrs.get("history"))
    if content.get("kind") == "blocks":
        names = content["names"] if variable is None else [variable]
        if variable is not None and variable not in content["names"]:
            raise FileError(_missing(source, "block", variable, content["names"]))
        blocks = {}
        for name in names:
            noted = _content(_attrs(source, engine, group=name))
            block = _decoded(source, engine, noted, chunks=chunks, group=name)
            blocks[name] = _array(block, next(iter(block.data_vars)), history)
        return blocks if variable is None else blocks[variable]
    dataset = _decoded(source, engine, content, chunks=chunks)
    data = list(dataset.data_vars)
    if variable is None:
        if len(data) != 1 or content.get("kind") == "dataset":
            return dataset
        return _array(dataset, data[0], history)
    if variable == dataset.attrs.get(_NAMED) and _UNNAMED in data:
        return _array(dataset, _UNNAMED, history)
    if variable not in dataset.variables:
        there = [str(name) for name in [*data, *dataset.coords]]
        raise FileError(_missing(source, "variable", variable, there))
    return _array(dataset, variable, history)


def save(obj: Any, path: str | os.PathLike[str], *, progress: bool = False) -> None:
    """Write labeled data to a NetCDF or Zarr file, which appears when it is complete.

    Dask arrays are computed chunk by chunk as they are written. When that is interrupted,
    a file that was there before stays as it was.

    Parameters
    ----------
    obj : DataArray, Dataset, mapping of str to DataArray, or Solution
        What to save; it is not changed. The blocks of a mapping become groups.
    path : str or PathLike
        The suffix says the format: ``.nc``, ``.nc4``, ``.netcdf`` and ``.h5`` are
        NetCDF 4, ``.zarr`` is Zarr. It may be the very file that `obj` is read from; open
        it anew to go on.
    progress : bool
        Whether to show a bar over the tasks of Dask (not those of a cluster).

    Raises
    ------
    DTypeError
        Where `obj`, or data in it, are of a type that files do not hold.
    FileError
        Where the file cannot be written, or cannot keep a name or an attribute.

    Notes
    -----
    How the input was packed (``scale_factor``, integer types, compression) is not taken
    over. Quantities are written as numbers with ``units``. One line is added to the
    global attribute ``history``, which also takes in the ``history`` of the variables.
    Dask arrays of objects (text, cftime dates) are loaded before they are written.

    Examples
    --------
    >>> import pathlib, tempfile, xarray as xr
    >>> from xlops import files
    >>> x = xr.DataArray([1 + 2j, 3j], dims="freq", name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.nc")
    ...     files.save(x, path)
    ...     files.open(path).equals(x)
    True
    """
    target, zarr = _target(path)
    kind, parts, what = _parts(obj)
    ready = {name: _storable(part, name, zarr) for name, part in parts.items()}
    root = ready.pop("", xr.Dataset())
    content = {**_content(root.attrs), "kind": kind, "names": list(ready)}
    root.attrs["history"] = _history([root, *ready.values()], what)
    root.attrs.setdefault("Conventions", "CF-1.11")
    root.attrs[_CONTENT] = json.dumps(content)
    tree = xr.DataTree.from_dict({"/": root, **ready})
    try:
        # A folder, since tasks that outlive an interruption open their file again: they
        # fail when its folder has gone.
        work = Path(tempfile.mkdtemp(prefix=".xlops-", dir=target.parent))
    except OSError as error:
        reason = f"cannot write in {target.parent}: {error.strerror}"
        raise FileError(f"cannot save to {path}: {reason}") from error
    try:
        new = work / target.name
        with _bar(f"save {target.name}", progress):
            _write(tree, new, zarr)
        _flush(new)
        _swap(new, target)
    except BaseException as error:
        error.add_note(f"(while saving to {path}, which is as it was before)")
        raise
    finally:
        with contextlib.suppress(OSError):
            work = work.rename(f"{work}-gone")
        shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):  # the file is there; this makes its name durable
        _flush(target.parent, inside=False)


# --- paths ----------------------------------------------------------------------------


def _path(path: Any, who: str) -> Path:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise DTypeError(
            f"{who}: the path is {type(path).__name__}, expected text or a pathlib.Path"
        )
    if "://" in text:
        raise FileError(
            f"{who}: {text} is an address, expected a file on this machine; "
            "xarray.open_dataset reads some addresses"
        )
    return Path(text).expanduser()


def _target(path: Any) -> tuple[Path, bool]:
    """The file to write and whether it is Zarr, after all checks that need no data."""
    given = _path(path, "xl.save")
    who = f"cannot save to {given}"
    suffix = given.suffix.lower()
    if suffix not in _SUFFIXES:
        raise FileError(
            f"{who}: its suffix should say the format, expected one of "
            f"{listed(_SUFFIXES)}, got {suffix!r}"
        )
    zarr = suffix == ".zarr"
    if zarr:
        _import_zarr(given)
    target = Path(os.path.realpath(given))  # a link stays, what it leads to is replaced
    folder = target.parent
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise FileError(f"{who}: {folder} is a file, not a folder")
        raise FileError(f"{who}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{who}: the folder {folder} cannot be written")
    if os.path.lexists(target):
        if not (_is_zarr(target) if zarr else os.path.isfile(target)):
            kind = "a folder" if target.is_dir() else "not a plain file"
            kind = "not Zarr" if zarr else kind
            raise FileError(f"{who}: that is there and is {kind}; choose another name")
        if not os.access(target, os.W_OK):
            raise FileError(f"{who}: that is there and write-protected")
    return target, zarr


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in (".zgroup", ".zmetadata", "zarr.json"))


def _import_zarr(path: Path) -> Any:
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise FileError(
            f'{path} needs the package zarr: pip install "xlops[zarr]"'
        ) from error


# --- reading --------------------------------------------------------------------------


def _engine(path: Path) -> dict[str, Any]:
    """What xarray has to know to open a file, from its first bytes."""
    if not os.path.exists(path):
        if not os.path.isdir(path.parent):
            raise FileError(f"there is no file {path}: its folder does not exist")
        near = difflib.get_close_matches(path.name, os.listdir(path.parent))
        hint = f"; did you mean {listed(near)}?" if near else ""
        raise FileError(f"there is no file {path}{hint}")
    if _is_zarr(path):
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
    zarr = _import_zarr(path)
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
    dataset.attrs.pop(_CONTENT, None)
    return dataset


def _coder(time: str | None) -> Any:
    """How a time comes back: as numbers, as cftime, or as datetime64 of some unit."""
    if time is None:
        return False
    if time == "cftime":
        return xr.coders.CFDatetimeCoder(use_cftime=True)
    unit: Any = time
    return xr.coders.CFDatetimeCoder(time_unit=unit)


def _content(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """What `save` noted; nothing in files of others."""
    with contextlib.suppress(ValueError):
        content = json.loads(str(attrs.get(_CONTENT)))
        if isinstance(content, dict):
            return content
    return {}


def _array(dataset: xr.Dataset, name: Hashable, history: list[str]) -> xr.DataArray:
    array = dataset[name]
    if name == _UNNAMED:
        array = array.rename(dataset.attrs.get(_NAMED))
    if not history:
        return array
    own = [line for line in _lines(array.attrs.get("history")) if line not in history]
    return array.assign_attrs(history="\n".join([*history, *own]))


def _missing(path: Path, what: str, name: object, there: list[str]) -> str:
    near = difflib.get_close_matches(str(name), there, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{path} has no {what} {str(name)!r}; it has {listed(there)}{hint}"


# --- what is saved --------------------------------------------------------------------


def _parts(obj: Any) -> tuple[str, dict[str, xr.Dataset], str]:
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
        return array.to_dataset(name=_UNNAMED)
    if array.name in array.coords or array.name in array.dims:
        return array.to_dataset(name=_UNNAMED).assign_attrs({_NAMED: array.name})
    return array.to_dataset(name=array.name)


def _storable(dataset: xr.Dataset, group: str, zarr: bool) -> xr.Dataset:
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
        own = dataset.attrs.get(_NAMED) if text == _UNNAMED else text
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
    attrs[_CONTENT] = json.dumps({"times": times})
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


# --- history --------------------------------------------------------------------------


def _lines(history: Any) -> list[str]:
    if history is None:
        return []
    lines = np.ravel(np.asarray(history)).tolist()
    return [line for text in lines for line in str(text).splitlines()]


def _history(datasets: list[xr.Dataset], what: str) -> str:
    """The history of all data, taken from their attributes, and one line more."""
    lines = _lines(datasets[0].attrs.get("history"))
    for dataset in datasets:
        for variable in dataset.data_vars.values():
            own = _lines(variable.attrs.pop("history", None))
            lines += [line for line in own if line not in lines]
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Not imported above: the package imports this module.
    version = importlib.import_module("xlops").__version__
    return "\n".join([*lines, f"{now} xlops {version}: {what}"])


# --- writing --------------------------------------------------------------------------


def _bar(text: str, shown: bool) -> contextlib.AbstractContextManager[Any]:
    if not shown:
        return contextlib.nullcontext()
    from tqdm.dask import TqdmCallback

    bar: contextlib.AbstractContextManager[Any] = TqdmCallback(desc=text)
    return bar


def _write(tree: xr.DataTree, path: Path, zarr: bool) -> None:
    if not zarr:
        tree.to_netcdf(path, engine="h5netcdf")
        return
    with _threads() as how:
        # Version 2 of Zarr has text and one place for metadata in its standard.
        tree.to_zarr(path, zarr_format=2, consolidated=True, chunkmanager_store_kwargs=how)


@contextlib.contextmanager
def _threads() -> Iterator[dict[str, Any]]:
    """Threads of our own where Dask would use threads.

    Leaving waits for them: a task that outlived an interruption would make its folder
    anew, long after it has been removed.
    """
    from concurrent.futures import ThreadPoolExecutor

    from dask import config, system, threaded
    from dask.base import get_scheduler

    if config.get("pool", None) or get_scheduler() not in (None, threaded.get):
        yield {}
        return
    number = config.get("num_workers", None) or system.CPU_COUNT
    pool = ThreadPoolExecutor(number)
    try:
        yield {"pool": pool}
    finally:
        pool.shutdown(cancel_futures=True)


def _flush(path: Path, inside: bool = True) -> None:
    """See a file, or all that a folder holds, to the disk."""
    paths = [*path.rglob("*"), path] if inside and path.is_dir() else [path]
    for each in paths:
        if os.name == "nt" and each.is_dir():
            continue
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(new: Path, target: Path) -> None:
    """Put what is new in the place of what is there, if anything is."""
    if new.is_file():
        if target.exists():
            shutil.copymode(target, new)
        os.replace(new, target)
        return
    # Folders have no replace. Outside of the work folder the old one is safe until the
    # new one stands.
    old = target.with_name(f"{new.parent.name}-old")
    with _swapping:
        try:
            if target.exists():
                os.rename(target, old)
            os.rename(new, target)
        except BaseException:
            if old.exists() and not target.exists():
                os.rename(old, target)
            raise
    shutil.rmtree(old, ignore_errors=True)
