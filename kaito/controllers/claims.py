"""Claims: Machine and NodeClaim as one thing, the claim of one GPU node; two wire kinds, one behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from kaito.api import karpenter_v1, karpenter_v1alpha5, keys
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.kube.conditions import ConditionSet, karpenter_root, knative_root
from kaito.kube.meta_v1 import ObjectMeta

Claim: TypeAlias = Machine | NodeClaim
"""The claim of one node."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a claim is to ask for.

    Attributes:
        name: the claim's name; derived from state that was persisted before.
        instance_type: SKU of the node.
        disk_gib: storage that the node must have, in GiB.
        labels: labels of the claim, which its node gets too.
    """

    name: str
    instance_type: str
    disk_gib: int
    labels: Mapping[str, str]


@dataclass(frozen=True)
class ClaimKind:
    """One of the two wire kinds, and how to speak it.

    Attributes:
        kind: the class.
        launched: condition type: the cloud has the instance.
        registered: condition type: its node has joined.
        initialized: condition type: pods can use it.
        conditions: how the root follows from these.
    """

    kind: type[Machine] | type[NodeClaim]
    launched: str
    registered: str
    initialized: str
    conditions: ConditionSet  # type: ignore[type-arg]

    @property
    def name(self) -> str:
        """What it is called on the command line and in logs: machine or nodeclaim."""
        return self.kind.resource_type.kind.lower()

    def build(self, request: ClaimRequest) -> Claim:
        """Makes the object to create."""
        return _machine(request) if self.kind is Machine else _node_claim(request)


MACHINE = ClaimKind(
    Machine,
    keys.MACHINE_LAUNCHED,
    keys.MACHINE_REGISTERED,
    keys.MACHINE_INITIALIZED,
    ConditionSet(karpenter_v1alpha5.MachineCondition, keys.READY, keys.MACHINE_DEPENDENTS, knative_root),
)
NODE_CLAIM = ClaimKind(
    NodeClaim,
    keys.LAUNCHED,
    keys.REGISTERED,
    keys.INITIALIZED,
    ConditionSet(karpenter_v1.NodeClaimCondition, keys.READY, keys.NODE_CLAIM_DEPENDENTS, karpenter_root),
)


def instance_type_of(claim: Claim) -> str:
    """The SKU that a claim asks for; empty if it names none."""
    for requirement in claim.spec.requirements:
        if requirement.key == keys.INSTANCE_TYPE_LABEL and requirement.values:
            return requirement.values[0]
    return ""


NOT_TAKEN_UP = "not looked at yet by the machine controller"


def is_managed(claim: Claim) -> bool:
    """Whether a claim is KAITO's; others are Karpenter's own, or somebody's who runs another controller for them.

    gpu-provisioner's rule: made for a Workspace or a RAGEngine, or of KAITO's node class.
    """
    if keys.WORKSPACE_LABEL in claim.metadata.labels or keys.RAGENGINE_LABEL in claim.metadata.labels:
        return True
    return isinstance(claim, NodeClaim) and (
        (claim.spec.node_class_ref.group, claim.spec.node_class_ref.kind) == ("kaito.sh", "KaitoNodeClass")
    )


def first_unmet(kind: ClaimKind, claim: Claim) -> tuple[str, str]:
    """The first step on the way to a ready node that has not been taken: its condition type, and why."""
    for step in (kind.launched, kind.registered, kind.initialized):
        condition = next((item for item in claim.status.conditions if item.type == step), None)
        if condition is None:
            return step, NOT_TAKEN_UP
        if condition.status != "True":
            return step, condition.message or condition.reason or condition.status
    return keys.READY, "not ready"


def _machine(request: ClaimRequest) -> Machine:
    requirements = {
        keys.INSTANCE_TYPE_LABEL: request.instance_type,
        keys.PROVISIONER_NAME_LABEL: keys.PROVISIONER_NAME_DEFAULT,
        keys.MACHINE_TYPE_LABEL: keys.MACHINE_TYPE_GPU,
        keys.ARCH_LABEL: "amd64",
        keys.OS_LABEL: "linux",
    }
    return Machine(
        metadata=_metadata(request, {keys.PROVISIONER_NAME_LABEL: keys.PROVISIONER_NAME_DEFAULT}, {}),
        spec=karpenter_v1alpha5.MachineSpec(
            machine_template_ref=karpenter_v1alpha5.MachineTemplateRef(name=request.name),
            requirements=tuple(
                karpenter_v1alpha5.Requirement(key=key, operator="In", values=(value,))
                for key, value in requirements.items()
            ),
            resources=karpenter_v1alpha5.ResourceRequirements(requests={"storage": f"{request.disk_gib}Gi"}),
            taints=(karpenter_v1alpha5.Taint(key=keys.SKU_TAINT, value=keys.SKU_TAINT_GPU, effect="NoSchedule"),),
        ),
    )


def _node_claim(request: ClaimRequest) -> NodeClaim:
    requirements = {
        keys.NODEPOOL_LABEL: keys.NODEPOOL_KAITO,
        keys.INSTANCE_TYPE_LABEL: request.instance_type,
        keys.OS_LABEL: "linux",
    }
    return NodeClaim(
        metadata=_metadata(
            request,
            {keys.NODEPOOL_LABEL: keys.NODEPOOL_KAITO, keys.MACHINE_TYPE_LABEL: keys.MACHINE_TYPE_GPU},
            {keys.DO_NOT_DISRUPT_ANNOTATION: "true"},
        ),
        spec=karpenter_v1.NodeClaimSpec(
            # Karpenter's default of 720 h would end a serving GPU node every month.
            expire_after="Never",
            node_class_ref=karpenter_v1.NodeClassReference(group="kaito.sh", kind="KaitoNodeClass", name="default"),
            requirements=tuple(
                karpenter_v1.Requirement(key=key, operator="In", values=(value,)) for key, value in requirements.items()
            ),
            resources=karpenter_v1.ResourceRequirements(requests={"storage": f"{request.disk_gib}Gi"}),
            taints=(karpenter_v1.Taint(key=keys.SKU_TAINT, value=keys.SKU_TAINT_GPU, effect="NoSchedule"),),
        ),
    )


def _metadata(request: ClaimRequest, labels: Mapping[str, str], annotations: Mapping[str, str]) -> ObjectMeta:
    return ObjectMeta(name=request.name, labels={**request.labels, **labels}, annotations=dict(annotations))
