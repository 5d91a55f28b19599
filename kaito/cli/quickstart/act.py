"""Act: what is done with one Workspace: applied, watched until it is ready, shown, deleted."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.cli.conditions_table import ConditionsTable
from kaito.cli.quickstart.errors import ProgramEnded, QuickstartError
from kaito.cli.quickstart.pod_words import at_work, describe, hopeless, pods_of, tail
from kaito.cli.quickstart.screen import Screen
from kaito.client.errors import KubeError, NotFound
from kaito.devcluster.controlplane import ControlPlane
from kaito.devcluster.errors import KubectlError, ProgramError
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import Pod, Service
from kaito.kube.object_key import ObjectKey
from kaito.runtime.manager import Manager

ADDRESS_ANNOTATION = "process-node.kaito.sh/address"
GONE_TIMEOUT_S = 90.0
ADDRESS_TIMEOUT_S = 15.0
LOG_LINES = 12
_MAX_LINE = 160
_ONLY_WARNINGS = re.compile(r"\b\d+ warnings? received")
_LOOK_AGAIN_S = 0.5
_HOPELESS_FOR_S = 3.0


class Act:
    """One Workspace's.

    Args:
        screen: where it is told.
        cluster: where it is.
        manager: of the operator, whose cache is read.
        workspace: its key.
        needs: raises ProgramError when what it needs on its way, beside the cluster, has ended.
    """

    def __init__(
        self,
        screen: Screen,
        cluster: ControlPlane,
        manager: Manager,
        workspace: ObjectKey,
        needs: Callable[[], None] = lambda: None,
    ) -> None:
        self._screen = screen
        self._cluster = cluster
        self._manager = manager
        self.workspace = workspace
        self._needs = needs

    async def apply(self, manifest: str) -> None:
        """Applies a manifest; shows what the webhook warns of, which kubectl would otherwise print for nobody."""
        try:
            await self._cluster.kubectl("apply", "--warnings-as-errors", "-f", "-", input=manifest)
        except KubectlError as error:
            if not _ONLY_WARNINGS.search(error.stderr):
                raise QuickstartError(f"the Workspace was refused: {error.stderr}") from error
            for line in error.stderr.splitlines():
                if line.startswith("Warning: "):
                    self._screen.note(line)

    async def until_ready(self, timeout_s: float) -> None:
        """Shows the conditions as they turn, and what the pod waits for, until all is served as was asked last.

        Raises:
            ProgramEnded: a program that it needs is gone.
            QuickstartError: it will not be, or is not in time; has conditions and the pod's last words.
        """
        deadline = time.monotonic() + timeout_s
        lost_since: float | None = None
        with ConditionsTable(self._screen.console, (keys.RESOURCE_READY, keys.INFERENCE_READY)) as table:
            while not await self._is_ready(table):
                self._check(self._cluster.check, self._needs)
                why = hopeless(await self._pods())
                lost_since = None if why is None else lost_since or time.monotonic()
                if why is not None and lost_since and time.monotonic() - lost_since > _HOPELESS_FOR_S:
                    raise await self.failed(why)
                if time.monotonic() > deadline:
                    raise await self.failed(f"it was not ready after {timeout_s:.0f} s")
                await asyncio.sleep(_LOOK_AGAIN_S)  # a pod's health and its log tell nobody when they change

    async def address(self) -> str:
        """Where the Service answers people on this machine.

        Raises:
            QuickstartError: the agent does not say.
        """
        deadline = time.monotonic() + ADDRESS_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            service = await self._manager.client.live.get(Service, self.workspace)
            if address := service.metadata.annotations.get(ADDRESS_ANNOTATION):
                return address
            await asyncio.sleep(0.1)
        raise await self.failed(f"Service {self.workspace.name} got no address on this machine")

    async def show(self, *kinds: str) -> None:
        """Prints what kubectl says of some kinds."""
        for kind in kinds:
            self._screen.console.print(f"[bold]$ kubectl get {kind}[/bold]")
            self._screen.plain((await self._cluster.kubectl("get", kind)).rstrip())

    async def delete(self) -> None:
        """Deletes the Workspace, and waits until nothing of it is left.

        Raises:
            QuickstartError: something is.
        """
        name = self.workspace.name
        self._screen.step("deleting the Workspace", f"kubectl delete workspace {name}")
        left: list[str] = []
        async with self._screen.phase("delete", lambda: f"waits for {', '.join(left) or f'workspace {name}'} to go"):
            await self._cluster.kubectl("delete", "workspace", name, "--wait=false")
            deadline = time.monotonic() + GONE_TIMEOUT_S
            while True:
                left[:] = await self._left()
                if not left:
                    return
                if time.monotonic() > deadline:
                    raise QuickstartError(f"still there after {GONE_TIMEOUT_S:.0f} s: {', '.join(left)}")
                self.check()
                await asyncio.sleep(0.2)

    async def failed(self, why: str) -> QuickstartError:
        """The error to raise: why, the Workspace's conditions, the pod's last lines, and the next step."""
        parts = [f"Workspace {self.workspace.name}: {why}", *await self._unmet()]
        for pod in (await self._pods())[-1:]:
            container = at_work(pod)
            name = container.name if container is not None else "inference"
            again = container is not None and container.state.running is None and container.restart_count > 0
            lines = await tail(self._cluster, pod, name, LOG_LINES)
            lines = lines or (await tail(self._cluster, pod, name, LOG_LINES, previous=True) if again else [])
            parts.append(f"the last lines that container {name} of pod {pod.metadata.name} has written:")
            parts += [f"  {line}" for line in lines] or ["  (none)"]
        return QuickstartError("\n".join(parts))

    async def _unmet(self) -> list[str]:
        """The conditions that do not hold; what several say, once."""
        try:
            found = await self.found()
        except KubeError as error:
            return [f"  the API server tells nothing more: {error}"]
        unmet = [each for each in found.status.conditions if each.status != "True"] if found is not None else []
        said = {each.message: f"  {each.type} is {each.status}: {each.message}" for each in reversed(unmet)}
        return list(reversed(said.values()))

    async def found(self) -> Workspace | None:
        """The Workspace as it is now; None: there is none."""
        try:
            return await self._manager.client.get(Workspace, self.workspace)
        except NotFound:
            return None

    async def waits_for(self) -> str | None:
        """What the newest pod waits for; empty: nothing; None: it does not tell just now."""
        pods = await self._pods()
        return await describe(self._cluster, pods[-1]) if pods else ""

    def check(self) -> None:
        """Does nothing while all programs of the cluster run; its agent of nodes comes back by itself.

        Raises:
            ProgramEnded: one has ended.
        """
        self._check(self._cluster.check)

    def _check(self, *checks: Callable[[], None]) -> None:
        try:
            for check in checks:
                check()
        except ProgramError as error:
            # Its log may be long, and was not written for people who only want to know what is amiss.
            last = [f"  {line[:_MAX_LINE]}" for line in error.log_tail.splitlines()[-3:]]
            what = str(error).splitlines()[0]
            raise ProgramEnded("\n".join([f"a program that it needs has ended: {what}", *last])) from error

    async def _is_ready(self, table: ConditionsTable) -> bool:
        found = await self.found()
        if found is None:
            return False
        status = found.status
        table.show(status.conditions)
        if is_true(status.conditions, keys.WORKSPACE_READY):
            table.note("")
            # Of what was asked before, else.
            return status.observed_generation >= found.metadata.generation
        if (waits_for := await self.waits_for()) is not None:
            table.note(waits_for)
        return False

    async def _pods(self) -> Sequence[Pod]:
        try:
            return await pods_of(self._manager.client, self.workspace)
        except KubeError:
            return ()

    async def _left(self) -> list[str]:
        said = await self._cluster.kubectl(
            "get", "machine,node,deployment,pod", "--output=name", "--ignore-not-found", "--selector", self._selector
        )
        return said.split()

    @property
    def _selector(self) -> str:
        return f"{keys.WORKSPACE_LABEL}={self.workspace.name}"
