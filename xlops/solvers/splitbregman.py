"""Split Bregman iterations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Unpack

from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.keywords import Common, solver
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import Sparsity, check_apart, weight
from xlops.solvers.splitting import admm_steps, parts_of
from xlops.solvers.thresholds import KINDS

__all__ = ["splitbregman"]


@solver(without=("damp", "x_ref", "preconditioner", "store"))
def splitbregman(
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
    """Least squares with sparse terms: min ½‖y − A x‖² + Σ epsₖ ‖Lₖ x‖₁.

    Parameters
    ----------
    regularizations : mapping
        By name: a pair (L, eps), such as a derivative for total variation, or eps alone
        where L is the identity. eps is a number or a quantity; a quantity must have the
        units of A times those of y, over those of L.
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
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective.

    Notes
    -----
    Each iteration makes x by conjugate gradients, one submission each on Dask, then z by
    soft thresholds of L x + u at eps / ρ, and adds L x − z to u. Terms that are squared are
    part of A: stack them with `VStack`, as ``{"data": A, "smooth": 0.1 * L}``. The
    square of PyLops's epsRL1s is eps here, with mu = 1.

    References
    ----------
    .. [1] T. Goldstein and S. Osher, "The split Bregman method for L1-regularized
       problems", SIAM J. Imaging Sci. 2, 2009.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([1.0, 1.0, 1.0, 5.0, 5.0, 5.0], dims="time")
    >>> D = xl.FirstDerivative(y.time, kind="forward")
    >>> xl.splitbregman(xl.Identity(y), y, {"tv": (D, 0.6)}).x.values.round(4)
    array([1.2, 1.2, 1.2, 4.8, 4.8, 4.8])
    """

    def term(name: str, operator: LinearOperator | None, eps: Any) -> Sparsity:
        what = f"eps of {name!r}"
        number = weight(eps, A, y, "splitbregman", transform=operator, what=what)
        return Sparsity(KINDS["soft"], number, None, None, "splitbregman")

    parts = parts_of(regularizations, A, "splitbregman", term, "eps")
    check_apart([p.operator for p in parts], common.get("independent", ()), "splitbregman")
    steps = functools.partial(
        admm_steps,
        parts=parts,
        rho=rho,
        inner=(niter_inner, tol_inner),
        at_model=True,
    )
    return driver.run(steps, A, y, x0, name="splitbregman", alone=True, **common)
