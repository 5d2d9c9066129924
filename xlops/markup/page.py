"""Pages: HTML for notebooks, after the manner of xarray's, without scripts."""

from __future__ import annotations

import functools
import html
from collections.abc import Hashable, Iterable, Mapping, Sequence
from importlib import resources

import xarray as xr

__all__ = [
    "escaped",
    "folded",
    "grid",
    "head",
    "line",
    "page",
    "part",
    "sizes",
    "span",
    "styled",
    "table",
]


@functools.cache
def _style() -> str:
    sheet = resources.files("xlops.markup").joinpath("style.css")
    text = sheet.read_text(encoding="utf-8")
    return " ".join(text[text.index("*/") + 2 :].split())


def page(text: str, content: str) -> str:
    """A page that holds some content, and the text for those who see no styles.

    Parameters
    ----------
    text : str
        The ``repr`` of what is shown. Notebooks that are not trusted lose their styles,
        and with them the page; where xarray's ``display_style`` is ``"text"`` there is
        no page either.
    content : str
        HTML, put together by the functions of this module.
    """
    if xr.get_options()["display_style"] == "text":
        return f"<pre>{escaped(text)}</pre>"
    return styled(text, content)


def styled(text: str, content: str) -> str:
    """Content with its styles, and the text for those who see none."""
    return (
        f"<div><style>{_style()}</style>"
        f'<pre class="xlops-text">{escaped(text)}</pre>'
        f'<div class="xlops" style="display:none">{content}</div></div>'
    )


def escaped(text: object) -> str:
    """Text as HTML shows it."""
    return html.escape(str(text))


def span(text: object, kind: str) -> str:
    """Text of a kind: ``name``, ``kind``, ``faint``, ``dim``, ``yes`` or ``no``."""
    return f'<span class="xlops-{kind}">{escaped(text)}</span>'


def sizes(given: Mapping[Hashable, int]) -> str:
    """Dims and their sizes: ``(offset: 64, time: 128)``."""
    shown = (f"{span(dim, 'dim')}: {size}" for dim, size in given.items())
    return f"<span>({', '.join(shown)})</span>"


def head(kind: str, name: object, *further: str) -> str:
    """The first line of a page: what kind of thing it is, its name, and more HTML."""
    named = span(name, "name") if name else ""
    inner = f"{span(f'xlops.{kind}', 'kind')}{named}{''.join(further)}"
    return f'<div class="xlops-head">{inner}</div>'


def line(title: str, inline: str) -> str:
    """A section that is but a line."""
    return f'<div class="xlops-line"><span>{escaped(title)}</span>{_inline(inline)}</div>'


def folded(title: str, inside: str, inline: str = "", *, unfolded: bool = False) -> str:
    """A section that unfolds: HTML inside, and HTML that stands in its line."""
    return _details("section", f"<span>{escaped(title)}</span>", inside, inline, unfolded)


def part(name: str, inside: str, inline: str = "") -> str:
    """A part of what is shown, which unfolds if there is anything inside; all HTML."""
    name = f'<span class="xlops-name">{name}</span>'
    if not inside:
        return f'<div class="xlops-line">{name}{_inline(inline)}</div>'
    return _details("part", name, inside, inline, False)


def _details(kind: str, first: str, inside: str, inline: str, unfolded: bool) -> str:
    return (
        f'<details class="xlops-{kind}"{" open" if unfolded else ""}>'
        f"<summary>{first}{_inline(inline)}</summary>"
        f'<div class="xlops-inside">{inside}</div></details>'
    )


def _inline(content: str) -> str:
    return f"<span>{content}</span>" if content else ""


def grid(rows: Iterable[Sequence[str]]) -> str:
    """Rows of two or three cells of HTML, under each other."""
    listed = list(rows)
    columns = len(listed[0]) if listed else 2
    cells = "".join(f"<div>{cell}</div>" for row in listed for cell in row)
    return f'<div class="xlops-grid xlops-{columns}">{cells}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table of text, whose last columns, so many, hold numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [""] * (len(cells) - numbers) + [' class="xlops-number"'] * numbers
        inner = "".join(
            f"<{tag}{kind}>{escaped(cell)}</{tag}>"
            for kind, cell in zip(kinds, cells, strict=True)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    inner = f"<thead>{row(header, 'th')}</thead><tbody>{body}</tbody>"
    return f'<div class="xlops-wide"><table>{inner}</table></div>'
