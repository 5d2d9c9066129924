"""Published least-squares problems, against dense and sparse factorizations."""

import functools

import numpy as np
import pytest
import scipy.linalg

import xlops as xl
from tests.problems import (
    HARWELL_BOEING,
    PAIGE_SAUNDERS,
    PUBLISHED,
    assert_close,
    axis,
    damped_least_squares,
    deriv2,
    gravity,
    harwell_boeing,
    heat,
    labeled,
    matrix,
    paige_saunders,
    perturbed,
    phillips,
    shaw,
)

# Solvers of least-squares problems; one line for a new one.
LEAST_SQUARES = [xl.cgls, xl.lsqr, xl.lsmr]

# Those whose iterates have the least residual; those of LSMR have the least gradient.
MINIMIZERS = [xl.cgls, xl.lsqr]

methods = pytest.mark.parametrize("solver", LEAST_SQUARES, ids=lambda s: s.__name__)
published = pytest.mark.parametrize("problem", PUBLISHED)
# NumPy, and uneven chunks of Dask.
cuts = pytest.mark.parametrize("cut", [None, (5, 20, 7)], ids=["numpy", "dask"])


def data(b, cut=None, units=None):
    y = labeled(b, "row", units)
    return y if cut is None else y.chunk(row=cut)


# --- the problems are what they should be -----------------------------------------------


def midpoints(kernel, s, h):
    """A kernel at the middles of boxes: their projections up to h²."""
    return h * kernel(s[:, None], s)


def test_matrices_are_those_of_their_kernels():
    n = 256
    A, b, x = phillips(n)
    s, h = -6 + 12 / n * (np.arange(n) + 0.5), 12 / n

    def bump(s):
        return np.where(np.abs(s) < 3, 1 + np.cos(np.pi * s / 3), 0.0)

    assert_close(A, midpoints(lambda s, t: bump(s - t), s, h), h**2)
    assert_close(x, np.sqrt(h) * bump(s), h**2)
    right = (6 - np.abs(s)) * (1 + np.cos(np.pi * s / 3) / 2)
    right += 9 / (2 * np.pi) * np.sin(np.pi * np.abs(s) / 3)
    assert_close(b, np.sqrt(h) * right, h**2)
    assert_close(A @ x, b, h**2)
    A, b, x = deriv2(n)
    s, h = (np.arange(n) + 0.5) / n, 1 / n
    green = midpoints(lambda s, t: np.where(s < t, s * (t - 1), t * (s - 1)), s, h)
    assert_close(A, green, 2 * h)  # it has an edge along the diagonal
    assert_close(b, np.sqrt(h) * (s**3 - s) / 6, 10 * h**2)
    assert_close(A @ x, b, 10 * h**2)


def test_matrices_are_as_badly_posed_as_published():
    for A in (shaw(32).A, heat(32, 1.0).A):
        assert np.linalg.cond(A) > 1e15
    assert np.linalg.cond(gravity(32).A) > 1e9
    assert np.linalg.cond(heat(32, 5.0).A) < 10
    # The eigenvalues of the second derivative are −(k π)².
    expected = 1 / (np.arange(1, 6) * np.pi) ** 2
    found = scipy.linalg.svdvals(deriv2(256).A)[:5]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    A = shaw(32).A
    np.testing.assert_allclose(A, A.T, rtol=1e-13)


@pytest.mark.parametrize(("m", "n", "nduplc", "npower", "damp"), PAIGE_SAUNDERS)
def test_solutions_of_paige_and_saunders_are_exact(m, n, nduplc, npower, damp):
    A, b, x = paige_saunders(m, n, nduplc, npower, damp)
    # Their gradient vanishes.
    np.testing.assert_allclose(A.T @ (b - A @ x), damp**2 * x, atol=1e-12)


# --- regularized and unfinished solutions -----------------------------------------------


@methods
@cuts
@published
def test_tikhonov(problem, cut, solver):
    A, b, _ = PUBLISHED[problem]()
    b = perturbed(b)
    expected = damped_least_squares(A, b, 0.01)
    solution = solver(matrix(A), data(b, cut), damp=0.01, tol=1e-13, niter=400)
    assert_close(solution.x, expected, 1e-8)


@pytest.mark.parametrize("solver", MINIMIZERS, ids=lambda s: s.__name__)
@published
def test_first_iterates_minimize_over_krylov_spaces(problem, solver):
    A, b, _ = PUBLISHED[problem]()
    b = perturbed(b)
    for iterate, expected in zip(
        iterates(solver, matrix(A), data(b)), minima_over_krylov_spaces(A, b), strict=True
    ):
        assert_close(iterate, expected, 1e-7)


def iterates(solver, operator, y, niter=5):
    """The models after each iteration."""
    found = []
    solver(operator, y, niter=niter, tol=0, callback=lambda s: found.append(s.x))
    return found


def minima_over_krylov_spaces(A, b, count=5):
    """The least-squares solutions within span{Aᴴb, (AᴴA) Aᴴb, …}, by QR."""
    basis = []
    direction = A.conj().T @ b
    for _ in range(count):
        for _ in range(2):  # Gram and Schmidt, twice
            for q in basis:
                direction = direction - q * np.vdot(q, direction)
        basis.append(direction / np.linalg.norm(direction))
        Q = np.array(basis).T
        yield Q @ np.linalg.lstsq(A @ Q, b, rcond=None)[0]
        direction = A.conj().T @ (A @ basis[-1])


@methods
@cuts
def test_well_posed_heat_is_solved(cut, solver):
    A, b, x = heat(32, 5.0)
    solution = solver(matrix(A), data(b, cut), tol=1e-13)
    assert solution.converged
    assert_close(solution.x, x, 1e-12)


@methods
@cuts
def test_units_labels_and_batches(cut, solver):
    A, b, _ = PUBLISHED["shaw"]()
    several = np.array([perturbed(b), -2 * b, np.roll(b, 3)])
    expected = np.array([damped_least_squares(A, one, 0.01) for one in several])
    y = data(several, cut, "m")
    operator = matrix(A, "m/s")
    solution = solver(operator, y, damp=0.01, tol=1e-13, niter=400)
    assert solution.x.dims == ("batch", "column")
    assert solution.x.units == "s"
    assert solution.x.column.identical(operator.domain.zeros().column)
    assert_close(solution.x, expected, 1e-8)
    assert solution.residual.units == "m"
    assert_close(solution.residual, several - expected @ A.T, 1e-8)


@methods
@cuts
def test_complex_phases(cut, solver):
    A, b, _ = PUBLISHED["gravity"]()
    A = A * np.exp(2j * np.arange(32))  # of the columns
    b = perturbed(b) * np.exp(1j * np.arange(32)) ** 2
    expected = damped_least_squares(A, b, 0.01)
    solution = solver(matrix(A), data(b, cut), damp=0.01, tol=1e-13, niter=400)
    assert_close(solution.x, expected, 1e-8)
    found = iterates(solver, matrix(A), data(b)) if solver in MINIMIZERS else []
    for iterate, minimum in zip(found, minima_over_krylov_spaces(A, b), strict=bool(found)):
        assert_close(iterate, minimum, 1e-7)


@methods
@pytest.mark.parametrize(("m", "n", "nduplc", "npower", "damp"), PAIGE_SAUNDERS)
def test_paige_and_saunders(m, n, nduplc, npower, damp, solver):
    A, b, x = paige_saunders(m, n, nduplc, npower, damp)
    solution = solver(matrix(A), data(b), damp=damp, tol=1e-14, niter=4 * n + 50)
    error = np.linalg.norm(solution.x.values - x) / (1 + np.linalg.norm(x))
    assert error <= 1e-5


# --- sparse matrices --------------------------------------------------------------------


@functools.cache
def sparse(name):
    """A matrix as an operator, its data, and the dense matrix for references."""
    A, b = harwell_boeing(name)
    sides = {"range": axis("row", A.shape[0]), "domain": axis("column", A.shape[1])}
    return xl.MatrixMult(A, **sides), b, A.toarray()


@methods
@pytest.mark.parametrize("name", HARWELL_BOEING)
def test_damped_surveys(name, solver):
    operator, b, dense = sparse(name)
    expected = damped_least_squares(dense, b, 0.01)
    solution = solver(operator, data(b), damp=0.01, tol=1e-14, niter=2000)
    assert solution.converged
    assert_close(solution.x, expected, 1e-9)
    assert_close(solution.residual, b - dense @ expected, 1e-9)


@methods
@pytest.mark.parametrize(
    ("name", "rtol"),
    # up to the rounding that their conditions, of 166, 19 000, 111 and 1 400, allow
    [
        ("well1033", 1e-10),
        pytest.param("illc1033", 1e-7, marks=pytest.mark.slow),
        ("well1850", 1e-10),
        pytest.param("illc1850", 1e-8, marks=pytest.mark.slow),
    ],
)
def test_surveys(name, rtol, solver):
    operator, b, dense = sparse(name)
    expected = np.linalg.lstsq(dense, b, rcond=None)[0]
    solution = solver(operator, data(b), tol=1e-14, niter=8000)
    assert solution.converged
    assert_close(solution.x, expected, rtol)


@methods
def test_a_survey_in_batches_and_chunks(solver):
    operator, b, dense = sparse("well1033")
    several = np.stack([b, np.roll(b, 5)])
    expected = damped_least_squares(dense, several.T, 0.1).T
    y = labeled(several, "row").chunk(batch=1, row=(500, 33, 500))
    solution = solver(operator, y, damp=0.1, tol=1e-12, niter=400)
    assert_close(solution.x, expected, 1e-9)
