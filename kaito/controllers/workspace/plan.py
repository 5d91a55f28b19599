"""Plan: what a Workspace asks for, worked out from the catalogue before anything is made or paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import Catalog, CurrentCatalog, GpuSku, ModelPreset, Runtime, UnknownModel, UnknownSku
from kaito.controllers.workspace.rules import EXPRESSIONS_TELL_NO_LABELS, no_service_name, too_long, too_many_nodes
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import LabelSelector
from kaito.sizing import Sizing, SizingError, fits, size, usable_runtimes


class PlanError(Exception):
    """A Workspace asks for what cannot be had; waiting does not help, changing the field does.

    Attributes:
        reason: CamelCase, for a condition.
        field: path of the field at fault.
        message: what was given, what is allowed, and the choices nearest to it.
    """

    def __init__(self, reason: str, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.reason = reason
        self.field = field
        self.message = f"{field}: {message}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made for a Workspace.

    Attributes:
        preset: the model.
        sku: the instance type to make nodes of; None when existing nodes are used.
        sizing: nodes and GPUs; None when existing nodes are used, or when the user knows better than the estimate.
        runtime: what runs the model.
        nodes: how many nodes, each with one pod.
        gpus_per_node: GPUs that each pod asks for.
        node_labels: labels that the nodes have.
    """

    preset: ModelPreset
    sku: GpuSku | None
    sizing: Sizing | None
    runtime: Runtime
    nodes: int
    gpus_per_node: int
    node_labels: Mapping[str, str]

    @property
    def makes_nodes(self) -> bool:
        """Whether claims are made; otherwise existing nodes are used."""
        return self.sku is not None

    def more_than_asked(self, workspace: Workspace) -> str:
        """Why there are more nodes than ``resource.count`` says; empty if there are not."""
        count = workspace.resource.count
        if self.nodes <= count or self.sku is None:
            return ""
        return (
            f"{self.preset.name} needs {self.nodes} nodes of {self.sku.name}: resource.count ({count}) is the least to "
            f"have, and is below that"
        )


class Planner:
    """Makes plans.

    Args:
        current: models and instance types.
        runtime: the runtime to prefer; None: the first that works for model and GPU.
        use_existing_nodes: never ask for nodes (``--node-provisioner byo``).
    """

    def __init__(
        self, current: CurrentCatalog, runtime: Runtime | None = None, *, use_existing_nodes: bool = False
    ) -> None:
        self._current = current
        self._runtime = runtime
        self._use_existing_nodes = use_existing_nodes

    def plan(self, workspace: Workspace, model: ModelPreset | None = None) -> Plan:
        """Works out what a Workspace needs. Pure.

        Args:
            workspace: what is asked for.
            model: what it names, if the catalogue is not to say; see `Models`.

        Raises:
            PlanError: it cannot be had.
        """
        if workspace.tuning is not None:
            raise PlanError("TuningNotSupported", "tuning", "fine-tuning is not part of this version; use inference")
        inference = workspace.inference
        if inference is None or inference.preset is None:
            raise PlanError(
                "TemplateNotSupported",
                "inference.template",
                "pod templates are not part of this version; name a preset",
            )
        catalog = self._current.catalog
        preset = model or _preset(catalog, inference.preset.name)
        return _named(workspace, self._plan(workspace, preset, catalog))

    def _plan(self, workspace: Workspace, preset: ModelPreset, catalog: Catalog) -> Plan:
        runtime = self._runtime_of(workspace)
        labels = own_selector(workspace).match_labels
        if self._use_existing_nodes or not workspace.resource.instance_type:
            return Plan(preset, None, None, runtime or preset.runtimes[0], workspace.resource.count, 1, labels)
        if own_selector(workspace).match_expressions:
            raise PlanError(
                "UnsupportedSelector",
                "resource.labelSelector.matchExpressions",
                EXPRESSIONS_TELL_NO_LABELS,
            )
        sku = _sku(catalog, workspace.resource.instance_type, preset)
        try:
            sizing = size(preset, sku, count=workspace.resource.count, runtime=runtime, catalog=catalog)
        except SizingError as error:
            if keys.BYPASS_RESOURCE_CHECKS_ANNOTATION in workspace.metadata.annotations:
                able = runtime or (*usable_runtimes(preset, sku), *preset.runtimes)[0]
                return Plan(preset, sku, None, able, workspace.resource.count, sku.gpu_count, labels)
            raise PlanError("DoesNotFit", "resource.instanceType", str(error)) from error
        if (fault := too_many_nodes(sizing)) is not None:
            raise PlanError("DoesNotFit", "resource.instanceType", fault)
        return Plan(preset, sku, sizing, sizing.runtime, sizing.nodes, sizing.gpus_per_node, labels)

    def _runtime_of(self, workspace: Workspace) -> Runtime | None:
        asked = workspace.metadata.annotations.get(keys.RUNTIME_ANNOTATION)
        match asked:
            case None:
                return self._runtime
            case "vllm" | "transformers":
                return asked
            case _:
                raise PlanError(
                    "UnknownRuntime",
                    f"metadata.annotations[{keys.RUNTIME_ANNOTATION}]",
                    f"{json.dumps(asked)} is no runtime; choose vllm or transformers",
                )


def _preset(catalog: Catalog, name: str) -> ModelPreset:
    try:
        return catalog.model(name)
    except UnknownModel as error:
        raise PlanError("UnknownPreset", "inference.preset.name", str(error)) from error


def _sku(catalog: Catalog, name: str, preset: ModelPreset) -> GpuSku:
    try:
        return catalog.sku(name, fits=partial(fits, preset))
    except UnknownSku as error:
        raise PlanError("UnknownInstanceType", "resource.instanceType", str(error)) from error


def _named(workspace: Workspace, plan: Plan) -> Plan:
    """The plan, if what is made for it can bear the Workspace's name."""
    name = workspace.metadata.name
    fault = too_long(name, plan.nodes) or no_service_name(name)
    if fault is not None:
        raise PlanError("InvalidName", "metadata.name", f"{json.dumps(name)} {fault}")
    return plan


def own_selector(workspace: Workspace) -> LabelSelector:
    """The Workspace's selector, without labels that only the controller sets."""
    selector = workspace.resource.label_selector
    labels = {key: value for key, value in selector.match_labels.items() if key not in keys.RESERVED_LABELS}
    terms = tuple(term for term in selector.match_expressions if term.key not in keys.RESERVED_LABELS)
    return LabelSelector(match_labels=FrozenDict(labels), match_expressions=terms)
