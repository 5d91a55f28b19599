"""LeaderElection: what is refused and why, whose Lease is whose, and who asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaito.kube.object_key import ObjectKey
from kaito.runtime.election import LeaderElection
from kaito.runtime.election.clock import uptime_s
from kaito.runtime.election.options import unique_identity


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lease_duration_s": 1.0}, "lease_duration_s is 1; more than 1 is needed"),
        ({"renew_deadline_s": 15.0}, "renew_deadline_s is 15; it must be more than 0 and less than lease_duration_s"),
        ({"renew_deadline_s": 0.0}, "renew_deadline_s is 0; it must be more than 0"),
        ({"retry_period_s": 9.0}, "retry_period_s is 9; it must be more than 0, and 1.2 times it less than"),
        ({"retry_period_s": 0.0}, "retry_period_s is 0"),
        ({"identity": ""}, "identity is empty"),
    ],
)
def test_durations_that_cannot_work_are_refused_by_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LeaderElection(**given)


def test_the_defaults_are_client_gos() -> None:
    it = LeaderElection()
    assert (it.lease_duration_s, it.renew_deadline_s, it.retry_period_s) == (15.0, 10.0, 2.0)


def test_a_lease_is_named_after_manager_and_controller_and_stands_in_the_pods_namespace(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("kaito-system\n")
    it = LeaderElection().in_namespace(tmp_path / "namespace")
    assert it.lease_of("kaito", "machine") == ObjectKey("kaito-machine", "kaito-system")
    assert LeaderElection(namespace="x").lease_of("kaito", "machine") == ObjectKey("kaito-machine", "x")


def test_without_a_namespace_it_says_where_one_was_looked_for_and_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none, as in a pod; set LeaderElection\(namespace=…\)"):
        LeaderElection().in_namespace(tmp_path / "namespace")


def test_a_name_that_no_object_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="'My Manager-x', made of the names of manager and controller, is no name"):
        LeaderElection(namespace="x").lease_of("My Manager", "x")


def test_no_two_processes_have_one_identity_and_it_begins_with_the_pods_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "manager-0")
    assert unique_identity().startswith("manager-0_")
    assert unique_identity() != unique_identity()


def test_the_clock_counts_up() -> None:
    assert uptime_s() <= uptime_s()
