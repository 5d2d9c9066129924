"""Plans of steps: what they need of their sources, against whole matrices."""

import dataclasses
import math
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import xlops as xl
from tests.steps import Reference, plans, window
from xlops.kernels.band import Band
from xlops.windows.banded import Banded
from xlops.windows.pieces import Array, Block, full
from xlops.windows.plan import (
    Apply,
    Source,
    Step,
    Total,
    halo,
    nodes,
    reads,
    real,
    replaced,
    scaled,
    total,
    uncut,
    volume,
    work,
)
from xlops.windows.rules import Contraction, Pointwise, Reach, Scan, Stencil, Whole

given = hypothesis.given
settings = hypothesis.settings(
    max_examples=30, deadline=None, derandomize=True, database=None
)


def source(dtype="float64", **sizes):
    return Source(tuple(sizes), sizes, np.dtype(dtype))


def unmade(*_):
    raise AssertionError("nothing is computed here")


def step(rule, domain, range_):
    """A step that is only planned."""
    return Step("step", lambda: "step", domain, range_, rule, unmade, unmade)


def stencil(node, *reaches, adjoint=False, factor=1.0):
    """A stencil of reaches (dim, before, after) on a node."""
    reach = {d: Reach(node.sizes[d], before, after) for d, before, after in reaches}
    own = {d: node.sizes[d] for d in reach}
    return Apply(step(Stencil(reach), own, own), adjoint, node, factor)


def whole(node, domain, range_, adjoint=False, rule=Whole):
    """A step that needs all of some dims."""
    return Apply(step(rule(domain, range_), domain, range_), adjoint, node)


def scan(node, dim):
    own = {dim: node.sizes[dim]}
    return Apply(step(Scan(dim, own[dim]), own, own), False, node)


def pointwise(node, *dims):
    own = {dim: node.sizes[dim] for dim in dims}
    return Apply(step(Pointwise(), own, own), False, node)


# --- what a piece reads ---------------------------------------------------------------


@settings
@given(st.data())
def test_what_a_piece_depends_on_is_among_its_reads(data):
    """Samples of the source that change a piece lie in one of the windows it reads."""
    drawn = data.draw(plans(longest=3, dtypes=("float64",)))
    node, x = drawn.ends[-1], drawn.source
    want = data.draw(window(dict(node.sizes)))
    values = np.random.default_rng(0).standard_normal(x.shape)
    found = np.zeros(x.shape, dtype=bool)
    for leaf, part in reads(node, want):
        assert leaf is x
        assert set(part) == set(x.dims)
        for dim, piece in part.items():
            assert 0 <= piece.start <= piece.stop <= x.sizes[dim]
        found[tuple(part[dim] for dim in x.dims)] = True
    # What lies outside of them may be anything.
    results = []
    for outside in (0.0, 1e6):
        array = Array(np.where(found, values, outside), x.dims)
        made = Reference({x: array}, drawn.matrices)(node)
        results.append(made.data[tuple(want[dim] for dim in made.dims)])
    np.testing.assert_array_equal(*results)


@settings
@given(st.data())
def test_nodes_know_what_they_make(data):
    drawn = data.draw(plans())
    x = drawn.source
    array = Array(np.ones(x.shape, x.dtype), x.dims)
    for end in drawn.ends:
        made = Reference({x: array}, drawn.matrices)(end)
        assert made.dims == end.dims
        assert made.data.shape == end.shape
        assert made.data.size == end.size
        assert np.result_type(made.data, end.dtype) == made.data.dtype
        assert (made.data.dtype.kind == "c") == (end.dtype.kind == "c")
        single = x.dtype == np.float32 and not isinstance(end, Source)
        assert end.dtype.itemsize <= (8 if single else 16)


@settings
@given(st.data())
def test_chunks_of_plans_cut_all(data):
    drawn = data.draw(plans())
    x = drawn.source

    def chunks(node):
        if isinstance(node, Source):
            return {dim: (1,) * size for dim, size in node.sizes.items()}
        made = node.chunks([chunks(child) for child in node.children])
        assert set(made) == set(node.dims)
        for dim, size in node.sizes.items():
            assert sum(made[dim]) == size
            assert min(made[dim]) > 0
        return made

    assert set(chunks(x)) == set(x.dims)
    for end in drawn.ends:
        chunks(end)


def test_reads_of_a_chain_are_as_wide_as_all_its_windows():
    x = source(t=100, u=9)
    node = stencil(stencil(stencil(x, ("t", 1, 2)), ("t", 3, 0), ("u", 1, 1)), ("t", 0, 1))
    ((leaf, part),) = reads(node, {"t": slice(50, 60), "u": slice(4, 5)})
    assert leaf is x
    assert part == {"t": slice(46, 63), "u": slice(3, 6)}
    assert halo(node) == {"t": 7, "u": 2}


def test_a_sum_reads_one_window_for_each_term():
    x = source(t=100, u=90)
    node = total([stencil(x, ("t", 1, 1)), stencil(x, ("u", 2, 2)), x])
    want = {"t": slice(50, 60), "u": slice(40, 50)}
    windows = [part for _, part in reads(node, want)]
    assert windows == [
        {"t": slice(49, 61), "u": slice(40, 50)},
        {"t": slice(50, 60), "u": slice(38, 52)},
        want,
    ]
    assert halo(node) == {"t": 2, "u": 4}


def test_adjoint_steps_read_to_the_other_side():
    x = source(t=100)
    want = {"t": slice(50, 60)}
    ((_, forward),) = reads(stencil(x, ("t", 3, 1)), want)
    ((_, adjoint),) = reads(stencil(x, ("t", 3, 1), adjoint=True), want)
    assert forward == {"t": slice(47, 61)}
    assert adjoint == {"t": slice(49, 63)}


def test_weights_that_are_sources_are_read_where_the_piece_lies():
    x, w = source(t=10, u=4), source(t=10)
    node = pointwise(x, "t", "u")
    weighed = dataclasses.replace(node.step, weights=(w,))
    node = Apply(weighed, False, x)
    want = {"t": slice(2, 5), "u": slice(0, 1)}
    found = dict(reads(node, want))
    assert found[x] == want
    assert found[w]["t"] == slice(2, 5)
    g = source(r=3, t=10)  # a matrix between two dims
    node = whole(x, {"t": 10}, {"r": 3}, rule=Contraction)
    weighed = dataclasses.replace(node.step, weights=(g,))
    want = {"r": slice(1, 2), "u": slice(0, 4)}
    found = dict(reads(Apply(weighed, False, x), want))
    assert {d: found[g][d] for d in g.dims} == {"r": slice(1, 2), "t": slice(0, 10)}


# --- what it costs ---------------------------------------------------------------------


@settings
@given(st.data())
def test_work_counts_the_samples_of_all_pieces(data):
    """Every step's piece, as it is asked for on the way down, once for each path."""
    drawn = data.draw(plans(longest=3))
    node = drawn.ends[-1]
    want = data.draw(window(dict(node.sizes)))

    def count(node, want):
        if isinstance(node, Source):
            return 0
        if isinstance(node, Apply):
            want = node.widened(want)  # what is made at once is made whole
        shape = [want[dim].stop - want[dim].start for dim in node.dims]
        if 0 in shape:
            return 0
        have = node.needs(want)
        return math.prod(shape) + sum(count(child, have) for child in node.children)

    assert work(node, want) == count(node, want)
    assert volume(want, node.dims) == math.prod(
        want[dim].stop - want[dim].start for dim in node.dims
    )


def test_work_of_overlapping_pieces():
    x = source(t=100)
    node = stencil(stencil(x, ("t", 5, 5)), ("t", 2, 2))
    assert work(node, {"t": slice(50, 60)}) == 10 + 14
    assert work(node, {"t": slice(0, 10)}) == 10 + 12
    assert work(x, {"t": slice(0, 10)}) == 0


@settings
@given(st.data())
def test_a_halo_is_what_pieces_inside_read_more(data):
    n = 60
    x = source(t=n, u=n)
    node = x
    for _ in range(data.draw(st.integers(1, 4))):
        dims = data.draw(st.lists(st.sampled_from("tu"), unique=True, min_size=1))
        few = st.integers(0, 4)
        node = stencil(
            node,
            *((dim, data.draw(few), data.draw(few)) for dim in dims),
            adjoint=data.draw(st.booleans()),
        )
    at = {dim: slice(n // 2, n // 2 + 5) for dim in "tu"}
    ((_, part),) = reads(node, at)
    extra = halo(node)
    for dim in "tu":
        assert part[dim].stop - part[dim].start == 5 + extra[dim]


# --- dims that are not cut --------------------------------------------------------------


def test_dims_whose_pieces_repeat_work():
    x = source(t=8, u=4)
    assert uncut(x) == frozenset()
    assert uncut(stencil(x, ("t", 1, 1))) == frozenset()
    f = whole(x, {"t": 8}, {"f": 5})
    assert uncut(f) == {"f"}
    assert uncut(pointwise(f, "f")) == {"f"}
    assert uncut(scan(x, "t")) == {"t"}
    # Back again, the frequencies are gone and all times are made at once.
    assert uncut(whole(f, {"t": 8}, {"f": 5}, adjoint=True)) == {"t"}
    assert uncut(total([stencil(x, ("u", 1, 1)), scan(x, "t")])) == {"t"}
    # A sum over a dim: pieces of what it makes read all, but compute nothing twice …
    g = whole(x, {"t": 8}, {"r": 3}, rule=Contraction)
    assert uncut(g) == frozenset()
    # … unless what it reads is computed too.
    above = whole(stencil(x, ("t", 1, 1)), {"t": 8}, {"r": 3}, rule=Contraction)
    assert uncut(above) == {"r"}


def test_pieces_are_widened_along_uncut_dims():
    x = source(t=8, u=4)
    node = scan(x, "t")
    want = {"t": slice(2, 4), "u": slice(1, 2)}
    assert node.widened(want) == {"t": slice(0, 8), "u": slice(1, 2)}
    everything = full(node.sizes)
    assert node.widened(everything) is everything
    plain = stencil(x, ("t", 1, 1))
    assert plain.widened(want) is want


# --- sums -------------------------------------------------------------------------------


def test_sums_in_sums_are_opened():
    x = source(t=8)
    one, two, three = (stencil(x, ("t", i, 0)) for i in range(3))
    node = total([total([one, two]), three])
    assert isinstance(node, Total)
    assert node.terms == (one, two, three)
    assert total([one]) is one
    assert total([total([one])]) is one


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32", "float32"], "float32"),
        (["float32", "float64"], "float64"),
        (["complex64", "float32"], "complex64"),
        (["complex64", "float64"], "complex128"),
        (["int16", "int16"], "float64"),
        (["bool", "float32"], "float64"),
    ],
)
def test_dtypes_of_sums(dtypes, expected):
    assert Total([source(dtype, t=3) for dtype in dtypes]).dtype == expected


def test_a_sum_has_the_order_of_its_first_term():
    node = total([source(t=3, u=2), source(u=2, t=3)])
    assert node.dims == ("t", "u")
    assert node.shape == (3, 2)


# --- numbers and real parts ---------------------------------------------------------------


def test_numbers_join_the_step_they_scale():
    x = source(t=8)
    node = stencil(x, ("t", 1, 1))
    twice = scaled(2.0, node)
    assert isinstance(twice, Apply)
    assert (twice.step, twice.child, twice.factor) == (node.step, x, 2.0)
    assert scaled(3.0, twice).factor == 6.0
    assert scaled(1.0, node) is node
    assert scaled(0.5, twice).factor == 1.0


@pytest.mark.parametrize(
    ("dtype", "number", "expected"),
    [
        ("float32", 2.0, "float32"),
        ("float32", 1j, "complex64"),
        ("float64", 1j, "complex128"),
        ("complex64", 2.0, "complex64"),
        ("int32", 2.0, "float64"),
        ("int32", 1j, "complex128"),
        (">f8", 2.0, "float64"),
    ],
)
def test_numbers_times_arrays(dtype, number, expected):
    node = scaled(number, source(dtype, t=3))
    assert node.dtype == expected
    assert node.dtype.isnative


@settings
@given(st.data())
def test_numbers_and_real_parts_of_plans(data):
    drawn = data.draw(plans(longest=2, dtypes=("float64", "complex128")))
    node, x = drawn.ends[-1], drawn.source
    values = np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
    reference = Reference({x: Array(values, x.dims)}, drawn.matrices)
    for number in (2.0, 1 - 2j):
        got = reference(scaled(number, node)).data
        expected = number * reference(node).data
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-300)
    part = real(node)
    assert part.dtype.kind != "c"
    assert (part is node) == (node.dtype.kind != "c")
    np.testing.assert_array_equal(reference(part).data, reference(node).data.real)


# --- banded sums ----------------------------------------------------------------------


def banded(node, dim, offsets, weights, factor=1.0):
    """A banded matrix as a step."""
    band = Band.constant(node.sizes[dim], offsets, weights)
    before, after = band.reach
    own = {dim: node.sizes[dim]}
    along = Step(
        name="band",
        token=lambda: "band",
        domain=own,
        range=own,
        window=Stencil({dim: Reach(own[dim], before, after)}),
        forward=Banded(((dim, band),)),
        adjoint=Banded(((dim, band.transposed),)),
    )
    return Apply(along, False, node, factor), band.dense()


def test_bands_of_one_source_are_one_pass():
    x = source(t=9, u=7)
    one, A = banded(x, "t", [-1, 0, 2], [1.0, 2.0, -3.0])
    two, B = banded(x, "u", [-2, 1], [0.5, 4.0], factor=-2.0)
    three, C = banded(x, "t", [0], [0.25])
    kernel, members = total([one, two, three]).banded
    assert members == (one, two, three)
    values = np.random.default_rng(0).standard_normal(x.shape)
    out = np.empty_like(values)
    kernel(Block(values, x.dims, full(x.sizes), full(x.sizes)), out)
    expected = (A + C) @ values - 2 * values @ B.T
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-14 * np.abs(expected).max())
    # A piece of it, from the box around what the terms read.
    have, want = {"t": slice(2, 9), "u": slice(0, 6)}, {"t": slice(3, 6), "u": slice(2, 5)}
    out = np.empty((3, 3))
    kernel(Block(values[2:9, 0:6], x.dims, have, want), out)
    np.testing.assert_allclose(
        out, expected[3:6, 2:5], rtol=0, atol=1e-14 * np.abs(expected).max()
    )


def test_bands_that_are_not_one_pass():
    x, other = source(t=9, u=7), source(t=9, u=7)
    one, _ = banded(x, "t", [1], [1.0])
    two, _ = banded(other, "t", [1], [1.0])
    three, _ = banded(one, "u", [1], [1.0])
    for terms in ([one, two], [one, three], [one, pointwise(x, "t")], [one, x]):
        assert total(terms).banded == (None, ())
    # Integers are turned into floats first: not one pass over the source.
    whole_numbers = source("int32", t=9)
    pair = [banded(whole_numbers, "t", [i], [1.0])[0] for i in (0, 1)]
    assert total(pair).banded == (None, ())


def test_scaled_bands():
    band = Band([0, 1], np.arange(8.0).reshape(2, 4))
    kernel = Banded((("t", band),))
    assert kernel.scaled(1.0) is kernel
    ((dim, twice),) = kernel.scaled(-2.0).terms
    assert dim == "t"
    np.testing.assert_array_equal(twice.dense(), -2 * band.dense())
    ((_, again),) = pickle.loads(pickle.dumps(kernel)).terms
    np.testing.assert_array_equal(again.dense(), band.dense())


# --- walking and changing plans -----------------------------------------------------------


def test_every_node_once():
    x = source(t=8)
    shared = stencil(x, ("t", 1, 1))
    node = total([shared, stencil(shared, ("t", 1, 0)), x])
    found = [*nodes(node)]
    assert found[0] is node
    assert sorted(map(id, found)) == sorted(map(id, [node, *node.terms[:2], x]))


def test_a_replaced_source_changes_all_above_it():
    x, y = source(t=8), source("float32", t=8)
    node = total([stencil(x, ("t", 1, 1), factor=2.0), stencil(x, ("t", 0, 1))])
    new = replaced(node, {x: y}.get)
    assert {n for n in nodes(new) if isinstance(n, Source)} == {y}
    assert new.dtype == np.float32
    assert [term.factor for term in new.terms] == [2.0, 1.0]
    assert [term.step for term in new.terms] == [term.step for term in node.terms]
    assert node.dtype == np.float64  # as it was


def test_a_dim_that_is_there_already():
    x = source(t=8, f=3)
    with pytest.raises(xl.LabelError, match="makes dim 'f', which the data have already"):
        whole(x, {"t": 8}, {"f": 5})
