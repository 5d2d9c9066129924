"""The main job against a direct solve: 70 % of a field, filled by an inversion."""

import numpy as np
import pint
import pytest
import scipy.linalg
import scipy.sparse as sp
import xarray as xr
from threadpoolctl import threadpool_limits

import xlops as xl
from xlops import demo
from xlops.cli import main


@pytest.fixture(scope="module")
def air():
    return xl.open(demo.sample_path(), "air").compute()


@pytest.fixture(scope="module")
def keep(air):
    return demo.kept_cells(air)


def second_differences(n, step):
    """Inside the axis; zero rows at its ends."""
    matrix = sp.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    matrix[0] = matrix[-1] = 0
    return matrix.tocsc() / step**2


@pytest.fixture(scope="module")
def reference(air, keep):
    """The normal equations, factored as a band: with lon outermost it is narrow."""
    nt, nlat, nlon = air.shape
    eye = sp.eye_array
    terms = [
        3.6 * sp.kron(sp.kron(second_differences(nt, 6.0), eye(nlat)), eye(nlon)),
        0.625 * sp.kron(sp.kron(eye(nt), second_differences(nlat, 2.5)), eye(nlon)),
        0.625 * sp.kron(sp.kron(eye(nt), eye(nlat)), second_differences(nlon, 2.5)),
    ]
    mask = sp.diags_array(keep.values.ravel().astype(float))
    mean = air.values[keep.values].mean()
    normal = (mask + sum(term.T @ term for term in terms)).tocsc()
    right = mask @ (air.values.ravel() - mean)
    order = np.arange(right.size).reshape(air.shape).transpose(2, 0, 1).ravel()
    lower = sp.tril(normal[order][:, order]).tocoo()
    below = lower.row - lower.col
    band = np.zeros((below.max() + 1, right.size))
    band[below, lower.col] = lower.data
    result = np.empty_like(right)
    with threadpool_limits(1):  # threads of BLAS take turns more than they work
        result[order] = scipy.linalg.solveh_banded(band, right[order], True, lower=True)
    return result.reshape(air.shape) + mean


def test_reference_is_the_published_one(reference):
    assert np.linalg.norm(reference) == pytest.approx(44562.0069, abs=1e-4)
    assert reference[0, 0, 0] == pytest.approx(251.135191, abs=1e-6)
    assert reference[10, 12, 26] == pytest.approx(255.776486, abs=1e-6)
    assert reference.mean() == pytest.approx(273.005526, abs=1e-6)


def filled(air, keep):
    return demo.fill(air, keep, tol=1e-10).field


def figures(values):
    return [np.linalg.norm(values), values[0, 0, 0], values[10, 12, 26], values.mean()]


def check(result, reference, plain=None):
    assert result.attrs["units"] == "degK"
    assert result.name == "air"
    values = result.transpose("time", "lat", "lon").values
    np.testing.assert_allclose(figures(values), figures(reference), rtol=0, atol=1e-6)
    if plain is not None:
        np.testing.assert_allclose(values, plain.values, rtol=0, atol=1e-7)


@pytest.fixture(scope="module")
def plain(air, keep):
    """Solved on NumPy, as the file comes."""
    return filled(air, keep)


def test_numpy(air, keep, reference, plain):
    assert isinstance(plain.data, np.ndarray)
    check(plain, reference)
    xr.testing.assert_identical(plain.coords.to_dataset(), air.coords.to_dataset())
    scores = demo.scores(air, keep, plain)
    assert scores["xlops"] == pytest.approx(1.7047, abs=5e-5)
    assert scores["linear along lon, ends extrapolated"] == pytest.approx(3.830, abs=5e-4)
    assert scores["linear along lon, ends held"] == pytest.approx(3.032, abs=5e-4)


def test_every_cell(air, keep, reference):
    result = demo.fill(air, keep, tol=1e-12).field
    np.testing.assert_allclose(result.values, reference, rtol=0, atol=1e-7)


def test_whole_slices_in_chunks(air, keep, reference, plain):
    chunked = air.chunk(dict(zip(air.dims, (5, 25, 53), strict=True)))
    result = filled(chunked, keep)
    assert result.chunks == chunked.chunks
    check(result, reference, plain)


@pytest.mark.slow
def test_all_dims_in_chunks(air, keep, reference, plain):
    chunked = air.chunk(dict(zip(air.dims, (7, 6, 11), strict=True)))
    result = filled(chunked, keep)
    assert result.chunks == chunked.chunks
    check(result, reference, plain)


@pytest.mark.parametrize(
    "dims",
    [
        ("time", "lon", "lat"),
        ("lat", "time", "lon"),
        ("lat", "lon", "time"),
        ("lon", "time", "lat"),
        ("lon", "lat", "time"),
    ],
)
def test_every_order_of_dims(air, keep, reference, plain, dims):
    result = filled(air.transpose(*dims), keep)
    assert result.dims == dims
    check(result, reference, plain)


def test_ascending_latitude(air, keep, reference, plain):
    turned = {"lat": slice(None, None, -1)}
    result = filled(air.isel(turned), keep.isel(turned))
    check(result.isel(turned), reference, plain)


@pytest.mark.parametrize("unit", ["seconds", "hours", "hours since 2014-02-24"])
def test_time_as_numbers(air, keep, reference, plain, unit):
    hours = (air.time - air.time[0]).values / np.timedelta64(1, "h")
    values = hours * 3600 if unit == "seconds" else hours
    time = xr.Variable("time", values, {"units": unit})
    result = filled(air.assign_coords(time=time), keep.assign_coords(time=time))
    assert result.time.attrs["units"] == unit
    check(result, reference, plain)


def test_latitude_in_radians(air, keep, reference, plain):
    lat = xr.Variable("lat", np.deg2rad(air.lat.values.astype(float)), {"units": "radians"})
    field, mask = air.assign_coords(lat=lat), keep.assign_coords(lat=lat)
    check(filled(field, mask), reference, plain)


def test_eps_of_the_wrong_unit(air, keep):
    mask = xl.Mask(keep)
    curvature = xl.SecondDerivative(air.time)
    with pytest.raises(xl.UnitError, match=r"eps of 'time'.*is given in m, expected s2"):
        xl.regularized_inversion(
            mask, mask @ air, {"time": (curvature, pint.Quantity(1.0, "m"))}
        )


def test_the_command(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["demo", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "1.7047" in printed.out
    assert "3.0317" in printed.out
    assert "3.8300" in printed.out
    assert "SecondDerivative(lat)" in printed.out
    assert "cgls" in printed.err  # the progress bar
    assert {p.name for p in out.iterdir()} == {"filled.nc", "filled.png"}
    with xr.open_dataset(out / "filled.nc", engine="h5netcdf") as ds:
        assert ds.air.attrs["units"] == "degK"
        assert "actual_range" not in ds.air.attrs
        assert "scale_factor" not in ds.air.encoding
        assert ds.air.dtype == np.float64
        assert ds.lat.attrs["units"] == "degrees_north"
        assert ds.attrs["history"].count("xlops") == 1
    assert (out / "filled.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_where_it_cannot_write(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "file" in printed.err
