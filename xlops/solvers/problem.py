"""A least-squares problem in plain vectors, as methods see it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import DataError
from xlops.operator import LinearOperator
from xlops.solvers.arithmetic import Arithmetic
from xlops.space import by_name
from xlops.windows.pieces import Array, placed

__all__ = ["Problem", "layout_of", "nan_error"]


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
    vectors : Arithmetic
        The arithmetic of its vectors and numbers.
    layout : mapping of str to tuple of Hashable, optional
        The dims of the blocks of the model, in their order; found out unless given.
    """

    operator: LinearOperator
    y: Tree
    damp: float
    x0: Tree | None
    x_ref: Tree | None
    preconditioner: LinearOperator | None
    vectors: Arithmetic
    layout: Mapping[str, tuple[Hashable, ...]] = dataclasses.field(default_factory=dict)
    _is_checked: bool = False

    def __post_init__(self) -> None:
        self.layout = self.layout or layout_of(self.operator, self.y)
        self._data = self.y  # on disk there is y only as long as methods need it
        self.y = self.vectors.kept(self.y)
        self._homes = engine.Homes([leaf.data for leaf in engine.leaves(self.y)])

    def forward(self, x: Tree) -> Tree:
        """``A x``, laid out as y is."""
        result = self.operator._run(self.vectors.kept(x), False)
        return self.vectors.kept(engine.alike(result, self.y))

    def adjoint(self, r: Tree) -> Tree:
        """``Aᴴ r``, laid out as x is."""
        result = self.operator._run(self.vectors.kept(r), True)
        return self.vectors.kept(engine.alike(result, self.model))

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

    def begin_again(self) -> None:
        """Read y anew: on disk, vectors of what has been computed so far have its place."""
        if self.vectors.shelf is not None:
            self.y = self.vectors.kept(self._data)
            self.__dict__.pop("model", None)

    @property
    def unknowns(self) -> int:
        """Size of the model."""
        return sum(leaf.data.size for leaf in engine.leaves(self.model))

    @property
    def rounding(self) -> float:
        """Of the precision of the data."""
        return max(float(np.finfo(leaf.data.dtype).eps) for leaf in engine.leaves(self.y))

    def _laid_out(self, model: Array, name: str) -> Array:
        """A block of the model with its dims in the order that the data ask for."""
        model = model.ordered(self.layout[name])
        return model if self.vectors.shelf is None else engine.regular(model)

    def start(self) -> tuple[Tree, Tree]:
        """The first model and its residual."""
        if self.x0 is None:
            return self.model, self.y
        x = engine.alike(self.x0, self.model)
        return x, self.residual(x)

    def residual(self, x: Tree) -> Tree:
        """``y − A x``."""
        return self.vectors.axpy(-1.0, self.forward(x), self._data)

    def misfit(self, x: Tree) -> tuple[Tree, Any]:
        """``y − A x``, and what `dots` makes its squared norm of."""
        q = self.forward(x)
        own = not any(
            engine.shares_memory(leaf, other)
            for leaf in engine.leaves(q)
            for other in (x, self._data)
        )
        return self.vectors.axpy_norm(-1.0, q, self._data, into=q if own else None)

    def gradient(self, x: Tree, r: Tree) -> Tree:
        """``Aᴴ r − damp² (x − x_ref)``, half the negative gradient of the objective."""
        _ = self.model  # Aᴴ y is at hand, at the start
        if r is self.y and "_first_adjoint" in self.__dict__:
            s = self.vectors.kept(self.__dict__.pop("_first_adjoint"))
        else:
            s = self.adjoint(r)
        return self.damped(s, x)

    def damped(self, s: Tree, x: Tree) -> Tree:
        """``s − damp² (x − x_ref)``."""
        if not self.damp:
            return s
        s = self.vectors.axpy(-(self.damp**2), x, s)
        if self.x_ref is not None:
            pull = engine.alike(self.x_ref, self.model)
            s = self.vectors.axpy(self.damp**2, pull, s)
        return s

    def precondition(self, s: Tree) -> Tree:
        """The preconditioner applied to a vector of the model's kind."""
        if self.preconditioner is None:
            return s
        z = self.preconditioner._run(self.vectors.kept(s), False)
        return self.vectors.kept(engine.alike(z, self.model))

    def persist(self, *values: Any) -> tuple[Any, ...]:
        """Compute vectors and numbers of one iteration in one submission."""
        persist = functools.partial(self.vectors.persist, homes=self._homes)
        if self._is_checked:
            return persist(*values)
        # The first time: NaN are counted, and what every iteration reads is kept.
        pull: Tree = {} if self.x_ref is None else self.x_ref
        if pull and self.vectors.shelf is not None:
            pull = self.vectors.shelf.put(engine.alike(pull, self.model), pinned=True)
        *results, pull, count = persist(*values, pull, engine.count_nan(self.y))
        if count:
            raise nan_error(int(count))
        self.x_ref = pull or None
        self._is_checked = True
        self.__dict__.pop("_first_adjoint", None)  # methods that want it have had it
        return tuple(results)


def nan_error(count: int) -> DataError:
    """What is said of data with NaN."""
    return DataError(
        f"the data have {count} NaN, which a solver would spread over the whole model; "
        "leave them out with xl.Mask(y.notnull()): it makes them exact zeros, in the data "
        "(mask @ y) and in the operator (mask @ A)"
    )


def layout_of(operator: LinearOperator, y: Tree) -> dict[str, tuple[Hashable, ...]]:
    """The dims of the blocks of the model, in the order that the data ask for."""
    result = {}
    for name, space in by_name(operator.domain).items():
        row = operator.gains.out_of(name)[0]
        given = y[row] if isinstance(y, dict) else y
        made = by_name(operator.range)[row].sizes
        result[name] = placed(given.dims, made, space.sizes)
    return result
