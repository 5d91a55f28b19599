"""Kinds without a class, parts of objects, and discovery, against a real API server."""

from __future__ import annotations

import dataclasses

import pytest

from kaito.client import Client, NoSuchKind, Request, Response
from kaito.client.discovery_documents import Snapshot, fetch
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube import ConfigMap, Deployment, MetadataOnly, ObjectKey, ResourceType, Unstructured, UnstructuredObject
from kaito.testing import eventually
from tests.integration.test_client import config_map, deployment

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
AnyMap = Unstructured("v1", "ConfigMap")


async def test_an_unstructured_object_lives_from_apply_to_delete(client: Client, namespace: str) -> None:
    wire = {"metadata": {"name": "a", "namespace": namespace}, "data": {"x": "1"}}
    applied = await client.apply(AnyMap.model_validate(wire))
    assert applied.created
    draft = (await client.get(AnyMap, applied.object.key)).edit()
    draft["data"] = {**draft["data"], "y": "2"}
    updated = await client.update(draft)
    assert updated["data"] == {"x": "1", "y": "2"}
    assert updated.to_dict() == (await client.get(AnyMap, updated.key)).to_dict()
    listed = await client.list(AnyMap, namespace=namespace, fields="metadata.name=a")
    assert [(obj["apiVersion"], obj["kind"], obj["data"]) for obj in listed] == [("v1", "ConfigMap", updated["data"])]
    await client.delete(AnyMap, updated.key)


async def test_metadata_alone_is_read_listed_and_watched(client: Client, namespace: str) -> None:
    await client.create(deployment(namespace))
    await client.create(config_map(namespace, x="1"))
    kind = MetadataOnly(Deployment)
    key = ObjectKey("web", namespace)
    alone = await client.get(kind, key)
    assert (alone.api_version, alone.kind, alone.metadata.name) == ("apps/v1", "Deployment", "web")
    assert set(alone.to_dict()) == {"apiVersion", "kind", "metadata"}
    assert [obj.kind for obj in await client.list(kind, namespace=namespace)] == ["Deployment"]
    assert (await client.list(MetadataOnly(ConfigMap), namespace=namespace, labels="t=1"))[0].kind == "ConfigMap"
    async for event in client.watch(kind, namespace=namespace, timeout_s=10):
        assert (event.type, event.object.kind, event.object.key) == ("ADDED", "Deployment", key)
        break
    patched = await client.patch(kind, key, {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels["a"] == "b"
    assert (await client.get(Deployment, key)).spec.selector.match_labels == {"app": "web"}


async def test_the_server_cuts_the_rest_off_before_it_sends(client: Client, namespace: str) -> None:
    await client.create(config_map(namespace, x="y" * 100_000))
    alone, collection = MetadataOnly(ConfigMap), f"/api/v1/namespaces/{namespace}/configmaps"
    for accept, path in ((alone.accept, f"{collection}/a"), (alone.list_accept, collection)):
        whole = await client.request(Request("GET", path, "get"))
        cut = await client.request(Request("GET", path, "get", headers={"Accept": accept}))
        assert len(whole.body) > 100_000
        assert len(cut.body) < 5_000


async def test_discovery_knows_built_in_kinds(client: Client) -> None:
    found = await client.discovery.find("apps/v1", "Deployment")
    assert found.type == Deployment.resource_type
    assert {"get", "list", "watch", "patch"} <= set(found.verbs)
    assert {"status", "scale"} <= set(found.subresources)
    assert "deploy" in found.short_names
    assert await client.discovery.resource_type("v1", "Node") == ResourceType("", "v1", "Node", "nodes", False)
    assert (await client.discovery.preferred("autoscaling", "HorizontalPodAutoscaler")).type.version == "v2"
    assert (await client.discovery.named("cm")).type == ConfigMap.resource_type
    assert (await client.discovery.named("deployments.apps")).type == Deployment.resource_type
    ingresses = await client.discovery.unstructured("networking.k8s.io/v1", "Ingress")
    assert len(await client.list(ingresses)) == 0


async def test_discovery_says_what_may_have_been_meant(client: Client) -> None:
    with pytest.raises(NoSuchKind, match=r"serves no apps/v1 Deploymnt; did you mean Deployment \(apps/v1\)"):
        await client.discovery.find("apps/v1", "Deploymnt")
    with pytest.raises(NoSuchKind, match=r"did you mean Ingress \(networking.k8s.io/v1\)") as raised:
        await client.discovery.find("extensions/v1beta1", "Ingress")
    assert raised.value.nearest[0] == "Ingress (networking.k8s.io/v1)"


async def test_discovery_finds_a_kind_that_came_later_and_its_odd_plural(
    control_plane: ControlPlane, client: Client, namespace: str
) -> None:
    await client.discovery.kinds()
    group = f"{namespace[-6:]}.discovery.example.com"
    names = {"plural": "octopodes", "singular": "octopus", "kind": "Octopus", "shortNames": ["octo"]}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    control_plane.request("POST", CRDS, {"metadata": {"name": f"octopodes.{group}"}, "spec": spec})
    try:

        async def found() -> type[UnstructuredObject]:
            client.discovery.forget()
            return await client.discovery.unstructured(f"{group}/v1", "Octopus")

        kind = await eventually(found, retry_on=(NoSuchKind,))
        assert kind.resource_type.plural == "octopodes"
        wire = {"metadata": {"name": "a", "namespace": namespace}, "spec": {"arms": 8, "nothing": None}}
        made = await client.create(kind.model_validate(wire))
        assert (made["spec"]["arms"], made.kind) == (8, "Octopus")
    finally:
        control_plane.request("DELETE", f"{CRDS}/octopodes.{group}")


async def test_discovery_of_a_server_that_aggregates_nothing(client: Client) -> None:
    """The documents of each group, which older servers have, say the same as the aggregated ones."""

    async def old(request: Request) -> Response:
        return await client.request(dataclasses.replace(request, headers={"Accept": "application/json"}))

    async def both() -> tuple[Snapshot, Snapshot] | None:
        found = await fetch(client.request), await fetch(old)
        # Definitions of other tests come and go; between two requests, a group that was named may be no more.
        return found if found[0].broken == found[1].broken == {} else None

    aggregated, legacy = await eventually(both)
    known = {kind.type: (set(kind.verbs), set(kind.short_names), set(kind.subresources)) for kind in legacy.kinds}
    for kind in aggregated.kinds:
        assert known[kind.type] == (set(kind.verbs), set(kind.short_names), set(kind.subresources))


async def test_metadata_objects_cannot_empty_the_rest(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, x="1"))
    alone = await client.get(MetadataOnly(ConfigMap), made.key)
    with pytest.raises(TypeError, match="ConfigMapMetadata has only the metadata"):
        await client.update(alone)
    assert (await client.get(ConfigMap, made.key)).data == {"x": "1"}
