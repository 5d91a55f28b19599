"""Tests of the example, as the author of a controller writes them: `pytest examples`. No cluster is needed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from embedded_controller import Website, WebsiteSpec, websites

from kaito.client import Client, Invalid, NotFound, load_config
from kaito.kube import ConfigMap, Deployment, FrozenDict, ObjectMeta
from kaito.testing import ControlPlane, eventually, install_crds


@pytest.fixture
async def controller(control_plane: ControlPlane, client: Client) -> AsyncIterator[None]:
    await install_crds(client, Website)
    manager = websites(load_config(control_plane.kubeconfig), metrics="0", health="0")
    running = asyncio.create_task(manager.run())
    yield
    manager.stop()
    await running


def website(namespace: str, replicas: int = 2) -> Website:
    spec = WebsiteSpec(pages="pages", replicas=replicas)
    return Website(metadata=ObjectMeta(name="home", namespace=namespace), spec=spec)


def pages(namespace: str, text: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="pages", namespace=namespace), data=FrozenDict({"index.html": text}))


@pytest.mark.usefixtures("controller")
async def test_a_website_says_what_it_lacks_and_follows_its_pages(client: Client, namespace: str) -> None:
    site = await client.create(website(namespace))

    async def says(message: str) -> bool:
        return (await client.get(Website, site.key)).status.message == message

    async def digest() -> str:
        return (await client.get(Deployment, site.key)).spec.template.metadata.annotations["pages"]

    await eventually(lambda: says("create the ConfigMap pages"))
    written = await client.create(pages(namespace, "one"))
    first = await eventually(digest, retry_on=(NotFound,))
    await eventually(lambda: says(""))

    async def is_new() -> bool:
        return await digest() != first

    await client.patch(ConfigMap, written.key, {"data": {"index.html": "two"}})
    await eventually(is_new)


@pytest.mark.usefixtures("controller")
async def test_what_does_not_fit_is_refused_with_the_field_that_is_at_fault(client: Client, namespace: str) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(website(namespace, replicas=11))
    assert [cause.field for cause in refused.value.causes] == ["spec.replicas"]
