"""Work on keys: queue, controller, manager; health, metrics and logs; applying intent."""

from kaito.runtime.access import Access
from kaito.runtime.apply import AppliedIntent, Applier, ApplyOutcome, NotOurs
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.cancellation import CancelReason, cancel_reason
from kaito.runtime.channel import Channel
from kaito.runtime.controller import Controller
from kaito.runtime.election import LeaderElection, check_leadership, run_in_fence
from kaito.runtime.elections import BeforeWork, Elections
from kaito.runtime.error_policy import ErrorAction, ErrorPolicy, default_error_policy
from kaito.runtime.events import EventRecorder
from kaito.runtime.finalizers import drop_finalizer, ensure_finalizer
from kaito.runtime.logs import reconcile_id
from kaito.runtime.manager import Manager
from kaito.runtime.owners import AlreadyOwned, controller_of, with_owner, without_owner
from kaito.runtime.predicates import (
    Predicate,
    and_,
    annotations_changed,
    condition_changed,
    deletion_started,
    field_changed,
    generation_changed,
    labels_changed,
    matches_labels,
    not_,
    object_matches,
    or_,
    resource_version_changed,
    spec_changed,
    update_matches,
)
from kaito.runtime.process import run_process
from kaito.runtime.program import ManagerOptions, run_program
from kaito.runtime.ratelimit import (
    BucketRateLimiter,
    ExponentialRateLimiter,
    FastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimiter,
)
from kaito.runtime.reconciler import (
    DONE,
    KeyReconciler,
    NoException,
    ReconcileError,
    Reconciler,
    ReconcileTimeout,
    Result,
    StrayCancellation,
    TerminalError,
)
from kaito.runtime.running import Phase
from kaito.runtime.service import Runnable, Service, Stage
from kaito.runtime.signals import run_until_signal, stopped_by_signals
from kaito.runtime.watch import Owned, Watch
from kaito.runtime.workqueue import LOW_PRIORITY, Item, QueuedKey, QueueSnapshot, WorkQueue

__all__ = [
    "DONE",
    "LOW_PRIORITY",
    "Access",
    "AlreadyOwned",
    "AppliedIntent",
    "Applier",
    "ApplyOutcome",
    "AsyncQueue",
    "BeforeWork",
    "BucketRateLimiter",
    "CancelReason",
    "Channel",
    "Controller",
    "Elections",
    "ErrorAction",
    "ErrorPolicy",
    "EventRecorder",
    "ExponentialRateLimiter",
    "FastSlowRateLimiter",
    "Item",
    "KeyReconciler",
    "LeaderElection",
    "Manager",
    "ManagerOptions",
    "MaxOfRateLimiter",
    "NoException",
    "NotOurs",
    "Owned",
    "Phase",
    "Predicate",
    "QueueSnapshot",
    "QueuedKey",
    "RateLimiter",
    "ReconcileError",
    "ReconcileTimeout",
    "Reconciler",
    "Result",
    "Runnable",
    "Service",
    "Stage",
    "StrayCancellation",
    "TerminalError",
    "Watch",
    "WorkQueue",
    "and_",
    "annotations_changed",
    "cancel_reason",
    "check_leadership",
    "condition_changed",
    "controller_of",
    "default_error_policy",
    "deletion_started",
    "drop_finalizer",
    "ensure_finalizer",
    "field_changed",
    "generation_changed",
    "labels_changed",
    "matches_labels",
    "not_",
    "object_matches",
    "or_",
    "reconcile_id",
    "resource_version_changed",
    "run_in_fence",
    "run_process",
    "run_program",
    "run_until_signal",
    "spec_changed",
    "stopped_by_signals",
    "update_matches",
    "with_owner",
    "without_owner",
]
