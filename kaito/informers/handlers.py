"""Handlers: what those who listen to an informer are told, and their place at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from kaito.informers.entry import Entry
from kaito.informers.mailbox import Mailbox
from kaito.informers.store import Change
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

if TYPE_CHECKING:
    from kaito.informers.informer import Informer

R = TypeVar("R", bound=Resource)


class InformerEvent(NamedTuple, Generic[R]):
    """A change as handlers see it.

    Attributes:
        informer: where it comes from; decodes entries on demand.
        change: what happened.
        initial: True for what was there when the informer (or this handler) began, and for what a relist found.
    """

    informer: Informer[R]
    change: Change
    initial: bool

    @property
    def key(self) -> ObjectKey:
        """The object's key."""
        return self.informer.object_key(self.change.key)

    @property
    def old(self) -> R | None:
        """The object before, decoded now."""
        return None if self.change.old is None else self.informer.decode(self.change.old)

    @property
    def new(self) -> R | None:
        """The object after, decoded now."""
        return None if self.change.new is None else self.informer.decode(self.change.new)

    @property
    def entry(self) -> Entry:
        """The newest entry that there is: the new one, or the last one of a deleted object."""
        entry = self.change.new or self.change.old
        assert entry is not None
        return entry


EventHandler = Callable[[InformerEvent[R]], None]
"""Told of each change, in order; must be quick and must not block (put a key into a queue)."""

SlowEventHandler = Callable[[InformerEvent[R]], Awaitable[None]]
"""Told of each object's newest change, one after the other; may take its time."""


class Syncing(Protocol):
    """What comes to be synced: an informer."""

    @property
    def synced(self) -> bool:
        """Whether it is."""
        ...

    async def wait_synced(self) -> None:
        """Waits until it is."""
        ...


class Registration:
    """A handler's place at an informer.

    Args:
        remove: takes it away.
        mailbox: what it has yet to hear, if it is a slow one.
        informer_synced: what tells and waits for whether the informer is synced.
    """

    def __init__(self, remove: Callable[[], None], mailbox: Mailbox | None, informer: Syncing) -> None:
        self._remove = remove
        self._mailbox = mailbox
        self._informer = informer

    @property
    def synced(self) -> bool:
        """Whether this handler has dealt with all that was there when it began."""
        return self._informer.synced if self._mailbox is None else self._mailbox.synced

    @property
    def backlog(self) -> int:
        """How many objects it has yet to hear of."""
        return 0 if self._mailbox is None else len(self._mailbox)

    async def wait_synced(self) -> None:
        """Waits, without a limit, until `synced`."""
        await (self._informer.wait_synced() if self._mailbox is None else self._mailbox.wait_synced())

    def remove(self) -> None:
        """Removes the handler, which hears nothing more; a slow one is cancelled. Safe to call twice."""
        self._remove()
