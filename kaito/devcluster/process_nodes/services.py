"""Services: where the pods behind each Service are, and an address on this machine's loopback for people."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from kaito.client import Client
from kaito.client.errors import CacheNotSynced, KubeError, NotFound
from kaito.devcluster.ports import LOOPBACK, free_port
from kaito.devcluster.process_nodes.addresses import is_pod, local
from kaito.devcluster.process_nodes.forwarding import Forwarder, NoRoute, Stream, Target, dial, join
from kaito.devcluster.process_nodes.service_links import ServiceLink
from kaito.informers import Cache, InformerEvent
from kaito.kube.core_v1 import Service, ServicePort
from kaito.kube.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from kaito.kube.object_key import ObjectKey

log = logging.getLogger(__name__)

ADDRESS_ANNOTATION: Final = "process-node.kaito.sh/address"
"""Of a Service: where people on this machine reach its first TCP port: ``http://127.0.0.1:PORT``."""

_CLUSTER_IP_INDEX: Final = "spec.clusterIPs"
_RETRY_S: Final = 1.0
_LINKS_S: Final = 2.0
"""How long a container's start waits for the listeners of new Services."""
_ATTEMPTS: Final = 5

Place = tuple[ObjectKey, int]
"""A Service and a port of it."""


class Services:
    """Keeps a listener for each TCP port of each Service with a selector. An async context.

    A listener forwards each connection to a ready pod of the moment, in turns. It keeps its port as long as the Service
    has that port, and the first one of a Service also across restarts of the agent, if nobody took it.

    Args:
        client: writes the annotation.
        cache: of Services and EndpointSlices, which this declares; the caller's to run.
    """

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._listeners: dict[Place, Forwarder] = {}
        self._turns: Counter[Place] = Counter()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._cache.add_index(Service, _CLUSTER_IP_INDEX, lambda service: service.spec.cluster_ips)
        self._cache.add_label_index(EndpointSlice, SERVICE_NAME_LABEL)
        handler = self._cache.informer(Service).add_handler(self._note)
        self._resources.callback(handler.remove)
        self._resources.push_async_callback(self._close_listeners)
        keeping = asyncio.create_task(self._keep(), name="addresses of services")
        self._resources.push_async_callback(_end, keeping)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def behind(self, address: str, port: int) -> Target:
        """Where a ready pod of the Service with a ClusterIP is.

        Raises:
            NoRoute: there is no such Service, port or pod.
        """
        try:
            found = await self._cache.by_index(Service, _CLUSTER_IP_INDEX, address)
        except CacheNotSynced as error:
            raise NoRoute(502, "Services are not known yet; try again") from error
        for service in found:
            return await self._ready(service, port)
        raise NoRoute(403, f"{address} is neither a pod's nor a Service's address here")

    async def links(self, namespace: str) -> list[ServiceLink]:
        """How the Services of a namespace are reached; of those that have only just come, too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINKS_S):
                await self._cache.informer(Service).wait_synced()
                while not self._has(await self._living(namespace)):
                    self._settled.clear()
                    await self._settled.wait()
        found = []
        for service in await self._living(namespace):
            ports = ((port, self._listeners.get((service.key, port.port))) for port in _tcp(service))
            open_ = tuple((port, listener.port) for port, listener in ports if listener is not None)
            if open_ and service.spec.cluster_ip not in (None, "", "None"):
                found.append(ServiceLink(service.metadata.name, open_))
        return found

    def _has(self, services: Iterable[Service]) -> bool:
        return all(place in self._listeners for service in services for place in _places(service))

    async def _living(self, namespace: str | None = None) -> list[Service]:
        found = await self._cache.list(Service, namespace=namespace)
        return [each for each in found if each.metadata.deletion_timestamp is None]

    async def _ready(self, service: Service, number: int) -> Target:
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        port = next((port for port in _tcp(service) if port.port == number), None)
        if port is None:
            raise NoRoute(502, f"Service {name} has no TCP port {number}")
        try:
            slices = await self._cache.list(
                EndpointSlice,
                namespace=service.metadata.namespace,
                labels=f"{SERVICE_NAME_LABEL}={service.metadata.name}",
            )
        except CacheNotSynced as error:
            raise NoRoute(502, "EndpointSlices are not known yet; try again") from error
        targets = sorted({target for each in slices for target in _targets(each, port)})
        if not targets:
            raise NoRoute(502, f"Service {name} has no ready pod on a process node")
        place = (service.key, number)
        self._turns[place] += 1
        return targets[self._turns[place] % len(targets)]

    def _note(self, _event: InformerEvent[Service]) -> None:
        self._changed.set()

    async def _keep(self) -> None:
        """Brings listeners and annotations in line with the Services, whenever one changed; until cancelled."""
        await self._cache.informer(Service).wait_synced()
        while True:
            self._changed.clear()
            try:
                await self._settle()
            except (KubeError, OSError) as error:
                log.warning("addresses of Services are not up to date", extra={"why": str(error)})
                await asyncio.sleep(_RETRY_S)
            else:
                await self._changed.wait()

    async def _settle(self) -> None:
        services = await self._living()
        wanted = {place: service for service in services for place in _places(service)}
        for place in self._listeners.keys() - wanted.keys():
            del self._turns[place]
            await self._listeners.pop(place).close()
        for place, service in wanted.items():
            if place not in self._listeners:
                self._listeners[place] = await self._open(place, service)
        self._settled.set()
        for service in services:
            await self._annotate(service)

    async def _open(self, place: Place, service: Service) -> Forwarder:
        before = _annotated_port(service) if place == next(_places(service)) else None
        return await Forwarder(_bound(before), partial(self._serve, place)).__aenter__()

    async def _serve(self, place: Place, near: Stream) -> None:
        key, number = place
        try:
            service = await self._cache.get(Service, key)
        except KubeError as error:
            raise NoRoute(502, str(error)) from error
        await join(near, await dial(await self._ready(service, number)))

    async def _annotate(self, service: Service) -> None:
        """Writes where a Service is; takes away what only an agent can have written."""
        first = next(_places(service), None)
        said = None if first is None else f"http://{LOOPBACK}:{self._listeners[first].port}"
        if service.metadata.annotations.get(ADDRESS_ANNOTATION) == said:
            return
        with contextlib.suppress(NotFound):
            await self._client.patch(Service, service.key, {"metadata": {"annotations": {ADDRESS_ANNOTATION: said}}})

    async def _close_listeners(self) -> None:
        for listener in self._listeners.values():
            await listener.close()
        self._listeners.clear()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _tcp(service: Service) -> Iterator[ServicePort]:
    return (port for port in service.spec.ports if port.protocol in (None, "TCP"))


def _places(service: Service) -> Iterator[Place]:
    """The ports of a Service that get a listener."""
    return ((service.key, port.port) for port in _tcp(service) if service.spec.selector)


def _targets(endpoints: EndpointSlice, port: ServicePort) -> Iterator[Target]:
    """Where the ready pods of a slice listen on this machine."""
    numbers = [each.port for each in endpoints.ports if (each.name or "") == (port.name or "") and each.port]
    for endpoint in endpoints.endpoints:
        # The addresses of one endpoint lead to the same pod.
        address = next(iter(endpoint.addresses), "")
        if endpoint.conditions.ready is not False and is_pod(address):
            yield from (Target(local(address), number) for number in numbers)


def _annotated_port(service: Service) -> int | None:
    try:
        return urlsplit(service.metadata.annotations.get(ADDRESS_ANNOTATION, "")).port
    except ValueError:
        return None  # somebody's own words


def _bound(port: int | None) -> socket.socket:
    """A socket on a port of loopback: this one if it can be had, else any that is free."""
    for attempt in range(_ATTEMPTS):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, port if port and not attempt else free_port()))
        except OSError:
            listening.close()
            continue
        return listening
    raise OSError(f"no port on {LOOPBACK} could be had in {_ATTEMPTS} attempts")
