"""Nothing is computed before somebody asks, and graphs stay small."""

import itertools
import pathlib
import pickle
import random
import subprocess
import sys

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import CATALOGUE, each_of, gather


def refuse(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.fixture
def nothing_computed():
    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def lazy():
    return xr.DataArray(
        da.ones((6, 40), chunks=(2, 10)),
        coords={"shot": np.arange(6), "time": 0.5 * np.arange(40)},
        dims=("shot", "time"),
    )


def members(A, seed=0):
    """Lazy members of the domain."""
    x = A.domain.random(seed)
    if isinstance(x, dict):
        return {name: block.chunk() for name, block in x.items()}
    return x.chunk()


def all_lazy(y):
    arrays = y.values() if isinstance(y, dict) else [y]
    return all(dask.is_dask_collection(array.data) for array in arrays)


@each_of(CATALOGUE)
def test_operators_read_nothing(entry, nothing_computed):
    A = entry.build(gather(entry.time))
    of_blocks = isinstance(A.domain, xl.Blocks)  # whose gram would map blocks to blocks
    for B in (A, A.H, *([] if of_blocks else [A.gram])):
        assert all_lazy(B @ members(B))
        assert pickle.loads(pickle.dumps(B)) == B
        assert hash(B) == hash(pickle.loads(pickle.dumps(B)))
        assert "domain" in repr(B)


@pytest.mark.parametrize("n", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_products_and_sums_read_nothing(nothing_computed, n):
    """Each n-th operator with some others, where they meet, and a stack of both."""
    made = 0
    d, rng = gather(), random.Random(0)
    operators = [entry.build(d) for entry in CATALOGUE if entry.time == "even"]
    for A, B in ((A, B) for A in operators[::n] for B in rng.sample(operators, 2)):
        for combine in (
            lambda a, b: a @ b,
            lambda a, b: a + b,
            lambda a, b: xl.VStack([a, b]),
        ):
            try:
                C = combine(A, B)
            except (xl.LabelError, xl.UnitError):
                continue
            made += 1
            assert all_lazy(C @ members(C))
    assert made > 300 / n


def test_lazy_weights_stay_lazy(lazy, nothing_computed):
    weights, keep = 2 * lazy, lazy > 0
    for build in (lambda: xl.Diagonal(weights), lambda: xl.Mask(keep)):
        A = build()
        assert build() == A
        assert A.token == build().token
        assert xl.Diagonal(3 * lazy) != A
        for data in (
            lazy,
            lazy.copy(data=np.ones(lazy.shape)),
            lazy.chunk(time=7, shot=-1),
        ):
            assert all_lazy(A @ data)
            assert all_lazy((A @ xl.FirstDerivative(lazy.time)).H @ data)


def test_weights_of_other_chunks(lazy):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, *lazy.shape))
    for data, weights in itertools.product((None, (2, 10), (5, 7)), repeat=2):
        d, v = lazy.copy(data=x), lazy.copy(data=w)
        d = d if data is None else d.chunk(shot=data[0], time=data[1])
        v = v if weights is None else v.chunk(shot=weights[0], time=weights[1])
        y = xl.Diagonal(v) @ d
        assert all_lazy(y) == (data is not None or weights is not None)
        np.testing.assert_array_equal(y.values, x * w)


def test_numpy_stays_numpy():
    for entry in CATALOGUE:
        if "lazy" in str(entry):  # its weights are
            continue
        A = entry.operator
        y = A @ A.domain.random(3)
        for array in y.values() if isinstance(y, dict) else [y]:
            assert type(array.data) is np.ndarray


def test_numpy_needs_no_dask_arrays():
    """On NumPy all operators work where dask.array cannot even be imported."""
    code = """
import sys
sys.modules["dask.array"] = None
from tests.catalogue import CATALOGUE, gather
for entry in CATALOGUE:
    if "lazy" not in entry.name:
        A = entry.build(gather(entry.time))
        for B in (A, A.H):
            B @ B.domain.random(3)
print("done")
"""
    root = pathlib.Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "done\n", run.stderr


def test_inspecting_reads_nothing(lazy, nothing_computed):
    """Comparing, hashing and showing, of operators with lazy weights and of results."""
    lat = xr.DataArray(da.ones((6, 40), chunks=3), dims=("shot", "time"))
    x = lazy.assign_coords(lat=lat)
    made = []
    for _ in range(2):
        A = xl.Diagonal(x) @ xl.Mask(x > 0) @ xl.FirstDerivative(x.time)
        made += [A, A.H, 2 * A + A, xl.VStack([A, A.gram])]
    for A, again in zip(made[:4], made[4:], strict=True):
        assert again == A
        assert hash(A) == hash(again)
        assert repr(A) == repr(again)
        assert str(A)
        assert A.domain == again.domain
        assert A.domain.matches(again.domain)
        assert repr(A.range)
    assert len(set(made)) == 4
    y = made[0] @ x
    assert dask.is_dask_collection(y.lat.data)
    assert repr(y)
    assert x.lops.apply(xl.FirstDerivative, "time").chunks == x.chunks


def own_tasks(y, x):
    return y.data.__dask_graph__().keys() - x.data.__dask_graph__().keys()


@pytest.mark.parametrize("cls", [xl.FirstDerivative, xl.SecondDerivative])
def test_tasks_of_a_stencil(lazy, cls):
    A = cls(lazy.time)
    assert len(own_tasks(A @ lazy, lazy)) <= 3 * 12 + 1  # the operator itself is one
    whole = lazy.chunk(time=-1)
    assert len(own_tasks(A @ whole, whole)) <= 3 + 1


def test_large_weights_are_in_the_graph_once():
    n = 200_000
    weights = xr.DataArray(np.random.default_rng(0).random(n), dims="time")
    x = xr.DataArray(da.zeros((50, n), chunks=(1, n // 4)), dims=("shot", "time"))
    some = np.arange(0, n, 2)
    for A, size in (
        (xl.Diagonal(weights), 1.1 * weights.nbytes),
        (xl.Mask(weights > 0.5), 1.1 * n),
        # A restriction holds indices, those of each chunk, and their order.
        (xl.Restriction(x.time, some), 5 * some.nbytes),
        (xl.Restriction(x.time, some[::-1]), 5 * some.nbytes),
        (xl.FFT(x.time), 0),
    ):
        for y, steps in ((A @ x, 1), (A.H @ (A @ x), 2)):
            tasks = dict(y.data.__dask_graph__()).values()
            made = sum(len(cloudpickle.dumps(task)) for task in tasks)
            assert made < steps * size + 2500 * len(tasks)  # keys and slices


@each_of(CATALOGUE)
def test_graphs_travel(entry):
    """Graphs pickle, and make the same numbers elsewhere."""
    A = entry.operator
    for B in (A, A.H):
        y = B @ members(B)
        for block in y.values() if isinstance(y, dict) else [y]:
            there = pickle.loads(pickle.dumps(block))
            assert there.data.name == block.data.name
            np.testing.assert_array_equal(
                there.compute(scheduler="sync"), block.compute(scheduler="sync")
            )


@each_of(CATALOGUE)
def test_one_array_under_two_names_of_dims(entry):
    """The same Dask array with its dims named otherwise makes other keys."""
    A = entry.operator
    if isinstance(A.domain, xl.Blocks):
        return
    n = dict(A.domain.sizes)
    one = next(iter(n))
    data = da.from_array(
        np.random.default_rng(0).standard_normal((*n.values(), n[one])), chunks=4
    )
    first = xr.DataArray(data, A.domain.coords, (*n, "shot"))
    turned = ["shot" if dim == one else dim for dim in n]
    second = xr.DataArray(data, A.domain.coords, (*turned, one))
    y, z = A @ first, A @ second
    together = dask.compute(y, z, scheduler="sync")
    for lazy, done in zip((first, second), together, strict=True):
        alone = A @ lazy.compute(scheduler="sync")
        for key in alone if isinstance(alone, dict) else [...]:
            np.testing.assert_allclose(
                done[key].values, alone[key].values, rtol=0, atol=1e-9
            )


def test_one_array_under_two_labels(lazy):
    x = lazy.copy(data=da.from_array(np.random.default_rng(0).random((6, 40)), chunks=5))
    slow = x.assign_coords(time=2.0 * x.time)
    assert slow.data.name == x.data.name
    for cls in (xl.FirstDerivative, xl.SecondDerivative):
        y, z = dask.compute(cls(x.time) @ x, cls(slow.time) @ slow, scheduler="sync")
        power = 2 if cls is xl.SecondDerivative else 1
        np.testing.assert_allclose(y.values, z.values * 2**power, rtol=1e-14)


def test_keys_tell_what_is_computed(lazy):
    def name(A):
        return (A @ lazy).data.name

    D = xl.FirstDerivative(lazy.time)
    assert name(D) == name(xl.FirstDerivative(lazy.time))
    others = [
        xl.FirstDerivative(lazy.time, edge=True),
        xl.FirstDerivative(lazy.time, kind="forward"),
        xl.FirstDerivative(lazy.time.assign_coords(time=lazy.time)),
        2 * D,
        D.H,
        xl.SecondDerivative(lazy.time),
        xl.Diagonal(xr.DataArray(np.arange(40.0), dims="time")),
        xl.Diagonal(xr.DataArray(np.arange(40.0) + 1, dims="time")),
    ]
    names = [name(A) for A in (D, *others)]
    assert names[3] == names[0]  # the same labels once more
    assert len(set(names)) == len(names) - 1


def test_chunks_keep_their_size(lazy):
    """A whole axis is had by cutting the others, not by larger chunks."""
    x = lazy.chunk(shot=6, time=10)
    y = xl.FFT(x.time) @ x
    assert y.chunksizes["freq_time"] == (40,)
    assert max(y.chunksizes["shot"]) < 6
    np.testing.assert_allclose(y.values, np.fft.fft(x.values, norm="ortho"), atol=1e-12)
