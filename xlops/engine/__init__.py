"""Engine: runs plans on NumPy and Dask, and the vector arithmetic of solvers.

The only part of the library that imports dask.array, and only when Dask arrays are about.
"""

from __future__ import annotations

from xlops.engine.apart import Apart, apart, coupling, in_tasks
from xlops.engine.explain import Explanation, chunks_for, explain
from xlops.engine.lazy import is_lazy
from xlops.engine.loss import loss
from xlops.engine.placement import Homes
from xlops.engine.run import run
from xlops.engine.stored import Shelf, on_disk, opened, regular, write
from xlops.engine.threads import one_thread_each
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
    total,
    transform,
    zeros_like,
)

__all__ = [
    "Apart",
    "Explanation",
    "Homes",
    "Shelf",
    "Tree",
    "advance",
    "alike",
    "apart",
    "axpy",
    "axpy_norm",
    "chunks_for",
    "copied",
    "count_nan",
    "coupling",
    "dot",
    "dots",
    "explain",
    "in_tasks",
    "is_known",
    "is_lazy",
    "is_tree",
    "leaves",
    "loss",
    "minus",
    "number",
    "on_disk",
    "one_thread_each",
    "opened",
    "paired",
    "persist",
    "ratio",
    "regular",
    "run",
    "scaled",
    "settled",
    "shares_memory",
    "times",
    "total",
    "transform",
    "write",
    "zeros_like",
]
