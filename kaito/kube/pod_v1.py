"""The parts of core/v1 that describe a pod: containers, volumes, affinity, up to PodTemplateSpec.

Only what controllers of workloads need is declared; every other field is kept as it came (see `KubeModel`). Values of
which Kubernetes may add more (operators, effects, policies) are plain strings: a newer server's must not make a pod
unreadable.
Import these names from `kaito.kube.core_v1`.
"""

from typing import Annotated

from pydantic import Field

from kaito.kube.frozen import FrozenDict, FrozenJson, FrozenMap
from kaito.kube.meta_v1 import ObjectMeta, Time
from kaito.kube.model import KubeModel
from kaito.kube.quantity import QuantityString

ResourceList = FrozenMap[str, QuantityString]
"""Amounts by resource name: ``{"cpu": "500m", "nvidia.com/gpu": "1"}``."""


class LocalObjectReference(KubeModel):
    """The name of an object in the same namespace."""

    name: str = ""


class KeySelector(KubeModel):
    """One key of a ConfigMap or Secret."""

    key: str
    name: str = ""
    optional: bool | None = None


class ObjectFieldSelector(KubeModel):
    """A field of the pod itself, such as ``metadata.name``."""

    field_path: str
    api_version: str | None = None


class EnvVarSource(KubeModel):
    """Where an environment variable's value comes from; one field is set."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: FrozenJson = None


class EnvVar(KubeModel):
    """An environment variable of a container."""

    name: str
    value: str | None = None
    value_from: EnvVarSource | None = None


class ContainerPort(KubeModel):
    """A port that a container listens on."""

    container_port: int
    name: str | None = None
    protocol: str | None = None
    host_port: int | None = None
    host_ip: Annotated[str | None, Field(alias="hostIP")] = None


class VolumeMount(KubeModel):
    """A volume's place in a container."""

    name: str
    mount_path: str
    sub_path: str | None = None
    sub_path_expr: str | None = None
    read_only: bool | None = None
    mount_propagation: str | None = None


class ExecAction(KubeModel):
    """A command run in the container; exit status 0 is success."""

    command: tuple[str, ...] = ()


class HTTPHeader(KubeModel):
    """A header that a probe sends."""

    name: str
    value: str


class HTTPGetAction(KubeModel):
    """A GET request to the container; any status from 200 to 399 is success."""

    port: int | str
    path: str | None = None
    host: str | None = None
    scheme: str | None = None
    http_headers: tuple[HTTPHeader, ...] = ()


class Probe(KubeModel):
    """A check that the kubelet runs on a container."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: FrozenJson = None
    grpc: FrozenJson = None
    initial_delay_seconds: int | None = None
    timeout_seconds: int | None = None
    period_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None
    termination_grace_period_seconds: int | None = None


class ResourceRequirements(KubeModel):
    """What a container asks for and may use at most."""

    requests: ResourceList = FrozenDict()
    limits: ResourceList = FrozenDict()
    claims: tuple[FrozenJson, ...] = ()


class Container(KubeModel):
    """One container of a pod."""

    name: str
    image: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str | None = None
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[FrozenJson, ...] = ()
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    volume_mounts: tuple[VolumeMount, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: FrozenJson = None
    restart_policy: str | None = None
    image_pull_policy: str | None = None
    security_context: FrozenJson = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None


class KeyToPath(KubeModel):
    """One key of a ConfigMap or Secret and the file that it becomes."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapVolumeSource(KubeModel):
    """A ConfigMap as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool | None = None


class SecretVolumeSource(KubeModel):
    """A Secret as files."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool | None = None


class EmptyDirVolumeSource(KubeModel):
    """A folder that lives as long as its pod."""

    medium: str | None = None
    size_limit: QuantityString | None = None


class HostPathVolumeSource(KubeModel):
    """A path of the node."""

    path: str
    type: str | None = None


class PersistentVolumeClaimVolumeSource(KubeModel):
    """A PersistentVolumeClaim of the pod's namespace."""

    claim_name: str
    read_only: bool | None = None


class VolumeSource(KubeModel):
    """Where a volume's files come from; one field is set. Sources not declared here are kept as they came."""

    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    projected: FrozenJson = None
    ephemeral: FrozenJson = None
    csi: FrozenJson = None


class Volume(VolumeSource):
    """A named volume of a pod."""

    name: str


class Taint(KubeModel):
    """What keeps pods without a matching toleration off a node."""

    key: str
    effect: str
    value: str | None = None
    time_added: Time | None = None


class Toleration(KubeModel):
    """Lets a pod onto nodes with a matching taint; an empty key with Exists tolerates everything."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None


class NodeSelectorRequirement(KubeModel):
    """One term over a node's labels or fields."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(KubeModel):
    """Requirements that must all hold."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(KubeModel):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class PreferredSchedulingTerm(KubeModel):
    """A term that the scheduler would like to hold, with a weight of 1 to 100."""

    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(KubeModel):
    """Which nodes a pod must or would like to run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()


class Affinity(KubeModel):
    """Where a pod wants to run, by nodes and by other pods."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: FrozenJson = None
    pod_anti_affinity: FrozenJson = None


class PodSpec(KubeModel):
    """What runs in a pod, and where."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_name: str | None = None
    node_selector: FrozenMap[str, str] = FrozenDict()
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    restart_policy: str | None = None
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    security_context: FrozenJson = None
    termination_grace_period_seconds: int | None = None
    priority_class_name: str | None = None
    scheduler_name: str | None = None
    host_network: bool | None = None
    host_pid: Annotated[bool | None, Field(alias="hostPID")] = None
    host_ipc: Annotated[bool | None, Field(alias="hostIPC")] = None
    hostname: str | None = None
    subdomain: str | None = None
    share_process_namespace: bool | None = None
    active_deadline_seconds: int | None = None
    enable_service_links: bool | None = None
    readiness_gates: tuple[FrozenJson, ...] = ()
    overhead: ResourceList = FrozenDict()


class PodTemplateSpec(KubeModel):
    """The pods that a workload makes."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: PodSpec = Field(default_factory=PodSpec)
