"""What holds for every solver, on NumPy and in chunks: a new one is one line in a table."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pint
import pytest
import scipy.sparse
import xarray as xr

import xlops as xl
from tests.problems import axis, labeled, matrix

M, N = 30, 20


@dataclasses.dataclass(frozen=True)
class Method:
    """A solver, and the kind of matrix that it solves for.

    Parameters
    ----------
    solve : callable
        The solver.
    matrix : {"any", "square", "symmetric", "positive"}
        What it asks of matrices; with ``"any"`` it finds least squares.
    damped : bool
        Whether it takes `damp` and `x_ref`.
    blocks : bool
        Whether it takes operators between blocks.
    """

    solve: Callable[..., xl.Solution]
    matrix: str = "any"
    damped: bool = True
    blocks: bool = True

    def __str__(self) -> str:
        return self.solve.__name__

    def dense(self, cond=1e2, dtype="f8", seed=0):
        """A matrix of this kind with this condition."""
        rng = np.random.default_rng(seed)

        def unitary(n):
            values = rng.standard_normal((n, n))
            if np.dtype(dtype).kind == "c":
                values = values + 1j * rng.standard_normal((n, n))
            return np.linalg.qr(values)[0]

        values = np.geomspace(1, 1 / cond, N)
        right = unitary(N)
        if self.matrix == "any":
            return unitary(M)[:, :N] * values @ right
        if self.matrix == "square":
            return right.conj().T @ (np.triu(0.1 * right, 1) + np.diag(values)) @ right
        signs = np.where(np.arange(N) % 3, 1, -1) if self.matrix == "symmetric" else 1
        return right.conj().T * (signs * values) @ right

    def minimum(self, A, y, damp=0.0, x_ref=0.0):
        """What it should find for each row of y, by factorizations."""
        eye, pull = np.eye(N), damp**2 * x_ref
        if self.matrix == "any":
            stacked = np.vstack([A, damp * eye])
            pulled = np.broadcast_to(damp * x_ref, (*y.shape[:-1], N))
            right = np.concatenate([y, pulled], axis=-1)
            return np.linalg.lstsq(stacked, right.T, rcond=None)[0].T
        return np.linalg.solve(A + damp**2 * eye, (y + pull).T).T


METHODS = [
    Method(xl.cg, "positive"),
    Method(xl.cgls),
    Method(xl.lsqr),
    Method(xl.lsmr),
]

methods = pytest.mark.parametrize("method", METHODS, ids=str)
damped = pytest.mark.parametrize("method", [m for m in METHODS if m.damped], ids=str)
CUTS = {"numpy": None, "one chunk": (1, 1), "uneven": (2, 5)}
cuts = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


def operator(method, A, units="m/s"):
    """The matrix between "column" and "row", or from a space to itself."""
    if method.matrix == "any":
        return matrix(A, units)
    side = axis("column", N)
    square = xl.MatrixMult(scipy.sparse.csr_array(A), domain=side, range=side)
    return pint.Quantity(1.0, units) * square


def data(method, values, cut=None, units="m"):
    y = labeled(values, "row" if method.matrix == "any" else "column", units)
    if cut is None:
        return y
    pieces = {d: uneven(n, k) for (d, n), k in zip(y.sizes.items(), cut, strict=True)}
    return y.chunk(pieces)


def uneven(size, count):
    """So many chunks, each longer than the one before."""
    ends = np.linspace(0, 1, count + 1) ** 1.5 * size
    return tuple(map(int, np.diff(np.round(ends))))


def values_for(method, dtype="f8", seed=1):
    rng = np.random.default_rng(seed)
    shape = (2, M if method.matrix == "any" else N)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values


def close(x, expected, rtol=1e-8):
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(x), expected, rtol=0, atol=atol)


TIGHT = {"tol": 1e-14, "niter": 2000}


@methods
@cuts
@pytest.mark.parametrize("cond", [1e1, 1e4])
def test_the_solution(method, cut, cond):
    A, b = method.dense(cond), values_for(method)
    B, y = operator(method, A), data(method, b, cut)
    solution = method.solve(B, y, **TIGHT)
    close(solution.x, method.minimum(A, b))
    x = solution.x
    assert x.dims == ("batch", "column")
    assert x.column.identical(axis("column", N))
    assert x.units == "s"
    assert (x.chunks is None) == (cut is None)
    np.testing.assert_allclose(solution.residual, b - x.values @ A.T, atol=1e-9)
    assert solution.residual.dims == y.dims
    assert solution.residual.units == "m"
    history = solution.history
    np.testing.assert_array_equal(history.iteration, np.arange(solution.iterations + 1))
    for name in ("residual_norm", "gradient_norm"):
        assert history[name].dims == ("iteration",)
        assert np.isfinite(history[name]).all()
    start = float(history.residual_norm[0])
    assert start == pytest.approx(np.linalg.norm(b), rel=1e-12)
    end = np.linalg.norm(b - x.values @ A.T)
    assert float(history.residual_norm[-1]) == pytest.approx(end, abs=1e-9 * start)


@methods
@cuts
def test_a_start_changes_no_solution(method, cut):
    A, b = method.dense(), values_for(method)
    x0 = labeled(np.random.default_rng(2).standard_normal((2, N)), "column", "s")
    B, y = operator(method, A), data(method, b, cut)
    close(method.solve(B, y, x0, **TIGHT).x, method.minimum(A, b))
    first = method.solve(B, y, x0, niter=0)
    close(first.x, x0.values, 1e-15)
    exact = labeled(method.minimum(A, b), "column", "s")
    assert method.solve(B, y, exact, tol=0.5, niter=3).iterations <= 3


@damped
@cuts
@pytest.mark.parametrize("started", [False, True])
def test_damping(method, cut, started):
    A, b = method.dense(1e4), values_for(method)
    rng = np.random.default_rng(3)
    ref, x0 = (labeled(rng.standard_normal((2, N)), "column", "s") for _ in range(2))
    B, y = operator(method, A), data(method, b, cut)
    for given in ({}, {"x_ref": ref}):
        given = {**given, **({"x0": x0} if started else {})}
        solution = method.solve(B, y, damp=0.3, **given, **TIGHT)
        close(solution.x, method.minimum(A, b, 0.3, ref.values if "x_ref" in given else 0))


@methods
@cuts
def test_complex_values(method, cut):
    A, b = method.dense(dtype="c16"), values_for(method, "c16")
    solution = method.solve(operator(method, A), data(method, b, cut), **TIGHT)
    assert solution.x.dtype == np.complex128
    close(solution.x, method.minimum(A, b))


@methods
@cuts
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_single_precision_stays(method, cut, dtype):
    A, b = method.dense(5, dtype).astype(dtype), values_for(method, dtype).astype(dtype)
    solution = method.solve(operator(method, A), data(method, b, cut), tol=1e-5)
    assert solution.converged
    assert solution.x.dtype == solution.residual.dtype == np.dtype(dtype)
    close(solution.x, method.minimum(A.astype("c16"), b.astype("c16")), 1e-3)


@pytest.mark.parametrize("method", [m for m in METHODS if m.blocks], ids=str)
@cuts
def test_blocks(method, cut):
    A, b = method.dense(), values_for(method)
    B, y = operator(method, A), data(method, b, cut)
    if method.matrix == "any":
        stack = xl.VStack({"one": B, "two": 2 * B})
        blocks, dense = {"one": y, "two": 0 * y}, np.vstack([A, 2 * A])
        right = np.concatenate([b, 0 * b], axis=-1)
        expected = np.linalg.lstsq(dense, right.T, rcond=None)[0].T
        solution = method.solve(stack, blocks, **TIGHT)
        close(solution.x, expected)
        assert list(solution.residual) == ["one", "two"]
        return
    solution = method.solve(
        xl.BlockDiag({"one": B, "two": 2 * B}), {"one": y, "two": y}, **TIGHT
    )
    close(solution.x["one"], method.minimum(A, b))
    close(solution.x["two"], method.minimum(A, b) / 2)


@methods
@cuts
def test_nan_in_the_data(method, cut):
    b = values_for(method)
    b[0, 3] = b[1, 5] = np.nan
    with pytest.raises(xl.DataError, match=r"\b2 NaN\b"):
        method.solve(operator(method, method.dense()), data(method, b, cut))


@methods
@cuts
def test_a_callback_stops(method, cut):
    seen = []

    def watch(status):
        seen.append((status.iteration, status.residual_norm, status.x))
        return status.iteration < 3

    A, b = method.dense(), values_for(method)
    B, y = operator(method, A), data(method, b, cut)
    solution = method.solve(B, y, tol=0, callback=watch)
    assert solution.reason is xl.Reason.CALLBACK
    assert solution.iterations == len(seen) == 3
    assert [number for number, *_ in seen] == [1, 2, 3]
    np.testing.assert_array_equal(
        [r for _, r, _ in seen], solution.history.residual_norm[1:]
    )
    close(seen[-1][2], np.asarray(solution.x), 1e-15)
    assert not solution.converged


@methods
def test_limits(method):
    A, b = method.dense(1e4), values_for(method)
    B, y = operator(method, A), data(method, b)
    assert method.solve(B, y, niter=2, tol=0).reason is xl.Reason.NITER
    assert method.solve(B, 0 * y).reason is xl.Reason.EXACT
    for wrong in ({"niter": -1}, {"tol": -1}, {"callback": 3}, {"progress": 2}):
        with pytest.raises((xl.ArgumentError, xl.DTypeError)):
            method.solve(B, y, **wrong)
    with pytest.raises(TypeError):
        method.solve(B, y, unknown=1)


@methods
def test_inputs_stay_as_they_are(method):
    A, b = method.dense(), values_for(method)
    y, x0 = data(method, b), labeled(np.ones((2, N)), "column", "s")
    given = [y, x0]
    before = [array.copy(deep=True) for array in given]
    for array in given:
        array.data.flags.writeable = False
    method.solve(operator(method, A), y, x0, niter=5, tol=0)
    for array, kept in zip(given, before, strict=True):
        xr.testing.assert_identical(array, kept)
