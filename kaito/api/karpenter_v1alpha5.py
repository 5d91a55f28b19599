"""karpenter.sh/v1alpha5: Machine, the claim of one node in the first design; its schema is karpenter-core v0.29.2's."""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WithJsonSchema, WrapValidator

from kaito.api import keys
from kaito.kube.core_v1 import ResourceList
from kaito.kube.crd_options import AGE, CRDOptions, PrinterColumn, condition_column, label_column
from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import Time
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.kube.schema_markers import Int32, Limits

Percentage = Annotated[Int32, Limits(minimum=0, maximum=100)]


class Requirement(KubeModel):
    """What a node's label must be.

    Attributes:
        key: the key of the label, such as node.kubernetes.io/instance-type.
        operator: how the label and the values relate: In, NotIn, Exists, DoesNotExist, Gt or Lt.
        values: what the operator compares the label with; none for Exists and DoesNotExist.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()


class ResourceRequirements(KubeModel):
    """What the node must have at least.

    Attributes:
        requests: amounts by resource name, such as storage: 100Gi.
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

    effect: str
    key: str
    value: str | None = None
    time_added: Time | None = None


class MachineTemplateRef(KubeModel):
    """The cloud's own description of the node.

    Attributes:
        api_version: the API version of the description of nodes.
        kind: the kind of the description of nodes.
        name: the name of the description of nodes.
    """

    api_version: str | None = None
    kind: str | None = None
    name: str


class KubeletConfiguration(KubeModel):
    """Settings of the node's kubelet, by its own names.

    Attributes:
        cluster_dns: addresses of the DNS servers that pods ask, such as 10.0.0.10.
        container_runtime: the container runtime of the node, such as containerd.
        cpu_cfs_quota: whether limits of processor time are enforced by quota.
        eviction_hard: how little of a resource is left when pods are evicted at once, such as memory.available: 5%.
        eviction_max_pod_grace_period: seconds that a pod gets at most when it is evicted by a soft limit.
        eviction_soft: how little of a resource is left when pods are evicted after a while.
        eviction_soft_grace_period: how long each soft limit must be passed before pods are evicted, such as 1m30s.
        image_gc_high_threshold_percent: percent of the disk in use, 0 to 100, from which on images are removed.
        image_gc_low_threshold_percent: percent of the disk in use, 0 to 100, down to which images are removed.
        kube_reserved: what is kept for Kubernetes' own programs, such as memory: 1Gi.
        max_pods: how many pods the node takes at most.
        pods_per_core: how many pods the node takes at most for each core.
        system_reserved: what is kept for the operating system, such as cpu: 100m.
    """

    cluster_dns: Annotated[tuple[str, ...], Field(alias="clusterDNS")] = ()
    container_runtime: str | None = None
    cpu_cfs_quota: Annotated[bool | None, Field(alias="cpuCFSQuota")] = None
    eviction_hard: FrozenMap[str, str] = FrozenDict()
    eviction_max_pod_grace_period: Int32 | None = None
    eviction_soft: FrozenMap[str, str] = FrozenDict()
    eviction_soft_grace_period: FrozenMap[str, str] = FrozenDict()
    image_gc_high_threshold_percent: Annotated[Percentage | None, Field(alias="imageGCHighThresholdPercent")] = None
    image_gc_low_threshold_percent: Annotated[Percentage | None, Field(alias="imageGCLowThresholdPercent")] = None
    kube_reserved: ResourceList = FrozenDict()
    max_pods: Annotated[Int32 | None, Limits(minimum=0)] = None
    pods_per_core: Annotated[Int32 | None, Limits(minimum=0)] = None
    system_reserved: ResourceList = FrozenDict()


class MachineSpec(KubeModel):
    """The node that is wanted.

    Attributes:
        kubelet: settings of the node's kubelet, by its own names.
        machine_template_ref: the cloud's own description of the node.
        requirements: what the node's labels must be; all of them hold.
        resources: what the node must have at least, by resource.
        startup_taints: taints that something on the node takes away before it is initialized.
        taints: taints that the node keeps, such as sku=gpu:NoSchedule.
    """

    kubelet: KubeletConfiguration | None = None
    machine_template_ref: MachineTemplateRef | None = None
    requirements: tuple[Requirement, ...] = ()
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    startup_taints: tuple[Taint, ...] = ()
    taints: tuple[Taint, ...] = ()


def _time_or_none(value: object, validate: ValidatorFunctionWrapHandler) -> datetime | None:
    # v1alpha5 takes any text here, and a Machine that cannot be read is a node that nobody gives back.
    try:
        moment: datetime | None = validate(value)
    except ValidationError:
        return None
    return moment


LenientTime = Annotated[Time | None, WrapValidator(_time_or_none), WithJsonSchema({"type": "string"})]


class MachineCondition(KubeModel):
    """One observed aspect of a Machine, in Knative's form.

    Attributes:
        type: what it is about, such as Ready or MachineLaunched.
        status: whether it is so: True, False or Unknown.
        severity: empty for what counts towards Ready, else Warning or Info.
        reason: why, in one word for programs.
        message: why, in a sentence for people.
        last_transition_time: when the status changed last.
    """

    type: str
    status: str
    severity: str | None = None
    reason: str | None = None
    message: str | None = None
    last_transition_time: LenientTime = None


class MachineStatus(KubeModel):
    """What came of a Machine.

    Attributes:
        node_name: the name of the Node, once it is there.
        provider_id: the instance's name in the cloud, as in the Node's spec.providerID.
        capacity: what the node has, by resource.
        allocatable: what of it pods can have, by resource.
        conditions: how far the node has come, and what is in its way.
    """

    node_name: str = ""
    provider_id: Annotated[str, Field(alias="providerID")] = ""
    capacity: ResourceList = FrozenDict()
    allocatable: ResourceList = FrozenDict()
    conditions: tuple[MachineCondition, ...] = ()


class Machine(Resource, group="karpenter.sh", version="v1alpha5", namespaced=False):
    """One node that is wanted, and what came of it.

    Attributes:
        spec: the node that is wanted: its labels, size and taints.
        status: what came of it; the controller writes it.
    """

    spec: MachineSpec = Field(default_factory=MachineSpec)
    status: MachineStatus = Field(default_factory=MachineStatus)

    crd: ClassVar[CRDOptions] = CRDOptions(
        categories=("karpenter",),
        labels=keys.CRD_LABELS,
        columns=(
            label_column("Type", keys.INSTANCE_TYPE_LABEL),
            label_column("Zone", keys.ZONE_LABEL),
            PrinterColumn("Node", ".status.nodeName"),
            condition_column("Ready", keys.READY),
            AGE,
            label_column("Capacity", keys.CAPACITY_TYPE_LABEL, priority=1),
            label_column("Provisioner", keys.PROVISIONER_NAME_LABEL, priority=1),
            PrinterColumn("Template", ".spec.machineTemplateRef.name", priority=1),
        ),
    )
