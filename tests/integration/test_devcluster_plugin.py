"""kaito.testing as its users have it: a project of their own, with either habit of event loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
import pytest
from kaito.kube.core_v1 import Namespace
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually

names = set()

@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_with_client_and_namespace(control_plane, client, namespace, number):
    names.add(namespace)
    assert len(names) == number
    assert namespace.startswith("test-with-client-and-namespace-")
    listed = await eventually(lambda: control_plane.kubectl("get", "namespace", namespace, "-o", "name"))
    assert (await client.get(Namespace, ObjectKey(namespace))).metadata.name == namespace
    assert listed == f"namespace/{namespace}\\n"

def test_without_a_loop(control_plane, namespace):
    assert set(control_plane.pids) == {"etcd", "kube-apiserver"}
    pods = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/pods")
    assert pods["items"] == []
"""


@pytest.mark.parametrize("scope", ["function", "session"])
def test_the_fixtures_work_with_loops_of_either_scope(tmp_path: Path, scope: str) -> None:
    (tmp_path / "test_project.py").write_text(PROJECT)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\n"
        f"asyncio_default_fixture_loop_scope = {scope}\nasyncio_default_test_loop_scope = {scope}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
