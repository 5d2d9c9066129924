"""Checkpoints: the state of a solver on disk, from which the same call goes on.

A checkpoint is a Zarr group. Each state is a folder in it, which is complete before the
group's attributes name it, by one rename: whatever happens, a whole state is there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from xlops import engine
from xlops.engine import Tree
from xlops.engine.stored import import_zarr
from xlops.errors import ArgumentError, FileError, listed, shown
from xlops.files.common import checked_path
from xlops.files.writing import flush
from xlops.operator import LinearOperator
from xlops.solvers.loop import Course, Norms, Step
from xlops.solvers.problem import Problem
from xlops.solvers.solution import Reason
from xlops.windows.pieces import Array

__all__ = ["Checkpoint", "Identity", "Saved", "Saver", "identity_of"]

NOTE = "xlops_checkpoint"
VERSION = 1
# Numbers of the same problem differ by less than so many roundings.
ROUNDINGS = 1000


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where and how often a solver writes its state.

    Parameters
    ----------
    path : str or PathLike
        The checkpoint, such as ``"run.zarr"``: a new one, or one to go on from. Needs
        zarr. On a cluster all workers must see it.
    every : int, optional
        Iterations from one writing to the next.
    minutes : float, optional
        Minutes from one writing to the next; 5 if neither is given.

    Notes
    -----
    The state is written at the end, too.

    Examples
    --------
    >>> import pathlib, tempfile, xarray as xr, xlops as xl
    >>> y = xr.DataArray([2.0, 8.0], dims="time")
    >>> A = xl.Diagonal(xr.DataArray([2.0, 4.0], dims="time"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = xl.Checkpoint(pathlib.Path(folder, "run.zarr"), every=1)
    ...     first = xl.cgls(A, y, niter=1, checkpoint=checkpoint)
    ...     xl.cgls(A, y, checkpoint=checkpoint).iterations  # goes on from there
    2
    """

    path: str | os.PathLike[str]
    every: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        checked_path(self.path, "Checkpoint")
        if self.every is not None and not (
            isinstance(self.every, (int, np.integer)) and self.every >= 1
        ):
            raise ArgumentError(
                f"Checkpoint: every must be a whole number from 1 on, got "
                f"{shown(self.every)}"
            )
        number = isinstance(self.minutes, (int, float, np.integer, np.floating))
        if self.minutes is not None and not (number and self.minutes > 0):
            raise ArgumentError(
                f"Checkpoint: minutes must be a positive number, got {shown(self.minutes)}"
            )

    @property
    def seconds(self) -> float:
        """From one writing to the next."""
        if self.minutes is None:
            return np.inf if self.every else 300.0
        return 60.0 * self.minutes


@dataclasses.dataclass(frozen=True)
class Identity:
    """What tells a problem from others.

    Parameters
    ----------
    words : mapping of str to str
        What must be the very same, by what it is of: the method, the damping, units.
    marks : mapping of str to str
        The same for what has names that say nothing to people: labels.
    numbers : mapping of str to list of float
        What must be the same up to rounding: norms of the data and of what operators
        make of them.
    tokens : mapping of str to str
        Names of operators. The same name is the same operator; another name may be, for
        not all that operators are made of has a name that lasts.
    """

    words: Mapping[str, str]
    marks: Mapping[str, str]
    numbers: Mapping[str, Sequence[float]]
    tokens: Mapping[str, str]
    rounding: float

    def difference(self, other: Identity) -> str | None:
        """What another problem has that this one has not."""
        for what, text in self.words.items():
            if other.words.get(what) != text:
                return f"{what} ({other.words.get(what)} there, {text} here)"
        for what, text in self.marks.items():
            if other.marks.get(what) != text:
                return what
        for what, values in self.numbers.items():
            if what in self.tokens and self.tokens[what] == other.tokens.get(what):
                continue
            given = other.numbers.get(what, ())
            alike = len(given) == len(values) and np.allclose(
                values, given, rtol=ROUNDINGS * self.rounding, atol=0.0
            )
            if not alike:
                return what
        return None


def identity_of(
    method: Callable[..., Any],
    name: str,
    problem: Problem,
    words: Mapping[str, str],
    marks: Mapping[str, str],
) -> Identity:
    """The identity of a problem; its numbers take a product with A and one with Aᴴ.

    Parameters
    ----------
    method : callable
        The generator of steps.
    name : str
        The solver.
    problem : Problem
        What it solves.
    words, marks : mapping of str to str
        What else there is to say of it.
    """
    first = problem.adjoint(problem.y)
    vectors: dict[str, list[Tree]] = {
        "data": [problem.y],
        "operator": [first, problem.forward(first)],
    }
    tokens = {"operator": problem.operator.token}
    if problem.x_ref is not None:
        vectors["x_ref"] = [engine.alike(problem.x_ref, problem.model)]
    if problem.preconditioner is not None:
        vectors["preconditioner"] = [problem.precondition(first)]
        tokens["preconditioner"] = problem.preconditioner.token
    flat = [vector for group in vectors.values() for vector in group]
    norms = problem.vectors.dots(*((vector, vector) for vector in flat))
    sums = [engine.total(vector) for vector in flat]
    found = [*map(float, problem.vectors.persist(*norms, *sums))]
    pairs = iter(zip(found[: len(flat)], found[len(flat) :], strict=True))
    numbers = {
        what: [number for _ in group for number in next(pairs)]
        for what, group in vectors.items()
    }
    given = {
        "method": f"{name}{_described(method)}" if _is_told(method) else name,
        "precision": ", ".join(str(leaf.data.dtype) for leaf in engine.leaves(problem.y)),
        "kind of arrays": "Dask" if _is_lazy(problem.y) else "NumPy",
        "damp": repr(float(problem.damp)),
        "x_ref": "one" if problem.x_ref is not None else "none",
        "preconditioner": "one" if problem.preconditioner is not None else "none",
    }
    return Identity({**given, **words}, marks, numbers, tokens, problem.rounding)


def _is_told(method: Any) -> bool:
    """Whether a method is told more than the problem."""
    return isinstance(method, functools.partial)


def _described(value: Any) -> str:
    """What a method is told besides the problem, in words that last."""
    if isinstance(value, functools.partial):
        given = [f"{k}={_described(v)}" for k, v in value.keywords.items()]
        return f"({', '.join([*map(_described, value.args), *given])})"
    if isinstance(value, (bool, int, float, complex, str, np.generic, type(None))):
        return repr(value)
    if isinstance(value, (list, tuple, dict)):
        items = value.items() if isinstance(value, dict) else value
        return f"({', '.join(map(_described, items))})"
    if isinstance(value, LinearOperator):
        return f"{value} {value.token}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (np.ndarray, xr.DataArray)):
        return str(tokenize(value))
    return f"{type(value).__qualname__}{_described(vars(value))}"


@dataclasses.dataclass
class Saved:
    """A state that has been read.

    Parameters
    ----------
    step : Step
        The step that it was written after.
    norms : list of Norms
        Of all iterations up to there.
    reason : Reason or None
        Why the solver had stopped, if it had.
    """

    step: Step
    norms: list[Norms]
    reason: Reason | None


class Saver:
    """Writes states to a checkpoint and reads the last one.

    Parameters
    ----------
    given : Checkpoint, str or PathLike
        As the user gave it.
    who : str
        The solver.
    """

    def __init__(self, given: Any, who: str) -> None:
        self._given = given if isinstance(given, Checkpoint) else Checkpoint(given)
        path = checked_path(self._given.path, f"{who}: checkpoint")
        import_zarr(f"{who}: checkpoint")
        self._folder = Path(os.path.realpath(path))
        self._who = f"{who}: the checkpoint {path}"
        self._note = self._opened()
        self._written = int(self._note.get("iteration", 0))
        self._last = time.monotonic()
        self._identity: Identity | None = None

    @property
    def left(self) -> str:
        """What is there, for errors."""
        return (
            f"the state of iteration {self._written} is in {self._folder}: the same call "
            "goes on from it"
        )

    # --- reading ----------------------------------------------------------------------

    def _opened(self) -> dict[str, Any]:
        """What the checkpoint says of its state; a new one where there is none."""
        folder = self._folder
        if not folder.exists():
            if not folder.parent.is_dir():
                raise FileError(
                    f"{self._who}: the folder {folder.parent} does not exist; make it first"
                )
            self._begin()
            return {}
        if not folder.is_dir():
            raise FileError(f"{self._who} is a file; choose a new name")
        there = sorted(path.name for path in folder.iterdir())
        if not there:
            self._begin()
            return {}
        try:
            attrs = json.loads((folder / ".zattrs").read_text())
        except FileNotFoundError:
            attrs = {}
        except (OSError, ValueError) as error:
            raise FileError(
                f"{self._who} cannot be read: its .zattrs is damaged ({error}); remove the "
                "folder to start anew"
            ) from error
        note = attrs.get(NOTE) if isinstance(attrs, dict) else None
        if not isinstance(note, dict):
            raise FileError(
                f"{self._who} is none: there is {listed(there[:3])}, which no solver has "
                "put there; choose a new folder"
            )
        if note.get("version") != VERSION:
            raise FileError(
                f"{self._who} is of another version of xlops ({note.get('version')}, "
                f"expected {VERSION}); remove the folder to start anew"
            )
        return note if note.get("state") else {}

    def _begin(self) -> None:
        """An empty checkpoint."""
        try:
            self._folder.mkdir(exist_ok=True)
            _replace(self._folder / ".zgroup", json.dumps({"zarr_format": 2}))
            self._point({"version": VERSION, "state": None})
        except OSError as error:
            raise FileError(f"{self._who} cannot be written: {error.strerror}") from error

    def _point(self, note: dict[str, Any]) -> None:
        """Say which state counts, in one moment."""
        _replace(self._folder / ".zattrs", json.dumps({NOTE: note}))

    def read(self, identity: Identity, problem: Problem) -> Saved | None:
        """The last state, if there is one.

        Raises
        ------
        ArgumentError
            Where it is of another problem.
        FileError
            Where it is damaged.
        """
        self._identity = identity
        note = self._note
        if not note:
            return None
        difference = identity.difference(Identity(**note["identity"]))
        if difference is not None:
            raise ArgumentError(
                f"{self._who} is of another problem: not the same {difference}; give the "
                "same arguments as before, or another checkpoint"
            )
        folder = self._folder / note["state"]
        lazy = _is_lazy(problem.y)
        try:
            arrays = [_array(folder, spec, lazy) for spec in note["arrays"]]
            parts = [_restored(part, arrays) for part in note["parts"]]
            columns = [
                None if name is None else _column(folder / name) for name in note["norms"]
            ]
        except (OSError, ValueError, KeyError) as error:
            raise FileError(
                f"{self._who} cannot be read: its state {note['state']} is damaged "
                f"({error}); remove the folder to start anew"
            ) from error
        count = note["iteration"] + 1
        rows = [[None] * count if c is None else c.tolist() for c in columns]
        norms = [Norms(*row) for row in zip(*rows, strict=True)]
        x, residual, *state = parts
        last = norms[-1]
        step = Step(x, residual, last[0], last[1], tuple(state), (), last[2])
        reason = note["reason"]
        return Saved(step, norms, None if reason is None else Reason[reason])

    # --- writing ----------------------------------------------------------------------

    def is_due(self, course: Course) -> bool:
        """Whether the time has come to write."""
        since = course.done - self._written
        every = self._given.every
        late = time.monotonic() - self._last >= self._given.seconds
        return bool(course.done) and ((every is not None and since >= every) or late)

    def finish(self, course: Course, step: Step) -> None:
        """Write the last state, unless it is there."""
        reason: Any = course.reasons[()]
        if (course.done, reason.name) != (self._written, self._note.get("reason")):
            self.write(course, step)

    def write(self, course: Course, step: Step) -> Step:
        """Write a state; the same step, where its vectors are on disk and lazy."""
        assert self._identity is not None
        name = f"state-{course.done:06d}-{uuid.uuid4().hex[:8]}"
        folder = self._folder / name
        try:
            folder.mkdir()
            _replace(folder / ".zgroup", json.dumps({"zarr_format": 2}))
            x = step.x() if callable(step.x) else step.x
            arrays = _Arrays(folder)
            parts = [arrays.put(part) for part in (x, step.residual, *step.state)]
            specs = arrays.write()
            norms: list[str | None] = []
            columns = zip(*course.norms, strict=True)
            for field, column in zip(Norms._fields, columns, strict=True):
                known = column[0] is not None
                norms.append(field if known else None)
                if known:
                    values = Array(np.array(column, dtype=float), ("iteration",))
                    engine.write(values, folder / field)
            flush(folder)
            reason: Any = course.reasons[()]
            before = self._note.get("state")
            self._note = {
                "version": VERSION,
                "state": name,
                "iteration": course.done,
                "reason": None if reason is None else reason.name,
                "identity": dataclasses.asdict(self._identity),
                "arrays": specs,
                "parts": parts,
                "norms": norms,
            }
            self._point(self._note)
        except OSError as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"{self._who} cannot be written: {error}") from error
        self._written, self._last = course.done, time.monotonic()
        # The one before stays: a worker may die that has read from it.
        keep = {name, before} if arrays.are_lazy and course.running.any() else {name}
        for path in self._folder.glob("state-*"):
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)
        if not arrays.are_lazy:
            return step
        made = [_array(folder, spec, True) for spec in specs]
        x, residual, *state = (_restored(part, made) for part in parts)
        return step._replace(x=x, residual=residual, state=tuple(state))


class _Arrays:
    """Arrays of a state: each is written once, however often it occurs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[Any, int] = {}
        self._arrays: list[Array] = []
        self.are_lazy = False

    def put(self, value: Any) -> Any:
        """What stands for a vector or a number in notes."""
        if isinstance(value, dict):
            return {"blocks": {name: self._one(array) for name, array in value.items()}}
        if isinstance(value, Array):
            return {"array": self._one(value)}
        if value is None or isinstance(value, (bool, str)):
            return {"value": value}
        if isinstance(value, (int, np.integer)):
            return {"value": int(value)}
        number = np.asarray(value)
        return {"number": self._one(Array(number, tuple(range(number.ndim))))}

    def _one(self, array: Array) -> int:
        data = array.data
        name = data.name if engine.is_lazy(data) else id(data)
        key = (name, array.dims)
        if key not in self._found:
            self._found[key] = len(self._arrays)
            self._arrays.append(array)
        return self._found[key]

    def write(self) -> list[dict[str, Any]]:
        """Write all of them; what is lazy by whoever computes."""
        lazy = [array for array in self._arrays if engine.is_lazy(array.data)]
        self.are_lazy = bool(lazy)
        shelf = engine.Shelf(self._folder)
        regular = [engine.regular(engine.settled(array)) for array in lazy]  # type: ignore[arg-type]
        done = iter(shelf.compute(*regular))
        specs = []
        for at, array in enumerate(self._arrays):
            if engine.is_lazy(array.data):
                stored = next(done)
                path = shelf.path(stored)
                cuts: Any = [list(map(int, sizes)) for sizes in stored.data.chunks]
                order = None
            else:
                path = self._folder / f"array-{at}"
                order = _order(array.data)
                engine.write(array.ordered([array.dims[i] for i in order]), path)
                cuts = None
            specs.append(
                {
                    "path": path.name,
                    "dims": list(array.dims),
                    "shape": list(array.data.shape),
                    "dtype": array.data.dtype.str,
                    "order": order,
                    "chunks": cuts,
                }
            )
        return specs


def _order(data: Any) -> list[int]:
    """The axes as they lie in memory: sums go through them in this order."""
    return sorted(range(data.ndim), key=lambda axis: (-abs(data.strides[axis]), axis))


def _array(folder: Path, spec: Mapping[str, Any], lazy: bool) -> Array:
    """An array of a state; lazy where it was."""
    dims, dtype = tuple(spec["dims"]), np.dtype(spec["dtype"])
    path = folder / spec["path"]
    if spec["chunks"] is not None:
        chunks = tuple(map(tuple, spec["chunks"]))
        return engine.opened(path, dims, chunks, dtype, lazy)
    order = spec["order"]
    shape = [spec["shape"][axis] for axis in order]
    array = engine.opened(path, tuple(dims[axis] for axis in order), shape, dtype, False)
    return array.ordered(dims)


def _restored(part: Mapping[str, Any], arrays: Sequence[Array]) -> Any:
    """A vector or a number from its notes."""
    if "blocks" in part:
        return {name: arrays[at] for name, at in part["blocks"].items()}
    if "array" in part:
        return arrays[part["array"]]
    if "number" in part:
        data = arrays[part["number"]].data
        return data if data.ndim else data[()]
    return part["value"]


def _column(path: Path) -> Any:
    """Numbers of all iterations."""
    dtype = np.dtype(float)
    size = os.stat(path / "0").st_size // dtype.itemsize
    return engine.opened(path, ("iteration",), [size], dtype, False).data


def _is_lazy(tree: Tree) -> bool:
    return any(engine.is_lazy(leaf.data) for leaf in engine.leaves(tree))


def _replace(path: Path, text: str) -> None:
    """Write a file that is there when it is complete, and not before."""
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with open(new, "x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
