"""Pictures of operators: what flows where, as SVG.

Data flow as products are written, from right to left. A factor is a box, a sum splits
and meets again in ⊕, blocks stay apart.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlops import units
from xlops.algebra import Adjoint, Conjugate, Product, Scaled, Sum
from xlops.bound import Bound
from xlops.markup.page import styled
from xlops.modes import plain
from xlops.notebook import svg
from xlops.notebook.elements import (
    Box,
    Branches,
    Chain,
    Element,
    Ends,
    Flow,
    Flows,
    room_of,
)
from xlops.notebook.parts import Part, parts
from xlops.operator import LinearOperator, gains_in_words
from xlops.space import Blocks, Space
from xlops.stack import Block, BlockDiag, HStack, Stack, VStack
from xlops.units import ONE, Gain
from xlops.windows.pieces import placed

__all__ = ["Diagram"]

# Pictures grow no larger; what does not fit in is drawn as one box.
MOST, DEEPEST = 120, 8
# Subclasses of these have names of their own.
COMPOSED = (Product, Sum, Scaled, Stack, VStack, HStack, Block, BlockDiag)

STANDALONE = (
    "<style>svg{color:#1b1b1b}@media (prefers-color-scheme:dark)"
    "{svg{color:#ececec;background:#161616}}</style>"
)


class Diagram:
    """A picture of an operator, which notebooks show.

    Parameters
    ----------
    title : str
        The operator.
    shapes : str
        The elements of the SVG.
    width, height : float
        Its size in pixels.
    """

    def __init__(self, title: str, shapes: str, width: float, height: float) -> None:
        self.title, self._shapes = title, shapes
        self.width, self.height = width, height

    @classmethod
    def of(cls, operator: LinearOperator, x: Any = None) -> Diagram:
        """The picture of an operator; of data, only dims and units are looked at."""
        flows = _given(operator, x)
        with units.one_warning():
            element, made = _Builder(x is not None).build(operator, flows, 0)
        ends = Ends(element, flows, made)
        return cls(str(operator), ends.draw(), ends.width, ends.height)

    def _svg(self, first: str = "") -> str:
        shapes = f"{first}{self._shapes}"
        return svg.framed(shapes, self.title, self.width, self.height)

    def _repr_svg_(self) -> str:
        return self._svg(STANDALONE)

    def _repr_html_(self) -> str:
        return styled(repr(self), f'<div class="xlops-picture">{self._svg()}</div>')

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to an SVG file, which is light or dark as its reader is.

        Parameters
        ----------
        path : str or path
            The file; one that is there is replaced.
        """
        Path(path).write_text(self._repr_svg_(), encoding="utf-8")

    def __repr__(self) -> str:
        return f"<Diagram of {self.title}>"


def _given(operator: LinearOperator, x: Any) -> Flows:
    """What goes into an operator, by block."""
    domain = operator.domain
    if x is None:
        spaces = domain if isinstance(domain, Blocks) else {"": domain}
        return {name: Flow(space.sizes) for name, space in spaces.items()}
    _, origins = operator._admitted(x)
    blocks = {"": x} if isinstance(domain, Space) else {n: x[n] for n in domain}
    return {
        name: Flow(dict(block.sizes), ONE, origins[name].unit or "")
        for name, block in blocks.items()
    }


def _made(operator: LinearOperator, flows: Flows, with_units: bool) -> Flows:
    """What comes out of an operator, by block."""
    given = operator.domain
    inner = given if isinstance(given, Blocks) else {"": given}
    outer = operator.range if isinstance(operator.range, Blocks) else {"": operator.range}
    result = {}
    for row, space in outer.items():
        column = operator.gains.into(row)[0]
        flow = flows[column]
        consumed = inner[column].sizes
        dims = placed(tuple(flow.sizes), consumed, space.sizes)
        sizes = {dim: space.sizes.get(dim, flow.sizes.get(dim, 1)) for dim in dims}
        gain = operator.gains[row, column]
        unit = None
        if with_units and flow.unit is not None:
            kept = operator.keeps(row)
            unit = units.apply(gain, flow.unit or None, kept, operator.name) or ""
        result[row] = Flow(sizes, flow.gain * gain, unit)
    return result


class _Builder:
    """Makes elements of operators, and follows what flows through them."""

    def __init__(self, with_units: bool) -> None:
        self.left, self.with_units = MOST, with_units

    def build(
        self, operator: LinearOperator, flows: Flows, depth: int
    ) -> tuple[Element, Flows]:
        """The element of an operator, and what comes out of it."""
        operator = plain(operator)
        kind, found, number = parts(operator)
        # Within others, an operator with a name of its own is one box.
        own = depth > 0 and not _is_composed(operator)
        self.left -= max(1, len(found))
        if kind == "none" or own or self.left < 0 or depth >= DEEPEST:
            made = _made(operator, flows, self.with_units)
            return _box(operator, flows, made), made
        if kind == "product":
            return self._chain([part.operator for part in found], flows, depth)
        if kind == "scaling":
            return self._scaling(operator, found[0].operator, number, flows, depth)
        return self._branches(operator, found, flows, depth)

    def _chain(
        self, factors: Sequence[LinearOperator], flows: Flows, depth: int
    ) -> tuple[Element, Flows]:
        elements: list[Element] = []
        between: list[Flows] = []
        for factor in reversed(factors):
            if elements:
                between.insert(0, flows)
            element, flows = self.build(factor, flows, depth + 1)
            elements.insert(0, element)
        return Chain(elements, between), flows

    def _scaling(
        self,
        operator: LinearOperator,
        inner: LinearOperator,
        number: complex,
        flows: Flows,
        depth: int,
    ) -> tuple[Element, Flows]:
        own, unit = operator.gain, ""
        if isinstance(own, Gain) and isinstance(inner.gain, Gain):
            ratio = own / inner.gain
            unit = "" if not ratio.known or ratio == ONE else f" {ratio}"
        shown = (
            f"{number:.4g}" if number.imag == 0 or number.real else f"{number.imag:.4g}j"
        )
        text = f"× {shown}{unit}"
        made = _made(operator, flows, self.with_units)
        element, between = self.build(inner, flows, depth + 1)
        while isinstance(operator, (Bound, Conjugate)):
            operator = operator.operator
        if isinstance(operator, Adjoint) and isinstance(number, complex):
            # A complex number does not move past an operator that is only real-linear.
            pill = Box(text, "", text, flows, flows, 0, round_=True)
            return Chain([element, pill], [flows]), made
        pill = Box(text, "", text, between, between, 0, round_=True)
        return Chain([pill, element], [between]), made

    def _branches(
        self, operator: LinearOperator, found: Sequence[Part], flows: Flows, depth: int
    ) -> tuple[Element, Flows]:
        branches, rooms = [], []
        made: Flows = {}
        apart = len({(row, column) for _, row, column in found}) > 1
        for part, row, column in found:
            flow = flows[column if column in flows else next(iter(flows))]
            element, out = self.build(part, {"": flow}, depth + 1)
            branches.append((row, column, element))
            result = next(iter(out.values()))
            made.setdefault(row, result)
            room = max(room_of({column: flow}), room_of({row: result}))
            rooms.append(room if apart else 0.0)
        return Branches(branches, rooms), made


def _is_composed(operator: LinearOperator) -> bool:
    """Whether an operator is a plain product, sum or stack, or the adjoint of one."""
    inner = operator.operator if isinstance(operator, Adjoint) else operator
    return type(inner) in COMPOSED


def _box(operator: LinearOperator, flows: Flows, made: Flows) -> Box:
    gain: Any = operator.gain
    note = f"· {gain}" if isinstance(gain, Gain) and gain.known and gain != ONE else ""
    sides = f"{operator.domain} → {operator.range}"
    title = f"{operator}: {sides}; units {gains_in_words(operator)}"
    room = 2 * max(room_of(flows), room_of(made))
    return Box(str(operator), note, title, flows, made, room)
