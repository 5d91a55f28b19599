"""T25: a kind goes, with all its objects, and comes again."""

from __future__ import annotations

import asyncio

from kaito.client.transport import Transport
from kaito.informers import Informer, InformerOptions
from kaito.testing import eventually
from tests.unit.testing_histories.history import LABEL, Json, Widget, World

TIMEOUT_S = 30.0


async def kind_goes_and_comes(world: World, transport: Transport, namespace: str) -> None:
    """Plays it before an informer; the kind is served at the beginning and at the end."""
    informer = Informer(Widget, transport, InformerOptions(namespaces=frozenset({namespace})))
    told: list[tuple[str, str]] = []
    informer.add_handler(lambda event: told.append((event.change.type, event.key.name)))

    async def make(name: str) -> None:
        assert await world.request("POST", Widget.resource_type.path(namespace), _widget(name))
        await eventually(lambda: f"{namespace}/{name}" in informer.store, timeout_s=TIMEOUT_S, message=name)

    task = asyncio.create_task(informer.run())
    try:
        await make("before")
        await world.set_served(False)
        await eventually(lambda: informer.state.dormant, timeout_s=TIMEOUT_S, message="dormant")
        assert len(informer.store) == 0
        assert informer.synced
        await world.set_served(True)
        await make("after")
        assert not informer.state.dormant
        assert told == [("added", "before"), ("deleted", "before"), ("added", "after")]
    finally:
        task.cancel()
        await asyncio.wait([task])


def _widget(name: str) -> Json:
    place = Widget.resource_type
    return {"apiVersion": place.api_version, "kind": place.kind, "metadata": {"name": name, "labels": {LABEL: "no"}}}
