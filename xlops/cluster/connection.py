"""``connect``: one way to all clusters."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from xlops.cluster import existing
from xlops.cluster.local import Local
from xlops.cluster.mpi import MPI
from xlops.cluster.queues import QUEUES, Queue
from xlops.cluster.ssh import SSH
from xlops.errors import ArgumentError, ClusterError, listed

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["Connection", "connect"]


class Starter(Protocol):
    """What is known of a cluster before it starts: checked options."""

    where: str

    def started(self) -> AbstractContextManager[Client]: ...


KINDS: dict[str, type[Any]] = {
    "local": Local,
    "ssh": SSH,
    **dict.fromkeys(QUEUES, Queue),
    "mpi": MPI,
}
# Fields of kinds that are no options of theirs.
NO_OPTIONS = {"to", "where", "options"}


def connect(
    where: Any = "local",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    processes: bool | None = None,
    hosts: Iterable[str] | None = None,
    jobs: int | None = None,
    host: str | None = None,
    interface: str | None = None,
    dashboard: bool | str | None = None,
    security: Security | bool | None = None,
    local_directory: str | os.PathLike[str] | None = None,
    timeout: float | str | None = None,
    **options: Any,
) -> Connection:
    """A Dask cluster, started for a block of code or found where it runs.

    Operators, solvers and files run on it inside of the block, without further ado. What
    is started for the block stops with it, whether the block succeeds or fails: no
    process, no port and no file is left. What was there already goes on.

    Nothing starts before the block does, and what is wrong with the arguments is an error
    before that.

    Parameters
    ----------
    where : str, path or object
        Which cluster:

        - ``"local"``: workers on this machine.
        - ``"ssh"``: workers on `hosts`, started by way of ssh.
        - ``"pbs"``, ``"slurm"``, ``"lsf"``, ``"sge"``: workers in jobs of a queueing
          system.
        - ``"mpi"``: the ranks of ``mpirun -n 8 python script.py``. The first one
          schedules, the second one runs the block, the others work. Only the second one
          goes beyond the start of the block.
        - an address, as ``"tcp://10.0.0.1:8786"`` or ``"tls://…"``.
        - the path of a scheduler file, which ends in ``.json``.
        - a cluster of Dask or what looks like one, or a ``Client``.
    workers : int, optional
        Worker processes on each machine: this one, each host, or each job. With
        ``processes=False``, how many workers share the threads of this process.
    threads : int, optional
        Threads of each worker. Kernels start none of their own.
    memory : int or str, optional
        Memory of each worker, as ``"4 GiB"`` or in bytes, 400 MiB at least. A worker that
        comes near to it moves results to disk.
    processes : bool, optional
        For ``"local"``: False for threads of this process in place of processes.
    hosts : iterable of str, optional
        For ``"ssh"``: the machines. The scheduler runs on the first one, beside its
        workers.
    jobs : int, optional
        For queueing systems: how many jobs (1 unless given).
    host : str, optional
        Address that the scheduler listens on, and on one machine the workers too. The
        loopback unless given.
    interface : str, optional
        Network interface that scheduler and workers listen on, as ``"eth0"``.
    dashboard : bool or str, optional
        Whether there is one (no unless given), or where it listens: ``":8787"`` is on
        the loopback, at that port, ``True`` at any free one. It needs bokeh.
    security : distributed.Security or bool, optional
        Certificates, with which all connections are encrypted and nobody else gets in.
        True makes some that last as long as the cluster.
    local_directory : path, optional
        Where workers keep what does not fit into memory, in a folder of their own that
        goes when they go. The system's folder for temporary files unless given.
    timeout : float or str, optional
        How long to wait for the scheduler and the first worker, in seconds or as
        ``"5 minutes"``.
    **options
        For ``"ssh"``: ``python``, the interpreter on the hosts, and ``ssh``, a mapping of
        arguments of ``asyncssh.connect``, such as ``username``. For queueing systems what
        the cluster of dask-jobqueue takes for its jobs: ``queue``, ``walltime``,
        ``account``, ``job_extra_directives`` and so on.

    Returns
    -------
    Connection
        To be used in a ``with`` statement, which gives a ``distributed.Client``. Where
        there is no block, as in a notebook, `Connection.open` gives the client and
        `Connection.close` ends it all.

    Raises
    ------
    ArgumentError
        For an unknown `where`, for options that do not belong to it and for values that
        they cannot take.
    ClusterError
        When something is missing, and on opening, when the cluster does not start or
        does not answer in time.

    Notes
    -----
    Whoever reaches the port of a scheduler or worker can run any code as you. Hence
    everything listens on the loopback unless you say otherwise; on several machines you
    have to, by `host` or `interface`, best together with `security`.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import xlops as xl
    >>> time = xr.DataArray(np.arange(6.0), dims="time", name="time").chunk(time=3)
    >>> with xl.connect("local", processes=False) as client:
    ...     slope = (xl.FirstDerivative(time) @ time).compute()
    >>> slope.values
    array([0., 1., 1., 1., 1., 0.])
    """
    given = {
        "workers": workers,
        "threads": threads,
        "memory": memory,
        "processes": processes,
        "hosts": hosts,
        "jobs": jobs,
        "host": host,
        "interface": interface,
        "dashboard": dashboard,
        "security": security,
        "local_directory": local_directory,
        "timeout": timeout,
        **options,
    }
    return Connection(
        _starter(where, {name: one for name, one in given.items() if one is not None})
    )


class Connection:
    """A cluster that can be opened and closed; `xlops.connect` makes them.

    In a ``with`` statement it gives a client that is the one to be used inside of the
    block. It may be opened again when it is closed.

    Parameters
    ----------
    starter : object
        What knows how to start.
    """

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._open = contextlib.ExitStack()
        self._client: Client | None = None

    def open(self) -> Client:
        """Start or reach the cluster; `close` is then yours to call.

        Returns
        -------
        distributed.Client
            The client, which Dask uses from here on.
        """
        if self._client is not None:
            raise ClusterError(f"{self!r} is open already")
        import dask

        with contextlib.ExitStack() as stack:
            stack.callback(_forget_closed_clients)
            # A client makes itself the scheduler of all work. One that is interrupted
            # before it is there would remain so.
            scheduler = dask.config.get("scheduler", None)
            stack.enter_context(dask.config.set(scheduler=scheduler))
            client = stack.enter_context(self._starter.started())
            # Before Dask's own cleaning up when Python ends.
            atexit.register(self.close)
            stack.callback(atexit.unregister, self.close)
            self._open = stack.pop_all()
        self._client = client
        return client

    def close(self) -> None:
        """Close the client, and stop what was started with it; more than once is fine."""
        self._client = None
        self._open.close()

    def __enter__(self) -> Client:
        client = self.open()
        # The client of a block around this one would come first otherwise.
        self._open.enter_context(client.as_current())
        return client

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._client is None else "open"
        return f"<Connection to {self._starter.where!r}: {state}>"


def _forget_closed_clients() -> None:
    """Let Dask compute by itself again when no client is left.

    Each client leaves behind the scheduler that it found: where one that was there before
    has been closed before, that is a client which is gone.
    """
    import dask
    from distributed import default_client

    if dask.config.get("scheduler", None) == "dask.distributed":
        try:
            default_client()
        except ValueError:
            dask.config.set(scheduler=None)


def _starter(where: object, given: Mapping[str, Any]) -> Starter:
    """The kind of cluster, with the options that belong to it."""
    first: dict[str, Any] = {}
    if isinstance(where, str) and where in KINDS:
        kind = KINDS[where]
        if kind is Queue:
            first["where"] = where
    else:
        known = (
            f"where is one of {listed(KINDS)}, an address such as 'tcp://10.0.0.1:8786', "
            "the path of a scheduler file (.json), a cluster or a Client"
        )
        kind, first["to"] = existing.found(where, known)
    own = [one.name for one in dataclasses.fields(kind) if one.name not in NO_OPTIONS]
    others = {name: value for name, value in given.items() if name not in own}
    if kind is Queue:
        first["options"] = others
    elif others:
        shown = where if isinstance(where, str) else type(where).__name__
        raise ArgumentError(
            f"connect({shown!r}) takes no {listed(others)}; it takes "
            f"{listed(own) if own else 'no options'}"
        )
    starter: Starter = kind(
        **first, **{name: value for name, value in given.items() if name in own}
    )
    return starter
