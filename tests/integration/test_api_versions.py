"""Workspaces through both served versions on a real API server: nothing that one wrote is lost in the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from kaito.api import kaito_v1alpha1, kaito_v1beta1
from kaito.devcluster.controlplane import ControlPlane
from tests.operating.bad_workspaces import VERSIONS
from tests.operating.cluster import install_crds

KINDS = {kind.resource_type.api_version: kind for kind in (kaito_v1alpha1.Workspace, kaito_v1beta1.Workspace)}
PRESET = {
    "name": "meta-llama/Llama-3.1-8B-Instruct",
    "accessMode": "private",
    "presetOptions": {
        "image": "r.example.com/m:1",
        "imagePullSecrets": ["pull"],
        "modelAccessSecret": "hf",
    },
}
NODES = {
    "count": 1,
    "instanceType": "",
    "labelSelector": {
        "matchLabels": {"apps": "x"},
        "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}],
    },
    "preferredNodes": ["node-1"],
}
INFERENCE = {
    "resource": NODES | {"partition": {"mode": "mig", "profile": "1g.10gb"}},
    "inference": {
        "preset": PRESET,
        "config": "config",
        "adapters": [
            {"source": {"name": "a", "image": "r.example.com/a:1", "imagePullSecrets": ["pull"]}, "strength": "0.5"},
            {"source": {"name": "b", "volumeSource": {"csi": {"driver": "d", "ofTomorrow": [1, {"x": None}]}}}},
        ],
    },
}
TEMPLATE = {
    "resource": NODES,
    "inference": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}], "ofTomorrow": {"a": [True]}}}},
}
TUNING = {
    "resource": NODES,
    "tuning": {
        "preset": PRESET,
        "method": "QLoRA",
        "config": "config",
        "input": {"name": "data", "urls": ["https://example.com/d"], "imagePullSecrets": ["pull"]},
        "output": {"image": "r.example.com/o:1", "imagePushSecret": "push"},
    },
}
CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "R",
    "message": "m",
    "lastTransitionTime": "2026-01-02T03:04:05Z",
    "observedGeneration": 1,
}
STATUS = {
    "observedGeneration": 1,
    "state": "Ready",
    "conditions": [CONDITION],
    "workerNodes": ["node-1"],
    "targetNodeCount": 2,
    "nodeClaims": [{"ordinal": 0, "incarnation": 1, "name": "ws1", "notBefore": "2026-01-02T03:04:05Z"}],
    "nextOrdinal": 1,
    "performance": {"metrics": {"m": {"description": "d", "value": "1", "unit": "u", "config": {"engine": "vllm"}}}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    await install_crds(control_plane)
    yield


def path(api_version: str, namespace: str) -> str:
    return f"/apis/{api_version}/namespaces/{namespace}/workspaces"


def content(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("apiVersion", "kind", "metadata")}


@pytest.mark.parametrize(("one", "other"), [VERSIONS, VERSIONS[::-1]])
@pytest.mark.parametrize("wanted", [INFERENCE, TEMPLATE, TUNING], ids=["inference", "template", "tuning"])
def test_what_one_version_wrote_the_other_reads_and_writes_back_whole(
    control_plane: ControlPlane, namespace: str, wanted: dict[str, Any], one: str, other: str
) -> None:
    new = {"apiVersion": one, "kind": "Workspace", "metadata": {"name": "w"}} | wanted
    made = control_plane.request("POST", f"{path(one, namespace)}?fieldValidation=Strict", new)
    control_plane.request("PUT", f"{path(one, namespace)}/w/status?fieldValidation=Strict", made | {"status": STATUS})
    read = control_plane.request("GET", f"{path(other, namespace)}/w")
    assert content(read) == wanted | {"status": STATUS}
    model = KINDS[other].model_validate(read).to_dict()
    assert content(model) == content(read)
    written = control_plane.request("PUT", f"{path(other, namespace)}/w?fieldValidation=Strict", model)
    assert content(written) == content(control_plane.request("GET", f"{path(one, namespace)}/w")) == content(read)


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
async def test_kubectl_get_prints_the_columns_of_the_walk_through(
    control_plane: ControlPlane, namespace: str, version: str
) -> None:
    made = {"apiVersion": f"kaito.sh/{version}", "kind": "Workspace", "metadata": {"name": "w"}} | TEMPLATE
    control_plane.request("POST", path(f"kaito.sh/{version}", namespace), made)
    kind = f"workspaces.{version}.kaito.sh"
    six = ["NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]
    printed = await control_plane.kubectl("get", kind, "-n", namespace)
    assert printed.splitlines()[0].split() == six
    printed = await control_plane.kubectl("get", kind, "-n", namespace, "-o", "wide")
    assert printed.splitlines()[0].split() == [*six, "JOBSTARTED", "WORKSPACESUCCEEDED", "NODES", "STATE"]


@pytest.mark.parametrize("kind", ["workspace", "machine", "nodeclaim"])
async def test_kubectl_explains_every_field(control_plane: ControlPlane, kind: str) -> None:
    printed = await control_plane.kubectl("explain", kind, "--recursive")
    assert "status" in printed
