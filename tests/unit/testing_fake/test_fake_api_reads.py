"""The fake API server: lists with pages and versions, and watches."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kaito.client.client import Client
from kaito.client.errors import Gone, ServerTimeout, TransportError
from kaito.client.transport import Request
from kaito.testing.fake_api import FakeApi

WIDGETS = "/apis/example.com/v1/widgets"
Json = dict[str, Any]


def listing(api: FakeApi, **query: str) -> Json:
    return api.call("GET", WIDGETS, query=query.items())


def names(page: Json) -> list[str]:
    return [item["metadata"]["name"] for item in page["items"]]


async def watch(api: FakeApi, **query: str) -> list[Json]:
    """The events of a watch until it ends."""
    asked = {"watch": "true", **query}
    stream = await api.transport().stream(Request("GET", WIDGETS, "watch", query=tuple(asked.items()), timeout_s=600))
    body = b"".join([chunk async for chunk in stream.chunks()])
    await stream.aclose()
    return [json.loads(line) for line in body.splitlines()]


def told(events: list[Json]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def test_pages_show_one_moment_whatever_is_written_between_them(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "abcd":
            await client.create(make(name))
        first = listing(api, limit="2")
        await client.delete(widget, make("c").key)
        await client.create(make("bb"))
        await client.patch(widget, make("d").key, {"spec": {"size": 5}})
        second = listing(api, limit="2", **{"continue": first["metadata"]["continue"]})
        assert names(first) + names(second) == ["a", "b", "c", "d"]
        assert second["items"][1]["spec"]["size"] == 1
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
        assert (first["metadata"]["remainingItemCount"], second["metadata"]["continue"]) == (2, "")

    play(main)


def test_a_page_of_a_compacted_moment_is_gone_and_can_be_gone_on_with(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "abc":
            await client.create(make(name))
        first = listing(api, limit="1")
        await client.create(make("d"))
        api.store.compact()
        query = (("limit", "1"), ("continue", first["metadata"]["continue"]))
        response = api.handle(Request("GET", WIDGETS, "list", query=query))
        status = json.loads(response.body)
        assert (response.status, status["reason"]) == (410, "Expired")
        assert names(listing(api, **{"continue": status["metadata"]["continue"]})) == ["b", "c", "d"]

    play(main)


def test_an_exact_version_is_read_as_it_was(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(make("a"))
        await client.delete(widget, made.key)
        exact = {"resourceVersion": made.metadata.resource_version, "resourceVersionMatch": "Exact"}
        assert names(listing(api, **exact)) == ["a"]
        assert names(listing(api, **(exact | {"resourceVersionMatch": "NotOlderThan"}))) == []

    play(main)


def test_a_version_to_come_is_a_timeout_with_its_cause(play: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        query = (("resourceVersion", "9999"),)
        with pytest.raises(ServerTimeout) as caught:
            await client.request(Request("GET", WIDGETS, "list", query=query))
        assert [cause.reason for cause in caught.value.causes] == ["ResourceVersionTooLarge"]
        assert caught.value.retry_after_s == 1

    play(main)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("colour=red", "a"),
        ("colour==red", "a"),
        ("colour!=red", "bc"),
        ("colour in (red, blue)", "ab"),
        ("colour notin (red),colour", "b"),
        ("colour", "ab"),
        ("!colour", "c"),
        ("colour in (red,blue),size>1", "b"),
        ("size<2", "a"),
        ("", "abc"),
    ],
)
def test_labels_select(play: Any, make: Any, widget: Any, selector: str, selected: str) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a", labels={"colour": "red", "size": "1"}))
        await client.create(make("b", labels={"colour": "blue", "size": "2"}))
        await client.create(make("c"))
        assert [one.metadata.name for one in await client.list(widget, labels=selector)] == list(selected)

    play(main)


def test_fields_of_built_in_kinds_select_by_any_path() -> None:
    api = FakeApi()
    for name, node in (("a", "n1"), ("b", "n2")):
        pod = {"metadata": {"name": name}, "spec": {"nodeName": node}}
        api.call("POST", "/api/v1/namespaces/default/pods", pod)
    assert names(api.call("GET", "/api/v1/pods", query=[("fieldSelector", "spec.nodeName=n2")])) == ["b"]
    assert names(api.call("GET", "/api/v1/pods", query=[("fieldSelector", "spec.nodeName!=n2")])) == ["a"]


def test_a_watch_goes_on_from_a_version_without_gap(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(make("a"))
        await client.patch(widget, made.key, {"spec": {"size": 2}})
        watched = asyncio.create_task(watch(api, resourceVersion=made.metadata.resource_version, timeoutSeconds="60"))
        await asyncio.sleep(10)
        await client.create(make("b"))
        await client.delete(widget, made.key)
        assert told(await watched) == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]

    play(main)


def test_a_deletion_carries_the_version_of_the_deletion(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(make("a"))
        await client.delete(widget, made.key)
        (event,) = await watch(api, resourceVersion=made.metadata.resource_version, timeoutSeconds="5")
        assert event["object"]["metadata"]["resourceVersion"] == str(api.store.version)

    play(main)


def test_leaving_a_selection_is_a_deletion_with_the_last_selected_state(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        since = str(api.store.version)
        made = await client.create(make("a"))
        for colour in ("red", "blue", "red"):
            await client.patch(widget, made.key, {"metadata": {"labels": {"colour": colour}}})
        events = await watch(api, resourceVersion=since, labelSelector="colour=red", timeoutSeconds="5")
        assert told(events) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]
        assert events[1]["object"]["metadata"]["labels"] == {"colour": "red"}

    play(main)


def test_a_streaming_list_ends_in_a_marked_bookmark_and_goes_on(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        asked = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
        watched = asyncio.create_task(watch(api, timeoutSeconds="30", **asked))
        await asyncio.sleep(1)
        await client.create(make("b"))
        events = await watched
        assert told(events) == [("ADDED", "a"), ("BOOKMARK", ""), ("ADDED", "b"), ("BOOKMARK", "")]
        assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    play(main)


def test_a_server_without_streaming_lists_says_so(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> int:
        query = (("watch", "1"), ("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan"))
        stream = await api.transport().stream(Request("GET", WIDGETS, "watch", query=query))
        return stream.status

    assert play(main, watch_list=False) == 422


def test_bookmarks_come_every_minute_to_those_who_ask(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        version = str(api.store.version)
        assert await watch(api, resourceVersion=version, timeoutSeconds="200") == []
        events = await watch(api, resourceVersion=version, timeoutSeconds="200", allowWatchBookmarks="1")
        assert [event["type"] for event in events] == ["BOOKMARK"] * 4

    play(main)


def test_a_watch_ends_after_its_timeout_of_virtual_time(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        began = asyncio.get_running_loop().time()
        await watch(api, timeoutSeconds="500")
        assert 500 < asyncio.get_running_loop().time() - began < 501

    play(main)


def test_a_watch_from_a_compacted_version_is_told_that_it_is_gone(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        old = str(api.store.version)
        await client.create(make("b"))
        api.store.compact()
        (event,) = await watch(api, resourceVersion=old)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        with pytest.raises(Gone):
            [one async for one in client.watch(widget, resource_version=old)]

    play(main)


def test_the_oldest_history_is_compacted_by_itself(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        first = await client.create(make("a"))
        for size in range(2, 30):
            await client.patch(widget, first.key, {"spec": {"size": size}})
        (event,) = await watch(api, resourceVersion=first.metadata.resource_version)
        assert event["object"]["reason"] == "Expired"

    play(main, history=10)


def test_a_silent_watch_breaks_after_the_clients_patience(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> float:
        query = (("watch", "1"), ("resourceVersion", str(api.store.version)))
        stream = await api.transport().stream(Request("GET", WIDGETS, "watch", query=query, timeout_s=65))
        with pytest.raises(TransportError, match="timed out"):
            [chunk async for chunk in stream.chunks()]
        return asyncio.get_running_loop().time()

    assert 65 < play(main) < 66


def test_an_abandoned_watch_leaves_nothing_behind(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        stream = await api.transport().stream(Request("GET", WIDGETS, "watch", query=(("watch", "1"),)))
        await stream.aclose()
        await stream.aclose()
        await client.create(make("a"))
        assert [chunk async for chunk in stream.chunks()] == []

    play(main)


@pytest.mark.parametrize("path", ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version"])
def test_discovery_documents_are_served(path: str) -> None:
    assert FakeApi().call("GET", path)
