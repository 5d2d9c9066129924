"""Weights, sample by sample, as a kernel: the kind of kernel that bands take along."""

from __future__ import annotations

import dataclasses

import numpy as np

from xlops.windows.pieces import Block, NDArray

__all__ = ["Weighted"]


@dataclasses.dataclass(frozen=True)
class Weighted:
    """The product with weights, in the precision of the data.

    Parameters
    ----------
    conjugate : bool
        Whether the conjugate of the weights is used.
    """

    conjugate: bool = False

    def __call__(self, block: Block, out: NDArray) -> None:
        """Fill `out` with the piece that the block asks for."""
        weight = block.weight()
        if self.conjugate and weight.dtype.kind == "c":
            weight = weight.conj()
        if weight.dtype.kind == "c" and out.dtype.kind != "c":
            weight = weight.real
        kind = np.complex64 if weight.dtype.kind == "c" else np.float32
        weight = weight.astype(np.result_type(block.data.dtype, kind), copy=False)
        np.multiply(block.data, weight, out=out)
