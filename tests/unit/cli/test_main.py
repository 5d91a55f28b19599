"""The entry point: the names it goes by."""

from __future__ import annotations

import sys

import pytest

from kaito.cli.main import main


@pytest.mark.parametrize(
    ("path", "called"),
    [
        ("/usr/bin/kaito", "kaito"),
        ("/usr/bin/kubectl-kaito", "kubectl kaito"),
        ("/lib/kaito/__main__.py", "python -m kaito"),
    ],
)
def test_help_says_what_the_user_typed(
    path: str, called: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [path, "--help"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert f"Usage: {called} [OPTIONS] COMMAND" in capsys.readouterr().out
