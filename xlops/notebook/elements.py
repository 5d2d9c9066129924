"""What pictures of operators are made of: boxes, chains, and branches side by side.

Every element knows its own size and at which heights data go in (right) and come out
(left), by block, and draws itself at a place that it is given. Sizes are in pixels.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from xlops.markup.page import escaped
from xlops.notebook import svg
from xlops.notebook.svg import LETTER, LINE, NAME, NOTE, RADIUS
from xlops.units import ONE, Gain

__all__ = ["Box", "Branches", "Chain", "Element", "Ends", "Flow", "Flows", "room_of"]

BOX, PAD, GAP, GUTTER = 38, 11, 16, 34
MARGIN, BELOW = 8, 19  # around the picture; below an arrow, for its unit
DIMS = 4  # an arrow names no more dims


@dataclasses.dataclass(frozen=True)
class Flow:
    """What flows along an arrow: dims, and a unit (or what has become of it)."""

    sizes: Mapping[Hashable, int]
    gain: Gain = ONE
    unit: str | None = None

    @property
    def notes(self) -> list[str]:
        """Lines above the arrow."""
        lines = [f"{dim}: {size}" for dim, size in self.sizes.items()]
        if len(lines) > DIMS:
            lines = [*lines[: DIMS - 1], f"… {len(lines) - DIMS + 1} more"]
        return [svg.cut(line) for line in lines] or ["one number"]

    @property
    def below(self) -> str:
        """The line below the arrow."""
        if self.unit is not None:
            return svg.cut(self.unit)
        if not self.gain.known or self.gain == ONE:
            return ""
        return svg.cut(f"· {self.gain}")

    @property
    def width(self) -> float:
        """How long an arrow must be."""
        letters = max(map(len, [*self.notes, self.below]))
        return LETTER * NOTE * letters + 24

    @property
    def height(self) -> float:
        """How much room an arrow takes above itself, or below."""
        return LINE * max(len(self.notes), 1 if self.below else 0) + 5


Flows: TypeAlias = dict[str, Flow]


class Element(Protocol):
    """Something that can be drawn, with heights at which data go in and come out.

    `axis` is the height at which it lines up with its neighbours; `pointed` says
    whether arrows into it end there (not where they split further on).
    """

    width: float
    height: float
    axis: float
    pointed: bool
    ins: dict[str, float]
    outs: dict[str, float]

    def draw(self, x: float, y: float) -> str:
        """The element, with its upper left corner there."""


class Box:
    """An operator as one box, or a number as a round one."""

    pointed = True

    def __init__(
        self,
        name: str,
        note: str,
        title: str,
        ins: Iterable[str],
        outs: Iterable[str],
        room: float,
        round_: bool = False,
    ) -> None:
        self.name, self.note, self.title = svg.cut(name), svg.cut(note), title
        letters = max(len(self.name) * NAME, len(self.note) * NOTE)
        self.width = max(LETTER * letters + 2 * PAD, BOX)
        into, out = list(ins), list(outs)
        self.height = max(
            BOX, room * max(len(into), len(out)) if len(into + out) > 2 else 0
        )
        self.axis = self.height / 2
        self.ins, self.outs = self._spread(into), self._spread(out)
        self.corner = self.height / 2 if round_ else 5

    def _spread(self, names: Sequence[str]) -> dict[str, float]:
        each = self.height / len(names)
        return {name: each * (i + 0.5) for i, name in enumerate(names)}

    def draw(self, x: float, y: float) -> str:
        """The element, with its upper left corner there."""
        middle, center = x + self.width / 2, y + self.height / 2
        lines = [svg.text(middle, center + (4 if not self.note else -2), self.name, NAME)]
        if self.note:
            lines.append(svg.text(middle, center + 12, self.note, NOTE, faint=True))
        return (
            f"<g><title>{escaped(self.title)}</title>"
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{self.width:.1f}" '
            f'height="{self.height:.1f}" rx="{self.corner:.0f}" fill-opacity="0.06" '
            f'stroke="currentColor" stroke-opacity="0.55"/>{"".join(lines)}</g>'
        )


class Chain:
    """Elements one after the other, the last of which acts first."""

    def __init__(self, elements: Sequence[Element], between: Sequence[Flows]) -> None:
        self.elements, self.between = elements, between
        self.gaps = [max(f.width for f in flows.values()) for flows in between]
        self.width = sum(e.width for e in elements) + sum(self.gaps)
        single = [flows for flows in between if len(flows) == 1]
        self.axis = max([e.axis for e in elements] + [room_of(f) for f in single])
        below = max([e.height - e.axis for e in elements] + [BELOW] * bool(single))
        self.height = self.axis + below
        first, last = elements[0], elements[-1]
        self.pointed = last.pointed
        self.outs = {n: h + self._top(first) for n, h in first.outs.items()}
        self.ins = {n: h + self._top(last) for n, h in last.ins.items()}

    def _top(self, element: Element) -> float:
        return self.axis - element.axis

    def draw(self, x: float, y: float) -> str:
        """The element, with its upper left corner there."""
        drawn = []
        for at, element in enumerate(self.elements):
            drawn.append(element.draw(x, y + self._top(element)))
            x += element.width
            if at == len(self.gaps):
                break
            right, gap = self.elements[at + 1], self.gaps[at]
            for name, flow in self.between[at].items():
                start = y + self._top(right) + right.outs[name]
                end = y + self._top(element) + element.ins[name]
                tip = element.pointed
                drawn.append(_arrow(x + gap, start, x, end, flow, name, tip))
            x += gap
        return "".join(drawn)


class Branches:
    """Elements side by side, from blocks (columns) to blocks (rows)."""

    pointed = False

    def __init__(
        self, branches: Sequence[tuple[str, str, Element]], rooms: Sequence[float]
    ) -> None:
        self.branches = branches
        self.inner = max(element.width for _, _, element in branches)
        self.tops, top = [], 0.0
        for (_, _, element), room in zip(branches, rooms, strict=True):
            above = max(0.0, room - element.axis)
            below = max(0.0, BELOW * bool(room) - (element.height - element.axis))
            self.tops.append(top + above)
            top += above + element.height + below + GAP
        self.height = top - GAP
        heights = self._heights()
        self.outs = _ends((row, out) for row, _, out, _ in heights)
        self.ins = _ends((column, into) for _, column, _, into in heights)
        single = len(self.outs) == len(self.ins) == 1
        self.axis = next(iter(self.outs.values())) if single else self.height / 2
        self.width = self.inner + 2 * GUTTER

    def _heights(self) -> list[tuple[str, str, float, float]]:
        return [
            (row, column, top + e.outs[next(iter(e.outs))], top + e.ins[next(iter(e.ins))])
            for (row, column, e), top in zip(self.branches, self.tops, strict=True)
        ]

    def draw(self, x: float, y: float) -> str:
        """The element, with its upper left corner there."""
        drawn = []
        rows = [row for row, _, _ in self.branches]
        left, right = x + GUTTER, x + GUTTER + self.inner
        for at, (row, column, out, into) in enumerate(self._heights()):
            element = self.branches[at][2]
            place = left + (self.inner - element.width) / 2
            drawn.append(element.draw(place, y + self.tops[at]))
            # What comes in, from the end of its block.
            start = y + self.ins[column]
            drawn.append(svg.curve(x + self.width, start, right, y + into))
            end = place + element.width
            drawn.append(svg.straight(right, y + into, end))
            drawn.append(svg.head(end, y + into) if element.pointed else "")
            # What comes out, to the end of its block: added up where there are several.
            several = rows.count(row) > 1
            end = x + 2 * RADIUS if several else x
            drawn.append(svg.straight(place, y + out, left))
            drawn.append(svg.curve(left, y + out, end, y + self.outs[row]))
        added = [row for row in self.outs if rows.count(row) > 1]
        drawn += [svg.plus(x + RADIUS, y + self.outs[row]) for row in added]
        return "".join(drawn)


class Ends:
    """An element with the arrows into it and out of it."""

    def __init__(self, element: Element, given: Flows, made: Flows) -> None:
        self.element, self.given, self.made = element, given, made
        self.before = max(_end_width(n, f) for n, f in made.items())
        self.after = max(_end_width(n, f) for n, f in given.items())
        self.width = element.width + self.before + self.after + 2 * MARGIN
        above = max(room_of(made), room_of(given))
        ends = [*element.outs.values(), *element.ins.values()]
        self.top = MARGIN + max(0.0, above - min(ends))
        rest = max(0.0, BELOW - (element.height - max(ends)))
        self.height = self.top + element.height + rest + MARGIN

    def draw(self) -> str:
        """The whole picture."""
        element = self.element
        x = MARGIN + self.before
        right = x + element.width
        drawn = [element.draw(x, self.top)]
        for name, flow in self.made.items():
            y = self.top + element.outs[name]
            drawn.append(_arrow(x, y, MARGIN, y, flow, name, True))
        for name, flow in self.given.items():
            y = self.top + element.ins[name]
            tip = element.pointed
            drawn.append(_arrow(right + self.after, y, right, y, flow, name, tip))
        return "".join(drawn)


def _ends(heights: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Where blocks go in, or come out: in the middle of their branches."""
    found: dict[str, list[float]] = {}
    for name, height in heights:
        found.setdefault(name, []).append(height)
    return {name: statistics.median(own) for name, own in found.items()}


def room_of(flows: Flows) -> float:
    """How much room the arrows need above and below."""
    return max(f.height + (LINE if name else 0) for name, f in flows.items())


def _end_width(name: str, flow: Flow) -> float:
    return max(flow.width, LETTER * NOTE * len(svg.cut(name)) + 24)


def _arrow(
    x: float, y: float, end_x: float, end_y: float, flow: Flow, name: str, tip: bool
) -> str:
    """An arrow to the left, with what flows along it."""
    middle, height = (x + end_x) / 2, (y + end_y) / 2
    lines = [svg.curve(x, y, end_x + 3 * tip, end_y), svg.head(end_x, end_y) if tip else ""]
    notes = flow.notes
    for at, note in enumerate(reversed(notes)):
        lines.append(svg.text(middle, height - 5 - LINE * at, note, NOTE, faint=True))
    if name:
        over = height - 6 - LINE * len(notes)
        lines.append(
            f'<g font-weight="bold">{svg.text(middle, over, svg.cut(name), NOTE)}</g>'
        )
    if flow.below:
        lines.append(svg.text(middle, height + LINE + 1, flow.below, NOTE, faint=True))
    return "".join(lines)
