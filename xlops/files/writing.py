"""Saving: a file appears under its name when it is complete, and not before."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from xlops.engine.stored import import_zarr
from xlops.errors import FileError, listed
from xlops.files.common import (
    CONTENT,
    checked_path,
    history_lines,
    is_zarr,
    notes_of,
)
from xlops.files.storable import parts_of, storable

__all__ = ["save"]

_SUFFIXES = (".nc", ".nc4", ".netcdf", ".h5", ".zarr")
# Version 2 of Zarr has text and one place for metadata in its standard.
_ZARR: Any = {"zarr_format": 2, "consolidated": True}
# Two savers of this process do not swap the same folder at once.
_swapping = threading.Lock()


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
    tree = _tree(obj, zarr)
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
        flush(new)
        swap(new, target)
    except BaseException as error:
        error.add_note(f"(while saving to {path}, which is as it was before)")
        raise
    finally:
        with contextlib.suppress(OSError):
            work = work.rename(f"{work}-gone")
        shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):  # the file is there; this makes its name durable
        flush(target.parent, inside=False)


def _tree(obj: Any, zarr: bool) -> xr.DataTree:
    """What is written, with notes for `open`."""
    kind, parts, what = parts_of(obj)
    ready = {name: storable(part, name, zarr) for name, part in parts.items()}
    root = ready.pop("", xr.Dataset())
    content = {**notes_of(root.attrs), "kind": kind, "names": list(ready)}
    root.attrs["history"] = _history([root, *ready.values()], what)
    root.attrs.setdefault("Conventions", "CF-1.11")
    root.attrs[CONTENT] = json.dumps(content)
    return xr.DataTree.from_dict({"/": root, **ready})


def lay_out(obj: Any, path: Path) -> dict[str, Path]:
    """Write a Zarr file that lacks its lazy values, and say where they belong.

    Lazy coordinates are computed and written: data in chunks have them mostly by accident.

    Parameters
    ----------
    obj : DataArray or dict of DataArray
        Lazy arrays in regular chunks.
    path : Path
        A new folder.

    Returns
    -------
    dict of str to Path
        For each block the Zarr array: its chunks are those of Dask, without compression.
    """
    tree = _tree(obj, zarr=True)
    arrays: dict[str, Path] = {}
    encoding: dict[str, dict[str, Any]] = {}
    for node in tree.subtree:
        for name, values in node.data_vars.items():
            chunks = tuple(max(1, *sizes) for sizes in values.chunks or ())
            encoding[node.path] = {str(name): {"chunks": chunks, "compressors": None}}
            arrays[node.path.strip("/")] = path.joinpath(node.path.strip("/"), str(name))
        node.dataset = node.to_dataset().assign_coords(
            {name: coord.compute() for name, coord in node.coords.items()}
        )
    tree.to_zarr(path, encoding=encoding, compute=False, **_ZARR)
    return arrays


def _target(path: Any) -> tuple[Path, bool]:
    """The file to write and whether it is Zarr, after all checks that need no data."""
    given = checked_path(path, "xl.save")
    who = f"cannot save to {given}"
    suffix = given.suffix.lower()
    if suffix not in _SUFFIXES:
        raise FileError(
            f"{who}: its suffix should say the format, expected one of "
            f"{listed(_SUFFIXES)}, got {suffix!r}"
        )
    zarr = suffix == ".zarr"
    if zarr:
        import_zarr(given)
    target = Path(os.path.realpath(given))  # a link stays, what it leads to is replaced
    folder = target.parent
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise FileError(f"{who}: {folder} is a file, not a folder")
        raise FileError(f"{who}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{who}: the folder {folder} cannot be written")
    with _swapping:  # for a moment of a swap there is no folder
        if os.path.lexists(target):
            _check_replaceable(target, zarr, who)
    return target, zarr


def _check_replaceable(target: Path, zarr: bool, who: str) -> None:
    """Raise unless what is there may be replaced by a file of this format."""
    if not (is_zarr(target) if zarr else os.path.isfile(target)):
        kind = "a folder" if target.is_dir() else "not a plain file"
        kind = "not Zarr" if zarr else kind
        raise FileError(f"{who}: that is there and is {kind}; choose another name")
    if not os.access(target, os.W_OK):
        raise FileError(f"{who}: that is there and write-protected")


def _history(datasets: list[xr.Dataset], what: str) -> str:
    """The history of all data, taken from their attributes, and one line more."""
    lines = history_lines(datasets[0].attrs.get("history"))
    for dataset in datasets:
        for variable in dataset.data_vars.values():
            own = history_lines(variable.attrs.pop("history", None))
            lines += [line for line in own if line not in lines]
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Not imported above: the package imports this module.
    version = importlib.import_module("xlops").__version__
    return "\n".join([*lines, f"{now} xlops {version}: {what}"])


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
        tree.to_zarr(path, chunkmanager_store_kwargs=how, **_ZARR)


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


def flush(path: Path, inside: bool = True) -> None:
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


def swap(new: Path, target: Path) -> None:
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
