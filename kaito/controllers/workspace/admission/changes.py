"""Changes: what an update may not change that the CRD's rules do not tell."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api import keys
from kaito.controllers.workspace.admission.annotations import path
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, shown
from kaito.controllers.workspace.admission.nodes import INSTANCE_TYPE
from kaito.runtime.webhook import forbidden

RECREATE = "delete the Workspace and create it again"


def changes(case: Case) -> Iterable[Finding]:
    """An instance type may be cleared only where nodes are brought; streaming is chosen once."""
    before, now = case.before, case.asked
    if before is None:
        return
    if case.makes_nodes and before.instance_type and not now.instance_type:
        yield forbidden(
            INSTANCE_TYPE,
            f"nodes of {shown(before.instance_type)} were made for it, so that it can be neither changed nor dropped: "
            f"put it back, or {RECREATE}",
        )
    was, is_now = (asked.annotations.get(keys.MODEL_STREAMING_ANNOTATION) for asked in (before, now))
    if was != is_now:
        told, back = ("not there", "leave it out") if was is None else (shown(was), "put it back")
        yield forbidden(
            path(keys.MODEL_STREAMING_ANNOTATION), f"it was {told} and cannot be changed: {back}, or {RECREATE}"
        )
