"""Watchdog: what blocks the event loop is named by its place, its controller and its key, and nothing else is."""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import time
from types import FrameType
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from kaito.kube.core_v1 import ConfigMap
from kaito.runtime import DONE, Result
from kaito.runtime.watchdog import Watchdog, WatchdogMetrics, place
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi
from tests.unit.runtime.managers import manager, put

BLOCKED_AFTER_S = 0.1


def watchdog(registry: CollectorRegistry) -> Watchdog:
    return Watchdog(WatchdogMetrics(registry), blocked_after_s=BLOCKED_AFTER_S, interval_s=0.01)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "kaito.runtime.watchdog"]


def block(seconds: float) -> None:
    time.sleep(seconds)


class Blocking:
    """A reconciler that does not let go."""

    async def reconcile(self, _: ConfigMap) -> Result:
        self.compute()
        return DONE

    def compute(self) -> None:
        time.sleep(3 * BLOCKED_AFTER_S)


async def test_a_reconciler_that_blocks_is_named_in_one_line_with_controller_key_and_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = FakeApi(latency_s=(0.0, 0.0))
    it = manager(api, Blocking(), blocked_after_s=BLOCKED_AFTER_S)
    task = asyncio.create_task(it.run())
    await it.cache.wait_synced()
    with caplog.at_level(logging.WARNING):
        put(api, "a")
        await eventually(lambda: len(messages(caplog)) == 2)
        it.stop()
        await task
    blocked, again = [each for each in caplog.records if each.name == "kaito.runtime.watchdog"]
    assert blocked.getMessage().startswith("event loop blocked: ")
    fields = vars(blocked)
    assert (fields["controller"], fields["key"]) == ("configmap", "default/a")
    assert "test_watchdog.py:" in fields["at"]
    assert "in Blocking.reconcile, at " in fields["at"]
    assert fields["at"].endswith("in Blocking.compute")
    assert "self.compute()" in fields["stack"]
    assert again.getMessage() == "event loop turns again"
    assert vars(again)["blocked_s"] == pytest.approx(3 * BLOCKED_AFTER_S, abs=0.3)
    assert it.registry.get_sample_value("controller_loop_blocked_total") == 1.0


async def test_code_that_was_installed_below_the_standard_library_is_not_taken_for_it() -> None:
    stdlib = sysconfig.get_path("stdlib")

    def frame(path: str, module: str) -> FrameType:
        there: dict[str, Any] = {"__name__": module, "sys": sys}
        exec(compile("frame = sys._getframe()", path, "exec"), there)
        return cast("FrameType", there["frame"])

    runtime = frame("/app/kaito/runtime/program.py", "kaito.runtime.program")
    loop = frame(f"{stdlib}/asyncio/runners.py", "asyncio.runners")
    worker = frame("/app/kaito/runtime/worker.py", "kaito.runtime.worker")
    user = frame(f"{stdlib}/site-packages/mine.py", "mine")
    assert place([runtime, loop, worker, user, loop]).startswith(f"{stdlib}/site-packages/mine.py:1 in <module>, at ")
    assert place([user, loop]).startswith(f"{stdlib}/site-packages/mine.py:1")


async def test_signs_of_life_are_measured_and_a_loop_that_turns_is_never_blamed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    it = watchdog(registry)
    it.begin()
    for _ in range(30):
        await asyncio.sleep(0.01)
        it.look()
    it.end()
    signs = registry.get_sample_value("controller_loop_lag_seconds_count")
    assert signs is not None
    assert 5 <= signs <= 31
    assert messages(caplog) == []
    assert it.fault() is None


async def test_a_process_that_slept_as_a_whole_is_not_taken_for_blocked(caplog: pytest.LogCaptureFixture) -> None:
    it = watchdog(CollectorRegistry())
    it.begin()
    block(2 * BLOCKED_AFTER_S)
    it.look()
    assert messages(caplog) == []
    it.look()
    assert len(messages(caplog)) == 1
    it.end()


async def test_what_blocks_on_and_on_is_told_once_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    it = watchdog(registry)
    it.begin()
    for _ in range(20):
        block(0.01)
        it.look()
    assert len(messages(caplog)) == 1
    fault = it.fault()
    assert fault is not None
    assert fault.startswith("event loop blocked for 0 s in ")
    await asyncio.sleep(0.02)
    assert it.fault() is None
    it.look()
    assert messages(caplog)[1:] == ["event loop turns again"]
    assert registry.get_sample_value("controller_loop_blocked_total") == 1.0
    it.end()
