"""Writer: optimistic locks, conflicts, and the options of writes, on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaito.client import AiohttpTransport, ApplyConflict, Client, Config, Conflict, FieldConflict, Invalid
from kaito.kube import ConfigMap, FrozenDict, ObjectKey, ObjectMeta

KEY = ObjectKey("a", "ns")
WIRE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
    "data": {"x": "1"},
}


@pytest.fixture
async def client(server: Any) -> AsyncIterator[Client]:
    server.default = (200, {}, WIRE)
    async with Client(AiohttpTransport(Config(server.url)), field_owner="tests") as opened:
        yield opened


def config_map() -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="a", namespace="ns"), data=FrozenDict(x="1"))


async def test_an_apply_conflict_names_managers_fields_and_the_way_out(server: Any, client: Client) -> None:
    def cause(message: str, field: str) -> dict[str, str]:
        return {"reason": "FieldManagerConflict", "message": message, "field": field}

    causes = [
        cause('conflict with "kubectl" using v1', ".data.x"),
        cause('conflict with "kubectl" using v1', ".data.y"),
        cause('conflict with "an \\"other\\"" with subresource "status" using v1 at 2026-01-02T03:04:05Z', ".data.z"),
    ]
    body = {
        "kind": "Status",
        "code": 409,
        "reason": "Conflict",
        "message": "Apply failed",
        "details": {"causes": causes},
    }
    server.default = (409, {}, body)
    with pytest.raises(ApplyConflict) as raised:
        await client.apply(config_map())
    assert raised.value.conflicts == (
        FieldConflict("kubectl", ".data.x"),
        FieldConflict("kubectl", ".data.y"),
        FieldConflict('an "other"', ".data.z"),
    )
    assert str(raised.value) == (
        'apply configmaps ns/a: 409 Conflict: conflict with "kubectl" over .data.x, .data.y; '
        'conflict with "an "other"" over .data.z. Take the fields over with force=True, or give them up by not '
        "applying them"
    )


@pytest.mark.parametrize(
    ("how", "patch", "sent"),
    [
        ("merge", {"data": {}}, {"data": {}, "metadata": {"resourceVersion": "7"}}),
        (
            "strategic",
            {"metadata": {"labels": {"a": "b"}}},
            {"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}},
        ),
        (
            "json",
            [{"op": "remove", "path": "/data/x"}],
            [
                {"op": "add", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "remove", "path": "/data/x"},
            ],
        ),
    ],
)
async def test_an_optimistic_lock_travels_in_the_patch(
    server: Any, client: Client, how: Any, patch: Any, sent: Any
) -> None:
    await client.patch(ConfigMap, KEY, patch, type=how, resource_version="7")
    await client.status.patch(ConfigMap, KEY, patch, type=how, resource_version="7")
    assert [asked.json for asked in server.asked] == [sent, sent]


async def test_operations_that_no_longer_fit_an_object_that_changed_are_a_conflict(server: Any, client: Client) -> None:
    refused: Any = (422, {}, {"kind": "Status", "code": 422, "reason": "Invalid", "message": "an error in our request"})
    operations = [{"op": "remove", "path": "/data/x"}]
    server.script = [refused, (200, {}, WIRE)]
    with pytest.raises(Conflict, match=r"patch configmaps ns/a: .* at resourceVersion 7, and no longer at 5; read it"):
        await client.patch(ConfigMap, KEY, operations, type="json", resource_version="5")
    server.script = [refused, (200, {}, WIRE)]
    with pytest.raises(Invalid):  # it is the operations that are wrong, not their object
        await client.patch(ConfigMap, KEY, operations, type="json", resource_version="7")
    server.script = [refused]
    with pytest.raises(Invalid):
        await client.patch(ConfigMap, KEY, operations, type="json")
    assert len(server.asked) == 5


async def test_writes_can_be_less_strict_about_fields(server: Any, client: Client) -> None:
    await client.create(config_map(), field_validation="Warn")
    await client.update(config_map(), field_validation="Ignore")
    await client.patch(ConfigMap, KEY, {}, field_validation="Warn", field_owner="another")
    await client.status.apply(config_map(), field_validation="Ignore")
    sent = [asked.query["fieldValidation"] for asked in server.asked]
    assert sent == ["Warn", "Ignore", "Warn", "Ignore"]
    assert server.asked[2].query["fieldManager"] == "another"


async def test_options_that_are_none_are_refused_before_anything_is_sent(server: Any, client: Client) -> None:
    with pytest.raises(ValueError, match="field_validation 'strict': expected one of Strict, Warn, Ignore"):
        await client.create(config_map(), field_validation="strict")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patch: type 'apply': expected one of merge, json, strategic"):
        await client.patch(ConfigMap, KEY, {}, type="apply")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit 0: must be at least 1"):
        await client.list(ConfigMap, limit=0)
    with pytest.raises(ValueError, match="page_size 0: must be at least 1"):
        await anext(client.pages(ConfigMap, page_size=0))
    assert server.asked == []


async def test_collections_are_deleted_with_options_in_the_body(server: Any, client: Client) -> None:
    await client.delete_collection(
        ConfigMap, namespace="ns", labels="a=b", propagation="Orphan", grace_period_s=5, dry_run=True
    )
    (asked,) = server.asked
    assert asked.query == {"labelSelector": "a=b", "dryRun": "All"}
    assert asked.json == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Orphan",
        "gracePeriodSeconds": 5,
        "dryRun": ["All"],
    }


async def test_a_misspelt_option_is_told_the_right_one_and_nothing_is_sent(server: Any, client: Client) -> None:
    wrong: Any = {"dryrun": True}
    for write in (client.create, client.update, client.apply):
        with pytest.raises(TypeError, match="writes have no option 'dryrun'; did you mean dry_run"):
            await write(config_map(), **wrong)
    with pytest.raises(TypeError, match="no option 'x'; there are dry_run, field_owner, field_validation"):
        await client.patch(ConfigMap, KEY, {}, x=1)  # type: ignore[call-arg]
    assert server.asked == []


async def test_a_patch_of_the_wrong_form_is_told_the_right_one_and_nothing_is_sent(server: Any, client: Client) -> None:
    with pytest.raises(TypeError, match="patch configmaps ns/a: a json patch is a list of operations, and this is a m"):
        await client.patch(ConfigMap, KEY, {"op": "add"}, type="json")
    with pytest.raises(
        TypeError, match="a merge patch is a mapping, and this is a list; for operations give type='json'"
    ):
        await client.patch(ConfigMap, KEY, [{"op": "add"}])
    assert server.asked == []
