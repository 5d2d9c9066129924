"""Simplification: neighbours in a product that are one operator, or none.

A rule takes two operators that stand next to each other in a product and gives what both
together are, or None. The rules of algebra stand here; what certain operators know of
each other, their modules add. A product becomes what rules make of it only where that
has the very same domain, range and units, so that nothing but the work changes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from xlops.algebra import Adjoint, Product, Scaled, factors_of, identity_on
from xlops.operator import LinearOperator
from xlops.space import Blocks, Space, by_name

__all__ = ["Rule", "rule", "simplified"]

Rule: TypeAlias = Callable[[LinearOperator, LinearOperator], LinearOperator | None]

_rules: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Decorator: products are simplified by this rule."""
    _rules.append(function)
    return function


def simplified(product: Product) -> LinearOperator:
    """The product itself, or what does the same with less work."""
    numbers, factors = _without_numbers(product.factors)
    changed = bool(numbers)
    i = 0
    while i + 1 < len(factors):
        both = _applied(factors[i], factors[i + 1])
        if both is None:
            i += 1
            continue
        numbers_of_both, new = _without_numbers(factors_of(both))
        numbers += numbers_of_both
        factors[i : i + 2] = new
        changed, i = True, max(i - 1, 0)
    if not changed:
        return product
    result = functools.reduce(Product, factors) if len(factors) > 1 else factors[0]
    number = functools.reduce(float.__mul__, numbers, 1.0)
    lost = not math.isfinite(number) or (number == 0.0 and all(numbers))
    if lost or (numbers and number == 1.0 and any(result._exact)):
        return product  # numbers out of range; or integers that became floats
    if number != 1.0 or result.gain != product.gain:
        result = Scaled(result, number, product.gain)
    same = _alike(result.domain, product.domain) and _alike(result.range, product.range)
    return result if same and result.layouts == product.layouts else product


def _alike(one: Space | Blocks, other: Space | Blocks) -> bool:
    """Whether two sides have the very same labels, in whatever order."""
    sides = by_name(one), by_name(other)
    return list(sides[0]) == list(sides[1]) and all(
        space.sizes == sides[1][name].sizes
        and space.kind == sides[1][name].kind
        and space.labels.identical(sides[1][name].labels)
        for name, space in sides[0].items()
    )


def _applied(outer: LinearOperator, inner: LinearOperator) -> LinearOperator | None:
    for one in _rules:
        both = one(outer, inner)
        if both is not None:
            return both
    return None


def _without_numbers(
    factors: Sequence[LinearOperator],
) -> tuple[list[float], list[LinearOperator]]:
    """Real numbers and the factors they scale; complex ones stay where they are."""
    numbers: list[float] = []
    plain: list[LinearOperator] = []
    for factor in factors:
        own = factor.operator if isinstance(factor, Adjoint) else factor
        if isinstance(own, Scaled) and not isinstance(own.number, complex):
            scaled = own.operator if own is factor else own.operator.H
            more, inside = _without_numbers(factors_of(scaled))
            numbers += [own.number, *more]
            plain += inside
        else:
            plain.append(factor)
    return numbers, plain


# --- rules ----------------------------------------------------------------------------


@rule
def identities_vanish(
    outer: LinearOperator, inner: LinearOperator
) -> LinearOperator | None:
    """``I @ A = A @ I = A``, unless the identity makes values complex or floating."""
    if outer.is_identity and _changes_nothing(outer, inner, inner.range):
        return inner
    if inner.is_identity and _changes_nothing(inner, outer, outer.domain):
        return outer
    return None


def _changes_nothing(
    identity: LinearOperator, other: LinearOperator, side: Space | Blocks
) -> bool:
    kinds = {space.kind for space in by_name(identity.domain).values()} - {"any"}
    of_kind = all({space.kind} >= kinds for space in by_name(side).values())
    return of_kind and (all(identity._exact) or not any(other._exact))


@rule
def unitary_operators_undo(
    outer: LinearOperator, inner: LinearOperator
) -> LinearOperator | None:
    """``U.H @ U = U @ U.H = I``."""
    if "unitary" in inner.traits and is_adjoint(outer, inner):
        return identity_on(inner.domain, exact=all(inner._exact))
    return None


def is_adjoint(outer: LinearOperator, inner: LinearOperator) -> bool:
    """Whether one of two operators is the adjoint of the other."""
    if isinstance(outer, Adjoint):
        one, other = outer.operator, inner
    elif isinstance(inner, Adjoint):
        one, other = outer, inner.operator
    else:
        return False
    return one is other or (type(one) is type(other) and one == other)
