"""GMRES: square systems by Arnoldi's basis, started anew every few iterations."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import ArgumentError, shown
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import State, Step
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.rotations import inverse_root, quiet, quotient, root
from xlops.solvers.solution import Solution
from xlops.solvers.square import check_square, damped_residual, forward, products

__all__ = ["gmres"]

# What is smaller than this power of the rounding of its scale is nothing but rounding.
ROUNDING = 0.75


@solver()
def gmres(
    A: LinearOperator,
    y: Any,
    x0: Any = None,
    *,
    restart: int = 20,
    **common: Unpack[Common],
) -> Solution:
    """Solve (A + damp²) x = y + damp² x_ref for any A from a space to itself, by GMRES.

    Parameters
    ----------
    A : LinearOperator
        Any operator from a space to itself.
    restart : int
        Iterations after which it starts anew from where it is. It keeps as many vectors,
        and its steps grow with their number.
    tol : float
        Bound of the norm of the residual, relative to its first value.
    damp : float or quantity
        Its square is added to the operator; a quantity squared must have the units of A.
    preconditioner : LinearOperator, optional
        Any operator on the model, near the inverse of A + damp².

    Notes
    -----
    One application of A per iteration, none of its adjoint. The residual never rises. In
    the history both norms are that of y + damp² x_ref − (A + damp²) x.

    References
    ----------
    .. [1] Y. Saad and M. H. Schultz, "GMRES: a generalized minimal residual algorithm for
       solving nonsymmetric linear systems", SIAM J. Sci. Stat. Comput. 7, 1986.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0, 1.0], dims="time")
    >>> A = xl.Identity(y) + 0.5 * xl.Roll(y.time)
    >>> (A @ xl.gmres(A, y, tol=1e-12).x).values.round(9)
    array([2., 8., 1.])
    """
    whole = isinstance(restart, (int, np.integer)) and not isinstance(restart, bool)
    if not (whole and restart > 0):
        raise ArgumentError(
            f"gmres: restart must be a whole number from 1 on, got {shown(restart)}"
        )
    check_square(A, "gmres")
    steps = functools.partial(_steps, restart=int(restart))
    return driver.run(steps, A, y, x0, name="gmres", alone=True, **common)


def _steps(problem: Problem, state: State | None, restart: int) -> Iterator[Step]:
    vectors, rounding = problem.vectors, problem.rounding
    inner = products(problem)

    def normalized(w: Tree) -> tuple[Tree, Any]:
        (ww,) = vectors.dots((w, w))
        return vectors.times(vectors.number(inverse_root, ww), w), ww

    def step(pivots: tuple[Any, ...] = ()) -> Step:
        made = functools.partial(space.model, problem, len(space.rows))
        norm = abs(space.right[-1])
        return Step(made, None, norm, norm, space.state(), pivots)

    if state is None:
        x, r = problem.start()
        v, rr = normalized(problem.damped(r, x))
        x, v, rr = problem.persist(engine.copied(x), v, rr)
        space = _Space(x, v, root(rr))
        yield step()
    else:
        space = _Space.restored(state)
    while True:
        x, basis, size = space.x, space.basis, space.size
        if len(space.rows) == restart:
            x = space.model(problem, restart)
            v, size = normalized(damped_residual(problem, x))
            basis = [v]
        w = forward(problem, problem.precondition(basis[-1]))
        parts: list[Any] = []
        for _ in range(2):  # Gram and Schmidt, twice
            found = inner(*((q, w) for q in basis))
            parts += found
            negative = [vectors.number(np.negative, number) for number in found]
            w = vectors.combined(w, negative, basis)
        w, ww = normalized(w)
        x, size, ww, w, *given = problem.persist(x, size, ww, w, *basis, *parts)
        basis, parts = given[: len(basis)], given[len(basis) :]
        if len(basis) <= len(space.rows):
            space = _Space(x, basis[0], root(size))
        half = len(basis)
        column = [a + b for a, b in zip(parts[:half], parts[half:], strict=True)]
        pivot = space.extend(w, [*column, root(ww)], rounding)
        if np.any(space.columns[-1][-1] == 0):
            # There is no further vector. Whether that is the solution, the residual says.
            x = space.model(problem, half)
            v, size = normalized(damped_residual(problem, x))
            x, v, size = problem.persist(x, v, size)
            space = _Space(x, v, root(size))
        yield step((pivot,))


class _Space:
    """A Krylov space, and the least squares in it.

    Parameters
    ----------
    x : Array or dict of Array
        The model that it starts from.
    v : Array or dict of Array
        The first vector of its basis.
    size : number
        The norm of the residual.
    """

    def __init__(self, x: Tree, v: Tree, size: Any) -> None:
        self.x, self.size = x, size
        self.basis = [v]
        self.columns: list[list[Any]] = []  # of the Hessenberg matrix
        self.rows: list[list[Any]] = []  # of its triangular factor, column by column
        self.rotations: list[tuple[Any, Any]] = []
        self.right = [size]

    @quiet
    def extend(self, v: Tree, column: list[Any], rounding: float) -> Any:
        """One more vector, and its column; the pivot."""
        norm = np.sqrt(sum(abs(entry) ** 2 for entry in column))
        # What is left of a vector that lies in the space is rounding.
        floor = rounding**ROUNDING * norm
        column[-1] = np.where(column[-1] > floor, column[-1], 0.0)[()]
        self.basis.append(v)
        self.columns.append(column)
        entries = list(column)
        for i, (c, s) in enumerate(self.rotations):
            a, b = entries[i : i + 2]
            entries[i : i + 2] = np.conj(c) * a + s * b, c * b - s * a
        a, b = entries[-2:]
        pivot = np.hypot(abs(a), b)
        c, s = quotient(a, pivot), quotient(b, pivot)
        self.rotations.append((c, s))
        self.rows.append([*entries[:-2], pivot])
        last = self.right[-1]
        self.right[-1:] = [np.conj(c) * last, -s * last]
        return np.where(pivot > floor, pivot, 0.0)[()]

    @quiet
    def model(self, problem: Problem, size: int) -> Tree:
        """The model that the first vectors of the basis make."""
        weights = self.right[:size]
        for i in reversed(range(size)):
            weights[i] = quotient(weights[i], self.rows[i][i])
            for j in range(i):
                weights[j] = weights[j] - weights[i] * self.rows[i][j]
        if problem.preconditioner is None or not size:
            return problem.vectors.combined(self.x, weights, self.basis[:size])
        sum_ = problem.vectors.times(weights[0], self.basis[0])
        sum_ = problem.vectors.combined(sum_, weights[1:], self.basis[1:size])
        return problem.vectors.axpy(1.0, problem.precondition(sum_), self.x)

    def state(self) -> State:
        """All that it is made of."""
        numbers = [number for column in self.columns for number in column]
        return self.x, *self.basis, self.size, *numbers

    @classmethod
    def restored(cls, state: State) -> _Space:
        """The space of a state."""
        count = sum(map(engine.is_tree, state))
        x, *basis, size = state[: count + 1]
        space, numbers = cls(x, basis[0], size), iter(state[count + 1 :])
        for k, v in enumerate(basis[1:]):
            # Rounding has been looked at.
            space.extend(v, [next(numbers) for _ in range(k + 2)], 0.0)
        return space
