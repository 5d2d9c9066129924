"""The folder that a solver keeps its vectors in, where they need not fit into memory."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from xlops import engine
from xlops.engine import Tree
from xlops.engine.stored import import_zarr
from xlops.errors import FileError, listed
from xlops.files.common import checked_path
from xlops.files.writing import lay_out, swap
from xlops.solvers.keeping import Keeper, Label
from xlops.windows.pieces import Array

if TYPE_CHECKING:
    from xlops.solvers.loop import Step

__all__ = ["Store"]

# A file that tells our folders from those of others.
MARK = ".xlops-store"
# What else is ours: folders of work begin like that.
WORK = ".xlops-"
RESULTS = ("x.zarr", "residual.zarr")


class Store(Keeper):
    """Keeps vectors in a folder: the last iterate in the end, all vectors until then.

    Parameters
    ----------
    folder : str or PathLike
        The folder; it is made if need be.
    label, label_residual : callable
        Put labels on a model and on a residual.
    who : str
        The solver, for errors.
    """

    shelf: engine.Shelf

    def __init__(self, folder: Any, label: Label, label_residual: Label, who: str) -> None:
        super().__init__(label, label_residual, who)
        given = checked_path(folder, f"{who}: store")
        import_zarr(f"{who}: store")
        self._folder = Path(os.path.realpath(given))
        self._problem = f"{who}: cannot keep iterates in {given}"
        self._check()
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / MARK).touch()
            self._work = Path(tempfile.mkdtemp(prefix=WORK, dir=self._folder))
            (self._work / "vectors").mkdir()
        except OSError as error:
            raise FileError(f"{self._problem}: {error.strerror}") from error
        self.shelf = engine.Shelf(self._work / "vectors")
        self._places: dict[str, dict[str, Path]] = {}
        # The last model that is more than a description, its residual and its number.
        self._at_hand: tuple[Tree, Tree | None, int] | None = None

    def _check(self) -> None:
        """Raise where there is something that is not ours."""
        folder = self._folder
        if not folder.exists():
            if not folder.parent.is_dir():
                raise FileError(
                    f"{self._problem}: the folder {folder.parent} does not exist; make it "
                    "first"
                )
            return
        if not folder.is_dir():
            raise FileError(f"{self._problem}: it is a file, not a folder")
        there = {path.name for path in folder.iterdir()}
        others = sorted(name for name in there - {*RESULTS} if not name.startswith(WORK))
        if others or (there and MARK not in there):
            raise FileError(
                f"{self._problem}: there is {listed((others or sorted(there))[:3])}, which "
                "no solver has put there; choose a new folder"
            )

    def take(self, step: Step) -> None:
        """The next iterate."""
        if self._last is None:
            # All but the values is written at once: files may not allow these labels.
            alike = self.problem.model, self.problem.y
            made = self._label(alike[0]), self._label_residual(alike[1])
            for name, tree, labeled in zip(RESULTS, alike, made, strict=True):
                self._places[name] = lay_out(_as_in(tree, labeled), self._work / name)
        super().take(step)
        if not callable(step.x):
            self._at_hand = step.x, step.residual, self._iterations
        # The method may compute many times before its next step.
        vectors = (*step.state, *(self._at_hand or ())[:2])
        self.shelf.hold(vector for vector in vectors if engine.is_tree(vector))

    def model(self) -> Callable[[], Any]:
        """What gives the last model with its labels, until the one after the next."""
        x = engine.transform(
            lambda array: engine.on_disk(array, self.shelf.path(array), loaded=True),
            self._model(),
        )
        return functools.partial(self._label, x)

    def results(self) -> tuple[Any, Any]:
        """The last model and its residual with their labels, in their place for good."""
        x, residual = self._published(*self.vectors())
        return self._label(x), self._label_residual(residual)

    def _published(self, *vectors: Tree | None) -> list[Any]:
        """Results in their place; where there is none, none stays from earlier."""
        moved: dict[Path, Path] = {}
        pairs = [*zip(RESULTS, vectors, strict=True)]
        opened = [None if v is None else self._placed(n, v, moved) for n, v in pairs]
        for name, vector in pairs:
            if vector is not None:
                swap(self._work / name, self._folder / name)
            else:
                shutil.rmtree(self._folder / name, ignore_errors=True)
        return opened

    def _placed(self, name: str, tree: Tree, moved: dict[Path, Path]) -> Tree:
        """A vector with its chunks in the file that is laid out for it.

        It is opened where this file will be.
        """

        def one(block: str, array: Array) -> Array:
            place = self._places[name][block]
            _move(self.shelf.path(array), place, moved)
            final = self._folder / place.relative_to(self._work)
            return engine.on_disk(array, final, loaded=True)

        if isinstance(tree, dict):
            return {block: one(block, array) for block, array in tree.items()}
        return one("", tree)

    def _rescued(self) -> str:
        """Put the last iterate in its place; how to go on from there.

        Nothing is computed: there may be nobody to do it. What the method has not made
        by itself is left out.
        """
        if self._at_hand is None:
            return f"there is no iterate yet in {self._folder}"
        x, residual, iterations = self._at_hand
        try:
            self._published(x, residual)
        except OSError as error:
            return f"the last iterate could not be kept in {self._folder}: {error}"
        path = self._folder / RESULTS[0]
        return (
            f"the model of iteration {iterations} is there: "
            f"x0=xl.open({str(path)!r}) goes on from it"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what is left of other vectors."""
        try:
            super().__exit__(kind, error, trace)
        finally:
            # Tasks that outlive a failure write into folders that they do not make.
            shutil.rmtree(self._work, ignore_errors=True)


def _as_in(tree: Tree, labeled: Any) -> Any:
    """Labeled arrays with their dims in the order of the plain ones."""
    if isinstance(tree, dict):
        return {name: labeled[name].transpose(*tree[name].dims) for name in tree}
    return labeled.transpose(*tree.dims)


def _move(given: Path, place: Path, moved: dict[Path, Path]) -> None:
    """Move the chunks of a Zarr array to another; copy them where two blocks share them."""
    again = given in moved
    for file in moved.get(given, given).iterdir():
        if file.name.startswith(".") or file.suffix == ".partial":
            continue  # notes of the array; what a worker had begun when it died
        if again:
            shutil.copyfile(file, place / file.name)
        else:
            os.replace(file, place / file.name)
    moved[given] = place
