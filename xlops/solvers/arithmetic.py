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

    def advance(self, x: Tree, p: Tree, z: Tree, a: Any, b: Any) -> tuple[Tree, Tree]:
        """``x + a p`` and ``z + b p``, in the memory of x and p on NumPy."""
        return engine.advance(x, p, z, a, b)

    def times(self, a: Any, x: Tree) -> Tree:
        """``a * x``."""
        return self.kept(engine.times(a, x))

    def dots(self, *products: Any) -> tuple[Any, ...]:
        """Re⟨x, y⟩ of pairs of vectors; what `axpy_norm` gave is passed on."""
        return engine.dots(*products)

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
        return self.spread(np.asarray(a, of_kind(array.data.dtype, "real")), array)

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
