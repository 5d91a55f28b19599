"""Lists: page by page, cut short, and what happens when their moment is over."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kaito.client import Client, Gone, Handler, Request, Response
from kaito.kube import ConfigMap, ObjectMeta
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi

PATH = "/api/v1/namespaces/default/configmaps/m0000"


def played(main: Callable[[FakeApi, Client], Coroutine[Any, Any, None]], *, objects: int, history: int = 1000) -> None:
    async def run() -> None:
        api = FakeApi(history=history)
        async with Client(api.transport(), field_owner="tests") as client:
            for number in range(objects):
                await client.create(config_map(f"m{number:04}"))
            await main(api, client)

    virtual_clock.run(run())


def config_map(name: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"))


def names(page: Any) -> list[str]:
    return [obj.metadata.name for obj in page]


def asked(api: FakeApi) -> int:
    return sum(entry.verb == "list" for entry in api.log)


def test_pages_come_one_at_a_time_and_only_as_many_as_are_taken() -> None:
    async def main(api: FakeApi, client: Client) -> None:
        pages = [names(page) async for page in client.pages(ConfigMap, page_size=2)]
        assert pages == [["m0000", "m0001"], ["m0002", "m0003"], ["m0004"]]
        assert asked(api) == 3
        async for page in client.pages(ConfigMap, page_size=2):
            assert names(page) == ["m0000", "m0001"]
            break
        assert asked(api) == 4

    played(main, objects=5)


def test_pages_are_all_of_one_moment_whatever_is_written_between_them() -> None:
    async def main(api: FakeApi, client: Client) -> None:
        seen: list[str] = []
        versions = set()
        async for page in client.pages(ConfigMap, page_size=2):
            seen += names(page)
            versions.add(page.resource_version)
            await client.create(config_map(f"later{len(seen)}"))
        assert seen == ["m0000", "m0001", "m0002", "m0003"]
        assert len(versions) == 1

    played(main, objects=4)


def test_a_loop_that_takes_too_long_is_told_what_to_do() -> None:
    async def main(api: FakeApi, client: Client) -> None:
        pages = client.pages(ConfigMap, page_size=2)
        await anext(pages)
        for number in range(10):
            await client.create(config_map(f"z{number}"))
        with pytest.raises(Gone, match=r"list configmaps: .*begin it again, and take larger pages or spend less time"):
            await anext(pages)

    played(main, objects=4, history=5)


def test_a_list_whose_pages_expire_is_read_again_in_one_answer() -> None:
    async def main(api: FakeApi, client: Client) -> None:
        async def busy(request: Request, handler: Handler) -> Response:
            response = await handler(request)
            for number in range(10):
                api.call("PATCH", PATH, {"data": {"x": str(number)}}, content_type="application/merge-patch+json")
            return response

        among_writers = Client(api.transport(), field_owner="tests", middleware=[busy])
        found = await among_writers.list(ConfigMap)
        assert names(found) == [f"m{number:04}" for number in range(520)]
        assert found[0].data == {"x": "9"}  # of the second reading
        assert [entry.status for entry in api.log if entry.verb == "list"] == [200, 410, 200]
        await among_writers.aclose()

    played(main, objects=520, history=5)


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (500, 500), (501, 501), (600, 520), (None, 520)])
def test_a_list_stops_at_its_limit_and_asks_for_no_more_than_that(limit: int | None, expected: int) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        found = await client.list(ConfigMap, limit=limit)
        assert names(found) == [f"m{number:04}" for number in range(expected)]
        assert asked(api) == (1 if expected <= 500 else 2)

    played(main, objects=520)
