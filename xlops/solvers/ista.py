"""Iterative soft thresholding."""

from __future__ import annotations

import functools
from typing import Any, Unpack

from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.forward_backward import plain_steps
from xlops.solvers.keywords import Common, solver
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import check_apart, sparsity, step_length
from xlops.solvers.thresholds import Kind

__all__ = ["ista"]


@solver(without=("damp", "x_ref", "preconditioner"))
def ista(
    A: LinearOperator,
    y: Any,
    x0: Any = None,
    *,
    eps: Any = 0.1,
    SOp: LinearOperator | None = None,
    threshkind: Kind = "soft",
    perc: float | None = None,
    alpha: Any = None,
    **common: Unpack[Common],
) -> Solution:
    """Sparse least squares by thresholded gradients: min ½‖y − A x‖² + eps P(Sᴴx).

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
    tol : float
        Bound of ‖z − prox(z + α Aᴴ(y − A z))‖ / α, relative to its first value. Here prox
        is the threshold, z the model before the step. It is zero where z is a fixed point,
        with ``"soft"`` an optimum.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective; by
        percentile, the misfit ½‖y − A x‖².

    Notes
    -----
    Each step is x ← S T(Sᴴ(x + α Aᴴ(y − A x))) with the threshold T that belongs to P. With
    α ≤ 1 / ‖AᴴA‖ the objective falls in every iteration. Only ``"soft"`` is convex: the
    others find a fixed point that depends on where they start; a first solution by
    ``"soft"`` is a good x0.

    A percentile is found on Dask by counting: chunks count how many of their magnitudes
    begin with the same bits, 16 in each of four passes; nothing is sorted or gathered.

    References
    ----------
    .. [1] I. Daubechies, M. Defrise and C. De Mol, "An iterative thresholding algorithm for
       linear inverse problems with a sparsity constraint", Comm. Pure Appl. Math. 57, 2004.
    .. [2] T. Blumensath and M. E. Davies, "Iterative thresholding for sparse
       approximations", J. Fourier Anal. Appl. 14, 2008.
    .. [3] Z. Xu, X. Chang, F. Xu and H. Zhang, "L1/2 regularization: a thresholding
       representation theory and a fast solver", IEEE Trans. Neural Networks and Learning
       Systems 23, 2012.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> y = xr.DataArray([3.0, -0.5, 1.0, -2.0], dims="time")
    >>> xl.ista(xl.Identity(y), y, eps=1.0).x.values
    array([ 2.,  0.,  0., -1.])
    """
    term = sparsity(A, y, eps, SOp, threshkind, perc, "ista")
    check_apart([SOp], common.get("independent", ()), "ista")
    length = step_length(alpha, A, "ista")
    steps = functools.partial(plain_steps, term=term, alpha=length)
    return driver.run(steps, A, y, x0, name="ista", **common)
