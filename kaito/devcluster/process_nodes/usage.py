"""Usage: what groups of processes, and this machine, use of cpu and memory; read from /proc, which Linux has."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito.devcluster.supervisor import program_of

PROC: Final = Path("/proc")
_NS: Final = 10**9


class NotMeasured(Exception):
    """This machine does not say what processes use."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What some processes use.

    Attributes:
        cpu_ns: cpu time that they, and those of their children that have ended, have used.
        working_set_bytes: memory that they have; what several processes share counts for each by its part (PSS).
        rss_bytes: of it, what no file stands behind.
        page_faults: that were served from memory.
        major_page_faults: that were served from a disk.
        processes: how many there are.
    """

    cpu_ns: int = 0
    working_set_bytes: int = 0
    rss_bytes: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    processes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu_ns + other.cpu_ns,
            self.working_set_bytes + other.working_set_bytes,
            self.rss_bytes + other.rss_bytes,
            self.page_faults + other.page_faults,
            self.major_page_faults + other.major_page_faults,
            self.processes + other.processes,
        )


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """What all processes of this machine use together, and what is left.

    Attributes:
        booted_at_s: since when, in seconds since 1970.
        cpu_ns: cpu time that was used.
        memory_bytes: that it has.
        available_bytes: memory that can be had without swapping.
        free_bytes: memory that nobody uses, not even for files.
        processes: how many processes and threads there are.
        max_processes: how many there can be.
    """

    booted_at_s: int
    cpu_ns: int
    memory_bytes: int
    available_bytes: int
    free_bytes: int
    processes: int
    max_processes: int


def usage_by_program(leaders: Mapping[str, int], supervisor: int) -> dict[str, Usage]:
    """What programs use, each with all it started, daemons too.

    Args:
        leaders: the programs' first processes by the programs' names.
        supervisor: the process that has started them, and adopts what they leave.

    Raises:
        NotMeasured: there is no /proc.
    """
    if not PROC.joinpath("stat").exists():
        raise NotMeasured("what containers use is not measured on this system: it has no /proc")
    found = {pid: each for pid in all_pids() if (each := _process(pid)) is not None}
    children: dict[int, list[int]] = defaultdict(list)
    for pid, each in found.items():
        children[each.parent].append(pid)
    roots = {name: [pid] for name, pid in leaders.items()}
    for adopted in set(children[supervisor]) - set(leaders.values()):
        roots.get(program_of(adopted), []).append(adopted)
    return {name: _sum(_descendants(pids, children), found) for name, pids in roots.items()}


def machine_usage() -> MachineUsage:
    """What this machine uses.

    Raises:
        NotMeasured: there is no /proc.
    """
    try:
        memory = _fields("meminfo")
        stat = _fields("stat")
        running = int(PROC.joinpath("loadavg").read_text().split()[3].partition("/")[2])
        limits = [int(PROC.joinpath("sys/kernel", name).read_text()) for name in ("pid_max", "threads-max")]
    except OSError as error:
        raise NotMeasured(f"what this machine uses is not measured: {error}") from error
    # user nice system idle iowait irq softirq steal
    times = [int(each) for each in stat["cpu"][:8]]
    kibibytes = {name: int(memory[name][0]) for name in ("MemTotal", "MemAvailable", "MemFree")}
    return MachineUsage(
        booted_at_s=int(stat["btime"][0]),
        cpu_ns=_nanoseconds(sum(times) - times[3] - times[4]),
        memory_bytes=kibibytes["MemTotal"] * 1024,
        available_bytes=kibibytes["MemAvailable"] * 1024,
        free_bytes=kibibytes["MemFree"] * 1024,
        processes=running,
        max_processes=min(limits),
    )


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    usage: Usage


def all_pids() -> list[int]:
    """All processes of this machine; none where there is no /proc."""
    return [int(name) for name in os.listdir(PROC) if name.isdecimal()] if PROC.is_dir() else []


def _process(pid: int) -> _Process | None:
    """A process, without its memory; None if it has ended."""
    try:
        text = PROC.joinpath(str(pid), "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name before it may have anything in it, parentheses too. Then: state, parent, …, as in proc_pid_stat(5).
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    faults, children_faults, major, children_major, *times = (int(each) for each in fields[7:15])
    return _Process(
        int(fields[1]),
        Usage(
            cpu_ns=_nanoseconds(sum(times)),
            page_faults=faults + children_faults,
            major_page_faults=major + children_major,
            processes=1,
        ),
    )


def _descendants(pids: Iterable[int], children: Mapping[int, Iterable[int]]) -> set[int]:
    found: set[int] = set()
    open_ = list(pids)
    while open_:
        pid = open_.pop()
        if pid not in found:
            found.add(pid)
            open_ += children.get(pid, ())
    return found


def _sum(pids: Iterable[int], found: Mapping[int, _Process]) -> Usage:
    total = Usage()
    for pid in pids:
        if pid in found:
            total += found[pid].usage + _memory(pid)
    return total


def _memory(pid: int) -> Usage:
    with contextlib.suppress(OSError, KeyError):
        fields = _fields(f"{pid}/smaps_rollup")
        anonymous = fields.get("Pss_Anon") or fields["Anonymous"]
        return Usage(working_set_bytes=int(fields["Pss"][0]) * 1024, rss_bytes=int(anonymous[0]) * 1024)
    with contextlib.suppress(OSError, KeyError):
        # Of a program that may not be looked into, such as one with more rights than this one.
        fields = _fields(f"{pid}/status")
        return Usage(working_set_bytes=int(fields["VmRSS"][0]) * 1024, rss_bytes=int(fields["RssAnon"][0]) * 1024)
    return Usage()


def _fields(name: str) -> dict[str, list[str]]:
    """The lines of a file in /proc by their first word."""
    lines = (line.split() for line in PROC.joinpath(name).read_text(errors="replace").splitlines())
    return {words[0].rstrip(":"): words[1:] for words in lines if words}


def _nanoseconds(ticks: int) -> int:
    return ticks * _NS // os.sysconf("SC_CLK_TCK")
