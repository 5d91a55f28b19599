"""kaito.kube.core_v1 and its neighbours: wire names that no rule gives, and secrets that stay out of logs."""

import json
from collections.abc import Iterator

import pytest
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from kaito.api import karpenter_v1, karpenter_v1alpha5, workspace
from kaito.kube import Node, Secret, apps_v1, batch_v1, coordination_v1, core_v1, events_v1, pod_v1
from kaito.kube.core_v1 import NodeSpec, NodeStatus, ServiceSpec
from kaito.kube.model import KubeModel

IRREGULAR = {
    "bootID",
    "clusterDNS",
    "clusterIP",
    "clusterIPs",
    "containerID",
    "cpuCFSQuota",
    "externalIPs",
    "hostIP",
    "hostIPC",
    "hostPID",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "imageID",
    "loadBalancerIP",
    "machineID",
    "podCIDR",
    "podCIDRs",
    "podIP",
    "podIPs",
    "providerID",
    "systemUUID",
}
"""Each was compared with the published OpenAPI of its kind; tests/integration/test_kube_types.py does so again."""

ACRONYMS = {"api", "cidr", "cidrs", "cfs", "dns", "fqdn", "gc", "id", "ip", "ipc", "ips", "pid", "url", "urls", "uuid"}

MODULES = (
    apps_v1, batch_v1, coordination_v1, core_v1, events_v1, pod_v1, workspace, karpenter_v1, karpenter_v1alpha5,
)  # fmt: skip


def wire_names() -> Iterator[tuple[type[KubeModel], str, str]]:
    for module in MODULES:
        for model in vars(module).values():
            if isinstance(model, type) and issubclass(model, KubeModel):
                model.model_rebuild()  # aliases are set when the schema is built
                yield from ((model, name, field.alias or name) for name, field in model.model_fields.items())


def test_the_declared_aliases_are_exactly_the_known_irregular_ones() -> None:
    assert {alias for _, name, alias in wire_names() if alias != to_camel(name)} == IRREGULAR


def test_every_field_with_an_acronym_after_its_first_word_declares_its_alias() -> None:
    forgotten = [
        (model.__name__, name)
        for model, name, alias in wire_names()
        if ACRONYMS & set(name.split("_")[1:]) and alias == to_camel(name)
    ]
    assert not forgotten


@pytest.mark.parametrize(
    ("model", "wire"),
    [
        (
            NodeSpec(provider_id="azure:///x", pod_cidr="10.0.0.0/24"),
            {"providerID": "azure:///x", "podCIDR": "10.0.0.0/24"},
        ),
        (ServiceSpec(cluster_ip="None", cluster_ips=("None",)), {"clusterIP": "None", "clusterIPs": ["None"]}),
    ],
)
def test_irregular_names_are_written_and_read(model: KubeModel, wire: dict[str, object]) -> None:
    assert model.to_dict() == wire
    assert type(model).model_validate(wire) == model


def test_quantities_are_read_as_text_also_where_the_server_has_numbers() -> None:
    node = Node.model_validate_json('{"status":{"allocatable":{"cpu":4,"nvidia.com/gpu":"1"}}}')
    assert node.status.allocatable == {"cpu": "4", "nvidia.com/gpu": "1"}


def test_a_quantity_that_came_as_a_number_is_written_as_one() -> None:
    wire = {"allocatable": {"cpu": 4, "a": -1, "b": 1.5, "c": 1e21, "nvidia.com/gpu": "1"}}
    assert json.dumps(NodeStatus.model_validate_json(json.dumps(wire)).to_dict()) == json.dumps(wire)


@pytest.mark.parametrize("value", [True, None, [], {}])
def test_what_is_no_quantity_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ValidationError, match=r"1 validation error[^$]*such as 500m or 1Gi"):
        NodeStatus.model_validate({"allocatable": {"cpu": value}})


def test_the_repr_of_a_secret_does_not_have_the_secret() -> None:
    secret = Secret(data={"password": "aHVudGVyMg=="}, string_data={"token": "hunter2"})
    assert "hunter2" not in repr(secret)
    assert "aHVudGVyMg" not in str(secret)


def test_a_secret_that_cannot_be_read_does_not_show_itself_in_the_error() -> None:
    with pytest.raises(ValidationError) as raised:
        Secret.model_validate({"data": {"password": ["s3cret"]}})
    assert "s3cret" not in str(raised.value)
