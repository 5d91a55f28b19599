"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def granted_cpus(root: Path = Path("/")) -> int:
    """CPUs that the cgroup's quota and the affinity mask leave, rounded up, at least one.

    A container with a limit of 2 CPUs on a node of 64 sees all 64; 64 threads would be throttled most of the time.

    Args:
        root: where /proc and /sys are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, *(math.ceil(quota) for quota in _quotas(root)), affinity))


def _quotas(root: Path) -> list[float]:
    """Of this process's cgroup and those above it, version 2 and version 1."""
    quotas = []
    for hierarchy, path in _cgroups(root):
        folder = root / "sys/fs/cgroup" / hierarchy / path.lstrip("/")
        for each in (folder, *folder.parents):
            quotas += _quota(each)
            if each == root / "sys/fs/cgroup" / hierarchy or not each.is_relative_to(root / "sys/fs/cgroup"):
                break
    return quotas


def _cgroups(root: Path) -> list[tuple[str, str]]:
    # Each line is ID:CONTROLLERS:PATH; version 2 has no controllers there. In a container the path is often that of
    # the host, of which nothing is mounted here: then the root of what is mounted is the container's own.
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = [("", "/")]
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers:
            found.append(("", path))
        elif "cpu" in controllers.split(","):
            found += [("cpu", path), ("cpu", "/"), ("cpu,cpuacct", path)]
    return found


def _quota(folder: Path) -> list[float]:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return [int(quota) / int(period)] if quota != "max" and int(quota) > 0 else []
    except (OSError, ValueError):
        return []
