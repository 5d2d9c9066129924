"""The strokes that pictures are made of, as elements of SVG.

Sizes are in pixels. Strokes and text take the colour around them.
"""

from __future__ import annotations

from xlops.markup.page import escaped

__all__ = [
    "FONT",
    "LETTER",
    "LINE",
    "NAME",
    "NOTE",
    "RADIUS",
    "curve",
    "cut",
    "framed",
    "head",
    "path",
    "plus",
    "straight",
    "text",
]

# A font of one width, so that the width of a text is known: so much of its size a letter.
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
LETTER = 0.602
# Sizes of names and of notes, and from one line of notes to the next.
NAME, NOTE, LINE = 12, 10, 12
LETTERS = 26  # longer texts are cut
RADIUS = 8  # of ⊕


def framed(shapes: str, title: str, width: float, height: float) -> str:
    """A whole picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'font-family="{FONT}" font-size="{NAME}" fill="currentColor">'
        f"<title>{escaped(title)}</title>{shapes}</svg>"
    )


def cut(text: str) -> str:
    """A text, or the first letters of a long one."""
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def text(x: float, y: float, words: str, size: int, faint: bool = False) -> str:
    """A text centered at x, which stands on y."""
    opacity = ' fill-opacity="0.7"' if faint else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="middle"'
        f"{opacity}>{escaped(words)}</text>"
    )


def path(commands: str) -> str:
    """A line along the commands of a path."""
    return (
        f'<path d="{commands}" fill="none" stroke="currentColor" stroke-opacity="0.7" '
        'stroke-width="1.2"/>'
    )


def straight(x: float, y: float, end: float) -> str:
    """A level line."""
    return path(f"M{x:.1f} {y:.1f}H{end:.1f}") if x != end else ""


def curve(x: float, y: float, end_x: float, end_y: float) -> str:
    """A line that leaves and arrives level."""
    half = (x + end_x) / 2
    start, end = f"{half:.1f} {y:.1f}", f"{half:.1f} {end_y:.1f}"
    return path(f"M{x:.1f} {y:.1f}C{start} {end} {end_x:.1f} {end_y:.1f}")


def head(x: float, y: float) -> str:
    """The head of an arrow that ends there."""
    return f'<path d="M{x:.1f} {y:.1f}l7 -3.5v7z" fill-opacity="0.8"/>'


def plus(x: float, y: float) -> str:
    """The sign where things are added up."""
    r = RADIUS
    return (
        f'<g><title>sum</title><circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" '
        'fill-opacity="0.06" stroke="currentColor" stroke-opacity="0.7"/>'
        f"{path(f'M{x - 4:.1f} {y:.1f}h8M{x:.1f} {y - 4:.1f}v8')}</g>"
    )
