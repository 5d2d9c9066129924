"""Operators that compute at once, or take NumPy data to Dask first."""

import pickle

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xlops as xl


@pytest.fixture
def d():
    values = np.random.default_rng(0).standard_normal((4, 12))
    return xr.DataArray(values, dims=("offset", "time"), attrs={"units": "Pa"})


def is_lazy(array):
    return isinstance(array.data, da.Array)


def test_evaluate(d):
    x = d.chunk(offset=2)
    A = xl.FirstDerivative(d.time)
    for forward in (True, False):
        for adjoint in (True, False):
            B = A.evaluate(forward=forward, adjoint=adjoint)
            assert is_lazy(B @ x) is not forward
            assert is_lazy(B.H @ x) is not adjoint
            assert is_lazy(B.H.H @ x) is not forward
            assert B.H.H is B
            xr.testing.assert_identical((B @ x).compute(), A @ d)
    assert is_lazy(A @ x)
    assert is_lazy(A.H @ x)


def test_the_outermost_decides(d):
    x = d.chunk(offset=2)
    A, B = xl.FirstDerivative(d.time), xl.SecondDerivative(d.time)
    assert not is_lazy((A.evaluate() @ B) @ x)
    assert is_lazy((A @ B.evaluate()) @ x)
    assert is_lazy((A.evaluate() @ B).H @ x)
    assert not is_lazy((A @ B.evaluate()).H @ x)
    xr.testing.assert_identical((A.evaluate() @ B) @ x, (A @ B) @ d)
    assert not is_lazy((2 * A.evaluate()) @ x)


def test_chunked(d):
    A = xl.FirstDerivative(d.time)
    B = A.chunked(offset=2, shot=5)
    for C in (B, B.H, 3 * B, A @ B):
        assert (C @ d).chunks == ((2, 2), (12,))
    assert not is_lazy(A @ d)
    assert (B @ d.chunk(offset=1)).chunks == ((1, 1, 1, 1), (12,))
    assert not is_lazy(B.evaluate() @ d)
    assert not is_lazy(A.evaluate().chunked(time=3) @ d)
    np.testing.assert_allclose((A.chunked(time=5) @ d).values, (A @ d).values)


def test_blocks(d):
    x = d.chunk(offset=2)
    V = xl.VStack({"a": xl.FirstDerivative(d.time), "b": xl.Identity(d.time)})
    result = V.evaluate() @ x
    assert not any(map(is_lazy, result.values()))
    assert not is_lazy(V.evaluate().H @ (V @ x))
    for lazy in (V.chunked(offset=2) @ d).values():
        assert lazy.chunks == ((2, 2), (12,))
    assert is_lazy(V.chunked(offset=2).H @ (V @ d))


def test_same_operators(d):
    A = xl.FirstDerivative(d.time)
    assert A.evaluate() == A.evaluate()
    assert A.evaluate() != A
    assert A.evaluate(adjoint=False) != A.evaluate()
    assert A.chunked(time=3) != A.chunked(time=4)
    B = pickle.loads(pickle.dumps(A.evaluate().chunked(time=3)))
    assert A.evaluate().chunked(time=3) == B
    xr.testing.assert_identical(B @ d, A @ d)
    assert str(A.evaluate()) == str(A)
    xl.dottest(A.chunked(time=4), like=d)


def test_errors(d):
    A = xl.FirstDerivative(d.time).chunked(offset=2)
    with pytest.raises(xl.LabelError, match="'time' is missing"):
        A @ d.isel(time=0)
    with pytest.raises(xl.DTypeError, match="got ndarray"):
        A @ d.values


def test_conjugates_keep_their_mode(d):
    A = xl.FirstDerivative(d.time)
    lazy = d.chunk(offset=2)
    for B in (A.evaluate().conj(), A.evaluate().T, A.evaluate().H.conj()):
        assert (B @ lazy).chunks is None
    assert (A.chunked(time=4).T @ d).chunks is not None
    assert A.bind(d).T.shape == A.bind(d).conj().shape == A.bind(d).shape


@pytest.mark.parametrize("chunks", ["x", -5, (1, 1), 2.5])
def test_chunks_that_cannot_be(d, chunks):
    with pytest.raises(xl.ChunkError, match=r"FirstDerivative\(time\): data of sizes"):
        xl.FirstDerivative(d.time).chunked(offset=chunks) @ d
