"""Fitting: whether the model goes onto the nodes that are to be made for it."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api import keys
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, Warned
from kaito.controllers.workspace.admission.nodes import INSTANCE_TYPE
from kaito.controllers.workspace.rules import too_many_nodes
from kaito.runtime.webhook import invalid
from kaito.sizing import Sizing, SizingError


def fit(case: Case) -> Iterable[Finding]:
    """A model that does not fit is refused, with what would fit, unless the user says that they know better."""
    sizing = case.sizing
    if isinstance(sizing, Sizing):
        yield from (Warned(INSTANCE_TYPE, note) for note in sizing.notes)
        if (fault := too_many_nodes(sizing)) is not None:
            yield invalid(INSTANCE_TYPE, case.asked.instance_type, fault)
        elif sizing.nodes > case.asked.count and case.served is not None:
            yield Warned(
                "resource.count",
                f"{case.served.name} needs {sizing.nodes} nodes of {case.asked.instance_type}, and so many are made: "
                f"count ({case.asked.count}) is the least to have",
            )
    elif isinstance(sizing, SizingError):
        if keys.BYPASS_RESOURCE_CHECKS_ANNOTATION in case.asked.annotations:
            yield Warned(INSTANCE_TYPE, f"{sizing}; let through by the annotation")
        else:
            yield invalid(INSTANCE_TYPE, case.asked.instance_type, str(sizing))
