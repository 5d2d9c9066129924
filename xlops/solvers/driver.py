"""The driver: all that solvers share around the steps of a method.

Labels and units are checked and stripped before the first step and put on at the end.
Methods are generators of textbook steps on plain vectors; here is what counts, stops,
records, reports and calls back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, Unpack

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
from xlops.solvers.keywords import Callback, Common, filled
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Reason, Solution, Status
from xlops.solvers.stopping import Stopping, seconds
from xlops.solvers.store import Store
from xlops.space import Blocks
from xlops.windows.pieces import Array

__all__ = ["State", "Step", "run"]

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
    name: str,
    **common: Unpack[Common],
) -> Solution:
    """Solve a labeled problem by a method.

    Parameters
    ----------
    method : callable
        The generator of its steps.
    operator, y, x0
        As the solver takes them.
    name : str
        The name of the solver.
    **common
        The keywords of all solvers.
    """
    who, given = name, filled(name, common)
    tol, callback, progress = given["tol"], given["callback"], given["progress"]
    preconditioner, store = given["preconditioner"], given["store"]
    check_arguments(operator, given["niter"], tol, callback, progress, who)
    deadline = time.monotonic() + seconds(given["time_limit"], who)
    operator, scales = in_one_unit(operator)
    y_tree, origins = admitted_data(operator, scales, y, who)
    operator.H._carried(origins)  # blocks must agree where the data alone have labels
    block = next(iter(origins))
    check_preconditioner(preconditioner, operator, y[block] if block else y, who)
    made = model_units(operator, origins)
    limit = limit_of(operator, given["niter"])
    start = admitted_model(x0, "x0", operator, y, origins, y_tree, made)
    pull = admitted_model(given["x_ref"], "x_ref", operator, y, origins, y_tree, made)
    y_tree, start, pull = complex_together(operator, preconditioner, y_tree, start, pull)
    weight = damping(given["damp"], operator, name)

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
        stopping = Stopping(tol, limit, deadline, problem.unknowns, problem.rounding)
        shown = options().progress if progress is None else progress
        norms, reason = _iterate(
            method(problem, None), keeper, stopping, callback, limit if shown else None
        )
        x, residual = keeper.results()
    return Solution(
        x=x,
        residual=residual,
        iterations=len(norms) - 1,
        reason=reason,
        method=name,
        history=_history(norms),
    )


class Norms(NamedTuple):
    """What the history has of one iteration."""

    residual_norm: Any
    gradient_norm: Any
    cost: Any = None


def _iterate(
    steps: Iterator[Step],
    keeper: Keeper,
    stopping: Stopping,
    callback: Callback | None,
    total: int | None,
) -> tuple[list[Norms], Reason]:
    """Run the steps of a method until there is a reason to stop; norms, and the reason.

    `total` is the length of a progress bar, if there is one.
    """
    from tqdm import tqdm

    norms: list[Norms] = []
    with tqdm(total=total, desc=keeper.who, disable=total is None, leave=True) as bar:
        for step in steps:
            if not all(pivot > 0 for pivot in step.pivots):
                break
            keeper.take(step)
            norms.append(Norms(*map(_number, (*step[2:4], step.cost))))
            done, last = len(norms) - 1, norms[-1]
            reason: Reason | None = stopping.reason(done, *last[:2])
            if done:
                part = last.gradient_norm / norms[0].gradient_norm
                bar.set_postfix_str(f"{part:.1e}", refresh=False)
                bar.update()
                if callback is not None and reason not in _SETTLED:
                    goes_on = callback(Status(done, *last, keeper.model()))
                    if isinstance(goes_on, (bool, np.bool_)) and not goes_on:
                        reason = Reason.CALLBACK
            if reason is not None:
                return norms, reason
    return norms, Reason.BREAKDOWN


# Nobody need be asked whether to go on.
_SETTLED = (Reason.TOLERANCE, Reason.EXACT, Reason.NOT_FINITE)


def _number(value: Any) -> Any:
    return None if value is None else np.float64(value)


def _history(norms: list[Norms]) -> xr.Dataset:
    """What is known of each iteration."""
    columns = {name: [getattr(n, name) for n in norms] for name in Norms._fields}
    return xr.Dataset(
        {
            name: ("iteration", np.array(values))
            for name, values in columns.items()
            if values[0] is not None
        },
        coords={"iteration": np.arange(len(norms))},
    )


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
