"""Tokens of a pod's ServiceAccount: got from the API server, kept, and got anew before they expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from kaito.client import Client, KubeError
from kaito.kube.core_v1 import Pod
from kaito.kube.object_key import ObjectKey

_EXPIRATION_S = 3600


class _Token(NamedTuple):
    text: str
    renewed_from: datetime
    expires: datetime


class ServiceAccountTokens:
    """The tokens of one pod, by audience and lifetime; renewed after four fifths of it, as a kubelet does.

    Args:
        client: who asks for them.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tokens: dict[tuple[str | None, int], _Token] = {}

    async def token(self, pod: Pod, audience: str | None, expiration_s: int | None) -> str:
        """A token that is good for a while yet, bound to the pod.

        Raises:
            KubeError: there is none.
        """
        wanted = audience, expiration_s or _EXPIRATION_S
        known = self._tokens.get(wanted)
        now = datetime.now(UTC)
        if known is not None and now < known.renewed_from:
            return known.text
        try:
            new = await self._ask(pod, *wanted)
        except KubeError:
            # What is left of its life may be enough for the API server to come back.
            if known is None or now >= known.expires:
                raise
            return known.text
        self._tokens[wanted] = new
        return new.text

    async def _ask(self, pod: Pod, audience: str | None, expiration_s: int) -> _Token:
        account = ObjectKey(pod.spec.service_account_name or "default", pod.metadata.namespace)
        audiences = (audience,) if audience else ()
        asked = datetime.now(UTC)
        answer = await self._client.create_token(account, audiences=audiences, expiration_s=expiration_s, bound_to=pod)
        expires = answer.expiration_timestamp or asked + timedelta(seconds=expiration_s)
        return _Token(answer.token, asked + (expires - asked) * 0.8, expires)
