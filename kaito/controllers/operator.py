"""Operator: puts the three controllers of KAITO into a manager."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import CurrentCatalog, Runtime
from kaito.controllers.catalog_source import CatalogMetrics, CatalogSource
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.claims import CLAIM_KINDS, MACHINE, NODE_CLAIM, Claim, ClaimKind, made_for
from kaito.controllers.gpu_provisioner.collector import InstanceCollector, Sweeper
from kaito.controllers.gpu_provisioner.provider import Provider
from kaito.controllers.gpu_provisioner.providers.kwok import KwokProvider
from kaito.controllers.gpu_provisioner.providers.process import ProcessProvider
from kaito.controllers.held import MakingHeld, MakingHeldOfObjects
from kaito.controllers.leftover import ClaimGuard
from kaito.controllers.machine.node import claim_owner
from kaito.controllers.machine.reconciler import ClaimReconciler
from kaito.controllers.webhooks import WebhookOptions, webhook_server
from kaito.controllers.workspace.models import Models
from kaito.controllers.workspace.plan import Planner, own_selector
from kaito.controllers.workspace.reconciler import WorkspaceReconciler
from kaito.controllers.workspace.workload import WORKSPACE_SELECTOR, WorkloadOptions
from kaito.hub import Hub
from kaito.informers.handlers import InformerEvent
from kaito.informers.options import InformerOptions
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Node, Pod, Secret, Service
from kaito.kube.object_key import ObjectKey
from kaito.runtime.access import EVERYWHERE, Access
from kaito.runtime.apply import Applier
from kaito.runtime.controller import Controller
from kaito.runtime.manager import Manager
from kaito.runtime.reconciler import KeyReconciler, Reconciler
from kaito.runtime.watch import Watch

ControllerName = Literal["workspace", "machine", "gpu-provisioner"]
CloudName = Literal["kwok", "process"]
NodeProvisioner = Literal["machine", "nodeclaim", "byo"]

ALL_CONTROLLERS: tuple[ControllerName, ...] = get_args(ControllerName)
GRANT = "grant it with: kaito rbac | kubectl apply -f -"
INSTALL = "install it with: kaito crds | kubectl apply -f -"


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """How the operator runs.

    Attributes:
        controllers: which of the three.
        cloud: who makes nodes, and takes away those that were made; None, only with byo: nobody, and the operator
            refuses to start beside claims of KAITO's.
        node_provisioner: which wire kind claims have that are made; byo: none are, existing nodes are used.
        runtime: what runs models, if the user does not say; None: what suits model and GPU.
        current: models and instance types.
        catalog_config_map: what is laid over them, live, once it has been looked for; None: nothing.
        catalog_file: what lies beneath that: the file that `current` was loaded with.
        webhooks: how Workspaces are checked when they are written, where the workspace controller runs; None: they are
            not.
        hub: who is asked for models that the catalogue lacks; default: as the environment tells.
        workload: of all workloads.
        now: wall clock.
    """

    controllers: tuple[ControllerName, ...] = ALL_CONTROLLERS
    cloud: CloudName | None = "kwok"
    node_provisioner: NodeProvisioner = "machine"
    runtime: Runtime | None = None
    current: CurrentCatalog = field(default_factory=CurrentCatalog)
    catalog_config_map: ObjectKey | None = None
    catalog_file: Path | None = None
    webhooks: WebhookOptions | None = None
    hub: Hub = field(default_factory=Hub.from_environment)
    workload: WorkloadOptions = field(default_factory=WorkloadOptions)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def made(self) -> ClaimKind | None:
        """The wire kind of claims that are made; None: none are."""
        return {"machine": MACHINE, "nodeclaim": NODE_CLAIM, "byo": None}[self.node_provisioner]


def add_operator(manager: Manager, options: OperatorOptions) -> None:
    """Adds the chosen controllers to a manager.

    Claims of both wire kinds are looked after, whichever is made: after a change of ``--node-provisioner`` those of
    before are still Workspaces' nodes. A cluster may lack the kind that is not made.

    Args:
        manager: which has not run yet.
        options: how they work.
    """
    manager.permissions.remedy = GRANT
    manager.crd_remedy = INSTALL
    source = _catalog(manager, options)
    registry = ClaimRegistry(manager.client, lambda kind: not manager.cache.informer(kind.kind).state.dormant)
    for kind in CLAIM_KINDS:
        manager.cache.add_label_index(kind.kind, keys.WORKSPACE_LABEL, keys.WORKSPACE_UID_LABEL)
    if "workspace" in options.controllers:
        # Of a cluster's many pods only those of Workspaces are looked at.
        manager.cache.informer(Pod, InformerOptions(labels=",".join(WORKSPACE_SELECTOR), project=True))
        manager.cache.add_label_index(Pod, *WORKSPACE_SELECTOR)
        manager.add(_workspace(manager, options, registry, source))
        _add_webhooks(manager, options, source)
    provider = _provider(manager, options)
    if provider is None:
        return
    if "machine" in options.controllers:
        for kind in CLAIM_KINDS:
            manager.add(_machine(manager, options, kind, provider, source))
    if "gpu-provisioner" in options.controllers:
        collector = InstanceCollector(manager.client, provider, registry, options.now)
        manager.add(_gpu_provisioner(collector, options))
        manager.add(Sweeper(collector))


def _catalog(manager: Manager, options: OperatorOptions) -> CatalogSource | None:
    """Adds what keeps the catalogue as a ConfigMap says, if one is named."""
    metrics = CatalogMetrics(manager.registry, options.current)
    if options.catalog_config_map is None:
        return None
    where, changed = options.catalog_config_map, partial(_look_again, manager)
    source = CatalogSource(manager, where, options.current, metrics, file=options.catalog_file, changed=changed)
    manager.add(source)
    return source


async def _look_again(manager: Manager) -> None:
    """What failed for a model or an instance type that was not known has another try with what is known now."""
    for controller in manager.controllers:
        if controller.running:
            await controller.enqueue_all()


def _add_webhooks(manager: Manager, options: OperatorOptions, source: CatalogSource | None) -> None:
    if options.webhooks is None:
        return
    from kaito.controllers.workspace.admission import AdmissionOptions

    admission = AdmissionOptions(options.current, options.node_provisioner, options.runtime, manager.api_reader)
    after = source.wait_loaded if source is not None else None
    manager.add(webhook_server(manager, options.webhooks, admission, after))


def _provider(manager: Manager, options: OperatorOptions) -> Provider | None:
    match options.cloud:
        case "kwok":
            return KwokProvider(manager.client, options.current)
        case "process":
            return ProcessProvider(manager.client, options.current)
        case None:
            return None


def _workspace(
    manager: Manager, options: OperatorOptions, registry: ClaimRegistry, source: CatalogSource | None
) -> Controller[Workspace]:
    existing_only = options.node_provisioner == "byo"
    planner = Planner(options.current, options.runtime, use_existing_nodes=existing_only)
    applier = Applier(manager.client, manager.metrics)
    reconciler: KeyReconciler = WorkspaceReconciler(
        manager.client,
        applier,
        planner,
        options.made,
        replace(options.workload, hub_endpoint=options.hub.endpoint_for_pods),
        options.now,
        registry,
        manager.events,
        Models(manager.client, options.current, options.hub, options.now),
    )
    if options.cloud is None:
        guard = ClaimGuard(manager.client)
        manager.add(guard)
        reconciler = guard.holding(reconciler)
    if source is not None:
        reconciler = MakingHeld(reconciler, Workspace, manager.client, source.loaded)
    awaited = partial(_awaited_labels, existing_only=existing_only)
    return Controller(
        Workspace,
        reconciler,
        owns=(Deployment, StatefulSet, Service),
        watches=(
            *(Watch(kind.kind, map=_workspace_of_claim, optional=kind is not options.made) for kind in CLAIM_KINDS),
            Watch(Node, map=_workspace_of_node),
            Watch(Node, references=awaited, by=_label_terms),
            Watch(Pod, map=_workspace_of_pod),
        ),
        needs=(
            Access(Workspace, "patch"),
            *(Access(kind.kind, "create", "delete") for kind in CLAIM_KINDS),
            # Pods are tried out before a node is paid for, and those of an old revision are deleted together.
            Access(Pod, "create", "delete"),
            # The one that a Workspace names, with the token for its model.
            Access(Secret, "get"),
        ),
        concurrency=5,
    )


def _machine(
    manager: Manager, options: OperatorOptions, claims: ClaimKind, provider: Provider, source: CatalogSource | None
) -> Controller[Claim]:
    reconciler: Reconciler[Claim] = ClaimReconciler(manager.client, provider, claims, options.now, manager.events)
    return Controller(
        claims.kind,
        # Clouds look instance types up, and what one does not know it refuses for good.
        MakingHeldOfObjects(reconciler, source.loaded) if source is not None else reconciler,
        watches=(Watch(Node, map=_claim_of),),
        needs=(
            Access(claims.kind, "patch", "delete"),
            # Its Node's owner reference blocks its deletion.
            Access(claims.kind, "update", subresource="finalizers"),
            Access(Node, "create", "patch", "delete"),
            # On a node to be drained there are pods of any namespace.
            Access(Pod, "list", namespace=EVERYWHERE),
            Access(Pod, "create", subresource="eviction", namespace=EVERYWHERE),
        ),
        where=_asks_something,
        optional=claims is not options.made,
        concurrency=10,
    )


def _gpu_provisioner(collector: InstanceCollector, options: OperatorOptions) -> Controller[Node]:
    return Controller(
        Node,
        collector,
        name="gpu-provisioner",
        watches=tuple(
            Watch(kind.kind, map=_node_of, where=_is_gone, optional=kind is not options.made) for kind in CLAIM_KINDS
        ),
        needs=(Access(Node, "patch", "delete"),),
        concurrency=5,
    )


def _workspace_of_claim(claim: Claim) -> Iterable[ObjectKey]:
    """The Workspace that a claim was made for."""
    owner = made_for(claim)
    return (ObjectKey(owner.name, owner.namespace),) if owner.name and owner.namespace else ()


def _workspace_of_node(node: Node) -> Iterable[ObjectKey]:
    """The Workspace that a node was made for."""
    name = node.metadata.labels.get(keys.WORKSPACE_LABEL)
    namespace = node.metadata.labels.get(keys.WORKSPACE_NAMESPACE_LABEL)
    return (ObjectKey(name, namespace),) if name and namespace else ()


def _workspace_of_pod(pod: Pod) -> Iterable[ObjectKey]:
    """The Workspace that a pod serves."""
    return (ObjectKey(pod.metadata.labels[keys.WORKSPACE_LABEL], pod.metadata.namespace),)


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
    return (
        metadata.uid,
        metadata.generation,
        metadata.deletion_timestamp,
        metadata.finalizers,
        metadata.labels,
        metadata.annotations.get(keys.MADE_FOR_ANNOTATION),
    )


def _awaited_labels(workspace: Workspace, *, existing_only: bool) -> Iterable[str]:
    """The labels of the existing nodes that a Workspace waits for; none if it has nodes made."""
    if workspace.resource.instance_type and not existing_only:
        return ()
    return _terms(dict(own_selector(workspace).match_labels))


def _label_terms(node: Node) -> Iterable[str]:
    return _terms(dict(node.metadata.labels))


def _terms(labels: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]
