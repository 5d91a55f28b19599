"""Seen: what of a Workspace was found in the cluster, and what could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kaito.api.kaito_v1beta1 import Workspace
from kaito.cli.rights import Right
from kaito.controllers.claims import Claim
from kaito.kube.apps_v1 import Deployment, ReplicaSet, StatefulSet
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.events_v1 import Event


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
        user: who was refused that, as the API server names them; empty if it does not.
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
    user: str = ""

    def is_withheld(self, *resources: str) -> bool:
        """Whether one of these resources could not be looked at."""
        return self.needs(*resources) != ""

    def needs(self, *resources: str) -> str:
        """Why the first of these that could not be looked at could not; empty: all could."""
        right = next((each for each in self.withheld if each.resource in resources), None)
        return f"you may not look at it: that needs the right to {right.verb} {right.resource}" if right else ""

    def age(self, moment: datetime | None) -> float:
        """Seconds since a moment; 0 when it is not known."""
        return max(0.0, (self.now - moment).total_seconds()) if moment is not None else 0.0

    def since(self, moment: datetime | None) -> str:
        """`` 3 min ago``, to be put behind a word; empty when the moment is not known."""
        return f" {duration(self.age(moment))} ago" if moment is not None else ""

    def lasting(self, moment: datetime | None) -> str:
        """`` for 3 min``, to be put behind a word; empty when the moment is not known."""
        return f" for {duration(self.age(moment))}" if moment is not None else ""


def happened_at(event: Event) -> datetime | None:
    """When an event happened last."""
    if event.series is not None:
        return event.series.last_observed_time
    if event.event_time is not None:
        return event.event_time
    # Kubelets still write events of the old kind, whose times have other names.
    raw = event.to_dict()
    old = raw.get("deprecatedLastTimestamp") or raw.get("deprecatedFirstTimestamp")
    return datetime.fromisoformat(old) if old else event.metadata.creation_timestamp


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
