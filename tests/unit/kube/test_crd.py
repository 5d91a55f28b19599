"""kaito.kube.crd: kinds as CustomResourceDefinitions."""

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from kaito.kube import AGE, CRDOptions, KubeModel, Limits, PrinterColumn, Resource, condition_column
from kaito.kube.crd import SchemaError, custom_resource_definition
from kaito.kube.crd_options import Scale, label_column


class WidgetSpec(KubeModel):
    """What is wanted."""

    size: Annotated[int, Limits(minimum=1)] = 3


class OldWidget(Resource, group="example.com", version="v1alpha1", kind="Widget"):
    """A widget, as it was."""

    spec: WidgetSpec = Field(default_factory=WidgetSpec)

    crd: ClassVar[CRDOptions] = CRDOptions(storage=False, deprecation_warning="use v1")


class Widget(Resource, group="example.com", version="v1"):
    """A widget."""

    spec: WidgetSpec

    crd: ClassVar[CRDOptions] = CRDOptions(
        short_names=("wd",),
        categories=("all",),
        columns=(
            condition_column("Ready", "Ready"),
            label_column("Type", "node.kubernetes.io/instance-type", priority=1, description="what it is"),
            PrinterColumn("Size", ".spec.size", "integer"),
            AGE,
        ),
        scale=Scale(".spec.size", ".status.size"),
        labels={"a": "b"},
        annotations={"c": "d"},
    )


class Gadget(Resource, group="example.com", version="v1", namespaced=False):
    """A gadget."""

    size: int = 0


def test_two_versions_make_one_definition() -> None:
    definition = custom_resource_definition(OldWidget, Widget)
    schema = {
        "type": "object",
        "description": "A widget.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {
                "type": "object",
                "description": "What is wanted.",
                "properties": {"size": {"type": "integer", "format": "int64", "minimum": 1, "default": 3}},
            },
        },
        "required": ["spec"],
    }
    old, new = definition["spec"].pop("versions")
    assert definition == {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {
                "kind": "Widget",
                "listKind": "WidgetList",
                "plural": "widgets",
                "singular": "widget",
                "shortNames": ["wd"],
                "categories": ["all"],
            },
        },
    }
    assert (old["name"], old["served"], old["storage"]) == ("v1alpha1", True, False)
    assert (old["deprecated"], old["deprecationWarning"]) == (True, "use v1")
    assert "required" not in old["schema"]["openAPIV3Schema"]
    assert new == {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        },
        "additionalPrinterColumns": [
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {
                "name": "Type",
                "type": "string",
                "jsonPath": r".metadata.labels.node\.kubernetes\.io/instance-type",
                "description": "what it is",
                "priority": 1,
            },
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }


def test_a_kind_that_declares_nothing_has_a_definition_too() -> None:
    spec = custom_resource_definition(Gadget)["spec"]
    assert spec["scope"] == "Cluster"
    assert spec["versions"][0]["storage"] is True
    assert spec["versions"][0]["subresources"] == {"status": {}}


def test_versions_of_different_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"versions of one kind .*Gadget\.example\.com.*Widget\.example\.com"):
        custom_resource_definition(Widget, Gadget)


def test_no_version_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="versions of one kind are needed, got none"):
        custom_resource_definition()


@pytest.mark.parametrize("versions", [(OldWidget,), (Widget, Widget)])
def test_other_than_one_stored_version_is_refused(versions: tuple[type[Resource], ...]) -> None:
    with pytest.raises(ValueError, match=r"Widget\.example\.com: exactly one version is stored"):
        custom_resource_definition(*versions)


class WidgetStatus(KubeModel):
    """What there is."""


def test_a_status_that_no_new_object_could_have_is_refused_where_it_is_dropped_from_new_ones() -> None:
    class Bare(Resource, group="example.com", version="v1"):
        """A kind without a default for its status."""

        status: WidgetStatus

    with pytest.raises(SchemaError, match=r"Bare\.status: .* none could be created; give it a default"):
        custom_resource_definition(Bare)


def test_a_status_without_a_verb_of_its_own_may_be_required() -> None:
    class Whole(Resource, group="example.com", version="v1"):
        """A kind whose status is written with the rest."""

        status: WidgetStatus

        crd: ClassVar[CRDOptions] = CRDOptions(status=False)

    schema = custom_resource_definition(Whole)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["required"] == ["status"]
