"""Fourier transforms."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xlops import units
from xlops.axis import Axis
from xlops.errors import ArgumentError, DTypeError, LabelError, shown
from xlops.operator import Elementary
from xlops.operators.common import about, along, called, choice
from xlops.space import Space
from xlops.windows.pieces import Block, NDArray
from xlops.windows.rules import Whole

__all__ = ["FFT"]

Norm: TypeAlias = Literal["ortho", "none", "1/n"]


class FFT(Elementary):
    """Discrete Fourier transform along one dim.

    Parameters
    ----------
    coord : DataArray
        The coordinate, such as ``d.time``, evenly sampled; rising or falling. A dim
        without a coordinate has unit steps.
    nfft : int, optional
        Samples of the transform: more than the dim has pad with zeros at its end,
        fewer cut it off. As many as the dim has unless given.
    real : bool
        Whether data are real, and only frequencies from 0 on are kept. The transform is
        then linear over real numbers only.
    norm : {"ortho", "none", "1/n"}
        Factor of the transform: 1/√nfft, 1 or 1/nfft.
    ifftshift_before : bool
        Whether the origin is the middle sample, not the first.
    fftshift_after : bool
        Whether frequencies come in rising order, with 0 in the middle.
    scaling : {"isometric", "plain"}
        With `real`, frequencies that stand for their negative counterpart too are
        multiplied by √2, so that norms are kept (the adjoint of the transform is then
        its inverse); ``"plain"`` leaves them as they are.
    dim : Hashable, optional
        Name of the frequency dim; ``freq_<dim>`` unless given.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where the axis is not even (the message says which step), or its labels are NaN,
        repeated, unsorted or not numbers.
    ArgumentError
        For an unknown norm, fewer than one sample, or `fftshift_after` with `real`,
        whose frequencies are in order already.

    Notes
    -----
    The frequency coordinate is in one over the unit of `coord`: cycles per second for
    times. Phases count from the first sample, not from label 0. The adjoint gives back
    the labels that the operator was built from, not computed ones.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> t = xr.DataArray(0.25 * np.arange(4), dims="time", attrs={"units": "s"})
    >>> d = xr.DataArray([1.0, 0.0, 0.0, 0.0], coords={"time": t}, dims="time")
    >>> D = xl.FFT(d.time, real=True, norm="none", scaling="plain") @ d
    >>> D.freq_time.values, D.freq_time.units
    (array([0., 1., 2.]), 's-1')
    >>> D.values
    array([1.+0.j, 1.+0.j, 1.+0.j])
    """

    def __init__(
        self,
        coord: xr.DataArray | Space,
        nfft: int | None = None,
        real: bool = False,
        norm: Norm = "ortho",
        ifftshift_before: bool = False,
        fftshift_after: bool = False,
        *,
        scaling: Literal["isometric", "plain"] = "isometric",
        dim: Hashable | None = None,
        name: str | None = None,
    ) -> None:
        space, axis = along(coord, "FFT")
        who = called(name, f"FFT({axis.dim})")
        choice(norm, ("ortho", "none", "1/n"), "norm", who)
        choice(scaling, ("isometric", "plain"), "scaling", who)
        if real and fftshift_after:
            raise ArgumentError(
                f"{who}: the frequencies of a real transform are in order already; "
                "leave out fftshift_after"
            )
        nfft = axis.size if nfft is None else nfft
        if isinstance(nfft, bool) or not isinstance(nfft, (int, np.integer)):
            raise DTypeError(f"{who}: nfft must be a whole number, got {shown(nfft)}")
        if nfft < 1:
            raise ArgumentError(f"{who}: nfft must be at least 1, got {nfft}")
        frequency = f"freq_{axis.dim}" if dim is None else dim
        if not isinstance(frequency, Hashable):
            raise DTypeError(f"{who}: dim must be a name, got {shown(frequency)}")
        if frequency == axis.dim:
            raise LabelError(
                f"{who}: the frequency dim needs another name than {axis.dim!r}"
            )
        nfft, real = int(nfft), bool(real)
        range_ = _frequencies(axis, frequency, nfft, real, bool(fftshift_after), who)
        factor = {"ortho": nfft**-0.5, "none": 1.0, "1/n": 1.0 / nfft}[norm]
        inner = np.sqrt(2.0) if real and scaling == "isometric" else 1.0
        plan = functools.partial(
            _transformed,
            axis.dim,
            axis.size,
            nfft,
            real,
            factor,
            inner,
            bool(ifftshift_before),
            bool(fftshift_after),
        )
        unitary = norm == "ortho" and nfft == axis.size and not real
        super().__init__(
            space.of_kind("real" if real else "complex"),
            range_,
            window=Whole({axis.dim: axis.size}, dict(range_.sizes)),
            forward=functools.partial(plan, False),
            adjoint=functools.partial(plan, True),
            params={
                "nfft": nfft,
                "real": real,
                "norm": norm,
                "ifftshift_before": bool(ifftshift_before),
                "fftshift_after": bool(fftshift_after),
                "scaling": scaling,
            },
            name=who,
            clinear=not real,
            traits=("unitary",) if unitary else (),
        )


def _frequencies(
    axis: Axis, dim: Hashable, nfft: int, real: bool, shifted: bool, who: str
) -> Space:
    """The labels of the transform."""
    with about(who):
        step = axis.regular_step("the transform")
    values = (np.fft.rfftfreq if real else np.fft.fftfreq)(nfft, step)
    if shifted:
        values = np.fft.fftshift(values)
    attrs = {"long_name": f"frequency along {axis.dim}"}
    unit = units.apply(axis.gain**-1, "1", False, who)
    if unit is not None:
        attrs["units"] = unit
    labels = xr.Dataset(coords={dim: (dim, values, attrs)})
    return Space({dim: len(values)}, labels, "complex")


def _transformed(
    dim: Hashable,
    size: int,
    nfft: int,
    real: bool,
    factor: float,
    inner: float,
    shift_before: bool,
    shift_after: bool,
    adjoint: bool,
    block: Block,
    out: NDArray,
) -> None:
    """The transform or its adjoint; scipy keeps single precision single."""
    from scipy import fft

    x = block.data
    if not adjoint:
        at = block.dims.index(dim)
        if shift_before:
            x = fft.ifftshift(x, axes=at)
        y = (fft.rfft if real else fft.fft)(x, n=nfft, axis=at)
        y *= factor
        _scale_inner(y, at, nfft, inner)
        out[...] = fft.fftshift(y, axes=at) if shift_after else y
        return
    (frequency,) = block.have
    at = block.dims.index(frequency)
    if real:
        # The inverse counts inner frequencies twice, the adjoint once.
        x = x.copy()
        _scale_inner(x, at, nfft, inner / 2)
        y = fft.irfft(x, n=nfft, axis=at)
    else:
        y = fft.ifft(fft.ifftshift(x, axes=at) if shift_after else x, axis=at)
    y = y[(*(slice(None),) * at, slice(0, size))] * _like(y, factor * nfft)
    if nfft < size:
        pad = [(0, 0)] * y.ndim
        pad[at] = (0, size - nfft)
        y = np.pad(y, pad)
    out[...] = fft.fftshift(y, axes=at) if shift_before else y


def _scale_inner(y: NDArray, at: int, nfft: int, inner: float) -> None:
    """Scale, in place, the frequencies that stand for a negative one too."""
    if inner != 1.0:
        y[(*(slice(None),) * at, slice(1, (nfft + 1) // 2))] *= inner


def _like(y: NDArray, value: float) -> Any:
    """A number in the precision of an array."""
    return y.real.dtype.type(value)
