"""A control plane with widgets in it, and the credentials with which all sides of a benchmark come to it alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from benchmarks.widgets import NAMESPACE, Widget, key, widgets
from kaito.client import AlreadyExists, Client, NotFound, load_config
from kaito.client.transport import Request
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube import custom_resource_definition

_ACCOUNT = "benchmark"
_TOKEN_LIFETIME_S = 86_400
_CREATORS = 48
_CRD_DEADLINE_S = 30.0
_CHURN_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Credentials:
    """One service account's, in both forms.

    Attributes:
        kubeconfig: for programs that run outside of a cluster.
        service_account: a folder like the one that a pod has, with token and ca.crt.
        address: host and port of the API server.
    """

    kubeconfig: Path
    service_account: Path
    address: tuple[str, int]

    def environment(self) -> dict[str, str]:
        """What tells a child process where the API server is."""
        host, port = self.address
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
        }


@dataclass(frozen=True, slots=True)
class Fleet:
    """A control plane full of widgets.

    Attributes:
        control_plane: what runs.
        client: an administrator's.
        credentials: for the sides.
        count: how many widgets there are.
        served_bytes: mean JSON of one as the API server sends it.
        kept_bytes: the same without managedFields.
    """

    control_plane: ControlPlane
    client: Client
    credentials: Credentials
    count: int
    served_bytes: int
    kept_bytes: int

    async def churn(self, seconds: float, per_second: float) -> None:
        """Changes widgets, one after the other, at an even rate."""
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while (elapsed := loop.time() - began) < seconds:
            due = int(elapsed * per_second)
            await asyncio.gather(*(self._change(number) for number in range(sent, due)))
            sent = max(sent, due)
            await asyncio.sleep(_CHURN_TICK_S)

    async def _change(self, number: int) -> None:
        # A stride that shares no factor with round counts: changes fall all over the key space.
        target = key(number * 7919 % self.count)
        await self.client.patch(Widget, target, {"spec": {"revision": number + 1}})


@asynccontextmanager
async def fleet(count: int) -> AsyncIterator[Fleet]:
    """Starts a control plane (etcd and API server only) and fills it."""
    async with ControlPlane() as control_plane:
        credentials = await asyncio.to_thread(_credentials, control_plane)
        async with Client.from_config(load_config(control_plane.kubeconfig), name="benchmark") as client:
            await asyncio.to_thread(_install, control_plane)
            await _fill(client, count)
            served, kept = await _sizes(client, count)
            yield Fleet(control_plane, client, credentials, count, served, kept)


def _install(control_plane: ControlPlane) -> None:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    control_plane.request("POST", crds, custom_resource_definition(Widget))


async def _fill(client: Client, count: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CRD_DEADLINE_S
    made = widgets(count)
    first = next(made)
    while True:
        try:
            await client.create(first)
            break
        except AlreadyExists:
            break
        except NotFound:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.1)
    # One iterator for all: each creator takes the next widget when it is done with its last.
    await asyncio.gather(*(_create(client, made) for _ in range(_CREATORS)))


async def _create(client: Client, made: Iterator[Widget]) -> None:
    for widget in made:
        await client.create(widget)


async def _sizes(client: Client, count: int) -> tuple[int, int]:
    sample = [await _body(client, index) for index in range(0, count, max(1, count // 50))]
    return _mean(map(len, sample)), _mean(len(_without_managed_fields(body)) for body in sample)


async def _body(client: Client, index: int) -> bytes:
    path = Widget.resource_type.path(NAMESPACE, key(index).name)
    return (await client.request(Request("GET", path, "get"))).body


def _without_managed_fields(body: bytes) -> bytes:
    obj = msgspec.json.decode(body)
    del obj["metadata"]["managedFields"]
    return msgspec.json.encode(obj)


def _mean(values: Iterable[int]) -> int:
    found = list(values)
    return sum(found) // len(found)


def _credentials(control_plane: ControlPlane) -> Credentials:
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    control_plane.request("POST", accounts, {"metadata": {"name": _ACCOUNT}})
    control_plane.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _binding())
    spec = {"expirationSeconds": _TOKEN_LIFETIME_S}
    answer = control_plane.request("POST", f"{accounts}/{_ACCOUNT}/token", {"spec": spec})
    token = str(msgspec.convert(answer["status"], dict[str, str])["token"])
    folder = control_plane.data_dir / "benchmark"
    folder.mkdir(mode=0o700)
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(control_plane.ca.certificate_pem)
    (folder / "namespace").write_text(NAMESPACE)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(_kubeconfig(control_plane, token)))
    parts = urlsplit(control_plane.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Credentials(kubeconfig, folder, (parts.hostname, parts.port))


def _binding() -> dict[str, object]:
    return {
        "metadata": {"name": _ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}],
    }


def _kubeconfig(control_plane: ControlPlane, token: str) -> dict[str, object]:
    admin = yaml.safe_load(control_plane.kubeconfig.read_text())
    cluster = admin["clusters"][0]
    context = {"cluster": cluster["name"], "user": _ACCOUNT, "namespace": NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": _ACCOUNT, "user": {"token": token}}],
        "contexts": [{"name": _ACCOUNT, "context": context}],
        "current-context": _ACCOUNT,
    }
