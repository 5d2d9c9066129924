"""Chains of banded matrices and weights along one dim: what one pass makes."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from xlops.windows.banded import Banded
from xlops.windows.pieces import Window
from xlops.windows.plan import Apply, Node, Source
from xlops.windows.weighted import Weighted

__all__ = ["Lines"]

# Samples across the dim that are worth a line.
SHORTEST = 16
# Steps with weights that one pass takes: as many as the kernel does.
MOST_WEIGHTS = 5


class Lines(NamedTuple):
    """Steps that one pass makes: bands along one dim, each with weights or without.

    Attributes
    ----------
    dim : Hashable
        The dim of the bands.
    levels : tuple of (Apply or None, Apply or None)
        Bands and the weights of their results, what is applied first comes first; the
        first level has no band.
    base : Node
        What the first step is applied to.
    """

    dim: Hashable
    levels: tuple[tuple[Apply | None, Apply | None], ...]
    base: Node

    @classmethod
    def of(cls, node: Node, least: int = 2) -> Lines | None:
        """The steps on top of a plan that one pass makes; None for fewer than `least`."""
        dim: Hashable = None
        levels: list[tuple[Apply | None, Apply | None]] = []
        weights: Apply | None = None
        while isinstance(node, Apply) and node.child.dtype == node.dtype:
            kernel = node.kernel
            if isinstance(kernel, Banded) and len(kernel.terms) == 1:
                own = kernel.terms[0][0]
                if node.dtype not in _FLOATS or (levels and own != dim):
                    break
                dim = own
                levels.append((node, weights))
                weights = None
            elif isinstance(kernel, Weighted) and _fits(node) and weights is None:
                if sum(w is not None for _, w in levels) == MOST_WEIGHTS:
                    break
                weights = node
            else:
                break
            node = node.child
        levels.append((None, weights))
        across = node.shape[node.dims.index(dim) + 1 :] if len(levels) > 1 else ()
        if not across or math.prod(across) < SHORTEST:
            return None
        chain = cls(dim, tuple(levels[::-1]), node)
        return chain if chain.steps >= least else None

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return sum(step is not None for level in self.levels for step in level)

    def needs(self, want: Window) -> Window:
        """The piece of the base that a piece of the result needs."""
        for band, _ in self.levels[:0:-1]:
            assert band is not None
            want = band.needs(want)
        return want

    @property
    def streams(self) -> bool:
        """Whether all that is read is there, and may be read in pieces."""
        lazy = (
            isinstance(weight, Source) and not weight.whole
            for _, step in self.levels
            if step is not None
            for weight in step.step.weights
        )
        return isinstance(self.base, Source) and not any(lazy)


_FLOATS = tuple(map(np.dtype, (np.float32, np.float64, np.complex64, np.complex128)))


def _fits(node: Apply) -> bool:
    """Whether weights need no conversion."""
    (weight,) = node.step.weights
    dtype = weight.dtype if isinstance(weight, Source) else weight.data.dtype
    real = np.empty(0, node.dtype).real.dtype
    return node.factor == 1.0 and dtype in (real, node.dtype)
