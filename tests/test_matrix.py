"""Operators given by a matrix: against PyLops, and against sums written out."""

import itertools
import pickle

import dask.array as da
import numpy as np
import pylops
import pytest
import scipy.sparse
import xarray as xr

import xlops as xl
from xlops.engine import threads, tiles
from xlops.kernels import matrix as kernels
from xlops.windows.pieces import full
from xlops.windows.plan import Apply, Source, Step
from xlops.windows.rules import Contraction

RNG = np.random.default_rng
SIZES = {"freq": 4, "receiver": 5, "source": 6, "shot": 3, "time": 7, "part": 2}
CUTS = {"freq": (3, 1), "receiver": (2, 2, 1), "source": (1, 3, 2), "shot": (1, 2)}
CUTS |= {"time": (4, 3), "part": (1, 1)}
DTYPES = ["float64", "float32", "complex128", "complex64"]


def values(dims, dtype="float64", seed=0):
    rng, shape = RNG(seed), [SIZES[dim] for dim in dims]
    made = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        made = made + 1j * rng.standard_normal(shape)
    return made.astype(dtype)


def labeled(dims, dtype="float64", seed=0):
    coords = {
        dim: (dim, 0.5 * np.arange(SIZES[dim]) + seed_of(dim), {"units": "m"})
        for dim in dims
    }
    return xr.DataArray(values(dims, dtype, seed), coords=coords, dims=tuple(dims))


def seed_of(dim):
    return float([*SIZES].index(dim))


def cut(x, *dims):
    return x.chunk({dim: CUTS[dim] if dim in dims else -1 for dim in x.dims})


def einsum(A, x, dims, conjugate=False):
    """The same sum by xarray's dot, in double precision."""
    A = A.conj() if conjugate else A
    wide = [a.astype(np.result_type(a.dtype, float)).drop_vars(a.coords) for a in (A, x)]
    return xr.dot(*wide, dim=dims, optimize=False)


def agree(result, expected, tol=1e-13):
    expected = expected.transpose(*result.dims)
    scale = float(abs(expected).max())
    np.testing.assert_allclose(result.values, expected.values, rtol=0, atol=tol * scale)


def same_labels(result, *parts):
    for dim in result.dims:
        part = next(p for p in parts if dim in p.dims)
        xr.testing.assert_identical(result[dim].variable, part[dim].variable)


# --- against PyLops -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 6), (6, 5), (4, 4), (1, 3), (3, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("others", [(), (1,), (2,), (7,), (3, 4)])
def test_matrix_mult(shape, others, dtype):
    rng = RNG(1)
    A, x, y = (
        (rng.standard_normal(s) + 1j * rng.standard_normal(s))
        for s in (shape, (shape[1], *others), (shape[0], *others))
    )
    if np.dtype(dtype).kind == "f":
        A, x, y = A.real, x.real, y.real
    A, x, y = (a.astype(dtype) for a in (A, x, y))
    P = pylops.MatrixMult(A, otherdims=others or None, dtype=dtype)
    B = xl.MatrixMult(xr.DataArray(A, dims=("r", "s")), "s")
    batch = tuple("abc"[: len(others)])
    tol = 1e-6 if np.finfo(dtype).bits == 32 else 1e-14
    for C, Q, v, dim in ((B, P, x, "s"), (B.H, P.H, y, "r")):
        expected = (Q @ v.ravel()).reshape(-1, *others)
        bound = tol * max(abs(expected).max(), np.linalg.norm(v))
        given = xr.DataArray(v, dims=(dim, *batch))
        for data in (given, given.chunk(1)):
            result = C @ data
            assert result.dtype == np.dtype(dtype)
            np.testing.assert_allclose(result.values, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
# PyLops drops axes of one sample and fails where x or y has but one: see test_kernel.
@pytest.mark.parametrize("sizes", [(4, 5, 6, 3), (1, 5, 6, 1), (3, 2, 2, 2), (2, 6, 5, 40)])
def test_fredholm(sizes, dtype):
    slices, nx, ny, nz = sizes
    rng = RNG(2)
    G, m, d = (
        (rng.standard_normal(s) + 1j * rng.standard_normal(s)).astype(dtype)
        if np.dtype(dtype).kind == "c"
        else rng.standard_normal(s).astype(dtype)
        for s in ((slices, nx, ny), (slices, ny, nz), (slices, nx, nz))
    )
    P = pylops.signalprocessing.Fredholm1(G, nz=nz, dtype=dtype)
    A = xl.Fredholm1(xr.DataArray(G, dims=("sl", "x", "y")), "y")
    tol = 1e-6 if np.finfo(dtype).bits == 32 else 1e-14
    for C, Q, v, dims in ((A, P, m, ("sl", "y", "z")), (A.H, P.H, d, ("sl", "x", "z"))):
        expected = (Q @ v.ravel()).reshape(slices, -1, nz)
        bound = tol * np.linalg.norm(G) * abs(v).max()
        given = xr.DataArray(v, dims=dims)
        for data in (given, given.chunk(2)):
            result = C @ data
            assert result.dims == ("sl", "x" if C is A else "y", "z")
            assert result.dtype == np.dtype(dtype)
            np.testing.assert_allclose(result.values, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("chunks", [None, 1, 3])
def test_sum(axis, chunks):
    dims = ("freq", "source", "time")
    x = labeled(dims)
    P = pylops.Sum(x.shape, axis=axis)
    S = xl.Sum(x[dims[axis]])
    data = x if chunks is None else x.chunk(chunks)
    y = S @ data
    expected = (P @ x.values.ravel()).reshape(P.dimsd)
    np.testing.assert_allclose(y.values, expected, rtol=0, atol=1e-14 * x.size)
    back = S.H @ y
    assert back.dims[-1] == dims[axis]
    same_labels(back, x)
    given = (P.H @ y.values.ravel()).reshape(x.shape)
    np.testing.assert_array_equal(back.transpose(*dims).values, given)


def test_sum_over_several():
    x = labeled(("freq", "source", "time"))
    S = xl.Sum(x.time, x.freq)
    for data in (x, cut(x, "time"), cut(x, "freq", "source", "time")):
        agree(S @ data, x.sum(("time", "freq")))
        xl.dottest(S, like=data)
    everything = xl.Sum(x.time, x.freq, x.source)
    for data in (x, cut(x), cut(x, "time", "source")):
        y = everything @ data
        assert y.dims == ()
        agree(y, x.sum())
        agree(everything.H.apply(y), xr.full_like(x, float(x.sum())))


def test_sum_types_and_units():
    x = xr.DataArray(np.arange(6, dtype="int8").reshape(2, 3), dims=("a", "time"))
    x.attrs = {"units": "Pa", "long_name": "pressure"}
    x["label"] = ("time", ["p", "q", "r"])
    S = xl.Sum(x.time)
    y = S @ x
    assert (y.dtype, y.attrs, set(y.coords)) == (np.float64, x.attrs, set())
    np.testing.assert_array_equal(y.values, [3.0, 12.0])
    assert (S.H @ y).label.values.tolist() == ["p", "q", "r"]
    assert (S @ x.astype("float32")).dtype == np.float32
    assert (S @ x.astype("complex64")).dtype == np.complex64
    assert (S @ (x > 1)).values.tolist() == [1.0, 3.0]
    assert str(S.units) == "dimensionless"


@pytest.mark.parametrize("shape", [(3, 500_000), (700, 700, 3)])
def test_large_sums(shape):
    x = xr.DataArray(RNG(0).standard_normal(shape), dims=("a", "b", "c")[: len(shape)])
    for dims in itertools.chain.from_iterable(
        itertools.combinations(x.dims, n) for n in range(1, len(shape) + 1)
    ):
        S = xl.Sum(*(x[dim] for dim in dims))
        np.testing.assert_allclose((S @ x).values, x.sum(dims).values, atol=1e-9)
        y = S @ x
        back = S.H.apply(y)
        expected = y.broadcast_like(x).transpose(*back.dims)
        np.testing.assert_array_equal(back.values, expected.values)


# --- which dims are which -------------------------------------------------------------

ROLES = {
    "matrix": (("receiver", "source"), "source", None, ("receiver",)),
    "turned": (("source", "receiver"), "source", None, ("receiver",)),
    "shared": (("freq", "receiver", "source"), "source", None, ("receiver",)),
    "two shared": (("part", "freq", "receiver", "source"), "source", None, ("receiver",)),
    "two summed": (("receiver", "part", "source"), ("source", "part"), None, ("receiver",)),
    "functional": (("source",), "source", None, ()),
    "functionals": (("freq", "source"), "source", (), ()),
    "two made": (("source", "freq", "receiver"), "source", ("freq", "receiver"), None),
    "made first": (("receiver", "source", "freq"), "source", "receiver", None),
    "all kinds": (
        ("source", "freq", "part", "receiver", "time"),
        ("source", "time"),
        ["receiver", "part"],
        None,
    ),
}


def roles(name):
    dims, over, makes, expected = ROLES[name]
    summed = (over,) if isinstance(over, str) else over
    if expected is None:
        expected = (makes,) if isinstance(makes, str) else makes
    return dims, over, makes, tuple(summed), tuple(expected)


@pytest.mark.parametrize("dtypes", [("float64",) * 2, ("complex128",) * 2])
@pytest.mark.parametrize("name", ROLES)
def test_roles(name, dtypes):
    dims, over, makes, summed, made = roles(name)
    A = labeled(dims, dtypes[0])
    B = xl.MatrixMult(A, over, makes=makes)
    shared = [dim for dim in dims if dim not in (*summed, *made)]
    assert set(B.domain.dims) == {*shared, *summed}
    assert set(B.range.dims) == {*shared, *made}
    assert "explicit" in B.traits
    batch = [dim for dim in ("shot", "time") if dim not in dims]
    x = labeled((*batch[:1], *B.domain.dims, *batch[1:]), dtypes[1], seed=3)
    y = B @ x
    agree(y, einsum(A, x, summed))
    same_labels(y, A, x)
    back = B.H @ y
    agree(back, einsum(A, y, made, conjugate=True))
    same_labels(back, A, x)
    xl.dottest(B, like=x)


@pytest.mark.parametrize("lazy", ["x", "A", "both"])
@pytest.mark.parametrize("name", ROLES)
def test_chunks(name, lazy):
    """Every way of cutting the dims of x, of A, and of both."""
    dims, over, makes, summed, made = roles(name)
    A = labeled(dims, "complex128")
    B = xl.MatrixMult(A, over, makes=makes)
    x = labeled(("shot", *B.domain.dims), "complex128", seed=3)
    y = labeled(("shot", *B.range.dims), "complex128", seed=4)
    forward, adjoint = einsum(A, x, summed), einsum(A, y, made, conjugate=True)
    own = sorted(dims)
    every = [c for n in range(len(own) + 1) for c in itertools.combinations(own, n)]
    for where in every if len(own) < 4 else [(), own[:2], own[1:3], own]:
        matrix = cut(A, *where) if lazy != "x" else A
        C = xl.MatrixMult(matrix, over, makes=makes)
        others = ("shot", *where) if lazy == "both" else (*where,)
        for D, data, expected in ((C, x, forward), (C.H, y, adjoint)):
            data = data if lazy == "A" else cut(data, *others)
            result = D @ data
            assert result.chunks is not None
            agree(result, expected)


def test_lazy_chunks_of_made_dims():
    A = cut(labeled(("receiver", "source")), "receiver")
    x = labeled(("source", "shot"))
    y = xl.MatrixMult(A, "source") @ cut(x, "source", "shot")
    assert y.dims == ("receiver", "shot")
    assert y.chunks == (CUTS["receiver"], CUTS["shot"])


@pytest.mark.parametrize("matrix", [*DTYPES, "int16", "bool", "float16"])
@pytest.mark.parametrize("data", [*DTYPES, "int32", "bool"])
def test_precision(matrix, data):
    """The result has the precision of the data; the product the finer of both."""
    A = (10 * labeled(("freq", "receiver", "source"))).astype(matrix)
    if np.dtype(matrix).kind == "c":
        A = A + np.asarray(1j, matrix) * A[..., ::-1].values
    x = labeled(("freq", "source", "time"), data if data in DTYPES else "float64", 5)
    x = (10 * x).astype(data)
    B = xl.MatrixMult(A, "source")
    y = B @ x
    single = np.dtype(data) in (np.dtype("float32"), np.dtype("complex64"))
    is_complex = "c" in (A.dtype.kind, x.dtype.kind)
    wanted = np.complex128 if is_complex else np.float64
    if single:
        wanted = np.complex64 if is_complex else np.float32
    assert y.dtype == wanted
    agree(y, einsum(A.astype(complex), x, "source"), 1e-6 if single else 1e-13)
    agree(B.H @ y, einsum(A, y, "receiver", True), 1e-6 if single else 1e-13)


# --- strides --------------------------------------------------------------------------


def strided(rng, shape, dtype):
    """Random values with axes in any order in memory, gaps and turned axes."""
    order = rng.permutation(len(shape))
    sizes = [int(shape[i] + rng.integers(0, 3)) for i in order]
    base = rng.standard_normal(sizes)
    if np.dtype(dtype).kind == "c":
        base = base + 1j * rng.standard_normal(sizes)
    base = base.astype(dtype).transpose(np.argsort(order))
    steps = [int(step) for step in rng.choice([1, 1, -1], len(shape))]
    at = tuple(slice(0, n) for n in shape)
    return base[at][tuple(slice(None, None, step) for step in steps)]


@pytest.mark.parametrize("small", [False, True])
def test_kernel(small, monkeypatch):
    """Any axes and strides; with pieces so small that all of them occur."""
    if small:
        monkeypatch.setattr(kernels, "PIECE", 2**9)
        monkeypatch.setattr(kernels, "OWN_PIECE", 2**7)
        monkeypatch.setattr(kernels, "FEW_COLUMNS", 4)
    rng = RNG(7)
    for _ in range(600):
        s, m, k, r = (
            tuple(int(n) for n in rng.integers(1, 7, rng.integers(low, high)))
            for low, high in ((0, 3), (0, 3), (1, 3), (0, 4))
        )
        one, other = rng.choice(DTYPES, 2)
        A, x = strided(rng, s + m + k, one), strided(rng, s + k + r, other)
        real = x.real.dtype
        is_complex = "c" in (A.dtype.kind, x.dtype.kind)
        kind = np.result_type(real, np.complex64) if is_complex else real
        out = np.empty((), kind) if not s + m + r else strided(rng, s + m + r, kind)
        out[...] = np.nan
        before = A.copy(), x.copy()
        conjugate = bool(rng.integers(2))
        kernels.contract(A, x, out, len(s), len(m), conjugate)
        np.testing.assert_array_equal(A, before[0])
        np.testing.assert_array_equal(x, before[1])
        S, M, K, R = "ab"[: len(s)], "de"[: len(m)], "gh"[: len(k)], "jkl"[: len(r)]
        sums = f"{S}{M}{K},{S}{K}{R}->{S}{M}{R}"
        A, x = A.astype(complex), x.astype(complex)
        expected = np.einsum(sums, A.conj() if conjugate else A, x)
        scale = np.einsum(sums, abs(A), abs(x)).max()
        tol = (2e-7 if real == np.float32 else 4e-16) * 8
        np.testing.assert_allclose(out, expected, rtol=0, atol=tol * scale)


@pytest.mark.parametrize("dims", [*itertools.permutations(("a", "source", "b"))])
@pytest.mark.parametrize("sizes", [(300, 90, 2), (3, 200, 400), (40, 1, 900)])
@pytest.mark.parametrize("shared", [False, True])
def test_large(dims, sizes, shared):
    """More than a megabyte: in tiles, in pieces, or on threads."""
    named = dict(zip(("a", "source", "b"), sizes, strict=True))
    rng = RNG(3)
    own = {"a": named["a"]} if shared else {}
    own |= {"receiver": 70, "source": named["source"]}
    A = xr.DataArray(
        rng.standard_normal([*own.values()]) + 1j * rng.standard_normal([*own.values()]),
        dims=tuple(own),
    )
    x = xr.DataArray(rng.standard_normal([named[d] for d in dims]), dims=dims)
    B = xl.MatrixMult(A, "source")
    y = B @ x
    assert y.dims == tuple("receiver" if dim == "source" else dim for dim in dims)
    agree(y, einsum(A, x, "source"))
    agree(B.H @ y, einsum(A, y, "receiver", conjugate=True))


@pytest.mark.parametrize("dims", [("shot", "freq", "source"), ("freq", "shot", "source")])
def test_tiles_read_each_matrix_once(dims):
    """They are cut along the dim that matrices have too, and along no other."""
    given, made = {"freq": 64, "source": 512}, {"freq": 64, "receiver": 512}
    step = Step("G", None, given, made, Contraction(given, made), print, print)
    node = Apply(step, False, Source(dims, {**given, "shot": 100}, np.dtype(float)))
    pieces = tiles.tiles_of(node, full(node.sizes), 2)
    assert len(pieces) == 8
    for piece in pieces:
        assert piece["shot"] == slice(0, 100)
        assert piece["receiver"] == slice(0, 512)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_blas_shares_large_products(workers, monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: workers)
    for shots, shares in ((64 * workers - 1, False), (64 * workers, True)):
        sizes = {"freq": 5, "receiver": 64, "source": 64}
        (step,) = xl.Fredholm1(
            xr.DataArray(np.ones((5, 64, 64)), dims=sizes), "source"
        )._steps
        data = {"shot": shots, "freq": 5, "source": 64}
        node = Apply(step, False, Source(tuple(data), data, np.dtype(float)))
        assert threads.blas_shares(node) is shares


# --- with other operators -------------------------------------------------------------


def test_chains():
    t = labeled(("time",)).time
    F = xl.FFT(t)
    freq = F.range.coords["freq_time"]
    rng = RNG(5)
    shape = (freq.size, SIZES["receiver"], SIZES["source"])
    G = xr.DataArray(
        rng.standard_normal(shape) + 1j * rng.standard_normal(shape),
        coords={"freq_time": freq},
        dims=("freq_time", "receiver", "source"),
    )
    A = F.H @ xl.Fredholm1(G, "source") @ F
    x = labeled(("source", "time", "shot")).drop_vars("source")
    spectrum = np.fft.fft(x.values, axis=1)
    product = np.einsum("frs,sft->rft", G.values, spectrum)
    expected = np.fft.ifft(product, axis=1)
    for data in (x, cut(x, "source"), cut(x, "time", "shot"), cut(x, "source", "time")):
        y = A @ data
        assert y.dims == ("receiver", "time", "shot")
        np.testing.assert_allclose(y.values, expected, rtol=0, atol=1e-12)
        xl.dottest(A, like=data)


def test_products_and_sums():
    A, B = labeled(("receiver", "source")), labeled(("receiver", "source"), seed=9)
    w = labeled(("receiver",), seed=2)
    x = labeled(("source", "shot"), seed=4)
    M, N = xl.MatrixMult(A, "source"), xl.MatrixMult(B, "source")
    for data in (x, cut(x, "source"), cut(x, "shot", "source")):
        agree((xl.Diagonal(w) @ M) @ data, einsum(A, x, "source") * w.drop_vars(w.coords))
        agree((2 * M + N) @ data, einsum(2 * A + B, x, "source"))
        agree((M.H @ N) @ data, einsum(A, einsum(B, x, "source"), "receiver"))
        gram = M.gram @ data
        assert gram.dims == data.dims
        agree(gram, einsum(A, einsum(A, x, "source"), "receiver"))
        same_labels(gram, x)
        stacked = xl.VStack({"m": M, "n": N}) @ data
        agree(stacked["n"], einsum(B, x, "source"))
        D = xl.Sum(x.shot) @ M
        agree(D @ data, einsum(A, x, "source").sum("shot"))


def test_solution():
    A = labeled(("receiver", "source"))[:, :3]
    x = labeled(("source",))[:3]
    M = xl.MatrixMult(A, "source")
    agree(xl.cgls(M, M @ x, niter=20, tol=1e-14).x, x.drop_vars("source"), 1e-10)


# --- sparse matrices ------------------------------------------------------------------


def sparse(rows, columns, dtype="float64"):
    rng = RNG(6)
    dense = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < 0.3)
    if np.dtype(dtype).kind == "c":
        dense = dense * (1 - 2j)
    return dense.astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "complex128", "int8"])
@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "coo_array", "csr_matrix"])
def test_sparse(kind, dtype):
    x, y = labeled(("source", "time", "shot")), labeled(("shot", "receiver"))
    dense = sparse(5, 42, dtype if dtype != "int8" else "float64").round(1)
    dense = (10 * dense).real.astype(dtype) if dtype == "int8" else dense
    S = getattr(scipy.sparse, kind)(dense)
    A = xl.MatrixMult(S, domain=[x.source, x.time], range=y.receiver)
    expected = np.einsum("rst,sth->rh", dense.reshape(5, 6, 7), x.values)
    back = np.einsum("rst,hr->hst", dense.conj().reshape(5, 6, 7), y.values)
    for dims in itertools.permutations(x.dims):
        for cuts in ((), ("shot",), ("source",), ("time", "source", "shot")):
            data = x.transpose(*dims)
            data = cut(data, *cuts) if cuts else data
            result = (A @ data).transpose("receiver", "shot")
            np.testing.assert_allclose(result.values, expected, rtol=0, atol=1e-12)
            same_labels(result, y, x)
    for data in (y, cut(y, "receiver"), cut(y, "shot", "receiver")):
        result = A.H @ data
        assert result.dims == ("shot", "source", "time")
        np.testing.assert_allclose(result.values, back, rtol=0, atol=1e-12)
        same_labels(result, x)
    assert (A @ x.astype("float32")).dtype == (
        np.complex64 if dtype == "complex128" else np.float32
    )


def test_sparse_on_one_grid():
    """Domain and range may share dims."""
    x = labeled(("source", "time"))
    dense = sparse(42, 42)
    A = xl.MatrixMult(scipy.sparse.csr_array(dense), domain=x, range=x)
    expected = (dense @ x.values.ravel()).reshape(x.shape)
    for data in (x, cut(x, "source"), cut(x.T, "time")):
        result = A @ data
        assert result.dims == data.dims
        np.testing.assert_allclose(
            result.transpose(*x.dims).values, expected, rtol=0, atol=1e-12
        )
        xl.dottest(A, like=data)


def test_sparse_does_not_change():
    S = scipy.sparse.csr_array(sparse(5, 6))
    x, y = labeled(("source",)), labeled(("receiver",))
    A = xl.MatrixMult(S, domain=x, range=y)
    same = xl.MatrixMult(S.tocsc(), domain=x, range=y)
    before = (A @ x).values
    other = xl.MatrixMult(2 * S, domain=x, range=y)
    assert same == A
    assert other != A
    assert pickle.loads(pickle.dumps(A)) == A
    S.data[:] = 0
    np.testing.assert_array_equal((A @ x).values, before)


# --- labels, units, errors ------------------------------------------------------------


def test_units_multiply():
    A = labeled(("receiver", "source")).assign_attrs(units="m/s")
    x = labeled(("source",)).assign_attrs(units="s")
    M = xl.MatrixMult(A, "source")
    y = M @ x
    assert y.units == "m"
    assert (M.H @ y).units in ("m2 s-1", "m2/s")


def test_matrices_do_not_change():
    A = labeled(("receiver", "source"))
    M, x = xl.MatrixMult(A, "source"), labeled(("source",))
    before = (M @ x).values
    again = xl.MatrixMult(A.copy(), "source")
    assert again == M
    assert xl.MatrixMult(2 * A, "source") != M
    assert xl.Fredholm1(labeled(("freq", "receiver", "source")), "source") != M
    A[...] = 0
    np.testing.assert_array_equal((M @ x).values, before)
    np.testing.assert_array_equal((pickle.loads(pickle.dumps(M)) @ x).values, before)


def test_auxiliary_coordinates_come_back():
    A = labeled(("freq", "receiver", "source"))
    A = A.assign_coords(
        station=("receiver", list("pqrst")), gun=("source", list("uvwxyz")), n=3
    )
    M = xl.MatrixMult(A, "source")
    x = labeled(("freq", "source"))
    y = M @ x
    assert set(y.coords) == {"freq", "receiver", "station"}
    assert set((M.H @ y).coords) == {"freq", "source", "gun"}


def test_labels_are_checked():
    M = xl.MatrixMult(labeled(("freq", "receiver", "source")), "source")
    x = labeled(("freq", "source"))
    M @ x
    for wrong in (x.assign_coords(freq=2 * x.freq), x.isel(source=slice(5)), x[0]):
        with pytest.raises(xl.LabelError, match="MatrixMult"):
            M @ wrong
    with pytest.raises(xl.LabelError, match="receiver"):
        M @ x.expand_dims(receiver=2)


A3, A2 = labeled(("freq", "receiver", "source")), labeled(("receiver", "source"))
S2 = scipy.sparse.csr_array(sparse(5, 6))
WRONG = {
    "no dim of that name": (xl.LabelError, "offset", lambda: xl.MatrixMult(A2, "offset")),
    "no dims": (xl.ArgumentError, "name", lambda: xl.MatrixMult(A2)),
    "none": (xl.ArgumentError, "at least one", lambda: xl.MatrixMult(A2, ())),
    "a number": (xl.DTypeError, "names", lambda: xl.MatrixMult(A2, 3)),
    "not named": (
        xl.ArgumentError,
        "makes=",
        lambda: xl.MatrixMult(A3.transpose("receiver", "source", "freq"), "source"),
    ),
    "makes none of its": (
        xl.LabelError,
        "time",
        lambda: xl.MatrixMult(A2, "source", makes="time"),
    ),
    "makes what it sums": (
        xl.ArgumentError,
        "source",
        lambda: xl.MatrixMult(A2, "source", makes="source"),
    ),
    "an array": (xl.DTypeError, "ndarray", lambda: xl.MatrixMult(A2.values, "source")),
    "text": (xl.DTypeError, "numbers", lambda: xl.MatrixMult(A2.astype(str), "source")),
    "long double": (
        xl.DTypeError,
        "precision",
        lambda: xl.MatrixMult(A2.astype("longdouble"), "source"),
    ),
    "empty": (xl.LabelError, "empty", lambda: xl.MatrixMult(A2[:, :0], "source")),
    "labels of a labeled one": (
        xl.ArgumentError,
        "domain",
        lambda: xl.MatrixMult(A2, "source", domain=A2.source),
    ),
    "a sparse one's dims": (
        xl.ArgumentError,
        "domain",
        lambda: xl.MatrixMult(S2, "source"),
    ),
    "a sparse one's labels": (
        xl.DTypeError,
        "labeled",
        lambda: xl.MatrixMult(S2, domain=6, range=A2.receiver),
    ),
    "a sparse one's sizes": (
        xl.LabelError,
        "5 × 6",
        lambda: xl.MatrixMult(S2, domain=A2.receiver, range=A2.source),
    ),
    "nothing shared": (xl.LabelError, "shares no dim", lambda: xl.Fredholm1(A2, "source")),
    "a plain kernel": (
        xl.DTypeError,
        "DataArray",
        lambda: xl.Fredholm1(A3.values, "source"),
    ),
    "a sparse kernel": (xl.DTypeError, "DataArray", lambda: xl.Fredholm1(S2, "source")),
    "a sum of nothing": (xl.ArgumentError, "coordinate", xl.Sum),
    "a sum over an array": (xl.LabelError, "one dim", lambda: xl.Sum(A2)),
    "a sum over a name": (xl.DTypeError, "coordinate", lambda: xl.Sum("time")),
    "a name that is none": (
        xl.DTypeError,
        "string",
        lambda: xl.MatrixMult(A2, "source", name=3),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    kind, words, build = WRONG[case]
    with pytest.raises(kind, match=words) as caught:
        build()
    assert type(caught.value) is kind


def test_other_arrays_are_refused():
    sparse_blocks = da.from_array(A2.values).map_blocks(scipy.sparse.csr_matrix)
    sparse_blocks._meta = scipy.sparse.csr_matrix((0, 0))
    with pytest.raises(xl.DTypeError, match="csr"):
        xl.MatrixMult(A2.copy(data=sparse_blocks), "source")
