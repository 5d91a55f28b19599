"""Standby: keeps the queue of a controller that waits for its turn, maybe for months, bounded and its times sane."""

from __future__ import annotations

import asyncio

from kaito.informers.entry import store_key
from kaito.informers.store import StoreReader
from kaito.kube.object_key import ObjectKey
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.elections import BeforeWork

LOOK_EVERY_S = 60.0
SPARE = 1000
"""Keys of objects that are gone, that are not worth looking for."""
FORGET_AFTER_S = 600.0


async def stand_by(
    before_work: BeforeWork, queue: AsyncQueue[ObjectKey], dirty: dict[ObjectKey, float], store: StoreReader
) -> None:
    """Awaits leave to work, while the queue fills.

    Whoever works meanwhile handles what comes in. An object that has been gone for `FORGET_AFTER_S` is forgotten, where
    there are many of those: objects that come and go would fill the queue for as long as nobody takes from it. And what
    the metrics call waiting begins when it has leave: before that it was not this one's to do.

    Args:
        before_work: returns when it has leave. What it raises is raised.
        queue: what fills.
        dirty: since when keys have had events that nobody handled.
        store: the objects that there are.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        timer = loop.call_later(LOOK_EVERY_S, look)
        if len(queue) > len(store) + SPARE:
            for key in queue.waiting_for(FORGET_AFTER_S):
                if store.get(store_key(key.name, key.namespace)) is None:
                    queue.discard(key)
                    dirty.pop(key, None)

    timer = loop.call_later(LOOK_EVERY_S, look)
    try:
        await before_work()
    finally:
        timer.cancel()
    queue.count_from_now()
    dirty.update(dict.fromkeys(dirty, loop.time()))
