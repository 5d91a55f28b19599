"""Fence: what it lets pass, what it refuses and in which words, and where it stands."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest

from kaito.client import LeadershipLost, Request, Response, TransportError
from kaito.kube.object_key import ObjectKey
from kaito.runtime.election import (
    Fence,
    check_leadership,
    current_fence,
    enter_fence,
    fence_writes,
    run_in_fence,
)
from kaito.testing import virtual_clock

WRITE = Request("PATCH", "/api/v1/namespaces/default/configmaps/a", "patch", body=b"{}")
READ = Request("GET", "/api/v1/namespaces/default/configmaps/a", "get")


def fence(clock: Callable[[], float]) -> Fence:
    return Fence("widget", ObjectKey("w", "ns"), renew_deadline_s=10.0, lease_duration_s=15.0, clock=clock)


class Api:
    """Answers each request after some seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        await asyncio.sleep(self.seconds)
        return Response(200, {}, b"{}")


def test_it_is_closed_until_renewed_open_until_the_deadline_and_closed_after() -> None:
    now = 100.0
    it = fence(lambda: now)
    with pytest.raises(LeadershipLost, match="controller widget: nothing is written any more: lease ns/w is not held"):
        it.check()
    it.renew(98.0)
    it.check()
    now = 107.9
    it.check()
    assert it.left_s() == pytest.approx(5.1)
    now = 108.0
    with pytest.raises(LeadershipLost, match=r"lease ns/w was last renewed 10\.0 s ago and counts for 10 s"):
        it.check()


def test_closed_it_stays_closed_however_fresh_the_renewal() -> None:
    it = fence(lambda: 100.0)
    it.renew(100.0)
    it.close()
    with pytest.raises(LeadershipLost, match="and is not held any more"):
        it.check()


def test_a_writer_behind_it_is_stopped_and_readers_and_others_are_not() -> None:
    async def main() -> None:
        loop, api = asyncio.get_running_loop(), Api()
        it = fence(loop.time)
        await fence_writes(WRITE, api)  # behind none
        enter_fence(it)
        with pytest.raises(LeadershipLost):
            await fence_writes(WRITE, api)
        await fence_writes(READ, api)
        it.renew(loop.time())
        await fence_writes(WRITE, api)
        assert [request.method for request in api.asked] == ["PATCH", "GET", "PATCH"]

    virtual_clock.run(main())


def test_the_transport_gets_a_guard_that_asks_again() -> None:
    async def main() -> None:
        loop, api = asyncio.get_running_loop(), Api()
        it = fence(loop.time)
        enter_fence(it)
        it.renew(loop.time())
        await fence_writes(WRITE, api)
        guard = api.asked[0].guard
        assert guard is not None
        guard()
        it.close()
        with pytest.raises(LeadershipLost):
            guard()

    virtual_clock.run(main())


def test_an_answer_is_awaited_until_others_may_lead_and_no_longer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        it = fence(loop.time)
        enter_fence(it)
        it.renew(loop.time() - 4.0)
        began = loop.time()
        with pytest.raises(TransportError, match="lease ns/w of controller widget ended before the answer") as raised:
            await fence_writes(WRITE, Api(60.0))
        assert loop.time() - began == pytest.approx(11.0)
        assert (raised.value.sent, raised.value.timed_out) == (True, True)

    virtual_clock.run(main())


def test_renewals_put_that_off() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        it = fence(loop.time)
        enter_fence(it)
        it.renew(loop.time())
        for second in range(1, 50):
            loop.call_later(second, lambda: it.renew(loop.time()))
        assert (await fence_writes(WRITE, Api(45.0))).status == 200

    virtual_clock.run(main())


async def test_a_blocking_call_in_a_thread_is_behind_the_fence_of_its_caller() -> None:
    it = fence(lambda: 0.0)
    calls: list[str] = []

    async def worker() -> None:
        enter_fence(it)
        it.renew(0.0)
        await run_in_fence(calls.append, "made")
        it.close()
        with pytest.raises(LeadershipLost):
            await run_in_fence(calls.append, "not made")
        with pytest.raises(LeadershipLost):
            await asyncio.to_thread(check_leadership)

    await asyncio.create_task(worker())
    assert calls == ["made"]
    assert current_fence() is None
    check_leadership()  # behind none


async def test_other_threads_see_at_once_what_the_renewers_thread_says() -> None:
    it = fence(lambda: 0.0)
    thread = threading.Thread(target=it.renew, args=(0.0,))
    thread.start()
    thread.join()
    assert it.is_open


def test_a_write_without_an_answer_is_given_the_time_between_the_durations_to_arrive() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        it = fence(loop.time)
        enter_fence(it)
        it.renew(loop.time())
        await fence_writes(WRITE, Api())
        assert it.unsettled_s() == 0.0
        writing = asyncio.create_task(fence_writes(WRITE, Api(5.0)))
        await asyncio.sleep(1.0)
        assert it.unsettled_s() == pytest.approx(5.0)
        writing.cancel()
        await asyncio.wait([writing])
        await asyncio.sleep(2.0)
        assert it.unsettled_s() == pytest.approx(3.0)
        await asyncio.sleep(3.0)
        assert it.unsettled_s() == 0.0

    virtual_clock.run(main())


@pytest.mark.parametrize(
    ("outcome", "unsettled"),
    [
        (Response(409, {}, b""), False),
        (Response(504, {}, b""), True),
        (TransportError("refused", sent=False), False),
        (TransportError("reset", sent=True), True),
        (LeadershipLost("by the guard"), False),
    ],
)
def test_only_what_may_have_been_stored_is_waited_for(outcome: Response | Exception, unsettled: bool) -> None:
    async def main() -> None:
        async def answer(_: Request) -> Response:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        it = fence(asyncio.get_running_loop().time)
        enter_fence(it)
        it.renew(asyncio.get_running_loop().time())
        with contextlib.suppress(TransportError, LeadershipLost):
            await fence_writes(WRITE, answer)
        assert (it.unsettled_s() > 0.0) is unsettled

    virtual_clock.run(main())


def test_sealed_it_is_closed_though_the_lease_is_renewed() -> None:
    it = fence(lambda: 100.0)
    it.renew(100.0)
    it.seal()
    it.renew(100.0)
    with pytest.raises(LeadershipLost, match="and is not held any more"):
        it.check()
