"""Objects: how one is born and how it may change; what of it belongs to the server."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from kaito.testing.fake_api.failures import Cause, Json, bad_request, forbidden, invalid, not_found, uid_differs
from kaito.testing.fake_api.kinds import CRD, NAMESPACE, POD, Kind
from kaito.testing.fake_api.shapes import Names

_SERVER_FIELDS = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_UNSET_WHEN_EMPTY = ("labels", "annotations", "finalizers", "ownerReferences", "managedFields")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_RANDOM_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED_LENGTH = 5
_MAX_NAME = 253
_MAX_BASE = 58


class Registrar:
    """Gives objects what the server alone gives: names, uids, times, generations.

    Args:
        clock: the time of day.
        rng: source of uids and generated names.
    """

    def __init__(self, clock: Callable[[], datetime], rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng

    def now(self) -> str:
        """The time, as the API writes it."""
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def bear(self, kind: Kind, obj: Json) -> Json:
        """Returns a new object as it is stored first.

        Raises:
            Failure: 422, its name is missing or malformed.
        """
        metadata = {name: value for name, value in obj["metadata"].items() if name not in _SERVER_FIELDS}
        metadata.pop("resourceVersion", None)
        base = metadata.get("generateName", "")
        if not metadata.get("name") and base:
            suffix = "".join(self._rng.choices(_RANDOM_LETTERS, k=_GENERATED_LENGTH))
            metadata["name"] = base[:_MAX_BASE] + suffix
        _check_name(kind, metadata.get("name", ""))
        metadata["uid"] = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        metadata["creationTimestamp"] = self.now()
        if kind.generation:
            metadata["generation"] = 1
        born = {**obj, "metadata": metadata}
        if kind.status and not kind.status_at_birth:
            born.pop("status", None)
        return _with_defaults(kind, born)

    def doom(self, kind: Kind, live: Json, finalizers: list[str], grace_s: int) -> Json:
        """Returns the object marked for deletion, with these finalizers."""
        metadata = dict(live["metadata"])
        if "deletionTimestamp" not in metadata:
            metadata |= {"deletionTimestamp": self.now(), "deletionGracePeriodSeconds": grace_s}
            if kind.generation:
                metadata["generation"] += 1
        metadata["finalizers"] = finalizers
        doomed = tidied({**live, "metadata": metadata})
        return doomed | ({"status": {"phase": "Terminating"}} if kind.type == NAMESPACE else {})


def succeed(kind: Kind, live: Json, new: Json, subresource: str = "") -> Json:
    """Returns what an update makes of an object: the part that it may write, and what the server keeps.

    Raises:
        Failure: 422, the uid or an immutable field changed, or a finalizer was added to an object on its way out.
    """
    metadata = new["metadata"]
    name = live["metadata"]["name"]
    if metadata.get("uid") and metadata["uid"] != live["metadata"]["uid"]:
        raise uid_differs(kind.type, name, metadata["uid"])
    if subresource == "status":
        rest = {field: value for field, value in live.items() if field != "status"}
        return rest | ({"status": new["status"]} if "status" in new else {})
    if kind.status:
        new = {field: value for field, value in new.items() if field != "status"}
        new |= {"status": live["status"]} if "status" in live else {}
    kept = {field: live["metadata"][field] for field in _SERVER_FIELDS if field in live["metadata"]}
    mine = {field: value for field, value in metadata.items() if field not in _SERVER_FIELDS}
    new = tidied({**new, "metadata": {**mine, **kept, "name": name}})
    _check_finalizers(kind, live, new)
    _check_immutable(kind, live, new)
    if kind.generation and _content(kind, live) != _content(kind, new):
        new["metadata"]["generation"] = live["metadata"]["generation"] + 1
    return new


def tidied(obj: Json) -> Json:
    """Returns the object without nulls and without empty metadata collections, as typed storage leaves them out."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise bad_request("metadata is missing or no object")
    kept = {
        name: _without_nulls(value)
        for name, value in metadata.items()
        if value is not None and (value or name not in _UNSET_WHEN_EMPTY)
    }
    content = {name: _without_nulls(value) for name, value in obj.items() if value is not None and name != "metadata"}
    content.pop("apiVersion", None)
    content.pop("kind", None)
    return {"metadata": kept} | content


def is_finished(kind: Kind, obj: Json) -> bool:
    """Whether an object that is marked for deletion has nothing left to wait for."""
    if "deletionTimestamp" not in obj["metadata"] or obj["metadata"].get("finalizers"):
        return False
    return kind.type != NAMESPACE or not obj.get("spec", {}).get("finalizers")


def check_namespace(kind: Kind, namespace: Json | None, path_namespace: str, name: str) -> None:
    """Refuses to create in a namespace that is not there or on its way out.

    Raises:
        Failure: 404 or 403.
    """
    if namespace is None:
        raise not_found(NAMESPACE, path_namespace)
    if "deletionTimestamp" in namespace["metadata"]:
        why = f"unable to create new content in namespace {path_namespace} because it is being terminated"
        cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {path_namespace} is being terminated")
        raise forbidden(kind.type, name, why, causes=[cause])


def _with_defaults(kind: Kind, obj: Json) -> Json:
    match kind.type:
        case t if t == NAMESPACE:
            labels = obj["metadata"].get("labels", {}) | {"kubernetes.io/metadata.name": obj["metadata"]["name"]}
            obj = {**obj, "metadata": {**obj["metadata"], "labels": labels}}
            return obj | {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        case t if t == POD:
            return obj | {"status": {"phase": "Pending"}}
        case t if t == CRD:
            names = obj["spec"]["names"]
            agreed = [{"type": name, "status": "True"} for name in ("NamesAccepted", "Established")]
            return obj | {"status": {"acceptedNames": names, "conditions": agreed}}
        case _:
            return obj


def _check_name(kind: Kind, name: str) -> None:
    if not name:
        cause = Cause("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
        raise invalid(kind.type, "", cause)
    if len(name) > _MAX_NAME or not _SUBDOMAIN.fullmatch(name):
        why = (
            f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumerics, - or .'
        )
        raise invalid(kind.type, name, Cause("metadata.name", "FieldValueInvalid", why))


def _check_finalizers(kind: Kind, live: Json, new: Json) -> None:
    before, after = live["metadata"].get("finalizers", []), new["metadata"].get("finalizers", [])
    if "deletionTimestamp" in live["metadata"] and (added := [one for one in after if one not in before]):
        named = "[]string{" + ", ".join(f'"{one}"' for one in added) + "}"
        why = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {named}"
        raise invalid(kind.type, new["metadata"]["name"], Cause("metadata.finalizers", "FieldValueForbidden", why))


def _check_immutable(kind: Kind, live: Json, new: Json) -> None:
    changed = [path for path in kind.immutable if _at(live, tuple(path.split("."))) != _at(new, tuple(path.split(".")))]
    if changed:
        raise invalid(kind.type, new["metadata"]["name"], *[_immutable(path, new) for path in changed])


def _immutable(path: str, new: Json) -> Cause:
    value = json.dumps(_at(new, tuple(path.split("."))), separators=(",", ":"))
    return Cause(path, "FieldValueInvalid", f"Invalid value: {value}: field is immutable")


def _content(kind: Kind, obj: Json) -> Json:
    unspecified = {"metadata", "status"} if kind.status else {"metadata"}
    return {name: value for name, value in obj.items() if name not in unspecified}


def _at(obj: object, names: Names) -> object:
    for name in names:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
