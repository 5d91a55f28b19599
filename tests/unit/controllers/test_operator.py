"""How the three controllers hang together: what wakes whom, and with which options."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.client import Client
from kaito.controllers import ALL_CONTROLLERS, OperatorOptions, add_operator
from kaito.controllers.operator import (
    _asked,
    _awaited_labels,
    _claim_of,
    _node_of,
    _workspace_of_claim,
    _workspace_of_node,
)
from kaito.kube.core_v1 import ConfigMap, Node
from kaito.kube.object_key import ObjectKey
from kaito.runtime.manager import Manager
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi

Machines = Callable[..., Machine]
Nodes = Callable[..., Node]
OWNER = {"apiVersion": "karpenter.sh/v1alpha5", "kind": "Machine", "name": "ws-owner", "uid": "u"}


@pytest.mark.parametrize(
    ("metadata", "claim"),
    [
        ({}, "the-node"),
        ({"labels": {"agentpool": "ws-pool"}}, "ws-pool"),
        ({"labels": {"agentpool": "ws-pool"}, "ownerReferences": [OWNER]}, "ws-owner"),
    ],
)
def test_a_node_wakes_the_claim_that_owns_it_or_that_it_may_be_for(
    node: Nodes, metadata: dict[str, Any], claim: str
) -> None:
    assert list(_claim_of(node("the-node", metadata=metadata))) == [ObjectKey(claim)]


def test_a_claim_wakes_the_node_that_it_brought(machine: Machines) -> None:
    assert list(_node_of(machine("ws1", status={"nodeName": "vmss0"}))) == [ObjectKey("vmss0")]
    assert list(_node_of(machine("ws1"))) == [ObjectKey("ws1")]


def test_claims_and_nodes_wake_the_workspace_that_they_were_made_for(machine: Machines, node: Nodes) -> None:
    labels = {"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "demo"}
    assert list(_workspace_of_claim(machine(metadata={"labels": labels}))) == [ObjectKey("phi", "demo")]
    marked = {"labels": {}, "annotations": {"kaito.sh/made-for": "demo/phi/uid-1"}}
    assert list(_workspace_of_claim(machine(metadata=marked))) == [ObjectKey("phi", "demo")]
    assert list(_workspace_of_node(node(metadata={"labels": labels}))) == [ObjectKey("phi", "demo")]
    assert list(_workspace_of_node(node())) == []


@pytest.mark.parametrize(
    ("change", "wakes"),
    [
        ({"status": {"nodeName": "n"}}, False),
        ({"metadata": {"labels": {"a": "b"}}}, True),
        ({"metadata": {"generation": 2}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True),
        ({"metadata": {"finalizers": ["x"]}}, True),
    ],
)
def test_a_claims_controller_is_not_woken_by_the_status_that_it_writes(
    machine: Machines, change: dict[str, Any], wakes: bool
) -> None:
    assert (_asked(machine()) != _asked(machine(**change))) == wakes


@pytest.mark.parametrize(
    ("instance_type", "existing_only", "expected"),
    [("Standard_NC6s_v3", False, []), ("", False, ["apps=phi-3"]), ("Standard_NC6s_v3", True, ["apps=phi-3"])],
)
def test_labels_of_existing_nodes_are_awaited_where_existing_nodes_are_used(
    workspace: Callable[..., Workspace], instance_type: str, existing_only: bool, expected: list[str]
) -> None:
    assert list(_awaited_labels(workspace(instance_type=instance_type), existing_only=existing_only)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (OperatorOptions(cloud="kwok"), ["workspace", "machine", "nodeclaim", "gpu-provisioner"]),
        (OperatorOptions(cloud="kwok", controllers=("machine",)), ["machine", "nodeclaim"]),
        (
            OperatorOptions(cloud="kwok", node_provisioner="byo"),
            ["workspace", "machine", "nodeclaim", "gpu-provisioner"],
        ),
        (OperatorOptions(cloud=None, node_provisioner="byo"), ["workspace"]),
    ],
)
def test_the_chosen_controllers_run_and_no_others(options: OperatorOptions, expected: list[str]) -> None:
    manager = Manager("kaito", None, metrics="0", health="0", transport=FakeApi().transport())
    add_operator(manager, options)
    assert [controller.name for controller in manager.controllers] == expected
    assert {name for name in expected if name != "nodeclaim"} <= set(ALL_CONTROLLERS)


async def test_while_the_catalogue_is_faulty_from_the_start_nothing_is_made_and_what_is_being_deleted_goes(
    workspace: Callable[..., Workspace],
) -> None:
    where = ObjectKey("kaito-catalog", "default")
    faulty = {"metadata": {"name": where.name, "namespace": where.namespace}, "data": {"a.yaml": "models: 1"}}

    def made(number: int) -> Workspace:
        metadata = {"name": f"w{number}", "namespace": "default", "finalizers": [keys.WORKSPACE_FINALIZER]}
        return Workspace.model_validate(workspace().to_dict() | {"metadata": metadata})

    # More than the controller has workers: those that wait must not keep the others from their turn.
    kept, going = [made(number) for number in range(9)], made(9)
    api = FakeApi()
    for kind in (Workspace, Machine, NodeClaim):
        api.register(kind)
    manager = Manager(
        "kaito", None, metrics="0", health="0", transport=api.transport(), check_permissions=False, start_timeout_s=0.1
    )
    add_operator(manager, OperatorOptions(catalog_config_map=where))
    async with Client(api.transport(), field_owner="tests") as client:

        async def gone() -> bool:
            return going.key not in [each.key for each in await client.list(Workspace)]

        async def judged() -> int:
            return len([each for each in await client.list(Workspace) if each.status.conditions])

        async def all_judged() -> bool:
            return await judged() == len(kept)

        for each in (*kept, going, ConfigMap.model_validate(faulty)):
            await client.create(each)
        running = asyncio.create_task(manager.run())
        try:
            await eventually(lambda: all(each.running for each in manager.controllers))
            await client.delete(Workspace, going.key)
            await eventually(gone)
            assert await judged() == 0
            await client.patch(ConfigMap, where, {"data": {"a.yaml": "models: {}"}})
            await eventually(all_judged)
        finally:
            manager.stop()
            await running
