"""authorization/v1: access reviews, which ask what somebody, or oneself, may do; nothing of them is stored."""

from pydantic import Field

from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class ResourceAttributes(KubeModel):
    """A request on objects: ``namespace`` and ``name`` empty mean all of them, ``group`` empty the core group."""

    namespace: str = ""
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


class NonResourceAttributes(KubeModel):
    """A request on a path that is no object's, such as ``/metrics``."""

    path: str = ""
    verb: str = ""


class SelfSubjectAccessReviewSpec(KubeModel):
    """What one wants to do: one of the two."""

    resource_attributes: ResourceAttributes | None = None
    non_resource_attributes: NonResourceAttributes | None = None


class SubjectAccessReviewSpec(KubeModel):
    """What somebody wants to do; who it is comes from a TokenReview's ``status.user``."""

    resource_attributes: ResourceAttributes | None = None
    non_resource_attributes: NonResourceAttributes | None = None
    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: FrozenMap[str, tuple[str, ...]] = FrozenDict()


class SubjectAccessReviewStatus(KubeModel):
    """Whether it is allowed; ``evaluation_error``: what kept the server from judging by all of its rules."""

    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluation_error: str = ""


class SelfSubjectAccessReview(Resource, group="authorization.k8s.io", version="v1", namespaced=False):
    """Asks whether one may do something; anybody who is authenticated may ask. Create it; ``status`` answers."""

    spec: SelfSubjectAccessReviewSpec = Field(default_factory=SelfSubjectAccessReviewSpec)
    status: SubjectAccessReviewStatus = Field(default_factory=SubjectAccessReviewStatus)


class SubjectAccessReview(Resource, group="authorization.k8s.io", version="v1", namespaced=False):
    """Asks whether somebody may do something. Create it; ``status`` answers."""

    spec: SubjectAccessReviewSpec = Field(default_factory=SubjectAccessReviewSpec)
    status: SubjectAccessReviewStatus = Field(default_factory=SubjectAccessReviewStatus)
