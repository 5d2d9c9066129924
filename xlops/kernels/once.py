"""Things that are made once in a process, whatever threads ask for them together."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

__all__ = ["once"]

T = TypeVar("T")


def once(make: Callable[..., T]) -> Callable[..., T]:
    """Remember what a function makes of its arguments.

    `functools.cache` lets threads that ask for the same at the same time make it several
    times over. Tiles do just that, and loading a compiled loop takes as long as many
    tiles, compiling it takes seconds.

    Examples
    --------
    >>> from xlops.kernels.once import once
    >>> @once
    ... def made(n):
    ...     return [n]
    >>> made(1) is made(1), made(1) is made(2)
    (True, False)
    """
    made: dict[tuple[Hashable, ...], T] = {}
    lock = threading.Lock()

    @functools.wraps(make)
    def remembered(*given: Hashable) -> T:
        if given not in made:
            with lock:
                if given not in made:
                    made[given] = make(*given)
        return made[given]

    return remembered
