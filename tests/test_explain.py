"""Plans that can be read: what `explain` says against what graphs hold and tasks do."""

import collections
import tracemalloc
from unittest import mock

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from dask.task_spec import Task

import xlops as xl
from xlops.engine import graph

SIZES = {"offset": 24, "time": 60, "depth": 10}


@pytest.fixture
def d():
    values = np.random.default_rng(0).standard_normal(tuple(SIZES.values()))
    return xr.DataArray(values, dims=tuple(SIZES), attrs={"units": "Pa"})


D1, D2 = xl.FirstDerivative, xl.SecondDerivative

OPERATORS = {
    "one sample each": lambda d: xl.Mask(d > 0),
    "stencil": lambda d: D1(d.time),
    "adjoint": lambda d: D2(d.offset, "forward").H,
    "product along a dim": lambda d: D1(d.time) @ D2(d.time) @ D1(d.time),
    "product over dims": lambda d: D1(d.time) @ D2(d.offset) @ xl.Diagonal(d),
    "sum": lambda d: D2(d.time) + D2(d.offset) + D2(d.depth),
    "whole": lambda d: xl.FFT(d.time),
    "whole twice": lambda d: xl.FFT(d.offset) @ xl.FFT(d.time, real=True),
    "filter": lambda d: xl.FFT(d.time).H @ xl.FFT(d.time) @ D1(d.time),
    "selection": lambda d: xl.Restriction(d.time, [2, 3, 50]),
    "turned selection": lambda d: xl.Restriction(d.time, [50, 3, 2, 7]),
    "running sum": lambda d: xl.CausalIntegration(d.time),
    "adjoint of running sum": lambda d: xl.CausalIntegration(d.time).H @ D1(d.time),
    "total": lambda d: xl.Sum(d.time),
    "stack": lambda d: xl.VStack({"a": D1(d.time), "b": D2(d.offset)}) @ D1(d.depth),
    "the same twice": lambda d: (
        xl.CausalIntegration(d.time) + xl.CausalIntegration(d.time) + xl.Flip(d.time)
    ),
    "moved twice": lambda d: xl.Roll(d.time) + xl.Roll(d.time) + xl.Flip(d.time),
    "lazy weights": lambda d: xl.Diagonal(d.chunk(time=11)) @ D1(d.time),
}
CHUNKS = {
    "time": {"time": 15},
    "two dims": {"time": 20, "offset": 8},
    "another dim": {"depth": 5},
    "thin": {"time": 1, "depth": 5},
}


def tasks_of(graph):
    """The tasks of a graph that compute something."""
    return {key for key, node in graph.items() if isinstance(node, Task)}


def arrays_of(result):
    return list(result.values()) if isinstance(result, dict) else [result]


def graph_of(result):
    graph = {}
    for array in arrays_of(result):
        graph.update(array.__dask_graph__())
    return graph


class Counted(Callback):
    """Counts the tasks that a scheduler runs."""

    def __init__(self):
        self.keys = []

    def _pretask(self, key, dsk, state):
        self.keys.append(key)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("name", OPERATORS)
def test_tasks_are_those_of_the_graph_and_of_the_scheduler(d, name, chunks):
    A, x = OPERATORS[name](d), d.chunk(chunks)
    plan = A.explain(x)
    result = A @ x
    graph, given = graph_of(result), set(x.__dask_graph__())
    given |= {key for key in graph if "lazy weights" in name and "xarray-" in str(key)}
    made = tasks_of(graph) - given
    assert plan.tasks == len(made)
    counted = Counted()
    with dask.config.set({"optimization.fuse.active": False}), counted:
        dask.compute(result, scheduler="sync", optimize_graph=False)
    assert len([key for key in counted.keys if key in made]) == plan.tasks
    assert len(counted.keys) == len(set(counted.keys))
    chunked = sum(row.pieces for row in plan.rows[-1:])
    assert chunked == int(np.prod([len(c) for c in arrays_of(result)[-1].chunks]))


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(
    "name", ["one sample each", "stencil", "adjoint", "product over dims", "sum"]
)
def test_bytes_are_those_that_tasks_read(d, name, chunks):
    """Run every task of the graph, and weigh what it reads and makes."""
    A, x = OPERATORS[name](d), d.chunk(chunks)
    plan = A.explain(x)
    graph = graph_of(A @ x)
    given = set(x.__dask_graph__())
    keys = list(graph)
    values = dict(zip(keys, dask.get(graph, keys), strict=True))
    weights = {k: v.nbytes for k, v in values.items() if isinstance(v, np.ndarray)}
    pairs = {k: v for k, v in values.items() if isinstance(v, tuple)}  # of strips
    weights |= {k: sum(strip.nbytes for strip in v) for k, v in pairs.items()}
    moved, largest, readers = 0, 0, collections.Counter()
    for key in tasks_of(graph) - given:
        if "-strip-" in key[0]:
            continue
        held = weights[key]
        for read in graph[key].dependencies:
            if read not in weights:
                continue  # the plan
            held += weights[read]
            readers[read] += 1
            if "-strip-" in read[0] or readers[read] > 1:
                moved += weights[read]
        largest = max(largest, held)
    assert plan.bytes_moved == moved
    if "product" in name:
        assert plan.peak_bytes >= largest
        assert plan.peak_bytes <= 4 * largest
    else:
        assert plan.peak_bytes == largest


def test_what_numpy_holds(d):
    big = xr.DataArray(np.ones((64, 512, 256)), dims=("offset", "time", "depth"))
    for A in (D1(big.time), D1(big.time) @ D2(big.offset) @ D1(big.depth)):
        plan = A.explain(big)
        assert plan.tasks == plan.bytes_moved == 0
        _ = A @ big.isel(offset=slice(0, 64))  # kernels are loaded
        tracemalloc.start()
        A @ big
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0.9 * peak <= plan.peak_bytes - big.nbytes
        assert plan.peak_bytes - big.nbytes <= 1.5 * peak


def test_products_on_the_threads_of_blas_are_one_piece():
    """And so is what is small: explained as it runs."""
    matrix = xr.DataArray(np.ones((512, 4096)), dims=("receiver", "source"))
    x = xr.DataArray(np.ones((4096, 32)), dims=("source", "shot"))
    (row,) = xl.MatrixMult(matrix, "source").explain(x).rows
    assert row.pieces == 1
    (row,) = (D1(x.shot) @ D2(x.shot)).explain(x[:10]).rows
    assert row.pieces == 1


def test_what_chains_in_one_pass_hold():
    """Nothing is kept between their steps, whatever they are applied to."""
    x = xr.DataArray(np.ones((64, 400, 32)), dims=("offset", "time", "depth")).chunk()
    size = x.nbytes
    mean = xl.Smoothing1D(x.depth, 41)
    chain = D1(x.time) @ D2(x.time) @ D1(x.time)
    assert chain.explain(x).peak_bytes == 2 * size
    on_what_is_made = (chain @ mean).explain(x).peak_bytes
    with mock.patch.object(graph, "SMALL_CHUNK", 2**40):  # one tile
        assert (chain @ mean).explain(x).peak_bytes == 3 * size
    assert on_what_is_made <= 3 * size


def test_nothing_is_computed(d):
    def refuse(*args, **kwargs):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        for build in OPERATORS.values():
            build(d).explain(d.chunk(time=20))
    huge = xr.DataArray(
        np.broadcast_to(0.0, (10**4, 10**4, 10**4)), dims=("offset", "time", "depth")
    )
    assert xl.FFT(huge.time).explain(huge).peak_bytes > 10**12


def test_rows_say_what_pieces_need(d):
    x = d.chunk(time=20, offset=8)
    (row,) = (D1(d.time) @ D2(d.time) + D2(d.offset, "forward")).explain(x).rows
    assert row.windows == {"time": "halo 2 + 2", "offset": "halo 0 + 2"}
    assert row.dims_in == row.dims_out == x.dims
    rechunk, row = xl.FFT(d.time).explain(x).rows
    assert rechunk.name == "rechunk"
    assert rechunk.windows == row.windows == {"time": "whole"}
    assert row.dims_out == ("offset", "freq_time", "depth")
    (row,) = xl.CausalIntegration(d.time).explain(x).rows
    assert row.windows == {"time": "running sum"}
    assert row.tasks == {"chunks": 9, "totals": 6, "sums": 3}
    (row,) = xl.Sum(d.time).explain(x).rows
    assert row.windows == {"time": "in pieces, added up"}
    assert row.tasks == {"partial results": 9, "sums": 3}


def test_words(d):
    d = d.assign_coords(time=("time", 0.25 * np.arange(60), {"units": "s"}))
    A = D1(d.time) @ xl.Mask(d > 0)
    plan = A.explain(d.chunk(time=20))
    text = repr(plan)
    assert text.splitlines()[0].endswith("Pa → Pa s-1")
    assert "FirstDerivative(time) @ Mask(offset, time, depth)" in text
    assert "halo 1 + 1" in text
    assert "3 chunks + 3 strips" in text or "3 strips + 3 chunks" in text
    page = plan._repr_html_()
    assert page.count("<table>") == 1
    assert page.count("<tr>") == 1 + len(plan.rows)
    named = xl.Identity(d.time, name="<b>").explain(d)
    assert "<b>" not in named._repr_html_()
    assert "NumPy" in repr(A.explain(d))
    stack = xl.VStack({"a": D1(d.time), "b": xl.Identity(d)})
    assert repr(stack.explain(d)).splitlines()[0].endswith("Pa → a Pa s-1, b Pa")


def test_errors_come_before(d):
    with pytest.raises(xl.LabelError, match="dim 'time' is missing"):
        D1(d.time).explain(d.isel(time=0))
    with pytest.raises(xl.DTypeError):
        D1(d.time).chunks_for(d.values)
    with pytest.raises(xl.LabelError, match="acts on blocks"):
        xl.VStack({"a": D1(d.time)}).H.chunks_for({"a": d})


def test_chunks_that_cost_least():
    def of(**sizes):
        return xr.DataArray(da.zeros(tuple(sizes.values())), dims=tuple(sizes))

    x = of(shot=1000, offset=500, time=2000)  # 8 GB
    chunks = D1(x.time).chunks_for(x)
    assert chunks["time"] == 2000
    assert 2**23 <= 8 * np.prod(list(chunks.values())) <= 2**25
    assert xl.FFT(x.offset).chunks_for(x)["offset"] == 500
    both = (xl.FFT(x.offset) @ xl.FFT(x.time)).chunks_for(x)
    assert both == {"shot": 4, "offset": 500, "time": 2000}
    # Dims with a halo are cut last, and not into short pieces.
    line = of(time=3 * 10**6).astype(complex)
    (size,) = D2(line.time).chunks_for(line).values()
    assert 2**24 <= 16 * size <= 2**25
    small = of(time=100, offset=10)
    assert D1(small.time).chunks_for(small) == {"time": 100, "offset": 10}
    # What it says is what it takes: no rechunk, fewest tasks.
    plan = (xl.FFT(x.offset) @ D1(x.time)).explain(x.chunk(both))
    assert [row.name for row in plan.rows] == ["FFT(offset) @ FirstDerivative(time)"]
