"""Entry: one stored object, compact; and the reader that makes it of an object's JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from kaito.client.errors import KubeError
from kaito.client.wire import Fields, MetadataHeader, OwnerHeader

Labels = tuple[tuple[str, str], ...]
ByteTransform = Callable[[bytes], bytes]
"""From an object's JSON to the JSON that is kept of it."""

T = TypeVar("T")

log = logging.getLogger(__name__)

_INTERNED_LIMIT = 10_000
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_metadata = msgspec.json.Decoder(MetadataHeader).decode
_encode = msgspec.json.encode


class UnreadableObject(KubeError):
    """The server sent what is no object of the kind that was asked for.

    Attributes:
        key: the store key of what it seems to be; empty if that cannot be told.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class Owner(NamedTuple):
    """The controlling owner of an object, from its owner references."""

    group: str
    kind: str
    name: str
    uid: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One stored object: what lookups need, and the rest as bytes.

    A struct that the garbage collector does not walk: 20,000 of them add nothing to a collection's pause.

    Attributes:
        uid: metadata.uid.
        rv: metadata.resourceVersion; comparable within a kind.
        raw: the object's JSON without managedFields; a copy of its own, since a view would keep the whole page alive.
        labels: sorted pairs, shared between entries that have the same.
        owner: the controlling owner, if any.
    """

    uid: str
    rv: int
    raw: bytes
    labels: Labels = ()
    owner: Owner | None = None


def store_key(name: str, namespace: str | None) -> str:
    """The key of an object in its store."""
    return f"{namespace}/{name}" if namespace else name


class EntryReader:
    """Makes entries of JSON: drops managedFields, shares equal labels and owners, runs the transform.

    Args:
        kinds: names of kind that objects may have; empty: any. Objects without one (items of lists of built-in kinds)
            are taken for it.
        transform: what is kept of an object; run once per version of it. One that raises leaves its object whole.

    Attributes:
        transform_errors: how often the transform raised.
    """

    def __init__(self, kinds: Collection[str] = (), transform: ByteTransform | None = None) -> None:
        self._kinds = frozenset(_encode(kind) for kind in kinds)
        self._transform = transform
        self._interned: dict[object, object] = {}
        self.transform_errors = 0

    def read(self, raw: bytes | msgspec.Raw | Fields, stored: Mapping[str, Entry]) -> tuple[str, Entry]:
        """Returns the key and the entry of an object.

        Args:
            raw: its JSON, or its fields if it is split already.
            stored: entries by key; one of the same uid and version is returned as it is.

        Raises:
            UnreadableObject: it is of another kind, or lacks a name, a uid or a numeric resourceVersion.
        """
        fields, metadata = self._open(raw)
        key = store_key(metadata.name, metadata.namespace)
        rv = self._version(metadata, key)
        known = stored.get(key)
        if known is not None and known.rv == rv and known.uid == metadata.uid:
            return key, known
        own = _without_managed_fields(raw, fields)
        if self._transform is not None:
            own = self._transformed(own, key, self._transform)
        return key, self._entry(metadata, rv, own)

    def last_state(self, raw: bytes | msgspec.Raw | Fields) -> tuple[str, Entry]:
        """Returns the key and the entry of an object that was deleted; it is not transformed. Raises as `read`."""
        fields, metadata = self._open(raw)
        key = store_key(metadata.name, metadata.namespace)
        return key, self._entry(metadata, self._version(metadata, key), _without_managed_fields(raw, fields))

    def forget(self) -> None:
        """Drops the labels and owners that were shared so far: a relist builds them anew."""
        self._interned = {}

    def _open(self, raw: bytes | msgspec.Raw | Fields) -> tuple[Fields, MetadataHeader]:
        try:
            fields = raw if isinstance(raw, dict) else _split(raw)
            metadata = _decode_metadata(fields["metadata"])
        except (KeyError, ValueError) as error:
            # Its bytes may be a Secret's: they are in no message.
            raise UnreadableObject(f"no Kubernetes object: {error!r}") from error
        kind = fields.get("kind")
        if kind is not None and self._kinds and bytes(kind) not in self._kinds:
            wanted = " or ".join(sorted(each.decode() for each in self._kinds))
            key = store_key(metadata.name, metadata.namespace)
            raise UnreadableObject(f"{key or 'an object'} has kind {bytes(kind).decode()}, expected {wanted}", key)
        return fields, metadata

    def _version(self, metadata: MetadataHeader, key: str) -> int:
        try:
            rv = int(metadata.resource_version)
        except ValueError:
            rv = 0
        if metadata.name and metadata.uid and rv:
            return rv
        given = f"name {metadata.name!r}, uid {metadata.uid!r}, resourceVersion {metadata.resource_version!r}"
        raise UnreadableObject(f"an object needs name, uid and a numeric resourceVersion; this has {given}", key)

    def _entry(self, metadata: MetadataHeader, rv: int, own: bytes) -> Entry:
        labels: Labels = tuple(sorted(metadata.labels.items())) if metadata.labels else ()
        owner = _controller_of(metadata.owner_references)
        return Entry(metadata.uid, rv, own, self._intern(labels), self._intern(owner))

    def _transformed(self, own: bytes, key: str, transform: ByteTransform) -> bytes:
        try:
            return transform(own)
        except Exception:
            self.transform_errors += 1
            if self.transform_errors & (self.transform_errors - 1) == 0:
                log.exception("transform failed, the object is kept whole", extra={"key": key})
            return own

    def _intern(self, value: T) -> T:
        if not value:
            return value
        if len(self._interned) > _INTERNED_LIMIT:
            self._interned = {}
        return self._interned.setdefault(value, value)  # type: ignore[return-value]


def _without_managed_fields(raw: bytes | msgspec.Raw | Fields, fields: Fields) -> bytes:
    parts = _split(fields["metadata"])
    if parts.pop("managedFields", None) is None:
        return _encode(fields) if isinstance(raw, dict) else bytes(raw)
    fields["metadata"] = msgspec.Raw(_encode(parts))
    return _encode(fields)


def _controller_of(references: list[OwnerHeader] | None) -> Owner | None:
    for reference in references or ():
        if reference.controller:
            group = reference.api_version.rpartition("/")[0]
            return Owner(group, reference.kind, reference.name, reference.uid)
    return None
