"""Least squares with regularization terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.algebra import Scaled
from xlops.errors import DTypeError, LabelError, UnitError, shown
from xlops.gains import Gains
from xlops.operator import LinearOperator
from xlops.solvers.driver import zero_model
from xlops.solvers.solution import Solution
from xlops.solvers.solve import solve
from xlops.space import Blocks
from xlops.stack import VStack

__all__ = ["regularized_inversion"]

_WHO = "regularized_inversion"


@units.one_warning()
def regularized_inversion(
    A: LinearOperator,
    y: xr.DataArray,
    regularizations: Mapping[str, Any],
    x0: xr.DataArray | None = None,
    **kwargs: Any,
) -> Solution:
    """Least squares with regularization: min ‖y − A x‖² + Σ ‖r_k − ε_k L_k x‖².

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
    x0 : DataArray, optional
        Where to start; zero unless given.
    **kwargs
        For the solver `cgls`: ``niter``, ``tol``, ``damp``, ``x_ref``,
        ``preconditioner``, ``callback``, ``progress``, ``store``.

    Returns
    -------
    Solution
        Its residual is a dict: ``"data"`` and the names of the regularizations.

    Raises
    ------
    UnitError
        Where an ε has the wrong unit.
    LabelError
        Where operators do not act on the same labels, or a name is ``"data"``.
    DTypeError
        Where something is not an operator.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray([1.0, np.nan, 3.0, np.nan, 5.0], dims="time")
    >>> M = xl.Mask(y.notnull())
    >>> L = xl.SecondDerivative(y.time)
    >>> solution = xl.regularized_inversion(M, M @ y, {"smooth": (L, 0.1)}, tol=1e-10)
    >>> solution.x.values.round(6)
    array([1., 2., 3., 4., 5.])
    """
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{_WHO} solves for an operator, got {type(A).__name__}")
    if isinstance(A.range, Blocks):
        raise LabelError(f"{_WHO}: {A} makes blocks; stack it with VStack and solve that")
    if not isinstance(regularizations, Mapping):
        raise DTypeError(
            f"{_WHO}: regularizations are a mapping of name to (operator, eps), got "
            f"{type(regularizations).__name__}"
        )
    operators: dict[str, LinearOperator] = {"data": A}
    targets: dict[str, Any] = {}
    for name, given in regularizations.items():
        operators[name], targets[name] = _term(name, given, A)
    stack = VStack(operators, name=f"{_WHO}({', '.join(map(str, operators.values()))})")
    zero = zero_model(A, y, _WHO)
    blocks = {"data": y}
    for name, target in targets.items():
        if target is None:
            side = operators[name].domain
            own = {n: zero[n] for n in side} if isinstance(side, Blocks) else zero
            target = operators[name] @ own
        blocks[name] = target
    solution: Solution = solve(stack, blocks, x0=x0, **kwargs)
    return dataclasses.replace(solution, method=f"{_WHO} ({solution.method})")


def _term(name: Any, given: Any, A: LinearOperator) -> tuple[LinearOperator, Any]:
    """ε L and what it is pulled to."""
    if name == "data":
        raise LabelError(f"{_WHO}: the name 'data' is that of the misfit; take another")
    pieces = [given] if isinstance(given, LinearOperator) else given
    if not isinstance(pieces, Sequence) or not 1 <= len(pieces) <= 3:
        raise DTypeError(
            f"{_WHO}: {name!r} must be (operator, eps), got {type(given).__name__}"
        )
    operator, eps, target = [*pieces, 1.0, None][:2] + [
        pieces[2] if len(pieces) == 3 else None
    ]
    if not isinstance(operator, LinearOperator):
        raise DTypeError(
            f"{_WHO}: {name!r} must start with an operator, got {type(operator).__name__}"
        )
    if isinstance(operator.range, Blocks):
        raise LabelError(f"{_WHO}: {name!r} makes blocks; give each a name of its own")
    column = operator.gains.columns[0]
    if column not in A.gains.columns:
        raise LabelError(
            f"{_WHO}: {name!r} ({operator}) acts on {operator.domain}, the model is "
            f"{A.domain}"
        )
    wanted = A.gains["", column] / operator.gains["", column]
    what = f"{_WHO}: eps of {name!r} ({operator})"
    number = np.asarray(units.magnitude(eps, wanted, what))
    if number.ndim or number.dtype.kind not in "iuf" or not np.isfinite(number):
        raise UnitError(
            f"{what} must be one finite real number or quantity, got {shown(eps)}"
        )
    if isinstance(operator.gain, Gains):
        return Scaled(
            operator, float(number), operator.gain.map(lambda one: one * wanted)
        ), target
    return Scaled(operator, float(number), A.gains["", column]), target
