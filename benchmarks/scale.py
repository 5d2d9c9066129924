"""What three large jobs cost on 10 to 10,000 workers: a model, without data.

`python -m benchmarks.scale` prints tables. What they say of tasks and bytes comes from the
library's own plans and from small graphs that have really run, on grids of a few chunks.
Chunks inside, at faces, edges and corners of a grid do not change with its size, only their
numbers do; so whatever is counted over a grid is a sum of products of affine functions of
the numbers of chunks along its dims, and the smallest grids that have chunks of all kinds
say what any other one costs, to the last task and byte.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import math
import pathlib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

if __name__ == "__main__":  # also as a file
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import dask
from dask.callbacks import Callback
from dask.sizeof import sizeof
from dask.task_spec import Task

from benchmarks.jobs import JOBS, Counts, Job, Problem, Sums, empty, random
from xlops.engine import Explanation, graph, vectors

__all__ = ["Affine", "Cost", "Machine", "Model", "Round", "measured", "recorded", "tables"]

WORKERS = (10, 100, 1_000, 10_000)
TASK_SECONDS = (0.2e-3, 1e-3)
NETWORKS = (1.25e9, 12.5e9)  # 10 and 100 Gb/s
ENOUGH = 0.8
EVEN = 1.1  # times the best share of work, within which layouts are compared


@dataclasses.dataclass(frozen=True)
class Machine:
    """What workers do.

    Parameters
    ----------
    seconds : mapping of str to mapping
        By job: seconds of one thread for a unit of each kind of work.
    threads : int
        Threads of a worker, each as fast as one alone.
    """

    seconds: Mapping[str, Mapping[str, float]]
    threads: int = 1


# A shared core of an x86-64 server with AVX-512; `--measure` asks the machine it runs on.
HERE: dict[str, dict[str, float]] = {
    "post-stack": {"samples": 4.2e-8},
    "mdc": {"products": 1.7e-10, "sums": 1.3e-9, "samples": 1.1e-8},
    "smoothing": {"samples": 4.2e-9},
}


# --- counting -------------------------------------------------------------------------


Weights: TypeAlias = Mapping[int, float]


class Affine:
    """A count over grids of chunks that is affine in the number of chunks along each dim.

    Parameters
    ----------
    count : callable
        The count on a grid, which is asked for small ones only.
    least : mapping of str to int
        The smallest grid from which on this holds.
    """

    def __init__(self, count: Callable[[Counts], float], least: Counts) -> None:
        self.least = least
        self._count = functools.cache(
            lambda *grid: count(dict(zip(least, grid, strict=True)))
        )

    def __call__(self, counts: Counts) -> float:
        """The count on any grid."""
        return self.of({dim: self.along(dim, counts[dim]) for dim in self.least})

    def along(self, dim: str, n: int) -> dict[int, float]:
        """What so many chunks along a dim are, in small numbers of chunks."""
        least = self.least[dim]
        return {n: 1.0} if n <= least + 1 else {least: least + 1 - n, least + 1: n - least}

    def of(self, grids: Mapping[str, Weights]) -> float:
        """The count on a weighted sum of small grids."""
        total = 0.0
        for grid in itertools.product(*(grids[dim].items() for dim in self.least)):
            weight = math.prod(weight for _, weight in grid)
            total += weight * self._count(*(n for n, _ in grid)) if weight else 0.0
        return total


def plus(first: Weights, factor: float, second: Weights) -> dict[int, float]:
    """The sum of numbers of chunks, one of them times a factor."""
    keys = {*first, *second}
    return {n: first.get(n, 0.0) + factor * second.get(n, 0.0) for n in keys}


def further(parts: int, at_once: int) -> int:
    """Tasks that add up parts some at a time, beyond the last one.

    Where one part is left over, Dask runs its sum in one with what makes the part.
    """
    tasks = 0
    while parts > at_once:
        left_over = parts % at_once == 1
        parts = -(-parts // at_once)
        tasks += parts - left_over
    return tasks


def crossing(parts: int, workers: int, at_once: int) -> int:
    """How many parts travel where workers hold runs of them, added up some at a time.

    Each sum is made where most of its parts are.
    """
    owners = [part * workers // parts for part in range(parts)]
    travelled = 0
    while len(owners) > 1:
        groups = [owners[i : i + at_once] for i in range(0, len(owners), at_once)]
        owners = []
        for group in groups:
            ((owner, most),) = Counter(group).most_common(1)
            travelled += len(group) - most
            owners.append(owner)
    return travelled


# --- small runs -----------------------------------------------------------------------


@dataclasses.dataclass
class Round:
    """One application, or one iteration, that has run on one thread.

    Parameters
    ----------
    tasks : int
        Tasks that have run.
    largest : int
        Bytes that a task of the solver gets and makes at most.
    held : int
        Bytes of all arrays that were alive at once: what the round began with and, at
        the worst moment, results that are still needed.
    seconds : mapping of str to float
        Time by kind of work.
    """

    tasks: int = 0
    largest: int = 0
    held: int = 0
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: defaultdict(float)
    )


class _Recorder(Callback):
    """Records rounds of tasks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rounds = [Round()]
        self._started, self._read = 0.0, 0
        self._given: dict[Any, int] = {}

    def end(self, _: Any) -> None:
        """A round has ended."""
        self.rounds.append(Round())

    def _start_state(self, dsk: Any, state: Any) -> None:
        self._given = {key: sizeof(value) for key, value in state["cache"].items()}

    def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
        self._read = bytes_read(key, dsk, state)
        self._started = time.perf_counter()

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        seconds, task = time.perf_counter() - self._started, dsk[key]
        if not counts(key, task):
            return
        current = self.rounds[-1]
        current.tasks += 1
        current.seconds[_kind(key, task)] += seconds
        if task.func.__module__ == vectors.__name__:
            current.largest = max(current.largest, self._read + sizeof(result))
        made = (sizeof(v) for k, v in state["cache"].items() if k not in self._given)
        current.held = max(current.held, sum(self._given.values()) + sum(made))


def counts(key: Any, node: Any) -> bool:
    """Whether a node of a graph is a task, and not how Dask hands out a result."""
    return isinstance(node, Task) and "finalize-" not in str(key)


def bytes_read(key: Any, dsk: Any, state: Any) -> int:
    """Bytes of all that a task is given."""
    return sum(sizeof(state["cache"][k]) for k in dsk[key].dependencies)


def _kind(key: Any, task: Task) -> str:
    if task.func is graph._added:
        return "sums"
    partial = isinstance(key, tuple) and str(key[0]).endswith("-partial")
    return "products" if partial else "samples"


def recorded(make: Callable[[], Problem]) -> Round:
    """A round that has run; not the first one, in which there is more to do."""
    recorder = _Recorder()
    with dask.config.set(scheduler="synchronous"):
        problem = make()
        with recorder:
            problem.run(2, recorder.end)
    return recorder.rounds[1]


def measured(job: Job) -> dict[str, float]:
    """Seconds of one thread for a unit of each kind of work of a job."""
    chunk = {**job.sizes, **job.timed}
    seconds = recorded(lambda: job.problem(random, chunk, job.least)).seconds
    work = job.work(_sizes(chunk, job.least), job.least)
    return {kind: seconds[kind] / amount for kind, amount in work.items()}


def _sizes(chunk: Counts, counts: Counts) -> dict[str, int]:
    return {dim: size * counts.get(dim, 1) for dim, size in chunk.items()}


class _Runs:
    """What small runs of a job say of all others.

    Attributes
    ----------
    tasks : Affine
        Tasks of a round, but for sums of sums, where chunks are many.
    arrays : float
        Arrays of the size of the model that are alive at once, weights left out.
    largest : float
        Chunks of the model that a task of the solver holds.
    """

    def __init__(self, job: Job) -> None:
        def ran(grid: Counts) -> Round:
            return recorded(lambda: job.problem(random, job.trial, grid))

        self.tasks = Affine(lambda grid: ran(grid).tasks, job.least)
        largest = ran(job.larger)
        weights, vector = job.stored(_sizes(job.trial, job.larger))
        self.arrays = (largest.held - weights) / vector
        self.largest = largest.largest / job.stored(job.trial)[1]


_runs = functools.cache(_Runs)


# --- the model ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a round costs on so many workers.

    Parameters
    ----------
    workers : int
        How many there are.
    grid : mapping of str to int
        How those that have chunks share them out.
    chunks : float
        Chunks of each of those that have any.
    tasks : int
        Tasks of all workers together.
    memory, network : float
        Bytes that a worker holds, and that it gets from others.
    ideal, work : float
        Seconds of work of a worker: shared out evenly, and of the one that has most.
    """

    workers: int
    grid: Counts
    chunks: float
    tasks: int
    memory: float
    network: float
    ideal: float
    work: float

    def seconds(self, per_task: float, bandwidth: float) -> float:
        """How long a round takes; the scheduler works while workers do."""
        return max(self.tasks * per_task, self.work + self.network / bandwidth)

    def efficiency(self, per_task: float, bandwidth: float) -> float:
        """Which part of that is work that has to be done."""
        return self.ideal / self.seconds(per_task, bandwidth)

    def limit(self, per_task: float, bandwidth: float) -> str:
        """What keeps it from being efficient."""
        if self.efficiency(per_task, bandwidth) >= ENOUGH:
            return ""
        moving = self.network / bandwidth
        if self.tasks * per_task > self.work + moving:
            return "scheduler"
        return "network" if moving > self.work - self.ideal else "few chunks"


class Model:
    """What a round of a job costs, cut into chunks of one size.

    Parameters
    ----------
    job : Job
        The job.
    chunk : mapping of str to int
        Samples of a chunk along the dims that are cut.
    sizes : mapping of str to int, optional
        Samples along each dim; those of the job unless given.

    Attributes
    ----------
    counts : mapping of str to int
        Chunks along the dims that are cut.
    moved : Affine
        Bytes that tasks read beyond one chunk of each array, as `explain` has it.
    last : mapping of str to int
        Samples of the last chunk along these dims.
    peak : int
        Bytes that the largest task holds: of those in plans, of the solver's, and of sums.
    """

    def __init__(self, job: Job, chunk: Counts, sizes: Counts | None = None) -> None:
        self.job, self.sizes = job, dict(job.sizes if sizes is None else sizes)
        self.chunk = {d: min(n, chunk.get(d, n)) for d, n in self.sizes.items()}
        self.counts = {d: -(-self.sizes[d] // self.chunk[d]) for d in job.least}
        last = {d: self.sizes[d] - (n - 1) * self.chunk[d] for d, n in self.counts.items()}
        self.last = last
        self._runs = _runs(job)
        self.moved = Affine(
            lambda grid: sum(plan.bytes_moved for plan in self._plans(grid)), job.least
        )
        fully = {d: min(n, self.counts[d]) for d, n in job.larger.items()}
        self.peak = max(
            round(self._runs.largest * job.stored(self.chunk)[1]),
            *(plan.peak_bytes for plan in self._plans(fully)),
            *(
                min(s.parts, graph.ADDED_AT_ONCE) * s.part_bytes + s.part_bytes
                for s in self.sums
            ),
        )

    def _plans(self, grid: Counts) -> list[Explanation]:
        """The plans on a small grid; no chunk along a dim is the last one, alone."""
        last = {dim: size for dim, size in self.last.items() if grid[dim] != 1}
        grid = {dim: max(n, 1) for dim, n in grid.items()}
        return self.job.problem(empty, self.chunk, grid, last).plans()

    @property
    def spread(self) -> dict[str, int]:
        """Chunks along the dims that are shared out among workers."""
        return {dim: self.counts[dim] for dim in self.job.spread}

    @property
    def sums(self) -> list[Sums]:
        """The partial results that a round adds up."""
        return self.job.sums(self.chunk, self.counts) if self.job.sums else []

    @functools.cached_property
    def tasks(self) -> int:
        """Tasks of a round."""
        tasks = round(self._runs.tasks(self.counts))
        for parts in self.job.dots(self.counts):
            tasks += further(parts, vectors.ADDED_AT_ONCE)
        for sums in self.sums:
            tasks += sums.number * further(sums.parts, graph.ADDED_AT_ONCE)
        return tasks

    def network(self, grid: Counts) -> float:
        """Bytes between workers, each with a block of chunks, so many along each dim.

        Of what tasks read beyond their own chunks, what lies in other blocks.
        """
        inside = {d: self._cut(d, n, grid.get(d, 1)) for d, n in self.counts.items()}
        total = self.moved(self.counts) - self.moved.of(inside)
        for sums in self.sums:
            travelled = crossing(sums.parts, grid[sums.dim], graph.ADDED_AT_ONCE)
            total += sums.number * travelled * sums.part_bytes
        return total

    def _cut(self, dim: str, n: int, blocks: int) -> dict[int, float]:
        """What so many chunks along a dim are where nothing is read across blocks.

        One chunk more along a dim moves what it moves alone, and what goes over its
        border: that is taken away at each border of blocks.
        """
        least, alone = self.job.least[dim], self.job.alone[dim]
        if n == blocks and 1 in alone:
            return {1: n - 1.0, 0: 1.0}
        border = plus({least: -1.0, least + 1: 1.0}, -1.0, alone)
        return plus(self.moved.along(dim, n), 1.0 - blocks, border)

    @property
    def memory(self) -> float:
        """Bytes of all arrays that are alive at once."""
        weights, vector = self.job.stored(self.sizes)
        return weights + self._runs.arrays * vector

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk of what is shared out."""
        return max(self.job.stored(self.chunk))

    def work(self, machine: Machine) -> float:
        """Seconds of all work on one worker."""
        seconds = machine.seconds[self.job.name]
        amounts = self.job.work(self.sizes, self.counts)
        return sum(n * seconds[kind] for kind, n in amounts.items()) / machine.threads

    def cost(self, workers: int, machine: Machine) -> Cost:
        """The cost on so many workers, with the blocks of chunks that suit best."""
        grids = list(layouts(workers, self.spread))
        most = min(map(self._most, grids))
        even = (grid for grid in grids if self._most(grid) <= EVEN * most)
        costs = (self._on(grid, workers, machine) for grid in even)
        return min(costs, key=lambda one: one.seconds(0.0, NETWORKS[0]))

    def _most(self, grid: Counts) -> int:
        """Chunks of the worker that has most."""
        return math.prod(-(-self.spread[dim] // n) for dim, n in grid.items())

    def _on(self, grid: Counts, workers: int, machine: Machine) -> Cost:
        """The cost on workers laid out as a grid."""
        work, chunks = self.work(machine), math.prod(self.spread.values())
        busy = math.prod(grid.values())
        return Cost(
            workers=workers,
            grid=grid,
            chunks=chunks / busy,
            tasks=self.tasks,
            memory=self.memory / busy + machine.threads * self.peak,
            network=self.network(grid) / busy,
            ideal=work / workers,
            work=work * self._most(grid) / chunks,
        )


def layouts(workers: int, counts: Counts) -> Iterator[dict[str, int]]:
    """Grids of at most so many workers, none along a dim that has no more chunks."""
    first, *others = counts
    if not others:
        yield {first: min(workers, counts[first])}
        return
    rest = {dim: counts[dim] for dim in others}
    for n in range(1, min(workers, counts[first]) + 1):
        for layout in layouts(workers // n, rest):
            yield {first: n, **layout}


# --- tables ---------------------------------------------------------------------------


def tables(machine: Machine, jobs: Sequence[Job] = tuple(JOBS.values())) -> Iterator[str]:
    """A table for each job, in Markdown."""
    for job in jobs:
        models = [Model(job, chunk) for chunk in job.chunks]
        yield f"### {job.title}\n"
        yield from _plans(models, machine)
        yield from _costs(models, machine)


def _plans(models: Sequence[Model], machine: Machine) -> Iterator[str]:
    """What chunks cost, and how many workers one scheduler keeps busy."""
    yield line(
        "chunk",
        "of the model",
        "chunks",
        "tasks",
        "per chunk",
        "work per chunk",
        "a task holds",
        *(f"workers ≥ 80 %, {1e3 * s:g} ms" for s in TASK_SECONDS),
    )
    yield line(*[":--"] * 2, *["--:"] * 7)
    for model in models:
        chunks = math.prod(model.spread.values())
        yield line(
            "×".join(str(model.chunk[dim]) for dim in model.job.spread),
            _bytes(model.chunk_bytes),
            f"{chunks:,}",
            _number(model.tasks),
            f"{model.tasks / chunks:.1f}",
            _seconds(model.work(machine) / chunks),
            _bytes(model.peak),
            *(f"{n:,}" for n in most_workers(model, machine)),
        )
    yield ""


def _costs(models: Sequence[Model], machine: Machine) -> Iterator[str]:
    """What a round costs on all numbers of workers."""
    settings = list(itertools.product(TASK_SECONDS, NETWORKS))
    yield line(
        "chunk",
        "workers",
        "chunks each",
        "memory each",
        "network each",
        "work each",
        *(f"scheduler, {1e3 * s:g} ms" for s in TASK_SECONDS),
        *(f"{1e3 * s:g} ms, {8e-9 * b:g} Gb/s" for s, b in settings),
        "limit",
    )
    yield line(":--", *["--:"] * (7 + len(settings)), ":--")
    for model in models:
        for workers in WORKERS:
            cost = model.cost(workers, machine)
            limits = [cost.limit(*setting) for setting in settings]
            yield line(
                _bytes(model.chunk_bytes),
                f"{workers:,}",
                f"{cost.chunks:,.{0 if cost.chunks >= 10 else 1}f}",
                _bytes(cost.memory),
                _bytes(cost.network),
                _seconds(cost.ideal),
                *(_seconds(cost.tasks * s) for s in TASK_SECONDS),
                *(f"{cost.efficiency(*setting):.0%}" for setting in settings),
                ", ".join(dict.fromkeys(filter(None, limits))),
            )
    yield ""


def most_workers(model: Model, machine: Machine) -> list[int]:
    """The largest round numbers of workers that are efficient, at 10 Gb/s."""
    numbers = [n * 10**k for k in range(4) for n in (1, 2, 5)] + [10_000]
    costs = [model.cost(n, machine) for n in numbers]
    return [
        max((c.workers for c in costs if c.efficiency(s, NETWORKS[0]) >= ENOUGH), default=0)
        for s in TASK_SECONDS
    ]


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _bytes(count: float) -> str:
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    k = min(int(math.log(max(count, 1), 1024)), len(units) - 1)
    return f"{_number(count / 1024**k)} {units[k]}"


def _seconds(count: float) -> str:
    return f"{_number(count)} s" if count >= 1 else f"{_number(1e3 * count)} ms"


def _number(count: float) -> str:
    """Two digits, at least."""
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--job", choices=JOBS, help="this one only")
    parser.add_argument("--threads", type=int, default=1, help="threads of a worker")
    parser.add_argument("--measure", action="store_true", help="time kernels here first")
    parser.add_argument("--check", action="store_true", help="compare with real runs")
    asked = parser.parse_args()
    jobs = [JOBS[asked.job]] if asked.job else list(JOBS.values())
    seconds = HERE
    if asked.measure:
        seconds = {job.name: measured(job) for job in jobs}
        print(f"Seconds of one thread for a unit of work: {seconds}\n")
    if asked.check:
        from benchmarks.scale_check import checks

        lines = checks(jobs)
    else:
        lines = tables(Machine(seconds, asked.threads), jobs)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
