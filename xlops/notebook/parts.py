"""What an operator is made of, for those who show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from xlops.algebra import Adjoint, Product, Scaled, Sum
from xlops.modes import InMode
from xlops.operator import LinearOperator
from xlops.stack import VStack
from xlops.units import NONE, Gain

__all__ = ["Part", "Parts", "gain_between", "label", "parts", "units_of"]

Kind: TypeAlias = Literal["product", "sum", "scaling", "blocks", "none"]


class Part(NamedTuple):
    """A part of an operator, and the blocks it makes and takes (``""``: no block)."""

    operator: LinearOperator
    row: str = ""
    column: str = ""


class Parts(NamedTuple):
    """The parts of an operator.

    Parameters
    ----------
    kind : str
        How they are put together: ``"product"`` (the last acts first), ``"sum"``,
        ``"scaling"`` (a number after one operator), ``"blocks"`` (side by side), or
        ``"none"``: the operator is not made of others.
    parts : tuple of Part
        The parts.
    number : complex
        Of a scaling.
    """

    kind: Kind
    parts: tuple[Part, ...] = ()
    number: complex = 1.0


def parts(operator: LinearOperator) -> Parts:
    """What an operator is made of: the parts of an adjoint are adjoints."""
    if isinstance(operator, InMode):
        return parts(operator.operator)
    if isinstance(operator, Product):
        return Parts("product", tuple(map(Part, operator.factors)))
    if isinstance(operator, Sum):
        return Parts("sum", tuple(map(Part, operator.terms)))
    if isinstance(operator, Scaled):
        return Parts("scaling", (Part(operator.operator),), operator.number)
    if isinstance(operator, Adjoint):
        kind, inner, number = parts(operator.operator)
        adjoints = tuple(Part(o.H, column, row) for o, row, column in inner)
        ordered = adjoints[::-1] if kind == "product" else adjoints
        return Parts(kind, ordered, number.conjugate())
    if isinstance(operator, VStack):
        blocks = operator.operators.items()
        return Parts("blocks", tuple(Part(part, name) for name, part in blocks))
    return Parts("none")


def label(row: str, column: str) -> str:
    """What a pair of blocks is called."""
    return " ← ".join(name for name in (row, column) if name)


def gain_between(operator: LinearOperator, row: str, column: str) -> Gain:
    """What an operator does to units, from one block to another."""
    gain: Any = operator.gain
    if isinstance(gain, Gain):
        return gain
    found: Gain = gain.get(row or column, NONE)
    return found


def units_of(operator: LinearOperator) -> str:
    """What an operator does to units, in words."""
    gain: Any = operator.gain
    if isinstance(gain, Mapping):
        return ", ".join(f"{name} {own}" for name, own in gain.items())
    return str(gain)
