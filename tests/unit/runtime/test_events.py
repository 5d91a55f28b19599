"""EventRecorder: what it writes, what it leaves out, and that it holds nobody up."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.client import Client
from kaito.client.middleware import dry_run
from kaito.kube.core_v1 import ConfigMap, Node, ObjectReference
from kaito.kube.events_v1 import Event
from kaito.kube.meta_v1 import ObjectMeta
from kaito.runtime.event_book import REFRESH_S, EventBook
from kaito.runtime.events import FLUSH_S, MAX_NOTE_BYTES, EventRecorder
from kaito.testing import eventually, virtual_clock
from kaito.testing.fake_api import Drop, FakeApi, Fault, Hang, Refuse

MAP = ConfigMap(metadata=ObjectMeta(name="web", namespace="default", uid="u1"))


class Bench:
    """A recorder on a fake API server."""

    def __init__(self, api: FakeApi, book: EventBook | None = None, **client: Any) -> None:
        self.api = api
        self.registry = CollectorRegistry()
        made = Client(api.transport(), field_owner="tests", **client)
        self.recorder = EventRecorder(
            made,
            "widgets",
            instance="widgets-1",
            registry=self.registry,
            now=virtual_clock.wall,
            rng=random.Random(1),
            book=book,
        )
        self.task = asyncio.create_task(self.recorder.run())

    def say(self, note: str = "it was made", regarding: Any = MAP, reason: str = "Created", **more: Any) -> None:
        self.recorder.event(regarding, more.pop("type", "Normal"), reason, "Create", note, **more)

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.api.objects(Event)

    def dropped(self, reason: str) -> float:
        value = self.registry.get_sample_value("controller_events_dropped_total", {"reason": reason})
        assert value is not None, reason
        return value

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def started(api: FakeApi | None = None, **more: Any) -> AsyncIterator[Bench]:
    it = Bench(api or FakeApi(), **more)
    try:
        yield it
    finally:
        await it.stop()


def test_an_event_says_what_it_is_about_who_says_so_and_when() -> None:
    async def main() -> None:
        async with started() as it:
            it.say(type="Warning", related=Node(metadata=ObjectMeta(name="n1", uid="u2")))
            await asyncio.sleep(1)
            (event,) = it.events
        assert event["metadata"]["namespace"] == "default"
        assert event["metadata"]["name"].startswith("web.")
        about = {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": "web", "uid": "u1"}
        assert event["regarding"] == about
        assert event["related"] == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u2"}
        said = {name: event[name] for name in ("type", "reason", "action", "note")}
        assert said == {"type": "Warning", "reason": "Created", "action": "Create", "note": "it was made"}
        assert (event["reportingController"], event["reportingInstance"]) == ("widgets", "widgets-1")
        assert event["eventTime"] == "2024-01-01T00:00:00.000000Z"
        assert "series" not in event

    virtual_clock.run(main())


def test_events_about_what_has_no_namespace_lie_in_default() -> None:
    async def main() -> None:
        async with started() as it:
            it.say(regarding=ObjectReference(api_version="v1", kind="Node", name="n1"))
            await asyncio.sleep(1)
            assert it.events[0]["metadata"]["namespace"] == "default"

    virtual_clock.run(main())


def test_what_is_said_again_becomes_a_series_of_one_object_written_once_a_minute() -> None:
    async def main() -> None:
        async with started() as it:
            for _ in range(500):
                it.say()
                await asyncio.sleep(0.1)
            await asyncio.sleep(REFRESH_S)
            (event,) = it.events
            assert event["series"] == {"count": 500, "lastObservedTime": "2024-01-01T00:00:49.900000Z"}
            assert [entry.verb for entry in it.api.log] == ["create", "patch", "patch"]

    virtual_clock.run(main())


def test_a_series_whose_object_the_server_has_forgotten_is_made_anew_with_its_count() -> None:
    async def main() -> None:
        async with started() as it:
            it.say()
            await asyncio.sleep(1)
            name = it.events[0]["metadata"]["name"]
            it.api.call("DELETE", f"/apis/events.k8s.io/v1/namespaces/default/events/{name}")
            it.say()
            await asyncio.sleep(1)
            assert it.events[0]["series"]["count"] == 2

    virtual_clock.run(main())


def test_recording_never_waits_and_an_outage_loses_nothing_that_fits_into_the_queue() -> None:
    async def main() -> None:
        api = FakeApi()
        outage = api.faults.add(Fault(Drop(), verb="create", times=None))
        async with started(api) as it:
            began = asyncio.get_running_loop().time()
            for number in range(10):
                it.say(f"number {number}")
            assert asyncio.get_running_loop().time() == began
            await asyncio.sleep(20)
            assert it.events == []
            outage.times = 0
            await asyncio.sleep(20)
            assert len(it.events) == 10

    virtual_clock.run(main())


def test_an_event_whose_answer_was_lost_is_there_once() -> None:
    async def main() -> None:
        api = FakeApi()
        api.faults.add(Fault(Drop(handled=True), verb="create"))
        async with started(api) as it:
            it.say()
            await asyncio.sleep(5)
            assert len(it.events) == 1
            assert it.registry.get_sample_value("controller_events_written_total") == 1

    virtual_clock.run(main())


def test_an_event_that_cannot_be_written_for_long_is_dropped_counted_and_holds_up_no_other() -> None:
    async def main() -> None:
        api = FakeApi()
        fails = Fault(Refuse(500), verb="create", times=None, only=lambda request: b"stuck" in (request.body or b""))
        api.faults.add(fails)
        async with started(api) as it:
            it.say("stuck")
            it.say("fine")
            await asyncio.sleep(1)
            assert [event["note"] for event in it.events] == ["fine"]
            await asyncio.sleep(200)
            assert it.dropped("unreachable") == 1
            assert fails.seen == 12

    virtual_clock.run(main())


def test_events_in_a_namespace_that_goes_are_dropped_without_another_try(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api = FakeApi()
        refusal = Refuse(403, "Forbidden", "namespace is being terminated", cause="NamespaceTerminating")
        api.faults.add(Fault(refusal, verb="create", times=None))
        async with started(api) as it:
            for number in range(5):
                it.say(f"number {number}")
            await asyncio.sleep(10)
            assert it.dropped("refused") == 5
            assert len(it.api.log) == 5

    with caplog.at_level(logging.WARNING):
        virtual_clock.run(main())
    # The others are told of with the next that is dropped a minute later.
    assert [record.message for record in caplog.records] == ["events dropped"]
    assert "being terminated" in vars(caplog.records[0])["error"]


def test_what_overflows_the_queue_is_counted() -> None:
    async def main() -> None:
        async with started(book=EventBook(max_waiting=3)) as it:
            for number in range(9):
                it.say(f"number {number}")
            await asyncio.sleep(1)
            assert (len(it.events), it.dropped("queue_full")) == (3, 6)

    virtual_clock.run(main())


def test_what_is_left_at_a_stop_is_written_before_it_ends() -> None:
    async def main() -> None:
        async with started() as it:
            for _ in range(3):
                it.say()
                await asyncio.sleep(1)
            for number in range(20):
                it.say(f"number {number}", regarding=ObjectReference(api_version="v1", kind="Node", name=f"n{number}"))
            await it.stop()
            assert len(it.events) == 21
            assert {"count": 3, "lastObservedTime": "2024-01-01T00:00:02.000000Z"} in [
                event.get("series") for event in it.events
            ]
            it.say("too late")
            assert it.dropped("stopped") == 1

    virtual_clock.run(main())


def test_a_stop_does_not_wait_long_for_a_server_that_does_not_answer() -> None:
    async def main() -> None:
        api = FakeApi()
        api.faults.add(Fault(Hang(), verb="create", times=None))
        async with started(api) as it:
            it.say("one")
            await asyncio.sleep(1)
            it.say("two")
            began = asyncio.get_running_loop().time()
            await it.stop()
            assert asyncio.get_running_loop().time() - began == pytest.approx(FLUSH_S)
            assert it.dropped("stopped") == 2

    virtual_clock.run(main())


def test_what_is_said_before_it_runs_is_written_once_it_does() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = EventRecorder(Client(api.transport(), field_owner="tests"), "widgets", now=virtual_clock.wall)
        recorder.event(MAP, "Normal", "Created", "Create", "early")
        task = asyncio.create_task(recorder.run())
        await asyncio.sleep(1)
        assert [event["note"] for event in api.objects(Event)] == ["early"]
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())


async def test_another_thread_may_say_something() -> None:
    async with started() as it:
        await asyncio.to_thread(it.say)
        await eventually(lambda: it.events)


def test_a_dry_run_leaves_no_events() -> None:
    async def main() -> None:
        async with started(middleware=[dry_run]) as it:
            it.say()
            await asyncio.sleep(1)
            assert it.events == []
            assert [entry.verb for entry in it.api.log] == ["create"]

    virtual_clock.run(main())


def test_a_long_note_is_cut_at_a_character() -> None:
    async def main() -> None:
        async with started() as it:
            it.say("ä" * 2000)
            await asyncio.sleep(1)
            note = it.events[0]["note"]
            assert note == "ä" * (len(note) - 1) + "…"
            assert MAX_NOTE_BYTES - 2 <= len(note.encode()) <= MAX_NOTE_BYTES

    virtual_clock.run(main())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"type": "Error"}, "type is 'Error'; expected Normal or Warning"),
        ({"reason": "no camel"}, "reason is 'no camel'; expected CamelCase"),
        ({"reason": "R" * 129}, "at most 128 characters"),
        ({"action": ""}, "action is ''"),
        ({"action": "a" * 129}, "expected 1 to 128"),
        ({"action": "ä" * 65}, "expected 1 to 128 bytes"),
        ({"note": ""}, "note is empty"),
        ({"regarding": ObjectReference(kind="Node")}, "regarding is Node ''; a kind and a name are needed"),
        ({"related": ObjectReference(name="x")}, "related is of no kind 'x'"),
    ],
)
def test_what_the_api_does_not_take_is_a_mistake_of_the_caller(wrong: dict[str, Any], text: str) -> None:
    recorder = EventRecorder(Client(FakeApi().transport(), field_owner="tests"), "widgets")
    good = {"regarding": MAP, "type": "Normal", "reason": "Created", "action": "Create", "note": "made"}
    with pytest.raises(ValueError, match=re.escape(text)):
        recorder.event(**{**good, **wrong})


def test_whatever_it_is_called_it_reports_under_a_name_that_the_api_takes() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = EventRecorder(Client(api.transport(), field_owner="tests"), "my operator/" + "x" * 80)
        recorder.event(MAP, "Normal", "Created", "Create", "made")
        task = asyncio.create_task(recorder.run())
        await asyncio.sleep(1)
        (event,) = api.objects(Event)
        assert event["reportingController"] == "my-operator-" + "x" * 51
        assert len(event["reportingInstance"]) <= 128
        task.cancel()
        await asyncio.wait([task])

    virtual_clock.run(main())
