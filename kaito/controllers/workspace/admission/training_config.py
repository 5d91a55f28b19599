"""Training config: what the ConfigMap that ``tuning.config`` names says under ``training_config.yaml``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from kaito.controllers.workspace.admission.asked import Json
from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, meant, shown
from kaito.runtime.webhook import invalid

PATH = "tuning.config"
ROOT = "training_config"
SECTIONS = ("ModelConfig", "QuantizationConfig", "LoraConfig", "TrainingArguments", "DatasetConfig", "DataCollator")
RESULTS_BELOW = "/mnt"
"""Where volumes are; what is written elsewhere is lost with the pod."""


def training_config(case: Case) -> Iterable[Finding]:
    """Its sections are known, weights are loaded in as many bits as the method wants, results go to a volume."""
    document = case.documents.get(PATH)
    if document is None:
        return
    asked = case.asked.config(PATH)
    yield from (invalid(PATH, asked.name, f"{asked.key}: {text}") for text in _faults(document, case.asked.method))


def _faults(document: Json, method: str) -> Iterable[str]:
    training = document.get(ROOT)
    if not isinstance(training, Mapping):
        yield f"it needs the key {ROOT}, a mapping with any of {', '.join(SECTIONS)}"
        return
    for name, section in training.items():
        if name not in SECTIONS:
            near = meant(str(name), SECTIONS)
            yield f"{ROOT}.{shown(str(name))} is no section; there are {', '.join(SECTIONS)}{near}"
        elif section is not None and not isinstance(section, Mapping):
            yield f"{ROOT}.{name} must be a mapping of options"
    yield from _bits(_section(training, "QuantizationConfig"), method)
    yield from _results(_section(training, "TrainingArguments"))


def _section(training: Mapping[object, object], name: str) -> Mapping[object, object]:
    section = training.get(name)
    return section if isinstance(section, Mapping) else {}


def _bits(options: Mapping[object, object], method: str) -> Iterable[str]:
    where = f"{ROOT}.QuantizationConfig"
    given = {name: options.get(name) for name in ("load_in_4bit", "load_in_8bit")}
    for name, value in given.items():
        if value is not None and _truth(value) is None:
            yield f"{where}.{name} is {shown(value)}; expected true or false"
            return
    on = [name for name, value in given.items() if _truth(value)]
    if len(on) == 2:
        yield f"{where} has load_in_4bit and load_in_8bit both on: turn one off"
    elif method == "lora" and on:
        yield f"{where}.{on[0]} is on; method lora loads whole weights: turn it off, or choose method qlora"
    elif method == "qlora" and not on:
        yield f"{where} has neither load_in_4bit nor load_in_8bit on; method qlora needs one: set load_in_4bit: true"


def _truth(value: object) -> bool | None:
    """What an option says; text is taken as the trainer's command line takes it. None: neither yes nor no."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def _results(options: Mapping[object, object]) -> Iterable[str]:
    given = options.get("output_dir")
    if given is None:
        return
    if not isinstance(given, str) or not posixpath.normpath(given).startswith(f"{RESULTS_BELOW}/"):
        yield (
            f"{ROOT}.TrainingArguments.output_dir is {shown(given)}, which is lost with the pod: "
            f"choose one below {RESULTS_BELOW}, such as {RESULTS_BELOW}/results"
        )
