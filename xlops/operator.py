"""LinearOperator: what every operator can do, and Elementary: what one is made of."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn, TypeAlias

import xarray as xr
from dask.tokenize import tokenize

from xlops import engine, units
from xlops.axis import Axis
from xlops.engine import Explanation, Tree
from xlops.errors import DTypeError, LabelError, UnitError, listed
from xlops.labeling import Memory, Origin, admitted, labeled
from xlops.options import options
from xlops.space import Blocks, Space, laid_out, overlaid, overlay
from xlops.units import ONE, Gain
from xlops.windows.pieces import Array, Indices, Kernel, placed
from xlops.windows.plan import Apply, Node, Plan, Source, Step, real
from xlops.windows.rules import WindowRule

__all__ = ["Elementary", "Gains", "LinearOperator"]

Gains: TypeAlias = Gain | dict[str, Gain]
Keeps: TypeAlias = bool | dict[str, bool]
Coords: TypeAlias = xr.Dataset | dict[str, xr.Dataset]

# What operators offer from higher layers, which those layers fill in.
_offered: dict[str, Callable[..., Any]] = {}


def offer(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: this function serves the operators' method `name`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _offered[name] = function
        return function

    return register


def offered(name: str) -> Callable[..., Any]:
    """What a higher layer has filled in under this name."""
    return _offered[name]


class LinearOperator(abc.ABC):
    """A linear map between labeled spaces.

    Operators are immutable. They act on the dims of their `domain`; every other dim of
    the data passes through.

    Attributes
    ----------
    domain, range : Space or Blocks
        The labels of both sides.
    name : str
        Names the operator in errors and in its repr.
    clinear : bool
        Whether the operator is linear over complex numbers, not only over real ones.
    traits : frozenset of str
        What is known of it: ``"symmetric"`` (equal to its adjoint), ``"positive"``
        (⟨x, A x⟩ ≥ 0), ``"unitary"``, ``"explicit"`` (holds a matrix).
    """

    domain: Space | Blocks
    range: Space | Blocks
    name: str
    gain: Gains
    clinear: bool
    traits: frozenset[str] = frozenset()
    keeps_constants: Keeps = False
    # Whether its range has been somebody's domain, and so knows its labels best.
    _gives_back: ClassVar[bool] = False

    # NumPy numbers leave `number * operator` to the operator.
    __array_ufunc__: ClassVar[None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        units.give_way(cls)

    # --- what an operator implements ------------------------------------------------

    @abc.abstractmethod
    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        """What computes the operator, or its adjoint, from what computes its input."""

    @abc.abstractmethod
    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        """Those of the input's coordinates that are still true after the operator."""

    @functools.cached_property
    @abc.abstractmethod
    def token(self) -> str:
        """A name for exactly this operator, made without computing anything."""

    # --- applying -------------------------------------------------------------------

    def _run(self, x: Tree, adjoint: bool) -> Tree:
        """The operator, or its adjoint, on plain arrays that have been checked."""
        plan, arrays = self._planned(x, adjoint)
        return engine.run(plan, arrays)

    def _planned(self, x: Tree, adjoint: bool) -> tuple[Plan, dict[Source, Array]]:
        """The plan for these arrays, and which source of it stands for which of them."""
        if isinstance(x, dict):
            sources = {name: Source.of(array) for name, array in x.items()}
            arrays = {sources[name]: array for name, array in x.items()}
            return self._plan({**sources}, adjoint), arrays
        source = Source.of(x)
        return self._plan(source, adjoint), {source: x}

    @property
    def units(self) -> Any:
        """What the operator does to units: ``unit(A @ x) = A.units · unit(x)``.

        A `pint.Unit`; a mapping by name where one side has blocks; None where it is not
        known, since a coordinate carries no units.
        """
        if isinstance(self.gain, dict):
            return {name: gain.unit for name, gain in self.gain.items()}
        return self.gain.unit

    def apply(self, x: Any, /) -> Any:
        """``A @ x``: the operator applied to labeled data.

        Parameters
        ----------
        x : DataArray
            With all dims of the domain and the same labels; other dims pass through.
            Where the domain has blocks: a mapping by name, or a Dataset.

        Returns
        -------
        DataArray
            Lazy where x or a weight is. Where the range has blocks: a dict by name, or
            a Dataset where one came in and labels agree.

        Raises
        ------
        LabelError
            Where dims, sizes or labels do not fit.
        DTypeError
            Where the data are not real or complex numbers on NumPy or Dask.
        UnitError
            Where units of blocks do not add.
        """
        tree, origins = self._admitted(x)
        tree = self._in_one_unit(tree, origins)
        known = all(origin.known for origin in origins.values())
        # Labels that do not agree are an error before any work.
        coords = None if known else self._carried(origins)
        with units.one_warning():
            made = self._run(tree, adjoint=False)
            result = self._labeled(made, origins, tree, coords=coords)
        return as_dataset(result) if isinstance(x, xr.Dataset) else result

    def _admitted(self, x: Any) -> tuple[Tree, dict[str, Origin]]:
        """Plain arrays inside x and where they came from; "" names a single array."""
        who = self.name
        sides = self.range.values() if isinstance(self.range, Blocks) else (self.range,)
        made = {dim for space in sides for dim in space.dims}
        if isinstance(self.domain, Space):
            array, origin = admitted(x, self.domain, made, who, self._memory)
            return array, {"": origin}
        if not isinstance(x, (Mapping, xr.Dataset)):
            raise DTypeError(
                f"{who} acts on blocks {listed(self.domain)}: give a mapping or a "
                f"Dataset with these names, got {type(x).__name__}"
            )
        missing = [name for name in self.domain if name not in x]
        extra = [name for name in x if name not in self.domain]
        if missing or (extra and not isinstance(x, xr.Dataset)):
            raise LabelError(
                f"{who}: expected blocks {listed(self.domain)}, got {listed(x)}"
            )
        arrays, origins = {}, {}
        for name, space in self.domain.items():
            array, origin = admitted(x[name], space, made, f"{who}, block {name!r}")
            arrays[name], origins[name] = array, origin
        self._check_passing({name: x[name] for name in self.domain})
        return arrays, origins

    def _check_passing(self, blocks: Mapping[str, xr.DataArray]) -> None:
        """Raise unless the dims that pass through are the same in all blocks."""
        assert isinstance(self.domain, Blocks)
        passing = {
            name: {dim: Axis.of(block, dim) for dim in block.dims if dim not in space}
            for (name, space), block in zip(
                self.domain.items(), blocks.values(), strict=True
            )
        }
        first, *others = passing
        for name in others:
            who = f"{self.name}: blocks {first!r} and {name!r}"
            if set(passing[first]) != set(passing[name]):
                raise LabelError(
                    f"{who} differ in the dims that pass through: "
                    f"{listed(passing[first])} and {listed(passing[name])}"
                )
            for dim, axis in passing[first].items():
                other = passing[name][dim]
                reason = axis.difference(other) or other.difference(axis)
                if reason is not None:
                    raise LabelError(f"{who} do not fit: {reason}")

    def _in_one_unit(self, arrays: Tree, origins: dict[str, Origin]) -> Tree:
        """Blocks scaled so that what the operator adds up has one unit."""
        if not isinstance(arrays, dict) or not isinstance(self.gain, dict):
            return arrays
        result: dict[str, Array] = {}
        first: tuple[str, Gain] | None = None
        for name, array in arrays.items():
            unit = origins[name].unit
            total = self.gain[name] * Gain.of(unit)
            if total.known and total.unit is not None:
                first = first or (name, total)
                scale = units.factor(total, first[1])
                if units.mixes_offsets(origins[first[0]].unit, unit):
                    scale = None
                if scale is None:
                    raise UnitError(
                        f"{self.name} adds blocks whose units do not add: block "
                        f"{first[0]!r} comes in {first[1]}, block {name!r} in {total}"
                    )
                array = array if scale == 1.0 else engine.scaled(scale, array)
            result[name] = array
        return result

    @functools.cached_property
    def _memory(self) -> Memory:
        """The labels of the last results."""
        return Memory(self.domain, self.range)

    def _carried(self, origins: Mapping[str, Origin]) -> Coords:
        """The coordinates of the data that are still true after the operator."""
        given = {name: origin.coords for name, origin in origins.items()}
        return self._carry(given.get("", given), adjoint=False)

    def _labeled(
        self,
        result: Tree,
        origins: dict[str, Origin],
        given: Tree,
        gain: Gains | None = None,
        keeps_constants: Keeps | None = None,
        coords: Coords | None = None,
    ) -> Any:
        """Labels and units on the result; units by another gain where one is given.

        `coords` are the coordinates that `_carried` has found, if it has been asked.
        """
        first, block = next(iter(origins.values())), next(iter(origins))
        gain = self.gain if gain is None else gain
        keeps = self.keeps_constants if keeps_constants is None else keeps_constants
        known, new = first.known, None
        if known is None:
            coords = self._carried(origins) if coords is None else coords
            if isinstance(self.domain, Space):
                new = self._memory.new(first.labels)

        def one(array: Array, name: str) -> xr.DataArray:
            nonlocal new
            space = self.range[name] if isinstance(self.range, Blocks) else self.range
            if known is not None:
                array = array.ordered(known.dims(name))
            elif isinstance(self.domain, Space):
                dims = engine.leaves(given)[0].dims
                array = array.ordered(placed(dims, self.domain.sizes, space.sizes))
            if engine.shares_memory(array, given):  # no result is a window on the input
                array = Array(array.data.copy(), array.dims)
            own = gain[name] if isinstance(gain, dict) else gain
            constant = keeps[name] if isinstance(keeps, dict) else keeps
            unit = units.apply(own, first.unit, constant, self.name)
            if known is not None:
                return known.labeled(name, array, first, unit)
            kept = coords[name] if isinstance(coords, dict) else coords
            assert isinstance(kept, xr.Dataset)
            layout = overlay(space.labels, kept) if self._gives_back else space.layout(kept)
            if new is not None and new.prepare(name, array, layout, first.labels):
                return new.labeled(name, array, first, unit)
            new = None
            return labeled(array, laid_out(*layout), first, unit)

        if isinstance(result, dict):
            results = {name: one(array, name) for name, array in result.items()}
        else:
            results = {block: one(result, block)}
        if new is not None:
            self._memory.add(new)
        return results if isinstance(result, dict) else results[block]

    # --- modes and plans ------------------------------------------------------------

    def evaluate(self, forward: bool = True, adjoint: bool = True) -> LinearOperator:
        """The same operator, which computes lazy results at once.

        Parameters
        ----------
        forward, adjoint : bool
            Whether ``A @ x``, and whether ``A.H @ y``, is computed.

        Returns
        -------
        LinearOperator
            In a product, the outermost factor decides: the one that gives the result.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.ones((4, 6)), dims=("offset", "time")).chunk(offset=2)
        >>> A = xl.FirstDerivative(x.time)
        >>> (A @ x).chunks is None, (A.evaluate() @ x).chunks is None
        (False, True)
        """
        from xlops.modes import InMode

        mode = self if isinstance(self, InMode) else InMode(self)
        return InMode(mode.operator, (bool(forward), bool(adjoint)), mode.chunks)

    def chunked(self, **chunks: Any) -> LinearOperator:
        """The same operator, which cuts NumPy input into Dask chunks first.

        Parameters
        ----------
        **chunks
            Chunk sizes by dim, as for `xarray.DataArray.chunk`; dims that the input does
            not have are left out.

        Returns
        -------
        LinearOperator
            In a product, the factor that takes the input decides.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.ones((4, 6)), dims=("offset", "time"))
        >>> (xl.FirstDerivative(x.time).chunked(offset=2) @ x).chunks
        ((2, 2), (6,))
        """
        from xlops.modes import InMode

        mode = self if isinstance(self, InMode) else InMode(self)
        return InMode(mode.operator, mode.computes, chunks)

    def explain(self, x: Any) -> Explanation:
        """What ``A @ x`` would do, as EXPLAIN tells of a query; computes nothing.

        Parameters
        ----------
        x : DataArray
            As for `apply`; blocks as a mapping or a Dataset.

        Returns
        -------
        Explanation
            One row for each stage that runs: its steps, the dims and what a piece needs
            along them, chunks, tasks, bytes moved, and what one task holds at most. On
            NumPy: tiles instead of chunks and tasks.

        Raises
        ------
        LabelError, DTypeError, UnitError
            As for `apply`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.ones((4, 6)), dims=("offset", "time")).chunk(time=2)
        >>> plan = xl.FirstDerivative(x.time).explain(x)
        >>> plan.rows[0].windows, plan.tasks
        ({'time': 'halo 1 + 1'}, 7)
        """
        plan, arrays, origins = self._prepared(x)
        unit = next(iter(origins.values())).unit
        gains = self.gain if isinstance(self.gain, dict) else {"": self.gain}
        texts = []
        with units.one_warning():
            for name, gain in gains.items():
                keeps = self.keeps_constants
                kept = keeps[name] if isinstance(keeps, dict) else keeps
                made = units.apply(gain, unit, kept, self.name)
                texts.append(f"{name} {made or 'no unit'}".strip())
        return engine.explain(plan, arrays, self.name).with_units(
            f"{unit or 'no unit'} → {', '.join(texts)}"
        )

    def chunks_for(self, x: Any) -> dict[Hashable, int]:
        """Chunks of x for which ``A @ x`` would cost least.

        Parameters
        ----------
        x : DataArray
            As for `apply`; its own chunks do not count.

        Returns
        -------
        dict
            Sizes of chunks by dim, for ``x.chunk``: dims that are needed whole in one
            piece, others cut into chunks of about 32 MiB, those with a halo last.

        Raises
        ------
        LabelError, DTypeError, UnitError
            As for `apply`; an operator on blocks has no x to cut.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.zeros((2000, 5000)), dims=("offset", "time"))
        >>> xl.FFT(x.time).chunks_for(x)
        {'offset': 667, 'time': 5000}
        """
        if isinstance(self.domain, Blocks):
            raise LabelError(f"{self.name} acts on blocks; ask the operator of each block")
        plan, arrays, _ = self._prepared(x)
        (source,) = arrays
        return engine.chunks_for(plan, source)

    def _prepared(self, x: Any) -> tuple[Plan, dict[Source, Array], dict[str, Origin]]:
        """The plan for x, after all checks."""
        tree, origins = self._admitted(x)
        return (*self._planned(self._in_one_unit(tree, origins), False), origins)

    # --- algebra --------------------------------------------------------------------

    @functools.cached_property
    def H(self) -> LinearOperator:
        """The Euclidean adjoint: it gives back the labels of the domain."""
        from xlops.algebra import Adjoint

        return Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """``A.H @ A``."""
        from xlops.algebra import product

        return product(self.H, self)

    def __call__(self, x: Any, /) -> Any:
        """``A @ x``; see `apply`."""
        return self.apply(x)

    def __matmul__(self, other: Any) -> Any:
        from xlops.algebra import is_scalar, product

        if isinstance(other, LinearOperator):
            return product(self, other)
        if is_scalar(other) and not isinstance(other, xr.DataArray):
            raise DTypeError(
                f"{self} @ {other}: a number scales an operator, which is not applied to "
                f"it; write {other} * A"
            )
        return self.apply(other)

    def __mul__(self, other: Any) -> Any:
        from xlops.algebra import is_scalar, scaled

        if is_scalar(other):
            return scaled(other, self)
        return self.__matmul__(other)

    def __rmul__(self, other: Any) -> Any:
        from xlops.algebra import is_scalar, scaled

        return scaled(other, self) if is_scalar(other) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        from xlops.algebra import is_scalar, scaled

        if is_scalar(other):
            return scaled(1 / other, self)
        if isinstance(other, (xr.DataArray, xr.Dataset, Mapping)):
            return offered("solve")(self, other).x
        raise DTypeError(
            f"{self} / {type(other).__name__}: divide by a number, or solve for labeled "
            "data with A / y"
        )

    def __neg__(self) -> LinearOperator:
        from xlops.algebra import scaled

        return scaled(-1, self)

    def __add__(self, other: Any) -> LinearOperator:
        from xlops.algebra import added

        self._check_term(other)
        return added(self, other)

    def __sub__(self, other: Any) -> LinearOperator:
        self._check_term(other)
        return self.__add__(-other)

    def __rmatmul__(self, other: Any) -> NoReturn:
        raise DTypeError(
            f"{type(other).__name__} @ {self}: an operator stands left of what it acts on, "
            "A @ x"
        )

    def __radd__(self, other: Any) -> NoReturn:
        raise DTypeError(
            f"{self}: only operators are added to it, got {type(other).__name__}"
        )

    __rsub__ = __radd__

    def _check_term(self, other: Any) -> None:
        if not isinstance(other, LinearOperator):
            raise DTypeError(
                f"{self}: only operators are added to it, got {type(other).__name__}; "
                "apply it to data with @, or add a multiple of an xl.Identity"
            )

    def __pow__(self, power: Any) -> LinearOperator:
        from xlops.algebra import raised

        return raised(self, power)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearOperator):
            return NotImplemented
        return self is other or (type(self) is type(other) and self.token == other.token)

    def __hash__(self) -> int:
        return hash(self.token)

    def __getstate__(self) -> dict[str, Any]:
        # What is derived is derived again.
        derived = ("H", "_steps", "_kept", "_memory")
        return {k: v for k, v in self.__dict__.items() if k not in derived}

    # --- words ----------------------------------------------------------------------

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        same = self.domain == self.range
        lines = [f"<{type(self).__name__}> {self}"]
        lines += _side("domain", self.domain)
        lines += ["  range:  same as domain"] if same else _side("range", self.range)
        gain = self.gain
        if isinstance(gain, Gain):
            gain = {"": gain}
        shown = ", ".join(f"{name} {g}".strip() for name, g in gain.items())
        lines += [f"  units:  {shown}", *self._details()]
        width = options().display_width
        return "\n".join(
            line if len(line) <= width else f"{line[: width - 1]}…" for line in lines
        )

    def _details(self) -> list[str]:
        """Further lines of the repr."""
        return []


def _side(title: str, side: Space | Blocks) -> list[str]:
    if isinstance(side, Space):
        rows = [f"{axis.dim}: {axis}" for axis in map(side.axis, side.dims)] or ["any"]
    else:
        rows = [f"{name} ({space})" for name, space in side.items()]
    indent = " " * 10
    head = f"  {title}:".ljust(10)
    return [(head if i == 0 else indent) + row for i, row in enumerate(rows)]


class Elementary(LinearOperator):
    """An operator that is not made of others: spaces, a window and two kernels.

    Parameters
    ----------
    domain, range : Space
        The labels of both sides.
    window : WindowRule
        Which piece of the input a piece of the output needs.
    forward, adjoint : callable
        Kernels: a `Block` in, an array out. Module-level functions, or partials.
    gain : Gain
        What the operator does to units.
    params : mapping
        The constructor's other arguments, for repr and for telling operators apart.
    name : str, optional
        Names the operator; its class and dims unless given.
    weights : tuple of Array
        Arrays along the operator's dims that the kernels need in pieces.
    exact : tuple of bool
        Whether forward and adjoint only move values: integers then stay integers.
    totals : tuple of callable, optional
        For cumulative operators: kernels of what a piece adds to the running value.
    blas : bool
        Whether kernels call BLAS.
    selects : ndarray of int, optional
        Which samples of its dim come out, where the operator only chooses or reorders
        them: auxiliary coordinates then follow.
    clinear, traits, keeps_constants
        See `LinearOperator`.
    """

    domain: Space
    range: Space
    gain: Gain

    def __init__(
        self,
        domain: Space,
        range: Space,  # noqa: A002
        *,
        window: WindowRule,
        forward: Kernel,
        adjoint: Kernel,
        gain: Gain = ONE,
        params: Mapping[str, Any],
        name: str | None = None,
        weights: tuple[Array, ...] = (),
        exact: tuple[bool, bool] = (False, False),
        totals: tuple[Kernel, Kernel] | None = None,
        blas: bool = False,
        selects: Indices | None = None,
        clinear: bool = True,
        traits: Iterable[str] = (),
        keeps_constants: bool = False,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise DTypeError(
                f"{type(self).__name__}: name must be a string, got {type(name).__name__}"
            )
        dims = ", ".join(str(dim) for dim in domain.dims)
        self.name = name or f"{type(self).__name__}({dims})"
        self.domain, self.range, self.gain = domain, range, gain
        self.params = dict(params)
        self.clinear = clinear
        self.traits = frozenset(traits)
        self.keeps_constants = keeps_constants
        self._window, self._kernels, self._weights = window, (forward, adjoint), weights
        self._exact, self._totals = exact, totals
        self._blas = blas
        self._selects = selects

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator, made without computing anything."""
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        weights = [(w.data, w.dims) for w in self._weights]
        sides = (self.domain.token, self.range.token)
        return str(tokenize(kind, sides, self.params, weights))

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        """What runs one after the other; the first acts first."""
        window, kernels, weights = self._window, self._kernels, self._weights
        return (self._step(window, kernels, weights),)

    def _step(
        self,
        window: WindowRule,
        kernels: tuple[Kernel, Kernel],
        weights: tuple[Array, ...] = (),
        suffix: str = "",
        **options: Any,
    ) -> Step:
        """A step from the domain to the range, unless `options` say otherwise."""
        given: dict[str, Any] = {
            "domain": dict(self.domain.sizes),
            "range": dict(self.range.sizes),
            "domain_kind": self.domain.kind,
            "range_kind": self.range.kind,
            "exact": self._exact,
            "totals": self._totals,
            "blas": self._blas,
        }
        return Step(
            name=self.name,
            token=lambda: f"{self.token}{suffix}",
            window=window,
            forward=kernels[0],
            adjoint=kernels[1],
            weights=weights,
            **{**given, **options},
        )

    def _plan(self, x: Plan, adjoint: bool) -> Node:
        assert isinstance(x, Node)
        if (self.range if adjoint else self.domain).kind == "real":
            x = real(x)
        for step in reversed(self._steps) if adjoint else self._steps:
            x = Apply(step, adjoint, x)
        return x

    @functools.cached_property
    def _kept(self) -> frozenset[Hashable]:
        """Dims whose labels come out as they went in."""
        if self._selects is not None:
            return frozenset()
        return frozenset(
            dim
            for dim in self.domain.dims
            if dim in self.range
            and self.domain.axis(dim).difference(self.range.axis(dim)) is None
            and self.range.axis(dim).difference(self.domain.axis(dim)) is None
        )

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        assert isinstance(coords, xr.Dataset)
        given = self.range if adjoint else self.domain
        if self._selects is not None and not adjoint:
            return _selected(coords, dict.fromkeys(given.dims, self._selects), self.range)
        gone = [dim for dim in given.dims if dim not in self._kept]
        return coords.drop_dims(gone, errors="ignore") if gone else coords


def _selected(
    coords: xr.Dataset, indices: Mapping[Hashable, Any], space: Space
) -> xr.Dataset:
    """Coordinates that follow a selection, whose labels are those of a space."""
    own, new = coords.xindexes, space.indexes.xindexes
    changed = {
        name for name, index in own.items() if coords.variables[name].dims[0] in indices
    }
    if any(name not in new or name not in indices for name in changed):
        return coords.isel({d: i for d, i in indices.items() if d in coords.dims})
    # New indexes need not be built: the space has them.
    labels = space.indexes.variables
    variables = {}
    for name, variable in coords.variables.items():
        at = {d: i for d, i in indices.items() if d in variable.dims}
        if name in changed:
            variables[name] = labels[name]
        else:
            variables[name] = variable.isel(at) if at else variable
    return laid_out(variables, {n: new[n] if n in changed else own[n] for n in own})


def as_dataset(blocks: Any) -> Any:
    """Blocks as a Dataset where their labels agree, else as they are."""
    if not isinstance(blocks, dict):
        return blocks
    coords = xr.Dataset()
    for block in blocks.values():
        for other in blocks.values():
            for dim in set(block.dims) & set(other.dims):
                if Axis.of(block, dim).difference(Axis.of(other, dim)) is not None:
                    return blocks
        coords = overlaid(coords, block.coords.to_dataset())
    if any(name in coords.variables or name in coords.dims for name in blocks):
        return blocks
    return coords.assign({name: block.variable for name, block in blocks.items()})
