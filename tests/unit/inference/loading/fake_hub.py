"""A hub of Hugging Face's kind on loopback: its API for one model, ranges, refusals, and transfers that break off."""

from __future__ import annotations

import array
import asyncio
import fcntl
import hashlib
import socket
import struct
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

COMMIT = "c" * 40


@dataclass(slots=True)
class Hub:
    """What it has, what it was asked, and how it misbehaves.

    Attributes:
        files: of its one model, org/tiny at its only commit.
        ranges: of each answered GET of a file: name and first byte.
        tokens: bearer tokens that came with requests.
        refusal: status and error code of every answer.
        break_off: files whose next transfer ends after so many bytes, with a reset.
        sizes: what it says of a file, if not the truth.
    """

    files: dict[str, bytes]
    url: str = ""
    ranges: list[tuple[str, int]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    refusal: tuple[int, str] | None = None
    break_off: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def application(self) -> web.Application:
        """Its routes."""

        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return self._refused(request) or await handler(request)

        application = web.Application(middlewares=[guard])
        application.router.add_get("/api/models/org/tiny/revision/{revision}", self._info)
        application.router.add_get("/api/models/org/tiny", self._info)
        application.router.add_get("/api/models/org/tiny/tree/{revision}", self._tree)
        application.router.add_get("/org/tiny/resolve/{revision}/{name:.+}", self._file, allow_head=False)
        application.router.add_head("/org/tiny/resolve/{revision}/{name:.+}", self._file)
        return application

    def _refused(self, request: web.Request) -> web.Response | None:
        self.tokens.add(request.headers.get("Authorization"))
        status, code = self.refusal or (200, "")
        if "/org/tiny" not in request.path:
            status, code = 404, "RepoNotFound"
        if request.match_info.get("revision", "main") not in ("main", COMMIT):
            status, code = 404, "RevisionNotFound"
        if status == 200:
            return None
        return web.json_response({}, status=status, headers={"X-Error-Code": code} if code else {})

    def _size(self, name: str) -> int:
        return self.sizes.get(name, len(self.files[name]))

    async def _info(self, request: web.Request) -> web.Response:
        siblings = [{"rfilename": name, "size": self._size(name)} for name in self.files]
        return web.json_response({"id": "org/tiny", "sha": COMMIT, "siblings": siblings})

    async def _tree(self, request: web.Request) -> web.Response:
        return web.json_response(
            [
                {"type": "file", "path": name, "size": self._size(name), "oid": _etag(content)}
                for name, content in self.files.items()
            ]
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        content = self.files[name]
        start = request.http_range.start or 0
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        response.content_length = len(content) - start
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self.ranges.append((name, start))
        if limits := self.break_off.get(name):
            await response.write(content[start : start + limits.pop(0)])
            assert request.transport is not None
            await _reset(request.transport)
            return response
        await response.write(content[start:])
        return response


async def _reset(transport: asyncio.Transport) -> None:
    """Ends a connection with a reset, once the other side has all that was written."""
    endpoint = transport.get_extra_info("socket")
    unsent = array.array("i", [1])
    while transport.get_write_buffer_size() or unsent[0]:
        await asyncio.sleep(0)
        fcntl.ioctl(endpoint.fileno(), termios.TIOCOUTQ, unsent)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
