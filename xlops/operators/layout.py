"""Operators that change the names or the order of dims: Rename, Transpose."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping
from types import EllipsisType
from typing import Any

import xarray as xr

from xlops.cf import dim_named
from xlops.elementary import Elementary
from xlops.errors import DTypeError, LabelError, listed
from xlops.operator import Coords
from xlops.operators.common import about, called
from xlops.space import Labeled, Layout, Space
from xlops.windows.pieces import Block, NDArray, Order, arranged, placed
from xlops.windows.plan import Step
from xlops.windows.rules import Pointwise, Renaming

__all__ = ["Rename", "Transpose"]


class Rename(Elementary):
    """Other names for dims and for the coordinates along them.

    Parameters
    ----------
    coords : DataArray, Dataset or Space
        A coordinate, such as ``d.time``, or data with all dims that get other names.
    names : mapping of Hashable to Hashable, or Hashable
        The new name of each dim; of a single coordinate, its new name alone.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where `coords` lack a dim, two dims would have one name, or an auxiliary
        coordinate has the new name already.
    DTypeError
        Where `coords` are not labeled, or `names` are no names.

    Notes
    -----
    Only dims in `names` are acted on, all others pass through. Values, labels, units and
    auxiliary coordinates stay as they are. A coordinate of the data that has a new name
    already gives way. The adjoint gives back the old names, with the very coordinates
    that the operator was built from. Integers stay integers.

    This is how an operator finds a dim under the name that it was built with, and how one
    is kept out of the way of another: `Fredholm1` from ``source`` to ``receiver`` acts
    twice in a row only if its result is renamed in between.

    Examples
    --------
    >>> import xarray as xr, xlops as xl
    >>> d = xr.DataArray([1, 2, 3], coords={"time": [0.0, 0.5, 1.0]}, dims="time")
    >>> R = xl.Rename(d.time, "lag")
    >>> (R @ d).dims, (R.H @ R @ d).identical(d)
    (('lag',), True)
    """

    def __init__(
        self,
        coords: Labeled,
        names: Mapping[Any, Hashable] | Hashable,
        *,
        name: str | None = None,
    ) -> None:
        who = called(name, "Rename")
        with about(who):
            space = Space.of(coords)
        new = _new_names(space, names, who)
        domain = space.without(dim for dim in space.dims if dim not in new)
        new = {dim: new[dim] for dim in domain.dims}
        old = {made: dim for dim, made in new.items()}
        clash = [n for n in domain.names if n in old and n not in new]
        if clash:
            raise LabelError(
                f"{who}: {listed(clash)} is an auxiliary coordinate already; drop it with "
                ".drop_vars, or choose another name"
            )
        self._names = (new, old)
        labels = _renamed(domain.labels, new)
        super().__init__(
            domain,
            Space({new[dim]: n for dim, n in domain.sizes.items()}, labels),
            window=Renaming(new, old),
            forward=functools.partial(_moved, old),
            adjoint=functools.partial(_moved, new),
            params={"names": new},
            name=name or f"Rename({', '.join(f'{a} → {b}' for a, b in new.items())})",
            exact=(True, True),
            traits=("unitary",),
            keeps_constants=True,
        )

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        assert isinstance(coords, Layout)
        renamed = _renamed(coords.dataset(), self._names[adjoint])
        return Layout.of(renamed.coords)


def _new_names(space: Space, names: Any, who: str) -> dict[Hashable, Hashable]:
    """The new name of each dim, by its old one."""
    if not isinstance(names, Mapping):
        if len(space.dims) != 1:
            raise LabelError(
                f"{who}: one new name is given for {listed(space.dims)}; say which of them "
                "gets it, as {'old': 'new'}"
            )
        names = {space.dims[0]: names}
    wrong = [n for n in names.values() if n is None or not isinstance(n, Hashable)]
    if wrong or not names:
        given = wrong[0] if wrong else names
        raise DTypeError(f"{who}: expected new names, as {{'old': 'new'}}, got {given!r}")
    names = {dim_named(n, space.labels, who): new for n, new in names.items()}
    missing = [dim for dim in names if dim not in space]
    if missing:
        raise LabelError(
            f"{who}: dim {listed(missing)} is missing: got {listed(space.dims)}"
        )
    if len(set(names.values())) < len(names):
        raise LabelError(
            f"{who}: each dim needs a name of its own, got {listed(names.values())}"
        )
    return dict(names)


def _renamed(coords: xr.Dataset, names: Mapping[Hashable, Hashable]) -> xr.Dataset:
    """Coordinates under other names, those that have such a name already left out."""
    made = set(names.values())
    coords = coords.drop_vars([n for n in coords.variables if n in made and n not in names])
    here = {n: new for n, new in names.items() if n in coords.dims or n in coords.variables}
    return coords.rename(here)


def _moved(names: Mapping[Hashable, Hashable], block: Block, out: NDArray) -> None:
    """The values, along dims that had these names (new ones first) before."""
    dims = placed(block.dims, list(names.values()), list(names))
    out[...] = block.data.transpose([block.dims.index(names.get(d, d)) for d in dims])


class Transpose(Elementary):
    """The dims of data in the order asked for.

    Parameters
    ----------
    coords : DataArray, Dataset or Space
        What it is built from: data, whose order the adjoint gives back.
    *dims : Hashable or ...
        The dims in the order wanted; ``...`` stands for all others, once, in the order
        that they have.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where a dim is missing, given twice, or left out without ``...``.

    Notes
    -----
    Operators find dims by name, so that their order never matters to results; it matters
    to what reads them as plain arrays, and to how fast memory is read. NumPy results lie
    in memory in the new order, and so do the chunks of Dask results.

    Dims that pass through stand where ``...`` stands, and before all others where there
    is no ``...``; the adjoint has them before all others. In a product the outermost
    factor decides: the one that gives the result. So it does for a gram, whose result has
    the order that the operator was built from. Integers stay integers.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> d = xr.DataArray(np.zeros((2, 3, 4)), dims=("shot", "offset", "time"))
    >>> T = xl.Transpose(d, "time", ...)
    >>> (T @ d).dims, (T.H @ T @ d).dims
    (('time', 'shot', 'offset'), ('shot', 'offset', 'time'))
    """

    def __init__(
        self,
        coords: Labeled,
        *dims: Hashable | EllipsisType,
        name: str | None = None,
    ) -> None:
        who = called(name, "Transpose")
        with about(who):
            space = Space.of(coords)
        layout = _layout(space, dims, who)
        kernels = tuple(functools.partial(_turned, lay) for lay in (layout, _own(space)))
        super().__init__(
            space,
            space.ordered(dim for dim in arranged(space.dims, layout)),
            window=Pointwise(),
            forward=kernels[0],
            adjoint=kernels[1],
            params={"dims": layout},
            name=name,
            exact=(True, True),
            traits=("unitary",),
            keeps_constants=True,
        )
        self.layouts = (layout, _own(space))

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        return (self._step(self._window, self._kernels, layouts=self.layouts),)


def _own(space: Space) -> Order:
    return (..., *space.dims)


def _layout(space: Space, dims: tuple[Any, ...], who: str) -> Order:
    """The order asked for, with its one ellipsis."""
    dims = tuple(d if d is ... else dim_named(d, space.labels, who) for d in dims)
    named = [dim for dim in dims if dim is not ...]
    missing = [dim for dim in named if dim not in space]
    if missing:
        raise LabelError(
            f"{who}: dim {listed(missing)} is missing: got {listed(space.dims)}"
        )
    if len({*dims}) < len(dims):
        twice = "..." if len({*named}) == len(named) else listed(named)
        raise LabelError(f"{who}: each dim can be given once, got {twice}")
    if len(named) == len(dims):
        left = [dim for dim in space.dims if dim not in named]
        if left:
            raise LabelError(
                f"{who}: {listed(left)} has no place in {listed(named)}; add ... for it"
            )
        return (..., *dims)
    return tuple(dims)


def _turned(layout: Order, block: Block, out: NDArray) -> None:
    dims = arranged(block.dims, layout)
    out[...] = block.data.transpose([block.dims.index(dim) for dim in dims])
