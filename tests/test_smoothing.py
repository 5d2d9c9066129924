"""Running means against PyLops and against sums written out."""

import pickle

import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl
from xlops.kernels.boxcar import windows

SHAPE = (6, 50, 7)
DIMS = ("shot", "time", "depth")
CHUNKS = {"numpy": None, "one sample each": 1, "uneven": "uneven", "across": "across"}
in_chunks = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)


@pytest.fixture(scope="module")
def cube():
    values = np.random.default_rng(1).standard_normal(SHAPE)
    coords = {
        dim: (dim, 3.0 + 0.5 * np.arange(n)) for dim, n in zip(DIMS, SHAPE, strict=True)
    }
    return xr.DataArray(values, coords=coords, dims=DIMS)


def cut(x, chunks, *dims):
    if chunks is None:
        return x
    if chunks == "across":
        return x.chunk({dim: -1 if dim in dims else 2 for dim in x.dims})
    if chunks == 1:
        return x.chunk({dim: max(1, x.sizes[dim] // 12) for dim in dims})
    return x.chunk({dim: (x.sizes[dim] - 3, 1, 2) for dim in dims})


def agree(result, expected, eps=1e-12):
    scale = np.max(np.abs(expected), initial=1e-300)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=eps * scale)


def means(n, count):
    """The matrix of a running mean: 1/count where samples are near enough."""
    count += count % 2 == 0
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= count // 2
    return near / count


@in_chunks
@pytest.mark.parametrize("nsmooth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dim", DIMS)
def test_one_dim_like_pylops(cube, dim, nsmooth, chunks):
    P = pylops.Smoothing1D(nsmooth, SHAPE, axis=DIMS.index(dim))
    S = xl.Smoothing1D(cube[dim], nsmooth)
    expected = (P @ cube.values.ravel()).reshape(SHAPE)
    agree(S @ cut(cube, chunks, dim), expected)
    expected = (P.H @ cube.values.ravel()).reshape(SHAPE)
    agree(S.H @ cut(cube, chunks, dim), expected)


@in_chunks
@pytest.mark.parametrize("nsmooth", [31, 33, 34, 41, 49])
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
def test_many_samples_like_pylops(cube, dtype, nsmooth, chunks):
    x = (cube + 1j * cube[::-1].values) if dtype.startswith("complex") else cube
    x = x.astype(dtype)
    P = pylops.Smoothing1D(nsmooth, SHAPE, axis=1, dtype=dtype)
    y = xl.Smoothing1D(x.time, nsmooth) @ cut(x, chunks, "time")
    assert y.dtype == dtype
    eps = 1e-12 if dtype in ("float64", "complex128") else 1e-6
    agree(y, (P @ x.values.ravel()).reshape(SHAPE), eps)


@pytest.mark.parametrize("chunks", [None, 1, 3])
@pytest.mark.parametrize("nsmooth", [2, 3, 6, 40, 41, 99, 1001])
@pytest.mark.parametrize("n", [1, 2, 5, 37])
def test_any_size(n, nsmooth, chunks):
    """Longer means than the dim keep its labels; PyLops makes more samples or fails."""
    x = xr.DataArray(np.random.default_rng(n).standard_normal((3, n)), dims=("i", "t"))
    S = xl.Smoothing1D(x.t, nsmooth)
    expected = x.values @ means(n, nsmooth)
    data = x if chunks is None else x.chunk(t=chunks)
    agree(S @ data, expected)
    agree(S.H @ data, expected)
    agree(S @ data.T, expected.T)


@in_chunks
@pytest.mark.parametrize("nsmooth", [(3, 2), (1, 5), (1, 1), (6, 1), 3])
@pytest.mark.parametrize("axes", [(0, 2), (2, 0), (1, 2)])
def test_two_dims_like_pylops(cube, axes, nsmooth, chunks):
    dims = [DIMS[axis] for axis in axes]
    each = (nsmooth, nsmooth) if isinstance(nsmooth, int) else nsmooth
    # PyLops takes filters along axes in rising order.
    flipped = tuple(sorted(axes)), each if axes[0] < axes[1] else each[::-1]
    P = pylops.Smoothing2D(flipped[1], SHAPE, axes=flipped[0])
    S = xl.Smoothing2D(cube[dims[0]], cube[dims[1]], nsmooth=nsmooth)
    data = cut(cube, chunks, *dims)
    agree(S @ data, (P @ cube.values.ravel()).reshape(SHAPE))
    agree(S.H @ data, (P.H @ cube.values.ravel()).reshape(SHAPE))


@in_chunks
@pytest.mark.parametrize("nsmooth", [(3, 4, 5), 3, (1, 39, 7)])
def test_three_dims(cube, nsmooth, chunks):
    """One matrix after the other; PyLops too where no mean is longer than its dim."""
    S = xl.SmoothingND(*(cube[dim] for dim in DIMS), nsmooth=nsmooth)
    each = (nsmooth,) * 3 if isinstance(nsmooth, int) else nsmooth
    a, b, c = (means(n, count) for n, count in zip(SHAPE, each, strict=True))
    expected = np.einsum("ai,bj,ck,ijk->abc", a, b, c, cube.values)
    agree(S @ cut(cube, chunks, *DIMS), expected)
    agree(S.H @ cut(cube, chunks, *DIMS), expected)
    P = pylops.SmoothingND(each, SHAPE, axes=(0, 1, 2))
    agree(S @ cube, (P @ cube.values.ravel()).reshape(SHAPE))


@pytest.mark.parametrize("nsmooth", [5, 35])
def test_only_what_is_near(nsmooth):
    """NaN and infinity stay in the means that they are part of; the rest is exact."""
    for value in (np.nan, np.inf):
        x = xr.DataArray(np.arange(120.0), dims="t")
        x[60] = value
        for data in (x, x.chunk(t=13)):
            y = (xl.Smoothing1D(x.t, nsmooth) @ data).values
            assert not np.isfinite(y[np.abs(np.arange(120) - 60) <= nsmooth // 2]).any()
            inside = np.r_[nsmooth : 60 - nsmooth // 2, 61 + nsmooth // 2 : 120 - nsmooth]
            np.testing.assert_allclose(y[inside], inside, rtol=1e-14)


def test_nothing_is_lost():
    """Large values do not eat the digits of the means after them."""
    x = np.ones(400)
    x[10] = 1e18
    y = np.empty(400)
    windows(x, y, 0, 20, slice(0, 400), slice(0, 400))
    assert (y[31:380] == 41.0).all()


@pytest.mark.parametrize("chunks", [None, 7])
def test_products_and_sums(cube, chunks):
    """Fused with each other and with derivatives, exact to the last edge sample."""
    x = cube if chunks is None else cube.chunk(time=chunks, shot=3)
    n = SHAPE[1]
    A, B = means(n, 5), means(n, 37)
    S, L = xl.Smoothing1D(cube.time, 5), xl.Smoothing1D(cube.time, 37)
    D = xl.FirstDerivative(cube.time)
    d = (np.eye(n, k=1) - np.eye(n, k=-1))[:, :] / (2 * 0.5)
    d[[0, -1]] = 0
    for operator, matrix in (
        (D @ S, d @ A),
        (S @ D, A @ d),
        (L @ S, B @ A),
        (S + 2 * L, A + 2 * B),
        (D @ (S - L), d @ (A - B)),
        (S**3, A @ A @ A),
        (xl.Identity(cube.time) - S, np.eye(n) - A),
    ):
        agree(operator @ x, np.einsum("ab,ibk->iak", matrix, cube.values))
        agree(operator.H @ x, np.einsum("ba,ibk->iak", matrix, cube.values))


def test_tasks():
    """At most three for each chunk along one dim, nine over two."""
    x = xr.DataArray(np.zeros((40, 40)), dims=("a", "b")).chunk(a=10, b=10)
    own = len(x.data.dask)
    for S, most in (
        (xl.Smoothing1D(x.a, 5), 3),
        (xl.Smoothing1D(x.a, 4 * 4 + 1), 3),
        (xl.Smoothing2D(x.a, x.b, nsmooth=(3, 5)), 9),
        (xl.SmoothingND(x.a, x.b, nsmooth=7), 9),
    ):
        assert len((S @ x).data.dask) - own <= most * 16 + 1


def test_labels_do_not_matter():
    """Months, names and NaN: a mean counts samples."""
    for labels in (
        np.arange("2001-01", "2002-01", dtype="datetime64[M]").astype("datetime64[ns]"),
        [f"R{i}" for i in range(12)],
        np.where(np.arange(12) == 4, np.nan, 2.0),
    ):
        x = xr.DataArray(np.arange(12.0), {"t": ("t", labels)}, dims="t")
        x.attrs["units"] = "degC"
        y = xl.Smoothing1D(x.t, 3) @ x
        np.testing.assert_allclose(y[1:-1], x[1:-1], rtol=1e-15)
        assert y.t.identical(x.t)


def test_units_and_traits():
    x = xr.DataArray(np.ones(5), dims="t", attrs={"units": "Pa"})
    S = xl.Smoothing1D(x.t, 3)
    assert (S @ x).attrs["units"] == "Pa"
    assert "symmetric" in S.traits
    # Constants fade at the ends, so that an offset of temperature would not stay one.
    assert (S @ x.assign_attrs(units="degC")).attrs["units"] != "degC"
    assert pickle.loads(pickle.dumps(S)) == S
    assert xl.Smoothing1D(x.t, 2) == S
    assert xl.Smoothing1D(x.t, 5) != S
    xl.dottest(xl.Smoothing2D(x.t, xr.DataArray(np.zeros(4), dims="z").z, nsmooth=3))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda t, z: xl.Smoothing1D(t, 0), xl.ArgumentError, "at least 1, got 0"),
        (lambda t, z: xl.Smoothing1D(t, -3), xl.ArgumentError, "at least 1"),
        (lambda t, z: xl.Smoothing1D(t, 2.5), xl.DTypeError, "whole number, got 2.5"),
        (lambda t, z: xl.Smoothing1D(t, True), xl.DTypeError, "whole number"),
        (lambda t, z: xl.Smoothing1D(t, (3,)), xl.DTypeError, "whole number"),
        (lambda t, z: xl.Smoothing1D(5, 5), xl.DTypeError, "coordinate"),
        (lambda t, z: xl.Smoothing2D(t, z, nsmooth=(3, 3, 3)), xl.ArgumentError, "2 dims"),
        (lambda t, z: xl.Smoothing2D(t, t, nsmooth=3), xl.LabelError, "once"),
        (lambda t, z: xl.SmoothingND(nsmooth=3), xl.LabelError, "at least one"),
        (lambda t, z: xl.SmoothingND(t, z, nsmooth="33"), xl.DTypeError, "whole number"),
        (lambda t, z: xl.SmoothingND(t, z, nsmooth=(3, 0)), xl.ArgumentError, "at least 1"),
    ],
)
def test_errors(build, error, words):
    t, z = (xr.DataArray(np.zeros(5), dims=dim)[dim] for dim in ("t", "z"))
    with pytest.raises(error, match=words) as caught:
        build(t, z)
    assert "Smoothing" in str(caught.value)
