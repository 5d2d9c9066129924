"""Least squares with regularization terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Unpack

import xarray as xr

from xlops import units
from xlops.operator import LinearOperator
from xlops.solvers.keywords import Common, solver
from xlops.solvers.solution import Solution
from xlops.solvers.solve import solve
from xlops.solvers.terms import stacked

__all__ = ["regularized_inversion"]

_WHO = "regularized_inversion"


@units.one_warning()
@solver()
def regularized_inversion(
    A: LinearOperator,
    y: xr.DataArray,
    regularizations: Mapping[str, Any],
    x0: Any = None,
    *,
    data_weights: Any = None,
    model_weights: Any = None,
    method: str = "cgls",
    **common: Unpack[Common],
) -> Solution:
    """Least squares with regularization: min ⟨y − A x, W (y − A x)⟩ + Σ ‖r_k − ε_k L_k x‖².

    With damping added: damp² ‖x − x_ref‖², or damp² ⟨x − x_ref, M (x − x_ref)⟩ with weights
    of the model. W and M are 1 unless given.

    Parameters
    ----------
    A : LinearOperator
        From the model, one array or blocks, to the data.
    y : DataArray
        Data with the labels of ``A.range``; other dims pass through.
    regularizations : mapping
        By name: an operator L, a pair (L, ε), or a triple (L, ε, r) with what ε L x is
        pulled to, in the unit of y. ε is a number or a quantity; a quantity must have
        the units of A over those of L (3.6 h² for a second derivative in time, where A
        has none), a number counts in that unit. Where the model has blocks, L is an
        `HStack` over some of them.
    data_weights : DataArray or LinearOperator, optional
        W: weights of the squared residual, such as inverse variances, or a positive
        operator whose root is known (``V.gram`` makes the misfit ‖V (y − A x)‖²). Where
        W has units, ε and `damp` have those of its root too, and so has r.
    model_weights : DataArray or LinearOperator, optional
        M, given in the same way.
    method : str
        The solver, as `solve` takes it; one for least squares.
    damp : float or quantity
        Weight of the model in the objective; a quantity must have the units of A.
    preconditioner : LinearOperator, optional
        A positive operator on the model, near the inverse of
        Aᴴ W A + Σ ε_k² L_kᴴ L_k + damp².

    Returns
    -------
    Solution
        Its residual is a dict: ``"data"``, the names of the regularizations and, with
        weights of the model, ``"model"``: that whose squares are added up.

    Raises
    ------
    UnitError
        Where an ε has the wrong unit.
    LabelError
        Where operators do not act on the same labels, or a name is ``"data"``.
    DTypeError
        Where something is not an operator.
    ArgumentError
        Where weights are negative or have no known root.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray([1.0, np.nan, 3.0, np.nan, 5.0], dims="time")
    >>> M = xl.Mask(y.notnull())
    >>> L = xl.SecondDerivative(y.time)
    >>> solution = xl.regularized_inversion(M, M @ y, {"smooth": (L, 0.1)}, tol=1e-10)
    >>> solution.x.values.round(6)
    array([1., 2., 3., 4., 5.])

    The last sample counts for nothing, the others are known to 0.1:

    >>> variances = xr.DataArray([0.01, 0.01, np.inf], dims="time")
    >>> y = xr.DataArray([1.0, 2.0, 7.0], dims="time")
    >>> slope = xl.FirstDerivative(y.time, kind="forward")
    >>> A = xl.Identity(y.time)
    >>> terms = {"flat": (slope, 1.0)}
    >>> solution = xl.regularized_inversion(A, y, terms, data_weights=1 / variances)
    >>> solution.x.values.round(3)
    array([1.01, 1.99, 1.99])
    """
    operator, blocks, common = stacked(
        A, y, regularizations, data_weights, model_weights, common, _WHO
    )
    solution: Solution = solve(operator, blocks, x0=x0, method=method, **common)
    return dataclasses.replace(solution, method=f"{_WHO} ({solution.method})")
