"""Complex numbers everywhere: real and complex operators together, against matrices."""

import numpy as np
import pylops
import pytest
import scipy.sparse.linalg
import xarray as xr

import xlops as xl

N, ROWS = 8, 12
EXACT = {"niter": 80, "tol": 1e-12}


def random(shape, kind, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return values + 1j * rng.standard_normal(shape) if kind == "complex" else values


def labeled(values, *dims):
    coords = {"t": 0.5 * np.arange(N)} if "t" in dims else {}
    return xr.DataArray(values, coords, dims)


# Operators along t beside their matrices.
MC, MR = random((ROWS, N), "complex", 0), random((ROWS, N), "real", 1)
WC = random(N, "complex", 2)
A = xl.MatrixMult(labeled(MC, "s", "t"), "t", name="A")
B = xl.MatrixMult(labeled(MR, "s", "t"), "t", name="B")
C = xl.Diagonal(labeled(WC, "t"))
D = xl.FirstDerivative(labeled(np.zeros(N), "t").t, edge=True)
MD = pylops.FirstDerivative(N, sampling=0.5, edge=True).todense()

EXPRESSIONS = {
    "real + complex": (A + B, MC + MR),
    "complex - i real": (A - 1j * B, MC - 1j * MR),
    "real complex": (B @ C, MR @ np.diag(WC)),
    "complex real": (A @ D, MC @ MD),
    "power": ((C @ D) ** 3, np.linalg.matrix_power(np.diag(WC) @ MD, 3)),
    "divided": (A / (2 - 1j), MC / (2 - 1j)),
    "gram": ((A + B).gram, (MC + MR).conj().T @ (MC + MR)),
    "stack": (xl.VStack({"a": A, "b": D, "c": C}), np.vstack([MC, MD, np.diag(WC)])),
    "row": (xl.HStack({"a": A, "b": B}), np.hstack([MC, MR])),
    "row, real first": (xl.HStack({"a": B, "b": A}), np.hstack([MR, MC])),
    "blocks": (
        xl.Block({"p": {"a": C, "b": D}, "q": {"b": 1j * D}}),
        np.block([[np.diag(WC), MD], [np.zeros((N, N)), 1j * MD]]),
    ),
    "block by block": (
        xl.BlockDiag({"a": D, "b": A}),
        np.block([[MD, np.zeros((N, N))], [np.zeros((ROWS, N)), MC]]),
    ),
}
every = pytest.mark.parametrize("name", EXPRESSIONS)
any_data = pytest.mark.parametrize("kind", ["real", "complex"])
on = pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
damped = pytest.mark.parametrize(
    ("lazy", "damp"), [(False, 0.0), (True, 0.6)], ids=["numpy", "dask, damped"]
)


def agree(result, expected, tol=1e-12):
    blocks = result.values() if isinstance(result, dict) else [result]
    values = np.concatenate([block.values.ravel() for block in blocks])
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=0, atol=tol * np.abs(expected).max())


def member(space, kind, lazy=False, seed=7):
    """Labeled data, and as one flat vector."""
    if isinstance(space, xl.Blocks):
        made = {
            name: member(one, kind, lazy, seed + i)
            for i, (name, one) in enumerate(space.items())
        }
        return (
            {name: x for name, (x, _) in made.items()},
            np.concatenate([flat for _, flat in made.values()]),
        )
    (n,) = space.sizes.values()
    flat = random(n, kind, seed)
    x = xr.DataArray(flat, space.coords, space.dims)
    return x.chunk({x.dims[0]: (1, n - 3, 2)}) if lazy else x, flat


@every
@any_data
@on
def test_as_matrices(name, kind, lazy):
    E, M = EXPRESSIONS[name]
    x, flat = member(E.domain, kind, lazy)
    y, data = member(E.range, kind, lazy)
    agree(E @ x, M @ flat)
    agree(E.conj() @ x, M.conj() @ flat)
    agree(E.H @ y, M.conj().T @ data)
    agree(E.T @ y, M.T @ data)
    assert E.H.H == E
    assert E.conj().conj() == E
    assert E.clinear


@every
@any_data
@damped
def test_least_squares(name, kind, lazy, damp):
    """Without damping the shortest solution, where there are many."""
    E, M = EXPRESSIONS[name]
    y, data = member(E.range, kind, lazy)
    damped = np.vstack([M, damp * np.eye(M.shape[1])])
    padded = np.r_[data, np.zeros(M.shape[1])].astype(complex)
    expected = np.linalg.lstsq(damped, padded, rcond=1e-12)[0]
    agree(xl.cgls(E, y, damp=damp, **EXACT).x, expected, 1e-8)
    if not isinstance(E.domain, xl.Blocks):
        agree(xl.cg(E.gram, E.H @ y, damp=damp, **EXACT).x, expected, 1e-8)


@any_data
@on
def test_regularized_and_preconditioned(kind, lazy):
    y, data = member(A.range, kind, lazy)
    stacked = np.vstack([MC, 0.3 * np.diag(WC)])
    expected = np.linalg.lstsq(stacked, np.r_[data, np.zeros(N)], rcond=None)[0]
    agree(xl.regularized_inversion(A, y, {"w": (C, 0.3)}, **EXACT).x, expected, 1e-8)
    expected = np.linalg.lstsq(MC, data.astype(complex), rcond=None)[0]
    agree(xl.cgls(A, y, preconditioner=C.gram, **EXACT).x, expected, 1e-8)


@on
def test_single_precision_of_solutions(lazy):
    rough = xl.MatrixMult(labeled(MC.astype("complex64"), "s", "t"), "t")
    for kind in ("real", "complex"):
        y, data = member(A.range, kind, lazy)
        small = y.astype("complex64" if kind == "complex" else "float32")
        solution = xl.cgls(rough, small, tol=1e-6)
        assert solution.x.dtype == solution.residual.dtype == np.complex64
        expected = np.linalg.lstsq(MC, data.astype(complex), rcond=None)[0]
        agree(solution.x, expected, 1e-4)


def test_spectra():
    E, M = C @ D, np.diag(WC) @ MD
    agree(E.todense(), M.ravel())
    agree(E.diagonal(), np.diag(M))
    x, flat = member(E.domain, "complex")
    np.testing.assert_allclose(E.bind(x).trace(), np.trace(M), rtol=1e-12)
    np.testing.assert_allclose(E.norm(), np.linalg.norm(M, 2), rtol=1e-10)
    np.testing.assert_allclose((A + B).cond(), np.linalg.cond(MC + MR), rtol=1e-8)
    largest = np.linalg.eigvals(M)
    largest = largest[np.argsort(-np.abs(largest))][:3]
    np.testing.assert_allclose(
        np.sort_complex(E.eigs(3)), np.sort_complex(largest), rtol=1e-8
    )
    bound = E.bind(x)
    np.testing.assert_allclose(bound.conj().matvec(flat), M.conj() @ flat, rtol=1e-12)
    np.testing.assert_allclose(bound.T.matvec(flat), M.T @ flat, rtol=1e-12)
    for other in (bound.to_pylops(), bound.to_scipy()):
        np.testing.assert_allclose(other.H @ flat, M.conj().T @ flat, rtol=1e-12)
        np.testing.assert_allclose(other.T @ flat, M.T @ flat, rtol=1e-12)
    y = scipy.sparse.linalg.aslinearoperator(bound) @ flat
    np.testing.assert_allclose(y, M @ flat, rtol=1e-12)


def test_dtypes_follow_what_is_complex():
    """Complex where data or operator are, and nowhere else."""
    x, _ = member(D.domain, "real")
    made = xl.BlockDiag({"a": D, "b": C}) @ {"a": x, "b": x}
    assert {name: block.dtype for name, block in made.items()} == {
        "a": np.float64,
        "b": np.complex128,
    }
    assert (D @ x).dtype == np.float64
    assert (C @ x).dtype == (D @ (1j * x)).dtype == ((1j * D) @ x).dtype == np.complex128
    assert (xl.Real() @ C @ x).dtype == np.float64
