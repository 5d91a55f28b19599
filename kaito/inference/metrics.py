"""What is measured, under vLLM's names where it has one: dashboards and autoscalers made for those work unchanged."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kaito.inference.observer import Ended, Load
from kaito.inference.runtime import State

# vLLM's buckets.
_FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_NEXT_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 20)
_REQUEST_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_ENDS: tuple[Ended, ...] = ("stop", "length", "abort", "error")


class Download(Protocol):
    """How a download goes."""

    @property
    def bytes_per_s(self) -> float:
        """Of the last seconds; 0 when there is nothing to do."""
        ...

    @property
    def remaining_s(self) -> float:
        """At that speed; 0 when all is there, -1 when nobody knows."""
        ...


class Metrics:
    """All metrics of one server: the `Observer` of its engine, and what HTTP and loading tell."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.engine = EngineMetrics()
        self._state = Gauge(
            "kaito_inference_state", "1 for the state that the server is in.", ["state"], registry=self.registry
        )
        self._load_s = Gauge(
            "kaito_inference_model_load_seconds", "From the start to the first request.", registry=self.registry
        )
        self._requests = Counter(
            "kaito_inference_http_requests", "HTTP requests answered.", ["path", "status"], registry=self.registry
        )
        self._refused = Counter(
            "kaito_inference_requests_refused",
            "Requests that were not worked on, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._speed = Gauge(
            "kaito_model_download_speed_bytes_per_second", "Of the model's download.", registry=self.registry
        )
        self._remaining = Gauge(
            "kaito_model_download_remaining_seconds",
            "Of the model's download; 0 without one, -1 if unknown.",
            registry=self.registry,
        )
        self.state(State.LOADING)

    def state(self, state: State) -> None:
        """The state that the server is in."""
        for each in State:
            self._state.labels(each.value).set(each is state)

    def loaded(self, seconds: float) -> None:
        """The model is ready, so long after the start."""
        self._load_s.set(seconds)

    def answered(self, path: str, status: int) -> None:
        """An HTTP request was answered; `path` is a route's, or ``other``."""
        self._requests.labels(path, str(status)).inc()

    def refused(self, reason: str) -> None:
        """A request was not worked on."""
        self._refused.labels(reason).inc()

    def follow(self, download: Download) -> None:
        """Shows how a model's download goes, as it is whenever somebody asks."""
        self._speed.set_function(lambda: download.bytes_per_s)
        self._remaining.set_function(lambda: download.remaining_s)

    def serve_engine(self, model: str, adapters: int, slots: int, max_model_len: int) -> None:
        """Shows the engine's metrics from now on; to be called once it is ready, and once only.

        Args:
            model: its served name, a label of all of them.
            adapters: how many it has.
            slots: sequences that it runs together.
            max_model_len: tokens that a slot holds.
        """
        self.engine.serve(model, adapters, slots, max_model_len)
        self.registry.register(self.engine)

    def render(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)


class EngineMetrics(Collector):
    """A `kaito.inference.observer.Observer`: plain numbers that one thread writes, made into samples when asked for.

    Locked counters and histograms would cost the engine several microseconds for each token of each sequence.
    """

    def __init__(self) -> None:
        self._load = Load()
        self.serve("", 0, 0, 1)

    def serve(self, model: str, adapters: int, slots: int, max_model_len: int) -> None:
        """What the engine runs, known once it is loaded. What was counted until then was warming up."""
        self._labels = {"model_name": model, "engine": "0"}
        self._adapters = adapters
        # A slot is one block that holds a whole sequence, so that blocks by blocks of a request is what runs together.
        self._cache = {"block_size": str(max_model_len), "num_gpu_blocks": str(slots)}
        self._prompt_tokens = self._generated_tokens = 0
        self._ended: dict[Ended, int] = dict.fromkeys(_ENDS, 0)
        buckets = token_buckets(max_model_len)
        self._first_s = _Histogram("time_to_first_token_seconds", "From arrival to first token.", _FIRST_TOKEN_S)
        self._next_s = _Histogram("inter_token_latency_seconds", "From token to token.", _NEXT_TOKEN_S)
        self._request_s = _Histogram("e2e_request_latency_seconds", "From arrival to last token.", _REQUEST_S)
        self._queue_s = _Histogram("request_queue_time_seconds", "From arrival to a slot.", _REQUEST_S)
        self._request_prompt = _Histogram("request_prompt_tokens", "Prompt tokens of a request.", buckets)
        self._request_generated = _Histogram("request_generation_tokens", "Generated tokens of a request.", buckets)

    def load(self, load: Load) -> None:
        """The load as it is now."""
        self._load = load

    def started(self, waited_s: float) -> None:
        """A request got a slot."""
        self._queue_s.observe(waited_s)

    def prefilled(self, tokens: int) -> None:
        """Prompt tokens were worked on."""
        self._prompt_tokens += tokens

    def first_token(self, seconds: float) -> None:
        """A request's first token came."""
        self._generated_tokens += 1
        self._first_s.observe(seconds)

    def next_token(self, seconds: float) -> None:
        """A further token of a request came."""
        self._generated_tokens += 1
        self._next_s.observe(seconds)

    def ended(self, reason: Ended, prompt_tokens: int, new_tokens: int, seconds: float) -> None:
        """A request ended."""
        self._ended[reason] += 1
        self._request_s.observe(seconds)
        self._request_prompt.observe(prompt_tokens)
        self._request_generated.observe(new_tokens)

    def collect(self) -> Iterator[Metric]:
        """All samples as they are now."""
        load = self._load
        yield self._gauge("vllm:num_requests_running", "Sequences that are being continued.", load.running)
        yield self._gauge("vllm:num_requests_waiting", "Requests that wait for a slot.", load.waiting)
        yield self._gauge("vllm:kv_cache_usage_perc", "Used part of the key-value cache, 0 to 1.", load.kv_usage)
        yield self._gauge("kaito_inference_waiting_tokens", "Prompt tokens of what waits.", load.waiting_tokens)
        yield self._gauge("vllm:cache_config_info", "The cache's settings.", 1, self._cache)
        adapters = {
            "max_lora": str(self._adapters),
            "waiting_lora_adapters": ",".join(sorted(load.waiting_adapters)),
            "running_lora_adapters": ",".join(sorted(load.running_adapters)),
        }
        yield self._gauge("vllm:lora_requests_info", "Adapters in use; the value is the time.", time.time(), adapters)
        yield self._counter("vllm:prompt_tokens", "Prompt tokens worked on.", self._prompt_tokens)
        yield self._counter("vllm:generation_tokens", "Tokens generated.", self._generated_tokens)
        ended = CounterMetricFamily(
            "vllm:request_success", "Requests that ended, by how.", labels=[*self._labels, "finished_reason"]
        )
        for reason, count in self._ended.items():
            ended.add_metric([*self._labels.values(), reason], count)
        yield ended
        for histogram in (self._first_s, self._next_s, self._request_s, self._queue_s):
            yield histogram.collect(self._labels)
        for histogram in (self._request_prompt, self._request_generated):
            yield histogram.collect(self._labels)

    def _gauge(self, name: str, text: str, value: float, more: Mapping[str, str] = MappingProxyType({})) -> Metric:
        labels = {**self._labels, **more}
        family = GaugeMetricFamily(name, text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family


def token_buckets(max_model_len: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, … up to a model's context."""
    series = (step * 10**power for power in range(10) for step in (1, 2, 5))
    return tuple(size for size in series if size <= max_model_len) or (1,)


def merged(first: str, second: str) -> str:
    """Two texts in Prometheus's format as one. A metric that both have is the first's: it may be there once only."""
    taken = {name for name, _ in _families(first)}
    return first + "".join(lines for name, lines in _families(second) if name not in taken)


def _families(text: str) -> Iterator[tuple[str, str]]:
    """Each metric's name with its lines, which start with its help or its type."""
    name, lines = "", ""
    for line in text.splitlines(keepends=True):
        if line.startswith(("# HELP ", "# TYPE ")):
            started = line.split(None, 3)[2]
            if started != name:
                if lines:
                    yield name, lines
                name, lines = started, ""
        lines += line if line.endswith("\n") else f"{line}\n"
    if lines:
        yield name, lines


class _Histogram:
    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name, self._text, self._bounds = name, text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self, labels: Mapping[str, str]) -> Metric:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        family = HistogramMetricFamily(f"vllm:{self._name}", self._text, labels=list(labels))
        counts = itertools.accumulate(self._counts.copy())
        family.add_metric(list(labels.values()), list(zip(bounds, counts, strict=True)), self._sum)
        return family
