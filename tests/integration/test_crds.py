"""Workspace's CRD on a real API server: what goes through, what is refused in which words, and what users see."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from kaito.api import all_crds, kaito_v1alpha1, kaito_v1beta1, keys
from kaito.cli.crds import CRDFormat, render
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import RequestError
from kaito.kube import custom_resource_definition
from tests.operating.cluster import EXAMPLES, filled_in

KAITO = "kaito.sh/v1beta1"
OLD_KAITO = "kaito.sh/v1alpha1"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    await install(control_plane, render(all_crds(), CRDFormat.YAML))
    yield


async def install(control_plane: ControlPlane, manifests: str) -> None:
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=manifests)
    await control_plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=20s")


def example(name: str) -> dict[str, Any]:
    """A manifest of the walk-through as a user applies it, in the version that is stored."""
    value: dict[str, Any] = yaml.safe_load(filled_in(name))
    return value | {"apiVersion": KAITO}


def inference() -> dict[str, Any]:
    return example("inference/kaito_workspace_phi_3.yaml")


def tuning() -> dict[str, Any]:
    return example("tuning/kaito_workspace_tuning_phi_3_4k.yaml")


def collection(version: str, namespace: str) -> str:
    return f"/apis/{version}/namespaces/{namespace}/workspaces"


def create(control_plane: ControlPlane, value: dict[str, Any], namespace: str) -> dict[str, Any]:
    path = f"{collection(value['apiVersion'], namespace)}?fieldValidation=Strict"
    answer: dict[str, Any] = control_plane.request("POST", path, value)
    return answer


def dry_run(control_plane: ControlPlane, value: dict[str, Any]) -> None:
    control_plane.request(
        "POST", f"{collection(value['apiVersion'], 'default')}?fieldValidation=Strict&dryRun=All", value
    )


def refusal(control_plane: ControlPlane, value: dict[str, Any]) -> str:
    """What kubectl would print."""
    with pytest.raises(RequestError) as caught:
        dry_run(control_plane, value)
    assert caught.value.status == 422, str(caught.value)
    answer = str(caught.value)
    message: str = json.loads(answer[answer.index("{") :])["message"]
    return message


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(str(path.relative_to(EXAMPLES)), id=path.stem)
        for path in sorted(EXAMPLES.glob("*/kaito_workspace_*.yaml"))
    ],
)
async def test_a_manifest_of_the_walk_through_goes_through_once_its_placeholders_are_replaced(
    control_plane: ControlPlane, namespace: str, name: str
) -> None:
    printed = await control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=filled_in(name))
    assert printed.strip().endswith("created")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("inference/kaito_workspace_phi_3.yaml", {}),
        (
            "inference/kaito_workspace_phi_3_with_adapters.yaml",
            {"inference.adapters[0].source.image": ("ACR_REPO_HERE", "your own registry and image")},
        ),
        *(
            (
                f"tuning/kaito_workspace_tuning_phi_3_{size}.yaml",
                {
                    "tuning.output.image": ("ACR_REPO_HERE", "your own registry and image"),
                    "tuning.output.imagePushSecret": ("ACR_REGISTRY_SECRET_HERE", "the name of your own Secret"),
                },
            )
            for size in ("4k", "128k")
        ),
    ],
)
def test_a_manifest_as_it_stands_is_refused_for_exactly_its_placeholders(
    control_plane: ControlPlane, name: str, refused: dict[str, tuple[str, str]]
) -> None:
    value = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    if not refused:
        dry_run(control_plane, value)
        return
    message = refusal(control_plane, value)
    assert message.count("Invalid value") == len(refused)
    for field, (placeholder, replacement) in refused.items():
        assert f"{field}: Invalid value" in message
        assert f"{placeholder} is a placeholder of the example" in message
        assert f"with {replacement}" in message


def test_what_one_version_writes_the_other_reads_whole(control_plane: ControlPlane, namespace: str) -> None:
    old = inference() | {"apiVersion": OLD_KAITO}
    stored = create(control_plane, old, namespace)
    status = {
        "observedGeneration": 1,
        "state": "Ready",
        "workerNodes": ["n"],
        "targetNodeCount": 1,
        "nodeClaims": [{"ordinal": 0, "incarnation": 1, "name": "ws0123456ab"}],
        "conditions": [
            {
                "type": "ResourceReady",
                "status": "True",
                "reason": "Done",
                "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
                "observedGeneration": 1,
            }
        ],
        "performance": {"metrics": {"peak": {"value": "1.5", "unit": "tokens/min", "config": {"engine": "vllm"}}}},
    }
    path = f"{collection(OLD_KAITO, namespace)}/{stored['metadata']['name']}"
    control_plane.request("PUT", f"{path}/status?fieldValidation=Strict", stored | {"status": status})
    newer = control_plane.request("GET", path.replace("v1alpha1", "v1beta1"))
    assert newer["status"] == status
    assert control_plane.request("GET", path)["status"] == status
    workspace = kaito_v1beta1.Workspace.model_validate_json(json.dumps(newer))
    assert json.loads(json.dumps(workspace.to_dict())) == newer
    assert workspace.status.node_claims[0].name == "ws0123456ab"


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
async def test_kubectl_get_prints_the_columns_of_the_walk_through_in_every_version(
    control_plane: ControlPlane, namespace: str, version: str
) -> None:
    conditions = [
        {"type": name, "status": "True", "reason": "Done", "lastTransitionTime": "2026-01-02T03:04:05Z"}
        for name in (keys.RESOURCE_READY, keys.INFERENCE_READY, keys.WORKSPACE_READY)
    ]
    stored = create(control_plane, inference(), namespace)
    path = f"{collection(KAITO, namespace)}/{stored['metadata']['name']}"
    control_plane.request("PUT", f"{path}/status", stored | {"status": {"conditions": conditions}})
    printed = await control_plane.kubectl("get", f"workspaces.{version}.kaito.sh", "-n", namespace)
    heading, row = printed.splitlines()
    assert heading.split() == ["NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]
    assert row.split()[:-1] == ["workspace-phi-3-mini", "Standard_NC6s_v3", "True", "True", "True"]


@pytest.mark.parametrize("name", ["workspace", "workspaces", "wk", "wks"])
async def test_every_name_of_the_kind_answers_with_the_preferred_version(
    control_plane: ControlPlane, namespace: str, name: str
) -> None:
    create(control_plane, inference(), namespace)
    printed = await control_plane.kubectl("get", name, "-n", namespace, "-o", "json")
    assert json.loads(printed)["items"][0]["apiVersion"] == "kaito.sh/v1beta1"


async def test_an_object_that_breaks_newer_rules_can_still_lose_its_finalizer(
    control_plane: ControlPlane, namespace: str
) -> None:
    old = json.loads(json.dumps(_in_group("old.example.com")))
    for version in old["spec"]["versions"]:
        _drop_rules(version["schema"]["openAPIV3Schema"])
    await install(control_plane, json.dumps(old))
    path = collection("old.example.com/v1beta1", namespace)
    broken = inference() | tuning() | {"apiVersion": "old.example.com/v1beta1"}
    broken["metadata"] = {"name": "1abc", "finalizers": [keys.WORKSPACE_FINALIZER]}
    broken["inference"]["adapters"] = [{"source": {"image": "PLACE_HERE"}, "strength": "9"}]
    control_plane.request("POST", path, broken)
    try:
        await install(control_plane, json.dumps(_in_group("old.example.com")))
        deleting = control_plane.request("DELETE", f"{path}/1abc")
        assert "deletionTimestamp" in json.dumps(deleting)
        stored: dict[str, Any] = control_plane.request("GET", f"{path}/1abc")
        del stored["metadata"]["finalizers"]
        control_plane.request("PUT", f"{path}/1abc", stored)
        with pytest.raises(RequestError) as caught:
            control_plane.request("GET", f"{path}/1abc")
        assert caught.value.status == 404
    finally:
        await control_plane.kubectl("delete", "crd", "workspaces.old.example.com", "--wait=false")


def _in_group(group: str) -> dict[str, Any]:
    definition = custom_resource_definition(kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace)
    definition["metadata"]["name"] = f"workspaces.{group}"
    definition["spec"]["group"] = group
    return definition


def _drop_rules(node: dict[str, Any]) -> None:
    for rule in ("x-kubernetes-validations", "maxLength", "minLength", "pattern"):
        node.pop(rule, None)
    for child in [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]:
        if isinstance(child, dict):
            _drop_rules(child)
