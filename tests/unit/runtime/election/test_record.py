"""The rules of leader election, one case at a time: what a candidate believes, asks for and waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kaito.kube.coordination_v1 import Lease
from kaito.kube.object_key import ObjectKey
from kaito.runtime.election.messages import (
    Action,
    Asked,
    Event,
    Failed,
    Found,
    Noticed,
    Phase,
    Refusal,
    Refused,
    Stop,
    Tick,
    Watching,
    Wrote,
)
from kaito.runtime.election.record import NEVER, Rules, State

KEY = ObjectKey("widgets", "system")
WALL = datetime(2026, 1, 1, tzinfo=UTC)


def lease(holder: str, version: int, *, duration_s: int = 15, renewed: int = 0, labels: str = "") -> Lease:
    """A Lease as the API server has it."""
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": duration_s,
        "renewTime": (WALL + timedelta(seconds=renewed)).isoformat(),
        "leaseTransitions": 3,
    }
    metadata = {"name": "widgets", "namespace": "system", "uid": "u", "resourceVersion": str(version)}
    if labels:
        metadata["annotations"] = {"note": labels}  # type: ignore[assignment]
    return Lease.model_validate({"metadata": metadata, "spec": spec})


class One:
    """One candidate, told what happens at which second."""

    def __init__(self, **changes: float) -> None:
        self.rules = Rules(KEY, "me", **changes)  # type: ignore[arg-type]
        self.state = State()
        self.action: Action | None = None
        self.now = 0.0

    def tell(self, event: Event, at: float | None = None) -> Asked | None:
        self.now = self.now if at is None else at
        self.state, action = self.rules.step(self.state, event, self.now, WALL)
        self.action = action or self.action
        return action.asked if action is not None else None

    def answer(self, kind: type[Wrote] | type[Failed] | Refusal, at: float) -> Asked | None:
        """The outstanding request is answered; a write by what it asked for, as of the next version."""
        action = self.action
        assert action is not None
        if isinstance(kind, Refusal):
            return self.tell(Refused(action.number, kind), at)
        if kind is Failed:
            return self.tell(Failed(action.number), at)
        assert action.lease is not None
        draft = Lease.model_validate(action.lease.to_dict()).edit()
        draft.metadata.resource_version = str(int(draft.metadata.resource_version or 0) + 1)
        return self.tell(Wrote(action.number, draft), at)

    def found(self, it: Lease | None, at: float) -> Asked | None:
        assert self.action is not None
        assert self.action.asked is Asked.READ
        return self.tell(Found(self.action.number, it), at)

    @property
    def leads(self) -> bool:
        return self.rules.leads(self.state, self.now)


def leader(**changes: float) -> One:
    """It took a free Lease at second 0, and got the answer at second 1."""
    one = One(**changes)
    assert one.tell(Tick(), 0.0) is Asked.READ
    assert one.found(lease("", 5, duration_s=1), 0.0) is Asked.TAKE
    assert one.answer(Wrote, 1.0) is None
    assert one.leads
    return one


def follower() -> One:
    """It saw another's Lease at second 0, and is told of changes."""
    one = One()
    one.tell(Watching(True), 0.0)
    assert one.found(lease("other", 5), 0.0) is None
    return one


def test_t61_a_lease_is_taken_only_after_its_whole_duration_was_seen_unchanged() -> None:
    one = follower()
    assert one.rules.wakes_at(one.state) == 15.0
    one.tell(Noticed(lease("other", 6, renewed=2)), 10.0)
    assert one.tell(Tick(), 24.9) is None
    assert one.tell(Tick(), 25.0) is Asked.TAKE


def test_t61_its_own_duration_counts_not_that_of_the_candidate() -> None:
    one = One(lease_duration_s=4.0, renew_deadline_s=3.0, retry_period_s=1.0)
    one.tell(Watching(True), 0.0)
    one.found(lease("other", 5, duration_s=60), 0.0)
    assert one.tell(Tick(), 59.0) is None
    assert one.tell(Tick(), 60.0) is Asked.TAKE


def test_what_others_write_into_a_lease_is_no_sign_of_its_leaders_life() -> None:
    one = follower()
    one.tell(Noticed(lease("other", 6, labels="x")), 10.0)
    assert one.tell(Tick(), 15.0) is Asked.TAKE
    assert one.action is not None
    assert one.action.lease is not None
    assert one.action.lease.metadata.resource_version == "6"
    assert one.action.lease.metadata.annotations == {"note": "x"}


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_time_of_day_in_a_lease_means_nothing(hours: int) -> None:
    one = One()
    one.tell(Watching(True), 0.0)
    one.found(lease("other", 5, renewed=hours * 3600), 0.0)
    assert one.tell(Tick(), 14.9) is None
    assert one.tell(Tick(), 15.0) is Asked.TAKE


def test_every_renewal_changes_the_record_also_when_the_calendar_stands_still() -> None:
    one = leader()
    times = []
    for second in (2.0, 4.0):
        one.tell(Tick(), second)
        assert one.action is not None
        assert one.action.lease is not None
        times.append(str(one.action.lease.spec.renew_time))
        one.answer(Wrote, second)
    assert times[0] < times[1]


def test_without_a_watch_the_lease_is_read_each_retry_period() -> None:
    one = One()
    assert one.tell(Tick(), 0.0) is Asked.READ
    one.found(lease("other", 5), 0.0)
    assert one.rules.wakes_at(one.state) == 2.0
    assert one.tell(Tick(), 2.0) is Asked.READ


def test_t62_belief_ends_at_the_deadline_after_the_last_renewal_was_sent_not_answered() -> None:
    one = leader()
    one.tell(Tick(), 2.0)
    one.answer(Wrote, 3.5)
    assert one.tell(Tick(), 4.0) is Asked.RENEW
    one.answer(Failed, 9.0)
    assert one.tell(Tick(), 11.0) is Asked.RENEW
    assert one.rules.wakes_at(one.state) == 12.0
    one.now = 11.99
    assert one.leads
    one.now = 12.0
    assert not one.leads  # before anybody told it
    one.tell(Tick(), 12.0)
    assert one.state.phase is Phase.LOST


def test_what_is_lost_is_lost_for_good() -> None:
    one = leader()
    one.tell(Tick(), 2.0)
    pending = one.action
    one.tell(Tick(), 30.0)
    assert pending is not None
    one.tell(Wrote(pending.number, lease("me", 7)), 30.0)
    assert one.state.phase is Phase.LOST
    assert one.rules.wakes_at(one.state) == NEVER


def test_t64_a_released_lease_is_taken_at_once() -> None:
    one = follower()
    assert one.tell(Noticed(lease("", 6, duration_s=1)), 3.0) is Asked.TAKE
    one.answer(Wrote, 3.1)
    assert one.leads
    assert one.state.lease is not None
    assert one.state.lease.spec.lease_transitions == 4


def test_a_lease_emptied_by_hand_is_not_taken_at_once_since_its_leader_may_not_know() -> None:
    one = follower()
    assert one.tell(Noticed(lease("", 6)), 3.0) is None
    assert one.tell(Tick(), 17.9) is None
    assert one.tell(Tick(), 18.0) is Asked.TAKE


def test_a_lease_that_an_installer_made_and_nobody_held_is_taken_at_once() -> None:
    one = One()
    one.tell(Tick(), 0.0)
    made = Lease.model_validate({"metadata": {"name": "widgets", "namespace": "system", "resourceVersion": "3"}})
    assert one.found(made, 0.0) is Asked.TAKE


def test_t64_a_release_says_so_in_the_lease_and_nothing_is_written_from_then_on() -> None:
    one = leader()
    assert one.tell(Stop(), 1.5) is Asked.RELEASE
    assert not one.leads
    assert one.action is not None
    assert one.action.lease is not None
    spec = one.action.lease.spec
    assert (spec.holder_identity, spec.lease_duration_seconds) == ("", 1)
    one.answer(Wrote, 1.6)
    assert one.state.phase is Phase.RELEASED


def test_a_release_that_conflicts_is_tried_again_on_what_is_there() -> None:
    one = leader()
    one.tell(Stop(), 1.5)
    assert one.answer(Refusal.CHANGED, 1.6) is Asked.READ
    assert one.found(lease("me", 9), 1.7) is Asked.RELEASE
    assert one.action is not None
    assert one.action.lease is not None
    assert one.action.lease.metadata.resource_version == "9"


def test_a_release_that_gets_no_answer_is_given_up_when_the_lease_counts_no_more() -> None:
    one = leader()
    one.tell(Stop(), 1.5)
    one.answer(Failed, 6.0)
    assert one.tell(Tick(), 8.0) is Asked.RELEASE
    one.tell(Tick(), 10.0)
    assert one.state.phase is Phase.RELEASED


def test_t65_a_conflict_at_a_renewal_is_looked_into_and_no_loss_while_the_holder_is_the_same() -> None:
    one = leader()
    assert one.tell(Tick(), 2.0) is Asked.RENEW
    assert one.answer(Refusal.CHANGED, 2.1) is Asked.READ
    assert one.found(lease("me", 9), 2.2) is Asked.RENEW
    one.answer(Wrote, 2.3)
    assert one.leads
    assert one.rules.believes_until(one.state) == 12.2


def test_a_conflict_that_another_holder_made_is_a_loss_at_once() -> None:
    one = leader()
    one.tell(Tick(), 2.0)
    one.answer(Refusal.CHANGED, 2.1)
    one.found(lease("other", 9), 2.2)
    assert one.state.phase is Phase.LOST


def test_t66_a_deleted_lease_is_made_again_by_its_leader_which_leads_on() -> None:
    one = leader()
    assert one.tell(Noticed(lease("me", 9), gone=True), 1.5) is Asked.READ
    assert one.found(None, 1.6) is Asked.CREATE
    assert one.leads
    one.answer(Wrote, 1.8)
    assert one.leads
    assert one.rules.believes_until(one.state) == 11.6


def test_t66_but_not_if_another_made_it_first() -> None:
    one = leader()
    one.tell(Tick(), 2.0)
    assert one.answer(Refusal.MISSING, 2.1) is Asked.CREATE
    assert one.answer(Refusal.EXISTS, 2.2) is Asked.READ
    one.found(lease("other", 9), 2.3)
    assert one.state.phase is Phase.LOST


def newcomer(**changes: float) -> One:
    """It found no Lease, and made it: sent at second 0, answered at second 1."""
    one = One(**changes)
    one.tell(Tick(), 0.0)
    assert one.found(None, 0.0) is Asked.CREATE
    one.answer(Wrote, 1.0)
    return one


def test_who_makes_a_lease_leads_by_the_first_renewal_sent_a_whole_duration_later() -> None:
    one = newcomer()
    moment = 1.0
    while moment < 15.5:
        moment = one.rules.wakes_at(one.state)
        assert one.tell(Tick(), moment) is Asked.RENEW
        one.answer(Wrote, moment + 0.6)
        assert one.leads == (moment >= 16.0)
    assert one.leads


def test_a_renewal_sent_before_the_probations_end_and_answered_after_it_is_not_yet_enough() -> None:
    one = newcomer()
    one.tell(Tick(), 15.9)
    one.answer(Wrote, 16.5)
    assert not one.leads


def test_who_is_told_that_absence_can_be_trusted_leads_at_once() -> None:
    assert newcomer(trusts_absence=True).leads


def test_a_longer_duration_seen_before_the_lease_went_is_waited_for() -> None:
    one = One()
    one.tell(Watching(True), 0.0)
    one.found(lease("other", 5, duration_s=60), 0.0)
    one.tell(Noticed(lease("other", 6, duration_s=60), gone=True), 1.0)
    assert one.found(None, 1.1) is Asked.CREATE
    one.answer(Wrote, 1.2)
    one.tell(Tick(), 61.1)
    one.answer(Wrote, 61.1)
    assert not one.leads
    one.tell(Tick(), 63.1)
    one.answer(Wrote, 63.1)
    assert one.leads


def test_who_stops_on_probation_leaves_the_lease_to_run_out() -> None:
    one = newcomer()
    assert one.tell(Stop(), 2.0) is None
    assert one.state.phase is Phase.RELEASED


def test_who_finds_itself_named_without_knowing_why_is_on_probation() -> None:
    one = follower()
    assert one.tell(Noticed(lease("me", 6)), 1.0) is Asked.READ
    assert one.found(lease("me", 6), 1.1) is Asked.RENEW
    one.answer(Wrote, 1.2)
    assert not one.leads


def test_an_old_event_of_a_watch_changes_nothing_and_its_own_renewal_is_no_news() -> None:
    one = leader()
    assert one.tell(Noticed(lease("other", 4)), 1.5) is None
    assert one.tell(Tick(), 2.0) is Asked.RENEW
    one.tell(Noticed(lease("me", 7)), 2.1)  # told before the answer came
    assert one.answer(Wrote, 2.2) is None
    assert one.leads


def test_a_flip_that_a_watch_tells_of_is_looked_at_and_ends_the_leadership() -> None:
    one = leader()
    assert one.tell(Noticed(lease("other", 9)), 1.5) is Asked.READ
    one.found(lease("other", 9), 1.6)
    assert one.state.phase is Phase.LOST


def test_what_fails_is_tried_again_after_the_retry_period_and_not_before() -> None:
    one = follower()
    assert one.tell(Noticed(lease("", 6, duration_s=1)), 1.0) is Asked.TAKE
    assert one.answer(Failed, 2.0) is None
    assert one.tell(Tick(), 3.9) is None
    assert one.tell(Tick(), 4.0) is Asked.TAKE


def test_who_loses_the_race_for_a_free_lease_follows() -> None:
    one = follower()
    one.tell(Noticed(lease("", 6, duration_s=1)), 1.0)
    assert one.answer(Refusal.CHANGED, 1.1) is Asked.READ
    one.found(lease("third", 7), 1.2)
    assert one.state.phase is Phase.FOLLOWING
    assert one.rules.wakes_at(one.state) == pytest.approx(16.2)


def empty_lease(version: int) -> Lease:
    metadata = {"name": "widgets", "namespace": "system", "uid": f"u{version}", "resourceVersion": str(version)}
    return Lease.model_validate({"metadata": metadata, "spec": {}})


def test_an_empty_lease_is_free_at_once_unless_somebody_held_the_one_before_it() -> None:
    it = One()
    assert it.tell(Tick(), 0.0) is Asked.READ
    assert it.found(empty_lease(5), 0.1) is Asked.TAKE
    it = One()
    it.tell(Watching(True), 0.0)
    it.found(lease("other", 5), 0.1)
    # Deleted under its leader, and made again: "other" may still believe.
    assert it.tell(Noticed(empty_lease(9)), 2.0) is None
    assert it.tell(Tick(), 16.9) is None
    assert it.tell(Tick(), 17.0) is Asked.TAKE


def test_who_takes_a_lease_and_hears_of_it_too_late_to_believe_it_waits_and_has_lost_nothing() -> None:
    it = One()
    it.tell(Tick(), 0.0)
    it.found(lease("", 5, duration_s=1), 0.1)
    it.answer(Wrote, 10.2)
    assert (it.state.phase, it.leads) == (Phase.PROBATION, False)
