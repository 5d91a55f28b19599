"""Admission webhooks: typed validators and defaulters over TLS, with certificates and configurations of their own."""

from kaito.client.errors import Cause
from kaito.runtime.webhook.admission import Defaulter, MatchCondition, Validator, Webhook
from kaito.runtime.webhook.authority import OwnAuthority
from kaito.runtime.webhook.configuration import Installed, Keeper, Patched, Unmanaged
from kaito.runtime.webhook.conversion import Conversion, ConversionFailed, Converter
from kaito.runtime.webhook.denial import Denied, duplicate, forbidden, invalid, not_found, required, unsupported
from kaito.runtime.webhook.reach import AtUrl, InService, Reach
from kaito.runtime.webhook.request import AdmissionRequest
from kaito.runtime.webhook.rotation import Policy
from kaito.runtime.webhook.server import WebhookServer
from kaito.runtime.webhook.sources import CertificateSource, Files

__all__ = [
    "AdmissionRequest",
    "AtUrl",
    "Cause",
    "CertificateSource",
    "Conversion",
    "ConversionFailed",
    "Converter",
    "Defaulter",
    "Denied",
    "Files",
    "InService",
    "Installed",
    "Keeper",
    "MatchCondition",
    "OwnAuthority",
    "Patched",
    "Policy",
    "Reach",
    "Unmanaged",
    "Validator",
    "Webhook",
    "WebhookServer",
    "duplicate",
    "forbidden",
    "invalid",
    "not_found",
    "required",
    "unsupported",
]
