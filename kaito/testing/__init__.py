"""Tests of Kubernetes controllers: a real API server, one in memory, and what can go wrong on the way to either.

The pytest plugin (`kaito.testing.plugin`, active wherever kaito is installed) has the fixtures `control_plane`,
`client` and `namespace`; `install_crds` makes it serve kinds of one's own; `eventually` waits for what a controller
will bring about; `FakeApi` is an API server in
memory, `FakeApiServer` the same over HTTP, and `FaultProxy` stands before a real one. See docs/testing.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from kaito.testing.eventually import eventually

if TYPE_CHECKING:
    from kaito.devcluster.controlplane import ControlPlane
    from kaito.testing.crds import install_crds
    from kaito.testing.fake_api import FakeApi, FakeApiServer
    from kaito.testing.fault_proxy import FaultProxy
    from kaito.testing.plugin import ControlPlaneOptions

__all__ = [
    "ControlPlane",
    "ControlPlaneOptions",
    "FakeApi",
    "FakeApiServer",
    "FaultProxy",
    "eventually",
    "install_crds",
]

# Looked up late: pytest imports this package at every start, and these bring cryptography, aiohttp and pytest along.
_LATE: Final = {
    "ControlPlane": "kaito.devcluster.controlplane",
    "ControlPlaneOptions": "kaito.testing.plugin",
    "FakeApi": "kaito.testing.fake_api",
    "FakeApiServer": "kaito.testing.fake_api",
    "FaultProxy": "kaito.testing.fault_proxy",
    "install_crds": "kaito.testing.crds",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
