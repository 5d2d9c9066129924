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
from xlops.errors import (
    ArgumentError,
    ChunkError,
    DTypeError,
    LabelError,
    UnitError,
    listed,
    shown,
)
from xlops.labeling import Origin, admitted
from xlops.operator import LinearOperator
from xlops.space import Space, by_name, in_words
from xlops.stack import Stack, entries_of
from xlops.units import Gain
from xlops.windows.pieces import Array, floating, of_kind, placed

# Methods for square systems.
SQUARE = frozenset({"bicgstab", "cg", "gmres", "minres"})


def check_arguments(
    operator: Any, niter: Any, tol: Any, callback: Any, progress: Any, who: str
) -> None:
    """Raise unless the arguments that all solvers share are what they should be."""
    if not isinstance(operator, LinearOperator):
        raise DTypeError(f"{who} solves for an operator, got {type(operator).__name__}")
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
    models, domains, ranges = map(
        by_name, (operator.domain, preconditioner.domain, preconditioner.range)
    )
    reason = None
    if not set(domains) == set(ranges) == set(models):
        reason = (
            f"it maps {in_words(preconditioner.domain)} to "
            f"{in_words(preconditioner.range)}, the model is {in_words(operator.domain)}"
        )
    for name, domain in domains.items() if reason is None else ():
        reason = reason or _mismatch(domain, ranges[name], models[name], data)
    if reason is not None:
        raise LabelError(
            f"{who}: the preconditioner {preconditioner} does not map the model to "
            f"itself: {reason}"
        )


def _mismatch(domain: Space, range_: Space, model: Space, data: xr.DataArray) -> str | None:
    """Why an operator from `domain` to `range_` does not map models to models."""
    reason = None if domain.matches(range_) else f"it maps {domain} to {range_}"
    for dim in domain.dims:
        if dim in model:
            axis = model.axis(dim)
        elif dim in data.dims:
            axis = Axis.of(data, dim)
        else:
            return f"the model has no dim {str(dim)!r}"
        reason = reason or domain.axis(dim).difference(axis)
    if model.kind == "real" and domain.kind == "complex":
        reason = "it is complex, the model is real"
    return reason


def in_one_unit(
    operator: LinearOperator,
) -> tuple[LinearOperator, dict[str, float]]:
    """An operator whose blocks come in one unit, so that their misfits add.

    Also what its blocks have been multiplied by. Blocks that have nothing to do with
    each other may come in units of their own: those of the data say how they add.
    """
    if isinstance(operator.range, Space):
        return operator, {}
    made, given = operator.gains.levels
    first: dict[str, tuple[str, Gain]] = {}
    scales: dict[str, float] = {}
    for row, (start, level) in made.items():
        block, target = first.setdefault(start, (row, level))
        known = level.known and target.known
        scale = units.factor(level, target) if known else 1.0
        if scale is None:
            raise UnitError(
                f"{operator}: misfits of its blocks do not add, block {block!r} comes in "
                f"{target} of the model's unit, block {row!r} in {level}; scale one of "
                "them by a quantity"
            )
        scales[row] = scale
    if all(scale == 1.0 for scale in scales.values()):
        return operator, scales
    entries = {}
    for (row, column), entry in entries_of(operator).items():
        wanted = first[made[row][0]][1] / given[column][1]
        same = scales[row] == 1.0
        entries[row, column] = entry if same else Scaled(entry, scales[row], wanted)
    return Stack(entries, name=operator.name), scales


def admitted_data(
    operator: LinearOperator, scales: Mapping[str, float], y: Any, who: str
) -> tuple[Tree, dict[str, Origin]]:
    """The plain data, floating and in one unit.

    Bare blocks count in the unit that their operator gives, so they are scaled as it is.
    """
    tree, origins = operator.H._admitted(y)
    first = next(iter(origins.values()))

    def prepared(name: str, array: Array) -> Array:
        space = by_name(operator.range)[name]
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


def model_units(
    operator: LinearOperator, origins: Mapping[str, Origin]
) -> dict[str, str | None]:
    """The units of the solution by block: unit(y) / A.units."""
    first = next(iter(origins.values()))
    result = {}
    for column in by_name(operator.domain):
        row = operator.gains.out_of(column)[0]
        gain = operator.gains[row, column] ** -1
        result[column] = units.apply(gain, first.unit, operator.keeps(row), operator.name)
    return result


def complex_together(
    operator: LinearOperator,
    preconditioner: LinearOperator | None,
    y: Tree,
    x0: Tree | None,
    x_ref: Tree | None,
) -> tuple[Tree, Tree | None, Tree | None]:
    """Everything complex where one of the vectors or the operator is.

    Except what is real by its space: real blocks, and all models of a real domain.
    """
    models = by_name(operator.domain)
    acting = [*models.values()]
    if preconditioner is not None:
        acting += by_name(preconditioner.domain).values()
    vectors = [v for x in (y, x0, x_ref) if x is not None for v in engine.leaves(x)]
    is_complex = any(v.data.dtype.kind == "c" for v in vectors) or any(
        space.kind == "complex" for space in acting
    )
    if all(space.kind == "real" for space in models.values()) or not is_complex:
        return y, x0, x_ref

    def together(x: Tree, spaces: Mapping[str, Space]) -> Tree:
        if isinstance(x, dict):
            return {name: block(array, spaces[name]) for name, array in x.items()}
        return block(x, spaces[""])

    def block(x: Array, space: Space) -> Array:
        if space.kind == "real":
            return x
        return Array(x.data.astype(of_kind(x.data.dtype, "complex"), copy=False), x.dims)

    return (
        together(y, by_name(operator.range)),
        None if x0 is None else together(x0, models),
        None if x_ref is None else together(x_ref, models),
    )


def in_equal_chunks(y: Tree, who: str) -> Tree:
    """Lazy data in chunks as Zarr has them."""
    for name, array in y.items() if isinstance(y, dict) else [("", y)]:
        if not engine.is_lazy(array.data):
            block = f"block {name!r} of the data is" if name else "the data are"
            raise ChunkError(
                f"{who}: store keeps chunks of Dask on disk, but {block} not in chunks; "
                "call .chunk(…) on it"
            )
    return engine.transform(engine.regular, y)


def damping(damp: Any, operator: LinearOperator, name: str) -> float:
    """The damping as a number, in the units of A (of square systems: in their root)."""
    gain, *others = dict.fromkeys(operator.gains.values())
    if others and units.is_quantity(damp):
        raise UnitError(
            f"{name}: damp is a quantity, but the blocks of the model have different "
            "units; give a number, which counts in the units of each"
        )
    if name in SQUARE:  # damp² is added to the operator itself
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
    made: Mapping[str, str | None],
) -> Tree | None:
    """A model given by the user, checked, in the units of the solution.

    `made` are these units by block.
    """
    if x is None:
        return None
    if isinstance(operator.domain, Space):
        return _admitted_block(x, what, operator, "", y, origins, y_tree, made[""])
    if not isinstance(x, (Mapping, xr.Dataset)):
        raise DTypeError(
            f"{what} must be a mapping or a Dataset with the blocks "
            f"{listed(operator.domain)}, got {type(x).__name__}"
        )
    if set(x) != set(operator.domain):
        raise LabelError(
            f"{what} must have the blocks {listed(operator.domain)}, got {listed(x)}"
        )
    return {
        name: _admitted_block(
            x[name], f"{what}, block {name!r}", operator, name, y, origins, y_tree, unit
        )
        for name, unit in made.items()
    }


def _admitted_block(
    x: Any,
    what: str,
    operator: LinearOperator,
    name: str,
    y: Any,
    origins: Mapping[str, Origin],
    y_tree: Tree,
    unit: str | None,
) -> Array:
    space = by_name(operator.domain)[name]
    array, origin = admitted(x, space, (), what)
    block = operator.gains.out_of(name)[0]
    data = y[block] if block else y
    given = y_tree[block] if isinstance(y_tree, dict) else y_tree
    dims = placed(given.dims, by_name(operator.range)[block].sizes, space.sizes)
    if set(array.dims) != set(dims):
        raise LabelError(f"{what} must have dims {listed(dims)}, got {listed(array.dims)}")
    carried = operator.H._carried(origins)
    carried = carried[name] if isinstance(carried, dict) else carried
    for dim in dims:  # those that the operator has no labels for are labeled by the data
        if dim in carried.variables:
            own = carried.variables[dim]
            reason = Axis(dim, own.size, own).difference(Axis.of(x, dim))
        elif dim not in space:
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
    return max(100, min(4 * operator.domain.size, 10_000))
