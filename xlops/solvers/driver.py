"""The driver: all that solvers share around the steps of a method.

Labels and units are checked and stripped before the first step and put on at the end.
Methods are generators of textbook steps on plain vectors; here is what counts, stops,
records, reports and calls back.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from xlops import engine, units
from xlops.axis import Axis
from xlops.engine import Tree
from xlops.errors import (
    ArgumentError,
    DataError,
    DTypeError,
    LabelError,
    UnitError,
    listed,
    shown,
)
from xlops.labeling import Origin, admitted, labeled
from xlops.operator import Gains, LinearOperator
from xlops.options import options
from xlops.solvers.solution import Reason, Solution, Status
from xlops.space import Blocks, Space
from xlops.stack import VStack
from xlops.units import Gain
from xlops.windows import Array, floating, of_kind, placed

__all__ = ["Problem", "Step", "run"]

Callback: TypeAlias = Callable[[Status], object]


class Step(NamedTuple):
    """What a method yields before its first iteration and after each one.

    `gradient_norm` is what the tolerance bounds; `broken` says that no next step exists.
    """

    x: Tree
    residual: Tree
    residual_norm: float
    gradient_norm: float
    broken: bool = False


Method: TypeAlias = Callable[["Problem"], Iterator[Step]]


@dataclasses.dataclass
class Problem:
    """A problem in plain vectors, as methods see it.

    Parameters
    ----------
    operator : LinearOperator
        A.
    y : Array or dict of Array
        The data.
    damp : float
        Weight of ‖x − x_ref‖.
    x0, x_ref : Array, optional
        Where to start, and where damping pulls to; zero unless given.
    preconditioner : LinearOperator, optional
        A positive operator near the inverse of what the method inverts.
    """

    operator: LinearOperator
    y: Tree
    damp: float
    x0: Array | None
    x_ref: Array | None
    preconditioner: LinearOperator | None
    _is_checked: bool = False

    def forward(self, x: Tree) -> Tree:
        """``A x``, laid out as y is."""
        return engine.alike(self.operator._run(x, False), self.y)

    def adjoint(self, r: Tree) -> Tree:
        """``Aᴴ r``, laid out as x is."""
        result = self.operator._run(r, True)
        return engine.alike(result, self.model)

    @functools.cached_property
    def model(self) -> Tree:
        """A model of zeros, which says how all models are laid out."""
        first = engine.leaves(self.y)[0]
        side = self.operator.range
        given = next(iter(side.values())) if isinstance(side, Blocks) else side
        assert isinstance(self.operator.domain, Space)
        dims = placed(first.dims, given.sizes, self.operator.domain.sizes)
        back = self.operator._run(self.y, True)
        assert isinstance(back, Array)
        self._first_adjoint = back.ordered(dims)
        return engine.zeros_like(self._first_adjoint)

    def start(self) -> tuple[Tree, Tree]:
        """The first model and its residual."""
        if self.x0 is None:
            return self.model, self.y
        x = engine.alike(self.x0, self.model)
        return x, engine.minus(self.y, self.forward(x))

    def gradient(self, x: Tree, r: Tree) -> Tree:
        """``Aᴴ r − damp² (x − x_ref)``, half the negative gradient of the objective."""
        if r is self.y:
            _ = self.model  # Aᴴ y is at hand
            s: Tree = self._first_adjoint
        else:
            s = self.adjoint(r)
        return self.damped(s, x)

    def damped(self, s: Tree, x: Tree) -> Tree:
        """``s − damp² (x − x_ref)``."""
        if not self.damp:
            return s
        s = engine.axpy(-(self.damp**2), x, s)
        if self.x_ref is None:
            return s
        return engine.axpy(self.damp**2, engine.alike(self.x_ref, self.model), s)

    def precondition(self, s: Tree) -> Tree:
        """The preconditioner applied to a vector of the model's kind."""
        if self.preconditioner is None:
            return s
        return engine.alike(self.preconditioner._run(s, False), self.model)

    def persist(self, *values: Any) -> tuple[Any, ...]:
        """Compute vectors and numbers of one iteration in one submission."""
        if self._is_checked:
            return engine.persist(*values)
        # The first time: NaN are counted, and what every iteration reads is kept.
        pull = {} if self.x_ref is None else {"": self.x_ref}
        *results, pull, count = engine.persist(*values, pull, engine.count_nan(self.y))
        if count:
            raise DataError(
                f"the data have {int(count)} NaN, which a solver would spread over the "
                "whole model; leave them out with xl.Mask(y.notnull()): it makes them "
                "exact zeros, in the data (mask @ y) and in the operator (mask @ A)"
            )
        self.x_ref = pull.get("")
        self._is_checked = True
        return tuple(results)


@units.one_warning()
def run(
    method: Method,
    operator: LinearOperator,
    y: Any,
    x0: xr.DataArray | None,
    *,
    niter: int | None,
    tol: float,
    damp: Any,
    x_ref: xr.DataArray | None,
    preconditioner: LinearOperator | None,
    callback: Callback | None,
    progress: bool | None,
    name: str,
) -> Solution:
    """Solve a labeled problem by a method; the arguments are those of the solvers."""
    who = name
    _check_arguments(operator, niter, tol, callback, progress, who)
    operator, scales = _in_one_unit(operator)
    y_tree, origins = _admitted_data(operator, scales, y, who)
    block = next(iter(origins))
    _check_preconditioner(preconditioner, operator, y[block] if block else y, who)
    unit = _model_unit(operator, origins)
    limit = _limit(operator, niter)
    start = _model(x0, "x0", operator, y, origins, y_tree, unit)
    pull = _model(x_ref, "x_ref", operator, y, origins, y_tree, unit)
    y_tree, start, pull = _complex_together(operator, preconditioner, y_tree, start, pull)
    problem = Problem(
        operator, y_tree, _damp(damp, operator, name), start, pull, preconditioner
    )

    label = functools.partial(_labeled_model, operator, origins, y_tree)
    step, steps, reason = _iterate(
        method(problem), label, limit, tol, callback, progress, name
    )
    history = xr.Dataset(
        {
            "residual_norm": ("iteration", np.array([s[0] for s in steps])),
            "gradient_norm": ("iteration", np.array([s[1] for s in steps])),
        },
        coords={"iteration": np.arange(len(steps))},
    )
    return Solution(
        x=label(step.x),
        residual=_labeled_residual(step.residual, operator, origins),
        iterations=len(steps) - 1,
        reason=reason,
        method=name,
        history=history,
    )


def _iterate(
    iterator: Iterator[Step],
    label: Callable[[Tree], xr.DataArray],
    limit: int,
    tol: float,
    callback: Callback | None,
    progress: bool | None,
    name: str,
) -> tuple[Step, list[tuple[float, float]], Reason]:
    """Run the steps of a method until there is a reason to stop."""
    from tqdm import tqdm

    shown = options().progress if progress is None else progress
    norms: list[tuple[float, float]] = []
    with tqdm(total=limit, desc=name, disable=not shown, leave=True) as bar:
        for step in iterator:
            if step.broken:
                return step, norms, Reason.BREAKDOWN
            norms.append((step.residual_norm, step.gradient_norm))
            done = len(norms) - 1
            start = norms[0][1]
            if done:
                bar.set_postfix_str(f"{step.gradient_norm / start:.1e}", refresh=False)
                bar.update()
            reason = None
            if not math.isfinite(step.residual_norm + step.gradient_norm):
                reason = Reason.NOT_FINITE
            elif start == 0:
                reason = Reason.EXACT
            elif step.gradient_norm <= tol * start:
                reason = Reason.TOLERANCE
            elif callback is not None and done:
                x = functools.partial(label, step.x)
                goes_on = callback(Status(done, *norms[-1], x))
                if isinstance(goes_on, (bool, np.bool_)) and not goes_on:
                    reason = Reason.CALLBACK
            if reason is None and done >= limit:
                reason = Reason.NITER
            if reason is not None:
                return step, norms, reason
    raise AssertionError("a method stopped without a reason")


# --- before the first step ----------------------------------------------------------


def _check_arguments(
    operator: Any, niter: Any, tol: Any, callback: Any, progress: Any, who: str
) -> None:
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


def _check_preconditioner(
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


def _in_one_unit(
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
        raise UnitError(f"{operator}: its blocks come in different units: {gains}")
    from xlops.algebra import Scaled

    parts = operator.operators.items()
    scaled = {block: Scaled(part, scales[block], target) for block, part in parts}
    return VStack(scaled, name=operator.name), scales


def _admitted_data(
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


def _model_unit(operator: LinearOperator, origins: Mapping[str, Origin]) -> str | None:
    block, first = next(iter(origins.items()))
    gain = operator.gain[block] if isinstance(operator.gain, dict) else operator.gain
    return units.apply(gain**-1, first.unit, _keeps(operator), operator.name)


def _keeps(operator: LinearOperator) -> bool:
    """Whether a model of offset units (degC) stays in them: as its first block says."""
    keeps = operator.keeps_constants
    return next(iter(keeps.values())) if isinstance(keeps, dict) else keeps


def _complex_together(
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


def _damp(damp: Any, operator: LinearOperator, name: str) -> float:
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


def _model(
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
    for dim in dims:
        if dim not in operator.domain:
            reason = Axis.of(data, dim).difference(Axis.of(x, dim))
            if reason is not None:
                raise LabelError(f"{what}: {reason}")
    if origin.unit is not None and unit is not None:
        scale = units.factor(Gain.of(origin.unit), Gain.of(unit))
        if scale is None or units.mixes_offsets(origin.unit, unit):
            raise UnitError(f"{what} is in {origin.unit}, the model is in {unit}")
        array = array if scale == 1.0 else engine.scaled(scale, array)
    return Array(array.data.astype(floating(array.data.dtype)), array.dims)


def _limit(operator: LinearOperator, niter: int | None) -> int:
    """Iterations allowed: in exact arithmetic as many as unknowns would do."""
    if niter is not None:
        return int(niter)
    assert isinstance(operator.domain, Space)
    return max(100, min(4 * operator.domain.size, 10_000))


# --- after the last step ------------------------------------------------------------


def zero_model(operator: LinearOperator, y: Any, who: str) -> xr.DataArray:
    """A model of zeros, as the solution for these data would be labeled."""
    y_tree, origins = _admitted_data(operator, {}, y, who)
    model = engine.zeros_like(operator._run(y_tree, True))
    return _labeled_model(operator, origins, y_tree, model)


def _labeled_model(
    operator: LinearOperator, origins: dict[str, Origin], y: Tree, x: Tree
) -> xr.DataArray:
    """A model with its labels, in unit(y) / A.units."""
    gain = operator.gain
    inverse: Gains = (
        {k: g**-1 for k, g in gain.items()} if isinstance(gain, dict) else gain**-1
    )
    result: xr.DataArray = operator.H._labeled(x, origins, y, inverse, _keeps(operator))
    return result


def _labeled_residual(
    residual: Tree, operator: LinearOperator, origins: Mapping[str, Origin]
) -> Any:
    """The residual, labeled as the data are, in the unit of the first block."""
    first = next(iter(origins.values()))

    def one(name: str, array: Array) -> xr.DataArray:
        origin, side = origins[name], operator.range
        space = side[name] if isinstance(side, Blocks) else side
        unit = None if origin.unit is None else first.unit
        delta = units.apply(units.ONE, unit, False, operator.name)
        return labeled(array, space.relabeled(origin.coords), origin, delta)

    if isinstance(residual, dict):
        return {name: one(name, array) for name, array in residual.items()}
    return one("", residual)
