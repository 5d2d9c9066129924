"""Measured in a process of its own: first calls, and peak memory. Prints JSON."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

import xlops as xl

__all__ = ["names"]

OPERATORS: dict[str, Callable[[xr.DataArray], Any]] = {
    "FirstDerivative": lambda d: xl.FirstDerivative(d.x),
    "SecondDerivative": lambda d: xl.SecondDerivative(d.z),
    "Smoothing1D": lambda d: xl.Smoothing1D(d.y, 11),
    "Laplacian": lambda d: xl.Laplacian(d.x, d.y, d.z),
    "Convolve1D": lambda d: xl.Convolve1D(d.z, np.hanning(31), offset=15),
    "CausalIntegration": lambda d: xl.CausalIntegration(d.y, kind="full"),
    "FFT": lambda d: xl.FFT(d.z, real=True),
    "Restriction": lambda d: xl.Restriction(d.x, np.arange(0, d.sizes["x"], 2)),
    "Chain": lambda d: xl.FirstDerivative(d.y) @ xl.SecondDerivative(d.y),
}


def names() -> list[str]:
    """The operators that xlops has."""
    return [name for name in OPERATORS if name == "Chain" or hasattr(xl, name)]


def data(*shape: int) -> xr.DataArray:
    """Random numbers, made without a copy."""
    values = np.empty(shape)
    np.random.default_rng(0).random(out=values)
    coords = {d: np.arange(float(n)) for d, n in zip("xyz", shape, strict=True)}
    return xr.DataArray(values, coords=coords, dims=("x", "y", "z"))


def calls() -> dict[str, float]:
    """Seconds of the first apply of each operator."""
    d = data(64, 64, 64)
    seconds = {}
    for name in names():
        A = OPERATORS[name](d)
        start = time.perf_counter()
        A @ d
        seconds[name] = time.perf_counter() - start
    return seconds


def memory(name: str, side: str) -> dict[str, float]:
    """Bytes of input and output, and what an apply takes on top of the input at most."""
    few = data(32, 32, 32)
    small = OPERATORS[name](few)
    small.H @ (small @ few)  # loads and compiles
    x = data(512, 512, 64)
    A = OPERATORS[name](x)
    if side == "adjoint":
        x = A @ x
        A = A.H
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    y = A @ x
    return {"input": x.nbytes, "output": y.nbytes, "extra": _status("VmHWM") - before}


def _status(field: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field + ":"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    print(json.dumps(calls() if kind == "calls" else memory(*rest)))
