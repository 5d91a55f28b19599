"""Work on keys: queue, controller, manager; health, metrics and logs; applying intent."""

from kaito.runtime.apply import AppliedIntent, Applier, ApplyOutcome, NotOurs
from kaito.runtime.controller import Controller
from kaito.runtime.manager import Manager, Runnable
from kaito.runtime.ratelimit import ExponentialRateLimiter, RateLimiter
from kaito.runtime.reconciler import DONE, KeyReconciler, ReconcileError, Reconciler, Result, TerminalError
from kaito.runtime.watch import Access, Watch
from kaito.runtime.workqueue import LOW_PRIORITY, WorkQueue

__all__ = [
    "DONE",
    "LOW_PRIORITY",
    "Access",
    "AppliedIntent",
    "Applier",
    "ApplyOutcome",
    "Controller",
    "ExponentialRateLimiter",
    "KeyReconciler",
    "Manager",
    "NotOurs",
    "RateLimiter",
    "ReconcileError",
    "Reconciler",
    "Result",
    "Runnable",
    "TerminalError",
    "Watch",
    "WorkQueue",
]
