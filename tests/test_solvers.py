"""Solvers, compared with dense factorizations in NumPy."""

import contextlib
import functools
import itertools
import pickle
import warnings

import dask
import dask.array as da
import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl
from tests.problems import assert_close, damped_least_squares, perturbed, shaw
from xlops.elementary import Elementary
from xlops.windows.rules import Whole

HOUR = 3600.0
TIGHT = {"tol": 1e-13, "niter": 500}


# --- a dense matrix as an operator ------------------------------------------------------


class Matrix(Elementary):
    """A dense matrix between two dims, with labels of its own."""

    def __init__(self, matrix, rows="row", columns="column", kind="any", **kwargs):
        m, n = matrix.shape
        side = "complex" if matrix.dtype.kind == "c" else kind
        super().__init__(
            labeled(columns, n, side),
            labeled(rows, m, side),
            window=Whole({columns: n}, {rows: m}),
            forward=functools.partial(multiplied, matrix, columns),
            adjoint=functools.partial(multiplied, matrix.conj().T, rows),
            params={"matrix": matrix},
            name=f"Matrix({rows}, {columns})",
            **kwargs,
        )


def labeled(dim, n, kind="any"):
    return xl.Space({dim: n}, xr.Dataset(coords={dim: np.arange(n) / 4}), kind)


def multiplied(matrix, dim, block, out):
    at = block.dims.index(dim)
    matrix = matrix.astype(np.result_type(block.data.dtype, matrix.real.dtype.type(0)))
    if matrix.dtype.kind != "c":
        matrix = matrix.astype(block.data.real.dtype)
    out[...] = np.moveaxis(np.tensordot(matrix, block.data, axes=(1, at)), 0, at)


def vector(values, dim="row", **attrs):
    n = np.shape(values)[-1]
    dims = ("batch", dim)[-np.ndim(values) :]
    return xr.DataArray(values, dims=dims, coords={dim: np.arange(n) / 4}, attrs=attrs)


@pytest.fixture
def rng():
    return np.random.default_rng(12)


# --- what the arguments mean ----------------------------------------------------------


@pytest.fixture
def tall(rng):
    """An overdetermined problem that is well posed."""
    return rng.standard_normal((30, 10)), rng.standard_normal(30)


@pytest.fixture
def spd(rng):
    """A symmetric positive matrix and a right-hand side."""
    B = rng.standard_normal((12, 12))
    return B @ B.T + 3 * np.eye(12), rng.standard_normal(12)


STARTS = {"zero": None, "random": 5, "far": 50}


def started(start, n, rng):
    return None if start is None else vector(start * rng.standard_normal(n), "column")


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("damp", [0.0, 0.3, 10.0])
@pytest.mark.parametrize("with_ref", [False, True], ids=["", "x_ref"])
def test_damping_in_cgls(tall, rng, start, damp, with_ref):
    A, y = tall
    x_ref = rng.standard_normal(10) if with_ref else None
    expected = damped_least_squares(A, y, damp, x_ref)
    solution = xl.cgls(
        Matrix(A),
        vector(y),
        started(start, 10, rng),
        damp=damp,
        x_ref=None if x_ref is None else vector(x_ref, "column"),
        **TIGHT,
    )
    assert_close(solution.x, expected, 1e-11)
    assert_close(solution.residual, y - A @ expected, 1e-11)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("damp", [0.0, 0.3, 10.0])
@pytest.mark.parametrize("with_ref", [False, True], ids=["", "x_ref"])
def test_damping_in_cg(spd, rng, start, damp, with_ref):
    B, y = spd
    x_ref = rng.standard_normal(12) if with_ref else np.zeros(12)
    expected = np.linalg.solve(B + damp**2 * np.eye(12), y + damp**2 * x_ref)
    x0 = started(start, 12, rng)
    started_at = np.zeros(12) if x0 is None else x0.values
    solution = xl.cg(
        Matrix(B, "column", "column"),
        vector(y, "column"),
        x0,
        damp=damp,
        x_ref=vector(x_ref, "column") if with_ref else None,
        tol=1e-15,
        niter=100,
    )
    assert_close(solution.x, expected, 1e-11)
    rounding = 1e-11 * max(np.abs(y).max(), np.abs(B @ started_at).max())
    np.testing.assert_allclose(solution.residual, y - B @ expected, atol=rounding)


def test_start_damps_nothing_in_few_iterations(rng):
    # A strong damping and a random start: the minimum is reached all the same.
    A, y = rng.standard_normal((30, 10)), rng.standard_normal(30)
    expected = damped_least_squares(A, y, 10.0)
    solution = xl.cgls(
        Matrix(A), vector(y), started(1, 10, rng), damp=10.0, niter=12, tol=0
    )
    assert_close(solution.x, expected, 1e-12)


def test_underdetermined_problem_has_the_shortest_solution(rng):
    A, y = rng.standard_normal((6, 20)), rng.standard_normal(6)
    expected = np.linalg.pinv(A) @ y
    assert_close(xl.cgls(Matrix(A), vector(y), **TIGHT).x, expected, 1e-11)
    # from elsewhere: the nearest one
    x0 = rng.standard_normal(20)
    nearest = x0 + np.linalg.pinv(A) @ (y - A @ x0)
    solution = xl.cgls(Matrix(A), vector(y), vector(x0, "column"), **TIGHT)
    assert_close(solution.x, nearest, 1e-11)


def test_solve_and_division(tall, spd):
    A, y = tall
    expected = np.linalg.lstsq(A, y, rcond=None)[0]
    operator, data = Matrix(A), vector(y)
    assert_close(xl.solve(operator, data, tol=1e-12).x, expected, 1e-10)
    assert_close(operator / data, expected, 1e-4)
    xr.testing.assert_identical(operator / data, xl.solve(operator, data).x)
    assert xl.solve(operator, data).method == "cgls"
    B, z = spd
    solution = xl.solve(Matrix(B, "column", "column"), vector(z, "column"), method="cg")
    assert solution.method == "cg"
    assert_close(solution.x, np.linalg.solve(B, z), 1e-5)


def test_division_by_numbers_scales(tall):
    A, y = tall
    np.testing.assert_allclose(
        ((Matrix(A) / 4) @ vector(y[:10], "column")).values, A @ y[:10] / 4, rtol=1e-13
    )


# --- real operators of the library ----------------------------------------------------


def second_difference(n, step):
    """Rows 1, −2, 1 over step², zero at both ends."""
    D = np.zeros((n, n))
    for i in range(1, n - 1):
        D[i, i - 1 : i + 2] = np.array([1.0, -2.0, 1.0]) / step**2
    return D


@pytest.fixture
def trace(rng):
    """Twenty samples in time, two of them batches, in metres."""
    return xr.DataArray(
        rng.standard_normal((2, 20)),
        dims=("shot", "time"),
        coords={"time": ("time", 0.5 * np.arange(20), {"units": "s"}), "shot": [7, 9]},
        attrs={"units": "m", "long_name": "displacement"},
        name="u",
    )


CHUNKS = {"numpy": None, "one": {}, "split": {"time": 7, "shot": 1}, "each": {"time": 1}}
chunked = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
split = pytest.mark.parametrize("chunks", [None, CHUNKS["split"]], ids=["numpy", "split"])


def cut(x, chunks):
    if chunks is None:
        return x
    return x.chunk({d: c for d, c in chunks.items() if d in x.dims} or {})


@chunked
def test_smoothing_of_chosen_samples(trace, chunks):
    kept = [0, 3, 4, 9, 12, 18, 19]
    R, L = xl.Restriction(trace.time, kept), xl.SecondDerivative(trace.time)
    y = R @ trace
    eps = 0.7
    E, D = np.eye(20)[kept], second_difference(20, 0.5)
    matrix = E.T @ E + eps**2 * D.T @ D
    expected = np.linalg.solve(matrix, E.T @ y.values.T).T
    solution = xl.regularized_inversion(
        R, cut(y, chunks), {"smooth": (L, eps)}, tol=1e-13, niter=400
    )
    assert_close(solution.x, expected, 1e-9)
    assert solution.x.dims == ("shot", "time")
    assert solution.x.time.identical(trace.time)
    assert solution.x.attrs == trace.attrs
    assert solution.x.name == "u"
    residual = solution.residual
    assert list(residual) == ["data", "smooth"]
    assert_close(residual["data"], y.values - expected[:, kept], 1e-9)
    assert_close(residual["smooth"], -eps * expected @ D.T, 1e-8)
    assert residual["data"].time.identical(y.time)


@split
def test_mask_and_two_terms(trace, chunks):
    keep = trace.time != trace.time[4]
    D1 = np.zeros((20, 20))
    for i in range(1, 19):
        D1[i, [i - 1, i + 1]] = -1.0, 1.0
    D2, M = second_difference(20, 0.5), np.diag(keep.values.astype(float))
    pulled = 0.1 * trace.isel(time=slice(None, None, -1)).assign_coords(time=trace.time)
    matrix = M + 0.3**2 * D1.T @ D1 + 0.2**2 * D2.T @ D2
    right = trace.values @ M + 0.2 * pulled.values @ D2
    expected = np.linalg.solve(matrix, right.T).T
    A = xl.Mask(keep)
    regularizations = {
        "slope": (xl.FirstDerivative(trace.time), 0.3),
        "bend": (xl.SecondDerivative(trace.time), 0.2, cut(pulled, chunks)),
    }
    solution = xl.regularized_inversion(
        A, A @ cut(trace, chunks), regularizations, tol=1e-13
    )
    assert_close(solution.x, expected, 1e-9)
    assert_close(solution.residual["bend"], pulled.values - 0.2 * expected @ D2.T, 1e-9)


def test_forms_of_regularizations(trace):
    A, L = xl.Identity(trace.time), xl.SecondDerivative(trace.time)
    plain = xl.regularized_inversion(A, trace, {"a": (L, 1.0)}, **TIGHT).x
    for given in (L, (L,), [L, 1], (L, 1.0, None), (1.0 * L,)):
        again = xl.regularized_inversion(A, trace, {"a": given}, **TIGHT).x
        xr.testing.assert_allclose(again, plain, rtol=1e-12)
    alone = xl.regularized_inversion(A, trace, {}, **TIGHT)
    assert_close(alone.x, trace.values, 1e-12)
    damped = xl.regularized_inversion(A, trace, {}, damp=1.0, **TIGHT)
    assert_close(damped.x, trace.values / 2, 1e-12)
    assert "regularized_inversion" in damped.method
    assert "cgls" in damped.method


@split
def test_blocks_of_a_stack(trace, chunks):
    kept = [1, 5, 6, 17]
    R, L = xl.Restriction(trace.time, kept), xl.SecondDerivative(trace.time)
    second = pint.Quantity(1.0, "s**2")
    V = xl.VStack({"data": R, "bend": 0.5 * second * L})
    blocks = {"data": R @ trace, "bend": 0.1 * trace}
    E, D = np.eye(20)[kept], second_difference(20, 0.5)
    matrix = np.vstack([E, 0.5 * D])
    right = np.hstack([trace.values[:, kept], 0.1 * trace.values])
    expected = np.linalg.lstsq(matrix, right.T, rcond=None)[0].T
    given = {name: cut(block, chunks) for name, block in blocks.items()}
    solution = xl.cgls(V, given, tol=1e-12, niter=200)
    assert_close(solution.x, expected, 1e-8)
    assert set(solution.residual) == {"data", "bend"}
    made = V @ solution.x
    for name, block in blocks.items():
        assert_close(solution.residual[name], (block - made[name]).values, 1e-8)
        assert solution.residual[name].dims == block.dims
    xr.testing.assert_identical(V / given, xl.solve(V, given).x)


def test_blocks_from_a_dataset(trace):
    I = xl.Identity(trace.time)
    V = xl.VStack({"one": I, "two": 2 * I})
    ds = xr.Dataset({"one": trace, "two": 3 * trace, "more": 1.0})
    solution = xl.cgls(V, ds, **TIGHT)
    assert_close(solution.x, 7 / 5 * trace.values, 1e-13)


def test_blocks_laid_out_in_other_ways(trace):
    I = xl.Identity(trace.time)
    V = xl.VStack({"one": I, "two": I})
    for one, two in (
        (trace, 3 * trace.T),
        (trace.chunk(time=3), 3 * trace.T.chunk(time=8, shot=1)),
        (trace.chunk(time=3), 3 * trace.T),
        (trace, 3 * trace.T.chunk(time=3)),
    ):
        two = two.assign_attrs(trace.attrs)
        solution = xl.cgls(V, {"one": one, "two": two}, **TIGHT)
        assert solution.x.dims == trace.dims
        assert_close(solution.x, 2 * trace.values, 1e-13)
        assert solution.residual["two"].dims == ("time", "shot")
        assert_close(solution.residual["two"], trace.values.T, 1e-13)


def test_blocks_of_other_precision(trace):
    I = xl.Identity(trace.time)
    V = xl.VStack({"one": I, "two": I})
    for one, two, dtype in (
        (trace.astype("f4"), trace, "f8"),
        (trace, trace.astype("f4"), "f8"),
        (trace.astype("f4"), trace.astype("f4"), "f4"),
        (trace, 1j * trace, "c16"),
        (1j * trace, trace, "c16"),
    ):
        one, two = one.assign_attrs(trace.attrs), two.assign_attrs(trace.attrs)
        x = xl.cgls(V, {"one": one, "two": two}, tol=1e-6).x
        assert x.dtype == np.dtype(dtype)
        assert_close(x, (one.values + two.values) / 2, 1e-6)


def test_blocks_whose_passing_dims_differ(trace):
    I = xl.Identity(trace.time)
    V = xl.VStack({"one": I, "two": I})
    for word, two in {
        "'shot'": trace.isel(shot=0),
        "index 0": trace.assign_coords(shot=[1, 2]),
        "other size": trace.isel(shot=[0]),
    }.items():
        blocks = {"one": trace.chunk(), "two": two.chunk()}
        with refused(xl.LabelError, "'one'", "'two'", word):
            xl.cgls(V, blocks, callback=never)
        with refused(xl.LabelError, "'one'", "'two'", word):
            V.H @ blocks


# --- complex values, real-linear operators --------------------------------------------


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_complex_problem(rng, lazy):
    A = rng.standard_normal((15, 8)) + 1j * rng.standard_normal((15, 8))
    y = rng.standard_normal(15) + 1j * rng.standard_normal(15)
    x_ref = rng.standard_normal(8) + 1j * rng.standard_normal(8)
    data = vector(y).chunk(row=4) if lazy else vector(y)
    for damp, ref in ((0.0, None), (2.0, None), (2.0, x_ref)):
        expected = damped_least_squares(A, y, damp, ref)
        solution = xl.cgls(
            Matrix(A),
            data,
            damp=damp,
            x_ref=None if ref is None else vector(ref, "column"),
            **TIGHT,
        )
        assert solution.x.dtype == np.complex128
        assert_close(solution.x, expected, 1e-11)
    # real data make no real model
    expected = np.linalg.lstsq(A, y.real.astype(complex), rcond=None)[0]
    assert_close(xl.cgls(Matrix(A), vector(y.real), **TIGHT).x, expected, 1e-11)


def test_hermitian_problem(rng):
    B = rng.standard_normal((9, 9)) + 1j * rng.standard_normal((9, 9))
    B = B @ B.conj().T + np.eye(9)
    y = rng.standard_normal(9) + 1j * rng.standard_normal(9)
    solution = xl.cg(Matrix(B, "column", "column"), vector(y, "column"), **TIGHT)
    assert_close(solution.x, np.linalg.solve(B, y), 1e-10)


def test_complex_reference_and_start_of_a_real_operator(rng):
    # Real data do not make a complex reference real.
    A, y = rng.standard_normal((12, 5)), rng.standard_normal(12)
    ref = rng.standard_normal(5) + 1j * rng.standard_normal(5)
    expected = damped_least_squares(A.astype(complex), y, 1.5, ref)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = xl.cgls(
            Matrix(A), vector(y), damp=1.5, x_ref=vector(ref, "column"), **TIGHT
        )
        assert_close(solution.x, expected, 1e-11)
        started = xl.cgls(Matrix(A), vector(y), vector(ref, "column"), **TIGHT)
    assert_close(started.x, np.linalg.lstsq(A, y, rcond=None)[0], 1e-11)


def test_complex_reference_of_real_values_only(trace):
    F = xl.FFT(trace.time, real=True)
    for name in ("x0", "x_ref"):
        with pytest.raises(xl.DTypeError, match="real") as caught:
            xl.cgls(F, F @ trace, **{name: 1j * trace})
        assert name in str(caught.value)


def rfft_matrix(n, scaling):
    """The real transform as real and imaginary rows, with its weights."""
    F = np.fft.rfft(np.eye(n), axis=0, norm="ortho")
    if scaling == "isometric":
        F[1 : (n + 1) // 2] *= np.sqrt(2)
    return F


@chunked
@pytest.mark.parametrize("scaling", ["isometric", "plain"])
def test_problem_of_real_values(trace, chunks, scaling):
    F = xl.FFT(trace.time, real=True, scaling=scaling)
    kept = [0, 1, 3, 4, 8]
    R = xl.Restriction(xl.Space.of((F @ trace).freq_time), kept)
    A = R @ F
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((2, 5)) + 1j * rng.standard_normal((2, 5))
    y = (A @ trace).copy(data=(A @ trace).values + 0.1 * noise)
    dense = rfft_matrix(20, scaling)[kept]
    stacked = np.vstack([dense.real, dense.imag])
    for damp in (0.5, 0.0):
        solution = xl.cgls(A, cut(y, chunks), damp=damp, **TIGHT)
        assert solution.x.dtype == np.float64
        for i in range(2):
            right = np.concatenate([y.values[i].real, y.values[i].imag])
            expected = damped_least_squares(stacked, right, damp)
            assert_close(solution.x[i], expected, 1e-10)
    assert solution.x.time.identical(trace.time)


def test_real_model_of_complex_weights(trace, rng):
    # A weight that turns phases, seen through a real transform.
    F = xl.FFT(trace.time, real=True)
    turned = np.exp(2j * np.pi * rng.random(11))
    spectrum = F @ trace[0]
    W = xl.Diagonal(spectrum.copy(data=turned).drop_attrs(deep=False))
    A = W @ F
    y = rng.standard_normal(11) + 1j * rng.standard_normal(11)
    dense = turned[:, None] * rfft_matrix(20, "isometric")
    expected = damped_least_squares(
        np.vstack([dense.real, dense.imag]), np.concatenate([y.real, y.imag]), 0.3
    )
    data = spectrum.copy(data=y)
    assert_close(xl.cgls(A, data, damp=0.3, **TIGHT).x, expected, 1e-10)


# --- batch dims, Dask, precision ------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(("shot", "row", "line"))))
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_batch_dims(rng, order, lazy):
    A = rng.standard_normal((9, 6))
    values = rng.standard_normal((2, 9, 3))
    y = xr.DataArray(
        values,
        dims=("shot", "row", "line"),
        coords={"row": np.arange(9) / 4, "line": list("abc"), "note": "n"},
    ).transpose(*order)
    given = y.chunk(row=4, line=2) if lazy else y
    solution = xl.cgls(Matrix(A), given, **TIGHT)
    dims = tuple("column" if d == "row" else d for d in order)
    assert solution.x.dims == dims
    assert solution.residual.dims == order
    expected = np.einsum("cr,srl->scl", np.linalg.pinv(A), values)
    x = solution.x.transpose("shot", "column", "line")
    assert_close(x, expected, 1e-11)
    assert list(x.line.values) == ["a", "b", "c"]
    assert x.note == "n"
    assert_close(solution.residual, (y - Matrix(A) @ solution.x).values, 1e-12)


def test_starts_in_any_order_of_dims(rng):
    A, values = rng.standard_normal((9, 6)), rng.standard_normal((2, 9))
    x0 = vector(rng.standard_normal((2, 6)), "column").transpose("column", "batch")
    plain = xl.cgls(Matrix(A), vector(values), **TIGHT).x
    for start in (x0, x0.chunk(), x0.chunk(batch=1, column=4), x0.astype("f4")):
        for y in (vector(values), vector(values).chunk(row=4)):
            x = xl.cgls(Matrix(A), y, start, **TIGHT).x
            assert x.dims == ("batch", "column")
            assert_close(x, plain.values, 1e-11)
            assert x.dtype == np.float64


@pytest.mark.parametrize("method", ["cgls", "cg", "regularized"])
@pytest.mark.parametrize("chunks", list(CHUNKS.values())[1:], ids=list(CHUNKS)[1:])
def test_dask_does_what_numpy_does(trace, method, chunks):
    L = xl.SecondDerivative(trace.time)
    A = pint.Quantity(1, "s**4") * L.gram + xl.Identity(trace.time)
    solve = {
        "cgls": lambda y: xl.cgls(A, y, niter=9, tol=0),
        "cg": lambda y: xl.cg(A, y, niter=9, tol=0),
        "regularized": lambda y: xl.regularized_inversion(
            xl.Identity(trace.time), y, {"bend": (L, 1.0)}, niter=9, tol=0
        ),
    }[method]
    plain, lazy = solve(trace), solve(cut(trace, chunks))
    assert plain.x.chunks is None
    assert lazy.x.chunks is not None
    assert_close(lazy.x, plain.x.values, 1e-12)
    xr.testing.assert_allclose(lazy.history, plain.history, rtol=1e-11)
    assert lazy.x.attrs == plain.x.attrs
    assert lazy.iterations == plain.iterations
    assert lazy.reason is plain.reason


@pytest.mark.parametrize("method", [xl.cgls, xl.cg])
@pytest.mark.parametrize("niter", [0, 1, 6])
def test_graphs_do_not_grow(trace, method, niter):
    y = trace.chunk(time=6)
    solution = method(2 * xl.Identity(y) + xl.Mask(y > 0), y, niter=niter, tol=0)
    for array in (solution.x, solution.residual):
        assert len(array.data.__dask_graph__()) == array.data.npartitions
    # so that nothing is computed again
    with dask.config.set(scheduler=counting(calls := [])):
        solution.x.compute()
    assert len(calls) == 1
    assert not any(key for key in calls[0] if "Identity" in str(key))


def counting(calls):
    def get(graph, keys, **kwargs):
        calls.append(list(graph))
        return dask.get(graph, keys, **kwargs)

    return get


@pytest.mark.parametrize("method", [xl.cgls, xl.cg])
def test_iterations_are_submitted_one_by_one(trace, method):
    y = trace.chunk(time=6)
    A = 2 * xl.Identity(y) + xl.Mask(y > 0)
    sizes = {}
    for niter in (2, 3, 4):
        with dask.config.set(scheduler=counting(calls := [])):
            method(A, y, niter=niter, tol=0)
        sizes[niter] = (len(calls), sum(map(len, calls)), max(map(len, calls)))
    per_iteration = sizes[3][1] - sizes[2][1]
    assert sizes[4][1] - sizes[3][1] == per_iteration
    assert sizes[4][0] - sizes[3][0] == sizes[3][0] - sizes[2][0]
    # no submission holds the iterations before it
    assert sizes[4][2] == sizes[2][2]


def test_data_are_read_once_per_solve(trace):
    reads = []

    def read(block):
        reads.append(1)
        return block

    data = trace.chunk(time=5).data.map_blocks(read, dtype=trace.dtype, meta=trace.data)
    reads.clear()
    y = trace.copy(data=data)
    xl.cgls(xl.FirstDerivative(trace.time) @ xl.Identity(trace), y, niter=5, tol=0)
    assert len(reads) == data.npartitions


@pytest.mark.parametrize("solver", [xl.cgls, xl.cg])
@pytest.mark.parametrize("name", ["x0", "x_ref"])
def test_lazy_models_are_read_once(trace, solver, name):
    reads = []

    def read(block):
        reads.append(1)
        return block

    data = trace.chunk(time=5).data.map_blocks(read, dtype=trace.dtype, meta=trace.data)
    reads.clear()
    A = xl.Identity(trace) + xl.Mask(trace > 0)
    given = {name: trace.copy(data=data)}
    solver(A, trace.chunk(time=5), **given, damp=1.0, niter=5, tol=0)
    assert len(reads) == data.npartitions


def test_lazy_weights_and_plain_data(trace):
    W = xl.Diagonal((trace + 5).drop_attrs().chunk(time=6))
    solution = xl.cgls(W, trace, tol=1e-13)
    assert_close(solution.x, trace.values / (trace.values + 5), 1e-11)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("f4", "f4"), ("f8", "f8"), ("c8", "c8"), ("c16", "c16"), ("i4", "f8"), ("?", "f8")]
    + [(">f4", "f4"), (">f8", "f8"), ("f2", "f4")],
)
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_precision(rng, given, expected, lazy):
    A = rng.standard_normal((12, 5))
    values = (3 * rng.standard_normal(12)).astype(given)
    y = vector(values).chunk(row=5) if lazy else vector(values)
    x0 = vector(np.ones(5), "column")
    for start in (None, x0):
        solution = xl.cgls(Matrix(A), y, start, damp=0.1)
        assert solution.x.dtype == np.dtype(expected)
        assert solution.x.values.dtype == np.dtype(expected)
        assert solution.residual.dtype == np.dtype(expected)
        single = np.dtype(expected).itemsize <= (8 if expected[0] == "c" else 4)
        right = values.astype(np.result_type(values.dtype, "f8"))
        exact = damped_least_squares(A, right, 0.1)
        assert_close(solution.x, exact, 1e-4 if single else 1e-5)
    assert solution.history.residual_norm.dtype == np.float64


# --- preconditioners ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cgls", "cg"])
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_jacobi(rng, method, lazy):
    # Unknowns of very different scales: dividing by them helps.
    n = 40
    scales = 10 ** rng.uniform(-2, 2, n)
    S = np.eye(n) + 0.02 * rng.standard_normal((n, n))
    if method == "cgls":
        matrix = S * scales
        y = vector(rng.standard_normal(n))
        A, solve = Matrix(matrix), xl.cgls
        diagonal = np.sum(matrix**2, axis=0)
    else:
        matrix = (S @ S.T) * scales * scales[:, None]
        y = vector(rng.standard_normal(n), "column")
        A, solve = Matrix(matrix, "column", "column"), xl.cg
        diagonal = np.diag(matrix)
    P = xl.Diagonal(vector(1 / diagonal, "column"))
    expected = np.linalg.solve(matrix, y.values)
    y = y.chunk({y.dims[0]: 9}) if lazy else y
    helped = solve(A, y, niter=1000, tol=1e-8, preconditioner=P)
    assert helped.converged
    assert helped.iterations < 25
    plain = solve(A, y, niter=3 * helped.iterations, tol=1e-8)
    assert not plain.converged
    best = solve(A, y, niter=30, tol=1e-14, preconditioner=P)
    assert_close(best.x, expected, 1e-8)


def test_preconditioner_changes_no_damped_minimum(tall, rng):
    A, y = tall
    P = xl.Diagonal(vector(rng.uniform(0.1, 10, 10), "column"))
    ref = rng.standard_normal(10)
    expected = damped_least_squares(A, y, 2.0, ref)
    for start in (None, vector(rng.standard_normal(10), "column")):
        solution = xl.cgls(
            Matrix(A),
            vector(y),
            start,
            damp=2.0,
            x_ref=vector(ref, "column"),
            preconditioner=P,
            **TIGHT,
        )
        assert_close(solution.x, expected, 1e-11)


def test_preconditioner_over_batch_dims(rng):
    A, y = rng.standard_normal((9, 6)), rng.standard_normal((2, 9))
    weights = xr.DataArray([2.0, 0.5], dims="batch")
    solution = xl.cgls(Matrix(A), vector(y), preconditioner=xl.Diagonal(weights), **TIGHT)
    assert_close(solution.x, y @ np.linalg.pinv(A).T, 1e-10)


def test_preconditioners_that_do_not_fit(trace):
    D = xl.Identity(trace.time)
    other = trace.assign_coords(shot=[1, 2]).isel(time=0, drop=True)
    wrong = {
        "operator": (3, xl.DTypeError),
        "blocks '0'": (xl.VStack([D]), xl.LabelError),
        "itself": (xl.FFT(trace.time), xl.LabelError),
        "time": (xl.Identity(trace.time[:3]), xl.LabelError),
        "shot": (xl.Diagonal(other), xl.LabelError),
        "line": (xl.Diagonal(xr.DataArray(np.ones(3), dims="line")), xl.LabelError),
    }
    for word, (P, error) in wrong.items():
        with refused(error, "preconditioner", word):
            xl.cgls(D, trace.chunk(), preconditioner=P, callback=never)


# --- units ----------------------------------------------------------------------------


def test_unit_of_the_solution(trace):
    cases = {
        xl.FirstDerivative(trace.time): "m s",
        xl.SecondDerivative(trace.time): "m s2",
        xl.Identity(trace.time): "m",
        xl.FFT(trace.time).H @ xl.FFT(trace.time): "m",
        xl.Diagonal(trace.assign_attrs(units="kg m")): "kg-1",
        pint.Quantity(2, "km") * xl.Identity(trace.time): None,
    }
    for A, unit in cases.items():
        solution = xl.cgls(A, trace, niter=2)
        if unit is not None:
            assert solution.x.attrs["units"] == unit
        assert solution.residual.attrs["units"] == "m"
        assert solution.x.attrs["long_name"] == "displacement"
        again = A @ solution.x
        quantity = pint.Quantity(1.0, again.attrs["units"].replace(" ", "*"))
        assert quantity.to("m").magnitude in (1.0, 1000.0)
    bare = trace.drop_attrs(deep=False)
    assert xl.cgls(xl.FirstDerivative(trace.time), bare, niter=1).x.attrs == {}
    unknown = trace.assign_coords(time=("time", trace.time.values))
    solution = xl.cgls(xl.FirstDerivative(unknown.time), unknown, niter=1)
    assert solution.x.attrs == {"long_name": "displacement"}


def test_quantities_in_solvers(trace):
    registry = pint.UnitRegistry()
    D = xl.FirstDerivative(trace.time)
    for lazy in (False, True):
        data = trace.chunk(time=6).data if lazy else trace.values
        y = trace.drop_attrs(deep=False).copy(data=registry.Quantity(data, "m"))
        solution = xl.cgls(D, y, niter=20, damp=0.1)
        plain = xl.cgls(D, trace, niter=20, damp=0.1)
        assert solution.x.data.units == registry.Unit("m*s")
        assert solution.residual.data.units == registry.Unit("m")
        assert_close(np.asarray(solution.x.data.magnitude), plain.x.values, 1e-11)
        again = xl.cgls(D, y, solution.x, niter=0)
        assert_close(np.asarray(again.x.data.magnitude), plain.x.values, 1e-11)
        smooth = xl.regularized_inversion(
            xl.Identity(trace.time), y, {"a": (D, registry.Quantity(1, "s"))}, niter=3
        )
        assert smooth.x.data.units == registry.Unit("m")
        assert smooth.residual["a"].data.units == registry.Unit("m")


def test_damp_with_units(trace):
    D = xl.FirstDerivative(trace.time)
    bare = xl.cgls(D, trace, damp=2.0, **TIGHT).x
    for damp in (pint.Quantity(2.0, "1/s"), pint.Quantity(2 * HOUR, "1/hour")):
        xr.testing.assert_allclose(
            xl.cgls(D, trace, damp=damp, **TIGHT).x, bare, rtol=1e-11
        )
    for unit in ("s", "1/m", "", "m/s"):
        with refused(xl.UnitError, "damp", "s-1"):
            xl.cgls(D, trace.chunk(), damp=pint.Quantity(2.0, unit), callback=never)
    # cg adds damp² to the operator
    G = D.gram
    bare = xl.cg(G, trace, damp=2.0, **TIGHT).x
    per_hour = pint.Quantity(2 * HOUR, "1/hour")
    xr.testing.assert_allclose(xl.cg(G, trace, damp=per_hour, **TIGHT).x, bare, rtol=1e-11)
    with refused(xl.UnitError, "damp", "s-1"):
        xl.cg(G, trace.chunk(), damp=pint.Quantity(2.0, "1/s**2"), callback=never)


def test_eps_with_units(trace):
    A, L = xl.Identity(trace.time), xl.SecondDerivative(trace.time)
    bare = xl.regularized_inversion(A, trace, {"a": (L, 3.6 * HOUR**2)}, **TIGHT).x
    for eps in (pint.Quantity(3.6, "hour**2"), pint.Quantity(3.6 * HOUR**2, "s**2")):
        given = xl.regularized_inversion(A, trace, {"a": (L, eps)}, **TIGHT)
        xr.testing.assert_allclose(given.x, bare, rtol=1e-9)
        assert given.x.attrs["units"] == "m"
        assert {r.attrs["units"] for r in given.residual.values()} == {"m"}
    # the operator may carry it just as well
    stacked = xl.VStack({"data": A, "a": pint.Quantity(3.6, "hour**2") * L})
    blocks = {"data": trace, "a": 0 * trace}
    xr.testing.assert_allclose(xl.cgls(stacked, blocks, **TIGHT).x, bare, rtol=1e-9)
    with refused(xl.UnitError, "'a'", "SecondDerivative(time)", "s2"):
        xl.regularized_inversion(A, trace, {"a": (L, pint.Quantity(3.6, "hour"))})


def test_blocks_whose_units_convert(trace):
    I = xl.Identity(trace.time)
    # operators in 1 and km/m
    V = xl.VStack({"a": I, "b": pint.Quantity(1, "km") * pint.Quantity(1, "1/m") * I})
    x = xl.cgls(V, {"a": trace, "b": 2000 * trace}, **TIGHT).x
    expected = (1 + 1000 * 2000) / (1 + 1000**2) * trace.values
    assert_close(x, expected, 1e-12)
    assert x.attrs["units"] == "m"
    # data in m and mm
    V = xl.VStack({"a": I, "b": I})
    millimetres = (3000 * trace).assign_attrs(units="mm")
    solution = xl.cgls(V, {"a": trace, "b": millimetres}, **TIGHT)
    assert_close(solution.x, 2 * trace.values, 1e-12)
    assert {r.attrs["units"] for r in solution.residual.values()} == {"m"}
    assert_close(solution.residual["b"], trace.values, 1e-12)
    solution = xl.cgls(V, {"a": (1000 * trace).assign_attrs(units="mm"), "b": 3 * trace})
    assert solution.x.attrs["units"] == "mm"
    assert_close(solution.x, 2000 * trace.values, 1e-12)


def test_targets_convert(trace):
    I = xl.Identity(trace.time)
    target = (1000 * trace).assign_attrs(units="mm")
    x = xl.regularized_inversion(I, 3 * trace, {"near": (I, 1.0, target)}, **TIGHT).x
    assert_close(x, 2 * trace.values, 1e-12)
    with refused(xl.UnitError, "'near'", "m", "K"):
        xl.regularized_inversion(
            I, trace, {"near": (I, 1.0, trace.assign_attrs(units="K"))}
        )


def test_start_and_reference_convert(trace):
    I = xl.Identity(trace.time)
    kilometres = (trace / 1000).assign_attrs(units="km")
    started = xl.cgls(I, trace, kilometres, niter=0)
    assert_close(started.x, trace.values, 1e-14)
    assert started.reason in (xl.Reason.EXACT, xl.Reason.NITER)
    pulled = xl.cgls(I, 3 * trace, damp=1.0, x_ref=kilometres, **TIGHT)
    assert_close(pulled.x, 2 * trace.values, 1e-12)
    for name in ("x0", "x_ref"):
        with refused(xl.UnitError, name, "s", "m"):
            xl.cgls(I, trace.chunk(), **{name: trace.assign_attrs(units="s")})
    bare = trace.drop_attrs(deep=False)
    assert_close(xl.cgls(I, trace, bare, niter=0).x, trace.values, 1e-14)


def test_offset_units_of_data(trace):
    y = trace.assign_attrs(units="degC", standard_name="air_temperature")
    same = xl.cgls(xl.Identity(y.time), y)
    assert same.x.attrs["units"] == "degC"
    assert same.residual.attrs["units"] == "delta_degC"
    bent = xl.cgls(xl.SecondDerivative(y.time), y, niter=2)
    assert bent.x.attrs["units"] == "delta_degC s2"
    assert "standard_name" not in bent.x.attrs


def test_offset_units_do_not_mix(trace):
    # Celsius and kelvin differ by more than a factor.
    I = xl.Identity(trace.time)
    warm, kelvin = trace.assign_attrs(units="degC"), trace.assign_attrs(units="K")
    for name in ("x0", "x_ref"):
        with refused(xl.UnitError, name, "K", "degC"):
            xl.cgls(I, warm, **{name: kelvin})
    with refused(xl.UnitError, "'a'", "'b'", "degC", "K"):
        xl.cgls(xl.VStack({"a": I, "b": I}), {"a": warm, "b": kelvin})


# --- before any work ------------------------------------------------------------------


def never(status):
    raise AssertionError("an iteration was done")


@contextlib.contextmanager
def refused(error, *words):
    """An error before anything is computed."""

    def get(*args, **kwargs):
        raise AssertionError("Dask has computed something")

    with dask.config.set(scheduler=get), pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert isinstance(caught.value, xl.XlopsError)
    assert isinstance(caught.value, (ValueError, TypeError))
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    assert len(message) < 600
    assert "array(" not in message


@pytest.mark.parametrize("solver", [xl.cgls, xl.cg, xl.solve])
def test_data_with_wrong_labels(trace, solver):
    A = xl.Identity(trace)
    y = trace.chunk()
    wrong = {
        "'time' is missing": y.isel(time=0),
        "19": y.isel(time=slice(19)),
        "index 0": y.assign_coords(time=("time", trace.time.values + 0.25, {"units": "s"})),
        "reverse": y.isel(time=slice(None, None, -1)),
        "'ms'": y.assign_coords(time=("time", trace.time.values, {"units": "ms"})),
        "'shot'": y.assign_coords(shot=[7, 8]),
        "empty": y.expand_dims("z").isel(z=slice(0, 0)),
    }
    for word, given in wrong.items():
        with refused(xl.LabelError, "Identity(shot, time)", word):
            solver(A, given, callback=never)


@pytest.mark.parametrize("solver", [xl.cgls, xl.cg, xl.solve])
def test_data_of_wrong_kinds(trace, solver):
    A = xl.Identity(trace)
    for given in (trace.astype("U"), trace.astype(object), trace.astype("M8[ns]")):
        with refused(xl.DTypeError, "Identity", "numbers"):
            solver(A, given.chunk(), callback=never)
    for given in (trace.values, None, trace.to_dataset(), 3.0):
        with refused(xl.DTypeError, "DataArray", type(given).__name__):
            solver(A, given, callback=never)


@pytest.mark.parametrize("solver", [xl.cgls, xl.cg, xl.solve])
@pytest.mark.parametrize("name", ["x0", "x_ref"])
def test_models_with_wrong_labels(trace, solver, name):
    A, y = xl.Identity(trace.time), trace.chunk()
    wrong = {
        "'time' is missing": (trace.isel(time=0), xl.LabelError),
        "20": (trace.isel(time=slice(3)), xl.LabelError),
        "'shot', 'time'": (trace.isel(shot=0), xl.LabelError),
        "index 1": (trace.assign_coords(shot=[7, 8]), xl.LabelError),
        "'z'": (trace.expand_dims("z"), xl.LabelError),
        "DataArray": (trace.values, xl.DTypeError),
        "numbers": (trace.astype("U"), xl.DTypeError),
    }
    for word, (given, error) in wrong.items():
        with refused(error, name, word):
            solver(A, y, **{name: given}, callback=never)


BAD_ARGUMENTS = {
    "niter": [-1, 2.0, True, "3", np.arange(3)],
    "tol": [-1e-3, np.nan, "a", None, True, 1j, np.ones(3)],
    "damp": [-1.0, np.nan, np.inf, "a", None, 1j, np.ones(3), pint.Quantity(-1.0, "")],
    "callback": [3, "print"],
    "progress": ["yes", 3],
}


@pytest.mark.parametrize("solver", [xl.cgls, xl.cg, xl.solve])
@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments(trace, solver, name):
    A, y = xl.Identity(trace.time), trace.chunk()
    for value in BAD_ARGUMENTS[name]:
        with refused(xl.XlopsError, name):
            solver(A, y, **{"callback": never, name: value})


def test_arguments_of_all_number_types(trace):
    A = xl.Identity(trace.time)
    for tol in (0, 1, np.float32(1e-3), np.float64(1e-3), np.int64(0)):
        assert xl.cgls(A, trace, tol=tol).iterations <= 100
    for niter in (0, np.int64(2), np.uint8(3)):
        assert xl.cgls(A, trace, niter=niter).iterations <= niter
    for damp in (0, 1, np.float32(0.5), np.int64(1), np.array(2.0), pint.Quantity(1, "")):
        assert xl.cgls(A, trace, damp=damp).converged


def test_operators_that_solvers_do_not_take(trace):
    y, I = trace.chunk(), xl.Identity(trace.time)
    for solver in (xl.cgls, xl.cg, xl.solve):
        with refused(xl.DTypeError, "operator", "int"):
            solver(3, y)
    for A in (xl.FFT(trace.time), xl.Restriction(trace.time, [1]), xl.VStack([I])):
        with refused(xl.LabelError, "cg needs", str(A), "cgls"):
            xl.cg(A, y)
    with refused(xl.ArgumentError, "'gauss'", "'cgls'"):
        xl.solve(I, y, method="gauss")
    with pytest.raises(TypeError):
        xl.cgls(I, y, maxiter=3)


def test_regularizations_that_are_none(trace):
    y, I = trace.chunk(), xl.Identity(trace.time)
    L = xl.SecondDerivative(trace.time)
    reversed_ = trace.isel(time=slice(None, None, -1))
    wrong = [
        (I, [L], xl.DTypeError, "mapping"),
        (I, {"a": 3}, xl.DTypeError, "'a'"),
        (I, {"a": ()}, xl.DTypeError, "'a'"),
        (I, {"a": (L, 1, trace, 3)}, xl.DTypeError, "'a'"),
        (I, {"a": (1.0, L)}, xl.DTypeError, "'a'"),
        (I, {"data": L}, xl.LabelError, "'data'"),
        (I, {3: L}, xl.DTypeError, "3"),
        (I, {"a": xl.VStack([L])}, xl.LabelError, "'a'"),
        (I, {"a": xl.SecondDerivative(reversed_.time)}, xl.LabelError, "reverse"),
        (I, {"a": (xl.FFT(trace.time), 1.0, trace)}, xl.LabelError, "freq_time"),
        (xl.VStack([I]), {"a": L}, xl.LabelError, "VStack"),
        (3, {"a": L}, xl.DTypeError, "int"),
    ]
    for A, regularizations, error, word in wrong:
        with refused(error, word):
            xl.regularized_inversion(A, y, regularizations, callback=never)


# --- stopping -------------------------------------------------------------------------


def ill_posed():
    A, b, _ = shaw(32)
    return Matrix(A), vector(perturbed(b))


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-6])
def test_tolerance_of_cgls(tall, tol):
    A, y = tall
    solution = xl.cgls(Matrix(A), vector(y), damp=0.5, tol=tol)
    assert solution.reason is xl.Reason.TOLERANCE
    assert solution.converged

    def gradient(x):
        return np.linalg.norm(A.T @ (y - A @ x) - 0.25 * x)

    assert gradient(solution.x.values) <= tol * gradient(np.zeros(10)) * (1 + 1e-9)
    before = xl.cgls(Matrix(A), vector(y), damp=0.5, tol=0, niter=solution.iterations - 1)
    assert gradient(before.x.values) > tol * gradient(np.zeros(10))


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-6])
def test_tolerance_of_cg(spd, tol):
    B, y = spd
    solution = xl.cg(Matrix(B, "column", "column"), vector(y, "column"), tol=tol)
    assert solution.reason is xl.Reason.TOLERANCE
    norm = np.linalg.norm(y - B @ solution.x.values)
    assert norm <= tol * np.linalg.norm(y) * (1 + 1e-9)


@pytest.mark.parametrize("niter", [0, 1, 3])
@pytest.mark.parametrize("solver", [xl.cgls, xl.cg])
def test_niter(spd, solver, niter):
    B, y = spd
    A, data = Matrix(B, "column", "column"), vector(y, "column")
    called = []
    solution = solver(A, data, niter=niter, callback=called.append)
    assert solution.iterations == niter
    assert solution.reason is xl.Reason.NITER
    assert not solution.converged
    assert [status.iteration for status in called] == list(range(1, niter + 1))
    if niter == 0:
        np.testing.assert_array_equal(solution.x, 0.0)
        np.testing.assert_array_equal(solution.residual, y)
    x0 = vector(np.ones(12), "column")
    started = solver(A, data, x0, niter=0)
    np.testing.assert_array_equal(started.x, 1.0)
    assert_close(started.residual, y - B.sum(axis=1), 1e-13)


def test_iterations_unless_given(rng):
    # More than needed; but never endless.
    A, y = ill_posed()
    solution = xl.cgls(A, y, tol=0)
    assert solution.iterations <= 128
    assert np.isfinite(solution.x.values).all()


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("method", ["cgls", "cg", "regularized"])
def test_callback_that_stops(trace, method, lazy):
    L = xl.SecondDerivative(trace.time)
    A = pint.Quantity(1, "s**4") * L.gram + xl.Identity(trace.time)
    seen = []

    def stop(status):
        seen.append(status)
        return status.iteration < 3

    y = trace.chunk(time=6) if lazy else trace
    solution = {
        "cgls": lambda: xl.cgls(A, y, callback=stop),
        "cg": lambda: xl.cg(A, y, callback=stop),
        "regularized": lambda: xl.regularized_inversion(A, y, {"a": L}, callback=stop),
    }[method]()
    assert solution.iterations == 3
    assert solution.reason is xl.Reason.CALLBACK
    assert not solution.converged
    assert len(seen) == 3
    xr.testing.assert_identical(seen[-1].x.compute(), solution.x.compute())


def test_callbacks_that_do_not_stop(trace):
    A = xl.Identity(trace.time) + xl.Mask(trace > 0)
    plain = xl.cgls(A, trace)
    for answer in (None, True, 0, 1, "", np.True_):
        solution = xl.cgls(A, trace, callback=lambda status, a=answer: a)
        assert solution.iterations == plain.iterations
    stopped = xl.cgls(A, trace, callback=lambda status: np.False_)
    assert stopped.reason in (xl.Reason.CALLBACK, xl.Reason.TOLERANCE)


def test_errors_of_callbacks_come_through(trace):
    def fail(status):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        xl.cgls(xl.Identity(trace) + xl.Mask(trace > 0), trace, callback=fail)


def test_status(trace):
    A = xl.Identity(trace.time) + xl.Mask(trace > 0)
    seen = []
    solution = xl.cgls(A, trace, tol=0, niter=4, callback=seen.append)
    history = solution.history
    for status in seen:
        at = history.sel(iteration=status.iteration)
        assert status.residual_norm == float(at.residual_norm)
        assert status.gradient_norm == float(at.gradient_norm)
        assert status.x.dims == trace.dims
        assert status.x.time.identical(trace.time)
        assert status.x.attrs == trace.attrs
        misfit = trace - A @ status.x
        assert status.residual_norm == pytest.approx(np.linalg.norm(misfit), abs=1e-13)
        text = repr(status)
        assert str(status.iteration) in text
        assert "array" not in text
        with pytest.raises(AttributeError):
            status.iteration = 7
    # a model that was looked at stays what it was
    assert not seen[0].x.equals(seen[1].x)
    assert isinstance(seen[0], xl.Status)


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("solver", [xl.cgls, xl.cg])
def test_exact_start(trace, solver, lazy):
    y = trace.chunk(time=6) if lazy else trace
    A = 2 * xl.Identity(trace.time)
    for data, x0 in ((y, y / 2), (0 * y, None), (0 * y, 0 * y)):
        x0 = None if x0 is None else x0.assign_attrs(y.attrs)
        solution = solver(A, data.assign_attrs(y.attrs), x0, callback=never)
        assert solution.iterations == 0
        assert solution.reason is xl.Reason.EXACT
        assert solution.converged
        assert np.isfinite(solution.history.to_array()).all()
        expected = np.zeros(y.shape) if x0 is None else x0.values
        np.testing.assert_array_equal(solution.x.values, expected)


def test_zero_operator(trace):
    solution = xl.cgls(xl.Zero(trace), trace)
    assert solution.reason is xl.Reason.EXACT
    np.testing.assert_array_equal(solution.x, 0.0)
    solution = xl.cg(xl.Zero(trace), trace)
    assert solution.reason is xl.Reason.BREAKDOWN
    np.testing.assert_array_equal(solution.x, 0.0)


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_breakdown_of_cg(spd, lazy):
    B, y = spd
    data = vector(y, "column")
    data = data.chunk(column=5) if lazy else data
    solution = xl.cg(Matrix(-B, "column", "column"), data)
    assert solution.reason is xl.Reason.BREAKDOWN
    assert not solution.converged
    assert "positive" in solution.reason.value
    np.testing.assert_array_equal(solution.x.values, 0.0)
    # later on: the last good step is what comes back
    values, vectors = np.linalg.eigh(B)
    values[0] = -0.1
    indefinite = (vectors * values) @ vectors.T
    solution = xl.cg(Matrix(indefinite, "column", "column"), data, tol=0)
    assert solution.reason is xl.Reason.BREAKDOWN
    assert np.isfinite(solution.x.values).all()
    assert np.isfinite(solution.history.to_array()).all()
    residual = y - indefinite @ solution.x.values
    assert_close(solution.residual, residual, 1e-10)
    last = solution.history.residual_norm[-1]
    assert float(last) == pytest.approx(np.linalg.norm(residual), rel=1e-10)


def test_negative_preconditioner(tall):
    A, y = tall
    P = xl.Diagonal(vector(-np.ones(10), "column"))
    solution = xl.cgls(Matrix(A), vector(y), preconditioner=P)
    assert solution.reason is xl.Reason.BREAKDOWN
    assert np.isfinite(solution.x.values).all()


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_infinite_numbers(trace, lazy):
    y = trace.where(trace.time > 1, np.inf)
    y = y.chunk(time=6) if lazy else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        solution = xl.cgls(xl.Identity(trace.time), y)
    assert solution.reason is xl.Reason.NOT_FINITE
    assert not solution.converged
    nan = xl.Diagonal(trace.where(trace.time > 1).drop_attrs())
    solution = xl.cgls(nan, trace)
    assert solution.reason is xl.Reason.NOT_FINITE


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "c16"])
def test_nan_in_the_data(trace, lazy, dtype):
    values = trace.values.astype(dtype)
    values[0, [1, 5]] = np.nan
    values[1, 19] = np.nan
    y = trace.copy(data=values)
    y = y.chunk(time=6) if lazy else y
    I, L = xl.Identity(trace.time), xl.SecondDerivative(trace.time)
    for solve in (
        lambda: xl.cgls(I, y, callback=never),
        lambda: xl.cg(I, y, callback=never),
        lambda: xl.solve(I, y, x0=trace, callback=never),
        lambda: I / y,
        lambda: xl.regularized_inversion(I, y, {"a": L}, callback=never),
    ):
        with pytest.raises(xl.DataError, match=r"\b3 NaN\b") as caught:
            solve()
        assert isinstance(caught.value, ValueError)
        assert "xl.Mask(y.notnull())" in str(caught.value)
    # and the remedy works
    M = xl.Mask(y.notnull())
    solution = xl.regularized_inversion(M, M @ y, {"a": (L, 0.1)}, tol=1e-5)
    assert solution.converged
    assert np.isfinite(solution.x.values).all()


def test_nan_in_one_block(trace):
    I = xl.Identity(trace.time)
    V = xl.VStack({"a": I, "b": I})
    with pytest.raises(xl.DataError, match=r"\b2 NaN\b"):
        xl.cgls(V, {"a": trace, "b": trace.where(trace.time > 0)})


# --- what comes back ------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_history(tall, lazy):
    A, y = tall
    data = vector(y).chunk(row=8) if lazy else vector(y)
    iterates = [np.zeros(10)]
    solution = xl.cgls(
        Matrix(A),
        data,
        damp=0.3,
        niter=6,
        tol=0,
        callback=lambda status: iterates.append(status.x.values),
    )
    history = solution.history
    assert isinstance(history, xr.Dataset)
    np.testing.assert_array_equal(history.iteration, np.arange(7))
    for i, x in enumerate(iterates):
        r = y - A @ x
        assert float(history.residual_norm[i]) == pytest.approx(
            np.linalg.norm(r), rel=1e-12
        )
        gradient = np.linalg.norm(A.T @ r - 0.09 * x)
        assert float(history.gradient_norm[i]) == pytest.approx(gradient, rel=1e-9)
    objective = history.residual_norm**2 + 0.09 * xr.DataArray(
        [x @ x for x in iterates], dims="iteration"
    )
    assert (np.diff(objective) < 1e-12).all()


def test_history_of_cg(spd):
    B, y = spd
    iterates = [np.zeros(12)]
    solution = xl.cg(
        Matrix(B, "column", "column"),
        vector(y, "column"),
        damp=0.5,
        niter=5,
        tol=0,
        callback=lambda status: iterates.append(status.x.values),
    )
    for i, x in enumerate(iterates):
        r = y - B @ x
        assert float(solution.history.residual_norm[i]) == pytest.approx(
            np.linalg.norm(r), rel=1e-11
        )
        assert float(solution.history.gradient_norm[i]) == pytest.approx(
            np.linalg.norm(r - 0.25 * x), rel=1e-11
        )


@pytest.mark.parametrize("start", [None, 3])
def test_residual(tall, rng, start):
    A, y = tall
    for damp in (0.0, 2.0):
        solution = xl.cgls(
            Matrix(A), vector(y, units="m"), started(start, 10, rng), damp=damp
        )
        assert_close(solution.residual, y - A @ solution.x.values, 1e-13)
        assert solution.residual.attrs == {"units": "m"}
        assert solution.residual.row.equals(vector(y).row)


def test_coordinates_and_attributes_of_solutions(trace):
    y = trace.assign_coords(
        line=("shot", ["n", "s"]),
        day=("time", np.arange(20)),
        note="x",
    )
    R = xl.Restriction(y.time, [2, 3, 11])
    solution = xl.cgls(R, R @ y)
    x = solution.x
    assert x.day.variable.identical(y.day.variable)
    assert list(x.line.values) == ["n", "s"]
    assert x.note == "x"
    assert x.attrs == trace.attrs
    assert solution.residual.day.values.tolist() == [2, 3, 11]
    assert xl.dottest(R, like=y)


def test_solution_of_an_operator_that_makes_dims(trace):
    F = xl.FFT(trace.time, nfft=32)
    y = F @ trace
    solution = xl.cgls(F, y, tol=1e-12)
    assert solution.x.dims == trace.dims
    assert solution.x.time.identical(trace.time)
    assert_close(solution.x, trace.values.astype(complex), 1e-13)
    assert "freq_time" not in solution.x.coords
    assert solution.residual.dims == ("shot", "freq_time")


def test_to_dataset(trace, tmp_path):
    A, L = xl.Identity(trace.time), xl.SecondDerivative(trace.time)
    solution = xl.cgls(A, trace)
    ds = solution.to_dataset()
    assert set(ds.data_vars) == {"x", "residual", "residual_norm", "gradient_norm"}
    xr.testing.assert_identical(ds.x, solution.x.rename("x"))
    xr.testing.assert_identical(ds.residual, solution.residual.rename("residual"))
    assert ds.attrs["method"] == "cgls"
    assert ds.attrs["iterations"] == solution.iterations
    assert ds.attrs["reason"] == solution.reason.value
    assert ds.attrs["converged"] == 1
    # other labels: as many dims as there are
    kept = [2, 5, 11]
    R = xl.Restriction(trace.time, kept)
    solution = xl.regularized_inversion(R, R @ trace, {"a": L}, niter=4)
    ds = solution.to_dataset()
    assert ds.x.dims == ("shot", "time")
    assert ds.residual_data.dims == ("shot", "time_data")
    np.testing.assert_array_equal(ds.time_data, trace.time[kept])
    assert ds.time_data.attrs == {"units": "s"}
    np.testing.assert_array_equal(ds.residual_data, solution.residual["data"])
    assert ds.residual_a.dims == ("shot", "time")
    assert ds.sizes == {"shot": 2, "time": 20, "time_data": 3, "iteration": 5}
    assert ds.attrs["converged"] == 0
    # the same number of samples, other labels
    S = xl.Restriction(trace.time, list(range(19, -1, -1)))
    ds = xl.cgls(S, S @ trace).to_dataset()
    np.testing.assert_array_equal(ds.time_data, trace.time[::-1])
    np.testing.assert_array_equal(ds.time, trace.time)
    assert not ds.x.isnull().any()
    ds.to_netcdf(tmp_path / "solution.nc", engine="h5netcdf")


def test_to_dataset_of_other_dims(trace):
    F = xl.FFT(trace.time, real=True)
    ds = xl.cgls(F, F @ trace).to_dataset()
    assert ds.x.dims == ("shot", "time")
    assert ds.residual.dims == ("shot", "freq_time")
    near = trace.assign_coords(time=trace.time * (1 + 1e-13))
    ds = xl.cgls(xl.Identity(trace.time), near).to_dataset()
    assert not ds.x.isnull().any()
    assert not ds.residual.isnull().any()
    named = trace.rename("residual")
    ds = xl.cgls(xl.Identity(trace.time), named).to_dataset()
    assert set(ds.data_vars) == {"x", "residual", "residual_norm", "gradient_norm"}


def test_to_dataset_with_awkward_names(trace):
    x = trace.rename(time="x", shot="iteration").rename("x")
    ds = xl.cgls(xl.Identity(x.x), x).to_dataset()
    assert 2 in ds.sizes.values()
    assert 20 in ds.sizes.values()


def test_repr(trace):
    solution = xl.cgls(xl.Identity(trace.time), trace)
    text = repr(solution)
    for word in ("cgls", "converged", "1 iteration", "u", "shot: 2, time: 20"):
        assert word in text
    assert solution.reason.value in text
    assert "array" not in text
    assert len(text.splitlines()) < 12
    stopped = xl.cgls(*ill_posed(), niter=2, tol=0)
    assert "not converged" in repr(stopped)
    assert "2 iterations" in repr(stopped)
    lazy = xl.cgls(xl.Identity(trace.time), trace.chunk())
    assert "converged" in repr(lazy)


def test_reasons_are_sentences():
    for reason in xl.Reason:
        assert reason.value[0].isupper()
        assert reason.value.endswith(".")


def test_solutions_are_immutable_and_pickle(trace):
    solution = xl.cgls(xl.Identity(trace.time), trace)
    with pytest.raises(AttributeError):
        solution.x = None
    again = pickle.loads(pickle.dumps(solution))
    xr.testing.assert_identical(again.x, solution.x)
    assert again.reason is solution.reason
    assert again.iterations == solution.iterations


def test_plot(tall):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    A, y = tall
    for data in (vector(y), 0 * vector(y)):
        solution = xl.cgls(Matrix(A), data)
        axes = solution.plot(figsize=(3, 2))
        assert isinstance(axes, matplotlib.axes.Axes)
        assert len(axes.get_lines()) == 2
        for line in axes.get_lines():
            assert len(line.get_xdata()) == solution.iterations + 1
        assert axes.get_xlabel() == "iteration"
        plt.close("all")


def test_progress(trace, capfd):
    A = xl.Identity(trace.time) + xl.Mask(trace > 0)
    xl.cgls(A, trace)
    xl.cgls(A, trace, progress=False)
    silent = capfd.readouterr()
    assert (silent.out, silent.err) == ("", "")
    xl.cgls(A, trace, progress=True, niter=3)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "cgls" in shown.err
    with xl.set_options(progress=True):
        xl.cg(A, trace)
        asked = capfd.readouterr()
        xl.cg(A, trace, progress=False)
        silent = capfd.readouterr()
    assert (asked.out, silent.out, silent.err) == ("", "", "")
    assert "cg" in asked.err


def test_inputs_are_left_alone(rng):
    A = rng.standard_normal((9, 6))
    y, x0 = vector(rng.standard_normal((2, 9))), vector(np.ones((2, 6)), "column")
    x_ref = vector(np.full((2, 6), 2.0), "column")
    given = [y, x0, x_ref]
    before = [array.copy(deep=True) for array in given]
    for array in given:
        array.data.flags.writeable = False
    for niter in (0, 7):
        solution = xl.cgls(Matrix(A), y, x0, x_ref=x_ref, damp=1.0, niter=niter, tol=0)
        solution.x.data[:] = 77
        solution.residual.data[:] = 77
        plain = xl.cgls(Matrix(A), y, niter=niter, tol=0)
        plain.x.data[:] = 77
        plain.residual.data[:] = 77
        square = xl.cg(xl.Identity(y), y, niter=niter, tol=0)
        square.x.data[:] = 77
        square.residual.data[:] = 77
    for array, kept in zip(given, before, strict=True):
        xr.testing.assert_identical(array, kept)


def test_solving_leaves_callers_settings_alone(trace):
    # Early stopping needs no client, and no scheduler of its own.
    y = trace.chunk(time=6)
    with dask.config.set(scheduler="synchronous"):
        before = dict(dask.config.config)
        solution = xl.cgls(2 * xl.Identity(y), y)
        assert dict(dask.config.config) == before
    assert solution.iterations == 1
    assert isinstance(solution.x.data, da.Array)
