"""What every test runs under: tiers, and guards that no task, process or socket outlives its test."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Two workers and two control planes share the processors: how long an example takes says nothing about it.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

_GRACE_S = 1.0
_INTEGRATION = Path(__file__).parent / "integration"


@pytest.fixture(scope="session")
def control_plane_options() -> dict[str, bool]:
    """All of `kaito.testing`'s control plane: the operator's own tests need pods that start on fake nodes."""
    return {"scheduler": True, "controller_manager": True, "kwok": True}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _INTEGRATION in item.path.parents:
            item.add_marker(pytest.mark.integration)


def pytest_collection_finish() -> None:
    """Take what the imports made out of each later collection, which then costs milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that CI skips is a test that nobody runs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if reporter and skipped and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"\nCI=true: {len(skipped)} skipped, which counts as a failure", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child process, an unclosed socket or, where it is async, a task.

    Set up before the test's other function-scoped fixtures, so it looks after they are torn down. What session
    fixtures hold was there before.
    """
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_leaves_no_task")
    before = _children()
    yield
    gc.collect()  # an unclosed socket warns when it is collected, and warnings are errors
    leaked = _wait_for_exit(before)
    for pid in leaked:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not leaked, f"child processes outlived the test: {leaked}"


@pytest.fixture
async def _leaves_no_task() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    started = asyncio.all_tasks() - before - {asyncio.current_task()}
    leaked = {task for task in started if task is not None}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=_GRACE_S)
    for task in leaked:
        task.cancel()
    assert not leaked, f"tasks outlived the test: {sorted(map(repr, leaked))}"


def _wait_for_exit(before: dict[int, str]) -> dict[int, str]:
    """Children that are new and stay: one that has been told to stop gets a moment to be gone."""
    deadline = time.monotonic() + _GRACE_S
    while True:
        leaked = {pid: name for pid, name in _children().items() if pid not in before}
        if not leaked or time.monotonic() > deadline:
            return leaked
        time.sleep(0.01)


def _children() -> dict[int, str]:
    """Child processes of this one by pid, dead ones that nobody waited for among them; empty where /proc is missing."""
    lists = Path("/proc/self/task").glob("*/children")
    named = {
        int(pid): _read(Path("/proc", pid, "cmdline")).replace("\0", " ")
        for each in lists
        for pid in _read(each).split()
    }
    # multiprocessing keeps its resource tracker for the life of the process, by design.
    return {pid: name for pid, name in named.items() if "resource_tracker" not in name}


def _read(path: Path) -> str:
    """Empty when the thread or process is gone by now."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
