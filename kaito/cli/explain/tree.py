"""The tree: parts with a mark each, which of them is to blame, and what all of it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum


class Mark(StrEnum):
    """How a part is."""

    OK = "ok"
    UNDER_WAY = "under-way"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LogSource:
    """Whose log tells more.

    Attributes:
        pod: name of the pod.
        container: name of the container, init containers included.
        previous: whether it is the run before the present one that tells.
    """

    pod: str
    container: str
    previous: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One thing of a Workspace, and what belongs to it.

    Attributes:
        kind: ``Pod``, ``container`` and so on.
        name: its name.
        mark: how it is.
        says: its state in a few words.
        advice: what a person does next; empty where nothing is to be done.
        parts: what belongs to it, in the order in which things come to be.
        log: whose log tells more, if any.
        tells_all: it says itself what of the parts below it is waited for; while none fails, none is to blame but it.
    """

    kind: str
    name: str
    mark: Mark
    says: str
    advice: str = ""
    parts: tuple[Part, ...] = ()
    log: LogSource | None = None
    tells_all: bool = False

    def holding(self, *parts: Part) -> Part:
        """The part with others below it, any of which that failed makes it fail too."""
        failed = any(part.mark is Mark.FAILED for part in parts)
        return replace(self, parts=parts, mark=Mark.FAILED if failed else self.mark)

    def walk(self) -> Iterator[Part]:
        """Itself and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def to_blame(root: Part) -> Part | None:
    """The part for whose sake the whole is not ready: the first that fails, else the first that is under way.

    First in the order in which things come to be, a node before the pods on it; of these the deepest.
    """
    if root.mark is Mark.OK:
        return None
    if root.tells_all:
        return _deepest(root, Mark.FAILED) or root
    return _deepest(root, Mark.FAILED) or _deepest(root, Mark.UNDER_WAY)


def _deepest(part: Part, mark: Mark) -> Part | None:
    below = (_deepest(each, mark) for each in part.parts)
    return next((found for found in below if found is not None), part if part.mark is mark else None)
