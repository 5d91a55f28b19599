"""List and watch as a pure state machine: what a reflector does next, given how its last step went."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from kaito.client.errors import (
    ApiError,
    Forbidden,
    Gone,
    KubeError,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    TransportError,
)
from kaito.informers.entry import UnreadableObject

# client-go: 0.8 s to 30 s, doubled, times a jitter of 1 to 2.
BACKOFF_FIRST_S = 0.8
BACKOFF_CAP_S = 30.0
# A connection that is refused costs the server nothing, and somebody waits for the end of the outage.
REFUSED_CAP_S = 5.0
# A watch that was open for less, and brought nothing, did not work.
VERY_SHORT_WATCH_S = 1.0
# So many watches in a row that are refused, or silent, end in a list.
REFUSED_WATCHES = 3
SILENT_WATCHES = 2
# Somebody who installs a CRD waits for what comes of it.
DORMANT_WAIT_S = 5.0


class Phase(Enum):
    """What the reflector does next."""

    STREAM_LIST = "stream_list"
    """Watch with sendInitialEvents: the objects, then a bookmark, then changes, on one connection."""
    LIST = "list"
    """Paged list, for servers that know no streaming lists."""
    WATCH = "watch"
    """Changes from a known resourceVersion."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the reflector is.

    Attributes:
        phase: what to do next.
        resource_version: from where to watch.
        wait_s: how long to wait before.
        failures: failures in a row.
        streaming: False once the server refused a streaming list.
        dormant: True while the kind does not exist on the server.
        error: why the last step failed; None when all is well.
        silent: watches in a row that brought nothing, not even a bookmark, until they were given up.
    """

    phase: Phase = Phase.STREAM_LIST
    resource_version: str = ""
    wait_s: float = 0.0
    failures: int = 0
    streaming: bool = True
    dormant: bool = False
    error: Exception | None = None
    silent: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A watch ended: cleanly (error None) or not.

    Attributes:
        resource_version: up to where it came; empty if it never synced.
        events: how many events it brought.
        lasted_s: how long it was open.
        error: why it broke, or None.
    """

    resource_version: str
    events: int
    lasted_s: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A paged list came to its end at this resourceVersion."""

    resource_version: str


def first_state(*, streaming: bool) -> State:
    """Where a reflector begins.

    Args:
        streaming: whether to list by a stream.
    """
    return State(Phase.STREAM_LIST if streaming else Phase.LIST, streaming=streaming)


def reason_of(ended: Ended) -> str:
    """Why a step ended, as one word for metrics.

    ``closed`` by the server, in order; ``expired`` position; ``silent`` for too long; ``broken`` connection;
    ``unreadable`` event; ``missing`` kind; ``forbidden``; ``throttled``; ``error``: anything else.
    """
    match ended.error:
        case None:
            return "closed"
        case TransportError(timed_out=True):
            return "silent"
        case TransportError():
            return "broken"
        case Gone():
            return "expired"
        case UnreadableObject():
            return "unreadable"
        case NotFound():
            return "missing"
        case Forbidden():
            return "forbidden"
        case TooManyRequests():
            return "throttled"
        case _:
            return "error"


def step(state: State, outcome: Ended | Listed, jitter: float) -> State:
    """Decides what comes after an outcome. Pure.

    Args:
        state: what was being done.
        outcome: how it went.
        jitter: a number in [0, 1).
    """
    match outcome:
        case Listed(resource_version):
            # Failures count on until the watch holds: a list that works and a watch that never does must not alternate
            # at full speed.
            return State(Phase.WATCH, resource_version, failures=state.failures, streaming=state.streaming)
        case Ended(error=None):
            return _after_close(state, outcome, jitter)
        case Ended():
            return _after_error(state, outcome, jitter)
        case _:
            assert_never(outcome)


def _after_close(state: State, ended: Ended, jitter: float) -> State:
    position = ended.resource_version or state.resource_version
    if not position:
        # Published is only a whole list, so this one begins anew: never at once, since it costs the server much.
        return _retry(state, KubeError("the watch was closed before its first list was complete"), jitter)
    if ended.events or ended.lasted_s >= VERY_SHORT_WATCH_S:
        return State(Phase.WATCH, position, streaming=state.streaming)
    # A proxy that closes at once must not be asked hundreds of times a second.
    error = KubeError("the watch was closed at once, without an event")
    return _retry(replace(state, phase=Phase.WATCH, resource_version=position), error, jitter)


def _after_error(state: State, ended: Ended, jitter: float) -> State:
    error = ended.error
    assert error is not None
    position = ended.resource_version or state.resource_version
    list_phase = Phase.STREAM_LIST if state.streaming else Phase.LIST
    if isinstance(error, Gone) or _is_too_large_version(error):
        retry = _retry(state, error, jitter)
        # Expired positions are normal after an outage; only a second one in a row is worth waiting for.
        wait_s = retry.wait_s if _failures_before(state, error) else 0.0
        return replace(retry, phase=list_phase, resource_version="", wait_s=wait_s)
    if isinstance(error, UnreadableObject):
        # What it was is unknown, so nothing can be resumed; with a wait even the first time, since it may come again.
        return replace(_retry(state, error, jitter), phase=list_phase, resource_version="")
    if state.phase is Phase.STREAM_LIST and _means_no_streaming(error):
        return State(Phase.LIST, streaming=False)
    if isinstance(error, NotFound):
        retry = _retry(state, error, jitter)
        wait_s = min(retry.wait_s, DORMANT_WAIT_S)
        return replace(retry, phase=list_phase, resource_version="", dormant=True, wait_s=wait_s)
    silent = state.silent + 1 if _is_silence(ended) else 0
    if silent >= SILENT_WATCHES:
        # Nothing comes from there: perhaps a server that was restored, and whose versions have yet to come so far.
        return State(list_phase, streaming=state.streaming)
    held = ended.events > 0 or ended.lasted_s >= VERY_SHORT_WATCH_S
    if position and held:
        # It worked until now: a load balancer's idle limit, or the silence limit of a kind without bookmarks.
        wait_s = getattr(error, "retry_after_s", None) or 0.0
        return State(Phase.WATCH, position, wait_s=wait_s, streaming=state.streaming, silent=silent)
    next_state = _retry(state, error, jitter)
    if next_state.failures >= REFUSED_WATCHES and _is_refusal(error):
        # It answers, and never with a watch from this position: perhaps it lists.
        return replace(next_state, phase=list_phase, resource_version="")
    phase = Phase.WATCH if position else list_phase
    return replace(next_state, phase=phase, resource_version=position)


def _is_silence(ended: Ended) -> bool:
    return isinstance(ended.error, TransportError) and ended.error.timed_out and not ended.events


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, ApiError) and not isinstance(error, TooManyRequests)


def _retry(state: State, error: Exception, jitter: float) -> State:
    failures = _failures_before(state, error)
    refused = isinstance(error, TransportError) and not error.sent
    cap_s = REFUSED_CAP_S if refused else BACKOFF_CAP_S
    wait_s = min(cap_s, BACKOFF_FIRST_S * 2 ** min(failures, 10)) * (1 + jitter)
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    return replace(state, wait_s=max(wait_s, asked_s), failures=failures + 1, error=error)


def _failures_before(state: State, error: Exception) -> int:
    """Failures in a row of this sort: a server that answers after an outage, if only with a refusal, begins anew."""
    changed = state.error is not None and _sort(state.error) != _sort(error)
    return 0 if changed else state.failures


def _sort(error: Exception) -> str:
    match error:
        case TransportError():
            return "unreachable"
        case NotFound():
            return "missing"
        case _:
            return "answered"


def _is_too_large_version(error: Exception) -> bool:
    return isinstance(error, ApiError) and (
        any(cause.reason == "ResourceVersionTooLarge" for cause in error.causes)
        or "Too large resource version" in error.message
    )


def _means_no_streaming(error: Exception) -> bool:
    if not isinstance(error, ApiError):
        return False
    # Servers from before streaming lists know neither option, and name the one that they look at first.
    named = any(option in error.message for option in ("sendInitialEvents", "resourceVersionMatch"))
    return isinstance(error, MethodNotAllowed) or (error.status in (400, 422) and named)
