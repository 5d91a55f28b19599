"""events/v1: Event, what a controller tells the people who look at an object."""

from pydantic import Field

from kaito.kube.core_v1 import ObjectReference
from kaito.kube.meta_v1 import MicroTime
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class EventSeries(KubeModel):
    """An event that went on happening."""

    count: int
    last_observed_time: MicroTime


class Event(Resource, group="events.k8s.io", version="v1"):
    """Something that happened to ``regarding``: ``type`` is Normal or Warning, ``note`` is for people."""

    event_time: MicroTime | None = None
    series: EventSeries | None = None
    reporting_controller: str = ""
    reporting_instance: str = ""
    action: str = ""
    reason: str = ""
    regarding: ObjectReference = Field(default_factory=ObjectReference)
    related: ObjectReference | None = None
    note: str = ""
    type: str = ""
