"""Cases of client-go's contract, on a real API server behind a proxy that misbehaves."""

from __future__ import annotations

import pytest

from kaito.client import Client
from kaito.client.transport import AiohttpTransport
from kaito.devcluster.controlplane import ControlPlane
from kaito.testing.fault_proxy import FaultProxy
from tests.unit.conformance.cases import CASES, Case, Stand


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_real_server_shows_that(
    control_plane: ControlPlane, client: Client, namespace: str, case: Case
) -> None:
    async with FaultProxy(control_plane.kubeconfig) as proxy:
        transport = AiohttpTransport(proxy.config)
        try:
            await case(Stand(transport, client, proxy.faults, namespace))
        finally:
            await transport.aclose()
