"""Inference config: what the ConfigMap that ``inference.config`` names says under ``inference_config.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kaito.controllers.workspace.admission.asked import Json
from kaito.controllers.workspace.admission.case import Case, max_model_len
from kaito.controllers.workspace.admission.findings import Finding, Warned, meant, shown
from kaito.runtime.webhook import invalid

PATH = "inference.config"
KNOWN = ("vllm", "kv_cache_cpu_memory_utilization", "max_probe_steps")
_CONTEXT = "max-model-len"


def inference_config(case: Case) -> Iterable[Finding]:
    """The context is one that the model has; what is not known is most likely a slip."""
    document = case.documents.get(PATH)
    if document is None:
        return
    for key in document:
        if key not in KNOWN:
            near = f"; put it under vllm, as vllm.{_CONTEXT}" if meant(str(key), (_CONTEXT,)) or key == _CONTEXT else ""
            yield Warned(PATH, f"{shown(str(key))} is not known and has no effect{near or meant(str(key), KNOWN)}")
    vllm = document.get("vllm")
    if vllm is not None and not isinstance(vllm, Mapping):
        yield _fault(case, f"vllm must be a mapping of vLLM's options, not {_kind(vllm)}")
        return
    for key in vllm or {}:
        near = meant(str(key), (_CONTEXT,)) if key not in (_CONTEXT, "max_model_len") else ""
        if near:
            yield Warned(PATH, f"vllm.{shown(str(key))} is handed to vLLM as it is{near}")
    yield from _context(case, document)


def _context(case: Case, document: Json) -> Iterable[Finding]:
    tokens, model = max_model_len(document), case.served
    if tokens is None:
        return
    if type(tokens) is not int or tokens < 1:
        yield _fault(case, f"vllm.{_CONTEXT} is {shown(tokens)}; expected a whole number of tokens, such as 2048")
    elif model is not None and tokens > model.context_tokens:
        limit = model.context_tokens
        yield _fault(case, f"vllm.{_CONTEXT} is {tokens}; {model.name} takes {limit} tokens at most: lower it")


def _fault(case: Case, text: str) -> Finding:
    asked = case.asked.config(PATH)
    return invalid(PATH, asked.name, f"{asked.key}: {text}")


def _kind(value: object) -> str:
    return {"list": "a list", "str": "text", "int": "a number", "float": "a number"}.get(type(value).__name__, "this")
