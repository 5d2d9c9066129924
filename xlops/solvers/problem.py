"""A least-squares problem in plain vectors, as methods see it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from xlops import engine
from xlops.engine import Shelf, Tree
from xlops.errors import DataError
from xlops.operator import LinearOperator
from xlops.space import by_name
from xlops.windows.pieces import Array, placed

__all__ = ["Problem"]


@dataclasses.dataclass
class Problem:
    """A problem in plain vectors, as methods see it.

    Parameters
    ----------
    operator : LinearOperator
        A.
    y : Array or dict of Array
        The data.
    damp : float
        Weight of ‖x − x_ref‖.
    x0, x_ref : Array or dict of Array, optional
        Where to start, and where damping pulls to; zero unless given.
    preconditioner : LinearOperator, optional
        A positive operator near the inverse of what the method inverts.
    shelf : Shelf, optional
        Where all vectors lie on disk; in memory unless given.
    """

    operator: LinearOperator
    y: Tree
    damp: float
    x0: Tree | None
    x_ref: Tree | None
    preconditioner: LinearOperator | None
    shelf: Shelf | None = None
    _is_checked: bool = False

    def __post_init__(self) -> None:
        self.y = self.kept(self.y)

    @functools.cached_property
    def _homes(self) -> engine.Homes:
        return engine.Homes([leaf.data for leaf in engine.leaves(self.y)])

    def kept(self, tree: Tree) -> Tree:
        """A vector, on disk where vectors lie there.

        So are those in the middle of an iteration: all of their chunks wait for a number.
        """
        return tree if self.shelf is None else self.shelf.put(tree)

    def axpy_norm(self, a: Any, x: Tree, y: Tree, into: Tree) -> tuple[Tree, Any]:
        """`engine.axpy_norm`, but that on disk the norm is taken of what lies there."""
        result, norm = engine.axpy_norm(a, x, y, into)
        if self.shelf is None:
            return result, norm
        result = self.kept(result)
        return result, (result, result)

    def advance(self, x: Tree, p: Tree, z: Tree, a: Any, b: Any) -> tuple[Tree, Tree]:
        """`engine.advance`, but that on disk each vector is made where it is written."""
        if self.shelf is None:
            return engine.advance(x, p, z, a, b)
        return self.kept(engine.axpy(a, p, x)), self.kept(engine.axpy(b, p, z))

    def forward(self, x: Tree) -> Tree:
        """``A x``, laid out as y is."""
        return self.kept(engine.alike(self.operator._run(self.kept(x), False), self.y))

    def adjoint(self, r: Tree) -> Tree:
        """``Aᴴ r``, laid out as x is."""
        result = self.operator._run(self.kept(r), True)
        return self.kept(engine.alike(result, self.model))

    @functools.cached_property
    def model(self) -> Tree:
        """A model of zeros, which says how all models are laid out."""
        back = self.operator._run(self.y, True)
        if isinstance(back, dict):
            blocks = {name: self._laid_out(array, name) for name, array in back.items()}
            self._first_adjoint: Tree = blocks
        else:
            self._first_adjoint = self._laid_out(back, "")
        return engine.zeros_like(self._first_adjoint)

    def _laid_out(self, model: Array, name: str) -> Array:
        """A block of the model with its dims in the order that the data ask for."""
        row = self.operator.gains.out_of(name)[0]
        given = self.y[row] if isinstance(self.y, dict) else self.y
        made = by_name(self.operator.domain)[name].sizes
        dims = placed(given.dims, by_name(self.operator.range)[row].sizes, made)
        model = model.ordered(dims)
        return model if self.shelf is None else engine.regular(model)

    def start(self) -> tuple[Tree, Tree]:
        """The first model and its residual."""
        if self.x0 is None:
            return self.model, self.y
        x = engine.alike(self.x0, self.model)
        return x, engine.minus(self.y, self.forward(x))

    def gradient(self, x: Tree, r: Tree) -> Tree:
        """``Aᴴ r − damp² (x − x_ref)``, half the negative gradient of the objective."""
        if r is self.y:
            _ = self.model  # Aᴴ y is at hand
            s = self._first_adjoint
            del self._first_adjoint  # it is not needed again
            s = self.kept(s)
        else:
            s = self.adjoint(r)
        return self.damped(s, x)

    def damped(self, s: Tree, x: Tree) -> Tree:
        """``s − damp² (x − x_ref)``."""
        if not self.damp:
            return s
        s = engine.axpy(-(self.damp**2), x, s)
        if self.x_ref is not None:
            s = engine.axpy(self.damp**2, engine.alike(self.x_ref, self.model), s)
        return self.kept(s)

    def precondition(self, s: Tree) -> Tree:
        """The preconditioner applied to a vector of the model's kind."""
        if self.preconditioner is None:
            return s
        z = self.preconditioner._run(self.kept(s), False)
        return self.kept(engine.alike(z, self.model))

    def persist(self, *values: Any) -> tuple[Any, ...]:
        """Compute vectors and numbers of one iteration in one submission."""
        # On disk, chunks need no home: all that moves says where they lie.
        persist: Callable[..., tuple[Any, ...]] = (
            functools.partial(engine.persist, homes=self._homes)
            if self.shelf is None
            else self.shelf.compute
        )
        if self._is_checked:
            return persist(*values)
        # The first time: NaN are counted, and what every iteration reads is kept.
        pull: Tree = {} if self.x_ref is None else self.x_ref
        if pull and self.shelf is not None:
            pull = self.shelf.put(engine.alike(pull, self.model), pinned=True)
        *results, pull, count = persist(*values, pull, engine.count_nan(self.y))
        if count:
            raise DataError(
                f"the data have {int(count)} NaN, which a solver would spread over the "
                "whole model; leave them out with xl.Mask(y.notnull()): it makes them "
                "exact zeros, in the data (mask @ y) and in the operator (mask @ A)"
            )
        self.x_ref = pull or None
        self._is_checked = True
        return tuple(results)
