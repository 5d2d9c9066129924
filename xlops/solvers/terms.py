"""Several misfits as one: the stack of an operator and its regularizations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xlops import units
from xlops.algebra import Scaled
from xlops.errors import DTypeError, LabelError, UnitError, shown
from xlops.gains import Gains
from xlops.operator import LinearOperator
from xlops.solvers.driver import zero_model
from xlops.solvers.keywords import Common
from xlops.solvers.weighting import root, weighted
from xlops.space import Blocks
from xlops.stack import VStack

__all__ = ["Stacked", "check_operator", "stacked"]

# Names of blocks that have a meaning of their own.
DATA, MODEL = "data", "model"


class Stacked(NamedTuple):
    """A stack and its data; least squares over them is the problem that was meant.

    `common` are the keywords that its solver takes.
    """

    operator: LinearOperator
    data: dict[str, Any]
    common: Common


def check_operator(A: Any, who: str) -> None:
    """Raise unless A is an operator that makes one array."""
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{who} solves for an operator, got {type(A).__name__}")
    if isinstance(A.range, Blocks):
        raise LabelError(f"{who}: {A} makes blocks; stack it with VStack and solve that")


def stacked(
    A: LinearOperator,
    y: Any,
    regularizations: Any,
    data_weights: Any,
    model_weights: Any,
    common: Common,
    who: str,
) -> Stacked:
    """The stack of V A and the terms ε L, where Vᴴ V are the weights of the data.

    With weights of the model, damping is a term too.
    """
    check_operator(A, who)
    if not isinstance(regularizations, Mapping):
        raise DTypeError(
            f"{who}: regularizations are a mapping of name to (operator, eps), got "
            f"{type(regularizations).__name__}"
        )
    whole, data = weighted(A, y, data_weights, who)
    terms = {n: _pieces(n, given, who) for n, given in regularizations.items()}
    rest, x_ref = common, None
    if model_weights is not None:
        rest = {**common}
        damp, x_ref = rest.pop("damp", 0), rest.pop("x_ref", None)
        if isinstance(A.domain, Blocks):
            raise LabelError(
                f"{who}: model_weights are for one array, the model of {A} has blocks; "
                "give a regularization with HStack instead"
            )
        if MODEL in terms:
            raise LabelError(
                f"{who}: the name {MODEL!r} is that of the damping with model_weights; "
                "take another"
            )
        terms[MODEL] = (root(model_weights, f"{who}: model_weights"), damp, None)
    operators = {DATA: whole}
    for name, (operator, eps, _) in terms.items():
        operators[name] = _scaled(name, operator, eps, whole, who)
    names = ", ".join(map(str, operators.values()))
    stack = VStack(operators, name=f"{who}({names})")
    zero, blocks = zero_model(A, y, who), {DATA: data}
    for name, (_, _, target) in terms.items():
        if target is None:
            operator = operators[name]
            pull = zero if x_ref is None or name != MODEL else x_ref
            side = operator.domain
            own = {n: pull[n] for n in side} if isinstance(side, Blocks) else pull
            target = operator @ own
        blocks[name] = target
    return Stacked(stack, blocks, rest)


def _pieces(name: Any, given: Any, who: str) -> tuple[LinearOperator, Any, Any]:
    """L, ε and what ε L x is pulled to."""
    if name == DATA:
        raise LabelError(f"{who}: the name 'data' is that of the misfit; take another")
    pieces: Any = [given] if isinstance(given, LinearOperator) else given
    if not isinstance(pieces, Sequence) or not 1 <= len(pieces) <= 3:
        raise DTypeError(
            f"{who}: {name!r} must be (operator, eps), got {type(given).__name__}"
        )
    left_out: list[Any] = [1.0, None]
    operator, eps, target = [*pieces, *left_out[len(pieces) - 1 :]]
    if not isinstance(operator, LinearOperator):
        raise DTypeError(
            f"{who}: {name!r} must start with an operator, got {type(operator).__name__}"
        )
    if isinstance(operator.range, Blocks):
        raise LabelError(f"{who}: {name!r} makes blocks; give each a name of its own")
    return operator, eps, target


def _scaled(
    name: str, operator: LinearOperator, eps: Any, A: LinearOperator, who: str
) -> LinearOperator:
    """ε L, in the units of A."""
    column = operator.gains.columns[0]
    if column not in A.gains.columns:
        raise LabelError(
            f"{who}: {name!r} ({operator}) acts on {operator.domain}, the model is "
            f"{A.domain}"
        )
    wanted = A.gains["", column] / operator.gains["", column]
    what = f"{who}: eps of {name!r} ({operator})"
    number = np.asarray(units.magnitude(eps, wanted, what))
    if number.ndim or number.dtype.kind not in "iuf" or not np.isfinite(number):
        raise UnitError(
            f"{what} must be one finite real number or quantity, got {shown(eps)}"
        )
    if isinstance(operator.gain, Gains):
        gain: Any = operator.gain.map(lambda one: one * wanted)
    else:
        gain = A.gains["", column]
    return Scaled(operator, float(number), gain)
