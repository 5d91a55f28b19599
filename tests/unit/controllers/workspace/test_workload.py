"""Workload builders: the parts of Service, Deployment and StatefulSet that others rely on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import CurrentCatalog
from kaito.controllers.workspace.plan import Planner
from kaito.controllers.workspace.workload import WorkloadOptions, headless_service, service, workload
from kaito.inference.options import Limits
from kaito.inference.vllm import VllmOptions

Make = Callable[..., Workspace]
ADAPTERS: dict[str, Any] = {
    "preset": {"name": "phi-3-mini-4k-instruct", "presetOptions": {"modelAccessSecret": "hf"}},
    "adapters": [
        {
            "source": {"name": "one", "image": "r.example.com/one:1", "imagePullSecrets": ["s2", "s1"]},
            "strength": "0.5",
        },
        {"source": {"name": "two", "volumeSource": {"persistentVolumeClaim": {"claimName": "pvc"}}}},
    ],
}


def built(workspace: Workspace) -> dict[str, Any]:
    plan = Planner(CurrentCatalog()).plan(workspace)
    result: dict[str, Any] = workload(workspace, plan, WorkloadOptions(image="image:1")).to_dict()
    return result


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def test_one_node_runs_a_deployment_that_is_recreated(workspace: Make) -> None:
    made = built(workspace())
    assert made["kind"] == "Deployment"
    assert made["metadata"] == {"name": "phi", "namespace": "default", "labels": {"kaito.sh/workspace": "phi"}}
    assert made["spec"]["strategy"] == {"type": "Recreate"}
    assert made["spec"]["replicas"] == 1
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"] == {"matchLabels": labels} == {"matchLabels": {"kaito.sh/workspace": "phi"}}


def test_several_nodes_run_a_stateful_set_whose_pods_start_and_change_together(workspace: Make) -> None:
    made = built(workspace("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4"))
    spec = made["spec"]
    assert made["kind"] == "StatefulSet"
    assert spec["replicas"] > 1
    assert spec["serviceName"] == "phi-headless"
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "OnDelete"}


def test_the_container_asks_for_all_gpus_of_a_node(workspace: Make) -> None:
    (container,) = pod_of(built(workspace(instance_type="Standard_NC12s_v3")))["containers"]
    assert container["resources"] == {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}}
    assert container["image"] == "image:1"
    assert container["command"] == ["python", "-m", "kaito.inference"]
    assert [port["containerPort"] for port in container["ports"]] == [5000, 29500]


def test_a_server_has_the_time_that_its_model_takes_to_load_and_is_asked_often_meanwhile(workspace: Make) -> None:
    (container,) = pod_of(built(workspace()))["containers"]
    startup = container["startupProbe"]
    allowed_s = startup["initialDelaySeconds"] + startup["periodSeconds"] * startup["failureThreshold"]
    timeout_s = CurrentCatalog().catalog.model("phi-3-mini-4k-instruct").readiness_timeout_s
    assert timeout_s <= allowed_s <= timeout_s + 4
    assert startup["periodSeconds"] < container["livenessProbe"]["periodSeconds"]


def test_the_pod_tolerates_what_keeps_others_off_gpu_nodes(workspace: Make) -> None:
    assert pod_of(built(workspace()))["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
    ]


@pytest.mark.parametrize("instance_type", ["Standard_NC6s_v3", ""])
def test_the_pod_keeps_to_nodes_with_the_labels_and_to_those_made_for_it(workspace: Make, instance_type: str) -> None:
    required = pod_of(built(workspace(instance_type=instance_type)))["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    (term,) = required["nodeSelectorTerms"]
    wanted = {each["key"]: each["values"] for each in term["matchExpressions"]}
    own = {"kaito.sh/workspace": ["phi"], "kaito.sh/workspacenamespace": ["default"]} if instance_type else {}
    assert wanted == {"apps": ["phi-3"], **own}


def test_an_adapter_image_is_pulled_before_and_a_volume_is_mounted(workspace: Make) -> None:
    pod = pod_of(built(workspace(inference=ADAPTERS)))
    (container,) = pod["containers"]
    assert [init["name"] for init in pod["initContainers"]] == ["puller-one"]
    assert pod["initContainers"][0]["command"][-2:] == ["r.example.com/one:1", "/mnt/adapter/one"]
    assert pod["imagePullSecrets"] == [{"name": "s1"}, {"name": "s2"}]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts["/mnt/adapter/one"] == "adapters"
    assert mounts["/mnt/adapter/two"] == "adapter-two"
    secrets = {"pull-secret-s1", "pull-secret-s2"}
    assert {volume["name"] for volume in pod["volumes"]} == {"dshm", "adapters", "adapter-two", *secrets}
    assert not secrets & set(mounts.values())  # the server has no business with them


def test_the_puller_reads_the_pull_secrets_as_docker_reads_its_configuration(workspace: Make) -> None:
    pod = pod_of(built(workspace(inference=ADAPTERS)))
    [puller] = pod["initContainers"]
    folder = puller["command"][puller["command"].index("--auth-dir") + 1]
    [secret] = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "pull-secret-s1"]
    assert secret == {
        "secretName": "s1",
        "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
        "optional": True,
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in puller["volumeMounts"]}
    assert (mounts["pull-secret-s1"], mounts["pull-secret-s2"]) == (f"{folder}/s1", f"{folder}/s2")


def test_an_adapter_that_everybody_may_pull_needs_no_credentials(workspace: Make) -> None:
    adapter = {"source": {"name": "one", "image": "r.example.com/one:1"}}
    pod = pod_of(built(workspace(inference={"preset": {"name": "phi-3-mini-4k-instruct"}, "adapters": [adapter]})))
    assert "--auth-dir" not in pod["initContainers"][0]["command"]
    assert "imagePullSecrets" not in pod


def test_every_container_leaves_its_last_words_for_the_condition(workspace: Make) -> None:
    pod = pod_of(built(workspace(inference=ADAPTERS)))
    policies = {each["terminationMessagePolicy"] for each in (*pod["containers"], *pod["initContainers"])}
    assert policies == {"FallbackToLogsOnError"}


def test_the_inference_config_is_mounted_and_read(workspace: Make) -> None:
    pod = pod_of(built(workspace(inference={"preset": {"name": "phi-3-mini-4k-instruct"}, "config": "mine"})))
    (container,) = pod["containers"]
    file = container["args"][container["args"].index("--vllm-config") + 1]
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "config"]
    assert file == f"{mount['mountPath']}/inference_config.yaml"
    assert {"name": "config", "configMap": {"name": "mine"}} in pod["volumes"]


def test_parts_of_a_pod_have_names_of_their_own_whatever_their_adapters_are_called(workspace: Make) -> None:
    names = ["a.b", "a-b", "x" * 63, f"{'x' * 62}y", f"{'z' * 54}-end", "a" * 55]
    volume: dict[str, Any] = {"emptyDir": {}}
    adapters = [
        {"source": {"name": f"{name}"[:63]} | ({"image": "r.example.com/a:1"} if pulled else {"volumeSource": volume})}
        for name in names
        for pulled in (True, False)
    ]
    pod = pod_of(built(workspace(inference={"preset": {"name": "phi-3-mini-4k-instruct"}, "adapters": adapters})))
    made = [part["name"] for kind in ("initContainers", "volumes") for part in pod[kind]]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in made)
    assert "adapter-a-b" in made
    assert "adapter-" + "a" * 55 in made


def test_the_environment_carries_strengths_and_the_models_secret(workspace: Make) -> None:
    (container,) = pod_of(built(workspace(inference=ADAPTERS)))["containers"]
    environment = {each["name"]: each for each in container["env"]}
    assert json.loads(environment["KAITO_ADAPTERS"]["value"]) == {"one": 0.5, "two": 1.0}
    assert environment["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "HF_TOKEN"}}


def test_lists_that_others_might_add_to_are_ours_even_without_adapters(workspace: Make) -> None:
    pod = pod_of(built(workspace()))
    (container,) = pod["containers"]
    for name in ("env", "volumeMounts", "ports", "args"):
        assert container[name], name
    for name in ("volumes", "tolerations"):
        assert pod[name], name


def test_a_pod_has_the_time_that_its_server_takes_to_end(workspace: Make) -> None:
    # The default of 30 s would be over as the last token comes.
    server_s = Limits().drain_s + VllmOptions().stop_s
    assert pod_of(built(workspace()))["terminationGracePeriodSeconds"] >= server_s + 10


def test_the_service_leads_http_and_torch_to_the_pods(workspace: Make) -> None:
    spec = service(workspace()).to_dict()["spec"]
    assert [(port["name"], port["port"], port["targetPort"]) for port in spec["ports"]] == [
        ("http", 80, 5000),
        ("torch", 29500, 29500),
    ]
    assert spec["selector"] == {"kaito.sh/workspace": "phi"}
    assert spec["type"] == "ClusterIP"


def test_the_annotation_asks_for_a_load_balancer(workspace: Make) -> None:
    assert service(workspace(annotations={"kaito.sh/enablelb": "True"})).spec.type == "LoadBalancer"


def test_pods_of_one_model_find_each_other_before_they_are_ready(workspace: Make) -> None:
    made = headless_service(workspace()).to_dict()
    assert made["metadata"]["name"] == "phi-headless"
    assert made["spec"]["clusterIP"] == "None"
    assert made["spec"]["publishNotReadyAddresses"] is True


def test_the_same_workspace_makes_the_same_bytes(workspace: Make) -> None:
    assert json.dumps(built(workspace(inference=ADAPTERS))) == json.dumps(built(workspace(inference=ADAPTERS)))
