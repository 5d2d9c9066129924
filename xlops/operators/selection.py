"""Operators that choose samples: Restriction."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from xlops.elementary import Elementary
from xlops.engine import is_lazy
from xlops.errors import DTypeError, LabelError
from xlops.labeling import plain
from xlops.operator import LinearOperator
from xlops.operators.common import along
from xlops.operators.pointwise import Mask
from xlops.simplify import is_adjoint, rule
from xlops.space import Space
from xlops.windows.pieces import Block, Indices, Kernel, NDArray
from xlops.windows.plan import Step
from xlops.windows.rules import Permutation, Selection

__all__ = ["Restriction"]


class Restriction(Elementary):
    """Chosen samples along one dim, with their labels.

    Parameters
    ----------
    coord : DataArray
        The coordinate to choose from, such as ``d.offset``.
    iava : sequence of int, sequence of bool, or DataArray of either
        Indices of the samples to keep, in any order, repeated or not, negative ones
        counting from the end; or a mask over the dim.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where indices lie outside the dim, nothing is kept, or a mask has other labels.
    DTypeError
        Where `iava` is neither indices nor a mask, or is lazy.

    Notes
    -----
    The adjoint puts samples back and fills with zeros; samples chosen more than once
    are added up. Integers stay integers, except in the adjoint where it adds.
    Auxiliary coordinates along the dim follow the choice.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(5.0), dims="offset")
    >>> R = xl.Restriction(x.offset, [0, 3])
    >>> (R @ x).values
    array([0., 3.])
    >>> (R.H @ R @ x).values
    array([0., 0., 0., 3., 0.])
    """

    def __init__(
        self,
        coord: xr.DataArray,
        iava: Any,
        *,
        name: str | None = None,
    ) -> None:
        space, axis = along(coord, "Restriction")
        indices = _indices(iava, space, axis.size)
        labels = space.labels
        if axis.dim in labels.dims:
            labels = labels.isel({axis.dim: indices})
        repeats = len(np.unique(indices)) < len(indices)
        order = np.argsort(indices, kind="stable")
        rising = indices[order]
        window, kernels = kept(axis.dim, axis.size, rising, repeats)
        super().__init__(
            space,
            Space({axis.dim: len(indices)}, labels),
            window=window,
            forward=kernels[0],
            adjoint=kernels[1],
            params={"indices": indices},
            name=name,
            exact=(True, not repeats),
            keeps_constants=True,
            selects=indices,
        )
        # Chosen in rising order first, then put into the order asked for.
        self._reorders = None if np.array_equal(rising, indices) else np.argsort(order)

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        if self._reorders is None:
            return super()._steps
        (step,) = super()._steps
        sizes = dict(self.range.sizes)
        (dim,) = sizes
        window = Permutation(sizes, sizes, self._reorders)
        turn = functools.partial(reordered, dim, window)
        kernels = (functools.partial(turn, False), functools.partial(turn, True))
        last = self._step(window, kernels, suffix="order", domain=sizes, exact=(True, True))
        return (step, last)


@rule
def chosen_and_put_back(
    outer: LinearOperator, inner: LinearOperator
) -> LinearOperator | None:
    """``R.H @ R`` keeps the samples that R chooses, each once."""
    if not (type(inner) is Restriction and is_adjoint(outer, inner) and inner._exact[1]):
        return None
    (dim,) = inner.domain.dims
    keep = np.zeros(inner.domain.size, dtype=np.bool_)
    keep[inner.params["indices"]] = True
    return Mask(xr.DataArray(keep, coords=inner.domain.coords, dims=[dim]))


def reordered(
    dim: Hashable, window: Permutation, adjoint: bool, block: Block, out: NDArray
) -> None:
    """Kernel of a permutation of all samples along a dim."""
    axis = block.dims.index(dim)
    order = window.order(adjoint)[block.want[dim]]
    out[...] = np.take(block.data, order, axis=axis)


def _indices(iava: Any, space: Space, size: int) -> Indices:
    (dim,) = space.dims
    who = f"Restriction({dim})"
    if isinstance(iava, xr.DataArray) and iava.dtype == bool:
        reason = space.difference(Space.of(iava))
        if reason is not None:
            raise LabelError(f"{who}: the mask does not fit: {reason}")
    if isinstance(iava, xr.DataArray):
        iava = plain(iava.data, f"{who} is built from")
    if is_lazy(iava):
        raise DTypeError(f"{who}: iava is lazy; choose samples with values at hand")
    chosen: npt.NDArray[Any] = np.asarray(iava)
    if chosen.ndim != 1:
        raise DTypeError(f"{who}: iava must have one dim, got {chosen.ndim}")
    if chosen.size == 0:
        raise LabelError(f"{who}: iava is empty, nothing would be kept")
    if chosen.dtype == bool:
        if chosen.size != size:
            raise LabelError(
                f"{who}: the mask has {chosen.size} samples, the dim has {size}"
            )
        chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            raise LabelError(f"{who}: the mask is false everywhere, nothing is kept")
    if chosen.dtype.kind not in "iu":
        raise DTypeError(
            f"{who}: iava must be indices or a mask, got {chosen.dtype}; to choose by "
            f"label, find indices with .get_indexer or use .sel on the data"
        )
    outside = (chosen < -size) | (chosen >= size)
    if outside.any():
        raise LabelError(
            f"{who}: index {chosen[outside][0]} lies outside of the {size} samples"
        )
    return np.where(chosen < 0, chosen + size, chosen).astype(np.intp)


def kept(
    dim: Hashable, size: int, indices: Indices, repeats: bool = False
) -> tuple[Selection, tuple[Kernel, Kernel]]:
    """The window and the kernels of a choice of samples in rising order."""
    window = Selection(dim, size, indices)
    forward = functools.partial(_chosen, dim, indices)
    return window, (forward, functools.partial(_put_back, dim, indices, repeats))


def _chosen(dim: Hashable, indices: Indices, block: Block, out: NDArray) -> None:
    axis = block.dims.index(dim)
    at = indices[block.want[dim]] - block.have[dim].start
    run = _as_slice(at)
    if run is None:
        out[...] = np.take(block.data, at, axis=axis)
    else:
        out[...] = block.data[(*(slice(None),) * axis, run)]


def _as_slice(indices: Indices) -> slice | None:
    """Rising indices as a slice, where they are evenly spaced."""
    first, last = int(indices[0]), int(indices[-1])
    step = int(indices[1]) - first if len(indices) > 1 else 1
    if step < 1 or not np.array_equal(indices, np.arange(first, last + 1, step)):
        return None
    return slice(first, last + 1, step)


def _put_back(
    dim: Hashable, indices: Indices, repeats: bool, block: Block, out: NDArray
) -> None:
    have, want = block.have[dim], block.want[dim]
    axis = block.dims.index(dim)
    # What was read just for want of an empty piece does not belong here.
    at = indices[have] - want.start
    inside = (at >= 0) & (at < want.stop - want.start)
    data, before = block.data, (slice(None),) * axis
    if not inside.all():
        at, data = at[inside], data[(*before, inside)]
    run = _as_slice(at) if len(at) else None
    if run is not None and run.step == 1:
        out[(*before, slice(0, run.start))] = 0
        out[(*before, slice(run.stop, None))] = 0
        out[(*before, run)] = data
        return
    out[...] = 0
    if run is not None:
        out[(*before, run)] = data
    elif repeats:
        np.add.at(out, (*before, at), data)
    else:
        out[(*before, at)] = data
