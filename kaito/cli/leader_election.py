"""The flags of leader election, and what they come to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kaito.cli.numbers import seconds
from kaito.cli.place import Place

if TYPE_CHECKING:
    from kaito.runtime.election import LeaderElection

LeaderElectOption = Annotated[
    bool | None,
    typer.Option(
        "--leader-elect/--no-leader-elect",
        envvar="KAITO_LEADER_ELECT",
        help="Let each controller work in one process at a time. Default: on in a cluster, off outside.",
    ),
]
LeaseNamespaceOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_LEADER_ELECTION_NAMESPACE",
        help="Namespace of the Leases. Default: that of --namespace.",
    ),
]
LeaseDurationOption = Annotated[
    str,
    typer.Option(
        envvar="KAITO_LEADER_ELECTION_LEASE_DURATION",
        metavar="SECONDS",
        help="How long others wait for a sign of life of the leader before they take over.",
    ),
]
RenewDeadlineOption = Annotated[
    str,
    typer.Option(
        envvar="KAITO_LEADER_ELECTION_RENEW_DEADLINE",
        metavar="SECONDS",
        help="How long a leader goes on that cannot renew its Lease.",
    ),
]
RetryPeriodOption = Annotated[
    str,
    typer.Option(
        envvar="KAITO_LEADER_ELECTION_RETRY_PERIOD", metavar="SECONDS", help="Between two renewals of the Lease."
    ),
]
AdmissionFenceOption = Annotated[
    bool,
    typer.Option(
        "--leader-election-admission-fence",
        envvar="KAITO_LEADER_ELECTION_ADMISSION_FENCE",
        help="Have the API server too refuse what a former leader writes. Needs the right to install policies.",
    ),
]


@dataclass(frozen=True)
class ElectionFlags:
    """The flags of leader election."""

    leader_elect: LeaderElectOption = None
    leader_election_namespace: LeaseNamespaceOption = None
    leader_election_lease_duration: LeaseDurationOption = "15"
    leader_election_renew_deadline: RenewDeadlineOption = "10"
    leader_election_retry_period: RetryPeriodOption = "2"
    leader_election_admission_fence: AdmissionFenceOption = False

    def election(self, place: Place) -> "LeaderElection | None":
        """What the flags come to; None: no election.

        Args:
            place: says whether this is a pod, and which namespace is the manager's.

        Raises:
            ValueError: a duration is no number or makes no sense, or no namespace is known.
        """
        from kaito.runtime.election import LeaderElection

        if not (place.in_cluster if self.leader_elect is None else self.leader_elect):
            return None
        durations = {
            "lease-duration": self.leader_election_lease_duration,
            "renew-deadline": self.leader_election_renew_deadline,
            "retry-period": self.leader_election_retry_period,
        }
        lease_s, deadline_s, retry_s = (
            seconds(f"--leader-election-{name}", text, example="15") for name, text in durations.items()
        )
        return LeaderElection(
            namespace=self.leader_election_namespace or place.own_namespace("--leader-elect", "the Leases"),
            lease_duration_s=lease_s,
            renew_deadline_s=deadline_s,
            retry_period_s=retry_s,
            exit_hard=True,
            admission_fence=self.leader_election_admission_fence,
        )
