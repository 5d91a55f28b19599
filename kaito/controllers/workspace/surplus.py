"""Surplus: which of a Workspace's claims go when fewer are wanted, and when: never from under a pod that stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.claims import Claim
from kaito.controllers.machine.node import is_ready
from kaito.controllers.workspace.pods import PodPlaces, pod_places
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey


@dataclass(frozen=True, slots=True)
class Place:
    """A claim on record, and what its node is good for.

    Attributes:
        wanted: the claim on record.
        node: its node; empty if it has none yet.
        going: whether it is being deleted, or was lost.
        works: whether it and its node are ready.
        open: whether the node takes new pods.
        used: whether a pod is on it that stays.
        leaving: whether a pod is on it that is on its way out.
    """

    wanted: WantedClaim
    node: str = ""
    going: bool = False
    works: bool = False
    open: bool = False
    used: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Surplus:
    """How the claims on record divide when they are more than are wanted.

    Attributes:
        kept: names of those that stay; all of them if they are not too many.
        released: names of those that may go now.
        held: names of those that go once no pod needs them.
    """

    kept: frozenset[str]
    released: frozenset[str] = frozenset()
    held: tuple[str, ...] = ()


def divide(places: Sequence[Place], count: int, *, settled: bool) -> Surplus:
    """Decides which claims stay. Pure.

    A node that works stays before one that does not, one with a pod that stays before one without, one that takes pods
    before a cordoned one, and else the lower ordinal: claims' and pods' ordinals need not match, and a pod that has
    loaded its model shall not have to do so again.

    Args:
        places: the claims on record.
        count: how many are wanted.
        settled: whether every pod that stays has its node, so that none comes to a node that is free now.
    """
    best = sorted(places, key=_worth)
    kept, others = best[:count], best[count:]
    released = [place for place in others if _is_free(place, settled)]
    held = [place.wanted.name for place in others if place not in released]
    return Surplus(_names(kept), _names(released), tuple(held))


def _worth(place: Place) -> tuple[bool, bool, bool, bool, int]:
    return place.going, not place.works, not place.used, not place.open, place.wanted.ordinal


def _is_free(place: Place, settled: bool) -> bool:
    if place.going or not place.node or not place.works:
        return True
    return settled and not place.used and not place.leaving


def _names(places: Iterable[Place]) -> frozenset[str]:
    return frozenset(place.wanted.name for place in places)


async def find_surplus(
    client: Client, workspace: Workspace, count: int, claims: Iterable[Claim], lost: Collection[str] = ()
) -> Surplus:
    """Looks at claims, nodes and pods, and divides the claims on record.

    Args:
        client: reads, from a cache: what it does not know yet only makes us wait.
        workspace: with its record.
        count: how many claims are wanted.
        claims: its claims.
        lost: names of claims that there were, and are no more.
    """
    recorded = workspace.status.node_claims
    if len(recorded) <= count:
        return Surplus(frozenset(wanted.name for wanted in recorded))
    pods = await pod_places(client, workspace, count)
    by_name = {claim.metadata.name: claim for claim in claims}
    places = [await _place(client, wanted, by_name, pods, lost) for wanted in recorded]
    return divide(places, count, settled=pods.settled)


async def _place(
    client: Client, wanted: WantedClaim, claims: Mapping[str, Claim], pods: PodPlaces, lost: Collection[str]
) -> Place:
    claim = claims.get(wanted.name)
    if claim is None:
        return Place(wanted, going=wanted.name in lost)
    name = claim.status.node_name or ""
    node = await _node(client, name)
    return Place(
        wanted,
        name,
        going=claim.metadata.deletion_timestamp is not None,
        works=node is not None and is_ready(node) and is_true(claim.status.conditions, keys.READY),
        open=node is not None and not node.spec.unschedulable,
        used=name in pods.staying,
        leaving=name in pods.leaving,
    )


async def _node(client: Client, name: str) -> Node | None:
    if not name:
        return None
    try:
        return await client.get(Node, ObjectKey(name))
    except NotFound:
        return None
