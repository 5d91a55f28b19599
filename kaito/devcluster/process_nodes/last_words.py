"""Last words: what a container left to be shown as the message of its end."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kaito.kube.pod_v1 import Container

FALLBACK: Final = "FallbackToLogsOnError"
MAX_FILE_BYTES: Final = 4096
MAX_LOG_BYTES: Final = 2048
MAX_LOG_LINES: Final = 80


def last_words(container: Container, exit_code: int, termination_log: Path, log: Path) -> str:
    """The message of a container's end, by a kubelet's rules; empty where it left none.

    Args:
        container: says whether its log counts.
        exit_code: other than 0 for an error.
        termination_log: the file that the container may have written for it.
        log: its output.
    """
    said = tail(termination_log, MAX_FILE_BYTES)
    if said or exit_code == 0 or container.termination_message_policy != FALLBACK:
        return said
    lines = tail(log, MAX_LOG_BYTES).splitlines(keepends=True)
    return "".join(lines[-MAX_LOG_LINES:])


def tail(path: Path, limit: int) -> str:
    """The end of a file, at most so many bytes; empty where there is none."""
    try:
        if not path.is_file():
            return ""  # a pipe, which the program may have put there, would hold everything up
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
