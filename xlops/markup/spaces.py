"""Spaces on a page: dims with their labels, units and other coordinates."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import xarray as xr

from xlops.markup.page import escaped, folded, grid, head, page, sizes, span
from xlops.space import Blocks, Space

__all__ = ["blocks_page", "side", "space_inside", "space_page"]


def space_page(space: Space) -> str:
    """A space on a page of its own."""
    return page(repr(space), head("Space", "", _sizes(space)) + space_inside(space))


def blocks_page(blocks: Blocks) -> str:
    """The spaces of blocks on a page of their own."""
    inside = "".join(
        folded(name, space_inside(space), _sizes(space)) for name, space in blocks.items()
    )
    return page(repr(blocks), head("Blocks", "", _count(blocks)) + inside)


def side(given: Space | Blocks) -> str:
    """One side of an operator in a line."""
    if isinstance(given, Space):
        return _sizes(given)
    inner = ", ".join(f"{span(n, 'name')} {_sizes(space)}" for n, space in given.items())
    return f"<span>{{{inner}}}</span>"


def space_inside(given: Space | Blocks) -> str:
    """The labels of one side of an operator; reads no coordinate that is lazy."""
    if isinstance(given, Blocks):
        return "".join(
            folded(name, space_inside(space), _sizes(space))
            for name, space in given.items()
        )
    rows = []
    labels = given.labels
    for dim in given.dims:
        attrs = labels[dim].attrs if dim in labels.variables else {}
        rows.append((span(dim, "dim"), escaped(given.axis(dim)), _attrs(attrs)))
    for name, variable in labels.variables.items():
        if name not in given.dims:
            rows.append((escaped(name), _variable(variable), _attrs(variable.attrs)))
    if given.kind != "any":
        rows.append((span("values", "faint"), given.kind, ""))
    return grid(rows) if rows else span("no dims", "faint")


def _sizes(space: Space) -> str:
    return sizes(space.sizes)


def _count(blocks: Blocks) -> str:
    return f"<span>{len(blocks)} block{'' if len(blocks) == 1 else 's'}</span>"


def _variable(variable: xr.Variable) -> str:
    dims = ", ".join(map(escaped, variable.dims))
    return f"({dims}) {escaped(variable.dtype)}"


def _attrs(attrs: Mapping[Hashable, object]) -> str:
    shown = (f"{escaped(key)}: {_short(value)}" for key, value in attrs.items())
    return f'<span class="xlops-faint">{", ".join(shown)}</span>' if attrs else ""


def _short(value: object) -> str:
    text = str(value)
    return escaped(text if len(text) <= 80 else f"{text[:79]}…")
