"""Operators as pages: sides, units, traits, parameters, and what they are made of."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xlops.errors import shown
from xlops.markup import page as html
from xlops.markup.spaces import side, space_inside
from xlops.modes import InMode, plain
from xlops.notebook.parts import label, parts
from xlops.operator import LinearOperator, gains_in_words
from xlops.units import Gain

__all__ = ["operator_page"]

# A page shows at most so many parts in all, and so many within each other.
MOST, DEEPEST = 300, 20

TITLES = {"product": "Factors", "sum": "Terms", "blocks": "Blocks", "scaling": "Scaled"}


def operator_page(operator: LinearOperator) -> str:
    """The page of an operator; computes nothing and reads nothing that is lazy."""
    head = html.head(type(plain(operator)).__name__, operator, _sides(operator))
    return html.page(repr(operator), head + _Inside().of(operator, 0))


class _Inside:
    """What unfolds below operators; counts them, so that no page grows too large."""

    def __init__(self) -> None:
        self.left = MOST

    def of(self, operator: LinearOperator, depth: int) -> str:
        """The sections of an operator."""
        same = operator.domain == operator.range
        made = "same as domain" if same else side(operator.range)
        sections = [
            html.folded("Domain:", space_inside(operator.domain), side(operator.domain)),
            html.line("Range:", html.span(made, "faint"))
            if same
            else html.folded("Range:", space_inside(operator.range), made),
            html.line("Units:", html.escaped(gains_in_words(operator))),
            html.line("Traits:", html.escaped(_traits(operator))),
            *_mode(operator),
            *_parameters(operator),
            self.made_of(operator, depth),
        ]
        return "".join(sections)

    def made_of(self, operator: LinearOperator, depth: int) -> str:
        """The section of an operator's parts, each of which unfolds."""
        kind, found, number = parts(operator)
        if not found:
            return ""
        inline = f"{len(found)}"
        if kind == "product":
            inline += ", the last one acts first"
        if kind == "scaling":
            inline = f"by {number:.6g}"
        rows: list[str] = []
        for part, row, column in found:
            if not self.left or depth == DEEPEST:
                rows.append(html.line("…", f"{len(found) - len(rows)} more"))
                break
            self.left -= 1
            name = html.escaped(part)
            if row or column:
                name = f"{html.span(label(row, column), 'dim')} = {name}"
            rows.append(html.part(name, self.of(part, depth + 1), _sides(part)))
        title = f"{TITLES[kind]}:"
        unfolded = depth == 0
        return html.folded(
            title, "".join(rows), html.span(inline, "faint"), unfolded=unfolded
        )


def _sides(operator: LinearOperator) -> str:
    return f"<span>{side(operator.domain)} → {side(operator.range)}</span>"


def _traits(operator: LinearOperator) -> str:
    linear = "complex-linear" if operator.clinear else "linear over real numbers only"
    return ", ".join([linear, *sorted(operator.traits)])


def _mode(operator: LinearOperator) -> list[str]:
    if not isinstance(operator, InMode):
        return []
    ways = zip(("forward", "adjoint"), operator.computes, strict=True)
    texts = [f"{way} results computed at once" for way, computes in ways if computes]
    if operator.chunks:
        chunks = ", ".join(f"{dim}: {size}" for dim, size in operator.chunks.items())
        texts.append(f"NumPy input cut into chunks ({chunks})")
    return [html.line("Mode:", html.escaped("; ".join(texts)))] if texts else []


def _parameters(operator: LinearOperator) -> list[str]:
    params = getattr(plain(operator), "params", None)
    if not params:
        return []
    listed = ", ".join(f"{name}={_value(value)}" for name, value in params.items())
    return [html.line("Parameters:", html.escaped(listed))]


def _value(value: Any) -> str:
    """A parameter in a few words; never the values of an array."""
    if isinstance(value, Gain):
        return str(value)
    if isinstance(value, xr.DataArray):
        dims = ", ".join(f"{dim}: {size}" for dim, size in value.sizes.items())
        return f"DataArray ({dims}) {value.dtype}"
    if getattr(value, "ndim", 0) and hasattr(value, "dtype"):
        return f"array {tuple(value.shape)} {value.dtype}"
    if isinstance(value, (list, tuple)) and len(value) <= 6:
        inner = ", ".join(map(_value, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return shown(value)
