"""WriteFloors: what each kind of answer to a write makes known, and that none of it stays for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.client import requests
from kaito.client.errors import TransportError
from kaito.client.transport import Request, Response
from kaito.informers.floors import Floor, KindFloors, WriteFloors
from kaito.informers.store import Store
from kaito.kube.core_v1 import ConfigMap, Namespace
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import ResourceType

Json = dict[str, Any]
MAPS = ConfigMap.resource_type
KEY = ObjectKey("a", "ns")


def obj(rv: int, *, uid: str = "u", **metadata: Any) -> Json:
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": str(rv), **metadata},
    }


def put(store: Store, rv: int, uid: str = "u") -> None:
    store.put(json.dumps(obj(rv, uid=uid)).encode())


def remove(store: Store, rv: int, uid: str = "u") -> None:
    store.remove(json.dumps(obj(rv, uid=uid)).encode())


def status(**details: Any) -> Json:
    return {"kind": "Status", "status": "Success", "metadata": {}, "details": details}


def write(
    verb: str, resource: ResourceType = MAPS, key: ObjectKey = KEY, subresource: str = "", **query: str
) -> Request:
    methods = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "get": "GET"}
    return requests.on_object(methods[verb], verb, resource, key, subresource, tuple(query.items()))


async def answer(floors: WriteFloors, request: Request, outcome: tuple[int, Json] | BaseException) -> None:
    async def handler(_: Request) -> Response:
        if isinstance(outcome, BaseException):
            raise outcome
        code, body = outcome
        return Response(code, {}, json.dumps(body).encode())

    if isinstance(outcome, BaseException):
        with pytest.raises(type(outcome)):
            await floors(request, handler)
    else:
        await floors(request, handler)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.mark.parametrize(
    ("request_", "outcome", "expected"),
    [
        (write("create"), (201, obj(7)), Floor(rv=7)),
        (write("update"), (200, obj(7)), Floor(rv=7)),
        (write("patch", subresource="status"), (200, obj(7)), Floor(rv=7)),
        (write("patch", subresource="scale"), (200, {**obj(7), "kind": "Scale"}), Floor(rv=7)),
        (write("create", subresource="eviction"), (201, status()), Floor(unknown=True)),
        (write("create", subresource="token"), (201, {"kind": "TokenRequest", "metadata": {"name": "a"}}), None),
        (write("delete"), (200, status(uid="u")), Floor(gone_uid="u")),
        (write("delete"), (200, obj(7, deletionTimestamp="2024-01-01T00:00:00Z", finalizers=["f"])), Floor(rv=7)),
        (
            write("delete"),
            (200, obj(7, deletionTimestamp="2024-01-01T00:00:00Z", deletionGracePeriodSeconds=30)),
            Floor(rv=7),
        ),
        (write("delete"), (200, obj(7)), Floor(rv=7, gone_uid="u")),
        (
            write("update"),
            (200, obj(7, deletionTimestamp="2024-01-01T00:00:00Z", deletionGracePeriodSeconds=0)),
            Floor(rv=7, gone_uid="u"),
        ),
        (write("update"), (409, status()), None),
        (write("update"), (404, status()), None),
        (write("update"), (422, status()), None),
        (write("update"), (500, status()), Floor(unknown=True)),
        (write("update"), (504, status()), Floor(unknown=True)),
        (write("update"), TransportError("reset", sent=True), Floor(unknown=True)),
        (write("update"), TransportError("refused", sent=False), None),
        (write("update"), asyncio.CancelledError(), Floor(unknown=True)),
        (write("get"), (200, obj(7)), None),
        (write("update", dryRun="All"), (200, obj(7)), None),
        (write("update"), (200, {"what": "is this"}), None),
    ],
)
async def test_each_outcome_of_a_write_raises_the_floor_that_it_proves(
    store: Store, request_: Request, outcome: tuple[int, Json] | BaseException, expected: Floor | None
) -> None:
    put(store, 5)
    floors = WriteFloors()
    kind = floors.of(MAPS, store)
    await answer(floors, request_, outcome)
    assert kind.get("ns/a") == expected


async def test_writes_of_a_kind_that_nobody_caches_are_not_remembered() -> None:
    floors = WriteFloors()
    await answer(floors, write("update"), (200, obj(7)))
    assert not floors.of(MAPS, Store())


async def test_a_generated_name_is_taken_from_the_answer(store: Store) -> None:
    floors = WriteFloors()
    kind = floors.of(MAPS, store)
    request = requests.on_collection("POST", "create", MAPS, "ns", ())
    await answer(floors, request, (201, obj(7)))
    assert kind.get("ns/a") == Floor(rv=7)


async def test_the_key_of_a_cluster_scoped_object_has_no_namespace_whatever_was_asked_with(store: Store) -> None:
    floors = WriteFloors()
    kind = floors.of(Namespace.resource_type, store)
    await answer(floors, write("update", Namespace.resource_type), TransportError("reset", sent=True))
    assert kind.get("a") == Floor(unknown=True)


async def test_two_caches_of_two_versions_of_a_kind_each_keep_the_floor_until_their_own_store_reaches_it() -> None:
    stores = [Store(), Store()]
    floors = WriteFloors()
    older = floors.of(ResourceType("g", "v1alpha1", "K", "ks"), stores[0])
    newer = floors.of(ResourceType("g", "v1beta1", "K", "ks"), stores[1])
    await answer(floors, write("update", ResourceType("g", "v1beta1", "K", "ks")), (200, obj(7)))
    put(stores[0], 7)
    assert older.reached("ns/a")
    assert not newer.reached("ns/a")


def test_a_version_is_reached_by_the_object_itself_or_by_anything_later_of_its_kind(store: Store) -> None:
    floors = KindFloors(store)
    floors.raise_to("ns/a", Floor(rv=7))
    put(store, 6)
    assert not floors.reached("ns/a")
    store.bookmark(7)
    assert floors.reached("ns/a")
    assert not floors


def test_a_floor_that_the_store_has_reached_already_is_not_kept(store: Store) -> None:
    put(store, 9)
    floors = KindFloors(store)
    floors.raise_to("ns/a", Floor(rv=7))
    floors.raise_to("ns/gone", Floor(gone_uid="x"))
    assert not floors


def test_created_and_deleted_before_the_watch_has_said_anything_does_not_come_back(store: Store) -> None:
    floors = KindFloors(store)
    floors.raise_to("ns/a", Floor(rv=7))
    floors.raise_to("ns/a", Floor(gone_uid="u"))
    assert not floors.reached("ns/a")  # not there yet is not gone
    put(store, 7)
    assert not floors.reached("ns/a")
    remove(store, 8)
    assert floors.reached("ns/a")


def test_deleted_and_created_again_is_reached_by_the_new_one_only(store: Store) -> None:
    put(store, 5, "old")
    floors = KindFloors(store)
    floors.raise_to("ns/a", Floor(gone_uid="old"))
    floors.raise_to("ns/a", Floor(rv=9))
    remove(store, 8, "old")
    assert not floors.reached("ns/a")
    put(store, 9, "new")
    assert floors.reached("ns/a")


@given(st.permutations([5, 6, 7, 8]))
def test_answers_that_come_out_of_order_leave_the_highest_version(order: list[int]) -> None:
    floors = KindFloors(Store())
    for rv in order:
        floors.raise_to("ns/a", Floor(rv=rv))
    assert floors.get("ns/a") == Floor(rv=8)


def test_an_unknown_outcome_is_settled_by_a_live_read_and_by_nothing_else(store: Store) -> None:
    floors = KindFloors(store)
    unknown = Floor(unknown=True)
    floors.raise_to("ns/a", unknown)
    put(store, 100)
    assert not floors.reached("ns/a")
    raised = floors.get("ns/a")
    assert raised is not None
    floors.settle("ns/a", raised, Floor(rv=101))
    assert floors.get("ns/a") == Floor(rv=101)


def test_a_live_read_does_not_settle_what_a_later_write_has_raised(store: Store) -> None:
    floors = KindFloors(store)
    floors.raise_to("ns/a", Floor(unknown=True))
    asked_about = floors.get("ns/a")
    assert asked_about is not None
    floors.raise_to("ns/a", Floor(rv=9))
    floors.settle("ns/a", asked_about, Floor(rv=5))
    assert floors.get("ns/a") == Floor(rv=9)


def test_pending_floors_are_those_of_the_namespace_that_are_not_reached(store: Store) -> None:
    floors = KindFloors(store)
    floors.raise_to("ns/a", Floor(rv=7))
    floors.raise_to("ns-2/a", Floor(rv=7))
    floors.raise_to("ns/b", Floor(rv=3))
    store.bookmark(3)
    assert floors.pending("ns") == ["ns/a"]
    assert floors.pending() == ["ns/a", "ns-2/a"]
    assert len(floors) == 2
