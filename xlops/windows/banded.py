"""Banded matrices along dims, as a kernel: the kind of kernel whose sums run as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import TYPE_CHECKING

from xlops.windows.pieces import Block, NDArray

if TYPE_CHECKING:
    from xlops.kernels.band import Band

__all__ = ["Banded"]


@dataclasses.dataclass(frozen=True, eq=False)
class Banded:
    """The sum of banded matrices, each along one dim, in one pass over the data.

    Parameters
    ----------
    terms : tuple of (Hashable, Band)
        Dims and matrices.
    """

    terms: tuple[tuple[Hashable, Band], ...]

    def __call__(self, block: Block, out: NDArray) -> None:
        """Fill `out` with the piece that the block asks for."""
        from xlops.kernels import stencil

        have, want = (
            [window[dim].start if dim in window else 0 for dim in block.dims]
            for window in (block.have, block.want)
        )
        terms = [(block.dims.index(dim), band) for dim, band in self.terms]
        stencil.star(block.data, out, terms, have, want)

    def scaled(self, factor: float) -> Banded:
        """The same times a number."""
        if factor == 1.0:
            return self
        return Banded(tuple((dim, band.scaled(factor)) for dim, band in self.terms))
