"""coordination/v1: Lease, the lock of leader election and the heartbeat of nodes."""

from pydantic import Field

from kaito.kube.meta_v1 import MicroTime
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class LeaseSpec(KubeModel):
    """Who holds a lease, and for how long from ``renew_time`` on."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: MicroTime | None = None
    renew_time: MicroTime | None = None
    lease_transitions: int | None = None
    strategy: str | None = None
    preferred_holder: str | None = None


class Lease(Resource, group="coordination.k8s.io", version="v1"):
    """A lock with a term."""

    spec: LeaseSpec = Field(default_factory=LeaseSpec)
