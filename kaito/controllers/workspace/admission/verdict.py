"""Verdict: all that is wrong with a Workspace at once, and what of it an update may leave as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kaito.api.kaito_v1beta1 import Workspace
from kaito.controllers.workspace.admission.annotations import annotated
from kaito.controllers.workspace.admission.asked import Json
from kaito.controllers.workspace.admission.case import Case, Check
from kaito.controllers.workspace.admission.changes import changes
from kaito.controllers.workspace.admission.config_maps import ConfigReads
from kaito.controllers.workspace.admission.findings import Finding, Warned
from kaito.controllers.workspace.admission.fitting import fit
from kaito.controllers.workspace.admission.inference_config import inference_config
from kaito.controllers.workspace.admission.nodes import instance_type, name, selector
from kaito.controllers.workspace.admission.partition import partition
from kaito.controllers.workspace.admission.presets import adapters, allowed, deprecated, known, runtime
from kaito.controllers.workspace.admission.template import template
from kaito.controllers.workspace.admission.training_config import training_config
from kaito.controllers.workspace.admission.tuning import tuning
from kaito.controllers.workspace.admission.wording import worded
from kaito.kube.validation import Fault, faults
from kaito.runtime.webhook import Cause

CHECKS: tuple[Check, ...] = (
    *(instance_type, selector, name, partition),
    *(known, allowed, deprecated, runtime, adapters, fit),
    *(annotated, template, tuning, inference_config, training_config, changes),
)
MOST_CAUSES = 40
"""Causes that a refusal lists; whoever has more of them needs no more."""

_UNREADABLE = "FieldValueTypeInvalid"
# Where one of these is, the API server asks no rule.
_BLOCKING = frozenset(
    (_UNREADABLE, "FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany")
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a Workspace.

    Attributes:
        causes: why it is refused, by field; empty: it is not.
        warnings: what the user should know.
        for_the_rules: the API server, which comes next, will list all causes in one refusal, too, and word it better:
            only CEL can put values into the messages of rules.
    """

    causes: tuple[Cause, ...] = ()
    warnings: tuple[str, ...] = ()
    for_the_rules: bool = False


def judge(case: Case, workspace: Json, old: Json | None, configs: ConfigReads) -> Verdict:
    """Returns the verdict on a Workspace. Pure; never raises, whatever it is.

    A fault that the object had before an update, word for word, is told as a warning: an object that breaks a rule
    which came after it can still be changed otherwise.

    Args:
        case: what it asks for.
        workspace: the same as JSON, for the schema.
        old: what it is an update of; None: it is new.
        configs: what the ConfigMaps say that it names.
    """
    schema = faults(Workspace, _named(workspace, case.asked.name), old)
    own = [*(finding for check in CHECKS for finding in check(case)), *configs.findings]
    warnings = [str(finding) for finding in own if isinstance(finding, Warned)]
    causes = _merged(schema, _causes(own), _fixed(schema, workspace, old))
    if causes and old is not None and case.before is not None:
        stood = _stood(case, old, configs)
        warnings += [f"{cause.field}: {cause.message} (as before, so it is let through)" for cause in causes & stood]
        causes -= stood
    ordered = sorted(causes, key=lambda cause: (_in_order(cause.field), cause.message))
    for_the_rules = causes <= {Cause(*fault) for fault in schema if _is_for_the_rules(fault)}
    return Verdict(_cut(ordered), tuple(dict.fromkeys(warnings)), for_the_rules)


def _is_for_the_rules(fault: Fault) -> bool:
    # A number out of its format's range is told by the API server without a field.
    return fault.reason not in _BLOCKING and " with format " not in fault.message


def _causes(findings: Iterable[Finding]) -> list[Cause]:
    return [finding for finding in findings if isinstance(finding, Cause)]


def _merged(schema: Sequence[Fault], own: Sequence[Cause], fixed: frozenset[str]) -> set[Cause]:
    """All faults, each field told once: where the schema or a rule speaks, the catalogue is not asked.

    Of what cannot be read or changed nothing else is said, nor of anything below it.
    """
    told = {fault.field for fault in schema}
    closed = fixed | {fault.field for fault in schema if fault.reason == _UNREADABLE}
    ours = (cause for cause in own if cause.field not in told)
    return {
        *(worded(fault) for fault in schema),
        *(cause for cause in ours if not any(_within(cause.field, path) for path in closed)),
    }


def _fixed(schema: Sequence[Fault], workspace: Json, old: Json | None) -> frozenset[str]:
    """The fields that an update may not change and did: whatever stands there now would not do."""
    if old is None or not schema:
        return frozenset()
    if_new = set(faults(Workspace, workspace))
    return frozenset(fault.field for fault in schema if fault not in if_new)


def _stood(case: Case, old: Json, configs: ConfigReads) -> set[Cause]:
    """The faults that the object had before."""
    assert case.before is not None
    same = set(case.before.configs) & set(case.asked.configs)
    paths = {config.path for config in same}
    documents = {path: document for path, document in configs.documents.items() if path in paths}
    before = replace(case, asked=case.before, before=None, documents=documents)
    own = [finding for check in CHECKS for finding in check(before)]
    own += [finding for finding in configs.findings if finding.field in paths]
    return _merged(faults(Workspace, old), _causes(own), frozenset())


def _named(workspace: Json, name: str) -> Json:
    """With a name such as the API server will make up, if it is to make one up."""
    metadata = workspace.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") or not name:
        return workspace
    return {**workspace, "metadata": {**metadata, "name": name}}


def _within(field: str, path: str) -> bool:
    return field == path or field.startswith((f"{path}.", f"{path}["))


def _in_order(field: str) -> list[tuple[int, str]]:
    """Sorts ``adapters[10]`` behind ``adapters[9]``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,9})", field)]


def _cut(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    if len(causes) <= MOST_CAUSES:
        return tuple(causes)
    left = len(causes) - MOST_CAUSES
    return (*causes[:MOST_CAUSES], causes[MOST_CAUSES]._replace(message=f"and {left} more faults from here on"))
