"""What a person sees of a long step."""

from __future__ import annotations

import io

import pytest

from kaito.devcluster.errors import CancelledStartError
from kaito.devcluster.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_log_gets_a_line_now_and_then() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock=clock, log_interval_s=15)
    progress.say("begin")
    for second in range(40):
        clock.now_s = 100.0 + second
        progress.update(f"at {second}")
    progress.say("end")
    assert stream.getvalue() == "begin\nat 15\nat 30\nend\n"


def test_a_terminal_gets_one_line_that_is_rewritten() -> None:
    clock, stream = Clock(), Terminal()
    progress = Progress(stream, clock=clock)
    progress.update("a long line")
    clock.now_s += 1
    progress.update("short")
    progress.say("end")
    assert stream.getvalue() == "a long line\rshort      \rend  \n"


def test_a_pause_ends_when_the_work_is_called_off() -> None:
    progress = Progress(silent=True)
    progress.pause(0)
    progress.cancel()
    with pytest.raises(CancelledStartError):
        progress.pause(60)


def test_silent_progress_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(silent=True)
    progress.say("begin")
    progress.update("middle")
    assert capsys.readouterr() == ("", "")
