"""Operators near the inverse of another one, for solvers to work with."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize
from numpy.polynomial import chebyshev

from xlops import units
from xlops.errors import ArgumentError, DTypeError, LabelError, UnitError, shown
from xlops.operator import Coords, LinearOperator
from xlops.operators.common import called
from xlops.operators.pointwise import Diagonal
from xlops.space import Space, sides_match
from xlops.stack import BlockDiag
from xlops.units import Gain
from xlops.windows.pieces import Array, NDArray
from xlops.windows.plan import Node, Plan, scaled, total

__all__ = ["Chebyshev", "Jacobi"]

# Products that the ends of a spectrum are estimated from.
LANCZOS_STEPS = 20


def Jacobi(A: LinearOperator, damp: Any = 0, *, name: str | None = None) -> LinearOperator:
    """One over the diagonal of an operator: Jacobi's preconditioner.

    Parameters
    ----------
    A : LinearOperator
        What a solver inverts: a positive operator for `cg`, its Gram ``A.gram`` for
        `cgls` and others for least squares.
    damp : float or quantity
        The damping of the solver: 1 / (diagonal + damp²). A quantity squared must have
        the units of A.
    name : str, optional
        Names the operator in errors and in its repr.

    Returns
    -------
    LinearOperator
        A `Diagonal`; for an operator on blocks a `BlockDiag` of them.

    Raises
    ------
    DTypeError
        Where A is not an operator.
    LabelError
        Where A does not map a space to itself.
    ArgumentError
        Where the diagonal, with damping, is not positive everywhere.

    Notes
    -----
    The diagonal is known at once of diagonal operators and sums of them; of others, as
    many vectors as A has unknowns on its own dims are looked at: see
    `LinearOperator.diagonal`.

    References
    ----------
    .. [1] Y. Saad, "Iterative methods for sparse linear systems", 2nd ed., SIAM, 2003,
       §10.2.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> A = xl.Diagonal(xr.DataArray([1.0, 10.0, 1000.0], dims="time"))
    >>> P = xl.Jacobi(A.gram)
    >>> y = xr.DataArray([1.0, 1.0, 1.0], dims="time")
    >>> xl.cgls(A, y, preconditioner=P).iterations
    1
    """
    who = called(name, "Jacobi")
    if not isinstance(A, LinearOperator):
        raise DTypeError(f"{who} is built from an operator, got {type(A).__name__}")
    who = called(name, f"Jacobi({A})")
    found = A.diagonal()
    diagonals = found if isinstance(found, dict) else {"": found}
    made = {
        block: _inverse(values, A.gains[block, block], damp, who)
        for block, values in diagonals.items()
    }
    if isinstance(A.domain, Space):
        made[""].name = who
        return made[""]
    return BlockDiag(made, name=who)


def _inverse(diagonal: xr.DataArray, gain: Gain, damp: Any, who: str) -> Diagonal:
    values = diagonal.values
    if values.dtype.kind == "c":
        if np.abs(values.imag).max() > 1e-6 * np.abs(values).max():
            raise ArgumentError(f"{who}: the diagonal is complex; use A.gram")
        values = values.real
    number = _number(units.magnitude(damp, gain**units.HALF, f"{who}: damp"))
    if number is None or number < 0:
        raise ArgumentError(f"{who}: damp must be a number from 0 on, got {shown(damp)}")
    values = values + number**2
    wrong = int(np.count_nonzero(~((values > 0) & np.isfinite(values))))
    if wrong:
        raise ArgumentError(
            f"{who}: {wrong} of {values.size} entries of the diagonal are not positive; "
            "give damp=…, take A.gram, or leave out what the operator does not see"
        )
    new = Diagonal.__new__(Diagonal)
    space, array = Space.of(diagonal), Array(1 / values, diagonal.dims)
    return new._set(space, array, gain**-1, None, is_positive=True)


def _number(value: Any) -> float | None:
    """A finite real number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


class Chebyshev(LinearOperator):
    """A polynomial in an operator that is near its inverse: Chebyshev's preconditioner.

    Parameters
    ----------
    A : LinearOperator
        What a solver inverts: positive and equal to its adjoint; its Gram ``A.gram`` for
        `cgls` and others for least squares.
    degree : int
        Of the polynomial: how often A is applied.
    bounds : pair of float or quantity, optional
        The interval that holds the eigenvalues for which the polynomial is near the
        inverse. None may lie above it: the operator would not be positive. Unless given,
        the upper one is that of Lanczos's method after 20 steps with its error, the lower
        one its smallest value, but not less than the upper one over (degree + 1)²: a
        polynomial of this degree does little for eigenvalues below.
    damp : float or quantity
        The damping of the solver: the inverse of A + damp². A quantity squared must have
        the units of A.
    name : str, optional
        Names the operator in errors and in its repr.

    Raises
    ------
    DTypeError
        Where A is not an operator.
    LabelError
        Where A does not map a space to itself.
    UnitError
        Where blocks of A come in several units.
    ArgumentError
        Where degree or bounds do not do, or A is seen not to be positive.

    Notes
    -----
    1 − λ p(λ) is the Chebyshev polynomial of degree + 1 that is smallest on the interval
    and 1 at λ = 0; so p is positive from 0 to the upper bound. On Dask all of it is one
    graph, without the scalar products that every iteration of a solver waits for.

    References
    ----------
    .. [1] Y. Saad, "Iterative methods for sparse linear systems", 2nd ed., SIAM, 2003,
       §12.3.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> y = xr.DataArray(np.sin(np.arange(200.0)), dims="time")
    >>> A = xl.Identity(y.time) + 30 * xl.FirstDerivative(y.time).gram
    >>> P = xl.Chebyshev(A, 4)
    >>> xl.cg(A, y, preconditioner=P).iterations < xl.cg(A, y).iterations / 2
    True
    """

    def __init__(
        self,
        A: LinearOperator,
        degree: int = 4,
        bounds: Sequence[Any] | None = None,
        damp: Any = 0,
        *,
        name: str | None = None,
    ) -> None:
        who = called(name, "Chebyshev")
        if not isinstance(A, LinearOperator):
            raise DTypeError(f"{who} is built from an operator, got {type(A).__name__}")
        who = called(name, f"Chebyshev({A}, {degree})")
        if not sides_match(A.domain, A.range):
            raise LabelError(
                f"{who}: {A} maps {A.domain} to {A.range}, not to itself; use A.gram"
            )
        gain, *others = dict.fromkeys(A.gains.values())
        if others:
            raise UnitError(
                f"{who}: blocks of {A} come in several units; scale them by quantities"
            )
        if isinstance(degree, bool) or not isinstance(degree, (int, np.integer)):
            raise ArgumentError(f"{who}: degree must be a whole number, got {degree!r}")
        if degree < 0:
            raise ArgumentError(f"{who}: degree must be from 0 on, got {degree}")
        number = _number(units.magnitude(damp, gain**units.HALF, f"{who}: damp"))
        if number is None or number < 0:
            raise ArgumentError(
                f"{who}: damp must be a number from 0 on, got {shown(damp)}"
            )
        low, high = _bounds(A, bounds, gain, degree, number, who)
        self.operator = A
        self.bounds = low, high
        self.shift = number**2
        self.coefficients = _coefficients(low, high, int(degree))
        self.domain, self.range = A.domain, A.domain
        self._take_after(A)
        self.name = who
        own = A.gain
        self.gain = own**-1 if isinstance(own, Gain) else own.transposed.map(_inverted)
        self.traits = A.traits & {"symmetric", "positive"}
        self.keeps_constants = False
        self._exact = (False, False)

    @functools.cached_property
    def token(self) -> str:
        """A name for exactly this operator."""
        parts = self.operator.token, self.coefficients, self.bounds, self.shift
        return str(tokenize("chebyshev", *parts))

    def _plan(self, x: Plan, adjoint: bool) -> Plan:
        # Clenshaw's recurrence, in B = (A + damp² − middle) / radius.
        low, high = self.bounds
        middle, radius = (high + low) / 2, (high - low) / 2

        def moved(v: Plan, factor: float) -> list[Plan]:
            """The terms of ``factor B v``."""
            made = self.operator._plan(v, adjoint)
            shift = (self.shift - middle) / radius
            return [_scaled(factor / radius, made), _scaled(factor * shift, v)]

        before: Plan | None = None
        last: Plan | None = None
        for number in self.coefficients[:0:-1]:
            terms = [_scaled(number, x)]
            if last is not None:
                terms += moved(last, 2.0)
            if before is not None:
                terms.append(_scaled(-1.0, before))
            before, last = last, _total(terms)
        terms = [_scaled(self.coefficients[0], x)]
        if last is not None:
            terms += moved(last, 1.0)
        if before is not None:
            terms.append(_scaled(-1.0, before))
        return _total(terms)

    def _carry(self, coords: Coords, adjoint: bool) -> Coords:
        return self.operator._carry(coords, adjoint)


def _inverted(gain: Gain) -> Gain:
    return gain**-1


def _scaled(number: float, plan: Plan) -> Plan:
    if isinstance(plan, Node):
        return scaled(number, plan)
    return {name: scaled(number, node) for name, node in plan.items()}


def _total(terms: Sequence[Plan]) -> Plan:
    first = terms[0]
    if isinstance(first, Node):
        return total([term for term in terms if isinstance(term, Node)])
    blocks = [term for term in terms if not isinstance(term, Node)]
    return {name: total([block[name] for block in blocks]) for name in first}


def _coefficients(low: float, high: float, degree: int) -> tuple[float, ...]:
    """Those of p, in Chebyshev polynomials on the interval."""
    middle, radius = (high + low) / 2, (high - low) / 2
    scale = math.cosh((degree + 1) * math.acosh(middle / radius))

    def inverse(t: NDArray) -> NDArray:
        residual = np.cos((degree + 1) * np.arccos(-t)) / scale
        return np.asarray((1 - residual) / (middle + radius * t))

    found: NDArray = chebyshev.chebinterpolate(inverse, degree)
    return tuple(map(float, found))


def _bounds(
    A: LinearOperator, bounds: Any, gain: Gain, degree: int, damp: float, who: str
) -> tuple[float, float]:
    """Where the eigenvalues of A + damp² lie."""
    if bounds is None:
        low, high = _ritz(A, who)
        low, high = low + damp**2, high + damp**2
        return max(low, high / (degree + 1) ** 2 / 1.01), high
    try:
        given = [units.magnitude(b, gain, f"{who}: bounds") for b in bounds]
    except TypeError:
        given = []
    ends = [end for end in map(_number, given) if end is not None]
    if not len(given) == len(ends) == 2 or not 0 < ends[0] < ends[1]:
        raise ArgumentError(
            f"{who}: bounds must be two numbers 0 < low < high, got {shown(bounds)}"
        )
    low, high = map(float, ends)
    return low + damp**2, high + damp**2


def _ritz(A: LinearOperator, who: str) -> tuple[float, float]:
    """Bounds of the spectrum by Lanczos's method with all vectors kept; the upper holds."""
    bound = A.bind(A.domain.zeros())
    n = bound.shape[1]
    v = np.random.default_rng(0).standard_normal(n).astype(bound.dtypes[0])
    basis = [v / np.linalg.norm(v)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(LANCZOS_STEPS, n)):
        w = bound.matvec(basis[-1])
        diagonal.append(float(np.vdot(basis[-1], w).real))
        for _ in range(2):
            for q in basis:
                w = w - np.vdot(q, w) * q
        beside.append(float(np.linalg.norm(w)))
        if not beside[-1] > 1e-12 * max(map(abs, diagonal)):
            break
        basis.append(w / beside[-1])
    T = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    values, vectors = np.linalg.eigh(T)
    low = float(values[0])
    high = float(values[-1] + beside[-1] * abs(vectors[-1, -1]))
    if not high > 0 or low < -1e-10 * high:
        raise ArgumentError(
            f"{who}: {A} is not positive, it has values near {low:.3g} and {high:.3g}; "
            "use A.gram"
        )
    return low, 1.01 * high
