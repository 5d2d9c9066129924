"""SciPy: bound operators as `scipy.sparse.linalg.LinearOperator`."""

from __future__ import annotations

from typing import Any

from xlops.bound import Bound
from xlops.operator import offer

__all__ = ["to_scipy"]


@offer("to_scipy")
def to_scipy(bound: Bound) -> Any:
    """``bound.to_scipy()``."""
    from scipy.sparse.linalg import LinearOperator

    return LinearOperator(
        bound.shape,
        matvec=bound.matvec,
        rmatvec=bound.rmatvec,
        matmat=bound.matmat,
        rmatmat=bound.rmatmat,
        dtype=bound.dtype,
    )
