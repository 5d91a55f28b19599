"""Reconcilers that misbehave, in a process of their own against a real API server: whom it harms, and who says so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaito.client import Client
from kaito.devcluster.controlplane import ControlPlane
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from tests.operating import troubled_manager
from tests.operating.manager_process import ManagerProcess


class TroubledProcess(ManagerProcess):
    """`troubled_manager` as a child process."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path) -> None:
        super().__init__(kubeconfig, log)
        self._argv = [sys.executable, troubled_manager.__file__, str(kubeconfig), namespace]


@pytest.fixture
async def troubled(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[TroubledProcess]:
    process = TroubledProcess(control_plane.kubeconfig, namespace, tmp_path / "log")
    async with process:
        await process.ready()
        yield process


class Maps:
    """ConfigMaps of a namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace

    async def put(self, name: str, **data: str) -> None:
        await self._client.create(
            ConfigMap.model_validate({"metadata": {"name": name, "namespace": self._namespace}, "data": data})
        )

    async def done(self, name: str, timeout_s: float = 10.0) -> None:
        async def is_done() -> bool:
            return "done" in (await self._client.get(ConfigMap, ObjectKey(name, self._namespace))).data

        await eventually(is_done, timeout_s=timeout_s, message=f"{name} is done")


@pytest.fixture
def maps(client: Client, namespace: str) -> Maps:
    return Maps(client, namespace)


async def test_what_raises_hangs_or_returns_nonsense_harms_its_own_key_only(
    troubled: TroubledProcess, maps: Maps, namespace: str
) -> None:
    for bad in ("raise", "hang", "nonsense"):
        await maps.put(f"bad-{bad}", do=bad)
    for number in range(10):
        await maps.put(f"good-{number}", do="well")
    for number in range(10):
        await maps.done(f"good-{number}")
    stuck = f"[-]controller/configmap failed: stuck working on {namespace}/bad-hang for "

    async def told() -> bool:
        status, text = await troubled.get("/readyz")
        return status == 503 and stuck in text

    await eventually(told)
    assert (await troubled.get("/healthz"))[0] == 200
    failed = {line["key"] for line in troubled.logged("reconcile failed unexpectedly")}
    assert failed == {f"{namespace}/bad-raise", f"{namespace}/bad-nonsense"}
    shown = json.loads((await troubled.get("/debug/queues"))[1])["controllers"]["configmap"]
    assert shown["stuck"] == [f"{namespace}/bad-hang"]
    assert await troubled.stop() == 0
    (cut,) = troubled.logged("reconcile did not end in time and is cancelled")
    assert (cut["controller"], cut["key"]) == ("configmap", f"{namespace}/bad-hang")
    assert cut["worked_s"] >= troubled_manager.GRACE_S


async def test_what_blocks_the_loop_is_named_and_probes_are_answered_meanwhile(
    troubled: TroubledProcess, maps: Maps, namespace: str
) -> None:
    await maps.put("bad", do="block", seconds="4")
    slowest_s = 0.0
    answers: list[tuple[int, str]] = []

    async def blocked() -> bool:
        nonlocal slowest_s
        began = time.monotonic()
        answers.append(await troubled.get("/healthz"))
        slowest_s = max(slowest_s, time.monotonic() - began)
        return answers[-1][0] == 503

    await eventually(blocked, interval_s=0.1)
    text = answers[-1][1]
    assert "[-]loop failed: event loop blocked for " in text
    assert "troubled_manager.py:" in text
    assert slowest_s < 1.0
    (line,) = [each for each in troubled.lines() if each["msg"].startswith("event loop blocked")]
    assert (line["controller"], line["key"]) == ("configmap", f"{namespace}/bad")
    assert "in Troubled.reconcile, at " in line["at"]
    assert "in block\n" in line["stack"]
    await maps.done("bad")
    await maps.put("good", do="well")
    await maps.done("good")
    assert await troubled.get("/healthz") == (200, "ok")
    assert await troubled.metric("controller_loop_blocked_total") == 1
    assert await troubled.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_exits_at_once_even_while_the_loop_is_blocked(
    troubled: TroubledProcess, maps: Maps, number: signal.Signals
) -> None:
    await maps.put("bad", do="block", seconds="60")
    await eventually(lambda: [each for each in troubled.lines() if each["msg"].startswith("event loop blocked")])
    process: Any = troubled._process
    os.kill(troubled.pid, number)
    await asyncio.sleep(0.3)
    assert troubled.running
    os.kill(troubled.pid, number)
    assert await asyncio.to_thread(process.wait, 5.0) == 128 + number
