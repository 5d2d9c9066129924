"""Independent problems, all at once: the same as a loop over them."""

import dask
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback

import xlops as xl
from xlops.solvers import driver
from xlops.solvers.cgls import _steps as cgls_steps

REASON = xl.Reason


def coordinate(name, count, step, units=""):
    values = xr.DataArray(step * np.arange(count), dims=name, name=name)
    values = values.assign_attrs(units=units) if units else values
    return values.assign_coords({name: values})


TRACE = 12
time = coordinate("time", 30, 0.004, "s")
trace = coordinate("trace", TRACE, 12.5, "m")
depth = coordinate("depth", 20, 5.0, "m")


def matrix(rng, batch=False):
    """A matrix (time, depth), or one for each trace, with a condition of some 2."""
    dims = ("trace", "time", "depth") if batch else ("time", "depth")
    shape = (TRACE, 30, 20) if batch else (30, 20)
    values = 3 * np.eye(30, 20) + 0.2 * rng.standard_normal(shape)
    coords = {"time": time, "depth": depth} | ({"trace": trace} if batch else {})
    return xr.DataArray(values, dims=dims, coords=coords, attrs={"units": "Pa/m"})


@pytest.fixture
def y(rng):
    return xr.DataArray(
        rng.standard_normal((30, TRACE)),
        dims=("time", "trace"),
        coords={"time": time, "trace": trace, "line": ("trace", np.arange(TRACE) % 3)},
        attrs={"units": "Pa"},
        name="pressure",
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def loop(solver, A, y, **kwargs):
    """What a loop over traces gives; A of a trace where it is a function."""
    each = []
    for i in range(y.sizes["trace"]):
        one = A(i) if not isinstance(A, xl.LinearOperator) else A
        each.append(solver(one, y.isel(trace=i), **kwargs))
    return each


def check(many, each):
    """Every problem went as it goes alone, up to rounding."""
    for i, one in enumerate(each):
        here = many.x.isel(trace=i)
        np.testing.assert_allclose(here, one.x, rtol=0, atol=1e-10)
        residual = many.residual.isel(trace=i)
        np.testing.assert_allclose(residual, one.residual, rtol=0, atol=1e-10)
        history = many.history.isel(trace=i)
        assert history.iterations == one.iterations
        assert history.reason == one.reason.name
        for name in ("residual_norm", "gradient_norm"):
            values = history[name].values
            got, after = values[: one.iterations + 1], values[one.iterations + 1 :]
            start = one.history[name][0].item()
            np.testing.assert_allclose(got, one.history[name], rtol=0, atol=1e-9 * start)
            assert np.isnan(after).all()
    assert many.iterations == max(one.iterations for one in each)
    assert many.converged == all(one.converged for one in each)


CHUNKS = [None, {"trace": 5}, {"trace": -1, "time": 11}, {"trace": (1, 7, 4), "time": 7}]


def in_chunks(y, chunks):
    return y if chunks is None else y.chunk(chunks)


# Far from where rounding decides which iteration is the last.
KEYWORDS = [
    {"tol": 1e-5},
    {"tol": 1e-5, "damp": 0.7},
    {"tol": 0.0, "niter": 4},
    {"tol": 1e-30, "niter": 0},
]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("kwargs", KEYWORDS, ids=str)
def test_one_operator_for_all(rng, y, chunks, kwargs):
    y = y * (10.0 ** (-np.arange(TRACE) % 5))  # each has a scale of its own
    y.attrs["units"] = "Pa"
    A = xl.MatrixMult(matrix(rng), "depth")
    many = xl.cgls(A, in_chunks(y, chunks), independent="trace", **kwargs)
    check(many, loop(xl.cgls, A, y, **kwargs))
    assert many.x.units == "m"
    xr.testing.assert_identical(many.history.trace.drop_attrs(), y.trace.drop_attrs())
    assert many.x.dims == ("depth", "trace")
    if chunks is not None:
        assert many.x.chunksizes["trace"] == y.chunk(chunks).chunksizes["trace"]
        assert dict(many.x.data.dask.layers).keys() == {many.x.data.name}, "persisted"


@pytest.mark.parametrize("lazy", [False, True], ids=["weights", "lazy-weights"])
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_operators_that_share_the_dim(rng, y, chunks, lazy):
    G, w = matrix(rng, batch=True), 1 + rng.random((TRACE, 30))
    w = xr.DataArray(w, dims=("trace", "time"), coords={"time": time, "trace": trace})
    given = G.chunk(trace=5, depth=6) if lazy else G
    A = xl.Diagonal(w) @ xl.MatrixMult(given, "depth")
    P = xl.Diagonal(xr.DataArray(1 + rng.random(TRACE), {"trace": trace}, "trace"))
    P = P @ xl.Diagonal(xr.DataArray(1 + 0.1 * rng.random(20), {"depth": depth}, "depth"))
    kwargs = {"tol": 1e-13, "damp": 0.3}
    many = xl.cgls(
        A, in_chunks(y, chunks), independent=("trace",), preconditioner=P, **kwargs
    )
    for i in range(0, TRACE, 5):
        cut = {"trace": i, "drop": True}
        one = xl.Diagonal(w.isel(**cut)) @ xl.MatrixMult(G.isel(**cut), "depth")
        reference = np.linalg.lstsq(
            np.vstack([one.todense().values.reshape(30, 20), 0.3 * np.eye(20)]),
            np.concatenate([y.isel(trace=i), np.zeros(20)]),
            rcond=None,
        )[0]
        np.testing.assert_allclose(many.x.isel(trace=i), reference, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunks", [None, {"trace": 9, "time": 13}], ids=str)
def test_weights_too_large_for_graphs(rng, chunks):
    """They are nodes of their own, of which every task reads its part."""
    count = 60
    lines = coordinate("trace", count, 1.0)
    values = 3 * np.eye(30, 20) + 0.2 * rng.standard_normal((count, 30, 20))
    G = xr.DataArray(
        values,
        dims=("trace", "time", "depth"),
        coords={"trace": lines, "time": time, "depth": depth},
    )
    assert G.nbytes > 2**18
    y = G.isel(depth=0, drop=True) + G.isel(depth=7, drop=True)
    many = xl.cgls(
        xl.MatrixMult(G, "depth"), in_chunks(y, chunks), independent="trace", tol=1e-13
    )
    truth = np.zeros((count, 20))
    truth[:, [0, 7]] = 1
    np.testing.assert_allclose(
        many.x.transpose("trace", "depth"), truth, rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("chunks", CHUNKS[:2], ids=str)
def test_regularized(rng, y, chunks):
    A = xl.MatrixMult(matrix(rng).drop_attrs(), "depth")
    terms = {"smooth": (xl.SecondDerivative(depth), 4.0)}
    kwargs = {"tol": 1e-5}
    many = xl.regularized_inversion(
        A, in_chunks(y, chunks), terms, independent="trace", **kwargs
    )
    for i in range(0, TRACE, 5):
        one = xl.regularized_inversion(A, y.isel(trace=i), terms, **kwargs)
        np.testing.assert_allclose(many.x.isel(trace=i), one.x, rtol=0, atol=1e-10)
        assert many.history.iterations[i] == one.iterations
    assert set(many.residual) == {"data", "smooth"}
    assert many.residual["smooth"].dims == ("depth", "trace")


@pytest.mark.parametrize("chunks", CHUNKS[:2], ids=str)
def test_start_reference_and_complex_values(rng, y, chunks):
    G = matrix(rng).drop_attrs()
    A = xl.MatrixMult(G + 0.3j * matrix(rng).drop_attrs(), "depth")
    x0 = xr.DataArray(rng.standard_normal((20, TRACE)), {"depth": depth, "trace": trace})
    x_ref = x0 + 1j
    kwargs = {"tol": 1e-5, "damp": 0.5}
    many = xl.cgls(
        A, in_chunks(y.drop_attrs(), chunks), x0, x_ref=x_ref, independent="trace", **kwargs
    )
    for i in (0, 7):
        one = xl.cgls(
            A,
            y.drop_attrs().isel(trace=i),
            x0.isel(trace=i),
            x_ref=x_ref.isel(trace=i),
            **kwargs,
        )
        np.testing.assert_allclose(many.x.isel(trace=i), one.x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunks", [None, {"trace": 2}], ids=str)
def test_each_stops_for_its_own_reason(chunks):
    """Zeros, one that converges, one that is not positive, and one that is infinite."""
    values = [[1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [1.0, -2.0, 3.0], [1e200, 1e-200, 1e200]]
    traces = coordinate("trace", 4, 1.0)
    w = xr.DataArray(values, dims=("trace", "time"), coords={"trace": traces})
    y = xr.DataArray([1.0, 1.0, 1.0], dims="time") * (traces > 0)
    y = y.transpose("trace", "time")
    y[3] = 1e200
    solution = xl.cg(xl.Diagonal(w), in_chunks(y, chunks), independent="trace")
    reasons = [REASON[name] for name in solution.history.reason.values]
    assert reasons[:3] == [REASON.EXACT, REASON.TOLERANCE, REASON.BREAKDOWN]
    assert reasons[3] is REASON.NOT_FINITE
    assert solution.reason is REASON.NOT_FINITE
    assert not solution.converged
    np.testing.assert_allclose(solution.x[1], [1, 1 / 2, 1 / 3], rtol=1e-12)
    assert (solution.x[0] == 0).all()
    assert solution.history.iterations.values[:2].tolist() == [0, 3]
    assert "1 of 4" not in repr(solution)
    assert "2 of 4 problems converged" in repr(solution)
    solution._repr_html_()


def test_callbacks_see_all_problems(rng, y):
    A = xl.MatrixMult(matrix(rng), "depth")
    seen = []

    def callback(status):
        seen.append(status.x)
        assert status.residual_norm.shape == (TRACE,)
        return status.iteration < 3

    solution = xl.cgls(A, y, independent="trace", callback=callback)
    assert solution.reason is REASON.CALLBACK
    assert solution.iterations == len(seen) == 3
    xr.testing.assert_identical(seen[-1], solution.x)
    with pytest.raises(xl.ArgumentError, match="callback"):
        xl.cgls(A, y.chunk(), independent="trace", callback=callback)


def test_time_is_up_for_all(rng, y):
    A = xl.MatrixMult(matrix(rng), "depth")
    for data in (y, y.chunk(trace=6)):
        solution = xl.cgls(A, data, independent="trace", time_limit=0)
        assert solution.reason is REASON.TIME
        assert solution.iterations == 0


def one_problem(problem, state):
    """Steps of cgls that know numbers only, and not arrays of them."""
    for step in cgls_steps(problem, state):
        yield step._replace(residual_norm=float(step.residual_norm))


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("batch", [False, True])
def test_methods_for_one_problem(rng, y, chunks, batch):
    A = xl.MatrixMult(matrix(rng, batch), "depth")
    given = in_chunks(y, chunks)
    plain = xl.cgls(A, y, independent="trace", tol=1e-5)
    alone = driver.run(
        one_problem, A, given, None, name="cgls", alone=True, independent="trace", tol=1e-5
    )
    np.testing.assert_allclose(alone.x, plain.x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(alone.residual, plain.residual, rtol=0, atol=1e-10)
    assert (alone.history.iterations == plain.history.iterations).all()
    assert (alone.history.reason == plain.history.reason).all()


def test_what_is_not_independent(rng, y):
    A = xl.MatrixMult(matrix(rng).drop_attrs(), "depth")
    D = xl.FirstDerivative(trace)
    with pytest.raises(xl.LabelError, match=r"(?s)'trace'.*FirstDerivative\(trace\)"):
        xl.cgls(D @ A, y, independent="trace")
    terms = {"smooth": (xl.SecondDerivative(trace), 1.0)}
    with pytest.raises(xl.LabelError, match=r"SecondDerivative\(trace\)"):
        xl.regularized_inversion(A, y, terms, independent="trace")
    L = xl.Laplacian(depth, trace)
    with pytest.raises(xl.LabelError, match="Derivative"):
        xl.cgls(A, y, preconditioner=L.gram, independent="trace")
    with pytest.raises(xl.LabelError, match="no dim 'shot'"):
        xl.cgls(A, y, independent=("trace", "shot"))
    with pytest.raises(xl.LabelError, match="MatrixMult"):
        xl.cgls(A, y, independent="time")
    holes = y.copy()
    holes[3, 3] = np.nan
    with pytest.raises(xl.DataError, match="1 NaN"):
        xl.cgls(A, holes.chunk(trace=5), independent="trace")


def test_no_task_touches_two_chunks(rng, y):
    A = xl.MatrixMult(matrix(rng, batch=True), "depth")
    lazy = y.chunk(trace=5, time=7)
    graphs = []

    class Seen(Callback):
        def _start(self, dsk):
            graphs.append(dict(dsk))

    with (
        Seen(),
        dask.config.set(scheduler="threads", **{"optimization.fuse.active": False}),
    ):
        xl.cgls(A, lazy, independent="trace", tol=1e-5)
    graph = max(graphs, key=len)
    assert all(
        not hasattr(node, "dependencies") or not node.dependencies
        for other in graphs
        if other is not graph
        for node in other.values()
    ), "all else only fetches what is there"
    reach = {}

    def chunks_of(key):
        """Which chunks of traces a task depends on."""
        if key not in reach:
            if isinstance(key, tuple) and key[0] == lazy.data.name:
                reach[key] = {key[2]}
            else:
                node = graph[key]
                reach[key] = set().union(*map(chunks_of, node.dependencies))
        return reach[key]

    counts = [len(chunks_of(key)) for key in graph]
    assert max(counts) == 1
    assert len(set().union(*reach.values())) == 3


def wide(rng, count):
    G = matrix(rng).drop_attrs()
    truth = xr.DataArray(
        rng.standard_normal((count, 20)), dims=("trace", "depth"), coords={"depth": depth}
    )
    A = xl.MatrixMult(G, "depth")
    noise = rng.standard_normal((count, 30))
    return A, (A @ truth) + noise, G.values


@pytest.mark.parametrize("chunks", [None, {"trace": 3000}], ids=str)
def test_ten_thousand_traces(rng, chunks):
    A, y, G = wide(rng, 10_000)
    many = xl.cgls(A, in_chunks(y, chunks), independent="trace", tol=1e-13)
    exact = np.linalg.lstsq(G, y.values.T, rcond=None)[0].T
    np.testing.assert_allclose(many.x, exact, rtol=0, atol=1e-10)
    for i in range(0, 10_000, 997):
        one = xl.cgls(A, y.isel(trace=i), tol=1e-13)
        np.testing.assert_allclose(many.x.isel(trace=i), one.x, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_ten_thousand_traces_equal_a_loop(rng):
    A, y, _ = wide(rng, 10_000)
    each = [xl.cgls(A, y.isel(trace=i), tol=1e-5) for i in range(10_000)]
    for data in (y, y.chunk(trace=3000)):
        check(xl.cgls(A, data, independent="trace", tol=1e-5), each)
