"""MINRES: symmetric systems by Lanczos's recurrence, with residuals that fall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Unpack

import numpy as np

from xlops import engine
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import State, Step
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.rotations import quiet, quotient, root, rotation
from xlops.solvers.solution import Solution
from xlops.solvers.square import check_square, forward, undamped

__all__ = ["minres"]

# What is smaller than this power of the rounding of its scale is nothing but rounding.
ROUNDING = 0.75


@solver()
def minres(A: LinearOperator, y: Any, x0: Any = None, **common: Unpack[Common]) -> Solution:
    """Solve (A + damp²) x = y + damp² x_ref for an A that is its own adjoint, by MINRES.

    Parameters
    ----------
    A : LinearOperator
        Equal to its adjoint, positive or not; from a space to itself.
    tol : float
        Bound of the norm of the residual, relative to its first value.
    damp : float or quantity
        Its square is added to the operator; a quantity squared must have the units of A.
    preconditioner : LinearOperator, optional
        A positive operator on the model, near the inverse of the absolute value of
        A + damp².

    Notes
    -----
    That A is its own adjoint is not checked. In the history, ``gradient_norm`` is the norm
    of y + damp² x_ref − (A + damp²) x, which falls with every iteration (without a
    preconditioner). Where a singular A leaves a residual that cannot fall to `tol`, the
    solver ends with ``Reason.BREAKDOWN``, at a solution in the sense of least squares.
    The residual norm is that of the recurrence: it may differ from the true one by as much
    as the square of the condition number times rounding.

    References
    ----------
    .. [1] C. C. Paige and M. A. Saunders, "Solution of sparse indefinite systems of linear
       equations", SIAM J. Numer. Anal. 12, 1975.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time")
    >>> A = xl.Diagonal(xr.DataArray([2.0, -4.0], dims="time"))
    >>> xl.minres(A, y).x.values.round(6)
    array([ 1., -2.])
    """
    check_square(A, "minres")
    return driver.run(_steps, A, y, x0, name="minres", **common)


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors = problem.vectors
    is_plain = problem.preconditioner is None
    # Without either, the norm of the residual is known, and no vector needed for it.
    has_residual = bool(problem.damp) or not is_plain

    def step(rr: Any, residual: Any, pivots: tuple[Any, ...] = ()) -> Step:
        state = *numbers, *moving
        norms = root(residual), root(rr)
        return Step(moving[0], None, *norms, state, pivots)

    # moving: x, the last two Lanczos vectors, the last two directions; z, the residual
    if state is None:
        x, r = problem.start()
        x, r = engine.copied(x), engine.copied(problem.damped(r, x))
        zero = problem.model
        moving = [x, engine.copied(zero), r, engine.copied(zero), engine.copied(zero)]
        z = problem.precondition(r)
        if not is_plain:
            moving.append(z)
        if has_residual:
            moving.append(engine.copied(r))
        rr, beta = vectors.dots((r, r), (r, z))
        *moving, rr, residual, beta = problem.persist(
            *moving, rr, undamped(problem, x, r, rr), beta
        )
        numbers = _Numbers.start(root(beta))
        yield step(rr, residual)
    else:
        numbers, moving = _Numbers(*state[:8]), [*state[8:]]
    while vectors.goes_on(numbers.beta):
        x, older, old, before, w, *others = moving
        z = old if is_plain else others.pop(0)
        beta = numbers.beta
        new, _ = vectors.blend(
            quotient(1.0, beta),
            forward(problem, z),
            -quotient(beta, numbers.older),
            older,
        )
        (alpha,) = vectors.dots((z, new))
        new, new_beta = vectors.axpy_norm(
            vectors.number(_lanczos, alpha, beta), old, new, into=new
        )
        new_z = problem.precondition(new)
        (new_beta,) = vectors.dots(new_beta if new_z is new else (new, new_z))
        known = problem.rounding, *numbers, alpha, new_beta

        def number(function: Any, known: Any = known) -> Any:
            return vectors.number(function, *known)

        last, _ = vectors.blend(number(_share), z, number(_before), before)
        last = vectors.axpy(number(_turn), w, last, into=last)
        x = vectors.axpy(number(_stride), last, x, into=x)
        moving = [x, old, new, w, last] if is_plain else [x, old, new, w, last, new_z]
        rr = 0.0
        if has_residual:
            r, rr = vectors.blend(number(_growth), new, number(_left), others[-1])
            (rr,) = vectors.dots(rr)
            moving.append(r)
        residual = undamped(problem, x, moving[-1], rr)
        *moving, alpha, new_beta, rr, residual = problem.persist(
            *moving, alpha, new_beta, rr, residual
        )
        rotated = _rotated(problem.rounding, *numbers, alpha, new_beta)
        numbers = rotated.numbers
        if not has_residual:
            rr = residual = numbers.phi_bar**2
        yield step(rr, residual, (rotated.pivot,))


class _Numbers(NamedTuple):
    """What is left of the tridiagonal matrix and its right-hand side, to be rotated."""

    beta: Any
    older: Any
    c: Any
    s: Any
    delta: Any
    epsilon: Any
    phi_bar: Any
    norm: Any  # a lower bound of that of A

    @classmethod
    def start(cls, beta: Any) -> _Numbers:
        """Before the first step."""
        none = 0.0 * beta
        return cls(beta, none, none - 1.0, none, none, none, beta, none)


class _Rotated(NamedTuple):
    share: Any
    before: Any
    turn: Any
    stride: Any
    growth: Any
    left: Any
    pivot: Any
    numbers: _Numbers


@quiet
def _rotated(rounding: float, *given: Any) -> _Rotated:
    """One step of the factorization; α comes as ⟨z, A v⟩ and the next β squared.

    No step is made where A of the residual is nothing but rounding: it is least already.
    """
    *others, alpha, beta = given
    old = _Numbers(*others)
    alpha, beta = quotient(alpha, old.beta), root(beta)
    delta = old.c * old.delta + old.s * alpha
    gamma_bar = old.s * old.delta - old.c * alpha
    c, s, gamma = rotation(gamma_bar, beta)
    phi, phi_bar = c * old.phi_bar, s * old.phi_bar
    norm = np.maximum(np.sqrt(alpha**2 + beta**2 + old.older**2), old.norm)
    # ‖A r‖ / ‖r‖ before this step
    rest = np.hypot(gamma_bar, old.c * beta)
    pivot = np.where(rest > rounding**ROUNDING * norm, gamma, 0.0)[()]
    return _Rotated(
        share=quotient(1.0, old.beta * gamma),
        before=-quotient(old.epsilon, gamma),
        turn=-quotient(delta, gamma),
        stride=np.where(pivot > 0, phi, 0.0)[()],
        growth=-quotient(phi_bar * c, beta),
        left=s**2,
        pivot=pivot,
        numbers=_Numbers(
            beta=beta,
            older=old.beta,
            c=c,
            s=s,
            delta=-old.c * beta,
            epsilon=old.s * beta,
            phi_bar=phi_bar,
            norm=norm,
        ),
    )


def _lanczos(alpha: Any, beta: Any) -> Any:
    return -quotient(alpha, beta**2)


def _share(*numbers: Any) -> Any:
    return _rotated(*numbers).share


def _before(*numbers: Any) -> Any:
    return _rotated(*numbers).before


def _turn(*numbers: Any) -> Any:
    return _rotated(*numbers).turn


def _stride(*numbers: Any) -> Any:
    return _rotated(*numbers).stride


def _growth(*numbers: Any) -> Any:
    return _rotated(*numbers).growth


def _left(*numbers: Any) -> Any:
    return _rotated(*numbers).left
