"""Fourier transforms of blocks: padding, shifts, weights and the transform itself.

The transform is that of ducc0 where it is installed, else that of SciPy; both give the
same values up to rounding.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Along", "Engine", "Norm", "Transform", "engine"]

NDArray: TypeAlias = npt.NDArray[Any]
Norm: TypeAlias = Literal["ortho", "none", "1/n"]
# Where runs of samples go along one axis, and where they come from.
Runs: TypeAlias = tuple[tuple[slice, slice], ...]


# SciPy gives real transforms in new arrays. These are small enough to come from memory that
# malloc keeps (128 KiB at first): larger ones may be fetched from the system and given back
# tile by tile, and touching fresh pages can take longer than the transform.
PIECE_BYTES = 3 * 2**15


# --- engines --------------------------------------------------------------------------


class Engine(abc.ABC):
    """Plain transforms along some axes, the last of which is the real one."""

    @abc.abstractmethod
    def c2c(
        self, x: NDArray, out: NDArray, axes: Sequence[int], forward: bool, norm: Norm
    ) -> None:
        """Transform real or complex `x` to complex `out`, which may be `x` itself."""

    @abc.abstractmethod
    def r2c(self, x: NDArray, out: NDArray, axes: Sequence[int], norm: Norm) -> None:
        """Transform real `x`; `out` holds frequencies from 0 on along the last of axes."""

    @abc.abstractmethod
    def c2r(self, x: NDArray, out: NDArray, axes: Sequence[int], norm: Norm) -> None:
        """Transform such frequencies back to real `out`; `x` may be overwritten."""


class _Ducc(Engine):
    """ducc0: writes where it is told to."""

    _norms: ClassVar = {"none": 0, "ortho": 1, "1/n": 2}

    def __init__(self, fft: Any) -> None:
        self._fft = fft

    def c2c(
        self, x: NDArray, out: NDArray, axes: Sequence[int], forward: bool, norm: Norm
    ) -> None:
        self._fft.c2c(
            x, axes=axes, forward=forward, inorm=self._norms[norm], out=out, nthreads=1
        )

    def r2c(self, x: NDArray, out: NDArray, axes: Sequence[int], norm: Norm) -> None:
        self._fft.r2c(x, axes=axes, inorm=self._norms[norm], out=out, nthreads=1)

    def c2r(self, x: NDArray, out: NDArray, axes: Sequence[int], norm: Norm) -> None:
        self._fft.c2r(
            x,
            axes=axes,
            lastsize=out.shape[axes[-1]],
            forward=False,
            inorm=self._norms[norm],
            out=out,
            nthreads=1,
            allow_overwriting_input=True,
        )


class _Scipy(Engine):
    """SciPy: complex arrays are transformed in place, others copied to where they go."""

    # What SciPy calls the same factors; backwards it counts from the other end.
    _norms: ClassVar = {"none": "backward", "ortho": "ortho", "1/n": "forward"}
    _back: ClassVar = {"none": "forward", "ortho": "ortho", "1/n": "backward"}

    def __init__(self, fft: Any) -> None:
        self._fft = fft

    def c2c(
        self, x: NDArray, out: NDArray, axes: Sequence[int], forward: bool, norm: Norm
    ) -> None:
        transform = self._fft.fftn if forward else self._fft.ifftn
        factor = self._norms[norm] if forward else self._back[norm]
        in_place = x.dtype.kind == "c"
        if in_place:
            if x is not out:
                out[...] = x
            x = out
        result = transform(x, axes=axes, norm=factor, overwrite_x=in_place, workers=1)
        if not np.may_share_memory(result, out):
            out[...] = result

    def r2c(self, x: NDArray, out: NDArray, axes: Sequence[int], norm: Norm) -> None:
        *others, last = axes
        factor = self._norms[norm]
        for i in _pieces(out, last):
            out[i] = self._fft.rfft(x[i], axis=last, norm=factor, workers=1)
        if others:
            self.c2c(out, out, others, True, norm)

    def c2r(self, x: NDArray, out: NDArray, axes: Sequence[int], norm: Norm) -> None:
        *others, last = axes
        factor, n = self._back[norm], out.shape[last]
        if others:
            self.c2c(x, x, others, False, norm)
        for i in _pieces(out, last):
            out[i] = self._fft.irfft(x[i], n=n, axis=last, norm=factor, workers=1)


def _pieces(out: NDArray, axis: int) -> Iterator[tuple[slice, ...]]:
    """Pieces of an array along one of the axes outside of `axis` in memory."""
    strides = [abs(stride) for stride in out.strides]
    outside = [i for i, n in enumerate(out.shape) if n > 1 and strides[i] > strides[axis]]
    if not outside:
        yield (slice(None),) * out.ndim
        return
    cut = max(outside, key=lambda i: out.shape[i])
    n = out.shape[cut]
    step = max(1, n * PIECE_BYTES // out.nbytes)
    for low in range(0, n, step):
        yield _index(out.ndim, (cut,), (slice(low, low + step),))


@functools.cache
def engine(name: Literal["ducc0", "scipy"] | None = None) -> Engine:
    """The engine of a name; unless one is given, ducc0's where it is installed.

    Raises
    ------
    ImportError
        Where the engine asked for is not installed.
    """
    if name != "scipy":
        try:
            from ducc0 import fft

            return _Ducc(fft)
        except ImportError:
            if name is not None:
                raise
    from scipy import fft

    return _Scipy(fft)


# --- transforms -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Along:
    """What happens along one axis.

    Parameters
    ----------
    size : int
        Samples.
    nfft : int
        Samples of the transform; missing ones are zeros at the end.
    before : bool
        Whether the origin is the middle sample, not the first.
    after : bool
        Whether frequency 0 comes out in the middle, not first.
    """

    size: int
    nfft: int
    before: bool = False
    after: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether samples go in as they are, or the first of them do."""
        return self.nfft <= self.size and not self.before

    @functools.cached_property
    def entry(self) -> Runs:
        """Where samples of what is transformed are in the data."""
        half = self.size // 2 if self.before else 0
        return _runs(half, self.size, self.nfft)

    @functools.cached_property
    def exit(self) -> Runs:
        """Where samples of the result are in what has been transformed."""
        half = -(-self.nfft // 2) if self.after else 0
        return _runs(half, self.nfft, self.nfft)


def _runs(start: int, size: int, limit: int) -> Runs:
    """`limit` samples at most, from `start` on; then those before it."""
    runs = []
    at = 0
    for low, high in ((start, size), (0, start)):
        count = min(high - low, limit - at)
        if count > 0:
            runs.append((slice(at, at + count), slice(low, low + count)))
            at += count
    return tuple(runs)


@dataclasses.dataclass(frozen=True)
class Transform:
    """A Fourier transform along some axes, and its adjoint.

    Parameters
    ----------
    along : tuple of Along
        What happens along each of the axes.
    real : bool
        Whether data are real: of the last axis, frequencies from 0 on are kept.
    norm : {"ortho", "none", "1/n"}
        Factor of the transform and of its adjoint, of n samples: 1/√n, 1 or 1/n.
    isometric : bool
        Whether frequencies that stand for their negative too are multiplied by √2.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.kernels.fourier import Along, Transform
    >>> transform = Transform((Along(3, 4),), real=True, norm="none", isometric=False)
    >>> out = np.empty(3, complex)
    >>> transform.forward(np.array([1.0, 2.0, 3.0]), out, (0,))
    >>> out[:2]
    array([ 6.+0.j, -2.-2.j])
    """

    along: tuple[Along, ...]
    real: bool
    norm: Norm
    isometric: bool

    def forward(
        self, x: NDArray, out: NDArray, axes: Sequence[int], by: Engine | None = None
    ) -> None:
        """Fill `out` with the transform of `x`.

        Parameters
        ----------
        x, out : ndarray
            Data, and complex frequencies of the same precision; any strides. Other axes
            than `axes` are alike.
        axes : sequence of int
            The axes of `along`, one for one.
        by : Engine, optional
            What computes the transforms; see `engine`.
        """
        by = by or engine()
        turned = any(along.after and along.nfft > 1 for along in self.along)
        result = np.empty(out.shape, out.dtype) if turned else out
        if all(along.is_plain for along in self.along):
            x = x[_index(x.ndim, axes, [slice(0, a.nfft) for a in self.along])]
        else:
            x = self._entered(x, None if self.real else result, axes)
        if self.real:
            by.r2c(x, result, axes, self.norm)
            if self.isometric:
                _weigh(result, result, axes[-1], self.along[-1].nfft, math.sqrt(2.0))
        else:
            by.c2c(x, result, axes, True, self.norm)
        if turned:
            for to, from_ in _corners(out.ndim, axes, [a.exit for a in self.along]):
                out[to] = result[from_]

    def adjoint(
        self, y: NDArray, out: NDArray, axes: Sequence[int], by: Engine | None = None
    ) -> None:
        """Fill `out` with the adjoint's result; parameters as for `forward`."""
        by = by or engine()
        if any(along.after and along.nfft > 1 for along in self.along):
            result = np.empty(y.shape, np.result_type(y.dtype, np.complex64))
            for to, from_ in _corners(out.ndim, axes, [a.exit for a in self.along]):
                result[from_] = y[to]
            y = result
        plain = all(along.is_plain for along in self.along)
        if plain:
            target = out[_index(out.ndim, axes, [slice(0, a.nfft) for a in self.along])]
        else:
            shape = list(out.shape)
            for axis, along in zip(axes, self.along, strict=True):
                shape[axis] = along.nfft
            target = np.empty(shape, out.dtype)
        if self.real:
            # The inverse counts inner frequencies twice, the adjoint once.
            weighed = np.empty(y.shape, np.result_type(y.dtype, np.complex64))
            factor = math.sqrt(0.5) if self.isometric else 0.5
            _weigh(y, weighed, axes[-1], self.along[-1].nfft, factor)
            by.c2r(weighed, target, axes, self.norm)
        else:
            by.c2c(y, target, axes, False, self.norm)
        if target.shape != out.shape:
            self._clear(out, axes)
        if not plain:
            for to, from_ in _corners(out.ndim, axes, [a.entry for a in self.along]):
                out[from_] = target[to]

    def _entered(self, x: NDArray, out: NDArray | None, axes: Sequence[int]) -> NDArray:
        """The data as the transform wants them, padded and shifted."""
        if out is None:
            shape = list(x.shape)
            for axis, along in zip(axes, self.along, strict=True):
                shape[axis] = along.nfft
            out = np.empty(shape, x.dtype)
        for axis, along in zip(axes, self.along, strict=True):
            if along.nfft > along.size:
                out[_index(out.ndim, (axis,), [slice(along.size, None)])] = 0
        for to, from_ in _corners(out.ndim, axes, [a.entry for a in self.along]):
            out[to] = x[from_]
        return out

    def _clear(self, out: NDArray, axes: Sequence[int]) -> None:
        """Zeros where samples are cut off."""
        for axis, along in zip(axes, self.along, strict=True):
            start = 0
            # Those that are not cut off lie in one run, or in two at both ends.
            for kept in sorted((run[1] for run in along.entry), key=lambda r: r.start):
                out[_index(out.ndim, (axis,), [slice(start, kept.start)])] = 0
                start = kept.stop
            out[_index(out.ndim, (axis,), [slice(start, None)])] = 0


def _index(ndim: int, axes: Sequence[int], slices: Sequence[slice]) -> tuple[slice, ...]:
    index = [slice(None)] * ndim
    for axis, piece in zip(axes, slices, strict=True):
        index[axis] = piece
    return tuple(index)


def _corners(
    ndim: int, axes: Sequence[int], runs: Sequence[Runs]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Where to and where from, for each combination of runs along several axes."""
    for corner in itertools.product(*runs):
        yield (
            _index(ndim, axes, [to for to, _ in corner]),
            _index(ndim, axes, [from_ for _, from_ in corner]),
        )


def _weigh(y: NDArray, out: NDArray, axis: int, nfft: int, factor: float) -> None:
    """Multiply the frequencies that stand for their negative too; copy the others.

    All are multiplied, since one run through memory is several times as fast as many
    short ones; the others are put right afterwards.
    """
    ends = [slice(0, 1)] if nfft % 2 else [slice(0, 1), slice(nfft // 2, None)]
    places = [_index(y.ndim, (axis,), (end,)) for end in ends]
    kept = [y[place].copy() for place in places]
    number = out.real.dtype.type(factor)
    if y.dtype == out.dtype and _is_dense(y) and _is_dense(out):
        real = out.real.dtype
        np.multiply(y.view(real), number, out=out.view(real))
    else:
        np.multiply(y.real, number, out=out.real)
        np.multiply(y.imag, number, out=out.imag)
    for place, values in zip(places, kept, strict=True):
        out[place] = values


def _is_dense(y: NDArray) -> bool:
    """Whether samples along the last axis follow one another."""
    return y.strides[-1] == y.itemsize
