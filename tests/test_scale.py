"""The model of large jobs: what it counts against graphs and runs of small ones."""

import itertools
import math
import tracemalloc

import dask
import pytest

pytest.importorskip("distributed")

from benchmarks import scale
from benchmarks.jobs import JOBS, MDC, POST_STACK, SMOOTHING, empty, random
from benchmarks.scale import Machine, Model
from benchmarks.scale_check import Placed, cluster, on_cluster, on_threads

# Numbers of chunks along the dims that are cut, and by how much the last ones are shorter.
GRIDS = {
    "post-stack": [((4, 3), (0, 0)), ((1, 7), (0, 2)), ((13, 5), (1, 1)), ((6, 1), (2, 0))],
    "mdc": [((5, 7, 2), (0, 0, 0)), ((10, 9, 3), (1, 2, 3)), ((9, 17, 2), (0, 1, 0))],
    "smoothing": [((4, 3, 5), (0, 0, 0)), ((1, 3, 4), (0, 3, 1)), ((2, 1, 6), (2, 0, 0))],
}
CASES = [
    pytest.param(name, *case, marks=pytest.mark.slow if later else ())
    for name, cases in GRIDS.items()
    for later, case in enumerate(cases)
]


def small(job, grid, shorter):
    """The model of a job on a small grid."""
    cut = dict(zip(job.least, grid, strict=True))
    less = dict(zip(job.least, shorter, strict=True))
    sizes = {d: n * cut.get(d, 1) - less.get(d, 0) for d, n in job.trial.items()}
    return Model(job, {d: job.trial[d] for d in job.least}, sizes)


def problem(model, make=random):
    return model.job.problem(make, model.chunk, model.counts, model.last)


@pytest.mark.parametrize(("name", "grid", "shorter"), CASES)
def test_tasks_are_those_that_run(name, grid, shorter):
    model = small(JOBS[name], grid, shorter)
    assert tuple(model.counts.values()) == grid
    assert scale.recorded(lambda: problem(model)).tasks == model.tasks


@pytest.mark.parametrize(("name", "grid", "shorter"), CASES)
def test_bytes_are_those_of_plans(name, grid, shorter):
    model = small(JOBS[name], grid, shorter)
    plans = problem(model, empty).plans()
    assert model.moved(model.counts) == sum(plan.bytes_moved for plan in plans)
    assert model.peak >= max(plan.peak_bytes for plan in plans)


def test_tasks_on_threads():
    model = small(POST_STACK, (5, 4), (1, 0))
    assert on_threads(problem(model)).tasks == model.tasks


BLOCKS = [
    ("post-stack", (6, 4), (0, 0), (3, 2)),
    ("post-stack", (9, 5), (2, 1), (2, 1)),
    ("post-stack", (4, 6), (0, 0), (4, 2)),
    ("smoothing", (4, 4, 4), (0, 0, 0), (2, 2, 2)),
    ("smoothing", (5, 4, 7), (1, 0, 3), (1, 2, 3)),
    ("smoothing", (4, 1, 4), (0, 0, 0), (4, 1, 2)),
]


@pytest.mark.parametrize(("name", "grid", "shorter", "workers"), BLOCKS)
def test_bytes_between_workers(name, grid, shorter, workers):
    """What tasks read of what lies elsewhere, counted in the graphs themselves."""
    model = small(JOBS[name], grid, shorter)
    layout = dict(zip(model.job.least, workers, strict=True))
    place = Placed(None, model, layout).place
    crossed = 0
    for graph in graphs(problem(model)):
        values = dict(zip(graph, dask.get(graph, list(graph)), strict=True))
        readers = {
            (key, place(task))
            for task, node in graph.items()
            for key in getattr(node, "dependencies", ())
            if None not in (place(key), place(task)) and place(key) != place(task)
        }
        crossed += sum(nbytes(values[key]) for key, _ in readers)
    assert model.network(layout) == crossed


def graphs(problem):
    """Those of the operator, and of its adjoint where that is used."""
    operator, x, y = problem
    for result in [operator @ x, *([] if y is None else [operator.H @ y])]:
        graph = {}
        for array in result.values() if isinstance(result, dict) else [result]:
            graph.update(array.data.__dask_graph__())
        yield graph


def nbytes(value):
    return sum(map(nbytes, value)) if isinstance(value, tuple) else value.nbytes


def test_many_chunks_cost_in_proportion():
    """Twice the chunks along a dim, twice the tasks, but for those at the ends."""
    once = Model(SMOOTHING, SMOOTHING.chunks[0])
    sizes = {**SMOOTHING.sizes, "time": 2 * SMOOTHING.sizes["time"]}
    twice = Model(SMOOTHING, SMOOTHING.chunks[0], sizes)
    assert 2 * once.tasks < twice.tasks < 2.02 * once.tasks
    assert twice.memory == 2 * once.memory


def test_tasks_of_many_chunks_are_as_many_for_each():
    chunks = [Model(POST_STACK, chunk) for chunk in POST_STACK.chunks]
    each = [m.tasks / math.prod(m.counts.values()) for m in chunks]
    assert max(each) < 1.01 * min(each)
    assert [m.tasks for m in chunks] == sorted((m.tasks for m in chunks), reverse=True)


@pytest.mark.parametrize("name", JOBS)
def test_costs_follow_workers(name):
    job = JOBS[name]
    machine = Machine({name: dict.fromkeys(("samples", "products", "sums"), 1e-9)})
    model = Model(job, job.chunks[1])
    costs = [model.cost(workers, machine) for workers in (1, 10, 100, 1_000)]
    assert costs[0].network == 0
    assert costs[0].ideal == pytest.approx(costs[0].work)
    for fewer, more in itertools.pairwise(costs):
        assert more.tasks == fewer.tasks
        assert more.ideal == pytest.approx(fewer.ideal / 10)
        assert more.memory < fewer.memory
        assert more.seconds(0, 1e9) < fewer.seconds(0, 1e9)
        assert more.efficiency(1e-3, 1e9) <= fewer.efficiency(1e-3, 1e9) * 1.01


def test_no_data_are_made():
    tracemalloc.start()
    try:
        for job in (POST_STACK, MDC):
            Model(job, job.chunks[-1]).cost(100, Machine(scale.HERE))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**28  # a chunk is eight times as large


@pytest.mark.parametrize(
    ("parts", "at_once", "tasks"),
    [(8, 8, 0), (9, 8, 1), (10, 8, 2), (64, 8, 8), (65, 8, 9)],
)
def test_sums_of_sums(parts, at_once, tasks):
    assert scale.further(parts, at_once) == tasks


def test_parts_that_travel():
    assert scale.crossing(8, 1, 8) == 0
    assert scale.crossing(8, 2, 8) == 4
    assert scale.crossing(64, 8, 8) == 7  # each sum of eight is at home
    assert scale.crossing(5, 5, 8) == 4


def test_tables_can_be_read():
    lines = list(scale.tables(Machine(scale.HERE), [POST_STACK]))
    cells = [line.count("|") for line in lines if line.startswith("|")]
    assert len(cells) == 2 + len(POST_STACK.chunks) + 2 + 4 * len(POST_STACK.chunks)
    assert len(set(cells)) == 2


@pytest.fixture(scope="module")
def client():
    with cluster(2) as client:
        yield client


@pytest.mark.parametrize("name", ["post-stack", "smoothing"])
def test_what_a_cluster_runs(client, name):
    """Tasks exactly; bytes but for what messages are wrapped in."""
    job = JOBS[name]
    chunk, cut = SMALLER[name]
    model = Model(job, chunk, {**job.sizes, **cut})
    layout = model.cost(2, Machine(scale.HERE)).grid
    ran = on_cluster(model, client, layout)
    assert ran.tasks == model.tasks
    assert model.network(layout) <= ran.moved <= 1.1 * model.network(layout) + 2**16


SMALLER = {
    "post-stack": (
        {"inline": 24, "crossline": 24},
        {"inline": 90, "crossline": 46, "time": 900},
    ),
    "smoothing": (
        {"lat": 96, "lon": 96, "time": 160},
        {"lat": 96, "lon": 190, "time": 600},
    ),
}
