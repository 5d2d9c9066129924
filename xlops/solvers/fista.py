"""Fast iterative soft thresholding."""

from __future__ import annotations

import functools
from typing import Any, Unpack

from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.forward_backward import accelerated_steps
from xlops.solvers.keywords import Common, solver
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import check_apart, sparsity, step_length
from xlops.solvers.thresholds import Kind

__all__ = ["fista"]


@solver(without=("damp", "x_ref", "preconditioner"))
def fista(
    A: LinearOperator,
    y: Any,
    x0: Any = None,
    *,
    eps: Any = 0.1,
    SOp: LinearOperator | None = None,
    threshkind: Kind = "soft",
    perc: float | None = None,
    alpha: Any = None,
    restart: bool = False,
    **common: Unpack[Common],
) -> Solution:
    """Sparse least squares, accelerated: min ½‖y − A x‖² + eps P(Sᴴx).

    Parameters
    ----------
    eps : float or quantity
        Weight of the penalty; a quantity must have the unit of y², over that of c to the
        power of P: for ‖c‖₁ and no S that is unit(A) unit(y). PyLops's eps is twice as
        large.
    SOp : LinearOperator, optional
        S, from coefficients c to models, such as ``FFT(…).H``; the identity unless given.
        It must be unitary: solve ``A @ S`` for the coefficients where it is not.
    threshkind : {"soft", "hard", "half"}, or one of them with "-percentile"
        How coefficients are thresholded, and so what P is: ‖c‖₁, the number of nonzero
        ones, or Σ √|c|. By percentile, perc says how many are left in each step.
    perc : float, optional
        The percentage of coefficients that are left.
    alpha : float or quantity, optional
        Step size, in 1 / unit(A)²; 1 / ‖AᴴA‖, of which a bound is found by the method of
        Lanczos, unless given.
    restart : bool
        Whether momentum is given up where it leads away from the gradient; convergence is
        linear in the end then, as that of `ista`.
    tol : float
        Bound of ‖z − prox(z + α Aᴴ(y − A z))‖ / α, relative to its first value. Here prox
        is the threshold, z where the step starts. It is zero where z is a fixed point,
        with ``"soft"`` an optimum.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective; by
        percentile, the misfit ½‖y − A x‖².

    Notes
    -----
    The steps of `ista` from z = x + β (x − x₋₁), with β growing towards 1. The objective
    does not fall in every iteration. Only ``"soft"`` is convex: the others find a fixed
    point that depends on where they start.

    A percentile is found on Dask by counting: chunks count how many of their magnitudes
    begin with the same bits, 16 in each of four passes; nothing is sorted or gathered.

    References
    ----------
    .. [1] A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for
       linear inverse problems", SIAM J. Imaging Sci. 2, 2009.
    .. [2] B. O'Donoghue and E. Candès, "Adaptive restart for accelerated gradient schemes",
       Found. Comput. Math. 15, 2015.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([3.0, -0.5, 1.0, -2.0], dims="time")
    >>> xl.fista(xl.Identity(y), y, eps=1.0).x.values
    array([ 2.,  0.,  0., -1.])
    """
    term = sparsity(A, y, eps, SOp, threshkind, perc, "fista")
    check_apart([SOp], common.get("independent", ()), "fista")
    length = step_length(alpha, A, "fista")
    steps = functools.partial(
        accelerated_steps, term=term, alpha=length, restart=bool(restart)
    )
    return driver.run(steps, A, y, x0, name="fista", **common)
