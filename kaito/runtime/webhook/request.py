"""AdmissionRequest: what is asked to be admitted, by whom, and what can be said beside yes and no."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from pydantic import ValidationError

from kaito.client.wire import decode_header
from kaito.kube.authentication_v1 import UserInfo
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.webhook.denial import Denied, OldUnreadable, unreadable
from kaito.runtime.webhook.review import NOTHING, BadReview, Operation, WireRequest

R = TypeVar("R", bound=Resource)

Json = dict[str, object]


class AdmissionRequest:
    """One request that waits for our word. It lives as long as the call that it is given to.

    Attributes:
        uid: the API server's id of this request.
        operation: CREATE, UPDATE or DELETE.
        kind: of the object, in the version that the rules name.
        resource: the plural.
        subresource: such as ``status``; empty for the object itself.
        key: the object's; its name is empty on a create with generateName.
        user: who asks.
        dry_run: whether nothing will be stored: no effect outside may follow then.
        warnings: what the user is told even if it is admitted; kubectl prints it. `warn` adds to them.
        audit_annotations: what the audit log has of it; write ``request.audit_annotations["rule"] = "r1"``.

    Raises:
        BadReview: it does not say who asks.
    """

    def __init__(self, wire: WireRequest) -> None:
        self._wire = wire
        self.uid = wire.uid
        self.operation: Operation = wire.operation
        self.kind = wire.kind
        self.resource = wire.resource
        self.subresource = wire.sub_resource
        self.key = ObjectKey(wire.name, wire.namespace or None)
        self.user = _user(wire.user_info)
        self.dry_run = wire.dry_run
        self.warnings: list[str] = []
        self.audit_annotations: dict[str, str] = {}

    def warn(self, text: str) -> None:
        """Tells the user something. Long texts are cut: clients show 256 characters each, and 4,096 in all."""
        self.warnings.append(text)

    def object(self, kind: type[R]) -> R:
        """The object as it would be.

        Raises:
            Denied: the class cannot read it; names the fields.
            LookupError: there is none, as in a DELETE.
        """
        return _read(kind, self._wire.object, "object")

    def old(self, kind: type[R]) -> R:
        """The object as it is.

        When code lets this denial through, an update is judged anew, as a create: see `becomes_create`.

        Raises:
            Denied: the class cannot read it; names the fields.
            LookupError: there is none, as in a CREATE.
        """
        try:
            return _read(kind, self._wire.old_object, "old object")
        except Denied as denied:
            raise OldUnreadable(*denied.causes) from denied

    def becomes_create(self) -> None:
        """Has an update judged as if the object were new, since what it was cannot be read; what was said is unsaid."""
        self.operation = "CREATE"
        self.warnings.clear()
        self.audit_annotations.clear()

    def raw(self) -> Json:
        """The object as it would be, as plain JSON that is the caller's own."""
        return _plain(self._wire.object)

    def raw_old(self) -> Json:
        """The object as it is, as plain JSON that is the caller's own."""
        return _plain(self._wire.old_object)

    @property
    def options(self) -> Json:
        """The options of the verb, such as ``fieldManager`` or ``propagationPolicy``."""
        return _plain(self._wire.options)

    @property
    def size_bytes(self) -> int:
        """How long the objects are, the one that would be and the one that is together."""
        return len(bytes(self._wire.object)) + len(bytes(self._wire.old_object))

    @property
    def lacks_object(self) -> bool:
        """Whether it comes without the object that it is about, which no API server does."""
        needed = {"CREATE": (self._wire.object,), "UPDATE": (self._wire.object, self._wire.old_object)}
        return any(bytes(raw) == bytes(NOTHING) for raw in needed.get(self.operation, ()))

    @property
    def deletion_started(self) -> bool:
        """Whether the object is being deleted already, and waits for its finalizers only."""
        raw = self._wire.old_object if self.operation == "DELETE" else self._wire.object
        try:
            return decode_header(raw).metadata.deletion_timestamp is not None
        except msgspec.DecodeError:
            return False


def _user(raw: msgspec.Raw) -> UserInfo:
    try:
        return UserInfo.model_validate_json(bytes(raw))
    except ValidationError as error:
        raise BadReview(f"userInfo: {unreadable(error, show_values=False)}") from error


def _plain(raw: msgspec.Raw) -> Json:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, dict) else {}


def _read(kind: type[R], raw: msgspec.Raw, what: str) -> R:
    if bytes(raw) == bytes(NOTHING):
        raise LookupError(f"this request has no {what}")
    try:
        return kind.model_validate_json(bytes(raw))
    except ValidationError as error:
        raise unreadable(error, show_values=not kind.model_config.get("hide_input_in_errors")) from error
