"""Preflight: what is missing is named once, and whoever grants it need not restart anything."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import Any

import pytest

from kaito.client import Client, Request, Response, ResponseStream, TransportError
from kaito.kube.core_v1 import Node, Pod, Secret
from kaito.runtime import Access
from kaito.runtime.preflight import CONCURRENCY, Preflight
from kaito.runtime.rbac import Need
from kaito.testing import virtual_clock

ACCOUNT = "system:serviceaccount:system:runner"


class Reviews:
    """An API server that answers reviews and nothing else.

    Args:
        denied: which ``verb resource`` it does not allow; ``*``: all.
    """

    def __init__(self, *denied: str, is_admin: bool = False) -> None:
        self.denied = set(denied)
        self.is_admin = is_admin
        self.is_away = False
        self.refuses: int | None = None
        self.asked: list[str] = []
        self.most = 0
        self._active = 0

    async def send(self, request: Request) -> Response:
        self._active += 1
        self.most = max(self.most, self._active)
        try:
            await asyncio.sleep(0.01)
            return self._answer(request)
        finally:
            self._active -= 1

    def _answer(self, request: Request) -> Response:
        if self.is_away:
            raise TransportError("away", sent=False)
        if self.refuses is not None:
            return Response(self.refuses, {}, b'{"kind":"Status","message":"no"}')
        body: dict[str, Any] = {"metadata": {}}
        if request.path.endswith("/selfsubjectreviews"):
            body["status"] = {"userInfo": {"username": ACCOUNT}}
        else:
            wanted = json.loads(request.body or b"{}")["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
            what = f"{wanted['verb']} {resource}"
            self.asked.append(what)
            allowed = self.is_admin or (what not in self.denied and "*" not in (*self.denied, wanted["verb"]))
            body["status"] = {"allowed": allowed}
        return Response(201, {}, json.dumps(body).encode())

    async def stream(self, request: Request) -> ResponseStream:
        raise AssertionError(request)

    async def aclose(self) -> None:
        pass


NEEDS = [
    Need(Access(Node, "get", "patch", "delete"), "controller machine"),
    Need(Access(Pod, "create", subresource="eviction"), "controller machine"),
    Need(Access(Secret, "get", namespace="demo"), "webhooks"),
]


def preflight(api: Reviews) -> Preflight:
    client = Client(api, field_owner="tests")
    return Preflight(client, lambda: NEEDS, remedy="grant it with: do this", rng=random.Random(1))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["error"] for record in caplog.records if record.message == "permission missing"]


def test_all_is_asked_a_few_at_a_time_and_it_ends_when_nothing_is_missing() -> None:
    async def main() -> None:
        api = Reviews("nothing")
        it = preflight(api)
        await it.run()
        wanted = ["get nodes", "patch nodes", "delete nodes", "create pods/eviction", "get secrets"]
        assert sorted(api.asked[1:]) == sorted(wanted)
        assert api.most <= CONCURRENCY
        assert it.fault() is None

    virtual_clock.run(main())


def test_an_administrator_is_asked_once() -> None:
    async def main() -> None:
        api = Reviews(is_admin=True)
        await preflight(api).run()
        assert api.asked == ["* *"]

    virtual_clock.run(main())


def test_what_is_missing_is_named_once_with_the_remedy_and_heals_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api = Reviews("patch nodes", "delete nodes", "get secrets")
        it = preflight(api)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(100)
        assert it.fault() == (
            "ServiceAccount system/runner may not patch, delete nodes: needed by controller machine; "
            "ServiceAccount system/runner may not get secrets in namespace demo: needed by webhooks"
        )
        asked = len(api.asked)
        assert asked < 60, "asked again with growing pauses, and only for what is missing"
        api.denied = {"get secrets"}
        await asyncio.sleep(20)
        assert it.fault() == "ServiceAccount system/runner may not get secrets in namespace demo: needed by webhooks"
        api.denied = {"nothing"}
        await asyncio.sleep(20)
        assert task.done()
        assert it.fault() is None

    with caplog.at_level(logging.INFO):
        virtual_clock.run(main())
    assert told(caplog) == [
        "ServiceAccount system/runner may not patch, delete nodes: needed by controller machine; "
        "grant it with: do this",
        "ServiceAccount system/runner may not get secrets in namespace demo: needed by webhooks; "
        "grant it with: do this",
    ]
    assert "all permissions are granted now" in [record.message for record in caplog.records]


def test_a_server_that_is_away_is_asked_later_and_nobody_is_accused_meanwhile() -> None:
    async def main() -> None:
        api = Reviews("patch nodes")
        api.is_away = True
        it = preflight(api)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(30)
        assert it.fault() is None
        api.is_away = False
        await asyncio.sleep(20)
        assert "may not patch nodes" in (it.fault() or "")
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


def test_refused_credentials_are_no_permission_and_are_tried_again() -> None:
    async def main() -> None:
        api = Reviews("patch nodes")
        api.refuses = 401
        it = preflight(api)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(5)
        assert "the credentials are refused" in (it.fault() or "")
        api.refuses = None
        await asyncio.sleep(20)
        assert "may not patch nodes" in (it.fault() or "")
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


def test_a_server_without_such_reviews_is_taken_at_its_word() -> None:
    async def main() -> None:
        api = Reviews()
        api.refuses = 404
        it = preflight(api)
        await it.run()
        assert it.fault() is None

    virtual_clock.run(main())


def test_of_many_missing_permissions_readiness_names_the_first() -> None:
    async def main() -> None:
        api = Reviews("*")
        needs = [Need(Access(kind, "get"), f"controller {kind.__name__}") for kind in (Node, Pod, Secret)]
        it = Preflight(Client(api, field_owner="tests"), lambda: [*needs, *NEEDS], rng=random.Random(1))
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1)
        text = it.fault() or ""
        assert text.count("may not") == 3
        assert text.endswith(" and 2 more")
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())
