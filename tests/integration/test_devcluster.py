"""ControlPlane with the real programs: it works, many work side by side, and none is ever left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import DevClusterError, DirectoryInUseError, KubectlError, ProgramError, RequestError
from kaito.devcluster.layout import Layout
from kaito.devcluster.ports import free_port
from kaito.devcluster.programs import ProgramName
from kaito.locks import FileLock
from kaito.testing import eventually


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
async def plane() -> AsyncIterator[ControlPlane]:
    """etcd and kube-apiserver alone, for tests that change nothing that others see."""
    async with ControlPlane() as running:
        yield running


async def test_kubectl_works_as_the_administrator(plane: ControlPlane) -> None:
    version = json.loads(await plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]
    assert (await plane.kubectl("auth", "can-i", "*", "*", "--all-namespaces")).strip() == "yes"


async def test_kubectl_reads_its_input(plane: ControlPlane) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "from-input"}}
    assert await plane.kubectl("create", "-f", "-", input=json.dumps(manifest)) == "namespace/from-input created\n"


async def test_what_kubectl_says_is_in_the_error(plane: ControlPlane) -> None:
    with pytest.raises(
        KubectlError, match=r"kubectl get nodes absent: exit status 1: .*\"absent\" not found"
    ) as caught:
        await plane.kubectl("get", "nodes", "absent")
    assert caught.value.returncode == 1
    assert "NotFound" in caught.value.stderr


async def test_a_cancelled_kubectl_is_killed(plane: ControlPlane) -> None:
    task = asyncio.create_task(plane.kubectl("get", "namespaces", "--watch"))
    await asyncio.sleep(0)  # into its first await; whether the process runs yet makes no difference
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_user_may_do_what_rbac_lets_them(plane: ControlPlane) -> None:
    kubeconfig = plane.add_user("alice", ["readers"])
    as_alice = ("--kubeconfig", str(kubeconfig), "get", "namespaces")
    with pytest.raises(KubectlError, match='User "alice" cannot list resource "namespaces"'):
        await plane.kubectl(*as_alice)
    await plane.kubectl("create", "clusterrole", "reader", "--verb=get,list", "--resource=namespaces")
    await plane.kubectl("create", "clusterrolebinding", "readers", "--clusterrole=reader", "--group=readers")
    await eventually(lambda: plane.kubectl(*as_alice), retry_on=(KubectlError,))


async def test_pods_are_admitted_where_nobody_makes_service_accounts(plane: ControlPlane) -> None:
    await plane.kubectl("run", "pod", "--image=image", "--restart=Never")
    assert plane.request("GET", "/api/v1/namespaces/default/pods/pod")["kind"] == "Pod"


async def test_a_raw_request_that_is_refused_has_its_status(plane: ControlPlane) -> None:
    with pytest.raises(RequestError, match="404") as caught:
        plane.request("GET", "/api/v1/nodes/absent")
    assert caught.value.status == 404


async def test_all_of_it_is_gone_at_the_end_also_after_an_exception() -> None:
    with pytest.raises(ValueError, match="in the body"):  # noqa: PT012 - the body is what is tested
        async with ControlPlane() as plane:
            pids, folder = [*plane.pids.values(), plane.supervisor_pid], plane.data_dir
            assert all(map(alive, pids))
            assert plane.kubeconfig.is_relative_to(folder)
            raise ValueError("in the body")
    assert not any(map(alive, pids))
    assert not folder.exists()
    with pytest.raises(DevClusterError, match="not running"):
        _ = plane.url


async def test_the_data_goes_also_when_the_supervisor_was_killed(tmp_path: Path) -> None:
    async with ControlPlane(directory=tmp_path) as plane:
        pids = list(plane.pids.values())
        os.kill(plane.supervisor_pid, signal.SIGKILL)
        await eventually(lambda: not any(map(alive, pids)), message="the programs are gone")
    assert not (tmp_path / "data").exists()


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    plane = ControlPlane(directory=tmp_path)
    starting = asyncio.create_task(plane.__aenter__())
    log = tmp_path / "logs" / "kube-apiserver.log"
    await eventually(log.exists, message="kube-apiserver has been started")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "kubeconfig").exists()


@pytest.mark.parametrize("program", ["etcd", "kube-apiserver", "kwok"])
async def test_a_program_that_fails_is_named_with_command_and_log(program: ProgramName, tmp_path: Path) -> None:
    plane = ControlPlane(kwok=True, directory=tmp_path, extra_flags={program: ["--no-such-flag"]})
    with pytest.raises(ProgramError) as caught:
        await plane.__aenter__()
    message = str(caught.value)
    assert caught.value.program == program
    assert message.startswith(f"{program}: ended with exit status")
    assert "--no-such-flag\n" in message, "the command line"
    assert "no-such-flag" in caught.value.log_tail
    assert not (tmp_path / "data").exists()


async def test_a_program_that_never_becomes_ready_is_given_up() -> None:
    # It starts, but waits for an etcd that is not there.
    plane = ControlPlane(extra_flags={"kube-apiserver": ["--etcd-servers=http://127.0.0.1:1"]}, start_timeout_s=1)
    with pytest.raises(ProgramError, match="kube-apiserver: not ready within 1 s"):
        await plane.__aenter__()


async def test_another_port_is_taken_when_somebody_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # What chance does once in ten thousand starts.
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr("kaito.devcluster.instance.free_port", lambda: ports.pop() if ports else free_port())
        async with ControlPlane() as plane:
            assert not ports
            assert plane.request("GET", "/api/v1/namespaces/default")["kind"] == "Namespace"


async def test_several_run_side_by_side_and_know_nothing_of_each_other() -> None:
    planes = [ControlPlane() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for plane in planes:
            group.create_task(plane.__aenter__())
    try:
        for number, plane in enumerate(planes):
            await plane.kubectl("create", "namespace", f"number-{number}")
        for number, plane in enumerate(planes):
            names = await plane.kubectl("get", "namespaces", "-o", "name")
            assert [f"number-{other}" in names for other in range(3)] == [other == number for other in range(3)]
    finally:
        await asyncio.gather(*(plane.__aexit__(None, None, None) for plane in planes))


async def test_a_stopped_api_server_comes_back_on_its_port_with_its_data() -> None:
    async with ControlPlane() as plane:
        url = plane.url
        await plane.kubectl("create", "namespace", "kept")
        await plane.stop_program("kube-apiserver")
        assert "kube-apiserver" not in plane.pids
        with pytest.raises(OSError, match="refused"):
            plane.request("GET", "/api/v1/namespaces/kept")
        plane.check()  # what was stopped on purpose is no failure
        await plane.start_program("kube-apiserver")
        assert plane.url == url
        assert plane.request("GET", "/api/v1/namespaces/kept")["kind"] == "Namespace"


async def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    lock = FileLock(Layout(tmp_path).lock, "running a control plane")
    assert lock.try_acquire()
    with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()}"):
        await ControlPlane(directory=tmp_path).__aenter__()
    lock.release()
    assert not (tmp_path / "data").exists()
