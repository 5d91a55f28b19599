"""ConditionsTable: what people see of conditions that turn, in a log and on terminals wide and narrow."""

from __future__ import annotations

import io

from rich.console import Console

from kaito.cli.conditions_table import STILL_S, ConditionsTable
from kaito.kube.meta_v1 import Condition

WAITS = "Deployment phi: 0 of 1 pods are ready: container inference does not start: ImagePullBackOff"


def condition(kind: str, status: str, message: str) -> Condition:
    return Condition.model_validate({"type": kind, "status": status, "reason": "Because", "message": message})


CONDITIONS = (condition("InferenceReady", "False", WAITS), condition("WorkspaceReady", "False", WAITS))


def test_a_line_for_each_turn_and_what_is_waited_for_again_after_a_while() -> None:
    now = [0.0]
    written = io.StringIO()
    console = Console(file=written, width=200)
    with ConditionsTable(console, ("InferenceReady",), clock=lambda: now[0]) as table:
        for now[0] in (1.0, 2.0, 1.0 + STILL_S):
            table.show(CONDITIONS)
            table.note("server: loading")
    assert written.getvalue().splitlines() == [
        f"      1.0 s  InferenceReady     False    {WAITS}",
        "      1.0 s  WorkspaceReady     False    as InferenceReady",
        "      1.0 s  server: loading",
        "     11.0 s  server: loading (still)",
    ]


def test_a_narrow_terminal_has_the_messages_below_the_table_and_nothing_cut() -> None:
    written = io.StringIO()
    console = Console(file=written, width=40, force_terminal=True, color_system=None, soft_wrap=True)
    with ConditionsTable(console, ("InferenceReady",), clock=lambda: 0.0) as table:
        table.show(CONDITIONS)
        table.note("server: loading")
    shown = written.getvalue()
    assert all(len(line) <= 40 for line in shown.splitlines() if "\x1b" not in line)
    assert "".join(WAITS.split()) in "".join(shown.split())
    assert "server: loading (0 s)" in shown
