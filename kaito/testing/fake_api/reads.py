"""Reads: get, and list with selectors, pages and resourceVersions."""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

from kaito.testing.fake_api.failures import Cause, Failure, Json, bad_request, expired, invalid_options, not_found
from kaito.testing.fake_api.kinds import Kind
from kaito.testing.fake_api.routes import Route
from kaito.testing.fake_api.selectors import Selector
from kaito.testing.fake_api.store import Key, Store

INCONSISTENT = -1
_MATCHES = ("Exact", "NotOlderThan")


class Token(NamedTuple):
    """A continue token: the snapshot that its list reads (`INCONSISTENT`: the newest state), and where it stands."""

    version: int
    start: str

    def encode(self) -> str:
        """The opaque form."""
        text = json.dumps({"v": "meta.k8s.io/v1", "rv": self.version, "start": self.start}, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Token:
        """Reads the opaque form.

        Raises:
            Failure: 400, it is none of ours.
        """
        try:
            fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(fields["rv"], fields["start"])
        except (binascii.Error, ValueError, KeyError, TypeError) as error:
            raise bad_request(f"continue key is not valid: {error}") from error


def get(store: Store, route: Route) -> Json:
    """Reads one object.

    Raises:
        Failure: 404.
    """
    parse_version(route.query.get("resourceVersion", ""), store)
    obj = store.get(route.key)
    if obj is None:
        raise not_found(route.kind.type, route.name)
    return wire_form(route.kind, obj)


def list_objects(store: Store, route: Route) -> Json:
    """Reads a collection, or a page of it, all of it as of one resourceVersion.

    Raises:
        Failure: 400 and 422, parameters that do not parse or go together; 410, the snapshot was compacted; 504, it does
            not exist yet.
    """
    _check_list_options(route)
    selector = selector_of(route)
    token = _token(route)
    version, found = _snapshot(store, route, token)
    chosen = [(key, obj) for key, obj in found if selector.matches(obj)]
    rest = [(key, obj) for key, obj in chosen if token is None or key.path >= token.start]
    limit = _limit(route)
    page, left = (rest[:limit], rest[limit:]) if limit else (rest, [])
    # Untyped lists write the token even when there is none.
    metadata: Json = {"resourceVersion": str(version)} | ({"continue": ""} if route.kind.custom else {})
    if left:
        metadata["continue"] = Token(_resume_version(token, version), left[0][0].path).encode()
        if not selector:
            metadata["remainingItemCount"] = len(left)
    return {
        "apiVersion": route.kind.type.api_version,
        "kind": f"{route.kind.type.kind}List",
        "metadata": metadata,
        "items": [_item(route.kind, obj) for _, obj in page],
    }


def selector_of(route: Route) -> Selector:
    """The selectors of a request.

    Raises:
        Failure: 400, they do not parse.
    """
    return Selector(route.kind, route.query.get("labelSelector", ""), route.query.get("fieldSelector", ""))


def wire_form(kind: Kind, obj: Json) -> Json:
    """A stored object under the version that is asked for."""
    return {"apiVersion": kind.type.api_version, "kind": kind.type.kind} | obj


def parse_version(text: str, store: Store) -> int | None:
    """Reads a resourceVersion; None when none was given.

    Raises:
        Failure: 400, it is no number; 504, it does not exist yet.
    """
    if not text:
        return None
    if not text.isdigit():
        raise bad_request(f'invalid resource version: "{text}" is no decimal number')
    store.check_version(int(text))
    return int(text)


def _item(kind: Kind, obj: Json) -> Json:
    # Typed lists leave out what all of their items share; lists of custom resources do not.
    return wire_form(kind, obj) if kind.custom else obj


def _token(route: Route) -> Token | None:
    text = route.query.get("continue", "")
    if not text:
        return None
    if route.query.get("resourceVersion", "0") not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    return Token.decode(text)


def _limit(route: Route) -> int:
    text = route.query.get("limit", "0")
    if not text.isdigit():
        raise bad_request(f"limit {text!r}: must be a number")
    return int(text)


def _snapshot(store: Store, route: Route, token: Token | None) -> tuple[int, list[tuple[Key, Json]]]:
    where = (route.kind.collection, route.namespace)
    if token is not None and token.version != INCONSISTENT:
        return token.version, _continued(store, token, *where)
    version = parse_version(route.query.get("resourceVersion", ""), store)
    exact = route.query.get("resourceVersionMatch") == "Exact"
    # Before resourceVersionMatch existed, a version together with a limit meant exactly that version.
    legacy = "limit" in route.query and "resourceVersionMatch" not in route.query
    if version and (exact or legacy):
        return version, store.select_at(version, *where)
    return store.version, store.select(*where)


def _continued(store: Store, token: Token, collection: str, namespace: str) -> list[tuple[Key, Json]]:
    try:
        return store.select_at(token.version, collection, namespace)
    except Failure as failure:
        if failure.code != 410:
            raise
        raise expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results.",
            continue_token=Token(INCONSISTENT, token.start).encode(),
        ) from failure


def _resume_version(token: Token | None, version: int) -> int:
    return INCONSISTENT if token is not None and token.version == INCONSISTENT else version


def _check_list_options(route: Route) -> None:
    match, version = route.query.get("resourceVersionMatch", ""), route.query.get("resourceVersion", "")
    if not match:
        return
    reason = "FieldValueForbidden"
    if not version:
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match not in _MATCHES:
        reason = "FieldValueNotSupported"
        why = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
    elif match == "Exact" and version == "0":
        why = 'Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
    elif route.query.get("continue"):
        why = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
    else:
        return
    raise invalid_options("ListOptions", Cause("resourceVersionMatch", reason, why))
