"""NodeObjectProvider: a cloud whose instances are Node objects, which somebody else brings to life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from kaito.api import keys
from kaito.catalog import CurrentCatalog, GpuSku, UnknownSku
from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, NotFound
from kaito.controllers.gpu_provisioner.provider import Instance, InstanceState, InvalidRequest, LaunchSpec, NameTaken
from kaito.kube.core_v1 import Node, NodeSpec, NodeStatus
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.pod_v1 import Taint

CLAIM_UID_ANNOTATION = "kaito.sh/claim-uid"
PROVIDER_LABEL = "kaito.sh/provider"
# Nodes of instance types whose host is not in the catalogue.
DEFAULT_VCPUS = 8
DEFAULT_MEMORY_GIB = 64


class NodeObjectProvider:
    """Implements `Provider` with Node objects, which have what their instance type has.

    Args:
        client: reads and writes Nodes.
        current: what an instance type has.
    """

    name: str
    """See `Provider.name`; also the region of all nodes."""
    labels: ClassVar[Mapping[str, str]] = {}
    """What tells who brings a node to life that it is theirs."""
    annotations: ClassVar[Mapping[str, str]] = {}
    """Likewise."""

    def __init__(self, client: Client, current: CurrentCatalog) -> None:
        self._client = client
        self._current = current

    async def begin_create(self, spec: LaunchSpec) -> Instance:
        """See `Provider.begin_create`."""
        try:
            sku = self._current.catalog.sku(spec.instance_type)
        except UnknownSku as error:
            raise InvalidRequest(str(error)) from error
        try:
            node = await self._client.create(self._node(spec, sku))
        except AlreadyExists:
            node = await self._client.live.get(Node, ObjectKey(spec.name))
            if _claim_uid(node) != spec.uid:
                raise NameTaken(f"Node {spec.name} exists and was not made for this claim; delete it") from None
        return _instance(node)

    async def observe(self, name: str) -> Instance | None:
        """See `Provider.observe`."""
        try:
            return _instance(await self._client.get(Node, ObjectKey(name)))
        except NotFound:
            return None

    async def begin_delete(self, name: str, uid: str) -> bool:
        """See `Provider.begin_delete`. The Node object is the instance: it is gone when its last finalizer is."""
        try:
            # Live: a node that the cache does not show yet would stay for ever.
            node = await self._client.live.get(Node, ObjectKey(name))
            if _claim_uid(node) == uid and node.metadata.deletion_timestamp is None:
                await self._client.delete(Node, ObjectKey(name), uid=node.metadata.uid)
        except NotFound:
            pass
        return True

    async def list(self) -> Sequence[Instance]:
        """See `Provider.list`."""
        nodes = await self._client.live.list(Node, labels=f"{PROVIDER_LABEL}={self.name}")
        return [_instance(node) for node in nodes]

    def is_node_of(self, instance: Instance, node: Node) -> bool:
        """See `Provider.is_node_of`."""
        return node.spec.provider_id == instance.provider_id

    def _node(self, spec: LaunchSpec, sku: GpuSku) -> Node:
        capacity = {
            "cpu": str(sku.vcpus or DEFAULT_VCPUS),
            "memory": f"{round(sku.memory_gib or DEFAULT_MEMORY_GIB)}Gi",
            "ephemeral-storage": f"{max(spec.disk_gib, 100)}Gi",
            "pods": "110",
            keys.GPU_RESOURCE: str(sku.gpu_count),
        }
        labels = {
            keys.INSTANCE_TYPE_LABEL: spec.instance_type,
            keys.ARCH_LABEL: "amd64",
            keys.OS_LABEL: "linux",
            keys.HOSTNAME_LABEL: spec.name,
            keys.AGENT_POOL_LABEL: spec.name,
            keys.REGION_LABEL: self.name,
            keys.ZONE_LABEL: f"{self.name}-1",
            PROVIDER_LABEL: self.name,
            **({"nvidia.com/gpu.product": sku.gpu.product} if sku.gpu.product else {}),
            "nvidia.com/gpu.count": str(sku.gpu_count),
            "nvidia.com/gpu.memory": str(round(sku.gpu.memory_gib * 1024)),
        }
        return Node(
            metadata=ObjectMeta(
                name=spec.name,
                labels={**labels, **spec.labels, **self.labels},
                annotations={**self.annotations, CLAIM_UID_ANNOTATION: spec.uid},
            ),
            spec=NodeSpec(
                provider_id=f"{self.name}://{spec.name}",
                taints=tuple(Taint(key=key, value=value, effect=effect) for key, value, effect in spec.taints),
            ),
            status=NodeStatus(capacity=capacity, allocatable=capacity),
        )


def _claim_uid(node: Node) -> str:
    return node.metadata.annotations.get(CLAIM_UID_ANNOTATION, "")


def _instance(node: Node) -> Instance:
    going = node.metadata.deletion_timestamp is not None
    return Instance(
        name=node.metadata.name,
        uid=_claim_uid(node),
        provider_id=node.spec.provider_id or "",
        state=InstanceState.DELETING if going else InstanceState.RUNNING,
        instance_type=node.metadata.labels.get(keys.INSTANCE_TYPE_LABEL, ""),
        capacity=dict(node.status.capacity),
        labels={
            name: node.metadata.labels[name]
            for name in (keys.INSTANCE_TYPE_LABEL, keys.REGION_LABEL, keys.ZONE_LABEL)
            if name in node.metadata.labels
        },
    )
