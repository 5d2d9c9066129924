"""Convolutions against PyLops, against their matrices, and against NumPy's."""

import pickle

import numpy as np
import pint
import pylops
import pytest
import xarray as xr

import xlops as xl

SHAPE = (4, 60, 5)
DIMS = ("shot", "time", "depth")
STEPS = {"shot": 2.0, "time": 0.004, "depth": -5.0}  # depth falls
CHUNKS = {"numpy": None, "small": "small", "uneven": "uneven", "across": "across"}
in_chunks = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
METHODS = [None, "direct", "fft", "overlapadd"]
EPS = {"float64": 1e-12, "complex128": 1e-12, "float32": 2e-6, "complex64": 2e-6}


@pytest.fixture(scope="module")
def cube():
    values = np.random.default_rng(1).standard_normal(SHAPE)
    coords = {
        dim: (dim, 3.0 + STEPS[dim] * np.arange(n))
        for dim, n in zip(DIMS, SHAPE, strict=True)
    }
    return xr.DataArray(values, coords=coords, dims=DIMS)


def taps(*shape, dtype=float, seed=5):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def cut(x, chunks, *dims):
    if chunks is None:
        return x
    if chunks == "across":
        return x.chunk({dim: -1 if dim in dims else 2 for dim in x.dims})
    if chunks == "small":
        return x.chunk({dim: max(1, x.sizes[dim] // 8) for dim in dims})
    return x.chunk({dim: (x.sizes[dim] - 3, 1, 2) for dim in dims})


def agree(result, expected, eps=1e-12):
    scale = np.max(np.abs(expected), initial=1e-300)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=eps * scale)


def matrix(n, h, offset):
    """The matrix of a convolution, M[i, j] = h[i - j + offset]."""
    lag = np.subtract.outer(np.arange(n), np.arange(n)) + offset
    exists = (lag >= 0) & (lag < len(h))
    return np.where(exists, np.asarray(h)[np.where(exists, lag, 0)], 0)


def along(M, x, axis):
    return np.moveaxis(np.tensordot(M, x, (1, axis)), 0, axis)


# --- one dim ----------------------------------------------------------------------------


@in_chunks
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("n", "offset"), [(1, 0), (2, 0), (3, 1), (4, 3), (41, 20), (60, 0)]
)
def test_like_pylops(cube, n, offset, method, chunks):
    h = taps(n)
    P = pylops.signalprocessing.Convolve1D(SHAPE, h, offset=offset, axis=1)
    C = xl.Convolve1D(cube.time, h, offset, method=method)
    x = cut(cube, chunks, "time")
    agree(C @ x, (P @ cube.values.ravel()).reshape(SHAPE))
    agree(C.H @ x, (P.H @ cube.values.ravel()).reshape(SHAPE))


@in_chunks
@pytest.mark.parametrize("dim", ["shot", "depth"])
def test_other_dims_like_pylops(cube, dim, chunks):
    axis, h = DIMS.index(dim), taps(3)
    P = pylops.signalprocessing.Convolve1D(SHAPE, h, offset=2, axis=axis)
    x = cut(cube, chunks, dim)
    for method in METHODS:
        C = xl.Convolve1D(cube[dim], h, 2, method=method)
        agree(C @ x, (P @ cube.values.ravel()).reshape(SHAPE))
        agree(C.H @ x, (P.H @ cube.values.ravel()).reshape(SHAPE))


@in_chunks
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("filter_dtype", ["float64", "complex128", "float32"])
@pytest.mark.parametrize("dtype", EPS)
def test_dtypes(cube, dtype, filter_dtype, method, chunks):
    """Against the matrix: the adjoint of a complex PyLops filter is not conjugated."""
    h = taps(37, dtype=filter_dtype)
    x = cube.astype(dtype)
    if dtype.startswith("complex"):
        x = x + np.dtype(dtype).type(1j) * x[::-1].values
    M = matrix(SHAPE[1], h, 11)
    C = xl.Convolve1D(cube.time, h, 11, method=method)
    y, back = C @ cut(x, chunks, "time"), C.H @ cut(x, chunks, "time")
    single = dtype in ("float32", "complex64")
    is_complex = "complex" in dtype + filter_dtype
    wanted = ("complex64" if single else "complex128") if is_complex else dtype
    assert y.dtype == back.dtype == wanted
    agree(y, along(M, x.values.astype(np.result_type(dtype, float)), 1), EPS[dtype])
    agree(
        back,
        along(M.conj().T, x.values.astype(np.result_type(dtype, float)), 1),
        EPS[dtype],
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_any_filter_on_any_axis(n, method):
    """Longer filters than the axis too: the result has the labels of the data."""
    x = xr.DataArray(taps(3, n), dims=("i", "t"))
    for m in (1, 2, 3, 8, 33, 47):
        for offset in {0, 1, m // 2, m - 1}:
            if offset >= m:
                continue
            h = taps(m)
            M = matrix(n, h, offset)
            C = xl.Convolve1D(x.t, h, offset, method=method)
            for data in (x, x.T.copy(), x.chunk(t=max(1, n // 3))):
                y = C @ data
                assert y.dims == data.dims
                agree(y.transpose("i", "t"), x.values @ M.T)
                agree((C.H @ data).transpose("i", "t"), x.values @ M)


@pytest.mark.parametrize(
    ("n", "m", "offset"), [(3, 5, 0), (3, 5, 2), (4, 7, 2), (6, 31, 4)]
)
def test_longer_results_of_pylops(n, m, offset):
    """PyLops gives as many samples as a longer filter has: those of padded data."""
    h, x = taps(m), xr.DataArray(taps(n, seed=1), {"t": 0.5 * np.arange(n)}, dims="t")
    P = pylops.signalprocessing.Convolve1D(n, h, offset=offset)
    pad = xl.Pad(x.t, pad=(0, m - n))
    A = xl.Convolve1D((pad @ x).t, h, offset) @ pad
    agree(A @ x, P @ x.values)
    y = (A @ x).copy(data=taps(m, seed=2))
    agree(A.H @ y, P.H @ y.values)
    agree(xl.Convolve1D(x.t, h, offset) @ x, (P @ x.values)[:n])


@pytest.mark.parametrize("method", METHODS)
def test_polynomials(method):
    """A product of polynomials, as NumPy has it."""
    one, other = taps(90, seed=1), taps(70, seed=2)
    x = xr.DataArray(np.r_[one, np.zeros(69)], dims="power")
    agree(xl.Convolve1D(x.power, other, method=method) @ x, np.convolve(one, other))


def test_long_axes():
    """In overlapping transforms, on threads."""
    n, h = 400_000, taps(301)
    x = xr.DataArray(taps(n), dims="t")
    expected = np.convolve(x.values, h)[150 : 150 + n]
    for method in (None, "overlapadd"):
        agree(xl.Convolve1D(x.t, h, 150, method=method) @ x, expected)
    agree(xl.Convolve1D(x.t, h, 150) @ x.chunk(t=70_001), expected)
    wide = xr.DataArray(taps(40, 300, 20), dims=("i", "t", "j"))
    M = matrix(300, h, 150)
    for dims in (("i", "t", "j"), ("t", "i", "j"), ("j", "i", "t")):
        turned = wide.transpose(*dims).copy()
        axis = dims.index("t")
        agree(xl.Convolve1D(wide.t, h, 150) @ turned, along(M, turned.values, axis), 1e-12)


# --- filters with labels ----------------------------------------------------------------


def test_lags_of_a_coordinate(cube):
    h = taps(5)
    x = cube.isel(shot=0)
    expected = along(matrix(SHAPE[1], h, 3), x.values, 0)
    lag = 0.004 * (np.arange(5) - 3)
    for name in ("lag", "time"):
        wavelet = xr.DataArray(h, {name: lag}, dims=name)
        agree(xl.Convolve1D(x.time, wavelet) @ x, expected)
        agree(xl.Convolve1D(x.time, wavelet, 3) @ x, expected)
        agree(xl.Convolve1D(x.time, wavelet[::-1]) @ x, expected)
        agree(
            xl.Convolve1D(x.time, wavelet.astype("float32").astype(float)) @ x,
            expected,
            1e-6,
        )
    plain = xr.DataArray(h, dims="lag")
    agree(xl.Convolve1D(x.time, plain, 3) @ x, expected)
    single = xr.DataArray([2.0], {"lag": [0.0]}, dims="lag")
    agree(xl.Convolve1D(x.time, single) @ x, 2 * x.values)


def test_a_falling_axis(cube):
    """y(z) = Σ h(ζ) x(z − ζ), whatever the order of either's labels."""
    h = xr.DataArray(taps(4), {"lag": [-10.0, -5.0, 0.0, 5.0]}, dims="lag")
    C = xl.Convolve1D(cube.depth, h)
    rising = cube.isel(depth=slice(None, None, -1))
    turned = xl.Convolve1D(rising.depth, h) @ rising
    agree(C @ cube, turned.values[..., ::-1])
    agree(turned, along(matrix(5, h.values, 2), rising.values, 2))


def test_units_of_lags():
    time = xr.DataArray(4.0 * np.arange(20), dims="time", attrs={"units": "ms"})
    x = xr.DataArray(taps(20), {"time": time}, dims="time")
    h = xr.DataArray(
        taps(3), {"lag": ("lag", [-0.004, 0, 0.004], {"units": "s"})}, dims="lag"
    )
    expected = matrix(20, h.values, 1) @ x.values
    agree(xl.Convolve1D(x.time, h) @ x, expected)
    days = np.datetime64("2020-01-01", "ns") + np.arange(20) * np.timedelta64(1, "D")
    dated = x.assign_coords(time=days)
    for lags, attrs in (
        (np.array([-1, 0, 1]) * np.timedelta64(1, "D").astype("timedelta64[ns]"), {}),
        ([-24.0, 0, 24], {"units": "h"}),
        ([-86400.0, 0, 86400], {}),
    ):
        h = h.assign_coords(lag=("lag", lags, attrs))
        agree(xl.Convolve1D(dated.time, h) @ dated, expected)
    with pytest.raises(xl.UnitError, match="m, the axis is in ms"):
        xl.Convolve1D(x.time, h.assign_coords(lag=("lag", [-4, 0, 4], {"units": "m"})))


@in_chunks
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [float, complex])
def test_a_filter_for_each_line(cube, dtype, method, chunks):
    """What PyLops does with filters of as many dims as the data."""
    h = taps(4, 9, 5, dtype=dtype)
    x = cut(cube, chunks, "time")
    filters = xr.DataArray(h, dims=("shot", "time", "depth"))
    C = xl.Convolve1D(cube.time, filters, 3, method=method)
    expected = np.empty(SHAPE, dtype)
    back = np.empty(SHAPE, dtype)
    for i, k in np.ndindex(4, 5):
        M = matrix(60, h[i, :, k], 3)
        expected[i, :, k] = M @ cube.values[i, :, k]
        back[i, :, k] = M.conj().T @ cube.values[i, :, k]
    agree(C @ x, expected)
    agree(C.H @ x, back)
    if dtype is float and chunks is None:
        P = pylops.signalprocessing.Convolve1D(SHAPE, h, offset=3, axis=1)
        agree(C @ x, (P @ cube.values.ravel()).reshape(SHAPE))
    turned = cube.transpose("depth", "time", "shot").copy()
    agree(C @ cut(turned, chunks, "time"), expected.transpose(2, 1, 0))


@in_chunks
def test_a_filter_for_each_shot(cube, chunks):
    h = taps(7, 4)
    filters = xr.DataArray(h, {"shot": cube.shot}, dims=("lag", "shot"))
    for method in METHODS:
        C = xl.Convolve1D(cube.time, filters, 2, lag="lag", method=method)
        expected = np.stack(
            [along(matrix(60, h[:, i], 2), cube.values[i], 0) for i in range(4)]
        )
        agree(C @ cut(cube, chunks, "time", "shot"), expected)
        assert set(C.domain.dims) == {"time", "shot"}
    with pytest.raises(xl.LabelError, match="lag=…"):
        xl.Convolve1D(cube.time, filters)
    with pytest.raises(xl.LabelError, match="shot"):
        C @ cube.assign_coords(shot=cube.shot + 1)


# --- several dims -----------------------------------------------------------------------


def tensor(shape, h, offset):
    """The matrix of a convolution along two dims."""
    n, m = shape
    M = np.zeros((n, m, n, m), h.dtype)
    for k, j in np.ndindex(*h.shape):
        M += h[k, j] * np.einsum(
            "ab,cd->acbd",
            np.eye(n, k=-(k - offset[0])),
            np.eye(m, k=-(j - offset[1])),
        )
    return M


@in_chunks
@pytest.mark.parametrize("method", ["auto", "direct", "fft", None])
@pytest.mark.parametrize(
    ("size", "offset"),
    [((3, 3), None), ((3, 3), (1, 1)), ((2, 4), (1, 3)), ((7, 9), (3, 4)), ((1, 1), 0)],
)
def test_two_dims(cube, size, offset, method, chunks):
    h = taps(*size)
    P = pylops.signalprocessing.ConvolveND(SHAPE, h, offset=offset or (0, 0), axes=(0, 2))
    C = xl.ConvolveND(cube.shot, cube.depth, h=h, offset=offset, method=method)
    x = cut(cube, chunks, "shot", "depth") if chunks != "uneven" else cube.chunk(depth=2)
    agree(C @ x, (P @ cube.values.ravel()).reshape(SHAPE))
    agree(C.H @ x, (P.H @ cube.values.ravel()).reshape(SHAPE))


@in_chunks
@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
@pytest.mark.parametrize("dtype", EPS)
def test_two_dims_dtypes(cube, dtype, method, chunks):
    h = taps(3, 4, dtype=complex if dtype != "float32" else float)
    M = tensor((4, 5), h, (2, 1))
    x = cube.astype(dtype)
    C = xl.ConvolveND(cube.shot, cube.depth, h=h, offset=(2, 1), method=method)
    data = cut(x, chunks, "time")
    agree(C @ data, np.einsum("abcd,ctd->atb", M, x.values), EPS[dtype])
    agree(C.H @ data, np.einsum("cdab,ctd->atb", M.conj(), x.values), EPS[dtype])


@pytest.mark.parametrize("chunks", [None, {"shot": 2, "time": 17, "depth": 2}])
@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
def test_three_dims(cube, method, chunks):
    h, offset = taps(3, 4, 2), (1, 3, 0)
    P = pylops.signalprocessing.ConvolveND(SHAPE, h, offset=offset, axes=(0, 1, 2))
    x = cube if chunks is None else cube.chunk(chunks)
    C = xl.ConvolveND(cube.shot, cube.time, cube.depth, h=h, offset=offset, method=method)
    agree(C @ x, (P @ cube.values.ravel()).reshape(SHAPE))
    agree(C.H @ x, (P.H @ cube.values.ravel()).reshape(SHAPE))
    # Coordinates in another order: the filter by name.
    named = xr.DataArray(h, dims=DIMS)
    C = xl.ConvolveND(
        cube.depth, cube.shot, cube.time, h=named, offset=(0, 1, 3), method=method
    )
    agree(C @ x, (P @ cube.values.ravel()).reshape(SHAPE))


def test_lags_of_two_dims(cube):
    h = taps(3, 2)
    expected = xl.ConvolveND(cube.shot, cube.time, h=h, offset=(1, 0)) @ cube
    for dims in (("shot", "time"), ("dx", "dt"), ("shot", "dt")):
        labels = {dims[0]: [-2.0, 0, 2], dims[1]: [0, 0.004]}
        named = xr.DataArray(h, labels, dims=dims)
        C = xl.ConvolveND(cube.shot, cube.time, h=named)
        agree(C @ cube, expected.values)
    C = xl.ConvolveND(cube.shot, cube.time, h=named.transpose("dt", "shot"))
    agree(C @ cube, expected.values)


def test_large_planes():
    """In overlapping transforms, against the product of two filters."""
    one, other = taps(15, seed=1), taps(9, seed=2)
    x = xr.DataArray(taps(700, 600), dims=("x", "y"))
    expected = along(matrix(600, other, 4), along(matrix(700, one, 7), x.values, 0), 1)
    for method in ("auto", "direct", "fft"):
        h = np.outer(one, other)
        C = xl.ConvolveND(x.x, x.y, h=h, offset=(7, 4), method=method)
        agree(C @ x, expected)
        agree(C @ x.chunk(x=300, y=200), expected)


# --- together ---------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, "small", "uneven"])
@pytest.mark.parametrize("method", METHODS)
def test_products_and_sums(cube, method, chunks):
    x = cut(cube, chunks, "time")
    h, g = taps(5, seed=1), taps(40, seed=2)
    H, G = matrix(60, h, 2), matrix(60, g, 7)
    A = xl.Convolve1D(cube.time, h, 2, method=method)
    B = xl.Convolve1D(cube.time, g, 7, method=method)
    D, eye = xl.SecondDerivative(cube.time), np.eye(60)
    d = (np.eye(60, k=1) - 2 * eye + np.eye(60, k=-1)) / 0.004**2
    d[[0, -1]] = 0
    for operator, M in (
        (A @ B, H @ G),
        (D @ A, d @ H),
        (A @ D, H @ d),
        (A + 3 * B, H + 3 * G),
        (A.gram, H.T @ H),
        (B @ (A - xl.Identity(cube.time)), G @ (H - eye)),
        ((A + D) @ B, (H + d) @ G),
    ):
        agree(operator @ x, along(M, cube.values, 1))
        agree(operator.H @ x, along(M.T, cube.values, 1))


def test_tasks():
    x = xr.DataArray(np.zeros((40, 40)), dims=("a", "b")).chunk(a=10, b=10)
    own = len(x.data.dask)
    for method in METHODS:
        C = xl.Convolve1D(x.a, taps(9), 4, method=method)
        for A in (C, C.H, C.gram):
            assert len((A @ x).data.dask) - own <= 3 * 16 + 1
    for method in ("direct", "fft"):
        C = xl.ConvolveND(x.a, x.b, h=taps(3, 5), offset=(1, 2), method=method)
        assert len((C @ x).data.dask) - own <= 9 * 16 + 1


def test_only_what_is_near():
    """Tap by tap, NaN reaches as far as the filter."""
    x = xr.DataArray(np.arange(50.0), dims="t")
    x[20] = np.nan
    y = (xl.Convolve1D(x.t, taps(40), 10, method="direct") @ x).values
    assert np.isnan(y[10:50]).all()
    assert np.isfinite(y[:10]).all()
    plane = xr.DataArray(np.ones((9, 9)), dims=("x", "y"))
    plane[4, 4] = np.inf
    y = xl.ConvolveND(plane.x, plane.y, h=np.ones((3, 3)), offset=(1, 1), method="direct")
    far = ~np.isfinite((y @ plane).values)
    assert far[3:6, 3:6].all()
    assert far.sum() == 9


def test_units_and_traits(cube):
    x = cube.assign_attrs(units="Pa")
    h = xr.DataArray(taps(3), dims="lag", attrs={"units": "m"})
    assert (xl.Convolve1D(x.time, h) @ x).attrs["units"] == "m Pa"
    quantity = pint.Quantity(taps(3), "m")
    C = xl.Convolve1D(x.time, quantity)
    assert (C @ x).attrs["units"] == "m Pa"
    assert str(C.units) == "meter"
    assert (xl.Convolve1D(x.time, taps(3)) @ x).attrs["units"] == "Pa"
    assert "symmetric" in xl.Convolve1D(x.time, [1.0, 2, 1], 1).traits
    assert "symmetric" in xl.Convolve1D(x.time, [1j, 2, -1j], 1).traits
    assert "symmetric" not in xl.Convolve1D(x.time, [1.0, 2, 1]).traits
    assert "symmetric" not in xl.Convolve1D(x.time, [1j, 2, 1j], 1).traits


def test_immutable_and_pickled(cube):
    h = taps(70)
    C = xl.Convolve1D(cube.time, h, 7)
    before = (C @ cube).values
    h[:] = 0
    agree(C @ cube, before)
    again = pickle.loads(pickle.dumps(C))
    assert again == C
    agree(again @ cube, before)
    assert xl.Convolve1D(cube.time, h, 7) != C
    assert xl.Convolve1D(cube.time, h, 7) != xl.Convolve1D(cube.time, h, 8)


# --- errors -----------------------------------------------------------------------------


def lagged(*lags, **attrs):
    return xr.DataArray(np.ones(len(lags)), {"lag": ("lag", list(lags), attrs)}, dims="lag")


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda d: xl.Convolve1D(d.time, np.ones((2, 3))), xl.LabelError, "one dim, got 2"),
        (lambda d: xl.Convolve1D(d.time, 3.0), xl.LabelError, "one dim, got 0"),
        (lambda d: xl.Convolve1D(d.time, []), xl.LabelError, "empty"),
        (lambda d: xl.Convolve1D(d.time, ["a"]), xl.DTypeError, "numbers"),
        (lambda d: xl.Convolve1D(d.time, [1.0], 1), xl.ArgumentError, "1 samples of h"),
        (lambda d: xl.Convolve1D(d.time, [1.0], -1), xl.ArgumentError, "got -1"),
        (lambda d: xl.Convolve1D(d.time, [1.0], 0.0), xl.DTypeError, "whole number"),
        (lambda d: xl.Convolve1D(d.time, [1.0], method="auto"), xl.ArgumentError, "direct"),
        (lambda d: xl.Convolve1D(d, [1.0]), xl.LabelError, "one dim"),
        (lambda d: xl.Convolve1D(d.time, lagged(0, 1.0)), xl.LabelError, "steps of 1"),
        (lambda d: xl.Convolve1D(d.time, lagged(0.002, 0.006)), xl.LabelError, "lag 0"),
        (lambda d: xl.Convolve1D(d.time, lagged(0.004, 0.008)), xl.LabelError, "lag 0"),
        (
            lambda d: xl.Convolve1D(d.time, lagged(0, 0.004, 0.012)),
            xl.LabelError,
            "step 0|step 1",
        ),
        (lambda d: xl.Convolve1D(d.time, lagged(0, 0.004), 1), xl.ArgumentError, "index 0"),
        (lambda d: xl.Convolve1D(d.time, lagged(0, 0.004).chunk()), xl.DTypeError, "lazy"),
        (lambda d: xl.Convolve1D(d.time, lagged("a", "b")), xl.LabelError, "numbers or"),
        (
            lambda d: xl.Convolve1D(d.time, d[:, :3], lag="depth"),
            xl.LabelError,
            "over 'time' too",
        ),
        (
            lambda d: xl.Convolve1D(d.time, lagged(0), lag="no"),
            xl.LabelError,
            "no dim 'no'",
        ),
        (lambda d: xl.ConvolveND(h=np.ones(3)), xl.LabelError, "at least one"),
        (lambda d: xl.ConvolveND(d.time, h=np.ones((3, 3))), xl.LabelError, "one dim for"),
        (lambda d: xl.ConvolveND(d.time, d.time, h=np.eye(2)), xl.LabelError, "once"),
        (
            lambda d: xl.ConvolveND(d.time, d.shot, h=np.eye(2), offset=(1, 2)),
            xl.ArgumentError,
            "'shot'",
        ),
        (
            lambda d: xl.ConvolveND(d.time, d.shot, h=np.eye(2), offset=(1,)),
            xl.ArgumentError,
            "one number for each",
        ),
        (
            lambda d: xl.ConvolveND(d.time, d.shot, h=np.eye(2), method="overlapadd"),
            xl.ArgumentError,
            "auto",
        ),
    ],
)
def test_errors(cube, build, error, words):
    with pytest.raises(error, match=words) as caught:
        build(cube)
    assert "Convolve" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0.0, 1, 2, 4], "step 2"),
        ([0.0, 1, np.nan, 3], "NaN|nan"),
        ([0.0, 1, 1, 2], "repeated"),
    ],
)
def test_uneven_axes(labels, words):
    x = xr.DataArray(np.ones(4), {"t": labels}, dims="t")
    for build in (
        lambda: xl.Convolve1D(x.t, [1.0, 2]),
        lambda: xl.ConvolveND(x.t, h=[1.0, 2]),
        lambda: xl.Convolve1D(x.t, lagged(0.0, 1.0)),
    ):
        with pytest.raises(xl.LabelError, match=words):
            build()
