"""Times the cases and prints the table."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import pathlib
import platform
import sys
import time

from benchmarks.cases import CASES
from benchmarks.peers import thread_count
from benchmarks.timing import Row, Skipped

PACKAGES = ("xlops", "pylops", "numpy", "scipy", "numba", "dask", "xarray")
HEADER = ("case", "against", "xlops", "other", "ratio", "95 %", "wanted", "holds")
WIDTHS = (50, 28, 9, 9, 7, 13, 8, 5)


def main() -> None:
    """Run what is asked for."""
    arguments = parsed()
    chosen = [
        case
        for case in CASES
        if (arguments.full or not case.full) and arguments.only.lower() in case.name.lower()
    ]
    if not chosen:
        sys.exit(f"no case is called {arguments.only!r}")
    print(conditions(arguments.runs), end="\n\n")
    print(line(HEADER))
    print(line("-" * width for width in WIDTHS))
    rows: list[Row] = []
    skipped: list[str] = []
    start = time.perf_counter()
    for case in chosen:
        try:
            for row in case.rows(arguments.runs):
                rows.append(row)
                print(line(cells(row)), flush=True)
        except Skipped as reason:
            skipped.append(f"{case.name}: skipped, {reason}")
            print(skipped[-1], flush=True)
    print(f"\n{verdict(rows)} {(time.perf_counter() - start) / 60:.0f} min.")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(rows, skipped, arguments.runs))
    if arguments.json:
        found = [dataclasses.asdict(row) | {"holds": row.holds} for row in rows]
        where = {"conditions": conditions(arguments.runs), "skipped": skipped}
        arguments.json.write_text(json.dumps({**where, "rows": found}, indent=1))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--runs", type=int, default=15, help="runs of each contender")
    parser.add_argument("--full", action="store_true", help="the largest cases too")
    parser.add_argument("--markdown", type=pathlib.Path, help="file for the table")
    parser.add_argument("--json", type=pathlib.Path, help="file for the numbers")
    return parser.parse_args()


def conditions(runs: int) -> str:
    """Where and with what this was measured."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    python = platform.python_version()
    return (
        f"{thread_count()} CPUs ({platform.machine()}), Python {python}, {versions}; "
        f"medians of {runs} runs in turn"
    )


def cells(row: Row) -> tuple[str, ...]:
    """The cells of one line."""
    case = f"{row.case}, {row.side}" if row.side else row.case
    if row.other is not None:
        wanted = "" if row.wanted is None else f"≥ {round(row.wanted, 3):g}"
        spread = f"{number(row.low)}–{number(row.high)}"
        times = (seconds(row.own), seconds(row.other), number(row.value))
        return (case, row.against, *times, spread, wanted, row.holds)
    wanted = "" if row.wanted is None else f"≤ {row.wanted:g}"
    spread = f"{number(row.low)}–{number(row.high)}" if row.runs > 1 else ""
    own = f"{number(row.own)} {row.unit}".strip()
    return (case, "", own, "", "", spread, wanted, row.holds)


def number(value: float) -> str:
    """Three digits."""
    if not math.isfinite(value) or value == 0:
        return str(value)
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def seconds(value: float) -> str:
    """A time in ms."""
    return f"{number(1e3 * value)} ms"


def line(values: object) -> str:
    """One line of the table as it is printed."""
    assert hasattr(values, "__iter__")
    return "  ".join(
        f"{v:<{w}}" if i < 2 else f"{v:>{w}}"
        for i, (v, w) in enumerate(zip(values, WIDTHS, strict=True))
    ).rstrip()


def verdict(rows: list[Row]) -> str:
    """How many of the wanted numbers hold."""
    asked = [row for row in rows if row.wanted is not None]
    held = [row for row in asked if row.holds.startswith("yes")]
    return f"{len(held)} of {len(asked)} wanted numbers hold."


def markdown(rows: list[Row], skipped: list[str], runs: int) -> str:
    """The table in Markdown."""
    lines = [HEADER, (":--", ":--", "--:", "--:", "--:", ":-:", "--:", ":--")]
    table = ["| " + " | ".join(cell) + " |" for cell in (*lines, *map(cells, rows))]
    notes = [f"{conditions(runs)}. {verdict(rows)}", *skipped]
    return "\n".join(table) + "\n\n" + "\n\n".join(notes) + "\n"


if __name__ == "__main__":
    main()
