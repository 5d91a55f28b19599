"""Tests of Kubernetes controllers against a real API server: the envtest of Python.

The pytest plugin (`kaito.testing.plugin`, active wherever kaito is installed) has the fixtures `control_plane`,
`client` and `namespace`; `eventually` waits for what a controller will bring about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaito.testing.eventually import eventually

if TYPE_CHECKING:
    from kaito.devcluster.controlplane import ControlPlane
    from kaito.testing.plugin import ControlPlaneOptions

__all__ = ["ControlPlane", "ControlPlaneOptions", "eventually"]


def __getattr__(name: str) -> object:
    # Looked up late: pytest imports this package at every start, and these bring cryptography and pytest along.
    if name == "ControlPlane":
        from kaito.devcluster.controlplane import ControlPlane

        return ControlPlane
    if name == "ControlPlaneOptions":
        from kaito.testing.plugin import ControlPlaneOptions

        return ControlPlaneOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
