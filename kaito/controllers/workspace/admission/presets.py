"""Presets: whether the catalogue has the model, whether it may be used, and with what."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api import keys
from kaito.catalog import ModelPreset
from kaito.controllers.workspace.admission.asked import AskedPreset
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, Warned, shown, unsupported_choice
from kaito.hub import MODEL_ID
from kaito.runtime.webhook import forbidden, invalid, required


def known(case: Case) -> Iterable[Finding]:
    """A model is one of the catalogue, or any of Hugging Face, which the controller looks up."""
    for asked, model in case.models:
        if model is not None:
            continue
        if MODEL_ID.fullmatch(asked.name):
            yield Warned(
                f"{asked.path}.name",
                f"{shown(asked.name)} is not in the catalogue{_near(case, asked)}; "
                f"it gets no node before it was found on Hugging Face",
            )
        else:
            yield invalid(f"{asked.path}.name", asked.name, _unknown(case, asked))


def allowed(case: Case) -> Iterable[Finding]:
    """A deprecated model is for those who have it; one behind a licence needs a token."""
    for asked, model in case.models:
        if model is None:
            continue
        if model.deprecated:
            instead = f"choose {model.successor}" if model.successor else "choose another; see all with: kaito models"
            yield invalid(f"{asked.path}.name", asked.name, f"deprecated, and refused for new Workspaces: {instead}")
        if model.gated and not asked.secret:
            yield required(
                f"{asked.path}.presetOptions.modelAccessSecret",
                f"{model.name} is behind a licence: name a Secret with the key HF_TOKEN, "
                f"the token of an account that has accepted it",
            )


def deprecated(case: Case) -> Iterable[Finding]:
    """Images with a model in them are of the past."""
    for asked, _model in case.models:
        for path in asked.deprecated:
            yield Warned(
                path, "deprecated and without effect: weights are downloaded, with the token of modelAccessSecret"
            )


def runtime(case: Case) -> Iterable[Finding]:
    """What runs the model must be able to."""
    model, runtime = case.served, case.runtime
    if model is None or runtime is None or runtime in model.runtimes:
        return
    path = f"metadata.annotations[{keys.RUNTIME_ANNOTATION}]"
    if case.asked_runtime is not None:
        cause = unsupported_choice(path, runtime, model.runtimes)
        yield cause._replace(message=f"{cause.message} ({model.name} runs on nothing else)")
    else:
        yield invalid(
            "inference.preset.name",
            _asked_name(case),
            f"it does not run on {runtime}, the runtime of this operator: add the annotation "
            f"{keys.RUNTIME_ANNOTATION}: {model.runtimes[0]}",
        )


def adapters(case: Case) -> Iterable[Finding]:
    """Some models bear none."""
    model = case.served
    if model is not None and case.asked.adapters and not model.adapters:
        yield forbidden(
            "inference.adapters", f"{model.name} bears none: leave them out, or choose {_bearing(case, model)}"
        )


def _asked_name(case: Case) -> str:
    return next(asked.name for asked in case.asked.presets if asked.path == "inference.preset")


def _near(case: Case, asked: AskedPreset) -> str:
    name = case.meant_models.get(asked.path)
    return f"; did you mean {shown(name)}?" if name else ""


def _unknown(case: Case, asked: AskedPreset) -> str:
    return (
        f"not a model of the catalogue{_near(case, asked)}; see all with: kaito models; "
        f"a model of Hugging Face is named ORGANISATION/MODEL"
    )


def _bearing(case: Case, model: ModelPreset) -> str:
    """A model of about the same size that bears adapters."""
    others = (
        other for other in case.catalog.models.values() if other.adapters and not (other.deprecated or other.gated)
    )
    nearest = min(others, key=lambda other: abs(other.weights_gib - model.weights_gib), default=None)
    return nearest.name if nearest else "another model"
