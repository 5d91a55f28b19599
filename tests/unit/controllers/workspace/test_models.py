"""Models that the catalogue lacks: asked of the hub once, put on record before anything is paid for, and kept to."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.catalog import Catalog
from kaito.controllers.workspace.lookups import LookupBusy, Lookups
from kaito.controllers.workspace.models import recorded
from kaito.kube.core_v1 import Secret
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import Fault, Refuse
from tests.operating.fake_hub import LLAMA, answer
from tests.operating.workspace_scene import KEY
from tests.operating.workspace_scene import WorkspaceScene as Scene

MODEL = "org/model"
A100 = "Standard_NC24ads_A100_v4"
SECRET = {"preset": {"name": MODEL, "presetOptions": {"modelAccessSecret": "hf"}}}


def catalog_with(gib: float) -> Catalog:
    entry = {
        "huggingface_id": MODEL,
        "weights_gib": gib,
        "context_tokens": 8192,
        "attention": "GQA",
        "kv_bytes_per_token": 131072,
        "disk_gib": 100,
        "runtimes": ["vllm"],
        "license": "mit",
        "readiness_timeout_minutes": 30,
        "source": ["a test"],
    }
    return Catalog.load(overlays=[("a test", json.dumps({"models": {"model": entry}}))])


async def annotate(at: Scene, text: str | None) -> None:
    patch = {"metadata": {"annotations": {keys.RESOLVED_MODEL_ANNOTATION: text}}}
    await at.client.patch(Workspace, KEY, patch)


async def weights_on_record(at: Scene) -> float | None:
    found = recorded(await at.workspace())
    return None if found is None else found.weights_gib


async def make_secret(at: Scene, token: str) -> None:
    data = {"HF_TOKEN": base64.b64encode(token.encode()).decode()}
    await at.client.create(Secret.model_validate({"metadata": {"name": "hf", "namespace": "default"}, "data": data}))


def test_a_model_is_on_record_before_a_claim_is_and_is_asked_for_once(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        assert at.writes()[:4] == ["patch workspaces"] * 2 + ["patch workspaces/status", "create machines"]
        assert await weights_on_record(at) == 15.0
        asked = len(at.hub.asked)
        await at.step()
        assert at.writes() == []
        assert len(at.hub.asked) == asked

    scene(script, MODEL, A100)


def test_what_does_not_fit_is_not_put_on_record(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        assert (await at.told("ResourceReady"))[1] == "DoesNotFit"
        assert await weights_on_record(at) is None
        assert await at.machines() == []

    scene(script, MODEL, "Standard_NC6s_v3")


def test_figures_that_would_take_a_crowd_of_nodes_are_refused(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL, gib=4000)
        await at.step()
        assert "more than 100 are taken for a mistake" in (await at.told("ResourceReady"))[2]
        assert await at.machines() == []

    scene(script, MODEL, "Standard_NV36ads_A10_v5")


def test_a_model_that_is_nowhere_is_told_and_asked_for_again_after_a_minute(scene: Any) -> None:
    async def script(at: Scene) -> None:
        assert (await at.step()).requeue_after == timedelta(minutes=1)
        status, reason, message = await at.told("ResourceReady")
        assert (status, reason) == ("False", "ModelNotResolved")
        assert message.startswith("inference.preset.name: microsoft/phi-44 is no public model of https://hub.test")
        assert message.endswith('did you mean "microsoft/phi-4"?')
        at.now += timedelta(seconds=40)
        asked = len(at.hub.asked)
        assert (await at.step()).requeue_after == timedelta(seconds=20)
        assert len(at.hub.asked) == asked
        at.hub.has("microsoft/phi-44")
        at.now += timedelta(seconds=20)
        await at.step()
        assert len(await at.machines()) == 1

    scene(script, "microsoft/phi-44", A100)


def test_a_hub_that_is_down_is_asked_less_and_less_often(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.down = True
        waits = []
        for _ in range(8):
            wait = (await at.step()).requeue_after
            assert wait is not None
            waits.append(wait.total_seconds())
            at.now += wait
        assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
        assert (await at.told("ResourceReady"))[1] == "ModelNotResolved"
        assert await at.machines() == []

    scene(script, MODEL, A100)


@pytest.mark.parametrize(("header", "wait_s"), [("17", 17), ("0", 1), ("999999", 900)])
def test_a_hub_that_says_when_to_come_back_is_taken_at_its_word(scene: Any, header: str, wait_s: int) -> None:
    async def script(at: Scene) -> None:
        at.hub.says("/api", answer(429, retry_after=header))
        assert (await at.step()).requeue_after == timedelta(seconds=wait_s)

    scene(script, MODEL, A100)


def test_a_restart_with_the_hub_down_disturbs_nothing_that_runs(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        await at.play_cluster()
        await at.step()
        at.writes()
        at.hub.down = True
        at.now += timedelta(hours=2)
        at.restart()
        await at.step()
        assert at.writes() == []

    scene(script, MODEL, A100)


def test_a_hub_that_says_something_else_today_does_not_move_a_workspace(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        before = await at.machines()
        at.hub.has(MODEL, gib=300)
        at.restart()
        await at.step()
        assert await at.machines() == before
        assert await weights_on_record(at) == 15.0

    scene(script, MODEL, A100)


def test_a_catalogue_that_learns_the_model_counts_where_there_are_no_nodes_yet(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        at.api.faults.add(Fault(Refuse(403, "Forbidden", "exceeded quota: gpus"), verb="create", resource="pods"))
        await at.step()
        assert await weights_on_record(at) == 15.0
        at.restart(catalog=catalog_with(300))
        await at.step()
        assert len(await at.machines()) == 5
        assert keys.RESOLVED_MODEL_ANNOTATION not in (await at.workspace()).metadata.annotations

    scene(script, MODEL, A100)


def test_a_catalogue_that_learns_the_model_leaves_those_alone_that_have_nodes(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        at.writes()
        at.restart(catalog=catalog_with(300))
        await at.step()
        assert at.writes() == []
        await annotate(at, None)
        await at.step()
        assert len(await at.machines()) == 5

    scene(script, MODEL, A100)


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "{",
        '{"name": "x"}',
        "x" * 9000,
        "FOREIGN",
        "HUGE",
    ],
)
def test_a_spoilt_record_is_ignored_and_written_anew(scene: Any, spoilt: str) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        good = (await at.workspace()).metadata.annotations[keys.RESOLVED_MODEL_ANNOTATION]
        texts = {
            "FOREIGN": good.replace(MODEL, "org/other"),
            "HUGE": good.replace('"weights_gib":15.0', '"weights_gib":1e9'),
        }
        assert good not in texts.values()
        await annotate(at, texts.get(spoilt, spoilt))
        at.restart()
        await at.step()
        assert (await at.workspace()).metadata.annotations[keys.RESOLVED_MODEL_ANNOTATION] == good
        assert len(await at.machines()) == 1

    scene(script, MODEL, A100)


def test_a_record_beside_a_model_of_the_catalogue_goes(scene: Any) -> None:
    async def script(at: Scene) -> None:
        await annotate(at, "left over")
        await at.step()
        assert keys.RESOLVED_MODEL_ANNOTATION not in (await at.workspace()).metadata.annotations
        assert len(await at.machines()) == 1

    scene(script)


def test_existing_nodes_serve_a_model_of_the_hub_too(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        await at.step()
        assert (await at.told("ResourceReady"))[1] == "NodeNotReady"
        assert await weights_on_record(at) == 15.0

    scene(script, MODEL, "")


def test_the_token_of_the_secret_is_sent_and_told_to_nobody(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def script(at: Scene) -> None:
        await make_secret(at, "hf_private\n")
        at.hub.says("/api", answer(403, x_error_code="GatedRepo"))
        await at.step()
        assert "the token of Secret hf was refused (403, GatedRepo)" in (await at.told("ResourceReady"))[2]
        assert [each.authorization for each in at.hub.asked] == ["Bearer hf_private"]
        assert "hf_private" not in json.dumps((await at.workspace()).to_dict())

    caplog.set_level(logging.DEBUG)
    scene(script, MODEL, A100, inference=SECRET)
    assert "hf_private" not in caplog.text


def test_a_token_that_is_corrected_is_asked_with_at_once(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        at.hub.says(
            f"/{MODEL}/resolve/", lambda asked: answer(200 if asked.authorization == "Bearer hf_good" else 403, LLAMA)
        )
        await make_secret(at, "hf_bad")
        await at.step()
        assert "Secret hf was refused" in (await at.told("ResourceReady"))[2]
        await at.client.delete(Secret, ObjectKey("hf", "default"))
        await make_secret(at, "hf_good")
        await at.step()
        assert len(await at.machines()) == 1

    scene(script, MODEL, A100, inference=SECRET)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "there is no Secret hf in default: make it with: kubectl create secret generic hf"),
        ({}, "Secret hf has no token under the key HF_TOKEN"),
        ({"HF_TOKEN": "!"}, "Secret hf has no token under the key HF_TOKEN"),
        ({"HF_TOKEN": base64.b64encode(b"two\nlines").decode()}, "Secret hf has no token under the key HF_TOKEN"),
    ],
)
def test_a_secret_without_a_token_is_told_and_looked_at_again(
    scene: Any, data: dict[str, str] | None, said: str
) -> None:
    async def script(at: Scene) -> None:
        if data is not None:
            metadata = {"name": "hf", "namespace": "default"}
            await at.client.create(Secret.model_validate({"metadata": metadata, "data": data}))
        assert (await at.step()).requeue_after == timedelta(seconds=10)
        status, reason, message = await at.told("ResourceReady")
        assert (status, reason) == ("False", "ModelNotResolved")
        assert said in message
        assert at.hub.asked == []

    scene(script, MODEL, A100, inference=SECRET)


def test_two_workers_wait_for_the_hub_and_the_others_come_back_in_a_second(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        at.hub.has("org/two")
        at.hub.delay_s = 10
        lookups = Lookups(at.hub.hub(), lambda: at.now)
        waiting = [asyncio.create_task(lookups.find(name, None)) for name in (MODEL, "org/two")]
        await asyncio.sleep(1)
        for name in (MODEL, "org/three"):
            with pytest.raises(LookupBusy):
                await lookups.find(name, None)
        assert [(await task).huggingface_id for task in waiting] == [MODEL, "org/two"]
        assert (await lookups.find(MODEL, None)).huggingface_id == MODEL
        assert len(at.hub.asked) == 4

    scene(script)


def test_a_worker_that_waits_and_is_cancelled_makes_room_for_the_next(scene: Any) -> None:
    async def script(at: Scene) -> None:
        at.hub.has(MODEL)
        at.hub.delay_s = 10
        waiting = asyncio.create_task(at.step())
        await asyncio.sleep(1)
        assert (await at.step()).requeue_after == timedelta(seconds=1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await at.step()
        assert len(await at.machines()) == 1

    scene(script, MODEL, A100)
