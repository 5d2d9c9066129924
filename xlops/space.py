"""Space: the labels of one side of an operator."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from xlops.axis import Axis, Place
from xlops.errors import ArgumentError, ChunkError, DTypeError, LabelError, listed, shown

__all__ = ["Blocks", "Kind", "Labeled", "Layout", "Space"]

Kind: TypeAlias = Literal["real", "complex", "any"]
Labeled: TypeAlias = "xr.DataArray | xr.Dataset | Space"


class Layout(NamedTuple):
    """Coordinates as they stand: variables and indexes by name, shared, never edited.

    Putting them together as xarray does costs more than all that operators do to them,
    so that is done once, for the result.
    """

    variables: Mapping[Hashable, xr.Variable]
    indexes: Mapping[Hashable, xr.Index]

    @classmethod
    def of(cls, coords: xr.Coordinates) -> Layout:
        """Those of an array, a Dataset or a space."""
        return cls(dict(coords.variables), dict(coords.xindexes))

    @property
    def dims(self) -> frozenset[Hashable]:
        """All dims that coordinates lie along."""
        return frozenset(dim for v in self.variables.values() for dim in v.dims)

    def without(self, names: Iterable[Hashable]) -> Layout:
        """These without some, and without what shares an index with them."""
        gone = set(names).intersection(self.variables)
        if not gone:
            return self
        broken = {id(self.indexes[name]) for name in gone if name in self.indexes}
        if any(id(i) in broken for n, i in self.indexes.items() if n not in gone):
            return Layout.of(self.dataset().drop_vars(gone).coords)
        return Layout(
            {name: v for name, v in self.variables.items() if name not in gone},
            {name: i for name, i in self.indexes.items() if name not in gone},
        )

    def without_dims(self, dims: Iterable[Hashable]) -> Layout:
        """These without what lies along some dims."""
        gone = set(dims)
        along = (n for n, v in self.variables.items() if not gone.isdisjoint(v.dims))
        return self.without(along) if gone else self

    def dataset(self) -> xr.Dataset:
        """As a Dataset; nothing is compared, since all is known to fit."""
        return xr.Coordinates(self.variables, self.indexes).to_dataset()


class Space:
    """The labels of one side of an operator: dims with their coordinates.

    A space is immutable and holds no data. Besides the dimension coordinates it keeps
    the auxiliary coordinates along its dims, with all their attributes.

    Parameters
    ----------
    sizes : mapping of Hashable to int
        The dims, in order, and their sizes.
    labels : xarray.Dataset, optional
        The coordinates along these dims, as a Dataset without data variables.
    kind : {"any", "real", "complex"}
        The values of its members.

    Raises
    ------
    LabelError
        Where a dim is empty, or sizes and labels differ.
    ChunkError
        Where the size of a dim is not known.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> t = xr.DataArray(0.004 * np.arange(128), dims="time", name="time")
    >>> t = t.assign_coords(time=t)
    >>> xl.Space.of(t)
    <Space time: 128 × 0.004 [0 … 0.508]>
    """

    _sizes: dict[Hashable, int]
    _labels: xr.Dataset
    _kind: Kind

    def __init__(
        self,
        sizes: Mapping[Hashable, int],
        labels: xr.Dataset | None = None,
        kind: Kind = "any",
    ) -> None:
        unknown = [dim for dim, size in sizes.items() if size != size]
        if unknown:
            raise ChunkError(
                f"the size of dim {listed(unknown)} is not known, since its Dask chunks "
                "are not; call .compute_chunk_sizes() on the data first"
            )
        empty = [dim for dim, size in sizes.items() if size == 0]
        if empty:
            raise LabelError(f"{listed(empty)} is empty: there is nothing to act on")
        labels = xr.Dataset() if labels is None else labels
        wrong = [dim for dim, size in labels.sizes.items() if sizes.get(dim) != size]
        wrong += [dim for dim, size in sizes.items() if size != int(size) or size < 0]
        if wrong or labels.data_vars:
            raise LabelError(
                f"a space of sizes {dict(sizes)} does not go with labels of sizes "
                f"{dict(labels.sizes)}"
            )
        if kind not in ("any", "real", "complex"):
            raise ArgumentError(
                f"kind must be 'any', 'real' or 'complex', got {shown(kind)}"
            )
        self.__dict__.update(_sizes=dict(sizes), _labels=labels, _kind=kind)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Space is immutable")

    def __getstate__(self) -> dict[str, Any]:
        # What is derived is derived again.
        return {name: self.__dict__[name] for name in ("_sizes", "_labels", "_kind")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @classmethod
    def of(cls, *members: Labeled, kind: Kind = "any") -> Space:
        """The space of arrays, coordinates or spaces, over all their dims.

        Parameters
        ----------
        *members : DataArray, Dataset or Space
            A coordinate such as ``d.time`` brings itself and what lies along it.
        kind : {"any", "real", "complex"}
            The values of the members of the new space.

        Raises
        ------
        DTypeError
            Where something is not labeled.
        LabelError
            Where dims that they share have other labels.
        """
        space = cls({}, kind=kind)
        for member in members:
            if isinstance(member, Space):
                space = space.union(member)
                continue
            if not isinstance(member, (xr.DataArray, xr.Dataset)):
                raise DTypeError(
                    "expected a coordinate or DataArray, such as d.time, got "
                    f"{type(member).__name__}"
                )
            sizes = {dim: member.sizes[dim] for dim in member.dims}
            # Deep: what users do to their arrays later does not reach the space.
            labels = _along(member.coords, sizes).copy(deep=True)
            space = space.union(cls(sizes, labels, kind))
        return space

    # --- what it holds --------------------------------------------------------------

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Names of the dims, in order."""
        return tuple(self._sizes)

    @property
    def sizes(self) -> Mapping[Hashable, int]:
        """Sizes by dim."""
        return MappingProxyType(self._sizes)

    @property
    def size(self) -> int:
        """Number of samples of a member."""
        return int(np.prod(list(self._sizes.values()), dtype=np.int64))

    @property
    def kind(self) -> Kind:
        """Whether the values of members are real, complex or any."""
        return self._kind

    @property
    def labels(self) -> xr.Dataset:
        """The coordinates, as a Dataset without data variables."""
        return self._labels.copy()

    @property
    def coords(self) -> xr.Coordinates:
        """The coordinates along the dims."""
        return self.labels.coords

    def __contains__(self, dim: Hashable) -> bool:
        return dim in self._sizes

    def axis(self, dim: Hashable) -> Axis:
        """The labels along one dim."""
        return self._axes[dim]

    @functools.cached_property
    def _axes(self) -> dict[Hashable, Axis]:
        coords = self._labels.coords
        return {
            dim: Axis(dim, size, coords[dim].variable if dim in coords else None)
            for dim, size in self._sizes.items()
        }

    @functools.cached_property
    def layout(self) -> Layout:
        """The coordinates as they stand."""
        return Layout.of(self._labels.coords)

    @functools.cached_property
    def places(self) -> dict[Hashable, Place]:
        """What says in errors where a piece lies, by dim."""
        return {dim: Place(axis) for dim, axis in self._axes.items()}

    def relabeled(self, coords: Layout) -> Layout:
        """The labels of a result in this space, whose input still had these coordinates.

        Dims are labeled by the space. Auxiliary coordinates are those of the input, then
        those of the space that it did not have, or had with the same values. All that
        the input had keeps its place.
        """
        own, indexed = self.layout
        coords = self.beside(coords)
        variables: dict[Hashable, xr.Variable] = {}
        indexes: dict[Hashable, xr.Index] = {}
        for name, variable in coords.variables.items():
            if name in own:
                if name in indexed or same_values(variable, own[name]):
                    variables[name] = own[name]
                    continue
                if set(variable.dims) == set(own[name].dims):
                    variable = variable.transpose(*own[name].dims)
            variables[name] = variable
            if name in coords.indexes:
                indexes[name] = coords.indexes[name]
        for name, variable in own.items():
            variables.setdefault(name, variable)
        return Layout(variables, {**indexes, **indexed})

    def beside(self, coords: Layout) -> Layout:
        """Coordinates of others but those that have the name of a dim, and label it not."""
        variables = coords.variables
        return coords.without(
            n for n in self.dims if n in variables and variables[n].dims != (n,)
        )

    @functools.cached_property
    def names(self) -> frozenset[Hashable]:
        """Names of the coordinates."""
        return frozenset(self.layout.variables)

    # --- comparing ------------------------------------------------------------------

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly these labels."""
        coords = {name: c.variable for name, c in self._labels.coords.items()}
        return str(tokenize(list(self._sizes.items()), coords, self._kind))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self is other or self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    def matches(self, other: Space) -> bool:
        """Whether members of `other` are members of this space, rounding aside.

        The order of dims does not matter. Labels match when they are equal, or for
        floats within 1e-6 of the step or the rounding of the coarser dtype; a dim
        without labels matches every dim of its size.
        """
        return set(self.dims) == set(other.dims) and self.difference(other) is None

    def difference(self, given: Space) -> str | None:
        """First reason why `given` does not have the labels of this space, or None."""
        for dim in self.dims:
            if dim not in given:
                return (
                    f"dim {str(dim)!r} is missing: expected "
                    f"{listed(self.dims)}, got {listed(given.dims)}"
                )
            reason = self.axis(dim).difference(given.axis(dim))
            if reason is not None:
                return reason
        return None

    # --- making others --------------------------------------------------------------

    def union(self, other: Space, who: str = "spaces that meet") -> Space:
        """Both together: the dims of this space, then those only `other` has.

        Raises
        ------
        LabelError
            Where a dim that both have differs.
        """
        for dim in other.dims:
            if dim in self:
                mine, theirs = self.axis(dim), other.axis(dim)
                if mine.labels is not None and theirs.labels is None:
                    mine, theirs = theirs, mine
                reason = mine.difference(theirs)
                if reason is not None:
                    raise LabelError(f"{who}: {reason}")
        sizes = {**self._sizes, **other._sizes}
        return Space(sizes, overlaid(self._labels, other._labels), self._kind)

    def without(self, dims: Iterable[Hashable]) -> Space:
        """This space without some of its dims."""
        gone = set(dims)
        sizes = {dim: size for dim, size in self._sizes.items() if dim not in gone}
        return Space(sizes, self._labels.drop_dims(gone, errors="ignore"), self._kind)

    def ordered(self, dims: Iterable[Hashable]) -> Space:
        """This space with its dims in another order."""
        return Space({d: self._sizes[d] for d in dims}, self._labels, self._kind)

    def of_kind(self, kind: Kind) -> Space:
        """This space for other values."""
        if kind == self._kind:
            return self
        return Space(self._sizes, self._labels, kind)

    # --- members --------------------------------------------------------------------

    def zeros(self, like: xr.DataArray | None = None) -> xr.DataArray:
        """A member of zeros.

        Parameters
        ----------
        like : DataArray, optional
            Gives dtype, the dims that pass through, and chunks where it has any.
        """
        return self._full(0, like)

    def ones(self, like: xr.DataArray | None = None) -> xr.DataArray:
        """A member of ones; `like` as for `zeros`."""
        return self._full(1, like)

    def _full(self, value: int, like: xr.DataArray | None) -> xr.DataArray:
        space = self._with_batch(like)
        shape = tuple(space.sizes.values())
        return space._member(np.full(shape, value, dtype=self._dtype(like)), like)

    def random(self, seed: int = 0, like: xr.DataArray | None = None) -> xr.DataArray:
        """A member of normally distributed values; `like` as for `zeros`.

        Parameters
        ----------
        seed : int
            The same seed gives the same values.
        like : DataArray, optional
            As for `zeros`.
        """
        space, dtype = self._with_batch(like), self._dtype(like)
        rng = np.random.default_rng(seed)
        shape = tuple(space.sizes.values())
        values: np.ndarray[Any, np.dtype[Any]] = rng.standard_normal(shape)
        if dtype.kind == "c":
            values = values + 1j * rng.standard_normal(shape)
        return space._member(values.astype(dtype), like)

    def _with_batch(self, like: xr.DataArray | None) -> Space:
        if like is None:
            return self
        batch = Space.of(like)
        extra = batch.without(d for d in batch.dims if d in self)
        return self.union(extra)

    def _member(self, values: Any, like: xr.DataArray | None) -> xr.DataArray:
        member = xr.Variable(self.dims, values)
        if like is not None and like.chunks is not None:
            chunks = {d: c for d, c in like.variable.chunksizes.items() if d in self}
            same = {d: c for d, c in chunks.items() if sum(c) == self.sizes[d]}
            member = member.chunk(same)
        result = xr.DataArray(member, coords=self.coords)
        result.name = None  # xarray would take the name of a Dask array
        return result

    def _dtype(self, like: xr.DataArray | None) -> np.dtype[Any]:
        dtype = np.dtype(np.float64 if like is None else like.dtype)
        if self._kind == "real":
            dtype = np.empty(0, dtype).real.dtype
        if self._kind == "complex":
            dtype = np.result_type(dtype, np.complex64)
        return dtype

    # --- words ----------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Space {self}>"

    def _repr_html_(self) -> str:
        from xlops.markup.spaces import space_page

        return space_page(self)

    def __str__(self) -> str:
        return ", ".join(f"{a.dim}: {a}" for a in self._axes.values()) or "no dims"


class Blocks(Mapping[str, Space]):
    """The labels of several named blocks: one side of a stack.

    Parameters
    ----------
    spaces : mapping of str to Space
        The space of each block.
    """

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        self._spaces = dict(spaces)

    def __getitem__(self, name: str) -> Space:
        return self._spaces[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spaces)

    def __len__(self) -> int:
        return len(self._spaces)

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly these labels."""
        return str(tokenize([(name, s.token) for name, s in self.items()]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blocks):
            return NotImplemented
        return self is other or self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    @property
    def size(self) -> int:
        """Number of samples of a member."""
        return sum(space.size for space in self.values())

    def zeros(self, like: xr.DataArray | None = None) -> dict[str, xr.DataArray]:
        """Blocks of zeros."""
        return {name: space.zeros(like) for name, space in self.items()}

    def ones(self, like: xr.DataArray | None = None) -> dict[str, xr.DataArray]:
        """Blocks of ones."""
        return {name: space.ones(like) for name, space in self.items()}

    def random(
        self, seed: int = 0, like: xr.DataArray | None = None
    ) -> dict[str, xr.DataArray]:
        """Blocks of normally distributed values."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self))
        return {
            name: space.random(int(s), like)
            for s, (name, space) in zip(seeds, self.items(), strict=True)
        }

    def __repr__(self) -> str:
        return f"<Blocks {self}>"

    def _repr_html_(self) -> str:
        from xlops.markup.spaces import blocks_page

        return blocks_page(self)

    def __str__(self) -> str:
        return "; ".join(f"{name} ({space})" for name, space in self.items())


def by_name(side: Space | Blocks) -> Mapping[str, Space]:
    """The spaces of a side by block; that of one array is named ``""``."""
    return side if isinstance(side, Blocks) else {"": side}


def in_words(side: Space | Blocks) -> str:
    """A side for errors that tell arrays from blocks."""
    return f"blocks {listed(side)}" if isinstance(side, Blocks) else f"one array ({side})"


def sides_match(one: Space | Blocks, other: Space | Blocks) -> bool:
    """Whether two sides have the same blocks, and each the same labels; see `matches`."""
    sides = by_name(one), by_name(other)
    return set(sides[0]) == set(sides[1]) and all(
        space.matches(sides[1][name]) for name, space in sides[0].items()
    )


def overlaid(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    """The coordinates of both; where both have one, that of `first`.

    Never aligns: what shares a dim has been compared before.
    """
    new = [name for name in second.variables if name not in first]
    if not new:
        return first
    if first.data_vars or first.attrs:
        gone = [name for name in second.variables if name in first]
        return first.assign_coords(second.drop_vars(gone).coords)
    return overlay(Layout.of(first.coords), Layout.of(second.coords)).dataset()


def overlay(first: Layout, second: Layout) -> Layout:
    """The coordinates of both; see `overlaid`."""
    new = {n: v for n, v in second.variables.items() if n not in first.variables}
    indexes = {n: i for n, i in second.indexes.items() if n in new}
    return Layout({**first.variables, **new}, {**first.indexes, **indexes})


def _along(coords: Any, dims: Iterable[Hashable]) -> xr.Dataset:
    """The coordinates that lie along these dims, scalars left out."""
    labels: xr.Dataset = coords.to_dataset()
    inside = set(dims)
    outside = [
        name
        for name, variable in labels.variables.items()
        if not variable.dims or not inside.issuperset(variable.dims)
    ]
    return labels.drop_vars(outside) if outside else labels


def same_values(one: xr.Variable, other: xr.Variable) -> bool:
    """Whether two variables have the same values, whatever the order of their dims.

    Of lazy ones only their names are compared: nothing is computed.
    """
    if one is other:
        return True
    if one.dims != other.dims:
        if set(one.dims) != set(other.dims):
            return False
        one = one.transpose(*other.dims)
    if one.shape != other.shape:
        return False
    first, second = one.data, other.data
    if not type(first) is type(second) is np.ndarray:
        lazy = [variable.chunks is not None for variable in (one, other)]
        if any(lazy):
            return all(lazy) and bool(first.name == second.name)
        return bool(one.equals(other))
    numeric = first.dtype.kind in "biufc" and second.dtype.kind in "biufc"
    if not numeric and (first.dtype != second.dtype or first.dtype.kind not in "mMUS"):
        return bool(one.equals(other))
    equal = first == second
    if not equal.all():
        equal |= (first != first) & (second != second)
    return bool(equal.all())
