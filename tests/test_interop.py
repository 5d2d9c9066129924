"""Operators of PyLops on labeled data, and bound operators in the solvers of others."""

import pickle
import threading

import dask
import numpy as np
import pylops
import pylops.avo.avo
import pylops.avo.poststack
import pylops.avo.prestack
import pylops.waveeqprocessing as wave
import pyproximal
import pytest
import scipy.sparse.linalg as sla
import xarray as xr
from pylops import signalprocessing as sp
from pylops.utils.dottest import dottest

import xlops as xl

RNG = np.random.default_rng(11)
T = 0.004 * np.arange(12)
H = 10.0 * np.arange(5)
PX = np.linspace(-3e-4, 3e-4, 6)
WAV = np.array([0.5, 1.0, -0.25])
THETA = np.array([0.0, 10.0, 20.0])
DEPTHS, ACROSS = 10.0 * np.arange(5), 10.0 * np.arange(6)
ENDS = np.array([[5.0, 40.0], [0.0, 0.0]])


def complex_values(*shape):
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


def kirchhoff():
    to = np.hypot(*(c[..., None] - e for c, e in zip(np.meshgrid(ACROSS, DEPTHS, indexing="ij"), ENDS, strict=True)))
    trav = to.reshape(-1, 2) / 1500.0
    return wave.Kirchhoff(
        DEPTHS, ACROSS, T, ENDS, ENDS, 1500.0, WAV, 1, mode="byot", trav=(trav, trav)
    )


def sliding():
    op = pylops.MatrixMult(RNG.standard_normal((4, 3)), otherdims=None)
    return sp.Sliding1D(op, 3 * 4, 10, 4, 2)


OPERATORS = {
    # basic
    "MatrixMult": lambda: pylops.MatrixMult(RNG.standard_normal((3, 5))),
    "MatrixMult, complex": lambda: pylops.MatrixMult(
        complex_values(3, 5), otherdims=(2,), dtype="complex128"
    ),
    "Diagonal": lambda: pylops.Diagonal(RNG.standard_normal(4), dims=(3, 4), axis=1),
    "Identity": lambda: pylops.Identity(3, 5),
    "Zero": lambda: pylops.Zero(3, 5),
    "Restriction": lambda: pylops.Restriction((3, 6), [0, 2, 5], axis=1),
    "Flip": lambda: pylops.Flip((3, 4), axis=0),
    "Symmetrize": lambda: pylops.Symmetrize((3, 4), axis=0),
    "Transpose": lambda: pylops.Transpose((3, 4), (1, 0)),
    "Roll": lambda: pylops.Roll((3, 4), axis=1, shift=2),
    "Pad": lambda: pylops.Pad((3, 4), ((1, 0), (2, 1))),
    "Sum": lambda: pylops.Sum((3, 4), axis=0),
    "VStack": lambda: pylops.VStack([pylops.Flip(4), pylops.Identity(4)]),
    "BlockDiag": lambda: pylops.BlockDiag([pylops.Flip(4), pylops.Sum(3)]),
    "Kronecker": lambda: pylops.Kronecker(
        pylops.Flip(2), pylops.MatrixMult(RNG.standard_normal((2, 3)))
    ),
    "Regression": lambda: pylops.Regression(T, 2),
    "Real": lambda: pylops.Real(5),
    "Imag": lambda: pylops.Imag((2, 3)),
    "Conj": lambda: pylops.Conj(5),
    "Smoothing2D": lambda: pylops.Smoothing2D((3, 3), (6, 5)),
    "CausalIntegration": lambda: pylops.CausalIntegration((3, 6), sampling=0.5),
    "FirstDerivative": lambda: pylops.FirstDerivative((6, 5), axis=0, order=5),
    "Laplacian": lambda: pylops.Laplacian((5, 6), edge=True),
    "Gradient": lambda: pylops.Gradient((4, 5)),
    "FirstDirectionalDerivative": lambda: pylops.FirstDirectionalDerivative(
        (5, 6), np.array([0.6, 0.8])
    ),
    "FunctionOperator": lambda: pylops.FunctionOperator(np.negative, np.negative, 4, 4),
    "product": lambda: pylops.FirstDerivative((3, 4)) @ pylops.Flip((3, 4)),
    "sum": lambda: pylops.Flip(5) + 2.0 * pylops.Identity(5),
    # signalprocessing
    "FFT": lambda: sp.FFT((3, 8), axis=0, nfft=6),
    "FFT, real": lambda: sp.FFT((8, 3), axis=0, real=True),
    "FFT and back": lambda: sp.FFT(8, real=True).H @ sp.FFT(8, real=True),
    "FFT2D": lambda: sp.FFT2D((4, 6), real=True),
    "FFTND": lambda: sp.FFTND((4, 3, 2)),
    "Shift": lambda: sp.Shift((3, 8), 1.5, real=True),
    "Convolve1D": lambda: sp.Convolve1D((3, 9), WAV, offset=1),
    "Convolve2D": lambda: sp.Convolve2D((6, 7), np.outer(WAV, WAV), offset=(1, 1)),
    "NonStationaryConvolve1D": lambda: sp.NonStationaryConvolve1D(
        12, np.stack([WAV, 2 * WAV]), ih=(3, 8)
    ),
    "Interp": lambda: sp.Interp((6, 3), np.array([0.5, 2.25, 4.0]), axis=0)[0],
    "Bilinear": lambda: sp.Bilinear(np.array([[0.5, 2.2], [1.5, 3.1]]), (5, 6)),
    "Radon2D": lambda: sp.Radon2D(T, H, PX),
    "ChirpRadon2D": lambda: sp.ChirpRadon2D(T, H, 3e-4),
    "Sliding1D": sliding,
    "Fredholm1": lambda: sp.Fredholm1(RNG.standard_normal((4, 3, 2)), nz=2),
    "DCT": lambda: sp.DCT((4, 6), axes=1),
    # waveeqprocessing
    "MDC": lambda: wave.MDC(complex_values(4, 3, 2), nt=7, nv=2, twosided=True),
    "PhaseShift": lambda: wave.PhaseShift(
        1500.0, 20.0, 8, np.fft.rfftfreq(8, 0.004), np.fft.fftshift(np.fft.fftfreq(6, 10.0))
    ),
    "BlendingContinuous": lambda: wave.BlendingContinuous(
        8, 2, 3, 0.004, np.array([0.0, 0.018, 0.04])
    ),
    "Kirchhoff": kirchhoff,
    # avo
    "AVOLinearModelling": lambda: pylops.avo.avo.AVOLinearModelling(THETA, nt0=4),
    "PoststackLinearModelling": lambda: pylops.avo.poststack.PoststackLinearModelling(
        WAV, 9, spatdims=2
    ),
    "PrestackLinearModelling": lambda: pylops.avo.prestack.PrestackLinearModelling(
        WAV, THETA, nt0=6
    ),
}


def side(sizes, names):
    """Labels for sizes as PyLops has them."""
    coords = {
        dim: (dim, 10.0 + 2.0 * np.arange(n), {"units": "m"})
        for dim, n in zip(names, sizes, strict=False)
    }
    return xr.Dataset(coords=coords)


def members(space, dtype=np.float64):
    """Random data with a dim that passes through, in its midst."""
    like = xr.DataArray(np.zeros(3, dtype), dims="shot")
    x = space.random(3, like=like)
    return x.transpose(*x.dims[:1], "shot", ...)


def item_by_item(function, x, given, made, dims):
    items = x.transpose("shot", *given.dims).values.reshape(x.sizes["shot"], -1)
    values = np.stack([function(item.copy()) for item in items])
    shape = (x.sizes["shot"], *made.sizes.values())
    result = xr.DataArray(values.reshape(shape), dims=("shot", *made.dims))
    return result.transpose(*dims).values


def agree(result, expected, rtol=1e-13):
    assert result.shape == expected.shape
    scale = np.max(np.abs(expected), initial=1e-300)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=0, atol=rtol * scale)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", OPERATORS)
def test_is_what_pylops_does_to_each_item(name):
    op = OPERATORS[name]()
    A = xl.from_pylops(op, side(op.dims, "abc"), side(op.dimsd, "uvw"))
    assert A.clinear == op.clinear
    for B, function in ((A, op.matvec), (A.H, op.rmatvec)):
        x = members(B.domain)
        for chunks in ({"shot": 1}, {x.dims[0]: 1, "shot": 2}):
            y = B @ x.chunk(chunks)
            assert y.chunks is not None
            agree(y, item_by_item(function, x, B.domain, B.range, y.dims))
        assert y.identical((B @ x).chunk(y.chunksizes))
    assert xl.dottest(A, like=xr.DataArray(np.zeros(3), dims="shot"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", OPERATORS)
def test_pickles_and_is_told_from_others(name):
    op = OPERATORS[name]()
    A = xl.from_pylops(op, side(op.dims, "abc"), side(op.dimsd, "uvw"))
    token = A.token
    A @ A.domain.zeros()
    again = xl.from_pylops(op, side(op.dims, "abc"), side(op.dimsd, "uvw"))
    assert again.token == token
    assert pickle.loads(pickle.dumps(A)) == A
    assert 2.0 * A != A
    assert xl.from_pylops(pylops.Flip(3), side((3,), "a")) != A
