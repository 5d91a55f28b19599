"""The finer points of the verbs, and the subresources, against a real API server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging

import pytest

from kaito.client import (
    ApplyConflict,
    BadRequest,
    Client,
    Conflict,
    FieldConflict,
    Invalid,
    NotFound,
    TooManyRequests,
)
from kaito.client.writer import Patch, PatchType
from kaito.kube import ConfigMap, Deployment, ObjectKey, Pod, Unstructured
from kaito.kube.core_v1 import ServiceAccount
from kaito.kube.meta_v1 import ObjectMeta, OwnerReference
from kaito.testing import eventually
from tests.integration.test_client import config_map, deployment

Budget = Unstructured("policy/v1", "PodDisruptionBudget")


OPERATIONS = [{"op": "replace", "path": "/data/x", "value": "3"}]


@pytest.mark.parametrize(
    ("how", "patch"), [("merge", {"data": {"x": "3"}}), ("strategic", {"data": {"x": "3"}}), ("json", OPERATIONS)]
)
async def test_t71_a_patch_with_an_optimistic_lock_is_refused_once_the_object_changed(
    client: Client, namespace: str, how: PatchType, patch: Patch
) -> None:
    made = await client.create(config_map(namespace, x="1"))
    version = made.metadata.resource_version
    current = await client.patch(ConfigMap, made.key, {"data": {"x": "2"}}, resource_version=version)
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.patch(ConfigMap, made.key, patch, type=how, resource_version=version)
    assert (await client.get(ConfigMap, made.key)).data == {"x": "2"}
    version = current.metadata.resource_version
    assert (await client.patch(ConfigMap, made.key, patch, type=how, resource_version=version)).data == {"x": "3"}


async def test_t71_operations_that_no_longer_fit_are_a_conflict_too(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, x="1"))
    version = made.metadata.resource_version
    await client.patch(ConfigMap, made.key, {"data": {"x": None}})
    operations = [{"op": "remove", "path": "/data/x"}]
    with pytest.raises(Conflict, match="which changed"):
        await client.patch(ConfigMap, made.key, operations, type="json", resource_version=version)


async def test_t72_status_and_spec_are_written_apart(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace))
    draft = made.edit()
    draft.spec.replicas = 1
    draft.status.observed_generation = 70
    draft.metadata.resource_version = ""  # whatever the Deployment's controller wrote meanwhile
    updated = await client.update(draft)
    assert (updated.spec.replicas, updated.status.observed_generation == 70) == (1, False)
    for _ in range(10):  # the Deployment's own controller writes its status too
        draft = (await client.status.get(Deployment, made.key)).edit()
        draft.spec.replicas = 9
        draft.status.observed_generation = 70
        try:
            written = await client.status.update(draft)
            break
        except Conflict:
            continue
    assert (written.spec.replicas, written.status.observed_generation) == (1, 70)


async def test_t73_an_apply_conflict_names_managers_and_fields_and_force_takes_over(
    client: Client, namespace: str
) -> None:
    await client.apply(config_map(namespace, x="1", y="1"))
    await client.apply(config_map(namespace, z="1"), field_owner='o"ther', force=True)
    with pytest.raises(ApplyConflict) as raised:
        await client.apply(config_map(namespace, x="2", z="2"), field_owner="third")
    assert sorted(raised.value.conflicts) == [FieldConflict('o"ther', ".data.z"), FieldConflict("tests", ".data.x")]
    text = str(raised.value)
    for part in ('"tests" over .data.x', "over .data.z", "force=True", f"apply configmaps {namespace}/a"):
        assert part in text
    taken = await client.apply(config_map(namespace, x="2", z="2"), field_owner="third", force=True)
    assert taken.object.data == {"x": "2", "y": "1", "z": "2"}
    # What only one manager had goes when that one no longer applies it.
    assert (await client.apply(config_map(namespace))).object.data == {"x": "2", "z": "2"}


async def test_unknown_fields_are_refused_warned_of_or_dropped(
    client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire = {"metadata": {"name": "a", "namespace": namespace}, "dta": {"x": "1"}}
    misspelt = ConfigMap.model_validate(wire)
    with pytest.raises(BadRequest, match='unknown field "dta"'):
        await client.create(misspelt)
    with caplog.at_level(logging.WARNING):
        await client.create(misspelt, field_validation="Warn")
        assert [getattr(record, "warning", "") for record in caplog.records] == ['unknown field "dta"']
        await client.update(misspelt, field_validation="Ignore")
    assert len(caplog.records) == 1
    with pytest.raises(Invalid, match='unknown field "dta"'):
        await client.patch(ConfigMap, misspelt.key, {"dta": {}})


async def test_pages_come_one_by_one_and_lists_stop_at_their_limit(client: Client, namespace: str) -> None:
    await asyncio.gather(*(client.create(config_map(namespace, f"m{number}")) for number in range(7)))
    pages = [page async for page in client.pages(ConfigMap, namespace=namespace, labels="t=1", page_size=3)]
    assert [[obj.metadata.name for obj in page] for page in pages] == [["m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6"]]
    assert len({page.resource_version for page in pages}) == 1
    assert [len(await client.list(ConfigMap, namespace=namespace, labels="t=1", limit=n)) for n in (1, 5, 9)] == [
        1,
        5,
        7,
    ]


async def test_collections_are_deleted_with_propagation_and_dry(client: Client, namespace: str) -> None:
    owner = await client.create(config_map(namespace, "owner"))
    reference = OwnerReference(api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid)
    metadata = ObjectMeta(name="owned", namespace=namespace, owner_references=(reference,))
    owned = await client.create(ConfigMap(metadata=metadata))
    await client.delete_collection(ConfigMap, namespace=namespace, labels="t=1", dry_run=True)
    assert (await client.get(ConfigMap, owner.key)).metadata.deletion_timestamp is None
    await client.delete_collection(ConfigMap, namespace=namespace, labels="t=1", propagation="Orphan")

    async def left_alone() -> bool:
        return not (await client.get(ConfigMap, owned.key)).metadata.owner_references

    await eventually(left_alone)


async def test_scale_is_read_and_written_whatever_the_kind(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace, replicas=0))
    scale = await client.scale.get(Deployment, made.key)
    assert (scale.kind, scale.spec.replicas, scale.status.selector) == ("Scale", 0, "app=web")
    assert (await client.scale.set(Deployment, made.key, 2, dry_run=True)).spec.replicas == 2
    assert (await client.get(Deployment, made.key)).spec.replicas == 0
    assert (await client.scale.set(Deployment, made.key, 1)).spec.replicas == 1
    draft = scale.edit()
    draft.spec.replicas = 5
    with pytest.raises(Conflict):
        await client.scale.update(Deployment, draft)
    with pytest.raises(Conflict):
        await client.scale.patch(
            Deployment, made.key, {"spec": {"replicas": 5}}, resource_version=scale.metadata.resource_version
        )
    with pytest.raises(Invalid):
        await client.scale.set(Deployment, made.key, -1)
    with pytest.raises(NotFound):
        await client.scale.get(ConfigMap, ObjectKey("a", namespace))


async def test_an_eviction_that_a_budget_forbids_names_the_budget(client: Client, namespace: str) -> None:
    labels = {"app": "web"}
    pod = Pod.model_validate(
        {
            "metadata": {"name": "web", "namespace": namespace, "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "nowhere"},
        }
    )
    made = await client.create(pod)
    budget = {"metadata": {"name": "all-of-them", "namespace": namespace}}
    spec = {"minAvailable": 1, "selector": {"matchLabels": labels}}
    made_budget = await client.create(Budget.model_validate(budget | {"spec": spec}))
    await client.status.patch(
        Pod,
        made.key,
        {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
        field_validation="Ignore",
    )

    async def protected() -> bool:
        status = (await client.get(Budget, made_budget.key)).get("status", {})
        return bool(status.get("observedGeneration") == 1 and status.get("expectedPods") == 1)

    await eventually(protected)
    with pytest.raises(TooManyRequests, match="all-of-them"):
        await client.evict(made.key)
    await client.delete(Budget, made_budget.key)
    with pytest.raises(Conflict):
        await client.evict(made.key, uid="another")
    await client.evict(made.key, uid=made.metadata.uid, dry_run=True)
    assert (await client.get(Pod, made.key)).metadata.deletion_timestamp is None
    await client.evict(made.key, uid=made.metadata.uid, grace_period_s=0)
    with pytest.raises(NotFound):
        await client.get(Pod, made.key)


async def test_a_token_of_a_service_account_shows_nowhere(client: Client, namespace: str) -> None:
    account = ServiceAccount(metadata=ObjectMeta(name="robot", namespace=namespace))
    made = await client.create(account)
    status = await client.create_token(made.key, audiences=["vault"], expiration_s=600)
    assert status.token.count(".") == 2
    assert status.expiration_timestamp is not None
    claims = json.loads(base64.urlsafe_b64decode(status.token.split(".")[1] + "=="))
    assert (claims["aud"], claims["sub"]) == (["vault"], f"system:serviceaccount:{namespace}:robot")
    assert status.token not in repr(status)
    assert status.token not in str(status)
    with pytest.raises(Invalid):
        await client.create_token(made.key, expiration_s=1)
    secret = await client.create(
        Unstructured("v1", "Secret").model_validate({"metadata": {"name": "bound", "namespace": namespace}})
    )
    assert (await client.create_token(made.key, bound_to=secret)).token
    with pytest.raises(NotFound):
        await client.create_token(ObjectKey("nobody", namespace))


async def test_any_subresource_can_be_posted_to(client: Client, namespace: str) -> None:
    pod = Pod.model_validate(
        {
            "metadata": {"name": "p", "namespace": namespace},
            "spec": {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody"},
        }
    )
    made = await client.create(pod)
    binding = Unstructured("v1", "Binding").model_validate(
        {"metadata": {"name": "p", "namespace": namespace}, "target": {"kind": "Node", "name": "nowhere"}}
    )
    answer = await client.subresource("binding").create(Pod, made.key, binding, result=Unstructured("v1", "Status"))
    assert answer["status"] == "Success"
    assert (await client.get(Pod, made.key)).spec.node_name == "nowhere"
    await client.delete(Pod, made.key, grace_period_s=0)


async def test_a_missing_subresource_is_named(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, x="1"))
    hint = "could not find the requested resource, or ConfigMap has no subresource status"
    with pytest.raises(NotFound, match=hint):
        await client.status.patch(ConfigMap, made.key, {})
    definition = Unstructured("apiextensions.k8s.io/v1", "CustomResourceDefinition", namespaced=False)
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": "bare.example.com",
        "scope": "Namespaced",
        "names": {"kind": "Bare", "plural": "bares", "singular": "bare"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    crd = await client.create(definition.model_validate({"metadata": {"name": "bares.bare.example.com"}, "spec": spec}))
    bare = Unstructured("bare.example.com/v1", "Bare")

    async def is_made() -> bool:
        await client.create(bare.model_validate({"metadata": {"name": "a", "namespace": namespace}}))
        return True

    await eventually(is_made, retry_on=(NotFound,))
    with pytest.raises(NotFound, match=r"not found, or Bare\.bare\.example\.com has no subresource status"):
        await client.status.patch(bare, ObjectKey("a", namespace), {})
    await client.delete(definition, crd.key)
