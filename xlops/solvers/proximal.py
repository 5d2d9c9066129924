"""Proximal operators of pyproximal as terms of an objective, on plain vectors.

They are taken by what they can do, `prox` and being called; pyproximal is not imported.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np

from xlops import engine
from xlops.engine import Tree
from xlops.errors import ChunkError, DTypeError
from xlops.solvers.problem import Problem
from xlops.windows.pieces import Array, NDArray

__all__ = ["Proximal"]

# What acts sample by sample where these arguments of its are plain numbers, or None.
SEPARABLE = {
    "L0": ("sigma",),
    "L1": ("sigma", "g"),
    "L2": ("sigma", "alpha", "Op", "b", "q"),
    "Box": ("lower", "upper"),
}


class Proximal:
    """A proximal operator of pyproximal as a term.

    Parameters
    ----------
    operator : object
        With ``prox(x, tau)``, and callable.
    who : str
        The solver, for errors.
    """

    def __init__(self, operator: Any, who: str) -> None:
        if not (callable(getattr(operator, "prox", None)) and callable(operator)):
            raise DTypeError(
                f"{who}: proximal operators have a method prox(x, tau) and can be called, "
                f"as those of pyproximal; got {type(operator).__name__}"
            )
        self._operator, self._who = operator, who
        self._is_separable = _is_separable(operator)
        self._problem: Problem

    def prepared(self, problem: Problem) -> Proximal:
        """The term of a problem."""
        own = copy.copy(self)
        own._problem = problem
        return own

    def prox(self, x: Tree, step: Any) -> tuple[Tree, Any]:
        """The proximal operator of ``step`` times the term, and the term there."""
        if self._is_separable or not isinstance(x, dict):
            self._check(x)
            x = self._problem.vectors.mapped(
                functools.partial(_prox, self._operator),
                x,
                numbers=(step,),
                whole=not self._is_separable,
            )
        else:
            self._check(x)
            flat = self._operator.prox(_flat(x), step)
            x = _like(x, flat)
        return x, self.value(x)

    def value(self, x: Tree) -> Any:
        """The term at a model; infinite where it forbids it."""
        if self._is_separable:
            function = functools.partial(_value, self._operator)
            return self._problem.vectors.summed(function, x)
        self._check(x)
        leaves = engine.leaves(x)
        if engine.is_lazy(leaves[0].data):
            function = functools.partial(_value, self._operator)
            return engine.summed(function, x, whole=True)
        return float(_value(self._operator, _flat(x))[0])

    def _check(self, x: Tree) -> None:
        """Raise where the operator needs all samples, and they are in chunks."""
        leaves = engine.leaves(x)
        cut = any(engine.is_lazy(a.data) and a.data.npartitions > 1 for a in leaves)
        lazy = any(engine.is_lazy(a.data) for a in leaves)
        if not self._is_separable and (cut or (lazy and len(leaves) > 1)):
            raise ChunkError(
                f"{self._who}: {type(self._operator).__name__} needs all samples at once, "
                "but they are in several chunks; put the data in one chunk, or compute "
                "them, if they fit into memory. L0, L1, L2 and Box with plain numbers act "
                "chunk by chunk"
            )


def _is_separable(operator: Any) -> bool:
    kind = type(operator)
    if not kind.__module__.startswith("pyproximal"):
        return False
    given = [getattr(operator, name, None) for name in SEPARABLE.get(kind.__name__, ())]
    return bool(given) and all(value is None or np.isscalar(value) for value in given)


def _prox(operator: Any, x: NDArray, step: Any) -> NDArray:
    return np.asarray(operator.prox(x.reshape(-1), step)).reshape(x.shape)


def _value(operator: Any, x: NDArray) -> NDArray:
    """The term as a number; those that say whether a model is allowed are 0 or infinite."""
    found = operator(x.reshape(-1))
    if isinstance(found, (bool, np.bool_)):
        return np.array([0.0 if found else np.inf])
    return np.array([float(found)])


def _flat(x: Tree) -> NDArray:
    return np.concatenate([leaf.data.reshape(-1) for leaf in engine.leaves(x)])


def _like(x: dict[str, Array], flat: NDArray) -> Tree:
    """Blocks of a flat vector, one after the other."""
    result, start = {}, 0
    for name, leaf in x.items():
        piece = flat[start : start + leaf.data.size].reshape(leaf.data.shape)
        result[name] = Array(piece.astype(leaf.data.dtype, copy=False), leaf.dims)
        start += leaf.data.size
    return result
