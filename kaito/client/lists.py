"""Lists: page by page, so that no answer is too large for either side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from pydantic import ValidationError

from kaito.client import requests, wire
from kaito.client.errors import ApiError, Gone, not_from_an_api_server
from kaito.client.results import ObjectList, Unreadable
from kaito.client.transport import Request, Response
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)

PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class Listing(Generic[R]):
    """What to list.

    Attributes:
        kind: the class.
        namespace: None for all.
        labels: label selector.
        fields: field selector.
    """

    kind: type[R]
    namespace: str | None
    labels: str
    fields: str

    def request(self, limit: int, token: str) -> Request:
        """The request for a page; a limit of 0 asks for all in one answer."""
        query = requests.selectors(self.labels, self.fields)
        query += (("limit", str(limit)),) if limit else ()
        query += (("continue", token),) if token else ()
        kind = self.kind
        return requests.on_collection("GET", "list", kind.resource_type, self.namespace, query, accept=kind.list_accept)


async def pages(
    ask: Callable[[Request], Awaitable[Response]], listing: Listing[R], page_size: int
) -> AsyncIterator[ObjectList[R]]:
    """Yields a list page by page. See `Client.pages`."""
    if page_size < 1:
        raise ValueError(f"pages of {listing.kind.resource_type.plural}: page_size {page_size}: must be at least 1")
    version = token = ""
    while True:
        request = listing.request(page_size, token)
        try:
            response = await ask(request)
        except Gone as error:
            if not token:
                raise
            raise _expired(request, error) from error
        page = _page(request, response)
        # The list's position is that of its first page.
        version, token = version or page.metadata.resource_version, page.metadata.continue_
        yield _read(listing.kind, page, version)
        if not token:
            return


async def whole(ask: Callable[[Request], Awaitable[Response]], listing: Listing[R], limit: int | None) -> ObjectList[R]:
    """Reads a list, or the first of it. One whose pages expire meanwhile is read again in one answer."""
    check_limit(listing.kind, limit)
    objects: list[R] = []
    unreadable: list[Unreadable] = []
    version = ""
    try:
        async for page in pages(ask, listing, min(limit or PAGE_SIZE, PAGE_SIZE)):
            objects += page
            unreadable += page.unreadable
            version = page.resource_version
            if limit is not None and len(objects) + len(unreadable) >= limit:
                break
    except Gone:
        if not version:
            raise
        request = listing.request(limit or 0, "")
        full = _page(request, await ask(request))
        return _read(listing.kind, full, full.metadata.resource_version)
    return ObjectList(objects[:limit], version, unreadable)


def check_limit(kind: type[Resource], limit: int | None) -> None:
    """Refuses a limit that is none.

    Raises:
        ValueError: it is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"list {kind.resource_type.plural}: limit {limit}: must be at least 1")


def _page(request: Request, response: Response) -> wire.ListPage:
    try:
        page = wire.decode_page(response.body)
    except msgspec.DecodeError as error:
        raise not_from_an_api_server(request, "list", error, response.body, response.headers) from error
    if request.resource is not None and not request.resource.may_be_listed_as(page.kind):
        raise ApiError(
            f"{request.describe()}: what came back is a {page.kind}, and no {request.resource.kind}List; does the "
            f"class say the right kind and plural, and is nothing before the API server that answers in its place?"
        )
    return page


def _read(kind: type[R], page: wire.ListPage, version: str) -> ObjectList[R]:
    objects: list[R] = []
    unreadable: list[Unreadable] = []
    for raw in page.items or ():
        try:
            objects.append(kind.model_validate_json(bytes(raw)))
        except ValidationError:
            unreadable.append(_unreadable(raw))
    return ObjectList(objects, version, unreadable)


def _unreadable(raw: msgspec.Raw) -> Unreadable:
    try:
        metadata = wire.decode_header(raw).metadata
    except msgspec.DecodeError:
        # A null, for one: it is counted, so that nobody concludes from the list that something is gone.
        return Unreadable(ObjectKey(""), "")
    return Unreadable(ObjectKey(metadata.name, metadata.namespace), metadata.uid)


def _expired(request: Request, error: Gone) -> Gone:
    return Gone(
        f"{request.describe()}: the list went on for longer than the API server keeps its snapshot (about five "
        f"minutes): begin it again, and take larger pages or spend less time on each. ({error.reason})",
        status=error.status,
        reason=error.reason,
        causes=error.causes,
        retry_after_s=error.retry_after_s,
    )
