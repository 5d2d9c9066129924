"""The driver: all that solvers share around the steps of a method.

Labels and units are checked and stripped before the first step and put on at the end.
Methods are generators of textbook steps on plain vectors; here is what counts, stops,
records, reports and calls back.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from xlops import engine, units
from xlops.engine import Tree
from xlops.labeling import Origin, labeled
from xlops.notebook.blocks import LabeledBlocks
from xlops.operator import LinearOperator
from xlops.options import options
from xlops.solvers.admission import (
    admitted_data,
    admitted_model,
    check_arguments,
    check_preconditioner,
    complex_together,
    damping,
    in_equal_chunks,
    in_one_unit,
    limit_of,
    model_units,
)
from xlops.solvers.arithmetic import Arithmetic, OnShelf
from xlops.solvers.keeping import Keeper
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Reason, Solution, Status
from xlops.solvers.store import Store
from xlops.space import Blocks
from xlops.windows.pieces import Array

__all__ = ["State", "Step", "run"]

Callback: TypeAlias = Callable[[Status], object]


# All that a method goes on from: vectors and numbers.
State: TypeAlias = tuple[Any, ...]


class Step(NamedTuple):
    """What a method yields before its first iteration and after each one.

    Parameters
    ----------
    x : Array or dict of Array, or callable
        The model, or what makes it where the method does without.
    residual : Array or dict of Array, optional
        y − A x; None where the method does without.
    residual_norm : number
        Its norm, or what the method knows of it.
    gradient_norm : number
        What the tolerance bounds, relative to its first value.
    state : tuple
        The vectors and numbers from which the method goes on in the same way; flat.
    pivots : tuple of number, optional
        Numbers that were divided by. Where one is not positive, the step counts for
        nothing and the method has broken down.
    cost : number, optional
        What the method minimises, where that is not the squared norm of the residual.
    """

    x: Tree | Callable[[], Tree]
    residual: Tree | None
    residual_norm: Any
    gradient_norm: Any
    state: State
    pivots: tuple[Any, ...] = ()
    cost: Any = None


# Steps from a state, or from the start. A method that ends has broken down.
Method: TypeAlias = Callable[["Problem", State | None], Iterator[Step]]


@units.one_warning()
def run(
    method: Method,
    operator: LinearOperator,
    y: Any,
    x0: Any,
    *,
    niter: int | None,
    tol: float,
    damp: Any,
    x_ref: Any,
    preconditioner: LinearOperator | None,
    callback: Callback | None,
    progress: bool | None,
    store: str | os.PathLike[str] | None,
    name: str,
) -> Solution:
    """Solve a labeled problem by a method; the arguments are those of the solvers."""
    who = name
    check_arguments(operator, niter, tol, callback, progress, who)
    operator, scales = in_one_unit(operator)
    y_tree, origins = admitted_data(operator, scales, y, who)
    operator.H._carried(origins)  # blocks must agree where the data alone have labels
    block = next(iter(origins))
    check_preconditioner(preconditioner, operator, y[block] if block else y, who)
    made = model_units(operator, origins)
    limit = limit_of(operator, niter)
    start = admitted_model(x0, "x0", operator, y, origins, y_tree, made)
    pull = admitted_model(x_ref, "x_ref", operator, y, origins, y_tree, made)
    y_tree, start, pull = complex_together(operator, preconditioner, y_tree, start, pull)
    weight = damping(damp, operator, name)

    def label(x: Tree) -> Any:
        return _labeled_model(operator, origins, y_tree, engine.settled(x))

    label_residual = functools.partial(_labeled_residual, operator, origins)
    keeper = Keeper(label, label_residual, who)
    if store is not None:
        y_tree = in_equal_chunks(y_tree, who)
        keeper = Store(store, label, label_residual, who)
    with keeper:
        vectors = Arithmetic() if keeper.shelf is None else OnShelf(keeper.shelf)
        problem = Problem(operator, y_tree, weight, start, pull, preconditioner, vectors)
        keeper.problem = problem
        steps, reason = _iterate(
            method(problem, None), keeper, limit, tol, callback, progress, name
        )
        x, residual = keeper.results()
    history = xr.Dataset(
        {
            "residual_norm": ("iteration", np.array([s[0] for s in steps])),
            "gradient_norm": ("iteration", np.array([s[1] for s in steps])),
        },
        coords={"iteration": np.arange(len(steps))},
    )
    return Solution(
        x=x,
        residual=residual,
        iterations=len(steps) - 1,
        reason=reason,
        method=name,
        history=history,
    )


def _iterate(
    iterator: Iterator[Step],
    keeper: Keeper,
    limit: int,
    tol: float,
    callback: Callback | None,
    progress: bool | None,
    name: str,
) -> tuple[list[tuple[float, float]], Reason]:
    """Run the steps of a method until there is a reason to stop; norms, and the reason."""
    from tqdm import tqdm

    shown = options().progress if progress is None else progress
    norms: list[tuple[float, float]] = []
    with tqdm(total=limit, desc=name, disable=not shown, leave=True) as bar:
        for step in iterator:
            if not all(pivot > 0 for pivot in step.pivots):
                break
            keeper.take(step.x, step.residual)
            norms.append((float(step.residual_norm), float(step.gradient_norm)))
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
                goes_on = callback(Status(done, *norms[-1], keeper.model()))
                if isinstance(goes_on, (bool, np.bool_)) and not goes_on:
                    reason = Reason.CALLBACK
            if reason is None and done >= limit:
                reason = Reason.NITER
            if reason is not None:
                return norms, reason
    return norms, Reason.BREAKDOWN


# --- after the last step ------------------------------------------------------------


def zero_model(operator: LinearOperator, y: Any, who: str) -> Any:
    """A model of zeros, as the solution for these data would be labeled."""
    y_tree, origins = admitted_data(operator, {}, y, who)
    model = engine.zeros_like(operator._run(y_tree, True))
    return _labeled_model(operator, origins, y_tree, model)


def _labeled_model(
    operator: LinearOperator, origins: dict[str, Origin], y: Tree, x: Tree
) -> Any:
    """A model with its labels, in unit(y) / A.units."""
    return operator.H._labeled(x, origins, y, model_units(operator, origins))


def _labeled_residual(
    operator: LinearOperator, origins: Mapping[str, Origin], residual: Tree
) -> Any:
    """The residual, labeled as the data are, in the unit of the first block."""
    first = next(iter(origins.values()))

    def one(name: str, array: Array) -> xr.DataArray:
        origin, side = origins[name], operator.range
        space = side[name] if isinstance(side, Blocks) else side
        unit = None if origin.unit is None else first.unit
        delta = units.apply(units.ONE, unit, False, operator.name)
        return labeled(array, space.relabeled(origin.labels.layout), origin, delta)

    if isinstance(residual, dict):
        return LabeledBlocks((n, one(n, array)) for n, array in residual.items())
    return one("", residual)
