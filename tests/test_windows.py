"""Windows: which piece of the input a piece of the output needs, against brute force."""

import itertools
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.steps import RULES, cases, cut, piece, sizes_of, window
from xlops.windows.pieces import (
    Array,
    Block,
    Grid,
    floating,
    full,
    of_kind,
    placed,
    shape_of,
)
from xlops.windows.rules import (
    Contraction,
    Padding,
    Permutation,
    Pointwise,
    Reach,
    Reversal,
    Scan,
    Scatter,
    Selection,
    Stencil,
    Whole,
)

given = hypothesis.given
settings = hypothesis.settings(
    max_examples=25, deadline=None, derandomize=True, database=None
)


def chunked(smallest=1, largest=12):
    """Chunks of a dim of any size."""
    return st.integers(smallest, largest).flatmap(cut)


def extent(part, size):
    """The samples of a range."""
    return np.arange(size)[part].tolist()


def hull(found):
    """The box around the samples that are read, by axis."""
    for axis in range(found.ndim):
        others = tuple(i for i in range(found.ndim) if i != axis)
        (at,) = np.nonzero(found.any(axis=others))
        yield (int(at[0]), int(at[-1]) + 1) if at.size else None


@st.composite
def acting(draw, kind):
    """A rule of some kind and a direction."""
    adjoint = draw(st.booleans())
    return draw(cases(kind, draw(sizes_of()), adjoint)), adjoint


every_rule = pytest.mark.parametrize("kind", RULES)


# --- all rules ------------------------------------------------------------------------


@every_rule
@settings
@given(st.data())
def test_what_a_piece_reads_is_in_what_it_needs(kind, data):
    case, adjoint = data.draw(acting(kind))
    given_sizes, made = case.sides(adjoint)
    want = data.draw(window(made))
    needed = case.rule.needs(want, adjoint)
    assert set(needed) == set(given_sizes)
    found = case.read(want, adjoint)
    empty = [part.start == part.stop for part in needed.values()]
    assert any(empty) == (not found.any()) or not case.exact
    boxes = hull(found)
    for (dim, size), box in zip(given_sizes.items(), boxes, strict=True):
        part = needed[dim]
        assert type(part.start) is type(part.stop) is int
        assert part.step is None
        assert 0 <= part.start <= part.stop <= size
        if box is None:
            continue  # nothing is read at all
        if case.exact:
            assert (part.start, part.stop) == box
        else:
            assert part.start <= box[0]
            assert box[1] <= part.stop


@every_rule
@settings
@given(st.data())
def test_chunks_cut_all_of_the_output(kind, data):
    case, adjoint = data.draw(acting(kind))
    given_sizes, made = case.sides(adjoint)
    chunks = {dim: data.draw(cut(size)) for dim, size in given_sizes.items()}
    cuts = case.rule.chunks(chunks, adjoint)
    assert set(cuts) >= set(made)
    for dim, size in made.items():
        assert sum(cuts[dim]) == size
        assert min(cuts[dim]) > 0
        assert all(type(count) is int for count in cuts[dim])
        assert len(cuts[dim]) <= len(chunks.get(dim, (1,)))  # never more chunks


@every_rule
@settings
@given(st.data())
def test_what_rules_say_of_whole_dims(kind, data):
    case, adjoint = data.draw(acting(kind))
    rule = case.rule
    given_sizes, made = case.sides(adjoint)
    whole, uncut = rule.whole(adjoint), rule.uncut(adjoint)
    assert whole <= set(given_sizes)
    assert uncut <= set(made)
    assert rule.adds(adjoint) <= whole
    along = rule.scans(adjoint)
    if along is not None:
        assert along in whole
        assert along in uncut
        return
    want = data.draw(window(made))
    needed = rule.needs(want, adjoint)
    for dim in whole:
        assert needed[dim] == slice(0, given_sizes[dim])
    # A dim that is not needed whole is in no way tied to dims of other names.
    for dim in given_sizes.keys() - whole:
        assert rule.needs({**full(made), dim: want[dim]}, adjoint)[dim] == needed[dim]
    # Partial results add up to the whole: nothing else ties their samples together.
    for dim in rule.adds(adjoint):
        assert dim not in made


@every_rule
@settings
@given(st.data())
def test_a_part_of_a_piece_needs_no_more(kind, data):
    """Tiles of a chunk read what was read for the chunk."""
    case, adjoint = data.draw(acting(kind))
    _, made = case.sides(adjoint)
    want = data.draw(window(made))
    inner = {
        dim: slice(part.start + inside.start, part.start + inside.stop)
        for dim, part in want.items()
        for inside in [data.draw(piece(part.stop - part.start))]
    }
    both = case.rule.needs(want, adjoint)
    for dim, part in case.rule.needs(inner, adjoint).items():
        if part.start < part.stop:
            assert both[dim].start <= part.start
            assert part.stop <= both[dim].stop


@every_rule
@settings
@given(st.data())
def test_rules_do_not_change_what_they_are_given(kind, data):
    case, adjoint = data.draw(acting(kind))
    given_sizes, made = case.sides(adjoint)
    want, chunks = full(made), {dim: (size,) for dim, size in given_sizes.items()}
    case.rule.needs(want, adjoint)
    case.rule.chunks(chunks, adjoint)
    assert want == full(made)
    assert chunks == {dim: (size,) for dim, size in given_sizes.items()}


# --- one by one -----------------------------------------------------------------------


@settings
@given(st.booleans(), chunked())
def test_rules_that_keep_chunks(adjoint, chunks):
    n = sum(chunks)
    for rule in (Pointwise(), Stencil({"x": Reach(n, 2, 1)}), Scan("x", n)):
        assert rule.chunks({"x": chunks}, adjoint)["x"] == chunks


def test_stencils_reach_to_the_other_side_in_the_adjoint():
    rule = Stencil({"x": Reach(20, 3, 1), "y": Reach(20, 0, 2)})
    want = {"x": slice(5, 6), "y": slice(10, 12)}
    assert rule.needs(want, False) == {"x": slice(2, 7), "y": slice(10, 14)}
    assert rule.needs(want, True) == {"x": slice(4, 9), "y": slice(8, 12)}


@settings
@given(st.data(), chunked())
def test_a_selection_keeps_each_chunks_part(data, chunks):
    """No chunk of the result needs more than one of the data, in either direction."""
    size = sum(chunks)
    indices = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
    rule = Selection("x", size, np.array(indices))
    for adjoint, given_chunks in (
        (False, chunks),
        (True, data.draw(cut(len(indices)))),
    ):
        made = rule.chunks({"x": given_chunks}, adjoint)["x"]
        for start, stop in itertools.pairwise(np.cumsum((0, *made)).tolist()):
            needed = rule.needs({"x": slice(start, stop)}, adjoint)["x"]
            assert len(Grid(given_chunks).cover(needed)) == 1


@settings
@given(st.data(), chunked())
def test_samples_chosen_from_a_range(data, chunks):
    size = sum(chunks)
    indices = sorted(data.draw(st.lists(st.integers(0, size - 1), min_size=1)))
    part = data.draw(piece(size))
    first, end = Selection("x", size, np.array(indices)).chosen_in(part)
    inside = [i for i, at in enumerate(indices) if part.start <= at < part.stop]
    assert list(range(first, end)) == inside


@settings
@given(chunked(), st.integers(0, 4), st.integers(0, 4))
def test_padding_adds_to_the_first_and_last_chunk(chunks, before, after):
    rule = Padding({"x": Reach(sum(chunks), before, after)})
    made = rule.chunks({"x": chunks}, False)["x"]
    expected = list(chunks)
    expected[0] += before
    expected[-1] += after
    assert made == tuple(expected)
    assert rule.chunks({"x": made}, True)["x"] == chunks


def test_zeros_need_nothing():
    rule = Padding({"x": Reach(5, 3, 2)})
    for piece_of_zeros in (slice(0, 3), slice(1, 2), slice(8, 10)):
        needed = rule.needs({"x": piece_of_zeros}, False)["x"]
        assert needed.start == needed.stop
    rule = Selection("x", 9, np.array([2, 6]))
    needed = rule.needs({"x": slice(3, 6)}, True)["x"]
    assert needed.start == needed.stop


def test_reversal_reverses_chunks():
    rule = Reversal("x", 9)
    assert rule.chunks({"x": (2, 3, 4)}, False) == {"x": (4, 3, 2)}
    assert rule.needs({"x": slice(0, 4)}, False) == {"x": slice(5, 9)}


def test_whole_dims_come_in_one_chunk():
    rule = Whole({"x": 5, "y": 2}, {"f": 3})
    assert rule.chunks({"x": (2, 3), "y": (1, 1)}, adjoint=False) == {"f": (3,)}
    assert rule.chunks({"f": (1, 2)}, adjoint=True) == {"x": (5,), "y": (2,)}
    assert rule.whole(adjoint=False) == rule.uncut(adjoint=True) == {"x", "y"}
    assert rule.whole(adjoint=True) == rule.uncut(adjoint=False) == {"f"}
    assert not rule.adds(False) | rule.adds(True)


def test_permutations_read_all_and_repeat_no_work():
    order = np.array([2, 0, 3, 1])
    rule = Permutation({"x": 4}, {"x": 4}, order)
    assert rule.whole(False) == rule.whole(True) == {"x"}
    assert not rule.uncut(False) | rule.uncut(True)
    x = np.arange(4.0)
    np.testing.assert_array_equal(x[rule.order(False)][rule.order(True)], x)
    np.testing.assert_array_equal(rule.order(False), order)


def test_contractions_cut_what_they_share():
    rule = Contraction({"f": 3, "s": 4}, {"f": 3, "r": 5})
    want = {"f": slice(1, 2), "r": slice(2, 4)}
    assert rule.needs(want, False) == {"f": slice(1, 2), "s": slice(0, 4)}
    assert rule.whole(False) == rule.adds(False) == {"s"}
    assert rule.whole(True) == rule.adds(True) == {"r"}
    assert not rule.uncut(False) | rule.uncut(True)
    chunks = {"f": (1, 2), "s": (2, 2), "r": (5,)}
    assert rule.chunks(chunks, False) == {"f": (1, 2), "r": (5,)}


def test_scatters_cut_what_they_share():
    """Times of the model and times of the data have one name, and are others."""
    domain, range_ = {"f": 3, "t": 4}, {"f": 3, "r": 5, "t": 9}
    rule = Scatter(domain, range_, frozenset("f"), frozenset("t"))
    want = {"f": slice(1, 2), "r": slice(2, 4), "t": slice(0, 9)}
    assert rule.needs(want, False) == {"f": slice(1, 2), "t": slice(0, 4)}
    back = {"f": slice(0, 1), "t": slice(2, 3)}
    assert rule.needs(back, True) == {"f": slice(0, 1), "r": slice(0, 5), "t": slice(0, 9)}
    assert rule.near(back, want) == {"f": slice(0, 1), "r": slice(2, 4), "t": slice(2, 3)}
    assert rule.whole(False) == rule.adds(False) == {"t"}
    assert rule.whole(True) == rule.adds(True) == {"r", "t"}
    assert (rule.uncut(False), rule.uncut(True)) == ({"t"}, frozenset())
    assert (rule.first(False), rule.first(True)) == ({"f", "r"}, {"f", "t"})
    assert rule.samples == 3 * 4 * 5
    chunks = {"f": (1, 2), "t": (2, 2)}
    assert rule.chunks(chunks, False) == {"f": (1, 2), "r": (5,), "t": (9,)}


@pytest.mark.parametrize("batch", [1, 1000])
def test_partial_results_of_scatters_are_not_large(batch):
    """Dims that are landed on stay in one piece; chunks of all that passes count too."""
    sizes = {"r": 3000, "s": 70, "t": 1001}
    rule = Scatter({"x": 4}, sizes, frozenset(), frozenset("t"))
    cuts = rule.chunks({"x": (4,), "b": (batch, 1)}, False)
    assert cuts["t"] == (1001,)
    assert {dim: sum(cut) for dim, cut in cuts.items()} == sizes
    largest = [batch * max(r, 1) * s * 1001 for r in cuts["r"] for s in cuts["s"]]
    assert max(largest) <= 2**22
    assert max(largest) > 2**20
    back = rule.chunks({dim: (n,) for dim, n in sizes.items()}, True)
    assert back == {"x": (4,)}


def test_scans_run_along_their_dim():
    rule = Scan("x", 9)
    assert rule.needs({"x": slice(3, 5)}, False) == {"x": slice(0, 5)}
    assert rule.needs({"x": slice(3, 5)}, True) == {"x": slice(3, 9)}
    assert rule.scans(False) == rule.scans(True) == "x"
    assert not rule.adds(False) | rule.adds(True)


# --- covering pieces by chunks ----------------------------------------------------------


@settings
@given(chunked())
def test_a_grid_is_its_chunks(chunks):
    grid = Grid(chunks)
    assert len(grid) == len(chunks)
    samples = [extent(grid[i], sum(chunks)) for i in range(len(grid))]
    assert [len(s) for s in samples] == list(chunks)
    assert [*itertools.chain(*samples)] == [*range(sum(chunks))]


@settings
@given(st.data(), chunked())
def test_cover_of_a_range(data, chunks):
    part = data.draw(piece(sum(chunks)))
    found = Grid(chunks).cover(part)
    starts = np.cumsum((0, *chunks))
    laid = [
        np.arange(starts[i], starts[i + 1])[slice(None) if inside is None else inside]
        for i, inside in found
    ]
    assert np.concatenate(laid).tolist() == extent(part, sum(chunks))
    # Each chunk once, in order, none for nothing, and whole ones are not cut.
    used = [i for i, _ in found]
    owner = np.repeat(np.arange(len(chunks)), chunks)
    assert used == sorted({int(owner[sample]) for sample in extent(part, sum(chunks))})
    for i, inside in found:
        assert inside is None or 0 < inside.stop - inside.start < chunks[i]


@settings
@given(chunked())
def test_cover_of_everything_cuts_nothing(chunks):
    whole = [(i, None) for i in range(len(chunks))]
    assert Grid(chunks).cover(slice(0, sum(chunks))) == whole


def test_a_grid_of_many_chunks_is_searched():
    grid = Grid((3,) * 100_000)
    assert grid.cover(slice(299_996, 300_000)) == [(99_998, slice(2, 3)), (99_999, None)]


# --- arrays, blocks, dtypes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "given", "made", "expected"),
    [
        ("abc", "b", "b", "abc"),
        ("abc", "b", "f", "afc"),
        ("abc", "ac", "f", "fb"),
        ("abc", "ca", "fg", "fgb"),
        ("abc", "bc", "cf", "afc"),
        ("abc", "", "f", "abcf"),
        ("abc", "b", "bf", "abcf"),
        ("abc", "bc", "b", "ab"),
        ("abc", "ab", "bfg", "fgbc"),
        ("abc", "abc", "", ""),
        ("", "", "fg", "fg"),
    ],
)
def test_order_of_dims(dims, given, made, expected):
    assert placed(tuple(dims), tuple(given), tuple(made)) == tuple(expected)


@settings
@given(st.data())
def test_dims_that_pass_keep_their_order(data):
    dims = data.draw(st.permutations("abcd"))
    consumed = data.draw(st.sets(st.sampled_from(dims)))
    made = tuple(data.draw(st.sets(st.sampled_from([*consumed, "x", "y"]))))
    result = placed(tuple(dims), consumed, made)
    assert sorted(result) == sorted({*dims} - consumed | {*made})
    stay = [dim for dim in dims if dim not in consumed or dim in made]
    assert [dim for dim in result if dim in stay] == stay
    new = [dim for dim in made if dim not in consumed]
    assert [dim for dim in result if dim in new] == new
    if new:
        at = result.index(new[0])
        assert result[at : at + len(new)] == tuple(new)  # side by side


def test_array_is_reordered_without_a_copy():
    array = Array(np.arange(24).reshape(2, 3, 4), ("a", "b", "c"))
    other = array.ordered(("c", "a", "b"))
    assert other.dims == ("c", "a", "b")
    assert other.sizes == {"c": 4, "a": 2, "b": 3}
    assert np.shares_memory(other.data, array.data)
    assert array.ordered(array.dims) is array
    np.testing.assert_array_equal(other.ordered(array.dims).data, array.data)


@pytest.mark.parametrize("order", ["bc", "cb", "b", "c", "", "abc"])
def test_block_shapes_its_weights_to_multiply(order):
    sizes = {"a": 2, "b": 3, "c": 4}
    data = np.ones(tuple(sizes.values()))
    shape = [sizes[dim] for dim in order]
    weights = np.arange(1.0, 1 + math.prod(shape)).reshape(shape)
    block = Block(data, tuple(sizes), {}, {}, (Array(weights, tuple(order)),))
    expected = np.einsum(f"abc,{order}->abc", data, weights)
    np.testing.assert_array_equal(data * block.weight(), expected)


def test_shapes_of_windows():
    sizes = {"a": 4, "b": 3}
    assert full(sizes) == {"a": slice(0, 4), "b": slice(0, 3)}
    assert shape_of(full(sizes), ("b", "a")) == (3, 4)
    assert shape_of({"a": slice(1, 3)}, ("a",)) == (2,)
    assert shape_of({}, ()) == ()


@pytest.mark.parametrize(
    ("dtype", "real", "is_complex"),
    [
        ("float32", "float32", "complex64"),
        ("float64", "float64", "complex128"),
        ("complex64", "float32", "complex64"),
        ("complex128", "float64", "complex128"),
        ("int16", "float64", "complex128"),
        ("bool", "float64", "complex128"),
        ("float16", "float32", "complex64"),
        (">f2", "float32", "complex64"),
    ],
)
def test_dtypes(dtype, real, is_complex):
    inner = floating(np.dtype(dtype))
    assert of_kind(inner, "any") == inner
    assert of_kind(inner, "real") == real
    assert of_kind(inner, "complex") == is_complex
    assert inner.kind in "fc"
