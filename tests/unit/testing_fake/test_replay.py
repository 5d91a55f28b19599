"""The same seed replays the same request log, in whatever process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("replayed.py", "replayed_manager.py", "replayed_operator.py")


def replay(program: str, seed: int, hash_seed: int) -> list[Any]:
    """The log of a run in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name(program)), str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    log: list[Any] = json.loads(ended.stdout)
    return log


@pytest.mark.parametrize("program", PROGRAMS)
def test_processes_with_other_hash_seeds_log_the_same_requests(program: str) -> None:
    first, second = replay(program, 7, hash_seed=1), replay(program, 7, hash_seed=2)
    assert first == second
    assert 0 in {entry[-1] for entry in first}, "the faults took part"
    assert len(first) > 45


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_seed_takes_another_way(program: str) -> None:
    assert replay(program, 7, hash_seed=1) != replay(program, 8, hash_seed=1)
