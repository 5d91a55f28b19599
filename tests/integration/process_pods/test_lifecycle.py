"""What a pod's specification says of its life beside its containers: hooks, deadlines, gates, links and room."""

from __future__ import annotations

from typing import Any

from kaito.client import Client
from kaito.kube.conditions import find
from kaito.kube.core_v1 import Pod, Service
from kaito.testing import eventually
from tests.operating.process_agent import POLITE, Agent, Pods, main, ready, waiting


def touch(name: str, *, after: str = "true") -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", f"{after} && touch /scratch/{name}"]}}


async def test_hooks_run_around_a_container_and_hold_back_who_comes_after_it(
    agent: Agent, pods: Pods, client: Client
) -> None:
    gate = "until test -e /scratch/go; do sleep 0.02; done"
    script = "trap 'test -e /scratch/stopping && touch /scratch/told; exit 0' TERM; while :; do sleep 0.05; done"
    second = {"name": "second", "image": "test:1", "command": ["sleep", "60"]}
    spec = pods.spec(
        *("sh", "-c", script),
        container={"lifecycle": {"postStart": touch("started", after=gate), "preStop": touch("stopping")}},
        volumes=[{"name": "work", "hostPath": {"path": str(agent.scratch("hooks"))}}],
        terminationGracePeriodSeconds=20,
    )
    spec["containers"].append(second)
    await pods.create("hooked", spec)
    folder = agent.scratch("hooks")
    pod = await pods.until("hooked", lambda pod: len(agent.processes()) >= 1 and waiting(pod, "ContainerCreating"))
    assert pod.status.phase == "Pending"
    assert not any(each.state.running for each in pod.status.container_statuses)
    (folder / "go").touch()
    await pods.until("hooked", ready)
    assert (folder / "started").exists()
    await client.delete(Pod, pods.key("hooked"))
    await pods.until_gone("hooked")
    assert (folder / "told").exists(), "SIGTERM comes after the hook"


async def test_a_hook_that_fails_is_told_and_a_container_whose_start_it_was_is_ended(
    agent: Agent, pods: Pods, client: Client
) -> None:
    broken = {"exec": {"command": ["sh", "-c", "echo no such place; exit 4"]}}
    never = {"exec": {"command": ["sleep", "60"]}}
    await pods.create(
        "bad-start",
        pods.spec("sh", "-c", POLITE, container={"lifecycle": {"postStart": broken}}, restartPolicy="Never"),
    )
    await pods.create("bad-stop", pods.spec("sh", "-c", POLITE, container={"lifecycle": {"preStop": broken}}))
    await pods.create("slow-stop", pods.spec("sh", "-c", POLITE, container={"lifecycle": {"preStop": never}}))
    await pods.until("bad-start", lambda pod: pod.status.phase in ("Failed", "Succeeded"))
    events = await pods.eventually_told("bad-start", "FailedPostStartHook")
    assert "exited with 4: no such place" in events["FailedPostStartHook"]
    for name in ("bad-stop", "slow-stop"):
        await pods.until(name, ready)
        await client.delete(Pod, pods.key(name))
    for name in ("bad-stop", "slow-stop"):
        await pods.until_gone(name)
    events = await pods.eventually_told("bad-stop", "FailedPreStopHook")
    assert "exited with 4" in events["FailedPreStopHook"]


async def test_a_pod_that_is_active_for_too_long_fails(pods: Pods) -> None:
    await pods.create("late", pods.spec("sh", "-c", POLITE, activeDeadlineSeconds=1))
    pod = await pods.until("late", lambda pod: pod.status.phase == "Failed")
    assert pod.status.reason == "DeadlineExceeded"
    assert main(pod).state.terminated is not None
    assert (await pods.eventually_told("late", "DeadlineExceeded"))["DeadlineExceeded"] == pod.status.message


async def test_a_pod_is_ready_once_its_gates_are(pods: Pods, client: Client) -> None:
    gates = [{"conditionType": "example.com/served"}]
    await pods.create("gated", pods.spec("sh", "-c", POLITE, readinessGates=gates))
    pod = await pods.until("gated", lambda pod: main(pod).ready)
    condition = find(pod.status.conditions, "Ready")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "ReadinessGatesNotReady")
    served = {"type": "example.com/served", "status": "True"}
    await client.status.patch(Pod, pods.key("gated"), {"status": {"conditions": [served]}}, type="strategic")
    await pods.until("gated", ready)


async def test_a_pod_for_which_its_node_has_no_room_is_rejected(pods: Pods) -> None:
    requests = {"cpu": "10k", "memory": "1Mi"}
    await pods.create("huge", pods.spec("true", container={"resources": {"requests": requests}}))
    pod = await pods.until("huge", lambda pod: pod.status.phase == "Failed")
    assert pod.status.reason == "OutOfcpu"
    assert (pod.status.message or "").startswith("Pod was rejected: Node didn't have enough resource: cpu, ")
    assert pod.status.container_statuses == (), "kubectl get shows the reason"
    assert (await pods.eventually_told("huge", "OutOfcpu"))["OutOfcpu"] in (pod.status.message or "")


async def test_a_container_finds_services_of_its_namespace_where_they_are_on_this_machine(
    pods: Pods, client: Client
) -> None:
    spec = {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80}, {"name": "more", "port": 81}]}
    service = Service.model_validate({"metadata": pods.key("1st-web")._asdict(), "spec": spec})
    service = await client.create(service)
    requests = {"cpu": "10m"}
    script = "env | grep _1ST_WEB_ | sort > /dev/termination-log"
    await pods.create(
        "linked", pods.spec("sh", "-c", script, container={"resources": {"requests": requests}}, restartPolicy="Never")
    )
    pod = await pods.until("linked", lambda pod: pod.status.phase == "Succeeded")
    ended = main(pod).state.terminated
    assert ended is not None
    told = dict(line.split("=", 1) for line in (ended.message or "").splitlines())
    service = await eventually(lambda: client.get(Service, service.key))
    address = service.metadata.annotations["process-node.kaito.sh/address"]
    assert told["_1ST_WEB_PORT"] == told["_1ST_WEB_PORT_80_TCP"] == address.replace("http", "tcp")
    assert f"http://{told['_1ST_WEB_SERVICE_HOST']}:{told['_1ST_WEB_SERVICE_PORT_HTTP']}" == address
    assert told["_1ST_WEB_SERVICE_PORT_MORE"] != told["_1ST_WEB_SERVICE_PORT"]
    assert dict(main(pod).allocated_resources) == requests
