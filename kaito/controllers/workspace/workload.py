"""Workload: the Service and the Deployment (one node) or StatefulSet (many) that serve a preset; pure builders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import AdapterSpec
from kaito.controllers.workspace.plan import Plan, own_selector
from kaito.kube.apps_v1 import Deployment, StatefulSet
from kaito.kube.core_v1 import Service

HTTP_PORT = 5000
TORCH_PORT = 29500
"""torch's rendezvous port, on which the pods of one model find each other."""
PROBE_PERIOD_S = 10
STARTUP_PERIOD_S = 2
"""By so much a server may be ready before it is sent requests; then it is asked every `PROBE_PERIOD_S`."""
TERMINATION_GRACE_S = 60
"""From SIGTERM to SIGKILL: the server drains for 30 s, sends what is left for 5 s, and ends vLLM within 10 s more."""
ADAPTERS_DIR = "/mnt/adapter"
PULL_SECRETS_DIR = "/mnt/pull-secrets"
CONFIG_DIR = "/mnt/config"
CONFIG_FILE = "inference_config.yaml"
"""Key of the ConfigMap that ``inference.config`` names."""
_MAX_PART = 63
WORKSPACE_SELECTOR = (keys.WORKSPACE_LABEL,)
"""Labels by which a workload's pods are found, and watched."""
DEFAULT_IMAGE = "ghcr.io/kaito-project/kaito-python/inference:0.1.0"


@dataclass(frozen=True, slots=True)
class WorkloadOptions:
    """What all workloads have in common.

    Attributes:
        image: the inference image.
        hub_endpoint: URL of the hub that weights come from; empty: the public one.
    """

    image: str = DEFAULT_IMAGE
    hub_endpoint: str = ""


def selector_labels(workspace: Workspace) -> dict[str, str]:
    """Labels by which the workload and the Service find the pods."""
    return {keys.WORKSPACE_LABEL: workspace.metadata.name}


def service(workspace: Workspace) -> Service:
    """The Service that answers POST /chat on port 80."""
    balanced = workspace.metadata.annotations.get(keys.ENABLE_LOAD_BALANCER_ANNOTATION) == "True"
    return Service.model_validate(
        {
            "metadata": _metadata(workspace),
            "spec": {
                "type": "LoadBalancer" if balanced else "ClusterIP",
                "selector": selector_labels(workspace),
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": 80, "targetPort": HTTP_PORT},
                    {"name": "torch", "protocol": "TCP", "port": TORCH_PORT, "targetPort": TORCH_PORT},
                ],
            },
        }
    )


def headless_service(workspace: Workspace) -> Service:
    """The Service by which the pods of one model on many nodes find each other, before they are ready."""
    return Service.model_validate(
        {
            "metadata": {**_metadata(workspace), "name": f"{workspace.metadata.name}-headless"},
            "spec": {
                "clusterIP": "None",
                "selector": selector_labels(workspace),
                "ports": [{"name": "torch", "protocol": "TCP", "port": TORCH_PORT, "targetPort": TORCH_PORT}],
                "publishNotReadyAddresses": True,
            },
        }
    )


def workload(workspace: Workspace, plan: Plan, options: WorkloadOptions) -> Deployment | StatefulSet:
    """The Deployment for a plan of one node, the StatefulSet for one of many."""
    pod = {
        "metadata": {"labels": selector_labels(workspace)},
        "spec": _pod(workspace, plan, options),
    }
    spec = {"replicas": plan.nodes, "selector": {"matchLabels": selector_labels(workspace)}, "template": pod}
    if plan.nodes == 1:
        # A surge pod would wait for ever: the one node's GPUs are taken by the pod that it is to replace.
        return Deployment.model_validate(
            {"metadata": _metadata(workspace), "spec": {**spec, "strategy": {"type": "Recreate"}}}
        )
    return StatefulSet.model_validate(
        {
            "metadata": _metadata(workspace),
            "spec": {
                **spec,
                "serviceName": f"{workspace.metadata.name}-headless",
                "podManagementPolicy": "Parallel",
                # All pods of one model change together, which only their deletion does.
                "updateStrategy": {"type": "OnDelete"},
            },
        }
    )


def _metadata(workspace: Workspace) -> dict[str, Any]:
    return {
        "name": workspace.metadata.name,
        "namespace": workspace.metadata.namespace,
        "labels": selector_labels(workspace),
    }


def _pod(workspace: Workspace, plan: Plan, options: WorkloadOptions) -> dict[str, Any]:
    adapters = workspace.inference.adapters if workspace.inference is not None else ()
    config = workspace.inference.config if workspace.inference is not None else None
    pod: dict[str, Any] = {
        "containers": [_container(workspace, plan, options, adapters)],
        "affinity": _affinity(workspace, plan),
        "tolerations": [
            {"key": keys.GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"},
            {"key": keys.SKU_TAINT, "operator": "Equal", "value": keys.SKU_TAINT_GPU, "effect": "NoSchedule"},
        ],
        "volumes": _volumes(adapters, config),
        "terminationGracePeriodSeconds": TERMINATION_GRACE_S,
    }
    images = [adapter for adapter in adapters if adapter.source.image]
    # An empty list says that there shall be none; without it, somebody else's would be none of our business.
    pod["initContainers"] = [_puller(adapter, options) for adapter in images]
    if secrets := _pull_secrets(adapters):
        pod["imagePullSecrets"] = [{"name": name} for name in secrets]
    return pod


def _pull_secrets(adapters: tuple[AdapterSpec, ...]) -> list[str]:
    return sorted({name for each in adapters if each.source.image for name in each.source.image_pull_secrets})


def _container(
    workspace: Workspace, plan: Plan, options: WorkloadOptions, adapters: tuple[AdapterSpec, ...]
) -> dict[str, Any]:
    asked = {"httpGet": {"path": "/health", "port": HTTP_PORT}}
    probe = {**asked, "periodSeconds": PROBE_PERIOD_S}
    config = workspace.inference.config if workspace.inference is not None else None
    container: dict[str, Any] = {
        "name": "inference",
        "image": options.image,
        "command": ["python", "-m", "kaito.inference"],
        "args": [
            *("--model", plan.preset.huggingface_id),
            *("--port", str(HTTP_PORT)),
            *("--runtime", plan.runtime),
            *(("--adapters", ADAPTERS_DIR) if adapters else ()),
            *(("--vllm-config", f"{CONFIG_DIR}/{CONFIG_FILE}") if config else ()),
        ],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "torch", "containerPort": TORCH_PORT, "protocol": "TCP"},
        ],
        "resources": {
            "requests": {keys.GPU_RESOURCE: str(plan.gpus_per_node)},
            "limits": {keys.GPU_RESOURCE: str(plan.gpus_per_node)},
        },
        # Loading weights takes its time; only after the startup probe's do the others count.
        "startupProbe": {
            **asked,
            # Nothing listens before: each refusal is a warning for people.
            "initialDelaySeconds": STARTUP_PERIOD_S,
            "periodSeconds": STARTUP_PERIOD_S,
            "failureThreshold": ceil(plan.preset.readiness_timeout_s / STARTUP_PERIOD_S),
        },
        "livenessProbe": {**probe, "failureThreshold": 3},
        "readinessProbe": probe,
        "volumeMounts": _mounts(adapters, config),
        # The server's last words become the reason in the Workspace's condition.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    container["env"] = _environment(workspace, options, adapters)
    return container


def _environment(
    workspace: Workspace, options: WorkloadOptions, adapters: tuple[AdapterSpec, ...]
) -> list[dict[str, Any]]:
    # Always there, so that the list is ours, and what others add to it is drift.
    strengths = {adapter.source.name: float(adapter.strength or "1.0") for adapter in adapters}
    environment: list[dict[str, Any]] = [{"name": "KAITO_ADAPTERS", "value": json.dumps(strengths)}]
    if options.hub_endpoint:
        # What a model weighs was told by this one.
        environment.append({"name": "HF_ENDPOINT", "value": options.hub_endpoint})
    preset = workspace.inference.preset if workspace.inference is not None else None
    asked = preset.preset_options if preset is not None else None
    if asked is not None and asked.model_access_secret:
        secret = {"name": asked.model_access_secret, "key": "HF_TOKEN"}
        environment.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}})
    return environment


def _affinity(workspace: Workspace, plan: Plan) -> Mapping[str, Any]:
    wanted = dict(plan.node_labels)
    if plan.makes_nodes:
        # Of several Workspaces with one label each keeps to the nodes that were made, and sized, for it.
        wanted |= {
            keys.WORKSPACE_LABEL: workspace.metadata.name,
            keys.WORKSPACE_NAMESPACE_LABEL: workspace.metadata.namespace or "",
        }
    terms = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(wanted.items())]
    terms += [expression.to_dict() for expression in own_selector(workspace).match_expressions]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        }
    }


def _volumes(adapters: tuple[AdapterSpec, ...], config: str | None) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "dshm", "emptyDir": {"medium": "Memory"}}]
    if any(adapter.source.image for adapter in adapters):
        volumes.append({"name": "adapters", "emptyDir": {}})
    for adapter in adapters:
        if adapter.source.volume_source is not None:
            volumes.append({"name": _part_name("adapter", adapter.source.name), **adapter.source.volume_source})
    # Optional: what is missing in it is said by the puller, in the registry's words, instead of a pod that waits.
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    for name in _pull_secrets(adapters):
        secret = {"secretName": name, "items": items, "optional": True}
        volumes.append({"name": _part_name("pull-secret", name), "secret": secret})
    if config:
        volumes.append({"name": "config", "configMap": {"name": config}})
    return volumes


def _mounts(adapters: tuple[AdapterSpec, ...], config: str | None) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "dshm", "mountPath": "/dev/shm"}]
    for adapter in adapters:
        path = f"{ADAPTERS_DIR}/{adapter.source.name}"
        if adapter.source.image:
            mounts.append({"name": "adapters", "mountPath": path, "subPath": adapter.source.name})
        else:
            mounts.append({"name": _part_name("adapter", adapter.source.name), "mountPath": path, "readOnly": True})
    if config:
        mounts.append({"name": "config", "mountPath": CONFIG_DIR, "readOnly": True})
    return mounts


def _puller(adapter: AdapterSpec, options: WorkloadOptions) -> dict[str, Any]:
    path = f"{ADAPTERS_DIR}/{adapter.source.name}"
    secrets = sorted(set(adapter.source.image_pull_secrets))
    return {
        "name": _part_name("puller", adapter.source.name),
        "image": options.image,
        "command": [
            *("python", "-m", "kaito.inference.pull"),
            *(("--auth-dir", PULL_SECRETS_DIR) if secrets else ()),
            *(adapter.source.image, path),
        ],
        "volumeMounts": [
            {"name": "adapters", "mountPath": path, "subPath": adapter.source.name},
            *(
                {"name": _part_name("pull-secret", name), "mountPath": f"{PULL_SECRETS_DIR}/{name}", "readOnly": True}
                for name in secrets
            ),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _part_name(prefix: str, adapter: str) -> str:
    """Names a part of a pod after an adapter, whose own name may be longer, and may have dots in it."""
    name = f"{prefix}-{adapter}"
    if "." not in name and len(name) <= _MAX_PART:
        return name
    digest = hashlib.sha256(adapter.encode()).hexdigest()[:8]
    return f"{name.replace('.', '-')[: _MAX_PART - len(digest) - 1]}-{digest}"
