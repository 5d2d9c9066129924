"""What an operator's matrix tells: its entries, its diagonal, its spectrum.

All of it is asked of operators (`A.todense()`, `A.norm()`, …) and filled in here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
import xarray as xr

from xlops import units
from xlops.algebra import Adjoint, Scaled, Sum
from xlops.bound import Bound, bind, bound_to
from xlops.errors import ArgumentError, DTypeError, LabelError, shown
from xlops.modes import InMode, computed
from xlops.operator import LinearOperator, offer
from xlops.operators.pointwise import Diagonal, Identity, Mask, Zero
from xlops.space import Blocks, Space, by_name, overlaid, sides_match
from xlops.windows.pieces import NDArray, floating

__all__: list[str] = []

# Unit vectors that an operator is applied to at once.
BATCH_BYTES = 2**25
# Entries of a matrix, and unknowns of an eigenproblem, that LAPACK is given.
FEW_ENTRIES = 1_000_000
FEW_UNKNOWNS = 1_000
# Vectors that ARPACK keeps between restarts, and what they may take: spectra of
# derivatives are dense, and with many vectors it needs a tenth of the products.
BASIS_VECTORS = 100
BASIS_BYTES = 2**28

# What eigenvalues are sorted by, the largest first.
_ORDERS: dict[str, Callable[[NDArray], NDArray]] = {
    "LM": np.abs,
    "SM": lambda values: -np.abs(values),
    "LR": lambda values: values.real,
    "SR": lambda values: -values.real,
    "LI": lambda values: np.abs(values.imag),
    "SI": lambda values: -np.abs(values.imag),
}
# What ARPACK calls them where all are real.
_REAL_ORDERS = {"LM": "LM", "SM": "SM", "LR": "LA", "SR": "SA"}


# --- matrices -------------------------------------------------------------------------


@offer("todense")
def todense(operator: LinearOperator, like: Any = None) -> Any:
    """``operator.todense(like)``."""
    bound = _own(operator) if like is None else bind(operator, like)
    matrix = _matrix(bound)
    blocks = {
        row: {
            column: _labeled(matrix[across, down], made, given, operator, (row, column))
            for column, (given, down) in _parts(bound.domain).items()
        }
        for row, (made, across) in _parts(bound.range).items()
    }
    result: Any = blocks
    if isinstance(bound.domain, Space):
        result = {row: columns[""] for row, columns in blocks.items()}
    return result[""] if isinstance(bound.range, Space) else result


def _own(operator: LinearOperator) -> Bound:
    """The operator bound to its own dims; a bound one has no others."""
    if isinstance(operator, Bound):
        return operator
    return bind(operator, operator.domain.zeros())


def _parts(side: Space | Blocks) -> dict[str, tuple[Space, slice]]:
    """The space of each block, and where it lies in flat vectors."""
    if isinstance(side, Space):
        return {"": (side, slice(0, side.size))}
    parts, start = {}, 0
    for name, space in side.items():
        parts[name] = space, slice(start, start + space.size)
        start += space.size
    return parts


def _matrix(bound: Bound) -> NDArray:
    """All entries.

    Raises
    ------
    DTypeError
        Where there is no matrix.
    """
    matrix = np.empty(bound.shape, bound.dtypes[1])
    for columns, vectors in _unit_vectors(bound):
        matrix[:, columns] = bound.matmat(vectors)
    return matrix


def _unit_vectors(bound: Bound) -> Iterator[tuple[slice, NDArray]]:
    """Unit vectors of the domain, some at once, and which they are."""
    _check_matrix(bound)
    rows, size = bound.shape
    count = max(BATCH_BYTES // (max(rows, size) * bound.dtype.itemsize), 1)
    for start in range(0, size, count):
        stop = min(start + count, size)
        vectors = np.zeros((size, stop - start), bound.dtypes[0])
        vectors[np.arange(start, stop), np.arange(stop - start)] = 1
        yield slice(start, stop), vectors


def _check_matrix(bound: Bound) -> None:
    if not bound.clinear and bound.dtypes[0].kind == "c":
        raise DTypeError(
            f"{bound} is linear over real numbers only and acts on complex values here, "
            "so it has no matrix; compose it with operators that make its values real, or "
            "apply it to data with @"
        )


def _labeled(
    values: NDArray, made: Space, given: Space, operator: LinearOperator, at: Any
) -> xr.DataArray:
    """A matrix between two spaces."""
    names = dict.fromkeys([*given.dims, *given.names])
    taken = {*made.dims, *made.names}
    new: dict[Hashable, Hashable] = {}
    for name in names:
        if name in taken:
            fresh = f"{name}_in"
            while fresh in taken or fresh in names:
                fresh += "_in"
            new[name] = fresh
            taken.add(fresh)
    labels = given.labels
    known = {n: v for n, v in new.items() if n in labels.variables or n in labels.dims}
    labels = overlaid(made.labels, labels.rename(known))
    return xr.DataArray(
        values.reshape([*made.sizes.values(), *given.sizes.values()]),
        coords=labels.coords,
        dims=(*made.dims, *(new.get(dim, dim) for dim in given.dims)),
        name=operator.name,
        attrs=_attrs(operator, at),
    )


def _attrs(operator: LinearOperator, at: tuple[str, str] = ("", "")) -> dict[str, str]:
    """The unit of the entries between two blocks, where it is known and not 1."""
    gain = operator.gains.get(at)
    unit = None if gain is None else gain.unit
    text = "1" if unit is None else units.written(unit)
    return {} if text == "1" else {"units": text}


# --- diagonals ------------------------------------------------------------------------


@offer("diagonal")
def diagonal(operator: LinearOperator, like: Any = None) -> Any:
    """``operator.diagonal(like)``."""
    _check_square(operator)
    if like is not None:
        operator._admitted(like)

    def one(values: xr.Variable, space: Space, like: Any, name: str) -> xr.DataArray:
        if like is not None:
            space = bound_to(space, like)
        full = values.set_dims(space.sizes).transpose(*space.dims)
        return xr.DataArray(
            full.values.astype(floating(full.dtype)),  # a copy: no entry is a view
            coords=space.coords,
            dims=space.dims,
            name=operator.name,
            attrs=_attrs(operator, (name, name)),
        )

    if isinstance(operator.domain, Space):
        return one(_diagonal(operator), operator.domain, like, "")
    flat = _probed(_square(operator))
    return {
        name: one(
            xr.Variable(space.dims, flat[part].reshape(tuple(space.sizes.values()))),
            space,
            None if like is None else like[name],
            name,
        )
        for name, (space, part) in _parts(operator.domain).items()
    }


@offer("trace")
def trace(bound: Bound) -> Any:
    """``bound.trace()``."""
    operator = bound.operator
    _check_square(operator)
    if isinstance(operator.domain, Space):
        found = _diagonal(operator)
        total = found.values.sum() * (operator.domain.size // found.size)
    else:
        total = _probed(_square(operator)).sum()
    return (total * (bound.domain.size // operator.domain.size)).item()


def _check_square(operator: LinearOperator) -> None:
    """Raise unless an operator maps its domain to itself."""
    domain, range_ = operator.domain, operator.range
    if not sides_match(domain, range_):
        raise LabelError(
            f"{operator} maps {domain} to {range_}, not to itself: it has no diagonal, "
            "trace or eigenvalues; those of A.gram may be what is meant"
        )


def _square(operator: LinearOperator) -> Bound:
    """The operator bound to its own dims, blocks and dims in one order on both sides."""
    bound = _own(operator)
    domain, range_ = bound.domain, by_name(bound.range)
    turned = {name: range_[name].ordered(s.dims) for name, s in by_name(domain).items()}
    side = Blocks(turned) if isinstance(domain, Blocks) else turned[""]
    return Bound(bound.operator, domain, side, bound.dtypes)


def _diagonal(operator: LinearOperator) -> xr.Variable:
    """The diagonal over the operator's dims, or over fewer that tell all of it."""
    found = _known(operator)
    if found is None:
        assert isinstance(operator.domain, Space)
        shape = tuple(operator.domain.sizes.values())
        found = xr.Variable(operator.domain.dims, _probed(_square(operator)).reshape(shape))
    return found


def _probed(bound: Bound) -> NDArray:
    """The diagonal by unit vectors."""
    result = np.empty(bound.shape[1], bound.dtypes[1])
    for columns, vectors in _unit_vectors(bound):
        products = bound.matmat(vectors)[columns]
        result[columns] = products.diagonal()
    return result


@functools.singledispatch
def _known(operator: LinearOperator) -> xr.Variable | None:
    """The diagonal of operators that say it."""
    return None


@_known.register
def _(operator: Identity) -> xr.Variable | None:
    return xr.Variable((), 1.0)


@_known.register
def _(operator: Zero) -> xr.Variable | None:
    return xr.Variable((), 0.0)


@_known.register(Diagonal)
@_known.register(Mask)
def _(operator: Diagonal | Mask) -> xr.Variable | None:
    (weights,) = operator._weights
    return xr.Variable(weights.dims, computed(weights.data))


@_known.register
def _(operator: Adjoint) -> xr.Variable | None:
    return _diagonal(operator.operator).conj() if operator.clinear else None


@_known.register
def _(operator: Scaled) -> xr.Variable | None:
    return operator.number * _diagonal(operator.operator)


@_known.register
def _(operator: Sum) -> xr.Variable | None:
    total: xr.Variable = sum(map(_diagonal, operator.terms), xr.Variable((), 0.0))
    return total


@_known.register(InMode)
@_known.register(Bound)
def _(operator: InMode | Bound) -> xr.Variable | None:
    return _diagonal(operator.operator)


# --- singular values ------------------------------------------------------------------


@offer("norm")
def norm(operator: LinearOperator, *, tol: float, maxiter: int | None) -> float:
    """``operator.norm()``."""
    values = _few_singular_values(_own(operator))
    if values is not None:
        return float(values[0])
    return math.sqrt(_of_gram(operator, "LA", tol, maxiter))


@offer("cond")
def cond(operator: LinearOperator, *, tol: float, maxiter: int | None) -> float:
    """``operator.cond()``."""
    values = _few_singular_values(_own(operator))
    if values is None:
        squares = [_of_gram(operator, end, tol, maxiter) for end in ("LA", "SA")]
        # Smaller ones are lost in the rounding of the largest.
        if squares[1] <= 100 * np.finfo(np.float64).eps * squares[0]:
            return math.inf
        values = np.sqrt(squares)
    return float(values[0] / values[-1]) if values[-1] else math.inf


def _few_singular_values(bound: Bound) -> NDArray | None:
    """All singular values, the largest first; None where there are many."""
    _check_matrix(bound)
    rows, columns = bound.shape
    if rows * columns > FEW_ENTRIES and min(rows, columns) > 2:
        return None
    matrix = _matrix(bound)
    if not bound.clinear and matrix.dtype.kind == "c":
        matrix = np.concatenate([matrix.real, matrix.imag])
    values: NDArray = np.linalg.svd(matrix, compute_uv=False)
    return values


def _of_gram(
    operator: LinearOperator, which: str, tol: float, maxiter: int | None
) -> float:
    """The largest or smallest eigenvalue of the smaller one of A.H A and A A.H."""
    matrix = _as_real(_own(operator))
    rows, columns = matrix.shape
    gram = matrix.H @ matrix if rows >= columns else matrix @ matrix.H
    start = _start(gram)
    if not np.any(gram @ start):
        return 0.0
    with _ArpackErrors(operator):
        from scipy.sparse.linalg import eigsh

        (value,) = eigsh(
            gram,
            1,
            which=which,
            v0=start,
            ncv=_basis(gram, 1),
            tol=tol,
            maxiter=maxiter,
            return_eigenvectors=False,
        )
    return max(float(value), 0.0)


def _as_real(bound: Bound) -> Any:
    """For SciPy; complex results of real values as their real and imaginary parts."""
    from scipy.sparse.linalg import LinearOperator as Flat

    flat = bound.to_scipy()
    if bound.clinear or bound.dtypes[1].kind != "c":
        return flat
    rows, columns = bound.shape

    def forward(x: NDArray) -> NDArray:
        y = bound.matvec(x)
        return np.concatenate([y.real, y.imag])

    def adjoint(y: NDArray) -> NDArray:
        x: NDArray = bound.rmatvec(y[:rows] + 1j * y[rows:]).real
        return x

    return Flat((2 * rows, columns), forward, adjoint, dtype=bound.dtypes[0])


def _start(matrix: Any) -> NDArray:
    """Where ARPACK starts: always the same, so that results repeat."""
    values = np.random.default_rng(0).standard_normal(matrix.shape[0])
    start: NDArray = values.astype(matrix.dtype)
    return start


def _basis(matrix: Any, k: int) -> int:
    """How many vectors ARPACK keeps."""
    size = matrix.shape[0]
    room = BASIS_BYTES // (size * matrix.dtype.itemsize)
    return int(min(size, max(2 * k + 1, 20, min(2 * k + BASIS_VECTORS, room))))


class _ArpackErrors:
    """What ARPACK does not find is an error that says what would help."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and kind.__name__ == "ArpackNoConvergence":
            raise ArgumentError(
                f"{self.operator}: ARPACK did not converge; allow more iterations "
                "(maxiter=…) or less accuracy (tol=…), or ask for largest values"
            ) from error


# --- eigenvalues ----------------------------------------------------------------------


@offer("eigs")
def eigs(
    operator: LinearOperator,
    k: int,
    which: str,
    *,
    vectors: bool,
    dim: Hashable,
    tol: float,
    maxiter: int | None,
) -> Any:
    """``operator.eigs()``."""
    _check_square(operator)
    bound = _square(operator)
    _check_matrix(bound)
    if not bound.clinear and bound.dtypes[1].kind == "c":
        raise DTypeError(
            f"{operator} is linear over real numbers only and makes complex values of "
            "real ones: it has no eigenvalues"
        )
    symmetric = "symmetric" in operator.traits
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ArgumentError(
            f"{operator}.eigs: k must be a whole number from 1 on, got {shown(k)}"
        )
    orders = _REAL_ORDERS if symmetric else _ORDERS
    if not isinstance(which, str) or which not in orders:
        raise ArgumentError(
            f"{operator}.eigs: which must be one of {', '.join(map(repr, orders))}, got "
            f"{shown(which)}"
        )
    parts = _parts(bound.domain)
    if any(dim in space for space, _ in parts.values()):
        raise ArgumentError(
            f"{operator}.eigs: the domain has a dim {str(dim)!r}; give another name for "
            "that of the eigenvalues with dim=…"
        )
    if bound.shape[0] <= FEW_UNKNOWNS:
        found = _dense_eigs(_matrix(bound), symmetric)
    else:
        found = _sparse_eigs(bound, int(k), which, symmetric, tol, maxiter)
    order = np.argsort(-_ORDERS[which](found[0]), kind="stable")[:k]
    values = xr.DataArray(
        found[0][order], dims=(dim,), name=operator.name, attrs=_attrs(operator)
    )
    if not vectors:
        return values
    modes = {
        name: xr.DataArray(
            found[1][part, order].T.reshape(-1, *space.sizes.values()),
            coords=space.coords,
            dims=(dim, *space.dims),
        )
        for name, (space, part) in parts.items()
    }
    return values, modes if isinstance(bound.domain, Blocks) else modes[""]


def _dense_eigs(matrix: NDArray, symmetric: bool) -> tuple[NDArray, NDArray]:
    if symmetric:
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors
    values, vectors = np.linalg.eig(matrix)
    # Whether all happen to be real does not change the dtype.
    return values.astype(np.complex128), vectors.astype(np.complex128)


def _sparse_eigs(
    bound: Bound, k: int, which: str, symmetric: bool, tol: float, maxiter: int | None
) -> tuple[NDArray, NDArray]:
    from scipy.sparse import linalg

    size = bound.shape[0]
    if k > size - 2:
        raise ArgumentError(
            f"{bound}.eigs: ARPACK finds at most {size - 2} of {size} eigenvalues, got "
            f"k={k}; use numpy.linalg on A.todense()"
        )
    matrix = bound.to_scipy()
    if symmetric:
        which = _REAL_ORDERS[which]
    find = linalg.eigsh if symmetric else linalg.eigs
    with _ArpackErrors(bound):
        values, vectors = find(
            matrix,
            k,
            which=which,
            v0=_start(matrix),
            ncv=_basis(matrix, k),
            tol=tol,
            maxiter=maxiter,
        )
    return values, vectors
