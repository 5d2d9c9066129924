"""The catalogue: every operator, and what can be made of them.

An operator joins the tests of properties and of laziness by one entry in `CATALOGUE`: a
name, how it is built from a gather, and the few facts that tests cannot find out.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pint
import pytest
import scipy.sparse
import xarray as xr

import xlops as xl

# --- the data that operators are built from -------------------------------------------

_UNEVEN = np.array([0.0, 1.0, 1.5, 3.5, 4.25, 5.0, 7.0, 7.5, 9.0, 9.25, 11.0, 12.5]) / 4

# Labels and attributes of n samples of time, None for a dim without labels.
TIMES = {
    "even": lambda n: (0.5 + 0.25 * np.arange(n), {"units": "s"}),
    "uneven": lambda n: (_UNEVEN[:n], {"units": "s"}),
    "falling": lambda n: (3.0 - 0.25 * np.arange(n), {"units": "s"}),
    "uneven, falling": lambda n: (-_UNEVEN[:n], {"units": "s"}),
    "dates": lambda n: (np.datetime64("2024-02-28", "ns") + n_of(n, 12, "h"), {}),
    "months": lambda n: (xr.date_range("2024-01", periods=n, freq="MS").values, {}),
    "durations": lambda n: (n_of(n, 250, "ms"), {}),
    "cftime": lambda n: (
        xr.date_range("2000-02", periods=n, freq="MS", calendar="360_day").values,
        {},
    ),
    "since": lambda n: (6.0 * np.arange(n), {"units": "hours since 2000-01-01"}),
    "no labels": lambda n: None,
}
EVEN_TIMES = [time for time in TIMES if time != "months" and "uneven" not in time]


def n_of(n: int, count: int, unit: str) -> np.ndarray:
    """Durations of 0, 1, 2, … times `count` units."""
    return np.arange(n) * np.timedelta64(count, unit).astype("timedelta64[ns]")


def gather(
    time: str = "even", sizes: tuple[int, int, int] = (7, 6, 5), seed: int = 0
) -> xr.DataArray:
    """Random data over time, offset and depth, with all kinds of coordinates.

    Parameters
    ----------
    time : str
        The time axis: one of `TIMES`.
    sizes : tuple of int
        Samples along time, offset and depth; from 5 to 12.
    seed : int
        The same seed gives the same data.
    """
    nt, nx, nz = sizes
    coords = {
        "offset": ("offset", 10.0 * np.arange(1, nx + 1), {"units": "m", "axis": "X"}),
        "depth": ("depth", -5.0 * np.arange(nz), {"units": "m", "positive": "up"}),
        "receiver": ("offset", [f"R{i}" for i in range(nx)], {"long_name": "station"}),
        "live": ("offset", np.arange(nx) % 3 > 0),
        "age": ("time", np.linspace(0, 1, nt) ** 2, {"units": "Ma"}),
        "arrival": (("offset", "time"), np.outer(np.arange(nx), np.arange(nt))),
        "shot_id": 3,
    }
    labels = TIMES[time](nt)
    if labels is not None:
        coords["time"] = ("time", labels[0], {**labels[1], "long_name": "recording time"})
    return xr.DataArray(
        np.random.default_rng(seed).standard_normal(sizes),
        coords=coords,
        dims=("time", "offset", "depth"),
        name="pressure",
        attrs={"units": "Pa", "long_name": "sound", "source": "a gun"},
    )


# --- shorthand ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Entry:
    """An operator of the catalogue.

    Parameters
    ----------
    name : str
        Names its tests.
    build : callable
        A gather in, the operator out.
    time : str
        The time axis of the gather: one of `TIMES`.
    tasks : int, optional
        Tasks per chunk of the result, halos and weights included, that a graph may have
        beyond those of the input, where each dim is cut in three; None for any number.
    integers : {"never", "forward", "always"}
        Where integers stay integers.
    """

    name: str
    build: Callable[[xr.DataArray], xl.LinearOperator]
    time: str = "even"
    tasks: int | None = None
    integers: str = "never"

    @functools.cached_property
    def operator(self) -> xl.LinearOperator:
        """The operator on a gather of the usual sizes, built once for all tests."""
        return self.build(gather(self.time))

    def __str__(self) -> str:
        return self.name


D1, D2, FFT, R = xl.FirstDerivative, xl.SecondDerivative, xl.FFT, xl.Restriction
CI = xl.CausalIntegration
Q = pint.Quantity


def W(d: xr.DataArray, *dims: str) -> xr.DataArray:
    """Real weights over some dims of a gather, with their labels and a unit."""
    like = d.isel({dim: 0 for dim in d.dims if dim not in dims}, drop=True)
    values = np.cos(1.0 + np.arange(like.size)).reshape(like.shape)
    return like.copy(data=values).assign_attrs(units="kg")


def C(d: xr.DataArray, *dims: str) -> xr.DataArray:
    """Complex weights."""
    weights = W(d, *dims)
    return weights.copy(data=np.exp(2j * weights.values))


def lazy(weights: xr.DataArray) -> xr.DataArray:
    """The same weights on Dask, cut otherwise than the data are."""
    return weights.chunk({dim: (size - 2, 2) for dim, size in weights.sizes.items()})


def M(d: xr.DataArray, *dims: str) -> xr.DataArray:
    """A matrix over some dims of a gather and a new one, ``station``, in their midst."""
    rows = [W(d, *dims) * np.sin(row + 1.0) + W(d, *dims) ** row for row in range(4)]
    return xr.concat(rows, "station").transpose(*dims[:-1], "station", dims[-1])


def P(d: xr.DataArray, *dims: str) -> xr.DataArray:
    """Times, some of them before and after those of a gather, by dims and ``station``."""
    first, last = d.time.values[[0, -1]]
    return first + (last - first) * (0.5 + 0.7 * M(d, *dims)).assign_attrs(units="")


def moveout(time: np.ndarray, depth: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Times of waves, by coordinates."""
    return np.sqrt(time**2 + 0.01 * (depth**2 + (offset / 20) ** 2))


def grid(d: xr.DataArray, rows: int) -> scipy.sparse.sparray:
    """A sparse matrix with a column for each sample of a gather."""
    return scipy.sparse.random_array((rows, d.size), density=0.2, rng=5, format="csc")


def difference(x: np.ndarray) -> np.ndarray:
    """Each sample of the last axis less half of the one before: for any leading axes."""
    y = x.copy()
    y[..., 1:] -= 0.5 * x[..., :-1]
    return y


def difference_adjoint(y: np.ndarray) -> np.ndarray:
    x = y.copy()
    x[..., :-1] -= 0.5 * y[..., 1:]
    return x


def mixed(x: np.ndarray) -> np.ndarray:
    """A matrix along the axis before the last one, differences along the last one."""
    return np.einsum("...ot,os->...ts", difference(x), mixing(x.shape[-2]))


def mixed_adjoint(y: np.ndarray) -> np.ndarray:
    return difference_adjoint(np.einsum("...ts,os->...ot", y, mixing(y.shape[-1])))


def mixing(n: int) -> np.ndarray:
    return np.cos(np.outer(np.arange(1, n + 1), np.arange(n)))


def band(d: xr.DataArray, **kwargs: object) -> xl.LinearOperator:
    """A filter in the Fourier domain."""
    F = FFT(d.time, **kwargs)
    frequency = F.range.coords["freq_time"]
    shape = np.exp(-(np.linspace(-1, 1, frequency.size) ** 2))
    weights = xr.DataArray(shape, coords={"freq_time": frequency}, dims="freq_time")
    return F.H @ xl.Diagonal(weights) @ F


def stack(d: xr.DataArray) -> xl.LinearOperator:
    """Data and smoothness, as in a regularised inversion."""
    smooth = Q(0.5, "s**2") * D2(d.time)
    return xl.VStack({"data": R(d.offset, [0, 2, 3]), "smooth": smooth})


def matrix(d: xr.DataArray) -> xl.LinearOperator:
    """Blocks to blocks, one entry left out."""
    slope, rows = Q(2.0, "s") * D1(d.time), R(d.offset, [0, 2, 3])
    return xl.Block({"data": {"p": rows, "q": rows @ slope}, "smooth": {"q": slope}})


def phased(d: xr.DataArray) -> xl.LinearOperator:
    """A slope whose phase is turned."""
    return xl.Diagonal(C(d, "time")) @ D1(d.time)


# --- the catalogue --------------------------------------------------------------------

POINTWISE = [
    Entry("identity", lambda d: xl.Identity(d.time), tasks=1, integers="always"),
    Entry("identity, all dims", xl.Identity, tasks=1, integers="always"),
    Entry("zero", lambda d: xl.Zero(d.time), tasks=1, integers="always"),
    Entry("zero to a dim", lambda d: xl.Zero(d.time, d.depth), tasks=5, integers="always"),
    Entry("zero to dims", lambda d: xl.Zero(d.time, d[0]), tasks=5, integers="always"),
    Entry("diagonal", lambda d: xl.Diagonal(W(d, "time")), tasks=2),
    Entry(
        "diagonal, integer", lambda d: xl.Diagonal((9 * W(d, "time")).round().astype(int))
    ),
    Entry("diagonal, float32", lambda d: xl.Diagonal(W(d, "time").astype("float32"))),
    Entry("diagonal, complex", lambda d: xl.Diagonal(C(d, "time")), tasks=2),
    Entry("diagonal, complex64", lambda d: xl.Diagonal(C(d, "time").astype("complex64"))),
    Entry("diagonal, two dims", lambda d: xl.Diagonal(W(d, "depth", "time")), tasks=2),
    Entry("diagonal, turned", lambda d: xl.Diagonal(W(d, "depth", "time").T), tasks=2),
    Entry("diagonal, all dims", lambda d: xl.Diagonal(W(d, *d.dims)), tasks=2),
    Entry("diagonal, lazy", lambda d: xl.Diagonal(lazy(W(d, "time")))),
    Entry("diagonal, lazy, two dims", lambda d: xl.Diagonal(lazy(C(d, "time", "depth")))),
    Entry("mask", lambda d: xl.Mask(W(d, "time") > 0), tasks=2, integers="always"),
    Entry("mask, all dims", lambda d: xl.Mask(d > 0), tasks=2, integers="always"),
    Entry("real part", lambda d: xl.Real(d.time), tasks=1),
    Entry("imaginary part", lambda d: xl.Imag(d.depth, d.time), tasks=1),
    Entry("conjugate", xl.Conj, tasks=1),
    Entry("mask, lazy", lambda d: xl.Mask(lazy(d[0] > 0)), integers="always"),
]

SELECTION = [
    Entry("rows", lambda d: R(d.offset, [0, 2, 3]), tasks=2, integers="always"),
    Entry(
        "all rows", lambda d: R(d.offset, [*range(d.sizes["offset"])]), integers="always"
    ),
    Entry("one row", lambda d: R(d.time, [-1]), tasks=2, integers="always"),
    Entry("unsorted rows", lambda d: R(d.offset, [4, 1, -3, 0]), integers="always"),
    Entry("repeated rows", lambda d: R(d.offset, [0, 2, 2, 4]), integers="forward"),
    Entry(
        "unsorted, repeated rows", lambda d: R(d.time, [3, 0, 3, -1]), integers="forward"
    ),
    Entry("rows by a mask", lambda d: R(d.time, d.age > 0.1), tasks=2, integers="always"),
]

DERIVATIVES = [
    Entry("first", lambda d: D1(d.time), tasks=3),
    Entry("first, forward", lambda d: D1(d.time, "forward"), tasks=3),
    Entry("first, backward", lambda d: D1(d.time, "backward"), tasks=3),
    Entry("first, edge", lambda d: D1(d.time, edge=True), tasks=3),
    Entry("first, 5 points", lambda d: D1(d.time, order=5), tasks=3),
    Entry("first, 5 points, edge", lambda d: D1(d.time, edge=True, order=5), tasks=3),
    Entry("first, other dim", lambda d: D1(d.depth, edge=True), tasks=3),
    Entry("first, uneven", lambda d: D1(d.time), "uneven", tasks=3),
    Entry("first, uneven, forward", lambda d: D1(d.time, "forward"), "uneven", tasks=3),
    Entry("first, uneven, backward", lambda d: D1(d.time, "backward"), "uneven", tasks=3),
    Entry("first, uneven, 5 points", lambda d: D1(d.time, order=5), "uneven", tasks=3),
    *(Entry(f"first, edge, {t}", lambda d: D1(d.time, edge=True), t, 3) for t in TIMES),
    Entry("second", lambda d: D2(d.time), tasks=3),
    Entry("second, forward", lambda d: D2(d.time, "forward"), tasks=3),
    Entry("second, backward", lambda d: D2(d.time, "backward"), tasks=3),
    Entry("second, edge", lambda d: D2(d.time, edge=True), tasks=3),
    Entry("second, 5 points", lambda d: D2(d.time, order=5), tasks=3),
    Entry("second, 5 points, edge", lambda d: D2(d.time, edge=True, order=5), tasks=3),
    Entry("second, other dim", lambda d: D2(d.offset, edge=True), tasks=3),
    Entry("second, uneven", lambda d: D2(d.time), "uneven", tasks=3),
    Entry("second, uneven, forward", lambda d: D2(d.time, "forward"), "uneven", tasks=3),
    Entry("second, uneven, backward", lambda d: D2(d.time, "backward"), "uneven", tasks=3),
    Entry("second, uneven, 5 points", lambda d: D2(d.time, order=5), "uneven", tasks=3),
    *(Entry(f"second, edge, {t}", lambda d: D2(d.time, edge=True), t, 3) for t in TIMES),
]

ARRANGEMENT = [
    Entry("flip", lambda d: xl.Flip(d.time), "uneven", tasks=2, integers="always"),
    Entry("roll", lambda d: xl.Roll(d.time, 2), "uneven", integers="always"),
    *(
        Entry(f"pad, {t}", lambda d: xl.Pad(d.time, pad=(3, 2)), t, 2, "always")
        for t in ("falling", "dates", "cftime", "no labels")
    ),
    Entry(
        "pad, two dims",
        lambda d: xl.Pad(d.depth, d.time, pad=((1, 2), (0, 3))),
        integers="always",
    ),
]

LAYOUT = [
    Entry("rename", lambda d: xl.Rename(d.time, "lag"), "months", 1, "always"),
    Entry(
        "rename two dims",
        lambda d: xl.Rename(d, {"time": "lag", "offset": "time"}),
        tasks=1,
        integers="always",
    ),
    Entry(
        "rename each other",
        lambda d: xl.Rename(d, {"time": "offset", "offset": "time"}),
        tasks=1,
        integers="always",
    ),
    Entry(
        "transpose", lambda d: xl.Transpose(d, "depth", ..., "time"), "uneven", 1, "always"
    ),
    Entry(
        "transpose two dims",
        lambda d: xl.Transpose(d[:, 0], "depth", "time"),
        tasks=1,
        integers="always",
    ),
]

FUNCTIONS = [
    Entry(
        "function",
        lambda d: xl.FunctionOperator(
            difference, difference_adjoint, domain=d.time, units="m"
        ),
        tasks=5,
    ),
    Entry(
        "function with a halo",
        lambda d: xl.FunctionOperator(
            difference, difference_adjoint, domain=(d.depth, d.time), halo={"time": (1, 0)}
        ),
        tasks=3,
    ),
    Entry(
        "function of samples",
        lambda d: xl.FunctionOperator(np.negative, np.negative, domain=d.time, halo=0),
        tasks=1,
    ),
    Entry(
        "function, one dim whole, one with a halo",
        lambda d: xl.FunctionOperator(
            mixed,
            mixed_adjoint,
            domain=(d.offset, d.time),
            range=(d.time, d.offset.rename(offset="station", receiver="code").station),
            halo={"time": (1, 0)},
        ),
    ),
]

INTEGRALS = [
    *(Entry(f"integral, {t}", lambda d: CI(d.time), t, 3) for t in ("even", "months")),
    Entry("integral, half", lambda d: CI(d.depth, "half"), tasks=3),
    Entry("integral, trapezoidal", lambda d: CI(d.time, "trapezoidal"), "uneven", tasks=3),
    Entry("integral, not the first", lambda d: CI(d.time, "trapezoidal", True)),
]

SMOOTHING = [
    Entry("convolution", lambda d: xl.Convolve1D(d.time, [1, 3, -2, 0.5], 1), tasks=3),
    Entry(
        "convolution, complex, fft",
        lambda d: xl.Convolve1D(d.offset, [1j, 2, 3 - 1j], method="fft"),
        tasks=3,
    ),
    Entry(
        "convolution, long, in pieces",
        lambda d: xl.Convolve1D(d.depth, np.arange(-9, 5.0), 12, method="overlapadd"),
    ),
    Entry(
        "convolution, each line its own",
        lambda d: xl.Convolve1D(
            d.time, W(d, "offset") * xr.DataArray([1, -2, 3], dims="lag"), 1, lag="lag"
        ),
    ),
    Entry(
        "convolution, two dims",
        lambda d: xl.ConvolveND(d.depth, d.time, h=np.eye(3, 2), method="direct"),
        tasks=9,
    ),
    Entry(
        "convolution, two dims, fft",
        lambda d: xl.ConvolveND(d.depth, d.time, h=1j * np.eye(2, 3) + 1, offset=(1, 0)),
        tasks=9,
    ),
    Entry("smoothing", lambda d: xl.Smoothing1D(d.time, 3), "months", tasks=3),
    Entry("smoothing, many samples", lambda d: xl.Smoothing1D(d.offset, 40)),
    Entry(
        "smoothing, two dims", lambda d: xl.Smoothing2D(d.time, d.depth, nsmooth=3), tasks=9
    ),
]

FOURIER = [
    Entry("fft", lambda d: FFT(d.time), tasks=5),
    Entry("fft, longer", lambda d: FFT(d.time, nfft=14), tasks=5),
    Entry("fft, shorter", lambda d: FFT(d.time, nfft=4), tasks=5),
    Entry("fft, one frequency", lambda d: FFT(d.time, nfft=1), tasks=5),
    Entry("fft, not scaled", lambda d: FFT(d.time, norm="none"), tasks=5),
    Entry("fft, 1/n", lambda d: FFT(d.time, norm="1/n"), tasks=5),
    Entry("fft, shifted before", lambda d: FFT(d.time, ifftshift_before=True), tasks=5),
    Entry("fft, shifted after", lambda d: FFT(d.time, fftshift_after=True), tasks=5),
    Entry("fft, longer, shifted", lambda d: FFT(d.depth, 13, False, "1/n", True, True)),
    Entry("fft, shorter, shifted", lambda d: FFT(d.time, 4, False, "none", True, True)),
    Entry("fft, named dim", lambda d: FFT(d.offset, dim="wavenumber"), tasks=5),
    *(Entry(f"fft, {t}", lambda d: FFT(d.time), t, tasks=5) for t in EVEN_TIMES),
    Entry("rfft", lambda d: FFT(d.time, real=True), tasks=5),
    Entry("rfft, other dim", lambda d: FFT(d.offset, real=True), tasks=5),
    Entry("rfft, longer, even", lambda d: FFT(d.time, nfft=14, real=True), tasks=5),
    Entry("rfft, longer, odd", lambda d: FFT(d.time, nfft=13, real=True), tasks=5),
    Entry("rfft, shorter, even", lambda d: FFT(d.time, nfft=4, real=True), tasks=5),
    Entry("rfft, shorter, odd", lambda d: FFT(d.time, nfft=3, real=True), tasks=5),
    Entry("rfft, one frequency", lambda d: FFT(d.time, nfft=1, real=True), tasks=5),
    Entry("rfft, two frequencies", lambda d: FFT(d.time, nfft=2, real=True), tasks=5),
    Entry("rfft, not scaled", lambda d: FFT(d.time, real=True, norm="none"), tasks=5),
    Entry("rfft, shifted before", lambda d: FFT(d.time, 8, True, "1/n", True), tasks=5),
    Entry("rfft, plain", lambda d: FFT(d.time, real=True, scaling="plain"), tasks=5),
    Entry("rfft, plain, even", lambda d: FFT(d.depth, 14, True, scaling="plain"), tasks=5),
    Entry("fft2", lambda d: xl.FFT2D(d.depth, d.time, fftshift_after=True)),
    Entry("rfft2", lambda d: xl.FFT2D(d.time, d.offset, nffts=(9, None), real=True)),
    Entry(
        "rfft of all dims",
        lambda d: xl.FFTND(
            *(d.depth, d.time, d.offset),
            nffts=(4, 8, 7),
            real=True,
            norm="1/n",
            ifftshift_before=(True, False, True),
            fftshift_after=(True, True, False),
            dim={"time": "frequency"},
        ),
    ),
]

MATRICES = [
    Entry("matrix", lambda d: xl.MatrixMult(M(d, "time"), "time")),
    Entry(
        "matrix, complex64",
        lambda d: xl.MatrixMult((M(d, "time") * (1 - 2j)).astype("complex64"), "time"),
    ),
    Entry(
        "matrix, two dims",
        lambda d: xl.MatrixMult(M(d, "time", "depth"), ["depth", "time"]),
    ),
    Entry(
        "matrix, lazy", lambda d: xl.MatrixMult(M(d, "offset").chunk(station=3), "offset")
    ),
    Entry("matrices", lambda d: xl.Fredholm1(M(d, "offset", "time"), "time")),
    Entry(
        "matrices, lazy, complex",
        lambda d: xl.Fredholm1(
            (M(d, "time", "depth") * (2 + 1j)).chunk(time=2, station=3), "depth"
        ),
    ),
    Entry(
        "sparse",
        lambda d: xl.MatrixMult(
            grid(d[..., 0], 4), domain=(d.time, d.offset), range=M(d, "time").station
        ),
    ),
    Entry(
        "sparse, same dims",
        lambda d: xl.MatrixMult(grid(d[0], d[0].size), domain=d[0], range=d[0]),
    ),
]

SPREADING = [
    Entry("spread", lambda d: xl.Spread(P(d, "offset"), d.time, over="offset")),
    Entry(
        "spread, interpolated",
        lambda d: xl.Spread(P(d, "depth", "offset"), d.time, makes="station", interp=True),
    ),
    Entry(
        "spread from time to time",
        lambda d: xl.Spread(P(d, "time", "offset"), d.time, makes="offset", interp=True),
        "falling",
    ),
    Entry(
        "spread, a shared dim, dates",
        lambda d: xl.Spread(
            P(d, "offset", "depth"), d.time, over="depth", makes="station", interp=True
        ),
        "dates",
    ),
    Entry(
        "spread, uneven",
        lambda d: xl.Spread(P(d, "depth", "offset"), d.time, over="depth", interp=True),
        "uneven",
    ),
    Entry(
        "spread, lazy",
        lambda d: xl.Spread(lazy(P(d, "depth", "offset")), d.time, makes="station"),
    ),
    Entry(
        "spread by a function",
        lambda d: xl.Spread(
            moveout, d.time, domain=(d.time, d.depth), range=(d.offset, d.depth)
        ),
    ),
]

ELEMENTARY = [
    *POINTWISE,
    *SELECTION,
    *DERIVATIVES,
    *ARRANGEMENT,
    *LAYOUT,
    *INTEGRALS,
    *SMOOTHING,
    *FOURIER,
    *MATRICES,
    *SPREADING,
    *FUNCTIONS,
]

ADJOINTS = [
    Entry("adjoint of first", lambda d: D1(d.time, "forward").H),
    Entry("adjoint of rows", lambda d: R(d.offset, [0, 2, 3]).H, integers="always"),
    Entry("adjoint of fft", lambda d: FFT(d.time, nfft=12).H),
    Entry("adjoint of rfft", lambda d: FFT(d.time, real=True).H),
]

PRODUCTS = [
    Entry("product along a dim", lambda d: D1(d.time) @ D2(d.time, edge=True)),
    Entry("product over dims", lambda d: D1(d.time, edge=True) @ D2(d.depth)),
    Entry(
        "product of three", lambda d: xl.Mask(d > 0) @ D1(d.offset) @ D2(d.time, "forward")
    ),
    Entry("product of masks", lambda d: xl.Mask(d[0] > 0) @ xl.Diagonal(W(d, "time"))),
    Entry("derivative of rows", lambda d: D1(d.time[[0, 1, 4]]) @ R(d.time, [0, 1, 4])),
    Entry("rows of derivative", lambda d: R(d.time, [4, 0, 4]) @ D1(d.time, edge=True)),
    Entry("adjoint of product", lambda d: (D1(d.time) @ D1(d.depth, "backward")).H),
    Entry("zero of derivative", lambda d: xl.Zero(d.depth, d.offset) @ D1(d.time)),
    Entry("fft over dims", lambda d: FFT(d.offset, 8) @ FFT(d.time, real=True)),
    Entry("filter", band),
    Entry("filter, longer, real", lambda d: band(d, real=True, nfft=16)),
    Entry("total", lambda d: xl.Sum(d.time) @ xl.Diagonal(W(d, "depth", "time"))),
    Entry("total of two dims", lambda d: xl.Sum(d.depth, d.time) @ xl.Mask(d > 0)),
    Entry("power", lambda d: D1(d.time, "backward") ** 3),
    Entry(
        "product of functions",
        lambda d: (
            xl.FunctionOperator(difference, difference_adjoint, domain=d.time, halo=1)
            @ D1(d.time)
        ),
    ),
    Entry("product with other names", lambda d: D1(d.depth) @ xl.Rename(d.time, "lag")),
    Entry(
        "real part of filter",
        lambda d: xl.Real(d.time) @ xl.Conj(d.time) @ band(d, nfft=16),
    ),
    Entry("power of 0", lambda d: D1(d.time) ** 0, integers="always"),
    Entry("power of product", lambda d: (D1(d.time) @ D1(d.depth)) ** 2),
]

SUMS = [
    Entry("sum along a dim", lambda d: D1(d.time, "forward") + D1(d.time, "backward")),
    Entry("sum over dims", lambda d: D2(d.offset) + D2(d.depth, edge=True)),
    Entry(
        "sum of three", lambda d: xl.Identity(d) - Q(2, "h") * D1(d.time) - xl.Mask(d > 0)
    ),
    Entry(
        "sum of products",
        lambda d: R(d.time, [3]) @ D1(d.time) + R(d.time, [3]) / Q(1, "s"),
    ),
    Entry("sum, complex", lambda d: xl.Diagonal(C(d, "time")) + Q(2, "g") * xl.Mask(d > 0)),
    Entry("sum of rfft", lambda d: FFT(d.time, real=True) + 2 * FFT(d.time, real=True)),
    Entry("sum, real and complex", lambda d: band(d, real=True) + 1j * xl.Identity(d.time)),
    Entry("sum with filter", lambda d: xl.Identity(d.depth) + 0.5 * band(d, real=True)),
    Entry(
        "product of sums",
        lambda d: (D1(d.offset) + D1(d.depth)) @ (1 * D1(d.time)),
    ),
]

LAPLACIANS = [
    Entry("laplacian", lambda d: xl.Laplacian(d.offset, d.depth, edge=True)),
    Entry(
        "laplacian, weights",
        lambda d: xl.Laplacian(d.time, d.offset, weights=[Q(1, "s**2"), Q(2, "m**2")]),
        "uneven",
    ),
    Entry("gradient", lambda d: xl.Gradient(d.offset, d.depth, kind="forward")),
]

SCALED = [
    Entry("times a number", lambda d: 2.5 * D1(d.time)),
    Entry("times NumPy numbers", lambda d: np.float32(0.5) * D1(d.time) * np.float64(3)),
    Entry("negative", lambda d: -R(d.offset, [0, 2, 3])),
    Entry("divided", lambda d: D1(d.time) / 4),
    Entry("times a complex number", lambda d: (1 - 2j) * D1(d.time, edge=True)),
    Entry("times a quantity", lambda d: Q(3, "ms") * D1(d.time)),
    Entry("complex times rfft", lambda d: (0.5 + 2j) * FFT(d.time, real=True)),
    Entry("complex times sum", lambda d: 1j * (D1(d.offset) + D1(d.depth))),
    Entry("real times complex", lambda d: 3 * ((1 + 1j) * D1(d.time) * 1j).H),
]

GRAMS = [
    Entry("gram of first", lambda d: D1(d.time, "forward").gram),
    Entry("gram of repeated rows", lambda d: R(d.offset, [0, 2, 2]).gram),
    Entry("gram of fft", lambda d: FFT(d.time).gram),
    Entry("gram of longer fft", lambda d: FFT(d.time, nfft=16, norm="none").gram),
    Entry("gram of shorter rfft", lambda d: FFT(d.time, nfft=4, real=True).gram),
    Entry("gram of product", lambda d: (D1(d.time) @ D1(d.depth)).gram),
    Entry("gram of sum", lambda d: (D1(d.offset) + D1(d.depth)).gram),
    Entry("gram, complex", lambda d: ((1 + 2j) * xl.Diagonal(C(d, "time"))).gram),
]

PRECONDITIONERS = [
    Entry("jacobi", lambda d: xl.Jacobi(D1(d.time).gram, Q(2.0, "1/s")), tasks=2),
    Entry("jacobi of blocks", lambda d: xl.Jacobi(stack(d) @ stack(d).H, 1.0)),
    Entry(
        "chebyshev",
        lambda d: xl.Chebyshev(D1(d.time).gram, 2, damp=Q(2.0, "1/s")),
    ),
    Entry("chebyshev, complex", lambda d: xl.Chebyshev(phased(d).gram, 3)),
]

STACKS = [
    Entry("stack", stack),
    Entry("stack of one", lambda d: xl.VStack([D1(d.time)])),
    Entry(
        "stack, real", lambda d: xl.VStack([FFT(d.time, real=True), xl.Identity(d.time)])
    ),
    Entry(
        "stack, complex", lambda d: xl.VStack([Q(1j, "1/m") * xl.Identity(d), D1(d.offset)])
    ),
    Entry(
        "stack, real and complex",
        lambda d: xl.VStack([FFT(d.time, real=True), 1j * xl.Identity(d.time)]),
    ),
    Entry("stack of product", lambda d: stack(d) @ D1(d.depth, edge=True)),
    Entry("stack times a number", lambda d: 2j * stack(d)),
    Entry("adjoint of stack", lambda d: stack(d).H),
    Entry("adjoint of stack of product", lambda d: (stack(d) @ xl.Mask(d > 0)).H),
    Entry("gram of stack", lambda d: stack(d).gram),
    Entry("gram of stack of product", lambda d: (stack(d) @ D1(d.depth)).gram),
    Entry("blocks to one array", lambda d: xl.HStack([D1(d.time), 2 * D1(d.time)])),
    Entry(
        "blocks of other dims to one array",
        lambda d: xl.HStack({"rows": R(d.offset, [1, 3]).H, "slope": xl.Mask(d > 0)}),
    ),
    Entry("blocks to blocks", matrix),
    Entry("blocks to blocks and back", lambda d: matrix(d).H @ matrix(d)),
    Entry(
        "block by block",
        lambda d: xl.BlockDiag(
            {"p": D1(d.time), "q": R(d.offset, [0, 2]), "r": FFT(d.time)}
        ),
    ),
    Entry("blocks through one array", lambda d: stack(d) @ stack(d).H),
    Entry("stacks added", lambda d: stack(d) + 2 * stack(d)),
    Entry(
        "side by side",
        lambda d: xl.Concat({"slope": D1(d.time), "twice": 2 * D1(d.time)}, "component"),
    ),
    Entry(
        "side by side along a coordinate",
        lambda d: xl.Concat([R(d.offset, [0, 1]), R(d.offset, [0, 1])], d.depth[:2]),
    ),
    Entry(
        "side by side and on",
        lambda d: D2(d.time) @ xl.Concat([D1(d.time), D1(d.time, "forward")], "component"),
    ),
]

COMPOSED = [
    *ADJOINTS,
    *PRODUCTS,
    *SUMS,
    *LAPLACIANS,
    *SCALED,
    *GRAMS,
    *PRECONDITIONERS,
    *STACKS,
]

CATALOGUE = [*ELEMENTARY, *COMPOSED]

# Entries that differ from others in what those others have each in their turn: tests that
# take their time have them among the slow ones.
VARIANTS = """
identity, all dims; zero to dims; diagonal, complex64; diagonal, turned;
diagonal, lazy, two dims; mask, lazy;
all rows; unsorted rows; repeated rows;
first, forward; first, backward; first, 5 points; first, other dim; first, uneven;
first, uneven, backward; first, uneven, 5 points; first, edge, even; first, edge, uneven;
first, edge, falling; first, edge, uneven, falling; first, edge, months;
first, edge, durations; first, edge, cftime;
second; second, forward; second, edge; second, 5 points; second, 5 points, edge;
second, other dim; second, uneven; second, uneven, forward; second, uneven, backward;
second, edge, even; second, edge, uneven; second, edge, uneven, falling;
second, edge, dates; second, edge, durations; second, edge, since; second, edge, no labels;
pad, falling; pad, cftime;
rename two dims; transpose two dims;
function of samples;
integral, even; integral, not the first;
convolution, two dims; smoothing, two dims;
fft, longer; fft, shorter; fft, one frequency; fft, not scaled; fft, 1/n;
fft, shifted before; fft, shifted after; fft, even; fft, falling; fft, durations;
fft, cftime; fft, since; rfft, other dim; rfft, longer, even; rfft, shorter, odd;
rfft, one frequency; rfft, two frequencies; rfft, not scaled; rfft, plain, even; fft2;
matrix, complex64; matrices; sparse, same dims;
spread; spread, uneven;
adjoint of first; adjoint of fft;
product along a dim; product over dims; product of masks; derivative of rows;
fft over dims; filter; total; product with other names; power of 0; power of product;
sum along a dim; sum over dims; sum of rfft; sum with filter;
laplacian;
times a number; times NumPy numbers; negative; divided; complex times rfft;
complex times sum;
gram of first; gram of fft; gram of longer fft; gram of product;
stack of one; stack, real; stack, complex; stack of product; stack times a number;
adjoint of stack; gram of stack; blocks to one array; blocks through one array;
stacks added; side by side
"""
VARIANTS = {" ".join(name.split()) for name in VARIANTS.split(";")}
assert {entry.name for entry in CATALOGUE} >= VARIANTS


def each_of(entries: list[Entry]) -> pytest.MarkDecorator:
    """A test for each of some entries, which is slow for variants."""
    cases = [
        pytest.param(one, marks=pytest.mark.slow if one.name in VARIANTS else ())
        for one in entries
    ]
    return pytest.mark.parametrize("entry", cases, ids=str)
