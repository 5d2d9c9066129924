"""Matrices, diagonals and spectra, against closed forms and NumPy."""

import numpy as np
import pint
import pylops
import pytest
import xarray as xr

import xlops as xl
from tests.catalogue import CATALOGUE, gather
from xlops import spectral
from xlops.space import Blocks


@pytest.fixture
def d():
    return gather()


@pytest.fixture
def few(monkeypatch):
    """Everything is too large for LAPACK."""
    monkeypatch.setattr(spectral, "FEW_ENTRIES", 0)
    monkeypatch.setattr(spectral, "FEW_UNKNOWNS", 0)


def line(n, **attrs):
    t = xr.DataArray(0.5 * np.arange(n), dims="t", attrs=attrs)
    return t.assign_coords(t=t).t


def agree(result, expected, rtol=1e-12):
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    scale = np.max(np.abs(expected), initial=1e-300)
    np.testing.assert_allclose(result, expected, rtol=0, atol=rtol * scale)


def flat_matrix(A):
    """The matrix of an operator, one labeled unit vector after the other."""
    zeros = A.domain.zeros()
    columns = []
    for i in range(zeros.size):
        unit = np.zeros(zeros.size, zeros.dtype)
        unit[i] = 1
        y = A @ zeros.copy(data=unit.reshape(zeros.shape))
        columns.append(y.transpose(*A.bind(zeros).range.dims).values.ravel())
    return np.stack(columns, axis=1)


def one_array(entry):
    """Whether an entry maps one small array to another."""
    A = entry.build(gather(entry.time, (5, 5, 5)))
    return (
        not isinstance(A.domain, Blocks)
        and isinstance(A.range, xl.Space)
        and A.domain.size <= 30
    )


SMALL = [entry for entry in CATALOGUE[::3] if one_array(entry)]


# --- matrices ---------------------------------------------------------------------------


@pytest.mark.parametrize("entry", SMALL, ids=str)
def test_todense(entry, monkeypatch):
    A = entry.build(gather(entry.time, (5, 5, 5)))
    monkeypatch.setattr(spectral, "BATCH_BYTES", 700)  # several batches, uneven ones
    if not A.clinear and A.domain.kind != "real":
        with pytest.raises(xl.DTypeError, match="no matrix"):
            A.todense()
        return
    matrix = A.todense()
    expected = flat_matrix(A)
    agree(matrix.values.reshape(expected.shape), expected, 1e-13)
    assert len(set(matrix.dims)) == len(matrix.dims)
    made = A.bind(A.domain.zeros()).range
    assert matrix.dims[: len(made.dims)] == made.dims


def test_a_matrix_is_an_operator_again(d):
    A = xl.Restriction(d.time, [0, 2]) @ xl.FirstDerivative(d.time)
    matrix = A.todense()
    assert matrix.dims == ("time", "time_in")
    assert matrix.attrs == {"units": "s-1"}
    assert matrix.name == A.name
    assert matrix.coords["age_in"].dims == ("time_in",)
    np.testing.assert_array_equal(matrix.coords["time_in"], d.time)
    np.testing.assert_array_equal(matrix.coords["time"], d.time[[0, 2]])
    back = xl.MatrixMult(matrix.rename(time="kept", age="kept_age"), "time_in")
    renamed = d.rename(time="time_in", age="age_in")
    y = back @ renamed.drop_vars(["arrival"])
    agree(y.transpose("kept", ...), (A @ d).transpose("time", ...))
    assert y.attrs["units"] == "Pa s-1"


def test_names_that_are_taken_twice():
    x = xr.DataArray(np.ones((2, 3)), dims=("t", "t_in"))
    matrix = xl.Identity(x).todense()
    assert matrix.dims == ("t", "t_in", "t_in_in", "t_in_in_in")
    np.testing.assert_array_equal(matrix.values.reshape(6, 6), np.eye(6))


def test_like_gives_dims_that_pass_through():
    x = xr.DataArray(np.ones((2, 3), np.float32), dims=("shot", "time"))
    matrix = xl.CausalIntegration(x.time).todense(x)
    assert matrix.dims == ("shot", "time", "shot_in", "time_in")
    assert matrix.dtype == np.float32
    one = pylops.CausalIntegration(3).todense()
    agree(matrix.values.reshape(6, 6), np.kron(np.eye(2), one), 1e-6)


def test_blocks(d):
    x = d.isel(depth=0, offset=0, drop=True)
    S = xl.VStack({"a": xl.FirstDerivative(x.time), "b": xl.Restriction(x.time, [1, 2])})
    parts = S.todense()
    assert list(parts) == ["a", "b"]
    assert parts["a"].attrs == {"units": "s-1"}
    assert parts["b"].attrs == {}
    for (name, _), operator in S.entries.items():
        np.testing.assert_array_equal(parts[name], operator.todense())
        np.testing.assert_array_equal(S.H.todense()[name], operator.todense().T)


def test_lazy_weights_are_computed(d):
    weights = np.cos(d.isel(depth=0, offset=0, drop=True)).chunk(time=2)
    D = xl.Diagonal(weights)
    for result, expected in (
        (D.todense(), np.diag(weights.values)),
        (D.diagonal(), weights.values),
        ((D @ D).diagonal(), weights.values**2),
    ):
        assert result.chunks is None
        agree(result, expected)
    agree(D.norm(), np.abs(weights.values).max())
    agree(D.eigs(2).values, sorted(weights.values, key=np.abs)[:-3:-1])


# --- diagonals --------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [2**25, 300])
def test_diagonal(d, batch, monkeypatch):
    monkeypatch.setattr(spectral, "BATCH_BYTES", batch)
    weights = np.cos(d.isel(depth=0, drop=True)).drop_attrs(deep=False)
    phases = weights.copy(data=np.exp(1j * weights.values))
    time = d.drop_attrs().time
    D1 = xl.FirstDerivative(time)
    operators = [
        xl.Identity(d.time),
        xl.Zero(d.time),
        xl.Diagonal(weights),
        xl.Diagonal(phases).H,
        xl.Mask(weights > 0.5),
        (2 - 1j) * xl.Diagonal(phases),
        xl.Identity(d.time) + xl.Diagonal(weights) - 0.5 * D1.gram,
        D1,
        D1.evaluate(),
        xl.Flip(d.time),
        xl.Roll(d.time, 1),
        xl.FFT(time, real=True).H @ xl.FFT(time, real=True),
    ]
    for A in operators:
        found = A.diagonal()
        assert found.dims == A.domain.dims
        agree(found.values.ravel(), flat_matrix(A).diagonal(), 1e-13)
        for name, coord in A.domain.labels.coords.items():
            xr.testing.assert_identical(found.coords[name].variable, coord.variable)


def test_diagonal_of_dims_that_pass_through(d):
    D = xl.SecondDerivative(d.time)
    own = D.diagonal()
    full = D.diagonal(d)
    assert full.dims == d.dims
    assert own.attrs == full.attrs == {"units": "s-2"}
    assert full.coords["receiver"].variable.identical(d.coords["receiver"].variable)
    np.testing.assert_array_equal(full, own.broadcast_like(d).transpose(*d.dims))
    full[...] = 0  # no entry is a view of another
    agree(D.bind(d).trace(), own.values.sum() * d.sizes["offset"] * d.sizes["depth"])
    assert xl.Identity(d.time).bind(d).trace() == d.size
    assert isinstance((1j * xl.Identity(d.time)).bind(d).trace(), complex)


@pytest.mark.parametrize("ask", ["diagonal", "eigs"])
def test_only_of_what_maps_its_domain_to_itself(d, ask):
    for A in (
        xl.Restriction(d.time, [0, 2]),
        xl.FFT(d.time),
        xl.VStack([xl.Identity(d.time)]),
    ):
        with pytest.raises(xl.LabelError, match="not to itself"):
            getattr(A, ask)()
    with pytest.raises(xl.LabelError, match="not to itself"):
        xl.FFT(d.time).bind(d).trace()


def test_what_is_linear_over_real_numbers_only(d):
    C = xl.from_pylops(pylops.Conj(7), d.time)
    for ask in ("todense", "diagonal", "norm", "cond", "eigs"):
        with pytest.raises(xl.DTypeError, match="linear over real numbers only"):
            getattr(C, ask)()
    F = xl.FFT(d.time, real=True)
    matrix = F.todense()
    agree(matrix.values @ d.values[:, 0, 0], (F @ d).values[:, 0, 0])


# --- singular values --------------------------------------------------------------------


def forward(n):
    """Forward differences, whose singular values have a closed form."""
    return xl.FirstDerivative(xr.DataArray(np.zeros(n), dims="t").t, kind="forward")


def singular_values(n):
    return 2 * np.sin(np.pi * np.arange(n) / (2 * n))


@pytest.mark.parametrize("n", [2, 3, 40])
def test_norm_by_lapack(n):
    agree(forward(n).norm(), singular_values(n)[-1])
    agree(forward(n).H.norm(), singular_values(n)[-1])


@pytest.mark.usefixtures("few")
def test_norm_by_arpack():
    agree(forward(40).norm(), singular_values(40)[-1])
    square = xl.Identity(forward(40).domain) + forward(40).gram
    agree(square.norm(), 1 + singular_values(40)[-1] ** 2)
    agree(square.cond(), 1 + singular_values(40)[-1] ** 2, 1e-10)
    assert forward(40).cond() == np.inf
    assert xl.Zero(forward(40).domain).norm() == 0


def test_norm_of_many_unknowns():
    t = line(5000)
    weights = xr.DataArray(np.tile([1.0, -3.0, 2.0, 0.5], 1250), dims="t")
    agree(xl.Diagonal(weights).norm(), 3.0)
    agree(xl.Diagonal(weights).cond(), 6.0)
    agree(xl.Diagonal(weights).eigs(1).values, [-3.0])
    agree(xl.FFT(t, real=True).norm(), 1.0)
    agree(xl.Sum(t).norm(), np.sqrt(5000))
    agree(xl.Sum(t).cond(), 1.0)


@pytest.mark.parametrize("size", ["few", "many"])
def test_of_rectangular_and_complex_ones(d, size, monkeypatch):
    if size == "many":
        monkeypatch.setattr(spectral, "FEW_ENTRIES", 0)
    rng = np.random.default_rng(4)
    for shape in ((5, 8), (9, 4)):
        values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        A = xl.MatrixMult(xr.DataArray(values, dims=("row", "column")), "column")
        agree(A.norm(), np.linalg.norm(values, 2))
        agree(A.cond(), np.linalg.cond(values), 1e-10)
    F = xl.FFT(d.time, real=True, scaling="plain")
    real = np.fft.rfft(np.eye(7), norm="ortho", axis=0)
    expected = np.linalg.svd(np.concatenate([real.real, real.imag]), compute_uv=False)
    agree(F.norm(), expected[0])
    agree(F.cond(), expected[0] / expected[-1], 1e-10)


# --- eigenvalues ------------------------------------------------------------------------


@pytest.fixture(params=["lapack", "arpack"])
def by(request, monkeypatch):
    if request.param == "arpack":
        monkeypatch.setattr(spectral, "FEW_UNKNOWNS", 0)
    return request.param


@pytest.mark.usefixtures("by")
@pytest.mark.parametrize("which", ["LM", "SM", "LR", "SR"])
def test_eigenvalues_of_symmetric_operators(which):
    A = forward(30).gram
    exact = singular_values(30) ** 2
    values, modes = A.eigs(4, which, vectors=True, dim="order")
    agree(values, exact[:4] if which[0] == "S" else exact[::-1][:4], 1e-10)
    assert values.dtype == np.float64
    assert modes.dims == ("order", "t")
    gram = modes.values @ modes.values.T
    agree(gram, np.eye(4), 1e-10)
    agree((A @ modes).transpose("order", "t"), values.values[:, None] * modes.values, 1e-8)


@pytest.mark.usefixtures("by")
@pytest.mark.parametrize("which", ["LM", "LR", "SR", "LI"])
def test_eigenvalues_of_others(which):
    n = 12  # a shift in a circle has the roots of unity
    x = xr.DataArray(np.zeros(n), dims="t")
    A = xl.Roll(x.t, 1) + 0.25 * xl.Identity(x)
    exact = np.exp(2j * np.pi * np.arange(n) / n) + 0.25
    key = {
        "LM": np.abs,
        "LR": np.real,
        "SR": lambda v: -v.real,
        "LI": lambda v: abs(v.imag),
    }
    values, modes = A.eigs(2, which, vectors=True)
    assert values.dtype == np.complex128
    largest = np.sort(key[which](exact))[::-1]
    agree(key[which](values.values), largest[:2], 1e-10)
    assert np.abs(values.values[:, None] - exact).min(axis=1).max() < 1e-10
    agree((A @ modes).transpose("mode", "t"), values.values[:, None] * modes.values, 1e-8)


def test_eigenvalues_carry_labels_and_units(d):
    A = xl.FirstDerivative(d.time).gram
    values, modes = A.eigs(3, vectors=True)
    assert values.attrs == {"units": "s-2"}
    assert A.eigs(100).sizes == {"mode": 7}
    for name, coord in A.domain.labels.coords.items():
        xr.testing.assert_identical(modes.coords[name].variable, coord.variable)
    scaled = pint.Quantity(2.0, "s") * xl.FirstDerivative(d.time)
    assert scaled.eigs(1).attrs == {}


def test_results_repeat():
    A = forward(1500)
    first, again = (A.norm(tol=1e-3) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"k": 0}, "k must be a whole number"),
        ({"k": 1.5}, "k must be a whole number"),
        ({"which": "BE"}, "which must be one of"),
        ({"which": "LI"}, "which must be one of 'LM', 'SM', 'LR', 'SR'"),
        ({"dim": "t"}, "give another name"),
    ],
)
def test_errors_of_eigs(kwargs, words):
    with pytest.raises(xl.ArgumentError, match=words):
        forward(5).gram.eigs(**kwargs)


@pytest.mark.usefixtures("few")
def test_what_arpack_does_not_find():
    with pytest.raises(xl.ArgumentError, match="did not converge"):
        forward(300).gram.eigs(2, "SM", maxiter=1)
    with pytest.raises(xl.ArgumentError, match="did not converge"):
        forward(1100).norm(maxiter=1)
    with pytest.raises(xl.ArgumentError, match="at most 8 of 10"):
        forward(10).gram.eigs(9)


def test_sides_in_another_order():
    """A diagonal pairs labels, wherever the two sides have them."""
    x = xr.DataArray(np.arange(1.0, 7.0).reshape(2, 3), dims=("a", "b"))
    W, T = xl.Diagonal(x), xl.Transpose(x, "b", "a")
    for A in (T @ W, W @ T, (T @ W).bind(x), (T @ W).evaluate()):
        np.testing.assert_array_equal(A.diagonal().transpose("a", "b"), x)
        np.testing.assert_allclose(A.eigs(6, "SM").values, x.values.ravel(), rtol=1e-14)
        assert A.bind(x).trace() == 21.0
    I = xl.Identity(x)
    B = xl.Block({"v": {"u": W, "v": 2 * W}, "u": {"u": 3 * I}})
    assert list(B.domain) != list(B.range)
    np.testing.assert_array_equal(B.diagonal()["u"], np.full((2, 3), 3.0))
    np.testing.assert_array_equal(B.diagonal()["v"], 2 * x)
    assert B.bind({"u": x, "v": x}).trace() == 18 + 42


def test_no_diagonal_where_there_is_no_matrix():
    """The adjoint of real values made imaginary takes the real part of complex ones."""
    A = 1j * xl.Identity(xl.Space.of(xr.DataArray(np.zeros(3), dims="t"), kind="real"))
    np.testing.assert_array_equal(A.diagonal(), [1j, 1j, 1j])
    with pytest.raises(xl.DTypeError, match="has no matrix"):
        A.H.diagonal()


def test_operators_without_dims():
    """A multiple of the identity acts on numbers of any labels."""
    A = 2 * xl.Identity()
    assert A.todense().item() == A.diagonal().item() == A.norm() == 2.0
