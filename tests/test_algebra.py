"""Products, sums, powers and scaling; labels and units through all of them."""

import itertools

import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl

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
        assert y.dims.index("shot") == dims.index("shot") or {"f", "k"} <= set(y.dims)
        assert F.gram(x).dims == dims
        near((F.gram(x)).values.real, x.values)


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
