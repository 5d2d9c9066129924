"""What dies on a cluster changes no result, or is an error that says how to go on."""

import concurrent.futures
import os
import random
import signal
import subprocess
import sys
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

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
# Seconds after which a test has failed: nothing may hang.
LIMIT = 120


def within(seconds, function, *args):
    """What a function gives; an error where it takes longer."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(function, *args).result(seconds)
    finally:
        pool.shutdown(wait=False)


def problem():
    """An operator, lazy data and the solution of ten iterations."""
    rng = np.random.default_rng(0)
    d = xr.DataArray(
        rng.standard_normal((8, 96, 400)),
        dims=("shot", "offset", "time"),
        coords={"offset": 12.5 * np.arange(96), "time": 0.004 * np.arange(400)},
    )
    weights = 1 + abs(d.isel(shot=0, drop=True))  # so large that workers keep them
    smooth = xl.Smoothing1D(d.offset, 3) @ xl.Smoothing1D(d.time, 5)
    A = xl.Diagonal(weights) + 0.5 * smooth
    return A, d.chunk(shot=4, offset=32), xl.cgls(A, d, niter=10, tol=0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("workers"))
    with (
        dask.config.set(
            {
                "temporary-directory": folder,
                # Tests kill workers more often than faults do.
                "distributed.scheduler.allowed-failures": 10,
            }
        ),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit="600MiB",
            host="127.0.0.1",
            dashboard_address=":0",
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def kill_one(client, seed):
    """Kill a worker, chosen at random."""
    workers = client.cluster.workers.values()
    pids = [nanny.pid for nanny in workers if nanny.pid]
    if pids:
        os.kill(random.Random(seed).choice(pids), signal.SIGKILL)


def solved_while_one_dies(client, seed, store):
    A, lazy, _ = problem()
    after = random.Random(seed).uniform(0.05, 2.0)
    timer = threading.Timer(after, kill_one, [client, seed])
    timer.start()
    try:
        x = within(LIMIT, lambda: xl.cgls(A, lazy, niter=10, tol=0, store=store).x.values)
    finally:
        timer.join()
    client.wait_for_workers(2, timeout=60)
    return x


SEEDS = [
    0,
    pytest.param(1, marks=pytest.mark.slow),
    *(pytest.param(seed, marks=pytest.mark.endurance) for seed in range(2, 20)),
]


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "store"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_dead_worker_changes_nothing(client, tmp_path, seed, kept):
    expected = problem()[2].x.values
    x = solved_while_one_dies(client, seed, tmp_path / "store" if kept else None)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10 * abs(expected).max())


def test_every_worker_dead_at_once(client, tmp_path):
    """What iterations read lies on disk; the plans travel with each of them."""
    A, lazy, expected = problem()

    def kill_all(status):
        if status.iteration == 4:
            for nanny in client.cluster.workers.values():
                os.kill(nanny.pid, signal.SIGKILL)

    def solve():
        return xl.cgls(
            A, lazy, niter=10, tol=0, store=tmp_path / "s", callback=kill_all
        ).x.values

    x = within(LIMIT, solve)
    np.testing.assert_allclose(x, expected.x.values, rtol=0, atol=1e-10)


def die(block):
    os.kill(os.getpid(), signal.SIGKILL)
    return block


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "store"])
def test_a_task_that_kills_workers(client, tmp_path, kept):
    lazy = problem()[1].isel(shot=slice(0, 1)).chunk(offset=-1)
    A = xl.FunctionOperator(die, die, domain=lazy.time)
    store = tmp_path / "store" if kept else None
    scheduler = client.cluster.scheduler
    allowed, scheduler.allowed_failures = scheduler.allowed_failures, 0
    try:
        with pytest.raises(xl.ClusterError, match=r"died again and again.*smaller chunks"):
            within(LIMIT, lambda: xl.cgls(A, lazy, niter=2, store=store))
    finally:
        scheduler.allowed_failures = allowed


class Separate:
    """A scheduler and two workers as processes of their own."""

    def __init__(self, folder):
        self.file = folder / "scheduler.json"
        common = ["--no-dashboard", "--host", "127.0.0.1"]
        self._processes = [
            self._started(
                "dask_scheduler", "--port", "0", "--scheduler-file", self.file, *common
            )
        ]
        deadline = time.monotonic() + 60
        while not self.file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        local = ["--local-directory", folder, "--nthreads", "1", "--death-timeout", "20"]
        for _ in range(2):
            self._processes.append(
                self._started("dask_worker", "--scheduler-file", self.file, *local, *common)
            )

    def _started(self, module, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill_scheduler(self):
        self._processes[0].kill()

    def close(self):
        for process in self._processes:
            children = (
                psutil.Process(process.pid).children(recursive=True)
                if process.poll() is None
                else []
            )
            process.kill()
            process.wait(30)
            for child in children:
                if child.is_running():
                    child.kill()


@pytest.mark.parametrize(
    ("when", "kept"),
    [
        ("between", True),
        ("during", False),
        pytest.param("between", False, marks=pytest.mark.slow),
        pytest.param("during", True, marks=pytest.mark.slow),
    ],
)
def test_a_lost_scheduler(tmp_path, kept, when):
    A, lazy, _ = problem()
    store = tmp_path / "store"
    separate = Separate(tmp_path)
    reached = []
    try:
        with distributed.Client(scheduler_file=str(separate.file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)

            def callback(status):
                reached.append(time.monotonic())
                if status.iteration == 4:
                    if when == "between":
                        separate.kill_scheduler()
                    else:
                        threading.Timer(0.05, separate.kill_scheduler).start()

            def solve():
                xl.cgls(
                    A,
                    lazy,
                    niter=2000,
                    tol=0,
                    store=store if kept else None,
                    callback=callback,
                )

            with pytest.raises(xl.ClusterError, match="scheduler") as caught:
                within(LIMIT, solve)
            assert time.monotonic() - reached[-1] < 15
    finally:
        separate.close()
    text = str(caught.value)
    assert f"after {len(reached)} iterations" in text
    if not kept:
        assert "store=" in text
        return
    assert f"x0=xl.open({str(store / 'x.zarr')!r})" in text
    assert sorted(path.name for path in store.iterdir()) == [
        ".xlops-store",
        "residual.zarr",
        "x.zarr",
    ]
    x0 = xl.open(store / "x.zarr")
    halfway = xl.cgls(A, lazy.compute(), niter=len(reached), tol=0).x
    np.testing.assert_allclose(x0.values, halfway.values, rtol=0, atol=1e-9)
    whole = lazy.chunk(shot=-1, offset=-1)  # here, where there is one machine only
    again = xl.cgls(A, whole, x0=x0, niter=200, tol=1e-12, store=store).x
    np.testing.assert_allclose((A @ again).values, lazy.values, rtol=0, atol=1e-9)
