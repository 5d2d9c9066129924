"""Chunks on disk: what graphs pass on in place of chunks that memory need not hold.

A vector on disk is a Zarr array without compression whose chunks are those of Dask, so
that each file is the plain bytes of one chunk. In a graph stands a handle of a few bytes
for each, which becomes an array where a task works on it. Nothing is loaded early, nothing
is held while the graph waits for a number, and of a neighbour only a strip is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import math
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlops.engine.lazy import is_lazy
from xlops.engine.loss import check_connected, client_of, gathered
from xlops.engine.vectors import Tree, is_tree, leaves, transform
from xlops.errors import FileError
from xlops.windows.pieces import Array, Grid, NDArray

__all__ = [
    "Shelf",
    "Stored",
    "import_zarr",
    "on_disk",
    "opened",
    "regular",
    "strip",
    "strips",
    "write",
]

# Numbers that one task waits for.
AWAITED_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A chunk on disk, or a part of it.

    NumPy and Dask take it for an array. ``np.asarray`` loads it.

    Parameters
    ----------
    path : str
        The file: plain bytes in C order.
    whole : tuple of int
        The shape of what is in the file.
    dtype : dtype
        Its dtype.
    cuts : tuple of tuple of int
        Where the part starts and ends along each axis.
    """

    path: str
    whole: tuple[int, ...]
    dtype: np.dtype[Any]
    cuts: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(stop - start for start, stop in self.cuts)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.whole)

    def part(self, cuts: Sequence[tuple[int, int] | None]) -> Stored:
        """A part of this part; None stands for all along an axis."""
        new = tuple(
            (start, stop) if cut is None else (start + cut[0], start + cut[1])
            for (start, stop), cut in zip(self.cuts, cuts, strict=True)
        )
        return dataclasses.replace(self, cuts=new)

    def load(self) -> NDArray:
        """The values, in memory of their own."""
        index = tuple(itertools.starmap(slice, self.cuts))
        try:
            if self.shape == self.whole:
                return np.fromfile(self.path, self.dtype).reshape(self.whole)
            # Of a part, only the pages that it lies on are read.
            mapped = np.memmap(self.path, self.dtype, "r", shape=self.whole)
            return np.array(mapped[index], order="C")
        except FileNotFoundError as error:
            raise FileError(
                f"{self.path} is not there: a solver keeps its last iterate only, and the "
                "folder `store` must be one that all workers see"
            ) from error

    def save(self, array: NDArray) -> None:
        """Write the whole chunk; the file is there when it is complete, and not before."""
        index = tuple(itertools.starmap(slice, self.cuts))
        if self.shape != self.whole:  # chunks at the end of an axis are filled up
            filled = np.zeros(self.whole, self.dtype)
            filled[index] = array
            array = filled
        new = f"{self.path}.{uuid.uuid4().hex}.partial"
        try:
            with open(new, "xb") as file:
                np.ascontiguousarray(array, self.dtype).tofile(file)
            os.replace(new, self.path)
        except FileNotFoundError as error:
            raise FileError(
                f"{self.path} cannot be written: the folder `store` must be one that all "
                "workers see"
            ) from error
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(new)
            raise

    def astype(self, dtype: Any, **kwargs: Any) -> NDArray:
        """The values in another dtype."""
        return self.load().astype(dtype, **kwargs)

    def __getitem__(self, index: Any) -> NDArray:
        return self.load()[index]  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return self.load() if dtype is None else self.load().astype(dtype, copy=False)


def import_zarr(what: object) -> Any:
    """The package zarr, which is an extra."""
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise FileError(
            f'{what} needs the package zarr: pip install "xlops[zarr]"'
        ) from error


def regular(array: Array) -> Array:
    """Lazy data in chunks of one size, which Zarr asks for; the last one may be smaller."""
    data = array.data
    chunks = tuple(
        tuple(min(size, stop - at) for at in range(0, stop, size)) if stop else sizes
        for sizes, size, stop in ((sizes, max(sizes), sum(sizes)) for sizes in data.chunks)
    )
    return array if chunks == data.chunks else Array(data.rechunk(chunks), array.dims)


def strip(chunk: NDArray | Stored, cuts: Sequence[tuple[int, int] | None]) -> Any:
    """A part of a chunk as an array of its own, so that the chunk need not travel.

    Of a chunk on disk, where that part lies.
    """
    if isinstance(chunk, Stored):
        return chunk.part(cuts)
    index = tuple(slice(None) if cut is None else slice(*cut) for cut in cuts)
    return np.ascontiguousarray(chunk[index])


def strips(chunk: NDArray | Stored, parts: Sequence[Any]) -> tuple[Any, ...]:
    """Several parts of a chunk."""
    return tuple(strip(chunk, cuts) for cuts in parts)


class Shelf:
    """A folder in which the vectors of a solver lie.

    Parameters
    ----------
    folder : Path
        An empty folder that all who compute see.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}  # of arrays, by the names that Dask has for them
        self._before: set[Path] = set()
        self._pinned: set[Path] = set()
        self._held: set[Path] = set()

    def put(self, tree: Tree, pinned: bool = False) -> Tree:
        """A lazy vector that goes to disk chunk by chunk and is passed on in handles.

        What lies there already stays as it is. What is pinned stays for good, all else
        until two computations have gone by that do not give it.
        """
        result = transform(self._put, tree)
        if pinned:
            self._pinned.update(map(self.path, leaves(result)))
        return result

    def _put(self, array: Array) -> Array:
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph
        from dask.task_spec import Task, TaskRef

        data = array.data
        if data.name in self._paths:
            return array
        name = f"store-{data.name}"
        if name not in self._paths:
            self._paths[name] = self._made(data)
        tasks: dict[Any, Any] = {}
        for index, handle in _handles(self._paths[name], data.chunks, data.dtype):
            key = (name, *index)
            tasks[key] = Task(key, _written, TaskRef((data.name, *index)), handle)
        graph = HighLevelGraph.from_collections(name, tasks, [data])
        return Array(da.Array(graph, name, data.chunks, dtype=data.dtype), array.dims)

    def _made(self, data: Any) -> Path:
        """An empty Zarr array for data."""
        path = self._folder / uuid.uuid4().hex
        _created(path, data.shape, _largest(data.chunks), data.dtype)
        return path

    def hold(self, vectors: Iterable[Tree]) -> None:
        """Keep vectors until others are held in their place."""
        found = (leaf.data.name for vector in vectors for leaf in leaves(vector))
        self._held = {self._paths[name] for name in found if name in self._paths}

    def path(self, array: Array) -> Path:
        """The Zarr array of a vector that lies here."""
        return self._paths[array.data.name]

    def compute(self, *values: Any) -> tuple[Any, ...]:
        """Compute what is lazy, all in one submission: vectors to disk, and numbers.

        Vectors come back as handles without a history, numbers as floats. What else lies
        here is removed once it is neither among them nor was in the computation before.
        """
        from dask.base import get_scheduler
        from dask.core import flatten
        from dask.threaded import get

        values = tuple(self.put(value) if is_tree(value) else value for value in values)
        vectors = [
            leaf.data for value in values if is_tree(value) for leaf in leaves(value)
        ]
        new = {data.name: data for data in vectors if _is_new(data)}
        numbers = [value for value in values if is_lazy(value)]
        awaited = [*numbers, _awaited([*new.values()])] if new else numbers
        found: dict[int, float] = {}
        if awaited:
            keys = [key for number in awaited for key in flatten(number.__dask_keys__())]
            results = _run(get_scheduler() or get, _light(awaited, keys), keys)
            found = {id(n): float(r) for n, r in zip(awaited, results, strict=True)}
        done = tuple(
            transform(self._done, value) if is_tree(value) else found.get(id(value), value)
            for value in values
        )
        trees = (value for value in done if is_tree(value))
        self._sweep({self.path(leaf) for tree in trees for leaf in leaves(tree)})
        return done

    def _done(self, array: Array) -> Array:
        if not _is_new(array.data):
            return array
        path = self._paths[array.data.name]
        result = on_disk(array, path)
        self._paths[result.data.name] = path
        return result

    def _sweep(self, values: set[Path]) -> None:
        """Remove what neither this iteration nor the one before has given."""
        kept = values | self._before | self._pinned | self._held
        for path in {*self._paths.values()} - kept:
            shutil.rmtree(path, ignore_errors=True)
        self._paths = {name: path for name, path in self._paths.items() if path in kept}
        self._before = values


def _is_new(data: Any) -> bool:
    return str(data.name).startswith("store-")


def on_disk(array: Array, path: Path, loaded: bool = False) -> Array:
    """A vector that lies on disk, as Dask data without a history.

    Parameters
    ----------
    array : Array
        Data of the same chunks and dtype.
    path : Path
        The Zarr array.
    loaded : bool
        Whether its chunks are arrays, for anybody, or handles, for the engine.
    """
    data = array.data
    handles = _handles(path, data.chunks, data.dtype)
    return _lazy(data.chunks, array.dims, data.dtype, handles, loaded)


def _lazy(
    chunks: tuple[tuple[int, ...], ...],
    dims: tuple[Hashable, ...],
    dtype: np.dtype[Any],
    handles: Iterable[tuple[tuple[int, ...], Stored]],
    loaded: bool,
) -> Array:
    """Dask data whose chunks are handles, or what these load."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import DataNode, Task

    name = f"{'load' if loaded else 'stored'}-{uuid.uuid4().hex}"
    tasks: dict[Any, Any] = {}
    for index, handle in handles:
        key = (name, *index)
        tasks[key] = Task(key, Stored.load, handle) if loaded else DataNode(key, handle)
    graph = HighLevelGraph.from_collections(name, tasks, [])
    return Array(da.Array(graph, name, chunks, dtype=dtype), dims)


def write(array: Array, path: Path) -> None:
    """Write a NumPy array to a new Zarr array of one chunk."""
    data = array.data
    whole = tuple(max(1, size) for size in data.shape)
    _created(path, data.shape, whole, data.dtype)
    cuts = tuple((0, size) for size in data.shape)
    Stored(str(_file(path, (0,) * data.ndim)), whole, data.dtype, cuts).save(data)


def opened(
    path: Path,
    dims: tuple[Hashable, ...],
    chunks: Sequence[Any],
    dtype: np.dtype[Any],
    lazy: bool,
) -> Array:
    """What `write` or a shelf has written; all files must be there, and complete.

    Parameters
    ----------
    path : Path
        The Zarr array.
    dims : tuple of Hashable
        Its dims.
    chunks : sequence of tuple of int, or of int
        Its chunks along each; or its shape, where it has one chunk.
    dtype : dtype
        Its dtype.
    lazy : bool
        Whether it comes as Dask data that are read when they are needed.
    """
    cuts = tuple((c,) if isinstance(c, int) else tuple(c) for c in chunks)
    handles = [*_handles(path, cuts, dtype)]
    for _, handle in handles:
        size, wanted = os.stat(handle.path).st_size, math.prod(handle.whole)
        if size != wanted * dtype.itemsize:
            raise ValueError(f"{handle.path} has {size} bytes")
    if lazy:
        return _lazy(cuts, dims, dtype, handles, True)
    whole = np.empty([sum(sizes) for sizes in cuts], dtype)
    grids = [Grid(sizes) for sizes in cuts]
    for index, handle in handles:
        place = tuple(grid[i] for grid, i in zip(grids, index, strict=True))
        loaded = np.fromfile(handle.path, dtype).reshape(handle.whole)
        whole[place] = loaded[tuple(itertools.starmap(slice, handle.cuts))]
    return Array(whole, dims)


def _created(path: Path, shape: Any, chunks: Any, dtype: Any) -> None:
    """An empty Zarr array."""
    import_zarr(path).create_array(
        path,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=None,
        fill_value=0,
        zarr_format=2,
    )


def _largest(chunks: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return tuple(max(1, *sizes) for sizes in chunks)


def _handles(
    path: Path, chunks: tuple[tuple[int, ...], ...], dtype: np.dtype[Any]
) -> Iterator[tuple[tuple[int, ...], Stored]]:
    """Where the chunks of data lie in a Zarr array, by their indices."""
    whole = _largest(chunks)
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        cuts = tuple((0, sizes[i]) for sizes, i in zip(chunks, index, strict=True))
        yield index, Stored(str(_file(path, index)), whole, dtype, cuts)


def _file(path: Path, index: tuple[int, ...]) -> Path:
    """The file of a chunk."""
    return path / (".".join(map(str, index)) or "0")


def _written(array: NDArray, handle: Stored) -> Stored:
    handle.save(np.asarray(array))
    return handle


def _awaited(arrays: list[Any]) -> Any:
    """A lazy number that is there when all chunks of some arrays are."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import Task, TaskRef
    from dask.tokenize import tokenize

    name = f"written-{tokenize([data.name for data in arrays])}"
    keys: list[Any] = [
        (data.name, *index)
        for data in arrays
        for index in itertools.product(*map(range, data.numblocks))
    ]
    tasks: dict[Any, Any] = {}
    level = 0
    while len(keys) > AWAITED_AT_ONCE:
        level += 1
        starts = range(0, len(keys), AWAITED_AT_ONCE)
        groups = [keys[i : i + AWAITED_AT_ONCE] for i in starts]
        keys = [(f"{name}-part", level, i) for i in range(len(groups))]
        for key, group in zip(keys, groups, strict=True):
            tasks[key] = Task(key, _nothing, *map(TaskRef, group))
    tasks[(name,)] = Task((name,), _nothing, *map(TaskRef, keys))
    graph = HighLevelGraph.from_collections(name, tasks, arrays)
    return da.Array(graph, name, (), dtype=np.float64)


def _run(get: Any, graph: Any, keys: list[Any]) -> list[Any]:
    """The values of some keys of a graph."""
    client = client_of(get)
    if client is None:
        return list(get(graph, keys))
    check_connected(client)
    return gathered(client.get(graph, keys, sync=False))


def _nothing(*handles: Any) -> float:
    return 0.0


def _light(collections: list[Any], keys: list[Any]) -> dict[Any, Any]:
    """The graph of collections with as few tasks as may be.

    Handles are inside of the tasks that take them: as tasks of their own they would cost
    a scheduler as much as any other. What makes a chunk writes it too, so that it never
    waits in memory.
    """
    from dask import config
    from dask._task_spec import convert_legacy_graph
    from dask.array.optimization import optimize
    from dask.highlevelgraph import HighLevelGraph
    from dask.task_spec import DataNode, Task, TaskRef
    from dask.utils import ensure_dict

    merged = HighLevelGraph.merge(*(c.__dask_graph__() for c in collections))
    graph = ensure_dict(merged)
    known: dict[Any, Any] = {
        key: node
        for key, node in graph.items()
        if isinstance(node, DataNode) and isinstance(node.value, Stored)
    }
    for key, node in graph.items():
        if isinstance(node, Task) and node.func in (strip, strips):
            chunk, cuts = node.args
            if isinstance(chunk, TaskRef) and chunk.key in known:
                known[key] = DataNode(key, node.func(known[chunk.key].value, cuts))
    light = {
        key: node.substitute(known) if isinstance(node, Task) else node
        for key, node in graph.items()
    }
    # Dask would fuse more, but under new names, and the old ones would be tasks too.
    with config.set({"optimization.fuse.active": False}):
        culled = convert_legacy_graph(ensure_dict(optimize({**light, **known}, keys)))
    readers = Counter(key for node in culled.values() for key in node.dependencies)
    for key, node in [*culled.items()]:
        if isinstance(node, Task) and node.func is _written:
            (chunk,) = node.dependencies
            # What a cluster has already is not in the graph.
            if readers[chunk] == 1 and isinstance(culled.get(chunk), Task):
                culled[key] = Task.fuse(culled.pop(chunk), node, key=key)
    return culled  # type: ignore[no-any-return]
