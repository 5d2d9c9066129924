"""Operators that treat every sample on its own: Identity, Zero, Diagonal, Mask."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xlops.operator import Elementary, offer
from xlops.operators.common import about, called, weights_of
from xlops.space import Labeled, Space
from xlops.windows.pieces import Block, NDArray
from xlops.windows.rules import Pointwise, Whole
from xlops.windows.weighted import Weighted

__all__ = ["Diagonal", "Identity", "Mask", "Zero"]


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

    def __init__(self, *coords: Labeled, name: str | None = None) -> None:
        with about(called(name, "Identity")):
            space = Space.of(*coords)
        super().__init__(
            space,
            space,
            window=Pointwise(),
            forward=_same,
            adjoint=_same,
            params={},
            name=name,
            exact=(True, True),
            traits=("symmetric", "positive", "unitary"),
            keeps_constants=True,
        )


@offer("identity")
def _identity(space: Space) -> Identity:
    return Identity(space)


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
        is_complex = array.data.dtype.kind == "c"
        with about(called(name, "Diagonal")):
            space = Space.of(weights, kind="complex" if is_complex else "any")
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
            traits=() if is_complex else ("symmetric",),
        )


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
