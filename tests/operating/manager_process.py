"""ManagerProcess: `kaito manager` as a child process, as a user would start it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from kaito.testing import eventually

WRITE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PERMISSION_QUESTIONS = 1
"""An administrator, as in these tests, is asked for all permissions at once (by a POST that writes nothing)."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


class ManagerProcess:
    """Runs `python -m kaito manager` on free ports of loopback; entering waits until it listens.

    Args:
        kubeconfig: of the cluster.
        log: file for its standard error; appended to.
        arguments: further command line arguments.
        environment: further variables.
    """

    def __init__(
        self, kubeconfig: Path, log: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self._environment = environment or {}
        self._argv = [
            *(sys.executable, "-m", "kaito", "manager", "--kubeconfig", str(kubeconfig), "--cloud", "kwok"),
            *("--metrics-bind-address", "127.0.0.1:0", "--health-probe-bind-address", "127.0.0.1:0"),
            *arguments,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0

    async def __aenter__(self) -> Self:
        self.spawn()
        await self.listens()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> None:
        """Starts the process and returns at once."""
        self._offset = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("KAITO_")}
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**environment, **self._environment}
            )

    async def listens(self) -> None:
        """Waits until it has said where it listens."""
        await eventually(self._started, timeout_s=START_TIMEOUT_S, message="the manager listens")

    async def ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Waits until /readyz says so."""

        async def probe() -> bool:
            status, text = await self.get("/readyz")
            assert status == 200, text
            return True

        await eventually(probe, timeout_s=timeout_s, message="the manager is ready")

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of a path of its health (or, for /metrics, metrics) server."""
        started = self._started()
        assert started, "the manager does not listen yet"
        address = started["metrics" if path == "/metrics" else "health"]
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as response:
            return response.status, await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(value for found, value in await self._samples(name) if labels.items() <= found.items())

    async def writes(self) -> float:
        """How many writing requests it has sent, but for the one that only asks."""
        sent = sum(
            value
            for found, value in await self._samples("rest_client_requests_total")
            if found["method"] in WRITE_METHODS
        )
        return sent - PERMISSION_QUESTIONS

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged since it was started, as objects; lines that are none count as messages."""
        if not self._log.exists():
            return []
        text = self._log.read_bytes()[self._offset :].decode(errors="replace")
        return [_parsed(line) for line in text.splitlines() if line.strip()]

    def logged(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """Its log lines with this message and these fields."""
        return [line for line in self.lines() if line["msg"] == message and fields.items() <= line.items()]

    def failures(self) -> list[dict[str, Any]]:
        """Log lines that would wake a person."""
        return [line for line in self.lines() if line.get("level") in ("error", "critical") or "exception" in line]

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def _started(self) -> dict[str, Any] | None:
        assert self._process is not None
        assert self.running or self._process.returncode == 0, f"the manager ended:\n{self._log.read_text()[-3000:]}"
        return next(iter(self.logged("manager started")), None)

    async def _samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        _, text = await self.get("/metrics")
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]


def _parsed(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"msg": line}
    return value if isinstance(value, dict) else {"msg": line}
