"""The client against a real API server: what each verb does, and how each refusal reads."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl

import pytest

from kaito.client import (
    AlreadyExists,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TransportError,
    Unauthorized,
    load_config,
)
from kaito.client.credentials import StaticCredentials
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.apps_v1 import Deployment
from kaito.kube.core_v1 import ConfigMap, Namespace
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource


def config_map(namespace: str, name: str = "a", **data: str) -> ConfigMap:
    return ConfigMap(
        metadata=ObjectMeta(name=name, namespace=namespace, labels=FrozenDict(t="1")), data=FrozenDict(data)
    )


def deployment(namespace: str, replicas: int = 0) -> Deployment:
    labels = {"app": "web"}
    return Deployment.model_validate(
        {
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        }
    )


async def test_an_object_lives_from_create_to_delete(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, x="1"))
    assert made.metadata.uid
    assert await client.get(ConfigMap, made.key) == made
    draft = made.edit()
    draft.data = FrozenDict(x="2")
    updated = await client.update(draft)
    assert (updated.data, updated.metadata.uid) == ({"x": "2"}, made.metadata.uid)
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.update(draft)
    with pytest.raises(AlreadyExists, match=f"create configmaps {namespace}/a: 409 AlreadyExists"):
        await client.create(config_map(namespace))
    await client.delete(ConfigMap, made.key)
    for gone in (client.get(ConfigMap, made.key), client.delete(ConfigMap, made.key), client.update(updated)):
        with pytest.raises(NotFound, match="404 NotFound"):
            await gone


async def test_patches_of_every_type(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, x="1", y="1"))
    merged = await client.patch(ConfigMap, made.key, {"data": {"x": None, "z": "1"}})
    assert merged.data == {"y": "1", "z": "1"}
    operations = [{"op": "replace", "path": "/data/y", "value": "2"}]
    assert (await client.patch(ConfigMap, made.key, operations, type="json")).data == {"y": "2", "z": "1"}
    patched = await client.patch(ConfigMap, made.key, {"data": {"w": "1"}}, type="strategic")
    assert patched.data == {"y": "2", "z": "1", "w": "1"}
    stale = {"metadata": {"resourceVersion": made.metadata.resource_version}, "data": {"x": "9"}}
    with pytest.raises(Conflict):
        await client.patch(ConfigMap, made.key, stale)


async def test_apply_creates_prunes_conflicts_and_takes_over(client: Client, namespace: str) -> None:
    first = await client.apply(config_map(namespace, x="1", y="1"))
    assert first.created
    second = await client.apply(config_map(namespace, x="1"))
    assert not second.created
    assert second.object.data == {"x": "1"}
    with pytest.raises(Conflict, match='conflict with "tests"') as raised:
        await client.apply(config_map(namespace, x="2"), field_owner="other")
    assert [cause.field for cause in raised.value.causes] == [".data.x"]
    taken = await client.apply(config_map(namespace, x="2"), field_owner="other", force=True)
    assert taken.object.data == {"x": "2"}
    missing = config_map(namespace, "missing", x="1").edit()
    missing.metadata.uid = second.object.metadata.uid
    with pytest.raises(Conflict):
        await client.apply(missing, force=True)


async def test_what_breaks_a_rule_is_refused_with_its_fields(client: Client, namespace: str) -> None:
    with pytest.raises(Invalid) as raised:
        await client.create(deployment(namespace, replicas=-1))
    assert [cause.field for cause in raised.value.causes] == ["spec.replicas"]
    assert raised.value.status == 422


async def test_status_and_spec_are_written_apart(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace))
    status = {"status": {"observedGeneration": 7}}
    await client.patch(Deployment, made.key, status)
    body = {"spec": {"replicas": 5}, "status": {"conditions": [{"type": "T", "status": "True", "reason": "R"}]}}
    written = await client.status.patch(Deployment, made.key, body)
    assert written.spec.replicas == 0
    assert any(condition.type == "T" for condition in written.status.conditions)


async def test_dry_runs_change_nothing(client: Client, namespace: str) -> None:
    await client.create(config_map(namespace), dry_run=True)
    with pytest.raises(NotFound):
        await client.get(ConfigMap, ObjectKey("a", namespace))
    made = await client.create(config_map(namespace, x="1"))
    await client.patch(ConfigMap, made.key, {"data": {"x": "2"}}, dry_run=True)
    await client.delete(ConfigMap, made.key, dry_run=True)
    assert await client.get(ConfigMap, made.key) == made


async def test_deletes_with_preconditions_and_of_collections(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace))
    with pytest.raises(Conflict, match="UID in the precondition"):
        await client.delete(ConfigMap, made.key, uid="another")
    with pytest.raises(Conflict):
        await client.delete(ConfigMap, made.key, resource_version="1")
    await client.delete(ConfigMap, made.key, uid=made.metadata.uid, resource_version=made.metadata.resource_version)
    for name in ("b", "c"):
        await client.create(config_map(namespace, name))
    await client.delete_collection(ConfigMap, namespace=namespace, labels="t=1")
    assert len(await client.list(ConfigMap, namespace=namespace, labels="t=1")) == 0


async def test_lists_take_all_pages_and_select(client: Client, namespace: str) -> None:
    await asyncio.gather(*(client.create(config_map(namespace, f"m{number:03}")) for number in range(510)))
    found = await client.list(ConfigMap, namespace=namespace, labels="t in (1,2),!u")
    assert [obj.metadata.name for obj in found] == [f"m{number:03}" for number in range(510)]
    assert int(found.resource_version) > 0
    one = await client.list(ConfigMap, namespace=namespace, fields="metadata.name=m007")
    assert [obj.metadata.name for obj in one] == ["m007"]


async def test_a_watch_begins_with_what_is_there_and_goes_on(client: Client, namespace: str) -> None:
    await client.create(config_map(namespace, x="1"))
    seen: list[str] = []
    async for event in client.watch(ConfigMap, namespace=namespace, labels="t=1", timeout_s=10):
        if event.type == "BOOKMARK":
            continue
        seen.append(f"{event.type} {event.object.metadata.name}")
        if seen == ["ADDED a"]:
            await client.patch(ConfigMap, event.object.key, {"data": {"x": "2"}})
        elif event.type == "MODIFIED":
            await client.delete(ConfigMap, event.object.key)
        elif event.type == "DELETED":
            break
    assert seen == ["ADDED a", "MODIFIED a", "DELETED a"]


async def test_cluster_scoped_objects(client: Client, namespace: str) -> None:
    assert (await client.get(Namespace, ObjectKey(namespace))).metadata.name == namespace
    assert namespace in [obj.metadata.name for obj in await client.list(Namespace)]


async def test_names_that_a_url_would_take_apart(client: Client, control_plane: ControlPlane) -> None:
    name = "tests:odd?name#x y"
    base = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    control_plane.request("POST", base, {"metadata": {"name": name}})

    class ClusterRole(Resource, group="rbac.authorization.k8s.io", version="v1", namespaced=False):
        """A role, for its names."""

    assert (await client.get(ClusterRole, ObjectKey(name))).metadata.name == name
    await client.delete(ClusterRole, ObjectKey(name))


async def test_a_user_without_rights_is_told_what_is_missing(control_plane: ControlPlane, namespace: str) -> None:
    async with Client.from_config(load_config(control_plane.add_user("nobody"))) as nobody:
        with pytest.raises(Forbidden, match='User "nobody" cannot get resource "configmaps"'):
            await nobody.get(ConfigMap, ObjectKey("a", namespace))


async def test_wrong_credentials_and_a_wrong_authority(control_plane: ControlPlane, namespace: str) -> None:
    config = load_config(control_plane.kubeconfig)
    assert config.ssl is not None
    anybody = ssl.create_default_context(cadata=control_plane.ca.certificate_pem.decode())
    wrong = dataclasses.replace(config, ssl=anybody, credentials=StaticCredentials({"Authorization": "Bearer x"}))
    async with Client.from_config(wrong) as client:
        with pytest.raises(Unauthorized):
            await client.get(ConfigMap, ObjectKey("a", namespace))
    async with Client.from_config(dataclasses.replace(config, ssl=ssl.create_default_context())) as client:
        with pytest.raises(TransportError, match="certificate verify failed") as raised:
            await client.get(ConfigMap, ObjectKey("a", namespace))
        assert not raised.value.sent
