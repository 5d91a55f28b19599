"""The flags of leader election: on in a cluster unless told otherwise, and what they refuse."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from kaito.cli.app import app
from kaito.cli.leader_election import ElectionFlags
from kaito.cli.place import Place


class Somewhere(Place):
    """A place that is a pod, or is none."""

    def __init__(self, in_cluster: bool) -> None:
        super().__init__(namespace="system")
        object.__setattr__(self, "_in_cluster", in_cluster)

    @property
    def in_cluster(self) -> bool:
        return bool(self.__dict__["_in_cluster"])


@pytest.mark.parametrize(
    ("wanted", "in_cluster", "elects"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_it_is_on_in_a_cluster_and_off_outside_unless_told_otherwise(
    wanted: bool | None, in_cluster: bool, elects: bool
) -> None:
    found = ElectionFlags(leader_elect=wanted).election(Somewhere(in_cluster))
    assert (found is not None) is elects


def test_a_process_that_loses_its_lease_ends_hard_if_it_must() -> None:
    found = ElectionFlags(True, None, "6", "4", "1", True).election(Somewhere(False))
    assert found is not None
    assert (found.lease_duration_s, found.renew_deadline_s, found.retry_period_s) == (6.0, 4.0, 1.0)
    assert (found.namespace, found.exit_hard, found.admission_fence) == ("system", True, True)


def test_the_leases_can_lie_elsewhere_than_the_rest() -> None:
    found = ElectionFlags(True, "elections").election(Somewhere(False))
    assert found is not None
    assert found.namespace == "elections"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--leader-elect: no namespace is known for the Leases, since this is no pod; give --namespace"),
        (
            ("--leader-election-namespace", "x", "--leader-election-lease-duration", "soon"),
            "--leader-election-lease-duration is 'soon'; give a number of seconds, such as 15",
        ),
        (
            ("--leader-election-namespace", "x", "--leader-election-renew-deadline", "20"),
            "renew_deadline_s is 20; it must be more than 0 and less than lease_duration_s, which is 15",
        ),
    ],
)
def test_what_cannot_work_ends_the_command_with_one_line(arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(app, ["manager", "--cloud", "kwok", "--leader-elect", *arguments])
    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
