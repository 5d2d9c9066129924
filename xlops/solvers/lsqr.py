"""LSQR: least squares by bidiagonalization."""

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

__all__ = ["lsqr"]


@solver()
def lsqr(A: LinearOperator, y: Any, x0: Any = None, **common: Unpack[Common]) -> Solution:
    """Least squares by LSQR: min ‖y − A x‖² + damp² ‖x − x_ref‖².

    Notes
    -----
    The iterates are those of `cgls` but for rounding, which matters where A is badly
    conditioned; it makes the residual in the end only, and needs as many vectors.

    References
    ----------
    .. [1] C. C. Paige and M. A. Saunders, "LSQR: an algorithm for sparse linear equations
       and sparse least squares", ACM Trans. Math. Softw. 8, 1982.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time", attrs={"units": "m"})
    >>> A = xl.Diagonal(xr.DataArray([2.0, 4.0], dims="time", attrs={"units": "m/s"}))
    >>> solution = xl.lsqr(A, y)
    >>> solution.x.values.round(6), solution.x.units, solution.converged
    (array([1., 2.]), 's', True)
    """
    return driver.run(_steps, A, y, x0, name="lsqr", **common)


def _steps(problem: Problem, state: State | None) -> Iterator[Step]:
    vectors = problem.vectors
    process = Bidiagonalization(problem)

    def step(slope: Any, pivots: tuple[Any, ...] = ()) -> Step:
        cost = numbers.phi_bar**2 + numbers.lost
        residual_norm = process.residual_norm(cost, off)
        state = x, w, *now[1:], numbers.rho_bar, numbers.phi_bar, numbers.lost, *now.vectors
        return Step(x, None, residual_norm, slope * root(now.ss), state, pivots, cost)

    if state is None:
        x, now = process.start()
        w = engine.copied(now.v)
        x, w, off, now = now.persisted(problem, x, w, process.off(x))
        beta = root(now.beta)
        numbers = _Numbers(root(now.alpha), beta, 0.0 * beta)
        yield step(beta)
    else:
        x, w, *given = state
        numbers, now = _Numbers(*given[3:6]), Bidiagonal(tuple(given[6:]), *given[:3])
    while True:
        last, now = now, process.step(now)
        known = process.damp, last.alpha, *numbers
        stride, turn = (
            vectors.number(function, *known, now.beta, now.alpha)
            for function in (_stride, _turn)
        )
        x, w = vectors.advance(x, w, now.v, stride, turn)
        x, w, off, now = now.persisted(problem, x, w, process.off(x))
        rotated = _rotated(*known, now.beta, now.alpha)
        numbers = rotated.numbers
        yield step(rotated.slope, (rotated.rho,))


class _Numbers(NamedTuple):
    """What is left of the bidiagonal matrix and its right-hand side, to be rotated."""

    rho_bar: Any
    phi_bar: Any
    lost: Any  # what damping leaves of the right-hand side, squared


class _Rotated(NamedTuple):
    stride: Any
    turn: Any
    rho: Any
    slope: Any  # the norm of the gradient, over that of s
    numbers: _Numbers


@quiet
def _rotated(
    damp: float, before: Any, rho_bar: Any, phi_bar: Any, lost: Any, beta: Any, alpha: Any
) -> _Rotated:
    """One step of the factorization; `before`, `beta` and `alpha` are squared."""
    if damp:
        c, s, rho_bar = rotation(rho_bar, damp)
        phi_bar, lost = c * phi_bar, lost + (s * phi_bar) ** 2
    c, s, rho = rotation(rho_bar, root(beta))
    alpha, before = root(alpha), root(before)
    theta, phi, phi_bar = s * alpha, c * phi_bar, s * phi_bar
    # Directions are as long as the vectors v that they start from.
    stride = quotient(phi, rho * before)
    turn = -quotient(theta * alpha, rho * before)
    numbers = _Numbers(-c * alpha, phi_bar, lost)
    return _Rotated(stride, turn, rho, abs(c * phi_bar), numbers)


def _stride(*numbers: Any) -> Any:
    return _rotated(*numbers).stride


def _turn(*numbers: Any) -> Any:
    return _rotated(*numbers).turn
