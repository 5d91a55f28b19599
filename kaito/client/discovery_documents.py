"""The documents of discovery: the aggregated ones of newer API servers, and those per group of older ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from kaito.client.errors import KubeError, not_from_an_api_server
from kaito.client.transport import Request, Response
from kaito.kube.resource import ResourceType

Ask = Callable[[Request], Awaitable[Response]]

_AGGREGATED = ",".join(
    [
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json",
    ]
)


class ServedKind(NamedTuple):
    """A kind as the API server serves it.

    Attributes:
        type: where it lives.
        verbs: what can be done with it, such as ``get`` and ``watch``.
        singular: its name for one, in lower case.
        short_names: such as ``deploy``.
        categories: such as ``all``.
        subresources: such as ``status``.
    """

    type: ResourceType
    verbs: tuple[str, ...] = ()
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All that it is called, in lower case."""
        return frozenset((self.type.plural, self.singular, self.type.kind.lower(), *self.short_names))


class Snapshot(NamedTuple):
    """What was served when it was asked.

    Attributes:
        kinds: each group's preferred version first.
        broken: why an API version's kinds are not known, or may be old.
    """

    kinds: tuple[ServedKind, ...]
    broken: Mapping[str, str]


class _ResponseKind(msgspec.Struct):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Subresource(msgspec.Struct):
    subresource: str


class _Resource(msgspec.Struct, rename="camel"):
    resource: str
    response_kind: _ResponseKind | None = None
    scope: str = "Namespaced"
    singular_resource: str = ""
    verbs: list[str] = []
    short_names: list[str] = []
    categories: list[str] = []
    subresources: list[_Subresource] = []


class _Version(msgspec.Struct):
    version: str
    # Each is read by itself: one that is malformed must not cost the others.
    resources: list[msgspec.Raw] = []
    freshness: str = "Current"


class _GroupName(msgspec.Struct):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _GroupName
    versions: list[_Version] = []


class _GroupVersion(msgspec.Struct):
    version: str


class _LegacyGroup(msgspec.Struct, rename="camel"):
    name: str
    versions: list[_GroupVersion] = []
    preferred_version: _GroupVersion | None = None


class _Root(msgspec.Struct):
    """What ``/api`` and ``/apis`` answer, in any of their three forms."""

    kind: str = ""
    items: list[_Group] = []
    versions: list[str] = []
    groups: list[_LegacyGroup] = []


class _LegacyResource(msgspec.Struct, rename="camel"):
    name: str
    kind: str = ""
    namespaced: bool = True
    singular_name: str = ""
    verbs: list[str] = []
    short_names: list[str] = []
    categories: list[str] = []


class _LegacyResources(msgspec.Struct):
    resources: list[_LegacyResource] = []


_decode_resource = msgspec.json.Decoder(_Resource).decode

D = TypeVar("D")


async def fetch(ask: Ask) -> Snapshot:
    """Asks what is served: two requests, or one more for each API version where the server is older than 1.27.

    Raises:
        ApiError, TransportError: the API server does not say.
    """
    core, others = await asyncio.gather(_read(ask, "/api", _Root), _read(ask, "/apis", _Root))
    parts = [_aggregated(root) for root in (core, others) if root.kind == "APIGroupDiscoveryList"]
    legacy = [("", version) for version in core.versions]
    legacy += [(group.name, version) for group in others.groups for version in _by_preference(group)]
    parts += await asyncio.gather(*(_legacy(ask, group, version) for group, version in legacy))
    kinds = tuple(kind for part in parts for kind in part.kinds)
    return Snapshot(kinds, {version: why for part in parts for version, why in part.broken.items()})


async def _read(ask: Ask, path: str, form: type[D]) -> D:
    request = Request("GET", path, "get", headers={"Accept": _AGGREGATED})
    response = await ask(request)
    try:
        return msgspec.json.decode(response.body, type=form)
    except msgspec.DecodeError as error:
        raise not_from_an_api_server(request, "discovery document", error, response.body, response.headers) from error


def _aggregated(root: _Root) -> Snapshot:
    kinds: list[ServedKind] = []
    broken: dict[str, str] = {}
    for group in root.items:
        for version in group.versions:
            name = f"{group.metadata.name}/{version.version}" if group.metadata.name else version.version
            if version.freshness != "Current":
                broken[name] = f"the API server itself cannot reach it ({version.freshness}); see its APIService"
            for raw in version.resources:
                try:
                    kinds.append(_served(group.metadata.name, version.version, _decode_resource(raw)))
                except msgspec.DecodeError as error:
                    broken[name] = f"one of its kinds is described in a way that cannot be read: {error}"
    return Snapshot(tuple(kinds), broken)


def _served(group: str, version: str, resource: _Resource) -> ServedKind:
    kind = resource.response_kind.kind if resource.response_kind else ""
    return ServedKind(
        ResourceType(group, version, kind, resource.resource, resource.scope == "Namespaced"),
        tuple(resource.verbs),
        resource.singular_resource,
        tuple(resource.short_names),
        tuple(resource.categories),
        tuple(sub.subresource for sub in resource.subresources),
    )


def _by_preference(group: _LegacyGroup) -> list[str]:
    preferred = group.preferred_version.version if group.preferred_version else ""
    return sorted((each.version for each in group.versions), key=lambda version: version != preferred)


async def _legacy(ask: Ask, group: str, version: str) -> Snapshot:
    path, name = (f"/apis/{group}/{version}", f"{group}/{version}") if group else (f"/api/{version}", version)
    try:
        document = await _read(ask, path, _LegacyResources)
    except KubeError as error:
        return Snapshot((), {name: str(error)})
    return Snapshot(tuple(_legacy_kinds(group, version, document.resources)), {})


def _legacy_kinds(group: str, version: str, resources: list[_LegacyResource]) -> list[ServedKind]:
    below: dict[str, list[str]] = {}
    for resource in resources:
        plural, slash, sub = resource.name.partition("/")
        if slash:
            below.setdefault(plural, []).append(sub)
    return [
        ServedKind(
            ResourceType(group, version, resource.kind, resource.name, resource.namespaced),
            tuple(resource.verbs),
            resource.singular_name,
            tuple(resource.short_names),
            tuple(resource.categories),
            tuple(below.get(resource.name, ())),
        )
        for resource in resources
        if "/" not in resource.name
    ]
