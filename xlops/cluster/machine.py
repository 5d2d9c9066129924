"""What a machine offers to workers: cores, memory, and one thread for each kernel."""

from __future__ import annotations

import importlib
import math
import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from xlops.errors import ArgumentError

__all__ = ["ENVIRONMENT", "LOOPBACK", "Share", "cores", "memory", "share"]

LOOPBACK = "127.0.0.1"

# Workers run as many tasks at once as they have threads. A kernel that started threads of
# its own would multiply them.
ENVIRONMENT = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
        "XLOPS_NUM_THREADS",
    ),
    "1",
)

# Of the memory, this much goes to workers. The system and the process that gives them
# their work need some, too.
FOR_WORKERS = 0.8

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def cores() -> int:
    """Cores that this process may use: those there are, its affinity, its cgroups."""
    from dask.system import cpu_count

    limits = [cpu_count()]
    for values in _limits("cpu.max"):
        quota, period = map(int, values)
        limits.append(math.ceil(quota / period))
    return max(1, min(limits))


def memory() -> int:
    """Bytes that this process may use: those there are, and what its cgroups allow."""
    from distributed.system import memory_limit

    return min([memory_limit(), *(int(value) for (value,) in _limits("memory.max"))])


def _limits(name: str) -> Iterator[list[str]]:
    """A limit of the control group of this process, and of all groups around it.

    Dask looks at one of them. Queueing systems set limits for the job, several groups
    above that of the process.
    """
    try:
        lines = OWN_GROUP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        if line.startswith("0::/"):
            group = CGROUPS / line.removeprefix("0::/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(CGROUPS) and (folder / name).is_file():
                    values = (folder / name).read_text().split()
                    if values and values[0] != "max":
                        yield values


class Share:
    """What each worker of a machine gets.

    Attributes
    ----------
    workers, threads : int
        Processes, and threads in each.
    memory : int
        Bytes for each.
    """

    def __init__(self, workers: int, threads: int, memory: int) -> None:
        self.workers, self.threads, self.memory = workers, threads, memory


def share(
    workers: int | None,
    threads: int | None,
    memory: int | None,
    *,
    cores: int,
    total: int,
    processes: bool = True,
) -> Share:
    """Share out a machine; what is given stays as it is.

    Processes are some square root of the cores, as Dask has it: kernels let go of the
    interpreter's lock, but the work around them does not, and threads of one process
    exchange halos for nothing.
    """
    from distributed.deploy.utils import nprocesses_nthreads

    if not processes:
        workers = workers or 1
    if workers is None and threads is None:
        workers, threads = nprocesses_nthreads(cores)
    elif workers is None:
        assert threads is not None
        workers = max(1, cores // threads)
    elif threads is None:
        threads = max(1, cores // workers)
    assert threads is not None
    if memory is None:
        # Threads of one process cannot be told apart by what they use.
        memory = int(FOR_WORKERS * total / (workers if processes else 1))
    elif memory * (workers if processes else 1) > total:
        raise ArgumentError(
            f"connect: {workers} workers with {_size(memory)} each are more than the "
            f"{_size(total)} of this machine"
        )
    return Share(workers, threads, memory)


def _size(count: int) -> str:
    from dask.utils import format_bytes

    return str(format_bytes(count))


def versions() -> dict[str, str]:
    """Versions that have to be the same on all machines."""
    packages = {name: metadata.version(name) for name in ("dask", "distributed")}
    python = ".".join(platform.python_version_tuple()[:2])
    xlops = importlib.import_module("xlops").__version__
    return {"Python": python, "xlops": xlops, **packages}


def described(scheduler: str | None = None) -> dict[str, object]:
    """What `xlops.cluster.ssh` asks of each host, which is to reach a scheduler."""
    import psutil

    return {
        "versions": versions(),
        "cores": cores(),
        "memory": memory(),
        "temporary": tempfile.gettempdir(),
        "interfaces": sorted(psutil.net_if_addrs()),
        "address": None if scheduler is None else towards(scheduler),
    }


def towards(host: str) -> str:
    """The address of this machine that a host sees."""
    from distributed.utils import get_ip

    return str(get_ip(host))
