"""Random histories of a real API server, seen through a proxy that breaks connections and answers meanwhile."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from kaito.client import ApiError, Client
from kaito.client.transport import AiohttpTransport, Request, Response
from kaito.devcluster.controlplane import ControlPlane
from kaito.informers import InformerOptions
from kaito.testing import eventually
from kaito.testing.fault_proxy import FaultProxy
from tests.unit.testing_histories.audience import Audience
from tests.unit.testing_histories.history import CRD, History, Json, Step, Wait, Widget, random_steps
from tests.unit.testing_histories.kind import kind_goes_and_comes

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAME = f"{CRDS}/{CRD['metadata']['name']}"
WAITS: tuple[Step, ...] = tuple(Wait(seconds) for seconds in (0.0, 0.01, 0.1, 0.5))
STEPS = 60
SETTLE_TIMEOUT_S = 60.0


class RealWorld:
    """History happens to a real API server; what breaks, breaks in the proxy.

    Args:
        client: past the proxy.
        proxy: what the informers see the server through.
        namespace: of the objects.
    """

    def __init__(self, client: Client, proxy: FaultProxy, namespace: str) -> None:
        self.faults = proxy.faults
        self._client = client
        self._proxy = proxy
        self._path = Widget.resource_type.path(namespace)

    async def request(
        self, method: str, path: str, body: Json | None = None, content_type: str = "application/json"
    ) -> Json | None:
        raw = None if body is None else json.dumps(body).encode()
        try:
            response = await self._client.request(Request(method, path, "", body=raw, content_type=content_type))
        except ApiError:
            return None
        answer: Json = json.loads(response.body)
        return answer

    def cut(self, how: Literal["reset", "close", "expire"]) -> None:
        # A proxy that says how a watch ends has to be told before: such endings are among the faults.
        self._proxy.cut()

    def compact(self) -> None:
        """Nobody compacts a real server at will: 410 is among the faults."""

    async def set_served(self, served: bool) -> None:
        if served:
            assert await self.request("POST", CRDS, CRD), "the kind comes"
        else:
            assert await self.request("DELETE", NAME), "the kind goes"
        await eventually(lambda: self._is_served(served), timeout_s=30.0, message=f"served: {served}")

    async def objects(self) -> list[Json]:
        found: list[Json] = json.loads((await self._listed()).body)["items"]
        return found

    async def _is_served(self, served: bool) -> bool:
        crd_is_there = await self.request("GET", NAME) is not None
        return crd_is_there is served and ((await self._listed()).status == 200) is served

    async def _listed(self) -> Response:
        return await self._client.transport.send(Request("GET", self._path, "list"))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_after_any_history_the_cache_and_every_handler_are_where_the_server_is(
    control_plane: ControlPlane, client: Client, namespace: str, seed: int
) -> None:
    async with FaultProxy(control_plane.kubeconfig) as proxy:
        world = RealWorld(client, proxy, namespace)
        await world.set_served(True)
        transport = AiohttpTransport(proxy.config)
        history = History(world, namespace)
        options = InformerOptions(namespaces=frozenset({namespace}))
        audience = Audience(history, transport, options, seed)

        async def settled() -> bool:
            audience.check(await world.objects())
            return True

        try:
            async with audience.listening():
                await history.play(random_steps(seed, STEPS, waits=WAITS))
                history.handler_comes()
                await history.settle()
                # What is silent now would be found out a minute and a half later.
                proxy.cut()
                await eventually(
                    settled, timeout_s=SETTLE_TIMEOUT_S, interval_s=0.2, message="caches are where the server is"
                )
        finally:
            await transport.aclose()
            await world.set_served(False)


async def test_when_a_kind_goes_its_objects_go_and_when_it_comes_again_it_is_watched_again(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    async with FaultProxy(control_plane.kubeconfig) as proxy:
        world = RealWorld(client, proxy, namespace)
        await world.set_served(True)
        try:
            await kind_goes_and_comes(world, client.transport, namespace)
        finally:
            await world.set_served(False)
