"""Remembered labels are those that would have been made anew, whatever has changed."""

import contextlib
import copy
import gc
import pickle
import threading
import types
import weakref

import numpy as np
import pandas as pd
import pint
import pytest
import xarray as xr

import xlops as xl
from xlops import labeling

ureg = pint.UnitRegistry()


def gather(seed=0):
    rng = np.random.default_rng(seed)
    return xr.DataArray(
        rng.standard_normal((4, 5, 6)),
        dims=("shot", "offset", "time"),
        coords={
            "shot": ("shot", np.arange(4), {"long_name": "shot", "flags": [1, 2]}),
            "offset": ("offset", 25.0 * np.arange(5), {"units": "m"}),
            "time": ("time", 0.004 * np.arange(6), {"units": "s", "axis": "T"}),
            "cdp": ("offset", 2 * np.arange(5), {"long_name": "midpoint"}),
            "elevation": (("shot", "offset"), rng.standard_normal((4, 5)), {"units": "m"}),
            "live": ("shot", np.array([True, False, True, True])),
            "mute": (("time", "offset"), rng.standard_normal((6, 5))),
            "line": 7,
        },
        attrs={"units": "Pa", "standard_name": "pressure", "history": ["made"]},
        name="p",
    )


def weights(d):
    return xr.DataArray(np.arange(1.0, 7.0), dims="time", coords={"time": d.time})


BUILT = {
    "derivative": lambda d: xl.FirstDerivative(d.time),
    "restriction": lambda d: xl.Restriction(d.offset, [0, 2, 3]),
    "diagonal": lambda d: xl.Diagonal(weights(d)),
    "spectrum": lambda d: xl.FFT(d.time, real=True),
    "product": lambda d: xl.Restriction(d.offset, [0, 2, 3]) @ xl.FirstDerivative(d.time),
    "gram": lambda d: xl.FFT(d.time).gram,
    "sum": lambda d: xl.FirstDerivative(d.time) + 2.0 * xl.FirstDerivative(d.time),
    "stack": lambda d: xl.VStack(
        {"a": xl.FirstDerivative(d.time), "b": xl.Restriction(d.offset, [1, 4])}
    ),
    "no labels": lambda d: xl.FirstDerivative(d.time.drop_vars("time")),
    "selection without labels": lambda d: xl.Restriction(
        d.offset.drop_vars("offset"), [0, 3]
    ),
}


@pytest.fixture(params=BUILT)
def build(request):
    return BUILT[request.param]


@contextlib.contextmanager
def forgetful():
    """Nothing is remembered inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labeling.Memory, "find", lambda self, labels: None)
        patch.setattr(labeling.Memory, "new", lambda self, labels: None)
        yield


def blocks(result):
    return result if isinstance(result, dict) else {"": result}


def assert_same(one, other):
    """Two results are the same in all that can be seen of them."""
    one, other = blocks(one), blocks(other)
    assert list(one) == list(other)
    for a, b in zip(one.values(), other.values(), strict=True):
        assert type(a.data) is type(b.data)
        if isinstance(a.data, pint.Quantity):
            assert str(a.data.units) == str(b.data.units)
            a, b = a.copy(data=a.data.magnitude), b.copy(data=b.data.magnitude)
        xr.testing.assert_identical(a, b)
        assert a.dtype == b.dtype
        assert a.dims == b.dims
        assert a.name == b.name
        assert list(a.attrs.items()) == list(b.attrs.items())
        assert a.encoding == b.encoding
        assert list(a.coords) == list(b.coords)
        assert list(a.xindexes) == list(b.xindexes)
        for name in a.coords:
            v, w = a.coords[name].variable, b.coords[name].variable
            assert type(v) is type(w)
            assert type(v.data) is type(w.data)
            assert v.dtype == w.dtype
            assert v.dims == w.dims
            assert v.encoding == w.encoding
            # By repr: 1, 1.0 and True are equal.
            assert repr(list(v.attrs.items())) == repr(list(w.attrs.items()))
        for name, index in a.xindexes.items():
            assert type(index) is type(b.xindexes[name])
            assert index.equals(b.xindexes[name])


def check(A, build, x, d):
    """A result equals that of an operator built anew that remembers nothing."""
    anew = build(d)
    with forgetful():
        expected = anew @ x
    assert_same(A @ x, expected)
    assert_same(anew @ x, expected)
    assert_same(A @ x, expected)


def kinds(A):
    return len(A._memory._kinds)


# --- what changes between applications ------------------------------------------------


def test_nothing_changes(build):
    d = gather()
    A = build(d)
    for seed in range(3):
        check(A, build, d.copy(deep=False, data=gather(seed).data), d)
    assert kinds(A) == 1
    assert len({id(v) for v in blocks(A @ d).values()} & {id(d)}) == 0


def test_names_attributes_units(build):
    d = gather()
    A = build(d)
    A @ d
    other = d.copy(deep=False)
    other.attrs = {"units": "m s-1", "valid_min": 0, "comment": "x"}
    plain = d.copy(deep=False)
    plain.attrs = {}
    for x in (d.rename("q"), d.rename(None), other, plain, d.assign_attrs(units="degC"), d):
        check(A, build, x, d)
    assert kinds(A) == 1


def test_attributes_are_edited_in_place(build):
    d = gather()
    A = build(d)
    A @ d
    x = gather()
    check(A, build, x, d)
    x.attrs["history"].append("more")
    x.attrs["units"] = "hPa"
    check(A, build, x, d)
    # Half of the coordinates, each other operator the other half.
    for name in list(x.coords)[list(BUILT.values()).index(build) % 2 :: 2]:
        x[name].attrs["remark"] = 1
        check(A, build, x, d)
        x[name].attrs["remark"] = 1.0  # equal, and yet another
        check(A, build, x, d)
        x[name].attrs["remark"] = np.array([1, np.nan])
        check(A, build, x, d)
        x[name].attrs["remark"][0] = 2
        check(A, build, x, d)
        x[name].attrs["remark"] = [1, {"deep": [2]}]
        check(A, build, x, d)
        x[name].attrs["remark"][1]["deep"].append(3)
        check(A, build, x, d)
        x[name].attrs["remark"] = types.SimpleNamespace(a=1)
        check(A, build, x, d)
        x[name].attrs["remark"].a = 2
        check(A, build, x, d)
        del x[name].attrs["remark"]
        x[name].encoding["dtype"] = np.dtype("f4")
        x[name].encoding["chunksizes"] = (1,)
        check(A, build, x, d)
        x[name].encoding["chunksizes"] = (2,)
        check(A, build, x, d)
    x.shot.attrs["flags"].append(3)
    check(A, build, x, d)
    x.time.attrs = dict(reversed(x.time.attrs.items()))
    check(A, build, x, d)


def test_values_are_edited_in_place(build):
    d = gather()
    A = build(d)
    x = gather()
    for edited in (d, x):  # the space has its own copies of what it was built from
        A @ edited
        for name in ("cdp", "elevation", "live", "mute"):
            before = build(gather())
            edited[name].values[(0,) * edited[name].ndim] += 1
            with forgetful():
                expected = before @ edited
            assert_same(A @ edited, expected)
            assert_same(A @ edited, expected)


def test_signed_zeros_nan_and_dtypes(build):
    d = gather()
    A = build(d)
    for values in ([0.0], [-0.0], [np.nan], [0]):
        x = d.assign_coords(
            {
                "cdp": ("offset", np.array(values * 5)),
                "mute": (("time", "offset"), np.array([values * 5] * 6)),
            }
        )
        check(A, build, x, d)
        for result in blocks(A @ x).values():
            for name in {"cdp", "mute"} & set(result.coords):
                given = np.asarray(values, result[name].dtype).tobytes()
                assert result[name].values.ravel()[:1].tobytes() == given


@pytest.mark.parametrize("kind", [object, str, "datetime64[s]", "complex64"])
def test_other_kinds_of_auxiliary_values(build, kind):
    d = gather()
    A = build(d)
    for start in (0, 3, 0):
        x = d.assign_coords(
            cdp=("offset", np.arange(start, start + 5).astype(str).astype(kind))
            if kind in (object, str)
            else ("offset", np.arange(start, start + 5).astype(kind))
        )
        check(A, build, x, d)
        check(A, build, x.copy(deep=True), d)


def test_objects_that_can_be_edited(build):
    d = gather()
    A = build(d)
    cells = np.empty(5, dtype=object)
    cells[:] = [[i] for i in range(5)]
    x = d.assign_coords(cdp=("offset", cells))
    check(A, build, x, d)
    cells[0].append(9)
    x.cdp.values[0].append(8)
    check(A, build, x, d)


def test_other_order_and_sizes(build):
    d = gather()
    A = build(d)
    for x in (
        d,
        d.transpose("time", "shot", "offset"),
        d.transpose("offset", "time", "shot"),
        d.isel(shot=slice(2)),
        d.drop_vars("shot"),
        d.drop_vars("shot").isel(shot=slice(3)),
        d.drop_vars(["cdp", "live"]),
        d.drop_vars("line").assign_coords(line=8),  # the same names in another order
        d.assign_coords(frequency=("shot", np.arange(4.0))),
        d.assign_coords(freq_time=3.0),  # the name of a dim that a transform makes
        d.assign_coords(shot=d.shot.astype("f4")),
        d.expand_dims(line=[7]),
        d.squeeze(),
        d,
    ):
        check(A, build, x, d)


def test_the_same_index_of_another_dim(build):
    d = gather()
    A = build(d)
    same = pd.Index(np.arange(4))
    x = d.assign_coords(shot=same)
    check(A, build, x, d)
    renamed = x.rename(shot="sail")
    check(A, build, renamed, d)
    check(A, build, renamed.set_xindex("live"), d)
    levels = pd.MultiIndex.from_product([[0, 1], ["a", "b"]], names=["boat", "gun"])
    many = d.drop_vars("shot").assign_coords(
        xr.Coordinates.from_pandas_multiindex(levels, "shot")
    )
    check(A, build, many, d)
    check(A, build, many.reset_index("shot"), d)
    check(A, build, d.drop_vars("live").set_xindex("cdp"), d)


def test_new_indexes_at_old_addresses(build):
    d = gather()
    A = build(d)
    for i in range(40):
        x = gather().assign_coords(shot=np.arange(4) + i)
        result = next(iter(blocks(A @ x).values()))
        assert result.shot.values.tolist() == [i, i + 1, i + 2, i + 3]
        del x, result
        gc.collect(0)
    assert kinds(A) <= labeling._KINDS


def test_slices_along_another_dim():
    d = gather().drop_vars("mute")
    A = xl.FirstDerivative(d.time)
    for i in range(5):
        for x in (d.isel(shot=i % 4), d.isel(offset=i)):
            check(A, lambda d: xl.FirstDerivative(d.time), x, d)
    assert kinds(A) == 2
    y = A @ d.isel(shot=2)
    assert y.shot.item() == 2
    assert y.elevation.identical(d.elevation.isel(shot=2))


def test_auxiliary_coordinates_of_other_kinds(build):
    d = gather()
    A = build(d)
    A @ d
    lazy = d.assign_coords(
        elevation=d.elevation.chunk(shot=2), mute=d.mute.chunk(), live=d.live.chunk()
    )
    check(A, build, lazy, d)
    check(A, build, lazy.assign_coords(live=~lazy.live), d)
    quantity = ureg.Quantity(d.elevation.values, "ft")
    check(A, build, d.assign_coords(elevation=(("shot", "offset"), quantity)), d)
    category = pd.Categorical(["a", "b", "a", "b"])
    check(A, build, d.assign_coords(live=("shot", category)), d)
    check(A, build, d.chunk(shot=2), d)
    check(A, build, d, d)


def test_quantities(build):
    d = gather()
    A = build(d)
    bare = d.copy(deep=False)
    bare.attrs = {"comment": "x"}
    for unit in ("Pa", "m/s"):
        x = bare.copy(data=ureg.Quantity(d.values, unit))
        check(A, build, x, d)
        check(A, build, d, d)
    check(A, build, bare.copy(data=ureg.Quantity(d.chunk().data, "Pa")), d)


def test_kinds_of_numbers():
    d = gather()
    A = xl.FirstDerivative(d.time)
    for dtype in ("f8", "f4", "c8", "i4", "?"):
        assert (A @ d.astype(dtype)).dtype == (
            xl.FirstDerivative(d.time) @ d.astype(dtype)
        ).dtype
    real = xl.FFT(d.time, real=True)
    real @ d
    with pytest.raises(xl.DTypeError):
        real @ d.astype("c16")
    with pytest.raises(xl.DTypeError):
        A @ d.astype(str)
    with pytest.raises(xl.DTypeError):
        A @ d.values


def test_sizes_that_are_not_known():
    d = gather().drop_vars(["shot", "live", "elevation"]).chunk(shot=2)
    d = xr.DataArray(d.data[d.data[:, 0, 0] < np.inf], coords=d.coords, dims=d.dims)
    A = xl.FirstDerivative(d.time)
    for _ in range(2):
        with pytest.raises(xl.ChunkError, match="compute_chunk_sizes"):
            A @ d


def test_errors_do_not_wear_off():
    d = gather()
    A = xl.FirstDerivative(d.time)
    A @ d
    x = gather()
    A @ x
    for _ in range(2):
        with pytest.raises(xl.LabelError, match="other labels"):
            A @ x.assign_coords(time=x.time + 1)
        with pytest.raises(xl.LabelError, match="no labels"):
            A @ x.drop_vars("time")
        with pytest.raises(xl.LabelError, match="is missing"):
            A @ x.isel(time=0)
        with pytest.raises(xl.LabelError, match="is empty"):
            A @ x.isel(shot=slice(0))
    x.time.attrs["units"] = "m"
    for _ in range(2):
        with pytest.raises(xl.LabelError, match="other units"):
            A @ x
    x.time.attrs["units"] = "s"
    A @ x
    F = xl.FFT(d.time)
    F @ d
    for _ in range(2):
        with pytest.raises(xl.LabelError, match="which the data have already"):
            F @ d.rename(shot=F.range.dims[0])


def test_warnings_do_not_wear_off():
    d = gather().assign_attrs(units="no such thing")
    A = xl.FirstDerivative(d.time)
    for _ in range(3):
        with pytest.warns(xl.XlopsWarning, match="cannot be parsed"):
            assert "units" not in (A @ d).attrs


def test_coordinates_from_files(tmp_path, build):
    d = gather().drop_vars("live")
    d.attrs["history"] = "made"
    del d.shot.attrs["flags"]
    d.to_netcdf(tmp_path / "d.nc")
    A = build(gather())
    with xr.open_dataset(tmp_path / "d.nc") as ds:
        check(A, build, ds.p, gather())
        check(A, build, ds.p.load(), gather())
        ds.p.elevation.attrs["units"] = "ft"
        check(A, build, ds.p, gather())


# --- results are their own ------------------------------------------------------------


def test_results_share_nothing(build):
    d = gather()
    A = build(d)
    d.time.attrs["list"] = [1]
    A = build(d)
    with forgetful():
        expected = copy.deepcopy(build(d) @ d)
    before = d.copy(deep=True)
    for _ in range(3):
        result = A @ d
        assert_same(result, expected)
        for block in blocks(result).values():
            for name in list(block.coords):
                coord = block.coords[name]
                for value in coord.attrs.values():
                    if isinstance(value, list):
                        value.append("edited")
                coord.attrs["edited"] = True
                coord.encoding["edited"] = True
                if name not in block.xindexes:
                    coord.values[...] = 99
            block.attrs["units"] = "edited"
            block.encoding["edited"] = True
            block.values[...] = np.nan
            block.name = "edited"
            block.coords["new"] = 3
            del block.coords["line"]
        xr.testing.assert_identical(d, before)
        assert d.time.attrs["list"] == [1]
        assert d.shot.attrs["flags"] == [1, 2]


def test_no_memory_is_held_for_values():
    for build in BUILT.values():
        d = gather()
        A = build(d)
        A @ d
        values = weakref.ref(d.values)
        del d
        gc.collect()
        assert values() is None


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_without_keywords_that_xarray_keeps_for_itself(build, monkeypatch):
    d = gather()
    expected = build(d) @ d
    monkeypatch.setattr(labeling, "_TAKES_PARTS", False)
    A = build(d)
    for result in (A @ d, A @ d):
        blocks = result if isinstance(result, dict) else {"": result}
        for name, block in blocks.items():
            one = expected[name] if name else expected
            xr.testing.assert_identical(block, one)
            assert block.name == one.name
            assert [*block.coords] == [*one.coords]


def test_labels_that_stay_are_those_of_the_input():
    """In their order, with the very indexes: nothing is compared when they meet again."""
    d = gather()
    A = xl.FirstDerivative(d.time)
    with forgetful():
        expected = A @ d
    for y in (expected, A @ d, A @ d, A.H @ d, (A + A) @ d):
        assert list(y.coords) == list(d.coords)
        assert all(y.xindexes[name] is d.xindexes[name] for name in d.xindexes)
        assert y.drop_attrs(deep=False).coords.identical(d.coords)


@pytest.mark.parametrize("adjoint", [False, True])
def test_labels_that_only_match_are_those_of_the_operator(adjoint):
    """What is told apart: rounding, signs of zeros, dtypes, attributes, encodings."""
    d = gather()
    A = xl.FirstDerivative(d.time)
    A = A.H if adjoint else A
    negative = d.time.values.copy()
    negative[0] = -0.0
    tagged = d.copy()
    tagged.time.attrs["remark"] = 1
    typed = d.copy()
    typed.time.encoding["dtype"] = "f4"
    bare = d.copy()
    del bare.time.attrs["axis"]
    for x in (
        d.assign_coords(time=("time", d.time.values * (1 + 1e-12), d.time.attrs)),
        d.assign_coords(time=("time", negative, d.time.attrs)),
        d.assign_coords(time=("time", d.time.values.astype("f4"), d.time.attrs)),
        tagged,
        typed,
        bare,
        d.assign_coords(mute=d.mute.astype("f4")),
        d.assign_coords(mute=d.mute.assign_attrs(a=1)),
        d.assign_coords(mute=-d.mute),
        d.assign_coords(mute=d.mute.transpose("offset", "time")),
        d,
    ):
        for _ in range(2):
            y = A @ x
            assert y.time.values.tobytes() == d.time.values.tobytes()
            assert y.time.dtype == d.time.dtype
            assert y.time.attrs == d.time.attrs
            assert y.time.encoding == d.time.encoding
        check(A, lambda d: A, x, d)


def test_a_coordinate_is_data_too():
    """xarray keeps a dimension coordinate as an index, also where it is the data."""
    d = gather()
    A = xl.FirstDerivative(d.time)
    x = d.time.drop_vars("line")
    plain = xr.DataArray(x.values, x.coords, name="time", attrs=x.attrs)
    for one, other in ((x, plain), (plain, x)):
        A = xl.FirstDerivative(d.time)
        y, z = A @ one, A @ other
        assert_same(y, z)
        assert type(y.variable) is type(z.variable) is xr.Variable
        y.values[...] = 7
        y.time.attrs["edited"] = True
        assert "edited" not in x.time.attrs
        assert "edited" not in plain.time.attrs
        assert x.values[1] == plain.values[1] == 0.004


def test_encodings_of_values_stay_behind():
    d = gather()
    d.encoding = {"scale_factor": 0.1, "dtype": "i2"}
    A = xl.FirstDerivative(d.time)
    for _ in range(2):
        assert (A @ d).encoding == {}
    assert d.encoding == {"scale_factor": 0.1, "dtype": "i2"}


# --- the operator stays what it was ---------------------------------------------------


def test_memory_is_no_part_of_the_operator(build):
    d = gather()
    A, fresh = build(d), build(d)
    token, size = fresh.token, len(pickle.dumps(fresh))
    A @ d
    assert fresh == A
    assert A.token == token
    assert hash(A) == hash(fresh)
    assert "_memory" not in A.__getstate__()
    fresh.token  # noqa: B018
    again = pickle.loads(pickle.dumps(A))
    assert len(pickle.dumps(again)) < size + 2000
    assert_same(again @ d, A @ d)
    assert_same(copy.copy(A) @ d, A @ d)


def test_memory_is_bounded(build):
    d = gather()
    A = build(d)
    for i in range(3 * labeling._KINDS):
        A @ d.assign_coords(shot=np.arange(4) + i)
    assert kinds(A) == labeling._KINDS


def test_large_auxiliary_coordinates_are_not_compared():
    n = labeling._FEW + 1
    x = xr.DataArray(np.zeros((3, n)), dims=("a", "time"), coords={"time": np.arange(n)})
    x = x.assign_coords(age=("time", np.arange(n) * 2.0), b=("a", [1, 2, 3]))
    A = xl.FirstDerivative(x.time)
    check(A, lambda x: xl.FirstDerivative(x.time), x, x)
    assert kinds(A) == 0
    wide = xr.DataArray(np.zeros((3, n)), dims=("time", "a"))
    wide = wide.assign_coords(time=[0.0, 1.0, 2.0], age=("a", np.arange(n) * 2.0))
    B = xl.FirstDerivative(wide.time)
    check(B, lambda x: xl.FirstDerivative(x.time), wide, wide)
    assert kinds(B) == 1


def test_threads(build):
    d = gather()
    A = build(d)
    inputs = [
        d.rename(f"p{i}")
        .isel(shot=i % 4)
        .assign_coords(line=i, extra=("offset", np.arange(5)))
        if i % 2
        else d.rename(f"p{i}").assign_coords(line=i)
        for i in range(8)
    ]
    with forgetful():
        expected = [build(d) @ x for x in inputs]
    failures = []

    def work(i):
        try:
            for _ in range(20):
                assert_same(A @ inputs[i], expected[i])
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
