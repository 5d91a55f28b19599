"""Which control groups this process is in: what a container is granted stands in their files."""

from __future__ import annotations

from pathlib import Path


def cgroup_folders(controller: str, root: Path = Path("/")) -> list[Path]:
    """Folders of this process's group and those above it, of version 2 and version 1; some may not be there.

    Args:
        controller: such as ``cpu``; version 1 has groups of its own for each.
        root: where /proc and /sys are.
    """
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    # In a container the path may be the host's, of which nothing is mounted: its own group is at the top.
    folders = [top, top / controller]
    # Each line is ID:CONTROLLERS:PATH; version 2 has no controllers there.
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mounted in (top / controller, top / controllers) if controllers else (top,):
            folders += [mounted.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return list(dict.fromkeys(folders))
