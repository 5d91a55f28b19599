"""ScriptedCloud: a cloud that has what a test gives it; a fake at the boundary, not of our own code."""

from __future__ import annotations

from collections.abc import Sequence

from kaito.controllers.gpu_provisioner.provider import Instance, InstanceState, LaunchSpec, ProviderError
from kaito.kube.core_v1 import Node


class ScriptedCloud:
    """A cloud that has what a test gives it, and remembers what it was asked to do. Implements `Provider`."""

    name = "scripted"

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.asked: list[str] = []
        self.refusal: ProviderError | None = None
        self.deletes_at_once = True

    async def begin_create(self, spec: LaunchSpec) -> Instance:
        self.asked.append(f"create {spec.name}")
        if self.refusal is not None:
            raise self.refusal
        return self.instances.get(spec.name) or self.instance(spec.name, spec.uid)

    async def observe(self, name: str) -> Instance | None:
        return self.instances.get(name)

    async def begin_delete(self, name: str, uid: str) -> bool:
        self.asked.append(f"delete {name}")
        instance = self.instances.get(name)
        if instance is None or instance.uid != uid:
            return True
        if self.deletes_at_once:
            del self.instances[name]
        return self.deletes_at_once

    async def list(self) -> Sequence[Instance]:
        if self.refusal is not None:
            raise self.refusal
        return [*self.instances.values()]

    def is_node_of(self, instance: Instance, node: Node) -> bool:
        return node.spec.provider_id == instance.provider_id

    def instance(self, name: str, uid: str, state: InstanceState = InstanceState.RUNNING) -> Instance:
        """Adds an instance."""
        self.instances[name] = Instance(name, uid, f"scripted://{name}", state, capacity={"nvidia.com/gpu": "1"})
        return self.instances[name]
