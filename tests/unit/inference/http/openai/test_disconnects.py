"""A client that goes takes its work with it, and a server that is full says so: one slot, one place to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from kaito.inference.http import make_app
from kaito.inference.http.settings import HttpSettings
from kaito.inference.observer import Ended, Unobserved
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.transformers_runtime import TransformersRuntime
from tests.unit.inference.serving import serving

LONG: dict[str, Any] = {"max_tokens": 1900, "ignore_eos": True}
PROMPTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "who can tell?"}], **LONG},
    "/v1/completions": {"prompt": "who can tell?", **LONG},
}


class Ends(Unobserved):
    """Passes on to the event loop which requests got their slot and which ended how."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.starts: asyncio.Queue[float] = asyncio.Queue()
        self.ends: asyncio.Queue[tuple[Ended, int]] = asyncio.Queue()

    def started(self, waited_s: float) -> None:
        self._loop.call_soon_threadsafe(self.starts.put_nowait, waited_s)

    def ended(self, reason: Ended, prompt_tokens: int, new_tokens: int, seconds: float) -> None:
        self._loop.call_soon_threadsafe(self.ends.put_nowait, (reason, new_tokens))


@pytest.fixture(scope="module")
async def narrow(tiny: Path) -> AsyncIterator[tuple[str, Ends]]:
    """The address of a server with one slot and one place to wait, and what its engine does."""
    ends = Ends()
    limits = Limits(max_waiting=1)
    options = ModelOptions(str(tiny / "model"), served_name="base", dtype="float32")
    runtime = TransformersRuntime(options, EngineOptions(max_num_seqs=1), limits, ends)
    await runtime.load()
    async with serving(make_app(runtime, HttpSettings(limits))) as address:
        yield address, ends
    await runtime.close()


@pytest.fixture
def engine(narrow: tuple[str, Ends]) -> Ends:
    """What the engine does from now on; starting it up was a request, too."""
    _, ends = narrow
    for queue in (ends.starts, ends.ends):
        while not queue.empty():
            queue.get_nowait()
    return ends


async def send(address: str, path: str, **fields: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({**PROMPTS[path], **fields}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", PROMPTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_ends_its_generation(
    narrow: tuple[str, Ends], engine: Ends, path: str, stream: bool
) -> None:
    reader, writer = await send(narrow[0], path, stream=stream)
    await engine.starts.get()
    if stream:
        await reader.readuntil(b"data: ")
    await leave(writer)
    reason, tokens = await engine.ends.get()
    assert reason == "abort"
    assert tokens < 1900


async def test_a_client_that_goes_ends_all_n_of_its_generations_also_those_that_wait(
    narrow: tuple[str, Ends], engine: Ends
) -> None:
    _, writer = await send(narrow[0], "/v1/chat/completions", n=2, stream=True)
    await engine.starts.get()
    await leave(writer)
    assert [reason for reason, _ in (await engine.ends.get(), await engine.ends.get())] == ["abort", "abort"]


async def test_what_finds_no_place_is_refused_until_there_is_one(narrow: tuple[str, Ends], engine: Ends) -> None:
    address, _ = narrow
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        runs = await send(address, "/v1/completions")
        await engine.starts.get()
        waits = await send(address, "/v1/completions", n=1, stream=True)
        await waits[0].readuntil(b"\r\n\r\n")
        with pytest.raises(openai.RateLimitError) as raised:
            await client.completions.create(model="base", prompt="fox", max_tokens=1)
        assert int(raised.value.response.headers["Retry-After"]) > 0
        assert raised.value.code == "rate_limit_exceeded"
        for _, writer in (runs, waits):
            await leave(writer)
        assert [(await engine.ends.get())[0] for _ in range(2)] == ["abort", "abort"]
        answer = await client.completions.create(model="base", prompt="fox", max_tokens=1)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 1
