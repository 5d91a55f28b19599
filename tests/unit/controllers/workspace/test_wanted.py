"""Names of claims, and which claims are wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.api.workspace import WantedClaim
from kaito.controllers.workspace import wanted as wanted_module
from kaito.controllers.workspace.wanted import claim_name, replacement_delay

NOW = datetime(2026, 1, 1, tzinfo=UTC)
wanted_claims = partial(wanted_module.wanted_claims, now=NOW)

UIDS = st.text(min_size=1, max_size=40)
NUMBERS = st.integers(min_value=0, max_value=10_000)
IDENTITIES = st.tuples(UIDS.filter(lambda uid: "/" not in uid), NUMBERS, NUMBERS)


@given(UIDS, NUMBERS, NUMBERS)
def test_a_name_is_one_that_an_agent_pool_can_have(uid: str, ordinal: int, incarnation: int) -> None:
    name = claim_name(uid, ordinal, incarnation)
    assert re.fullmatch("[a-z][a-z0-9]{0,11}", name)


@given(IDENTITIES, IDENTITIES)
def test_names_differ_exactly_when_uid_ordinal_or_incarnation_do(
    one: tuple[str, int, int], other: tuple[str, int, int]
) -> None:
    assert (claim_name(*one) == claim_name(*other)) == (one == other)


def test_a_name_is_the_same_in_every_process_and_version() -> None:
    # Machines of this name are out there: another formula would buy each node twice.
    assert claim_name("7b0f2d9c-0000-4000-8000-000000000001", 0, 0) == "wsd53c5ad26"


def test_at_first_each_node_is_wanted_in_its_first_incarnation(workspace: Callable[..., Workspace]) -> None:
    wanted = wanted_claims(workspace(uid="u"), 3, [])
    assert [(claim.ordinal, claim.incarnation) for claim in wanted] == [(0, 0), (1, 0), (2, 0)]
    assert [claim.name for claim in wanted] == [claim_name("u", ordinal, 0) for ordinal in range(3)]


def test_a_claim_that_is_going_has_a_successor_and_the_others_stay(
    workspace: Callable[..., Workspace], machine: Callable[..., Machine]
) -> None:
    before = recorded(workspace, wanted_claims(workspace(), 2, []))
    going = machine(
        before.status.node_claims[1].name, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "uid": "m"}
    )
    staying = machine(before.status.node_claims[0].name)
    wanted = wanted_claims(before, 2, [staying, going])
    assert [(claim.ordinal, claim.incarnation) for claim in wanted] == [(0, 0), (1, 1)]
    # Asked again while the old one is still going, and when it is gone: no third one.
    after = recorded(workspace, wanted)
    assert wanted_claims(after, 2, [staying, going]) == wanted
    assert wanted_claims(after, 2, [staying]) == wanted


def test_a_claim_that_nobody_saw_yet_is_wanted_under_its_name(workspace: Callable[..., Workspace]) -> None:
    before = recorded(workspace, wanted_claims(workspace(), 1, []))
    assert wanted_claims(before, 1, []) == before.status.node_claims


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=6))
def test_whatever_goes_at_most_one_claim_per_ordinal_is_wanted_and_no_name_comes_back(goings: list[list[bool]]) -> None:
    status: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for going in goings:
        current = Workspace.model_validate(
            {"metadata": {"name": "w", "uid": "u"}, "resource": RESOURCE, "status": status}
        )
        existing = [
            Machine.model_validate({"metadata": {"name": claim.name, "deletionTimestamp": "2026-01-01T00:00:00Z"}})
            for claim, goes in zip(current.status.node_claims, going, strict=False)
            if goes
        ]
        wanted = wanted_claims(current, 3, existing)
        assert [claim.ordinal for claim in wanted] == [0, 1, 2]
        assert not {claim.name for claim in wanted} & {claim.metadata.name for claim in existing}
        for claim in wanted:
            assert seen.setdefault(claim.name, claim.incarnation) == claim.incarnation
        status = {"nodeClaims": [claim.to_dict() for claim in wanted]}


RESOURCE = {"labelSelector": {"matchLabels": {"apps": "a"}}}


def recorded(workspace: Callable[..., Workspace], wanted: tuple[WantedClaim, ...]) -> Workspace:
    return workspace(status={"nodeClaims": [claim.to_dict() for claim in wanted]})


def test_the_first_successor_is_made_at_once_and_later_ones_ever_more_slowly() -> None:
    delays = [replacement_delay(incarnation) for incarnation in range(30)]
    assert delays[:4] == [timedelta(), timedelta(), timedelta(seconds=5), timedelta(seconds=10)]
    assert delays == sorted(delays)
    assert delays[-1] == timedelta(minutes=10)


def test_a_claim_that_vanished_unseen_is_replaced_under_another_name(workspace: Callable[..., Workspace]) -> None:
    before = recorded(workspace, wanted_claims(workspace(), 1, []))
    name = before.status.node_claims[0].name
    (successor,) = wanted_claims(before, 1, [], vanished={name})
    assert (successor.incarnation, successor.not_before) == (1, None)
    again = recorded(workspace, (successor,))
    (held,) = wanted_claims(again, 1, [], vanished={successor.name})
    assert held.not_before == NOW + timedelta(seconds=5)
