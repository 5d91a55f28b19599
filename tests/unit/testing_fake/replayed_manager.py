"""A manager whose request log is compared between runs: prints it as JSON, for the seed in its first argument."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys

from kaito.client.client import Client
from kaito.kube.core_v1 import Node
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.runtime.controller import Controller
from kaito.runtime.manager import Manager
from kaito.runtime.reconciler import Reconciler, Result
from kaito.testing.fake_api import CutWatch, Drop, FakeApi, Fault, Refuse, garbage_collector, node_agent
from kaito.testing.virtual_clock import run


class PoolSpec(KubeModel):
    """How many nodes there shall be."""

    size: int = 0


class Pool(Resource, group="example.com", version="v1", namespaced=False):
    """Some nodes."""

    spec: PoolSpec = PoolSpec()


class PoolReconciler(Reconciler[Pool]):
    """Makes the nodes of a pool and counts those that are ready."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reconcile(self, pool: Pool) -> Result:
        """One step towards the wanted size."""
        name = pool.metadata.name
        uid = pool.metadata.uid
        owner = {"apiVersion": "example.com/v1", "kind": "Pool", "name": name, "uid": uid, "controller": True}
        for number in range(pool.spec.size):
            metadata = {"name": f"{name}-{number}", "labels": {"pool": name}, "ownerReferences": [owner]}
            await self._client.apply(Node.model_validate({"metadata": metadata}))
        nodes = await self._client.list(Node, labels=f"pool={name}")
        ready = sum("Ready" in str(node.to_dict().get("status")) for node in nodes)
        await self._client.status.patch(Pool, pool.key, {"status": {"ready": ready}})
        return Result()


async def main(seed: int) -> list[tuple[object, ...]]:
    """Pools come and one goes, while requests fail, answers are lost and watches break."""
    api = FakeApi(seed=seed)
    api.register(Pool)
    node_agent(api, ready_after_s=4)
    garbage_collector(api)
    api.faults.add(Fault(CutWatch(after=9), verb="watch", times=3))
    api.faults.add(Fault(Refuse(500), verb="apply", nth=5, times=3))
    api.faults.add(Fault(Drop(handled=True), verb="apply", nth=12))
    transport = api.transport(user_agent="pools")
    manager = Manager("pools", None, transport=transport, metrics="0", health="0", rng=random.Random(seed))
    manager.add(Controller(Pool, PoolReconciler(manager.client), owns=[Node], concurrency=3))
    running = asyncio.create_task(manager.run())
    for number in range(4):
        pool = {"metadata": {"name": f"p{number}"}, "spec": {"size": 3}}
        api.call("POST", Pool.resource_type.path(), pool)
    await asyncio.sleep(60)
    assert [pool["status"]["ready"] for pool in api.objects(Pool)] == [3, 3, 3, 3]
    api.call("DELETE", Pool.resource_type.path(None, "p1"))
    await asyncio.sleep(600)
    assert len(api.objects(Node)) == 9
    manager.stop()
    await running
    return [tuple(entry) for entry in api.log]


if __name__ == "__main__":
    logging.disable()
    chosen = int(sys.argv[1])
    print(json.dumps(run(main(chosen), seed=chosen)))
