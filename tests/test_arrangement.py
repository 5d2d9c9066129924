"""Flip, Roll and Pad against PyLops, and what becomes of labels."""

import pickle

import cftime
import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import gather

SHAPE = (5, 8, 6)
DIMS = ("shot", "time", "depth")
CUTS = {
    "numpy": {},
    "along": {"time": (1, 4, 3)},
    "one by one": {"time": 1},
    "across": {"shot": 2, "depth": 4},
    "all": {"shot": (1, 4), "time": (5, 1, 2), "depth": 3},
}

all_cuts = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
all_dtypes = pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "int16"])


def cube(dtype="float64", shape=SHAPE, seed=5):
    rng = np.random.default_rng(seed)
    values = 9 * rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    labels = {dim: 2.0 * np.arange(n) + 1 for dim, n in zip(DIMS, shape, strict=True)}
    return xr.DataArray(values.astype(dtype), labels, DIMS)


def cut_up(x, cut):
    """Dims of another size are cut in chunks of 2."""
    fit = {}
    for dim, sizes in cut.items():
        whole = isinstance(sizes, tuple) and sum(sizes) != x.sizes[dim]
        fit[dim] = 2 if whole else sizes
    return x.chunk(fit) if cut else x


def same(result, expected):
    """Values are only moved: they agree to the last bit."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.values, expected)


def both_ways(A, P, x, cut, shape=SHAPE):
    """Forward on x, adjoint on a random member of the range."""
    flat = x.values.ravel()
    y = A @ cut_up(x, cut)
    same(y, (P @ flat).reshape(shape).astype(x.dtype))
    v = y.copy(data=cube(x.dtype, shape, seed=6).values)
    expected = (P.H @ v.values.ravel()).reshape(x.shape).astype(x.dtype)
    same(A.H @ cut_up(v, cut), expected)


# --- against PyLops -------------------------------------------------------------------


@all_cuts
@all_dtypes
@pytest.mark.parametrize("dim", DIMS)
def test_flip(dim, dtype, cut):
    x = cube(dtype)
    A = xl.Flip(x[dim])
    both_ways(A, pylops.Flip(SHAPE, DIMS.index(dim), dtype=dtype), x, cut)
    assert (A @ x).coords.to_dataset().identical(x.coords.to_dataset())


@all_cuts
@pytest.mark.parametrize("shift", [0, 1, -1, 3, 8, -11, 100])
@pytest.mark.parametrize("dim", ["time", "depth"])
def test_roll(dim, shift, cut):
    x = cube()
    A = xl.Roll(x[dim], shift)
    both_ways(A, pylops.Roll(SHAPE, DIMS.index(dim), shift), x, cut)
    assert (A @ x).coords.to_dataset().identical(x.coords.to_dataset())


@all_cuts
@all_dtypes
def test_roll_of_any_dtype(dtype, cut):
    x = cube(dtype)
    both_ways(xl.Roll(x.time), pylops.Roll(SHAPE, 1, dtype=dtype), x, cut)


@all_cuts
@all_dtypes
@pytest.mark.parametrize("pad", [(0, 0), (1, 0), (0, 2), (2, 3), (9, 20)])
def test_pad(pad, dtype, cut):
    x = cube(dtype)
    P = pylops.Pad(SHAPE, ((0, 0), pad, (0, 0)), dtype=dtype)
    both_ways(xl.Pad(x.time, pad=pad), P, x, cut, P.dimsd)


@all_cuts
@pytest.mark.parametrize(
    "pads", [((1, 2), (0, 3), (4, 0)), ((0, 0), (1, 1), (0, 0)), ((2, 0), (0, 9), (7, 7))]
)
def test_pad_of_several_dims(pads, cut):
    x = cube()
    P = pylops.Pad(SHAPE, pads)
    both_ways(xl.Pad(x.shot, x.time, x.depth, pad=pads), P, x, cut, P.dimsd)
    turned = xl.Pad(x.depth, x.shot, x.time, pad=(pads[2], pads[0], pads[1]))
    both_ways(turned, P, x, cut, P.dimsd)


@pytest.mark.parametrize("n", [1, 2])
def test_short_dims(n):
    x = xr.DataArray(np.arange(1, n + 1), dims="t")
    for data in (x, x.chunk(t=1)):
        same(xl.Flip(x.t) @ data, x.values[::-1])
        same(xl.Roll(x.t) @ data, np.roll(x.values, 1))
        same(xl.Pad(x.t, pad=(1, 2)) @ data, np.pad(x.values, (1, 2)))
        same(xl.Pad(x.t, pad=(1, 2)).H @ (xl.Pad(x.t, pad=(1, 2)) @ data), x.values)


@all_cuts
def test_any_strides(cut):
    x = cube()
    turned = cut_up(x.transpose("depth", "shot", "time"), cut)
    for A in (
        xl.Flip(x.time),
        xl.Roll(x.time, 3),
        xl.Pad(x.time, x.shot, pad=[(1, 2)] * 2),
    ):
        same((A @ turned).transpose(*DIMS), (A @ x).values)
        y = A @ x
        same((A.H @ y.T).transpose(*DIMS), (A.H @ y).values)


# --- labels -----------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [{}, {"time": 3}])
def test_values_move_and_labels_stay(cut):
    d = gather()
    data = d.chunk(cut) if cut else d
    for A, values in (
        (xl.Flip(d.time), d.values[::-1]),
        (xl.Roll(d.time, 2), np.roll(d.values, 2, axis=0)),
    ):
        for B in (A, A.H.H):
            y = B @ data
            same(y, values)
            assert y.coords.to_dataset().identical(d.coords.to_dataset())
            assert y.attrs == d.attrs
        assert (A.H @ (A @ data)).identical(d)


EVEN = {
    "numbers": ([0.5, 0.75, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]),
    "falling": ([3.0, 1.0, -1.0], [7.0, 5.0, 3.0, 1.0, -1.0, -3.0]),
    "integers": ([10, 20, 30], [-10, 0, 10, 20, 30, 40]),
    "short integers": (
        np.array([10, 20, 30], np.int8),
        np.array([-10, 0, 10, 20, 30, 40], np.int8),
    ),
    "unsigned integers": (np.array([1, 2, 3], np.uint8), np.array([-1, 0, 1, 2, 3, 4])),
    "short integers, long way": (
        np.array([40, 80, 120], np.int8),
        np.array([-40, 0, 40, 80, 120, 160]),
    ),
    "single": (
        np.array([0.1, 0.2, 0.3], np.float32),
        np.array([-0.1, 0.0, 0.1, 0.2, 0.3, 0.4], np.float32),
    ),
    "dates": (
        np.array(["2024-02-27", "2024-02-28", "2024-02-29"], "datetime64[ns]"),
        np.arange("2024-02-25", "2024-03-02", dtype="datetime64[D]"),
    ),
    "durations": (
        np.arange(3) * np.timedelta64(250, "ms"),
        np.arange(-2, 4) * np.timedelta64(250, "ms"),
    ),
    "cftime": (
        [cftime.Datetime360Day(2000, month, 1) for month in (1, 2, 3)],
        [
            cftime.Datetime360Day(year, month, 1)
            for year, month in ((1999, 11), (1999, 12), *((2000, m) for m in (1, 2, 3, 4)))
        ],
    ),
}


@pytest.mark.parametrize("kind", EVEN)
def test_labels_go_on_evenly(kind):
    given, expected = EVEN[kind]
    attrs = {"long_name": "when", "units": "h"} if kind == "numbers" else {"axis": "T"}
    x = xr.DataArray(np.arange(3), {"t": ("t", given, attrs)}, dims="t")
    A = xl.Pad(x.t, pad=(2, 1))
    y = A @ x
    same(y, np.array([0, 0, 0, 1, 2, 0]))
    assert y.t.attrs == attrs
    if x.t.dtype.kind == "f":
        tol = 4 * np.finfo(x.t.dtype).eps
        np.testing.assert_allclose(y.t.values, expected, rtol=0, atol=tol)
        np.testing.assert_array_equal(y.t.values[2:5], x.t.values)
        assert y.t.dtype == x.t.dtype
    else:
        wanted = np.array(expected)
        if wanted.dtype.kind == "M" or wanted.dtype.kind == "m":
            wanted = wanted.astype(x.t.dtype)
        np.testing.assert_array_equal(y.t.values, wanted)
        assert y.t.dtype == wanted.dtype
    assert (A.H @ y).identical(x)
    # The longer axis is even for other operators, too.
    xl.FFT(y.t)


def test_labels_of_long_axes_do_not_drift():
    x = xr.DataArray(np.zeros(1001), {"t": 1e5 + 0.004 * np.arange(1001)}, dims="t")
    y = xl.Pad(x.t, pad=(2000, 3000)) @ x
    exact = 1e5 + 0.004 * np.arange(-2000, 4001)
    np.testing.assert_allclose(y.t.values, exact, rtol=0, atol=1e-9)


def test_coordinates_and_their_way_back():
    d = gather()
    y = xl.Pad(d.offset, d.depth, pad=((1, 1), (0, 0))) @ d
    assert "receiver" not in y.coords
    assert "arrival" not in y.coords
    for name in ("time", "age", "depth", "shot_id"):
        assert y[name].variable.identical(d[name].variable)
    assert y.offset.attrs == d.offset.attrs
    back = xl.Pad(d.offset, d.depth, pad=((1, 1), (0, 0))).H @ y
    for name in ("offset", "receiver", "live"):
        assert back[name].variable.identical(d[name].variable)
    same(back, d.values)


def test_dims_without_labels_and_without_zeros():
    x = xr.DataArray(np.ones((2, 3)), {"key": ["a", "c"]}, dims=("key", "t"))
    y = xl.Pad(x.key, x.t, pad=((0, 0), (2, 0))) @ x
    assert "t" not in y.coords
    assert y.sizes == {"key": 2, "t": 5}
    assert y.key.identical(x.key)


# --- chains and sums ------------------------------------------------------------------


def dense(A):
    """The matrix of an operator over its own dims."""
    n = A.domain.size
    unit = xr.DataArray(
        np.eye(n).reshape(n, *A.domain.sizes.values()),
        A.domain.coords,
        dims=("unit", *A.domain.dims),
    )
    return (A @ unit).transpose("unit", *A.range.dims).values.reshape(n, -1).T


@all_cuts
def test_in_chains_and_sums(cut):
    """Fused or not, as the matrices say."""
    x = cube()
    n = 8
    F, S, P = xl.Flip(x.time), xl.Roll(x.time, 3), xl.Pad(x.time, pad=(2, 3))
    f, s, p = np.eye(n)[::-1], np.roll(np.eye(n), 3, axis=0), np.eye(13, n, -2)
    D, C = xl.FirstDerivative(x.time, edge=True), xl.CausalIntegration(x.time)
    d, c = dense(D), np.tril(np.full((n, n), 2.0))
    long = xl.SecondDerivative(P.range.coords["time"])
    r = xl.Restriction(x.time, [6, 0, 3])
    e = xl.Identity(x.time)
    for A, matrix in (
        (D @ F, d @ f),
        (F @ D, f @ d),
        (F @ C @ F, f @ c @ f),
        (D @ S, d @ s),
        (S @ D, s @ d),
        (S @ S @ F, s @ s @ f),
        (e - S, np.eye(n) - s),
        (S - e, s - np.eye(n)),
        (e + F, np.eye(n) + f),
        (2 * S.H @ D + F, 2 * s.T @ d + f),
        (r @ S, np.eye(n)[[6, 0, 3]] @ s),
        (long @ P, dense(long) @ p),
        (P.H @ long @ P, p.T @ dense(long) @ p),
        (P @ D, p @ d),
        (P @ S, p @ s),
        (P @ F - 2 * P, p @ f - 2 * p),
        (P @ C, p @ c),
        (P @ P.H, p @ p.T),
        (P.H @ xl.Roll(P.range.coords["time"], 2) @ P, p.T @ np.roll(p, 2, axis=0)),
    ):
        for B, M in ((A, matrix), (A.H, matrix.T)):
            v = cube(shape=(5, M.shape[1], 6))
            v = v.assign_coords(B.domain.coords)
            expected = np.einsum("ij,ajb->aib", M, v.values)
            scale = np.abs(expected).max()
            result = B @ cut_up(v, cut)
            np.testing.assert_allclose(result.values, expected, rtol=0, atol=1e-13 * scale)


def test_adjoints_and_traits():
    x = cube()
    F, S, P = xl.Flip(x.time), xl.Roll(x.time, 3), xl.Pad(x.time, pad=(2, 3))
    assert F.traits == {"symmetric", "unitary"}
    assert S.traits == {"unitary"}
    assert xl.Roll(x.time, 4).traits == {"symmetric", "unitary"}
    assert P.traits == frozenset()
    for A in (F, S, P):
        same(A.H @ (A @ x), x.values)
        assert xl.dottest(A, like=x)
    # One way round is every way round.
    assert S == xl.Roll(x.time, 3 + 8) == xl.Roll(x.time, -5)
    assert xl.Roll(x.time, 4) != S


def test_one_task_per_chunk():
    """Chunks are turned or padded one by one."""
    x = cube(shape=(4, 24, 6)).chunk(shot=2, time=6)
    for A in (xl.Flip(x.time), xl.Pad(x.time, pad=(2, 3))):
        for B, v in ((A, x), (A.H, A @ x)):
            y = B @ v
            tasks = y.data.__dask_graph__().keys() - v.data.__dask_graph__().keys()
            assert len(tasks) <= y.data.npartitions + 2


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    "pad", [1, "12", (1,), (1, 2, 3), (1.0, 2), (True, 2), None, [], {}]
)
def test_pads_that_are_no_pairs(pad):
    x = cube()
    with pytest.raises(xl.DTypeError, match="pad must be a pair of whole numbers"):
        xl.Pad(x.time, pad=pad)


def test_what_pad_refuses():
    x = cube()
    for pad in ((1, 2), 3, ((1, 2), 3)):
        with pytest.raises(xl.DTypeError, match="for each coordinate"):
            xl.Pad(x.time, x.shot, pad=pad)
    with pytest.raises(xl.ArgumentError, match="3 pairs are given for 2"):
        xl.Pad(x.time, x.shot, pad=((1, 2),) * 3)
    with pytest.raises(xl.ArgumentError, match="must not be negative"):
        xl.Pad(x.time, pad=(0, -1))
    with pytest.raises(xl.LabelError, match="at least one coordinate"):
        xl.Pad(pad=(1, 2))
    with pytest.raises(xl.LabelError, match="each dim can be given once"):
        xl.Pad(x.time, x.time, pad=((1, 2), (1, 2)))
    uneven = x.assign_coords(time=np.arange(8.0) ** 2)
    with pytest.raises(
        xl.LabelError, match=r"wider: .*regular sampling along 'time'.*step"
    ):
        xl.Pad(uneven.time, pad=(1, 2), name="wider")
    xl.Pad(uneven.time, pad=(0, 0))
    with pytest.raises(xl.LabelError, match="single label"):
        xl.Pad(x.time[:1], pad=(1, 2))
    named = x.assign_coords(time=list("abcdefgh"))
    with pytest.raises(xl.LabelError, match="neither numbers nor times"):
        xl.Pad(named.time, pad=(1, 2))
    dates = np.array(["2260-01-01", "2261-01-01"], "datetime64[ns]")
    late = xr.DataArray([1, 2], {"time": dates}, dims="time")
    with pytest.raises(xl.LabelError, match="range of datetime64"):
        xl.Pad(late.time, pad=(0, 5))


@pytest.mark.parametrize("shift", [1.0, "1", None, True, (1, 2)])
def test_shifts_that_are_no_numbers(shift):
    with pytest.raises(xl.DTypeError, match="shift must be a whole number"):
        xl.Roll(cube().time, shift)


@pytest.mark.parametrize("cls", [xl.Flip, xl.Roll])
def test_coordinates_that_are_refused(cls):
    x = cube()
    with pytest.raises(xl.LabelError, match="one dim"):
        cls(x)
    with pytest.raises(xl.DTypeError, match="coordinate"):
        cls("time")
    with pytest.raises(xl.DTypeError, match="name must be a string"):
        cls(x.time, name=1)


def test_repr_equality_and_pickling():
    x = cube()
    for A, other in (
        (xl.Flip(x.time), xl.Flip(x.shot)),
        (xl.Roll(x.time, 2), xl.Roll(x.time)),
        (xl.Pad(x.time, pad=(1, 2)), xl.Pad(x.time, pad=((2, 1),))),
    ):
        assert repr(A).splitlines()[0] == f"<{type(A).__name__}> {type(A).__name__}(time)"
        assert pickle.loads(pickle.dumps(A)) == A
        assert other != A
    assert xl.Pad(x.time, pad=(1, 2)) == xl.Pad(x.time, pad=[np.array([1, 2])])
    assert str(xl.Pad(x.time, x.shot, pad=[(1, 2)] * 2)) == "Pad(time, shot)"
    same(x.lops.apply(xl.Pad, "time", "shot", pad=[(1, 0)] * 2)[1:, 1:], x.values)
    same(x.lops.apply(xl.Roll, "time", shift=2), np.roll(x.values, 2, axis=1))
