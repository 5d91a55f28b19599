"""A thousand requests as clients send them: good, bad, left half way, and a SIGTERM among the last."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.unit.inference.server_process import ServerProcess, metric, started

REQUESTS, LAST = 1000, 100
TOGETHER = 12
# Slots and most of the allocator's caches have come by then. 15 MiB still come on the way to 600; a key-value cache, a
# batch of logits or a body that stayed with each request would be hundreds.
WARM = 300
GROWTH_MIB = 24.0

PROMPTS = ("the quick brown fox", "Größe 東京 🙂", "one two three " * 20, "a")


class Client:
    """Sends requests of all kinds to one server, and knows what may come back."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session
        self._random = random.Random(7)
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stopping = False
        self._kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            self._chat,
            self._chat_stream,
            self._conversation,
            self._completions,
            self._tokens,
            self._bad,
            self._leaves_stream,
            self._leaves_at_once,
            self._looks,
        )

    async def one(self) -> None:
        """Sends a request of a kind that chance chooses."""
        kind = self._random.choice(self._kinds)
        begun_while_stopping = self.stopping
        try:
            await kind()
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            # A server that has gone; one that is still there closes no connection on a client.
            if not self.stopping:
                self.wrong.append(f"{kind.__name__}: {error!r} (begun while stopping: {begun_while_stopping})")
            self.seen["gone"] += 1

    async def _post(self, path: str, body: Any, allowed: set[int]) -> bytes:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self.url + path, data=data, headers=headers) as answer:
            content = await answer.read()
            self._check(path, answer.status, allowed, content)
            self.seen[f"{path} {answer.status}"] += 1
            return content if answer.status == 200 else b""

    def _check(self, path: str, status: int, allowed: set[int], content: bytes) -> None:
        if status not in allowed and not (self.stopping and status == 503):
            self.wrong.append(f"{path}: {status} {content[:200]!r}")

    def _generation(self) -> dict[str, Any]:
        return {
            "max_new_tokens": self._random.randint(1, 12),
            "temperature": self._random.choice((0.5, 1.0)),
            "repetition_penalty": self._random.choice((1.0, 1.3)),
            "seed": self._random.randint(0, 99),
        }

    def _lora(self) -> list[dict[str, Any]]:
        choices: tuple[list[dict[str, Any]], ...] = (
            [],
            [{"name": "one"}],
            [{"name": "one", "strength": 0.3}, {"name": "two"}],
        )
        return self._random.choice(choices)

    async def _chat(self) -> None:
        body = {"prompt": self._random.choice(PROMPTS), "generate_kwargs": self._generation(), "lora": self._lora()}
        await self._post("/chat", body, {200})

    async def _chat_stream(self) -> None:
        body = {"prompt": self._random.choice(PROMPTS), "stream": True, **self._generation()}
        content = await self._post("/chat", body, {200})
        if content and not content.endswith(b"data: [DONE]\n\n") and not self.stopping:
            self.wrong.append(f"/chat: a stream that ended with {content[-200:]!r}")

    async def _conversation(self) -> None:
        body = {
            "messages": [{"role": "user", "content": self._random.choice(PROMPTS)}],
            "max_tokens": self._random.randint(1, 12),
            "n": self._random.choice((1, 1, 3)),
            "stream": self._random.random() < 0.5,
            "logprobs": self._random.random() < 0.3,
            "lora": self._lora(),
        }
        await self._post("/v1/chat/completions", body, {200})

    async def _completions(self) -> None:
        body = {
            "model": self._random.choice(("base", "one", "two")),
            "prompt": [self._random.choice(PROMPTS)] * self._random.choice((1, 2)),
            "max_tokens": self._random.randint(1, 12),
            "stop": self._random.choice(("a", ["e", "o"], None)),
            "stream": self._random.random() < 0.5,
        }
        await self._post("/v1/completions", body, {200})

    async def _tokens(self) -> None:
        await self._post("/tokenize", {"prompt": self._random.choice(PROMPTS)}, {200})

    async def _bad(self) -> None:
        path = self._random.choice(("/chat", "/v1/chat/completions", "/v1/completions", "/tokenize"))
        body = self._random.choice(
            (
                b"",
                b"{",
                b"\xff\xfe",
                b"[" * 5000,
                b"null",
                b'{"prompt": ' + b"9" * 3000 + b"}",
                b'{"prompt": "' + b"x" * 100_000 + b'"}',
                {"prompt": {"a": 1}, "messages": 5},
                {
                    "prompt": "a",
                    "messages": [{"role": "nobody", "content": "a"}],
                    "model": "none",
                    "lora": [{"name": "x"}],
                },
                {"prompt": "a", "temperature": -1, "top_k": -5, "max_tokens": -1, "max_new_tokens": -1},
                {"prompt": "one two " * 3000, "messages": [{"role": "user", "content": "one two " * 3000}]},
            )
        )
        await self._post(path, body, {200, 400, 404, 413, 415, 422})

    async def _leaves_stream(self) -> None:
        body = {"prompt": "a", "stream": True, "generate_kwargs": {"max_new_tokens": 1500}}
        async with self._session.post(self.url + "/chat", json=body) as answer:
            self._check("/chat", answer.status, {200}, b"")
            await answer.content.readany()
            answer.close()
        self.seen["left a stream"] += 1

    async def _leaves_at_once(self) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        path = self._random.choice(("/chat", "/v1/completions"))
        body = b'{"prompt": "a", "max_tokens": 1000, "max_new_tokens": 1000}'
        length = len(body) + self._random.choice((0, 7))  # sometimes the end of the body never comes
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode() + body)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        self.seen["left at once"] += 1

    async def _looks(self) -> None:
        path = self._random.choice(("/health", "/metrics", "/v1/models", "/", "/openapi.json"))
        async with self._session.get(self.url + path) as answer:
            self._check(path, answer.status, {200}, await answer.read())
        self.seen["looked"] += 1


async def _many(client: Client, count: int, after: Callable[[int], None] = lambda done: None) -> None:
    done, numbers = 0, iter(range(count))

    async def work() -> None:
        nonlocal done
        for _ in numbers:
            await client.one()
            done += 1
            after(done)

    async with asyncio.TaskGroup() as group:
        for _ in range(TOGETHER):
            group.create_task(work())


async def _idle(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    """Waits for the slots of those who left: each is given back within a step."""
    async with asyncio.timeout(10):
        while sum([await metric(session, server.url, f"vllm:num_requests_{each}") for each in ("running", "waiting")]):
            pass


def _memory_mib(pid: int) -> float:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@pytest.mark.timeout(180)
async def test_a_thousand_requests_leave_nothing_behind_and_only_the_drain_says_503(tiny: Path) -> None:
    arguments = ["--model", tiny / "model", "--adapters", tiny / "adapters", "--served-model-name", "base"]
    arguments += ["--max-body-bytes", "65536", "--max-num-seqs", "8", "--log-level", "info"]
    async with started(arguments) as server, aiohttp.ClientSession() as session:
        await server.logged("ready")
        client = Client(server.url, session)
        await _many(client, WARM)
        await _idle(server, session)
        warm = _memory_mib(server.process.pid)
        await _many(client, REQUESTS - LAST - WARM)
        await _idle(server, session)
        grown = _memory_mib(server.process.pid) - warm
        assert client.wrong == []

        def stop(done: int) -> None:
            if done == LAST // 3:
                client.stopping = True
                server.send(signal.SIGTERM)

        await _many(client, LAST, stop)
        status = await server.ended()
    assert client.wrong == []
    assert (status, sum(client.seen.values())) == (0, REQUESTS)
    assert grown < GROWTH_MIB, f"{grown:.1f} MiB more after {REQUESTS - LAST} requests than after {WARM}"
    # Each kind was met, the good and the bad.
    kinds = ("/chat 200", "/chat 400", "/chat 413", "/v1/completions 200", "/tokenize 200", "left a stream", "looked")
    assert [kind for kind in kinds if not client.seen[kind]] == []
    assert not any("Traceback" in line or '"level": "error"' in line for line in server.lines)
