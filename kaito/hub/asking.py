"""Asking: requests to one hub about one model, with a token that goes nowhere else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from kaito.hub.errors import HubUnavailable, ModelUnusable
from kaito.hub.transport import HubAnswer, HubTransport, TooLarge

REQUEST_TIMEOUT_S = 30.0
MOST_REDIRECTS = 5
LIMIT_BYTES = 8 * 2**20
"""Of one answer. A page of a thousand files has 300 KB, the longest config.json that we know of 200 KB."""
PARSED_AT_ONCE_BYTES = 64 * 1024
"""Longer JSON is parsed by a thread: it takes more than a millisecond."""
_REDIRECTS = (301, 302, 303, 307, 308)
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?')


class Asking:
    """Asks one hub about one model.

    Args:
        transport: sends requests.
        endpoint: of the hub, without a slash at the end.
        model_id: for messages.
        way_out: what they advise where the hub cannot be reached; empty: nothing.
    """

    def __init__(self, transport: HubTransport, endpoint: str, model_id: str, way_out: str) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._model_id = model_id
        self._way_out = way_out

    async def get(self, url: str, token: str) -> HubAnswer:
        """GETs a URL of the hub, redirects followed; any status but those of redirects and of failure is an answer.

        The token goes to the hub's own origin only: not to another host, port or scheme.

        Raises:
            HubUnavailable: there was no answer, or none that makes sense.
            ModelUnusable: the answer is too large.
        """
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._once(url, token)
            location = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not location:
                return self._sound(answer)
            url = self._next_hop(url, location)
        raise self._unavailable(f"it redirected more than {MOST_REDIRECTS} times")

    async def json(self, answer: HubAnswer, what: str) -> object:
        """Parses an answer's body, in a thread if it is long; NaN and Infinity are tolerated.

        Raises:
            ModelUnusable: it is no JSON.
        """
        try:
            if len(answer.body) <= PARSED_AT_ONCE_BYTES:
                return json.loads(answer.body)
            return await asyncio.to_thread(json.loads, answer.body)
        # Nested too deeply; ValueError: not JSON, not UTF-8, or numbers with too many digits.
        except (ValueError, RecursionError) as error:
            raise ModelUnusable(
                f"{self._model_id}: its {what} at {self._endpoint} is no JSON ({type(error).__name__}): "
                f"is that a model hub, and is the file whole?"
            ) from error

    def next_page(self, url: str, answer: HubAnswer) -> str | None:
        """The URL of the next page of a list, if there is one.

        Raises:
            HubUnavailable: it is on another host.
        """
        found = _NEXT.search(answer.headers.get("link", "")[:4096])
        if found is None:
            return None
        target = self._joined(url, found[1])
        if origin(target) != origin(self._endpoint):
            raise self._unavailable("it says that its list goes on at another host")
        return target

    async def _once(self, url: str, token: str) -> HubAnswer:
        own = origin(url) == origin(self._endpoint)
        headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token and own else {}
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await self._transport.get(url, headers, LIMIT_BYTES)
        except TooLarge as error:
            raise ModelUnusable(
                f"{self._model_id}: an answer of {self._endpoint} has more than {LIMIT_BYTES // 2**20} MiB"
            ) from error
        # Before OSError, of which it is one.
        except TimeoutError as error:
            raise self._unavailable(f"no answer within {REQUEST_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    def _sound(self, answer: HubAnswer) -> HubAnswer:
        if answer.status == 429:
            wait_s = _seconds(answer.headers.get("retry-after", ""))
            raise HubUnavailable(
                f"{self._endpoint} is asked too often (429) to tell what {self._model_id} is: wait, or give the "
                f"operator a token (HF_TOKEN), for which more is allowed",
                wait_s,
            )
        if answer.status >= 500 or answer.status in (408, *_REDIRECTS):
            wait_s = _seconds(answer.headers.get("retry-after", ""))
            raise self._unavailable(f"it answered {answer.status}", wait_s)
        return answer

    def _next_hop(self, url: str, location: str) -> str:
        target = self._joined(url, location)
        if urlsplit(target).scheme not in ("https", urlsplit(url).scheme):
            raise self._unavailable(f"it redirects to {urlsplit(target).scheme or 'nowhere'}, which is not followed")
        return target

    def _joined(self, url: str, target: str) -> str:
        try:
            return urljoin(url, target)
        except ValueError as error:
            raise self._unavailable("it points to what is no URL") from error

    def _unavailable(self, cause: str, retry_after_s: float | None = None) -> HubUnavailable:
        text = f"{self._endpoint} cannot be asked what {self._model_id} is: {cause[:300]}"
        return HubUnavailable(f"{text}; {self._way_out}" if self._way_out else text, retry_after_s)


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL; what is no URL has none of them."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port or {"https": 443, "http": 80}.get(parts.scheme)


def _seconds(text: str) -> float | None:
    # The other form, a date, is not used by hubs.
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text.strip(), re.ASCII) else None
