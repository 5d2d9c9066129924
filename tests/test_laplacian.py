"""Laplacian and Gradient against PyLops and against matrices."""

import itertools
import pickle

import dask
import numpy as np
import pint
import pylops
import pytest
import xarray as xr

import xlops as xl

SHAPE = (6, 7, 5)
STEPS = {"x": 2.0, "y": 0.5, "z": -5.0}  # z falls
DIMS = tuple(STEPS)
CUTS = {
    "numpy": {},
    "short": {"x": 1, "y": 3},
    "uneven": {"x": (1, 3, 2), "z": (3, 2)},
}

all_cuts = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
all_kinds = pytest.mark.parametrize("kind", ["centered", "forward", "backward"])
both_edges = pytest.mark.parametrize("edge", [False, True])


def cube(dtype="float64", seed=3, shape=SHAPE):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    coords = {
        dim: (dim, step * np.arange(n) + 3.0, {"units": "m"})
        for (dim, step), n in zip(STEPS.items(), shape, strict=True)
    }
    return xr.DataArray(values.astype(dtype), coords, DIMS, attrs={"units": "K"})


def cut_up(x, cut):
    return x.chunk(cut) if cut else x


def agree(result, expected, tol=1e-12):
    scale = np.max(np.abs(expected), initial=1e-300)
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=tol * scale)


@all_cuts
@all_kinds
@both_edges
@pytest.mark.parametrize(
    ("dims", "weights"),
    [
        ("xy", None),
        ("xz", (0.5, -3.0)),
        ("zx", (1, 2)),
        ("zyx", np.array([2.0, 0.0, 1.0])),
    ],
)
def test_laplacian(dims, weights, kind, edge, cut):
    x = cube()
    P = pylops.Laplacian(
        SHAPE,
        [DIMS.index(dim) for dim in dims],
        np.ones(len(dims)) if weights is None else weights,
        [STEPS[dim] for dim in dims],
        edge,
        kind,
    )
    A = xl.Laplacian(*(x[dim] for dim in dims), weights=weights, edge=edge, kind=kind)
    flat = x.values.ravel()
    y = A @ cut_up(x, cut)
    agree(y, (P @ flat).reshape(SHAPE))
    agree(A.H @ cut_up(x, cut), (P.H @ flat).reshape(SHAPE))
    if weights is None:
        agree(A.gram @ cut_up(x, cut), (P.H @ (P @ flat)).reshape(SHAPE))
    assert y.attrs["units"] == "K m-2"
    assert y.coords.to_dataset().identical(x.coords.to_dataset())


@all_cuts
@pytest.mark.parametrize("dtype", ["float32", "complex64", "complex128"])
def test_dtypes(dtype, cut):
    x = cube(dtype)
    double = x.astype(np.result_type(dtype, np.float64))
    kwargs = {"weights": (1, 2, 0.5), "sampling": tuple(STEPS.values()), "edge": True}
    P = pylops.Laplacian(SHAPE, (0, 1, 2), **kwargs, dtype=double.dtype)
    A = xl.Laplacian(x.x, x.y, x.z, weights=(1, 2, 0.5), edge=True)
    tol = 1e-12 if dtype == "complex128" else 1e-6
    for B, Q in ((A, P), (A.H, P.H)):
        expected = (Q @ double.values.ravel()).reshape(SHAPE).astype(dtype)
        agree(B @ cut_up(x, cut), expected, tol)


@all_cuts
@all_kinds
@both_edges
def test_gradient(kind, edge, cut):
    x = cube()
    P = pylops.Gradient(SHAPE, tuple(STEPS.values()), edge, kind)
    A = xl.Gradient(x.x, x.y, x.z, edge=edge, kind=kind)
    expected = (P @ x.values.ravel()).reshape(3, *SHAPE)
    slopes = A @ cut_up(x, cut)
    assert list(slopes) == ["x", "y", "z"]
    for slope, part in zip(slopes.values(), expected, strict=True):
        agree(slope, part)
        assert slope.attrs["units"] == "K m-1"
    back = (P.H @ expected.ravel()).reshape(SHAPE)
    agree(A.H @ slopes, back)
    agree(A.gram @ cut_up(x, cut), back)


# --- one pass -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 90])
@both_edges
def test_one_pass_gives_the_sum_of_its_terms(edge, n):
    """On tiles and chunks of any size, the terms made at once or one by one."""
    x = cube(shape=(n, n + 3, n + 1))
    A = xl.Laplacian(x.x, x.y, x.z, weights=(1, 2, -1), edge=edge)
    parts = [xl.SecondDerivative(x[dim], edge=edge) for dim in DIMS]
    for data in (x, x.chunk(x=17, y=31), x.chunk(x=30, y=30, z=30)):
        for adjoint in (False, True):
            B, *ones = (op.H if adjoint else op for op in (A, *parts))
            one, two, three = (op @ x for op in ones)
            expected = (one + 2 * two - three).values
            agree(B @ data, expected)


def test_tasks_per_chunk():
    """Chunk, four strips or six, and no task for each of the terms."""
    x = cube(shape=(12, 12, 12)).chunk(4)
    for dims, most in (("xy", 5), ("xyz", 7)):
        A = xl.Laplacian(*(x[dim] for dim in dims), weights=[2.0] * len(dims))
        for B in (A, A.H):
            y = B @ x
            tasks = y.data.__dask_graph__().keys() - x.data.__dask_graph__().keys()
            assert len(tasks) <= most * 27 + 2


# --- matrices and closed forms --------------------------------------------------------


def dense(A):
    """The matrix of an operator over its own dims."""
    n = A.domain.size
    unit = xr.DataArray(
        np.eye(n).reshape(n, *A.domain.sizes.values()),
        A.domain.coords,
        dims=("unit", *A.domain.dims),
    )
    return (A @ unit).transpose("unit", *A.range.dims).values.reshape(n, -1).T


def second(n, step, edge):
    """Second differences as a matrix."""
    matrix = np.zeros((n, n))
    rows = np.arange(1, n - 1)
    for offset, weight in ((-1, 1), (0, -2), (1, 1)):
        matrix[rows, rows + offset] = weight
    if edge:
        matrix[0, :3], matrix[-1, -3:] = (1, -2, 1), (1, -2, 1)
    return matrix / step**2


@both_edges
def test_kronecker_sum(edge):
    x = cube()
    A = xl.Laplacian(x.x, x.y, weights=(3, 1), edge=edge)
    X, Y = second(6, 2.0, edge), second(7, 0.5, edge)
    expected = 3 * np.kron(X, np.eye(7)) + np.kron(np.eye(6), Y)
    np.testing.assert_allclose(dense(A), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dense(A.H), expected.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dense(A.gram), expected.T @ expected, rtol=0, atol=1e-10)


def test_exact_on_parabolas_over_uneven_axes():
    a = np.array([0.0, 1.0, 1.5, 4.0, 4.5, 7.0])
    b = np.array([3.0, 2.0, 0.5, 0.0, -4.0])
    x = xr.DataArray(a, dims="a", coords={"a": a}) ** 2 * 0.5
    y = xr.DataArray(b, dims="b", coords={"b": b}) ** 2 * 2.0
    d = x + y
    for data in (d, d.chunk(a=2, b=3)):
        curvature = (xl.Laplacian(d.a, d.b, edge=True) @ data).values
        np.testing.assert_allclose(curvature, 5.0, rtol=1e-12)
        slopes = xl.Gradient(d.a, d.b) @ data
        inside = slopes["a"][1:-1, 0].values, slopes["b"][0, 1:-1].values
        np.testing.assert_allclose(inside[0], a[1:-1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(inside[1], 4 * b[1:-1], rtol=0, atol=1e-12)


@all_cuts
def test_in_chains_and_sums(cut):
    """Fused or not, as the matrices say."""
    x = cube()
    L, S = xl.Laplacian(x.x, x.y, edge=True), xl.SecondDerivative(x.z)
    D, M = xl.FirstDerivative(x.y), xl.Mask(x > 0)
    eye = np.eye
    l = np.kron(
        np.kron(second(6, 2.0, True), eye(7)) + np.kron(eye(6), second(7, 0.5, True)),
        eye(5),
    )
    s = np.kron(eye(42), second(5, 5.0, False))
    d = np.kron(np.kron(eye(6), dense(D)), eye(5))
    m = np.diag((x.values > 0).ravel().astype(float))
    for A, matrix in (
        (L @ D, l @ d),
        (D @ L, d @ l),
        (L + S, l + s),
        (2 * L - S, 2 * l - s),
        (L @ L, l @ l),
        (M @ L @ M, m @ l @ m),
        (L.H @ M @ L + S @ S, l.T @ m @ l + s @ s),
    ):
        for B, T in ((A, matrix), (A.H, matrix.T)):
            expected = (T @ x.values.ravel()).reshape(SHAPE)
            agree(B @ cut_up(x, cut), expected, tol=1e-11)


def test_rows_of_one_pattern_stay_compact():
    """Only the ends of an even axis are tables; on uneven ones all rows read alike."""
    n = 4000
    even = xr.DataArray(np.zeros(n), dims="x")
    months = xr.date_range("1700-01", periods=n, freq="MS", use_cftime=True).values
    uneven = xr.DataArray(np.zeros(n), {"x": months}, dims="x")
    for edge, cls in itertools.product(
        (False, True), (xl.FirstDerivative, xl.SecondDerivative)
    ):
        for coord in (even.x, uneven.x):
            A = cls(coord, edge=edge)
            for kernel in A._kernels:
                ((_, band),) = kernel.terms
                assert band.last - band.first >= n - 6
                if coord is even.x:
                    assert band.tables[0].size <= 6 * len(band.offsets)


# --- units and arguments --------------------------------------------------------------


def in_kilometres(x, dim):
    return x.assign_coords({dim: (dim, x[dim].values / 1000, {"units": "km"})})


@all_cuts
def test_units_are_converted(cut):
    x = cube()
    y = in_kilometres(x, "y")
    expected = xl.Laplacian(x.x, x.y) @ x
    result = xl.Laplacian(y.x, y.y) @ cut_up(y, cut)
    agree(result, expected.values, tol=1e-11)
    assert result.attrs["units"] == "K m-2"
    result = xl.Laplacian(y.y, y.x) @ cut_up(y, cut)
    agree(result, 1e6 * expected.values, tol=1e-11)
    assert result.attrs["units"] == "K km-2"
    slopes = xl.Gradient(y.x, y.y) @ cut_up(y, cut)
    assert slopes["y"].attrs["units"] == "K km-1"
    plain = xl.Gradient(x.x, x.y)
    both = plain @ x
    agree(slopes["y"], 1000 * both["y"].values, tol=1e-11)
    # Blocks that carry units are converted before they are added up.
    back = xl.Gradient(y.x, y.y).H @ slopes
    agree(back, (plain.H @ both).values, tol=1e-11)
    assert back.attrs["units"] == "K m-2"


def test_units_that_do_not_add():
    x = cube()
    degrees = x.assign_coords(y=("y", x.y.values, {"units": "degrees_north"}))
    with pytest.raises(xl.UnitError, match=r"Laplacian\(x, y\): .* cannot be added"):
        xl.Laplacian(degrees.x, degrees.y)
    Q = pint.Quantity
    weights = (Q(1.0, "m**2"), Q(2.0, "degree**2"))
    A = xl.Laplacian(degrees.x, degrees.y, weights=weights)
    B = xl.Laplacian(x.x, x.y, weights=(1, 2))
    agree(A @ degrees, (B @ x).values)
    assert (A @ degrees).attrs["units"] == "K"
    slopes = xl.Gradient(degrees.x, degrees.y) @ degrees
    assert slopes["x"].attrs["units"] == "K m-1"


@pytest.mark.parametrize("cls", [xl.Laplacian, xl.Gradient])
def test_what_is_refused(cls):
    x = cube()
    with pytest.raises(xl.LabelError, match="at least one coordinate"):
        cls()
    with pytest.raises(xl.LabelError, match="each dim can be given once"):
        cls(x.x, x.y, x.x)
    with pytest.raises(xl.LabelError, match=r"sound: .*needs at least"):
        cls(x.x, x.y[:2] if cls is xl.Laplacian else x.y[:1], name="sound")
    with pytest.raises(xl.ArgumentError, match="kind must be one of"):
        cls(x.x, x.y, kind="upwind")
    with pytest.raises(xl.LabelError, match="one dim"):
        cls(x)
    with pytest.raises(xl.DTypeError, match="coordinate"):
        cls("x", "y")
    with pytest.raises(xl.DTypeError, match="name must be a string"):
        cls(x.x, x.y, name=3)
    repeated = x.assign_coords(y=("y", [0.0, 1, 1, 2, 3, 4, 5]))
    with pytest.raises(xl.LabelError, match="repeated"):
        cls(x.x, repeated.y)


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3), 2.0, "12", (1, "2"), [[1], [2]]])
def test_weights_that_are_refused(weights):
    x = cube()
    with pytest.raises(xl.ArgumentError, match="one number or quantity for each of the 2"):
        xl.Laplacian(x.x, x.y, weights=weights)


def test_weights_that_are_not_finite():
    x = cube()
    with pytest.raises(xl.ArgumentError, match=r"Laplacian\(x, y\)"):
        xl.Laplacian(x.x, x.y, weights=(1, np.nan))


@pytest.mark.parametrize("cls", [xl.Laplacian, xl.Gradient])
def test_repr_equality_and_pickling(cls):
    x = cube()
    A, named = cls(x.x, x.y, edge=True), cls(x.x, x.y, edge=True, name="roughness")
    assert repr(A).splitlines()[0] == f"<{cls.__name__}> {cls.__name__}(x, y)"
    assert repr(named).splitlines()[0] == f"<{cls.__name__}> roughness"
    assert cls(x.x, x.y, edge=True) == A
    assert hash(A) == hash(cls(x.x, x.y, edge=True))
    assert cls(x.x, x.y) != A
    assert cls(x.y, x.x, edge=True) != A
    if cls is xl.Laplacian:
        assert cls(x.x, x.y, weights=(1, 1.0), edge=True) == A
        assert cls(x.x, x.y, weights=(1, 2), edge=True) != A
    for B in (A, named, A.H, A.gram):
        again = pickle.loads(pickle.dumps(B))
        assert again == B
        assert repr(again) == repr(B)
        assert type(again) is type(B)
    assert A.H.H is A
    assert xl.dottest(A)
    assert xl.dottest(named.H)
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed")):
        A @ x.chunk(x=2)


# --- the accessor ---------------------------------------------------------------------


def test_accessor_takes_several_dims():
    x = cube()
    for data in (x, x.chunk(x=2)):
        y = data.lops.apply(xl.Laplacian, "x", "y", weights=(1, 2), edge=True)
        assert y.identical(xl.Laplacian(x.x, x.y, weights=(1, 2), edge=True) @ data)
        slopes = data.lops.apply(xl.Gradient, *x.dims)
        expected = xl.Gradient(x.x, x.y, x.z) @ data
        assert list(slopes) == ["x", "y", "z"]
        assert all(slopes[name].identical(expected[name]) for name in slopes)
        back = data.lops.adjoint(xl.Laplacian, "z", "x")
        assert back.identical(xl.Laplacian(x.z, x.x).H @ data)


def test_accessor_of_a_dataset_takes_several_dims():
    x = cube()
    ds = xr.Dataset({"field": x, "line": x[0, 0], "number": 3.0})
    result = ds.lops.apply(xl.Laplacian, "x", "y")
    assert result.field.identical((xl.Laplacian(x.x, x.y) @ x).rename("field"))
    assert result.line.identical(ds.line)
    slopes = ds[["field"]].lops.apply(xl.Gradient, "x", "y")
    assert slopes["x"].identical((xl.Gradient(x.x, x.y) @ x)["x"].rename("field"))


def test_accessor_says_how_arguments_are_given():
    x = cube()
    with pytest.raises(xl.LabelError, match="dim 't' is missing: the data have 'x', 'y'"):
        x.lops.apply(xl.Laplacian, "x", "t")
    with pytest.raises(xl.DTypeError, match=r"dims are names.*by keyword"):
        x.lops.apply(xl.Laplacian, ["x", "y"])
    with pytest.raises(xl.DTypeError, match=r"dims are names.*by keyword"):
        x.lops.apply(xl.Restriction, "x", [0, 1])
