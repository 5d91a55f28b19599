"""The pytest plugin: a real Kubernetes API for tests of controllers, started once per run and only if a test asks.

It is loaded in every pytest run of an environment that has kaito, so nothing here imports more than pytest before a
fixture is used.

Fixtures:
    control_plane_options  (session)  what the control plane is made of; override it in your conftest.py
    control_plane          (session)  a running `kaito.devcluster.controlplane.ControlPlane`
    client                 (function) the administrator's `kaito.client.Client`
    namespace              (function) name of a fresh namespace
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final, TypedDict

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaito.client import Client, Config
    from kaito.devcluster.controlplane import ControlPlane
    from kaito.devcluster.process_nodes.images import ImageTable
    from kaito.devcluster.programs import ProgramName

_NAMESPACES: Final = "/api/v1/namespaces"
_NAME_LIMIT: Final = 63  # of an RFC 1123 label
_SUFFIX_BYTES: Final = 3


class ControlPlaneOptions(TypedDict, total=False):
    """What `control_plane_options` may return: arguments of `ControlPlane`, all of them optional."""

    scheduler: bool
    controller_manager: bool
    kwok: bool
    process_nodes: bool
    images: ImageTable | None
    directory: Path | None
    extra_flags: Mapping[ProgramName, Sequence[str]] | None
    start_timeout_s: float


@pytest.fixture(scope="session")
def control_plane_options() -> ControlPlaneOptions:
    """What the session's control plane is made of. The default is etcd and kube-apiserver alone, as in envtest.

    That is the fastest, but nothing collects garbage, makes Pods of Deployments or finishes deleting a namespace. For
    a cluster that does, override the fixture in your conftest.py:

        @pytest.fixture(scope="session")
        def control_plane_options():
            return {"controller_manager": True, "scheduler": True, "kwok": True}
    """
    return {}


@pytest.fixture(scope="session")
def control_plane(pytestconfig: pytest.Config, control_plane_options: ControlPlaneOptions) -> Iterator[ControlPlane]:
    """A running control plane, one per session (and per pytest-xdist worker). It belongs to no event loop.

    The first one on a machine fetches or builds its programs and shows the progress; `kaito devcluster binaries`
    does that ahead of time.
    """
    from kaito.devcluster.controlplane import ControlPlane
    from kaito.devcluster.progress import Progress

    with _uncaptured(pytestconfig):
        plane = ControlPlane(**control_plane_options, progress=Progress())
        plane.start()
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a fresh namespace, made of the test's name and something random.

    It is deleted after the test, without waiting; without a controller manager it stays "Terminating", harmlessly.
    """
    name = namespace_name(request.node.name)
    control_plane.request("POST", _NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    from kaito.devcluster.errors import RequestError

    # A test may have deleted it, or stopped the API server and left it so.
    with contextlib.suppress(RequestError, OSError):
        control_plane.request("DELETE", f"{_NAMESPACES}/{name}")


def namespace_name(test_name: str) -> str:
    """A unique and valid namespace name that lets a person recognise the test."""
    suffix = secrets.token_hex(_SUFFIX_BYTES)
    words = re.sub(r"[^a-z0-9]+", "-", test_name.lower()).strip("-")
    return f"{words[: _NAME_LIMIT - len(suffix) - 1].rstrip('-') or 'test'}-{suffix}"


@pytest.fixture(scope="session")
def _client_config(control_plane: ControlPlane) -> Config:
    """Read once: the library behind it takes 0.6 s to import, and a file does not change within a session."""
    from kaito.client import load_config

    return load_config(kubeconfig=control_plane.kubeconfig)


# The one fixture that needs an event loop; a pytest run without pytest-asyncio must still start.
if importlib.util.find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def client(_client_config: Config) -> AsyncIterator[Client]:
        """The administrator's client, open for one test.

        It is made per test, and its loop scope is left to your configuration, because its connections belong to
        the loop that makes them: with `asyncio_default_fixture_loop_scope` equal to `asyncio_default_test_loop_scope`,
        whichever the two are, that is the loop of the test.
        """
        from kaito.client import Client

        async with Client.from_config(_client_config, name="tests") as opened:
            yield opened


@contextlib.contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Lets what is written to standard error through to the person who waits."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
    else:
        with capture.global_and_fixture_disabled():
            yield
