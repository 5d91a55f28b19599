"""Deletes: of one object or many, with preconditions, finalizers and propagation; and evictions."""

from __future__ import annotations

import json

from kaito.client.transport import Request
from kaito.testing.fake_api.failures import Json, bad_request, details_of, not_found, precondition_failed
from kaito.testing.fake_api.kinds import NAMESPACE, Kind
from kaito.testing.fake_api.objects import Registrar, is_finished
from kaito.testing.fake_api.reads import selector_of, wire_form
from kaito.testing.fake_api.routes import Route
from kaito.testing.fake_api.store import Key, Store
from kaito.testing.fake_api.writes import Written

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

_PROPAGATION = {"Background": None, "Foreground": FOREGROUND, "Orphan": ORPHAN}


class Deleter:
    """Carries out deletions against a store. Pods go at once: there is no kubelet here to stop them first.

    Args:
        store: the objects.
        registrar: the time.
    """

    def __init__(self, store: Store, registrar: Registrar) -> None:
        self._store = store
        self._registrar = registrar

    def delete(self, route: Route, request: Request) -> Written:
        """DELETE of one object: it is gone, or marked and waits for its finalizers.

        Raises:
            Failure: 404; 409, a precondition does not hold.
        """
        options = _options(route, request)
        live = self._live(route)
        _check_preconditions(route, options, live)
        final = self.remove(route.kind, route.key, live, options, dry_run=route.dry_run)
        return Written(200, _outcome(route.kind, live) if final is None else wire_form(route.kind, final))

    def delete_collection(self, route: Route, request: Request) -> Written:
        """DELETE of all objects that match, one after the other.

        Raises:
            Failure: 400, a selector does not parse.
        """
        options, selector = _options(route, request), selector_of(route)
        items = []
        for key, obj in self._store.select(route.kind.collection, route.namespace):
            if selector.matches(obj):
                items.append(self.remove(route.kind, key, obj, options, dry_run=route.dry_run) or obj)
        kind = route.kind.type
        metadata = {"resourceVersion": str(self._store.version)}
        listed = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": metadata, "items": items}
        return Written(200, listed)

    def evict(self, route: Route, request: Request) -> Written:
        """POST to ``pods/NAME/eviction``: deletes the pod; disruption budgets are not looked at.

        Raises:
            Failure: 404.
        """
        live = self._live(route)
        self.remove(route.kind, route.key, live, {}, dry_run=route.dry_run)
        return Written(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})

    def remove(self, kind: Kind, key: Key, live: Json, options: Json, *, dry_run: bool = False) -> Json | None:
        """Deletes an object; returns it when it stays, marked, for its finalizers' sake, and None when it is gone."""
        finalizers = list(live["metadata"].get("finalizers", []))
        added = _PROPAGATION[options.get("propagationPolicy") or "Background"]
        if added and added not in finalizers and "deletionTimestamp" not in live["metadata"]:
            finalizers.append(added)
        grace_s = int(options.get("gracePeriodSeconds") or 0)
        doomed = self._registrar.doom(kind, live, finalizers, grace_s)
        if is_finished(kind, doomed):
            if not dry_run:
                self._store.remove(key)
            return None
        if dry_run or doomed == live:
            return doomed
        return self._store.put(key, doomed)

    def _live(self, route: Route) -> Json:
        live = self._store.get(route.key)
        if live is None:
            raise not_found(route.kind.type, route.name)
        return live


def finalize_namespace(store: Store, name: str) -> None:
    """Takes the server's own finalizer from a namespace, as its controller does once it is empty."""
    key = Key(NAMESPACE.plural, name)
    live = store.get(key)
    if live is None:
        return
    if live["metadata"].get("finalizers"):
        store.put(key, {**live, "spec": {**live["spec"], "finalizers": []}})
    else:
        store.remove(key)


def _options(route: Route, request: Request) -> Json:
    try:
        options = json.loads(request.body) if request.body else {}
    except ValueError as error:
        raise bad_request(f"error decoding DeleteOptions: {error}") from error
    query = {name: route.query[name] for name in ("propagationPolicy", "gracePeriodSeconds") if name in route.query}
    options = {**options, **query}
    if (options.get("propagationPolicy") or "Background") not in _PROPAGATION:
        raise bad_request(f"propagationPolicy {options['propagationPolicy']!r}: choose one of {list(_PROPAGATION)}")
    return options


def _check_preconditions(route: Route, options: Json, live: Json) -> None:
    wanted = options.get("preconditions") or {}
    for field, title in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        want, have = wanted.get(field), live["metadata"][field]
        if want and want != have:
            raise precondition_failed(route.kind.type, route.name, title, want, have)


def _outcome(kind: Kind, gone: Json) -> Json:
    if kind.type.plural == "pods":
        return wire_form(kind, gone)
    details = details_of(kind.type, gone["metadata"]["name"], uid=gone["metadata"]["uid"])
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
