"""Asynchronous work behind a synchronous border.

Detectors are synchronous to their caller, chat providers are asynchronous. One daemon thread of the process
runs an event loop for all of them; so a detector also works where the caller is already inside an event
loop (a notebook, a server), and provider clients, which belong to one loop, may be used again and again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tocsin-background", daemon=True).start()
    return loop


def run(work: Coroutine[Any, Any, R], *, timeout_s: float) -> R:
    """Run one coroutine in the background and wait for its result.

    Raises:
        TimeoutError: If it takes longer; also at the end of the process, when the background has stopped.
    """
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(timeout_s)


def map_in_order(work: Callable[[T], Awaitable[R]], items: Iterable[T], *, at_once: int) -> Iterator[R]:
    """Results of `work` for each item, in the order of the items.

    At most `at_once` items are read ahead and worked on at a time, so memory stays flat however long the
    input is. Closing the iterator early cancels what has not finished.

    Args:
        work: Called with one item; what it raises is raised here when that item's turn comes.
        items: Read lazily, in the caller's thread.
        at_once: At least 1.
    """

    async def call(item: T) -> R:
        return await work(item)

    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            if len(pending) == at_once:
                yield pending.popleft().result()
            pending.append(asyncio.run_coroutine_threadsafe(call(item), _loop()))
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
