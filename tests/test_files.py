"""What is saved comes back, files appear only whole, and errors say what to do."""

import builtins
import concurrent.futures
import datetime as dt
import importlib.resources
import json
import os
import pathlib
import pickle
import re
import stat
import subprocess
import sys
import threading
import time
import tracemalloc

import cftime
import dask
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pint
import pytest
import scipy.io
import xarray as xr

import xlops as xl
from xlops import files
from xlops.errors import DTypeError, FileError, XlopsError
from xlops.files import writing

FORMATS = [".nc", ".zarr"]
AIR = importlib.resources.files("hvsampledata") / "_data" / "air_temperature_small.nc"
COMMON = {"history", "Conventions"}
ureg = pint.UnitRegistry()


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    """Where to save, in each format."""
    return tmp_path / f"x{request.param}"


@pytest.fixture
def x():
    return xr.DataArray(
        np.arange(6.0).reshape(2, 3),
        {"lat": ("lat", [10.0, 5.0], {"units": "degrees_north"})},
        ("lat", "time"),
        "x",
        {"units": "K"},
    )


def there(folder):
    """All names in a folder, hidden ones too."""
    return sorted(os.listdir(folder))


def content(path):
    """All bytes at a path, be it a file or a folder."""
    if path.is_file():
        return path.read_bytes()
    inner = (p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in inner}


def plain(path, **kwargs):
    """A file as another reader sees it."""
    if path.suffix == ".zarr":
        return xr.open_dataset(path, engine="zarr", **kwargs)
    return xr.open_dataset(path, engine="h5netcdf", **kwargs)


def bare(obj):
    """A result of `open` without what every file has."""
    return obj.drop_attrs(deep=False).assign_attrs(
        {k: v for k, v in obj.attrs.items() if k not in COMMON}
    )


def round_trip(obj, path, **kwargs):
    files.save(obj, path)
    return files.open(path, **kwargs)


# --- kinds ----------------------------------------------------------------------------


def test_a_data_array(x, path):
    back = round_trip(x, path)
    assert isinstance(back, xr.DataArray)
    assert isinstance(back.data, da.Array)
    xr.testing.assert_identical(bare(back), x)
    assert list(back.attrs) == ["units", "history"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_dataset(x, path, count):
    names = ["a", "b"][:count]
    dataset = xr.Dataset({n: x.rename(n) for n in names}, {"t": 3}, {"title": "Two"})
    back = round_trip(dataset, path)
    assert isinstance(back, xr.Dataset)
    xr.testing.assert_identical(bare(back), dataset)


def test_blocks_of_conflicting_sizes(x, path):
    blocks = {
        "slope": x.rename(None).assign_attrs(units="K s-1"),
        "data": x.isel(lat=slice(1), time=slice(2)).chunk(time=1),
        "a b": x.isel(lat=0, drop=True) * 1j,
    }
    back = round_trip(blocks, path)
    assert type(back) is dict
    assert list(back) == list(blocks)
    for name, block in blocks.items():
        xr.testing.assert_identical(bare(back[name]), block)
        one = files.open(path, name, chunks=None)
        xr.testing.assert_identical(bare(one), block)


def test_blocks_of_a_stack(path):
    t = xr.DataArray(np.arange(5.0), dims="time", name="time", attrs={"units": "s"})
    y = xr.DataArray(np.arange(5.0) ** 2, {"time": t}, ["time"], "y", {"units": "m"}).chunk(
        time=2
    )
    stack = xl.VStack(
        {"data": xl.Restriction(y.time, [0, 2]), "slope": xl.FirstDerivative(y.time)}
    )
    blocks = stack(y)
    back = round_trip(blocks, path)
    for name, block in blocks.items():
        xr.testing.assert_identical(bare(back[name]), block.compute())
    assert back["slope"].attrs["units"] == "m s-1"


def test_blocks_share_what_they_are_computed_from(tmp_path):
    calls = []

    def counted(block):
        calls.append(threading.get_ident())
        return block

    source = da.ones(8, chunks=2).map_blocks(counted, dtype=float, meta=np.ones(0))
    y = xr.DataArray(source, dims="time")
    files.save({"a": y + 1, "b": y * 2}, tmp_path / "x.nc")
    assert len(calls) == 4


def test_a_solution(x, path):
    class Solved:
        method = "cgls"
        iterations = 123

        def to_dataset(self):
            return xr.Dataset({"x": x, "residual": x - 1}, attrs={"converged": 1})

    back = round_trip(Solved(), path)
    xr.testing.assert_identical(bare(back), Solved().to_dataset())
    assert back.attrs["history"].endswith(": method cgls, 123 iterations")


def test_a_solution_of_a_solver(x, path):
    from xlops.solvers.cgls import cgls

    solution = cgls(xl.Diagonal(x + 1), x.assign_attrs(history="measured"), niter=3)
    back = round_trip(solution, path)
    xr.testing.assert_allclose(back.x, solution.x)
    first, last = back.attrs["history"].split("\n")
    assert first == "measured"
    assert last.endswith(f": method cgls, {solution.iterations} iterations")


@pytest.mark.parametrize("name", [None, "lat", "time", "a b", "é"])
def test_names(x, path, name):
    x.name = name
    back = round_trip(x, path)
    xr.testing.assert_identical(bare(back), x)
    if name is not None:
        xr.testing.assert_identical(bare(files.open(path, name)), x)
    if path.suffix == ".nc":
        other = xr.open_dataarray(path, engine="h5netcdf")
        assert other.name == name


def test_a_coordinate_saved_by_itself(x, path):
    xr.testing.assert_identical(bare(round_trip(x.lat, path)), x.lat)


# --- values and labels ----------------------------------------------------------------

VALUES = {
    "bool": np.array([True, False, True]),
    "int8": np.array([-1, 2, 3], "i1"),
    "uint64": np.array([0, 1, 2**64 - 1], "u8"),
    "big-endian": np.array([1, 2, 3], ">i4"),
    "float32": np.array([1, np.nan, -np.inf], "f4"),
    "float64": np.array([np.nan, 0.1, -0.0]),
    "complex64": np.array([1 + 2j, np.nan, 1j * np.inf], "c8"),
    "complex128": np.array([1 + 2j, np.nan, 0.1j]),
    "text": np.array(["a", "", "münchen"]),
    "objects": np.array(["a", "", "münchen"], object),
    "string": np.array(["a", "", "münchen"], "T"),
    "bytes": np.array([b"a", b"bc", b""]),
    "datetime ns": np.array(["2000", "NaT", "2001-01-01T00:00:00.123456789"], "M8[ns]"),
    "datetime us": np.array(["2000", "NaT", "2001-01-01T00:00:00.123456"], "M8[us]"),
    "datetime s": np.array(["0001", "1999", "9999-12-31T23:59:59"], "M8[s]"),
    "timedelta ns": np.array([1, "NaT", 10**15 + 1], "m8[ns]"),
    "timedelta s": np.array([1, 2, 3], "m8[s]"),
    "360 days": [cftime.Datetime360Day(2000, 2, 30, 1, 2, 3, k) for k in range(3)],
    "gregorian": [cftime.DatetimeGregorian(2000, 2, k) for k in (1, 2, 3)],
}


# Chunks of one sample cut those of the file, as the last lines want; xarray warns of that.
@pytest.mark.filterwarnings("ignore:The specified chunks separate:UserWarning")
@pytest.mark.parametrize("kind", VALUES)
def test_values(path, kind):
    x = xr.DataArray(VALUES[kind], dims="x", attrs={"long_name": kind})
    back = round_trip(x, path)
    xr.testing.assert_identical(bare(back), x)
    if x.dtype.kind in "biufcmM":
        assert back.dtype == x.dtype.newbyteorder("=")
    # What was opened can be saved, too, in several chunks.
    xr.testing.assert_identical(bare(round_trip(back.chunk(x=1), path)), x)


@pytest.mark.parametrize("kind", [k for k in VALUES if "NaT" not in VALUES[k].__repr__()])
def test_values_of_coordinates(path, kind):
    values = VALUES[kind][:3]
    if kind in ("float32", "float64", "complex64", "complex128"):
        values = np.arange(3).astype(kind)
    if kind == "bool":
        values = values[:2]
    n = len(values)
    x = xr.DataArray(np.arange(n), {"x": values, "aux": ("x", values)}, ["x"], "a")
    xr.testing.assert_identical(bare(round_trip(x, path)), x)


def test_scalars_and_empty(path):
    coords = {"s": np.datetime64("2000-01-01", "ns"), "t": "text", "n": np.nan}
    scalar = xr.DataArray(3.5, coords, name="x")
    xr.testing.assert_identical(bare(round_trip(scalar, path)), scalar)
    empty = xr.DataArray(np.zeros((0, 3)), dims=("x", "y"), name="x")
    xr.testing.assert_identical(bare(round_trip(empty, path)), empty)


def test_auxiliary_coordinates_with_attributes(x, path):
    x = x.assign_coords(
        depth=(("lat", "time"), np.full((2, 3), np.nan), {"units": "m"}),
        run=((), "r1", {"note": "é"}),
        day=("time", [1, 2, 3]),
    )
    xr.testing.assert_identical(bare(round_trip(x, path)), x)
    other = plain(path)
    assert set(other.coords) == set(x.coords)
    assert "_FillValue" not in other.depth.encoding


def test_numbers_in_units_of_time_stay_numbers(x, path):
    x = x.assign_coords(time=("time", [0.0, 1, 2], {"units": "days since 2000-01-01"}))
    x.attrs["units"] = "hours"
    xr.testing.assert_identical(bare(round_trip(x, path)), x)
    assert plain(path).time.dtype.kind == "M"  # for others, they are dates


ATTRIBUTES = {
    "text": "é\n2",
    "empty": "",
    "integer": 3,
    "float32": np.float32(1.5),
    "int8": np.int8(3),
    "nan": np.nan,
    "array": np.arange(3),
    "two dims": np.ones((2, 2)),
    "0-d": np.array(3.0),
    "list": [1, 2],
    "texts": ["a", "é"],
    "array of text": np.array(["a", "b"]),
    "numpy text": np.str_("abc"),
    "string": np.array(["a", "b"], "T"),
}


def test_attributes(x, path):
    x = x.assign_attrs(ATTRIBUTES)
    x.lat.attrs |= ATTRIBUTES
    dataset = x.to_dataset().assign_attrs(ATTRIBUTES)
    back = round_trip(dataset, path)
    xr.testing.assert_identical(bare(back), dataset)
    if path.suffix == ".nc":
        assert back.x.attrs["float32"].dtype == np.float32
        assert back.x.attrs["int8"].dtype == np.int8


def test_bytes_become_text(x, path):
    assert round_trip(x.assign_attrs(a=b"abc"), path).attrs["a"] == "abc"


def test_zarr_keeps_what_json_does(x, tmp_path):
    attrs = {"nested": {"a": [1, None]}, "truth": True, "none": None}
    back = round_trip(x.assign_attrs(attrs), tmp_path / "x.zarr")
    assert back.attrs.items() >= attrs.items()


@pytest.mark.parametrize("lazy", [False, True])
def test_quantities(x, path, lazy):
    data = x.chunk(lat=1).data if lazy else x.data
    quantity = x.copy(data=ureg.Quantity(data, "m/s**2")).drop_attrs(deep=False)
    quantity = quantity.assign_coords(z=("time", ureg.Quantity(np.arange(3.0), "km")))
    back = round_trip(quantity, path)
    expected = x.assign_attrs(units="m s-2").assign_coords(
        z=("time", np.arange(3.0), {"units": "km"})
    )
    xr.testing.assert_identical(bare(back), expected)
    assert "units" not in quantity.attrs


def test_uneven_chunks(path):
    x = xr.DataArray(da.arange(10, chunks=(1, 0, 4, 5)), dims="x", name="x")
    xr.testing.assert_identical(bare(round_trip(x, path)), x.compute())


def test_chunks_of_the_result(x, path):
    files.save(x.chunk(lat=1), path)
    assert files.open(path, chunks={"lat": 1}).chunks == ((1, 1), (3,))
    assert files.open(path, chunks=None).chunks is None
    assert files.open(path, chunks=None)._in_memory is False
    assert files.open(path, chunks={"time": 3}).chunks[1] == (3,)


# --- encodings and inputs -------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_packing_of_the_input_is_not_inherited(tmp_path, suffix):
    path = tmp_path / f"filled{suffix}"
    air = files.open(AIR)
    assert air.encoding["dtype"] == np.int16
    encoding = dict(air.encoding)
    filled = air + 0.001234
    filled.encoding = encoding
    filled.attrs = air.attrs
    files.save(filled, path)
    assert filled.encoding == encoding
    assert dict(air.encoding) == encoding
    xr.testing.assert_identical(bare(files.open(path)), bare(filled.compute()))
    raw = plain(path, mask_and_scale=False)
    assert raw.air.dtype == filled.dtype
    assert {"scale_factor", "add_offset", "missing_value"}.isdisjoint(raw.air.attrs)
    assert {"_FillValue"}.isdisjoint(raw.lat.attrs)
    if suffix == ".nc":
        with h5py.File(path) as file:
            assert file["air"].dtype == filled.dtype
            assert file["air"].compression is None
            assert file["air"].chunks is None


def test_encodings_of_all_kinds_are_dropped(path):
    time = pd.date_range("2000", periods=4, freq="90s")
    x = xr.DataArray(np.arange(4) + 0.25, {"time": time}, ["time"], "x")
    x.encoding = {"dtype": "i2", "_FillValue": -1, "chunksizes": (1,), "zlib": True}
    x.time.encoding = {"units": "hours since 1800-01-01", "dtype": "i4"}
    x.time.encoding["calendar"] = "noleap"
    encodings = [dict(x.encoding), dict(x.time.encoding)]
    back = round_trip(x, path)
    xr.testing.assert_identical(bare(back), x)
    assert [x.encoding, x.time.encoding] == encodings


def test_the_input_is_not_changed(x, path):
    dataset = xr.Dataset({"x": x.chunk(lat=1)}, attrs={"title": "t"})
    dataset.x.attrs["history"] = "older"
    before, graph = dataset.copy(deep=True), dataset.x.chunks
    files.save(dataset, path)
    xr.testing.assert_identical(dataset, before)
    assert dataset.x.chunks == graph
    assert dataset.attrs == {"title": "t"}


# --- history --------------------------------------------------------------------------

LINE = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ xlops {re.escape(xl.__version__)}: "


def test_history_of_an_array(x, path):
    back = round_trip(x.assign_attrs(history="first\nsecond"), path)
    first, second, last = back.attrs["history"].split("\n")
    assert (first, second) == ("first", "second")
    assert re.fullmatch(LINE + "saved x", last)
    told = dt.datetime.strptime(last.split()[0], "%Y-%m-%dT%H:%M:%S%z")
    assert abs(dt.datetime.now(dt.UTC) - told) < dt.timedelta(minutes=1)
    other = plain(path)
    assert other.attrs["history"] == back.attrs["history"]
    assert other.attrs["Conventions"] == "CF-1.11"
    assert "history" not in other.x.attrs


def test_history_through_operators(path):
    again = path.with_stem("again")
    air = files.open(AIR).isel(time=0)
    files.save(air.assign_attrs(history="measured"), path)
    air = files.open(path)
    files.save(xl.FirstDerivative(air.lat) @ air, again)
    lines = files.open(again).attrs["history"].splitlines()
    assert lines[0] == "measured"
    assert all(re.fullmatch(LINE + "saved air", line) for line in lines[1:])
    assert len(lines) == 3


def test_history_of_datasets_and_blocks(x, path):
    one, other = x.assign_attrs(history="a\nb"), x.assign_attrs(history="b\nc")
    dataset = xr.Dataset({"one": one, "other": other}, attrs={"history": "z\nz"})
    back = round_trip(dataset.assign_attrs(Conventions="CF-1.6"), path)
    lines = back.attrs["history"].split("\n")
    assert lines[:-1] == ["z", "z", "a", "b", "c"]
    assert re.fullmatch(LINE + "saved one, other", lines[-1])
    assert back.attrs["Conventions"] == "CF-1.6"
    assert "history" not in back.one.attrs
    assert files.open(path, "one").attrs["history"] == back.attrs["history"]

    blocks = round_trip({"one": one, "other": other}, path)
    for block in blocks.values():
        lines = block.attrs["history"].split("\n")
        assert lines[:-1] == ["a", "b", "c"]
        assert re.fullmatch(LINE + "saved blocks one, other", lines[-1])


def test_only_the_history_of_a_file_comes_along(x, tmp_path):
    path = tmp_path / "other.nc"
    dataset = xr.Dataset({"x": x}, attrs={"history": "global", "title": "T"})
    dataset.x.attrs["history"] = "own"
    dataset.to_netcdf(path, engine="h5netcdf")
    assert files.open(path).attrs == {"units": "K", "history": "global\nown"}


def test_our_own_mark_is_not_seen(x, path):
    for obj in (x, x.to_dataset(), {"a": x}):
        back = round_trip(obj, path)
        assert "xlops" not in json.dumps([str(a) for a in _attrs_of(back)])
    # and one that came in through another reader does not mislead
    files.save({"a": x, "b": x}, path)
    xr.testing.assert_identical(bare(round_trip(plain(path).assign(x=x), path)).x, x)


def _attrs_of(obj):
    arrays = obj.values() if isinstance(obj, dict) else [obj]
    return [key for array in arrays for key in array.attrs]


# --- all or nothing -------------------------------------------------------------------


def failing(error, before=2):
    """A Dask array of eight chunks, of which one after `before` others raises."""
    count = iter(range(100))

    def compute(block):
        if next(count) >= before:
            raise error
        return block

    data = da.zeros(8000, chunks=1000).map_blocks(compute, dtype=float, meta=np.ones(0))
    return xr.DataArray(data, dims="time", name="x")


@pytest.mark.parametrize("error", [ValueError("no luck"), KeyboardInterrupt()])
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
@pytest.mark.parametrize("first", [False, True])
def test_an_interruption_leaves_the_old_file(x, path, error, scheduler, first):
    if not first:
        files.save(x, path)
        path.with_name("y").write_text("other")
    before, names = content(path) if path.exists() else None, there(path.parent)
    with dask.config.set(scheduler=scheduler), pytest.raises(type(error)) as caught:
        files.save(failing(error), path)
    assert "as it was before" in " ".join(caught.value.__notes__)
    assert there(path.parent) == names
    if not first:
        assert content(path) == before
        xr.testing.assert_identical(bare(files.open(path)), x)


def test_tasks_that_outlive_an_interruption_write_nothing(path):
    started, release = threading.Event(), threading.Event()

    def compute(block, block_info=None):
        if block_info[0]["chunk-location"] == (0,):
            started.set()
            release.wait(10)
            return block
        started.wait(10)
        threading.Timer(0.1, release.set).start()
        raise KeyboardInterrupt

    data = da.zeros(20, chunks=10).map_blocks(compute, dtype=float, meta=np.ones(0))
    with dask.config.set(num_workers=2), pytest.raises(KeyboardInterrupt):
        files.save(xr.DataArray(data, dims="time"), path)
    release.wait(10)
    time.sleep(0.2)  # for what comes after `compute`
    assert there(path.parent) == []


@pytest.mark.parametrize("step", ["_write", "flush", "swap"])
def test_failures_around_the_write(x, path, step, monkeypatch):
    files.save(x, path)
    before = content(path)
    whole = getattr(writing, step)

    def broken(*args, **kwargs):
        if step == "_write":
            whole(*args, **kwargs)
        raise OSError("disk full")

    monkeypatch.setattr(writing, step, broken)
    with pytest.raises(OSError, match="disk full"):
        files.save(x + 1, path)
    assert content(path) == before
    assert there(path.parent) == [path.name]


@pytest.mark.parametrize("which", [0, 1])
def test_a_folder_that_cannot_be_swapped_is_put_back(x, tmp_path, which, monkeypatch):
    path = tmp_path / "x.zarr"
    files.save(x, path)
    before = content(path)
    rename, calls = os.rename, []

    def broken(*args):
        calls.append(args)
        if len(calls) == which + 1:
            raise KeyboardInterrupt
        rename(*args)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(KeyboardInterrupt):
        files.save(x + 1, path)
    monkeypatch.undo()
    assert content(path) == before
    assert there(tmp_path) == ["x.zarr"]


def test_the_name_appears_when_the_file_is_complete(path):
    seen = []

    def look(block):
        seen.append(path.exists())
        return block

    data = da.zeros(4, chunks=1).map_blocks(look, dtype=float, meta=np.ones(0))
    files.save(xr.DataArray(data, dims="time"), path)
    assert seen == [False] * 4
    assert there(path.parent) == [path.name]


def test_files_are_on_disk_before_they_get_their_name(x, path, monkeypatch):
    steps = []
    swap = writing.swap
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append("fsync"))
    monkeypatch.setattr(writing, "swap", lambda *a: (steps.append("swap"), swap(*a)))
    files.save(x, path)
    at = steps.index("swap")
    assert at >= 1
    assert steps[at + 1 :] == ["fsync"]  # the folder


def test_saving_over_the_source(x, path):
    files.save(x, path)
    for _ in range(3):
        files.save(files.open(path).chunk(lat=1) + 1, path)
    xr.testing.assert_equal(files.open(path), x + 3)
    files.save(files.open(path, chunks=None), path)
    xr.testing.assert_equal(files.open(path), x + 3)


def test_blocks_over_their_source(x, path):
    files.save({"a": x, "b": x.isel(lat=[0])}, path)
    files.save(files.open(path), path)
    xr.testing.assert_equal(files.open(path, "b"), x.isel(lat=[0]))


def test_one_kind_over_another(x, path):
    for obj in ({"a": x}, x, x.to_dataset(), {"b": x}):
        back = round_trip(obj, path)
        assert type(back) is type(obj)
    assert list(back) == ["b"]


def test_many_savers_at_once(x, path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: files.save(x.chunk(lat=1) + k, path), range(16)))
    assert there(path.parent) == [path.name]
    assert float((files.open(path) - x).std()) == 0


def test_dask_arrays_are_written_chunk_by_chunk(path):
    data = da.ones((50, 80_000), chunks=(1, 80_000)).map_blocks(np.copy)
    x = xr.DataArray(data, dims=("trace", "time"))
    with dask.config.set(num_workers=2):
        files.save(x[:2], path)  # imports
        tracemalloc.start()
        files.save(x, path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 0.25 * x.nbytes


def test_opening_and_checking_compute_nothing(x, path):
    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    files.save(x, path)
    with dask.config.set(scheduler=refuse):
        lazy = files.open(path) + 1
        with pytest.raises(FileError):
            files.save(lazy.assign_attrs(a=object()), path)
        with pytest.raises(FileError):
            files.save(lazy, path.with_suffix(".csv"))
        with pytest.raises(AssertionError, match="computed"):
            files.save(lazy, path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_on_a_cluster(x, tmp_path, suffix):
    from distributed import Client

    path = tmp_path / f"x{suffix}"
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None):
        files.save({"a": x.chunk(lat=1) + 1, "b": x.chunk(time=1)}, path)
        files.save(files.open(path, "a", chunks={"lat": 1}) + 1, path)
        xr.testing.assert_equal(files.open(path).compute(), x + 2)
    assert there(tmp_path) == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="modes and links as on Unix")
def test_mode_and_links(x, tmp_path):
    real, link = tmp_path / "real.nc", tmp_path / "link.nc"
    files.save(x, real)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(real.stat().st_mode) == 0o666 & ~umask
    real.chmod(0o640)
    link.symlink_to(real)
    files.save(x + 1, link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    xr.testing.assert_equal(files.open(real), x + 1)


def test_progress(x, path, capsys):
    files.save(x.chunk(lat=1), path)
    assert capsys.readouterr() == ("", "")
    files.save(x.chunk(lat=1), path, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"save {path.name}: 100%" in err


# --- files of others ------------------------------------------------------------------


def test_packed_data_of_others():
    air = files.open(str(AIR))
    assert (air.name, air.dims) == ("air", ("time", "lat", "lon"))
    assert air.attrs["units"] == "degK"
    reference = xr.open_dataset(AIR, engine="h5netcdf")
    xr.testing.assert_equal(air, reference.air)
    assert "history" not in air.attrs
    xr.testing.assert_identical(bare(files.open(AIR, "lat")), reference.lat)


def test_several_variables_of_others(x, tmp_path):
    path = tmp_path / "two.nc"
    dataset = xr.Dataset({"a": x, "b": x + 1})
    dataset.to_netcdf(path, engine="h5netcdf")
    xr.testing.assert_identical(files.open(path).compute(), dataset)
    xr.testing.assert_identical(files.open(path, "b").compute(), dataset.b)
    xr.Dataset(attrs={"a": 1}).to_netcdf(path, engine="h5netcdf")
    xr.testing.assert_identical(files.open(path), xr.Dataset(attrs={"a": 1}))


@pytest.mark.parametrize("name", ["x.nc", "x", "x.zarr", "x.dat"])
def test_netcdf_3_under_any_name(x, tmp_path, name):
    path = tmp_path / name
    x.astype("f4").to_dataset().to_netcdf(tmp_path / "3.nc", engine="scipy")
    (tmp_path / "3.nc").rename(path)
    assert path.read_bytes()[:3] == b"CDF"
    with scipy.io.netcdf_file(path, mmap=False) as file:
        assert file.variables["x"].data.dtype == ">f4"
    back = files.open(path)
    assert back.dtype == np.dtype("f4")
    xr.testing.assert_identical(back.compute(), x.astype("f4"))
    if name == "x.nc":
        files.save(back * 2, path)
        xr.testing.assert_equal(files.open(path).compute(), x.astype("f4") * 2)


def test_netcdf_4_under_another_name(x, tmp_path):
    files.save(x, tmp_path / "x.nc")
    (tmp_path / "x.nc").rename(tmp_path / "x.zarr")
    xr.testing.assert_equal(files.open(tmp_path / "x.zarr"), x)


def test_hdf5_without_names_of_dims(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(files.open(tmp_path / "x.h5"), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_zarr_of_others(x, tmp_path, version, consolidated):
    path = tmp_path / "folder"
    x.to_dataset().to_zarr(path, zarr_format=version, consolidated=consolidated)
    xr.testing.assert_identical(files.open(path).compute(), x)


def test_units_of_time_of_others(tmp_path):
    path = tmp_path / "x.nc"
    hours = xr.Variable("time", [1.0, 2.5], {"units": "hours"})
    time = xr.Variable("time", [0, 90], {"units": "minutes since 2000-01-01"})
    xr.Dataset({"delay": hours}, {"time": time}).to_netcdf(path, engine="h5netcdf")
    back = files.open(path)
    assert back.dtype == np.float64
    assert back.attrs == {"units": "hours"}
    assert back.time.values[1] == np.datetime64("2000-01-01T01:30")


# --- errors ---------------------------------------------------------------------------


def raises(words, kind=FileError):
    return pytest.raises(kind, match=words)


def test_errors_have_two_roots():
    with pytest.raises(OSError, match="there is no file absent") as caught:
        files.open("absent.nc")
    assert isinstance(caught.value, XlopsError)
    with pytest.raises(TypeError) as caught:
        files.open(3)
    assert isinstance(caught.value, XlopsError)


def test_no_such_file(x, tmp_path):
    files.save(x, tmp_path / "pressure.nc")
    with raises(r"there is no file .*presure.nc; did you mean 'pressure.nc'\?"):
        files.open(tmp_path / "presure.nc")
    with raises("there is no file .*q.nc$"):
        files.open(tmp_path / "q.nc")
    with raises("no file .*q.nc: its folder does not exist"):
        files.open(tmp_path / "absent" / "q.nc")
    with raises("is an address, expected a file on this machine"):
        files.open("https://example.org/x.nc")


@pytest.mark.parametrize("given", [b"x.nc", 3, None, ["x.nc"]])
def test_paths_of_other_types(x, given):
    with raises("xl.open: the path is .*, expected text or a pathlib.Path", DTypeError):
        files.open(given)
    with raises("xl.save: the path is .*, expected text or a pathlib.Path", DTypeError):
        files.save(x, given)


def test_home_folder(x, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    files.save(x, "~/x.nc")
    assert there(tmp_path) == ["x.nc"]
    xr.testing.assert_equal(files.open("~/x.nc"), x)


def test_files_of_other_formats(x, tmp_path):
    with raises("is a folder, expected a NetCDF file or Zarr"):
        files.open(tmp_path)
    for start in (b"", b"a,b\n1,2\n", b"PK\3\4"):
        (tmp_path / "x.nc").write_bytes(start)
        with raises("x.nc is neither NetCDF nor Zarr; read it with a package"):
            files.open(tmp_path / "x.nc")
    for start in (b"CDF\1", b"CDF\5\0\0\0\0", b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "x.nc").write_bytes(start + b"\0" * 8)
        with raises("x.nc cannot be read: "):
            files.open(tmp_path / "x.nc")
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / ".zgroup").write_text("{")
    with raises("x.zarr cannot be read as Zarr"):
        files.open(tmp_path / "x.zarr")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read all")
def test_files_without_the_right_to_read(x, tmp_path):
    files.save(x, tmp_path / "x.nc")
    (tmp_path / "x.nc").chmod(0)
    with raises("cannot be read: Permission denied"):
        files.open(tmp_path / "x.nc")


def test_a_truncated_file(x, tmp_path):
    path = tmp_path / "x.nc"
    files.save(x, path)
    path.write_bytes(path.read_bytes()[:-100])
    with raises("x.nc cannot be read: "):
        files.open(path)


def test_a_file_without_the_variable(x, path):
    files.save(xr.Dataset({"pressure": x, "velocity": x}), path)
    with raises(
        r"no variable 'presure'; it has 'pressure', 'velocity', 'lat'; "
        r"did you mean 'pressure'\?"
    ):
        files.open(path, "presure")
    files.save(x, path)
    with raises("x.* has no variable 'time.year'; it has 'x', 'lat'$"):
        files.open(path, "time.year")
    files.save({"data": x, "slope": x}, path)
    with raises("has no block 'x'; it has 'data', 'slope'$"):
        files.open(path, "x")


def test_chunks_that_mean_nothing(x, path):
    files.save(x, path)
    with raises("cannot be read: "):
        files.open(path, chunks={"lat": "many"})


class Evil:
    def __reduce__(self):
        return (print, ("code has run",))


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize(
    ("dtype", "filters", "compressor"),
    [
        ("|O", [{"id": "vlen-utf8"}, {"id": "pickle"}], None),
        ("|O", [{"id": "vlen-utf8"}], {"id": "pickle"}),
        ("|O", [{"id": "pickle"}], None),
        ("<f8", None, {"id": "pickle"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_unpickled(
    tmp_path, capsys, monkeypatch, dtype, filters, compressor, consolidated
):
    pickles = pytest.importorskip("numcodecs.pickles")
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    array = tmp_path / "x.zarr" / "x"
    array.mkdir(parents=True)
    metadata = {
        ".zgroup": {"zarr_format": 2},
        "x/.zattrs": {"_ARRAY_DIMENSIONS": ["x"]},
        "x/.zarray": {
            "zarr_format": 2,
            "shape": [2],
            "chunks": [2],
            "dtype": dtype,
            "compressor": compressor,
            "filters": filters,
            "fill_value": None,
            "order": "C",
        },
    }
    for name, value in metadata.items():
        (tmp_path / "x.zarr" / name).write_text(json.dumps(value))
    if consolidated:
        text = json.dumps({"zarr_consolidated_format": 1, "metadata": metadata})
        (tmp_path / "x.zarr" / ".zmetadata").write_text(text)
    (array / "0").write_bytes(pickle.dumps(Evil()))
    with raises("pickle"):
        files.open(tmp_path / "x.zarr")
    assert capsys.readouterr().out == ""


def test_zarr_is_an_extra(x, tmp_path, monkeypatch):
    path = tmp_path / "x.zarr"
    files.save(x, path)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with raises(r'x.zarr needs the package zarr: pip install "xlops\[zarr\]"'):
        files.open(path)
    with raises(r'x.zarr needs the package zarr: pip install "xlops\[zarr\]"'):
        files.save(x, path)
    files.save(x, tmp_path / "x.nc")
    files.open(tmp_path / "x.nc")


@pytest.mark.parametrize("name", ["x", "x.csv", "x.nc.gz", ".nc"])
def test_unknown_suffixes(x, tmp_path, name):
    with raises(r"its suffix should say the format, expected one of '.nc', .* got '.*'"):
        files.save(x, tmp_path / name)
    assert there(tmp_path) == []


@pytest.mark.parametrize("suffix", [".nc4", ".netcdf", ".h5", ".NC", ".Zarr"])
def test_other_suffixes(x, tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    xr.testing.assert_equal(round_trip(x, path), x)
    assert path.is_dir() == (suffix == ".Zarr")


def test_output_folders(x, path, tmp_path):
    absent = tmp_path / "absent" / path.name
    with raises(r"cannot save to .*: the folder .*absent does not exist; make it first"):
        files.save(x, absent)
    (tmp_path / "file").write_text("")
    with raises("file is a file, not a folder"):
        files.save(x, tmp_path / "file" / path.name)
    with raises("does not exist; make it first"):
        files.save(x, tmp_path / "file" / "deeper" / path.name)
    path.mkdir()
    (path / "notes").write_text("")
    with raises("cannot save to .*: that is there and is .*; choose another name"):
        files.save(x, path)
    assert there(path) == ["notes"]


def test_output_folders_without_the_right_to_write(x, path, monkeypatch):
    denied = [path.parent]
    monkeypatch.setattr(os, "access", lambda p, mode: pathlib.Path(p) not in denied)
    with raises(f"the folder {re.escape(str(path.parent))} cannot be written"):
        files.save(x, path)
    denied.clear()
    files.save(x, path)
    denied.append(path)
    with raises("that is there and write-protected"):
        files.save(x, path)
    denied.clear()

    def full(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(writing.tempfile, "mkdtemp", full)
    with raises(r"cannot write in .*: Read-only file system"):
        files.save(x, path)


def test_a_zarr_file_or_a_device_is_not_replaced(x, tmp_path):
    (tmp_path / "x.zarr").write_text("precious")
    with raises("that is there and is not Zarr"):
        files.save(x, tmp_path / "x.zarr")
    assert (tmp_path / "x.zarr").read_text() == "precious"
    if os.name != "nt":
        os.mkfifo(tmp_path / "x.nc")
        with raises("that is there and is not a plain file"):
            files.save(x, tmp_path / "x.nc")


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1},
        None,
        object(),
        True,
        np.bool_(True),
        [True, False],
        [1, "a"],
        [[1], [1, 2]],
        2**70,
        {1},
        np.datetime64("2000"),
        pd.Timestamp("2000"),
        "a\0b",
        "\ud800",
        b"\xff",
        np.longdouble(1),
        [None],
        np.array([["a"]]),
    ],
    ids=lambda value: repr(value).split(" at ")[0],  # without an address
)
def test_attributes_that_netcdf_does_not_hold(x, tmp_path, value):
    path = tmp_path / "x.nc"
    kind = type(value).__name__
    with raises(f"attribute 'made' of 'x' is {kind}, .* text or a number, or remove it"):
        files.save(x.assign_attrs(made=value), path)
    with raises("attribute 'made' of 'lat' is"):
        x.lat.attrs["made"] = value
        files.save(x, path)
    del x.lat.attrs["made"]
    with raises("attribute 'made' of the Dataset is"):
        files.save(x.to_dataset().assign_attrs(made=value), path)
    with raises("attribute 'made' of 'x' of block 'b' is"):
        files.save({"a": x, "b": x.assign_attrs(made=value)}, path)
    with raises("attribute 'made' of the array is"):
        files.save(x.rename(None).assign_attrs(made=value), path)
    assert there(tmp_path) == []


@pytest.mark.parametrize("value", [object(), {1}, 1j, np.datetime64("2000"), b"\xff"])
def test_attributes_that_json_does_not_hold(x, tmp_path, value):
    with raises("attribute 'made' of 'x' is .*, which the file cannot hold"):
        files.save(x.assign_attrs(made=value), tmp_path / "x.zarr")
    assert there(tmp_path) == []


@pytest.mark.parametrize("key", ["scale_factor", "_FillValue", "coordinates", "dtype"])
def test_attributes_that_would_change_values(x, path, key):
    with raises(f"attribute '{key}' of 'x' is one by which files encode"):
        files.save(x.assign_attrs({key: 2.0}), path)


def test_attributes_of_dates(x, path):
    x = x.assign_coords(time=pd.date_range("2000", periods=3))
    x.time.attrs["units"] = "hours"
    with raises("attribute 'units' of 'time' is one by which files encode"):
        files.save(x, path)


@pytest.mark.parametrize("key", [3, "", None])
def test_names_of_attributes(x, path, key):
    with raises(f"attribute {key!r} of 'x' is not named by text"):
        files.save(x.assign_attrs({key: 1}), path)


@pytest.mark.parametrize("name", [3, ("a", "b")])
def test_names_that_are_not_text(x, path, name):
    with raises("is not named by text; rename it"):
        files.save(x.rename(name), path)
    with raises("dim .* is not named by text; rename it"):
        files.save(x.rename({"time": name}), path)
    with raises("block .* is not named by text; rename it"):
        files.save({name: x}, path)


@pytest.mark.parametrize("name", ["a/b", "", ".", "..", ".zattrs", "a\0b"])
def test_names_that_files_do_not_keep(x, path, name):
    with raises("variable .* has a name that files cannot keep"):
        files.save(x.rename(name), path)
    with raises("dim .* has a name that files cannot keep"):
        files.save(x.rename(time=name), path)
    with raises("block .* has a name that files cannot keep"):
        files.save({"a": x, name: x}, path)


@pytest.mark.parametrize("name", ["a b", " a", "a\n"])
def test_coordinates_with_spaces(x, path, name):
    with raises("coordinate .* has a space in its name, .*; rename it"):
        files.save(x.assign_coords({name: 3}), path)
    renamed = x.rename(lat=name)  # of dims there is no list
    xr.testing.assert_identical(bare(round_trip(renamed, path)), renamed)


def test_a_multi_index(path):
    pairs = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", "n"])
    coords = xr.Coordinates.from_pandas_multiindex(pairs, "pair")
    x = xr.DataArray(np.arange(4.0), coords, ["pair"], "x")
    with raises(r"dim 'pair' has a MultiIndex, .*; save .reset_index\('pair'\)"):
        files.save(x, path)
    back = round_trip(x.reset_index("pair"), path)
    xr.testing.assert_equal(back.k, x.reset_index("pair").k)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("values", [[{}, {}], [1, "a"], ["a", None], [b"a", "a"]])
def test_objects(path, values, lazy):
    x = xr.DataArray(np.array(values, dtype=object), dims="x", name="x")
    with raises("'x' holds Python objects .*, expected numbers, text or d", DTypeError):
        files.save(x.chunk(x=1) if lazy else x, path)
    assert there(path.parent) == []


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(2, np.longdouble),
        np.zeros(2, np.clongdouble),
        np.zeros(2, "f8, i4"),
        pd.Categorical(["a", "b"]),
    ],
    ids=["longdouble", "clongdouble", "structured", "categorical"],
)
def test_types_that_files_do_not_hold(path, values):
    x = xr.DataArray(values, dims="x", name="x")
    with raises("'x' is of type .*, which the file cannot hold", DTypeError):
        files.save(x, path)


def test_half_precision(tmp_path):
    x = xr.DataArray(np.arange(3, dtype="f2"), dims="x", name="x")
    with raises("'x' is of type float16, .* convert it with .astype", DTypeError):
        files.save(x, tmp_path / "x.nc")
    assert round_trip(x, tmp_path / "x.zarr").dtype == np.float16


def test_other_arrays(path):
    class Other:
        shape, ndim, dtype = (2,), 1, np.dtype(float)
        __array_namespace__ = __array_function__ = __array_ufunc__ = None

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("converted")

    x = xr.DataArray(xr.Variable("x", Other()), name="x")
    with raises("'x' is held in .*Other, expected NumPy or Dask; convert", DTypeError):
        files.save(x, path)


@pytest.mark.parametrize(
    "obj", [3, None, "x", [1], np.zeros(3), xr.DataTree(), xr.Variable("x", [1])], ids=repr
)
def test_things_that_cannot_be_saved(path, obj):
    words = f"expected a DataArray, a Dataset, .* got {type(obj).__name__}"
    with raises(words, DTypeError):
        files.save(obj, path)
    if isinstance(obj, np.ndarray):
        with raises("name its dims with xr.DataArray", DTypeError):
            files.save(obj, path)


def test_blocks_that_cannot_be_saved(x, path):
    with raises("there is nothing to save, the mapping is empty"):
        files.save({}, path)
    with raises("block 'b' is ndarray, expected a DataArray", DTypeError):
        files.save({"a": x, "b": x.values}, path)
    assert there(path.parent) == []


def test_importing_loads_no_file_formats():
    code = """
import sys
from xlops import files
from xlops.files import writing
heavy = "cf_xarray distributed h5netcdf h5py netCDF4 pint_xarray scipy.io tqdm zarr"
print(*(name for name in heavy.split() if name in sys.modules), end="")
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert files.open is not builtins.open
