"""A program whose request log is compared between runs: prints it as JSON, for the seed in its first argument."""

from __future__ import annotations

import asyncio
import json
import random
import sys

from kaito.client.client import Client
from kaito.client.errors import ApiError, TransportError
from kaito.client.middleware import RetryMiddleware
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import CutWatch, Drop, FakeApi, Fault, throttled
from kaito.testing.fake_api.actors import node_agent
from kaito.testing.virtual_clock import run


async def main(seed: int) -> list[tuple[object, ...]]:
    """Workers label nodes as they become ready, while requests are dropped, throttled and watches cut."""
    api = FakeApi(seed=seed)
    api.faults.add(Fault(throttled(2), verb="patch", nth=3, times=2))
    api.faults.add(Fault(Drop(handled=True), verb="patch", nth=9))
    api.faults.add(Fault(CutWatch(after=7), verb="watch", times=3))
    node_agent(api, ready_after_s=5)
    client = Client(api.transport(), field_owner="replay", middleware=[RetryMiddleware(random.Random(seed))])
    keys: asyncio.Queue[ObjectKey] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(work(client, keys)) for _ in range(5)} | {group.create_task(follow(client, keys))}
        for number in range(20):
            await client.create(Node.model_validate({"metadata": {"name": f"n{number}"}}))
        await asyncio.sleep(300)
        for task in tasks:
            task.cancel()
    await client.aclose()
    return [tuple(entry) for entry in api.log]


async def work(client: Client, keys: asyncio.Queue[ObjectKey]) -> None:
    """Labels nodes; what fails is tried again later."""
    while True:
        key = await keys.get()
        try:
            await client.patch(Node, key, {"metadata": {"labels": {"seen": "true"}}})
        except (ApiError, TransportError):
            await asyncio.sleep(random.random())
            keys.put_nowait(key)


async def follow(client: Client, keys: asyncio.Queue[ObjectKey]) -> None:
    """Queues nodes without the label, from one watch after the other."""
    while True:
        try:
            async for event in client.watch(Node, labels="!seen", timeout_s=50):
                if event.type in ("ADDED", "MODIFIED"):
                    keys.put_nowait(event.object.key)
        except TransportError:
            await asyncio.sleep(random.random())


if __name__ == "__main__":
    chosen = int(sys.argv[1])
    print(json.dumps(run(main(chosen), seed=chosen)))
