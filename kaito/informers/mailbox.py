"""Mailbox: what a handler that takes its time has yet to hear; one letter per object, however often it changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from kaito.informers.entry import Entry
from kaito.informers.store import Change

log = logging.getLogger(__name__)

Deliver = Callable[[Change, bool], Awaitable[None]]
"""Handles a change; the flag says that it is initial."""


class _Letter(NamedTuple):
    """What became of one object since its handler last heard of it.

    Attributes:
        before: the entry that the handler knows; None: it knows of none.
        last: the last change.
        initial: whether the handler hears of it for the first time, from a list.
    """

    before: Entry | None
    last: Change
    initial: bool


class Mailbox:
    """Collects changes by key and hands them to a slow handler one after the other, oldest key first.

    What happens to an object while its last change waits is put together with it: the handler sees the newest state
    and no object twice, so what waits is bounded by the number of objects. An object that came and went meanwhile is
    not told of; one that went and came again is told of as a deletion and an addition.

    Args:
        deliver: the handler. What it raises is logged and counted; the next change follows.

    Attributes:
        errors: how often the handler raised.
    """

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._letters: dict[str, _Letter] = {}
        self._news = asyncio.Event()
        self._initial: set[str] | None = None
        self._synced = asyncio.Event()
        self.errors = 0

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def synced(self) -> bool:
        """Whether the handler has dealt with all that was there when it began."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Waits, without a limit, until `synced`."""
        await self._synced.wait()

    def put(self, changes: Iterable[Change], *, initial: bool) -> None:
        """Takes changes in, in their order."""
        for change in changes:
            waiting = self._letters.get(change.key)
            before = waiting.before if waiting is not None else change.old
            if before is None and change.new is None:
                # It came and went unseen.
                del self._letters[change.key]
                self._dealt_with(change.key)
                continue
            first = waiting.initial if waiting is not None else initial
            self._letters[change.key] = _Letter(before, change, first)
        if self._letters:
            self._news.set()

    def all_is_listed(self) -> None:
        """What waits now is what was there at the beginning; once that is dealt with, the handler is synced."""
        if self._initial is None:
            self._initial = set(self._letters)
            if not self._initial:
                self._synced.set()

    async def run(self) -> None:
        """Delivers until cancelled. What was being delivered then is delivered again by the next run."""
        while True:
            while self._letters:
                key = next(iter(self._letters))
                await self._hand_over(self._letters.pop(key))
                self._dealt_with(key)
            self._news.clear()
            await self._news.wait()

    async def _hand_over(self, letter: _Letter) -> None:
        for change in _told(letter):
            try:
                await self._deliver(change, letter.initial)
            except asyncio.CancelledError:
                self._put_back(letter)
                raise
            except Exception:
                self.errors += 1
                log.exception("event handler failed", extra={"key": letter.last.key})

    def _put_back(self, letter: _Letter) -> None:
        newer = self._letters.pop(letter.last.key, None)
        last = newer.last if newer is not None else letter.last
        if letter.before is not None or last.new is not None:
            self._letters[letter.last.key] = _Letter(letter.before, last, letter.initial)
            self._news.set()
        else:
            self._dealt_with(letter.last.key)

    def _dealt_with(self, key: str) -> None:
        if self._initial is None or self.synced:
            return
        self._initial.discard(key)
        if not self._initial:
            self._synced.set()


def _told(letter: _Letter) -> Iterable[Change]:
    """The changes, one or two, that lead a handler from what it knows to what is."""
    key, before, last = letter.last.key, letter.before, letter.last
    new = last.new
    if before is None:
        return (Change("added", key, None, new),)
    if new is not None and new.uid == before.uid:
        return (Change("updated", key, before, new),)
    gone = last.old if new is None and last.old is not None and last.old.uid == before.uid else before
    deletion = Change("deleted", key, gone, None)
    return (deletion,) if new is None else (deletion, Change("added", key, None, new))
