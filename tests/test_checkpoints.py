"""Checkpoints: whatever happens, the same call goes on as if nothing had."""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import xlops as xl

N = 60
DEPTH = xr.DataArray(1.0 * np.arange(N), dims="depth", name="depth")
DEPTH = DEPTH.assign_coords(depth=DEPTH)


def problem(lazy=False, seed=0):
    """A tall matrix, and data with a dim that passes through."""
    rng = np.random.default_rng(seed)
    G = xr.DataArray(
        rng.standard_normal((80, N)),
        dims=("receiver", "depth"),
        coords={"receiver": 5.0 * np.arange(80), "depth": 1.0 * np.arange(N)},
        attrs={"units": "Pa/m"},
    )
    y = xr.DataArray(
        rng.standard_normal((5, 80)),
        dims=("shot", "receiver"),
        coords={"receiver": G.receiver},
        attrs={"units": "Pa"},
    )
    A = xl.MatrixMult(G, "depth")
    return A, y.chunk(shot=2, receiver=30) if lazy else y


def symmetric(A, y):
    return A.gram, A.H @ y


METHODS = {
    "cgls": xl.cgls,
    "cg": lambda A, y, **kwargs: xl.cg(*symmetric(A, y), **kwargs),
    "regularized": lambda A, y, **kwargs: xl.regularized_inversion(
        A, y, {"smooth": (xl.FirstDerivative(DEPTH), 0.3)}, **kwargs
    ),
}


def arrays_of(solution):
    for value in (solution.x, solution.residual):
        yield from value.values() if isinstance(value, dict) else [value]


def check_same(one, other):
    """The very same bits."""
    assert one.reason is other.reason
    xr.testing.assert_identical(one.history, other.history)
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        xr.testing.assert_identical(a.compute(), b.compute())


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run.zarr"


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("kwargs", [{}, {"damp": 0.7}], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_in_parts(run, method, kwargs, lazy):
    A, y = problem(lazy)
    solve = METHODS[method]
    whole = solve(A, y, niter=13, tol=0, **kwargs)
    for niter in (4, 5, 13):
        part = solve(A, y, niter=niter, tol=0, checkpoint=run, **kwargs)
        assert part.iterations == niter
    check_same(part, whole)
    assert sorted(path.name[:5] for path in run.iterdir()) == [".zatt", ".zgro", "state"]


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_what_is_finished_comes_back_at_once(run, lazy):
    A, y = problem(lazy)
    solution = xl.cgls(A, y, tol=1e-8, checkpoint=run)
    assert solution.converged
    called = []
    again = xl.cgls(A, y, tol=1e-8, checkpoint=run, callback=called.append)
    check_same(again, solution)
    assert not called
    further = xl.cgls(A, y, tol=1e-10, checkpoint=run)
    assert further.converged
    assert further.iterations > solution.iterations
    check_same(further, xl.cgls(A, y, tol=1e-10))


def test_every(run):
    A, y = problem()
    written = []

    def callback(status):
        note = json.loads((run / ".zattrs").read_text())["xlops_checkpoint"]
        written.append(note.get("iteration", 0))
        return status.iteration < 7

    solution = xl.cgls(
        A, y, tol=0, callback=callback, checkpoint=xl.Checkpoint(run, every=3)
    )
    assert solution.reason is xl.Reason.CALLBACK
    assert written == [0, 0, 0, 3, 3, 3, 6]
    note = json.loads((run / ".zattrs").read_text())["xlops_checkpoint"]
    assert note["iteration"] == 7
    assert note["reason"] == "CALLBACK"


def test_minutes(run):
    A, y = problem()
    states = []

    def callback(status):
        states.append(sum(path.name.startswith("state") for path in run.iterdir()))

    xl.cgls(A, y, niter=5, callback=callback, checkpoint=xl.Checkpoint(run, minutes=1e-9))
    assert states == [0, 1, 1, 1, 1]
    assert xl.Checkpoint(run).seconds == 300
    assert xl.Checkpoint(run, every=3).seconds == np.inf


def test_a_stop_for_time_goes_on(run):
    A, y = problem()
    first = xl.cgls(A, y, niter=9, tol=0, checkpoint=run, time_limit=0)
    assert first.iterations == 0
    xl.cgls(A, y, niter=9, tol=0, checkpoint=run, callback=lambda s: s.iteration < 4)
    solution = xl.cgls(A, y, niter=9, tol=0, checkpoint=run)
    check_same(solution, xl.cgls(A, y, niter=9, tol=0))


def test_an_error_leaves_the_last_state(run):
    A, y = problem()

    def callback(status):
        if status.iteration == 5:
            raise ZeroDivisionError

    checkpoint = xl.Checkpoint(run, every=2)
    with pytest.raises(ZeroDivisionError) as caught:
        xl.cgls(A, y, niter=9, tol=0, checkpoint=checkpoint, callback=callback)
    assert "the state of iteration 4" in str(caught.value.__notes__)
    solution = xl.cgls(A, y, niter=9, tol=0, checkpoint=checkpoint)
    check_same(solution, xl.cgls(A, y, niter=9, tol=0))


def test_a_breakdown_is_remembered(run):
    w = xr.DataArray([1.0, 2.0, -3.0], dims="time")
    y = xr.DataArray([1.0, 1.0, 0.5], dims="time")
    first = xl.cg(xl.Diagonal(w), y, checkpoint=run)
    assert first.reason is xl.Reason.BREAKDOWN
    if first.iterations:
        check_same(xl.cg(xl.Diagonal(w), y, checkpoint=run), first)


# --- what is refused --------------------------------------------------------------------


def test_other_problems(run):
    A, y = problem()
    P = xl.Diagonal(xr.DataArray(np.linspace(1, 2, N), dims="depth"))
    x_ref = xr.zeros_like(A.H @ y).assign_attrs(units="m") + 1
    xl.cgls(A, y, niter=3, checkpoint=run, damp=0.5)
    other, _ = problem(seed=1)
    cases = {
        "damp": (A, y, {}),
        "data": (A, -y, {"damp": 0.5}),
        "operator": (other, y, {"damp": 0.5}),
        "x_ref": (A, y, {"damp": 0.5, "x_ref": x_ref}),
        "preconditioner": (A, y, {"damp": 0.5, "preconditioner": P}),
        "precision": (A, y.astype("float32"), {"damp": 0.5}),
        "units of the data": (A, y.assign_attrs(units="hPa"), {"damp": 0.5}),
        "kind of arrays": (A, y.chunk(), {"damp": 0.5}),
        "labels of the data": (A, y.assign_coords(shot=np.arange(5)), {"damp": 0.5}),
    }
    for what, (operator, data, kwargs) in cases.items():
        with pytest.raises(xl.ArgumentError, match=f"not the same {what}"):
            xl.cgls(operator, data, niter=3, checkpoint=run, **kwargs)
    with pytest.raises(xl.ArgumentError, match="method"):
        xl.cg(*symmetric(A, y), niter=3, checkpoint=run)
    assert xl.cgls(A, y, niter=4, checkpoint=run, damp=0.5).iterations == 4


def test_operators_without_a_name_that_lasts(run):
    """Their token is another one each time: numbers say whether they are the same."""
    A, y = problem()
    values = A.todense().values
    weights = da.from_array(values, name=False)  # a random name
    others = da.from_array(values, name=False)
    like = A.todense()
    one, two, third = (
        xl.MatrixMult(like.copy(data=w), "depth") for w in (weights, others, 2 * weights)
    )
    assert one.token != two.token
    xl.cgls(one, y, niter=3, tol=0, checkpoint=run)
    solution = xl.cgls(two, y, niter=6, tol=0, checkpoint=run)
    check_same(solution, xl.cgls(two, y, niter=6, tol=0))
    with pytest.raises(xl.ArgumentError, match="operator"):
        xl.cgls(third, y, niter=6, tol=0, checkpoint=run)


def test_folders_of_others_are_left_alone(tmp_path):
    A, y = problem()
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("all of it")
    with pytest.raises(xl.FileError, match=r"thesis\.txt"):
        xl.cgls(A, y, checkpoint=folder)
    xl.save(y, tmp_path / "y.zarr")
    with pytest.raises(xl.FileError, match="no solver has put there"):
        xl.cgls(A, y, checkpoint=tmp_path / "y.zarr")
    xr.testing.assert_identical(
        xl.open(tmp_path / "y.zarr").load().drop_attrs(), y.drop_attrs()
    )
    (tmp_path / "file").write_text("text")
    with pytest.raises(xl.FileError, match="is a file"):
        xl.cgls(A, y, checkpoint=tmp_path / "file")
    with pytest.raises(xl.FileError, match="make it first"):
        xl.cgls(A, y, checkpoint=tmp_path / "no" / "run.zarr")
    (tmp_path / "empty").mkdir()
    assert xl.cgls(A, y, checkpoint=tmp_path / "empty").converged


def test_damaged_checkpoints(run, tmp_path):
    A, y = problem()
    xl.cgls(A, y, niter=3, checkpoint=run)
    (state,) = run.glob("state-*")
    for path in sorted(state.rglob("*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        for harm in ("cut", "gone"):
            harmed = tmp_path / "harmed.zarr"
            shutil.copytree(run, harmed)
            victim = harmed / path.relative_to(run)
            if harm == "cut":
                victim.write_bytes(path.read_bytes()[:-1])
            else:
                victim.unlink()
            with pytest.raises(xl.FileError, match="damaged"):
                xl.cgls(A, y, niter=3, checkpoint=harmed)
            shutil.rmtree(harmed)
    text = (run / ".zattrs").read_text()
    (run / ".zattrs").write_text(text[: len(text) // 2])
    with pytest.raises(xl.FileError, match="damaged"):
        xl.cgls(A, y, niter=3, checkpoint=run)
    (run / ".zattrs").write_text(text.replace('"version": 1', '"version": 99'))
    with pytest.raises(xl.FileError, match="version"):
        xl.cgls(A, y, niter=3, checkpoint=run)


def test_what_does_not_go_together(run, tmp_path):
    A, y = problem()
    with pytest.raises(xl.ArgumentError, match="store"):
        xl.cgls(A, y.chunk(), checkpoint=run, store=tmp_path / "store")
    with pytest.raises(xl.ArgumentError, match="independent"):
        xl.cgls(A, y, checkpoint=run, independent="shot")
    with pytest.raises(xl.ArgumentError, match="every"):
        xl.Checkpoint(run, every=0)
    with pytest.raises(xl.ArgumentError, match="minutes"):
        xl.Checkpoint(run, minutes=-1)
    with pytest.raises(xl.DTypeError, match="path"):
        xl.cgls(A, y, checkpoint=3)


def test_without_zarr(run, monkeypatch):
    A, y = problem()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(xl.FileError, match=r"xlops\[zarr\]"):
        xl.cgls(A, y, checkpoint=run)
    assert not run.exists()


# --- kill -9 ----------------------------------------------------------------------------

SCRIPT = textwrap.dedent(
    """
    import sys
    import time

    sys.path[:0] = [{tests!r}]
    import test_checkpoints as t
    import xlops as xl

    def callback(status):
        print(status.iteration, flush=True)
        time.sleep(0.005)

    t.METHODS[{method!r}](
        *t.problem({lazy}), niter={niter}, tol=0, callback=callback,
        checkpoint=xl.Checkpoint({run!r}, every={every}),
    )
    print("done", flush=True)
    """
)


def killed_at(random_, run, method, lazy, niter, every):
    """Start a solver in a process of its own, and kill it at some iteration."""
    last = random_.randrange(1, niter)
    code = SCRIPT.format(
        tests=os.path.dirname(__file__),
        method=method,
        lazy=lazy,
        niter=niter,
        every=every,
        run=str(run),
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    try:
        for line in process.stdout:
            if line.strip() == "done" or int(line) >= last:
                break
        time.sleep(0.01 * random_.random())
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


def check_kills(run, method, lazy, seed, kills=1):
    random_ = random.Random(seed)
    niter = 40
    for _ in range(kills):
        killed_at(random_, run, method, lazy, niter, random_.choice([1, 2, 5]))
    A, y = problem(lazy)
    solution = METHODS[method](A, y, niter=niter, tol=0, checkpoint=run)
    check_same(solution, METHODS[method](A, y, niter=niter, tol=0))


@pytest.mark.parametrize("method", ["cg", "cgls", "regularized"])
def test_kill(run, method):
    check_kills(run, method, False, seed=len(method))


@pytest.mark.endurance
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("method", METHODS)
def test_many_kills(run, method, lazy, seed):
    check_kills(run, method, lazy, seed, kills=3)


# --- on a cluster -----------------------------------------------------------------------


def small():
    """A problem in two chunks."""
    A, y = problem()
    return A.gram, (A.H @ y).chunk(shot=3)


def most_tasks(client, run, niter, every):
    """Tasks that the scheduler knows after each iteration; and the solution."""
    A, y = small()
    found = []

    def callback(status):
        gc.collect()
        found.append(client.run_on_scheduler(count_tasks))

    checkpoint = xl.Checkpoint(run, every=every)
    kwargs = {"niter": niter, "tol": 0, "callback": callback, "checkpoint": checkpoint}
    return found, xl.cg(A, y.persist(), **kwargs)


def count_tasks(dask_scheduler):
    return len(dask_scheduler.tasks)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def check_bounded(found, every):
    """Tasks are those of a few periods, not of all iterations."""
    growth = (found[every - 1] - found[0]) / (every - 1)
    # How soon the scheduler hears of what nobody has any more depends on the machine.
    assert max(found) <= found[0] + 4 * every * growth
    assert len(found) >= 6 * every


def test_lineage_is_cut(client, run):
    found, solution = most_tasks(client, run, 30, 5)
    check_bounded(found, 5)
    without = xl.cg(*small(), niter=30, tol=0)
    np.testing.assert_allclose(solution.x, without.x, rtol=0, atol=1e-9)
    again = xl.cg(*small(), niter=30, tol=0, checkpoint=run)
    check_same(again, solution)


@pytest.mark.endurance
def test_tasks_stay_bounded(client, run):
    found, _ = most_tasks(client, run, 1000, 50)
    check_bounded(found, 50)
