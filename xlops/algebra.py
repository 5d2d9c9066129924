"""Operators made of operators: adjoint, product, sum and scaling."""

from __future__ import annotations

import contextlib
import functools
import math
import numbers
from collections.abc import Iterable, Sequence
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
    listed,
    shown,
)
from xlops.modes import InMode, in_product, plain
from xlops.operator import Coords, Gains, LinearOperator, offered
from xlops.space import Blocks, Kind, Space, overlaid, same_values
from xlops.units import Gain
from xlops.windows.plan import Node, Plan, real, total
from xlops.windows.plan import scaled as times

__all__ = ["Adjoint", "Product", "Scaled", "Sum"]


# --- adjoint --------------------------------------------------------------------------


class Adjoint(LinearOperator):
    """The Euclidean adjoint of an operator."""

    _gives_back = True

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.domain, self.range = operator.range, operator.domain
        self.name = f"{bracketed(operator)}.H"
        self.gain = operator.gain
        self.clinear = operator.clinear
        self.traits = operator.traits
        self.layouts = operator.layouts[::-1]
        self.keeps_constants = (
            operator.keeps_constants is True and "symmetric" in self.traits
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
        """A name for exactly this operator."""
        return str(tokenize("adjoint", self.operator.token))

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
    return in_product(Product(plain(outer), plain(inner)), outer, inner)


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
        kept, keeps = inner.keeps_constants is True, outer.keeps_constants
        self.keeps_constants = (
            {name: kept and own for name, own in keeps.items()}
            if isinstance(keeps, dict)
            else kept and keeps
        )
        self.traits = outer.traits & inner.traits & {"unitary"}
        if _is_mirrored(factors):
            self.traits |= {"symmetric", "positive"}

    @functools.cached_property
    def factors(self) -> tuple[LinearOperator, ...]:
        """All factors, products in products opened; the last acts first."""
        return (*_factors(self.outer), *_factors(self.inner))

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return str(tokenize("product", [factor.token for factor in self.factors]))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        first, second = (self.outer, self.inner) if adjoint else (self.inner, self.outer)
        x = of_kind(x, self, not adjoint)
        return of_kind(second._plan(first._plan(x, adjoint), adjoint), self, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        first, second = (self.outer, self.inner) if adjoint else (self.inner, self.outer)
        between = first._carry(coords, adjoint)
        if not adjoint and first._gives_back and isinstance(between, xr.Dataset):
            # Auxiliary coordinates that the data have under names of its own are gone.
            own = first.range.names if isinstance(first.range, Space) else frozenset()
            gone = own.intersection(between.variables).difference(between.xindexes)
            between = between.drop_vars(gone)
        return second._carry(between, adjoint)


def _factors(operator: LinearOperator) -> tuple[LinearOperator, ...]:
    if isinstance(operator, Product):
        return operator.factors
    if isinstance(operator, Adjoint) and isinstance(operator.operator, Product):
        return tuple(factor.H for factor in reversed(operator.operator.factors))
    return (operator,)


def _is_mirrored(factors: Sequence[LinearOperator]) -> bool:
    """Whether a chain reads ``A.H … B.H @ B … A``."""
    half, odd = divmod(len(factors), 2)
    with contextlib.suppress(AdjointError):
        return not odd and all(
            factors[half - 1 - i] == factors[half + i].H for i in range(half)
        )
    return False


def _composed(
    outer: LinearOperator, inner: LinearOperator
) -> tuple[Space | Blocks, Space | Blocks]:
    """Domain and range of a product, after checking that the factors meet."""
    who = f"{outer} @ {inner}"
    made, needed = inner.range, outer.domain
    if isinstance(made, Blocks) or isinstance(needed, Blocks):
        return _composed_at_blocks(outer, inner, who)
    if isinstance(inner.domain, Blocks) and isinstance(outer.range, Blocks):
        raise LabelError(
            f"{who} would map blocks to blocks through one array; apply the two one "
            "after the other"
        )
    domains = inner.domain if isinstance(inner.domain, Blocks) else {"": inner.domain}
    ranges = outer.range if isinstance(outer.range, Blocks) else {"": outer.range}
    _check_meet(made, needed, inner, outer, who)
    domain = {}
    ends = _each(inner._carry(needed.labels, adjoint=True), domains)
    for name, space in domains.items():
        passing = needed.without([*made.dims, *space.dims])
        labels = overlaid(space.labels, ends[name])
        domain[name] = _joined(space, passing, labels, needed.kind)
    range_ = {}
    ends = _each(outer._carry(made.labels, adjoint=False), ranges)
    for name, space in ranges.items():
        passing = made.without([*needed.dims, *space.dims])
        labels = space.relabeled(ends[name])
        range_[name] = _joined(space, passing, labels, made.kind)
    return (
        Blocks(domain) if isinstance(inner.domain, Blocks) else domain[""],
        Blocks(range_) if isinstance(outer.range, Blocks) else range_[""],
    )


def _composed_at_blocks(
    outer: LinearOperator, inner: LinearOperator, who: str
) -> tuple[Space | Blocks, Space | Blocks]:
    made, needed = inner.range, outer.domain
    if not (isinstance(made, Blocks) and isinstance(needed, Blocks)):
        raise LabelError(
            f"{who} do not meet: {inner} makes {_what(made)}, {outer} needs {_what(needed)}"
        )
    if set(made) != set(needed):
        raise LabelError(
            f"{who} do not meet: {inner} makes {_what(made)}, {outer} needs {_what(needed)}"
        )
    assert isinstance(inner.domain, Space) and isinstance(outer.range, Space)
    back = inner._carry({name: space.labels for name, space in needed.items()}, True)
    on = outer._carry({name: space.labels for name, space in made.items()}, False)
    assert isinstance(back, xr.Dataset) and isinstance(on, xr.Dataset)
    nothing = Space({})
    kinds = {space.kind for space in (*made.values(), *needed.values())} - {"any"}
    kind: Kind = kinds.pop() if len(kinds) == 1 else "any"
    domain = _joined(inner.domain, nothing, overlaid(inner.domain.labels, back), kind)
    range_ = _joined(outer.range, nothing, outer.range.relabeled(on), kind)
    passing = {}
    for name, space in needed.items():
        _check_meet(made[name], space, inner, outer, f"{who}, block {name!r}")
        through = space.without(made[name].dims), made[name].without(space.dims)
        domain = domain.union(through[0], who)
        range_ = range_.union(through[1], who)
        passing[name] = {*through[0].dims, *through[1].dims}
    first = next(iter(passing))
    for name, dims in passing.items():
        if dims != passing[first]:
            raise LabelError(
                f"{who} do not meet: {listed(passing[first])} would pass through block "
                f"{first!r}, {listed(dims)} through block {name!r}"
            )
    return domain, range_


def _what(side: Space | Blocks) -> str:
    return (
        f"blocks {', '.join(side)}" if isinstance(side, Blocks) else f"one array ({side})"
    )


def _check_meet(
    made: Space, needed: Space, inner: LinearOperator, outer: LinearOperator, who: str
) -> None:
    """Raise unless what `inner` makes is what `outer` needs."""
    for dim in needed.dims:
        if dim in made:
            reason = needed.axis(dim).difference(made.axis(dim))
            if reason is None:
                continue
            if made.axis(dim).labels is None and needed.axis(dim).size == made.sizes[dim]:
                # `inner` was built without labels; does it keep those it is given?
                kept = inner._carry(needed.labels, adjoint=True)
                if all(dim in ds.coords for ds in _each(kept, {"": None}).values()):
                    continue
            raise LabelError(f"{who} do not meet: {outer} needs {needed}, but {reason}")
        consumed = any(dim in space for space in _spaces(inner.domain))
        if consumed:
            raise LabelError(
                f"{who} do not meet: {outer} needs dim {str(dim)!r}, which {inner} has "
                f"consumed (it makes {made}); change the order of the two, or rename "
                "the dim"
            )
    for space in _spaces(outer.range):
        twice = [dim for dim in space.dims if dim in made and dim not in needed]
        if twice:
            raise LabelError(
                f"{who} do not meet: {outer} makes dim {str(twice[0])!r}, which is "
                f"there already ({inner} makes {made}); rename one of the two"
            )
    if made.kind == "complex" and needed.kind == "real":
        raise LabelError(
            f"{who} do not meet: {inner} makes complex values, {outer} needs real ones"
        )


def _spaces(side: Space | Blocks) -> list[Space]:
    return list(side.values()) if isinstance(side, Blocks) else [side]


def _each(value: Any, names: Any) -> dict[str, Any]:
    """A value by block, the same for all where it is one value."""
    return value if isinstance(value, dict) else dict.fromkeys(names, value)


def _joined(space: Space, passing: Space, labels: xr.Dataset, other: Kind) -> Space:
    """A side of a product: its own dims, then what passes through."""
    sizes = {**space.sizes, **passing.sizes}
    outside = [n for n, v in labels.variables.items() if not set(sizes) >= set(v.dims)]
    kind = other if space.kind == "any" else space.kind
    return Space(sizes, labels.drop_vars(outside), kind)


def _composed_gain(outer: LinearOperator, inner: LinearOperator) -> Gains:
    one, two = outer.gain, inner.gain
    if isinstance(one, dict) and isinstance(two, dict):
        # Blocks are made and added up again: they must come in one unit.
        totals = {name: one[name] * two[name] for name in one}
        first = next(iter(totals))
        for name, total in totals.items():
            if not total.known or not totals[first].known:
                return units.NONE
            if units.factor(total, totals[first]) != 1.0:
                raise UnitError(
                    f"{outer} @ {inner} adds blocks whose units do not add: block "
                    f"{first!r} comes in {totals[first]}, block {name!r} in {total}; "
                    "scale one of them by a quantity"
                )
        return totals[first]
    if isinstance(one, dict):
        return {name: gain * two for name, gain in one.items()}
    if isinstance(two, dict):
        return {name: one * gain for name, gain in two.items()}
    return one * two


def of_kind(x: Plan, operator: LinearOperator, adjoint: bool) -> Plan:
    """What makes members of a side of an operator: the real part where they are real.

    Results belong to the range (of the adjoint: to the domain); what goes in, to the
    other side. Inside of a sum it may be complex all the same.
    """
    side = operator.domain if adjoint else operator.range
    if isinstance(side, Blocks):
        assert isinstance(x, dict)
        return {
            name: real(node) if side[name].kind == "real" else node
            for name, node in x.items()
        }
    assert isinstance(x, Node)
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
        for term in (side.terms if isinstance(side, Sum) else (side,))
    ]
    return Sum(terms)


class Sum(LinearOperator):
    """The sum of operators that share a domain and a range."""

    domain: Space
    range: Space
    gain: Gain

    def __init__(self, terms: Sequence[LinearOperator]) -> None:
        who = " + ".join(str(term) for term in terms)
        if any(isinstance(s, Blocks) for t in terms for s in (t.domain, t.range)):
            raise LabelError(f"{who}: stacks do not add; add their blocks instead")
        known = next((t for t in terms if t.gain != units.NONE), terms[0])
        self.terms = tuple(_in_unit(term, known) for term in terms)
        unknown = any(term.gain == units.NONE for term in terms)
        first = self.terms[0].gain
        self.gain = units.NONE if unknown or isinstance(first, dict) else first
        self.domain = extended_domain(self.terms, who)
        self.range = self._joined_range(who)
        self.name = " + ".join(str(term) for term in self.terms).replace("+ -", "- ")
        self.clinear = all(t.clinear for t in terms) and self.domain.kind != "real"
        shared = frozenset({"symmetric", "positive"})
        self.traits = shared.intersection(*(term.traits for term in terms))

    def _joined_range(self, who: str) -> Space:
        joined: Space | None = None
        for term in self.terms:
            assert isinstance(term.domain, Space) and isinstance(term.range, Space)
            made = extended_range(term, self.domain, who)
            if joined is None:
                joined, first = made, term
                continue
            if set(made.dims) != set(joined.dims):
                raise LabelError(
                    f"{who} cannot be added: {first} makes {joined}, {term} makes {made}"
                )
            kind: Kind = "complex" if "complex" in (joined.kind, made.kind) else made.kind
            both = joined.union(made, f"{who} cannot be added").of_kind(kind)
            labels = common([made.labels, joined.labels], who)
            # Auxiliary coordinates that differ are true of neither.
            shared = set(made.labels.variables) & set(joined.labels.variables)
            unsure = shared - set(labels.variables) - set(both.labels.xindexes)
            joined = Space(both.sizes, both.labels.drop_vars(unsure), kind)
        assert joined is not None
        return joined

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return str(tokenize("sum", [term.token for term in self.terms]))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        x = of_kind(x, self, not adjoint)
        return of_kind(summed(t._plan(x, adjoint) for t in self.terms), self, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        parts = [term._carry(coords, adjoint) for term in self.terms]
        return common(parts, self.name)


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
    coords = operator._carry(domain.labels, adjoint=False)
    assert isinstance(coords, xr.Dataset)
    return _joined(made, passing, made.relabeled(coords), domain.kind)


def common(parts: Sequence[Coords], who: str) -> xr.Dataset:
    """The coordinates that all parts have kept, with the same values.

    Raises
    ------
    LabelError
        Where a dim is labeled differently: what is added has other labels.
    """
    first, *others = [part for part in parts if isinstance(part, xr.Dataset)]
    gone = []
    for name, variable in first.variables.items():
        given = [other[name].variable for other in others if name in other.variables]
        if name in first.dims:
            axis = Axis(name, variable.size, variable)
            for other in given:
                reason = axis.difference(Axis(name, other.size, other))
                if reason is not None:
                    raise LabelError(f"{who} adds what has other labels: {reason}")
        elif not all(same_values(other, variable) for other in given):
            gone.append(name)
        if len(given) < len(others):
            gone.append(name)
    return first.drop_vars(gone)


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


def scaled(value: Any, operator: LinearOperator) -> LinearOperator:
    """``value * operator`` for a number or a quantity.

    Raises
    ------
    ArgumentError
        Where the number is not finite.
    """
    if isinstance(operator, InMode):
        result = scaled(value, operator.operator)
        return InMode(result, operator.computes, operator.chunks)
    given_number, given = _number_and_unit(value)
    try:
        is_complex = np.iscomplexobj(given_number)
        number = complex(given_number) if is_complex else float(given_number)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(
            f"{operator} cannot be scaled by {shown(given_number)}"
        ) from error
    gain = operator.gain
    if given is None:
        return Scaled(operator, number)
    if isinstance(gain, dict):
        return Scaled(operator, number, {n: g * given for n, g in gain.items()})
    factor, reduced = units.reduced(gain * given)
    return Scaled(operator, number * factor, reduced)


class Scaled(LinearOperator):
    """An operator times a number, which may carry units."""

    def __init__(
        self, operator: LinearOperator, number: complex, gain: Gains | None = None
    ) -> None:
        finite = math.isfinite(number.real) and math.isfinite(number.imag)
        if not finite:
            raise ArgumentError(f"{operator} cannot be scaled by {number}")
        self.gain = operator.gain if gain is None else gain
        self.operator: LinearOperator = operator
        self.number: complex = number
        if isinstance(operator, Scaled):  # numbers merge
            self.operator, self.number = operator.operator, operator.number * number
            operator, number = self.operator, self.number
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
        return str(tokenize("scaled", self.operator.token, self.number, self.gain))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        # The adjoint multiplies first: a complex number does not move past an
        # operator that is only real-linear. Real numbers move into the last step.
        if adjoint and isinstance(self.number, complex):
            return self.operator._plan(_each_times(self.number.conjugate(), x), True)
        return _each_times(self.number, self.operator._plan(x, adjoint))

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, adjoint)


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
    if isinstance(domain, Blocks) or isinstance(range_, Blocks):
        raise LabelError(f"{operator} has no powers: it maps blocks")
    if not domain.matches(range_):
        raise LabelError(
            f"{operator} has no powers: it maps {domain} to {range_}, not to itself"
        )
    if power == 0:
        identity: LinearOperator = offered("identity")(domain)
        return identity
    result = operator
    for _ in range(int(power) - 1):
        result = product(result, operator)
    return result


def bracketed(operator: LinearOperator, sums: bool = False) -> str:
    """The name of an operator as part of a longer one."""
    composed = (Sum,) if sums else (Sum, Product, Scaled)
    # Subclasses have names of their own.
    return f"({operator})" if type(operator) in composed else str(operator)
