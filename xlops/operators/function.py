"""FunctionOperator: an operator from a user's own functions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np

from xlops.elementary import Elementary
from xlops.errors import (
    AdjointError,
    ArgumentError,
    DTypeError,
    LabelError,
    listed,
    shown,
)
from xlops.operator import LinearOperator
from xlops.operators.common import about, called, function_code, function_name, gain_of
from xlops.space import Labeled, Space
from xlops.windows.pieces import Block, NDArray, placed
from xlops.windows.plan import Node, Plan
from xlops.windows.rules import Beside, Pointwise, Reach, Stencil, Whole, WindowRule

__all__ = ["FunctionOperator"]

Function: TypeAlias = Callable[[NDArray], Any]
Halo: TypeAlias = int | tuple[int, int] | None

_TRAITS = ("symmetric", "positive", "unitary")


class FunctionOperator(Elementary):
    """A linear operator from two functions on plain NumPy arrays.

    Parameters
    ----------
    forward : callable
        Gets an array whose last axes are the dims of `domain`, in their order, and whose
        first axes, of any number, are the dims that pass through. Gives back an array
        with the same first axes, and the dims of `range` in their order as the last ones.
    adjoint : callable, optional
        The same from `range` to `domain`. Without it the operator has no adjoint.
    domain : DataArray, Dataset or Space, or several of them
        What `forward` acts on: coordinates, such as ``d.time``.
    range : DataArray, Dataset or Space, or several of them, optional
        What it makes; the domain unless given.
    halo : int, pair or mapping, optional
        Along dims that both sides have: how many samples to either side (or before and
        after) `forward` needs to make one; `adjoint` needs as many to the other sides.
        The functions are then called piece by piece: they get a piece with up to so many
        samples more at each end (fewer at the ends of the axis) and give back as many
        samples as they got; those that were only lent are cut off. 0 or ``{}`` stands for
        functions that treat every sample on its own. In a mapping by dim, None stands for
        a dim that is needed whole, and dims left out for 0.
        Unless given, all dims come whole.
    units : str, pint.Unit or None
        What `forward` does to units; None where that is not known.
    clinear : bool
        Whether the functions are linear over complex numbers, not only over real ones.
    traits : iterable of str
        What is known of the operator; see `LinearOperator`.
    name : str, optional
        Names the operator; the name of `forward` unless given.

    Raises
    ------
    DTypeError
        Where something is no function; when applied: where a function gives no numbers,
        or complex ones where its side is not complex.
    LabelError
        Where `halo` names dims that do not come in pieces; when applied: where a function
        gives an array of another shape.
    ArgumentError
        For negative numbers, units that cannot be understood and unknown traits.
    AdjointError
        From ``.H``, where there is no adjoint.

    Notes
    -----
    The arrays may not be written to, may be views with any strides, and come in single
    or double precision, as the data do; results are converted back to that. Functions may
    be called from several threads at once, so they must keep nothing in between. A space
    says that values are complex: ``range=xl.Space.of(d.time, kind="complex")``.

    Operators from the same functions are equal. To be sent to other processes they need
    functions of a module, not of another function.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> d = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("shot", "time"))
    >>> def later(x):
    ...     y = np.zeros_like(x)
    ...     y[..., 1:] = x[..., :-1]
    ...     return y
    >>> def earlier(x):
    ...     y = np.zeros_like(x)
    ...     y[..., :-1] = x[..., 1:]
    ...     return y
    >>> A = xl.FunctionOperator(later, earlier, domain=d.time, halo=(1, 0))
    >>> (A @ d).values
    array([[0., 0., 1.],
           [0., 3., 4.]])
    >>> xl.dottest(A, like=d)
    True
    """

    def __init__(
        self,
        forward: Function,
        adjoint: Function | None = None,
        *,
        domain: Labeled | Sequence[Labeled],
        range: Labeled | Sequence[Labeled] | None = None,  # noqa: A002
        halo: Halo | Mapping[Any, Halo] = None,
        units: Any = "1",
        clinear: bool = True,
        traits: Iterable[str] = (),
        name: str | None = None,
    ) -> None:
        who = called(name, f"FunctionOperator({function_name(forward)})")
        for function in (forward,) if adjoint is None else (forward, adjoint):
            if not callable(function):
                raise DTypeError(
                    f"{who} is built from functions, got {type(function).__name__}"
                )
        with about(who):
            given = _space(domain)
            made = given if range is None else _space(range)
        reach = _reach(halo, given, made, who)
        traits = tuple(traits)
        wrong = [trait for trait in traits if trait not in _TRAITS]
        if wrong:
            raise ArgumentError(
                f"{who}: traits are {listed(_TRAITS)}, got {shown(wrong[0])}"
            )
        if adjoint is None:
            back: Any = functools.partial(_missing, who)
        else:
            back = _Called(adjoint, made.dims, given.dims, frozenset(reach), f"{who}.H")
        gain = gain_of(units, who)
        super().__init__(
            given,
            made,
            window=_window(reach, given, made),
            forward=_Called(forward, given.dims, made.dims, frozenset(reach), who),
            adjoint=back,
            gain=gain,
            params={
                "functions": [(f, function_code(f)) for f in (forward, adjoint)],
                "halo": reach,
                "gain": gain,
                "clinear": clinear,
                "traits": sorted(set(traits)),
            },
            name=who if name is None else name,
            blas=True,
            clinear=clinear,
            traits=traits,
        )
        self._has_adjoint = adjoint is not None
        # Now: functions that cannot be named get a name that no other operator has, and
        # copies should have it too.
        self.token  # noqa: B018

    @functools.cached_property
    def H(self) -> LinearOperator:
        """The adjoint; an error where no function for it was given."""
        if not self._has_adjoint:
            _missing(self.name)
        return super().H

    def _plan(self, x: Plan, adjoint: bool) -> Node:
        if adjoint and not self._has_adjoint:
            _missing(self.name)
        return super()._plan(x, adjoint)


def _missing(who: str, *args: object) -> NoReturn:
    raise AdjointError(
        f"{who} has no adjoint: it was built from one function alone; give a second one, "
        "FunctionOperator(forward, adjoint, …)"
    )


@dataclasses.dataclass(frozen=True)
class _Called:
    """Kernel that calls a user's function and checks what it gives.

    Parameters
    ----------
    function : callable
        The function.
    given, made : tuple of Hashable
        Dims of what it gets and of what it gives.
    pieces : frozenset of Hashable
        Dims along which it gives as many samples as it got.
    who : str
        Names the operator in errors.
    """

    function: Function
    given: tuple[Hashable, ...]
    made: tuple[Hashable, ...]
    pieces: frozenset[Hashable]
    who: str

    def __call__(self, block: Block, out: NDArray) -> None:
        passing = [dim for dim in block.dims if dim not in self.given]
        data = block.data.transpose(
            [block.dims.index(dim) for dim in (*passing, *self.given)]
        )
        data.flags.writeable = False  # it may be a view of the user's data
        result = self.function(data)
        batch = data.shape[: len(passing)]
        inside = {
            d: block.have[d] if d in self.pieces else block.want[d] for d in self.made
        }
        sizes = tuple(part.stop - part.start for part in inside.values())
        result = self._checked(result, (*batch, *sizes), out.dtype)
        wanted = [
            slice(block.want[d].start - part.start, block.want[d].stop - part.start)
            for d, part in inside.items()
        ]
        index: tuple[Any, ...] = (..., *wanted)
        dims = placed(block.dims, self.given, self.made)
        target = out.transpose([dims.index(dim) for dim in (*passing, *self.made)])
        target[...] = result[index]

    def _checked(
        self, result: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> NDArray:
        """What the function gave, as an array of this shape and of such values."""
        if not isinstance(result, (np.ndarray, np.generic)):
            raise DTypeError(
                f"{self.who}: the function must give a NumPy array, got "
                f"{type(result).__name__}"
            )
        array = np.asarray(result)
        if array.dtype.kind not in "biufc":
            raise DTypeError(
                f"{self.who}: the function must give numbers, got {array.dtype}"
            )
        if array.dtype.kind == "c" and dtype.kind != "c":
            raise DTypeError(
                f"{self.who}: the function gives complex values for real data; say so with "
                "a space, xl.Space.of(…, kind='complex')"
            )
        if array.shape != shape:
            raise LabelError(
                f"{self.who}: the function gives an array of shape {array.shape}, expected "
                f"{shape}: {self._axes(len(shape))}"
            )
        return array

    def _axes(self, ndim: int) -> str:
        passing = ndim - len(self.made)
        before = f"{passing} axes that pass through, then " if passing else ""
        whole = [
            f"{dim} (as long as it came)" if dim in self.pieces else str(dim)
            for dim in self.made
        ]
        return before + (", ".join(whole) or "none")


def _space(side: Any) -> Space:
    """A side of the operator; a space brings the kind of its values."""
    if isinstance(side, (list, tuple)):
        return Space.of(*side)
    return side if isinstance(side, Space) else Space.of(side)


def _reach(halo: Any, given: Space, made: Space, who: str) -> dict[Hashable, Reach]:
    """How far the forward function reaches along the dims that come in pieces."""
    if halo is None:
        return {}
    shared = [
        dim for dim in given.dims if dim in made and given.sizes[dim] == made.sizes[dim]
    ]
    if not isinstance(halo, Mapping):
        halo = dict.fromkeys(shared, halo)
    other = [dim for dim in halo if dim not in shared]
    if other:
        raise LabelError(
            f"{who}: {listed(other)} cannot come in pieces with a halo: that takes a dim "
            f"of one size on both sides ({listed(shared)})"
        )
    reach = {}
    for dim in shared:
        value = halo.get(dim, 0)
        if value is not None:
            before, after = _pair(value, who)
            last = given.sizes[dim] - 1
            reach[dim] = Reach(last + 1, min(before, last), min(after, last))
    return reach


def _pair(value: Any, who: str) -> tuple[int, int]:
    """Samples before and after."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    whole = [isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair]
    if len(pair) != 2 or not all(whole):
        raise DTypeError(
            f"{who}: a halo is a whole number of samples, or a pair, (before, after), got "
            f"{shown(value)}"
        )
    if min(pair) < 0:
        raise ArgumentError(f"{who}: a halo must not be negative, got {shown(value)}")
    return int(pair[0]), int(pair[1])


def _window(reach: Mapping[Hashable, Reach], given: Space, made: Space) -> WindowRule:
    """The window of dims in pieces and whole ones."""
    whole = Whole(
        {dim: size for dim, size in given.sizes.items() if dim not in reach},
        {dim: size for dim, size in made.sizes.items() if dim not in reach},
    )
    if not reach:
        return whole
    stencil = Stencil(reach, works_on_halo=True)
    if whole.domain or whole.range:
        return Beside(stencil, whole)
    if any(before or after for _, before, after in reach.values()):
        return stencil
    return Pointwise()
