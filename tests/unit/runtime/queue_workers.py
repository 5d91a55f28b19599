"""What tests of AsyncQueue share: a turn of the loop, and a worker that takes one key."""

from __future__ import annotations

import asyncio

from kaito.runtime.async_queue import AsyncQueue


async def a_turn() -> None:
    """Lets everything run that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


def getter(queue: AsyncQueue[str], got: list[str]) -> asyncio.Task[None]:
    """Takes one key, and writes it down, or that the queue was closed."""

    async def get() -> None:
        item = await queue.get()
        got.append("closed" if item is None else item.key)

    return asyncio.create_task(get())
