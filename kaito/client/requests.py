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
    accept: str = "",
) -> Request:
    """A request on one object.

    Raises:
        ValueError: the key names none.
    """
    check_key(verb, resource, key)
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
        headers=_accept(accept),
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
    accept: str = "",
) -> Request:
    """A request on all objects of a kind, or of a namespace.

    Raises:
        ValueError: the namespace is none, or is missing.
    """
    _check_segments(verb, resource, namespace or "")
    if verb == "create" and resource.namespaced and not namespace:
        raise ValueError(f"create {resource.plural}: {resource.kind} is namespaced; name a namespace")
    headers = _accept(accept)
    path = resource.path(namespace)
    return Request(method, path, verb, query=query, headers=headers, resource=resource, timeout_s=timeout_s)


def with_body(
    request: Request, body: object, *, content_type: str = "application/json", key: ObjectKey | None = None
) -> Request:
    """The request with a JSON body."""
    return dataclasses.replace(request, body=_encode(body), content_type=content_type, key=key or request.key)


def selectors(labels: str, fields: str) -> tuple[tuple[str, str], ...]:
    """The query parameters of selectors."""
    given = (("labelSelector", labels), ("fieldSelector", fields))
    return tuple((name, value) for name, value in given if value)


def delete_options(
    *,
    uid: str | None,
    resource_version: str | None,
    propagation: str,
    grace_period_s: int | None,
    dry_run: bool,
) -> dict[str, object]:
    """The body of a delete."""
    body: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
    preconditions = {"uid": uid, "resourceVersion": resource_version}
    if chosen := {name: value for name, value in preconditions.items() if value is not None}:
        body["preconditions"] = chosen
    if grace_period_s is not None:
        body["gracePeriodSeconds"] = grace_period_s
    if dry_run:
        # The server takes options from the body, where there is one, and then ignores those of the query.
        body["dryRun"] = ["All"]
    return body


def _accept(media_types: str) -> dict[str, str]:
    return {"Accept": media_types} if media_types else {}


def check_key(verb: str, resource: ResourceType, key: object) -> None:
    """Refuses what is no key, of which a text is the usual one.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(key, ObjectKey):
        raise TypeError(
            f"{verb} {resource.plural}: the key is {key!r}; expected ObjectKey(name, namespace), "
            f"or ObjectKey.parse(text)"
        )


def _check_segments(verb: str, resource: ResourceType, *segments: str) -> None:
    """Refuses names that are no path segment (Kubernetes' own rule): ``../secrets/x`` would be another resource."""
    for segment in segments:
        if segment in (".", "..") or "/" in segment or "%" in segment:
            raise ValueError(f"{verb} {resource.plural}: {segment!r} is no name: it may not be . or .. nor hold / or %")
