"""Client: Kubernetes' verbs, typed by class."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

import msgspec
from prometheus_client import CollectorRegistry

from kaito.client import lists, requests, subresources, wire
from kaito.client.answers import decoded
from kaito.client.discovery import Discovery
from kaito.client.errors import Status, error_from_response, error_from_status, not_from_an_api_server
from kaito.client.middleware import WRITES_IN_FLIGHT, Handler, Middleware, chain, usual_middleware
from kaito.client.observed import ObservedTransport
from kaito.client.reader import Reader
from kaito.client.results import ObjectList, WatchEvent
from kaito.client.subresources import ScaleClient, SubresourceClient
from kaito.client.transport import AiohttpTransport, Request, Response, ResponseStream, Transport
from kaito.client.writer import WriteOptions, Writer, refuse_parts
from kaito.kube.authentication_v1 import TokenRequestStatus
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

if TYPE_CHECKING:
    from kaito.client.config import Config

R = TypeVar("R", bound=Resource)

Propagation = Literal["Background", "Foreground", "Orphan"]

PAGE_SIZE = lists.PAGE_SIZE


class Client(Writer):
    """Talks to one API server.

    ``await client.get(Deployment, ObjectKey("web", "demo"))`` and so on for each verb; ``client.status`` has the verbs
    of the status subresource. With a `reader`, reads of the kinds that it serves come from there, all others are
    live: a read never starts a watch by accident. Safe to share between tasks; close it with `aclose` or use it as
    ``async with``.

    Args:
        transport: how requests travel.
        field_owner: field manager of all writes, unless a call names another.
        middleware: run around every call, the first outermost.
        reader: where declared kinds are read; None: everything is live.

    Attributes:
        status: the status subresource.
        scale: how many replicas workloads have.
        discovery: what the API server serves.
        live: the same client, reading everything from the API server.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        field_owner: str,
        middleware: Sequence[Middleware] = (),
        reader: Reader | None = None,
    ) -> None:
        super().__init__(field_owner)
        self.transport = transport
        self._send: Handler = chain(middleware, transport.send)
        self._reader = reader
        self.status = SubresourceClient(self, "status")
        self.scale = ScaleClient(self)
        self.discovery = Discovery(self.request)
        self.live: Client = self
        if reader is not None:
            self.live = Client(transport, field_owner=field_owner, middleware=middleware)
            self.live.discovery = self.discovery

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        name: str = "kaito",
        registry: CollectorRegistry | None = None,
        middleware: Sequence[Middleware] = (),
        rng: random.Random | None = None,
        writes_in_flight: int = WRITES_IN_FLIGHT,
    ) -> Client:
        """Makes a client of a configuration, with the usual middleware (see `usual_middleware`).

        Args:
            config: which API server, and as whom.
            name: user agent and field owner.
            registry: where ``rest_client_*`` metrics go; None: nowhere.
            middleware: more of it, run around the usual ones.
            rng: source of jitter.
            writes_in_flight: how many writes may be under way at a time; the others wait.
        """
        transport = AiohttpTransport(config, user_agent=name)
        observed = ObservedTransport(transport, registry=registry, host=config.host)
        usual = usual_middleware(outer=middleware, rng=rng, registry=registry, writes_in_flight=writes_in_flight)
        return cls(observed, field_owner=name, middleware=usual)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self.transport.aclose()

    def subresource(self, name: str) -> SubresourceClient:
        """The verbs of any subresource, such as ``binding``."""
        return SubresourceClient(self, name)

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        """Reads one object.

        Raises:
            NotFound: there is none of that name.
            CacheNotSynced: a cached read would be older than this process's own writes, and waiting did not help.
            ApiError: the server refused.
            TransportError: no answer.
        """
        requests.check_key("get", kind.resource_type, key)
        if self._reader is not None and self._reader.serves(kind, key.namespace):
            return await self._reader.get(kind, key)
        request = self._on(kind.resource_type, key, "GET", "get", accept=kind.accept)
        return decoded(kind, request, await self.request(request))

    async def list(
        self,
        kind: type[R],
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
    ) -> ObjectList[R]:
        """Reads all objects that match, page by page when live; `ObjectList.unreadable` has those that do not decode.

        Args:
            kind: the class.
            namespace: None for all namespaces.
            labels: label selector, such as ``app=web,tier in (a,b)``.
            fields: field selector, such as ``spec.nodeName=n1``.
            limit: at most so many, the first by namespace and name.

        Raises:
            ApiError, TransportError, CacheNotSynced: as for `get`.
            ValueError: the limit is below 1.
        """
        lists.check_limit(kind, limit)
        if self._reader is not None and self._reader.serves(kind, namespace):
            found = await self._reader.list(kind, namespace=namespace, labels=labels, fields=fields)
            return found if limit is None else ObjectList(found[:limit], found.resource_version, found.unreadable)
        return await lists.whole(self.request, lists.Listing(kind, namespace, labels, fields), limit)

    def pages(
        self,
        kind: type[R],
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[ObjectList[R]]:
        """Yields all objects that match, live, a page at a time: for more of them than should be in memory at once.

        All pages are of one moment. Leaving the loop early costs nothing.

        Args:
            kind: the class.
            namespace: None for all namespaces.
            labels: label selector.
            fields: field selector.
            page_size: objects in a page, at most.

        Raises:
            Gone: the loop took longer than the server keeps that moment; begin again.
            ValueError: the page size is none.
        """
        return lists.pages(self.request, lists.Listing(kind, namespace, labels, fields), page_size)

    async def create(self, obj: R, **options: Unpack[WriteOptions]) -> R:
        """Creates an object.

        Raises:
            AlreadyExists: the name is taken.
            Invalid: it breaks a rule of its schema; `causes` name the fields.
            TypeError: only its metadata is known.
        """
        refuse_parts(obj, "create")
        query = self._query(**options)
        request = requests.on_collection("POST", "create", obj.resource_type, obj.metadata.namespace, query)
        response = await self.request(requests.with_body(request, obj.to_dict(), key=obj.key))
        return decoded(type(obj), request, response)

    async def delete(
        self,
        kind: type[Resource],
        key: ObjectKey,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
        grace_period_s: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Deletes an object; it may stay, marked, until its finalizers are gone.

        Args:
            kind: the class.
            key: which object.
            uid: only if it is this one; guards against deleting its successor.
            resource_version: only if nobody wrote since.
            propagation: what happens to the objects it owns.
            grace_period_s: seconds until it is killed, for pods.
            dry_run: let the server check, and delete nothing.

        Raises:
            NotFound: it is gone.
            Conflict: a precondition failed.
        """
        body = requests.delete_options(
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
            grace_period_s=grace_period_s,
            dry_run=dry_run,
        )
        query = (("dryRun", "All"),) if dry_run else ()
        await self.request(requests.with_body(self._on(kind.resource_type, key, "DELETE", "delete", query), body))

    async def delete_collection(
        self,
        kind: type[Resource],
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        propagation: Propagation = "Background",
        grace_period_s: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Deletes all objects that match, in one namespace; not atomically.

        There are no preconditions: the API would hold every object against the same uid.

        Args:
            kind: the class.
            namespace: where; needed for namespaced kinds.
            labels: label selector.
            fields: field selector.
            propagation: what happens to the objects they own.
            grace_period_s: seconds until they are killed, for pods.
            dry_run: let the server check, and delete nothing.

        Raises:
            ValueError: the kind is namespaced, and no namespace was named.
        """
        if kind.resource_type.namespaced and namespace is None:
            raise ValueError(f"delete_collection of {kind.resource_type.plural}: name a namespace")
        body = requests.delete_options(
            uid=None, resource_version=None, propagation=propagation, grace_period_s=grace_period_s, dry_run=dry_run
        )
        query = requests.selectors(labels, fields) + ((("dryRun", "All"),) if dry_run else ())
        request = requests.on_collection("DELETE", "deletecollection", kind.resource_type, namespace, query)
        await self.request(requests.with_body(request, body))

    async def evict(
        self, key: ObjectKey, *, uid: str | None = None, grace_period_s: int | None = None, dry_run: bool = False
    ) -> None:
        """Deletes a Pod, unless a disruption budget protects it now.

        Args:
            key: which Pod.
            uid: only if it is this one.
            grace_period_s: seconds until it is killed; default the Pod's own.
            dry_run: ask only.

        Raises:
            TooManyRequests: a budget forbids it now; the text names it. Try again later.
            NotFound: it is gone.
            Conflict: it is another one.
        """
        await subresources.evict(self, key, uid=uid, grace_period_s=grace_period_s, dry_run=dry_run)

    async def create_token(
        self,
        service_account: ObjectKey,
        *,
        audiences: Sequence[str] = (),
        expiration_s: int | None = None,
        bound_to: Resource | None = None,
    ) -> TokenRequestStatus:
        """Asks for a token of a ServiceAccount. It shows in no repr; ``token`` and ``expiration_timestamp`` have it.

        Args:
            service_account: which.
            audiences: who is to accept it; none: the API server.
            expiration_s: how long it is to live, at least 600; default the server's hour.
            bound_to: a Pod, Node or Secret whose end is also the token's.

        Raises:
            NotFound: no such ServiceAccount, or `bound_to` is gone.
            Invalid: it may not live so long or so short.
        """
        return await subresources.create_token(self, service_account, audiences, expiration_s, bound_to)

    async def watch(
        self,
        kind: type[R],
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        timeout_s: int = 300,
    ) -> AsyncIterator[WatchEvent[R]]:
        """Yields changes from one watch, until the server ends it (at the latest after `timeout_s`).

        Without a resourceVersion it begins with an ADDED for each object there is. Low-level: an informer is what
        keeps a watch alive, in order, without gaps.

        Raises:
            Gone: the resourceVersion is too old; list again.
            ApiError, TransportError: it could not be opened, or broke.
        """
        query = (
            *requests.selectors(labels, fields),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(timeout_s)),
            *((("resourceVersion", resource_version),) if resource_version else ()),
        )
        request = requests.on_collection(
            "GET", "watch", kind.resource_type, namespace, query, timeout_s + 5, kind.accept
        )
        stream = await self.transport.stream(request)
        try:
            if stream.status != 200:
                body = b"".join([chunk async for chunk in stream.chunks()])
                raise error_from_response(request, Response(stream.status, stream.headers, body))
            async for batch in wire.lines(stream.chunks()):
                for line in batch:
                    yield _watch_event(kind, line, request, stream.headers)
        finally:
            await stream.aclose()

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[ResponseStream]:
        """Sends a request of any kind, and gives its answer, whatever its status, as it comes; it is tried once.

        Logs that are followed, and what stands behind the API server's proxy (``services/NAME:PORT/proxy/…``).
        Leaving the block drops the connection.

        Raises:
            TransportError: no answer.
        """
        stream = await self.transport.stream(request)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def request(self, request: Request) -> Response:
        """Sends a request of any kind through the middleware.

        Raises:
            ApiError: the answer is no success.
            TransportError: no answer.
        """
        response = await self._send(request)
        if response.status >= 300:
            raise error_from_response(request, response)
        return response


def _watch_event(kind: type[R], line: bytes, request: Request, headers: Mapping[str, str]) -> WatchEvent[R]:
    try:
        event = wire.decode_watch_line(line)
    except msgspec.DecodeError as error:
        raise not_from_an_api_server(request, "watch event", error, line, headers) from error
    if event.type == "ERROR":
        raise error_from_status(msgspec.json.decode(event.object, type=Status), prefix=f"{request.describe()}: ")
    return WatchEvent(event.type, kind.model_validate_json(bytes(event.object)))  # type: ignore[arg-type]
