"""Client: each verb on the wire, and what comes back as values and errors."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
from pydantic import ValidationError

import kaito.client
from kaito.client import (
    AiohttpTransport,
    AlreadyExists,
    ApiError,
    BadRequest,
    Client,
    Config,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ObjectList,
    ServerTimeout,
    TooManyRequests,
    Unauthorized,
)
from kaito.client.errors import InternalError, MethodNotAllowed, ServiceUnavailable
from kaito.kube.autoscaling_v1 import Scale
from kaito.kube.core_v1 import ConfigMap, Namespace
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.metadata_only import MetadataOnly
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.kube.unstructured import Unstructured

R = TypeVar("R", bound=Resource)

KEY = ObjectKey("a", "ns")
COLLECTION = "/api/v1/namespaces/ns/configmaps"
ONE = f"{COLLECTION}/a"
WRITE = {"fieldManager": "tests", "fieldValidation": "Strict"}
WIRE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
    "data": {"x": "1"},
}


class NamedMeta(ObjectMeta):
    name: str


class Named(Resource, version="v1", kind="ConfigMap"):
    """Has a name, always."""

    metadata: NamedMeta


@pytest.fixture
async def client(server: Any) -> AsyncIterator[Client]:
    server.default = (200, {}, WIRE)
    async with Client(AiohttpTransport(Config(server.url)), field_owner="tests") as opened:
        yield opened


def config_map(**metadata: Any) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="a", namespace="ns", **metadata), data=FrozenDict(x="1"))


async def test_get(server: Any, client: Client) -> None:
    obj = await client.get(ConfigMap, KEY)
    assert (obj.key, obj.data, obj.metadata.resource_version) == (KEY, {"x": "1"}, "7")
    assert [(asked.method, asked.path, asked.query) for asked in server.asked] == [("GET", ONE, {})]


async def test_create(server: Any, client: Client) -> None:
    server.default = (201, {}, WIRE)
    made = await client.create(config_map())
    assert made.metadata.uid == "u"
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.query) == ("POST", COLLECTION, WRITE)
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "ns"},
        "data": {"x": "1"},
    }


async def test_create_of_a_cluster_scoped_object(server: Any, client: Client) -> None:
    await client.create(Namespace(metadata=ObjectMeta(name="n")))
    assert server.asked[0].path == "/api/v1/namespaces"


async def test_update_and_its_status(server: Any, client: Client) -> None:
    obj = await client.get(ConfigMap, KEY)
    await client.update(obj)
    await client.status.update(obj)
    assert [(asked.method, asked.path, asked.query) for asked in server.asked[1:]] == [
        ("PUT", ONE, WRITE),
        ("PUT", f"{ONE}/status", WRITE),
    ]
    assert server.asked[1].json == WIRE


@pytest.mark.parametrize(
    ("kind", "patch", "content_type"),
    [
        ("merge", {"data": {"x": None}}, "application/merge-patch+json"),
        ("json", [{"op": "remove", "path": "/data/x"}], "application/json-patch+json"),
        ("strategic", {"data": {"x": "2"}}, "application/strategic-merge-patch+json"),
    ],
)
async def test_patch_and_its_status(server: Any, client: Client, kind: Any, patch: Any, content_type: str) -> None:
    await client.patch(ConfigMap, KEY, patch, type=kind)
    await client.status.patch(ConfigMap, KEY, patch, type=kind)
    assert [asked.path for asked in server.asked] == [ONE, f"{ONE}/status"]
    for asked in server.asked:
        assert (asked.method, asked.query, asked.json) == ("PATCH", WRITE, patch)
        assert asked.headers["content-type"] == content_type


async def test_apply_and_its_status(server: Any, client: Client) -> None:
    server.script = [(201, {}, WIRE)]
    first = await client.apply(config_map())
    second = await client.apply(config_map(), force=True, field_owner="another")
    await client.status.apply(config_map(), force=True)
    assert (first.created, second.created) == (True, False)
    assert [asked.query for asked in server.asked] == [
        {**WRITE, "force": "false"},
        {**WRITE, "fieldManager": "another", "force": "true"},
        {**WRITE, "force": "true"},
    ]
    assert server.asked[2].path == f"{ONE}/status"
    assert {asked.headers["content-type"] for asked in server.asked} == {"application/apply-patch+yaml"}


async def test_delete_with_preconditions(server: Any, client: Client) -> None:
    await client.delete(ConfigMap, KEY)
    await client.delete(
        ConfigMap, KEY, uid="u", resource_version="7", propagation="Foreground", grace_period_s=0, dry_run=True
    )
    plain, full = server.asked
    assert (plain.method, plain.path, plain.query) == ("DELETE", ONE, {})
    assert plain.json == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    assert full.query == {"dryRun": "All"}
    assert full.json == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "gracePeriodSeconds": 0,
        "dryRun": ["All"],
    }


async def test_delete_collection_needs_a_namespace(server: Any, client: Client) -> None:
    await client.delete_collection(ConfigMap, namespace="ns", labels="app=web", fields="metadata.name!=a")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("DELETE", COLLECTION)
    assert asked.query == {"labelSelector": "app=web", "fieldSelector": "metadata.name!=a"}
    with pytest.raises(ValueError, match="name a namespace"):
        await client.delete_collection(ConfigMap)


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.create(config_map(), dry_run=True),
        lambda client: client.update(config_map(), dry_run=True),
        lambda client: client.patch(ConfigMap, KEY, {}, dry_run=True),
        lambda client: client.apply(config_map(), dry_run=True),
        lambda client: client.status.update(config_map(), dry_run=True),
    ],
)
async def test_every_write_can_be_dry(
    server: Any, client: Client, write: Callable[[Client], Awaitable[object]]
) -> None:
    await write(client)
    assert server.asked[0].query["dryRun"] == "All"


async def test_list_takes_all_pages_and_the_position_of_the_first(server: Any, client: Client) -> None:
    def page(position: str, token: str, *names: str) -> Any:
        items = [{**WIRE, "metadata": {"name": name, "namespace": "ns"}} for name in names]
        return (200, {}, {"metadata": {"resourceVersion": position, "continue": token}, "items": items})

    server.script = [page("7", "next", "a", "b"), page("9", "", "c")]
    found = await client.list(ConfigMap, namespace="ns", labels="app=web", fields="x=y")
    assert [obj.metadata.name for obj in found] == ["a", "b", "c"]
    assert found.resource_version == "7"
    selectors = {"labelSelector": "app=web", "fieldSelector": "x=y", "limit": "500"}
    assert [asked.query for asked in server.asked] == [selectors, {**selectors, "continue": "next"}]


async def test_lists_are_of_all_namespaces_unless_one_is_named(server: Any, client: Client) -> None:
    for items in (b"[]", b"null"):  # what Go makes of an empty list, and of none
        server.default = (200, {}, b'{"metadata":{"resourceVersion":"7"},"items":' + items + b"}")
        assert len(await client.list(ConfigMap)) == 0
    assert server.asked[0].path == "/api/v1/configmaps"


async def test_watch_yields_events_until_the_server_ends_it(server: Any, client: Client) -> None:
    lines = b"".join(json.dumps({"type": kind, "object": WIRE}).encode() + b"\n" for kind in ("ADDED", "DELETED"))
    server.default = (200, {}, lines)
    events = [event async for event in client.watch(ConfigMap, namespace="ns", resource_version="7", timeout_s=9)]
    assert [(event.type, event.object.key) for event in events] == [("ADDED", KEY), ("DELETED", KEY)]
    (asked,) = server.asked
    assert asked.query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "9",
        "resourceVersion": "7",
    }


async def test_a_watch_ends_with_the_error_that_the_server_sends(server: Any, client: Client) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    server.default = (200, {}, json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
    with pytest.raises(Gone, match="watch configmaps: 410 Expired: too old"):
        [event async for event in client.watch(ConfigMap)]
    server.default = (403, {}, {"kind": "Status", "reason": "Forbidden", "message": "no"})
    with pytest.raises(Forbidden):
        [event async for event in client.watch(ConfigMap)]


@pytest.mark.parametrize("name", ["../secrets/x", "a/b", "..", ".", "a%2Fb"])
async def test_a_name_cannot_lead_to_another_resource(server: Any, client: Client, name: str) -> None:
    for key in (ObjectKey(name, "ns"), ObjectKey("a", name)):
        with pytest.raises(ValueError, match="is no name"):
            await client.get(ConfigMap, key)
    with pytest.raises(ValueError, match="is no name"):
        await client.list(ConfigMap, namespace=name)
    assert server.asked == []


async def test_what_names_no_object_is_refused_before_it_is_sent(server: Any, client: Client) -> None:
    with pytest.raises(ValueError, match="an object needs a name"):
        await client.get(ConfigMap, ObjectKey("", "ns"))
    with pytest.raises(ValueError, match="ConfigMap is namespaced; name a namespace"):
        await client.get(ConfigMap, ObjectKey("a"))
    with pytest.raises(ValueError, match="ConfigMap is namespaced; name a namespace"):
        await client.create(ConfigMap(metadata=ObjectMeta(name="a")))
    with pytest.raises(BadRequest, match="generateName cannot be applied"):
        await client.apply(ConfigMap(metadata=ObjectMeta(generate_name="a-", namespace="ns")))
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (400, "BadRequest", BadRequest),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (405, "MethodNotAllowed", MethodNotAllowed),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (410, "Gone", Gone),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", TooManyRequests),
        (500, "InternalError", InternalError),
        (500, "ServerTimeout", ServerTimeout),
        (503, "ServiceUnavailable", ServiceUnavailable),
        (504, "Timeout", ServerTimeout),
        (418, "Teapot", ApiError),
    ],
)
async def test_every_failure_is_an_error_of_its_own_class(
    server: Any, client: Client, status: int, reason: str, expected: type[ApiError]
) -> None:
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": "because"}
    server.default = (status, {}, body)
    with pytest.raises(ApiError) as raised:
        await client.get(ConfigMap, KEY)
    assert type(raised.value) is expected
    assert (raised.value.status, raised.value.reason) == (status, reason)
    assert str(raised.value) == f"get configmaps ns/a: {status} {reason}: because"


async def test_an_error_carries_causes_and_the_wait_that_was_asked_for(server: Any, client: Client) -> None:
    cause = {"reason": "FieldValueInvalid", "message": "must be positive", "field": "spec.size"}
    details = {"causes": [cause], "retryAfterSeconds": 3}
    body = {"kind": "Status", "code": 422, "reason": "Invalid", "message": "bad", "details": details}
    server.default = (422, {"Retry-After": "9"}, body)
    with pytest.raises(Invalid) as raised:
        await client.create(config_map())
    assert raised.value.retry_after_s == 3.0
    assert [tuple(cause) for cause in raised.value.causes] == [("spec.size", "FieldValueInvalid", "must be positive")]


@pytest.mark.parametrize(("value", "expected"), [("9", 9.0), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 60.0)])
async def test_the_wait_can_come_from_the_header(
    server: Any, client: Client, value: str, expected: float | None
) -> None:
    headers = {"Retry-After": value, "Date": "Wed, 21 Oct 2015 07:27:00 GMT"}
    server.default = (429, headers, {"kind": "Status", "code": 429})
    with pytest.raises(TooManyRequests) as raised:
        await client.get(ConfigMap, KEY)
    assert raised.value.retry_after_s == expected


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[]", b'{"message":"s3cret"}', b"\xff\xfe"])
async def test_an_answer_from_something_that_is_no_api_server_is_still_an_error_of_its_status(
    server: Any, client: Client, body: bytes
) -> None:
    server.default = (503, {"Content-Type": "text/html"}, body)
    size = f"{len(body)} bytes of text/html" if body else "no body"
    with pytest.raises(ServiceUnavailable) as raised:
        await client.get(ConfigMap, KEY)
    assert str(raised.value) == f"get configmaps ns/a: 503 Unknown: the answer is no Status, but {size}"


async def test_metadata_alone_is_asked_for_by_media_type(server: Any, client: Client) -> None:
    kind = MetadataOnly(ConfigMap)
    partial = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": WIRE["metadata"]}
    event = json.dumps({"type": "ADDED", "object": partial}).encode()
    server.script = [
        (200, {}, partial),
        (200, {}, {"metadata": {"resourceVersion": "7"}, "items": [partial]}),
        (200, {}, event + b"\n"),
        (200, {}, partial),
        (200, {}, partial),
    ]
    found = [
        await client.get(kind, KEY),
        *await client.list(kind, namespace="ns"),
        *[seen.object async for seen in client.watch(kind, namespace="ns")],
        await client.patch(kind, KEY, {}),
        (await client.apply(kind(metadata=ObjectMeta(name="a", namespace="ns")))).object,
    ]
    assert [(obj.api_version, obj.kind, obj.key) for obj in found] == [("v1", "ConfigMap", KEY)] * 5
    accepted = [asked.headers["accept"] for asked in server.asked]
    assert accepted == [kind.accept, kind.list_accept, kind.accept, kind.accept, kind.accept]
    for write in (client.create, client.update):
        with pytest.raises(TypeError, match="ConfigMapMetadata has only the metadata, and would empty the rest"):
            await write(found[0])
    assert len(server.asked) == 5


async def test_list_items_say_their_kind_though_the_wire_does_not(server: Any, client: Client) -> None:
    item = {"metadata": {"name": "a", "namespace": "ns"}}
    server.default = (200, {}, {"metadata": {"resourceVersion": "7"}, "items": [item]})
    for kind in (ConfigMap, Unstructured("v1", "ConfigMap"), MetadataOnly(ConfigMap)):
        (found,) = await client.list(kind, namespace="ns")
        assert found.to_dict() == {"apiVersion": "v1", "kind": "ConfigMap"} | item


@pytest.mark.parametrize("body", [b"<html>log in</html>\n", b"[]\n", b'{"metadata": 7}\n'])
async def test_a_login_page_in_the_place_of_a_list_is_said_to_be_none(server: Any, client: Client, body: bytes) -> None:
    server.default = (200, {"Content-Type": "text/html"}, body)
    with pytest.raises(
        ApiError, match=r"list configmaps: what came back is no list, but \d+ bytes of text/html .* is it an API server"
    ):
        await client.list(ConfigMap)
    with pytest.raises(ApiError, match=r"watch configmaps: what came back is no watch event"):
        await anext(client.watch(ConfigMap))


@pytest.mark.parametrize(
    "body", [b"<html>s3cret</html>", b'["s3cret"]', b'{"metadata": "s3cret"}', b'{"s3cret": 1}', b""]
)
async def test_a_login_page_is_no_object_whatever_the_verb_and_shows_in_no_error(
    server: Any, client: Client, body: bytes
) -> None:
    server.default = (200, {"Content-Type": "text/html"}, body)
    scale = Scale(metadata=ObjectMeta(name="a", namespace="ns"))
    calls = [
        client.get(ConfigMap, KEY),
        client.create(config_map()),
        client.update(config_map()),
        client.patch(ConfigMap, KEY, {}),
        client.apply(config_map()),
        client.status.get(ConfigMap, KEY),
        client.subresource("scale").create(ConfigMap, KEY, scale, result=Scale),
    ]
    for call in calls:
        with pytest.raises(ApiError, match=r"what came back is no object, but .* is it an API") as raised:
            await call
        assert "s3cret" not in "".join(traceback.format_exception(raised.value))


async def test_an_object_that_does_not_fit_its_class_is_the_classes_own_error(server: Any, client: Client) -> None:
    server.default = (200, {}, {"metadata": {"name": "a"}, "data": 7})
    with pytest.raises(ValidationError, match="data"):
        await client.get(ConfigMap, KEY)


async def test_an_item_that_is_no_object_takes_no_other_with_it(server: Any, client: Client) -> None:
    for broken in (None, 7, {}, {"metadata": {"name": 7}}):
        server.default = (200, {}, {"metadata": {"resourceVersion": "7"}, "items": [WIRE, broken]})
        found = await client.list(Named, namespace="ns")
        assert [obj.key for obj in found] == [KEY]
        assert [(one.key.name, one.uid) for one in found.unreadable] == [("", "")]


async def test_a_list_of_another_kind_is_refused(server: Any, client: Client) -> None:
    server.default = (200, {}, {"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [WIRE]})
    with pytest.raises(ApiError, match=r"list configmaps: what came back is a PodList, and no ConfigMapList; does"):
        await client.list(ConfigMap, namespace="ns")


@pytest.mark.parametrize("key", ["ns/a", None, ("a", "ns")])
async def test_what_is_no_key_is_refused_with_what_is_one(client: Client, key: Any) -> None:
    for verb in (client.get, client.delete):
        with pytest.raises(TypeError, match=r"configmaps: the key is .*; expected ObjectKey\(name, namespace\)"):
            await verb(ConfigMap, key)


class EmptyReader:
    """Serves everything, and has nothing."""

    def serves(self, kind: type[Resource], namespace: str | None) -> bool:
        return True

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        raise NotFound("nothing is here")

    async def list(
        self, kind: type[R], *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> ObjectList[R]:
        return ObjectList([], "7")


async def test_a_limit_that_is_none_is_refused_by_cached_lists_too(server: Any) -> None:
    async with Client(AiohttpTransport(Config(server.url)), field_owner="tests", reader=EmptyReader()) as cached:
        for limit in (0, -1):
            for client in (cached, cached.live):
                with pytest.raises(ValueError, match=f"list configmaps: limit {limit}: must be at least 1"):
                    await client.list(ConfigMap, limit=limit)
    assert server.asked == []


def test_a_list_is_a_sequence_of_its_objects() -> None:
    found = ObjectList([config_map(), config_map(uid="2")], "7")
    assert (len(found), found[1].metadata.uid, found[0] in found) == (2, "2", True)
    assert [obj.metadata.uid for obj in found[1:]] == ["2"]
    assert repr(found) == "ObjectList(2 at resourceVersion 7)"


def test_all_names_what_is_public() -> None:
    assert all(hasattr(kaito.client, name) for name in kaito.client.__all__)
    assert kaito.client.__all__ == sorted(kaito.client.__all__)
    classes = {name for name, value in vars(kaito.client).items() if isinstance(value, type)}
    assert classes <= set(kaito.client.__all__)
