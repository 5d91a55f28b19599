"""An agent of process nodes whose pods are commands of this machine, executed as they are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kaito.client import load_config
from kaito.devcluster.process_nodes.agent import AgentOptions, agent
from kaito.devcluster.process_nodes.pod_records import BackOff
from kaito.devcluster.process_nodes.sandbox import Execution, NotStarted
from kaito.kube.core_v1 import Pod
from kaito.kube.pod_v1 import Container
from kaito.runtime import logs
from kaito.runtime.process import run_process
from kaito.runtime.signals import run_until_signal


class PlainSandbox:
    """A folder, no volumes; every image is there but "absent"."""

    def __init__(self, pod: Pod, address: str, directory: Path) -> None:
        self.address = address
        self._folder = directory / "pods" / pod.metadata.uid
        self._logs = directory / "logs" / f"{pod.metadata.namespace}_{pod.metadata.name}_{pod.metadata.uid}"

    async def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    async def execution(self, container: Container, restarts: int) -> Execution:
        if container.image == "absent":
            raise NotStarted("ErrImagePull", "no program stands for it")
        log = self._logs / container.name / f"{restarts}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        env = {"PATH": os.environ["PATH"], "LAST_WORDS": str(self._folder / "last-words")}
        (self._folder / "last-words").write_bytes(b"")
        argv = (*container.command, *container.args)
        return Execution(argv, env, self._folder, log, Path(env["LAST_WORDS"]), {})

    def command(self, _container: Container, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(words)

    async def refresh(self, pod: Pod) -> None:
        pass

    async def remove(self) -> None:
        if self._folder.exists():
            for each in self._folder.iterdir():
                each.unlink()
            self._folder.rmdir()


async def _run(kubeconfig: Path, directory: Path, backoff: BackOff) -> None:
    options = AgentOptions(directory, backoff=backoff)
    config = await asyncio.to_thread(load_config, kubeconfig)
    async with agent(config, options, lambda pod, address: PlainSandbox(pod, address, directory)) as manager:
        await run_until_signal(manager)


if __name__ == "__main__":
    logs.configure("json", "info")
    run_process(_run(Path(sys.argv[1]), Path(sys.argv[2]), BackOff(first_s=float(sys.argv[3]))))
