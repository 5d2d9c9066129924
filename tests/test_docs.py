"""The documentation is complete; that it builds and runs is checked by building it."""

import pathlib
import re
import runpy
import types
import zlib

import pytest

import xlops as xl

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
INVENTORIES = DOCS / "inventories"
# What a build makes or leaves out.
ELSEWHERE = {"_build", "_static", "_templates", "api", "inventories", "tutorials"}
PAGES = sorted(
    path.relative_to(DOCS)
    for path in DOCS.rglob("*")
    if path.suffix in {".md", ".rst"} and path.relative_to(DOCS).parts[0] not in ELSEWHERE
)


def listed(path):
    """The entries of the toctrees of a page."""
    text = (DOCS / path).read_text(encoding="utf-8")
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(trees).splitlines()
    return {line for line in lines if line and not line.startswith(":")}


def referenced():
    """The names on the page of the API, without the package's."""
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    return set(re.findall(r"^   ([\w.]+)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", xl.__all__)
def test_public_names_are_in_the_reference(name):
    value = getattr(xl, name)
    if not isinstance(value, types.ModuleType):
        assert name in referenced()
    elif value is not xl.accessor:
        inside = {one for one in value.__all__ if one not in xl.__all__}
        assert {f"{name}.{one}" for one in inside} <= referenced()


@pytest.mark.parametrize("kind", ["DataArray", "Dataset"])
def test_accessors_are_in_the_reference(kind):
    methods = vars(getattr(xl.accessor, f"{kind}Operators"))
    public = {f"{kind}.lops.{name}" for name in methods if not name.startswith("_")}
    assert public
    assert public <= referenced()


def test_the_reference_names_nothing_twice_or_that_is_not_there():
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    entries = re.findall(r"^   ([\w.]+)$", text, re.MULTILINE)
    assert len(entries) == len(set(entries))
    for entry in entries:
        if ".lops." not in entry:
            target = xl
            for part in entry.split("."):
                target = getattr(target, part)


def test_every_page_is_in_a_toctree():
    entries = set().union(*(listed(path) for path in PAGES))
    pages = {path.with_suffix("").as_posix() for path in PAGES} - {"index"}
    tutorials = {f"tutorials/{path.stem}" for path in (ROOT / "tutorials").glob("*.ipynb")}
    assert pages | tutorials == entries


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_pages_with_cells_are_run(path):
    # Without its head a page is plain Markdown, whose cells are not run.
    text = (DOCS / path).read_text(encoding="utf-8")
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
    assert text.startswith(head) is ("{code-cell}" in text)


@pytest.mark.parametrize("source", sorted(INVENTORIES.glob("*.txt")), ids=lambda p: p.stem)
def test_inventories_are_what_their_sources_say(source):
    made = runpy.run_path(str(INVENTORIES / "make.py"))["made"](source)
    stored = source.with_suffix(".inv").read_bytes()
    # Other builds of zlib compress to other bytes.
    (*head, body), (*stored_head, stored_body) = (
        made.split(b"\n", 4),
        stored.split(b"\n", 4),
    )
    assert stored_head == head
    assert zlib.decompress(stored_body) == zlib.decompress(body)
