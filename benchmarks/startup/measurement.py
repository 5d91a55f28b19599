"""One start of `kaito manager`: timed until its first write to a Workspace that waits, weighed when it is idle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import Credentials
from benchmarks.processes import ChildFailed, sample
from kaito.api.kaito_v1beta1 import Workspace
from kaito.client import Client, NotFound
from kaito.devcluster.ports import free_port
from kaito.kube.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey

IN_CLUSTER = "in-cluster"
KUBECONFIG = "kubeconfig"

_KEY = ObjectKey("waiting", "default")
_TIMEOUT_S = 30.0
_POLL_S = 0.02
_ARGUMENTS = (
    *("manager", "--cloud", "kwok"),
    *("--metrics-bind-address", "127.0.0.1:0", "--health-probe-bind-address", "127.0.0.1:0"),
)
# In a cluster it elects its controllers and serves the webhook, which the API server reaches here without a Service.
_WEBHOOK_PORT = free_port()
_IN_CLUSTER_ARGUMENTS = (
    *("--namespace", "default", "--webhook-port", str(_WEBHOOK_PORT)),
    *("--webhook-url", f"https://127.0.0.1:{_WEBHOOK_PORT}"),
)
_CONTROLLERS = ("workspace", "machine", "nodeclaim", "gpu-provisioner")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one start took.

    Attributes:
        seconds: from the start of the process until its first write to the Workspace was stored; a little more than
            until its first reconcile.
        cpu_s: processor time until then.
        resident_mib: resident memory when the Workspace was gone again and nothing happened for a while.
    """

    seconds: float
    cpu_s: float
    resident_mib: float


async def make_leases(client: Client) -> None:
    """Makes the Leases, as an earlier start would have: a start that finds none waits for one to have run out."""
    for name in _CONTROLLERS:
        await client.create(Lease.model_validate({"metadata": {"name": f"kaito-{name}", "namespace": "default"}}))


async def measure(side: str, client: Client, credentials: Credentials, idle_s: float) -> Measurement:
    """Starts the manager once.

    Args:
        side: which credentials it has.
        client: an administrator's.
        credentials: both.
        idle_s: how long it is left alone before it is weighed.

    Raises:
        ChildFailed: it did not get through.
    """
    made = await client.create(_workspace())
    argv, environment = _command(side, credentials)
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        with _process(argv, environment, log.fileno()) as process:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await _written(client, made.metadata.resource_version)
                    seconds = time.perf_counter() - began
                    cpu_s = sample(process.pid).cpu_s
                    await client.delete(Workspace, _KEY)
                    await _gone(client)
            except TimeoutError:
                log.seek(0)
                raise ChildFailed(f"{side}: did not get through:\n{log.read().decode()[-2000:]}") from None
            await asyncio.sleep(idle_s)
            rss = sample(process.pid).rss
    await _without_webhook(client)
    return Measurement(seconds, cpu_s, rss / 2**20)


async def _without_webhook(client: Client) -> None:
    """Takes the webhook's configurations away, which would have the next Workspace refused while nobody answers."""
    for kind in (ValidatingWebhookConfiguration, MutatingWebhookConfiguration):
        with suppress(NotFound):
            await client.delete(kind, ObjectKey("kaito"))


async def _written(client: Client, version: str) -> None:
    async for event in client.watch(Workspace, namespace="default", resource_version=version):
        if event.type == "MODIFIED":
            return


async def _gone(client: Client) -> None:
    """Waits until Workspace and nodes are gone, so that the next start finds an empty cluster."""
    while True:
        try:
            await client.get(Workspace, _KEY)
        except NotFound:
            if not await client.list(Node):
                return
        await asyncio.sleep(_POLL_S)


def _workspace() -> Workspace:
    return Workspace.model_validate(
        {
            "metadata": {"name": _KEY.name, "namespace": _KEY.namespace},
            "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"apps": "phi-3"}}},
            "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
        }
    )


def _command(side: str, credentials: Credentials) -> tuple[list[str], Mapping[str, str]]:
    if side == KUBECONFIG:
        return [sys.executable, "-m", "kaito", *_ARGUMENTS], {"KUBECONFIG": str(credentials.kubeconfig)}
    launcher = str(Path(__file__).with_name("launcher.py"))
    environment = {name: value for name, value in credentials.environment().items() if name != "KUBECONFIG"}
    return [
        sys.executable,
        launcher,
        str(credentials.service_account),
        *_ARGUMENTS,
        *_IN_CLUSTER_ARGUMENTS,
    ], environment


@contextmanager
def _process(argv: list[str], environment: Mapping[str, str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**inherited, **environment})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
