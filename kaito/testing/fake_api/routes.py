"""Routes: what a method, a path and a query ask for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from kaito.client.transport import Request
from kaito.testing.fake_api.failures import method_not_allowed
from kaito.testing.fake_api.kinds import Kind, Kinds
from kaito.testing.fake_api.store import Key

APPLY_PATCH = "application/apply-patch+yaml"

_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_TRUE = ("1", "true", "True")


class NoSuchPath(Exception):
    """Nothing is served there; a real server answers with plain text, not with a Status."""


class Place(NamedTuple):
    """A path, taken apart."""

    group: str
    version: str
    plural: str
    namespace: str
    name: str
    subresource: str


class Route(NamedTuple):
    """What a request asks for.

    Attributes:
        verb: get, list, watch, create, update, patch, apply, delete, deletecollection.
        kind: the kind.
        namespace: empty for all, and for cluster-scoped kinds.
        name: empty for collections.
        subresource: empty for the object itself.
        query: the query parameters; the last of a name wins.
    """

    verb: str
    kind: Kind
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]

    @property
    def key(self) -> Key:
        """Where the object is stored."""
        return self.key_of(self.name)

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun") == "All"

    def key_of(self, name: str) -> Key:
        """Where another object beside it is stored."""
        return Key(self.kind.collection, f"{self.namespace}/{name}" if self.namespace else name)

    def flag(self, name: str) -> bool:
        """A yes-or-no parameter; absent is no."""
        return self.query.get(name, "") in _TRUE


def place_of(path: str) -> Place | None:
    """Takes a path apart; None when it is none of a resource."""
    match [unquote(part) for part in path.strip("/").split("/")]:
        case ["api", version, *rest]:
            return _place("", version, rest)
        case ["apis", group, version, *rest]:
            return _place(group, version, rest)
        case _:
            return None


def route(request: Request, kinds: Kinds) -> Route:
    """Finds what a request asks for.

    Raises:
        NoSuchPath: nothing of that name is served.
        Failure: 405, the resource has no such verb.
    """
    place = place_of(request.path)
    kind = kinds.find(place.group, place.version, place.plural) if place else None
    if place is None or kind is None or (place.namespace and not kind.type.namespaced):
        raise NoSuchPath(request.path)
    query = dict(request.query)
    verb = _verb(request, query, bool(place.name), bool(place.subresource))
    needs_namespace = verb == "create" or bool(place.name)
    if verb is None or (kind.type.namespaced and needs_namespace and not place.namespace):
        raise method_not_allowed()
    return Route(verb, kind, place.namespace, place.name, place.subresource, query)


def verb_of(request: Request) -> str:
    """What a request's verb would be, whether or not its resource is served; for logs and faults."""
    place = place_of(request.path)
    named = bool(place and place.name)
    return _verb(request, dict(request.query), named, bool(place and place.subresource)) or request.method.lower()


def _place(group: str, version: str, rest: list[str]) -> Place | None:
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and not (len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES):
        namespace, rest = rest[1], rest[2:]
    if not rest or not rest[0] or len(rest) > 3:
        return None
    plural, name, subresource = _padded(rest)
    return Place(group, version, plural, namespace, name, subresource)


def _padded(parts: Iterable[str]) -> tuple[str, str, str]:
    plural, name, subresource, *_ = [*parts, "", "", ""]
    return plural, name, subresource


def _verb(request: Request, query: dict[str, str], named: bool, subresource: bool) -> str | None:
    match request.method, named:
        case "GET", True:
            return "get"
        case "GET", False:
            return "watch" if query.get("watch", "") in _TRUE else "list"
        case "POST", _ if not named or subresource:
            return "create"
        case "PUT", True:
            return "update"
        case "PATCH", True:
            return "apply" if request.content_type.startswith(APPLY_PATCH) else "patch"
        case "DELETE", _:
            return "delete" if named else "deletecollection"
        case _:
            return None
