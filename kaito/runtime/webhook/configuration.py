"""Webhook configurations in the API server: installed and kept, or only given our authorities, or left alone."""

from __future__ import annotations

import abc
import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import ValidationError

from kaito.client.client import Client
from kaito.client.errors import KubeError, NotFound
from kaito.kube.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from kaito.kube.object_key import ObjectKey
from kaito.kube.unstructured import Unstructured
from kaito.runtime.access import Access
from kaito.runtime.clocks import loop_time
from kaito.runtime.webhook import declared
from kaito.runtime.webhook.admission import Role, Webhook
from kaito.runtime.webhook.certificates import CLOCK_SKEW, fingerprint, parse
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.runtime.webhook.reach import Reach

log = logging.getLogger(__name__)

MANAGED_BY = "app.kubernetes.io/managed-by"
UNATTENDED = timedelta(hours=1)
"""How long after a new authority was made others are supposed to have handed it to the API server."""

_NEVER_S = 1e9
_LONGEST_PAUSE_S = 60.0
_WATCH_RETRY_S = 10.0
_WATCH_AGAIN_S = 1.0

Configuration = type[ValidatingWebhookConfiguration] | type[MutatingWebhookConfiguration]
_KINDS: dict[Role, Configuration] = {
    "validate": ValidatingWebhookConfiguration,
    "mutate": MutatingWebhookConfiguration,
}
CustomResourceDefinition = Unstructured(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", plural="customresourcedefinitions", namespaced=False
)


class Keeper(abc.ABC):
    """Who looks after what the API server knows of our webhooks. Belongs to one server.

    Attributes:
        fault: why it is not as it should be, as far as is known; None: it is.
        own_user: the user name that our own requests come with; empty: nobody special; None: not known yet.
    """

    def __init__(self) -> None:
        self.fault: str | None = "the webhook configuration was not looked at yet"
        self.own_user: str | None = None

    def bind(
        self,
        client: Client,
        name: str,
        reached: Reach,
        webhooks: Sequence[Webhook],
        metrics: WebhookMetrics,
        clock: Callable[[], datetime],
    ) -> None:
        """Called once by the server: with what, and what for."""
        self._client, self._manager, self._reached, self._webhooks = client, name, reached, tuple(webhooks)
        self._metrics, self._clock = metrics, clock
        self._trusted: dict[bytes, datetime] = {}

    @property
    def needs(self) -> Sequence[Access]:
        """The permissions that it takes."""
        return ()

    def trusted_since(self, authority: bytes) -> datetime | None:
        """Since when, without a break, the API server was seen to have this authority wherever we are concerned."""
        return self._trusted.get(fingerprint(parse(authority)[0]))

    def due_s(self) -> float:
        """Seconds until `keep` has something to do that it put off."""
        return _NEVER_S

    async def keep(self, authorities: bytes) -> bool:
        """Makes it as it should be, unless it is. Whether that is so now.

        Args:
            authorities: PEM of what the API server is to trust.
        """
        try:
            problem = await self._keep(authorities)
        except (KubeError, ValidationError) as error:
            self._trusted.clear()
            if self.fault is None:
                log.warning("webhook configuration could not be looked at", extra={"why": str(error)})
                return False  # it was in place, and as far as we know it is
            problem = f"webhook configuration: {error}"
        if problem is None:
            self._confirm(authorities)
        elif problem != self.fault:
            log.warning("webhook configuration is not in place", extra={"why": problem})
        self.fault = problem
        return problem is None

    async def watch(self, wake: asyncio.Event) -> None:
        """Sets an event whenever somebody changed what is kept, until cancelled."""
        await asyncio.Event().wait()

    @abc.abstractmethod
    async def _keep(self, authorities: bytes) -> str | None:
        """Does it; what is wrong still."""

    async def _patch_conversion(self, name: str, bundle: str) -> None:
        found = await self._client.get(CustomResourceDefinition, ObjectKey(name))
        conversion = found["spec"].get("conversion") or {}
        if conversion.get("strategy") != "Webhook":
            return
        if conversion["webhook"]["clientConfig"].get("caBundle") == bundle:
            return
        self._writing()
        patch = {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}}
        await self._client.patch(CustomResourceDefinition, ObjectKey(name), patch)

    def _writing(self) -> None:
        self._trusted.clear()
        self.fault = self.fault or "a webhook configuration does not trust our authority"
        self._metrics.repairs.labels().inc()

    def _confirm(self, authorities: bytes) -> None:
        now = self._clock()
        seen = [fingerprint(certificate) for certificate in parse(authorities)] if authorities else []
        self._trusted = {one: self._trusted.get(one, now) for one in seen}


class Unmanaged(Keeper):
    """The configurations are somebody else's, the authorities in them, too.

    That somebody has an hour from when a new authority appears in the Secret until it is used.
    """

    def trusted_since(self, authority: bytes) -> datetime | None:
        """See `Keeper.trusted_since`: nothing is seen, so it is a matter of time."""
        return parse(authority)[0].not_valid_before_utc + CLOCK_SKEW + UNATTENDED

    async def _keep(self, authorities: bytes) -> str | None:
        return None


class Installed(Keeper):
    """We install the configurations, and put them right when somebody changes, empties or deletes them.

    Args:
        name: of both configurations; default: the manager's.
        conversion: names of CustomResourceDefinitions that name our ``/convert``; they get our authority.
    """

    def __init__(self, name: str = "", *, conversion: Sequence[str] = ()) -> None:
        super().__init__()
        self._conversion = tuple(conversion)
        self._given_name = name
        self._pauses = {role: _Pause() for role in _KINDS}
        self._written: dict[Role, list[declared.Entry]] = {}

    @property
    def needs(self) -> Sequence[Access]:
        """See `Keeper.needs`."""
        verbs = ("get", "list", "watch", "patch", "delete")
        named = [Access(kind, *verbs, names=[self.name]) for kind in _KINDS.values()]
        if self._conversion:
            named.append(Access(CustomResourceDefinition, "get", "patch", names=self._conversion))
        return (*named, *(Access(kind, "create") for kind in _KINDS.values()))

    @property
    def name(self) -> str:
        """Of both configurations."""
        return self._given_name or self._manager

    def due_s(self) -> float:
        """See `Keeper.due_s`."""
        put_off = [left_s for pause in self._pauses.values() if (left_s := pause.left_s()) > 0]
        return min(put_off, default=_NEVER_S) if self.fault else _NEVER_S

    async def watch(self, wake: asyncio.Event) -> None:
        """See `Keeper.watch`. Without a watch it is noticed a little later, when the certificate is looked at."""
        async with asyncio.TaskGroup() as group:
            for kind in _KINDS.values():
                group.create_task(self._watch(kind, wake), name=f"watch of {kind.resource_type.kind}")

    async def _watch(self, kind: Configuration, wake: asyncio.Event) -> None:
        while True:
            try:
                async for _ in self._client.watch(kind, fields=f"metadata.name={self.name}"):
                    wake.set()
                pause_s = _WATCH_AGAIN_S
            except (KubeError, ValidationError) as error:
                log.debug("watch of a webhook configuration ended", extra={"why": str(error)})
                pause_s = _WATCH_RETRY_S
            await asyncio.sleep(pause_s)

    async def _keep(self, authorities: bytes) -> str | None:
        problems = [await self._keep_one(role, kind, authorities) for role, kind in _KINDS.items()]
        for name in self._conversion if authorities else ():
            await self._patch_conversion(name, declared.encoded(authorities))
        return next((problem for problem in problems if problem), None)

    async def _keep_one(self, role: Role, kind: Configuration, authorities: bytes) -> str | None:
        wanted = declared.entries(
            self._webhooks, role, reached=self._reached, authorities=authorities, own_user=self.own_user or ""
        )
        found = await self._find(kind)
        if not wanted and found is not None and _labels(found).get(MANAGED_BY) != _label(self._manager):
            return None  # of that name, and not ours
        if self._same(kind, found, wanted, bool(authorities)):
            return None
        self._trusted.clear()
        what = f"{kind.resource_type.kind} {self.name}"
        self.fault = self.fault or f"{what} is not as it should be"
        pause = self._pauses[role]
        if pause.left_s() > 0 and self._written.get(role) == wanted:
            return f"{what} was changed by somebody else again; it is put right, ever more rarely"
        pause.begin()
        self._written[role] = wanted
        self._metrics.repairs.labels().inc()
        log.info("webhook configuration written", extra={"configuration": what, "was_there": found is not None})
        if wanted:
            await self._write(kind, found, wanted, bool(authorities))
        elif found is not None:
            await self._client.delete(kind, ObjectKey(self.name), uid=str(found["metadata"]["uid"]))
        return None

    async def _find(self, kind: Configuration) -> dict[str, Any] | None:
        try:
            return (await self._client.get(kind, ObjectKey(self.name))).to_dict()
        except NotFound:
            return None

    async def _write(
        self, kind: Configuration, found: dict[str, Any] | None, wanted: list[declared.Entry], with_authorities: bool
    ) -> None:
        # Of an entry in which others own a field, an apply would leave that field alone: no whole entry, and an error.
        if found is None or not self._stale(found, wanted):
            metadata = {"name": self.name, "labels": {MANAGED_BY: _label(self._manager)}}
            document = {"metadata": metadata, "webhooks": wanted}
            found = (await self._client.apply(kind.model_validate(document), force=True)).object.to_dict()
            if self._same(kind, found, wanted, with_authorities):
                return
        # Others own parts of our entries, a match condition for one, and an apply leaves these alone.
        version = str(found["metadata"]["resourceVersion"])
        patch = [{"op": "replace", "path": "/webhooks", "value": _put_right(found, wanted, self._stale(found, wanted))}]
        await self._client.patch(kind, ObjectKey(self.name), patch, type="json", resource_version=version)

    def _same(
        self, kind: Configuration, found: dict[str, Any] | None, wanted: list[declared.Entry], with_authorities: bool
    ) -> bool:
        """Whether each of our entries is there exactly as it should be; nothing at all where there are none."""
        if found is None or not wanted:
            return found is None and not wanted
        if self._stale(found, wanted):
            return False
        there = {entry["name"]: _comparable(kind, entry, with_authorities) for entry in found.get("webhooks", [])}
        return all(there.get(entry["name"]) == entry for entry in wanted)

    def _stale(self, found: dict[str, Any], wanted: list[declared.Entry]) -> set[str]:
        """Entries that lead here, where nothing answers: what an earlier version of the manager declared."""
        places = [declared.place_of(entry) for entry in wanted]
        return {
            entry["name"]
            for entry in found.get("webhooks", [])
            if declared.leads_here(entry, self._reached) and declared.place_of(entry) not in places
        }


class Patched(Keeper):
    """The configurations are somebody else's, a chart's for one; what the API server is to trust is ours to set there.

    Args:
        validating: names of ValidatingWebhookConfigurations, of which each entry is ours.
        mutating: the same of MutatingWebhookConfigurations.
        conversion: names of CustomResourceDefinitions that are converted by a webhook of ours.
    """

    def __init__(
        self, *, validating: Sequence[str] = (), mutating: Sequence[str] = (), conversion: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._names: dict[Role, Sequence[str]] = {"validate": tuple(validating), "mutate": tuple(mutating)}
        self._conversion = tuple(conversion)

    @property
    def needs(self) -> Sequence[Access]:
        """See `Keeper.needs`."""
        named = [(_KINDS[role], names) for role, names in self._names.items()]
        kinds = [*named, (CustomResourceDefinition, self._conversion)]
        return tuple(Access(kind, "get", "patch", names=names) for kind, names in kinds if names)

    async def _keep(self, authorities: bytes) -> str | None:
        if not authorities:
            return None
        bundle = declared.encoded(authorities)
        for role, names in self._names.items():
            for name in names:
                await self._patch_entries(_KINDS[role], name, bundle)
        for name in self._conversion:
            await self._patch_conversion(name, bundle)
        return None

    async def _patch_entries(self, kind: Configuration, name: str, bundle: str) -> None:
        found = await self._client.get(kind, ObjectKey(name))
        patch = [
            {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": bundle}
            for number, entry in enumerate(found.webhooks)
            if entry.client_config.ca_bundle != bundle
        ]
        if not patch:
            return
        self._writing()
        version = found.metadata.resource_version
        await self._client.patch(kind, found.key, patch, type="json", resource_version=version)


class _Pause:
    """Waits longer and longer between repairs that follow each other: two versions of a manager may disagree."""

    def __init__(self) -> None:
        self._last_s = -_NEVER_S
        self._pause_s = 0.0

    def left_s(self) -> float:
        return max(0.0, self._last_s + self._pause_s - loop_time())

    def begin(self) -> None:
        calm = loop_time() - self._last_s > 2 * _LONGEST_PAUSE_S
        self._pause_s = 0.25 if calm else min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._last_s = loop_time()


def _comparable(kind: Configuration, entry: dict[str, Any], with_authorities: bool) -> declared.Entry:
    """An entry without what we have no word in: fields of API servers newer than we are, and others' authorities."""
    fields = kind.model_fields["webhooks"].annotation.__args__[0].model_fields  # type: ignore[union-attr]
    known = {field.alias or name for name, field in fields.items()}
    kept = {name: value for name, value in entry.items() if name in known}
    if not with_authorities:
        kept["clientConfig"] = {name: value for name, value in kept["clientConfig"].items() if name != "caBundle"}
    return kept


def _put_right(found: dict[str, Any], wanted: list[declared.Entry], stale: set[str]) -> list[declared.Entry]:
    """All entries: ours as they should be, but for a caBundle that is not our care, and those of others."""
    there = {entry["name"]: entry for entry in found.get("webhooks", []) if entry["name"] not in stale}
    for entry in wanted:
        old = there.get(entry["name"], {}).get("clientConfig", {})
        kept = {"caBundle": old["caBundle"]} if "caBundle" in old else {}
        there[entry["name"]] = {**entry, "clientConfig": {**kept, **cast("dict[str, object]", entry["clientConfig"])}}
    return list(there.values())


def _label(name: str) -> str:
    """A name as the value of a label, which has fewer characters to choose from."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:63].strip("_.-")


def _labels(found: dict[str, Any]) -> dict[str, str]:
    return dict(found["metadata"].get("labels") or {})
