"""Sparse solvers: optimality, published bounds, closed forms, PyLops and pyproximal."""

import itertools

import dask.array as da
import numpy as np
import pint
import pylops
import pyproximal
import pytest
import xarray as xr

import xlops as xl
from xlops import engine
from xlops.solvers import thresholds
from xlops.solvers.thresholds import KINDS
from xlops.windows.pieces import Array

TIGHT = {"tol": 1e-12, "niter": 4000}
UNEVEN = (5, 1, 4, 2)


def problem(m=12, n=20, complex_=False, seed=0, batch=0):
    """A matrix, a sparse model, and data."""
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((m, n)) / 4
    x = np.zeros((n, batch) if batch else n, complex if complex_ else float)
    if complex_:
        G = G + 1j * rng.standard_normal((m, n)) / 4
    x[3], x[11] = 2.0, -1.5j if complex_ else -1.5
    y = G @ x + 0.01 * rng.standard_normal((m, batch) if batch else m)
    return G, x, y


def operator(G, **attrs):
    m, n = G.shape
    coords = {"row": np.arange(m) / 4, "column": np.arange(n) * 2.0}
    dims = ("row", "column")
    return xl.MatrixMult(xr.DataArray(G, dims=dims, coords=coords, attrs=attrs), "column")


def vector(y, **attrs):
    dims = ("row", "batch")[: np.ndim(y)]
    return xr.DataArray(y, dims=dims, coords={"row": np.arange(len(y)) / 4}, attrs=attrs)


def cut(y, chunks):
    return y if chunks is None else y.chunk(row=chunks)


def kkt(G, x, y, eps, basis=None):
    """How far from its optimum a LASSO is, relative to eps."""
    g, c = G.conj().T @ (y - G @ x), x
    if basis is not None:
        g, c = basis.conj().T @ g, basis.conj().T @ x
    on = np.abs(c) > 1e-9 * np.abs(c).max()
    assert on.any()
    assert not on.all()
    at = np.abs(g[on] - eps * c[on] / np.abs(c[on])).max()
    return max(at, np.abs(g).max() - eps) / eps


# --- thresholds -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["soft", "hard", "half"])
@pytest.mark.parametrize("t", [0.3, 1.0, 2.5])
def test_thresholds_minimise(kind, t):
    rule = KINDS[kind]
    grid = np.linspace(-6, 6, 24001)
    for z in np.linspace(-5, 5, 21):
        every = (grid - z) ** 2 / 2 + t * rule.penalty(grid)
        found = rule.shrink(np.array([z]), t)
        value = ((found - z) ** 2 / 2 + t * rule.penalty(found)).item()
        assert value <= min(every.min(), z**2 / 2) + 1e-12


@pytest.mark.parametrize("kind", ["soft", "hard", "half"])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "complex128"])
def test_thresholds_keep_phase_and_precision(kind, dtype):
    rng = np.random.default_rng(0)
    z = (rng.standard_normal(50) + 1j * rng.standard_normal(50)).astype("complex128")
    z = z.real.astype(dtype) if dtype == "float32" else z.astype(dtype)
    t = z.real.dtype.type(0.5)
    found = KINDS[kind].shrink(z, t)
    assert found.dtype == z.dtype
    expected = KINDS[kind].shrink(np.abs(z).astype("float64"), 0.5) * z / np.abs(z)
    np.testing.assert_allclose(found, expected, rtol=2e-5 if z.itemsize < 16 else 1e-13)
    assert KINDS[kind].shrink(0 * z, t).any() == np.False_


@pytest.mark.parametrize("kind", ["soft", "hard", "half"])
def test_levels_of_thresholds(kind):
    rule = KINDS[kind]
    t = rule.at(0.7)
    found = rule.shrink(np.array([0.7 - 1e-9, 0.7 + 1e-9]), t)
    assert found[0] == 0
    assert found[1] != 0


# --- vectors --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_samples_on_dask_as_on_numpy(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((13, 7)).astype(dtype)
    one = Array(x, ("a", "b"))
    lazy = Array(da.from_array(x, chunks=((5, 1, 7), (3, 4))), ("a", "b"))
    size = np.abs(x).ravel()
    for tree in (one, lazy):
        at = engine.largest(tree)
        ranks = [engine.ranked(tree, k) for k in (0, 17, 90)]
        value, place, *ranks = engine.persist(*at, *ranks)
        assert (value, place) == (size.max(), size.argmax())
        assert ranks == [*np.sort(size)[[0, 17, 90]]]
        (total,) = engine.persist(engine.summed(np.abs, tree))
        np.testing.assert_allclose(total, size.astype(float).sum(), rtol=1e-14)
        spikes = np.asarray(engine.spikes(tree, [3, 50], [1, 2]).data)
        assert spikes.dtype == dtype
        assert {*np.flatnonzero(spikes)} == {3, 50}
    np.testing.assert_array_equal(engine.noise(one).data, engine.noise(lazy).data)


def test_the_largest_of_equal_ones_is_the_first_however_they_are_cut():
    x = np.ones((4, 6))
    for chunks in ((4, 6), (1, 2), (3, 5)):
        tree = Array(da.from_array(x, chunks=chunks), ("a", "b"))
        assert engine.persist(*engine.largest(tree)) == (1.0, 0.0)


# --- ista and fista -------------------------------------------------------------------

ACCELERATED = [("ista", {}), ("fista", {}), ("fista", {"restart": True})]


@pytest.mark.parametrize(("name", "more"), ACCELERATED)
@pytest.mark.parametrize("complex_", [False, True])
def test_lasso_is_optimal(name, more, complex_):
    G, _, y = problem(complex_=complex_)
    eps = 0.1 * np.abs(G.conj().T @ y).max()
    solution = getattr(xl, name)(operator(G), vector(y), eps=eps, **TIGHT, **more)
    assert solution.converged
    x = solution.x
    assert kkt(G, x.values, y, eps) < 1e-6
    np.testing.assert_array_equal(x.column, np.arange(20) * 2.0)
    cost = np.linalg.norm(y - G @ x.values) ** 2 / 2 + eps * np.abs(x.values).sum()
    np.testing.assert_allclose(solution.history.cost[-1], cost, rtol=1e-12)
    np.testing.assert_allclose(solution.residual, y - G @ x.values, atol=1e-12)


@pytest.mark.parametrize("name", ["ista", "fista"])
@pytest.mark.parametrize("chunks", [12, UNEVEN])
def test_lasso_in_chunks(name, chunks):
    G, _, y = problem()
    given = {"eps": 0.2, "tol": 1e-9, "niter": 60}
    expected = getattr(xl, name)(operator(G), vector(y), **given)
    found = getattr(xl, name)(operator(G), cut(vector(y), chunks), **given)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-8)
    assert found.x.chunks is not None
    np.testing.assert_allclose(found.history.cost, expected.history.cost, rtol=1e-8)
    assert found.history.sizes["iteration"] == found.iterations + 1


def test_lasso_in_another_basis():
    n = 16
    rng = np.random.default_rng(0)
    time = xr.DataArray(np.arange(n) * 0.5, dims="time", name="time")
    time = time.assign_coords(time=time)
    basis = np.fft.ifft(np.eye(n), norm="ortho")
    y = xr.DataArray(
        np.cos(2 * np.pi * 3 * np.arange(n) / n), dims="time", coords=time.coords
    )
    y = y + 0.1 * rng.standard_normal(n)
    S = xl.FFT(time.time).H
    keep = np.ones(n, bool)
    keep[[2, 7, 8]] = False
    A = xl.Restriction(time.time, keep)
    solution = xl.fista(A, A @ y, eps=0.3, SOp=S, restart=True, **TIGHT)
    x = solution.x
    assert solution.converged
    G = np.eye(n)[keep]
    assert kkt(G, x.values, y.values[keep], 0.3, basis) < 1e-6
    c = basis.conj().T @ x.values
    cost = np.linalg.norm(solution.residual) ** 2 / 2 + 0.3 * np.abs(c).sum()
    np.testing.assert_allclose(solution.history.cost[-1], cost, rtol=1e-10)
    lazy = xl.fista(A, (A @ y).chunk(time=5), eps=0.3, SOp=S, niter=5, tol=0)
    eager = xl.fista(A, A @ y, eps=0.3, SOp=S, niter=5, tol=0)
    np.testing.assert_allclose(lazy.x, eager.x, atol=1e-12)


def test_frames_are_refused():
    G, _, y = problem()
    rng = np.random.default_rng(1)
    frame = np.linalg.qr(rng.standard_normal((30, 20)))[0].T  # frame @ frame.T is 1
    coords = {"column": np.arange(20) * 2.0}
    S = xl.MatrixMult(xr.DataArray(frame, dims=("column", "atom"), coords=coords), "atom")
    with pytest.raises(xl.XlopsError, match="must be unitary"):
        xl.fista(operator(G), vector(y), SOp=S)
    square = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    S = xl.MatrixMult(xr.DataArray(square, dims=("column", "atom"), coords=coords), "atom")
    solution = xl.fista(operator(G), vector(y), SOp=S, eps=0.2, restart=True, **TIGHT)
    assert kkt(G, solution.x.values, y, 0.2, square) < 1e-6


def test_lasso_with_units():
    ureg = pint.UnitRegistry()
    G, _, y = problem()
    A, d = operator(G, units="s"), vector(y, units="m")
    plain = xl.fista(A, d, eps=0.2, **TIGHT).x
    assert plain.units == "m s-1"
    given = xl.fista(A, d, eps=ureg.Quantity(20.0, "cm s"), **TIGHT).x
    np.testing.assert_allclose(given, plain, rtol=1e-12)
    alpha = ureg.Quantity(1 / np.linalg.norm(G, 2) ** 2, "1/s**2")
    xl.ista(A, d, eps=0.2, alpha=alpha, niter=2)
    xl.ista(A, d, eps=ureg.Quantity(0.1, "m**2"), threshkind="hard", niter=2)
    xl.ista(A, d, eps=ureg.Quantity(0.1, "m**1.5 s**0.5"), threshkind="half", niter=2)
    for name, wrong in itertools.product(("ista", "fista"), ("m", "s", "m**2")):
        with pytest.raises(xl.UnitError, match="eps"):
            getattr(xl, name)(A, d, eps=ureg.Quantity(1.0, wrong))


def test_batch_dims_are_one_problem():
    G, _, y = problem(batch=3)
    found = xl.fista(operator(G), vector(y), eps=0.2, restart=True, **TIGHT)
    assert found.x.dims == ("column", "batch")
    for k in range(3):
        assert kkt(G, found.x.values[:, k], y[:, k], 0.2) < 1e-6


@pytest.mark.parametrize("name", ["ista", "fista"])
@pytest.mark.parametrize("threshkind", ["soft", "hard", "soft-percentile"])
def test_independent_problems(name, threshkind):
    G, _, y = problem(batch=3)
    y = y * [1.0, 2.0, 0.5]
    more = {"perc": 20} if "percentile" in threshkind else {"eps": 0.2}
    given = {**more, "threshkind": threshkind, "niter": 30, "tol": 1e-6}
    method = getattr(xl, name)
    found = method(operator(G), vector(y), independent="batch", **given)
    for k in range(3):
        one = method(operator(G), vector(y[:, k]), **given)
        np.testing.assert_allclose(found.x.isel(batch=k), one.x, atol=1e-10)


@pytest.mark.parametrize("name", ["ista", "fista"])
def test_published_bounds(name):
    """Beck and Teboulle's, with step 1 / L."""
    G, _, y = problem(20, 30)
    L = np.linalg.norm(G, 2) ** 2
    best = xl.fista(operator(G), vector(y), eps=0.05, restart=True, **TIGHT)
    x, least = best.x.values, best.history.cost.values[-1]
    found = getattr(xl, name)(
        operator(G), vector(y), eps=0.05, alpha=1 / L, niter=200, tol=0
    )
    k = np.arange(1, 201)
    far = L * np.sum(x**2)
    bound = far / (2 * k) if name == "ista" else 2 * far / (k + 1) ** 2
    excess = found.history.cost.values[1:] - least
    assert (excess <= bound + 1e-12).all()
    if name == "ista":
        assert (np.diff(found.history.cost) <= 1e-12).all()


@pytest.mark.parametrize("name", ["ista", "fista"])
@pytest.mark.parametrize("kind", [*KINDS])
def test_iterates_are_those_of_pylops(name, kind):
    G, _, y = problem()
    alpha = 1 / np.linalg.norm(G, 2) ** 2
    eps, more = 0.2, {"perc": 15} if "percentile" in kind else {}
    theirs = 4 * eps if kind == "half" else 2 * eps  # their ½ ‖·‖² has no ½
    expected = getattr(pylops, name)(
        pylops.MatrixMult(G),
        y,
        niter=25,
        eps=theirs,
        alpha=alpha,
        tol=0,
        threshkind=kind,
        **more,
    )[0]
    for chunks in (None, UNEVEN) if kind != "soft" else (None,):
        found = getattr(xl, name)(
            operator(G),
            cut(vector(y), chunks),
            eps=eps,
            alpha=alpha,
            niter=25,
            tol=0,
            threshkind=kind,
            **more,
        )
        np.testing.assert_allclose(found.x, expected, atol=1e-12)


def test_single_precision_stays():
    G, _, y = problem()
    A, d = operator(G.astype("float32")), vector(y.astype("float32"))
    tv = {"tv": (xl.FirstDerivative(A.domain.coords["column"], kind="forward"), 0.1)}
    for solution in (
        xl.ista(A, d, eps=0.2, niter=3),
        xl.fista(A, d, eps=0.2, niter=3, threshkind="half"),
        xl.irls(A, d, kind="model", eps=0.2, niter=3),
        xl.omp(A, d, niter=3),
        xl.splitbregman(A, d, tv, niter=3),
        xl.admm(A, d, {"l1": pyproximal.L1(0.1)}, niter=3),
        xl.primal_dual(A, d, {"l1": pyproximal.L1(0.1)}, niter=3),
        xl.proximal_gradient(A, d, pyproximal.L1(0.1), niter=3),
    ):
        assert solution.x.dtype == solution.residual.dtype == np.float32


def test_what_cannot_be_done_is_said():
    G, _, y = problem()
    A, d = operator(G), vector(y)
    for given, message in (
        ({"threshkind": "firm"}, "no threshkind 'firm'"),
        ({"threshkind": "soft-percentile"}, "perc percent"),
        ({"perc": 10}, "by percentile"),
        ({"eps": -1.0}, "eps must be"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"SOp": A}, "SOp makes models"),
        ({"SOp": 3}, "SOp must be an operator"),
    ):
        with pytest.raises(xl.XlopsError, match=message):
            xl.fista(A, d, **given)
    with pytest.raises(TypeError, match="damp"):
        xl.fista(A, d, damp=1.0)
    with pytest.raises(xl.XlopsError, match="kind"):
        xl.irls(A, d, kind="both")
    with pytest.raises(xl.XlopsError, match="needs eps"):
        xl.irls(A, d, kind="model")
    with pytest.raises(xl.XlopsError, match=r"mapping of name"):
        xl.splitbregman(A, d, [0.1])
    with pytest.raises(xl.XlopsError, match="prox"):
        xl.admm(A, d, {"l1": 0.1})
    with pytest.raises(xl.XlopsError, match="does not act on the model"):
        xl.splitbregman(A, d, {"tv": (xl.FirstDerivative(d.row), 0.1)})
    S = xl.FFT(A.domain.coords["column"]).H
    with pytest.raises(xl.XlopsError, match="not independent"):
        xl.fista(A, vector(problem(batch=2)[2]), SOp=S, independent="column")


# --- irls -----------------------------------------------------------------------------


def ones(n):
    return xl.MatrixMult(xr.DataArray(np.ones((n, 1)), dims=("row", "one")), "one")


@pytest.mark.parametrize("chunks", [None, 51, 20])
def test_median(chunks):
    y = xr.DataArray(np.random.default_rng(0).standard_normal(51) ** 3, dims="row")
    solution = xl.irls(ones(51), cut(y, chunks), niter=60)
    assert solution.converged
    np.testing.assert_allclose(solution.x, [np.median(y)], atol=1e-8)
    cost = float(np.abs(y - np.median(y)).sum())
    np.testing.assert_allclose(solution.history.cost[-1], cost, rtol=1e-8)
    assert (np.diff(solution.history.cost[1:]) <= 1e-12).all()


def test_outliers_do_not_count():
    rng = np.random.default_rng(0)
    G, x = rng.standard_normal((40, 5)), rng.standard_normal(5)
    y = G @ x
    y[::8] += 10 * rng.standard_normal(5)
    found = xl.irls(operator(G), vector(y), niter=60)
    np.testing.assert_allclose(found.x, x, atol=1e-7)
    theirs = pylops.irls(pylops.MatrixMult(G), y, nouter=60, epsR=1e-8, epsI=0.0)[0]
    np.testing.assert_allclose(found.x, theirs, atol=1e-6)


def test_sparse_models_by_weights():
    G, _, y = problem()
    best = xl.fista(operator(G), vector(y), eps=0.2, restart=True, **TIGHT)
    found = xl.irls(operator(G), vector(y), kind="model", eps=0.2, niter=60)
    np.testing.assert_allclose(found.history.cost[-1], best.history.cost[-1], rtol=1e-5)
    np.testing.assert_allclose(found.x, best.x, atol=1e-3)
    both = xl.irls(operator(G), vector(y), kind="datamodel", eps=0.2, niter=40)
    cost = np.abs(y - G @ both.x.values).sum() + 0.2 * np.abs(both.x.values).sum()
    np.testing.assert_allclose(both.history.cost[-1], cost, rtol=1e-6)
    # The least of a linear programme, by SciPy.
    from scipy.optimize import linprog

    m, n = G.shape
    weights = np.r_[np.full(2 * n, 0.2), np.ones(2 * m)]
    least = linprog(weights, A_eq=np.hstack([G, -G, np.eye(m), -np.eye(m)]), b_eq=y).fun
    np.testing.assert_allclose(cost, least, rtol=1e-4)


# --- omp ------------------------------------------------------------------------------


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("chunks", [None, 24, (10, 3, 11)])
@pytest.mark.parametrize("normalizecols", [False, True])
def test_exact_recovery(complex_, chunks, normalizecols):
    G, x, _ = problem(24, 30, complex_)
    y = cut(vector(G @ x), chunks)
    found = xl.omp(operator(G), y, normalizecols=normalizecols, tol=1e-10)
    assert found.converged
    assert found.iterations == 2
    np.testing.assert_allclose(found.x, x, atol=1e-12)
    assert found.x.dtype == x.dtype


def test_pursuit_is_that_of_pylops():
    G, _, y = problem(30, 50)
    y = y + 0.3 * np.random.default_rng(3).standard_normal(30)
    theirs = pylops.omp(pylops.MatrixMult(G), y, niter_outer=6, sigma=0)[0]
    found = xl.omp(operator(G), vector(y), niter=6, tol=0)
    np.testing.assert_allclose(found.x, theirs, atol=1e-8)
    chosen = np.flatnonzero(found.x)
    fitted = np.linalg.lstsq(G[:, chosen], y, rcond=None)[0]
    np.testing.assert_allclose(found.x.values[chosen], fitted, atol=1e-12)


def test_pursuit_ends_where_nothing_is_left():
    found = xl.omp(operator(np.ones((4, 3))), vector(np.array([1.0, 2.0, 3.0, 4.0])))
    assert found.iterations == 1
    assert found.reason is xl.Reason.BREAKDOWN
    np.testing.assert_allclose(found.x.sum(), 2.5)


# --- several terms --------------------------------------------------------------------


def step(n1=4, n2=6, a=1.0, b=3.0, lam=0.5):
    """Data, and their exact solution by total variation."""
    y = xr.DataArray(np.r_[np.full(n1, a), np.full(n2, b)], dims="row")
    return y, np.r_[np.full(n1, a + lam / n1), np.full(n2, b - lam / n2)], lam


def by(name, A, y, D, lam, **more):
    if name == "splitbregman":
        return xl.splitbregman(A, y, {"tv": (D, lam)}, **more)
    return getattr(xl, name)(A, y, {"tv": (D, pyproximal.L1(lam))}, **more)


@pytest.mark.parametrize("name", ["splitbregman", "admm", "primal_dual"])
def test_total_variation(name):
    y, exact, lam = step()
    D = xl.FirstDerivative(y.row, kind="forward")
    found = by(name, xl.Identity(y), y, D, lam, tol=1e-11, niter=2000)
    assert found.converged
    np.testing.assert_allclose(found.x, exact, atol=1e-8)
    cost = ((y - exact) ** 2).sum() / 2 + lam * np.abs(np.diff(exact)).sum()
    np.testing.assert_allclose(found.history.cost[-1], cost, rtol=1e-7)


@pytest.mark.parametrize("name", ["splitbregman", "admm", "primal_dual"])
@pytest.mark.parametrize("chunks", [10, (3, 1, 6)])
def test_total_variation_in_chunks(name, chunks):
    y, _, lam = step()
    D = xl.FirstDerivative(y.row, kind="forward")
    more = {"tol": 0, "niter": 4}
    expected = by(name, xl.Identity(y), y, D, lam, **more)
    found = by(name, xl.Identity(y), cut(y, chunks), D, lam, **more)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-8)
    np.testing.assert_allclose(found.history.cost, expected.history.cost, rtol=1e-8)


@pytest.mark.parametrize("name", ["splitbregman", "admm", "primal_dual"])
def test_several_terms(name):
    """A fused LASSO: the LASSO of the solution by total variation alone."""
    y, exact, lam = step()
    D = xl.FirstDerivative(y.row, kind="forward")
    if name == "splitbregman":
        terms = {"tv": (D, lam), "few": 0.4}
    else:
        terms = {"tv": (D, pyproximal.L1(lam)), "few": pyproximal.L1(0.4)}
    found = getattr(xl, name)(xl.Identity(y), y, terms, tol=1e-10, niter=3000)
    np.testing.assert_allclose(found.x, exact - 0.4, atol=1e-7)


@pytest.mark.slow
def test_gradients_in_two_dims():
    image = xr.DataArray(np.random.default_rng(0).standard_normal((4, 5)), dims=("z", "x"))
    I, D = xl.Identity(image), xl.Gradient(image.z, image.x, kind="forward")
    one = xl.splitbregman(I, image, {"tv": (D, 0.3)}, tol=1e-8, niter=300)
    two = xl.primal_dual(I, image, {"tv": (D, pyproximal.L1(0.3))}, tol=1e-8, niter=1000)
    np.testing.assert_allclose(one.x, two.x, atol=1e-6)
    # Length of the gradient: what needs its blocks together.
    iso = {"tv": (D, pyproximal.L21(2, 0.3))}
    found = xl.primal_dual(I, image, iso, tol=1e-8, niter=1000)
    gradient = D @ found.x
    length = np.hypot(gradient["z"], gradient["x"]).sum()
    cost = ((found.x - image) ** 2).sum() / 2 + 0.3 * length
    np.testing.assert_allclose(found.history.cost[-1], cost, rtol=1e-6)
    expected = pyproximal.TV((4, 5), 0.3, niter=2000, rtol=0).prox(
        image.values.ravel(), 1.0
    )
    np.testing.assert_allclose(found.x.values.ravel(), expected, atol=1e-4)


def test_units_of_terms():
    ureg = pint.UnitRegistry()
    y, exact, lam = step()
    y = y.assign_coords(row=("row", np.arange(10.0), {"units": "s"})).assign_attrs(
        units="m"
    )
    D = xl.FirstDerivative(y.row, kind="forward")
    terms = {"tv": (D, ureg.Quantity(100 * lam, "cm s"))}
    found = xl.splitbregman(xl.Identity(y), y, terms, tol=1e-10, niter=1000)
    assert found.x.units == "m"
    np.testing.assert_allclose(found.x, exact, atol=1e-7)
    with pytest.raises(xl.UnitError, match="eps of 'tv'"):
        xl.splitbregman(xl.Identity(y), y, {"tv": (D, ureg.Quantity(1.0, "m"))})


@pytest.mark.parametrize("chunks", [None, UNEVEN])
def test_proximal_gradients_are_those_of_pyproximal(chunks):
    G, _, y = problem()
    A, d, g = operator(G), cut(vector(y), chunks), pyproximal.L1(0.2)
    tau = 1 / np.linalg.norm(G, 2) ** 2
    given = {"alpha": tau, "niter": 30, "tol": 0}
    L2 = pyproximal.L2(Op=pylops.MatrixMult(G), b=y)
    expected = pyproximal.optimization.primal.ProximalGradient(
        L2, g, np.zeros(20), tau=tau, niter=30, acceleration="fista"
    )
    found = xl.proximal_gradient(A, d, g, acceleration="fista", **given)
    np.testing.assert_allclose(found.x, expected, atol=1e-10)
    plain = pylops.ista(pylops.MatrixMult(G), y, niter=30, eps=0.4, alpha=tau, tol=0)[0]
    found = xl.proximal_gradient(A, d, g, **given)
    np.testing.assert_allclose(found.x, plain, atol=1e-12)


@pytest.mark.parametrize("name", ["admm", "primal_dual", "proximal_gradient"])
def test_nonnegative_least_squares(name):
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    G, y = rng.standard_normal((15, 6)), rng.standard_normal(15)
    g = pyproximal.Box(lower=0.0)
    given = g if name == "proximal_gradient" else {"positive": g}
    found = getattr(xl, name)(operator(G), vector(y), given, tol=1e-11, niter=3000)
    np.testing.assert_allclose(found.x, nnls(G, y)[0], atol=1e-8)
    assert np.isfinite(found.history.cost[-1])


def test_proximal_operators_that_need_all_samples():
    y, _, _ = step()
    A, g = xl.Identity(y), pyproximal.Euclidean(0.5)
    expected = xl.proximal_gradient(A, y, g, niter=3).x
    one = xl.proximal_gradient(A, y.chunk(), g, niter=3).x
    np.testing.assert_allclose(one, expected, atol=1e-12)
    with pytest.raises(xl.XlopsError, match="needs all samples at once"):
        xl.proximal_gradient(A, y.chunk(row=4), g, niter=3)


# --- in and out -----------------------------------------------------------------------

METHODS = {
    "ista": lambda A, y, **k: xl.ista(A, y, eps=0.2, **k),
    "fista": lambda A, y, **k: xl.fista(A, y, eps=0.2, restart=True, **k),
    "irls": lambda A, y, **k: xl.irls(A, y, kind="model", eps=0.2, **k),
    "omp": xl.omp,
    "splitbregman": lambda A, y, **k: xl.splitbregman(A, y, {"few": 0.2}, **k),
    "primal_dual": lambda A, y, **k: xl.primal_dual(A, y, {"few": pyproximal.L1(0.2)}, **k),
}


@pytest.mark.parametrize("name", [*METHODS])
def test_going_on_from_a_checkpoint(name, tmp_path):
    G, _, y = problem()
    A, d, solve = operator(G), vector(y), METHODS[name]
    expected = solve(A, d, niter=6, tol=0)
    solve(A, d, niter=3, tol=0, checkpoint=tmp_path / "run.zarr")
    found = solve(A, d, niter=6, tol=0, checkpoint=tmp_path / "run.zarr")
    if name == "omp":  # orthogonalisation shows the last bits of its products
        np.testing.assert_allclose(found.x, expected.x, rtol=1e-12)
        xr.testing.assert_allclose(found.history, expected.history, rtol=1e-12)
    else:
        np.testing.assert_array_equal(found.x, expected.x)
        xr.testing.assert_identical(found.history, expected.history)


@pytest.mark.parametrize("name", ["ista", "fista", "primal_dual"])
def test_vectors_on_disk(name, tmp_path):
    G, _, y = problem()
    A, d, solve = operator(G), vector(y), METHODS[name]
    expected = solve(A, d, niter=3, tol=0)
    found = solve(A, d.chunk(row=5), niter=3, tol=0, store=tmp_path / "store")
    np.testing.assert_allclose(found.x, expected.x, atol=1e-8)


@pytest.mark.parametrize("name", [*METHODS])
def test_inputs_stay_as_they_are(name):
    y = problem()[2]
    I = xl.Identity(vector(y))
    d, kept = vector(y), y.copy()
    first = METHODS[name](I, d, niter=4, tol=0)
    np.testing.assert_array_equal(d, kept)
    x = first.x.copy(deep=True)
    if name not in ("omp", "splitbregman", "primal_dual"):
        METHODS[name](I, d, x0=first.x, niter=4, tol=0)
    np.testing.assert_array_equal(first.x, x)


@pytest.mark.parametrize("name", ["irls", "omp", "splitbregman"])
def test_independent_problems_one_by_one(name):
    G, _, y = problem(batch=2)
    y = y * [1.0, 0.5]
    found = METHODS[name](operator(G), vector(y), independent="batch", niter=4, tol=0)
    for k in range(2):
        one = METHODS[name](operator(G), vector(y[:, k]), niter=4, tol=0)
        np.testing.assert_allclose(found.x.isel(batch=k), one.x, atol=1e-10)


def test_tables_of_thresholds():
    assert set(KINDS) == set(thresholds.Kind.__args__)
