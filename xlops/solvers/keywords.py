"""The keywords that all solvers share: said, typed and documented once.

A solver takes them as ``**common: Unpack[Common]``, which type checkers and editors know
in full. `solver` gives it the signature and the pages that people see.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, TypeAlias, TypedDict, TypeVar, cast

from xlops.operator import LinearOperator
from xlops.solvers.checkpoint import Checkpoint
from xlops.solvers.solution import Status

__all__ = ["Callback", "Common", "filled", "solver"]

Callback: TypeAlias = Callable[[Status], object]
F = TypeVar("F", bound=Callable[..., Any])


class Common(TypedDict, total=False):
    """What all solvers take besides operator, data and start."""

    niter: int | None
    tol: float
    time_limit: Any
    damp: Any
    x_ref: Any
    preconditioner: LinearOperator | None
    independent: Hashable | Sequence[Hashable]
    callback: Callback | None
    progress: bool | None
    checkpoint: str | os.PathLike[str] | Checkpoint | None
    store: str | os.PathLike[str] | None


DEFAULTS: Common = {
    "niter": None,
    "tol": 1e-6,
    "time_limit": None,
    "damp": 0,
    "x_ref": None,
    "preconditioner": None,
    "independent": (),
    "callback": None,
    "progress": None,
    "checkpoint": None,
    "store": None,
}

# What docstrings of solvers say unless they say it themselves.
PAGE = """
Parameters
----------
A : LinearOperator
    Any operator, a stack too.
y : DataArray
    Data with the labels of ``A.range``; other dims pass through. Blocks as a mapping
    or a Dataset.
x0 : DataArray, optional
    Where to start; zero unless given. Blocks as a mapping or a Dataset.
niter : int, optional
    Iterations allowed; 4 per unknown, at least 100 and at most 10 000, unless given.
tol : float
    Bound of ‖Aᴴ r − damp² (x − x_ref)‖, relative to its first value.
time_limit : float, str, timedelta or quantity, optional
    Time allowed: a number counts in seconds, a string is one such as ``"10 min"``. The
    iteration that is on when it has passed is the last one.
damp : float or quantity
    Weight of the model in the objective; a quantity must have the units of A.
x_ref : DataArray, optional
    The model that damping pulls to; zero unless given.
preconditioner : LinearOperator, optional
    A positive operator on the model, near the inverse of AᴴA + damp².
independent : Hashable or sequence of Hashable, optional
    Dims along which there are problems of their own: each is solved with its own steps
    and stops for itself, all at once. All operators must pass these dims through, or
    share them sample by sample. On Dask every chunk along them is solved in one task.
callback : callable, optional
    Called with a `Status` after each iteration; returning False stops.
progress : bool, optional
    Whether to show a progress bar; as ``set_options(progress=…)`` says unless given.
checkpoint : str, PathLike or Checkpoint, optional
    Where to write the state of the solver, such as ``"run.zarr"``, from time to time and
    at the end; see `Checkpoint`. The same call again goes on from it, and returns at once
    where the solver had finished. That of another problem is refused.
store : str or PathLike, optional
    A folder for the vectors of the solver, which need not fit into memory then: a new
    one, or that of an earlier solution, which is replaced in the end. ``x.zarr`` and
    ``residual.zarr`` stay there, also when the solver fails. The data must be lazy.

Returns
-------
Solution
    With ``x`` in unit(y) / A.units.

Raises
------
LabelError, UnitError, DTypeError, ArgumentError
    Where an argument does not fit; before any work.
DataError
    Where the data have NaN.
ChunkError, FileError
    Where data or folder do not do for `store`, or a checkpoint cannot be read.
ClusterError
    Where a cluster is lost, or its workers die again and again.

Notes
-----
Eager: with Dask every iteration is one submission, and x comes back persisted. Lazy
weights of A are computed in each of them: persist those that fit into memory.
"""
ORDER = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples")
# What each solver takes, by its name.
_taken: dict[str, frozenset[str]] = {}


def solver(*, without: Collection[str] = ()) -> Callable[[F], F]:
    """Decorate a solver: its signature and its docstring gain the common keywords.

    Entries of the docstring come before those of `PAGE`; so do parameters with defaults
    of its own.

    Parameters
    ----------
    without : collection of str
        Common keywords that the method has no use for.
    """

    def decorated(function: F) -> F:
        plain = inspect.signature(function)
        own = {n: p for n, p in plain.parameters.items() if p.kind is not p.VAR_KEYWORD}
        common = {
            name: inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Common.__annotations__[name].__forward_arg__,
            )
            for name, default in DEFAULTS.items()
            if name not in own and name not in without
        }
        _taken[function.__name__] = frozenset(DEFAULTS) - frozenset(without)
        parameters = [*own.values(), *common.values()]
        described: Any = function
        described.__signature__ = plain.replace(parameters=parameters)
        function.__doc__ = _page(function.__doc__ or "", [p.name for p in parameters])
        return function

    return decorated


def filled(name: str, given: Common) -> Common:
    """All common keywords of a solver, where some are given."""
    for keyword in given:
        if keyword not in _taken.get(name, DEFAULTS):
            raise TypeError(f"{name}() got an unexpected keyword argument {keyword!r}")
    return cast(Common, {**DEFAULTS, **given})


def _page(text: str, parameters: list[str]) -> str:
    """A docstring with what it leaves out."""
    own, common = _sections(inspect.cleandoc(text)), _sections(PAGE)
    entries = _entries(common["Parameters"]) | _entries(own.get("Parameters", ""))
    common["Parameters"] = own["Parameters"] = "\n".join(entries[n] for n in parameters)
    if "Notes" in own:
        own["Notes"] = f"{common['Notes']}\n\n{own['Notes']}"
    sections = common | own
    head = sections.pop("")
    chosen = [name for name in ORDER if name in sections]
    pages = (f"{name}\n{'-' * len(name)}\n{sections[name]}" for name in chosen)
    return "\n\n".join([head, *pages]) + "\n"


def _sections(text: str) -> dict[str, str]:
    """The sections of a docstring; what comes first has no name."""
    head, *others = re.split(r"^(.+)\n-{3,}\n", text, flags=re.MULTILINE)
    pairs = zip(others[::2], others[1::2], strict=True)
    return {"": head.strip()} | {name: body.strip() for name, body in pairs}


def _entries(section: str) -> dict[str, str]:
    """The parameters of a section, by name."""
    parts = re.split(r"^(?=\w)", section, flags=re.MULTILINE)
    return {part.split(" : ")[0]: part.strip() for part in parts if part.strip()}
