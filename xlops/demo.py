"""The main job: a field that has lost 70 % of its cells, filled by a labeled inversion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pint
import xarray as xr

from xlops.files import open as open_file
from xlops.files import save
from xlops.operator import LinearOperator
from xlops.operators.derivative import SecondDerivative
from xlops.operators.pointwise import Mask
from xlops.solvers.regularized import regularized_inversion
from xlops.solvers.solution import Solution
from xlops.stack import VStack

__all__ = ["Filled", "draw", "fill", "kept_cells", "run", "sample_path", "scores"]

# The weight of the second derivative along each dim, against misfits of the data.
EPS = {
    "time": (3.6, "hour ** 2"),
    "lat": (0.625, "degree ** 2"),
    "lon": (0.625, "degree ** 2"),
}


class Filled(NamedTuple):
    """What `fill` gives: the field, and the solution it was made from."""

    field: xr.DataArray
    solution: Solution


def sample_path() -> str:
    """Where hvsampledata keeps its field of air temperature.

    Raises
    ------
    ModuleNotFoundError
        Where the packages of the demo are not installed.
    """
    import hvsampledata

    with hvsampledata.air_temperature("xarray", engine_kwargs={"engine": "h5netcdf"}) as ds:
        path: str = ds.air.encoding["source"]
    return path


def kept_cells(field: xr.DataArray) -> xr.DataArray:
    """A mask that is true for 30 % of the cells, the same ones each time."""
    keep = np.random.RandomState(42).rand(*field.shape) < 0.3
    return xr.DataArray(keep, coords=field.coords, dims=field.dims, name="keep")


def fill(
    field: xr.DataArray, keep: xr.DataArray, *, tol: float = 1e-6, progress: bool = False
) -> Filled:
    """Fill a field from the cells that are kept.

    Solves min ‖M (x − d)‖² + Σ ‖ε D² x‖², with a second derivative along each dim. The
    mean of the kept cells is taken off first; derivatives do not see it.

    Parameters
    ----------
    field : DataArray
        Over time, lat and lon; only its kept cells are used.
    keep : DataArray of bool
        True where cells are kept.
    tol : float
        As for `xlops.cgls`.
    progress : bool
        Whether to show a progress bar.
    """
    mask = Mask(keep, name="Mask")
    kept = field.where(keep)
    mean = float(kept.mean())
    anomaly = kept.copy(data=kept.data - mean)
    solution = regularized_inversion(
        mask, mask @ anomaly, _smoothness(field), tol=tol, progress=progress
    )
    return Filled(solution.x.copy(data=solution.x.data + mean), solution)


def _smoothness(
    field: xr.DataArray,
) -> dict[str, tuple[LinearOperator, pint.Quantity[float]]]:
    """The second derivative along each dim, and its weight."""
    return {
        dim: (SecondDerivative(field[dim]), pint.Quantity(*eps)) for dim, eps in EPS.items()
    }


def scores(
    field: xr.DataArray, keep: xr.DataArray, filled: xr.DataArray
) -> dict[str, float]:
    """Root mean square errors on the cells that were withheld, by method."""
    field = field.compute()
    kept = field.where(keep)
    held = kept.copy(data=np.apply_along_axis(_interpolated, -1, kept.values))
    results = {
        "xlops": filled,
        "linear along lon, ends held": held,
        "linear along lon, ends extrapolated": kept.interpolate_na(
            "lon", fill_value="extrapolate"
        ),
    }

    def rmse(result: xr.DataArray) -> float:
        error = (result.transpose(*field.dims).values - field.values)[~keep.values]
        return float(np.sqrt(np.mean(error**2)))

    return {method: rmse(result) for method, result in results.items()}


def _interpolated(row: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    at = np.arange(row.size)
    known = ~np.isnan(row)
    return np.asarray(np.interp(at, at[known], row[known]))


def draw(
    field: xr.DataArray, keep: xr.DataArray, filled: xr.DataArray, time: int = 10
) -> Any:
    """One time of the field in four panels: truth, kept, filled and error.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    truth = field.isel(time=time).compute()
    result = filled.isel(time=time).compute()
    hidden = ~keep.isel(time=time)
    error = result.copy(data=result.values - truth.values)
    rmse = float(np.sqrt(np.mean(error.values[hidden.values] ** 2)))
    panels = {
        "truth": truth,
        f"kept: {float(keep.mean()):.0%} of the cells": truth.where(~hidden),
        "filled": result,
        f"error on the withheld cells: RMSE {rmse:.2f}": error.where(hidden),
    }
    low, high = float(truth.min()), float(truth.max())
    span = float(np.max(np.abs(error.values[hidden.values])))
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        is_error = title.startswith("error")
        mesh = ax.pcolormesh(
            panel.lon,
            panel.lat,
            panel.transpose("lat", "lon"),
            vmin=-span if is_error else low,
            vmax=span if is_error else high,
            cmap="RdBu_r" if is_error else "viridis",
            shading="nearest",
        )
        ax.set_facecolor("0.85")
        ax.set_title(title, fontsize=11)
        figure.colorbar(
            mesh, ax=ax, label=f"{'error' if is_error else field.name} ({field.units})"
        )
    for ax in axes[2:]:
        ax.set_xlabel(f"longitude ({field.lon.units})")
    for ax in axes[::2]:
        ax.set_ylabel(f"latitude ({field.lat.units})")
    moment = np.datetime_as_string(truth.time.values, unit="m")
    figure.suptitle(f"{field.attrs.get('long_name', field.name)}, {moment}")
    return figure


def run(out: str | os.PathLike[str]) -> dict[str, Path]:
    """The whole job, printed: from a NetCDF file to a NetCDF file and a picture.

    Parameters
    ----------
    out : path
        The folder for ``filled.nc`` and ``filled.png``; made where it does not exist.

    Returns
    -------
    dict
        The files written, by kind.

    Raises
    ------
    OSError
        Where the folder cannot be written; before any work.
    """
    folder = Path(out)
    _check_writable(folder)
    air = open_file(sample_path(), "air", chunks={"time": 5})
    assert isinstance(air, xr.DataArray)
    keep = kept_cells(air)
    print(f"{air.name}: {dict(air.sizes)}, {air.units}; kept {float(keep.mean()):.1%}\n")
    terms = {dim: eps * operator for dim, (operator, eps) in _smoothness(air).items()}
    print(f"{VStack({'data': Mask(keep), **terms})!r}\n")
    filled, solution = fill(air, keep, progress=True)
    filled = filled.compute()
    print(f"\n{solution!r}\n")
    print(f"{'on the withheld cells':<40}RMSE, {air.units}")
    for method, score in scores(air, keep, filled).items():
        print(f"{method:<40}{score:10.4f}")
    files = {"field": folder / "filled.nc", "picture": folder / "filled.png"}
    save(filled, files["field"])
    _save_picture(draw(air, keep, filled), files["picture"])
    print("\nwrote " + " and ".join(str(path) for path in files.values()))
    return files


def _check_writable(folder: Path) -> None:
    """Make the folder, and raise before any work where files cannot be written there."""
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _save_picture(figure: Any, path: Path) -> None:
    """Write aside, then rename: a picture appears only when it is complete."""
    aside = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(aside, dpi=120, format="png")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
