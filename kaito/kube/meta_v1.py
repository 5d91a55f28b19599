"""meta/v1: metadata, owner references, label selectors, conditions and times, shared by all kinds."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, PlainSerializer

from kaito.kube.frozen import FrozenDict, FrozenMap
from kaito.kube.model import KubeModel


def _rfc3339(moment: datetime) -> str:
    return _utc(moment, "seconds")


def _rfc3339_micro(moment: datetime) -> str:
    return _utc(moment, "microseconds")


def _utc(moment: datetime, timespec: str) -> str:
    # Not strftime, which writes the year 1, Go's zero time, without its zeros: no API server takes that back.
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec)}Z"


Time = Annotated[AwareDatetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
"""metav1.Time: RFC 3339 in whole seconds."""

MicroTime = Annotated[AwareDatetime, PlainSerializer(_rfc3339_micro, return_type=str, when_used="json")]
"""metav1.MicroTime: RFC 3339 with six decimals (Leases, Events)."""


class OwnerReference(KubeModel):
    """Who an object belongs to; garbage collection follows it."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(KubeModel):
    """Metadata of every object. Server-set fields (uid, resourceVersion, …) are empty on objects not yet written."""

    name: str = ""
    generate_name: str | None = None
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    labels: FrozenMap[str, str] = FrozenDict()
    annotations: FrozenMap[str, str] = FrozenDict()
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class LabelSelectorRequirement(KubeModel):
    """One term of a label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class LabelSelector(KubeModel):
    """A label query over objects; all of its terms must hold. An empty one matches everything."""

    match_labels: FrozenMap[str, str] = FrozenDict()
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class Condition(KubeModel):
    """One aspect of an object's state, as it was last observed (metav1.Condition).

    Attributes:
        type: what it is about, such as Ready; an object has one condition of each type.
        status: whether it is so: True, False or Unknown.
        reason: why, in one word for programs, such as WaitingForNodes.
        message: why, for people: what is the matter and what to do about it.
        last_transition_time: when the status changed last.
        observed_generation: the metadata.generation that the object had when this was found.
    """

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: Time | None = None
    observed_generation: int | None = None
