"""admissionregistration/v1: which webhooks the API server asks, about what, and how it reaches them."""

from typing import Literal

from kaito.kube.meta_v1 import LabelSelector
from kaito.kube.model import KubeModel
from kaito.kube.resource import Resource


class ServiceReference(KubeModel):
    """A Service before a webhook."""

    namespace: str
    name: str
    path: str | None = None
    port: int | None = None


class WebhookClientConfig(KubeModel):
    """How a webhook is reached: by ``service`` or by ``url``; ``ca_bundle`` is base64 of PEM."""

    service: ServiceReference | None = None
    url: str | None = None
    ca_bundle: str | None = None


class RuleWithOperations(KubeModel):
    """What a webhook is asked about; ``*`` stands for all."""

    operations: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    api_versions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    scope: Literal["Cluster", "Namespaced", "*"] | None = None


class MatchCondition(KubeModel):
    """A CEL expression that must be true for the webhook to be asked."""

    name: str
    expression: str


class ValidatingWebhook(KubeModel):
    """One webhook that says yes or no."""

    name: str
    client_config: WebhookClientConfig
    rules: tuple[RuleWithOperations, ...] = ()
    side_effects: str | None = None
    admission_review_versions: tuple[str, ...] = ()
    failure_policy: str | None = None
    match_policy: str | None = None
    namespace_selector: LabelSelector | None = None
    object_selector: LabelSelector | None = None
    timeout_seconds: int | None = None
    match_conditions: tuple[MatchCondition, ...] = ()


class MutatingWebhook(ValidatingWebhook):
    """One webhook that may change the object."""

    reinvocation_policy: str | None = None


class ValidatingWebhookConfiguration(Resource, group="admissionregistration.k8s.io", version="v1", namespaced=False):
    """Webhooks that are asked, all at once, before an object is stored."""

    webhooks: tuple[ValidatingWebhook, ...] = ()


class MutatingWebhookConfiguration(Resource, group="admissionregistration.k8s.io", version="v1", namespaced=False):
    """Webhooks that are asked, one after the other, before an object is checked."""

    webhooks: tuple[MutatingWebhook, ...] = ()
