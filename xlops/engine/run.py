"""Running a plan, on whatever its arrays are."""

from __future__ import annotations

from xlops.engine.lazy import check_known, is_lazy
from xlops.engine.stages import Stages
from xlops.engine.tiles import Tiles
from xlops.windows.pieces import Array
from xlops.windows.plan import Apply, Plan, Source, nodes

__all__ = ["run", "stages_for"]


def run(plan: Plan, arrays: dict[Source, Array]) -> Array | dict[str, Array]:
    """What a plan makes of arrays; lazy where one of them or a weight is.

    Raises
    ------
    ChunkError
        Where the sizes of chunks are not known.
    """
    return stages_for(plan, arrays).run(plan)


def stages_for(plan: Plan, arrays: dict[Source, Array]) -> Stages:
    """What runs a plan on these arrays."""
    ends = list(plan.values()) if isinstance(plan, dict) else [plan]
    steps = [n.step for end in ends for n in nodes(end) if isinstance(n, Apply)]
    weights = [weight for step in steps for weight in step.weights]
    for array in arrays.values():
        if is_lazy(array.data):
            check_known(array.data, steps[0].name if steps else "xlops")
    if any(is_lazy(array.data) for array in (*arrays.values(), *weights)):
        from xlops.engine.graph import Graphs

        return Graphs(arrays)
    return Tiles(arrays)
