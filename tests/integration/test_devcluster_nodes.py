"""What a whole control plane does with nodes that kwok plays: the cluster that the operator's tests stand on."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kaito.devcluster.controlplane import ControlPlane
from kaito.testing import eventually


def node(name: str, *, gpus: int = 0) -> dict[str, object]:
    resources = {"cpu": "24", "memory": "220Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"test": name}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": resources, "allocatable": resources},
    }


def pod_template(node_name: str, **spec: object) -> dict[str, object]:
    container = {"name": "main", "image": "image", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [container], "nodeSelector": {"test": node_name}, **spec},
    }


async def create(plane: ControlPlane, *objects: Mapping[str, object]) -> None:
    bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    await plane.kubectl("create", "-f", "-", input=json.dumps(bundle))


async def read(plane: ControlPlane, *arguments: str) -> str:
    return (await plane.kubectl("get", *arguments)).strip()


async def test_a_node_becomes_ready_and_keeps_the_gpus_it_was_made_with(control_plane: ControlPlane) -> None:
    await create(control_plane, node("keeps-gpus", gpus=8))
    path = '{.status.conditions[?(@.type=="Ready")].status} {.status.allocatable.nvidia\\.com/gpu} {.status.addresses}'
    text = await eventually(lambda: _ready(control_plane, path))
    assert text.startswith("True 8 ")
    assert '"InternalIP"' in text
    await control_plane.kubectl("delete", "node", "keeps-gpus")


async def _ready(plane: ControlPlane, path: str) -> str | None:
    text = await read(plane, "node", "keeps-gpus", "-o", f"jsonpath={path}")
    return text if text.startswith("True") else None


async def test_a_deployment_runs_on_a_gpu_node_and_one_gpu_serves_one_pod(
    control_plane: ControlPlane, namespace: str
) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "app"}},
            "template": pod_template("one-gpu", initContainers=[{"name": "init", "image": "image"}]),
        },
    }
    await create(control_plane, node("one-gpu", gpus=1), deployment)
    ready = ("deployment", "app", "-n", namespace, "-o", "jsonpath={.status.readyReplicas}")
    await eventually(lambda: _equals(control_plane, "1", *ready), message="one replica is ready")
    phases = ("pods", "-n", namespace, "--sort-by=.status.phase", "-o", "jsonpath={.items[*].status.phase}")
    await eventually(lambda: _equals(control_plane, "Pending Running", *phases))
    await control_plane.kubectl("delete", "node", "one-gpu")


async def test_a_job_runs_and_completes(control_plane: ControlPlane, namespace: str) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {"template": pod_template("for-jobs", restartPolicy="Never")},
    }
    await create(control_plane, node("for-jobs", gpus=1), job)
    succeeded = ("job", "job", "-n", namespace, "-o", "jsonpath={.status.succeeded}")
    await eventually(lambda: _equals(control_plane, "1", *succeeded), timeout_s=20, message="the job is complete")
    await control_plane.kubectl("delete", "node", "for-jobs")


async def test_a_namespace_with_running_pods_finishes_deleting(control_plane: ControlPlane, namespace: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace}}
    await create(
        control_plane,
        node("doomed", gpus=1),
        {**pod, "spec": pod_template("doomed", terminationGracePeriodSeconds=0)["spec"]},
    )
    phase = ("pod", "pod", "-n", namespace, "-o", "jsonpath={.status.phase}")
    await eventually(lambda: _equals(control_plane, "Running", *phase))
    await control_plane.kubectl("delete", "namespace", namespace, "--wait=false")
    gone = ("namespace", namespace, "--ignore-not-found", "-o", "name")
    await eventually(lambda: _equals(control_plane, "", *gone), timeout_s=30, message="the namespace is gone")
    await control_plane.kubectl("delete", "node", "doomed")


async def test_what_is_owned_goes_with_its_owner(control_plane: ControlPlane, namespace: str) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": namespace}}
    await create(control_plane, owner)
    uid = await read(control_plane, "configmap", "owner", "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"name": "owned", "namespace": namespace, "ownerReferences": [reference]}
    await create(control_plane, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    await control_plane.kubectl("delete", "configmap", "owner", "-n", namespace)
    gone = ("secret", "owned", "-n", namespace, "--ignore-not-found", "-o", "name")
    await eventually(lambda: _equals(control_plane, "", *gone), message="the secret was collected")


async def _equals(plane: ControlPlane, expected: str, *arguments: str) -> bool:
    assert await read(plane, *arguments) == expected
    return True
