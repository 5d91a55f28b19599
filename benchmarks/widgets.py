"""Widget: the custom resource of the benchmarks, about 1.2 KB of JSON (without managedFields) when stored."""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from kaito.kube import CRDOptions, FrozenMap, KubeModel, ObjectKey, Resource

NAMESPACE = "default"
OBJECT_BYTES = 1200
# uid, resourceVersion, generation and creationTimestamp, which the API server adds.
_SERVER_BYTES = 145
_DIGITS = 6


class Port(KubeModel):
    """A port of a widget."""

    name: str
    port: int
    protocol: str


class EnvVar(KubeModel):
    """A setting of a widget."""

    name: str
    value: str


class WidgetSpec(KubeModel):
    """What is wanted; shaped like the specs that people write."""

    image: str
    replicas: int
    revision: int
    paused: bool
    description: str
    resources: FrozenMap[str, str]
    ports: tuple[Port, ...]
    env: tuple[EnvVar, ...]


class WidgetStatus(KubeModel):
    """What was seen: the round in which a reconciler wrote it last."""

    round: int = 0


class Widget(Resource, group="benchmarks.kaito.sh", version="v1"):
    """The kind; `benchmarks/go/controllerruntime/widget.go` has it too, field for field."""

    crd: ClassVar[CRDOptions] = CRDOptions(status=True)

    spec: WidgetSpec
    status: WidgetStatus = Field(default_factory=WidgetStatus)


def key(index: int) -> ObjectKey:
    """The key of the widget of a number."""
    return ObjectKey(f"widget-{index:0{_DIGITS}d}", NAMESPACE)


def number(name: str) -> int:
    """The number of the widget of a name."""
    return int(name[-_DIGITS:])


def widgets(count: int) -> Iterator[Widget]:
    """Makes widgets number 0 to `count` - 1, each padded to `OBJECT_BYTES`."""
    for index in range(count):
        wire = _wire(index, "")
        bare = len(Widget.model_validate(wire).model_dump_json(by_alias=True, exclude_unset=True)) + _SERVER_BYTES
        yield Widget.model_validate(_wire(index, "d" * max(0, OBJECT_BYTES - bare)))


def _wire(index: int, description: str) -> dict[str, Any]:
    return {
        "apiVersion": "benchmarks.kaito.sh/v1",
        "kind": "Widget",
        "metadata": {
            "name": key(index).name,
            "namespace": NAMESPACE,
            "labels": {
                "app.kubernetes.io/name": f"widget-{index % 50}",
                "app.kubernetes.io/part-of": "benchmark",
                "tier": ("front", "middle", "back")[index % 3],
            },
            "annotations": {"benchmarks.kaito.sh/purpose": f"number {index} of a fleet"},
        },
        "spec": {
            "image": f"registry.example.com/widgets/engine:{index % 10}.4.2",
            "replicas": index % 5,
            "revision": 0,
            "paused": False,
            "description": description,
            "resources": {"cpu": "250m", "memory": "512Mi"},
            "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP"},
                {"name": "metrics", "port": 9090, "protocol": "TCP"},
            ],
            "env": [{"name": f"SETTING_{number}", "value": f"value-{index}-{number}"} for number in range(4)],
        },
    }
