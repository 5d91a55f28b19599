"""Discovery: asked once, asked again on a miss but not often, and not at the mercy of one broken group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from kaito.client import AiohttpTransport, ApiError, Client, Config, Discovery, NoSuchKind, Request, Response
from kaito.client.discovery import REFRESH_S
from kaito.kube import ConfigMap, Deployment, ResourceType
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi

T = TypeVar("T")

WIDGET = ResourceType("example.com", "v1", "Widget", "widgetz")


def resource(kind: ResourceType, **more: Any) -> dict[str, Any]:
    return {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.kind.lower(),
        "verbs": ["get", "list"],
    } | more


def group(name: str, *versions: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "versions": list(versions)}


def version(name: str, *resources: dict[str, Any], freshness: str = "Current") -> dict[str, Any]:
    return {"version": name, "resources": list(resources), "freshness": freshness}


def document(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": list(groups)}


CORE = document(group("", version("v1", resource(ConfigMap.resource_type, shortNames=["cm"]))))
APPS = group(
    "apps",
    version("v1", resource(Deployment.resource_type, subresources=[{"subresource": "scale"}])),
    version("v1beta1", resource(Deployment.resource_type._replace(version="v1beta1"))),
)


@pytest.fixture
async def client(server: Any) -> AsyncIterator[Client]:
    async with Client(AiohttpTransport(Config(server.url)), field_owner="tests") as opened:
        yield opened


def paths(server: Any) -> list[str]:
    return [asked.path for asked in server.asked]


def script(server: Any, *others: dict[str, Any], core: dict[str, Any] = CORE) -> None:
    """Answers by path: the two requests are sent at once, in either order."""
    answers = {"/api": core, "/apis": document(*others)}

    def answer() -> None:
        server.default = (200, {}, answers[server.asked[-1].path])

    server.on_request = answer


async def test_everything_is_asked_for_in_two_requests_and_remembered(server: Any, client: Client) -> None:
    script(server, APPS)
    found = await client.discovery.find("apps/v1", "Deployment")
    assert (found.type, found.verbs, found.subresources) == (Deployment.resource_type, ("get", "list"), ("scale",))
    assert await client.discovery.resource_type("v1", "ConfigMap") == ConfigMap.resource_type
    assert sorted(paths(server)) == ["/api", "/apis"]
    assert all("apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" in asked.headers["accept"] for asked in server.asked)


async def test_the_first_version_of_a_group_is_the_preferred_one(server: Any, client: Client) -> None:
    script(server, APPS)
    assert (await client.discovery.preferred("apps", "Deployment")).type.version == "v1"
    assert (await client.discovery.find("apps/v1beta1", "Deployment")).type.version == "v1beta1"


@pytest.mark.parametrize("name", ["cm", "ConfigMap", "configmaps", "configmap", "CONFIGMAPS"])
async def test_a_kind_answers_to_all_of_its_names(server: Any, client: Client, name: str) -> None:
    script(server, APPS)
    assert (await client.discovery.named(name)).type == ConfigMap.resource_type
    assert (await client.discovery.named("deployments.apps")).type == Deployment.resource_type
    with pytest.raises(NoSuchKind):
        await client.discovery.named("deployments.batch")


async def test_a_class_over_plain_json_gets_its_exact_place(server: Any, client: Client) -> None:
    script(server, group("example.com", version("v1", resource(WIDGET._replace(namespaced=False)))))
    kind = await client.discovery.unstructured("example.com/v1", "Widget")
    assert kind.resource_type == WIDGET._replace(namespaced=False)


async def test_many_who_ask_at_once_share_one_fetch(server: Any, client: Client) -> None:
    script(server, APPS)
    await asyncio.gather(*(client.discovery.find("apps/v1", "Deployment") for _ in range(20)))
    assert len(server.asked) == 2


async def test_a_broken_group_harms_no_other_and_is_named_where_the_kind_may_be_in_it(
    server: Any, client: Client
) -> None:
    script(server, APPS, group("metrics.k8s.io", version("v1beta1", freshness="Stale")))
    await client.discovery.find("apps/v1", "Deployment")
    with pytest.raises(NoSuchKind, match=r"may be in metrics\.k8s\.io/v1beta1, which cannot be discovered") as raised:
        await client.discovery.find("metrics.k8s.io/v1beta1", "PodMetrics")
    assert raised.value.broken == ("metrics.k8s.io/v1beta1",)
    with pytest.raises(NoSuchKind) as raised:
        await client.discovery.find("apps/v1", "PodMetrics")
    assert (raised.value.broken, "metrics" in str(raised.value)) == ((), False)
    with pytest.raises(NoSuchKind) as raised:
        await client.discovery.named("podmetrics")  # of no group, so it may be in any
    assert raised.value.broken == ("metrics.k8s.io/v1beta1",)


async def test_a_kind_that_is_described_wrongly_harms_no_other(server: Any, client: Client) -> None:
    sound = WIDGET._replace(kind="Sound", plural="sounds")
    script(server, APPS, group("example.com", version("v1", resource(WIDGET, verbs=None), resource(sound))))
    await client.discovery.find("apps/v1", "Deployment")
    assert await client.discovery.resource_type("example.com/v1", "Sound") == sound
    with pytest.raises(NoSuchKind, match=r"may be in example\.com/v1, which cannot be discovered"):
        await client.discovery.find("example.com/v1", "Widget")


async def test_the_error_tells_what_may_have_been_meant(server: Any, client: Client) -> None:
    script(server, APPS)
    cases = [
        ("apps/v1", "Deploymet", r"serves no apps/v1 Deploymet; did you mean Deployment \(apps/v1\), "),
        (
            "extensions/v1",
            "Deployment",
            r"Deployment \(apps/v1beta1\)\? \(this may be 10 s old; client.discovery.forget\(\) has it asked anew\)$",
        ),
        ("apps/v1", "deployment", r"did you mean Deployment \(apps/v1\)"),
        ("example.com/v1", "Xylophone", r"no example\.com/v1 Xylophone; install its CustomResourceDefinition"),
    ]
    for api_version, kind, text in cases:
        with pytest.raises(NoSuchKind, match=text) as raised:
            await client.discovery.find(api_version, kind)
        assert (raised.value.api_version, raised.value.kind) == (api_version, kind)


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b'{"items": 7}'])
async def test_what_is_no_discovery_document_is_said_to_be_none(server: Any, client: Client, body: bytes) -> None:
    server.default = (200, {}, body)
    with pytest.raises(ApiError, match=r"GET /apis?: what came back is no discovery document"):
        await client.discovery.kinds()


def played(main: Callable[[FakeApi, Discovery, list[str]], Coroutine[Any, Any, T]]) -> T:
    """Runs on a server that knows only the older documents, in virtual time; the list has the paths asked for."""

    async def run() -> T:
        api = FakeApi()
        async with Client(api.transport(), field_owner="tests") as client:
            asked: list[str] = []

            async def ask(request: Request) -> Response:
                asked.append(request.path)
                return await client.request(request)

            return await main(api, Discovery(ask), asked)

    return virtual_clock.run(run())


def test_a_server_without_aggregated_discovery_is_asked_group_by_group() -> None:
    async def main(api: FakeApi, discovery: Discovery, asked: list[str]) -> None:
        found = await discovery.find("apps/v1", "Deployment")
        assert (found.type, found.subresources) == (Deployment.resource_type, ("status",))
        assert (await discovery.resource_type("v1", "Node")).namespaced is False
        assert {"/api", "/apis", "/api/v1", "/apis/apps/v1", "/apis/batch/v1"} <= set(asked)
        assert len(asked) == len(set(asked))

    played(main)


def test_a_group_that_does_not_answer_harms_no_other_on_such_a_server_either() -> None:
    async def main(api: FakeApi, discovery: Discovery, asked: list[str]) -> None:
        whole = discovery._ask

        async def ask(request: Request) -> Response:
            if request.path == "/apis/apps/v1":
                raise ApiError("503 ServiceUnavailable: no endpoints", status=503)
            return await whole(request)

        broken = Discovery(ask)
        assert await broken.resource_type("v1", "ConfigMap") == ConfigMap.resource_type
        with pytest.raises(NoSuchKind, match="may be in apps/v1, which cannot be discovered now: 503 ServiceUnav"):
            await broken.find("apps/v1", "Deployment")

    played(main)


def test_a_kind_that_came_later_is_found_and_a_wrong_one_does_not_hammer_the_server() -> None:
    async def main(api: FakeApi, discovery: Discovery, asked: list[str]) -> None:
        for _ in range(50):
            with pytest.raises(NoSuchKind):
                await discovery.find("example.com/v1", "Widget")
        assert asked.count("/apis") == 1
        api.register(WIDGET)
        with pytest.raises(NoSuchKind):  # what was learnt a moment ago stands
            await discovery.find("example.com/v1", "Widget")
        await asyncio.sleep(REFRESH_S)
        assert await discovery.resource_type("example.com/v1", "Widget") == WIDGET
        assert asked.count("/apis") == 2
        await asyncio.sleep(10 * REFRESH_S)
        await discovery.find("example.com/v1", "Widget")
        assert asked.count("/apis") == 2

    played(main)


def test_what_was_known_is_forgotten_when_told_to() -> None:
    async def main(api: FakeApi, discovery: Discovery, asked: list[str]) -> None:
        await discovery.kinds()
        api.register(WIDGET)
        discovery.forget()
        assert await discovery.resource_type("example.com/v1", "Widget") == WIDGET

    played(main)


def test_a_fetch_that_is_given_up_leaves_the_next_one_to_others() -> None:
    async def main(api: FakeApi, discovery: Discovery, asked: list[str]) -> None:
        first = asyncio.create_task(discovery.kinds())
        second = asyncio.create_task(discovery.kinds())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        assert await second

    played(main)
