"""Weights that live in the workers of a cluster as long as their operators do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import uuid
import weakref
from typing import Any

from distributed import Client, Worker, WorkerPlugin

from xlops.engine.weights import move_in, move_out
from xlops.windows.pieces import NDArray

__all__ = ["send"]

# Seconds after which to see whether tasks may still ask for weights, at first and at most.
SOON, LATER = 0.1, 5.0
# How often weights are sent while workers die.
MOST_TRIES = 5


class _Weights(WorkerPlugin):
    """Weights of an operator: every worker gets a plugin once, also those that join."""

    def __init__(self, name: str, data: NDArray, tenant: str) -> None:
        self.name, self.data, self.tenant = name, data, tenant

    def setup(self, worker: Worker) -> None:
        """Keep the weights in the worker's process."""
        move_in(self.name, self.data, (self.tenant, worker.address))

    def teardown(self, worker: Worker) -> None:
        """Let them go."""
        move_out(self.name, (self.tenant, worker.address))


@dataclasses.dataclass
class _Lease:
    """For which arrays of the same content a plugin is there, and what it is called.

    No two plugins have one name: the end of one may overtake the start of the next.
    """

    plugin: str | None = None
    holders: set[int] = dataclasses.field(default_factory=set)


_leases: weakref.WeakKeyDictionary[Client, dict[str, _Lease]] = weakref.WeakKeyDictionary()
# Held for moments only: arrays may end in any thread, that of the client's loop too.
_lock = threading.RLock()
# Who sends weights that are on their way already waits until they are there.
_sending = threading.Lock()


def send(name: str, data: NDArray, client: Client) -> None:
    """See to it that the workers of a client have weights, until `data` is gone."""
    with _sending:
        with _lock:
            leases = _leases.setdefault(client, {})
            lease = leases.setdefault(name, _Lease())
            is_new = id(data) not in lease.holders
            lease.holders.add(id(data))
            leases[name] = lease  # garbage collection may just have ended it
        if lease.plugin is None:
            plugin = f"{name}-{uuid.uuid4().hex}"
            try:
                _register(_Weights(name, data, plugin), client)
            except BaseException:
                lease.holders.discard(id(data))
                raise
            lease.plugin = plugin
        if is_new:
            weakref.finalize(data, _release, name, id(data), weakref.ref(client))


def _register(plugin: _Weights, client: Client) -> None:
    """Give a plugin to all workers, even if some of them die meanwhile."""
    for _ in range(MOST_TRIES - 1):
        # A worker may be gone: whether the others have it is not known then.
        with contextlib.suppress(OSError):
            client.register_plugin(plugin, name=plugin.tenant)
            return
    client.register_plugin(plugin, name=plugin.tenant)


def _release(name: str, holder: int, reference: weakref.ref[Client]) -> None:
    client = reference()
    if client is None or client.loop is None or client.status != "running":
        return
    with _lock:
        lease = _leases.get(client, {}).get(name)
        if lease is None:
            return
        lease.holders.discard(holder)
        plugin = lease.plugin
        if lease.holders or plugin is None:
            return
        lease.plugin = None
        del _leases[client][name]
    # Nobody waits for it: this may be called anywhere.
    client.loop.add_callback(_forget, name, plugin, client)


async def _forget(name: str, plugin: str, client: Client) -> None:
    """Let weights go when no task is left that may ask for them, were it once more."""
    pause = SOON
    # The scheduler may be lost by now, or be another one.
    with contextlib.suppress(OSError, ValueError):
        while True:
            # What was submitted before the array ended has to reach the scheduler first.
            await asyncio.sleep(pause)
            if client.status != "running":
                return
            asked = await client.run_on_scheduler(functools.partial(_is_asked_for, name))
            if not asked:
                break
            pause = min(2 * pause, LATER)
        await client.unregister_worker_plugin(plugin)


def _is_asked_for(name: str, dask_scheduler: Any) -> bool:
    """Whether the scheduler has tasks to which weights of a name are given."""
    group = dask_scheduler.task_groups.get(name)
    return group is not None and any(
        count for state, count in group.states.items() if state != "forgotten"
    )
