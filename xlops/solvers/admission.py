"""What solvers check and prepare before their first step: labels, units and dtypes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xlops import engine, units
from xlops.algebra import Scaled
from xlops.axis import Axis
from xlops.engine import Tree
from xlops.errors import ArgumentError, DTypeError, LabelError, UnitError, listed, shown
from xlops.labeling import Origin, admitted
from xlops.operator import LinearOperator
from xlops.space import Blocks, Space
from xlops.stack import VStack
from xlops.units import Gain
from xlops.windows.pieces import Array, floating, of_kind, placed


def check_arguments(
    operator: Any, niter: Any, tol: Any, callback: Any, progress: Any, who: str
) -> None:
    """Raise unless the arguments that all solvers share are what they should be."""
    if not isinstance(operator, LinearOperator):
        raise DTypeError(f"{who} solves for an operator, got {type(operator).__name__}")
    if isinstance(operator.domain, Blocks):
        raise LabelError(
            f"{who}: {operator} acts on blocks {listed(operator.domain)}; the model "
            "must be one array"
        )
    whole = isinstance(niter, (int, np.integer)) and not isinstance(niter, bool)
    if niter is not None and not (whole and niter >= 0):
        raise ArgumentError(
            f"{who}: niter must be a whole number from 0 on, got {shown(niter)}"
        )
    if (
        isinstance(tol, bool)
        or not isinstance(tol, (int, float, np.integer, np.floating))
        or not tol >= 0
    ):
        raise ArgumentError(f"{who}: tol must be a number from 0 on, got {shown(tol)}")
    if callback is not None and not callable(callback):
        raise DTypeError(f"{who}: callback must be callable, got {shown(callback)}")
    if progress is not None and not isinstance(progress, (bool, np.bool_)):
        raise DTypeError(f"{who}: progress must be True or False, got {shown(progress)}")


def check_preconditioner(
    preconditioner: Any, operator: LinearOperator, data: xr.DataArray, who: str
) -> None:
    """Raise unless it maps models to models; `data` have the dims that pass through."""
    if preconditioner is None:
        return
    if not isinstance(preconditioner, LinearOperator):
        raise DTypeError(
            f"{who}: the preconditioner must be an operator, got "
            f"{type(preconditioner).__name__}"
        )
    domain, range_ = preconditioner.domain, preconditioner.range
    if isinstance(domain, Blocks) or isinstance(range_, Blocks):
        raise LabelError(f"{who}: the preconditioner {preconditioner} maps blocks")
    assert isinstance(operator.domain, Space)
    reason = None if domain.matches(range_) else f"it maps {domain} to {range_}"
    for dim in domain.dims:
        if dim in operator.domain:
            axis = operator.domain.axis(dim)
        elif dim in data.dims:
            axis = Axis.of(data, dim)
        else:
            reason = f"the model has no dim {str(dim)!r}"
            break
        reason = reason or domain.axis(dim).difference(axis)
    if operator.domain.kind == "real" and domain.kind == "complex":
        reason = "it is complex, the model is real"
    if reason is not None:
        raise LabelError(
            f"{who}: the preconditioner {preconditioner} does not map the model to "
            f"itself: {reason}"
        )


def in_one_unit(
    operator: LinearOperator,
) -> tuple[LinearOperator, dict[str, float]]:
    """A stack whose blocks come in one unit, so that their misfits add.

    Also what its blocks have been multiplied by.
    """
    gains = operator.gain
    if not isinstance(gains, dict):
        return operator, {}
    first, target = next(iter(gains.items()))
    scales = {}
    for block, gain in gains.items():
        known = gain.known and target.known
        scale = units.factor(gain, target) if known else 1.0
        if scale is None:
            raise UnitError(
                f"{operator}: misfits of its blocks do not add, block {first!r} comes in "
                f"{target} of the model's unit, block {block!r} in {gain}; scale one of "
                "them by a quantity"
            )
        scales[block] = scale
    if all(scale == 1.0 for scale in scales.values()):
        return operator, scales
    if not isinstance(operator, VStack):
        units_of = ", ".join(f"{name!r} in {gain}" for name, gain in gains.items())
        raise UnitError(
            f"{operator}: its blocks come in different units of the model's: {units_of}; "
            "scale the blocks of the VStack by quantities"
        )
    parts = operator.operators.items()
    scaled = {block: Scaled(part, scales[block], target) for block, part in parts}
    return VStack(scaled, name=operator.name), scales


def admitted_data(
    operator: LinearOperator, scales: Mapping[str, float], y: Any, who: str
) -> tuple[Tree, dict[str, Origin]]:
    """The plain data, floating and in one unit.

    Bare blocks count in the unit that their operator gives, so they are scaled as it is.
    """
    tree, origins = operator.H._admitted(y)
    first = next(iter(origins.values()))

    def prepared(name: str, array: Array) -> Array:
        side = operator.range
        space = side[name] if isinstance(side, Blocks) else side
        dtype = of_kind(floating(array.data.dtype), space.kind).newbyteorder("=")
        array = Array(array.data.astype(dtype), array.dims)
        own = origins[name].unit
        scale: float | None = scales.get(name, 1.0)
        if own is not None and first.unit is not None:
            scale = units.factor(Gain.of(own), Gain.of(first.unit))
        if scale is None or units.mixes_offsets(own, first.unit):
            block = next(iter(origins))
            raise UnitError(
                f"{who}: misfits do not add, block {block!r} of the data is in "
                f"{first.unit}, block {name!r} in {own}"
            )
        return array if scale == 1.0 else engine.scaled(scale, array)

    if isinstance(tree, dict):
        return {name: prepared(name, array) for name, array in tree.items()}, origins
    return prepared("", tree), origins


def model_unit(operator: LinearOperator, origins: Mapping[str, Origin]) -> str | None:
    """The unit of the solution: unit(y) / A.units."""
    block, first = next(iter(origins.items()))
    gain = operator.gain[block] if isinstance(operator.gain, dict) else operator.gain
    return units.apply(gain**-1, first.unit, keeps(operator), operator.name)


def keeps(operator: LinearOperator) -> bool:
    """Whether a model of offset units (degC) stays in them: as its first block says."""
    keeps = operator.keeps_constants
    return next(iter(keeps.values())) if isinstance(keeps, dict) else keeps


def complex_together(
    operator: LinearOperator,
    preconditioner: LinearOperator | None,
    y: Tree,
    x0: Array | None,
    x_ref: Array | None,
) -> tuple[Tree, Array | None, Array | None]:
    """Everything complex where one of the vectors or the operator is.

    Except what is real by its space: real blocks, and all models of a real domain.
    """
    domain, range_ = operator.domain, operator.range
    assert isinstance(domain, Space)
    sides = range_ if isinstance(range_, Blocks) else {"": range_}
    vectors = [*engine.leaves(y), *(x for x in (x0, x_ref) if x is not None)]
    acting = [domain] if preconditioner is None else [domain, preconditioner.domain]
    is_complex = any(v.data.dtype.kind == "c" for v in vectors) or any(
        isinstance(space, Space) and space.kind == "complex" for space in acting
    )
    if domain.kind == "real" or not is_complex:
        return y, x0, x_ref

    def made_complex(x: Array) -> Array:
        return Array(x.data.astype(of_kind(x.data.dtype, "complex"), copy=False), x.dims)

    def block(name: str, x: Array) -> Array:
        return x if sides[name].kind == "real" else made_complex(x)

    y = {n: block(n, x) for n, x in y.items()} if isinstance(y, dict) else block("", y)
    x0 = None if x0 is None else made_complex(x0)
    x_ref = None if x_ref is None else made_complex(x_ref)
    return y, x0, x_ref


def damping(damp: Any, operator: LinearOperator, name: str) -> float:
    """The damping as a number, in the units of A (for cg: in their root)."""
    gain = operator.gain
    if isinstance(gain, dict):
        gain = next(iter(gain.values()))
    if name == "cg":  # cg adds damp² to the operator itself
        gain = gain**units.HALF
    number = units.magnitude(damp, gain, f"{name}: damp")
    try:
        number = float(number)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ArgumentError(f"{name}: damp must be a number from 0 on, got {shown(damp)}")
    return number


def admitted_model(
    x: Any,
    what: str,
    operator: LinearOperator,
    y: Any,
    origins: Mapping[str, Origin],
    y_tree: Tree,
    unit: str | None,
) -> Array | None:
    """A model given by the user, checked, in the unit of the solution."""
    if x is None:
        return None
    assert isinstance(operator.domain, Space)
    array, origin = admitted(x, operator.domain, (), what)
    block = next(iter(origins))
    data = y[block] if block else y
    side = operator.range
    made = side[block] if isinstance(side, Blocks) else side
    dims = placed(engine.leaves(y_tree)[0].dims, made.sizes, operator.domain.sizes)
    if set(array.dims) != set(dims):
        raise LabelError(f"{what} must have dims {listed(dims)}, got {listed(array.dims)}")
    carried = operator.H._carried(origins)
    assert isinstance(carried, xr.Dataset)
    for dim in dims:  # those that the operator has no labels for are labeled by the data
        if dim in carried.variables:
            given = carried[dim].variable
            reason = Axis(dim, given.size, given).difference(Axis.of(x, dim))
        elif dim not in operator.domain:
            reason = Axis.of(data, dim).difference(Axis.of(x, dim))
        else:
            continue
        if reason is not None:
            raise LabelError(f"{what}: {reason}")
    if origin.unit is not None and unit is not None:
        scale = units.factor(Gain.of(origin.unit), Gain.of(unit))
        if scale is None or units.mixes_offsets(origin.unit, unit):
            raise UnitError(f"{what} is in {origin.unit}, the model is in {unit}")
        array = array if scale == 1.0 else engine.scaled(scale, array)
    return Array(array.data.astype(floating(array.data.dtype)), array.dims)


def limit_of(operator: LinearOperator, niter: int | None) -> int:
    """Iterations allowed: in exact arithmetic as many as unknowns would do."""
    if niter is not None:
        return int(niter)
    assert isinstance(operator.domain, Space)
    return max(100, min(4 * operator.domain.size, 10_000))
