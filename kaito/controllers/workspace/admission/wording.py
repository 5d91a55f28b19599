"""Wording: what the API server leaves out of its own refusals: what was probably meant, and what a missing field is."""

from __future__ import annotations

import json
import re
from functools import cache

from kaito.api.kaito_v1beta1 import Workspace
from kaito.controllers.workspace.admission.findings import meant
from kaito.kube.crd import resource_schema
from kaito.kube.validation import Fault
from kaito.runtime.webhook import Cause

_CHOICE = re.compile(r'Unsupported value: (".*"): supported values: (.*)', re.DOTALL)


def worded(fault: Fault) -> Cause:
    """Returns a fault of the schema in the API server's words, and what helps to mend it behind them."""
    if fault.message == "Required value":
        return Cause(fault.field, fault.reason, f"{fault.message}{_what_it_is(fault.field)}")
    return Cause(fault.field, fault.reason, f"{fault.message}{_meant(fault.message)}")


def _meant(message: str) -> str:
    match = _CHOICE.fullmatch(message)
    if match is None:
        return ""
    try:
        return meant(json.loads(match[1]), json.loads(f"[{match[2]}]"))
    except ValueError:  # a long value was cut
        return ""


def _what_it_is(field: str) -> str:
    """The first clause of what ``kubectl explain`` says of a field."""
    node: dict[str, object] = _schema()
    for part in re.findall(r"[^.\[\]]+", field):
        below = node.get("items") if part.isdecimal() else node.get("properties")
        found = below if part.isdecimal() or not isinstance(below, dict) else below.get(part)
        if not isinstance(found, dict):
            return ""
        node = found
    text = str(node.get("description", ""))
    first = re.split(r"[;:.](?: |$)", text, maxsplit=1)[0]
    return f": {first[0].lower()}{first[1:]}" if first else ""


@cache
def _schema() -> dict[str, object]:
    schema: dict[str, object] = resource_schema(Workspace)
    return schema
