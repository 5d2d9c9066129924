"""The class that PyLops sees; imported when first used, since it loads PyLops."""

from __future__ import annotations

from typing import Any

import pylops

from xlops.bound import Bound as BoundOperator
from xlops.space import Space
from xlops.windows.pieces import NDArray

__all__ = ["Bound"]


class Bound(pylops.LinearOperator):  # type: ignore[misc]
    """A bound operator of xlops among those of PyLops.

    Parameters
    ----------
    bound : xlops.bound.Bound
        The operator.
    """

    def __init__(self, bound: BoundOperator) -> None:
        self.bound = bound
        dims, dimsd = (
            tuple(side.sizes.values()) or (1,) if isinstance(side, Space) else (side.size,)
            for side in (bound.domain, bound.range)
        )
        super().__init__(
            dtype=bound.dtype,
            dims=dims,
            dimsd=dimsd,
            clinear=bound.clinear,
            name=bound.name,
        )

    def _matvec(self, x: Any) -> NDArray:
        return self.bound.matvec(x)

    def _rmatvec(self, x: Any) -> NDArray:
        return self.bound.rmatvec(x)

    def _matmat(self, X: Any) -> NDArray:
        return self.bound.matmat(X)

    def _rmatmat(self, X: Any) -> NDArray:
        return self.bound.rmatmat(X)
