"""Report: what `kaito explain` answers, as text for people and as JSON; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.cli.explain.fetch import Log
from kaito.cli.explain.seen import Right, Seen, duration
from kaito.cli.explain.tree import Mark, Part, to_blame
from kaito.kube.core_v1 import ContainerStatus
from kaito.kube.events_v1 import Event

MOST_EVENTS = 5
READY, FAILS, UNDER_WAY = 0, 1, 3
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

    def events(self) -> list[EventLine]:
        """The newest Warning events of what is in the tree, newest first."""
        names = {(part.kind, part.name.rpartition("/")[2]) for part in self.root.walk()}
        uids = {each.metadata.uid for each in (self.seen.workspace, *self.seen.claims, *self.seen.pods)}
        never_ended = [pod for pod in self.seen.pods if not any(map(_has_ended, pod.status.container_statuses))]
        loading = {pod.metadata.uid for pod in never_ended}
        about = [event for event in self.seen.events if _is_about(event, names, uids)]
        mine = [event for event in about if not (event.regarding.uid in loading and _is_of_loading(event))]
        lines = sorted(map(_line, mine), key=lambda line: line.at.timestamp() if line.at else 0.0, reverse=True)
        return lines[:MOST_EVENTS]

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
            "missingRights": [right._asdict() for right in self.seen.withheld],
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
    if report.seen.withheld:
        lines += ["", "Not looked at; you have not the right to", *_rights(report.seen.withheld)]
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
    elif report.blamed is not None:
        yield "  It is under way; nothing is to be done but to wait."
    log, source = report.log, report.blamed.log if report.blamed is not None else None
    if log is None or source is None:
        return
    of = f"{source.pod}, container {source.container}"
    if not log.lines:
        yield f"  Log of {of}: {log.note or 'empty so far'}"
        return
    yield f"  Log of {of}" + (f", {log.note}" if log.note else "") + ", its last lines:"
    yield from (f"    {line}" for line in log.lines)


def _branches(part: Part, first: str, rest: str, paint: Paint) -> Iterator[str]:
    yield f"{first}{paint(_SIGNS[part.mark], part.mark)} {part.kind} {part.name}: {part.says}"
    for each in part.parts:
        is_last = each is part.parts[-1]
        yield from _branches(each, rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  "), paint)


def _rights(rights: Iterable[Right]) -> list[str]:
    return [f"  {right}" for right in rights]


def _event_text(seen: Seen, line: EventLine) -> str:
    age = f"{duration(seen.age(line.at))} ago" if line.at is not None else "some time ago"
    times = f" (x{line.count})" if line.count > 1 else ""
    return f"  {age}  {line.kind} {line.name}  {line.reason}{times}: {' '.join(line.note.split())}"


def _is_about(event: Event, names: set[tuple[str, str]], uids: set[str]) -> bool:
    about = event.regarding
    if (about.kind, about.name) not in names:
        return False
    # One of a pod, claim or Workspace of the same name that lived before is about that one.
    return about.kind not in ("Workspace", "Pod", "Machine", "NodeClaim") or not about.uid or about.uid in uids


def _has_ended(container: ContainerStatus) -> bool:
    return container.restart_count > 0 or container.state.terminated is not None


def _is_of_loading(event: Event) -> bool:
    """Whether it says only that a model is not loaded yet, which is no news unless the time for it ran out."""
    return event.reason == "Unhealthy" and event.note.startswith("Startup probe failed")


def _line(event: Event) -> EventLine:
    raw = event.to_dict()
    # Kubelets still write events of the old kind, whose times have other names.
    old = raw.get("deprecatedLastTimestamp") or raw.get("deprecatedFirstTimestamp")
    at = event.series.last_observed_time if event.series is not None else event.event_time
    if at is None:
        at = datetime.fromisoformat(old) if old else event.metadata.creation_timestamp
    count = event.series.count if event.series is not None else raw.get("deprecatedCount", 1)
    about = event.regarding
    return EventLine(at, about.kind or "", about.name or "", event.reason, event.note, count)


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
