"""CPU time of `import xlops` against that of the packages it stands on.

Run with ``python benchmarks/imports.py``. The two are timed in turn, each in a process of
its own; what counts is the ratio of the medians (it should stay below 1.5).
"""

import os
import statistics
import subprocess
import sys

RUNS = 10
STATEMENTS = {
    "xarray, dask.array, pint": "import xarray, dask.array, pint",
    "xlops": "import xlops",
}


def cpu_seconds(statement: str) -> float:
    """User and system time of a new Python process."""
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = os.times()
    return (
        after.children_user
        - before.children_user
        + after.children_system
        - before.children_system
    )


def main() -> None:
    """Print medians and their ratio."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for statement in STATEMENTS.values():  # a first run fills the caches
        cpu_seconds(statement)
    for _ in range(RUNS):
        for name, statement in STATEMENTS.items():
            times[name].append(cpu_seconds(statement))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"import {name:<26}{median:6.3f} s")
    base, own = medians.values()
    print(f"ratio{own / base:28.2f}")


if __name__ == "__main__":
    main()
