"""The agent of process nodes: what it is made of, and the order in which that starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kaito.client.config import Config
from kaito.devcluster.egress import Egress
from kaito.devcluster.process_nodes.images import ImageTable
from kaito.devcluster.process_nodes.leftovers import Leftovers, programs_of
from kaito.devcluster.process_nodes.network import network
from kaito.devcluster.process_nodes.node_keeper import NodeKeeper
from kaito.devcluster.process_nodes.pod_records import KUBELETS, BackOff
from kaito.devcluster.process_nodes.pod_sandbox import PodSandbox
from kaito.devcluster.process_nodes.pod_worker import Tools
from kaito.devcluster.process_nodes.pods import MakeSandbox, PodReconciler
from kaito.kube.core_v1 import Pod
from kaito.runtime.manager import Manager

NAME = "process-nodes"


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an agent is told.

    Attributes:
        directory: where pods' folders and logs go.
        images: which command stands for which image.
        egress: the folder that it shares with a control plane on this machine; None: of one elsewhere.
        backoff: waits between starts of containers.
    """

    directory: Path
    images: ImageTable = field(default_factory=ImageTable.default)
    egress: Egress | None = None
    backoff: BackOff = KUBELETS


@asynccontextmanager
async def agent(
    config: Config, options: AgentOptions, make_sandbox: MakeSandbox | None = None
) -> AsyncIterator[Manager]:
    """Makes an agent; run the manager inside. All processes of pods are gone when the context is left.

    Args:
        config: which API server, and as whom.
        options: what it is told.
        make_sandbox: makes pods' sandboxes, instead of `PodSandbox`.
    """
    options.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    manager = Manager(NAME, config, metrics="0", health="0", check_permissions=False)

    def usual_sandbox(pod: Pod, address: str) -> PodSandbox:
        # Live: a ConfigMap or Secret is read when it is needed, and none is watched.
        return PodSandbox(
            pod,
            manager.api_reader,
            options.images,
            options.directory,
            address,
            api_server=config.host,
            find_services=lambda namespace: services.links(namespace),
        )

    async with AsyncExitStack() as stack:
        programs = await stack.enter_async_context(programs_of(options.directory))
        tools = Tools(programs, options.backoff)
        pods = PodReconciler(manager.client, manager.events, tools, make_sandbox or usual_sandbox)
        stack.push_async_callback(pods.aclose)
        manager.add(programs)
        manager.add(pods.controller)
        keeper = NodeKeeper(manager.client, options.images)
        keeper.watch(manager.cache)
        manager.add(keeper)
        manager.add(Leftovers(manager.api_reader, options.directory))
        logs = options.directory / "logs"
        services = await stack.enter_async_context(
            network(manager.client, manager.cache, logs=logs, find_pod=pods.find, egress=options.egress)
        )
        yield manager
