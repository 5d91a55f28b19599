"""Owner references: what goes with whom, and the references that would have an object deleted at once."""

from __future__ import annotations

import re

import pytest

from kaito.kube.core_v1 import ConfigMap, Node, Secret
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.resource import Resource
from kaito.runtime.owners import AlreadyOwned, controller_of, with_owner, without_owner


def config_map(name: str, uid: str = "u1", namespace: str = "default") -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, uid=uid))


SECRET = Secret(metadata=ObjectMeta(name="s", namespace="default"))
NODE = Node(metadata=ObjectMeta(name="n", uid="u9"))


def test_an_object_gets_a_controlling_owner_and_others_beside_and_is_itself_not_changed() -> None:
    owned = with_owner(with_owner(SECRET, config_map("a"), controller=True), config_map("b", "u2"))
    assert [(each.name, each.controller) for each in owned.metadata.owner_references] == [("a", True), ("b", None)]
    assert (controller_of(owned) or owned).uid == "u1"  # type: ignore[union-attr]
    assert SECRET.metadata.owner_references == ()


def test_a_reference_that_is_there_is_brought_up_to_date_in_its_place() -> None:
    owned = with_owner(with_owner(SECRET, config_map("a")), config_map("b", "u2"))
    again = with_owner(owned, config_map("a"), controller=True)
    assert [(each.name, each.controller) for each in again.metadata.owner_references] == [("a", True), ("b", None)]
    assert with_owner(again, config_map("a"), controller=True) == again


def test_a_second_controlling_owner_is_refused_and_the_first_named() -> None:
    owned = with_owner(SECRET, config_map("a"), controller=True)
    text = "Secret default/s is controlled by ConfigMap a (uid u1), and so cannot be by ConfigMap default/a (uid u2)"
    with pytest.raises(AlreadyOwned, match=re.escape(text)) as refused:
        with_owner(owned, config_map("a", "u2"), controller=True)
    assert refused.value.owner.uid == "u1"


@pytest.mark.parametrize(
    ("obj", "owner", "text"),
    [
        (SECRET, config_map("a", namespace="other"), "an owner must be in the namespace of what it owns"),
        (NODE, config_map("a"), "it lies in a namespace, and a Node in none"),
        (SECRET, config_map("a", uid=""), "ConfigMap default/a cannot own Secret default/s: it has no uid"),
    ],
)
def test_an_owner_that_the_garbage_collector_would_not_find_is_refused(
    obj: Resource, owner: Resource, text: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        with_owner(obj, owner)


def test_what_has_no_namespace_can_own_anything() -> None:
    assert with_owner(SECRET, NODE, controller=True).metadata.owner_references[0].kind == "Node"


def test_an_owner_can_be_taken_away_again() -> None:
    owned = with_owner(with_owner(SECRET, config_map("a")), config_map("b", "u2"))
    assert [each.name for each in without_owner(owned, config_map("a")).metadata.owner_references] == ["b"]
