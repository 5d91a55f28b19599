"""Who we are to the API server: the ServiceAccount whose requests our own webhooks let pass."""

from __future__ import annotations

from kaito.client.client import Client
from kaito.client.errors import KubeError
from kaito.kube.authentication_v1 import SelfSubjectReview

_PREFIX = "system:serviceaccount:"


async def own_service_account(client: Client) -> str | None:
    """The user name of the client, if it is a ServiceAccount's; empty if it is a person's, who is not to pass.

    Returns:
        None when the API server did not say; ask again later.
    """
    try:
        review = await client.create(SelfSubjectReview())
    except KubeError:
        return None
    name = review.status.user_info.username
    return name if name.startswith(_PREFIX) else ""
