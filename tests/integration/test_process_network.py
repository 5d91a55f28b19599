"""The network of process nodes on a real control plane: through the API server to pods and Services, and logs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kaito.client import Client, load_config
from kaito.client.errors import NotFound
from kaito.devcluster import CertificateAuthority, ControlPlane, KubectlError
from kaito.devcluster.binaries import ensure_binaries
from kaito.devcluster.egress import KUBELET_CLIENT, Egress
from kaito.devcluster.process_nodes.addresses import NODE_ADDRESS
from kaito.devcluster.process_nodes.kubelet_api import KubeletApi
from kaito.devcluster.process_nodes.network import network
from kaito.devcluster.process_nodes.services import ADDRESS_ANNOTATION
from kaito.devcluster.process_nodes.summary import Summary
from kaito.devcluster.process_nodes.usage import NotMeasured
from kaito.informers import Cache, WriteFloors
from kaito.kube import Node, ObjectKey, ObjectMeta, Pod, Service
from kaito.testing import eventually

ADDRESS, LOCAL, PORT = "10.244.1.2", "127.244.1.2", 5000
POD = ObjectKey("p", "default")
KEY = ObjectKey("s", "default")
PROXY = "/api/v1/namespaces/default/services/s:80/proxy"
GO_ON = web.AppKey("go_on", asyncio.Event)


@pytest.fixture(scope="module")
def egress() -> Iterator[Egress]:
    with tempfile.TemporaryDirectory(prefix="kaito-") as folder:
        made = Egress(Path(folder))
        made.write(CertificateAuthority(), NODE_ADDRESS)
        yield made


@pytest.fixture(scope="module")
def plane(egress: Egress) -> Iterator[ControlPlane]:
    """With a controller manager, which makes the EndpointSlices."""
    with ControlPlane(controller_manager=True, extra_flags={"kube-apiserver": egress.api_server_flags}) as running:
        yield running


async def nothing(node: str) -> Summary:
    raise NotMeasured(f"nothing of {node} is measured")


@asynccontextmanager
async def agent(plane: ControlPlane, egress: Egress, logs: Path) -> AsyncIterator[None]:
    """The network's part of an agent."""
    config = await asyncio.to_thread(load_config, plane.kubeconfig)
    floors = WriteFloors()
    async with Client.from_config(config, name="agent", middleware=[floors]) as client:
        cache = Cache(client, floors)

        async def find_pod(key: ObjectKey) -> Pod | None:
            try:
                return await client.get(Pod, key)
            except NotFound:
                return None

        async with network(client, cache, logs=logs, find_pod=find_pod, summarize=nothing, egress=egress):
            running = asyncio.create_task(cache.run())
            try:
                yield
            finally:
                running.cancel()
                await asyncio.wait([running])


@pytest.fixture(scope="module")
async def admin(plane: ControlPlane) -> AsyncIterator[Client]:
    async with Client.from_config(load_config(plane.kubeconfig), name="tests") as client:
        yield client


@pytest.fixture(scope="module")
async def server(plane: ControlPlane, admin: Client) -> AsyncIterator[web.AppRunner]:
    """What listens where the pod's process would, on a pod that its node says to be ready, behind a Service."""
    app = web.Application()
    app[GO_ON] = asyncio.Event()
    app.router.add_get("/stream", stream)
    app.router.add_route("*", "/{rest:.*}", echo)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOCAL, PORT).start()
    kubelet = {"kubeletEndpoint": {"Port": 10250}}
    addresses = [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": NODE_ADDRESS}]
    await admin.create(Node(metadata=ObjectMeta(name="n")))
    await admin.status.patch(Node, ObjectKey("n"), {"status": {"addresses": addresses, "daemonEndpoints": kubelet}})
    pod = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 0}
    labels = {"app": "a"}
    await admin.create(Pod.model_validate({"metadata": {**POD._asdict(), "labels": labels}, "spec": pod}))
    await set_ready(admin, True)
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": PORT}]}
    await admin.create(Service.model_validate({"metadata": KEY._asdict(), "spec": service}))
    yield runner
    await runner.cleanup()


async def set_ready(admin: Client, ready: bool) -> None:
    condition = {"type": "Ready", "status": str(ready)}
    status = {"phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "conditions": [condition]}
    await admin.status.patch(Pod, POD, {"status": status})


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"method": request.method, "path": request.path_qs, "body": await request.text()})


async def stream(request: web.Request) -> web.StreamResponse:
    """Says a second word only once the client has asked for it, having read the first."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first\n")
    await request.app[GO_ON].wait()
    await response.write(b"second\n")
    return response


async def raw(plane: ControlPlane, path: str) -> str:
    return await plane.kubectl("get", "--raw", path)


async def said_by_the_service(plane: ControlPlane, path: str) -> str:
    """What the Service says through the API server, which takes a moment to hear of its pods."""
    return await eventually(lambda: raw(plane, f"{PROXY}{path}"), retry_on=(KubectlError,))


async def annotated(admin: Client) -> str | None:
    return (await admin.get(Service, KEY)).metadata.annotations.get(ADDRESS_ANNOTATION)


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def test_a_service_answers_through_the_api_server_and_at_the_address_on_it_wherever_its_pods_are(
    plane: ControlPlane, egress: Egress, admin: Client, server: web.AppRunner, tmp_path: Path
) -> None:
    async with agent(plane, egress, tmp_path):
        assert '"path": "/hello?x=1"' in await said_by_the_service(plane, "/hello?x=1")
        address = await eventually(lambda: annotated(admin))
        said = await eventually(lambda: get(f"{address}/here"), retry_on=(aiohttp.ClientError,))
        assert '"path": "/here"' in said
        await set_ready(admin, False)
        await eventually(lambda: no_answer(f"{address}/there"))
        await set_ready(admin, True)
        assert await eventually(lambda: get(f"{address}/again"), retry_on=(aiohttp.ClientError,))
        assert await annotated(admin) == address
    async with agent(plane, egress, tmp_path):
        assert await eventually(lambda: get(f"{address}/later"), retry_on=(aiohttp.ClientError,))
        await admin.patch(Service, KEY, {"spec": {"selector": None}})
        await eventually(lambda: taken_away(admin))
        await eventually(lambda: no_answer(f"{address}/gone"))
        await admin.patch(Service, KEY, {"spec": {"selector": {"app": "a"}}})
        await eventually(lambda: annotated(admin))


async def no_answer(url: str) -> bool:
    try:
        await get(url)
    except aiohttp.ClientError:
        return True
    return False


async def taken_away(admin: Client) -> bool:
    return await annotated(admin) is None


async def test_a_streamed_answer_comes_as_it_is_written(
    plane: ControlPlane, egress: Egress, server: web.AppRunner, tmp_path: Path
) -> None:
    async with agent(plane, egress, tmp_path):
        await said_by_the_service(plane, "/")
        async with kubectl(plane, "get", "--raw", f"{PROXY}/stream") as output:
            assert await output.readline() == b"first\n"
            server.app[GO_ON].set()
            assert await output.read() == b"second\n"


async def test_who_asks_for_what_is_not_there_is_told_why(
    plane: ControlPlane, egress: Egress, admin: Client, server: web.AppRunner, tmp_path: Path
) -> None:
    async with agent(plane, egress, tmp_path):
        with pytest.raises(KubectlError, match=r"code 502: 502 nothing answers at 127\.244\.1\.2:9999"):
            await raw(plane, "/api/v1/namespaces/default/pods/p:9999/proxy/")
        elsewhere = {"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}
        await admin.status.patch(Pod, POD, elsewhere)
        with pytest.raises(KubectlError, match=r"code 403: 403 10\.0\.0\.1 is neither a pod's nor a Service's"):
            await eventually(lambda: raw(plane, "/api/v1/namespaces/default/pods/p:80/proxy/"))
        await set_ready(admin, True)
        # All nodes have one address: who is asked for is in the request's headers.
        for path in ("stats/summary", "metrics/resource"):
            with pytest.raises(KubectlError, match="nothing of n is measured"):
                await raw(plane, f"/api/v1/nodes/n/proxy/{path}")


async def test_the_socket_is_its_owners_and_serves_connect_only(
    plane: ControlPlane, egress: Egress, server: web.AppRunner, tmp_path: Path
) -> None:
    async with agent(plane, egress, tmp_path):
        assert stat.S_IMODE(egress.socket.stat().st_mode) == 0o600
        connector = aiohttp.UnixConnector(str(egress.socket))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://10.244.1.2/") as answer:
            assert (answer.status, answer.reason) == (400, "only CONNECT HOST:PORT is understood here")
    assert not egress.socket.exists()


async def test_logs_are_read_and_followed_until_the_container_ends(
    plane: ControlPlane, egress: Egress, admin: Client, server: web.AppRunner, tmp_path: Path
) -> None:
    uid = (await admin.get(Pod, POD)).metadata.uid
    folder = tmp_path / f"default_p_{uid}" / "c"
    async with agent(plane, egress, tmp_path):
        with pytest.raises(KubectlError, match='container "c" in pod "p" is waiting to start'):
            await plane.kubectl("logs", "p")
        folder.mkdir(parents=True)
        (folder / "9.log").write_text("before\n")
        (folder / "10.log").write_text("one\ntwo\nthree")
        assert await plane.kubectl("logs", "p") == "one\ntwo\nthree"
        with pytest.raises(KubectlError, match='previous terminated container "c" in pod "p" not found'):
            await plane.kubectl("logs", "p", "--previous")
        assert await plane.kubectl("logs", "p", "--limit-bytes=5") == "one\nt"
        with pytest.raises(KubectlError, match="timestamps is not supported on process nodes"):
            await plane.kubectl("logs", "p", "--timestamps")
        await set_run(admin, 10, {"running": {"startedAt": "2030-01-01T00:00:00Z"}})
        assert (
            await eventually(lambda: plane.kubectl("logs", "p", "--previous"), retry_on=(KubectlError,)) == "before\n"
        )
        async with kubectl(plane, "logs", "p", "-f", "--tail=2") as output:
            assert await output.readline() == b"two\n"
            with (folder / "10.log").open("a") as log:
                log.write(" and\nfour\n")
            assert [await output.readline() for _ in range(2)] == [b"three and\n", b"four\n"]
            await set_run(admin, 10, {"terminated": {"exitCode": 0}})
            assert await output.read() == b""
        with pytest.raises(KubectlError, match="exec is not supported on process nodes"):
            await plane.kubectl("exec", "p", "--", "ls")


async def set_run(admin: Client, restarts: int, state: dict[str, Any]) -> None:
    before = {"exitCode": 1, "containerID": f"process://uid/c/{restarts - 1}"}
    status = {
        "name": "c",
        "image": "i",
        "imageID": "",
        "restartCount": restarts,
        "ready": True,
        "state": state,
        "lastState": {"terminated": before},
    }
    await admin.status.patch(Pod, POD, {"status": {"containerStatuses": [status]}})


async def test_the_kubelet_api_lets_nobody_in_but_the_api_server(egress: Egress, tmp_path: Path) -> None:
    async def find_pod(key: ObjectKey) -> Pod | None:
        return None

    authority = CertificateAuthority()
    authority_of_another = ssl.create_default_context(cafile=str(egress.authority))
    authority_of_another.check_hostname = False
    authority.issue_client(KUBELET_CLIENT).write(tmp_path / "crt", tmp_path / "key")
    authority_of_another.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    async with KubeletApi(tmp_path, egress, find_pod, nothing) as api, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://127.0.0.1:{api.port}/healthz", ssl=authority_of_another)


@asynccontextmanager
async def kubectl(plane: ControlPlane, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """What kubectl prints, as it does."""
    command = [str(ensure_binaries(["kubectl"])["kubectl"].path), f"--kubeconfig={plane.kubeconfig}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
