"""Predicates: which events pass, alone and put together; what enters or leaves a filter is never missed."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from typing import Any

import pytest

from kaito.informers.entry import EntryReader
from kaito.informers.handlers import InformerEvent
from kaito.informers.informer import Informer
from kaito.informers.store import Change
from kaito.kube.core_v1 import ConfigMap
from kaito.runtime.predicates import (
    AnyPredicate,
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
from kaito.testing import virtual_clock
from tests.unit.runtime.widgets import BASE, Recording, Widget, bench, running

Json = dict[str, Any]
versions = itertools.count(10)


def event(old: Json | None, new: Json | None) -> InformerEvent[Widget]:
    """An event of a widget from its JSON; metadata that is left out is made up."""
    reader = EntryReader()

    def entry(given: Json | None) -> Any:
        if given is None:
            return None
        metadata = {"name": "w", "namespace": "default", "uid": "u", "resourceVersion": str(next(versions))}
        body = {"apiVersion": "example.com/v1", "kind": "Widget", **given}
        body["metadata"] = {**metadata, **given.get("metadata", {})}
        return reader.read(json.dumps(body).encode(), {})[1]

    return InformerEvent(informer(), Change("updated", "default/w", entry(old), entry(new)), False)


@functools.cache
def informer() -> Informer[Widget]:
    """Decodes; it is never run."""
    return bench(Recording()).manager.cache.informer(Widget)


def meta(**metadata: Any) -> Json:
    return {"metadata": metadata}


def ready(status: str, **more: str) -> Json:
    conditions = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": status, **more}]
    return {"status": {"conditions": conditions}}


def size(number: int) -> Json:
    return {"spec": {"size": number}}


CHANGES: list[tuple[AnyPredicate, Json, Json, bool]] = [
    (generation_changed(), meta(generation=1), meta(generation=2), True),
    (generation_changed(), meta(generation=1), meta(generation=1, labels={"a": "b"}), False),
    (generation_changed(), meta(), meta(), True),
    (generation_changed(), meta(generation=1), meta(generation=1, deletionTimestamp="2024-01-01T00:00:00Z"), True),
    (labels_changed(), meta(labels={"a": "1"}), meta(labels={"a": "2"}), True),
    (labels_changed(), meta(labels={"a": "1", "b": "2"}), meta(labels={"b": "2", "a": "1"}), False),
    (annotations_changed(), meta(), meta(annotations={"a": "1"}), True),
    (annotations_changed(), meta(annotations={"a": "1"}), meta(annotations={"a": "1"}, labels={"x": "y"}), False),
    (resource_version_changed(), meta(), meta(), True),
    (resource_version_changed(), meta(resourceVersion="1"), meta(resourceVersion="1"), False),
    (deletion_started(), meta(), meta(deletionTimestamp="2024-01-01T00:00:00Z"), True),
    (deletion_started(), meta(deletionTimestamp="x"), meta(deletionTimestamp="x", labels={"a": "b"}), False),
    (spec_changed(), size(1), size(2), True),
    (spec_changed(), {"data": {"a": "1"}}, {"data": {"a": "2"}}, True),
    (
        spec_changed(),
        size(1),
        {**size(1), "status": {"x": 1}, **meta(labels={"a": "b"})},
        False,
    ),
    (field_changed("spec.size"), size(1), size(2), True),
    (field_changed("spec.size"), size(1), {"spec": {"size": 1, "x": 2}}, False),
    (field_changed("spec.size", "spec.x.y"), {"spec": {}}, {"spec": {"x": {"y": 0}}}, True),
    (field_changed("spec.x.y"), {"spec": {"x": 1}}, {"spec": {"x": 2}}, False),
    (
        field_changed(("metadata", "annotations", "example.com/size")),
        meta(),
        meta(annotations={"example.com/size": "1"}),
        True,
    ),
    (condition_changed("Ready"), ready("False"), ready("True"), True),
    (condition_changed("Ready"), ready("False", reason="A"), ready("False", reason="B"), True),
    (condition_changed("Ready"), ready("False", message="A"), ready("False", message="B"), False),
    (condition_changed("Ready", fields=("message",)), ready("F", message="A"), ready("F", message="B"), True),
    (condition_changed("Ready"), {}, ready("False"), True),
    (condition_changed("Gone"), ready("False"), ready("True"), False),
    (
        update_matches(lambda old, new: old.spec.size < new.spec.size),
        size(1),
        size(2),
        True,
    ),
    (
        update_matches(lambda old, new: old.spec.size < new.spec.size),
        size(2),
        size(1),
        False,
    ),
]


@pytest.mark.parametrize(("predicate", "old", "new", "passes"), CHANGES)
def test_an_update_passes_if_what_is_asked_for_changed_and_its_contrary_passes_the_others(
    predicate: AnyPredicate, old: Json, new: Json, passes: bool
) -> None:
    assert predicate(event(old, new)) is passes
    assert (~predicate)(event(old, new)) is not passes
    assert not_(not_(predicate))(event(old, new)) is passes
    for either in (predicate, ~predicate):
        assert either(event(None, new))
        assert either(event(old, None))


WEB, DB = meta(labels={"app": "web"}), meta(labels={"app": "db"})


@pytest.mark.parametrize(
    "predicate",
    [
        matches_labels("app=web"),
        object_matches(lambda widget: widget.metadata.labels.get("app") == "web"),
        matches_labels("app=web") & generation_changed(),
        generation_changed() & matches_labels("app=web"),
        matches_labels("app=web") & matches_labels("app"),
        ~~matches_labels("app=web"),
        ~(~matches_labels("app=web") | ~generation_changed()),
    ],
)
def test_what_enters_or_leaves_a_filter_passes_whatever_else_is_asked_and_what_stays_outside_does_not(
    predicate: Predicate[Any],
) -> None:
    for generation in ({}, {"generation": 1}):
        web, db = (meta(**each["metadata"], **generation) for each in (WEB, DB))
        assert predicate(event(web, db))
        assert predicate(event(db, web))
        assert predicate(event(None, web))
        assert predicate(event(web, None))
        assert not predicate(event(db, db))
        assert not predicate(event(None, db))
        assert not predicate(event(db, None))


def test_within_a_filter_the_question_about_the_update_decides() -> None:
    predicate = and_(matches_labels("app=web"), generation_changed(), ~labels_changed())
    one, two = meta(labels={"app": "web"}, generation=1), meta(labels={"app": "web"}, generation=2)
    assert predicate(event(one, two))
    assert not predicate(event(one, one))
    assert not predicate(event(one, meta(labels={"app": "web", "x": "y"}, generation=2)))


def test_either_of_two_is_enough() -> None:
    predicate = or_(labels_changed(), annotations_changed())
    changes = [meta(), meta(labels={"a": "b"}), meta(annotations={"a": "b"})]
    passed = [predicate(event(old, new)) for old, new in itertools.combinations(changes, 2)]
    assert passed == [True, True, True]
    assert not predicate(event(changes[0], changes[0]))
    contrary = ~predicate
    assert contrary(event(changes[0], changes[0]))
    assert not contrary(event(changes[0], changes[1]))


def test_paths_and_selectors_that_mean_nothing_are_refused() -> None:
    for paths in ((), ("",), ("spec..x",), ((),)):
        with pytest.raises(ValueError, match=r"give paths such as 'spec\.nodeName'"):
            field_changed(*paths)
    with pytest.raises(ValueError, match="app==="):
        matches_labels("app===")


def test_a_controller_hears_of_what_leaves_its_filter_and_counts_what_was_held_back() -> None:
    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, where=matches_labels("app=web") & generation_changed())
        async with running(it):
            it.api.call("POST", BASE, {"metadata": {"name": "a", "labels": {"app": "web"}}, "spec": {"size": 1}})
            it.put("outside")
            await asyncio.sleep(0.1)
            for labels in ({"x": "y"}, {"app": "db"}, {"x": "z"}):
                body = {"metadata": {"labels": labels}}
                it.api.call("PATCH", f"{BASE}/a", body, content_type="application/merge-patch+json")
                await asyncio.sleep(0.1)
            assert reconciler.names == ["a", "a"]
            assert it.count("controller_events_filtered_total", kind="Widget.example.com") == 3

    virtual_clock.run(main())


def test_an_event_that_a_filter_fails_on_passes(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: InformerEvent[Widget]) -> bool:
        raise ZeroDivisionError("on purpose")

    async def main() -> None:
        reconciler = Recording()
        it = bench(reconciler, where=broken)
        async with running(it):
            for number in range(5):
                it.put(f"w{number}")
            await asyncio.sleep(0.1)
            assert len(reconciler.names) == 5

    virtual_clock.run(main())
    said = [vars(each)["times"] for each in caplog.records if each.getMessage() == "filter failed, the event passes"]
    assert said == [1, 2, 4]


def test_kinds_without_a_generation_are_told_apart_by_all_but_metadata_and_status() -> None:
    assert "generation" not in ConfigMap.model_fields
    assert spec_changed()(event({"data": {"a": "1"}}, {"data": {}}))
