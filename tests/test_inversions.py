"""Least squares with weights, terms and changes of variables, against dense matrices."""

import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl
from tests.problems import assert_close

TIGHT = {"tol": 1e-13, "niter": 600}
INVERSIONS = [xl.regularized_inversion, xl.normal_equations_inversion]
inversions = pytest.mark.parametrize("invert", INVERSIONS, ids=lambda f: f.__name__[:7])
cuts = pytest.mark.parametrize(
    "cut", [None, {}, {"time": 3, "shot": 1}], ids=["numpy", "one", "uneven"]
)
N, KEPT = 20, [0, 3, 4, 9, 12, 18, 19]


def Q(number, units):
    return pint.Quantity(number, units)


@pytest.fixture
def trace():
    """Two shots of twenty samples in time, in metres."""
    return xr.DataArray(
        np.random.default_rng(3).standard_normal((2, N)),
        dims=("shot", "time"),
        coords={"time": ("time", 0.5 * np.arange(N), {"units": "s"}), "shot": [7, 9]},
        attrs={"units": "m"},
        name="u",
    )


def over(template, values, **attrs):
    return template.copy(data=values).assign_attrs(attrs).drop_attrs(deep=False)


def with_units(dim, values, units):
    coords = {dim.name: dim}
    return xr.DataArray(values, dims=dim.name, coords=coords, attrs={"units": units})


def bend():
    """The dense second derivative over 0.5 s."""
    D = np.zeros((N, N))
    for i in range(1, N - 1):
        D[i, i - 1 : i + 2] = 4 * np.array([1.0, -2.0, 1.0])
    return D


def cut_as(x, cut):
    if cut is None:
        return x
    return x.chunk({dim: n for dim, n in cut.items() if dim in x.dims})


def dense(y, rows, W, terms, damp=0.0, M=None, x_ref=0.0):
    """The minimum by QR: `terms` are (ε L, r)."""
    E = np.eye(N)[rows]
    M = np.eye(N) if M is None else M
    root, pull = np.sqrt(W)[:, None], damp * np.sqrt(M) @ (x_ref * np.ones(N))
    stack = np.vstack([root * E, *[L for L, _ in terms], damp * np.sqrt(M)])
    right = [root[:, 0] * y, *[r for _, r in terms], pull]
    return np.linalg.lstsq(stack, np.concatenate(right), rcond=None)[0]


def weights(n=7, seed=5):
    return np.random.default_rng(seed).uniform(0.2, 4, n)


# --- regularizations and weights --------------------------------------------------------


@inversions
@cuts
def test_weights_of_data_and_model_and_two_terms(trace, invert, cut):
    R, L = xl.Restriction(trace.time, KEPT), xl.SecondDerivative(trace.time)
    y, pull = R @ trace, 0.1 * trace[::-1].assign_coords(shot=trace.shot)
    W, M = weights(), weights(N, 6)
    ref = over(trace, np.full((2, N), 0.5)).assign_attrs(units="m")
    solution = invert(
        R,
        cut_as(y, cut),
        {"bend": (L, 0.3), "near": (xl.Identity(trace.time), 0.2, cut_as(pull, cut))},
        data_weights=with_units(y.time, W, "1"),
        model_weights=with_units(trace.time, M, "1"),
        damp=0.4,
        x_ref=ref,
        **TIGHT,
    )
    assert solution.converged
    for i in range(2):
        terms = [(0.3 * bend(), np.zeros(N)), (0.2 * np.eye(N), pull.values[i])]
        expected = dense(y.values[i], KEPT, W, terms, 0.4, np.diag(M), 0.5)
        assert_close(solution.x[i], expected, 1e-9)
    x = solution.x
    assert x.dims == ("shot", "time")
    assert x.time.identical(trace.time)
    assert x.units == "m"
    assert (solution.x.chunks is None) == (cut is None)
    residual = solution.residual
    assert list(residual) == ["data", "bend", "near", "model"]
    assert_close(residual["data"], np.sqrt(W) * (y - R @ x).values, 1e-9)
    assert_close(residual["bend"], -0.3 * x.values @ bend().T, 1e-9)
    assert_close(residual["near"], pull.values - 0.2 * x.values, 1e-9)
    assert_close(residual["model"], 0.4 * np.sqrt(M) * (0.5 - x.values), 1e-9)
    assert invert.__name__ in solution.method


@inversions
def test_units_of_weights(trace, invert):
    # Variances in m²: ε and damp are then without the unit of the data.
    R, L = xl.Restriction(trace.time, KEPT), xl.SecondDerivative(trace.time)
    y, W = R @ trace, weights()
    inverse = with_units(y.time, W, "1/m^2")
    expected = [dense(v, KEPT, W, [(0.3 * bend(), np.zeros(N))], 0.2) for v in y.values]
    for eps, damp in (
        (0.3, 0.2),
        (Q(0.3, "s^2/m"), Q(0.2, "1/m")),
        (Q(3e-3, "s^2/cm"), Q(2e-3, "1/cm")),
    ):
        solution = invert(R, y, {"a": (L, eps)}, data_weights=inverse, damp=damp, **TIGHT)
        assert_close(solution.x, expected, 1e-9)
        assert solution.x.units == "m"
        assert solution.residual["data"].attrs.get("units") in (None, "1", "")
    for wrong in ({"eps": Q(0.3, "s^2")}, {"damp": Q(0.2, "m")}):
        given = {"eps": 0.3, "damp": 0.2} | wrong
        terms = {"a": (L, given["eps"])}
        with pytest.raises(xl.UnitError):
            invert(R, y, terms, data_weights=inverse, damp=given["damp"])
    # and of the model: damp is per root of their unit
    M = with_units(trace.time, np.full(N, 2.0), "1/s^2")
    given = {"model_weights": M, "damp": Q(0.2, "s"), **TIGHT}
    solution = invert(R, y, {"a": (L, 0.3)}, **given)
    one = [
        dense(v, KEPT, 1 + 0 * W, [(0.3 * bend(), np.zeros(N))], 0.2, 2 * np.eye(N))
        for v in y.values
    ]
    assert_close(solution.x, one, 1e-9)
    with pytest.raises(xl.UnitError, match="model"):
        invert(R, y, {}, model_weights=M, damp=Q(0.2, "m"))


FORMS = {
    "gram": lambda w: xl.Diagonal(np.sqrt(w)).gram,
    "operator": xl.Diagonal,
    "scaled": lambda w: 4 * xl.Diagonal(w / 4),
    "turned": lambda w: turned(w.copy()),
    "lazy": lambda w: w.chunk(time=3),
}


def turned(w):
    """The same weights, as a Gram with others in its middle."""
    R = xl.Roll(w.time, 3)
    return R.H @ xl.Diagonal(R @ w) @ R


@pytest.mark.parametrize("form", FORMS)
@inversions
def test_forms_of_weights(trace, invert, form):
    A = xl.Identity(trace.time)
    w = with_units(trace.time, weights(N), "1").drop_attrs(deep=False)
    plain = invert(
        A, trace, {"a": xl.SecondDerivative(trace.time)}, data_weights=w, **TIGHT
    )
    given = FORMS[form](w)
    terms = {"a": xl.SecondDerivative(trace.time)}
    again = invert(A, trace, terms, data_weights=given, **TIGHT)
    assert_close(again.x, plain.x.values, 1e-10)


@inversions
def test_weights_over_dims_that_pass_through(trace, invert):
    A, L = xl.Identity(trace.time), xl.SecondDerivative(trace.time)
    w = xr.DataArray([4.0, 0.25], dims="shot", coords={"shot": trace.shot})
    solution = invert(A, trace, {"a": (L, 0.5)}, data_weights=w, **TIGHT)
    for i in range(2):
        terms = [(0.5 * bend(), np.zeros(N))]
        expected = dense(trace.values[i], range(N), np.full(N, w.values[i]), terms)
        assert_close(solution.x[i], expected, 1e-9)


@inversions
def test_a_mask_leaves_gaps_out(trace, invert):
    holes = trace.where(trace.time > 2)
    keep = xl.Mask(holes.notnull())
    L = xl.SecondDerivative(trace.time)
    solution = invert(keep, keep @ holes, {"a": (L, 0.1)}, **TIGHT)
    rows = np.flatnonzero(trace.time > 2)
    terms = [(0.1 * bend(), np.zeros(N))]
    expected = [dense(v[rows], rows, np.ones(len(rows)), terms) for v in trace.values]
    assert_close(solution.x, expected, 1e-7)


@inversions
def test_complex_data(trace, invert):
    F = xl.FFT(trace.time)
    spectrum = F @ trace * np.exp(0.3j)
    L = xl.SecondDerivative(trace.time)
    solution = invert(F, spectrum, {"a": (L, 0.2)}, **TIGHT)
    matrix = np.eye(N) + 0.04 * bend().T @ bend()
    expected = np.exp(0.3j) * np.linalg.solve(matrix, trace.values.T).T
    assert_close(solution.x, expected, 1e-10)


@inversions
def test_model_in_blocks(trace, invert):
    I, L = xl.Identity(trace.time), xl.SecondDerivative(trace.time)
    A = xl.HStack({"smooth": I, "rough": I})
    terms = {"a": (xl.HStack({"smooth": L}), 2.0), "b": (xl.HStack({"rough": I}), 0.5)}
    solution = invert(A, trace, terms, **TIGHT)
    Z, E = np.zeros((N, N)), np.eye(N)
    stack = np.block([[E, E], [2 * bend(), Z], [Z, E / 2]])
    for i in range(2):
        right = np.concatenate([trace.values[i], np.zeros(2 * N)])
        expected = np.linalg.lstsq(stack, right, rcond=None)[0]
        assert_close(solution.x["smooth"][i], expected[:N], 1e-8)
        assert_close(solution.x["rough"][i], expected[N:], 1e-8)


def test_normal_equations_are_those_of_the_regularized(trace):
    R, L = xl.Restriction(trace.time, KEPT), xl.SecondDerivative(trace.time)
    arguments = R, (R @ trace).astype("f4"), {"a": (L, 0.3)}
    one = xl.regularized_inversion(*arguments, tol=1e-6)
    other = xl.normal_equations_inversion(*arguments, tol=1e-6)
    assert one.x.dtype == other.x.dtype == np.float32
    assert_close(other.x, one.x.values, 1e-4)
    with pytest.raises(TypeError, match="store"):
        xl.normal_equations_inversion(*arguments, store="here")


@inversions
def test_weights_that_do_not_do(trace, invert):
    A, y = xl.Identity(trace.time), trace
    negative = with_units(trace.time, np.where(np.arange(N) == 3, -1.0, 1.0), "1")
    for given, error, word in (
        (negative, xl.ArgumentError, "1 of 20"),
        (negative * np.nan, xl.ArgumentError, "20 of 20"),
        (1j * negative, xl.DTypeError, "real"),
        (3.0, xl.DTypeError, "float"),
        (xl.FirstDerivative(trace.time), xl.ArgumentError, "Gram"),
        (-1 * xl.Identity(trace.time), xl.ArgumentError, "Gram"),
    ):
        for keyword in ("data_weights", "model_weights"):
            with pytest.raises(error, match=keyword) as caught:
                invert(A, y, {}, **{keyword: given})
            assert word in str(caught.value)
    with pytest.raises(xl.LabelError, match="time"):
        invert(A, y, {}, data_weights=negative[:4] ** 2)
    with pytest.raises(xl.LabelError, match="'model'"):
        invert(A, y, {"model": A}, model_weights=negative**2)


# --- changes of variables ---------------------------------------------------------------


@cuts
def test_preconditioned_inversion(trace, cut):
    R, P = xl.Restriction(trace.time, KEPT), xl.CausalIntegration(trace.time)
    y, W = R @ trace, weights()
    S = (P @ xr.DataArray(np.eye(N), dims=("shot", "time"), coords={"time": trace.time})).T
    solution = xl.preconditioned_inversion(
        R, cut_as(y, cut), P, data_weights=with_units(y.time, W, "1"), damp=0.3, **TIGHT
    )
    G = np.sqrt(W)[:, None] * S.values[KEPT]
    stack = np.vstack([G, 0.3 * np.eye(N)])
    right = np.hstack([np.sqrt(W) * y.values, np.zeros((2, N))])
    expected = np.linalg.lstsq(stack, right.T, rcond=None)[0].T
    assert_close(solution.p, expected, 1e-10)
    assert_close(solution.x, expected @ S.values.T, 1e-10)
    assert (solution.p.units, solution.x.units) == ("m s-1", "m")
    assert solution.x.time.identical(trace.time)
    assert "preconditioned_inversion" in solution.method
    assert_close(solution.residual, np.sqrt(W) * (y - R @ solution.x).values, 1e-9)


def test_start_and_callback_of_a_preconditioned_inversion(trace):
    A, P = xl.Identity(trace.time), xl.Smoothing1D(trace.time, 3)
    models = []
    start = 2 * trace
    first = xl.preconditioned_inversion(A, trace, P, start, niter=0)
    assert_close(first.p, start.values, 1e-15)
    solution = xl.preconditioned_inversion(
        A, trace, P, niter=3, tol=0, callback=lambda status: models.append(status.x)
    )
    assert_close(models[-1], solution.x.values, 1e-15)
    assert_close(models[-1], (P @ solution.p).values, 1e-15)
    stopped = xl.preconditioned_inversion(A, trace, P, callback=lambda status: False)
    assert stopped.reason is xl.Reason.CALLBACK


def test_preconditioners_that_make_no_models(trace):
    A = xl.Identity(trace.time)
    with pytest.raises(xl.DTypeError, match="P must be"):
        xl.preconditioned_inversion(A, trace, 3)
    with pytest.raises(xl.DTypeError, match="solves for"):
        xl.preconditioned_inversion(3, trace, A)
    with pytest.raises(xl.LabelError, match="time"):
        xl.preconditioned_inversion(A, trace, xl.Restriction(trace.time, KEPT))
    with pytest.raises(TypeError, match="x_ref"):
        xl.preconditioned_inversion(A, trace, A, x_ref=trace)
    with pytest.raises(xl.UnitError, match="damp"):
        xl.preconditioned_inversion(A, trace, A, damp=Q(1, "m"))


# --- against PyLops ---------------------------------------------------------------------


def test_as_in_pylops():
    pylops = pytest.importorskip("pylops")
    from pylops.optimization import leastsquares

    rng = np.random.default_rng(8)
    d = xr.DataArray(rng.standard_normal(N), dims="time", coords={"time": np.arange(N)})
    A, L = xl.Smoothing1D(d.time, 5), xl.SecondDerivative(d.time)
    P = xl.Diagonal(over(d, weights(N)))
    a = pylops.Smoothing1D(5, N)
    l = pylops.SecondDerivative(N)
    w = weights(N, 9)
    options = {"engine": "pylops", "niter": 500, "tol": 1e-14}
    W = pylops.Diagonal(w)  # itself in the normal equations, its root in the other
    expected = leastsquares.normal_equations_inversion(
        a, d.values, [l], Weight=W, epsI=0.2, epsRs=[0.3], **options
    )[0]
    rooted = leastsquares.regularized_inversion(
        pylops.VStack([a, 0.2 * pylops.Identity(N)]),
        np.concatenate([d.values, np.zeros(N)]),
        [l],
        Weight=pylops.Diagonal(np.concatenate([np.sqrt(w), np.ones(N)])),
        epsRs=[0.3],
        **options,
    )[0]
    for invert in INVERSIONS:
        given = {"data_weights": over(d, w), "damp": 0.2, "tol": 1e-14, "niter": 500}
        x = invert(A, d, {"a": (L, 0.3)}, **given).x
        assert_close(x, expected, 1e-8)
        assert_close(x, rooted, 1e-8)
    changed = leastsquares.preconditioned_inversion(
        a, d.values, pylops.Diagonal(weights(N)), **(options | {"niter": 8})
    )[0]
    own = xl.preconditioned_inversion(A, d, P, niter=8, tol=0)
    assert_close(own.x, changed, 1e-9)
