"""Clocks: which event loop runs here, and what time it is by it, or by day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def loop_time() -> float:
    """Seconds by the running event loop, which under a virtual clock are virtual."""
    return asyncio.get_running_loop().time()


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)
