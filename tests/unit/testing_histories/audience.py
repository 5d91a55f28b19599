"""Who listens to an informer while history happens, and what they may count on all the while."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from kaito.client.transport import Transport
from kaito.informers import Change, Entry, Informer, InformerEvent, InformerOptions
from tests.unit.testing_histories.history import SELECTOR, History, Json, Truth, Widget, is_chosen

Identity: TypeAlias = tuple[str, int]
"""uid and resourceVersion."""


class Consumer:
    """Hears of changes, and holds the informer to what it may count on."""

    def __init__(self, name: str, truth: Truth) -> None:
        self.name = name
        self.replica: dict[str, Identity] = {}
        self.content: dict[str, Json] = {}
        self.deletions: Counter[str] = Counter()
        self.broken: list[str] = []
        self._truth = truth

    def hear(self, event: InformerEvent[Widget]) -> None:
        """An event handler."""
        self.take(event.change)

    async def hear_slowly(self, event: InformerEvent[Widget]) -> None:
        """An event handler that takes its time."""
        await asyncio.sleep(0.05)
        self.take(event.change)

    def take(self, change: Change) -> None:
        """Checks a change and follows it. What is wrong is kept: an exception would only be logged."""
        have = self.replica.get(change.key)
        match change.type, change.old, change.new:
            case "added", None, Entry() as new:
                self._must(have is None, f"{change.key} added, but {have} is known")
                self._follow(change.key, new)
            case "updated", Entry(), Entry() as new:
                self._must(have is not None, f"{change.key} updated, and was never added")
                self._must(have is None or have[0] == new.uid, f"{change.key} updated into another object")
                self._must(have is None or have[1] < new.rv, f"{change.key} went back: {have} to {new.rv}")
                self._follow(change.key, new)
            case "deleted", Entry() as old, None:
                self._must(have is not None and have[0] == old.uid, f"{change.key} deleted as {old.uid}, was {have}")
                self.deletions[old.uid] += 1
                due = self._truth.leaves[old.uid]
                self._must(self.deletions[old.uid] <= due, f"{change.key} {old.uid} deleted, due: {due}")
                self.replica.pop(change.key, None)
                self.content.pop(change.key, None)
            case _:
                self._must(False, f"a change of no known form: {change}")

    def _follow(self, key: str, entry: Entry) -> None:
        self.replica[key] = (entry.uid, entry.rv)
        self.content[key] = json.loads(entry.raw)

    def _must(self, holds: bool, else_: str) -> None:
        if not holds:
            self.broken.append(f"{self.name}: {else_}")


class Audience:
    """Two informers of a world, one of a selection, and who listens to them: from the start, late, and slowly.

    Args:
        history: what happens.
        transport: how the informers see the server.
        options: of both informers; the selection's get the selector besides.
        seed: of jitter.
    """

    def __init__(self, history: History, transport: Transport, options: InformerOptions, seed: int) -> None:
        self.whole = Informer(Widget, transport, options, rng=random.Random(seed))
        selected = replace(options, labels=SELECTOR)
        self.selection = Informer(Widget, transport, selected, rng=random.Random(seed + 1))
        self.consumers: list[tuple[Consumer, Informer[Widget]]] = []
        self._history = history
        for name, informer, truth in (("first", self.whole, history.all), ("chosen", self.selection, history.selected)):
            informer.add_handler(self._consumer(name, informer, truth).hear)
        self.whole.subscribe(self._consumer("slow", self.whole, history.all).hear_slowly)
        history.handler_comes = self.come_late

    def come_late(self) -> None:
        """Another handler, of either sort, comes; the first time that this is called."""
        self._history.handler_comes = lambda: None
        self.whole.add_handler(self._consumer("late", self.whole, self._history.all).hear)
        self.selection.subscribe(self._consumer("late, slow", self.selection, self._history.selected).hear_slowly)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Within it the informers run; they must still do so at the end."""
        tasks = [asyncio.create_task(informer.run()) for informer in (self.whole, self.selection)]
        try:
            yield
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def check(self, objects: Sequence[Json]) -> None:
        """Caches and consumers are where the server is, and nobody was told wrong on the way."""
        for consumer, informer in self.consumers:
            real = objects if informer is self.whole else [obj for obj in objects if is_chosen(obj)]
            assert consumer.broken == []
            cached = {key: (entry.uid, entry.rv) for key, entry in informer.store.items()}
            assert consumer.replica == cached == _identities(real), consumer.name
            assert consumer.content == _contents(real), consumer.name

    def _consumer(self, name: str, informer: Informer[Widget], truth: Truth) -> Consumer:
        made = Consumer(name, truth)
        self.consumers.append((made, informer))
        return made


def _identities(objects: Sequence[Json]) -> dict[str, Identity]:
    return {
        f"{obj['metadata']['namespace']}/{obj['metadata']['name']}": (
            obj["metadata"]["uid"],
            int(obj["metadata"]["resourceVersion"]),
        )
        for obj in objects
    }


def _contents(objects: Sequence[Json]) -> dict[str, Json]:
    whole = {}
    for obj in objects:
        metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
        whole[f"{metadata['namespace']}/{metadata['name']}"] = {**obj, "metadata": metadata}
    return whole
