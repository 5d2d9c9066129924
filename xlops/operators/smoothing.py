"""Running means along one dim or several."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.errors import ArgumentError, DTypeError, shown
from xlops.operators.common import about, along_each, called
from xlops.space import Space
from xlops.windows.banded import Banded
from xlops.windows.pieces import Block, Kernel, NDArray
from xlops.windows.plan import Step
from xlops.windows.rules import Reach, Stencil

__all__ = ["Smoothing1D", "Smoothing2D", "SmoothingND"]

# Means of more samples than this are quicker by sums that windows share than sample by
# sample.
FEW = 32


@dataclasses.dataclass(frozen=True)
class _Means:
    """Kernel of running means of many samples.

    Parameters
    ----------
    dim : Hashable
        The dim.
    reach : int
        Samples of a mean to either side of its middle that may exist.
    factor : float
        What each of them counts.
    """

    dim: Hashable
    reach: int
    factor: float

    def __call__(self, block: Block, out: NDArray) -> None:
        from xlops.kernels.boxcar import windows

        have, want = block.have[self.dim], block.want[self.dim]
        axis = block.dims.index(self.dim)
        windows(block.data, out, axis, self.reach, have, want, self.factor)


class _Smoothing(Elementary):
    """Running means along some dims, one after the other."""

    def __init__(
        self, coords: Sequence[Any], nsmooth: Any, who: str, name: str | None
    ) -> None:
        spaces = along_each(coords, who)
        dims = [axis.dim for _, axis in spaces]
        who = called(name, f"{who}({', '.join(map(str, dims))})")
        counts = _counts(nsmooth, len(dims), who)
        space = Space({})
        with about(who):
            for other, _ in spaces:
                space = space.union(other)
        means = [
            _along(axis, count) for (_, axis), count in zip(spaces, counts, strict=True)
        ]
        super().__init__(
            space,
            space,
            window=Stencil({d: r for window, _ in means for d, r in window.reach.items()}),
            forward=means[0][1],  # of several dims, the first one's
            adjoint=means[0][1],
            params={"nsmooth": counts},
            name=who,
            traits=("symmetric",),
        )
        self._means = means

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        steps = []
        for window, kernel in self._means:
            sizes = {dim: reach.size for dim, reach in window.reach.items()}
            suffix = "".join(f"-{dim}" for dim in sizes)
            kernels = (kernel, kernel)
            steps.append(
                self._step(window, kernels, suffix=suffix, domain=sizes, range=sizes)
            )
        return tuple(steps)


def _along(axis: Axis, count: int) -> tuple[Stencil, Kernel]:
    """The mean of `count` samples, an odd number, along one dim."""
    dim, size = axis.dim, axis.size
    reach = min(count // 2, size - 1)
    window = Stencil({dim: Reach(size, reach, reach)})
    if reach > FEW // 2:
        window = Stencil(window.reach, works_on_halo=True)
        return window, _Means(dim, reach, 1.0 / count)
    from xlops.kernels.band import Band

    offsets = np.arange(-reach, reach + 1)
    band = Band.constant(size, offsets, np.full(len(offsets), 1.0 / count))
    return window, Banded(((dim, band),))


def _counts(nsmooth: Any, ndim: int, who: str) -> tuple[int, ...]:
    """Samples of the means along each dim, odd numbers."""
    if isinstance(nsmooth, (Sequence, np.ndarray)) and not isinstance(nsmooth, str):
        given = list(nsmooth)
    else:
        given = [nsmooth] * ndim
    if len(given) != ndim:
        raise ArgumentError(
            f"{who}: nsmooth must be one number, or one for each of the {ndim} dims, got "
            f"{len(given)}"
        )
    for count in given:
        if isinstance(count, (bool, np.bool_)) or not isinstance(count, (int, np.integer)):
            raise DTypeError(f"{who}: nsmooth must be a whole number, got {shown(count)}")
        if count < 1:
            raise ArgumentError(f"{who}: nsmooth must be at least 1, got {count}")
    return tuple(int(count) | 1 for count in given)


class Smoothing1D(_Smoothing):
    r"""Running mean along one dim.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``; or a dim without one.
    nsmooth : int
        Samples of the mean; one more where the number is even.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    ArgumentError
        For less than one sample.
    DTypeError
        Where `nsmooth` is not a whole number.

    See Also
    --------
    SmoothingND : along several dims.
    Convolve1D : with any filter.

    Notes
    -----
    .. math:: y_i = \frac{1}{n} \sum_{|l| \le (n - 1)/2} x_{i+l}

    Samples beyond the ends count as zeros, so that the operator is its own adjoint; a
    mean of the samples that exist is ``S @ x / (S @ ones)``. It counts samples,
    whatever their labels: months are smoothed as well. Means of more samples than the
    dim has come on the same labels, where PyLops gives another number of samples or an
    error.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.array([0.0, 0.0, 3.0, 0.0, 6.0]), dims="time")
    >>> (xl.Smoothing1D(x.time, 3) @ x).values
    array([0., 1., 1., 3., 2.])
    """

    def __init__(
        self, coord: xr.DataArray | Space, nsmooth: int, *, name: str | None = None
    ) -> None:
        if not isinstance(nsmooth, (int, np.integer)):
            raise DTypeError(
                f"{called(name, 'Smoothing1D')}: nsmooth must be a whole number, got "
                f"{shown(nsmooth)}"
            )
        super().__init__([coord], nsmooth, "Smoothing1D", name)


class SmoothingND(_Smoothing):
    """Running mean along several dims: over a box around every sample.

    Parameters
    ----------
    *coords : DataArray
        The coordinates, such as ``d.x, d.y``; or dims without them.
    nsmooth : int or sequence of int
        Samples of the mean along each dim, or along all of them; one more where the
        number is even.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where a dim is given twice, or none.
    ArgumentError
        For less than one sample, or not one number for each dim.
    DTypeError
        Where `nsmooth` is not made of whole numbers.

    Notes
    -----
    The mean over a box is one mean after the other, which run together. As for
    `Smoothing1D`, samples beyond the ends count as zeros and labels do not matter.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.array([[0.0, 0, 0], [0, 9, 0], [0, 0, 0]]), dims=("x", "y"))
    >>> (xl.SmoothingND(x.x, x.y, nsmooth=3) @ x).values
    array([[1., 1., 1.],
           [1., 1., 1.],
           [1., 1., 1.]])
    """

    def __init__(
        self,
        *coords: xr.DataArray | Space,
        nsmooth: int | Sequence[int],
        name: str | None = None,
    ) -> None:
        super().__init__(coords, nsmooth, type(self).__name__, name)


class Smoothing2D(SmoothingND):
    """Running mean along two dims: over a rectangle around every sample.

    Parameters
    ----------
    x, y : DataArray
        The coordinates, such as ``d.x, d.y``; or dims without them.
    nsmooth : int or sequence of int
        Samples of the mean along each dim, or along both; one more where the number is
        even.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where a dim is given twice.
    ArgumentError
        For less than one sample, or not one number for each dim.
    DTypeError
        Where `nsmooth` is not made of whole numbers.

    See Also
    --------
    SmoothingND : along any number of dims, with notes.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.eye(3), dims=("x", "y"))
    >>> (3 * xl.Smoothing2D(x.x, x.y, nsmooth=(1, 3)) @ x).values
    array([[1., 1., 0.],
           [1., 1., 1.],
           [0., 1., 1.]])
    """

    def __init__(
        self,
        x: xr.DataArray | Space,
        y: xr.DataArray | Space,
        *,
        nsmooth: int | Sequence[int],
        name: str | None = None,
    ) -> None:
        super().__init__(x, y, nsmooth=nsmooth, name=name)
