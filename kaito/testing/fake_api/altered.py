"""What faults do to bytes on their way to the client: lines of a watch, and bodies of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

import msgspec

from kaito.client import wire
from kaito.testing.fake_api.failures import Json
from kaito.testing.fake_api.faults import (
    Action,
    Alter,
    CutAnswer,
    CutWatch,
    FailWatch,
    Refuse,
    Trickle,
    version_expired,
)

IMPOSTER = {"apiVersion": "imposter.example.com/v1", "kind": "Imposter"}
_OBJECT_EVENTS = ("ADDED", "MODIFIED", "DELETED")
_NO_JSON = b"<html>a gateway's opinion</html>"

Break = Callable[[], Exception]
"""Makes what a broken connection raises."""


def altered(
    chunks: AsyncIterator[bytes], actions: Sequence[Action], *, watch: bool, broken: Break
) -> AsyncIterator[bytes]:
    """The body as the client gets it.

    Args:
        chunks: as the server sends it.
        actions: what goes wrong; those that do not concern the body are passed over.
        watch: whether it is lines of events.
        broken: makes what is raised where the connection breaks.
    """
    for action in actions:
        match action:
            case Alter() if watch:
                chunks = _altered_lines(chunks, action)
            case Alter():
                chunks = _altered_body(chunks, action)
            case CutAnswer():
                chunks = _cut_body(chunks, broken)
            case _:
                pass
    # After the alterations: what they count is what the server said, what this counts is what comes through.
    for action in actions:
        if isinstance(action, CutWatch | FailWatch) and watch:
            chunks = _cut_lines(chunks, action, broken)
    for action in actions:
        if isinstance(action, Trickle):
            chunks = _trickle(chunks, action)
    return chunks


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async for batch in wire.lines(chunks):
        for line in batch:
            yield line


async def _altered_lines(chunks: AsyncIterator[bytes], alter: Alter) -> AsyncGenerator[bytes, None]:
    seen, again = 0, b""
    async with aclosing(_lines(chunks)) as lines:
        async for line in lines:
            counts = _type_of(line) in ([alter.event] if alter.event != "*" else _OBJECT_EVENTS)
            seen += counts
            hit = counts and seen >= alter.nth and (alter.times is None or seen < alter.nth + alter.times)
            for changed in _altered_line(line, alter) if hit else [line]:
                yield changed + b"\n"
            if again:
                yield again + b"\n"
            again = line if hit and alter.how == "repeat" else b""


def _altered_line(line: bytes, alter: Alter) -> list[bytes]:
    match alter.how:
        case "drop":
            return []
        case "double":
            return [line, line]
        case "repeat":
            return [line]
        case "malformed":
            return [_NO_JSON]
        case _:
            event = msgspec.json.decode(line)
            return [msgspec.json.encode(event | {"object": _altered_object(event["object"], alter)})]


async def _altered_body(chunks: AsyncIterator[bytes], alter: Alter) -> AsyncGenerator[bytes, None]:
    body = b"".join([chunk async for chunk in chunks])
    match alter.how:
        case "malformed":
            yield _NO_JSON
        case "without_uid" | "other_kind":
            yield msgspec.json.encode(_altered_object(msgspec.json.decode(body), alter))
        case _:
            yield body


def _altered_object(obj: Json, alter: Alter) -> Json:
    items = obj.get("items")
    if alter.how == "other_kind":
        suffix = "List" if items is not None else ""
        return obj | IMPOSTER | {"kind": f"{IMPOSTER['kind']}{suffix}"}
    if items is not None:
        return obj | {"items": [_without_uid(items[0]), *items[1:]] if items else []}
    return _without_uid(obj)


def _without_uid(obj: Json) -> Json:
    return obj | {"metadata": {name: value for name, value in obj["metadata"].items() if name != "uid"}}


async def _cut_body(chunks: AsyncIterator[bytes], broken: Break) -> AsyncGenerator[bytes, None]:
    body = b"".join([chunk async for chunk in chunks])
    yield body[: len(body) // 2]
    raise broken()


async def _cut_lines(
    chunks: AsyncIterator[bytes], cut: CutWatch | FailWatch, broken: Break
) -> AsyncGenerator[bytes, None]:
    through = 0
    torn = isinstance(cut, CutWatch) and cut.torn
    if cut.after or torn:
        async with aclosing(_lines(chunks)) as lines:
            async for line in lines:
                if through == cut.after:
                    yield line[: len(line) // 2]
                    break
                through += 1
                yield line + b"\n"
                if through == cut.after and not torn:
                    break
            else:
                return
    match cut:
        case FailWatch(error):
            yield _error_line(error)
        case CutWatch(how="expire"):
            yield _error_line(version_expired())
        case CutWatch(how="reset"):
            raise broken()
        case CutWatch(how="silence"):
            await asyncio.get_running_loop().create_future()


async def _trickle(chunks: AsyncIterator[bytes], trickle: Trickle) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        for start in range(0, len(chunk), trickle.size):
            await asyncio.sleep(trickle.pause_s)
            yield chunk[start : start + trickle.size]


def _error_line(error: Refuse) -> bytes:
    return msgspec.json.encode({"type": "ERROR", "object": error.failure().status()}) + b"\n"


def _type_of(line: bytes) -> str:
    try:
        return wire.decode_watch_line(line).type
    except msgspec.DecodeError:
        return ""  # another rule got to it first
