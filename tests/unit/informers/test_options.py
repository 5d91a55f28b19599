"""InformerOptions: what they refuse, what their selector selects, and what their transforms keep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaito.informers import InformerOptions
from kaito.informers.options import Selector
from kaito.informers.projection import projection
from kaito.kube.core_v1 import ConfigMap, Namespace
from kaito.kube.frozen import FrozenMap
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.kube.unstructured import Unstructured


class Part(KubeModel):
    """A part of a gadget."""

    name: str
    note: str | None = None


class GadgetSpec(KubeModel):
    """What a gadget wants."""

    node_name: str = ""
    parts: tuple[Part, ...] = ()
    main: Part | None = None
    free: FrozenMap[str, str] | None = None


class Gadget(Resource, group="example.com", version="v1"):
    """A kind that declares little of what is there."""

    spec: GadgetSpec = GadgetSpec()


GADGET: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Gadget",
    "metadata": {"name": "g", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"}},
    "spec": {
        "nodeName": "n1",
        "parts": [{"name": "a", "weight": 3}, {"name": "b", "note": None}],
        "main": {"name": "m", "weight": 1},
        "free": {"x": "1"},
        "size": 12345678901234567890,
    },
    "status": {"phase": "Up", "ready": True, "count": 3},
}


def kept(options: InformerOptions, obj: dict[str, Any] = GADGET) -> dict[str, Any]:
    _, entry = options.reader(Gadget).read(json.dumps(obj).encode(), {})
    found: dict[str, Any] = json.loads(entry.raw)
    return found


def test_without_options_everything_is_kept() -> None:
    assert kept(InformerOptions()) == GADGET


def test_a_projection_keeps_what_the_class_declares_at_every_depth() -> None:
    found = kept(InformerOptions(project=True))
    assert "status" not in found
    assert found["spec"] == {
        "nodeName": "n1",
        "parts": [{"name": "a"}, {"name": "b", "note": None}],
        "main": {"name": "m"},
        "free": {"x": "1"},
    }
    assert found["metadata"] == GADGET["metadata"]
    assert Gadget.model_validate(found).spec.parts[0].name == "a"


@pytest.mark.parametrize("spec", [{}, {"main": None}, {"parts": None}, {"parts": []}, {"nodeName": ""}])
def test_a_projection_neither_adds_nor_changes_what_it_keeps(spec: dict[str, Any]) -> None:
    obj = {**GADGET, "spec": spec}
    assert json.loads(projection(Gadget)(json.dumps(obj).encode()))["spec"] == spec


def test_a_projection_of_what_breaks_the_schema_keeps_the_object_whole() -> None:
    broken = {**GADGET, "spec": {"parts": "none"}}
    reader = InformerOptions(project=True).reader(Gadget)
    _, entry = reader.read(json.dumps(broken).encode(), {})
    assert json.loads(entry.raw) == broken
    assert reader.transform_errors == 1


def test_a_transform_runs_before_the_projection() -> None:
    def shout(obj: dict[str, Any]) -> dict[str, Any]:
        return {**obj, "spec": {"nodeName": obj["spec"]["nodeName"].upper(), "size": obj["spec"]["size"]}}

    assert kept(InformerOptions(transform=shout))["spec"] == {"nodeName": "N1", "size": 12345678901234567890}
    assert kept(InformerOptions(transform=shout, project=True))["spec"] == {"nodeName": "N1"}


def test_options_that_make_no_sense_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="Namespace is cluster-scoped; give None"):
        InformerOptions(namespaces=frozenset({"a"})).check(Namespace)
    with pytest.raises(ValueError, match="InformerOptions of configmaps: label selector 'a in b'"):
        InformerOptions(labels="a in b").check(ConfigMap)
    with pytest.raises(ValueError, match="'x' is no term; expected path=value or path!=value"):
        InformerOptions(fields="metadata.name=a,x").check(ConfigMap)
    with pytest.raises(ValueError, match="'=x' is no term"):
        InformerOptions(fields="=x").check(ConfigMap)
    with pytest.raises(TypeError, match="expected a set of names"):
        InformerOptions(namespaces="default")
    with pytest.raises(ValueError, match=r"list_mode is 'foo'; choose from stream, whole, pages"):
        InformerOptions(list_mode="foo").check(ConfigMap)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="project keeps what a class declares, and Thing declares nothing"):
        InformerOptions(project=True).check(Unstructured("example.com/v1", "Thing"))
    InformerOptions(namespaces=frozenset(), labels="a=b,!c", fields="spec.x!=1,status.y==2").check(ConfigMap)


@pytest.mark.parametrize(("labels", "selected"), [("", True), ("app=web", True), ("app!=web", False)])
def test_labels_are_judged_here_and_fields_are_the_servers_to_judge(labels: str, selected: bool) -> None:
    selector = Selector(labels, "spec.nodeName=other")
    assert selector.selects_labels(json.dumps(GADGET).encode()) is selected
    assert selector.has_fields
    assert not Selector(labels, "").has_fields


def test_any_collection_of_names_makes_equal_options() -> None:
    assert InformerOptions({"a", "b"}) == InformerOptions(["b", "a"]) == InformerOptions(frozenset({"a", "b"}))
    assert hash(InformerOptions({"a"})) == hash(InformerOptions(("a",)))


class Tree(KubeModel):
    """A model inside of itself."""

    name: str = ""
    children: tuple[Tree, ...] = ()


class Forest(Resource, group="example.com", version="v1"):
    """A kind with a schema that goes round."""

    spec: Tree = Tree()


def test_a_model_inside_of_itself_is_kept_whole() -> None:
    spec = {"name": "a", "extra": 1, "children": [{"name": "b", "extra": 2}]}
    found = json.loads(projection(Forest)(json.dumps({**GADGET, "spec": spec}).encode()))
    assert found["spec"] == {"name": "a", "children": [{"name": "b", "extra": 2}]}
