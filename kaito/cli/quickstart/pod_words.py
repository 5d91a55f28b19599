"""What a Workspace's pod waits for, in words: from its status, its server's /health, or its log's last line."""

from __future__ import annotations

import re
from collections.abc import Sequence

import aiohttp

from kaito.client.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError
from kaito.devcluster.process_nodes.addresses import local
from kaito.kube.conditions import find
from kaito.kube.core_v1 import ContainerStatus, Pod
from kaito.kube.object_key import ObjectKey

_HTTP_PORT = 5000
_HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=1.0)
_STUCK = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"})
"""Reasons of waiting that nothing but a change of the pod mends, in a cluster of this machine's own."""
_PULLER = "puller-"
_HEAD = re.compile(r"^(\d\d:\d\d:\d\d\s+(INFO|WARNING|ERROR)?\s*|python -m \S+: )")


async def pods_of(client: Client, workspace: ObjectKey) -> Sequence[Pod]:
    """The pods of a Workspace that are not on their way out, by age."""
    found = await client.list(Pod, namespace=workspace.namespace, labels=f"kaito.sh/workspace={workspace.name}")
    staying = [pod for pod in found if pod.metadata.deletion_timestamp is None]
    return sorted(staying, key=lambda pod: str(pod.metadata.creation_timestamp))


async def describe(cluster: ControlPlane, pod: Pod) -> str | None:
    """What one pod waits for; empty: nothing; None: its server is too busy to say."""
    container = at_work(pod)
    if container is None:
        scheduled = find(pod.status.conditions, "PodScheduled")
        return "pod: waits for its node" if scheduled is None or scheduled.status != "True" else "pod: starts"
    what = _called(container.name)
    if container.ready:
        return ""
    waiting = container.state.waiting
    if waiting is not None:
        return ": ".join(filter(None, (what, waiting.reason, waiting.message)))
    if container.state.terminated is not None:
        return f"{what}: ended with exit code {container.state.terminated.exit_code}, starts anew"
    detail = await _health(pod) if container in pod.status.container_statuses else ""
    if detail is None:
        return None
    detail = detail or await last_line(cluster, pod, container.name)
    return f"{what}: {detail or 'starting'}"


def at_work(pod: Pod) -> ContainerStatus | None:
    """The container whose turn it is: the first init container that has not succeeded, else the server."""
    for container in pod.status.init_container_statuses:
        ended = container.state.terminated
        if ended is None or ended.exit_code:
            return container
    return next(iter(pod.status.container_statuses), None)


def hopeless(pods: Sequence[Pod]) -> str | None:
    """Why waiting for these pods is no use: an image that is not there, or a container that has ended twice."""
    for pod in pods:
        container = at_work(pod)
        waiting = container.state.waiting if container is not None else None
        if container is None or waiting is None or waiting.reason is None:
            continue
        if waiting.reason in _STUCK and not container.name.startswith(_PULLER):
            return f"{waiting.reason}: {waiting.message}"
        if waiting.reason == "CrashLoopBackOff" and container.restart_count >= 1:
            return f"{_called(container.name)}: ended {container.restart_count + 1} times, and would again"
    return None


async def last_line(cluster: ControlPlane, pod: Pod, container: str) -> str:
    """The last line of a container's log, without its time or program; empty if there is none."""
    lines = await tail(cluster, pod, container, 1)
    return _HEAD.sub("", lines[-1]) if lines else ""


async def tail(cluster: ControlPlane, pod: Pod, container: str, lines: int, *, previous: bool = False) -> list[str]:
    """The last lines of a container's log, as far as they can be had."""
    flags = ["--previous"] if previous else []
    where = ("--namespace", pod.metadata.namespace or "default", pod.metadata.name, "--container", container)
    try:
        said = await cluster.kubectl("logs", *where, f"--tail={lines}", *flags)
    except KubectlError:
        return []
    return [line for line in said.splitlines() if line.strip()]


def _called(container: str) -> str:
    return f"pulling adapter {container.removeprefix(_PULLER)}" if container.startswith(_PULLER) else "server"


async def _health(pod: Pod) -> str | None:
    """What the server says it does; the log's last line may be older, or about something else. None: it is busy."""
    if not pod.status.pod_ip:
        return ""
    try:
        url = f"http://{local(pod.status.pod_ip)}:{_HTTP_PORT}/health"
        async with aiohttp.ClientSession(timeout=_HEALTH_TIMEOUT) as session, session.get(url) as response:
            told = await response.json()
    except TimeoutError:
        return None
    except (aiohttp.ClientError, ValueError):
        return ""
    detail = told.get("detail", "") if isinstance(told, dict) else ""
    return str(detail) or ("loaded; waits for the next probe" if response.status == 200 else "")
