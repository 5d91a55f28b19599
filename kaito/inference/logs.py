"""Log lines: a constant message with fields, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from typing import Any

from kaito.inference.options import ServerOptions

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def configure_logging(options: ServerOptions) -> None:
    """Sends every line of this process to standard error, in the form that the options ask for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if options.log_format == "json" else _Console())
    logging.basicConfig(handlers=[handler], level=options.log_level.upper(), force=True)
    logging.captureWarnings(True)
    warnings.simplefilter("default" if options.log_level == "debug" else "ignore")
    for name in ("uvicorn", "asyncio", "urllib3", "filelock", "httpx", "httpcore", "huggingface_hub", "transformers"):
        logging.getLogger(name).setLevel(logging.WARNING)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _OWN}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        } | fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        pairs = "".join(f" {name}={_shown(value)}" for name, value in fields(record).items())
        line = f"{stamp} {record.levelname:<7} {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _shown(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=\n\r') else text
