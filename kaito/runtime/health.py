"""Health: checks by name, and how Kubernetes' own programs tell of them: in lines, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

Check = Callable[[], str | None]
"""A health check: None when all is well, else why not, in a sentence."""

Results = Mapping[str, str | None]
"""What checks said, by name."""

CheckSource = Callable[[], Results]
"""Checks whose names come and go, such as one for each informer."""


class Checks:
    """The checks behind one path, in the order in which they were added. They run in the event loop, never apart."""

    def __init__(self) -> None:
        self._sources: list[CheckSource] = []
        self._single: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Adds a check, or replaces the one of that name."""
        if name not in self._single:
            self._sources.append(lambda: {name: _ask(self._single[name])})
        self._single[name] = check

    def add_source(self, source: CheckSource) -> None:
        """Adds checks whose names are not known yet."""
        self._sources.append(source)

    def results(self) -> dict[str, str | None]:
        """Asks all of them; one that raises has failed, and hides no other."""
        found: dict[str, str | None] = {}
        for source in self._sources:
            try:
                found.update(source())
            except Exception as error:
                found["checks"] = f"some checks themselves failed: {error!r}"
        return found

    def fault(self, name: str) -> str | None:
        """What one check says.

        Raises:
            KeyError: there is none of that name.
        """
        return self.results()[name]


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe is told.

    Attributes:
        results: of the checks that were not excluded.
        unknown: excluded names that no check has.
    """

    results: Results
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, results: Results, excluded: Collection[str] = ()) -> Report:
        """Leaves checks out."""
        kept = {name: fault for name, fault in results.items() if name not in excluded}
        return cls(kept, tuple(name for name in excluded if name not in results))

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return not any(self.results.values())

    def text(self, *, verbose: bool) -> str:
        """``ok``, or a line for each check, as Kubernetes' API server has it."""
        if self.passed and not verbose:
            return "ok"
        lines = [f"[-]{name} failed: {fault}" if fault else f"[+]{name} ok" for name, fault in self.results.items()]
        if self.unknown:
            lines.append(f"warn: nothing to exclude is named {', '.join(self.unknown)}")
        return "\n".join([*lines, "check passed" if self.passed else "check failed", ""])

    def json(self) -> str:
        """An object with ``ok``, and ``checks`` by name, each with ``ok`` and, if it failed, ``reason``."""
        checks = {
            name: {"ok": False, "reason": fault} if fault else {"ok": True} for name, fault in self.results.items()
        }
        return json.dumps({"ok": self.passed, "checks": checks})


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:
        return f"the check itself failed: {error!r}"
