"""Random histories of a server, and of what breaks meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from kaito.kube.crd import custom_resource_definition
from kaito.kube.crd_options import CRDOptions
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource
from kaito.testing.fake_api import (
    Alter,
    CutAnswer,
    CutWatch,
    Delay,
    Drop,
    FailWatch,
    Fault,
    Faults,
    Hang,
    Refuse,
    Trickle,
    throttled,
    version_expired,
    version_too_large,
)
from kaito.testing.fake_api.faults import Action

Json: TypeAlias = dict[str, Any]
LABEL = "chosen"
SELECTOR = f"{LABEL}=yes"
NAMES = tuple(f"w{number}" for number in range(6))
MERGE_PATCH = "application/merge-patch+json"


class WidgetSpec(KubeModel):
    """What a widget wants."""

    size: int = 0


class WidgetStatus(KubeModel):
    """What a widget has."""

    size: int = 0


class Widget(Resource, group="histories.example.com", version="v1"):
    """What the histories are about."""

    spec: WidgetSpec = WidgetSpec()
    status: WidgetStatus | None = None
    crd: ClassVar[CRDOptions] = CRDOptions()


CRD = custom_resource_definition(Widget)


@dataclass(frozen=True)
class Write:
    """Somebody writes."""

    op: Literal["create", "update", "status", "delete", "recreate", "relabel"]
    name: str


@dataclass(frozen=True)
class Break:
    """The next request of that verb, after those that are doomed already, goes wrong."""

    verb: Literal["watch", "list"]
    action: Action


@dataclass(frozen=True)
class Cut:
    """Every watch that is open ends now."""

    how: Literal["reset", "close", "expire"]


@dataclass(frozen=True)
class Happen:
    """Something else: history is compacted, the kind goes or comes, a handler comes late."""

    what: Literal["compact", "kind goes", "kind comes", "handler comes"]


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


Step: TypeAlias = Write | Break | Cut | Happen | Wait

_ENDS: tuple[Action, ...] = (
    *(CutWatch(after, how) for how in ("reset", "close", "expire") for after in (0, 1, 2, 5)),
    *(CutWatch(after, how, torn=True) for how in ("reset", "close") for after in (0, 2)),
    *(CutWatch(after, "silence") for after in (0, 1, 4)),
    *(FailWatch(version_expired("Gone"), after) for after in (0, 3)),
    *(
        FailWatch(error, 2)
        for error in (throttled(2), Refuse(500), version_too_large(), version_too_large(legacy=True))
    ),
    *(Alter("double", nth, times) for nth, times in ((1, None), (2, 1), (3, 4))),
    *(Alter("double", event=event, times=None) for event in ("DELETED", "BOOKMARK")),
    Alter("repeat", event="DELETED", times=None),
    *(Alter("repeat", nth, times) for nth, times in ((1, None), (2, 2))),
    *(Alter("malformed", nth) for nth in (1, 3)),
    *(Alter(how, event=event) for how in ("without_uid", "other_kind") for event in ("MODIFIED", "DELETED")),
    Trickle(40, 0.001),
)
_REFUSALS: tuple[Action, ...] = (
    *(version_expired(), version_expired("Gone"), version_too_large(), version_too_large(legacy=True)),
    *(throttled(1), Refuse(500), Refuse(503, "ServiceUnavailable"), Refuse(403, "Forbidden")),
    *(Drop(), Drop(sent=False), Delay(0.3), Hang()),
)
WRITES: tuple[Step, ...] = tuple(
    Write(op, name) for op in ("create", "update", "status", "delete", "recreate", "relabel") for name in NAMES
)
BREAKS: tuple[Step, ...] = (
    *(Break("watch", action) for action in (*_ENDS, *_REFUSALS)),
    *(Break("list", action) for action in (*_REFUSALS, CutAnswer(), Alter("malformed"), Drop(handled=True))),
)
CUTS: tuple[Step, ...] = (Cut("reset"), Cut("close"), Cut("expire"))
HAPPENINGS: tuple[Step, ...] = (
    *(Happen("compact"), Happen("compact"), Happen("kind goes"), Happen("kind comes"), Happen("handler comes")),
)
WAITS: tuple[Step, ...] = tuple(Wait(seconds) for seconds in (0.0, 0.003, 0.01, 0.5, 3.0, 40.0))
TABLES: tuple[tuple[Step, ...], ...] = (*(WRITES,) * 8, *(BREAKS,) * 2, CUTS, HAPPENINGS)
"""What to draw from, as often as it is to come; and time passes."""


class World(Protocol):
    """A server that history happens to."""

    faults: Faults

    async def request(
        self, method: str, path: str, body: Json | None = None, content_type: str = "application/json"
    ) -> Json | None:
        """Writes, past everything that breaks; None when it is refused."""

    def cut(self, how: Literal["reset", "close", "expire"]) -> None:
        """Ends every open watch."""

    def compact(self) -> None:
        """Forgets old versions, where that can be done."""

    async def set_served(self, served: bool) -> None:
        """Has the kind come or go; returns when that is done."""

    async def objects(self) -> list[Json]:
        """What there is, past everything that breaks."""


@dataclass
class Truth:
    """What has happened, as far as a consumer may hear of it.

    Attributes:
        leaves: how many times each uid has been deleted, or has left the selection.
    """

    leaves: Counter[str] = field(default_factory=Counter)


class History:
    """Plays steps against a world.

    Args:
        world: where.
        namespace: of the objects.
    """

    def __init__(self, world: World, namespace: str) -> None:
        self.all, self.selected = Truth(), Truth()
        self.served = True
        self.handler_comes: Callable[[], object] = lambda: None
        self._world = world
        self._path = Widget.resource_type.path(namespace)
        self._objects: dict[str, Json] = {}
        self._writes = 0

    async def play(self, steps: Sequence[Step]) -> None:
        """All steps, one after the other."""
        for step in steps:
            await self._play(step)

    async def settle(self) -> None:
        """From now on nothing breaks."""
        self._world.faults.clear()
        await self._serve(True)

    async def _play(self, step: Step) -> None:
        match step:
            case Write(op, name):
                await self._write(op, name)
            case Break(verb, action):
                pending = sum(not fault.has_hit for fault in self._world.faults if fault.verb == verb)
                self._world.faults.add(Fault(action, verb=verb, resource="widgets", nth=1 + pending))
            case Cut(how):
                self._world.cut(how)
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Happen("compact"):
                self._world.compact()
            case Happen("handler comes"):
                self.handler_comes()
            case Happen(what):
                await self._serve(what == "kind comes")
            case _:
                pass

    async def _serve(self, served: bool) -> None:
        if served != self.served:
            for name in list(self._objects) if not served else ():
                self._leaves(name)
            await self._world.set_served(served)
            self.served = served

    async def _write(self, op: str, name: str) -> None:
        self._writes += 1
        if not self.served:
            # Else most of a history would be of nothing.
            await self._serve(self._writes % 3 == 0)
            return
        match op if name in self._objects else "create":
            case "create" if name not in self._objects:
                await self._create(name)
            case "create" | "update":
                await self._patch(name, "", {"spec": {"size": self._writes}})
            case "status":
                await self._patch(name, "/status", {"status": {"size": self._writes}})
            case "relabel":
                chosen = self._is_chosen(name)
                self.selected.leaves[self._uid(name)] += chosen
                await self._patch(name, "", {"metadata": {"labels": {LABEL: "no" if chosen else "yes"}}})
            case "delete" | "recreate":
                self._leaves(name)
                await self._world.request("DELETE", f"{self._path}/{name}")
                if op == "recreate":
                    await self._create(name)

    async def _create(self, name: str) -> None:
        labels = {LABEL: "yes" if self._writes % 2 else "no"}
        body = {
            "apiVersion": Widget.resource_type.api_version,
            "kind": Widget.resource_type.kind,
            "metadata": {"name": name, "labels": labels},
            "spec": {"size": self._writes},
        }
        self._keep(name, await self._world.request("POST", self._path, body))

    async def _patch(self, name: str, part: str, patch: Json) -> None:
        self._keep(name, await self._world.request("PATCH", f"{self._path}/{name}{part}", patch, MERGE_PATCH))

    def _keep(self, name: str, obj: Json | None) -> None:
        assert obj is not None, f"{name}: nobody else writes here"
        self._objects[name] = obj

    def _leaves(self, name: str) -> None:
        # Before the request: a handler may hear of it before the answer.
        self.all.leaves[self._uid(name)] += 1
        self.selected.leaves[self._uid(name)] += self._is_chosen(name)
        del self._objects[name]

    def _uid(self, name: str) -> str:
        uid: str = self._objects[name]["metadata"]["uid"]
        return uid

    def _is_chosen(self, name: str) -> bool:
        return is_chosen(self._objects[name])


def is_chosen(obj: Json) -> bool:
    """Whether the selector selects it."""
    chosen: bool = obj["metadata"]["labels"][LABEL] == "yes"
    return chosen


def random_steps(seed: int, count: int, *, waits: Sequence[Step] = WAITS) -> list[Step]:
    """A history for a seed: mostly writes."""
    rng = random.Random(seed)
    return [rng.choice(rng.choice((*TABLES, waits, waits))) for _ in range(count)]
