"""How many threads torch gets on a CPU: as many as the container may run, not as many as the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc/self/cgroup")


def cpu_threads(cgroup: Path = _CGROUP, proc: Path = _PROC) -> int:
    """CPUs that this process may use: those that it may run on, or its quota if that is less; at least 1.

    A quota of two and a half CPUs makes two threads: a third one would have the others wait for it.

    Args:
        cgroup: where the control groups are mounted, of version 1 or 2.
        proc: which of them this process is in.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup, proc)
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def _quota(cgroup: Path, proc: Path) -> float | None:
    """The smallest quota of the groups that this process is in, innermost to outermost; none: no limit."""
    quotas = []
    for controllers, path in _groups(proc):
        if controllers == "":
            quotas += [_quota_v2(folder) for folder in _up(cgroup, path)]
        elif "cpu" in controllers.split(","):
            quotas += [_quota_v1(folder) for name in ("cpu", controllers) for folder in _up(cgroup / name, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(proc: Path) -> list[tuple[str, str]]:
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    return [(part[1], part[2].lstrip("/")) for part in parts if len(part) == 3]


def _up(root: Path, path: str) -> list[Path]:
    # In a container the root is often the group itself, while the path is the one outside: then only the root is there.
    folder = root / path
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _quota_v2(folder: Path) -> float | None:
    match _words(folder / "cpu.max"):
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return None


def _quota_v1(folder: Path) -> float | None:
    match _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us"):
        case [quota], [period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
