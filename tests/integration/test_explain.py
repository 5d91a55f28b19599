"""`kaito explain workspace` on a real API server: a Workspace that is ready, and one whose pod fails."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from kaito.kube.core_v1 import Pod
from tests.operating.cluster import Cluster, workspace


async def explain(cluster: Cluster, name: str, *arguments: str) -> tuple[int, str]:
    """Runs the command as a user does; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaito", "explain", "workspace", name, "--namespace", cluster.namespace),
        *("--kubeconfig", str(cluster.plane.kubeconfig), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_ready_workspace_and_what_becomes_of_it_when_its_container_crashes(cluster: Cluster) -> None:
    await cluster.apply(workspace("well"))
    await cluster.ready("well")
    code, said = await explain(cluster, "well")
    assert code == 0, said
    assert said.startswith(f"✓ Workspace {cluster.namespace}/well is ready\n")
    kinds = [line.lstrip("│├└─ ✓").split()[0] for line in said.splitlines() if "✓" in line][1:]
    assert kinds == ["Workspace", "Machine", "Node", "Deployment", "ReplicaSet", "Pod", "container"]

    (pod,) = await cluster.pods("well")
    await cluster.client.status.patch(Pod, pod.key, {"status": crashed(pod)})
    code, said = await explain(cluster, "well", "--output", "json")
    assert code == 1, said
    cause: dict[str, Any] = json.loads(said)["cause"]
    assert (cause["kind"], cause["name"]) == ("container", "inference")
    assert cause["says"] == "ended 2 times, last with exit code 137 (OOMKilled)"
    assert "more memory" in cause["advice"]
    assert cause["logNote"].startswith("there is none to be had")  # a fake node has no kubelet to ask


async def test_a_workspace_that_is_not_there_is_an_error_in_one_line(cluster: Cluster) -> None:
    code, said = await explain(cluster, "nobody")
    assert code == 1
    assert said == f"kaito: there is no Workspace nobody in namespace {cluster.namespace}, and no other\n"


def crashed(pod: Pod) -> dict[str, Any]:
    """The status of a pod whose container was out of memory twice."""
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    (status,) = (each.to_dict() for each in pod.status.container_statuses)
    status |= {"ready": False, "restartCount": 2, "lastState": ended}
    status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"containerStatuses": [status]}
