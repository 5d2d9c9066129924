"""Operators of PyLops on labeled data, and bound operators in the solvers of others."""

import pickle
import threading
import time

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
from xlops.interop.pylops import _lock

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
    to = np.hypot(
        *(
            c[..., None] - e
            for c, e in zip(np.meshgrid(ACROSS, DEPTHS, indexing="ij"), ENDS, strict=True)
        )
    )
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


# What PyLops says of the tables of travel times that its Kirchhoff takes.
@pytest.mark.filterwarnings("ignore:A new implementation of Kirchhoff:FutureWarning")
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


# What PyLops says of the tables of travel times that its Kirchhoff takes.
@pytest.mark.filterwarnings("ignore:A new implementation of Kirchhoff:FutureWarning")
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


# --- values and dtypes ------------------------------------------------------------------


@pytest.fixture
def d():
    return xr.DataArray(
        RNG.standard_normal((4, 9)),
        coords={
            "offset": ("offset", 10.0 * np.arange(4), {"units": "m"}),
            "time": ("time", 0.5 * np.arange(9), {"units": "s"}),
            "live": ("offset", np.arange(4) > 0),
        },
        dims=("offset", "time"),
        name="pressure",
        attrs={"units": "Pa"},
    )


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int16", "complex64", "complex128"]
)
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_dtypes(d, own, dtype):
    op = pylops.FirstDerivative(9, sampling=0.5, dtype=own)
    A = xl.from_pylops(op, d.time)
    x = (10 * d).astype(dtype)
    if x.dtype.kind == "c":
        x = x + (1j * x.real[::-1].values).astype(dtype)
    assert (A @ x).dtype == ("float64" if dtype == "int16" else dtype)
    single = "float32" in (own, dtype) or dtype == "complex64"
    agree(A @ x, (xl.FirstDerivative(d.time) @ x).values, 1e-6 if single else 1e-13)


def test_complex_operators_make_complex_values(d):
    A = xl.from_pylops(sp.FFT(9), d.time, side((9,), "f"))
    assert A.domain.kind == A.range.kind == "complex"
    assert (A @ d.astype("float32")).dtype == "complex64"
    agree(A @ d, np.fft.fft(d.values, norm="ortho"))


def test_sides_that_are_real(d):
    kinds = {}
    for name in ("Real", "Conj", "FFT, real", "FFT and back", "MDC"):
        op = OPERATORS[name]()
        A = xl.from_pylops(op, side(op.dims, "abc"), side(op.dimsd, "uvw"))
        kinds[name] = A.domain.kind, A.range.kind
    assert kinds == {
        "Real": ("complex", "real"),
        "Conj": ("complex", "complex"),
        "FFT, real": ("real", "complex"),
        "FFT and back": ("real", "real"),
        "MDC": ("real", "real"),
    }


def test_labels_and_units(d):
    A = xl.from_pylops(pylops.FirstDerivative(9, sampling=0.5), d.time, units="s-1")
    y = A @ d
    assert y.attrs["units"] == "Pa s-1"
    assert y.identical((xl.FirstDerivative(d.time) @ d).copy(data=y.values))
    unknown = xl.from_pylops(pylops.FirstDerivative(9, sampling=0.5), d.time)
    assert "units" not in (unknown @ d).attrs
    assert unknown != A
    R = xl.from_pylops(pylops.Restriction(9, [1, 5]), d.time, d.time[[1, 5]])
    assert (R.H @ (R @ d)).coords["time"].identical(d.coords["time"])
    both = xl.from_pylops(pylops.Flip((4, 9), axis=0), d)
    np.testing.assert_array_equal(both @ d, d.values[::-1])
    np.testing.assert_array_equal(both @ d.T, d.values[::-1].T)
    total = xl.from_pylops(pylops.Sum((1, 9)), d.time, ())
    agree(total @ d, d.values.sum(1))
    assert total.range.dims == ()


def test_flat_operators_take_what_is_behind_them(d):
    A = xl.from_pylops(pylops.MatrixMult(np.eye(36)[::-1].copy()), (d.offset, d.time))
    np.testing.assert_array_equal(A @ d, d.values[::-1, ::-1])


@pytest.mark.parametrize(
    ("op", "domain", "range_", "error", "words"),
    [
        (lambda x: x, "time", None, xl.DTypeError, "takes an operator of PyLops"),
        (pylops.Flip(8), "time", None, xl.LabelError, "sizes must be those of op.dims, 8"),
        (
            pylops.Flip((9, 4)),
            "all",
            None,
            xl.LabelError,
            "9 × 4, in this order; got 4 × 9",
        ),
        (pylops.Identity(3, 9), "time", None, xl.ArgumentError, "range=…"),
        (pylops.Identity(3, 9), "time", "time", xl.LabelError, "op.dimsd, 3"),
        (pylops.Flip(9), 9, None, xl.DTypeError, "must be labeled"),
    ],
)
def test_errors(d, op, domain, range_, error, words):
    sides = {"time": d.time, "all": d, None: None}
    with pytest.raises(error, match=words):
        xl.from_pylops(op, sides.get(domain, domain), sides[range_])


@pytest.mark.parametrize("units", ["no unit at all", 3.0])
def test_units_that_mean_nothing(d, units):
    with pytest.raises(xl.ArgumentError, match="units must be a unit"):
        xl.from_pylops(pylops.Flip(9), d.time, units=units)


class Careless(pylops.LinearOperator):
    """Keeps its input for a while, and writes to it."""

    def __init__(self, n):
        super().__init__(dtype=np.float64, dims=(n,), dimsd=(n,))
        self.inside = threading.Semaphore(1)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "inside"}

    def _matvec(self, x):
        assert self.inside.acquire(blocking=False), "two threads at once"
        x *= 2
        time.sleep(0.001)
        self.inside.release()
        return x

    _rmatvec = _matvec


def test_operators_of_users_run_one_at_a_time_and_leave_data_alone(d):
    A = xl.from_pylops(Careless(9), d.time)
    before = d.copy(deep=True)
    with dask.config.set(scheduler="threads", num_workers=4):
        np.testing.assert_array_equal((A @ d.chunk(offset=1)).compute(), 2 * d.values)
    xr.testing.assert_identical(d, before)


def test_numba_shares_one_lock():
    table = np.tile(np.arange(6.0)[:, None], (5, 1, 4))
    ops = [
        pylops.Spread((5, 6), (4, 6), table=table, engine=engine)
        for engine in ("numba", "numba", "numpy")
    ]
    locks = [_lock(op @ pylops.Identity(30)) for op in ops]
    assert locks[0].lock is locks[1].lock
    assert locks[2] is None
    memo = [_lock(pylops.MemoizeOperator(pylops.Flip(3))) for _ in range(2)]
    assert memo[0].lock is not memo[1].lock


# --- in sums and products ---------------------------------------------------------------


def test_takes_the_labels_that_it_meets(d):
    A = xl.Restriction(d.time, [0, 3, 4])
    P = pylops.FirstDerivative(9, sampling=0.5)
    L = xl.from_pylops(P, d.time)
    y = xl.FirstDerivative(d.time)
    for made, expected in (
        (A @ P, A @ L),
        (A * P, A @ L),
        (y + P, y + L),
        (P + y, L + y),
        (y - P, y - L),
        (P - y, L - y),
    ):
        assert made.domain.matches(expected.domain)
        xr.testing.assert_identical(made @ d, expected @ d)
    xr.testing.assert_allclose((y - P) @ d, 0 * (y @ d).drop_attrs(), atol=1e-13)


def test_both_sides_are_known_in_a_sum(d):
    A = xl.Restriction(d.time, [0, 3, 4])
    d = d.drop_attrs(deep=False)
    both = A + pylops.Restriction(9, [0, 3, 4])
    np.testing.assert_array_equal(both @ d, 2 * (A @ d).values)
    xr.testing.assert_identical((both @ d).coords["time"], (A @ d).coords["time"])


@pytest.mark.parametrize(
    "meet",
    [
        lambda A, P: A @ P,
        lambda A, P: A + P,
        lambda A, P: A - P,
        lambda A, P: xl.VStack([A, A]).H @ P,
    ],
)
def test_what_does_not_fit_is_told_of_from_pylops(d, meet):
    with pytest.raises(xl.LabelError, match=r"xl\.from_pylops\(op, domain=…"):
        meet(xl.FirstDerivative(d.time), pylops.Flip(8))


def test_pylops_does_not_let_others_take_a_product(d):
    with pytest.raises(AttributeError):
        pylops.Flip(9) @ xl.FirstDerivative(d.time)


# --- in solvers of others ---------------------------------------------------------------


@pytest.fixture
def problem(d):
    """The same blurred and thinned out data, here and in PyLops."""
    kept = [0, 1, 3, 4, 6, 8]
    wavelet = np.array([0.25, 1.0, 0.5])
    A = xl.Restriction(d.time, kept) @ xl.Convolve1D(d.time, wavelet, offset=1)
    P = pylops.Restriction((4, 9), kept, axis=1) @ sp.Convolve1D((4, 9), wavelet, offset=1)
    D = xl.SecondDerivative(d.time)
    DP = pylops.SecondDerivative((4, 9), sampling=0.5)
    y = (A @ d).values.ravel()
    return (A.bind(d).to_pylops(), D.bind(d).to_pylops()), (P, DP), y


def test_pylops_solvers(problem):
    (A, D), (P, DP), y = problem
    for function in (pylops.cgls, pylops.lsqr):
        ours, theirs = (function(op, y, niter=15)[0] for op in (A, P))
        agree(ours, theirs, 1e-9)
    regularized = [
        pylops.optimization.leastsquares.regularized_inversion(
            op, y, [reg], epsRs=[0.1], iter_lim=20
        )[0]
        for op, reg in ((A, D), (P, DP))
    ]
    agree(*regularized, 1e-9)
    normal = [
        pylops.cg(op.H @ op + 0.1 * reg.H @ reg, op.H @ y, niter=12)[0]
        for op, reg in ((A, D), (P, DP))
    ]
    agree(*normal, 1e-9)
    sparse = [
        pylops.optimization.sparsity.fista(op, y, niter=20, eps=0.05, alpha=0.2)[0]
        for op in (A, P)
    ]
    agree(sparse[0].ravel(), sparse[1].ravel(), 1e-12)


def test_proximal_gradient(problem):
    (A, _), (P, _), y = problem
    ours, theirs = (
        pyproximal.optimization.primal.ProximalGradient(
            pyproximal.L2(Op=op, b=y),
            pyproximal.L1(sigma=0.05),
            x0=np.zeros(36),
            tau=0.2,
            niter=20,
        )
        for op in (A, P)
    )
    agree(ours, theirs, 1e-12)


def test_scipy_methods(d, problem):
    (A, _), (P, DP), y = problem
    bound = xl.Restriction(d.time, [0, 1, 3, 4, 6, 8]).bind(d)
    assert bound.to_scipy().shape == bound.shape
    ours, theirs = (sla.lsqr(op, y, iter_lim=15)[0] for op in (A.bound, P))
    agree(ours, theirs, 1e-9)
    agree(sla.lsqr(A.bound.to_scipy(), y, iter_lim=15)[0], theirs, 1e-9)
    dense = P.todense()
    time = d.drop_attrs().time
    gram = (xl.Identity(time) + xl.SecondDerivative(time).gram).bind(d)
    exact = np.linalg.solve(np.eye(36) + DP.todense().T @ DP.todense(), dense.T @ y)
    for method in (sla.cg, sla.gmres):
        x, info = method(gram.to_scipy(), dense.T @ y, rtol=1e-12)
        assert info == 0
        agree(x, exact, 1e-9)
    values = sla.svds(A.bound, 3, return_singular_vectors=False, rng=0)
    agree(np.sort(values), np.linalg.svd(dense, compute_uv=False)[2::-1])
    values = sla.eigsh(gram, 3, return_eigenvectors=False, v0=RNG.standard_normal(36))
    inverse = np.eye(36) + DP.todense().T @ DP.todense()
    agree(np.sort(values), np.linalg.eigvalsh(inverse)[-3:])


@pytest.mark.parametrize(
    "build",
    [
        lambda d: xl.FirstDerivative(d.time),
        lambda d: xl.FFT(d.time, real=True),
        lambda d: xl.FFT(d.time),
        lambda d: xl.VStack({"a": xl.Identity(d.time), "b": xl.FirstDerivative(d.time)}),
        lambda d: xl.Sum(d.time, d.offset),
    ],
)
def test_pylops_dot_test(d, build):
    bound = build(d).bind(d)
    for op in (bound.to_pylops(), bound.H.to_pylops()):
        flag = 0
        if op.dtype.kind == "c":
            flag = 3 if op.clinear else (2 if op.bound.dtypes[1].kind == "c" else 1)
        assert dottest(op, *op.shape, rtol=1e-10, complexflag=flag)
    op = bound.to_pylops()
    assert (op.dtype, op.clinear, op.name) == (bound.dtype, bound.clinear, bound.name)
    assert op.shape == bound.shape
    if isinstance(bound.range, xl.Space):
        assert op.dims == d.shape
        assert op.dimsd == (tuple(bound.range.sizes.values()) or (1,))
    again = pickle.loads(pickle.dumps(op))
    x = RNG.standard_normal(op.shape[1])
    np.testing.assert_array_equal(again @ x, op @ x)


def test_there_and_back_again(d):
    op = xl.FirstDerivative(d.time).bind(d).to_pylops()
    A = xl.from_pylops(op, d, units="s-1")
    xr.testing.assert_identical(A @ d, xl.FirstDerivative(d.time) @ d)
    X = RNG.standard_normal((36, 3))
    agree(op @ X, np.stack([op @ x for x in X.T], axis=1))
    agree(op.H @ X, np.stack([op.H @ x for x in X.T], axis=1))
