"""Products, sums, powers and scaling; labels and units through all of them."""

import functools
import itertools
import pickle
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pint
import pytest
import xarray as xr
from cf_xarray.units import units

import xlops as xl
from tests.catalogue import CATALOGUE, gather

ureg = pint.UnitRegistry()


@pytest.fixture
def d():
    rng = np.random.default_rng(3)
    return xr.DataArray(
        rng.standard_normal((4, 6, 8)),
        coords={
            "shot": ("shot", [11, 12, 13, 14]),
            "offset": ("offset", 25.0 * np.arange(6), {"units": "m"}),
            "time": ("time", 0.1 * np.arange(8) + 0.3, {"units": "s", "axis": "T"}),
            "pick": ("time", np.arange(8)[::-1], {"note": "by hand"}),
            "cdp": (("shot", "offset"), np.arange(24).reshape(4, 6)),
            "line": 7,
        },
        dims=("shot", "offset", "time"),
        name="pressure",
        attrs={
            "units": "Pa",
            "long_name": "sound",
            "standard_name": "sound_pressure",
            "actual_range": [-3.0, 3.0],
        },
    )


def near(result, expected, rounding=1e-13):
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(result, expected, rtol=0, atol=rounding * scale)


# --- what meets --------------------------------------------------------------------------


def test_a_dim_consumed_upstream(d):
    with pytest.raises(
        xl.LabelError, match=r"needs dim 'time', which FFT\(time\) has"
    ) as e:
        xl.FirstDerivative(d.time) @ xl.FFT(d.time)
    assert isinstance(e.value, ValueError)
    assert "change the order" in str(e.value)


def test_a_dim_made_twice(d):
    F = xl.FFT(d.offset, dim="f")
    with pytest.raises(xl.LabelError, match=r"makes dim 'f', which is there already"):
        xl.FFT(d.time, dim="f") @ F
    with pytest.raises(xl.LabelError, match="makes dim 'freq_time', which the data have"):
        xl.FFT(d.time) @ d.rename(shot="freq_time")


def test_a_dim_made_on_the_way(d):
    """Data must not have a dim that a product makes and consumes inside."""
    F = xl.FFT(d.time, dim="f", norm="none")
    x = d.rename(shot="f")
    V = xl.VStack({"a": F, "b": xl.Identity(d.time)})
    for A in (F.gram, (F.gram).H, 2 * F.gram + F.gram, V.gram, V.gram.H, V.gram @ F.gram):
        for data in (x, x.chunk(offset=2), x.isel(f=slice(1))):
            with pytest.raises(xl.LabelError, match="makes dim 'f', which the data have"):
                A @ data
    turned = F @ F.H  # here time is on the way
    y = (F @ d).rename(shot="time")
    with pytest.raises(xl.LabelError, match="makes dim 'time', which the data have"):
        turned @ y


def test_other_labels(d):
    later = d.assign_coords(time=d.time + 0.1).time.assign_attrs(d.time.attrs)
    with pytest.raises(xl.LabelError, match=r"do not meet.*first at index 0"):
        xl.FirstDerivative(d.time) @ xl.FirstDerivative(later)
    with pytest.raises(xl.LabelError, match="do not meet"):
        xl.FirstDerivative(d.time) + xl.FirstDerivative(later)
    R = xl.Restriction(d.time, [1, 2, 5])
    with pytest.raises(xl.LabelError, match=r"do not meet.*other size"):
        xl.FirstDerivative(d.time) @ R
    with pytest.raises(xl.LabelError, match="cannot be added"):
        R + xl.Identity(d.time)


def test_complex_into_real(d):
    F = xl.FFT(d.time)
    with pytest.raises(xl.LabelError, match=r"makes complex values, .* needs real ones"):
        xl.FFT(d.offset, real=True) @ F


def test_what_has_no_labels_takes_those_of_the_other(d):
    plain = d.drop_vars(["time", "pick"])
    A = xl.FirstDerivative(d.time) @ xl.Identity(plain.time)
    xr.testing.assert_identical(A.domain.coords["time"].variable, d.time.variable)
    with pytest.raises(xl.LabelError, match="no labels"):
        A @ plain
    some = xl.Restriction(plain.time, np.arange(8))
    with pytest.raises(xl.LabelError, match=r"do not meet.*no labels"):
        xl.FirstDerivative(d.time) @ some  # nothing would check what it selects


# --- numbers -----------------------------------------------------------------------------


def matrix(A, x):
    """The matrix of a map of `x` over time alone."""
    unit = x.isel(shot=0, offset=0, drop=True)
    columns = [A @ unit.copy(data=row) for row in np.eye(8)]
    return np.stack([column.values for column in columns], axis=-1)


def test_expressions_equal_their_matrices(d):
    D, S = xl.FirstDerivative(d.time), xl.SecondDerivative(d.time, edge=True)
    W = xl.Diagonal(xr.DataArray(np.linspace(1, 2, 8), {"time": d.time}, dims="time"))
    R = xl.Restriction(d.time, [6, 1, 1])
    s, w, r = matrix(S, d), matrix(W, d), matrix(R, d)
    m = matrix(D, d)
    second = ureg.Quantity(1.0, "s")
    cases = [
        (D @ W, m @ w),
        (R @ D @ W, r @ m @ w),
        ((R @ D @ W).H @ R, (r @ m @ w).T @ r),
        (W + 3 * W @ W, w + 3 * w @ w),
        (W - second * D, w - m),
        (W - ureg.Quantity(1.0, "min") * D, w - 60 * m),
        (D**3, m @ m @ m),
        (D**0, np.eye(8)),
        (-W / 4, -w / 4),
        (np.float64(2.5) * W * 2, 5 * w),
        (D.gram, m.T @ m),
        ((D @ W).gram, w.T @ m.T @ m @ w),
        ((second**2 * S + W).H, (s + w).T),
    ]
    for A, expected in cases:
        near(matrix(A, d), expected)
        near(matrix(A.H, d) if A.range.size == 8 else expected.T, expected.T)


def test_a_sum_extends_its_terms(d):
    Dt = xl.FirstDerivative(d.time, kind="forward")
    Dx = ureg.Quantity(0.02, "m/s") * xl.FirstDerivative(d.offset, kind="forward")
    expected = np.zeros(d.shape)
    expected[..., :-1] += np.diff(d.values, axis=2) / 0.1
    expected[:, :-1] += 0.02 * np.diff(d.values, axis=1) / 25.0
    A = Dt + Dx
    assert set(A.domain.dims) == {"time", "offset"}
    for dims in itertools.permutations(d.dims):
        y = A @ d.transpose(*dims)
        assert y.dims == dims
        near(y.transpose(*d.dims).values, expected)
    assert y.attrs["units"] == "Pa s-1"
    xl.dottest(A, like=d)


def test_units_of_sums_convert(d):
    D = xl.FirstDerivative(d.time)
    per_hour = xr.DataArray(np.full(8, 3600.0), dims="time", attrs={"units": "1/h"})
    W = xl.Diagonal(per_hour)
    y = (D + W) @ d
    near(y.values, (D @ d).values + d.values)
    assert y.attrs["units"] == "Pa s-1"
    with pytest.raises(xl.UnitError, match=r"cannot be added: their units are s-1 and 1"):
        D + xl.Identity(d.time)


def test_powers(d):
    D = xl.FirstDerivative(d.time)
    assert D**1 is D
    for power in (-1, 0.5, "2", True, np.arange(3)):
        with pytest.raises(xl.DTypeError, match="whole number"):
            D**power
    with pytest.raises(xl.LabelError, match="not to itself"):
        xl.FFT(d.time) ** 2


def test_complex_scalars_and_real_linear_operators(d):
    F = xl.FFT(d.time, real=True)
    for A in (F, (2 - 1j) * F):
        assert not A.clinear
        assert xl.dottest(A, like=d)
    C = (2 - 1j) * xl.FirstDerivative(d.time)
    assert C.clinear
    assert xl.dottest(C, like=d.astype(complex))
    near(((2 - 1j) * F @ d).values, (2 - 1j) * (F @ d).values)


def test_equality(d):
    D = xl.FirstDerivative(d.time)
    assert xl.FirstDerivative(d.time) == D
    assert hash(D) == hash(xl.FirstDerivative(d.time))
    assert D.H.H is D
    assert (D @ D).H.H == D @ D
    for other in (xl.FirstDerivative(d.time, edge=True), D.H, 2 * D, D @ D, D + D, 3):
        assert other != D


def test_equality_is_exact(d):
    """Another label, attribute or auxiliary coordinate makes another operator."""
    time = d.time
    changed = [
        d.assign_coords(time=("time", time.values + 1.0, time.attrs)),
        d.assign_coords(time=("time", time.values * (1 + 1e-15), time.attrs)),
        d.assign_coords(time=("time", time.values, {"units": "ms", "axis": "T"})),
        d.assign_coords(time=("time", time.values.astype("float32"), time.attrs)),
        d.assign_coords(pick=("time", np.arange(8), d.pick.attrs)),
        d.assign_coords(pick=d.pick.assign_attrs(note="by machine")),
        d.drop_vars("pick"),
        d.drop_vars(["time", "pick"]),
        d.rename(pick="picked"),
    ]
    for build in (
        xl.FirstDerivative,
        xl.Identity,
        xl.FFT,
        lambda t: xl.Restriction(t, [1]),
    ):
        operators = {build(e.time) for e in (d, *changed)}
        assert len(operators) == 1 + len(changed)
        assert len({A.domain for A in operators}) == 1 + len(changed)
        assert build(d.time) in operators
    assert xl.Identity(d.time).domain.matches(xl.Identity(changed[1].time).domain)
    assert xl.Identity(d.time) != xl.Identity(d.time, d.offset)
    assert xl.Identity(d.offset, d.time) != xl.Identity(d.time, d.offset)


def test_equality_of_parameters(d):
    """All that constructors take, except the name."""
    T, X = d.time, d.offset
    different = [
        *(xl.FirstDerivative(T, k) for k in ("forward", "backward", "centered")),
        xl.FirstDerivative(T, edge=True),
        xl.FirstDerivative(T, order=5),
        xl.SecondDerivative(T),
        xl.FirstDerivative(X),
        *(xl.FFT(T, n) for n in (8, 9)),
        *(xl.FFT(T, norm=norm) for norm in ("none", "1/n")),
        xl.FFT(T, real=True),
        xl.FFT(T, real=True, scaling="plain"),
        xl.FFT(T, ifftshift_before=True),
        xl.FFT(T, fftshift_after=True),
        xl.FFT(T, dim="f"),
        *(xl.Restriction(T, i) for i in ([0, 1], [1, 0], [0, 1, 1])),
        xl.Diagonal(d),
        xl.Diagonal(d + 1),
        xl.Diagonal(d.astype("float32")),
        xl.Diagonal(d.assign_attrs(units="kPa")),
        xl.Diagonal(d.chunk()),
        xl.Mask(d > 0),
        xl.Mask(d < 0),
        xl.Identity(T),
        xl.Zero(T),
        xl.Zero(T, X),
        *(c * xl.Identity(T) for c in (2, 3, 2j, ureg.Quantity(2, "s"))),
        xl.Identity(T) + xl.Zero(T),
        xl.Zero(T) + xl.Identity(T),
        *(xl.VStack(b) for b in ([xl.Zero(T)], {"a": xl.Zero(T)}, [xl.Zero(T)] * 2)),
    ]
    for A, B in itertools.combinations(different, 2):
        assert A != B
    same = [
        (xl.FFT(T), xl.FFT(T, 8, name="F")),
        (xl.Restriction(T, [-1]), xl.Restriction(T, np.arange(8) == 7)),
        (xl.FirstDerivative(T, order=3), xl.FirstDerivative(T, "centered", False)),
        (2 * (3 * xl.Identity(T)), xl.Identity(T) * 6),
        (
            xl.Zero(T) @ xl.Mask(d > 0) @ xl.Zero(X),
            xl.Zero(T) @ (xl.Mask(d > 0) @ xl.Zero(X)),
        ),
    ]
    for A, B in same:
        assert A == B
        assert hash(A) == hash(B)


def test_repr(d):
    A = 0.5 * xl.FirstDerivative(d.time) @ xl.Restriction(d.offset, [0, 3])
    text = repr(A)
    for part in ("0.5 * FirstDerivative(time) @ Restriction(offset)", "domain:", "range:"):
        assert part in text
    assert "offset: 6 × 25 m [0 … 125]" in text
    assert "offset: 2 × 75 m [0 … 75]" in text
    assert "units:  s-1" in text


# --- labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_there_and_back(d, real, lazy):
    """The time axis comes back bit for bit, with all that lies along it."""
    awkward = d.assign_coords(time=("time", np.arange(8) / 7 + 1 / 3, d.time.attrs))
    x = awkward.chunk(time=3) if lazy else awkward
    before = (
        xl.FirstDerivative(awkward.time)
        @ xl.Restriction(awkward.offset, [0, 1, 4])
        @ xl.Diagonal(xr.ones_like(awkward.time))
    )
    F = xl.FFT(awkward.time, real=real)
    y = F @ (before @ x)
    assert "time" not in y.coords
    assert "pick" not in y.coords
    back = F.H @ y
    assert np.array_equal(back.time.values, awkward.time.values)
    assert back.time.attrs == awkward.time.attrs
    assert back.pick.variable.identical(awkward.pick.variable)
    assert back.dims == awkward.dims
    near(back.values.real, (before @ x).values, 1e-14)
    assert back.sizes == (before @ x).sizes == (back.real - before @ x).sizes


def test_what_happens_to_coordinates(d):
    y = xl.Restriction(d.offset, [5, 0]) @ d
    np.testing.assert_array_equal(y.cdp.values, d.cdp.values[:, [5, 0]])
    assert y.pick.identical(d.pick.assign_coords(line=7))
    back = xl.Restriction(d.offset, [5, 0]).H @ y
    assert "cdp" not in back.coords  # along shot too: nobody knows it any more
    F = xl.FFT(d.offset) @ d
    assert "cdp" not in F.coords
    assert F.line == 7
    assert F.shot.identical(d.shot)


def test_what_happens_to_attributes(d):
    y = xl.FirstDerivative(d.time) @ d
    assert y.name == "pressure"
    assert y.attrs == {"units": "Pa s-1", "long_name": "sound"}
    y = xl.Mask(d > 0) @ d
    assert y.attrs == {
        "units": "Pa",
        "long_name": "sound",
        "standard_name": "sound_pressure",
    }


def test_order_of_dims(d):
    F = xl.FFT(d.time, dim="f") @ xl.FFT(d.offset, dim="k")
    for dims in itertools.permutations(d.dims):
        x = d.transpose(*dims)
        y = F @ x
        # New dims stand together where the first of those that are gone stood.
        assert y.dims == (("shot", "f", "k") if dims[0] == "shot" else ("f", "k", "shot"))
        assert F.gram(x).dims == dims
        near(F.gram(x).values.real, x.values)


# --- numbers and quantities --------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [2, 2.0, np.int8(2), np.float32(2), np.float64(2), np.array(2.0), 2 + 0j]
)
def test_numbers_from_either_side(d, number):
    D = xl.FirstDerivative(d.time)
    assert number * D == D * number
    for A in (number * D, D * number, D / (1 / number)):
        assert isinstance(A, xl.LinearOperator)
        near((A @ d).values, 2 * (D @ d).values, 1e-15)
        assert (A @ d.astype("float32")).dtype in (np.float32, np.complex64)


@pytest.mark.parametrize(
    "registry", [ureg, pint.get_application_registry(), units], ids=["own", "pint", "cf"]
)
def test_quantities_from_either_side(d, registry):
    """Of any registry; units of one kind merge."""
    D = xl.FirstDerivative(d.time)
    plain = (D @ d).values
    for quantity, factor, unit in (
        (registry.Quantity(3.0, "ms"), 0.003, "Pa"),
        (registry.Quantity(3.0, "m"), 3.0, "m Pa s-1"),
        (registry.Quantity(2, "km") / registry.Quantity(1, "m"), 2000.0, "Pa s-1"),
        (registry.Quantity(1 + 1j, "Pa"), 1 + 1j, "Pa2 s-1"),
    ):
        for A in (quantity * D, D * quantity, D / (1 / quantity)):
            assert isinstance(A, xl.LinearOperator)
            y = A @ d
            near(y.values, factor * plain)
            assert y.attrs["units"] == unit
            assert (A.H @ y).units == f"{A.units**2 * units.Unit('Pa'):cf}"


def test_units_of_operators(d):
    Dt, Dx = xl.FirstDerivative(d.time), xl.FirstDerivative(d.offset)
    F = xl.FFT(d.time, fftshift_after=True)
    weight = xl.Diagonal(d)  # in Pa
    dates = d.assign_coords(time=np.datetime64("2020-01-01", "ns") + np.arange(8))
    hours = d.assign_coords(time=d.time.assign_attrs(units="hours since 2020-01-01"))
    for A, unit in (
        (Dt, "s-1"),
        (Dt.H, "s-1"),
        (Dt.gram, "s-2"),
        (Dt**3, "s-3"),
        (xl.SecondDerivative(d.time), "s-2"),
        (xl.SecondDerivative(d.offset) @ Dt, "m-2 s-1"),
        (F.H @ F, ""),
        (xl.FFT(d.offset, real=True), ""),
        (weight @ Dt, "Pa s-1"),
        (weight.gram, "Pa2"),
        (3 * xl.Restriction(d.time, [0]), ""),
        (ureg.Quantity(2.0, "s") * Dx + ureg.Quantity(2.0, "h") * Dx, "s m-1"),
        (xl.FirstDerivative(F.range.coords["freq_time"]), "s"),
        (xl.FirstDerivative(dates.time), "s-1"),
        (xl.FirstDerivative(hours.time), "hour-1"),
        (xl.FirstDerivative(d.shot.drop_vars("shot")), ""),
    ):
        assert A.units == units.Unit(unit), A
    assert xl.FirstDerivative(d.shot).units is None  # labels without units
    assert xl.VStack({"a": Dt, "b": Dx @ Dt}).units == {
        "a": units.Unit("s-1"),
        "b": units.Unit("m-1 s-1"),
    }


def test_sums_take_the_unit_of_the_first_term(d):
    """1/s and 1/h add, each converted."""
    Ds = xl.FirstDerivative(d.time)
    x = d.assign_coords(offset=d.offset.assign_attrs(units="h"))
    Dh = xl.FirstDerivative(x.offset)
    slopes = [
        np.gradient(d.values, h, axis=axis)[:, 1:-1, 1:-1]
        for h, axis in ((0.1, 2), (25.0, 1))
    ]
    y, z = (Ds + Dh) @ x, (Dh - Ds) @ x
    near(y.values[:, 1:-1, 1:-1], slopes[0] + slopes[1] / 3600)
    near(z.values[:, 1:-1, 1:-1], slopes[1] - 3600 * slopes[0])
    assert y.units == "Pa s-1"
    assert units.Unit(z.units) == units.Unit("Pa/hour")


# --- stacks ------------------------------------------------------------------------------


def test_datasets_in_and_out(d):
    V = xl.VStack({"a": xl.Identity(d.time), "b": 2 * xl.Identity(d.time)})
    blocks = V @ d
    assert isinstance(blocks, dict)
    near((V.H @ xr.Dataset(blocks)).values, 5 * d.values)
    with pytest.raises(xl.LabelError, match="expected blocks 'a', 'b', got 'a'"):
        V.H @ {"a": blocks["a"]}


def test_gram_of_a_stack_over_several_dims(d):
    V = xl.VStack(
        {
            "data": xl.Mask(d > 0),
            "time": ureg.Quantity(0.1, "s**2") * xl.SecondDerivative(d.time),
            "offset": ureg.Quantity(1.0, "m**2") * xl.SecondDerivative(d.offset),
        }
    )
    y = V.gram @ d
    expected = V.H @ (V @ d)
    near(y.values, expected.values)
    assert y.dims == d.dims
    assert y.attrs["units"] == "Pa"
    assert y.coords.to_dataset().identical(d.coords.to_dataset())
    W = xl.VStack({"data": xl.Identity(d.time), "time": xl.Identity(d.time)})
    with pytest.raises(xl.LabelError, match="do not meet"):
        W.H @ V


# --- pairs of the catalogue --------------------------------------------------------------


# Of all pairs, one in so many.
one_in = pytest.mark.parametrize("n", [10, pytest.param(1, marks=pytest.mark.slow)])


@functools.cache
def operators():
    """Operators and adjoints of the catalogue on one gather."""
    d = gather()
    built = [entry.build(d) for entry in CATALOGUE if entry.time == "even"]
    return built + [A.H for A in built]


def pairs(n):
    """Each n-th of all operators, with one at random."""
    random_ones = random.Random(2).sample(operators(), len(operators()))
    return zip(operators()[::n], random_ones[::n], strict=True)


def member(A, seed=0):
    """Data for A with a dim that passes through."""
    side = A.domain
    shots = xr.DataArray(np.zeros(2), {"shot": [7, 8]}, dims="shot")
    x = side.random(seed, like=shots)
    blocks = x if isinstance(x, dict) else {"": x}
    for block in blocks.values():
        block.attrs["units"] = "Pa"
    return x


def made(operator, x):
    """Values by block, in one order of dims, in units of the first block's."""
    y = operator(x) if callable(operator) else operator
    blocks = y if isinstance(y, dict) else {"": y}
    return {key: b.transpose(*sorted(b.dims)) for key, b in blocks.items()}


def assert_same(one, other):
    assert set(one) == set(other)
    for key, block in one.items():
        expected = other[key]
        assert block.dims == expected.dims
        factor = units.Quantity(1.0, expected.units).to(block.units).magnitude
        near(block.values, factor * expected.values, 1e-12)
        for name in set(block.coords) & set(block.dims):
            assert block.coords[name].variable.identical(expected.coords[name].variable)


def test_operators_do_not_change_with_what_they_were_built_from(d):
    x = d.copy(deep=True)
    weights, keep, kept = d.copy(deep=True), (d > 0).copy(), np.array([0, 3])
    operators = [
        xl.Diagonal(weights),
        xl.Mask(keep),
        xl.Restriction(d.time, kept),
        xl.FirstDerivative(d.time),
        xl.VStack({"a": xl.Diagonal(weights)}),
    ]
    before = [made(A, x) for A in operators]
    labels = [pickle.dumps(A.domain.labels) for A in operators]
    weights[...], keep[...], kept[...] = 0, False, 1
    for coord in (weights, d, keep):
        coord.pick[...] = -1
        coord.cdp[...] = -1
        coord.time.attrs["units"] = "h"
        coord.attrs["units"] = "bar"
    for A, y, text in zip(operators, before, labels, strict=True):
        for key, block in made(A, x).items():
            assert block.identical(y[key])
        assert A.domain.labels.identical(pickle.loads(text))


@one_in
def test_products_act_one_after_the_other(n):
    count = 0
    for A, B in pairs(n):
        try:
            C = A @ B
        except (xl.LabelError, xl.UnitError):
            continue
        if isinstance(C.domain, xl.Blocks):
            continue
        count += 1
        x = member(C)
        assert_same(made(C, x), made(A, B @ x))
        assert C.clinear <= (A.clinear and B.clinear)
        assert xl.dottest(C, tol=1e-13)
    assert count > 50 / n


@one_in
def test_terms_of_sums_and_blocks_of_stacks_act_side_by_side(n):
    sums = stacks = 0
    for A, B in pairs(n):
        if isinstance(A.domain, xl.Blocks) or isinstance(B.domain, xl.Blocks):
            continue
        try:
            S = A + B
        except (xl.LabelError, xl.UnitError):
            pass
        else:
            sums += 1
            x = member(S)
            a, b = made(A, x)[""], made(B, x)[""]
            factor = units.Quantity(1.0, b.units).to(a.units).magnitude
            total = a.copy(data=a.values + factor * b.values)
            scale = np.max(np.abs(a.values)) + factor * np.max(np.abs(b.values))
            y = made(S, x)[""]
            np.testing.assert_allclose(y.values, total.values, rtol=0, atol=1e-14 * scale)
            assert y.dims == total.dims
            assert units.Unit(y.units) == units.Unit(a.units)
            assert xl.dottest(S, tol=1e-13)
        try:
            V = xl.VStack({"a": A, "b": B})
        except xl.LabelError:
            continue
        stacks += 1
        x = member(V)
        assert_same(made(V, x), {"a": made(A, x)[""], "b": made(B, x)[""]})
        assert xl.dottest(V, tol=1e-13)
    assert sums >= 10 / n
    assert stacks > 40 / n


# --- any expression ----------------------------------------------------------------------

# An operator, its matrix, and a bound of the terms that add up to it, for rounding.
SIZES = {"time": 5, "offset": 3, "depth": 2}


def along(dim, matrix):
    """A matrix along one dim as a matrix of all of them."""
    factors = [matrix if name == dim else np.eye(n) for name, n in SIZES.items()]
    return functools.reduce(np.kron, factors)


@functools.cache
def leaves():
    """Operators, and their matrices made without them."""
    labels = {"time": 0.5 * np.arange(5), "offset": [1.0, 2.0, 4.0]}
    values = np.arange(30.0).reshape(*SIZES.values()) % 7 - 3
    x = xr.DataArray(values, labels, tuple(SIZES))
    row = x[0, :, 0].drop_vars("time")
    back = 2 * (np.eye(5) - np.eye(5, k=-1)) * (np.arange(5) > 0)[:, None]
    slope = np.array([[-1, 1, 0], [0, -0.5, 0.5], [0, 0, 0]])
    curvature = np.array([[0, 0, 0], [2 / 3, -1, 1 / 3], [0, 0, 0]])
    n = np.arange(5)
    phase = np.exp(1j * n)
    fourier = np.exp(-2j * np.pi * np.outer(n, n) / 5) / np.sqrt(5)
    F = xl.FFT(x.time)
    band = F.H @ xl.Diagonal(xr.DataArray(phase, dims="freq_time")) @ F
    matrices = [
        (xl.FirstDerivative(x.time, "backward"), along("time", back)),
        (xl.FirstDerivative(x.offset, "forward"), along("offset", slope)),
        (xl.SecondDerivative(x.offset), along("offset", curvature)),
        (xl.Restriction(x.offset, [2, 0]).gram, along("offset", np.diag([1, 0, 1]))),
        (xl.Restriction(x.depth, [1, 1]).gram, along("depth", np.diag([0, 2]))),
        (band, along("time", fourier.conj().T @ (phase[:, None] * fourier))),
        (xl.Identity(x.depth), np.eye(30)),
        (xl.Mask(x > 0), np.diag(1.0 * (values.ravel() > 0))),
        (xl.Diagonal(x), np.diag(values.ravel())),
        (xl.Diagonal(row), along("offset", np.diag(row.values))),
    ]
    bound = np.abs
    return x, [(A, m, bound(m) if A is not band else 3 * bound(m)) for A, m in matrices]


@st.composite
def expressions(draw, depth=4):
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(leaves()[1]))
    A, a, e = draw(expressions(depth - 1))
    how = draw(st.sampled_from("+-@@*/HG^"))
    if how in "+-@":
        B, b, f = draw(expressions(depth - 1))
        made = {"+": (A + B, a + b, e + f), "-": (A - B, a - b, e + f)}
        return made.get(how) or (A @ B, a @ b, e @ f)
    c = draw(st.sampled_from([2, -0.5, np.float64(3), 1j, 1 - 2j]))
    return {
        "*": (c * A, c * a, abs(c) * e),
        "/": (A / c, a / c, e / abs(c)),
        "H": (A.H, a.conj().T, e.T),
        "G": (A.gram, a.conj().T @ a, e.T @ e),
        "^": (A**2, a @ a, e @ e),
    }[how]


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_any_expression_equals_its_matrix(examples):
    some = hypothesis.settings(
        max_examples=examples, deadline=None, derandomize=True, database=None
    )
    some(hypothesis.given(st.data())(check_expression))()


def check_expression(data):
    x, _ = leaves()
    A, matrix, bound = data.draw(expressions())
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, *x.shape)) + 1j * rng.standard_normal((2, *x.shape))
    flat = values.reshape(2, -1).T
    for B, b, e in ((A, matrix, bound), (A.H, matrix.conj().T, bound.T)):
        expected = (b @ flat).T.reshape(values.shape)
        rounding = 1e-14 * np.max(e @ np.abs(flat), initial=1e-300)
        order = data.draw(st.permutations(["shot", *x.dims]))
        given = xr.DataArray(values, x.coords, ("shot", *x.dims)).transpose(*order)
        for z in (given, given.chunk(data.draw(st.sampled_from([1, 2, -1])))):
            y = B @ z
            assert y.dims == z.dims
            assert y.coords.to_dataset().identical(x.coords.to_dataset())
            y = y.transpose("shot", *x.dims).values
            np.testing.assert_allclose(y, expected, rtol=0, atol=rounding)


def test_numbers_leave_adjoints_too():
    """What is known of a gram is known of that of a multiple, units included."""
    x = xr.DataArray(np.arange(5.0), dims="x", coords={"x": ("x", np.arange(5.0))})
    D = xl.FirstDerivative(x.x.assign_attrs(units="m"))
    A = (pint.Quantity(-2.0, "km") * D).gram
    assert A.traits >= {"symmetric", "positive"}
    assert pint.Quantity(4.0, "km**2") * D.gram == A
    assert (3 * xl.FFT(x.x)).gram == 9 * xl.FFT(x.x).gram


def test_an_identity_on_real_values_is_real_linear():
    x = xr.DataArray(np.arange(5.0), dims="x")
    F = xl.FFT(x.x, real=True)
    assert F.gram.is_identity
    assert not F.gram.clinear


# --- what simplification leaves as it was ------------------------------------------------


def test_merged_weights_are_as_exact_as_the_data():
    """Weights in single precision on data in double, and products out of their range."""
    rng = np.random.default_rng(5)
    x = xr.DataArray(rng.random(7) + 0.5, dims="t")
    V, W = (
        xl.Diagonal(xr.DataArray((rng.random(7) + 0.5).astype("float32"), dims="t"))
        for _ in range(2)
    )
    np.testing.assert_allclose((V @ W) @ x, V @ (W @ x), rtol=1e-15)
    tiny = xl.Diagonal(xr.DataArray(np.full(7, 1e-30, "float32"), dims="t"))
    np.testing.assert_allclose((tiny @ tiny) @ x, tiny @ (tiny @ x), rtol=1e-15)
    assert ((V @ W) @ x.astype("float32")).dtype == "float32"


def test_simplified_products_keep_or_leave_integers():
    x = xr.DataArray([1, 2, 3], dims="t")
    I, M, R = xl.Identity(x), xl.Mask(x > 1), xl.Rename(x, {"t": "lag"})
    C, T = xl.Conj(x), xl.Transpose(x, "t")
    for factors in (
        [R.H, R],
        [T.H, T],
        [xl.Flip(x.t).H, xl.Flip(x.t)],
        [M, M],
        [C.H, C],
        [M, C.H, C],
        [C.H, C, M],
        [2 * I, 0.5 * I],
        [-M, -I],
    ):
        one_by_one = x
        for A in reversed(factors):
            one_by_one = A @ one_by_one
        at_once = functools.reduce(lambda A, B: A @ B, factors) @ x
        assert at_once.dtype == one_by_one.dtype
        np.testing.assert_array_equal(at_once, one_by_one)


def test_numbers_out_of_range():
    x = xr.DataArray([1.0, 1e-300], dims="t")
    D = xl.FirstDerivative(x.t, kind="forward")
    large, small = 1e200 * D, 1e-200 * D
    np.testing.assert_array_equal(
        (small @ small @ large) @ x, small @ (small @ (large @ x))
    )
    big = xr.DataArray([1e-300, 0.0], dims="t")
    np.testing.assert_array_equal((large @ large) @ big, large @ (large @ big))
    with pytest.raises(xl.ArgumentError, match="cannot be scaled by inf"):
        1e200 * large
    for zero in (0, np.float64(0), ureg.Quantity(0.0, "s")):
        with pytest.raises(ZeroDivisionError):
            D / zero


def test_labeled_numbers_divide_with_their_units(d):
    two = xr.DataArray(2.0, attrs={"units": "s"})
    A = xl.Identity(d.time) / two
    assert A.units == units.Unit("1/s")
    near((A @ d).values, d.values / 2)
    assert (xl.Identity(d.time) * two).units == units.Unit("s")


def test_transposed_twice(d):
    for D in (xl.FirstDerivative(d.time), (1 + 2j) * xl.FFT(d.time), xl.Real(d.time)):
        assert D.T.T is D
        assert D.conj().H == D.T
        assert D.conj() == D.T.H
        T = D.T
        assert T.H.H is T
        assert pickle.loads(pickle.dumps(D.T)).T == D


def test_inverse_order_keeps_constants(d):
    """What only moves values leaves offset units alone, forward and back."""
    celsius = d.assign_attrs(units="degC")
    for A in (xl.Rename(d.time, "lag"), xl.Flip(d.time), xl.Roll(d.time, 2)):
        assert (A.H @ (A @ celsius)).units == "degC"
    R = xl.Restriction(d.time, [0, 1])
    assert (R.H @ (R @ celsius)).units == "delta_degC"


def test_matrices_are_bound_first(d):
    A = xl.FirstDerivative(d.time)
    with pytest.raises(
        AttributeError, match=r"has no shape before .* A.bind\(like\).shape"
    ):
        _ = A.shape
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = A.nothing
    assert not hasattr(A, "dtype")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_coordinates_that_differ_between_terms_are_those_of_none(order):
    x = xr.DataArray(np.arange(4.0), dims="i", coords={"cdp": ("i", [10, 20, 30, 40])})
    terms = [xl.Restriction(x.i, at) for at in ([0, 1], [2, 3], [2, 3])]
    first, second, third = (terms[i] for i in order)
    for A in (first + second + third, first + (second + third)):
        assert "cdp" not in (A @ x).coords
        near((A @ x).values, [4.0, 7.0])
    H = xl.HStack([first, second, third])
    assert "cdp" not in (H @ {"0": x, "1": x, "2": x}).coords
    assert "cdp" in ((terms[1] + terms[2]) @ x).coords
