"""All that an operator of your own is made of, in one place.

- `Elementary`: what to derive an operator from; `LinearOperator`: what it then is.
- `along`, `along_each`: the space and axis of a coordinate, such as ``d.time``, checked;
  `Space`, `Axis`: the labels of one side, and those along one dim.
- `Pointwise`, `Stencil` with `Reach`, `Selection`, `Whole`, `Contraction`, `Scan`,
  `Scatter`: window rules, which say what piece of the input a piece of the output needs.
- `Block`: what a kernel gets; `placed`: the order of dims of what it fills.
- `Gain`: what the operator does to units.

The guide ``docs/guide/own_operator.md`` builds one; `xlops.testing` checks it.
"""

from xlops.axis import Axis
from xlops.elementary import Elementary
from xlops.operator import LinearOperator
from xlops.operators.common import along, along_each
from xlops.space import Space
from xlops.units import Gain
from xlops.windows.pieces import Array, Block, placed
from xlops.windows.rules import (
    Contraction,
    Pointwise,
    Reach,
    Scan,
    Scatter,
    Selection,
    Stencil,
    Whole,
    WindowRule,
)

__all__ = [
    "Array",
    "Axis",
    "Block",
    "Contraction",
    "Elementary",
    "Gain",
    "LinearOperator",
    "Pointwise",
    "Reach",
    "Scan",
    "Scatter",
    "Selection",
    "Space",
    "Stencil",
    "Whole",
    "WindowRule",
    "along",
    "along_each",
    "placed",
]
