"""Two vectors whose chunks are made together, one task and one value for both.

The value is an array to all who read it, and has another one on board. So a step of a
solver that makes two vectors is one task per chunk, and nobody has to know but who takes
the second one out.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from xlops.engine.lazy import is_lazy
from xlops.windows.pieces import NDArray

__all__ = ["Both", "is_on_board", "on_board", "rides"]


_PREFIX = "on-board-"


class Both:
    """An array that has another one on board.

    Not a subclass of ndarray: Distributed would send that as a plain array.

    Parameters
    ----------
    array : ndarray
        What it is to all who read it.
    passenger : ndarray
        What travels with it.
    """

    __slots__ = ("array", "passenger")

    def __init__(self, array: NDArray, passenger: NDArray) -> None:
        self.array, self.passenger = array, passenger

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.array, dtype, copy=copy)

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.array, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Both, (self.array, self.passenger)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + int(self.array.nbytes + self.passenger.nbytes)


def on_board(carrier: Any, dtype: np.dtype[Any]) -> Any:
    """The Dask array that the chunks of another one have on board; one task per chunk."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import Task, TaskRef

    name = _named(carrier)
    keys = itertools.product(*map(range, carrier.numblocks))
    tasks: dict[Any, Any] = {
        (name, *index): Task((name, *index), _taken_out, TaskRef((carrier.name, *index)))
        for index in keys
    }
    graph = HighLevelGraph.from_collections(name, tasks, [carrier])
    return da.Array(graph, name, carrier.chunks, dtype=dtype)


def rides(data: Any, carrier: Any) -> bool:
    """Whether a Dask array is what another one has on board."""
    return is_lazy(data) and is_lazy(carrier) and data.name == _named(carrier)


def is_on_board(data: Any) -> bool:
    """Whether a Dask array has to be taken out of another one."""
    return bool(data.name.startswith(_PREFIX))


def _named(carrier: Any) -> str:
    return f"{_PREFIX}{carrier.name}"


def _taken_out(both: Both) -> NDArray:
    return both.passenger
