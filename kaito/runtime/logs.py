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
from uuid import UUID

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


class ReconcileFields(Mapping[str, object]):
    """What the records of one reconcile say of it; texts are made when there is a record.

    Args:
        controller: its controller's name.
        key: what is reconciled.
        bits: 128 random ones, for the id.
    """

    __slots__ = ("_bits", "_controller", "_key")

    def __init__(self, controller: str, key: object, bits: int) -> None:
        self._controller = controller
        self._key = key
        self._bits = bits

    @property
    def reconcile_id(self) -> str:
        """Which reconcile it is: each has another."""
        return str(UUID(int=self._bits, version=4))

    def _fields(self) -> dict[str, object]:
        return {"controller": self._controller, "key": str(self._key), "reconcile_id": self.reconcile_id}

    def __getitem__(self, name: str) -> object:
        return self._fields()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())


def reconcile_id() -> str | None:
    """The id of the reconcile that calls this, or started the calling task: what its log lines say; None: of none."""
    found = _context.get({}).get("reconcile_id")
    return found if isinstance(found, str) else None


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
