"""Existing nodes: which of them a Workspace uses, by labels, expressions, and without the labels that are reserved."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.api import keys
from kaito.controllers.claims import MACHINE, ClaimKind
from kaito.kube.apps_v1 import Deployment
from kaito.kube.core_v1 import Node
from tests.operating.workspace_scene import WorkspaceScene as Scene

PRESET = "phi-3-mini-4k-instruct"


async def bring(at: Scene, **labels_of: dict[str, str]) -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "1"}}
    for name, labels in labels_of.items():
        metadata = {"name": name, "labels": {"apps": "phi-3", **labels}}
        await at.client.create(Node.model_validate({"metadata": metadata, "status": status}))


def choosing(expression: dict[str, Any]) -> dict[str, Any]:
    selector = {"matchLabels": {"apps": "phi-3"}, "matchExpressions": [expression]}
    return {"resource": {"count": 1, "labelSelector": selector}}


async def wanted_by_pods(at: Scene) -> list[dict[str, Any]]:
    (deployment,) = await at.client.list(Deployment)
    affinity = deployment.to_dict()["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    found: list[dict[str, Any]] = term["matchExpressions"]
    return found


@pytest.mark.parametrize(
    ("expression", "used"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, ("a", "b")),
        ({"key": "zone", "operator": "NotIn", "values": ["a", "b"]}, ("c", "none")),
        ({"key": "zone", "operator": "Exists"}, ("a", "b", "c")),
        ({"key": "zone", "operator": "DoesNotExist"}, ("none",)),
    ],
)
def test_expressions_choose_among_existing_nodes_and_stand_in_the_affinity_of_the_pods(
    scene: Any, expression: dict[str, Any], used: tuple[str, ...]
) -> None:
    async def script(at: Scene) -> None:
        await bring(at, a={"zone": "a"}, b={"zone": "b"}, c={"zone": "c"}, none={})
        await at.step()
        assert (await at.workspace()).status.worker_nodes == used
        assert await wanted_by_pods(at) == [{"key": "apps", "operator": "In", "values": ["phi-3"]}, expression]
        assert await at.machines() == []

    scene(script, PRESET, "", **choosing(expression))


def test_nodes_that_are_missing_are_told_in_the_words_of_kubectl(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await bring(at, c={"zone": "c"})
        await at.step()
        assert "0 of 1 ready nodes have the labels apps=phi-3,zone in (a,b)" in (await at.told("ResourceReady"))[2]

    scene(script, PRESET, "", **choosing({"key": "zone", "operator": "In", "values": ["a", "b"]}))


@pytest.mark.parametrize("made", [MACHINE, None], ids=["no instance type", "byo"])
def test_labels_that_only_the_controller_sets_are_asked_of_no_existing_node(scene: Any, made: ClaimKind | None) -> None:
    async def script(at: Scene) -> None:
        await bring(at, own={})
        at.restart(made)
        await at.step()
        assert (await at.workspace()).status.worker_nodes == ("own",)
        assert await wanted_by_pods(at) == [{"key": "apps", "operator": "In", "values": ["phi-3"]}]

    labels = {"apps": "phi-3", **dict.fromkeys(keys.RESERVED_LABELS, "x")}
    scene(script, PRESET, "" if made is not None else "Standard_NC6s_v3", labels=labels)
