"""What pods use, measured on the processes that an agent runs: with their children, and the daemons they leave."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kaito.devcluster.process_nodes.programs import Program, Programs
from kaito.devcluster.process_nodes.sampler import Sampler
from kaito.devcluster.process_nodes.sandbox import Execution
from kaito.devcluster.process_nodes.summary import resource_metrics, summary
from kaito.kube.core_v1 import Pod
from kaito.testing import eventually

MEBIBYTE = 1 << 20
GREEDY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    kept = bytearray(b"x" * (64 << 20))
    end = time.process_time() + 0.2
    while time.process_time() < end: pass
    open("busy", "w").close()
time.sleep(60)
"""
RUN = "uid/main/0"
RUNNING = {
    "name": "main",
    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    "containerID": f"process://{RUN}",
}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Sampler, Program]]:
    async with Programs() as programs:
        log = folder / "log"
        what = Execution((sys.executable, "-c", GREEDY), {}, folder, log, folder / "last", {})
        yield Sampler(programs), await programs.start(RUN, what, lambda: None)


async def test_what_a_container_uses_has_its_daemons_in_it_and_is_told_as_a_kubelet_does(tmp_path: Path) -> None:
    status = {"containerStatuses": [RUNNING], "startTime": "2026-01-01T00:00:00Z"}
    limits = {"resources": {"limits": {"memory": "1Gi"}}}
    spec = {"nodeName": "n", "containers": [{"name": "main", "image": "i", **limits}]}
    metadata = {"name": "p", "namespace": "ns", "uid": "uid"}
    pod = Pod.model_validate({"metadata": metadata, "spec": spec, "status": status})
    async with running(tmp_path) as (sampler, _):
        await eventually((tmp_path / "busy").exists)
        made = summary("n", [pod], await sampler.look(), tmp_path)
    [told] = made["pods"]
    [container] = told["containers"]
    assert told["podRef"] == {"name": "p", "namespace": "ns", "uid": "uid"}
    assert container["cpu"]["usageCoreNanoSeconds"] >= 0.2e9
    memory = container["memory"]
    assert memory["workingSetBytes"] >= memory["rssBytes"] >= 64 * MEBIBYTE
    assert memory["availableBytes"] == 1024 * MEBIBYTE - memory["workingSetBytes"]
    assert told["process_stats"]["process_count"] == 2
    assert made["node"]["memory"]["workingSetBytes"] > memory["workingSetBytes"]
    assert made["node"]["fs"]["capacityBytes"] > made["node"]["fs"]["availableBytes"]
    lines = resource_metrics(made).decode().splitlines()
    assert any(
        line.startswith('container_memory_working_set_bytes{container="main",namespace="ns",pod="p"} ')
        for line in lines
    )
    assert "# TYPE pod_cpu_usage_seconds_total counter" in lines
    assert "resource_scrape_error 0.0" in lines
