"""On a cluster of two processes: few tasks, few bytes, weights that are sent once."""

import collections
import gc
import itertools
import pickle
import time
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster, futures_of, wait
from distributed.diagnostics.plugin import SchedulerPlugin

import xlops as xl
from xlops.engine import residents

CHUNKS, LONG, WIDE = 8, 32, 64
SEEDS = itertools.count()


class Watch(SchedulerPlugin):
    """Counts what is submitted and what is computed."""

    name = "watch"

    def __init__(self):
        self.keys, self.submissions = [], 0

    def update_graph(self, scheduler, **kwargs):
        self.submissions += 1

    def transition(self, key, start, finish, *args, **kwargs):
        if (start, finish) == ("processing", "memory"):
            self.keys.append(key)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("workers"))
    with (
        # What is stolen from a busy worker depends on what else the machine does.
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="1GiB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Watch())
        yield client


def watched(client, run):
    """What a function submits, and the keys of what is computed for it."""

    def seen(dask_scheduler):
        watch = dask_scheduler.plugins["watch"]
        return watch.submissions, list(watch.keys)

    before = client.run_on_scheduler(seen)
    run()
    after = client.run_on_scheduler(seen)
    return after[0] - before[0], after[1][len(before[1]) :]


def held(dask_scheduler):
    """How many results there are."""
    return sum(task.state == "memory" for task in dask_scheduler.tasks.values())


def per_iteration(client, run):
    """What one iteration more of a solver submits and computes."""
    found = []
    for n in (2, 4):
        # Runs have their first tasks in common: those of the last one must be gone.
        gc.collect()
        deadline = time.monotonic() + 30
        while client.run_on_scheduler(held) > len(client.futures):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found.append(watched(client, lambda n=n: run(n)))
    less, more = found
    return (more[0] - less[0]) / 2, (len(more[1]) - len(less[1])) / 2


def halved(client, shape, chunks):
    """Data that lie half on one worker and half on the other, in one piece each."""
    half = (shape[0], shape[1] // 2, shape[2])
    halves = [
        client.persist(
            da.random.default_rng(seed).standard_normal(half, chunks=chunks),
            workers=[worker],
        )
        for seed, worker in enumerate(client.scheduler_info()["workers"])
    ]
    wait(halves)
    lazy = da.concatenate(halves, axis=1).persist()
    wait(lazy)
    time = 0.5 * np.arange(shape[1])
    return xr.DataArray(lazy, {"time": time}, dims=("shot", "time", "depth"))


@pytest.fixture(scope="module")
def data(client):
    lazy = halved(client, (WIDE, CHUNKS * LONG, WIDE), (WIDE, LONG, WIDE))
    return lazy.compute(), lazy


def stencils(y):
    return {
        "derivative": xl.FirstDerivative(y.time),
        "chain": xl.Convolve1D(y.time, np.array([0.2, 1.0, -0.3]), 1)
        @ xl.FirstDerivative(y.time),
        "pointwise": xl.Diagonal(np.abs(y) + 1),
    }


def ended(solution):
    wait([solution.x, solution.residual])


# What an iteration computes that is not for a chunk: two plans and weights, three sums,
# three ratios.
ALONE = 9


@pytest.mark.parametrize(
    ("name", "most"), [("derivative", 8), ("chain", 8), ("pointwise", 6)]
)
def test_tasks_of_an_iteration_of_cgls(client, data, name, most):
    y, lazy = data
    A = stencils(y)[name]
    submissions, tasks = per_iteration(
        client, lambda n: ended(xl.cgls(A, lazy, niter=n, tol=0))
    )
    assert submissions == 1
    assert tasks <= most * CHUNKS + ALONE


def test_tasks_of_an_iteration_of_cg(client, data):
    y, lazy = data
    A = xl.FirstDerivative(y.time)
    B = A.H @ A + xl.Identity(y)
    submissions, tasks = per_iteration(
        client, lambda n: ended(xl.cg(B, lazy, niter=n, tol=0))
    )
    assert submissions == 1
    assert tasks <= 6 * CHUNKS + ALONE


@pytest.mark.parametrize("solver", [xl.cgls, xl.cg])
@pytest.mark.parametrize("damp", [0, 0.3])
def test_results_are_those_of_numpy(client, data, solver, damp):
    y, lazy = data
    A = stencils(y)["chain"]
    if solver is xl.cg:
        A = A.gram + xl.Identity(y)
    plain, far = (solver(A, d, niter=10, tol=0, damp=damp) for d in (y, lazy))
    for made, expected in ((far.x, plain.x), (far.residual, plain.residual)):
        scale = 1e-12 * float(np.abs(expected).max())
        np.testing.assert_allclose(made.values, expected.values, rtol=0, atol=scale)


def test_iterates_are_plain_arrays(client, data):
    y, lazy = data
    seen = []
    solution = xl.cgls(
        stencils(y)["chain"],
        lazy,
        niter=3,
        tol=0,
        callback=lambda status: seen.append(status.x),
    )
    for array in (*seen, solution.x, solution.residual):
        futures = futures_of(array)
        assert len(futures) == len(array.data.__dask_graph__()) == CHUNKS
        assert {type(part) for part in client.gather(futures)} == {np.ndarray}
    assert not np.allclose(seen[0], seen[1])
    np.testing.assert_array_equal(seen[2], solution.x)


def outgoing(client):
    sent = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
    return sum(sent.values())


def test_halos_are_all_that_moves(client):
    """Chunks stay where they are, and both strips of one go to either neighbour."""
    y = halved(client, (256, 256, 128), (256, 64, 128))  # 16 MiB each
    A = xl.FirstDerivative(y.time, order=5) @ xl.FirstDerivative(y.time)
    ended(xl.cgls(A, y, niter=2, tol=0))  # the scheduler learns how long tasks take
    before, niter = outgoing(client), 10
    ended(xl.cgls(A, y, niter=niter, tol=0))
    moved = outgoing(client) - before
    strip = 3 * 256 * 128 * y.dtype.itemsize
    exchanges = 2 * niter + 1  # A p and Aᴴ r, and Aᴴ y to begin with
    halos = exchanges * 2 * strip  # both sides of the border between workers
    assert moved <= 2.01 * halos


def made_by_dask(shape, chunks, dims):
    """Data that are not there yet, and that nobody has asked before."""
    seed = next(SEEDS)
    lazy = da.random.default_rng(seed).standard_normal(shape, chunks=chunks)
    coords = {dim: 10.0 * np.arange(n) for dim, n in zip(dims, shape, strict=True)}
    return xr.DataArray(lazy, coords, dims)


def single(folder):
    y = made_by_dask((64, 256, 64), (64, 32, 64), ("shot", "time", "depth"))
    A = xl.FirstDerivative(y.time, order=5) @ xl.FirstDerivative(y.time)
    return A, y, 3 * 64 * 64 * 8


def post_stack(folder):
    dims = ("inline", "crossline", "time")
    d = made_by_dask((96, 40, 60), (24, 20, 60), dims)
    A = 0.5 * xl.Convolve1D(d.time, np.hanning(11), 5) @ xl.FirstDerivative(d.time)
    smooth = 0.1 * xl.Laplacian(d.inline, d.crossline, d.time)
    stack = xl.VStack({"data": A, "smooth": smooth})
    return stack, {"data": d, "smooth": xr.zeros_like(d)}, 40 * 60 * 8


def from_files(folder):
    dims = ("inline", "crossline", "time")
    y = made_by_dask((96, 40, 60), (24, 20, 60), dims)
    y.to_dataset(name="y").to_zarr(folder / "y.zarr", consolidated=False)
    y = xr.open_zarr(folder / "y.zarr", consolidated=False).y
    return xl.Laplacian(y.inline, y.crossline, y.time), y, 40 * 60 * 8


def in_memory(y):
    if isinstance(y, dict):
        return {name: block.compute() for name, block in y.items()}
    return y.compute()


@pytest.mark.parametrize("problem", [single, post_stack, from_files])
def test_chunks_of_solvers_have_homes(client, tmp_path, problem):
    """Bytes between workers are within 2 × of the halos' own, wherever data come from.

    These are the strips on both sides of the border between the two workers, forward and
    back. Both strips of a chunk are one value, which makes twice the bytes; numbers and
    what messages need come on top.
    """
    pytest.importorskip("zarr")
    A, y, strip = problem(tmp_path)
    sent = []
    solution = xl.cgls(
        A, y, niter=5, tol=0, callback=lambda status: sent.append(outgoing(client))
    )
    ended(solution)
    moved = (sent[-1] - sent[1]) / (len(sent) - 2)
    assert moved <= 2 * (2 * 2 * strip) + 2**15
    expected = xl.cgls(A, in_memory(y), niter=5, tol=0).x
    scale = 1e-10 * float(np.abs(expected).max())
    np.testing.assert_allclose(solution.x, expected, rtol=0, atol=scale)


def homes(client, array):
    """The worker that has each chunk."""
    wait(array)
    return {key[1:]: lying for key, lying in client.who_has(futures_of(array)).items()}


def test_each_worker_has_half_of_the_chunks(client):
    A, y, _ = post_stack(None)
    solution = xl.cgls(A, y, niter=2, tol=0)
    found = homes(client, solution.x.data)
    sides = [{found[i, j, 0] for j in range(2)} for i in range(4)]
    assert [len(side) for side in sides] == [1, 1, 1, 1]
    assert sides[0] == sides[1] != sides[2] == sides[3]


def test_chunks_stay_where_users_say(client):
    A, y, _ = single(None)
    worker = max(client.scheduler_info()["workers"])
    with dask.annotate(workers=[worker]):
        solution = xl.cgls(A, y, niter=2, tol=0)
        found = homes(client, solution.x.data)
    assert {*found.values()} == {(worker,)}


def test_homes_are_no_part_of_results(client):
    A, y, _ = single(None)
    x = xl.cgls(A, y, niter=1, tol=0).x
    assert not any(layer.annotations for layer in x.data.dask.layers.values())


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Nobody waits long for weights to go."""
    monkeypatch.setattr(residents, "LATER", 0.2)


def weights(seed, shape=(50, 400, 320)):
    values = 1 + np.random.default_rng(seed).random(shape)
    return xr.DataArray(values, dims=("shot", "time", "depth"))


def kept(client):
    def names(dask_worker):
        return [name for name in dask_worker.plugins if name.startswith("weights-")]

    return [len(names) for names in client.run(names).values()]


def received(client):
    """How often weights have come to workers."""

    def count(dask_worker):
        from xlops.engine import weights

        return sum(len(tenants) for _, tenants in weights._homes.values())

    return list(client.run(count).values())


def waited(condition):
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_weights_reach_workers_once(client, monkeypatch):
    w = weights(0)  # 51 MB
    arrivals = []
    register = client.register_plugin
    monkeypatch.setattr(
        client,
        "register_plugin",
        lambda *args, **kwargs: (arrivals.append(1), register(*args, **kwargs)),
    )
    data = da.random.default_rng(0).standard_normal(w.shape, chunks=(50, 50, 320))
    y = xr.DataArray(data.persist(), dims=w.dims)
    A = xl.FirstDerivative(y.time) @ xl.Diagonal(w)
    assert kept(client) == [0, 0]
    _ = A.explain(y)
    assert kept(client) == [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Dask's of large graphs too
        solution = xl.cgls(A, y, niter=5, tol=0)
    assert arrivals == [1]
    assert kept(client) == received(client) == [1, 1]
    expected = xl.cgls(A, y.compute(), niter=5, tol=0)
    scale = 1e-12 * float(np.abs(expected.x).max())
    np.testing.assert_allclose(solution.x, expected.x, rtol=0, atol=scale)
    lazy = A @ y
    assert len(pickle.dumps(lazy.data.__dask_graph__())) < 50_000
    del A, lazy, solution  # which is computed once more where a worker dies
    gc.collect()
    assert waited(lambda: kept(client) == received(client) == [0, 0])


def test_equal_weights_are_the_same_weights(client):
    w = weights(1, (4, 400, 50))
    y = xr.DataArray(da.ones(w.shape, chunks=(4, 100, 50)), dims=w.dims)
    A, B = xl.Diagonal(w), xl.Diagonal(w.copy())
    lazy = A @ y
    np.testing.assert_array_equal((B @ y).values, w.values)
    assert kept(client) == [1, 1]
    del A, B
    gc.collect()
    assert kept(client) == [1, 1]  # the result that has not been computed has them
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(lazy.values, w.values)
    np.testing.assert_array_equal(lazy.values, w.values)
    del lazy
    gc.collect()
    assert waited(lambda: kept(client) == [0, 0])


def test_weights_outlive_workers(client):
    w = weights(2, (4, 400, 50))
    y = xr.DataArray(da.ones(w.shape, chunks=(4, 100, 50)), dims=w.dims)
    A = xl.Diagonal(w)
    lazy = A @ y
    client.restart()
    for z in (lazy, A @ y):
        np.testing.assert_array_equal(z.values, w.values)


def test_weights_come_and_go_in_a_row(client):
    """The end of some does not overtake the start of the next, which are equal."""
    w = weights(5, (4, 400, 50))
    y = xr.DataArray(da.ones(w.shape, chunks=(4, 100, 50)), dims=w.dims)
    for _ in range(10):
        np.testing.assert_array_equal((xl.Diagonal(w) @ y).values, w.values)
        gc.collect()
    assert waited(lambda: kept(client) == received(client) == [0, 0])


def test_weights_outlive_operators_whose_tasks_wait(client):
    w = weights(6, (4, 400, 50))
    data = da.ones(w.shape, chunks=(4, 100, 50)).map_blocks(
        lambda x: (time.sleep(0.5), x)[1], dtype=float
    )
    lazy = (xl.Diagonal(w) @ xr.DataArray(data, dims=w.dims)).persist()
    gc.collect()
    np.testing.assert_array_equal(lazy.values, w.values)
    assert kept(client) == [1, 1]  # a worker may die, and its chunks be made once more
    del lazy
    gc.collect()
    assert waited(lambda: kept(client) == received(client) == [0, 0])


def test_weights_that_are_gone(client):
    """A pickled result has none."""
    w = weights(3, (4, 400, 50))
    y = xr.DataArray(da.ones(w.shape, chunks=(4, 100, 50)), dims=w.dims)
    text = pickle.dumps((xl.Diagonal(w) @ y).data)
    gc.collect()
    assert waited(lambda: kept(client) == [0, 0])
    lazy = pickle.loads(text)
    with pytest.raises(xl.XlopsError, match="apply the operator again"):
        lazy.compute(scheduler="sync")


def test_pickles_hold_parameters_once():
    w = weights(4, (20, 100, 50))
    D, A = xl.Diagonal(w), xl.FirstDerivative(w.time)
    matrix = xr.DataArray(
        np.random.default_rng(0).random((300, 400)), dims=("receiver", "source")
    )
    M = xl.MatrixMult(matrix, "source")
    y = w.chunk(time=25)
    for B, size in (
        (D, w.nbytes),
        (D.H, w.nbytes),
        (A @ D, w.nbytes),
        ((A @ D).gram, w.nbytes),
        (D @ A @ D, w.nbytes),
        (xl.VStack([A @ D, D]), w.nbytes),
        (M, matrix.nbytes),
        (M.gram, matrix.nbytes),
        (A, 0),
    ):
        assert len(pickle.dumps(B)) < 1.01 * size + 20_000
    _ = D @ y, D.H @ y  # what has been derived is not pickled
    assert len(pickle.dumps(D)) < 1.01 * w.nbytes + 20_000


def test_tasks_hold_no_weights():
    import cloudpickle

    w = weights(5, (20, 100, 50))
    y = w.chunk(time=25)
    for A in (xl.Diagonal(w), xl.FirstDerivative(w.time) @ xl.Diagonal(w)):
        for B in (A, A.H):
            sizes = collections.Counter()
            graph = (B @ y).data.__dask_graph__()
            for key in graph.keys() - y.data.__dask_graph__().keys():
                kind = "weights" if str(key[0]).startswith("weights-") else "tasks"
                sizes[kind] += len(cloudpickle.dumps(graph[key]))
            assert sizes["tasks"] < 40_000
            assert sizes["weights"] < 1.01 * w.nbytes + 1000
