"""Spread: samples that are spread along curves through the data, and summed along them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from xlops import units
from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.engine import is_lazy
from xlops.errors import ArgumentError, DTypeError, LabelError, UnitError, listed
from xlops.operators.common import about, called, choice, function_code, named, weights_of
from xlops.operators.common import along as one_dim
from xlops.operators.landing import Landing, Lookup, Places, Roles
from xlops.space import Labeled, Space
from xlops.units import ONE
from xlops.windows.pieces import Array
from xlops.windows.rules import Scatter

__all__ = ["Spread"]

Names: TypeAlias = Hashable | Iterable[Hashable] | None


class Spread(Elementary):
    """Spreading of samples along curves, as in demigration and Radon transforms.

    ``d[x, t(x0, t0, x)] += m[x0, t0]``: a sample of the model lands, for every x, where a
    table or a function says. The adjoint sums the data along the same curves.

    Parameters
    ----------
    table : DataArray or callable
        Where samples land: positions along `along`, by all dims of the model and all
        other dims of the data; real numbers, or dates along dates. On NumPy or Dask (it
        stays lazy). Its ``units``, where it has any, are converted to those of the axis.

        Or a function that gives them. Its arguments are named as coordinates of `domain`
        and `range` are, auxiliary ones too, and it is called with these, as NumPy arrays
        that broadcast, piece by piece: a table of full size never exists. What it gives
        counts in the unit of the axis. It may be called from several threads at once.
    along : DataArray
        The coordinate of the data that samples land on, such as ``d.time``. Its labels
        may lie unevenly.
    dtable : DataArray, optional
        What is added to indices given as `table`, as in PyLops; with interpolation.
    interp : bool, optional
        Whether what lands between two samples is shared out between them, by distance;
        else it goes to the nearer one, to the latter where both are as near. True with
        `dtable`, else False, unless given.
    over : Hashable or sequence of Hashable, optional
        The dims of the table that are spread: the model has them, the data have not.
    makes : Hashable or sequence of Hashable, optional
        The dims of the table that the data have and the model has not. Where both `over`
        and `makes` are given, all others are shared: both sides have them, and each of
        their samples is spread by itself. Where only one is given, the other has all
        other dims. Where none is, the last dim of the table is made and those before it
        are spread, as in PyLops. The dim of `along` is never made: in the table, it is
        that of the model.
    positions : {"labels", "indices"}, optional
        Whether positions are labels of the axis, in its unit, or count its samples from
        0. Indices with `dtable`, else labels, unless given; without labels, along a dim
        that has no coordinate, both are the same.
    domain, range : DataArray, Dataset, Space, or a sequence of them, optional
        With a function, and only then: the labels of both sides, `along` left out. Dims
        of both are shared.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where dims are missing, the table is empty, or labels of `along` have no order.
    UnitError
        Where positions do not convert to the unit of the axis.
    DTypeError
        Where positions are not real numbers, or dates along dates.
    ArgumentError
        Where arguments do not go together.

    Notes
    -----
    Positions that lie outside of the axis, or are NaN, add nothing.

    On Dask, each chunk of the model makes a partial result, and these are added up; the
    data come in chunks of some 4 million samples, or in those that a lazy table has, and
    in one along `along`. The adjoint sums chunks of the data in the same way.

    References
    ----------
    .. [1] J. F. Claerbout, "Earth Soundings Analysis: Processing versus Inversion",
       Blackwell, 1992: operators that are each other's adjoint by sharing one table.

    Examples
    --------
    A point of a model becomes a line through the data:

    >>> import numpy as np, xarray as xr, xlops as xl
    >>> coords = {"p": [0.0, 0.2], "time": 0.1 * np.arange(6), "x": [0.0, 1.0, 2.0]}
    >>> d = xr.DataArray(np.zeros((2, 6, 3)), coords, dims=("p", "time", "x"))
    >>> m = d[:, :, 0].drop_vars("x")
    >>> m[1, 1] = 1.0
    >>> R = xl.Spread(d.time + d.p * d.x, d.time, over=("p", "time"))
    >>> (R @ m).transpose("x", "time").values
    array([[0., 1., 0., 0., 0., 0.],
           [0., 0., 0., 1., 0., 0.],
           [0., 0., 0., 0., 0., 1.]])

    Without a table:

    >>> def line(time, p, x):
    ...     return time + p * x
    >>> S = xl.Spread(line, d.time, domain=m, range=d.x)
    >>> xl.dottest(S, like=m)
    True

    Demigration: reflectors spread along traveltimes, then convolved with a wavelet:

    >>> z = xr.DataArray([1.0, 2.0], dims="z")
    >>> traveltime = 2 * np.hypot(z, d.x) / 20.0
    >>> S = xl.Spread(traveltime, d.time, over="z", interp=True)
    >>> D = xl.Convolve1D(d.time, [-0.5, 1.0, -0.5], 1) @ S
    >>> sorted(D.range.dims)
    ['time', 'x']
    """

    def __init__(
        self,
        table: Any,
        along: xr.DataArray,
        *,
        dtable: xr.DataArray | None = None,
        interp: bool | None = None,
        over: Names = None,
        makes: Names = None,
        positions: str | None = None,
        domain: Labeled | Iterable[Labeled] | None = None,
        range: Labeled | Iterable[Labeled] | None = None,  # noqa: A002
        name: str | None = None,
    ) -> None:
        who = called(name, "Spread")
        last, axis = one_dim(along, who)
        if positions is None:
            positions = "labels" if dtable is None else "indices"
        choice(positions, ("labels", "indices"), "positions", who)
        if interp is None:
            interp = dtable is not None
        choice(interp, (True, False), "interp", who)
        if dtable is not None and not (interp and positions == "indices"):
            raise ArgumentError(
                f"{who}: dtable is added to indices, to interpolate between samples; leave "
                "it out, or interp and positions"
            )
        if isinstance(table, xr.DataArray):
            if domain is not None or range is not None:
                raise ArgumentError(
                    f"{who}: domain and range go with functions; the labels of a table are "
                    "its own"
                )
            roles = _roles(table, axis.dim, over, makes, who)
            table = _added(table, dtable, who).transpose(*roles.table)
            with about(who):
                space = Space.of(table)
            given, made = space.without(roles.made), space.without(roles.over)
            array, scale = _positions(table, axis, positions, who)
            lookup = Lookup.of(axis, positions, bool(interp), scale, who)
            lookup.check(array.data.dtype, who)
            places: Places = Places(lookup)
            if not is_lazy(array.data):
                array, places = Array(lookup.all(array.data), array.dims), Places()
            weights: tuple[Array, ...] = (array,)
            function: Any = None
        elif callable(table):
            if dtable is not None or over is not None or makes is not None:
                raise ArgumentError(
                    f"{who}: dtable, over and makes go with tables; the dims of a function "
                    "are those of domain and range"
                )
            given, made = _sides(domain, range, axis.dim, who)
            roles = Roles.of(given, made)
            weights, names = _coordinates(table, given, made, who)
            lookup = Lookup.of(axis, positions, bool(interp), 1.0, who)
            places = Places(lookup, table, names, who)
            function, scale = (table, function_code(table)), 1.0
        else:
            raise DTypeError(
                f"{who} is built from a DataArray or a function, got "
                f"{type(table).__name__}; name the dims of a table with "
                "xr.DataArray(values, dims=…, coords=…)"
            )
        with about(who):
            made = made.union(last)
        sides = dict(given.sizes), dict(made.sizes)
        super().__init__(
            given,
            made,
            window=Scatter(*sides, frozenset(roles.shared), frozenset({axis.dim})),
            forward=Landing(roles, axis.dim, axis.size, places, False),
            adjoint=Landing(roles, axis.dim, axis.size, places, True),
            params={
                "over": roles.over,
                "makes": roles.made,
                "interp": bool(interp),
                "positions": positions,
                **({"scale": scale} if scale != 1.0 else {}),
                **({"function": function} if function is not None else {}),
            },
            name=name,
            weights=weights,
        )
        # Now: a function that cannot be named gets a name that no other operator has, and
        # copies should have it too.
        self.token  # noqa: B018


# --- which dims are which -------------------------------------------------------------


def _roles(
    table: xr.DataArray, axis: Hashable, over: Names, makes: Names, who: str
) -> Roles:
    dims = table.dims
    others = tuple(dim for dim in dims if dim != axis)
    spread = None if over is None else named(table, over, "table", "to spread", who)
    if makes is not None:
        made = named(table, makes, "table", "to make", who)
    elif spread is not None:
        made = tuple(dim for dim in dims if dim not in spread)
    else:
        made = others[-1:] if len(dims) > 1 else ()
    if spread is None:
        spread = tuple(dim for dim in dims if dim not in made)
    both = [dim for dim in made if dim in spread]
    if both:
        raise ArgumentError(f"{who}: dim {listed(both)} is spread, the data do not have it")
    if axis in dims and axis not in spread:
        raise ArgumentError(
            f"{who}: samples land along {str(axis)!r}; in the table that dim can only be "
            "the model's, which is spread: name it in over=…"
        )
    if not spread:
        raise ArgumentError(f"{who}: name at least one dim of the table that is spread")
    shared = tuple(dim for dim in dims if dim not in spread and dim not in made)
    return Roles(shared, made, spread)


def _sides(domain: Any, range_: Any, axis: Hashable, who: str) -> tuple[Space, Space]:
    """The labels of both sides of a function, without the axis that samples land on."""
    if domain is None:
        raise ArgumentError(
            f"{who}: a function has no dims; give the labels of the model as domain=… and "
            "those of the data as range=…"
        )
    with about(who):
        given = _space(domain)
        made = Space({}) if range_ is None else _space(range_).without([axis])
        given.union(made)
    if not given.size * made.size:
        raise LabelError(f"{who}: one of both sides is empty ({given}; {made})")
    if set(given.dims) <= set(made.dims):
        raise ArgumentError(f"{who}: the data have all dims of the model; none is spread")
    return given, made


def _space(side: Any) -> Space:
    return Space.of(*side) if isinstance(side, (list, tuple)) else Space.of(side)


# --- positions ------------------------------------------------------------------------


def _added(table: xr.DataArray, dtable: Any, who: str) -> xr.DataArray:
    """Indices and what lies between them, in one table."""
    if dtable is None:
        return table
    if not isinstance(dtable, xr.DataArray) or dtable.dtype.kind not in "iuf":
        kind = getattr(dtable, "dtype", type(dtable).__name__)
        raise DTypeError(f"{who}: dtable must be a DataArray of numbers, got {kind}")
    with about(f"{who}: table and dtable do not fit"):
        if set(dtable.dims) != set(table.dims):
            raise LabelError(
                f"they have dims {listed(table.dims)} and {listed(dtable.dims)}"
            )
        reason = Space.of(table).difference(Space.of(dtable))
        if reason is not None:
            raise LabelError(reason)
    return table.copy(data=table.data + dtable.transpose(*table.dims).data)


def _positions(
    table: xr.DataArray, axis: Axis, positions: str, who: str
) -> tuple[Array, float]:
    """A plain table, and the number that converts it to the unit of the axis."""
    if table.dtype.kind in "bcO":
        raise DTypeError(
            f"{who}: positions must be real numbers, or dates, got {table.dtype}"
        )
    array, gain = weights_of(table, who, "iufmM")
    text = table.attrs.get("units")
    if positions == "labels" and isinstance(text, str) and " since " in text:
        own = None if axis.labels is None else axis.labels.attrs.get("units")
        if text != own:
            raise UnitError(f"{who}: positions count in {text!r}, the axis in {own!r}")
        return array, 1.0
    wanted = axis.gain if positions == "labels" else ONE
    if gain == ONE or not wanted.known or table.dtype.kind in "mM":
        return array, 1.0
    scale = None
    if not units.mixes_offsets(str(gain), str(wanted)):
        scale = units.factor(gain, wanted)
    if scale is None:
        what = axis.dim if positions == "labels" else "indices"
        raise UnitError(
            f"{who}: positions in {gain} do not convert to {wanted}, the unit of {what}; "
            "xarray keeps the units of what positions were computed from, set theirs with "
            ".assign_attrs(units=…)"
        )
    return array, scale


def _coordinates(
    function: Callable[..., Any], given: Space, made: Space, who: str
) -> tuple[tuple[Array, ...], tuple[str, ...]]:
    """The coordinates that a function names, and their names."""
    found: dict[Hashable, Array] = {}
    for space in (made, given):
        for dim, size in space.sizes.items():
            found[dim] = Array(np.arange(size), (dim,))
        for name, coord in space.coords.items():
            found[name] = Array(coord.variable.data, coord.dims)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{who}: the function does not say what its arguments are called; wrap it in "
            "one that does, whose arguments are coordinates"
        ) from None
    names = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in found and parameter.kind != parameter.POSITIONAL_ONLY:
            names.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise ArgumentError(
                f"{who}: the function has an argument {parameter.name!r}; arguments are "
                f"coordinates by name: {listed(map(str, found))}"
            )
    return tuple(found[name] for name in names), tuple(names)
