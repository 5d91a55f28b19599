"""Mailbox: a slow handler hears of each object's newest state, once, and what waits for it is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.informers import Change, Entry
from kaito.informers.mailbox import Mailbox
from kaito.testing import virtual_clock


def entry(rv: int, uid: str = "u") -> Entry:
    return Entry(uid, rv, b"{}")


def added(key: str, rv: int, uid: str = "u") -> Change:
    return Change("added", key, None, entry(rv, uid))


def updated(key: str, before: int, rv: int) -> Change:
    return Change("updated", key, entry(before), entry(rv))


def deleted(key: str, rv: int, uid: str = "u") -> Change:
    return Change("deleted", key, entry(rv, uid), None)


class Slow:
    """A handler that waits to be let go before it writes down what it was told."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.told: list[tuple[str, str, int, bool]] = []
        self.begun = 0

    async def __call__(self, change: Change, initial: bool) -> None:
        self.begun += 1
        await self.gate.wait()
        seen = change.new or change.old
        assert seen is not None
        self.told.append((change.type, change.key, seen.rv, initial))


async def settle() -> None:
    await asyncio.sleep(0.01)


def deliver(*changes: Change) -> list[tuple[str, str, int, bool]]:
    """What a handler is told of changes that all came before it looked."""

    async def main() -> list[tuple[str, str, int, bool]]:
        slow = Slow()
        slow.gate.set()
        mailbox = Mailbox(slow)
        mailbox.put(changes, initial=False)
        task = asyncio.create_task(mailbox.run())
        await settle()
        task.cancel()
        await asyncio.wait([task])
        assert len(mailbox) == 0
        return slow.told

    return virtual_clock.run(main())


def test_changes_of_one_object_are_put_together() -> None:
    assert deliver(added("a", 1), updated("a", 1, 2), updated("a", 2, 3)) == [("added", "a", 3, False)]
    assert deliver(updated("a", 1, 2), updated("a", 2, 3)) == [("updated", "a", 3, False)]
    assert deliver(updated("a", 1, 2), deleted("a", 3)) == [("deleted", "a", 3, False)]


def test_an_object_that_came_and_went_is_not_told_of() -> None:
    assert deliver(added("a", 1), deleted("a", 2)) == []
    assert deliver(added("a", 1), deleted("a", 2), added("a", 3, "v")) == [("added", "a", 3, False)]


def test_an_object_that_went_and_came_again_is_a_deletion_and_an_addition() -> None:
    assert deliver(deleted("a", 2), added("a", 3, "v")) == [("deleted", "a", 2, False), ("added", "a", 3, False)]


def test_a_successor_that_went_too_leaves_the_deletion_of_the_one_that_was_known() -> None:
    assert deliver(deleted("a", 2), added("a", 3, "v"), deleted("a", 4, "v")) == [("deleted", "a", 2, False)]


def test_what_waits_is_bounded_by_the_number_of_objects() -> None:
    async def main() -> None:
        mailbox = Mailbox(Slow())
        for rv in range(2, 1000):
            mailbox.put([updated("a", rv - 1, rv), updated("b", rv - 1, rv)], initial=False)
        assert len(mailbox) == 2

    virtual_clock.run(main())


def test_changes_during_a_delivery_are_told_of_after_it() -> None:
    async def main() -> None:
        slow = Slow()
        mailbox = Mailbox(slow)
        task = asyncio.create_task(mailbox.run())
        mailbox.put([added("a", 1)], initial=False)
        await settle()
        assert slow.begun == 1
        mailbox.put([updated("a", 1, 2), deleted("a", 3)], initial=False)
        slow.gate.set()
        await settle()
        assert slow.told == [("added", "a", 1, False), ("deleted", "a", 3, False)]
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


def test_it_is_synced_when_what_was_there_first_has_been_dealt_with_and_not_before() -> None:
    async def main() -> None:
        slow = Slow()
        mailbox = Mailbox(slow)
        task = asyncio.create_task(mailbox.run())
        mailbox.put([added("a", 1), added("b", 2)], initial=True)
        await settle()
        mailbox.all_is_listed()
        mailbox.put([added("later", 3)], initial=False)
        assert not mailbox.synced
        slow.gate.set()
        await mailbox.wait_synced()
        assert {"a", "b"} <= {key for _, key, _, _ in slow.told}
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


def test_it_is_synced_at_once_when_there_was_nothing() -> None:
    async def main() -> None:
        mailbox = Mailbox(Slow())
        assert not mailbox.synced
        mailbox.all_is_listed()
        assert mailbox.synced

    virtual_clock.run(main())


def test_what_went_before_it_was_dealt_with_does_not_hold_up_being_synced() -> None:
    async def main() -> None:
        mailbox = Mailbox(Slow())
        mailbox.put([added("a", 1)], initial=True)
        mailbox.all_is_listed()
        mailbox.put([deleted("a", 2)], initial=False)
        assert mailbox.synced

    virtual_clock.run(main())


def test_a_handler_that_raises_is_counted_and_told_of_the_next_object(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(change: Change, initial: bool) -> None:
        raise RuntimeError(f"no good: {change.key}")

    async def main() -> int:
        mailbox = Mailbox(broken)
        mailbox.put([added("a", 1), added("b", 2)], initial=False)
        task = asyncio.create_task(mailbox.run())
        await settle()
        task.cancel()
        await asyncio.wait([task])
        return mailbox.errors

    assert virtual_clock.run(main()) == 2
    assert "no good: b" in caplog.text


def test_a_handler_that_fails_on_a_deletion_still_hears_of_the_successor() -> None:
    told: list[str] = []

    async def broken(change: Change, initial: bool) -> None:
        told.append(change.type)
        if change.type == "deleted":
            raise RuntimeError("no good")

    async def main() -> None:
        mailbox = Mailbox(broken)
        mailbox.put([deleted("a", 2), added("a", 3, "v")], initial=False)
        task = asyncio.create_task(mailbox.run())
        await settle()
        task.cancel()
        await asyncio.wait([task])
        assert mailbox.errors == 1

    virtual_clock.run(main())
    assert told == ["deleted", "added"]


def test_an_initial_object_that_went_while_its_delivery_was_cancelled_does_not_hold_up_being_synced() -> None:
    async def main() -> None:
        mailbox = Mailbox(Slow())
        mailbox.put([added("a", 1)], initial=True)
        mailbox.all_is_listed()
        task = asyncio.create_task(mailbox.run())
        await settle()
        mailbox.put([deleted("a", 2)], initial=False)
        task.cancel()
        await asyncio.wait([task])
        assert mailbox.synced

    virtual_clock.run(main())


def test_what_was_being_delivered_at_a_stop_is_delivered_by_the_next_run() -> None:
    async def main() -> None:
        slow = Slow()
        mailbox = Mailbox(slow)
        mailbox.put([added("a", 1)], initial=True)
        for _ in range(2):
            task = asyncio.create_task(mailbox.run())
            await settle()
            task.cancel()
            await asyncio.wait([task])
            mailbox.put([updated("a", 1, 2)], initial=False)
        slow.gate.set()
        task = asyncio.create_task(mailbox.run())
        await settle()
        assert slow.told == [("added", "a", 2, True)]
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


OPERATIONS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.booleans()), max_size=40)


@settings(max_examples=200)
@given(OPERATIONS)
def test_whatever_happens_a_handler_that_replays_what_it_is_told_ends_with_what_is(
    operations: list[tuple[str, bool, bool, bool]],
) -> None:
    """Each operation: which key, whether it goes, whether it comes under a new uid, whether the handler may run."""

    async def main() -> None:
        replica: dict[str, Entry] = {}
        truth: dict[str, Entry] = {}

        async def replay(change: Change, initial: bool) -> None:
            await asyncio.sleep(0)
            known = replica.get(change.key)
            assert (known and known.uid) == (change.old and change.old.uid)
            if change.new is None:
                del replica[change.key]
            else:
                replica[change.key] = change.new

        mailbox = Mailbox(replay)
        task = asyncio.create_task(mailbox.run())
        for rv, (key, goes, anew, runs) in enumerate(operations, start=1):
            mailbox.put(changes_of(truth, key, rv, goes, anew), initial=False)
            if runs:
                await settle()
        await settle()
        assert mailbox.errors == 0
        assert replica == truth
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


def changes_of(truth: dict[str, Entry], key: str, rv: int, goes: bool, anew: bool) -> Iterable[Change]:
    old = truth.pop(key, None)
    if goes:
        return [Change("deleted", key, Entry(old.uid, rv, b"{}"), None)] if old is not None else []
    same = old is not None and not anew
    new = truth[key] = entry(rv, old.uid if old is not None and same else f"uid-{rv}")
    if old is None:
        return [Change("added", key, None, new)]
    if same:
        return [Change("updated", key, old, new)]
    return [Change("deleted", key, old, None), Change("added", key, None, new)]
