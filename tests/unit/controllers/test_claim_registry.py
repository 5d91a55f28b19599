"""ClaimRegistry: claims of both kinds as one, in clusters that have one kind only, and deletes that lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.claims import NODE_CLAIM, ClaimRequest
from kaito.runtime.finalizers import ensure_finalizer
from kaito.testing.fake_api import FakeApi, Fault, Refuse

Machines = Callable[..., Machine]


def test_claims_of_both_kinds_are_found(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(machine("a", metadata={"labels": {"of": "one"}}))
        await client.create(NODE_CLAIM.build(ClaimRequest("b", "Standard_NC6s_v3", 80, {"of": "one"})))
        registry = ClaimRegistry(client)
        assert (await registry.labelled("of=one")).names == {"a", "b"}
        assert (await registry.named(["a", "b", "c"])).names == {"a", "b"}

    play(main)


def test_a_kind_that_is_not_installed_has_no_claims(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(Refuse(404, "NotFound"), resource="nodeclaims", times=None))
        await client.create(machine("a"))
        for registry in (ClaimRegistry(client), ClaimRegistry(client, lambda kind: kind is not NODE_CLAIM)):
            for live in (True, False):
                assert (await registry.labelled("", live=live)).names == {"a"}
                assert (await registry.named(["a"], live=live)).names == {"a"}

    play(main)


def test_a_claim_whose_finalizer_comes_between_is_marked_not_removed(play: Any, machine: Machines) -> None:
    """An API server that read it without removes it else, and the instance that was asked for has no claim."""

    async def main(api: FakeApi, client: Client) -> None:
        read = await client.create(machine())
        await ensure_finalizer(client, read, "karpenter.sh/termination")
        await ClaimRegistry(client).delete(read)
        (claim,) = await client.list(Machine)
        assert claim.metadata.deletion_timestamp is not None
        deletes = [entry for entry in api.log if entry.verb == "delete"]
        assert [entry.status for entry in deletes] == [409, 200]

    play(main)


def test_a_claims_namesake_is_not_deleted(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        read = await client.create(machine())
        await client.delete(Machine, read.key)
        await client.create(machine())
        await ClaimRegistry(client).delete(read)
        assert len(await client.list(Machine)) == 1

    play(main)


def test_a_claim_that_cannot_be_read_is_found_and_deleted(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = await client.create(machine())
        path = Machine.resource_type.path(None, made.metadata.name)
        broken = {"spec": {"requirements": "nonsense"}}
        api.call("PATCH", path, broken, content_type="application/merge-patch+json")
        registry = ClaimRegistry(client)
        for found in (await registry.labelled(""), await registry.named([made.metadata.name])):
            (unreadable,) = found.unreadable
            assert unreadable.name == made.metadata.name
        await registry.delete_unreadable(unreadable)
        assert api.objects(Machine) == []
        assert api.objects(NodeClaim) == []

    play(main)
