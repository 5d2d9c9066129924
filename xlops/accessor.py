"""``da.lops`` and ``ds.lops``: delegation only, no state."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import xarray as xr

from xlops.axis import Axis
from xlops.cf import dim_named
from xlops.errors import DTypeError, LabelError, XlopsError, listed, shown
from xlops.operator import LinearOperator, as_dataset
from xlops.solvers.solution import Solution
from xlops.solvers.solve import solve
from xlops.space import Blocks, Layout, overlaid

__all__ = ["DataArrayOperators", "DatasetOperators"]


@xr.register_dataarray_accessor("lops")
class DataArrayOperators:
    """Operators on a DataArray: ``da.lops``.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> da = xr.DataArray(np.arange(4.0) ** 2, dims="time")
    >>> da.lops.apply(xl.FirstDerivative, "time", kind="forward").values
    array([1., 3., 5., 0.])
    >>> image = da * xr.DataArray(np.arange(3.0), dims="depth")
    >>> list(image.lops.apply(xl.Gradient, "time", "depth"))
    ['time', 'depth']
    """

    def __init__(self, obj: xr.DataArray) -> None:
        self._obj = obj

    def apply(
        self,
        operator: LinearOperator | Callable[..., LinearOperator],
        *dims: Hashable,
        **kwargs: Any,
    ) -> Any:
        """``A @ da``.

        Parameters
        ----------
        operator : LinearOperator, or class of operators
            An operator, or one to be built from the coordinates of the array itself.
        *dims : Hashable
            The dims whose coordinates a class of operators is built from, one or more
            as the class takes. Names of the CF conventions do too: ``"T"``,
            ``"latitude"``, a ``standard_name``.
        **kwargs
            Further arguments of the class.

        Returns
        -------
        DataArray
            Or a dict of them, where the operator makes blocks.
        """
        return _built(operator, self._obj, dims, kwargs).apply(self._obj)

    def adjoint(
        self,
        operator: LinearOperator | Callable[..., LinearOperator],
        *dims: Hashable,
        **kwargs: Any,
    ) -> Any:
        """``A.H @ da``; parameters as for `apply`."""
        return _built(operator, self._obj, dims, kwargs).H.apply(self._obj)

    def solve(self, operator: LinearOperator, *args: Any, **kwargs: Any) -> Solution:
        """Solve ``A x = da`` in the sense of least squares.

        Parameters
        ----------
        operator : LinearOperator
            A.
        *args, **kwargs
            As for `xlops.solve`.

        Returns
        -------
        Solution
        """
        result: Solution = solve(operator, self._obj, *args, **kwargs)
        return result


@xr.register_dataset_accessor("lops")
class DatasetOperators:
    """Operators on a Dataset: ``ds.lops``.

    An operator acts on each variable that has all its dims; the others stay as they
    are. An operator on blocks takes the variables of their names.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xlops as xl
    >>> ds = xr.Dataset({"p": ("time", np.arange(3.0)), "weight": 2.0})
    >>> ds.lops.apply(xl.FirstDerivative(ds.time, kind="forward")).p.values
    array([1., 1., 0.])
    """

    def __init__(self, obj: xr.Dataset) -> None:
        self._obj = obj

    def apply(
        self,
        operator: LinearOperator | Callable[..., LinearOperator],
        *dims: Hashable,
        **kwargs: Any,
    ) -> Any:
        """``A @ variable`` for each variable that has the dims of A.

        Parameters
        ----------
        operator : LinearOperator, or class of operators
            An operator, or one to be built from the coordinates of the Dataset itself.
        *dims : Hashable
            The dims whose coordinates a class of operators is built from, one or more
            as the class takes. Names of the CF conventions do too: ``"T"``,
            ``"latitude"``, a ``standard_name``.
        **kwargs
            Further arguments of the class.

        Returns
        -------
        Dataset
            With all variables; a DataArray where A takes blocks to one array, a dict
            where blocks have labels that do not fit into one Dataset.

        Raises
        ------
        LabelError
            Where no variable has the dims, or one that stays does not fit to the result.
        """
        return _mapped(_built(operator, self._obj, dims, kwargs), self._obj)

    def adjoint(
        self,
        operator: LinearOperator | Callable[..., LinearOperator],
        *dims: Hashable,
        **kwargs: Any,
    ) -> Any:
        """``A.H @ variable`` for each variable that has the dims; as `apply`."""
        return _mapped(_built(operator, self._obj, dims, kwargs).H, self._obj)

    def solve(self, operator: LinearOperator, *args: Any, **kwargs: Any) -> Any:
        """Solve for each variable that has the dims of the data, or for blocks by name.

        Parameters
        ----------
        operator : LinearOperator
            A.
        *args, **kwargs
            As for `xlops.solve`.

        Returns
        -------
        Solution, or dict of Solution
            One where A makes blocks, else one by the name of each variable.
        """
        if not isinstance(operator, LinearOperator) or isinstance(operator.range, Blocks):
            return solve(operator, self._obj, *args, **kwargs)
        return {
            name: solve(operator, self._obj[name], *args, **kwargs)
            for name in _acted_on(operator.H, self._obj)
        }


def _built(
    operator: Any,
    obj: xr.DataArray | xr.Dataset,
    dims: tuple[Hashable, ...],
    kwargs: dict[str, Any],
) -> LinearOperator:
    if isinstance(operator, LinearOperator):
        if dims or kwargs:
            raise DTypeError(
                f"{operator} is built already: dims and further arguments go with a class, "
                "as in da.lops.apply(xl.FirstDerivative, 'time', kind='forward')"
            )
        return operator
    if not callable(operator):
        raise DTypeError(
            f"expected an operator or a class of operators, got {type(operator).__name__}"
        )
    wrong = [dim for dim in dims if not isinstance(dim, Hashable)]
    if wrong:
        raise DTypeError(
            f"dims are names, one by one, got {shown(wrong[0])}; further arguments go by "
            "keyword, as in da.lops.apply(xl.FirstDerivative, 'time', kind='forward')"
        )
    who = getattr(operator, "__name__", str(operator))
    own = [dim_named(dim, obj, who) for dim in dims]
    missing = [dim for dim in own if dim not in obj.dims]
    if missing:
        raise LabelError(
            f"dim {listed(missing)} is missing: the data have {listed(obj.dims)}"
        )
    built = operator(*(obj[dim] for dim in own), **kwargs)
    if not isinstance(built, LinearOperator):
        raise DTypeError(f"{operator} made a {type(built).__name__}, expected an operator")
    return built


def _acted_on(operator: LinearOperator, ds: xr.Dataset) -> list[Hashable]:
    assert not isinstance(operator.domain, Blocks)
    needed = set(operator.domain.dims)
    names = [
        name for name, variable in ds.data_vars.items() if needed <= set(variable.dims)
    ]
    if not names:
        raise LabelError(
            f"{operator} needs {listed(operator.domain.dims)}, which no variable has; "
            f"there are {listed(ds.data_vars)}"
        )
    return names


def _mapped(operator: LinearOperator, ds: xr.Dataset) -> Any:
    if isinstance(operator.domain, Blocks):
        return operator.apply(ds)
    names = _acted_on(operator, ds)
    if isinstance(operator.range, Blocks):
        if len(names) > 1:
            raise LabelError(
                f"{operator} makes blocks of each variable ({listed(names)}); choose one"
            )
        return as_dataset(_applied(operator, ds, names[0]))
    changed = {name: _applied(operator, ds, name) for name in names}
    made = next(iter(changed.values()))
    kept = [name for name in ds.data_vars if name not in changed]
    for name in kept:
        _check_fits(ds, name, made, operator)
    carried = operator._carry(Layout.of(ds.coords), adjoint=False)
    assert isinstance(carried, Layout)
    made_of = operator.range.beside(carried).dataset()
    result = overlaid(xr.Dataset(changed, attrs=ds.attrs), made_of)
    for name in kept:
        own = operator.range.beside(Layout.of(ds[name].coords)).dataset()
        result = overlaid(result, own)
    # As plain variables: nothing is aligned, labels may differ by their rounding.
    return result.assign({name: ds[name].variable for name in kept})


def _applied(operator: LinearOperator, ds: xr.Dataset, name: Hashable) -> Any:
    try:
        return operator.apply(ds[name])
    except XlopsError as error:
        raise type(error)(f"variable {str(name)!r}: {error}") from None


def _check_fits(
    ds: xr.Dataset, name: Hashable, made: xr.DataArray, operator: LinearOperator
) -> None:
    """Raise unless a variable that stays has the labels of what the operator made."""
    who = f"variable {str(name)!r} stays as it is, but does not fit what {operator} makes"
    if name in made.coords or name in made.dims:
        raise LabelError(f"{who}: that has a coordinate or dim of this name; rename one")
    for dim in ds[name].dims:
        if dim not in made.dims:
            continue
        new, old = Axis.of(made, dim), Axis.of(ds, dim)
        reason = new.difference(old) or old.difference(new)
        if reason is not None:
            raise LabelError(f"{who}: {reason}, or choose variables first, ds[[…]]")
