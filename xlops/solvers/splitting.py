"""Objectives of several terms: ½‖y − A x‖² + Σ g(L x), each g with its own prox."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import DTypeError, LabelError, listed, shown
from xlops.operator import LinearOperator
from xlops.solvers.driver import State, Step
from xlops.solvers.gain import gain_of, largest_gain
from xlops.solvers.inner import Inner
from xlops.solvers.problem import Problem
from xlops.solvers.proximal import Proximal
from xlops.solvers.sparsity import Term
from xlops.space import by_name, in_words

__all__ = ["Part", "admm_steps", "parts_of", "proximal_parts"]


# Iterations in which ρ may change: ADMM converges once it stays.
BALANCED = 100


class Part:
    """g(L x): a term of what an operator makes of the model.

    Parameters
    ----------
    name : str
        Its name.
    operator : LinearOperator, optional
        L; the identity unless given.
    term : Term
        g.
    """

    def __init__(self, name: str, operator: LinearOperator | None, term: Term) -> None:
        self.name, self.operator, self.term = name, operator, term
        self.gain: Any = 1.0
        self._problem: Problem

    def prepared(self, problem: Problem) -> Part:
        """The part of a problem; how much L can amplify is found."""
        own = Part(self.name, self.operator, self.term.prepared(problem))
        own._problem = problem
        if self.operator is not None and "unitary" not in self.operator.traits:
            gain = np.asarray(largest_gain(problem, own.forward, own.adjoint))
            own.gain = np.where(gain > 0, gain, 1.0)[()]
        return own

    def forward(self, x: Tree) -> Tree:
        """``L x``."""
        if self.operator is None:
            return x
        kept = self._problem.vectors.kept
        return kept(self.operator._run(kept(x), False))

    def adjoint(self, z: Tree) -> Tree:
        """``Lᴴ z``, laid out as x is."""
        if self.operator is None:
            return z
        kept = self._problem.vectors.kept
        made = self.operator._run(kept(z), True)
        return kept(engine.alike(made, self._problem.model))


def parts_of(
    given: Any,
    A: LinearOperator,
    who: str,
    term: Callable[[str, LinearOperator | None, Any], Term],
    what: str,
) -> list[Part]:
    """Terms as solvers are asked for them: by name, an operator L and what goes with it."""
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{who} solves for an operator, got {type(A).__name__}")
    if not isinstance(given, Mapping) or not given:
        raise DTypeError(
            f"{who}: regularizations are a mapping of name to (operator, {what}), got "
            f"{shown(given)}"
        )
    parts = []
    for name, pair in given.items():
        operator, own = (
            pair if isinstance(pair, Sequence) and len(pair) == 2 else (None, pair)
        )
        if operator is not None and not isinstance(operator, LinearOperator):
            raise DTypeError(
                f"{who}: {name!r} must be (operator, {what}), got a "
                f"{type(operator).__name__} first"
            )
        if operator is not None:
            _check_model(operator, A, f"{who}: {name!r}")
        parts.append(Part(str(name), operator, term(str(name), operator, own)))
    return parts


def proximal_parts(given: Any, A: LinearOperator, who: str) -> list[Part]:
    """Terms whose g is a proximal operator of pyproximal."""
    return parts_of(
        given, A, who, lambda name, L, prox: Proximal(prox, f"{who}: {name!r}"), "prox"
    )


def _check_model(operator: LinearOperator, A: LinearOperator, what: str) -> None:
    """Raise unless an operator takes the models of A."""
    models, taken = by_name(A.domain), by_name(operator.domain)
    reason = None
    if set(models) != set(taken):
        reason = f"the model is {in_words(A.domain)}"
    consumed = {dim for space in by_name(A.range).values() for dim in space.dims}
    for name, space in taken.items() if reason is None else ():
        for dim in space.dims:
            if dim in models[name]:
                reason = reason or space.axis(dim).difference(models[name].axis(dim))
        if gone := consumed & (set(space.dims) - set(models[name].dims)):
            reason = reason or f"the model has no dim {listed(gone)}"
    if reason is not None:
        raise LabelError(f"{what} ({operator}) does not act on the model of {A}: {reason}")


def admm_steps(
    problem: Problem,
    state: State | None,
    parts: Sequence[Part],
    rho: float | None,
    inner: tuple[int, float],
    at_model: bool,
) -> Iterator[Step]:
    """ADMM, scaled: x from least squares, z from proximal operators, u adds up L x − z.

    Unless ρ is given, it changes as long as one of the two that tend to zero, the gradient
    and ρ ‖L‖ (L x − z), is ten times the other (Boyd et al., §3.4.1).
    """
    vectors, count = problem.vectors, len(parts)
    parts = [part.prepared(problem) for part in parts]
    if state is None:
        gain = gain_of(problem)
        x, r = problem.start()
        rhos: Any = [gain / part.gain if rho is None else rho for part in parts]
        z = [part.forward(x) for part in parts]
        u = [engine.zeros_like(one) for one in z]
        values = [part.term.value(one) for part, one in zip(parts, z, strict=True)]
        s = problem.gradient(x, r)
        rr, ss = vectors.dots((r, r), (s, s))
        x, r, rr, ss, *others = problem.persist(
            engine.copied(x), engine.copied(r), rr, ss, *map(engine.copied, z), *u, *values
        )
        z, u, values = others[:count], others[count : 2 * count], others[2 * count :]
        done, state = 0, (x, r, *z, *u, *rhos, 0)
        yield Step(x, r, np.sqrt(rr), np.sqrt(ss), state, cost=rr / 2 + sum(values))
    else:
        x, r, *others, done = state
        z, u, rhos = others[:count], others[count : 2 * count], others[2 * count :]
    while True:
        x, r = _least_squares(problem, parts, rhos, x, r, z, u, inner)
        s = problem.adjoint(r)
        far, values = [], []
        for k, part in enumerate(parts):
            made = part.forward(x)
            w = vectors.axpy(1.0, made, u[k])
            if at_model:
                values.append(part.term.value(made))
            # The proximal operator may use the memory of what it is given.
            z[k], value = part.term.prox(engine.copied(w), vectors.ratio(1.0, rhos[k]))
            values += [] if at_model else [value]
            u[k] = vectors.axpy(-1.0, z[k], w, into=w)
            far.append(vectors.axpy(-1.0, z[k], made))
            s = vectors.axpy(-rhos[k], part.adjoint(u[k]), s)
        rr, ss, *gaps = vectors.dots((r, r), (s, s), *((one, one) for one in far))
        x, r, rr, ss, *others = problem.persist(x, r, rr, ss, *z, *u, *values, *gaps)
        z, u = others[:count], others[count : 2 * count]
        values, gaps = others[2 * count : 3 * count], others[3 * count :]
        apart: Any = 0.0
        for rho_k, part, gap in zip(rhos, parts, gaps, strict=True):
            apart = apart + rho_k**2 * part.gain * gap
        left, done = np.sqrt(ss + apart), done + 1
        if rho is None and done <= BALANCED:
            factor = np.where(apart > 100 * ss, 2.0, np.where(ss > 100 * apart, 0.5, 1.0))
            if np.any(factor != 1):
                rhos = [(one * factor)[()] for one in rhos]
                u = [*problem.persist(*(vectors.times(1 / factor, one) for one in u))]
        state = x, r, *z, *u, *rhos, done
        yield Step(x, r, np.sqrt(rr), left, state, cost=rr / 2 + sum(values))


def _least_squares(
    problem: Problem,
    parts: Sequence[Part],
    rhos: Sequence[Any],
    x: Tree,
    r: Tree,
    z: Sequence[Tree],
    u: Sequence[Tree],
    inner: tuple[int, float],
) -> tuple[Tree, Tree]:
    """min ‖y − A x‖² + Σ ρ ‖z − u − L x‖², from x on; the new model and its residual."""
    vectors = problem.vectors
    roots = [np.sqrt(rho) for rho in rhos]

    def forward(p: Tree) -> Tree:
        made = [
            vectors.times(c, part.forward(p)) for c, part in zip(roots, parts, strict=True)
        ]
        return _together(problem.forward(p), *made)

    def adjoint(rows: Tree) -> Tree:
        first, *others = _apart(rows)
        s = problem.adjoint(first)
        for root, part, row in zip(roots, parts, others, strict=True):
            s = vectors.axpy(root, part.adjoint(row), s)
        return s

    rows = []
    for k, part in enumerate(parts):
        off = vectors.axpy(-1.0, u[k], z[k])
        rows.append(vectors.times(roots[k], vectors.axpy(-1.0, part.forward(x), off)))
    step = Inner(problem, forward, adjoint, (x, _together(r, *rows))).solve(*inner)
    assert not callable(step.x) and step.residual is not None
    return step.x, problem.residual(step.x)


def _together(*trees: Tree) -> Tree:
    """Several vectors as blocks of one."""
    return {
        f"{at}/{name}": leaf
        for at, tree in enumerate(trees)
        for name, leaf in (tree if isinstance(tree, dict) else {"": tree}).items()
    }


def _apart(rows: Tree) -> list[Tree]:
    """The vectors that were put together."""
    assert isinstance(rows, dict)
    found: dict[str, Tree] = {}
    for key, leaf in rows.items():
        at, name = key.split("/", 1)
        if not name:
            found[at] = leaf
        else:
            blocks = found.setdefault(at, {})
            assert isinstance(blocks, dict)
            blocks[name] = leaf
    return [*found.values()]
