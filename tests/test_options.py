"""Settings: one place, and inside a ``with`` block."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import xarray as xr

import xlops as xl
from xlops.options import options

DEFAULTS = {"display_width": 88, "progress": False}


@pytest.fixture(autouse=True)
def _restored():
    before = vars(options()).copy()
    yield
    xl.set_options(**before)


def now():
    return {name: getattr(options(), name) for name in DEFAULTS}


def test_defaults():
    assert now() == DEFAULTS
    assert set(vars(options())) == set(DEFAULTS)


def test_for_good():
    xl.set_options(display_width=100)
    assert now() == DEFAULTS | {"display_width": 100}
    xl.set_options(progress=True)
    assert now() == {"display_width": 100, "progress": True}
    xl.set_options()
    assert now() == {"display_width": 100, "progress": True}


def test_inside_a_block():
    with xl.set_options(display_width=60) as nothing:
        assert nothing is None
        assert options().display_width == 60
        with xl.set_options(progress=True, display_width=70):
            assert now() == {"display_width": 70, "progress": True}
        assert now() == {"display_width": 60, "progress": False}
    assert now() == DEFAULTS


def test_blocks_end_with_errors():
    with pytest.raises(KeyError), xl.set_options(progress=True):
        raise KeyError
    assert now() == DEFAULTS


def test_unknown_settings():
    with pytest.raises(TypeError, match="'progess'") as caught:
        xl.set_options(progess=True)
    for name in DEFAULTS:
        assert name in str(caught.value)
    with pytest.raises(TypeError):
        xl.set_options(display_width=60, wrong=1)
    assert now() == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("display_width", 39),
        ("display_width", 0),
        ("display_width", -88),
        ("display_width", 88.0),
        ("display_width", "88"),
        ("display_width", None),
        ("display_width", True),
        ("progress", 1),
        ("progress", "yes"),
        ("progress", None),
    ],
)
def test_values_that_a_setting_cannot_take(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        xl.set_options(**{name: value})
    assert isinstance(caught.value, xl.XlopsError)
    assert repr(value) in str(caught.value)
    assert now() == DEFAULTS
    with pytest.raises(ValueError, match=name):
        xl.set_options(**{"progress": True, "display_width": 60, name: value})
    assert now() == DEFAULTS


def test_the_settings_in_force_cannot_be_changed_otherwise():
    with pytest.raises(AttributeError):
        options().progress = True


def test_progress_is_what_solvers_follow(capfd):
    y = xr.DataArray(np.arange(4.0), dims="x")
    with xl.set_options(progress=True):
        xl.cgls(xl.Identity(y), y)
    assert "cgls" in capfd.readouterr().err
    xl.cgls(xl.Identity(y), y)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("width", [40, 60, 88, 120])
def test_width_is_kept(width):
    x = xr.DataArray(
        np.zeros((2, 3, 4)),
        dims=("a_long_name_of_a_dim", "another_long_name_of_a_dim", "time"),
        coords={"time": np.arange(4.0)},
    )
    A = xl.Identity(x) + xl.Mask(x > 0) + 2.5 * xl.Diagonal(x)
    with xl.set_options(display_width=width):
        for thing in (A @ A, xl.VStack({"first": A, "second": A @ A})):
            assert max(map(len, repr(thing).splitlines())) <= width


def test_settings_hold_in_threads():
    seen = []
    with xl.set_options(display_width=60):
        thread = threading.Thread(target=lambda: seen.append(options().display_width))
        thread.start()
        thread.join()
    assert seen == [60]


def test_importing_configures_nothing():
    code = """
import logging, warnings, dask, numpy, xarray, pint
before = (
    dict(dask.config.config), numpy.geterr(), list(warnings.filters),
    dict(xarray.get_options()), logging.root.handlers[:], logging.root.level,
)
import xlops
after = (
    dict(dask.config.config), numpy.geterr(), list(warnings.filters),
    dict(xarray.get_options()), logging.root.handlers[:], logging.root.level,
)
assert before == after
assert not logging.getLogger("xlops").handlers
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
