"""What the replay server sends: widgets and Pods as an API server writes them, managedFields included."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.widgets import NAMESPACE, Widget, widgets
from kaito.kube import Resource
from kaito.kube.core_v1 import Pod

SENT_ANNOTATION = "benchmarks.kaito.sh/sent-ns"
"""When an event was due, in nanoseconds since 1970. The Go side reads it too."""
FIRST_VERSION = 1_000_000_000
"""The resourceVersion of object 0; the Go side knows it too."""
_VERSION_MARK = "RRRRRRRRRR"
_SENT_MARK = "SSSSSSSSSSSSSSSSSSS"
_POD_BYTES = 7300


class Template(NamedTuple):
    """The JSON of one object, cut where each event differs: resourceVersion and time of sending."""

    parts: tuple[bytes, bytes, bytes]
    version_first: bool

    def at(self, version: int, sent_ns: int) -> bytes:
        """The object in one version."""
        first, second, third = self.parts
        values = (b"%010d" % version, b"%019d" % sent_ns)
        one, two = values if self.version_first else reversed(values)
        return b"".join((first, one, second, two, third))


class Shape(NamedTuple):
    """A kind that is replayed.

    Attributes:
        kind: our class of it.
        make: makes the wire form of so many objects, without what the server adds.
    """

    kind: type[Resource]
    make: Callable[[int], Iterator[dict[str, Any]]]

    def templates(self, count: int) -> list[Template]:
        """Objects 0 to `count` - 1."""
        return [_template(_served(index, wire)) for index, wire in enumerate(self.make(count))]


def _widgets(count: int) -> Iterator[dict[str, Any]]:
    for widget in widgets(count):
        yield widget.to_dict()


def _pods(count: int) -> Iterator[dict[str, Any]]:
    # The padding is the same for all: what differs between them is a few digits.
    missing = _POD_BYTES - len(_json(_served(0, _pod(0, ""))))
    for index in range(count):
        yield _pod(index, "p" * max(0, missing))


SHAPES: Mapping[str, Shape] = {
    "widget": Shape(Widget, _widgets),
    "pod": Shape(Pod, _pods),
}


def _template(served: dict[str, Any]) -> Template:
    text = _json(served).decode()
    version_first = text.index(_VERSION_MARK) < text.index(_SENT_MARK)
    one, two = (_VERSION_MARK, _SENT_MARK) if version_first else (_SENT_MARK, _VERSION_MARK)
    first, rest = text.split(one)
    second, third = rest.split(two)
    return Template((first.encode(), second.encode(), third.encode()), version_first)


def _served(index: int, wire: dict[str, Any]) -> dict[str, Any]:
    """What a server makes of an object that was posted."""
    annotations = {**wire["metadata"].get("annotations", {}), SENT_ANNOTATION: _SENT_MARK}
    posted = {**wire, "metadata": {**wire["metadata"], "annotations": annotations}}
    # Lists of custom resources are atomic unless their schema says otherwise; those of Pods mostly have keys.
    lists_have_keys = wire["kind"] == "Pod"
    written = {"metadata": {name: posted["metadata"][name] for name in ("annotations", "labels")}, "spec": wire["spec"]}
    by_manager = {"kube-controller-manager": written}
    if lists_have_keys:
        by_manager["kubelet"] = {"status": wire["status"]}
    metadata = {
        **posted["metadata"],
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 1,
        "managedFields": [
            _managed(wire["apiVersion"], manager, _fields(fields, lists_have_keys))
            for manager, fields in by_manager.items()
        ],
        "resourceVersion": _VERSION_MARK,
        "uid": f"00000000-0000-4000-8000-{index:012d}",
    }
    return {**posted, "metadata": metadata}


def _managed(api_version: str, manager: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    entry = {
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "manager": manager,
        "operation": "Update",
        "time": "2026-01-01T00:00:00Z",
    }
    return entry | ({"subresource": "status"} if "f:status" in fields else {})


def _fields(value: object, lists_have_keys: bool) -> dict[str, Any]:
    """The FieldsV1 of a value: maps by field, lists of items with a name (or type) by that, others as a whole."""
    if isinstance(value, Mapping):
        return {f"f:{name}": _fields(item, lists_have_keys) for name, item in value.items()}
    if not lists_have_keys or not isinstance(value, Sequence) or isinstance(value, str):
        return {}
    keys = [next((name for name in ("name", "type") if name in item), "") for item in value]
    return {
        f'k:{{"{key}":{json.dumps(item[key])}}}': {".": {}, **_fields(item, lists_have_keys)}
        for key, item in zip(keys, value, strict=True)
        if key
    }


def _pod(index: int, padding: str) -> dict[str, Any]:
    containers = ("engine", "metrics")
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"web-{index // 10}", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{index:06d}",
            "namespace": NAMESPACE,
            "generateName": f"web-{index // 10}-",
            "labels": {"app": f"web-{index // 10}", "pod-template-hash": "6b7f9c5d4", "tier": f"tier-{index % 3}"},
            "annotations": {"prometheus.io/scrape": "true", "benchmarks.kaito.sh/padding": padding},
            "ownerReferences": [{**owner, "blockOwnerDeletion": True, "uid": f"owner-{index // 10:030d}"}],
        },
        "spec": {
            "containers": [_container(name, index) for name in containers],
            "nodeName": f"node-{index % 100}",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "serviceAccountName": "default",
            "tolerations": [
                {"effect": "NoExecute", "key": f"node.kubernetes.io/{key}", "operator": "Exists"}
                for key in ("not-ready", "unreachable")
            ],
            "volumes": [{"name": "config", "configMap": {"name": "web", "defaultMode": 420}}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.{index // 65536}.{index // 256 % 256}.{index % 256}",
            "qosClass": "Burstable",
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [
                {"type": type_, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for type_ in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [_container_status(name) for name in containers],
        },
    }


def _container(name: str, index: int) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example.com/web/{name}:1.4.2",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": f"SETTING_{number}", "value": f"value-{index}-{number}"} for number in range(3)],
        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "512Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "volumeMounts": [{"name": "config", "mountPath": "/etc/web", "readOnly": True}],
    }


def _container_status(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "containerID": f"containerd://{name:0<64}",
        "image": f"registry.example.com/web/{name}:1.4.2",
        "imageID": f"registry.example.com/web/{name}@sha256:{name:0<64}",
        "ready": True,
        "restartCount": 0,
        "started": True,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
