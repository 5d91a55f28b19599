"""CatalogSource: a ConfigMap laid over the catalogue, live: used when it is valid, reported when it is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge
from pydantic import ValidationError

from kaito.catalog import Catalog, CatalogError, CurrentCatalog
from kaito.client.client import Client
from kaito.informers.handlers import InformerEvent
from kaito.informers.informer import Informer
from kaito.informers.options import InformerOptions
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey
from kaito.runtime.access import Access
from kaito.runtime.events import EventRecorder
from kaito.runtime.service import Service, Stage

log = logging.getLogger(__name__)

SUFFIX = ".yaml"
"""Keys that end so are read, in the order of their names; the others are nobody's business."""
TOLD = 3
"""How many faults an event names; the log has all of them."""

Overlays = tuple[tuple[str, str], ...]


class CatalogMetrics:
    """What is known of the catalogue.

    Args:
        registry: where metrics go.
        current: what is counted, as of each scrape.
    """

    def __init__(self, registry: CollectorRegistry, current: CurrentCatalog) -> None:
        models = Gauge("kaito_catalog_models", "Models in the catalogue that is in use.", registry=registry)
        models.set_function(lambda: len(current.catalog.models))
        skus = Gauge("kaito_catalog_skus", "Instance types in the catalogue that is in use.", registry=registry)
        skus.set_function(lambda: len(current.catalog.skus))
        self.valid = Gauge(
            "kaito_catalog_valid",
            "1: what was last read for the catalogue is in use; 0: it is faulty.",
            registry=registry,
        )
        self.valid.set(1)


class Host(Protocol):
    """What of a manager the source needs."""

    @property
    def api_reader(self) -> Client:
        """Reads live."""
        ...

    @property
    def events(self) -> EventRecorder:
        """Tells people what is wrong with the ConfigMap."""
        ...


class CatalogSource(Service):
    """Keeps a catalogue as the built-in one, a file and a ConfigMap say; the ConfigMap may come, change and go.

    A faulty ConfigMap changes nothing: what was in use stays in use. At the start nothing was, so that nothing is
    judged or made by the catalogue until the ConfigMap is mended or gone: a Workspace whose model stands in it would be
    refused otherwise, or its nodes planned anew. The manager is not ready then, and says why. What is being deleted
    goes all the same.

    Args:
        host: the manager.
        config_map: its key; there need be none.
        current: what is kept.
        metrics: says whether what was read last is in use.
        file: what lies between the built-in catalogue and the ConfigMap; None: nothing.
        changed: called after each load: what failed for a name that is known now, or was held, is tried again.

    Attributes:
        loaded: set once the catalogue is as the ConfigMap says, or there is none.

    Raises:
        ValueError: the key has no namespace.
    """

    stage = Stage.WEBHOOKS  # verdicts rest on it

    def __init__(
        self,
        host: Host,
        config_map: ObjectKey,
        current: CurrentCatalog,
        metrics: CatalogMetrics,
        *,
        file: Path | None = None,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        if not config_map.namespace:
            raise ValueError(f"CatalogSource: ConfigMap {config_map.name} has no namespace")
        self._what = f"ConfigMap {config_map}"
        self._key = config_map
        self._client, self._events = host.api_reader, host.events
        self._current, self._metrics, self._file, self._changed = current, metrics, file, changed
        # One object, and not in the manager's cache: that starts later, and ConfigMaps are read live elsewhere.
        scope = InformerOptions(namespaces={config_map.namespace}, fields=f"metadata.name={config_map.name}")
        self._informer = Informer(ConfigMap, self._client.transport, scope)
        self._used: Overlays = ()
        self._refused: Overlays | None = None
        self._why = ""
        self.loaded = asyncio.Event()

    @property
    def name(self) -> str:
        """See `Service.name`."""
        return "catalog"

    @property
    def needs(self) -> Sequence[Access]:
        """See `Service.needs`: this one object."""
        return (Access(ConfigMap, "list", "watch", names=[self._key.name], namespace=self._key.namespace),)

    def fault(self) -> str | None:
        """See `Service.fault`. One that became faulty later is no fault: the one before goes on being used."""
        if self.loaded.is_set():
            return None
        if self._why:
            return f"{self._what} is faulty, and nothing is judged or made until it is mended or deleted: {self._why}"
        error = self._informer.state.error
        return f"{self._what} has not been looked for yet{'' if error is None else f': {error}'}"

    async def wait_loaded(self) -> None:
        """Waits, without a limit, until the catalogue is as the ConfigMap says, or there is none."""
        await self.loaded.wait()

    async def started(self) -> None:
        """See `Service.started`."""
        await self.loaded.wait()

    async def run(self) -> None:
        """Watches the ConfigMap until cancelled."""
        registration = self._informer.subscribe(self._take)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informer.run(), name=f"informer of {self._what}")
                await registration.wait_synced()
                if not len(self._informer.store):
                    self.loaded.set()
                    await self._changed()
        finally:
            registration.remove()

    async def _take(self, event: InformerEvent[ConfigMap]) -> None:
        try:
            config_map = event.new
        except ValidationError as error:  # the API server stores none like that
            log.error("catalogue is unreadable", extra={"config_map": str(self._key), "error": str(error)})
            return
        overlays = self._overlays(config_map)
        if overlays in (self._used, self._refused) and self.loaded.is_set():
            self._settle(overlays)
            return
        try:
            catalog = await asyncio.to_thread(Catalog.load, self._file, overlays)
        except CatalogError as error:
            self._refuse(config_map, overlays, error)
            return
        await self._use(config_map, overlays, catalog)

    def _overlays(self, config_map: ConfigMap | None) -> Overlays:
        if config_map is None:
            return ()
        names = sorted(name for name in config_map.data if name.endswith(SUFFIX))
        if not names:
            fields = {"config_map": str(self._key), "keys": ", ".join(sorted(config_map.data)) or "none"}
            log.warning("catalogue's ConfigMap has no key that ends in .yaml", extra=fields)
        return tuple((f"{self._what}: {name}", config_map.data[name]) for name in names)

    def _settle(self, overlays: Overlays) -> None:
        """Nothing new came: what is in use, or what was refused, was written once more."""
        if overlays == self._used:
            self._refused = None
            self._metrics.valid.set(1)

    async def _use(self, config_map: ConfigMap | None, overlays: Overlays, catalog: Catalog) -> None:
        self._current.replace(catalog)
        self._used, self._refused = overlays, None
        self._metrics.valid.set(1)
        self.loaded.set()
        counts = {"models": len(catalog.models), "instance_types": len(catalog.skus)}
        what = "ConfigMap" if config_map is not None else "none"
        log.info("catalogue loaded", extra={"config_map": str(self._key), "found": what, **counts})
        if config_map is not None:
            note = f"in use: with it, {len(catalog.models)} models and {len(catalog.skus)} instance types are known"
            self._events.event(config_map, "Normal", "CatalogLoaded", "Load", note)
        await self._changed()

    def _refuse(self, config_map: ConfigMap | None, overlays: Overlays, error: CatalogError) -> None:
        self._refused = overlays
        self._why = "; ".join(error.faults[:TOLD])
        self._metrics.valid.set(0)
        stays = "the catalogue before stays in use" if self.loaded.is_set() else "nothing is judged or made until then"
        fields = {"config_map": str(self._key), "faults": list(error.faults), "meanwhile": stays}
        log.error("catalogue is faulty", extra=fields)
        if config_map is not None:
            more = f" (and {len(error.faults) - TOLD} more)" if len(error.faults) > TOLD else ""
            self._events.event(config_map, "Warning", "CatalogFaulty", "Load", f"{self._why}{more}; {stays}")
