"""kaito.kube.resource: where kinds live in the API."""

import pytest

from kaito.kube import ConfigMap, Deployment, Node, ObjectKey, ObjectMeta, Pod, Resource, ResourceType
from kaito.kube.resource import guess_plural


class Mouse(Resource, group="example.com", version="v1", plural="mice"):
    size: int = 0


class AbstractThing(Resource):
    size: int = 0


class Thing(AbstractThing, group="example.com", version="v2"):
    pass


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (Pod, ResourceType("", "v1", "Pod", "pods")),
        (Deployment, ResourceType("apps", "v1", "Deployment", "deployments")),
        (Node, ResourceType("", "v1", "Node", "nodes", namespaced=False)),
        (Mouse, ResourceType("example.com", "v1", "Mouse", "mice")),
        (Thing, ResourceType("example.com", "v2", "Thing", "things")),
    ],
)
def test_class_arguments_say_where_a_kind_lives(resource: type[Resource], expected: ResourceType) -> None:
    assert resource.resource_type == expected


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        ("Widget", "widgets"),
        ("Ingress", "ingresses"),
        ("NetworkPolicy", "networkpolicies"),
        ("Endpoints", "endpoints"),
        ("Gateway", "gatewaies"),  # what the rule says, and why discovery is asked
    ],
)
def test_plurals_are_guessed_as_kubernetes_does(kind: str, plural: str) -> None:
    assert guess_plural(kind) == plural


def test_plain_json_is_asked_for_unless_a_class_says_otherwise() -> None:
    assert (Pod.accept, Pod.list_accept) == ("", "")


def test_a_class_without_a_version_has_no_place() -> None:
    assert not hasattr(AbstractThing, "resource_type")


def test_paths_follow_group_scope_and_subresource() -> None:
    assert Pod.resource_type.path() == "/api/v1/pods"
    assert Pod.resource_type.path("ns", "p", "log") == "/api/v1/namespaces/ns/pods/p/log"
    assert Deployment.resource_type.path("ns") == "/apis/apps/v1/namespaces/ns/deployments"
    assert Node.resource_type.path(None, "n", "status") == "/api/v1/nodes/n/status"
    assert Node.resource_type.path("ignored", "n") == "/api/v1/nodes/n"


def test_group_kind_is_what_kubectl_takes() -> None:
    assert (Pod.resource_type.group_kind, Mouse.resource_type.group_kind) == ("Pod", "Mouse.example.com")


def test_a_new_object_carries_its_api_version_and_kind() -> None:
    assert Mouse(metadata=ObjectMeta(name="m")).to_dict() == {
        "apiVersion": "example.com/v1",
        "kind": "Mouse",
        "metadata": {"name": "m"},
    }


def test_the_key_is_name_and_namespace() -> None:
    assert ConfigMap(metadata=ObjectMeta(name="c", namespace="ns")).key == ObjectKey("c", "ns")


def test_built_in_lists_have_the_name_of_their_kind_and_custom_ones_may_have_another() -> None:
    deployment, widget = (
        ResourceType("apps", "v1", "Deployment", "deployments"),
        ResourceType("example.com", "v1", "Widget", "widgets"),
    )
    role = ResourceType("rbac.authorization.k8s.io", "v1", "Role", "roles")
    for listed in ("DeploymentList", "List", "PartialObjectMetadataList", ""):
        assert deployment.may_be_listed_as(listed)
    assert not deployment.may_be_listed_as("PodList")
    assert not role.may_be_listed_as("PodList")
    assert widget.may_be_listed_as("WidgetCollection")
