"""What the methods for square systems share: (A + damp²) x = y + damp² x_ref."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlops import engine
from xlops.engine import Tree
from xlops.errors import LabelError, UnitError
from xlops.operator import LinearOperator
from xlops.solvers.problem import Problem
from xlops.space import sides_match

__all__ = ["check_square", "damped_residual", "forward", "off", "products", "undamped"]


def check_square(operator: Any, who: str) -> None:
    """Raise where an operator does not map its domain to itself; others check the rest."""
    if not isinstance(operator, LinearOperator):
        return
    if not sides_match(operator.domain, operator.range):
        raise LabelError(
            f"{who} needs an operator from a space to itself, {operator} is none; use "
            "cgls, or A.gram with A.H @ y"
        )
    if len(set(operator.gains.values())) > 1:
        raise UnitError(
            f"{who} needs blocks in one unit, those of {operator} come in several; use "
            "cgls, or scale them by quantities"
        )


def forward(problem: Problem, p: Tree) -> Tree:
    """``(A + damp²) p``."""
    q = problem.forward(p)
    return problem.vectors.axpy(problem.damp**2, p, q) if problem.damp else q


def damped_residual(problem: Problem, x: Tree) -> Tree:
    """``y + damp² x_ref − (A + damp²) x``."""
    return problem.damped(problem.residual(x), x)


def off(problem: Problem, x: Tree) -> Tree:
    """How far a model is from what damping pulls it to."""
    if problem.x_ref is None:
        return x
    return engine.minus(x, engine.alike(problem.x_ref, problem.model))


def undamped(problem: Problem, x: Tree, r: Tree, rr: Any) -> Any:
    """The squared norm of ``y − A x``; r is the residual with damping, rr its norm."""
    if not problem.damp:
        return rr
    residual = problem.vectors.axpy(problem.damp**2, off(problem, x), r)
    return problem.vectors.dots((residual, residual))[0]


def products(problem: Problem) -> Callable[..., tuple[Any, ...]]:
    """The scalar products that methods for any A take: ⟨·,·⟩ where that is complex.

    Real vectors, and operators that are linear over real numbers only, have Re⟨·,·⟩.
    """
    operators = [problem.operator]
    if problem.preconditioner is not None:
        operators.append(problem.preconditioner)
    is_complex = all(one.clinear for one in operators) and all(
        leaf.data.dtype.kind == "c" for leaf in engine.leaves(problem.model)
    )
    return problem.vectors.inner if is_complex else problem.vectors.dots
