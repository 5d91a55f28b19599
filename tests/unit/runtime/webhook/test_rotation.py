"""Rotation: what is due when; and that in no order of events anybody is served what nobody trusts."""

from __future__ import annotations

import asyncio
import base64
import random
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from kaito.client import NotFound
from kaito.kube.admissionregistration_v1 import ValidatingWebhookConfiguration
from kaito.kube.core_v1 import Secret
from kaito.kube.object_key import ObjectKey
from kaito.runtime.webhook import AtUrl, Installed, OwnAuthority, Policy, Webhook
from kaito.runtime.webhook.certificates import KeyPair, names_of, parse
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.runtime.webhook.rotation import Keys, advanced, begin
from kaito.testing import virtual_clock
from tests.unit.runtime.webhook.reviews import Gadget
from tests.unit.runtime.webhook.serving import Host

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = Policy()
NAMES = ["gadgets.demo.svc"]


def never(_authority: bytes) -> None:
    return None


def at(
    keys: Keys, days: float, *, trusted: float | None = None, names: list[str] = NAMES, policy: Policy = POLICY
) -> Keys:
    def since(_authority: bytes) -> datetime | None:
        return None if trusted is None else START + trusted * DAY

    return advanced(keys, "tests", names, policy, START + days * DAY, since)


@pytest.fixture
def first() -> Keys:
    return begin("tests", NAMES, POLICY, START)


def test_nothing_is_done_before_two_thirds_of_a_life(first: Keys) -> None:
    assert at(first, 0) is first
    assert at(first, 59) is first


def test_a_serving_certificate_is_renewed_by_the_same_authority(first: Keys) -> None:
    renewed = at(first, 61)

    assert renewed.authority == first.authority
    assert renewed.coming is None
    assert renewed.serving.expires == START + 151 * DAY
    assert at(renewed, 61) is renewed


def test_an_authority_is_published_before_it_signs_and_signs_only_when_it_was_trusted_for_a_while(first: Keys) -> None:
    published = at(at(first, 240), 244)
    assert published.coming is not None
    assert published.authority == first.authority
    assert parse(published.trusted()) == [first.authority.parsed, published.coming.parsed]

    assert at(published, 245) is published, "nobody was seen to trust it"
    assert at(published, 245, trusted=245) is published, "not for long enough"

    promoted = at(published, 245, trusted=244)
    assert promoted.authority == published.coming
    assert promoted.serving.parsed.issuer == published.coming.parsed.subject
    assert promoted.trusted() == published.trusted(), "what is trusted did not change by that"


def test_authorities_of_one_name_however_long_can_be_told_apart() -> None:
    # OpenSSL looks for the authority of a certificate by its name.
    names = {begin("x" * 80, NAMES, POLICY, START).authority.parsed.subject.rfc4514_string() for _ in range(3)}

    assert len(names) == 3
    assert all(name.startswith("CN=xxxx") and len(name) <= len("CN=") + 64 for name in names)


def test_an_old_authority_is_trusted_until_it_expires(first: Keys) -> None:
    promoted = at(at(first, 244), 245, trusted=244)

    assert first.authority.certificate in promoted.trusted()
    assert first.authority.certificate in at(promoted, 364).trusted()
    assert first.authority.certificate not in at(promoted, 366).trusted()


def test_a_serving_certificate_is_renewed_by_the_old_authority_while_the_new_one_is_not_trusted(first: Keys) -> None:
    keys = first
    for day in range(0, 365, 5):
        keys = at(keys, day)
        assert keys.serving.expires > START + day * DAY
    assert keys.serving.expires == first.authority.expires
    assert at(keys, 364) is keys, "renewed again and again without gaining anything"


def test_after_all_has_expired_everything_is_made_anew(first: Keys) -> None:
    anew = at(first, 400)
    assert anew.authority != first.authority
    assert anew.trusted() == anew.authority.certificate

    published = at(first, 300)
    late = at(published, 400)
    assert late.authority == published.coming, "what was published already is used"
    assert at(published, 900).authority not in (first.authority, published.coming)


def test_a_name_that_is_missing_is_added_to_those_that_are_there(first: Keys) -> None:
    renewed = at(first, 1, names=["10.0.0.1"])

    assert names_of(renewed.serving.parsed) == {"gadgets.demo.svc", "10.0.0.1"}
    assert at(renewed, 1) is renewed, "two replicas with different names would take turns"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Policy(serving_lifetime=400 * DAY), "at most the authority's, 365 days"),
        (lambda: Policy(serving_lifetime=0 * DAY), "expected more than none"),
        (lambda: Policy(renew_at=1), "a part between 0 and 1"),
        (lambda: Policy(settle=200 * DAY), "settle 200 days"),
        (lambda: OwnAuthority(Host().api_reader, ObjectKey("s", "demo"), poll_s=61), "expected at least poll_s, 61 s"),
    ],
)
def test_policies_that_cannot_work_are_refused(make: object, why: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=why):
        make()


SHORT = Policy(timedelta(seconds=400), timedelta(seconds=150), settle=timedelta(seconds=20))


class Replica:
    """What a server does about certificates, with what it serves for the world to look at."""

    def __init__(self, host: Host, rng: random.Random) -> None:
        self.serving: KeyPair | None = None
        self._rng = rng
        self._source = OwnAuthority(
            host.api_reader, ObjectKey("keys", "default"), policy=SHORT, clock=virtual_clock.wall
        )
        self._keeper = Installed()
        self._keeper.bind(
            host.api_reader,
            host.name,
            AtUrl("https://10.0.0.1"),
            [Webhook(Gadget, validate=lambda _obj, _request: None)],
            WebhookMetrics(host.registry),
            virtual_clock.wall,
        )
        self._keeper.own_user = ""

    async def run(self) -> None:
        while True:
            material = await self._source.look(["10.0.0.1"], self._keeper.trusted_since)
            self.serving = material.serving
            await asyncio.sleep(self._rng.random())  # in which others may write
            await self._keeper.keep(material.authorities)
            await asyncio.sleep(self._rng.uniform(0.1, 9))


@cache
def trusted_until(certificate: bytes, bundle: str | None) -> datetime:
    """Until when an API server with this caBundle takes a certificate; long ago if it does not at all."""
    served = parse(certificate)[0]
    for authority in parse(base64.b64decode(bundle or "")):
        if authority.subject == served.issuer:
            served.verify_directly_issued_by(authority)
            return min(authority.not_valid_after_utc, served.not_valid_after_utc)
    return datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize("seed", [1, 2])
def test_t83_through_many_rotations_each_replica_serves_only_what_is_trusted(seed: int) -> None:
    rng = random.Random(seed)

    async def scene() -> set[bytes]:
        host = Host()
        host.api.register(Secret)
        other = Host(api=host.api)
        replicas = [Replica(host, rng), Replica(other, rng)]
        tasks = [asyncio.create_task(replica.run()) for replica in replicas]
        certificates: set[bytes] = set()
        while asyncio.get_running_loop().time() < 1500:
            await asyncio.sleep(0.25)
            try:
                found = await host.api_reader.get(ValidatingWebhookConfiguration, ObjectKey("gadgets"))
            except NotFound:
                assert asyncio.get_running_loop().time() < 5
                continue
            bundle = found.webhooks[0].client_config.ca_bundle
            for replica in replicas:
                if replica.serving is not None:
                    assert virtual_clock.wall() < trusted_until(replica.serving.certificate, bundle)
                    certificates.add(replica.serving.certificate)
        for task in tasks:
            assert not task.done(), task
            task.cancel()
        await asyncio.wait(tasks)
        return certificates

    certificates = virtual_clock.run(scene(), seed=seed)

    assert len(certificates) >= 10
    assert len({parse(each)[0].issuer for each in certificates}) >= 4


def test_an_authority_that_a_clock_gone_ahead_made_is_replaced_in_order_by_one_that_is_valid_now() -> None:
    ahead = begin("tests", NAMES, POLICY, START + 30 * DAY)

    published = at(ahead, 0)
    assert published.coming is not None
    assert published.serving == ahead.serving, "a clock of ours that is behind shall cost nothing"
    assert at(published, 0.01) is published

    promoted = at(published, 0.02, trusted=0.01)
    assert promoted.serving.parsed.not_valid_before_utc <= START + 0.02 * DAY
    assert at(promoted, 0.03) is promoted
    assert at(promoted, 30) is promoted, "whose clock is ahead has nothing against it"


def test_a_serving_certificate_that_a_clock_gone_ahead_made_is_renewed_at_once(first: Keys) -> None:
    ahead = at(first, 90)
    assert ahead.serving.parsed.not_valid_before_utc > START + 10 * DAY

    renewed = at(ahead, 10)

    assert renewed.serving.parsed.not_valid_before_utc <= START + 10 * DAY
    assert renewed.authority == first.authority
    assert at(renewed, 10) is renewed
    assert at(renewed, 35) is renewed
