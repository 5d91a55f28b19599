"""Node pressure: whether this machine runs out of memory, disk or processes, as conditions of its nodes.

Nothing is evicted for it: the pods are a person's own, on their own machine. The conditions tell them, and the
scheduler keeps further pods away by the taints that the controller manager makes of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito.devcluster.process_nodes.usage import NotMeasured, machine_usage

MEMORY_BYTES: Final = 100 << 20
"""As a kubelet's memory.available<100Mi."""
DISK_BYTES: Final = 1 << 30
"""Not a kubelet's nodefs.available<10%: a developer's disk is often fuller than that, and works well."""
INODES_PERCENT: Final = 5
"""As a kubelet's nodefs.inodesFree<5%."""
PROCESSES: Final = 1000
"""Of the processes that there can be; a kubelet has no threshold of its own for them."""

State = tuple[str, str, str]
"""A condition's status, reason and message."""
Look = Callable[[], Mapping[str, State]]
"""Looks at this machine; returns conditions by type."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system's room, in bytes and inodes."""

    capacity: int
    available: int
    free: int
    inodes: int
    inodes_free: int

    def figures(self) -> dict[str, int]:
        """As the Summary API has them."""
        return {
            "availableBytes": self.available,
            "capacityBytes": self.capacity,
            "usedBytes": self.capacity - self.free,
            "inodesFree": self.inodes_free,
            "inodes": self.inodes,
            "inodesUsed": self.inodes - self.inodes_free,
        }


def disk_of(folder: Path) -> Disk:
    """The file system that a folder is on."""
    told = os.statvfs(folder)
    size = told.f_frsize
    return Disk(told.f_blocks * size, told.f_bavail * size, told.f_bfree * size, told.f_files, told.f_ffree)


def pressures(folder: Path) -> dict[str, State]:
    """The conditions of pressure.

    Args:
        folder: on the disk that pods write to.
    """
    return {**_memory_and_processes(), "DiskPressure": _disk(disk_of(folder))}


def _memory_and_processes() -> dict[str, State]:
    try:
        machine = machine_usage()
    except NotMeasured as error:
        return {
            "MemoryPressure": ("False", "KubeletHasSufficientMemory", str(error)),
            "PIDPressure": ("False", "KubeletHasSufficientPID", str(error)),
        }
    available, left = machine.available_bytes, machine.max_processes - machine.processes
    short = available < MEMORY_BYTES
    memory = f"memory.available is {_mebibytes(available)}, pressure is below {_mebibytes(MEMORY_BYTES)}"
    processes = f"{left} more processes can be started, pressure is below {PROCESSES}"
    return {
        "MemoryPressure": _state(short, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", memory),
        "PIDPressure": _state(left < PROCESSES, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", processes),
    }


def _disk(disk: Disk) -> State:
    # Some file systems have no fixed number of inodes, and say 0.
    percent = 100 * disk.inodes_free // disk.inodes if disk.inodes else 100
    text = (
        f"nodefs.available is {_mebibytes(disk.available)}, nodefs.inodesFree {percent}%; pressure is below "
        f"{_mebibytes(DISK_BYTES)} or {INODES_PERCENT}%"
    )
    short = disk.available < DISK_BYTES or percent < INODES_PERCENT
    return _state(short, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", text)


def _state(short: bool, reason: str, otherwise: str, text: str) -> State:
    return ("True", reason, f"{text}; nothing is evicted") if short else ("False", otherwise, text)


def _mebibytes(amount: int) -> str:
    return f"{amount >> 20}Mi"
