"""Chains of bands and weights in one pass, against dense matrices."""

import itertools
from unittest import mock

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xlops as xl
from xlops.engine import evaluate, graph
from xlops.kernels import lines
from xlops.kernels.band import Band
from xlops.windows.lines import MOST_WEIGHTS

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def numbers(rng, shape, dtype):
    x = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.asarray(x, dtype)


def banded(rng, n, kind):
    offsets = np.sort(rng.permutation(np.arange(-3, 4))[: rng.integers(1, 6)])
    if kind == "constant":
        return Band.constant(n, offsets, rng.normal(size=len(offsets)))
    if kind == "uneven":
        used = rng.random((len(offsets), n)) < 0.8
        return Band(offsets, rng.normal(size=(len(offsets), n)), used)
    coefficients = np.repeat(rng.normal(size=(len(offsets), 1)), n, axis=1)
    used = np.ones((len(offsets), n), bool)
    used[:, :2] = used[:, -1:] = False  # first and last rows of zeros
    return Band(offsets, coefficients, used)


@pytest.mark.parametrize("examples", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_lines(examples):
    some = settings(max_examples=examples, deadline=None)
    some(given(st.data())(check_lines))()


def check_lines(data):
    """Any bands, weights, layouts, and cuts of x along the axis."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    n = draw(st.integers(1, 60))
    outer, inner = draw(st.sampled_from([(3, 20), (1, 700), (2, 1), (1, 1200)]))
    kinds = st.sampled_from(["constant", "uneven", "ends"])
    bands = [banded(rng, n, kind) for kind in draw(st.lists(kinds, min_size=1, max_size=4))]
    x = numbers(rng, (outer, n, 2, inner), dtype)
    low = draw(st.integers(0, n - 1))
    high = draw(st.integers(low + 1, n))

    expected, scale = x.astype(np.result_type(dtype, float)), 1.0
    levels = []
    for band in [None, *bands]:
        if band is not None:
            expected = np.einsum("ij,aj...->ai...", band.dense(), expected)
        weight, conjugate = None, draw(st.booleans())
        if len(levels) < lines.WEIGHTS and draw(st.booleans()):
            shape = [size if draw(st.booleans()) else 1 for size in x.shape]
            kind = draw(st.sampled_from([dtype, x.real.dtype]))
            weight = numbers(rng, shape, kind)
            expected = expected * (weight.conj() if conjugate else weight)
            if draw(st.booleans()):
                weight = np.asfortranarray(weight)
        levels.append(lines.Level(band, weight, 0, conjugate))
        scale = max(scale, float(abs(expected).max()))

    reach = [sum(b.reach[side] for b in bands) for side in (0, 1)]
    first, last = max(low - reach[0], 0), min(high + reach[1], n)
    cuts = draw(st.sets(st.integers(first, last), max_size=2)) - {first, last}
    edges = [first, *sorted(cuts), last]
    pieces = []
    for a, b in itertools.pairwise(edges):
        piece = x[:, a:b]
        if draw(st.booleans()):
            piece = np.asfortranarray(piece)
        pieces.append((piece, a))
    out = np.full((outer, high - low, 2, inner), np.nan, dtype)
    lines.run(pieces, out, 1, low, levels)
    error = 50 * len(levels) * np.finfo(dtype).eps * scale
    np.testing.assert_allclose(out, expected[:, low:high], rtol=0, atol=error)


def test_as_many_weights_as_the_kernel_takes():
    assert MOST_WEIGHTS == lines.WEIGHTS


# --- through the engine ---------------------------------------------------------------


def chain(d, w):
    return (
        xl.Smoothing1D(d.y, 5)
        @ xl.SecondDerivative(d.y, edge=True)
        @ xl.Diagonal(w)
        @ (-2.5 * xl.FirstDerivative(d.y))
        @ xl.Diagonal(w)
    )


def matrix(n):
    """The three bands of the chain, one by one."""
    first, second, mean = np.zeros((3, n, n))
    for i in range(n):
        if 0 < i < n - 1:
            first[i, i - 1], first[i, i + 1] = -0.5, 0.5
        at = min(max(i, 1), n - 2)
        second[i, at - 1 : at + 2] = 1.0, -2.0, 1.0
        mean[i, max(i - 2, 0) : i + 3] = 0.2
    return -2.5 * first, second, mean


def along(matrix, x):
    return np.einsum("ij,ajb->aib", matrix, x)


@pytest.fixture
def passes(monkeypatch):
    """How many pieces were made in one pass."""
    calls = []
    inner = evaluate._in_lines

    def counted(*args):
        done = inner(*args)
        calls.append(done)
        return done

    monkeypatch.setattr(evaluate, "_in_lines", counted)
    return calls


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", ["all dims", "axis", "lazy"])
@pytest.mark.parametrize(
    "chunks", [None, (2, 40, 24), (5, 8, 24), (5, 3, 24), (5, (1, 38, 1), 12)]
)
def test_chain(dtype, weights, chunks, passes):
    """Forward and adjoint, whatever the chunks; in one pass each."""
    rng = np.random.default_rng(0)
    x = numbers(rng, (5, 40, 24), dtype)
    d = xr.DataArray(x, dims=tuple("xyz"), coords={"y": np.arange(40.0)})
    dims = "y" if weights == "axis" else "xyz"
    w = xr.DataArray(numbers(rng, [d.sizes[dim] for dim in dims], dtype), dims=list(dims))
    plain = w.values.reshape((1, 40, 1) if weights == "axis" else x.shape)
    if weights == "lazy":
        w = w.copy(data=da.from_array(w.values, chunks=chunks or (2, 40, 24)))
    A = chain(d, w)
    D, S, M = matrix(40)
    forward = along(M, along(S, plain * along(D, plain * x)))
    inner = along(D.T, plain.conj() * along(S.T, along(M.T, x)))
    adjoint = plain.conj() * inner
    lazy = d if chunks is None else d.chunk(dict(zip("xyz", chunks, strict=True)))
    for B, expected in ((A, forward), (A.H, adjoint)):
        made = (B @ lazy).values
        assert made.dtype == dtype
        atol = 200 * np.finfo(dtype).eps * abs(expected).max()
        np.testing.assert_allclose(made, expected, rtol=0, atol=atol)
    assert any(passes)


def test_what_rows_do_not_use_stays_out(passes):
    """NaN reaches the samples that are made of it, and no others, as step by step."""
    n = 30
    x = np.ones((2, n, 20))
    x[0, 12, 3] = x[1, 0, 5] = np.nan
    d = xr.DataArray(x, dims=tuple("xyz"))
    A = xl.FirstDerivative(d.y) @ xl.SecondDerivative(d.y)
    for chunks in (n, 7):
        made = (A @ d.chunk(y=chunks)).values
        step = xl.FirstDerivative(d.y) @ (xl.SecondDerivative(d.y) @ d)
        np.testing.assert_array_equal(np.isnan(made), np.isnan(step.values))
    assert any(passes)


def test_one_band_at_the_ends_of_chunks(passes):
    """What reads a chunk and a strip of its neighbour reads them as they are."""
    x = np.random.default_rng(3).normal(size=(5, 40, 64))
    d = xr.DataArray(x, dims=tuple("xyz"))
    D, _, _ = matrix(40)
    A = xl.FirstDerivative(d.y)
    with (
        mock.patch.object(graph, "SMALL_CHUNK", 0),
        mock.patch.object(evaluate, "BORDER_BYTES", 0),
    ):
        for B, expected in ((A, D / -2.5), (A.H, D.T / -2.5)):
            made = (B @ d.chunk(y=10)).values
            np.testing.assert_allclose(made, along(expected, x), rtol=0, atol=1e-14)
    assert any(passes)
    assert not all(passes)


def test_not_along_the_last_axis():
    """Lines would be single samples there: step by step, with the same result."""
    x = np.random.default_rng(1).normal(size=(5, 24, 40))
    d = xr.DataArray(x, dims=tuple("xzy"), coords={"y": np.arange(40.0)})
    w = xr.DataArray(np.arange(1.0, 41.0), dims="y")
    turned = chain(d, w) @ d.transpose("x", "y", "z")
    made = chain(d, w) @ d
    xr.testing.assert_allclose(made, turned.transpose(*d.dims), rtol=0, atol=1e-11)
