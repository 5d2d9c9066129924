"""Operators bound to arrays of one shape: matrices on flat vectors."""

import pickle

import dask
import numpy as np
import pytest
import scipy.sparse.linalg as sla
import xarray as xr

import xlops as xl
from tests.catalogue import CATALOGUE, each_of, gather
from xlops.bound import Bound
from xlops.space import Blocks


def flat(x, side=None):
    """Labeled data, or blocks of them, as one flat vector in the order of a side."""
    if isinstance(x, dict):
        parts = [flat(b, None if side is None else side[n]) for n, b in x.items()]
        return np.concatenate(parts)
    return np.asarray((x if side is None else x.transpose(*side.dims)).values).ravel()


def agree(result, expected, rtol=1e-13):
    assert result.shape == expected.shape
    scale = np.max(np.abs(expected), initial=1e-300)
    np.testing.assert_allclose(result, expected, rtol=0, atol=rtol * scale)


@pytest.fixture
def d():
    return gather()


def like_of(A, d):
    """Data that an operator of the catalogue takes."""
    if isinstance(A.domain, Blocks):
        return A.domain.random(5)
    x = A.domain.random(5, like=xr.DataArray(np.zeros(2), dims="shot"))
    return x.transpose(*x.dims[:1], "shot", ...)


@each_of(CATALOGUE)
def test_flat_vectors_are_labeled_ones_without_labels(entry):
    d = gather(entry.time)
    A = entry.build(d)
    x = like_of(A, d)
    B = A.bind(x)
    y = A @ x
    assert isinstance(B, Bound)
    assert B.shape == (flat(y).size, flat(x).size)
    assert B.size == B.shape[0] * B.shape[1]
    assert B.dtype == np.result_type(flat(x), flat(y))
    agree(B.matvec(flat(x)), flat(y))
    z = B.range.random(6)
    back = flat(A.H @ z, B.domain)
    agree(B.rmatvec(flat(z)), back)
    agree(B.H.matvec(flat(z)), back)
    X = np.stack([flat(x), -2 * flat(x), 0 * flat(x)], axis=1)
    agree(B.matmat(X), np.stack([flat(y), -2 * flat(y), 0 * flat(y)], axis=1))
    Z = np.stack([flat(z), 0.5 * flat(z)], axis=1)
    agree(B.rmatmat(Z), np.stack([back, 0.5 * back], axis=1))
    check_sides(B, x, B @ x)


def check_sides(B, x, made):
    """Dims in order, sizes and labels are those of what goes in and comes out."""
    for key, space in sides(B.range).items():
        y = made[key] if isinstance(made, dict) else made
        assert space.dims == y.dims
        assert dict(space.sizes) == dict(y.sizes)
        for name in space.names:
            assert y.coords[name].variable.identical(space.labels[name].variable)
    for key, space in sides(B.domain).items():
        given = x[key] if isinstance(x, dict) else x
        assert space.dims == given.dims
        assert dict(space.sizes) == dict(given.sizes)
    assert B.H.H is B
    assert B.H.shape == B.shape[::-1]
    assert pickle.loads(pickle.dumps(B)) == B


def sides(side):
    return dict(side) if isinstance(side, Blocks) else {"": side}


def test_is_the_operator_on_labeled_data(d):
    A = xl.FirstDerivative(d.time)
    B = A.bind(d)
    xr.testing.assert_identical(B @ d, A @ d)
    other = d.drop_vars("arrival").transpose()
    xr.testing.assert_identical((B @ other).drop_vars("arrival"), A @ other)
    xr.testing.assert_identical((2 * B) @ d, (2 * A) @ d)
    assert (B @ d.chunk(offset=2)).chunks is not None
    assert B.units == A.units
    back = B.H @ (B @ d).drop_vars(["receiver", "live"])
    assert back.coords["receiver"].identical(d.coords["receiver"])


def test_checks_all_dims(d):
    B = xl.FirstDerivative(d.time).bind(d)
    with pytest.raises(xl.LabelError, match="offset"):
        B @ d.isel(offset=slice(1, None))
    with pytest.raises(xl.LabelError, match="'depth' is missing"):
        B @ d.isel(depth=0)
    with pytest.raises(xl.LabelError):
        B @ d.assign_coords(depth=d.depth + 1)


def test_reads_nothing(d):
    def fail(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=fail):
        B = xl.FirstDerivative(d.time).bind(d.chunk(offset=1))
        assert B.shape == (d.size, d.size)
        assert B.H.dtype == np.float64


def test_lazy_weights(d):
    weights = np.cos(d).drop_attrs(deep=False)
    lazy = xl.Diagonal(weights.chunk(offset=2, time=3)).bind(d)
    v = np.random.default_rng(0).standard_normal(d.size)
    agree(lazy.matvec(v), weights.values.ravel() * v)
    X = np.stack([v, 3 * v], axis=1)
    agree(lazy.rmatmat(X), weights.values.ravel()[:, None] * X)


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int32", "complex128"])
def test_dtypes(d, dtype):
    B = xl.FirstDerivative(d.time).bind(d.astype(dtype))
    assert B.dtype == ("float64" if dtype == "int32" else dtype)
    assert B.matvec(np.ones(d.size, B.dtype)).dtype == B.dtype
    F = xl.FFT(d.time, real=True).bind(d.astype("float32"))
    assert F.dtypes == (np.float32, np.complex64)
    assert F.dtype == np.complex64


def test_the_real_part_counts_where_a_side_is_real(d):
    F = xl.FFT(d.time, real=True).bind(d)
    x = d.values.ravel()
    np.testing.assert_array_equal(F.matvec(x + 2j * x), F.matvec(x))


def test_has_a_matrix_and_a_spectrum_of_its_own(d):
    x = d.isel(depth=0, drop=True).astype("float32")
    A = xl.FirstDerivative(x.time)
    B = A.bind(x)
    xr.testing.assert_identical(B.todense(), A.todense(x))
    assert B.todense().dtype == np.float32
    agree(B.diagonal().values, A.diagonal(x).values)
    assert abs(B.norm() - A.norm()) < 1e-6 * A.norm()
    assert B.gram.eigs(10).sizes == {"mode": 10}


def test_goes_where_operators_go(d):
    B = xl.Restriction(d.time, [0, 2]).bind(d)
    assert xl.dottest(B)
    y = B @ d
    ours, theirs = xl.cgls(B, y).x, xl.cgls(B.operator, y).x
    xr.testing.assert_identical(ours.drop_vars("arrival"), theirs)
    product = B @ xl.FirstDerivative(d.time)
    assert product.domain.dims == d.dims
    np.testing.assert_array_equal(product @ d, B @ (xl.FirstDerivative(d.time) @ d))


def test_modes(d):
    B = xl.FirstDerivative(d.time).evaluate(adjoint=False).bind(d)
    assert (B @ d.chunk(offset=2)).chunks is None
    assert (B.H @ d.chunk(offset=2)).chunks is not None
    assert (xl.FirstDerivative(d.time).chunked(offset=2).bind(d) @ d).chunks is not None


def test_blocks_follow_one_another(d):
    x = d.isel(depth=0, drop=True)
    S = xl.VStack({"b": xl.Identity(x), "a": xl.Restriction(x.time, [1, 2])})
    B = S.bind(x)
    assert B.shape == (x.size + 2 * x.offset.size, x.size)
    y = B.matvec(x.values.ravel())
    np.testing.assert_array_equal(y[: x.size], x.values.ravel())
    np.testing.assert_array_equal(y[x.size :], x.values[[1, 2]].ravel())
    C = S.H.bind(B @ x)
    assert C.shape == B.shape[::-1]
    np.testing.assert_array_equal(C.matvec(y), B.rmatvec(y))


def test_blocks_in_other_units(d):
    x = d.isel(depth=0, drop=True)
    S = xl.VStack({"a": xl.Identity(x.time), "b": xl.Identity(x.time)})
    y = S @ x
    y["b"] = y["b"].assign_attrs(units="kPa")
    with pytest.raises(xl.UnitError, match="convert it before"):
        S.H.bind(y)


def test_no_result_is_a_window_on_the_input(d):
    B = xl.Identity(d.time).bind(d)
    x = d.values.ravel().copy()
    y = B.matvec(x)
    y[:] = 0
    np.testing.assert_array_equal(x, d.values.ravel())


def test_shapes_of_flat_arrays(d):
    B = xl.FirstDerivative(d.time).bind(d)
    n = d.size
    assert B.matvec(np.ones((n, 1))).shape == (n, 1)
    assert B.matmat(np.ones((n, 0))).shape == (n, 0)
    for call, shape in (
        (B.matvec, (n + 1,)),
        (B.rmatvec, (n, 2)),
        (B.matmat, (n,)),
        (B.rmatmat, (n - 1, 2)),
    ):
        with pytest.raises(xl.LabelError, match="a flat array of the"):
            call(np.ones(shape))
    with pytest.raises(xl.DTypeError, match="acts on numbers"):
        B.matvec(np.full(n, "x"))


def test_scipy_takes_it_as_it_is(d):
    B = xl.FirstDerivative(d.time).bind(d)
    op = sla.aslinearoperator(B)
    x = d.values.ravel()
    for one, other in ((op, B.to_scipy()), (op.H, B.H.to_scipy())):
        np.testing.assert_array_equal(one @ x, other @ x)
        X = np.stack([x, -x], axis=1)
        agree(one @ X, np.stack([other @ x, -(other @ x)], axis=1))
    assert op.dtype == B.dtype


def test_bind_wants_data_of_the_domain(d):
    A = xl.FirstDerivative(d.time)
    with pytest.raises(xl.LabelError, match="'time' is missing"):
        A.bind(d.isel(time=0))
    with pytest.raises(xl.DTypeError):
        A.bind(d.values)
    with pytest.raises(xl.DTypeError, match="real values"):
        xl.FFT(d.time, real=True).bind(d.astype(complex))


def test_repr_gives_the_shape(d):
    assert "matrix: 210 × 210, float64" in repr(xl.FirstDerivative(d.time).bind(d))
