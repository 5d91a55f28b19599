"""What Karpenter v1.7's CRD lets a NodeClaim ask for: patterns and CEL rules over requirements."""

from typing import Final

from kaito.kube.schema_markers import Rule

_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
KEY_PATTERN: Final = f"^({_DNS}/)?{_NAME}$"
LABEL_VALUE_PATTERN: Final = f"^({_NAME})?$"
TAINT_VALUE_PATTERN: Final = LABEL_VALUE_PATTERN

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


def _restricted(domain: str, allowed: str) -> Rule:
    """Keys of a domain, or of one below it, are for whoever owns the domain; ``allowed`` are the exceptions."""
    return Rule(
        f"!self.contains('/') || !self.split('/')[0].matches('(^|[.]){domain.replace('.', '[.]')}$') || {allowed}",
        f'label domain "{domain}" is restricted',
    )


REQUIREMENT_KEY_RULES: Final = (
    _restricted(
        "kubernetes.io",
        f"self in [{_LISTED}] || self.split('/')[0].endsWith('node.kubernetes.io') "
        "|| self.split('/')[0].endsWith('node-restriction.kubernetes.io')",
    ),
    _restricted("k8s.io", "self.split('/')[0].endsWith('kops.k8s.io')"),
    _restricted("karpenter.sh", "self in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool']"),
    Rule("self != 'kubernetes.io/hostname'", 'label "kubernetes.io/hostname" is restricted'),
)

REQUIREMENTS_RULES: Final = (
    Rule(
        "self.all(x, x.operator == 'In' ? has(x.values) && x.values.size() != 0 : true)",
        "requirements with operator In must have a value defined",
    ),
    Rule(
        "self.all(x, x.operator == 'Gt' || x.operator == 'Lt' "
        "? has(x.values) && x.values.size() == 1 && x.values[0].matches('^[0-9]{1,18}$') : true)",
        "requirements with operator Gt or Lt must have a single positive integer value",
    ),
    Rule(
        "self.all(x, x.operator == 'In' && has(x.minValues) ? has(x.values) && x.values.size() >= x.minValues : true)",
        "requirements with minValues must have at least that many values",
    ),
)
