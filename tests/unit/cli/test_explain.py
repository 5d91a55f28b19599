"""`kaito explain`: what it reads of a cluster, and what it does without the right to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.karpenter_v1 import NodeClaim
from kaito.api.karpenter_v1alpha5 import Machine
from kaito.cli.app import app
from kaito.cli.explain.command import explain
from kaito.cli.one_workspace import WorkspaceNotFound
from kaito.client.client import Client
from kaito.client.transport import Request, Response, Transport
from kaito.controllers.workspace.workload import selector_labels
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.object_key import ObjectKey
from kaito.testing import FakeApi, FakeApiServer
from tests.operating.cluster import workspace

KEY = ObjectKey("phi", "default")
SINCE = "2026-01-02T03:04:05Z"
SUPPLIED = {"type": "ResourceReady", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": SINCE}


class Guarded:
    """A transport that refuses what the paths name, and answers for the kubelet's logs, which no fake has."""

    def __init__(self, transport: Transport, *forbidden: str, logs: dict[str, str] | None = None) -> None:
        self._transport = transport
        self._forbidden = forbidden
        self._logs = logs or {}
        self.stream = transport.stream
        self.aclose = transport.aclose

    async def send(self, request: Request) -> Response:
        if any(part in request.path for part in self._forbidden):
            return _status(403, "Forbidden", f"{request.path} is forbidden")
        if not request.path.endswith("/log"):
            return await self._transport.send(request)
        which = "previous" if ("previous", "true") in request.query else "current"
        if which in self._logs:
            return Response(200, {"content-type": "text/plain"}, self._logs[which].encode())
        return _status(400, "BadRequest", f"no {which} run of the container")


def _status(code: int, reason: str, message: str) -> Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return Response(code, {"content-type": "application/json"}, json.dumps(body).encode())


@pytest.fixture
async def api() -> FakeApi:
    """A Workspace on a node of the user's own, whose pod crashes again and again."""
    made = FakeApi()
    for kind in (Workspace, Machine, NodeClaim):
        made.register(kind, status=True)
    async with Client(made.transport(), field_owner="test") as client:
        wanted = Workspace.model_validate(workspace("phi") | {"metadata": {"name": "phi", "namespace": "default"}})
        await client.create(wanted)
        status = {"observedGeneration": 1, "workerNodes": ["n1"], "conditions": [SUPPLIED]}
        await client.status.patch(Workspace, KEY, {"status": status})
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "1"}}
        await client.create(Node.model_validate({"metadata": {"name": "n1"}, "status": ready}))
        labels = selector_labels(wanted)
        spec = {"containers": [{"name": "inference", "image": "kaito:1"}], "nodeName": "n1"}
        metadata = {"name": "phi-abc", "namespace": "default", "labels": labels}
        await client.create(Pod.model_validate({"metadata": metadata, "spec": spec}))
        crashed = {"name": "inference", "image": "kaito:1", "imageID": "", "ready": False, "restartCount": 2}
        crashed |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}
        await client.status.patch(Pod, ObjectKey("phi-abc", "default"), {"status": {"containerStatuses": [crashed]}})
    return made


async def test_the_log_of_the_run_that_crashed_is_shown(api: FakeApi) -> None:
    logs = {"previous": "loading\nno such model\n", "current": "starting"}
    async with Client(Guarded(api.transport(), logs=logs), field_owner="test") as client:
        report = await explain(client, KEY)
    assert report.exit_code == 1
    assert report.sentence == "container inference: ended 2 times, last with exit code 1"
    assert report.log is not None
    assert report.log.lines == ("loading", "no such model")


async def test_a_log_that_the_kubelet_has_thrown_away_is_that_of_the_present_run(api: FakeApi) -> None:
    async with Client(Guarded(api.transport(), logs={"current": "starting"}), field_owner="test") as client:
        report = await explain(client, KEY)
    assert report.log is not None
    assert report.log.lines == ("starting",)


async def test_no_log_is_no_reason_to_say_nothing(api: FakeApi) -> None:
    async with Client(Guarded(api.transport()), field_owner="test") as client:
        report = await explain(client, KEY)
    assert report.log is not None
    assert "no current run of the container" in report.log.note


async def test_what_is_forbidden_is_named_and_the_rest_is_shown(api: FakeApi) -> None:
    async with Client(Guarded(api.transport(), "/nodes", "/machines", "/log"), field_owner="test") as client:
        report = await explain(client, KEY)
    assert {str(right) for right in report.seen.withheld} == {
        "list machines.karpenter.sh in the whole cluster",
        "get nodes in the whole cluster",
    }
    assert report.sentence.startswith("container inference")
    assert report.log is not None
    assert report.log.note == "you have not the right to get pods/log in namespace default"


@pytest.mark.parametrize(
    ("name", "namespace", "told"),
    [
        ("phii", "default", "there is no Workspace phii in namespace default; did you mean phi?"),
        ("phi", "other", "there is no Workspace phi in namespace other; there is one in default: give -n default"),
        ("llama-3", "default", "there is no Workspace llama-3 in namespace default; there are: phi"),
    ],
)
async def test_a_workspace_that_is_not_there_is_told_of_those_that_are(
    api: FakeApi, name: str, namespace: str, told: str
) -> None:
    async with Client(api.transport(), field_owner="test") as client:
        with pytest.raises(WorkspaceNotFound) as refused:
            await explain(client, ObjectKey(name, namespace))
    assert str(refused.value) == told


async def test_a_cluster_without_kaito_says_so() -> None:
    async with Client(FakeApi().transport(), field_owner="test") as client:
        with pytest.raises(WorkspaceNotFound, match="is KAITO installed"):
            await explain(client, KEY)


async def test_the_command_prints_json_and_its_exit_code_tells(api: FakeApi, tmp_path: Path) -> None:
    async with FakeApiServer(api) as server:
        said = await _run(server.url, tmp_path, "explain", "workspace", "phi", "--output", "json")
    assert said[0] == 1
    answer = json.loads(said[1])
    assert set(answer) == {"workspace", "namespace", "state", "cause", "tree", "events", "missingRights"}
    assert set(answer["cause"]) == {"kind", "name", "says", "advice", "log", "logNote"}
    assert set(answer["tree"]) == {"kind", "name", "mark", "says", "parts"}
    assert (answer["state"], answer["cause"]["name"]) == ("fails", "inference")
    assert answer["tree"]["kind"] == "Workspace"


async def _run(url: str, folder: Path, *arguments: str) -> tuple[int, str]:
    """The command line in a thread of its own, since it runs a loop of its own."""
    entry = {"name": "fake", "cluster": {"server": url}}
    context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [entry], "contexts": [context]}
    config |= {"users": [{"name": "fake", "user": {}}], "current-context": "fake"}
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--kubeconfig", str(file)])
    return result.exit_code, result.stdout
