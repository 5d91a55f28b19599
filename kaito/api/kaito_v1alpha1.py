"""kaito.sh/v1alpha1: Workspace."""

from typing import ClassVar

from kaito.api.workspace import (
    AdapterSource,
    AdapterSpec,
    DataDestination,
    DataSource,
    InferenceSpec,
    PartitionSpec,
    Performance,
    PerformanceMetric,
    PresetOptions,
    PresetSpec,
    ResourceSpec,
    TuningSpec,
    WantedClaim,
    WorkspaceBase,
    WorkspaceSelector,
    WorkspaceSelectorTerm,
    WorkspaceState,
    WorkspaceStatus,
    workspace_crd,
)
from kaito.kube.crd_options import CRDOptions

__all__ = [
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
    "Workspace",
    "WorkspaceSelector",
    "WorkspaceSelectorTerm",
    "WorkspaceState",
    "WorkspaceStatus",
]


class Workspace(WorkspaceBase, group="kaito.sh", version="v1alpha1"):
    __doc__ = WorkspaceBase.__doc__

    crd: ClassVar[CRDOptions] = workspace_crd(storage=False)
