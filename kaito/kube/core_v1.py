"""core/v1: pods, services, nodes, secrets, config maps, namespaces, service accounts.

Only what controllers of workloads and nodes need is declared; every other field is kept as it came (see `KubeModel`).
"""

from typing import Annotated

from pydantic import ConfigDict, Field

from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.meta_v1 import Time
from kaito.kube.model import KubeModel
from kaito.kube.pod_v1 import (
    Affinity,
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    EmptyDirVolumeSource,
    EnvVar,
    EnvVarSource,
    ExecAction,
    HostPathVolumeSource,
    HTTPGetAction,
    HTTPHeader,
    KeySelector,
    KeyToPath,
    LocalObjectReference,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    PodTemplateSpec,
    PreferredSchedulingTerm,
    Probe,
    ResourceList,
    ResourceRequirements,
    SecretVolumeSource,
    Taint,
    Toleration,
    Volume,
    VolumeMount,
    VolumeSource,
)
from kaito.kube.resource import Resource

__all__ = [
    "Affinity",
    "ConfigMap",
    "ConfigMapVolumeSource",
    "Container",
    "ContainerPort",
    "ContainerState",
    "ContainerStateRunning",
    "ContainerStateTerminated",
    "ContainerStateWaiting",
    "ContainerStatus",
    "EmptyDirVolumeSource",
    "EnvVar",
    "EnvVarSource",
    "ExecAction",
    "HTTPGetAction",
    "HTTPHeader",
    "HostPathVolumeSource",
    "KeySelector",
    "KeyToPath",
    "LoadBalancerIngress",
    "LoadBalancerStatus",
    "LocalObjectReference",
    "Namespace",
    "NamespaceSpec",
    "NamespaceStatus",
    "Node",
    "NodeAddress",
    "NodeAffinity",
    "NodeCondition",
    "NodeSelector",
    "NodeSelectorRequirement",
    "NodeSelectorTerm",
    "NodeSpec",
    "NodeStatus",
    "NodeSystemInfo",
    "ObjectFieldSelector",
    "ObjectReference",
    "PersistentVolumeClaimVolumeSource",
    "Pod",
    "PodCondition",
    "PodIP",
    "PodSpec",
    "PodStatus",
    "PodTemplateSpec",
    "PreferredSchedulingTerm",
    "Probe",
    "ResourceList",
    "ResourceRequirements",
    "Secret",
    "SecretVolumeSource",
    "Service",
    "ServiceAccount",
    "ServicePort",
    "ServiceSpec",
    "ServiceStatus",
    "Taint",
    "Toleration",
    "Volume",
    "VolumeMount",
    "VolumeSource",
]


class ContainerStateWaiting(KubeModel):
    """Why a container does not run yet: ``ImagePullBackOff``, ``CrashLoopBackOff``, …"""

    reason: str | None = None
    message: str | None = None


class ContainerStateRunning(KubeModel):
    """Since when a container runs."""

    started_at: Time | None = None


class ContainerStateTerminated(KubeModel):
    """How a container ended."""

    exit_code: int
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    container_id: Annotated[str | None, Field(alias="containerID")] = None


class ContainerState(KubeModel):
    """What a container does; at most one field is set."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(KubeModel):
    """What the kubelet last saw of a container."""

    name: str
    state: ContainerState = Field(default_factory=ContainerState)
    last_state: ContainerState = Field(default_factory=ContainerState)
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    image: str = ""
    image_id: Annotated[str, Field(alias="imageID")] = ""
    container_id: Annotated[str | None, Field(alias="containerID")] = None
    resources: ResourceRequirements | None = None
    allocated_resources: ResourceList = FrozenDict()


class PodCondition(KubeModel):
    """One observed aspect of a pod, such as ``Ready`` or ``PodScheduled``."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_probe_time: Time | None = None
    last_transition_time: Time | None = None
    observed_generation: int | None = None


class PodIP(KubeModel):
    """An address of a pod."""

    ip: str


class PodStatus(KubeModel):
    """What a pod does: ``phase`` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    reason: str | None = None
    message: str | None = None
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    host_ip: Annotated[str | None, Field(alias="hostIP")] = None
    pod_ip: Annotated[str | None, Field(alias="podIP")] = None
    pod_ips: Annotated[tuple[PodIP, ...], Field(alias="podIPs")] = ()
    start_time: Time | None = None
    nominated_node_name: str | None = None


class Pod(Resource, version="v1"):
    """Containers that run together on one node."""

    spec: PodSpec = Field(default_factory=PodSpec)
    status: PodStatus = Field(default_factory=PodStatus)


class ServicePort(KubeModel):
    """A port of a service and the pods' port behind it."""

    port: int
    target_port: int | str | None = None
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None
    node_port: int | None = None


class ServiceSpec(KubeModel):
    """Which pods a service sends to, and where it listens."""

    selector: FrozenMap[str, str] = FrozenDict()
    ports: tuple[ServicePort, ...] = ()
    type: str | None = None
    cluster_ip: Annotated[str | None, Field(alias="clusterIP")] = None
    cluster_ips: Annotated[tuple[str, ...], Field(alias="clusterIPs")] = ()
    external_ips: Annotated[tuple[str, ...], Field(alias="externalIPs")] = ()
    external_name: str | None = None
    load_balancer_ip: Annotated[str | None, Field(alias="loadBalancerIP")] = None
    publish_not_ready_addresses: bool | None = None
    session_affinity: str | None = None
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None


class LoadBalancerIngress(KubeModel):
    """An address at which a load balancer serves."""

    ip: str | None = None
    hostname: str | None = None


class LoadBalancerStatus(KubeModel):
    """Where a load balancer serves."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(KubeModel):
    """What came of a service of type LoadBalancer."""

    load_balancer: LoadBalancerStatus = Field(default_factory=LoadBalancerStatus)


class Service(Resource, version="v1"):
    """A stable address in front of pods."""

    spec: ServiceSpec = Field(default_factory=ServiceSpec)
    status: ServiceStatus = Field(default_factory=ServiceStatus)


class NodeSpec(KubeModel):
    """What a node is to the cloud and to the scheduler."""

    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    pod_cidr: Annotated[str | None, Field(alias="podCIDR")] = None
    pod_cidrs: Annotated[tuple[str, ...], Field(alias="podCIDRs")] = ()
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeCondition(KubeModel):
    """One observed aspect of a node, such as ``Ready`` or ``DiskPressure``."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_heartbeat_time: Time | None = None
    last_transition_time: Time | None = None


class NodeAddress(KubeModel):
    """An address of a node: ``type`` is InternalIP, ExternalIP, Hostname, …"""

    type: str
    address: str


class NodeSystemInfo(KubeModel):
    """What a node says about its machine and its software."""

    machine_id: Annotated[str, Field(alias="machineID")] = ""
    system_uuid: Annotated[str, Field(alias="systemUUID")] = ""
    boot_id: Annotated[str, Field(alias="bootID")] = ""
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class NodeStatus(KubeModel):
    """What a node has and how it is."""

    capacity: ResourceList = FrozenDict()
    allocatable: ResourceList = FrozenDict()
    conditions: tuple[NodeCondition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    node_info: NodeSystemInfo = Field(default_factory=NodeSystemInfo)


class Node(Resource, version="v1", namespaced=False):
    """A machine that runs pods."""

    spec: NodeSpec = Field(default_factory=NodeSpec)
    status: NodeStatus = Field(default_factory=NodeStatus)


class ConfigMap(Resource, version="v1"):
    """Configuration by key: text in ``data``, base64 in ``binary_data``."""

    data: FrozenMap[str, str] = FrozenDict()
    binary_data: FrozenMap[str, str] = FrozenDict()
    immutable: bool | None = None


class Secret(Resource, version="v1"):
    """Confidential values by key: base64 in ``data``; ``string_data`` is written only, never read back.

    Neither shows in ``repr`` nor in a ValidationError, so that no log line or assertion carries them.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    data: Annotated[FrozenMap[str, str], Field(repr=False)] = FrozenDict()
    string_data: Annotated[FrozenMap[str, str], Field(repr=False)] = FrozenDict()
    type: str | None = None
    immutable: bool | None = None


class NamespaceSpec(KubeModel):
    """What holds back a namespace's deletion."""

    finalizers: tuple[str, ...] = ()


class NamespaceStatus(KubeModel):
    """``phase`` is Active or Terminating."""

    phase: str = ""


class Namespace(Resource, version="v1", namespaced=False):
    """A scope for names."""

    spec: NamespaceSpec = Field(default_factory=NamespaceSpec)
    status: NamespaceStatus = Field(default_factory=NamespaceStatus)


class ServiceAccount(Resource, version="v1"):
    """Who a pod is to the API server."""

    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    automount_service_account_token: bool | None = None


class ObjectReference(KubeModel):
    """Another object, by whatever is known of it."""

    api_version: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    field_path: str | None = None
