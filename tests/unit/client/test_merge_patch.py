"""The merge patch between two values: names of the wire, what is unset goes, and applied it gives what was wanted."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.client import Client, merge_patch
from kaito.kube import Condition, FrozenDict, FrozenMap, KubeModel, ObjectMeta, Resource
from kaito.testing import FakeApi, virtual_clock


class Inner(KubeModel):
    one_two: int = 0
    three: str = ""


class Status(KubeModel):
    ready_replicas: int = 0
    message: str = ""
    inner: Inner = Inner()
    labels: FrozenMap[str, str] = FrozenDict()
    conditions: tuple[Condition, ...] = ()


class Thing(Resource, group="example.com", version="v1"):
    status: Status = Status()


READY = Condition(type="Ready", status="True", reason="Up", observed_generation=2)
STATES = [
    Status(),
    Status(ready_replicas=0),
    Status(ready_replicas=3, message="waits"),
    Status(inner=Inner(one_two=1, three="x"), labels=FrozenDict(a="1", b="2")),
    Status(inner=Inner(one_two=2), labels=FrozenDict(b="3"), conditions=(READY,)),
]


def test_names_are_those_of_the_wire_and_what_is_unset_is_taken_away() -> None:
    before, after = Status(ready_replicas=3, message="waits"), Status(ready_replicas=0)
    assert merge_patch(before, after) == {"readyReplicas": 0, "message": None}
    assert merge_patch(Status(), Status(conditions=(READY,))) == {
        "conditions": [{"type": "Ready", "status": "True", "reason": "Up", "observedGeneration": 2}]
    }


@pytest.mark.parametrize("state", STATES)
def test_without_a_difference_it_is_empty(state: Status) -> None:
    assert merge_patch(state, state.edit()) == {}


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_applied_by_an_api_server_it_gives_what_was_wanted(before: Status, after: Status) -> None:
    async def main() -> dict[str, Any]:
        api = FakeApi()
        api.register(Thing)
        async with Client(api.transport(), field_owner="tests") as client:
            made = await client.create(Thing(metadata=ObjectMeta(name="a", namespace="default")))
            made = await client.status.patch(Thing, made.key, {"status": before.to_dict()})
            patch = {"status": merge_patch(made.status, after)}
            return (await client.status.patch(Thing, made.key, patch)).status.to_dict()

    found = virtual_clock.run(main())
    assert Status.model_validate(found) == Status.model_validate(after.to_dict())
