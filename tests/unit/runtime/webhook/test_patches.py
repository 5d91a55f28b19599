"""Patches of defaulters: what they make of a document, and what they leave alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.kube.frozen import FrozenDict
from kaito.kube.unstructured import Unstructured
from kaito.runtime.webhook.patches import carried_over, difference
from kaito.testing.fake_api.patches import json_patch
from tests.unit.runtime.webhook.reviews import Gadget, GadgetSpec, Port, gadget

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "1"]) | st.just(1.0)
names = st.sampled_from(["a", "b", "c", "a/b", "~1", ""])
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=4))


@given(documents, documents)
def test_a_patch_makes_the_new_document_of_the_old_to_the_type_of_each_number(old: Any, new: Any) -> None:
    # Compared as text: Python holds 1, 1.0 and True for equal.
    made = json_patch(old, difference(old, new))

    assert json.dumps(made, sort_keys=True) == json.dumps(new, sort_keys=True)


@given(documents)
def test_what_did_not_change_needs_no_patch(document: Any) -> None:
    assert difference(document, json.loads(json.dumps(document))) == []


@pytest.mark.parametrize(
    ("old", "new", "operations"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, [("replace", "/b/c")]),
        ({"l": [1, 2, 3]}, {"l": [1, 3]}, [("remove", "/l/1")]),
        ({"l": [1, 3]}, {"l": [1, 2, 3]}, [("add", "/l/1")]),
        ({"l": [{"n": 1, "x": 1}, 2]}, {"l": [{"n": 1, "x": 2}, 2]}, [("replace", "/l/0/x")]),
        ({"a/b": {"~": 1}}, {"a/b": {}}, [("remove", "/a~1b/~0")]),
        ({"a": 1}, {"a": True}, [("replace", "/a")]),
    ],
)
def test_a_patch_touches_only_what_changed(old: Any, new: Any, operations: list[tuple[str, str]]) -> None:
    assert [(step["op"], step["path"]) for step in difference(old, new)] == operations


def edited(raw: dict[str, Any], edit: Callable[[Gadget], None]) -> Any:
    before = Gadget.model_validate(raw)
    draft = before.edit()
    edit(draft)
    return carried_over(raw, before, draft)


def test_t81_unknown_fields_order_and_spelling_stay_whatever_is_assigned() -> None:
    raw = gadget(zeta={"deep": [1, {"x": None}]}, size=1, alpha=1.0, ports=[{"protocol": "UDP", "number": 1}])
    raw["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00.123+01:00"
    raw["metadata"]["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]

    def edit(draft: Gadget) -> None:
        draft.spec.size = 2
        draft.spec.ports[0].name = "dns"

    made = edited(raw, edit)

    assert json.dumps(made["spec"]) == json.dumps(
        {
            "zeta": {"deep": [1, {"x": None}]},
            "size": 2,
            "alpha": 1.0,
            "ports": [{"protocol": "UDP", "number": 1, "name": "dns"}],
        }
    )
    assert made["metadata"] == raw["metadata"]
    assert raw["spec"]["size"] == 1, "the document itself was changed"


def test_t81_a_part_that_is_replaced_keeps_what_its_class_does_not_know() -> None:
    raw = gadget(size=1, newer={"a": 1}, ports=[{"number": 1, "protocol": "UDP"}])

    def edit(draft: Gadget) -> None:
        draft.spec = GadgetSpec(size=2, ports=(Port(number=7),))

    assert edited(raw, edit)["spec"] == {"size": 2, "newer": {"a": 1}, "ports": [{"number": 7, "protocol": "UDP"}]}


def test_a_known_field_that_is_taken_out_is_taken_out() -> None:
    def edit(draft: Gadget) -> None:
        draft.spec.color = None
        draft.metadata.labels = FrozenDict({"a": "1"})

    made = edited(gadget(color="red", size=1, metadata={"labels": {"b": "2"}}), edit)

    assert made["spec"] == {"size": 1}
    assert made["metadata"]["labels"] == {"a": "1"}


def test_items_that_come_and_go_leave_the_others_as_they_were() -> None:
    raw = gadget(ports=[{"number": n, "extra": n} for n in (1, 2, 3)])

    def edit(draft: Gadget) -> None:
        first, _, last = draft.spec.ports
        draft.spec.ports = (first, Port(number=9), Port(number=8), last)

    ports = edited(raw, edit)["spec"]["ports"]

    assert ports == [{"number": 1, "extra": 1}, {"number": 9}, {"number": 8}, {"number": 3, "extra": 3}]


def test_of_a_kind_without_a_class_everything_can_be_taken_out() -> None:
    kind = Unstructured("example.com/v1", "Gadget")
    raw = gadget(a=1, b=None)
    before = kind.model_validate(raw)
    draft = before.edit()
    draft["spec"] = {"b": None, "c": 2}

    assert carried_over(raw, before, draft)["spec"] == {"b": None, "c": 2}
