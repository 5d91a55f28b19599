"""A machine's /proc and /sys, as far as they say how much memory there is."""

from __future__ import annotations

from pathlib import Path


def machine_with(root: Path, *, available: int, limit: int) -> Path:
    """A container that has used nothing of its limit yet, on a machine that has so much memory left.

    Returns:
        `root`.
    """
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemAvailable: {available // 1024} kB\n")
    for name, text in {"memory.max": str(limit), "memory.current": "0", "memory.stat": "inactive_file 0"}.items():
        (group / name).write_text(f"{text}\n")
    return root
