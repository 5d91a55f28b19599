"""The table of Workspaces that only the webhook refuses: each with its field and what it says there."""

from __future__ import annotations

import pytest

from tests.operating.bad_workspaces import BY_WEBHOOK, BadWorkspace, bad_workspaces
from tests.unit.controllers.workspace.admission.court import Court

ROWS = bad_workspaces(BY_WEBHOOK)


def test_there_are_enough_of_them() -> None:
    assert len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_it_is_refused_for_its_one_defect(row: BadWorkspace) -> None:
    court = Court(**row.given)
    if row.verb == "update":
        before = await court.judge(row.good)
        assert before.causes == {}, "the manifest before the change is good"

    said = await court.judge(row.bad, row.good if row.verb == "update" else None)

    assert row.field in said.causes, said
    assert row.says in said.causes[row.field]
