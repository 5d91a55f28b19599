"""batch/v1: Job."""

from pydantic import Field

from kaito.kube.core_v1 import PodTemplateSpec
from kaito.kube.frozen import FrozenJson
from kaito.kube.meta_v1 import LabelSelector, Time
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class JobSpec(KubeModel):
    """What a Job runs to its end, and how often it tries."""

    template: PodTemplateSpec = Field(default_factory=PodTemplateSpec)
    parallelism: int | None = None
    completions: int | None = None
    completion_mode: str | None = None
    backoff_limit: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    suspend: bool | None = None
    manual_selector: bool | None = None
    selector: LabelSelector | None = None
    pod_failure_policy: FrozenJson = None
    pod_replacement_policy: str | None = None


class JobCondition(KubeModel):
    """``type`` is Complete, Failed, Suspended, SuccessCriteriaMet or FailureTarget."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_probe_time: Time | None = None
    last_transition_time: Time | None = None


class JobStatus(KubeModel):
    """How far a Job is."""

    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    start_time: Time | None = None
    completion_time: Time | None = None
    conditions: tuple[JobCondition, ...] = ()


class Job(Resource, group="batch", version="v1"):
    """Pods that run to completion."""

    spec: JobSpec = Field(default_factory=JobSpec)
    status: JobStatus = Field(default_factory=JobStatus)
