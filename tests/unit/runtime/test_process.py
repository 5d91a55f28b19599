"""A process ends though what it ran does not, and says what that was; what ends by itself is left alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest

from kaito.runtime.process import run_process

STUBBORN_TASK = """
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
"""
STUBBORN_THREAD = """
    async def stubborn():
        await asyncio.to_thread(time.sleep, 3600)
"""


@pytest.mark.parametrize(
    ("stubborn", "named"), [(STUBBORN_TASK, "task stubborn at "), (STUBBORN_THREAD, "thread asyncio_0")]
)
def test_what_does_not_let_itself_be_ended_is_named_and_the_process_exits(stubborn: str, named: str) -> None:
    program = f"""
    import asyncio, time
    from kaito.runtime.logs import configure
    configure('json', 'info')
    from kaito.runtime.process import run_process
    {stubborn}
    async def main():
        global task
        task = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0.05)
        raise RuntimeError("lost")
    run_process(main(), left_s=0.2)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    line = next(each for each in done.stderr.splitlines() if "something does not end" in each)
    assert named in line
    assert '"error": "lost"' in line


def test_what_ends_by_itself_ends_as_it_does_and_leaves_nothing() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    before = threading.enumerate()
    with pytest.raises(LookupError, match="gone"):
        run_process(main())
    assert threading.enumerate() == before
