"""Waiting for a cluster, which may be lost meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from xlops.errors import ClusterError

__all__ = ["check_connected", "client_of", "gathered", "loss"]

# Seconds after which to see whether the scheduler is still there. Futures alone would tell
# only when the client has given up connecting again.
PATIENCE = 0.5
# Seconds for which all workers may have paused: nothing would ever start them again.
LONGEST_PAUSE = 30.0
FULL = (
    "all workers have paused for want of memory; give them more, or the data smaller chunks"
)
GONE = "the connection to the scheduler of the cluster is lost"


def client_of(get: Any) -> Any:
    """The client of distributed whose method computes graphs; None where it is no such."""
    distributed = sys.modules.get("distributed")
    client = getattr(get, "__self__", None)
    if distributed is None or not isinstance(client, distributed.Client):
        return None
    return client


def check_connected(client: Any) -> None:
    """Raise where a client has no scheduler: it would wait for one."""
    if client is not None and client.status != "running":
        raise ClusterError(GONE)


def gathered(futures: Sequence[Any]) -> list[Any]:
    """The results of some futures; an error soon after their scheduler is lost."""
    from distributed import wait

    client = futures[0].client
    running = time.monotonic()
    while True:
        try:
            wait(futures, timeout=PATIENCE)
        except TimeoutError:
            check_connected(client)
            if not _is_paused(client):
                running = time.monotonic()
            if time.monotonic() - running > LONGEST_PAUSE:
                raise ClusterError(FULL) from None
        else:
            return list(client.gather(futures))


def _is_paused(client: Any) -> bool:
    """Whether no worker takes tasks; those that are not there yet may come."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return bool(workers) and all(worker["status"] == "paused" for worker in workers)


def loss(error: BaseException) -> str | None:
    """What a cluster has lost where an error says so; None for all other errors."""
    if isinstance(error, ClusterError):
        return str(error)
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    if isinstance(error, distributed.KilledWorker):
        task = error.task[0] if isinstance(error.task, tuple) else error.task
        return (
            f"workers died again and again, lastly in {str(task)[:60]!r}, most often for "
            "want of memory (give them more, or the data smaller chunks)"
        )
    if isinstance(error, distributed.comm.CommClosedError):
        return "a connection between the parts of the cluster is lost"
    return GONE if isinstance(error, distributed.CancelledError) else None
