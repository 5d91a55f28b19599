"""How many CPUs this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from kaito.inference.cgroups import cgroup_folders


def granted_cpus(root: Path = Path("/")) -> int:
    """CPUs that the cgroup's quota and the affinity mask leave, rounded down, at least one.

    A container with a limit of 2 CPUs on a node of 64 sees all 64; 64 threads would be throttled most of the time. Of
    two and a half it uses two: a third thread would have the others wait for it.

    Args:
        root: where /proc and /sys are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in cgroup_folders("cpu", root) for quota in _quota(folder)]
    return max(1, int(min([affinity, *quotas])))


def _quota(folder: Path) -> list[float]:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return [int(quota) / int(period)] if quota != "max" and int(quota) > 0 else []
    except (OSError, ValueError, ZeroDivisionError):
        return []
