"""Requests for Kubernetes' verbs: paths, queries and bodies."""

from __future__ import annotations

import dataclasses

import msgspec

from kaito.client.transport import Request
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import ResourceType

_encode = msgspec.json.encode


def on_object(
    method: str,
    verb: str,
    resource: ResourceType,
    key: ObjectKey,
    subresource: str = "",
    query: tuple[tuple[str, str], ...] = (),
) -> Request:
    if not key.name:
        raise ValueError(f"{verb} {resource.plural}: an object needs a name")
    if resource.namespaced and not key.namespace:
        raise ValueError(f"{verb} {resource.plural} {key}: {resource.kind} is namespaced; name a namespace")
    _check_segments(verb, resource, key.name, key.namespace or "")
    return Request(
        method,
        resource.path(key.namespace, key.name, subresource),
        verb,
        query=query,
        resource=resource,
        key=key,
        subresource=subresource,
    )


def on_collection(
    method: str,
    verb: str,
    resource: ResourceType,
    namespace: str | None,
    query: tuple[tuple[str, str], ...],
    timeout_s: float = 60.0,
) -> Request:
    _check_segments(verb, resource, namespace or "")
    if verb == "create" and resource.namespaced and not namespace:
        raise ValueError(f"create {resource.plural}: {resource.kind} is namespaced; name a namespace")
    return Request(method, resource.path(namespace), verb, query=query, resource=resource, timeout_s=timeout_s)


def with_body(
    request: Request, body: object, *, content_type: str = "application/json", key: ObjectKey | None = None
) -> Request:
    return dataclasses.replace(request, body=_encode(body), content_type=content_type, key=key or request.key)


def selectors(labels: str, fields: str) -> tuple[tuple[str, str], ...]:
    given = (("labelSelector", labels), ("fieldSelector", fields))
    return tuple((name, value) for name, value in given if value)


def _check_segments(verb: str, resource: ResourceType, *segments: str) -> None:
    """Refuses names that are no path segment (Kubernetes' own rule): ``../secrets/x`` would be another resource."""
    for segment in segments:
        if segment in (".", "..") or "/" in segment or "%" in segment:
            raise ValueError(f"{verb} {resource.plural}: {segment!r} is no name: it may not be . or .. nor hold / or %")
