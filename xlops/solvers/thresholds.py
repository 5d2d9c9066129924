"""Thresholds: the proximal operators of sparsity, sample by sample.

The proximal operator of t P at z is the x that minimises ½ |x − z|² + t P(x). Of complex
samples the phase stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from xlops.errors import ArgumentError, shown
from xlops.windows.pieces import NDArray

__all__ = ["KINDS", "Kind", "Threshold", "half", "hard", "soft", "threshold"]

Kind: TypeAlias = Literal[
    "soft", "hard", "half", "soft-percentile", "hard-percentile", "half-percentile"
]

# Below (54^(1/3) / 4) (2 t)^(2/3) half thresholding gives 0.
_HALF = 54 ** (1 / 3) / 4


def soft(x: NDArray, t: Any) -> NDArray:
    """The proximal operator of t |x|.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.solvers.thresholds import soft
    >>> soft(np.array([-3.0, 0.5, 2.0]), 1.0)
    array([-2.,  0.,  1.])
    """
    if x.dtype.kind != "c":
        return np.asarray(x - np.clip(x, -t, t))
    size = np.abs(x)
    kept = np.maximum(size - t, 0)
    return np.asarray(x * np.divide(kept, size, out=kept, where=kept > 0))


def hard(x: NDArray, t: Any) -> NDArray:
    """The proximal operator of t where x is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.solvers.thresholds import hard
    >>> hard(np.array([-3.0, 0.5, 2.0]), 0.5)
    array([-3.,  0.,  2.])
    """
    return np.where(np.abs(x) > np.sqrt(2 * t), x, x.dtype.type(0))


def half(x: NDArray, t: Any) -> NDArray:
    """The proximal operator of t √|x|, by the formula of Xu et al.

    References
    ----------
    .. [1] Z. Xu, X. Chang, F. Xu and H. Zhang, "L1/2 regularization: a thresholding
       representation theory and a fast solver", IEEE Trans. Neural Networks and Learning
       Systems 23, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from xlops.solvers.thresholds import half
    >>> half(np.array([-4.0, 0.5]), 1.0).round(4)
    array([-3.7415,  0.    ])
    """
    size = np.abs(x)
    above = size > _HALF * (2 * t) ** (2 / 3)
    safe = np.where(above, size, 1)
    angle = np.arccos(np.minimum(t / 4 * (safe / 3) ** -1.5, 1))
    scale = 2 / 3 * (1 + np.cos(2 / 3 * (np.pi - angle)))
    return np.asarray(x * np.where(above, scale, 0).astype(size.dtype, copy=False))


def nonzero(x: NDArray) -> NDArray:
    """1 where a sample is not zero."""
    return np.asarray(x != 0)


def root(x: NDArray) -> NDArray:
    """The square root of the magnitude."""
    return np.asarray(np.sqrt(np.abs(x)))


def _soft_at(level: Any) -> Any:
    return level


def _hard_at(level: Any) -> Any:
    return level * level / 2


def _half_at(level: Any) -> Any:
    return (level / _HALF) ** 1.5 / 2


class Threshold(NamedTuple):
    """A kind of threshold.

    Parameters
    ----------
    shrink : callable
        The proximal operator, of samples and t.
    penalty : callable
        What it is the proximal operator of, sample by sample.
    power : float
        The power of the model that the penalty grows with.
    at : callable
        The t whose threshold lies at a magnitude.
    by_percentile : bool
        Whether the threshold is a percentile of the magnitudes.
    """

    shrink: Callable[[NDArray, Any], NDArray]
    penalty: Callable[[NDArray], NDArray]
    power: float
    at: Callable[[Any], Any]
    by_percentile: bool = False


_plain = {
    "soft": Threshold(soft, np.abs, 1.0, _soft_at),
    "hard": Threshold(hard, nonzero, 0.0, _hard_at),
    "half": Threshold(half, root, 0.5, _half_at),
}
KINDS: dict[str, Threshold] = _plain | {
    f"{kind}-percentile": rule._replace(by_percentile=True) for kind, rule in _plain.items()
}


def threshold(kind: Any, perc: Any, who: str) -> Threshold:
    """The kind of threshold that is asked for, checked."""
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ArgumentError(f"{who}: no threshkind {shown(kind)}; there are {known}")
    rule = KINDS[kind]
    if rule.by_percentile:
        if not isinstance(perc, (int, float, np.integer, np.floating)) or not (
            0 < perc <= 100
        ):
            raise ArgumentError(
                f"{who}: threshkind {kind!r} keeps perc percent of the samples, a number "
                f"above 0 and up to 100, got {shown(perc)}"
            )
    elif perc is not None:
        raise ArgumentError(f"{who}: perc is for thresholds by percentile, not {kind!r}")
    return rule
