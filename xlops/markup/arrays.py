"""Labeled arrays on a page, as parts of something larger."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xlops.markup.page import escaped, sizes, span

__all__ = ["array_inside", "array_line"]


def array_line(array: Any) -> str:
    """An array in a line: dims, dtype and unit."""
    if not isinstance(array, xr.DataArray):
        return span(type(array).__name__, "faint")
    unit = array.attrs.get("units", getattr(array.data, "units", ""))
    about = span(f"{array.dtype} {unit}".strip(), "faint")
    return f"{sizes(array.sizes)} {about}"


def array_inside(array: Any) -> str:
    """What xarray shows of an array; computes nothing."""
    if isinstance(array, xr.DataArray):
        inside: str = array._repr_html_()
        return inside
    return escaped(repr(array))
