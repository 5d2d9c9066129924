"""Integrals along one dim, on even and uneven axes."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.errors import LabelError
from xlops.operators.common import about, along, called, choice
from xlops.operators.selection import kept
from xlops.space import Space
from xlops.windows.pieces import Block, NDArray
from xlops.windows.plan import Step
from xlops.windows.rules import Scan

__all__ = ["CausalIntegration"]

IntegralKind: TypeAlias = Literal["full", "half", "trapezoidal"]
Floats: TypeAlias = npt.NDArray[np.float64]


class CausalIntegration(Elementary):
    r"""Integral along one dim from its first sample on.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``: numbers, dates, durations or cftime; even or
        not; rising or falling. A dim without a coordinate has unit steps.
    kind : {"full", "half", "trapezoidal"}
        What the last sample of each sum counts: all of its step or half of it.
        ``"trapezoidal"`` halves the first one, too: the sum is then the integral of the
        straight lines between the samples.
    removefirst : bool
        Whether the result starts at the second sample.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where labels are NaN, repeated, unsorted or not numbers, and where a single
        sample has a label, so that there is no step, or would be removed.
    ArgumentError
        For an unknown kind.

    Notes
    -----
    With steps :math:`h_i = t_i - t_{i-1}` and :math:`h_0 = h_1`,

    - ``"full"``: :math:`y_i = \sum_{j \le i} h_j x_j`,
    - ``"half"``: :math:`y_i = \sum_{j < i} h_j x_j + \tfrac12 h_i x_i`,
    - ``"trapezoidal"``: :math:`y_i = \sum_{j=1}^{i} \tfrac12 h_j (x_{j-1} + x_j)` for
      :math:`i > 0`, and :math:`y_0 = \tfrac12 h_0 x_0`.

    In the first two a sample counts for the step that ends at it. The integral of the
    straight lines is 0 at the first sample; half a step there, as in PyLops, keeps the
    operator invertible, and `removefirst` leaves it out. On falling axes steps are
    negative, so that derivatives undo integrals there as well.

    Dates and durations count in seconds. ``units`` is the unit of the coordinate. Sums
    are in double precision, in single precision too.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> t = xr.DataArray([0.0, 0.5, 1.0, 1.5], dims="time", attrs={"units": "s"})
    >>> v = xr.DataArray(np.array([2.0, 4.0, 6.0, 8.0]), coords={"time": t}, dims="time",
    ...                  attrs={"units": "m s-1"})
    >>> d = xl.CausalIntegration(v.time, kind="trapezoidal", removefirst=True) @ v
    >>> d.values, d.time.values, d.units
    (array([1.5, 4. , 7.5]), array([0.5, 1. , 1.5]), 'm')
    """

    def __init__(
        self,
        coord: xr.DataArray | Space,
        kind: IntegralKind = "full",
        removefirst: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        space, axis = along(coord, "CausalIntegration")
        dim, n = axis.dim, axis.size
        who = called(name, f"CausalIntegration({dim})")
        choice(kind, ("full", "half", "trapezoidal"), "kind", who)
        choice(removefirst, (True, False), "removefirst", who)
        if n == 1 and (axis.labels is not None or removefirst):
            reason = "which would be removed" if removefirst else "so there is no step"
            raise LabelError(f"{who}: {str(dim)!r} has a single sample, {reason}")
        with about(who):
            before, own = _weights(_spacing(axis), kind)
        made, selects = space, None
        if removefirst:
            selects = np.arange(1, n)
            labels = space.labels
            if dim in labels.dims:
                labels = labels.isel({dim: slice(1, None)})
            made = Space({dim: n - 1}, labels)
        run = functools.partial(_scanned, dim, before, own)
        sum_up = functools.partial(_summed, dim)
        super().__init__(
            space,
            made,
            window=Scan(dim, n),
            forward=functools.partial(run, False),
            adjoint=functools.partial(run, True),
            totals=(functools.partial(sum_up, before), functools.partial(sum_up, None)),
            gain=axis.gain,
            params={"kind": kind, "removefirst": bool(removefirst)},
            name=name,
            selects=selects,
        )

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        if self._selects is None:
            return super()._steps
        sizes = dict(self.domain.sizes)
        ((dim, n),) = sizes.items()
        window, kernels = kept(dim, n, self._selects)
        return (
            self._step(self._window, self._kernels, suffix="all", range=sizes),
            self._step(window, kernels, domain=sizes, totals=None, exact=(True, True)),
        )


def _spacing(axis: Axis) -> Floats:
    """The step that ends at each sample; the first has that of the second."""
    if axis.is_regular:
        return np.full(axis.size, axis.step)
    steps = np.diff(axis.numbers)
    return np.concatenate([steps[:1], steps])


def _weights(steps: Floats, kind: str) -> tuple[Floats, Floats]:
    """What each sample counts in later sums and in its own."""
    if kind == "full":
        return steps, steps
    if kind == "half":
        return steps, steps / 2
    before = steps / 2
    before[1:] *= 2
    before[1:-1] = (steps[1:-1] + steps[2:]) / 2
    return before, steps / 2


def _scanned(
    dim: Hashable, before: Floats, own: Floats, adjoint: bool, block: Block, out: NDArray
) -> None:
    """Running sums of a piece, or their transpose."""
    from xlops.kernels.scan import scan

    at, piece = block.dims.index(dim), block.want[dim]
    carry = block.carry
    if carry is None:
        for x, filled in _lines(at, block.data, out):
            scan(x, filled, before[piece], own[piece], reverse=adjoint)
        return
    for x, filled, outside in _lines(at, block.data, out, carry):
        scan(x, filled, before[piece], own[piece], outside[:, 0], adjoint)


def _summed(dim: Hashable, before: Floats | None, block: Block, out: NDArray) -> None:
    """What a piece adds to the sums after it, or before it for the transpose."""
    from xlops.kernels.scan import total

    weights = None if before is None else before[block.have[dim]]
    for x, filled in _lines(block.dims.index(dim), block.data, out):
        total(x, weights, filled[:, 0])


def _lines(axis: int, *arrays: NDArray) -> Iterator[tuple[NDArray, ...]]:
    """Views of arrays as (outer, axis, inner), one dim by one where memory asks for it.

    The arrays have the same shape, but for the axis. All may be written to.
    """
    shape = arrays[0].shape
    merged = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    try:
        yield tuple(
            np.reshape(a, (merged[0], a.shape[axis], merged[1]), copy=False) for a in arrays
        )
    except ValueError:
        # Dims in front first: what is inside is what loops run along.
        cut = 0 if axis > 1 else axis + 1
        for i in range(shape[cut]):
            index: tuple[Any, ...] = (*(slice(None),) * cut, i)
            yield from _lines(axis - (cut < axis), *(array[index] for array in arrays))
