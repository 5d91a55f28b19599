"""Part: one list and watch of an informer (all namespaces, or one of those it was given), with its store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Protocol

from kaito.client.transport import Transport
from kaito.informers.list_watch import State
from kaito.informers.lister import SLICE
from kaito.informers.options import InformerOptions
from kaito.informers.reflector import Reflector
from kaito.informers.store import Change, Store
from kaito.kube.resource import Resource


class PartObserver(Protocol):
    """Who is told what becomes of a part: its informer."""

    def on_changes(self, part: Part, changes: tuple[Change, ...], *, initial: bool) -> None:
        """The part's store changed."""
        ...

    def on_replacing(self, part: Part) -> object:
        """A list is about to be told of; returns what `on_listed_changes` is given with each slice of it."""
        ...

    def on_listed_changes(self, part: Part, changes: tuple[Change, ...], present: object) -> None:
        """A slice of what a list changed."""
        ...

    def on_progress(self) -> None:
        """The part moved on."""
        ...


class Part:
    """Runs a reflector and keeps what is known of it. Made and run by `Informer`.

    Args:
        kind: the class of the objects.
        transport: how requests travel.
        namespace: one namespace, or None for all.
        options: the informer's.
        observer: who is told.
        rng: source of jitter.

    Attributes:
        store: the objects.
        state: what the reflector does.
        last_progress_at: when something last came, by the loop's clock.
        lists: how many lists have come in whole and been told of.
        listed: the number of the last of them, as the reflector counts those that it begins.
    """

    def __init__(
        self,
        kind: type[Resource],
        transport: Transport,
        namespace: str | None,
        options: InformerOptions,
        observer: PartObserver,
        rng: random.Random | None,
    ) -> None:
        self.namespace = namespace
        self._reader = options.reader(kind)
        self.store = Store(self._reader)
        self.state = State()
        self.last_progress_at: float | None = None
        self.lists = 0
        self.listed = 0
        self.reflector = Reflector(
            transport,
            kind.resource_type,
            self.store,
            self,
            namespace=namespace,
            labels=options.labels,
            fields=options.fields,
            list_mode=options.list_mode,
            accept=(kind.accept, kind.list_accept),
            rng=rng,
        )
        self._observer = observer
        self._scope: asyncio.Timeout | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def synced(self) -> bool:
        """Whether a list is in the store and handlers have been told of it."""
        return self.lists > 0

    @property
    def transform_errors(self) -> int:
        """How often the transform raised."""
        return self._reader.transform_errors

    def start(self, tasks: asyncio.TaskGroup, name: str) -> None:
        """Runs it in a task group."""
        self._task = tasks.create_task(self._run(), name=name)

    async def stop(self) -> None:
        """Ends its task and waits for that; its store stays as it is."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def list_anew(self) -> None:
        """Drops what is being done and begins with a new list, if it runs; if not, it begins with one anyway."""
        if self._scope is not None:
            # Refused by a scope that is ending already, for another caller of this.
            with suppress(RuntimeError):
                self._scope.reschedule(asyncio.get_running_loop().time())

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(None) as self._scope:
                    await self.reflector.run()
            except TimeoutError:
                # Not of a request, which the transport makes errors of its own of: `list_anew` ended the scope.
                continue
            finally:
                self._scope = None

    # What the reflector tells.

    def on_changes(self, changes: tuple[Change, ...]) -> None:
        """See `reflector.Observer`."""
        self._observer.on_changes(self, changes, initial=False)

    async def on_replaced(self, changes: Iterator[Change]) -> None:
        """See `reflector.Observer`. Cancelled, it tells the rest at once: the store has been swapped already."""
        present, begun = self._observer.on_replacing(self), self.reflector.begun
        try:
            while batch := tuple(islice(changes, SLICE)):
                self._observer.on_listed_changes(self, batch, present)
                await asyncio.sleep(0)
        finally:
            self._observer.on_listed_changes(self, tuple(changes), present)
        self.state = replace(self.state, error=None, dormant=False)
        self.lists += 1
        self.listed = begun
        self.on_progress()

    def on_progress(self) -> None:
        """See `reflector.Observer`."""
        self.last_progress_at = asyncio.get_running_loop().time()
        self._observer.on_progress()

    def on_state(self, state: State) -> None:
        """See `reflector.Observer`."""
        self.state = state
