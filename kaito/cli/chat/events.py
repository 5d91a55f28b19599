"""Server-sent events: the data of each event of a stream of bytes that is cut anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

DONE = "[DONE]"
"""What OpenAI's streams end with."""


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yields the data of each event that came whole; all its other fields mean nothing in these streams."""
    data: list[str] = []
    async for line in _lines(chunks):
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    left = b""
    async for chunk in chunks:
        *whole, left = (left + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
