"""Two worker processes against one, on kernels that compute more than they move.

``python -m benchmarks.workers`` prints a table. Data lie on the workers before and results
stay there; both clusters are there all the time, and rounds on them take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator

import dask.array as da
import distributed
import numpy as np
import xarray as xr

import xlops as xl
from benchmarks.scale import line
from benchmarks.scale_check import cluster

__all__ = ["rows"]

SHAPE, CHUNKS = (1536, 256, 256), (64, 256, 256)  # 24 chunks of 32 MiB
WANTED = 1.7


def operators(x: xr.DataArray) -> dict[str, xl.LinearOperator]:
    """What is timed."""
    taps = np.hanning(81)
    long = xl.Convolve1D(x.time, taps, offset=40)
    return {
        "`Convolve1D`, 81 taps, tap by tap": xl.Convolve1D(
            x.time, taps, offset=40, method="direct"
        ),
        "`Convolve1D`, 81 taps, and its adjoint": long.gram,
        "`FFT` along two dims": xl.FFT(x.depth) @ xl.FFT(x.time),
    }


def data(client: distributed.Client) -> xr.DataArray:
    """Random numbers on the workers of a client."""
    drawn = da.random.default_rng(0).standard_normal(SHAPE, chunks=CHUNKS)
    placed = client.persist(drawn)
    distributed.wait(placed)
    return xr.DataArray(placed, dims=("shot", "time", "depth"))


def seconds(client: distributed.Client, A: xl.LinearOperator, x: xr.DataArray) -> float:
    """How long all chunks of a result take."""
    start = time.perf_counter()
    with client.as_current():
        result = client.persist((A @ x).data)
        distributed.wait(result)
    took = time.perf_counter() - start
    del result
    client.run(lambda: None)  # workers have let go of it
    return took


def rows(runs: int) -> Iterator[str]:
    """A table in Markdown: medians of rounds in turn."""
    yield line("case", "one process, s", "two processes, s", "ratio", "wanted", "holds")
    yield line(":--", *["--:"] * 4, ":--")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(cluster(count)) for count in (1, 2)]
        xs = [data(client) for client in clients]
        for name, A in operators(xs[0]).items():
            pairs = [
                [seconds(client, A, x) for client, x in zip(clients, xs, strict=True)]
                for _ in range(runs + 1)
            ][1:]  # kernels are loaded in the first one
            one, two = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(one / two for one, two in pairs)
            holds = "yes" if ratio >= WANTED else "no"
            yield line(
                name, f"{one:.2f}", f"{two:.2f}", f"{ratio:.2f}", f"≥ {WANTED}", holds
            )


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=7, help="rounds on each cluster")
    for row in rows(parser.parse_args().runs):
        print(row, flush=True)


if __name__ == "__main__":
    main()
