"""Regularized least squares by their normal equations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Unpack

import xarray as xr

from xlops import units
from xlops.errors import DataError
from xlops.operator import LinearOperator
from xlops.solvers.cg import cg
from xlops.solvers.keywords import Common, solver
from xlops.solvers.problem import nan_error
from xlops.solvers.solution import Solution
from xlops.solvers.terms import stacked

__all__ = ["normal_equations_inversion"]

_WHO = "normal_equations_inversion"


@units.one_warning()
@solver(without=("store",))
def normal_equations_inversion(
    A: LinearOperator,
    y: xr.DataArray,
    regularizations: Mapping[str, Any],
    x0: Any = None,
    *,
    data_weights: Any = None,
    model_weights: Any = None,
    **common: Unpack[Common],
) -> Solution:
    """The minimum that `regularized_inversion` finds, from its normal equations by `cg`.

    (Aᴴ W A + Σ ε_k² L_kᴴ L_k + damp² M) x = Aᴴ W y + Σ ε_k L_kᴴ r_k + damp² M x_ref

    Parameters
    ----------
    A : LinearOperator
        From the model to the data.
    y : DataArray
        Data with the labels of ``A.range``; other dims pass through.
    regularizations : mapping
        By name: L, (L, ε) or (L, ε, r), as for `regularized_inversion`.
    data_weights : DataArray or LinearOperator, optional
        W, as for `regularized_inversion`.
    model_weights : DataArray or LinearOperator, optional
        M, given in the same way.
    tol : float
        Bound of the residual of the equations, relative to its first value.
    damp : float or quantity
        Weight of the model in the objective; a quantity must have the units of A.
    preconditioner : LinearOperator, optional
        A positive operator on the model, near the inverse of that on the left, such as
        ``xl.Jacobi(A.gram)``.

    Returns
    -------
    Solution
        Its residual is that of `regularized_inversion`; norms in the history are those of
        the equations.

    Raises
    ------
    UnitError, LabelError, DTypeError, ArgumentError
        As for `regularized_inversion`.
    DataError
        Where the data have NaN.

    Notes
    -----
    One vector of the data's size less than with `regularized_inversion`, and where the
    Gram of A is cheaper than A and its adjoint, less work. The condition is squared: where
    that is large, digits are lost.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray([1.0, np.nan, 3.0, np.nan, 5.0], dims="time")
    >>> M = xl.Mask(y.notnull())
    >>> L = xl.SecondDerivative(y.time)
    >>> solution = xl.normal_equations_inversion(M, M @ y, {"smooth": (L, 0.1)}, tol=1e-10)
    >>> solution.x.values.round(6)
    array([1., 2., 3., 4., 5.])
    """
    if "store" in common:
        raise TypeError(f"{_WHO}() got an unexpected keyword argument 'store'")
    operator, blocks, common = stacked(
        A, y, regularizations, data_weights, model_weights, common, _WHO
    )
    try:
        solution = cg(operator.gram, operator.H @ blocks, x0, **common)
    except DataError:
        count = int(y.isnull().sum())
        if not count:
            raise
        raise nan_error(count) from None  # before they have spread
    made = operator @ solution.x
    residual = {name: block - made[name] for name, block in blocks.items()}
    return dataclasses.replace(solution, residual=residual, method=f"{_WHO} (cg)")
