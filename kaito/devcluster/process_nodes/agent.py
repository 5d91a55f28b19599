"""The agent of process nodes: what it is made of, and the order in which that starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kaito.client import Client
from kaito.client.config import Config
from kaito.devcluster.egress import Egress
from kaito.devcluster.process_nodes.images import ImageTable
from kaito.devcluster.process_nodes.kubelet_api import Summarize
from kaito.devcluster.process_nodes.leftovers import Leftovers, programs_of
from kaito.devcluster.process_nodes.network import network
from kaito.devcluster.process_nodes.node_keeper import NodeKeeper
from kaito.devcluster.process_nodes.node_pressure import pressures
from kaito.devcluster.process_nodes.pod_records import KUBELETS, BackOff
from kaito.devcluster.process_nodes.pod_sandbox import FindServices, PodSandbox
from kaito.devcluster.process_nodes.pod_worker import Tools
from kaito.devcluster.process_nodes.pods import MakeSandbox, PodReconciler
from kaito.devcluster.process_nodes.sampler import Sampler
from kaito.devcluster.process_nodes.summary import Summary, summary
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

    async with AsyncExitStack() as stack:
        programs = await stack.enter_async_context(programs_of(options.directory))
        tools = Tools(programs, options.backoff)
        make_sandbox = make_sandbox or _sandboxes(manager, config, options, lambda namespace: services.links(namespace))
        pods = PodReconciler(manager.client, manager.events, tools, make_sandbox)
        stack.push_async_callback(pods.aclose)
        manager.add(programs)
        manager.add(pods.controller)
        keeper = NodeKeeper(manager.client, options.images, partial(pressures, options.directory))
        keeper.watch(manager.cache)
        manager.add(keeper)
        sampler = Sampler(programs)
        manager.add(sampler)
        manager.add(Leftovers(manager.api_reader, options.directory))
        logs = options.directory / "logs"
        services = await stack.enter_async_context(
            network(
                manager.client,
                manager.cache,
                logs=logs,
                find_pod=pods.find,
                summarize=_summaries(manager.client, sampler, options.directory),
                egress=options.egress,
            )
        )
        yield manager


def _sandboxes(manager: Manager, config: Config, options: AgentOptions, find_services: FindServices) -> MakeSandbox:
    def make(pod: Pod, address: str) -> PodSandbox:
        return PodSandbox(
            pod,
            manager.api_reader,  # live: a ConfigMap or Secret is read when it is needed, and none is watched
            options.images,
            options.directory,
            address,
            api_server=config.host,
            find_services=find_services,
        )

    return make


def _summaries(client: Client, sampler: Sampler, directory: Path) -> Summarize:
    async def summarize(node: str) -> Summary:
        sample = await sampler.look()
        return summary(
            node, [each for each in await client.list(Pod) if each.spec.node_name == node], sample, directory
        )

    return summarize
