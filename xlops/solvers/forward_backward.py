"""Proximal gradients: a step against the gradient of the misfit, then a proximal operator.

The steps of `ista`, `fista` and `proximal_gradient`, which minimise ½‖y − A x‖² + g(x).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.solvers.driver import State, Step
from xlops.solvers.gain import step_size
from xlops.solvers.problem import Problem
from xlops.solvers.sparsity import Term

__all__ = ["accelerated_steps", "plain_steps"]


def plain_steps(
    problem: Problem, state: State | None, term: Term, alpha: float | None
) -> Iterator[Step]:
    """ISTA: x ← prox(x + α Aᴴ(y − A x))."""
    vectors, term = problem.vectors, term.prepared(problem)
    ahead = None
    if state is None:
        alpha = step_size(problem) if alpha is None else alpha
        x, r = problem.start()
        new, _, gg, penalty = ahead = _step(problem, term, alpha, x, r)
        rr, value = vectors.dots((r, r))[0], term.value(x)
        x, r, new, gg, rr, value, penalty = problem.persist(
            x, r, new, gg, rr, value, penalty
        )
        ahead = new, x, gg, penalty
        yield _made(x, r, rr, gg, value, alpha, (x, r, alpha))
    else:
        x, r, alpha = state
    while True:
        new, _, gg, penalty = ahead or _step(problem, term, alpha, x, r, into=x)
        ahead = None
        x, (r, rr) = new, problem.misfit(new)
        (rr,) = vectors.dots(rr)
        x, r, gg, rr, penalty = problem.persist(x, r, gg, rr, penalty)
        yield _made(x, r, rr, gg, penalty, alpha, (x, r, alpha))


def accelerated_steps(
    problem: Problem, state: State | None, term: Term, alpha: float | None, restart: bool
) -> Iterator[Step]:
    """FISTA: the same from z, which lies beyond x.

    The misfit is linear in its argument, so that of z comes with that of x.
    """
    vectors, term = problem.vectors, term.prepared(problem)
    ahead = None
    if state is None:
        alpha = step_size(problem) if alpha is None else alpha
        x, r = problem.start()
        t: Any = 1.0
        new, back, gg, penalty = _step(problem, term, alpha, x, r)
        rr, value = vectors.dots((r, r))[0], term.value(x)
        x, r, new, back, gg, rr, value, penalty = problem.persist(
            engine.copied(x), engine.copied(r), new, back, gg, rr, value, penalty
        )
        ahead = new, back, gg, penalty
        z, rz = x, r
        yield _made(x, r, rr, gg, value, alpha, (x, z, r, rz, t, alpha))
    else:
        x, z, r, rz, t, alpha = state
    while True:
        new, back, gg, penalty = ahead or _step(problem, term, alpha, z, rz, into=z)
        ahead = None
        r_new, rr = problem.misfit(new)
        move = vectors.axpy(-1.0, x, new, into=x)
        turn: Any = -1.0
        if restart:  # where the step leads back, momentum is lost
            turn, rr = vectors.dots((back, move), rr)
        else:
            (rr,) = vectors.dots(rr)
        t, beta = vectors.number(_grown, t, turn), vectors.number(_momentum, t, turn)
        z = vectors.axpy(beta, move, new, into=move)
        rz = vectors.axpy(beta, vectors.axpy(-1.0, r, r_new, into=r), r_new)
        x, r = new, r_new
        x, z, r, rz, t, gg, rr, penalty = problem.persist(x, z, r, rz, t, gg, rr, penalty)
        yield _made(x, r, rr, gg, penalty, alpha, (x, z, r, rz, t, alpha))


def _step(
    problem: Problem, term: Term, alpha: Any, z: Tree, rz: Tree, into: Tree | None = None
) -> tuple[Tree, Tree, Any, Any]:
    """The next x, how far z lies from it, that squared, and the term."""
    vectors = problem.vectors
    s = problem.gradient(z, rz)
    w = vectors.axpy(alpha, s, z, into=_own(s, rz))
    new, penalty = term.prox(w, alpha)
    back, gg = vectors.axpy_norm(-1.0, new, z, into=into)
    (gg,) = vectors.dots(gg)
    return new, back, gg, penalty


def _own(made: Tree, given: Tree) -> Tree | None:
    """What an operator has made of a vector, if it lies in memory of its own."""
    shared = any(engine.shares_memory(leaf, given) for leaf in engine.leaves(made))
    return None if shared else made


def _made(
    x: Tree, r: Tree, rr: Any, gg: Any, penalty: Any, alpha: Any, state: State
) -> Step:
    return Step(x, r, np.sqrt(rr), np.sqrt(gg) / alpha, state, cost=rr / 2 + penalty)


def _after_turn(t: Any, turn: Any) -> Any:
    return np.where(np.asarray(turn) > 0, 1.0, t)


def _grown(t: Any, turn: Any) -> Any:
    return ((1 + np.sqrt(1 + 4 * _after_turn(t, turn) ** 2)) / 2)[()]


def _momentum(t: Any, turn: Any) -> Any:
    return (_after_turn(t, turn) - 1) / _grown(t, turn)
