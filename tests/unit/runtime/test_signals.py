"""Signals: the first one asks, the second one does not, and whoever handled them before does so again."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kaito.runtime import run_until_signal, stopped_by_signals
from kaito.testing import eventually
from kaito.testing.fake_api import FakeApi
from tests.unit.runtime.managers import manager


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_manager_in_order_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    it = manager(FakeApi(latency_s=(0.0, 0.0)))
    task = asyncio.create_task(run_until_signal(it))
    await eventually(lambda: signal.getsignal(number) not in before)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(task, 5.0)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


async def test_running_a_manager_touches_no_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    it = manager(FakeApi(latency_s=(0.0, 0.0)))
    task = asyncio.create_task(it.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert signal.getsignal(signal.SIGTERM) is before
    it.stop()
    await task


async def test_the_stop_is_called_in_the_loop_once() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    with stopped_by_signals(lambda: loops.append(asyncio.get_running_loop())):
        os.kill(os.getpid(), signal.SIGTERM)
        assert loops == []  # not in the handler, which may interrupt anything
        await eventually(lambda: loops)
        await asyncio.sleep(0)
    assert loops == [asyncio.get_running_loop()]
