"""FakeHub: a model hub at the wire, in memory for virtual time, or on a port of loopback for real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from kaito.hub import Hub, HubToken
from kaito.hub.advice import IN_A_CLUSTER, Advice
from kaito.hub.transport import HubAnswer, HubTransport, TooLarge

IN_MEMORY = "https://hub.test"
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


class Asked(NamedTuple):
    """A request: host and port, path with its query, and the Authorization header."""

    host: str
    path: str
    authorization: str


Reply = Callable[[Asked], HubAnswer]


def answer(status: int = 200, body: object = b"", **headers: str) -> HubAnswer:
    """An answer with a body, bytes or JSON; underscores in names of headers stand for dashes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HubAnswer(status, {name.replace("_", "-").lower(): value for name, value in headers.items()}, data)


def tree(*sizes: int, start: int = 0) -> list[dict[str, object]]:
    """A list of files as hubs have it: weights of these sizes, and what lies beside them."""
    weights = [
        {"type": "file", "path": f"model-{start + number}.safetensors", "size": size, "oid": "x"}
        for number, size in enumerate(sizes)
    ]
    return [{"type": "directory", "path": "original", "size": 0}, {"type": "file", "path": "README.md"}, *weights]


class FakeHub:
    """A hub that answers as it is told, and notes what it was asked.

    Attributes:
        replies: by the beginning of the path, the longest first.
        asked: in order.
        delay_s: how long every answer takes.
        down: whether nothing answers at all.
    """

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[Asked] = []
        self.delay_s = 0.0
        self.down = False

    def hub(self, endpoint: str = IN_MEMORY, token: HubToken | None = None, advice: Advice = IN_A_CLUSTER) -> Hub:
        """Who asks it, in memory."""
        return Hub(endpoint, token, self.connect, advice)

    def has(self, model_id: str, config: Mapping[str, object] = LLAMA, *, gib: float = 15.0) -> None:
        """It has a model that everybody may see."""
        self.says(f"/api/models/{model_id}/tree/", answer(body=tree(int(gib * 2**30))))
        self.says(f"/{model_id}/resolve/", answer(body=config))

    def says(self, start: str, reply: HubAnswer | Reply) -> None:
        """It answers paths that begin so in this way."""
        self.replies[start] = reply if callable(reply) else lambda _: reply

    def reply(self, asked: Asked) -> HubAnswer:
        """What it answers."""
        self.asked.append(asked)
        for start in sorted(self.replies, key=len, reverse=True):
            if asked.path.startswith(start):
                return self.replies[start](asked)
        # So the public hub speaks to those it does not know; to others it says 404.
        return answer(404 if asked.authorization else 401, x_error_code="RepoNotFound")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[HubTransport]:
        """Opens a transport that ends in it."""
        yield self

    async def get(self, url: str, headers: Mapping[str, str], limit_bytes: int) -> HubAnswer:
        """As `HubTransport` has it."""
        await asyncio.sleep(self.delay_s)
        if self.down:
            raise ConnectionError("Cannot connect to host hub.test")
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        found = self.reply(Asked(parts.netloc, path, headers.get("Authorization", "")))
        if len(found.body) > limit_bytes:
            raise TooLarge
        return found

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listens on a free port of loopback; gives its URL."""

        async def handle(request: web.Request) -> web.Response:
            authorization = request.headers.get("Authorization", "")
            found = self.reply(Asked(request.host, request.path_qs, authorization))
            return web.Response(status=found.status, headers=dict(found.headers), body=found.body)

        runner = web.AppRunner(_routed(handle))
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def _routed(handle: Callable[[web.Request], object]) -> web.Application:
    application = web.Application()
    application.router.add_route("GET", "/{path:.*}", handle)  # type: ignore[arg-type]  # it is a coroutine function
    return application
