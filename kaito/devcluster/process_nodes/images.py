"""ImageTable: which command of this machine stands for a container image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LocalImage:
    """What stands for images on this machine.

    Attributes:
        pattern: image references that it stands for, as a shell pattern: ``ghcr.io/kaito-project/*/inference:*``.
        entrypoint: what a container without a command runs.
        programs: executables by the word that a command starts with: ``{"python": "/…/bin/python"}``; a word that is
            not in it is looked up in PATH.
        env: variables beneath the container's own; ``$(LOCAL_IP)`` is the loopback address that the pod has to itself,
            ``$(POD_IP)`` the cluster's name for it.
        arguments: whole arguments that are replaced, such as a model's id by the folder that it lies in here.
    """

    pattern: str
    entrypoint: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
