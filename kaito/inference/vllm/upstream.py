"""What we ask vLLM's server over loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
from multidict import CIMultiDict

from kaito.inference.errors import BadRequest, ModelNotFound, RequestError, Unavailable

_WAITING = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)
_LOOK_S = 5.0
"""For an answer to a question that vLLM answers at once."""


class Upstream:
    """vLLM's server on a port of loopback; made in the loop that uses it."""

    def __init__(self, port: int, key: str) -> None:
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            # How many run at once is for admission to say.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def close(self) -> None:
        """Closes its connections."""
        await self._session.close()

    async def open(
        self, method: str, path: str, *, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> aiohttp.ClientResponse:
        """Sends a request and waits for the head of the answer, whose `close` ends it in vLLM, too.

        Raises:
            Unavailable: vLLM does not answer.
        """
        try:
            return await self._session.request(
                method, path, headers=CIMultiDict(headers), data=body or None, allow_redirects=False
            )
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise gone() from error

    async def problem(self) -> str | None:
        """Why vLLM is not well; none if it is."""
        try:
            async with self._session.get("/health", timeout=aiohttp.ClientTimeout(_LOOK_S)) as response:
                return None if response.status == 200 else f"vLLM answers /health with {response.status}"
        except TimeoutError:
            return f"vLLM did not answer /health within {_LOOK_S:g} s"
        except aiohttp.ClientError as error:
            return f"vLLM does not answer: {error}"

    async def max_model_len(self, name: str) -> int:
        """Tokens of prompt and answer together, as vLLM decided."""
        cards = (await self._json("/v1/models"))["data"]
        return next(int(card["max_model_len"]) for card in cards if card["id"] == name)

    async def fields(self) -> dict[str, frozenset[str]]:
        """Names of the fields that each path's body may have in this version of vLLM, as its own schema lists them."""
        try:
            schema = await self._json("/openapi.json")
        except RequestError:
            # Turned off by --disable-fastapi-docs.
            return {}
        found = {path: _properties(schema, operations.get("post", {})) for path, operations in schema["paths"].items()}
        return {path: names for path, names in found.items() if names}

    async def metrics(self) -> str:
        """In Prometheus' text format; empty if it does not answer."""
        try:
            async with self._session.get("/metrics", timeout=aiohttp.ClientTimeout(_LOOK_S)) as response:
                return await response.text() if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def _json(self, path: str) -> Any:
        response = await self.open("GET", path)
        async with response:
            if response.status != 200:
                raise await refusal(response)
            return await response.json()


def waiting(metrics: str) -> int:
    """Requests in vLLM's queue, of all its engines."""
    return int(sum(float(count) for count in _WAITING.findall(metrics)))


def gone() -> Unavailable:
    """What a client is told when vLLM's server is not there."""
    return Unavailable("vLLM does not answer: it has ended, or is ending; see /health", retry_after_s=10)


async def refusal(response: aiohttp.ClientResponse) -> RequestError:
    """The error that vLLM answered with."""
    text = await response.text(errors="replace")
    message, param = f"vLLM answered with status {response.status}: {text[:500]}", None
    try:
        error = json.loads(text)["error"]
        message, param = str(error["message"]), error.get("param")
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    match response.status:
        case 400 | 413 | 422:
            return BadRequest(message, param=param)
        case 404:
            return ModelNotFound(message, param=param)
        case 429 | 503:
            return Unavailable(message, retry_after_s=2)
        case _:
            return RequestError(message)


def _properties(schema: Mapping[str, Any], operation: Mapping[str, Any]) -> frozenset[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    component = schema.get("components", {}).get("schemas", {}).get(reference.rpartition("/")[2], {})
    return frozenset(component.get("properties", {}))
