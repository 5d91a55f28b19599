"""`kaito explain`: which part is to blame for what was seen, in which words, and what there is to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.cli.explain.build import build
from kaito.cli.explain.fetch import Log
from kaito.cli.explain.report import Report, report_of, text
from kaito.cli.explain.seen import Seen, duration
from kaito.cli.explain.tree import LogSource
from kaito.cli.rights import Right
from kaito.kube.apps_v1 import Deployment, ReplicaSet
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.events_v1 import Event

NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
EARLIER = (NOW - timedelta(minutes=10)).isoformat()
PROBE = {"httpGet": {"path": "/health", "port": 5000}, "periodSeconds": 2, "failureThreshold": 900}


def condition(kind: str, status: str, reason: str = "Because", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": EARLIER}


def workspace(*conditions: Mapping[str, str], **status: Any) -> Workspace:
    return Workspace.model_validate(
        {
            "metadata": {"name": "phi", "namespace": "demo", "uid": "w", "generation": 1, "creationTimestamp": EARLIER},
            "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"apps": "phi"}}},
            "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
            "status": {"observedGeneration": 1, "conditions": conditions, **status},
        }
    )


READY = workspace(condition("ResourceReady", "True"), condition("WorkspaceReady", "True"))
WAITS = workspace(
    condition("ResourceReady", "False", "NodeClaimNotReady", "waits"),
    condition("WorkspaceReady", "False", "NodeClaimNotReady", "waits"),
)

LOADS = workspace(
    condition("ResourceReady", "True"),
    condition("InferenceReady", "False", "WorkspaceInferenceStatusPending", "0 of 1 pods are ready"),
)


def machine(*conditions: Mapping[str, str], node: str = "") -> Machine:
    requirement = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC6s_v3"]}
    return Machine.model_validate(
        {
            "metadata": {"name": "ws1", "uid": "m", "creationTimestamp": EARLIER},
            "spec": {"machineTemplateRef": {"name": "ws1"}, "requirements": [requirement]},
            "status": {"conditions": conditions, "nodeName": node},
        }
    )


READY_MACHINE = machine(condition("Ready", "True"), node="n1")


def node(status: str = "True", message: str = "") -> Node:
    return Node.model_validate(
        {
            "metadata": {"name": "n1"},
            "status": {
                "conditions": [condition("Ready", status, "KubeletReady", message)],
                "allocatable": {"nvidia.com/gpu": "1"},
            },
        }
    )


def owned(name: str, uid: str, kind: str, owner: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": "phi", "uid": owner, "controller": True}
    return {"name": name, "namespace": "demo", "uid": uid, "ownerReferences": [reference]}


def pod(container: Mapping[str, Any] | None = None, **changes: Any) -> Pod:
    containers = [{"name": "inference", "image": "kaito:1", "startupProbe": PROBE}]
    spec = {"containers": containers, "nodeName": "n1", **changes.pop("spec", {})}
    status = {"phase": "Pending", **changes.pop("status", {})}
    if container is not None:
        status["containerStatuses"] = [{"name": "inference", "image": "kaito:1", "imageID": "", **container}]
    return Pod.model_validate(
        {"metadata": owned("phi-abc", "p", "ReplicaSet", "r"), "spec": spec, "status": status, **changes}
    )


def judged(of: Workspace, *, pods: tuple[Pod, ...] = (), **parts: Any) -> Report:
    """The answer for a Workspace with one node, a Deployment and these pods, unless told otherwise."""
    selector = {"matchLabels": {"kaito.sh/workspace": "phi"}}
    ready = sum(1 for each in pods if all(status.ready for status in each.status.container_statuses))
    deployment = {"metadata": {"name": "phi", "uid": "d"}, "spec": {"replicas": 1, "selector": selector}}
    deployment["status"] = {"readyReplicas": ready}
    replica_set = {"metadata": owned("phi-1", "r", "Deployment", "d"), "spec": {"replicas": 1, "selector": selector}}
    replica_set["status"] = {"readyReplicas": ready}
    usual: dict[str, Any] = {"claims": (READY_MACHINE,), "nodes": (node(),)}
    if pods:
        usual["workloads"] = (Deployment.model_validate(deployment),)
        usual["replica_sets"] = (ReplicaSet.model_validate(replica_set),)
    seen = Seen(of, NOW, pods=pods, **(usual | parts))
    return report_of(seen, build(seen))


def cause(report: Report) -> tuple[str, str, str]:
    assert report.blamed is not None
    return f"{report.blamed.kind} {report.blamed.name}", report.blamed.says, report.blamed.advice


def ended(exit_code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": EARLIER, "finishedAt": EARLIER}}


RUNNING = {"running": {"startedAt": EARLIER}}
SERVING = pod({"ready": True, "started": True, "state": RUNNING})


def test_all_well() -> None:
    report = judged(READY, pods=(SERVING,))
    assert (report.exit_code, report.blamed) == (0, None)
    assert text(report).splitlines()[0] == "✓ Workspace demo/phi is ready"


@pytest.mark.parametrize("status", ["Unknown", "False"])
def test_a_launch_that_fails_for_quota_is_the_claims_fault_whether_or_not_it_is_tried_again(status: str) -> None:
    told = "quota for Standard_NC6s_v3 in eastus is 0 of 6 vCPUs"
    claim = machine(condition("MachineLaunched", status, "QuotaExceeded", told))
    report = judged(WAITS, claims=(claim,), nodes=())
    what, says, advice = cause(report)
    assert (report.exit_code, what) == (1, "Machine ws1")
    assert told in says
    assert advice == "ask the cloud for more quota of Standard_NC6s_v3, or choose another resource.instanceType"


def test_an_instance_in_the_making_is_waited_for() -> None:
    claim = machine(condition("MachineLaunched", "Unknown", "Creating", "the pool is Creating"))
    report = judged(WAITS, claims=(claim,), nodes=())
    assert (report.exit_code, cause(report)[0]) == (3, "Machine ws1")
    assert "nothing is to be done but to wait" in text(report)


def test_a_claim_that_nobody_takes_up_asks_for_the_machine_controller() -> None:
    report = judged(WAITS, claims=(machine(),), nodes=())
    assert report.exit_code == 1
    assert "with its machine controller" in cause(report)[2]


def test_a_node_that_stopped_reporting_is_to_blame_and_not_the_pod_on_it() -> None:
    lost = node("Unknown", "Kubelet stopped posting node status.")
    report = judged(WAITS, nodes=(lost,), pods=(pod({"ready": False, "state": ended(1)}),))
    what, says, _ = cause(report)
    assert (report.exit_code, what) == (1, "Node n1")
    assert says == "not ready for 10 min: Kubelet stopped posting node status."


def test_a_node_that_is_gone() -> None:
    report = judged(WAITS, nodes=(), nodes_gone=frozenset({"n1"}))
    assert cause(report)[:2] == ("Node n1", "is gone")


def test_a_node_that_fell_silent_a_moment_ago_was_silent_for_long_before() -> None:
    just = condition("Ready", "Unknown", "NodeStatusUnknown", "silent") | {"lastTransitionTime": NOW.isoformat()}
    lost = Node.model_validate(
        {"metadata": {"name": "n1", "labels": {"kaito.sh/process-node": "true"}}, "status": {"conditions": [just]}}
    )
    report = judged(WAITS, nodes=(lost,))
    assert (report.exit_code, cause(report)[0]) == (1, "Node n1")
    assert "kaito devcluster up --node process" in cause(report)[2]


UNSCHEDULED = pod(
    spec={"nodeName": ""},
    status={"conditions": [condition("PodScheduled", "False", "Unschedulable", "0/1 nodes: 1 Insufficient gpu.")]},
)


def test_a_pod_that_no_node_takes() -> None:
    report = judged(WAITS, pods=(UNSCHEDULED,))
    what, says, advice = cause(report)
    assert (report.exit_code, what) == (1, "Pod phi-abc")
    assert says == "is not scheduled: 0/1 nodes: 1 Insufficient gpu."
    assert advice.startswith("other pods hold what it asks for")


def test_a_pod_whose_node_is_still_to_come_just_waits() -> None:
    claim = machine(condition("MachineLaunched", "Unknown", "Creating", "the pool is Creating"))
    report = judged(WAITS, claims=(claim,), nodes=(), pods=(UNSCHEDULED,))
    assert (report.exit_code, cause(report)[0]) == (3, "Machine ws1")


def test_an_image_that_cannot_be_pulled() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "kaito:1"'}}
    report = judged(WAITS, pods=(pod({"ready": False, "state": waiting}),))
    what, says, advice = cause(report)
    assert (report.exit_code, what) == (1, "container inference")
    assert says.startswith("does not start: ImagePullBackOff: Back-off pulling")
    assert "the image kaito:1 exists" in advice
    assert report.blamed is not None
    assert report.blamed.log is None  # it never ran


def test_a_volume_that_is_not_there_holds_a_pod_up_which_only_its_events_tell() -> None:
    note = 'MountVolume.SetUp failed for volume "config" :\n configmap "c" not found'
    told = event("phi-abc", "p", 1, reason="FailedMount", note=note)
    waits = pod({"ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}})
    what, says, advice = cause(judged(WAITS, pods=(waits,), events=(told,)))
    assert what == "Pod phi-abc"
    assert says == 'does not start: FailedMount: MountVolume.SetUp failed for volume "config" : configmap "c" not found'
    assert "make what it names" in advice
    crashed = {"ready": False, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    report = judged(WAITS, pods=(pod(crashed | {"lastState": ended(1)}),), events=(told,))
    assert cause(report)[0] == "container inference"  # it came past that


def test_an_init_container_that_fails_is_to_blame_and_not_the_one_that_waits_for_it() -> None:
    init = {"name": "puller-one", "image": "kaito:1", "imageID": "", "restartCount": 2, "ready": False}
    init |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(1)}
    broken = pod(
        {"ready": False, "state": {"waiting": {"reason": "PodInitializing"}}},
        spec={"initContainers": [{"name": "puller-one", "image": "kaito:1"}]},
        status={"initContainerStatuses": [init]},
    )
    report = judged(WAITS, pods=(broken,))
    what, says, advice = cause(report)
    assert (report.exit_code, what) == (1, "init container puller-one")
    assert says == "ended 2 times, last with exit code 1 (Error)"
    assert "imagePullSecrets" in advice
    assert report.blamed is not None
    assert report.blamed.log == LogSource("phi-abc", "puller-one", previous=True)


@pytest.mark.parametrize(
    ("exit_code", "reason", "advice"),
    [
        (137, "OOMKilled", "it needs more memory"),
        (137, "Error", "somebody killed it"),
        (127, "StartError", "the image kaito:1 has not the program"),
        (1, "Error", "its log says why"),
    ],
)
def test_a_crash_loop_says_how_it_ended_and_what_to_do(exit_code: int, reason: str, advice: str) -> None:
    state = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(exit_code, reason)}
    report = judged(WAITS, pods=(pod({"ready": False, "restartCount": 3, **state}),))
    what, says, told = cause(report)
    assert (report.exit_code, what) == (1, "container inference")
    told_reason = "SIGKILL" if (exit_code, reason) == (137, "Error") else reason
    assert says == f"ended 3 times, last with exit code {exit_code} ({told_reason})"
    assert told.startswith(advice)


def test_a_model_that_loads_is_waited_for_and_its_log_shown() -> None:
    report = judged(WAITS, pods=(pod({"ready": False, "started": False, "state": RUNNING}),))
    what, says, _ = cause(report)
    assert (report.exit_code, what) == (3, "container inference")
    assert says == "has been loading the model for 10 min of the 30 min that it is given"
    assert report.blamed is not None
    assert report.blamed.log == LogSource("phi-abc", "inference")


def test_a_server_that_served_and_does_not_any_more_fails() -> None:
    report = judged(WAITS, pods=(pod({"ready": False, "started": True, "state": RUNNING}),))
    assert (report.exit_code, cause(report)[0]) == (1, "container inference")


def test_pods_that_the_api_server_refuses() -> None:
    report = judged(WAITS, pods=(UNSCHEDULED,))
    failure = condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: compute")
    refused = report.seen.replica_sets[0].to_dict() | {"status": {"conditions": [failure]}}
    seen = Seen(
        WAITS,
        NOW,
        (READY_MACHINE,),
        (node(),),
        workloads=report.seen.workloads,
        replica_sets=(ReplicaSet.model_validate(refused),),
    )
    assert cause(report_of(seen, build(seen)))[:2] == ("ReplicaSet phi-1", "makes no pods: exceeded quota: compute")


@pytest.mark.parametrize("reason", ["NodeNotReady", "ModelNotResolved"])
def test_what_no_part_tells_the_workspace_tells_itself(reason: str) -> None:
    told = "0 of 1 ready nodes have the labels apps=phi: label some"
    report = judged(workspace(condition("ResourceReady", "False", reason, told)), claims=(), nodes=())
    what, says, _ = cause(report)
    assert (report.exit_code, what) == (1, "Workspace demo/phi")
    assert says == f"ResourceReady is False ({reason}): {told}"


def test_a_workspace_that_nobody_looks_at_asks_for_the_operator() -> None:
    report = judged(workspace(observedGeneration=0), claims=(), nodes=())
    assert report.exit_code == 1
    assert cause(report)[1] == "the operator has not looked at it yet; changed 10 min ago"


def test_a_claim_on_record_that_is_not_there_is_to_be_made() -> None:
    wanted = workspace(
        condition("ResourceReady", "False", "NodeClaimNotReady", "waits"),
        nodeClaims=[{"ordinal": 0, "incarnation": 0, "name": "ws1"}],
    )
    assert cause(judged(wanted, claims=(), nodes=()))[:2] == ("claim ws1", "is to be made")


def test_what_may_not_be_looked_at_is_named_and_blamed_for_nothing() -> None:
    rights = (Right("get", "nodes", None), Right("list", "pods", "demo"))
    report = judged(READY, nodes=(), withheld=rights, user="bob")
    assert report.exit_code == 0
    said = text(report)
    assert "? Node n1: you may not look at it: that needs the right to get nodes" in said
    assert "  get nodes in the whole cluster\n  list pods in namespace demo\n" in said
    assert "\n  kubectl create clusterrolebinding kaito-explain-bob --clusterrole=kaito-explain --user=bob\n" in said
    assert said.endswith("  kubectl create rolebinding kaito-explain-bob -n demo --role=kaito-explain --user=bob")


def test_what_may_not_be_looked_at_may_be_what_is_to_blame() -> None:
    rights = (Right("get", "deployments.apps", "demo"), Right("list", "pods", "demo"))
    said = text(judged(LOADS, withheld=rights))
    assert "what keeps it may be in what you may not (below)" in said
    assert "? Deployment ?: you may not look at it: that needs the right to get deployments.apps" in said
    assert "? Pod ?: you may not look at it: that needs the right to list pods" in said


def test_a_workspace_that_is_deleted_says_what_it_waits_for_and_who_is_to_take_its_finalizer_away() -> None:
    going = {"deletionTimestamp": EARLIER, "finalizers": ["workspace.finalizer.kaito.sh"]}
    told = condition("WorkspaceDeleting", "True", "workspaceDeleted", "being deleted; waits for Machine ws1 to go")
    ended_pod = Pod.model_validate(SERVING.to_dict() | {"metadata": SERVING.metadata.to_dict() | going})
    report = judged(deleted(workspace(told), going))
    assert (report.exit_code, cause(report)[0]) == (3, "Workspace demo/phi")
    assert cause(report)[1] == "is being deleted for 10 min: waits for Machine ws1 to go"
    assert cause(judged(deleted(workspace(told), going), pods=(ended_pod,)))[1] == "should have ended 10 min ago"
    assert "is the operator running" in cause(judged(deleted(workspace(), going)))[2]
    others = judged(deleted(workspace(told), going | {"finalizers": ["else.example.com/x"]}))
    assert "KAITO is done with it, it waits for else.example.com/x" in cause(others)[1]


def deleted(of: Workspace, metadata: Mapping[str, Any]) -> Workspace:
    content = of.to_dict()
    return Workspace.model_validate(content | {"metadata": content["metadata"] | metadata})


def test_what_is_said_again_and_again_is_said_once_and_the_tree_is_short() -> None:
    long = f"{'x' * 300} the end"
    crashed = {"ready": False, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": long}}
    report = judged(WAITS, pods=(pod(crashed | {"lastState": last}),))
    said = text(Report(report.seen, report.root, report.blamed, Log(("asks", "asks", "asks", "gave up"))))
    head, _, tree = said.partition("\n\n")
    assert "x" * 280 in head
    assert "x" * 150 not in tree
    assert head.endswith("    asks  (3 times)\n    gave up")


def event(name: str, uid: str, minutes: int, **changes: Any) -> Event:
    at = (NOW - timedelta(minutes=minutes)).isoformat()
    regarding = {"kind": "Pod", "name": name, "uid": uid}
    old = {"deprecatedLastTimestamp": at, "deprecatedCount": 4}
    return Event.model_validate({"metadata": {"name": "e"}, "regarding": regarding, **old, **changes})


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"ready": False, "started": False, "state": RUNNING}, False),
        ({"ready": True, "started": True, "state": RUNNING}, False),
        ({"ready": False, "started": False, "restartCount": 1, "state": RUNNING, "lastState": ended(143)}, True),
        ({"ready": False, "restartCount": 1, "state": RUNNING, "lastState": ended(1)}, False),
    ],
    ids=["loading", "serving", "loading again, as the time ran out", "loading again, as it failed"],
)
def test_a_startup_probe_that_fails_is_told_only_when_a_server_was_ended_for_it(
    status: dict[str, Any], told: bool
) -> None:
    note = "Startup probe failed: HTTP probe failed with statuscode: 503"
    events = (event("phi-abc", "p", 1, reason="Unhealthy", note=note),)
    assert (note in text(judged(WAITS, pods=(pod(status),), events=events))) is told


def test_the_newest_warnings_of_what_is_in_the_tree_are_shown() -> None:
    events = (
        event("phi-abc", "p", 5, reason="BackOff", note="Back-off restarting"),
        event("phi-abc", "p", 3, reason="Unhealthy", note="probe failed"),
        event("phi-abc", "another", 1, reason="Old", note="of a pod before"),
        event("other", "o", 1, reason="Other", note="of somebody else"),
        event(
            "phi-abc", "p", 4, reason="Unhealthy", note="Startup probe failed: HTTP probe failed with statuscode: 503"
        ),
        event("phi-abc", "p", 11, reason="BackOff", note="before it was ready"),
    )
    said = text(judged(READY, pods=(SERVING,), events=events))
    assert said.partition("Newest warnings:\n")[2].splitlines() == [
        "  3 min ago  Pod phi-abc  Unhealthy (x4): probe failed",
        "  5 min ago  Pod phi-abc  BackOff (x4): Back-off restarting",
    ]


@pytest.mark.parametrize(("seconds", "told"), [(3, "3 s"), (600, "10 min"), (9000, "2 h 30 min"), (700_000, "8 d")])
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told
