"""Banded matrices: rows that are alike are kept once, the others in tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Band", "Flags", "Floats", "Integers"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
T = TypeVar("T")

# What a band remembers of what has been made of it.
MOST_KEPT = 16


class Band:
    """A banded n × n matrix: ``y[i] = Σ_w coefficients[w, i] x[i + offsets[w]]``.

    Rows [first, last) use the same diagonals, and are all alike on even axes: then only
    the rows at the ends are tables, whatever n is.

    Parameters
    ----------
    offsets : array of int
        The diagonals, each once.
    coefficients : array of float
        Their entries by row, shape (offsets, n).
    used : array of bool, optional
        Where rows use a diagonal: what they do not use they do not read, so that NaN
        there stays out. Without, all that exist.

    Attributes
    ----------
    n : int
        Rows and columns.
    offsets : ndarray of int
        The diagonals, ascending.
    first, last : int
        The rows inside: all use the same diagonals.
    inside : ndarray of bool
        The diagonals that the rows inside use.
    weights : ndarray of float64 or None
        Their entries if the rows inside are alike, 0 for diagonals not used there.
    truncated : bool
        Whether every row has these weights, for the samples that exist.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.band import Band
    >>> Band.constant(4, [-1, 1], [-0.5, 0.5]).dense()
    array([[ 0. ,  0.5,  0. ,  0. ],
           [-0.5,  0. ,  0.5,  0. ],
           [ 0. , -0.5,  0. ,  0.5],
           [ 0. ,  0. , -0.5,  0. ]])
    """

    n: int
    offsets: Integers
    first: int
    last: int
    inside: Flags
    weights: Floats | None
    truncated: bool
    # Coefficients and uses by row, of the rows before `first` and from `last` on if the
    # rows inside are alike, else of all. Made when asked for where truncated.
    _tables: tuple[Floats, Flags] | None
    # What has been made of it, here and for kernels: never pickled.
    _kept: dict[Any, Any]

    def __init__(
        self,
        offsets: npt.ArrayLike,
        coefficients: npt.ArrayLike,
        used: npt.ArrayLike | None = None,
    ) -> None:
        given = np.asarray(offsets, np.intp)
        order = np.argsort(given)
        offsets = given[order]
        entries = np.asarray(coefficients, np.float64)[order]
        n = entries.shape[1]
        exist = _exist(n, offsets, np.arange(n))
        uses = exist if used is None else np.asarray(used, np.bool_)[order] & exist
        entries = np.where(uses, entries, 0.0)
        # Rows are compared with the one in the middle.
        middle = n // 2
        same = (uses == uses[:, middle : middle + 1]).all(axis=0)
        alike = same & (entries == entries[:, middle : middle + 1]).all(axis=0)
        first, last = _around(same, middle)
        start, stop = _around(alike, middle)
        inside = uses[:, middle].copy()
        if 2 * (stop - start) >= last - first:
            ends = np.r_[0:start, stop:n]
            tables = (_rows(entries, ends), _rows(uses, ends))
            weights = entries[:, middle].copy()
            self._set(n, offsets, (start, stop), inside, weights, tables)
        else:
            tables = (np.ascontiguousarray(entries), np.ascontiguousarray(uses))
            self._set(n, offsets, (first, last), inside, None, tables)

    def _set(
        self,
        n: int,
        offsets: Integers,
        rows: tuple[int, int],
        inside: Flags,
        weights: Floats | None,
        tables: tuple[Floats, Flags] | None,
    ) -> Band:
        self.n, self.offsets = n, offsets
        # Without rows inside all rows are in the tables.
        self.first, self.last = rows if rows[0] < rows[1] else (0, 0)
        self.inside, self.weights = inside, weights
        self.truncated = tables is None
        self._tables = tables
        self._kept = {}
        return self

    @classmethod
    def constant(cls, n: int, offsets: npt.ArrayLike, weights: npt.ArrayLike) -> Band:
        """The same weights in every row, for the samples that exist.

        Parameters
        ----------
        n : int
            Rows and columns.
        offsets : array of int
            The diagonals, each once.
        weights : array of float
            The entry of each.

        Examples
        --------
        >>> from xlops.kernels.band import Band
        >>> Band.constant(3, [0, 1], [1.0, 2.0]).dense()
        array([[1., 2., 0.],
               [0., 1., 2.],
               [0., 0., 1.]])
        """
        given = np.asarray(offsets, np.intp)
        entries = np.asarray(weights, np.float64)
        order = np.argsort(given)
        order = order[np.abs(given[order]) < n]
        offsets = given[order]
        before, after = _reach(offsets)
        inside = np.ones(len(offsets), dtype=np.bool_)
        rows = (before, n - after)
        return cls.__new__(cls)._set(n, offsets, rows, inside, entries[order], None)

    @classmethod
    def inside_ends(
        cls,
        n: int,
        offsets: npt.ArrayLike,
        weights: npt.ArrayLike,
        rows: tuple[int, int],
        ends: tuple[npt.ArrayLike, npt.ArrayLike],
    ) -> Band:
        """The same weights in rows [first, last), rows of their own before and after.

        Takes no more time for long axes than for short ones.

        Parameters
        ----------
        n : int
            Rows and columns.
        offsets : array of int
            The diagonals, ascending.
        weights : array of float
            The entry of each inside; where it is 0 nothing is read.
        rows : tuple of int
            First and last.
        ends : tuple of array
            Entries of the other rows, shape (offsets, rows), and which are used.

        Examples
        --------
        >>> import numpy as np
        >>> from xlops.kernels.band import Band
        >>> ends = np.array([[0.0, -1.0], [-1.0, 1.0], [1.0, 0.0]])
        >>> weights = [-0.5, 0, 0.5]
        >>> band = Band.inside_ends(4, [-1, 0, 1], weights, (1, 3), (ends, ends != 0))
        >>> band.dense()
        array([[-1. ,  1. ,  0. ,  0. ],
               [-0.5,  0. ,  0.5,  0. ],
               [ 0. , -0.5,  0. ,  0.5],
               [ 0. ,  0. , -1. ,  1. ]])
        """
        entries = np.asarray(weights, np.float64)
        table = np.ascontiguousarray(ends[0], np.float64)
        used = np.ascontiguousarray(ends[1], np.bool_)
        kept = (entries != 0) | used.any(axis=1)
        tables = (table[kept], used[kept])
        diagonals = np.asarray(offsets, np.intp)[kept]
        new, inside = cls.__new__(cls), entries[kept] != 0
        return new._set(n, diagonals, rows, inside, entries[kept], tables)

    def __getstate__(self) -> dict[str, Any]:
        # Tables of truncated bands follow from the weights.
        tables = None if self.truncated else self._tables
        return self.__dict__ | {"_kept": {}, "_tables": tables}

    def __repr__(self) -> str:
        kind = "uneven" if self.weights is None else "even"
        return f"Band({kind}, {self.n} rows, diagonals {self.offsets.tolist()})"

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is made of the matrix, remembered by a key that says all of it."""
        found: T | None = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MOST_KEPT:  # one factor after the other, say
                self._kept.clear()
            found = self._kept[key] = make()
        return found

    @property
    def reach(self) -> tuple[int, int]:
        """How many samples before and after it reads."""
        return _reach(self.offsets)

    @property
    def tables(self) -> tuple[Floats, Flags]:
        """Coefficients and uses of the rows that are not alike, shape (offsets, rows)."""
        if self._tables is None:
            ends = np.r_[0 : self.first, self.last : self.n]
            used = _exist(self.n, self.offsets, ends)
            assert self.weights is not None
            self._tables = np.where(used, self.weights[:, None], 0.0), used
        return self._tables

    def rows(self, rows: Integers) -> tuple[Floats, Flags]:
        """Coefficients and uses of some rows, shape (offsets, rows)."""
        table, used = self.tables
        if self.weights is None:
            return _rows(table, rows), _rows(used, rows)
        coefficients = np.repeat(self.weights[:, None], len(rows), axis=1)
        uses = np.repeat(self.inside[:, None], len(rows), axis=1)
        ends = (rows < self.first) | (rows >= self.last)
        at = rows[ends]
        at = np.where(at < self.first, at, at - self.last + self.first)
        coefficients[:, ends], uses[:, ends] = table[:, at], used[:, at]
        return coefficients, uses

    @property
    def transposed(self) -> Band:
        """The transposed matrix."""
        return self.once("transposed", self._transpose)

    def _transpose(self) -> Band:
        n, offsets = self.n, -self.offsets[::-1]
        new = Band.__new__(Band)
        weights = None if self.weights is None else self.weights[::-1].copy()
        inside = self.inside[::-1].copy()
        before, after = self.reach
        first, last = min(n, self.first + after), max(0, self.last - before)
        if self.truncated:
            return new._set(n, offsets, (after, n - before), inside, weights, None)
        if first >= last:
            first = last = 0
        rows = np.arange(n) if weights is None else np.r_[0:first, last:n]
        table = np.zeros((len(offsets), len(rows)))
        used = np.zeros((len(offsets), len(rows)), dtype=np.bool_)
        for w, offset in enumerate(offsets):
            exist = (rows + offset >= 0) & (rows + offset < n)
            entries, uses = self.rows(rows[exist] + offset)
            table[w, exist] = entries[len(offsets) - 1 - w]
            used[w, exist] = uses[len(offsets) - 1 - w]
        return new._set(n, offsets, (first, last), inside, weights, (table, used))

    def scaled(self, factor: float) -> Band:
        """The matrix times a number; the same one for the same number."""
        return self.once(("scaled", factor), lambda: self._scale(factor))

    def _scale(self, factor: float) -> Band:
        weights = None if self.weights is None else self.weights * factor
        tables = None if self.truncated else (self.tables[0] * factor, self.tables[1])
        rows = (self.first, self.last)
        new = Band.__new__(Band)
        return new._set(self.n, self.offsets, rows, self.inside, weights, tables)

    def __add__(self, other: Band) -> Band:
        """The sum of two bands of the same n; the same one for the same two."""
        if not isinstance(other, Band):
            return NotImplemented
        if self.n != other.n:
            raise ValueError(f"bands of {self.n} and {other.n} rows have no sum")
        # With the other one, whose identity holds while it lives.
        made = self.once(("added", id(other)), lambda: (self._add(other), other))
        return made[0]

    def _add(self, other: Band) -> Band:
        n, offsets = self.n, np.union1d(self.offsets, other.offsets)
        places = [np.searchsorted(offsets, band.offsets) for band in (self, other)]
        inside = np.zeros(len(offsets), dtype=np.bool_)
        for band, place in zip((self, other), places, strict=True):
            inside[place] |= band.inside
        new = Band.__new__(Band)
        rows = (max(self.first, other.first), min(self.last, other.last))
        rows = rows if rows[0] < rows[1] else (0, 0)
        weights = None
        if self.weights is not None and other.weights is not None:
            weights = np.zeros(len(offsets))
            weights[places[0]] += self.weights
            weights[places[1]] += other.weights
            if self.truncated and other.truncated:
                return new._set(n, offsets, rows, inside, weights, None)
        listed = np.arange(n) if weights is None else np.r_[0 : rows[0], rows[1] : n]
        table = np.zeros((len(offsets), len(listed)))
        used = np.zeros((len(offsets), len(listed)), dtype=np.bool_)
        for band, place in zip((self, other), places, strict=True):
            entries, uses = band.rows(listed)
            table[place] += entries
            used[place] |= uses
        return new._set(n, offsets, rows, inside, weights, (table, used))

    def dense(self) -> Floats:
        """The matrix as an array, shape (n, n)."""
        matrix = np.zeros((self.n, self.n))
        rows = np.arange(self.n)
        entries, used = self.rows(rows)
        for offset, entry, uses in zip(self.offsets, entries, used, strict=True):
            matrix[rows[uses], rows[uses] + offset] = entry[uses]
        return matrix


def _reach(offsets: Integers) -> tuple[int, int]:
    if not offsets.size:
        return 0, 0
    return max(0, -int(offsets[0])), max(0, int(offsets[-1]))


def _exist(n: int, offsets: Integers, rows: Integers) -> Flags:
    """Where the sample of a diagonal exists, shape (offsets, rows)."""
    columns = rows + offsets[:, None]
    return (columns >= 0) & (columns < n)


def _rows(table: npt.NDArray[Any], rows: Integers) -> npt.NDArray[Any]:
    return np.ascontiguousarray(table[:, rows])


def _around(flags: Flags, middle: int) -> tuple[int, int]:
    """The run of true flags around one of them."""
    breaks = np.flatnonzero(~flags)
    at = int(np.searchsorted(breaks, middle))
    first = int(breaks[at - 1]) + 1 if at else 0
    last = int(breaks[at]) if at < len(breaks) else len(flags)
    return first, last
