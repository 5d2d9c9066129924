"""Modes: operators that compute at once, or that take NumPy data to Dask first."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import xarray as xr
from dask.tokenize import tokenize

from xlops import engine, units
from xlops.cf import dim_named
from xlops.errors import ChunkError
from xlops.operator import Coords, LinearOperator
from xlops.windows.plan import Plan

__all__ = ["InMode", "computed", "in_product", "plain"]


class InMode(LinearOperator):
    """An operator, and how it is applied: see `LinearOperator.evaluate` and `.chunked`.

    Parameters
    ----------
    operator : LinearOperator
        The operator.
    computes : tuple of bool
        Whether results of the forward and of the adjoint operator are computed.
    chunks : mapping, optional
        Chunks that NumPy input is cut into.
    """

    def __init__(
        self,
        operator: LinearOperator,
        computes: tuple[bool, bool] = (False, False),
        chunks: Mapping[Any, Any] | None = None,
    ) -> None:
        self.operator, self.computes, self.chunks = operator, computes, dict(chunks or {})
        self.domain, self.range = operator.domain, operator.range
        self._take_after(operator)

    @functools.cached_property
    def H(self) -> LinearOperator:
        """The adjoint, in the mode that this one has for it."""
        adjoint = InMode(self.operator.H, self.computes[::-1], self.chunks)
        adjoint.__dict__["H"] = self
        return adjoint

    def conj(self) -> LinearOperator:
        """The conjugate, in this mode."""
        return InMode(self.operator.conj(), self.computes, self.chunks)

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        mode = (self.computes, sorted(self.chunks.items(), key=repr))
        return str(tokenize("mode", self.operator.token, mode))

    def apply(self, x: Any, /) -> Any:
        """``A @ x`` in this mode."""
        result = super().apply(self.taken(x))
        return computed(result) if self.computes[0] else result

    def taken(self, x: Any) -> Any:
        """Input as this mode takes it: NumPy data cut into chunks."""
        if not self.chunks:
            return x
        if isinstance(x, xr.Dataset):
            return x.map(self.taken, keep_attrs=True)
        if isinstance(x, Mapping):
            return {name: self.taken(block) for name, block in x.items()}
        if not isinstance(x, xr.DataArray):
            return x
        data = x.data
        if units.is_quantity(data):  # xarray would put quantities into chunks
            cut = self.taken(x.copy(data=data.magnitude)).data
            return x.copy(data=data._REGISTRY.Quantity(cut, data.units))
        if engine.is_lazy(data):
            return x
        chunks = {dim_named(n, x, self.name): sizes for n, sizes in self.chunks.items()}
        chunks = {dim: sizes for dim, sizes in chunks.items() if dim in x.dims}
        try:
            cut = x.chunk(chunks)
            if any(size < 1 for sizes in cut.chunks or () for size in sizes):
                raise ValueError("a chunk has no samples")
            return cut
        except (TypeError, ValueError) as error:
            raise ChunkError(
                f"{self}: data of sizes {dict(x.sizes)} cannot be cut into chunks "
                f"{chunks}; give a size for each dim, as in A.chunked(offset=32)"
            ) from error

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        return self.operator._plan(x, adjoint)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, adjoint)


def computed(result: Any) -> Any:
    """Lazy results computed, all in one submission."""
    if isinstance(result, (xr.DataArray, xr.Dataset)):
        return result.compute()
    from dask.base import compute

    (done,) = compute(result)
    return done


def plain(operator: LinearOperator) -> LinearOperator:
    """An operator without its mode."""
    return operator.operator if isinstance(operator, InMode) else operator


def in_product(
    product: LinearOperator, outer: LinearOperator, inner: LinearOperator
) -> LinearOperator:
    """A product in the mode of its outermost factors.

    Forward, `outer` gives the result and `inner` takes the input; adjoint, the other way.
    """
    forward = isinstance(outer, InMode) and outer.computes[0]
    adjoint = isinstance(inner, InMode) and inner.computes[1]
    chunks = inner.chunks if isinstance(inner, InMode) else {}
    if not (forward or adjoint or chunks):
        return product
    return InMode(product, (forward, adjoint), chunks)
