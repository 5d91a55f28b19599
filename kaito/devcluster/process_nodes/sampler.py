"""Sampler: looks every few seconds at what programs use, so that it can be said how much that is per second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from kaito.devcluster.process_nodes.programs import Programs
from kaito.devcluster.process_nodes.usage import MachineUsage, NotMeasured, Usage, machine_usage, usage_by_program
from kaito.runtime.service import Service

INTERVAL_S: Final = 10.0
_WINDOW_S: Final = 15.0
_SHORTEST_S: Final = 1.0
_MACHINE: Final = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is to tell of a moment.

    Attributes:
        at_s: when, in seconds since 1970.
        machine: all of this machine.
        machine_nanocores: cpu time per second of it, in thousand millionths; None as long as there is one look only.
        programs: those that run, by name.
        nanocores: cpu time per second of theirs.
    """

    at_s: float
    machine: MachineUsage
    machine_nanocores: int | None
    programs: Mapping[str, Usage]
    nanocores: Mapping[str, int]


class Sampler(Service):
    """Looks at programs. A service of the agent's manager.

    Args:
        programs: which.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._looks: dict[str, deque[tuple[float, int]]] = {}

    async def run(self) -> None:
        """Looks again and again, until cancelled; once only where nothing is measured."""
        while True:
            try:
                await self.look()
            except NotMeasured:
                return
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> Sample:
        """Looks now.

        Raises:
            NotMeasured: this machine does not tell.
        """
        leaders = await self._programs.leaders()
        now, machine, found = await asyncio.to_thread(_measured, leaders, self._programs.supervisor)
        for gone in self._looks.keys() - found.keys() - {_MACHINE}:
            del self._looks[gone]
        programs = {name: self._grown(name, usage) for name, usage in found.items()}
        rates = {name: self._rate(name, now, usage.cpu_ns) for name, usage in programs.items()}
        return Sample(
            time.time(),
            machine,
            self._rate(_MACHINE, now, machine.cpu_ns),
            programs,
            {name: rate for name, rate in rates.items() if rate is not None},
        )

    def _grown(self, name: str, usage: Usage) -> Usage:
        """The time of a daemon that has ended is told by nobody; a counter does not fall for that."""
        looks = self._looks.get(name)
        return usage if not looks else replace(usage, cpu_ns=max(usage.cpu_ns, looks[-1][1]))

    def _rate(self, name: str, now: float, cpu_ns: int) -> int | None:
        looks = self._looks.setdefault(name, deque())
        while len(looks) > 1 and looks[1][0] <= now - _WINDOW_S:
            looks.popleft()
        first = looks[0] if looks and looks[0][0] <= now - _SHORTEST_S else None
        if not looks or looks[-1][0] <= now - _SHORTEST_S:
            looks.append((now, cpu_ns))
        return None if first is None else int((cpu_ns - first[1]) / (now - first[0]))


def _measured(leaders: Mapping[str, int], supervisor: int) -> tuple[float, MachineUsage, dict[str, Usage]]:
    return time.monotonic(), machine_usage(), usage_by_program(leaders, supervisor)
