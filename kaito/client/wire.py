"""The shapes of Kubernetes' JSON that the hot path reads, as msgspec structs: envelopes outside, raw bytes inside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec


class OwnerHeader(msgspec.Struct, rename="camel", gc=False):
    """An owner reference, as far as indexes need it."""

    uid: str = ""
    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool = False


class MetadataHeader(msgspec.Struct, rename="camel", gc=False):
    """The part of an object's metadata that caches and writes look at."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[OwnerHeader] | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] | None = None


class ObjectHeader(msgspec.Struct, gc=False):
    """An object of which only the metadata was decoded."""

    metadata: MetadataHeader
    kind: str = ""


class ListMetadata(msgspec.Struct, rename={"resource_version": "resourceVersion", "continue_": "continue"}, gc=False):
    """Metadata of a list: where a watch may start, and where the next page is."""

    resource_version: str = ""
    continue_: str = ""


class ListPage(msgspec.Struct, gc=False):
    """A page of a list, its objects still bytes. They are views into the page: copy what is kept."""

    metadata: ListMetadata
    items: list[msgspec.Raw] | None = None
    kind: str = ""


class WatchLine(msgspec.Struct, gc=False):
    """One event of a watch, its object still bytes."""

    type: str
    object: msgspec.Raw


Fields = dict[str, msgspec.Raw]
"""An object of which only the outermost level was decoded: its fields by name, still bytes."""


class FieldsLine(msgspec.Struct, gc=False):
    """One event of a watch, its object split into fields in the same pass."""

    type: str
    object: Fields


class BookmarkMetadata(msgspec.Struct, rename="camel", gc=False):
    """The metadata of a bookmark: the position, and whether the initial events end there."""

    resource_version: str = ""
    annotations: dict[str, str] | None = None


decode_header = msgspec.json.Decoder(ObjectHeader).decode
decode_page = msgspec.json.Decoder(ListPage).decode
decode_bookmark_metadata = msgspec.json.Decoder(BookmarkMetadata).decode
decode_fields_line = msgspec.json.Decoder(FieldsLine).decode
decode_watch_line = msgspec.json.Decoder(WatchLine).decode


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Cuts a stream of bytes at line ends; yields the complete lines of each chunk, of any length, together.

    What stands after the last line end when the stream closes is an event that was cut off, and is dropped: it
    comes again with the next watch.
    """
    parts: list[bytes] = []
    async for chunk in chunks:
        head, newline, rest = chunk.partition(b"\n")
        if not newline:
            parts.append(chunk)
            continue
        parts.append(head)
        complete = [b"".join(parts)]
        *more, tail = rest.split(b"\n")
        parts = [tail] if tail else []
        yield [line for line in complete + more if line]
