"""The exceptions of xlops, and the builders of the sentences they carry.

Every message names the operator or file it is about, says what was given, what was
expected and what to do. None of them prints an array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Sized

__all__ = [
    "AdjointError",
    "ArgumentError",
    "ChunkError",
    "ClusterError",
    "DTypeError",
    "DataError",
    "FileError",
    "LabelError",
    "UnitError",
    "XlopsError",
    "XlopsWarning",
]


class XlopsError(Exception):
    """Root of all errors that xlops raises on purpose."""


class LabelError(XlopsError, ValueError):
    """Dims, sizes or labels that do not fit."""


class UnitError(XlopsError, ValueError):
    """Units that do not add, do not convert or cannot be understood."""


class ChunkError(XlopsError, ValueError):
    """Dask chunks that an operator cannot work with."""


class DTypeError(XlopsError, TypeError):
    """Data of a type that linear operators do not act on."""


class DataError(XlopsError, ValueError):
    """Values that an operation cannot work with, such as NaN in the data of a solver."""


class ArgumentError(XlopsError, ValueError):
    """A parameter with a value that it cannot take."""


class AdjointError(XlopsError, NotImplementedError):
    """The adjoint of an operator that has none."""


class FileError(XlopsError, OSError):
    """A file that cannot be read or written as asked."""


class ClusterError(XlopsError, RuntimeError):
    """A cluster that cannot be started or reached, is lost, or fails at its work."""


class XlopsWarning(UserWarning):
    """Root of all warnings that xlops gives."""


def shown(value: object) -> str:
    """A value in an error: short ones as they are, others by their type."""
    several = False
    if isinstance(value, Sized) and not isinstance(value, (str, bytes)):
        with contextlib.suppress(TypeError):  # quantities have a length, or say so
            several = len(value) > 0
    text = f"a {type(value).__name__}" if several else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def listed(names: Iterable[Hashable]) -> str:
    """Names in quotes, joined by commas: ``'time', 'lat'``."""
    return ", ".join(repr(str(name)) for name in names) or "none"
