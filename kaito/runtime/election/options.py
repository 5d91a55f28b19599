"""LeaderElection: where Leases are, who asks for them, and for how long they last."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from kaito.client.config import SERVICE_ACCOUNT_DIR, pod_namespace
from kaito.kube.object_key import ObjectKey

JITTER_FACTOR = 1.2
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class LeaderElection:
    """How the controllers of a manager are elected: one Lease for each, whatever process hosts it.

    Candidates for a Lease should agree on the durations. To take over a crashed leader takes `lease_duration_s`; one
    that stopped in order is followed at once. A leader that cannot renew stops `renew_deadline_s` after its last
    renewal was sent; the rest of the duration is for its last writes to arrive.

    Attributes:
        namespace: of the Leases; default the pod's own. Needed outside of a cluster.
        identity: of this process, unique; default the pod's name (the host's) and something random.
        lease_duration_s: how long others wait for a renewal before they take over; whole seconds in the Lease, rounded
            up.
        renew_deadline_s: how long the leader goes on without one.
        retry_period_s: between two renewals.
        trusts_absence: whoever finds no Lease leads at once, as client-go does. By default it waits for one duration,
            since the Lease may have been deleted under a leader; that is only at the very first start ever.
        exit_hard: when a lease is lost and the process has not ended by the time another may lead, end it with exit
            code 1 from the renewer's thread, whatever its event loop does. For programs.
        admission_fence: have the API server too refuse the writes of pods that are not named in the Lease, by a
            ValidatingAdmissionPolicy for each controller: of what no other controller of the manager writes. Works in
            pods only, and needs the right to install policies. The identity becomes the pod's.

    Raises:
        ValueError: a duration is out of its range.
    """

    namespace: str | None = None
    identity: str = field(default_factory=lambda: unique_identity())
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0
    trusts_absence: bool = False
    exit_hard: bool = False
    admission_fence: bool = False

    def __post_init__(self) -> None:
        # A duration of 1 is what a released Lease says.
        if self.lease_duration_s <= 1:
            raise ValueError(f"leader election: lease_duration_s is {self.lease_duration_s:g}; more than 1 is needed")
        if not 0 < self.renew_deadline_s < self.lease_duration_s:
            raise ValueError(
                f"leader election: renew_deadline_s is {self.renew_deadline_s:g}; it must be more than 0 and less than "
                f"lease_duration_s, which is {self.lease_duration_s:g}"
            )
        if not 0 < self.retry_period_s * JITTER_FACTOR < self.renew_deadline_s:
            raise ValueError(
                f"leader election: retry_period_s is {self.retry_period_s:g}; it must be more than 0, and "
                f"{JITTER_FACTOR:g} times it less than renew_deadline_s, which is {self.renew_deadline_s:g}"
            )
        if not self.identity:
            raise ValueError("leader election: identity is empty; leave it out for the pod's name and something random")

    @property
    def request_timeout_s(self) -> float:
        """How long a request about a Lease may take: a second one must fit into the deadline."""
        return self.renew_deadline_s / 2

    def in_namespace(self, namespace_file: Path = SERVICE_ACCOUNT_DIR / "namespace") -> LeaderElection:
        """The same, with the namespace filled in.

        Args:
            namespace_file: what says the pod's namespace; default where Kubernetes mounts it.

        Raises:
            ValueError: none is given, and the file has none.
        """
        return self if self.namespace else dataclasses.replace(self, namespace=_own_namespace(namespace_file))

    def lease_of(self, manager: str, controller: str) -> ObjectKey:
        """The Lease of a controller.

        Args:
            manager: name of the manager.
            controller: name of the controller.

        Raises:
            ValueError: their names make no name of an object.
        """
        name = f"{manager}-{controller}"
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"leader election: {name!r}, made of the names of manager and controller, is no name for a Lease: "
                f"lower-case letters, digits, - and . are allowed, 253 of them"
            )
        return ObjectKey(name, self.namespace)


def unique_identity() -> str:
    """A name for this process that nobody else has: the pod's (a pod's host name is its own), and something random."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(8)}"


def _own_namespace(file: Path) -> str:
    if namespace := pod_namespace(file):
        return namespace
    raise ValueError(
        f"leader election: no namespace is given for the Leases, and {file} has none, as in a pod; "
        f"set LeaderElection(namespace=…), or --leader-election-namespace"
    )
