"""Stacks: operators side by side, with named blocks."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from dask.tokenize import tokenize

from xlops.algebra import common, extended_domain, extended_range, of_kind, summed
from xlops.errors import DTypeError, LabelError, shown
from xlops.operator import Coords, LinearOperator
from xlops.space import Blocks, Layout, Space
from xlops.units import Gain
from xlops.windows.plan import Node, Plan

__all__ = ["VStack"]


class VStack(LinearOperator):
    """One array to several named blocks, each by an operator of its own.

    Parameters
    ----------
    operators : mapping of str to LinearOperator, or sequence
        The operator of each block; those of a sequence are named ``"0"``, ``"1"``, ….
        Each is extended by the identity over dims that only others act on.
    name : str, optional
        Names the stack in errors and in its repr.

    Raises
    ------
    DTypeError
        Where something is not an operator.
    LabelError
        Where there is no operator, one maps blocks, or labels of their domains differ.

    Notes
    -----
    The result is a ``dict`` by name. The adjoint takes a mapping (or a Dataset) and adds
    up what the blocks give; their units must add. ``units`` is a mapping by name.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> x = xr.DataArray(np.arange(4.0), dims="time", attrs={"units": "m"})
    >>> stack = xl.VStack({"data": xl.Identity(x), "slope": xl.FirstDerivative(x.time)})
    >>> stack(x)["slope"].values
    array([0., 1., 1., 0.])
    """

    domain: Space
    range: Blocks
    gain: dict[str, Gain]

    def __init__(
        self,
        operators: Mapping[str, LinearOperator] | Sequence[LinearOperator],
        *,
        name: str | None = None,
    ) -> None:
        if not isinstance(operators, Mapping):
            operators = {str(i): operator for i, operator in enumerate(operators)}
        if not operators:
            raise LabelError("VStack needs at least one operator")
        for key, operator in operators.items():
            if not isinstance(key, str):
                raise DTypeError(f"VStack names blocks by strings, got {shown(key)}")
            if not isinstance(operator, LinearOperator):
                raise DTypeError(
                    f"VStack: block {key!r} is a {type(operator).__name__}, expected "
                    "an operator"
                )
        self.operators = dict(operators)
        parts = tuple(self.operators.values())
        self.name = name or f"VStack({', '.join(self.operators)})"
        for key, part in self.operators.items():
            if isinstance(part.domain, Blocks) or isinstance(part.range, Blocks):
                raise LabelError(f"{self.name}: block {key!r} maps blocks itself")
        self.domain = extended_domain(parts, f"{self.name}: blocks")
        self.range = Blocks(
            {
                key: extended_range(part, self.domain, f"{self.name}: blocks")
                for key, part in self.operators.items()
            }
        )
        self.gain = {key: _gain(part) for key, part in self.operators.items()}
        self.keeps_constants = {
            key: part.keeps_constants is True for key, part in self.operators.items()
        }
        self.clinear = all(p.clinear for p in parts) and self.domain.kind != "real"

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        return str(tokenize("vstack", [(k, o.token) for k, o in self.operators.items()]))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        x = of_kind(x, self, not adjoint)
        if not adjoint:
            blocks: dict[str, Node] = {}
            for key, operator in self.operators.items():
                block = operator._plan(x, False)
                assert isinstance(block, Node)
                blocks[key] = block
            return blocks
        assert isinstance(x, dict)
        parts = (op._plan(x[key], True) for key, op in self.operators.items())
        return of_kind(summed(parts), self, adjoint=True)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        if adjoint:
            given = coords if isinstance(coords, dict) else {}
            parts = [
                operator._carry(given[key] if given else coords, True)
                for key, operator in self.operators.items()
            ]
            return common(parts, f"{self.name}.H")
        carried: dict[str, Layout] = {}
        for key, operator in self.operators.items():
            part = operator._carry(coords, False)
            assert isinstance(part, Layout)
            carried[key] = part
        return carried

    def _details(self) -> list[str]:
        return [f"  {key} = {operator}" for key, operator in self.operators.items()]


def _gain(operator: LinearOperator) -> Gain:
    gain: Any = operator.gain
    assert isinstance(gain, Gain)
    return gain
