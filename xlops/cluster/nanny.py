"""A nanny that leaves the environment of its own process as it was."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator

import distributed
from distributed.core import Status

__all__ = ["Nanny"]

_lock = threading.Lock()
_inside = 0
_before: dict[str, str | None] = {}


class Nanny(distributed.Nanny):
    """Starts a worker as distributed's does.

    That one sets variables for its worker in the environment of its own process, which
    on one machine is the user's, and leaves them there.
    """

    async def instantiate(self) -> Status:
        """Start the worker."""
        with _borrowed({*self.pre_spawn_env, "__DASK_PARENT_PID"}):
            return await super().instantiate()


@contextlib.contextmanager
def _borrowed(names: Iterable[str]) -> Iterator[None]:
    """Variables of this process may change; the last that leaves puts them back."""
    global _inside
    with _lock:
        _inside += 1
        for name in names:
            _before.setdefault(name, os.environ.get(name))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for name, value in _before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
                _before.clear()
