"""Names of the CF conventions where a dim is asked for; pint quantities in and out."""

import dask.array as da
import numpy as np
import pint
import pytest
import xarray as xr

import xlops as xl
from xlops import units


@pytest.fixture
def air() -> xr.DataArray:
    return xr.DataArray(
        np.random.default_rng(0).standard_normal((5, 4, 3)),
        dims=("day", "lat", "lon"),
        coords={
            "day": ("day", np.arange(5.0), {"axis": "T", "units": "d"}),
            "lat": ("lat", 10.0 * np.arange(4), {"units": "degrees_north"}),
            "lon": (
                "lon",
                10.0 * np.arange(3),
                {"units": "degrees_east", "standard_name": "longitude"},
            ),
        },
        attrs={"units": "K"},
    )


@pytest.mark.parametrize(
    ("name", "dim"), [("T", "day"), ("latitude", "lat"), ("longitude", "lon")]
)
def test_accessor(air, name, dim):
    expected = xl.FirstDerivative(air[dim]) @ air
    xr.testing.assert_identical(air.lops.apply(xl.FirstDerivative, name), expected)
    ds = air.to_dataset(name="air")
    made = ds.lops.apply(xl.FirstDerivative, name).air
    np.testing.assert_array_equal(made, expected)
    back = air.lops.adjoint(xl.FirstDerivative, name)
    xr.testing.assert_identical(back, xl.FirstDerivative(air[dim]).H @ air)


def test_chunks(air):
    A = xl.Identity(air.day).chunked(T=2, longitude=1, elsewhere=7)
    assert (A @ air).chunks == ((2, 2, 1), (4,), (1, 1, 1))


def test_matrices_and_layout(air):
    kernel = air.isel(day=0, drop=True)
    made = xl.MatrixMult(kernel, "longitude") @ air.isel(day=0, lat=0, drop=True)
    np.testing.assert_allclose(made, kernel.values @ air.values[0, 0])
    assert (xl.Transpose(air, "longitude", "T", "latitude") @ air).dims == (
        "lon",
        "day",
        "lat",
    )
    assert (xl.Rename(air.lat, {"latitude": "y"}) @ air).dims == ("day", "y", "lon")


def test_names_that_mean_none_or_several(air):
    with pytest.raises(xl.LabelError, match="'Z' is missing: the data have 'day'"):
        air.lops.apply(xl.FirstDerivative, "Z")
    twice = air.assign_coords(lat=air.lat.assign_attrs(standard_name="longitude"))
    with pytest.raises(xl.LabelError, match="'longitude' may be any of the dims"):
        twice.lops.apply(xl.FirstDerivative, "longitude")
    # The name of a dim is that dim, whatever else goes by it.
    named = twice.rename(day="longitude")
    made = named.lops.apply(xl.FirstDerivative, "longitude")
    np.testing.assert_array_equal(made, xl.FirstDerivative(named.longitude) @ named)


# --- pint -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ureg():
    return pint.UnitRegistry(force_ndarray_like=True)


@pytest.mark.parametrize("lazy", [False, True])
def test_quantities_everywhere(air, ureg, lazy):
    values = da.from_array(air.values, chunks=(2, 4, 2)) if lazy else air.values
    x = air.drop_attrs(deep=False).copy(data=ureg.Quantity(values, "K"))
    D, S = xl.FirstDerivative(x.day), xl.Smoothing1D(x.lat, 3)
    kind = da.Array if lazy else np.ndarray

    def check(made, expected):
        assert type(made.data.magnitude) is kind
        assert made.data._REGISTRY is ureg
        assert "units" not in made.attrs
        assert str(made.data.units) == str(units.parse(expected.attrs["units"]))
        np.testing.assert_allclose(
            np.asarray(made.data.magnitude), expected.values, rtol=1e-14
        )

    for A in (D, D.H, S @ D, D.gram, xl.Diagonal(x), xl.Concat([D, 2 * D], "k")):
        check(A @ x, A @ air)
    stack = xl.VStack({"a": D, "b": xl.Restriction(x.day, [1, 2])})
    for made, expected in zip((stack @ x).values(), (stack @ air).values(), strict=True):
        check(made, expected)
    row = xl.HStack({"a": D, "b": xl.Identity(x.day)})
    other = x.copy(data=ureg.Quantity(values, "K/hour"))
    check(
        row({"a": x, "b": other}),
        row({"a": air, "b": air.assign_attrs(units="K h-1")}),
    )
    assert xl.dottest(D, like=x)
    solution = xl.cgls(S, x, niter=3)
    assert solution.x.data.units == ureg.Unit("K")
    assert D.explain(x).units.startswith("kelvin")
    assert (D.bind(x)).shape == (60, 60)
    computed = D.evaluate() @ x
    assert type(computed.data.magnitude) is np.ndarray
    cut = D.chunked(T=2) @ x
    assert type(cut.data.magnitude) is da.Array
    check_chunks = ((2, 2, 1), (4,), (2, 1) if lazy else (3,))
    assert cut.data.magnitude.chunks == check_chunks


def test_quantities_in_other_units_convert(air, ureg):
    x = air.drop_attrs(deep=False).copy(data=ureg.Quantity(air.values, "K"))
    S = xl.Smoothing1D(x.lat, 3)
    start = x.copy(data=ureg.Quantity(1e3 * air.values, "mK"))
    one, other = (xl.cgls(S, x, x0=x0, niter=1).x for x0 in (x, start))
    np.testing.assert_allclose(one.data.magnitude, other.data.magnitude, rtol=1e-12)
    with pytest.raises(xl.UnitError, match="damp"):
        xl.cgls(S, x, damp=ureg.Quantity(1.0, "s"))
