"""The ``xlops`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xlops.errors import XlopsError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process unless given.

    Examples
    --------
    >>> from xlops.cli import main
    >>> main([])  # doctest: +ELLIPSIS
    usage: xlops [-h] [--version] {demo} ...
    2
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_usage()
        return 2
    return _demo(options.out)


def _parser() -> argparse.ArgumentParser:
    from xlops import __version__

    parser = argparse.ArgumentParser(prog="xlops", description="Labeled linear operators.")
    parser.add_argument("--version", action="version", version=f"xlops {__version__}")
    commands = parser.add_subparsers(dest="command")
    demo = commands.add_parser(
        "demo",
        help="fill a field that has lost 70 %% of its cells",
        description=(
            "Reads a field of air temperature, hides 70 %% of its cells, fills them by a "
            "labeled inversion, and writes filled.nc and filled.png."
        ),
    )
    demo.add_argument(
        "--out",
        default="xlops-demo",
        metavar="DIR",
        help="folder for the files (%(default)s)",
    )
    return parser


def _demo(out: str) -> int:
    from xlops import demo

    try:
        demo.run(out)
    except ModuleNotFoundError as error:
        print(
            f'xlops demo needs {error.name}: pip install "xlops[demo]"',
            file=sys.stderr,
        )
        return 2
    except (XlopsError, OSError) as error:
        print(f"xlops demo: {error}", file=sys.stderr)
        return 2
    return 0
