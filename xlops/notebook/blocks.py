"""Results in blocks: dicts that notebooks show block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xarray as xr
from dask.base import is_dask_collection
from dask.highlevelgraph import HighLevelGraph

from xlops.markup import page as html
from xlops.markup.arrays import array_inside, array_line

__all__ = ["LabeledBlocks"]


class LabeledBlocks(dict[str, xr.DataArray]):
    """Arrays by name, as operators with blocks give them.

    A ``dict`` in every way, which notebooks show and Dask takes for what it is: several
    arrays that are computed together. (Dask looks into dicts, but not into subclasses.)
    """

    def _repr_html_(self) -> str:
        inside = "".join(
            html.folded(name, array_inside(block), array_line(block))
            for name, block in self.items()
        )
        head = html.head("LabeledBlocks", "", html.span(", ".join(map(str, self)), "name"))
        return html.page(repr(self), head + inside)

    # --- as a collection of Dask --------------------------------------------------------

    def _lazy(self) -> dict[str, Any]:
        return {name: block for name, block in self.items() if is_dask_collection(block)}

    def _eager(self) -> dict[str, Any]:
        return {n: block for n, block in self.items() if not is_dask_collection(block)}

    def __dask_graph__(self) -> HighLevelGraph | None:
        graphs = [block.__dask_graph__() for block in self._lazy().values()]
        return HighLevelGraph.merge(*graphs) if graphs else None

    def __dask_keys__(self) -> list[Any]:
        return [block.__dask_keys__() for block in self._lazy().values()]

    def __dask_layers__(self) -> tuple[str, ...]:
        return tuple(
            layer for block in self._lazy().values() for layer in block.__dask_layers__()
        )

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, list(self.items())

    @property
    def __dask_optimize__(self) -> Any:
        return next(iter(self._lazy().values())).__dask_optimize__

    @property
    def __dask_scheduler__(self) -> Any:
        return next(iter(self._lazy().values())).__dask_scheduler__

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        finishing = {n: b.__dask_postcompute__() for n, b in self._lazy().items()}
        return _computed, (tuple(self), self._eager(), finishing)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        finishing = {n: b.__dask_postpersist__() for n, b in self._lazy().items()}
        return _persisted, (tuple(self), self._eager(), finishing)


def _computed(
    results: Any,
    names: Sequence[str],
    eager: Mapping[str, Any],
    finishing: Mapping[str, Any],
) -> LabeledBlocks:
    """The blocks, with results in place of those that were lazy."""
    done = {
        name: finish(result, *args)
        for result, (name, (finish, args)) in zip(results, finishing.items(), strict=True)
    }
    return LabeledBlocks({name: {**eager, **done}[name] for name in names})


def _persisted(
    graph: Any,
    names: Sequence[str],
    eager: Mapping[str, Any],
    finishing: Mapping[str, Any],
    **options: Any,
) -> LabeledBlocks:
    """The blocks on another graph, which holds what they have become."""
    done = {
        name: finish(graph, *args, **options) for name, (finish, args) in finishing.items()
    }
    return LabeledBlocks({name: {**eager, **done}[name] for name in names})
