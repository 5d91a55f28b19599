"""Client: Kubernetes' verbs, typed by class."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from kaito.client import requests, wire
from kaito.client.errors import BadRequest, Status, error_from_response, error_from_status
from kaito.client.middleware import Handler, MetricsMiddleware, Middleware, RetryMiddleware, WarningMiddleware, chain
from kaito.client.reader import Reader
from kaito.client.results import Applied, ObjectList, Unreadable, WatchEvent
from kaito.client.transport import AiohttpTransport, Request, Response, Transport
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

if TYPE_CHECKING:
    from kaito.client.config import Config

R = TypeVar("R", bound=Resource)

PatchType = Literal["merge", "json", "strategic"]
Propagation = Literal["Background", "Foreground", "Orphan"]
JsonObject = Mapping[str, Any]

PAGE_SIZE = 500

_PATCH_CONTENT_TYPES: Mapping[PatchType, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class Client:
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
    """

    def __init__(
        self,
        transport: Transport,
        *,
        field_owner: str,
        middleware: Sequence[Middleware] = (),
        reader: Reader | None = None,
    ) -> None:
        self.transport = transport
        self.field_owner = field_owner
        self._send: Handler = chain(middleware, transport.send)
        self._reader = reader
        self.status = SubresourceClient(self, "status")
        self.live: Client = self
        """The same client, reading everything from the API server."""
        if reader is not None:
            self.live = Client(transport, field_owner=field_owner, middleware=middleware)

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        name: str = "kaito",
        registry: CollectorRegistry | None = None,
        middleware: Sequence[Middleware] = (),
        rng: random.Random | None = None,
    ) -> Client:
        """Makes a client of a configuration, with the usual middleware.

        Args:
            config: which API server, and as whom.
            name: user agent and field owner.
            registry: where ``rest_client_*`` metrics go; None: nowhere.
            middleware: more of it, run around the usual ones.
            rng: source of jitter.
        """
        usual: list[Middleware] = [*middleware, WarningMiddleware(), RetryMiddleware(rng)]
        if registry is not None:
            usual.append(MetricsMiddleware(registry, config.host))
        return cls(AiohttpTransport(config, user_agent=name), field_owner=name, middleware=usual)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self.transport.aclose()

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        """Reads one object.

        Raises:
            NotFound: there is none of that name.
            CacheNotSynced: a cached read would be older than this process's own writes, and waiting did not help.
            ApiError: the server refused.
            TransportError: no answer.
        """
        if self._reader is not None and self._reader.serves(kind, key.namespace):
            return await self._reader.get(kind, key)
        response = await self.request(requests.on_object("GET", "get", kind.resource_type, key))
        return kind.model_validate_json(response.body)

    async def list(
        self, kind: type[R], *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> ObjectList[R]:
        """Reads all objects that match, page by page when live; `ObjectList.unreadable` has those that do not decode.

        Args:
            kind: the class.
            namespace: None for all namespaces.
            labels: label selector, such as ``app=web,tier in (a,b)``.
            fields: field selector, such as ``spec.nodeName=n1``.

        Raises:
            ApiError, TransportError, CacheNotSynced: as for `get`.
        """
        if self._reader is not None and self._reader.serves(kind, namespace):
            return await self._reader.list(kind, namespace=namespace, labels=labels, fields=fields)
        objects: list[R] = []
        unreadable: list[Unreadable] = []
        token = version = ""
        while True:
            query = (
                requests.selectors(labels, fields)
                + (("limit", str(PAGE_SIZE)),)
                + ((("continue", token),) if token else ())
            )
            response = await self.request(requests.on_collection("GET", "list", kind.resource_type, namespace, query))
            page = wire.decode_page(response.body)
            for raw in page.items or ():
                try:
                    objects.append(kind.model_validate_json(bytes(raw)))
                except ValidationError:
                    metadata = wire.decode_header(raw).metadata
                    unreadable.append(Unreadable(ObjectKey(metadata.name, metadata.namespace), metadata.uid))
            version, token = version or page.metadata.resource_version, page.metadata.continue_
            if not token:
                return ObjectList(objects, version, unreadable)

    async def create(self, obj: R, *, dry_run: bool = False) -> R:
        """Creates an object.

        Raises:
            AlreadyExists: the name is taken.
            Invalid: it breaks a rule of its schema; `causes` name the fields.
        """
        request = requests.on_collection(
            "POST", "create", obj.resource_type, obj.metadata.namespace, self._write(dry_run)
        )
        response = await self.request(requests.with_body(request, obj.to_dict(), key=obj.key))
        return type(obj).model_validate_json(response.body)

    async def update(self, obj: R, *, dry_run: bool = False) -> R:
        """Replaces an object; with a resourceVersion in it, only the one that was read.

        Raises:
            Conflict: it changed since it was read.
            NotFound: it is gone.
        """
        return await self._update(obj, "", dry_run)

    async def patch(
        self,
        kind: type[R],
        key: ObjectKey,
        patch: JsonObject | Sequence[JsonObject],
        *,
        type: PatchType = "merge",
        dry_run: bool = False,
    ) -> R:
        """Changes parts of an object.

        Args:
            kind: the class.
            key: which object.
            patch: a document (merge, strategic) or a list of operations (json). ``metadata.resourceVersion`` in a
                merge patch makes it conditional on nobody having written meanwhile.
            type: how to read the patch; custom resources know no strategic patches.
            dry_run: let the server check, and store nothing.
        """
        return await self._patch(kind, key, "", patch, type, dry_run)

    async def apply(
        self, obj: R, *, force: bool = False, field_owner: str | None = None, dry_run: bool = False
    ) -> Applied[R]:
        """Server-side apply: makes the object have the fields given here, and no more those given before and not now.

        Args:
            obj: the wanted fields; nothing else should be set.
            force: take fields over from other managers instead of failing.
            field_owner: field manager; default the client's.
            dry_run: let the server check, and store nothing.

        Raises:
            Conflict: another manager owns a field (`causes` name fields and managers), or ``metadata.uid`` was given
                and the object is another one or gone.
        """
        return await self._apply(obj, "", force, field_owner, dry_run)

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
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if chosen := {name: value for name, value in preconditions.items() if value is not None}:
            body["preconditions"] = chosen
        if grace_period_s is not None:
            body["gracePeriodSeconds"] = grace_period_s
        if dry_run:
            # The server takes options from the body, where there is one, and then ignores those of the query.
            body["dryRun"] = ["All"]
        query = (("dryRun", "All"),) if dry_run else ()
        await self.request(
            requests.with_body(requests.on_object("DELETE", "delete", kind.resource_type, key, query=query), body)
        )

    async def delete_collection(
        self, kind: type[Resource], *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> None:
        """Deletes all objects that match, in one namespace; not atomically."""
        if kind.resource_type.namespaced and namespace is None:
            raise ValueError(f"delete_collection of {kind.resource_type.plural}: name a namespace")
        query = requests.selectors(labels, fields)
        await self.request(requests.on_collection("DELETE", "deletecollection", kind.resource_type, namespace, query))

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
        request = requests.on_collection("GET", "watch", kind.resource_type, namespace, query, timeout_s=timeout_s + 5)
        stream = await self.transport.stream(request)
        try:
            if stream.status != 200:
                body = b"".join([chunk async for chunk in stream.chunks()])
                raise error_from_response(request, Response(stream.status, stream.headers, body))
            async for batch in wire.lines(stream.chunks()):
                for line in batch:
                    yield _watch_event(kind, line, request)
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

    async def _update(self, obj: R, subresource: str, dry_run: bool) -> R:
        request = requests.on_object("PUT", "update", obj.resource_type, obj.key, subresource, self._write(dry_run))
        response = await self.request(requests.with_body(request, obj.to_dict()))
        return type(obj).model_validate_json(response.body)

    async def _patch(
        self,
        kind: type[R],
        key: ObjectKey,
        subresource: str,
        patch: JsonObject | Sequence[JsonObject],
        patch_type: PatchType,
        dry_run: bool,
    ) -> R:
        request = requests.on_object("PATCH", "patch", kind.resource_type, key, subresource, self._write(dry_run))
        response = await self.request(requests.with_body(request, patch, content_type=_PATCH_CONTENT_TYPES[patch_type]))
        return kind.model_validate_json(response.body)

    async def _apply(self, obj: R, subresource: str, force: bool, field_owner: str | None, dry_run: bool) -> Applied[R]:
        if not obj.metadata.name:
            raise BadRequest(
                f"apply {obj.resource_type.plural}: metadata.name is needed, generateName cannot be applied"
            )
        query = (*self._write(dry_run, field_owner), ("force", "true" if force else "false"))
        request = requests.on_object("PATCH", "apply", obj.resource_type, obj.key, subresource, query)
        body = obj.to_dict()
        response = await self.request(requests.with_body(request, body, content_type="application/apply-patch+yaml"))
        return Applied(type(obj).model_validate_json(response.body), response.status == 201)

    def _write(self, dry_run: bool, field_owner: str | None = None) -> tuple[tuple[str, str], ...]:
        query = (("fieldManager", field_owner or self.field_owner), ("fieldValidation", "Strict"))
        return (*query, ("dryRun", "All")) if dry_run else query


class SubresourceClient:
    """The verbs of a subresource, such as ``client.status``: they write that part of an object and nothing else."""

    def __init__(self, client: Client, subresource: str) -> None:
        self._client = client
        self._subresource = subresource

    async def update(self, obj: R, *, dry_run: bool = False) -> R:
        """Replaces the subresource. See `Client.update`."""
        return await self._client._update(obj, self._subresource, dry_run)

    async def patch(
        self,
        kind: type[R],
        key: ObjectKey,
        patch: JsonObject | Sequence[JsonObject],
        *,
        type: PatchType = "merge",
        dry_run: bool = False,
    ) -> R:
        """Changes parts of the subresource. See `Client.patch`."""
        return await self._client._patch(kind, key, self._subresource, patch, type, dry_run)

    async def apply(
        self, obj: R, *, force: bool = False, field_owner: str | None = None, dry_run: bool = False
    ) -> Applied[R]:
        """Applies the subresource. See `Client.apply`."""
        return await self._client._apply(obj, self._subresource, force, field_owner, dry_run)


def _watch_event(kind: type[R], line: bytes, request: Request) -> WatchEvent[R]:
    event = wire.decode_watch_line(line)
    if event.type == "ERROR":
        raise error_from_status(msgspec.json.decode(event.object, type=Status), prefix=f"{request.describe()}: ")
    return WatchEvent(event.type, kind.model_validate_json(bytes(event.object)))  # type: ignore[arg-type]
