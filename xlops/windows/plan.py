"""Plans: what is computed from what, as a tree of steps that has not been run.

An operator hands over `Step` s: a window, two kernels and the arrays that they weigh
with. Operators made of others nest them: `Apply` runs a step on what another node makes,
`Total` adds up, a `Source` stands for an array. Every node can be asked for a piece, and
says which pieces of the sources that piece needs; this is all that the engine runs.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from xlops.errors import LabelError
from xlops.windows.banded import Banded
from xlops.windows.pieces import (
    Array,
    Block,
    Chunks,
    Kernel,
    NDArray,
    Order,
    Sizes,
    Window,
    arranged,
    floating,
    of_kind,
    placed,
    volume,
)
from xlops.windows.rules import Insertion, Pointwise, WindowRule

__all__ = [
    "Apply",
    "Node",
    "Plan",
    "Source",
    "Step",
    "Total",
    "conjugate",
    "real",
    "scaled",
    "total",
]


# Says in words, by dim, where a piece lies.
Places: TypeAlias = Mapping[Hashable, Callable[[slice], str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """All that the engine has to know of an operator.

    Parameters
    ----------
    name : str
        Names the operator in graphs and errors.
    token : callable
        Names exactly this operator: the same token, the same numbers. Asked for by
        graphs only, since large weights take time to name.
    domain, range : mapping of Hashable to int
        Its dims and their sizes.
    window : WindowRule
        Which piece of the input a piece of the output needs.
    forward, adjoint : callable
        Kernels: fill an array with the piece that a `Block` asks for. Module-level
        functions or partials of them, so that they pickle.
    weights : tuple of Array, optional
        NumPy or Dask arrays along the operator's dims, handed to the kernels in pieces.
    domain_kind, range_kind : {"any", "real", "complex"}
        The values of both sides; "any" come out as they went in.
    exact : tuple of bool, optional
        Whether forward and adjoint only move values, so that integers stay integers.
    totals : tuple of callable, optional
        For cumulative operators, forward and adjoint: kernels of what a piece adds to
        the running value.
    blas : bool
        Whether kernels call BLAS, which starts threads of its own unless it is kept from
        that.
    places : tuple of mapping
        For errors, both sides: what says by dim where a piece lies.
    layouts : tuple of Order or None
        The order of dims of what comes out, forward and adjoint; None for that which
        `placed` gives.
    """

    name: str
    token: Callable[[], str] | None
    domain: Sizes
    range: Sizes
    window: WindowRule
    forward: Kernel
    adjoint: Kernel
    weights: tuple[Any, ...] = ()
    domain_kind: str = "any"
    range_kind: str = "any"
    exact: tuple[bool, bool] = (False, False)
    totals: tuple[Kernel, Kernel] | None = None
    blas: bool = False
    places: tuple[Places, Places] = ({}, {})
    layouts: tuple[Order | None, Order | None] = (None, None)

    def sides(self, adjoint: bool) -> tuple[Sizes, Sizes]:
        """Sizes going in and coming out."""
        return (self.range, self.domain) if adjoint else (self.domain, self.range)

    def dtypes(self, dtype: np.dtype[Any], adjoint: bool) -> tuple[Any, Any]:
        """The dtype to compute in and the dtype of the result."""
        inner = dtype if self.exact[adjoint] else floating(dtype)
        kind = self.domain_kind if adjoint else self.range_kind
        return inner.newbyteorder("="), of_kind(inner, kind).newbyteorder("=")


class Node(abc.ABC):
    """Something that can be computed piece by piece.

    Attributes
    ----------
    dims : tuple of Hashable
        The names of its axes.
    sizes : mapping of Hashable to int
        Its size along each.
    dtype : dtype
        The dtype of its values.
    """

    dims: tuple[Hashable, ...]
    sizes: Sizes
    dtype: np.dtype[Any]

    @property
    @abc.abstractmethod
    def children(self) -> tuple[Node, ...]:
        """The nodes that it is computed from."""

    @abc.abstractmethod
    def needs(self, want: Window) -> Window:
        """The piece of each child that a piece of this node needs."""

    @abc.abstractmethod
    def chunks(self, given: Sequence[Chunks]) -> Chunks:
        """Its chunks, from those of its children."""

    def widened(self, want: Window) -> Window:
        """The piece that has to be made for a piece: whole along dims that are uncut."""
        return want

    @functools.cached_property
    def sources(self) -> tuple[Source, ...]:
        """The sources that it is computed from, those of weights too."""
        found: dict[Source, None] = {}
        for node in nodes(self):
            if isinstance(node, Source):
                found[node] = None
            elif isinstance(node, Apply):
                found.update((w, None) for w in node.step.weights if isinstance(w, Source))
        return tuple(found)

    @property
    def size(self) -> int:
        """Its number of samples."""
        return math.prod(self.sizes.values())

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, in the order of its dims."""
        return tuple(self.sizes[dim] for dim in self.dims)


Plan: TypeAlias = "Node | dict[str, Node]"


class Source(Node):
    """An array that is there, or that another plan has made."""

    def __init__(
        self,
        dims: tuple[Hashable, ...],
        sizes: Sizes,
        dtype: np.dtype[Any],
        places: Places | None = None,
        whole: bool = False,
    ) -> None:
        self.dims, self.sizes, self.dtype = dims, sizes, dtype
        self.places, self.whole = places or {}, whole

    @classmethod
    def of(cls, array: Array, places: Places | None = None, whole: bool = False) -> Source:
        """What stands for an array in a plan; `places` as for a step.

        `whole` says that all of it is at hand for every piece, as weights may be.
        """
        return cls(array.dims, array.sizes, array.data.dtype, places, whole)

    @property
    def children(self) -> tuple[Node, ...]:
        """None."""
        return ()

    def needs(self, want: Window) -> Window:
        """The piece itself."""
        return want

    def chunks(self, given: Sequence[Chunks]) -> Chunks:
        """Known only to the array."""
        raise AssertionError("the chunks of a source are those of its array")


class Apply(Node):
    """A step, or its adjoint, times a real number, applied to what another node makes.

    Raises
    ------
    LabelError
        Where the step makes a dim that is there already.
    """

    def __init__(self, step: Step, adjoint: bool, child: Node, factor: float = 1.0) -> None:
        given, made = step.sides(adjoint)
        twice = [dim for dim in made if dim in child.sizes and dim not in given]
        if twice:
            raise LabelError(
                f"{step.name} makes dim {str(twice[0])!r}, which the data have already; "
                "rename that dim of the data"
            )
        self.step, self.adjoint, self.child, self.factor = step, adjoint, child, factor
        self.dims = arranged(placed(child.dims, given, made), step.layouts[adjoint])
        self.sizes = {d: made[d] if d in made else child.sizes[d] for d in self.dims}
        self.inner_dtype, self.dtype = step.dtypes(child.dtype, adjoint)
        if factor != 1.0:
            self.dtype = floating(self.dtype)
        self.passing = tuple(dim for dim in child.dims if dim not in given)
        self.made = tuple(made)

    @property
    def children(self) -> tuple[Node, ...]:
        """The node that the step is applied to."""
        return (self.child,)

    @property
    def window(self) -> WindowRule:
        """The window of the step."""
        return self.step.window

    @property
    def kernel(self) -> Kernel:
        """The kernel for this direction."""
        return self.step.adjoint if self.adjoint else self.step.forward

    def on(self, child: Node) -> Apply:
        """The same step on another node."""
        return Apply(self.step, self.adjoint, child, self.factor)

    def needs(self, want: Window) -> Window:
        """What the step's window says; dims that pass through as they are.

        Nothing where the piece is zero in any case.
        """
        want = self.widened(want)
        made = {dim: want[dim] for dim in self.made}
        own = self.step.window.needs(made, self.adjoint)
        passing = {dim: want[dim] for dim in self.passing}
        if self.step.window.is_zero(made, self.adjoint):
            passing = {dim: slice(part.start, part.start) for dim, part in passing.items()}
        return {**passing, **own}

    def widened(self, want: Window) -> Window:
        """The piece that has to be made for a piece: whole along dims that are uncut."""
        partial = {
            dim: slice(0, self.sizes[dim])
            for dim in self.window.uncut(self.adjoint)
            if want[dim].stop - want[dim].start < self.sizes[dim]
        }
        return {**want, **partial} if partial else want

    def chunks(self, given: Sequence[Chunks]) -> Chunks:
        """What the step's window says; dims that pass through as they are."""
        (chunks,) = given
        made = self.step.window.chunks(chunks, self.adjoint)
        return {dim: made[dim] if dim in self.made else chunks[dim] for dim in self.dims}

    def near(self, have: Window, want: Window) -> Window:
        """Where the pieces of the step's weights lie."""
        return {**want, **have} if self.adjoint else {**have, **want}

    def weighs(self, have: Window, want: Window) -> Iterator[tuple[Source, Window]]:
        """The pieces of those weights that are sources."""
        for weight in self.step.weights:
            if isinstance(weight, Source):
                yield from reads(weight, self.near(have, want))


class Total(Node):
    """The sum of nodes over the same dims, in the order of the first one's."""

    def __init__(self, terms: Sequence[Node]) -> None:
        self.terms = tuple(terms)
        first = self.terms[0]
        self.dims, self.sizes = first.dims, first.sizes
        self.dtype = np.result_type(*(floating(term.dtype) for term in terms))

    @functools.cached_property
    def banded(self) -> tuple[Banded | None, tuple[Apply, ...]]:
        """The terms that one pass makes: banded matrices on one and the same source.

        The kernel of all of them together, and these terms; None for fewer than two.
        """
        alike: dict[int, list[Apply]] = {}
        for term in self.terms:
            if _is_banded(term) and term.dims == self.dims and term.dtype == self.dtype:
                alike.setdefault(id(term.child), []).append(term)
        members = max(alike.values(), key=len, default=[])
        if len(members) < 2:
            return None, ()
        terms = [
            pair
            for term in members
            if isinstance(term.kernel, Banded)
            for pair in term.kernel.scaled(term.factor).terms
        ]
        return Banded(tuple(terms)), tuple(members)

    @functools.cached_property
    def along(self) -> Hashable | None:
        """The dim of which each term makes one sample, in their order; else None."""
        first = self.terms[0]
        if not (isinstance(first, Apply) and isinstance(first.window, Insertion)):
            return None
        dim, size = first.window.dim, first.window.size
        in_order = size == len(self.terms) and all(
            isinstance(term, Apply)
            and isinstance(term.window, Insertion)
            and not term.adjoint
            and (term.window.dim, term.window.index) == (dim, i)
            for i, term in enumerate(self.terms)
        )
        return dim if in_order else None

    def terms_in(self, want: Window) -> tuple[Node, ...]:
        """The terms that a piece is the sum of, without those that are zero there."""
        return self.terms if self.along is None else self.terms[want[self.along]]

    @property
    def children(self) -> tuple[Node, ...]:
        """The terms."""
        return self.terms

    def needs(self, want: Window) -> Window:
        """The same piece of each term."""
        return want

    def chunks(self, given: Sequence[Chunks]) -> Chunks:
        """Those of a term whose chunks cannot be chosen, else those of the first."""
        for term, chunks in zip(self.terms, given, strict=True):
            if uncut(term):
                return chunks
        return given[0]


def _is_banded(node: Node) -> TypeGuard[Apply]:
    return (
        isinstance(node, Apply)
        and isinstance(node.kernel, Banded)
        and isinstance(node.child, Source)
        and node.child.dtype == node.inner_dtype
    )


# --- making plans ---------------------------------------------------------------------


def total(terms: Sequence[Node]) -> Node:
    """The sum of nodes; of one it is that one."""
    opened: list[Node] = []
    for term in terms:
        opened += term.terms if isinstance(term, Total) else (term,)
    return opened[0] if len(opened) == 1 else Total(opened)


def scaled(number: complex, node: Node) -> Node:
    """A number times a node."""
    if not isinstance(number, complex):
        if number == 1.0:
            return node
        if isinstance(node, Apply):
            return Apply(node.step, node.adjoint, node.child, node.factor * number)
    kind = "complex" if isinstance(number, complex) else "any"
    sizes = dict(node.sizes)
    kernel = functools.partial(_times, number)
    step = Step(
        name=f"{number:.6g}",
        token=lambda: f"times-{number!r}",
        domain=sizes,
        range=sizes,
        window=Pointwise(),
        forward=kernel,
        adjoint=kernel,
        range_kind=kind,
    )
    return Apply(step, False, node)


def _times(number: complex, block: Block, out: NDArray) -> None:
    np.multiply(block.data, out.dtype.type(number), out=out)


def real(node: Node) -> Node:
    """The real part of a node."""
    if node.dtype.kind != "c":
        return node
    sizes = dict(node.sizes)
    step = Step("real part", lambda: "real", sizes, sizes, Pointwise(), _real, _real)
    return Apply(
        dataclasses.replace(step, range_kind="real", exact=(True, True)), False, node
    )


def _real(block: Block, out: NDArray) -> None:
    out[...] = block.data.real


def conjugate(node: Node) -> Node:
    """The complex conjugate of a node."""
    if node.dtype.kind != "c":
        return node
    sizes = dict(node.sizes)
    step = Step("conjugate", lambda: "conj", sizes, sizes, Pointwise(), _conj, _conj)
    return Apply(step, False, node)


def _conj(block: Block, out: NDArray) -> None:
    np.conjugate(block.data, out=out)


# --- asking plans ---------------------------------------------------------------------


def nodes(node: Node) -> Iterator[Node]:
    """A node and all below it; those with several parents come once."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting.extend(reversed(node.children))


def reads(node: Node, want: Window) -> Iterator[tuple[Source, Window]]:
    """The pieces of sources that a piece of a node needs, one for each path to them."""
    if not volume(want, node.dims):
        return
    if isinstance(node, Source):
        yield node, want
        return
    have = node.needs(want)
    if isinstance(node, Apply) and node.step.weights:
        yield from node.weighs(have, want)
    for child in node.terms_in(want) if isinstance(node, Total) else node.children:
        yield from reads(child, have)


def work(node: Node, want: Window) -> int:
    """Samples that are made on the way to a piece of a node, its own included."""
    if isinstance(node, Source) or not volume(want, node.dims):
        return 0
    have = node.needs(want)
    own = volume(node.widened(want), node.dims)
    return own + sum(work(child, have) for child in node.children)


def uncut(node: Node) -> frozenset[Hashable]:
    """Dims whose pieces would each repeat work that one piece does once."""
    if isinstance(node, Source):
        return frozenset()
    below: frozenset[Hashable] = frozenset().union(*(uncut(c) for c in node.children))
    if not isinstance(node, Apply):
        return below
    own = node.window.uncut(node.adjoint)
    if not isinstance(node.child, Source) and node.window.adds(node.adjoint):
        own = own.union(d for d in node.made if d not in node.child.sizes)
    return own.union(dim for dim in below if dim in node.sizes)


def halo(node: Node) -> dict[Hashable, int]:
    """How many samples more than its own a piece inside reads along each dim."""
    middle = {}
    for dim, size in node.sizes.items():
        at = size // 2
        middle[dim] = slice(at, at + 1)
    extra = dict.fromkeys(node.dims, 0)
    for _, window in reads(node, middle):
        for dim, piece in window.items():
            if dim in extra:
                extra[dim] = max(extra[dim], piece.stop - piece.start - 1)
    return extra


def places(node: Node) -> dict[Hashable, Callable[[slice], str]]:
    """What says where a piece of a node lies, by dim."""
    if isinstance(node, Source):
        return dict(node.places)
    below = places(node.children[0])
    if isinstance(node, Apply):
        below |= node.step.places[0 if node.adjoint else 1]
    return {dim: place for dim, place in below.items() if dim in node.sizes}


def calls_blas(node: Node) -> bool:
    """Whether one of the steps of a plan does."""
    return any(isinstance(n, Apply) and n.step.blas for n in nodes(node))


def products(node: Node) -> Iterator[int]:
    """Multiplications of one product of each step that calls BLAS.

    Dims that a step has on both sides have a product for each sample.
    """
    for n in nodes(node):
        if isinstance(n, Apply) and n.step.blas:
            given, made = n.step.sides(n.adjoint)
            sizes = {**n.child.sizes, **n.sizes}
            yield math.prod(sizes[d] for d in sizes if not (d in given and d in made))


def replaced(node: Node, by: Callable[[Node], Node | None]) -> Node:
    """A plan with some of its nodes replaced; `by` gives None for those that stay."""
    new = by(node)
    if new is not None:
        return new
    if isinstance(node, Apply):
        return node.on(replaced(node.child, by))
    if isinstance(node, Total):
        return Total([replaced(term, by) for term in node.terms])
    return node
