"""Operators given by their matrix: MatrixMult, Fredholm1, Sum."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import xarray as xr

from xlops.elementary import Elementary
from xlops.errors import ArgumentError, DTypeError, LabelError, listed
from xlops.kernels import matrix as kernels
from xlops.operators.common import about, along, called, named, weights_of
from xlops.space import Labeled, Space
from xlops.units import ONE
from xlops.windows.pieces import Array, Block, NDArray, Sizes, Window, floating, placed
from xlops.windows.rules import Contraction, Whole

__all__ = ["Fredholm1", "MatrixMult", "Sum"]

Dims = tuple[Hashable, ...]


class MatrixMult(Elementary):
    """Multiplication by a matrix, or by one matrix for each sample of shared dims.

    Parameters
    ----------
    A : DataArray, or SciPy sparse array
        The matrix. A DataArray of real or complex numbers, on NumPy or Dask (it stays
        lazy); its ``units`` attribute, where it has one, multiplies the unit of the
        data. A sparse matrix has the samples of `range` as rows and those of `domain`
        as columns, in the order of their dims, the last one fastest.
    over : Hashable or sequence of Hashable
        The dims of A that are summed over: the data have them, the result does not.
    makes : Hashable or sequence of Hashable, optional
        The dims of A that the result has and the data have not. All others of A are
        shared: data and result have them, and each of their samples has a matrix of its
        own. Unless given it is as in `numpy.matmul`: A has its shared dims first, then
        the one that is made, and those summed over last. Where one dim is left besides
        `over`, it is made, wherever it stands.
    domain, range : DataArray, Dataset, Space, or a sequence of them, optional
        With a sparse matrix, and only then: the labels of both sides. They may share
        dims.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where A does not have the dims named, or sizes do not fit.
    ArgumentError
        Where several dims could be the one that is made.
    DTypeError
        Where A is neither a DataArray of numbers nor a sparse matrix.

    Notes
    -----
    The adjoint multiplies by the conjugate transpose, which is never stored. Products are
    computed in the finer precision of matrix and data; the result has that of the data.
    On Dask, chunks along dims that are summed over give partial results that are added
    up, and the chunks of a lazy A are those of the dims that it makes.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> green = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("receiver", "source"))
    >>> x = xr.DataArray([1.0, 0.0, 2.0], dims="source")
    >>> (xl.MatrixMult(green, "source") @ x).values
    array([ 4., 13.])

    A dim of the matrix that the data share:

    >>> kernel = green.expand_dims(freq=[5.0, 10.0])
    >>> xl.MatrixMult(kernel, "source").range.dims
    ('freq', 'receiver')

    A sparse matrix between two grids:

    >>> import scipy.sparse
    >>> S = scipy.sparse.csr_array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> rays = xr.DataArray([1, 2], dims="ray")
    >>> (xl.MatrixMult(S, domain=x, range=rays) @ x).values
    array([0.5, 2. ])
    """

    def __init__(
        self,
        A: Any,
        over: Hashable | Iterable[Hashable] | None = None,
        *,
        makes: Hashable | Iterable[Hashable] | None = None,
        domain: Labeled | Iterable[Labeled] | None = None,
        range: Labeled | Iterable[Labeled] | None = None,  # noqa: A002
        name: str | None = None,
    ) -> None:
        who = called(name, type(self).__name__)
        if _is_sparse(A):
            if domain is None or range is None or over is not None or makes is not None:
                raise ArgumentError(
                    f"{who}: a sparse matrix has no dims; give the labels of its columns "
                    "as domain=… and those of its rows as range=…, and nothing else"
                )
            self._of_sparse(A, domain, range, who, name)
            return
        if not isinstance(A, xr.DataArray):
            raise DTypeError(
                f"{who} is built from a DataArray or a SciPy sparse matrix, got "
                f"{type(A).__name__}; name its dims with xr.DataArray(values, dims=…, "
                "coords=…)"
            )
        if domain is not None or range is not None:
            raise ArgumentError(
                f"{who}: domain and range go with sparse matrices; the labels of a "
                "DataArray are its own"
            )
        shared, made, summed = _roles(A, over, makes, who)
        # In memory as products read it: it is copied anyway.
        array, gain = weights_of(A.transpose(*shared, *made, *summed), who, "biufc")
        if array.data.dtype.itemsize > (16 if array.data.dtype.kind == "c" else 8):
            raise DTypeError(
                f"{who} computes in single or double precision, the matrix is "
                f"{array.data.dtype}; convert it with .astype"
            )
        array = Array(array.data.astype(floating(array.data.dtype), copy=False), array.dims)
        is_complex = array.data.dtype.kind == "c"
        with about(who):
            space = Space.of(A, kind="complex" if is_complex else "any")
        given, result = space.without(made), space.without(summed)
        kernel = functools.partial(_contracted, shared, made, summed)
        super().__init__(
            given,
            result,
            window=Contraction(dict(given.sizes), dict(result.sizes)),
            forward=functools.partial(kernel, False),
            adjoint=functools.partial(kernel, True),
            gain=gain,
            params={"over": summed, "makes": made, "gain": gain},
            name=name,
            weights=(array,),
            blas=True,
            traits=("explicit",),
        )

    def _of_sparse(
        self, A: Any, domain: Any, range_: Any, who: str, name: str | None
    ) -> None:
        if A.ndim != 2:
            raise DTypeError(f"{who}: a sparse matrix has two dims, got {A.ndim}")
        if A.dtype.kind not in "biufc" or A.dtype.itemsize > 16:
            raise DTypeError(f"{who} is built from numbers, got {A.dtype}")
        kind = "complex" if A.dtype.kind == "c" else "any"
        given, result = (
            _side(side, what, who).of_kind(kind)  # type: ignore[arg-type]
            for side, what in ((domain, "domain"), (range_, "range"))
        )
        if A.shape != (result.size, given.size):
            raise LabelError(
                f"{who}: the range ({result}) has {result.size} samples and the domain "
                f"({given}) {given.size}, the sparse matrix is {A.shape[0]} × {A.shape[1]}"
            )
        A = A.tocsr(copy=True).astype(floating(A.dtype), copy=False)
        A.sum_duplicates()
        sides = (dict(given.sizes), dict(result.sizes))
        apart = set(given.dims).isdisjoint(result.dims)
        kernel = functools.partial(_sparse_product, A, *sides)
        super().__init__(
            given,
            result,
            window=_SparseSums(*sides) if apart else Whole(*sides),
            forward=functools.partial(kernel, False),
            adjoint=functools.partial(kernel, True),
            params={"csr": (A.data, A.indices, A.indptr)},
            name=name,
            traits=("explicit",),
        )


class Fredholm1(MatrixMult):
    """Fredholm integral of the first kind: one matrix for each sample of shared dims.

    ``d[s, x] = Σ_y G[s, x, y] m[s, y]``, for every sample of the dims that pass through.
    This is `MatrixMult` for kernels that share a dim with the data, such as frequency.

    Parameters
    ----------
    G : DataArray
        The kernel, real or complex, on NumPy or Dask (it stays lazy). Its ``units``
        attribute, where it has one, multiplies the unit of the data.
    over : Hashable or sequence of Hashable
        The dims of G that are integrated over.
    makes : Hashable or sequence of Hashable, optional
        The dims of G that only the result has; all others are shared. Unless given, G
        has its shared dims first, then the one that is made, and those in `over` last.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where G does not have the dims named, or shares none with the data.
    ArgumentError
        Where several dims could be the one that is made.
    DTypeError
        Where G is not a DataArray of numbers.

    Notes
    -----
    The sum is a plain one: the step of integration, where there is one, belongs to G.
    The adjoint multiplies by the conjugate transpose, which is never stored.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> G = xr.DataArray(np.ones((4, 2, 3)), dims=("freq", "receiver", "source"))
    >>> m = xr.DataArray(np.ones((4, 3, 5)), dims=("freq", "source", "shot"))
    >>> d = xl.Fredholm1(G, "source") @ m
    >>> d.sizes
    Frozen({'freq': 4, 'receiver': 2, 'shot': 5})
    >>> float(d[0, 0, 0])
    3.0
    """

    def __init__(
        self,
        G: xr.DataArray,
        over: Hashable | Iterable[Hashable],
        *,
        makes: Hashable | Iterable[Hashable] | None = None,
        name: str | None = None,
    ) -> None:
        who = called(name, "Fredholm1")
        if not isinstance(G, xr.DataArray):
            raise DTypeError(
                f"{who} is built from a DataArray, got {type(G).__name__}; name its dims "
                "with xr.DataArray(values, dims=…, coords=…)"
            )
        if not _roles(G, over, makes, who)[0]:
            raise LabelError(
                f"{who}: the kernel ({listed(G.dims)}) shares no dim with the data; use "
                "MatrixMult for a single matrix"
            )
        super().__init__(G, over, makes=makes, name=name)


class Sum(Elementary):
    """Sums over one dim or several.

    Parameters
    ----------
    *coords : DataArray
        The coordinates to sum over, such as ``d.time``.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    ArgumentError
        Where no coordinate is given.
    LabelError
        Where a coordinate does not lie along one dim.

    Notes
    -----
    The adjoint repeats the data along these dims, whose coordinates it gives back.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray([[1.0, 2.0], [3.0, 4.0]], dims=("offset", "time"))
    >>> S = xl.Sum(x.time)
    >>> (S @ x).values
    array([3., 7.])
    >>> (S.H @ S @ x).values
    array([[3., 3.],
           [7., 7.]])
    """

    def __init__(self, *coords: xr.DataArray | Space, name: str | None = None) -> None:
        who = called(name, "Sum")
        if not coords:
            raise ArgumentError(f"{who}: give it a coordinate to sum over, such as d.time")
        with about(who):
            space = Space.of(*(along(coord, who)[0] for coord in coords))
        super().__init__(
            space,
            Space({}),
            window=Contraction(dict(space.sizes), {}),
            forward=_summed,
            adjoint=_repeated,
            gain=ONE,
            params={},
            name=name,
        )


def _summed(block: Block, out: NDArray) -> None:
    axes = tuple(block.dims.index(dim) for dim in block.have)
    np.add.reduce(block.data, axis=axes, out=out)


def _repeated(block: Block, out: NDArray) -> None:
    # The new dims stand last.
    data = block.data
    out[...] = data.reshape(data.shape + (1,) * len(block.want))


# --- dense matrices -------------------------------------------------------------------


def _contracted(
    shared: Dims, made: Dims, summed: Dims, adjoint: bool, block: Block, out: NDArray
) -> None:
    """The product of a matrix, or of its conjugate transpose, and all columns."""
    if adjoint:
        made, summed = summed, made
    matrix = block.weights[0].ordered((*shared, *made, *summed)).data
    result = placed(block.dims, block.have, block.want)
    rest = [dim for dim in block.dims if dim not in block.have]
    data = block.data.transpose([block.dims.index(d) for d in (*shared, *summed, *rest)])
    out = out.transpose([result.index(d) for d in (*shared, *made, *rest)])
    kernels.contract(matrix, data, out, len(shared), len(made), adjoint)


def _roles(
    matrix: xr.DataArray, over: Any, makes: Any, who: str
) -> tuple[Dims, Dims, Dims]:
    """Which dims of a matrix are shared, made and summed over."""
    dims = matrix.dims
    if over is None:
        raise ArgumentError(f"{who}: name the dims that are summed over")
    summed = named(matrix, over, "matrix", "to sum over", who)
    if not summed:
        raise ArgumentError(f"{who}: name at least one dim to sum over")
    left = tuple(dim for dim in dims if dim not in summed)
    if makes is not None:
        made = named(matrix, makes, "matrix", "to make", who)
        both = [dim for dim in made if dim in summed]
        if both:
            raise ArgumentError(
                f"{who}: dim {listed(both)} is summed over, so the result cannot have it"
            )
        return tuple(dim for dim in left if dim not in made), made, summed
    if len(left) > 1 and dims[: len(left)] != left:
        raise ArgumentError(
            f"{who}: which of the dims {listed(left)} are made, and which are shared with "
            f"the data? Name the made ones with makes=…, or put {listed(summed)} last"
        )
    return left[:-1], left[-1:], summed


# --- sparse matrices ------------------------------------------------------------------


class _SparseSums(Contraction):
    """Sums whose result is made whole: cutting a sparse matrix takes as long as a product.

    Input that comes in pieces still gives partial results.
    """

    def chunks(self, chunks: Any, adjoint: bool) -> Any:
        """One chunk along each new dim."""
        made = self.domain if adjoint else self.range
        return {dim: (size,) for dim, size in made.items()}

    def uncut(self, adjoint: bool) -> frozenset[Hashable]:
        """All dims of the output."""
        return frozenset(self.domain if adjoint else self.range)


def _is_sparse(A: Any) -> bool:
    """Whether A is one of SciPy's; does not import them to find out."""
    if not type(A).__module__.startswith("scipy."):
        return False
    from scipy import sparse

    return bool(sparse.issparse(A))


def _side(side: Any, what: str, who: str) -> Space:
    members = (side,) if isinstance(side, (xr.DataArray, xr.Dataset, Space)) else side
    if not isinstance(members, Iterable) or isinstance(members, (str, np.ndarray)):
        raise DTypeError(
            f"{who}: {what} must be labeled, such as d.time, got {type(side).__name__}"
        )
    with about(f"{who}: {what}"):
        return Space.of(*members)


def _sparse_product(
    A: Any, domain: Sizes, range_: Sizes, adjoint: bool, block: Block, out: NDArray
) -> None:
    """The product of a sparse matrix, or of its conjugate transpose, and all columns."""
    given, made = (range_, domain) if adjoint else (domain, range_)
    result = placed(block.dims, block.have, block.want)
    rest = [dim for dim in block.dims if dim not in given]
    data = block.data.transpose([block.dims.index(dim) for dim in (*given, *rest)])
    shape = data.shape[len(given) :]
    data = data.reshape(-1, math.prod(shape))
    pieces = (block.want, block.have) if not adjoint else (block.have, block.want)
    A = _cut(A, _samples(range_, pieces[0]), _samples(domain, pieces[1]))
    if not adjoint:
        values = A @ data
    elif A.dtype.kind == "c":
        values = (A.T @ data.conj()).conj()
    else:
        values = A.T @ data
    values = values.reshape([*(_length(block.want[dim]) for dim in made), *shape])
    out.transpose([result.index(dim) for dim in (*made, *rest)])[...] = values


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _samples(sizes: Sizes, piece: Window) -> Any:
    """Which rows or columns belong to a piece; None for all of them."""
    if all(_length(piece[dim]) == size for dim, size in sizes.items()):
        return None
    if len(sizes) == 1:
        return next(iter(piece.values()))
    grid = np.ix_(*(np.arange(piece[dim].start, piece[dim].stop) for dim in sizes))
    return np.ravel_multi_index(grid, tuple(sizes.values())).ravel()


def _cut(A: Any, rows: Any, columns: Any) -> Any:
    if rows is not None:
        A = A[rows]
    return A if columns is None else A[:, columns]
