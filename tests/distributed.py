"""Stand-ins for PyLops-distributed, which does not import with current packages.

They take its documented parameters, in its order and with its defaults, and do with PyLops
what its documentation says. Where it says how results are computed (`compute`, `todask`,
`chunks`, `client`), nothing is done: values do not depend on it.
"""
# ruff: noqa: A002 (names are theirs)

import distributed
import numpy as np
import pylops

NO, NONE = (False, False), (None, None)


def MatrixMult(A, dims=None, compute=NO, todask=NO, dtype="float64"):
    return pylops.MatrixMult(A, otherdims=dims, dtype=dtype)


def Diagonal(diag, dims=None, dir=0, compute=NO, todask=NO, dtype="float64"):
    return pylops.Diagonal(diag, dims=dims, axis=dir, dtype=dtype)


def Identity(N, M=None, inplace=True, compute=NO, todask=NO, dtype="float64"):
    return pylops.Identity(N, M, dtype=dtype)


def Transpose(dims, axes, compute=NO, todask=NO, dtype="float64"):
    return pylops.Transpose(dims, axes, dtype=dtype)


def Roll(N, dims=None, dir=0, shift=1, compute=NO, todask=NO, dtype="float64"):
    return pylops.Roll(dims or N, axis=dir, shift=shift, dtype=dtype)


def Restriction(
    M, iava, dims=None, dir=0, inplace=True, compute=NO, todask=NO, dtype="float64"
):
    return pylops.Restriction(dims or M, iava, axis=dir, dtype=dtype)


def Spread(dims, dimsd, table=None, dtable=None, compute=NO, todask=NO, dtype="float64"):
    return pylops.Spread(dims, dimsd, table, dtable, dtype=dtype)


def VStack(ops, chunks=None, compute=NO, todask=NO, usedelayed=False, dtype=None):
    return pylops.VStack(ops, dtype=dtype)


def HStack(ops, chunks=None, compute=NO, todask=NO, dtype=None):
    return pylops.HStack(ops, dtype=dtype)


def Block(ops, chunks=None, compute=NO, todask=NO, dtype=None):
    return pylops.Block(ops, dtype=dtype)


def BlockDiag(ops, chunks=None, compute=NO, todask=NO, dtype=None):
    return pylops.BlockDiag(ops, dtype=dtype)


def Convolve1D(
    N, h, offset=0, dims=None, dir=0, compute=NO, chunks=NONE, todask=NO, dtype="float64"
):
    return pylops.signalprocessing.Convolve1D(
        dims or N, np.asarray(h), offset, axis=dir, dtype=dtype
    )


def FirstDerivative(
    N, dims=None, dir=0, sampling=1.0, compute=NO, chunks=NONE, todask=NO, dtype="float64"
):
    """Zeros beyond the edges."""
    return Convolve1D(N, np.array([0.5, 0.0, -0.5]) / sampling, 1, dims, dir)


def SecondDerivative(
    N, dims=None, dir=0, sampling=1.0, compute=NO, chunks=NONE, todask=NO, dtype="float64"
):
    """Zeros beyond the edges."""
    return Convolve1D(N, np.array([1.0, -2.0, 1.0]) / sampling**2, 1, dims, dir)


def Laplacian(
    dims,
    dirs=(0, 1),
    weights=(1, 1),
    sampling=(1, 1),
    compute=NO,
    chunks=NONE,
    todask=NO,
    dtype="float64",
):
    """Of two axes."""
    one, other = (
        weight * SecondDerivative(None, dims, axis, step)
        for weight, axis, step in zip(weights, dirs, sampling, strict=True)
    )
    return one + other


def Smoothing1D(nsmooth, dims, dir=0, compute=NO, chunks=NONE, todask=NO, dtype="float64"):
    return Convolve1D(None, np.ones(nsmooth) / nsmooth, nsmooth // 2, dims, dir)


def FFT(
    dims,
    dir=0,
    nfft=None,
    sampling=1.0,
    real=False,
    fftshift=False,
    compute=NO,
    chunks=NONE,
    todask=NONE,
    dtype="float64",
):
    """Where it is real: the plain one, whose adjoint is its inverse."""
    if not real:
        return pylops.signalprocessing.FFT(
            dims, dir, nfft, sampling, ifftshift_before=fftshift
        )
    n = nfft or dims[dir]
    made = [n // 2 + 1 if axis == dir % len(dims) else m for axis, m in enumerate(dims)]

    def forward(x):
        return np.fft.rfft(x.reshape(dims), n, dir, norm="ortho").ravel()

    def inverse(y):
        return np.fft.irfft(y.reshape(made), n, dir, norm="ortho").ravel()

    rows, columns = int(np.prod(made)), int(np.prod(dims))
    return pylops.FunctionOperator(forward, inverse, rows, columns, dtype="complex128")


def FFT2D(
    dims,
    dirs=(0, 1),
    nffts=NONE,
    sampling=(1.0, 1.0),
    compute=NO,
    chunks=NONE,
    todask=NONE,
    dtype="complex128",
):
    return pylops.signalprocessing.FFT2D(dims, dirs, nffts, sampling)


def Fredholm1(G, nz=1, saveGt=True, compute=NO, chunks=NONE, todask=NONE, dtype="float64"):
    return pylops.signalprocessing.Fredholm1(G, nz, dtype=dtype)


def MDC(
    G,
    nt,
    nv,
    dt=1.0,
    dr=1.0,
    twosided=True,
    saveGt=False,
    conj=False,
    prescaled=False,
    chunks=NONE,
    compute=NO,
    todask=NONE,
    dtype=None,
):
    return pylops.waveeqprocessing.MDC(
        G, nt, nv, dt, dr, twosided, conj=conj, prescaled=prescaled
    )


def cg(A, y, x=None, niter=10, tol=1e-5, compute=False, client=None):
    """The lazy form: the tolerance is not looked at."""
    return pylops.cg(A, y, x, niter=niter, tol=0)[:2]


def cgls(A, y, x=None, niter=10, damp=0.0, tol=1e-4, compute=False, client=None):
    """What is added to the normal equations is `damp`."""
    return pylops.cgls(A, y, x, niter=niter, damp=damp**0.5, tol=0)[:2]


def dottest(Op, nr, nc, chunks, tol=1e-6, complexflag=0, raiseerror=True, verb=False):
    return pylops.utils.dottest(Op, nr, nc, complexflag=complexflag, rtol=tol)


def dask(
    hardware="single", client=None, processes=False, n_workers=1, threads_per_worker=1
):
    """A client and a cluster: started here, or at an address where one runs."""
    if hardware == "ssh":
        return distributed.Client(client), None
    assert hardware == "single"
    cluster = distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=threads_per_worker,
        processes=processes,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    )
    return distributed.Client(cluster), cluster
