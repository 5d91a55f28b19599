"""The fake API server answers as the real one: the same scripted requests go to both, and the answers are compared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from kaito.client.config import load_config
from kaito.client.transport import AiohttpTransport, Request, Response, Transport
from kaito.devcluster.controlplane import ControlPlane
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi, FakeApiServer

Json = dict[str, Any]
Query = tuple[tuple[str, str], ...]
Answers = dict[str, tuple[int, Any]]

NAMESPACE = "fake-conformance"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
WIDGETS = f"/apis/example.com/v1/namespaces/{NAMESPACE}/widgets"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
AGENT = {"User-Agent": "conformance/1.0"}
PLAIN = "application/json"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
EACH_ITS_OWN = {"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "time"}
WATCH_S = 3

STRING: Json = {"type": "string"}
CONDITION: Json = {"type": "object", "required": ["type"], "properties": {"type": STRING, "status": STRING}}
CONDITIONS: Json = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": CONDITION}
SPEC: Json = {
    "size": {"type": "integer"},
    "colour": STRING,
    "tags": {"type": "array", "items": STRING},
    "names": {"type": "array", "x-kubernetes-list-type": "set", "items": STRING},
    "options": {"type": "object", "additionalProperties": STRING},
}
SCHEMA: Json = {
    "spec": {"type": "object", "properties": SPEC},
    "status": {"type": "object", "properties": {"phase": STRING, "conditions": {"type": "array", **CONDITIONS}}},
}
CRD: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": SCHEMA}},
            }
        ],
    },
}


class Step(NamedTuple):
    """One request; body and query may be made of earlier answers, by the title of their step."""

    title: str
    method: str
    path: str
    body: object | Callable[[Answers], object] = None
    query: Query | Callable[[Answers], Query] = ()
    type: str = PLAIN


def by(manager: str, **more: str) -> Query:
    return (("fieldManager", manager), *more.items())


def widget(name: str, spec: Json | None = None, status: Json | None = None, **metadata: object) -> Json:
    made: Json = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, **metadata}}
    return made | {part: value for part, value in (("spec", spec), ("status", status)) if value is not None}


def config_map(name: str, data: Json | None = None, kind: str = "ConfigMap", **metadata: object) -> Json:
    made: Json = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **metadata}}
    return made | ({} if data is None else {"data": data})


def deployment(image: str) -> Json:
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def post(title: str, path: str, body: object, **query: str) -> Step:
    return Step(title, "POST", path, body, by("me", **query))


def put(title: str, path: str, body: object) -> Step:
    return Step(title, "PUT", path, body, by("me"))


def patch(title: str, path: str, body: object, type: str = MERGE, manager: str = "me") -> Step:
    return Step(title, "PATCH", path, body, by(manager), type)


def apply(title: str, obj: Json, manager: str, *, at: str = "", force: bool = False, **query: str) -> Step:
    path = f"{WIDGETS if obj['kind'] == 'Widget' else MAPS}/{obj['metadata']['name']}{at}"
    return Step(title, "PATCH", path, obj, by(manager, force=str(force).lower(), **query), APPLY)


def listed(title: str, **query: str) -> Step:
    return Step(title, "GET", WIDGETS, query=tuple(query.items()))


def conditions(name: str, **statuses: str) -> Json:
    return widget(name, status={"conditions": [{"type": kind, "status": it} for kind, it in statuses.items()]})


def containers(*listed: Json) -> Json:
    return {"spec": {"template": {"spec": {"containers": list(listed)}}}}


def based_on(title: str, **change: object) -> Callable[[Answers], Json]:
    return lambda answers: {**answers[title][1], **change}


def at_version_of(title: str, match: str) -> Callable[[Answers], Query]:
    return lambda answers: (
        ("resourceVersion", answers[title][1]["metadata"]["resourceVersion"]),
        ("resourceVersionMatch", match),
    )


def next_page(answers: Answers) -> Query:
    return (("limit", "1"), ("continue", answers["a page"][1]["metadata"]["continue"]))


def selectors(label: str) -> Json:
    labels = {"app": label}
    return {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}


FINALIZER = "example.com/f"
SCRIPT = (
    # creating and reading
    post("create", MAPS, config_map("a", {"k": "v"}, labels={"app": "x"})),
    post("create again", MAPS, config_map("a")),
    post("create without a name", MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
    post("create with a bad name", MAPS, config_map("No_Good")),
    post("create with a resourceVersion", MAPS, config_map("b", resourceVersion="1")),
    post("create in a namespace that is not there", MAPS.replace(NAMESPACE, "nowhere"), config_map("b")),
    post("create with another namespace in the body", MAPS, config_map("b", namespace="other")),
    post("create with another kind in the body", MAPS, config_map("b", kind="Secret")),
    post("create as a dry run", MAPS, config_map("dry"), dryRun="All"),
    Step("a dry run stored nothing", "GET", f"{MAPS}/dry"),
    Step("get", "GET", f"{MAPS}/a"),
    Step("get what is not there", "GET", f"{MAPS}/none"),
    Step("get of a kind that is not there", "GET", WIDGETS.replace("widgets", "gadgets")),
    Step("get of a group that is not there", "GET", "/apis/nowhere.io/v1/things"),
    post("post to an object", f"{MAPS}/a", config_map("a")),
    # updates
    put("update", f"{MAPS}/a", config_map("a", {"k": "w"}, labels={"app": "x"})),
    put("update without a change", f"{MAPS}/a", config_map("a", {"k": "w"}, labels={"app": "x"})),
    put("update of an old version", f"{MAPS}/a", based_on("create")),
    put("update with another uid", f"{MAPS}/a", config_map("a", uid="0000")),
    put("update with another name", f"{MAPS}/a", config_map("b")),
    put("update of what is not there", f"{MAPS}/none", config_map("none")),
    post("create a widget", WIDGETS, widget("w", {"size": 1}, {"phase": "no"})),
    put("update a widget without a version", f"{WIDGETS}/w", widget("w", {"size": 2})),
    put("update of a spec", f"{WIDGETS}/w", based_on("create a widget", spec={"size": 2})),
    put("update of a status", f"{WIDGETS}/w/status", based_on("update of a spec", status={"phase": "Up"}, spec={})),
    put("a spec leaves the status", f"{WIDGETS}/w", based_on("update of a status", status={}, spec={"size": 3})),
    # patches
    patch("merge patch", f"{WIDGETS}/w", {"metadata": {"labels": {"x": "1"}}, "spec": {"colour": "red", "size": None}}),
    patch("merge patch without a change", f"{WIDGETS}/w", {"spec": {"colour": "red"}}),
    patch("merge patch of an old version", f"{WIDGETS}/w", {"metadata": {"resourceVersion": "1"}, "spec": {}}),
    patch("merge patch with another uid", f"{WIDGETS}/w", {"metadata": {"uid": "0000"}}),
    patch("merge patch of a status", f"{WIDGETS}/w/status", {"status": {"phase": "Down"}, "spec": {"size": 5}}),
    patch("json patch adds", f"{WIDGETS}/w", [{"op": "add", "path": "/spec/tags", "value": ["a"]}], JSON_PATCH),
    patch("json patch appends", f"{WIDGETS}/w", [{"op": "add", "path": "/spec/tags/-", "value": "b"}], JSON_PATCH),
    patch("json patch tests", f"{WIDGETS}/w", [{"op": "test", "path": "/spec/colour", "value": "blue"}], JSON_PATCH),
    patch("json patch of no path", f"{WIDGETS}/w", [{"op": "remove", "path": "/spec/none"}], JSON_PATCH),
    patch("strategic patch of a widget", f"{WIDGETS}/w", {}, STRATEGIC),
    patch("patch of what is not there", f"{WIDGETS}/none", {}),
    # server-side apply
    apply("apply creates", widget("s", {"size": 1, "colour": "red", "names": ["b", "a"]}), "one"),
    apply("apply again", widget("s", {"size": 1, "colour": "red", "names": ["b", "a"]}), "one"),
    Step("apply without a manager", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 2}), (), APPLY),
    apply("apply of another's field", widget("s", {"size": 2}), "two"),
    apply("apply of the same value", widget("s", {"size": 1, "names": ["c"]}), "two"),
    apply("apply by force", widget("s", {"size": 2, "names": ["c"], "options": {"x": "1"}}), "two", force=True),
    apply("apply drops what it had", widget("s", {"names": ["b"]}), "one"),
    apply("apply of less", widget("s", {"names": ["c"]}), "two"),
    apply("apply to another uid", widget("s", {}, uid="0000"), "two", force=True),
    apply("apply with a uid to nothing", widget("none", {}, uid="0000"), "two", force=True),
    apply("apply of a status", conditions("s", B="True", A="True"), "one", at="/status"),
    apply("apply of another's condition", conditions("s", A="False"), "two", at="/status"),
    apply("apply of a further condition", conditions("s", C="False"), "two", at="/status"),
    apply("apply of fewer conditions", conditions("s", A="True"), "one", at="/status"),
    apply("apply of a status to nothing", widget("none", status={}), "one", at="/status"),
    patch("update of applied fields", f"{WIDGETS}/s", {"spec": {"names": ["c", "d"], "size": 7}}, manager="hand"),
    apply("apply over an update", widget("s", {"size": 8}), "one"),
    apply("apply as a dry run", widget("s", {"size": 8}), "one", force=True, dryRun="All"),
    apply("apply metadata", config_map("m", {"a": "1"}, labels={"x": "1"}, finalizers=[FINALIZER]), "one"),
    apply("apply less metadata", config_map("m", {"a": "1"}), "one"),
    # a built-in kind: merge keys, immutable fields
    post("create a deployment", DEPLOYMENTS, deployment("i:1")),
    patch("update of an immutable field", f"{DEPLOYMENTS}/d", selectors("other")),
    patch("strategic patch", f"{DEPLOYMENTS}/d", containers({"name": "side", "image": "s"}), STRATEGIC),
    patch("strategic delete", f"{DEPLOYMENTS}/d", containers({"name": "side", "$patch": "delete"}), STRATEGIC),
    # lists
    listed("list"),
    Step("list of all namespaces", "GET", "/apis/example.com/v1/widgets"),
    Step("list of a built-in kind", "GET", MAPS, query=(("labelSelector", "app=x"),)),
    listed("labels that are", labelSelector="x in (1, 2),x"),
    listed("labels that are not", labelSelector="x!=2,!size,x notin (3)"),
    listed("labels that do not parse", labelSelector="a in b"),
    listed("fields", fieldSelector="metadata.name=s"),
    listed("fields that differ", fieldSelector="metadata.name!=s"),
    listed("fields that nobody selects by", fieldSelector="spec.size=1"),
    listed("a page", limit="1"),
    Step("the next page", "GET", WIDGETS, query=next_page),
    listed("a page of a selection", limit="1", labelSelector="!none"),
    listed("a token that is none", limit="1", **{"continue": "x"}),
    Step("not older than", "GET", WIDGETS, query=at_version_of("apply creates", "NotOlderThan")),
    Step("exactly", "GET", WIDGETS, query=at_version_of("apply creates", "Exact")),
    listed("a match without a version", resourceVersionMatch="Exact"),
    listed("exactly any", resourceVersionMatch="Exact", resourceVersion="0"),
    listed("an unknown match", resourceVersionMatch="Near", resourceVersion="1"),
    listed("a version that is no number", resourceVersion="x"),
    listed("a version that is to come", resourceVersion="99999999", resourceVersionMatch="NotOlderThan"),
    listed("a streaming list without a match", watch="1", sendInitialEvents="true"),
    listed("a watch with a match", watch="1", resourceVersionMatch="NotOlderThan", resourceVersion="1"),
    # entering and leaving a selection, which the watch tells of
    post("create with a label", WIDGETS, widget("l", labels={"x": "1"})),
    patch("the label goes", f"{WIDGETS}/l", {"metadata": {"labels": None}}),
    patch("the label comes", f"{WIDGETS}/l", {"metadata": {"labels": {"x": "2"}}}),
    apply("apply where nobody owns", widget("l", labels={"x": "3"}), "one"),
    Step("delete with a label", "DELETE", f"{WIDGETS}/l"),
    # deletion
    post("create with a finalizer", WIDGETS, widget("f", {"size": 1}, finalizers=[FINALIZER])),
    Step("delete with another uid", "DELETE", f"{WIDGETS}/f", {"preconditions": {"uid": "0000"}}),
    Step("delete with another version", "DELETE", f"{WIDGETS}/f", {"preconditions": {"resourceVersion": "1"}}),
    Step("delete waits for the finalizer", "DELETE", f"{WIDGETS}/f"),
    Step("delete again", "DELETE", f"{WIDGETS}/f"),
    patch("no new finalizer", f"{WIDGETS}/f", {"metadata": {"finalizers": [FINALIZER, "example.com/g"]}}),
    patch("the last finalizer goes", f"{WIDGETS}/f", {"metadata": {"finalizers": None}}),
    Step("and the object with it", "GET", f"{WIDGETS}/f"),
    Step("delete in the foreground", "DELETE", f"{WIDGETS}/w", {"propagationPolicy": "Foreground"}),
    Step("delete", "DELETE", f"{MAPS}/a"),
    Step("delete what is not there", "DELETE", f"{MAPS}/a"),
)


class Played(NamedTuple):
    """What a server said."""

    answers: Answers
    watched: list[Json]
    streamed: list[Json]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def real(control_plane: ControlPlane) -> AsyncIterator[Played]:
    transport = AiohttpTransport(load_config(control_plane.kubeconfig), user_agent=AGENT["User-Agent"])
    try:
        yield await play(transport)
        await ask(transport, Step("clean up", "DELETE", f"{CRDS}/widgets.example.com"))
    finally:
        await transport.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fake() -> Played:
    return await play(FakeApi().transport(user_agent=AGENT["User-Agent"]))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def over_http() -> AsyncIterator[Played]:
    async with FakeApiServer(FakeApi()) as server:
        transport = AiohttpTransport(server.config, user_agent=AGENT["User-Agent"])
        yield await play(transport)
        await transport.aclose()


@pytest.mark.parametrize("title", [step.title for step in SCRIPT])
def test_fake_answers_as_the_real_server_to(title: str, real: Played, fake: Played) -> None:
    assert comparable(fake.answers[title]) == comparable(real.answers[title])


def test_fake_watch_tells_of_selected_objects_as_the_real_one(real: Played, fake: Played) -> None:
    # Deletion in the foreground is ended by the garbage collector, whenever it has come to know the new kind.
    collected = ("DELETED", "w", {"x": "1"})
    assert [told(event) for event in fake.watched] == [
        told(event) for event in real.watched if told(event) != collected
    ]
    assert {event["type"] for event in fake.watched} == {"ADDED", "MODIFIED", "DELETED"}


def test_fake_streaming_list_ends_in_the_same_bookmark(real: Played, fake: Played) -> None:
    assert [told(event) for event in fake.streamed] == [told(event) for event in real.streamed]
    assert fake.streamed[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_over_http_the_fake_says_the_same(over_http: Played, fake: Played) -> None:
    for title, answer in fake.answers.items():
        assert comparable(over_http.answers[title]) == comparable(answer), title
    assert [told(event) for event in over_http.watched] == [told(event) for event in fake.watched]
    assert [told(event) for event in over_http.streamed] == [told(event) for event in fake.streamed]


async def play(transport: Transport) -> Played:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for setup in (post("namespace", "/api/v1/namespaces", namespace), post("crd", CRDS, CRD)):
        assert (await ask(transport, setup)).status == 201

    async def served() -> bool:
        return (await ask(transport, listed("served"))).status == 200

    await eventually(served)
    answers: Answers = {}
    for step in SCRIPT:
        body = step.body(answers) if callable(step.body) else step.body
        query = step.query(answers) if callable(step.query) else step.query
        answers[step.title] = read(await ask(transport, step._replace(body=body, query=query)))
    since = answers["create a widget"][1]["metadata"]["resourceVersion"]
    watched = watch(transport, resourceVersion=since, labelSelector="x")
    initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    return Played(answers, *await asyncio.gather(watched, watch(transport, **initial)))


async def ask(transport: Transport, step: Step) -> Response:
    raw = None if step.body is None else json.dumps(step.body).encode()
    assert isinstance(step.query, tuple)
    return await transport.send(
        Request(step.method, step.path, "", query=step.query, body=raw, content_type=step.type, headers=AGENT)
    )


async def watch(transport: Transport, **query: str) -> list[Json]:
    asked = {"watch": "1", "timeoutSeconds": str(WATCH_S), **query}
    stream = await transport.stream(Request("GET", WIDGETS, "watch", query=tuple(asked.items()), timeout_s=30))
    try:
        body = b"".join([chunk async for chunk in stream.chunks()])
    finally:
        await stream.aclose()
    return only_first_bookmark([json.loads(line) for line in body.splitlines()])


def only_first_bookmark(events: list[Json]) -> list[Json]:
    """A server may send more of them, whenever it likes."""
    ends = [number for number, event in enumerate(events) if event["type"] == "BOOKMARK"]
    return events[: ends[0] + 1] if ends else events


def read(response: Response) -> tuple[int, Any]:
    try:
        return response.status, json.loads(response.body)
    except ValueError:
        return response.status, response.body.decode()


def comparable(answer: tuple[int, Any]) -> tuple[int, Any]:
    """Code, reason and causes of a failure, without its sentence; of objects what is not each server's own."""
    code, body = answer
    if code >= 400 and isinstance(body, dict):
        details = body.get("details") or {}
        causes = {(cause["reason"], cause.get("field", "")) for cause in details.get("causes", [])}
        where = [details.get(part) for part in ("name", "group", "kind")]
        return code, (body.get("reason"), where, causes)
    return code, without_own(body)


def without_own(value: Any) -> Any:
    if isinstance(value, list):
        return [without_own(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "Deployment":
        return [(one["name"], one["image"]) for one in value["spec"]["template"]["spec"]["containers"]]
    return {name: own(name, item) for name, item in value.items() if name != "."}


def own(name: str, value: Any) -> Any:
    if name == "managedFields":
        return sorted((without_own(entry) for entry in value), key=lambda entry: json.dumps(entry, sort_keys=True))
    if name in EACH_ITS_OWN or (name == "continue" and value):
        return "its own"
    return without_own(value)


def told(event: Json) -> tuple[str, str, Any]:
    metadata = event["object"]["metadata"]
    return event["type"], metadata.get("name", ""), metadata.get("labels") or metadata.get("annotations")
