"""The model of `benchmarks.scale` against real runs on this machine.

Small jobs run on threads, and on clusters of one and two processes with one thread each.
Tasks have to be those of the model exactly. Bytes between workers and times agree within a
factor where chunks are put in blocks, as in the model; where the scheduler decides they are
shown. What the largest task holds is more than the model has where halos are wide: the
memory in which a chunk and its halos are joined is in no plan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import dask
import dask.system
import distributed
import xarray as xr
from dask.callbacks import Callback

from benchmarks.jobs import Counts, Job, Problem, random
from benchmarks.scale import NETWORKS, Machine, Model, bytes_read, counts, line, measured

__all__ = [
    "Placed",
    "Ran",
    "checks",
    "cluster",
    "most_held",
    "on_cluster",
    "on_threads",
    "small",
]

# Chunks, and sizes along the dims that are cut: last chunks are shorter.
SMALL: dict[str, tuple[Counts, Counts]] = {
    "post-stack": ({"inline": 24, "crossline": 24}, {"inline": 140, "crossline": 70}),
    "mdc": (
        {"receiver": 64, "source": 64, "virtual": 64},
        {"receiver": 250, "source": 380, "virtual": 70},
    ),
    "smoothing": (
        {"lat": 96, "lon": 96, "time": 160},
        {"lat": 280, "lon": 190, "time": 600},
    ),
}
ROUNDS = 3
HELD, MOVED, SECONDS = 1.5, 1.2, 2.0  # factors
PER_TASK = 1e-3
UNFINISHED = ("waiting", "queued", "processing", "no-worker")
Seen: TypeAlias = Callable[[Any], tuple[int, int]]


@dataclasses.dataclass
class Ran:
    """What a round was seen to take: tasks, bytes between workers, seconds."""

    tasks: int
    moved: int
    seconds: float


def small(job: Job) -> Model:
    """The model of a job that fits here."""
    chunk, sizes = SMALL[job.name]
    return Model(job, chunk, {**job.sizes, **sizes})


def problem(model: Model) -> Problem:
    """What it is a model of."""
    return model.job.problem(random, model.chunk, model.counts, model.last)


# --- running --------------------------------------------------------------------------


def _last_round(problem: Problem, seen: Seen) -> Ran:
    """The last of a few rounds; `seen` says how many tasks and bytes there were so far."""
    ends: list[tuple[int, int, float]] = []
    problem.run(ROUNDS, lambda made: ends.append((*seen(made), time.perf_counter())))
    tasks, moved, seconds = (
        after - before for before, after in zip(*ends[-2:], strict=True)
    )
    return Ran(int(tasks), int(moved), seconds)


def on_threads(problem: Problem) -> Ran:
    """A round on threads."""
    ran = 0

    def count(key: Any, dsk: Any, state: Any) -> None:
        nonlocal ran
        ran += counts(key, dsk[key])

    with dask.config.set(scheduler="threads"), Callback(pretask=count):
        return _last_round(problem, lambda made: (ran, 0))


@contextlib.contextmanager
def cluster(processes: int) -> Iterator[distributed.Client]:
    """A client of processes on this machine, with one thread each."""
    with (
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            memory_limit="4GiB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=folder,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


class _Counter(distributed.SchedulerPlugin):
    """Counts tasks that have run."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.ran = scheduler, 0

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, **more: Any
    ) -> None:
        if (start, finish) == ("processing", "memory"):
            self.ran += counts(key, self.scheduler.tasks[key].run_spec)


class Placed(_Counter):
    """Puts what is made of each chunk where the model has it."""

    def __init__(self, scheduler: Any, model: Model, grid: Counts) -> None:
        super().__init__(scheduler)
        self._counts = [model.counts.get(dim, 1) for dim in model.sizes]
        self._grid = [grid.get(dim, 1) for dim in model.sizes]

    def update_graph(self, scheduler: Any, *, tasks: Any, **more: Any) -> None:
        workers = sorted(scheduler.workers)
        for key in tasks:
            if (place := self.place(key)) is not None:
                task = scheduler.tasks[key]
                task.worker_restrictions = {workers[place]}

    def place(self, key: Any) -> int | None:
        """The number of the worker that holds a chunk, or a strip of it."""
        if not isinstance(key, tuple) or len(key) <= len(self._grid) or "dot" in key[0]:
            return None
        place = 0
        for at, count, blocks in zip(key[1:], self._counts, self._grid, strict=False):
            place = place * blocks + at * blocks // count
        return place


def on_cluster(model: Model, client: distributed.Client, grid: Counts | None = None) -> Ran:
    """A round on a cluster whose scheduler is in this process.

    Where a grid of workers is given, they have blocks of chunks as in the model; without
    it, it is as it would be for a user.
    """
    assert client.cluster is not None
    scheduler = client.cluster.scheduler
    counter = Placed(scheduler, model, grid) if grid else _Counter(scheduler)
    scheduler.add_plugin(counter, name="counter")

    def seen(made: Any) -> tuple[int, int]:
        if isinstance(made, xr.DataArray):
            distributed.wait(made)
        while any(task.state in UNFINISHED for task in [*scheduler.tasks.values()]):
            time.sleep(0.002)
        found = counter.ran, sum(client.run(_sent).values())
        if isinstance(made, xr.DataArray):
            futures = distributed.futures_of(made)
            for future in futures:
                future.release()
            _let_go(client, [future.key for future in futures])
        return found

    gc.collect()
    _let_go(client, [*client.futures])
    try:
        return _last_round(problem(model), seen)
    finally:
        scheduler.remove_plugin("counter")


def _let_go(client: distributed.Client, keys: Sequence[Any]) -> None:
    """Wait until a client has let go of results, which it does in a thread of its own.

    Who asks for the same ones before that is given those that there are, and nothing runs.
    """
    while any(key in client.futures for key in keys):
        time.sleep(0.002)


def _sent(dask_worker: Any) -> int:
    return int(dask_worker.transfer_outgoing_bytes_total)


def most_held(problem: Problem) -> int:
    """Bytes that the largest task holds: what it is given, and all that it makes."""
    most = before = 0

    def start(key: Any, dsk: Any, state: Any) -> None:
        nonlocal before
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0] - bytes_read(key, dsk, state)

    def end(key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        nonlocal most
        most = max(most, tracemalloc.get_traced_memory()[1] - before)

    with dask.config.set(scheduler="synchronous"):
        problem.run(1, lambda made: None)  # kernels are loaded
        tracemalloc.start()
        try:
            with Callback(pretask=start, posttask=end):
                problem.run(1, lambda made: None)
        finally:
            tracemalloc.stop()
    return most


# --- comparing ------------------------------------------------------------------------


def checks(jobs: Sequence[Job]) -> Iterator[str]:
    """A table of what was seen and what the model has, in Markdown."""
    yield line("job", "where", "", "seen", "model", "ratio", "wanted", "holds")
    yield line(*[":--"] * 3, *["--:"] * 4, ":--")
    for job in jobs:
        model, seconds = small(job), {job.name: measured(job)}
        one, held = Machine(seconds), most_held(problem(model))
        yield _row(job, "one thread", "largest task, bytes", held, model.peak, 0.0, HELD)
        threads = dask.system.CPU_COUNT
        ran = on_threads(problem(model))
        yield from _rows(model, f"{threads} threads", ran, Machine(seconds, threads), 1)
        with cluster(1) as client:
            yield from _rows(model, "1 process", on_cluster(model, client), one, 1)
        if not job.sums:  # a key says where such a chunk lies
            with cluster(2) as client:
                ran = on_cluster(model, client, model.cost(2, one).grid)
                yield from _rows(model, "2 processes, in blocks", ran, one, 2)
                yield _moved(model, "2 processes, in blocks", ran, one, MOVED)
        with cluster(2) as client:
            ran = on_cluster(model, client)
            yield from _rows(model, "2 processes, as for users", ran, one, 2, False)
            yield _moved(model, "2 processes, as for users", ran, one, None)


def _rows(
    model: Model, where: str, ran: Ran, on: Machine, workers: int, placed: bool = True
) -> Iterator[str]:
    took, within = model.cost(workers, on).seconds(PER_TASK, NETWORKS[0]), SECONDS
    if not placed:
        within = float("inf")
    yield _row(model.job, where, "tasks", ran.tasks, model.tasks, 1.0, 1.0)
    yield _row(model.job, where, "seconds", ran.seconds, took, 1 / within, within)


def _moved(model: Model, where: str, ran: Ran, on: Machine, within: float | None) -> str:
    moved = 2 * model.cost(2, on).network
    high = within or float("inf")
    return _row(model.job, where, "bytes moved", ran.moved, moved, 1 / high, high)


def _row(
    job: Job, where: str, what: str, seen: float, model: float, low: float, high: float
) -> str:
    ratio, asked = seen / model, high < float("inf")
    holds = "yes" if low <= ratio <= high else "no"
    wanted = f"{high:g}" if low == high else f"{low:.2g} to {high:g}"
    numbers = (f"{n:,.2f}" if n < 100 else f"{n:,.0f}" for n in (seen, model))
    verdict = (wanted, holds) if asked else ("", "")
    return line(job.name, where, what, *numbers, f"{ratio:.2f}", *verdict)
