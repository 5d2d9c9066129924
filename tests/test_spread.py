"""Spread: against PyLops, sums written out, and closed forms."""

import functools
import itertools
import pickle

import dask
import dask.array as da
import numpy as np
import pint
import pylops
import pytest
import xarray as xr

import xlops as xl
from xlops.engine import tiles
from xlops.operators import landing
from xlops.windows import rules

RNG = np.random.default_rng
DTYPES = ["float64", "float32", "complex128", "complex64"]
NX0, NT0, NX, NT = 5, 7, 6, 11
SIZES = {"x0": NX0, "t0": NT0, "x": NX, "t": NT, "shot": 3, "y": 2}
CUTS = {
    "whole": {},
    "even": {"x0": 1, "t0": 1, "x": 2, "t": 1, "shot": 1, "y": 1},
    "uneven": {"x0": (3, 2), "t0": (1, 4, 2), "x": (1, 5), "t": (4, 7), "shot": (1, 2)},
    "model": {"x0": (2, 3), "t0": (3, 4)},
    "data": {"x": 4, "t": 5},
}
cut_in_any_way = pytest.mark.parametrize("cuts", [None, *CUTS])


def values(dims, dtype="float64", seed=0):
    rng, shape = RNG(seed), [SIZES[dim] for dim in dims]
    made = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        made = made + 1j * rng.standard_normal(shape)
    return made.astype(dtype)


def labeled(dims, dtype="float64", seed=0):
    coords = {d: (d, 0.5 * np.arange(SIZES[d]) + 2.0, {"units": "m"}) for d in dims}
    return xr.DataArray(values(dims, dtype, seed), coords, tuple(dims))


def in_chunks(x, cuts):
    if cuts is None:
        return x
    return x.chunk({dim: CUTS[cuts].get(dim, -1) for dim in x.dims})


def time(n=NT, dim="t"):
    """The axis of the data: even, in seconds, not from 0."""
    labels = 0.25 + 0.004 * np.arange(n)
    return xr.DataArray(labels, {dim: (dim, labels, {"units": "s"})}, dim)[dim]


def samples(n=NT, dim="t"):
    """An axis without labels."""
    return xr.DataArray(np.zeros(n), dims=dim)


def indices(seed=1, dims=("x0", "t0", "x"), whole=True):
    """A table of indices, some of them missing."""
    rng, shape = RNG(seed), [SIZES[dim] for dim in dims]
    made = rng.integers(0, NT - 1, shape).astype(float)
    if not whole:
        made += rng.random(shape)
    made[rng.random(shape) < 0.2] = np.nan
    return labeled(dims).copy(data=made)


def written_out(table, m, interp=False, size=NT):
    """What lands where, one sample at a time; axes of the table: those of m, then x."""
    d = np.zeros((table.shape[-1], size), m.dtype)
    for *at, x in np.ndindex(table.shape):
        i = table[(*at, x)]
        if not 0 <= i <= size - 1:
            continue
        low = int(np.floor(i)) if interp else int(np.floor(i + 0.5))
        far = i - low if interp else 0.0
        d[x, low] += (1 - far) * m[tuple(at)]
        if far:
            d[x, low + 1] += far * m[tuple(at)]
    return d


def agree(result, expected, tol=1e-13):
    scale = max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=0, atol=tol * scale)


# --- against PyLops -------------------------------------------------------------------


def pylops_table(interp, dtype):
    table = indices().values
    between = RNG(2).random(table.shape) if interp else None
    P = pylops.Spread((NX0, NT0), (NX, NT), table=table, dtable=between, dtype=dtype)
    dtable = None if between is None else indices().copy(data=between)
    return P, xl.Spread(indices(), samples(), positions="indices", dtable=dtable)


def pylops_function(interp, dtype):
    """The function of PyLops gives a row for one sample, ours all at once."""
    table, between = indices().values, RNG(2).random((NX0, NT0, NX))

    def fh(ix0, it0):
        rows = table[ix0, it0], between[ix0, it0]
        return rows if interp else rows[0]

    def function(x0, t0, x):
        i = tuple(((a - 2.0) * 2.0).round().astype(int) for a in (x0, t0, x))
        return table[i] + (between[i] if interp else 0.0)

    P = pylops.Spread((NX0, NT0), (NX, NT), fh=fh, interp=interp, dtype=dtype)
    d = labeled(("x0", "t0", "x"))
    return P, xl.Spread(function, samples(), domain=(d.x0, d.t0), range=d.x, interp=interp)


@cut_in_any_way
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interp", [False, True])
@pytest.mark.parametrize("form", [pylops_table, pylops_function])
def test_pylops(form, interp, dtype, cuts):
    P, S = form(interp, dtype)
    tol = 1e-6 if np.finfo(dtype).bits == 32 else 1e-12
    m = labeled(("x0", "t0"), dtype)
    d = S @ in_chunks(m, cuts)
    assert d.dims == ("x", "t")
    assert d.dtype == dtype
    assert (d.chunks is None) == (cuts is None)
    agree(d, (P @ m.values.ravel()).reshape(P.dimsd), tol)
    y = labeled(("x", "t"), dtype, seed=3)
    y = y.drop_vars("t")
    back = S.H @ in_chunks(y, cuts)
    assert back.dims == ("x0", "t0")
    assert back.dtype == dtype
    agree(back, (P.H @ y.values.ravel()).reshape(P.dims), tol)
    for dim in ("x0", "t0"):
        xr.testing.assert_identical(back[dim], m[dim])


@pytest.mark.parametrize("interp", [False, True])
def test_pylops_with_numba(interp):
    table = indices(whole=False).values
    low = np.floor(table)
    between = table - low if interp else None
    P = pylops.Spread((NX0, NT0), (NX, NT), low, between, interp=interp, engine="numba")
    whole = indices().copy(data=table if interp else low)
    S = xl.Spread(whole, samples(), interp=interp)
    m, d = labeled(("x0", "t0")), labeled(("x", "t")).drop_vars("t")
    agree(S @ m, (P @ m.values.ravel()).reshape(P.dimsd))
    agree(S.H @ d, (P.H @ d.values.ravel()).reshape(P.dims))


# --- against sums written out ---------------------------------------------------------


@cut_in_any_way
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("interp", [False, True])
def test_tables(interp, lazy, cuts):
    table = indices(whole=False)
    given = in_chunks(table, "uneven") if lazy else table
    S = xl.Spread(given, time(), positions="indices", interp=interp)
    for order, dims in ((("x0", "t0"), ("x", "t")), (("t0", "x0"), ("x", "t"))):
        m = labeled(order)
        d = S @ in_chunks(m, cuts)
        assert d.dims == dims
        assert (d.chunks is None) == (cuts is None and not lazy)
        expected = written_out(table.values, m.transpose("x0", "t0").values, interp)
        agree(d, expected)
        xr.testing.assert_identical(d.t.variable, time().variable)
    assert xl.dottest(S, like=in_chunks(m, cuts), tol=1e-12)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("form", ["nearest", "linear", "function"])
def test_dims_that_pass_through(form, lazy):
    """In any order, cut in any way, in the same memory or not."""
    table = indices(whole=False)
    S = xl.Spread(table, samples(), interp=form != "nearest")
    if form == "function":
        S = xl.Spread(
            functools.partial(looked_up, table.values),
            samples(),
            domain=(table.x0, table.t0),
            range=table.x,
            interp=True,
        )
    x = labeled(("shot", "x0", "y", "t0"), "complex128")
    expected = np.array(
        [
            [
                written_out(table.values, x.values[i, :, j], form != "nearest")
                for j in (0, 1)
            ]
            for i in range(3)
        ]
    )
    for order in itertools.permutations(x.dims):
        given = x.transpose(*order)
        for cuts in ("even", "uneven") if lazy else (None,):
            d = S @ in_chunks(given, cuts)
            agree(d.transpose("shot", "y", "x", "t"), expected)
            assert set(d.coords) == {"shot", "y", "x"}
    assert xl.dottest(S, like=x, tol=1e-12)


def looked_up(table, x0, t0, x):
    i = tuple(((a - 2.0) * 2.0).round().astype(int) for a in (x0, t0, x))
    return table[i]


ROLES = {
    "last one made": (("x0", "t0", "x"), {}, (), ("x",)),
    "over": (("x", "t0", "x0"), {"over": ("x0", "t0")}, (), ("x",)),
    "over one": (("x", "x0", "t0"), {"over": "x0"}, (), ("x", "t0")),
    "makes": (("x0", "x", "t0"), {"makes": "x"}, (), ("x",)),
    "makes two": (("x0", "x", "y"), {"makes": ["y", "x"]}, (), ("x", "y")),
    "nothing made": (("x0",), {}, (), ()),
    "nothing made of two": (("x0", "t0"), {"makes": ()}, (), ()),
    "shared": (("y", "x0", "x"), {"over": "x0", "makes": "x"}, ("y",), ("x",)),
    "all shared but one": (("y", "x0", "x"), {"over": "x0", "makes": ()}, ("y", "x"), ()),
}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("role", ROLES)
def test_roles(role, lazy):
    dims, given, shared, made = ROLES[role]
    table = indices(dims=dims)
    over = tuple(dim for dim in dims if dim not in (*shared, *made))
    if lazy:
        table = in_chunks(table, "uneven")
    S = xl.Spread(table, time(), positions="indices", **given)
    assert set(S.domain.dims) == {*shared, *over}
    assert set(S.range.dims) == {*shared, *made, "t"}
    m = labeled((*over, "shot", *shared), "complex128", seed=4)
    tab = table.transpose(*shared, *over, *made).values
    tab = tab.reshape(*(SIZES[dim] for dim in (*shared, *over)), -1)
    values_ = m.transpose("shot", *shared, *over).values
    expected = np.array(
        [
            [
                written_out(tab[at], values_[(i, *at)])
                for at in np.ndindex(*(SIZES[dim] for dim in shared))
            ]
            for i in range(SIZES["shot"])
        ]
    )
    for cuts in (None, "even", "uneven"):
        d = (S @ in_chunks(m, cuts)).transpose("shot", *shared, *made, "t")
        agree(d, expected.reshape(d.shape))
        assert xl.dottest(S, like=in_chunks(m, cuts), tol=1e-12)


@cut_in_any_way
@pytest.mark.parametrize("same", [False, True])
def test_from_times_to_times(same, cuts):
    """Model and data each have times of their own, under one name."""
    n = NT if same else NT0
    own = time(n, "t")
    table = indices(dims=("x0", "t0", "x"), whole=False)
    if same:
        table = xr.concat([table, table], "t0").isel(t0=slice(NT)).drop_vars("t0")
    table = table.drop_vars("t0", errors="ignore").rename(t0="t").assign_coords(t=own)
    S = xl.Spread(table, time(), positions="indices", interp=True)
    assert S.domain.dims == ("x0", "t")
    assert (S.domain.sizes["t"], S.range.sizes["t"]) == (n, NT)
    m = xr.DataArray(RNG(0).standard_normal((n, NX0)), dims=("t", "x0"))
    m = m.assign_coords(x0=table.x0, t=own)
    expected = written_out(table.values, m.values.T, True)
    given = in_chunks(m, None) if cuts is None else m.chunk(x0=2, t=3)
    d = S @ given
    assert d.dims == ("t", "x")  # times keep their place
    agree(d.transpose("x", "t"), expected)
    back = S.H @ d
    assert back.dims == ("t", "x0")
    xr.testing.assert_identical(back.t, m.t)
    assert xl.dottest(S, like=given, tol=1e-12)


def test_dense():
    table = indices(whole=False)
    S = xl.Spread(table, samples(), interp=True)
    unit = np.eye(NX0 * NT0).reshape(-1, NX0, NT0)
    expected = np.array([written_out(table.values, u, True) for u in unit])
    matrix = S.todense().transpose(..., "x", "t")
    agree(matrix.values.reshape(NX0 * NT0, NX, NT), expected)
    back = S.H.todense()
    agree(back.values.reshape(NX0 * NT0, NX, NT), expected)


# --- positions ------------------------------------------------------------------------

AXES = {
    "even": (0.25 + 0.004 * np.arange(NT), {"units": "s"}),
    "falling": (1.0 - 0.25 * np.arange(NT), {"units": "s"}),
    "uneven": (np.cumsum(0.1 + RNG(5).random(NT)), {"units": "s"}),
    "uneven, falling": (-np.cumsum(0.1 + RNG(5).random(NT)), {"units": "m"}),
    "integers": (10 + 3 * np.arange(NT), {"units": "s"}),
    "nanoseconds": (1_700_000_000_000_000_000 + 4_000_001 * np.arange(NT), {}),
    "single": ((0.25 + 0.004 * np.arange(NT)).astype("float32"), {"units": "s"}),
    "since": (6.0 * np.arange(NT), {"units": "hours since 2000-01-01"}),
}


def axis(name):
    labels, attrs = AXES[name]
    return xr.DataArray(np.zeros(NT), {"t": ("t", labels, attrs)}, "t").t


@pytest.mark.parametrize("interp", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", AXES)
def test_labels(name, lazy, interp):
    """Labels of samples are these samples, to the last one; between them is between."""
    t = axis(name)
    at = np.arange(NT)
    table = xr.DataArray(t.values, dims="k", attrs=t.attrs)
    S = xl.Spread(table.chunk(k=4) if lazy else table, t, interp=interp)
    m = xr.DataArray(1.0 + at, dims="k")
    agree(S @ m, 1.0 + at, 1e-5 if name == "single" else 1e-13)
    far = 0.375
    low, high = (t.values[s].astype(float) for s in (slice(0, -1), slice(1, None)))
    between = xr.DataArray((1 - far) * low + far * high, dims="k", attrs=t.attrs)
    if name == "nanoseconds":
        return  # no float is that exact
    d = xl.Spread(between, t, interp=interp) @ m[1:]
    expected = np.zeros(NT)
    expected[:-1] += (1 - far if interp else 1.0) * m.values[1:]
    expected[1:] += far * m.values[1:] if interp else 0.0
    agree(d, expected, 1e-5 if name == "single" else 1e-12)


@pytest.mark.parametrize("interp", [False, True])
@pytest.mark.parametrize("name", AXES)
def test_outside_of_the_axis_nothing_is_added(name, interp):
    t = axis(name)
    low, high = sorted(t.values[[0, -1]].astype(float))
    step = (high - low) / (NT - 1)
    outside = [low - 0.01 * step, high + 0.01 * step, low - 9 * step, high + 1e9 * step]
    outside += [np.nan, np.inf, -np.inf]
    table = xr.DataArray(outside, dims="k", attrs=t.attrs)
    S = xl.Spread(table, t, interp=interp)
    m = xr.DataArray(np.full(len(outside), np.nan), dims="k")
    if name == "nanoseconds":
        S, m = xl.Spread(table[2:], t, interp=interp), m[2:]
    d = S @ m
    np.testing.assert_array_equal(d, 0.0)
    np.testing.assert_array_equal(S.H @ (d + 1.0), 0.0)


def test_halfway_goes_to_the_latter():
    table = xr.DataArray([0.5, 1.49999, 2.5, 10.0], dims="k")
    d = xl.Spread(table, samples()) @ xr.DataArray([1.0, 2.0, 4.0, 8.0], dims="k")
    np.testing.assert_array_equal(np.flatnonzero(d), [1, 3, 10])
    np.testing.assert_array_equal(d[[1, 3, 10]], [3.0, 4.0, 8.0])


def test_whole_positions_leave_neighbours_alone():
    """Where nothing is shared out, NaN stays where it belongs, in both directions."""
    table = xr.DataArray([3.0, 5.5], dims="k")
    S = xl.Spread(table, samples(), interp=True)
    d = S @ xr.DataArray([np.nan, 1.0], dims="k")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(d)), [3])
    y = samples().copy()
    y[4] = np.nan
    np.testing.assert_array_equal(S.H @ y, 0.0)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32"])
def test_tables_of_all_dtypes(dtype):
    table = indices().fillna(0).astype(dtype)
    m = labeled(("x0", "t0"))
    expected = written_out(table.values.astype(float), m.values)
    for given in (table, table.chunk(2)):
        agree(xl.Spread(given, samples()) @ m, expected)


def test_whole_numbers_beyond_all_others_are_outside():
    t = xr.DataArray(np.arange(-5, 5), dims="time", coords={"time": np.arange(-5, 5)})
    table = xr.DataArray(np.array([2**64 - 1, 2**63, 2], np.uint64), dims="k")
    d = xl.Spread(table, t.time) @ xr.DataArray([1.0, 2.0, 4.0], dims="k")
    np.testing.assert_array_equal(d, 4.0 * (t.time == 2))


@pytest.mark.parametrize("kind", ["dates", "durations"])
def test_dates(kind):
    labels = np.arange(NT) * np.timedelta64(250, "ms").astype("timedelta64[ns]")
    if kind == "dates":
        labels = np.datetime64("2024-02-28", "ns") + labels
    t = labels_of(labels)
    table = xr.DataArray(labels[[0, 4, -1]], dims="k")
    table = xr.concat([table, table + np.timedelta64(100, "ms")], "k")
    table = xr.concat([table, xr.full_like(table[:1], np.array("NaT", table.dtype))], "k")
    m = xr.DataArray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], dims="k")
    expected = np.zeros(NT)
    expected[[0, 4, 10, 1, 5]] = [1 + 0.6 * 4, 2 + 0.6 * 5, 3, 0.4 * 4, 0.4 * 5]
    for given in (table, table.chunk(k=2)):
        agree(xl.Spread(given, t, interp=True) @ m, expected)
    if kind == "durations":
        seconds = xr.DataArray([0.0, 1000.0], dims="k", attrs={"units": "ms"})
        d = xl.Spread(seconds, t) @ m[:2]
        np.testing.assert_array_equal(np.flatnonzero(d), [0, 4])


def test_units_of_positions():
    t = time()
    m = xr.DataArray([1.0, 2.0], dims="k")
    expected = np.zeros(NT)
    expected[[1, 3]] = m
    for units, values_ in (("s", [0.254, 0.262]), ("ms", [254.0, 262.0]), (None, None)):
        table = xr.DataArray(values_ or [0.254, 0.262], dims="k")
        if units:
            table.attrs["units"] = units
        for given in (table, table.chunk(k=1)):
            S = xl.Spread(given, t)
            agree(S @ m, expected)
            assert str(S.units) == "dimensionless"
    quantity = pint.Quantity(np.array([254.0, 262.0]), "ms")
    agree(xl.Spread(xr.DataArray(quantity, dims="k"), t) @ m, expected)
    y = xl.Spread(table, t) @ m.assign_attrs(units="Pa")
    assert y.attrs["units"] == "Pa"
    since = axis("since")
    own = xr.DataArray([6.0, 18.0], dims="k", attrs=since.attrs)
    for attrs in (since.attrs, {"units": "hours"}, {}):
        d = xl.Spread(own.assign_attrs(attrs), since) @ m
        agree(d, expected)


# --- functions ------------------------------------------------------------------------


def hyperbola(t0, x, velocity, water=0.0):
    return np.sqrt(t0**2 + (x / velocity) ** 2) + water


def traveltimes(model, x):
    """The same as a table; xarray's arithmetic would keep units that are not its own."""
    table = hyperbola(model.t0, x, model.velocity).transpose("x0", "t0", "x")
    return table.assign_attrs(units="s")


def curves():
    """A model over times and velocities, along an auxiliary coordinate, and offsets."""
    t0 = xr.DataArray(0.25 + 0.01 * np.arange(NT0), dims="t0")
    v = ("x0", 1500.0 + 100.0 * np.arange(NX0), {"units": "m/s"})
    model = xr.DataArray(values(("x0", "t0")), {"t0": t0, "velocity": v}, ("x0", "t0"))
    offsets = xr.DataArray(np.linspace(0, 100, NX), dims="x")
    return model, offsets.assign_coords(x=offsets).x


@cut_in_any_way
@pytest.mark.parametrize("interp", [False, True])
def test_functions_are_tables(interp, cuts):
    model, x = curves()
    table = traveltimes(model, x)
    one = xl.Spread(table, time(), interp=interp)
    other = xl.Spread(hyperbola, time(), domain=model, range=x, interp=interp)
    assert one.domain.dims == other.domain.dims
    assert one.range == other.range
    m = in_chunks(model, cuts)
    agree(other @ m, (one @ model).values)
    d = one @ m
    agree(other.H @ d, (one.H @ d).values)
    assert (other.H @ d).velocity.identical(model.velocity)


def test_functions_get_pieces_of_what_they_name(monkeypatch):
    """Never more than a piece at once, and read-only."""
    monkeypatch.setattr(landing, "PIECE", 20)
    model, x = curves()
    seen = []

    def function(x, t0, *, x0, shift=0.0, **others):
        assert not others
        for a in (x, t0, x0):
            assert not a.flags.writeable
        shape = np.broadcast_shapes(x.shape, t0.shape, x0.shape)
        seen.append(shape)
        return np.sqrt(t0**2 + (x / (1500.0 + 100.0 * x0)) ** 2) + shift

    S = xl.Spread(function, time(), domain=(model.t0, model.velocity), range=[x, time()])
    table = traveltimes(model, x)
    expected = xl.Spread(table, time(), makes="x") @ model
    for m in (model, model.chunk(x0=2)):
        agree(S @ m, expected.values)
        assert max(map(np.prod, seen)) <= 20
        assert xl.dottest(S, like=m, tol=1e-12)


def test_functions_may_leave_coordinates_out():
    """What they give broadcasts."""
    model, x = curves()

    def flat(t0):
        return t0

    def nowhere():
        return -1.0

    S = xl.Spread(flat, time(NT0 * 3), domain=model, range=x)
    d = S @ model
    np.testing.assert_allclose(d.sum("t"), float(model.sum()), atol=1e-13)
    assert xl.dottest(S, like=model)
    np.testing.assert_array_equal(xl.Spread(nowhere, time(), domain=model) @ model, 0.0)


def test_shared_dims_of_functions():
    y = labeled(("y",)).y
    model, x = curves()
    S = xl.Spread(
        lambda t0, x, y: t0 + 1e-4 * x * y, time(), domain=(y, model.t0), range=(x, y)
    )
    assert (S.domain.dims, S.range.dims) == (("y", "t0"), ("x", "y", "t"))
    table = (model.t0 + 1e-4 * x * y).assign_attrs(units="s")
    T = xl.Spread(table, time(), over="t0", makes="x")
    m = xr.DataArray(values(("t0", "y")), {"t0": model.t0, "y": y}, ("t0", "y"))
    agree((S @ m).transpose("y", "x", "t"), (T @ m).transpose("y", "x", "t").values)
    assert xl.dottest(S, like=m.chunk(y=1))


# --- closed forms ---------------------------------------------------------------------


def test_a_spike_becomes_a_line():
    """Linear moveout: one slope, one intercept; and back, the data sum up along it."""
    x = xr.DataArray(100.0 * np.arange(8), dims="x")
    x = x.assign_coords(x=x.assign_attrs(units="m")).x
    t = time(40, "t")
    p = xr.DataArray([0.0, 4e-5], dims="p")  # a sample for every offset
    m = xr.DataArray(np.zeros((2, 40)), {"p": p, "t": t}, ("p", "t"))
    m[1, 5] = 2.0
    R = xl.Spread((m.t + m.p * x).assign_attrs(units="s"), t, makes="x", interp=True)
    d = (R @ m).transpose("x", "t")
    expected = np.zeros((8, 40))
    expected[np.arange(8), 5 + np.arange(8)] = 2.0
    agree(d, expected, 1e-12)
    back = R.H @ d
    assert float(
        back[..., 5].sel(p=4e-5) if back.dims == ("p", "t") else 0
    ) == pytest.approx(16.0)
    assert back.dims == ("p", "t")


def test_demigration():
    """One point scatters into a hyperbola of wavelets."""
    z, x = np.array([20.0, 40.0]), np.linspace(0, 200, 9)
    grid = xr.Dataset(coords={"z": z, "x0": [100.0], "x": x})
    labels = ("t", 0.002 * np.arange(120), {"units": "s"})
    t = xr.DataArray(np.zeros(120), {"t": labels}, "t").t
    travel = 2 * np.sqrt(grid.z**2 + (grid.x - grid.x0) ** 2) / 2000.0
    S = xl.Spread(travel.assign_attrs(units="s"), t, makes="x", interp=True)
    wavelet = np.array([-0.5, 1.0, -0.5])
    D = xl.Convolve1D(t, wavelet, 1) @ S
    model = xr.DataArray([[0.0], [3.0]], {"z": z, "x0": [100.0]}, ("z", "x0"))
    d = (D @ model).transpose("x", "t")
    at = travel.sel(z=40.0).squeeze("x0").values / 0.002
    low = np.floor(at + 1e-9).astype(int)
    spikes = np.zeros((9, 121))
    spikes[np.arange(9), low] += 3.0 * (1 - (at - low))
    spikes[np.arange(9), low + 1] += 3.0 * (at - low)
    expected = [np.convolve(row[:120], wavelet, "same") for row in spikes]
    agree(d, expected, 1e-12)
    assert xl.dottest(D, like=model.chunk(z=1))


def test_inversion():
    """A model that is spread one to one comes back."""
    x = labeled(("x",)).x
    table = (samples(NT, "t0").copy(data=np.arange(NT)) + 0 * x).transpose("t0", "x")
    S = xl.Spread(table.assign_attrs(units="1"), samples())
    m = xr.DataArray(RNG(0).standard_normal(NT), dims="t0")
    for given in (m, m.chunk(t0=4)):
        agree(xl.cgls(S, S @ given, niter=3).x, m.values)


# --- pieces ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "strided", "function"])
def test_tiles(form, monkeypatch):
    """Small tiles on threads, small pieces of tables."""
    monkeypatch.setattr(tiles, "SMALL_BYTES", 0)
    monkeypatch.setattr(tiles, "STREAM_BYTES", 64)
    monkeypatch.setattr(tiles, "TILE_BYTES", 64)
    monkeypatch.setattr(tiles, "RUN_BYTES", 8)
    monkeypatch.setattr(landing, "PIECE", 10)
    table = indices(whole=False)
    S = xl.Spread(table, samples(), interp=True)
    if form == "function":
        S = xl.Spread(
            functools.partial(looked_up, table.values),
            samples(),
            domain=(table.x0, table.t0),
            range=table.x,
            interp=True,
        )
    m = labeled(("t0", "shot", "x0"))
    if form == "strided":
        m = m.copy(data=np.repeat(m.values, 2, axis=-1)[..., ::2])
    d = S @ m
    assert len(S.explain(m).rows) == 1
    assert S.explain(m).rows[0].pieces > 4
    for i in range(3):
        expected = written_out(table.values, m.values[:, i].T, True)
        agree(d.isel(shot=i).transpose("x", "t"), expected)
    assert xl.dottest(S, like=m, tol=1e-12)


def test_chunks_of_large_data(monkeypatch):
    """The data come in chunks that are not large, or in those of a lazy table."""
    monkeypatch.setattr(rules, "LARGEST_PIECE", 3 * NT)
    table, m = indices(), labeled(("x0", "t0")).chunk(x0=2)
    S = xl.Spread(table, samples())
    d = S @ m
    assert d.chunksizes == {"x": (3, 3), "t": (NT,)}
    agree(d, written_out(table.values, m.values))
    d = xl.Spread(table.chunk(x=(1, 5)), samples()) @ m
    assert d.chunksizes == {"x": (1, 5), "t": (NT,)}
    agree(d, written_out(table.values, m.values))


def test_products_and_sums(monkeypatch):
    """Before, behind and beside other operators; pieces of the axis are asked for."""
    table = indices(whole=False)
    t = time()
    S = xl.Spread(table, t, positions="indices", interp=True)
    m = labeled(("x0", "t0"))
    d = written_out(table.values, m.values, True)
    D = xl.FirstDerivative(m.t0)
    for given in (m, in_chunks(m, "even"), in_chunks(m, "uneven")):
        rows = xl.Restriction(t, [1, 2, 9]) @ S
        agree((rows @ given).transpose("x", "t"), d[:, [1, 2, 9]])
        slope = (xl.FirstDerivative(t) @ S @ given).transpose("x", "t")
        agree(slope, (xl.FirstDerivative(t) @ (S @ m)).transpose("x", "t").values)
        after = S @ D @ given
        agree(after, written_out(table.values, (D @ m).values, True))
        both = (S - 2 * S) @ given
        agree(both, -d)
        gram = S.gram @ given
        agree(gram, (S.H @ (S @ m)).values)
        for A in (rows, xl.FirstDerivative(t) @ S, S @ D, S.gram):
            assert xl.dottest(A, like=given, tol=1e-12)


def test_explain():
    """Partial results, and sums of them, as the graph has them."""
    S = xl.Spread(indices(), samples())
    m = labeled(("x0", "t0")).chunk(x0=2)
    (row,) = S.explain(m).rows
    assert row.windows == {"x0": "in pieces, added up", "t0": "whole"}
    assert row.tasks == {"partial results": 3, "sums": 1}
    graph = (S @ m).data.__dask_graph__()
    own = [key for key in graph if key not in m.data.__dask_graph__()]
    assert len(own) == 3 + 1 + 1  # and the operator itself
    (row,) = S.explain(m.compute()).rows
    assert row.windows == {"x0": "whole", "t0": "whole"}


def test_small_chunks_come_several_at_once():
    """A partial result is as large as a chunk of the data: there are not more than help."""
    m = labeled(("x0", "t0")).chunk(1)
    table = indices(whole=False)
    S = xl.Spread(table, samples(), interp=True)
    (row,) = S.explain(m).rows
    assert row.tasks == {"partial results": 5, "sums": 1}  # one for each x0
    agree(S @ m, written_out(table.values, m.values, True))
    T = xl.Spread(table.chunk(x=1), samples(), interp=True)
    (row,) = T.explain(m).rows
    assert row.tasks["partial results"] == NX * 5
    agree(T @ m, written_out(table.values, m.values, True))
    back = labeled(("x", "t")).drop_vars("t").chunk(1)
    (row,) = S.H.explain(back).rows
    assert row.tasks["partial results"] == 6
    agree(S.H @ back, (S.H @ back.compute()).values)


# --- what it does not do --------------------------------------------------------------


def test_nothing_is_computed_to_build():
    """No table is read, no function called, at construction, repr, ==, or for a graph."""

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    table = in_chunks(indices(whole=False), "uneven")
    lazy = table.map_blocks(lambda block: refuse(), template=table)

    def function(x0):
        refuse()

    m = in_chunks(labeled(("x0", "t0")), "even")
    with dask.config.set(scheduler=refuse):
        for S in (
            xl.Spread(lazy, time()),
            xl.Spread(lazy, samples(), dtable=lazy),
            xl.Spread(lazy.assign_attrs(units="ms"), time(), interp=True),
            xl.Spread(function, time(), domain=m, range=table.x),
        ):
            d = S @ m
            assert d.chunks is not None
            assert (S.H @ d).chunks is not None
            assert S == S
            assert "Spread" in repr(S)
            S.explain(m)


def test_tables_are_not_copied_into_graphs_once_per_chunk():
    table = xr.DataArray(np.zeros((100, 100, 100)), dims=("a", "b", "c"))
    S = xl.Spread(table, samples())
    graph = (
        S @ xr.DataArray(da.ones((100, 100), chunks=10), dims=("a", "b"))
    ).__dask_graph__()
    others = [
        node
        for key, node in graph.items()
        if not str(key).startswith(("weights-", "('weights-"))
    ]
    assert len(graph) - len(others) == 1
    assert len(pickle.dumps(others)) < 10 * len(others) * 100


def test_operators_hold_their_own_table():
    """What becomes of the table does not matter, and tables may be read-only."""
    table, m = indices(), labeled(("x0", "t0"))
    expected = written_out(table.values, m.values)
    table.values.flags.writeable = False
    S = xl.Spread(table, samples())
    table = table.copy()
    T = xl.Spread(table, samples())
    table[...] = 0.0
    for A in (S, T):
        agree(A @ m, expected)


def test_equality_and_pickles():
    model, x = curves()
    table = traveltimes(model, x)
    makes = {"makes": "x"}
    build = {
        "table": lambda: xl.Spread(table, time(), **makes),
        "interp": lambda: xl.Spread(table, time(), interp=True, **makes),
        "indices": lambda: xl.Spread(
            table.drop_attrs(), time(), positions="indices", **makes
        ),
        "other table": lambda: xl.Spread(table + 0.004, time(), **makes),
        "shared": lambda: xl.Spread(table, time(), over="t0", makes="x"),
        "lazy": lambda: xl.Spread(table.chunk(), time(), **makes),
        "lazy, ms": lambda: xl.Spread(
            table.chunk().assign_attrs(units="ms"), time(), **makes
        ),
        "function": lambda: xl.Spread(hyperbola, time(), domain=model, range=x),
        "other function": lambda: xl.Spread(
            functools.partial(hyperbola, water=0.1), time(), domain=model, range=x
        ),
    }
    made = {name: make() for name, make in build.items()}
    for one, other in itertools.combinations(made, 2):
        assert made[one] != made[other], (one, other)
    for name, S in made.items():
        assert build[name]() == S
        copy = pickle.loads(pickle.dumps(S))
        assert copy == S
        xr.testing.assert_identical((copy @ model).compute(), (S @ model).compute())


# --- errors ---------------------------------------------------------------------------


def domain_of(*dims):
    return [labeled((dim,))[dim] for dim in dims]


def labels_of(values_):
    return xr.DataArray(np.zeros(NT), {"t": values_}, "t").t


TABLE = indices()
ERRORS = {
    "no labels": (xl.DTypeError, lambda: xl.Spread(TABLE.values, time()), "ndarray"),
    "no axis": (xl.DTypeError, lambda: xl.Spread(TABLE, "t"), "coordinate"),
    "two axes": (xl.LabelError, lambda: xl.Spread(TABLE, TABLE[0]), "'t0' and 'x'"),
    "complex": (xl.DTypeError, lambda: xl.Spread(TABLE * 1j, time()), "complex128"),
    "bool": (xl.DTypeError, lambda: xl.Spread(TABLE > 1, time()), "bool"),
    "text": (xl.DTypeError, lambda: xl.Spread(TABLE.astype(str), time()), "numbers"),
    "empty": (xl.LabelError, lambda: xl.Spread(TABLE[:0], time()), "empty"),
    "dates": (
        xl.DTypeError,
        lambda: xl.Spread(TABLE.astype("M8[s]"), time()),
        "real numbers, got datetime64",
    ),
    "no dates": (
        xl.DTypeError,
        lambda: xl.Spread(TABLE, labels_of(np.arange(NT).astype("M8[s]"))),
        "must be dates",
    ),
    "units": (
        xl.UnitError,
        lambda: xl.Spread(TABLE.assign_attrs(units="m"), time()),
        "in m do not convert to s, the unit of t; xarray keeps",
    ),
    "units of indices": (
        xl.UnitError,
        lambda: xl.Spread(TABLE.assign_attrs(units="s"), time(), positions="indices"),
        "indices",
    ),
    "units without labels": (
        xl.UnitError,
        lambda: xl.Spread(TABLE.assign_attrs(units="s"), samples()),
        "in s do not convert",
    ),
    "epoch": (
        xl.UnitError,
        lambda: xl.Spread(
            TABLE.assign_attrs(units="hours since 2001-01-01"), axis("since")
        ),
        "since 2000",
    ),
    "no such dim": (xl.LabelError, lambda: xl.Spread(TABLE, time(), over="z"), "'z'"),
    "over and makes": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE, time(), over=("x0", "x"), makes="x"),
        "'x' is spread",
    ),
    "all made": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE, time(), makes=TABLE.dims),
        "at least one dim",
    ),
    "axis made": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE.rename(x="t"), samples(), makes="t"),
        "over=",
    ),
    "dtable": (
        xl.LabelError,
        lambda: xl.Spread(TABLE, time(), dtable=TABLE[0]),
        "do not fit",
    ),
    "dtable of other labels": (
        xl.LabelError,
        lambda: xl.Spread(TABLE, time(), dtable=TABLE.assign_coords(x=TABLE.x + 1)),
        "other labels",
    ),
    "dtable without labels": (
        xl.DTypeError,
        lambda: xl.Spread(TABLE, time(), dtable=TABLE.values),
        "dtable must be",
    ),
    "dtable of labels": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE, time(), dtable=TABLE, positions="labels"),
        "indices",
    ),
    "dtable for nothing": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE, time(), dtable=TABLE, interp=False),
        "interpolate",
    ),
    "positions": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE, time(), positions="index"),
        "'labels', 'indices'",
    ),
    "interp": (xl.ArgumentError, lambda: xl.Spread(TABLE, time(), interp="yes"), "interp"),
    "domain": (
        xl.ArgumentError,
        lambda: xl.Spread(TABLE, time(), domain=TABLE[0]),
        "functions",
    ),
    "no domain": (
        xl.ArgumentError,
        lambda: xl.Spread(hyperbola, time(), range=TABLE.x),
        "domain=",
    ),
    "roles of a function": (
        xl.ArgumentError,
        lambda: xl.Spread(hyperbola, time(), over="t0", domain=TABLE[0]),
        "go with tables",
    ),
    "no such coordinate": (
        xl.ArgumentError,
        lambda: xl.Spread(hyperbola, time(), domain=domain_of("t0"), range=TABLE.x),
        "'velocity'",
    ),
    "no names": (
        xl.ArgumentError,
        lambda: xl.Spread(np.hypot, time(), domain=domain_of("t0")),
        "argument",
    ),
    "nothing spread": (
        xl.ArgumentError,
        lambda: xl.Spread(hyperbola, time(), domain=domain_of("x"), range=TABLE[0]),
        "none is spread",
    ),
    "sides that differ": (
        xl.LabelError,
        lambda: xl.Spread(
            hyperbola, time(), domain=TABLE[0], range=TABLE.x.assign_coords(x=TABLE.x + 1)
        ),
        "'x'",
    ),
    "empty side": (
        xl.LabelError,
        lambda: xl.Spread(hyperbola, time(), domain=domain_of("t0"), range=TABLE.x[:0]),
        "empty",
    ),
    "calendar": (
        xl.DTypeError,
        lambda: xl.Spread(
            TABLE,
            labels_of(
                xr.date_range("2000", periods=NT, calendar="360_day", use_cftime=True)
            ),
        ),
        "positions='indices'",
    ),
    "repeated labels": (
        xl.LabelError,
        lambda: xl.Spread(TABLE, labels_of(np.zeros(NT))),
        "repeated",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    error, build, words = ERRORS[case]
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
    assert str(caught.value).startswith("Spread") or case in ("two axes", "no axis")


WRONG = {
    "shape": (xl.LabelError, lambda x0: np.zeros((3, 3, 3, 3)), "does not broadcast"),
    "size": (xl.LabelError, lambda x0: np.zeros(NX0 + 1), "does not broadcast"),
    "complex": (xl.DTypeError, lambda x0: x0 * 1j, "real numbers, got complex128"),
    "bool": (xl.DTypeError, lambda x0: x0 > 0, "real numbers, got bool"),
    "dates": (xl.DTypeError, lambda x0: x0.astype("M8[s]"), "real numbers, got datetime"),
    "list": (xl.DTypeError, lambda x0: [1.0], "NumPy array, got list"),
    "nothing": (xl.DTypeError, lambda x0: None, "NumPy array, got NoneType"),
}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("case", WRONG)
def test_functions_that_give_something_else(case, lazy):
    error, function, words = WRONG[case]
    m = labeled(("x0",))
    S = xl.Spread(function, time(), domain=m, range=TABLE.x, name="moveout")
    with pytest.raises(error, match=words) as caught:
        (S @ (m.chunk() if lazy else m)).compute(scheduler="sync")
    assert "moveout" in str(caught.value)
    assert any("in the operator moveout" in note for note in caught.value.__notes__)


def test_errors_inside_functions_name_the_operator():
    def fails(x0):
        raise ZeroDivisionError("no time")

    m = labeled(("x0",))
    S = xl.Spread(fails, time(), domain=m)
    with pytest.raises(ZeroDivisionError, match="no time") as caught:
        S @ m
    assert "in the operator Spread(x0)" in caught.value.__notes__[0]


def test_one_sample():
    """Axes of one sample: their label, or index 0, and nothing else."""
    for t, first in ((time(1), 0.25), (samples(1), 0.0)):
        table = xr.DataArray([first, first + 0.1, first - 0.1, np.nan], dims="k")
        for interp in (False, True):
            S = xl.Spread(table, t, interp=interp)
            m = xr.DataArray([1.0, 2.0, 4.0, 8.0], dims="k")
            agree(S @ m, [1.0])
            agree(S.H @ (S @ m), [1.0, 0.0, 0.0, 0.0])
    one = xl.Spread(xr.DataArray([[3.0]], dims=("k", "x")), samples())
    agree(one @ xr.DataArray([2.0], dims="k"), 2.0 * (np.arange(NT) == 3)[None])


def test_cf_names():
    table = TABLE.assign_coords(x=TABLE.x.assign_attrs(axis="X"))
    S = xl.Spread(table, samples(), makes="X")
    assert S.range.dims == ("x", "t")
