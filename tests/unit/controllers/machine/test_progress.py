"""Progress: what is written of a claim's status, and when nothing is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.client.errors import Conflict
from kaito.controllers.claims import MACHINE
from kaito.controllers.gpu_provisioner.provider import Instance, InstanceState
from kaito.controllers.machine.progress import Progress
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Node
from kaito.testing.fake_api import FakeApi

LAUNCHED = Instance(
    "ws012345678",
    "u",
    "scripted://ws012345678",
    InstanceState.RUNNING,
    capacity={"nvidia.com/gpu": "1"},
    labels={"apps": "the cloud's", "topology.kubernetes.io/zone": "z1"},
)


def statuses(claim: Machine) -> dict[str, str]:
    return {condition.type: condition.status for condition in claim.status.conditions}


def test_a_claim_that_came_all_the_way_is_ready_and_written_once(
    play: Any, machine: Callable[..., Machine], node: Callable[..., Node], now: datetime
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine())
        for hours in range(2):
            progress = Progress(MACHINE, claim, now + timedelta(hours=hours))
            progress.launched(LAUNCHED)
            progress.registered(node())
            progress.initialized()
            await progress.save(client)
            claim = await client.get(Machine, claim.key)
        assert set(statuses(claim).values()) == {"True"}
        assert claim.status.conditions[-1].type == "Ready"
        assert {item.last_transition_time for item in claim.status.conditions} == {now}
        assert claim.status.provider_id == "scripted://ws012345678"
        assert claim.status.allocatable["nvidia.com/gpu"] == "1"
        # The user's label stays, the cloud's is added.
        assert claim.metadata.labels["apps"] == "phi-3"
        assert claim.metadata.labels["topology.kubernetes.io/zone"] == "z1"
        assert [entry.verb for entry in api.log].count("patch") == 2

    play(main)


def test_a_new_claim_is_unknown_in_every_step(play: Any, machine: Callable[..., Machine], now: datetime) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine())
        await Progress(MACHINE, claim, now).save(client)
        assert set(statuses(await client.get(Machine, claim.key)).values()) == {"Unknown"}

    play(main)


@pytest.mark.parametrize(("final", "status"), [(False, "Unknown"), (True, "False")])
def test_the_root_says_why_a_step_is_not_taken(
    play: Any, machine: Callable[..., Machine], now: datetime, final: bool, status: str
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine())
        progress = Progress(MACHINE, claim, now)
        progress.unmet("MachineLaunched", "QuotaExceeded", "0 of 24 vCPUs", final=final)
        await progress.save(client)
        root = find((await client.get(Machine, claim.key)).status.conditions, "Ready")
        assert root is not None
        assert (root.status, root.reason, root.message) == (status, "QuotaExceeded", "0 of 24 vCPUs")

    play(main)


def test_a_node_that_reports_nothing_yet_has_no_allocatable_to_write(
    play: Any, machine: Callable[..., Machine], now: datetime
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine())
        for _ in range(2):
            progress = Progress(MACHINE, claim, now)
            progress.registered(Node.model_validate({"metadata": {"name": "n"}}))
            await progress.save(client)
            claim = await client.get(Machine, claim.key)
        assert [entry.verb for entry in api.log].count("patch") == 1

    play(main)


def test_a_claim_that_somebody_else_wrote_meanwhile_is_a_conflict(
    play: Any, machine: Callable[..., Machine], now: datetime
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = await client.create(machine())
        await client.patch(Machine, claim.key, {"metadata": {"labels": {"a": "b"}}})
        with pytest.raises(Conflict):
            await Progress(MACHINE, claim, now).save(client)

    play(main)
