"""Tuning: whether the model can be fine-tuned, by the method that was asked for, on what it would get."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.catalog import GpuSku, ModelPreset
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, Warned, unsupported_choice
from kaito.controllers.workspace.admission.nodes import INSTANCE_TYPE
from kaito.runtime.webhook import forbidden, invalid
from kaito.sizing import CannotRun, size_tuning

METHODS = ("lora", "qlora")


def tuning(case: Case) -> Iterable[Finding]:
    """The model must be one that can be tuned; little memory is the user's own risk."""
    if not case.asked.tuning:
        return
    if not case.makes_nodes:
        yield forbidden("tuning", "fine-tuning needs nodes that are made for it, and none are here (byo)")
    for asked, model in case.models:
        if asked.path != "tuning.preset" or model is None:
            continue
        if model.tuning is None:
            yield invalid(f"{asked.path}.name", asked.name, f"it cannot be fine-tuned; {_tunable(case, model)} can")
        elif case.asked.method in METHODS and case.asked.method not in model.tuning.methods:
            yield unsupported_choice("tuning.method", case.asked.method, model.tuning.methods)
        elif case.asked.method in METHODS and case.sku is not None and case.sku.schedulable and case.makes_nodes:
            yield from _memory(model, case.asked.method, case.sku)


def _memory(model: ModelPreset, method: str, sku: GpuSku) -> Iterable[Finding]:
    try:
        sizing = size_tuning(model, sku, "qlora" if method == "qlora" else "lora")
    except CannotRun as error:
        yield invalid(INSTANCE_TYPE, sku.name, str(error))
        return
    yield from (Warned(INSTANCE_TYPE, note) for note in sizing.notes)
    if not sizing.fits:
        where = "each GPU" if sizing.scope == "gpu" else "the GPUs of a node"
        yield Warned(
            INSTANCE_TYPE,
            f"{method} of {model.name} takes about {sizing.needed_gib:.1f} GiB of {where}; "
            f"{sku.name} has {sizing.available_gib:.1f}: it may run out of memory",
        )


def _tunable(case: Case, model: ModelPreset) -> str:
    """Models that can be tuned, those of about the same size first."""
    able = [other for other in case.catalog.models.values() if other.tuning and not other.deprecated]
    able.sort(key=lambda other: abs(other.weights_gib - model.weights_gib))
    return ", ".join(other.name for other in able[:3]) or "none"
