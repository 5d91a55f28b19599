"""autoscaling/v1: Scale, how many replicas a workload has, whatever its kind."""

from pydantic import Field

from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class ScaleSpec(KubeModel):
    """How many replicas are wanted."""

    replicas: int = 0


class ScaleStatus(KubeModel):
    """How many replicas there are.

    Attributes:
        replicas: how many were made.
        selector: label selector of their Pods, in its text form.
    """

    replicas: int = 0
    selector: str = ""


class Scale(Resource, group="autoscaling", version="v1"):
    """The ``scale`` subresource of Deployments, StatefulSets and of custom resources that have one."""

    spec: ScaleSpec = Field(default_factory=ScaleSpec)
    status: ScaleStatus = Field(default_factory=ScaleStatus)
