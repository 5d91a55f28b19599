"""FailoverScene: managers that count, each behind a proxy of its own, and a ledger of what reached the API server."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from kaito.testing.fake_api import Fault, Hang
from kaito.testing.fault_proxy import FaultProxy
from tests.operating.counting_manager import COUNTER

LEASE_S = 2.0
TIMEOUT_S = 30.0


class Entry(NamedTuple):
    """One write, as the API server told of it.

    Attributes:
        name: of the ConfigMap.
        by: who wrote it.
        n: the count, of the counter.
        seen_at: when it was heard of; seconds of `time.monotonic`.
    """

    name: str
    by: str
    n: int
    seen_at: float


@dataclass
class Counter:
    """A manager process and the proxy that it speaks through."""

    name: str
    process: subprocess.Popen[bytes]
    proxy: FaultProxy
    log: Path

    async def exit_code(self, timeout_s: float = TIMEOUT_S) -> int:
        """Waits until it has ended."""
        return await asyncio.to_thread(self.process.wait, timeout_s)


class FailoverScene:
    """Some managers on one namespace. Entering starts the ledger, not the managers.

    Args:
        plane: the control plane.
        client: live, past the proxies.
        namespace: to work in.
        folder: for logs.
        rng: which failover is next, and when.
    """

    def __init__(
        self, plane: ControlPlane, client: Client, namespace: str, folder: Path, rng: random.Random | None = None
    ) -> None:
        self.plane = plane
        self.client = client
        self.namespace = namespace
        self.ledger: list[Entry] = []
        self.counters: list[Counter] = []
        self.jobs = 0
        self._enough = False
        self.rng = rng or random.Random(0)
        self._folder = folder
        self._numbers = itertools.count()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.client.create(ConfigMap.model_validate({"metadata": self._metadata(COUNTER), "data": {"n": "0"}}))
        first = (await self.client.get(ConfigMap, ObjectKey(COUNTER, self.namespace))).metadata.resource_version
        self._tasks = [asyncio.create_task(self._keep_ledger(first)), asyncio.create_task(self._make_jobs())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for counter in self.counters:
            counter.process.kill()
            await asyncio.to_thread(counter.process.wait)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._stack.aclose()

    async def start(self) -> Counter:
        """Another manager."""
        name = f"counter-{next(self._numbers)}"
        proxy = await self._stack.enter_async_context(FaultProxy(self.plane.kubeconfig))
        log = self._folder / f"{name}.log"
        program = ("-m", "tests.operating.counting_manager", "--kubeconfig", str(proxy.kubeconfig))
        arguments = ("--namespace", self.namespace, "--name", name, "--lease", str(LEASE_S))
        process = _spawn([sys.executable, *program, *arguments], log)
        self.counters.append(Counter(name, process, proxy, log))
        return self.counters[-1]

    async def leader(self, *, after: str = "") -> Counter:
        """Waits until somebody (else) holds the Lease and has written."""

        def found() -> Counter | None:
            by = self.ledger[-1].by if self.ledger else ""
            return next((one for one in self.counters if one.name == by and by != after), None)

        return await eventually(found, timeout_s=TIMEOUT_S, message=f"somebody leads after {after or 'the start'}")

    async def stands_by(self, counter: Counter) -> None:
        """Waits until it is warm and waits for its turn."""

        def waits() -> bool:
            assert counter.process.poll() is None, counter.log.read_text()[-2000:]
            return '"controller stands by"' in counter.log.read_text()

        await eventually(waits, timeout_s=TIMEOUT_S, message=f"{counter.name} stands by")

    async def fail(self, how: str, leader: Counter) -> float:
        """Forces the leader out, and waits for its end and for the next one's first write.

        Args:
            how: ``kill`` (-9), ``pause`` (SIGSTOP for longer than the lease, then SIGCONT), ``cut`` (no answer any
                more), ``refuse`` (connections are refused), ``stop`` (SIGTERM).
            leader: whom.

        Returns:
            Seconds until the next one's first write was heard of; of a clean stop from its end on.
        """
        began = time.monotonic()
        match how:
            case "kill":
                leader.process.kill()
            case "pause":
                leader.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(LEASE_S + 1.5)
                leader.process.send_signal(signal.SIGCONT)
            case "cut":
                leader.proxy.faults.add(Fault(Hang(), times=None))
                leader.proxy.cut()
            case "refuse":
                async with leader.proxy.away():
                    await leader.exit_code()
            case "stop":
                leader.process.send_signal(signal.SIGTERM)
        code = await leader.exit_code()
        expected = {"kill": -signal.SIGKILL, "stop": 0}.get(how, 1)
        assert code == expected, f"{leader.name} after {how} ended with {code}: {leader.log.read_text()[-3000:]}"
        if how == "stop":
            began = time.monotonic()
        self.counters.remove(leader)
        await self.leader(after=leader.name)
        first = next(entry for entry in reversed(self._runs()) if entry.by != leader.name)
        return max(0.0, first.seen_at - began)

    async def all_jobs_done(self) -> None:
        """Waits until every job is done. No more of them are made."""
        self._enough = True
        # Not cancelled: a job that was made, and not counted, would be one too many.
        await self._tasks[1]

        async def done() -> bool:
            found = await self.client.list(ConfigMap, namespace=self.namespace, labels="kind=job")
            undone = [each.metadata.name for each in found if each.data.get("done") != each.data["wanted"]]
            assert (len(found), undone) == (self.jobs, [])
            return True

        await eventually(done, timeout_s=TIMEOUT_S, message="all jobs are done")

    def check(self) -> None:
        """No two leaders' writes interleave, and the count goes up by one each time: none was lost or made twice."""
        writers = [name for name, _ in itertools.groupby(entry.by for entry in self.ledger)]
        assert len(writers) == len(set(writers)), f"writes interleave: {writers}"
        counts = [entry.n for entry in self.ledger if entry.name == COUNTER]
        assert counts == list(range(1, len(counts) + 1)), _gap(self.ledger)

    def _runs(self) -> list[Entry]:
        """The first write of each leader."""
        return [next(run) for _, run in itertools.groupby(self.ledger, key=lambda entry: entry.by)]

    def _metadata(self, name: str, **more: object) -> dict[str, object]:
        return {"name": name, "namespace": self.namespace, **more}

    async def _keep_ledger(self, version: str) -> None:
        """Writes down every version of every ConfigMap, in the order of the API server."""
        while True:
            async for event in self.client.watch(ConfigMap, namespace=self.namespace, resource_version=version):
                version = event.object.metadata.resource_version
                data = event.object.data
                if event.type == "MODIFIED" and "by" in data:
                    count = int(data.get("n", "0"))
                    self.ledger.append(Entry(event.object.metadata.name, data["by"], count, time.monotonic()))

    async def _make_jobs(self) -> None:
        """Work comes all the time, whoever leads, or nobody."""
        while not self._enough:
            metadata = self._metadata(f"job-{self.jobs}", labels={"kind": "job"})
            await self.client.create(ConfigMap.model_validate({"metadata": metadata, "data": {"wanted": "x"}}))
            self.jobs += 1
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _gap(ledger: list[Entry]) -> str:
    counts = [(entry.by, entry.n) for entry in ledger if entry.name == COUNTER]
    at = next(index for index, (_, n) in enumerate(counts) if n != index + 1)
    return f"the count is broken around {counts[max(0, at - 3) : at + 3]}"
