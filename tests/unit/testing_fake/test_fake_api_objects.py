"""The fake API server: creating, writing and deleting objects."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from kaito.client.transport import Request
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import Failure, FakeApi

KEY = ObjectKey("a", "default")


def test_a_created_object_gets_what_the_server_gives(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await asyncio.sleep(60)
        made = await client.create(make("a"))
        assert made.metadata.uid
        assert int(made.metadata.resource_version) == api.store.version
        assert made.metadata.generation == 1
        assert made.metadata.creation_timestamp is not None
        assert made.metadata.creation_timestamp.isoformat() == "2024-01-01T00:01:00+00:00"

    play(main)


def test_the_seed_decides_uids_and_generated_names(play: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> tuple[str, str]:
        made = await client.create(widget(metadata={"generateName": "w-", "namespace": "default"}))
        return made.metadata.name, made.metadata.uid

    assert play(main, seed=1) == play(main, seed=1)
    assert play(main, seed=1) != play(main, seed=2)
    assert len(play(main)[0]) == len("w-xxxxx")


def test_a_taken_name_is_refused(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        with pytest.raises(AlreadyExists):
            await client.create(make("a"))

    play(main)


def test_one_resource_version_counts_the_writes_of_all_kinds(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        first = await client.create(make("a"))
        node = await client.create(Node.model_validate({"metadata": {"name": "n"}}))
        assert int(node.metadata.resource_version) == int(first.metadata.resource_version) + 1

    play(main)


def test_generation_counts_changes_of_the_spec_only(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        labelled = await client.patch(widget, KEY, {"metadata": {"labels": {"x": "1"}}})
        assert labelled.metadata.generation == 1
        reported = await client.status.patch(widget, KEY, {"status": {"phase": "Up"}, "spec": {"size": 9}})
        assert (reported.metadata.generation, reported.spec.size) == (1, 1)
        grown = await client.patch(widget, KEY, {"spec": {"size": 2}, "status": {"phase": "Down"}})
        assert (grown.metadata.generation, grown.status.phase) == (2, "Up")

    play(main)


def test_a_write_without_a_change_keeps_the_resource_version(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(make("a"))
        assert (await client.update(made)).metadata.resource_version == made.metadata.resource_version
        patched = await client.patch(widget, KEY, {"spec": {"size": 1}})
        assert patched.metadata.resource_version == made.metadata.resource_version

    play(main)


def test_an_update_of_an_old_version_is_a_conflict(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(make("a"))
        await client.patch(widget, KEY, {"spec": {"size": 2}})
        with pytest.raises(Conflict):
            await client.update(made)

    play(main)


def test_a_dry_run_stores_nothing(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        assert (await client.create(make("a"), dry_run=True)).metadata.uid
        assert (await client.apply(make("b"), dry_run=True)).created
        made = await client.create(make("c"))
        assert (await client.patch(widget, made.key, {"spec": {"size": 7}}, dry_run=True)).spec.size == 7
        await client.delete(widget, made.key, dry_run=True)
        assert [(one.metadata.name, one.spec.size) for one in await client.list(widget)] == [("c", 1)]

    play(main)


def test_a_finalizer_keeps_an_object_until_it_goes(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a", finalizers=["example.com/f"]))
        await client.delete(widget, KEY)
        marked = await client.get(widget, KEY)
        assert marked.metadata.deletion_timestamp is not None
        assert marked.metadata.generation == 2
        await client.delete(widget, KEY)
        assert (await client.get(widget, KEY)).metadata.resource_version == marked.metadata.resource_version
        with pytest.raises(Invalid):
            await client.patch(widget, KEY, {"metadata": {"finalizers": ["example.com/f", "example.com/g"]}})
        await client.patch(widget, KEY, {"metadata": {"finalizers": []}})
        with pytest.raises(NotFound):
            await client.get(widget, KEY)

    play(main)


def test_a_deletion_can_name_the_object_it_means(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(make("a"))
        with pytest.raises(Conflict):
            await client.delete(widget, KEY, uid="another")
        with pytest.raises(Conflict):
            await client.delete(widget, KEY, resource_version="1")
        await client.delete(widget, KEY, uid=made.metadata.uid, resource_version=made.metadata.resource_version)
        with pytest.raises(NotFound):
            await client.delete(widget, KEY)

    play(main)


def test_a_collection_is_deleted_by_selection(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
            await client.create(make(name, labels={"colour": colour}))
        await client.delete_collection(widget, namespace="default", labels="colour=red")
        assert [one.metadata.name for one in await client.list(widget)] == ["b"]

    play(main)


def test_only_nodes_may_be_born_with_a_status(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        reported = make("a").to_dict() | {"status": {"phase": "Up"}}
        assert "status" not in api.call("POST", "/apis/example.com/v1/namespaces/default/widgets", reported)
        node = {"metadata": {"name": "n"}, "status": {"capacity": {"nvidia.com/gpu": "1"}}}
        assert api.call("POST", "/api/v1/nodes", node)["status"] == node["status"]

    play(main)


def test_nothing_new_comes_into_a_dying_namespace(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "dying"}})
        api.call("DELETE", "/api/v1/namespaces/dying")
        with pytest.raises(Failure, match="being terminated") as caught:
            api.call("POST", "/api/v1/namespaces/dying/configmaps", {"metadata": {"name": "a"}})
        assert caught.value.code == 403

    play(main)


def test_kinds_come_and_go_with_their_crd(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        crds, gadgets = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/example.com/v1/gadgets"
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        names = {"kind": "Gadget", "plural": "gadgets"}
        spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}
        assert api.handle(Request("GET", gadgets, "list")).status == 404
        crd = api.call("POST", crds, {"metadata": {"name": "gadgets.example.com"}, "spec": spec})
        assert {"type": "Established", "status": "True"} in crd["status"]["conditions"]
        assert api.call("POST", gadgets, {"metadata": {"name": "g"}})["kind"] == "Gadget"
        stream = await client.transport.stream(Request("GET", gadgets, "watch", query=(("watch", "1"),)))
        api.call("DELETE", f"{crds}/gadgets.example.com")
        assert api.handle(Request("GET", gadgets, "list")).status == 404
        told = b"".join([chunk async for chunk in stream.chunks()]).splitlines()
        assert [json.loads(line)["type"] for line in told] == ["ADDED", "DELETED"]
        api.call("POST", crds, {"metadata": {"name": "gadgets.example.com"}, "spec": spec})
        assert api.call("GET", gadgets)["items"] == []

    play(main)


def test_an_eviction_removes_a_pod(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        pods = "/api/v1/namespaces/default/pods"
        api.call("POST", pods, {"metadata": {"name": "p"}})
        assert api.call("POST", f"{pods}/p/eviction", {})["status"] == "Success"
        assert not api.store.select("pods")

    play(main)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"metadata": 1}', b'{"apiVersion": "v2", "kind": "X"}'])
def test_a_body_that_is_no_such_object_is_a_bad_request(body: bytes) -> None:
    request = Request("POST", "/api/v1/namespaces/default/configmaps", "create", body=body)
    assert FakeApi().handle(request).status == 400


def test_applying_twice_writes_once(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        first = await client.apply(make("a"))
        await asyncio.sleep(100)
        second = await client.apply(make("a"))
        assert (first.created, second.created) == (True, False)
        assert second.object.metadata.resource_version == first.object.metadata.resource_version

    play(main)


def test_an_apply_that_would_take_a_field_says_whose_it_is(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.apply(make("a", size=1))
        with pytest.raises(Conflict) as caught:
            await client.apply(make("a", size=2), field_owner="other")
        (cause,) = caught.value.causes
        assert (cause.field, cause.reason) == (".spec.size", "FieldManagerConflict")
        assert '"tests"' in cause.message
        taken = await client.apply(make("a", size=2), field_owner="other", force=True)
        assert taken.object.spec.size == 2

    play(main)


def test_an_applied_uid_keeps_a_gone_object_gone(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = (await client.apply(make("a"))).object
        await client.delete(widget, KEY)
        with pytest.raises(Conflict):
            await client.apply(make("a", uid=made.metadata.uid), force=True)
        assert not await client.list(widget)

    play(main)


def test_an_apply_without_a_name_in_the_body_goes_by_the_path() -> None:
    api = FakeApi()
    body = b"apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n"
    path, query = "/api/v1/namespaces/default/configmaps/m", (("fieldManager", "me"),)
    kind = "application/apply-patch+yaml"
    assert api.handle(Request("PATCH", path, "apply", query=query, body=body, content_type=kind)).status == 201


def test_a_field_with_two_appliers_stays_until_the_last_lets_go(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        coloured = make("a").to_dict() | {"spec": {"colour": "red"}}
        await client.apply(widget.model_validate(coloured))
        await client.apply(widget.model_validate(coloured), field_owner="other")
        assert (await client.apply(make("a"))).object.spec.colour == "red"
        assert (await client.apply(make("a"), field_owner="other")).object.spec.colour is None

    play(main)


def test_a_malformed_selector_is_a_bad_request(play: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        with pytest.raises(BadRequest):
            await client.list(widget, labels="a in b")

    play(main)
