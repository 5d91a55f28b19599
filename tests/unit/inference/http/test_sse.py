"""Streams of events over plain ASGI: how they end, and what becomes of their work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from starlette.types import Message

from kaito.inference.errors import RequestTimeout
from kaito.inference.http.errors import ClientGone
from kaito.inference.http.sse import EventStream, event, until_gone


class Connection:
    """An ASGI server's side of one request: keeps what is sent, and the client goes when told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.put_nowait(message)

    def body(self) -> bytes:
        return b"".join(self.sent.get_nowait().get("body", b"") for _ in range(self.sent.qsize()))


async def run(stream: EventStream, connection: Connection) -> None:
    await stream({"type": "http"}, connection.receive, connection.send)


class Closed:
    """Counts calls of a stream's `close`."""

    count = 0

    async def __call__(self) -> None:
        self.count += 1


async def test_events_are_sent_one_by_one_and_the_last_message_says_so() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event({"a": 1})
        yield event({"b": "ü"})

    connection, closed = Connection(), Closed()
    await run(EventStream(events(), closed), connection)
    start, *bodies = [connection.sent.get_nowait() for _ in range(connection.sent.qsize())]
    assert dict(start["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in dict(start["headers"])
    assert [(message["body"], message["more_body"]) for message in bodies] == [
        (b'data: {"a":1}\n\n', True),
        ('data: {"b":"ü"}\n\n'.encode(), True),
        (b"", False),
    ]
    assert closed.count == 1


async def test_an_error_in_the_middle_is_the_last_event() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event({"a": 1})
        raise RequestTimeout("it took longer than 600 s")

    connection, closed = Connection(), Closed()
    await run(EventStream(events(), closed), connection)
    first, last, rest = connection.body().split(b"\n\n")
    assert (first, rest) == (b'data: {"a":1}', b"")
    error = msgspec.json.decode(last.removeprefix(b"data: "))["error"]
    assert (error["type"], error["code"], error["message"]) == (
        "timeout_error",
        "request_timeout",
        "it took longer than 600 s",
    )
    assert closed.count == 1


async def test_a_defect_in_the_middle_is_an_event_without_its_cause_and_is_raised_for_the_log() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event({"a": 1})
        raise ZeroDivisionError("1/0")

    connection, closed = Connection(), Closed()
    with pytest.raises(ZeroDivisionError):
        await run(EventStream(events(), closed), connection)
    body = connection.body()
    assert b"server_error" in body
    assert b"1/0" not in body
    assert closed.count == 1


async def test_a_client_that_goes_ends_what_makes_the_events() -> None:
    ended = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield event({"a": 1})
            await asyncio.Event().wait()
        finally:
            ended.set()

    connection, closed = Connection(), Closed()
    task = asyncio.create_task(run(EventStream(events(), closed), connection))
    while b"data" not in (await connection.sent.get()).get("body", b""):
        pass
    connection.gone.set()
    await task
    assert ended.is_set()
    assert closed.count == 1


async def test_a_client_that_has_gone_before_the_first_event_closes_it_all_the_same() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        await asyncio.Event().wait()
        yield b""

    connection, closed = Connection(), Closed()
    connection.gone.set()
    await run(EventStream(events(), closed), connection)
    assert closed.count == 1


async def test_events_are_closed_even_if_the_client_goes_while_one_is_sent() -> None:
    closed_events = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield event({"a": 1})
        finally:
            closed_events.set()

    connection = Connection()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            connection.gone.set()
            await asyncio.Event().wait()  # as when the client reads nothing any more

    stream = EventStream(events(), Closed())
    await stream({"type": "http"}, connection.receive, send)
    assert closed_events.is_set()


async def test_work_is_done_while_the_client_stays() -> None:
    async def work() -> int:
        return 5

    assert await until_gone(Connection().receive, work()) == 5


async def test_work_ends_before_its_caller_hears_that_the_client_has_gone() -> None:
    connection, done = Connection(), list[Any]()

    async def work() -> None:
        connection.gone.set()
        try:
            await asyncio.Event().wait()
        finally:
            done.append("ended")

    with pytest.raises(ClientGone):
        await until_gone(connection.receive, work())
    assert done == ["ended"]


async def test_a_caller_that_is_cancelled_cancels_the_work() -> None:
    started, done = asyncio.Event(), list[Any]()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            done.append("ended")

    task = asyncio.create_task(until_gone(Connection().receive, work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["ended"]
