"""Sandboxes and Nodes of process nodes against a real API server: tokens, and the status that it takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from kaito.client import Client
from kaito.devcluster.process_nodes.images import ImageTable
from kaito.devcluster.process_nodes.node_keeper import LEASE_NAMESPACE, NodeKeeper
from kaito.devcluster.process_nodes.node_pressure import pressures
from kaito.devcluster.process_nodes.pod_sandbox import PodSandbox
from kaito.kube.authentication_v1 import TokenReview, TokenReviewSpec
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import Node, Pod, ServiceAccount
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually


async def test_a_pod_is_known_to_the_api_server_by_the_token_in_its_volume(
    client: Client, namespace: str, tmp_path: Path
) -> None:
    await client.create(ServiceAccount(metadata=ObjectMeta(name="web", namespace=namespace)))
    token = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}
    spec: dict[str, Any] = {
        "serviceAccountName": "web",
        "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": "tools:1"}],
        "volumes": [{"name": "identity", "projected": {"sources": [token]}}],
    }
    pod = Pod.model_validate({"metadata": {"name": "web-0", "namespace": namespace}, "spec": spec})
    pod = await client.create(pod)
    sandbox = PodSandbox(pod, client, ImageTable.default(), tmp_path, "10.244.0.5")
    await sandbox.prepare()
    text = (tmp_path / "pods" / pod.metadata.uid / "volumes" / "identity" / "token").read_text()
    review = await client.create(TokenReview(spec=TokenReviewSpec(token=text, audiences=("vault",))))
    assert review.status.user.username == f"system:serviceaccount:{namespace}:web"
    assert review.status.user.extra["authentication.kubernetes.io/pod-name"] == ("web-0",)
    await sandbox.prepare()
    assert (tmp_path / "pods" / pod.metadata.uid / "volumes" / "identity" / "token").read_text() == text


async def test_a_real_api_server_takes_the_status_and_the_lease_of_a_node(
    client: Client, namespace: str, tmp_path: Path
) -> None:
    name = f"node-{namespace}"[:63].rstrip("-")
    node = await client.create(Node(metadata=ObjectMeta(name=name)))
    keeper = NodeKeeper(client, ImageTable.default(), lambda: pressures(tmp_path))
    keeper.adopt(node)
    keeping = asyncio.create_task(keeper.run())
    try:
        await eventually(lambda: _ready(client, node.key, "KubeletReady"))
        found = await client.get(Node, node.key)
        assert found.status.node_info.container_runtime_version.startswith("process://")
        assert {"cpu", "memory", "pods"} <= found.status.allocatable.keys()
        lease = await client.get(Lease, ObjectKey(name, LEASE_NAMESPACE))
        assert lease.spec.holder_identity == name
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        gone = await _ready(client, node.key, "AgentStopped")
        await client.delete(Node, node.key)
    assert gone


async def _ready(client: Client, key: ObjectKey, reason: str) -> bool:
    node = await client.get(Node, key)
    return any(condition.type == "Ready" and condition.reason == reason for condition in node.status.conditions)
