"""Stacks: operators between named blocks, the entries of a matrix of operators."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from dask.tokenize import tokenize

from xlops import units
from xlops.algebra import (
    Adjoint,
    Conjugate,
    Product,
    Scaled,
    common,
    extended_domain,
    extended_range,
    joined_range,
    of_kind,
)
from xlops.errors import DTypeError, LabelError, UnitError, shown
from xlops.gains import Gains
from xlops.modes import plain
from xlops.operator import Coords, LinearOperator, called
from xlops.space import Blocks, Space
from xlops.units import Gain
from xlops.windows.plan import Node, Plan, total

__all__ = ["Block", "BlockDiag", "HStack", "Stack", "VStack"]

Pair: TypeAlias = tuple[str, str]
Row: TypeAlias = "Mapping[str, LinearOperator] | Sequence[LinearOperator]"
Rows: TypeAlias = (
    "Mapping[str, Mapping[str, LinearOperator | None] | Sequence[LinearOperator | None]]"
    " | Sequence[Mapping[str, LinearOperator | None] | Sequence[LinearOperator | None]]"
)


class Stack(LinearOperator):
    """A matrix of operators; what `VStack`, `HStack`, `Block` and `BlockDiag` are.

    Parameters
    ----------
    entries : mapping of (str, str) to LinearOperator
        By the block that an operator makes and the block it acts on; pairs that are left
        out have nothing to do with each other. A side that is one array is named ``""``.
    name : str
        Names the stack in errors and in its repr.
    """

    def __init__(self, entries: Mapping[Pair, LinearOperator], name: str) -> None:
        self.name = name
        gains = Gains({pair: _gain(operator) for pair, operator in entries.items()})
        self.entries = _in_units_that_add(entries, gains, name)
        domain, range_ = _sides(self.entries, gains, name)
        self.domain = domain[""] if "" in domain else Blocks(domain)
        self.range = range_[""] if "" in range_ else Blocks(range_)
        self.gain = Gains({pair: _gain(part) for pair, part in self.entries.items()})
        keeps = {
            row: all(self.entries[row, c].keeps_constants is True for c in gains.into(row))
            and len(gains.into(row)) == 1
            for row in gains.rows
        }
        self.keeps_constants = keeps.get("", keeps)
        parts = self.entries.values()
        # In some blocks; those that are added up become floating.
        self._exact = (any(p._exact[0] for p in parts), any(p._exact[1] for p in parts))
        real = any(space.kind == "real" for space in domain.values())
        self.clinear = all(part.clinear for part in parts) and not real
        if all(row == column for row, column in self.entries):
            self.traits = frozenset[str].intersection(*(part.traits for part in parts))

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return str(tokenize("stack", [(p, o.token) for p, o in self.entries.items()]))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        x = of_kind(x, self, not adjoint)
        given = x if isinstance(x, dict) else {"": x}
        parts: dict[str, list[Node]] = {}
        for pair, operator in self.entries.items():
            target, source = reversed(pair) if adjoint else pair
            made = operator._plan(given[source], adjoint)
            assert isinstance(made, Node)
            parts.setdefault(target, []).append(made)
        side = self.domain if adjoint else self.range
        if isinstance(side, Space):
            return of_kind(total(parts[""]), self, adjoint)
        return of_kind({name: total(parts[name]) for name in side}, self, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        parts: dict[str, list[Coords]] = {}
        for pair, operator in self.entries.items():
            target, source = reversed(pair) if adjoint else pair
            given = coords[source] if isinstance(coords, dict) else coords
            parts.setdefault(target, []).append(operator._carry(given, adjoint))
        side = self.domain if adjoint else self.range
        who = f"{self.name}.H" if adjoint else self.name
        carried = {name: common(given, who) for name, given in parts.items()}
        return (
            {name: carried[name] for name in side}
            if isinstance(side, Blocks)
            else (carried[""])
        )

    def _details(self) -> list[str]:
        both = isinstance(self.domain, Blocks) and isinstance(self.range, Blocks)
        return [
            f"  {row}, {column} = {part}" if both else f"  {row or column} = {part}"
            for (row, column), part in self.entries.items()
        ]


class VStack(Stack):
    """One array to several named blocks, each by an operator of its own.

    Parameters
    ----------
    operators : mapping of str to LinearOperator, or sequence
        The operator of each block; those of a sequence are named ``"0"``, ``"1"``, ….
        Each is extended by the identity over dims that only others act on. Operators
        that act on blocks themselves (an `HStack`) make the whole a `Block`.
    name : str, optional
        Names the stack in errors and in its repr.

    Raises
    ------
    DTypeError
        Where something is not an operator.
    LabelError
        Where there is no operator, one makes blocks, or labels of their domains differ.

    Notes
    -----
    The result is a ``dict`` by name. The adjoint takes a mapping (or a Dataset) and adds
    up what the blocks give; their units must add. ``units`` is a mapping by name.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(4.0), dims="time", attrs={"units": "m"})
    >>> stack = xl.VStack({"data": xl.Identity(x), "slope": xl.FirstDerivative(x.time)})
    >>> stack(x)["slope"].values
    array([0., 1., 1., 0.])
    """

    def __init__(self, operators: Row, *, name: str | None = None) -> None:
        given = _named(operators, "VStack")
        who = called(name, f"VStack({', '.join(given)})")
        super().__init__(_side_by_side(given, who, 0), who)


class HStack(Stack):
    """Several named blocks to one array: what their operators give is added up.

    Parameters
    ----------
    operators : mapping of str to LinearOperator, or sequence
        The operator of each block; those of a sequence are named ``"0"``, ``"1"``, ….
        All make the same labels. Operators that make blocks themselves (a `VStack`)
        make the whole a `Block`.
    name : str, optional
        Names the stack in errors and in its repr.

    Raises
    ------
    DTypeError
        Where something is not an operator.
    LabelError
        Where there is no operator, one acts on blocks, or what they make differs in
        labels.

    Notes
    -----
    The blocks come as a mapping or a Dataset; they may differ in dims, labels and units,
    as long as what they give adds up. The adjoint gives a ``dict`` by name.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(4.0), dims="time")
    >>> stack = xl.HStack({"level": xl.Identity(x), "slope": xl.FirstDerivative(x.time)})
    >>> (stack @ {"level": x, "slope": x}).values
    array([0., 2., 3., 3.])
    """

    def __init__(self, operators: Row, *, name: str | None = None) -> None:
        given = _named(operators, "HStack")
        who = called(name, f"HStack({', '.join(given)})")
        super().__init__(_side_by_side(given, who, 1), who)


class BlockDiag(Stack):
    """Several named blocks to blocks of the same names, each by its own operator.

    Parameters
    ----------
    operators : mapping of str to LinearOperator, or sequence
        The operator of each block; those of a sequence are named ``"0"``, ``"1"``, ….
    name : str, optional
        Names the stack in errors and in its repr.

    Raises
    ------
    DTypeError
        Where something is not an operator.
    LabelError
        Where there is no operator, or one maps blocks itself.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(4.0), dims="time")
    >>> stack = xl.BlockDiag({"p": xl.FirstDerivative(x.time), "v": 2 * xl.Identity(x)})
    >>> stack({"p": x, "v": x})["v"].values
    array([0., 2., 4., 6.])
    """

    def __init__(self, operators: Row, *, name: str | None = None) -> None:
        given = _named(operators, "BlockDiag")
        who = called(name, f"BlockDiag({', '.join(given)})")
        for key, operator in given.items():
            if isinstance(operator.domain, Blocks) or isinstance(operator.range, Blocks):
                raise LabelError(f"{who}: block {key!r} maps blocks itself; use xl.Block")
        super().__init__({(key, key): operator for key, operator in given.items()}, who)


class Block(Stack):
    """Named blocks to named blocks, by a matrix of operators.

    Parameters
    ----------
    operators : mapping of str to mapping of str to LinearOperator, or nested sequences
        By the block that is made, then by the block that goes in; blocks of sequences
        are named ``"0"``, ``"1"``, …. None, or a name that is left out, stands for an
        operator that gives nothing.
    name : str, optional
        Names the stack in errors and in its repr.

    Raises
    ------
    DTypeError
        Where something is not an operator.
    LabelError
        Where a row has no operator, one maps blocks itself, or labels differ within a
        row or a column.
    UnitError
        Where no units of the blocks would let all rows add up.

    Notes
    -----
    ``units`` is a mapping by the block that is made, then by the block that goes in.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(4.0), dims="time")
    >>> I, D = xl.Identity(x), xl.FirstDerivative(x.time)
    >>> A = xl.Block({"sum": {"a": I, "b": I}, "slope": {"b": D}})
    >>> y = A @ {"a": x, "b": x**2}
    >>> y["sum"].values, y["slope"].values
    (array([ 0.,  2.,  6., 12.]), array([0., 2., 4., 0.]))
    """

    def __init__(self, operators: Rows, *, name: str | None = None) -> None:
        rows = _by_name(operators, "Block")
        if not rows:
            raise LabelError("Block needs at least one operator")
        entries: dict[Pair, LinearOperator] = {}
        for row, given in rows.items():
            here = {
                column: operator
                for column, operator in _by_name(given, "Block").items()
                if operator is not None
            }
            for column, operator in _named(here, f"Block, row {row!r},").items():
                entries[row, column] = operator
        columns = dict.fromkeys(column for _, column in entries)
        who = called(name, f"Block({', '.join(rows)} from {', '.join(columns)})")
        for (row, column), operator in entries.items():
            if isinstance(operator.domain, Blocks) or isinstance(operator.range, Blocks):
                raise LabelError(f"{who}: entry {row!r}, {column!r} maps blocks itself")
        super().__init__(entries, who)


# --- entries --------------------------------------------------------------------------


def entries_of(operator: LinearOperator) -> dict[Pair, LinearOperator]:
    """An operator as a matrix of operators between arrays.

    Raises
    ------
    LabelError
        Where it maps blocks in a way that is no matrix of operators that are known.
    """
    operator = plain(operator)
    if isinstance(operator.domain, Space) and isinstance(operator.range, Space):
        return {("", ""): operator}
    if isinstance(operator, Stack):
        return dict(operator.entries)
    if isinstance(operator, Adjoint):
        return {(c, r): entry.H for (r, c), entry in entries_of(operator.operator).items()}
    if isinstance(operator, Conjugate):
        return {pair: part.conj() for pair, part in entries_of(operator.operator).items()}
    if isinstance(operator, Scaled):
        number, gains = operator.number, operator.gains
        return {
            pair: Scaled(entry, number, gains[pair])
            for pair, entry in entries_of(operator.operator).items()
        }
    if isinstance(operator, Product):
        result: dict[Pair, LinearOperator] = {}
        inner = entries_of(operator.inner)
        for (row, between), entry in entries_of(operator.outer).items():
            for (name, column), other in inner.items():
                if name == between:
                    part, pair = entry @ other, (row, column)
                    result[pair] = result[pair] + part if pair in result else part
        return result
    raise LabelError(f"{operator} maps blocks and is no stack of operators")


def added_by_entry(first: LinearOperator, second: LinearOperator) -> Stack:
    """The sum of two operators between the same blocks.

    Raises
    ------
    LabelError
        Where they do not have the same blocks.
    """
    who = f"{first} + {second}"
    for one, other in ((first.domain, second.domain), (first.range, second.range)):
        names = [list(s) if isinstance(s, Blocks) else None for s in (one, other)]
        if names[0] is None or names[1] is None:
            alike = names[0] is names[1]
        else:
            alike = set(names[0]) == set(names[1])
        if not alike:
            raise LabelError(
                f"{who} cannot be added: {first} maps {first.domain} to {first.range}, "
                f"{second} maps {second.domain} to {second.range}"
            )
    entries = entries_of(first)
    for pair, entry in entries_of(second).items():
        entries[pair] = entries[pair] + entry if pair in entries else entry
    return Stack(entries, who)


def _sides(
    entries: Mapping[Pair, LinearOperator], gains: Gains, name: str
) -> tuple[dict[str, Space], dict[str, Space]]:
    """Domains and ranges by block.

    Operators are extended by the identity over dims that only others act on which take
    the same block, or make the same one.
    """
    who = f"{name}: blocks"
    domain = {
        column: extended_domain([entries[row, column] for row in gains.out_of(column)], who)
        for column in gains.columns
    }
    while True:
        made = {
            (row, column): extended_range(operator, domain[column], who)
            for (row, column), operator in entries.items()
        }
        grown = False
        for row, column in entries:
            for other in gains.into(row):
                lacking = made[row, other].without(
                    [*made[row, column].dims, *domain[column].dims]
                )
                if lacking.dims:
                    kind = domain[column].kind
                    domain[column] = domain[column].union(lacking, who).of_kind(kind)
                    grown = True
        if not grown:
            break
    range_ = {
        row: joined_range(
            [(str(entries[row, c]), made[row, c]) for c in gains.into(row)],
            f"{name}, block {row!r}" if row else name,
        )
        for row in gains.rows
    }
    return domain, range_


def _in_units_that_add(
    entries: Mapping[Pair, LinearOperator], gains: Gains, who: str
) -> dict[Pair, LinearOperator]:
    """The entries, scaled where only a number is between units that have to add."""
    made, given = gains.levels
    result = {}
    for pair, operator in entries.items():
        gain, wanted = gains[pair], made[pair[0]][1] / given[pair[1]][1]
        scale = units.factor(gain, wanted) if gain.known and wanted.known else 1.0
        if scale is None:
            raise UnitError(
                f"{who}: no units of the blocks let all of them add up: {operator} "
                f"comes in {gain} of what it acts on, the others would add to {wanted}; "
                "scale one of them by a quantity"
            )
        result[pair] = operator if scale == 1.0 else Scaled(operator, scale, wanted)
    return result


def _gain(operator: LinearOperator) -> Gain:
    assert isinstance(operator.gain, Gain)
    return operator.gain


def _by_name(given: Any, who: str) -> dict[str, Any]:
    """What was given as a mapping or a sequence, by name."""
    if not isinstance(given, (Mapping, Sequence)) or isinstance(given, str):
        raise DTypeError(
            f"{who} takes a mapping by name or a sequence, got {type(given).__name__}"
        )
    if not isinstance(given, Mapping):
        given = {str(i): one for i, one in enumerate(given)}
    for key in given:
        if not isinstance(key, str):
            raise DTypeError(f"{who} names blocks by strings, got {shown(key)}")
        if not key:
            raise LabelError(f"{who}: the name of a block must not be empty")
    return dict(given)


def _named(given: Any, who: str) -> dict[str, LinearOperator]:
    """Operators by name, checked."""
    operators = _by_name(given, who)
    if not operators:
        raise LabelError(f"{who} needs at least one operator")
    for key, operator in operators.items():
        if not isinstance(operator, LinearOperator):
            raise DTypeError(
                f"{who}: block {key!r} is a {type(operator).__name__}, expected an operator"
            )
    return operators


def _side_by_side(
    given: Mapping[str, LinearOperator], who: str, side: int
) -> dict[Pair, LinearOperator]:
    """The entries of operators that make (side 0) or take (side 1) one block each."""
    entries: dict[Pair, LinearOperator] = {}
    others: dict[str, list[str]] = {}
    for name, operator in given.items():
        parts = entries_of(operator)
        if any(pair[side] for pair in parts):
            raise LabelError(
                f"{who}: block {name!r} {('makes', 'acts on')[side]} blocks itself; give "
                "each of them a name of its own"
            )
        others[name] = [pair[1 - side] for pair in parts]
        for other, entry in zip(others[name], parts.values(), strict=True):
            entries[(other, name) if side else (name, other)] = entry
    _check_alike(who, others)
    return entries


def _check_alike(who: str, others: Mapping[str, Sequence[str]]) -> None:
    """Raise where some operators map blocks on their other side, and others do not."""
    kinds = {key: any(names) for key, names in others.items()}
    first = next(iter(kinds))
    for key, named in kinds.items():
        if named != kinds[first]:
            raise LabelError(
                f"{who}: blocks {first!r} and {key!r} do not meet: one has blocks on its "
                "other side, the other one array"
            )
