"""Seen: what of a Workspace was found in the cluster, and what could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from kaito.api.kaito_v1beta1 import Workspace
from kaito.controllers.claims import Claim
from kaito.kube.apps_v1 import Deployment, ReplicaSet, StatefulSet
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.events_v1 import Event


class Right(NamedTuple):
    """A right that whoever asks has not.

    Attributes:
        verb: get or list.
        resource: as RBAC names it, such as ``pods/log``.
        namespace: where; None: in the whole cluster.
    """

    verb: str
    resource: str
    namespace: str | None

    def __str__(self) -> str:
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {self.resource} {where}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found of a Workspace.

    Attributes:
        workspace: the Workspace.
        now: when it was looked at.
        claims: Machines and NodeClaims that were made for it.
        nodes: those that it has, or that its pods are on.
        nodes_gone: names of nodes that are spoken of and are not there.
        workloads: its Deployment or StatefulSet; for a while both.
        replica_sets: of the Deployment.
        pods: of the workloads.
        events: Warning events of the namespace, and of what lies in none.
        withheld: what could not be looked at.
    """

    workspace: Workspace
    now: datetime
    claims: tuple[Claim, ...] = ()
    nodes: tuple[Node, ...] = ()
    nodes_gone: frozenset[str] = frozenset()
    workloads: tuple[Deployment | StatefulSet, ...] = ()
    replica_sets: tuple[ReplicaSet, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    withheld: tuple[Right, ...] = ()

    def is_withheld(self, *resources: str) -> bool:
        """Whether one of these resources could not be looked at."""
        return any(right.resource in resources for right in self.withheld)

    def age(self, moment: datetime | None) -> float:
        """Seconds since a moment; 0 when it is not known."""
        return max(0.0, (self.now - moment).total_seconds()) if moment is not None else 0.0

    def since(self, moment: datetime | None) -> str:
        """`` 3 min ago``, to be put behind a word; empty when the moment is not known."""
        return f" {duration(self.age(moment))} ago" if moment is not None else ""

    def lasting(self, moment: datetime | None) -> str:
        """`` for 3 min``, to be put behind a word; empty when the moment is not known."""
        return f" for {duration(self.age(moment))}" if moment is not None else ""


def duration(seconds: float) -> str:
    """A length of time in its two largest units at most: ``45 s``, ``3 min``, ``2 h 5 min``, ``4 d``."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{days} d"
