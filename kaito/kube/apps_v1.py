"""apps/v1: Deployment, ReplicaSet, StatefulSet."""

from pydantic import Field

from kaito.kube.core_v1 import PodTemplateSpec
from kaito.kube.frozen import FrozenJson
from kaito.kube.meta_v1 import LabelSelector, Time
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class WorkloadCondition(KubeModel):
    """One observed aspect of a Deployment, ReplicaSet or StatefulSet, such as ``Available``."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: Time | None = None


class DeploymentCondition(WorkloadCondition):
    """A condition of a Deployment, which alone says when it was looked at last."""

    last_update_time: Time | None = None


class RollingUpdateDeployment(KubeModel):
    """How many pods may be missing or extra during a rolling update: a number, or a percentage such as ``25%``."""

    max_unavailable: int | str | None = None
    max_surge: int | str | None = None


class DeploymentStrategy(KubeModel):
    """How a Deployment replaces its pods: ``type`` is Recreate or RollingUpdate (the server's default)."""

    type: str | None = None
    rolling_update: RollingUpdateDeployment | None = None


class DeploymentSpec(KubeModel):
    """What a Deployment keeps running."""

    replicas: int | None = None
    selector: LabelSelector = Field(default_factory=LabelSelector)
    template: PodTemplateSpec = Field(default_factory=PodTemplateSpec)
    strategy: DeploymentStrategy = Field(default_factory=DeploymentStrategy)
    min_ready_seconds: int | None = None
    revision_history_limit: int | None = None
    progress_deadline_seconds: int | None = None
    paused: bool | None = None


class DeploymentStatus(KubeModel):
    """What of a Deployment runs."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int | None = None
    conditions: tuple[DeploymentCondition, ...] = ()


class Deployment(Resource, group="apps", version="v1"):
    """Interchangeable pods, and how they are replaced."""

    spec: DeploymentSpec = Field(default_factory=DeploymentSpec)
    status: DeploymentStatus = Field(default_factory=DeploymentStatus)


class ReplicaSetSpec(KubeModel):
    """What a ReplicaSet keeps running."""

    replicas: int | None = None
    selector: LabelSelector = Field(default_factory=LabelSelector)
    template: PodTemplateSpec = Field(default_factory=PodTemplateSpec)
    min_ready_seconds: int | None = None


class ReplicaSetStatus(KubeModel):
    """What of a ReplicaSet runs."""

    observed_generation: int = 0
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[WorkloadCondition, ...] = ()


class ReplicaSet(Resource, group="apps", version="v1"):
    """The pods of one revision of a Deployment."""

    spec: ReplicaSetSpec = Field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = Field(default_factory=ReplicaSetStatus)


class RollingUpdateStatefulSet(KubeModel):
    """How many pods may be missing during a rolling update, and the ordinal from which on pods are updated."""

    partition: int | None = None
    max_unavailable: int | str | None = None


class StatefulSetUpdateStrategy(KubeModel):
    """How a StatefulSet replaces its pods: ``type`` is OnDelete or RollingUpdate (the server's default)."""

    type: str | None = None
    rolling_update: RollingUpdateStatefulSet | None = None


class PersistentVolumeClaimRetentionPolicy(KubeModel):
    """What becomes of claims made from templates: Retain or Delete."""

    when_deleted: str | None = None
    when_scaled: str | None = None


class StatefulSetSpec(KubeModel):
    """What a StatefulSet keeps running."""

    replicas: int | None = None
    selector: LabelSelector = Field(default_factory=LabelSelector)
    template: PodTemplateSpec = Field(default_factory=PodTemplateSpec)
    service_name: str | None = None
    pod_management_policy: str | None = None
    update_strategy: StatefulSetUpdateStrategy = Field(default_factory=StatefulSetUpdateStrategy)
    min_ready_seconds: int | None = None
    revision_history_limit: int | None = None
    volume_claim_templates: tuple[FrozenJson, ...] = ()
    persistent_volume_claim_retention_policy: PersistentVolumeClaimRetentionPolicy | None = None


class StatefulSetStatus(KubeModel):
    """What of a StatefulSet runs, and of which revision."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    conditions: tuple[WorkloadCondition, ...] = ()


class StatefulSet(Resource, group="apps", version="v1"):
    """Pods with names and ordinals that stay."""

    spec: StatefulSetSpec = Field(default_factory=StatefulSetSpec)
    status: StatefulSetStatus = Field(default_factory=StatefulSetStatus)
