"""Pods of process nodes: what people and controllers see of them is what a kubelet would show, and nothing survives."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaito.client import Client
from kaito.client.errors import Forbidden, NotFound
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.process_nodes.images import ImageTable, LocalImage
from kaito.kube.batch_v1 import Job
from kaito.kube.conditions import find, is_true
from kaito.kube.core_v1 import ContainerStatus, Node, Pod
from kaito.kube.events_v1 import Event
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually

FIRST_BACK_OFF_S = 0.5
IMAGE = "test:1"
WORK = {"name": "work", "mountPath": "/scratch"}
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if not os.path.exists("/scratch/sick") else 503)
        self.end_headers()
    def log_message(self, *_): pass
print("serving", flush=True)
http.server.HTTPServer((os.environ["LOCAL_IP"], 8000), Handler).serve_forever()
"""
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


@pytest.fixture(scope="module")
def agent(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One for all tests here: two of them would both run every pod."""
    running = Agent(control_plane.kubeconfig, tmp_path_factory.mktemp("process-nodes") / "agent")
    running.start()
    yield running
    running.stop()
    assert running.processes() == []


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

    async def events(self, name: str) -> dict[str, str]:
        """The notes of a pod's events by reason."""
        found = await self._client.list(Event, namespace=self._namespace)
        return {each.reason or "": each.note or "" for each in found if each.regarding and each.regarding.name == name}


@pytest.fixture
async def pods(agent: Agent, client: Client, namespace: str) -> AsyncIterator[Pods]:
    """On a node of its own, with which all that they started ends."""
    made = Pods(client, namespace)
    labels = {"kaito.sh/process-node": "true"}
    await client.create(Node.model_validate({"metadata": {"name": made.node, "labels": labels}}))
    yield made
    await client.delete(Node, ObjectKey(made.node))
    await eventually(lambda: not agent.processes(), message="processes outlive their node")


def main(pod: Pod) -> ContainerStatus:
    [status] = pod.status.container_statuses or (ContainerStatus(name="main"),)
    return status


def waiting(pod: Pod, reason: str) -> bool:
    state = main(pod).state.waiting
    return state is not None and state.reason == reason


def ready(pod: Pod) -> bool:
    return is_true(pod.status.conditions, "Ready")


async def test_a_server_becomes_ready_as_its_probe_says_and_is_restarted_when_it_is_sick(
    agent: Agent, pods: Pods
) -> None:
    probe = {"httpGet": {"port": "http", "path": "/health"}, "periodSeconds": 1, "failureThreshold": 1}
    container = {
        "ports": [{"containerPort": 8000, "name": "http"}],
        "startupProbe": {**probe, "failureThreshold": 30},
        "readinessProbe": probe,
        "livenessProbe": {
            "exec": {"command": ["test", "!", "-e", "/scratch/sick"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    }
    await pods.create("server", pods.spec("python", "-c", SERVER, container=container))
    pod = await pods.until("server", ready)
    assert pod.status.phase == "Running"
    assert (pod.status.pod_ip or "").startswith("10.244.")
    assert (main(pod).ready, main(pod).started, main(pod).restart_count) == (True, True, 0)
    assert (main(pod).container_id or "").startswith("process://")
    assert find(pod.status.conditions, "Initialized")
    folder = agent.directory / "pods" / pod.metadata.uid / "volumes" / "work"
    (folder / "sick").touch()
    pod = await pods.until("server", lambda pod: main(pod).last_state.terminated is not None)
    (folder / "sick").unlink()
    ended = main(pod).last_state.terminated
    assert ended is not None
    assert ended.exit_code == 143
    await pods.until("server", lambda pod: ready(pod) and main(pod).restart_count >= 1)
    events = await eventually(lambda: _with(pods, "server", "Killing"))
    assert {"Pulled", "Created", "Started", "Unhealthy", "Killing"} <= events.keys()
    assert events["Killing"] == "Container main failed liveness probe, will be restarted"


async def _with(pods: Pods, name: str, reason: str) -> dict[str, str] | None:
    events = await pods.events(name)
    return events if reason in events else None


async def test_a_container_that_crashes_backs_off_and_says_why(agent: Agent, pods: Pods) -> None:
    spec = pods.spec(
        *("sh", "-c", "echo no such model; exit 3"),
        container={"terminationMessagePolicy": "FallbackToLogsOnError"},
    )
    made = await pods.create("crash", spec)
    pod = await pods.until("crash", lambda pod: waiting(pod, "CrashLoopBackOff") and main(pod).restart_count >= 2)
    state, last = main(pod).state.waiting, main(pod).last_state.terminated
    assert state is not None
    assert last is not None
    uid = made.metadata.uid
    assert (state.message or "").endswith(
        f" restarting failed container=main pod=crash_{pod.metadata.namespace}({uid})"
    )
    assert (last.exit_code, last.reason, last.message) == (3, "Error", "no such model\n")
    assert (pod.status.phase, ready(pod)) == ("Running", False)
    await eventually(lambda: _with(pods, "crash", "BackOff"))
    logs = agent.directory / "logs" / f"{pod.metadata.namespace}_crash_{uid}" / "main"
    assert (logs / "0.log").read_text() == (logs / "1.log").read_text() == "no such model\n"


async def test_init_containers_run_in_order_and_one_that_fails_holds_the_pod_back(agent: Agent, pods: Pods) -> None:
    def init(name: str, script: str) -> dict[str, Any]:
        return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": [WORK]}

    inits = [
        init("one", "sleep 0.3; touch /scratch/one"),
        init("two", "test -e /scratch/one && ! test -e /scratch/main && touch /scratch/two"),
    ]
    await pods.create(
        "good", pods.spec("sh", "-c", "touch /scratch/main; test -e /scratch/two && sleep 60", initContainers=inits)
    )
    await pods.create("bad", pods.spec("true", initContainers=[init("one", "exit 7")], restartPolicy="Never"))
    pod = await pods.until("good", ready)
    assert [each.ready for each in pod.status.init_container_statuses] == [True, True]
    pod = await pods.until("bad", lambda pod: pod.status.phase == "Failed")
    assert waiting(pod, "PodInitializing")
    [status] = pod.status.init_container_statuses
    assert status.state.terminated is not None
    assert status.state.terminated.exit_code == 7


async def test_a_job_completes(agent: Agent, pods: Pods, client: Client, namespace: str) -> None:
    script = "echo done > /dev/termination-log"
    template = {"spec": pods.spec("sh", "-c", script, restartPolicy="OnFailure")}
    job = Job.model_validate({"metadata": {"name": "job", "namespace": namespace}, "spec": {"template": template}})
    await client.create(job)

    async def complete() -> bool:
        found = await client.get(Job, ObjectKey("job", namespace))
        return is_true(found.status.conditions, "Complete")

    await eventually(complete, timeout_s=30)
    [pod] = await client.list(Pod, namespace=namespace)
    ended = main(pod).state.terminated
    assert ended is not None
    assert (ended.reason, ended.message, pod.status.phase) == ("Completed", "done\n", "Succeeded")


async def test_a_deleted_pod_may_wind_down_within_its_grace(agent: Agent, pods: Pods, client: Client) -> None:
    for name, script in (("polite", POLITE), ("stubborn", STUBBORN)):
        await pods.create(name, pods.spec("sh", "-c", script))
    for name in ("polite", "stubborn"):
        await pods.until(name, ready)
    assert len(agent.processes()) >= 2
    await client.delete(Pod, pods.key("polite"), grace_period_s=600)
    await pods.until_gone("polite")
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    await client.delete(Pod, pods.key("stubborn"))
    await pods.until_gone("stubborn")
    assert loop.time() - started_s >= 0.9, "it had its grace"
    assert agent.processes() == []


async def test_pods_whose_node_is_deleted_end(agent: Agent, pods: Pods, client: Client) -> None:
    await pods.create("left", pods.spec("sh", "-c", STUBBORN))
    await pods.until("left", ready)
    await client.delete(Node, ObjectKey(pods.node))
    await eventually(lambda: not agent.processes())
    await client.create(Node.model_validate({"metadata": {"name": pods.node}}))


async def test_an_image_that_is_not_there_backs_off(agent: Agent, pods: Pods) -> None:
    await pods.create("no-image", pods.spec("true", container={"image": "absent"}))
    await pods.until("no-image", lambda pod: waiting(pod, "ErrImagePull"))
    pod = await pods.until("no-image", lambda pod: waiting(pod, "ImagePullBackOff"))
    state = main(pod).state.waiting
    assert state is not None
    assert (state.message or "").startswith('Back-off pulling image "absent": ErrImagePull: ')
    assert (pod.status.phase, main(pod).restart_count) == ("Pending", 0)
    events = await eventually(lambda: _with(pods, "no-image", "BackOff"))
    assert events["BackOff"] == 'Back-off pulling image "absent"'


async def test_a_container_killed_by_a_signal_tells_so_and_its_children_die_with_it(agent: Agent, pods: Pods) -> None:
    # Kubernetes makes one dollar of two.
    await pods.create("killed", pods.spec("sh", "-c", "sleep 60 & kill -KILL $$$$", restartPolicy="Never"))
    pod = await pods.until("killed", lambda pod: pod.status.phase == "Failed")
    ended = main(pod).state.terminated
    assert ended is not None
    assert ended.exit_code == 128 + signal.SIGKILL
    await eventually(lambda: not agent.processes())


async def test_a_killed_agent_leaves_no_process_and_the_next_one_takes_up_its_pods(agent: Agent, pods: Pods) -> None:
    work = [{"name": "work", "emptyDir": {"medium": "Memory"}}]
    await pods.create("one", pods.spec("sh", "-c", f"setsid sleep 60 & touch /scratch/one; {POLITE}", volumes=work))
    await pods.create("two", pods.spec("sh", "-c", POLITE, restartPolicy="Never"))
    before = await pods.until("one", ready)
    await pods.until("two", ready)
    memory = (agent.directory / "pods" / before.metadata.uid / "volumes" / "work").resolve()
    await eventually((memory / "one").exists)
    orphan = agent.directory / "pods" / "deleted-meanwhile"
    orphan.mkdir()
    agent.kill()
    await eventually(lambda: not agent.processes())
    await eventually(lambda: not memory.exists())
    agent.start()
    pod = await pods.until("one", lambda pod: ready(pod) and main(pod).restart_count == 1)
    ended = main(pod).last_state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    assert pod.status.pod_ip == before.status.pod_ip
    pod = await pods.until("two", lambda pod: pod.status.phase == "Failed")
    assert main(pod).restart_count == 0
    assert not orphan.exists()
    await eventually((memory / "one").exists)
    agent.stop()  # for good: this is the last test here
    assert not memory.parent.parent.exists()
