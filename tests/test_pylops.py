"""Operators and solvers against PyLops, and against closed forms where it has none."""

import cftime
import numpy as np
import pylops
import pytest
import xarray as xr

import xlops as xl

SHAPE = (6, 8, 7)
STEPS = {"shot": 2.0, "time": 0.004, "depth": -5.0}  # depth falls
DIMS = tuple(STEPS)
CHUNKS = {"numpy": None, "one sample each": 1, "uneven": "uneven"}


@pytest.fixture(scope="module")
def cube():
    rng = np.random.default_rng(7)
    coords = {
        dim: (dim, step * np.arange(n) + 3.0)
        for (dim, step), n in zip(STEPS.items(), SHAPE, strict=True)
    }
    return xr.DataArray(rng.standard_normal(SHAPE), coords=coords, dims=DIMS)


def cut(x, dim, chunks):
    if chunks is None:
        return x
    n = x.sizes[dim]
    return x.chunk({dim: 1 if chunks == 1 else (n - 3, 1, 2)})


def agree(result, expected):
    """To 1e-12 of the largest value."""
    scale = np.max(np.abs(expected), initial=1e-300)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=1e-12 * scale)


def both_ways(A, P, x, dim, chunks):
    """Forward on x, adjoint on a random member of the range."""
    forward = (P @ x.values.ravel()).reshape(P.dimsd)
    result = A @ cut(x, dim, chunks)
    agree(result, forward)
    rng = np.random.default_rng(8)
    v = rng.standard_normal(forward.shape)
    if np.iscomplexobj(forward):
        v = v + 1j * rng.standard_normal(forward.shape)
    y = result.copy(data=v)
    (made,) = A.range.dims
    few = chunks is not None and y.sizes[made] < 4
    back = A.H @ cut(y, made, 1 if few else chunks)
    agree(back, (P.H @ v.ravel()).reshape(P.dims))


along_all = pytest.mark.parametrize("dim", DIMS)
in_chunks = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)


@in_chunks
@along_all
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize(
    ("kind", "order"),
    [("forward", 3), ("backward", 3), ("centered", 3), ("centered", 5)],
)
def test_first_derivative(cube, dim, chunks, kind, order, edge):
    axis = DIMS.index(dim)
    P = pylops.FirstDerivative(
        SHAPE, axis=axis, sampling=STEPS[dim], kind=kind, edge=edge, order=order
    )
    A = xl.FirstDerivative(cube[dim], kind=kind, edge=edge, order=order)
    both_ways(A, P, cube, dim, chunks)


@in_chunks
@along_all
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("kind", ["forward", "backward", "centered"])
def test_second_derivative(cube, dim, chunks, kind, edge):
    P = pylops.SecondDerivative(
        SHAPE, axis=DIMS.index(dim), sampling=STEPS[dim], kind=kind, edge=edge
    )
    A = xl.SecondDerivative(cube[dim], kind=kind, edge=edge)
    both_ways(A, P, cube, dim, chunks)


@in_chunks
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("kind", ["forward", "backward", "centered"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_read(value, kind, order, edge, chunks):
    """NaN and infinity come out where PyLops has them, and nowhere else."""
    n = 11
    for at in (0, 1, 5, n - 2, n - 1):
        x = xr.DataArray(np.arange(n) ** 2.0, dims="t")
        x[at] = value
        x = cut(x, "t", chunks)
        pairs = [
            (
                xl.FirstDerivative(x.t, kind, edge, order),
                pylops.FirstDerivative(n, kind=kind, edge=edge, order=order),
            )
        ]
        if order == 3:
            P = pylops.SecondDerivative(n, kind=kind, edge=edge)
            pairs.append((xl.SecondDerivative(x.t, kind, edge), P))
        with np.errstate(invalid="ignore"):
            for A, P in pairs:
                np.testing.assert_allclose((A @ x).values, P @ x.values, rtol=0, atol=1e-12)
                np.testing.assert_allclose(
                    (A.H @ x).values, P.H @ x.values, rtol=0, atol=1e-12
                )


@pytest.mark.parametrize("norm", ["ortho", "none", "1/n"])
@pytest.mark.parametrize("nfft", [5, 8, 11, 12])
@pytest.mark.parametrize(
    ("real", "before", "after"),
    [
        (True, False, False),
        (True, True, False),
        (False, False, False),
        (False, True, False),
        (False, False, True),
        (False, True, True),
    ],
)
@pytest.mark.filterwarnings("ignore:nfft=5 has been selected:UserWarning")
@pytest.mark.parametrize(
    ("dim", "chunks"), [("time", None), ("depth", 1)], ids=["numpy", "dask"]
)
def test_fft(cube, dim, real, before, after, nfft, norm, chunks):
    P = pylops.signalprocessing.FFT(
        SHAPE,
        axis=DIMS.index(dim),
        nfft=nfft,
        sampling=abs(STEPS[dim]),
        norm=norm,
        real=real,
        ifftshift_before=before,
        fftshift_after=after,
        dtype="float64" if real else "complex128",
    )
    A = xl.FFT(
        cube[dim],
        nfft=nfft,
        real=real,
        norm=norm,
        ifftshift_before=before,
        fftshift_after=after,
    )
    both_ways(A, P, cube, dim, chunks)
    frequencies = (A @ cube)[f"freq_{dim}"].values * np.sign(STEPS[dim])
    np.testing.assert_allclose(frequencies, P.f, rtol=1e-12, atol=1e-12)


@in_chunks
@along_all
@pytest.mark.parametrize("iava", [[0, 2, 5], [0, 2, 2, 4], [5]])
def test_restriction(cube, dim, chunks, iava):
    P = pylops.Restriction(SHAPE, iava, axis=DIMS.index(dim))
    both_ways(xl.Restriction(cube[dim], iava), P, cube, dim, chunks)


@in_chunks
@along_all
def test_diagonal_and_identity(cube, dim, chunks):
    weights = xr.DataArray(np.arange(1.0, cube.sizes[dim] + 1), {dim: cube[dim]}, dims=dim)
    P = pylops.Diagonal(weights.values, dims=SHAPE, axis=DIMS.index(dim))
    both_ways(xl.Diagonal(weights), P, cube, dim, chunks)
    agree(xl.Identity(cube[dim]) @ cut(cube, dim, chunks), cube.values)
    agree(xl.Zero(cube[dim]) @ cut(cube, dim, chunks), 0 * cube.values)


@in_chunks
@along_all
def test_complex_data(cube, dim, chunks):
    """Real operators act on real and imaginary parts; Fourier transforms on both."""
    axis, n = DIMS.index(dim), cube.sizes[dim]
    x = cube + 1j * cube[::-1, ::-1].values
    weights = np.exp(1j * np.arange(n))
    labeled = xr.DataArray(weights, {dim: cube[dim]}, dims=dim)
    kwargs = {"axis": axis, "sampling": STEPS[dim], "dtype": complex}
    fft = {"axis": axis, "nfft": n + 3, "norm": "1/n", "ifftshift_before": True}
    for A, P in (
        (
            xl.FirstDerivative(cube[dim], edge=True),
            pylops.FirstDerivative(SHAPE, edge=True, **kwargs),
        ),
        (
            xl.SecondDerivative(cube[dim], kind="forward"),
            pylops.SecondDerivative(SHAPE, kind="forward", **kwargs),
        ),
        (
            xl.Restriction(cube[dim], [1, 4, 4]),
            pylops.Restriction(SHAPE, [1, 4, 4], axis=axis, dtype=complex),
        ),
        (
            xl.Diagonal(labeled),
            pylops.Diagonal(weights, dims=SHAPE, axis=axis, dtype=complex),
        ),
        (
            xl.FFT(cube[dim], n + 3, norm="1/n", ifftshift_before=True),
            pylops.signalprocessing.FFT(SHAPE, **fft),
        ),
    ):
        both_ways(A, P, x, dim, chunks)


@in_chunks
@pytest.mark.parametrize("real", [False, True])
def test_filter(cube, real, chunks):
    """FFT, a diagonal and the way back."""
    A, P = (
        xl.FFT(cube.time, 16, real),
        pylops.signalprocessing.FFT(SHAPE, axis=1, nfft=16, sampling=0.004, real=real),
    )
    (f,) = A.range.dims
    response = np.exp(1j * np.arange(A.range.size))
    W = xl.Diagonal(xr.DataArray(response, A.range.coords, dims=f))
    V = pylops.Diagonal(response, dims=P.dimsd, axis=1, dtype=complex)
    x = cube if real else cube + 1j * cube[:, ::-1].values
    expected = P.H @ (V @ (P @ x.values.ravel()))
    agree((A.H @ W @ A) @ cut(x, "time", chunks), expected.reshape(SHAPE))
    expected = P.H @ (V.H @ (P @ x.values.ravel()))
    agree((A.H @ W @ A).H @ cut(x, "time", chunks), expected.reshape(SHAPE))


@in_chunks
def test_stack_product_and_sum(cube, chunks):
    x = cut(cube, "time", chunks)
    P1 = pylops.FirstDerivative(SHAPE, axis=1, sampling=0.004)
    P2 = pylops.SecondDerivative(SHAPE, axis=2, sampling=5.0)
    A1, A2 = xl.FirstDerivative(cube.time), xl.SecondDerivative(cube.depth)
    flat = cube.values.ravel()
    agree((A1 @ A2) @ x, (P1 @ P2 @ flat).reshape(SHAPE))
    agree((A1 @ A2).H @ x, ((P1 @ P2).H @ flat).reshape(SHAPE))
    agree((2 * A1 - A2) @ x, ((2 * P1 - P2) @ flat).reshape(SHAPE))
    stack, expected = xl.VStack({"a": A1, "b": A2}), pylops.VStack([P1, P2])
    blocks = stack @ x
    both = (expected @ flat).reshape(2, *SHAPE)
    agree(blocks["a"], both[0])
    agree(blocks["b"], both[1])
    agree(
        stack.H @ {"a": 2 * x, "b": x}, (expected.H @ np.r_[2 * flat, flat]).reshape(SHAPE)
    )


@pytest.mark.parametrize("damp", [0.0, 0.3])
def test_cgls_takes_the_same_steps(cube, damp):
    weights = xr.DataArray(np.linspace(0.2, 1.0, 8), {"time": cube.time}, dims="time")
    y = cube.isel(shot=0, depth=0, drop=True)
    A = xl.VStack({"a": xl.Diagonal(weights), "b": 0.004 * xl.FirstDerivative(y.time)})
    P = pylops.VStack(
        [pylops.Diagonal(weights.values), 0.004 * pylops.FirstDerivative(8, sampling=0.004)]
    )
    for niter in (1, 3, 6):
        ours = xl.cgls(A, {"a": y, "b": 0 * y}, niter=niter, tol=0, damp=damp).x
        theirs = pylops.cgls(
            P, np.r_[y.values, 0 * y.values], niter=niter, tol=0, damp=damp
        )[0]
        np.testing.assert_allclose(ours.values, theirs, rtol=1e-10, atol=1e-12)


# --- what PyLops does not have ----------------------------------------------------------


def uneven(n=9):
    return np.cumsum(1.0 + 0.8 * np.sin(np.arange(n))) - 4.0


def polynomial(coefficients, labels, dim="z"):
    values = np.polynomial.polynomial.polyval(labels, coefficients)
    return xr.DataArray(values, coords={dim: labels}, dims=dim)


@pytest.mark.parametrize("labels", [uneven(), uneven()[::-1]], ids=["rising", "falling"])
@pytest.mark.parametrize(("order", "degree"), [(3, 2), (5, 4)])
@pytest.mark.parametrize("cls", [xl.FirstDerivative, xl.SecondDerivative])
def test_centered_on_uneven_axes(cls, order, degree, labels):
    """Exact on the polynomials that go through its points."""
    coefficients = np.array([0.3, -1.2, 0.7, 0.05, -0.02])[: degree + 1]
    x = polynomial(coefficients, labels)
    times = 1 if cls is xl.FirstDerivative else 2
    exact = np.polynomial.polynomial.polyder(coefficients, times)
    expected = np.polynomial.polynomial.polyval(labels, exact)
    half = order // 2
    for data in (x, x.chunk(z=2), x.chunk(z=1)):
        y = (cls(x.z, order=order) @ data).values
        np.testing.assert_allclose(y[half:-half], expected[half:-half], rtol=0, atol=1e-12)
        assert not y[:half].any()
        assert not y[-half:].any()


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_one_sided_on_uneven_axes(kind):
    labels = uneven()
    inside = slice(None, -1) if kind == "forward" else slice(1, None)
    y = xl.FirstDerivative(polynomial([1, -2.5], labels).z, kind=kind)
    slope = (y @ polynomial([1, -2.5], labels)).values
    np.testing.assert_allclose(slope[inside], -2.5, rtol=1e-13)
    inside = slice(None, -2) if kind == "forward" else slice(2, None)
    x = polynomial([1, -2.5, 0.4], labels)
    curvature = (xl.SecondDerivative(x.z, kind=kind) @ x).values
    np.testing.assert_allclose(curvature[inside], 0.8, rtol=1e-12)


def test_edges_on_uneven_axes():
    labels = uneven()
    x = polynomial([1, -2.5, 0.4], labels)
    curvature = (xl.SecondDerivative(x.z, edge=True) @ x).values
    np.testing.assert_allclose(curvature, 0.8, rtol=1e-12)
    first = (xl.FirstDerivative(x.z, edge=True) @ x).values
    slopes = np.diff(x.values) / np.diff(labels)
    np.testing.assert_allclose(first[[0, -1]], slopes[[0, -1]], rtol=1e-13)


def test_second_derivative_of_five_points():
    z = 0.5 * np.arange(9)
    x = polynomial([1, -2.5, 0.4, 0.3, -0.1], z)
    expected = 0.8 + 1.8 * z - 1.2 * z**2
    y = (xl.SecondDerivative(x.z, order=5) @ x).values
    np.testing.assert_allclose(y[2:-2], expected[2:-2], rtol=0, atol=1e-12)
    assert not y[[0, 1, -2, -1]].any()


def test_months_are_uneven():
    """A parabola in seconds over months of 28 to 31 days."""
    time = np.arange("2006-01", "2007-01", dtype="datetime64[M]").astype("datetime64[ns]")
    days = (time - time[0]) / np.timedelta64(1, "D")
    x = xr.DataArray(days**2, coords={"time": time}, dims="time", attrs={"units": "m"})
    y = xl.FirstDerivative(x.time) @ x
    np.testing.assert_allclose(y.values[1:-1] * 86400, 2 * days[1:-1], rtol=1e-12)
    assert y.attrs["units"] == "m s-1"


def test_months_of_thirty_days():
    time = [cftime.Datetime360Day(2000, month, 1) for month in range(1, 13)]
    days = 30.0 * np.arange(12)
    x = xr.DataArray(days**2, coords={"time": time}, dims="time")
    D = xl.SecondDerivative(x.time)
    y = D @ x
    assert D.domain.axis("time").is_regular
    np.testing.assert_allclose(y.values[1:-1] * 86400.0**2, 2.0, rtol=1e-12)


def test_months_in_all_derivatives():
    """Five points and second derivatives over months, exact on the polynomials."""
    time = np.arange("2006-01", "2007-03", dtype="datetime64[M]").astype("datetime64[ns]")
    years = (time - time[0]) / np.timedelta64(365, "D")
    second = 365 * 86400.0
    for order, degree in ((3, 2), (5, 4)):
        power = np.polynomial.Polynomial([0.2, 1, -2, 0.5, 0.7][: degree + 1])
        x = xr.DataArray(power(years), coords={"time": time}, dims="time")
        inside = slice(order // 2, -(order // 2))
        for m, cls in ((1, xl.FirstDerivative), (2, xl.SecondDerivative)):
            for data in (x, x.chunk(time=3), x[::-1], x[::-1].chunk(time=1)):
                y = cls(data.time, order=order) @ data
                exact = power.deriv(m)(years)[inside]
                y = (y if data.time[0] == time[0] else y[::-1]).values[inside]
                np.testing.assert_allclose(y * second**m, exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("step", [0.25, -0.25])
@pytest.mark.parametrize("nfft", [5, 8, 12])
def test_fft_is_the_fourier_sum_of_its_labels(n, step, nfft):
    """Σ x(t) exp(−2πi f (t − t₀)), with f and t from the labels alone."""
    t = 1.5 + step * np.arange(n)
    x = xr.DataArray(np.random.default_rng(n).standard_normal(n), {"t": t}, dims="t")
    kept = slice(min(n, nfft))
    for shifted in (False, True):
        y = xl.FFT(x.t, nfft, norm="none", fftshift_after=shifted) @ x
        f = y.freq_t.values
        phase = np.exp(-2j * np.pi * f[:, None] * (t - t[0])[kept])
        np.testing.assert_allclose(y.values, phase @ x.values[kept], rtol=0, atol=1e-13)
        assert (np.sort(f) == (f if step > 0 else f[::-1])).all() == shifted
    y = xl.FFT(x.t, nfft, real=True, norm="none", scaling="plain") @ x
    f = y.freq_t.values
    phase = np.exp(-2j * np.pi * f[:, None] * (t - t[0])[kept])
    np.testing.assert_allclose(y.values, phase @ x.values[kept], rtol=0, atol=1e-13)
    assert len(f) == nfft // 2 + 1
    isometric = xl.FFT(x.t, max(n, nfft), real=True) @ x
    np.testing.assert_allclose(np.linalg.norm(isometric), np.linalg.norm(x), rtol=1e-14)


@in_chunks
@pytest.mark.parametrize("name", ["Real", "Imag", "Conj"])
@pytest.mark.parametrize("named", [True, False], ids=["dims", "any dims"])
def test_parts_of_complex_values(cube, name, named, chunks):
    rng = np.random.default_rng(9)
    x = cube + 1j * cube.copy(data=rng.standard_normal(SHAPE))
    P = getattr(pylops, name)(SHAPE, dtype="complex128")
    A = getattr(xl, name)(*([cube] if named else []))
    assert A.clinear is P.clinear is False
    y = A @ cut(x, "time", chunks)
    agree(y, (P @ x.values.ravel()).reshape(SHAPE))
    assert y.dtype.kind == ("c" if name == "Conj" else "f")
    back = A.H @ cut(y.compute(), "time", chunks)
    agree(back, (P.H @ y.values.ravel()).reshape(SHAPE))
    assert back.dtype == np.complex128
    again = (A @ cut(x.astype("complex64"), "time", chunks)).dtype
    assert again == ("complex64" if name == "Conj" else "float32")


def test_parts_as_terms_of_products(cube):
    """A real-valued modelling of complex data, and its adjoint for Re<.,.>."""
    rng = np.random.default_rng(4)
    weights = cube + 1j * cube.copy(data=rng.standard_normal(SHAPE))
    D = xl.Diagonal(weights)
    PD = pylops.Diagonal(weights.values.ravel(), dtype="complex128")
    x = weights.copy(data=rng.standard_normal(SHAPE) + 1j)
    for name in ("Real", "Imag", "Conj"):
        A = getattr(xl, name)() @ D
        P = getattr(pylops, name)(PD.shape[0], dtype="complex128") @ PD
        agree(A @ x, (P @ x.values.ravel()).reshape(SHAPE))
        y = A @ x
        agree(A.H @ y, (P.H @ y.values.ravel()).reshape(SHAPE))
        assert xl.dottest(A)
        assert not A.clinear
