"""Cases of client-go's contract, on the fake API server under virtual time."""

from __future__ import annotations

import pytest

from kaito.client import Client
from kaito.testing import virtual_clock
from kaito.testing.fake_api import FakeApi
from tests.unit.conformance.cases import CASES, Case, Stand


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_fake_server_shows_that(case: Case) -> None:
    async def main() -> None:
        api = FakeApi()
        async with Client(api.transport(), field_owner="tests") as live:
            await case(Stand(api.transport(), live, api.faults, "default"))

    virtual_clock.run(main())
