"""Operators and solvers on a cluster of two processes give what they give on NumPy."""

import dataclasses
import json
import sys

import distributed
import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl
from xlops import demo


@pytest.fixture(scope="module")
def client():
    with xl.connect("local", workers=2, threads=1, memory="1 GiB") as client:
        yield client


@pytest.fixture
def d():
    values = np.random.default_rng(0).normal(size=(6, 40, 90))
    return xr.DataArray(
        values,
        coords={
            "offset": ("offset", 12.5 * np.arange(40), {"units": "m"}),
            "time": ("time", 0.004 * np.arange(90), {"units": "s"}),
        },
        dims=("shot", "offset", "time"),
        attrs={"units": "Pa"},
    )


def assert_same(result, expected):
    assert result.dims == expected.dims
    assert result.attrs == expected.attrs
    scale = np.abs(expected.values).max()
    np.testing.assert_allclose(result.values, expected.values, rtol=0, atol=1e-10 * scale)


def test_main_job(client):
    air = xl.open(demo.sample_path(), "air").compute().isel(time=slice(6), lon=slice(26))
    keep = demo.kept_cells(air)
    mask = xl.Mask(keep)

    def filled(field):
        smooth = {
            dim: (xl.SecondDerivative(field[dim]), pint.Quantity(*demo.EPS[dim]))
            for dim in ("time", "lat", "lon")
        }
        data = mask @ field.where(keep)
        return xl.regularized_inversion(mask, data, smooth, niter=10).x

    result = filled(air.chunk(time=3, lat=13))
    assert distributed.futures_of(result)
    assert_same(result.compute(), filled(air))


def test_a_chain_with_halos(client, d):
    A = (
        xl.SecondDerivative(d.time)
        @ xl.Smoothing1D(d.offset, 5)
        @ xl.FirstDerivative(d.time)
        @ xl.Diagonal(1 + d.time)
    )
    lazy = d.chunk(shot=2, offset=11, time=25)
    assert_same((A @ lazy).compute(), A @ d)
    assert_same((A.H @ (A @ lazy)).compute(), A.H @ (A @ d))


def test_a_contraction_over_a_dim_in_chunks(client, d):
    rng = np.random.default_rng(1)
    matrix = xr.DataArray(rng.normal(size=(7, 40)), dims=("receiver", "offset"))
    A = xl.MatrixMult(matrix.assign_coords(offset=d.offset), "offset")
    lazy = d.chunk(offset=9, time=30)
    expected = np.einsum("ro,sot->srt", matrix.values, d.values)
    np.testing.assert_allclose((A @ lazy).compute().values, expected, rtol=0, atol=1e-10)
    assert_same((A.H @ (A @ lazy)).compute(), A.H @ (A @ d))


def test_cgls(client, d):
    A = xl.Convolve1D(d.time, [-0.4, 1.0, 0.3], offset=1)
    y = A @ d
    x = xl.cgls(A, y.chunk(time=30), niter=15, tol=0, damp=0.1).x
    assert distributed.futures_of(x)
    assert_same(x.compute(), xl.cgls(A, y, niter=15, tol=0, damp=0.1).x)
    # The normal equations, solved
    dense = A.todense().values
    inverse = np.linalg.inv(dense.T @ dense + 0.01 * np.eye(90)) @ dense.T
    exact = np.einsum("ij,sok,kj->soi", inverse, y.values, np.eye(90))
    np.testing.assert_allclose(x.values, exact, rtol=0, atol=1e-10)


def test_workers_run_one_thread_for_each_of_theirs(client):
    def threads():
        import threadpoolctl

        import xlops.engine.threads
        from xlops.kernels import stencil  # noqa: F401 (loads numba)

        numba = sys.modules["numba"]
        pools = {one["num_threads"] for one in threadpoolctl.threadpool_info()}
        return pools, numba.config.NUMBA_NUM_THREADS, xlops.engine.threads.count()

    assert set(map(str, client.run(threads).values())) == {"({1}, 1, 1)"}
    info = client.scheduler_info(n_workers=-1)["workers"].values()
    assert [(one["nthreads"], one["memory_limit"]) for one in info] == [(1, 2**30)] * 2


def test_an_address_a_cluster_a_file_and_a_client(client, tmp_path):
    path = tmp_path / "scheduler.json"
    address = client.scheduler.address
    path.write_text(json.dumps({"type": "Scheduler", "address": address}))

    @dataclasses.dataclass
    class Gateway:
        scheduler_address: str
        security: None = None
        dashboard_link: str = ""
        status: str = "running"

    for where in (address, path, str(path), client.cluster, Gateway(address), client):
        with xl.connect(where) as joined:
            assert joined.scheduler.address == address
            assert distributed.default_client() is joined
            assert joined.submit(sum, [1, 2]).result() == 3
        assert client.status == "running"
        assert (joined.status == "closed") is (joined is not client)
    assert len(client.scheduler_info()["workers"]) == 2
    assert client.submit(sum, [1, 2]).result() == 3
