"""Arguments: a declaration that cannot work is refused where it is written, with what was given and what to give."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from kaito.kube.core_v1 import ConfigMap, Secret
from kaito.runtime import DONE, Controller, Result, Watch
from tests.unit.runtime.widgets import Widget

Untyped: Any = Controller  # as it is for those who use no type checker


class Idle:
    async def reconcile(self, _: Widget) -> Result:
        return DONE


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: Untyped("Widget", Idle()), "Controller(Widget): kind has 'Widget'; give classes of objects"),
        (lambda: Untyped(Widget, Idle), "the reconciler is the class Idle; give an object of it"),
        (lambda: Untyped(Widget, object()), "has neither reconcile(obj) nor reconcile_key(key)"),
        (lambda: Untyped(Widget, Idle(), owns=Secret), "give a list, such as [Deployment]"),
        (lambda: Untyped(Widget, Idle(), owns=[Watch(Secret, map=lambda _: [])]), "owns has <"),
        (lambda: Untyped(Widget, Idle(), watches=[ConfigMap]), "give Watchs, such as Watch(Secret, map=…)"),
        (lambda: Untyped(Widget, Idle(), channels=["a"]), "channels has 'a'; give Channels"),
        (lambda: Untyped(Widget, Idle(), needs=[("secrets", "get")]), 'such as Access(Secret, "get")'),
        (lambda: Untyped(Widget, Idle(), concurrency="5"), "concurrency is '5'; give a whole number"),
        (lambda: Untyped(Widget, Idle(), reconcile_timeout=30), "reconcile_timeout is 30; give a timedelta"),
        (lambda: Untyped(Widget, Idle(), sync_timeout=1.5), "sync_timeout is 1.5; give a timedelta"),
    ],
)
def test_what_is_of_another_type_is_refused_with_what_to_give(declare: Callable[[], object], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        declare()
