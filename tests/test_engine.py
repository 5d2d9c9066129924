"""Running plans: the same numbers however work is cut and joined, in few, small tasks."""

import contextlib
import functools
import math
import pathlib
import pickle
import subprocess
import sys
import tracemalloc
from typing import Any, NamedTuple
from unittest import mock

import cloudpickle
import dask
import dask.array as da
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from dask.task_spec import DataNode

import xlops as xl
from tests.steps import LARGEST, RULES, Case, Reference, cut, plans, product, step_of
from xlops import engine
from xlops.engine import graph, run, threads, tiles
from xlops.windows import lines
from xlops.windows.pieces import Array
from xlops.windows.plan import Apply, Source
from xlops.windows.rules import Pointwise, Reach, Stencil

given = hypothesis.given


def settings(examples):
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def all_is_loaded():
    """What is loaded when first used draws random numbers; strategies must not."""
    x = xr.DataArray(np.ones(4), dims="time", attrs={"units": "m"})
    F = xl.FFT(x.time)
    (F.H @ F @ x).chunk().compute(scheduler="sync")
    assert (D1(x.time) @ x).units == "m"


# --- how work is cut and joined ---------------------------------------------------------


class Mode(NamedTuple):
    """Limits of the engine, small ones so that small arrays are many tiles."""

    tile: int | None
    most_work: float


# Tiles of one sample, of some, of all; stages always, never and sometimes joined.
modes = st.builds(
    Mode,
    st.sampled_from([1, 40, 200, 1000, None]),
    st.sampled_from([1.0, 2.0, math.inf]),
)


@contextlib.contextmanager
def limits(mode: Mode):
    """The engine with other limits."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.object(graph, "MOST_WORK", mode.most_work))
        if mode.tile is not None:
            small = {
                "TILE_BYTES": mode.tile,
                "STREAM_BYTES": 2 * mode.tile,
                "RUN_BYTES": max(mode.tile // 4, 1),
                "SMALL_BYTES": 0,
                "PIECE_BYTES": 8 * mode.tile,
            }
            enter(mock.patch.multiple(tiles, **small))
            enter(mock.patch.object(graph, "SMALL_CHUNK", 0))
            enter(mock.patch.object(lines, "SHORTEST", 1))
            enter(mock.patch.object(threads, "count", return_value=3))
        yield


def tolerance(dtype: Any, scale: float) -> float:
    """What roundings may sum up to."""
    return 400 * float(np.finfo(dtype).eps) * scale


def random(shape: Any, dtype: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


# --- plans of any steps ---------------------------------------------------------------


def largest(node: Any, reference: Any) -> float:
    """The largest value on the way to a result: what rounding errors are relative to."""
    below = [largest(child, reference) for child in node.children]
    return max([1.0, *below, float(np.abs(reference(node).data).max(initial=0))])


def assert_right(drawn: Any, chunks: Any, mode: Mode) -> None:
    """What a plan of dense steps makes is what its matrices make."""
    source = drawn.source
    x = random(source.shape, source.dtype)
    exact = x.astype(np.result_type(x, np.float64))
    reference = Reference({source: Array(exact, source.dims)}, drawn.matrices)
    data = x if chunks is None else da.from_array(x, chunks=chunks)
    before = x.copy()
    x.flags.writeable = False
    ends = {str(i): end for i, end in enumerate(drawn.ends)}
    plan: Any = ends if len(ends) > 1 else ends["0"]
    with limits(mode):
        made = run(plan, {source: Array(data, source.dims)})
        made = made if isinstance(made, dict) else {"0": made}
        values = dask.compute({k: a.data for k, a in made.items()}, scheduler="sync")[0]
    for name, end in ends.items():
        expected, value = reference(end), values[name]
        assert made[name].dims == expected.dims
        assert value.shape == expected.data.shape
        assert value.dtype == made[name].data.dtype == end.dtype
        single = source.dtype in (np.float32, np.complex64)
        scale = largest(end, reference)
        np.testing.assert_allclose(
            value,
            expected.data,
            rtol=0,
            atol=tolerance(np.float32 if single else np.float64, scale),
        )
    np.testing.assert_array_equal(x, before)


@settings(120)
@given(st.data(), modes)
def test_plans_on_numpy(data, mode):
    assert_right(data.draw(plans()), None, mode)


@settings(200)
@given(st.data(), modes)
def test_plans_on_dask(data, mode):
    drawn = data.draw(plans(lazy_weights=True))
    chunks = tuple(data.draw(cut(n)) for n in drawn.source.shape)
    assert_right(drawn, chunks, mode)


@pytest.mark.parametrize("kind", RULES)
@settings(12)
@given(data=st.data(), mode=modes)
def test_one_rule_after_itself(kind, data, mode):
    drawn = data.draw(plans(kinds=(kind,), longest=3, lazy_weights=True))
    chunks = tuple(data.draw(cut(n)) for n in drawn.source.shape)
    assert_right(drawn, data.draw(st.sampled_from([chunks, None])), mode)


# --- operators against dense matrices -------------------------------------------------


class Factor(NamedTuple):
    """An operator, and what it is as a matrix (range…, domain…)."""

    A: Any
    matrix: Any
    given: tuple[str, ...]
    made: tuple[str, ...]

    def dense(self, x: Array, adjoint: bool) -> Array:
        """The operator or its adjoint by its matrix."""
        matrix, given, made = self.matrix, self.given, self.made
        if adjoint:
            rows = len(made)
            order = [*range(rows, matrix.ndim), *range(rows)]
            matrix, given, made = matrix.conj().transpose(order), made, given
        from xlops.windows.pieces import placed

        value = product(matrix, x.data, x.dims, given, made)
        return Array(value, placed(x.dims, given, made))


def along(A: Any, dim: str, matrix: Any, made: str | None = None) -> Factor:
    return Factor(A, np.asarray(matrix), (dim,), (dim if made is None else made,))


def difference(n: int, degree: int, kind: str, edge: bool, order: int) -> Any:
    """Differences of neighbours as a matrix, steps being 1."""
    matrix = np.zeros((n, n))

    def row(i: int, first: int, weights: Any) -> None:
        matrix[i, i + first : i + first + len(weights)] = weights

    few = [-1.0, 1.0] if degree == 1 else [1.0, -2.0, 1.0]
    if kind == "forward":
        for i in range(n - degree):
            row(i, 0, few)
        return matrix
    if kind == "backward":
        for i in range(degree, n):
            row(i, -degree, few)
        return matrix
    three = [-0.5, 0.0, 0.5] if degree == 1 else [1.0, -2.0, 1.0]
    five = [1.0, -8.0, 0.0, 8.0, -1.0] if degree == 1 else [-1.0, 16.0, -30.0, 16.0, -1.0]
    half = order // 2
    for i in range(half, n - half):
        row(i, -half, np.array(five) / 12 if half == 2 else three)
    if edge:
        row(0, 0, few)
        row(n - 1, -degree, few)
        if half == 2:
            row(1, -1, three)
            row(n - 2, -1, three)
    return matrix


def pointwise(A: Any, weights: xr.DataArray) -> Factor:
    """A diagonal matrix over several dims."""
    n = weights.size
    matrix = np.zeros((n, n), weights.dtype)
    np.fill_diagonal(matrix, weights.values.ravel())
    dims = tuple(map(str, weights.dims))
    return Factor(A, matrix.reshape(2 * weights.shape), dims, dims)


# Those that keep the dims and their sizes, and those that do not.
KEEPING = [
    "first",
    "second",
    "laplacian",
    "diagonal",
    "complex diagonal",
    "lazy diagonal",
    "mask",
    "zero",
    "identity",
    "integral",
    "smoothing",
    "convolution",
    "flip",
    "roll",
]
CHANGING = ["restriction", "fft", "sum", "matrix", "lazy matrix", "pad"]


def unlabeled(x: xr.DataArray) -> list[Any]:
    """Dims whose steps are 1: all but the frequencies of transforms."""
    return [dim for dim in x.dims if dim not in x.coords]


@st.composite
def factors(draw: Any, x: xr.DataArray, kinds: list[str], new: str) -> Factor:
    """An operator that can be applied to x."""
    kind = draw(st.sampled_from(kinds))
    free = unlabeled(x)
    dim = str(draw(st.sampled_from(free)))
    n = x.sizes[dim]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if kind in ("first", "second"):
        degree = 1 if kind == "first" else 2
        how = draw(st.sampled_from(["centered", "forward", "backward"]))
        order = draw(st.sampled_from([3, 5]))
        edge = draw(st.booleans())
        if n >= (order if how == "centered" else degree + 1):
            cls = xl.FirstDerivative if degree == 1 else xl.SecondDerivative
            A = cls(x[dim], how, edge, order)
            return along(A, dim, difference(n, degree, how, edge, order))
        kind = "diagonal"
    if kind == "laplacian":
        dims = [d for d in free if x.sizes[d] >= 3][:2]
        if len(dims) == 2:
            weights = (1.0, -0.5)
            A = xl.Laplacian(*(x[d] for d in dims), weights=weights)
            one, two = (
                w * difference(x.sizes[d], 2, "centered", False, 3)
                for d, w in zip(dims, weights, strict=True)
            )
            eyes = [np.eye(x.sizes[d]) for d in dims]
            matrix = np.einsum("ij,kl->ikjl", one, eyes[1])
            matrix = matrix + np.einsum("ij,kl->ikjl", eyes[0], two)
            return Factor(A, matrix, tuple(map(str, dims)), tuple(map(str, dims)))
        kind = "diagonal"
    if "diagonal" in kind or kind == "mask":
        some = draw(st.lists(st.sampled_from(free), unique=True, min_size=1, max_size=2))
        shape = [x.sizes[d] for d in some]
        weights = xr.DataArray(rng.uniform(0.5, 1.5, shape), dims=some)
        if kind == "complex diagonal":
            weights = weights * np.exp(2j * weights)
        if kind == "mask":
            weights = weights > 1
            return pointwise(xl.Mask(weights), weights.astype(float))
        given_ = weights
        if kind == "lazy diagonal":
            chunks = {d: draw(cut(m)) for d, m in zip(some, shape, strict=True)}
            given_ = weights.chunk(chunks)
        return pointwise(xl.Diagonal(given_), weights)
    if kind == "zero":
        return along(xl.Zero(x[dim]), dim, np.zeros((n, n)))
    if kind == "identity":
        return along(xl.Identity(x[dim]), dim, np.eye(n))
    if kind == "integral":
        if n == 1:
            return along(xl.Identity(x[dim]), dim, np.eye(n))
        return along(xl.CausalIntegration(x[dim]), dim, np.tril(np.ones((n, n))))
    if kind == "smoothing":
        count = draw(st.sampled_from([1, 3, 5]))
        matrix = sum(np.eye(n, k=k) for k in range(-(count // 2), count // 2 + 1)) / count
        return along(xl.Smoothing1D(x[dim], count), dim, matrix)
    if kind == "convolution":
        taps = rng.standard_normal(draw(st.integers(1, 5)))
        first = draw(st.integers(0, len(taps) - 1))
        matrix = sum(h * np.eye(n, k=first - k) for k, h in enumerate(taps))
        return along(xl.Convolve1D(x[dim], taps, first), dim, matrix)
    if kind == "flip":
        return along(xl.Flip(x[dim]), dim, np.eye(n)[::-1])
    if kind == "roll":
        shift = draw(st.integers(-n, n))
        return along(xl.Roll(x[dim], shift), dim, np.roll(np.eye(n), shift, axis=0))
    if kind == "restriction":
        kept = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=LARGEST))
        form = draw(st.sampled_from(["as drawn", "sorted", "each once"]))
        if form != "as drawn":
            kept = sorted(kept if form == "sorted" else set(kept))
        return along(xl.Restriction(x[dim], kept), dim, np.eye(n)[kept])
    if kind == "fft":
        at = np.arange(n)
        matrix = np.exp(-2j * np.pi * np.outer(at, at) / n) / np.sqrt(n)
        return along(xl.FFT(x[dim], dim=new), dim, matrix, new)
    if kind == "sum":
        return Factor(xl.Sum(x[dim]), np.ones(n), (dim,), ())
    if kind == "pad":
        pad = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
        matrix = np.pad(np.eye(n), (pad, (0, 0)))
        return along(xl.Pad(x[dim], pad=pad), dim, matrix)
    assert "matrix" in kind
    rows = draw(st.integers(1, 5))
    matrix = xr.DataArray(rng.standard_normal((rows, n)), dims=(new, dim))
    given_ = matrix
    if kind == "lazy matrix":
        given_ = matrix.chunk({new: draw(cut(rows)), dim: draw(cut(n))})
    return along(xl.MatrixMult(given_, dim), dim, matrix, new)


class Chain:
    """A product of sums of factors; the first acts first."""

    def __init__(self, steps: list[list[Factor]]) -> None:
        self.steps = steps
        sums = (functools.reduce(lambda a, b: a + b, (f.A for f in s)) for s in steps)
        self.A: Any = functools.reduce(lambda inner, outer: outer @ inner, sums)

    def dense(self, x: Array, adjoint: bool) -> Array:
        """The product or its adjoint by matrices."""
        for terms in reversed(self.steps) if adjoint else self.steps:
            first, *others = (term.dense(x, adjoint) for term in terms)
            value = first.data
            for other in others:
                value = value + other.ordered(first.dims).data
            x = Array(value, first.dims)
        return x

    def one_by_one(self, x: Any, adjoint: bool) -> Any:
        """One operator after the other, each computed before the next."""
        for terms in reversed(self.steps) if adjoint else self.steps:
            parts = [(t.A.H if adjoint else t.A) @ x for t in terms]
            parts = [part.persist() for part in parts]
            first, *others = parts
            x = first
            for other in others:
                x = (x + other.transpose(*first.dims)).persist()
        return x

    def __repr__(self) -> str:
        return str(self.A)


@st.composite
def chains(draw: Any, x: xr.DataArray, longest: int = 5, keeping: bool = False) -> Chain:
    """Three to five operators on x, some of them added up."""
    steps: list[list[Factor]] = []
    names = (f"new{i}" for i in range(99))
    count = draw(st.integers(1 if keeping else 3, longest))
    while sum(map(len, steps)) < count and unlabeled(x):
        if draw(st.integers(0, 2)) == 0:
            terms = [
                draw(factors(x, KEEPING, next(names)))
                for _ in range(draw(st.integers(2, 3)))
            ]
        else:
            kinds = KEEPING + (0 if keeping else 2) * CHANGING
            terms = [draw(factors(x, kinds, next(names)))]
        steps.append(terms)
        now = Array(x.values, tuple(x.dims))
        made = terms[0].dense(now, False)
        sizes = dict(zip(made.dims, made.data.shape, strict=True))
        # Labels as the operator makes them: FFT labels its frequencies.
        labels = terms[0].A.range.coords
        coords = {d: labels[d] for d in sizes if d in labels}
        coords |= {d: x.coords[d] for d in sizes if d in x.coords and d not in coords}
        x = xr.DataArray(np.zeros(tuple(sizes.values())), coords, made.dims)
    return Chain(steps)


@st.composite
def inputs(draw: Any) -> xr.DataArray:
    """Data over one to three dims without labels, so that steps are 1."""
    dims = draw(st.permutations(["time", "offset", "depth"]))
    sizes = {dim: draw(st.integers(1, 8)) for dim in dims[: draw(st.integers(1, 3))]}
    dtype = draw(st.sampled_from(["float64", "float64", "float32", "complex128"]))
    values = random(tuple(sizes.values()), dtype, draw(st.integers(0, 9)))
    return xr.DataArray(values, dims=tuple(sizes))


def close(value: Any, expected: Any, single: bool) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    dtype = np.float32 if single else np.float64
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance(dtype, 20 * scale))


def chunked(draw: Any, x: xr.DataArray) -> xr.DataArray:
    return x.chunk({dim: draw(cut(size)) for dim, size in x.sizes.items()})


def as_array(x: xr.DataArray) -> Array:
    values = x.values
    return Array(values.astype(np.result_type(values, np.float64)), tuple(x.dims))


def member(draw: Any, chain: Chain, x: xr.DataArray, seed: int = 5) -> xr.DataArray:
    """Random data for the adjoint, with its dims in any order."""
    made = chain.A @ x
    dtype = np.result_type(x.dtype, np.complex64) if made.dtype.kind == "c" else x.dtype
    y = made.copy(data=random(made.shape, dtype, seed))
    return y.transpose(*draw(st.permutations(list(y.dims))))


@settings(60)
@given(st.data(), modes)
def test_products_and_sums(data, mode):
    x = data.draw(inputs())
    chain = data.draw(chains(x))
    A, single = chain.A, x.dtype == np.float32
    for B, z, adjoint in ((A, x, False), (A.H, member(data.draw, chain, x), True)):
        expected = chain.dense(as_array(z), adjoint)
        lazy = chunked(data.draw, z)
        with limits(mode), dask.config.set(scheduler="sync"):
            y = B @ z
            fused = (B @ lazy).compute()
            apart = chain.one_by_one(lazy, adjoint).compute()
        for value in (y, fused, apart):
            assert set(value.dims) == set(expected.dims)
            values = value.transpose(*expected.dims).values
            close(values, expected.data, single)
        assert fused.dims == y.dims
        assert fused.dtype == y.dtype
        assert (B @ lazy).dtype == y.dtype


@settings(30)
@given(st.data(), modes)
def test_stacks(data, mode):
    x = data.draw(inputs())
    first, second = (data.draw(chains(x, 2, keeping=True)) for _ in range(2))
    below = data.draw(chains(x, 2, keeping=True))
    V = xl.VStack({"a": first.A, "b": second.A})
    V = data.draw(st.sampled_from([V, V @ below.A]))
    inner = [below] if isinstance(V.domain, xl.Space) and "@" in str(V) else []
    inner = inner if V.__class__.__name__ == "Product" else []
    single = x.dtype == np.float32

    def forward(z: Array) -> dict[str, Array]:
        for chain in inner:
            z = chain.dense(z, False)
        return {"a": first.dense(z, False), "b": second.dense(z, False)}

    def adjoint(blocks: dict[str, Array]) -> Array:
        one = first.dense(blocks["a"], True)
        two = second.dense(blocks["b"], True)
        z = Array(one.data + two.ordered(one.dims).data, one.dims)
        for chain in inner:
            z = chain.dense(z, True)
        return z

    expected = forward(as_array(x))
    gram = adjoint(expected)
    lazy = chunked(data.draw, x)
    with limits(mode), dask.config.set(scheduler="sync"):
        for z in (x, lazy):
            y = V @ z
            for name, block in expected.items():
                close(y[name].transpose(*block.dims).values, block.data, single)
            back = V.H @ y
            close(back.transpose(*gram.dims).values, gram.data, single)
            again = V.gram @ z
            close(again.transpose(*gram.dims).values, gram.data, single)


# --- tasks ------------------------------------------------------------------------------


def lazy_zeros(sizes: dict[str, int], chunks: Any, dtype: Any = "float64") -> xr.DataArray:
    data = da.zeros(tuple(sizes.values()), chunks=chunks, dtype=dtype)
    return xr.DataArray(data, dims=tuple(sizes))


def own_tasks(y: xr.DataArray, x: xr.DataArray) -> dict[Any, Any]:
    """What a graph has beyond that of the input."""
    before = x.data.__dask_graph__().keys()
    return {k: v for k, v in y.data.__dask_graph__().items() if k not in before}


def per_chunk(A: Any, x: xr.DataArray) -> float:
    """Tasks for each chunk; the plan is one node for all of them."""
    y = A @ x
    assert y.data.npartitions == x.data.npartitions
    return (len(own_tasks(y, x)) - 1) / y.data.npartitions


D1, D2 = xl.FirstDerivative, xl.SecondDerivative
STENCILS = {
    "first": lambda d: D1(d.time),
    "first of five points": lambda d: D1(d.time, order=5, edge=True),
    "second": lambda d: D2(d.time, edge=True),
    "forward": lambda d: D1(d.time, "forward"),
    "product of two": lambda d: D1(d.time) @ D1(d.time, "backward"),
    "product of four": lambda d: (
        D1(d.time) @ D2(d.time) @ D1(d.time, edge=True) @ D2(d.time)
    ),
    "gram of a product": lambda d: (D1(d.time) @ D2(d.time)).gram,
    "sum": lambda d: D1(d.time) + 0.5 * D2(d.time),
    "between diagonals": lambda d: xl.Mask(d.time > 3) @ D1(d.time) @ xl.Diagonal(d.time),
}


@pytest.mark.parametrize("name", STENCILS)
def test_tasks_of_stencils_along_one_dim(name):
    x = lazy_zeros({"shot": 6, "time": 400}, (3, 40))
    A = STENCILS[name](x)
    whole = x.chunk(time=-1)
    for B in (A, A.H):
        assert per_chunk(B, x) <= 3
        assert per_chunk(B, whole) == 1
        across = x.chunk(shot=-1, time=-1)
        assert per_chunk(B, across) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("cls", [D1, D2])
def test_tasks_of_stencils_over_dims(cls, count):
    dims = ("z", "y", "x")[:count]
    n, chunk = (24, 6) if count == 3 else (60, 10)
    x = lazy_zeros(dict.fromkeys(dims, n), chunk)
    added = functools.reduce(lambda a, b: a + b, (cls(x[dim]) for dim in dims))
    multiplied = functools.reduce(lambda a, b: a @ b, (cls(x[dim]) for dim in dims))
    for A in (added, added.H, 2.0 * added):
        assert per_chunk(A, x) <= 1 + 2 * count
    for A in (multiplied, multiplied.H):
        assert per_chunk(A, x) <= 3**count
    # Dims that come in one chunk count for nothing.
    whole = x.chunk(dict.fromkeys(dims[1:], -1))
    assert per_chunk(added, whole) <= 3
    assert per_chunk(multiplied, whole) <= 3
    assert per_chunk(multiplied, x.chunk(dict.fromkeys(dims, -1))) == 1


def test_tasks_of_what_needs_no_neighbours():
    x = lazy_zeros({"shot": 12, "time": 40}, (3, 40))
    kept = xl.Restriction(x.shot, [0, 2, 3, 4, 7, 8, 9, 11])
    for A in (
        xl.Diagonal(x.time) @ xl.Mask(x.shot > 2),
        xl.FFT(x.time),
        xl.FFT(x.time).H @ xl.FFT(x.time),
        kept,
        kept @ D1(x.time),
    ):
        for B, z in ((A, x), (A.H, A @ x)):
            y = B @ z
            assert len(own_tasks(y, z)) - 1 <= y.data.npartitions


def test_what_several_terms_share_is_made_once():
    x = lazy_zeros({"time": 400}, 40)
    A = (D1(x.time) + D2(x.time)) @ (D1(x.time) - D2(x.time))
    assert per_chunk(A, x) <= 6  # two sums, one after the other
    stack = xl.VStack({"a": D1(x.time), "b": xl.Identity(x.time)}) @ D2(x.time)
    y = stack @ x
    keys = set().union(*(own_tasks(block, x) for block in y.values()))
    assert len(keys) <= (3 + 3 + 1) * 10 + 3


def test_halos_wider_than_chunks_take_what_they_need():
    x = lazy_zeros({"time": 40}, 1)
    A = D1(x.time, order=5)
    assert per_chunk(A, x) == 1  # neighbours are whole chunks: nothing is cut
    assert len((A @ x).data.dask.layers) == 2


def strips_of(y: xr.DataArray) -> Any:
    return {k: v for k, v in y.data.__dask_graph__().items() if "-strip-" in str(k[0])}


def test_thin_strips_of_a_chunk_are_one_task():
    x = lazy_zeros({"shot": 6, "time": 400}, (3, 40))
    thin, thick = strips_of(D1(x.time) @ x), strips_of(xl.Smoothing1D(x.time, 23) @ x)
    assert len(thin) == 2 * 10
    assert len(thick) == 2 * 18  # more than a quarter of a chunk: for one neighbour each
    assert per_chunk(D1(x.time), x) == 2
    both = strips_of((D1(x.time) + D1(x.shot)) @ x)  # along each dim, on their own
    assert len(both) == 2 * 10 + 2 * 10


def test_keys_are_those_of_the_result():
    x = lazy_zeros({"time": 40}, 10)
    y = D1(x.time) @ x
    assert set(own_tasks(y, x)) >= {(y.data.name, i) for i in range(4)}
    assert y.data.name.startswith("FirstDerivative(time)-")


# --- bytes ------------------------------------------------------------------------------


def bytes_per_chunk(A: Any, x: xr.DataArray) -> float:
    y = A @ x
    made = own_tasks(y, x)
    return sum(len(cloudpickle.dumps(task)) for task in made.values()) / y.data.npartitions


@pytest.mark.parametrize("name", STENCILS)
def test_graphs_do_not_grow_with_the_array(name):
    sizes = []
    for scale in (1, 10, 100):
        x = lazy_zeros({"shot": 4, "time": 640 * scale}, (2, 40 * scale))
        weights = lazy_zeros({"time": 640 * scale}, 40 * scale)
        if name == "between diagonals":  # whose weights are as long as the axis
            A: Any = xl.Mask(weights > 0) @ D1(x.time) @ xl.Diagonal(weights)
        else:
            A = STENCILS[name](x)
        sizes.append(bytes_per_chunk(A, x))
    assert max(sizes) < 4000
    assert max(sizes) <= 1.1 * min(sizes)


def test_graphs_grow_with_the_number_of_chunks_only():
    few, many = (
        bytes_per_chunk(D1(x.time), x)
        for x in (lazy_zeros({"time": 40 * n}, 40) for n in (50, 500))
    )
    assert many <= 1.1 * few


@pytest.mark.parametrize("adjoint", [False, True])
def test_large_weights_are_there_once(adjoint):
    n = 200_000
    rng = np.random.default_rng(0)
    weights = xr.DataArray(rng.random(n), dims="time")
    x = lazy_zeros({"shot": 40, "time": n}, (1, n // 4))
    for A in (
        xl.Diagonal(weights),
        D1(x.time) @ xl.Diagonal(weights),
        xl.Diagonal(weights) + D1(x.time),
        xl.Diagonal(weights).gram,
    ):
        B = A.H if adjoint else A
        made = sum(len(cloudpickle.dumps(t)) for t in own_tasks(B @ x, x).values())
        copies = str(A).count("Diagonal")
        assert made < 1.1 * copies * weights.nbytes + 3500 * x.data.npartitions


# --- vectors ----------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [(), "a", "x", "xpz", "axpz"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_steps_of_two_vectors(lazy, dtype):
    """Three times in a row, so that one rides on the other from the second time on."""
    plain = dict(zip("xpz", random((3, 6, 40), dtype), strict=True))
    x, p, z = (
        Array(da.from_array(v, chunks=(3, 10)) if name in lazy else v.copy(), ("s", "t"))
        for name, v in plain.items()
    )
    a: Any = da.from_array(np.array(0.3)) if "a" in lazy else 0.3
    wide = {name: v.astype("c16") for name, v in plain.items()}
    for _ in range(3):
        x, p = engine.advance(x, p, z, a, -0.7)
        wide["x"], wide["p"] = wide["x"] + 0.3 * wide["p"], wide["z"] - 0.7 * wide["p"]
        x, p = engine.persist(x, p)
        for made, name in ((x, "x"), (p, "p")):
            assert made.data.dtype == dtype
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(
                np.asarray(made.data), wide[name], rtol=0, atol=40 * eps
            )
    assert isinstance(np.asarray(engine.settled(x).data), np.ndarray)


def test_products_that_are_wanted_together():
    values = random((4, 5, 12), "f8")
    r, s, t, n = (
        xr.DataArray(v, dims=("s", "t")).chunk(s=5, t=c)
        for v, c in zip(values, (4, 4, 6, 12), strict=True)
    )
    trees = [Array(v.data, v.dims) for v in (r, s, t)]
    blocks = {"one": trees[0], "other": Array(n.values, n.dims)}
    pairs = [(trees[0], trees[0]), (trees[1], trees[0]), (trees[2], trees[2])]
    numbers = engine.dots(*pairs, 2.5, (blocks, blocks), pairs[0])
    expected = [(r * r).sum(), (s * r).sum(), (t * t).sum(), 2.5]
    expected += [(r * r).sum() + (n * n).sum(), (r * r).sum()]
    for made, exact in zip(numbers, expected, strict=True):
        np.testing.assert_allclose(float(made), float(exact), rtol=1e-13)
    assert numbers[0] is numbers[5]
    alike = engine.dots(pairs[0], pairs[1])
    graph = {k for d in alike for k in d.__dask_graph__() if "dot-" in str(k)}
    assert len(graph) == 3 + 2  # one task per chunk, one per number


# --- where tasks run --------------------------------------------------------------------


def example(dtype: Any = "float64") -> tuple[Any, xr.DataArray]:
    x = xr.DataArray(
        random((4, 24), dtype), {"time": 0.5 * np.arange(24)}, dims=("shot", "time")
    )
    A = xl.Diagonal(x.time + 1) @ D1(x.time, edge=True) @ D2(x.time) + D1(x.time)
    return A, x


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_schedulers(scheduler):
    A, x = example()
    lazy = x.chunk(shot=2, time=7)
    made = dask.compute(A @ lazy, A.H @ lazy, scheduler=scheduler, num_workers=2)
    for y, B in zip(made, (A, A.H), strict=True):
        np.testing.assert_allclose(y.values, (B @ x).values, rtol=0, atol=1e-11)


def test_a_cluster():
    import distributed

    A, x = example()
    lazy = x.chunk(shot=2, time=7)
    stack = xl.VStack([A, xl.Identity(x.time)])
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        y, z = dask.compute(A @ lazy, stack.gram @ lazy)
    np.testing.assert_allclose(y.values, (A @ x).values, rtol=0, atol=1e-11)
    np.testing.assert_allclose(z.values, (stack.gram @ x).values, rtol=0, atol=1e-10)


def test_plans_travel_between_workers():
    """A cluster takes what travels apart and puts it together again, node by node."""
    from distributed.protocol import to_serialize
    from distributed.protocol.core import dumps, loads

    x = xr.DataArray(np.random.default_rng(0).standard_normal((8, 6)), dims=("a", "b"))
    lazy = x.chunk(a=3, b=2)
    weights = x.chunk(a=2)
    for A in (
        xl.Laplacian(x.a, x.b),
        xl.Diagonal(weights) @ xl.CausalIntegration(x.a),
        xl.MatrixMult(weights.rename(b="c"), "a"),
    ):
        for B, given in ((A, lazy), (A.H, (A @ x).chunk())):
            y = B @ given
            graph = {}
            for key, node in y.__dask_graph__().items():
                value = getattr(node, "value", None)
                if str(key).endswith("-plan"):
                    value = loads(dumps({"x": to_serialize(value)}))["x"]
                    node = DataNode(key, value)
                graph[key] = node
            again = da.Array(graph, y.data.name, y.data.chunks, dtype=y.dtype).compute()
            np.testing.assert_allclose(again, y.values, rtol=0, atol=1e-12)


def test_byte_order_of_rolled_samples():
    x = xr.DataArray(np.arange(6, dtype=">i8"), dims="a")
    A = xl.Roll(x.a, 2)
    assert (A @ x).dtype == (A @ x.chunk(a=2)).dtype == np.dtype(np.int64)


def test_tiles_of_many_threads_at_once():
    """Several threads apply operators at the same time, each on several threads."""
    import concurrent.futures

    A, x = example()
    expected = (A @ x).values
    with limits(Mode(40, 2.0)), concurrent.futures.ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: (A @ x).values, range(20)):
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_tiles_wait_for_no_thread():
    """All threads of the pool may be waiting for what asks for them."""
    import threading

    A, x = example()
    expected, done = (A @ x).values, threading.Event()
    busy = [threads.pool().submit(done.wait, 20) for _ in range(threads.count())]
    with limits(Mode(40, 2.0)):
        y = A @ x
    assert not any(thread.done() for thread in busy)
    done.set()
    np.testing.assert_allclose(y.values, expected, rtol=0, atol=1e-12)


# --- inputs stay as they are ------------------------------------------------------------


ALIASES = {
    "identity": xl.Identity,
    "product of identities": lambda d: xl.Identity(d) @ xl.Identity(d.time),
    "mask": lambda d: xl.Mask(d > -np.inf),
    "diagonal": lambda d: xl.Diagonal(xr.ones_like(d)),
    "restriction": lambda d: xl.Restriction(d.time, np.arange(d.sizes["time"])),
    "rows": lambda d: xl.Restriction(d.shot, [0, 1]),
    "rows again": lambda d: xl.Restriction(d.shot, [1, 0]),
    "stencil": lambda d: D1(d.time),
    "zero": xl.Zero,
    "sum": lambda d: xl.Identity(d) + xl.Zero(d),
    "power": lambda d: D1(d.time) ** 0,
    "stack": lambda d: xl.VStack([xl.Identity(d)]),
}


@pytest.mark.parametrize("name", ALIASES)
def test_results_are_not_the_input(name):
    x = xr.DataArray(random((3, 8), "float64"), dims=("shot", "time"))
    A = ALIASES[name](x)
    before = x.values.copy()
    for B in (A, A.H):
        z: Any = x if B is A else A @ x
        inner = z if isinstance(z, dict) else {"": z}
        kept = {key: block.values.copy() for key, block in inner.items()}
        for chunks in (None, {"shot": 1}, {"shot": -1}):
            given_ = inner if chunks is None else {k: b.chunk() for k, b in inner.items()}
            y = B @ (given_ if isinstance(z, dict) else given_[""])
            for result in y.values() if isinstance(y, dict) else [y]:
                values = result.data
                if chunks is not None:
                    values = values.compute(scheduler="sync")
                if values.flags.writeable:
                    values[...] = 77.0
                else:
                    assert chunks is not None
                for key, block in inner.items():
                    assert not np.shares_memory(values, block.values)
                    np.testing.assert_array_equal(block.values, kept[key])
    np.testing.assert_array_equal(x.values, before)


def odd_arrays() -> dict[str, Any]:
    """The same values in memory of many kinds."""
    values = random((6, 16), "float64")
    wide = np.zeros((6, 32))
    wide[:, ::2] = values
    frozen = values.copy()
    frozen.flags.writeable = False
    offset = np.zeros(values.nbytes + 1, np.uint8)[1:].view(np.float64)
    unaligned = offset.reshape(values.shape)
    unaligned[...] = values
    rows = np.zeros(6, [("tag", "i1"), ("value", "f8", 16)])
    samples = np.zeros((6, 16), [("tag", "i1"), ("value", "f8")])
    rows["value"] = samples["value"] = values
    return {
        "read-only": frozen,
        "Fortran order": np.asfortranarray(values),
        "every second": wide[:, ::2],
        "backwards": values[:, ::-1].copy()[:, ::-1],
        "upside down": values[::-1].copy()[::-1],
        "big-endian": values.astype(">f8"),
        "unaligned": unaligned,
        "rows of records": rows["value"],
        "samples of records": samples["value"],
    }


@pytest.mark.parametrize("kind", odd_arrays())
def test_memory_of_any_kind(kind):
    plain = xr.DataArray(random((6, 16), "float64"), dims=("shot", "time"))
    odd = plain.copy(data=odd_arrays()[kind])
    np.testing.assert_array_equal(odd.values, plain.values)
    for A in (
        D1(plain.time),
        D1(plain.shot) + D2(plain.time, edge=True),
        xl.Diagonal(odd),
        xl.Restriction(plain.time, [3, 1, 1]),
        xl.FFT(plain.time),
        xl.CausalIntegration(plain.shot),
        xl.Diagonal(odd) @ D1(plain.time) @ xl.Mask(odd > 0),
        xl.Diagonal(odd) @ D1(plain.shot) @ D2(plain.shot),
    ):
        expected = (A @ plain).values
        for mode in (Mode(None, 2.0), Mode(100, math.inf)):
            with limits(mode):
                y = A @ odd
                lazy = (A @ odd.chunk(shot=4, time=5)).compute(scheduler="sync")
            assert y.dtype.isnative
            for value in (y, lazy):
                np.testing.assert_allclose(value.values, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "bool", ">i4", "float16"])
def test_whole_numbers_are_computed_in_floats(dtype):
    values = (10 * np.abs(random((6, 16), "float64"))).astype(dtype)
    x = xr.DataArray(values, dims=("shot", "time"))
    exact = x.astype("float64")
    for A in (D1(x.time), D1(x.shot) + D2(x.time), xl.Diagonal(x.time)):
        for mode in (Mode(None, 2.0), Mode(100, 1.0)):
            with limits(mode):
                y, z = A @ x, (A @ x.chunk(time=5)).compute(scheduler="sync")
            assert y.dtype == z.dtype
            assert y.dtype.kind == "f"
            tol = 1e-2 if y.dtype == np.float32 else 1e-12
            for value in (y, z):
                np.testing.assert_allclose(
                    value.values, (A @ exact).values, rtol=1e-5, atol=tol
                )


def test_restrictions_keep_whole_numbers():
    x = xr.DataArray(np.arange(2**60, 2**60 + 16), dims="time")
    for kept in ([3, 1], [2, 5, 6]):
        R = xl.Restriction(x.time, kept)
        for mode in (Mode(None, 2.0), Mode(8, 1.0)):
            with limits(mode):
                np.testing.assert_array_equal((R @ x).values, x.values[kept])
                lazy = (R @ x.chunk(time=5)).compute(scheduler="sync")
            np.testing.assert_array_equal(lazy.values, x.values[kept])


# --- errors -----------------------------------------------------------------------------


def fail(block: Any, out: Any) -> None:
    raise ZeroDivisionError("by nothing")


def failing(n: int) -> tuple[Apply, Source]:
    """A step that fails between two that do not."""
    x = Source(("time",), {"time": n}, np.dtype(float))
    own = {"time": n}
    pattern = np.eye(n) > 0
    first, _ = step_of(Case(Stencil({"time": Reach(n, 1, 1)}), own, own, pattern), 0)
    last, _ = step_of(Case(Pointwise(), own, own, pattern), 0)
    import dataclasses

    bad = dataclasses.replace(last, name="the guilty one", forward=fail, adjoint=fail)
    return Apply(last, False, Apply(bad, True, Apply(first, False, x))), x


@pytest.mark.parametrize("tile", [None, 8])
@pytest.mark.parametrize("chunks", [None, 4])
def test_errors_in_kernels_name_the_operator(chunks, tile):
    node, source = failing(12)
    values = np.arange(12.0)
    data = values if chunks is None else da.from_array(values, chunks=chunks)
    with limits(Mode(tile, math.inf)), pytest.raises(ZeroDivisionError) as caught:
        run(node, {source: Array(data, ("time",))}).data.sum().compute(scheduler="sync")
    (note,) = caught.value.__notes__
    assert "the guilty one (adjoint)" in note
    assert "time [" in note
    np.testing.assert_array_equal(values, np.arange(12.0))


def test_after_an_error_all_is_well():
    node, source = failing(12)
    A, x = example()
    expected = (A @ x).values
    with limits(Mode(40, 2.0)):
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                run(node, {source: Array(np.arange(12.0), ("time",))})
            np.testing.assert_allclose((A @ x).values, expected, rtol=0, atol=1e-12)


# --- memory -----------------------------------------------------------------------------


def peak(function: Any) -> float:
    """MiB that numpy allocates at most, beyond what is there before."""
    tracemalloc.start()
    try:
        result = function()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    del result
    return most / 2**20


CHAINS = {
    "stencils": lambda d: D1(d.time) @ D2(d.time) @ D1(d.time, "forward"),
    "over dims": lambda d: D1(d.shot) @ D2(d.time) @ D1(d.shot, "forward"),
    "weighted": lambda d: xl.Mask(d.time > 3) @ D1(d.shot) @ xl.Diagonal(d.time),
    "masked sum": lambda d: xl.Mask(d.shot > 9) @ (D1(d.shot) + D2(d.time)) * 2.0,
    "rows": lambda d: xl.Restriction(d.shot, np.arange(512)) @ D1(d.time) @ D1(d.shot),
    "adjoint": lambda d: (D1(d.time) @ D2(d.shot) @ xl.Mask(d.time > 3)).H,
    "gram": lambda d: (D1(d.time) @ D2(d.shot)).gram,
    # What several terms read is made once, and kept.
    "sum": lambda d: (D1(d.shot) + D2(d.time)) @ xl.Mask(d.shot > 9),
    "gram of a sum": lambda d: (D1(d.time) + D1(d.shot)).gram,
}
KEEP_ONE = {"sum", "gram of a sum"}


@pytest.mark.parametrize("name", CHAINS)
def test_peak_memory_on_numpy(name):
    """The output and little more: nothing of the input's size on the way."""
    x = xr.DataArray(np.zeros((1024, 8192)), dims=("shot", "time"))  # 64 MiB
    A = CHAINS[name](x)
    made = math.prod({**x.sizes, **A.range.sizes}.values()) * 8 / 2**20
    if name in KEEP_ONE:
        made += 64
    small = {"TILE_BYTES": 2**18, "STREAM_BYTES": 2**18, "RUN_BYTES": 2**12}
    with mock.patch.multiple(tiles, **small):
        assert peak(lambda: A @ x) < made + 4


def test_peak_memory_of_a_task():
    x = xr.DataArray(np.zeros((1024, 2048)), dims=("shot", "time")).chunk(shot=512)
    y = D1(x.time) @ D2(x.time) @ D1(x.shot) @ x
    with mock.patch.multiple(tiles, TILE_BYTES=2**18, STREAM_BYTES=2**18):
        # Two chunks of 8 MiB each go in as they are, two come out and are put together.
        assert peak(lambda: y.compute(scheduler="sync")) < 16 + 16 + 4


# --- large ------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_chunks():
    line = lazy_zeros({"time": 100_000}, 10)
    A = D1(line.time) @ D1(line.time, "forward")
    for B in (A, A.H):
        assert per_chunk(B, line) <= 3
    plane = lazy_zeros({"shot": 1000, "time": 1000}, 10)
    added, multiplied = (
        D1(plane.shot) + D1(plane.time),
        D1(plane.shot) @ D1(plane.time),
    )
    for B in (added, added.H):
        assert per_chunk(B, plane) <= 5
    for B in (multiplied, multiplied.H):
        assert per_chunk(B, plane) <= 9
    assert len(pickle.dumps((added @ plane).data)) < 4000 * 10_000


STORE = """
import sys
import dask, xarray as xr
import xlops as xl

source, target = sys.argv[1:]

def high():
    with open("/proc/self/status") as lines:
        return next(int(s.split()[1]) / 1024 for s in lines if s.startswith("VmHWM"))

with dask.config.set(scheduler="threads", num_workers=2):
    # All that is loaded when first used, on a small piece.
    def applied(d):
        A = (
            xl.Diagonal(d.offset + 1.0)
            @ xl.FirstDerivative(d.time)
            @ xl.SecondDerivative(d.time)
        )
        return A @ d

    d = xr.open_zarr(source, consolidated=False).pressure
    small = applied(d.isel(time=slice(0, 8 * CHUNK)))
    small.to_dataset(name="small").to_zarr(target + ".small.zarr", consolidated=False)
    before = high()
    y = applied(d)
    assert y.chunks == d.chunks
    y.to_dataset(name="pressure").to_zarr(target, consolidated=False)
print(high() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="Linux only")
def test_a_store_larger_than_memory(tmp_path):
    """512 MiB pass through a tenth of that: a few chunks at a time."""
    import zarr

    chunk, count, width = 512, 512, 256  # chunks of 1 MiB
    source, target = tmp_path / "given.zarr", tmp_path / "made.zarr"
    group = zarr.open_group(source, mode="w")
    n = chunk * count
    array = group.create_array(
        "pressure",
        shape=(width, n),
        chunks=(width, chunk),
        dtype="float64",
        dimension_names=("offset", "time"),
        compressors=None,
    )
    rows = np.arange(width)[:, None]
    for i in range(count):
        at = np.arange(i * chunk, (i + 1) * chunk)
        array[:, at[0] : at[-1] + 1] = np.sin(0.01 * at + 0.1 * rows)
    offset = group.create_array(
        "offset", shape=(width,), dtype="float64", dimension_names=("offset",)
    )
    offset[...] = np.arange(width)
    time = group.create_array(
        "time", shape=(n,), dtype="float64", dimension_names=("time",)
    )
    time[...] = np.arange(n)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STORE.replace("CHUNK", str(chunk))]
        + [str(source), str(target)],
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 51.2
    made = xr.open_zarr(target, consolidated=False).pressure
    for low in (0, 5 * chunk - 10, n - 20):
        part = made.isel(time=slice(low, low + 20)).values
        at = np.arange(max(low - 3, 0), min(low + 23, n))
        x = np.sin(0.01 * at + 0.1 * rows)
        second = np.zeros_like(x)
        second[:, 1:-1] = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
        first = np.zeros_like(x)
        first[:, 1:-1] = (second[:, 2:] - second[:, :-2]) / 2
        expected = ((rows + 1.0) * first)[:, low - at[0] : low - at[0] + 20]
        inside = slice(3, 17)
        np.testing.assert_allclose(part[:, inside], expected[:, inside], atol=1e-12)


def test_products_that_differ_in_memory_only():
    """Blocks in memory are no part of the graph, but they are of the number."""
    lazy = Array(da.ones(4, chunks=2), ("time",))
    one, other = (
        engine.dot({"lazy": lazy, "there": there}, {"lazy": lazy, "there": there})
        for there in (Array(np.full(3, value), ("time",)) for value in (1.0, 2.0))
    )
    assert dask.compute(one, other, scheduler="sync") == (7.0, 16.0)
