"""kaito.kube's types against a real API server: the names of all fields, and the way it writes quantities."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from kaito.devcluster.controlplane import ControlPlane
from kaito.kube import (
    KubeModel,
    Quantity,
    Resource,
    apps_v1,
    authentication_v1,
    authorization_v1,
    batch_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    events_v1,
    rbac_v1,
)

MODULES = (
    apps_v1,
    authentication_v1,
    authorization_v1,
    batch_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    events_v1,
    rbac_v1,
)

KINDS = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Resource) and hasattr(kind, "resource_type")
    },
    key=lambda kind: kind.__name__,
)


@pytest.fixture(scope="module")
def definitions(control_plane: ControlPlane) -> dict[str, Any]:
    published: dict[str, Any] = control_plane.request("GET", "/openapi/v2")
    found: dict[str, Any] = published["definitions"]
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_declared_field_is_one_that_the_api_server_publishes(
    definitions: dict[str, Any], kind: type[Resource]
) -> None:
    place = kind.resource_type
    wanted = {"group": place.group, "version": place.version, "kind": place.kind}
    root = next(each for each in definitions.values() if wanted in each.get("x-kubernetes-group-version-kind", []))
    assert not list(unknown_fields(kind, root, definitions, place.kind))


def unknown_fields(
    model: type[KubeModel], node: dict[str, Any], definitions: dict[str, Any], path: str
) -> Iterator[str]:
    model.model_rebuild()  # aliases are set when the schema is built
    properties = resolve(node, definitions).get("properties", {})
    for name, field in model.model_fields.items():
        wire = field.alias or name
        if wire not in properties:
            yield f"{path}.{wire}"
            continue
        for inner in models_in(field.annotation):
            yield from unknown_fields(inner, properties[wire], definitions, f"{path}.{wire}")


def resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Goes through references and containers to the object that a field is about."""
    while True:
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
        elif node.get("type") == "array":
            node = node["items"]
        elif "additionalProperties" in node and "properties" not in node:
            node = node["additionalProperties"]
        else:
            return node


def models_in(annotation: object) -> Iterator[type[KubeModel]]:
    if isinstance(annotation, type) and issubclass(annotation, KubeModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


@pytest.mark.parametrize(
    "text",
    ["1024Mi", "1.5Gi", "0.5", "1500m", "1000", "1e3", "12E2", "0.1Ki", "0.5Ki", "100Ei", "1000000u", "64k", "5E"],
)  # fmt: skip
def test_the_api_server_writes_a_quantity_as_we_do(control_plane: ControlPlane, text: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "quantity"},
        "spec": {
            "containers": [
                {"name": "c", "image": "i", "resources": {"limits": {"memory": text, "example.com/none": "1"}}}
            ]
        },
    }
    written = control_plane.request("POST", "/api/v1/namespaces/default/pods?dryRun=All", pod)
    read = core_v1.Pod.model_validate(written)
    assert read.spec.containers[0].resources.limits["memory"] == str(Quantity.parse(text))
