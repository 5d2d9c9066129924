"""The cases, a few lines each; a new one is one more entry in one of the lists below.

A case on NumPy says how xlops's operator is built from the data ``d`` and from weights
``w`` (None unless it asks for some), how each of PyLops's is, and which ratios are wanted.
A case on Dask says instead what one would write in plain Dask. The clock runs over
``A @ d``, labels included, and over ``P @ x`` of the same array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pylops
import pylops.signalprocessing
import xarray as xr
from scipy.sparse.linalg import lsqr

import xlops as xl
from benchmarks import probes
from benchmarks.peers import Copy, compiled, expression, thread_count
from benchmarks.timing import OWN, Comparison, Measurement, Race, Skipped

__all__ = ["CASES"]

Build: TypeAlias = Callable[[xr.DataArray, Any], Any]
Layer: TypeAlias = Callable[[da.Array], da.Array]

COPY, WARM = f"copy, {thread_count()} threads", "copy into a warm buffer"
WITHIN = 1 / 1.5  # of a copy
FLAT, CUBE, LONG = (512, 512, 64), (512, 512, 128), (500, 500, 512)


# --- what a case is made of -----------------------------------------------------------


def array(
    sizes: Mapping[str, int], dtype: npt.DTypeLike = float, seed: int = 0
) -> xr.DataArray:
    """Random numbers with a coordinate along every dim."""
    dtype = np.dtype(dtype)
    values = np.empty(tuple(sizes.values()), dtype)
    real = values.real.dtype
    flat = values.reshape(-1).view(real)
    np.random.default_rng(seed).random(out=flat, dtype=real)  # type: ignore[call-overload]
    flat -= 0.5
    coords = {d: (d, np.arange(float(n)), {"units": "m"}) for d, n in sizes.items()}
    return xr.DataArray(values, coords=coords, dims=tuple(sizes))


def built(own: Build, d: xr.DataArray, w: Any) -> Any:
    """The operator, unless xlops has none of its name."""
    try:
        return own(d, w)
    except AttributeError as error:
        if error.obj is xl:
            raise Skipped(f"xlops has no {error.name}") from None
        raise


def on_numpy(
    name: str,
    sizes: tuple[int, ...] | dict[str, int],
    own: Build,
    others: Mapping[str, Build],
    wanted: Mapping[str, float],
    *,
    dtype: npt.DTypeLike = float,
    weights: dict[str, int] | None = None,
    copied: bool = False,
    full: bool = False,
) -> Comparison:
    """A case against PyLops and, where it is `copied`, a copy of input and output."""
    named = sizes if isinstance(sizes, dict) else dict(zip("xyz", sizes, strict=True))

    def races() -> Iterator[Race]:
        d = array(named, dtype)
        w = array(weights, dtype, seed=1) if weights else None
        A = built(own, d, w)
        peers = {peer: other(d, w) for peer, other in others.items()}

        def race(side: str, B: Any, x: xr.DataArray, size: int) -> Race:
            plain = x.values.reshape(-1)
            contenders = {OWN: lambda: B @ x}
            for peer, P in peers.items():
                Q = P if side == "forward" else P.H
                contenders[peer] = functools.partial(Q.__matmul__, plain)
            if copied:
                copy = Copy(plain, size, plain.dtype)
                contenders |= {COPY: copy.fresh, WARM: copy.warm}
            exempt = frozenset({COPY, WARM})
            return Race(side, contenders, np.asarray, exempt)

        y = A @ d
        yield race("forward", A, d, y.size)
        size = d.size
        del d
        yield race("adjoint", A.H, y, size)

    tolerance = 1e-10 if np.dtype(dtype).type(0).real.dtype == np.float64 else 1e-5
    return Comparison(name, races, wanted, tolerance, full)


def on_dask(
    name: str,
    sizes: tuple[int, ...],
    chunks: tuple[int, ...],
    own: Build,
    others: Mapping[str, tuple[Callable[..., da.Array], ...]],
    wanted: Mapping[str, float],
    *,
    weights: dict[str, int] | None = None,
    full: bool = False,
) -> Comparison:
    """A case on Dask's threads, results left in chunks.

    The others are functions of the data and the weights, one per direction: forward, or
    forward and adjoint.
    """
    named = dict(zip("xyz", sizes, strict=True))

    def races() -> Iterator[Race]:
        d = in_chunks(array(named), chunks)
        w = array(weights, seed=1) if weights else None
        A = built(own, d, w)
        cut = None if w is None else da.from_array(w.values, chunks=chunks_like(w, d))
        for i, side in enumerate(("forward", "adjoint")):
            ours = {peer: made[i] for peer, made in others.items() if i < len(made)}
            if not ours:
                break
            B, x = (A, d) if side == "forward" else (A.H, (A @ d).persist(**THREADS))
            contenders = {
                OWN: functools.partial(lambda B, x: (B @ x).persist(**THREADS), B, x)
            }
            for peer, made in ours.items():
                contenders[peer] = functools.partial(
                    lambda made, x: made(x.data, cut).persist(**THREADS), made, x
                )
            yield Race(side, contenders, computed)

    return Comparison(name, races, wanted, full=full)


THREADS: dict[str, Any] = {"scheduler": "threads"}


def in_chunks(d: xr.DataArray, chunks: tuple[int, ...]) -> xr.DataArray:
    """d on Dask, every chunk an array of its own, as a reader delivers them."""
    lazy = da.from_array(d.values, chunks=chunks).map_blocks(np.copy, dtype=d.dtype)
    return d.copy(data=lazy.persist(**THREADS))


def chunks_like(w: xr.DataArray, d: xr.DataArray) -> tuple[Any, ...]:
    return tuple(d.chunksizes[dim] for dim in w.dims)


def computed(x: Any) -> Any:
    lazy = isinstance(x, xr.DataArray) and x.chunks is not None
    return np.asarray(x.data.compute(**THREADS) if lazy else x)


def overlapped(function: Any, depth: int, *axes: int, boundary: Any = "none") -> Layer:
    """`map_overlap` of a function of blocks."""
    return lambda x, *_: x.map_overlap(
        function,
        depth=dict.fromkeys(axes, depth),
        boundary=dict.fromkeys(axes, boundary),
        dtype=x.dtype,
        meta=x._meta,
    )


# --- on NumPy -------------------------------------------------------------------------


def along_each_axis(
    name: str, own: Callable[[xr.DataArray], Any], pylops_: Callable[..., Any], near: bool
) -> Iterator[Comparison]:
    """A stencil along each axis: 8 × PyLops, along the last 3 ×."""
    for axis, dim in enumerate("xyz"):
        yield on_numpy(
            f"{name}, axis {axis}",
            FLAT,
            lambda d, w, dim=dim: own(d[dim]),
            {"PyLops": lambda d, w, axis=axis: pylops_(dims=d.shape, axis=axis)},
            {"PyLops": 3 if axis == 2 else 8} | ({COPY: WITHIN} if near else {}),
            copied=True,
        )


def fft(**options: Any) -> dict[str, Build]:
    """PyLops with scipy, quicker here than its default, numpy; and on all threads."""

    def make(d: xr.DataArray, w: Any, **more: Any) -> Any:
        P = pylops.signalprocessing
        kind = P.FFT2D if "axes" in options else P.FFT
        return kind(d.shape, engine="scipy", **options, **more)

    workers = thread_count()
    return {
        "PyLops (scipy)": make,
        f"PyLops (scipy, {workers} workers)": functools.partial(make, workers=workers),
    }


def convolution(sizes: tuple[int, int, int], full: bool) -> Comparison:
    h = np.hanning(81)
    return on_numpy(
        f"Convolve1D, 81 taps, {'×'.join(map(str, sizes))}",
        sizes,
        lambda d, w: xl.Convolve1D(d.z, h, offset=40),
        {"PyLops": lambda d, w: pylops.signalprocessing.Convolve1D(d.shape, h, offset=40)},
        {"PyLops": 4},
        copied=True,
        full=full,
    )


def fredholm(dtype: str) -> Comparison:
    return on_numpy(
        f"Fredholm1 200×200×200×64, {dtype}",
        {"freq": 200, "source": 200, "shot": 64},
        lambda d, w: xl.Fredholm1(w, "source"),
        {
            "PyLops": lambda d, w: pylops.signalprocessing.Fredholm1(
                w.values, nz=64, dtype=w.dtype
            )
        },
        {"PyLops": 0.95},
        dtype=dtype,
        weights={"freq": 200, "receiver": 200, "source": 200},
    )


def spread(interp: bool, free: bool = False) -> Comparison:
    """Along hyperbolas that all lie on the axis, which is as PyLops needs it.

    Without a table, PyLops calls a function for every sample of the model.
    """
    sizes = {"x0": 50, "t0": 50} if free else {"x0": 200, "t0": 200}
    nx, nt = 300, 800
    time = xr.DataArray(np.zeros(nt), dims="t")
    x = xr.DataArray(np.zeros(nx), {"x": np.linspace(0, 200, nx)}, "x").x

    def curve(x0: Any, t0: Any, x: Any) -> Any:
        return np.sqrt((2 * t0) ** 2 + (3 * (x - x0)) ** 2)

    def own(d: xr.DataArray, w: Any) -> Any:
        if free:
            return xl.Spread(curve, time, domain=(d.x0, d.t0), range=x, interp=interp)
        table = curve(d.x0, d.t0, x).transpose("x0", "t0", "x").drop_attrs()
        table = table if interp else np.floor(table)
        return xl.Spread(table, time, positions="indices", interp=interp)

    def row(x0: int, t0: int) -> Any:
        at = curve(float(x0), float(t0), x.values)
        low = at.astype(int)
        return (low, at - low) if interp else low

    def other(d: xr.DataArray, w: Any) -> Any:
        dims = d.shape, (nx, nt)
        if free:
            return pylops.Spread(*dims, fh=row, interp=interp)
        rows = [row(*at) for at in np.ndindex(d.shape)]
        shape = (*d.shape, nx)
        given = {"engine": "numba", "interp": interp}
        if interp:
            low, far = (np.array(part).reshape(shape) for part in zip(*rows, strict=True))
            return pylops.Spread(*dims, low, far, **given)
        return pylops.Spread(*dims, np.array(rows).reshape(shape), **given)

    how = "interpolated" if interp else "nearest"
    how += ", by a function" if free else ""
    return on_numpy(
        f"Spread {'×'.join(map(str, sizes.values()))} to {nx}×{nt}, {how}",
        sizes,
        own,
        {"PyLops" if free else "PyLops (numba)": other},
        {"PyLops": 1, "PyLops (numba)": 1},
    )


def matrix(columns: int) -> Comparison:
    extra = {"column": columns} if columns > 1 else {}
    return on_numpy(
        f"MatrixMult 8000×8000, {columns} column{'s' * (columns > 1)}",
        {"source": 8000, **extra},
        lambda d, w: xl.MatrixMult(w, "source"),
        {"PyLops": lambda d, w: pylops.MatrixMult(w.values, otherdims=d.shape[1:] or None)},
        {"PyLops": 0.95},
        weights={"receiver": 8000, "source": 8000},
    )


KEPT = np.sort(np.random.default_rng(2).permutation(FLAT[0])[: FLAT[0] * 6 // 10])

ON_NUMPY = [
    *along_each_axis("FirstDerivative", xl.FirstDerivative, pylops.FirstDerivative, True),
    *along_each_axis(
        "SecondDerivative", xl.SecondDerivative, pylops.SecondDerivative, True
    ),
    *along_each_axis(
        "Smoothing1D(11)",
        lambda c: xl.Smoothing1D(c, 11),
        functools.partial(pylops.Smoothing1D, 11),
        False,
    ),
    on_numpy(
        "Laplacian, three dims",
        CUBE,
        lambda d, w: xl.Laplacian(d.x, d.y, d.z),
        {
            "PyLops": lambda d, w: pylops.Laplacian(
                d.shape, axes=(0, 1, 2), weights=(1, 1, 1), sampling=(1, 1, 1)
            )
        },
        {"PyLops": 40, COPY: WITHIN},
        copied=True,
    ),
    convolution((500, 500, 100), full=False),
    convolution((500, 500, 400), full=True),
    *(
        on_numpy(
            f"CausalIntegration, axis {axis}",
            FLAT,
            lambda d, w, axis=axis: xl.CausalIntegration(d["xyz"[axis]], kind="full"),
            {
                "PyLops": lambda d, w, axis=axis: pylops.CausalIntegration(
                    d.shape, axis=axis, kind="full"
                )
            },
            {"PyLops": 2},
            copied=True,
        )
        for axis in (0, 1, 2)
    ),
    on_numpy(
        "FFT, real, 500×500×512",
        LONG,
        lambda d, w: xl.FFT(d.z, real=True),
        fft(real=True),
        {"PyLops (scipy)": 1.3},
    ),
    on_numpy(
        "FFT, complex, 250×500×512",
        (250, 500, 512),
        lambda d, w: xl.FFT(d.z),
        fft(),
        {},
        dtype=complex,
    ),
    on_numpy(
        "FFT2D, complex, 64×512×512",
        (64, 512, 512),
        lambda d, w: xl.FFT2D(d.y, d.z),
        fft(axes=(1, 2)),
        {},
        dtype=complex,
    ),
    fredholm("complex64"),
    fredholm("complex128"),
    matrix(1),
    matrix(64),
    spread(interp=False),
    spread(interp=True),
    spread(interp=True, free=True),
    on_numpy(
        "Diagonal",
        FLAT,
        lambda d, w: xl.Diagonal(w),
        {"PyLops": lambda d, w: pylops.Diagonal(w.values.reshape(-1))},
        {},
        weights=dict(zip("xyz", FLAT, strict=True)),
        copied=True,
    ),
    on_numpy(
        "Restriction, 60 % of axis 0",
        FLAT,
        lambda d, w: xl.Restriction(d.x, KEPT),
        {"PyLops": lambda d, w: pylops.Restriction(d.shape, KEPT, axis=0)},
        {},
        copied=True,
    ),
]


# --- on Dask's threads ----------------------------------------------------------------

SAME, PLAIN = "map_overlap, numba", "map_overlap, NumPy"


def first_derivative(pieces: int) -> Comparison:
    """Where the first and last sample are zero, the adjoint is −D with zeros outside."""

    def both(function: Any) -> tuple[Layer, Layer]:
        back = overlapped(lambda block: -function(block), 1, 1, boundary=0)
        return overlapped(function, 1, 1), back

    return on_dask(
        f"FirstDerivative, axis 1 in {pieces} chunks",
        CUBE,
        (CUBE[0], CUBE[1] // pieces, CUBE[2]),
        lambda d, w: xl.FirstDerivative(d.y),
        {SAME: both(compiled("first", 1)), PLAIN: both(expression("first", 1))},
        {SAME: 1.4, PLAIN: 2},
    )


def five(make: Callable[[str, int], Any]) -> tuple[Layer]:
    """The five layers of the chain below."""

    def layers(x: da.Array, w: da.Array) -> da.Array:
        x = overlapped(make("first", 1), 1, 1)(x * w)
        x = overlapped(make("second", 1), 1, 1)(x * w)
        return overlapped(make("smooth", 1), 5, 1)(x)

    return (layers,)


def chain(name: str, chunks: tuple[int, int, int]) -> Comparison:
    return on_dask(
        f"Five operators, {name}",
        CUBE,
        chunks,
        lambda d, w: (
            xl.Smoothing1D(d.y, 11)
            @ xl.SecondDerivative(d.y)
            @ xl.Diagonal(w)
            @ xl.FirstDerivative(d.y)
            @ xl.Diagonal(w)
        ),
        {"five layers, numba": five(compiled), "five layers, NumPy": five(expression)},
        {"five layers, numba": 3, "five layers, NumPy": 3},
        weights=dict(zip("xyz", CUBE, strict=True)),
    )


ON_DASK = [
    first_derivative(16),
    first_derivative(32),
    on_dask(
        "Laplacian, three dims in 16 chunks",
        CUBE,
        (128, 128, 128),
        lambda d, w: xl.Laplacian(d.x, d.y, d.z),
        {
            SAME: (overlapped(compiled("laplacian", 0), 1, 0, 1, 2),),
            PLAIN: (overlapped(expression("laplacian", (0, 1, 2)), 1, 0, 1, 2),),
        },
        {SAME: 1.4, PLAIN: 2},
    ),
    chain("axis in 16 chunks", (512, 32, 128)),
    chain("axis whole, 16 chunks", (32, 512, 128)),
    on_dask(
        "FFT, real, 16 chunks of other dims",
        (256, 500, 512),
        (16, 500, 512),
        lambda d, w: xl.FFT(d.z, real=True, norm="none", scaling="plain"),
        {"da.fft": (lambda x, w: da.fft.rfft(x, axis=2),)},
        {},
    ),
    on_dask(
        "FFT, real, axis in 16 chunks",
        (256, 500, 512),
        (256, 500, 32),
        lambda d, w: xl.FFT(d.z, real=True, norm="none", scaling="plain"),
        {
            "da.fft": (
                lambda x, w: da.fft.rfft(x.rechunk({0: "auto", 1: "auto", 2: -1}), axis=2),
            )
        },
        {},
    ),
]


# --- solvers --------------------------------------------------------------------------


def solved(
    name: str, chunks: tuple[int, int, int] | None, method: str = "cgls"
) -> Comparison:
    """Ten iterations of a method with a derivative, on NumPy and on Dask's threads."""
    niter = 10

    def races() -> Iterator[Race]:
        plain = array(dict(zip("xyz", FLAT, strict=True)))
        A, values = xl.FirstDerivative(plain.y), plain.values.reshape(-1)
        P = pylops.FirstDerivative(FLAT, axis=1)

        def solve(d: xr.DataArray) -> xr.DataArray:
            with dask.config.set(**THREADS):
                return getattr(xl, method)(A, d, niter=niter, tol=0).x

        d = plain if chunks is None else in_chunks(plain, chunks)
        contenders: dict[str, Callable[[], Any]] = {OWN: lambda: solve(d)}
        if chunks is None:
            exact = {"tol": 0} if method == "cgls" else {"atol": 0, "btol": 0, "conlim": 0}
            find = getattr(pylops, method)
            contenders["PyLops"] = lambda: find(P, values, niter=niter, **exact)[0]
            if method == "lsqr":
                contenders["SciPy"] = lambda: lsqr(P, values, iter_lim=niter, **exact)[0]
        else:
            contenders["NumPy"] = lambda: solve(plain)
        yield Race(f"{niter} iterations", contenders, computed)

    return Comparison(f"{method.upper()}, FirstDerivative, {name}", races, {})


def sparse(name: str, shape: tuple[int, int], niter: int, wanted: float) -> Comparison:
    """FISTA with a wavelet along the last axis and a given step."""

    def races() -> Iterator[Race]:
        d = array(dict(zip("xt", shape, strict=True)))
        t = np.arange(-20, 21) / 8
        wavelet = (1 - 2 * t**2) * np.exp(-(t**2))
        A = xl.Convolve1D(d.t, wavelet, offset=20)
        P = pylops.signalprocessing.Convolve1D(shape, wavelet, offset=20, axis=1)
        values, alpha = (
            d.values.reshape(-1),
            1 / np.abs(np.fft.fft(wavelet, 1024)).max() ** 2,
        )
        given = {"niter": niter, "alpha": alpha, "tol": 0}
        contenders: dict[str, Callable[[], Any]] = {
            OWN: lambda: xl.fista(A, d, eps=0.05, **given).x,
            # Its misfit has no ½.
            "PyLops": lambda: pylops.fista(P, values, eps=0.1, **given)[0],
        }
        yield Race(f"{niter} iterations", contenders, computed)

    return Comparison(f"FISTA, Convolve1D, {name}", races, {"PyLops": wanted})


def post_stack(sizes: tuple[int, int, int], niter: int, full: bool = False) -> Comparison:
    """Impedance from post-stack data: a wavelet, a slope, and a smooth model."""
    eps = 0.1

    def races() -> Iterator[Race]:
        d = array(dict(zip(("x", "y", "time"), sizes, strict=True)))
        t = 0.1 * np.arange(-20, 21)
        wavelet = (1 - 2 * t**2) * np.exp(-(t**2))
        A = 0.5 * xl.Convolve1D(d.time, wavelet, offset=20) @ xl.FirstDerivative(d.time)
        L = xl.Laplacian(d.x, d.y, d.time)
        P = 0.5 * pylops.signalprocessing.Convolve1D(sizes, wavelet, offset=20)
        P = P * pylops.FirstDerivative(sizes)
        smooth = pylops.Laplacian(
            sizes, axes=(0, 1, 2), weights=(1,) * 3, sampling=(1,) * 3
        )
        both = pylops.VStack([P, eps * smooth])
        values = np.concatenate([d.values.ravel(), np.zeros(d.size)])

        def own() -> xr.DataArray:
            terms = {"smooth": (L, eps)}
            return xl.regularized_inversion(A, d, terms, niter=niter, tol=0).x

        def other() -> Any:
            return pylops.cgls(both, values, niter=niter, tol=0)[0].reshape(sizes)

        yield Race(f"{niter} iterations", {OWN: own, "PyLops": other}, computed)

    shape = "×".join(map(str, sizes))
    return Comparison(f"Post-stack inversion, {shape}", races, {"PyLops": 10}, full=full)


def dense_cgls(n: int) -> Comparison:
    """Twenty iterations of CGLS with a dense matrix of n × n."""
    niter = 20

    def races() -> Iterator[Race]:
        w = array({"row": n, "column": n})
        d = array({"row": n}, seed=1)
        A, P = xl.MatrixMult(w, "column"), pylops.MatrixMult(w.values)
        contenders: dict[str, Callable[[], Any]] = {
            OWN: lambda: xl.cgls(A, d, niter=niter, tol=0).x,
            "PyLops": lambda: pylops.cgls(P, d.values, niter=niter, tol=0)[0],
        }
        yield Race(f"{niter} iterations", contenders, computed)

    return Comparison(f"CGLS, dense, {n}²", races, {"PyLops": 0.95})


SOLVERS = [
    solved("NumPy", None),
    solved("NumPy", None, "lsqr"),
    solved("axis in 16 chunks", (512, 32, 64)),
    dense_cgls(2000),
    sparse("1 MB", (256, 512), 20, 0.95),
    sparse("32 MB", (8192, 512), 10, 0.95),
    post_stack((60, 60, 400), 5),
    post_stack((200, 200, 400), 20, full=True),
]


# --- numbers with a limit -------------------------------------------------------------

PROBES = [
    Measurement(
        "Graph of 10,000 chunks",
        probes.graphs,
        {"FirstDerivative, one dim": 2, "": 4},
        most=5,
    ),
    Measurement(
        "First call in a process",
        probes.first_calls,
        {"FirstDerivative": 1000, "": 20},
        "ms",
        most=5,
    ),
    Measurement("Labels, first time", probes.labels(-2), {"": 300}, "µs", most=1),
    Measurement("Labels, again", probes.labels(-1), {"": 150}, "µs", most=1),
    Measurement("Peak memory", probes.peak_memory, {"": 1}, "", most=1),
]

CASES: list[Comparison | Measurement] = [*ON_NUMPY, *ON_DASK, *SOLVERS, *PROBES]
