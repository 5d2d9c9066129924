"""Preconditioners: what they are near to, and the iterations that they save."""

import pickle

import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl
from tests.problems import assert_close, matrix
from tests.problems import labeled as along

Q = pint.Quantity


@pytest.fixture
def trace():
    return xr.DataArray(
        np.random.default_rng(4).standard_normal((2, 120)),
        dims=("shot", "time"),
        coords={"time": ("time", 0.5 * np.arange(120), {"units": "s"}), "shot": [7, 9]},
        attrs={"units": "m"},
    )


def smooth(trace):
    """A well-posed problem whose spectrum is wide."""
    slope = Q(1.0, "s") * xl.FirstDerivative(trace.time, kind="forward")
    return xl.Identity(trace.time) + 40 * slope.gram


# --- Jacobi -----------------------------------------------------------------------------


def test_jacobi_is_one_over_the_diagonal(trace):
    slope = xl.FirstDerivative(trace.time, kind="forward")
    A = xl.Diagonal(trace[0]) @ slope
    P = xl.Jacobi(A.gram, Q(0.3, "m/s"))
    expected = 1 / (np.diag(A.gram.todense().values) + 0.09)
    assert_close(np.diag(P.todense().values), expected, 1e-14)
    assert (P.units * A.gram.units).dimensionless
    assert {"symmetric", "positive"} <= P.traits
    assert (P @ trace.assign_attrs(units="m^3/s^2")).units == "m"
    assert "Jacobi" in str(P)
    assert xl.Jacobi(A.gram, 0.3) == P == pickle.loads(pickle.dumps(P))


def test_jacobi_of_blocks(trace):
    A = xl.BlockDiag({"p": 2 * xl.Identity(trace.time), "q": 5 * xl.Identity(trace)})
    P = xl.Jacobi(A)
    x = {"p": trace, "q": trace}
    for name, scale in (("p", 2), ("q", 5)):
        assert_close((P @ x)[name], trace.values / scale, 1e-15)


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("damp", [0.0, 0.5])
def test_jacobi_saves_iterations(lazy, damp):
    # Unknowns of very different scales.
    rng = np.random.default_rng(7)
    scales = 10 ** rng.uniform(-2, 2, 40)
    M = (np.eye(40) + 0.02 * rng.standard_normal((40, 40))) * scales
    A, y = matrix(M, "m/s"), along(rng.standard_normal((2, 40)), "row", "m")
    y = y.chunk(row=9) if lazy else y
    helped = xl.cgls(A, y, damp=damp, tol=1e-8, preconditioner=xl.Jacobi(A.gram, damp))
    assert helped.converged
    assert helped.iterations < 25
    assert helped.x.units == "s"
    plain = xl.cgls(A, y, damp=damp, tol=1e-8, niter=3 * helped.iterations)
    assert not plain.converged
    B, z = A.gram, A.H @ y
    helped = xl.cg(B, z, damp=damp, tol=1e-8, preconditioner=xl.Jacobi(B, damp))
    plain = xl.cg(B, z, damp=damp, tol=1e-8, niter=3 * helped.iterations)
    assert helped.converged
    assert not plain.converged


def test_jacobi_that_does_not_do(trace):
    with pytest.raises(xl.DTypeError, match="operator"):
        xl.Jacobi(3)
    with pytest.raises(xl.LabelError, match="itself"):
        xl.Jacobi(xl.Restriction(trace.time, [1, 2]))
    holes = xl.Mask(trace[0] > 0)
    count = int((trace[0] <= 0).sum())
    with pytest.raises(xl.ArgumentError, match=f"{count} of 120.*damp"):
        xl.Jacobi(holes)
    assert xl.Jacobi(holes, 0.1)
    with pytest.raises(xl.ArgumentError, match="120 of 120"):
        xl.Jacobi(-1 * xl.Identity(trace.time))
    with pytest.raises(xl.ArgumentError, match="complex"):
        xl.Jacobi(1j * xl.Identity(trace.time))
    for damp in (-1, "a", np.nan, [1, 2]):
        with pytest.raises(xl.ArgumentError, match="damp"):
            xl.Jacobi(holes, damp)
    with pytest.raises(xl.UnitError, match="damp"):
        xl.Jacobi(holes, Q(1, "m"))


# --- Chebyshev --------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 4, 9])
@pytest.mark.parametrize("damp", [0.0, 2.0])
def test_chebyshev_is_saads_iteration(trace, degree, damp):
    # Algorithm 12.1 of Saad's book: the iterate after degree + 1 steps from zero.
    A = smooth(trace)
    M = A.todense().values + damp**2 * np.eye(120)
    low, high = 2.0, 170.0
    P = xl.Chebyshev(A, degree, (low, high), damp)
    theta, delta = (low + high) / 2 + damp**2, (high - low) / 2
    f = trace.values[0]
    r, x = f, 0 * f
    sigma = theta / delta
    rho, d = 1 / sigma, r / theta
    for _ in range(degree + 1):
        x = x + d
        r = r - M @ d
        new = 1 / (2 * sigma - rho)
        d = new * rho * d + 2 * new / delta * r
        rho = new
    assert_close(P @ trace[0], x, 1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_chebyshev_is_positive_and_symmetric(trace, degree):
    A = smooth(trace)
    P = xl.Chebyshev(A, degree)
    matrix = P.todense().values
    assert_close(matrix, matrix.T, 1e-14)
    assert np.linalg.eigvalsh(matrix)[0] > 0
    # and near the inverse on the interval
    low, high = P.bounds
    values = np.linalg.eigvalsh(A.todense().values)
    assert low < high
    assert values[-1] < high < 1.05 * values[-1]
    inside = np.linalg.eigvals(matrix @ A.todense().values).real
    reached = 1 / np.cosh((degree + 1) * np.arccosh((high + low) / (high - low)))
    assert inside.max() < 1 + reached + 1e-12
    assert {"symmetric", "positive"} <= P.traits


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_chebyshev_saves_iterations(trace, lazy):
    A = smooth(trace)
    y = trace.chunk(time=50) if lazy else trace
    plain = xl.cg(A, y, tol=1e-10)
    for degree, factor in ((2, 2), (4, 3)):
        helped = xl.cg(A, y, tol=1e-10, preconditioner=xl.Chebyshev(A, degree))
        assert helped.converged
        assert helped.iterations < plain.iterations / factor
        assert_close(helped.x, plain.x.values, 1e-8)
        assert helped.x.time.identical(trace.time)
        assert helped.x.units == "m"


def test_chebyshev_saves_iterations_of_damped_least_squares(trace):
    L = xl.FirstDerivative(trace.time, kind="forward")
    given = {"damp": Q(0.1, "1/s"), "tol": 1e-8}
    y = L @ trace
    P = xl.Chebyshev(L.gram, 6, damp=given["damp"])
    plain, helped = xl.cgls(L, y, **given), xl.cgls(L, y, preconditioner=P, **given)
    assert helped.iterations < plain.iterations / 3
    assert_close(helped.x, plain.x.values, 1e-6)


def test_units_of_bounds(trace):
    A = xl.FirstDerivative(trace.time).gram
    P = xl.Chebyshev(A, 3, (0.5, 4.0))
    assert xl.Chebyshev(A, 3, (Q(0.5, "1/s^2"), Q(4e-6, "1/ms^2"))) == P
    assert (P @ trace).units == "m s2"
    with pytest.raises(xl.UnitError, match="bounds"):
        xl.Chebyshev(A, 3, (0.5, Q(4.0, "m")))


def test_chebyshev_that_does_not_do(trace):
    I = xl.Identity(trace.time)
    with pytest.raises(xl.DTypeError, match="operator"):
        xl.Chebyshev(3)
    with pytest.raises(xl.LabelError, match="itself"):
        xl.Chebyshev(xl.Restriction(trace.time, [1, 2]))
    for degree in (-1, 1.5, True, None):
        with pytest.raises(xl.ArgumentError, match="degree"):
            xl.Chebyshev(I, degree)
    for bounds in ((1, 0), (0, 1), (1,), 3, ("a", "b"), (1, np.nan)):
        with pytest.raises(xl.ArgumentError, match="bounds"):
            xl.Chebyshev(I, 3, bounds)
    with pytest.raises(xl.ArgumentError, match="positive"):
        xl.Chebyshev(xl.Diagonal(trace[0].drop_attrs(deep=False)))
    with pytest.raises(xl.ArgumentError, match="damp"):
        xl.Chebyshev(I, damp=-1)
    with pytest.raises(xl.UnitError, match="several units"):
        xl.Chebyshev(xl.BlockDiag({"a": I, "b": xl.FirstDerivative(trace.time).gram}))
