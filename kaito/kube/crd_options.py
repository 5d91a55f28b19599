"""What a kind declares about its CustomResourceDefinition: columns, short names, versions; see `kaito.kube.crd`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ColumnType = Literal["string", "integer", "number", "boolean", "date"]


@dataclass(frozen=True)
class PrinterColumn:
    """A column of ``kubectl get``.

    Attributes:
        name: the heading; kubectl prints it in capitals.
        json_path: where the value is, such as ``.status.nodeName``.
        type: how it is printed; ``date`` becomes an age.
        priority: 0 is always shown, more only with ``-o wide``.
        description: what the column tells.
    """

    name: str
    json_path: str
    type: ColumnType = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Scale:
    """The scale subresource: where the wanted and the observed number of replicas are, and the selector of the pods."""

    spec_replicas_path: str
    status_replicas_path: str
    label_selector_path: str = ""


@dataclass(frozen=True)
class CRDOptions:
    """A kind's CRD, version by version; a Resource has it as ``crd: ClassVar[CRDOptions]``.

    Names, labels and annotations are taken from the version that is stored.

    Attributes:
        columns: columns of ``kubectl get`` after NAME; who declares any declares `AGE` too.
        short_names: what users may type for the plural.
        categories: groups of kinds that ``kubectl get CATEGORY`` lists.
        singular: default: the kind in lower case.
        status: whether status is written by its own verb; a kind without it has no generation.
        scale: the scale subresource, if any.
        served: whether the API server answers for this version.
        storage: whether objects are stored in this version; of a CRD's versions exactly one is.
        deprecation_warning: what users of a deprecated version read; None when it is not deprecated.
        labels: labels of the CRD object.
        annotations: annotations of the CRD object.
    """

    columns: tuple[PrinterColumn, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    singular: str = ""
    status: bool = True
    scale: Scale | None = None
    served: bool = True
    storage: bool = True
    deprecation_warning: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def condition_column(name: str, condition: str, priority: int = 0, description: str = "") -> PrinterColumn:
    """Returns a column that prints the status of one condition."""
    return PrinterColumn(
        name, f'.status.conditions[?(@.type=="{condition}")].status', priority=priority, description=description
    )


def label_column(name: str, label: str, priority: int = 0, description: str = "") -> PrinterColumn:
    """Returns a column that prints one of the object's labels."""
    escaped = label.replace(".", "\\.")
    return PrinterColumn(name, f".metadata.labels.{escaped}", priority=priority, description=description)


AGE = PrinterColumn("Age", ".metadata.creationTimestamp", "date")
"""The column that kubectl shows for kinds that declare none."""
