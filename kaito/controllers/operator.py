"""Operator: puts the three controllers of KAITO into a manager."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Literal, get_args

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import Catalog, Runtime
from kaito.controllers.claims import MACHINE, NODE_CLAIM, Claim, ClaimKind
from kaito.controllers.gpu_provisioner.collector import InstanceCollector, Sweeper
from kaito.controllers.gpu_provisioner.provider import Provider
from kaito.controllers.gpu_provisioner.providers.kwok import KwokProvider
from kaito.controllers.machine.node import claim_owner
from kaito.controllers.machine.reconciler import ClaimReconciler
from kaito.controllers.workspace.plan import Planner
from kaito.controllers.workspace.reconciler import WorkspaceReconciler
from kaito.controllers.workspace.workload import WorkloadOptions
from kaito.informers.informer import InformerEvent
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Node, Pod, Service
from kaito.kube.object_key import ObjectKey
from kaito.runtime.apply import Applier
from kaito.runtime.controller import Controller
from kaito.runtime.manager import Manager
from kaito.runtime.watch import Access, AnyWatch, Watch

ControllerName = Literal["workspace", "machine", "gpu-provisioner"]
CloudName = Literal["kwok"]
NodeProvisioner = Literal["machine", "nodeclaim", "byo"]

ALL_CONTROLLERS: tuple[ControllerName, ...] = get_args(ControllerName)


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """How the operator runs.

    Attributes:
        controllers: which of the three.
        cloud: who makes nodes.
        node_provisioner: which wire kind claims have; byo: no claims, existing nodes are used.
        runtime: what runs models, if the user does not say; None: what suits model and GPU.
        catalog: models and instance types.
        workload: of all workloads.
        now: wall clock.
    """

    controllers: tuple[ControllerName, ...] = ALL_CONTROLLERS
    cloud: CloudName = "kwok"
    node_provisioner: NodeProvisioner = "machine"
    runtime: Runtime | None = None
    catalog: Catalog = field(default_factory=Catalog.load)
    workload: WorkloadOptions = field(default_factory=WorkloadOptions)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def add_operator(manager: Manager, options: OperatorOptions) -> None:
    """Adds the chosen controllers to a manager.

    Args:
        manager: which has not run yet.
        options: how they work.
    """
    claims = NODE_CLAIM if options.node_provisioner == "nodeclaim" else MACHINE
    provider = _provider(manager, options)
    if "workspace" in options.controllers:
        manager.add(_workspace(manager, options, claims))
    if options.node_provisioner == "byo":
        return
    if "machine" in options.controllers:
        manager.add(_machine(manager, options, claims, provider))
    if "gpu-provisioner" in options.controllers:
        collector = InstanceCollector(manager.client, provider, claims, options.now)
        manager.add(_gpu_provisioner(collector, claims))
        manager.add(Sweeper(collector))


def _provider(manager: Manager, options: OperatorOptions) -> Provider:
    match options.cloud:
        case "kwok":
            return KwokProvider(manager.client, options.catalog)


def _workspace(manager: Manager, options: OperatorOptions, claims: ClaimKind) -> Controller[Workspace]:
    existing_only = options.node_provisioner == "byo"
    planner = Planner(options.catalog, options.runtime, use_existing_nodes=existing_only)
    applier = Applier(manager.client, manager.metrics)
    reconciler = WorkspaceReconciler(manager.client, applier, planner, claims, options.workload, options.now)
    watched: tuple[AnyWatch, ...] = () if existing_only else (Watch(claims.kind, map=_owner),)
    awaited = partial(_awaited_labels, existing_only=existing_only)
    return Controller(
        Workspace,
        reconciler,
        owns=(Deployment, StatefulSet, Service),
        watches=(
            *watched,
            Watch(Node, map=_owner),
            Watch(Node, references=awaited, by=_label_terms),
        ),
        # Pods are tried out before a node is paid for; claims are looked for even where none are made.
        needs=(Access(claims.kind, "list", "create", "delete"), Access(Pod, "create")),
        concurrency=5,
    )


def _machine(manager: Manager, options: OperatorOptions, claims: ClaimKind, provider: Provider) -> Controller[Claim]:
    return Controller(
        claims.kind,
        ClaimReconciler(manager.client, provider, claims, options.now),
        name="machine",
        watches=(Watch(Node, map=_claim_of),),
        needs=(
            Access(Node, "create", "patch", "delete"),
            Access(Pod, "list"),
            Access(Pod, "create", subresource="eviction"),
        ),
        where=_asks_something,
        concurrency=10,
    )


def _gpu_provisioner(collector: InstanceCollector, claims: ClaimKind) -> Controller[Node]:
    return Controller(
        Node,
        collector,
        name="gpu-provisioner",
        watches=(Watch(claims.kind, map=_node_of, where=_is_gone),),
        needs=(Access(Node, "patch", "delete"), Access(MACHINE.kind, "get"), Access(NODE_CLAIM.kind, "get")),
        concurrency=5,
    )


def _owner(obj: Claim | Node) -> Iterable[ObjectKey]:
    """The Workspace that a claim or node was made for."""
    name = obj.metadata.labels.get(keys.WORKSPACE_LABEL)
    namespace = obj.metadata.labels.get(keys.WORKSPACE_NAMESPACE_LABEL)
    return (ObjectKey(name, namespace),) if name and namespace else ()


def _claim_of(node: Node) -> Iterable[ObjectKey]:
    """The claim that a node may be for: of the name that it is owned by, labelled with, or has itself."""
    owner = claim_owner(node)
    name = owner.name if owner is not None else node.metadata.labels.get(keys.AGENT_POOL_LABEL, node.metadata.name)
    yield ObjectKey(name)


def _node_of(claim: Claim) -> Iterable[ObjectKey]:
    """The node that a claim brought."""
    yield ObjectKey(claim.status.node_name or claim.metadata.name)


def _is_gone(event: InformerEvent[Claim]) -> bool:
    return event.change.new is None


def _asks_something(event: InformerEvent[Claim]) -> bool:
    """Whether more of a claim changed than its status.

    That is written by its controller alone, which would wake itself up, and again at once after each failure that it
    reports in other words, whatever the backoff.
    """
    return event.initial or event.old is None or event.new is None or _asked(event.old) != _asked(event.new)


def _asked(claim: Claim) -> tuple[object, ...]:
    metadata = claim.metadata
    return (metadata.uid, metadata.generation, metadata.deletion_timestamp, metadata.finalizers, metadata.labels)


def _awaited_labels(workspace: Workspace, *, existing_only: bool) -> Iterable[str]:
    """The labels of the existing nodes that a Workspace waits for; none if it has nodes made."""
    if workspace.resource.instance_type and not existing_only:
        return ()
    return _terms(dict(workspace.resource.label_selector.match_labels))


def _label_terms(node: Node) -> Iterable[str]:
    return _terms(dict(node.metadata.labels))


def _terms(labels: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]
