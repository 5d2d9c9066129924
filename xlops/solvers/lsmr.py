"""LSMR: least squares by bidiagonalization, with gradients that fall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Unpack

from xlops import engine
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.bidiagonal import Bidiagonal, Bidiagonalization
from xlops.solvers.driver import State, Step
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.rotations import quiet, quotient, root, rotation
from xlops.solvers.solution import Solution

__all__ = ["lsmr"]


@solver()
def lsmr(A: LinearOperator, y: Any, x0: Any = None, **common: Unpack[Common]) -> Solution:
    """Least squares by LSMR: min ‖y − A x‖² + damp² ‖x − x_ref‖².

    Notes
    -----
    What `tol` bounds falls with every iteration (without a preconditioner), as in MINRES
    on the normal equations: it may be stopped earlier than `lsqr` and `cgls`, whose
    residuals are a little smaller at the same time.

    References
    ----------
    .. [1] D. C.-L. Fong and M. A. Saunders, "LSMR: an iterative algorithm for sparse
       least-squares problems", SIAM J. Sci. Comput. 33, 2011.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time", attrs={"units": "m"})
    >>> A = xl.Diagonal(xr.DataArray([2.0, 4.0], dims="time", attrs={"units": "m/s"}))
    >>> solution = xl.lsmr(A, y)
    >>> solution.x.values.round(6), solution.x.units, solution.converged
    (array([1., 2.]), 's', True)
    """
    return driver.run(_steps, A, y, x0, name="lsmr", **common)


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors = problem.vectors
    process = Bidiagonalization(problem)
    # With a preconditioner the gradient is a vector of its own, else its norm is known.
    is_plain = problem.preconditioner is None

    def step(cost: Any, gradient: Any, pivots: tuple[Any, ...] = ()) -> Step:
        state = *numbers, *now[1:], *moving, *now.vectors
        residual_norm = process.residual_norm(cost, off)
        return Step(moving[0], None, residual_norm, gradient, state, pivots, cost)

    if state is None:
        x, now = process.start()
        h, bar = engine.copied(now.v), engine.zeros_like(now.v)
        moving = [x, h, bar]
        if not is_plain:
            beta = vectors.number(root, now.beta)
            moving.append(vectors.times(beta, now.vectors[1]))
        *moving, off, now = now.persisted(problem, *moving, process.off(x))
        beta, alpha = root(now.beta), root(now.alpha)
        numbers = _Numbers.start(alpha, beta)
        yield step(beta**2, beta * root(now.ss))
    else:
        numbers, given = _Numbers(*state[:14]), state[14:17]
        end = 20 if is_plain else 21
        moving, now = [*state[17:end]], Bidiagonal(state[end:], *given)
    while True:
        last, now = now, process.step(now)
        x, h, bar, *g = moving
        known = process.damp, last.alpha, *numbers

        def number(function: Any, known: Any = known, now: Bidiagonal = now) -> Any:
            return vectors.number(function, *known, now.beta, now.alpha)

        bar, _ = vectors.blend(1.0, h, number(_tilt), bar)
        x = vectors.axpy(number(_stride), bar, x, into=x)
        h, _ = vectors.blend(1.0, now.v, number(_turn), h)
        norm: Any = 0.0
        if g:
            s = now.vectors[1]
            gradient, norm = vectors.blend(number(_growth), s, number(_share), g[0])
            (norm,) = vectors.dots(norm)
            g = [gradient]
        *moving, norm, off, now = now.persisted(
            problem, x, h, bar, *g, norm, process.off(x)
        )
        rotated = _rotated(*known, now.beta, now.alpha)
        numbers = rotated.numbers
        norm = abs(numbers.zeta_bar) if is_plain else root(norm)
        yield step(rotated.cost, norm, (rotated.rho, numbers.rho_bar))


class _Numbers(NamedTuple):
    """What is left of the bidiagonal matrix, rotated from either side."""

    alpha_bar: Any
    zeta_bar: Any
    rho: Any
    rho_bar: Any
    c_bar: Any
    s_bar: Any
    scale: Any  # the norm of v that the last direction started from
    # Of the norm of the residual: section 5 of the paper.
    beta_2: Any
    beta_1: Any
    rho_1: Any
    tau: Any
    theta: Any
    zeta: Any
    lost: Any

    @classmethod
    def start(cls, alpha: Any, beta: Any) -> _Numbers:
        """Before the first step."""
        none = 0.0 * beta
        one = none + 1.0
        return cls(
            alpha_bar=alpha,
            zeta_bar=alpha * beta,
            rho=one,
            rho_bar=one,
            c_bar=one,
            s_bar=none,
            scale=one,
            beta_2=beta,
            beta_1=none,
            rho_1=one,
            tau=none,
            theta=none,
            zeta=none,
            lost=none,
        )


class _Rotated(NamedTuple):
    tilt: Any
    stride: Any
    turn: Any
    growth: Any
    share: Any
    rho: Any
    cost: Any
    numbers: _Numbers


@quiet
def _rotated(damp: float, before: Any, *others: Any) -> _Rotated:
    """One step of both factorizations; `before`, β and α are squared."""
    *given, beta, alpha = others
    old = _Numbers(*given)
    beta, alpha, before = root(beta), root(alpha), root(before)
    alpha_hat, beta_2, lost = old.alpha_bar, old.beta_2, old.lost
    if damp:
        c, s, alpha_hat = rotation(alpha_hat, damp)
        beta_2, lost = c * beta_2, lost + (s * beta_2) ** 2
    c, s, rho = rotation(alpha_hat, beta)
    theta = s * alpha
    theta_bar = old.s_bar * rho
    c_bar, s_bar, rho_bar = rotation(old.c_bar * rho, theta)
    zeta, zeta_bar = c_bar * old.zeta_bar, -s_bar * old.zeta_bar
    # The norm of the residual.
    beta_hat, beta_2 = c * beta_2, -s * beta_2
    c_1, s_1, rho_1 = rotation(old.rho_1, theta_bar)
    tau = quotient(old.zeta - old.theta * old.tau, rho_1)
    theta_1, rho_1 = s_1 * rho_bar, c_1 * rho_bar
    beta_1 = c_1 * beta_hat - s_1 * old.beta_1
    rest = quotient(zeta - theta_1 * tau, rho_1)
    return _Rotated(
        # Directions are as long as the vectors v that they start from.
        tilt=-quotient(theta_bar * rho * before, old.rho * old.rho_bar * old.scale),
        stride=quotient(zeta, rho * rho_bar * before),
        turn=-quotient(theta * alpha, rho * before),
        growth=quotient(zeta_bar * c_bar, alpha),
        share=s_bar**2,
        rho=rho,
        cost=lost + (beta_1 - rest) ** 2 + beta_2**2,
        numbers=_Numbers(
            alpha_bar=c * alpha,
            zeta_bar=zeta_bar,
            rho=rho,
            rho_bar=rho_bar,
            c_bar=c_bar,
            s_bar=s_bar,
            scale=before,
            beta_2=beta_2,
            beta_1=beta_1,
            rho_1=rho_1,
            tau=tau,
            theta=theta_1,
            zeta=zeta,
            lost=lost,
        ),
    )


def _tilt(*numbers: Any) -> Any:
    return _rotated(*numbers).tilt


def _stride(*numbers: Any) -> Any:
    return _rotated(*numbers).stride


def _turn(*numbers: Any) -> Any:
    return _rotated(*numbers).turn


def _growth(*numbers: Any) -> Any:
    return _rotated(*numbers).growth


def _share(*numbers: Any) -> Any:
    return _rotated(*numbers).share
