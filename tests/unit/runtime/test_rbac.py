"""RBAC: which rules follow from what is declared, and that they are the smallest."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.informers.options import InformerOptions
from kaito.kube.apps_v1 import Deployment
from kaito.kube.coordination_v1 import Lease
from kaito.kube.core_v1 import ConfigMap, Node, Pod, Secret, Service
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime import DONE, Access, Controller, Manager, Result, Watch
from kaito.runtime.access import EVERYWHERE
from kaito.runtime.rbac import Grant, Need, grants_of, needs_of, rules_of
from kaito.runtime.roles import role_objects
from kaito.runtime.service import Service as ManagerService
from kaito.testing.fake_api import FakeApi
from tests.unit.runtime.widgets import Widget

READ = ["get", "list", "watch"]
OWN = [*READ, "create", "update", "patch", "delete"]


class Idle:
    async def reconcile(self, _: Resource) -> Result:
        return DONE


class Locking(ManagerService):
    """A service that needs something in one place."""

    needs = (Access(Lease, "get", "create", "update", namespace="system"),)

    async def run(self) -> None:
        raise AssertionError("nobody runs it")


def manager(*items: Any, **options: Any) -> Manager:
    made = Manager("tests", None, transport=FakeApi().transport(), metrics="0", health="0", **options)
    for item in items:
        made.add(item)
    return made


def rules(*needs: Access, namespaces: frozenset[str] | None = None) -> Any:
    found = rules_of([Need(access, "test", namespaces) for access in needs])
    return [short(rule) for rule in found.cluster], {
        namespace: [short(rule) for rule in inside] for namespace, inside in found.namespaced.items()
    }


def short(rule: Any) -> tuple[str, list[str], list[str], list[str]]:
    (group,) = rule.api_groups
    return group, list(rule.resources), list(rule.verbs), list(rule.resource_names)


def declared(*items: Any, **options: Any) -> Any:
    """The rules of a manager, without those of the services that each has."""
    own = {f"controller {item.name}" for item in items if isinstance(item, Controller)}
    own |= {item.name for item in items if isinstance(item, ManagerService)}
    found = rules_of(need for need in needs_of(manager(*items, **options)) if need.by in own)
    return [short(rule) for rule in found.cluster], {
        namespace: [short(rule) for rule in inside] for namespace, inside in found.namespaced.items()
    }


def test_what_is_watched_is_read_and_what_is_owned_is_written_too() -> None:
    controller = Controller(
        Widget,
        Idle(),
        owns=[Deployment],
        watches=[Watch(Secret, references=lambda widget: widget.spec.secrets)],
        needs=[Access(Widget, "patch"), Access(Pod, "create", subresource="eviction")],
    )
    cluster, namespaced = declared(controller)
    assert cluster == [
        ("", ["pods/eviction"], ["create"], []),
        ("", ["secrets"], READ, []),
        ("apps", ["deployments"], OWN, []),
        ("example.com", ["widgets"], [*READ, "patch"], []),
        ("example.com", ["widgets/finalizers"], ["update"], []),
        ("example.com", ["widgets/status"], ["get", "update", "patch"], []),
    ]
    assert namespaced == {}


def test_the_status_and_finalizers_of_a_built_in_kind_that_owns_nothing_are_not_asked_for() -> None:
    assert declared(Controller(Node, Idle())) == ([("", ["nodes"], READ, [])], {})


def test_events_are_allowed_wherever_the_manager_works_and_for_objects_without_a_namespace() -> None:
    needs = needs_of(manager(Controller(Widget, Idle()), cache=InformerOptions(namespaces={"a"})))
    inside = rules_of(need for need in needs if need.by == "events").namespaced
    assert {namespace: short(*rules) for namespace, rules in inside.items()} == dict.fromkeys(
        ("a", "default"), ("events.k8s.io", ["events"], ["create", "patch"], [])
    )


def test_services_say_what_they_need() -> None:
    _, namespaced = declared(Locking())
    assert namespaced == {"system": [("coordination.k8s.io", ["leases"], ["get", "create", "update"], [])]}


def test_a_manager_of_some_namespaces_gets_a_role_in_each_and_what_has_none_in_the_cluster() -> None:
    controller = Controller(
        Widget,
        Idle(),
        watches=[Watch(Node, map=lambda _: ())],
        needs=[
            Access(Pod, "list", namespace=EVERYWHERE),
            Access(Service, "create"),
            Access(Secret, "get", namespace="x"),
        ],
    )
    cluster, namespaced = declared(controller, cache=InformerOptions(namespaces={"a", "b"}))
    assert cluster == [("", ["nodes"], READ, []), ("", ["pods"], ["list"], [])]
    inside: list[Any] = [
        ("", ["services"], ["create"], []),
        ("example.com", ["widgets"], READ, []),
        ("example.com", ["widgets/status"], ["get", "update", "patch"], []),
    ]
    assert namespaced == {"a": inside, "b": inside, "x": [("", ["secrets"], ["get"], [])]}


def test_what_another_permission_includes_is_left_out() -> None:
    assert rules(
        Access(Secret, "get", "list"),
        Access(Secret, "get", namespace="a"),
        Access(Secret, "get", names=["s"]),
        Access(Secret, "update", names=["t", "s"]),
        Access(Secret, "list", "patch", namespace="a"),
    ) == (
        [("", ["secrets"], ["get", "list"], []), ("", ["secrets"], ["update"], ["s", "t"])],
        {"a": [("", ["secrets"], ["patch"], [])]},
    )


def test_alike_resources_of_one_group_share_a_rule() -> None:
    cluster, _ = rules(Access(Secret, "get"), Access(ConfigMap, "get"), Access(Deployment, "get"))
    assert cluster == [("", ["configmaps", "secrets"], ["get"], []), ("apps", ["deployments"], ["get"], [])]


ACCESSES = st.builds(
    lambda kind, verbs, names, namespace: Access(kind, *verbs, names=names, namespace=namespace),
    st.sampled_from([Secret, ConfigMap, Deployment]),
    st.sets(st.sampled_from(["get", "list", "patch"]), min_size=1).map(sorted),
    st.sets(st.sampled_from("xy")).map(sorted),
    st.sampled_from([None, "a", "b", EVERYWHERE]),
)


@given(
    accesses=st.lists(ACCESSES, max_size=8),
    scope=st.sampled_from([None, frozenset("a"), frozenset("ab")]),
    seed=st.integers(),
)
def test_rules_allow_what_is_needed_and_nothing_else_in_whatever_order_it_was_declared(
    accesses: list[Access], scope: frozenset[str] | None, seed: int
) -> None:
    needs = [Need(access, "test", scope) for access in accesses]
    found = rules_of(needs)
    shuffled = random.Random(seed).sample(needs, len(needs))
    assert rules_of(shuffled) == found

    def allowed(namespace: str, kind: type[Resource], verb: str, name: str) -> bool:
        return any(
            kind.resource_type.group in rule.api_groups
            and kind.resource_type.plural in rule.resources
            and verb in rule.verbs
            and (not rule.resource_names or name in rule.resource_names)
            for rule in (*found.cluster, *found.namespaced.get(namespace, ()))
        )

    def needed(namespace: str, kind: type[Resource], verb: str, name: str) -> bool:
        return any(
            need.access.kind is kind
            and verb in need.access.verbs
            and (not need.access.names or name in need.access.names)
            and (
                need.access.namespace in (EVERYWHERE, namespace)
                or (need.access.namespace is None and (need.namespaces is None or namespace in need.namespaces))
            )
            for need in needs
        )

    for namespace in "abc":
        for kind in (Secret, ConfigMap, Deployment):
            for verb in ("get", "list", "patch", "delete"):
                for name in "xyz":
                    question = (namespace, kind, verb, name)
                    assert allowed(*question) == needed(*question), question


def test_who_needs_a_permission_is_remembered() -> None:
    needs = [Need(Access(Node, "get"), "controller b"), Need(Access(Node, "get"), "controller a")]
    assert grants_of(needs) == {Grant("", "", "nodes", "", "", "get"): ("controller a", "controller b")}


def test_the_objects_bind_each_role_to_the_account() -> None:
    needs = [Need(Access(Node, "get"), "test"), Need(Access(Secret, "get", namespace="a"), "test")]
    made = role_objects("op", ObjectKey("runner", "system"), rules_of(needs))
    assert [(each.kind, str(each.key)) for each in made] == [
        ("ServiceAccount", "system/runner"),
        ("ClusterRole", "op"),
        ("ClusterRoleBinding", "op"),
        ("Role", "a/op"),
        ("RoleBinding", "a/op"),
    ]
    subject = {"kind": "ServiceAccount", "name": "runner", "namespace": "system"}
    assert made[2].to_dict()["subjects"] == made[4].to_dict()["subjects"] == [subject]
    assert made[4].to_dict()["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "op"}
    assert made[1].to_dict()["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    with pytest.raises(ValueError, match="name its namespace"):
        role_objects("op", ObjectKey("runner"), rules_of(needs))


@pytest.mark.parametrize(
    ("grant", "text"),
    [
        (Grant("", "", "nodes", "", "", "patch"), "patch nodes"),
        (
            Grant("demo", "apps", "deployments", "scale", "web", "get"),
            "get deployments.apps/scale web in namespace demo",
        ),
    ],
)
def test_a_permission_in_words(grant: Grant, text: str) -> None:
    assert str(grant) == text
