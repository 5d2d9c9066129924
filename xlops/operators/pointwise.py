"""Operators that treat every sample on its own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from xlops.algebra import Adjoint
from xlops.elementary import Elementary
from xlops.operator import LinearOperator, offer
from xlops.operators.common import about, called, weights_of
from xlops.simplify import rule
from xlops.space import Labeled, Space
from xlops.units import Gain
from xlops.windows.pieces import Array, Block, NDArray
from xlops.windows.rules import Pointwise, Whole
from xlops.windows.weighted import Weighted

__all__ = ["Conj", "Diagonal", "Identity", "Imag", "Mask", "Real", "Zero"]


class Identity(Elementary):
    """The operator that changes nothing.

    Parameters
    ----------
    *coords : DataArray, Dataset or Space
        What it acts on: coordinates, an array with all its dims, or a space.
    name : str, optional
        Names the operator in errors and in its repr.

    Notes
    -----
    Dims that no operator names pass through it unchanged anyway; an identity is of use
    as a term of a sum or a block of a stack. Integers stay integers.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(3), dims="time")
    >>> (xl.Identity(x) @ x).values
    array([0, 1, 2])
    """

    is_identity = True

    def __init__(self, *coords: Labeled, name: str | None = None) -> None:
        with about(called(name, "Identity")):
            space = Space.of(*coords)
        kinds = {coord.kind for coord in coords if isinstance(coord, Space)} - {"any"}
        if len(kinds) == 1:
            space = space.of_kind(kinds.pop())
        super().__init__(
            space,
            space,
            window=Pointwise(),
            forward=_same,
            adjoint=_same,
            params={},
            name=name,
            exact=(True, True),
            clinear=space.kind != "real",
            traits=("symmetric", "positive", "unitary"),
            keeps_constants=True,
        )


@offer("identity")
def _identity(space: Space, exact: bool = True) -> Identity:
    identity = Identity(space)
    if not exact:
        identity._exact, identity.params = (False, False), {"exact": False}
    return identity


def _same(block: Block, out: NDArray) -> None:
    out[...] = block.data


class Zero(Elementary):
    """The operator that makes everything zero.

    Parameters
    ----------
    domain : DataArray, Dataset or Space
        What it acts on.
    range : DataArray, Dataset or Space, optional
        What it makes zeros of; the domain unless given.
    name : str, optional
        Names the operator in errors and in its repr.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray([1.0, np.nan], dims="time")
    >>> (xl.Zero(x) @ x).values
    array([0., 0.])
    """

    def __init__(
        self,
        domain: Labeled,
        range: Labeled | None = None,  # noqa: A002
        *,
        name: str | None = None,
    ) -> None:
        with about(called(name, "Zero")):
            given = Space.of(domain)
            made = given if range is None else Space.of(range)
        super().__init__(
            given,
            made,
            window=Pointwise()
            if given == made
            else Whole(dict(given.sizes), dict(made.sizes)),
            forward=_zeros,
            adjoint=_zeros,
            params={},
            name=name,
            exact=(True, True),
            traits=("symmetric", "positive") if given == made else (),
        )


def _zeros(block: Block, out: NDArray) -> None:
    out[...] = 0


class Diagonal(Elementary):
    """Multiplication by weights, sample by sample.

    Parameters
    ----------
    weights : DataArray
        Real or complex weights over any dims, on NumPy or Dask (they stay lazy). Their
        ``units`` attribute, where they have one, multiplies the unit of the data.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    DTypeError
        Where the weights are not a DataArray of numbers.

    Notes
    -----
    The adjoint multiplies by the conjugate. Weights are used in the precision of the
    data: float32 data stay float32.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.ones(3), dims="time")
    >>> D = xl.Diagonal(xr.DataArray([1.0, 2.0, 3.0], dims="time"))
    >>> (D @ x).values
    array([1., 2., 3.])
    """

    def __init__(self, weights: xr.DataArray, *, name: str | None = None) -> None:
        array, gain = weights_of(weights, "Diagonal", "biufc")
        with about(called(name, "Diagonal")):
            space = Space.of(weights)
        self._set(space, array, gain, name)

    def _set(
        self,
        space: Space,
        array: Array,
        gain: Gain,
        name: str | None,
        is_positive: bool = False,
    ) -> Diagonal:
        is_complex = array.data.dtype.kind == "c"
        traits = () if is_complex else ("symmetric",)
        space = space.of_kind("complex" if is_complex else "any")
        super().__init__(
            space,
            space,
            window=Pointwise(),
            forward=Weighted(),
            adjoint=Weighted(conjugate=True),
            gain=gain,
            params={"gain": gain},
            name=name,
            weights=(array,),
            traits=("symmetric", "positive") if is_positive else traits,
        )
        return self


@rule
def diagonals_merge(outer: LinearOperator, inner: LinearOperator) -> LinearOperator | None:
    """Two become one where that has no more weights than the larger of them."""
    one, other = _weights(outer, Diagonal), _weights(inner, Diagonal)
    if one is None or other is None or not _covers(one, other):
        return None
    dims = max(one.dims, other.dims, key=len)
    both = _aligned(one, dims) * _aligned(other, dims)
    assert isinstance(outer.gain, Gain) and isinstance(inner.gain, Gain)
    space = _both(outer, inner).ordered(dims)
    new = Diagonal.__new__(Diagonal)
    positive = outer == inner.H
    return new._set(space, Array(both, dims), outer.gain * inner.gain, None, positive)


@rule
def masks_merge(outer: LinearOperator, inner: LinearOperator) -> LinearOperator | None:
    """What both keep, is kept."""
    one, other = _weights(outer, Mask), _weights(inner, Mask)
    if one is None or other is None or not _covers(one, other):
        return None
    dims = max(one.dims, other.dims, key=len)
    both = _aligned(one, dims) & _aligned(other, dims)
    coords = _both(outer, inner).coords
    return Mask(xr.DataArray(both, coords=coords, dims=dims))


def _weights(operator: LinearOperator, kind: type[Elementary]) -> Array | None:
    """The weights of a diagonal operator or of its adjoint, None for any other."""
    own = operator.operator if isinstance(operator, Adjoint) else operator
    if type(own) is not kind:
        return None
    (weights,) = own._weights
    if own is operator or weights.data.dtype.kind != "c":
        return weights
    return Array(weights.data.conj(), weights.dims)


def _covers(one: Array, other: Array) -> bool:
    return set(one.dims) <= set(other.dims) or set(other.dims) <= set(one.dims)


def _aligned(weights: Array, dims: tuple[Hashable, ...]) -> Any:
    """Weights that broadcast over dims; numbers in double precision.

    Products of integers would overflow, and data may be more exact than the weights.
    """
    data = weights.ordered([dim for dim in dims if dim in weights.dims]).data
    if data.dtype.kind != "b":
        data = data.astype(np.result_type(data.dtype, np.float64), copy=False)
    shape = [weights.sizes.get(dim, 1) for dim in dims]
    return data.reshape(shape)


def _both(outer: LinearOperator, inner: LinearOperator) -> Space:
    assert isinstance(outer.domain, Space) and isinstance(inner.domain, Space)
    return inner.domain.union(outer.domain)


class Mask(Elementary):
    """Exact zeros where a mask is false, the data themselves where it is true.

    Parameters
    ----------
    keep : DataArray of bool
        True where samples are kept; over any dims, on NumPy or Dask.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    DTypeError
        Where `keep` is not a DataArray of booleans.

    Notes
    -----
    What is masked is zero whatever it was, NaN included: this is how data with gaps
    enter a solver. Integers stay integers.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray([1.0, np.nan, 3.0], dims="time")
    >>> (xl.Mask(x.notnull()) @ x).values
    array([1., 0., 3.])
    """

    def __init__(self, keep: xr.DataArray, *, name: str | None = None) -> None:
        array, _ = weights_of(keep, "Mask", "b")
        with about(called(name, "Mask")):
            space = Space.of(keep)
        super().__init__(
            space,
            space,
            window=Pointwise(),
            forward=_masked,
            adjoint=_masked,
            params={},
            name=name,
            weights=(array,),
            exact=(True, True),
            traits=("symmetric", "positive"),
        )


def _masked(block: Block, out: NDArray) -> None:
    out[...] = 0
    np.copyto(out, block.data, where=block.weight())


class Real(Elementary):
    """The real part.

    Parameters
    ----------
    *coords : DataArray, Dataset or Space
        What it acts on: coordinates, an array with all its dims, or a space; any data
        where nothing is given.
    name : str, optional
        Names the operator in errors and in its repr.

    Notes
    -----
    Linear over real numbers only; the adjoint, for Re⟨·,·⟩, takes real values as complex
    ones.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> x = xr.DataArray([1 + 2j, 3j], dims="time")
    >>> R = xl.Real()
    >>> (R @ x).values, (R.H @ R @ x).values
    (array([1., 0.]), array([1.+0.j, 0.+0.j]))
    """

    def __init__(self, *coords: Labeled, name: str | None = None) -> None:
        with about(called(name, "Real")):
            space = Space.of(*coords)
        super().__init__(
            space.of_kind("complex"),
            space.of_kind("real"),
            window=Pointwise(),
            forward=_real_part,
            adjoint=_same,
            params={},
            name=name,
            clinear=False,
            keeps_constants=True,
        )


def _real_part(block: Block, out: NDArray) -> None:
    out[...] = block.data.real


class Imag(Elementary):
    """The imaginary part.

    Parameters
    ----------
    *coords : DataArray, Dataset or Space
        As for `Real`.
    name : str, optional
        Names the operator in errors and in its repr.

    Notes
    -----
    Linear over real numbers only; the adjoint, for Re⟨·,·⟩, multiplies real values by i.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> x = xr.DataArray([1 + 2j, 3j], dims="time")
    >>> I = xl.Imag()
    >>> (I @ x).values, (I.H @ I @ x).values
    (array([2., 3.]), array([0.+2.j, 0.+3.j]))
    """

    def __init__(self, *coords: Labeled, name: str | None = None) -> None:
        with about(called(name, "Imag")):
            space = Space.of(*coords)
        super().__init__(
            space.of_kind("complex"),
            space.of_kind("real"),
            window=Pointwise(),
            forward=_imaginary_part,
            adjoint=_times_i,
            params={},
            name=name,
            clinear=False,
        )


def _imaginary_part(block: Block, out: NDArray) -> None:
    out[...] = block.data.imag


def _times_i(block: Block, out: NDArray) -> None:
    out.real = 0
    out.imag = block.data


class Conj(Elementary):
    """The complex conjugate.

    Parameters
    ----------
    *coords : DataArray, Dataset or Space
        As for `Real`.
    name : str, optional
        Names the operator in errors and in its repr.

    Notes
    -----
    Linear over real numbers only; for Re⟨·,·⟩ it is its own adjoint. Real values stay as
    they are. (``A.H`` holds all that an adjoint needs: it is not built with this.)

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> x = xr.DataArray([1 + 2j, 3j], dims="time")
    >>> (xl.Conj(x) @ x).values
    array([1.-2.j, 0.-3.j])
    """

    def __init__(self, *coords: Labeled, name: str | None = None) -> None:
        with about(called(name, "Conj")):
            space = Space.of(*coords)
        super().__init__(
            space,
            space,
            window=Pointwise(),
            forward=_conjugated,
            adjoint=_conjugated,
            params={},
            name=name,
            clinear=False,
            traits=("symmetric", "unitary"),
            keeps_constants=True,
        )


def _conjugated(block: Block, out: NDArray) -> None:
    np.conjugate(block.data, out=out)
