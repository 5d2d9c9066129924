"""Faults of PyLops-distributed that cannot be made here.

Other tests show the rest: `test_solvers` (graphs of iterates, damping), `test_testing`
(dot tests that see the imaginary part), `test_promises` (chunks along transforms, kernels
with single rows, unsorted rows, all dims of a Laplacian), `test_pylops` (edges),
`test_interop` (operators of PyLops in products), `test_frame` (imports that log nothing).
"""

import pickle
import threading

import dask
import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl


@pytest.fixture
def d():
    rng = np.random.default_rng(0)
    return xr.DataArray(
        rng.standard_normal((4, 12)),
        {"offset": 10.0 * np.arange(4), "time": 0.5 * np.arange(12)},
        ("offset", "time"),
    )


class Counted:
    """A weight for each sample that counts how often it is applied."""

    def __init__(self, weights):
        self.weights, self.calls, self.lock = weights, 0, threading.Lock()

    def __call__(self, x):
        with self.lock:
            self.calls += 1
        return self.weights * x

    def operator(self, coord):
        return xl.FunctionOperator(self, self, domain=coord)


def refuse(*args, **kwargs):
    raise AssertionError("something was computed")


# --- solvers --------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [xl.cg, xl.cgls])
def test_tolerances_stop_a_lazy_solver(d, solver):
    """Two different weights are found in two iterations, whatever niter allows."""
    weights = Counted(np.where(np.arange(12) < 5, 1.0, 3.0))
    y = d.chunk(offset=1)  # four chunks, each of them one call
    solution = solver(weights.operator(d.time), y, niter=30, tol=1e-8)
    assert solution.iterations == 2
    assert solution.converged
    calls = weights.calls
    assert calls <= 4 * 2 * (2 + 2)  # forward and adjoint, the start included
    # Nothing is done again to look at the result.
    np.testing.assert_allclose(solution.x.values, d.values / weights.weights, rtol=1e-10)
    solution.residual.compute()
    assert weights.calls == calls


@pytest.mark.parametrize("solver", [xl.cg, xl.cgls])
def test_tolerances_bound_norms_not_their_squares(d, solver):
    A = xl.Diagonal(d.time.copy(data=np.linspace(1.0, 9.0, 12)))
    history = solver(A, d, tol=1e-4).history.gradient_norm
    last, before = (float(history[at] / history[0]) for at in (-1, -2))
    assert last <= 1e-4 < before


def test_what_rearranges_chunks_is_solved_for_at_once_or_not(d):
    """States of solvers keep their chunks: `evaluate` changes results only."""
    A = xl.Roll(d.time, 5) + 3 * xl.Identity(d.time)
    expected = xl.cgls(A, d, tol=1e-12).x
    for B in (A, A.evaluate(), A.evaluate(adjoint=False), A.chunked(time=5)):
        for y in (d, d.chunk(time=5, offset=3)):
            np.testing.assert_allclose(
                xl.cgls(B, y, tol=1e-12).x.values, expected.values, rtol=0, atol=1e-10
            )


@pytest.mark.parametrize("rows", [12, 9, 15], ids=["square", "wide", "tall"])
@pytest.mark.parametrize("chunks", [(4, 6), (5, 3), (-1, 5)])
def test_matrices_in_any_chunks_are_divided_by(d, rows, chunks):
    rng = np.random.default_rng(1)
    M = rng.standard_normal((rows, 12)) + 4 * np.eye(rows, 12)
    A = xl.MatrixMult(
        xr.DataArray(M, {"time": d.time}, ("row", "time")).chunk(
            row=chunks[0], time=chunks[1]
        ),
        "time",
    )
    y = xr.DataArray(rng.standard_normal(rows), dims="row").chunk(row=7)
    expected = np.linalg.lstsq(M, y.values, rcond=None)[0]
    x = xl.solve(A, y, tol=1e-13, niter=200).x
    np.testing.assert_allclose(x.values, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose((A / y).values, expected, rtol=0, atol=1e-4)


def test_all_virtual_sources_are_solved_for_with_their_own_data(d):
    """A dim that passes through, in place of a loop that could slice one input only."""
    A = xl.MatrixMult(
        xr.DataArray(np.eye(12) + np.eye(12, k=2), {"time": d.time}, ("t", "time")), "time"
    )
    y = A @ d
    together = xl.cgls(A, y, tol=1e-13).x
    np.testing.assert_allclose(together.values, d.values, rtol=0, atol=1e-10)
    for at in range(4):
        alone = xl.cgls(A, y[at], tol=1e-13).x
        np.testing.assert_allclose(together[at].values, alone.values, rtol=0, atol=1e-10)


# --- composing ------------------------------------------------------------------------


def test_composing_copies_no_weights():
    weights = xr.DataArray(np.ones((200, 200)), dims=("u", "v"))
    A = xl.Rename(weights[:, 0], {"u": "v"}) @ xl.MatrixMult(weights, "v")
    composed = 2 * (A @ A) + A - A.conj() + A.H
    # A pickle holds each array once that is there once.
    assert len(pickle.dumps(composed)) < 1.3 * weights.nbytes


def test_powers_leave_their_operator_alone(d):
    x = d.chunk(time=5)
    for flags in ((True, False), (False, True), (True, True)):
        A = xl.FirstDerivative(d.time).evaluate(*flags)
        before = pickle.dumps(A)
        _ = (A**2) @ x, (3 * A) @ x, (A + A) @ x, (A @ A).H @ x
        assert pickle.loads(before) == A
        assert dask.is_dask_collection(A @ x) is not flags[0]
        assert dask.is_dask_collection(A.H @ x) is not flags[1]


@pytest.mark.parametrize("make", [xl.HStack, xl.BlockDiag], ids=["row", "diagonal"])
def test_adjoints_of_stacks_keep_the_chunks_of_each_block(d, make):
    """Chunks of models are those of their own dims, never those of the data."""
    A = xl.MatrixMult(xr.DataArray(np.ones((7, 12)), dims=("row", "time")), "time")
    S = make({"p": A @ xl.Identity(d.time), "q": 2 * A})
    blocks = {"p": d.chunk(offset=3, time=4), "q": d.chunk(offset=3, time=4)}
    y = S @ blocks
    given = y if isinstance(y, dict) else {"": y}
    assert all(block.chunksizes["offset"] == (3, 1) for block in given.values())
    back = S.H @ y
    for block in back.values():
        assert block.sizes == d.sizes
        assert block.chunksizes["offset"] == (3, 1)
    # Stencils keep the chunks along their own dim, both ways.
    D = make({"p": xl.FirstDerivative(d.time), "q": xl.SecondDerivative(d.time)})
    for block in (D.H @ (D @ blocks)).values():
        assert block.chunksizes == {"offset": (3, 1), "time": (4, 4, 4)}


def test_columns_are_a_dim_that_passes_through(d):
    A = xl.Roll(d.time, 2)
    columns = xr.concat([d, 2 * d, -d], "column").chunk(time=5, column=2)
    expected = np.roll(columns.values, 2, axis=2)
    np.testing.assert_array_equal((A @ columns).values, expected)
    flat = columns.values.reshape(-1, 12).T
    P = pylops.Roll(12, shift=2)
    np.testing.assert_array_equal(A.bind(d.time).matmat(flat), P.matmat(flat))


def test_operators_of_pylops_join_in_on_dask(d):
    A, P = xl.Diagonal(d[0]), pylops.FirstDerivative(12, sampling=0.5)
    matrix = pylops.FirstDerivative(12, sampling=0.5).todense()
    expected = d.values @ matrix.T * d[0].values
    for chunks in ({"offset": 1}, {"offset": 3, "time": 5}):
        y = (A @ P) @ d.chunk(chunks)
        assert dask.is_dask_collection(y)
        np.testing.assert_allclose(y.values, expected, rtol=0, atol=1e-12)
        z = (A + P) @ d.chunk(chunks)
        np.testing.assert_allclose(
            z.values, d.values * d[0].values + d.values @ matrix.T, rtol=0, atol=1e-12
        )


# --- checks before any work -----------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda d: xl.Diagonal(d[0]),
        lambda d: xl.FirstDerivative(d.time),
        lambda d: xl.FFT(d.time),
        lambda d: xl.MatrixMult(d, "time"),
        lambda d: xl.Identity(d.time),
        lambda d: xl.Roll(d.time),
    ],
)
def test_one_sample_is_not_repeated(d, build):
    """A single value never stands for all samples of an axis."""
    A = build(d)
    for short in (d[:, :1], d[0, :1].drop_vars("time"), d.chunk()[:, 3:4]):
        with pytest.raises(xl.LabelError, match="time"):
            A @ short
    with pytest.raises(xl.LabelError, match="time"):
        A @ d.isel(time=0)


def test_frequencies_that_the_transform_does_not_have(d):
    """A kernel with more frequencies than there are, or with others, is told of."""
    F = xl.FFT(d.time, real=True)
    frequencies = F.range.coords["freq_time"]
    step = float(frequencies[1] - frequencies[0])

    def kernel(labels):
        G = np.ones((len(labels), 3, 4))
        coords = {"freq_time": labels, "offset": d.offset}
        return xl.Fredholm1(xr.DataArray(G, coords, ("freq_time", "r", "offset")), "offset")

    assert (kernel(frequencies.values) @ F @ d).sizes == {"freq_time": 7, "r": 3}
    for labels in (step * np.arange(9), step * np.arange(4), 2 * step * np.arange(7)):
        with pytest.raises(xl.LabelError, match="freq_time"):
            kernel(labels) @ F


def test_frequencies_that_are_left_out_count(d):
    """What is above the highest frequency is gone, not kept as if nothing was said."""
    F = xl.FFT(d.time, real=True)
    spectrum = np.fft.rfft(d.values, axis=1)
    for kept in (2, 4, 7):
        R = xl.Restriction(F.range.coords["freq_time"], range(kept))
        low = spectrum * (np.arange(7) < kept)
        np.testing.assert_allclose(
            (F.H @ R.H @ R @ F @ d).values, np.fft.irfft(low, 12), rtol=0, atol=1e-13
        )


# --- laziness -------------------------------------------------------------------------


def test_kernels_and_their_transposes_stay_where_they_are(d):
    """Nothing is computed or kept by building an operator, its adjoint or its gram."""
    with dask.config.set(scheduler=refuse):
        G = xr.DataArray(
            dask.array.ones((6, 3, 4), chunks=2), {}, ("freq", "receiver", "offset")
        )
        K = xl.Fredholm1(G * (1 + 1j), "offset")
        table = xl.Restriction(d.time, [1, 2])
        for A in (K, K.H, K.T, K.gram, table @ table.H, 2 * K):
            _ = A, repr(A)
        x = K.domain.random(0).chunk()
        assert dask.is_dask_collection(K.H @ (K @ x))


def test_tables_stay_where_they_are_or_are_not_there(d):
    """With and without a table, with and without interpolation, both ways."""
    stations = xr.DataArray(np.arange(3.0), {"station": np.arange(3.0)}, "station").station

    def places(offset, time, station):
        return time + 0.03 * offset * station

    tables = places(d.offset, d.time, stations).transpose("offset", "time", "station")
    found = []
    for interp in (False, True):
        with dask.config.set(scheduler=refuse):
            known, lazy = (
                xl.Spread(t, d.time, interp=interp) for t in (tables, tables.chunk(time=5))
            )
            assert dask.is_dask_collection(lazy.H @ (lazy @ d))
        without = xl.Spread(places, d.time, interp=interp, domain=d, range=stations)
        found.append((known @ d).transpose("station", "time").values)
        for A in (known, lazy, without):
            assert xl.dottest(A)
            again = (A @ d).transpose("station", "time")
            np.testing.assert_allclose(again.values, found[-1], rtol=0, atol=1e-12)
    assert not np.allclose(*found)


def test_dot_tests_apply_once_each_way(d):
    weights = Counted(np.linspace(-1.0, 1.0, 12))
    A = weights.operator(d.time)
    xl.dottest(A)
    assert weights.calls == 2
    # Inner products near zero are no reason to fail.
    odd = xl.Diagonal(d.time.copy(data=np.linspace(-1e-9, 1e-9, 12)))
    assert all(xl.dottest(odd, seed=seed) for seed in range(20))


def test_a_wrong_adjoint_of_complex_values_is_seen():
    x = xr.DataArray(np.arange(5.0) + 1j, dims="time")
    right = xl.FunctionOperator(lambda v: 1j * v, lambda v: -1j * v, domain=x)
    wrong = xl.FunctionOperator(lambda v: 1j * v, np.conj, domain=x)
    like = x.chunk(time=2)
    assert xl.dottest(right, like=like)
    with pytest.raises(AssertionError, match="dot test"):
        xl.dottest(wrong, like=like)


def test_real_transforms_pass_the_dot_test_in_chunks(d):
    for n in (12, 13, 16):
        for chunks in ({"time": 5}, {"time": 1, "offset": 2}):
            assert xl.dottest(xl.FFT(d.time, n, real=True), like=d.chunk(chunks))


def test_there_is_one_name_for_dividing(d):
    A = xl.Diagonal(d.time.copy(data=np.linspace(1.0, 2.0, 12)))
    assert (A / d).identical(xl.solve(A, d).x)
    assert not [name for name in dir(A) if name.startswith("div")]
