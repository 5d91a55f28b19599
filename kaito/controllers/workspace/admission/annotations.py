"""Annotations of kaito.sh: those that have a meaning, the values they may have, and what was probably mistyped."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api import keys
from kaito.controllers.workspace.admission.case import RUNTIMES, Case
from kaito.controllers.workspace.admission.findings import Finding, Warned, meant, shown, unsupported_choice

CHOICES = {
    keys.RUNTIME_ANNOTATION: RUNTIMES,
    keys.NODE_IMAGE_FAMILY_ANNOTATION: ("ubuntu", "azurelinux"),
    keys.PERFORMANCE_MODE_ANNOTATION: ("balanced", "interactivity", "throughput"),
    keys.USE_LOCAL_WEIGHTS_ANNOTATION: ("true", "false"),
}
"""Annotations whose value must be one of these."""

ONLY = {
    keys.ENABLE_LOAD_BALANCER_ANNOTATION: ("True", "asks for a load balancer"),
    keys.DISABLE_BENCHMARK_ANNOTATION: ("true", "turns the benchmark off"),
    keys.MODEL_STREAMING_ANNOTATION: ("disabled", "turns streaming off"),
}
"""Annotations of which only one value says anything."""

WITHOUT_EFFECT = (
    keys.NODE_CLASS_NAME_ANNOTATION,
    "kaito.sh/model-mirror-storage-class",
    "kaito.sh/streaming-service-account",
)
"""Annotations of KAITO's that nothing here looks at."""

KNOWN = frozenset(
    (
        *(*CHOICES, *ONLY, *WITHOUT_EFFECT, keys.BYPASS_RESOURCE_CHECKS_ANNOTATION, "kaito.sh/upgrade-start-time"),
        keys.RESOLVED_MODEL_ANNOTATION,
    )
)

MOST_UNKNOWN = 10
"""Unknown annotations that are told of: looking for near names takes time, and there may be thousands."""

_PREFIX = "kaito.sh/"


def path(name: str) -> str:
    """The path of an annotation."""
    return f"metadata.annotations[{name}]"


def annotated(case: Case) -> Iterable[Finding]:
    """Each has a meaning, and a value that says something; what has none is most likely a slip."""
    for name, value in case.asked.annotations.items():
        if name in CHOICES and value not in CHOICES[name]:
            yield unsupported_choice(path(name), value, CHOICES[name])
        elif name in ONLY and value != ONLY[name][0]:
            only, effect = ONLY[name]
            yield Warned(path(name), f"{shown(value)} has no effect: only {shown(only)} {effect}")
        elif name in WITHOUT_EFFECT:
            yield Warned(path(name), "has no effect here")
    unknown = [name for name in case.asked.annotations if name.startswith(_PREFIX) and name not in KNOWN]
    for name in unknown[:MOST_UNKNOWN]:
        yield Warned(path(name[:100]), f"is not known and has no effect{meant(name, KNOWN)}")
