"""Expressions drawn at random equal the same expressions of dense matrices.

Every expression is drawn together with its matrix, which plain NumPy puts together. The
matrices act on real and imaginary parts, [Re x; Im x] block by block, so that operators
that are only linear over real numbers have one too; an adjoint is then a transpose.
"""

import dataclasses
import functools
import pickle
from collections.abc import Callable
from typing import Any

import dask
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pint
import pylops
import pytest
import scipy.linalg
import scipy.sparse
import xarray as xr

import xlops as xl
from xlops.algebra import Product
from xlops.space import Blocks

DEPTH = 4
TOL = 1e-12  # of the product of norms

# --- sides: one array, or blocks by name ----------------------------------------------

X = xr.DataArray(0.5 * np.arange(4), dims="x", attrs={"units": "m"})
Y = xr.DataArray(3.0 - 0.25 * np.arange(3), dims="y", attrs={"units": "km"})
_K = xr.DataArray(np.fft.fftfreq(4, 0.5), dims="k", attrs={"units": "m-1"})
_L = xr.DataArray(np.fft.rfftfreq(5, 0.5), dims="l", attrs={"units": "m-1"})

# What an axis may be like: its labels, by a letter; "-" where there is none.
LABELS = {
    "x": X,
    "chosen": X[[2, 0]],
    "padded": xr.DataArray(0.5 * np.arange(-1, 5), dims="x", attrs=X.attrs),
    "k": _K,
    "l": _L,
    "m": xr.DataArray(["up", "down"], dims="m"),
    "y": Y,
    "repeated": Y[[1, 2, 1]],
    "c": xr.DataArray([10, 20], dims="c"),
}
LABELS = {
    key: xr.DataArray(v.values, dims=v.dims, coords={v.dims[0]: v.variable})[v.dims[0]]
    for key, v in LABELS.items()
}

Array = tuple[str, ...]  # the axes of one array, by key, in the order of its matrix
Side = Any  # an Array, or a dict of them
WHOLE: Array = ("x", "y")
ARRAYS: list[Array] = [
    WHOLE,
    ("x",),
    ("y",),
    ("chosen", "y"),
    ("padded", "y"),
    ("k", "y"),
    ("l", "y"),
    ("m", "y"),
    ("x", "repeated"),
    ("x", "y", "c"),
    (),
]


def blocks(side: Side) -> dict[str, Any]:
    """What a side is, by block; one array has no name."""
    return dict(side.items()) if isinstance(side, (dict, Blocks)) else {"": side}


def like(side: Side, made: dict[str, Any]) -> Any:
    """The opposite of `blocks`."""
    return made if isinstance(side, (dict, Blocks)) else made[""]


def count(array: Array) -> int:
    return int(np.prod([LABELS[key].size for key in array], dtype=int))


def dims(array: Array) -> list[str]:
    return [str(LABELS[key].dims[0]) for key in array]


def space(array: Array) -> xl.Space:
    return xl.Space.of(*(LABELS[key] for key in array))


# --- matrices on real and imaginary parts ---------------------------------------------


def embedded(M: np.ndarray) -> np.ndarray:
    """A complex matrix as a real one."""
    return np.block([[M.real, -M.imag], [M.imag, M.real]])


def per_block(side: Side, make: Callable[[int], np.ndarray]) -> np.ndarray:
    """A matrix made for each block of a side, from its number of samples."""
    return scipy.linalg.block_diag(*(make(count(a)) for a in blocks(side).values()))


def conjugation(side: Side) -> np.ndarray:
    return per_block(side, lambda n: np.diag([1.0] * n + [-1.0] * n))


def times(number: complex, side: Side) -> np.ndarray:
    return per_block(side, lambda n: embedded(number * np.eye(n)))


def real_parts(side: Side, spaces: Any) -> np.ndarray:
    """The real part of those blocks that are for real values."""
    kept = [
        [1.0] * count(a) + [float(spaces[name].kind != "real")] * count(a)
        for name, a in blocks(side).items()
    ]
    return np.diag(np.concatenate(kept))


def flat(side: Side, values: Any) -> np.ndarray:
    """Labeled data as the vectors that matrices act on, one for each sample of ``b``."""
    parts = []
    for name, array in blocks(side).items():
        value = blocks(values)[name].transpose(*dims(array), "b").values
        value = value.reshape(count(array), -1)
        parts += [value.real, value.imag]
    return np.concatenate(parts)


# --- expressions ----------------------------------------------------------------------

Compose = Callable[[xl.LinearOperator, xl.LinearOperator], xl.LinearOperator]


@dataclasses.dataclass(frozen=True)
class Expression:
    """An operator and its matrix.

    Parameters
    ----------
    domain, range : Side
        What it is drawn to act on and to make.
    build : callable
        Builds the operator; takes what composes two of them.
    matrix : ndarray
        The matrix.
    size : float
        Product and sum of the norms of all that the matrix is made of: what rounding is
        relative to.
    """

    domain: Side
    range: Side
    build: Callable[[Compose], xl.LinearOperator]
    matrix: np.ndarray
    size: float

    @functools.cached_property
    def A(self) -> xl.LinearOperator:
        return self.build(xl.LinearOperator.__matmul__)

    def __repr__(self) -> str:
        return f"{self.A}: {self.domain} to {self.range}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def leaf(
    domain: Array, range_: Array, build: Callable[[], xl.LinearOperator], M: np.ndarray
) -> Expression:
    """An operator that does not depend on how products are composed."""
    M = np.asarray(M)
    if M.shape == (count(range_), count(domain)):
        M = embedded(M)
    return Expression(domain, range_, lambda _: build(), M, float(np.linalg.norm(M, 2)))


def bare(A: xl.LinearOperator) -> xl.LinearOperator:
    """The operator times the unit that leaves units alone."""
    return pint.Quantity(1.0, 1 / A.units) * A


def dense(operator: Any) -> np.ndarray:
    return np.asarray(operator.todense())


def along(array: Array, at: int, M: np.ndarray) -> np.ndarray:
    """A matrix along one axis as a matrix on a whole array."""
    before, after = count(array[:at]), count(array[at + 1 :])
    return np.kron(np.kron(np.eye(before), M), np.eye(after))


def weights(key: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, LABELS[key].size)


def over(key: str, values: np.ndarray, lazy: bool) -> xr.DataArray:
    coord = LABELS[key]
    made = xr.DataArray(values, dims=coord.dims, coords={coord.dims[0]: coord.variable})
    return made.chunk(1) if lazy else made


@st.composite
def on_axis(draw: Any, array: Array, at: int) -> Expression:
    """An operator along one axis, from an array to itself."""
    key, seed = array[at], draw(st.integers(0, 3))
    coord, lazy = LABELS[key], draw(st.sampled_from([False, False, True]))
    n, w = coord.size, weights(key, seed)
    phases = np.exp(1j * (w + np.arange(n)))
    step = float(coord[1] - coord[0]) if coord.dtype.kind == "f" else 1.0
    options: list[tuple[Callable[[], xl.LinearOperator], Any]] = [
        (lambda: xl.Identity(coord), lambda: np.eye(n)),
        (lambda: xl.Diagonal(over(key, w, lazy)), lambda: np.diag(w)),
        (lambda: xl.Diagonal(over(key, -w, lazy)), lambda: -np.diag(w)),
        (lambda: xl.Diagonal(over(key, phases, lazy)), lambda: np.diag(phases)),
        (lambda: xl.Mask(over(key, w > 1, lazy)), lambda: np.diag(w > 1.0).astype(float)),
        (lambda: xl.Flip(coord), lambda: np.eye(n)[::-1]),
        (lambda: xl.Roll(coord, 1 + seed), lambda: np.roll(np.eye(n), 1 + seed, axis=0)),
        (lambda: xl.Zero(coord), lambda: np.zeros((n, n))),
    ]
    if key in ("x", "y", "padded"):
        kind = ("centered", "forward", "backward")[seed % 3]
        first, second = pylops.FirstDerivative, pylops.SecondDerivative
        options += [
            (
                lambda: bare(xl.FirstDerivative(coord, kind, edge=True)),
                lambda: dense(first(n, sampling=step, kind=kind, edge=True)),
            ),
            (
                lambda: bare(xl.SecondDerivative(coord, edge=seed > 1)),
                lambda: dense(second(n, sampling=step, edge=seed > 1)),
            ),
            (
                lambda: xl.Smoothing1D(coord, 3),
                lambda: dense(pylops.Smoothing1D(3, n)),
            ),
            (
                lambda: bare(xl.CausalIntegration(coord, "half")),
                lambda: dense(pylops.CausalIntegration(n, sampling=step, kind="half")),
            ),
        ]
    build, M = draw(st.sampled_from(options))
    return leaf(array, array, build, along(array, at, M()))


def real_transform(n: int, nfft: int) -> np.ndarray:
    """The isometric transform of real values, as a matrix on real and imaginary parts."""
    F = np.fft.fft(np.eye(n), nfft, axis=0, norm="ortho")[: nfft // 2 + 1]
    F[1 : (nfft + 1) // 2] *= np.sqrt(2)
    return np.block([[F.real, 0 * F.real], [F.imag, 0 * F.real]])


def between(domain: Array, range_: Array) -> Expression | None:
    """The operator that is known for a pair of arrays, or its adjoint; or None."""
    pairs = {
        ("x", "chosen"): (lambda: xl.Restriction(LABELS["x"], [2, 0]), np.eye(4)[[2, 0]]),
        ("y", "repeated"): (
            lambda: xl.Restriction(LABELS["y"], [1, 2, 1]),
            np.eye(3)[[1, 2, 1]],
        ),
        ("x", "padded"): (
            lambda: xl.Pad(LABELS["x"], pad=(1, 1)),
            np.pad(np.eye(4), ((1, 1), (0, 0))),
        ),
        ("x", "k"): (
            lambda: xl.FFT(LABELS["x"], dim="k"),
            np.fft.fft(np.eye(4), axis=0, norm="ortho"),
        ),
        ("x", "m"): (
            lambda: xl.MatrixMult(
                xr.DataArray(
                    np.arange(8.0).reshape(2, 4) - 3,
                    dims=("m", "x"),
                    coords={"m": LABELS["m"].variable, "x": LABELS["x"].variable},
                ),
                "x",
            ),
            np.arange(8.0).reshape(2, 4) - 3,
        ),
    }
    if len(domain) == len(range_):
        differ = [i for i, (a, b) in enumerate(zip(domain, range_, strict=True)) if a != b]
        if len(differ) != 1:
            return None
        (at,) = differ
        known = pairs.get((domain[at], range_[at]))
        if known is not None:
            return leaf(domain, range_, known[0], along(domain, at, known[1]))
        if (domain[at], range_[at]) == ("x", "l"):
            n, m = count(domain[1:]), len(LABELS["l"])
            F = np.kron(real_transform(4, 5), np.eye(n))
            assert F.shape == (2 * m * n, 8 * n)
            return leaf(domain, range_, lambda: xl.FFT(LABELS["x"], 5, True, dim="l"), F)
    for at, key in enumerate(domain):
        if domain[:at] + domain[at + 1 :] == range_:
            M = along(domain, at, np.ones((1, LABELS[key].size)))
            return leaf(domain, range_, functools.partial(xl.Sum, LABELS[key]), M)
    return None


def adjoint(E: Expression) -> Expression:
    return Expression(E.range, E.domain, lambda by: E.build(by).H, E.matrix.T, E.size)


@st.composite
def leaves(draw: Any, domain: Array, range_: Array) -> Expression:
    """An operator of the catalogue from one array to another."""
    known = between(domain, range_)
    if known is None:
        back = between(range_, domain)
        known = back and adjoint(back)
    choice = draw(st.integers(0, 9))
    if domain == range_ and domain and choice > 1:
        at = draw(st.integers(0, len(domain) - 1))
        return draw(on_axis(domain, at))
    if known is not None and choice > 1:
        return known
    if choice == 0:
        M = np.zeros((count(range_), count(domain)))
        return leaf(domain, range_, lambda: xl.Zero(space(domain), space(range_)), M)
    if domain == range_ and domain and choice == 1:
        n = count(domain)
        w = np.random.default_rng(n).standard_normal([LABELS[key].size for key in domain])
        D = xr.DataArray(w, coords=space(domain).coords, dims=dims(domain))
        return leaf(domain, domain, lambda: xl.Diagonal(D), np.diag(w.ravel()))
    seed = draw(st.integers(0, 1))
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((count(range_), count(domain))) / 2
    if seed:
        M = M * (1 - 1j)
    sides = {"domain": space(domain), "range": space(range_)}
    return leaf(
        domain, range_, lambda: xl.MatrixMult(scipy.sparse.csr_array(M), **sides), M
    )


def joined(parts: dict[tuple[str, str], Expression], domain: Side, range_: Side) -> Any:
    """The matrix of a matrix of operators."""
    rows = [
        [
            parts[r, c].matrix
            if (r, c) in parts
            else np.zeros((2 * count(made), 2 * count(given)))
            for c, given in blocks(domain).items()
        ]
        for r, made in blocks(range_).items()
    ]
    return np.block(rows)


def only_real(E: Expression) -> Expression:
    """With the real part of blocks that one of several operators takes for real."""
    P = real_parts(E.domain, blocks(E.A.domain))
    return dataclasses.replace(E, matrix=E.matrix @ P)


@st.composite
def sides(draw: Any) -> Side:
    """One array or blocks."""
    array = st.one_of(st.just(WHOLE), st.sampled_from(ARRAYS))
    if draw(st.integers(0, 3)):
        return draw(array)
    return {name: draw(array) for name in ("p", "q")[: draw(st.sampled_from([2, 2, 1]))]}


def uneven(depth: int, parts: int) -> st.SearchStrategy[list[int]]:
    """Depths of the parts of an expression: only one of them goes all the way down."""
    return st.permutations([depth, *[min(depth, 1)] * (parts - 1)])


@st.composite
def stacks(draw: Any, domain: Side, range_: Side, depth: int) -> Expression:
    """A stack between sides of which one has blocks."""
    given, made = blocks(domain), blocks(range_)
    pairs = [(r, c) for r in made for c in given]
    kept = pairs
    if isinstance(domain, dict) and isinstance(range_, dict):
        holes = draw(st.sets(st.sampled_from(pairs), max_size=2))
        kept = [pair for pair in pairs if pair not in holes]
        if {r for r, _ in kept} != set(made) or {c for _, c in kept} != set(given):
            kept = pairs
    depths = draw(uneven(depth - 1, len(kept)))
    parts = {
        (r, c): draw(expressions(given[c], made[r], inside))
        for (r, c), inside in zip(kept, depths, strict=True)
    }

    def build(by: Compose) -> xl.LinearOperator:
        built = {pair: part.build(by) for pair, part in parts.items()}
        if not isinstance(domain, dict):
            return xl.VStack({r: built[r, ""] for r in made})
        if not isinstance(range_, dict):
            return xl.HStack({c: built["", c] for c in given})
        if all(r == c for r, c in built):
            return xl.BlockDiag({r: built[r, r] for r in made})
        rows = {r: {c: built[r, c] for c in given if (r, c) in built} for r in made}
        return xl.Block(rows)

    size = sum(part.size for part in parts.values())
    M = joined(parts, domain, range_)
    return only_real(Expression(domain, range_, build, M, size))


@st.composite
def side_by_side(draw: Any, domain: Array, range_: Array, depth: int) -> Expression:
    """A Concat along the dim c."""
    depths = draw(uneven(depth - 1, 2))
    parts = [draw(expressions(domain, range_[:-1], inside)) for inside in depths]
    n = count(range_[:-1])
    M = np.zeros((2, n, 2, 2 * count(domain)))  # re and im, samples, c
    for i, part in enumerate(parts):
        M[:, :, i] = part.matrix.reshape(2, n, -1)

    def build(by: Compose) -> xl.LinearOperator:
        made = {label: part.build(by) for label, part in zip((10, 20), parts, strict=True)}
        return xl.Concat(made, "c")

    size = sum(part.size for part in parts)
    M = M.reshape(4 * n, -1)
    return only_real(Expression(domain, range_, build, M, size))


NUMBERS = st.sampled_from([2.0, -1.0, 0.5, -0.25, 0.0, 1j, 0.6 - 0.8j, -1 + 0j])


@st.composite
def expressions(draw: Any, domain: Side, range_: Side, depth: int) -> Expression:
    """An expression between two sides."""
    has_blocks = isinstance(domain, dict) or isinstance(range_, dict)
    if depth <= 0 or (not has_blocks and draw(st.integers(0, 7)) == 0):
        if has_blocks:
            return draw(stacks(domain, range_, 0))
        return draw(leaves(domain, range_))
    nodes = ["product", "product", "sum", "difference", "scaled", "H", "T", "conj"]
    if has_blocks:
        nodes += ["stack", "stack", "stack"]
    elif range_[-1:] == ("c",) and "c" not in domain:
        nodes += ["concat", "concat"]
    if domain == range_:
        nodes += ["power", "gram", "gram"]
    node = draw(st.sampled_from(nodes))
    part = functools.partial(expressions, depth=depth - 1)
    if node == "stack":
        return draw(stacks(domain, range_, depth))
    if node == "concat":
        return draw(side_by_side(domain, range_, depth))
    if node in ("sum", "difference"):
        depths = draw(uneven(depth - 1, 2))
        A, B = (draw(expressions(domain, range_, inside)) for inside in depths)
        sign = 1 if node == "sum" else -1
        M, size = A.matrix + sign * B.matrix, A.size + B.size

        def added(by: Compose) -> xl.LinearOperator:
            one, other = A.build(by), B.build(by)
            return one + other if node == "sum" else one - other

        return only_real(Expression(domain, range_, added, M, size))
    if node == "scaled":
        A, number = draw(part(domain, range_)), draw(NUMBERS)
        M, size = times(number, range_) @ A.matrix, abs(number) * A.size
        return Expression(domain, range_, lambda by: number * A.build(by), M, size)
    if node == "conj":
        A = draw(part(domain, range_))
        M = conjugation(range_) @ A.matrix @ conjugation(domain)
        return Expression(domain, range_, lambda by: A.build(by).conj(), M, A.size)
    if node == "H":
        return adjoint(draw(part(range_, domain)))
    if node == "T":
        A = draw(part(range_, domain))
        M = conjugation(range_) @ A.matrix.T @ conjugation(domain)
        return Expression(domain, range_, lambda by: A.build(by).T, M, A.size)
    if node == "gram":
        A = draw(part(domain, draw(sides())))

        def gram(by: Compose) -> xl.LinearOperator:
            one = A.build(by)
            return by(one.H, one)

        return Expression(domain, domain, gram, A.matrix.T @ A.matrix, A.size**2)
    if node == "power":
        A = draw(part(domain, domain))
        if not meets(A, A):
            return A

        def square(by: Compose) -> xl.LinearOperator:
            one = A.build(by)
            return by(one, one)

        return Expression(domain, domain, square, A.matrix @ A.matrix, A.size**2)
    middle = draw(st.one_of(st.sampled_from([domain, range_]), sides()))
    depths = draw(uneven(depth - 1, 2))
    inner = draw(expressions(domain, middle, depths[0]))
    outer = draw(expressions(middle, range_, depths[1]))
    if not meets(outer, inner):
        return inner if middle == range_ else draw(part(domain, range_))
    return Expression(
        domain,
        range_,
        lambda by: by(outer.build(by), inner.build(by)),
        outer.matrix @ inner.matrix,
        outer.size * inner.size,
    )


def meets(outer: Expression, inner: Expression) -> bool:
    """Whether what one makes is what the other takes: not complex values for real ones."""
    made, needed = blocks(inner.A.range), blocks(outer.A.domain)
    return all(
        not (made[name].kind == "complex" and needed[name].kind == "real") for name in made
    )


# --- the tests ------------------------------------------------------------------------


@st.composite
def cases(draw: Any) -> tuple[Expression, bool, bool, int]:
    E = draw(expressions(draw(sides()), draw(sides()), DEPTH))
    return E, draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2))


def data(side: Side, spaces: Any, seed: int, real: bool, turned: bool) -> Any:
    """Random data with all labels of a side, and a dim of their own."""
    rng = np.random.default_rng(seed)

    def one(name: str, array: Array) -> xr.DataArray:
        shape = [LABELS[key].size for key in array] + [2]
        values = rng.standard_normal(shape)
        if not real and blocks(spaces)[name].kind != "real":
            values = values + 1j * rng.standard_normal(shape)
        coords = {**space(array).coords, "b": ("b", [5, 7])}
        made = xr.DataArray(values, dims=[*dims(array), "b"], coords=coords)
        return made.transpose(*reversed(made.dims)) if turned else made

    return like(side, {name: one(name, array) for name, array in blocks(side).items()})


def check_labels(side: Side, made: Any) -> None:
    assert set(blocks(made)) == set(blocks(side))
    for name, array in blocks(side).items():
        value = blocks(made)[name]
        assert set(value.dims) == {*dims(array), "b"}
        for key in array:
            (dim,) = LABELS[key].dims
            own = value[dim]
            assert own.sizes == LABELS[key].sizes
            assert own.attrs.get("units") == LABELS[key].attrs.get("units")
            if LABELS[key].dtype.kind == "f":
                np.testing.assert_allclose(own.values, LABELS[key].values, atol=1e-14)
            else:
                np.testing.assert_array_equal(own.values, LABELS[key].values)
        np.testing.assert_array_equal(value.b.values, [5, 7])


def check_result(A: Any, x: Any, domain: Side, range_: Side, M: Any, size: float) -> None:
    """``A @ x`` on NumPy and on Dask, against a matrix."""
    wanted = M @ flat(domain, x)
    for given in (x, like(x, {k: v.chunk(2) for k, v in blocks(x).items()})):
        made = A @ given
        (made,) = dask.compute(made, scheduler="synchronous")
        check_labels(range_, made)
        error = np.linalg.norm(flat(range_, made) - wanted)
        assert error <= TOL * size * np.linalg.norm(flat(domain, x)), (error, size)


def check_claims(A: xl.LinearOperator, E: Expression) -> None:
    """What an operator says of itself is true of its matrix."""
    M, tol = E.matrix, TOL * max(E.size, E.size**2)
    P = real_parts(E.domain, blocks(A.domain))
    R = real_parts(E.range, blocks(A.range))
    assert np.linalg.norm(M - M @ P) <= tol  # takes real values where it says so
    assert np.linalg.norm(M - R @ M) <= tol  # makes real values where it says so
    if A.clinear:
        J, K = times(1j, E.domain), times(1j, E.range)
        assert np.linalg.norm(M @ J - K @ M) <= tol
    if "symmetric" in A.traits:
        assert np.linalg.norm(M - M.T) <= tol
    if "positive" in A.traits:
        assert np.linalg.eigvalsh((M + M.T) / 2).min(initial=0) >= -tol
    if "unitary" in A.traits:
        assert np.linalg.norm(M.T @ M - P) <= tol
        assert np.linalg.norm(M @ M.T - R) <= tol


def check(case: tuple[Expression, bool, bool, int]) -> None:
    E, real, turned, seed = case
    A, plain = E.A, E.build(Product)
    with np.errstate(all="raise", under="ignore"):
        for operator in (A, plain):
            x = data(E.domain, operator.domain, seed, real, turned)
            y = data(E.range, operator.range, seed + 9, real, turned)
            check_result(operator, x, E.domain, E.range, E.matrix, E.size)
            check_result(operator.H, y, E.range, E.domain, E.matrix.T, E.size)
            check_claims(operator, E)
            if np.linalg.norm(E.matrix) > 0.01 * E.size:  # not all cancels
                assert xl.dottest(operator)
        for ours, theirs in ((A.domain, plain.domain), (A.range, plain.range)):
            assert set(blocks(ours)) == set(blocks(theirs))
            for name, own in blocks(ours).items():
                other = blocks(theirs)[name]
                assert own.matches(other)
                assert other.matches(own)
                assert own.kind == other.kind
        assert A.gain == plain.gain
        assert A.traits >= plain.traits
        assert A.clinear == plain.clinear
    again, copied = dataclasses.replace(E).A, pickle.loads(pickle.dumps(A))
    for other in (again, copied):
        assert other is not A
        assert other == A
        assert hash(other) == hash(A)
        assert other.H == A.H
    assert A.H.H is A


@pytest.fixture(autouse=True, scope="module")
def units_loaded():
    """Modules that load when units are first used draw random numbers of their own."""
    assert str(xl.FirstDerivative(LABELS["x"]).units) == "1 / meter"


SETTINGS: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": [hypothesis.Phase.generate, hypothesis.Phase.shrink],
    "suppress_health_check": list(hypothesis.HealthCheck),
}


@hypothesis.settings(max_examples=20, **SETTINGS)
@hypothesis.given(case=cases())
def test_as_dense_matrices(case):
    check(case)


@pytest.mark.slow
@hypothesis.settings(max_examples=300, **SETTINGS)
@hypothesis.given(case=cases())
def test_as_dense_matrices_many(case):
    check(case)
