"""From Python models to a CustomResourceDefinition: what a kind is, in every version of it, as the API server takes it.

A kind declares its options beside its fields::

    class Widget(Resource, group="example.com", version="v1"):
        spec: WidgetSpec
        crd: ClassVar[CRDOptions] = CRDOptions(short_names=("wd",), columns=(condition_column("Ready", "Ready"), AGE))

    custom_resource_definition(Widget)
"""

from typing import Any

from kaito.kube.crd_options import CRDOptions, PrinterColumn
from kaito.kube.resource import Resource
from kaito.kube.schema import SchemaError, plain, schema_with_rules, structural_schema

__all__ = ["SchemaError", "custom_resource_definition", "options", "resource_schema", "structural_schema"]


_METADATA: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}


def custom_resource_definition(*versions: type[Resource]) -> dict[str, Any]:
    """Returns the CustomResourceDefinition of a kind, ready to be written as YAML or sent to the API server.

    Args:
        versions: the kind's classes, one for each version; their order is the one in the CRD.

    Raises:
        ValueError: the classes are not versions of one kind, or not exactly one of them is stored.
        SchemaError: a field has a type that a structural schema cannot express.
    """
    stored = _stored(versions)
    place, declared = stored.resource_type, options(stored)
    metadata = {
        "name": f"{place.plural}.{place.group}",
        "labels": dict(declared.labels),
        "annotations": dict(declared.annotations),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {key: value for key, value in metadata.items() if value},
        "spec": {
            "group": place.group,
            "names": _names(stored),
            "scope": "Namespaced" if place.namespaced else "Cluster",
            "versions": [_version(version) for version in versions],
        },
    }


def _stored(versions: tuple[type[Resource], ...]) -> type[Resource]:
    kinds = {version.resource_type._replace(version="") for version in versions}
    if len(kinds) != 1:
        raise ValueError(f"versions of one kind are needed, got {sorted(kind.group_kind for kind in kinds) or 'none'}")
    stored = [version for version in versions if options(version).storage]
    if len(stored) != 1:
        names = [version.resource_type.version for version in stored]
        raise ValueError(
            f"{kinds.pop().group_kind}: exactly one version is stored, not {names}; set storage=False in others"
        )
    return stored[0]


def options(resource: type[Resource]) -> CRDOptions:
    """Returns what a kind declares about its CRD; a kind that declares nothing has the defaults."""
    declared: CRDOptions = getattr(resource, "crd", CRDOptions())
    return declared


def _names(resource: type[Resource]) -> dict[str, Any]:
    place, declared = resource.resource_type, options(resource)
    names = {
        "kind": place.kind,
        "listKind": f"{place.kind}List",
        "plural": place.plural,
        "singular": declared.singular or place.kind.lower(),
        "shortNames": list(declared.short_names),
        "categories": list(declared.categories),
    }
    return {key: value for key, value in names.items() if value}


def _version(resource: type[Resource]) -> dict[str, Any]:
    declared = options(resource)
    version: dict[str, Any] = {
        "name": resource.resource_type.version,
        "served": declared.served,
        "storage": declared.storage,
        "schema": {"openAPIV3Schema": plain(resource_schema(resource))},
    }
    if declared.deprecation_warning is not None:
        version |= {"deprecated": True, "deprecationWarning": declared.deprecation_warning}
    if subresources := _subresources(declared):
        version["subresources"] = subresources
    if declared.columns:
        version["additionalPrinterColumns"] = [_column(column) for column in declared.columns]
    return version


def resource_schema(resource: type[Resource]) -> dict[str, Any]:
    """Returns the schema of a kind, its rules as `kaito.kube.schema_markers.Rule` (see `kaito.kube.schema.plain`).

    Raises:
        SchemaError: a field has a type that a structural schema cannot express, or no object could ever be created.
    """
    schema = schema_with_rules(resource)
    if options(resource).status and "status" in schema.get("required", ()):
        raise SchemaError(
            f"{resource.__name__}.status: a status that must be there, in a kind whose status is written by its own "
            f"verb: the API server drops it from new objects, so that none could be created; give it a default, such "
            f"as Field(default_factory=…), or None"
        )
    # The API server knows these itself and lets a CRD say almost nothing about them but that there is a name for
    # rules to blame.
    own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _METADATA}
    return schema | {"properties": schema["properties"] | own}


def _subresources(options: CRDOptions) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}} if options.status else {}
    if options.scale is not None:
        scale = {
            "specReplicasPath": options.scale.spec_replicas_path,
            "statusReplicasPath": options.scale.status_replicas_path,
            "labelSelectorPath": options.scale.label_selector_path,
        }
        subresources["scale"] = {key: value for key, value in scale.items() if value}
    return subresources


def _column(column: PrinterColumn) -> dict[str, Any]:
    fields = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
        "priority": column.priority,
    }
    return {key: value for key, value in fields.items() if value}
