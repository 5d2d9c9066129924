"""Proximal gradients with any proximal operator."""

from __future__ import annotations

import functools
from typing import Any, Literal, Unpack

from xlops.errors import ArgumentError, DTypeError, shown
from xlops.operator import LinearOperator
from xlops.solvers import driver
from xlops.solvers.forward_backward import accelerated_steps, plain_steps
from xlops.solvers.keywords import Common, solver
from xlops.solvers.proximal import Proximal
from xlops.solvers.solution import Solution
from xlops.solvers.sparsity import step_length

__all__ = ["proximal_gradient"]


@solver(without=("damp", "x_ref", "preconditioner"))
def proximal_gradient(
    A: LinearOperator,
    y: Any,
    proxg: Any,
    x0: Any = None,
    *,
    acceleration: Literal["fista"] | None = None,
    restart: bool = False,
    alpha: Any = None,
    **common: Unpack[Common],
) -> Solution:
    """Least squares with one proximal operator: min ½‖y − A x‖² + g(x).

    Parameters
    ----------
    proxg : object
        g, a proximal operator of pyproximal, such as ``pyproximal.L1(0.1)``.
    acceleration : "fista", optional
        Whether steps have momentum, as those of `fista`.
    restart : bool
        Whether momentum is given up where it leads away from the gradient.
    alpha : float or quantity, optional
        Step size, in 1 / unit(A)²; 1 / ‖AᴴA‖, of which a bound is found by the method of
        Lanczos, unless given.
    tol : float
        Bound of ‖z − prox(z + α Aᴴ(y − A z))‖ / α, relative to its first value, z being
        where the step starts.

    Returns
    -------
    Solution
        With ``x`` in unit(y) / A.units. The ``cost`` in its history is the objective.

    Notes
    -----
    Proximal operators know no units: their numbers count in those of x. They act on flat
    vectors, in C order of the dims of x, blocks one after the other. On Dask, L0, L1, L2
    and Box with plain numbers act chunk by chunk, all others need one chunk.

    References
    ----------
    .. [1] P. L. Combettes and V. R. Wajs, "Signal recovery by proximal forward-backward
       splitting", Multiscale Model. Simul. 4, 2005.

    Examples
    --------
    >>> import pyproximal, xarray as xr, xlops as xl
    >>> y = xr.DataArray([3.0, -0.5, 1.0, -2.0], dims="time")
    >>> xl.proximal_gradient(xl.Identity(y), y, pyproximal.L1(1.0)).x.values + 0.0
    array([ 2.,  0.,  0., -1.])
    """
    if acceleration not in (None, "fista"):
        raise ArgumentError(
            f"proximal_gradient: acceleration must be None or 'fista', got "
            f"{shown(acceleration)}"
        )
    if not isinstance(A, LinearOperator):
        raise DTypeError(
            f"proximal_gradient solves for an operator, got {type(A).__name__}"
        )
    given: dict[str, Any] = {
        "term": Proximal(proxg, "proximal_gradient"),
        "alpha": step_length(alpha, A, "proximal_gradient"),
    }
    steps = (
        functools.partial(plain_steps, **given)
        if acceleration is None
        else functools.partial(accelerated_steps, **given, restart=bool(restart))
    )
    return driver.run(steps, A, y, x0, name="proximal_gradient", alone=True, **common)
