"""Steps of every window rule with dense matrices as kernels, and plans made of them.

A dense kernel multiplies whatever piece it is given with that part of its matrix: what a
window leaves out is missing from the result. Whole matrices are the reference.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Hashable
from typing import Any

import hypothesis.strategies as st
import numpy as np

from xlops.windows.pieces import Array, Block, placed
from xlops.windows.plan import Apply, Node, Source, Step, Total, real, scaled, total
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
    WindowRule,
)

RULES = (
    "pointwise",
    "stencil",
    "stencils",
    "selection",
    "repeated",
    "reversal",
    "padding",
    "paddings",
    "whole",
    "permutation",
    "contraction",
    "scatter",
    "scan",
)
LARGEST = 7


@dataclasses.dataclass
class Case:
    """A rule, and which samples a sample of the result reads.

    Parameters
    ----------
    rule : WindowRule
        The rule.
    domain, range : dict
        Sizes by dim.
    pattern : ndarray of bool
        Its axes are the dims of the range, then those of the domain.
    exact : bool
        Whether a piece needs nothing but the box around what its samples read.
    """

    rule: WindowRule
    domain: dict[Hashable, int]
    range: dict[Hashable, int]
    pattern: Any
    exact: bool = True

    def __repr__(self) -> str:
        return f"{self.rule}: {self.domain} → {self.range}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def sides(self, adjoint: bool) -> tuple[dict[Hashable, int], dict[Hashable, int]]:
        """Sizes going in and coming out."""
        return (self.range, self.domain) if adjoint else (self.domain, self.range)

    def read(self, want: dict[Hashable, slice], adjoint: bool) -> Any:
        """Which samples of what goes in a piece of what comes out reads."""
        given, made = self.sides(adjoint)
        count = len(self.range)
        axes = range(count, self.pattern.ndim) if adjoint else range(count)
        index: list[Any] = [slice(None)] * self.pattern.ndim
        for axis, dim in zip(axes, made, strict=True):
            index[axis] = want[dim]
        found = self.pattern[tuple(index)].any(axis=tuple(axes))
        assert found.shape == tuple(given.values())
        return found


def outer(parts: list[Any]) -> Any:
    """Which samples are read, from that along each dim: (rows…, columns…)."""
    count = len(parts)
    letters = [(chr(97 + i), chr(110 + i)) for i in range(count)]
    inputs = ",".join(f"{row}{column}" for row, column in letters)
    output = "".join(r for r, _ in letters) + "".join(c for _, c in letters)
    return np.einsum(f"{inputs}->{output}", *(p.astype(int) for p in parts)) > 0


def band(size: int, before: int, after: int) -> Any:
    """Which samples a stencil reads."""
    i, j = np.indices((size, size))
    return (j >= i - before) & (j <= i + after)


# --- strategies -----------------------------------------------------------------------


@st.composite
def cut(draw: Any, size: int) -> tuple[int, ...]:
    """Chunks of a dim: one sample each, all in one, or any."""
    kind = draw(st.sampled_from(["any", "any", "ones", "one"]))
    if kind == "ones":
        return (1,) * size
    if kind == "one":
        return (size,)
    at = draw(st.sets(st.integers(1, size), max_size=4)) | {0, size}
    return tuple(np.diff(sorted(at)).tolist())


@st.composite
def piece(draw: Any, size: int) -> slice:
    """A range that is not empty."""
    start = draw(st.integers(0, size - 1))
    return slice(start, draw(st.integers(start + 1, size)))


@st.composite
def window(draw: Any, sizes: dict[Hashable, int]) -> dict[Hashable, slice]:
    """A piece of an array."""
    return {dim: draw(piece(size)) for dim, size in sizes.items()}


sizes_of = functools.partial(
    st.fixed_dictionaries, {"a": st.integers(1, LARGEST)}, optional={"b": st.integers(1, 5)}
)


@st.composite
def cases(
    draw: Any,
    kind: str,
    sizes: dict[Hashable, int],
    adjoint: bool = False,
    new: str = "f",
) -> Case:
    """A rule of some kind, that in this direction acts on dims of these sizes.

    Parameters
    ----------
    draw
        Hypothesis.
    kind : str
        One of `RULES`.
    sizes : dict
        Sizes of all dims that there are.
    adjoint : bool
        Whether the adjoint is to act on them.
    new : str
        The name of a dim that the rule may make.
    """
    dims = list(sizes)
    several = kind in ("stencils", "paddings", "pointwise", "whole", "contraction")
    if several:
        chosen = draw(st.lists(st.sampled_from(dims), unique=True, min_size=1, max_size=2))
    else:
        chosen = [draw(st.sampled_from(dims))]
    own = {dim: sizes[dim] for dim in chosen}
    dim, size = next(iter(own.items()))
    few = st.integers(0, 3)

    if kind == "pointwise":
        return Case(Pointwise(), own, own, outer([np.eye(n) > 0 for n in own.values()]))
    if kind in ("stencil", "stencils"):
        reach = {d: Reach(n, draw(few), draw(few)) for d, n in own.items()}
        return Case(Stencil(reach), own, own, outer([band(*r) for r in reach.values()]))
    if kind in ("selection", "repeated"):
        repeats = kind == "repeated"
        if adjoint:
            before = draw(st.integers(1 if repeats else size, size + 3))
            count = size
        else:
            before = size
            count = draw(st.integers(1, LARGEST if repeats else size))
        indices = draw(
            st.lists(
                st.integers(0, before - 1),
                min_size=count,
                max_size=count,
                unique=not repeats,
            ).map(sorted)
        )
        rule = Selection(dim, before, np.array(indices))
        pattern = np.arange(before) == np.array(indices)[:, None]
        return Case(rule, {dim: before}, {dim: count}, pattern)
    if kind == "reversal":
        return Case(Reversal(dim, size), own, own, np.eye(size)[::-1] > 0)
    if kind in ("padding", "paddings"):
        reach = {}
        for d, n in own.items():
            if adjoint:
                inner = draw(st.integers(1, n))
                before = draw(st.integers(0, n - inner))
                reach[d] = Reach(inner, before, n - inner - before)
            else:
                reach[d] = Reach(n, draw(few), draw(few))
        domain = {d: r.size for d, r in reach.items()}
        range_ = {d: sum(r) for d, r in reach.items()}
        eyes = [np.eye(sum(r), r.size, -r.before) > 0 for r in reach.values()]
        return Case(Padding(reach), domain, range_, outer(eyes))
    if kind == "permutation":
        order = np.array(draw(st.permutations(range(size))))
        pattern = np.arange(size) == order[:, None]
        return Case(Permutation(own, own, order), own, own, pattern, exact=False)
    if kind == "scan":
        i, j = np.indices((size, size))
        return Case(Scan(dim, size), own, own, j <= i)
    made = {new: draw(st.integers(1, 5))}
    if kind == "whole":
        if len(own) == 1 and draw(st.booleans()):
            made = {dim: made[new]}  # the same dim, of another size
        domain, range_ = (made, own) if adjoint else (own, made)
        pattern = np.ones((*range_.values(), *domain.values()), dtype=bool)
        return Case(Whole(domain, range_), domain, range_, pattern)
    assert kind in ("contraction", "scatter")
    shared = dict(list(own.items())[1:])  # the first is summed over
    made = {**made, **shared} if draw(st.booleans()) else {**shared, **made}
    if draw(st.booleans()):
        made = dict(shared)
    domain, range_ = (made, own) if adjoint else (own, made)
    pattern = np.ones((*range_.values(), *domain.values()), dtype=bool)
    for d, n in shared.items():
        axes = (list(range_).index(d), len(range_) + list(domain).index(d))
        shape = [n if axis in axes else 1 for axis in range(pattern.ndim)]
        pattern = pattern & np.eye(n, dtype=bool).reshape(shape)
    if kind == "scatter":
        along = frozenset(range_) - frozenset(shared)
        rule = Scatter(domain, range_, frozenset(shared), along)
        return Case(rule, domain, range_, pattern)
    return Case(Contraction(domain, range_), domain, range_, pattern)


# --- dense kernels --------------------------------------------------------------------


def product(
    matrix: Any,
    data: Any,
    dims: tuple[Hashable, ...],
    given: tuple[Hashable, ...],
    made: tuple[Hashable, ...],
) -> Any:
    """A matrix (made…, given…) times an array; its axes are those that `placed` gives."""
    axes = [dims.index(dim) for dim in given]
    value = np.tensordot(matrix, data, (range(len(made), matrix.ndim), axes))
    now = [*made, *(dim for dim in dims if dim not in given)]
    return value.transpose([now.index(dim) for dim in placed(dims, given, made)])


def turned(matrix: Any, rows: int, adjoint: bool) -> Any:
    """A matrix (range…, domain…), or its transpose (domain…, range…)."""
    if not adjoint:
        return matrix
    return matrix.transpose([*range(rows, matrix.ndim), *range(rows)])


def dense(
    matrix: Any,
    domain: tuple[Hashable, ...],
    range_: tuple[Hashable, ...],
    before: Any,
    adjoint: bool,
    block: Block,
    out: Any,
) -> None:
    """Kernel: the part of a matrix that belongs to a block, times its data."""
    given, made = (range_, domain) if adjoint else (domain, range_)
    assert not np.shares_memory(block.data, out)
    index = [block.want[dim] for dim in made] + [block.have[dim] for dim in given]
    for dim, size in zip(block.dims, block.data.shape, strict=True):
        if dim in given:
            assert block.have[dim].stop - block.have[dim].start == size
    part = turned(matrix, len(range_), adjoint)[tuple(index)]
    value = product(part, block.data, block.dims, given, made)
    assert value.shape == out.shape
    if block.weights:
        value = value * 1.0
        at = placed(block.dims, given, made)
        for weight in block.weights:
            order = [dim for dim in at if dim in weight.dims]
            shape = [weight.sizes.get(dim, 1) for dim in at]
            value = value * np.asarray(weight.ordered(order).data).reshape(shape)
    if block.carry is not None:
        # Forward, what lies before counts once; backward, times each sample's weight.
        weights = np.ones(len(before)) if not adjoint else before
        (dim,) = made
        shape = [len(part) if d == dim else 1 for d in block.dims]
        value = value + weights[block.want[dim]].reshape(shape) * block.carry
    out[...] = value


def summed(before: Any, adjoint: bool, dim: Hashable, block: Block, out: Any) -> None:
    """Kernel: what a piece adds to a running value."""
    weights = np.ones(len(before)) if adjoint else before
    shape = [-1 if d == dim else 1 for d in block.dims]
    part = block.data * weights[block.have[dim]].reshape(shape)
    out[...] = part.sum(axis=block.dims.index(dim), keepdims=True)


def weighed(
    domain: tuple[Hashable, ...],
    range_: tuple[Hashable, ...],
    adjoint: bool,
    block: Block,
    out: Any,
) -> None:
    """Kernel: a matrix that comes as a weight, cut to the block, times its data."""
    part = np.asarray(block.weights[0].ordered((*range_, *domain)).data)
    given, made = (range_, domain) if adjoint else (domain, range_)
    matrix = turned(part, len(range_), adjoint)
    out[...] = product(matrix, block.data, block.dims, given, made)


counter = itertools.count()


def step_of(case: Case, seed: int, weights: tuple[Array, ...] = ()) -> tuple[Step, Any]:
    """A step with a random matrix of a case's pattern, and this matrix."""
    rng = np.random.default_rng(seed)
    matrix = np.where(case.pattern, rng.uniform(0.5, 1.5, case.pattern.shape), 0.0)
    matrix *= rng.choice([-1.0, 1.0], case.pattern.shape)
    before = totals = None
    if isinstance(case.rule, Scan):
        n = case.rule.size
        before = rng.standard_normal(n)
        matrix = np.tril(np.tile(before, (n, 1)), -1) + np.diag(rng.standard_normal(n))
        one, two = (
            functools.partial(summed, before, adjoint, case.rule.dim)
            for adjoint in (False, True)
        )
        totals = (one, two)
    if isinstance(case.rule, Permutation):
        matrix = case.pattern.astype(float)  # it only moves values
    kernel = functools.partial(dense, matrix, tuple(case.domain), tuple(case.range), before)
    kind, number = type(case.rule).__name__.lower(), next(counter)
    step = Step(
        name=kind,
        token=lambda: f"{kind}-{number}",
        domain=case.domain,
        range=case.range,
        window=case.rule,
        forward=functools.partial(kernel, False),
        adjoint=functools.partial(kernel, True),
        weights=weights,
        totals=totals,
    )
    return step, matrix


# --- plans ----------------------------------------------------------------------------


class Reference:
    """What plans of dense steps make, by whole matrices."""

    def __init__(self, arrays: dict[Source, Array], matrices: dict[int, Any]) -> None:
        self.arrays, self.matrices = arrays, matrices

    def __call__(self, node: Node) -> Array:
        """The values of a node."""
        if isinstance(node, Source):
            return self.arrays[node]
        if isinstance(node, Total):
            first, *others = (self(term) for term in node.terms)
            value = first.data
            for other in others:
                value = value + other.ordered(first.dims).data
            return Array(value, first.dims)
        assert isinstance(node, Apply)
        below = self(node.child)
        found = self.matrices.get(id(node.step))
        if found is None:  # a number, or the real part
            return Array(self._plain(node, below.data), below.dims)
        matrix, weights = found
        given, made = (tuple(side) for side in node.step.sides(node.adjoint))
        matrix = turned(matrix, len(node.step.range), node.adjoint)
        value = product(matrix, below.data, below.dims, given, made)
        dims = placed(below.dims, given, made)
        for weight in weights:
            shape = [weight.sizes.get(dim, 1) for dim in dims]
            order = [dim for dim in dims if dim in weight.dims]
            value = value * weight.ordered(order).data.reshape(shape)
        return Array(value * node.factor, dims)

    @staticmethod
    def _plain(node: Apply, data: Any) -> Any:
        if node.step.name == "real part":
            return data.real * node.factor
        assert isinstance(node.step.forward, functools.partial)
        return data * node.step.forward.args[0] * node.factor


@dataclasses.dataclass
class Drawn:
    """A plan that was drawn: its ends, its source, its steps and their matrices."""

    ends: list[Node]
    source: Source
    matrices: dict[int, Any]
    steps: list[Step]

    def __repr__(self) -> str:
        return " | ".join(map(shown, self.ends))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def shown(node: Node) -> str:
    """A plan in words."""
    if isinstance(node, Source):
        return str(dict(node.sizes))
    if isinstance(node, Total):
        return "(" + " + ".join(map(shown, node.terms)) + ")"
    assert isinstance(node, Apply)
    side = ".H" if node.adjoint else ""
    factor = "" if node.factor == 1 else f"{node.factor} "
    weights = [weight.dims for weight in node.step.weights]
    return f"{factor}{node.step.window}{side}{weights or ''} @ {shown(node.child)}"


KEEP_SIZES = ("pointwise", "stencil", "stencils", "reversal", "permutation", "scan")


@st.composite
def plans(
    draw: Any,
    kinds: tuple[str, ...] = RULES,
    longest: int = 4,
    dtypes: tuple[str, ...] = ("float64", "float32", "complex128"),
    lazy_weights: bool = False,
) -> Drawn:
    """Plans of one to several steps, with sums, numbers and weights, one end or two."""
    order = draw(st.permutations(["a", "b", "c"]))
    dims = tuple(order[: draw(st.integers(1, 3))])
    sizes = {dim: draw(st.integers(1, LARGEST)) for dim in dims}
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    source = Source(dims, sizes, dtype)
    matrices: dict[int, Any] = {}
    kept_alive: list[Step] = []  # their identities are keys
    names = (f"n{i}" for i in itertools.count())

    def stepped(node: Node, among: tuple[str, ...]) -> Node:
        kind = draw(st.sampled_from(among))
        adjoint = draw(st.booleans())
        case = draw(cases(kind, dict(node.sizes), adjoint, next(names)))
        step, matrix = step_of(case, draw(st.integers(0, 99)))
        weights: tuple[Array, ...] = ()
        if kind == "pointwise":
            kept = tuple(dim for dim in case.range if draw(st.booleans()))
            shape = tuple(case.range[dim] for dim in kept)
            rng = np.random.default_rng(math.prod(shape))
            weights = (Array(rng.uniform(0.5, 1.5, shape), kept),)
            step = dataclasses.replace(step, weights=tuple(map(maybe_lazy, weights)))
        elif kind == "contraction" and not case.domain.keys() & case.range.keys():
            dims = (*case.range, *case.domain)
            turn = tuple(draw(st.permutations(dims)))
            kernel = functools.partial(weighed, tuple(case.domain), tuple(case.range))
            step = dataclasses.replace(
                step,
                weights=(maybe_lazy(Array(matrix, dims).ordered(turn)),),
                forward=functools.partial(kernel, False),
                adjoint=functools.partial(kernel, True),
            )
        kept_alive.append(step)
        matrices[id(step)] = matrix, weights
        return Apply(step, adjoint, node, draw(st.sampled_from([1.0, 1.0, -0.5])))

    def maybe_lazy(array: Array) -> Array:
        if not (lazy_weights and draw(st.booleans())):
            return array
        import dask.array as da

        chunks = tuple(draw(cut(n)) for n in array.data.shape)
        return Array(da.from_array(array.data, chunks=chunks), array.dims)

    def chain(node: Node, count: int, among: tuple[str, ...]) -> Node:
        for _ in range(count):
            if not node.dims:
                break  # all has been summed up
            form = draw(st.sampled_from(["step", "step", "step", "sum", "number", "real"]))
            same = tuple(kind for kind in among if kind in KEEP_SIZES)
            if form == "sum" and same:
                terms = [
                    chain(node, draw(st.integers(0, 2)), same)
                    for _ in range(draw(st.integers(2, 3)))
                ]
                node = total(terms)
            elif form == "number":
                number = draw(st.sampled_from([2.0, -0.25, 1.0, 1j, 0.5 - 1j]))
                node = scaled(number, node)
            elif form == "real" and draw(st.booleans()):
                node = real(node)
            else:
                node = stepped(node, among)
        return node

    node = chain(source, draw(st.integers(1, longest)), kinds)
    ends = [node]
    if draw(st.integers(0, 3)) == 0:
        ends.append(chain(node, draw(st.integers(0, 2)), kinds))
    return Drawn(ends, source, matrices, kept_alive)
