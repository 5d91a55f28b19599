"""What /metrics shows, read as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kaito.inference.loading import DownloadProgress
from kaito.inference.metrics import Metrics, token_buckets
from kaito.inference.observer import Load, Observer
from kaito.inference.runtime import State

LABELS = {"model_name": "m", "engine": "0"}


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    read: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            read.setdefault(sample.name, []).append((sample.labels, sample.value))
    return read


@pytest.fixture
def serving() -> Metrics:
    metrics = Metrics()
    metrics.serve_engine("m", adapters=2, slots=16, max_model_len=2048)
    return metrics


def value(metrics: Metrics, name: str, **more: str) -> float:
    [found] = [value for labels, value in samples(metrics)[name] if labels == LABELS | more]
    return found


def test_while_it_loads_there_is_a_state_and_nothing_of_an_engine() -> None:
    read = samples(Metrics())
    assert ({"state": "loading"}, 1.0) in read["kaito_inference_state"]
    assert not any(name.startswith("vllm:") for name in read)


def test_the_state_is_one_of_all() -> None:
    metrics = Metrics()
    metrics.state(State.DRAINING)
    assert {labels["state"]: value for labels, value in samples(metrics)["kaito_inference_state"]} == {
        "loading": 0.0,
        "ready": 0.0,
        "draining": 1.0,
        "failed": 0.0,
    }


def test_dashboards_made_for_vllm_find_its_names(serving: Metrics) -> None:
    assert set(samples(serving)) >= {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:request_success_total",
        "vllm:lora_requests_info",
        "vllm:cache_config_info",
        *(
            f"vllm:{name}_{part}"
            for part in ("bucket", "count", "sum")
            for name in (
                "time_to_first_token_seconds",
                "inter_token_latency_seconds",
                "e2e_request_latency_seconds",
                "request_queue_time_seconds",
                "request_prompt_tokens",
                "request_generation_tokens",
            )
        ),
    }


def test_the_load_is_the_last_one_told(serving: Metrics) -> None:
    serving.engine.load(Load(running=3, waiting=2, waiting_tokens=40, kv_usage=0.25))
    serving.engine.load(Load(running=1, waiting=4, waiting_tokens=50, kv_usage=0.5))
    assert value(serving, "vllm:num_requests_running") == 1
    assert value(serving, "vllm:num_requests_waiting") == 4
    assert value(serving, "kaito_inference_waiting_tokens") == 50
    assert value(serving, "vllm:kv_cache_usage_perc") == 0.5


def test_a_request_counts_from_its_arrival_to_its_end(serving: Metrics) -> None:
    engine: Observer = serving.engine
    engine.started(0.1)
    engine.prefilled(7)
    engine.first_token(0.2)
    engine.next_token(0.01)
    engine.next_token(0.03)
    engine.ended("length", prompt_tokens=7, new_tokens=3, seconds=0.24)
    assert value(serving, "vllm:prompt_tokens_total") == 7
    assert value(serving, "vllm:generation_tokens_total") == 3
    assert value(serving, "vllm:request_success_total", finished_reason="length") == 1
    assert value(serving, "vllm:request_success_total", finished_reason="error") == 0
    assert value(serving, "vllm:inter_token_latency_seconds_sum") == pytest.approx(0.04)
    assert value(serving, "vllm:inter_token_latency_seconds_bucket", le="0.005") == 0
    assert value(serving, "vllm:inter_token_latency_seconds_bucket", le="0.01") == 1
    assert value(serving, "vllm:inter_token_latency_seconds_bucket", le="+Inf") == 2
    assert value(serving, "vllm:request_queue_time_seconds_count") == 1
    assert value(serving, "vllm:request_generation_tokens_sum") == 3


def test_warming_up_is_not_counted() -> None:
    metrics = Metrics()
    metrics.engine.first_token(9.0)
    metrics.engine.ended("length", 1, 1, 9.0)
    metrics.serve_engine("m", adapters=0, slots=1, max_model_len=64)
    assert value(metrics, "vllm:generation_tokens_total") == 0
    assert value(metrics, "vllm:time_to_first_token_seconds_count") == 0
    assert value(metrics, "vllm:request_success_total", finished_reason="length") == 0


def test_adapters_in_use_are_one_sample_whose_value_is_the_time(serving: Metrics) -> None:
    serving.engine.load(Load(running_adapters={"two", "one"}, waiting_adapters={"two"}))
    serving.engine.load(Load(running_adapters={"two"}))
    [(labels, at)] = samples(serving)["vllm:lora_requests_info"]
    assert labels == LABELS | {"max_lora": "2", "waiting_lora_adapters": "", "running_lora_adapters": "two"}
    assert at > 1.6e9


def test_a_slot_is_one_block_so_that_blocks_tell_what_runs_together(serving: Metrics) -> None:
    [(labels, _)] = samples(serving)["vllm:cache_config_info"]
    assert (labels["num_gpu_blocks"], labels["block_size"]) == ("16", "2048")


def test_buckets_of_token_counts_end_at_the_context() -> None:
    assert token_buckets(100) == (1, 2, 5, 10, 20, 50, 100)
    assert token_buckets(0) == (1,)


def test_http_loading_and_refusals_are_counted() -> None:
    metrics = Metrics()
    metrics.answered("/chat", 200)
    metrics.answered("/chat", 200)
    metrics.refused("overloaded")
    metrics.loaded(2.5)
    read = samples(metrics)
    assert read["kaito_inference_http_requests_total"] == [({"path": "/chat", "status": "200"}, 2.0)]
    assert read["kaito_inference_requests_refused_total"] == [({"reason": "overloaded"}, 1.0)]
    assert read["kaito_inference_model_load_seconds"] == [({}, 2.5)]


def test_a_download_is_shown_as_it_goes() -> None:
    metrics, now = Metrics(), [0.0]
    download = DownloadProgress(lambda: now[0])
    metrics.follow(download)
    assert samples(metrics)["kaito_model_download_remaining_seconds"] == [({}, 0.0)]
    download.start(1000)
    assert samples(metrics)["kaito_model_download_remaining_seconds"] == [({}, -1.0)]
    now[0] = 2.0
    download.reach(400)
    read = samples(metrics)
    assert read["kaito_model_download_speed_bytes_per_second"] == [({}, 200.0)]
    assert read["kaito_model_download_remaining_seconds"] == [({}, 3.0)]
