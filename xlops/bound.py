"""Bound operators: all dims and the dtype fixed, so that they are matrices of one shape."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from xlops import engine
from xlops.engine import Tree
from xlops.errors import DTypeError, LabelError, UnitError
from xlops.modes import InMode, computed
from xlops.operator import Coords, LinearOperator, offered
from xlops.space import Blocks, Space, by_name
from xlops.windows.pieces import Array, NDArray, arranged, floating, of_kind, placed
from xlops.windows.plan import Node, Plan, Source

__all__ = ["Bound", "bind", "bound_to"]

# The dim along which several vectors lie side by side.
_COLUMN = "column of a flat array"


class Bound(LinearOperator):
    """An operator on arrays of one shape: see `xlops.LinearOperator.bind`.

    On labeled data it is the operator itself, whose domain and range have all dims. In
    addition it is a matrix on flat vectors, with what SciPy's iterative methods ask for.

    Parameters
    ----------
    operator : LinearOperator
        The operator.
    domain, range : Space or Blocks
        Both sides with all of their dims, in the order that flat vectors have.
    dtypes : tuple of dtype
        Of members of the domain and of the range.

    Attributes
    ----------
    shape : tuple of int
        Samples of the range and of the domain: rows and columns.
    size : int
        Rows times columns.
    dtype : dtype
        The dtype that holds members of both sides.

    Notes
    -----
    Flat vectors are in C order of the dims; blocks follow one another in the order of
    their names. They are plain numbers: units count for labeled data only. Where a side
    is real, the real part of a complex vector counts, as it does in PyLops.
    """

    def __init__(
        self,
        operator: LinearOperator,
        domain: Space | Blocks,
        range: Space | Blocks,  # noqa: A002
        dtypes: tuple[np.dtype[Any], np.dtype[Any]],
    ) -> None:
        self.operator, self.dtypes = operator, dtypes
        self.domain, self.range = domain, range
        self._take_after(operator)
        self.shape = (range.size, domain.size)
        self.size = self.shape[0] * self.shape[1]
        self.dtype = np.result_type(*dtypes)

    # --- a labeled operator -----------------------------------------------------------

    @functools.cached_property
    def H(self) -> Bound:
        """The adjoint, bound too."""
        adjoint = Bound(self.operator.H, self.range, self.domain, self.dtypes[::-1])
        adjoint.__dict__["H"] = self
        return adjoint

    def conj(self) -> Bound:
        """The conjugate, bound too."""
        return Bound(self.operator.conj(), self.domain, self.range, self.dtypes)

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        sides = (self.domain.token, self.range.token)
        return str(tokenize("bound", self.operator.token, sides, self.dtypes))

    def apply(self, x: Any, /) -> Any:
        """``A @ x``, in the mode of the operator that is bound."""
        if not isinstance(self.operator, InMode):
            return super().apply(x)
        result = super().apply(self.operator.taken(x))
        return computed(result) if self.operator.computes[0] else result

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        return self.operator._plan(x, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, adjoint)

    def _details(self) -> list[str]:
        rows, columns = self.shape
        return [f"  matrix: {rows} × {columns}, {self.dtype}"]

    # --- a matrix ---------------------------------------------------------------------

    def trace(self) -> Any:
        """The sum of the diagonal.

        Returns
        -------
        float or complex
            Of the whole matrix; dims that pass through repeat the diagonal.

        Raises
        ------
        LabelError
            Where the operator does not map its domain to itself.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.ones((5, 3)), dims=("offset", "time"))
        >>> weights = xr.DataArray([1.0, 2.0, 3.0], dims="time")
        >>> xl.Diagonal(weights).bind(x).trace()
        30.0
        """
        return offered("trace")(self)

    def to_scipy(self) -> Any:
        """The matrix as a `scipy.sparse.linalg.LinearOperator`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> from scipy.sparse.linalg import lsqr
        >>> x = xr.DataArray(np.ones(3), dims="time")
        >>> A = xl.Diagonal(xr.DataArray([1.0, 2.0, 4.0], dims="time")).bind(x).to_scipy()
        >>> lsqr(A, np.ones(3))[0].round(6)
        array([1.  , 0.5 , 0.25])
        """
        return offered("to_scipy")(self)

    def to_pylops(self) -> Any:
        """The matrix as a `pylops.LinearOperator`.

        Its ``dims`` and ``dimsd`` are the sizes of domain and range (the total where
        there are blocks); dtype, name and ``clinear`` are those of this operator.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.ones((2, 3)), dims=("offset", "time"))
        >>> xl.FirstDerivative(x.time).bind(x).to_pylops()
        <6x6 Bound with dtype=float64>
        """
        return offered("to_pylops")(self)

    def matvec(self, x: Any) -> NDArray:
        """The product with a flat vector of the domain, ``(n,)`` or ``(n, 1)``."""
        return self._vector(x, adjoint=False)

    def rmatvec(self, y: Any) -> NDArray:
        """The product of the adjoint with a flat vector of the range."""
        return self._vector(y, adjoint=True)

    def matmat(self, X: Any) -> NDArray:
        """The product with several flat vectors, the columns of an array."""
        return self._columns(X, adjoint=False)

    def rmatmat(self, Y: Any) -> NDArray:
        """The product of the adjoint with the columns of an array."""
        return self._columns(Y, adjoint=True)

    def _vector(self, x: Any, adjoint: bool) -> NDArray:
        x = np.asarray(x)
        size = self.shape[0 if adjoint else 1]
        if x.shape not in ((size,), (size, 1)):
            self._refuse(x, f"({size},)", adjoint)
        result = self._flat(x.reshape(size), adjoint)
        return result if x.ndim == 1 else result[:, np.newaxis]

    def _columns(self, X: Any, adjoint: bool) -> NDArray:
        X = np.asarray(X)
        size = self.shape[0 if adjoint else 1]
        if X.ndim != 2 or X.shape[0] != size:
            self._refuse(X, f"({size}, k)", adjoint)
        if X.shape[1] == 0:
            return np.empty((self.shape[1 if adjoint else 0], 0), self.dtype)
        return self._flat(X, adjoint)

    def _refuse(self, x: NDArray, expected: str, adjoint: bool) -> None:
        side = "range" if adjoint else "domain"
        raise LabelError(
            f"{self}: a flat array of the {side} has the shape {expected}, got {x.shape}; "
            "apply the operator to labeled data with @"
        )

    def _flat(self, x: NDArray, adjoint: bool) -> NDArray:
        """The operator, or its adjoint, on flat arrays that have been checked."""
        if x.dtype.kind not in "biufc":
            raise DTypeError(f"{self} acts on numbers, got {x.dtype}")
        given, made = self.domain, self.range
        if adjoint:
            given, made = made, given
        result = self.operator._run(_unflattened(x, given), adjoint)
        columns: tuple[Hashable, ...] = () if x.ndim == 1 else (_COLUMN,)
        arrays = [
            (result[name] if isinstance(result, dict) else result)
            .ordered((*space.dims, *columns))
            .data
            for name, space in by_name(made).items()
        ]
        if any(map(engine.is_lazy, arrays)):
            arrays = computed(arrays)
        flat: list[NDArray] = [array.reshape(-1, *x.shape[1:]) for array in arrays]
        if len(flat) > 1:
            return np.concatenate(flat)
        # No result is a window on what was given.
        return flat[0].copy() if np.may_share_memory(flat[0], x) else flat[0]


def bind(operator: LinearOperator, like: Any) -> Bound:
    """``operator.bind(like)``."""
    _, origins = operator._admitted(like)
    own = operator.domain
    if isinstance(own, Space):
        domain: Space | Blocks = bound_to(own, like)
        source: Plan = _source(like, own)
    else:
        _check_units(operator, origins)
        domain = Blocks({name: bound_to(s, like[name]) for name, s in own.items()})
        source = {name: _source(like[name], space) for name, space in own.items()}
    plan = operator._plan(source, False)
    range_ = _made(operator, domain, plan)
    dtypes = (_dtype(source), _dtype(plan))
    return Bound(operator, domain, range_, dtypes)


def bound_to(space: Space, like: xr.DataArray) -> Space:
    """The space of `like`: what the operator knows first, then all else."""
    return space.union(Space.of(like)).ordered(like.dims)


def _source(like: xr.DataArray, space: Space) -> Source:
    dtype = of_kind(floating(like.dtype), space.kind).newbyteorder("=")
    return Source(like.dims, dict(like.sizes), dtype)


def _dtype(plan: Plan) -> np.dtype[Any]:
    nodes = plan.values() if isinstance(plan, dict) else (plan,)
    return np.result_type(*(floating(node.dtype) for node in nodes))


def _made(operator: LinearOperator, domain: Space | Blocks, plan: Plan) -> Space | Blocks:
    """The range, with what passes through, its dims in the order that results have."""
    domains, own, plans = by_name(domain), by_name(operator.domain), _each(plan)
    labels = {name: space.layout for name, space in domains.items()}
    coords = operator._carry(labels.get("", labels), adjoint=False)
    made = {}
    for name, space in by_name(operator.range).items():
        # Blocks that an operator makes have the passing dims of those they are made from.
        column = operator.gains.into(name)[0]
        given = domains[column]
        sizes = {**space.sizes, **given.without(own[column].dims).sizes}
        layout = space.relabeled(coords[name] if isinstance(coords, dict) else coords)
        gone = [n for n, v in layout.variables.items() if not set(sizes) >= set(v.dims)]
        dims = plans[name].dims
        if isinstance(domain, Space):
            dims = placed(given.dims, own[column].sizes, space.sizes)
        kind = given.kind if space.kind == "any" else space.kind
        labeled = Space(sizes, layout.without(gone).dataset(), kind)
        made[name] = labeled.ordered(arranged(dims, operator.layouts[0]))
    return Blocks(made) if isinstance(operator.range, Blocks) else made[""]


def _each(plan: Plan) -> Mapping[str, Node]:
    return plan if isinstance(plan, dict) else {"": plan}


def _check_units(operator: LinearOperator, origins: Mapping[str, Any]) -> None:
    """Raise where blocks would be converted before they are added."""
    ones: dict[str, Array] = {name: Array(np.ones(()), ()) for name in origins}
    converted = operator._in_one_unit(ones, origins)
    assert isinstance(converted, dict)
    for name, array in converted.items():
        if array.data != 1:
            raise UnitError(
                f"{operator}: block {name!r} comes in another unit than the first block; "
                "flat vectors have no units, so convert it before you bind the operator"
            )


def _unflattened(x: NDArray, side: Space | Blocks) -> Tree:
    """A flat array as the plain arrays of a side; columns lie along a last dim."""
    column: tuple[Hashable, ...] = () if x.ndim == 1 else (_COLUMN,)

    def one(part: NDArray, space: Space) -> Array:
        shape = (*space.sizes.values(), *x.shape[1:])
        return Array(part.reshape(shape), (*space.dims, *column))

    if isinstance(side, Space):
        return one(x, side)
    ends = np.cumsum([space.size for space in side.values()])[:-1]
    parts = np.split(x, ends)
    pairs = zip(side.items(), parts, strict=True)
    return {name: one(part, space) for (name, space), part in pairs}
