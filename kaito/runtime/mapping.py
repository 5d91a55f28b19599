"""Mapping: from events of watched objects to the keys that they concern; what fails is kept and tried again."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Generic, TypeVar

from kaito.kube.object_key import ObjectKey
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.cells import Count
from kaito.runtime.error_policy import is_power_of_two
from kaito.runtime.ratelimit import ExponentialRateLimiter
from kaito.runtime.reconciler import is_about_the_process

S = TypeVar("S")

log = logging.getLogger(__name__)

KeyMap = Callable[[Any], Iterable[ObjectKey] | Awaitable[Iterable[ObjectKey]]]
"""From an object to the keys that it concerns."""

Add = Callable[[ObjectKey, "Letter[Any]"], None]
"""Takes a key and the event that it comes from."""

MAX_BETWEEN = 16
"""States of an object between its oldest and its newest that are kept while its map does not work."""

CONCURRENCY = 8
TIMEOUT_S = 30.0
FIRST_RETRY_S = 0.1
RETRY_CAP_S = 60.0
GONE_ATTEMPTS = 10
"""So often, over some two minutes, a map is tried with an object that is gone: of those there may be ever more."""
ALL_AFTER_S = 60.0


@dataclass(slots=True)
class Letter(Generic[S]):
    """What happened to one object since its map worked last.

    Attributes:
        old: its state then; None: it was not there.
        new: its newest state; None: it is gone.
        initial: whether all of it comes from lists.
        since: when the first of it happened; a time of the loop.
        between: the latest states in between: a key that one of them concerned may have been reconciled while it did,
            and must hear that it does so no more.
        is_whole: False once there were more of them than are kept.
    """

    old: S | None
    new: S | None
    initial: bool
    since: float
    between: tuple[S, ...] = ()
    is_whole: bool = True

    @property
    def states(self) -> Iterable[S]:
        """All that are kept, oldest first."""
        return (state for state in (self.old, *self.between, self.new) if state is not None)

    def put_before(self, later: Letter[S]) -> None:
        """Makes one of this and of what came later."""
        between = (*self.between, *(() if self.new is None else (self.new,)), *later.between)
        later.old, later.since, later.initial = self.old, self.since, self.initial and later.initial
        later.between = between[-MAX_BETWEEN:]
        later.is_whole = self.is_whole and later.is_whole and len(between) <= MAX_BETWEEN


class Mapper(Generic[S]):
    """Runs one watch's map over its events.

    A map that returns at once is called at once. One that is async runs beside, for some objects at a time and for one
    object once at a time. An event whose map fails (raises, takes more than 30 s, returns anything but keys) is kept
    and tried again, after 0.1 s and ever later up to a minute, or when the object's next event comes. The two are put
    together: the oldest old and the newest new state are kept, and some between; if there were more, all keys are added
    once the map works. An object that is gone is given up in the end: then all keys are added, once a minute at most.
    What is kept is so bounded by the number of objects.

    Args:
        name: of the watch, for messages.
        call: the map, asked for both the old and the new state.
        read: makes what `call` takes of a state; None: it cannot be read, and concerns nobody.
        add: takes the keys.
        add_all: adds all keys that there are.
        errors: counts failures.
        rng: source of jitter.
    """

    def __init__(
        self,
        name: str,
        call: KeyMap,
        read: Callable[[S], object | None],
        add: Add,
        add_all: Callable[[], None],
        errors: Count,
        rng: random.Random,
    ) -> None:
        self._name = name
        self._call = call
        self._read = read
        self._add = add
        self._add_all = add_all
        self._errors = errors
        self._delays: ExponentialRateLimiter[Hashable] = ExponentialRateLimiter(FIRST_RETRY_S, RETRY_CAP_S, rng=rng)
        self._is_async = iscoroutinefunction(call)
        self._letters: dict[Hashable, Letter[S]] = {}
        self._busy: set[Hashable] = set()
        self._queue: AsyncQueue[Hashable] = AsyncQueue()
        self._context = contextvars.copy_context()
        self._tasks: list[asyncio.Task[None]] = []
        self._room: asyncio.Event = asyncio.Event()
        self._all: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many objects' events have no keys yet."""
        return len(self._letters) + len(self._busy)

    def offer(self, identity: Hashable, letter: Letter[S]) -> None:
        """Takes an event of an object, in order."""
        waiting = self._letters.get(identity)
        if waiting is not None:
            waiting.put_before(letter)
        elif not self._is_async and identity not in self._busy:
            if self._try_now(identity, letter):
                return
            if not self._is_async:
                self._keep(identity, letter)
                self._queue.add_after(identity, self._delays.delay_s(identity))
                return
        self._keep(identity, letter)
        self._queue.add(identity)

    async def wait_room(self, limit: int) -> None:
        """Waits until fewer events than a limit are kept."""
        while len(self) >= limit:
            self._room.clear()
            await self._room.wait()

    async def aclose(self) -> None:
        """Forgets everything; maps in progress are cancelled."""
        self._queue.close()
        self._letters.clear()
        if self._all is not None:
            self._all.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _keep(self, identity: Hashable, letter: Letter[S]) -> None:
        self._letters[identity] = letter
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._work(), name=f"{self._name} map", context=self._context.copy())
                for _ in range(CONCURRENCY)
            ]

    def _try_now(self, identity: Hashable, letter: Letter[S]) -> bool:
        try:
            answers = [self._call(obj) for obj in self._objects(letter)]
            if any(isawaitable(answer) for answer in answers):
                # No coroutine function, but it returns what must be awaited: it is asked again where that can be done.
                self._is_async = True
                _discard(answers)
                return False
            self._hand_on(letter, answers)
        except BaseException as error:
            if is_about_the_process(error):
                raise
            self._failed(identity, error)
            return False
        return True

    async def _work(self) -> None:
        while (item := await self._queue.get()) is not None:
            identity = item.key
            letter = self._letters.pop(identity)
            self._busy.add(identity)
            try:
                await self._map(identity, letter)
            finally:
                self._busy.discard(identity)
                self._queue.done(identity)
                self._room.set()

    async def _map(self, identity: Hashable, letter: Letter[S]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._hand_on(letter, [await _answer(self._call(obj)) for obj in self._objects(letter)])
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            if is_about_the_process(error):
                raise
            self._failed(identity, error)
            self._put_back(identity, letter)
        else:
            self._delays.forget(identity)

    def _put_back(self, identity: Hashable, letter: Letter[S]) -> None:
        later = self._letters.get(identity)
        if later is not None:
            # It is in the queue already, and tried at once.
            letter.put_before(later)
            return
        if letter.new is None and self._delays.failures(identity) >= GONE_ATTEMPTS:
            self._give_up(identity)
            return
        self._letters[identity] = letter
        self._queue.add_after(identity, self._delays.delay_s(identity))

    def _give_up(self, identity: Hashable) -> None:
        self._delays.forget(identity)
        if self._all is None:
            fields = {"watch": self._name, "of": str(identity)}
            log.warning("map of a watch fails for objects that are gone: all keys are added instead", extra=fields)
            self._all = asyncio.get_running_loop().call_later(ALL_AFTER_S, self._add_all_instead)

    def _add_all_instead(self) -> None:
        self._all = None
        self._add_all()

    def _failed(self, identity: Hashable, error: BaseException) -> None:
        self._errors.inc()
        times = int(self._errors.value)
        level = logging.ERROR if is_power_of_two(times) else logging.DEBUG
        fields = {"watch": self._name, "of": str(identity), "error": str(error) or repr(error), "times": times}
        log.log(level, "map of a watch failed, to be tried again", extra=fields, exc_info=error)

    def _hand_on(self, letter: Letter[S], answers: Iterable[object]) -> None:
        for key in sorted({key for answer in answers for key in self._keys(answer)}, key=str):
            self._add(key, letter)
        if not letter.is_whole:
            self._add_all()

    def _keys(self, answer: object) -> Iterable[ObjectKey]:
        if isinstance(answer, (str, bytes, ObjectKey)) or not isinstance(answer, Iterable):
            raise TypeError(f"{self._name}: its map returned {answer!r}; return a list of ObjectKeys, perhaps empty")
        found = tuple(answer)
        for key in found:
            if not isinstance(key, ObjectKey):
                raise TypeError(f"{self._name}: its map returned {key!r} among its keys; return ObjectKeys only")
        return found

    def _objects(self, letter: Letter[S]) -> Iterable[object]:
        """The old and the new object (and those between), as far as they are there and can be read."""
        for state in letter.states:
            if (obj := self._read(state)) is not None:
                yield obj


async def _answer(called: object) -> object:
    return await called if isawaitable(called) else called


def _discard(answers: Iterable[object]) -> None:
    for answer in answers:
        if asyncio.iscoroutine(answer):
            answer.close()
