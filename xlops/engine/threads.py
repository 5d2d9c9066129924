"""Threads: a pool for tiles, and numeric libraries kept from starting theirs inside."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from xlops.windows.plan import Node, calls_blas, products

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["blas_shares", "count", "limited", "one_thread_each", "pool", "shared"]

Item = TypeVar("Item")


# OpenBLAS gives a thread at least this many multiplications of a product.
LEAST_PRODUCT = 2**18


def count() -> int:
    """Threads that this process may use: all its cores, or what a cluster leaves to it."""
    if (given := os.environ.get("XLOPS_NUM_THREADS", "")).isdecimal():
        return max(1, int(given))
    if hasattr(os, "sched_getaffinity"):  # Linux; elsewhere all cores are ours
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count(), thread_name_prefix="xlops")


def pool() -> ThreadPoolExecutor:
    """The pool that tiles run on; a forked process gets its own."""
    return _pool(os.getpid())


def shared(
    work: Callable[[Iterator[Item]], None], items: Iterable[Item], workers: int
) -> None:
    """Let `workers` threads work on items, each taking the next one when it is ready.

    This thread is one of them. In the end it waits for those that have begun and no
    others: they would find nothing left, and may be waiting for this one.
    """
    waiting = iter(items)
    job = [(work, waiting)]

    def part() -> None:
        for work, left in job[:]:
            work(left)

    others = [pool().submit(part) for _ in range(workers - 1)]
    try:
        work(waiting)
    finally:
        begun = [other for other in others if not other.cancel()]
        wait(begun)
        job.clear()  # what has been cancelled waits in a queue: it must hold no arrays
    for other in begun:
        other.result()


_lock = threading.Lock()
_inside = 0
_limit: contextlib.AbstractContextManager[object] | None = None


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """While pieces run side by side, BLAS uses one thread for each.

    The limit is that of the process: it is set by the first that comes and lifted by the
    last that goes.
    """
    global _inside, _limit
    with _lock:
        _inside += 1
        if _inside == 1:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limit is not None:
                _limit.__exit__(None, None, None)
                _limit = None


def limited(node: Node) -> contextlib.AbstractContextManager[None]:
    """While pieces of a plan run side by side: one thread each, if it calls BLAS."""
    return one_thread_each() if calls_blas(node) else contextlib.nullcontext()


def blas_shares(node: Node) -> bool:
    """Whether a plan has products that BLAS shares out among all threads by itself.

    Smaller ones are quicker side by side, one thread each. These are not: the threads of
    BLAS go on spinning for a while when they are done, and slow down all threads but
    their own.
    """
    least = count() * LEAST_PRODUCT
    return any(product >= least for product in products(node))


@functools.cache
def _controller() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
