"""LogReader: reads containers' logs, as a kubelet does: the last lines, those of the run before, and what comes next.

The output of a container's run lies at ``NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`` below the folder of logs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from kaito.kube.core_v1 import ContainerStatus, Pod
from kaito.kube.object_key import ObjectKey

POLL_INTERVAL_S: Final = 0.1
_CHUNK_BYTES: Final = 64 * 1024
_UNSUPPORTED: Final = ("sinceSeconds", "sinceTime", "timestamps")


class Unavailable(Exception):
    """A log cannot be had.

    Attributes:
        status: as HTTP has it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class LogRequest:
    """What of a log is asked for.

    Attributes:
        follow: what comes later, too, until the container ends.
        previous: the run that the status has as the last state: of a container that waits to be started again, the
            newest one.
        tail_lines: only this many lines of what there is.
        limit_bytes: no more than this.
    """

    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Reads the parameters of a request.

        Raises:
            Unavailable: one cannot be met, or is no number.
        """
        for name in _UNSUPPORTED:
            if query.get(name, "false") != "false":
                raise Unavailable(400, f"{name} is not supported on process nodes: lines are kept as they were written")
        if query.get("stream", "All") != "All":
            raise Unavailable(400, "process nodes keep standard output and standard error in one stream")
        return cls(
            follow=query.get("follow") in ("true", "1"),
            previous=query.get("previous") in ("true", "1"),
            tail_lines=_number(query, "tailLines"),
            limit_bytes=_number(query, "limitBytes"),
        )


class LogReader:
    """Reads logs of pods.

    Args:
        folder: of all logs.
        find_pod: looks up pods; None for one that is gone.
    """

    def __init__(self, folder: Path, find_pod: Callable[[ObjectKey], Awaitable[Pod | None]]) -> None:
        self._folder = folder
        self._find_pod = find_pod

    async def read(self, key: ObjectKey, container: str, asked: LogRequest) -> AsyncGenerator[bytes, None]:
        """Looks for a log; what is returned reads it, and has to be closed.

        Raises:
            Unavailable: there is none (yet).
        """
        pod = await self._find_pod(key)
        if pod is None:
            raise Unavailable(404, f'pod "{key.name}" is not on a process node')
        runs = _runs(self._folder / f"{key.namespace}_{key.name}_{pod.metadata.uid}" / container)
        if asked.previous:
            before = _run_before(pod, container)
            run = next((path for path in runs if path.stem == before), None)
            if run is None:
                raise Unavailable(400, f'previous terminated container "{container}" in pod "{key.name}" not found')
            return self._read(pod, container, run, asked)
        if not runs:
            raise Unavailable(400, _why_there_is_none(pod, container))
        return self._read(pod, container, runs[-1], asked)

    async def _read(self, pod: Pod, container: str, path: Path, asked: LogRequest) -> AsyncGenerator[bytes, None]:
        left = asked.limit_bytes
        with path.open("rb") as log:
            if asked.tail_lines is not None:
                await asyncio.to_thread(_seek_last_lines, log, asked.tail_lines)
            while left is None or left > 0:
                # Asked before the read: what was written before the end is not missed.
                more = asked.follow and await self._goes_on(pod, container, int(path.stem))
                while chunk := log.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)):
                    left = None if left is None else left - len(chunk)
                    yield chunk
                if not more:
                    return
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _goes_on(self, pod: Pod, container: str, run: int) -> bool:
        """Whether a run of a container may yet write."""
        now = await self._find_pod(pod.key)
        if now is None or now.metadata.uid != pod.metadata.uid:
            return False
        status = _status(now, container)
        if status is None or status.restart_count < run:
            return True  # the status is about the run before
        return status.restart_count == run and status.state.terminated is None and not _has_ended(status)


def _has_ended(status: ContainerStatus) -> bool:
    """Whether a container waits to be started again: its last run is over."""
    return status.state.waiting is not None and status.last_state.terminated is not None


def _status(pod: Pod, container: str) -> ContainerStatus | None:
    every = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return next((each for each in every if each.name == container), None)


def _run_before(pod: Pod, container: str) -> str:
    """The number of the run that a container's last state is of; empty if there is none."""
    status = _status(pod, container)
    ended = status.last_state.terminated if status is not None else None
    return (ended.container_id or "").rpartition("/")[2] if ended is not None else ""


def _why_there_is_none(pod: Pod, container: str) -> str:
    status = _status(pod, container)
    waiting = status.state.waiting if status is not None else None
    why = (waiting.reason if waiting is not None else None) or "it has not been started"
    return f'container "{container}" in pod "{pod.metadata.name}" is waiting to start: {why}'


def _runs(folder: Path) -> list[Path]:
    """The logs of a container's runs, the oldest first."""
    return sorted((path for path in folder.glob("*.log") if path.stem.isdecimal()), key=lambda path: int(path.stem))


def _seek_last_lines(log: BinaryIO, lines: int) -> None:
    """Goes to where the last lines of a file begin."""
    position = end = log.seek(0, os.SEEK_END)
    if lines == 0:
        return
    found = 0
    while position > 0:
        start = max(0, position - _CHUNK_BYTES)
        log.seek(start)
        block = log.read(position - start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            # The newline that ends the last line begins none.
            found += start + at + 1 != end
            if found == lines:
                log.seek(start + at + 1)
                return
        position = start
    log.seek(0)


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise Unavailable(400, f"{name} is {text!r}; give a number of at least 0")
    return int(text)
