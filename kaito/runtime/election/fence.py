"""Fence: what keeps the writes of a former leader from being sent."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple, ParamSpec, TypeVar

from kaito.client.errors import LeadershipLost, TransportError
from kaito.client.middleware import Handler
from kaito.client.transport import Request, Response
from kaito.kube.object_key import ObjectKey
from kaito.runtime.election.clock import uptime_s

P = ParamSpec("P")
T = TypeVar("T")

_current: contextvars.ContextVar[Fence | None] = contextvars.ContextVar("kaito_fence", default=None)


class _View(NamedTuple):
    leads: bool
    renewed_at: float


class Fence:
    """Says whether a controller may still write. Any thread may ask; it needs neither the event loop nor the network.

    A write may begin while less than `renew_deadline_s` have passed since the last renewal was *sent*. Nobody else
    leads before `lease_duration_s` have passed since that renewal *arrived*. What is between is the time that a write
    has to travel; none that takes longer to arrive is kept from taking effect by this fence alone.

    Args:
        controller: whose; for errors.
        lease: which; for errors.
        renew_deadline_s: how long a renewal counts here.
        lease_duration_s: how long it counts for others.
        clock: seconds, counting up.
    """

    def __init__(
        self,
        controller: str,
        lease: ObjectKey,
        *,
        renew_deadline_s: float,
        lease_duration_s: float,
        clock: Callable[[], float] = uptime_s,
    ) -> None:
        self.controller = controller
        self.lease = lease
        self._renew_deadline_s = renew_deadline_s
        self._lease_duration_s = lease_duration_s
        self._clock = clock
        # One reference, replaced as a whole: the renewer's thread sets it, others read it.
        self._view = _View(False, -float("inf"))
        self._sealed = False
        # These two belong to the event loop that writes.
        self._under_way = 0
        self._given_up_at = -float("inf")

    def __repr__(self) -> str:
        return f"Fence({self.controller!r}, {self.lease}, {'open' if self.is_open else 'closed'})"

    @property
    def is_open(self) -> bool:
        """Whether a write may be sent now."""
        leads, renewed_at = self._view
        return leads and not self._sealed and self._clock() < renewed_at + self._renew_deadline_s

    def check(self) -> None:
        """Does nothing if a write may be sent now.

        Raises:
            LeadershipLost: another process may lead.
        """
        if self.is_open:
            return
        leads, renewed_at = self._view
        ago = (
            f"was last renewed {self._clock() - renewed_at:.1f} s ago" if renewed_at > -float("inf") else "is not held"
        )
        held = leads and not self._sealed
        why = f"and counts for {self._renew_deadline_s:g} s" if held else "and is not held any more"
        raise LeadershipLost(
            f"controller {self.controller}: nothing is written any more: lease {self.lease} {ago}"
            f"{f' {why}' if renewed_at > -float('inf') else ''}; another process may lead"
        )

    def left_s(self) -> float:
        """Seconds until others may lead, if it is not renewed."""
        return self._view.renewed_at + self._lease_duration_s - self._clock()

    def renew(self, sent_at: float) -> None:
        """It is held: the renewal was sent just after this moment of the clock."""
        self._view = _View(True, sent_at)

    def close(self) -> None:
        """It is not held any more."""
        self._view = self._view._replace(leads=False)

    def seal(self) -> None:
        """Nothing is written any more, though the Lease may be renewed for a while yet."""
        self._sealed = True

    def give_up(self) -> None:
        """A write was sent of which nobody knows whether it takes effect, and when."""
        self._given_up_at = self._clock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around a write. If it raises after it was sent, it was given up."""
        self._under_way += 1
        try:
            yield
        except LeadershipLost:
            raise  # by the guard: it was not sent
        except BaseException as error:
            if not isinstance(error, TransportError) or error.sent:
                self.give_up()
            raise
        finally:
            self._under_way -= 1

    def unsettled_s(self) -> float:
        """Seconds for which a write may still arrive of which no answer came: it is given the time between the two
        durations to travel, as one is that is sent just before the deadline."""
        since = self._clock() if self._under_way else self._given_up_at
        return max(0.0, since + self._lease_duration_s - self._renew_deadline_s - self._clock())


def enter_fence(fence: Fence | None) -> None:
    """Puts what this task does from now on, and what it starts, behind a fence; None: behind none."""
    _current.set(fence)


def current_fence() -> Fence | None:
    """The fence of what runs here; None: there is none. A thread started by ``asyncio.to_thread`` has its caller's."""
    return _current.get()


def check_leadership() -> None:
    """For clients other than this library's (a cloud's SDK): call it right before what must not be done by two.

    It finds the fence in the context of whoever calls. ``loop.run_in_executor`` and threads of one's own have none, and
    there it does nothing: use ``asyncio.to_thread`` or `run_in_fence`.

    Raises:
        LeadershipLost: this runs for a controller that may not lead any more.
    """
    if (fence := _current.get()) is not None:
        fence.check()


async def run_in_fence(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a blocking call in a thread, unless leadership was lost by the time a thread is free for it.

    Cancelled, it leaves the call running, as ``asyncio.to_thread`` does.

    Raises:
        LeadershipLost: it was, and the call was not made.
    """

    def fenced() -> T:
        check_leadership()
        return call(*args, **kwargs)

    return await asyncio.to_thread(fenced)


async def fence_writes(request: Request, handler: Handler) -> Response:
    """Middleware, to stand innermost: a write of a controller is sent while its lease counts, and no later.

    It is checked at each try, and by the transport once more when the connection is there. An answer is awaited no
    longer than the lease lasts: for a write that takes longer nobody can say what it means.

    Raises:
        LeadershipLost: the write was not sent.
        TransportError: the lease ended while the answer was awaited; it may have taken effect.
    """
    fence = _current.get()
    if fence is None or not request.is_write:
        return await handler(request)
    fence.check()
    guarded = dataclasses.replace(request, guard=fence.check)
    try:
        async with _until_lease_ends(fence):
            with fence.writing():
                response = await handler(guarded)
    except TimeoutError as error:
        raise TransportError(
            f"{request.describe()}: lease {fence.lease} of controller {fence.controller} ended before the answer came",
            sent=True,
            timed_out=True,
        ) from error
    if response.status >= 500:
        # Proxies answer so when the server was cut off half-way, and the server when its storage is slow.
        fence.give_up()
    return response


@asynccontextmanager
async def _until_lease_ends(fence: Fence) -> AsyncIterator[None]:
    """Cuts off what is inside when others may lead; each renewal puts that off.

    Raises:
        TimeoutError: it was cut off.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def look() -> None:
        if (left_s := fence.left_s()) > 0:
            timers[:] = [loop.call_later(left_s, look)]
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        timers.append(loop.call_later(fence.left_s(), look))
        try:
            yield
        finally:
            timers[0].cancel()
