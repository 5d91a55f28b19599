"""FakeApi: an API server in memory, as a handler of requests: bytes in, bytes out, on the wire format of a real one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from kaito.client.transport import Request, Response, Transport
from kaito.kube.resource import Resource, ResourceType
from kaito.testing.fake_api import discovery, reads
from kaito.testing.fake_api.deletes import Deleter, finalize_namespace
from kaito.testing.fake_api.failures import Failure, Json, expired, method_not_allowed, qualified
from kaito.testing.fake_api.faults import Faults
from kaito.testing.fake_api.kinds import CRD, NAMESPACE, POD, Kind, Kinds, custom_kind, kinds_of_crd
from kaito.testing.fake_api.objects import Registrar
from kaito.testing.fake_api.request_log import RequestLog
from kaito.testing.fake_api.responses import json_response, no_such_path, refusal
from kaito.testing.fake_api.routes import NoSuchPath, Route, route
from kaito.testing.fake_api.store import HISTORY, Event, Store
from kaito.testing.fake_api.transport import FakeTransport
from kaito.testing.fake_api.watches import BOOKMARK_INTERVAL_S, Watch
from kaito.testing.fake_api.writes import Writer, Written
from kaito.testing.virtual_clock import wall

LATENCY_S = (0.001, 0.005)
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_WATCH_TIMEOUT_S = (1800.0, 3600.0)


class FakeApi:
    """An API server in memory.

    The client stack runs on it unchanged: ``Client(api.transport(), field_owner="me")``. The kinds that operators use
    are served; others come with `register`, or by creating their CustomResourceDefinition. Objects are not validated
    against schemas and get no defaults but the server's own metadata. Nothing else runs in the cluster, unless actors
    are started (`kaito.testing.fake_api.actors`).

    Args:
        clock: the time of day; default virtual time if there is one.
        seed: of uids, generated names and latencies.
        latency_s: shortest and longest time that a request, an answer and a batch of watch events travel.
        history: events kept for watches and pages before the oldest are compacted.
        bookmark_interval_s: seconds between the bookmarks of a watch.
        watch_list: whether streaming lists (``sendInitialEvents``) are served.

    Attributes:
        log: what clients asked; compare two runs by it.
        faults: what goes wrong on purpose.
        store: the objects and their history.
        kinds: what is served.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = wall,
        seed: int = 0,
        latency_s: tuple[float, float] = LATENCY_S,
        history: int = HISTORY,
        bookmark_interval_s: float = BOOKMARK_INTERVAL_S,
        watch_list: bool = True,
    ) -> None:
        self.kinds = Kinds()
        self.store = Store(history=history)
        self.log = RequestLog(clock)
        self.faults = Faults()
        self._latency_s = latency_s
        self._bookmark_interval_s = bookmark_interval_s
        self._watch_list = watch_list
        # Apart, so that one request more does not change the names that others get.
        self._travel = random.Random(f"{seed}/latency")
        registrar = Registrar(clock, random.Random(f"{seed}/objects"))
        self._writer = Writer(self.store, registrar)
        self._deleter = Deleter(self.store, registrar)
        self._watches: list[Watch] = []
        self.store.subscribe(self._serve_crds)
        for namespace in NAMESPACES:
            self.call("POST", NAMESPACE.path(), {"metadata": {"name": namespace}})

    def transport(self, *, user_agent: str = "fake-client") -> Transport:
        """A transport that ends in this server; its requests are logged and meet the faults."""
        return FakeTransport(self, user_agent=user_agent)

    def register(
        self,
        kind: type[Resource] | ResourceType | Kind,
        *,
        status: bool = True,
        merge_keys: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Serves a custom resource from now on.

        Args:
            kind: its class, or its place in the API.
            status: it has a status subresource.
            merge_keys: lists merged item by item, such as ``{"status.conditions": ("type",)}``; all others are atomic.
        """
        if isinstance(kind, type):
            kind = kind.resource_type
        served = kind if isinstance(kind, Kind) else custom_kind(kind, status=status, merge_keys=merge_keys)
        self.kinds.add(served)

    def handle(self, request: Request) -> Response:
        """Answers a request that is no watch, at once. Never raises for what a client does wrong."""
        if request.path in discovery.HEALTH:
            return Response(200, {"content-type": "text/plain; charset=utf-8"}, b"ok")
        try:
            written = self._answer(request)
        except NoSuchPath:
            return no_such_path()
        except Failure as failure:
            return refusal(failure)
        return json_response(written.code, written.body)

    def open_watch(self, request: Request) -> Watch | Response:
        """Opens a watch; the answer, when it is refused. Needs a running loop."""
        try:
            return self._open_watch(route(request, self.kinds))
        except NoSuchPath:
            return no_such_path()
        except Failure as failure:
            return refusal(failure)

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Iterable[tuple[str, str]] = (),
        content_type: str = "application/json",
        manager: str = "cluster",
    ) -> Json:
        """Answers a request at once, without log, latency and faults: for what stands for the rest of the cluster.

        Raises:
            Failure: the server refuses; as a real one would.
        """
        raw = None if body is None else msgspec.json.encode(body)
        headers = {"User-Agent": manager}
        request = Request(method, path, "", query=tuple(query), body=raw, content_type=content_type, headers=headers)
        return self._answer(request).body

    def objects(self, kind: type[Resource] | ResourceType, namespace: str = "") -> list[Json]:
        """The objects of a kind (in a namespace) as they are stored, sorted; not to be changed."""
        resource = kind.resource_type if isinstance(kind, type) else kind
        return [obj for _, obj in self.store.select(qualified(resource), namespace)]

    def bookmark(self) -> None:
        """Sends a bookmark on every watch that asked for them, now."""
        for watch in self._watches:
            watch.bookmark()

    def cut_watches(self, how: Literal["reset", "close", "expire"] = "reset") -> None:
        """Ends every watch that is open now.

        Args:
            how: ``reset`` breaks its connection, ``close`` ends it cleanly, ``expire`` sends 410 Expired first.
        """
        for watch in [one for one in self._watches if not one.ended]:
            match how:
                case "reset":
                    watch.reset()
                case "close":
                    watch.close()
                case "expire":
                    watch.fail(expired("too old resource version"))

    def latency_s(self) -> float:
        """How long the next message travels."""
        return self._travel.uniform(*self._latency_s)

    def _answer(self, request: Request) -> Written:
        if request.method == "GET" and (document := discovery.document(request.path, self.kinds)):
            return Written(200, document)
        asked = route(request, self.kinds)
        _check_subresource(asked)
        return self._perform(asked, request)

    def _perform(self, asked: Route, request: Request) -> Written:
        match asked.verb:
            case "get":
                return Written(200, reads.get(self.store, asked))
            case "list":
                return Written(200, reads.list_objects(self.store, asked))
            case "create" if asked.subresource == "eviction":
                return self._deleter.evict(asked, request)
            case "create":
                return self._writer.create(asked, request)
            case "update" if asked.subresource == "finalize":
                finalize_namespace(self.store, asked.name)
                return Written(200, {})
            case "update":
                return self._writer.update(asked, request)
            case "patch":
                return self._writer.patch(asked, request)
            case "apply":
                return self._writer.apply(asked, request)
            case "delete":
                return self._deleter.delete(asked, request)
            case "deletecollection":
                return self._deleter.delete_collection(asked, request)
            case "watch":
                raise TypeError("a watch is no request with one answer: use open_watch, or the transport's stream")
            case _:
                raise method_not_allowed()

    def _open_watch(self, asked: Route) -> Watch:
        timeout = asked.query.get("timeoutSeconds", "")
        watch = Watch(
            self.store,
            asked,
            timeout_s=float(timeout) if timeout.isdigit() else self._travel.uniform(*_WATCH_TIMEOUT_S),
            bookmark_interval_s=self._bookmark_interval_s,
            watch_list=self._watch_list,
        )
        self._watches = [other for other in self._watches if not other.ended] + [watch]
        return watch

    def _serve_crds(self, event: Event) -> None:
        if event.key.collection != qualified(CRD):
            return
        spec = event.object["spec"]
        self.kinds.remove(spec["group"], spec["names"]["plural"])
        if event.type == "DELETED":
            self._empty(event.object["metadata"]["name"])
            return
        for kind in kinds_of_crd(event.object):
            self.kinds.add(kind)

    def _empty(self, collection: str) -> None:
        """A kind goes with its objects, and those who watch it are told of each before their watch ends."""
        for key, _ in self.store.select(collection):
            self.store.remove(key)
        for watch in self._watches:
            if watch.collection == collection:
                watch.close()


def _check_subresource(asked: Route) -> None:
    served = ("", "status") if asked.kind.status else ("",)
    if asked.kind.type == NAMESPACE:
        served = (*served, "finalize")
    if asked.kind.type == POD:
        served = (*served, "eviction")
    if asked.subresource not in served:
        raise NoSuchPath(asked.subresource)
