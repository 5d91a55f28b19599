"""The fault proxy before a real API server: what goes through it, as whom, and what breaks when it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaito.client import (
    ApiError,
    Client,
    Config,
    Forbidden,
    Gone,
    NotFound,
    TooManyRequests,
    TransportError,
)
from kaito.client.errors import InternalError, KubeError
from kaito.client.transport import AiohttpTransport, Request
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from kaito.testing.fake_api import (
    Alter,
    CutAnswer,
    CutWatch,
    Delay,
    Drop,
    FailWatch,
    Fault,
    Hang,
    Refuse,
    Trickle,
    throttled,
    version_expired,
)
from kaito.testing.fault_proxy import FaultProxy, Write


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(control_plane.kubeconfig) as made:
        yield made


@pytest.fixture
async def through(proxy: FaultProxy) -> AsyncIterator[Client]:
    """A client of the proxy that retries nothing."""
    async with Client(AiohttpTransport(proxy.config), field_owner="tests") as made:
        yield made


def config_map(namespace: str, name: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, labels=FrozenDict(t="1")))


async def made(client: Client, namespace: str, names: str) -> str:
    """Makes objects and returns the resourceVersion of the first."""
    first, *_ = [await client.create(config_map(namespace, name)) for name in names]
    return first.metadata.resource_version


async def watched(client: Client, namespace: str, since: str = "", timeout_s: int = 1) -> tuple[list[str], str]:
    """What a watch told, and the error that it ended in."""
    seen: list[str] = []
    try:
        async for event in client.watch(
            ConfigMap, namespace=namespace, labels="t=1", timeout_s=timeout_s, resource_version=since
        ):
            if event.type != "BOOKMARK":
                seen.append(event.object.metadata.name)
    except KubeError as error:
        return seen, f"{type(error).__name__}: {error}"
    return seen, ""


async def test_clients_and_kubectl_work_through_it(
    proxy: FaultProxy, through: Client, control_plane: ControlPlane, namespace: str
) -> None:
    key = (await through.create(config_map(namespace, "a"))).key
    assert (await through.patch(ConfigMap, key, {"data": {"x": "é"}})).data == {"x": "é"}
    assert [obj.metadata.name for obj in await through.list(ConfigMap, namespace=namespace, labels="t=1")] == ["a"]
    told = await control_plane.kubectl(
        "--kubeconfig", str(proxy.kubeconfig), "-n", namespace, "get", "configmap", "a", "-o", "jsonpath={.data.x}"
    )
    assert told == "é"
    await control_plane.kubectl("--kubeconfig", str(proxy.kubeconfig), "-n", namespace, "delete", "configmap", "a")
    with pytest.raises(NotFound):
        await through.get(ConfigMap, key)


async def test_it_asks_as_the_user_of_the_kubeconfig_whatever_its_clients_say(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with FaultProxy(control_plane.add_user("fault-proxy-nobody")) as proxy:
        transport = AiohttpTransport(proxy.config)
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        async with Client(transport, field_owner="tests") as client:
            with pytest.raises(Forbidden, match='User "fault-proxy-nobody" cannot list'):
                await client.request(Request("GET", path, "list", headers={"Authorization": "Bearer x"}))


async def test_nobody_without_its_certificate_gets_the_users_rights(proxy: FaultProxy) -> None:
    authority = proxy._authority.certificate_pem.decode()
    stranger = Config(host=proxy.url, ssl=ssl.create_default_context(cadata=authority))
    untrusting = Config(host=proxy.url, ssl=ssl.create_default_context())
    for config in (stranger, untrusting):
        async with Client(AiohttpTransport(config), field_owner="tests") as client:
            with pytest.raises(TransportError):
                await client.list(ConfigMap)


async def test_it_notes_every_write_and_no_read(proxy: FaultProxy, through: Client, namespace: str) -> None:
    key = (await through.create(config_map(namespace, "a"))).key
    await through.get(ConfigMap, key)
    await through.patch(ConfigMap, key, {"data": {"x": "1"}}, dry_run=True)
    proxy.faults.add(Fault(Refuse(500), verb="delete"))
    with pytest.raises(InternalError):
        await through.delete(ConfigMap, key)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert proxy.writes == [
        Write("POST", path, False),
        Write("PATCH", f"{path}/a", True),
        Write("DELETE", f"{path}/a", False),
    ]
    assert [write.kind for write in proxy.writes] == ["POST configmaps", "PATCH configmaps", "DELETE configmaps"]
    assert Write("PATCH", "/apis/kaito.sh/v1/namespaces/n/workspaces/w/status", False).kind == "PATCH workspaces/status"
    assert Write("POST", "/api/v1/namespaces", False).kind == "POST namespaces"


@pytest.mark.parametrize("handled", [False, True])
async def test_a_write_can_break_before_it_is_sent_or_before_it_is_answered(
    proxy: FaultProxy, through: Client, client: Client, namespace: str, handled: bool
) -> None:
    acted: list[bool] = []
    fault = Fault(Drop(handled=handled, act=lambda: acted.append(True)), verb="create", nth=2)
    proxy.faults.add(fault)
    await through.create(config_map(namespace, "a"))
    assert not acted
    with pytest.raises(TransportError) as caught:
        await through.create(config_map(namespace, "b"))
    assert caught.value.sent
    assert acted == [True]
    found = await client.list(ConfigMap, namespace=namespace, labels="t=1")
    assert [obj.metadata.name for obj in found] == (["a", "b"] if handled else ["a"])
    await through.create(config_map(namespace, "c"))


@pytest.mark.parametrize(
    ("how", "torn", "ends"),
    [
        ("reset", False, "reset by peer"),
        ("reset", True, "reset by peer"),
        ("close", False, ""),
        ("close", True, ""),
        ("expire", False, "Gone"),
    ],
)
async def test_a_watch_is_cut_after_so_many_events(
    proxy: FaultProxy, through: Client, namespace: str, how: Any, torn: bool, ends: str
) -> None:
    await made(through, namespace, "abc")
    proxy.faults.add(Fault(CutWatch(after=2, how=how, torn=torn), verb="watch"))
    seen, error = await watched(through, namespace, timeout_s=3)
    assert seen == ["a", "b"]
    assert ends in error
    assert bool(ends) is bool(error)


async def test_a_silent_watch_is_neither_closed_nor_reset(proxy: FaultProxy, through: Client, namespace: str) -> None:
    await made(through, namespace, "ab")
    proxy.faults.add(Fault(CutWatch(after=1, how="silence"), verb="watch"))
    path, query = f"/api/v1/namespaces/{namespace}/configmaps", (("watch", "1"), ("labelSelector", "t=1"))
    stream = await through.transport.stream(Request("GET", path, "watch", query=query, timeout_s=0.5))
    chunks = stream.chunks()
    assert b'"name":"a"' in await anext(chunks)
    with pytest.raises(TransportError, match="timed out"):
        await anext(chunks)
    await stream.aclose()


@pytest.mark.parametrize(("how", "told"), [("drop", "bd"), ("double", "bccd")])
async def test_events_of_a_watch_are_dropped_and_doubled(
    proxy: FaultProxy, through: Client, namespace: str, how: Any, told: str
) -> None:
    since = await made(through, namespace, "abcd")
    proxy.faults.add(Fault(Alter(how, nth=2), verb="watch"))
    proxy.faults.add(Fault(CutWatch(after=len(told), how="close"), verb="watch"))
    assert await watched(through, namespace, since) == (list(told), "")


@pytest.mark.parametrize(
    ("error", "kind"), [(throttled(3), TooManyRequests), (Refuse(500), InternalError), (version_expired(), Gone)]
)
async def test_it_refuses_with_429_500_and_410_as_an_answer_and_within_a_watch(
    proxy: FaultProxy, through: Client, namespace: str, error: Refuse, kind: type[ApiError]
) -> None:
    proxy.faults.add(Fault(error))
    with pytest.raises(kind) as caught:
        await through.create(config_map(namespace, "a"))
    assert caught.value.retry_after_s == error.retry_after_s
    await made(through, namespace, "a")
    proxy.faults.add(Fault(FailWatch(error, after=1), verb="watch"))
    watch = through.watch(ConfigMap, namespace=namespace, labels="t=1")
    assert (await anext(watch)).object.metadata.name == "a"
    with pytest.raises(kind):
        await anext(watch)


async def test_it_delays_trickles_hangs_and_cuts_answers(proxy: FaultProxy, through: Client, namespace: str) -> None:
    loop = asyncio.get_running_loop()
    await made(through, namespace, "a")
    request = Request("GET", f"/api/v1/namespaces/{namespace}/configmaps/a", "get", timeout_s=1.0)
    for slow in (Delay(0.3), Trickle(size=50, pause_s=0.02)):
        proxy.faults.add(Fault(slow))
        began = loop.time()
        assert (await through.transport.send(request)).status == 200
        assert loop.time() - began > 0.15
    proxy.faults.add(Fault(Hang()))
    with pytest.raises(TransportError, match="timed out"):
        await through.transport.send(request)
    proxy.faults.add(Fault(CutAnswer(), nth=1))
    with pytest.raises(TransportError) as caught:
        await through.transport.send(request)
    assert not caught.value.timed_out


async def test_while_it_is_away_connections_are_refused_and_open_ones_break(
    proxy: FaultProxy, through: Client, namespace: str
) -> None:
    since = await made(through, namespace, "a")
    task = asyncio.create_task(watched(through, namespace, since, timeout_s=30))
    await made(through, namespace, "b")
    await eventually(lambda: len(proxy._handlers) == 1)
    async with proxy.away():
        assert (await task)[1].startswith("TransportError")
        with pytest.raises(TransportError) as caught:
            await through.list(ConfigMap, namespace=namespace)
        assert not caught.value.sent
    assert (await through.get(ConfigMap, ObjectKey("b", namespace))).metadata.name == "b"


async def test_it_leaves_nothing_behind_though_watches_are_open(control_plane: ControlPlane, namespace: str) -> None:
    async with FaultProxy(control_plane.kubeconfig) as proxy:
        kubeconfig = proxy.kubeconfig
        assert kubeconfig.stat().st_mode & 0o077 == 0
        client = Client(AiohttpTransport(proxy.config), field_owner="tests")
        task = asyncio.create_task(watched(client, namespace, timeout_s=30))
        await eventually(lambda: proxy._handlers)
    assert (await task)[1].startswith("TransportError")
    assert not kubeconfig.parent.exists()
    await client.aclose()
