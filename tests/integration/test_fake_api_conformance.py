"""The fake API server answers as the real one: the same scripted requests go to both, and the answers are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from kaito.client.config import load_config
from kaito.client.transport import AiohttpTransport, Request, Transport
from kaito.devcluster.controlplane import ControlPlane
from kaito.testing.fake_api import FakeApi

Json = dict[str, Any]
NAMESPACE = "fake-conformance"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
MAPS, PODS = f"{CORE}/configmaps", f"{CORE}/pods"
WIDGETS = f"/apis/example.com/v1/namespaces/{NAMESPACE}/widgets"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"

CONDITIONS: Json = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
    },
}
SPEC: Json = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "colour": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "options": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "spec": SPEC,
        "status": {"type": "object", "properties": {"phase": {"type": "string"}, "conditions": CONDITIONS}},
    },
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
                "schema": {"openAPIV3Schema": SCHEMA},
            }
        ],
    },
}

Answers = dict[str, tuple[int, Any]]


class Step(NamedTuple):
    """One request; a body or path may be made of earlier answers, by the title of their step."""

    title: str
    method: str
    path: str
    body: Json | list[Json] | Callable[[Answers], Any] | None = None
    type: str = "application/json"
    query: tuple[tuple[str, str], ...] | Callable[[Answers], tuple[tuple[str, str], ...]] = ()


def widget(name: str, spec: Json | None = None, **metadata: object) -> Json:
    made: Json = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, **metadata}}
    return made | ({"spec": spec} if spec is not None else {})


def config_map(name: str, data: Json | None = None, **metadata: object) -> Json:
    made: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return made | ({"data": data} if data is not None else {})


def meta(answers: Answers, title: str, name: str) -> Any:
    return answers[title][1]["metadata"][name]


def version(answers: Answers, title: str) -> str:
    return str(meta(answers, title, "resourceVersion"))


def by(manager: str, force: bool | None = None) -> tuple[tuple[str, str], ...]:
    query = (("fieldManager", manager),)
    return query if force is None else (*query, ("force", str(force).lower()))


def deployment(name: str, image: str, **spec: object) -> Json:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


RED_BLUE = {"labels": {"colour": "red"}}
SCRIPT = (
    # Creating and reading
    Step("create", "POST", MAPS, config_map("a", {"k": "v"}, labels={"app": "x"}), query=by("me")),
    Step("create again", "POST", MAPS, config_map("a")),
    Step("create without a name", "POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
    Step("create with a bad name", "POST", MAPS, config_map("No_Good")),
    Step("create with a resourceVersion", "POST", MAPS, config_map("b", resourceVersion="1")),
    Step("create in a namespace that is not there", "POST", MAPS.replace(NAMESPACE, "nowhere"), config_map("b")),
    Step("create with another namespace in the body", "POST", MAPS, config_map("b", namespace="other")),
    Step("create with another kind in the body", "POST", MAPS, {**config_map("b"), "kind": "Secret"}),
    Step("create as a dry run", "POST", MAPS, config_map("dry"), query=(("dryRun", "All"),)),
    Step("a dry run stored nothing", "GET", f"{MAPS}/dry"),
    Step("get", "GET", f"{MAPS}/a"),
    Step("get what is not there", "GET", f"{MAPS}/none"),
    Step("get of a kind that is not there", "GET", f"/apis/example.com/v1/namespaces/{NAMESPACE}/gadgets"),
    Step("get of a group that is not there", "GET", "/apis/nowhere.io/v1/things"),
    Step("post to an object", "POST", f"{MAPS}/a", config_map("a")),
    # Updates
    Step("update", "PUT", f"{MAPS}/a", config_map("a", {"k": "w"}, labels={"app": "x"}), query=by("me")),
    Step("update without a change", "PUT", f"{MAPS}/a", config_map("a", {"k": "w"}, labels={"app": "x"}), query=by("me")),
    Step("update of an old version", "PUT", f"{MAPS}/a", lambda seen: seen["create"][1]),
    Step("update with another uid", "PUT", f"{MAPS}/a", config_map("a", uid="0000")),
    Step("update with another name", "PUT", f"{MAPS}/a", config_map("b")),
    Step("update of what is not there", "PUT", f"{MAPS}/none", config_map("none")),
    Step("create a custom resource", "POST", WIDGETS, widget("w", {"size": 1}) | {"status": {"phase": "no"}}, query=by("me")),
    Step("update a custom resource without a version", "PUT", f"{WIDGETS}/w", widget("w", {"size": 2})),
    Step("update of a spec", "PUT", f"{WIDGETS}/w", lambda seen: of("create a custom resource", seen, {"spec": {"size": 2}}), query=by("me")),
    Step("update of a status", "PUT", f"{WIDGETS}/w/status", lambda seen: of("update of a spec", seen, {"status": {"phase": "Up"}, "spec": {"size": 9}}), query=by("me")),
    Step("update of a spec leaves the status", "PUT", f"{WIDGETS}/w", lambda seen: of("update of a status", seen, {"status": {}, "spec": {"size": 3}}), query=by("me")),
    # Patches
    Step("merge patch", "PATCH", f"{WIDGETS}/w", {"metadata": RED_BLUE, "spec": {"colour": "red", "size": None}}, MERGE, by("me")),
    Step("merge patch without a change", "PATCH", f"{WIDGETS}/w", {"spec": {"colour": "red"}}, MERGE, by("me")),
    Step("merge patch of an old version", "PATCH", f"{WIDGETS}/w", {"metadata": {"resourceVersion": "1"}, "spec": {}}, MERGE),
    Step("merge patch with another uid", "PATCH", f"{WIDGETS}/w", {"metadata": {"uid": "0000"}}, MERGE),
    Step("merge patch of a status", "PATCH", f"{WIDGETS}/w/status", {"status": {"phase": "Down"}, "spec": {"size": 5}}, MERGE, by("me")),
    Step("json patch", "PATCH", f"{WIDGETS}/w", [{"op": "add", "path": "/spec/tags", "value": ["a"]}, {"op": "add", "path": "/spec/tags/-", "value": "b"}, {"op": "test", "path": "/spec/colour", "value": "red"}], JSON_PATCH, by("me")),
    Step("json patch with a failing test", "PATCH", f"{WIDGETS}/w", [{"op": "test", "path": "/spec/colour", "value": "blue"}], JSON_PATCH),
    Step("json patch of a path that is not there", "PATCH", f"{WIDGETS}/w", [{"op": "remove", "path": "/spec/none"}], JSON_PATCH),
    Step("strategic patch of a custom resource", "PATCH", f"{WIDGETS}/w", {}, STRATEGIC),
    Step("patch of what is not there", "PATCH", f"{WIDGETS}/none", {}, MERGE),
    # Server-side apply
    Step("apply creates", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 1, "colour": "red", "names": ["b", "a"]}), APPLY, by("one", False)),
    Step("apply again", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 1, "colour": "red", "names": ["b", "a"]}), APPLY, by("one", False)),
    Step("apply without a manager", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 2}), APPLY),
    Step("apply of another's field", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 2}), APPLY, by("two", False)),
    Step("apply of the same value", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 1, "names": ["c"]}), APPLY, by("two", False)),
    Step("apply by force", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 2, "names": ["c"], "options": {"x": "1"}}), APPLY, by("two", True)),
    Step("apply drops what it had", "PATCH", f"{WIDGETS}/s", widget("s", {"names": ["b"]}), APPLY, by("one", False)),
    Step("apply of less", "PATCH", f"{WIDGETS}/s", widget("s", {"names": ["c"]}), APPLY, by("two", False)),
    Step("apply to another uid", "PATCH", f"{WIDGETS}/s", widget("s", {}, uid="0000"), APPLY, by("two", True)),
    Step("apply with a uid to nothing", "PATCH", f"{WIDGETS}/none", widget("none", {}, uid="0000"), APPLY, by("two", True)),
    Step("apply of a status", "PATCH", f"{WIDGETS}/s/status", widget("s") | {"status": {"phase": "Up", "conditions": [{"type": "B", "status": "True"}, {"type": "A", "status": "True"}]}}, APPLY, by("one", False)),
    Step("apply of another's condition", "PATCH", f"{WIDGETS}/s/status", widget("s") | {"status": {"conditions": [{"type": "A", "status": "False"}]}}, APPLY, by("two", False)),
    Step("apply of a further condition", "PATCH", f"{WIDGETS}/s/status", widget("s") | {"status": {"conditions": [{"type": "C", "status": "False"}]}}, APPLY, by("two", False)),
    Step("apply of fewer conditions", "PATCH", f"{WIDGETS}/s/status", widget("s") | {"status": {"conditions": [{"type": "A", "status": "True"}]}}, APPLY, by("one", False)),
    Step("apply of a status to nothing", "PATCH", f"{WIDGETS}/none/status", widget("none") | {"status": {}}, APPLY, by("one", False)),
    Step("update of an applied field", "PATCH", f"{WIDGETS}/s", {"spec": {"names": ["c", "d"], "size": 7}}, MERGE, by("hand")),
    Step("apply over an update", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 8}), APPLY, by("one", False)),
    Step("apply as a dry run", "PATCH", f"{WIDGETS}/s", widget("s", {"size": 8}), APPLY, (*by("one", True), ("dryRun", "All"))),
    Step("apply metadata", "PATCH", f"{MAPS}/m", config_map("m", {"a": "1"}, labels={"x": "1"}, finalizers=["example.com/f"]), APPLY, by("one", False)),
    Step("apply less metadata", "PATCH", f"{MAPS}/m", config_map("m", {"a": "1"}), APPLY, by("one", False)),
    # Built-in kinds
    Step("create a deployment", "POST", DEPLOYMENTS, deployment("d", "i:1"), query=by("me")),
    Step("update of an immutable field", "PATCH", f"{DEPLOYMENTS}/d", {"spec": {"selector": {"matchLabels": {"app": "e"}}, "template": {"metadata": {"labels": {"app": "e"}}}}}, MERGE),
    Step("strategic patch", "PATCH", f"{DEPLOYMENTS}/d", {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "i:2"}, {"name": "side", "image": "s"}]}}}}, STRATEGIC, by("me")),
    Step("strategic delete", "PATCH", f"{DEPLOYMENTS}/d", {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}}, STRATEGIC, by("me")),
    # Lists
    Step("list", "GET", WIDGETS),
    Step("list of all namespaces", "GET", "/apis/example.com/v1/widgets"),
    Step("list of a built-in kind", "GET", MAPS, query=(("labelSelector", "app=x"),)),
    Step("labels that are", "GET", WIDGETS, query=(("labelSelector", "colour in (red, blue),colour"),)),
    Step("labels that are not", "GET", WIDGETS, query=(("labelSelector", "colour!=red,!size,colour notin (blue)"),)),
    Step("labels that do not parse", "GET", WIDGETS, query=(("labelSelector", "a in b"),)),
    Step("fields", "GET", WIDGETS, query=(("fieldSelector", "metadata.name=s"),)),
    Step("fields that differ", "GET", WIDGETS, query=(("fieldSelector", "metadata.name!=s"),)),
    Step("fields that nobody selects by", "GET", WIDGETS, query=(("fieldSelector", "spec.size=1"),)),
    Step("a page", "GET", WIDGETS, query=(("limit", "1"),)),
    Step("the next page", "GET", WIDGETS, query=lambda seen: (("limit", "1"), ("continue", meta(seen, "a page", "continue")))),
    Step("a page of a selection", "GET", WIDGETS, query=(("limit", "1"), ("labelSelector", "!none"))),
    Step("a token that is none", "GET", WIDGETS, query=(("limit", "1"), ("continue", "x"))),
    Step("not older than", "GET", WIDGETS, query=lambda seen: (("resourceVersion", version(seen, "apply creates")), ("resourceVersionMatch", "NotOlderThan"))),
    Step("exactly", "GET", WIDGETS, query=lambda seen: (("resourceVersion", version(seen, "apply creates")), ("resourceVersionMatch", "Exact"))),
    Step("a match without a version", "GET", WIDGETS, query=(("resourceVersionMatch", "Exact"),)),
    Step("exactly any", "GET", WIDGETS, query=(("resourceVersionMatch", "Exact"), ("resourceVersion", "0"))),
    Step("an unknown match", "GET", WIDGETS, query=(("resourceVersionMatch", "Near"), ("resourceVersion", "1"))),
    Step("a version that is no number", "GET", WIDGETS, query=(("resourceVersion", "x"),)),
    Step("a version that is to come", "GET", WIDGETS, query=(("resourceVersion", "99999999"), ("resourceVersionMatch", "NotOlderThan"))),
    Step("a watch that lists without a match", "GET", WIDGETS, query=(("watch", "1"), ("sendInitialEvents", "true"))),
    Step("a watch with a match that does not list", "GET", WIDGETS, query=(("watch", "1"), ("resourceVersionMatch", "NotOlderThan"), ("resourceVersion", "1"))),
    # Deletion
    Step("create with a finalizer", "POST", WIDGETS, widget("f", {"size": 1}, finalizers=["example.com/f"]), query=by("me")),
    Step("delete with another uid", "DELETE", f"{WIDGETS}/f", {"preconditions": {"uid": "0000"}}),
    Step("delete with another version", "DELETE", f"{WIDGETS}/f", {"preconditions": {"resourceVersion": "1"}}),
    Step("delete waits for the finalizer", "DELETE", f"{WIDGETS}/f"),
    Step("delete again", "DELETE", f"{WIDGETS}/f"),
    Step("no new finalizer", "PATCH", f"{WIDGETS}/f", {"metadata": {"finalizers": ["example.com/f", "example.com/g"]}}, MERGE),
    Step("the last finalizer goes", "PATCH", f"{WIDGETS}/f", {"metadata": {"finalizers": None}}, MERGE),
    Step("and the object with it", "GET", f"{WIDGETS}/f"),
    Step("delete in the foreground", "DELETE", f"{WIDGETS}/w", {"propagationPolicy": "Foreground"}),
    Step("delete", "DELETE", f"{MAPS}/a"),
    Step("delete what is not there", "DELETE", f"{MAPS}/a"),
)


def of(title: str, answers: Answers, change: Json) -> Json:
    """The answer of an earlier step, changed."""
    return {**answers[title][1], **change}


async def test_nothing() -> None:
    pass
