"""The CRDs of Machine and NodeClaim on a real API server: Karpenter's columns, defaults and refusals."""

import copy
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from kaito.api import all_crds, keys
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.cli.crds import CRDFormat, render
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import RequestError
from kaito.kube import Resource


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def crds(control_plane: ControlPlane) -> AsyncIterator[None]:
    manifests = render(all_crds(), CRDFormat.YAML)
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=manifests)
    await control_plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=20s")
    yield


def machine() -> dict[str, Any]:
    requirements = {
        keys.INSTANCE_TYPE_LABEL: "Standard_NC6s_v3",
        keys.PROVISIONER_NAME_LABEL: "default",
        keys.MACHINE_TYPE_LABEL: "gpu",
        keys.ARCH_LABEL: "amd64",
        keys.OS_LABEL: "linux",
    }
    return {
        "apiVersion": "karpenter.sh/v1alpha5",
        "kind": "Machine",
        "metadata": {"name": "ws0123456ab"},
        "spec": {
            "machineTemplateRef": {"name": "ws0123456ab"},
            "requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in requirements.items()],
            "resources": {"requests": {"storage": "100Gi"}},
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        },
    }


def node_claim() -> dict[str, Any]:
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": "ws0123456ab"},
        "spec": {
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
            "requirements": [
                {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["kaito"]},
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC6s_v3"]},
                {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                {"key": "karpenter.azure.com/sku-name", "operator": "In", "values": ["Standard_NC6s_v3"]},
                {"key": "karpenter.k8s.aws/instance-gpu-count", "operator": "Gt", "values": ["0"]},
            ],
            "resources": {"requests": {"storage": "1024Gi"}},
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        },
    }


def changed(value: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    value = copy.deepcopy(value)
    change(value)
    return value


def collection(value: dict[str, Any]) -> str:
    return f"/apis/{value['apiVersion']}/{value['kind'].lower()}s"


def create(control_plane: ControlPlane, value: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = control_plane.request("POST", f"{collection(value)}?fieldValidation=Strict", value)
    return answer


def dry_run(control_plane: ControlPlane, value: dict[str, Any]) -> None:
    control_plane.request("POST", f"{collection(value)}?fieldValidation=Strict&dryRun=All", value)


def refusal(control_plane: ControlPlane, value: dict[str, Any]) -> str:
    """What kubectl would print."""
    with pytest.raises(RequestError) as caught:
        dry_run(control_plane, value)
    assert caught.value.status == 422, str(caught.value)
    answer = str(caught.value)
    message: str = json.loads(answer[answer.index("{") :])["message"]
    return message


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        (machine(), ["NAME", "TYPE", "ZONE", "NODE", "READY", "AGE"]),
        (node_claim(), ["NAME", "TYPE", "CAPACITY", "ZONE", "NODE", "READY", "AGE"]),
    ],
)
async def test_claims_as_kaito_writes_them_go_through_and_print_as_karpenters(
    control_plane: ControlPlane, value: dict[str, Any], columns: list[str]
) -> None:
    stored = create(control_plane, value)
    path = f"{collection(value)}/{value['metadata']['name']}"
    try:
        resource: type[Resource] = Machine if value["kind"] == "Machine" else NodeClaim
        assert json.loads(json.dumps(resource.model_validate(stored).to_dict())) == stored
        printed = await control_plane.kubectl("get", value["kind"].lower())
        assert printed.splitlines()[0].split() == columns
    finally:
        control_plane.request("DELETE", path)


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ({"key": "a", "operator": "In"}, "operator In must have a value"),
        ({"key": "a", "operator": "Gt", "values": ["x"]}, "single positive integer"),
        ({"key": "a", "operator": "Lt", "values": ["1", "2"]}, "single positive integer"),
        ({"key": "a", "operator": "In", "values": ["1"], "minValues": 2}, "at least that many values"),
        ({"key": "a", "operator": "Near", "values": ["1"]}, "Unsupported value"),
        ({"key": "kubernetes.io/hostname", "operator": "Exists"}, "is restricted"),
        ({"key": "foo.kubernetes.io/x", "operator": "Exists"}, 'label domain "kubernetes.io" is restricted'),
        ({"key": "k8s.io/x", "operator": "Exists"}, 'label domain "k8s.io" is restricted'),
        ({"key": "karpenter.sh/x", "operator": "Exists"}, 'label domain "karpenter.sh" is restricted'),
        ({"key": "a/b/c", "operator": "Exists"}, "should match"),
    ],
)
def test_requirements_that_karpenter_refuses_are_refused(
    control_plane: ControlPlane, requirement: dict[str, Any], words: str
) -> None:
    claim = changed(node_claim(), lambda n: n["spec"].update(requirements=[requirement]))
    assert words in refusal(control_plane, claim)


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "example.com/a",
        "topology.kubernetes.io/zone",
        "kops.k8s.io/x",
        "x.node.kubernetes.io/y",
        "notkubernetes.io/x",
    ],
)
def test_requirements_that_karpenter_takes_are_taken(control_plane: ControlPlane, key: str) -> None:
    requirement = {"key": key, "operator": "Exists"}
    dry_run(control_plane, changed(node_claim(), lambda n: n["spec"].update(requirements=[requirement])))


def test_a_node_claims_spec_is_immutable_and_its_defaults_are_karpenters(control_plane: ControlPlane) -> None:
    stored = create(control_plane, node_claim())
    path = f"{collection(stored)}/{stored['metadata']['name']}"
    try:
        assert stored["spec"]["expireAfter"] == "720h"
        with pytest.raises(RequestError, match="spec is immutable"):
            control_plane.request("PUT", path, changed(stored, lambda n: n["spec"].update(expireAfter="Never")))
    finally:
        control_plane.request("DELETE", path)
