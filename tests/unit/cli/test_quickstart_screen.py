"""What the quickstart shows, and what it looks at before it starts anything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kaito.cli.quickstart.errors import QuickstartError
from kaito.cli.quickstart.run import Quickstart, QuickstartOptions, check_room
from kaito.cli.quickstart.screen import Screen


def test_an_answer_cannot_steer_the_terminal() -> None:
    written = io.StringIO()
    Screen(Console(file=written)).more("a\x1b[2J\x0eb\n")
    assert written.getvalue() == "a[2Jb\n"


async def test_the_seconds_of_a_phase_that_comes_twice_are_added() -> None:
    screen = Screen(Console(file=io.StringIO()))
    screen.seconds["delete"] = 2.0
    async with screen.phase("delete"):
        pass
    assert screen.seconds["delete"] == 2.0


def test_a_disk_without_room_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(QuickstartError, match="export TMPDIR"):
        check_room(tmp_path, 2**62)
    check_room(tmp_path, 1)


@pytest.mark.parametrize("options", [{"model": "org/model"}, {"adapters": True}])
async def test_fake_nodes_serve_no_model_and_a_flag_that_asks_for_one_is_refused(options: dict[str, Any]) -> None:
    screen = Screen(Console(file=io.StringIO()))
    with pytest.raises(QuickstartError, match="--nodes kwok serves no model"):
        await Quickstart(screen, QuickstartOptions(nodes="kwok", **options)).run()
