"""authentication/v1: TokenRequest, which asks for a token of a ServiceAccount."""

from typing import Annotated

from pydantic import ConfigDict, Field

from kaito.kube.meta_v1 import Time
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class BoundObjectReference(KubeModel):
    """The Pod, Node or Secret whose end is also the token's."""

    api_version: str = "v1"
    kind: str
    name: str
    uid: str | None = None


class TokenRequestSpec(KubeModel):
    """What token is wanted.

    Attributes:
        audiences: who will accept it; none: the API server.
        expiration_seconds: how long it is to live; the server may choose otherwise.
        bound_object_ref: whose end is also the token's.
    """

    audiences: tuple[str, ...] = ()
    expiration_seconds: int | None = None
    bound_object_ref: BoundObjectReference | None = None


class TokenRequestStatus(KubeModel):
    """The token, which shows in no ``repr``, and when it expires."""

    model_config = ConfigDict(hide_input_in_errors=True)

    token: Annotated[str, Field(repr=False)] = ""
    expiration_timestamp: Time | None = None


class TokenRequest(Resource, group="authentication.k8s.io", version="v1"):
    """Asks for a token of a ServiceAccount; the answer has it in ``status.token``."""

    model_config = ConfigDict(hide_input_in_errors=True)

    spec: TokenRequestSpec = Field(default_factory=TokenRequestSpec)
    status: TokenRequestStatus = Field(default_factory=TokenRequestStatus)
