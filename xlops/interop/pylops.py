"""PyLops: its operators on labeled data, and bound operators for its solvers.

PyLops is loaded when first used.
"""

from __future__ import annotations

import contextlib
import functools
import types
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import SerializableLock

from xlops.bound import Bound
from xlops.elementary import Elementary
from xlops.errors import ArgumentError, DTypeError, LabelError
from xlops.operator import LinearOperator, offer
from xlops.operators.common import about, called, gain_of
from xlops.space import Blocks, Kind, Labeled, Space
from xlops.windows.pieces import Block, NDArray, placed
from xlops.windows.rules import Whole

__all__ = ["from_pylops"]

# Engines whose plans or threads cannot be used from several threads at once.
_ONE_AT_A_TIME = ("fftw", "numba", "cuda", "mkl_fft")
# Classes that keep something from call to call, or call what nobody knows.
_STATEFUL = {"MemoizeOperator", "FunctionOperator", "AcousticWave2D", "CT2D"}


def from_pylops(
    op: Any,
    domain: Labeled | tuple[Labeled, ...],
    range: Labeled | tuple[Labeled, ...] | None = None,  # noqa: A002
    *,
    units: Any = None,
    name: str | None = None,
) -> LinearOperator:
    """An operator of PyLops, or one written for it, on labeled data.

    Parameters
    ----------
    op : pylops.LinearOperator
        The operator.
    domain : DataArray, Dataset or Space, or several of them
        What it acts on: coordinates, such as ``(d.offset, d.time)``, or an array with
        just these dims. Sizes must be ``op.dims``, in order, or come to its total where
        `op` knows no more.
    range : DataArray, Dataset or Space, or several of them, optional
        What it makes, sized as ``op.dimsd``; the domain unless given, where sizes are
        the same. ``()`` stands for a single number.
    units : str or pint.Unit, optional
        What it does to units. Results have none unless that is said.
    name : str, optional
        Names the operator in errors and in its repr.

    Returns
    -------
    LinearOperator
        On the dims of the domain, each of which it needs whole; all others pass through,
        item by item, and may be in chunks.

    Raises
    ------
    DTypeError
        Where `op` is no operator of PyLops.
    LabelError
        Where sizes differ.
    ArgumentError
        Where the labels of the range cannot be told, or for units that mean nothing.

    Notes
    -----
    Real operators act on complex data part by part. Where ``op.clinear`` is False, which
    sides are real is found by applying it to zeros once. Single precision comes out as it
    went in, but is never more exact than `op`, which gets data in its own precision at
    least.

    Several threads may call `op` at once. Operators that cannot stand it (with engines
    ``fftw`` and ``numba``, with functions of users in them) are called one at a time.

    In sums and products a PyLops operator may stand for itself where it fits the labels
    it meets: ``A @ P``, ``A + P``, ``P + A``. ``P @ A`` is PyLops's own, which knows
    nothing of labels: write ``from_pylops(P, …) @ A``.

    Examples
    --------
    >>> import numpy as np, pylops, xarray as xr, xlops as xl
    >>> d = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("shot", "time"))
    >>> A = xl.from_pylops(pylops.Flip(3), d.time)
    >>> (A @ d).values
    array([[2., 1., 0.],
           [5., 4., 3.]])
    >>> (A @ pylops.CausalIntegration(3)) @ d.isel(shot=0)
    <xarray.DataArray (time: 3)> Size: 24B
    array([3., 1., 0.])
    Dimensions without coordinates: time
    """
    return PyLopsOperator(op, domain, range, units, name)


class PyLopsOperator(Elementary):
    """An operator of PyLops; see `from_pylops`."""

    def __init__(
        self,
        op: Any,
        domain: Any,
        range: Any,  # noqa: A002
        units: Any,
        name: str | None,
    ) -> None:
        who = called(name, "from_pylops")
        if not is_pylops(op):
            raise DTypeError(
                f"{who} takes an operator of PyLops, got {type(op).__name__}; functions "
                "become one with pylops.FunctionOperator, matrices with pylops.MatrixMult"
            )
        what = f"pylops {type(op).__name__.strip('_')}"
        who = f"{who}({what})" if name is None else who
        given = _side(domain, op.dims, op.shape[1], f"{who}: domain", "dims")
        if range is None and not _fits(given, op.dimsd, op.shape[0]):
            raise ArgumentError(
                f"{who} makes {_written(op.dimsd)} samples of {_written(op.dims)}: give "
                "the labels of what it makes as range=…"
            )
        made = given
        if range is not None:
            made = _side(range, op.dimsd, op.shape[0], f"{who}: range", "dimsd")
        kinds = _kinds(op)
        given, made = given.of_kind(kinds[0]), made.of_kind(kinds[1])
        gain = gain_of(units, who)
        dims = ", ".join(str(dim) for dim in given.dims)
        held = _Held(op)
        kernel = functools.partial(_applied, held, _lock(op))
        super().__init__(
            given,
            made,
            window=Whole(dict(given.sizes), dict(made.sizes)),
            forward=functools.partial(kernel, False),
            adjoint=functools.partial(kernel, True),
            gain=gain,
            params={"op": held, "gain": gain},
            name=name or f"{what}({dims})",
            blas=True,
            clinear=bool(op.clinear),
        )


def is_pylops(value: object) -> bool:
    """Whether a value is an operator of PyLops; does not load it to find out."""
    return any(
        base.__name__ == "LinearOperator" and base.__module__.split(".")[0] == "pylops"
        for base in type(value).__mro__
    )


@offer("adopt")
def adopt(op: Any, domain: Any, range_: Any, who: str) -> LinearOperator | None:
    """An operator of PyLops between two spaces; None where `op` is something else.

    Raises
    ------
    LabelError
        Where it does not fit.
    """
    if not is_pylops(op):
        return None
    for side, dims in ((domain, op.dims), (range_, op.dimsd)):
        if isinstance(side, Blocks):
            raise LabelError(
                f"{who}: an operator of PyLops knows no blocks; xl.from_pylops(op, "
                "domain=…) gives it labels"
            )
        if tuple(side.sizes.values()) != tuple(dims):
            raise LabelError(
                f"{who}: which dims does the operator of PyLops act on? It maps "
                f"{_written(op.dims)} samples to {_written(op.dimsd)}, and meets {side}; "
                "say it with xl.from_pylops(op, domain=…, range=…)"
            )
    return from_pylops(op, domain.of_kind("any"), range_.of_kind("any"))


@offer("to_pylops")
def to_pylops(bound: Bound) -> Any:
    """``bound.to_pylops()``."""
    from xlops.interop.wrapped import Bound as Wrapped

    return Wrapped(bound)


# --- labels ---------------------------------------------------------------------------


def _side(side: Any, dims: Any, size: int, who: str, what: str) -> Space:
    """A side of the operator, whose sizes have to be those that PyLops has."""
    members = (side,) if isinstance(side, (xr.DataArray, xr.Dataset, Space)) else side
    if not isinstance(members, (tuple, list)):
        raise DTypeError(
            f"{who} must be labeled, such as d.time, got {type(side).__name__}"
        )
    with about(who):
        space = Space.of(*members)
    if not _fits(space, dims, size):
        raise LabelError(
            f"{who}: sizes must be those of op.{what}, {_written(dims)}, in this order; "
            f"got {_written(space.sizes.values())} ({space})"
        )
    return space


def _fits(space: Space, dims: Any, size: int) -> bool:
    """Whether a space has sizes as PyLops has them; dims of 1 sample do not count."""
    if len(dims) == 1:  # flat vectors, of whatever is behind them
        return space.size == size
    long = [n for n in space.sizes.values() if n != 1]
    return long == [n for n in dims if n != 1] and space.size == size


def _written(sizes: Any) -> str:
    return " × ".join(str(int(n)) for n in sizes) or "1"


def _kinds(op: Any) -> tuple[Kind, Kind]:
    """The values of both sides."""
    if op.clinear:
        kind: Kind = "complex" if np.dtype(op.dtype).kind == "c" else "any"
        return kind, kind
    rows, columns = op.shape
    return _made_of_zeros(op.rmatvec, rows, op), _made_of_zeros(op.matvec, columns, op)


def _made_of_zeros(function: Callable[[NDArray], Any], size: int, op: Any) -> Kind:
    """The values that a function makes of complex ones, or of real ones if it must."""
    made: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        for least in (np.complex64, np.float32):
            dtype = np.result_type(_precision(op), least)
            try:
                made = function(np.zeros(size, dtype))
            except (TypeError, ValueError, np.exceptions.ComplexWarning):
                continue
            break
    return "complex" if np.asarray(made).dtype.kind == "c" else "real"


def _precision(op: Any) -> np.dtype[Any]:
    """The real dtype of an operator's precision."""
    return np.empty(0, np.result_type(op.dtype, np.float32)).real.dtype


# --- applying -------------------------------------------------------------------------


def _applied(held: _Held, lock: Any, adjoint: bool, block: Block, out: NDArray) -> None:
    """The operator on each item of what passes through."""
    op = held.op
    function = op.rmatvec if adjoint else op.matvec
    result = placed(block.dims, block.have, block.want)
    passing = [dim for dim in block.dims if dim not in block.have]
    data = block.data.transpose([block.dims.index(d) for d in (*passing, *block.have)])
    out = out.transpose([result.index(dim) for dim in (*passing, *block.want)])
    by_parts = op.clinear and np.dtype(op.dtype).kind != "c" and data.dtype.kind == "c"
    dtype = np.result_type(data.dtype, _precision(op))
    if np.dtype(op.dtype).kind == "c" and op.clinear:
        dtype = np.result_type(dtype, np.complex64)
    shape = out.shape[len(passing) :]
    with lock or contextlib.nullcontext():
        for at in np.ndindex(data.shape[: len(passing)]):
            item = data[at].astype(dtype).reshape(-1)  # a copy: PyLops may write to it
            if by_parts:
                values = function(item.real.copy()) + 1j * function(item.imag.copy())
            else:
                values = function(item)
            out[at] = np.reshape(values, shape)


def _lock(op: Any) -> Any:
    """What keeps threads apart that call an operator; None where they may meet.

    Operators that start threads of numba share one, since not all its threading layers
    can be entered twice.
    """
    shared = False
    for part in _parts(op):
        kind = type(part)
        values = list(vars(part).values())
        words = [kind.__name__.lower(), *(v for v in values if isinstance(v, str))]
        if any("numba" in word for word in words) or any(
            type(v).__module__.split(".")[0] == "numba" for v in values
        ):
            return SerializableLock("xlops: PyLops with numba")
        known = kind.__module__.split(".")[0] in ("pylops", "xlops", "scipy")
        shared = shared or not known or kind.__name__ in _STATEFUL
        shared = shared or any(e in word for word in words for e in _ONE_AT_A_TIME)
    return SerializableLock(uuid.uuid4().hex) if shared else None


def _parts(op: Any) -> Iterator[Any]:
    """An operator and all operators that it is made of."""
    waiting, seen = [op], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif hasattr(type(value), "matvec") and hasattr(value, "__dict__"):
            yield value
            waiting += vars(value).values()


class _Held:
    """An operator of PyLops that pickles, and is named by what it holds.

    Some hold functions or modules, which plain pickle refuses. How often one has been
    applied, and what it has worked out of its own shape, makes it no other.

    Parameters
    ----------
    op : pylops.LinearOperator
        The operator.
    """

    def __init__(self, op: Any) -> None:
        self.op = op

    def __repr__(self) -> str:
        return repr(self.op)

    def __reduce__(self) -> Any:
        import cloudpickle

        return _unpickled, (cloudpickle.dumps(self.op),)

    def __dask_tokenize__(self) -> Any:
        return _content(self.op)


def _unpickled(data: bytes) -> _Held:
    import pickle

    return _Held(pickle.loads(data))


def _content(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_content(member) for member in value]
    if isinstance(value, types.MethodType):
        return value.__func__.__qualname__
    if not is_pylops(value):
        return value
    kind, facts = type(value), ("shape", "dims", "dimsd", "clinear")
    derived = {f"_{fact}" for fact in (*facts, "explicit", "forceflat", "name")}
    held = {k: _content(v) for k, v in vars(value).items() if k not in derived}
    held = {k: v for k, v in held.items() if not k.endswith("_count")}
    known = [getattr(value, fact) for fact in facts]
    return f"{kind.__module__}.{kind.__qualname__}", known, held
