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
    """How a reconcile ended well.

    Attributes:
        requeue_after: come back after this time even if nothing happens; None: only when something does.
        priority: of that coming back; None keeps the one the key had.
    """

    requeue_after: timedelta | None = None
    priority: int | None = None


DONE = Result()
"""Nothing more to do until something changes."""


class TerminalError(Exception):
    """Trying again does not help until something changes: no retry is scheduled."""


class ReconcileError(Exception):
    """A reconcile failed in a way that its author foresaw: tried again, and logged without a traceback.

    Attributes:
        retry_after_s: seconds to wait at least, or None.
    """

    retry_after_s: float | None = None


class Reconciler(Protocol, Generic[R_contra]):
    """Moves the world one step towards what one object asks for.

    A reconcile is told which object, never why: it reads the world, does what is missing, and can be killed between any
    two API calls and run again. Raising anything means "try again later", with a delay that doubles.
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
