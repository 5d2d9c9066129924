"""Where chunks of a solver's vectors have their homes on a cluster.

Left to itself, Dask makes the first chunks of vectors wherever a worker is free, and later
ones where least work is waiting; then whole chunks move between workers in each iteration.
Here each worker has a block of neighbouring chunks, in all vectors the same one, so that
halos are all that moves. Homes are wishes: other workers take over from one that is gone.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from xlops.engine.lazy import is_lazy
from xlops.engine.loss import PATIENCE

__all__ = ["Homes"]

Index: TypeAlias = tuple[int, ...]
Table: TypeAlias = dict[Index, str]

# Data stay where they are if no worker has more than this many times its share of them,
# and there are no more than this many times as many borders as between blocks.
UNEVEN = 1.25
# By these, users say themselves where tasks run.
SAID = {"workers", "resources", "allow_other_workers"}


class Homes:
    """Where the chunks of vectors are at home, for as long as workers stay the same.

    Parameters
    ----------
    data : sequence of array
        Vectors that are there when the first ones are made. Where their chunks lie well on
        the workers, they are at home.
    """

    def __init__(self, data: Sequence[Any]) -> None:
        lazy = [array for array in data if is_lazy(array)]
        self._first = max(lazy, key=lambda array: array.nbytes, default=None)
        self._grids = {array.numblocks for array in lazy}
        self._workers: list[str] = []
        self._model: tuple[Index, Table] | None = None
        self._tables: dict[Index, Table] = {}

    def persist(self, client: Any, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Compute arrays in one submission, each chunk at home, and keep it there.

        Parameters
        ----------
        client : Client or None
            Who submits them, if it is a cluster.
        arrays : sequence of array
            Vectors and numbers.
        """
        from dask.base import annotate, persist

        wish = self._wish(client, arrays)
        if wish is None:
            return tuple(persist(*arrays))
        with annotate(workers=wish, allow_other_workers=True):
            done = tuple(persist(*arrays))
        for array in done:  # the wish was for these tasks, not for what is made of them
            for layer in array.dask.layers.values():
                layer.annotations = None
        return done

    def _wish(self, client: Any, arrays: Sequence[Any]) -> _Wish | None:
        """What says which worker should run a task; None where nobody has to ask."""
        from dask.base import get_annotations

        if client is None or client.asynchronous or SAID & get_annotations().keys():
            return None
        workers = self._there(client)
        if len({*workers}) < 2:
            return None
        if workers != self._workers:
            first, is_new = self._first, bool(self._workers)
            self._workers, self._tables, self._model = workers, {}, None
            if first is not None:
                # Data that lay well on other workers do not on these.
                lying = {} if is_new else _lying(client, first)
                self._model = first.numblocks, self._at_home(first, lying)
        self._grids |= {array.numblocks for array in arrays if array.ndim}
        grids = _grids_of(arrays, self._grids)
        if grids is None:
            return None
        return _Wish(grids, {counts: self._table(counts) for counts in {*grids.values()}})

    def _there(self, client: Any) -> list[str]:
        """The workers that are there, one for each thread."""
        try:
            threads = client.nthreads(callback_timeout=PATIENCE)
        except (OSError, TimeoutError):  # who waits for results finds out what is wrong
            return self._workers
        return [worker for worker in sorted(threads) for _ in range(threads[worker])]

    def _table(self, counts: Index) -> Table:
        """The homes of the chunks of an array with so many along each axis."""
        if counts not in self._tables:
            indices = [*itertools.product(*map(range, counts))]
            if self._model is not None and len(self._model[0]) == len(counts):
                others, table = self._model
                self._tables[counts] = {
                    index: table[_beside(index, counts, others)] for index in indices
                }
            else:
                self._tables[counts] = _in_blocks(indices, self._workers)
        return self._tables[counts]

    def _at_home(self, data: Any, found: Table) -> Table:
        """The homes of the chunks of the data: where they lie, if that is good enough."""
        indices = [*itertools.product(*map(range, data.numblocks))]
        blocks = _in_blocks(indices, self._workers)
        share = len(indices) / len(self._workers)
        threads, chunks = Counter(self._workers), Counter(found.values())
        if (
            found.keys() == blocks.keys()
            and all(
                chunks[worker] <= math.ceil(UNEVEN * share * threads[worker])
                for worker in chunks
            )
            and _borders(found) <= UNEVEN * _borders(blocks)
        ):
            return found
        return blocks


class _Wish:
    """The workers that a task should run on, by its key; asked by the scheduler."""

    def __init__(self, grids: Mapping[str, Index], tables: Mapping[Index, Table]) -> None:
        self._grids, self._tables = grids, tables

    def __call__(self, key: Any) -> list[str]:
        if not isinstance(key, tuple) or not isinstance(key[0], str):
            return []
        name = key[0]
        if name not in self._grids:  # Dask puts names of what it fuses in front
            name = next((known for known in self._grids if name.endswith(known)), name)
        home = self._tables.get(self._grids.get(name, ()), {}).get(key[1:])
        return [] if home is None else [home]


def _grids_of(arrays: Iterable[Any], grids: set[Index]) -> dict[str, Index] | None:
    """The names of arrays in graphs that are cut as vectors are, and their grids.

    What reads weights that are cut otherwise is left out: they are the larger ones, and
    stay where they are. None where users have said where tasks run.
    """
    from dask.highlevelgraph import HighLevelGraph

    graph = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    counts: dict[str, Index] = {}
    for name, layer in graph.layers.items():
        if SAID & (layer.annotations or {}).keys():
            return None
        ends = [
            key[1:]
            for key in layer
            if isinstance(key, tuple) and key[0] == name and key[1:]
        ]
        if ends:
            counts[name] = tuple(max(axis) + 1 for axis in zip(*ends, strict=True))
    heavy = {
        name
        for name, grid in counts.items()
        if grid not in grids and math.prod(grid) > 1 and not graph.dependencies[name]
    }
    return {
        name: grid
        for name, grid in counts.items()
        if grid in grids and not heavy & graph.dependencies[name]
    }


def _in_blocks(indices: Sequence[Index], workers: Sequence[str]) -> Table:
    """Chunks shared out evenly: to each worker a block that is about as long as wide."""
    if len({*workers}) == 1 or not indices:
        return dict.fromkeys(indices, workers[0])
    lengths = [len({*axis}) for axis in zip(*indices, strict=True)]
    longest = lengths.index(max(lengths))
    indices = sorted(indices, key=lambda index: (index[longest], index))
    half = len(workers) // 2
    cut = round(len(indices) * half / len(workers))
    first = _in_blocks(indices[:cut], workers[:half])
    return first | _in_blocks(indices[cut:], workers[half:])


def _beside(index: Index, counts: Index, others: Index) -> Index:
    """The chunk at the same place in a grid with other counts."""
    return tuple(
        (2 * i + 1) * other // (2 * count)
        for i, count, other in zip(index, counts, others, strict=True)
    )


def _lying(client: Any, data: Any) -> Table:
    """Where the chunks of persisted data lie, or those that they are made of."""
    from distributed import futures_of

    tables: dict[str, Table] = {}
    try:
        lying = client.who_has(futures_of(data))
    except OSError:  # who waits for results finds out what is wrong
        return {}
    for key, workers in lying.items():
        if workers and isinstance(key, tuple):
            tables.setdefault(key[0], {})[key[1:]] = min(workers)
    count = math.prod(data.numblocks)
    return next((table for table in tables.values() if len(table) == count), {})


def _borders(table: Table) -> int:
    """How many neighbours have different homes."""
    return sum(
        table.get((*index[:axis], at + 1, *index[axis + 1 :]), home) != home
        for index, home in table.items()
        for axis, at in enumerate(index)
    )
