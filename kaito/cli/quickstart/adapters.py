"""The second act: an adapter as an image in a registry of this machine, mixed in at full strength, then at half."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from kaito.cli.examples import example
from kaito.cli.quickstart.act import Act
from kaito.cli.quickstart.chat import show_answer
from kaito.cli.quickstart.screen import Screen
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.registry import Registry
from kaito.kube.object_key import ObjectKey
from kaito.oci.client import Registry as ImageRegistry
from kaito.oci.credentials import load_keyring
from kaito.oci.push import push_image
from kaito.oci.reference import Reference
from kaito.runtime.manager import Manager

MANIFEST = "inference/kaito_workspace_phi_3_with_adapters.yaml"
KEY = ObjectKey("workspace-phi-3-mini-adapter", "default")
ADAPTER = "one"
"""Of those that the tiny model comes with."""
READY_TIMEOUT_S = 180.0
STRENGTHS = ("1.0", "0.5")
_PLACEHOLDER = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
_STRENGTH = 'strength: "1.0"'


class AdapterAct:
    """The second Workspace of the walk-through.

    Args:
        screen: where it is told.
        cluster: where it is.
        manager: of the operator.
        scratch: where the tiny model's adapters are; the registry's images go there, too.
    """

    def __init__(self, screen: Screen, cluster: ControlPlane, manager: Manager, scratch: Path) -> None:
        self._screen = screen
        self._scratch = scratch
        self._registry = Registry(scratch / "registry")
        self.act = Act(screen, cluster, manager, KEY, self._registry.check)

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[None]:
        """Runs the registry that the adapter comes from, with its image.

        Raises:
            DevClusterError, OciError: it cannot be had.
        """
        self._screen.step("starting an image registry")
        async with AsyncExitStack() as stack:
            async with self._screen.phase("registry", "waits for the registry, which is built the first time"):
                await stack.enter_async_context(self._registry)
            folder = self._scratch / "adapters" / ADAPTER
            self._screen.step("pushing a LoRA adapter of the tiny model", f"kaito push {folder} {self._image}")
            async with self._screen.phase("push", "waits for the registry"):
                await _push(folder, self._image)
            yield

    async def play(self) -> dict[str, str]:
        """Plays it beside the registry; returns the answers by strength.

        Raises:
            QuickstartError: a step failed.
        """
        return {strength: await self._answer(self._image, strength) for strength in STRENGTHS}

    @property
    def _image(self) -> str:
        return f"{self._registry.address}/phi-3-adapter:0.0.1"

    async def _answer(self, image: str, strength: str) -> str:
        text = example(MANIFEST).read_text().replace(_PLACEHOLDER, image)
        manifest = text.replace(_STRENGTH, f'strength: "{strength}"')
        self._screen.step(f"applying a Workspace with the adapter at strength {strength}", "kubectl apply -f -")
        self._screen.plain(f"    (examples/{MANIFEST}, with the image {image} and the strength {strength})")
        async with self._screen.phase(f"adapter_{strength}"):
            await self.act.apply(manifest)
            await self.act.until_ready(READY_TIMEOUT_S)
        answer = await show_answer(self._screen, await self.act.address(), f"answer_{strength}")
        return answer.text


async def _push(folder: Path, image: str) -> None:
    async with ImageRegistry(Reference.parse(image), load_keyring()) as registry:
        await push_image(registry, folder)
