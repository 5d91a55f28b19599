"""Claims: Machine and NodeClaim as one thing, the claim of one GPU node; two wire kinds, one behaviour."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

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
        annotations: annotations of the claim.
    """

    name: str
    instance_type: str
    disk_gib: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)


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


CLAIM_KINDS = (MACHINE, NODE_CLAIM)


def kind_of(claim: Claim) -> ClaimKind:
    """The wire kind that a claim has."""
    return MACHINE if isinstance(claim, Machine) else NODE_CLAIM


class MadeFor(NamedTuple):
    """The Workspace that a claim was made for; what is not known of it is empty."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def labels(self) -> dict[str, str]:
        """The labels that say so, by which claims are found."""
        return {
            keys.WORKSPACE_LABEL: self.name,
            keys.WORKSPACE_NAMESPACE_LABEL: self.namespace,
            keys.WORKSPACE_UID_LABEL: self.uid,
        }


def made_for(claim: Claim) -> MadeFor:
    """The Workspace that a claim was made for, by its annotation, else by its labels."""
    parts = claim.metadata.annotations.get(keys.MADE_FOR_ANNOTATION, "").split("/")
    if len(parts) == 3 and all(parts):
        return MadeFor(*parts)
    labels = claim.metadata.labels
    names = (keys.WORKSPACE_NAMESPACE_LABEL, keys.WORKSPACE_LABEL, keys.WORKSPACE_UID_LABEL)
    return MadeFor(*(labels.get(name, "") for name in names))


def lost_marks(claim: Claim) -> dict[str, Any]:
    """What of labels and annotation must be put back on a claim of ours, as metadata to patch; empty for others'."""
    owner = made_for(claim)
    if not all(owner):
        # An upstream KAITO marks its claims with two labels alone, and they are its own to look after.
        return {}
    wanted = {"labels": owner.labels, "annotations": {keys.MADE_FOR_ANNOTATION: str(owner)}}
    have = {"labels": claim.metadata.labels, "annotations": claim.metadata.annotations}
    lost = {
        what: {name: value for name, value in marks.items() if have[what].get(name) != value}
        for what, marks in wanted.items()
    }
    return {what: marks for what, marks in lost.items() if marks}


def instance_type_of(claim: Claim) -> str:
    """The SKU that a claim asks for; empty if it names none."""
    for requirement in claim.spec.requirements:
        if requirement.key == keys.INSTANCE_TYPE_LABEL and requirement.values:
            return requirement.values[0]
    return ""


_MANAGED_LABELS = frozenset({keys.WORKSPACE_LABEL, keys.WORKSPACE_UID_LABEL, keys.RAGENGINE_LABEL})
_NAME = re.compile("ws[0-9a-f]{9}")
TERMINATING = "Terminating"
"""Reason of the root condition of a claim whose deletion is held up; the message says by what."""
NOT_TAKEN_UP = "not looked at yet by the machine controller"


def is_managed(claim: Claim) -> bool:
    """Whether a claim is KAITO's; others are Karpenter's own, or somebody's who runs another controller for them.

    gpu-provisioner's rule: made for a Workspace or a RAGEngine, or of KAITO's node class. Beyond that rule, since a
    label is soon taken off by mistake and a node is paid for until somebody terminates it: any one of our marks will
    do, and if all are gone, a Machine that was named by KAITO and has been taken up (it has the finalizer).
    """
    if not claim.metadata.labels.keys().isdisjoint(_MANAGED_LABELS):
        return True
    if keys.MADE_FOR_ANNOTATION in claim.metadata.annotations:
        return True
    if isinstance(claim, NodeClaim):
        node_class = claim.spec.node_class_ref
        return (node_class.group, node_class.kind) == ("kaito.sh", "KaitoNodeClass")
    return keys.TERMINATION_FINALIZER in claim.metadata.finalizers and bool(_NAME.fullmatch(claim.metadata.name))


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
    return ObjectMeta(
        name=request.name,
        labels={**request.labels, **labels},
        annotations={**request.annotations, **annotations},
    )
