"""What is refused before any work, what is warned of, and what works all the same."""

import contextlib
import re
import warnings

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pint
import pytest
import xarray as xr

import xlops as xl

# --- helpers --------------------------------------------------------------------------


@pytest.fixture
def gather():
    """A small gather, (offset, time), in Pa."""
    rng = np.random.default_rng(3)
    return xr.DataArray(
        rng.standard_normal((4, 16)),
        dims=("offset", "time"),
        coords={
            "time": ("time", 0.004 * np.arange(16), {"units": "s"}),
            "offset": ("offset", [0.0, 10.0, 25.0, 50.0], {"units": "m"}),
        },
        attrs={"units": "Pa"},
        name="pressure",
    )


@contextlib.contextmanager
def nothing_computed():
    """Dask must not compute inside."""

    def refuse(*args, **kwargs):
        raise AssertionError("Dask has computed something")

    with dask.config.set(scheduler=refuse):
        yield


@contextlib.contextmanager
def refused(error, builtin, *words):
    """An error of a kind, with words that help, raised before anything is computed."""
    with nothing_computed(), pytest.raises(error) as caught:
        yield caught
    assert issubclass(error, xl.XlopsError)
    check_message(caught.value, builtin, *words)


def check_message(error, builtin, *words):
    message = str(error)
    assert isinstance(error, builtin)
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    assert 10 < len(message) < 600, message
    assert "array(" not in message
    assert not re.search(r"\[\s*-?\d+\.?\d*(e[+-]?\d+)?,?\s+-?\d", message), message


def on_all(x):
    """The same array on NumPy and on Dask, in one chunk and in several."""
    return {"numpy": x, "one": x.chunk(), "split": x.chunk(dict.fromkeys(x.dims, 3))}


def relabeled(x, dim, labels, **attrs):
    return x.assign_coords({dim: (dim, labels, attrs or x[dim].attrs)})


def spoiled(labels, how):
    """Labels with one mistake, at index 5."""
    labels = np.array(labels)
    labels[5] = {"nan": np.nan, "repeated": labels[4], "unsorted": -1.0}[how]
    return labels


class Duck:
    """An array of a library that xlops does not know."""

    def __init__(self, values):
        self.values = np.asarray(values)

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.values.dtype

    @property
    def ndim(self):
        return self.values.ndim

    @property
    def size(self):
        return self.values.size

    def __getitem__(self, index):
        return Duck(self.values[index])

    def __array_function__(self, *args):
        return NotImplemented

    def __array_ufunc__(self, *args, **kwargs):
        return NotImplemented

    def __array__(self, *args, **kwargs):
        raise AssertionError("the values were taken out")


WHERE = ["numpy", "one", "split"]
ALONG_TIME = {
    "FirstDerivative": lambda x: xl.FirstDerivative(x.time),
    "SecondDerivative": lambda x: xl.SecondDerivative(x.time),
    "FFT": lambda x: xl.FFT(x.time, real=True),
    "Restriction": lambda x: xl.Restriction(x.time, [1, 2, 9]),
    "Identity": lambda x: xl.Identity(x.time),
    "Diagonal": lambda x: xl.Diagonal(x.isel(offset=0, drop=True), name="Diagonal(time)"),
    "Mask": lambda x: xl.Mask(x.isel(offset=0, drop=True) > 0),
    "Zero": lambda x: xl.Zero(x.time),
    "product": lambda x: xl.FirstDerivative(x.time) @ xl.Identity(x.time),
    "sum": lambda x: xl.Identity(x.time) + xl.Identity(x.time),
    "scaled": lambda x: 2 * xl.Identity(x.time),
    "stack": lambda x: xl.VStack({"time": xl.Identity(x.time)}),
}
along_time = pytest.mark.parametrize("make", ALONG_TIME.values(), ids=ALONG_TIME)
where = pytest.mark.parametrize("where", WHERE)


# --- labels of the data ---------------------------------------------------------------


@along_time
@where
def test_missing_dim(gather, make, where):
    A = make(gather)
    x = on_all(gather.isel(time=0))[where]
    with refused(xl.LabelError, ValueError, "time", str(A), "missing", "'offset'"):
        A @ x


@along_time
@where
def test_other_size(gather, make, where):
    A = make(gather)
    x = on_all(gather.isel(time=slice(0, 12)))[where]
    expected, got = "16 × 0.004 s [0 … 0.06]", "12 × 0.004 s [0 … 0.044]"
    with refused(xl.LabelError, ValueError, str(A), "'time'", expected, got, ".sel"):
        A @ x


@along_time
@where
def test_shifted_labels(gather, make, where):
    A = make(gather)
    x = on_all(relabeled(gather, "time", gather.time.values + 0.002))[where]
    words = (
        str(A),
        "'time'",
        "index 0",
        "0.002 where 0 is expected",
        "16 × 0.004 s [0 … 0.06]",
        "16 × 0.004 s [0.002 … 0.062]",
        ".interp",
        "build the operator from this data",
    )
    with refused(xl.LabelError, ValueError, *words):
        A @ x


def test_first_difference_is_shown(gather):
    labels = gather.time.values.copy()
    labels[11:] += 1e-3
    with refused(
        xl.LabelError, ValueError, "FirstDerivative(time)", "index 11", "0.045", "0.044"
    ):
        xl.FirstDerivative(gather.time) @ relabeled(gather, "time", labels)


@along_time
@where
def test_reversed_labels(gather, make, where):
    A = make(gather)
    x = on_all(gather.isel(time=slice(None, None, -1)))[where]
    got = "16 × -0.004 s [0.06 … 0]"
    words = (str(A), "'time'", "reverse", got, "slice(None, None, -1)")
    with refused(xl.LabelError, ValueError, *words):
        A @ x


@along_time
@where
def test_coordinate_units_that_differ(gather, make, where):
    A = make(gather)
    x = on_all(relabeled(gather, "time", gather.time.values, units="ms"))[where]
    with refused(xl.LabelError, ValueError, str(A), "'time'", "'ms'", "'s'", "convert"):
        A @ x


def test_no_labels_where_the_operator_has_some(gather):
    with refused(
        xl.LabelError, ValueError, "FirstDerivative(time)", "no labels", ".assign_coords"
    ):
        xl.FirstDerivative(gather.time) @ gather.drop_vars("time")


def test_sizes_count_where_the_operator_has_no_labels(gather):
    D = xl.FirstDerivative(gather.drop_vars("time").time)
    np.testing.assert_array_equal((D @ gather).time, gather.time)
    with refused(xl.LabelError, ValueError, "FirstDerivative(time)", "16", "15"):
        D @ gather.isel(time=slice(15))


def test_data_of_the_adjoint_are_checked_too(gather):
    R = xl.Restriction(gather.offset, [0, 2])
    with refused(xl.LabelError, ValueError, "Restriction(offset).H", "'offset'"):
        R.H @ gather
    F = xl.FFT(gather.time)
    with refused(xl.LabelError, ValueError, "FFT(time).H", "freq_time", "missing"):
        F.H @ gather


def test_name_of_the_operator_is_used(gather):
    D = xl.FirstDerivative(gather.time, name="slope")
    with refused(xl.LabelError, ValueError, "slope: dim 'time' is missing"):
        D @ gather.isel(time=0)


def test_dim_made_twice_with_data(gather):
    F = xl.FFT(gather.offset[:2], dim="time")
    with refused(xl.LabelError, ValueError, "FFT(offset)", "'time'", "rename"):
        F @ gather[:2]


# --- operators that do not meet -------------------------------------------------------


def other_labels(gather):
    return {
        "size": gather.isel(time=slice(12)),
        "shifted": relabeled(gather, "time", gather.time.values + 0.002),
        "reversed": gather.isel(time=slice(None, None, -1)),
        "units": relabeled(gather, "time", gather.time.values, units="ms"),
    }


@pytest.mark.parametrize("how", ["size", "shifted", "reversed", "units"])
def test_operators_that_do_not_meet(gather, how):
    D = xl.FirstDerivative(gather.time, name="outer")
    E = xl.SecondDerivative(other_labels(gather)[how].time, name="inner")
    words = ("outer", "inner", "do not meet", "'time'", "16 × 0.004 s [0 … 0.06]")
    for combine in (
        lambda: D @ E,
        lambda: E @ D,
        lambda: xl.VStack({"outer": D, "inner": E}),
        lambda: (1 / pint.Quantity(1, "s")) * D + E,
    ):
        with refused(xl.LabelError, ValueError, words[3], words[4], "do not meet"):
            combine()
    with refused(xl.LabelError, ValueError, *words):
        D @ E


def test_dim_consumed_upstream(gather):
    D, F = xl.FirstDerivative(gather.time), xl.FFT(gather.time, real=True)
    words = ("FirstDerivative(time)", "FFT(time)", "'time'", "consumed", "rename")
    with refused(xl.LabelError, ValueError, *words):
        D @ F
    with refused(xl.LabelError, ValueError, "FFT(time)", "'time'", "consumed"):
        F @ F


def test_dim_made_twice(gather):
    regular = relabeled(gather, "offset", np.arange(4.0))
    over_time = xl.FFT(regular.time)
    over_offset = xl.FFT(regular.offset, dim="freq_time")
    words = ("FFT(offset)", "FFT(time)", "'freq_time'", "already", "rename")
    with refused(xl.LabelError, ValueError, *words):
        over_offset @ over_time
    made = xl.FFT(regular.offset, dim="time")
    words = ("FFT(offset)", "FirstDerivative(time)", "'time'", "already")
    with refused(xl.LabelError, ValueError, *words):
        made @ xl.FirstDerivative(regular.time)


def test_dim_made_twice_in_a_sum_or_stack(gather):
    regular = relabeled(gather, "offset", np.arange(4.0))
    made = xl.FFT(regular.offset, dim="time")
    with refused(xl.LabelError, ValueError, "FFT(offset)", "'time'", "already"):
        xl.VStack({"a": made, "b": xl.Identity(regular.time)})


def test_sum_of_other_ranges(gather):
    D, F = xl.FirstDerivative(gather.time), xl.FFT(gather.time)
    with refused(xl.LabelError, ValueError, "Identity(time)", "FFT(time)", "added"):
        xl.Identity(gather.time) + F
    with refused(xl.LabelError, ValueError, "FirstDerivative(time)"):
        xl.Restriction(gather.time, [1, 2]) * pint.Quantity(1, "1/s") + D


def test_power_of_an_operator_that_leaves_its_space(gather):
    with refused(xl.LabelError, ValueError, "FFT(time)", "powers", "freq_time"):
        xl.FFT(gather.time) ** 2


def test_complex_made_where_real_is_needed(gather):
    F = xl.FFT(gather.time, real=True)
    imaginary = 1j * xl.Identity(gather.time)
    with refused(xl.XlopsError, (ValueError, TypeError), "FFT(time)", "complex", "real"):
        F @ imaginary


def test_blocks_that_do_not_meet(gather):
    V = xl.VStack({"a": xl.Identity(gather.time), "b": xl.Identity(gather.time)})
    W = xl.VStack({"a": xl.Identity(gather.time), "c": xl.Identity(gather.time)})
    with refused(xl.LabelError, ValueError, "a, b", "a, c", "do not meet"):
        W.H @ V
    with refused(xl.LabelError, ValueError, "blocks", "do not meet"):
        xl.Identity(gather.time) @ V
    with refused(xl.LabelError, ValueError, "cannot be added", "a (", "c ("):
        V + W
    with refused(xl.LabelError, ValueError, "cannot be added"):
        V + xl.Identity(gather.time)


def test_blocks_that_are_missing_or_too_many(gather):
    V = xl.VStack({"a": xl.Identity(gather.time), "b": xl.Identity(gather.time)})
    with refused(xl.LabelError, ValueError, "VStack(a, b).H", "'a', 'b'"):
        V.H @ {"a": gather}
    with refused(xl.LabelError, ValueError, "VStack(a, b).H", "'c'"):
        V.H @ {"a": gather, "b": gather, "c": gather}
    with refused(xl.DTypeError, TypeError, "VStack(a, b).H", "mapping", "DataArray"):
        V.H @ gather
    with refused(xl.LabelError, ValueError, "block 'b'", "'time'"):
        V.H @ {"a": gather, "b": gather.isel(time=slice(3))}


def test_stack_arguments(gather):
    with refused(xl.LabelError, ValueError, "VStack", "at least one"):
        xl.VStack({})
    with refused(xl.DTypeError, TypeError, "VStack", "'a'", "DataArray", "operator"):
        xl.VStack({"a": gather})
    with refused(xl.DTypeError, TypeError, "VStack", "strings", "3"):
        xl.VStack({3: xl.Identity(gather)})
    V = xl.VStack([xl.Identity(gather)])
    with refused(xl.LabelError, ValueError, "'inner'", "blocks"):
        xl.VStack({"inner": V})


# --- spacing --------------------------------------------------------------------------


def test_irregular_axis_in_fft(gather):
    labels = gather.time.values.copy()
    labels[7] += 0.001
    x = relabeled(gather, "time", labels)
    for kwargs in ({}, {"real": True}, {"nfft": 32}):
        words = ("FFT(time)", "'time'", "0.024", "0.029", "0.005 s", "0.004 s", ".interp")
        with refused(xl.LabelError, ValueError, "step 6", *words):
            xl.FFT(x.time, **kwargs)


def test_irregular_dates_in_fft():
    dates = pd.to_datetime(["2000-01-01", "2000-02-01", "2000-03-01", "2000-04-01"])
    x = xr.DataArray(np.zeros(4), dims="time", coords={"time": dates})
    with refused(xl.LabelError, ValueError, "step 1", "2000-02-01", "2000-03-01"):
        xl.FFT(x.time)


@pytest.mark.parametrize("how", ["nan", "repeated", "unsorted"])
@pytest.mark.parametrize("operator", [xl.FirstDerivative, xl.SecondDerivative, xl.FFT])
def test_labels_without_spacing(gather, operator, how):
    x = relabeled(gather, "time", spoiled(gather.time.values, how))
    at = "label 5" if how == "nan" else "label 4"
    remedy = {
        "nan": ".dropna('time')",
        "repeated": ".drop_duplicates('time')",
        "unsorted": ".sortby('time')",
    }[how]
    words = (f"{operator.__name__}(time)", "'time'", how, at, remedy)
    with refused(xl.LabelError, ValueError, *words):
        operator(x.time)


@pytest.mark.parametrize("how", ["nan", "repeated", "unsorted"])
@where
def test_labels_without_spacing_where_none_is_needed(gather, how, where):
    labels = spoiled(gather.time.values, how)
    x = on_all(relabeled(gather, "time", labels))[where]
    keep, weights = x.isel(offset=0) > 0, x.isel(offset=1)
    expected = {
        xl.Identity(x.time): gather.values,
        xl.Mask(keep): np.where(gather.values[0] > 0, gather.values, 0),
        xl.Diagonal(weights): gather.values * gather.values[1],
        xl.Zero(x.time): np.zeros((4, 16)),
        xl.Restriction(x.time, [9, 5, 2]): gather.values[:, [9, 5, 2]],
        xl.Identity(x.time) + xl.Mask(keep): gather.values
        + np.where(gather.values[0] > 0, gather.values, 0),
    }
    for A, values in expected.items():
        y = A @ x
        np.testing.assert_array_equal(y.values, values)
        picked = labels[[9, 5, 2]] if isinstance(A, xl.Restriction) else labels
        np.testing.assert_array_equal(y.time.values, picked)
        back = A.H @ y
        np.testing.assert_array_equal(back.time.values, labels)
        assert back.time.attrs == {"units": "s"}
        assert repr(A)


def test_not_a_time_in_the_labels(gather):
    dates = pd.date_range("2000-01-01", periods=16).to_series().to_numpy().copy()
    dates[4] = np.datetime64("NaT")
    x = relabeled(gather, "time", dates)
    with refused(xl.LabelError, ValueError, "FirstDerivative(time)", "label 4", "NaT"):
        xl.FirstDerivative(x.time)
    np.testing.assert_array_equal((xl.Identity(x.time) @ x).time.values, dates)


def test_labels_that_are_names(gather):
    names = np.array(list("abcdefghijklmnop"))
    x = relabeled(gather, "time", names)
    for operator in (xl.FirstDerivative, xl.SecondDerivative, xl.FFT):
        words = (f"{operator.__name__}(time)", "neither numbers nor times", "numeric")
        with refused(xl.LabelError, ValueError, *words):
            operator(x.time)


@pytest.mark.parametrize(
    ("make", "needed"),
    [
        (xl.FirstDerivative, 3),
        (lambda t: xl.FirstDerivative(t, kind="forward"), 2),
        (lambda t: xl.FirstDerivative(t, order=5), 5),
        (xl.SecondDerivative, 3),
        (lambda t: xl.SecondDerivative(t, kind="backward"), 3),
        (lambda t: xl.SecondDerivative(t, order=5), 5),
    ],
)
def test_axis_shorter_than_the_difference(gather, make, needed):
    words = (f"at least {needed} samples", f"got {needed - 1}", "'time'", "Derivative")
    with refused(xl.LabelError, ValueError, *words):
        make(gather.time[: needed - 1])
    assert (make(gather.time[:needed]) @ gather[:, :needed]).shape == (4, needed)


# --- units ----------------------------------------------------------------------------


def test_units_that_do_not_add(gather):
    D, D2 = xl.FirstDerivative(gather.time), xl.SecondDerivative(gather.time)
    words = ("FirstDerivative(time)", "SecondDerivative(time)", "s-1", "s-2", "quantity")
    for combine in (lambda: D + D2, lambda: D - D2, lambda: D + D + D2):
        with refused(xl.UnitError, ValueError, *words):
            combine()


def test_adjoint_of_a_stack_whose_units_do_not_add(gather):
    D, D2 = xl.FirstDerivative(gather.time), xl.SecondDerivative(gather.time)
    V = xl.VStack({"first": D, "second": D2})
    made = V @ gather.chunk()
    words = ("VStack(first, second)", "'first'", "'second'", "s-2", "s-4")
    with refused(xl.UnitError, ValueError, *words):
        V.H @ made
    with refused(xl.UnitError, ValueError, *words):
        _ = V.gram


def test_blocks_in_solvers_whose_units_do_not_add(gather):
    D, D2 = xl.FirstDerivative(gather.time), xl.SecondDerivative(gather.time)
    V = xl.VStack({"first": D, "second": D2})
    called = []
    made = V @ gather.chunk()
    with refused(xl.UnitError, ValueError, "'first'", "'second'", "s-1", "s-2"):
        xl.cgls(V, made, callback=called.append)
    same = xl.VStack({"a": xl.Identity(gather), "b": xl.Identity(gather)})
    blocks = {"a": gather.chunk(), "b": gather.chunk().assign_attrs(units="m")}
    with refused(xl.UnitError, ValueError, "'a'", "'b'", "Pa", "m"):
        xl.cgls(same, blocks, callback=called.append)
    assert not called


def test_eps_of_the_wrong_unit(gather):
    L = xl.SecondDerivative(gather.time)
    called = []
    with refused(xl.UnitError, ValueError, "'smooth'", "SecondDerivative", "m", "s2"):
        xl.regularized_inversion(
            xl.Identity(gather),
            gather.chunk(),
            {"smooth": (L, pint.Quantity(3.0, "m"))},
            callback=called.append,
        )
    assert not called


@pytest.mark.parametrize("eps", [np.nan, np.inf, 1j, [1.0, 2.0], "a", None])
def test_eps_that_is_no_number(gather, eps):
    L = xl.SecondDerivative(gather.time)
    with refused(xl.XlopsError, (ValueError, TypeError), "'smooth'", "eps"):
        xl.regularized_inversion(xl.Identity(gather), gather.chunk(), {"smooth": (L, eps)})


def test_eps_with_units_where_the_axis_has_none(gather):
    bare = gather.assign_coords(time=("time", gather.time.values))
    L = xl.SecondDerivative(bare.time)
    with refused(xl.UnitError, ValueError, "'smooth'", "coordinate", "bare number"):
        xl.regularized_inversion(
            xl.Identity(bare), bare.chunk(), {"smooth": (L, pint.Quantity(3.0, "s**2"))}
        )


# --- data -----------------------------------------------------------------------------

NOT_NUMBERS = {
    "object": (object, "objects"),
    "text": ("U8", "text"),
    "bytes": ("S8", "bytes"),
    "datetime64": ("M8[ns]", "dates"),
    "timedelta64": ("m8[ns]", "durations"),
}


@along_time
@pytest.mark.parametrize(("dtype", "word"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_data_that_are_no_numbers(gather, make, dtype, word):
    A = make(gather)
    for x in on_all(gather.astype(dtype)).values():
        with refused(xl.DTypeError, TypeError, str(A), "numbers", word):
            A @ x


@pytest.mark.skipif(np.longdouble().itemsize <= 8, reason="longdouble is double here")
@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
@along_time
def test_extended_precision(gather, make, dtype):
    A, name = make(gather), np.dtype(dtype).name
    for x in on_all(gather.astype(dtype)).values():
        with refused(xl.DTypeError, TypeError, str(A), "double precision", name, "astype"):
            A @ x


@where
def test_complex_data_into_a_real_operator(gather, where):
    F = xl.FFT(gather.time, real=True)
    x = on_all(gather + 1j * gather)[where]
    words = ("FFT(time)", "real", "complex128", ".real")
    with refused(xl.DTypeError, TypeError, *words):
        F @ x
    with refused(xl.DTypeError, TypeError, "real", "complex128"):
        (2 * F) @ x
    with refused(xl.DTypeError, TypeError, "real", "complex128"):
        (xl.Diagonal((F @ gather).real) @ F @ xl.FirstDerivative(gather.time)) @ x


@along_time
@where
def test_empty_batch_dim(gather, make, where):
    A = make(gather)
    x = on_all(gather.isel(offset=slice(0, 0)))[where]
    with refused(xl.LabelError, ValueError, str(A), "'offset'", "empty"):
        A @ x


def test_empty_axis_of_the_operator(gather):
    empty = gather.isel(time=slice(0, 0))
    for make in (
        xl.FirstDerivative,
        xl.SecondDerivative,
        xl.FFT,
        xl.Identity,
        lambda t: xl.Restriction(t, [0]),
    ):
        with refused(xl.LabelError, ValueError, "'time'", "empty"):
            make(empty.time)
    for operator in (xl.Diagonal, xl.Zero):
        with refused(xl.LabelError, ValueError, "time", "empty"):
            operator(empty)
    with refused(xl.LabelError, ValueError, "Mask", "time", "empty"):
        xl.Mask(empty > 0)
    with refused(xl.LabelError, ValueError, "FirstDerivative(time)", "'time'"):
        xl.FirstDerivative(gather.time) @ empty


@along_time
def test_other_duck_arrays(gather, make):
    A = make(gather)
    x = gather.copy(data=Duck(gather.values))
    with refused(xl.DTypeError, TypeError, str(A), "NumPy and Dask", "Duck", "as_numpy"):
        A @ x


def test_operators_built_from_other_duck_arrays(gather):
    weights = gather.copy(data=Duck(gather.values))
    keep = gather.copy(data=Duck(gather.values > 0))
    with refused(xl.DTypeError, TypeError, "Diagonal", "NumPy", "Dask", "Duck"):
        xl.Diagonal(weights)
    with refused(xl.DTypeError, TypeError, "Mask", "NumPy", "Dask", "Duck"):
        xl.Mask(keep)
    indices = xr.DataArray(Duck([1, 2]), dims="time")
    with refused(xl.DTypeError, TypeError, "Restriction(time)"):
        xl.Restriction(gather.time, indices)


def test_other_duck_arrays_in_solvers(gather):
    y = gather.copy(data=Duck(gather.values))
    for method in (xl.cgls, xl.cg, xl.solve):
        with refused(xl.DTypeError, TypeError, "NumPy and Dask", "Duck"):
            method(xl.Identity(gather), y)


def test_masked_arrays_become_nan(gather):
    # xarray itself turns them into arrays with NaN.
    masked = np.ma.masked_array(gather.values, gather.values > 1)
    x = gather.copy(data=masked)
    expected = np.where(gather.values > 1, np.nan, gather.values)
    np.testing.assert_array_equal((xl.Identity(x) @ x).values, expected)


def test_memory_maps_are_numpy(gather, tmp_path):
    values = np.memmap(tmp_path / "values", dtype="f8", mode="w+", shape=(4, 16))
    values[:] = gather.values
    D = xl.FirstDerivative(gather.time)
    y = D @ gather.copy(data=values)
    np.testing.assert_array_equal(y.values, (D @ gather).values)
    assert type(y.data) is np.ndarray


@along_time
@pytest.mark.parametrize("given", ["ndarray", "list", "Variable", "NoneType", "str"])
def test_things_without_labels(gather, make, given):
    A = make(gather)
    x = {
        "ndarray": gather.values,
        "list": gather.values.tolist(),
        "Variable": gather.variable,
        "NoneType": None,
        "str": "gather.nc",
    }[given]
    words = (str(A), "DataArray", given)
    if given == "ndarray":
        words += ("name its dims with xr.DataArray",)
    with refused(xl.DTypeError, TypeError, *words):
        A.apply(x)
    if given != "str":
        with refused(xl.DTypeError, TypeError, *words):
            A @ x


@along_time
def test_dataset_is_for_the_accessor(gather, make):
    A = make(gather)
    with refused(xl.DTypeError, TypeError, str(A), "Dataset", "ds.lops.apply"):
        A @ gather.to_dataset()


@along_time
@pytest.mark.parametrize("scalar", [3, 3.0, 3j, np.float64(3.0), np.float32(3.0)])
def test_matmul_with_a_scalar(gather, make, scalar):
    A = make(gather)
    with refused(xl.DTypeError, TypeError, str(A), "3", "*", "scale"):
        A @ scalar
    with pytest.raises(TypeError):
        scalar @ A
    with refused(xl.DTypeError, TypeError, str(A), "*", "scale"):
        A @ pint.Quantity(3, "s")


def test_adding_what_is_no_operator(gather):
    A = xl.Identity(gather)
    for other in (1, 1.0, gather, gather.values):
        with pytest.raises(TypeError):
            A + other
        with pytest.raises(TypeError):
            A - other
        with pytest.raises(TypeError):
            other + A
    for other in ("a", None):
        with pytest.raises(TypeError):
            A * other
    with pytest.raises(TypeError):
        gather.values * A


def test_scaling_by_what_is_not_finite(gather):
    A = xl.Identity(gather, name="one")
    for number in (np.inf, np.nan, complex(0, np.inf), pint.Quantity(np.nan, "s")):
        with refused(xl.ArgumentError, ValueError, "one", "scaled"):
            _ = number * A
    with pytest.raises(ZeroDivisionError):
        A / 0


# --- chunks ---------------------------------------------------------------------------


def of_unknown_chunks(gather):
    """The rows of a gather whose first sample is positive: nobody knows how many."""
    data = gather.chunk(offset=2).data
    return data[data[:, 0] > 0]


@along_time
def test_unknown_chunk_sizes(gather, make):
    A = make(gather)
    x = xr.DataArray(
        of_unknown_chunks(gather), dims=gather.dims, coords={"time": gather.time}
    )
    with refused(xl.ChunkError, ValueError, "chunks", "not known", "compute_chunk_sizes"):
        A @ x
    # so that the remedy works
    x.data.compute_chunk_sizes()
    assert dask.is_dask_collection(A @ x) or isinstance(A, xl.VStack)


@pytest.mark.parametrize("operator", [xl.Identity, xl.Diagonal, xl.Mask, xl.Zero])
def test_operator_from_unknown_chunk_sizes(gather, operator):
    x = xr.DataArray(of_unknown_chunks(gather), dims=gather.dims)
    x = x > 0 if operator is xl.Mask else x
    with refused(xl.ChunkError, ValueError, operator.__name__, "compute_chunk_sizes"):
        operator(x)


def test_unknown_chunk_sizes_in_solvers(gather):
    y = xr.DataArray(
        of_unknown_chunks(gather), dims=gather.dims, coords={"time": gather.time}
    )
    with refused(xl.ChunkError, ValueError, "not known", "compute_chunk_sizes"):
        xl.cgls(xl.Identity(gather.time), y)


# --- arguments of operators -----------------------------------------------------------


def test_operators_are_built_from_coordinates(gather):
    for operator in (
        xl.FirstDerivative,
        xl.SecondDerivative,
        xl.FFT,
        lambda c: xl.Restriction(c, [0]),
    ):
        for given in (gather.time.values, "time", 0.004, None, gather.to_dataset()):
            with refused(xl.DTypeError, TypeError, "coordinate", type(given).__name__):
                operator(given)
        with refused(xl.LabelError, ValueError, "'offset' and 'time'", "one dim"):
            operator(gather)
        with refused(xl.LabelError, ValueError, "no dim", "d.time"):
            operator(gather.time[0])


def test_auxiliary_coordinate_in_place_of_the_dim(gather):
    x = gather.assign_coords(trace=("offset", [1, 2, 3, 4]))
    for operator in (xl.FirstDerivative, xl.SecondDerivative, xl.FFT):
        words = (operator.__name__, "'trace'", "'offset'", ".swap_dims(offset='trace')")
        with refused(xl.LabelError, ValueError, *words):
            operator(x.trace)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda t: xl.FirstDerivative(t, kind="centred"),
            ("kind", "'centered'", "centred"),
        ),
        (lambda t: xl.FirstDerivative(t, "central"), ("kind", "'forward'", "'central'")),
        (lambda t: xl.SecondDerivative(t, kind=None), ("kind", "'backward'", "None")),
        (lambda t: xl.SecondDerivative(t, kind=["forward"]), ("kind", "'backward'")),
        (lambda t: xl.FirstDerivative(t, order=4), ("order", "3, 5", "4")),
        (lambda t: xl.SecondDerivative(t, order="3"), ("order", "3, 5", "'3'")),
        (lambda t: xl.FirstDerivative(t, edge="no"), ("edge", "True, False", "'no'")),
        (lambda t: xl.FFT(t, norm="backward"), ("norm", "'ortho'", "'1/n'", "backward")),
        (lambda t: xl.FFT(t, scaling="x"), ("scaling", "'plain'", "'x'")),
        (lambda t: xl.FFT(t, nfft=0), ("nfft", "at least 1", "0")),
        (lambda t: xl.FFT(t, nfft=-4), ("nfft", "at least 1", "-4")),
        (lambda t: xl.FFT(t, real=True, fftshift_after=True), ("fftshift_after", "order")),
    ],
)
def test_arguments_that_an_operator_does_not_take(gather, make, words):
    with refused(xl.ArgumentError, ValueError, "(time)", *words):
        make(gather.time)


@pytest.mark.parametrize("nfft", [8.0, 2.5, True, "8", [8], 1j])
def test_nfft_must_be_a_whole_number(gather, nfft):
    with refused(xl.DTypeError, TypeError, "FFT(time)", "nfft", "whole number"):
        xl.FFT(gather.time, nfft=nfft)


def test_frequency_dim_needs_a_name_of_its_own(gather):
    with refused(xl.LabelError, ValueError, "FFT(time)", "another name", "'time'"):
        xl.FFT(gather.time, dim="time")


@pytest.mark.parametrize(
    ("iava", "words"),
    [
        ([0, 16], ("index 16", "16 samples")),
        ([0, -17], ("index -17", "16 samples")),
        ([], ("empty",)),
        (np.array([], int), ("empty",)),
        (np.ones(5, bool), ("mask", "5", "16")),
        (np.zeros(16, bool), ("mask", "false everywhere")),
        (xr.DataArray(np.ones(16, bool), dims="offset"), ("mask", "'time'")),
        (
            xr.DataArray(np.ones(16, bool), dims="time", coords={"time": np.arange(16.0)}),
            ("mask", "'time'", "index 1"),
        ),
    ],
    ids=["high", "low", "empty", "none", "short", "false", "other dim", "other labels"],
)
def test_indices_that_do_not_fit(gather, iava, words):
    with refused(xl.LabelError, ValueError, "Restriction(time)", *words):
        xl.Restriction(gather.time, iava)


@pytest.mark.parametrize(
    ("iava", "words"),
    [
        ([0.5], ("indices or a mask", "float64", ".sel")),
        ([1.0, 2.0], ("indices or a mask", "float64")),
        ([1j], ("indices or a mask", "complex128")),
        (["a"], ("indices or a mask",)),
        (5, ("one dim",)),
        (None, ("one dim",)),
        ([[0, 1], [2, 3]], ("one dim", "2")),
        (da.from_array(np.array([1, 2])), ("lazy",)),
        (da.from_array(np.ones(16, bool)), ("lazy",)),
        (xr.DataArray([1, 2], dims="i").chunk(), ("lazy",)),
    ],
    ids=["half", "float", "complex", "text", "one", "none", "2d", "da", "mask", "lazy"],
)
def test_indices_that_are_none(gather, iava, words):
    with refused(xl.DTypeError, TypeError, "Restriction(time)", *words):
        xl.Restriction(gather.time, iava)


def test_weights_that_are_none(gather):
    with refused(xl.DTypeError, TypeError, "Diagonal", "DataArray", "ndarray"):
        xl.Diagonal(gather.values)
    with refused(xl.DTypeError, TypeError, "Diagonal", "numbers", "<U1"):
        xl.Diagonal(xr.DataArray(["a", "b"], dims="time"))
    with refused(xl.DTypeError, TypeError, "Mask", "True and False", "float64"):
        xl.Mask(gather)
    with refused(xl.DTypeError, TypeError, "Mask", "DataArray", "ndarray"):
        xl.Mask(gather.values > 0)
    for operator in (xl.Identity, xl.Zero):
        with refused(xl.DTypeError, TypeError, operator.__name__, "DataArray", "int"):
            operator(3)
    with refused(xl.DTypeError, TypeError, "name", "string", "int"):
        xl.Identity(gather, name=3)


def test_arrays_in_place_of_arguments(gather):
    # Their values are not shown.
    for given in (np.arange(2000.0), gather, gather.chunk().data):
        with refused(xl.ArgumentError, ValueError, "FirstDerivative(time)", "kind"):
            xl.FirstDerivative(gather.time, kind=given)
        with refused(xl.DTypeError, TypeError, "FFT(time)", "nfft"):
            xl.FFT(gather.time, nfft=given)
        with refused(xl.DTypeError, TypeError, "FFT(time)", "dim"):
            xl.FFT(gather.time, dim=given)
        with refused(xl.DTypeError, TypeError, "Identity", "power"):
            xl.Identity(gather) ** given
        with refused(xl.DTypeError, TypeError, "name", "string"):
            xl.Identity(gather, name=given)


@pytest.mark.parametrize("power", [-1, 0.5, 2.0, True, "2", None])
def test_powers_that_are_none(gather, power):
    with refused(xl.DTypeError, TypeError, "FirstDerivative(time)", "whole number"):
        xl.FirstDerivative(gather.time) ** power


def test_errors_inside_a_chain_name_the_operator(gather):
    def burst(block, out):
        raise RuntimeError("out of order")

    A = xl.Flip(gather.time, name="broken")  # an identity would vanish
    A._kernels = (burst, burst)
    D = xl.FirstDerivative(gather.time)
    for x in on_all(gather).values():
        for operator in (A, D @ A, A @ D, 2 * A, xl.VStack([A, D])):
            with pytest.raises(RuntimeError, match="out of order") as caught:
                dask.compute(operator @ x)
            assert any("broken" in note for note in caught.value.__notes__)


# --- warnings -------------------------------------------------------------------------


def recorded(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    return result, caught


@pytest.mark.parametrize("unit", ["gAPI", "degree_C", "1e-3", "m/s/", "???"])
@pytest.mark.parametrize("chain", ["single", "product", "sum", "adjoint", "stack"])
def test_unit_that_cannot_be_parsed_and_would_change(gather, unit, chain):
    D = xl.FirstDerivative(gather.time, name="slope")
    A = {
        "single": D,
        "product": D @ D,
        "sum": D + D,
        "adjoint": D.H,
        "stack": xl.VStack([D, D]),
    }[chain]
    for x in on_all(gather.assign_attrs(units=unit, long_name="rays")).values():
        y, caught = recorded(lambda x=x: A @ x)
        assert len(caught) == 1
        assert caught[0].category is xl.UnitWarning
        assert caught[0].filename == __file__
        check_message(caught[0].message, xl.XlopsWarning, repr(unit), "dropped")
        for block in y.values() if isinstance(y, dict) else [y]:
            assert block.attrs == {"long_name": "rays"}


@pytest.mark.parametrize("method", ["cgls", "cg", "regularized"])
def test_one_warning_from_a_solver(gather, method):
    t = gather.time
    D2 = -xl.SecondDerivative(t)
    y = gather.assign_attrs(units="gAPI")
    solution, caught = recorded(
        {
            "cgls": lambda: xl.cgls(D2, y, niter=2, callback=lambda s: s.x is not None),
            "cg": lambda: xl.cg(D2, y, niter=2),
            "regularized": lambda: xl.regularized_inversion(
                D2, y, {"slope": (xl.FirstDerivative(t), 0.1)}, niter=2
            ),
        }[method]
    )
    assert [str(w.message).count("gAPI") for w in caught] == [1]
    assert "units" not in solution.x.attrs


@pytest.mark.parametrize("unit", ["gAPI", "degree_C", "1e-3", "1E11 e/m^3", "???", ""])
def test_unit_that_cannot_be_parsed_and_does_not_change(gather, unit):
    x = gather.assign_attrs(units=unit)
    I, R, M = xl.Identity(x), xl.Restriction(x.time, [1, 2]), xl.Mask(x > 0)
    plain = xl.Diagonal(x.drop_attrs())
    one = xl.Diagonal(x.drop_attrs().assign_attrs(units="1"))
    for A in (I, R, M, 2 * I, I + M, R @ M, plain, one, xl.FFT(x.time), R.gram, I.H):
        y, caught = recorded(lambda A=A: A @ x)
        assert not caught
        assert y.attrs["units"] == unit


def test_no_units_no_warning(gather):
    x = gather.drop_attrs(deep=False)
    D = xl.FirstDerivative(x.time)
    y, caught = recorded(lambda: D @ x)
    assert not caught
    assert y.attrs == {}


# --- what works -----------------------------------------------------------------------

INTEGERS = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"]


@pytest.mark.parametrize(
    ("dtype", "where"),
    [(dtype, "numpy") for dtype in INTEGERS]
    + [("?", "one"), ("u8", "one"), ("i2", "split"), (">i4", "split")],
)
def test_integers_and_booleans(gather, dtype, where):
    values = np.round(20 * np.abs(gather.values)).astype(dtype)
    x = on_all(gather.copy(data=values))[where]
    keep = gather > 0
    selections = {
        xl.Identity(x): values,
        xl.Restriction(x.time, [1, 1, 9]): values[:, [1, 1, 9]],
        xl.Mask(keep): np.where(keep.values, values, np.zeros((), values.dtype)),
        xl.Zero(x): np.zeros_like(values),
        xl.Restriction(x.time, [3]) @ xl.Mask(keep): np.where(keep.values, values, 0)[
            :, [3]
        ],
    }
    for A, expected in selections.items():
        y = A @ x
        assert y.dtype == values.dtype.newbyteorder("=")
        assert y.values.dtype == y.dtype
        np.testing.assert_array_equal(y.values, expected)

    real, step = values.astype(np.float64), 0.004
    slope = np.zeros(values.shape)
    slope[:, 1:-1] = (real[:, 2:] - real[:, :-2]) / (2 * step)
    others = {
        2 * xl.Identity(x): 2 * real,
        -xl.Identity(x): -real,
        xl.Identity(x) + xl.Identity(x): real + real,
        xl.Identity(x) + xl.Mask(keep): real + np.where(keep.values, real, 0),
        xl.Identity(x) - xl.Identity(x): np.zeros(real.shape),
        xl.Diagonal(gather.drop_attrs()): gather.values * real,
        xl.FirstDerivative(x.time): slope,
        xl.Restriction(x.time, [2, 2, 2]).gram: np.where(np.arange(16) == 2, 3 * real, 0),
    }
    for A, expected in others.items():
        y = A @ x
        assert y.dtype == np.float64
        assert y.values.dtype == y.dtype
        np.testing.assert_allclose(y.values, expected, rtol=1e-14, atol=1e-13)
    spectrum = xl.FFT(x.time) @ x
    assert spectrum.dtype == np.complex128
    np.testing.assert_allclose(spectrum, np.fft.fft(real, norm="ortho"), atol=1e-11)


@where
def test_integers_do_not_overflow_when_added(where):
    x = on_all(xr.DataArray(np.full((2, 5), 100, np.int8), dims=("a", "time")))[where]
    I = xl.Identity(x)
    V = xl.VStack({"one": I, "two": I})
    for y in ((I + I) @ x, V.gram @ x, V.H @ (V @ x)):
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y.values, 200.0)
    R = xl.Restriction(x.time, [0, 0, 0])
    np.testing.assert_array_equal((R.H @ (R @ x)).values[:, 0], 300.0)


@where
def test_dim_without_a_coordinate(gather, where):
    x = on_all(gather.drop_vars("time"))[where]
    y = xl.FirstDerivative(x.time, kind="forward") @ x
    np.testing.assert_allclose(y.values[:, :-1], np.diff(gather.values), rtol=1e-15)
    assert "time" not in y.coords
    assert y.attrs["units"] == "Pa"
    spectrum = xl.FFT(x.time) @ x
    np.testing.assert_allclose(spectrum.freq_time, np.fft.fftfreq(16), rtol=1e-15)
    chosen = xl.Restriction(x.time, [3, 1]) @ x
    np.testing.assert_array_equal(chosen.values, gather.values[:, [3, 1]])
    assert "time" not in chosen.coords


@where
def test_one_sample(gather, where):
    x = on_all(gather.isel(time=[5], offset=[2]))[where]
    value = float(gather[2, 5])
    expected = {
        xl.Identity(x): value,
        xl.Diagonal(x): value**2,
        xl.Mask(gather.isel(time=[5], offset=[2]) > 99): 0.0,
        xl.Restriction(x.time, [0]): value,
        xl.Restriction(x.time, [True]): value,
        xl.FFT(x.time): value,
        xl.FFT(x.time, real=True): value,
        xl.FFT(x.time, real=True, norm="none", scaling="plain"): value,
        xl.Zero(x): 0.0,
    }
    for A, number in expected.items():
        y = A @ x
        assert y.shape == (1, 1)
        assert y.values.item() == pytest.approx(number, rel=1e-15)
        assert xl.dottest(A, like=x)
        assert (A.H @ y).indexes["time"].equals(gather.indexes["time"][[5]])


def test_one_sample_padded(gather):
    x = gather.isel(time=[5])
    y = xl.FFT(x.time, nfft=4, norm="none") @ x
    np.testing.assert_allclose(y.values, np.repeat(x.values, 4, axis=1), rtol=1e-15)


@along_time
def test_one_sample_along_batch_dims(gather, make):
    A = make(gather)
    if isinstance(A, xl.VStack):
        A = A.gram
    whole = (A @ gather).values
    for i in range(4):
        for x in on_all(gather.isel(offset=[i])).values():
            np.testing.assert_allclose((A @ x).values, whole[[i]], rtol=1e-15)


@along_time
def test_one_sample_per_chunk(gather, make):
    A = make(gather)
    if isinstance(A, xl.VStack):
        A = A.gram
    y = A @ gather
    lazy = A @ gather.chunk(time=1, offset=1)
    np.testing.assert_allclose(lazy.values, y.values, rtol=1e-14, atol=1e-15)
    back = A.H @ lazy
    np.testing.assert_allclose(back.values, (A.H @ y).values, rtol=1e-13, atol=1e-12)


def test_celsius(gather):
    x = gather.assign_attrs(units="degC", standard_name="air_temperature")
    I, M, R = xl.Identity(x), xl.Mask(x > 0), xl.Restriction(x.time, [0, 3])
    for A in (I, R, R @ I, I @ I, R @ I):
        assert (A @ x).attrs == x.attrs
    delta = xr.DataArray(1.0, attrs={"units": "delta_degC"})
    for A in (M, 2 * I, I - M, xl.FFT(x.time), M @ I, R.gram):
        y = A @ x
        assert y.attrs == {"units": delta.attrs["units"]}
    slope = xl.FirstDerivative(x.time) @ x
    assert slope.attrs == {"units": "delta_degC s-1"}
    # a difference stays what it is
    assert (M @ (M @ x)).attrs["units"] == "delta_degC"


AXES = {
    "descending": np.linspace(75.0, 15.0, 13),
    "datetime64": np.datetime64("2014-02-24", "ns")
    + np.arange(13) * np.timedelta64(6, "h"),
    "datetime64[s]": np.datetime64("2014-02-24", "s")
    + np.arange(13) * np.timedelta64(21600, "s"),
    "falling dates": np.datetime64("2014-02-24", "ns")
    - np.arange(13) * np.timedelta64(6, "h"),
    "timedelta64": np.arange(13) * np.timedelta64(90, "m").astype("m8[ns]"),
    "cftime": xr.date_range(
        "2001-01-30", periods=13, freq="D", calendar="360_day", use_cftime=True
    ).to_numpy(),
    "cftime monthly": xr.date_range(
        "2001-01-01", periods=13, freq="MS", calendar="noleap", use_cftime=True
    ).to_numpy(),
    "integers": np.arange(13) * 3 - 7,
    "unsigned": (np.arange(13)[::-1] * 3).astype("u1"),
    "float32": np.linspace(0, 1, 13, dtype="f4"),
    "uneven": np.arange(13.0) ** 2,
}


def in_seconds(labels):
    """Labels as numbers, by a way of our own."""
    if labels.dtype.kind in "mM":
        return (labels - labels[0]).astype("m8[ns]").astype(np.float64) / 1e9
    if labels.dtype == object:
        return np.array([(v - labels[0]).total_seconds() for v in labels])
    return labels.astype(np.float64)


@pytest.mark.parametrize("axis", AXES)
@where
def test_axes_of_all_kinds(axis, where):
    labels = AXES[axis]
    numbers = in_seconds(labels)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 13))
    x = on_all(xr.DataArray(values, dims=("b", "t"), coords={"t": labels}))[where]
    y = xl.FirstDerivative(x.t, kind="forward") @ x
    expected = np.zeros_like(values)
    expected[:, :-1] = np.diff(values) / np.diff(numbers)
    scale = np.abs(expected).max()
    rounding = 1e-6 if axis == "float32" else 1e-14
    np.testing.assert_allclose(y.values, expected, rtol=0, atol=rounding * scale)
    assert y.indexes["t"].equals(x.indexes["t"])
    back = xl.FirstDerivative(x.t).H @ y
    assert back.t.identical(x.t)
    parabola = x.copy(data=np.broadcast_to(numbers**2, (2, 13)))
    curved = (xl.SecondDerivative(x.t) @ parabola).values[:, 1:-1]
    np.testing.assert_allclose(curved, 2.0, rtol=1e-5 if axis == "float32" else 1e-9)


def test_dates_give_units_of_seconds():
    for axis in ("datetime64", "timedelta64", "cftime", "cftime monthly"):
        x = xr.DataArray(np.arange(13.0), dims="t", coords={"t": AXES[axis]})
        x.attrs["units"] = "K"
        assert (xl.FirstDerivative(x.t) @ x).attrs["units"] == "K s-1"
        assert (xl.SecondDerivative(x.t) @ x).attrs["units"] == "K s-2"


def test_shifted_dates(gather):
    for axis in ("datetime64", "timedelta64", "cftime"):
        x = xr.DataArray(np.arange(13.0), dims="t", coords={"t": AXES[axis]})
        moved = x.assign_coords(t=x.t.values + (x.t.values[1] - x.t.values[0]))
        with refused(xl.LabelError, ValueError, "FirstDerivative(t)", "index 0", ".sel"):
            xl.FirstDerivative(x.t) @ moved


@pytest.mark.parametrize("make", list(ALONG_TIME.values())[:-1], ids=list(ALONG_TIME)[:-1])
@where
def test_dims_in_any_order(gather, make, where):
    cube = xr.concat([gather, -2 * gather], pd.Index([1, 2], name="shot"))
    A = make(gather)
    straight = A @ cube
    for order in (("time", "shot", "offset"), ("offset", "time", "shot")):
        x = on_all(cube.transpose(*order))[where]
        y = A @ x
        made = tuple("freq_time" if d == "time" and d not in y.dims else d for d in order)
        assert y.dims == made
        xr.testing.assert_allclose(y.transpose(*straight.dims), straight, rtol=1e-14)
        assert (A.H @ y).dims == order


@where
def test_repeated_indices(gather, where):
    x = on_all(gather)[where]
    indices = [2, 9, 2, -7, 0, 2]
    R = xl.Restriction(x.time, indices)
    matrix = np.eye(16)[indices]
    y = R @ x
    np.testing.assert_array_equal(y.values, gather.values @ matrix.T)
    np.testing.assert_array_equal(y.time.values, gather.time.values[indices])
    back = R.H @ y
    np.testing.assert_allclose(back.values, y.values @ matrix, rtol=1e-15)
    assert back.time.identical(gather.time)


@where
def test_nan_stays_within_the_stencil(gather, where):
    values = gather.values.copy()
    values[1, 8] = np.nan
    x = on_all(gather.copy(data=values))[where]
    reach = {
        xl.FirstDerivative(x.time): {7, 9},
        xl.FirstDerivative(x.time, kind="forward"): {7, 8},
        xl.FirstDerivative(x.time, kind="backward"): {8, 9},
        xl.FirstDerivative(x.time, order=5): {6, 7, 9, 10},
        xl.SecondDerivative(x.time): {7, 8, 9},
        xl.SecondDerivative(x.time, order=5): {6, 7, 8, 9, 10},
        xl.SecondDerivative(x.time, kind="forward"): {6, 7, 8},
        xl.Identity(x): {8},
        xl.Diagonal(gather): {8},
        xl.Mask(gather.time > -1): {8},
    }
    for A, spoiled_at in reach.items():
        y = (A @ x).values
        assert set(np.flatnonzero(np.isnan(y[1]))) == spoiled_at
        assert not np.isnan(y[[0, 2, 3]]).any()
        back = (A.H @ x).values
        mirrored = {16 - at for at in spoiled_at}
        assert set(np.flatnonzero(np.isnan(back[1]))) == mirrored
    masked = xl.Mask(gather.time != gather.time[8]) @ x
    assert not np.isnan(masked.values).any()
    kept = xl.Restriction(gather.time, [7, 9]) @ x
    assert not np.isnan(kept.values).any()
    assert not np.isnan((xl.Zero(gather) @ x).values).any()


@where
def test_nan_at_the_ends(gather, where):
    # Rows that are zero do not read what they would not use.
    values = gather.values.copy()
    values[:, 0] = np.nan
    x = on_all(gather.copy(data=values))[where]
    for A, spoiled_at in {
        xl.FirstDerivative(x.time): {1},
        xl.FirstDerivative(x.time, edge=True): {0, 1},
        xl.FirstDerivative(x.time, kind="backward"): {1},
    }.items():
        assert set(np.flatnonzero(np.isnan((A @ x).values[0]))) == spoiled_at


@pytest.fixture
def stacked():
    """A MultiIndex of names and numbers along one dim, and a plain dim."""
    rng = np.random.default_rng(1)
    cube = xr.DataArray(
        rng.standard_normal((2, 3, 5)),
        dims=("station", "level", "time"),
        coords={"station": ["x", "y"], "level": [1, 2, 3], "time": np.arange(5.0)},
    )
    return cube, cube.stack(place=("station", "level"))


def test_multiindex_passes_through(stacked):
    cube, flat = stacked
    D = xl.FirstDerivative(flat.time)
    y = D @ flat
    assert y.indexes["place"].equals(flat.indexes["place"])
    assert y.place.identical(flat.place)
    xr.testing.assert_identical(y.unstack("place").transpose(*cube.dims), D @ cube)
    F = xl.FFT(flat.time)
    back = F.H @ (F @ flat)
    assert back.indexes["place"].equals(flat.indexes["place"])
    lazy = D @ flat.chunk(place=2)
    xr.testing.assert_identical(lazy.compute(), y)


def test_multiindex_under_operators(stacked):
    _, flat = stacked
    R = xl.Restriction(flat.place, [4, 1, 1])
    y = R @ flat
    assert list(y.indexes["place"]) == [("y", 2), ("x", 2), ("x", 2)]
    np.testing.assert_array_equal(y.values, flat.values[:, [4, 1, 1]])
    assert list(y.station.values) == ["y", "x", "x"]
    back = R.H @ y
    assert back.indexes["place"].equals(flat.indexes["place"])
    assert back.place.identical(flat.place)
    np.testing.assert_array_equal(back.values[:, 1], 2 * flat.values[:, 1])
    unstacked = (xl.Restriction(flat.place, [4, 1]) @ flat).unstack("place")
    assert set(unstacked.station.values) == {"x", "y"}
    for A in (xl.Identity(flat), xl.Diagonal(flat), xl.Mask(flat > 0)):
        assert (A @ flat).place.identical(flat.place)
        assert (A.H @ (A @ flat)).place.identical(flat.place)
    turned = flat.isel(place=slice(None, None, -1))
    with refused(xl.LabelError, ValueError, "Identity(place)", "reverse"):
        xl.Identity(flat.place) @ turned
    with refused(xl.LabelError, ValueError, "FirstDerivative(place)", "neither numbers"):
        xl.FirstDerivative(flat.place)


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">c16", ">c8"])
@where
def test_big_endian(gather, dtype, where):
    x = gather.astype(dtype)
    native = x.astype(np.dtype(dtype).newbyteorder("="))
    given = on_all(x)[where]
    D2, F, R = xl.SecondDerivative(x.time), xl.FFT(x.time), xl.Restriction(x.time, [3, 3])
    for A in (D2, F, R, xl.Identity(x), xl.Mask(gather > 0), xl.Diagonal(gather), D2 + D2):
        y, expected = A @ given, A @ native
        assert y.dtype == expected.dtype
        assert y.values.dtype == y.dtype
        assert y.dtype.isnative
        # Transforms of many rows at a time round otherwise than those of few.
        atol = 8 * np.finfo(y.dtype).eps if A is F else 0.0
        np.testing.assert_allclose(y.values, expected.values, rtol=0, atol=atol)
        back, given_back = (A.H @ y).values, (A.H @ expected).values
        np.testing.assert_allclose(back, given_back, rtol=0, atol=4 * atol)
    weights = xl.Diagonal(gather.astype(">f8")) @ gather
    np.testing.assert_array_equal(weights.values, gather.values**2)


@pytest.mark.parametrize("dtype", ["f2", ">f2"])
@where
def test_half_precision(gather, dtype, where):
    x = gather.astype(dtype)
    single = x.values.astype(np.float32)
    given = on_all(x)[where]
    for A in (xl.Identity(x), xl.Restriction(x.time, [3]), xl.Mask(gather > 0)):
        assert (A @ given).values.dtype == np.float16
    D = xl.FirstDerivative(x.time, kind="forward")
    y = D @ given
    assert y.values.dtype == np.float32
    expected = np.diff(single) / np.float32(0.004)
    np.testing.assert_allclose(y.values[:, :-1], expected, rtol=1e-6)
    assert (xl.FFT(x.time) @ given).values.dtype == np.complex64
    assert (xl.Diagonal(gather) @ given).values.dtype == np.float32
    assert (2 * xl.Identity(x) @ given).values.dtype == np.float32
    assert ((xl.Identity(x) + xl.Identity(x)) @ given).values.dtype == np.float32


def test_read_only_arrays(gather):
    x = gather.copy(deep=True)
    x.data.flags.writeable = False
    before = gather.values.copy()
    keep = gather > 0
    keep.data.flags.writeable = False
    operators = [make(x) for make in ALONG_TIME.values()] + [
        xl.Diagonal(x),
        xl.Mask(keep),
        xl.Restriction(x.time, [2, 2, 0]).gram,
        xl.FFT(x.time, nfft=32),
    ]
    for A in operators:
        y = A @ x
        expected = A @ gather
        for block in y if isinstance(y, dict) else [None]:
            mine = y if block is None else y[block]
            theirs = expected if block is None else expected[block]
            xr.testing.assert_identical(mine, theirs)
            assert mine.data.flags.writeable
            mine.data[:] = 7  # no result is a window on the input
    np.testing.assert_array_equal(x.values, before)


def test_arrays_that_are_not_contiguous(gather):
    rng = np.random.default_rng(8)
    big = rng.standard_normal((32, 3, 8))
    views = {
        "steps": big[::2, 1, ::2].T,
        "backwards": big[::-2, 1, ::-2].T,
        "fortran": np.asfortranarray(big[:16, 0, :4].T),
        "broadcast": np.broadcast_to(big[:16, 0, 0], (4, 16)),
    }
    for view in views.values():
        x, plain = gather.copy(data=view), gather.copy(data=np.array(view, order="C"))
        assert x.shape == (4, 16)
        for make in list(ALONG_TIME.values())[:-1]:
            A = make(gather)
            xr.testing.assert_identical(A @ x, A @ plain)
            y = A @ x
            xr.testing.assert_identical(A.H @ y[..., ::-1][..., ::-1], A.H @ y)


def test_names_pass_through(gather):
    x = gather.assign_coords(
        offset=list("abcd"),
        kind=("offset", ["near", "near", "far", "far"]),
        crew=("offset", np.array([None, "b", 3, "d"], dtype=object)),
        note="a survey",
    )
    for A in (xl.FirstDerivative(x.time), xl.FFT(x.time), xl.Restriction(x.time, [0, 2])):
        for given in on_all(x).values():
            y = A @ given
            for name in ("offset", "kind", "crew", "note"):
                assert y[name].variable.identical(x[name].variable)
            back = A.H @ y
            for name in ("offset", "kind", "crew", "note"):
                assert back[name].variable.identical(x[name].variable)
    chosen = xl.Restriction(x.offset, [3, 0]) @ x
    assert list(chosen.offset.values) == ["d", "a"]
    assert list(chosen.kind.values) == ["far", "near"]
    assert list(chosen.crew.values) == ["d", None]


def test_dims_that_are_no_strings():
    x = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=(0, ("a", 1)))
    y = xl.FirstDerivative(x[0].rename({("a", 1): "t"}).t, kind="forward")
    assert y.domain.dims == ("t",)
    D = xl.FirstDerivative(x.isel({0: 0}), kind="forward")
    np.testing.assert_array_equal((D @ x).values, [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert (D @ x.chunk()).dims == x.dims
    with refused(xl.LabelError, ValueError, "missing", "('a', 1)"):
        D @ x.isel({("a", 1): 0})


def test_pint_arrays_are_welcome(gather):
    registry = pint.UnitRegistry()
    x = gather.drop_attrs(deep=False)
    for data in (gather.values, gather.chunk(time=5).data):
        y = xl.FirstDerivative(x.time) @ x.copy(data=registry.Quantity(data, "Pa"))
        assert y.data.units == registry.Unit("Pa / s")
        assert type(y.data.magnitude) is type(data)
