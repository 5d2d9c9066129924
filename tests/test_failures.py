"""Errors inside a chain: which operator failed, on the labels of which piece."""

import dask
import numpy as np
import pytest
import xarray as xr

import xlops as xl
from xlops.elementary import Elementary
from xlops.space import Space
from xlops.windows.rules import Pointwise


class Fragile(Elementary):
    """Refuses values above 99."""

    def __init__(self, x: xr.DataArray) -> None:
        space = Space.of(x)
        super().__init__(
            space,
            space,
            window=Pointwise(),
            forward=checked,
            adjoint=checked,
            params={},
            name="fragile",
        )


def checked(block, out):
    if np.max(np.abs(block.data), initial=0) > 99:
        raise ArithmeticError("too large")
    out[...] = block.data


@pytest.fixture
def d() -> xr.DataArray:
    """100 in the sample at offset 75 m, 2.0 s."""
    values = np.zeros((6, 400))
    values[3, 200] = 100
    return xr.DataArray(
        values,
        dims=("offset", "time"),
        coords={
            "offset": ("offset", 25.0 * np.arange(6), {"units": "m"}),
            "time": ("time", 0.01 * np.arange(400), {"units": "s"}),
        },
    )


def chain(d):
    """Six operators, of which one in the middle fails."""
    S = xl.Smoothing1D(d.time, 3)
    W = xl.Diagonal(xr.full_like(d.time, 6.0).drop_attrs())
    M = xl.Mask(d > -1)
    return W @ S @ Fragile(d.time) @ M @ S @ W


def note_of(error) -> str:
    (note,) = [n for n in error.__notes__ if "fragile" in n]
    return note


def between(note: str, dim: str) -> tuple[float, float]:
    """The labels that a note gives along a dim."""
    words = note[note.index(f"{dim} ") :].split(" [", maxsplit=1)[0].split(" ")
    numbers = [float(w) for w in words if w.replace(".", "").isdigit()]
    return numbers[0], numbers[-1]


def assert_tells(note: str) -> None:
    assert "operator fragile" in note
    low, high = between(note, "offset")
    assert low <= 75 <= high
    low, high = between(note, "time")
    assert low <= 2.0 <= high
    assert " m [" in note
    assert " s [" in note


def test_on_numpy(d):
    with pytest.raises(ArithmeticError, match="too large") as caught:
        chain(d) @ d
    assert_tells(note_of(caught.value))


def test_in_tiles_on_threads(d):
    wide = d.isel(offset=np.arange(6).repeat(300))
    wide = wide.assign_coords(offset=("offset", np.arange(1800.0), {"units": "m"}))
    with pytest.raises(ArithmeticError) as caught:
        chain(wide) @ wide
    note = note_of(caught.value)
    low, high = between(note, "offset")
    assert low < 1200
    assert high >= 900
    assert high - low < 1799


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_on_dask(d, scheduler):
    y = chain(d) @ d.chunk(offset=2, time=50)
    with dask.config.set(scheduler=scheduler), pytest.raises(ArithmeticError) as caught:
        y.compute()
    note = note_of(caught.value)
    assert_tells(note)
    assert between(note, "offset") == (50, 75)
    low, high = between(note, "time")
    assert high - low < 0.6


def test_adjoint(d):
    y = chain(d).H @ d.chunk(time=50)
    with pytest.raises(ArithmeticError) as caught:
        y.compute(scheduler="sync")
    note = note_of(caught.value)
    assert "fragile (adjoint)" in note
    low, high = between(note, "time")
    assert low <= 2.0 <= high


def test_on_a_cluster(d):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster),
        pytest.raises(ArithmeticError, match="too large") as caught,
    ):
        (chain(d) @ d.chunk(offset=2, time=50)).compute()
    assert_tells(note_of(caught.value))


def test_labels_travel_light(d):
    import pickle

    from xlops.axis import MANY, Axis, Place

    def travelled(labels, attrs=None):
        variable = xr.Variable("time", labels, attrs or {})
        return pickle.dumps(Place(Axis("time", len(labels), variable)))

    even = travelled(np.arange(100_000) * 0.5, {"units": "s", "long_name": "t" * 9999})
    assert len(even) < 500
    assert pickle.loads(even)(slice(10, 21)) == "time 5 … 10 s [10:21]"
    many = travelled(np.cumsum(np.random.default_rng(0).random(10_000)))
    assert len(many) < 500
    assert pickle.loads(many)(slice(10, 21)) == "time [10:21]"
    few = travelled(np.array(["a", "b", "c"]))
    assert pickle.loads(few)(slice(0, 2)) == "time a … b [0:2]"
    assert pickle.loads(few)(slice(1, 2)) == "time b [1:2]"
    dates = travelled(np.datetime64("2020-01-01") + np.arange(MANY))
    assert pickle.loads(dates)(slice(0, 1)) == "time 2020-01-01 [0:1]"


def test_without_labels():
    x = xr.DataArray(np.full(5, 100.0), dims="time")
    with pytest.raises(ArithmeticError) as caught:
        Fragile(x) @ x
    assert "time [0:5]" in note_of(caught.value)
