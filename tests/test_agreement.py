"""What meets in operators and solvers has to agree, also where only the data say it."""

import threading

import numpy as np
import pytest
import xarray as xr

import xlops as xl


@pytest.fixture
def t():
    return xr.DataArray(np.arange(10.0), {"time": np.arange(10.0)}, dims="time")


@pytest.fixture
def bare():
    return xr.DataArray(np.linspace(1, 2, 5), dims="x")


def test_blocks_agree_on_dims_that_pass_through(t):
    V = xl.VStack({"a": xl.Identity(t), "b": xl.FirstDerivative(t.time)})
    x = (t * xr.DataArray(np.ones(3), {"shot": [0, 1, 2]}, dims="shot")).transpose()
    others = x.assign_coords(shot=[10, 11, 12])
    for blocks in (
        {"a": x, "b": others},
        {"a": x, "b": x.isel(shot=[0])},
        {"a": x, "b": t},
    ):
        with pytest.raises(xl.LabelError, match="blocks 'a' and 'b'"):
            V.H @ blocks
        with pytest.raises(xl.LabelError, match="blocks 'a' and 'b'"):
            xl.cgls(V, blocks)


def test_labels_that_only_the_data_have(bare):
    labeled = bare.assign_coords(x=np.arange(5.0))
    other = bare.assign_coords(x=np.arange(5.0) + 100)
    D = xl.Diagonal(bare)
    V = xl.VStack({"a": D, "b": D})
    for use in (
        lambda: V.H @ {"a": labeled, "b": other},
        lambda: xl.cgls(V, {"a": labeled, "b": other}),
        lambda: xl.cgls(D, labeled, x0=other),
        lambda: xl.cgls(D, labeled, x_ref=other, damp=1.0),
        lambda: (xl.Restriction(bare.x, [1, 3]) + xl.Restriction(bare.x, [2, 4])) @ labeled,
    ):
        with pytest.raises(xl.LabelError, match="other labels"):
            use()
    I = xl.Identity(labeled)
    P = xl.VStack({"a": I, "b": 3 * I}).H @ V
    np.testing.assert_array_equal((P @ labeled).values, 4 * bare.values * labeled.values)
    with pytest.raises(xl.LabelError, match="other labels"):
        P @ other


def test_auxiliary_coordinates_that_differ_are_left_out(bare):
    x = bare.assign_coords(cdp=("x", np.arange(5)))
    A = xl.Restriction(x.x, [1, 3]) + xl.Restriction(x.x, [2, 4])
    assert "cdp" not in (A @ x).coords


def test_the_data_keep_their_auxiliary_coordinates(t):
    picked = t.assign_coords(pick=("time", np.arange(10)))
    D = xl.FirstDerivative(picked.time)
    again = t.assign_coords(pick=("time", np.arange(10) + 100))
    np.testing.assert_array_equal((D @ again).pick, np.arange(10) + 100)
    assert (D @ t).pick.identical(picked.pick)
    assert (D.H @ again).pick.identical(picked.pick)


def test_offset_units_are_not_mixed(t):
    celsius = (0 * t + 20.0).assign_attrs(units="degC")
    kelvin = (celsius + 273.15).assign_attrs(units="K")
    R, S = xl.Restriction(t.time, np.arange(6)), xl.Restriction(t.time, np.arange(4, 10))
    V = xl.VStack({"a": R, "b": S})
    with pytest.raises(xl.UnitError, match=r"degC.*'b' in K"):
        xl.cgls(V, {"a": R @ celsius, "b": S @ kelvin})
    with pytest.raises(xl.UnitError, match="is in K, the model is in degC"):
        xl.cgls(R, R @ celsius, x_ref=kelvin, damp=1.0)
    solution = xl.cgls(V, {"a": R @ celsius, "b": S @ celsius}, tol=1e-12)
    np.testing.assert_allclose(solution.x.values, 20.0, rtol=1e-12)
    assert solution.x.units == "degC"
    assert solution.residual["a"].units == "delta_degC"


def test_solutions_whose_dims_have_the_names_of_variables():
    for dim in ("x", "iteration", "residual", "residual_norm"):
        y = xr.DataArray(np.arange(5.0), {dim: np.arange(5) + 7}, dims=dim)
        solution = xl.cgls(2 * xl.Identity(y), y, tol=1e-12)
        ds = solution.to_dataset()
        np.testing.assert_array_equal(ds[dim], y[dim])
        name = "x_" if dim == "x" else "x"
        np.testing.assert_allclose(ds[name], y.values / 2, rtol=1e-12)
        along = "iteration_" if dim == "iteration" else "iteration"
        assert ds.sizes[along] == solution.iterations + 1


def test_norms_of_small_single_precision(t):
    x = (1e-25 * t).astype(np.float32)
    solution = xl.cgls(xl.Diagonal(t + 1), x)
    assert solution.iterations > 0
    np.testing.assert_allclose(solution.x.values, x.values / (t.values + 1), rtol=1e-4)


def test_first_use_of_units_by_many_threads(t):
    x = t.assign_attrs(units="m").assign_coords(time=t.time.assign_attrs(units="ms"))
    D = xl.FirstDerivative(x.time)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append((D @ x).units)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["m ms-1"] * 8
