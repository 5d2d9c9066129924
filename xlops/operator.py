"""LinearOperator: what every operator can do."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

import xarray as xr

from xlops import engine, units
from xlops.axis import Axis
from xlops.engine import Explanation, Tree
from xlops.errors import DTypeError, LabelError, UnitError, listed
from xlops.gains import Gains
from xlops.labeling import Memory, Origin, admitted, labeled
from xlops.notebook.blocks import LabeledBlocks
from xlops.options import options
from xlops.space import Blocks, Layout, Space, overlaid, overlay, same_values
from xlops.units import Gain
from xlops.windows.pieces import Array, Order, arranged, placed
from xlops.windows.plan import Plan, Source

if TYPE_CHECKING:
    from xlops.bound import Bound
    from xlops.notebook.diagram import Diagram

__all__ = ["LinearOperator", "called", "gains_in_words"]

Keeps: TypeAlias = bool | dict[str, bool]
Coords: TypeAlias = Layout | dict[str, Layout]

# What only operators on arrays of one shape have.
_OF_MATRICES = frozenset({"shape", "size", "dtype", "matvec", "rmatvec", "trace"})
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


def called(name: Any, default: str) -> str:
    """What an operator is called in errors: the name given, or its class and dims.

    Raises
    ------
    DTypeError
        Where the name is no string.
    """
    if name is not None and not isinstance(name, str):
        raise DTypeError(f"{default}: name must be a string, got {type(name).__name__}")
    return name or default


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
    # Between blocks: a table of gains.
    gain: Gain | Gains
    clinear: bool
    traits: frozenset[str] = frozenset()
    keeps_constants: Keeps = False
    # Whether it changes nothing at all.
    is_identity: ClassVar[bool] = False
    # Whether forward and adjoint only move values, so that integers may stay integers.
    _exact: tuple[bool, bool] = (False, False)
    # Orders of dims that it gives its results, forward and adjoint; None: by `placed`.
    layouts: tuple[Order | None, Order | None] = (None, None)
    # Whether its range has been somebody's domain, and so knows its labels best.
    _gives_back: ClassVar[bool] = False

    # NumPy numbers leave `number * operator` to the operator.
    __array_ufunc__: ClassVar[None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        units.give_way(cls)

    def _take_after(self, operator: LinearOperator) -> None:
        """Be as another operator in all but the sides."""
        self.name, self.gain = operator.name, operator.gain
        self.clinear, self.traits = operator.clinear, operator.traits
        self.keeps_constants, self.layouts = operator.keeps_constants, operator.layouts
        self._exact = operator._exact
        # The very way that the operator labels its results.
        self._gives_back = operator._gives_back  # type: ignore[misc]

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

    def _run(
        self, x: Tree, adjoint: bool, origins: Mapping[str, Origin] | None = None
    ) -> Tree:
        """The operator, or its adjoint, on plain arrays that have been checked."""
        plan, arrays = self._planned(x, adjoint, origins)
        return engine.run(plan, arrays)

    def _planned(
        self, x: Tree, adjoint: bool, origins: Mapping[str, Origin] | None = None
    ) -> tuple[Plan, dict[Source, Array]]:
        """The plan for these arrays, and which source of it stands for which of them.

        Errors name the labels of the origins, where they are given.
        """

        def source(array: Array, name: str) -> Source:
            return Source.of(array, origins[name].labels.places if origins else None)

        if isinstance(x, dict):
            sources = {name: source(array, name) for name, array in x.items()}
            arrays = {sources[name]: array for name, array in x.items()}
            return self._plan({**sources}, adjoint), arrays
        single = source(x, "")
        return self._plan(single, adjoint), {single: x}

    @property
    def units(self) -> Any:
        """What the operator does to units: ``unit(A @ x) = A.units · unit(x)``.

        A `pint.Unit`; None where it is not known, since a coordinate carries no units.
        A mapping by name where one side has blocks; where both have, mappings by the
        block that goes in, by the block that is made.
        """
        if isinstance(self.gain, Gain):
            return self.gain.unit
        if isinstance(self.range, Space):
            return {column: gain.unit for (_, column), gain in self.gain.items()}
        if isinstance(self.domain, Space):
            return {row: gain.unit for (row, _), gain in self.gain.items()}
        return {
            row: {column: self.gain[row, column].unit for column in self.gain.into(row)}
            for row in self.range
        }

    @functools.cached_property
    def gains(self) -> Gains:
        """What the operator does to units, as a table; a side of one array is ``""``."""
        return Gains({("", ""): self.gain}) if isinstance(self.gain, Gain) else self.gain

    def keeps(self, row: str) -> bool:
        """Whether a block that is made is constant where the input is."""
        keeps = self.keeps_constants
        return keeps[row] if isinstance(keeps, dict) else keeps

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
            made = self._run(tree, False, origins)
            result = self._labeled(made, origins, tree, coords=coords)
        return as_dataset(result) if isinstance(x, xr.Dataset) else result

    def _admitted(self, x: Any) -> tuple[Tree, dict[str, Origin]]:
        """Plain arrays inside x and where they came from; "" names a single array."""
        who = self.name
        if isinstance(self.domain, Space):
            array, origin = admitted(x, self.domain, self._made[""], who, self._memory)
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
            new = self._made[name]
            array, origin = admitted(x[name], space, new, f"{who}, block {name!r}")
            arrays[name], origins[name] = array, origin
        self._check_passing({name: x[name] for name in self.domain})
        return arrays, origins

    def _check_passing(self, blocks: Mapping[str, xr.DataArray]) -> None:
        """Raise unless the dims that pass through are the same in all blocks.

        Blocks that have nothing to do with each other may differ.
        """
        assert isinstance(self.domain, Blocks)
        passing = {
            name: {dim: Axis.of(block, dim) for dim in block.dims if dim not in space}
            for (name, space), block in zip(
                self.domain.items(), blocks.values(), strict=True
            )
        }
        for name, (first, _) in self.gains.levels[1].items():
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

    def _in_one_unit(self, arrays: Tree, origins: Mapping[str, Origin]) -> Tree:
        """Blocks scaled so that what the operator adds up has one unit."""
        if not isinstance(arrays, dict):
            return arrays
        result: dict[str, Array] = {}
        reference = self._reference(origins)
        made, given = self.gains.levels
        for name, array in arrays.items():
            (start, level), unit = given[name], origins[name].unit
            scale: float | None = 1.0
            first = reference.get(start, name)
            own = Gain.of(unit) / level
            other = Gain.of(origins[first].unit) / given[first][1]
            if name != first and own.known and own.unit is not None:
                scale = units.factor(own, other)
                if scale is None or units.mixes_offsets(origins[first].unit, unit):
                    total = made[self.gains.out_of(name)[0]][1]
                    raise UnitError(
                        f"{self.name} adds blocks whose units do not add: block "
                        f"{first!r} comes in {total * other}, block {name!r} in "
                        f"{total * own}"
                    )
            result[name] = array if scale == 1.0 else engine.scaled(scale, array)
        return result

    def _reference(self, origins: Mapping[str, Origin]) -> dict[str, str]:
        """For blocks that belong together: the one whose unit the others convert to."""
        reference: dict[str, str] = {}
        for name, (start, level) in self.gains.levels[1].items():
            gain = Gain.of(origins[name].unit) / level
            if gain.known and gain.unit is not None:
                reference.setdefault(start, name)
        return reference

    def _units_made(self, origins: Mapping[str, Origin]) -> dict[str, str | None]:
        """The units of the results, by block."""
        if isinstance(self.gain, Gain):
            keeps = self.keeps_constants is True
            return {"": units.apply(self.gain, origins[""].unit, keeps, self.name)}
        gains = self._gains_of_one
        if isinstance(self.domain, Blocks):
            gains = self._gains_made(self._reference(origins))
        return {
            row: units.apply(gain, origins[name].unit, self.keeps(row), self.name)
            for row, (name, gain) in gains.items()
        }

    @functools.cached_property
    def _gains_of_one(self) -> dict[str, tuple[str, Gain]]:
        """Those of a single array: there is nothing to convert to."""
        return self._gains_made({})

    def _gains_made(self, reference: Mapping[str, str]) -> dict[str, tuple[str, Gain]]:
        """What is done to the units of these blocks, by the block that is made."""
        made, given = self.gains.levels
        result = {}
        for row in self.gains.rows:
            start, level = made[row]
            name = reference.get(start, start)
            result[row] = name, level / given[name][1]
        return result

    @functools.cached_property
    def _made(self) -> dict[str, tuple[Hashable, ...]]:
        """All dims of what is made from each block."""
        made = self.range if isinstance(self.range, Blocks) else {"": self.range}
        return {
            column: tuple(
                dict.fromkeys(
                    dim for row in self.gains.out_of(column) for dim in made[row].dims
                )
            )
            for column in self.gains.columns
        }

    @functools.cached_property
    def _memory(self) -> Memory:
        """The labels of the last results."""
        return Memory(self.domain, self.range)

    def _carried(self, origins: Mapping[str, Origin]) -> Coords:
        """The coordinates of the data that are still true after the operator."""
        given = {name: origin.labels.layout for name, origin in origins.items()}
        return self._carry(given.get("", given), adjoint=False)

    def _labeled(
        self,
        result: Tree,
        origins: Mapping[str, Origin],
        given: Tree,
        made: Mapping[str, str | None] | None = None,
        coords: Coords | None = None,
    ) -> Any:
        """Labels and units on the result; those units where they are given.

        `coords` are the coordinates that `_carried` has found, if it has been asked.
        """
        made = self._units_made(origins) if made is None else made
        first = next(iter(origins.values()))
        known, new = first.known, None
        if known is None:
            coords = self._carried(origins) if coords is None else coords
            if isinstance(self.domain, Space):
                new = self._memory.new(first.labels)

        def one(array: Array, name: str) -> xr.DataArray:
            nonlocal new
            column = self.gains.into(name)[0]  # names and attributes are those of
            origin, unit = origins[column], made[name]
            space = self.range[name] if isinstance(self.range, Blocks) else self.range
            if known is not None:
                array = array.ordered(known.dims(name))
            else:
                taken = given[column] if isinstance(given, dict) else given
                side = self.domain
                consumed = side[column] if isinstance(side, Blocks) else side
                dims = placed(taken.dims, consumed.sizes, space.sizes)
                array = array.ordered(arranged(dims, self.layouts[0]))
            if engine.shares_memory(array, given):  # no result is a window on the input
                array = Array(array.data.copy(), array.dims)
            if known is not None:
                return known.labeled(name, array, origin, unit)
            kept = coords[name] if isinstance(coords, dict) else coords
            assert isinstance(kept, Layout)
            back = self._gives_back
            layout = (
                overlay(space.layout, space.beside(kept)) if back else space.relabeled(kept)
            )
            if new is not None and new.prepare(name, array, layout, origin, space):
                return new.labeled(name, array, origin, unit)
            new = None
            return labeled(array, layout, origin, unit)

        if isinstance(result, dict):
            results = {name: one(array, name) for name, array in result.items()}
        else:
            results = {"": one(result, "")}
        if new is not None:
            self._memory.add(new)
        return LabeledBlocks(results) if isinstance(result, dict) else results[""]

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
        with units.one_warning():
            made = self._units_made(origins)
        given = {name: origin.unit for name, origin in origins.items()}
        return engine.explain(plan, arrays, self.name).with_units(
            f"{_worded(given)} → {_worded(made)}"
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
        tree = self._in_one_unit(tree, origins)
        return (*self._planned(tree, False, origins), origins)

    # --- as a matrix ----------------------------------------------------------------

    def bind(self, like: Any) -> Bound:
        """The operator on arrays like this one: a matrix of one shape.

        Parameters
        ----------
        like : DataArray
            With all dims of the domain. Its other dims, their order and the dtype are
            fixed; of its values nothing is read. Where the domain has blocks: a mapping
            by name, or a Dataset.

        Returns
        -------
        Bound
            An operator with ``shape``, ``size``, ``dtype``, ``trace``, ``to_scipy``,
            ``to_pylops``, and with ``matvec``, ``rmatvec``, ``matmat``, ``rmatmat`` on
            flat vectors, so that methods of SciPy take it as it is. Its `H` is bound too.

        Raises
        ------
        LabelError, DTypeError, UnitError
            As for `apply`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("offset", "time"))
        >>> A = xl.Restriction(x.time, [0, 2]).bind(x)
        >>> A.shape
        (4, 6)
        >>> A.matvec(x.values.ravel())
        array([0., 2., 3., 5.])
        """
        from xlops.bound import bind

        return bind(self, like)

    def todense(self, like: Any = None) -> Any:
        """The matrix of the operator, computed column by column.

        Parameters
        ----------
        like : DataArray, optional
            As for `bind`: gives dims that pass through, and the dtype. Without it the
            matrix is that of the operator's own dims, in double precision.

        Returns
        -------
        DataArray
            Over the dims of the range and those of the domain, on NumPy. Dims and
            coordinates of the domain whose names the range has too get the suffix
            ``_in``. Blocks give a dict by the name of the block; where both sides have
            blocks, a dict by the range's names of dicts by the domain's.

        Raises
        ------
        DTypeError
            Where the operator is linear over real numbers only and acts on complex
            ones: then it has no matrix.

        Notes
        -----
        The matrix of an operator that is linear over real numbers only, on real values,
        multiplies real values; the adjoint is the real part of its conjugate transpose.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.zeros(3), dims="time")
        >>> matrix = xl.FirstDerivative(x.time, kind="forward").todense()
        >>> matrix.dims
        ('time', 'time_in')
        >>> matrix.values
        array([[-1.,  1.,  0.],
               [ 0., -1.,  1.],
               [ 0.,  0.,  0.]])
        """
        return offered("todense")(self, like)

    def diagonal(self, like: xr.DataArray | None = None) -> Any:
        """The diagonal of the operator's matrix.

        Parameters
        ----------
        like : DataArray, optional
            Gives dims that pass through, which repeat the diagonal.

        Returns
        -------
        DataArray
            Over the domain, on NumPy; a dict by name where it has blocks.

        Raises
        ------
        LabelError
            Where the operator does not map its domain to itself.
        DTypeError
            As for `todense`.

        Notes
        -----
        It is read off where the operator says it (`Identity`, `Diagonal`, `Mask`, their
        sums and multiples), else found with unit vectors, as many at once as fit into
        32 MiB.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.zeros(4), dims="time")
        >>> xl.SecondDerivative(x.time).gram.diagonal().values
        array([1., 5., 5., 1.])
        """
        return offered("diagonal")(self, like)

    def norm(self, *, tol: float = 0.0, maxiter: int | None = None) -> float:
        """The largest singular value, on the operator's own dims.

        Dims that pass through do not change it.

        Parameters
        ----------
        tol, maxiter
            Relative accuracy (0: all digits) and the most iterations of ARPACK.

        Returns
        -------
        float
            In `units`.

        Raises
        ------
        DTypeError
            As for `todense`.

        Notes
        -----
        By LAPACK where the matrix has at most a million entries, else by ARPACK on
        ``A.H @ A`` or ``A @ A.H``, whichever is smaller.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> time = xr.DataArray(np.zeros(100), dims="time").time
        >>> round(xl.FFT(time, real=True).norm(), 12)
        1.0
        """
        value: float = offered("norm")(self, tol=tol, maxiter=maxiter)
        return value

    def cond(self, *, tol: float = 0.0, maxiter: int | None = None) -> float:
        """The condition number: the largest singular value over the smallest.

        Parameters
        ----------
        tol, maxiter
            As for `norm`.

        Returns
        -------
        float
            Infinity for a singular operator. Of the min(rows, columns) singular values.

        Raises
        ------
        DTypeError
            As for `todense`.

        Notes
        -----
        As for `norm`; ARPACK cannot tell condition numbers above 10⁷ from infinity, since
        it sees their squares, and takes long for the smallest values.

        Examples
        --------
        >>> import xarray as xr, xlops as xl
        >>> A = xl.Diagonal(xr.DataArray([1.0, 2.0, 4.0], dims="time"))
        >>> round(A.cond(), 12)
        4.0
        """
        value: float = offered("cond")(self, tol=tol, maxiter=maxiter)
        return value

    def eigs(
        self,
        k: int = 6,
        which: str = "LM",
        *,
        vectors: bool = False,
        dim: Hashable = "mode",
        tol: float = 0.0,
        maxiter: int | None = None,
    ) -> Any:
        """Some eigenvalues, on the operator's own dims.

        Parameters
        ----------
        k : int
            How many; all where there are fewer.
        which : {"LM", "SM", "LR", "SR", "LI", "SI"}
            The largest or smallest in magnitude, real part or imaginary part, which
            come first.
        vectors : bool
            Whether eigenvectors are wanted too.
        dim : Hashable
            The name of the dim that eigenvalues lie along.
        tol, maxiter
            As for `norm`.

        Returns
        -------
        values : DataArray
            Over `dim`; real for symmetric operators (see ``traits``). In `units`.
        vectors : DataArray
            Only where asked for: over `dim` and the domain, with its labels.

        Raises
        ------
        LabelError
            Where the operator does not map its domain to itself; `norm` and the
            eigenvalues of ``A.gram`` may be what is meant.
        DTypeError
            As for `todense`.

        Notes
        -----
        By LAPACK up to 1,000 unknowns, else by ARPACK, which finds large values quickly
        and small ones slowly.

        Examples
        --------
        >>> import xarray as xr, xlops as xl
        >>> A = xl.Diagonal(xr.DataArray([1.0, -4.0, 2.0], dims="time"))
        >>> A.eigs(2).values
        array([-4.,  2.])
        >>> values, modes = A.eigs(1, vectors=True)
        >>> abs(modes).values
        array([[0., 1., 0.]])
        """
        return offered("eigs")(
            self, k, which, vectors=vectors, dim=dim, tol=tol, maxiter=maxiter
        )

    # --- algebra --------------------------------------------------------------------

    @functools.cached_property
    def H(self) -> LinearOperator:
        """The Euclidean adjoint: it gives back the labels of the domain."""
        from xlops.algebra import Adjoint

        return Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """``A.H @ A``, with what is known of it: of a unitary A it is the identity."""
        from xlops.algebra import product

        return product(self.H, self)

    def conj(self) -> LinearOperator:
        """The operator with the conjugate matrix: what A makes of x̄, conjugate.

        Examples
        --------
        >>> import xarray as xr, xlops as xl
        >>> x = xr.DataArray([1.0, 2.0], dims="time")
        >>> ((1 + 2j) * xl.Identity(x)).conj()(x).values
        array([1.-2.j, 2.-4.j])
        """
        from xlops.algebra import Conjugate

        return Conjugate(self)

    @property
    def T(self) -> LinearOperator:
        """The operator with the transposed matrix: ``A.H.conj()``."""
        return self.H.conj()

    def __call__(self, x: Any, /) -> Any:
        """``A @ x``; see `apply`."""
        return self.apply(x)

    def __matmul__(self, other: Any) -> Any:
        from xlops.algebra import is_scalar, product

        if isinstance(other, LinearOperator):
            return product(self, other)
        if isinstance(other, xr.DataArray):
            return self.apply(other)
        foreign = offered("adopt")(other, self.domain, self.domain, f"{self} @ …")
        if foreign is not None:
            return product(self, foreign)
        if is_scalar(other):
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
            return scaled(other, self, -1)
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

        return added(self, self._term(other))

    def __sub__(self, other: Any) -> LinearOperator:
        return self.__add__(-self._term(other))

    def __rmatmul__(self, other: Any) -> NoReturn:
        raise DTypeError(
            f"{type(other).__name__} @ {self}: an operator stands left of what it acts on, "
            "A @ x"
        )

    def __radd__(self, other: Any) -> LinearOperator:
        return self._term(other) + self

    def __rsub__(self, other: Any) -> LinearOperator:
        return self._term(other) - self

    def _term(self, other: Any) -> LinearOperator:
        """What is added to the operator, which one of PyLops may be too."""
        if isinstance(other, LinearOperator):
            return other
        foreign: LinearOperator | None = offered("adopt")(
            other, self.domain, self.range, f"{self} + …"
        )
        if foreign is None:
            raise DTypeError(
                f"{self}: only operators are added to it, got {type(other).__name__}; "
                "apply it to data with @, or add a multiple of an xl.Identity"
            )
        return foreign

    def __pow__(self, power: Any) -> LinearOperator:
        from xlops.algebra import raised

        return raised(self, power)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearOperator):
            return NotImplemented
        return self is other or self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    if not TYPE_CHECKING:  # where attributes that nobody has stay errors

        def __getattr__(self, name: str) -> NoReturn:
            if name in _OF_MATRICES:
                raise AttributeError(
                    f"{self} has no {name} before it is bound, A.bind(like).{name}; left "
                    "of it, an operator of PyLops needs labels too, "
                    "xl.from_pylops(P, …) @ A"
                )
            kind = type(self).__name__
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        # What is derived is derived again.
        derived = ("H", "_steps", "_kept", "_made", "_memory")
        return {k: v for k, v in self.__dict__.items() if k not in derived}

    # --- words ----------------------------------------------------------------------

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        same = self.domain == self.range
        lines = [f"<{type(self).__name__}> {self}"]
        lines += _side("domain", self.domain)
        lines += ["  range:  same as domain"] if same else _side("range", self.range)
        lines += [f"  units:  {gains_in_words(self)}", *self._details()]
        width = options().display_width
        return "\n".join(
            line if len(line) <= width else f"{line[: width - 1]}…" for line in lines
        )

    def _details(self) -> list[str]:
        """Further lines of the repr."""
        return []

    def _repr_html_(self) -> str:
        from xlops.notebook.operators import operator_page

        return operator_page(self)

    def visualize(self, x: Any = None) -> Diagram:
        """A picture of how the operator is put together.

        Parameters
        ----------
        x : DataArray, optional
            Data, as for `apply`: arrows then show their dims and units too. Nothing is
            computed.

        Returns
        -------
        Diagram
            Notebooks show it; ``.save(path)`` writes an SVG file. Data flow as products
            are written, from right to left.

        Raises
        ------
        LabelError, DTypeError
            As for `apply`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xlops as xl
        >>> x = xr.DataArray(np.ones((4, 6)), dims=("offset", "time"))
        >>> (xl.FirstDerivative(x.time) @ xl.SecondDerivative(x.offset)).visualize(x)
        <Diagram of FirstDerivative(time) @ SecondDerivative(offset)>
        """
        from xlops.notebook.diagram import Diagram

        return Diagram.of(self, x)


def gains_in_words(operator: LinearOperator) -> str:
    """What an operator does to units, by blocks where it has any."""
    if isinstance(operator.gain, Gain):
        return str(operator.gain)
    both = isinstance(operator.domain, Blocks) and isinstance(operator.range, Blocks)
    return ", ".join(
        f"{column} → {row} {gain}" if both else f"{row or column} {gain}"
        for (row, column), gain in operator.gain.items()
    )


def _worded(units_by_name: Mapping[str, str | None]) -> str:
    return ", ".join(f"{n} {u or 'no unit'}".strip() for n, u in units_by_name.items())


def _side(title: str, side: Space | Blocks) -> list[str]:
    if isinstance(side, Space):
        rows = [f"{axis.dim}: {axis}" for axis in map(side.axis, side.dims)] or ["any"]
    else:
        rows = [f"{name} ({space})" for name, space in side.items()]
    indent = " " * 10
    head = f"  {title}:".ljust(10)
    return [(head if i == 0 else indent) + row for i, row in enumerate(rows)]


def _contradict(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether two arrays have other values under the name of one coordinate.

    Those of dims are compared as axes.
    """
    coords, others = one.coords.variables, other.coords.variables
    shared = (n for n in coords if n in others and coords[n].dims != (n,))
    return any(not same_values(coords[n], others[n]) for n in shared)


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
            if _contradict(block, other):
                return blocks
        coords = overlaid(coords, block.coords.to_dataset())
    if any(name in coords.variables or name in coords.dims for name in blocks):
        return blocks
    return coords.assign({name: block.variable for name, block in blocks.items()})
