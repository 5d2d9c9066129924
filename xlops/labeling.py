"""The door between labeled arrays and the plain ones below: checks once, labels once.

Small arrays cost more in labels than in arithmetic. So an operator remembers the labels
of its last results: `Memory` recognizes an input whose labels it has admitted before and
hands out the labeled array that such an input becomes, still without values.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xlops import units
from xlops.axis import Axis, Place
from xlops.engine import is_lazy
from xlops.errors import DTypeError, LabelError, UnitError, listed
from xlops.space import Blocks, Layout, Space
from xlops.windows.pieces import Array

__all__ = ["Labels", "Memory", "Origin", "Remembered", "admitted", "labeled"]

# Attributes that say something of values, which an operator makes untrue.
_OF_VALUES = ("actual_range", "valid_min", "valid_max", "valid_range", "cell_methods")

# How many kinds of input an operator remembers.
_KINDS = 8
# Values of coordinates up to this size are compared with remembered ones; where there
# are more, arithmetic takes longer than labels do.
_FEW = 4096
# The only indexes whose labels are known never to change.
_PANDAS = (xr.indexes.PandasIndex, xr.indexes.PandasMultiIndex)
# Stands for the values among the coordinates while a result is put together.
_VALUES = object()
_TAKES_PARTS = {"indexes", "fastpath"} <= inspect.signature(xr.DataArray).parameters.keys()
# Values of attributes that results may share.
_FIXED = frozenset({str, bytes, bool, int, float, complex, type(None)})


class Labels:
    """The labels of one array as they stand: nothing is copied.

    Parameters
    ----------
    x : DataArray
        The array.
    """

    def __init__(self, x: xr.DataArray) -> None:
        self.dims = x.dims
        self.shape = x.shape
        self.layout = Layout(dict(x.coords.variables), dict(x.xindexes))

    @functools.cached_property
    def places(self) -> dict[Hashable, Place]:
        """What says in errors where a piece lies, by dim."""
        variables = self.layout.variables
        sizes = zip(self.dims, self.shape, strict=True)
        return {dim: Place(Axis(dim, n, variables.get(dim))) for dim, n in sizes}

    def are_those_of(self, array: Array, layout: Layout) -> bool:
        """Whether a result is labeled by the very same, in whatever order they come."""
        if array.dims != self.dims or np.shape(array.data) != self.shape:
            return False
        (made, indexes), (given, before) = layout, self.layout
        if made.keys() != given.keys() or indexes.keys() != before.keys():
            return False
        return all(
            variable is given[name]
            or _are_identical(variable, given[name], indexes.get(name), before.get(name))
            for name, variable in made.items()
        )

    def around(self, data: Any, name: Hashable, attrs: dict[Any, Any]) -> xr.DataArray:
        """Other values with these labels: what users edit in it reaches nothing else.

        Their indexes are pandas' and their values can be copied.
        """
        return _assembled(xr.Variable(self.dims, data, attrs), self.layout, name)


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a labeled array brings that its result should have again.

    Parameters
    ----------
    name : Hashable or None
        Its name.
    attrs : mapping
        Its attributes.
    unit : str or None
        Its unit; None where it has none.
    labels : Labels
        Its coordinates.
    registry : object
        The pint registry of its data; None where its unit is an attribute.
    known : Remembered or None
        What the operator remembers of such labels.
    """

    name: Hashable
    attrs: Mapping[Any, Any]
    unit: str | None
    labels: Labels
    registry: Any = None
    known: Remembered | None = None


def admitted(
    x: Any, space: Space, new: Any, who: str, memory: Memory | None = None
) -> tuple[Array, Origin]:
    """The plain array inside x, after all checks, and what the result needs of x.

    Parameters
    ----------
    x : DataArray
        Given by the user.
    space : Space
        What the operator acts on.
    new : iterable of Hashable
        Dims that the operator makes and x must not have.
    who : str
        Names the operator in errors.
    memory : Memory, optional
        Labels that need no more checks.

    Raises
    ------
    DTypeError
        Where x is not a DataArray of numbers on NumPy or Dask.
    LabelError
        Where dims, sizes or labels do not fit.
    """
    if not isinstance(x, xr.DataArray):
        hint = ""
        if isinstance(x, np.ndarray):
            hint = "; name its dims with xr.DataArray(values, dims=…, coords=…)"
        elif isinstance(x, xr.Dataset):
            hint = "; use ds.lops.apply, or choose a variable"
        raise DTypeError(f"{who} acts on a DataArray, got {type(x).__name__}{hint}")
    labels = Labels(x)
    known = None if memory is None else memory.find(labels)
    if known is None:
        _check_labels(labels, space, new, who)
    _check_dtype(x.dtype, space, who)
    data, unit, registry = _data(x, who)
    origin = Origin(x.name, x.attrs, unit, labels, registry, known)
    return Array(data, labels.dims), origin


def _check_labels(x: Labels, space: Space, new: Any, who: str) -> None:
    sizes = dict(zip(x.dims, x.shape, strict=True))
    missing = [dim for dim in space.dims if dim not in x.dims]
    if missing:
        raise LabelError(
            f"{who}: dim {listed(missing)} is missing: expected {listed(space.dims)}, "
            f"got {listed(x.dims)}"
        )
    twice = [dim for dim in new if dim in x.dims and dim not in space]
    if twice:
        raise LabelError(
            f"{who} makes dim {listed(twice)}, which the data have already; rename "
            "that dim of the data"
        )
    empty = [dim for dim, size in sizes.items() if size == 0]
    if empty:
        raise LabelError(f"{who}: dim {listed(empty)} of the data is empty")
    for dim in space.dims:
        if _are_alike(dim, space.layout, x.layout):
            continue
        reason = space.axis(dim).difference(
            Axis(dim, sizes[dim], x.layout.variables.get(dim))
        )
        if reason is not None:
            raise LabelError(f"{who}: {reason}")


def _are_alike(dim: Hashable, one: Layout, other: Layout) -> bool:
    """Whether labels and unit are the same to the last digit: quick, and most often.

    Indexes give their labels in a tenth of the time that variables take.
    """
    index, given = one.indexes.get(dim), other.indexes.get(dim)
    if index is None or given is None or not _same_index(index, given):
        return False
    unit = one.variables[dim].attrs.get("units")
    text = other.variables[dim].attrs.get("units")
    return unit is text or (type(unit) is type(text) is str and unit == text)


def _check_dtype(dtype: np.dtype[Any], space: Space, who: str) -> None:
    if dtype.kind not in "biufc":
        kind = {"O": "objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
        what = kind.get(dtype.kind, "values")
        raise DTypeError(f"{who} acts on numbers, the data are {what} ({dtype})")
    if dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise DTypeError(
            f"{who} computes in single or double precision, the data are {dtype}; "
            "convert them with .astype"
        )
    if dtype.kind == "c" and space.kind == "real":
        raise DTypeError(
            f"{who} acts on real values, the data are {dtype}; take .real or .imag, "
            "or build the operator for complex values"
        )


def _data(x: xr.DataArray, who: str) -> tuple[Any, str | None, Any]:
    """Plain data, unit, and the pint registry where the data are a quantity."""
    data, registry = x.data, None
    unit = x.attrs.get("units")
    if type(data) is np.ndarray:  # most often
        return data, unit if isinstance(unit, str) else None, None
    if units.is_quantity(data):
        registry = data._REGISTRY
        unit = format(data.units, "D")
        data = data.magnitude
    if not isinstance(unit, str):
        unit = None
    return plain(data, f"{who} acts on"), unit, registry


def plain(data: Any, who: str) -> Any:
    """NumPy or Dask data, all others refused by name.

    Raises
    ------
    DTypeError
        For other arrays, and for Dask arrays of them.
    """
    if isinstance(data, np.memmap):
        return np.asarray(data)
    kind = type(data._meta) if is_lazy(data) else type(data)
    if kind is np.ndarray:
        return data
    raise DTypeError(
        f"{who} NumPy and Dask arrays, got {kind.__module__}.{kind.__qualname__}; convert "
        "them first, for example with .as_numpy()"
    )


def labeled(array: Array, layout: Layout, origin: Origin, unit: str | None) -> xr.DataArray:
    """A result with its labels, of its own: what users edit in it reaches nothing else.

    Parameters
    ----------
    array : Array
        The plain result.
    layout : Layout
        Its coordinates.
    origin : Origin
        Name, attributes and form of units of the input.
    unit : str or None
        Its unit.
    """
    data, attrs = _with_unit(array.data, origin, unit)
    variables, indexes = layout
    if all(type(index) in _PANDAS for index in indexes.values()) and all(
        name in indexes or _can_be_copied(v) for name, v in variables.items()
    ):
        if origin.labels.are_those_of(array, layout):
            return origin.labels.around(data, origin.name, attrs)
        return _assembled(xr.Variable(array.dims, data, attrs), layout, origin.name)
    coords = layout.dataset().coords
    result = xr.DataArray(data, coords=coords, dims=array.dims, attrs=attrs)
    result.name = origin.name  # xarray would take the name of a Dask array for None
    return result


def _assembled(values: xr.Variable, layout: Layout, name: Hashable) -> xr.DataArray:
    """Values with coordinates of their own: what users edit reaches nothing else.

    The constructor of DataArray checks and copies all that it is given, indexes included.
    Here all is known to fit, and that is a fifth of the time. xarray puts arrays together
    in this way itself; where it should take these keywords no longer, there is another.
    """
    variables, indexes = layout
    coords = {name: _own(v, name in indexes) for name, v in variables.items()}
    if _TAKES_PARTS:
        return xr.DataArray(values, coords, name=name, indexes=indexes, fastpath=True)
    result = xr.Coordinates({**coords, _VALUES: values}, indexes)[_VALUES]
    del result.coords[_VALUES]
    result.name = name
    return result


def _own(variable: xr.Variable, indexed: bool) -> xr.Variable:
    """A coordinate of its own; labels of an index never change."""
    if indexed:
        made = variable.copy(deep=False)
        _detach(made)
        return made
    attrs, encoding = _copied_dict(variable.attrs), _copied_dict(variable.encoding)
    data = _copied(variable.data)
    return xr.Variable(variable.dims, data, attrs, encoding, fastpath=True)


def _detach(variable: xr.Variable) -> None:
    """Give a shallow copy attributes of its own, where they can be edited in place."""
    attrs, encoding = variable.attrs, variable.encoding
    if not (_is_fixed(attrs) and _is_fixed(encoding)):
        variable.attrs, variable.encoding = copy.deepcopy(attrs), copy.deepcopy(encoding)


def _with_unit(
    data: Any, origin: Origin, unit: str | None
) -> tuple[Any, dict[Hashable, Any]]:
    """Data and attributes of a result: its unit in the form that the input had."""
    attrs = {k: v for k, v in origin.attrs.items() if k not in _OF_VALUES}
    attrs.pop("units", None)
    if unit != origin.unit:
        attrs.pop("standard_name", None)
    if unit is not None and origin.registry is not None:
        data = _quantity(data, unit, origin.registry)
    elif unit is not None:
        # The unit keeps its place among the attributes.
        attrs = {k: v for k, v in origin.attrs.items() if k in attrs or k == "units"}
        attrs["units"] = unit
    return data, attrs


def _quantity(data: Any, unit: str, registry: Any) -> Any:
    try:
        return registry.Quantity(data, units.spelled(unit, registry))
    except Exception as error:
        raise UnitError(
            f"the unit {unit!r} of the result is not known to the pint registry of the "
            "data; define it there, or carry units as attributes (.pint.dequantify)"
        ) from error


# --- remembered labels ----------------------------------------------------------------


class Memory:
    """The labels of an operator's last results, and of the inputs they came from.

    Coordinates that lie along no dim of the operator are taken anew from each input.
    What decides the labels of a result is therefore only the dims, sizes and names of
    the input, its indexes, and all of its coordinates along dims of the operator.
    Indexes do not change and are compared by identity (they are held, so that no other
    takes their place); all else can be edited and is compared with a copy.

    Parameters
    ----------
    domain, range : Space or Blocks
        Both sides of the operator.
    """

    def __init__(self, domain: Space | Blocks, range: Space | Blocks) -> None:  # noqa: A002
        sides = [
            space
            for side in (domain, range)
            for space in (side.values() if isinstance(side, Blocks) else (side,))
        ]
        self.dims = frozenset(dim for space in sides for dim in space.dims)
        self.names = self.dims.union(*(space.names for space in sides))
        # Replaced as a whole: threads see the old ones or the new ones.
        self._kinds: tuple[Remembered, ...] = ()

    def find(self, labels: Labels) -> Remembered | None:
        """What is remembered of such labels."""
        for kind in self._kinds:
            if kind.fits(labels):
                return kind
        return None

    def add(self, kind: Remembered) -> None:
        """Remember labels, and forget the oldest where there are many."""
        self._kinds = (kind, *self._kinds[: _KINDS - 1])

    def new(self, labels: Labels) -> Remembered | None:
        """A record for labels not seen before; None where they cannot be remembered."""
        if not all(isinstance(size, int) for size in labels.shape):
            return None  # not known before Dask has computed it
        keys: dict[Hashable, _Key] = {}
        for name, variable in labels.layout.variables.items():
            index = labels.layout.indexes.get(name)
            own = name in self.names or not self.dims.isdisjoint(variable.dims)
            key = _Key.of(variable, index, own)
            if key is None:
                return None
            keys[name] = key
        return Remembered(labels.dims, labels.shape, keys)


class Remembered:
    """One kind of input, and the results that it becomes, still without values.

    Parameters
    ----------
    dims, shape : tuple
        Of the input.
    keys : mapping
        What its coordinates have to be.
    """

    def __init__(
        self, dims: tuple[Hashable, ...], shape: tuple[int, ...], keys: dict[Hashable, _Key]
    ) -> None:
        self._dims, self._shape, self._keys = dims, shape, keys
        self._names = list(keys)
        # By block; None stands for the labels of the input itself.
        self._templates: dict[str, _Template | None] = {}

    def fits(self, labels: Labels) -> bool:
        """Whether an array with these labels is of this kind."""
        if labels.dims != self._dims or labels.shape != self._shape:
            return False
        variables, indexes = labels.layout
        if list(variables) != self._names:
            return False
        return all(
            key.fits(variables[name], indexes.get(name)) for name, key in self._keys.items()
        )

    def prepare(
        self, block: str, array: Array, layout: Layout, origin: Origin, space: Space
    ) -> bool:
        """Note what a result looks like; says whether that can be done.

        Parameters
        ----------
        block : str
            The name of the result.
        array : Array
            Its values.
        layout : Layout
            Its coordinates.
        origin : Origin
            What the input brought.
        space : Space
            The side of the operator that it belongs to.
        """
        passing = [name for name, key in self._keys.items() if not key.own]
        given = origin.labels.layout
        if not all(_came_through(name, layout, given) for name in passing):
            return False
        template = None
        if not origin.labels.are_those_of(array, layout):
            template = _Template.of(array, layout, passing, space.layout)
            if template is None:
                return False
        self._templates[block] = template
        return True

    def dims(self, block: str) -> tuple[Hashable, ...]:
        """Dims of a result, in order."""
        template = self._templates[block]
        return self._dims if template is None else template.dims

    def labeled(
        self, block: str, array: Array, origin: Origin, unit: str | None
    ) -> xr.DataArray:
        """A result with its labels; see `labeled`."""
        data, attrs = _with_unit(array.data, origin, unit)
        template = self._templates[block]
        if template is None:
            return origin.labels.around(data, origin.name, attrs)
        given = origin.labels.layout.variables
        return template.filled(data, given, origin.name, attrs)


class _Key(NamedTuple):
    """What a coordinate of the input has to be for the result to be as remembered.

    One that passes through (not `own`) may have any values; of its index the result
    has the very same.
    """

    own: bool
    dims: tuple[Hashable, ...]
    index: Any
    dtype: np.dtype[Any]
    values: bytes
    held: Any  # keeps the objects alive whose addresses are in `values`
    attrs: Mapping[Any, Any]
    encoding: Mapping[Any, Any]

    @classmethod
    def of(cls, variable: xr.Variable, index: Any, own: bool) -> _Key | None:
        """The key of a coordinate; None where it cannot be told from others."""
        values, held, labels = b"", None, None
        if index is not None:
            if type(index) not in _PANDAS:
                return None
            labels = index.index
        elif own:
            if not _is_small(variable):
                return None
            data = variable.data
            if data.dtype.kind not in "biufcmMUS":
                held = data.copy()
                if not _is_text(held):
                    return None
            values = data.tobytes()
        elif not _can_be_copied(variable):
            return None
        attrs, encoding = {}, {}
        if own:
            attrs, encoding = _copied_dict(variable.attrs), _copied_dict(variable.encoding)
            if not (_is_fixed(attrs) and _is_fixed(encoding)) and not (
                _same(attrs, variable.attrs) and _same(encoding, variable.encoding)
            ):
                return None
        return cls(
            own, variable.dims, labels, variable.dtype, values, held, attrs, encoding
        )

    def fits(self, variable: xr.Variable, index: Any) -> bool:
        """Whether a coordinate is as it has to be."""
        if variable.dims != self.dims:
            return False
        if not self.own and self.index is None:
            return index is None and _can_be_copied(variable)
        if variable.dtype != self.dtype:
            return False
        if self.index is not None:
            if type(index) not in _PANDAS or index.index is not self.index:
                return False
        elif (
            index is not None
            or not _is_small(variable)
            or variable.data.tobytes() != self.values
        ):
            return False
        return not self.own or (
            _same(variable.attrs, self.attrs) and _same(variable.encoding, self.encoding)
        )


@dataclasses.dataclass(frozen=True)
class _Template:
    """What a labeled result looks like.

    Parameters
    ----------
    dims : tuple of Hashable
        Of the result.
    coords : mapping of Hashable to Variable or None
        Its coordinates, in order; None stands for one that each input brings itself.
    indexes : mapping of Hashable to Index
        Its indexes.
    """

    dims: tuple[Hashable, ...]
    coords: Mapping[Hashable, xr.Variable | None]
    indexes: Mapping[Hashable, xr.Index]

    @classmethod
    def of(
        cls, array: Array, layout: Layout, passing: Sequence[Hashable], fixed: Layout
    ) -> _Template | None:
        """The template of a result; None where its labels are not of the usual kind.

        Coordinates that are in `fixed` are never edited.
        """
        variables, indexes = layout
        if any(type(index) not in _PANDAS for index in indexes.values()):
            return None
        dims = set(array.dims)
        if not all(dims.issuperset(v.dims) for v in variables.values()) or not all(
            type(v.data) is np.ndarray and _can_be_copied(v)
            for name, v in variables.items()
            if name not in passing and name not in indexes
        ):
            return None
        kept: dict[Hashable, xr.Variable | None] = {}
        for name, variable in variables.items():
            if name in passing:
                kept[name] = None
            elif variable is fixed.variables.get(name):
                kept[name] = variable
            else:
                kept[name] = _own(variable, name in indexes)
        return cls(array.dims, kept, indexes)

    def filled(
        self,
        data: Any,
        given: Mapping[Hashable, xr.Variable],
        name: Hashable,
        attrs: dict[Hashable, Any],
    ) -> xr.DataArray:
        """A result of its own: what users edit in it reaches nothing else."""
        coords = {
            coord: given[coord] if variable is None else variable
            for coord, variable in self.coords.items()
        }
        values = xr.Variable(self.dims, data, attrs)
        return _assembled(values, Layout(coords, self.indexes), name)


def _came_through(name: Hashable, layout: Layout, given: Layout) -> bool:
    """Whether a coordinate came out of the operator as it went in."""
    made, old = layout.variables.get(name), given.variables[name]
    if made is None or made.dims != old.dims:
        return False
    before: Any = given.indexes.get(name)
    after: Any = layout.indexes.get(name)
    if before is None or after is None:
        return before is after and made.data is old.data
    return bool(before.index is after.index)


def _is_small(variable: xr.Variable) -> bool:
    return variable.size <= _FEW and type(variable.data) is np.ndarray


def _is_text(values: Any) -> bool:
    """Whether objects are all strings: the same objects are then the same values."""
    return values.dtype == object and all(type(value) is str for value in values.flat)


def _can_be_copied(variable: xr.Variable) -> bool:
    """Whether a coordinate is in memory, or at least lazy in a way that we know.

    Large ones from files might still be there, and are left to xarray.
    """
    if variable.size > _FEW and "source" in variable.encoding:
        return False
    data = variable.data
    if type(data) is np.ndarray:  # xarray may take objects for others: None for NaN
        return data.dtype != object or _is_text(data)
    return is_lazy(data) or units.is_quantity(data)


def _are_identical(
    one: xr.Variable, other: xr.Variable, index: Any, other_index: Any
) -> bool:
    """Whether two coordinates are the same in all that can be seen of them.

    Where that takes long to say: no.
    """
    if one.dims != other.dims or one.dtype != other.dtype:
        return False
    if index is None or other_index is None:
        if index is not other_index or not (_is_small(one) and _is_small(other)):
            return False
        same = _same_bytes(one.data, other.data)
    else:
        same = _same_index(index, other_index)
    return same and _same(one.attrs, other.attrs) and _same(one.encoding, other.encoding)


def _same_index(one: Any, other: Any) -> bool:
    """Whether two indexes have the same labels; where that takes long to say: no."""
    if not type(one) is type(other) is xr.indexes.PandasIndex:
        return False
    first, second = one.index, other.index
    if first is second:
        return True
    return first.dtype == second.dtype and _same_bytes(first.values, second.values)


def _same_bytes(one: Any, other: Any) -> bool:
    """Whether arrays are the same to the last bit; no, for objects."""
    if not (type(one) is type(other) is np.ndarray and one.dtype == other.dtype):
        return False
    if one.dtype.kind not in "biufcmMUS" or one.shape != other.shape:
        return False
    return bool(one.tobytes() == other.tobytes())


def _copied(data: Any) -> Any:
    return data.copy(order="K") if type(data) is np.ndarray else copy.deepcopy(data)


def _copied_dict(values: Mapping[Any, Any]) -> dict[Any, Any]:
    if _is_fixed(values):
        return dict(values)
    return {k: v if type(v) in _FIXED else copy.deepcopy(v) for k, v in values.items()}


def _is_fixed(values: Mapping[Any, Any]) -> bool:
    return _FIXED.issuperset(map(type, values.values()))


def _same(one: Any, other: Any) -> bool:
    """Whether attributes are the same to the last digit, in the same order.

    ``==`` is not enough: 1, 1.0 and True are equal, arrays compare sample by sample.
    What is not known to compare is taken for different.
    """
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is float or kind is complex:
        return repr(one) == repr(other)
    if kind in _FIXED:
        return bool(one == other)
    if kind is dict:
        return len(one) == len(other) and all(
            # The same object, most often.
            (a is b or _same(a, b)) and ((v is w and type(v) in _FIXED) or _same(v, w))
            for (a, v), (b, w) in zip(one.items(), other.items(), strict=True)
        )
    if kind is tuple or kind is list:
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.dtype):
        return bool(one == other)
    if isinstance(one, np.generic) or kind is np.ndarray:
        if one.dtype != other.dtype or one.shape != other.shape or one.dtype.hasobject:
            return False
        return bool(one.tobytes() == other.tobytes())
    return False
