"""Checks of what a user asks for, before anything starts."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
from typing import TYPE_CHECKING, Any

from xlops.cluster.machine import LOOPBACK
from xlops.errors import ArgumentError, ClusterError, shown

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = [
    "command",
    "count",
    "dashboard_options",
    "flag",
    "folder",
    "host_name",
    "installed",
    "is_loopback",
    "listening",
    "one_address",
    "seconds",
    "secured",
    "size",
]

# Letters, digits and what names and addresses are written with; no option of ssh, which
# begins with "-", and nothing that a shell knows.
HOST = re.compile(r"[A-Za-z0-9_:\[][A-Za-z0-9_.:%\[\]-]*")

# Memory of a worker. Python, Dask and xlops take up some 250 MiB; with less than this a
# worker would pause for want of memory before it has done anything, and all would wait.
LEAST = 400 * 2**20


def count(where: str, name: str, value: object) -> int:
    """A number of workers, threads or jobs."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(
            f"connect({where!r}): {name} must be a whole number of at least 1, "
            f"got {shown(value)}"
        )
    return value


def seconds(where: str, name: str, value: object) -> float:
    """A time to wait, as a number of seconds or as Dask writes it (``"2 minutes"``)."""
    from dask.utils import parse_timedelta

    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        time = float(parse_timedelta(value))
        if not 0 < time < float("inf"):
            raise ValueError
    except (TypeError, ValueError, KeyError):
        raise ArgumentError(
            f"connect({where!r}): {name} must be a number of seconds above 0 or a text "
            f"such as '2 minutes', got {shown(value)}"
        ) from None
    return time


def size(where: str, name: str, value: object) -> int:
    """A number of bytes, as an integer or as Dask writes it (``"4 GiB"``)."""
    from dask.utils import parse_bytes

    try:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        size = int(parse_bytes(value))
        if size < LEAST:
            raise ValueError
    except (TypeError, ValueError):
        raise ArgumentError(
            f"connect({where!r}): {name} must be a text such as '4 GiB' or a number of "
            f"bytes, of at least {LEAST >> 20} MiB, got {shown(value)}"
        ) from None
    return size


def flag(where: str, name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(
            f"connect({where!r}): {name} must be True or False, got {shown(value)}"
        )
    return value


def host_name(where: str, name: str, value: object) -> str:
    """The name or address of a machine."""
    if isinstance(value, str) and HOST.fullmatch(value):
        return value
    hint = ""
    if isinstance(value, str) and "@" in value:
        hint = "; the user goes into ssh={'username': …}"
    elif isinstance(value, str) and "://" in value:
        hint = ", without a protocol"
    raise ArgumentError(
        f"connect({where!r}): {name} must be the name or the address of a machine, "
        f"got {shown(value)}{hint}"
    )


def one_address(where: str, host: object) -> str:
    """An address of a scheduler that others can be told: not all of them at once."""
    name = host_name(where, "host", host)
    if name.strip("[]") in {"0.0.0.0", "::"}:
        raise ArgumentError(
            f"connect({where!r}): host={name!r} is every address of a machine; say the "
            "one by which workers reach it"
        )
    return name


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as only itself sees it."""
    return host in {"localhost", "::1", "[::1]"} or bool(
        re.fullmatch(r"127(\.\d{1,3}){3}", host)
    )


def listening(where: str, host: str | None, interface: str | None) -> None:
    """Check that this machine can listen there."""
    import psutil

    if interface is not None:
        there = sorted(psutil.net_if_addrs())
        if interface not in there:
            raise ArgumentError(
                f"connect({where!r}): no interface {shown(interface)} on this machine; "
                f"there are {', '.join(there)}"
            )
    if host is not None:
        host_name(where, "host", host)
        try:
            found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            with socket.socket(family, kind, protocol) as trial:
                trial.bind(address)
        except OSError:
            raise ArgumentError(
                f"connect({where!r}): host={host!r} is no address of this machine to "
                "listen on"
            ) from None


def folder(where: str, value: str | os.PathLike[str], name: str = "local_directory") -> str:
    """A folder of this machine that files can be written to."""
    path = os.fspath(value)
    if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"connect({where!r}): {name}={path!r} is no folder that can be written to"
        )
    return os.path.abspath(path)


def secured(where: str, value: object, *, temporary: bool) -> Security | None:
    """Certificates, made for this one cluster if asked."""
    from distributed.security import Security

    if value is None or isinstance(value, Security):
        return value
    if value is True and temporary:
        installed(where, "cryptography")
        made: Security = Security.temporary()
        return made
    or_true = ", or True for certificates that last as long as the cluster"
    raise ArgumentError(
        f"connect({where!r}): security must be a distributed.Security"
        f"{or_true if temporary else ''}, got {shown(value)}"
    )


def dashboard_options(where: str, value: object) -> dict[str, Any]:
    """Where a scheduler serves its dashboard.

    There is always a server, which without a dashboard only tells whether it is well.
    Left to itself it takes port 8787, on all interfaces at times.
    """
    if value is None or value is False:
        return {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    installed(where, "bokeh")
    if value is True:
        return {"dashboard": True, "dashboard_address": f"{LOOPBACK}:0"}
    if isinstance(value, str):
        host, _, port = value.rpartition(":")
        if port.isdecimal() and int(port) < 2**16 and (not host or HOST.fullmatch(host)):
            return {"dashboard": True, "dashboard_address": f"{host or LOOPBACK}:{port}"}
    raise ArgumentError(
        f"connect({where!r}): dashboard must be True, False, or where it listens, as "
        f"':8787' (on the loopback) or 'host:port', got {shown(value)}"
    )


def installed(where: str, module: str) -> Any:
    """A module that only some need, or an error that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ClusterError(
            f"connect({where!r}) needs {module}, which cannot be imported ({error}): "
            'pip install "xlops[cluster]"'
        ) from error


def command(where: str, name: str) -> None:
    """A command that has to be there."""
    if shutil.which(name) is None:
        raise ClusterError(
            f"connect({where!r}): there is no command {name} here; run this on a machine "
            "that hands in jobs"
        )
