"""Other names and other orders of dims."""

import pickle

import dask
import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import gather


@pytest.fixture
def d():
    return gather()


def tasks(y, x):
    """Tasks that y has beyond those of x; the plan is a node, but not a task."""
    return len(set(y.__dask_graph__()) - set(x.__dask_graph__())) - 1


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, {"time": 3, "offset": 2}])
def test_rename_is_what_xarray_calls_rename(d, chunks):
    x = d if chunks is None else d.copy(data=d.variable.chunk(chunks).data)
    for names in (
        {"time": "lag"},
        {"offset": "x", "depth": "z"},
        {"time": "depth", "depth": "time"},
        {"time": "depth", "depth": "offset", "offset": "z"},
    ):
        y = xl.Rename(d, names) @ x
        expected = x.rename(names)
        assert set(y.dims) == set(expected.dims)
        assert y.transpose(*expected.dims, transpose_coords=False).identical(expected)
        back = xl.Rename(d, names).H @ y
        assert back.transpose(*x.dims, transpose_coords=False).identical(x)


def test_one_coordinate_takes_one_name(d):
    assert xl.Rename(d.time, "lag") == xl.Rename(d.time, {"time": "lag"})
    assert xl.Rename(d.time, "lag") != xl.Rename(d.time, "t")
    assert (xl.Rename(d.time, "lag") @ d).dims == ("lag", "offset", "depth")
    assert str(xl.Rename(d.time, "lag")) == "Rename(time → lag)"


def test_the_very_labels_come_back(d):
    R = xl.Rename(d.offset, "x")
    y = (R @ d).drop_vars(["receiver", "arrival"]).assign_coords(x=np.arange(1.0, 7) * 10)
    back = R.H @ y
    for name in ("offset", "receiver", "live"):
        assert back[name].variable.identical(d[name].variable)


def test_what_has_the_name_gives_way(d):
    y = xl.Rename(d.time, "shot_id") @ d
    assert y.coords["shot_id"].dims == ("shot_id",)
    bare = xl.Rename(d.drop_vars("time").time, "shot_id") @ d.drop_vars("time")
    assert "shot_id" not in bare.coords


def test_it_is_the_remedy_that_errors_name(d):
    green = xr.DataArray(np.ones((6, 6)), dims=("source", "receiver"))
    G = xl.MatrixMult(green, "source")
    with pytest.raises(xl.LabelError, match="rename"):
        G @ G
    x = xr.DataArray(np.arange(6.0), dims="source")
    twice = G @ xl.Rename(green.receiver, "source") @ G
    np.testing.assert_array_equal((twice @ x).values, np.full(6, 90.0))
    xl.dottest(twice)


def test_one_task_per_chunk(d):
    """A name between two derivatives neither cuts them apart nor costs a task."""
    x = gather(sizes=(12, 6, 5)).chunk(time=3)
    R = xl.Rename(x.time, "lag")
    chain = xl.FirstDerivative((R @ x).lag) @ R @ xl.FirstDerivative(x.time)
    plain = xl.FirstDerivative(x.time) @ xl.FirstDerivative(x.time)
    assert len(chain.explain(x).rows) == 1
    assert chain.explain(x).tasks == plain.explain(x).tasks
    assert chain.explain(x).rows[0].windows == {"time": "halo 2 + 2"}
    assert tasks(chain @ x, x) == chain.explain(x).tasks
    xr.testing.assert_allclose((chain @ x).rename(lag="time"), plain @ x)
    assert R.explain(x).rows[0].windows == {}


def test_chunks_are_chosen_through_names():
    x = xr.DataArray(np.zeros((2000, 5000)), dims=("offset", "time"))
    R = xl.Rename(x.offset, "x")
    assert R.chunks_for(x) == xl.Identity(x).chunks_for(x)
    F = xl.FFT((R @ x).x) @ R
    assert F.chunks_for(x)["offset"] == 2000


def test_whole_dims_under_another_name(d):
    x = d.chunk(time=2)
    R = xl.Rename(d.time, "lag")
    y = xl.FFT((R @ d).lag) @ R @ x
    np.testing.assert_allclose(
        y.values, np.fft.fft(d.values, axis=0, norm="ortho"), atol=1e-13
    )


def test_names_that_cannot_be(d):
    with pytest.raises(xl.LabelError, match="auxiliary"):
        xl.Rename(d.offset, "receiver")
    with pytest.raises(xl.LabelError, match="'shot' is missing"):
        xl.Rename(d, {"shot": "time"})
    with pytest.raises(xl.LabelError, match="name of its own"):
        xl.Rename(d, {"time": "x", "offset": "x"})
    with pytest.raises(xl.LabelError, match="one new name"):
        xl.Rename(d, "x")
    with pytest.raises(xl.LabelError, match="makes dim 'depth'"):
        xl.Rename(d.time, "depth") @ d
    for wrong in ({}, None, [], {"time": None}):
        with pytest.raises(xl.DTypeError, match="Rename: expected new names"):
            xl.Rename(d.time, wrong)
    with pytest.raises(xl.DTypeError, match="Rename"):
        xl.Rename("time", "lag")


# --- orders ---------------------------------------------------------------------------


ORDERS = [
    (("depth", "time", "offset"), ("depth", "time", "offset")),
    (("depth", ...), ("depth", "time", "offset")),
    ((..., "time"), ("offset", "depth", "time")),
    (("depth", ..., "offset"), ("depth", "time", "offset")),
]


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize(("asked", "order"), ORDERS)
def test_orders_are_those_of_xarray_and_pylops(d, asked, order, lazy):
    x = d.copy(data=d.variable.chunk(time=3, offset=4).data) if lazy else d
    T = xl.Transpose(d, *asked)
    y = T @ x
    assert y.dims == order
    assert y.identical(x.transpose(*asked, transpose_coords=False))
    P = pylops.Transpose(d.shape, axes=[d.dims.index(dim) for dim in order])
    np.testing.assert_array_equal(y.values.ravel(), P @ d.values.ravel())
    back = T.H @ y
    assert back.identical(x)
    np.testing.assert_array_equal(back.values.ravel(), P.H @ y.values.ravel())


def test_whatever_order_the_data_have(d):
    T = xl.Transpose(d, "depth", ...)
    for order in (("offset", "time", "depth"), ("depth", "offset", "time")):
        x = d.transpose(*order)
        assert (T @ x).dims == ("depth", *(dim for dim in order if dim != "depth"))
        assert (T.H @ x).dims == d.dims
        assert (T.gram @ x).dims == d.dims


def test_dims_that_pass_through(d):
    x = d.expand_dims({"shot": 2}, axis=1)
    assert (xl.Transpose(d, "depth", ..., "time") @ x).dims == (
        *("depth", "shot", "offset", "time"),
    )
    T = xl.Transpose(d, "depth", "offset", "time")
    assert (T @ x).dims == ("shot", "depth", "offset", "time")
    assert (T.H @ x).dims == ("shot", "time", "offset", "depth")


def test_memory_lies_in_the_new_order(d):
    T = xl.Transpose(d, "depth", ...)
    D = xl.FirstDerivative(d.time)
    for A in (T, T @ D, 2 * T, T.H @ D):
        assert (A @ d).values.flags.c_contiguous
        lazy = (A @ d.chunk(time=3)).data
        blocks = dask.compute(*lazy.to_delayed().ravel(), scheduler="sync")
        assert all(block.flags.c_contiguous for block in blocks)


def test_the_outermost_factor_decides(d):
    T, D = xl.Transpose(d, "depth", ...), xl.FirstDerivative(d.time)
    turned = ("depth", "time", "offset")
    x = d.chunk(time=3)
    for data in (d, x):
        assert ((T @ D) @ data).dims == turned
        assert ((3 * T @ D) @ data).dims == turned
        assert ((T @ D).evaluate() @ data).dims == turned
        assert (D @ (T @ data)).dims == turned
        assert ((D @ T) @ data).dims == d.dims
        assert ((T + T) @ data).dims == d.dims
        assert ((D @ T).H @ data).dims == d.dims
    assert len((T @ D).explain(x).rows) == 1
    assert tasks((T @ D) @ x, x) == (T @ D).explain(x).tasks


def test_solutions_have_the_order_of_the_domain(d):
    T = xl.Transpose(d, "depth", ...)
    y = T @ d
    x = T / y
    np.testing.assert_allclose(x.transpose(*d.dims).values, d.values, rtol=1e-12)


def test_pickles_with_its_order(d):
    T = 2 * xl.Transpose(d, "depth", ...) @ xl.FirstDerivative(d.time)
    again = pickle.loads(pickle.dumps(T))
    assert again == T
    assert (again @ d).identical(T @ d)
    assert (again.H @ d).dims == (T.H @ d).dims


def test_orders_that_cannot_be(d):
    with pytest.raises(xl.LabelError, match="'shot' is missing"):
        xl.Transpose(d, "shot", ...)
    with pytest.raises(xl.LabelError, match=r"'depth' has no place .* add \.\.\."):
        xl.Transpose(d, "time", "offset")
    with pytest.raises(xl.LabelError, match="once"):
        xl.Transpose(d, "time", "time", ...)
    with pytest.raises(xl.LabelError, match="once"):
        xl.Transpose(d, ..., "time", ...)
