"""The examples of docs/testing.md run as they stand, and what docs/conformance.md names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
SETTINGS = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
filterwarnings = error
"""


@pytest.mark.parametrize("number", [0, 1])
def test_an_example_that_needs_no_cluster_runs(number: int) -> None:
    command = [sys.executable, "-W", "error", "-c", EXAMPLES[number]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_tests_on_a_real_control_plane_pass(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(EXAMPLES[2])
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr


def test_every_test_that_the_conformance_table_names_is_there() -> None:
    named = set(re.findall(r"`((?:test|t\d\d)_\w+)`", (ROOT / "docs" / "conformance.md").read_text()))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    there = set(re.findall(r"^(?:async )?def (\w+)\(", sources, re.MULTILINE))
    assert len(named) > 40
    assert named - there == set()
