"""Integrals against PyLops, and against closed forms where it has none."""

import itertools
import pickle

import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import gather

KINDS = ["full", "half", "trapezoidal"]
DIMS = ("shot", "time", "depth")
STEPS = {"shot": 2.0, "time": 0.004, "depth": -5.0}  # depth falls
CUTS = {
    "numpy": {},
    "along": {"along": (1, 3, None)},
    "one by one": {"along": 1},
    "across": {"across": 2},
    "both": {"along": 2, "across": (1, None)},
}

all_kinds = pytest.mark.parametrize("kind", KINDS)
all_cuts = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


def cube(shape=(5, 7, 6), dtype="float64", seed=3):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    coords = {
        dim: (dim, step * np.arange(n) + 3.0)
        for (dim, step), n in zip(STEPS.items(), shape, strict=True)
    }
    return xr.DataArray(values.astype(dtype), coords=coords, dims=DIMS)


def chunked(x, dim, cut):
    """Chunks along a dim and across it; None stands for what is left."""
    if not cut:
        return x
    chunks = {}
    for other, n in x.sizes.items():
        sizes = cut.get("along" if other == dim else "across", n)
        if isinstance(sizes, tuple):
            *first, _ = sizes
            left = n - sum(first)
            sizes = (*first, left) if left > 0 else n
        chunks[other] = sizes
    return x.chunk(chunks)


def agree(result, expected, tol=1e-12):
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    scale = np.max(np.abs(expected), initial=1e-300)
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=tol * scale)


@all_cuts
@all_kinds
@pytest.mark.parametrize("removefirst", [False, True])
@pytest.mark.parametrize(
    ("dim", "dtype"), [*((dim, "float64") for dim in DIMS), ("time", "complex128")]
)
def test_as_pylops(kind, removefirst, dim, dtype, cut):
    x = cube(dtype=dtype)
    P = pylops.CausalIntegration(
        x.shape, DIMS.index(dim), STEPS[dim], kind, removefirst, dtype=dtype
    )
    A = xl.CausalIntegration(x[dim], kind, removefirst)
    expected = (P @ x.values.ravel()).reshape(P.dimsd)
    y = A @ chunked(x, dim, cut)
    agree(y, expected)
    v = y.copy(data=cube(P.dimsd, dtype, seed=4).values)
    agree(A.H @ chunked(v, dim, cut), (P.H @ v.values.ravel()).reshape(x.shape))
    assert y[dim].identical(x[dim][1:] if removefirst else x[dim])


@all_kinds
@pytest.mark.parametrize("n", [1, 2, 3])
def test_short_axes(kind, n):
    x = xr.DataArray(np.arange(1.0, n + 1), dims="t")
    P = pylops.CausalIntegration(n, kind=kind)
    A = xl.CausalIntegration(x.t, kind)
    for data in (x, x.chunk(t=1)):
        agree(A @ data, P @ x.values)
        agree(A.H @ data, P.H @ x.values)
    if n > 1:
        P = pylops.CausalIntegration(n, kind=kind, removefirst=True)
        A = xl.CausalIntegration(x.t, kind, removefirst=True)
        for data in (x, x.chunk(t=1)):
            agree(A @ data, P @ x.values)
            agree(A.H @ data[1:], P.H @ x.values[1:])


@all_kinds
def test_lines_of_any_length(kind):
    """Kernels take lines side by side and in parts: none is left out."""
    for shape in [(3, 300, 1), (17, 129, 1), (1, 257, 3), (33, 5, 1), (2, 130, 20)]:
        values = np.random.default_rng(0).standard_normal(shape)
        labels = {"t": 0.5 * np.arange(shape[1])}
        x = xr.DataArray(values, labels, dims=("a", "t", "b"))
        for data, dtype in ((x, float), (x + 1j * x[::-1].values, complex)):
            P = pylops.CausalIntegration(shape, 1, 0.5, kind, dtype=dtype)
            A = xl.CausalIntegration(x.t, kind)
            flat = data.values.ravel()
            turned = data.transpose("b", "t", "a")
            strange = data.copy(data=np.asfortranarray(data.values))
            for B, Q in ((A, P), (A.H, P.H)):
                expected = (Q @ flat).reshape(shape)
                for given in (data, turned, strange, data.chunk(t=100), data.chunk(a=1)):
                    agree((B @ given).transpose(*data.dims), expected)


# --- what PyLops does not have ----------------------------------------------------------


def weights(labels, kind):
    """The matrix, from its definition; the first step counts twice."""
    h = np.diff(labels)
    h = np.r_[h[0], h]
    n = len(h)
    matrix = np.zeros((n, n))
    for i, j in itertools.product(range(n), range(n)):
        if kind == "trapezoidal":
            if i == j == 0:
                matrix[i, j] = h[0] / 2
            elif j <= i:
                left = h[j] if j > 0 else 0.0  # lines that end at j, and that start there
                right = h[j + 1] if j < i else 0.0
                matrix[i, j] = (left + right) / 2
        elif j < i:
            matrix[i, j] = h[j]
        elif j == i:
            matrix[i, j] = h[j] / (1 if kind == "full" else 2)
    return matrix


def uneven(n=9):
    return np.cumsum(1.0 + 0.8 * np.sin(np.arange(n))) - 4.0


AXES = {
    "uneven": (uneven(), uneven()),
    "uneven, falling": (uneven()[::-1], uneven()[::-1]),
    "even, falling": (-0.5 * np.arange(9), -0.5 * np.arange(9)),
    "months": (
        xr.date_range("2024-01", periods=9, freq="MS").values,
        86400.0 * np.cumsum([0, 31, 29, 31, 30, 31, 30, 31, 31]),
    ),
    "durations": (
        np.array([0, 1, 3, 4, 8, 9, 10, 20, 21]) * np.timedelta64(60, "s"),
        60.0 * np.array([0, 1, 3, 4, 8, 9, 10, 20, 21]),
    ),
    "cftime": (
        xr.date_range("2000-02", periods=9, freq="MS", calendar="noleap").values,
        86400.0 * np.cumsum([0, 28, 31, 30, 31, 30, 31, 31, 30]),
    ),
    "integers": (np.array([0, 1, 4, 9, 16, 25, 36, 49, 64]), np.arange(9.0) ** 2),
}


@all_cuts
@all_kinds
@pytest.mark.parametrize("axis", AXES)
def test_local_steps(axis, kind, cut):
    labels, numbers = AXES[axis]
    x = xr.DataArray(
        np.random.default_rng(1).standard_normal((9, 4)), {"t": labels}, dims=("t", "z")
    )
    if axis == "durations":
        x = x.assign_coords(t=labels.astype("timedelta64[ns]"))
    matrix = weights(numbers, kind)
    for removefirst in (False, True):
        A = xl.CausalIntegration(x.t, kind, removefirst)
        M = matrix[removefirst:]
        y = A @ chunked(x, "t", cut)
        agree(y, M @ x.values)
        agree(A.H @ chunked(y.compute(), "t", cut), M.T @ (M @ x.values), tol=1e-11)


@pytest.mark.parametrize("labels", [uneven(), uneven()[::-1]], ids=["rising", "falling"])
def test_trapezoids_are_exact_on_lines(labels):
    x = xr.DataArray(2.0 - 3.0 * labels, {"z": labels}, dims="z")
    integral = 2.0 * labels - 1.5 * labels**2
    A = xl.CausalIntegration(x.z, "trapezoidal", removefirst=True)
    for data in (x, x.chunk(z=2)):
        expected = integral[1:] - integral[0]
        np.testing.assert_allclose((A @ data).values, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("time", ["even", "uneven", "uneven, falling", "months"])
def test_derivatives_undo_integrals(time):
    """Backward differences take sums apart, step by step."""
    d = gather(time)
    integral = xl.CausalIntegration(d.time) @ d
    back = xl.FirstDerivative(d.time, kind="backward") @ integral
    np.testing.assert_allclose(back[1:].values, d[1:].values, rtol=1e-12)
    assert back.attrs["units"] == "Pa"
    half = xl.FirstDerivative(d.time, kind="forward") @ (
        xl.CausalIntegration(d.time, "trapezoidal") @ d
    )
    means = (d.values[1:-1] + d.values[2:]) / 2
    np.testing.assert_allclose(half[1:-1].values, means, rtol=1e-11, atol=1e-12)


def test_single_precision_adds_in_double():
    n = 200_000
    x = xr.DataArray(np.full((n, 2), 0.1, np.float32), dims=("t", "z"))
    A = xl.CausalIntegration(x.t)
    exact = np.float64(np.float32(0.1)) * np.arange(1, n + 1)
    for data in (x, x.T, x.chunk(t=n // 4)):
        y = A @ data
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.transpose("t", "z")[:, 0].values, exact, rtol=3e-7)


def test_labels_units_and_coordinates():
    d = gather()
    y = xl.CausalIntegration(d.time, removefirst=True) @ d.assign_attrs(units="m s-1")
    assert y.attrs["units"] == "m"
    for name in ("time", "age", "arrival"):
        assert y[name].variable.identical(d[name][{"time": slice(1, None)}].variable)
    back = xl.CausalIntegration(d.time, removefirst=True).H @ y
    for name in ("time", "age", "offset", "receiver"):
        assert back[name].variable.identical(d[name].variable)


def test_nan_stays_ahead():
    """What comes before NaN is as it was; what comes after has met it."""
    x = xr.DataArray(np.ones(9), dims="t")
    x[4] = np.nan
    for data in (x, x.chunk(t=2)):
        assert (
            np.isnan((xl.CausalIntegration(x.t) @ data).values).tolist()
            == [False] * 4 + [True] * 5
        )
        adjoint = (xl.CausalIntegration(x.t).H @ data).values
        assert np.isnan(adjoint).tolist() == [True] * 5 + [False] * 4


@all_kinds
def test_in_chains_and_sums(kind):
    """Fused or not, on NumPy and Dask, as the matrices say."""
    d = gather("uneven", (8, 5, 6))
    C = xl.CausalIntegration(d.time, kind)
    D, R = xl.FirstDerivative(d.time), xl.Restriction(d.time, [6, 1, 2])
    M, W = xl.Mask(d[:, 0, 0] > 0), xl.CausalIntegration(d.depth, removefirst=True)

    def dense(A):
        n = A.domain.size
        unit = xr.DataArray(
            np.eye(n).reshape(n, *A.domain.sizes.values()),
            A.domain.coords,
            dims=("unit", *A.domain.dims),
        )
        return (A @ unit).transpose("unit", ...).values.reshape(n, -1).T

    c, r, m = dense(C), dense(R), dense(M)
    first = dense(D)
    matrices = {
        C @ D: c @ first,
        D @ C: first @ c,
        R @ C @ M: r @ c @ m,
        C @ C.H: c @ c.T,
        C.H @ D: c.T @ first,
        0.5 * C @ C + C @ M @ C: 0.5 * c @ c + c @ m @ c,
        M @ C - 2 * C: m @ c - 2 * c,
    }
    for A, matrix in matrices.items():
        expected = np.tensordot(matrix, d.values, 1)
        flipped = np.tensordot(matrix.T, np.resize(d.values, expected.shape), 1)
        for cut in ({}, {"time": 3}, {"time": 1, "offset": 2}, {"depth": 2}):
            data = d.chunk(cut) if cut else d
            y = A @ data
            agree(y, expected, tol=1e-11)
            v = y.copy(data=np.resize(d.values, expected.shape))
            if cut:
                v = v.chunk(cut)
            agree(A.H @ v, flipped, tol=1e-11)
    y = (W @ C) @ d.chunk(time=3, depth=2)
    step_by_step = np.cumsum(-5.0 * np.einsum("ij,jkl->ikl", c, d.values), axis=2)[..., 1:]
    agree(y, step_by_step, tol=1e-11)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ([0.0, 1.0, np.nan], "no spacing"),
        ([0.0, 1, 1], "repeated"),
        ([0.0, 2, 1], "unsorted"),
    ],
)
def test_labels_without_steps(labels, error):
    x = xr.DataArray(np.ones(3), {"t": labels}, dims="t")
    with pytest.raises(xl.LabelError, match=error) as caught:
        xl.CausalIntegration(x.t, name="sum of all")
    assert "sum of all" in str(caught.value)


def test_what_is_refused():
    x = xr.DataArray(np.ones((3, 2)), {"t": [0.0, 1, 2]}, dims=("t", "z"))
    with pytest.raises(xl.ArgumentError, match="kind must be one of 'full', 'half'"):
        xl.CausalIntegration(x.t, "simpson")
    with pytest.raises(xl.ArgumentError, match="removefirst must be one of"):
        xl.CausalIntegration(x.t, removefirst="yes")
    with pytest.raises(xl.LabelError, match="one dim"):
        xl.CausalIntegration(x)
    with pytest.raises(xl.DTypeError, match="coordinate"):
        xl.CausalIntegration("t")
    with pytest.raises(xl.LabelError, match="single sample, so there is no step"):
        xl.CausalIntegration(x.t[:1])
    with pytest.raises(xl.LabelError, match="single sample, which would be removed"):
        xl.CausalIntegration(x.z[:1], removefirst=True)
    with pytest.raises(xl.DTypeError, match="name must be a string"):
        xl.CausalIntegration(x.t, name=3)


def test_repr_equality_and_pickling():
    x = gather()
    A = xl.CausalIntegration(x.time, "half", name="sum")
    assert repr(A).splitlines()[0] == "<CausalIntegration> sum"
    assert pickle.loads(pickle.dumps(A)) == A
    assert xl.CausalIntegration(x.time) != xl.CausalIntegration(x.time, "half")
    assert str(xl.CausalIntegration(x.time).H) == "CausalIntegration(time).H"
