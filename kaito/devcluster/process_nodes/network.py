"""Network: what the API server, pods and people reach each other through, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from kaito.client import Client
from kaito.devcluster.egress import Egress
from kaito.devcluster.ports import LOOPBACK
from kaito.devcluster.process_nodes.addresses import KUBELET_PORT, NODE_ADDRESS, is_pod, local
from kaito.devcluster.process_nodes.forwarding import NoRoute, Target
from kaito.devcluster.process_nodes.kubelet_api import FindPod, KubeletApi, Summarize
from kaito.devcluster.process_nodes.proxy import Proxy
from kaito.devcluster.process_nodes.services import Services
from kaito.informers import Cache


@contextlib.asynccontextmanager
async def network(
    client: Client, cache: Cache, *, logs: Path, find_pod: FindPod, summarize: Summarize, egress: Egress | None
) -> AsyncIterator[Services]:
    """Keeps an address for each Service and, of a control plane on this machine, lets the API server in.

    Args:
        client: writes the addresses.
        cache: of Services and EndpointSlices, which this declares; the caller's to run.
        logs: the agent's folder of logs.
        find_pod: looks up pods bound to process nodes.
        summarize: says what a node and its pods use.
        egress: None: of a control plane elsewhere, which cannot reach this machine.
    """
    async with contextlib.AsyncExitStack() as parts:
        services = await parts.enter_async_context(Services(client, cache))
        if egress is not None:
            kubelet = await parts.enter_async_context(KubeletApi(logs, egress, find_pod, summarize))
            await parts.enter_async_context(Proxy(egress.socket, partial(_route, services, kubelet.port)))
        yield services


async def _route(services: Services, kubelet_port: int, address: str, port: int) -> Target:
    if is_pod(address):
        return Target(local(address), port)
    if address == NODE_ADDRESS:
        if port != KUBELET_PORT:
            raise NoRoute(403, f"a process node has nothing but its kubelet's port {KUBELET_PORT}")
        return Target(LOOPBACK, kubelet_port)
    return await services.behind(address, port)
