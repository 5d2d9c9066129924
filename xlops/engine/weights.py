"""Large NumPy weights in graphs: nodes of their own, which workers are sent once.

Where a client of Distributed is current when a graph is built, its workers get the weights
then, those that join later when they do, and keep them as long as the operator lives, or
tasks that may ask for them. Graphs have a name in their place. (Scattered data would not
stay: Distributed drops copies that no task waits for, and loses those whose workers die.)
Elsewhere the weights themselves are in the graph. A result that was built for a cluster can
be computed by threads too, but not by processes.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from typing import Any

import numpy as np

from xlops.errors import XlopsError
from xlops.windows.pieces import NDArray

__all__ = ["LARGE", "Resident", "at_hand", "move_in", "move_out"]

# Bytes of weights that are nodes of their own: smaller ones come with the plan.
LARGE = 2**18


class Resident:
    """Weights that workers have; an array where they are asked for.

    Pickled, it is a name.
    """

    __slots__ = ("_data", "name")

    def __init__(self, name: str, data: NDArray | None = None) -> None:
        self.name, self._data = name, data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        data = self._data
        if data is None:
            home = _homes.get(self.name)
            if home is None:
                raise XlopsError(
                    "weights of an operator are not here: this result was built for the "
                    "workers of one Dask client; apply the operator again where it is to "
                    "be computed"
                )
            data = home[0]
        return np.array(data, dtype, copy=copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return Resident, (self.name,)


# In a worker: weights by name, and for whom they are kept.
_homes: dict[str, tuple[NDArray, set[Any]]] = {}
# Where operators are: the names of weights, by their identity and as long as they live.
_names: dict[int, str] = {}
_lock = threading.RLock()


def move_in(name: str, data: NDArray, tenant: Any) -> None:
    """Keep weights in this process, for one of those that may ask for it."""
    with _lock:
        _homes.setdefault(name, (data, set()))[1].add(tenant)


def move_out(name: str, tenant: Any) -> None:
    """Let weights go once nobody asks for them."""
    with _lock:
        if name in _homes:
            _homes[name][1].discard(tenant)
            if not _homes[name][1]:
                del _homes[name]


def at_hand(data: NDArray, sends: bool = True) -> Any:
    """Weights as a Dask array in one chunk, whose graph holds them at most once.

    Parameters
    ----------
    data : ndarray
        The weights.
    sends : bool
        Whether they may be sent to workers now; else they only look like it.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import DataNode

    name = _name(data)
    client = _client() if sends else None
    value: Any = data
    if client is not None:
        from xlops.engine.residents import send

        send(name, data, client)
        value = Resident(name, data)
    key = (name, *[0] * data.ndim)
    graph = HighLevelGraph({name: {key: DataNode(key, value)}}, {name: set()})  # type: ignore[dict-item]
    return da.Array(graph, name, tuple((n,) for n in data.shape), dtype=data.dtype)


def _name(data: NDArray) -> str:
    """What says what is in an array; found out once."""
    from dask.tokenize import tokenize

    if id(data) not in _names:
        _names[id(data)] = f"weights-{tokenize(data)}"
        weakref.finalize(data, functools.partial(_names.pop, id(data), None))
    return _names[id(data)]


def _client() -> Any:
    """The client that Dask would compute with now, if that is how it would."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    from dask.base import get_scheduler

    client = getattr(get_scheduler(), "__self__", None)
    if not isinstance(client, distributed.Client) or client.asynchronous:
        return None
    return client if client.status == "running" else None
