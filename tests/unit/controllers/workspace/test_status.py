"""Report: what is written of a Workspace's status, and when nothing is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.client.client import Client
from kaito.client.errors import Conflict
from kaito.controllers.workspace.status import MAX_MESSAGE, Report
from kaito.kube.conditions import find
from kaito.testing.fake_api import FakeApi

Make = Callable[..., Workspace]


def ready(report: Report, message: str = "all well") -> None:
    report.true("ResourceReady", "R", message)
    report.true("InferenceReady", "I")
    report.worker_nodes(["n2", "n1"])
    report.sum_up()


async def stored(client: Client, made: Workspace) -> Workspace:
    draft = made.model_dump(by_alias=True, exclude_none=True)
    draft["metadata"] = {"name": "phi", "namespace": "default"}
    return await client.create(Workspace.model_validate(draft))


def writes(api: FakeApi) -> list[str]:
    return [f"{entry.verb} {entry.path.rsplit('/', 1)[1]}" for entry in api.log if entry.verb not in ("get", "list")]


def test_the_same_findings_are_written_once(play: Any, workspace: Make, now: datetime) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        first = await stored(client, workspace())
        report = Report(first, now)
        ready(report)
        second = await report.save(client)
        again = Report(second, now + timedelta(hours=1))
        ready(again)
        assert await again.save(client) == second
        assert writes(api).count("patch status") == 1
        assert second.status.worker_nodes == ("n1", "n2")
        assert second.status.state == "Ready"
        assert second.status.observed_generation == second.metadata.generation

    play(main)


def test_a_transition_time_moves_with_the_status_and_not_with_the_words(
    play: Any, workspace: Make, now: datetime
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        report = Report(await stored(client, workspace()), now)
        ready(report)
        current = await report.save(client)
        report = Report(current, now + timedelta(hours=1))
        report.true("ResourceReady", "R", "other words")
        report.false("InferenceReady", "Down", "it fell over")
        report.sum_up()
        current = await report.save(client)
        times = {item.type: item.last_transition_time for item in current.status.conditions}
        assert times["ResourceReady"] == now
        assert times["InferenceReady"] == now + timedelta(hours=1)
        assert current.status.state == "NotReady"

    play(main)


def test_a_status_that_somebody_else_wrote_meanwhile_is_a_conflict(play: Any, workspace: Make, now: datetime) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        before = await stored(client, workspace())
        await client.patch(Workspace, before.key, {"metadata": {"labels": {"a": "b"}}})
        report = Report(before, now)
        ready(report)
        with pytest.raises(Conflict):
            await report.save(client)

    play(main)


@pytest.mark.parametrize("kind", ["WorkspaceReady", "WorkspaceSucceeded"])
def test_the_sum_carries_the_first_thing_that_stands_in_the_way(
    play: Any, workspace: Make, now: datetime, kind: str
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        report = Report(await stored(client, workspace()), now)
        report.false("ResourceReady", "NodeClaimNotReady", "quota is 0")
        report.false("InferenceReady", "Pending", "waits for its nodes")
        report.sum_up()
        condition = find((await report.save(client)).status.conditions, kind)
        assert condition is not None
        assert (condition.status, condition.reason, condition.message) == ("False", "NodeClaimNotReady", "quota is 0")

    play(main)


def test_a_message_is_cut_to_what_a_condition_holds(play: Any, workspace: Make, now: datetime) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        report = Report(await stored(client, workspace()), now)
        report.false("ResourceReady", "R", "x" * 5000)
        condition = find((await report.save(client)).status.conditions, "ResourceReady")
        assert condition is not None
        assert len(condition.message) == MAX_MESSAGE

    play(main)


def test_what_is_not_mentioned_stays(play: Any, workspace: Make, now: datetime) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        report = Report(await stored(client, workspace()), now)
        report.claims([WantedClaim(ordinal=0, incarnation=2, name="ws1")])
        report.target(1)
        ready(report)
        report = Report(await report.save(client), now)
        report.false("InferenceReady", "Down", "x")
        current = await report.save(client)
        assert [claim.name for claim in current.status.node_claims] == ["ws1"]
        assert current.status.target_node_count == 1
        assert find(current.status.conditions, "ResourceReady") is not None

    play(main)


def test_only_words_changed_is_known_from_a_change_that_matters(play: Any, workspace: Make, now: datetime) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        report = Report(await stored(client, workspace()), now)
        ready(report)
        assert not report.is_only_words
        current = await report.save(client)
        for message, nodes, expected in (("other", ["n1", "n2"], True), ("other", ["n3"], False)):
            report = Report(current, now)
            ready(report, message)
            report.worker_nodes(nodes)
            assert report.is_only_words == expected
        unchanged = Report(current, now)
        ready(unchanged)
        assert not unchanged.is_only_words

    play(main)
