"""Solutions as pages, with a small picture of how the norms fell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xlops.markup import page as html
from xlops.markup.arrays import array_inside, array_line
from xlops.solvers.solution import curves_of, relative

if TYPE_CHECKING:
    from xlops.solvers.solution import Solution

__all__ = ["solution_page"]

# The picture: its size, and the margins left and below, for what the axes say.
WIDTH, HEIGHT, LEFT, BELOW = 420, 130, 54, 20
KINDS = ("first", "second")
# No curve needs more points than the picture has columns.
POINTS = WIDTH


def solution_page(solution: Solution) -> str:
    """The page of a solution; computes nothing."""
    state = html.span(solution.state, "yes" if solution.converged else "no")
    sections = [
        html.head("Solution", solution.method, state),
        html.line("Stopped:", html.escaped(solution.reason.value)),
        html.folded(
            "Norms:", history_svg(solution.history), _norms(solution), unfolded=True
        ),
        _arrays("x:", solution.x),
        _arrays("residual:", solution.residual),
    ]
    return html.page(repr(solution), "".join(sections))


def _arrays(title: str, value: Any) -> str:
    """An array, or arrays in blocks, as a section."""
    if not isinstance(value, dict):
        return html.folded(title, array_inside(value), array_line(value))
    blocks = "".join(_arrays(f"{name}:", block) for name, block in value.items())
    return html.folded(title, blocks, html.span(", ".join(value), "name"))


def _norms(solution: Solution) -> str:
    parts = []
    for at, (name, (first, last)) in enumerate(solution.changes().items()):
        words = html.escaped(name.replace("_", " "))
        mark = f'<span class="xlops-{KINDS[at % len(KINDS)]}">●</span>'
        parts.append(f"<span>{mark} {words} {first:.4g} → {last:.4g}</span>")
    return "&ensp;".join(parts)


def history_svg(history: xr.Dataset) -> str:
    """Norms over iterations, relative to the start, on a logarithmic scale.

    Of many problems the median.
    """
    steps = np.asarray(history["iteration"].values, dtype=float)
    count = len(steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        curves = [
            np.log10(np.median(relative(values), axis=1))
            for values in curves_of(history).values()
        ]
    finite = [curve[np.isfinite(curve)] for curve in curves]
    found = np.concatenate(finite) if finite else np.zeros(0)
    if count < 2 or not found.size:
        return html.span("nothing to draw", "faint")
    low, high = math.floor(found.min() + 1e-9), math.ceil(found.max() - 1e-9)
    high = max(high, low + 1)

    def across(step: float) -> float:
        wide = (step - steps[0]) / (steps[-1] - steps[0])
        return float(LEFT + (WIDTH - LEFT - 8) * wide)

    def down(power: float) -> float:
        return float(8 + (HEIGHT - BELOW - 8) * (high - power) / (high - low))

    drawn = "".join(
        _curve(steps, curve, KINDS[at % len(KINDS)], across, down)
        for at, curve in enumerate(curves)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" fill="none" font-size="11" xmlns="http://www.w3.org/2000/svg">'
        "<title>norms relative to the start, over iterations</title>"
        f"{_lines(low, high, down)}"
        f"{_label(LEFT, HEIGHT - 5, f'{steps[0]:g}', 'middle')}"
        f"{_label((LEFT + WIDTH - 8) / 2, HEIGHT - 5, 'iteration', 'middle')}"
        f"{_label(WIDTH - 8, HEIGHT - 5, f'{steps[-1]:g}', 'middle')}"
        f"{drawn}</svg>"
    )


def _lines(low: int, high: int, down: Any) -> str:
    """Lines at powers of ten, as many as can be told apart."""
    every = max(1, math.ceil((high - low) / 5))
    lines = []
    for power in range(high, low - 1, -every):
        y = f"{down(power):.1f}"
        lines.append(
            f'<path d="M{LEFT} {y}H{WIDTH - 8}" stroke="currentColor" '
            'stroke-opacity="0.18"/>'
        )
        text = "1" if power == 0 else f"1e{power}"
        lines.append(_label(LEFT - 6, down(power) + 4, text, "end"))
    return "".join(lines)


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor" '
        f'fill-opacity="0.65">{html.escaped(text)}</text>'
    )


def _curve(steps: Any, powers: Any, kind: str, across: Any, down: Any) -> str:
    """One curve; norms that are zero, infinite or NaN are left out."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).astype(int))
    points = " ".join(
        f"{across(steps[i]):.1f},{down(powers[i]):.1f}"
        for i in chosen
        if np.isfinite(powers[i])
    )
    return (
        f'<polyline class="xlops-{kind}" points="{points}" stroke="currentColor" '
        'stroke-width="1.8" stroke-linejoin="round"/>'
    )
