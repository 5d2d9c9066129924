"""Make the inventories from the text files beside this script; README.md says why."""

import pathlib
import zlib

HERE = pathlib.Path(__file__).parent
# Of version 2, as Sphinx reads it.
HEAD = """# Sphinx inventory version 2
# Project: {name}
# Version: none
# The remainder of this file is compressed using zlib.
"""


def made(source: pathlib.Path) -> bytes:
    """The inventory that a text file describes."""
    entries = [line.split() for line in source.read_text("utf-8").splitlines() if line]
    body = "".join(f"{name} {role} 1 {address} -\n" for role, name, address in entries)
    return HEAD.format(name=source.stem).encode() + zlib.compress(body.encode(), 9)


if __name__ == "__main__":
    for source in sorted(HERE.glob("*.txt")):
        source.with_suffix(".inv").write_bytes(made(source))
