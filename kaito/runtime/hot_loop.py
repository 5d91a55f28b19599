"""Hot loops: keys that are reconciled again and again because of what their own reconciles do."""

from __future__ import annotations

import logging

from kaito.client.middleware import Handler
from kaito.client.transport import Request, Response
from kaito.kube.object_key import ObjectKey
from kaito.runtime.cancellation import current_work
from kaito.runtime.cells import Count

log = logging.getLogger(__name__)

HOT_RECONCILES = 50
"""So many reconciles of one key, each with a write or with an immediate requeue, within a window are a hot loop."""
HOT_WINDOW_S = 10.0
# A requeue sooner than this is taken for "at once".
SOON_S = 0.1
# Keys that were warned of, kept so that each is warned of once.
WARNED_LIMIT = 1000


async def note_writes(request: Request, handler: Handler) -> Response:
    """Middleware: remembers with the reconcile that made it what was written last."""
    response = await handler(request)
    if request.is_write and response.status < 300 and ("dryRun", "All") not in request.query:
        work = current_work.get(None)
        if work is not None:
            work.wrote = request
    return response


class HotLoops:
    """Counts, for one controller, the reconciles that by themselves may have caused the next.

    It is told of those that succeeded and wrote something, or want to come back at once: a reconcile that does nothing
    costs nothing here. Failures are not counted, since each of them waits longer than the one before.

    Args:
        controller: its name.
        metric: counts a key once per window.
    """

    def __init__(self, controller: str, metric: Count) -> None:
        self._controller = controller
        self._metric = metric
        self._counts: dict[ObjectKey, int] = {}
        self._window_ends = 0.0
        self._warned: set[ObjectKey] = set()

    def count(self, key: ObjectKey, now: float, wrote: Request | None) -> None:
        """Counts a reconcile that succeeded; `wrote` is what it wrote last, or None: it asks to come back at once."""
        if now >= self._window_ends:
            self._counts.clear()
            self._window_ends = now + HOT_WINDOW_S
        self._counts[key] = times = self._counts.get(key, 0) + 1
        if times == HOT_RECONCILES:
            self._metric.inc()
            self._warn(key, wrote)

    def _warn(self, key: ObjectKey, wrote: Request | None) -> None:
        if key in self._warned:
            return
        if len(self._warned) >= WARNED_LIMIT:
            self._warned.clear()
        self._warned.add(key)
        fields = {"controller": self._controller, "key": str(key), "times": HOT_RECONCILES, "window_s": HOT_WINDOW_S}
        log.warning("hot loop: a key is reconciled again and again", extra={**fields, "likely": _likely(wrote)})


def _likely(wrote: Request | None) -> str:
    if wrote is None:
        return "it asks to come back at once each time: give Result a longer requeue_after, or return DONE"
    return (
        f"each reconcile writes ({wrote.describe()}), and the event of that write starts the next: write only what "
        f"differs, or let events through that ask for something, as with where=generation_changed()"
    )
