"""Weights that live in the workers of a cluster as long as their operators do."""

from __future__ import annotations

import contextlib
import threading
import weakref

from distributed import Client, Worker, WorkerPlugin

from xlops.engine.weights import move_in, move_out
from xlops.windows.pieces import NDArray

__all__ = ["send"]


# How often weights are sent while workers die.
MOST_TRIES = 5


class _Weights(WorkerPlugin):
    """Weights of an operator: every worker gets a plugin once, also those that join."""

    idempotent = True

    def __init__(self, name: str, data: NDArray) -> None:
        self.name, self.data = name, data

    def setup(self, worker: Worker) -> None:
        """Keep the weights in the worker's process."""
        move_in(self.name, self.data, worker.address)

    def teardown(self, worker: Worker) -> None:
        """Let them go."""
        move_out(self.name, worker.address)


# How many arrays of each client have the same content.
_sent: weakref.WeakKeyDictionary[Client, dict[str, set[int]]] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def send(name: str, data: NDArray, client: Client) -> None:
    """See to it that the workers of a client have weights, until `data` is gone."""
    with _lock:
        holders = _sent.setdefault(client, {}).setdefault(name, set())
        if id(data) in holders:
            return
        if not holders:
            _register(_Weights(name, data), _called(name, client), client)
        holders.add(id(data))
        weakref.finalize(data, _release, name, id(data), weakref.ref(client))


def _register(plugin: _Weights, called: str, client: Client) -> None:
    """Give a plugin to all workers, even if some of them die meanwhile."""
    for _ in range(MOST_TRIES - 1):
        try:
            client.register_plugin(plugin, name=called)
        except OSError:  # a worker is gone: whether the others have it is not known
            plugin.idempotent = False
        else:
            return
    client.register_plugin(plugin, name=called)


def _called(name: str, client: Client) -> str:
    return f"{name}-{client.id}"


def _release(name: str, holder: int, reference: weakref.ref[Client]) -> None:
    client = reference()
    if client is None or client.loop is None:
        return
    with _lock:
        holders = _sent.get(client, {}).get(name, set())
        holders.discard(holder)
        if holders or client.status != "running":
            return
        _sent[client].pop(name, None)
    # Nobody waits for it: this may be called anywhere.
    client.loop.add_callback(_forget, _called(name, client), client)


async def _forget(plugin: str, client: Client) -> None:
    with contextlib.suppress(OSError, ValueError):  # the scheduler may be another by now
        await client.unregister_worker_plugin(plugin)
