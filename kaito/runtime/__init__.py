"""Work on keys: queue, controller, manager; health, metrics and logs; applying intent."""

from kaito.runtime.access import Access
from kaito.runtime.apply import AppliedIntent, Applier, ApplyOutcome, NotOurs
from kaito.runtime.controller import Controller
from kaito.runtime.elections import BeforeWork, Elections
from kaito.runtime.manager import Manager
from kaito.runtime.ratelimit import ExponentialRateLimiter, RateLimiter
from kaito.runtime.reconciler import DONE, KeyReconciler, ReconcileError, Reconciler, Result, TerminalError
from kaito.runtime.running import Phase
from kaito.runtime.service import Runnable, Service, Stage
from kaito.runtime.signals import run_until_signal, stopped_by_signals
from kaito.runtime.watch import Watch
from kaito.runtime.workqueue import LOW_PRIORITY, WorkQueue

__all__ = [
    "DONE",
    "LOW_PRIORITY",
    "Access",
    "AppliedIntent",
    "Applier",
    "ApplyOutcome",
    "BeforeWork",
    "Controller",
    "Elections",
    "ExponentialRateLimiter",
    "KeyReconciler",
    "Manager",
    "NotOurs",
    "Phase",
    "RateLimiter",
    "ReconcileError",
    "Reconciler",
    "Result",
    "Runnable",
    "Service",
    "Stage",
    "TerminalError",
    "Watch",
    "WorkQueue",
    "run_until_signal",
    "stopped_by_signals",
]
