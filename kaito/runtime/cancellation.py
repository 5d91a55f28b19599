"""Cancellation: why a reconcile is being cancelled, for the reconciler that must clean up."""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

from kaito.client.transport import Request


class CancelReason(StrEnum):
    """Why a reconcile is cancelled."""

    SHUTDOWN = "shutdown"
    """Its controller stops, and the grace is over."""
    TIMEOUT = "timeout"
    """It took longer than its controller's `reconcile_timeout`."""
    LEADERSHIP_LOST = "leadership lost"
    """Another may lead now: nothing may be written any more."""


class Work(Protocol):
    """What a worker is doing.

    Attributes:
        wrote: the last write of the reconcile in progress.
    """

    wrote: Request | None

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why it is being cancelled, or None: it is not."""
        ...


current_work: ContextVar[Work] = ContextVar("kaito_current_work")
"""The worker, within it and the tasks that its reconciles start."""


def cancel_reason() -> CancelReason | None:
    """Why the reconcile that calls this (or started the calling task) is being cancelled; None: it is not.

    A reconciler that catches `asyncio.CancelledError` while this is None sees that of something it waited for.
    """
    work = current_work.get(None)
    return work.cancel_reason if work is not None else None
