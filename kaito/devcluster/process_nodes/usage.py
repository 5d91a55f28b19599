"""What groups of processes use: memory and CPU time, from /proc."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_GROUP, _SESSION, _USER_TICKS, _SYSTEM_TICKS, _PAGES = 2, 3, 11, 12, 21
"""Fields of /proc/PID/stat after the name, see proc(5)."""


class Usage(NamedTuple):
    """What processes use together.

    Attributes:
        memory_bytes: resident; what processes share is counted for each.
        cpu_s: CPU time since each began; that of those that have ended is not in it.
        processes: how many there are.
    """

    memory_bytes: int = 0
    cpu_s: float = 0.0
    processes: int = 0


def usage(groups: Collection[int], proc: Path = Path("/proc")) -> dict[int, Usage]:
    """What each process group uses, with the groups that were made within its session; all zero for one that is gone.

    Args:
        groups: ids of groups that lead a session, as those do that the supervisor starts.
        proc: where /proc is; without one, as on macOS, all is zero.
    """
    found = {group: Usage() for group in groups}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for path in proc.glob("[0-9]*/stat"):
        try:
            # A name may have spaces and parentheses in it.
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        group = next((id for id in (int(fields[_GROUP]), int(fields[_SESSION])) if id in found), None)
        if group is not None:
            known = found[group]
            cpu_s = (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / ticks
            found[group] = Usage(
                known.memory_bytes + int(fields[_PAGES]) * page, known.cpu_s + cpu_s, known.processes + 1
            )
    return found
