"""Numbers of Krylov methods: quotients and plane rotations.

All functions act sample by sample, on numbers or on arrays with one for each of many
problems, and go through what overflows: the driver looks at what comes out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["inverse_root", "quiet", "quotient", "root", "rotation"]

quiet = np.errstate(all="ignore")


@quiet
def quotient(a: Any, b: Any) -> Any:
    """``a / b``, and 0 where b is 0."""
    if np.ndim(a) == np.ndim(b) == 0:
        return np.divide(a, b) if b else 0.0
    a, b = np.broadcast_arrays(a, b)
    out = np.zeros(b.shape, np.result_type(a, b, np.float64))
    return np.divide(a, b, out=out, where=b != 0)


def root(square: Any) -> Any:
    """The root of a squared norm, which rounding may have made negative."""
    return np.sqrt(np.maximum(square, 0.0))


def inverse_root(square: Any) -> Any:
    """One over the root of a squared norm, and 0 where that is 0."""
    return quotient(1.0, root(square))


def rotation(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """c, s and r of the plane rotation that turns real (a, b) into (r, 0); r ≥ 0."""
    r = np.hypot(a, b)
    return quotient(a, r), quotient(b, r), r
