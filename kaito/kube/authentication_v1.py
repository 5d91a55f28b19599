"""authentication/v1: TokenRequest asks for a ServiceAccount's token, TokenReview whose a token is, and who one is."""

from typing import Annotated

from pydantic import ConfigDict, Field

from kaito.kube.frozen import FrozenDict, FrozenMap
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


class UserInfo(KubeModel):
    """Somebody that the API server knows: ``system:serviceaccount:NAMESPACE:NAME`` for a ServiceAccount."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: FrozenMap[str, tuple[str, ...]] = FrozenDict()


class TokenReviewSpec(KubeModel):
    """The token in question, which shows in no ``repr``; ``audiences`` none: the API server's own."""

    model_config = ConfigDict(hide_input_in_errors=True)

    token: Annotated[str, Field(repr=False)] = ""
    audiences: tuple[str, ...] = ()


class TokenReviewStatus(KubeModel):
    """Whether the token is good, and whose it is; ``error``: why the server could not tell."""

    authenticated: bool = False
    user: UserInfo = Field(default_factory=UserInfo)
    audiences: tuple[str, ...] = ()
    error: str = ""


class TokenReview(Resource, group="authentication.k8s.io", version="v1", namespaced=False):
    """Asks whose a token is: create one, and its ``status`` has the answer; nothing is stored."""

    model_config = ConfigDict(hide_input_in_errors=True)

    spec: TokenReviewSpec = Field(default_factory=TokenReviewSpec)
    status: TokenReviewStatus = Field(default_factory=TokenReviewStatus)


class SelfSubjectReviewStatus(KubeModel):
    """Who asks."""

    user_info: UserInfo = Field(default_factory=UserInfo)


class SelfSubjectReview(Resource, group="authentication.k8s.io", version="v1", namespaced=False):
    """Asks who one is to the API server; anybody who is authenticated may. Nothing is stored."""

    status: SelfSubjectReviewStatus = Field(default_factory=SelfSubjectReviewStatus)
