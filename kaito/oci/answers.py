"""What registries answer: their errors as one line, their JSON, and bodies no longer than expected."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import aiohttp

from kaito.oci.errors import NotFoundError, OciError, RegistryError
from kaito.oci.retries import retry_after_s

BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What is raised where a connection cannot be made, or breaks."""

_MAX_TEXT = 300
_MAX_BODY_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 16


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The body.

    Raises:
        OciError: It is longer than the limit.
    """
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            response.close()
            raise OciError(f"{response.url.host} answers with more than {limit_bytes} bytes, which is no sane answer")
    return bytes(body)


async def read_json(response: aiohttp.ClientResponse) -> Any:
    """The body as JSON; None if it is none."""
    try:
        return json.loads(await read_body(response, _MAX_BODY_BYTES))
    except (ValueError, RecursionError):
        return None


async def read_error(response: aiohttp.ClientResponse) -> str:
    """What the body of a refusal says, as one line; empty if it says nothing, or cannot be read to its end."""
    if response.method == "HEAD":
        return ""
    with contextlib.suppress(OciError, *BROKEN):
        said = error_text(await read_json(response))
        return said or ("with a web page, as no registry does" if is_page(response) else "")
    return ""


def is_page(response: aiohttp.ClientResponse) -> bool:
    """Whether it is HTML, which comes from login pages, proxies and servers that are no registry."""
    return response.headers.get("Content-Type", "").lower().startswith("text/html")


def error_text(answer: Any) -> str:
    """Of {"errors": [{"code": …, "message": …}]}, and of what token servers say; empty if it says nothing."""
    errors = answer.get("errors") if isinstance(answer, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else answer
    if not isinstance(first, dict):
        return ""
    said = first.get("message") or first.get("error_description") or first.get("details") or first.get("error")
    said = said or first.get("code") or ""
    return " ".join(str(said).split())[:_MAX_TEXT]


async def refusal(response: aiohttp.ClientResponse, what: str, who: str, hint: str = "") -> RegistryError:
    """The error for an answer that is none of the expected ones.

    Args:
        response: read here.
        what: was asked for, such as `localhost:5000/a:1`.
        who: answered.
        hint: what to do about a missing one.
    """
    said = await read_error(response)
    if response.status == 404:
        reason = f" ({said})" if said else ""
        return NotFoundError(f"{what}: {who} has no such thing{reason}{hint}", status=404)
    told = f": {said}" if said else f" {response.reason or ''}".rstrip()
    wished_s = retry_after_s(response.headers.get("Retry-After"))
    return RegistryError(
        f"{what}: {who} answers {response.status}{told}", status=response.status, retry_after_s=wished_s
    )
