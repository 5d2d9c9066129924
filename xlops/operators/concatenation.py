"""Concat: operators side by side along a new dim."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import xarray as xr

from xlops.algebra import Product, Sum
from xlops.elementary import Elementary
from xlops.errors import DTypeError, LabelError, shown
from xlops.operator import LinearOperator
from xlops.operators.common import called
from xlops.space import Blocks, Space
from xlops.windows.pieces import Block, NDArray
from xlops.windows.rules import Insertion

__all__ = ["Concat"]


class Concat(Sum):
    """Several operators on one array, their results side by side along a new dim.

    Parameters
    ----------
    operators : sequence of LinearOperator, or mapping
        The operator of each sample of the new dim; all make the same labels. The keys of
        a mapping are the labels of the new dim.
    dim : DataArray or str
        The coordinate of the new dim, with one label for each operator, or its name.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    LabelError
        Where there is no operator, one maps blocks or has the new dim already, the
        number of labels is another, or labels of what they make differ.
    UnitError
        Where what they make does not come in one unit.
    DTypeError
        Where something is not an operator, or `dim` is neither a name nor a coordinate.

    Notes
    -----
    The adjoint takes an array with the new dim and adds up what the operators give for
    each of its samples. On Dask each sample of the new dim is a chunk.

    Examples
    --------
    Shots that see different traces of one line:

    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(6.0), dims="cdp")
    >>> shots = xr.DataArray([10, 20], dims="shot", coords={"shot": [10, 20]}).shot
    >>> A = xl.Concat([xl.Restriction(x.cdp, [0, 1]), xl.Restriction(x.cdp, [3, 4])], shots)
    >>> (A @ x).sel(shot=20).values
    array([3., 4.])
    """

    def __init__(
        self,
        operators: Sequence[LinearOperator] | Mapping[Hashable, LinearOperator],
        dim: xr.DataArray | str,
        *,
        name: str | None = None,
    ) -> None:
        labels = None
        if isinstance(operators, Mapping):
            labels, operators = list(operators), list(operators.values())
        if isinstance(operators, (str, LinearOperator)) or not isinstance(
            operators, Sequence
        ):
            raise DTypeError(
                f"Concat takes a sequence or a mapping of operators, got {shown(operators)}"
            )
        if not operators:
            raise LabelError("Concat needs at least one operator")
        axis = _along(dim, labels, len(operators))
        (new,) = axis.dims
        who = called(name, f"Concat({new})")
        for i, operator in enumerate(operators):
            if not isinstance(operator, LinearOperator):
                raise DTypeError(
                    f"{who}: item {i} is a {type(operator).__name__}, expected an operator"
                )
            if isinstance(operator.domain, Blocks) or isinstance(operator.range, Blocks):
                raise LabelError(f"{who}: {operator} maps blocks")
            if new in operator.domain or new in operator.range:
                raise LabelError(f"{who}: {operator} has dim {str(new)!r} already")
        if axis.sizes[new] != len(operators):
            raise LabelError(
                f"{who}: {axis.sizes[new]} labels for {len(operators)} operators"
            )
        self.operators = tuple(operators)
        super().__init__(
            [
                Product(_Insertion(axis, i, who), operator)
                for i, operator in enumerate(operators)
            ],
            who,
        )

    def _details(self) -> list[str]:
        return [f"  {i} = {operator}" for i, operator in enumerate(self.operators)]


def _along(dim: object, labels: list[Hashable] | None, count: int) -> Space:
    """The new dim and its labels."""
    if isinstance(dim, xr.DataArray):
        if dim.ndim != 1:
            raise LabelError(
                f"Concat: the coordinate of the new dim must have one dim, got {dim.ndim}"
            )
        if labels is not None and list(dim.values) != labels:
            raise LabelError(
                "Concat: the keys of the mapping are not the labels of the coordinate; "
                "give one or the other"
            )
        return Space.of(dim)
    if not isinstance(dim, str):
        raise DTypeError(
            f"Concat: dim must be a coordinate or a name, got {type(dim).__name__}"
        )
    if labels is None:
        return Space({dim: count})
    if any(isinstance(label, tuple) for label in labels):
        raise LabelError(
            f"Concat: a label of dim {dim!r} is one value, not several; give a sequence "
            "of operators and a coordinate"
        )
    return Space.of(xr.DataArray(np.arange(count), dims=dim, coords={dim: labels})[dim])


class _Insertion(Elementary):
    """An array as one sample of a new dim."""

    def __init__(self, axis: Space, index: int, who: str) -> None:
        (dim,) = axis.dims
        size = axis.sizes[dim]
        super().__init__(
            Space({}),
            axis,
            window=Insertion(dim, size, index),
            forward=functools.partial(_put, dim, index),
            adjoint=functools.partial(_take, dim),
            params={"index": index},
            name=f"{who}[{index}]",
            exact=(True, True),
            keeps_constants=size == 1,
        )


def _put(dim: Hashable, index: int, block: Block, out: NDArray) -> None:
    out[...] = 0
    piece = block.want[dim]
    if piece.start <= index < piece.stop:
        out[..., index - piece.start] = block.data  # the new dim is the last one


def _take(dim: Hashable, block: Block, out: NDArray) -> None:
    out[...] = np.take(block.data, 0, axis=block.dims.index(dim))
