"""What an operator is made of, for those who show it."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from xlops.algebra import Adjoint, Conjugate, Product, Scaled, Sum
from xlops.bound import Bound
from xlops.modes import InMode
from xlops.operator import LinearOperator
from xlops.stack import Stack

__all__ = ["Part", "Parts", "label", "parts"]

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
    if isinstance(operator, (InMode, Bound)):
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
    if isinstance(operator, Conjugate):
        kind, inner, number = parts(operator.operator)
        conjugates = tuple(Part(o.conj(), row, column) for o, row, column in inner)
        return Parts(kind, conjugates, number.conjugate())
    if isinstance(operator, Stack):
        entries = operator.entries.items()
        return Parts("blocks", tuple(Part(part, *pair) for pair, part in entries))
    return Parts("none")


def label(row: str, column: str) -> str:
    """What a pair of blocks is called."""
    return " → ".join(name for name in (column, row) if name)
