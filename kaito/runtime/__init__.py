"""Work on keys: queue, controller, manager; health, metrics and logs; applying intent."""

from kaito.runtime.access import Access
from kaito.runtime.apply import AppliedIntent, Applier, ApplyOutcome, NotOurs
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.controller import Controller
from kaito.runtime.election import LeaderElection, check_leadership, run_in_fence
from kaito.runtime.elections import BeforeWork, Elections
from kaito.runtime.manager import Manager
from kaito.runtime.ratelimit import (
    BucketRateLimiter,
    ExponentialRateLimiter,
    FastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimiter,
)
from kaito.runtime.reconciler import DONE, KeyReconciler, ReconcileError, Reconciler, Result, TerminalError
from kaito.runtime.running import Phase
from kaito.runtime.service import Runnable, Service, Stage
from kaito.runtime.signals import run_until_signal, stopped_by_signals
from kaito.runtime.watch import Watch
from kaito.runtime.workqueue import LOW_PRIORITY, Item, QueuedKey, QueueSnapshot, WorkQueue

__all__ = [
    "DONE",
    "LOW_PRIORITY",
    "Access",
    "AppliedIntent",
    "Applier",
    "ApplyOutcome",
    "AsyncQueue",
    "BeforeWork",
    "BucketRateLimiter",
    "Controller",
    "Elections",
    "ExponentialRateLimiter",
    "FastSlowRateLimiter",
    "Item",
    "KeyReconciler",
    "LeaderElection",
    "Manager",
    "MaxOfRateLimiter",
    "NotOurs",
    "Phase",
    "QueueSnapshot",
    "QueuedKey",
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
    "check_leadership",
    "run_in_fence",
    "run_until_signal",
    "stopped_by_signals",
]
