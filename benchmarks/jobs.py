"""Three jobs of the largest kind, on chunk grids of any size.

Each is built as a user would, from coordinates, on arrays that a `Make` provides: without
data where only the plan is asked for, with random numbers where it is to run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import dask.array as da
import numpy as np
import pint
import xarray as xr

import xlops as xl

__all__ = ["JOBS", "Chunks", "Counts", "Job", "Problem", "Sums", "empty", "random"]

Counts: TypeAlias = Mapping[str, int]
Chunks: TypeAlias = Mapping[str, tuple[int, ...]]
Make: TypeAlias = Callable[[Chunks, str], xr.DataArray]

STEPS = {"time": (0.004, "s"), "lat": (1.0, ""), "lon": (1.0, "")}


class Problem(NamedTuple):
    """An operator, what it is applied to, and what its adjoint is applied to.

    `y` is None where the operator is applied once, else it is solved for by CGLS.
    """

    operator: xl.LinearOperator
    x: xr.DataArray
    y: Any = None

    def plans(self) -> list[Any]:
        """What one application, or one iteration, costs."""
        plans = [self.operator.explain(self.x)]
        return plans if self.y is None else [*plans, self.operator.H.explain(self.y)]

    def run(self, niter: int, callback: Callable[[Any], None]) -> None:
        """Apply or solve; `callback` is called after each round."""
        if self.y is not None:
            xl.cgls(self.operator, self.y, niter=niter, tol=0, callback=callback)
            return
        for _ in range(niter):
            result = (self.operator @ self.x).persist()
            callback(result)
            del result  # or the next round would find it


class Sums(NamedTuple):
    """Partial results that are added up: how many sums, of how many parts, along a dim."""

    number: int
    parts: int
    dim: str
    part_bytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A job on a grid of chunks.

    Parameters
    ----------
    name, title : str
        What it is called, in short and in full.
    sizes : mapping of str to int
        Samples along each dim.
    chunks : tuple of mapping
        Chunks that are compared, small ones first, along the dims that are cut.
    least : mapping of str to int
        From how many chunks on, along each dim that is cut, plans are of one kind.
    spread : tuple of str
        Dims whose chunks are shared out among workers.
    trial : mapping of str to int
        Tiny sizes of all dims, a chunk where they are cut, to count tasks with.
    timed : mapping of str to int
        A chunk that the work is timed on.
    build : callable
        Makes the problem.
    work : callable
        How much of each kind of work a round does on a grid: sizes, counts.
    stored : callable
        Bytes of weights, and of the array that memory is measured in, from sizes.
    dots : callable
        Of how many numbers scalar products that are made together are the sum.
    sums : callable
        The partial results of a round, from the sizes of a chunk and counts.
    """

    name: str
    title: str
    sizes: Counts
    chunks: tuple[Counts, ...]
    least: Counts
    spread: tuple[str, ...]
    trial: Counts
    timed: Counts
    build: Callable[[Make, Chunks], Problem]
    work: Callable[[Counts, Counts], dict[str, float]]
    stored: Callable[[Counts], tuple[int, int]]
    dots: Callable[[Counts], tuple[int, ...]] = lambda counts: ()
    sums: Callable[[Counts, Counts], list[Sums]] | None = None

    @property
    def alone(self) -> dict[str, dict[int, float]]:
        """What one chunk along a dim is, in numbers of chunks of which plans are alike."""
        return {
            d: {1: 1.0} if n <= 2 else {n: n, n + 1: 1 - n} for d, n in self.least.items()
        }

    @property
    def larger(self) -> dict[str, int]:
        """A small grid that has a chunk whose neighbours are all like itself."""
        return {dim: n + 3 for dim, n in self.least.items()}

    def problem(
        self, make: Make, chunk: Counts, counts: Counts, last: Counts | None = None
    ) -> Problem:
        """The job on so many chunks of one size; the last ones may be shorter."""
        last = last or {}
        chunks = {}
        for dim, size in chunk.items():
            inner = [size] * (counts.get(dim, 1) - 1)
            chunks[dim] = (*inner, last.get(dim, size))
        return self.build(make, chunks)


# --- arrays ---------------------------------------------------------------------------


def empty(chunks: Chunks, dtype: str) -> xr.DataArray:
    """An array that is never made."""
    shape = tuple(map(sum, chunks.values()))
    return _labeled(da.empty(shape, dtype=dtype, chunks=tuple(chunks.values())), chunks)


def random(chunks: Chunks, dtype: str) -> xr.DataArray:
    """Random numbers, in memory; the same whenever they are asked for."""

    def drawn(chunk: Any, block_info: Any = None) -> Any:
        rng = np.random.default_rng(block_info[None]["chunk-location"])
        values = rng.standard_normal(chunk.shape, dtype=np.float32)
        return values.astype(dtype)

    lazy = empty(chunks, dtype)
    return lazy.copy(data=lazy.data.map_blocks(drawn, dtype=dtype).persist())


def _labeled(data: da.Array, dims: Chunks) -> xr.DataArray:
    coords = {}
    for dim, size in zip(dims, data.shape, strict=True):
        step, unit = STEPS.get(dim, (25.0, "m"))
        coords[dim] = (dim, step * np.arange(size), {"units": unit} if unit else {})
    return xr.DataArray(data, coords=coords, dims=tuple(dims))


# --- post-stack inversion -------------------------------------------------------------

WAVELET = np.sin(0.3 * np.arange(-20, 21)) * np.hanning(41)


def _post_stack(make: Make, chunks: Chunks) -> Problem:
    """Reflectivity of an impedance, convolved with a wavelet; a smooth model."""
    d = make(chunks, "float32")
    model = 0.5 * xl.Convolve1D(d.time, WAVELET, offset=20) @ xl.FirstDerivative(d.time)
    weights = (1.0, 1.0, pint.Quantity(1e-6, "s**2/m**2"))
    smooth = xl.Laplacian(d.inline, d.crossline, d.time, weights=weights)
    eps = pint.Quantity(0.1, "m**2/s")
    stack = xl.VStack({"data": model, "smooth": eps * smooth})
    return Problem(stack, d, {"data": d, "smooth": xr.zeros_like(d)})


def _samples(sizes: Counts, counts: Counts) -> dict[str, float]:
    return {"samples": math.prod(sizes.values())}


def _no_weights(sizes: Counts) -> tuple[int, int]:
    return 0, 4 * math.prod(sizes.values())


def _once_each(counts: Counts) -> tuple[int, int]:
    """Blocks of the data and the model have their chunks in the same places."""
    chunks = math.prod(counts.values())
    return chunks, chunks


def _squares(sides: tuple[int, ...]) -> tuple[Counts, ...]:
    return tuple({"inline": side, "crossline": side} for side in sides)


POST_STACK = Job(
    name="post-stack",
    title="Post-stack inversion, 100 TB, one iteration of CGLS",
    sizes={"inline": 83_328, "crossline": 83_328, "time": 3_600},
    chunks=_squares((48, 96, 192, 384)),
    least={"inline": 2, "crossline": 2},
    spread=("inline", "crossline"),
    trial={"inline": 6, "crossline": 5, "time": 50},
    timed={"inline": 48, "crossline": 48},
    build=_post_stack,
    work=_samples,
    stored=_no_weights,
    dots=_once_each,
)


# --- multi-dimensional convolution ----------------------------------------------------


def _mdc(make: Make, chunks: Chunks) -> Problem:
    """A wavefield over virtual sources, in frequency times a kernel, and back."""
    kept = ("time", "source", "virtual")
    x = make({dim: chunks[dim] for dim in kept}, "float32")
    y = make(
        {"time": x.chunksizes["time"], **_of(chunks, "receiver", "virtual")}, "float32"
    )
    F = xl.FFT(x.time, real=True)
    count = x.sizes["time"] // 2 + 1
    cuts = {"freq_time": (count,), **_of(chunks, "receiver", "source")}
    kernel = make(cuts, "complex64")
    step = 1 / (x.sizes["time"] * STEPS["time"][0])
    freq = ("freq_time", step * np.arange(count), {"units": "s-1"})
    kernel = kernel.assign_coords(freq_time=freq)
    return Problem(F.H @ xl.MatrixMult(kernel, "source") @ F, x, y)


def _of(chunks: Chunks, *dims: str) -> dict[str, tuple[int, ...]]:
    return {dim: chunks[dim] for dim in dims}


def _products(sizes: Counts, counts: Counts) -> dict[str, float]:
    """Multiplications forward and back, values that are added up, samples of vectors."""
    count = sizes["time"] // 2 + 1
    receivers, sources, virtual = (sizes[d] for d in ("receiver", "source", "virtual"))
    added = receivers * counts["source"] + sources * counts["receiver"]
    return {
        "products": 2 * count * receivers * sources * virtual,
        "sums": count * added * virtual,
        "samples": sizes["time"] * (receivers + sources) * virtual,
    }


def _kernel(sizes: Counts) -> tuple[int, int]:
    count = sizes["time"] // 2 + 1
    wavefield = 4 * sizes["time"] * sizes["source"] * sizes["virtual"]
    return 8 * count * sizes["receiver"] * sizes["source"], wavefield


def _partial(chunk: Counts, counts: Counts) -> list[Sums]:
    count = chunk["time"] // 2 + 1

    def of(made: str, summed: str) -> Sums:
        held = 8 * count * chunk[made] * chunk["virtual"]
        return Sums(counts[made] * counts["virtual"], counts[summed], summed, held)

    return [of("receiver", "source"), of("source", "receiver")]


def _apart(counts: Counts) -> tuple[int, int]:
    """Data and model are chunked differently: where both are asked for, each counts."""
    data, model = (counts[d] * counts["virtual"] for d in ("receiver", "source"))
    return data, data + model


def _blocks(sides: tuple[int, ...]) -> tuple[Counts, ...]:
    return tuple({"receiver": side, "source": side, "virtual": 64} for side in sides)


MDC = Job(
    name="mdc",
    title="MDC, kernel of 1 TB, 512 virtual sources, one iteration of CGLS",
    sizes={"time": 2_000, "receiver": 12_288, "source": 10_240, "virtual": 512},
    chunks=_blocks((64, 128, 256, 512)),
    # Not as many of both: their chunks would then lie in the same places.
    least={"receiver": 4, "source": 6, "virtual": 2},
    spread=("receiver", "source"),
    trial={"time": 200, "receiver": 6, "source": 6, "virtual": 4},
    timed={"receiver": 64, "source": 64, "virtual": 64},
    build=_mdc,
    work=_products,
    stored=_kernel,
    dots=_apart,
    sums=_partial,
)


# --- global smoothing -----------------------------------------------------------------


def _smoothing(make: Make, chunks: Chunks) -> Problem:
    """Running means of 11 samples over three dims."""
    d = make(chunks, "float32")
    return Problem(xl.SmoothingND(d.lat, d.lon, d.time, nsmooth=11), d)


def _bricks(*sides: tuple[int, int, int]) -> Iterator[Counts]:
    return (dict(zip(("lat", "lon", "time"), side, strict=True)) for side in sides)


SMOOTHING = Job(
    name="smoothing",
    title="Global smoothing over three dims, 20 TB, one application",
    sizes={"lat": 7_680, "lon": 15_360, "time": 42_240},
    chunks=tuple(
        _bricks((160, 160, 320), (320, 320, 320), (640, 640, 320), (640, 640, 1280))
    ),
    least={"lat": 2, "lon": 2, "time": 2},
    spread=("lat", "lon", "time"),
    trial={"lat": 24, "lon": 20, "time": 22},
    timed={"lat": 160, "lon": 160, "time": 320},
    build=_smoothing,
    work=_samples,
    stored=_no_weights,
)

JOBS = {job.name: job for job in (POST_STACK, MDC, SMOOTHING)}
