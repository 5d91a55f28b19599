"""Tuning: whether the model can be fine-tuned, by the method that was asked for, on what it would get."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.catalog import GpuSku, ModelPreset
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, Warned, unsupported_choice
from kaito.controllers.workspace.admission.nodes import INSTANCE_TYPE
from kaito.runtime.webhook import forbidden, invalid

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
        elif case.sku is not None and case.sku.schedulable and case.makes_nodes:
            yield from _memory(model, case.asked.method, case.sku)


def _memory(model: ModelPreset, method: str, sku: GpuSku) -> Iterable[Finding]:
    needs = model.tuning
    # The figures of the catalogue are for 16 bits; qlora loads the weights in 4.
    if needs is None or method != "lora":
        return
    if sku.total_gpu_memory_gib < needs.min_total_gpu_memory_gib or sku.gpu.memory_gib < needs.min_gpu_memory_gib:
        yield Warned(
            INSTANCE_TYPE,
            f"{model.name} is known to be tuned with {needs.min_total_gpu_memory_gib:g} GiB of GPU memory or more; "
            f"{sku.name} has {sku.total_gpu_memory_gib:g}: it may run out, or choose method qlora",
        )


def _tunable(case: Case, model: ModelPreset) -> str:
    """Models that can be tuned, those of about the same size first."""
    able = [other for other in case.catalog.models.values() if other.tuning and not other.deprecated]
    able.sort(key=lambda other: abs(other.weights_gib - model.weights_gib))
    return ", ".join(other.name for other in able[:3]) or "none"
