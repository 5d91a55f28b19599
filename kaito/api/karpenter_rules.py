"""What Karpenter v1.7's CRD lets a NodeClaim ask for: patterns and CEL rules over requirements."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kaito.api.text_rules import found
from kaito.kube.schema_markers import Rule

_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
KEY_PATTERN: Final = f"^({_DNS}/)?{_NAME}$"
LABEL_VALUE_PATTERN: Final = f"^({_NAME})?$"
TAINT_VALUE_PATTERN: Final = f"^(({_DNS}/)?{_NAME})?$"
"""Karpenter's allows a domain, and Kubernetes' own no value at all; here both are taken."""
CONDITION_REASON_PATTERN: Final = "^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?)?$"

_WELL_KNOWN = (
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/windows-build",
)
_LISTED = ", ".join(f"'{key}'" for key in _WELL_KNOWN)
_KARPENTERS = ("karpenter.sh/capacity-type", "karpenter.sh/nodepool")


def _restricted(domain: str, allowed: str, is_allowed: Callable[[str], bool]) -> Rule:
    """Keys of a domain, or of one below it, are for whoever owns the domain; ``allowed`` are the exceptions."""
    expression = f"(^|[.]){domain.replace('.', '[.]')}$"
    is_of_domain = found(expression)

    def holds(key: Any, _old: Any) -> bool:
        return "/" not in key or not is_of_domain(_domain(key)) or is_allowed(key)

    return Rule(
        f"!self.contains('/') || !self.split('/')[0].matches('{expression}') || {allowed}",
        f'label domain "{domain}" is restricted',
        holds=holds,
    )


def _domain(key: str) -> str:
    return key.split("/", maxsplit=1)[0]


REQUIREMENT_KEY_RULES: Final = (
    _restricted(
        "kubernetes.io",
        f"self in [{_LISTED}] || self.split('/')[0].endsWith('node.kubernetes.io') "
        "|| self.split('/')[0].endsWith('node-restriction.kubernetes.io')",
        lambda key: (
            key in _WELL_KNOWN or _domain(key).endswith(("node.kubernetes.io", "node-restriction.kubernetes.io"))
        ),
    ),
    _restricted(
        "k8s.io", "self.split('/')[0].endsWith('kops.k8s.io')", lambda key: _domain(key).endswith("kops.k8s.io")
    ),
    _restricted("karpenter.sh", f"self in {list(_KARPENTERS)}", lambda key: key in _KARPENTERS),
    Rule(
        "self != 'kubernetes.io/hostname'",
        'label "kubernetes.io/hostname" is restricted',
        holds=lambda key, _old: key != "kubernetes.io/hostname",
    ),
)

_is_integer = found("^[0-9]{1,18}$")


def _for_all(rule: str, message: str, holds: Callable[[Mapping[str, Any], Sequence[str]], bool]) -> Rule:
    """Returns a rule over a list of requirements; ``holds`` gets each with its values."""
    return Rule(
        f"self.all(x, {rule})",
        message,
        holds=lambda value, _old: all(holds(requirement, requirement.get("values", ())) for requirement in value),
    )


REQUIREMENTS_RULES: Final = (
    _for_all(
        "x.operator == 'In' ? has(x.values) && x.values.size() != 0 : true",
        "requirements with operator In must have a value defined",
        lambda requirement, values: requirement.get("operator") != "In" or bool(values),
    ),
    _for_all(
        "x.operator == 'Gt' || x.operator == 'Lt' "
        "? has(x.values) && x.values.size() == 1 && x.values[0].matches('^[0-9]{1,18}$') : true",
        "requirements with operator Gt or Lt must have a single positive integer value",
        lambda requirement, values: (
            requirement.get("operator") not in ("Gt", "Lt") or (len(values) == 1 and _is_integer(values[0]))
        ),
    ),
    _for_all(
        "x.operator == 'In' && has(x.minValues) ? has(x.values) && x.values.size() >= x.minValues : true",
        "requirements with minValues must have at least that many values",
        lambda requirement, values: (
            requirement.get("operator") != "In" or len(values) >= requirement.get("minValues", 0)
        ),
    ),
)


def not_empty(field: str) -> Rule:
    """Returns a rule for a text that says something."""
    return Rule("self != ''", f"{field} may not be empty", holds=lambda value, _old: value != "")


IMMUTABLE: Final = Rule("self == oldSelf", "spec is immutable", holds=lambda value, old: old is None or value == old)
