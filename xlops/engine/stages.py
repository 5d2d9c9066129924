"""Stages: which steps of a plan run together, and where arrays are kept in between.

Steps run together, piece by piece, as long as that does not cost more than it saves:
what runs on Dask and on NumPy decides, this module only walks through the plan.
"""

from __future__ import annotations

import abc
import collections
import dataclasses

from xlops.windows.pieces import Array
from xlops.windows.plan import Apply, Node, Plan, Source, nodes, places, replaced

__all__ = ["Stage", "Stages"]


@dataclasses.dataclass
class Stage:
    """A plan that may run as one, and the arrays that its sources stand for."""

    node: Node
    arrays: dict[Source, Array]


class Stages(abc.ABC):
    """Runs plans stage by stage.

    Parameters
    ----------
    arrays : mapping of Source to Array
        The arrays that the sources of the plans stand for.
    """

    def __init__(self, arrays: dict[Source, Array]) -> None:
        self.arrays = arrays
        self._made: dict[int, Stage] = {}

    def run(self, plan: Plan) -> Array | dict[str, Array]:
        """Compute (or, on Dask, describe) what a plan makes."""
        ends = list(plan.values()) if isinstance(plan, dict) else [plan]
        parents = collections.Counter(id(end) for end in ends)
        seen: set[int] = set()
        for end in ends:
            for node in nodes(end):
                if id(node) not in seen:
                    seen.add(id(node))
                    parents.update(id(child) for child in node.children)
        self._shared = {key for key, count in parents.items() if count > 1}
        if isinstance(plan, dict):
            return {name: self._finished(node) for name, node in plan.items()}
        return self._finished(plan)

    def _finished(self, node: Node) -> Array:
        return self._kept(self._stage(node))

    def _stage(self, node: Node) -> Stage:
        """The last stage on the way to a node; all earlier ones have run."""
        if isinstance(node, Source):
            return Stage(node, {node: self.arrays[node]})
        if id(node) in self._made:
            return self._made[id(node)]
        below = [self._stage(child) for child in node.children]
        stage = self._joined(node, below)
        if id(node) in self._shared and not self.is_cheap(stage):
            stage = self._there(stage)
        self._made[id(node)] = stage
        return stage

    def _joined(self, node: Node, below: list[Stage]) -> Stage:
        """A node with what is below it, in one stage where that is worth it."""
        stage = self.prepared(_on(node, below))
        if stage is None:
            below = [self._there(part) for part in below]
            stage = self.prepared(_on(node, below), alone=True)
            assert stage is not None
        if isinstance(stage.node, Apply) and self.is_closed(stage):
            stage = self._there(stage)
        return stage

    def _there(self, stage: Stage) -> Stage:
        """A stage that has run: its result is a source."""
        if isinstance(stage.node, Source):
            return stage
        array = self._kept(stage)
        source = Source.of(array, places(stage.node))
        return Stage(source, {source: array})

    def _kept(self, stage: Stage) -> Array:
        if isinstance(stage.node, Source):
            return stage.arrays[stage.node]
        return self.compute(stage)

    @abc.abstractmethod
    def prepared(self, stage: Stage, alone: bool = False) -> Stage | None:
        """A stage ready to run, None where it should not run as one.

        `alone` says that its topmost node acts on sources: it has to run.
        """

    @abc.abstractmethod
    def is_closed(self, stage: Stage) -> bool:
        """Whether nothing can be joined to a stage."""

    @abc.abstractmethod
    def is_cheap(self, stage: Stage) -> bool:
        """Whether a stage may run again for each of its readers."""

    @abc.abstractmethod
    def compute(self, stage: Stage) -> Array:
        """Run a stage."""


def _on(node: Node, below: list[Stage]) -> Stage:
    """A node on the plans of the stages below it."""
    arrays: dict[Source, Array] = {}
    for stage in below:
        arrays.update(stage.arrays)
    children = iter(stage.node for stage in below)
    mapping = {id(child): next(children) for child in node.children}
    same = all(mapping[id(child)] is child for child in node.children)
    if same:
        return Stage(node, arrays)
    new = replaced(node, lambda n: mapping.get(id(n)))
    return Stage(new, arrays)
