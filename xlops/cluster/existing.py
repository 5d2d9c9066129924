"""Clusters that are there already: they go on when their client has gone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xlops.cluster import checks
from xlops.cluster.starting import connected
from xlops.errors import ArgumentError, ClusterError, shown

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["Existing", "Given", "found"]

PROTOCOLS = ("tcp", "tls", "ucx", "ucxx", "ws", "wss")


@dataclasses.dataclass
class Existing:
    """A scheduler that runs, by its address or the cluster that it belongs to."""

    to: Any
    security: Security | None = None
    timeout: float | str = 10.0

    def __post_init__(self) -> None:
        where = self.where = self.to if isinstance(self.to, str) else type(self.to).__name__
        self.timeout = checks.seconds(where, "timeout", self.timeout)
        self.security = checks.secured(where, self.security, temporary=False)
        if where.startswith(("tls://", "wss://")):
            self._check_certificates()

    def _check_certificates(self) -> None:
        """Without a certificate of its own a client finds out only when it connects."""
        from distributed.security import Security

        security = self.security or Security()  # that of Dask's configuration
        try:
            arguments = security.get_connection_args("client")
        except OSError as error:
            raise ClusterError(
                f"connect({self.where!r}): the certificates of security cannot be read: "
                f"{error}"
            ) from error
        if arguments.get("ssl_context") is None:
            raise ArgumentError(
                f"connect({self.where!r}): this address is encrypted; give the "
                "certificates for it, as security=distributed.Security(tls_ca_file=…, "
                "tls_client_cert=…, tls_client_key=…)"
            )

    @contextlib.contextmanager
    def started(self) -> Iterator[Client]:
        """A client, which lasts as long as the block."""
        assert isinstance(self.timeout, float)
        security = self.security
        with connected(self.to, self.where, self.timeout, security=security) as client:
            yield client


@dataclasses.dataclass
class Given:
    """A client that is there already, and stays."""

    to: Client

    where = "a Client"

    def __post_init__(self) -> None:
        if self.to.status != "running":
            raise ClusterError(f"connect: this Client is {self.to.status}")

    @contextlib.contextmanager
    def started(self) -> Iterator[Client]:
        """That client."""
        yield self.to


def found(where: object, known: str) -> tuple[type[Given | Existing], Any]:
    """What an object, an address or a path leads to.

    Raises
    ------
    ArgumentError
        Where it leads nowhere; `known` says what would.
    ClusterError
        For a scheduler file that is not there or holds none.
    """
    from distributed import Client

    if isinstance(where, Client):
        return Given, where
    if isinstance(where, (str, os.PathLike)):
        text = os.fspath(where)
        if isinstance(text, str):
            if "://" in text:
                return Existing, _address(text)
            if text.endswith(".json"):
                return Existing, _address(_in_file(text), f" in the scheduler file {text}")
            if re.fullmatch(r"[\w.-]+:\d+", text):
                raise ArgumentError(
                    f"connect: {text!r} lacks its protocol; did you mean 'tcp://{text}'?"
                )
    elif isinstance(getattr(where, "scheduler_address", None), str):
        status = getattr(where, "status", "running")
        if getattr(status, "name", status) in {"closed", "closing", "failed"}:
            raise ClusterError("connect: this cluster does not run")
        return Existing, where
    raise ArgumentError(f"connect: nothing is known of {shown(where)}; {known}")


def _address(text: str, place: str = "") -> str:
    protocol, _, rest = text.partition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if protocol not in PROTOCOLS or not host or not port.isdecimal():
        raise ArgumentError(
            f"connect: {shown(text)}{place} is no address of a scheduler; one looks like "
            f"'tcp://10.0.0.1:8786', and begins with one of {', '.join(PROTOCOLS)}"
        )
    checks.host_name(text, "the host", host)
    return text


def _in_file(path: str) -> str:
    """The address that a scheduler has written into a file."""
    try:
        with open(path, encoding="utf-8") as file:
            address = json.load(file)["address"]
    except OSError as error:
        raise ClusterError(
            f"connect: the scheduler file {path} cannot be read ({error.strerror}); a "
            "scheduler writes it when it has started"
        ) from error
    except (ValueError, TypeError, KeyError):
        address = None
    if not isinstance(address, str):
        raise ClusterError(
            f"connect: {path} is no scheduler file, which is JSON with an entry 'address'"
        )
    return address
