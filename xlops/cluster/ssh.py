"""A cluster on several machines, started by way of ssh."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shlex
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xlops.cluster import checks, machine
from xlops.cluster.starting import attended, connected, reason, started
from xlops.errors import ArgumentError, ClusterError, shown

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["SSH"]


@dataclasses.dataclass
class SSH:
    """Workers on hosts; the scheduler runs on the first one."""

    hosts: Iterable[str] | None = None
    workers: int | None = None
    threads: int | None = None
    memory: int | str | None = None
    host: str | None = None
    interface: str | None = None
    dashboard: bool | str | None = None
    security: Security | None = None
    local_directory: str | os.PathLike[str] | None = None
    timeout: float | str = 60.0
    python: str = sys.executable
    ssh: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    where = "ssh"

    def __post_init__(self) -> None:
        where = self.where
        checks.installed(where, "asyncssh")
        self.machines = self._machines()
        for name in ("workers", "threads"):
            if getattr(self, name) is not None:
                checks.count(where, name, getattr(self, name))
        self.bytes = (
            None if self.memory is None else checks.size(where, "memory", self.memory)
        )
        self._check_listening()
        self.served = checks.dashboard_options(where, self.dashboard)
        self.security = checks.secured(where, self.security, temporary=False)
        self.certificates = self._certificates()
        self.timeout = checks.seconds(where, "timeout", self.timeout)
        for name in ("python", "local_directory"):
            value = getattr(self, name)
            if value is not None and not _is_plain(os.fspath(value)):
                raise ArgumentError(
                    f"connect({where!r}): {name} must be a path without blanks and other "
                    f"characters that mean something to a shell, got {shown(value)}"
                )
        if not isinstance(self.ssh, Mapping) or "host" in self.ssh:
            raise ArgumentError(
                f"connect({where!r}): ssh must be a mapping of arguments of "
                f"asyncssh.connect other than the host, got {shown(self.ssh)}"
            )

    def _machines(self) -> list[str]:
        if self.hosts is None or isinstance(self.hosts, str):
            raise ArgumentError(
                f"connect('ssh'): hosts must be a list of machines, got {shown(self.hosts)}"
            )
        machines = [checks.host_name(self.where, "a host", one) for one in self.hosts]
        if not machines:
            raise ArgumentError("connect('ssh'): hosts is empty")
        if twice := next((one for one in machines if machines.count(one) > 1), None):
            raise ArgumentError(
                f"connect('ssh'): hosts has {twice!r} twice; workers= says how many "
                "workers each host gets, and the scheduler needs none of its own"
            )
        return machines

    def _check_listening(self) -> None:
        if self.host is not None:
            checks.one_address(self.where, self.host)
        elif self.interface is not None:
            checks.host_name(self.where, "interface", self.interface)
        elif all(map(checks.is_loopback, self.machines)):
            self.host = machine.LOOPBACK
        else:
            raise ArgumentError(
                "connect('ssh'): workers on several machines have to reach the scheduler "
                f"on {self.machines[0]}; say where it listens, by interface='eth0' or "
                "host='10.0.0.1'. Whoever reaches that network can then run code as you, "
                "unless there is security= as well"
            )

    def _certificates(self) -> dict[str, Any]:
        """Paths of certificates, which hosts read for themselves.

        Command lines can be read by everybody on a host, so keys do not go there.
        """
        if self.security is None:
            return {}
        fields = {
            name: getattr(self.security, name)
            for name in (
                "tls_ca_file",
                "tls_scheduler_cert",
                "tls_scheduler_key",
                "tls_worker_cert",
                "tls_worker_key",
            )
        }
        for name, value in fields.items():
            if not value or "\n" in value:
                raise ArgumentError(
                    f"connect('ssh'): security needs {name}, as a path that is there on "
                    "all hosts"
                )
        return {"security": {**fields, "require_encryption": True}, "protocol": "tls://"}

    @contextlib.contextmanager
    def started(self) -> Iterator[Client]:
        """A client of the cluster, which lasts as long as the block."""
        from distributed import SpecCluster

        assert isinstance(self.timeout, float)
        with contextlib.ExitStack() as stack:
            described = self._described()
            folders = {
                one: f"{self.local_directory or about['temporary']}/{_unique()}"
                for one, about in described.items()
            }
            stack.callback(self._remove, folders)
            self._on_all("mkdir -m 700 {folder}", folders)
            workers = self._workers(described, folders)
            with _said() as said:
                try:
                    cluster = stack.enter_context(
                        started(
                            SpecCluster,
                            scheduler=self._scheduler(folders),
                            workers=workers,
                            security=self.security,
                            silence_logs=logging.ERROR,
                            name="SSHCluster",
                        )
                    )
                except Exception as error:
                    why = said[-1] if said else reason(error)
                    raise ClusterError(
                        f"connect('ssh'): the cluster did not start: {why}"
                    ) from error
            client = stack.enter_context(
                connected(cluster, self.where, self.timeout, security=self.security)
            )
            expected = sum(
                one["options"]["kwargs"]["n_workers"] for one in workers.values()
            )
            attended(client, self.where, expected, self.timeout)
            yield client

    def _described(self) -> dict[str, dict[str, Any]]:
        """What hosts say of themselves."""
        command = f"{self.python} -m xlops.cluster"
        if self.host is not None:
            command += f" {shlex.quote(self.host)}"
        described = {}
        hint = "; python= names an interpreter there that has xlops"
        for host, text in self._on_all(command, hint=hint).items():
            about = described[host] = _understood(host, text)
            if self.interface is not None and self.interface not in about["interfaces"]:
                raise ClusterError(
                    f"connect('ssh'): {host} has no interface {self.interface!r}; it has "
                    f"{', '.join(about['interfaces'])}"
                )
            if self.local_directory is None and not _is_plain(about["temporary"]):
                raise ClusterError(
                    f"connect('ssh'): the folder for temporary files on {host}, "
                    f"{shown(about['temporary'])}, has blanks or other characters that "
                    "mean something to a shell; local_directory= names another"
                )
        return described

    def _options(self, host: str) -> dict[str, Any]:
        """What scheduler and workers need to get started on a host."""
        return {
            "address": host,
            "connect_options": self._ssh_options(),
            "remote_python": self.python,
        }

    def _scheduler(self, folders: Mapping[str, str]) -> dict[str, Any]:
        from distributed.deploy.ssh import Scheduler

        first = self.machines[0]
        options = {
            **self.served,
            **self.certificates,
            "host": self.host,
            "interface": self.interface,
            "port": 0,
            "local_directory": folders[first],
        }
        return {"cls": Scheduler, "options": {**self._options(first), "kwargs": options}}

    def _workers(
        self, described: Mapping[str, Mapping[str, Any]], folders: Mapping[str, str]
    ) -> dict[str, Any]:
        from distributed.deploy.ssh import Worker

        workers = {}
        for host, about in described.items():
            share = machine.share(
                self.workers,
                self.threads,
                self.bytes,
                cores=about["cores"],
                total=about["memory"],
            )
            options = {
                **self.certificates,
                "n_workers": share.workers,
                "nthreads": share.threads,
                "memory_limit": share.memory,
                "interface": self.interface,
                # Without an address, workers listen on all there are.
                "host": None if self.interface else about["address"],
                "local_directory": folders[host],
                "env": machine.ENVIRONMENT,
            }
            workers[host] = {
                "cls": Worker,
                "options": {**self._options(host), "kwargs": options},
            }
        return workers

    def _ssh_options(self) -> dict[str, Any]:
        return {"connect_timeout": self.timeout, "login_timeout": self.timeout, **self.ssh}

    def _remove(self, folders: Mapping[str, str]) -> None:
        with contextlib.suppress(ClusterError):  # a host that has gone away
            self._on_all("rm -rf {folder}", folders)

    def _on_all(
        self, command: str, folders: Mapping[str, str] | None = None, hint: str = ""
    ) -> dict[str, str]:
        """What a command prints on each host."""

        async def run() -> list[str]:
            return await asyncio.gather(
                *(
                    self._on(host, command.format(folder=(folders or {}).get(host)), hint)
                    for host in self.machines
                )
            )

        return dict(zip(self.machines, _outside_of_loops(run), strict=True))

    async def _on(self, host: str, command: str, hint: str) -> str:
        """What a command prints on one host."""
        import asyncssh

        assert isinstance(self.timeout, float)
        try:
            async with asyncio.timeout(self.timeout):
                async with asyncssh.connect(host, **self._ssh_options()) as connection:
                    result = await connection.run(command)
        except TimeoutError as error:
            raise ClusterError(
                f"connect('ssh'): {host} has not answered within {self.timeout:g} s"
            ) from error
        except asyncssh.HostKeyNotVerifiable as error:
            raise ClusterError(
                f"connect('ssh'): the key of {host} is not known ({error.reason}); log in "
                "there by ssh once, or give known_hosts in ssh="
            ) from error
        except (asyncssh.Error, OSError, TypeError, ValueError) as error:
            raise ClusterError(
                f"connect('ssh'): {host} cannot be reached by ssh: {reason(error)}"
            ) from error
        if result.exit_status != 0:
            silent = "it says nothing"
            if result.returncode is None:
                silent = "the connection was lost before it had ended"
            lines = str(result.stderr).strip().splitlines() or [silent]
            raise ClusterError(
                f"connect('ssh'): {shown(command)} failed on {host}: {lines[-1]}{hint}"
            )
        return str(result.stdout)


def _outside_of_loops(run: Any) -> Any:
    """Run a coroutine, also where a loop runs already, as in a notebook."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def _understood(host: str, text: str) -> dict[str, Any]:
    """What a host says of itself; its software has to be the same as here."""
    try:
        about: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        theirs = about["versions"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise ClusterError(
            f"connect('ssh'): {host} answers with {shown(text)}, not as xlops does"
        ) from None
    for name, version in machine.versions().items():
        if theirs.get(name) != version:
            raise ClusterError(
                f"connect('ssh'): {host} has {name} {theirs.get(name)}, this machine "
                f"{version}; install the same on both"
            )
    return about


def _is_plain(path: str) -> bool:
    """Whether shells of all kinds, which read it on the other side, take it as it is."""
    return shlex.quote(path) == path


def _unique() -> str:
    return f"xlops-{uuid.uuid4().hex}"


@contextlib.contextmanager
def _said() -> Iterator[list[str]]:
    """What hosts say while they start, which is all there is to know when they fail."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("distributed.deploy.ssh")
    listener, level = Listener(), logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
