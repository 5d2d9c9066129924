"""Engine: runs plans on NumPy and Dask, and the vector arithmetic of solvers.

The only part of the library that imports dask.array, and only when Dask arrays are about.
"""

from __future__ import annotations

from xlops.engine.explain import Explanation, chunks_for, explain
from xlops.engine.lazy import is_lazy
from xlops.engine.loss import loss
from xlops.engine.placement import Homes
from xlops.engine.run import run
from xlops.engine.stored import Shelf, on_disk, regular
from xlops.engine.vectors import (
    Tree,
    advance,
    alike,
    axpy,
    axpy_norm,
    copied,
    count_nan,
    dot,
    dots,
    is_known,
    is_tree,
    leaves,
    minus,
    number,
    paired,
    persist,
    ratio,
    scaled,
    settled,
    shares_memory,
    times,
    transform,
    zeros_like,
)

__all__ = [
    "Explanation",
    "Homes",
    "Shelf",
    "Tree",
    "advance",
    "alike",
    "axpy",
    "axpy_norm",
    "chunks_for",
    "copied",
    "count_nan",
    "dot",
    "dots",
    "explain",
    "is_known",
    "is_lazy",
    "is_tree",
    "leaves",
    "loss",
    "minus",
    "number",
    "on_disk",
    "paired",
    "persist",
    "ratio",
    "regular",
    "run",
    "scaled",
    "settled",
    "shares_memory",
    "times",
    "transform",
    "zeros_like",
]
