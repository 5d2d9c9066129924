"""Sparsity as a term of an objective: its penalty, and its proximal operator."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np

from xlops import engine, units
from xlops.engine import Tree
from xlops.errors import ArgumentError, DTypeError, LabelError, UnitError, listed, shown
from xlops.operator import LinearOperator
from xlops.solvers.problem import Problem
from xlops.solvers.thresholds import Threshold, soft, threshold
from xlops.space import by_name, in_words
from xlops.units import Gain
from xlops.windows.pieces import of_kind

__all__ = ["Sparsity", "Term", "sparsity", "step_length", "weight"]


class Term(Protocol):
    """What is added to a misfit: something that has a proximal operator."""

    def prepared(self, problem: Problem) -> Self:
        """The term of a problem."""

    def prox(self, x: Tree, step: Any) -> tuple[Tree, Any]:
        """The proximal operator of ``step`` times the term, and the term there.

        It may use the memory of x.
        """

    def value(self, x: Tree) -> Any:
        """The term at a model."""


class Sparsity:
    """eps P(Sᴴx): few coefficients that are not zero.

    Parameters
    ----------
    rule : Threshold
        What P is.
    eps : float
        Its weight.
    transform : LinearOperator, optional
        S, unitary, from coefficients to models.
    perc : float, optional
        How many percent of the coefficients are kept, where the rule asks for it.
    who : str
        The solver, for errors.
    """

    def __init__(
        self,
        rule: Threshold,
        eps: float,
        transform: LinearOperator | None,
        perc: float | None,
        who: str,
    ) -> None:
        self._rule, self._eps, self._transform = rule, eps, transform
        self._perc, self._who = perc, who
        self._problem: Problem

    def prepared(self, problem: Problem) -> Sparsity:
        """The term of a problem.

        Raises
        ------
        ArgumentError
            Where S is not unitary.
        """
        own = copy.copy(self)
        own._problem = problem
        if self._transform is not None and "unitary" not in self._transform.traits:
            own._check(self._transform)
        return own

    def _check(self, transform: LinearOperator) -> None:
        problem, vectors = self._problem, self._problem.vectors
        # Models come back from their coefficients, and coefficients, once thresholded,
        # from their models; of a frame they do not.
        x = engine.noise(problem.model)
        c = self._coefficients(x)
        few = vectors.mapped(soft, c, numbers=(vectors.percentile(c, 50.0),))
        back = self._model(c), self._coefficients(self._model(few))
        off = [vectors.axpy(-1.0, *pair) for pair in zip((x, few), back, strict=True)]
        made = vectors.dots(*((v, v) for v in (*off, x, few)))
        wrong, none, size, count = problem.persist(*made)
        problem.begin_again()
        dtype = of_kind(engine.leaves(c)[0].data.dtype, "real")
        if np.any(wrong + none > float(np.finfo(dtype).eps) * (size + count)):
            raise ArgumentError(
                f"{self._who}: SOp must be unitary, {transform} is not: what is left "
                "of its coefficients by a threshold would not be what minimises the "
                "objective; solve A @ SOp for the coefficients, and apply SOp to them"
            )

    def prox(self, x: Tree, step: Any) -> tuple[Tree, Any]:
        """The coefficients over the threshold, put together; their penalty."""
        vectors, rule = self._problem.vectors, self._rule
        c = self._coefficients(x)
        if rule.by_percentile:
            assert self._perc is not None
            level = vectors.percentile(c, 100.0 - self._perc)
            at = vectors.number(rule.at, level)
        else:
            at = vectors.number(np.multiply, step, self._eps)
        c = vectors.mapped(rule.shrink, c, numbers=(at,), into=c)
        return self._model(c), self._penalty(c)

    def value(self, x: Tree) -> Any:
        """The weighted penalty of a model."""
        return self._penalty(self._coefficients(x))

    def _penalty(self, c: Tree) -> Any:
        if self._rule.by_percentile or not self._eps:
            return 0.0  # how many are kept is a constraint
        vectors = self._problem.vectors
        return vectors.number(np.multiply, vectors.summed(self._rule.penalty, c), self._eps)

    def _coefficients(self, x: Tree) -> Tree:
        if self._transform is None:
            return x
        vectors = self._problem.vectors
        return vectors.kept(self._transform._run(vectors.kept(x), True))

    def _model(self, c: Tree) -> Tree:
        if self._transform is None:
            return c
        vectors, model = self._problem.vectors, self._problem.model
        made = self._transform._run(vectors.kept(c), False)
        if all(leaf.data.dtype.kind != "c" for leaf in engine.leaves(model)):
            made = engine.transform(_real, made)
        return vectors.kept(engine.alike(made, model))


def _real(x: Any) -> Any:
    return x._replace(data=x.data.real) if x.data.dtype.kind == "c" else x


def sparsity(
    A: LinearOperator, y: Any, eps: Any, SOp: Any, threshkind: Any, perc: Any, who: str
) -> Sparsity:
    """Sparsity as solvers are asked for it, checked."""
    rule = threshold(threshkind, perc, who)
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{who} solves for an operator, got {type(A).__name__}")
    _check_transform(SOp, A, who)
    return Sparsity(rule, weight(eps, A, y, who, rule.power, SOp), SOp, perc, who)


def step_length(alpha: Any, A: LinearOperator, who: str) -> float | None:
    """The step of gradient methods, in 1 / unit(A)²; None where it is to be found."""
    if alpha is None:
        return None
    gain, *others = dict.fromkeys(A.gains.values())
    if others and units.is_quantity(alpha):
        raise UnitError(
            f"{who}: alpha is a quantity, but blocks of the model differ in their units; "
            "give a number"
        )
    number = np.asarray(units.magnitude(alpha, gain**-2, f"{who}: alpha"))
    if number.ndim or number.dtype.kind not in "iuf" or not 0 < number < np.inf:
        raise ArgumentError(f"{who}: alpha must be a number above 0, got {shown(alpha)}")
    return float(number)


def check_apart(
    operators: Iterable[LinearOperator | None], independent: Any, who: str
) -> None:
    """Raise where an operator that comes besides A knows a dim of independent problems."""
    several = isinstance(independent, Sequence) and not isinstance(independent, str)
    dims = set(independent if several else [independent])
    for operator in operators:
        if operator is None:
            continue
        for side in (operator.domain, operator.range):
            for space in by_name(side).values():
                if known := dims & set(space.dims):
                    raise LabelError(
                        f"{who}: problems along {listed(known)} are not independent: "
                        f"{operator} knows of it; leave it out of independent"
                    )


def _check_transform(transform: Any, A: LinearOperator, who: str) -> None:
    """Raise unless it makes models."""
    if transform is None:
        return
    if not isinstance(transform, LinearOperator):
        raise DTypeError(f"{who}: SOp must be an operator, got {type(transform).__name__}")
    models, made = by_name(A.domain), by_name(transform.range)
    reason = None if set(models) == set(made) else f"it makes {in_words(transform.range)}"
    consumed = {dim for space in by_name(A.range).values() for dim in space.dims}
    for name, space in made.items() if reason is None else ():
        for dim in set(space.dims) & set(models[name].dims):
            reason = reason or space.axis(dim).difference(models[name].axis(dim))
        if gone := consumed & (set(space.dims) - set(models[name].dims)):
            reason = reason or f"the model has no dim {listed(gone)}"
        if models[name].kind == "real" and space.kind == "complex":
            reason = "it makes complex values, the model is real"
    if reason is not None:
        raise LabelError(
            f"{who}: SOp makes models of coefficients, but {transform} does not make those "
            f"of {A}: {reason}; its adjoint may be what is meant"
        )


def weight(
    eps: Any,
    operator: LinearOperator,
    y: Any,
    who: str,
    power: float = 1.0,
    transform: LinearOperator | None = None,
    what: str = "eps",
    data_power: int = 2,
) -> float:
    """The weight of a penalty beside a misfit, as a number.

    Parameters
    ----------
    eps : float or quantity
        A quantity must have the unit of y², over that of the coefficients to a power.
    operator : LinearOperator
        A.
    y : DataArray or mapping
        The data.
    who : str
        The solver, for errors.
    power : float
        The power of the coefficients that the penalty grows with.
    transform : LinearOperator, optional
        From coefficients to models.
    what : str
        The name of the argument, for errors.
    data_power : int
        The power of the data that the misfit grows with.
    """
    number = eps
    if units.is_quantity(eps):
        number = units.magnitude(
            eps, _wanted(operator, y, who, power, transform, data_power), f"{who}: {what}"
        )
    value = np.asarray(number)
    if value.ndim or value.dtype.kind not in "iuf" or not 0 <= value < np.inf:
        raise ArgumentError(f"{who}: {what} must be a number from 0 on, got {shown(eps)}")
    return float(value)


def _wanted(
    operator: LinearOperator,
    y: Any,
    who: str,
    power: float,
    transform: LinearOperator | None,
    data_power: int,
) -> Gain:
    """A power of unit(y) over the unit of the coefficients to a power."""
    _, origins = operator.H._admitted(y)
    unit = next(iter(origins.values())).unit
    models = {*operator.gains.values()}
    others = {*transform.gains.values()} if transform is not None else {units.ONE}
    if unit is None or len(models) > 1 or len(others) > 1:
        raise UnitError(
            f"{who}: eps is a quantity, but the data carry no unit, or blocks differ in "
            "theirs; give a number, which counts in the units of data and model"
        )
    data = Gain.of(unit)
    coefficients = data / models.pop() * others.pop()
    halves = int(2 * power)
    return data**data_power / (coefficients**units.HALF) ** halves
