"""Reconciler: what a controller's author writes; and the outcomes a reconcile can have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R_contra = TypeVar("R_contra", bound=Resource, contravariant=True)


@dataclass(frozen=True, slots=True)
class Result:
    """How a reconcile ended well. One that raises has no result: what it raised decides.

    Attributes:
        requeue_after: come back after this time even if nothing happens; None: only when something does. What happens
            earlier replaces it. The failures so far are forgotten.
        priority: of that coming back; None keeps the one the key had.
        jitter: share of `requeue_after` that is added at random, 0 to 1, so that keys that came together do not come
            back together.

    Raises:
        TypeError: an attribute is of another type.
        ValueError: `requeue_after` is negative, or `jitter` not within 0 and 1.
    """

    requeue_after: timedelta | None = None
    priority: int | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what cannot be meant, where the reconciler's traceback shows it."""
        after, priority, jitter = self.requeue_after, self.priority, self.jitter
        if after is not None and not isinstance(after, timedelta):
            raise TypeError(f"Result: requeue_after is {after!r}; give a timedelta, such as timedelta(seconds=30)")
        if after is not None and after < timedelta():
            raise ValueError(f"Result: requeue_after is {after}; give a time that is not negative, or None")
        if priority is not None and (isinstance(priority, bool) or not isinstance(priority, int)):
            raise TypeError(f"Result: priority is {priority!r}; give an int, or None to keep the key's")
        if not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
            raise ValueError(f"Result: jitter is {jitter!r}; give a share from 0 to 1")


DONE = Result()
"""Nothing more to do until something changes."""


class TerminalError(Exception):
    """Trying again does not help until something changes: no retry is scheduled, and the failures so far stay."""


class ReconcileError(Exception):
    """A reconcile failed in a way that its author foresaw: tried again, and logged without a traceback.

    Attributes:
        retry_after_s: seconds to wait at least, or None.
    """

    retry_after_s: float | None = None


class ReconcileTimeout(ReconcileError):
    """A reconcile did not end within its controller's `reconcile_timeout`, and was cancelled."""


class NoException(Exception):
    """Something raised a BaseException that is no Exception; its cause is that."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"{cause!r}, which is no Exception, was raised")
        self.__cause__ = cause


def is_about_the_process(error: BaseException) -> bool:
    """Whether it is not the fault of the work in which it was raised: that one must be let through."""
    return isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit))


class StrayCancellation(Exception):
    """Something that a reconcile waited for was cancelled, but not the reconcile; its cause says where."""


class Reconciler(Protocol, Generic[R_contra]):
    """Moves the world one step towards what one object asks for.

    A reconcile is told which object, never why: it reads the world, does what is missing, and can be killed between any
    two API calls and run again. Raising an Exception means "try again later", with a delay that doubles, unless the
    controller's `on_error` says otherwise; it concerns that one key only. SystemExit and KeyboardInterrupt end the
    process, as they do in any task; what else is no Exception (a library written in Rust that panics raises such) is a
    `NoException`.
    """

    async def reconcile(self, obj: R_contra, /) -> Result:
        """Reconciles one object; it exists (perhaps marked for deletion) and cannot be changed.

        Raises:
            TerminalError: trying again does not help.
        """
        ...


class KeyReconciler(Protocol):
    """Like `Reconciler`, for work that is not one object's, or that must happen when the object is gone."""

    async def reconcile_key(self, key: ObjectKey, /) -> Result:
        """Reconciles a key.

        Raises:
            TerminalError: trying again does not help.
        """
        ...
