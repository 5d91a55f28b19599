"""Kinds: what the server serves, and by which rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kaito.kube.resource import ResourceType
from kaito.testing.fake_api.failures import Json, qualified
from kaito.testing.fake_api.shapes import BuiltInShape, DeclaredShape, Shape, shape_of_schema


@dataclass(frozen=True)
class Kind:
    """A kind that the server serves.

    Attributes:
        type: where it lives.
        status: it has a status subresource, so that writes to one part leave the other alone.
        generation: ``metadata.generation`` counts changes outside metadata and status.
        custom: a custom resource: no strategic patches, updates must carry a resourceVersion.
        needs_version: updates must carry a resourceVersion.
        status_at_birth: a create may set the status (Nodes; everybody else's is dropped).
        immutable: dotted paths that no update may change.
        selectable: fields that field selectors may use beside name and namespace; None: any.
        shape: which of its lists are merged item by item.
    """

    type: ResourceType
    status: bool = False
    generation: bool = False
    custom: bool = False
    needs_version: bool = False
    status_at_birth: bool = False
    immutable: tuple[str, ...] = ()
    selectable: tuple[str, ...] | None = None
    shape: Shape = field(default_factory=BuiltInShape)

    @property
    def collection(self) -> str:
        """``deployments.apps``: the same for all versions of a kind."""
        return qualified(self.type)


class Kinds:
    """All kinds that are served."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        for kind in BUILT_IN:
            self.add(kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def add(self, kind: Kind) -> None:
        """Serves a kind from now on."""
        self._kinds[kind.type.group, kind.type.version, kind.type.plural] = kind

    def remove(self, group: str, plural: str) -> None:
        """Serves no version of a kind any more."""
        for known in [key for key in self._kinds if (key[0], key[2]) == (group, plural)]:
            del self._kinds[known]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind at that place of the API."""
        return self._kinds.get((group, version, plural))

    def of_collection(self, collection: str) -> Kind | None:
        """Any version of the kind whose objects are in that collection."""
        return next((kind for kind in self if kind.collection == collection), None)


def custom_kind(
    resource: ResourceType, *, status: bool = True, merge_keys: Mapping[str, tuple[str, ...]] | None = None
) -> Kind:
    """A custom resource without a CRD.

    Args:
        resource: where it lives.
        status: it has a status subresource.
        merge_keys: its lists that are merged item by item, ``{"status.conditions": ("type",)}``; all others are atomic.
    """
    return Kind(
        resource,
        status=status,
        generation=True,
        custom=True,
        needs_version=True,
        selectable=(),
        shape=DeclaredShape(merge_keys),
    )


def kinds_of_crd(crd: Json) -> list[Kind]:
    """The kinds that a CustomResourceDefinition brings: one for each served version."""
    spec = crd["spec"]
    return [_version_of_crd(spec, version) for version in spec["versions"] if version.get("served")]


def _version_of_crd(spec: Json, version: Json) -> Kind:
    names = spec["names"]
    paths = [entry["jsonPath"].removeprefix(".") for entry in version.get("selectableFields", ())]
    return Kind(
        ResourceType(spec["group"], version["name"], names["kind"], names["plural"], spec["scope"] == "Namespaced"),
        status="status" in version.get("subresources", {}),
        generation=True,
        custom=True,
        needs_version=True,
        selectable=tuple(paths),
        shape=shape_of_schema(version.get("schema", {}).get("openAPIV3Schema", {})),
    )


CRD = ResourceType(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
NAMESPACE = ResourceType("", "v1", "Namespace", "namespaces", namespaced=False)
POD = ResourceType("", "v1", "Pod", "pods")
NODE = ResourceType("", "v1", "Node", "nodes", namespaced=False)
DEPLOYMENT = ResourceType("apps", "v1", "Deployment", "deployments")
STATEFUL_SET = ResourceType("apps", "v1", "StatefulSet", "statefulsets")

BUILT_IN: tuple[Kind, ...] = (
    Kind(CRD, status=True, generation=True),
    Kind(NAMESPACE, status=True),
    Kind(NODE, status=True, status_at_birth=True),
    Kind(POD, status=True, generation=True),
    Kind(ResourceType("", "v1", "Service", "services"), status=True),
    Kind(ResourceType("", "v1", "Secret", "secrets")),
    Kind(ResourceType("", "v1", "ConfigMap", "configmaps")),
    Kind(ResourceType("", "v1", "ServiceAccount", "serviceaccounts")),
    Kind(ResourceType("", "v1", "Event", "events")),
    Kind(ResourceType("events.k8s.io", "v1", "Event", "events")),
    Kind(ResourceType("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"), status=True),
    Kind(DEPLOYMENT, status=True, generation=True, immutable=("spec.selector",)),
    Kind(ResourceType("apps", "v1", "ReplicaSet", "replicasets"), status=True, generation=True),
    Kind(
        STATEFUL_SET,
        status=True,
        generation=True,
        immutable=("spec.selector", "spec.serviceName", "spec.volumeClaimTemplates", "spec.podManagementPolicy"),
    ),
    Kind(
        ResourceType("batch", "v1", "Job", "jobs"),
        status=True,
        generation=True,
        immutable=("spec.selector", "spec.template", "spec.completionMode"),
    ),
    Kind(ResourceType("coordination.k8s.io", "v1", "Lease", "leases"), needs_version=True),
    Kind(ResourceType("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"), status=True, generation=True),
)
