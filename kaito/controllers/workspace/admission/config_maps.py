"""ConfigMaps that a Workspace names: read live, in little time; what cannot be read is no reason to refuse."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from kaito.catalog import did_you_mean
from kaito.catalog.yaml_text import YamlFault, YamlTooLarge, parse_yaml
from kaito.client.client import Client
from kaito.client.errors import KubeError, NotFound
from kaito.controllers.workspace.admission.asked import Asked, AskedConfig, Json
from kaito.controllers.workspace.admission.findings import Finding, Warned, shown
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime.webhook import invalid, not_found

READ_S = 1.0
"""How long reading may take, all ConfigMaps of a Workspace together."""
LONGEST_TEXT = 128 * 1024
"""Characters of a configuration that are looked at; a ConfigMap holds 1 MiB."""
MOST_VALUES = 10_000
"""Values that a configuration may have; parsing takes about 10 microseconds each, in a thread."""

_KEPT_S = 5.0
_MOST_KEPT = 256
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class ConfigRead:
    """What came of reading one ConfigMap.

    Attributes:
        document: what its YAML says; None: that is not known.
        findings: why not.
    """

    document: Json | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigReads:
    """What came of reading all ConfigMaps that a Workspace names.

    Attributes:
        documents: by the path that names it, such as ``inference.config``.
        findings: what is wrong with others, or why it is not known.
    """

    documents: Mapping[str, Json] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class ConfigMaps:
    """Reads named ConfigMaps.

    Args:
        reader: live.
    """

    def __init__(self, reader: Client) -> None:
        self._reader = reader
        self._kept: dict[tuple[str, AskedConfig], tuple[float, ConfigRead]] = {}

    async def read(self, asked: Asked, *, keep: bool) -> ConfigReads:
        """Returns what the ConfigMaps that a Workspace names say; raises nothing but a cancellation.

        Args:
            asked: the Workspace.
            keep: keeps what was read for the call that follows with ``keep=False``, which then reads nothing: both
                phases of a request get one and the same answer. It is given out once, and for some seconds only.
        """
        reads = await asyncio.gather(*(self._one(asked.namespace, config, keep=keep) for config in asked.configs))
        documents = {
            config.path: read.document
            for config, read in zip(asked.configs, reads, strict=True)
            if read.document is not None
        }
        return ConfigReads(documents, tuple(finding for read in reads for finding in read.findings))

    async def _one(self, namespace: str, config: AskedConfig, *, keep: bool) -> ConfigRead:
        now = asyncio.get_running_loop().time()
        when, kept = self._kept.pop((namespace, config), (0.0, None))
        if not keep and kept is not None and now - when < _KEPT_S:
            return kept
        read = await self._read(namespace, config)
        if keep:
            self._kept[namespace, config] = (now, read)
            if len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return read

    async def _read(self, namespace: str, config: AskedConfig) -> ConfigRead:
        # What no ConfigMap can be called must not become part of a URL; the CRD's rules refuse it.
        if not _NAME.fullmatch(config.name) or not _NAME.fullmatch(namespace):
            return ConfigRead()
        try:
            async with asyncio.timeout(READ_S):
                found = await self._reader.get(ConfigMap, ObjectKey(config.name, namespace))
                return await asyncio.to_thread(_parsed, config, found)
        except NotFound:
            why = f"create the ConfigMap first, in namespace {namespace}, with the key {config.key}"
            return ConfigRead(findings=(not_found(config.path, config.name, why),))
        except TimeoutError:
            return _unchecked(config, f"was not read within {READ_S:g} s")
        except (KubeError, ValidationError) as error:
            return _unchecked(config, f"could not be read ({' '.join(str(error).split())[:100]})")


def _parsed(config: AskedConfig, found: ConfigMap) -> ConfigRead:
    text = found.data.get(config.key)
    if text is None:
        return ConfigRead(findings=(invalid(config.path, config.name, _no_key(config, found)),))
    if len(text) > LONGEST_TEXT:
        return _unchecked(config, f"has {len(text)} characters under {config.key}, more than {LONGEST_TEXT}")
    try:
        document = parse_yaml(text, limit=MOST_VALUES)
    except YamlTooLarge as error:
        return _unchecked(config, f"has {error} under {config.key}")
    except YamlFault as error:
        return ConfigRead(findings=(invalid(config.path, config.name, f"{config.key} is not YAML: {error}"),))
    if document is not None and not isinstance(document, dict):
        return ConfigRead(findings=(invalid(config.path, config.name, f"{config.key} must be a mapping"),))
    return ConfigRead(document or {})


def _no_key(config: AskedConfig, found: ConfigMap) -> str:
    if config.key in found.binary_data:
        return f"the ConfigMap has the key {config.key} under binaryData: put the text under data"
    has = ", ".join(sorted(found.data)[:5]) or "none"
    near = did_you_mean(config.key, found.data)
    rename = f"; rename {shown(near)} to {config.key}" if near else ""
    return f"the ConfigMap has not the key {config.key}; it has {has[:200]}{rename}"


def _unchecked(config: AskedConfig, why: str) -> ConfigRead:
    return ConfigRead(findings=(Warned(config.path, f"ConfigMap {shown(config.name)} {why}: it was not checked"),))
