"""Clusters and clients that are gone after the block that they were made for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from xlops.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["attended", "connected", "reason", "started"]


class Closes(Protocol):
    """Something that is closed."""

    def close(self) -> object: ...


Closing = TypeVar("Closing", bound=Closes)


@contextlib.contextmanager
def started(kind: type[Closing], *args: Any, **options: Any) -> Iterator[Closing]:
    """A cluster or client that is started, and closed after the block.

    They start as they are built. To have one in hand if that fails or is interrupted
    half-way, it is made first and built then.
    """
    made = kind.__new__(kind)
    try:
        made.__init__(*args, **options)  # type: ignore[misc]
        yield made
    finally:
        if getattr(made, "status", None) is not None:  # else there is nothing of it yet
            if getattr(made, "_created", None):
                made.sync(_without_strays, made)  # type: ignore[attr-defined]
            made.close()
        # A client that did not start counts as closed, and its thread would go on.
        if (runner := getattr(made, "_loop_runner", None)) is not None:
            runner.stop()


async def _without_strays(cluster: Any) -> None:
    """Close workers that do not belong to their cluster yet.

    When the start is interrupted, those go on starting, and nobody else knows them.
    """
    from distributed.core import Status

    known = list(cluster.workers.values())
    strays = [
        one
        for one in cluster._created
        if one not in known and one.status not in {Status.closed, Status.failed}
    ]
    # Only what has started can be closed for good.
    await asyncio.gather(*strays, return_exceptions=True)
    await asyncio.gather(*(one.close() for one in strays), return_exceptions=True)
    # A job counts as started still when it was cancelled, and never does when it was
    # refused. A closing cluster takes either for a fault if anything holds the job, as
    # the traceback of its error does.
    cluster._created.clear()


@contextlib.contextmanager
def connected(to: Any, where: str, timeout: float, **options: Any) -> Iterator[Client]:
    """A client, closed after the block."""
    from distributed import Client

    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(started(Client, to, timeout=timeout, **options))
        except Exception as error:
            raise ClusterError(
                f"connect({where!r}): no scheduler has answered within {timeout:g} s: "
                f"{reason(error)}"
            ) from error
        yield client


def attended(client: Client, where: str, workers: int, timeout: float) -> None:
    """Wait until so many workers are there."""
    try:
        client.wait_for_workers(workers, timeout=timeout)
    except TimeoutError as error:
        there = len(client.scheduler_info(n_workers=-1)["workers"])
        raise ClusterError(
            f"connect({where!r}): of {workers} workers {there} have come within "
            f"{timeout:g} s"
        ) from error


def reason(error: BaseException) -> str:
    """The innermost error, which is the one that says something."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
