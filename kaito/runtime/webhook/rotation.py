"""Rotation: when authorities and serving certificates are made, used and dropped; pure, so that a test can drive it.

No handshake may fail, whichever replica a connection meets and whatever it has heard of so far. So a new authority is
first published beside the old one and signs nothing; only when the API server has trusted it for a while is it put to
use; and the old one stays trusted until it expires, since somebody may serve a certificate of it until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kaito.runtime.webhook.certificates import (
    CertificateError,
    KeyPair,
    fingerprint,
    issue,
    names_of,
    new_authority,
    parse,
)
from kaito.runtime.webhook.sources import TrustedSince


@dataclass(frozen=True)
class Policy:
    """How long things live.

    Attributes:
        authority_lifetime: of an authority.
        serving_lifetime: of a serving certificate; it ends with its authority at the latest.
        renew_at: renewal is due when this part of a life is left.
        settle: how long a new authority must have been trusted before it signs what is served: until each API server
            has heard of it, and each replica has looked.

    Raises:
        ValueError: a serving certificate would outlive its authority, or the part is none.
    """

    authority_lifetime: timedelta = timedelta(days=365)
    serving_lifetime: timedelta = timedelta(days=90)
    renew_at: float = 1 / 3
    settle: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        if not timedelta(0) < self.serving_lifetime <= self.authority_lifetime:
            raise ValueError(
                f"webhook certificates: serving_lifetime {self.serving_lifetime}: expected more than none and at most "
                f"the authority's, {self.authority_lifetime}"
            )
        if not 0 < self.renew_at < 1:
            raise ValueError(f"webhook certificates: renew_at {self.renew_at}: expected a part between 0 and 1")
        if self.settle >= self.authority_lifetime * self.renew_at:
            raise ValueError(
                f"webhook certificates: settle {self.settle}: expected less than what is left of an authority's life "
                f"when it is renewed, {self.authority_lifetime * self.renew_at}"
            )


@dataclass(frozen=True)
class Keys:
    """All that replicas share.

    Attributes:
        authority: signs what is served.
        serving: what is served.
        coming: the next authority, if it is published already.
        retired: certificates of authorities before, PEM each.
    """

    authority: KeyPair
    serving: KeyPair
    coming: KeyPair | None = None
    retired: tuple[bytes, ...] = ()

    def trusted(self) -> bytes:
        """What the API server is to trust, PEM; in an order that does not depend on what is used."""
        coming = (self.coming.certificate,) if self.coming else ()
        pems: set[bytes] = {self.authority.certificate, *coming, *self.retired}
        return b"".join(sorted(pems, key=lambda pem: _age(bytes(pem))))


def begin(name: str, names: Sequence[str], policy: Policy, now: datetime) -> Keys:
    """Makes the first authority, or the first after all was lost, and a certificate of it.

    Args:
        name: of the authority.
        names: host names and addresses of the serving certificate.
        policy: how long they live.
        now: from when.
    """
    authority = new_authority(name, now, policy.authority_lifetime)
    return Keys(authority, issue(authority, names, now, policy.serving_lifetime))


def advanced(
    keys: Keys, name: str, names: Sequence[str], policy: Policy, now: datetime, trusted_since: TrustedSince
) -> Keys:
    """What the keys should be now; the same object if nothing is due.

    Args:
        keys: what they are.
        name: of a new authority.
        names: what the serving certificate must be for; names that it has beside these, it keeps.
        policy: how long things live.
        now: the time.
        trusted_since: since when the API server trusts an authority.
    """
    if now >= keys.authority.expires and (keys.coming is None or now >= keys.coming.expires):
        return begin(name, names, policy, now)
    wanted = sorted(names_of(keys.serving.parsed) | set(names), key=lambda each: (each not in names, each))
    keys = _promote(keys, wanted, policy, now, trusted_since)
    if keys.coming is None and _due(keys.authority, policy.authority_lifetime, policy, now):
        keys = replace(keys, coming=new_authority(name, now, policy.authority_lifetime))
    if _serving_due(keys, names, policy, now):
        keys = replace(keys, serving=issue(keys.authority, wanted, now, policy.serving_lifetime))
    alive = tuple(pem for pem in keys.retired if now < parse(pem)[0].not_valid_after_utc)
    return keys if alive == keys.retired else replace(keys, retired=alive)


def check(keys: Keys) -> None:
    """Makes sure that what is served was signed by the authority, and says for whom it is.

    Raises:
        CertificateError: it was not, or does not.
    """
    names_of(keys.serving.parsed)
    try:
        keys.serving.parsed.verify_directly_issued_by(keys.authority.parsed)
    except Exception as error:  # InvalidSignature, ValueError, TypeError: whichever
        raise CertificateError("tls.crt was not signed by the authority of ca.key") from error


def _promote(keys: Keys, names: Sequence[str], policy: Policy, now: datetime, trusted_since: TrustedSince) -> Keys:
    if keys.coming is None:
        return keys
    since = trusted_since(keys.coming.certificate)
    settled = since is not None and since + policy.settle <= now
    # With an authority that has expired no handshake succeeds, so there is nothing to wait for.
    if not settled and now < keys.authority.expires:
        return keys
    serving = issue(keys.coming, names, now, policy.serving_lifetime)
    return Keys(keys.coming, serving, None, (*keys.retired, keys.authority.certificate))


def _serving_due(keys: Keys, names: Sequence[str], policy: Policy, now: datetime) -> bool:
    if not set(names) <= names_of(keys.serving.parsed):
        return True
    if _is_ahead(keys.serving, now) and not _is_ahead(keys.authority, now):
        return True
    gains = min(now + policy.serving_lifetime, keys.authority.expires) - keys.serving.expires
    return _due(keys.serving, policy.serving_lifetime, policy, now) and gains > timedelta(seconds=1)


def _due(pair: KeyPair, lifetime: timedelta, policy: Policy, now: datetime) -> bool:
    return pair.expires - now <= lifetime * policy.renew_at or _is_ahead(pair, now)


def _is_ahead(pair: KeyPair, now: datetime) -> bool:
    """Whether it is not valid yet: a clock was wrong where it was made, and no handshake may succeed till then."""
    return now < pair.parsed.not_valid_before_utc


def _age(pem: bytes) -> tuple[datetime, bytes]:
    certificate = parse(pem)[0]
    return certificate.not_valid_before_utc, fingerprint(certificate)
