"""An agent of process nodes as a child process, and pods on a node of its own, for tests of what it does with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaito.client import Client
from kaito.client.errors import Forbidden, NotFound
from kaito.devcluster.process_nodes.images import ImageTable, LocalImage
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import ContainerStatus, Pod
from kaito.kube.events_v1 import Event
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually

FIRST_BACK_OFF_S = 0.5
IMAGE = "test:1"
WORK = {"name": "work", "mountPath": "/scratch"}
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"
POLITE = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"


class Agent:
    """The agent, as a child process."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        self.directory = directory
        self._log = directory.with_name("agent.log")
        images = directory.with_name("images.yaml")
        image = LocalImage(IMAGE, programs={"python": sys.executable}, env={"LOCAL_IP": "$(LOCAL_IP)"})
        ImageTable((image,)).dump(images)
        self._argv = [
            *(sys.executable, "-m", "kaito.devcluster.process_nodes", "--kubeconfig", str(kubeconfig)),
            *("--directory", str(directory), "--images", str(images), "--back-off-s", str(FIRST_BACK_OFF_S)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert code == 0, self._log.read_text()[-3000:]
        assert '"level": "error"' not in self._log.read_text(), self._log.read_text()[-3000:]

    def scratch(self, name: str) -> Path:
        """A folder for a test, which outlives its pods."""
        folder = self.directory.with_name(name)
        folder.mkdir(exist_ok=True)
        return folder

    def processes(self) -> list[int]:
        """The processes that pods started: they work in folders of the agent."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cwd"):
            try:
                folder = place.readlink()
            except OSError:
                continue
            if self.directory in folder.parents:
                found.append(int(place.parent.name))
        return found


class Pods:
    """A process node and pods that are bound to it."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.node = f"node-of-{namespace}"[:63].rstrip("-")

    def spec(self, *command: str, **more: Any) -> dict[str, Any]:
        container = {"name": "main", "image": IMAGE, "command": list(command), **more.pop("container", {})}
        container["volumeMounts"] = [WORK]
        return {
            "nodeName": self.node,
            "containers": [container],
            "volumes": [{"name": "work", "emptyDir": {}}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            **more,
        }

    async def create(self, name: str, spec: dict[str, Any]) -> Pod:
        pod = Pod.model_validate({"metadata": {"name": name, "namespace": self._namespace}, "spec": spec})
        # The namespace's service account comes a moment after it.
        return await eventually(lambda: self._client.create(pod), retry_on=(Forbidden,))

    def key(self, name: str) -> ObjectKey:
        return ObjectKey(name, self._namespace)

    async def until(self, name: str, holds: Callable[[Pod], object], message: str = "", timeout_s: float = 20) -> Pod:
        async def probe() -> Pod:
            pod = await self._client.get(Pod, self.key(name))
            assert holds(pod), pod.status
            return pod

        return await eventually(probe, timeout_s=timeout_s, message=message)

    async def until_gone(self, name: str) -> None:
        async def probe() -> bool:
            try:
                await self._client.get(Pod, self.key(name))
            except NotFound:
                return True
            return False

        await eventually(probe, message=f"{name} is gone")

    async def eventually_told(self, name: str, reason: str) -> dict[str, str]:
        """The same, once one of them has a reason."""

        async def probe() -> dict[str, str] | None:
            events = await self.events(name)
            return events if reason in events else None

        return await eventually(probe, message=f"{name} has an event {reason}")

    async def events(self, name: str) -> dict[str, str]:
        """The notes of a pod's events by reason."""
        found = await self._client.list(Event, namespace=self._namespace)
        return {each.reason or "": each.note or "" for each in found if each.regarding and each.regarding.name == name}


def main(pod: Pod) -> ContainerStatus:
    found = (each for each in pod.status.container_statuses if each.name == "main")
    return next(found, ContainerStatus(name="main"))


def waiting(pod: Pod, reason: str) -> bool:
    state = main(pod).state.waiting
    return state is not None and state.reason == reason


def ready(pod: Pod) -> bool:
    return is_true(pod.status.conditions, "Ready")
