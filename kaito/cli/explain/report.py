"""Report: what `kaito explain` answers, as text for people and as JSON; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from kaito.api import keys
from kaito.cli.explain.fetch import Log
from kaito.cli.explain.rights import commands
from kaito.cli.explain.seen import Seen, duration, happened_at
from kaito.cli.explain.tree import Mark, Part, to_blame
from kaito.cli.rights import Right
from kaito.kube.conditions import find
from kaito.kube.core_v1 import ContainerStatus
from kaito.kube.events_v1 import Event

MOST_EVENTS = 5
MOST_SHOWN = 160
"""Characters of what a part of the tree, or an event, says; the first line, and JSON, have all of it."""
READY, FAILS, UNDER_WAY = 0, 1, 3
_ENDED_BY_NODE = frozenset({0, 137, 143})
"""Exit codes of a server that was asked to end, or killed."""
_SIGNS = {Mark.OK: "✓", Mark.UNDER_WAY: "…", Mark.FAILED: "✗", Mark.UNKNOWN: "?"}
_IN_ASCII = str.maketrans({"✓": "+", "…": ".", "✗": "x", "├": "|", "└": "`", "─": "-", "│": "|"})
COLOURS = {Mark.OK: "green", Mark.UNDER_WAY: "yellow", Mark.FAILED: "red", Mark.UNKNOWN: "magenta"}

Paint = Callable[[str, Mark], str]


@dataclass(frozen=True, slots=True)
class EventLine:
    """A Warning event, as it is shown."""

    at: datetime | None
    kind: str
    name: str
    reason: str
    note: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """The answer.

    Attributes:
        seen: what was found.
        root: the tree.
        blamed: the part for whose sake the Workspace is not ready.
        log: the end of that part's log.
    """

    seen: Seen
    root: Part
    blamed: Part | None
    log: Log | None = None

    @property
    def exit_code(self) -> int:
        """0 ready, 1 something fails, 3 under way."""
        return {Mark.OK: READY, Mark.FAILED: FAILS}.get(self.root.mark, UNDER_WAY)

    @property
    def sentence(self) -> str:
        """What it comes to."""
        if self.blamed is None:
            return f"{self.root.kind} {self.root.name} is ready"
        return f"{self.blamed.kind} {self.blamed.name}: {self.blamed.says}"

    @property
    def missing_rights(self) -> tuple[Right, ...]:
        """What could not be looked at, the log included."""
        log = self.log.missing if self.log is not None else None
        return (*self.seen.withheld, *((log,) if log is not None else ()))

    def events(self) -> list[EventLine]:
        """The newest Warning events of what is in the tree, newest first; of a ready one those since it is ready."""
        names = {(part.kind, part.name.rpartition("/")[2]) for part in self.root.walk()}
        uids = {each.metadata.uid for each in (self.seen.workspace, *self.seen.claims, *self.seen.pods)}
        in_time = [pod for pod in self.seen.pods if not any(map(_ran_out_of_time, pod.status.container_statuses))]
        loading = {pod.metadata.uid for pod in in_time}
        about = [event for event in self.seen.events if _is_about(event, names, uids)]
        mine = [event for event in about if not (event.regarding.uid in loading and _is_of_loading(event))]
        lines = sorted(map(_line, mine), key=_moment, reverse=True)
        since = self._ready_since()
        return [line for line in lines if _moment(line) >= since][:MOST_EVENTS]

    def _ready_since(self) -> float:
        """0 if it is not."""
        ready = find(self.seen.workspace.status.conditions, keys.WORKSPACE_READY)
        since = ready.last_transition_time if ready is not None and self.blamed is None else None
        return since.timestamp() if since is not None else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        workspace = self.seen.workspace.metadata
        return {
            "workspace": workspace.name,
            "namespace": workspace.namespace,
            "state": {READY: "ready", FAILS: "fails"}.get(self.exit_code, "under-way"),
            "cause": self._cause(),
            "tree": _tree(self.root),
            "events": [_event(line) for line in self.events()],
            "missingRights": [right._asdict() for right in self.missing_rights],
        }

    def _cause(self) -> dict[str, Any] | None:
        if self.blamed is None:
            return None
        log = self.log or Log()
        cause = {"kind": self.blamed.kind, "name": self.blamed.name, "says": self.blamed.says}
        return {**cause, "advice": self.blamed.advice, "log": list(log.lines), "logNote": log.note}


def text(report: Report, paint: Paint = lambda said, _mark: said, *, unicode: bool = True) -> str:
    """The answer for people: what is to blame first, then the tree, events and missing rights.

    Args:
        report: the answer.
        paint: colours a text as its mark asks for.
        unicode: whether the reader can show signs beyond ASCII.
    """
    lines = [*_head(report, paint), "", *_branches(report.root, "", "", paint)]
    if events := report.events():
        lines += ["", "Newest warnings:", *(_event_text(report.seen, line) for line in events)]
    if report.missing_rights:
        lines += ["", "Not looked at; you have not the right to", *(f"  {right}" for right in report.missing_rights)]
        giving = commands(report.seen.workspace.key, report.seen.user, report.missing_rights)
        lines += ["An administrator gives it with", *(f"  {each}" for each in giving)]
    whole = "\n".join(lines)
    return whole if unicode else whole.translate(_IN_ASCII)


def report_of(seen: Seen, root: Part) -> Report:
    """The answer without a log."""
    return Report(seen, root, to_blame(root))


def _head(report: Report, paint: Paint) -> Iterator[str]:
    mark = report.blamed.mark if report.blamed is not None else Mark.OK
    yield paint(f"{_SIGNS[mark]} {report.sentence}", mark)
    if report.blamed is not None and report.blamed.advice:
        yield f"  What to do: {report.blamed.advice}"
    elif mark is Mark.UNDER_WAY:
        yield _patience(report)
    log, source = report.log, report.blamed.log if report.blamed is not None else None
    if log is None or source is None:
        return
    of = f"{source.pod}, container {source.container}"
    if not log.lines:
        yield f"  Log of {of}: {log.note or 'empty so far'}"
        return
    yield f"  Log of {of}" + (f", {log.note}" if log.note else "") + ", its last lines:"
    yield from (f"    {line}" for line in _folded(log.lines))


def _patience(report: Report) -> str:
    if report.missing_rights:
        return "  It is under way, as far as you may look; what keeps it may be in what you may not (below)."
    if report.log is not None and report.log.lines:
        return "  It is under way; nothing is to be done but to wait, unless its log says otherwise."
    return "  It is under way; nothing is to be done but to wait."


def _folded(lines: Sequence[str]) -> Iterator[str]:
    """What is said again and again is said once."""
    for line, same in groupby(lines):
        times = len(list(same))
        yield line if times == 1 else f"{line}  ({times} times)"


def _branches(part: Part, first: str, rest: str, paint: Paint) -> Iterator[str]:
    yield f"{first}{paint(_SIGNS[part.mark], part.mark)} {part.kind} {part.name}: {_clipped(part.says)}"
    for each in part.parts:
        is_last = each is part.parts[-1]
        yield from _branches(each, rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  "), paint)


def _clipped(said: str) -> str:
    return said if len(said) <= MOST_SHOWN else f"{said[: MOST_SHOWN - 1]}…"


def _moment(line: EventLine) -> float:
    return line.at.timestamp() if line.at else 0.0


def _event_text(seen: Seen, line: EventLine) -> str:
    age = f"{duration(seen.age(line.at))} ago" if line.at is not None else "some time ago"
    times = f" (x{line.count})" if line.count > 1 else ""
    return f"  {age}  {line.kind} {line.name}  {line.reason}{times}: {_clipped(' '.join(line.note.split()))}"


def _is_about(event: Event, names: set[tuple[str, str]], uids: set[str]) -> bool:
    about = event.regarding
    if (about.kind, about.name) not in names:
        return False
    # One of a pod, claim or Workspace of the same name that lived before is about that one.
    return about.kind not in ("Workspace", "Pod", "Machine", "NodeClaim") or not about.uid or about.uid in uids


def _ran_out_of_time(container: ContainerStatus) -> bool:
    """Whether a startup probe may have ended it: one that ended by itself, with an error of its own, was not."""
    ended = container.state.terminated or container.last_state.terminated
    return ended is not None and ended.exit_code in _ENDED_BY_NODE


def _is_of_loading(event: Event) -> bool:
    """Whether it says only that a model is not loaded yet, which is no news unless the time for it ran out."""
    return event.reason == "Unhealthy" and event.note.startswith("Startup probe failed")


def _line(event: Event) -> EventLine:
    count = event.series.count if event.series is not None else event.to_dict().get("deprecatedCount", 1)
    about = event.regarding
    return EventLine(happened_at(event), about.kind or "", about.name or "", event.reason, event.note, count)


def _event(line: EventLine) -> dict[str, Any]:
    at = line.at.isoformat() if line.at is not None else None
    return {
        "at": at,
        "kind": line.kind,
        "name": line.name,
        "reason": line.reason,
        "note": line.note,
        "count": line.count,
    }


def _tree(part: Part) -> dict[str, Any]:
    own = {"kind": part.kind, "name": part.name, "mark": part.mark.value, "says": part.says}
    return {**own, "parts": [_tree(each) for each in part.parts]}
