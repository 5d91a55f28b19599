"""examples/embedded_controller.py as its user runs it: a process with kubectl beside it; and its own tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube import FrozenDict, Node, ObjectMeta
from kaito.kube.core_v1 import NodeStatus
from kaito.testing import eventually

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "embedded_controller.py"
SETTINGS = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
filterwarnings = error
"""
SITE = """\
{"apiVersion": "web.example.com/v1", "kind": "Website", "metadata": {"name": "home"},
 "spec": {"pages": "home-pages", "replicas": 2}}
"""


def printed_crd() -> str:
    return subprocess.run([sys.executable, EXAMPLE, "crds"], capture_output=True, text=True, check=True).stdout


def started(kubeconfig: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    with log.open("wb") as output:
        command = [sys.executable, "-W", "error", str(EXAMPLE)]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def test_it_is_complete_in_under_80_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80


@pytest.fixture
async def node(client: Client) -> AsyncIterator[None]:
    """One that kwok plays, for the pods of the website."""
    sizes = FrozenDict({"cpu": "8", "memory": "32Gi", "pods": "110"})
    marks = ObjectMeta(name="websites", annotations=FrozenDict({"kwok.x-k8s.io/node": "fake"}))
    made = await client.create(Node(metadata=marks, status=NodeStatus(capacity=sizes, allocatable=sizes)))
    yield
    await client.delete(Node, made.key)


@pytest.mark.usefixtures("node")
async def test_kubectl_sees_a_website_become_ready_and_sigterm_ends_it(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    await control_plane.kubectl("apply", "-f", "-", input=printed_crd())
    log = tmp_path / "log"
    process = started(control_plane.kubeconfig, log)
    try:
        await control_plane.kubectl("-n", namespace, "apply", "-f", "-", input=SITE)

        async def lists(*words: str) -> bool:
            listed = await control_plane.kubectl("-n", namespace, "get", "websites", "--no-headers")
            assert listed.split()[: len(words)] == list(words), f"{listed}\n{log.read_text()}"
            return True

        await eventually(lambda: lists("home", "0", "create", "the", "ConfigMap", "home-pages"), timeout_s=30.0)
        pages = ("create", "configmap", "home-pages", "--from-literal=index.html=hi")
        await control_plane.kubectl("-n", namespace, *pages)
        await eventually(lambda: lists("home", "2"), timeout_s=30.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20.0) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(180)
def test_its_own_tests_pass_on_a_control_plane_that_pytest_starts(tmp_path: Path) -> None:
    for file in (EXAMPLE, EXAMPLE.with_name("test_embedded_controller.py")):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr
