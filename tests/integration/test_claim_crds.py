"""The CRDs of Machine and NodeClaim on a real API server: Karpenter's columns, defaults and refusals."""

import copy
import json
import re
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


AT = "2026-01-02T03:04:05Z"
POOL = "/subscriptions/s/resourceGroups/MC_rg_aks_eastus/providers/Microsoft.Compute/virtualMachineScaleSets"
PROVIDER_ID = f"azure://{POOL}/aks-ws0123456ab-12345678-vmss/virtualMachines/0"
HEAD = {
    "finalizers": ["karpenter.sh/termination"],
    "ownerReferences": [
        {
            "apiVersion": "kaito.sh/v1alpha1",
            "kind": "Workspace",
            "name": "phi-3",
            "uid": "1b2c3d4e-0000-4000-8000-000000000001",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ],
}


def knative(kind: str, status: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": AT, **more}


def observed(kind: str, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": AT, "reason": kind, "message": "", **more}


def written() -> dict[str, dict[str, Any]]:
    """Claims as Karpenter and gpu-provisioner write them, by what is particular about each."""
    waiting = {"reason": "AwaitingReconciliation", "message": "object is awaiting reconciliation"}
    size = {"cpu": 6, "memory": "115387540Ki", "ephemeral-storage": "1Ti", "nvidia.com/gpu": "1", "pods": "110"}
    return {
        "a machine that launches": machine()
        | {
            "metadata": {
                "name": "wsknative1",
                "labels": {"karpenter.sh/provisioner-name": "default", "kaito.sh/workspace": "phi-3"},
                "annotations": {
                    "karpenter.sh/do-not-evict": "true",
                    "NodeHeartBeatTimeStamp": '"2026-01-02T03:04:05.678901234Z"',
                    "of.tomorrow/x": "{}",
                },
                **HEAD,
            },
            "status": {
                "conditions": [
                    knative("MachineInitialized", "Unknown"),
                    knative("MachineLaunched", "False", reason="LaunchFailed", message='creating machine, "quota"\n'),
                    knative("MachineRegistered", "Unknown"),
                    knative("Ready", "False", reason="LaunchFailed", message='creating machine, "quota"\n'),
                ]
            },
        },
        "a machine that is ready and drifted": changed(
            machine(),
            lambda m: m["spec"].update(
                kubelet={
                    "clusterDNS": ["10.0.0.10"],
                    "cpuCFSQuota": False,
                    "evictionHard": {"memory.available": "5%"},
                    "evictionSoftGracePeriod": {"memory.available": "1m30s"},
                    "imageGCHighThresholdPercent": 85,
                    "maxPods": 0,
                    "systemReserved": {"cpu": "100m", "memory": 1073741824},
                },
                resources={"requests": {"storage": "100Gi", "cpu": 4}},
                startupTaints=[{"key": "a/b", "effect": "NoExecute", "timeAdded": AT}],
                taints=[{"key": "sku", "value": "", "effect": "NoSchedule"}],
            ),
        )
        | {
            "metadata": {"name": "wsknative2", **HEAD},
            "status": {
                "nodeName": "aks-ws0123456ab-12345678-vmss000000",
                "providerID": PROVIDER_ID,
                "capacity": size,
                "allocatable": {**size, "cpu": "5740m"},
                "conditions": [
                    knative("MachineDrifted", "True", severity="Warning", reason="", message=""),
                    knative("MachineInitialized", "True"),
                    knative("Ready", "True"),
                ],
            },
        },
        "a node claim that nobody has looked at yet": node_claim()
        | {
            "metadata": {"name": "wsnew", "labels": {"karpenter.sh/nodepool": "kaito"}, **HEAD},
            "status": {
                "conditions": [
                    observed(kind, "Unknown", **waiting, observedGeneration=1)
                    for kind in ("Initialized", "Launched", "Registered")
                ]
                + [
                    observed(
                        "Ready",
                        "Unknown",
                        reason="ReconcilingDependents",
                        message="Initialized=Unknown, Launched=Unknown, Registered=Unknown",
                    )
                ]
            },
        },
        "a node claim that is ready and goes": changed(
            node_claim(),
            lambda n: n["spec"].update(
                expireAfter="Never",
                terminationGracePeriod="1h30m",
                nodeClassRef={"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "a.b"},
                requirements=[
                    {
                        "key": "karpenter.sh/capacity-type",
                        "operator": "In",
                        "values": ["spot", "on-demand"],
                        "minValues": 2,
                    },
                    {"key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["eastus-1"]},
                    {"key": "karpenter.azure.com/sku-gpu-count", "operator": "Gt", "values": ["0"]},
                    {"key": "example.com/x", "operator": "DoesNotExist"},
                ],
                resources={"requests": {"cpu": 4, "memory": "1e9", "nvidia.com/gpu": "1"}},
                startupTaints=[{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}],
                taints=[{"key": "a", "value": "example.com/b", "effect": "PreferNoSchedule", "timeAdded": AT}],
            ),
        )
        | {
            "metadata": {
                "name": "wsready",
                "labels": {"karpenter.sh/capacity-type": "spot", "kaito.sh/kaitonodeclass": "default"},
                "annotations": {
                    "compatibility.karpenter.sh/provider": "none",
                    "karpenter.sh/nodeclaim-termination-timestamp": AT,
                    "karpenter.sh/nodepool-hash": "1234567890",
                },
                **HEAD,
            },
            "status": {
                "nodeName": "aks-default-a1b2c",
                "providerID": PROVIDER_ID,
                "imageID": "/CommunityGalleries/AKSUbuntu/images/2204gen2/versions/202601.02.0",
                "capacity": size,
                "allocatable": {},
                "lastPodEventTime": AT,
                "conditions": [
                    observed("Launched"),
                    observed("Ready", "False", reason="UnhealthyDependents", message="Registered=False"),
                    observed("Registered", "False", reason="NodeNotFound", message="Node not registered with cluster"),
                    observed("Consolidatable", observedGeneration=1),
                    observed("karpenter.azure.com/Drifted", reason="A,B:C_d"),
                ],
            },
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


def dry_run(control_plane: ControlPlane, value: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = control_plane.request(
        "POST", f"{collection(value)}?fieldValidation=Strict&dryRun=All", value
    )
    return answer


def release(control_plane: ControlPlane, path: str) -> None:
    """Deletes a claim that nobody finalizes."""
    there = control_plane.request("GET", path)
    control_plane.request("PUT", path, changed(there, lambda claim: claim["metadata"].pop("finalizers", None)))
    control_plane.request("DELETE", path)


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


@pytest.mark.parametrize("what", written())
def test_what_karpenter_and_gpu_provisioner_write_goes_through_the_api_server_and_the_models_whole(
    control_plane: ControlPlane, what: str
) -> None:
    value = written()[what]
    resource: type[Resource] = Machine if value["kind"] == "Machine" else NodeClaim
    path = f"{collection(value)}/{value['metadata']['name']}"
    stored: dict[str, Any] = create(control_plane, value)
    try:
        with_status = resource.model_validate(stored | {"status": value["status"]}).to_dict()
        stored = control_plane.request("PUT", f"{path}/status?fieldValidation=Strict", with_status)
        defaults = {} if resource is Machine else {"expireAfter": "720h"}
        assert stored["spec"] == defaults | value["spec"]
        assert stored["status"] == value["status"]
        assert stored["metadata"] == stored["metadata"] | value["metadata"]
        read = resource.model_validate_json(json.dumps(stored)).to_dict()
        assert json.dumps(read, sort_keys=True) == json.dumps(stored, sort_keys=True)
        # Not even another resourceVersion: to the API server nothing has changed.
        assert control_plane.request("PUT", path, read) == stored
    finally:
        release(control_plane, path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda claim: claim["status"]["conditions"][0].update(type="Not ready"), "status.conditions[0].type"),
        (lambda claim: claim["status"]["conditions"][0].update(reason="not a word"), "status.conditions[0].reason"),
        (lambda claim: claim["status"]["conditions"][0].update(status="true"), "status.conditions[0].status"),
        (lambda claim: claim["status"]["conditions"][0].pop("lastTransitionTime"), "conditions[0].lastTransitionTime"),
        (lambda claim: claim["status"].update(capacity={"cpu": "much"}), "status.capacity.cpu"),
    ],
)
def test_a_status_that_karpenter_would_not_write_is_refused(
    control_plane: ControlPlane, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    value = written()["a node claim that nobody has looked at yet"]
    stored = create(control_plane, value)
    path = f"{collection(value)}/{value['metadata']['name']}"
    try:
        bad = changed(stored | {"status": value["status"]}, change)
        with pytest.raises(RequestError, match=re.escape(field)):
            control_plane.request("PUT", f"{path}/status", bad)
    finally:
        release(control_plane, path)


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
    taken = dry_run(control_plane, changed(node_claim(), lambda n: n["spec"].update(requirements=[requirement])))
    assert taken["spec"]["requirements"] == [requirement]


def test_a_node_claims_spec_is_immutable_and_its_defaults_are_karpenters(control_plane: ControlPlane) -> None:
    stored = create(control_plane, node_claim())
    path = f"{collection(stored)}/{stored['metadata']['name']}"
    try:
        assert stored["spec"]["expireAfter"] == "720h"
        with pytest.raises(RequestError, match="spec is immutable"):
            control_plane.request("PUT", path, changed(stored, lambda n: n["spec"].update(expireAfter="Never")))
    finally:
        control_plane.request("DELETE", path)
