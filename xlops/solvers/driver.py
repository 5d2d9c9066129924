"""The driver: all that solvers share around the steps of a method.

Labels and units are checked and stripped before the first step and put on at the end.
Methods are generators of textbook steps on plain vectors; here is what counts, stops,
records, reports and calls back.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from xlops import engine, units
from xlops.engine import Tree
from xlops.errors import ArgumentError
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
from xlops.solvers.arithmetic import Arithmetic, Each, OnShelf
from xlops.solvers.checkpoint import Saver, identity_of
from xlops.solvers.keeping import Keeper
from xlops.solvers.keywords import Callback, Common, filled
from xlops.solvers.loop import Course, Method, Norms, State, Step
from xlops.solvers.many import (
    Outcome,
    Plans,
    check_apart,
    independent_dims,
    solved_apart,
)
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Solution, Status
from xlops.solvers.stopping import Stopping, seconds
from xlops.solvers.store import Store
from xlops.space import Blocks
from xlops.windows.pieces import Array

__all__ = ["State", "Step", "run"]


@units.one_warning()
def run(
    method: Method,
    operator: LinearOperator,
    y: Any,
    x0: Any,
    *,
    name: str,
    alone: bool = False,
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
    alone : bool
        Whether the method is written for one problem: independent ones are then solved
        one after the other.
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
    dims = independent_dims(given["independent"], y_tree, who)
    saver = None
    if given["checkpoint"] is not None:
        if store is not None or dims:
            other = "store" if store is not None else "independent"
            raise ArgumentError(_NO_CHECKPOINT[other].format(who=who))
        saver = Saver(given["checkpoint"], who)
        keeper.saver = saver
    shown = options().progress if progress is None else progress
    # What one of many problems comes to must not be a warning for all.
    quiet = np.errstate(all="ignore") if dims else contextlib.nullcontext()
    with keeper, quiet:
        in_pieces = False
        if dims:
            plans = Plans(operator, preconditioner, y_tree)
            in_pieces = alone or plans.is_lazy or _any_lazy(y_tree, start, pull)
            check_apart(plans, method, dims, in_pieces, who)
        if in_pieces:
            if callback is not None or store is not None:
                other = "store" if store is not None else "callback"
                raise ArgumentError(_APART[other].format(who=who))
            x, residual, outcome = solved_apart(
                method,
                plans,
                (y_tree, start, pull),
                dims,
                name=name,
                alone=alone,
                damp=weight,
                tol=tol,
                limit=limit,
                deadline=deadline,
            )
            x, residual = label(x), label_residual(residual)
        else:
            vectors = Arithmetic() if keeper.shelf is None else OnShelf(keeper.shelf)
            vectors = Each(dims) if dims else vectors
            problem = Problem(
                operator, y_tree, weight, start, pull, preconditioner, vectors
            )
            keeper.problem = problem
            stopping = Stopping(tol, limit, deadline, problem.unknowns, problem.rounding)
            course = Course(stopping, _shape(y_tree, dims))
            state = None
            if saver is not None:
                words, marks = _words(operator, origins), _marks(operator, y, y_tree)
                identity = identity_of(method, name, problem, words, marks)
                saved = saver.read(identity, problem)
                if saved is not None:
                    course.resume(saved.norms, saved.reason)
                    keeper.resume(saved.step, course.done)
                    state = saved.step.state
            Watched(method, keeper, callback, limit if shown else None)(course, state)
            outcome = Outcome.of(course)
            x, residual = keeper.results()
    return Solution(
        x=x,
        residual=residual,
        iterations=int(outcome.iterations.max(initial=0)),
        reason=outcome.reason,
        method=name,
        history=_history(outcome, dims, y[block] if block else y),
    )


# Why not, where problems are solved piece by piece.
_APART = {
    "callback": (
        "{who}: no callback can be called where independent problems are solved in tasks "
        "of their own; leave it out, or give data in memory"
    ),
    "store": (
        "{who}: store keeps vectors on disk after every iteration, independent problems "
        "are solved in one task per chunk; use one of them"
    ),
}


# Why no checkpoint, where there is something else.
_NO_CHECKPOINT = {
    "store": (
        "{who}: checkpoints are for vectors in memory, store keeps the last iterate on "
        "disk already; use one of them"
    ),
    "independent": (
        "{who}: there are no checkpoints of independent problems; solve them in several "
        "calls instead, some at a time"
    ),
}


def _words(operator: LinearOperator, origins: Mapping[str, Origin]) -> dict[str, str]:
    """What a checkpoint says of units."""
    return {
        "units of the data": ", ".join(str(origin.unit) for origin in origins.values()),
        "units of the operator": ", ".join(map(str, operator.gains.values())),
    }


def _marks(operator: LinearOperator, y: Any, tree: Tree) -> dict[str, str]:
    """What a checkpoint says of labels and sizes."""
    blocks = tree if isinstance(tree, dict) else {"": tree}
    labels = []
    for name, array in blocks.items():
        coords = (y[name] if name else y).coords
        for dim, size in array.sizes.items():
            values = coords[dim].values if dim in coords else None
            labels.append((name, str(dim), size, values))
    sides = operator.domain.token, operator.range.token
    return {"labels of the operator": str(sides), "labels of the data": tokenize(labels)}


def _any_lazy(*vectors: Tree | None) -> bool:
    return any(
        engine.is_lazy(leaf.data)
        for vector in vectors
        if vector is not None
        for leaf in engine.leaves(vector)
    )


def _shape(y: Tree, dims: Sequence[Hashable]) -> tuple[int, ...]:
    sizes = engine.leaves(y)[0].sizes
    return tuple(sizes[dim] for dim in dims)


class Watched:
    """Runs steps with a bar, a callback that sees labels, and checkpoints.

    Parameters
    ----------
    method : callable
        The generator of steps.
    keeper : Keeper
        Has the iterates.
    callback : callable or None
        As the user gave it.
    total : int or None
        The length of a progress bar, if there is one.
    """

    def __init__(
        self,
        method: Method,
        keeper: Keeper,
        callback: Callback | None,
        total: int | None,
    ) -> None:
        self._method, self._keeper = method, keeper
        self._callback, self._total = callback, total

    def __call__(self, course: Course, state: State | None) -> None:
        """Run the steps of the method, from a state, until there is a reason to stop."""
        from tqdm import tqdm

        hidden = self._total is None
        start, who = max(course.done, 0), self._keeper.who
        with tqdm(total=self._total, desc=who, initial=start, disable=hidden) as bar:

            def after(course: Course, step: Step) -> Iterator[Step] | None:
                if course.done and not hidden:
                    bar.set_postfix_str(_so_far(course), refresh=False)
                    bar.update()
                return self._saved(course, step)

            ask = None if self._callback is None else self._ask
            steps = self._method(self._keeper.problem, state)
            course.run(steps, self._keeper, ask, after)
        if self._keeper.saver is not None and course.done > 0:
            self._keeper.saver.finish(course, self._keeper.last)

    def _saved(self, course: Course, step: Step) -> Iterator[Step] | None:
        """Write a checkpoint when it is due; steps that go on from what was written."""
        saver = self._keeper.saver
        if saver is None or not saver.is_due(course):
            return None
        new = saver.write(course, step)
        if new is step or not course.running.any():
            return None
        # What has been computed so far has no history any more.
        self._keeper.replace(new)
        return self._method(self._keeper.problem, new.state)

    def _ask(self, course: Course) -> bool:
        assert self._callback is not None
        status = Status(course.done, *course.norms[-1], self._keeper.model())
        answer = self._callback(status)
        return not isinstance(answer, (bool, np.bool_)) or bool(answer)


def _so_far(course: Course) -> str:
    """How far the worst problem has come, and how many go on."""
    with np.errstate(all="ignore"):
        parts = course.norms[-1].gradient_norm / course.norms[0].gradient_norm
        text = f"{np.fmax.reduce(parts, axis=None):.1e}"
    count = int(np.count_nonzero(course.running))
    return f"{text}, {count} going on" if course.running.ndim else text


def _history(outcome: Outcome, dims: tuple[Hashable, ...], data: Any) -> xr.Dataset:
    """What is known of each iteration; of many problems, of each of them."""
    pairs = zip(Norms._fields, outcome.norms, strict=True)
    history = xr.Dataset(
        {name: (("iteration", *dims), n) for name, n in pairs if n is not None}
    )
    history = history.assign_coords(iteration=np.arange(history.sizes["iteration"]))
    if not dims:
        return history
    names = np.array([r.name for r in outcome.reasons.flat], dtype=str)
    history = history.assign(
        iterations=(dims, outcome.iterations),
        reason=(dims, names.reshape(outcome.reasons.shape)),
    )
    coords = {
        name: coord.variable
        for name, coord in data.coords.items()
        if coord.dims and set(coord.dims) <= set(dims)
    }
    return history.assign_coords(coords)


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
