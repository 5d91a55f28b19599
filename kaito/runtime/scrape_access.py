"""ScrapeAccess: who may read /metrics, as the API server says: whose token it is, and whether that one may."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from kaito.client.client import Client
from kaito.client.errors import KubeError, ServerTimeout, ServiceUnavailable, TooManyRequests, TransportError
from kaito.kube.authentication_v1 import TokenReview, TokenReviewSpec, UserInfo
from kaito.kube.authorization_v1 import NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from kaito.runtime.access import Access
from kaito.runtime.probes import Refusal

T = TypeVar("T")

log = logging.getLogger(__name__)

# controller-runtime's filters: how long each answer is believed, and how long one may take.
AUTHENTICATED_S = 60.0
ALLOWED_S = 300.0
DENIED_S = 30.0
UNAUTHENTICATED_S = 10.0
REVIEW_TIMEOUT_S = 10.0
REMEMBERED = 1024
ATTEMPTS = 5
FIRST_WAIT_S = 0.5

_NO_ANSWER = (TransportError, ServiceUnavailable, ServerTimeout, TooManyRequests)

NEEDS = (Access(TokenReview, "create"), Access(SubjectAccessReview, "create"))
"""What asking takes; the ClusterRole system:auth-delegator has it."""


class ScrapeAccess:
    """Authenticates bearer tokens by TokenReview, and authorizes whose they are by SubjectAccessReview.

    Both answers are remembered for a while, by a digest of the token, never the token itself. Of simultaneous questions
    about one token, one is asked.

    Args:
        client: asks; reviews are neither cached nor stored.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._users: _Memory[UserInfo | None] = _Memory()
        self._allowed: _Memory[bool] = _Memory()

    async def refusal(self, authorization: str, path: str, verb: str) -> Refusal | None:
        """Whether the owner of an Authorization header may do something; see `kaito.runtime.probes.Guard`.

        Returns:
            None if so; else 401 (no, or no good, token), 403 (not allowed) or 500 (the API server cannot say), and why.
        """
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return 401, "give a token of the cluster: Authorization: Bearer TOKEN"
        try:
            async with asyncio.timeout(REVIEW_TIMEOUT_S):
                return await self._review(token, path, verb)
        except (KubeError, TimeoutError) as error:
            why = str(error) or f"no answer within {REVIEW_TIMEOUT_S:.0f} s"
            log.warning("cannot tell who may scrape", extra={"path": path, "error": why})
            return 500, f"cannot ask the API server who may do this: {why}"

    async def _review(self, token: str, path: str, verb: str) -> Refusal | None:
        digest = hashlib.sha256(token.encode()).digest()
        user = await self._users.get((digest,), lambda: self._authenticate(token))
        if user is None:
            return 401, "the cluster does not know this token; it may have expired"
        allowed = await self._allowed.get((digest, path, verb), lambda: self._authorize(user, path, verb))
        if allowed:
            return None
        remedy = f"bind a ClusterRole with nonResourceURLs [{path}] and verbs [{verb}] to it"
        return 403, f"{user.username} may not {verb} {path}; {remedy}"

    async def _authenticate(self, token: str) -> tuple[UserInfo | None, float]:
        review = TokenReview(spec=TokenReviewSpec(token=token))
        status = (await _asked(lambda: self._client.create(review))).status
        return (status.user, AUTHENTICATED_S) if status.authenticated else (None, UNAUTHENTICATED_S)

    async def _authorize(self, user: UserInfo, path: str, verb: str) -> tuple[bool, float]:
        spec = SubjectAccessReviewSpec(
            user=user.username,
            groups=user.groups,
            uid=user.uid,
            extra=user.extra,
            non_resource_attributes=NonResourceAttributes(path=path, verb=verb),
        )
        status = (await _asked(lambda: self._client.create(SubjectAccessReview(spec=spec)))).status
        allowed = status.allowed and not status.denied
        return allowed, ALLOWED_S if allowed else DENIED_S


async def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks again, a few times, a server that did not answer; the caller has a timeout."""
    for attempt in range(ATTEMPTS):
        try:
            return await ask()
        except _NO_ANSWER:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(FIRST_WAIT_S * 1.5**attempt)
    raise AssertionError("unreachable")


class _Remembered(NamedTuple, Generic[T]):
    value: T
    until: float


class _Memory(Generic[T]):
    """Answers, each until its time is over; of too many the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], _Remembered[T]] = OrderedDict()
        self._asking: dict[tuple[object, ...], asyncio.Lock] = {}

    async def get(self, key: tuple[object, ...], ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """What is known, or else is answered now, with the seconds for which that counts."""
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                known = self._known.get(key)
                now = asyncio.get_running_loop().time()
                if known is not None and known.until > now:
                    return known.value
                value, seconds = await ask()
                self._known.pop(key, None)
                self._known[key] = _Remembered(value, asyncio.get_running_loop().time() + seconds)
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
                return value
        finally:
            if not lock.locked():
                self._asking.pop(key, None)
