"""The whole operator, whose request log is compared between runs: prints it as JSON, for the seed in its argument."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kaito.api import all_crds
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.controllers.operator import OperatorOptions, add_operator
from kaito.kube.apps_v1 import Deployment
from kaito.kube.core_v1 import Node
from kaito.runtime.manager import Manager
from kaito.testing.fake_api import (
    CutWatch,
    Drop,
    FakeApi,
    Fault,
    Refuse,
    deployment_agent,
    garbage_collector,
    node_agent,
)
from kaito.testing.virtual_clock import run, wall

MANIFEST = Path(__file__).parents[3] / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COUNT = 3


async def main(seed: int) -> list[tuple[object, ...]]:
    """Workspaces come to be ready and go again, while requests fail, answers are lost and the manager is replaced."""
    api = FakeApi(seed=seed)
    for crd in all_crds():
        api.call("POST", CRDS, crd)
    node_agent(api, ready_after_s=30)
    deployment_agent(api, ready_after_s=20)
    garbage_collector(api)
    api.faults.add(Fault(CutWatch(after=5), verb="watch", times=4))
    api.faults.add(Fault(Refuse(500), verb="create", resource="machines", nth=1))
    api.faults.add(Fault(Drop(handled=True), verb="create", resource="machines", nth=2))
    api.faults.add(Fault(Drop(handled=True), verb="patch", nth=6))
    stop = await _start(api, seed)
    for number in range(COUNT):
        api.call("POST", Workspace.resource_type.path("default"), _workspace(number))
    await asyncio.sleep(10)
    await stop()
    stop = await _start(api, seed + 1)
    await _until(lambda: [_ready(workspace) for workspace in api.objects(Workspace)] == ["True"] * COUNT)
    assert [len(api.objects(kind)) for kind in (Machine, Node, Deployment)] == [COUNT] * 3
    for number in range(COUNT):
        api.call("DELETE", Workspace.resource_type.path("default", f"ws-{number}"))
    await _until(lambda: not any(api.objects(kind) for kind in (Workspace, Machine, Node, Deployment)))
    await stop()
    return [tuple(entry) for entry in api.log]


async def _start(api: FakeApi, seed: int) -> Callable[[], Any]:
    transport, rng = api.transport(user_agent="kaito"), random.Random(seed)
    manager = Manager("kaito", None, transport=transport, metrics="0", health="0", rng=rng, now=wall)
    add_operator(manager, OperatorOptions(now=wall))
    running = asyncio.create_task(manager.run())

    async def stop() -> None:
        manager.stop()
        await running

    return stop


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(720):
        if holds():
            return
        await asyncio.sleep(5)
    raise AssertionError("not within an hour")


def _workspace(number: int) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    # The fake converts nothing: what is stored is what was posted.
    manifest |= {"apiVersion": "kaito.sh/v1beta1"}
    manifest["metadata"]["name"] = f"ws-{number}"
    return manifest


def _ready(workspace: dict[str, Any]) -> str | None:
    conditions = workspace.get("status", {}).get("conditions", [])
    return next((item["status"] for item in conditions if item["type"] == "WorkspaceReady"), None)


if __name__ == "__main__":
    logging.disable()
    chosen = int(sys.argv[1])
    print(json.dumps(run(main(chosen), seed=chosen)))
