"""Actors: what stands for the rest of a cluster; each sees the store's events and acts after a while of loop time.

Start them inside the loop that the test runs in; they end with it, or by `Actor.stop`. Their requests are not logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kaito.testing.fake_api.failures import Failure, Json, qualified
from kaito.testing.fake_api.kinds import DEPLOYMENT, NODE, STATEFUL_SET
from kaito.testing.fake_api.server import FakeApi
from kaito.testing.fake_api.store import Event

_MERGE_PATCH = "application/merge-patch+json"


class Actor:
    """One part of the cluster: wakes after events that concern it and looks at the whole state, never at the event.

    Args:
        api: the server.
        collections: events of which collections wake it; None: all.
        delay_s: seconds from an event to its turn; events in between wake it once.
    """

    def __init__(self, api: FakeApi, *, collections: Sequence[str] | None, delay_s: float) -> None:
        self.api = api
        self._collections = collections
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._timers: dict[object, asyncio.TimerHandle] = {}
        self._unsubscribe = api.store.subscribe(self._on_event)
        self.wake(delay_s)

    def act(self) -> None:
        """Brings the state one step on. Called from the loop; may write."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends it; what it was about to do does not happen. Safe to call twice."""
        self._unsubscribe()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def wake(self, delay_s: float, due: object = None) -> None:
        """Has `act` called after so many seconds, once per `due` however often it is asked for."""
        if due not in self._timers:
            self._timers[due] = self._loop.call_later(delay_s, self._turn, due)

    def _on_event(self, event: Event) -> None:
        if self._collections is None or event.key.collection in self._collections:
            self.wake(self._delay_s)

    def _turn(self, due: object) -> None:
        self._timers.pop(due, None)
        self.act()


def node_agent(api: FakeApi, *, ready_after_s: float = 1.0) -> Actor:
    """Starts what a kubelet, or kwok, does: every Node becomes Ready after so many seconds, with the capacity it has.

    Args:
        api: the server.
        ready_after_s: seconds from a Node's creation to Ready.
    """
    return _NodeAgent(api, ready_after_s)


def deployment_agent(api: FakeApi, *, ready_after_s: float = 1.0) -> Actor:
    """Starts what controllers and kubelets do with a Deployment or StatefulSet, without making its pods.

    Once a Ready Node fits the pod template's nodeSelector and required node affinity, all replicas are ready so many
    seconds later; until then none is. Requests for resources are not looked at.

    Args:
        api: the server.
        ready_after_s: seconds from the first look at a generation to ready replicas.
    """
    return _WorkloadAgent(api, ready_after_s)


class _NodeAgent(Actor):
    def __init__(self, api: FakeApi, ready_after_s: float) -> None:
        self._ready_after_s = ready_after_s
        self._born: dict[str, float] = {}
        super().__init__(api, collections=["nodes"], delay_s=0.0)

    def act(self) -> None:
        for node in self.api.objects(NODE):
            if is_ready(node) or "deletionTimestamp" in node["metadata"]:
                continue
            uid = node["metadata"]["uid"]
            due_s = self._born.setdefault(uid, self._loop.time()) + self._ready_after_s
            if self._loop.time() < due_s:
                self.wake(due_s - self._loop.time(), uid)
            else:
                self._make_ready(node)

    def _make_ready(self, node: Json) -> None:
        status = node.get("status", {})
        capacity = status.get("capacity", {})
        others = [one for one in status.get("conditions", []) if one["type"] != "Ready"]
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "posting ready status"}
        new = {
            "capacity": capacity,
            "allocatable": status.get("allocatable", capacity),
            "phase": "Running",
            "conditions": [*others, ready],
        }
        _patch_status(self.api, NODE.path(None, node["metadata"]["name"], "status"), new)


class _WorkloadAgent(Actor):
    def __init__(self, api: FakeApi, ready_after_s: float) -> None:
        self._ready_after_s = ready_after_s
        self._placed: dict[tuple[str, int], float] = {}
        collections = [qualified(DEPLOYMENT), qualified(STATEFUL_SET), qualified(NODE)]
        super().__init__(api, collections=collections, delay_s=0.0)

    def act(self) -> None:
        for kind in (DEPLOYMENT, STATEFUL_SET):
            for workload in self.api.objects(kind):
                metadata = workload["metadata"]
                path = kind.path(metadata["namespace"], metadata["name"], "status")
                self._look_at(workload, path)

    def _look_at(self, workload: Json, path: str) -> None:
        metadata = workload["metadata"]
        seen = (metadata["uid"], metadata["generation"])
        placed = any(is_ready(node) and fits(workload["spec"].get("template", {}), node) for node in self._nodes())
        if not placed:
            self._placed.pop(seen, None)
            _patch_status(self.api, path, _workload_status(workload, ready=0))
            return
        due_s = self._placed.setdefault(seen, self._loop.time()) + self._ready_after_s
        if self._loop.time() < due_s:
            _patch_status(self.api, path, _workload_status(workload, ready=0))
            self.wake(due_s - self._loop.time(), seen)
        else:
            _patch_status(self.api, path, _workload_status(workload, ready=workload["spec"].get("replicas", 1)))

    def _nodes(self) -> list[Json]:
        return self.api.objects(NODE)


def is_ready(node: Json) -> bool:
    """Whether a Node's Ready condition is True."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def fits(template: Json, node: Json) -> bool:
    """Whether a Node satisfies a pod template's nodeSelector and required node affinity."""
    spec, labels = template.get("spec", {}), node["metadata"].get("labels", {})
    if any(labels.get(name) != value for name, value in spec.get("nodeSelector", {}).items()):
        return False
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    return not terms or any(_term_fits(term, labels, node["metadata"]["name"]) for term in terms)


def _term_fits(term: Json, labels: dict[str, str], name: str) -> bool:
    fields = {"metadata.name": name}
    return all(_requirement_holds(one, labels) for one in term.get("matchExpressions", [])) and all(
        _requirement_holds(one, fields) for one in term.get("matchFields", [])
    )


def _requirement_holds(requirement: Json, labels: dict[str, str]) -> bool:
    have, values = labels.get(requirement["key"]), requirement.get("values", [])
    match requirement["operator"]:
        case "In":
            return have in values
        case "NotIn":
            return have not in values
        case "Exists":
            return have is not None
        case "DoesNotExist":
            return have is None
        case other:
            raise ValueError(f"node affinity operator {other!r} is not simulated")


def _workload_status(workload: Json, *, ready: int) -> Json:
    wanted = workload["spec"].get("replicas", 1)
    available = {"type": "Available", "status": "True" if ready >= wanted else "False", "reason": "Simulated"}
    return {
        "observedGeneration": workload["metadata"]["generation"],
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [available],
    }


def _patch_status(api: FakeApi, path: str, status: Json) -> None:
    try:
        api.call("PATCH", path, {"status": status}, content_type=_MERGE_PATCH, manager="actor")
    except Failure as failure:
        if failure.code != 404:  # gone meanwhile
            raise
