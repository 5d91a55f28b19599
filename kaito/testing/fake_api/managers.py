"""Managers: who owns which field (``metadata.managedFields``), and server-side apply on top of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kaito.testing.fake_api.failures import Cause, Json, apply_conflict
from kaito.testing.fake_api.fields import (
    FieldSet,
    Path,
    closed,
    decode_fields,
    dotted,
    encode_fields,
    leaves,
    merge,
    remove,
)
from kaito.testing.fake_api.kinds import Kind

# Nobody owns these: they name the object, or the server writes them.
_UNOWNED = frozenset(
    {"name", "namespace", "uid", "creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink"}
    | {"deletionTimestamp", "deletionGracePeriodSeconds"}
)


class Manager(NamedTuple):
    """One writer. The same name applying, updating, and writing another subresource is three managers."""

    name: str
    operation: Literal["Apply", "Update"]
    subresource: str
    api_version: str

    def identity(self) -> tuple[str, str, str, str]:
        """What tells managers apart: appliers keep theirs when they change to another version of the API."""
        return (*self[:3], "" if self.operation == "Apply" else self.api_version)

    def __str__(self) -> str:
        through = f' with subresource "{self.subresource}"' if self.subresource else ""
        version = f" using {self.api_version}" if self.operation == "Update" else ""
        return f'"{self.name}"{through}{version}'


@dataclass(frozen=True)
class Owned:
    """What a manager owns, and since when."""

    manager: Manager
    fields: FieldSet
    time: str


class Ownership:
    """Who owns what of one object.

    Args:
        entries: ``metadata.managedFields``.
    """

    def __init__(self, entries: list[Json]) -> None:
        owned = [_decode(entry) for entry in entries]
        self._owned = {one.manager.identity(): one for one in owned}

    def of(self, manager: Manager) -> FieldSet:
        """The fields of a manager."""
        owned = self._owned.get(manager.identity())
        return owned.fields if owned else frozenset()

    def others(self, manager: Manager) -> list[Owned]:
        """Everybody else's."""
        return [owned for identity, owned in self._owned.items() if identity != manager.identity()]

    def give(self, manager: Manager, fields: FieldSet, now: str) -> None:
        """Says what a manager owns from now on; one that owns nothing is forgotten."""
        identity = manager.identity()
        known = self._owned.get(identity)
        if known and known.fields == fields and known.manager == manager:
            return
        if fields:
            self._owned[identity] = Owned(manager, fields, now)
        else:
            self._owned.pop(identity, None)

    def take(self, manager: Manager, fields: FieldSet) -> None:
        """Takes fields from a manager; its time stays, since it did nothing."""
        identity = manager.identity()
        known = self._owned[identity]
        if known.fields & fields:
            self.give(manager, known.fields - fields, known.time)

    def encode(self) -> list[Json]:
        """``metadata.managedFields``: appliers first, then by time."""
        owned = sorted(self._owned.values(), key=lambda one: (one.manager.operation, one.time, one.manager))
        return [_encode(one) for one in owned]


def track_update(kind: Kind, live: Json, new: Json, manager: Manager, now: str) -> Json:
    """Returns the new object with its managedFields: who updates a field owns it, alone.

    Args:
        kind: its kind.
        live: what it was; empty on create.
        new: what it shall be, with the live object's managedFields.
        manager: who writes.
        now: the time, as the API writes it.
    """
    if live and not _managed(live):
        return new  # Objects whose fields have no owner stay so until the first apply.
    ownership = Ownership(_managed(live))
    added_or_changed, removed = _compare(kind, live, new, manager)
    for other in ownership.others(manager):
        ownership.take(other.manager, added_or_changed | removed)
    ownership.give(manager, (ownership.of(manager) - removed) | added_or_changed, now)
    return with_managed(new, ownership.encode())


def apply(kind: Kind, live: Json, config: Json, manager: Manager, now: str, *, force: bool) -> Json:
    """Server-side apply: lays the config over the live object and prunes what this manager applied before and not now.

    Args:
        kind: its kind.
        live: what is stored; empty when nothing is.
        config: the applied object, without what the server sets.
        manager: who applies.
        now: the time, as the API writes it.
        force: take fields over from others.

    Raises:
        Failure: 409 with causes ``FieldManagerConflict``: others own fields that would change.
    """
    ownership = Ownership(_managed(live))
    if live and not _managed(live):
        unowned = frozenset(path for path in leaves(live, kind.shape) if _is_owned(kind, path, ""))
        ownership.give(Manager("before-first-apply", "Update", "", manager.api_version), unowned, now)
    last = ownership.of(manager)
    wanted = frozenset(leaves(config, kind.shape))
    others = frozenset(path for other in ownership.others(manager) for path in other.fields)
    dropped = closed(last) - closed(wanted) - closed(others)
    merged = remove(merge(live, config, kind.shape), sorted(dropped), kind.shape)
    added_or_changed, removed = _compare(kind, live, merged, manager)
    clashes = [(other, other.fields & added_or_changed) for other in ownership.others(manager)]
    if not force:
        _refuse(clashes)
    for other, fields in clashes:
        ownership.take(other.manager, fields | removed)
    ownership.give(manager, frozenset(path for path in wanted if _is_owned(kind, path, manager.subresource)), now)
    return with_managed(merged, ownership.encode())


def with_managed(obj: Json, entries: list[Json]) -> Json:
    """Returns the object with these managedFields."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def _managed(obj: Json) -> list[Json]:
    entries: list[Json] = obj.get("metadata", {}).get("managedFields") or []
    return entries


def _refuse(clashes: list[tuple[Owned, FieldSet]]) -> None:
    causes = [
        Cause(dotted(path), "FieldManagerConflict", f"conflict with {other.manager}")
        for other, fields in clashes
        for path in sorted(fields)
    ]
    if causes:
        raise apply_conflict(causes)


def _compare(kind: Kind, live: Json, new: Json, manager: Manager) -> tuple[FieldSet, FieldSet]:
    before, after = leaves(live, kind.shape), leaves(new, kind.shape)
    absent = object()
    changed = {path for path, value in after.items() if before.get(path, absent) != value}
    removed = {path for path in before if path not in after}
    return (
        frozenset(path for path in changed if _is_owned(kind, path, manager.subresource)),
        frozenset(path for path in removed if _is_owned(kind, path, manager.subresource)),
    )


def _is_owned(kind: Kind, path: Path, subresource: str) -> bool:
    match path:
        case ("f:apiVersion" | "f:kind",):
            return False
        case ("f:metadata",) | ():
            return False
        case ("f:metadata", name, *_) if name[2:] in _UNOWNED:
            return False
    if subresource == "status":
        return path[0] == "f:status"
    return path[0] != "f:status" or not kind.status


def _decode(entry: Json) -> Owned:
    manager = Manager(
        entry.get("manager", ""), entry["operation"], entry.get("subresource", ""), entry.get("apiVersion", "")
    )
    return Owned(manager, decode_fields(entry.get("fieldsV1", {})), entry.get("time", ""))


def _encode(owned: Owned) -> Json:
    manager = owned.manager
    entry: Json = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": encode_fields(owned.fields),
    }
    return entry | ({"subresource": manager.subresource} if manager.subresource else {})
