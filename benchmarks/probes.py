"""Numbers that have a limit of their own: graphs, first calls, labels, memory."""

from __future__ import annotations

import functools
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dask.array as da
import xarray as xr

import xlops as xl
from benchmarks import fresh
from benchmarks.peers import thread_count
from benchmarks.timing import Skipped

__all__ = ["first_calls", "graphs", "labels", "peak_memory"]

ROOT = pathlib.Path(__file__).parents[1]
TILE = 8 * 2**20  # bytes that each thread may use beside input and output

Numbers = Mapping[str, Sequence[float]]


def graphs(runs: int) -> Numbers:
    """Seconds to build ``A @ x`` of 10,000 chunks."""

    def lazy(*blocks: int) -> xr.DataArray:
        sizes = [8 * n for n in blocks]
        coords = {d: range(n) for d, n in zip("xy", sizes, strict=True)}
        return xr.DataArray(da.zeros(sizes, chunks=8), coords=coords, dims=("x", "y"))

    line, square = lazy(10_000, 1), lazy(100, 100)
    built: dict[str, Callable[[], Any]] = {
        "FirstDerivative, one dim": lambda: xl.FirstDerivative(line.x) @ line,
        "FirstDerivative, two dims": lambda: xl.FirstDerivative(square.x) @ square,
    }
    if hasattr(xl, "Laplacian"):
        built["Laplacian, two dims"] = lambda: xl.Laplacian(square.x, square.y) @ square
    return {name: [_seconds(call) for _ in range(runs)] for name, call in built.items()}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def first_calls(runs: int) -> Numbers:
    """Milliseconds of the first ``A @ x`` of each operator, in fresh processes.

    A process that does not count fills the cache of compiled kernels.
    """
    _fresh("calls")
    found = [_fresh("calls") for _ in range(runs)]
    return {name: [1e3 * one[name] for one in found] for name in found[0]}


def peak_memory(runs: int) -> Numbers:
    """Peak memory of an apply over what it may use: input, output, a tile per thread."""
    if not pathlib.Path("/proc/self/clear_refs").exists():
        raise Skipped("this system does not tell a process's peak memory")
    shares = {}
    for name in fresh.names():
        for side in ("forward", "adjoint"):
            one = _fresh("memory", name, side)
            allowed = one["input"] + one["output"] + thread_count() * TILE
            shares[f"{name}, {side}"] = [(one["input"] + one["extra"]) / allowed]
    return shares


def labels(column: int) -> Callable[[int], Numbers]:
    """Microseconds that labels add to an apply: a column of what labels.py prints."""

    def measure(runs: int) -> Numbers:
        # A DataArray made and copied; the names of the columns; one line per operator.
        lines = [line.split() for line in _printed("labels").splitlines()[2:]]
        return {" ".join(words[:-3]): [float(words[column])] for words in lines}

    return measure


@functools.cache
def _printed(module: str) -> str:
    """What a module of the benchmarks prints, run once."""
    command = [sys.executable, "-m", f"benchmarks.{module}"]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _fresh(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.fresh", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
