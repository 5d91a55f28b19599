"""Discovery: what is served, and the few other paths that every client may ask for."""

from __future__ import annotations

from kaito.testing.fake_api.failures import Json
from kaito.testing.fake_api.kinds import Kind, Kinds

VERSION: Json = {"major": "1", "minor": "36", "gitVersion": "v1.36.0-fake", "platform": "fake"}
HEALTH = ("/healthz", "/livez", "/readyz")

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def document(path: str, kinds: Kinds) -> Json | None:
    """The discovery document that stands at a path; None when there is none."""
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = sorted({kind.type.group for kind in kinds} - {""})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name, kinds) for name in groups]}
        case ["apis", group]:
            found = _group(group, kinds)
            return {"kind": "APIGroup", "apiVersion": "v1"} | found if found["versions"] else None
        case ["api", version]:
            return _resources("", version, kinds)
        case ["apis", group, version]:
            return _resources(group, version, kinds)
        case _:
            return None


def _group(group: str, kinds: Kinds) -> Json:
    names = dict.fromkeys(kind.type.version for kind in kinds if kind.type.group == group)
    versions = [{"groupVersion": f"{group}/{name}", "version": name} for name in names]
    return {"name": group, "versions": versions, "preferredVersion": versions[0] if versions else None}


def _resources(group: str, version: str, kinds: Kinds) -> Json | None:
    served = [kind for kind in kinds if (kind.type.group, kind.type.version) == (group, version)]
    if not served:
        return None
    resources = [entry for kind in served for entry in _entries(kind)]
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _entries(kind: Kind) -> list[Json]:
    resource = kind.type
    entry: Json = {"name": resource.plural, "singularName": resource.kind.lower(), "kind": resource.kind}
    entry["namespaced"] = resource.namespaced
    entries = [entry | {"verbs": _VERBS}]
    if kind.status:
        entries.append(entry | {"name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]})
    return entries
