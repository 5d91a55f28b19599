"""A container's variables: their values from ConfigMaps, Secrets and the pod, and $(NAME) in texts."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

from kaito.client import Client, KubeError, NotFound
from kaito.devcluster.process_nodes.addresses import NODE_ADDRESS, local
from kaito.devcluster.process_nodes.sandbox import NotStarted
from kaito.kube.core_v1 import ConfigMap, Container, EnvVar, EnvVarSource, KeySelector, Pod, Secret
from kaito.kube.object_key import ObjectKey
from kaito.kube.quantity import Quantity

_REASON = "CreateContainerConfigError"
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['([^']+)'\]")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces ``$(NAME)`` as Kubernetes does: ``$$`` is a dollar, an unknown name and a lone dollar stay as they are.

    Source: k8s.io/kubernetes/third_party/forked/golang/expansion.
    """
    return re.sub(r"\$(?:\$|\(([^)]*)\))", lambda found: _expanded(found, variables), text)


def _expanded(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name = found[1]
    return "$" if name is None else variables.get(name, found[0])


async def variables(
    client: Client, pod: Pod, container: Container, address: str, defaults: Mapping[str, str]
) -> dict[str, str]:
    """The variables that a container declares, by name.

    Args:
        client: where ConfigMaps and Secrets are read.
        pod: the container's.
        container: which.
        address: the pod's, as the cluster knows it.
        defaults: known to ``$(NAME)`` besides; not in the result.

    Raises:
        NotStarted: one cannot be resolved; CreateContainerConfigError.
    """
    sources = _Sources(client, pod.metadata.namespace or "")
    found: dict[str, str] = {}
    for each in container.env_from:
        found |= await sources.all_of(each)
    for variable in container.env:
        value = await _value(sources, pod, container, address, variable, {**defaults, **found})
        if value is not None:
            found[variable.name] = value
    return found


async def _value(
    sources: _Sources, pod: Pod, container: Container, address: str, variable: EnvVar, known: Mapping[str, str]
) -> str | None:
    source = variable.value_from or EnvVarSource()
    if source.config_map_key_ref is not None:
        return await sources.key(ConfigMap, source.config_map_key_ref)
    if source.secret_key_ref is not None:
        return await sources.key(Secret, source.secret_key_ref)
    try:
        if source.field_ref is not None:
            return pod_field(pod, source.field_ref.field_path, address)
        if source.resource_field_ref is not None:
            return resource_field(pod, source.resource_field_ref, container)
    except ValueError as error:
        raise NotStarted(_REASON, f"variable {variable.name}: {error}") from None
    return expand(variable.value or "", known)


class _Sources:
    """The ConfigMaps and Secrets of a namespace, each read once."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._read: dict[tuple[type[ConfigMap] | type[Secret], str], Mapping[str, bytes] | None] = {}

    async def key(self, kind: type[ConfigMap] | type[Secret], selector: KeySelector) -> str | None:
        data = await self._data(kind, selector.name)
        if data is None and not selector.optional:
            raise NotStarted(_REASON, f'{kind.__name__.lower()} "{selector.name}" not found')
        if data is not None and selector.key in data:
            return data[selector.key].decode(errors="surrogateescape")
        if selector.optional:
            return None
        where = f"{kind.__name__} {self._namespace}/{selector.name}"
        raise NotStarted(_REASON, f"couldn't find key {selector.key} in {where}")

    async def all_of(self, source: Mapping[str, Any]) -> dict[str, str]:
        prefix = source.get("prefix") or ""
        kind, reference = (
            (ConfigMap, source["configMapRef"]) if "configMapRef" in source else (Secret, source.get("secretRef") or {})
        )
        name = reference.get("name", "")
        data = await self._data(kind, name)
        if data is None:
            if reference.get("optional"):
                return {}
            raise NotStarted(_REASON, f'{kind.__name__.lower()} "{name}" not found')
        return {prefix + key: value.decode(errors="surrogateescape") for key, value in data.items() if "=" not in key}

    async def _data(self, kind: type[ConfigMap] | type[Secret], name: str) -> Mapping[str, bytes] | None:
        if (kind, name) not in self._read:
            try:
                self._read[kind, name] = await data_of(self._client, kind, ObjectKey(name, self._namespace))
            except KubeError as error:
                raise NotStarted(_REASON, f'{kind.__name__.lower()} "{name}" cannot be read: {error}') from error
        return self._read[kind, name]


async def data_of(client: Client, kind: type[ConfigMap] | type[Secret], key: ObjectKey) -> dict[str, bytes] | None:
    """All keys of a ConfigMap or Secret; None if there is none.

    Raises:
        KubeError: it cannot be read.
    """
    try:
        found = await client.get(kind, key)
    except NotFound:
        return None
    return decoded(found)


def decoded(source: ConfigMap | Secret) -> dict[str, bytes]:
    """All keys of a ConfigMap or Secret."""
    if isinstance(source, Secret):
        return {key: b64decode(value) for key, value in source.data.items()}
    binary = {key: b64decode(value) for key, value in source.binary_data.items()}
    return {key: value.encode() for key, value in source.data.items()} | binary


def pod_field(pod: Pod, path: str, address: str) -> str:
    """A field of a pod, as the downward API shows it.

    Addresses are those by which the processes of this machine reach each other, and on which a pod can listen: there
    is no route to what the cluster calls it.

    Raises:
        ValueError: the downward API has no such field.
    """
    metadata = pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return (metadata.labels if subscript[1].endswith("labels") else metadata.annotations).get(subscript[2], "")
    fields = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace or "",
        "metadata.uid": metadata.uid,
        "metadata.labels": _lines(metadata.labels),
        "metadata.annotations": _lines(metadata.annotations),
        "spec.nodeName": pod.spec.node_name or "",
        "spec.serviceAccountName": pod.spec.service_account_name or "default",
        "status.podIP": local(address),
        "status.podIPs": local(address),
        "status.hostIP": local(NODE_ADDRESS),
        "status.hostIPs": local(NODE_ADDRESS),
    }
    if path not in fields:
        raise ValueError(f"fieldPath {path!r} is not supported; there are {', '.join(fields)}, metadata.labels['KEY']")
    return fields[path]


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(values.items()))


def resource_field(pod: Pod, selector: Mapping[str, Any], container: Container | None = None) -> str:
    """What a container asks for or may use, as the downward API shows it: in units of the divisor, rounded up.

    A limit that is not set is all that the machine has.

    Raises:
        ValueError: there is no such container or no such figure.
    """
    name = selector.get("containerName")
    if name:
        everything = (*pod.spec.containers, *pod.spec.init_containers)
        container = next((each for each in everything if each.name == name), None)
    if container is None:
        raise ValueError(f"resourceFieldRef names the container {name!r}, which the pod does not have")
    which, _, resource = str(selector.get("resource", "")).partition(".")
    if which not in ("limits", "requests") or not resource:
        raise ValueError(f"resource {selector.get('resource')!r}: expected limits.NAME or requests.NAME")
    amounts = container.resources.limits if which == "limits" else container.resources.requests
    amount = Quantity.parse(amounts.get(resource, _machine(resource) if which == "limits" else "0"))
    divisor = Quantity.parse(selector.get("divisor") or "1").value or Fraction(1)
    return str(ceil(amount.value / divisor))


def _machine(resource: str) -> str:
    if resource == "cpu":
        return str(os.cpu_count() or 1)
    return str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if resource == "memory" else "0"


def cpu_limit(container: Container) -> str:
    """A container's limit in whole CPUs, rounded down but at least 1; empty if it has none."""
    limit = container.resources.limits.get("cpu")
    return str(max(1, Quantity.parse(limit).milli() // 1000)) if limit is not None else ""
