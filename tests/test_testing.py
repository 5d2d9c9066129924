"""The checks for operators find what is wrong with bad ones."""

import functools
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
import xarray as xr

import xlops as xl
from xlops.algebra import Scaled
from xlops.elementary import Elementary
from xlops.windows.rules import Pointwise, Whole


@pytest.fixture
def x():
    rng = np.random.default_rng(2)
    return xr.DataArray(
        rng.standard_normal((3, 8)),
        dims=("trace", "time"),
        coords={
            "time": ("time", 0.5 * np.arange(8), {"units": "s"}),
            "trace": [5, 6, 8],
            "day": ("time", np.arange(8)),
        },
    )


def on_time(x, forward, adjoint, *, domain=None, range_=None, **kwargs):
    """An operator along time made of two kernels, right or wrong."""
    space = xl.Space.of(x.time)
    return Elementary(
        domain or space,
        range_ or space,
        window=Pointwise(),
        forward=forward,
        adjoint=adjoint,
        params={"kernels": repr((forward, adjoint))},
        name="suspect",
        **kwargs,
    )


def turned(x, back):
    """Multiplication by i, with a factor of the adjoint that may be wrong."""
    space = xl.Space.of(x.time, kind="complex")
    forward, adjoint = functools.partial(times, 1j), functools.partial(times, back)
    return on_time(x, forward, adjoint, domain=space, range_=space)


def times(factor, block, out):
    out[...] = block.data * factor


def same(block, out):
    out[...] = block.data


# --- good ones ------------------------------------------------------------------------


def good(x):
    D, F = xl.FirstDerivative(x.time), xl.FFT(x.time)
    return [
        D,
        D.H,
        F,
        F.H,
        xl.FFT(x.time, real=True, nfft=5),
        xl.Restriction(x.time, [1, 1, 4]),
        xl.Diagonal(x),
        xl.Diagonal(x * (1 + 2j)),
        xl.Mask(x > 0),
        xl.Zero(x),
        (2 - 1j) * F,
        D @ D + D @ D,
        xl.VStack({"a": D, "b": 2 * D}),
        xl.VStack({"a": D, "b": 2 * D}).H,
        on_time(x, same, same),
        turned(x, -1j),
    ]


def test_good_operators_pass(x):
    for A in good(x):
        assert xl.dottest(A) is True
        assert xl.dottest(A, like=x) is True
        assert xl.dottest(A, like=x.chunk(trace=2, time=3), seed=9) is True
        xl.testing.assert_linear(A)
        xl.testing.assert_linear(A, like=x)
        xl.testing.assert_linear(A, like=x.chunk(trace=2, time=3))


def test_good_operators_pass_in_single_precision(x):
    for A in good(x):
        assert xl.dottest(A, like=x.astype("f4"))


def test_good_operators_pass_on_complex_data(x):
    for A in good(x):
        assert xl.dottest(A, like=x.astype("c16"))
        xl.testing.assert_linear(A, like=x.astype("c16"))


def test_dims_in_any_order(x):
    for order in (("time", "trace"), ("trace", "time")):
        assert xl.dottest(xl.FFT(x.time), like=x.transpose(*order))


def test_own_dims_of_like_do_not_matter(x):
    # Only what passes through is taken from it.
    other = x.isel(time=slice(3)).assign_coords(day=("time", [7, 7, 7]))
    assert xl.dottest(xl.FirstDerivative(x.time), like=other)
    xl.testing.assert_linear(xl.FirstDerivative(x.time), like=other)


def test_same_seed_same_numbers(x):
    seen = []

    def kernel(block, out):
        seen.append(block.data.copy())
        out[...] = block.data

    A = on_time(x, kernel, kernel)
    for seed in (3, 3, 4):
        xl.dottest(A, like=x, seed=seed)
    one, two, three = seen[:2], seen[2:4], seen[4:]
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    # both vectors are random, and not the same
    assert not np.array_equal(one[0], one[1])


# --- wrong adjoints -------------------------------------------------------------------


def shifted(block, out):
    out[...] = np.roll(block.data, 1, axis=block.dims.index("time"))


BAD_ADJOINTS = {
    "factor": (functools.partial(times, 2.0), same),
    "sign": (functools.partial(times, 2.0), functools.partial(times, -2.0)),
    "slight": (same, functools.partial(times, 1 + 1e-10)),
    "shifted": (same, shifted),
    "shifted the wrong way": (shifted, shifted),
    "zero": (same, functools.partial(times, 0.0)),
    "nan": (same, functools.partial(times, np.nan)),
}


@pytest.mark.parametrize("how", BAD_ADJOINTS)
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_wrong_adjoints_are_found(x, how, lazy):
    A = on_time(x, *BAD_ADJOINTS[how])
    like = x.chunk(trace=2) if lazy else x
    good = xl.Identity(x.time)
    for operator in (A, A.H, 3 * A, good @ A, A + good, xl.VStack({"g": good, "b": A})):
        with pytest.raises(AssertionError, match="dot test") as caught:
            xl.dottest(operator, like=like)
        assert str(operator) in str(caught.value)
        assert len(str(caught.value)) < 600


def test_wrong_imaginary_part_is_found(x):
    for like in (None, x, x.astype(complex)):
        assert xl.dottest(turned(x, -1j), like=like)
        with pytest.raises(AssertionError, match="suspect fails"):
            xl.dottest(turned(x, 1j), like=like)


def conjugated(block, out):
    out[...] = np.conj(block.data)


def test_conjugation_is_linear_over_real_numbers_only(x):
    like = x.astype(complex)
    honest = on_time(x, conjugated, conjugated, clinear=False)
    assert xl.dottest(honest, like=like)
    xl.testing.assert_linear(honest, like=like)
    wrong = on_time(x, conjugated, conjugated)
    with pytest.raises(AssertionError, match="imaginary"):
        xl.dottest(wrong, like=like)
    with pytest.raises(AssertionError, match="not linear"):
        xl.testing.assert_linear(wrong, like=like)


def test_tolerance(x):
    slightly = on_time(x, same, functools.partial(times, 1 + 1e-8))
    with pytest.raises(AssertionError):
        xl.dottest(slightly, like=x)
    assert xl.dottest(slightly, like=x, tol=1e-6)
    with pytest.raises(AssertionError):
        xl.dottest(slightly, like=x, tol=1e-10)
    rounded = on_time(x, same, functools.partial(times, 1 + 1e-3))
    with pytest.raises(AssertionError):
        xl.dottest(rounded, like=x.astype("f4"))


def test_zero_operators_are_fine(x):
    assert xl.dottest(
        on_time(x, functools.partial(times, 0.0), functools.partial(times, 0))
    )


def test_orthogonal_vectors_do_not_hide_errors(x):
    # The bound counts both ways, not their inner product.
    projected = xl.Mask(x.time < 0)
    A = on_time(x, same, functools.partial(times, 2.0))
    with pytest.raises(AssertionError):
        xl.dottest(A + projected, like=x)


# --- wrong labels ---------------------------------------------------------------------


class Mislabeled(Scaled):
    """An operator whose results lose or change labels."""

    def __init__(self, operator, change):
        super().__init__(operator, 1.0)
        self.change = change
        self.name = "mislabeled"

    def apply(self, x):
        return self.change(super().apply(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.drop_vars("time"),
        lambda y: y.drop_vars("day"),
        lambda y: y.assign_coords(time=("time", y.time.values + 1e-12, y.time.attrs)),
        lambda y: y.assign_coords(time=("time", y.time.values)),
        lambda y: y.assign_coords(time=("time", y.time.values.astype("f4"), y.time.attrs)),
        lambda y: y.assign_coords(day=("time", np.arange(8) + 1)),
        lambda y: y.transpose("trace", "time"),
    ],
    ids=["dropped", "aux", "drift", "attrs", "dtype", "aux changed", "order"],
)
def test_wrong_labels_are_found(x, change):
    A = Mislabeled(xl.Identity(x.time), change)
    with pytest.raises(AssertionError, match="mislabeled"):
        xl.dottest(A, like=x)


def test_wrong_labels_of_the_adjoint_are_found(x):
    class Turned(Mislabeled):
        @property
        def H(self):
            return Mislabeled(self.operator.H, self.change)

        def apply(self, x):
            return Scaled.apply(self, x)

    A = Turned(xl.FFT(x.time), lambda y: y.drop_vars("day"))
    with pytest.raises(AssertionError, match="day"):
        xl.dottest(A, like=x)


def test_wrong_shapes_are_found(x):
    def cut(block, out):
        out[...] = block.data[..., :-1]

    A = Elementary(
        xl.Space.of(x.time),
        xl.Space.of(x.time),
        window=Whole({"time": 8}, {"time": 8}),
        forward=cut,
        adjoint=cut,
        params={},
        name="suspect",
    )
    with pytest.raises(Exception):  # noqa: B017, PT011
        xl.dottest(A, like=x)


# --- operators that are not linear ----------------------------------------------------


def squared(block, out):
    out[...] = block.data**2


def nearly_squared(block, out):
    out[...] = 1e-15 * block.data**2


def plus_one(block, out):
    out[...] = block.data + 1


def rectified(block, out):
    out[...] = np.abs(block.data)


def clipped(block, out):
    out[...] = np.clip(block.data, -1, 1)


def rounded_to_tenths(block, out):
    out[...] = np.round(block.data, 10)


@pytest.mark.parametrize(
    "kernel", [squared, plus_one, rectified, clipped, rounded_to_tenths]
)
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_operators_that_are_not_linear_are_found(x, kernel, lazy):
    A = on_time(x, kernel, same)
    like = x.chunk(trace=2) if lazy else x
    with pytest.raises(AssertionError, match="suspect is not linear"):
        xl.testing.assert_linear(A, like=like)
    with pytest.raises(AssertionError, match="not linear"):
        xl.testing.assert_linear(xl.VStack({"good": xl.Identity(x.time), "bad": A}), like)
    with pytest.raises(AssertionError, match="not linear"):
        xl.testing.assert_linear(xl.Identity(x.time) + A, like)


def test_operators_that_give_nan_are_found(x):
    A = on_time(x, functools.partial(times, np.nan), same)
    with pytest.raises(AssertionError, match="not linear"):
        xl.testing.assert_linear(A, like=x)


def test_small_operators_that_are_not_linear_are_found(x):
    # Relative to the largest value, also where all values are small.
    A = on_time(x, nearly_squared, same)
    with pytest.raises(AssertionError, match="not linear"):
        xl.testing.assert_linear(A, like=x)


def test_single_precision_is_allowed_for(x):
    xl.testing.assert_linear(xl.FirstDerivative(x.time), like=x.astype("f4"))
    with pytest.raises(AssertionError, match="not linear"):
        xl.testing.assert_linear(on_time(x, squared, same), like=x.astype("f4"))


# --- arguments ------------------------------------------------------------------------


def test_only_operators_are_checked(x):
    for check in (xl.dottest, xl.testing.assert_linear):
        for thing in (3, x, np.eye(3), None):
            with pytest.raises(xl.DTypeError, match="operator") as caught:
                check(thing)
            assert type(thing).__name__ in str(caught.value)


def test_inputs_are_left_alone(x):
    before = x.copy(deep=True)
    xl.dottest(xl.FirstDerivative(x.time), like=x)
    xl.testing.assert_linear(xl.FirstDerivative(x.time), like=x)
    xr.testing.assert_identical(x, before)


# --- all properties at once -----------------------------------------------------------


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_good_operators_have_all_properties(x, seed):
    done = []
    for A in good(x):
        if isinstance(A, Elementary) and A.name == "suspect":  # tokens of local partials
            continue
        if seed:
            xl.testing.assert_operator(A.H, like=x, seed=seed)
        elif not any(A.H is B for B in done):  # both sides are checked
            xl.testing.assert_operator(A)
            done.append(A)


def faulty(x, what, forward=same, adjoint=same, **kwargs):
    with pytest.raises(AssertionError, match=what) as caught:
        xl.testing.assert_operator(on_time(x, forward, adjoint, **kwargs))
    assert "suspect" in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def in_pieces(block, out):
    """Depends on where pieces are cut."""
    out[...] = block.data * (1 + (block.want["time"].start > 0))


def test_what_depends_on_chunks_is_found(x):
    message = faulty(x, "other values", in_pieces, in_pieces)
    assert "than on NumPy" in message
    assert "float64 over" in message


def test_wrong_adjoints_and_what_is_not_linear_are_found_too(x):
    faulty(x, "dot test", adjoint=functools.partial(times, 3.0))
    faulty(x, "not linear", plus_one)


def single(block, out):
    out[...] = block.data.astype("float32")


def test_lost_precision_is_found(x):
    faulty(x, "dot test|not linear", single)


class Suspect(Scaled):
    """An operator that is changed in one respect."""

    def __init__(self, operator):
        super().__init__(operator, 1.0)
        self.name = "suspect"


class WithOtherResult(Suspect):
    def apply(self, x):
        return self.change(super().apply(x))


class Double(WithOtherResult):
    def change(self, y):
        return y.astype("complex128" if y.dtype.kind == "c" else "float64")


class Complex(WithOtherResult):
    def change(self, y):
        return y + 0j


class Computed(WithOtherResult):
    def change(self, y):
        return y.compute()


class Nameless(WithOtherResult):
    def change(self, y):
        return y.rename(None)


class WithoutBatch(WithOtherResult):
    def change(self, y):
        return y.drop_vars([n for n, c in y.coords.items() if "time" not in c.dims])


class InPlace(Suspect):
    def apply(self, x):
        y = super().apply(x)
        if isinstance(x.data, np.ndarray):
            x.data[...] *= 2
        return y


class View(Suspect):
    def apply(self, x):
        y = super().apply(x)
        return x.copy(deep=False) if isinstance(x.data, np.ndarray) else y


class Forgetful(Suspect):
    @property
    def token(self):
        return str(id(self))

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


class Stuck(Suspect):
    def __init__(self, operator):
        super().__init__(operator)
        self.kernel = lambda x: x


class TooMany(Suspect):
    def explain(self, x):
        return Suspect.explain(Suspect(xl.Identity(x)), x.chunk(time=1))


FAULTS = {
    Double: "makes float64 of float32",
    Computed: "not lazy: it computes",
    Nameless: "loses the name",
    WithoutBatch: "loses the label",
    InPlace: "not linear|dot test|changes its input",
    View: "changes its input, or gives it back",
    Forgetful: "another operator after pickling",
    Stuck: "does not pickle",
    TooMany: "explains",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_are_found(x, fault):
    A = fault(xl.Identity(x.time))
    with pytest.raises(AssertionError, match=FAULTS[fault]) as caught:
        xl.testing.assert_operator(A)
    assert "suspect" in str(caught.value)


def test_values_said_to_be_real_are_real(x):
    A = Complex(xl.FFT(x.time, real=True).H)
    with pytest.raises(AssertionError, match="its values are real"):
        xl.testing.assert_operator(A)


def test_few_tasks_are_demanded(x):
    D = xl.FirstDerivative(x.time)
    xl.testing.assert_operator(D, tasks=3)
    with pytest.raises(AssertionError, match=r"takes \d+ tasks for \d+ chunks"):
        xl.testing.assert_operator(D, tasks=1)


def test_only_operators_have_properties(x):
    with pytest.raises(xl.DTypeError, match="assert_operator checks an operator"):
        xl.testing.assert_operator(x)


# --- strategies -----------------------------------------------------------------------

FEW = hypothesis.settings(max_examples=60, database=None, derandomize=True, deadline=None)


def drawn(strategy):
    found = []

    @FEW
    @hypothesis.given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found


def test_members_are_members_of_all_kinds(x):
    space = xl.Space.of(x.time)
    found = drawn(xl.testing.members(space))
    for one in found:
        assert space.matches(xl.Space.of(one.isel({d: 0 for d in one.dims if d != "time"})))
        assert one.coords["day"].identical(
            x.coords["day"].drop_vars("trace", errors="ignore")
        )
    assert {one.ndim for one in found} == {1, 2, 3}
    assert {one.dtype.name for one in found} == {
        "float64",
        "float32",
        "complex128",
        "complex64",
    }
    assert {one.chunks is None for one in found} == {True, False}
    assert len({one.dims for one in found}) > 6
    assert len({one.chunks for one in found}) > 6


def test_members_as_asked(x):
    space = xl.Space.of(x.time)
    found = drawn(xl.testing.members(space, like=x, dtypes=["int16"], lazy=True))
    assert {one.dims for one in found} == {
        ("time",),
        ("time", "trace"),
        ("trace", "time"),
    }
    for one in found:
        assert one.dtype == np.int16
        assert one.chunks is not None
        if "trace" in one.dims:
            assert one.coords["trace"].variable.identical(x.coords["trace"].variable)
    real = xl.Space.of(x.time, kind="real")
    assert {one.dtype.kind for one in drawn(xl.testing.members(real))} == {"f"}


def test_members_of_blocks(x):
    stack = xl.VStack(
        {"a": xl.FirstDerivative(x.time), "b": xl.Restriction(x.time, [1, 3])}
    )
    shots = xr.DataArray(np.zeros(2), dims="shot")
    found = drawn(xl.testing.members(stack.range, like=shots))
    for blocks in found:
        assert list(blocks) == ["a", "b"]
        assert set(blocks["a"].dims) == set(blocks["b"].dims)
    adjoint = stack.H
    assert all(
        set((adjoint @ blocks).dims) == set(blocks["a"].dims) for blocks in found[:9]
    )


def test_members_of_spaces_only(x):
    with pytest.raises(xl.DTypeError, match="a space"):
        xl.testing.members(x)


def test_hypothesis_is_loaded_when_it_is_used():
    code = "import sys, xlops; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("kernel", "claim", "words"),
    [
        (functools.partial(times, 2.0), {"traits": ["unitary"]}, "unitary: its inverse"),
        (functools.partial(times, -2.0), {"traits": ["positive"]}, "it is positive"),
        (functools.partial(times, 2.0), {"keeps_constants": True}, "keeps constants"),
        (functools.partial(times, 0.5), {"exact": (True, True)}, "of integers"),
    ],
)
def test_what_operators_say_of_themselves_is_checked(x, kernel, claim, words):
    """Products are simplified by it, and units follow it."""
    xl.testing.assert_operator(on_time(x, kernel, kernel))
    with pytest.raises(AssertionError, match=words):
        xl.testing.assert_operator(on_time(x, kernel, kernel, **claim))


def test_symmetry_is_checked(x):
    D = xl.FirstDerivative(x.time, kind="forward")
    D.traits = frozenset({"symmetric"})
    with pytest.raises(AssertionError, match="symmetric: its adjoint"):
        xl.testing.assert_operator(D)
