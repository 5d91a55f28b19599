"""Nodes: the instance type, the selector and the name that the nodes of a Workspace call for."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api import keys
from kaito.catalog import UnknownSku
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, Warned, shown
from kaito.controllers.workspace.rules import EXPRESSIONS_TELL_NO_LABELS, too_long
from kaito.runtime.webhook import forbidden, invalid, required
from kaito.sizing import Sizing, fits

INSTANCE_TYPE = "resource.instanceType"
SELECTOR = "resource.labelSelector"


def instance_type(case: Case) -> Iterable[Finding]:
    """It must be one that is known and has GPUs that can be used; where nodes are brought, there must be none."""
    given = case.asked.instance_type
    if not given:
        yield from _without(case)
    elif not case.makes_nodes:
        yield forbidden(
            INSTANCE_TYPE,
            f"no nodes are made here (--node-provisioner byo): leave {shown(given)} out; "
            f"existing nodes are found by the labels of {SELECTOR}",
        )
    elif isinstance(case.found_sku, UnknownSku):
        yield invalid(INSTANCE_TYPE, given, _unknown(case, case.found_sku))
    elif case.sku is not None and not case.sku.schedulable:
        gpu = case.sku.gpu.model
        yield invalid(INSTANCE_TYPE, given, f"its {gpu} cannot be used: choose a type with NVIDIA GPUs{_fitting(case)}")
    else:
        yield from _known(case, given)


def selector(case: Case) -> Iterable[Finding]:
    """Nodes to be made get labels; expressions do not tell which, and some labels are the controller's own."""
    reserved = [label for label in case.asked.labels if label in keys.RESERVED_LABELS]
    if reserved and len(reserved) < len(case.asked.labels):
        yield Warned(
            f"{SELECTOR}.matchLabels",
            f"{', '.join(reserved)} left out of account: only the controller sets such labels",
        )
    if case.asked.expressions and case.asked.instance_type and case.makes_nodes:
        yield forbidden(f"{SELECTOR}.matchExpressions", EXPRESSIONS_TELL_NO_LABELS)
    if case.asked.preferred_nodes:
        yield Warned("resource.preferredNodes", f"has no effect: existing nodes are found by the labels of {SELECTOR}")


def name(case: Case) -> Iterable[Finding]:
    """What is made for a model on many nodes bears a longer name than the Workspace, in a label of 63 characters."""
    nodes = case.sizing.nodes if isinstance(case.sizing, Sizing) else case.asked.count
    fault = too_long(case.asked.name, nodes)
    # For one node it is a rule of the CRD.
    if case.asked.presets and not case.asked.tuning and nodes > 1 and fault is not None:
        yield invalid("metadata.name", case.asked.name, f"it {fault}")


def _without(case: Case) -> Iterable[Finding]:
    if not case.makes_nodes:
        return
    if case.asked.tuning:
        yield required(INSTANCE_TYPE, "fine-tuning needs nodes that are made for it; see them all with: kaito skus")
    elif case.before is None or case.before.instance_type:
        yield Warned(
            INSTANCE_TYPE, f"not given, so no node is made: existing nodes with the labels of {SELECTOR} serve"
        )


def _unknown(case: Case, error: UnknownSku) -> str:
    near = f"; did you mean {shown(error.did_you_mean)}?" if error.did_you_mean else ""
    smallest = f"; smallest that fit {case.served.name}: {', '.join(error.fitting)}" if case.served else ""
    return f"not an instance type that is known{near}{smallest if error.fitting else ''}; see all with: kaito skus"


def _fitting(case: Case) -> str:
    if case.sku is None or case.served is None:
        return ""
    names = [sku.name for sku in case.catalog.skus_of(case.sku.cloud) if fits(case.served, sku)][:1]
    return f", such as {names[0]}, the smallest of {case.sku.cloud} that fits {case.served.name}" if names else ""


def _known(case: Case, given: str) -> Iterable[Finding]:
    sku = case.sku
    if sku is None:
        return
    if sku.name.lower() != given.lower():
        yield Warned(INSTANCE_TYPE, f"{shown(given)} is another name of {sku.name}")
    if sku.retired and not isinstance(case.sizing, Sizing):  # whose notes say it
        yield Warned(INSTANCE_TYPE, f"{sku.name} was retired by {sku.cloud} on {sku.retired}: new nodes may be refused")
