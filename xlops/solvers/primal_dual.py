"""The primal-dual method of Chambolle and Pock."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from xlops import engine
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.driver import State, Step
from xlops.solvers.gain import gain_of
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import check_apart
from xlops.solvers.splitting import Part, proximal_parts

__all__ = ["primal_dual"]


@solver(without=("damp", "x_ref", "preconditioner"))
def primal_dual(
    A: LinearOperator,
    y: Any,
    regularizations: Mapping[str, Any],
    x0: Any = None,
    **common: Unpack[Common],
) -> Solution:
    """Least squares with proximal operators, primal and dual: min ½‖y − A x‖² + Σ gₖ(Lₖ x).

    Parameters
    ----------
    regularizations : mapping
        By name: a pair (L, g), or g alone where L is the identity. g is a proximal operator
        of pyproximal, such as ``pyproximal.L1(0.1)``.
    tol : float
        Bound of how far an iteration moves x and its duals, in the unit of a gradient and
        relative to the gradient at the start; they stay where they are at an optimum alone.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective, with
        what L x comes to in its place.

    Notes
    -----
    The misfit is one of the terms: all are functions of what the stack of A and the L makes
    of x. Their dual vectors, as large as y and the L x, are kept; there is nothing to solve
    inside. Steps are what ‖AᴴA‖ and ‖LᴴL‖ allow, of which bounds are found at the start.
    Proximal operators know no units: their numbers count in those of L x. They act on flat
    vectors, in C order of the dims of L x, blocks one after the other. On Dask, L0, L1, L2
    and Box with plain numbers act chunk by chunk, all others need one chunk.

    References
    ----------
    .. [1] A. Chambolle and T. Pock, "A first-order primal-dual algorithm for convex
       problems with applications to imaging", J. Math. Imaging Vision 40, 2011.

    Examples
    --------
    >>> import pyproximal, xarray as xr, xlops as xl
    >>> y = xr.DataArray([3.0, -0.5, 1.0, -2.0], dims="time")
    >>> positive = pyproximal.Box(lower=0.0)
    >>> solution = xl.primal_dual(xl.Identity(y), y, {"positive": positive})
    >>> solution.x.values.round(5) + 0.0
    array([3., 0., 1., 0.])
    """
    parts = proximal_parts(regularizations, A, "primal_dual")
    check_apart([p.operator for p in parts], common.get("independent", ()), "primal_dual")
    steps = functools.partial(_steps, parts=parts)
    return driver.run(steps, A, y, x0, name="primal_dual", alone=True, **common)


def _steps(problem: Problem, state: State | None, parts: Sequence[Part]) -> Iterator[Step]:
    vectors, count = problem.vectors, len(parts)
    parts = [part.prepared(problem) for part in parts]
    if state is None:
        gain = gain_of(problem)
        x, r = problem.start()
        made = [part.forward(x) for part in parts]
        duals = [engine.zeros_like(one) for one in made]
        values = [part.term.value(one) for part, one in zip(parts, made, strict=True)]
        s = problem.gradient(x, r)
        rr, ss = vectors.dots((r, r), (s, s))
        x, r, rr, ss, *others = problem.persist(
            engine.copied(x),
            engine.copied(r),
            rr,
            ss,
            *map(engine.copied, made),
            *duals,
            *values,
        )
        made, duals = others[:count], others[count : 2 * count]
        # The dual of the misfit starts at its gradient.
        p, bar, bars = vectors.times(-1.0, r), r, [*made]
        state = x, r, p, bar, *made, *bars, *duals, gain
        yield Step(
            x, r, np.sqrt(rr), np.sqrt(ss), state, cost=rr / 2 + sum(others[2 * count :])
        )
    else:
        x, r, p, bar, *others, gain = state
        made, bars, duals = (others[i * count : (i + 1) * count] for i in range(3))
    tau = 1 / ((1 + count) * gain)
    while True:
        # The duals, from where x is heading: all is linear in it.
        moves, values = [], []
        half = vectors.times(0.5, vectors.axpy(-1.0, bar, p))
        moves.append((1.0, vectors.axpy(-1.0, p, half)))
        s = problem.adjoint(half)
        for k, part in enumerate(parts):
            sigma = gain / part.gain
            w = vectors.axpy(sigma, bars[k], duals[k])
            inside = vectors.times(1 / sigma, w)
            near, value = part.term.prox(inside, 1 / sigma)
            new = vectors.axpy(-sigma, near, w, into=w)
            moves.append((part.gain / gain, vectors.axpy(-1.0, duals[k], new)))
            duals[k] = new
            values.append(value)
            s = vectors.axpy(1.0, part.adjoint(new), s)
        p = half
        new_x = vectors.axpy(-tau, s, x)
        (moved,) = vectors.dots((s, s))
        new_r = problem.residual(new_x)
        bar = vectors.axpy(1.0, vectors.axpy(-1.0, r, new_r), new_r)
        for k, part in enumerate(parts):
            forward = part.forward(new_x)
            bars[k] = vectors.axpy(1.0, vectors.axpy(-1.0, made[k], forward), forward)
            made[k] = forward
        x, r = new_x, new_r
        rr, *norms = vectors.dots((r, r), *((one, one) for _, one in moves))
        x, r, p, bar, rr, moved, *others = problem.persist(
            x, r, p, bar, rr, moved, *made, *bars, *duals, *values, *norms
        )
        made, bars, duals, values = (others[i * count : (i + 1) * count] for i in range(4))
        for (share, _), norm in zip(moves, others[4 * count :], strict=True):
            moved = moved + gain * share * norm
        state = x, r, p, bar, *made, *bars, *duals, gain
        yield Step(x, r, np.sqrt(rr), np.sqrt(moved), state, cost=rr / 2 + sum(values))
