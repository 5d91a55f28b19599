"""Asked: what the JSON of a Workspace asks for, as far as it can be read.

No schema has seen it yet: what is of another type than it should be counts as absent here, and is told by
`kaito.kube.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Json = Mapping[str, object]
Purpose = Literal["inference", "tuning"]

_GENERATED = "xxxxx"
"""Stands for the letters that the API server puts behind a generateName; it keeps 58 characters of that."""


@dataclass(frozen=True, slots=True)
class AskedPreset:
    """A model by its name.

    Attributes:
        path: where it is asked for, such as ``inference.preset``.
        name: of the model.
        secret: name of the Secret with the token.
        deprecated: paths of what is given and has no effect any more.
    """

    path: str
    name: str
    secret: str = ""
    deprecated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskedConfig:
    """A ConfigMap by its name.

    Attributes:
        path: where it is asked for, such as ``inference.config``.
        key: of its data, such as ``inference_config.yaml``.
        name: of the ConfigMap.
    """

    path: str
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a Workspace asks for.

    Attributes:
        name: of the Workspace; of the length that it will have, if the API server is to make it up.
        namespace: empty if it is not told.
        annotations: those that are text.
        count: nodes, 1 if it is not told.
        instance_type: empty if it is not told.
        labels: keys of matchLabels.
        expressions: the selector has matchExpressions.
        partition: a share of each node's GPUs.
        presets: models by name.
        configs: ConfigMaps by name.
        adapters: how many.
        template: a pod template.
        tuning: there is something to tune.
        method: of tuning, in lower case.
        preferred_nodes: there are names of nodes.
    """

    name: str = ""
    namespace: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    instance_type: str = ""
    labels: tuple[str, ...] = ()
    expressions: bool = False
    partition: Json | None = None
    presets: tuple[AskedPreset, ...] = ()
    configs: tuple[AskedConfig, ...] = ()
    adapters: int = 0
    template: Json | None = None
    tuning: bool = False
    method: str = ""
    preferred_nodes: bool = False

    def config(self, path: str) -> AskedConfig:
        """The ConfigMap that is named at a path.

        Raises:
            LookupError: none is.
        """
        for config in self.configs:
            if config.path == path:
                return config
        raise LookupError(f"no ConfigMap is named at {path}")


def read(workspace: Json, namespace: str = "") -> Asked:
    """Returns what a Workspace asks for. Never raises, whatever it is.

    Args:
        workspace: as JSON.
        namespace: where it is, if it does not say so itself.
    """
    metadata, resource = _part(workspace, "metadata"), _part(workspace, "resource")
    inference, tuning = _part(workspace, "inference"), _part(workspace, "tuning")
    count = resource.get("count")
    return Asked(
        name=_name(metadata),
        namespace=_text(metadata, "namespace") or namespace,
        annotations=_texts(_part(metadata, "annotations")),
        count=count if type(count) is int and count > 0 else 1,
        instance_type=_text(resource, "instanceType"),
        labels=tuple(_part(_part(resource, "labelSelector"), "matchLabels")),
        expressions=bool(items(_part(resource, "labelSelector"), "matchExpressions")),
        partition=_part(resource, "partition") or None,
        presets=(*_preset(inference, "inference"), *_preset(tuning, "tuning")),
        configs=(*_config(inference, "inference"), *_config(tuning, "tuning")),
        adapters=len(items(inference, "adapters")),
        template=_part(inference, "template") if isinstance(inference.get("template"), Mapping) else None,
        tuning=bool(tuning),
        method=_text(tuning, "method").lower(),
        preferred_nodes=bool(items(resource, "preferredNodes")),
    )


def items(node: Json, name: str) -> Sequence[object]:
    """Returns a list that is a field of an object; empty if it is none."""
    value = node.get(name)
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _part(node: Json, name: str) -> Json:
    value = node.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(node: Json, name: str) -> str:
    value = node.get(name)
    return value if isinstance(value, str) else ""


def _texts(node: Json) -> Mapping[str, str]:
    return {name: value for name, value in node.items() if isinstance(value, str)}


def _name(metadata: Json) -> str:
    name, prefix = _text(metadata, "name"), _text(metadata, "generateName")
    return name or (f"{prefix[:58]}{_GENERATED}" if prefix else "")


def _preset(node: Json, purpose: Purpose) -> tuple[AskedPreset, ...]:
    preset = _part(node, "preset")
    name = _text(preset, "name")
    options, path = _part(preset, "presetOptions"), f"{purpose}.preset"
    # Public is the schema's default: nobody can tell whether it was given.
    given = {
        "accessMode": _text(preset, "accessMode") == "private",
        "presetOptions.image": bool(_text(options, "image")),
        "presetOptions.imagePullSecrets": bool(items(options, "imagePullSecrets")),
    }
    deprecated = tuple(f"{path}.{field}" for field, is_given in given.items() if is_given)
    return (AskedPreset(path, name, _text(options, "modelAccessSecret"), deprecated),) if name else ()


def _config(node: Json, purpose: Purpose) -> tuple[AskedConfig, ...]:
    name, key = _text(node, "config"), {"inference": "inference_config.yaml", "tuning": "training_config.yaml"}[purpose]
    return (AskedConfig(f"{purpose}.config", key, name),) if name else ()
