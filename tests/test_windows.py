"""Windows: which piece of the input a piece of the output needs, against brute force."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from xlops.windows import (
    Array,
    Block,
    Grid,
    Pointwise,
    Selection,
    Stencil,
    Whole,
    floating,
    full,
    of_kind,
    placed,
)

given = hypothesis.given
settings = hypothesis.settings(
    max_examples=60, deadline=None, derandomize=True, database=None
)


# --- pieces by brute force ------------------------------------------------------------


def extent(piece, size):
    """The samples of a range or of indices, in their order."""
    return np.arange(size)[piece].tolist()


@st.composite
def chunked(draw, size=None):
    """A size cut into chunks."""
    size = draw(st.integers(1, 12)) if size is None else size
    at = draw(st.sets(st.integers(1, size))) | {0, size}
    return tuple(np.diff(sorted(at)).tolist())


@st.composite
def pieces(draw, size):
    """A range that is not empty."""
    start = draw(st.integers(0, size - 1))
    return slice(start, draw(st.integers(start + 1, size)))


def read(rows, matrix):
    """The columns that some rows of a matrix of booleans use."""
    return np.flatnonzero(matrix[rows].any(axis=0)).tolist()


# --- stencil --------------------------------------------------------------------------


def banded(size, before, after):
    """Which samples each sample of a stencil's output reads."""
    i, j = np.indices((size, size))
    return (j >= i - before) & (j <= i + after)


@settings
@given(st.data(), st.integers(1, 12), st.integers(0, 4), st.integers(0, 4))
def test_stencil_needs_what_its_rows_read(data, size, before, after):
    window, matrix = Stencil("x", size, before, after), banded(size, before, after)
    piece = data.draw(pieces(size))
    (dim,) = forward = window.needs({"x": piece}, adjoint=False)
    adjoint = window.needs({"x": piece}, adjoint=True)
    assert dim == "x"
    assert extent(forward["x"], size) == read(piece, matrix)
    assert extent(adjoint["x"], size) == read(piece, matrix.T)


@settings
@given(st.booleans(), chunked())
def test_stencil_keeps_chunks(adjoint, chunks):
    window = Stencil("x", sum(chunks), 2, 1)
    assert window.chunks({"x": chunks}, adjoint) == {"x": chunks}
    assert window.whole(adjoint) == frozenset()


# --- selection ------------------------------------------------------------------------


def chosen(size, indices):
    """Which samples each sample of a selection is."""
    return np.arange(size) == np.array(indices)[:, None]


indices_of = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.just(size), st.lists(st.integers(0, size - 1), min_size=1, max_size=9)
    )
)


@settings
@given(st.data(), indices_of)
def test_selection_needs_what_its_rows_read(data, case):
    size, indices = case
    window, matrix = Selection("x", size, np.array(indices)), chosen(size, indices)

    piece = data.draw(pieces(len(indices)))
    needed = window.needs({"x": piece}, adjoint=False)["x"]
    assert extent(needed, size) == indices[piece]  # in the order of the output

    piece = data.draw(pieces(size))
    needed = window.needs({"x": piece}, adjoint=True)["x"]
    assert extent(needed, len(indices)) == read(piece, matrix.T)


@settings
@given(st.data(), indices_of)
def test_selection_cuts_all_of_its_output(data, case):
    size, indices = case
    window = Selection("x", size, np.array(indices))
    for adjoint, before, after in ((False, size, len(indices)), (True, len(indices), size)):
        chunks = data.draw(chunked(before))
        made = window.chunks({"x": chunks}, adjoint)["x"]
        assert sum(made) == after
        assert min(made) > 0
        assert len(made) <= len(chunks)
    assert window.whole(False) == window.whole(True) == frozenset()


@settings
@given(st.data(), indices_of)
def test_sorted_selection_keeps_each_chunks_part(data, case):
    """No chunk of the result needs more than one of the data, in either direction."""
    size, indices = case
    indices = sorted(set(indices))
    window = Selection("x", size, np.array(indices))
    for adjoint in (False, True):
        chunks = data.draw(chunked(len(indices) if adjoint else size))
        made = window.chunks({"x": chunks}, adjoint)["x"]
        for start, stop in itertools.pairwise(np.cumsum((0, *made)).tolist()):
            needed = window.needs({"x": slice(start, stop)}, adjoint)["x"]
            assert len(Grid(chunks).cover(needed)[0]) == 1


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("indices", [[5, 3], [3, 5], [9, 0, 9], list(range(10))[::-1]])
def test_selection_never_makes_more_chunks(indices, adjoint):
    window = Selection("x", 10, np.array(indices))
    size = len(indices) if adjoint else 10
    for count in range(1, size + 1):
        chunks = tuple(map(len, np.array_split(np.arange(size), count)))
        assert len(window.chunks({"x": chunks}, adjoint)["x"]) <= count


# --- pointwise and whole --------------------------------------------------------------


@settings
@given(st.booleans(), chunked())
def test_pointwise_needs_the_same(adjoint, chunks):
    window, piece = Pointwise(), {"x": slice(2, 5), "y": slice(0, 1)}
    assert window.needs(piece, adjoint) == piece
    assert window.chunks({"x": chunks, "y": (1, 1)}, adjoint) == {"x": chunks, "y": (1, 1)}
    assert window.whole(adjoint) == frozenset()


def test_whole_needs_everything():
    window = Whole({"x": 5, "y": 2}, {"f": 3})
    assert window.needs({"f": slice(1, 2)}, adjoint=False) == full({"x": 5, "y": 2})
    assert window.needs({"x": slice(1, 2), "y": slice(0, 2)}, adjoint=True) == full(
        {"f": 3}
    )
    assert window.chunks({"x": (2, 3), "y": (1, 1)}, adjoint=False) == {"f": (3,)}
    assert window.chunks({"f": (1, 2)}, adjoint=True) == {"x": (5,), "y": (2,)}
    assert window.whole(adjoint=False) == {"x", "y"}
    assert window.whole(adjoint=True) == {"f"}


# --- covering pieces by chunks ----------------------------------------------------------


@settings
@given(chunked())
def test_grid_is_the_chunks(chunks):
    grid = Grid(chunks)
    assert len(grid) == len(chunks)
    samples = [extent(grid[i], sum(chunks)) for i in range(len(grid))]
    assert [len(s) for s in samples] == list(chunks)
    assert [*itertools.chain(*samples)] == [*range(sum(chunks))]


def gathered(chunks, found):
    """The samples that chunks and parts of them make, laid end to end and reordered."""
    parts, order = found
    starts = np.cumsum((0, *chunks))
    whole = slice(None)
    laid = [
        np.arange(starts[i], starts[i + 1])[whole if part is None else part]
        for i, part in parts
    ]
    result = np.concatenate(laid)
    return (result if order is None else result[order]).tolist()


@settings
@given(st.data(), chunked())
def test_cover_of_a_range(data, chunks):
    piece = data.draw(pieces(sum(chunks)))
    found = Grid(chunks).cover(piece)
    assert gathered(chunks, found) == extent(piece, sum(chunks))
    assert found[1] is None
    assert_tight(chunks, found, extent(piece, sum(chunks)))


@settings
@given(st.data(), chunked())
def test_cover_of_indices(data, chunks):
    indices = data.draw(st.lists(st.integers(0, sum(chunks) - 1), min_size=1, max_size=9))
    found = Grid(chunks).cover(np.array(indices))
    assert gathered(chunks, found) == indices
    assert_tight(chunks, found, indices)
    if indices == sorted(indices):
        assert found[1] is None


@settings
@given(chunked())
def test_cover_of_everything_cuts_nothing(chunks):
    whole = [(i, None) for i in range(len(chunks))]
    assert Grid(chunks).cover(slice(0, sum(chunks))) == (whole, None)
    assert Grid(chunks).cover(np.arange(sum(chunks))) == (whole, None)


@settings
@given(chunked())
def test_cover_of_no_indices_is_an_empty_piece(chunks):
    found = Grid(chunks).cover(np.array([], dtype=np.intp))
    assert len(found[0]) == 1
    assert gathered(chunks, found) == []


def assert_tight(chunks, found, samples):
    """Each chunk once, in order, and none that holds nothing of what is asked for."""
    owner = np.repeat(np.arange(len(chunks)), chunks)
    used = [i for i, _ in found[0]]
    assert used == sorted({int(owner[sample]) for sample in samples})


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


def test_array_is_reordered_without_a_copy():
    array = Array(np.arange(24).reshape(2, 3, 4), ("a", "b", "c"))
    turned = array.ordered(("c", "a", "b"))
    assert turned.dims == ("c", "a", "b")
    assert turned.sizes == {"c": 4, "a": 2, "b": 3}
    assert np.shares_memory(turned.data, array.data)
    assert array.ordered(array.dims) is array
    np.testing.assert_array_equal(turned.ordered(array.dims).data, array.data)


@pytest.mark.parametrize("dim", ["a", "b", "c"])
def test_block_as_rows(dim):
    data = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    block = Block(data, ("a", "b", "c"), {}, {})
    rows, at = block.rows(dim)
    assert at == "abc".index(dim)
    assert rows.flags.c_contiguous
    assert rows.shape[1] == data.shape[at]
    np.testing.assert_array_equal(rows.reshape(data.shape), data)


@pytest.mark.parametrize("order", ["bc", "cb", "b", "c", "", "abc"])
def test_block_shapes_its_weights_to_multiply(order):
    sizes = {"a": 2, "b": 3, "c": 4}
    data = np.ones(tuple(sizes.values()))
    shape = [sizes[dim] for dim in order]
    weights = np.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape)
    block = Block(data, tuple(sizes), {}, {}, (Array(weights, tuple(order)),))
    expected = np.einsum(f"abc,{order}->abc", data, weights)
    np.testing.assert_array_equal(data * block.weight(), expected)


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


# --- a plan of windows is enough to run an operator ---------------------------------------


@settings
@given(st.data())
def test_pieces_make_the_whole(data):
    """Rows made chunk by chunk, from what `needs` and `cover` say, are all rows."""
    size = data.draw(st.integers(1, 10))
    rng = np.random.default_rng(size)
    if data.draw(st.booleans()):
        before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
        window = Stencil("x", size, before, after)
        matrix = banded(size, before, after) * rng.standard_normal((size, size))
    else:
        indices = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9))
        window = Selection("x", size, np.array(indices))
        matrix = chosen(size, indices).astype(float)
    for adjoint in (False, True):
        whole = matrix.T if adjoint else matrix
        x = rng.standard_normal(whole.shape[1])
        chunks = data.draw(chunked(len(x)))
        made = window.chunks({"x": chunks}, adjoint)["x"]
        y = []
        for start, stop in itertools.pairwise(np.cumsum((0, *made)).tolist()):
            needed = window.needs({"x": slice(start, stop)}, adjoint)["x"]
            piece = gathered(chunks, Grid(chunks).cover(needed))
            rows = whole[start:stop][:, piece]
            if not adjoint and isinstance(window, Selection):
                y.append(x[piece])  # the rows themselves, in their order
            else:
                y.append(rows @ x[piece])
        np.testing.assert_allclose(np.concatenate(y), whole @ x, rtol=1e-13, atol=1e-13)
