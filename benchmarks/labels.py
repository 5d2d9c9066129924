"""What labels cost: the time of ``A @ x`` beyond that of the arrays alone.

Run with ``python benchmarks/labels.py``. The data are small, (4, 5, 6), with three
dimension coordinates, two auxiliary ones and units. For every operator the plain run,
the first application to data of a kind (its memory of labels is emptied) and a repeated
one take turns; what is printed are medians of the time of this thread, in microseconds,
beside those of a DataArray made from ready coordinates and of a copy of one.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import xarray as xr

import xlops as xl

ROUNDS = 1000


def gather() -> xr.DataArray:
    """Data with all that labels cost time for."""
    return xr.DataArray(
        np.random.default_rng(0).standard_normal((4, 5, 6)),
        dims=("shot", "offset", "time"),
        coords={
            "shot": np.arange(4),
            "offset": ("offset", 25.0 * np.arange(5), {"units": "m"}),
            "time": ("time", 0.004 * np.arange(6), {"units": "s"}),
            "cdp": ("offset", 2 * np.arange(5)),
            "elevation": (("shot", "offset"), np.ones((4, 5)), {"units": "m"}),
        },
        attrs={"units": "Pa", "long_name": "pressure"},
        name="p",
    )


def operators(d: xr.DataArray) -> dict[str, xl.LinearOperator]:
    """One of each sort."""
    D = xl.FirstDerivative(d.time)
    R = xl.Restriction(d.offset, [0, 2, 3])
    ramp = xr.DataArray(np.arange(1.0, 7.0), dims="time", coords={"time": d.time})
    return {
        "FirstDerivative": D,
        "Restriction": R,
        "Diagonal": xl.Diagonal(ramp),
        "FFT": xl.FFT(d.time, real=True),
        "product": R @ D,
        "VStack of two": xl.VStack({"slope": D, "kept": R}),
    }


def medians(*functions: Callable[[], object]) -> list[float]:
    """Median times in microseconds of functions that take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, spent in zip(functions, times, strict=True):
            start = time.thread_time()
            function()
            spent.append(time.thread_time() - start)
    return [1e6 * statistics.median(spent) for spent in times]


def main() -> None:
    """Print a table."""
    d = gather()
    values, coords = d.values, d.coords.to_dataset().coords
    made, copied = medians(
        lambda: xr.DataArray(values, coords=coords, dims=d.dims),
        lambda: d.copy(deep=False, data=values),
    )
    print(f"DataArray made {made:.0f} µs, copied {copied:.0f} µs")
    print(f"{'':<18}{'plain':>8}{'first':>8}{'again':>8}")
    for name, A in operators(d).items():
        tree, _ = A._admitted(d)

        def first(A: xl.LinearOperator = A) -> None:
            vars(A).pop("_memory", None)
            A @ d

        def again(A: xl.LinearOperator = A) -> None:
            A @ d

        def plain(A: xl.LinearOperator = A, tree: object = tree) -> None:
            A._run(tree, False)

        bare, one, other = medians(plain, first, again)
        print(f"{name:<18}{bare:>8.0f}{one - bare:>8.0f}{other - bare:>8.0f}")


if __name__ == "__main__":
    main()
