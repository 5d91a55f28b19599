"""Garbage collector: deletes what lost its owners, serves foreground and orphan deletion, empties dying namespaces."""

from __future__ import annotations

from kaito.testing.fake_api.actors import Actor
from kaito.testing.fake_api.deletes import FOREGROUND, ORPHAN
from kaito.testing.fake_api.failures import Failure, Json
from kaito.testing.fake_api.kinds import NAMESPACE
from kaito.testing.fake_api.server import FakeApi
from kaito.testing.fake_api.store import Key

_MERGE_PATCH = "application/merge-patch+json"


def garbage_collector(api: FakeApi, *, delay_s: float = 0.5) -> Actor:
    """Starts kube-controller-manager's garbage collector and namespace controller.

    Args:
        api: the server.
        delay_s: seconds from an event to the sweep it leads to.
    """
    return _GarbageCollector(api, collections=None, delay_s=delay_s)


class _GarbageCollector(Actor):
    def act(self) -> None:
        objects = self.api.store.everything()
        alive = {obj["metadata"]["uid"]: key for key, obj in objects}
        for key, obj in objects:
            if self.api.store.get(key) is obj:
                self._tend(key, obj, alive)
        for namespace in self.api.objects(NAMESPACE):
            if "deletionTimestamp" in namespace["metadata"]:
                self._empty(namespace["metadata"]["name"])

    def _tend(self, key: Key, obj: Json, alive: dict[str, Key]) -> None:
        metadata = obj["metadata"]
        finalizers = metadata.get("finalizers", []) if "deletionTimestamp" in metadata else []
        if FOREGROUND in finalizers:
            self._delete_dependents(key, obj)
        elif ORPHAN in finalizers:
            self._release_dependents(key, obj)
        elif owners := metadata.get("ownerReferences"):
            self._check_owners(key, owners, alive)

    def _delete_dependents(self, key: Key, obj: Json) -> None:
        dependents = self._dependents(obj)
        for other, child in dependents:
            self._delete(other, "Foreground" if self._dependents(child) else "Background")
        if not any(_owner(child, obj).get("blockOwnerDeletion") for _, child in dependents):
            self._patch(key, {"finalizers": [one for one in obj["metadata"]["finalizers"] if one != FOREGROUND]})

    def _release_dependents(self, key: Key, obj: Json) -> None:
        for other, child in self._dependents(obj):
            owners = [one for one in child["metadata"]["ownerReferences"] if one["uid"] != obj["metadata"]["uid"]]
            self._patch(other, {"ownerReferences": owners})
        self._patch(key, {"finalizers": [one for one in obj["metadata"]["finalizers"] if one != ORPHAN]})

    def _check_owners(self, key: Key, owners: list[Json], alive: dict[str, Key]) -> None:
        there = [owner for owner in owners if _is_there(alive.get(owner["uid"]), key)]
        if not there:
            self._delete(key, "Background")
        elif len(there) < len(owners):
            self._patch(key, {"ownerReferences": there})

    def _empty(self, namespace: str) -> None:
        contents = [key for key, _ in self.api.store.everything() if key.namespace == namespace]
        for key in contents:
            self._delete(key, "Background")
        if not any(key.namespace == namespace for key, _ in self.api.store.everything()):
            self.api.call("PUT", NAMESPACE.path(None, namespace, "finalize"))

    def _dependents(self, owner: Json) -> list[tuple[Key, Json]]:
        return [(key, obj) for key, obj in self.api.store.everything() if _owner(obj, owner)]

    def _delete(self, key: Key, propagation: str) -> None:
        self._write("DELETE", key, {"propagationPolicy": propagation}, "application/json")

    def _patch(self, key: Key, metadata: Json) -> None:
        self._write("PATCH", key, {"metadata": metadata}, _MERGE_PATCH)

    def _write(self, method: str, key: Key, body: Json, content_type: str) -> None:
        kind = self.api.kinds.of_collection(key.collection)
        if kind is None:  # its CRD went, and its objects are out of reach
            return
        path = kind.type.path(key.namespace or None, key.name)
        try:
            self.api.call(method, path, body, content_type=content_type, manager="garbage-collector")
        except Failure as failure:
            if failure.code != 404:  # gone meanwhile
                raise


def _owner(obj: Json, owner: Json) -> Json:
    """The reference from an object to that owner; empty when there is none."""
    references = obj["metadata"].get("ownerReferences", [])
    return next((one for one in references if one["uid"] == owner["metadata"]["uid"]), {})


def _is_there(owner: Key | None, dependent: Key) -> bool:
    if owner is None:
        return False
    # Across namespaces an owner counts as absent; a cluster-scoped dependent of a namespaced owner is left alone.
    return not owner.namespace or not dependent.namespace or owner.namespace == dependent.namespace
