"""kaito.kube.unstructured: kinds without a class, over plain JSON that loses nothing and cannot be changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.kube import FrozenModelError, ObjectKey, ResourceType, Unstructured, UnstructuredObject

Widget = Unstructured("example.com/v1", "Widget")
WIRE = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "a", "namespace": "ns", "resourceVersion": "7", "managedFields": [{"manager": "m"}]},
    "spec": {"replicas": 1, "parts": [{"weight": 1.0}]},
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def read(**fields: object) -> UnstructuredObject:
    return Widget.model_validate_json(json.dumps(WIRE | fields))


def test_fields_are_read_by_their_names_on_the_wire() -> None:
    widget = read()
    assert widget["spec"]["replicas"] == 1
    assert widget["spec"]["parts"][0]["weight"] == 1.0
    assert (widget["apiVersion"], widget["kind"], widget["metadata"]["name"]) == ("example.com/v1", "Widget", "a")
    assert (widget.key, widget.metadata.resource_version) == (ObjectKey("a", "ns"), "7")
    assert (widget.get("status"), widget.get("status", 5), "status" in widget, "spec" in widget) == (
        None,
        5,
        False,
        True,
    )
    assert (list(widget), len(widget)) == (list(WIRE), 4)
    with pytest.raises(KeyError, match="status"):
        widget["status"]


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text(min_size=1, max_size=6), json_values, max_size=4))
def test_what_was_read_is_written_back_as_it_came_nulls_and_all(fields: dict[str, Any]) -> None:
    fields = {name: value for name, value in fields.items() if name not in WIRE}
    assert json.loads(json.dumps(read(**fields).to_dict())) == WIRE | fields


def test_fields_with_the_names_of_methods_are_fields() -> None:
    widget = read(keys=1, key="x", edit=[2], get={"a": 3})
    assert (widget["keys"], widget["key"], widget["edit"], widget["get"]["a"]) == (1, "x", (2,), 3)
    draft = widget.edit()
    draft["keys"] = 9
    assert (draft["keys"], draft.to_dict()["keys"], widget["keys"]) == (9, 9, 1)


def test_an_object_says_its_kind_even_if_the_wire_did_not() -> None:
    widget = Widget.model_validate_json('{"metadata":{"name":"a"}}')
    assert widget.to_dict() == {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}}
    assert (widget["apiVersion"], widget["kind"]) == ("example.com/v1", "Widget")


def test_nothing_in_it_can_be_changed_at_any_depth() -> None:
    widget = read()
    with pytest.raises(FrozenModelError, match=r"Widget\.spec cannot be assigned"):
        widget["spec"] = {}
    with pytest.raises(FrozenModelError):
        del widget["spec"]
    with pytest.raises(TypeError, match="edit"):
        widget["spec"]["replicas"] = 2
    with pytest.raises(TypeError, match="edit"):
        widget["spec"]["parts"][0]["weight"] = 2
    with pytest.raises(TypeError, match="edit"):
        widget["metadata"]["name"] = "b"


def test_a_draft_is_written_by_field_without_touching_the_object() -> None:
    widget = read()
    draft = widget.edit()
    draft["spec"] = {**draft["spec"], "replicas": 3}
    draft.metadata.labels = {"a": "b"}
    draft["metadata"] = {**draft["metadata"], "labels": {**draft.metadata.labels, "c": "d"}}
    assert draft.to_dict()["spec"] == {"replicas": 3, "parts": [{"weight": 1.0}]}
    assert draft.metadata.labels == {"a": "b", "c": "d"}
    assert draft.to_dict()["metadata"]["managedFields"] == [{"manager": "m"}]
    with pytest.raises(TypeError):
        draft["spec"]["replicas"] = 4
    del draft["spec"]
    assert "spec" not in draft.to_dict()
    assert widget.to_dict() == WIRE


def test_the_same_arguments_give_the_same_class() -> None:
    assert Unstructured("example.com/v1", "Widget") is Widget
    assert Unstructured("example.com/v1", "Widget", plural="widgetz") is not Widget
    assert Widget.__name__ == "Widget"


def test_the_place_in_the_api_is_guessed_unless_it_is_given() -> None:
    assert Unstructured("networking.k8s.io/v1", "Ingress").resource_type.plural == "ingresses"
    node = Unstructured("v1", "Node", namespaced=False).resource_type
    assert node == ResourceType("", "v1", "Node", "nodes", namespaced=False)
    assert Unstructured("g/v1", "Gateway", plural="gateways").resource_type.plural == "gateways"


@pytest.mark.parametrize("api_version", ["", "a/b/c", "/v1", "example.com/"])
def test_a_version_that_is_none_is_refused(api_version: str) -> None:
    with pytest.raises(ValueError, match=f"api_version '{api_version}': expected GROUP/VERSION"):
        Unstructured(api_version, "Widget")


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'a b': expected a name"):
        Unstructured("v1", "a b")


def test_its_repr_names_it_and_shows_nothing_of_it() -> None:
    secret = Unstructured("v1", "Secret").model_validate({"metadata": {"name": "a"}, "data": {"password": "s3cret"}})
    assert repr(secret) == "Secret(key='a', resource_version='')"
    assert "s3cret" not in str(secret)
