"""Volumes several times as large as the memory of all workers."""

import os
import threading
import time

import dask
import numpy as np
import psutil
import pytest
import xarray as xr

import xlops as xl

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")

MIB = 2**20
# A worker that has loaded all it needs takes some 310 MiB before it has any data, and
# pauses at 80 %.
LIMIT = 512 * MIB


class Watched:
    """Two workers whose memory is looked at all the time."""

    def __init__(self, client):
        self._client = client
        self.pids = client.run(os.getpid)
        self.peaks = dict.fromkeys(self.pids, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self):
        while not self._done.is_set():
            for name, pid in self.pids.items():
                rss = psutil.Process(pid).memory_info().rss
                self.peaks[name] = max(self.peaks[name], rss)
            time.sleep(0.02)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def check(self):
        assert self._client.run(os.getpid) == self.pids  # no worker was started again
        assert max(self.peaks.values()) < LIMIT


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    # Nothing is spilled: there must be no need to.
    memory = {"target": False, "spill": False}
    settings = {
        f"distributed.worker.memory.{name}": value for name, value in memory.items()
    }
    settings["temporary-directory"] = str(tmp_path_factory.mktemp("workers"))
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit=LIMIT,
            host="127.0.0.1",
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def parts(offsets=256, times=512):
    """One shot, a chain of five operators, and one to solve for."""
    rng = np.random.default_rng(0)
    shot = xr.DataArray(
        rng.standard_normal((offsets, times)),
        dims=("offset", "time"),
        coords={"offset": 12.5 * np.arange(offsets), "time": 0.004 * np.arange(times)},
    )
    W = xl.Diagonal(
        xr.DataArray(1 + rng.random(times), dims="time").assign_coords(time=shot.time)
    )
    chain = (
        xl.Smoothing1D(shot.offset, 5)
        @ W
        @ xl.SecondDerivative(shot.time)
        @ xl.Smoothing1D(shot.time, 7)
        @ xl.FirstDerivative(shot.offset)
    )
    A = W @ xl.Smoothing1D(shot.offset, 5) @ xl.Smoothing1D(shot.time, 7)
    return shot, chain, A


def volume(shot, nbytes, together, path):
    """As many shots as fill a volume, each scaled by a number of its own.

    Solvers are linear in the data, steps do not depend on their scale: iterates of the
    volume are those of one shot, scaled likewise. So one shot tells what is right.
    """
    import dask.array as da

    count = -(-nbytes // shot.nbytes)
    scales = 1 + np.arange(count) / count
    data = da.from_array(scales, chunks=together)[:, None, None] * da.from_array(
        shot.data, chunks=(64, -1)
    )
    coords = {"shot": scales, **shot.coords}
    xl.save(xr.DataArray(data, dims=("shot", *shot.dims), coords=coords), path)
    return xl.open(path, chunks={}).drop_attrs()


def assert_scaled(result, expected):
    expected = expected.transpose("offset", "time").values
    tolerance = 1e-10 * 2 * abs(expected).max()
    for start in range(0, result.sizes["shot"], 64):
        some = result.isel(shot=slice(start, start + 64)).compute()
        for one in some.transpose("shot", "offset", "time"):
            scaled = float(one.shot) * expected
            np.testing.assert_allclose(one.values, scaled, rtol=0, atol=tolerance)


def check(client, folder, nbytes, together, niter):
    shot, chain, A = parts()
    made, solved = chain @ shot, xl.cgls(A, shot, niter=niter, tol=0).x
    y = volume(shot, nbytes, together, folder / "y.zarr")
    # A process that compiles kernels, and does not find them on disk, keeps a quarter of
    # the limit for that. So they are compiled here.
    with dask.config.set(scheduler="synchronous"):
        some = y.isel(shot=slice(2 * together))
        (chain @ some).compute()
        xl.cgls(A, some, niter=1, store=folder / "first")
    own = psutil.Process().memory_info().rss
    with Watched(client) as watched:
        for suffix in ("zarr", "nc"):
            path = folder / f"chain.{suffix}"
            xl.save(chain @ y, path)
            watched.check()
        assert psutil.Process().memory_info().rss - own < nbytes / 4  # nothing is gathered
        solution = xl.cgls(A, y, niter=niter, tol=0, store=folder / "store")
        watched.check()
    for suffix in ("zarr", "nc"):
        volume_made = xl.open(folder / f"chain.{suffix}", chunks={"shot": together})
        assert_scaled(volume_made, made)
    assert_scaled(solution.x, solved)


@pytest.mark.slow
def test_a_volume_that_fits(client, tmp_path):
    check(client, tmp_path, 64 * MIB, 16, 2)


@pytest.mark.endurance
def test_four_times_the_memory(client, tmp_path):
    check(client, tmp_path, 4 * 2 * LIMIT, 32, 10)
