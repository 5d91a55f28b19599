"""What there is of a Workspace, read from a cluster; what whoever asks may not see is noted, and the rest is read."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.cli.explain.seen import Seen
from kaito.cli.explain.tree import LogSource
from kaito.cli.rights import Right, refused_user
from kaito.client.client import Client
from kaito.client.errors import ApiError, Forbidden, KubeError, NoSuchKind, NotFound
from kaito.client.transport import Request
from kaito.controllers.claims import Claim
from kaito.controllers.workspace.release import selector
from kaito.kube.apps_v1 import Deployment, ReplicaSet, StatefulSet
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.events_v1 import Event
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

LOG_LINES = 10
CLUSTER_EVENTS_NAMESPACE = "default"
"""Where events lie of what is in no namespace: nodes and claims."""


@dataclass(frozen=True, slots=True)
class Log:
    """The end of a container's log.

    Attributes:
        lines: the last ones, oldest first.
        note: why there are none, or which run they are of.
        missing: the right that reading it needs, if it was refused.
    """

    lines: tuple[str, ...] = ()
    note: str = ""
    missing: Right | None = None


class Fetcher:
    """Reads the parts of one Workspace after another.

    Args:
        client: live.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._withheld: list[Right] = []
        self._user = ""

    async def seen(self, workspace: Workspace) -> Seen:
        """Reads everything that belongs to a Workspace.

        Raises:
            ApiError: the server refused for another reason than missing rights.
            TransportError: no answer.
        """
        self._withheld = []
        namespace, name = workspace.metadata.namespace, workspace.metadata.name
        mine = f"{keys.WORKSPACE_LABEL}={name}"
        claims: list[Claim] = [*await self._list(Machine, None, selector(workspace.key))]
        claims += await self._list(NodeClaim, None, selector(workspace.key))
        found = [await self._get(kind, workspace.key) for kind in (Deployment, StatefulSet)]
        workloads = [each for each in found if isinstance(each, Deployment | StatefulSet)]
        pods = sorted(await self._list(Pod, namespace, mine), key=lambda pod: pod.metadata.name)
        nodes, gone = await self._nodes(workspace, claims, pods)
        return Seen(
            workspace,
            datetime.now(UTC),
            tuple(claims),
            tuple(nodes),
            gone,
            tuple(workloads),
            tuple(await self._list(ReplicaSet, namespace, mine)),
            tuple(pods),
            tuple(await self._events(namespace)),
            tuple(dict.fromkeys(self._withheld)),
            self._user,
        )

    async def log(self, namespace: str | None, source: LogSource) -> Log:
        """The end of a container's log; what is in the way of having it stands in its note."""
        try:
            if source.previous:
                try:
                    return Log(await self._log(namespace, source, previous=True), "of its previous run")
                except NotFound:
                    raise
                except Forbidden:
                    raise
                except ApiError:
                    pass  # a kubelet that has thrown it away says 400
            return Log(await self._log(namespace, source, previous=False))
        except Forbidden:
            right = Right("get", "pods/log", namespace)
            return Log(note=f"you have not the right to {right}", missing=right)
        except KubeError as error:
            return Log(note=f"there is none to be had: {error}")

    async def _log(self, namespace: str | None, source: LogSource, *, previous: bool) -> tuple[str, ...]:
        query = (("container", source.container), ("tailLines", str(LOG_LINES)))
        request = Request(
            "GET",
            Pod.resource_type.path(namespace, source.pod, "log"),
            "get",
            query=(*query, ("previous", "true")) if previous else query,
            headers={"Accept": "*/*"},
            resource=Pod.resource_type,
            key=ObjectKey(source.pod, namespace),
            subresource="log",
        )
        body = (await self._client.request(request)).body
        return tuple(line for line in body.decode(errors="replace").splitlines() if line.strip())[-LOG_LINES:]

    async def _nodes(
        self, workspace: Workspace, claims: Iterable[Claim], pods: Iterable[Pod]
    ) -> tuple[list[Node], frozenset[str]]:
        names = {*workspace.status.worker_nodes, *(claim.status.node_name for claim in claims)}
        names |= {pod.spec.node_name or "" for pod in pods}
        nodes, gone = [], set()
        for name in sorted(names - {""}):
            before = len(self._withheld)
            node = await self._get(Node, ObjectKey(name))
            if node is not None:
                nodes.append(node)
            elif len(self._withheld) == before:
                gone.add(name)
        return nodes, frozenset(gone)

    async def _events(self, namespace: str | None) -> list[Event]:
        places = dict.fromkeys((namespace, CLUSTER_EVENTS_NAMESPACE))
        return [event for place in places for event in await self._list(Event, place, "", "type=Warning")]

    async def _list(self, kind: type[R], namespace: str | None, labels: str, fields: str = "") -> list[R]:
        reading = self._client.live.list(kind, namespace=namespace, labels=labels, fields=fields)
        return [*(await self._allowed(reading, kind, "list", namespace) or ())]

    async def _get(self, kind: type[R], key: ObjectKey) -> R | None:
        return await self._allowed(self._client.live.get(kind, key), kind, "get", key.namespace)

    async def _allowed(self, reading: Awaitable[T], kind: type[Resource], verb: str, namespace: str | None) -> T | None:
        """The answer; None where there is none, or no such kind, or (which is noted) it may not be seen."""
        try:
            return await reading
        except NotFound:
            return None
        except Forbidden as refusal:
            if await self._is_served(kind):
                place = kind.resource_type
                resource = f"{place.plural}.{place.group}" if place.group else place.plural
                self._withheld.append(Right(verb, resource, namespace))
                self._user = self._user or refused_user(refusal.message)
            return None

    async def _is_served(self, kind: type[Resource]) -> bool:
        """Whether there is such a kind: what one may not look at is refused before it is looked for."""
        try:
            await self._client.discovery.find(kind.resource_type.api_version, kind.resource_type.kind)
        except NoSuchKind:
            return False
        except KubeError:
            return True
        return True
