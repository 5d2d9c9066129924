"""The alternating direction method of multipliers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Unpack

from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.keywords import Common, solver
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import check_apart
from xlops.solvers.splitting import admm_steps, proximal_parts

__all__ = ["admm"]


@solver(without=("damp", "x_ref", "preconditioner", "store"))
def admm(
    A: LinearOperator,
    y: Any,
    regularizations: Mapping[str, Any],
    x0: Any = None,
    *,
    rho: float | None = None,
    niter_inner: int = 10,
    tol_inner: float = 0.1,
    **common: Unpack[Common],
) -> Solution:
    """Least squares with proximal operators, by ADMM: min ½‖y − A x‖² + Σ gₖ(Lₖ x).

    Parameters
    ----------
    regularizations : mapping
        By name: a pair (L, g), or g alone where L is the identity. g is a proximal operator
        of pyproximal, such as ``pyproximal.L1(0.1)``.
    rho : float, optional
        Weight of ‖L x − z‖². Unless given, it begins as ‖AᴴA‖ / ‖LᴴL‖ for each term and
        is balanced in the first iterations.
    niter_inner : int
        Iterations of conjugate gradients for x allowed in each iteration.
    tol_inner : float
        How far these let the gradient of their problem fall.
    tol : float
        Bound of the norm of Aᴴ r − Σ ρ Lᴴ u and of ρ ‖L‖ (L x − z), taken together,
        relative to its first value; it is zero at an optimum.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective, with
        z, which L x comes to, in its place.

    Notes
    -----
    Proximal operators know no units: their numbers count in those of L x. They act on flat
    vectors, in C order of the dims of L x, blocks one after the other. On Dask, L0, L1, L2
    and Box with plain numbers act chunk by chunk, all others need one chunk.

    References
    ----------
    .. [1] S. Boyd, N. Parikh, E. Chu, B. Peleato and J. Eckstein, "Distributed optimization
       and statistical learning via the alternating direction method of multipliers",
       Foundations and Trends in Machine Learning 3, 2011.

    Examples
    --------
    >>> import pyproximal, xarray as xr, xlops as xl
    >>> y = xr.DataArray([3.0, -0.5, 1.0, -2.0], dims="time")
    >>> solution = xl.admm(xl.Identity(y), y, {"positive": pyproximal.Box(lower=0.0)})
    >>> solution.x.values.round(5) + 0.0
    array([3., 0., 1., 0.])
    """
    parts = proximal_parts(regularizations, A, "admm")
    check_apart([p.operator for p in parts], common.get("independent", ()), "admm")
    steps = functools.partial(
        admm_steps,
        parts=parts,
        rho=rho,
        inner=(niter_inner, tol_inner),
        at_model=False,
    )
    return driver.run(steps, A, y, x0, name="admm", alone=True, **common)
