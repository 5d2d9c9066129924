"""A cluster on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xlops.cluster import checks, machine
from xlops.cluster.starting import connected, reason, started
from xlops.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed.security import Security

__all__ = ["Local"]


@dataclasses.dataclass
class Local:
    """Workers of this machine, as processes or as threads."""

    workers: int | None = None
    threads: int | None = None
    memory: int | str | None = None
    processes: bool = True
    host: str | None = None
    interface: str | None = None
    dashboard: bool | str | None = None
    security: Security | bool | None = None
    local_directory: str | os.PathLike[str] | None = None
    timeout: float | str = 60.0

    where = "local"

    def __post_init__(self) -> None:
        where = self.where
        checks.flag(where, "processes", self.processes)
        for name in ("workers", "threads"):
            if getattr(self, name) is not None:
                checks.count(where, name, getattr(self, name))
        self.share = machine.share(
            self.workers,
            self.threads,
            None if self.memory is None else checks.size(where, "memory", self.memory),
            cores=machine.cores(),
            total=machine.memory(),
            processes=self.processes,
        )
        if self.host is None and self.interface is None and self.processes:
            self.host = machine.LOOPBACK  # threads listen nowhere
        checks.listening(where, self.host, self.interface)
        self.served = checks.dashboard_options(where, self.dashboard)
        self.security = checks.secured(where, self.security, temporary=True)
        self.timeout = checks.seconds(where, "timeout", self.timeout)
        if self.local_directory is not None:
            self.local_directory = checks.folder(where, self.local_directory)

    @contextlib.contextmanager
    def started(self) -> Iterator[Client]:
        """A client of the cluster, which lasts as long as the block."""
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # A new process runs the script it came from once more. There it would start
            # workers of its own.
            raise ClusterError(
                "connect('local'): a worker process has come here while it loaded your "
                'script; put what the script does under  if __name__ == "__main__":'
            )
        assert isinstance(self.timeout, float)
        with contextlib.ExitStack() as stack:
            files = stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="xlops-", dir=self.local_directory, ignore_cleanup_errors=True
                )
            )
            try:
                cluster = stack.enter_context(
                    started(
                        self._kind(),
                        n_workers=self.share.workers,
                        threads_per_worker=self.share.threads,
                        memory_limit=self.share.memory,
                        processes=self.processes,
                        host=self.host,
                        interface=self.interface,
                        security=self.security,
                        silence_logs=logging.ERROR,
                        local_directory=files,
                        scheduler_kwargs={**self.served, "local_directory": files},
                        **self._workers(),
                    )
                )
            except Exception as error:
                raise ClusterError(
                    f"connect('local'): the cluster did not start: {reason(error)}"
                ) from error
            yield stack.enter_context(connected(cluster, self.where, self.timeout))

    def _kind(self) -> type[LocalCluster]:
        if self.processes or self.host is not None or self.interface is not None:
            from distributed import LocalCluster

            return LocalCluster
        from xlops.cluster.threads import Threads

        return Threads

    def _workers(self) -> dict[str, Any]:
        if self.processes:
            from xlops.cluster.nanny import Nanny

            return {"worker_class": Nanny, "env": machine.ENVIRONMENT}
        listens = self.host is not None or self.interface is not None
        encrypted = self.security is not None
        protocol = ("tls://" if encrypted else "tcp://") if listens else "inproc://"
        # A worker without a host serves its state on all interfaces.
        return {"protocol": protocol, "worker_dashboard_address": f"{machine.LOOPBACK}:0"}
