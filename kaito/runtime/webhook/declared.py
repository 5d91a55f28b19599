"""From declarations to webhook configurations: pure functions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kaito.kube.resource import ResourceType
from kaito.runtime.webhook.admission import MatchCondition, Role, Webhook
from kaito.runtime.webhook.reach import Reach

Entry = dict[str, object]

NOT_BEING_DELETED = MatchCondition(
    "not-being-deleted",
    'request.operation == "DELETE" ? !has(oldObject.metadata.deletionTimestamp) : '
    "!has(object.metadata.deletionTimestamp)",
)


def entries(
    webhooks: Sequence[Webhook], role: Role, *, reached: Reach, authorities: bytes, own_user: str
) -> list[Entry]:
    """The entries of a configuration, every field written out, so that they can be compared with what is there.

    Args:
        webhooks: all of the server's.
        role: validate or mutate.
        reached: how the API server gets here.
        authorities: PEM of those it is to trust; empty: no caBundle, somebody else sets it.
        own_user: user name of the manager; empty: it is treated like everybody.
    """
    return [_entry(webhook, role, reached, authorities, own_user) for webhook in webhooks if role in webhook.parts]


def entry_name(webhook: Webhook, role: Role) -> str:
    """What users read in a refusal: ``validate.widgets.v1.example.com``."""
    place = webhook.place
    return f"{role}.{place.plural}.{place.version}.{place.group or 'core'}"


def encoded(authorities: bytes) -> str:
    """A caBundle."""
    return base64.b64encode(authorities).decode()


def place_of(entry: Mapping[str, Any]) -> dict[str, object]:
    """Where an entry leads: its ``clientConfig`` without the authorities."""
    return {name: value for name, value in entry["clientConfig"].items() if name != "caBundle"}


def leads_here(entry: Mapping[str, Any], reached: Reach) -> bool:
    """Whether an entry leads to the server that is reached in this way, at whichever path."""
    place = place_of(entry)
    if "service" in place:
        return place == reached.client_config(entry["clientConfig"]["service"].get("path", ""))
    ours = reached.client_config("/").get("url")
    return ours is not None and str(place.get("url", "")).startswith(str(ours))


def _entry(webhook: Webhook, role: Role, reached: Reach, authorities: bytes, own_user: str) -> Entry:
    client = reached.client_config(webhook.path(role))
    entry: Entry = {
        "name": entry_name(webhook, role),
        "clientConfig": client | ({"caBundle": encoded(authorities)} if authorities else {}),
        "rules": [_rule(webhook, role, webhook.place)],
        "failurePolicy": webhook.failure_policy,
        "matchPolicy": "Equivalent",
        "sideEffects": webhook.side_effects,
        "timeoutSeconds": webhook.timeout_s,
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": webhook.namespace_selector.to_dict(),
        "objectSelector": webhook.object_selector.to_dict(),
    }
    if conditions := _conditions(webhook, own_user):
        entry["matchConditions"] = [condition._asdict() for condition in conditions]
    if role == "mutate":
        entry["reinvocationPolicy"] = "Never"
    return entry


def _rule(webhook: Webhook, role: Role, place: ResourceType) -> dict[str, object]:
    return {
        "apiGroups": [place.group],
        "apiVersions": [place.version],
        "operations": list(webhook.operations_for(role)),
        "resources": [place.plural, *(f"{place.plural}/{part}" for part in webhook.subresources)],
        "scope": "Namespaced" if place.namespaced else "Cluster",
    }


def _conditions(webhook: Webhook, own_user: str) -> list[MatchCondition]:
    conditions = list(webhook.match_conditions)
    if webhook.skip_deleting:
        conditions.append(NOT_BEING_DELETED)
    if webhook.skip_own and own_user:
        conditions.append(MatchCondition("not-the-manager", f"request.userInfo.username != {json.dumps(own_user)}"))
    return conditions
