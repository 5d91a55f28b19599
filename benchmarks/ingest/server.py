"""A server of recorded bytes, in a process of its own: one streaming list, then events, at a rate or at full speed.

It speaks just enough for a watch over plain HTTP/1.1: the initial events, the bookmark that ends them, and then, when
told on stdin ``replay EVENTS RATE``, events that change the objects in turn, each in an HTTP chunk of its own as an API
server sends them. Nothing is read, encoded or stored meanwhile, so that it is not what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Iterator

from benchmarks.ingest.objects import FIRST_VERSION, SHAPES, Template
from benchmarks.processes import say, stdin_lines

# Between two looks at the clock, when events go at a rate.
_TICK_S = 0.001
_BATCH_BYTES = 1 << 18
_NS = 1_000_000_000


class Recording:
    """Objects, and their changes in turn: event number n changes object n modulo their count.

    Args:
        shape: name of their shape.
        objects: how many.
    """

    def __init__(self, shape: str, objects: int) -> None:
        kind = SHAPES[shape].kind
        self.path = kind.resource_type.path()
        self._api_version, self._kind = kind.resource_type.api_version, kind.resource_type.kind
        self._templates: list[Template] = SHAPES[shape].templates(objects)
        self._sent = 0

    def initial(self) -> Iterator[bytes]:
        """The events of a streaming list."""
        for index, template in enumerate(self._templates):
            yield _event(b"ADDED", template.at(FIRST_VERSION + index, 0))
        yield _event(b"BOOKMARK", self._bookmark(FIRST_VERSION + len(self._templates) - 1))

    def next(self, due_ns: int) -> bytes:
        """The next change, which says when it was due."""
        count = len(self._templates)
        version = FIRST_VERSION + count + self._sent
        event = _event(b"MODIFIED", self._templates[self._sent % count].at(version, due_ns))
        self._sent += 1
        return event

    def _bookmark(self, version: int) -> bytes:
        annotations = {"k8s.io/initial-events-end": "true"}
        metadata = {"resourceVersion": str(version), "annotations": annotations}
        return json.dumps({"apiVersion": self._api_version, "kind": self._kind, "metadata": metadata}).encode()


class ReplayServer:
    """Serves a recording to one watcher after the other."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._watcher: asyncio.StreamWriter | None = None

    async def replay(self, events: int, rate: float) -> int:
        """Sends events.

        Args:
            events: how many.
            rate: per second; 0 for as fast as the watcher reads.

        Returns:
            When the last one was due, in nanoseconds since 1970.
        """
        if self._watcher is None:
            raise RuntimeError("replay: nobody watches")
        if rate:
            return await self._at_rate(self._watcher, events, rate)
        return await self._at_full_speed(self._watcher, events)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection: streams if it asks for a watch of the recorded kind."""
        try:
            target = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
            path, _, query = target.partition("?")
            if path != self._recording.path or "sendInitialEvents=true" not in query:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            for event in self._recording.initial():
                writer.write(event)
                await writer.drain()
            self._watcher = writer
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _at_full_speed(self, watcher: asyncio.StreamWriter, events: int) -> int:
        due_ns, batch, size = 0, [], 0
        for _ in range(events):
            due_ns = time.time_ns()
            event = self._recording.next(due_ns)
            batch.append(event)
            size += len(event)
            if size >= _BATCH_BYTES:
                watcher.write(b"".join(batch))
                batch, size = [], 0
                await watcher.drain()
        watcher.write(b"".join(batch))
        await watcher.drain()
        return due_ns

    async def _at_rate(self, watcher: asyncio.StreamWriter, events: int, rate: float) -> int:
        began_ns = time.time_ns()
        due_ns = began_ns
        for number in range(events):
            due_ns = began_ns + int(number * _NS / rate)
            # An event that this server was late to send counts from when it was due: a stall must not hide itself.
            while time.time_ns() < due_ns:
                await watcher.drain()
                await asyncio.sleep(_TICK_S)
            watcher.write(self._recording.next(due_ns))
        await watcher.drain()
        return due_ns


def _event(type_: bytes, obj: bytes) -> bytes:
    line = b'{"type":"%b","object":%b}\n' % (type_, obj)
    return b"%x\r\n%b\r\n" % (len(line), line)


async def run(arguments: argparse.Namespace) -> None:
    """Serves until stdin ends."""
    replayer = ReplayServer(Recording(arguments.shape, arguments.objects))
    # A collection that walks the recording would look like a latency of whoever is measured.
    gc.freeze()
    server = await asyncio.start_server(replayer.serve, "127.0.0.1", 0)
    commands = await stdin_lines()
    say("ready", port=server.sockets[0].getsockname()[1])
    while command := await commands.readline():
        _, events, rate = command.split()
        say("replayed", ended_ns=await replayer.replay(int(events), float(rate)))
    server.close()


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), required=True)
    parser.add_argument("--objects", type=int, required=True)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
