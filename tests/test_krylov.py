"""LSQR, LSMR, MINRES, GMRES and BiCGSTAB, compared with SciPy and dense factorizations."""

import dask
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg as peers
import xarray as xr

import xlops as xl

LEAST_SQUARES = ["lsqr", "lsmr"]
SQUARE = ["minres", "gmres", "bicgstab"]
METHODS = [*LEAST_SQUARES, *SQUARE]
CHUNKS = {"numpy": None, "one": -1, "many": (1, 5, 2, 4)}

each = pytest.mark.parametrize("method", METHODS)
least_squares = pytest.mark.parametrize("method", LEAST_SQUARES)
square = pytest.mark.parametrize("method", SQUARE)
chunked = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
lazily = pytest.mark.parametrize("chunks", [None, CHUNKS["many"]], ids=["numpy", "dask"])


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def axis(dim, count, step=2.0, units="m"):
    values = xr.DataArray(step * np.arange(count), dims=dim, attrs={"units": units})
    return values.assign_coords({dim: values, "line": (dim, np.arange(count) % 4)})


def operator(values):
    """A dense matrix (row, column); from a space to itself where it is square."""
    m, n = values.shape
    made = axis("column", n) if m == n else axis("row", m)
    return xl.MatrixMult(
        scipy.sparse.csr_array(values), domain=axis("column", n), range=made
    )


def vector(values, chunks=None, dim="column", **attrs):
    dims = ("shot", dim)[-np.ndim(values) :]
    coords = axis(dim, np.shape(values)[-1]).coords
    x = xr.DataArray(values, dims=dims, coords=coords, attrs=attrs, name="u")
    return x if chunks is None else x.chunk({dim: chunks})


def orthogonal(rng, n, kind):
    values = rng.standard_normal((n, n))
    if kind == "complex":
        values = values + 1j * rng.standard_normal((n, n))
    return np.linalg.qr(values)[0]


def spread(rng, n, cond, kind="real"):
    """A matrix for every method: symmetric, of this condition, with both signs."""
    Q = orthogonal(rng, n, kind)
    values = np.geomspace(1, 1 / cond, n)
    values[: n // 4] *= -1
    return (Q * values) @ Q.conj().T


def tall(rng, m, n, cond, kind="real"):
    U, V = orthogonal(rng, m, kind)[:, :n], orthogonal(rng, n, kind)
    return (U * np.geomspace(1, 1 / cond, n)) @ V.conj().T


def drawn(rng, n, kind="real"):
    values = rng.standard_normal(n)
    return values + 1j * rng.standard_normal(n) if kind == "complex" else values


def assert_close(x, expected, rtol):
    values = x.values if isinstance(x, xr.DataArray) else x
    np.testing.assert_allclose(values, expected, rtol=0, atol=rtol * np.abs(expected).max())


def solved(method, A, y, *args, **kwargs):
    if method == "gmres":
        kwargs = {"restart": 60, **kwargs}
    return getattr(xl, method)(A, y, *args, **kwargs)


# --- the same solution everywhere -----------------------------------------------------


@chunked
@each
@pytest.mark.parametrize(("kind", "cond"), [("real", 1e4), ("complex", 10.0)])
def test_solutions(rng, method, chunks, kind, cond):
    n = 12
    if method in LEAST_SQUARES:
        A, y = tall(rng, 18, n, cond, kind), drawn(rng, 18, kind)
        given = vector(y, chunks if chunks in (None, -1) else (3, 9, 1, 5), "row")
        expected = np.linalg.lstsq(A, y, rcond=None)[0]
    else:
        A, expected = spread(rng, n, cond, kind), drawn(rng, n, kind)
        if method != "minres":
            A = A + 2 * np.eye(n) if cond == 10 else A
            A = A + 0.02 / cond * np.triu(rng.standard_normal((n, n)))
        if method == "bicgstab":  # not for spectra on both sides of zero
            Q = orthogonal(rng, n, kind)
            A = (Q * np.geomspace(1, 1 / cond, n)) @ Q.conj().T
        y = A @ expected
        given = vector(y, chunks)
    solution = solved(method, operator(A), given, tol=1e-14, niter=600)
    assert_close(solution.x, expected, 1e-8)
    x = solution.x
    assert solution.converged
    assert x.dims == ("column",)
    assert x.column.identical(axis("column", n).column)
    assert x.line.equals(axis("column", n).line)
    assert (x.chunks is None) == (chunks is None)
    # What the history says is true, and complete.
    r = y - A @ x.values
    g = A.conj().T @ r if method in LEAST_SQUARES else r
    history = solution.history
    assert history.sizes["iteration"] == solution.iterations + 1
    start = float(history.gradient_norm[0])
    largest = max(np.linalg.norm(A, 2) * np.linalg.norm(x.values), np.linalg.norm(y))
    assert abs(float(history.gradient_norm[-1]) - np.linalg.norm(g)) <= 1e-13 * largest
    assert abs(float(history.residual_norm[-1]) - np.linalg.norm(r)) <= 1e-13 * largest
    assert np.isfinite(history.to_array()).all()
    assert np.linalg.norm(g) <= 1e-14 * start + 1e-13 * largest
    assert_close(solution.residual, r, 1e-12 * largest / np.abs(r).max())


# --- the same steps as SciPy's --------------------------------------------------------


@least_squares
@pytest.mark.parametrize("damp", [0.0, 0.3])
@pytest.mark.parametrize("niter", [1, 2, 5, 9])
def test_steps_for_least_squares(rng, method, damp, niter):
    A, y = tall(rng, 30, 12, 5.0), rng.standard_normal(30)
    find = getattr(peers, method)
    names = {"lsqr": "iter_lim", "lsmr": "maxiter"}
    expected, _, _, *norms = find(
        A, y, damp=damp, atol=0, btol=0, conlim=0, **{names[method]: niter}
    )
    solution = solved(
        method, operator(A), vector(y, dim="row"), damp=damp, niter=niter, tol=0
    )
    assert solution.iterations == niter
    assert_close(solution.x, expected, 1e-11)
    r = y - A @ expected
    last = solution.history.isel(iteration=-1)
    cost = np.sum(r**2) + damp**2 * np.sum(expected**2)
    np.testing.assert_allclose(last.residual_norm, np.linalg.norm(r), rtol=1e-11)
    np.testing.assert_allclose(last.cost, cost, rtol=1e-11)
    gradient = np.linalg.norm(A.T @ r - damp**2 * expected)
    rounding = 1e-13 * float(solution.history.gradient_norm[0])
    np.testing.assert_allclose(last.gradient_norm, gradient, rtol=0, atol=rounding)
    theirs = norms[4] if method == "lsqr" else norms[1]
    np.testing.assert_allclose(last.gradient_norm, theirs, rtol=0, atol=rounding)


@square
@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("niter", [1, 3, 7])
@pytest.mark.parametrize("preconditioned", [False, True], ids=["", "preconditioned"])
def test_steps_for_square_systems(rng, method, kind, niter, preconditioned):
    if method == "minres" and kind == "complex":
        pytest.skip("SciPy's is for real matrices")
    A, y = spread(rng, 20, 30.0, kind), drawn(rng, 20, kind)
    if method != "minres":
        A = A + 1.5 * np.eye(20) + 0.3 * np.triu(drawn(rng, (20, 20), kind)) / np.sqrt(20)
    M = np.diag(1 / np.abs(A.diagonal())) if preconditioned else None
    iterates = []
    keys = {"gmres": {"restart": 4, "callback_type": "pr_norm"}}.get(method, {})
    limit = -(-niter // 4) if method == "gmres" else niter
    if method == "gmres" and niter % 4:
        keys, limit = {"restart": niter, "callback_type": "pr_norm"}, 1
    # SciPy preconditions GMRES from the right, too: it minimizes the same residual.
    found = getattr(peers, method)(
        A, y, rtol=0, maxiter=limit, M=M, callback=iterates.append, **keys
    )[0]
    P = None if M is None else operator(M)
    ours = {"restart": keys["restart"]} if method == "gmres" else {}
    solution = getattr(xl, method)(
        operator(A), vector(y), niter=niter, tol=0, preconditioner=P, **ours
    )
    if method == "gmres" and preconditioned:
        # SciPy's are preconditioned from the left: compare with the space that ours spans.
        B, basis = A @ M, [y]
        for _ in range(niter - 1):
            basis.append(B @ basis[-1])
        Q = np.linalg.qr(np.array(basis).T)[0]
        found = M @ Q @ np.linalg.lstsq(B @ Q, y, rcond=None)[0]
    assert_close(solution.x, found, 1e-10)
    last = solution.history.isel(iteration=-1)
    norm = np.linalg.norm(y - A @ solution.x.values)
    np.testing.assert_allclose(last.gradient_norm, norm, rtol=1e-10)
    np.testing.assert_allclose(last.residual_norm, norm, rtol=1e-10)


# --- published problems ---------------------------------------------------------------


def paige_saunders(m, n, duplicates, power, damp):
    """P(m, n, nduplc, npower, damp) of ACM TOMS 8, 1982; its solution and data."""

    def householder(v):
        v = v / np.linalg.norm(v)
        return np.eye(len(v)) - 2 * np.outer(v, v)

    Hy = householder(np.sin(4 * np.pi * np.arange(1, m + 1) / m))
    Hz = householder(np.cos(4 * np.pi * np.arange(1, n + 1) / n))
    d = (duplicates * np.ceil(np.arange(1, n + 1) / duplicates) / n) ** power
    A = Hy @ np.eye(m, n) @ np.diag(d) @ Hz
    x = np.arange(n - 1, -1, -1.0)
    j = np.arange(1, m - n + 1)
    r = Hy @ np.concatenate([damp**2 * (Hz @ x) / d, (-1.0) ** (j + 1) * j / m])
    return A, x, r + A @ x


@least_squares
@pytest.mark.parametrize(
    ("m", "n", "duplicates", "power", "damp"),
    [
        (2, 1, 1, 1, 0),
        (40, 40, 4, 4, 0),
        (40, 40, 4, 4, 0.01),
        (80, 40, 4, 4, 0.01),
    ],
)
def test_paige_and_saunders(method, m, n, duplicates, power, damp):
    A, x, b = paige_saunders(m, n, duplicates, power, damp)
    y = vector(b, dim="column" if m == n else "row")
    solution = solved(method, operator(A), y, damp=damp, tol=1e-14, niter=4 * n + 50)
    error = np.linalg.norm(solution.x.values - x) / (1 + np.linalg.norm(x))
    assert error <= 1e-5
    theirs = getattr(peers, method)(A, b, damp=damp, atol=1e-14, btol=1e-14, conlim=0)[0]
    assert np.linalg.norm(solution.x.values - x) <= 1e-10 + 10 * np.linalg.norm(theirs - x)


# --- what the arguments mean ----------------------------------------------------------


@each
@lazily
@pytest.mark.parametrize("damp", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("start", [None, 20.0], ids=["", "x0"])
@pytest.mark.parametrize("pull", [None, 2.0], ids=["", "x_ref"])
@pytest.mark.parametrize("preconditioned", [False, True], ids=["", "preconditioned"])
def test_damping(rng, method, chunks, damp, start, pull, preconditioned):
    n = 12
    ref = np.zeros(n) if pull is None else pull * rng.standard_normal(n)
    if method in LEAST_SQUARES:
        A, y = tall(rng, 18, n, 5.0), rng.standard_normal(18)
        chunks, dim = chunks and (3, 9, 1, 5), "row"
        stacked, right = np.vstack([A, damp * np.eye(n)]), np.append(y, damp * ref)
        expected = np.linalg.lstsq(stacked, right, rcond=None)[0]
        weights = 1 / (np.sum(A**2, axis=0) + damp**2)
    else:
        A, y, dim = spread(rng, n, 5.0), rng.standard_normal(n), "column"
        A = A if method == "minres" else A + 1.5 * np.eye(n) + np.eye(n, k=1) / 4
        expected = np.linalg.solve(A + damp**2 * np.eye(n), y + damp**2 * ref)
        weights = 1 / (np.abs(A.diagonal()) + damp**2)
    solution = solved(
        method,
        operator(A),
        vector(y, chunks, dim),
        None if start is None else vector(start * rng.standard_normal(n)),
        damp=damp,
        x_ref=None if pull is None else vector(ref),
        preconditioner=xl.Diagonal(vector(weights)) if preconditioned else None,
        tol=1e-13,
        niter=300,
    )
    assert solution.converged
    x = solution.x.values
    size = np.abs(expected).max() + (start or 0.0)  # what rounding is of
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-11 * size)
    r = y - A @ x
    largest = np.abs(y).max() + float(solution.history.residual_norm[0])
    np.testing.assert_allclose(solution.residual, r, rtol=0, atol=1e-13 * largest)
    last = solution.history.isel(iteration=-1)
    if method != "gmres" or not damp:
        np.testing.assert_allclose(
            last.residual_norm, np.linalg.norm(r), rtol=0, atol=1e-11
        )
    gradient = (A.T @ r if method in LEAST_SQUARES else r) - damp**2 * (x - ref)
    first = float(solution.history.gradient_norm[0])
    assert np.linalg.norm(gradient) <= 2e-13 * first


@each
def test_units_and_batches(rng, method):
    weights = vector(1 + rng.random(12), units="Pa/m")
    y = vector(rng.standard_normal((3, 12)), units="Pa").transpose("column", "shot")
    solution = solved(method, xl.Diagonal(weights), y.chunk(shot=2), tol=1e-12)
    assert_close(solution.x, (y / weights).values, 1e-10)
    assert solution.x.attrs["units"] == "m"
    assert solution.x.dims == ("column", "shot")
    assert solution.residual.attrs["units"] == "Pa"
    assert solution.method == method
    same = xl.solve(xl.Diagonal(weights), y.chunk(shot=2), method=method, tol=1e-12)
    assert_close(same.x, solution.x.values, 1e-9)


@each
@lazily
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_single_precision(rng, method, chunks, dtype):
    kind = "complex" if dtype == "c8" else "real"
    A = spread(rng, 12, 3.0, kind)
    A = (A if method in ("minres", *LEAST_SQUARES) else A + 2 * np.eye(12)).astype(dtype)
    y = drawn(rng, 12, kind).astype(dtype)
    solution = solved(method, operator(A), vector(y, chunks), tol=1e-5)
    assert solution.x.dtype == dtype
    assert solution.residual.dtype == dtype
    assert solution.converged
    assert_close(solution.x, np.linalg.solve(A.astype("c16"), y), 1e-4)


@each
@lazily
def test_operators_linear_over_real_numbers(rng, method, chunks):
    """(a + b conj) x: as a matrix, of real and imaginary part one below the other."""
    n = 12
    space = axis("column", n)
    diagonal = np.linspace(1.0, 2.0, n)
    A = xl.Diagonal(vector(diagonal)) + 0.5 * xl.Conj(space.column)
    assert not A.clinear
    y = drawn(rng, n, "complex")
    solution = solved(method, A, vector(y, chunks), tol=1e-13)
    expected = y.real / (diagonal + 0.5) + 1j * y.imag / (diagonal - 0.5)
    assert_close(solution.x, expected, 1e-10)


@least_squares
@lazily
def test_blocks(rng, method, chunks):
    A, B = rng.standard_normal((18, 12)), rng.standard_normal((18, 12))
    stack = xl.HStack({"a": operator(A), "b": 2 * operator(B)})
    y = vector(rng.standard_normal(18), chunks and (3, 9, 1, 5), "row")
    ref = {"a": vector(np.ones(12)), "b": vector(np.zeros(12))}
    matrix = np.hstack([A, 2 * B])
    stacked = np.vstack([matrix, 0.5 * np.eye(24)])
    right = np.concatenate([y.values, 0.5 * np.ones(12), np.zeros(12)])
    expected = np.linalg.lstsq(stacked, right, rcond=None)[0]
    solution = solved(method, stack, y, damp=0.5, x_ref=ref, tol=1e-13)
    assert_close(solution.x["a"], expected[:12], 1e-10)
    assert_close(solution.x["b"], expected[12:], 1e-10)
    # Blocks of data, from elsewhere.
    both = xl.VStack({"p": operator(A), "q": xl.Identity(axis("column", 12))})
    z = {"p": y, "q": vector(rng.standard_normal(12), chunks)}
    expected = np.linalg.lstsq(
        np.vstack([A, np.eye(12)]), np.concatenate([z["p"], z["q"]]), rcond=None
    )[0]
    solution = solved(method, both, z, vector(np.ones(12)), tol=1e-13)
    assert_close(solution.x, expected, 1e-10)


# --- breakdowns -----------------------------------------------------------------------


@each
@lazily
def test_what_one_step_solves(rng, method, chunks):
    y = rng.standard_normal(12)
    solution = solved(
        method, 3 * xl.Identity(axis("column", 12)), vector(y, chunks), tol=1e-14
    )
    assert solution.converged
    assert solution.iterations <= 2
    assert_close(solution.x, y / 3, 1e-14)
    exact = solved(
        method, xl.Identity(axis("column", 12)), vector(y, chunks), vector(y), tol=0
    )
    assert exact.reason is xl.Reason.EXACT
    assert exact.iterations == 0


@each
def test_projections_are_solved_where_they_can_be(rng, method):
    keep = vector(np.arange(12) % 3 > 0)
    A, y = 2 * xl.Mask(keep), vector(rng.standard_normal(12)).where(keep, 0.0)
    solution = solved(method, A, y, tol=1e-12)
    assert solution.converged
    assert_close(solution.x, y.values / 2, 1e-12)


@pytest.mark.parametrize("method", ["minres", "gmres"])
@lazily
def test_a_singular_system_is_no_solution(rng, method, chunks):
    weights = np.linspace(-1.0, 2.0, 12) if method == "minres" else np.linspace(0.5, 2, 12)
    weights[7] = 0.0
    y = rng.standard_normal(12)
    solution = solved(method, xl.Diagonal(vector(weights)), vector(y, chunks), niter=300)
    assert not solution.converged
    assert np.isfinite(solution.x).all()
    # The residual is the one of least squares: what A cannot make.
    assert_close(solution.residual, np.where(weights == 0, y, 0.0), 1e-6)


def test_bicgstab_says_where_there_is_no_way_on():
    A = np.array([[0.0, 1.0], [-1.0, 0.0]])
    solution = xl.bicgstab(operator(A), vector(np.array([1.0, 2.0])))
    assert solution.reason is xl.Reason.BREAKDOWN
    assert (solution.x == 0).all()


@pytest.mark.parametrize("method", ["gmres", "bicgstab"])
def test_residuals_of_convergence_are_true(rng, method):
    """Where rounding allows no less, none is claimed."""
    Q = orthogonal(rng, 60, "real")
    A = (Q * np.geomspace(1, 1e-6, 60)) @ Q.T
    y = rng.standard_normal(60)
    solution = solved(method, operator(A), vector(y), tol=1e-9, niter=3000)
    x = solution.x.values
    true = np.linalg.norm(y - A @ x)
    floor = 100 * np.finfo(float).eps * np.linalg.norm(A, 2) * np.linalg.norm(x)
    assert not solution.converged or true <= 1e-9 * np.linalg.norm(y) + floor


def test_restarts_of_gmres(rng):
    A = 2 * np.eye(12) + 0.1 * rng.standard_normal((12, 12))
    y = rng.standard_normal(12)
    history = []
    for restart in (1, 3, 20):
        solution = xl.gmres(operator(A), vector(y), restart=restart, tol=1e-12)
        assert solution.converged
        assert_close(solution.x, np.linalg.solve(A, y), 1e-11)
        falls = np.diff(solution.history.residual_norm)
        assert (falls <= 1e-15).all()
        history.append(solution.iterations)
    assert history == sorted(history, reverse=True)
    seen = []
    solution = xl.gmres(
        operator(A), vector(y), restart=3, tol=1e-8, callback=lambda s: seen.append(s.x)
    )
    norms = [np.linalg.norm(y - A @ x.values) for x in seen]
    np.testing.assert_allclose(
        norms, solution.history.residual_norm[1 : len(norms) + 1], 1e-6
    )


# --- Dask -----------------------------------------------------------------------------


@each
def test_iterations_are_submitted_one_by_one(rng, method):
    A = spread(rng, 12, 3.0) + (0 if method == "minres" else 2 * np.eye(12))
    counts = []

    def get(graph, keys, **kwargs):
        counts.append(graph)
        return dask.get(graph, keys, **kwargs)

    y = vector(rng.standard_normal(12), CHUNKS["many"])
    with dask.config.set(scheduler=get):
        solution = getattr(xl, method)(operator(A), y, niter=5, tol=0)
    # The start, the iterations, and what is made in the end; numbers come without.
    assert solution.iterations == 5
    assert len(counts) <= 5 + 3


@each
@pytest.mark.parametrize("damp", [0.0, 0.5])
@pytest.mark.parametrize("preconditioned", [False, True], ids=["", "preconditioned"])
def test_going_on_from_a_checkpoint(tmp_path, rng, method, damp, preconditioned):
    kind = "complex" if method in ("gmres", "bicgstab") else "real"
    A = operator(
        spread(rng, 12, 30.0, kind) + (0 if method == "minres" else 2 * np.eye(12))
    )
    y, ref = vector(drawn(rng, 12, kind)), vector(np.ones(12))
    keys = {"damp": damp, "tol": 0, "x_ref": ref}
    if preconditioned:
        keys["preconditioner"] = xl.Diagonal(vector(1 + rng.random(12)))
    if method == "gmres":
        keys["restart"] = 4
    solve = getattr(xl, method)
    expected = solve(A, y, niter=11, **keys)
    for niter in (3, 6, 11):
        found = solve(A, y, niter=niter, checkpoint=tmp_path / "run.zarr", **keys)
    np.testing.assert_array_equal(found.x, expected.x)
    xr.testing.assert_identical(found.history, expected.history)


# --- many problems at once ------------------------------------------------------------


@each
@lazily
def test_independent_problems(rng, method, chunks):
    kind = "complex" if method in ("gmres", "bicgstab") else "real"
    A = operator(
        spread(rng, 20, 30.0, kind) + (0 if method == "minres" else 2 * np.eye(20))
    )
    values = drawn(rng, (5, 20), kind) * np.geomspace(1, 1e6, 5)[:, None]
    values[3] = 0.0
    y = vector(values)
    y = y if chunks is None else y.chunk(shot=2)
    keys = {"tol": 1e-9, "damp": 3.0} | ({"restart": 6} if method == "gmres" else {})
    solve = getattr(xl, method)
    together = solve(A, y, independent="shot", **keys)
    for i, x in enumerate(together.x.transpose("shot", ...).values):
        alone = solve(A, y[i].compute(), **keys)
        scale = np.abs(alone.x.values).max()
        np.testing.assert_allclose(x, alone.x.values, rtol=0, atol=1e-10 * scale)
        assert together.history.iterations[i] == alone.iterations
        assert str(together.history.reason[i].values) == alone.reason.name


# --- errors ---------------------------------------------------------------------------


@square
def test_operators_that_change_the_space(rng, method):
    with pytest.raises(xl.LabelError, match=f"{method} needs an operator from a space"):
        getattr(xl, method)(
            operator(rng.standard_normal((6, 4))), vector(np.ones(6), dim="row")
        )


@pytest.mark.parametrize("restart", [0, -3, 2.5, True, "all"])
def test_restarts_that_are_none(restart):
    y = vector(np.ones(4))
    with pytest.raises(xl.ArgumentError, match="restart must be a whole number"):
        xl.gmres(xl.Identity(y), y, restart=restart)


def test_solve_knows_its_methods():
    y = vector(np.ones(4))
    with pytest.raises(xl.ArgumentError, match="'lsmr', 'lsqr', 'minres'"):
        xl.solve(xl.Identity(y), y, method="no such")


# --- the power iteration --------------------------------------------------------------


@lazily
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_power_iteration(rng, chunks, kind):
    Q = orthogonal(rng, 12, kind)
    values = np.append([-3.0], np.linspace(0, 1, 11))
    if kind == "complex":
        values = values * np.exp(0.7j)
    A = operator((Q * values) @ Q.conj().T)
    pair = xl.power_iteration(A, vector(np.zeros(12), chunks), tol=1e-12)
    assert pair.converged
    np.testing.assert_allclose(pair.value, values[0], rtol=1e-12)
    assert pair.vector.column.identical(axis("column", 12).column)
    assert (pair.vector.chunks is None) == (chunks is None)
    np.testing.assert_allclose(np.abs(Q[:, 0].conj() @ pair.vector.values), 1.0, rtol=1e-12)
    turned = xl.Diagonal(vector(np.array([1.0, -1.0])))
    assert not xl.power_iteration(turned, niter=20).converged
