"""karpenter.sh/v1: NodeClaim, the claim of one node in today's design; its schema is Karpenter v1.7's."""

from typing import Annotated, ClassVar

from pydantic import Field

from kaito.api import keys
from kaito.api.karpenter_rules import (
    CONDITION_REASON_PATTERN,
    IMMUTABLE,
    KEY_PATTERN,
    LABEL_VALUE_PATTERN,
    REQUIREMENT_KEY_RULES,
    REQUIREMENTS_RULES,
    TAINT_VALUE_PATTERN,
    not_empty,
)
from kaito.kube.core_v1 import ResourceList
from kaito.kube.crd_options import AGE, CRDOptions, PrinterColumn, condition_column, label_column
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import Time
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.kube.schema_markers import Atomic, Enum, Limits, Required, Rule

LabelValue = Annotated[str, Limits(max_length=63, pattern=LABEL_VALUE_PATTERN)]


class NodeClassReference(KubeModel):
    """The cloud's own description of nodes.

    Attributes:
        group: the API group of the description, such as kaito.sh.
        kind: the kind of the description, such as KaitoNodeClass.
        name: the name of the description, such as default.
    """

    group: Annotated[str, Limits(pattern="^[^/]*$"), not_empty("group")]
    kind: Annotated[str, not_empty("kind")]
    name: Annotated[str, not_empty("name")]


class Requirement(KubeModel):
    """What a node's label must be.

    Attributes:
        key: the key of the label, such as node.kubernetes.io/instance-type.
        operator: how the label and the values relate: In, NotIn, Exists, DoesNotExist, Gt or Lt.
        values: what the operator is about; one integer for Gt and Lt.
        min_values: how many different values must stay possible; alpha in Karpenter.
    """

    key: Annotated[str, Limits(max_length=316, pattern=KEY_PATTERN), *REQUIREMENT_KEY_RULES]
    operator: Annotated[str, Enum("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")]
    values: Annotated[tuple[LabelValue, ...], Atomic()] = ()
    min_values: Annotated[int | None, Limits(minimum=1, maximum=50)] = None


class ResourceRequirements(KubeModel):
    """What the node must have at least.

    Attributes:
        requests: amounts by resource name, such as storage: 1024Gi.
    """

    requests: ResourceList = FrozenDict()


class Taint(KubeModel):
    """What keeps pods without a matching toleration off the node.

    Attributes:
        effect: what happens to such pods: NoSchedule, PreferNoSchedule or NoExecute.
        key: the taint's key, such as sku.
        value: the taint's value, such as gpu.
        time_added: when the taint was added; for NoExecute taints.
    """

    effect: Annotated[str, Enum("NoSchedule", "PreferNoSchedule", "NoExecute")]
    key: Annotated[str, Limits(min_length=1, pattern=KEY_PATTERN)]
    value: Annotated[str | None, Limits(pattern=TAINT_VALUE_PATTERN)] = None
    time_added: Time | None = None


class NodeClaimSpec(KubeModel):
    """The node that is wanted.

    Attributes:
        expire_after: how long the node may live, such as 720h, or Never.
        node_class_ref: the cloud's own description of the node.
        requirements: what the node's labels must be; all of them hold.
        resources: what the node must have at least, by resource.
        startup_taints: taints that something on the node takes away before it is initialized.
        taints: taints that the node keeps, such as sku=gpu:NoSchedule.
        termination_grace_period: how long draining may take, such as 1h; without it, as long as it takes.
    """

    expire_after: Annotated[str, Limits(pattern="^(([0-9]+(s|m|h))+|Never)$")] = "720h"
    node_class_ref: NodeClassReference
    requirements: Annotated[tuple[Requirement, ...], Limits(max_items=100), *REQUIREMENTS_RULES]
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    startup_taints: tuple[Taint, ...] = ()
    taints: tuple[Taint, ...] = ()
    termination_grace_period: Annotated[str | None, Limits(pattern="^([0-9]+(s|m|h))+$")] = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (IMMUTABLE,)


class NodeClaimCondition(KubeModel):
    """One observed aspect of a NodeClaim.

    Attributes:
        type: what it is about, such as Ready or Launched.
        status: whether it is so: True, False or Unknown.
        reason: why, in one word for programs.
        message: why, in a sentence for people.
        last_transition_time: when the status changed last.
        observed_generation: the generation that was looked at.
    """

    type: Annotated[str, Limits(max_length=316, pattern=KEY_PATTERN)]
    status: Annotated[str, Enum("True", "False", "Unknown")]
    reason: Annotated[str, Limits(max_length=1024, pattern=CONDITION_REASON_PATTERN)] = ""
    message: Annotated[str, Limits(max_length=32768)] = ""
    last_transition_time: Annotated[Time | None, Required()] = None
    observed_generation: Annotated[int | None, Limits(minimum=0)] = None


class NodeClaimStatus(KubeModel):
    """What came of a NodeClaim.

    Attributes:
        node_name: the name of the Node, once it is there.
        provider_id: the instance's name in the cloud, as in the Node's spec.providerID.
        image_id: the image that the instance runs.
        capacity: what the node has, by resource.
        allocatable: what of it pods can have, by resource.
        last_pod_event_time: when a pod came or went last.
        conditions: how far the node has come, and what is in its way.
    """

    node_name: str = ""
    provider_id: Annotated[str, Field(alias="providerID")] = ""
    image_id: Annotated[str, Field(alias="imageID")] = ""
    capacity: ResourceList = FrozenDict()
    allocatable: ResourceList = FrozenDict()
    last_pod_event_time: Time | None = None
    conditions: tuple[NodeClaimCondition, ...] = ()


class NodeClaim(Resource, group="karpenter.sh", version="v1", namespaced=False):
    """One node that is wanted, and what came of it.

    Attributes:
        spec: the node that is wanted: its labels, size and taints.
        status: what came of it; the controller writes it.
    """

    spec: NodeClaimSpec
    status: NodeClaimStatus = Field(default_factory=NodeClaimStatus)

    crd: ClassVar[CRDOptions] = CRDOptions(
        categories=("karpenter",),
        labels=keys.CRD_LABELS,
        columns=(
            label_column("Type", keys.INSTANCE_TYPE_LABEL),
            label_column("Capacity", keys.CAPACITY_TYPE_LABEL),
            label_column("Zone", keys.ZONE_LABEL),
            PrinterColumn("Node", ".status.nodeName"),
            condition_column("Ready", keys.READY),
            AGE,
            PrinterColumn("ImageID", ".status.imageID", priority=1),
            PrinterColumn("ID", ".status.providerID", priority=1),
            label_column("NodePool", keys.NODEPOOL_LABEL, priority=1),
            PrinterColumn("NodeClass", ".spec.nodeClassRef.name", priority=1),
            condition_column("Drifted", keys.DRIFTED, priority=1),
        ),
    )
