"""Many problems at once: each with its own steps, and its own reason to stop."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Apart, Tree
from xlops.errors import LabelError, listed
from xlops.operator import LinearOperator
from xlops.solvers.arithmetic import Arithmetic, Each
from xlops.solvers.iterates import Iterates
from xlops.solvers.loop import Course, Method
from xlops.solvers.problem import Problem, layout_of
from xlops.solvers.solution import Reason
from xlops.solvers.stopping import Stopping
from xlops.space import Space, by_name
from xlops.windows.pieces import Array, NDArray, Window
from xlops.windows.plan import Apply, Plan, Source, nodes

__all__ = ["Outcome", "Plans", "check_apart", "independent_dims", "solved_apart"]


def independent_dims(given: Any, y: Tree, who: str) -> tuple[Hashable, ...]:
    """The dims along which problems are independent, which all data must have."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    dims = tuple(dict.fromkeys(given if several else [given]))
    for array in engine.leaves(y):
        for dim in dims:
            if dim not in array.dims:
                raise LabelError(
                    f"{who}: independent: the data have no dim {str(dim)!r}, they have "
                    f"{listed(array.dims)}"
                )
    return dims


def check_apart(
    plans: Plans, method: Method, dims: Sequence[Hashable], in_pieces: bool, who: str
) -> None:
    """Raise where an operator makes problems depend on each other.

    Those that a method has must not know the dims at all where pieces are solved.
    """
    told = operators_in(method)
    for operator in told if in_pieces else []:
        known = {dim for space in _spaces(operator) for dim in space.dims}
        for dim in dims:
            if dim in known:
                raise LabelError(
                    f"{who}: {operator} shares {str(dim)!r} with the problems, which it "
                    "may with data in memory only; load them, or leave the dim out of "
                    "independent"
                )
    planned = [(op, op._plan(_planned(_zero_sources(op)), False)) for op in told]
    for operator, plan in (*plans.named, *planned):
        found = engine.coupling(plan, dims)
        if found is not None:
            name, dim = found
            inside = "" if name == str(operator) else f", in {operator},"
            raise LabelError(
                f"{who}: problems along {str(dim)!r} are not independent: {name}{inside} "
                "acts along it; leave it out of independent"
            )


# Reasons from good news to bad.
SEVERITY = (
    Reason.EXACT,
    Reason.TOLERANCE,
    Reason.CALLBACK,
    Reason.TIME,
    Reason.NITER,
    Reason.STAGNATION,
    Reason.BREAKDOWN,
    Reason.NOT_FINITE,
)


@dataclasses.dataclass
class Outcome:
    """How many problems went, as arrays over them.

    Parameters
    ----------
    norms : list of ndarray or None
        As in `Norms`; iterations come first.
    reasons : ndarray of Reason
        Why each has stopped.
    iterations : ndarray of int
        After how many.
    """

    norms: list[NDArray | None]
    reasons: NDArray
    iterations: NDArray

    @property
    def reason(self) -> Reason:
        """Why the solver stopped: of many reasons the one that is the worst news."""
        found: set[Reason] = set(self.reasons.flat)
        return max(found, key=SEVERITY.index, default=Reason.EXACT)

    @classmethod
    def of(cls, course: Course) -> Outcome:
        """That of a course."""
        columns = zip(*course.norms, strict=True)
        norms = [None if c[0] is None else np.array(c, dtype=float) for c in columns]
        return cls(norms, course.reasons, course.iterations)


def merged(
    pieces: Sequence[tuple[Window, Outcome]], sizes: Mapping[Hashable, int]
) -> Outcome:
    """The outcome of all problems, from those of pieces."""
    shape, dims = tuple(sizes.values()), tuple(sizes)
    longest = 1 + max(int(piece.iterations.max(initial=0)) for _, piece in pieces)
    first = pieces[0][1].norms
    norms = [None if n is None else np.full((longest, *shape), np.nan) for n in first]
    whole = Outcome(norms, np.empty(shape, dtype=object), np.zeros(shape, dtype=int))
    for where, piece in pieces:
        at = tuple(where[dim] for dim in dims)
        whole.reasons[at], whole.iterations[at] = piece.reasons, piece.iterations
        for target, given in zip(whole.norms, piece.norms, strict=True):
            if target is not None and given is not None:
                target[(slice(0, len(given)), *at)] = given
    return whole


def operators_in(value: Any) -> list[LinearOperator]:
    """The operators that a method is told of besides A."""
    if isinstance(value, LinearOperator):
        return [value]
    if isinstance(value, functools.partial):
        value = [*value.args, *value.keywords.values()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        value = [*value.values()]
    if not isinstance(value, (list, tuple)):
        return []
    return [operator for one in value for operator in operators_in(one)]


def _spaces(operator: LinearOperator) -> list[Space]:
    return [*by_name(operator.domain).values(), *by_name(operator.range).values()]


def _zero_sources(operator: LinearOperator) -> dict[str, Source]:
    """What stands for a model of an operator's own dims."""
    dtype = np.dtype(np.float64)
    spaces = by_name(operator.domain)
    return {n: Source(space.dims, space.sizes, dtype) for n, space in spaces.items()}


@dataclasses.dataclass(frozen=True)
class Job:
    """What tasks share that solve problems piece by piece.

    Parameters
    ----------
    method : callable
        The generator of steps.
    alone : bool
        Whether the method solves one problem after the other.
    dims : tuple of Hashable
        The dims along which problems are independent.
    blocks : tuple of tuple of str
        Names of the blocks of data and model; one without a name where there is one.
    orders : tuple of tuple
        The dims of the blocks of data, and of the model.
    plans : tuple of Apart or None
        Forward, adjoint, and the preconditioner.
    counts : tuple of int
        Weights of each of them.
    given : tuple of bool
        Whether there are x0 and x_ref.
    damp, tol, limit, deadline : float
        As for the solver; the deadline is one of `time.time`.
    """

    method: Method
    alone: bool
    dims: tuple[Hashable, ...]
    blocks: tuple[tuple[str, ...], tuple[str, ...]]
    orders: tuple[tuple[Any, ...], tuple[Any, ...]]
    plans: tuple[Apart | None, ...]
    counts: tuple[int, ...]
    given: tuple[bool, bool]
    damp: float
    tol: float
    limit: int
    deadline: float

    def tree(self, arrays: Sequence[Any], model: bool) -> Tree:
        """A vector from its arrays."""
        made = {
            name: Array(np.asarray(data), dims)
            for name, dims, data in zip(
                self.blocks[model], self.orders[model], arrays, strict=True
            )
        }
        return made[""] if set(made) == {""} else made


@dataclasses.dataclass
class _Piece:
    """An operator where it acts on a piece, as problems see it."""

    forward: Apart
    adjoint: Apart
    weights: tuple[Sequence[Any], Sequence[Any]]
    where: Window
    origin: Window

    def _run(self, x: Tree, adjoint: bool) -> Tree:
        plan = self.adjoint if adjoint else self.forward
        return plan.run(x, self.weights[adjoint], self.where, self.origin)


def solve_piece(job: Job, where: Window, *arrays: Any) -> tuple[Any, ...]:
    """Solve the problems of a piece.

    The arrays of models and of residuals, then where the piece lies and its outcome.
    """
    rest = iter(arrays)
    y = job.tree([*itertools.islice(rest, len(job.blocks[0]))], False)
    count = len(job.blocks[1])
    x0, x_ref = (
        job.tree([*itertools.islice(rest, count)], True) if given else None
        for given in job.given
    )
    weights = [[*itertools.islice(rest, n)] for n in job.counts]
    shape = tuple(where[dim].stop - where[dim].start for dim in job.dims)
    with engine.one_thread_each(), np.errstate(all="ignore"):
        if not job.alone:
            vectors, outcome = _solve(job, where, where, (y, x0, x_ref), weights)
        else:
            vectors, outcome = _one_by_one(job, where, shape, y, x0, x_ref, weights)
    note = np.empty((1,) * len(job.dims), dtype=object)
    note[(0,) * note.ndim] = (where, outcome)
    leaves = [leaf.data for vector in vectors for leaf in engine.leaves(vector)]
    return (*leaves, note)


def _solve(
    job: Job,
    where: Window,
    origin: Window,
    given: Sequence[Tree | None],
    weights: Sequence[Sequence[Any]],
) -> tuple[tuple[Tree, Tree], Outcome]:
    """Solve all problems of a piece at once; or the only one that it has."""
    y, x0, x_ref = given
    assert y is not None
    forward, adjoint, preconditioner = job.plans
    assert forward is not None and adjoint is not None
    operator: Any = _Piece(forward, adjoint, (weights[0], weights[1]), where, origin)
    turned: Any = None
    if preconditioner is not None:
        turned = _Piece(preconditioner, preconditioner, (weights[2], ()), where, origin)
    shape = tuple(where[dim].stop - where[dim].start for dim in job.dims)
    vectors = Arithmetic() if job.alone else Each(job.dims)
    layout = dict(zip(job.blocks[1], job.orders[1], strict=True))
    problem = Problem(operator, y, job.damp, x0, x_ref, turned, vectors, layout)
    left = job.deadline - time.time()
    stopping = Stopping(
        job.tol, job.limit, time.monotonic() + left, problem.unknowns, problem.rounding
    )
    course = Course(stopping, () if job.alone else shape)
    iterates = Iterates()
    iterates.problem = problem
    course.run(job.method(problem, None), iterates)
    return iterates.vectors(), Outcome.of(course)


def _one_by_one(
    job: Job,
    where: Window,
    shape: tuple[int, ...],
    y: Tree,
    x0: Tree | None,
    x_ref: Tree | None,
    weights: Sequence[Sequence[Any]],
) -> tuple[tuple[Tree, Tree], Outcome]:
    """Solve the problems of a piece one after the other."""
    results: list[Any] = []
    outcomes = []
    sizes = dict(zip(job.dims, shape, strict=True))
    for index in np.ndindex(*shape):
        own = {dim: slice(i, i + 1) for dim, i in zip(job.dims, index, strict=True)}

        def part(array: Array, own: Window = own) -> Array:
            cut = tuple(own.get(dim, slice(None)) for dim in array.dims)
            return Array(array.data[cut], array.dims)

        lies = {
            d: slice(where[d].start + s.start, where[d].start + s.stop)
            for d, s in own.items()
        }
        pieces = [None if v is None else engine.transform(part, v) for v in (y, x0, x_ref)]
        vectors, outcome = _solve(job, lies, where, pieces, weights)
        one = Outcome(
            [
                None if n is None else n.reshape(-1, *[1] * len(sizes))
                for n in outcome.norms
            ],
            outcome.reasons.reshape([1] * len(sizes)),
            outcome.iterations.reshape([1] * len(sizes)),
        )
        outcomes.append((own, one))
        if not results:
            results = [engine.transform(lambda a: _empty(a, sizes), v) for v in vectors]
        for target, given in zip(results, vectors, strict=True):
            for a, b in zip(engine.leaves(target), engine.leaves(given), strict=True):
                a.data[tuple(own.get(dim, slice(None)) for dim in a.dims)] = b.ordered(
                    a.dims
                ).data
    return (results[0], results[1]), merged(outcomes, sizes)


def _empty(array: Array, sizes: Mapping[Hashable, int]) -> Array:
    shape = [sizes.get(dim, n) for dim, n in array.sizes.items()]
    return Array(np.empty(shape, array.data.dtype), array.dims)


class Plans:
    """The plans of a problem, on arrays of their whole sizes.

    Parameters
    ----------
    operator : LinearOperator
        A.
    preconditioner : LinearOperator or None
        Of the model.
    y : Array or dict of Array
        The data.
    """

    def __init__(
        self, operator: LinearOperator, preconditioner: LinearOperator | None, y: Tree
    ) -> None:
        self.layout = layout_of(operator, y)
        self.data = _sources(y)
        self.adjoint = operator._plan(_planned(self.data), True)
        ends = self.adjoint if isinstance(self.adjoint, dict) else {"": self.adjoint}
        self.model = {
            name: Source(dims, {d: ends[name].sizes[d] for d in dims}, ends[name].dtype)
            for name, dims in self.layout.items()
        }
        self.forward = operator._plan(_planned(self.model), False)
        self.named: list[tuple[LinearOperator, Plan]] = [(operator, self.forward)]
        self.preconditioner: Plan | None = None
        if preconditioner is not None:
            self.preconditioner = preconditioner._plan(_planned(self.model), False)
            self.named.append((preconditioner, self.preconditioner))

    @property
    def is_lazy(self) -> bool:
        """Whether weights are."""
        ends = [
            end
            for _, plan in self.named
            for end in (plan.values() if isinstance(plan, dict) else [plan])
        ]
        return any(
            isinstance(weight, Array) and engine.is_lazy(weight.data)
            for end in ends
            for node in nodes(end)
            if isinstance(node, Apply)
            for weight in node.step.weights
        )


def _sources(tree: Tree) -> dict[str, Source]:
    if isinstance(tree, dict):
        return {name: Source.of(array) for name, array in tree.items()}
    return {"": Source.of(tree)}


def _planned(sources: dict[str, Source]) -> Plan:
    return sources[""] if set(sources) == {""} else {**sources}


def solved_apart(
    method: Method,
    plans: Plans,
    vectors: tuple[Tree, Tree | None, Tree | None],
    dims: tuple[Hashable, ...],
    *,
    name: str,
    alone: bool,
    damp: float,
    tol: float,
    limit: int,
    deadline: float,
) -> tuple[Tree, Tree, Outcome]:
    """Models, residuals and outcome of problems that are solved piece by piece.

    On Dask a piece is a chunk along `dims`, and one task; on NumPy it is everything.

    Parameters
    ----------
    method : callable
        The generator of steps.
    plans : Plans
        Of the operators.
    vectors : tuple of Array or dict of Array or None
        The data, x0 and x_ref.
    dims : tuple of Hashable
        The dims along which problems are independent.
    name : str
        The solver.
    alone : bool
        Whether the method solves one problem after the other.
    damp, tol, limit, deadline
        As for `Stopping`.
    """
    y = vectors[0]
    lazy = plans.is_lazy or any(
        engine.is_lazy(leaf.data)
        for v in vectors
        if v is not None
        for leaf in engine.leaves(v)
    )
    made = [
        engine.apart(plan, sources, lazy)
        for plan, sources in (
            (plans.forward, plans.model),
            (plans.adjoint, plans.data),
            (plans.preconditioner, plans.model),
        )
        if plan is not None
    ]
    job = Job(
        method=method,
        alone=alone,
        dims=dims,
        blocks=(tuple(plans.data), tuple(plans.model)),
        orders=tuple(
            tuple(s.dims for s in side.values()) for side in (plans.data, plans.model)
        ),  # type: ignore[arg-type]
        plans=(*(plan for plan, _ in made), None)[:3],
        counts=tuple(len(weights) for _, weights in made),
        given=(vectors[1] is not None, vectors[2] is not None),
        damp=damp,
        tol=tol,
        limit=limit,
        deadline=time.time() + deadline - time.monotonic(),
    )
    given: list[Array] = []
    for vector, sources in zip(
        vectors, (plans.data, plans.model, plans.model), strict=True
    ):
        if vector is not None:
            blocks = vector if isinstance(vector, dict) else {"": vector}
            given += [
                Array(blocks[n].ordered(s.dims).data.astype(s.dtype, copy=False), s.dims)
                for n, s in sources.items()
            ]
    weights = [array for _, arrays in made for array in arrays]
    sizes = {dim: engine.leaves(y)[0].sizes[dim] for dim in dims}
    if lazy:
        looks = [*plans.model.values(), *plans.data.values()]
        leaves, notes = engine.in_tasks(solve_piece, job, name, dims, given, weights, looks)
        outcome = merged(notes, sizes)
    else:
        where = {dim: slice(0, size) for dim, size in sizes.items()}
        *arrays, note = solve_piece(job, where, *(array.data for array in given))
        leaves = [
            Array(data, source.dims)
            for data, source in zip(
                arrays, (*plans.model.values(), *plans.data.values()), strict=True
            )
        ]
        _, outcome = note.item()
    count = len(plans.model)
    x = dict(zip(plans.model, leaves[:count], strict=True))
    residual = dict(zip(plans.data, leaves[count:], strict=True))
    return x.get("", x), residual.get("", residual), outcome
