"""Engine: runs steps on NumPy and Dask, and the vector arithmetic of solvers.

The only module that imports dask.array, and only when Dask arrays are about. On NumPy a
step is one call of its kernel. On Dask it is one task per output chunk, fed by the
chunks and thin slices of neighbours that the step's window asks for.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from xlops.errors import ChunkError
from xlops.windows import (
    Array,
    Block,
    Chunks,
    Extent,
    Grid,
    NDArray,
    Part,
    Step,
    Window,
    floating,
    full,
    of_kind,
)

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Tree", "is_lazy", "run"]

Tree: TypeAlias = Array | dict[str, Array]
T = TypeVar("T")


def is_lazy(data: object) -> bool:
    """Whether data are a Dask array; does not import Dask to find out."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(data, module.Array)


# --- running a step -------------------------------------------------------------------


def run(step: Step, x: Array, adjoint: bool = False, factor: float = 1.0) -> Array:
    """Apply a step, or its adjoint, to an array, and scale the result by a real number.

    The result is lazy where x or one of the step's weights is.
    """
    if is_lazy(x.data) or any(is_lazy(weight.data) for weight in step.weights):
        return _Graph(step, x, adjoint, factor).build()
    want = full(step.sides(adjoint)[1])
    have = step.window.needs(want, adjoint)
    data = x.data
    for axis, dim in enumerate(x.dims):
        extent = have.get(dim)
        if isinstance(extent, np.ndarray) and not _is_all(extent, data.shape[axis]):
            data = np.take(data, extent, axis=axis)
    block = Block(data, x.dims, have, want, step.weights)
    return Array(_compute(step, adjoint, factor, block), step.dims(x.dims, adjoint))


def _is_all(indices: NDArray, size: int) -> bool:
    return indices.size == size and bool((indices == np.arange(size)).all())


def _compute(step: Step, adjoint: bool, factor: float, block: Block) -> NDArray:
    """One piece of the output, whatever it runs on."""
    inner, outer = step.dtypes(block.data.dtype, adjoint)
    kernel = step.adjoint if adjoint else step.forward
    try:
        data = block.data.astype(inner, copy=False)
        result = kernel(Block(data, block.dims, block.have, block.want, block.weights))
    except Exception as error:
        where = ", ".join(f"{dim} {_span(piece)}" for dim, piece in block.want.items())
        side = " (adjoint)" if adjoint else ""
        error.add_note(f"in the operator {step.name}{side}, making {where}")
        raise
    result = result.astype(outer, copy=False)
    if factor == 1.0:
        return result
    fresh = not np.may_share_memory(result, block.data)
    if fresh and result.dtype == floating(result.dtype):
        result *= result.real.dtype.type(factor)
        return result
    return _scale(result, factor)


def _span(piece: Extent) -> str:
    if isinstance(piece, slice):
        return f"[{piece.start}:{piece.stop}]"
    return f"[{piece.size} indices]"


class _Graph:
    """The Dask graph of one step: one task per output chunk, and slices for halos."""

    def __init__(self, step: Step, x: Array, adjoint: bool, factor: float) -> None:
        from dask.tokenize import tokenize

        assert step.token is not None
        self.token = step.token()
        self.step, self.adjoint, self.factor = step, adjoint, factor
        self.x = _in_one_piece(_as_lazy(x, step), step.window.whole(adjoint))
        self.dims = step.dims(x.dims, adjoint)
        token = tokenize(self.token, self.x.data.name, adjoint, factor)
        self.name = f"{step.name}-{token}"
        self.layer: dict[Any, Any] = {}
        self.sources = [self.x.data]

    def build(self) -> Array:
        """The lazy result."""
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph
        from dask.task_spec import DataNode, List, Task, TaskRef

        step, adjoint = self.step, self.adjoint
        given, made = step.sides(adjoint)
        have_chunks = dict(zip(self.x.dims, self.x.data.chunks, strict=True))
        chunks = {
            **have_chunks,
            **step.window.chunks({dim: have_chunks[dim] for dim in given}, adjoint),
        }
        # The step is one node of the graph, however many chunks refer to it.
        slim = dataclasses.replace(step, weights=(), token=None)
        self.layer[f"{self.name}-step"] = DataNode(f"{self.name}-step", slim)
        weights = [self._weight(i, chunks, have_chunks) for i in range(len(step.weights))]

        grids = {dim: Grid(sizes) for dim, sizes in chunks.items()}
        have_grids = {dim: Grid(sizes) for dim, sizes in have_chunks.items()}
        own = [dim for dim in self.dims if dim in made]
        batch = [dim for dim in self.dims if dim not in made]
        for own_at in itertools.product(*(range(len(grids[dim])) for dim in own)):
            want = {dim: grids[dim][i] for dim, i in zip(own, own_at, strict=True)}
            have = step.window.needs(want, adjoint)
            near = {**want, **have} if adjoint else {**have, **want}
            covers = {dim: have_grids[dim].cover(have[dim]) for dim in given}
            covers = {dim: self._noted(dim, own_at, *c) for dim, c in covers.items()}
            weighed = List(
                *(
                    self._gathered(
                        w, {d: g.cover(near[d]) for d, g in grid.items()}, own_at
                    )
                    for w, grid in weights
                )
            )
            for batch_at in itertools.product(*(range(len(grids[dim])) for dim in batch)):
                at = dict(zip(own, own_at, strict=True))
                at.update(zip(batch, batch_at, strict=True))
                passing = {dim: ([(at[dim], None)], None) for dim in batch}
                index = tuple(at[dim] for dim in self.dims)
                key = (self.name, *index)
                self.layer[key] = Task(
                    key,
                    _task,
                    TaskRef(f"{self.name}-step"),
                    adjoint,
                    self.factor,
                    self.x.dims,
                    want,
                    self._gathered(self.x, {**passing, **covers}, index),
                    weighed,
                    tuple(w.dims for w, _ in weights),
                )
        graph = HighLevelGraph.from_collections(self.name, self.layer, self.sources)
        dtype = step.dtypes(self.x.data.dtype, adjoint)[1]
        if self.factor != 1.0:
            dtype = floating(dtype)
        out_chunks = tuple(chunks[dim] for dim in self.dims)
        return Array(da.Array(graph, self.name, out_chunks, dtype=dtype), self.dims)

    def _noted(
        self, dim: Hashable, at: tuple[int, ...], parts: list[Part], order: Any
    ) -> tuple[list[Any], Any]:
        """A cover whose indices are nodes of the graph, not copied into every task."""
        from dask.task_spec import DataNode, TaskRef

        def noted(value: Any, *where: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value
            key = (f"{self.name}-indices-{dim}", *at, *where)
            self.layer[key] = DataNode(key, value)
            return TaskRef(key)

        return [(i, noted(cut, i)) for i, cut in parts], noted(order, "order")

    def _weight(
        self, i: int, out: Chunks, given: Chunks
    ) -> tuple[Array, dict[Hashable, Grid]]:
        """A weight as a Dask array; NumPy weights are cut as the data are."""
        import dask.array as da
        from dask.tokenize import tokenize

        weight = self.step.weights[i]
        if not is_lazy(weight.data):
            chunks = tuple(out.get(d) or given[d] for d in weight.dims)
            name = f"weight-{tokenize(self.token, i, chunks)}"
            data = da.from_array(weight.data, chunks=chunks, name=name)
            weight = Array(data, weight.dims)
        else:
            weight = Array(_without_empty_chunks(weight.data), weight.dims)
        self.sources.append(weight.data)
        grids = map(Grid, weight.data.chunks)
        return weight, dict(zip(weight.dims, grids, strict=True))

    def _gathered(self, array: Array, covers: Any, at: tuple[int, ...]) -> Any:
        """The parts of an array that one task needs: keys, slices, and their grid."""
        from dask.task_spec import List, Task, TaskRef

        parts = [covers[dim][0] for dim in array.dims]
        orders = [covers[dim][1] for dim in array.dims]
        keys = []
        for combination in itertools.product(*parts):
            key: tuple[Any, ...] = (array.data.name, *(i for i, _ in combination))
            cuts = tuple(cut for _, cut in combination)
            if any(cut is not None for cut in cuts):
                whole, key = key, self._slice_key(key, cuts, at)
                if key not in self.layer:
                    index = List(*(slice(None) if cut is None else cut for cut in cuts))
                    self.layer[key] = Task(key, _cut, TaskRef(whole), index)
            keys.append(TaskRef(key))
        shape = tuple(len(part) for part in parts)
        return List(List(*keys), shape, List(*orders))

    def _slice_key(
        self, key: tuple[Any, ...], cuts: tuple[Any, ...], at: tuple[int, ...]
    ) -> tuple[Any, ...]:
        tail: tuple[Any, ...] = tuple(
            f"{cut.start}:{cut.stop}" if isinstance(cut, slice) else ":" for cut in cuts
        )
        if not all(cut is None or isinstance(cut, slice) for cut in cuts):
            tail = ("at", *at)  # only slices are shared by neighbours
        return (f"{self.name}-part-{key[0]}", *key[1:], *tail)


def _task(
    step: Step,
    adjoint: bool,
    factor: float,
    dims: tuple[Hashable, ...],
    want: Window,
    gathered: Any,
    weights: Any,
    weight_dims: tuple[tuple[Hashable, ...], ...],
) -> NDArray:
    """What one task of a graph runs."""
    pieces = tuple(
        Array(_assembled(*weight), names)
        for weight, names in zip(weights, weight_dims, strict=True)
    )
    have = step.window.needs(want, adjoint)
    block = Block(_assembled(*gathered), dims, have, want, pieces)
    return _compute(step, adjoint, factor, block)


def _cut(data: NDArray, index: Sequence[Any]) -> NDArray:
    """A part of a chunk as an array of its own, so that the chunk need not travel."""
    for axis, piece in enumerate(index):
        if not isinstance(piece, slice):
            data = np.take(data, piece, axis=axis)
    plain = tuple(i if isinstance(i, slice) else slice(None) for i in index)
    return np.ascontiguousarray(data[plain])


def _assembled(
    pieces: Sequence[NDArray], shape: tuple[int, ...], orders: Sequence[Any]
) -> NDArray:
    """Pieces on a grid joined to one array."""
    pieces = [np.asarray(piece) for piece in pieces]
    for axis in reversed(range(len(shape))):
        count = shape[axis]
        if count > 1:
            pieces = [
                np.concatenate(pieces[i : i + count], axis=axis)
                for i in range(0, len(pieces), count)
            ]
    (data,) = pieces
    for axis, order in enumerate(orders):
        if order is not None:
            data = np.take(data, order, axis=axis)
    return data


def _as_lazy(x: Array, step: Step) -> Array:
    """x as a Dask array, cut as the lazy weights are."""
    import dask.array as da

    if is_lazy(x.data):
        sizes = itertools.chain.from_iterable(x.data.chunks)
        if any(math.isnan(size) for size in sizes):
            raise ChunkError(
                f"{step.name}: the sizes of the chunks of x are not known; call "
                ".compute_chunk_sizes() on its data first"
            )
        return Array(_without_empty_chunks(x.data), x.dims)
    cuts = {
        dim: chunks
        for weight in step.weights
        if is_lazy(weight.data)
        for dim, chunks in zip(weight.dims, weight.data.chunks, strict=True)
    }
    fitting = {dim: c for dim, c in cuts.items() if sum(c) == x.sizes.get(dim)}
    chunks = tuple(fitting.get(dim, (size,)) for dim, size in x.sizes.items())
    return Array(da.from_array(x.data, chunks=chunks), x.dims)


def _without_empty_chunks(data: Any) -> Any:
    """Dask data without chunks of size 0, as selections by a mask leave them."""
    if all(size for sizes in data.chunks for size in sizes):
        return data
    return data.rechunk(tuple(tuple(filter(None, sizes)) for sizes in data.chunks))


def _in_one_piece(x: Array, dims: frozenset[Hashable]) -> Array:
    """x with one chunk along `dims`.

    Other dims are cut instead, so that chunks keep their size.
    """
    data: da.Array = x.data
    split = [i for i, d in enumerate(x.dims) if d in dims and data.numblocks[i] > 1]
    if not split:
        return x
    others = [i for i, d in enumerate(x.dims) if d not in dims]
    plan: dict[int, Any] = dict.fromkeys(split, -1)
    if others:
        plan.update(dict.fromkeys(others, "auto"))
        limit = math.prod(map(max, data.chunks)) * data.dtype.itemsize
        return Array(data.rechunk(plan, block_size_limit=limit), x.dims)
    return Array(data.rechunk(plan), x.dims)


# --- arithmetic of vectors ------------------------------------------------------------


def transform(function: Callable[[Array], Array], tree: Tree) -> Tree:
    """A function of every array of a vector, which is one array or named blocks."""
    if isinstance(tree, dict):
        return {name: function(array) for name, array in tree.items()}
    return function(tree)


def leaves(tree: Tree) -> list[Array]:
    """The arrays of a vector."""
    return list(tree.values()) if isinstance(tree, dict) else [tree]


def paired(function: Callable[[Array, Array], Array], first: Tree, second: Tree) -> Tree:
    """A function of the arrays of two vectors, block by block; dims as in `first`."""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return {name: function(a, second[name]) for name, a in first.items()}
    assert not isinstance(second, dict)
    return function(first, second)


def scaled(a: Any, x: Array) -> Array:
    """``a * x`` in the precision of x."""
    scalar = np.dtype(getattr(a, "dtype", type(a)))
    return _elementwise(_scale, x, a, dtype=_with_scalar(x.data.dtype, scalar))


def axpy(a: Any, x: Tree, y: Tree) -> Tree:
    """``y + a * x`` in the precision of y; `a` may be a lazy number."""
    return paired(lambda v, u: _elementwise(_axpy, v, a, u), y, x)


def total(parts: Iterable[Array]) -> Array:
    """The sum of arrays, complex if one of them is; dims as in the first.

    On NumPy each part is added as it comes, so that they are not held all at once.
    """
    rest = iter(parts)
    running, owned = next(rest), False
    others: list[Array] = []
    for part in rest:
        if is_lazy(running.data) or is_lazy(part.data):
            others.append(part)
            continue
        running, owned = _added(running, part.ordered(running.dims), owned), True
    if not others:
        return running
    dtype = np.result_type(*(floating(p.data.dtype) for p in (running, *others)))
    return _elementwise(_total, running, *others, dtype=dtype)


def _added(x: Array, y: Array, into: bool) -> Array:
    dtype = np.result_type(floating(x.data.dtype), floating(y.data.dtype))
    out = x.data if into and x.data.dtype == dtype else None
    return Array(np.add(x.data, y.data, out=out, dtype=dtype), x.dims)


def _total(*parts: NDArray) -> NDArray:
    dtype = np.result_type(*(floating(part.dtype) for part in parts))
    result = np.add(parts[0], parts[1], dtype=dtype)
    for part in parts[2:]:
        result += part
    return np.asarray(result)


def times(a: Any, x: Tree) -> Tree:
    """``a * x`` of a vector."""
    return transform(lambda v: scaled(a, v), x)


def minus(x: Tree, y: Tree) -> Tree:
    """``x - y``."""
    return axpy(-1.0, y, x)


def real(x: Array) -> Array:
    """The real part."""
    return Array(x.data.real, x.dims) if x.data.dtype.kind == "c" else x


def _scale(x: NDArray, a: Any) -> NDArray:
    a = np.asarray(a)
    return np.asarray(x * a.astype(_with_scalar(x.dtype, a.dtype), copy=False))


def _axpy(y: NDArray, a: Any, x: NDArray) -> NDArray:
    result = _scale(x, a)
    if result.dtype == y.dtype:
        return np.add(result, y, out=result)
    return np.asarray(y + result).astype(y.dtype, copy=False, casting="same_kind")


def _with_scalar(dtype: np.dtype[Any], scalar: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of an array times a number: a number may make it complex, not wider."""
    return of_kind(floating(dtype), "complex" if scalar.kind == "c" else "any")


def _elementwise(
    function: Callable[..., NDArray], x: Array, *others: Any, dtype: Any = None
) -> Array:
    """A function of blocks of x and of what goes with it: arrays or numbers."""
    aligned = [o.ordered(x.dims).data if isinstance(o, Array) else o for o in others]
    if not any(is_lazy(o) for o in (x.data, *aligned)):
        return Array(function(x.data, *aligned), x.dims)
    import dask.array as da

    index = tuple(range(x.data.ndim))
    arguments: list[Any] = []
    for value in (x.data, *aligned):
        if np.ndim(value) == len(index) and index:
            arguments += [value, index]
        else:
            arguments += [value, _scalar(value)]
    if dtype is None:
        dtype = x.data.dtype
    meta = np.empty((0,) * len(index), dtype)
    result = da.blockwise(function, index, *arguments, dtype=dtype, meta=meta)
    return Array(result, x.dims)


def dot(x: Tree, y: Tree) -> Any:
    """Re⟨x, y⟩ over all blocks; a lazy number where one of them is lazy."""
    second = paired(lambda a, b: b.ordered(a.dims), x, y)
    pairs = list(zip(leaves(x), leaves(second), strict=True))
    if not any(is_lazy(array.data) for pair in pairs for array in pair):
        return float(sum(_partial_dot(a.data, b.data).item() for a, b in pairs))
    # Blocks that are chunked alike are summed up in one pass.
    alike: dict[Any, list[Any]] = {}
    for a, b in pairs:
        chunks = a.data.chunks if is_lazy(a.data) else a.data.shape
        alike.setdefault(chunks, []).extend([a.data, b.data])
    return sum(_lazy_dot(arrays) for arrays in alike.values())


def _lazy_dot(arrays: Sequence[Any]) -> Any:
    import dask.array as da

    index = tuple(range(arrays[0].ndim))
    partial = da.blockwise(
        _partial_dot,
        index,
        *(argument for array in arrays for argument in (array, index)),
        dtype=np.float64,
        adjust_chunks=dict.fromkeys(index, 1),
        meta=np.empty((0,) * len(index), np.float64),
    )
    return partial.sum(split_every=64)


def _partial_dot(*arrays: NDArray) -> NDArray:
    """Σ Re⟨x, y⟩ of arrays x, y, x, y, …, as an array of one element."""
    value = sum(_real_dot(x, y) for x, y in zip(arrays[::2], arrays[1::2], strict=True))
    return np.full((1,) * arrays[0].ndim, value, dtype=np.float64)


def _real_dot(x: NDArray, y: NDArray) -> float:
    """Re⟨x, y⟩ in double precision: squares of single precision soon leave its range."""
    if x.dtype != y.dtype:
        dtype = np.result_type(x, y)
        x, y = x.astype(dtype), y.astype(dtype)
    # Real and imaginary parts side by side: the real part of the product is their dot.
    x, y = (np.ascontiguousarray(a).ravel().view(a.real.dtype) for a in (x, y))
    if x.dtype == np.float64:
        return float(np.dot(x, y))
    pieces = (slice(i, i + 65536) for i in range(0, x.size, 65536))
    return float(
        sum(np.dot(x[p].astype(np.float64), y[p].astype(np.float64)) for p in pieces)
    )


def shares_memory(array: Array, tree: Tree) -> bool:
    """Whether a NumPy array and a vector use the same memory."""
    if not isinstance(array.data, np.ndarray):
        return False
    others = (other.data for other in leaves(tree))
    return any(
        isinstance(data, np.ndarray) and np.may_share_memory(array.data, data)
        for data in others
    )


def zeros_like(tree: Tree) -> Tree:
    """A vector of zeros of the same kind."""

    def zeros(x: Array) -> Array:
        if is_lazy(x.data):
            import dask.array as da

            return Array(da.zeros_like(x.data), x.dims)
        return Array(np.zeros(x.data.shape, x.data.dtype), x.dims)

    return transform(zeros, tree)


def alike(tree: Tree, like: Tree) -> Tree:
    """A vector with the dims order, dtype and chunks of another."""

    def adapt(model: Array, x: Array) -> Array:
        data = x.ordered(model.dims).data
        dtype = _with_scalar(model.data.dtype, data.dtype)
        data = data.astype(dtype, copy=False)
        if is_lazy(model.data):
            import dask.array as da

            if not is_lazy(data):
                data = da.from_array(data, chunks=model.data.chunks)
            elif data.chunks != model.data.chunks:
                data = data.rechunk(model.data.chunks)
        return Array(data, model.dims)

    return paired(adapt, like, tree)


def ratio(a: Any, b: Any) -> Any:
    """``a / b`` of numbers, lazy where one is; NaN where b is 0."""
    if is_lazy(a) or is_lazy(b):
        import dask.array as da

        return da.blockwise(
            _ratio,
            (),
            a,
            _scalar(a),
            b,
            _scalar(b),
            dtype=np.float64,
            meta=np.float64(0),
        )
    return float(_ratio(a, b))


def _scalar(value: Any) -> tuple[()] | None:
    return () if is_lazy(value) else None


def _ratio(a: Any, b: Any) -> Any:
    return np.float64(a) / np.float64(b) if b else np.float64(np.nan)


def count_nan(tree: Tree) -> Any:
    """Number of NaN in a vector; a lazy number where it is lazy."""
    total: Any = 0
    for x in leaves(tree):
        if x.data.dtype.kind not in "fc":
            continue
        if is_lazy(x.data):
            total = total + x.data.map_blocks(np.isnan, dtype=bool).sum()
        else:
            total = total + int(np.count_nonzero(np.isnan(x.data)))
    return total


def persist(*values: Any) -> tuple[Any, ...]:
    """Compute what is lazy, all in one submission, and keep it where it was computed.

    Vectors come back as vectors, numbers as floats.
    """
    arrays = [
        data
        for value in values
        for data in ([a.data for a in leaves(value)] if _is_tree(value) else [value])
    ]
    lazy = [data for data in arrays if is_lazy(data)]
    if not lazy:
        return values
    from dask.base import compute
    from dask.base import persist as persisted

    done = dict(zip(map(id, lazy), persisted(*lazy), strict=True))
    numbers = [value for value in values if is_lazy(value)]
    fetched = compute(*(done[id(number)] for number in numbers))
    floats = {id(n): float(f) for n, f in zip(numbers, fetched, strict=True)}

    def finished(value: Any) -> Any:
        if _is_tree(value):
            return transform(lambda a: Array(done.get(id(a.data), a.data), a.dims), value)
        return floats.get(id(value), value)

    return tuple(finished(value) for value in values)


def _is_tree(value: Any) -> bool:
    return isinstance(value, (Array, dict))
