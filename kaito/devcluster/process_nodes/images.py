"""ImageTable: which command of this machine stands for a container image."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from kaito.api.images import REFERENCE
from kaito.devcluster.errors import DevClusterError
from kaito.devcluster.process_nodes.sandbox import NotStarted

INFERENCE: Final = "ghcr.io/kaito-project/kaito-python/inference:*"
"""The inference images of all releases."""


class ImageTableError(DevClusterError):
    """A table of images cannot be read; says which field, what was given and what is allowed."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """What stands for images on this machine.

    Attributes:
        pattern: image references that it stands for, as a shell pattern: ``ghcr.io/kaito-project/*/inference:*``.
        entrypoint: what a container without a command runs.
        programs: executables by the word that a command starts with: ``{"python": "/…/bin/python"}``; a word that is
            not in it is looked up in PATH.
        env: variables beneath the container's own; ``$(LOCAL_IP)`` is the loopback address that the pod has to itself,
            ``$(POD_IP)`` the cluster's name for it, ``$(CPU_LIMIT)`` the container's limit in whole CPUs, rounded
            down but at least 1; empty if it has none.
        arguments: whole arguments that are replaced, such as a model's id by the folder that it lies in here.
    """

    pattern: str
    entrypoint: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)


def built_in() -> LocalImage:
    """What stands for the inference image: this very package, listening on the pod's own address only."""
    env = {"KAITO_INFERENCE_HOST": "$(LOCAL_IP)", "KAITO_INFERENCE_THREADS": "$(CPU_LIMIT)"}
    if "PYTHONPATH" in os.environ:
        # Found as the agent found it, or the pod would run another kaito than the one that runs the cluster.
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return LocalImage(INFERENCE, programs={"python": sys.executable, "python3": sys.executable}, env=env)


class ImageTable:
    """Which command of this machine stands for which image.

    Args:
        images: the entries; the first whose pattern fits wins.
    """

    def __init__(self, images: Sequence[LocalImage]) -> None:
        self.images = tuple(images)

    @classmethod
    def default(cls) -> ImageTable:
        """The table that has only the inference image."""
        return cls((built_in(),))

    @classmethod
    def load(cls, path: Path) -> ImageTable:
        """Reads a table, in YAML or JSON: ``images``, a list of entries with the fields of `LocalImage`.

        The inference image's own entry comes after those of the file, unless the file has one with its very pattern.

        Raises:
            ImageTableError: it is none.
        """
        try:
            document = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ImageTableError(f"{path}: cannot be read as YAML or JSON: {error}") from error
        try:
            images = _images(document)
        except ValueError as error:
            raise ImageTableError(f"{path}: {error}") from None
        known = any(image.pattern == INFERENCE for image in images)
        return cls(images if known else (*images, built_in()))

    def dump(self, path: Path) -> None:
        """Writes a file that `load` reads."""
        entries = [{each.name: _plain(getattr(image, each.name)) for each in fields(image)} for image in self.images]
        kept = [{name: value for name, value in entry.items() if value} for entry in entries]
        path.write_text(yaml.safe_dump({"images": kept}, sort_keys=False, allow_unicode=True))

    def resolve(self, reference: str) -> LocalImage:
        """What stands for an image; one without a tag is that of the tag latest, and a digest is not looked at.

        Raises:
            NotStarted: it is no image reference (InvalidImageName), or the table has nothing for it (ErrImagePull).
        """
        if not re.fullmatch(REFERENCE, reference):
            raise NotStarted(
                "InvalidImageName",
                f'Failed to apply default image tag "{reference}": not an image reference; write '
                f"[REGISTRY/]REPOSITORY[:TAG][@DIGEST], the repository in lower case",
            )
        names = _names(reference)
        for image in self.images:
            if any(fnmatchcase(name, image.pattern) for name in names):
                return image
        raise NotStarted("ErrImagePull", self._missing(reference))

    def _missing(self, reference: str) -> str:
        patterns = ", ".join(image.pattern for image in self.images) or "nothing"
        return (
            f"no command of this machine stands for {reference}, and this node runs no containers: give the agent a "
            f"table with an entry for it (--images FILE), or use an image that it has: {patterns}"
        )


def _names(reference: str) -> tuple[str, ...]:
    plain = reference.partition("@")[0]
    if ":" not in plain.rpartition("/")[2]:
        plain += ":latest"
    return reference, plain


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _images(document: object) -> tuple[LocalImage, ...]:
    if not isinstance(document, dict) or set(document) != {"images"} or not isinstance(document["images"], list):
        given = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"expected one field, images, a list; given: {given or 'nothing'}")
    return tuple(_image(f"images[{index}]", entry) for index, entry in enumerate(document["images"]))


def _image(where: str, entry: object) -> LocalImage:
    names = [each.name for each in fields(LocalImage)]
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: {entry!r} is no entry; expected a mapping with {', '.join(names)}")
    unknown = [name for name in entry if name not in names]
    if unknown:
        raise ValueError(f"{where}.{unknown[0]}: there is no such field; there are {', '.join(names)}")
    if not isinstance(entry.get("pattern"), str) or not entry["pattern"]:
        raise ValueError(
            f"{where}.pattern: {entry.get('pattern')!r} is no text; expected image references as a shell pattern, "
            f"such as {INFERENCE}"
        )
    values: dict[str, Any] = {"pattern": entry["pattern"], "entrypoint": _texts(where, entry.get("entrypoint"))}
    for name in ("programs", "env", "arguments"):
        values[name] = _mapping(f"{where}.{name}", entry.get(name))
    return LocalImage(**values)


def _texts(where: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{where}.entrypoint: {value!r} is no list of texts; expected one such as [python, -m, http]")
    return tuple(value)


def _mapping(where: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {value!r} is no mapping; expected texts by name")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise ValueError(f"{where}.{name}: {text!r} is no text; put it in quotes")
    return dict(value)
