"""Derivatives along one dim or several, on even and uneven axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from xlops.algebra import Sum, is_scalar, scaled
from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.errors import ArgumentError, LabelError, shown
from xlops.operator import LinearOperator
from xlops.operators.common import about, along, along_each, called, choice
from xlops.space import Space
from xlops.stack import VStack
from xlops.windows.banded import Banded
from xlops.windows.rules import Reach, Stencil

if TYPE_CHECKING:
    from xlops.kernels.band import Band

__all__ = ["FirstDerivative", "Gradient", "Laplacian", "SecondDerivative"]

DerivativeKind: TypeAlias = Literal["forward", "centered", "backward"]
Order: TypeAlias = Literal[3, 5]


class _Points(NamedTuple):
    """The points that rows of a derivative use, as offsets from the row's own."""

    inside: tuple[int, ...]
    edges: dict[int, tuple[int, ...]]


def _points(derivative: int, kind: str, order: int, edge: bool) -> _Points:
    """Points inside the axis, and at its ends: row 0, row 1, …, row -1."""
    ahead = tuple(range(derivative + 1))
    behind = tuple(range(-derivative, 1))
    if kind == "forward":
        return _Points(ahead, {})
    if kind == "backward":
        return _Points(behind, {})
    half = order // 2
    edges = {}
    if edge:
        edges = {0: ahead, -1: behind}
        if half == 2:
            edges |= {1: (-1, 0, 1), -2: (-1, 0, 1)}
    return _Points(tuple(range(-half, half + 1)), edges)


def _weights(nodes: npt.NDArray[np.float64], derivative: int) -> npt.NDArray[np.float64]:
    """Weights of the derivative at 0 of the polynomial through `nodes`, by row.

    Solves Σ_k w_k nodes_k^j = j! δ_{j, derivative}; one of the nodes is 0.
    """
    scale = np.max(np.abs(nodes), axis=-1, keepdims=True)
    unit = nodes / scale
    powers = np.arange(nodes.shape[-1])
    matrix = unit[..., None, :] ** powers[:, None]
    right = np.zeros((*nodes.shape, 1))
    right[..., derivative, 0] = derivative  # 1! = 1 and 2! = 2
    weights: npt.NDArray[np.float64] = np.linalg.solve(matrix, right)[..., 0]
    # Constants have no derivative, to the last bit.
    own = unit == 0
    weights[own] = 0.0
    weights[own] = -weights.sum(axis=-1).ravel()
    return np.asarray(weights / scale**derivative)


def _band(axis: Axis, derivative: int, points: _Points) -> Band:
    """The derivative as a banded matrix."""
    from xlops.kernels.band import Band

    n = axis.size
    inside, edges = points
    offsets = sorted({*inside, *(o for row in edges.values() for o in row)})
    column = {offset: w for w, offset in enumerate(offsets)}
    first, last = max(0, -inside[0]), n - max(0, inside[-1])
    if axis.is_regular:
        rows = np.r_[0:first, last:n]
        table = np.zeros((len(offsets), len(rows)))
        for row, taken in edges.items():
            at = int(np.searchsorted(rows, row % n))
            table[[column[o] for o in taken], at] = _even(taken, axis.step, derivative)
        weights = np.zeros(len(offsets))
        weights[[column[o] for o in inside]] = _even(inside, axis.step, derivative)
        return Band.inside_ends(n, offsets, weights, (first, last), (table, table != 0))
    coefficients = np.zeros((len(offsets), n))
    used = np.zeros((len(offsets), n), dtype=bool)
    numbers = axis.numbers

    def fill(rows: npt.NDArray[np.intp], taken: tuple[int, ...]) -> None:
        nodes = numbers[rows[:, None] + np.array(taken)] - numbers[rows][:, None]
        for offset, weight in zip(taken, _weights(nodes, derivative).T, strict=True):
            coefficients[column[offset], rows] = weight
            # All points are read, also where neighbours lie evenly: which weights vanish
            # is rounding there, and rows of one pattern run fastest.
            used[column[offset], rows] = True

    fill(np.arange(first, last), inside)
    for row, taken in edges.items():
        fill(np.array([row % n]), taken)
    return Band(np.array(offsets), coefficients, used)


def _even(taken: tuple[int, ...], step: float, derivative: int) -> npt.NDArray[np.float64]:
    """Weights of points one step apart; where one is zero, its point is not read."""
    nodes = np.array(taken, dtype=float)[None]
    # All weights of these few points are multiples of 1/12 of a step.
    return np.asarray(np.round(12 * _weights(nodes, derivative))[0] / 12 / step**derivative)


class _Derivative(Elementary):
    """A derivative of some degree along one dim."""

    _degree: int

    def __init__(
        self,
        coord: xr.DataArray | Space,
        kind: DerivativeKind = "centered",
        edge: bool = False,
        order: Order = 3,
        *,
        name: str | None = None,
    ) -> None:
        own = type(self).__name__
        space, axis = along(coord, own)
        who = called(name, f"{own}({axis.dim})")
        choice(kind, ("forward", "centered", "backward"), "kind", who)
        choice(order, (3, 5), "order", who)
        choice(edge, (True, False), "edge", who)
        needed = order if kind == "centered" else self._degree + 1
        if axis.size < needed:
            raise LabelError(
                f"{who} needs at least {needed} samples along {str(axis.dim)!r}, "
                f"got {axis.size}"
            )
        with about(who):
            band = _band(axis, self._degree, _points(self._degree, kind, order, edge))
        before, after = band.reach
        super().__init__(
            space,
            space,
            window=Stencil({axis.dim: Reach(axis.size, before, after)}),
            forward=Banded(((axis.dim, band),)),
            adjoint=Banded(((axis.dim, band.transposed),)),
            gain=axis.gain**-self._degree,
            params={"kind": kind, "edge": bool(edge), "order": order},
            name=name,
        )


class FirstDerivative(_Derivative):
    """First derivative along one dim, in units of its coordinate.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``: numbers, dates, durations or cftime; even or
        not; rising or falling. A dim without a coordinate has unit steps.
    kind : {"centered", "forward", "backward"}
        The samples that are compared.
    edge : bool
        Whether centered differences go over to one-sided ones at the ends of the axis;
        otherwise they are zero there, as the last (first) sample of forward (backward)
        differences always is.
    order : {3, 5}
        Points of centered differences.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where the axis is shorter than the difference, or its labels are NaN, repeated,
        unsorted or not numbers.
    ArgumentError
        For an unknown kind or order.

    Notes
    -----
    On uneven axes the derivative is that of the polynomial through the points, so that
    centered differences are exact on parabolas inside the axis [1]_. Dates and durations
    count in seconds. ``units`` is one over the unit of the coordinate.

    References
    ----------
    .. [1] B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced
       grids", Mathematics of Computation 51, 1988.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> t = xr.DataArray([0.0, 0.5, 1.0, 1.5], dims="time", attrs={"units": "s"})
    >>> d = xr.DataArray(np.array([0.0, 1.0, 4.0, 9.0]), coords={"time": t}, dims="time",
    ...                  attrs={"units": "m"})
    >>> v = xl.FirstDerivative(d.time) @ d
    >>> v.values, v.units
    (array([0., 4., 8., 0.]), 'm s-1')
    """

    _degree = 1


class SecondDerivative(_Derivative):
    """Second derivative along one dim, in units of its coordinate.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``: numbers, dates, durations or cftime; even or
        not; rising or falling. A dim without a coordinate has unit steps.
    kind : {"centered", "forward", "backward"}
        The samples that are compared.
    edge : bool
        Whether centered differences go over to one-sided ones at the ends of the axis;
        otherwise they are zero there, as the last (first) two samples of forward
        (backward) differences always are.
    order : {3, 5}
        Points of centered differences.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where the axis is shorter than the difference, or its labels are NaN, repeated,
        unsorted or not numbers.
    ArgumentError
        For an unknown kind or order.

    Notes
    -----
    On uneven axes the derivative is that of the polynomial through the points, so that
    it is exact on parabolas inside the axis [1]_. Dates and durations count in seconds.
    ``units`` is one over the squared unit of the coordinate.

    References
    ----------
    .. [1] B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced
       grids", Mathematics of Computation 51, 1988.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(5.0) ** 2, dims="depth")
    >>> (xl.SecondDerivative(x.depth, edge=True) @ x).values
    array([2., 2., 2., 2., 2.])
    """

    _degree = 2


class Laplacian(Sum):
    """Sum of second derivatives along several dims.

    Parameters
    ----------
    *coords : DataArray
        The coordinates, such as ``d.x, d.y``, each of another dim; see
        `SecondDerivative`.
    weights : sequence of float or Quantity, optional
        What the derivative along each dim is multiplied by; 1 unless given.
    edge : bool
        Whether centered differences go over to one-sided ones at the ends of each axis;
        otherwise they are zero there.
    kind : {"centered", "forward", "backward"}
        The samples that are compared.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Without a coordinate, for two of one dim, or where an axis is shorter than the
        difference or its labels are NaN, repeated, unsorted or not numbers.
    ArgumentError
        For an unknown kind, or weights that are not one finite number for each dim.
    UnitError
        Where the units of the derivatives do not add.

    Notes
    -----
    Lengths in different units are converted: ``units`` is one over the squared unit of
    the first coordinate that has one. Degrees and metres do not add, unless weights
    with units make up for it. All derivatives are made in one pass over the data.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(5.0), dims="x")
    >>> y = xr.DataArray(np.arange(4.0), dims="y")
    >>> d = x**2 + 3 * y**2
    >>> (xl.Laplacian(d.x, d.y, edge=True) @ d).values[0]
    array([8., 8., 8., 8.])
    """

    def __init__(
        self,
        *coords: xr.DataArray | Space,
        weights: Sequence[Any] | None = None,
        edge: bool = False,
        kind: DerivativeKind = "centered",
        name: str | None = None,
    ) -> None:
        dims = [axis.dim for _, axis in along_each(coords, "Laplacian")]
        who = called(name, f"Laplacian({', '.join(map(str, dims))})")
        factors = _factors(weights, len(coords), who)
        with about(who):
            terms: list[LinearOperator] = [
                SecondDerivative(coord, kind, edge) for coord in coords
            ]
            super().__init__(
                [
                    term if factor is None else scaled(factor, term)
                    for factor, term in zip(factors, terms, strict=True)
                ]
            )
        self.name = who


class Gradient(VStack):
    """First derivatives along several dims, as blocks named by the dims.

    Parameters
    ----------
    *coords : DataArray
        The coordinates, such as ``d.x, d.y``, each of another dim; see
        `FirstDerivative`.
    edge : bool
        Whether centered differences go over to one-sided ones at the ends of each axis;
        otherwise they are zero there.
    kind : {"centered", "forward", "backward"}
        The samples that are compared.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Without a coordinate, for two of one dim, or where an axis is shorter than the
        difference or its labels are NaN, repeated, unsorted or not numbers.
    ArgumentError
        For an unknown kind.

    Notes
    -----
    The result is a ``dict`` by the names of the dims, as strings; the adjoint takes one
    and adds up. ``units`` is a mapping by these names.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(3.0), dims="x")
    >>> y = xr.DataArray(np.arange(4.0), dims="y")
    >>> d = x + 3 * y
    >>> slopes = xl.Gradient(d.x, d.y, edge=True) @ d
    >>> slopes["x"].values[0], slopes["y"].values[0]
    (array([1., 1., 1., 1.]), array([3., 3., 3., 3.]))
    """

    def __init__(
        self,
        *coords: xr.DataArray | Space,
        edge: bool = False,
        kind: DerivativeKind = "centered",
        name: str | None = None,
    ) -> None:
        dims = [axis.dim for _, axis in along_each(coords, "Gradient")]
        who = called(name, f"Gradient({', '.join(map(str, dims))})")
        with about(who):
            parts = [FirstDerivative(coord, kind, edge) for coord in coords]
        super().__init__(dict(zip(map(str, dims), parts, strict=True)), name=who)


def _factors(weights: Any, count: int, who: str) -> list[Any]:
    """A number or a quantity for each dim; None for 1."""
    if weights is None:
        return [None] * count
    try:
        factors = list(weights)
    except TypeError:
        factors = []
    if (
        isinstance(weights, str)
        or len(factors) != count
        or not all(map(is_scalar, factors))
    ):
        raise ArgumentError(
            f"{who}: weights must be one number or quantity for each of the {count} dims, "
            f"got {shown(weights)}"
        )
    plain = [isinstance(f, (int, float, np.number)) and f == 1 for f in factors]
    return [None if one else f for f, one in zip(factors, plain, strict=True)]
