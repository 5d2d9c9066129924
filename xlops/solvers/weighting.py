"""Weights of misfits: operators W in ⟨r, W r⟩, and their roots V in ‖V r‖²."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xlops import engine, units
from xlops.algebra import Scaled, factors_of
from xlops.errors import ArgumentError, DTypeError, LabelError
from xlops.operator import LinearOperator
from xlops.operators.pointwise import Diagonal, Identity, Mask
from xlops.space import Blocks
from xlops.units import Gain
from xlops.windows.pieces import Array

__all__ = ["root", "weighted"]


def weighted(
    A: LinearOperator, y: Any, weights: Any, who: str
) -> tuple[LinearOperator, Any]:
    """``V A`` and ``V y``, whose misfit ‖V (y − A x)‖² has the weights Vᴴ V."""
    if weights is None:
        return A, y
    if isinstance(A.range, Blocks):
        raise LabelError(
            f"{who}: data_weights are for one array, {A} makes blocks; multiply its rows "
            "and their data by xl.Diagonal instead"
        )
    V = root(weights, f"{who}: data_weights")
    return V @ A, V @ y


def root(weights: Any, what: str) -> LinearOperator:
    """V with Vᴴ V = W.

    Parameters
    ----------
    weights : DataArray or LinearOperator
        W: weights of squared samples, or an operator that says its root: a diagonal one,
        a mask, a Gram, or a Gram with one of these in its middle.
    what : str
        Names the weights in errors.
    """
    if isinstance(weights, xr.DataArray):
        weights = Diagonal(weights)
    found = _root(weights, what) if isinstance(weights, LinearOperator) else None
    if found is not None:
        return found
    if isinstance(weights, LinearOperator):
        raise ArgumentError(
            f"{what} must be an operator whose root is known, got {weights}; write it as a "
            "Gram, V.gram counts as ‖V r‖²"
        )
    raise DTypeError(
        f"{what} must be a DataArray or an operator, got {type(weights).__name__}"
    )


def _root(weights: LinearOperator, what: str) -> LinearOperator | None:
    if isinstance(weights, (Identity, Mask)):
        return weights
    if type(weights) is Diagonal:
        return _root_of_diagonal(weights, what)
    if isinstance(weights, Scaled):
        inner, number = _root(weights.operator, what), weights.number
        if inner is None or isinstance(number, complex) or number < 0:
            return None
        assert isinstance(weights.gain, Gain)
        return Scaled(inner, float(np.sqrt(number)), weights.gain**units.HALF)
    factors = factors_of(weights)
    if len(factors) == 1 or "symmetric" not in weights.traits:
        return None
    # … B.H @ (middle) @ B …
    count = len(factors)
    half = factors[-(count // 2)]
    for factor in factors[count - count // 2 + 1 :]:
        half = half @ factor
    if count % 2 == 0:
        return half
    middle = _root(factors[count // 2], what)
    return None if middle is None else middle @ half


def _root_of_diagonal(weights: Diagonal, what: str) -> LinearOperator:
    (array,) = weights._weights
    data = array.data
    if data.dtype.kind == "c":
        raise DTypeError(f"{what} must be real, got {data.dtype}")
    if not engine.is_lazy(data) and not (data >= 0).all():
        count = int(np.count_nonzero(~(data >= 0)))
        raise ArgumentError(
            f"{what} must not be negative or NaN, {count} of {data.size} are"
        )
    assert isinstance(weights.gain, Gain)
    new = Diagonal.__new__(Diagonal)
    gain = weights.gain**units.HALF
    return new._set(weights.domain, Array(np.sqrt(data), array.dims), gain, None, True)
