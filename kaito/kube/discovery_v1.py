"""discovery/v1: EndpointSlice, the addresses behind a Service."""

from pydantic import Field

from kaito.kube.core_v1 import ObjectReference
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""Names the Service of a slice."""


class EndpointConditions(KubeModel):
    """How an endpoint is; what is not said counts as ready, and as not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(KubeModel):
    """One address, or some of the same thing, and how it is."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = Field(default_factory=EndpointConditions)
    hostname: str | None = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None
    zone: str | None = None


class EndpointPort(KubeModel):
    """A port of all endpoints of a slice, by the name that it has in the Service."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSlice(Resource, group="discovery.k8s.io", version="v1"):
    """Some of the endpoints of a Service; ``address_type`` is IPv4, IPv6 or FQDN."""

    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
