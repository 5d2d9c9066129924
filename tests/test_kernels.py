"""Numeric loops against dense matrices and sums of NumPy in long double."""

import gc
import itertools
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlops.kernels.band import Band
from xlops.kernels.scan import scan, total
from xlops.kernels.stencil import apply, star
from xlops.kernels.vectors import advance, axpy, dot

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def numbers(rng, shape, dtype):
    x = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.asarray(x, dtype)


def wide(x):
    return x.astype(np.clongdouble if x.dtype.kind == "c" else np.longdouble)


def tolerance(dtype, size):
    return 8 * np.finfo(dtype).eps * max(size, 1)


def laid(x, layout):
    """The same values in memory of another layout."""
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "inside":
        big = np.full([n + 3 for n in x.shape], np.nan, x.dtype)
        view = big[tuple(slice(1, n + 1) for n in x.shape)]
    elif layout == "backwards":
        view = np.empty_like(x)[::-1]
    elif layout == "flipped":
        view = np.empty_like(x)[..., ::-1]
    elif layout == "every second":
        view = np.empty([2 * n for n in x.shape], x.dtype)[(slice(None, None, 2),) * x.ndim]
    else:
        view = np.empty_like(x, order="C")
    view[...] = x
    return view


LAYOUTS = ["dense", "fortran", "inside", "backwards", "flipped", "every second"]

# --- bands ----------------------------------------------------------------------------

KINDS = ["even", "ends", "uneven", "padded", "many"]


def banded(rng, n, kind):
    """A band and its matrix, made sample by sample."""
    reach = 21 if kind == "many" else 4
    width = 30 if kind == "many" else int(rng.integers(1, 6))
    offsets = rng.choice(np.arange(-reach, reach + 1), width, replace=False)
    coefficients = np.repeat(rng.normal(size=(width, 1)), n, axis=1)
    used = np.ones((width, n), dtype=bool)
    if kind in ("ends", "uneven"):
        used[:, :1], used[0, -2:] = rng.random((width, 1)) < 0.5, False
        coefficients[:, 0] = rng.normal(size=width)
    if kind == "uneven":
        coefficients = rng.normal(size=(width, n))
    matrix = np.zeros((n, n))
    for w, i in itertools.product(range(width), range(n)):
        if used[w, i] and 0 <= i + offsets[w] < n:
            matrix[i, i + offsets[w]] = coefficients[w, i]
    if kind in ("padded", "many"):
        return Band.constant(n, offsets, coefficients[:, 0]), matrix
    return Band(offsets, coefficients, used), matrix


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 60])
def test_bands(kind, n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        band, matrix = banded(rng, n, kind)
        np.testing.assert_array_equal(band.dense(), matrix)
        np.testing.assert_array_equal(band.transposed.dense(), matrix.T)
        np.testing.assert_array_equal(band.transposed.transposed.dense(), matrix)
        np.testing.assert_array_equal(band.scaled(-0.3).dense(), -0.3 * matrix)
        same = pickle.loads(pickle.dumps(band))
        np.testing.assert_array_equal(same.dense(), matrix)
        before, after = band.reach
        np.testing.assert_array_equal(np.triu(matrix, -before), matrix)
        np.testing.assert_array_equal(np.tril(matrix, after), matrix)
        for other in KINDS:
            more, added = banded(rng, n, other)
            np.testing.assert_array_equal((band + more).dense(), matrix + added)


def test_what_is_made_of_a_band_is_made_once():
    """But not kept for ever, as one factor after the other would be."""
    one, other = centered(9), Band.constant(9, [1], [2.0])
    assert one + other is one + other
    assert one.transposed is one.transposed
    assert one.scaled(0.5) is one.scaled(0.5)
    first = weakref.ref(one.scaled(0.5))
    for factor in range(100):
        one.scaled(float(factor))
    gc.collect()
    assert first() is None


def test_bands_of_different_axes_have_no_sum():
    with pytest.raises(ValueError, match="3 and 4 rows"):
        Band.constant(3, [0], [1.0]) + Band.constant(4, [0], [1.0])


def centered(n):
    used = np.zeros((3, n), dtype=bool)
    used[0, 1:-1] = used[2, 1:-1] = used[1:, 0] = used[:2, -1] = True
    coefficients = np.where(used, np.array([[-0.5], [0.0], [0.5]]), 0.0)
    coefficients[1:, 0] = coefficients[:2, -1] = -1.0, 1.0
    return Band([-1, 0, 1], coefficients, used)


def test_even_bands_are_small():
    n = 1_000_000
    for band in (centered(n), Band.constant(n, range(-40, 41), np.arange(81.0))):
        out = np.empty(4)
        star(np.ones(100), out, [(0, band)], have=[500], want=[540])
        for each in (band, band.transposed, band.scaled(2.0), band + band):
            assert len(pickle.dumps(each)) < 4000


# --- stencils -------------------------------------------------------------------------


def product(x, matrices):
    """The sum of matrices along axes, in long double."""
    out = np.zeros(x.shape, wide(x).dtype)
    for axis, matrix in matrices:
        out += np.moveaxis(np.tensordot(wide(matrix), wide(x), (1, axis)), 0, axis)
    return out


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_stencils_are_sums_of_matrices(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    long = data.draw(st.integers(-1, len(shape) - 1))
    if long >= 0:
        shape[long] = data.draw(st.integers(20, 90))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=4))
    made = [banded(rng, shape[axis], data.draw(st.sampled_from(KINDS))) for axis in axes]
    terms = [(axis, band) for axis, (band, _) in zip(axes, made, strict=True)]
    x = numbers(rng, shape, dtype)
    expected = product(x, [(axis, m) for axis, (_, m) in zip(axes, made, strict=True)])
    size = product(abs(x), [(a, abs(m)) for a, (_, m) in zip(axes, made, strict=True)])

    # A piece of the whole, and what it reads.
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    stop = [data.draw(st.integers(i + 1, n)) for i, n in zip(start, shape, strict=True)]
    have, end = list(start), list(stop)
    for axis, band in terms:
        before, after = band.reach
        have[axis] = max(0, min(have[axis], start[axis] - before))
        end[axis] = min(shape[axis], max(end[axis], stop[axis] + after))
    have[0] = data.draw(st.integers(0, have[0]))
    piece = tuple(slice(i, j) for i, j in zip(start, stop, strict=True))
    given_ = x[tuple(slice(i, j) for i, j in zip(have, end, strict=True))]
    given_ = laid(given_, data.draw(st.sampled_from(LAYOUTS)))
    given_.flags.writeable = False
    blank = np.full([j - i for i, j in zip(start, stop, strict=True)], np.nan, dtype)
    out = laid(blank, data.draw(st.sampled_from(LAYOUTS)))
    star(given_, out, terms, have, start)
    error = abs(wide(out) - expected[piece])
    assert np.all(error <= tolerance(dtype, 4) * size[piece].real + 1e-30)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_read_only_what_they_use(axis, bad, kind):
    rng = np.random.default_rng(3)
    shape = (9, 8, 40)
    band, matrix = banded(rng, shape[axis], kind)
    for i in (0, 1, 3, shape[axis] - 1):
        x = rng.normal(size=shape)
        np.moveaxis(x, axis, 0)[i] = bad
        out = np.empty(shape)
        star(x, out, [(axis, band)], (0, 0, 0), (0, 0, 0))
        clean = np.all(np.isfinite(np.moveaxis(out, axis, 0)), axis=(1, 2))
        np.testing.assert_array_equal(clean, matrix[:, i] == 0)


def test_lines_longer_than_a_run_and_planes_larger_than_the_cache():
    rng = np.random.default_rng(0)
    for shape in [(3, 20_001), (20_001, 3), (5, 700, 401), (3, 2, 9_000)]:
        x, out = rng.normal(size=shape), np.empty(shape)
        zero = [0] * len(shape)
        for padded in (False, True):
            bands = [Band.constant(n, [-1, 0, 2], [2.0, -3.0, 0.5]) for n in shape]
            if not padded:
                used = [np.pad(np.ones((3, n - 2), bool), [(0, 0), (1, 1)]) for n in shape]
                table = np.array([[2.0], [-3.0], [0.5]])
                bands = [Band([-1, 0, 2], table * u, u) for u in used]
            star(x, out, list(enumerate(bands)), zero, zero)
            expected = np.zeros(shape)
            for axis, n in enumerate(shape):
                whole = np.moveaxis(x, axis, 0)
                wider = np.concatenate([whole[:1] * 0, whole, whole[:2] * 0])
                rows = 2 * wider[:n] - 3 * wider[1 : n + 1] + 0.5 * wider[3 : n + 3]
                if not padded:
                    rows[0] = rows[-1] = 0
                expected += np.moveaxis(rows, 0, axis)
            np.testing.assert_allclose(out, expected, rtol=0, atol=1e-13)


def test_apply_is_one_band():
    band = centered(6)
    x = np.arange(12.0).reshape(1, 6, 2) ** 2
    out = apply(x[:, 1:], band, slice(1, 6), slice(2, 6))
    np.testing.assert_allclose(out[0], (band.dense() @ x[0])[2:], rtol=1e-15)


def test_other_dtypes_are_refused():
    band = Band.constant(3, [0], [1.0])
    for dtype, other in [(int, int), (np.float32, np.float64), (">f8", ">f8")]:
        with pytest.raises(TypeError, match="no stencils from"):
            star(np.ones(3, dtype), np.ones(3, other), [(0, band)], [0], [0])


# --- running sums ---------------------------------------------------------------------


def triangular(before, own):
    return np.tril(np.tile(before, (len(own), 1)), -1) + np.diag(own)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 7, 1), (6, 5, 3), (1, 9, 2), (2, 3, 1500)]
)
def test_running_sums_in_pieces(shape, layout, dtype):
    rng = np.random.default_rng(1)
    n = shape[1]
    x = laid(numbers(rng, shape, dtype), layout)
    x.flags.writeable = False
    before, own = rng.normal(size=(2, n))
    matrix = triangular(before, own)
    cuts = [0, *sorted({n // 3, n // 2, n})]
    pieces = [slice(i, j) for i, j in itertools.pairwise(cuts) if j > i]
    for reverse in (False, True):
        whole = product(x, [(1, matrix.T if reverse else matrix)])
        out = laid(np.full(shape, np.nan, dtype), layout)
        double = np.result_type(dtype, np.float64)
        carry = np.zeros((shape[0], shape[2]), double)
        for piece in pieces[::-1] if reverse else pieces:
            part = x[:, piece]
            scan(part, out[:, piece], before[piece], own[piece], carry, reverse)
            add = np.empty_like(carry)
            total(part, None if reverse else before[piece], add)
            carry = carry + add
        size = product(abs(x), [(1, abs(matrix.T if reverse else matrix))])
        assert np.all(abs(wide(out) - whole) <= tolerance(dtype, 1) * size.real + 1e-13)
        # All at once, in place.
        mine = x.copy()
        scan(mine, mine, before, own, None, reverse)
        assert np.all(abs(wide(mine) - whole) <= tolerance(dtype, 1) * size.real + 1e-13)


def test_running_sums_of_float32_are_taken_in_double():
    n = 200_000
    x = np.full((1, n, 1), 0.1, np.float32)
    out = np.empty_like(x)
    scan(x, out, np.ones(n), np.ones(n))
    exact = np.arange(1, n + 1) * float(x[0, 0, 0])
    np.testing.assert_allclose(out.ravel(), exact, rtol=1e-7)


# --- vectors --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("into", ["new", "x", "y", "both"])
@pytest.mark.parametrize("a", [0.0, -1.7, 0.3 + 0.9j])
def test_axpy(dtype, n, into, a):
    if isinstance(a, complex) and np.dtype(dtype).kind != "c":
        with pytest.raises(TypeError, match="complex factor"):
            axpy(a, np.ones(n, dtype), np.ones(n, dtype), np.ones(n, dtype))
        return
    rng = np.random.default_rng(n)
    x, y = numbers(rng, n, dtype), numbers(rng, n, dtype)
    if into == "both":
        y = x
    expected = wide(y) + np.asarray(
        a, wide(x).dtype if isinstance(a, complex) else None
    ) * (wide(x))
    out = {"new": np.full(n, np.nan, dtype), "x": x, "y": y, "both": x}[into]
    if out is not x:
        x.flags.writeable = False
    norm = axpy(a, x, y, out)
    size = abs(expected) + 2 * abs(expected).max(initial=0)
    assert np.all(abs(wide(out) - expected) <= tolerance(dtype, 1) * (size + 4))
    exact = (abs(wide(out)) ** 2).sum()
    assert abs(norm - exact) <= tolerance(np.float64, 1) * exact
    if out is not y:
        assert norm == pytest.approx(dot(out, out), rel=1e-14)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100_000])
def test_advance(dtype, n, new):
    rng = np.random.default_rng(n)
    x, p, z = (numbers(rng, n, dtype) for _ in range(3))
    a, b = 0.7, -1.3
    expected = wide(x) + a * wide(p), wide(z) + b * wide(p)
    out = (np.full(n, np.nan, dtype), np.full(n, np.nan, dtype)) if new else ()
    for array in (x, p, z) if new else (z,):
        array.flags.writeable = False
    advance(a, b, x, p, z, *out)
    for made, exact in zip(out or (x, p), expected, strict=True):
        size = abs(exact) + 2 * abs(exact).max(initial=0)
        assert np.all(abs(wide(made) - exact) <= tolerance(dtype, 1) * (size + 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100_000])
def test_dot(dtype, n):
    rng = np.random.default_rng(n)
    x, y = numbers(rng, n, dtype), numbers(rng, n, dtype)
    x.flags.writeable = y.flags.writeable = False
    exact = (wide(x).conj() * wide(y)).real.sum()
    scale = (abs(wide(x)) * abs(wide(y))).sum()
    assert isinstance(dot(x, y), float)
    assert abs(dot(x, y) - exact) <= 100 * np.finfo(float).eps * scale


def test_vectors_that_do_not_fit_are_refused():
    x = np.ones(4)
    with pytest.raises(TypeError, match="differ"):
        axpy(1.0, x, x, np.ones(5))
    with pytest.raises(TypeError, match="differ"):
        advance(1.0, 1.0, x.copy(), x.copy(), np.ones(5))
    with pytest.raises(TypeError, match="differ"):
        dot(x, x.astype(np.float32))
    with pytest.raises(ValueError, match="contiguous"):
        dot(np.ones(8)[::2], x)
