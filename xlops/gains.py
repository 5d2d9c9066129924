"""Gains between blocks: what an operator on several arrays does to their units."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

from xlops import units
from xlops.errors import UnitError
from xlops.units import NONE, ONE, Gain

__all__ = ["Gains"]


class Gains(Mapping[tuple[str, str], Gain]):
    """What an operator does to units, from each block that goes in to each that it makes.

    Parameters
    ----------
    table : mapping of (str, str) to Gain
        By the block that is made and the block it is made from; pairs that have nothing
        to do with each other are left out. A side that is one array is named ``""``.

    Examples
    --------
    >>> from xlops.gains import Gains
    >>> from xlops.units import ONE, Gain
    >>> gains = Gains({("slope", ""): Gain.of("s", -1), ("data", ""): ONE})
    >>> gains.rows, gains.columns, str(gains["slope", ""])
    (('slope', 'data'), ('',), 's-1')
    """

    def __init__(self, table: Mapping[tuple[str, str], Gain]) -> None:
        self._table = dict(table)

    def __getitem__(self, pair: tuple[str, str]) -> Gain:
        return self._table[pair]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"Gains({self._table})"

    def __dask_tokenize__(self) -> object:
        return tuple(self._table.items())

    @functools.cached_property
    def rows(self) -> tuple[str, ...]:
        """The blocks that are made."""
        return tuple(dict.fromkeys(row for row, _ in self))

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The blocks that go in."""
        return tuple(dict.fromkeys(column for _, column in self))

    def into(self, row: str) -> tuple[str, ...]:
        """The blocks that one block is made from."""
        return tuple(c for r, c in self if r == row)

    def out_of(self, column: str) -> tuple[str, ...]:
        """The blocks that are made from one block."""
        return tuple(r for r, c in self if c == column)

    # --- gains of other operators ---------------------------------------------------

    @functools.cached_property
    def transposed(self) -> Gains:
        """Those of the adjoint."""
        return Gains({(c, r): gain for (r, c), gain in self.items()})

    def map(self, function: Callable[[Gain], Gain]) -> Gains:
        """A function of each."""
        return Gains({pair: function(gain) for pair, gain in self.items()})

    def after(self, inner: Gains, who: str) -> Gains:
        """Those of a product: `inner` acts first.

        Raises
        ------
        UnitError
            Where what adds up comes in units that differ.
        """
        made: dict[tuple[str, str], Gain] = {}
        first: dict[tuple[str, str], str] = {}
        for (row, between), gain in self.items():
            for column in inner.into(between):
                total, pair = gain * inner[between, column], (row, column)
                known = made.setdefault(pair, total)
                first.setdefault(pair, between)
                if not (known.known and total.known):
                    made[pair] = NONE
                elif units.factor(total, known) != 1.0:
                    raise UnitError(
                        f"{who} adds blocks whose units do not add: block "
                        f"{first[pair]!r} comes in {known}, block {between!r} in "
                        f"{total}; scale one of them by a quantity"
                    )
        return Gains(made)

    # --- units of all blocks together -----------------------------------------------

    @functools.cached_property
    def levels(self) -> tuple[dict[str, tuple[str, Gain]], dict[str, tuple[str, Gain]]]:
        """Units of all blocks made and of all that go in, for which everything adds up.

        Each is given by the block (of those that go in) whose unit it is relative to:
        blocks that have nothing to do with each other have different ones. Gains that
        are not known are passed over where others say how blocks belong together.
        """
        made: dict[str, tuple[str, Gain]] = {}
        given: dict[str, tuple[str, Gain]] = {}
        # What is known goes first: unknown gains say less.
        pairs = sorted(self, key=lambda pair: not self[pair].known)
        for start in self.columns:
            if start in given:
                continue
            given[start] = start, ONE
            found = True
            while found:
                found = False
                for row, column in pairs:
                    gain = self[row, column]
                    if column in given and row not in made:
                        origin, level = given[column]
                        made[row] = origin, level * gain
                    elif row in made and column not in given:
                        origin, level = made[row]
                        given[column] = origin, level / gain
                    else:
                        continue
                    found = True
                    break  # what is known from here goes first again
        return made, given
