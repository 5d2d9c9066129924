"""Spaces: which labels match, what they are called, and what members look like."""

import copy
import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xlops as xl
from xlops.axis import Axis

STEP = 0.004


def along(labels, dim="x", **attrs):
    """A space of one dim."""
    coords = {dim: (dim, np.asarray(labels), attrs)}
    return xl.Space.of(xr.DataArray(np.zeros(len(labels)), dims=dim, coords=coords))


def unlabeled(**sizes):
    return xl.Space(sizes)


def axis(labels, **attrs):
    return along(labels, **attrs).axis("x")


# --- what labels match ----------------------------------------------------------------


def even(n=128, dtype="f8"):
    return (STEP * np.arange(n)).astype(dtype)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [0, 64, 127])
def test_floats_match_within_a_part_of_the_step(sign, at):
    mine = along(even())
    for part, matches in [(0.0, True), (0.9e-6, True), (1.1e-6, False), (1e-3, False)]:
        labels = even()
        labels[at] += sign * part * STEP
        assert mine.matches(along(labels)) is matches
        assert along(labels).matches(mine) is matches


def test_tolerance_does_not_grow_with_the_offset_of_the_axis():
    far = 1e6 + even()
    assert along(far).matches(along(far.copy()))
    assert not along(far).matches(along(far + 1e-5 * STEP))
    # beyond the rounding of double precision at this size, 4 eps
    assert along(far).matches(along(far + 2 * np.spacing(1e6)))


def test_float32_labels_match_float64():
    latitude = np.linspace(75.0, 15.0, 25) + 1 / 3
    longitude = 200.1 + 0.1 * np.arange(1300)
    for labels in (latitude, longitude, latitude[::-1], even()):
        double, single = along(labels), along(labels.astype("f4"))
        assert double.matches(single)
        assert single.matches(double)
        assert double != single
        # one sample further is still another axis
        step = labels[1] - labels[0]
        assert not double.matches(along((labels + step).astype("f4")))
        assert not double.matches(along((labels + step / 100).astype("f4")))


def test_integers_match_floats_and_each_other():
    whole = np.arange(10)
    for dtype in ("i2", "u1", "i8", "f4", "f8", ">i4", ">f8"):
        assert along(whole).matches(along(whole.astype(dtype)))
        assert along(whole.astype(dtype)).matches(along(whole))
        assert not along(whole).matches(along((whole + 1).astype(dtype)))
    large = 2**53 + np.arange(4)
    assert not along(large).matches(along(large + 1))


def test_equal_labels_of_other_kinds():
    names = np.array(["a", "b", "c"])
    assert along(names).matches(along(names.astype(object)))
    assert not along(names).matches(along(np.array(["a", "b", "d"])))
    assert not along(names).matches(along([1, 2, 3]))
    flags = np.array([True, False])
    assert along(flags).matches(along(flags.copy()))


def test_nan_labels_match_nan():
    labels = np.array([0.0, np.nan, 2.0])
    assert along(labels).matches(along(labels.copy()))
    assert not along(labels).matches(along([0.0, 1.0, 2.0]))
    assert not along([0.0, 1.0, 2.0]).matches(along(labels))
    dates = np.array(["2000-01-01", "NaT"], "M8[ns]")
    assert along(dates).matches(along(dates.copy()))


def test_infinite_labels():
    labels = np.array([0.0, 1.0, np.inf])
    assert along(labels).matches(along(labels.copy()))
    assert not along(labels).matches(along([0.0, 1.0, 2.0]))


def test_repeated_labels_match_themselves():
    labels = np.array([3.0, 3.0, 1.0, 3.0])
    assert along(labels).matches(along(labels.copy()))
    assert not along(labels).matches(along([3.0, 3.0, 1.0, 3.0 + 1e-9]))


def test_dates_match_exactly():
    dates = pd.date_range("2000-01-01", periods=4, freq="6h").to_numpy()
    assert along(dates).matches(along(dates.astype("M8[s]")))
    assert not along(dates).matches(along(dates + np.timedelta64(1, "ns")))
    spans = dates - dates[0]
    assert along(spans).matches(along(spans.astype("m8[s]")))
    assert not along(spans).matches(along(dates))


def test_cftime_labels():
    kwargs = {"periods": 4, "freq": "D", "use_cftime": True}
    days = xr.date_range("2000-01-30", calendar="360_day", **kwargs).to_numpy()
    same = xr.date_range("2000-01-30", calendar="360_day", **kwargs).to_numpy()
    assert along(days).matches(along(same))
    later = xr.date_range("2000-02-01", calendar="360_day", **kwargs).to_numpy()
    assert not along(days).matches(along(later))
    other = xr.date_range("2000-01-30", calendar="standard", **kwargs).to_numpy()
    assert not along(days).matches(along(other))


def test_multiindex_labels():
    def flat(levels):
        x = xr.DataArray(np.zeros((2, 3)), dims=("a", "b"))
        return xl.Space.of(x.assign_coords(a=["p", "q"], b=levels).stack(x=("a", "b")))

    assert flat([1, 2, 3]).matches(flat([1, 2, 3]))
    assert not flat([1, 2, 3]).matches(flat([1, 2, 4]))


def test_one_sample_matches_by_rounding_alone():
    assert along([5.0]).matches(along([5.0]))
    assert along([5.0]).matches(along([np.float32(5.0)]))
    assert not along([5.0]).matches(along([5.0 + 1e-9]))


def test_size_and_dims_must_be_the_same():
    assert not along(even(128)).matches(along(even(127)))
    assert not along(even(), dim="x").matches(along(even(), dim="y"))
    both = xl.Space.of(xr.DataArray(np.zeros((2, 3)), dims=("x", "y")))
    assert both.matches(both.ordered(("y", "x")))
    assert not both.matches(both.without(["y"]))
    assert not both.without(["y"]).matches(both)


def test_a_dim_without_labels_matches_every_dim_of_its_size():
    assert unlabeled(x=4).matches(along(even(4)))
    assert unlabeled(x=4).matches(along(list("abcd")))
    assert not unlabeled(x=4).matches(along(even(5)))
    # but labels that an operator has must come with the data
    assert not along(even(4)).matches(unlabeled(x=4))
    assert "no labels" in along(even(4)).difference(unlabeled(x=4))


def test_units_of_labels():
    plain, seconds = along(even()), along(even(), units="s")
    assert plain.matches(seconds)
    assert seconds.matches(plain)
    assert not seconds.matches(along(even(), units="ms"))
    assert seconds.matches(along(even(), units="second"))
    assert along(even(), units="degrees_north").matches(along(even(), units="degrees"))
    # strings that nobody understands must be the same string
    assert along(even(), units="gAPI").matches(along(even(), units="gAPI"))
    assert not along(even(), units="gAPI").matches(along(even(), units="counts"))


def test_other_attributes_and_coordinates_do_not_matter():
    mine = along(even(), long_name="time")
    assert mine.matches(along(even(), long_name="travel time", units="s"))
    with_more = xr.DataArray(np.zeros(4), dims="x", coords={"x": even(4)})
    more = xl.Space.of(with_more.assign_coords(aux=("x", list("abcd"))))
    assert more.matches(along(even(4)))
    assert along(even(4)).matches(more)


def test_matching_is_for_spaces_and_equality_is_exact():
    mine, near = along(even(), units="s"), along(even() + 1e-12, units="s")
    assert mine.matches(near)
    assert mine != near
    same = along(even(), units="s")
    assert mine == same
    assert hash(mine) == hash(same)
    assert len({mine, same, near}) == 2
    others = [
        along(even(), units="ms"),
        along(even()),
        along(even(), units="s", long_name="t"),
        along(even().astype("f4"), units="s"),
        along(even(), dim="y", units="s"),
        along(even(127), units="s"),
        mine.of_kind("complex"),
        unlabeled(x=128),
    ]
    for other in others:
        assert mine != other
    aux = xr.DataArray(np.zeros(4), dims="x", coords={"aux": ("x", [1, 2, 3, 4])})
    assert xl.Space.of(aux) != unlabeled(x=4)
    assert mine != "x"
    assert mine != xl.Blocks({"x": mine})


def test_equality_of_the_order_of_dims():
    both = xl.Space.of(xr.DataArray(np.zeros((2, 3)), dims=("x", "y")))
    turned = both.ordered(("y", "x"))
    assert turned.dims == ("y", "x")
    assert both != turned
    assert both == turned.ordered(("x", "y"))


def test_lazy_coordinates_are_not_computed():
    def refuse(block):
        raise AssertionError("computed")

    lazy = da.ones(4, chunks=2).map_blocks(refuse, dtype=float)
    x = xr.DataArray(np.zeros(4), dims="x", coords={"aux": ("x", lazy)})
    space = xl.Space.of(x)
    assert space == xl.Space.of(x)
    assert hash(space) == hash(xl.Space.of(x))
    assert repr(space)
    assert space.matches(xl.Space.of(x))
    assert xl.Space.of(x, kind="real") != space


# --- differences ----------------------------------------------------------------------


def test_difference_says_the_first_reason():
    mine = along(even())
    assert mine.difference(along(even())) is None
    late = even()
    late[100:] += 1.0
    assert "index 100" in mine.difference(along(late))
    assert "1.4 where 0.4 is expected" in mine.difference(along(late))
    assert "reverse" in mine.difference(along(even()[::-1]))
    assert "other size" in mine.difference(along(even(3)))
    assert "missing" in mine.difference(along(even(), dim="y"))
    assert "units" in along([1.0], units="s").difference(along([1.0], units="m"))


# --- words ----------------------------------------------------------------------------

DESCRIPTIONS = {
    "128 × 0.004 [0 … 0.508]": axis(even()),
    "128 × 0.004 s [0 … 0.508]": axis(even(), units="s"),
    "25 × -2.5 degrees_north [75 … 15]": axis(
        np.linspace(75, 15, 25), units="degrees_north"
    ),
    "5 × 3 [-1 … 11]": axis(3 * np.arange(5) - 1),
    "20 × 6 h [2014-02-24 … 2014-02-28T18:00]": axis(
        pd.date_range("2014-02-24", periods=20, freq="6h")
    ),
    "3 × 1 d [2014-02-24 … 2014-02-26]": axis(pd.date_range("2014-02-24", periods=3)),
    "3 × -1 d [2014-02-26 … 2014-02-24]": axis(
        pd.date_range("2014-02-24", periods=3)[::-1]
    ),
    "3 × 30 min [0 s … 1 h]": axis(pd.to_timedelta([0, 30, 60], "min")),
    "3 × 2 ms [0 s … 4 ms]": axis(pd.to_timedelta([0, 2, 4], "ms")),
    "4 × 1 d [2000-01-29 00:00:00 … 2000-02-02 00:00:00]": axis(
        xr.date_range(
            "2000-01-29", periods=4, freq="D", calendar="360_day", use_cftime=True
        )
    ),
    "4 uneven m [0 … 70]": axis([0.0, 10.0, 30.0, 70.0], units="m"),
    "3 uneven [2000-01-01 … 2000-03-01]": axis(
        pd.to_datetime(["2000-01-01", "2000-02-01", "2000-03-01"])
    ),
    "3 labels [a … c]": axis(list("abc")),
    "3 labels [0 … 2]": axis([0.0, np.nan, 2.0]),
    "3 labels [0 … 1]": axis([0.0, 2.0, 1.0]),
    "4 labels [0 … 0]": axis([0.0, 1.0, 1.0, 0.0]),
    "1 sample s [7]": axis([7.0], units="s"),
    "7 samples": unlabeled(x=7).axis("x"),
}


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_descriptions(text):
    described = DESCRIPTIONS[text]
    assert str(described) == text
    assert repr(described) == f"<Axis x: {text}>"


def test_descriptions_of_spaces():
    x = xr.DataArray(np.zeros((2, 128)), dims=("shot", "x"), coords={"x": even()})
    space = xl.Space.of(x)
    assert str(space) == "shot: 2 samples, x: 128 × 0.004 [0 … 0.508]"
    assert repr(space) == "<Space shot: 2 samples, x: 128 × 0.004 [0 … 0.508]>"
    assert str(xl.Space({})) == "no dims"
    blocks = xl.Blocks({"a": unlabeled(x=2), "b": xl.Space({})})
    assert str(blocks) == "a (x: 2 samples); b (no dims)"
    assert repr(blocks) == "<Blocks a (x: 2 samples); b (no dims)>"


# --- making spaces --------------------------------------------------------------------


@pytest.fixture
def cube():
    """An array with all kinds of coordinates."""
    return xr.DataArray(
        np.zeros((2, 3, 4), np.float32),
        dims=("shot", "offset", "time"),
        coords={
            "time": ("time", even(4), {"units": "s", "long_name": "time"}),
            "offset": ("offset", [0, 10, 30]),
            "cmp": ("offset", [5.0, 6.0, 7.0], {"units": "m"}),
            "delay": (("shot", "offset"), np.arange(6.0).reshape(2, 3)),
            "survey": "north",
        },
        attrs={"units": "Pa"},
    )


def test_space_of_an_array(cube):
    space = xl.Space.of(cube)
    assert space.dims == ("shot", "offset", "time")
    assert dict(space.sizes) == {"shot": 2, "offset": 3, "time": 4}
    assert space.size == 24
    assert space.kind == "any"
    assert set(space.coords) == {"time", "offset", "cmp", "delay"}
    for name in space.coords:
        assert space.coords[name].variable.identical(cube[name].variable)
    assert "shot" in space
    assert "survey" not in space
    assert xl.Space.of(cube, kind="complex").kind == "complex"


def test_space_of_a_coordinate(cube):
    space = xl.Space.of(cube.offset)
    assert space.dims == ("offset",)
    assert set(space.coords) == {"offset", "cmp"}
    assert xl.Space.of(cube.cmp) == space
    assert xl.Space.of(space) == space
    assert dict(xl.Space.of(cube.shot).sizes) == {"shot": 2}
    assert not xl.Space.of(cube.shot).coords


def test_space_of_several(cube):
    space = xl.Space.of(cube.time, cube.offset)
    assert space.dims == ("time", "offset")
    assert set(space.coords) == {"time", "offset", "cmp"}
    assert xl.Space.of(cube.time, cube).dims == ("time", "shot", "offset")
    dataset = xr.Dataset({"a": cube, "b": ("depth", [1.0, 2.0])})
    assert dict(xl.Space.of(dataset).sizes) == {
        "shot": 2,
        "offset": 3,
        "time": 4,
        "depth": 2,
    }


def test_space_of_what_has_no_labels():
    for thing in (3, None, np.zeros(3), "x", [1.0, 2.0]):
        with pytest.raises(xl.DTypeError, match=type(thing).__name__) as caught:
            xl.Space.of(thing)
        assert isinstance(caught.value, TypeError)


def test_empty_dims():
    with pytest.raises(xl.LabelError, match="'x' is empty"):
        xl.Space({"x": 0, "y": 3})
    with pytest.raises(xl.LabelError, match="'x' is empty"):
        along([])


@pytest.mark.parametrize(
    ("sizes", "labels", "kind"),
    [
        ({"x": 3}, xr.Dataset(coords={"x": np.arange(4)}), "any"),
        ({"x": 3}, xr.Dataset(coords={"y": np.arange(3)}), "any"),
        ({"x": 3}, None, "float"),
        ({"x": -3}, None, "any"),
        ({"x": 2.5}, None, "any"),
    ],
    ids=["other size", "other dim", "kind", "negative", "half"],
)
def test_spaces_that_cannot_be(sizes, labels, kind):
    with pytest.raises(xl.XlopsError):
        xl.Space(sizes, labels, kind)


# --- unions ---------------------------------------------------------------------------


def test_union(cube):
    time, offset = xl.Space.of(cube.time), xl.Space.of(cube.offset)
    both = time.union(offset)
    assert both.dims == ("time", "offset")
    assert set(both.coords) == {"time", "offset", "cmp"}
    assert offset.union(time).dims == ("offset", "time")
    assert time.union(time) == time
    assert time.union(xl.Space({})) == time
    near = xl.Space.of(cube.time.assign_coords(time=cube.time + 1e-12).time)
    # where both have labels, the first one's stay
    np.testing.assert_array_equal(time.union(near).coords["time"], even(4))


def test_union_takes_the_labels_that_there_are(cube):
    time = xl.Space.of(cube.time)
    for joined in (unlabeled(time=4).union(time), time.union(unlabeled(time=4))):
        assert joined.coords["time"].variable.identical(cube.time.variable)
    with pytest.raises(xl.LabelError):
        unlabeled(time=5).union(time)


def test_union_of_what_differs(cube):
    time = xl.Space.of(cube.time)
    shifted = cube.assign_coords(time=cube.time + STEP)
    others = {
        "other size": cube.time[:3],
        "other labels": shifted.time,
        "reverse": cube.time[::-1],
        "other units": cube.assign_coords(time=("time", even(4), {"units": "ms"})).time,
    }
    for words, other in others.items():
        with pytest.raises(xl.LabelError, match=words) as caught:
            time.union(xl.Space.of(other), "these two")
        assert "these two" in str(caught.value)
        assert "'time'" in str(caught.value)
        with pytest.raises(xl.LabelError, match=words):
            xl.Space.of(cube.time, other)


def test_union_never_aligns(cube):
    # Labels within rounding would give an outer join of all of them.
    near = cube.assign_coords(time=cube.time * (1 + 1e-15), aux=("time", [1, 2, 3, 4]))
    joined = xl.Space.of(cube.time, near.time)
    assert dict(joined.sizes) == {"time": 4}
    assert joined.coords["aux"].shape == (4,)
    np.testing.assert_array_equal(joined.coords["time"], even(4))


def test_without(cube):
    space = xl.Space.of(cube)
    rest = space.without(["offset"])
    assert rest.dims == ("shot", "time")
    assert set(rest.coords) == {"time"}
    assert space.without([]) == space
    assert space.without(["nowhere"]) == space
    assert space.without(space.dims) == xl.Space({})


# --- immutable ------------------------------------------------------------------------


def test_spaces_do_not_change_with_their_source():
    x = xr.DataArray(
        np.zeros(4),
        dims="x",
        coords={"x": even(4), "aux": ("x", np.arange(4.0), {"k": 1})},
    )
    space, before = xl.Space.of(x), xl.Space.of(x.copy(deep=True))
    D = xl.FirstDerivative(x.x)
    x.aux.values[1] = 66
    x.aux.attrs["k"] = 2
    x.x.attrs["units"] = "m"
    for kept in (space, D.domain):
        np.testing.assert_array_equal(kept.coords["aux"], np.arange(4.0))
        assert kept.coords["aux"].attrs == {"k": 1}
        assert kept.coords["x"].attrs == {}
        assert kept.token == before.token


def test_spaces_do_not_change_with_their_members():
    x = xr.DataArray(
        np.zeros(4),
        dims="x",
        coords={"x": even(4), "aux": ("x", np.arange(4.0), {"k": 1})},
    )
    D = xl.FirstDerivative(x.x)
    for member in (D.domain.zeros(), D @ x, D.H @ (D @ x)):
        member.x.attrs["new"] = 1
        member.aux.attrs["new"] = 1
        member.aux.values[0] = -1
        member["more"] = ("x", [1, 2, 3, 4])
    assert xl.Space.of(x) == D.domain
    np.testing.assert_array_equal(x.aux, np.arange(4.0))
    assert x.aux.attrs == {"k": 1}


def test_spaces_cannot_be_changed(cube):
    space = xl.Space.of(cube)
    token = space.token
    with pytest.raises(TypeError):
        space.sizes["time"] = 5
    with pytest.raises(AttributeError):
        space.dims = ()
    with pytest.raises(AttributeError):
        space.kind = "real"
    space.labels["new"] = 3
    space.labels.attrs["new"] = 3
    space.coords["time"].attrs["units"] = "ms"
    assert "new" not in space.labels
    assert space.coords["time"].attrs["units"] == "s"
    assert xl.Space.of(cube).token == token


def test_pickles_stay_small():
    """What was derived from labels while a space was used does not travel."""
    time = xr.DataArray(0.004 * np.arange(10_000), dims="time").rename("time")
    x = time.assign_coords(time=time)
    D = xl.FirstDerivative(x.time)
    before = len(pickle.dumps(D))
    assert before < 2.1 * time.nbytes  # a coordinate holds its labels and an index of them
    (D @ x, D.H @ x, D.token, D.domain.layout, D.domain.axis("time").step)
    assert len(pickle.dumps(D)) <= before + 200


def test_pickling(cube):
    space = xl.Space.of(cube, kind="complex")
    blocks = xl.Blocks({"a": space, "b": xl.Space.of(cube.time)})
    for thing in (space, blocks, xl.Space({})):
        for again in (
            pickle.loads(pickle.dumps(thing)),
            copy.deepcopy(thing),
            copy.copy(thing),
        ):
            assert again == thing
            assert hash(again) == hash(thing)
            assert str(again) == str(thing)
    again = pickle.loads(pickle.dumps(space))
    assert again.kind == "complex"
    for name in space.coords:
        assert again.coords[name].identical(space.coords[name])
    stacked = cube.isel(shot=0).drop_vars("delay").stack(x=("offset", "time"))
    again = pickle.loads(pickle.dumps(xl.Space.of(stacked)))
    assert again.zeros().indexes["x"].equals(stacked.indexes["x"])


# --- members --------------------------------------------------------------------------


def test_zeros_and_ones(cube):
    space = xl.Space.of(cube.time, cube.offset)
    for member, value in ((space.zeros(), 0.0), (space.ones(), 1.0)):
        assert member.dims == ("time", "offset")
        assert member.dtype == np.float64
        assert (member.values == value).all()
        assert set(member.coords) == {"time", "offset", "cmp"}
        for name in member.coords:
            assert member[name].variable.identical(cube[name].variable)
        assert member.name is None
        assert member.attrs == {}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("any", None, "f8"),
        ("any", "f4", "f4"),
        ("any", "c8", "c8"),
        ("any", "i4", "i4"),
        ("real", None, "f8"),
        ("real", "c16", "f8"),
        ("real", "c8", "f4"),
        ("real", "f4", "f4"),
        ("complex", None, "c16"),
        ("complex", "f8", "c16"),
        ("complex", "f4", "c8"),
        ("complex", "c8", "c8"),
        ("complex", "i4", "c16"),
    ],
)
def test_kinds_of_members(cube, kind, given, expected):
    space = xl.Space.of(cube.time, kind=kind)
    like = None if given is None else cube.astype(given)
    for member in (space.zeros(like), space.ones(like), space.random(0, like)):
        assert member.dtype == np.dtype(expected)


def test_members_like_an_array(cube):
    space = xl.Space.of(cube.time)
    like = cube.assign_coords(shot=["a", "b"])
    for member in (space.zeros(like), space.ones(like=like), space.random(like=like)):
        assert member.dims == ("time", "shot", "offset")
        assert member.shape == (4, 2, 3)
        assert member.chunks is None
        assert list(member.shot.values) == ["a", "b"]
        assert member.delay.variable.identical(cube.delay.variable)
        assert "survey" not in member.coords
        assert member.time.variable.identical(cube.time.variable)
    lazy = space.zeros(like.chunk(shot=1, offset=2, time=3))
    assert lazy.chunksizes == {"time": (3, 1), "shot": (1, 1), "offset": (2, 1)}
    assert lazy.name is None
    # chunks of the operator's own dims are taken where they fit
    other = like.isel(time=[0, 1]).chunk(shot=1, time=1)
    lazy = space.ones(other)
    assert lazy.sizes["time"] == 4
    assert lazy.chunksizes["shot"] == (1, 1)
    np.testing.assert_array_equal(lazy.time, cube.time)


def test_random_members(cube):
    space = xl.Space.of(cube)
    first = space.random(1)
    assert first.identical(space.random(1))
    assert not first.identical(space.random(2))
    assert space.random().identical(space.random(0))
    assert np.isfinite(first.values).all()
    large = unlabeled(x=100_000)
    values = large.random(5).values
    # normal: mean, standard deviation, and the part within one of them
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.01
    values = large.of_kind("complex").random(5).values
    assert abs(values.real.std() - 1) < 0.02
    assert abs(values.imag.std() - 1) < 0.02
    assert abs(np.mean(values.real * values.imag)) < 0.02


def test_random_members_do_not_depend_on_chunks(cube):
    space = xl.Space.of(cube.time)
    plain = space.random(3, like=cube)
    lazy = space.random(3, like=cube.chunk(shot=1, time=1))
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(), plain)


def test_random_leaves_the_global_state_alone(cube):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    xl.Space.of(cube).random(3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# --- blocks ---------------------------------------------------------------------------


def test_blocks(cube):
    one, two = xl.Space.of(cube.time), xl.Space.of(cube.offset)
    blocks = xl.Blocks({"one": one, "two": two})
    assert list(blocks) == ["one", "two"]
    assert blocks["two"] == two
    assert len(blocks) == 2
    assert blocks.size == 7
    assert "one" in blocks
    with pytest.raises(KeyError):
        blocks["three"]
    assert blocks == xl.Blocks({"one": one, "two": two})
    assert blocks != xl.Blocks({"one": two, "two": one})
    assert blocks != xl.Blocks({"one": one})
    assert hash(blocks) == hash(xl.Blocks({"one": one, "two": two}))
    assert blocks != {"one": one, "two": two}


def test_members_of_blocks(cube):
    blocks = xl.Blocks(
        {"one": xl.Space.of(cube.time), "two": xl.Space.of(cube.time, kind="complex")}
    )
    zeros, ones = blocks.zeros(), blocks.ones(like=cube)
    assert list(zeros) == ["one", "two"]
    assert zeros["one"].shape == (4,)
    assert zeros["two"].dtype == np.complex128
    assert ones["two"].dtype == np.complex64
    assert ones["one"].shape == (4, 2, 3)
    assert (ones["one"] == 1).all()
    random, again = blocks.random(7), blocks.random(7)
    for name in blocks:
        assert random[name].identical(again[name])
    assert not np.array_equal(random["one"].values, random["two"].values.real)
    lazy = blocks.random(7, like=cube.chunk(shot=1))
    assert all(block.chunks is not None for block in lazy.values())


# --- axes -----------------------------------------------------------------------------


def test_axis_of_an_array(cube):
    time = Axis.of(cube, "time")
    assert (time.dim, time.size, time.units) == ("time", 4, "s")
    assert time.is_regular
    assert time.step == pytest.approx(STEP, rel=1e-15)
    assert not time.is_time
    shot = Axis.of(cube, "shot")
    assert (shot.labels, shot.size, shot.step, shot.units) == (None, 2, 1.0, "1")
    np.testing.assert_array_equal(shot.numbers, [0.0, 1.0])


def test_step_is_the_mean_step():
    labels = np.array([0.0, 1.0, 2.0, 3.0, 4.0]) + np.array([0, 1e-7, -2e-7, 1e-7, 3e-7])
    assert axis(labels).step == (labels[-1] - labels[0]) / 4
    assert axis(labels).is_regular
    assert axis(labels[::-1]).step == -(labels[-1] - labels[0]) / 4
    assert axis([7.0]).step == 1.0
    assert axis(pd.date_range("2000", periods=3, freq="6h")).step == 21600.0
    assert axis(pd.to_timedelta([0, 90], "min")).step == 5400.0


@pytest.mark.parametrize("part", [0.9e-6, -0.9e-6])
def test_regular_within_a_part_of_the_step(part):
    labels = 10.0 * np.arange(1001.0)
    labels[500] += part * 10.0
    assert axis(labels).is_regular
    labels[500] += 2 * part * 10.0
    assert not axis(labels).is_regular
    # beyond it, derivatives take the local steps
    x = xr.DataArray(labels**2, dims="x", coords={"x": labels})
    slope = xl.FirstDerivative(x.x) @ x
    np.testing.assert_allclose(slope.values[1:-1], 2 * labels[1:-1], rtol=1e-13)


def test_rounding_of_single_precision_is_regular():
    labels = (200.1 + 0.1 * np.arange(1300)).astype("f4")
    assert np.ptp(np.diff(labels.astype("f8"))) > 1e-5  # it is coarse
    assert axis(labels).is_regular
    double = labels.astype("f8")
    assert not axis(double).is_regular


@pytest.mark.parametrize("jitter", [0.0, 1e-7, 1e-5, 0.99e-3])
def test_fft_puts_up_with_jitter(jitter):
    labels = 5.0 + STEP * np.arange(65.0)
    labels[1::2] += jitter * STEP  # every step is off, the mean step is not
    mean = (labels[-1] - labels[0]) / 64
    F = xl.FFT(axis_array(labels).x)
    made = F.range.coords["freq_x"].values
    np.testing.assert_allclose(made, np.fft.fftfreq(65, mean), rtol=1e-14)


def axis_array(labels):
    return xr.DataArray(np.zeros(len(labels)), dims="x", coords={"x": labels})


@pytest.mark.parametrize("at", [0, 30, 62])
@pytest.mark.parametrize("part", [1.1e-3, -1.1e-3, 0.5])
def test_fft_says_which_step_breaks_it(at, part):
    steps = np.full(63, STEP)
    steps[at] *= 1 + part
    labels = np.concatenate([[0.0], np.cumsum(steps)])
    error = np.abs(np.diff(labels) / ((labels[-1] - labels[0]) / 63) - 1)
    assert error.max() > 1e-3
    with pytest.raises(xl.LabelError, match=rf"step {at} ") as caught:
        xl.FFT(axis_array(labels).x)
    assert f"{labels[at]:.6g} to {labels[at + 1]:.6g}" in str(caught.value)


def test_fft_of_dates_with_jitter():
    dates = pd.date_range("2000-01-01", periods=8, freq="s").to_numpy().copy()
    dates[3] += np.timedelta64(900, "us")
    xl.FFT(axis_array(dates).x)
    dates[3] += np.timedelta64(900, "us")
    with pytest.raises(xl.LabelError, match="step "):
        xl.FFT(axis_array(dates).x)


def test_seconds_of_dates_far_from_the_first():
    # Nanoseconds are not lost after decades.
    start = np.datetime64("1850-01-01", "ns")
    dates = start + np.arange(5) * np.timedelta64(1, "ns").astype("m8[ns]")
    np.testing.assert_allclose(axis(dates).numbers, 1e-9 * np.arange(5), rtol=1e-12)
    assert axis(dates).is_regular


def test_cftime_counts_in_its_own_calendar():
    months = xr.date_range(
        "2000-01-01", periods=4, freq="MS", calendar="360_day", use_cftime=True
    )
    assert axis(months).is_regular
    assert axis(months).step == 30 * 86400.0
    months = xr.date_range(
        "2001-01-01", periods=4, freq="MS", calendar="noleap", use_cftime=True
    )
    assert not axis(months).is_regular
    np.testing.assert_array_equal(np.diff(axis(months).numbers) / 86400, [31, 28, 31])
