"""Fourier transforms against sums of exponentials and PyLops, by SciPy and by ducc0."""

import itertools
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl
from xlops.kernels import fourier as kernels
from xlops.kernels.fourier import Along, Transform

SHAPE = (4, 5, 6)
STEPS = {"shot": 2.0, "time": 0.004, "depth": -5.0}  # depth falls
DIMS = tuple(STEPS)
NORMS = ["ortho", "none", "1/n"]


@pytest.fixture(params=["scipy", "ducc0"])
def by(request, monkeypatch):
    """What computes the transforms, for operators too."""
    if request.param == "ducc0":
        pytest.importorskip("ducc0")
    chosen = kernels.engine(request.param)
    monkeypatch.setattr(kernels, "engine", lambda: chosen)
    return chosen


def cube(seed=0, kind="float64"):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(SHAPE)
    if kind.startswith("complex"):
        values = values + 1j * rng.standard_normal(SHAPE)
    coords = {
        dim: (dim, step * np.arange(n) + 3.0, {"units": "m"})
        for (dim, step), n in zip(STEPS.items(), SHAPE, strict=True)
    }
    return xr.DataArray(values.astype(kind), coords=coords, dims=DIMS)


def agree(result, expected, tolerance=1e-12):
    """To a part of the largest value."""
    result, expected = np.asarray(result), np.asarray(expected)
    scale = np.max(np.abs(expected), initial=1e-300)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)


# --- kernels --------------------------------------------------------------------------


def matrix(along, norm, half, weight):
    """Along one axis, the sum of exponentials, entry by entry."""
    n, m = along.size, along.nfft
    frequencies = np.arange(m // 2 + 1 if half else m)
    if along.after:
        frequencies = (frequencies - m // 2) % m
    origin = n // 2 if along.before else 0
    rows = np.zeros((len(frequencies), n), complex)
    for sample in range(n):
        time = (sample - origin) % n
        if time < m:
            phase = (frequencies * time % m) / m
            rows[:, sample] = np.exp(-2j * np.pi * phase)
    if half:
        twice = (frequencies > 0) & (2 * frequencies != m)
        rows[twice] *= weight
    return rows * {"ortho": m**-0.5, "none": 1.0, "1/n": 1.0 / m}[norm]


def laid(x, layout):
    """The same values in memory of another layout."""
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "backwards":
        return np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1]
    if layout == "gaps":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    return np.ascontiguousarray(x)


def check(transform, axes, shape, dtype, by, layout="dense"):
    """Forward and adjoint against matrices; the input stays as it was."""
    rng = np.random.default_rng(1)
    weight = np.sqrt(2.0) if transform.isometric else 1.0
    last = len(axes) - 1
    factors = [
        matrix(along, transform.norm, transform.real and i == last, weight)
        for i, along in enumerate(transform.along)
    ]
    made = list(shape)
    for axis, factor in zip(axes, factors, strict=True):
        made[axis] = len(factor)
    precision = np.dtype(dtype).itemsize
    is_complex = np.dtype(dtype).kind == "c"
    cdtype = np.result_type(dtype, np.complex64)
    tolerance = 1e-6 if cdtype == np.complex64 else 1e-14
    assert precision in (4, 8, 16)

    x = rng.standard_normal(shape)
    if is_complex:
        x = x + 1j * rng.standard_normal(shape)
    x = laid(x.astype(dtype), layout)
    x.flags.writeable = False
    expected = x.astype(complex)
    for axis, factor in zip(axes, factors, strict=True):
        expected = np.moveaxis(np.tensordot(factor, expected, (1, axis)), 0, axis)
    out = laid(np.full(made, np.nan, cdtype), layout)
    before = x.copy()
    transform.forward(x, out, axes, by)
    assert (x == before).all()
    agree(out, expected, tolerance)

    y = rng.standard_normal(made) + 1j * rng.standard_normal(made)
    y = laid(y.astype(cdtype), layout)
    y.flags.writeable = False
    expected = y.astype(complex)
    for axis, factor in zip(axes, factors, strict=True):
        adjoint = factor.conj().T
        expected = np.moveaxis(np.tensordot(adjoint, expected, (1, axis)), 0, axis)
    back = laid(np.full(shape, np.nan, x.dtype if transform.real else cdtype), layout)
    before = y.copy()
    transform.adjoint(y, back, axes, by)
    assert (y == before).all()
    agree(back, expected.real if transform.real else expected, tolerance)


@pytest.mark.parametrize("nfft", [1, 2, 3, 4, 5, 7, 8, 11, 12])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_one_axis(by, size, nfft):
    for real, before, after in itertools.product([False, True], repeat=3):
        if real and after:
            continue
        axis = (size + nfft + before) % 3
        shape = [3, 4, 2]
        shape[axis] = size
        for norm, isometric in itertools.product(NORMS, {False, real}):
            transform = Transform(
                (Along(size, nfft, before, after),), real, norm, isometric
            )
            check(transform, (axis,), shape, "f8" if real else "c16", by)


@pytest.mark.parametrize("axes", [(0, 1), (2, 0), (1, 2), (2, 1, 0), (0, 2, 1)], ids=str)
@pytest.mark.parametrize("real", [False, True], ids=["complex", "real"])
def test_several_axes(by, axes, real):
    lengths = [(4, 5, 6), (6, 5, 5), (3, 8, 7), (1, 2, 3), (6, 3, 12)]
    flags = itertools.product([0, 3, 5, 7], [0, 2, 5, 7])
    # Other axes meet other flags in each length.
    for i, (before, after) in enumerate(flags, 2 * axes[0] + axes[1]):
        nffts = lengths[i % 5]
        along = tuple(
            Along(SHAPE[a], nffts[a], bool(before >> a & 1), bool(after >> a & 1))
            for a in axes
        )
        if real and along[-1].after:
            continue
        transform = Transform(along, real, NORMS[before % 3], True)
        check(transform, axes, SHAPE, "f8" if real else "c16", by)


@pytest.mark.parametrize("layout", ["dense", "fortran", "backwards", "gaps"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_layouts_and_precision(by, dtype, layout):
    """Complex transforms take real data too; real ones take real data only."""
    for real, nfft, flag in itertools.product([False, True], [5, 4, 8], [False, True]):
        if real and dtype.startswith("c"):
            continue
        one = (Along(5, nfft, flag, flag and not real),)
        two = (Along(4, 4, flag, flag), Along(5, nfft, flag))
        for axes, along in (((1,), one), ((0, 1), two)):
            check(Transform(along, real, "ortho", True), axes, SHAPE, dtype, by, layout)


def test_real_data_are_frequencies_too(by):
    y = np.random.default_rng(0).standard_normal((3, 5))
    for real in (False, True):
        transform = Transform((Along(8, 8),), real, "none", True)
        given = y if real else np.hstack([y, y[:, :3]])
        out = np.empty((3, 8), float if real else complex)
        again = out.copy()
        transform.adjoint(given, out, (1,), by)
        transform.adjoint(given + 0j, again, (1,), by)
        agree(out, again, 1e-14)


def test_both_engines_give_the_same():
    pytest.importorskip("ducc0")
    x = np.random.default_rng(0).standard_normal((30, 50, 77))
    for real in (False, True):
        transform = Transform((Along(30, 32), Along(77, 96)), real, "ortho", True)
        made = (32, 50, 49 if real else 96)
        results = [np.empty(made, complex) for _ in range(2)]
        for result, name in zip(results, ("scipy", "ducc0"), strict=True):
            transform.forward(x, result, (0, 2), kernels.engine(name))
        agree(results[0], results[1], 1e-14)


def test_what_is_not_finite_stays_in_its_line(by):
    x = np.ones((3, 8))
    x[1, 2] = np.inf
    transform = Transform((Along(8, 8),), True, "ortho", True)
    out = np.empty((3, 5), complex)
    with np.errstate(invalid="ignore"):
        transform.forward(x, out, (1,), by)
    assert np.isfinite(out[[0, 2]]).all()
    assert not np.isfinite(out[1]).any()


def test_the_engine_is_looked_for_when_first_used():
    code = """
import sys
import xlops
assert "ducc0" not in sys.modules and "scipy.fft" not in sys.modules
sys.modules["ducc0"] = None  # as if it were not installed
from xlops.kernels.fourier import engine
assert engine() is engine()
print(type(engine()).__module__, type(engine()).__name__, end="")
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "xlops.kernels.fourier _Scipy"


def test_ducc0_is_taken_where_it_is_installed():
    pytest.importorskip("ducc0")
    assert kernels.engine() is not kernels.engine("scipy")
    assert type(kernels.engine()) is type(kernels.engine("ducc0"))


# --- operators against PyLops ---------------------------------------------------------


def both_ways(A, P, x, chunked=()):
    """Forward on x, adjoint on a random member of the range, against PyLops."""
    forward = P @ x.values
    y = A @ x
    # PyLops keeps axes where they are, xlops sets new dims side by side.
    order = [A.range.dims[A.domain.dims.index(d)] if d in A.domain else d for d in x.dims]
    tolerance = 1e-12 if y.dtype == np.complex128 else 1e-6
    agree(y.transpose(*order), forward, tolerance)
    rng = np.random.default_rng(8)
    v = rng.standard_normal(forward.shape) + 1j * rng.standard_normal(forward.shape)
    v = y.transpose(*order).copy(data=v.astype(y.dtype))
    back = A.H @ v
    agree(back.transpose(*x.dims), P.H @ v.values, tolerance)
    for dim in A.domain.dims:
        xr.testing.assert_identical(back[dim].variable, x[dim].variable)
    for chunks in chunked:
        lazy = A @ x.chunk(chunks)
        agree(lazy.transpose(*order), forward, tolerance)
        renamed = {order[x.dims.index(dim)]: n for dim, n in chunks.items()}
        lazy = A.H @ v.chunk(renamed)
        agree(lazy.transpose(*x.dims), P.H @ v.values, tolerance)


@pytest.mark.parametrize("dims", list(itertools.permutations(DIMS, 2)), ids="-".join)
@pytest.mark.parametrize("real", [False, True], ids=["complex", "real"])
@pytest.mark.filterwarnings("ignore:nffts in directions:UserWarning")
def test_fft2d(dims, real):
    x = cube(1, "float64" if real else "complex128")
    axes = [DIMS.index(dim) for dim in dims]
    lengths = [None, (9, None), (8, 8), (2, 3), 1]
    flags = itertools.product(
        [False, True, (True, False), (False, True)],
        [False, (True, False)] if real else [False, True, (True, False), (False, True)],
    )
    # Other dims meet other flags in each length.
    for i, (before, after) in enumerate(flags, 2 * axes[0] + axes[1]):
        nffts = lengths[i % 5]
        kwargs = {
            "nffts": nffts,
            "real": real,
            "norm": NORMS[i % 3],
            "ifftshift_before": before,
            "fftshift_after": after,
        }
        P = pylops.signalprocessing.FFT2D(SHAPE, axes=axes, dtype=x.dtype, **kwargs)
        both_ways(xl.FFT2D(*(x[dim] for dim in dims), **kwargs), P, x)


CHUNKS = [{"time": 1}, {"shot": 1, "depth": 4}, {"depth": 4, "time": 2}]


@pytest.mark.parametrize("kind", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(
    "dims",
    [("shot",), ("depth", "time"), ("time", "shot"), ("depth", "shot", "time")],
    ids="-".join,
)
def test_fftnd(dims, kind, by):
    """On NumPy and on Dask, cut along the dims and across."""
    x = cube(2, kind)
    real = not kind.startswith("complex")
    axes = [DIMS.index(dim) for dim in dims]
    for padded, flag in itertools.product([False, True], repeat=2):
        kwargs = {
            "nffts": [SHAPE[axis] + 3 for axis in axes] if padded else None,
            "real": real,
            "ifftshift_before": flag,
            "fftshift_after": [flag] * (len(dims) - 1) + [flag and not real],
        }
        P = pylops.signalprocessing.FFTND(SHAPE, axes=axes, dtype=kind, **kwargs)
        A = xl.FFTND(*(x[dim] for dim in dims), **kwargs)
        assert (A @ x).dtype == np.result_type(kind, np.complex64)
        assert (A.H @ (A @ x)).dtype == x.dtype
        both_ways(A, P, x, CHUNKS if flag == padded else ())


def test_one_dim_is_the_same_as_fft(by):
    x = cube(3)
    for real in (False, True):
        one = xl.FFT(x.time, 7, real, norm="1/n", ifftshift_before=True, dim="f")
        many = xl.FFTND(
            x.time, nffts=7, real=real, norm="1/n", ifftshift_before=True, dim={"time": "f"}
        )
        xr.testing.assert_identical(one @ x, many @ x)
        xr.testing.assert_identical(one.H @ (one @ x), many.H @ (many @ x))


@pytest.mark.parametrize("scaling", ["isometric", "plain"])
def test_several_dims_are_one_after_the_other(scaling, by):
    """A real transform along the last dim given, complex ones along the others."""
    x = cube(4)
    A = xl.FFTND(x.depth, x.shot, x.time, nffts=(8, None, 6), real=True, scaling=scaling)
    chain = (
        xl.FFT(x.depth, 8) @ xl.FFT(x.shot) @ xl.FFT(x.time, 6, real=True, scaling=scaling)
    )
    y = A @ x
    agree(y.transpose(*(chain @ x).dims), (chain @ x).values)
    v = y.copy(data=np.exp(1j * np.arange(y.size)).reshape(y.shape))
    agree((A.H @ v).transpose(*DIMS), (chain.H @ v).transpose(*DIMS).values)


# --- what operators say ---------------------------------------------------------------


def test_norms_are_kept(by):
    for n in (1, 2, 5, 8):
        x = xr.DataArray(np.random.default_rng(n).standard_normal((3, n)), dims=("x", "t"))
        for A in (
            xl.FFT(x.t, real=True),
            xl.FFT2D(x.x, x.t, real=True),
            xl.FFT2D(x.t, x.x, nffts=(16, 4), real=True),
            xl.FFTND(x.t, x.x, nffts=16),
        ):
            np.testing.assert_allclose(np.linalg.norm(A @ x), np.linalg.norm(x), rtol=1e-14)
            agree((A.H @ A @ x).transpose(*x.dims), x.values, 1e-14)


def test_unitary_where_nothing_is_cut_or_padded():
    d = cube()
    assert xl.FFT2D(d.time, d.depth, fftshift_after=True).traits == {"unitary"}
    for kwargs in ({"nffts": (None, 7)}, {"norm": "none"}, {"real": True}):
        assert not xl.FFT2D(d.time, d.depth, **kwargs).traits
    assert xl.FFT2D(d.time, d.depth).clinear
    assert not xl.FFT2D(d.time, d.depth, real=True).clinear


def test_names_and_order():
    d = cube()
    y = xl.FFT2D(d.depth, d.shot) @ d
    assert y.dims == ("freq_depth", "freq_shot", "time")
    assert (xl.FFT2D(d.depth, d.shot).H @ y).dims == ("depth", "shot", "time")
    assert (xl.FFT2D(d.shot, d.depth) @ d.transpose("time", ...)).dims == (
        *("time", "freq_shot", "freq_depth"),
    )
    assert xl.FFT2D(d.depth, d.shot, dim={"shot": "k"}).range.dims == ("freq_depth", "k")
    assert xl.FFTND(d.depth, d.shot, dim=["a", "b"]).range.dims == ("a", "b")
    assert "FFT2D(depth, shot)" in repr(xl.FFT2D(d.depth, d.shot))
    applied = d.lops.apply(xl.FFT2D, "depth", "shot", real=True)
    xr.testing.assert_identical(applied, xl.FFT2D(d.depth, d.shot, real=True) @ d)


def test_parameters_tell_operators_apart():
    d = cube()
    made = [
        xl.FFT2D(d.time, d.depth),
        xl.FFTND(d.time, d.depth),
        xl.FFT2D(d.depth, d.time),
        xl.FFT2D(d.time, d.depth, nffts=(None, 7)),
        xl.FFT2D(d.time, d.depth, real=True),
        xl.FFT2D(d.time, d.depth, norm="none"),
        xl.FFT2D(d.time, d.depth, ifftshift_before=(True, False)),
        xl.FFT2D(d.time, d.depth, ifftshift_before=(False, True)),
        xl.FFT2D(d.time, d.depth, fftshift_after=(False, True)),
        xl.FFT2D(d.time, d.depth, real=True, scaling="plain"),
        xl.FFT2D(d.time, d.depth, dim={"time": "f"}),
    ]
    assert len(set(made)) == len(made)
    assert [pickle.loads(pickle.dumps(A)) for A in made] == made
    assert xl.FFT2D(d.time, d.depth, nffts=SHAPE[1:]) == made[0]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"nffts": (4,)}, xl.ArgumentError, "nffts has 1 items for 2 dims"),
        ({"nffts": (4, 0)}, xl.ArgumentError, "nfft must be at least 1, got 0"),
        ({"nffts": 2.5}, xl.DTypeError, "nfft must be a whole number"),
        ({"nffts": True}, xl.DTypeError, "nfft must be a whole number"),
        ({"norm": "backward"}, xl.ArgumentError, "norm must be one of 'ortho'"),
        ({"norm": "ORTHO"}, xl.ArgumentError, "norm must be one of 'ortho'"),
        ({"scaling": "none"}, xl.ArgumentError, "scaling must be one of"),
        ({"real": "yes"}, xl.ArgumentError, "real must be one of"),
        ({"ifftshift_before": (True,) * 3}, xl.ArgumentError, "3 items for 2 dims"),
        ({"fftshift_after": "no"}, xl.ArgumentError, "fftshift_after must be one of"),
        # PyLops warns and puts these frequencies out of order.
        (
            {"real": True, "fftshift_after": True},
            xl.ArgumentError,
            "along 'depth' are in order already; give fftshift_after for each dim",
        ),
        ({"dim": "k"}, xl.DTypeError, "a mapping or a sequence of names"),
        ({"dim": ["k"]}, xl.ArgumentError, "dim has 1 items for 2 dims"),
        ({"dim": ["k", "k"]}, xl.LabelError, "two frequency dims are called 'k'"),
        ({"dim": ["k", []]}, xl.DTypeError, "dim must be a name"),
        ({"dim": {"shot": "k"}}, xl.LabelError, "'shot', along which it does not act"),
        ({"dim": {"time": "depth"}}, xl.LabelError, "another name than 'depth'"),
        ({"name": 3}, xl.DTypeError, "name must be a string"),
    ],
    ids=str,
)
def test_what_is_refused(kwargs, error, message):
    d = cube()
    with pytest.raises(error, match=message) as caught:
        xl.FFT2D(d.time, d.depth, **kwargs)
    assert "FFT2D(time, depth)" in str(caught.value)


def test_which_coordinates_are_refused():
    d = cube()
    for coords in ((), (d.time,), (d.time, d.depth, d.shot)):
        with pytest.raises(xl.ArgumentError, match="FFT2D"):
            xl.FFT2D(*coords)
    with pytest.raises(xl.ArgumentError, match="is built from coordinates"):
        xl.FFTND()
    # PyLops transforms such a dim twice, with a warning.
    with pytest.raises(xl.LabelError, match="along each dim once, got 'time' twice"):
        xl.FFT2D(d.time, d.time)
    with pytest.raises(xl.LabelError, match="acts along one dim"):
        xl.FFTND(d.time, d)
    with pytest.raises(xl.DTypeError, match="built from a coordinate"):
        xl.FFTND(d.time, "depth")
    uneven = d.assign_coords(depth=np.arange(6) ** 2.0)
    with pytest.raises(xl.LabelError, match=r"FFT2D\(time, depth\)"):
        xl.FFT2D(uneven.time, uneven.depth)
    with pytest.raises(xl.LabelError, match="freq_time"):
        xl.FFT2D(d.time, d.depth) @ d.rename(shot="freq_time")


def test_labels_of_different_dims_do_not_mix(by):
    """Each frequency has the step, the unit and the order of its own dim."""
    d = cube().assign_coords(time=("time", np.arange(5) * 0.5, {"units": "s"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = xl.FFT2D(d.time, d.depth, fftshift_after=(True, False)) @ d
    np.testing.assert_allclose(y.freq_time.values, [-0.8, -0.4, 0, 0.4, 0.8], rtol=1e-14)
    np.testing.assert_allclose(y.freq_depth.values, np.fft.fftfreq(6, -5.0), rtol=1e-14)
    assert y.freq_time.attrs["units"] == "s-1"
    assert y.freq_depth.attrs["units"] == "m-1"


@pytest.mark.parametrize("real", [False, True], ids=["complex", "real"])
def test_plane_wave(real, by):
    """One wave has one frequency along each dim, and its conjugate where it is real."""
    t, x = np.arange(8) * 0.25, np.arange(12) * 10.0
    d = xr.DataArray(np.zeros((12, 8)), {"x": x, "t": t}, dims=("x", "t"))
    wave = d + np.exp(2j * np.pi * (0.5 * d.t + d.x / 60.0))
    kwargs = {"real": real, "norm": "1/n", "fftshift_after": (True, False)}
    y = xl.FFT2D(d.x, d.t, scaling="plain", **kwargs) @ (wave.real if real else wave)
    expected = xr.zeros_like(y)
    expected.loc[expected.freq_x[8], 0.5] = 0.5 if real else 1.0
    np.testing.assert_allclose(y.freq_x[8], 1 / 60.0, rtol=1e-14)
    np.testing.assert_allclose(y.values, expected.values, rtol=0, atol=1e-15)
