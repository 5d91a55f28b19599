"""The kopf side of the sync benchmark: an event handler, in a process and an environment of its own (without kaito)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from typing import Any

import kopf  # type: ignore[import-not-found]

# As in benchmarks/widgets.py, which this environment cannot import.
_DIGITS = 6


class Operator:
    """Counts the objects that its handler has seen, and says when it has seen all."""

    def __init__(self, objects: int, round_: int) -> None:
        self._round = round_
        self._waiting = objects
        self._seen = bytearray(objects)
        self.began = 0.0

    async def handle(self, spec: Any, status: Any, patch: Any, name: str, **_: Any) -> None:
        """Looks at a widget, or writes this round into its status; counted once the write has come back."""
        if not spec["image"]:
            raise ValueError(f"{name} has no image")
        if self._round and status.get("round") != self._round:
            patch.status["round"] = self._round
            return
        self._count(int(name[-_DIGITS:]))

    def _count(self, index: int) -> None:
        if self._seen[index]:
            return
        self._seen[index] = 1
        self._waiting -= 1
        if not self._waiting:
            say("synced", seconds=time.perf_counter() - self.began)


def say(event: str, **fields: float) -> None:
    """Tells the parent something."""
    print(json.dumps({"event": event, **fields}), flush=True)


def end_with_stdin() -> None:
    """Waits for the parent to have enough."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--round", type=int, default=0, help="what to write into each status; 0: write nothing")
    arguments = parser.parse_args()
    operator = Operator(arguments.objects, arguments.round)
    kopf.on.event("benchmarks.kaito.sh", "v1", "widgets")(operator.handle)
    say("ready")
    sys.stdin.readline()
    threading.Thread(target=end_with_stdin, daemon=True).start()
    operator.began = time.perf_counter()
    asyncio.run(kopf.operator(standalone=True, clusterwide=True))


if __name__ == "__main__":
    main()
