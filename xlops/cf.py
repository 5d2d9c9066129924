"""Names of the CF conventions: a dim by its axis, its coordinate or its standard name."""

from __future__ import annotations

import warnings
from collections.abc import Hashable

import xarray as xr

from xlops.errors import LabelError, listed

__all__ = ["dim_named"]


def dim_named(name: Hashable, labels: xr.DataArray | xr.Dataset, who: str) -> Hashable:
    """The dim that a name means, or the name itself where it means none.

    Parameters
    ----------
    name : Hashable
        The name of a dim; or an axis (``"X"``, ``"Y"``, ``"Z"``, ``"T"``), a coordinate
        (``"latitude"``, ``"longitude"``, ``"vertical"``, ``"time"``) or a
        ``standard_name`` of the CF conventions, by which cf-xarray knows a coordinate
        with one dim.
    labels : DataArray or Dataset
        What has the dims and their coordinates.
    who : str
        Names the asker in errors.

    Raises
    ------
    LabelError
        Where several dims go by that name.
    """
    if name in labels.dims or not isinstance(name, str):
        return name
    found = _by_convention(name, labels)
    if len(found) > 1:
        raise LabelError(
            f"{who}: {name!r} may be any of the dims {listed(found)}; name one of them"
        )
    return found[0] if found else name


def _by_convention(name: str, labels: xr.DataArray | xr.Dataset) -> list[Hashable]:
    """The dims of coordinates that cf-xarray knows by a name, each once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that plots would show
        import cf_xarray  # noqa: F401 (it registers the accessor)
    cf = labels.cf
    known = (cf.axes, cf.coordinates, cf.standard_names)
    names = dict.fromkeys(n for table in known for n in table.get(name, ()))
    dims = (labels.coords[n].dims for n in names if n in labels.coords)
    return list(dict.fromkeys(d[0] for d in dims if len(d) == 1))
