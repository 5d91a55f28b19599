"""Subresources: the parts of an object that have verbs of their own: status, scale, eviction, token, and any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, Unpack

from kaito.client import requests
from kaito.client.answers import decoded
from kaito.client.transport import Request, Response
from kaito.client.writer import Patch, PatchType, WriteOptions, Writer
from kaito.kube.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec, TokenRequestStatus
from kaito.kube.autoscaling_v1 import Scale
from kaito.kube.core_v1 import Pod, ServiceAccount
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.policy_v1 import Eviction
from kaito.kube.resource import Resource
from kaito.kube.unstructured import Unstructured

if TYPE_CHECKING:
    from kaito.client.client import Client

R = TypeVar("R", bound=Resource)
S = TypeVar("S", bound=Resource)


class SubresourceClient(Writer):
    """The verbs of a subresource, such as ``client.status``: they write that part of an object and nothing else.

    Reads are live.
    """

    def __init__(self, client: Client, subresource: str) -> None:
        super().__init__(client.field_owner, subresource)
        self._client = client

    async def request(self, request: Request) -> Response:
        """See `Client.request`."""
        return await self._client.request(request)

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        """Reads the subresource, where its form is that of the object, as a status's is.

        Raises:
            NotFound: no such object, or it has no such subresource.
        """
        return await self._read(kind, key, kind)

    async def create(
        self, kind: type[Resource], key: ObjectKey, body: Resource, *, result: type[S], **options: Unpack[WriteOptions]
    ) -> S:
        """Posts to the subresource, as evictions, tokens and bindings want it.

        Args:
            kind: the class of the object.
            key: which object.
            body: what to post.
            result: the class of what is answered.
            options: see `WriteOptions`.
        """
        request = self._on(kind.resource_type, key, "POST", "create", self._query(**options))
        response = await self.request(requests.with_body(request, body.to_dict()))
        return decoded(result, request, response)

    async def _read(self, kind: type[Resource], key: ObjectKey, result: type[S]) -> S:
        request = self._on(kind.resource_type, key, "GET", "get", accept=result.accept)
        return decoded(result, request, await self.request(request))


class ScaleClient:
    """How many replicas a workload has, whatever its kind: ``await client.scale.set(Deployment, key, 3)``."""

    def __init__(self, client: Client) -> None:
        self._scale = SubresourceClient(client, "scale")

    async def get(self, kind: type[Resource], key: ObjectKey) -> Scale:
        """Reads how many replicas are wanted, and how many there are.

        Raises:
            NotFound: no such object, or its kind cannot be scaled.
        """
        return await self._scale._read(kind, key, Scale)

    async def set(self, kind: type[Resource], key: ObjectKey, replicas: int, **options: Unpack[WriteOptions]) -> Scale:
        """Asks for so many replicas."""
        return await self.patch(kind, key, {"spec": {"replicas": replicas}}, **options)

    async def update(self, kind: type[Resource], scale: Scale, **options: Unpack[WriteOptions]) -> Scale:
        """Replaces the scale that was read; see `Client.update`.

        Raises:
            Conflict: the object changed since.
        """
        return await self._scale._put(kind.resource_type, scale.key, scale, Scale, options)

    async def patch(
        self,
        kind: type[Resource],
        key: ObjectKey,
        patch: Patch,
        *,
        type: PatchType = "merge",
        resource_version: str | None = None,
        **options: Unpack[WriteOptions],
    ) -> Scale:
        """Changes the scale; see `Client.patch`."""
        return await self._scale._change(kind.resource_type, key, patch, type, resource_version, Scale, options)


async def evict(client: Client, key: ObjectKey, *, uid: str | None, grace_period_s: int | None, dry_run: bool) -> None:
    """See `Client.evict`."""
    given = {"preconditions": {"uid": uid} if uid is not None else None, "gracePeriodSeconds": grace_period_s}
    options = {name: value for name, value in given.items() if value is not None}
    metadata = ObjectMeta(name=key.name, namespace=key.namespace)
    eviction = Eviction(metadata=metadata, delete_options=options) if options else Eviction(metadata=metadata)
    await client.subresource("eviction").create(Pod, key, eviction, result=_Status, dry_run=dry_run)


async def create_token(
    client: Client,
    service_account: ObjectKey,
    audiences: Sequence[str],
    expiration_s: int | None,
    bound_to: Resource | None,
) -> TokenRequestStatus:
    """See `Client.create_token`."""
    spec: dict[str, object] = {"audiences": tuple(audiences)} if audiences else {}
    spec |= {"expiration_seconds": expiration_s} if expiration_s is not None else {}
    spec |= {"bound_object_ref": _reference(bound_to)} if bound_to is not None else {}
    asked = TokenRequest(spec=TokenRequestSpec.model_validate(spec))
    answered = await client.subresource("token").create(ServiceAccount, service_account, asked, result=TokenRequest)
    return answered.status


def _reference(bound_to: Resource) -> BoundObjectReference:
    name, uid = bound_to.metadata.name, bound_to.metadata.uid
    return BoundObjectReference(api_version=bound_to.api_version, kind=bound_to.kind, name=name, uid=uid)


_Status = Unstructured("v1", "Status")
