"""What reading and writing share: names, paths and the format of notes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xlops.errors import DTypeError, FileError

# xarray's own names for an array that has none, and for one named as a coordinate:
# xr.open_dataarray understands them too.
UNNAMED = "__xarray_dataarray_variable__"
NAMED = "__xarray_dataarray_name__"
# Global attribute by which `save` tells `open` what it wrote. Users never see it.
CONTENT = "xlops_content"


def checked_path(path: Any, who: str) -> Path:
    """A path given by the user, whether or not there is a file."""
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


def is_zarr(path: Path) -> bool:
    """Whether a folder holds Zarr."""
    return any((path / name).is_file() for name in (".zgroup", ".zmetadata", "zarr.json"))


def notes_of(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """What `save` noted; nothing in files of others."""
    with contextlib.suppress(ValueError):
        content = json.loads(str(attrs.get(CONTENT)))
        if isinstance(content, dict):
            return content
    return {}


def history_lines(history: Any) -> list[str]:
    """The lines of a ``history`` attribute, whatever form it has."""
    if history is None:
        return []
    lines = np.ravel(np.asarray(history)).tolist()
    return [line for text in lines for line in str(text).splitlines()]
