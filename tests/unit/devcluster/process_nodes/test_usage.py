"""kaito.devcluster.process_nodes.usage, of real processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from kaito.devcluster.process_nodes.usage import Usage, usage
from kaito.testing import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A child in a group of its own, as shells make them, that holds 64 MiB.
SCRIPT = """
import subprocess, sys
child = "x = b'x' * (64 << 20); import sys; sys.stdin.read()"
subprocess.run([sys.executable, "-S", "-c", child], process_group=0)
"""


async def test_the_groups_of_a_session_are_counted_and_of_one_that_is_gone_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", SCRIPT, stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        used = await eventually(lambda: holding(process.pid))
        assert used.processes == 2
        assert used.cpu_s > 0
    finally:
        await asyncio.wait_for(process.communicate(b""), 10)
    assert usage([process.pid]) == {process.pid: Usage()}


def holding(group: int) -> Usage | None:
    found = usage([group])[group]
    return found if found.memory_bytes > 64 << 20 else None
