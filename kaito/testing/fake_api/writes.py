"""Writes: create, update, patch and apply."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from kaito.client.transport import Request
from kaito.testing.fake_api import managers
from kaito.testing.fake_api.failures import (
    Cause,
    Failure,
    Json,
    already_exists,
    bad_request,
    changed_meanwhile,
    conflict,
    invalid,
    invalid_options,
    not_found,
    qualified,
    uid_differs,
    unsupported_media_type,
)
from kaito.testing.fake_api.kinds import NAMESPACE, Kind
from kaito.testing.fake_api.managers import Manager
from kaito.testing.fake_api.objects import Registrar, check_namespace, is_finished, succeed, tidied
from kaito.testing.fake_api.patches import json_patch, merge_patch, strategic_merge_patch
from kaito.testing.fake_api.reads import wire_form
from kaito.testing.fake_api.routes import APPLY_PATCH, Route
from kaito.testing.fake_api.store import Key, Store

_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_MAX_MANAGER = 128


class Written(NamedTuple):
    """The outcome of a write: HTTP status, and the body of the answer."""

    code: int
    body: Json


class Writer:
    """Carries out writes against a store.

    Args:
        store: the objects.
        registrar: names, uids and times.
    """

    def __init__(self, store: Store, registrar: Registrar) -> None:
        self._store = store
        self._registrar = registrar

    def create(self, route: Route, request: Request) -> Written:
        """POST to a collection.

        Raises:
            Failure: 400, 403, 404 (namespace), 409, 422.
        """
        body = _document(request)
        _check_type(route, body)
        if body["metadata"].get("resourceVersion"):
            # A real server forgets to give this one a reason, and calls it its own fault.
            raise Failure(500, "", "resourceVersion should not be set on objects to be created")
        obj = self._placed(route, tidied(body))
        born = self._registrar.bear(route.kind, obj)
        manager = _manager(route, request, "Update")
        born = managers.track_update(route.kind, {}, managers.with_managed(born, []), manager, self._registrar.now())
        return Written(201, self._admit(route, born))

    def update(self, route: Route, request: Request) -> Written:
        """PUT of an object or of its status.

        Raises:
            Failure: 400, 404, 409, 422.
        """
        body = _document(request)
        _check_type(route, body)
        _check_name(route, body)
        live = self._live(route)
        _check_uid(route, body["metadata"], live)
        version = body["metadata"].get("resourceVersion")
        if not version and route.kind.needs_version:
            why = "Invalid value: 0: must be specified for an update"
            cause = Cause("metadata.resourceVersion", "FieldValueInvalid", why)
            raise invalid(route.kind.type, route.name, cause, by_plural=True)
        return Written(200, self._replace(route, request, live, tidied(body)))

    def patch(self, route: Route, request: Request) -> Written:
        """PATCH with a merge, JSON or strategic patch.

        Raises:
            Failure: 400, 404, 409, 415, 422.
        """
        if route.query.get("force"):
            why = "Forbidden: may not be specified for non-apply patch"
            raise invalid_options("PatchOptions", Cause("force", "FieldValueForbidden", why))
        change = _patcher(route.kind, request.content_type)
        patch = _parsed(request)
        live = self._live(route)
        new = change(wire_form(route.kind, live), patch)
        _check_type(route, new)
        _check_name(route, new)
        return Written(200, self._replace(route, request, live, tidied(new)))

    def apply(self, route: Route, request: Request) -> Written:
        """Server-side apply of an object or of its status.

        Raises:
            Failure: 400, 404 (namespace; or the object, for a status), 409, 422.
        """
        manager = _manager(route, request, "Apply")
        body = _document(request)
        _check_type(route, body, required=True)
        _check_name(route, body)
        if body["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        live = self._store.get(route.key)
        _check_preconditions(route, body["metadata"], live)
        config = _config(route, tidied(body), born=live is None)
        if live is None:
            return self._apply_new(route, config, manager)
        force = route.flag("force")
        new = managers.apply(route.kind, live, config, manager, self._registrar.now(), force=force)
        return Written(200, self._settle(route, live, succeed(route.kind, live, new, route.subresource), new))

    def settle(self, kind: Kind, key: Key, live: Json, new: Json) -> Json:
        """Stores a successor, unless nothing changed; removes the object when that was what its deletion waited for."""
        if new == live:
            return live
        if is_finished(kind, new):
            return self._store.remove(key, new)
        return self._store.put(key, new)

    def _apply_new(self, route: Route, config: Json, manager: Manager) -> Written:
        if route.subresource:
            raise not_found(route.kind.type, route.name)
        named = self._placed(route, {**config, "metadata": {**config["metadata"], "name": route.name}})
        born = self._registrar.bear(route.kind, named)
        applied = managers.apply(route.kind, {}, config, manager, self._registrar.now(), force=False)
        return Written(201, self._admit(route, managers.with_managed(born, applied["metadata"]["managedFields"])))

    def _admit(self, route: Route, born: Json) -> Json:
        key = route.key_of(born["metadata"]["name"])
        if route.namespace:
            namespace = self._store.get(Key(qualified(NAMESPACE), route.namespace))
            check_namespace(route.kind, namespace, route.namespace, key.name)
        if self._store.get(key) is not None:
            raise already_exists(route.kind.type, key.name)
        return wire_form(route.kind, born if route.dry_run else self._store.put(key, born))

    def _replace(self, route: Route, request: Request, live: Json, body: Json) -> Json:
        version = body["metadata"].get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise changed_meanwhile(route.kind.type, route.name)
        new = succeed(route.kind, live, body, route.subresource)
        manager = _manager(route, request, "Update")
        new = managers.with_managed(new, live["metadata"].get("managedFields", []))
        new = managers.track_update(route.kind, live, new, manager, self._registrar.now())
        return self._settle(route, live, new, new)

    def _settle(self, route: Route, live: Json, new: Json, owned: Json) -> Json:
        new = managers.with_managed(new, owned["metadata"].get("managedFields", []))
        kept = {"resourceVersion": live["metadata"]["resourceVersion"]}
        new = {**new, "metadata": {**new["metadata"], **kept} | _namespace_of(live)}
        stored = new if route.dry_run else self.settle(route.kind, route.key, live, new)
        return wire_form(route.kind, stored)

    def _live(self, route: Route) -> Json:
        live = self._store.get(route.key)
        if live is None:
            raise not_found(route.kind.type, route.name)
        return live

    def _placed(self, route: Route, obj: Json) -> Json:
        _check_namespace(route, obj["metadata"])
        metadata = {name: value for name, value in obj["metadata"].items() if name != "namespace"}
        return {**obj, "metadata": metadata | ({"namespace": route.namespace} if route.namespace else {})}


def _document(request: Request) -> Json:
    body = _parsed(request)
    if not isinstance(body, dict):
        raise bad_request("the body of the request must be an object")
    if not isinstance(body.setdefault("metadata", {}), dict):
        raise bad_request("metadata must be an object")
    return body


def _parsed(request: Request) -> Any:
    try:
        if request.content_type.startswith(APPLY_PATCH) and not (request.body or b"").lstrip().startswith(b"{"):
            return yaml.safe_load(request.body or b"")
        return json.loads(request.body or b"")
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"error decoding the body: {error}") from error


def _manager(route: Route, request: Request, operation: str) -> Manager:
    name = route.query.get("fieldManager", "")
    cause = None
    if len(name) > _MAX_MANAGER or not name.isprintable():
        cause = Cause("fieldManager", "FieldValueInvalid", "Invalid value: may have at most 128 printable characters")
    if operation == "Apply":
        if not name:
            cause = Cause("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")
        if cause:
            raise invalid_options("PatchOptions", cause)
        return Manager(name, "Apply", route.subresource, route.kind.type.api_version)
    if cause:
        raise invalid_options("UpdateOptions", cause)
    headers = {header.lower(): value for header, value in request.headers.items()}
    name = name or headers.get("user-agent", "unknown").partition("/")[0]
    return Manager(name, "Update", route.subresource, route.kind.type.api_version)


def _patcher(kind: Kind, content_type: str) -> Callable[[Any, Any], Any]:
    media = content_type.partition(";")[0].strip()
    if media == _MERGE_PATCH:
        return merge_patch
    if media == _JSON_PATCH:
        return json_patch
    if media == _STRATEGIC_PATCH and not kind.custom:
        return lambda target, patch: strategic_merge_patch(target, patch, kind.shape)
    accepted = [_JSON_PATCH, _MERGE_PATCH, *([] if kind.custom else [_STRATEGIC_PATCH]), APPLY_PATCH]
    raise unsupported_media_type(accepted)


def _config(route: Route, config: Json, *, born: bool) -> Json:
    status_only = route.subresource == "status"
    if status_only:
        return {"metadata": {"name": route.name}} | ({"status": config["status"]} if "status" in config else {})
    if route.kind.status and not (born and route.kind.status_at_birth):
        config = {name: value for name, value in config.items() if name != "status"}
    unset = ("resourceVersion", "uid", "creationTimestamp", "generation", "deletionTimestamp", "managedFields")
    metadata = {name: value for name, value in config["metadata"].items() if name not in unset}
    return {**config, "metadata": metadata}


def _check_preconditions(route: Route, metadata: Json, live: Json | None) -> None:
    uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    if live is not None:
        if uid and uid != live["metadata"]["uid"]:
            raise uid_differs(route.kind.type, route.name, uid)
        if version and version != live["metadata"]["resourceVersion"]:
            raise changed_meanwhile(route.kind.type, route.name)
        return
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise conflict(route.kind.type, route.name, why)
    if version:
        raise not_found(route.kind.type, route.name)


def _check_uid(route: Route, metadata: Json, live: Json) -> None:
    want, have = metadata.get("uid"), live["metadata"]["uid"]
    if want and want != have:
        why = f"Precondition failed: UID in precondition: {want}, UID in object meta: {have}"
        raise conflict(route.kind.type, route.name, why)


def _check_type(route: Route, body: Json, *, required: bool = False) -> None:
    kind = route.kind.type
    given = (body.get("apiVersion", ""), body.get("kind", ""))
    if required and not all(given):
        raise bad_request("the object provided is unrecognized (must be of type Kind and have an apiVersion)")
    wanted = (kind.api_version, kind.kind)
    if any(had and had != want for had, want in zip(given, wanted, strict=True)):
        raise bad_request(
            f"{given[1]} in version {given[0]!r} cannot be handled as {kind.kind} in version {kind.api_version!r}"
        )


def _check_name(route: Route, body: Json) -> None:
    metadata = body.setdefault("metadata", {})
    name = metadata.setdefault("name", route.name)
    if name != route.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({route.name})")
    _check_namespace(route, metadata)


def _check_namespace(route: Route, metadata: Json) -> None:
    namespace = metadata.get("namespace") or route.namespace
    if namespace != route.namespace and route.kind.type.namespaced:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def _namespace_of(live: Json) -> Json:
    return {"namespace": live["metadata"]["namespace"]} if "namespace" in live["metadata"] else {}
