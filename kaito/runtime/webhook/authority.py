"""OwnAuthority: certificates of our own authority, kept in a Secret that all replicas share."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, Conflict, NotFound
from kaito.kube.core_v1 import Secret
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.runtime.access import Access
from kaito.runtime.clocks import utc_now
from kaito.runtime.webhook.certificates import (
    CertificateError,
    KeyPair,
    check_pair,
    fingerprint,
    parse,
    pem_of,
)
from kaito.runtime.webhook.rotation import Keys, Policy, advanced, begin, check
from kaito.runtime.webhook.sources import Material, TrustedSince

log = logging.getLogger(__name__)

OURS = "controller.kaito.sh/webhook-certificates"
"""The label of a Secret that is ours: what is spoilt in it is made anew."""

_ATTEMPTS = 10


class OwnAuthority:
    """Certificates of our own authority, in a Secret that all replicas share; whoever comes first makes it.

    They are renewed when a third of their life is left, by whichever replica looks first, in an order in which no
    handshake fails (see `kaito.runtime.webhook.rotation`). The Secret has ``ca.crt`` (all that is to be trusted),
    ``ca.key``, ``tls.crt``, ``tls.key`` and, while an authority is being replaced, ``next-ca.crt`` and ``next-ca.key``.

    What becomes of a Secret that was tampered with: one that is gone or was emptied is written again, from memory where
    a replica remembers it; one that cannot be read is so too if it has our label, and is left alone otherwise.

    Args:
        client: reads live, such as ``manager.api_reader``.
        secret: its key.
        policy: how long things live.
        poll_s: seconds between two looks.
        clock: the time of day.
    """

    def __init__(
        self,
        client: Client,
        secret: ObjectKey,
        *,
        policy: Policy = Policy(),
        poll_s: float = 10.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if timedelta(seconds=poll_s) > policy.settle:
            raise ValueError(
                f"OwnAuthority: settle {policy.settle}: expected at least poll_s, {poll_s} s, so that each replica has "
                f"heard of a new authority before it is used"
            )
        self._client = client
        self._key = secret
        self._policy = policy
        self._clock = clock
        self._remembered: Keys | None = None
        self.poll_s = poll_s

    @property
    def needs(self) -> Sequence[Access]:
        """See `CertificateSource.needs`."""
        name, namespace = self._key.name, self._key.namespace
        named = Access(Secret, "get", "update", names=[name], namespace=namespace)
        return (named, Access(Secret, "create", namespace=namespace))

    async def look(self, names: Sequence[str], trusted_since: TrustedSince) -> Material:
        """See `CertificateSource.look`.

        Raises:
            CertificateError: the Secret is somebody else's, or others change it all the time.
        """
        for _ in range(_ATTEMPTS):
            try:
                keys = await self._shared(names, trusted_since)
            except (AlreadyExists, Conflict):
                continue  # another replica was faster; what it wrote will do
            self._remembered = keys
            return Material(keys.serving, keys.trusted())
        raise CertificateError(
            f"Secret {self._key}: it changed {_ATTEMPTS} times while it was to be renewed; who does?"
        )

    async def _shared(self, names: Sequence[str], trusted_since: TrustedSince) -> Keys:
        found = await self._find()
        stored = self._read(found) if found is not None else None
        now = self._clock()
        keys = stored or self._remembered or begin(self._client.field_owner, names, self._policy, now)
        keys = advanced(keys, self._client.field_owner, names, self._policy, now, trusted_since)
        if keys is stored:
            return keys
        try:
            if found is None:
                await self._client.create(self._secret(keys))
            else:
                await self._client.update(self._filled(found, keys))
        except NotFound as error:
            raise CertificateError(f"Secret {self._key}: {error}") from error  # its namespace, or it, went meanwhile
        log.info("webhook certificates written", extra={"secret": str(self._key), "change": _change(stored, keys)})
        return keys

    async def _find(self) -> Secret | None:
        try:
            return await self._client.get(Secret, self._key)
        except NotFound:
            return None

    def _read(self, secret: Secret) -> Keys | None:
        """What the Secret holds; None where it is to be filled."""
        if not secret.data:
            return None
        try:
            return _keys(secret.data)
        except CertificateError as error:
            if secret.metadata.labels.get(OURS) != "true":
                raise CertificateError(
                    f"Secret {self._key}: {error}; it has not our label {OURS}=true, so it is left alone: delete it, "
                    f"or choose another name"
                ) from error
            log.warning("webhook certificates are made anew", extra={"secret": str(self._key), "why": str(error)})
            return None

    def _secret(self, keys: Keys) -> Secret:
        labels = FrozenDict({OURS: "true"})
        metadata = ObjectMeta(name=self._key.name, namespace=self._key.namespace, labels=labels)
        return Secret(metadata=metadata, type="Opaque", data=_data(keys))

    def _filled(self, found: Secret, keys: Keys) -> Secret:
        draft = found.edit()
        draft.metadata.labels = FrozenDict({**found.metadata.labels, OURS: "true"})
        draft.data = _data(keys)
        return draft


def _data(keys: Keys) -> FrozenDict[str, str]:
    content = {
        "ca.crt": keys.trusted(),
        "ca.key": keys.authority.key,
        "tls.crt": keys.serving.certificate,
        "tls.key": keys.serving.key,
    }
    if keys.coming is not None:
        content |= {"next-ca.crt": keys.coming.certificate, "next-ca.key": keys.coming.key}
    return FrozenDict({name: base64.b64encode(value).decode() for name, value in content.items()})


def _keys(data: Mapping[str, str]) -> Keys:
    serving = KeyPair(_decoded(data, "tls.crt"), _decoded(data, "tls.key"))
    check_pair(serving)
    key = _decoded(data, "ca.key")
    pems = [pem_of(certificate) for certificate in parse(_decoded(data, "ca.crt"))]
    authority = next((pair for pem in pems if _belongs(pair := KeyPair(pem, key))), None)
    if authority is None:
        raise CertificateError("ca.key belongs to no certificate in ca.crt")
    coming = None
    if "next-ca.crt" in data:
        coming = KeyPair(_decoded(data, "next-ca.crt"), _decoded(data, "next-ca.key"))
        check_pair(coming)
    known = {authority.certificate, coming.certificate if coming else b""}
    keys = Keys(authority, serving, coming, tuple(pem for pem in pems if pem not in known))
    check(keys)
    return keys


def _decoded(data: Mapping[str, str], name: str) -> bytes:
    if name not in data:
        raise CertificateError(f"{name} is missing")
    try:
        return base64.b64decode(data[name], validate=True)
    except binascii.Error as error:
        raise CertificateError(f"{name} is not base64 ({error})") from error


def _belongs(pair: KeyPair) -> bool:
    try:
        check_pair(pair)
    except CertificateError:
        return False
    return True


def _change(old: Keys | None, new: Keys) -> str:
    if old is None:
        return "written whole"
    if fingerprint(old.authority.parsed) != fingerprint(new.authority.parsed):
        return "the next authority signs now"
    if (old.coming is None) != (new.coming is None):
        return "the next authority is published"
    return "the serving certificate is renewed" if old.serving != new.serving else "an expired authority is dropped"
