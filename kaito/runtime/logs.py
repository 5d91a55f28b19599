"""Logs: constant messages with key=value fields, as JSON lines or for a console."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["json", "console"]

_context: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("kaito_log_context")
_RECORD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Adds fields to every log record made inside, in this task and those it starts."""
    token = enter_log_context({**_context.get({}), **fields})
    try:
        yield
    finally:
        leave_log_context(token)


def enter_log_context(fields: Mapping[str, object]) -> contextvars.Token[Mapping[str, object]]:
    """Replaces the fields of the context; `log_context` for where each microsecond counts.

    Args:
        fields: read when a record is made, and only then: a mapping that computes them costs nothing until somebody
            logs.

    Returns:
        What `leave_log_context` takes.
    """
    return _context.set(fields)


def leave_log_context(token: contextvars.Token[Mapping[str, object]]) -> None:
    """Puts back what was there before `enter_log_context`."""
    _context.reset(token)


def configure(log_format: LogFormat = "json", level: str = "info", stream: TextIO | None = None) -> None:
    """Sets the root logger up: one handler, to stderr unless told otherwise. For programs; a library never calls it.

    Args:
        log_format: ``json`` (one object per line) or ``console``.
        level: debug, info, warning or error.
        stream: where to write.

    Raises:
        ValueError: an unknown level.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # One line per request and per probe is what metrics are for.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def record_fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields of a record: those of the context, then those of the call."""
    own = {name: value for name, value in record.__dict__.items() if name not in _RECORD_FIELDS and value != ""}
    return {**_context.get({}), **own}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, msg, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **record_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class ConsoleFormatter(logging.Formatter):
    """Time, level, message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={_quoted(value)}" for name, value in record_fields(record).items())
        line = f"{moment} {record.levelname[:4]:4} {record.getMessage()}  {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or not text else text
