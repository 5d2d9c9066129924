"""A cluster of the ranks that ``mpirun`` has started."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from xlops.cluster import checks, machine
from xlops.cluster.starting import attended, connected, reason
from xlops.errors import ArgumentError, ClusterError

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["MPI"]

SCHEDULER, CLIENT = 0, 1
LEAST = 3

_used = False


@dataclasses.dataclass
class MPI:
    """Ranks: the first schedules, the second runs the block, the others work.

    All ranks come here. Only the second one goes on; the others serve it until its block
    has ended, and end then themselves.
    """

    threads: int | None = None
    memory: int | str | None = None
    host: str | None = None
    interface: str | None = None
    dashboard: bool | str | None = None
    security: Security | bool | None = None
    local_directory: str | os.PathLike[str] | None = None
    timeout: float | str = 60.0

    where = "mpi"

    def __post_init__(self) -> None:
        where = self.where
        checks.installed(where, "mpi4py")
        if self.threads is not None:
            checks.count(where, "threads", self.threads)
        if self.memory is not None:
            self.memory = checks.size(where, "memory", self.memory)
        if self.host is not None:
            checks.one_address(where, self.host)
        self.served = checks.dashboard_options(where, self.dashboard)
        self.security = checks.secured(where, self.security, temporary=True)
        self.timeout = checks.seconds(where, "timeout", self.timeout)

    @contextlib.contextmanager
    def started(self) -> Iterator[Client]:
        """A client of the cluster, on one rank; the others do not come back."""
        global _used
        if _used:
            raise ClusterError(
                "connect('mpi'): the other ranks have ended with the cluster that was; put "
                "all that is to be done into one block"
            )
        world = self._world()
        _used = True
        assert isinstance(self.timeout, float)
        share = self._agreed(world)
        security = world.bcast(self.security, SCHEDULER)
        if world.rank == SCHEDULER:
            self._serve(lambda files: self._schedule(world, security, files))
        address, problem = world.bcast(None, SCHEDULER)
        if problem is not None:
            raise ClusterError(problem)
        if world.rank != CLIENT:
            self._serve(
                lambda files: self._work(world.rank, address, security, share, files)
            )
        with connected(address, self.where, self.timeout, security=security) as client:
            try:
                attended(client, self.where, world.size - 2, self.timeout)
                yield client
            finally:
                client.shutdown()

    def _world(self) -> Any:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise ClusterError(
                f"connect('mpi'): no MPI library can be loaded ({reason(error)}); load "
                "that of your site, or pip install mpich"
            ) from error
        world = MPI.COMM_WORLD
        if world.size < LEAST:
            raise ClusterError(
                f"connect('mpi'): {world.size} of at least {LEAST} ranks: one schedules, "
                "one runs your code, the others work; start this as "
                "mpirun -n 4 python script.py"
            )
        return world

    def _agreed(self, world: Any) -> machine.Share:
        """What each worker gets. All ranks check, and either all fail or none does."""
        from mpi4py import MPI

        node = world.Split_type(MPI.COMM_TYPE_SHARED)
        workers = node.allreduce(world.rank not in {SCHEDULER, CLIENT})
        share, problem = None, None
        try:
            self._check_listening(world, node)
            if self.local_directory is not None:
                checks.folder(self.where, self.local_directory)
            share = machine.share(
                max(1, workers),
                self.threads or 1,
                self.memory if isinstance(self.memory, int) else None,
                cores=machine.cores(),
                total=machine.memory(),
            )
        except ArgumentError as error:
            problem = str(error)
        for one in world.allgather(problem):
            if one is not None:
                raise ArgumentError(one)
        assert share is not None
        return share

    def _check_listening(self, world: Any, node: Any) -> None:
        if self.host is None and self.interface is None:
            if node.size < world.size:
                raise ArgumentError(
                    "connect('mpi'): the ranks run on several machines, and workers have "
                    "to reach the scheduler; say where it listens, by interface='ib0' or "
                    "host='10.0.0.1'. Whoever reaches that network can then run code as "
                    "you, unless there is security= as well"
                )
            self.host = machine.LOOPBACK
        host = self.host if world.rank == SCHEDULER else None
        checks.listening(self.where, host, self.interface)

    async def _schedule(self, world: Any, security: Security | None, files: str) -> None:
        """The first rank: a scheduler, until the client ends it."""
        from distributed import Scheduler

        try:
            scheduler = await Scheduler(
                host=self.host,
                interface=self.interface,
                protocol=None if security is None else "tls://",
                security=security,
                local_directory=files,
                **self.served,
            )
        except Exception as error:
            problem = f"connect('mpi'): the scheduler did not start: {reason(error)}"
            world.bcast((None, problem), SCHEDULER)
            raise ClusterError(problem) from error
        world.bcast((scheduler.address, None), SCHEDULER)
        await scheduler.finished()

    async def _work(
        self,
        name: int,
        address: str,
        security: Security | None,
        share: machine.Share,
        files: str,
    ) -> None:
        """Other ranks: a worker, until the scheduler ends it."""
        from distributed import Worker
        from distributed.comm.addressing import get_address_host

        host = None if self.interface else machine.towards(get_address_host(address))
        worker = await Worker(
            address,
            name=name,
            nthreads=share.threads,
            memory_limit=share.memory,
            host=host,
            interface=self.interface,
            security=security,
            local_directory=files,
            death_timeout=self.timeout,
        )
        await worker.finished()

    def _serve(self, server: Callable[[str], Coroutine[Any, Any, None]]) -> NoReturn:
        """Run until it is over, and end this process."""
        from threadpoolctl import threadpool_limits

        logging.getLogger("distributed").setLevel(logging.ERROR)
        os.environ.update(machine.ENVIRONMENT)
        with (
            threadpool_limits(1),
            tempfile.TemporaryDirectory(
                prefix="xlops-", dir=self.local_directory, ignore_cleanup_errors=True
            ) as files,
        ):
            asyncio.run(server(files))
        sys.exit(0)
