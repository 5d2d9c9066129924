"""Workers in the jobs of a queueing system, handed in by dask-jobqueue."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import inspect
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xlops.cluster import checks, machine
from xlops.cluster.starting import connected, reason, started
from xlops.errors import ArgumentError, ClusterError, listed

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["QUEUES", "Queue"]

# The class of dask-jobqueue, and the command that shows which jobs wait.
QUEUES = {
    "pbs": ("PBSCluster", "qstat"),
    "slurm": ("SLURMCluster", "squeue"),
    "lsf": ("LSFCluster", "bjobs"),
    "sge": ("SGECluster", "qstat"),
}
CERTIFICATES = [
    "tls_ca_file",
    *(
        f"tls_{role}_{kind}"
        for role in ("client", "scheduler", "worker")
        for kind in ("cert", "key")
    ),
]
# What jobs are told in other words here.
NOT_FOR_USERS = {
    "self",
    "scheduler",
    "name",
    "cores",
    "memory",
    "processes",
    "nanny",
    "protocol",
    "security",
    "interface",
    "local_directory",
    "base_class_kwargs",
    "kwargs",
    # old names
    "extra",
    "env_extra",
    "header_skip",
    "job_extra",
}


@dataclasses.dataclass
class Queue:
    """Jobs, each with some workers; the scheduler runs in this process."""

    where: str
    jobs: int = 1
    workers: int | None = None
    threads: int | None = None
    memory: int | str | None = None
    host: str | None = None
    interface: str | None = None
    dashboard: bool | str | None = None
    security: Security | bool | None = None
    local_directory: str | os.PathLike[str] | None = None
    timeout: float | str = 300.0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        where = self.where
        name, self.lister = QUEUES[where]
        self.kind: Any = getattr(checks.installed(where, "dask_jobqueue"), name)
        self._check_options()
        checks.count(where, "jobs", self.jobs)
        self.resources = self._resources()
        self._check_listening()
        self.served = checks.dashboard_options(where, self.dashboard)
        self.security = checks.secured(where, self.security, temporary=True)
        self._check_shared_folder()
        self.timeout = checks.seconds(where, "timeout", self.timeout)
        if self.local_directory is not None:
            self.local_directory = os.fspath(self.local_directory)
        checks.command(where, self.kind.job_cls.submit_command.split()[0])

    def _config(self, name: str) -> Any:
        """A setting of dask-jobqueue's for this site."""
        import dask

        section = self.options.get("config_name", self.where)
        return dask.config.get(f"jobqueue.{section}.{name}", None)

    def _check_options(self) -> None:
        taken: set[str] = {"shared_temp_directory"}
        for kind in self.kind.job_cls.__mro__:
            if "__init__" in vars(kind):
                taken.update(inspect.signature(kind.__init__).parameters)
        taken -= NOT_FOR_USERS
        if unknown := set(self.options) - taken:
            own = [one.name for one in dataclasses.fields(self)]
            own = [one for one in own if one not in {"where", "options"}]
            raise ArgumentError(
                f"connect({self.where!r}) takes no {listed(sorted(unknown))}; it takes "
                f"{listed(own)} and, for its jobs, {listed(sorted(taken))}"
            )

    def _resources(self) -> dict[str, Any]:
        """Cores and memory of one job; dask-jobqueue's settings where nothing is said."""
        where = self.where
        said = {}
        for name in ("workers", "threads"):
            if (value := getattr(self, name)) is not None:
                said[name] = checks.count(where, name, value)
        if self.memory is not None:
            said["memory"] = checks.size(where, "memory", self.memory)
        if not said and self._config("cores") and self._config("memory"):
            return {}
        if missing := [name for name in ("threads", "memory") if name not in said]:
            raise ArgumentError(
                f"connect({where!r}): say how much a job is to ask for: {listed(missing)} "
                "lacks (of each worker; workers= says how many a job has, 1 unless given)"
            )
        workers = said.get("workers", 1)
        return {
            "processes": workers,
            "cores": workers * said["threads"],
            "memory": workers * said["memory"],
        }

    def _check_listening(self) -> None:
        if self.interface is None and self.host is None:
            self.interface = self._config("interface")
        if self.interface is None and self.host is None:
            raise ArgumentError(
                f"connect({self.where!r}): workers on other machines have to reach the "
                "scheduler, which runs here; say where it listens, by interface='ib0' or "
                "host='10.0.0.1'. Whoever reaches that network can then run code as you, "
                "unless there is security= as well"
            )
        if self.host is not None:
            checks.one_address(self.where, self.host)
        checks.listening(self.where, self.host, self.interface)

    def _check_shared_folder(self) -> None:
        """Keys that exist only here get to the jobs by a folder that all machines see."""
        assert not isinstance(self.security, bool)
        shared = self.options.pop("shared_temp_directory", None)
        self.shared = shared or self._config("shared-temp-directory")
        self.in_memory = [
            name
            for name in CERTIFICATES
            if "\n" in (getattr(self.security, name, "") or "")
        ]
        if self.in_memory:
            if self.shared is None:
                raise ArgumentError(
                    f"connect({self.where!r}): these certificates are in memory only; "
                    "shared_temp_directory= has to name a folder that this machine and "
                    "those of the jobs see"
                )
            checks.folder(self.where, self.shared, "shared_temp_directory")

    @contextlib.contextmanager
    def _certificates(self) -> Iterator[Security | None]:
        """Certificates as files, for as long as the block takes."""
        assert not isinstance(self.security, bool)
        if not self.in_memory:
            yield self.security
            return
        with tempfile.TemporaryDirectory(prefix="xlops-", dir=self.shared) as folder:
            security = copy.copy(self.security)
            for name in self.in_memory:
                path = os.path.join(folder, name)
                with open(path, "x", encoding="ascii") as file:
                    file.write(getattr(self.security, name))
                setattr(security, name, path)
            yield security

    def cluster_options(self, security: Security | None = None) -> dict[str, Any]:
        """What dask-jobqueue's cluster is built with."""
        scheduler: dict[str, Any] = dict(self.served)
        if self.host is not None:
            scheduler["host"] = self.host
        # Without these, workers listen on all addresses of their machine.
        listening = ["--dashboard-address", f"{machine.LOOPBACK}:0"]
        if self.interface is None:
            listening += ["--host", "$XLOPS_HOST"]
        own = self.options.get("worker_extra_args")
        if own is None:
            own = self._config("worker-extra-args") or []
        options = {
            **self.options,
            **self.resources,
            "worker_extra_args": [*listening, *own],
            "interface": self.interface,
            "scheduler_options": scheduler,
            "job_script_prologue": self._prologue(),
        }
        if security is not None:
            options |= {"security": security, "protocol": "tls://"}
        return options

    def _prologue(self) -> list[str]:
        """Shell commands of a job before its workers start."""
        folder = '"${TMPDIR:-/tmp}"'
        if self.local_directory is not None:
            folder = shlex.quote(os.fspath(self.local_directory))
        own = self.options.get("job_script_prologue")
        if own is None:
            own = self._config("job-script-prologue") or []
        python = shlex.quote(self.options.get("python") or sys.executable)
        address = []
        if self.interface is None:
            command = f"{python} -m xlops.cluster --towards {self.host}"
            address = [f"XLOPS_HOST=$({command}) || exit 1"]
        return [
            f"XLOPS_FILES=$(mktemp -d {folder}/xlops-XXXXXXXX) || exit 1",
            "trap 'rm -rf -- \"$XLOPS_FILES\"' EXIT",
            'export DASK_TEMPORARY_DIRECTORY="$XLOPS_FILES"',
            *(f"export {name}={value}" for name, value in machine.ENVIRONMENT.items()),
            *own,
            *address,
        ]

    @contextlib.contextmanager
    def started(self) -> Iterator[Client]:
        """A client of the cluster, which lasts as long as the block."""
        assert isinstance(self.timeout, float)
        where = self.where
        with contextlib.ExitStack() as stack:
            options = self.cluster_options(stack.enter_context(self._certificates()))
            options["scheduler_options"]["local_directory"] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="xlops-")
            )
            try:
                cluster = stack.enter_context(started(self.kind, **options))
                cluster.scale(jobs=self.jobs)
                cluster.sync(_handed_in, cluster)
            except Exception as error:
                raise ClusterError(
                    f"connect({where!r}): the jobs were not taken: {reason(error)}"
                ) from error
            client = stack.enter_context(connected(cluster, where, self.timeout))
            try:
                client.wait_for_workers(1, timeout=self.timeout)
            except TimeoutError as error:
                raise ClusterError(self._nobody(cluster)) from error
            yield client

    def _nobody(self, cluster: Any) -> str:
        jobs = sorted(str(job.job_id) for job in cluster.workers.values())
        return (
            f"connect({self.where!r}): no worker has come within {self.timeout:g} s. The "
            f"jobs ({', '.join(jobs)}) may be waiting still, which {self.lister} shows "
            "(timeout= waits longer), or have failed, which their logs show "
            "(log_directory= says where those go); or they do not reach the scheduler at "
            f"{cluster.scheduler_address}. The script of a job:\n{cluster.job_script()}"
        )


async def _handed_in(cluster: Any) -> None:
    """Wait until the jobs are handed in; what goes wrong there is raised here."""
    await cluster
    # The cluster raises only what goes wrong while it is awaited, not what did before.
    # A job that was refused is handed in once more, one that was taken is not.
    await asyncio.gather(*cluster.workers.values())
