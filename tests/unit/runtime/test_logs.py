"""Logs: constant messages with fields, as JSON lines and for people; the context of a reconcile in every line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from kaito.runtime import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield io.StringIO()
    root.handlers[:], level = before
    root.setLevel(level)


def test_json_lines_have_the_message_and_its_fields(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    with logs.log_context(controller="widget", key="ns/a"):
        logging.getLogger("kaito.x").info("object updated", extra={"kind": "Widget", "count": 2})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "kaito.x",
        "msg": "object updated",
        "controller": "widget",
        "key": "ns/a",
        "kind": "Widget",
        "count": 2,
    }


def test_console_lines_are_for_people_and_quote_what_has_spaces(stream: io.StringIO) -> None:
    logs.configure("console", "warning", stream)
    logging.getLogger("x").info("not shown")
    logging.getLogger("x").warning("watch failed", extra={"error": "no rights", "hint": "", "failures": 1})
    assert stream.getvalue().split(maxsplit=1)[1] == 'WARN watch failed  error="no rights" failures=1\n'


@pytest.mark.parametrize("form", ["json", "console"])
def test_exceptions_come_with_their_traceback(stream: io.StringIO, form: logs.LogFormat) -> None:
    logs.configure(form, "info", stream)
    try:
        raise RuntimeError("on purpose")
    except RuntimeError:
        logging.getLogger("x").exception("reconcile failed")
    assert "RuntimeError: on purpose" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


async def test_the_context_belongs_to_a_task_and_those_it_starts(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)

    async def work(key: str) -> None:
        with logs.log_context(key=key):
            await asyncio.sleep(0)
            await asyncio.create_task(asyncio.to_thread(logging.getLogger("x").info, "done"))

    await asyncio.gather(work("a"), work("b"))
    logging.getLogger("x").info("outside")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(line.get("key", "") for line in lines) == ["", "a", "b"]


def test_inner_fields_win_and_go_with_their_block(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    with logs.log_context(key="outer"):
        with logs.log_context(key="inner"):
            logging.getLogger("x").info("one")
        logging.getLogger("x").info("two")
    assert [json.loads(line)["key"] for line in stream.getvalue().splitlines()] == ["inner", "outer"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure("json", "loud")
