"""Pods of process nodes: what people and controllers see of them is what a kubelet would show, and nothing survives."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from kaito.client import Client
from kaito.kube.batch_v1 import Job
from kaito.kube.conditions import find, is_true
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from tests.operating.process_agent import IMAGE, POLITE, STUBBORN, WORK, Agent, Pods, main, ready, waiting

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
    events = await pods.eventually_told("server", "Killing")
    assert {"Pulled", "Created", "Started", "Unhealthy", "Killing"} <= events.keys()
    assert events["Killing"] == "Container main failed liveness probe, will be restarted"


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
    await pods.eventually_told("crash", "BackOff")
    logs = agent.directory / "logs" / f"{pod.metadata.namespace}_crash_{uid}" / "main"
    assert (logs / "0.log").read_text() == (logs / "1.log").read_text() == "no such model\n"


async def test_a_container_that_is_in_the_way_of_its_next_start_is_told_not_to_run(pods: Pods) -> None:
    await pods.create("astray", pods.spec("sh", "-c", "rm /scratch && mkdir /scratch"))
    pod = await pods.until("astray", lambda pod: waiting(pod, "CreateContainerError"))
    assert not ready(pod)
    assert (await pods.eventually_told("astray", "Failed"))["Failed"].endswith(
        "is in the way of a mount: the container put it there; move it away"
    )


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
    events = await pods.eventually_told("no-image", "BackOff")
    assert events["BackOff"] == 'Back-off pulling image "absent"'


async def test_a_container_killed_by_a_signal_tells_so_and_its_children_die_with_it(agent: Agent, pods: Pods) -> None:
    # Kubernetes makes one dollar of two.
    await pods.create("killed", pods.spec("sh", "-c", "sleep 60 & kill -KILL $$$$", restartPolicy="Never"))
    pod = await pods.until("killed", lambda pod: pod.status.phase == "Failed")
    ended = main(pod).state.terminated
    assert ended is not None
    assert ended.exit_code == 128 + signal.SIGKILL
    await eventually(lambda: not agent.processes())
