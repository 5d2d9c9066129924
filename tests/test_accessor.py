"""``da.lops`` and ``ds.lops``."""

import numpy as np
import pytest
import xarray as xr

import xlops as xl


@pytest.fixture
def ds():
    """Two fields over time and x, a weight over x and a number."""
    rng = np.random.default_rng(4)
    return xr.Dataset(
        {
            "p": (("time", "x"), rng.standard_normal((8, 3)), {"units": "Pa"}),
            "v": (("x", "time"), rng.standard_normal((3, 8)), {"units": "m s-1"}),
            "w": ("x", [1.0, 2.0, 3.0], {"units": "kg"}),
            "s": 3.0,
        },
        coords={
            "time": ("time", 0.5 * np.arange(8), {"units": "s"}),
            "x": [1.0, 2.0, 4.0],
            "day": ("time", np.arange(8)),
            "note": "made up",
        },
        attrs={"title": "two fields"},
    )


@pytest.fixture(params=[False, True], ids=["numpy", "dask"])
def given(ds, request):
    return ds.chunk(time=3) if request.param else ds


# --- DataArray ------------------------------------------------------------------------


def test_apply_and_adjoint(given):
    D = xl.FirstDerivative(given.time)
    xr.testing.assert_identical(given.p.lops.apply(D), D @ given.p)
    xr.testing.assert_identical(given.p.lops.adjoint(D), D.H @ given.p)
    R = xl.Restriction(given.time, [5, 1])
    chosen = given.p.lops.apply(R)
    xr.testing.assert_identical(chosen, R @ given.p)
    xr.testing.assert_identical(chosen.lops.adjoint(R), R.H @ (R @ given.p))


def test_solve(given):
    D = xl.FirstDerivative(given.time)
    mine = given.p.lops.solve(D, niter=4, damp=0.1)
    theirs = xl.solve(D, given.p, niter=4, damp=0.1)
    xr.testing.assert_identical(mine.x, theirs.x)
    assert mine.method == "cgls"
    G = D.gram + 0.5 * D.gram
    assert given.p.lops.solve(G, method="cg", niter=2).method == "cg"
    assert given.p.lops.solve(G, "cg", niter=2).method == "cg"


@pytest.mark.parametrize(
    ("make", "dims", "kwargs"),
    [
        (xl.FirstDerivative, ("time",), {"kind": "forward"}),
        (xl.SecondDerivative, ("time",), {}),
        (xl.FFT, ("time",), {"nfft": 16, "real": True}),
        (xl.Restriction, ("time",), {"iava": [3, 1]}),
        (xl.Identity, ("time", "x"), {"name": "same"}),
        (lambda c, factor: factor * xl.FirstDerivative(c), ("time",), {"factor": 2}),
    ],
)
def test_building_from_classes(given, make, dims, kwargs):
    A = make(*(given[dim] for dim in dims), **kwargs)
    xr.testing.assert_identical(given.p.lops.apply(make, *dims, **kwargs), A @ given.p)
    mapped = given.lops.apply(make, *dims, **kwargs)
    xr.testing.assert_identical(mapped.v, A @ given.v)
    if A.range.matches(A.domain):
        again = given.p.lops.adjoint(make, *dims, **kwargs)
        xr.testing.assert_identical(again, A.H @ given.p)


def test_building_along_a_dim_without_a_coordinate(ds):
    x = ds.p.drop_vars(["time", "day"])
    y = x.lops.apply(xl.FirstDerivative, "time", kind="forward")
    np.testing.assert_allclose(y.values[:-1], np.diff(x.values, axis=0), rtol=1e-15)


def test_pipelines(ds):
    y = (
        ds.p.lops.apply(xl.FirstDerivative, "time")
        .pipe(lambda d: 2 * d)
        .assign_attrs(units="Pa s-1")
        .lops.apply(xl.Restriction, "time", iava=[2, 3])
    )
    assert y.units == "Pa s-1"
    assert y.sizes == {"time": 2, "x": 3}


def test_arguments_of_building(ds):
    D = xl.FirstDerivative(ds.time)
    for obj in (ds.p, ds):
        for method in (obj.lops.apply, obj.lops.adjoint):
            with pytest.raises(xl.LabelError, match="'t' is missing") as caught:
                method(xl.FirstDerivative, "t")
            assert "'time', 'x'" in str(caught.value)
            with pytest.raises(xl.DTypeError, match="is built already"):
                method(D, "time")
            with pytest.raises(xl.DTypeError, match="is built already"):
                method(D, kind="forward")
            with pytest.raises(xl.DTypeError, match="int"):
                method(3)
            with pytest.raises(xl.DTypeError, match="int"):
                method(lambda coord: 3, "time")
        with pytest.raises(xl.XlopsError):
            obj.lops.solve(xl.FirstDerivative, "time")


# --- Dataset --------------------------------------------------------------------------


def test_variables_with_the_dims(given):
    D = xl.FirstDerivative(given.time)
    for mapped, A in ((given.lops.apply(D), D), (given.lops.adjoint(D), D.H)):
        assert list(mapped.data_vars) == ["p", "v", "w", "s"]
        for name in ("p", "v"):
            xr.testing.assert_identical(mapped[name], A @ given[name])
        for name in ("w", "s"):
            xr.testing.assert_identical(mapped[name], given[name])
        assert mapped.attrs == {"title": "two fields"}
        assert mapped.p.dims == ("time", "x")
        assert mapped.v.dims == ("x", "time")
        for name in ("time", "x", "day", "note"):
            assert mapped[name].variable.identical(given[name].variable)


def test_variables_that_keep_another_dim(given):
    R = xl.Restriction(given.time, [5, 2])
    mapped = given.lops.apply(R)
    assert dict(mapped.sizes) == {"time": 2, "x": 3}
    assert list(mapped.day.values) == [5, 2]
    xr.testing.assert_identical(mapped.w, given.w)
    back = mapped.lops.adjoint(R)
    xr.testing.assert_identical(back.p, R.H @ (R @ given.p))
    F = xl.FFT(given.time)
    spectra = given.lops.apply(F)
    assert dict(spectra.sizes) == {"freq_time": 8, "x": 3}
    assert "time" not in spectra.variables
    assert "day" not in spectra.variables
    xr.testing.assert_identical(spectra.p, F @ given.p)
    xr.testing.assert_identical(spectra.w, given.w)


def test_inputs_are_left_alone(ds):
    before = ds.copy(deep=True)
    mapped = ds.lops.apply(xl.Identity(ds.time))
    mapped.p.values[:] = 0
    mapped.attrs["title"] = "changed"
    xr.testing.assert_identical(ds, before)


def test_no_variable_with_the_dims(ds):
    D = xl.FirstDerivative(ds.time)
    for method in (ds[["w", "s"]].lops.apply, ds[["w", "s"]].lops.solve):
        with pytest.raises(xl.LabelError, match="no variable has") as caught:
            method(D)
        for word in ("FirstDerivative(time)", "'time'", "'w', 's'"):
            assert word in str(caught.value)


def test_variables_that_do_not_fit_the_result(ds):
    both = xl.Identity(ds.time) @ xl.Restriction(ds.x, [0, 2])
    with pytest.raises(xl.LabelError, match="'w'") as caught:
        ds.lops.apply(both)
    assert "'x'" in str(caught.value)
    assert "ds[[" in str(caught.value)
    mapped = ds[["p", "v", "s"]].lops.apply(both)
    xr.testing.assert_identical(mapped.p, both @ ds.p)
    # the same labels again: nothing in the way
    D = xl.FirstDerivative(ds.time) @ xl.Identity(ds.x)
    xr.testing.assert_identical(ds.lops.apply(D).w, ds.w)


def test_variables_along_a_dim_that_is_made(ds):
    F = xl.FFT(ds.time)
    made = (F @ ds.p).freq_time
    fits = ds.assign(q=made.astype(float))
    np.testing.assert_array_equal(fits.lops.apply(F).q, made)
    for labels in (np.arange(8.0), np.arange(5.0), made.values[::-1]):
        q = xr.DataArray(labels, dims="freq_time", coords={"freq_time": labels})
        with pytest.raises(xl.LabelError, match="'q'") as caught:
            ds.assign(q=q).lops.apply(F)
        assert "freq_time" in str(caught.value)


def test_variables_named_as_what_is_made(ds):
    F = xl.FFT(ds.time)
    for values in (("x", [1.0, 2.0, 3.0]), 4.0):
        with pytest.raises(xl.LabelError, match="'freq_time'"):
            ds.assign(freq_time=values).lops.apply(F)


def test_labels_of_the_dataset_are_checked(ds):
    D = xl.FirstDerivative(ds.time)
    with pytest.raises(xl.LabelError, match="index 0"):
        ds.assign_coords(time=("time", ds.time.values + 1, {"units": "s"})).lops.apply(D)


def test_errors_name_the_variable(ds):
    named = ds.assign(label=("time", list("abcdefgh")))
    D = xl.FirstDerivative(ds.time)
    with pytest.raises(xl.DTypeError, match="text") as caught:
        named.lops.apply(D)
    notes = getattr(caught.value, "__notes__", [])
    assert "label" in " ".join([str(caught.value), *notes])


# --- blocks ---------------------------------------------------------------------------


def test_blocks_of_one_variable(given):
    V = xl.VStack(
        {"slope": xl.FirstDerivative(given.time), "self": xl.Identity(given.time)}
    )
    made = given[["p", "w"]].lops.apply(V)
    assert isinstance(made, xr.Dataset)
    assert {"slope", "self"} <= set(made.data_vars)
    blocks = V @ given.p
    for name, block in blocks.items():
        assert made[name].variable.identical(block.variable)
    with pytest.raises(xl.LabelError, match="'p', 'v'"):
        given.lops.apply(V)


def test_blocks_whose_labels_differ(ds):
    T = xl.Identity(ds.time)
    one = ds[["p"]]
    for other in ([0, 1], [7, 6, 5, 4, 3, 2, 1, 0], [0, 2, 1, 3, 4, 5, 6, 7]):
        V = xl.VStack({"some": xl.Restriction(ds.time, other), "all": T})
        made = one.lops.apply(V)
        assert isinstance(made, dict)
        np.testing.assert_array_equal(made["some"].values, ds.p.values[other])
        np.testing.assert_array_equal(made["some"].time, ds.time[other])
    V = xl.VStack({"spectrum": xl.FFT(ds.time), "all": T})
    made = one.lops.apply(V)
    assert isinstance(made, xr.Dataset)
    assert dict(made.sizes) == {"freq_time": 8, "time": 8, "x": 3}


def test_blocks_by_name(given):
    same = given.assign(v=given.v.assign_attrs(units="Pa"))
    V = xl.VStack({"p": xl.Identity(given.time), "v": 2 * xl.Identity(given.time)})
    y = same.lops.adjoint(V)
    assert isinstance(y, xr.DataArray)
    expected = given.p.values + 2 * given.v.values.T
    np.testing.assert_allclose(y.transpose("time", "x").values, expected, rtol=1e-14)
    xr.testing.assert_identical(y, V.H @ {"p": same.p, "v": same.v})
    xr.testing.assert_identical(y, V.H @ same)
    W = xl.VStack({"p": xl.Identity(given.time), "q": xl.Identity(given.time)})
    with pytest.raises(xl.LabelError, match="'p', 'q'"):
        same.lops.adjoint(W)


# --- solving --------------------------------------------------------------------------


def test_solving_for_each_variable(given):
    R = xl.Restriction(given.time, [1, 5, 2])
    kept = given.lops.apply(R)
    solutions = kept.lops.solve(R, tol=1e-12)
    assert list(solutions) == ["p", "v"]
    for name, solution in solutions.items():
        xr.testing.assert_identical(solution.x, xl.solve(R, kept[name], tol=1e-12).x)
        assert solution.x.sizes["time"] == 8
        assert solution.x.attrs == given[name].attrs
    D = xl.FirstDerivative(given.time)
    assert given.lops.solve(D, niter=1)["v"].x.attrs == {"units": "m"}


def test_solving_for_blocks(given):
    same = given.assign(v=given.v.assign_attrs(units="Pa"))
    V = xl.VStack({"p": xl.Identity(given.time), "v": 2 * xl.Identity(given.time)})
    solution = same.lops.solve(V, tol=1e-12)
    assert isinstance(solution, xl.Solution)
    expected = (given.p.values + 2 * given.v.values.T) / 5
    x = solution.x.transpose("time", "x").values
    np.testing.assert_allclose(x, expected, rtol=1e-12)


def test_accessors_cost_nothing_to_keep(ds):
    # No state: what an accessor does follows the object.
    accessor = ds.p.lops
    before = accessor.apply(xl.Identity(ds.time)).copy(deep=True)
    D = xl.FirstDerivative(ds.time)
    accessor.apply(D)
    xr.testing.assert_identical(accessor.apply(xl.Identity(ds.time)), before)
    for obj in (ds, ds.p):
        assert [name for name in vars(obj.lops) if not name.startswith("_")] == []
