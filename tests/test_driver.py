"""What the driver does for all methods: keywords, stopping, what steps may leave out."""

import datetime as dt
import functools
import gc
import inspect
import tracemalloc
import types

import numpy as np
import pytest
import xarray as xr

import xlops as xl
from xlops import units
from xlops.solvers import driver, keywords, stopping
from xlops.solvers.cgls import _steps as cgls_steps


def matrix(values):
    return xl.MatrixMult(xr.DataArray(values, dims=("row", "column")), "column")


def data(values):
    return xr.DataArray(values, dims="row")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tall(rng):
    return matrix(rng.standard_normal((30, 10))), data(rng.standard_normal(30))


# --- keywords ---------------------------------------------------------------------------


def test_common_keywords_are_said_in_one_place():
    assert keywords.Common.__annotations__.keys() == keywords.DEFAULTS.keys()
    for solver in (xl.cg, xl.cgls):
        parameters = inspect.signature(solver).parameters
        assert [*parameters] == ["A", "y", "x0", *keywords.DEFAULTS]
        for name, default in keywords.DEFAULTS.items():
            assert parameters[name].default == default
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
            assert f"\n{name} : " in inspect.getdoc(solver)
        text = inspect.getdoc(solver)
        sections = [
            f"\n{name}\n---" for name in ("Parameters", "Returns", "Raises", "Notes")
        ]
        places = [text.index(section) for section in sections]
        assert places == sorted(places)
    assert "Equal to its adjoint" in inspect.getdoc(xl.cg)


def test_keywords_that_are_none(tall):
    with pytest.raises(TypeError, match=r"cgls\(\).*'nitre'"):
        xl.cgls(*tall, nitre=3)


def test_keywords_that_a_method_has_no_use_for(tall):
    @keywords.solver(without=["damp"])
    def undamped(A, y, x0=None, *, tol=1e-3, speed=1, **common):
        """Solve.

        Parameters
        ----------
        speed : int
            How fast.
        """
        return driver.run(cgls_steps, A, y, x0, name="undamped", tol=tol, **common)

    parameters = inspect.signature(undamped).parameters
    assert "damp" not in parameters
    assert parameters["tol"].default == 1e-3
    assert "speed : int\n    How fast." in undamped.__doc__
    assert "damp : " not in undamped.__doc__
    assert undamped(*tall).converged
    with pytest.raises(TypeError, match=r"undamped\(\).*'damp'"):
        undamped(*tall, damp=1)


# --- stopping ---------------------------------------------------------------------------

LIMITS = {
    "int": 0,
    "float": 0.0,
    "text": "0 s",
    "timedelta64": np.timedelta64(0, "ms"),
    "timedelta": dt.timedelta(0),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("lazy", [False, True])
def test_no_time(tall, limit, lazy):
    A, y = tall
    solution = xl.cgls(A, y.chunk() if lazy else y, time_limit=limit)
    assert solution.reason is xl.Reason.TIME
    assert solution.iterations == 0
    assert not solution.converged


def test_times():
    quantity = units.registry().Quantity(1.5, "min")
    for limit in (90, 90.0, "1.5 min", "0:01:30", dt.timedelta(minutes=1.5), quantity):
        assert stopping.seconds(limit, "cg") == 90
    assert stopping.seconds(None, "cg") == np.inf
    for limit in (-1, "soon", [], True, np.nan, "NaT"):
        with pytest.raises(xl.ArgumentError, match="time_limit"):
            stopping.seconds(limit, "cg")
    with pytest.raises(xl.UnitError, match="time_limit"):
        stopping.seconds(units.registry().Quantity(1, "m"), "cg")


def test_time_runs_out_between_iterations(tall, monkeypatch):
    """The clock is looked at once for each step; the start is one."""
    ticks = iter(range(100))
    clock = types.SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr(stopping, "time", clock)
    monkeypatch.setattr(driver, "time", types.SimpleNamespace(monotonic=lambda: 0))
    solution = xl.cgls(*tall, tol=0, time_limit=3)
    assert solution.reason is xl.Reason.TIME
    assert solution.iterations == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stagnation_within_rounding(rng, dtype):
    """The gradient of a misfit that stays falls to its rounding, and no further."""
    B = rng.standard_normal((60, 20)).astype(dtype)
    y = rng.standard_normal(60).astype(dtype)
    solution = xl.cgls(matrix(B), data(y), tol=0, niter=5000)
    assert solution.reason is xl.Reason.STAGNATION
    assert solution.iterations < 500
    exact = np.linalg.lstsq(B.astype(float), y.astype(float), rcond=None)[0]
    error = np.linalg.norm(solution.x.values - exact) / np.linalg.norm(exact)
    assert error < 50 * np.finfo(dtype).eps
    norms = solution.history.gradient_norm.values
    assert norms.argmin() <= solution.iterations - stopping.AT_ROUNDING


def test_no_solution_at_all():
    """A singular system with a part of the data that no model gives."""
    w = np.linspace(0, 1, 40)
    y = np.ones(40)
    A = xl.Diagonal(xr.DataArray(w, dims="row"))
    solution = xl.cg(A, data(y), tol=1e-8, niter=50_000)
    assert solution.reason is not xl.Reason.NITER
    assert not solution.converged
    assert solution.iterations <= stopping.ANYWHERE + 100


def test_norms_that_grow_first_are_no_stagnation():
    """On a one-dimensional Laplacian the residual is larger for nearly n / 2 steps."""
    n = 900
    laplacian = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    space = xr.DataArray(np.arange(float(n)), dims="x", name="x")
    space = space.assign_coords(x=space)
    A = xl.Identity(space) * 2.0 - xl.Convolve1D(space, [1.0, 0.0, 1.0], offset=1)
    np.testing.assert_array_equal(A.todense().values, laplacian)
    y = xr.DataArray(np.ones(n), dims="x", coords={"x": space})
    solution = xl.cg(A, y, tol=1e-8)
    assert solution.converged
    assert solution.iterations == n // 2
    norms = solution.history.residual_norm.values
    assert norms[1 : n // 2 - 30].min() > norms[0]


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e8])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_slow_problems_are_not_stopped(rng, condition, noise):
    """CGLS far above rounding goes on for as long as it may."""
    left, _ = np.linalg.qr(rng.standard_normal((60, 40)))
    right, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    B = (left * np.geomspace(1, 1 / condition, 40)) @ right.T
    y = B @ rng.standard_normal(40) + noise * rng.standard_normal(60)
    tol = 1e-11
    solution = xl.cgls(matrix(B), data(y), tol=tol, niter=400)
    assert solution.reason in (xl.Reason.TOLERANCE, xl.Reason.NITER)


# --- steps that leave something out -----------------------------------------------------


def spare(problem, state, callable_x=True):
    """Steps of cgls without a residual, whose model is made when it is asked for."""
    for step in cgls_steps(problem, state):
        x = step.x
        given = functools.partial(_same, x) if callable_x and step.pivots else x
        yield step._replace(x=given, residual=None, cost=step.residual_norm**2 + 1)


def _same(x):
    return x


@pytest.mark.parametrize("kept", ["numpy", "dask", "store", "checkpoint"])
@pytest.mark.parametrize("callable_x", [False, True])
def test_models_and_residuals_that_are_made_in_the_end(tmp_path, tall, kept, callable_x):
    A, y = tall
    places = {"store": tmp_path / "store", "checkpoint": tmp_path / "run.zarr"}
    lazy = y if kept == "numpy" else y.chunk(row=11)
    method = functools.partial(spare, callable_x=callable_x)
    seen = []
    solution = driver.run(
        method,
        A,
        lazy,
        None,
        name="spare",
        tol=1e-12,
        callback=lambda status: seen.append((status.x.compute(), status.cost)),
        **({kept: places[kept]} if kept in places else {}),
    )
    reference = xl.cgls(A, y, tol=1e-12)
    np.testing.assert_allclose(solution.x, reference.x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(solution.residual, reference.residual, rtol=0, atol=1e-12)
    cost = reference.history.residual_norm**2 + 1
    np.testing.assert_allclose(solution.history.cost, cost, rtol=1e-9)
    last, value = seen[-1]
    np.testing.assert_allclose(last.shape, (10,))
    assert value == pytest.approx(cost.values[len(seen)])
    assert "cost" in repr(solution)
    assert "cost" in solution._repr_html_()
    assert "cost" in solution.to_dataset()
    solution.plot()


def test_plots_of_cost_and_of_many_problems(rng):
    import matplotlib.pyplot as plt

    A = matrix(rng.standard_normal((30, 10)))
    y = xr.DataArray(rng.standard_normal((7, 30)), dims=("trace", "row"))
    axes = xl.cgls(A, y, independent="trace", tol=1e-4).plot()
    assert len(axes.lines) == len(axes.collections) == 2
    for line in axes.lines:
        assert len(line.get_xdata()) == len(line.get_ydata())
        assert line.get_ydata()[0] == pytest.approx(1)
    assert "7 of 7" in axes.get_title()
    cost = functools.partial(spare, callable_x=False)
    axes = driver.run(cost, A, y, None, name="spare", tol=1e-4).plot()
    assert "cost" in axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == "cost"
    plt.close("all")


def test_a_solution_of_many_problems_is_saved(rng, tmp_path):
    A = matrix(rng.standard_normal((30, 10)))
    traces = xr.DataArray(np.arange(4) * 2.5, dims="trace")
    y = xr.DataArray(
        rng.standard_normal((4, 30)), dims=("trace", "row"), coords={"trace": traces}
    )
    solution = xl.cgls(A, y, independent="trace", tol=1e-4)
    dataset = solution.to_dataset()
    assert dataset.residual_norm.dims == ("iteration", "trace")
    assert dataset.reason.values.tolist() == ["TOLERANCE"] * 4
    xl.save(solution, tmp_path / "solution.nc")
    again = xl.open(tmp_path / "solution.nc")
    np.testing.assert_array_equal(again.iterations, solution.history.iterations)


# --- memory -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "vectors"),
    # The data; x, r, p, and A p. CGLS has the gradient, later, in the place of A p.
    [(xl.cg, 5), (xl.cgls, 5)],
    ids=["cg", "cgls"],
)
def test_memory_is_that_of_the_method(rng, solver, vectors):
    shape = (1024, 1024)
    y = xr.DataArray(rng.standard_normal(shape), dims=("trace", "time"))
    A = xl.Diagonal(xr.DataArray(1 + rng.random(1024), dims="time"))
    solver(A, y, niter=2, tol=0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        solver(A, y, niter=4, tol=0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tile = 2**21
    assert most - before <= vectors * y.nbytes + tile
