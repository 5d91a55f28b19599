"""The same seed replays the same request log, in this process and in others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("replayed.py")


def replay(seed: int, hash_seed: int) -> list[Any]:
    """The log of a run in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(seed)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    log: list[Any] = json.loads(ended.stdout)
    return log


def test_two_processes_with_other_hash_seeds_log_the_same_requests() -> None:
    first, second = replay(7, hash_seed=1), replay(7, hash_seed=2)
    assert first == second
    statuses = {entry[-1] for entry in first}
    assert {0, 200, 201, 429} <= statuses, "the faults took part"
    assert len(first) > 45


def test_another_seed_takes_another_way() -> None:
    assert replay(7, hash_seed=1) != replay(8, hash_seed=1)
