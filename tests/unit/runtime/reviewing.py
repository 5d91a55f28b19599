"""Reviewing: a transport that knows tokens and rights, as far as reviews go; all else is a fake API server's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kaito.client import Request, Response, ResponseStream
from kaito.kube.authentication_v1 import TokenReview
from kaito.kube.authorization_v1 import SubjectAccessReview
from kaito.kube.resource import Resource
from kaito.testing.fake_api import FakeApi


class Reviewing:
    """Answers TokenReviews and SubjectAccessReviews.

    Args:
        users: whose a token is.
        allowed: users who may.
        takes_s: seconds until an answer.

    Attributes:
        asked: how many reviews there were, by kind.
    """

    def __init__(self, users: Mapping[str, str], allowed: Iterable[str], takes_s: float = 0.0) -> None:
        self.users = users
        self.allowed = set(allowed)
        self.takes_s = takes_s
        self.asked: Counter[type[Resource]] = Counter()
        self._other = FakeApi(latency_s=(0.0, 0.0)).transport()

    async def send(self, request: Request) -> Response:
        for kind, review in ((TokenReview, self._token), (SubjectAccessReview, self._access)):
            if request.path == kind.resource_type.path():
                await asyncio.sleep(self.takes_s)
                self.asked[kind] += 1
                body = json.loads(bytes(request.body or b""))
                return Response(201, {}, json.dumps({"metadata": {}, **body, "status": review(body["spec"])}).encode())
        return await self._other.send(request)

    async def stream(self, request: Request) -> ResponseStream:
        return await self._other.stream(request)

    async def aclose(self) -> None:
        await self._other.aclose()

    def _token(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        user = self.users.get(spec["token"])
        return {"authenticated": user is not None, "user": {"username": user or ""}}

    def _access(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        return {"allowed": spec["user"] in self.allowed}
