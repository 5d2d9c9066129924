"""Units: on operators, on results, as attributes and as quantities."""

import subprocess
import sys
import warnings

import dask.array as da
import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl

HOUR = 3600.0


def field(unit="K", coordinate="s", step=0.5, n=8):
    """A parabola over x, with units."""
    x = step * np.arange(n)
    attrs = {} if coordinate is None else {"units": coordinate}
    return xr.DataArray(
        x**2 + 1,
        dims="x",
        coords={"x": ("x", x, attrs)},
        attrs={} if unit is None else {"units": unit},
        name="field",
    )


def quantified(x, unit, registry, lazy=False):
    """The same values as a quantity."""
    data = da.from_array(x.values, chunks=3) if lazy else x.values
    return x.drop_attrs(deep=False).copy(data=registry.Quantity(data, unit))


def spelled(unit):
    """A unit of any registry, spelled out."""
    assert isinstance(unit, pint.Unit)
    return str(unit)


@pytest.fixture(params=["own", "application", "of cf-xarray"])
def registry(request):
    """Registries that a user may have."""
    if request.param == "own":
        return pint.UnitRegistry()
    if request.param == "application":
        return pint.get_application_registry()
    from cf_xarray.units import units

    return units


@pytest.fixture(params=[False, True], ids=["numpy", "dask"])
def lazy(request):
    return request.param


# --- units of operators ---------------------------------------------------------------


def test_units_of_operators():
    x = field("K", "s")
    D, D2, F = xl.FirstDerivative(x.x), xl.SecondDerivative(x.x), xl.FFT(x.x)
    W = xl.Diagonal(x.assign_attrs(units="kg m-3"))
    R, M, I = xl.Restriction(x.x, [1]), xl.Mask(x > 1), xl.Identity(x)
    expected = {
        D: "1 / second",
        D2: "1 / second ** 2",
        W: "kilogram / meter ** 3",
        F: "dimensionless",
        R: "dimensionless",
        M: "dimensionless",
        I: "dimensionless",
        xl.Zero(x): "dimensionless",
        xl.Diagonal(x.drop_attrs()): "dimensionless",
        # composed
        D.H: "1 / second",
        D @ D: "1 / second ** 2",
        D2 @ D: "1 / second ** 3",
        D**3: "1 / second ** 3",
        D**0: "dimensionless",
        D.gram: "1 / second ** 2",
        W.gram: "kilogram ** 2 / meter ** 6",
        R @ D: "1 / second",
        W @ D: "kilogram / meter ** 3 / second",
        F @ D: "1 / second",
        -D: "1 / second",
        2 * D: "1 / second",
        D / 2: "1 / second",
        D + D: "1 / second",
        D - D: "1 / second",
        D @ D + D2: "1 / second ** 2",
    }
    for A, unit in expected.items():
        assert spelled(A.units) == unit, A
        assert spelled(A.H.units) == unit, A


def test_units_of_stacks():
    x = field("K", "s")
    D, I = xl.FirstDerivative(x.x), xl.Identity(x)
    V = xl.VStack({"slope": D, "value": I})
    assert {k: spelled(u) for k, u in V.units.items()} == {
        "slope": "1 / second",
        "value": "dimensionless",
    }
    assert {k: spelled(u) for k, u in V.H.units.items()} == {
        "slope": "1 / second",
        "value": "dimensionless",
    }
    assert spelled((V @ D).units["slope"]) == "1 / second ** 2"
    same = xl.VStack({"one": D, "two": 2 * D})
    assert spelled(same.gram.units) == "1 / second ** 2"
    assert {k: b.units for k, b in (V @ x).items()} == {"slope": "K s-1", "value": "K"}


def test_units_are_in_the_repr():
    x = field("K", "s")
    assert "s-2" in repr(xl.SecondDerivative(x.x))
    assert "unknown" in repr(xl.SecondDerivative(field("K", None).x))


# --- units of results -----------------------------------------------------------------

DERIVATIVES = [
    ("K", "s", "K s-1", "K s-2"),
    ("m", "m", "1", None),
    ("Pa", "m", "Pa m-1", "Pa m-2"),
    ("m s-1", "s", "m s-2", "m s-3"),
    ("m s-1", "m", "s-1", "m-1 s-1"),
    ("kg m-2 s-1", "s", "kg m-2 s-2", "kg m-2 s-3"),
    ("K", "degrees_north", "K degrees_north-1", "K degrees_north-2"),
    ("degK", "degrees_east", "K degrees_east-1", "K degrees_east-2"),
    ("psu", "m", "psu m-1", "psu m-2"),
    ("1", "s", "s-1", "s-2"),
    ("", "s", "s-1", "s-2"),
    ("m/s", "km", None, None),
]


@pytest.mark.parametrize(("unit", "coordinate", "first", "second"), DERIVATIVES)
def test_units_of_results(unit, coordinate, first, second, lazy):
    from cf_xarray.units import units as cf

    x = field(unit, coordinate)
    x = x.chunk(x=3) if lazy else x
    for operator, expected, power in (
        (xl.FirstDerivative, first, -1),
        (xl.SecondDerivative, second, -2),
    ):
        A = operator(x.x)
        y = A @ x
        # what it means, by pint's own algebra
        meant = cf.Quantity(1.0, unit) * cf.Quantity(1.0, coordinate) ** power
        assert cf.Quantity(1.0, y.attrs["units"]).to_root_units() == meant.to_root_units()
        # and how it is written
        if expected is not None and expected != "1":
            assert y.attrs["units"] == expected
        back = A.H @ y
        meant = meant * cf.Quantity(1.0, coordinate) ** power
        assert (
            cf.Quantity(1.0, back.attrs["units"]).to_root_units() == meant.to_root_units()
        )


@pytest.mark.parametrize("unit", ["K", "degK", "meters", "m s^-1", "kelvin", "1", "", " "])
def test_a_unit_that_does_not_change_stays_verbatim(unit, lazy):
    x = field(unit)
    x = x.chunk(x=3) if lazy else x
    I, R, F = xl.Identity(x), xl.Restriction(x.x, [0, 2]), xl.FFT(x.x)
    seconds = pint.Quantity(2, "s")
    bare = xl.Diagonal(x.drop_attrs())
    per = xl.Diagonal(x.drop_attrs().assign_attrs(units="1"))
    for A in (
        I,
        R,
        F,
        R.gram,
        F.gram,
        3 * I,
        I + I,
        bare,
        per,
        xl.Mask(x > 0),
        xl.Zero(x),
        seconds * xl.FirstDerivative(x.x),
    ):
        assert (A @ x).attrs["units"] == unit


def test_frequencies_have_the_inverse_unit():
    for coordinate, expected in {
        "s": "s-1",
        "m": "m-1",
        "degrees_north": "degrees_north-1",
        "hours since 2000-01-01": "h-1",
        None: None,
        "degree_C": None,
    }.items():
        x = field("K", coordinate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", xl.UnitWarning)
            F = xl.FFT(x.x)
        assert (F @ x).freq_x.attrs.get("units") == expected
        assert (F @ x).attrs["units"] == "K"
    assert (xl.FFT(field().drop_vars("x").x) @ field()).freq_x.attrs["units"] == "1"


def test_reference_time_in_the_unit_of_a_coordinate():
    for text, unit, expected in [
        ("days since 1900-01-01", "1 / day", "K d-1"),
        ("hours since 2000-01-01 00:00", "1 / hour", "K h-1"),
        ("seconds since 1970-01-01", "1 / second", "K s-1"),
    ]:
        x = field("K", text)
        D = xl.FirstDerivative(x.x)
        assert spelled(D.units) == unit
        assert (D @ x).attrs["units"] == expected
        # in that unit, not in seconds
        np.testing.assert_allclose((D @ x).values[1:-1], 2 * x.x.values[1:-1], rtol=1e-14)


def test_no_coordinate_has_unit_steps():
    x = field("K").drop_vars("x")
    D = xl.FirstDerivative(x.x)
    assert spelled(D.units) == "dimensionless"
    assert (D @ x).attrs["units"] == "K"


def test_weights_bring_their_unit(lazy):
    x = field("m")
    weights = field("kg").chunk() if lazy else field("kg")
    W = xl.Diagonal(weights)
    assert (W @ x).attrs["units"] == "kg m"
    assert (W.H @ x).attrs["units"] == "kg m"
    assert (W @ x.drop_attrs(deep=False)).attrs == {}
    # masks have no unit, whatever their attributes say
    keep = (weights > 2).assign_attrs(units="kg")
    assert (xl.Mask(keep) @ x).attrs["units"] == "m"


# --- unknown --------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_coordinate_without_units():
    x = field("K", None).assign_attrs(standard_name="air_temperature", long_name="T")
    D = xl.FirstDerivative(x.x)
    unknown = (D, D.H, D @ D, D.gram, 2 * D, pint.Quantity(2, "s") * D, D + D, -D, D @ D.H)
    for A in unknown:
        assert A.units is None
        assert (A @ x).attrs == {"long_name": "T"}
    assert spelled(xl.Identity(x).units) == "dimensionless"
    assert (xl.Restriction(x.x, [1]) @ x).attrs == x.attrs
    V = xl.VStack({"slope": D, "value": xl.Identity(x)})
    assert V.units["slope"] is None
    made = V @ x
    assert made["slope"].attrs == {"long_name": "T"}
    assert made["value"].attrs == x.attrs


@pytest.mark.filterwarnings("error")
def test_sum_of_known_and_unknown():
    known, unknown = field("K", "s"), field("K", None)
    D, E = xl.FirstDerivative(known.x), xl.FirstDerivative(unknown.x)
    for A in (D + E, E + D, D - E, E - D):
        assert A.units is None
        assert "units" not in (A @ known).attrs


@pytest.mark.filterwarnings("error")
def test_no_units_on_the_input():
    x = field(None, "s")
    for A in (xl.FirstDerivative(x.x), xl.Diagonal(field("kg")), xl.Identity(x)):
        assert (A @ x).attrs == {}


@pytest.mark.filterwarnings("error")
def test_units_in_the_encoding_do_not_count():
    x = field(None, "s")
    x.encoding["units"] = "K"
    assert (xl.FirstDerivative(x.x) @ x).attrs == {}


def test_attributes_that_are_no_units():
    for value in (3, 2.0, None, ["K"], b"K"):
        x = field().assign_attrs(units=value, long_name="T")
        y = xl.FirstDerivative(x.x) @ x
        assert y.attrs == {"long_name": "T"}
        c = x.assign_coords(x=("x", x.x.values, {"units": value}))
        assert xl.FirstDerivative(c.x).units is None


# --- attributes -----------------------------------------------------------------------


def test_attributes_that_become_untrue():
    attrs = {
        "long_name": "temperature",
        "units": "K",
        "standard_name": "air_temperature",
        "actual_range": [1.0, 2.0],
        "valid_min": 0.0,
        "valid_max": 400.0,
        "valid_range": [0.0, 400.0],
        "cell_methods": "time: mean",
        "history": "made up",
    }
    x = field(None).assign_attrs(attrs)
    y = xl.FirstDerivative(x.x) @ x
    assert y.attrs == {"long_name": "temperature", "units": "K s-1", "history": "made up"}
    assert list(y.attrs) == ["long_name", "units", "history"]
    scaled = 2 * xl.Identity(x) @ x
    assert scaled.attrs == {
        "long_name": "temperature",
        "units": "K",
        "standard_name": "air_temperature",
        "history": "made up",
    }
    assert x.attrs == attrs
    y.attrs["units"] = "changed"
    assert x.attrs["units"] == "K"


# --- offset units ---------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["degC", "celsius", "degree_Celsius", "degF"])
def test_offset_units(unit, lazy):
    from cf_xarray.units import units as cf

    x = field(unit).assign_attrs(standard_name="air_temperature")
    x = x.chunk(x=3) if lazy else x
    I, R = xl.Identity(x), xl.Restriction(x.x, [4, 1])
    for A in (I, R, R @ I, I @ I):
        y = A @ x
        assert y.attrs == x.attrs
    differences = (
        2 * I,
        -I,
        I + I,
        I - I,
        xl.Mask(x > 2),
        xl.FFT(x.x),
        xl.Zero(x),
        R.gram,
        xl.Diagonal(x.drop_attrs()),
    )
    delta = cf.Unit("delta_degree_Celsius" if unit != "degF" else "delta_degree_Fahrenheit")
    for A in differences:
        y = A @ x
        assert cf.Unit(y.attrs["units"]) == delta, A
        assert "standard_name" not in y.attrs
        if y.dims == x.dims:  # a difference stays a difference
            assert (I @ y).attrs["units"] == y.attrs["units"]
            assert (R @ y).attrs["units"] == y.attrs["units"]
    slope = xl.FirstDerivative(x.x) @ x
    assert cf.Unit(slope.attrs["units"]) == delta / cf.Unit("s")
    curve = xl.SecondDerivative(x.x) @ x
    assert cf.Unit(curve.attrs["units"]) == delta / cf.Unit("s") ** 2


def test_offset_units_of_weights():
    x = field("m")
    y = xl.Diagonal(field("degC")) @ x
    assert y.attrs["units"] == "delta_degC m"


# --- sums and quantities --------------------------------------------------------------


def test_sums_convert(lazy):
    x = field("m", "s")
    given = x.chunk(x=3) if lazy else x
    D, I = xl.FirstDerivative(x.x), xl.Identity(x)
    per_hour = pint.Quantity(1, "1/hour") * I
    slope = np.gradient(x.values, 0.5)
    slope[[0, -1]] = 0
    y = (D + per_hour) @ given
    assert y.attrs["units"] == "m s-1"
    np.testing.assert_allclose(y.values, slope + x.values / HOUR, rtol=1e-14)
    y = (per_hour + D) @ given
    assert spelled((per_hour + D).units) == "1 / hour"
    np.testing.assert_allclose(y.values, slope * HOUR + x.values, rtol=1e-14)
    y = (D - per_hour) @ given
    np.testing.assert_allclose(y.values, slope - x.values / HOUR, rtol=1e-13)
    back = (D - per_hour).H @ given
    matrix = np.zeros((8, 8))
    for i in range(1, 7):
        matrix[i, [i - 1, i + 1]] = -1.0, 1.0
    expected = matrix.T @ x.values - x.values / HOUR
    np.testing.assert_allclose(back.values, expected, rtol=1e-13)


def test_scaling_by_quantities(registry, lazy):
    x = field("K", "s")
    given = x.chunk(x=3) if lazy else x
    L = xl.SecondDerivative(x.x)
    plain = (L @ x).values
    for eps, number, unit in [
        (registry.Quantity(2.0, "s**2"), 2.0, "K"),
        (registry.Quantity(2.0, "hour**2"), 2 * HOUR**2, "K"),
        (registry.Quantity(2, "ms**2"), 2e-6, "K"),
        (registry.Quantity(np.float32(0.5), "s*s"), 0.5, "K"),
        (registry.Quantity(np.array(3.0), "s**2"), 3.0, "K"),
        (registry.Quantity(3.0, ""), 3.0, "K s-2"),
    ]:
        for A in (eps * L, L * eps):
            y = A @ given
            assert y.attrs["units"] == unit
            np.testing.assert_allclose(y.values, number * plain, rtol=1e-14)
        np.testing.assert_allclose((L / eps @ given).values, plain / number, rtol=1e-14)
        assert eps * L == L * eps
        assert (eps * L).H.units == (eps * L).units
    assert spelled((registry.Quantity(2.0, "m") * L).units) == "meter / second ** 2"
    assert ((registry.Quantity(2.0, "m") * L) @ given).attrs["units"] == "K m s-2"
    assert spelled((L / registry.Quantity(2.0, "m")).units) == "1 / meter / second ** 2"


def test_scaling_by_a_unit():
    x = field("K", "s")
    D = xl.FirstDerivative(x.x)
    second = pint.Unit("s")
    for A in (second * D, D * second):
        assert spelled(A.units) == "dimensionless"
        assert (A @ x).attrs["units"] == "K"
    assert spelled((D / second).units) == "1 / second ** 2"


def test_scaling_by_an_offset_unit():
    # In a product it means a difference.
    A = pint.Quantity(2.0, "degC") * xl.FirstDerivative(field("m", "s").x)
    assert spelled(A.units) == "delta_degree_Celsius / second"
    assert (A @ field("m", "s")).attrs["units"] == "delta_degC m s-1"


def test_scaling_stacks_by_quantities():
    x = field("K", "s")
    V = xl.VStack({"slope": xl.FirstDerivative(x.x), "value": xl.Identity(x)})
    made = (pint.Quantity(2, "m") * V) @ x
    assert made["slope"].attrs["units"] == "K m s-1"
    assert made["value"].attrs["units"] == "K m"
    np.testing.assert_allclose(made["value"].values, 2 * x.values, rtol=1e-15)


def test_array_quantities_do_not_scale(registry):
    D = xl.FirstDerivative(field().x)
    many = registry.Quantity(np.ones(3), "s")
    with pytest.raises(TypeError):
        many * D
    with pytest.raises(TypeError):
        D * many


def test_adjoint_of_a_stack_converts(lazy):
    x = field("K", "s")
    I = xl.Identity(x)
    V = xl.VStack({"a": I, "b": 2 * I})
    given = x.chunk(x=3) if lazy else x
    blocks = {"a": given, "b": given.assign_attrs(units="mK")}
    y = V.H @ blocks
    assert y.attrs["units"] == "K"
    np.testing.assert_allclose(y.values, x.values * 1.002, rtol=1e-14)
    # the units of the operators count as well
    W = xl.VStack({"a": I, "b": pint.Quantity(1, "m") * I})
    y = W.H @ {"a": given, "b": given.assign_attrs(units="K km-1")}
    assert y.attrs["units"] == "K"
    np.testing.assert_allclose(y.values, x.values * 1.001, rtol=1e-14)
    # nothing is checked where a unit is missing
    y = V.H @ {"a": given, "b": given.drop_attrs(deep=False)}
    np.testing.assert_allclose(y.values, 3 * x.values, rtol=1e-14)


# --- quantities as data ---------------------------------------------------------------


def test_quantities_in_and_out(registry, lazy):
    x = field(None, "s").assign_attrs(long_name="T")
    given = quantified(x, "m", registry, lazy).assign_attrs(long_name="T")
    D = xl.FirstDerivative(x.x, kind="forward")
    y = D @ given
    assert isinstance(y.data, registry.Quantity)
    assert y.data.units == registry.Unit("m/s")
    assert y.name == "field"
    assert y.attrs == {"long_name": "T"}
    assert isinstance(y.data.magnitude, da.Array if lazy else np.ndarray)
    magnitude = np.asarray(y.data.magnitude)
    np.testing.assert_allclose(magnitude[:-1], np.diff(x.values) / 0.5, rtol=1e-15)
    back = D.H @ y
    assert back.data.units == registry.Unit("m/s**2")
    made = xl.VStack({"slope": D, "value": xl.Identity(x)}) @ given
    assert made["slope"].data.units == registry.Unit("m/s")
    assert made["value"].data.units == registry.Unit("m")


def test_quantities_of_values_and_weights(registry, lazy):
    x = field(None, "s")
    W = xl.Diagonal(quantified(x, "kg", registry, lazy))
    assert spelled(W.units) == "kilogram"
    y = W @ x.assign_attrs(units="m")
    assert y.attrs["units"] == "kg m"
    np.testing.assert_array_equal(y.values, x.values**2)
    y = W @ quantified(x, "m", registry)
    assert y.data.units == registry.Unit("kg*m")


def test_quantities_with_offset_units(registry, lazy):
    x = quantified(field(None, "s"), "degC", registry, lazy)
    assert (xl.Restriction(x.x, [1]) @ x).data.units == registry.Unit("degC")
    assert (2 * xl.Identity(x) @ x).data.units == registry.Unit("delta_degC")
    assert (xl.FirstDerivative(x.x) @ x).data.units == registry.Unit("delta_degC/s")


def test_quantities_along_degrees(registry):
    x = quantified(field(None, "degrees_north"), "K", registry)
    y = xl.FirstDerivative(x.x) @ x
    assert isinstance(y.data, registry.Quantity)
    per_degree = registry.Quantity(1.0, "K") / registry.Quantity(1.0, "degree")
    assert (y.data[1] / per_degree).to("").magnitude == pytest.approx(2 * 0.5, rel=1e-12)


def test_quantities_of_a_custom_unit():
    registry = pint.UnitRegistry()
    registry.define("smoot = 1.7018 m")
    x = quantified(field(None, "s"), "smoot", registry)
    y = xl.Identity(x) @ x
    assert y.data.units == registry.Unit("smoot")


def test_a_quantity_where_units_become_unknown():
    registry = pint.UnitRegistry()
    x = quantified(field(None, None), "K", registry)
    y = xl.FirstDerivative(x.x) @ x
    assert not hasattr(y.data, "units")
    assert "units" not in y.attrs


def test_no_quantity_in_the_graph(registry):
    x = quantified(field(None, "s"), "K", registry, lazy=True)
    A = xl.FirstDerivative(x.x) @ xl.Diagonal(quantified(field(), "kg", registry, True))
    data = (A @ x).data.magnitude
    assert "Quantity" not in repr(dict(data.__dask_graph__()))
    assert type(data.compute()) is np.ndarray


def test_quantities_are_left_alone(registry):
    x = quantified(field(None, "s"), "K", registry)
    before = x.copy(deep=True)
    y = xl.Identity(x) @ x
    y.data.magnitude[:] = 0
    np.testing.assert_array_equal(x.data.magnitude, before.data.magnitude)
    assert x.data.units == registry.Unit("K")


# --- the application's registry -------------------------------------------------------

USE = """
import numpy as np, xarray as xr, xlops as xl

x = xr.DataArray(
    np.arange(9.0),
    dims="lat",
    coords={"lat": ("lat", np.arange(9.0), {"units": "degrees_north"})},
    attrs={"units": "K"},
)
D = xl.FirstDerivative(x.lat)
assert D.units is not None
assert (D @ x).attrs["units"] == "K degrees_north-1"
given = x.drop_attrs(deep=False).copy(data=pint.Quantity(x.values, "m"))
assert (xl.Identity(given) @ given).data.units == pint.Unit("m")
xl.cgls(xl.Identity(x), x)
"""


def ran(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""


def test_the_application_registry_stays():
    ran(f"""
import pint

before = pint.get_application_registry().get()
{USE}
assert pint.get_application_registry().get() is before
try:
    pint.Unit("degrees_north")
except pint.UndefinedUnitError:
    pass
else:
    raise AssertionError("the application's registry has new units")
""")


def test_an_application_registry_of_the_user_stays():
    ran(f"""
import pint

own = pint.UnitRegistry()
own.define("smoot = 1.7018 m")
pint.set_application_registry(own)
{USE}
assert pint.get_application_registry().get() is own
assert given.data._REGISTRY is own
tall = given.copy(data=pint.Quantity(x.values, "smoot"))
assert (xl.Identity(tall) @ tall).data.units == own.Unit("smoot")
""")


def test_importing_leaves_the_unit_registry_for_later():
    ran("""
import sys
import xlops

assert "cf_xarray.units" not in sys.modules
""")
