"""The guard of an operator without a cloud: it does not begin beside claims that nobody would terminate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.controllers import OperatorOptions, add_operator
from kaito.controllers.leftover import ClaimGuard, LeftoverClaims
from kaito.runtime.manager import Manager
from kaito.testing.fake_api import FakeApi, Fault, Refuse

Machines = Callable[..., Machine]


def test_claims_of_kaito_are_counted_named_and_refused(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for number in range(5):
            await client.create(machine(f"ws{number}"))
        with pytest.raises(
            LeftoverClaims, match=r"5 of KAITO's claims are there \(machine/ws0, .* and 2 more\)"
        ) as told:
            await ClaimGuard(client).run()
        assert "--cloud" in str(told.value)

    play(main)


def test_claims_of_others_and_a_missing_kind_are_no_reason_to_refuse(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(machine("general-x", metadata={"labels": {"karpenter.sh/provisioner-name": "general"}}))
        api.faults.add(Fault(Refuse(404, "NotFound"), resource="nodeclaims", times=None))
        await ClaimGuard(client).run()
        assert {entry.path.rpartition("/")[2] for entry in api.log if entry.verb == "list"} == {
            "machines",
            "nodeclaims",
        }

    play(main)


def test_it_waits_for_a_server_that_does_not_answer(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        refusal = api.faults.add(Fault(Refuse(500), verb="list", resource="machines", times=3))
        await ClaimGuard(client).run()
        assert refusal.seen == 4

    play(main)


def test_a_manager_without_a_cloud_ends_with_the_refusal_and_has_written_nothing(play: Any, machine: Machines) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(machine("ws0"))
        api.log.clear()
        manager = Manager("kaito", None, metrics="0", health="0", transport=api.transport())
        add_operator(manager, OperatorOptions(cloud=None, node_provisioner="byo"))
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(manager.run(), 60)
        assert ended.group_contains(LeftoverClaims)
        # A question about one's rights is asked by a create, and stores nothing.
        asked = [entry for entry in api.log if "/authorization.k8s.io/" not in entry.path]
        assert {entry.verb for entry in asked} <= {"list", "watch"}
        assert len(api.objects(Machine)) == 1
        assert api.objects(NodeClaim) == []

    play(main)
