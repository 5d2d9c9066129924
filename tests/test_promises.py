"""What PyLops-distributed promised: each operator with each of its parameters.

Real and complex data, in even and in uneven chunks along every dim, the operator's own
included; forward, adjoint and dot test against PyLops, or a matrix where it has none.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl

DIMS, SHAPE = ("shot", "offset", "time"), (6, 8, 9)
STEPS = {"shot": 2.0, "offset": 12.5, "time": 0.004}


def gather(kind: str) -> xr.DataArray:
    """Real or complex data, over dims with labels."""
    d = xr.DataArray(
        np.zeros(SHAPE),
        coords={dim: STEPS[dim] * np.arange(n) for dim, n in zip(DIMS, SHAPE, strict=True)},
        dims=DIMS,
    )
    return noise(d, kind)


def noise(like: Any, kind: str, seed: int = 0) -> Any:
    """Random numbers of a kind with these labels."""
    if isinstance(like, dict):
        return {name: noise(b, kind, seed + i) for i, (name, b) in enumerate(like.items())}
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(like.shape)
    if kind == "complex":
        values = values + 1j * rng.standard_normal(like.shape)
    return xr.DataArray(values, like.coords, like.dims)


def numbers(d: xr.DataArray, *sizes: int) -> np.ndarray:
    """Weights, filters and matrices: complex where the data are."""
    values = np.cos(1.0 + 3 * np.arange(math.prod(sizes))).reshape(sizes)
    return values * np.exp(2j * values) if d.dtype.kind == "c" else values


def cut(x: Any, chunks: str) -> Any:
    """Every dim in chunks: of one size, or of several."""
    if isinstance(x, dict):
        return {name: cut(block, chunks) for name, block in x.items()}

    def of(n: int) -> Any:
        if chunks == "even":
            return next(size for size in range((n + 1) // 2, 0, -1) if n % size == 0)
        return (1, n - 3, 2) if n > 3 else (1,) * n

    return x.chunk({dim: of(n) for dim, n in x.sizes.items()})


def computed(lazy: Any) -> Any:
    """The values, all at once; they must not have been there before."""
    assert dask.is_dask_collection(lazy)
    return dask.compute(lazy)[0]


def flat(x: Any) -> np.ndarray:
    blocks = x.values() if isinstance(x, dict) else [x]
    return np.concatenate([block.values.ravel() for block in blocks])


def each(function: Callable[[xr.DataArray], xr.DataArray], x: Any) -> Any:
    """A function of an array, or of each block."""
    if isinstance(x, dict):
        return {name: function(block) for name, block in x.items()}
    return function(x)


def single(x: Any) -> Any:
    return each(lambda a: a.astype("complex64" if a.dtype.kind == "c" else "float32"), x)


def conjugate(x: Any) -> Any:
    return each(lambda a: a.copy(data=a.values.conj()), x)


def agree(result: Any, expected: np.ndarray, tol: float = 1e-10) -> None:
    """To a part of the largest value."""
    values = flat(result)
    assert values.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(values, expected, rtol=0, atol=tol * scale)


@dataclasses.dataclass(frozen=True)
class Promise:
    """An operator with some of its parameters, and what it should be."""

    name: str
    build: Callable[[xr.DataArray], xl.LinearOperator]
    reference: Callable[[xr.DataArray], pylops.LinearOperator]
    given: Callable[[xr.DataArray], Any] = lambda d: d
    kinds: tuple[str, ...] = ("real", "complex")
    rows: tuple[
        str, ...
    ] = ()  # the dims of the result in PyLops's order, if it is not ours


# --- shorthand ------------------------------------------------------------------------


def labeled(values: np.ndarray, d: xr.DataArray, *dims: str) -> xr.DataArray:
    """Values over these dims, with the labels of those that the data have."""
    return xr.DataArray(values, {n: d[n] for n in dims if n in d.coords}, dims)


def along(axis: int, matrix: np.ndarray) -> pylops.LinearOperator:
    """A matrix along one axis: identities along the others, multiplied out."""
    factors = [matrix if at == axis else np.eye(n) for at, n in enumerate(SHAPE)]
    whole = np.kron(np.kron(factors[0], factors[1]), factors[2])
    return pylops.MatrixMult(whole, dtype=whole.dtype)


def axes_of(*dims: str) -> tuple[int, ...]:
    return tuple(DIMS.index(dim) for dim in dims)


def einsum(d: xr.DataArray, G: np.ndarray, forward: str, adjoint: str) -> Any:
    """A product with arrays, in the words of `numpy.einsum`."""
    rows = np.einsum(forward, G, d.values)
    return pylops.FunctionOperator(
        lambda x: np.einsum(forward, G, x.reshape(d.shape)).ravel(),
        lambda y: np.einsum(adjoint, G.conj(), y.reshape(rows.shape)).ravel(),
        rows.size,
        d.size,
        dtype=np.result_type(G, d.dtype),
    )


# --- the promises ---------------------------------------------------------------------

PROMISES: list[Promise] = []


def promise(name: str, build: Any, reference: Any, **kwargs: Any) -> None:
    PROMISES.append(Promise(name, build, reference, **kwargs))


# What goes with each dim in turn: a shift, rows, samples, taps and where they start.
TURNS = {
    "shot": (1, [0, 2, 3], 3, (3, 1), (None, False)),
    "offset": (-3, [4, 1, 3, 0], 5, (4, 0), (16, True)),
    "time": (20, [2, 0, 2, 4, 4], 3, (5, 4), (None, True)),
}


def one_dim(dim: str, axis: int, n: int) -> None:
    """All that acts along one dim."""
    shift, iava, nsmooth, (taps, offset), (nfft, shifted) = TURNS[dim]
    step = STEPS[dim]
    promise(
        f"MatrixMult, {dim}",
        lambda d: xl.MatrixMult(labeled(numbers(d, 4, n), d, "station", dim), dim),
        lambda d: along(axis, numbers(d, 4, n)),
    )
    promise(
        f"Diagonal, {dim}",
        lambda d: xl.Diagonal(labeled(numbers(d, n), d, dim)),
        lambda d: pylops.Diagonal(numbers(d, n), dims=SHAPE, axis=axis, dtype=d.dtype),
    )
    promise(
        f"Identity, {dim}, fewer rows",
        lambda d: xl.Restriction(d[dim], range(3)),
        lambda d: along(axis, np.eye(3, n)),
    )
    promise(
        f"Identity, {dim}, more rows",
        lambda d: xl.Pad(d[dim], pad=(0, 4)),
        lambda d: along(axis, np.eye(n + 4, n)),
    )
    promise(
        f"Roll, {dim}, by {shift}",
        lambda d: xl.Roll(d[dim], shift),
        lambda d: pylops.Roll(SHAPE, axis=axis, shift=shift, dtype=d.dtype),
    )
    promise(
        f"Restriction, {dim}, {iava}",
        lambda d: xl.Restriction(d[dim], iava),
        lambda d: along(axis, np.eye(n)[iava]),
    )
    promise(
        f"FirstDerivative, {dim}",
        lambda d: xl.FirstDerivative(d[dim]),
        lambda d: pylops.FirstDerivative(SHAPE, axis, step, dtype=d.dtype),
    )
    promise(
        f"FirstDerivative, {dim}, zeros beyond the edges",
        lambda d: xl.Convolve1D(d[dim], np.array([0.5, 0, -0.5]) / step, 1),
        lambda d: along(axis, (np.eye(n, k=1) - np.eye(n, k=-1)) / (2 * step)),
    )
    promise(
        f"SecondDerivative, {dim}",
        lambda d: xl.SecondDerivative(d[dim]),
        lambda d: pylops.SecondDerivative(SHAPE, axis, step, dtype=d.dtype),
    )
    promise(
        f"SecondDerivative, {dim}, zeros beyond the edges",
        lambda d: xl.Convolve1D(d[dim], np.array([1, -2, 1]) / step**2, 1),
        lambda d: along(axis, (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) / step**2),
    )
    promise(
        f"Smoothing1D, {dim}, over {nsmooth}",
        lambda d: xl.Smoothing1D(d[dim], nsmooth),
        lambda d: pylops.Smoothing1D(nsmooth, SHAPE, axis, dtype=d.dtype),
    )
    promise(
        f"Convolve1D, {dim}, {taps} taps from {-offset}",
        lambda d: xl.Convolve1D(d[dim], numbers(d, taps), offset),
        lambda d: along(
            axis,
            sum(np.eye(n, k=offset - i) * w for i, w in enumerate(numbers(d, taps))),
        ),
    )
    fft = f"{dim}, of {nfft} samples{', shifted' if shifted else ''}"
    promise(
        f"FFT, {fft}",
        lambda d: xl.FFT(d[dim], nfft, ifftshift_before=shifted),
        lambda d: pylops.signalprocessing.FFT(
            SHAPE, axis, nfft, step, ifftshift_before=shifted
        ),
    )
    promise(
        f"FFT, real, {fft}",
        lambda d: xl.FFT(d[dim], nfft, True, ifftshift_before=shifted),
        lambda d: pylops.signalprocessing.FFT(
            SHAPE, axis, nfft, step, real=True, ifftshift_before=shifted, dtype=d.dtype
        ),
        kinds=("real",),
    )


for _axis, _dim in enumerate(DIMS):
    one_dim(_dim, _axis, SHAPE[_axis])
promise(
    "Diagonal, all dims",
    lambda d: xl.Diagonal(labeled(numbers(d, *SHAPE), d, *DIMS)),
    lambda d: pylops.Diagonal(numbers(d, *SHAPE).ravel(), dtype=d.dtype),
)
promise("Identity", xl.Identity, lambda d: pylops.Identity(d.size, dtype=d.dtype))
for order in (("time", "shot", "offset"), ("offset", "shot", "time"), DIMS[::-1]):
    promise(
        f"Transpose to {', '.join(order)}",
        lambda d, order=order: xl.Transpose(d, *order),
        lambda d, order=order: pylops.Transpose(SHAPE, axes_of(*order), dtype=d.dtype),
    )
for dims, weights in (
    (("shot", "offset"), (1, 1)),
    (("time", "shot"), (0.1, -2)),
    (("shot", "offset", "time"), (1, 3, 0.5)),
):
    promise(
        f"Laplacian over {', '.join(dims)}",
        lambda d, dims=dims, weights=weights: xl.Laplacian(
            *(d[dim] for dim in dims), weights=weights
        ),
        lambda d, dims=dims, weights=weights: pylops.Laplacian(
            SHAPE, axes_of(*dims), weights, [STEPS[dim] for dim in dims], dtype=d.dtype
        ),
    )
for dims, nffts in (
    (("offset", "time"), (None, None)),
    (("time", "shot"), (None, None)),
    (("shot", "time"), (8, 15)),
):
    promise(
        f"FFT2D over {', '.join(dims)}, of {nffts} samples",
        lambda d, dims=dims, nffts=nffts: xl.FFT2D(*(d[dim] for dim in dims), nffts=nffts),
        lambda d, dims=dims, nffts=nffts: pylops.signalprocessing.FFT2D(
            SHAPE, axes_of(*dims), nffts, [STEPS[dim] for dim in dims]
        ),
        rows=tuple(f"freq_{dim}" if dim in dims else dim for dim in DIMS),
    )

# --- Fredholm integrals: as many slices, rows, columns and other samples as there may be


def kernel(d: xr.DataArray) -> np.ndarray:
    """One matrix for each shot."""
    return numbers(d, d.sizes["shot"], 6, d.sizes["offset"])


for name, part in (
    ("", {}),
    (", nz=1", {"time": slice(1)}),
    (", one slice", {"shot": slice(1)}),
    (", one column", {"offset": slice(1)}),
    (", one of each", {"shot": slice(1), "offset": slice(1), "time": slice(1)}),
):
    promise(
        f"Fredholm1{name}",
        lambda d, part=part: xl.Fredholm1(
            labeled(kernel(d.isel(part)), d.isel(part), "shot", "station", "offset"),
            "offset",
        ),
        lambda d, part=part: einsum(
            d.isel(part), kernel(d.isel(part)), "sro,sot->srt", "sro,srt->sot"
        ),
        given=lambda d, part=part: d.isel(part),
    )
promise(
    "Fredholm1, no other dims",
    lambda d: xl.Fredholm1(
        labeled(kernel(d), d, "shot", "station", "offset"), "offset", makes="station"
    ),
    lambda d: einsum(d[..., 0], kernel(d), "sro,so->sr", "sro,sr->so"),
    given=lambda d: d[..., 0],
)
promise(
    "Fredholm1, the last dim shared",
    lambda d: xl.Fredholm1(
        labeled(numbers(d, 6, SHAPE[1], SHAPE[2]), d, "station", "offset", "time"),
        "offset",
        makes="station",
    ),
    lambda d: einsum(d, numbers(d, 6, *SHAPE[1:]), "rot,sot->srt", "rot,srt->sot"),
)

# --- multi-dimensional convolution: (time, receiver, shot) to (time, source, shot)


def wavefield(d: xr.DataArray, twosided: bool = False) -> xr.DataArray:
    """Time first, from -16 to 16 ms where it has two sides."""
    m = d.transpose("time", "offset", "shot")
    return m.assign_coords(time=m.time - 0.016) if twosided else m


def green(d: xr.DataArray, frequencies: int) -> np.ndarray:
    return numbers(d.astype(complex), frequencies, 7, d.sizes["offset"])


def mdc(
    d: xr.DataArray, frequencies: int, twosided: bool, conj: bool, scaled: bool
) -> xl.LinearOperator:
    """There along the frequencies that the kernel has, and back to times from 0 on."""
    F = xl.FFT(wavefield(d, twosided).time, real=True, ifftshift_before=twosided)
    R = xl.Restriction(F.range.coords["freq_time"], range(frequencies))
    G = xr.DataArray(
        green(d, frequencies),
        {"freq_time": R.range.coords["freq_time"], "offset": d.offset},
        ("freq_time", "source", "offset"),
    )
    K = xl.Fredholm1(G.conj() if conj else G, "offset")
    K = K if scaled else STEPS["time"] * STEPS["offset"] * math.sqrt(SHAPE[2]) * K
    return xl.FFT(d.time, real=True).H @ R.H @ K @ R @ F


for name, frequencies, twosided, conj, scaled in (
    ("all frequencies", 5, False, False, False),
    ("few frequencies", 4, False, False, False),
    ("two sides", 5, True, False, False),
    ("conjugate", 5, True, True, False),
    ("scaled before", 3, False, False, True),
):
    promise(
        f"MDC, {name}",
        lambda d, of=(frequencies, twosided, conj, scaled): mdc(d, *of),
        lambda d, of=(frequencies, twosided, conj, scaled): pylops.waveeqprocessing.MDC(
            green(d, of[0]),
            nt=SHAPE[2],
            nv=SHAPE[0],
            dt=STEPS["time"],
            dr=STEPS["offset"],
            twosided=of[1],
            conj=of[2],
            prescaled=of[3],
        ),
        given=lambda d, twosided=twosided: wavefield(d, twosided),
        kinds=("real",),
    )

# --- spreading: (offset, time) to (station, time), images (x, z) to (source, receiver, t)


def curves(d: xr.DataArray) -> np.ndarray:
    """In samples of time; NaN beyond the last one."""
    x0, t0, x = np.ogrid[: SHAPE[1], : SHAPE[2], :5]
    at = np.hypot(t0, 0.7 * (x - x0 / 2))
    return np.where(at < SHAPE[2] - 1, at, np.nan)


def each_shot(P: pylops.LinearOperator) -> pylops.LinearOperator:
    return pylops.BlockDiag([P] * SHAPE[0], dtype=complex)


def spread(d: xr.DataArray, interp: bool, lazy: bool = False) -> xl.LinearOperator:
    """By indices, and by what is added to them."""
    table = labeled(np.floor(curves(d)), d, "offset", "time", "station")
    dtable = table.copy(data=curves(d) % 1) if interp else None
    if lazy:
        table = table.chunk(offset=3, station=2)
    return xl.Spread(
        table, d.time, dtable=dtable, over=("offset", "time"), positions="indices"
    )


def spread_there(d: xr.DataArray, interp: bool) -> pylops.LinearOperator:
    table = np.floor(curves(d))
    dtable = curves(d) % 1 if interp else None
    return each_shot(pylops.Spread(SHAPE[1:], (5, SHAPE[2]), table, dtable, dtype=complex))


for name, interp, lazy in (
    ("indices", False, False),
    ("a lazy table", False, True),
    ("interpolation", True, False),
):
    promise(
        f"Spread, {name}",
        lambda d, interp=interp, lazy=lazy: spread(d, interp, lazy),
        lambda d, interp=interp: spread_there(d, interp),
        rows=("shot", "station", "time"),
    )

TIMES = 0.004 * np.arange(60)


def traveltimes() -> xr.DataArray:
    """By way of each point of the image, in seconds."""
    x, z, source, receiver = (
        xr.DataArray(10.0 * np.arange(n), dims=dim)
        for dim, n in (("x", SHAPE[1]), ("z", SHAPE[2]), ("source", 2), ("receiver", 3))
    )
    return (np.hypot(x - source, z + 5) + np.hypot(x - receiver, z + 5)) / 1500


def demigration(d: xr.DataArray) -> xl.LinearOperator:
    t = xr.DataArray(TIMES, {"t": TIMES}, "t").t
    S = xl.Spread(traveltimes(), t, over=("x", "z"), interp=True)
    return xl.Convolve1D(t, numbers(d, 5), 2) @ S


def demigration_there(d: xr.DataArray) -> pylops.LinearOperator:
    at = traveltimes().transpose("x", "z", "source", "receiver").values / 0.004
    at = at.reshape(*SHAPE[1:], 6)
    S = pylops.Spread(SHAPE[1:], (6, 60), np.floor(at), at % 1, dtype=complex)
    C = np.kron(
        np.eye(6),
        sum(np.eye(60, k=2 - i) * weight for i, weight in enumerate(numbers(d, 5))),
    )
    return each_shot(pylops.MatrixMult(C, dtype=complex) @ S)


promise(
    "Demigration",
    demigration,
    demigration_there,
    given=lambda d: d.rename(offset="x", time="z").drop_vars(("x", "z")),
    rows=("shot", "source", "receiver", "t"),
)

# --- stacks ---------------------------------------------------------------------------


def parts(d: xr.DataArray) -> tuple[list[xl.LinearOperator], list[Any]]:
    """Four matrices along time: to 4, 4, 6 and 6 rows."""
    matrices = [numbers(d, rows, SHAPE[2]) + at for at, rows in enumerate((4, 4, 6, 6))]
    names = ("few", "few", "many", "many")
    ours = [
        xl.MatrixMult(labeled(values, d, row, "time"), "time")
        for values, row in zip(matrices, names, strict=True)
    ]
    return ours, [along(2, values) for values in matrices]


def blocks(d: xr.DataArray) -> dict[str, xr.DataArray]:
    return {"p": d, "q": d[::-1].assign_coords(shot=d.shot) * 0.5}


promise(
    "VStack",
    lambda d: xl.VStack({"few": parts(d)[0][0], "many": parts(d)[0][2]}),
    lambda d: pylops.VStack([parts(d)[1][0], parts(d)[1][2]], dtype=d.dtype),
)
promise(
    "HStack",
    lambda d: xl.HStack({"p": parts(d)[0][0], "q": parts(d)[0][1]}),
    lambda d: pylops.HStack(parts(d)[1][:2], dtype=d.dtype),
    given=blocks,
)
promise(
    "Block",
    lambda d: xl.Block(
        {
            "few": dict(zip("pq", parts(d)[0][:2], strict=True)),
            "many": dict(zip("pq", parts(d)[0][2:], strict=True)),
        }
    ),
    lambda d: pylops.Block([parts(d)[1][:2], parts(d)[1][2:]], dtype=d.dtype),
    given=blocks,
)
promise(
    "BlockDiag",
    lambda d: xl.BlockDiag({"p": parts(d)[0][0], "q": parts(d)[0][2]}),
    lambda d: pylops.BlockDiag([parts(d)[1][0], parts(d)[1][2]], dtype=d.dtype),
    given=blocks,
)


CASES = [(one, kind) for one in PROMISES for kind in one.kinds]
each_case = pytest.mark.parametrize(
    ("one", "kind"), CASES, ids=[f"{one.name}, {kind}" for one, kind in CASES]
)


@each_case
@pytest.mark.parametrize("chunks", ["even", "uneven"])
def test_promise(one, kind, chunks):
    d = gather(kind)
    A, P = one.build(d), one.reference(d)
    x = one.given(d)
    y = computed(A @ cut(x, chunks))
    y = y.transpose(*one.rows) if one.rows else y
    agree(y, P @ flat(x))
    v = noise(y, "complex" if np.iscomplexobj(flat(y)) else "real", seed=1)
    back = computed(A.H @ cut(v, chunks))
    back = back.transpose(*x.dims) if one.rows else back
    agree(back, P.H @ flat(v))
    one_side, other = np.vdot(flat(v), flat(y)), np.vdot(flat(back), flat(x))
    error = abs(one_side - other) if A.clinear else abs((one_side - other).real)
    assert error <= 1e-10 * np.linalg.norm(flat(v)) * np.linalg.norm(flat(y))


@pytest.mark.parametrize("one", PROMISES, ids=lambda one: one.name)
def test_compute_and_todask(one):
    """Computed at once, forward or adjoint, and NumPy taken to Dask first."""
    d = gather("real")
    A, x = one.build(d), one.given(d)
    y = A @ x
    lazy, later = cut(x, "even"), cut(y, "even")
    assert not dask.is_dask_collection(A.evaluate(adjoint=False) @ lazy)
    assert dask.is_dask_collection(A.evaluate(adjoint=False).H @ later)
    assert dask.is_dask_collection(A.evaluate(forward=False) @ lazy)
    assert not dask.is_dask_collection(A.evaluate(forward=False).H @ later)
    agree(A.evaluate() @ lazy, flat(y))
    there = A.chunked(time=3, shot=2) @ x
    assert dask.is_dask_collection(there)
    agree(there, flat(y))


MIXED = [one for one in PROMISES if "complex" in one.kinds]


@pytest.mark.parametrize("one", MIXED, ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("weights", "data"),
    [("complex", "real"), ("real", "complex"), ("complex", "complex")],
    ids=["complex weights", "complex data", "both"],
)
def test_real_and_complex_at_once(one, weights, data):
    """Forward, adjoint, transpose and conjugate, in both precisions."""
    d = gather(weights)
    A, P = one.build(d), one.reference(d)
    x = one.given(gather(data))
    y = A @ x
    in_order = y.transpose(*one.rows) if one.rows else y
    agree(in_order, in_parts(P, flat(x)))
    v = noise(in_order, "complex", seed=2)
    back = A.H @ v
    agree(back.transpose(*x.dims) if one.rows else back, in_parts(P.H, flat(v)))
    # Transpose and conjugate are those of the matrix.
    agree(A.T @ v, flat(A.H @ conjugate(v)).conj())
    agree(A.conj() @ x, flat(A @ conjugate(x)).conj())
    agree(A.conj().H @ v, flat(A.T @ v))
    rough = A @ single(x)
    assert flat(rough).dtype == ("complex64" if flat(y).dtype.kind == "c" else "float32")
    agree(rough, flat(y), 2e-6)


def in_parts(P: pylops.LinearOperator, x: np.ndarray) -> np.ndarray:
    """A product with complex data, for operators of PyLops that are real."""
    return P @ x.real.copy() + 1j * (P @ x.imag.copy())


# --- solvers --------------------------------------------------------------------------


def problem(kind: str) -> tuple[xl.LinearOperator, np.ndarray, xr.DataArray]:
    """A matrix along time for each offset: an operator, its matrix, and data."""
    d = gather(kind)[0, :2]
    matrix = numbers(d, 12, SHAPE[2]) + 2 * np.eye(12, SHAPE[2])
    A = xl.MatrixMult(labeled(matrix, d, "station", "time"), "time")
    return A, matrix, noise(A @ d, kind, seed=4)


def least_squares(matrix: np.ndarray, y: xr.DataArray, damp: float) -> np.ndarray:
    """By the normal equations, each offset on its own."""
    normal = matrix.conj().T @ matrix + damp**2 * np.eye(matrix.shape[1])
    return np.linalg.solve(normal, matrix.conj().T @ y.values.T).T.ravel()


each_problem = pytest.mark.parametrize("kind", ["real", "complex"])
in_chunks = pytest.mark.parametrize("chunks", ["even", "uneven"])
damped = pytest.mark.parametrize("damp", [0.0, 0.7])
EXACT = {"niter": 200, "tol": 1e-14}


@each_problem
@in_chunks
@damped
def test_cgls(kind, chunks, damp):
    A, matrix, y = problem(kind)
    P = pylops.BlockDiag([pylops.MatrixMult(matrix, dtype=matrix.dtype)] * 2, dtype=y.dtype)
    data = cut(y, chunks)
    for niter in (1, 3):
        theirs = pylops.cgls(P, flat(y), niter=niter, damp=damp, tol=0)[0].ravel()
        agree(xl.cgls(A, data, niter=niter, damp=damp, tol=0).x, theirs)
    agree(xl.cgls(A, data, damp=damp, **EXACT).x, least_squares(matrix, y, damp))


@each_problem
@in_chunks
@damped
def test_cg(kind, chunks, damp):
    A, matrix, y = problem(kind)
    expected = least_squares(matrix, y, damp)
    agree(xl.cg(A.gram, cut(A.H @ y, chunks), damp=damp, **EXACT).x, expected)


@each_problem
@in_chunks
def test_division(kind, chunks):
    """Of tall and of square matrices, in any chunks."""
    A, matrix, y = problem(kind)
    agree(A / cut(y, chunks), least_squares(matrix, y, 0.0), 1e-5)
    agree(xl.solve(A, cut(y, chunks), **EXACT).x, least_squares(matrix, y, 0.0))
    few = xl.MatrixMult(A.todense()[:9], "time")
    solution = xl.solve(few, cut(y[:, :9], chunks), **EXACT).x
    agree(solution, np.linalg.solve(matrix[:9], y.values[:, :9].T).T.ravel(), 1e-8)
