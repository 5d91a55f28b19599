"""A control plane with process nodes: its agent dies and comes back, all else stays, and in the end nothing is left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import aiohttp

from kaito.client import Client, load_config
from kaito.devcluster import Progress
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.layout import Layout
from kaito.devcluster.process_nodes.images import ImageTable, LocalImage
from kaito.devcluster.process_nodes.services import ADDRESS_ANNOTATION
from kaito.kube import Node, ObjectKey, Pod, Service
from kaito.testing import eventually

SERVE = "import http.server as h, os; h.test(h.SimpleHTTPRequestHandler, bind=os.environ['HERE'], port=8000)"
IMAGES = ImageTable([LocalImage("python:*", programs={"python": sys.executable}, env={"HERE": "$(LOCAL_IP)"})])
NODE = {"metadata": {"name": "n", "labels": {"kaito.sh/process-node": "true"}}}
CONTAINER = {
    "name": "c",
    "image": "python:3",
    "command": ["python", "-c", SERVE],
    "readinessProbe": {"httpGet": {"port": 8000}, "periodSeconds": 1},
}
POD = {
    "metadata": {"name": "p", "namespace": "default", "labels": {"app": "a"}},
    "spec": {"nodeName": "n", "tolerations": [{"operator": "Exists"}], "containers": [CONTAINER]},
}
SERVICE = {
    "metadata": {"name": "s", "namespace": "default"},
    "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": 8000}]},
}


async def test_a_killed_agent_comes_back_and_the_address_of_a_service_answers_again(tmp_path: Path) -> None:
    # So long that a socket in it would have no name.
    directory = tmp_path / ("long" * 25)
    said = (tmp_path / "progress").open("w+")
    plane = ControlPlane(
        controller_manager=True, process_nodes=True, images=IMAGES, directory=directory, progress=Progress(said)
    )
    with said:
        async with plane, Client.from_config(load_config(plane.kubeconfig), name="tests") as client:
            for kind, content in ((Node, NODE), (Pod, POD), (Service, SERVICE)):
                await client.create(kind.model_validate(content))
            address = await eventually(lambda: address_of(client))
            await eventually(lambda: answers(address), timeout_s=20)
            first = plane.pids["process-nodes"]
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: plane.pids.get("process-nodes", first) != first, message="no agent came back")
            await eventually(lambda: answers(address), timeout_s=20)
            assert await address_of(client) == address
            plane.check()
            pids = plane.pids
        said.seek(0)
        assert "process-nodes: was killed by signal 9" in said.read()
    assert not any(map(alive, pids.values()))
    assert {path.name for path in directory.iterdir()} == {"kubeconfig", "logs", ".lock"}
    assert list(Layout(directory).pod_logs.glob("default_p_*/c/*.log"))


async def address_of(client: Client) -> str | None:
    return (await client.get(Service, ObjectKey("s", "default"))).metadata.annotations.get(ADDRESS_ANNOTATION)


async def answers(address: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(address) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
