"""What a solver gives back."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from xlops.space import overlaid, same_values
from xlops.windows.pieces import NDArray

__all__ = ["Reason", "Solution", "Status"]


class Reason(enum.Enum):
    """Why a solver stopped; the value is a sentence for people."""

    TOLERANCE = "The gradient (for cg the residual) has fallen below tol."
    EXACT = "The start solves the problem already: there is nothing to improve."
    NITER = "The iterations allowed by niter are used up before tol was reached."
    TIME = "The time allowed by time_limit is used up before tol was reached."
    STAGNATION = (
        "The gradient (for cg the residual) has not fallen for many iterations: tol lies "
        "below what rounding allows, or the method does not suit the operator."
    )
    CALLBACK = "The callback asked to stop."
    BREAKDOWN = (
        "The direction of search has no length, or a negative one: the operator is not "
        "positive as the method needs, or tol lies below what rounding allows."
    )
    NOT_FINITE = (
        "Numbers have become infinite or NaN: the operator gives NaN, or is scaled far off."
    )


@dataclasses.dataclass(frozen=True)
class Status:
    """What a callback sees after each iteration.

    Parameters
    ----------
    iteration : int
        Iterations done.
    residual_norm : float
        ‖y − A x‖.
    gradient_norm : float
        ‖Aᴴ r − damp² (x − x_ref)‖; for cg the residual norm again.
    cost : float or None
        What the method minimises, where that is not the squared norm of the residual.
    """

    iteration: int
    residual_norm: float
    gradient_norm: float
    cost: float | None
    _x: Callable[[], Any] = dataclasses.field(repr=False)

    @property
    def x(self) -> Any:
        """The model so far, labeled; blocks by name."""
        return self._x()


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """A solved problem.

    Parameters
    ----------
    x : DataArray or dict of DataArray
        The model, with the labels of the operator's domain, in unit(y) / A.units; blocks
        by name.
    residual : DataArray or dict of DataArray
        y − A x, with the labels and the unit of y.
    iterations : int
        Iterations done; of independent problems the most.
    reason : Reason
        Why the solver stopped; its value is a sentence. Of independent problems the reason
        that is the worst news.
    method : str
        The solver.
    history : Dataset
        ``residual_norm`` and ``gradient_norm`` over ``iteration``, 0 being the start; and
        ``cost``, where a method minimises something else than the squared residual. Of
        independent problems they are over their dims too, NaN after a problem has stopped,
        with ``iterations`` and the name of the ``reason`` of each.
    """

    x: Any
    residual: Any
    iterations: int
    reason: Reason
    method: str
    history: xr.Dataset

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached, by all of independent problems."""
        return self.reason in (Reason.TOLERANCE, Reason.EXACT)

    @property
    def state(self) -> str:
        """Whether it converged, and after how many iterations, in words."""
        state = "converged" if self.converged else "not converged"
        plural = "" if self.iterations == 1 else "s"
        state = f"{state} after {self.iterations} iteration{plural}"
        if "reason" not in self.history:
            return state
        names = self.history["reason"].values
        fine = np.isin(names, [r.name for r in (Reason.TOLERANCE, Reason.EXACT)])
        return f"{state} at most, {fine.sum()} of {fine.size} problems converged"

    def to_dataset(self) -> xr.Dataset:
        """Everything in one Dataset.

        Returns
        -------
        Dataset
            ``x``, or ``x_<block>`` for each block (with one more ``_`` where a dim or
            coordinate has that name, and so on for all that follow); ``residual``, or
            ``residual_<block>``; the history; and the rest as attributes. Dims whose
            labels differ from those of what comes before are renamed to ``<dim>_<block>``
            (of a residual that is one array, ``<dim>_data``).
        """
        dataset = xr.Dataset()
        for name, arrays in (("x", self.x), ("residual", self.residual)):
            blocks = arrays if isinstance(arrays, dict) else {"": arrays}
            for block, array in blocks.items():
                full = f"{name}_{block}" if block else name
                dataset = _with(dataset, array, full, block or "data")
        along = _free("iteration", dataset)
        dataset = dataset.assign_coords({along: (along, self.history["iteration"].values)})
        for norm, values in self.history.data_vars.items():
            dims = [along if dim == "iteration" else dim for dim in values.dims]
            dataset = dataset.assign({_free(str(norm), dataset): (dims, values.values)})
        return dataset.assign_attrs(
            method=self.method,
            iterations=self.iterations,
            reason=self.reason.value,
            converged=int(self.converged),
        )

    def plot(self, **kwargs: Any) -> Any:
        """How the norms fell, on logarithmic axes; needs matplotlib.

        Of independent problems the median, and all that lies between the extremes.

        Parameters
        ----------
        **kwargs
            For `matplotlib.pyplot.subplots`.

        Returns
        -------
        matplotlib.axes.Axes
        """
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(**{"layout": "constrained", **kwargs})
        steps = self.history["iteration"].values
        for name, curves in curves_of(self.history).items():
            parts = relative(curves)
            label = name.replace("_", " ")
            (line,) = axes.semilogy(steps, np.median(parts, axis=1), label=label)
            if parts.shape[1] > 1:
                ends = parts.min(axis=1), parts.max(axis=1)
                axes.fill_between(steps, *ends, color=line.get_color(), alpha=0.2, lw=0)
        what = "norm" if "cost" not in self.history else "norm or cost"
        axes.set(xlabel="iteration", ylabel=f"{what}, relative to the start")
        axes.set_title(f"{self.method}: {self.state}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        return axes

    def changes(self) -> dict[str, tuple[float, float]]:
        """First and last value of norms and cost; of independent problems the medians."""
        return {
            name: (float(np.median(curves[0])), float(np.median(curves[-1])))
            for name, curves in curves_of(self.history).items()
        }

    def __repr__(self) -> str:
        norms = ", ".join(
            f"{name} {first:.4g} → {last:.4g}"
            for name, (first, last) in self.changes().items()
        )
        if "reason" in self.history:
            norms += " (medians)"
        blocks = self.x if isinstance(self.x, dict) else {self.x.name or "unnamed": self.x}
        models = "; ".join(
            f"{name} ({', '.join(f'{dim}: {size}' for dim, size in array.sizes.items())})"
            for name, array in blocks.items()
        )
        return (
            f"<Solution by {self.method}: {self.state}>\n"
            f"  x:       {models}\n"
            f"  norms:   {norms}\n"
            f"  stopped: {self.reason.value}"
        )

    def _repr_html_(self) -> str:
        from xlops.solvers.report import solution_page

        return solution_page(self)


def curves_of(history: xr.Dataset) -> dict[str, NDArray]:
    """Norms and cost over iterations and problems: one column for each problem.

    They keep their last values where a problem has stopped.
    """
    count = history.sizes["iteration"]
    last = np.asarray(history.get("iterations", count - 1)).reshape(-1)
    at = np.minimum(np.arange(count)[:, None], last)
    return {
        str(name): np.take_along_axis(values.values.reshape(count, -1), at, axis=0)
        for name, values in history.data_vars.items()
        if "iteration" in values.dims
    }


def relative(curves: NDArray) -> NDArray:
    """Columns over their first values."""
    start = np.where(curves[0] == 0, 1.0, curves[0])
    return np.asarray(curves / start)


def _with(dataset: xr.Dataset, array: xr.DataArray, name: str, side: str) -> xr.Dataset:
    """A Dataset with one more variable, whose labels may differ; nothing is aligned."""
    differ = [
        dim
        for dim in array.dims
        if dim in dataset.dims
        and (array.sizes[dim] != dataset.sizes[dim] or not _same(array, dataset, dim))
    ]
    array = array.rename({dim: f"{dim}_{side}" for dim in differ})
    coords = array.coords.to_dataset()
    clashing = [c for c in coords.variables if c in dataset.variables]
    dataset = overlaid(dataset, coords.drop_vars(clashing))
    return dataset.assign({_free(name, dataset, array): array.variable})


def _free(name: str, *taken: xr.Dataset | xr.DataArray) -> str:
    """A name that no dim, coordinate or variable has: with underscores if need be."""
    while any(name in obj.dims or name in obj.coords for obj in taken) or any(
        isinstance(obj, xr.Dataset) and name in obj.variables for obj in taken
    ):
        name += "_"
    return name


def _same(array: xr.DataArray, dataset: xr.Dataset, dim: Any) -> bool:
    one, other = array.coords.get(dim), dataset.coords.get(dim)
    if one is None or other is None:
        return one is None and other is None
    return same_values(one.variable, other.variable)
