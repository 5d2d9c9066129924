"""Fourier transforms along one dim, two or several."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xlops import units
from xlops.algebra import identity_on
from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.errors import ArgumentError, DTypeError, LabelError, shown
from xlops.kernels.fourier import Along, Norm, Transform
from xlops.operator import LinearOperator
from xlops.operators.common import about, along, called, choice
from xlops.simplify import is_adjoint, rule
from xlops.space import Space
from xlops.windows.pieces import Block, NDArray, placed
from xlops.windows.rules import Whole

__all__ = ["FFT", "FFT2D", "FFTND"]

Scaling: TypeAlias = Literal["isometric", "plain"]
# What may be given once for all dims, or one for each.
Bools: TypeAlias = bool | Sequence[bool]
Sizes: TypeAlias = int | Sequence[int | None] | None
Names: TypeAlias = Mapping[Hashable, Hashable] | Sequence[Hashable]


class _Fourier(Elementary):
    """A transform along some dims; the last of them is the real one.

    Parameters are lists, one item for each coordinate.
    """

    def __init__(
        self,
        spaces: Sequence[tuple[Space, Axis]],
        who: str,
        nffts: Sequence[Any],
        real: bool,
        norm: Norm,
        before: Sequence[Any],
        after: Sequence[Any],
        scaling: Scaling,
        names: Sequence[Hashable],
    ) -> None:
        choice(norm, ("ortho", "none", "1/n"), "norm", who)
        choice(scaling, ("isometric", "plain"), "scaling", who)
        choice(real, (True, False), "real", who)
        for flag in before:
            choice(flag, (True, False), "ifftshift_before", who)
        for flag in after:
            choice(flag, (True, False), "fftshift_after", who)
        if real and after[-1]:
            last = "" if len(after) == 1 else f" along {str(spaces[-1][1].dim)!r}"
            remedy = (
                "leave out fftshift_after"
                if len(after) == 1
                else "give fftshift_after for each dim, False for the last"
            )
            raise ArgumentError(
                f"{who}: the frequencies of a real transform{last} are in order already; "
                f"{remedy}"
            )
        axes = [axis for _, axis in spaces]
        steps = tuple(
            Along(axis.size, _length(nfft, axis, who), bool(b), bool(a))
            for axis, nfft, b, a in zip(axes, nffts, before, after, strict=True)
        )
        _check_names(names, axes, who)
        domain = Space({})
        for space, _ in spaces:
            domain = domain.union(space)
        range_ = Space({}, kind="complex")
        for i, (axis, frequency, step) in enumerate(zip(axes, names, steps, strict=True)):
            half = real and i == len(axes) - 1
            range_ = range_.union(
                _frequencies(axis, frequency, step.nfft, half, step.after, who)
            )
        transform = Transform(steps, bool(real), norm, scaling == "isometric")
        kernel = functools.partial(_transformed, domain.dims, range_.dims, transform)
        same = all(step.nfft == step.size for step in steps)
        super().__init__(
            domain.of_kind("real" if real else "complex"),
            range_.of_kind("complex"),
            window=Whole(dict(domain.sizes), dict(range_.sizes)),
            forward=functools.partial(kernel, False),
            adjoint=functools.partial(kernel, True),
            params={
                "nffts": [step.nfft for step in steps],
                "real": bool(real),
                "norm": norm,
                "ifftshift_before": [step.before for step in steps],
                "fftshift_after": [step.after for step in steps],
                "scaling": scaling,
            },
            name=who,
            clinear=not real,
            traits=("unitary",) if norm == "ortho" and same and not real else (),
        )


@rule
def isometries_undo(outer: LinearOperator, inner: LinearOperator) -> LinearOperator | None:
    """``F.H @ F = I`` where no sample is cut off."""
    if not (isinstance(inner, _Fourier) and is_adjoint(outer, inner)):
        return None
    params = inner.params
    isometric = params["norm"] == "ortho" and (
        not params["real"] or params["scaling"] == "isometric"
    )
    sizes = inner.domain.sizes.values()
    whole = all(n >= size for n, size in zip(params["nffts"], sizes, strict=True))
    return identity_on(inner.domain, exact=False) if isometric and whole else None


class FFT(_Fourier):
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
    >>> D.values.real
    array([1., 1., 1.])
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
        scaling: Scaling = "isometric",
        dim: Hashable | None = None,
        name: str | None = None,
    ) -> None:
        space, axis = along(coord, "FFT")
        who = called(name, f"FFT({axis.dim})")
        super().__init__(
            [(space, axis)],
            who,
            [nfft],
            real,
            norm,
            [ifftshift_before],
            [fftshift_after],
            scaling,
            [f"freq_{axis.dim}" if dim is None else dim],
        )


class FFTND(_Fourier):
    """Discrete Fourier transform along several dims.

    Parameters
    ----------
    *coords : DataArray
        The coordinates, such as ``d.time, d.offset``, evenly sampled; rising or falling.
        A dim without a coordinate has unit steps.
    nffts : int or sequence of int, optional
        Samples of the transform, for all dims or for each, None for as many as the dim
        has: more pad with zeros at its end, fewer cut it off.
    real : bool
        Whether data are real, and only frequencies from 0 on are kept along the last of
        `coords`. The transform is then linear over real numbers only.
    norm : {"ortho", "none", "1/n"}
        Factor of the transform: 1/√n, 1 or 1/n, with n the product of all nffts.
    ifftshift_before : bool or sequence of bool
        Whether the origin is the middle sample, not the first; for all dims or for each.
    fftshift_after : bool or sequence of bool
        Whether frequencies come in rising order, with 0 in the middle; for all dims or
        for each.
    scaling : {"isometric", "plain"}
        With `real`, frequencies along the last of `coords` that stand for their negative
        counterpart too are multiplied by √2, so that norms are kept; ``"plain"`` leaves
        them as they are.
    dim : mapping or sequence of Hashable, optional
        Names of the frequency dims, by the names of the dims or in the order of
        `coords`; ``freq_<dim>`` for those not given.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where a dim comes twice, an axis is not even (the message says which step), its
        labels are NaN, repeated, unsorted or not numbers, or names clash.
    ArgumentError
        Where lists do not have one item for each coordinate, for an unknown norm, fewer
        than one sample, or `fftshift_after` along the last dim with `real`, whose
        frequencies are in order already.

    See Also
    --------
    FFT : Along one dim.
    FFT2D : Along two dims.

    Notes
    -----
    Frequency coordinates are in one over the unit of theirs. Phases count from the
    first sample (the middle one with `ifftshift_before`), not from label 0. The adjoint
    gives back the labels that the operator was built from.

    PyLops shifts the frequencies of real transforms on demand, out of order; here that
    is an error.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> d = xr.DataArray(np.ones((2, 3, 4)), dims=("z", "y", "x"))
    >>> F = xl.FFTND(d.z, d.y, d.x, real=True, norm="1/n", dim={"x": "k"})
    >>> D = F @ d
    >>> dict(D.sizes)
    {'freq_z': 2, 'freq_y': 3, 'k': 3}
    >>> abs(D.values[0, 0])
    array([1., 0., 0.])
    """

    _count: int | None = None

    def __init__(
        self,
        *coords: xr.DataArray | Space,
        nffts: Sizes = None,
        real: bool = False,
        norm: Norm = "ortho",
        ifftshift_before: Bools = False,
        fftshift_after: Bools = False,
        scaling: Scaling = "isometric",
        dim: Names | None = None,
        name: str | None = None,
    ) -> None:
        own = type(self).__name__
        if not coords:
            raise ArgumentError(
                f"{own} is built from coordinates, such as d.time, d.offset"
            )
        if self._count not in (None, len(coords)):
            raise ArgumentError(
                f"{own} acts along {self._count} dims, got {len(coords)} coordinates; FFT "
                "acts along one, FFTND along any number"
            )
        spaces = [along(coord, own) for coord in coords]
        dims = [axis.dim for _, axis in spaces]
        who = called(name, f"{own}({', '.join(map(str, dims))})")
        if len(set(dims)) < len(dims):
            twice = next(d for d in dims if dims.count(d) > 1)
            raise LabelError(f"{who} acts along each dim once, got {str(twice)!r} twice")
        super().__init__(
            spaces,
            who,
            _each(nffts, dims, "nffts", who),
            real,
            norm,
            _each(ifftshift_before, dims, "ifftshift_before", who),
            _each(fftshift_after, dims, "fftshift_after", who),
            scaling,
            _names(dim, dims, who),
        )


class FFT2D(FFTND):
    """Discrete Fourier transform along two dims.

    Parameters
    ----------
    *coords : DataArray
        Two coordinates, such as ``d.time, d.offset``, evenly sampled; rising or falling.
        A dim without a coordinate has unit steps.
    nffts, real, norm, ifftshift_before, fftshift_after, scaling, dim, name
        As for `FFTND`.

    Raises
    ------
    ArgumentError
        For any other number of coordinates; else as for `FFTND`.
    LabelError
        As for `FFTND`.

    See Also
    --------
    FFTND : Along any number of dims, with all parameters explained.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> t = xr.DataArray(0.5 * np.arange(4), dims="t", attrs={"units": "s"})
    >>> d = xr.DataArray(np.ones((3, 4)), coords={"t": t}, dims=("x", "t"))
    >>> D = xl.FFT2D(d.x, d.t, norm="1/n", fftshift_after=True) @ d
    >>> D.freq_t.values, D.freq_t.units
    (array([-1. , -0.5,  0. ,  0.5]), 's-1')
    >>> abs(D.sel(freq_x=0, freq_t=0).item())
    1.0
    """

    _count = 2


def _each(value: Any, dims: Sequence[Hashable], what: str, who: str) -> list[Any]:
    """One item for each dim, of a value for all of them or a sequence."""
    try:
        items = [value] * len(dims) if isinstance(value, str) else list(value)
    except TypeError:
        return [value] * len(dims)
    if len(items) != len(dims):
        raise ArgumentError(
            f"{who}: {what} has {len(items)} items for {len(dims)} dims; give one value "
            "for all, or one for each"
        )
    return items


def _names(dim: Any, dims: Sequence[Hashable], who: str) -> list[Hashable]:
    """Names of the frequency dims."""
    if isinstance(dim, Mapping):
        unknown = [key for key in dim if key not in dims]
        if unknown:
            raise LabelError(
                f"{who}: dim names {str(unknown[0])!r}, along which it does not act"
            )
        return [dim.get(d, f"freq_{d}") for d in dims]
    if dim is None:
        return [f"freq_{d}" for d in dims]
    if isinstance(dim, str) or not isinstance(dim, Sequence):
        raise DTypeError(
            f"{who}: dim must be a mapping or a sequence of names, got {shown(dim)}"
        )
    return _each(dim, dims, "dim", who)


def _check_names(names: Sequence[Hashable], axes: Sequence[Axis], who: str) -> None:
    for name in names:
        if not isinstance(name, Hashable):
            raise DTypeError(f"{who}: dim must be a name, got {shown(name)}")
        if any(name == axis.dim for axis in axes):
            raise LabelError(
                f"{who}: the frequency dim needs another name than {str(name)!r}"
            )
        if names.count(name) > 1:
            raise LabelError(f"{who}: two frequency dims are called {str(name)!r}")


def _length(nfft: Any, axis: Axis, who: str) -> int:
    """Samples of the transform."""
    if nfft is None:
        return axis.size
    if isinstance(nfft, (bool, np.bool_)) or not isinstance(nfft, (int, np.integer)):
        raise DTypeError(f"{who}: nfft must be a whole number, got {shown(nfft)}")
    if nfft < 1:
        raise ArgumentError(f"{who}: nfft must be at least 1, got {nfft}")
    return int(nfft)


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
    given: tuple[Hashable, ...],
    made: tuple[Hashable, ...],
    transform: Transform,
    adjoint: bool,
    block: Block,
    out: NDArray,
) -> None:
    """The transform or its adjoint."""
    if adjoint:
        given, made = made, given
    # Axes of the result in the order of the data, each in the place of its counterpart.
    order = placed(block.dims, given, made)
    other = dict(zip(given, made, strict=True))
    out = out.transpose([order.index(other.get(dim, dim)) for dim in block.dims])
    axes = [block.dims.index(dim) for dim in given]
    (transform.adjoint if adjoint else transform.forward)(block.data, out, axes)
