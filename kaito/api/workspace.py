"""What both served versions of Workspace have in common, which is all of it: a model to serve or tune, and its nodes.

Objects are stored in one version and pruned by its schema, whatever version they were written in, so both have one
shape. What the API server alone can decide is declared as CEL rules beside the fields. Rules over ``oldSelf`` look only
at what has changed, so that an object that breaks a newer rule can still lose its finalizers.
"""

from typing import ClassVar

from pydantic import Field

from kaito.api import keys
from kaito.api.text_rules import found
from kaito.api.workspace_models import (
    AdapterSource,
    AdapterSpec,
    DataDestination,
    DataSource,
    InferenceSpec,
    PresetOptions,
    PresetSpec,
    TuningSpec,
)
from kaito.api.workspace_nodes import PartitionSpec, ResourceSpec, WorkspaceSelector, WorkspaceSelectorTerm
from kaito.api.workspace_rules import kept, on_create, one_at_least, one_at_most, unwanted
from kaito.api.workspace_status import (
    Performance,
    PerformanceMetric,
    WantedClaim,
    WorkspaceState,
    WorkspaceStatus,
)
from kaito.kube.crd_options import AGE, CRDOptions, PrinterColumn, condition_column
from kaito.kube.resource import Resource
from kaito.kube.schema_markers import Rule

__all__ = [
    "WORKSPACE_COLUMNS",
    "AdapterSource",
    "AdapterSpec",
    "DataDestination",
    "DataSource",
    "InferenceSpec",
    "PartitionSpec",
    "Performance",
    "PerformanceMetric",
    "PresetOptions",
    "PresetSpec",
    "ResourceSpec",
    "TuningSpec",
    "WantedClaim",
    "WorkspaceBase",
    "WorkspaceSelector",
    "WorkspaceSelectorTerm",
    "WorkspaceState",
    "WorkspaceStatus",
    "workspace_crd",
]

_NAME = "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
_is_name = found(_NAME)


class WorkspaceBase(Resource):
    """A model to serve (inference) or to fine-tune (tuning) on GPU nodes, which are made for it or there already.

    Attributes:
        resource: the nodes: of which instance type, how many, and with which labels.
        inference: the model to serve. Exactly one of inference and tuning is given, and the other cannot take its place
            later.
        tuning: the model to fine-tune. Exactly one of inference and tuning is given, and the other cannot take its
            place later.
        status: what there is of the Workspace, and what stands in its way. The controller writes it.
    """

    resource: ResourceSpec
    inference: InferenceSpec | None = None
    tuning: TuningSpec | None = None
    status: WorkspaceStatus = Field(default_factory=WorkspaceStatus)

    # An update of any kind, a finalizer's removal too, checks the root's rules: these let old objects be.
    cel_rules: ClassVar[tuple[Rule, ...]] = (
        on_create(
            one_at_least(
                "inference",
                "tuning",
                message="give exactly one of inference and tuning; none is there",
                blamed="inference",
            )
        ),
        on_create(
            one_at_most("inference", "tuning", message="give exactly one of inference and tuning", blamed="tuning")
        ),
        on_create(
            Rule(
                f"self.metadata.name.matches('{_NAME}')",
                "the name is that of a Service too: at most 63 lower case letters, digits and '-', a letter first",
                """'"' + self.metadata.name + '" cannot name a Workspace, whose Service has the same name: """
                """use at most 63 lower case letters, digits and "-", a letter first'""",
                field_path=".metadata.name",
                holds=lambda value, _old: _is_name(value.get("metadata", {}).get("name", "generated")),
            )
        ),
        on_create(
            unwanted(
                "!has(self.tuning) || !has(self.resource.partition)",
                "resource.partition",
                "a partition is for inference; tuning takes whole GPUs",
                holds=lambda value: "tuning" not in value or "partition" not in value.get("resource", {}),
            )
        ),
        kept("inference"),
        kept("tuning"),
    )


WORKSPACE_COLUMNS: tuple[PrinterColumn, ...] = (
    PrinterColumn("Instance", ".resource.instanceType"),
    condition_column("ResourceReady", keys.RESOURCE_READY),
    condition_column("InferenceReady", keys.INFERENCE_READY),
    condition_column("WorkspaceReady", keys.WORKSPACE_READY),
    AGE,
    condition_column("JobStarted", keys.JOB_STARTED, priority=1),
    condition_column("WorkspaceSucceeded", keys.WORKSPACE_SUCCEEDED, priority=1),
    PrinterColumn("Nodes", ".status.targetNodeCount", "integer", priority=1),
    PrinterColumn("State", ".status.state", priority=1),
)


def workspace_crd(*, storage: bool) -> CRDOptions:
    """Returns what both versions declare; they differ in which of them is stored."""
    return CRDOptions(
        columns=WORKSPACE_COLUMNS,
        short_names=("wk", "wks"),
        categories=("workspace",),
        storage=storage,
        labels=keys.CRD_LABELS,
    )
