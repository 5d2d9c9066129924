"""Least squares after a change of variables."""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

from xlops import units
from xlops.errors import DTypeError
from xlops.operator import LinearOperator
from xlops.solvers.keywords import Callback, Common, solver
from xlops.solvers.solution import Solution, Status
from xlops.solvers.solve import solve
from xlops.solvers.weighting import weighted

__all__ = ["PreconditionedSolution", "preconditioned_inversion"]

_WHO = "preconditioned_inversion"


@dataclasses.dataclass(frozen=True, eq=False)
class PreconditionedSolution(Solution):
    """A problem solved in other variables.

    Parameters
    ----------
    p : DataArray or dict of DataArray
        The variables that were solved for: ``x`` is P p.
    """

    p: Any


@units.one_warning()
@solver(without=("x_ref",))
def preconditioned_inversion(
    A: LinearOperator,
    y: Any,
    P: LinearOperator,
    p0: Any = None,
    *,
    data_weights: Any = None,
    method: str = "cgls",
    **common: Unpack[Common],
) -> PreconditionedSolution:
    """Least squares for x = P p: min ⟨y − A P p, W (y − A P p)⟩ + damp² ‖p‖².

    Parameters
    ----------
    A : LinearOperator
        From the model to the data.
    y : DataArray
        Data with the labels of ``A.range``; other dims pass through.
    P : LinearOperator
        From what is solved for to the model: a smoothing for smooth models, say.
    p0 : DataArray, optional
        Where p starts; zero unless given.
    data_weights : DataArray or LinearOperator, optional
        W: weights of the squared residual, such as inverse variances, or a positive
        operator whose root is known (``V.gram`` makes the misfit ‖V (y − A P p)‖²).
    method : str
        The solver, as `solve` takes it; one for least squares.
    tol : float
        Bound of ‖Pᴴ Aᴴ W r − damp² p‖, relative to its first value.
    damp : float or quantity
        Weight of p in the objective; a quantity must have the units of A P, times those of
        the root of W.
    preconditioner : LinearOperator, optional
        A positive operator on p, near the inverse of Pᴴ Aᴴ W A P + damp².
    callback : callable, optional
        Called with a `Status` after each iteration, whose x is P p; returning False stops.

    Returns
    -------
    PreconditionedSolution
        With ``p`` and ``x``. Its residual is that of the data, times the root of W.

    Raises
    ------
    LabelError
        Where P does not make models.
    UnitError, DTypeError, ArgumentError
        Where an argument does not fit; before any work.

    Notes
    -----
    Damped, it is least squares with damp² ⟨x, (P Pᴴ)⁻¹ x⟩: P Pᴴ is the covariance of the
    models that are thought likely. Stopped early, it prefers models that P makes easily.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray([1.0, np.nan, 3.0, np.nan, 5.0], dims="time")
    >>> M = xl.Mask(y.notnull())
    >>> P = xl.Smoothing1D(y.time, 3)
    >>> solution = xl.preconditioned_inversion(M, M @ y, P, tol=1e-12)
    >>> (M @ solution.x).values.round(6)
    array([1., 0., 3., 0., 5.])
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{_WHO} solves for an operator, got {type(A).__name__}")
    if not isinstance(P, LinearOperator):
        raise DTypeError(f"{_WHO}: P must be an operator, got {type(P).__name__}")
    if "x_ref" in common:
        raise TypeError(f"{_WHO}() got an unexpected keyword argument 'x_ref'")
    given: Common = {**common}
    callback = given.get("callback")
    if callable(callback):
        given["callback"] = _of_model(callback, P)
    operator, data = weighted(A, y, data_weights, _WHO)
    found: Solution = solve(operator @ P, data, x0=p0, method=method, **given)
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    fields |= {"x": P @ found.x, "method": f"{_WHO} ({found.method})"}
    return PreconditionedSolution(**fields, p=found.x)


def _of_model(callback: Callback, P: LinearOperator) -> Callback:
    """A callback that sees x instead of p."""

    def told(status: Status) -> object:
        return callback(dataclasses.replace(status, _x=lambda: P @ status.x))

    return told
