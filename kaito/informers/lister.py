"""Lister: the list requests of a reflector, in pages or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec

from kaito.client import wire
from kaito.client.errors import error_from_response
from kaito.client.transport import Request, Response, Transport
from kaito.informers.entry import UnreadableObject
from kaito.informers.list_cutter import ListCutter
from kaito.kube.resource import ResourceType

Take = Callable[[bytes | msgspec.Raw], None]
"""What is done with each object of a list."""

LIST_TIMEOUT_S = 60.0
PAGE_SIZE = 500
# Objects handled between two turns of the loop: about 2 ms.
SLICE = 200


class Lister:
    """Lists the objects of one kind.

    Args:
        transport: how requests travel.
        resource: the kind.
        path: of the collection.
        query: selectors.
        headers: media types.
    """

    def __init__(
        self,
        transport: Transport,
        resource: ResourceType,
        path: str,
        query: tuple[tuple[str, str], ...],
        headers: Mapping[str, str],
    ) -> None:
        self._transport = transport
        self._resource = resource
        self._path = path
        self._query = query
        self._headers = headers

    async def pages(self, take: Take) -> str:
        """Lists in pages of `PAGE_SIZE`; returns the position of the list, which is that of its first page.

        Raises:
            ApiError, TransportError, UnreadableObject, msgspec.DecodeError: no list, or not to its end.
        """
        version = token = ""
        while True:
            request = self._request((("limit", str(PAGE_SIZE)), *((("continue", token),) if token else ())))
            response = await self._transport.send(request)
            if response.status != 200:
                raise error_from_response(request, response)
            page = wire.decode_page(response.body)
            self._check_kind(page)
            await _take_all(page.items or (), take)
            version, token = version or page.metadata.resource_version, page.metadata.continue_
            if not token:
                return version

    async def whole(self, take: Take) -> str:
        """Lists in one answer, taken object by object as it arrives; returns its position. Raises as `pages`."""
        request = self._request(())
        stream = await self._transport.stream(request)
        try:
            if stream.status != 200:
                body = b"".join([chunk async for chunk in stream.chunks()])
                raise error_from_response(request, Response(stream.status, stream.headers, body))
            cutter = ListCutter()
            async for chunk in stream.chunks():
                await _take_all(cutter.feed(chunk), take)
                # A server that always has more must not keep the loop.
                await asyncio.sleep(0)
        finally:
            await stream.aclose()
        rest = cutter.close()
        self._check_kind(rest)
        await _take_all(rest.items or (), take)
        return rest.metadata.resource_version

    def _request(self, query: tuple[tuple[str, str], ...]) -> Request:
        return Request(
            "GET",
            self._path,
            "list",
            query=(*self._query, *query),
            headers=self._headers,
            resource=self._resource,
            timeout_s=LIST_TIMEOUT_S,
        )

    def _check_kind(self, page: wire.ListPage) -> None:
        if not self._resource.may_be_listed_as(page.kind):
            wanted = f"{self._resource.kind}List"
            raise UnreadableObject(f"list {self._resource.plural}: the server sent a {page.kind}, not a {wanted}")


async def _take_all(items: Iterable[bytes | msgspec.Raw], take: Take) -> None:
    for index, raw in enumerate(items):
        take(raw)
        if index % SLICE == SLICE - 1:
            await asyncio.sleep(0)
