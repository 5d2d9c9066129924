"""Published test problems, as dense or sparse matrices, and how they become labeled.

References are computed from them by dense factorizations, never by the library.
"""

import functools
import gzip
import pathlib
from typing import NamedTuple

import numpy as np
import scipy.io
import scipy.linalg
import scipy.sparse
import xarray as xr

import xlops as xl

DATA = pathlib.Path(__file__).parent / "data"


class Posed(NamedTuple):
    """A problem A x ≈ b with the solution that its author had in mind."""

    A: np.ndarray
    b: np.ndarray
    x: np.ndarray


# --- P. C. Hansen, Regularization Tools; Numerical Algorithms 6, 1994, and 46, 2007 ------


def shaw(n: int) -> Posed:
    """Restoration of an image in one dimension; n even."""
    h = np.pi / n
    t = -np.pi / 2 + (np.arange(n) + 0.5) * h
    u = np.pi * (np.sin(t)[:, None] + np.sin(t))
    A = h * ((np.cos(t)[:, None] + np.cos(t)) * np.sinc(u / np.pi)) ** 2
    x = 2 * np.exp(-6 * (t - 0.8) ** 2) + np.exp(-2 * (t + 0.5) ** 2)
    return Posed(A, A @ x, x)


def phillips(n: int) -> Posed:
    """D. L. Phillips's equation, projected on boxes; n a multiple of 4."""
    h = 12 / n
    third = np.pi / 3
    edges = -6 + h * np.arange(n + 1)
    # The bump 1 + cos(π s/3) of half a width of 3 = n/4 boxes, against triangles.
    row = np.zeros(n)
    inside = np.arange(n // 4)
    curve = (1 - np.cos(third * h)) / (h * third**2)
    row[inside] = h + 2 * curve * np.cos(third * h * inside)
    row[n // 4] = h / 2 - curve
    bump = np.where(np.abs(edges) <= 3, edges + np.sin(third * edges) / third, 0.0)
    x = np.diff(bump) / np.sqrt(h)
    x[np.abs(edges[:-1] + h / 2) > 3] = 0
    s = np.abs(edges)
    right = 6 * s - s**2 / 2 + (6 - s) * np.sin(third * s) / (2 * third)
    right -= 2 * np.cos(third * s) / third**2
    integral = np.sign(edges) * (right + 2 / third**2)  # zero, and odd, at zero
    return Posed(scipy.linalg.toeplitz(row), np.diff(integral) / np.sqrt(h), x)


def heat(n: int, kappa: float) -> Posed:
    """The inverse heat equation: a causal convolution, well posed for kappa = 5; n even."""
    t = (np.arange(n) + 0.5) / n
    k = t**-1.5 * np.exp(-1 / (4 * kappa**2 * t)) / (2 * kappa * np.sqrt(np.pi)) / n
    A = scipy.linalg.toeplitz(k, np.zeros(n))
    tau = 20 * (np.arange(n) + 1) / n
    x = np.select(
        [tau < 2, tau < 3],
        [0.75 * tau**2 / 4, 0.75 + (tau - 2) * (3 - tau)],
        0.75 * np.exp(-2 * (tau - 3)),
    )
    x[n // 2 :] = 0
    return Posed(A, A @ x, x)


def deriv2(n: int) -> Posed:
    """Green's function of the second derivative on [0, 1], projected on boxes."""
    h = 1 / n
    edges = h * np.arange(n + 1)
    s = edges[:-1] + h / 2
    A = h * np.minimum(s[:, None], s) * (np.maximum(s[:, None], s) - 1)
    A[np.diag_indices(n)] = h * (s**2 - edges[:-1] - 2 * h / 3)
    right = edges**4 / 24 - edges**2 / 12
    return Posed(A, np.diff(right) / np.sqrt(h), np.sqrt(h) * s)


def gravity(n: int, depth: float = 0.25) -> Posed:
    """A gravity survey in one dimension."""
    t = (np.arange(n) + 0.5) / n
    A = depth / n * (depth**2 + (t[:, None] - t) ** 2) ** -1.5
    x = np.sin(np.pi * t) + 0.5 * np.sin(2 * np.pi * t)
    return Posed(A, A @ x, x)


# Badly posed ones, but for the last.
PUBLISHED = {
    "shaw": functools.partial(shaw, 32),
    "phillips": functools.partial(phillips, 32),
    "heat": functools.partial(heat, 32, 1.0),
    "deriv2": functools.partial(deriv2, 32),
    "gravity": functools.partial(gravity, 32),
    "well-posed heat": functools.partial(heat, 32, 5.0),
}


def perturbed(b: np.ndarray) -> np.ndarray:
    """Data with a thousandth of noise, the same in every run."""
    e = np.cos(7.0 * np.arange(len(b)))
    return b + 1e-3 * np.linalg.norm(b) * e / np.linalg.norm(e)


# --- C. C. Paige and M. A. Saunders, ACM Trans. Math. Softw. 8, 1982 ---------------------

# m, n, nduplc, npower, damp.
PAIGE_SAUNDERS = [
    (1, 1, 1, 1, 0.0),
    (2, 1, 1, 1, 0.0),
    (40, 40, 4, 4, 0.0),
    (40, 40, 4, 4, 0.01),
    (80, 40, 4, 4, 0.01),
]


def paige_saunders(m: int, n: int, duplicates: int, power: int, damp: float) -> Posed:
    """P(m, n, nduplc, npower, damp): x is the solution of the damped problem."""

    def householder(v: np.ndarray) -> np.ndarray:
        v = v / np.linalg.norm(v)
        return np.eye(len(v)) - 2 * np.outer(v, v)

    Hy = householder(np.sin(4 * np.pi * np.arange(1, m + 1) / m))
    Hz = householder(np.cos(4 * np.pi * np.arange(1, n + 1) / n))
    d = (duplicates * np.ceil(np.arange(1, n + 1) / duplicates) / n) ** power
    A = Hy @ np.eye(m, n) @ np.diag(d) @ Hz
    x = np.arange(n - 1, -1, -1.0)
    j = np.arange(1, m - n + 1)
    r = Hy @ np.concatenate([damp**2 * (Hz @ x) / d, (-1.0) ** (j + 1) * j / m])
    return Posed(A, r + A @ x, x)


# --- the Harwell–Boeing collection ------------------------------------------------------

HARWELL_BOEING = ["well1033", "illc1033", "well1850", "illc1850"]


@functools.cache
def harwell_boeing(name: str) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """A sparse least-squares matrix and its right-hand side."""
    folder = DATA / "harwell_boeing"
    with gzip.open(folder / f"{name}.mtx.gz") as file:
        A = scipy.sparse.csr_array(scipy.io.mmread(file))
    with gzip.open(folder / f"{name}_rhs1.mtx.gz") as file:
        b = scipy.io.mmread(file)[:, 0]
    return A, b


# --- references -------------------------------------------------------------------------


def damped_least_squares(
    A: np.ndarray, y: np.ndarray, damp: float = 0.0, x_ref: np.ndarray | None = None
) -> np.ndarray:
    """The minimum of ‖y − A x‖² + damp² ‖x − x_ref‖², by an orthogonal factorization."""
    n = A.shape[1]
    pull = np.zeros((n, *y.shape[1:])) if x_ref is None else damp * x_ref
    stacked = np.vstack([A, damp * np.eye(n)])
    right = np.concatenate([y, pull])
    return np.linalg.lstsq(stacked, right, rcond=None)[0]


# --- with labels ------------------------------------------------------------------------


def axis(dim: str, n: int) -> xr.DataArray:
    """Labels of n samples."""
    return xr.DataArray(np.arange(n) / 4, dims=dim, coords={dim: np.arange(n) / 4})[dim]


def matrix(A: np.ndarray, units: str | None = None) -> xl.LinearOperator:
    """A dense matrix from "column" to "row" as an operator."""
    m, n = A.shape
    weights = xr.DataArray(
        A,
        dims=("row", "column"),
        coords={"row": axis("row", m), "column": axis("column", n)},
        attrs={} if units is None else {"units": units},
    )
    return xl.MatrixMult(weights, "column")


def labeled(values: np.ndarray, dim: str, units: str | None = None) -> xr.DataArray:
    """Samples along a dim, the last axis; the one before it is "batch"."""
    values = np.asarray(values)
    return xr.DataArray(
        values,
        dims=("batch", dim)[-values.ndim :],
        coords={dim: axis(dim, values.shape[-1])},
        attrs={} if units is None else {"units": units},
    )


def assert_close(x: xr.DataArray | np.ndarray, expected: np.ndarray, rtol: float) -> None:
    """Equal within `rtol` of the largest value."""
    expected = np.asarray(expected)
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(x), expected, rtol=0, atol=atol)
