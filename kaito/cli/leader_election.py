"""The flags of leader election, and what they come to."""

from typing import TYPE_CHECKING, Annotated

import typer

from kaito.cli.numbers import seconds

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
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_LEADER_ELECTION_NAMESPACE",
        help="Namespace of the Leases. Default: the pod's own; needed outside of a cluster.",
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


def leader_election(
    wanted: bool | None,
    namespace: str | None,
    durations: tuple[str, str, str],
    admission_fence: bool,
    *,
    in_cluster: bool,
) -> "LeaderElection | None":
    """What the flags come to; None: no election.

    Args:
        wanted: whether; None: in a cluster.
        namespace: of the Leases; None: the pod's.
        durations: lease duration, renew deadline and retry period, in seconds.
        admission_fence: whether the API server refuses too.
        in_cluster: whether this is a pod.

    Raises:
        ValueError: a duration is no number or makes no sense, or no namespace is known.
    """
    from kaito.runtime.election import LeaderElection

    if not (in_cluster if wanted is None else wanted):
        return None
    names = ("lease-duration", "renew-deadline", "retry-period")
    lease_s, deadline_s, retry_s = (
        seconds(f"--leader-election-{name}", text, example="15") for name, text in zip(names, durations, strict=True)
    )
    return LeaderElection(
        namespace=namespace,
        lease_duration_s=lease_s,
        renew_deadline_s=deadline_s,
        retry_period_s=retry_s,
        exit_hard=True,
        admission_fence=admission_fence,
    ).in_namespace()
