"""Operators made of operators: adjoint, product, sum and scaling."""

from __future__ import annotations

import cmath
import contextlib
import functools
import numbers
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from xlops import engine, units
from xlops.axis import Axis
from xlops.errors import (
    AdjointError,
    ArgumentError,
    DTypeError,
    LabelError,
    UnitError,
    shown,
)
from xlops.gains import Gains
from xlops.modes import InMode, in_product, plain
from xlops.operator import Coords, LinearOperator, offered
from xlops.space import (
    Blocks,
    Kind,
    Layout,
    Space,
    by_name,
    in_words,
    overlay,
    same_values,
    sides_match,
)
from xlops.units import Gain
from xlops.windows.plan import Node, Plan, conjugate, real, total
from xlops.windows.plan import scaled as times

__all__ = ["Adjoint", "Conjugate", "Product", "Scaled", "Sum"]


# --- adjoint --------------------------------------------------------------------------


class Adjoint(LinearOperator):
    """The Euclidean adjoint of an operator."""

    _gives_back = True

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.domain, self.range = operator.range, operator.domain
        self.name = f"{bracketed(operator)}.H"
        gain = operator.gain
        self.gain = gain if isinstance(gain, Gain) else gain.transposed
        self.clinear = operator.clinear
        self.traits = operator.traits
        self.layouts = operator.layouts[::-1]
        self._exact = operator._exact[::-1]
        self.keeps_constants = (
            operator.keeps_constants is True
            and not self.traits.isdisjoint({"symmetric", "unitary"})
        )

    @property
    def H(self) -> LinearOperator:
        """The operator whose adjoint this is."""
        return self.operator

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.operator.__dict__["H"] = self  # so that A.H.H is A again

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator, however its adjoint is written."""
        operator = self.operator
        if "symmetric" in operator.traits:
            return operator.token
        if isinstance(operator, Product):
            return _token_of_product(self)
        if isinstance(operator, Sum):
            return _token_of_sum([term.H for term in operator.terms])
        if isinstance(operator, Scaled) and not isinstance(operator.number, complex):
            return _token_of_scaled(operator.operator.H, operator.number, self.gain)
        return str(tokenize("adjoint", operator.token))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        return self.operator._plan(x, not adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, not adjoint)


# --- product --------------------------------------------------------------------------


def product(outer: LinearOperator, inner: LinearOperator) -> LinearOperator:
    """``outer @ inner``: `inner` acts first.

    Raises
    ------
    LabelError
        Where what `inner` makes is not what `outer` needs.
    UnitError
        Where blocks that `outer` adds come in units that do not add.
    """
    from xlops.simplify import simplified

    made = simplified(Product(plain(outer), plain(inner)))
    return in_product(made, outer, inner)


class Product(LinearOperator):
    """Two operators, one after the other; chains are products of products."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        self.outer, self.inner = outer, inner
        factors = self.factors
        self.name = " @ ".join(bracketed(factor, sums=True) for factor in factors)
        self.domain, self.range = _composed(outer, inner)
        self.gain = _composed_gain(outer, inner)
        self.clinear = outer.clinear and inner.clinear
        # The factor that gives the result decides.
        self.layouts = (outer.layouts[0], inner.layouts[1])
        self._exact = (
            outer._exact[0] and inner._exact[0],
            outer._exact[1] and inner._exact[1],
        )
        kept = {
            row: outer.keeps(row) and all(map(inner.keeps, outer.gains.into(row)))
            for row in outer.gains.rows
        }
        self.keeps_constants = kept.get("", kept)
        self.traits = outer.traits & inner.traits & {"unitary"}
        if _is_mirrored(factors):
            middle = factors[len(factors) // 2].traits if len(factors) % 2 else None
            signs = frozenset({"symmetric", "positive"})
            self.traits |= signs if middle is None else middle & signs

    @functools.cached_property
    def factors(self) -> tuple[LinearOperator, ...]:
        """All factors, products in products opened; the last acts first."""
        return (*factors_of(self.outer), *factors_of(self.inner))

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return _token_of_product(self)

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        first, second = (self.outer, self.inner) if adjoint else (self.inner, self.outer)
        x = of_kind(x, self, not adjoint)
        return of_kind(second._plan(first._plan(x, adjoint), adjoint), self, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        first, second = (self.outer, self.inner) if adjoint else (self.inner, self.outer)
        between = first._carry(coords, adjoint)
        if not adjoint and first._gives_back and isinstance(between, Layout):
            # Auxiliary coordinates that the data have under names of its own are gone.
            own = first.range.names if isinstance(first.range, Space) else frozenset()
            gone = own.intersection(between.variables).difference(between.indexes)
            between = between.without(gone)
        return second._carry(between, adjoint)


def _token_of_product(operator: LinearOperator) -> str:
    return str(tokenize("product", [factor.token for factor in factors_of(operator)]))


def factors_of(operator: LinearOperator) -> tuple[LinearOperator, ...]:
    """The factors of a product or of its adjoint; any other operator is its only one."""
    if isinstance(operator, Product):
        return operator.factors
    if isinstance(operator, Adjoint) and isinstance(operator.operator, Product):
        return tuple(factor.H for factor in reversed(operator.operator.factors))
    return (operator,)


def _is_mirrored(factors: Sequence[LinearOperator]) -> bool:
    """Whether a chain reads ``A.H … B.H @ B … A``, or has one more in the middle."""
    halves = zip(factors[: len(factors) // 2], reversed(factors), strict=False)
    with contextlib.suppress(AdjointError):
        # Of one type first: large weights take time to name.
        return all(_type(one) is _type(other) and one == other.H for one, other in halves)
    return False


def _type(operator: LinearOperator) -> type[LinearOperator]:
    """What an operator is, or what it is the adjoint of."""
    return type(operator.operator if isinstance(operator, Adjoint) else operator)


def _composed(
    outer: LinearOperator, inner: LinearOperator
) -> tuple[Space | Blocks, Space | Blocks]:
    """Domain and range of a product, after checking that the factors meet."""
    who = f"{outer} @ {inner}"
    made, needed = inner.range, outer.domain
    if set(by_name(made)) != set(by_name(needed)):
        raise LabelError(
            f"{who} do not meet: {inner} makes {in_words(made)}, {outer} needs "
            f"{in_words(needed)}"
        )
    # Blocks or not, all sides are looked at as blocks by name; one array has none.
    makes, needs = by_name(made), by_name(needed)
    for name, space in needs.items():
        here = f"{who}, block {name!r}" if name else who
        _check_meet(makes[name], space, name, inner, outer, here)
    domains, ranges = by_name(inner.domain), by_name(outer.range)
    back = _each(inner._carry(_labels(needed), adjoint=True), domains)
    on = _each(outer._carry(_labels(made), adjoint=False), ranges)
    before, after = _passing(outer, inner, who)
    domain = {
        column: _joined(
            space,
            before[inner.gains.levels[1][column][0]],
            overlay(space.layout, back[column]),
            _one_kind(needs[name] for name in inner.gains.out_of(column)),
        )
        for column, space in domains.items()
    }
    range_ = {
        row: _joined(
            space,
            after[outer.gains.levels[0][row][0]],
            space.relabeled(on[row]),
            _one_kind(makes[name] for name in outer.gains.into(row)),
        )
        for row, space in ranges.items()
    }
    return (
        Blocks(domain) if isinstance(inner.domain, Blocks) else domain[""],
        Blocks(range_) if isinstance(outer.range, Blocks) else range_[""],
    )


def _passing(
    outer: LinearOperator, inner: LinearOperator, who: str
) -> tuple[dict[str, Space], dict[str, Space]]:
    """What passes through the inner and the outer factor of a product.

    That is what only the other one knows, and what passes through it in turn. It is
    the same for all blocks that belong together, and given by the first of them.
    """
    made, given = inner.gains.levels[0], outer.gains.levels[1]
    makes, needs = by_name(inner.range), by_name(outer.domain)
    through = (
        {origin: Space({}) for origin, _ in made.values()},
        {origin: Space({}) for origin, _ in given.values()},
    )
    grown = True
    while grown:
        grown = False
        for name in needs:
            near = makes[name], through[0], made[name][0]
            far = needs[name], through[1], given[name][0]
            for (own, passing, origin), (other, on, start) in ((near, far), (far, near)):
                whole = other.union(on[start])
                lacking = whole.without([*own.dims, *passing[origin].dims])
                if lacking.dims:
                    passing[origin] = passing[origin].union(lacking, who)
                    grown = True
    for operator, passing in ((inner, through[0]), (outer, through[1])):
        made, given = operator.gains.levels
        for side, levels in ((operator.range, made), (operator.domain, given)):
            for name, space in by_name(side).items():
                twice = [dim for dim in passing[levels[name][0]].dims if dim in space]
                if twice:
                    raise LabelError(
                        f"{who} do not meet: dim {str(twice[0])!r} would pass through "
                        f"{operator}, which knows it in block {name!r}"
                    )
    return through


def _one_kind(spaces: Iterable[Space]) -> Kind:
    kinds = {space.kind for space in spaces} - {"any"}
    return kinds.pop() if len(kinds) == 1 else "any"


def _labels(side: Space | Blocks) -> Coords:
    if isinstance(side, Blocks):
        return {name: space.layout for name, space in side.items()}
    return side.layout


def _check_meet(
    made: Space,
    needed: Space,
    name: str,
    inner: LinearOperator,
    outer: LinearOperator,
    who: str,
) -> None:
    """Raise unless what `inner` makes of a block is what `outer` needs."""
    for dim in needed.dims:
        if dim in made:
            reason = needed.axis(dim).difference(made.axis(dim))
            if reason is None:
                continue
            if made.axis(dim).labels is None and needed.axis(dim).size == made.sizes[dim]:
                # `inner` was built without labels; does it keep those it is given?
                kept = inner._carry(needed.layout, adjoint=True)
                if all(dim in part.variables for part in _each(kept, {"": None}).values()):
                    continue
            raise LabelError(f"{who} do not meet: {outer} needs {needed}, but {reason}")
        given = by_name(inner.domain)
        if any(dim in given[column] for column in inner.gains.into(name)):
            raise LabelError(
                f"{who} do not meet: {outer} needs dim {str(dim)!r}, which {inner} has "
                f"consumed (it makes {made}); change the order of the two, or rename "
                "the dim"
            )
    for row in outer.gains.out_of(name):
        dims = by_name(outer.range)[row].dims
        twice = [dim for dim in dims if dim in made and dim not in needed]
        if twice:
            raise LabelError(
                f"{who} do not meet: {outer} makes dim {str(twice[0])!r}, which is "
                f"there already ({inner} makes {made}); rename one of the two"
            )
    if made.kind == "complex" and needed.kind == "real":
        raise LabelError(
            f"{who} do not meet: {inner} makes complex values, {outer} needs real ones"
        )


def _each(value: Any, names: Any) -> dict[str, Any]:
    """A value by block, the same for all where it is one value."""
    return value if isinstance(value, dict) else dict.fromkeys(names, value)


def _joined(space: Space, passing: Space, labels: Layout, other: Kind) -> Space:
    """A side of a product: its own dims, then what passes through."""
    sizes = {**space.sizes, **passing.sizes}
    outside = [n for n, v in labels.variables.items() if not set(sizes) >= set(v.dims)]
    kind = other if space.kind == "any" else space.kind
    return Space(sizes, labels.without(outside).dataset(), kind)


def _composed_gain(outer: LinearOperator, inner: LinearOperator) -> Gain | Gains:
    if isinstance(outer.gain, Gain) and isinstance(inner.gain, Gain):
        return outer.gain * inner.gain
    composed = outer.gains.after(inner.gains, f"{outer} @ {inner}")
    return composed.get(("", ""), composed)


def of_kind(x: Plan, operator: LinearOperator, adjoint: bool) -> Plan:
    """What makes members of a side of an operator: the real part where they are real.

    Results belong to the range (of the adjoint: to the domain); what goes in, to the
    other side. Inside of a sum it may be complex all the same.
    """
    side = operator.domain if adjoint else operator.range
    if isinstance(x, dict):
        spaces = by_name(side)
        return {
            name: real(node) if spaces[name].kind == "real" else node
            for name, node in x.items()
        }
    assert isinstance(side, Space)
    return real(x) if side.kind == "real" else x


# --- sum ------------------------------------------------------------------------------


def added(first: LinearOperator, second: LinearOperator) -> LinearOperator:
    """``first + second``, each extended by the identity over the dims it lacks.

    Raises
    ------
    LabelError
        Where domains or ranges differ.
    UnitError
        Where units do not add.
    """
    terms = [
        term
        for side in map(plain, (first, second))
        for term in (side.terms if type(side) is Sum else (side,))
    ]
    if any(isinstance(side, Blocks) for t in terms for side in (t.domain, t.range)):
        from xlops.stack import added_by_entry

        return added_by_entry(first, second)
    return Sum(terms)


class Sum(LinearOperator):
    """The sum of operators that share a domain and a range."""

    domain: Space
    range: Space
    gain: Gain

    def __init__(self, terms: Sequence[LinearOperator], name: str | None = None) -> None:
        who = name or " + ".join(str(term) for term in terms)
        known = next((t for t in terms if t.gain != units.NONE), terms[0])
        self.terms = tuple(_in_unit(term, known) for term in terms)
        unknown = any(term.gain == units.NONE for term in terms)
        first = self.terms[0].gain
        assert isinstance(first, Gain)
        self.gain = units.NONE if unknown else first
        self.domain = extended_domain(self.terms, who)
        self.range = joined_range(
            [(str(t), extended_range(t, self.domain, who)) for t in self.terms], who
        )
        self.name = name or " + ".join(map(str, self.terms)).replace("+ -", "- ")
        self.clinear = all(t.clinear for t in terms) and self.domain.kind != "real"
        if len(terms) == 1:
            self._exact = terms[0]._exact
        shared = frozenset({"symmetric", "positive"})
        self.traits = shared.intersection(*(term.traits for term in terms))

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return _token_of_sum(self.terms)

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        x = of_kind(x, self, not adjoint)
        return of_kind(summed(t._plan(x, adjoint) for t in self.terms), self, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        parts = [term._carry(coords, adjoint) for term in self.terms]
        return common(parts, self.name)


def joined_range(made: Sequence[tuple[str, Space]], who: str) -> Space:
    """The space of a sum, from what each term, given with its name, makes.

    Raises
    ------
    LabelError
        Where terms make other dims or other labels.
    """
    (first, joined), *others = made
    unsure: set[Hashable] = set()
    for term, space in others:
        if set(space.dims) != set(joined.dims):
            raise LabelError(
                f"{who} cannot be added: {first} makes {joined}, {term} makes {space}"
            )
        kinds = {joined.kind, space.kind}
        mixed: Kind = "complex" if "complex" in kinds else "any"
        kind = space.kind if len(kinds) == 1 else mixed
        both = joined.union(space, f"{who} cannot be added").of_kind(kind)
        labels = common([space.layout, joined.layout], who)
        # Auxiliary coordinates that differ are true of neither.
        shared = space.names & joined.names
        unsure |= shared - set(labels.variables) - set(both.layout.indexes)
        joined = both
    known = joined.labels.drop_vars(unsure)
    return Space(joined.sizes, known, joined.kind) if unsure else joined


def _token_of_sum(terms: Iterable[LinearOperator]) -> str:
    return str(tokenize("sum", [term.token for term in terms]))


def summed(parts: Iterable[Plan]) -> Node:
    """The sum of what makes single arrays."""
    return total([part for part in parts if isinstance(part, Node)])


def _in_unit(term: LinearOperator, first: LinearOperator) -> LinearOperator:
    """A term scaled to the unit of the first."""
    own, gain = term.gain, first.gain
    assert isinstance(own, Gain) and isinstance(gain, Gain)
    if not own.known or own == gain:
        return term
    factor = units.factor(own, gain)
    if factor is None:
        raise UnitError(
            f"{first} + {term} cannot be added: their units are {gain} and {own}; scale "
            "one of them by a quantity"
        )
    return Scaled(term, factor, gain)


def extended_domain(operators: Sequence[LinearOperator], who: str) -> Space:
    """The domain of operators side by side: all dims that one of them needs."""
    domain: Space | None = None
    for operator in operators:
        assert isinstance(operator.domain, Space)
        if domain is None:
            domain = operator.domain
            continue
        kind = _meet(domain.kind, operator.domain.kind)
        domain = domain.union(operator.domain, f"{who} do not meet").of_kind(kind)
    assert domain is not None
    return domain


def _meet(first: Kind, second: Kind) -> Kind:
    """The values that both operators take."""
    if "real" in (first, second):
        return "real"
    return "complex" if "complex" in (first, second) else "any"


def extended_range(operator: LinearOperator, domain: Space, who: str) -> Space:
    """The range of an operator on a larger domain: the other dims pass through."""
    own, made = operator.domain, operator.range
    assert isinstance(own, Space) and isinstance(made, Space)
    passing = domain.without(own.dims)
    twice = [dim for dim in passing.dims if dim in made]
    if twice:
        raise LabelError(
            f"{who} do not meet: {operator} makes dim {str(twice[0])!r}, which is there "
            "already"
        )
    coords = operator._carry(domain.layout, adjoint=False)
    assert isinstance(coords, Layout)
    return _joined(made, passing, made.relabeled(coords), domain.kind)


def common(parts: Sequence[Coords], who: str) -> Layout:
    """The coordinates that all parts have kept, with the same values.

    Raises
    ------
    LabelError
        Where a dim is labeled differently: what is added has other labels.
    """
    first, *others = [part for part in parts if isinstance(part, Layout)]
    if not others:
        return first
    dims, gone = first.dims, []
    for name, variable in first.variables.items():
        given = [o.variables[name] for o in others if name in o.variables]
        if name in dims:
            axis = Axis(name, variable.size, variable)
            for other in given:
                reason = axis.difference(Axis(name, other.size, other))
                if reason is not None:
                    raise LabelError(f"{who} adds what has other labels: {reason}")
        elif not all(same_values(other, variable) for other in given):
            gone.append(name)
        if len(given) < len(others):
            gone.append(name)
    return first.without(gone)


# --- conjugate ------------------------------------------------------------------------


class Conjugate(LinearOperator):
    """An operator with the conjugate matrix: x goes to the conjugate of A x̄."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.domain, self.range = operator.domain, operator.range
        self._take_after(operator)
        self.name = f"{bracketed(operator)}.conj()"

    def conj(self) -> LinearOperator:
        """The operator whose conjugate this is."""
        return self.operator

    @functools.cached_property
    def H(self) -> LinearOperator:
        """The adjoint: the conjugate of the operator's own."""
        adjoint = Conjugate(self.operator.H)
        adjoint.__dict__["H"] = self
        return adjoint

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return str(tokenize("conjugate", self.operator.token))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        return _each_conjugate(self.operator._plan(_each_conjugate(x), adjoint))

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, adjoint)


def _each_conjugate(x: Plan) -> Plan:
    if isinstance(x, dict):
        return {name: conjugate(node) for name, node in x.items()}
    return conjugate(x)


# --- scaling --------------------------------------------------------------------------


def is_scalar(value: object) -> bool:
    """Whether an operator can be multiplied by this: a number, or a quantity of one."""
    number = _number_and_unit(value)[0]
    if isinstance(number, (numbers.Number, np.generic)):
        return True
    return isinstance(number, np.ndarray) and number.ndim == 0


def _number_and_unit(value: Any) -> tuple[Any, Gain | None]:
    """A scalar and its unit: a number, a quantity, or a DataArray without dims."""
    if not isinstance(value, xr.DataArray):
        return units.split(value)
    if value.ndim or engine.is_lazy(value.data):
        return value, None
    number, gain = units.split(value.data)
    text = value.attrs.get("units")
    return number, Gain.of(text) if gain is None and isinstance(text, str) else gain


def scaled(value: Any, operator: LinearOperator, power: int = 1) -> LinearOperator:
    """``value**power * operator`` for a number or a quantity; the power is 1 or -1.

    Raises
    ------
    ArgumentError
        Where the number is not finite.
    ZeroDivisionError
        Where one over zero is asked for.
    """
    if isinstance(operator, InMode):
        result = scaled(value, operator.operator, power)
        return InMode(result, operator.computes, operator.chunks)
    given_number, given = _number_and_unit(value)
    try:
        is_complex = np.iscomplexobj(given_number)
        number = complex(given_number) if is_complex else float(given_number)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(
            f"{operator} cannot be scaled by {shown(given_number)}"
        ) from error
    number = number if power == 1 else 1 / number
    gain = operator.gain
    if given is None:
        return Scaled(operator, number)
    given = given**power
    if isinstance(gain, Gains):
        return Scaled(operator, number, gain.map(lambda one: one * given))
    factor, reduced = units.reduced(gain * given)
    return Scaled(operator, number * factor, reduced)


class Scaled(LinearOperator):
    """An operator times a number, which may carry units."""

    def __init__(
        self, operator: LinearOperator, number: complex, gain: Gain | Gains | None = None
    ) -> None:
        self.gain = operator.gain if gain is None else gain
        if isinstance(operator, Scaled):  # numbers merge
            number *= operator.number
            operator = operator.operator
        if not cmath.isfinite(number):
            raise ArgumentError(f"{operator} cannot be scaled by {number}")
        self.operator: LinearOperator = operator
        self.number: complex = number
        if number == 1.0 and not isinstance(number, complex):
            self._exact = operator._exact
        self.domain, self.range = operator.domain, operator.range
        self.clinear = operator.clinear
        self.layouts = operator.layouts
        self.traits = operator.traits - {"unitary"}
        if isinstance(number, complex):
            self.domain, self.range = _complex(self.domain), _complex(self.range, True)
            self.traits -= {"symmetric", "positive"}
        elif number < 0:
            self.traits -= {"positive"}
        self.name = f"{_short(number)}{bracketed(operator, sums=True)}"

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return _token_of_scaled(self.operator, self.number, self.gain)

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        # The adjoint multiplies first: a complex number does not move past an
        # operator that is only real-linear. Real numbers move into the last step.
        if adjoint and isinstance(self.number, complex):
            return self.operator._plan(_each_times(self.number.conjugate(), x), True)
        return _each_times(self.number, self.operator._plan(x, adjoint))

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, adjoint)


def _token_of_scaled(operator: LinearOperator, number: complex, gain: Gain | Gains) -> str:
    return str(tokenize("scaled", operator.token, number, gain))


def _each_times(number: complex, x: Plan) -> Plan:
    if isinstance(x, dict):
        return {name: times(number, node) for name, node in x.items()}
    return times(number, x)


def _complex(side: Space | Blocks, real_too: bool = False) -> Any:
    """A side whose values have become complex."""
    if isinstance(side, Blocks):
        return Blocks({name: _complex(s, real_too) for name, s in side.items()})
    if side.kind == "any" or real_too:
        return side.of_kind("complex")
    return side


def _short(number: complex) -> str:
    if abs(number) == 1 and not isinstance(number, complex):
        return "-" if number < 0 else ""
    text = f"{number:.6g}"
    return f"({text}) * " if isinstance(number, complex) else f"{text} * "


def raised(operator: LinearOperator, power: Any) -> LinearOperator:
    """``operator ** power`` for whole powers from 0 on.

    Raises
    ------
    DTypeError
        Where the power is not a whole number from 0 on.
    LabelError
        Where the operator does not map its domain to itself.
    """
    if not isinstance(power, (int, np.integer)) or isinstance(power, bool) or power < 0:
        raise DTypeError(
            f"{operator}: a power must be a whole number from 0 on, got {shown(power)}"
        )
    domain, range_ = operator.domain, operator.range
    if not sides_match(domain, range_):
        raise LabelError(
            f"{operator} has no powers: it maps {domain} to {range_}, not to itself"
        )
    if power == 0:
        return identity_on(domain)
    result = operator
    for _ in range(int(power) - 1):
        result = product(result, operator)
    return result


def identity_on(side: Space | Blocks, exact: bool = True) -> LinearOperator:
    """The identity on one array or on blocks; unless `exact`, integers become floats."""
    make = offered("identity")
    if isinstance(side, Space):
        result: LinearOperator = make(side, exact)
        return result
    from xlops.stack import BlockDiag

    return BlockDiag({name: make(space, exact) for name, space in side.items()})


def bracketed(operator: LinearOperator, sums: bool = False) -> str:
    """The name of an operator as part of a longer one."""
    composed = (Sum,) if sums else (Sum, Product, Scaled)
    # Subclasses have names of their own.
    return f"({operator})" if type(operator) in composed else str(operator)
