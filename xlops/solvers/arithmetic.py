"""The arithmetic of solvers: vectors, and the numbers that methods make of them.

Methods are written once. Where their vectors lie, and whether a number is one or one for
each of many problems, is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Homes, Shelf, Tree
from xlops.windows.pieces import Array, NDArray, of_kind

__all__ = ["Arithmetic", "Each", "OnShelf"]


class Arithmetic:
    """Vectors in memory, on NumPy or Dask; numbers are floats, or lazy until `persist`."""

    # Where vectors lie on disk.
    shelf: Shelf | None = None

    def kept(self, tree: Tree) -> Tree:
        """A vector, on disk where vectors lie there.

        So are those in the middle of an iteration: all of their chunks wait for a number.
        """
        return tree

    def axpy(self, a: Any, x: Tree, y: Tree, into: Tree | None = None) -> Tree:
        """``y + a x`` in the precision of y.

        `into` is y or x where its memory may be used for the result.
        """
        return self.kept(engine.axpy(a, x, y, into))

    def axpy_norm(
        self, a: Any, x: Tree, y: Tree, into: Tree | None = None
    ) -> tuple[Tree, Any]:
        """``y + a x``, and what `dots` makes its squared norm of."""
        return engine.axpy_norm(a, x, y, into)

    def blend(self, a: Any, x: Tree, b: Any, y: Tree) -> tuple[Tree, Any]:
        """``a x + b y``, on NumPy in the memory of y, and its squared norm."""
        return engine.blend(a, x, b, y)

    def combined(self, y: Tree, numbers: Sequence[Any], vectors: Sequence[Tree]) -> Tree:
        """``y + Σ a x`` over numbers and vectors, in new memory."""
        return self.kept(engine.combined(y, numbers, vectors))

    def advance(self, x: Tree, p: Tree, z: Tree, a: Any, b: Any) -> tuple[Tree, Tree]:
        """``x + a p`` and ``z + b p``, in the memory of x and p on NumPy."""
        return engine.advance(x, p, z, a, b)

    def times(self, a: Any, x: Tree) -> Tree:
        """``a * x``."""
        return self.kept(engine.times(a, x))

    def dots(self, *products: Any) -> tuple[Any, ...]:
        """Re⟨x, y⟩ of pairs of vectors; what `axpy_norm` gave is passed on."""
        return engine.dots(*products)

    def mapped(
        self,
        function: Callable[..., Any],
        *vectors: Tree,
        numbers: Sequence[Any] = (),
        into: Tree | None = None,
        whole: bool = False,
    ) -> Tree:
        """A function of the samples of vectors, and of numbers; like the first vector.

        `into` is one of them where its memory may be used for the result. The function
        gets pieces of them, or arrays and chunks as a `whole`.
        """
        made = engine.mapped(function, *vectors, numbers=numbers, into=into, whole=whole)
        return self.kept(made)

    def summed(
        self, function: Callable[..., Any], *vectors: Tree, numbers: Sequence[Any] = ()
    ) -> Any:
        """The sum of a real function of samples."""
        return engine.summed(function, *vectors, numbers=numbers)

    def percentile(self, x: Tree, q: float) -> Any:
        """The magnitude that `q` percent of the samples do not exceed, as NumPy's."""
        place = (engine.size(x) - 1) * q / 100
        below = int(place)
        ends = engine.ranked(x, below), engine.ranked(x, min(below + 1, engine.size(x) - 1))
        return self.number(_between, *ends, place - below)

    def inner(self, *products: tuple[Tree, Tree]) -> tuple[Any, ...]:
        """⟨x, y⟩ of pairs of complex vectors, linear in y."""
        # Im⟨x, y⟩ = Re⟨x, −i y⟩
        turned = {id(y): self.times(-1j, y) for _, y in products}
        parts = self.dots(*products, *((x, turned[id(y)]) for x, y in products))
        pairs = zip(parts[: len(products)], parts[len(products) :], strict=True)
        return tuple(engine.number(_joined, *pair, dtype=np.complex128) for pair in pairs)

    def number(self, function: Callable[..., Any], *numbers: Any) -> Any:
        """A number made of others, which need not be there yet.

        `function` acts sample by sample, as NumPy's do.
        """
        return engine.number(function, *numbers)

    def ratio(self, a: Any, b: Any) -> Any:
        """``a / b``; NaN where b is 0, but 0 for a problem that cannot go on."""
        return engine.ratio(a, b)

    def goes_on(self, pivot: Any) -> bool:
        """Whether a number that must be positive is, for one problem at least.

        One that is not there yet counts as positive: the driver looks at it, as a pivot
        of the step, once it is.
        """
        return not engine.is_known(pivot) or bool(pivot > 0)

    def spread(self, numbers: NDArray, array: Array) -> NDArray:
        """Values of the problems, shaped as an array is: there is one problem."""
        return numbers

    def persist(self, *values: Any, homes: Homes | None = None) -> tuple[Any, ...]:
        """Compute vectors and numbers of one iteration in one submission."""
        return engine.persist(*values, homes=homes)


def _between(first: Any, second: Any, share: float) -> Any:
    return first + (second - first) * share


class OnShelf(Arithmetic):
    """Vectors of Dask on disk, each of which is made where it is written.

    Parameters
    ----------
    shelf : Shelf
        The folder for them.
    """

    shelf: Shelf

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def kept(self, tree: Tree) -> Tree:
        """A vector on disk."""
        return self.shelf.put(tree)

    def axpy_norm(
        self, a: Any, x: Tree, y: Tree, into: Tree | None = None
    ) -> tuple[Tree, Any]:
        """``y + a x``; the norm is taken of what lies on disk."""
        result = self.axpy(a, x, y, into)
        return result, (result, result)

    def blend(self, a: Any, x: Tree, b: Any, y: Tree) -> tuple[Tree, Any]:
        """``a x + b y``; the norm is taken of what lies on disk."""
        result = self.kept(engine.blend(a, x, b, y)[0])
        return result, (result, result)

    def advance(self, x: Tree, p: Tree, z: Tree, a: Any, b: Any) -> tuple[Tree, Tree]:
        """``x + a p`` and ``z + b p``."""
        return self.axpy(a, p, x), self.axpy(b, p, z)

    def persist(self, *values: Any, homes: Homes | None = None) -> tuple[Any, ...]:
        """Compute vectors to disk, and numbers."""
        # Chunks need no home: all that moves says where they lie.
        return self.shelf.compute(*values)


class Each(Arithmetic):
    """Many problems at once, on NumPy: every number is one for each of them.

    Parameters
    ----------
    dims : sequence of Hashable
        The dims along which problems are independent. Numbers are arrays over them, in
        this order.
    """

    def __init__(self, dims: Sequence[Hashable]) -> None:
        self.dims = tuple(dims)

    def _numbers(self, a: Any, array: Array) -> Any:
        """Numbers shaped to multiply an array, in its precision."""
        kind = "complex" if np.iscomplexobj(a) else "real"
        return self.spread(np.asarray(a, of_kind(array.data.dtype, kind)), array)

    def spread(self, numbers: NDArray, array: Array) -> NDArray:
        """Values of the problems, shaped as an array is."""
        if not numbers.ndim:
            return numbers
        order = [dim for dim in array.dims if dim in self.dims]
        shape = [n if d in self.dims else 1 for d, n in array.sizes.items()]
        return np.reshape(Array(numbers, self.dims).ordered(order).data, shape)

    def axpy(self, a: Any, x: Tree, y: Tree, into: Tree | None = None) -> Tree:
        """``y + a x``."""
        targets = iter(
            [None] * len(engine.leaves(y)) if into is None else engine.leaves(into)
        )

        def one(v: Array, u: Array) -> Array:
            target = next(targets)
            u = u.ordered(v.dims)
            made = (self._numbers(a, u) * u.data).astype(v.data.dtype, copy=False)
            if target is None:
                return Array(np.add(v.data, made, out=made), v.dims)
            out = target.ordered(v.dims).data
            return Array(np.add(v.data, made, out=out), v.dims)

        return engine.paired(one, y, x)

    def axpy_norm(
        self, a: Any, x: Tree, y: Tree, into: Tree | None = None
    ) -> tuple[Tree, Any]:
        """``y + a x`` and the squared norms."""
        result = self.axpy(a, x, y, into)
        return result, (result, result)

    def blend(self, a: Any, x: Tree, b: Any, y: Tree) -> tuple[Tree, Any]:
        """``a x + b y`` in the memory of y, and the squared norms."""
        for v in engine.leaves(y):
            np.multiply(v.data, self._numbers(b, v), out=v.data, casting="same_kind")
        return self.axpy_norm(a, x, y, into=y)

    def combined(self, y: Tree, numbers: Sequence[Any], vectors: Sequence[Tree]) -> Tree:
        """``y + Σ a x`` over numbers and vectors."""
        result = engine.copied(y)
        for a, x in zip(numbers, vectors, strict=True):
            result = self.axpy(a, x, result, into=result)
        return result

    def advance(self, x: Tree, p: Tree, z: Tree, a: Any, b: Any) -> tuple[Tree, Tree]:
        """``x + a p`` and ``z + b p``."""
        return self.axpy(a, p, x, into=x), self.axpy(b, p, z, into=p)

    def times(self, a: Any, x: Tree) -> Tree:
        """``a * x``."""
        return engine.transform(
            lambda v: Array(
                (self._numbers(a, v) * v.data).astype(v.data.dtype, copy=False), v.dims
            ),
            x,
        )

    def dots(self, *products: Any) -> tuple[Any, ...]:
        """Re⟨x, y⟩ of pairs of vectors, for each problem."""
        return tuple(
            self._dot(*product) if isinstance(product, tuple) else product
            for product in products
        )

    def _dot(self, x: Tree, y: Tree) -> NDArray:
        return np.asarray(
            sum(
                self._real_dot(a, b.ordered(a.dims))
                for a, b in zip(engine.leaves(x), engine.leaves(y), strict=True)
            )
        )

    def _real_dot(self, x: Array, y: Array) -> NDArray:
        """In double precision: squares of single precision soon leave its range."""
        axes = {dim: i for i, dim in enumerate(x.dims)}
        given, made = [*axes.values()], [axes[dim] for dim in self.dims]

        def summed(a: NDArray, b: NDArray) -> NDArray:
            dtype = np.result_type(a.dtype, np.float64)
            return np.asarray(np.einsum(a, given, b, given, made, dtype=dtype))

        u, v = x.data, y.data
        if u.dtype.kind == v.dtype.kind == "c":
            return summed(u.real, v.real) + summed(u.imag, v.imag)
        return summed(u.real, v.real)

    def mapped(
        self,
        function: Callable[..., Any],
        *vectors: Tree,
        numbers: Sequence[Any] = (),
        into: Tree | None = None,
        whole: bool = False,
    ) -> Tree:
        """A function of samples, and of the numbers of their problem."""

        def one(first: Array, *others: Array) -> Array:
            data = [first.data, *(other.ordered(first.dims).data for other in others)]
            made = function(*data, *(self._numbers(n, first) for n in numbers))
            return Array(np.asarray(made).astype(first.data.dtype, copy=False), first.dims)

        return engine.paired(one, *vectors)

    def summed(
        self, function: Callable[..., Any], *vectors: Tree, numbers: Sequence[Any] = ()
    ) -> Any:
        """The sum of a real function of samples, for each problem."""

        def one(first: Array, *others: Array) -> NDArray:
            data = [first.data, *(other.ordered(first.dims).data for other in others)]
            values = np.asarray(
                function(*data, *(self._numbers(n, first) for n in numbers))
            )
            kept = [dim for dim in first.dims if dim in self.dims]
            along = tuple(i for i, dim in enumerate(first.dims) if dim not in self.dims)
            summed = Array(values.sum(axis=along, dtype=np.float64), tuple(kept))
            return np.asarray(summed.ordered(self.dims).data)

        groups = zip(*map(engine.leaves, vectors), strict=True)
        return np.asarray(sum(one(*group) for group in groups))

    def percentile(self, x: Tree, q: float) -> Any:
        """The magnitude that `q` percent of the samples of a problem do not exceed."""
        flat = []
        for leaf in engine.leaves(x):
            others = [dim for dim in leaf.dims if dim not in self.dims]
            data = np.abs(leaf.ordered((*self.dims, *others)).data)
            shape = data.shape[: len(self.dims)]
            flat.append(data.reshape(*shape, -1))
        return np.percentile(np.concatenate(flat, axis=-1), q, axis=-1)

    def ratio(self, a: Any, b: Any) -> Any:
        """``a / b``, and 0 where b is not positive or a is negative: no step is made."""
        a, b = np.broadcast_arrays(a, b)
        fine = (b > 0) & (a >= 0)
        return np.divide(a, b, out=np.zeros(b.shape), where=fine)

    def goes_on(self, pivot: Any) -> bool:
        """Whether a number that must be positive is, for one problem at least."""
        return bool(np.any(pivot > 0))

    def persist(self, *values: Any, homes: Homes | None = None) -> tuple[Any, ...]:
        """All is there already."""
        return values


def _joined(real: Any, imag: Any) -> Any:
    """A complex number of its parts."""
    return real + 1j * imag
