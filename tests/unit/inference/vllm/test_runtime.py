"""The runtime against a program that speaks as vLLM does: its life, its answers, its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.inference.errors import (
    BadRequest,
    ContextLengthExceeded,
    ModelNotFound,
    Overloaded,
    RequestError,
    RequestTimeout,
    StartError,
    Unavailable,
)
from kaito.inference.options import EngineOptions, Limits, ModelOptions
from kaito.inference.requests import Delta, GenerationRequest, Sampling, TokenLogprob
from kaito.inference.runtime import Generation, State
from kaito.inference.vllm.adapters import BLEND
from kaito.inference.vllm.options import VllmOptions
from kaito.inference.vllm.runtime import VllmRuntime
from tests.unit.inference.vllm.conftest import Line, runtime_of, until


@pytest.fixture
async def loaded(tiny: Path, line: Line) -> AsyncIterator[VllmRuntime]:
    """One of a test's own."""
    runtime = runtime_of(tiny, adapters=False)
    await runtime.load()
    yield runtime
    await runtime.close()


async def whole(generation: Generation) -> list[Delta]:
    return [delta async for delta in generation]


async def reached(runtime: VllmRuntime, state: State) -> str:
    """The detail of a state, once it is reached."""
    await until(lambda: runtime.status().state is state)
    return runtime.status().detail


async def gone(pid: int) -> None:
    """Waits until a process has ended; whoever is to bury it may take its time."""
    await until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """Whether a process runs: it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_is_ready_when_vllm_is_and_vllm_ends_with_it(tiny: Path, line: Line) -> None:
    runtime = runtime_of(tiny, strengths={"one": 0.8})
    assert runtime.status().state is State.LOADING
    assert runtime.models() == ()
    await runtime.load()
    assert runtime.status().state is State.READY
    assert [(each.name, each.parent, each.max_model_len, each.strength) for each in runtime.models()] == [
        ("base", None, 2048, None),
        ("one", "base", 2048, 0.8),
        ("two", "base", 2048, 1.0),
    ]
    assert runtime.models()[1].root == str(tiny / "adapters/one")
    assert runtime.tokenizer().decode(runtime.tokenizer().encode("Größe")) == "Größe"
    assert runtime.defaults()["eos_token_id"] is not None
    started = await line.event("started")
    await runtime.close()
    await line.event("sigterm")
    for pid in (started["pid"], started["worker"]):
        await gone(pid)


async def test_its_key_is_in_the_environment_and_neither_on_the_command_line_nor_in_the_log(
    tiny: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = VllmRuntime(
        ModelOptions(str(tiny / "model"), token="hub-token"), EngineOptions(), Limits(), VllmOptions(poll_s=0.02)
    )
    with caplog.at_level(logging.INFO):
        await runtime.load()
    await runtime.close()
    started = await line.event("started")
    assert len(started["env"]["VLLM_API_KEY"]) > 20
    for secret in ("hub-token", started["env"]["VLLM_API_KEY"]):
        assert secret not in " ".join(started["arguments"])
        assert secret not in caplog.text
    assert "--served-model-name model" in " ".join(started["arguments"])


async def test_a_flag_that_vllm_does_not_know_stops_the_start_with_its_words(tiny: Path, line: Line) -> None:
    with pytest.raises(StartError, match=r"exit status 2 while it loaded(.|\n)*unrecognized arguments: --no-such-flag"):
        await runtime_of(tiny, args=("--no-such-flag",)).load()


async def test_a_child_that_dies_while_it_loads_stops_the_start_with_its_last_lines(
    tiny: Path, line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STAND_IN_DOES", "die-loading")
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(StartError, match=r"exit status 3 while it loaded(.|\n)*ValueError: this model is too large"),
    ):
        await runtime_of(tiny).load()
    assert "vllm: Loading weights: 50%" in caplog.messages


async def test_while_it_loads_the_status_has_its_last_line_and_a_cancelled_load_ends_it(
    tiny: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DOES", "hang-loading")
    runtime = runtime_of(tiny)
    loading = asyncio.create_task(runtime.load())
    started = await line.event("started")
    await until(lambda: runtime.status().detail == "Loading weights: 50%")
    assert runtime.status().state is State.LOADING
    with pytest.raises(Unavailable, match="the model is loading: Loading weights: 50%"):
        runtime.tokenizer()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await gone(started["pid"])


async def test_without_vllm_it_says_so(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StartError, match="neither a command `vllm` nor a package"):
        await runtime_of(tiny).load()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelOptions("x", dtype="int8"), "--dtype int8: not with the runtime vllm"),
        (ModelOptions("x", device="cpu"), "--device cpu: not with the runtime vllm"),
    ],
)
async def test_what_vllm_does_not_do_stops_the_start(model: ModelOptions, words: str) -> None:
    with pytest.raises(StartError, match=words):
        await VllmRuntime(model, EngineOptions(), Limits(), VllmOptions()).load()


async def test_a_folder_without_a_tokenizer_stops_the_start(tmp_path: Path, line: Line) -> None:
    runtime = VllmRuntime(ModelOptions(str(tmp_path)), EngineOptions(), Limits(), VllmOptions())
    with pytest.raises(StartError, match=r"the tokenizer in .* cannot be loaded"):
        await runtime.load()


async def test_a_child_that_dies_later_is_a_failure_with_the_reason(loaded: VllmRuntime, line: Line) -> None:
    await line.tell(exit=7)
    assert await reached(loaded, State.FAILED) == "vLLM ended with exit status 7: a bad thing happened"
    with pytest.raises(Unavailable, match="failed: vLLM ended with exit status 7"):
        await loaded.submit([GenerationRequest((1,), 1)])


async def test_one_that_is_unwell_is_a_failure_until_it_is_well_again(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    await line.tell(unwell=True)
    assert await reached(loaded, State.FAILED) == "vLLM answers /health with 503"
    await line.tell(unwell=False)
    await reached(loaded, State.READY)


async def test_an_answer_comes_token_by_token(well: tuple[VllmRuntime, Line]) -> None:
    loaded, _ = well
    [generation] = await loaded.submit([GenerationRequest((5, 6), 3)])
    assert await whole(generation) == [
        Delta(" 0", (10,)),
        Delta(" 1", (11,)),
        Delta(" 2", (12,), finish_reason="length"),
    ]
    assert len(loaded.admission) == 0


async def test_every_setting_is_told_to_vllm(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    sampling = Sampling(0.5, 7, 0.9, 0.1, 1.0, 1.2, 0.3, 0.4, 0, {3: 1.5}, (1, 2), (), 42)
    request = GenerationRequest((5, 6), 2, 1, sampling, ("x",), frozenset({9, 4}), True, True, False, 2)
    [generation] = await loaded.submit([request])
    deltas = await whole(generation)
    # vLLM shows the chosen token beside as many as were asked for.
    assert deltas[0].logprobs == (TokenLogprob(10, -0.25, ((0, -0.5), (1, -1.5))),)
    assert (await line.event("request"))["body"] == {
        "model": "base",
        "prompt": [5, 6],
        "stream": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "max_tokens": 2,
        "min_tokens": 1,
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.4,
        "stop": ["x"],
        "stop_token_ids": [4, 9],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "skip_special_tokens": False,
        "seed": 42,
        "logprobs": 2,
        "logit_bias": {"3": 1.5},
        "allowed_token_ids": [1, 2],
    }


@pytest.mark.parametrize(
    "sampling", [Sampling(typical_p=0.5), Sampling(no_repeat_ngram_size=2), Sampling(bad_words_ids=((1,),))]
)
async def test_what_vllm_does_not_sample_is_refused_with_the_field(
    well: tuple[VllmRuntime, Line], sampling: Sampling
) -> None:
    loaded, _ = well
    with pytest.raises(BadRequest, match=r"the runtime vllm does not do it.*--runtime transformers") as refused:
        await loaded.submit([GenerationRequest((1,), 1, sampling=sampling)])
    assert refused.value.param in ("typical_p", "no_repeat_ngram_size", "bad_words_ids")


@pytest.mark.parametrize(
    ("adapters", "name"),
    [({}, "base"), ({"one": 0.8}, "one"), ({"one": 0.8, "two": 1.0}, BLEND), ({"one": 0.0, "two": 1.0}, "two")],
)
async def test_adapters_are_vllm_s_models(
    well: tuple[VllmRuntime, Line], adapters: dict[str, float], name: str
) -> None:
    loaded, line = well
    [generation] = await loaded.submit([GenerationRequest((1,), 1, adapters=adapters)])
    await whole(generation)
    assert (await line.event("request"))["body"]["model"] == name


async def test_other_strengths_are_refused_and_other_names_not_found(well: tuple[VllmRuntime, Line]) -> None:
    loaded, _ = well
    with pytest.raises(BadRequest, match="at their start strengths"):
        await loaded.submit([GenerationRequest((1,), 1, adapters={"one": 1.0})])
    with pytest.raises(ModelNotFound, match="no adapter three"):
        await loaded.submit([GenerationRequest((1,), 1, adapters={"three": 1.0})])


async def test_a_prompt_too_long_is_refused_before_vllm_has_it(well: tuple[VllmRuntime, Line]) -> None:
    loaded, _ = well
    with pytest.raises(ContextLengthExceeded, match="2000 tokens and 49 are to follow, 2049 in all"):
        await loaded.submit([GenerationRequest((1,) * 2000, 49)])


async def test_events_of_any_length_are_read(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    await line.tell(next={"large": True})
    [generation] = await loaded.submit([GenerationRequest((1,), 2)])
    assert "".join([delta.text for delta in await whole(generation)]) == " 0 1"


async def test_a_stop_string_that_vllm_found_is_told(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    await line.tell(next={"reason": "stop", "stop_reason": "###"})
    [generation] = await loaded.submit([GenerationRequest((1,), 1)])
    [delta] = await whole(generation)
    assert (delta.finish_reason, delta.stop_reason) == ("stop", "###")


async def test_to_leave_an_answer_ends_it_in_vllm(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    await line.tell(next={"hold": "body"})
    [generation] = await loaded.submit([GenerationRequest((1,), 2)])
    assert (await anext(generation)).text == " 0"
    await generation.aclose()
    await line.event("left")
    assert len(loaded.admission) == 0


async def test_so_does_the_end_of_the_task_that_reads_it(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    await line.tell(next={"hold": "body"})
    [generation] = await loaded.submit([GenerationRequest((1,), 2)])
    await anext(generation)
    reading = asyncio.create_task(whole(generation))
    await asyncio.sleep(0)
    reading.cancel()
    await line.event("left")
    assert len(loaded.admission) == 0


async def test_of_several_requests_all_are_sent_or_none(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    error = {"error": {"message": "no", "type": "BadRequestError", "param": "top_k", "code": 400}}
    await line.tell(next={"status": 400, "body": error})
    with pytest.raises(BadRequest, match="no") as refused:
        await loaded.submit([GenerationRequest((1,), 3)] * 3)
    assert refused.value.param == "top_k"
    assert len(loaded.admission) == 0


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"error": {"message": "m", "param": None}}, ModelNotFound),
        (503, {"error": {"message": "m"}}, Unavailable),
        (500, {"error": "Internal Server Error: m"}, RequestError),
        (401, "no object: m", RequestError),
    ],
)
async def test_refusals_of_vllm_are_ours(
    well: tuple[VllmRuntime, Line], status: int, body: object, error: type[RequestError]
) -> None:
    loaded, line = well
    await line.tell(next={"status": status, "body": body})
    with pytest.raises(RequestError, match="m") as raised:
        await loaded.submit([GenerationRequest((1,), 1)])
    assert type(raised.value) is error


async def test_an_error_in_the_middle_ends_the_answer(well: tuple[VllmRuntime, Line]) -> None:
    loaded, line = well
    await line.tell(next={"error": "out of memory"})
    [generation] = await loaded.submit([GenerationRequest((1,), 3)])
    await anext(generation)
    with pytest.raises(RequestError, match="vLLM failed: out of memory"):
        await anext(generation)


async def test_so_does_the_end_of_vllm(loaded: VllmRuntime, line: Line) -> None:
    await line.tell(next={"hold": "body", "cut": True})
    [generation] = await loaded.submit([GenerationRequest((1,), 3)])
    await anext(generation)
    await line.tell(go=True)
    with pytest.raises(Unavailable, match="vLLM does not answer"):
        await anext(generation)
    assert "exit status 9" in await reached(loaded, State.FAILED)


async def test_more_than_may_wait_are_refused_with_when_to_come_again(tiny: Path, line: Line) -> None:
    limits = Limits(max_waiting=1, max_waiting_tokens=50)
    runtime = runtime_of(tiny, limits=limits, adapters=False, max_num_seqs=1)
    await runtime.load()
    with pytest.raises(Overloaded, match="1 requests may wait, and with this one 2 would") as refused:
        await runtime.submit([GenerationRequest((1,), 1)] * 3)
    assert refused.value.retry_after_s is not None
    with pytest.raises(Overloaded, match="50 prompt tokens may wait, and with this one about 51 would"):
        await runtime.submit([GenerationRequest((1,), 1), GenerationRequest((1,) * 51, 1)])
    await line.tell(waiting=2)
    await until(lambda: runtime.admission.waiting == 2)
    with pytest.raises(Overloaded, match="2 would"):
        await runtime.submit([GenerationRequest((1,), 1)])
    await runtime.close()


async def test_a_request_that_takes_too_long_is_ended(tiny: Path, line: Line) -> None:
    runtime = runtime_of(tiny, limits=Limits(request_timeout_s=0.2), adapters=False)
    await runtime.load()
    await line.tell(next={"hold": "body"})
    [generation] = await runtime.submit([GenerationRequest((1,), 2)])
    await anext(generation)
    with pytest.raises(RequestTimeout, match=r"longer than 0\.2 s"):
        await anext(generation)
    await line.event("left")
    await runtime.close()


async def test_a_drain_waits_for_what_runs_and_takes_nothing_new(loaded: VllmRuntime, line: Line) -> None:
    await line.tell(next={"hold": "body"})
    [generation] = await loaded.submit([GenerationRequest((1,), 2)])
    draining = asyncio.create_task(loaded.drain(20))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="draining"):
        await loaded.submit([GenerationRequest((1,), 1)])
    await line.tell(go=True)
    assert [delta.finish_reason for delta in await whole(generation)] == [None, "length"]
    await draining


async def test_a_drain_that_takes_too_long_aborts_what_still_runs(loaded: VllmRuntime, line: Line) -> None:
    await line.tell(next={"hold": "body"})
    [generation] = await loaded.submit([GenerationRequest((1,), 2)])
    reading = asyncio.create_task(whole(generation))
    await loaded.drain(0.05)
    assert (await reading)[-1] == Delta(finish_reason="abort")
    await line.event("left")


async def test_one_that_ignores_sigterm_is_killed_with_its_workers(
    tiny: Path, line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STAND_IN_DOES", "ignore-sigterm")
    runtime = runtime_of(tiny, adapters=False, stop_s=0.1)
    await runtime.load()
    started = await line.event("started")
    await runtime.close()
    await line.event("sigterm")
    for pid in (started["pid"], started["worker"]):
        await gone(pid)
    assert "it is killed" in caplog.text


async def test_kill_9_of_us_leaves_no_child(line: Line) -> None:
    # Not the whole runtime: to import it takes a second process seconds.
    program = (
        "import asyncio\n"
        "from kaito.inference.vllm.process import Child, command\n"
        "async def main():\n"
        "    child = await Child.start([*command(), 'model'], {})\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    started = await line.event("started")
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    for pid in (started["pid"], started["worker"]):
        await gone(pid)
