"""Summaries: what a node and its pods use, in the words of a kubelet's Summary API and of its /metrics/resource.

Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1 and pkg/kubelet/metrics/collectors/resource_metrics.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kaito.devcluster.process_nodes.node_pressure import disk_of
from kaito.devcluster.process_nodes.sampler import Sample
from kaito.devcluster.process_nodes.usage import Usage
from kaito.kube.core_v1 import ContainerStatus, Pod
from kaito.kube.quantity import Quantity

_EPOCH: Final = datetime.fromtimestamp(0, UTC)

Summary = dict[str, Any]
"""A summary in its wire form."""


def summary(node: str, pods: Iterable[Pod], sample: Sample, folder: Path) -> Summary:
    """What a node and its pods use. All nodes are this machine: each says what the whole machine uses.

    Args:
        node: its name.
        pods: that run on it.
        sample: what was measured.
        folder: on the disk that pods write to.
    """
    at, machine = _time(sample.at_s), sample.machine
    return {
        "node": {
            "nodeName": node,
            "startTime": _time(machine.booted_at_s),
            "cpu": _cpu(at, machine.cpu_ns, sample.machine_nanocores),
            "memory": {
                "time": at,
                "availableBytes": machine.available_bytes,
                "usageBytes": machine.memory_bytes - machine.free_bytes,
                "workingSetBytes": machine.memory_bytes - machine.available_bytes,
            },
            "fs": {"time": at, **disk_of(folder).figures()},
            "rlimit": {"time": at, "maxpid": machine.max_processes, "curproc": machine.processes},
        },
        "pods": [_pod(each, sample, at) for each in pods if any(_running(each))],
    }


def without_disks(made: Summary) -> Summary:
    """A summary's cpu and memory alone, as `?only_cpu_and_memory=true` asks."""
    node = {name: value for name, value in made["node"].items() if name not in ("fs", "rlimit")}
    return {**made, "node": node}


def _pod(pod: Pod, sample: Sample, at: str) -> Summary:
    runs = [(each, (each.container_id or "").removeprefix("process://")) for each in _running(pod)]
    known = [run for _, run in runs if run in sample.programs]
    total = reduce(add, (sample.programs[run] for run in known), Usage())
    rates = [sample.nanocores[run] for run in known if run in sample.nanocores]
    metadata = pod.metadata
    return {
        "podRef": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "startTime": _text(pod.status.start_time or metadata.creation_timestamp or _EPOCH),
        "containers": [_container(pod, each, run, sample, at) for each, run in runs if run in known],
        "cpu": _cpu(at, total.cpu_ns, sum(rates) if rates else None),
        "memory": _memory(at, total, None),
        "process_stats": {"process_count": total.processes},
    }


def _running(pod: Pod) -> Iterator[ContainerStatus]:
    every = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return (each for each in every if each.state.running is not None)


def _container(pod: Pod, status: ContainerStatus, run: str, sample: Sample, at: str) -> Summary:
    running = status.state.running
    usage = sample.programs[run]
    every = (*pod.spec.init_containers, *pod.spec.containers)
    limit = next((each.resources.limits.get("memory") for each in every if each.name == status.name), None)
    return {
        "name": status.name,
        "startTime": _text((running.started_at if running is not None else None) or _EPOCH),
        "cpu": _cpu(at, usage.cpu_ns, sample.nanocores.get(run)),
        "memory": _memory(at, usage, limit),
    }


def _cpu(at: str, used_ns: int, nanocores: int | None) -> Summary:
    rate = {} if nanocores is None else {"usageNanoCores": nanocores}
    return {"time": at, **rate, "usageCoreNanoSeconds": used_ns}


def _memory(at: str, usage: Usage, limit: str | None) -> Summary:
    left = {} if limit is None else {"availableBytes": max(0, int(Quantity.parse(limit)) - usage.working_set_bytes)}
    return {
        "time": at,
        **left,
        "usageBytes": usage.working_set_bytes,
        "workingSetBytes": usage.working_set_bytes,
        "rssBytes": usage.rss_bytes,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    }


def _time(seconds: float) -> str:
    return _text(datetime.fromtimestamp(seconds, UTC))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resource_metrics(made: Summary) -> bytes:
    """A summary as metrics, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Metrics(made))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, made: Summary) -> None:
        self._made = made

    def collect(self) -> Iterator[Metric]:
        """The metrics, in a kubelet's order."""
        node = self._made["node"]
        yield from _usage("node", [], [([], node)])
        containers = [
            ([each["name"], pod["podRef"]["name"], pod["podRef"]["namespace"]], each)
            for pod in self._made["pods"]
            for each in pod["containers"]
        ]
        labels = ["container", "pod", "namespace"]
        started = GaugeMetricFamily(
            "container_start_time_seconds", "Start time of the container since unix epoch in seconds", labels=labels
        )
        for values, each in containers:
            started.add_metric(values, _seconds(each["startTime"]))
        yield started
        yield from _usage("container", labels, containers)
        pods = [([each["podRef"]["name"], each["podRef"]["namespace"]], each) for each in self._made["pods"]]
        yield from _usage("pod", ["pod", "namespace"], pods)
        text = "1 if there was an error while getting container metrics, 0 otherwise"
        yield GaugeMetricFamily("resource_scrape_error", text, value=0)


def _usage(of: str, labels: list[str], rows: Iterable[tuple[list[str], Mapping[str, Any]]]) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        f"{of}_cpu_usage_seconds", f"Cumulative cpu time consumed by the {of} in core-seconds", labels=labels
    )
    memory = GaugeMetricFamily(
        f"{of}_memory_working_set_bytes", f"Current working set of the {of} in bytes", labels=labels
    )
    for values, each in rows:
        at = _seconds(each["cpu"]["time"])
        cpu.add_metric(values, each["cpu"]["usageCoreNanoSeconds"] / 1e9, timestamp=at)
        memory.add_metric(values, each["memory"]["workingSetBytes"], timestamp=at)
    yield from (cpu, memory)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
