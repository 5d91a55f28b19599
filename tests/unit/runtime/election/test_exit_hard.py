"""The last resort: a process whose event loop never comes back ends all the same once its lease is lost."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time

from kaito.testing import FakeApiServer, eventually
from kaito.testing.fake_api import FakeApi

LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/stuck-configmap"
PROGRAM = """
    import asyncio, sys, time
    from kaito.client import Config
    from kaito.kube.core_v1 import ConfigMap
    from kaito.runtime import Controller, LeaderElection, Manager
    from kaito.runtime.logs import configure

    class Stuck:
        async def reconcile(self, obj):
            print("stuck", flush=True)
            while True:
                time.sleep(0.01)

    async def main():
        election = LeaderElection(
            namespace="default", lease_duration_s=3.0, renew_deadline_s=2.0, retry_period_s=0.3, trusts_absence=True,
            exit_hard=sys.argv[2] == "hard",
        )
        manager = Manager(
            "stuck", Config(host=sys.argv[1]), metrics="0", health="0", leader_election=election,
            check_permissions=False,
        )
        manager.add(Controller(ConfigMap, Stuck()))
        await manager.run()

    configure("json", "info")
    asyncio.run(main())
"""


async def begin(server: FakeApiServer, how: str) -> asyncio.subprocess.Process:
    """A manager that leads, and whose event loop is held for ever."""
    server.api.call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-c", textwrap.dedent(PROGRAM), server.url, how)
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20.0) == b"stuck\n"
    return process


def depose(api: FakeApi) -> None:
    api.call("PATCH", LEASE, {"spec": {"holderIdentity": "other"}}, content_type="application/merge-patch+json")


async def test_a_process_whose_loop_is_held_for_ever_ends_with_1_by_the_time_another_may_lead() -> None:
    async with FakeApiServer(FakeApi()) as server:
        process = await begin(server, "hard")
        # The renewer goes on meanwhile: it is still the holder.
        renewed = server.api.call("GET", LEASE)["spec"]["renewTime"]
        await eventually(lambda: server.api.call("GET", LEASE)["spec"]["renewTime"] != renewed)
        lost_at = time.monotonic()
        depose(server.api)
        _, said = await asyncio.wait_for(process.communicate(), 20.0)
        assert process.returncode == 1
        assert 0.9 < time.monotonic() - lost_at < 5.0
        assert b"lease lost" in said
        assert b"the process did not end after its lease was lost" in said


async def test_without_it_such_a_process_stays_and_writes_nothing() -> None:
    async with FakeApiServer(FakeApi()) as server:
        process = await begin(server, "soft")
        depose(server.api)
        try:
            await asyncio.wait_for(process.wait(), 2.0)
            ended = True
        except TimeoutError:
            ended = False
        if not ended:
            process.kill()
        await process.communicate()
        assert not ended
