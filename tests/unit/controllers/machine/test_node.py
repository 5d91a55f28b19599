"""A claim's Node: what registration writes, and what keeps pods off a node that is not usable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client.client import Client
from kaito.controllers.machine.node import initialization_fault, is_of, mark_initialized, register
from kaito.kube.core_v1 import Node
from kaito.testing.fake_api import FakeApi

OWNED = {"apiVersion": "karpenter.sh/v1alpha5", "kind": "Machine", "name": "ws012345678", "uid": "machine-uid"}


def patches(api: FakeApi) -> int:
    return sum(entry.verb == "patch" for entry in api.log)


def test_registration_ties_the_node_to_its_claim_and_is_written_once(
    play: Any, machine: Callable[..., Machine], node: Callable[..., Node]
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = machine(metadata={"uid": "machine-uid", "labels": {"kaito.sh/workspace": "phi", "apps": "phi-3"}})
        joined = await client.create(
            node(spec={"taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}]})
        )
        tied = await register(client, joined, claim)
        assert tied.metadata.finalizers == ("karpenter.sh/termination",)
        assert [(owner.kind, owner.uid) for owner in tied.metadata.owner_references] == [("Machine", "machine-uid")]
        assert (
            tied.metadata.labels.items()
            >= {
                "karpenter.sh/registered": "true",
                "accelerator": "nvidia",
                "kaito.sh/machine-type": "gpu",
                "apps": "phi-3",
            }.items()
        )
        assert [(taint.key, taint.effect) for taint in tied.spec.taints] == [("sku", "NoSchedule")]
        assert await register(client, tied, claim) == tied
        assert patches(api) == 1

    play(main)


def test_registration_survives_that_others_write_the_node_too(
    play: Any, machine: Callable[..., Machine], node: Callable[..., Node]
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        stale = await client.create(node())
        await client.patch(Node, stale.key, {"metadata": {"finalizers": ["theirs"], "labels": {"theirs": "yes"}}})
        tied = await register(client, stale, machine(metadata={"uid": "machine-uid"}))
        assert tied.metadata.finalizers == ("theirs", "karpenter.sh/termination")
        assert tied.metadata.labels["theirs"] == "yes"

    play(main)


def test_a_startup_taint_is_put_on_once(play: Any, machine: Callable[..., Machine], node: Callable[..., Node]) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        claim = machine(spec={"startupTaints": [{"key": "starting", "effect": "NoSchedule"}]})
        tied = await register(client, await client.create(node()), claim)
        assert {taint.key for taint in tied.spec.taints} == {"sku", "starting"}
        # Whoever waited for it takes it away.
        without = await client.patch(Node, tied.key, {"spec": {"taints": [tied.spec.taints[0].to_dict()]}})
        assert {taint.key for taint in (await register(client, without, claim)).spec.taints} == {"sku"}

    play(main)


def test_taints_are_left_to_a_node_that_asks_for_that(
    play: Any, machine: Callable[..., Machine], node: Callable[..., Node]
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        joined = await client.create(node(metadata={"labels": {"karpenter.sh/do-not-sync-taints": "true"}}))
        assert (await register(client, joined, machine())).spec.taints == ()

    play(main)


def test_a_node_is_marked_as_initialized_once(play: Any, node: Callable[..., Node]) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        joined = await client.create(node())
        await mark_initialized(client, joined)
        await mark_initialized(client, await client.get(Node, joined.key))
        assert patches(api) == 1

    play(main)


@pytest.mark.parametrize(
    ("fields", "claim", "reason", "words"),
    [
        ({"ready": "False"}, {}, "NodeNotReady", "said by kubelet"),
        (
            {"spec": {"taints": [{"key": "starting", "effect": "NoSchedule"}]}},
            {"spec": {"startupTaints": [{"key": "starting", "effect": "NoSchedule"}]}},
            "StartupTaintsExist",
            "starting",
        ),
        (
            {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}},
            {},
            "KnownEphemeralTaintsExist",
            "node.kubernetes.io/not-ready",
        ),
        ({"gpus": "0"}, {}, "ResourceNotRegistered", "is the NVIDIA device plugin running?"),
        (
            {},
            {"spec": {"resources": {"requests": {"storage": "1Gi", "rdma/ib": "1"}}}},
            "ResourceNotRegistered",
            "offers no rdma/ib yet",
        ),
    ],
)
def test_a_node_that_pods_cannot_use_says_why(
    machine: Callable[..., Machine],
    node: Callable[..., Node],
    fields: dict[str, Any],
    claim: dict[str, Any],
    reason: str,
    words: str,
) -> None:
    fault = initialization_fault(node(**fields), machine(**claim))
    assert fault is not None
    assert fault[0] == reason
    assert words in fault[1]


def test_of_several_faults_karpenters_first_is_told(machine: Callable[..., Machine], node: Callable[..., Node]) -> None:
    taints = [
        {"key": "starting", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
    ]
    claim = machine(spec={"startupTaints": taints[:1]})
    order = [
        initialization_fault(node(ready=ready, gpus="0", spec={"taints": these}), claim)
        for ready, these in (("False", taints), ("True", taints), ("True", taints[1:]), ("True", []))
    ]
    assert [fault and fault[0] for fault in order] == [
        "NodeNotReady",
        "StartupTaintsExist",
        "KnownEphemeralTaintsExist",
        "ResourceNotRegistered",
    ]


def test_a_usable_node_has_no_fault(machine: Callable[..., Machine], node: Callable[..., Node]) -> None:
    assert initialization_fault(node(), machine()) is None


@pytest.mark.parametrize(
    ("owners", "provider_id", "expected"),
    [
        ([OWNED], "", True),
        ([{**OWNED, "uid": "another"}], "scripted://ws012345678", False),
        ([], "scripted://ws012345678", True),
        ([], "scripted://another", False),
        ([], "", False),
    ],
)
def test_a_node_is_the_claims_by_its_owner_or_else_by_its_instance(
    machine: Callable[..., Machine], node: Callable[..., Node], owners: list[Any], provider_id: str, expected: bool
) -> None:
    claim = machine(metadata={"uid": "machine-uid"}, status={"providerID": provider_id})
    assert is_of(node(metadata={"ownerReferences": owners}), claim) == expected
