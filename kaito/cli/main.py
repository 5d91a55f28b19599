"""Entry point of `kaito`, `kubectl kaito` and `python -m kaito`; it starts even where the cli extra is missing."""

from __future__ import annotations

import sys
from pathlib import PurePath

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line in `sys.argv` and exit with its status.

    Raises:
        SystemExit: Always. 0 done, 1 failed or a mistake in the command line, 2 a missing extra.
    """
    try:
        from kaito.cli.app import app
    except ModuleNotFoundError as missing:
        if missing.name not in _NEEDED:
            raise
        sys.exit(_missing_extra(missing.name))
    app(prog_name=_program_name(sys.argv[0]))


def _missing_extra(module: str) -> int:
    print(
        f'kaito: the command line needs {module}, which is not installed; run: pip install "kaito[cli]"',
        file=sys.stderr,
    )
    return 2


def _program_name(path: str) -> str:
    """What the user typed: kubectl starts its plugins under a name of their own."""
    names = {"kubectl-kaito": "kubectl kaito", "__main__": "python -m kaito"}
    return names.get(PurePath(path).stem, "kaito")
