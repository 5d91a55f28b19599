"""kaito.kube.conditions: transitions as Kubernetes has them, roots as Karpenter and Knative compute them."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kaito.api import keys
from kaito.api.karpenter_v1 import NodeClaimCondition
from kaito.api.karpenter_v1alpha5 import MachineCondition
from kaito.kube import Condition, is_true, set_condition
from kaito.kube.conditions import ConditionSet, Verdict, find, knative_root, remove_condition, same_conditions

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
STATUSES = get_args(Condition.model_fields["status"].annotation)

NODE_CLAIM = ConditionSet(NodeClaimCondition, keys.READY, keys.NODE_CLAIM_DEPENDENTS)
MACHINE = ConditionSet(MachineCondition, keys.READY, keys.MACHINE_DEPENDENTS, knative_root)


def condition(name: str, status: str, reason: str = "Why") -> Condition:
    return Condition.model_validate({"type": name, "status": status, "reason": reason})


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = set_condition((), condition("Ready", "False"), NOW)
    same = set_condition(first, condition("Ready", "False", "Other"), LATER)
    turned = set_condition(same, condition("Ready", "True"), LATER)
    assert [c.last_transition_time for c in (first[0], same[0], turned[0])] == [NOW, NOW, LATER]
    assert same[0].reason == "Other"


def test_a_transition_time_that_is_given_counts_when_the_status_changes() -> None:
    before = set_condition((), condition("Ready", "False"), NOW)
    given_time = condition("Ready", "True").model_copy(update={"last_transition_time": NOW - timedelta(hours=1)})
    assert set_condition(before, given_time, LATER)[0].last_transition_time == NOW - timedelta(hours=1)


def test_times_are_cut_to_the_second_that_the_wire_keeps() -> None:
    conditions = set_condition((), condition("Ready", "True"), NOW.replace(microsecond=999999))
    assert conditions[0].last_transition_time == NOW


def test_reading() -> None:
    conditions = set_condition(set_condition((), condition("A", "True"), NOW), condition("B", "Unknown"), NOW)
    assert is_true(conditions, "A")
    assert not is_true(conditions, "B")
    assert not is_true(conditions, "C")
    assert find(conditions, "C") is None
    assert [c.type for c in remove_condition(conditions, "A")] == ["B"]


def test_lists_that_differ_in_times_and_order_alone_say_the_same() -> None:
    one = (condition("A", "True"), condition("B", "True"))
    other = tuple(c.model_copy(update={"last_transition_time": NOW}) for c in reversed(one))
    assert same_conditions(one, other)
    assert not same_conditions(one, (condition("A", "True"), condition("B", "False")))
    assert not same_conditions(one, one[:1])


def test_a_fresh_node_claim_awaits_reconciliation_since_its_creation() -> None:
    conditions = NODE_CLAIM.initialize((), NOW, generation=1)
    assert [c.type for c in conditions] == ["Initialized", "Launched", "Registered", "Ready"]
    assert {c.last_transition_time for c in conditions} == {NOW}
    assert {(c.status, c.reason) for c in conditions[:3]} == {("Unknown", "AwaitingReconciliation")}
    root = conditions[-1]
    assert (root.status, root.reason) == ("Unknown", "ReconcilingDependents")
    assert root.message == "Launched=Unknown, Registered=Unknown, Initialized=Unknown"


def test_initializing_again_changes_nothing() -> None:
    conditions = NODE_CLAIM.set_true(NODE_CLAIM.initialize((), NOW, 1), keys.LAUNCHED, LATER, 1)
    assert NODE_CLAIM.initialize(conditions, NOW, 1) == conditions


def test_a_node_claim_is_ready_when_all_dependents_are_true() -> None:
    conditions = NODE_CLAIM.initialize((), NOW, 1)
    for name in keys.NODE_CLAIM_DEPENDENTS:
        conditions = NODE_CLAIM.set_true(conditions, name, LATER, 1)
    root = conditions[-1]
    assert (root.type, root.status, root.reason, root.message) == ("Ready", "True", "Ready", "")
    assert root.last_transition_time == LATER


def test_an_unhealthy_dependent_makes_the_root_false_and_is_named() -> None:
    conditions = NODE_CLAIM.set(
        NODE_CLAIM.initialize((), NOW, 1), keys.LAUNCHED, Verdict("False", "LaunchFailed", "no quota"), LATER, 1
    )
    root = conditions[-1]
    assert (root.status, root.reason) == ("False", "UnhealthyDependents")
    assert root.message == "Launched=False, Registered=Unknown, Initialized=Unknown"


def test_what_was_observed_of_an_older_generation_counts_as_unknown() -> None:
    conditions = NODE_CLAIM.initialize((), NOW, 1)
    for name in keys.NODE_CLAIM_DEPENDENTS:
        conditions = NODE_CLAIM.set_true(conditions, name, NOW, 1)
    conditions = NODE_CLAIM.set_true(conditions, keys.LAUNCHED, LATER, 2)
    assert (conditions[-1].status, conditions[-1].message) == ("Unknown", "Registered=Unknown, Initialized=Unknown")


def test_a_condition_that_stands_alone_leaves_the_root_alone() -> None:
    before = NODE_CLAIM.initialize((), NOW, 1)
    after = NODE_CLAIM.set(before, keys.DRIFTED, Verdict("True", "AMIDrift"), LATER, 1)
    assert after[-1] == before[-1]


def test_a_machines_root_copies_why_its_worst_dependent_is_so() -> None:
    conditions = MACHINE.initialize((), NOW)
    conditions = MACHINE.set(conditions, keys.MACHINE_REGISTERED, Verdict("False", "Gone", "node is gone"), LATER)
    root = conditions[-1]
    assert (root.status, root.reason, root.message) == ("False", "Gone", "node is gone")
    assert root.model_extra == {}


@pytest.mark.parametrize("statuses", list(itertools.product(STATUSES, repeat=3)))
def test_both_eras_agree_on_the_roots_status(statuses: tuple[str, str, str]) -> None:
    machine, claim = MACHINE.initialize((), NOW), NODE_CLAIM.initialize((), NOW, 1)
    for old, new, status in zip(keys.MACHINE_DEPENDENTS, keys.NODE_CLAIM_DEPENDENTS, statuses, strict=True):
        machine = MACHINE.set(machine, old, Verdict(status, "Why"), LATER)
        claim = NODE_CLAIM.set(claim, new, Verdict(status, "Why"), LATER, 1)
    expected = "True" if set(statuses) == {"True"} else "False" if "False" in statuses else "Unknown"
    assert (machine[-1].status, claim[-1].status) == (expected, expected)


@given(st.permutations(["A", "B", "C"]))
def test_the_same_facts_make_the_same_list_in_whatever_order_they_came(names: list[str]) -> None:
    conditions: tuple[Condition, ...] = ()
    for name in names:
        conditions = set_condition(conditions, condition(name, "True"), NOW)
    assert [c.type for c in conditions] == ["A", "B", "C"]


class Transitions(RuleBasedStateMachine):
    """Sets conditions at random and keeps book of when each status began."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.conditions: tuple[Condition, ...] = ()
        self.began: dict[str, tuple[str, datetime]] = {}

    @rule(name=st.sampled_from(["A", "B"]), status=st.sampled_from(STATUSES), wait_s=st.integers(0, 3))
    def set(self, name: str, status: str, wait_s: int) -> None:
        self.now += timedelta(seconds=wait_s)
        before = self.conditions
        self.conditions = set_condition(before, condition(name, status), self.now)
        if self.began.get(name, ("", NOW))[0] != status:
            self.began[name] = (status, self.now)
        else:
            assert same_conditions(before, self.conditions)

    @invariant()
    def holds_what_was_set(self) -> None:
        held = {c.type: (c.status, c.last_transition_time) for c in self.conditions}
        assert held == self.began


TestTransitions = Transitions.TestCase


@pytest.mark.parametrize(
    ("name", "reason", "text"),
    [
        ("Not ready", "Why", "condition type 'Not ready'"),
        ("T" * 317, "Why", "condition type"),
        ("Ready", "", "condition Ready: reason is ''"),
        ("Ready", "not camel", "reason is 'not camel'; expected CamelCase"),
        ("Ready", "R" * 1025, "1 to 1024 long"),
    ],
)
def test_what_the_api_would_refuse_is_refused_where_it_is_set(name: str, reason: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        set_condition((), condition(name, "True", reason), NOW)


def test_a_message_that_is_too_long_is_cut() -> None:
    long = condition("example.com/Ready", "True").model_copy(update={"message": "ä" * 40_000})
    (cut,) = set_condition((), long, NOW)
    assert cut.message == "ä" * 32_767 + "…"
