"""Operators from a user's own functions."""

import functools
import pickle
import threading

import cloudpickle
import dask
import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import difference, difference_adjoint, gather


@pytest.fixture
def d():
    return gather(sizes=(12, 6, 5))


def operator(d, *coords, **kwargs):
    domain = coords or (d.time,)
    return xl.FunctionOperator(difference, difference_adjoint, domain=domain, **kwargs)


HALOS = [None, 1, (1, 0), {"time": 3}, {"time": (1, 2)}, {"time": 99}]


@pytest.mark.parametrize("halo", HALOS, ids=str)
def test_any_halo_gives_the_matrix_of_the_functions(d, halo):
    n = d.sizes["time"]
    matrix = np.eye(n) - 0.5 * np.eye(n, k=-1)
    A = operator(d, halo=halo)
    P = pylops.FunctionOperator(difference, difference_adjoint, n, n)
    for x in (d, d.chunk(time=1), d.chunk(time=(5, 1, 6), depth=2), d.transpose()):
        for B, Q, M in ((A, P, matrix), (A.H, P.H, matrix.T)):
            values = np.moveaxis(d.values, 0, -1)
            expected = np.einsum("ij,...j->...i", M, values)
            y = (B @ x).transpose("offset", "depth", "time").values
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)
            one = values[2, 3]
            np.testing.assert_allclose(y[2, 3], Q @ one, rtol=0, atol=1e-14)


def test_functions_get_their_dims_last_in_the_order_of_the_domain(d):
    seen = []

    def function(x):
        seen.append(x.shape)
        assert not x.flags.writeable
        return x

    A = xl.FunctionOperator(function, function, domain=(d.depth, d.time))
    x = d.expand_dims(shot=2).transpose("time", "shot", "depth", "offset")
    y = A @ x
    assert seen[-1] == (2, 6, 5, 12)
    assert y.dims == x.dims
    assert y.identical(x)
    seen.clear()
    A.H @ d.transpose("depth", "time", "offset")
    assert seen == [(6, 5, 12)]


def test_pieces_are_as_long_as_the_halo_says(d):
    seen = set()

    def function(x):
        seen.add(x.shape[-1])
        return x

    def lengths(B, x):
        seen.clear()
        (B @ x).compute(scheduler="sync")
        return seen

    x = d.chunk(time=4)
    A = xl.FunctionOperator(function, function, domain=d.time, halo=(2, 1))
    assert lengths(A, x) == {5, 7, 6}
    assert lengths(A.H, x) == {6, 7, 5}
    assert lengths(xl.FunctionOperator(function, domain=d.time), x) == {12}
    assert lengths(xl.FunctionOperator(function, domain=d.time, halo={}), x) == {4}


def test_plans(d):
    x = d.chunk(time=4)
    assert operator(d).explain(x).rows[-1].windows == {"time": "whole"}
    A = operator(d, halo=(1, 0)) @ xl.FirstDerivative(d.time)
    assert [row.windows for row in A.explain(x).rows] == [{"time": "halo 2 + 1"}]
    assert A.explain(x).tasks == 7  # three chunks, four strips
    pointwise = xl.FunctionOperator(np.negative, np.negative, domain=d.time, halo=0)
    assert pointwise.explain(x).tasks == 3


def smoothed(x):
    """Over time (halo), channels mixed (whole): (…, channel, time) to (…, part, time)."""
    y = x[..., :2, :] + 10 * x[..., 1:, :]
    z = y.copy()
    z[..., 1:] += y[..., :-1]
    return z


def smoothed_adjoint(y):
    z = y.copy()
    z[..., :-1] += y[..., 1:]
    x = np.zeros((*y.shape[:-2], 3, y.shape[-1]), y.dtype)
    x[..., :2, :] += z
    x[..., 1:, :] += 10 * z
    return x


def test_dims_in_pieces_beside_whole_ones(d):
    channel = xr.DataArray(list("ENZ"), dims="channel").assign_coords(channel=list("ENZ"))
    part = xr.DataArray([0, 1], dims="part").assign_coords(part=[0, 1])
    A = xl.FunctionOperator(
        smoothed,
        smoothed_adjoint,
        domain=(channel, d.time),
        range=(part, d.time),
        halo={"time": (1, 0)},
    )
    xl.testing.assert_operator(A)
    x = A.domain.random(1, like=d)
    y = A @ x.chunk(time=5, channel=1)
    expected = smoothed(x.transpose(..., "channel", "time").values)
    np.testing.assert_array_equal(y.transpose(..., "part", "time").values, expected)
    B = xl.FunctionOperator(smoothed, domain=A.domain, range=A.range)
    np.testing.assert_array_equal((B @ x).transpose(..., "part", "time").values, expected)


def test_a_dim_in_a_mapping_may_be_whole(d):
    A = operator(d, d.depth, d.time, halo={"time": 1, "depth": None})
    windows = A.explain(d.chunk(time=4, depth=2)).rows[-1].windows
    assert windows == {"depth": "whole", "time": "halo 1 + 1"}
    assert operator(d, d.depth, d.time, halo={"time": 1, "depth": 0}).explain(
        d.chunk(time=4, depth=2)
    ).rows[0].windows == {"time": "halo 1 + 1"}


# --- kinds, units, traits -------------------------------------------------------------


def turned(x):
    return x * 1j


def turned_back(y):
    return y * -1j


def test_complex_values_have_to_be_said(d):
    A = xl.FunctionOperator(turned, turned_back, domain=d.time, halo=0, name="turn")
    with pytest.raises(xl.DTypeError, match=r"turn: .*complex"):
        A @ d
    np.testing.assert_array_equal((A @ d.astype(complex)).values, 1j * d.values)
    space = xl.Space.of(d.time, kind="complex")
    B = xl.FunctionOperator(turned, turned_back, domain=space, halo=0)
    np.testing.assert_array_equal((B @ d).values, 1j * d.values)
    xl.testing.assert_operator(B)


def test_conjugation_by_functions(d):
    A = xl.FunctionOperator(np.conj, np.conj, domain=d.time, halo=0, clinear=False)
    assert not A.clinear
    xl.testing.assert_operator(A)


def test_precision_is_that_of_the_data(d):
    A = xl.FunctionOperator(
        lambda x: x.astype("float64") / 3, domain=d.time, halo=0, traits=["positive"]
    )
    assert (A @ d.astype("float32")).dtype == np.float32
    assert (A @ d.astype("int16")).dtype == np.float64
    assert A.traits == {"positive"}


def test_units(d):
    import pint

    assert (operator(d) @ d).attrs["units"] == "Pa"
    for units in ("s-1", pint.Unit("1/s"), pint.Quantity(1, "Hz").to("1/s")):
        assert (operator(d, units=units) @ d).attrs["units"] == "Pa s-1"
    assert "units" not in (operator(d, units=None) @ d).attrs
    for wrong in ("furlongs per", 3, pint.Quantity(2, "s")):
        with pytest.raises(xl.ArgumentError, match="units must be a unit"):
            operator(d, units=wrong)


# --- one function alone ---------------------------------------------------------------


def test_without_an_adjoint(d):
    A = xl.FunctionOperator(difference, domain=d.time, halo=1, units="1/s")
    D = xl.FirstDerivative(d.time)
    for B in (A, A @ D, D @ A, A @ A, 2 * A, A + D, xl.VStack({"a": A, "b": D})):
        B @ d
        with pytest.raises(xl.AdjointError, match=r"has no adjoint.*second") as caught:
            B.gram @ d
        assert "FunctionOperator(difference)" in str(caught.value)
    with pytest.raises(NotImplementedError):
        A.H  # noqa: B018
    xl.testing.assert_operator(A)


# --- telling operators apart ----------------------------------------------------------


def scaled_by(factor):
    return lambda x: factor * x


class Times:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x


def times(factor, x):
    return factor * x


def same(function, other, d):
    make = functools.partial(xl.FunctionOperator, domain=d.time, halo=0)
    return make(function) == make(other)


def test_equality_is_that_of_the_functions(d):
    assert operator(d) == operator(d)
    assert operator(d) != operator(d, halo=1)
    assert operator(d) != operator(d, units="m")
    assert operator(d) != xl.FunctionOperator(difference, domain=d.time)
    double = scaled_by(2)
    assert same(double, double, d)
    assert not same(double, scaled_by(3), d)
    assert not same(lambda x: x + 0, lambda x: x - 0, d)
    assert same(functools.partial(times, 2), functools.partial(times, 2), d)
    assert not same(functools.partial(times, 2), functools.partial(times, 3), d)
    assert not same(Times(2), Times(3), d)


def test_a_name_used_again_is_another_function(d):
    old = globals()["times_two"]
    try:
        exec("def times_two(x):\n    return 3 * x\n", globals())
        assert not same(old, globals()["times_two"], d)
    finally:
        globals()["times_two"] = old


def times_two(x):
    return 2 * x


def test_functions_that_cannot_be_named_are_equal_to_none(d):
    lock = threading.Lock()
    hidden = lambda x: x[...] if lock else 0
    A = xl.FunctionOperator(hidden, domain=d.time, halo=0)
    assert xl.FunctionOperator(hidden, domain=d.time, halo=0) != A
    assert pickle.loads(pickle.dumps(A.token)) == A.token
    np.testing.assert_array_equal((A @ d.chunk(time=4)).compute(scheduler="sync"), d)


def test_pickling(d):
    A = operator(d, halo=1)
    again = pickle.loads(pickle.dumps(A))
    assert again == A
    assert again.token == A.token
    local = xl.FunctionOperator(lambda x: 2 * x, domain=d.time, halo=0)
    sent = cloudpickle.loads(cloudpickle.dumps(local))
    assert sent.token == local.token
    assert (sent @ d).identical(local @ d)
    lazy = cloudpickle.loads(cloudpickle.dumps(local @ d.chunk(time=4)))
    assert lazy.compute(scheduler="sync").identical(local @ d)


# --- what functions get wrong ---------------------------------------------------------


def wrong(x):
    return x[..., :-1]


WRONG = {
    "one sample short": (lambda x: x[..., 1:], xl.LabelError, "of shape .*time"),
    "no batch": (lambda x: x.sum(axis=0), xl.LabelError, "of shape .*2 axes that pass"),
    "nothing": (lambda x: None, xl.DTypeError, "NumPy array, got NoneType"),
    "a list": (lambda x: x.tolist(), xl.DTypeError, "NumPy array, got list"),
    "text": (lambda x: x.astype(str), xl.DTypeError, "numbers"),
    "complex": (lambda x: x + 1j, xl.DTypeError, "complex"),
}


@pytest.mark.parametrize("halo", [None, 1, 0], ids=str)
@pytest.mark.parametrize("how", WRONG)
def test_what_functions_give_is_checked(d, how, halo):
    function, error, message = WRONG[how]
    A = xl.FunctionOperator(function, function, domain=d.time, halo=halo, name="mine")
    for B, who in ((A, "mine: "), (A.H, "mine.H: ")):
        with pytest.raises(error, match=f"{who}.*{message}") as caught:
            B @ d
        assert len(str(caught.value)) < 400
        with pytest.raises(error, match=message):
            (B @ d.chunk(time=5)).compute(scheduler="sync")


def test_data_cannot_be_changed(d):
    def careless(x):
        x *= 2
        return x

    before = d.copy(deep=True)
    A = xl.FunctionOperator(careless, domain=d.time)
    for x in (d, d.chunk(offset=2)):
        with (
            pytest.raises(ValueError, match="read-only"),
            dask.config.set(scheduler="sync"),
        ):
            (A @ x).compute()
    xr.testing.assert_identical(d, before)


def test_results_are_new_memory(d):
    y = xl.FunctionOperator(lambda x: x, domain=d.time) @ d
    assert not np.shares_memory(y.values, d.values)


def test_arguments(d):
    for function in (None, 3, "f"):
        with pytest.raises(xl.DTypeError, match="functions"):
            xl.FunctionOperator(function, domain=d.time)
    with pytest.raises(xl.DTypeError, match="functions"):
        xl.FunctionOperator(difference, 3, domain=d.time)
    with pytest.raises(xl.LabelError, match="'depth' cannot come in pieces"):
        operator(d, halo={"depth": 1})
    with pytest.raises(xl.DTypeError, match="halo is a whole number"):
        operator(d, halo=0.5)
    with pytest.raises(xl.DTypeError, match="halo is a whole number"):
        operator(d, halo=(1, 2, 3))
    with pytest.raises(xl.ArgumentError, match="negative"):
        operator(d, halo=-1)
    with pytest.raises(xl.ArgumentError, match="traits"):
        operator(d, traits=["linear"])
    with pytest.raises(xl.DTypeError, match="FunctionOperator"):
        xl.FunctionOperator(difference, domain="time")
    with pytest.raises(xl.DTypeError, match="name"):
        operator(d, name=3)
