"""Provider: what a cloud does for us, one node at a time; idempotent by name, so that a crash is safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from kaito.kube.core_v1 import Node
from kaito.runtime.reconciler import ReconcileError


class InstanceState(Enum):
    """What an instance is doing."""

    CREATING = "creating"
    RUNNING = "running"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """The instance that is wanted.

    Attributes:
        name: of the instance; the claim's name.
        uid: of the claim; an instance of the same name that carries another uid is another's.
        instance_type: SKU.
        labels: labels that the node is to have.
        taints: taints that the node is to have, as (key, value, effect).
        disk_gib: size of the disk, in GiB.
    """

    name: str
    uid: str
    instance_type: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[tuple[str, str, str], ...] = ()
    disk_gib: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that the cloud has.

    Attributes:
        name: as in `LaunchSpec.name`.
        uid: of the claim that it was made for; empty if the cloud lost it.
        provider_id: as in the Node's spec.providerID; empty until the cloud has given it.
        state: what it is doing.
        instance_type: SKU.
        capacity: amounts by resource name, as far as known.
        labels: what the cloud says about it, for the claim and the node.
        message: why it failed, or how far it has come.
    """

    name: str
    uid: str
    provider_id: str
    state: InstanceState
    instance_type: str = ""
    capacity: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    message: str = ""


class ProviderError(ReconcileError):
    """The cloud refused or failed.

    Attributes:
        reason: CamelCase, for a condition.
        message: for people: the thing, the cause, the next step.
        retryable: whether trying again can help without anybody doing something.
    """

    def __init__(self, reason: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


class InvalidRequest(ProviderError):
    """The cloud cannot do what is asked for; it must be asked differently."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidRequest", message, retryable=False)


class NameTaken(ProviderError):
    """An instance of that name belongs to another claim."""

    def __init__(self, message: str) -> None:
        super().__init__("NameTaken", message, retryable=False)


class Provider(Protocol):
    """A cloud."""

    name: str
    """For metrics, logs and provider ids."""

    async def begin_create(self, spec: LaunchSpec) -> Instance:
        """Asks for an instance and returns without waiting for it; asked again, returns the one that there is.

        Raises:
            ProviderError: it cannot be had, or not now.
        """
        ...

    async def observe(self, name: str) -> Instance | None:
        """Looks at an instance; None when there is none of that name.

        Raises:
            ProviderError: the cloud did not answer.
        """
        ...

    async def begin_delete(self, name: str, uid: str) -> bool:
        """Asks for an instance to go away and returns without waiting; True once it is gone. Ask again until then.

        Args:
            name: of the instance.
            uid: of the claim that it was made for; an instance of that name which carries another uid is another's,
                stays as it is, and counts as gone.

        Raises:
            ProviderError: the cloud did not answer, or refused.
        """
        ...

    async def list(self) -> Sequence[Instance]:
        """Returns every instance that this cluster owns, completely.

        Raises:
            ProviderError: not all could be listed; nothing may be concluded from what is missing.
        """
        ...

    def is_node_of(self, instance: Instance, node: Node) -> bool:
        """Whether a node is the instance's."""
        ...
