"""The engine: who is let in, who gets a slot, how requests end."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from kaito.inference.engine import Engine, choice
from kaito.inference.errors import (
    BadRequest,
    ContextLengthExceeded,
    ModelNotFound,
    Overloaded,
    RequestTimeout,
    Unavailable,
)
from kaito.inference.loading import LoadedModel
from kaito.inference.loading.placement import free_memory
from kaito.inference.lora import Adapters
from kaito.inference.observer import Load, Unobserved
from kaito.inference.options import EngineOptions, Limits
from tests.unit.inference.engine.driver import Answer, generated, loaded_of, request_of, running
from tests.unit.inference.engine.machine import machine_with

_SLOTS = 3


@pytest.fixture(scope="module")
def model(tiny: Path) -> PreTrainedModel:
    """The tiny model."""
    return AutoModelForCausalLM.from_pretrained(tiny / "model").eval()


@pytest.fixture(scope="module")
def loaded(model: PreTrainedModel, tiny: Path) -> LoadedModel:
    """As the loader gives it."""
    return loaded_of(model, tiny, 2048)


@pytest.fixture(scope="module")
async def engine(loaded: LoadedModel) -> AsyncIterator[Engine]:
    """An engine of three slots and small chunks, for all tests that leave it as it was."""
    options = EngineOptions(max_num_seqs=_SLOTS, prefill_tokens=16, threads=1)
    limits = Limits(max_waiting=6, max_waiting_tokens=400)
    async with running(loaded, options, limits=limits) as engine:
        yield engine


def fill(engine: Engine, count: int, max_tokens: int = 1900) -> list[Answer]:
    """Requests that go on for long."""
    return [Answer(engine, request_of([7 + index, 8], max_tokens)) for index in range(count)]


def threads() -> int:
    """Threads of engines."""
    return sum(thread.name == "engine" for thread in threading.enumerate())


async def cancel(answers: list[Answer]) -> None:
    """Ends them and waits."""
    for answer in answers:
        answer.ticket.cancel()
    for answer in answers:
        await answer.end()


async def test_a_stop_token_ends_a_request_and_is_part_of_it(engine: Engine, model: PreTrainedModel) -> None:
    tokens = generated(model, [5, 6, 7], 12)
    stop = tokens[5]
    answer = Answer(engine, request_of([5, 6, 7], 12, stop_ids=frozenset({stop})))
    assert (await answer.end()).finish_reason == "stop"
    assert answer.tokens == tokens[: tokens.index(stop) + 1]


async def test_a_long_prompt_in_chunks_is_answered_like_a_whole_one(engine: Engine, model: PreTrainedModel) -> None:
    chance = random.Random(3)
    prompt = [chance.randrange(7, 300) for _ in range(333)]
    answer = Answer(engine, request_of(prompt, 8))
    await answer.end()
    assert answer.tokens == generated(model, prompt, 8)


async def test_running_requests_go_on_while_a_long_prompt_is_worked_on(engine: Engine) -> None:
    runs = Answer(engine, request_of([9], 1000))
    await runs.has(1)
    long = Answer(engine, request_of([11] * 320, 1))
    before = len(runs.tokens)
    await long.end()
    # 20 chunks of 16 tokens: the other one got a token after each.
    assert len(runs.tokens) - before >= 20
    await cancel([runs])


async def test_a_cancelled_request_gives_its_slot_to_the_one_that_waits(engine: Engine) -> None:
    answers = fill(engine, _SLOTS)
    for answer in answers:
        await answer.has(1)
    waits = Answer(engine, request_of([5], 3))
    answers[1].ticket.cancel("stop")
    assert (await answers[1].end()).finish_reason == "stop"
    assert (await waits.end()).finish_reason == "length"
    assert not answers[0].ended.is_set()
    await cancel(answers)
    assert engine.stats().running == 0


async def test_a_request_can_be_cancelled_while_it_waits_and_while_its_prompt_is_worked_on(engine: Engine) -> None:
    answers = fill(engine, _SLOTS)
    waits = Answer(engine, request_of([5], 3))
    waits.ticket.cancel()
    assert (await waits.end()).finish_reason == "abort"
    assert waits.tokens == []
    await cancel(answers)
    long = Answer(engine, request_of([5] * 1500, 3))
    await long.started()
    await cancel([long])
    assert long.tokens == []
    assert engine.stats().kv_usage == 0


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "error", "words"),
    [
        ([5] * 2000, 49, ContextLengthExceeded, "2000 tokens and max_tokens is 49, together 2049; .* 2048 tokens"),
        ([], 5, BadRequest, "no tokens"),
        ([3, 5000], 5, BadRequest, "from 3 to 5000"),
        ([-1], 5, BadRequest, "from -1 to -1"),
    ],
)
async def test_what_cannot_run_is_refused_before_it_is_queued(
    engine: Engine, prompt: list[int], max_tokens: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Answer(engine, request_of(prompt, max_tokens))
    assert engine.stats().waiting == 0


async def test_an_adapter_that_is_not_there_is_named(engine: Engine) -> None:
    with pytest.raises(ModelNotFound, match="'three'"):
        Answer(engine, request_of([5], 3, adapters={"three": 1.0}))


async def test_what_does_not_fit_the_queue_is_refused_and_nothing_of_it_is_queued(engine: Engine) -> None:
    answers = fill(engine, _SLOTS)
    for answer in answers:
        await answer.has(1)
    answers += fill(engine, 4)
    with pytest.raises(Overloaded, match=r"at most 6 requests") as refused:
        engine.submit_all([(request_of([5], 3), lambda update: None) for _ in range(3)])
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1
    assert engine.stats().waiting == 4
    with pytest.raises(Overloaded, match="400 prompt tokens"):
        Answer(engine, request_of([5] * 395, 3))
    await cancel(answers)


async def test_what_gets_a_slot_at_once_may_be_larger_than_the_queue(engine: Engine) -> None:
    answer = Answer(engine, request_of([5] * 600, 2))
    assert (await answer.end()).finish_reason == "length"


async def test_a_request_that_takes_too_long_ends_with_a_timeout_wherever_it_is(loaded: LoadedModel) -> None:
    limits = Limits(request_timeout_s=0.2)
    async with running(loaded, EngineOptions(max_num_seqs=1, threads=1), limits=limits) as engine:
        runs, waits = fill(engine, 2, 2000)
        for answer, where in ((runs, "while it was answered"), (waits, "while it waited")):
            error = (await answer.end()).error
            assert isinstance(error, RequestTimeout)
            assert where in error.message
        after = Answer(engine, request_of([5], 2))
        assert (await after.end()).finish_reason == "length"


async def test_a_drain_lets_what_was_queued_end_and_takes_nothing_new(loaded: LoadedModel) -> None:
    async with running(loaded, EngineOptions(max_num_seqs=1, threads=1)) as engine:
        answers = [Answer(engine, request_of([5], 20)) for _ in range(3)]
        drain = asyncio.create_task(engine.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="stopping"):
            Answer(engine, request_of([5], 2))
        await drain
        assert [answer.updates[-1].finish_reason for answer in answers] == ["length"] * 3


async def test_a_drain_aborts_what_does_not_end_in_time(loaded: LoadedModel) -> None:
    async with running(loaded, EngineOptions(max_num_seqs=1, threads=1)) as engine:
        answers = fill(engine, 2, 2000)
        await answers[0].has(1)
        await engine.drain(0)
        assert [answer.updates[-1].finish_reason for answer in answers] == ["abort"] * 2


async def test_stopping_ends_the_thread_and_what_runs(loaded: LoadedModel) -> None:
    before = threads()
    async with running(loaded, EngineOptions(max_num_seqs=1, threads=1)) as engine:
        answers = fill(engine, 2, 2000)
        await answers[0].has(1)
    assert [(await answer.end()).finish_reason for answer in answers] == ["abort"] * 2
    assert threads() == before
    with pytest.raises(Unavailable):
        Answer(engine, request_of([5], 2))


async def test_an_engine_that_never_started_can_be_stopped(loaded: LoadedModel) -> None:
    engine = Engine(loaded, Adapters(()), EngineOptions())
    engine.stop()
    with pytest.raises(Unavailable, match="stopping"):
        Answer(engine, request_of([5], 2))


async def test_no_slot_is_lost_in_three_hundred_random_histories(engine: Engine, model: PreTrainedModel) -> None:
    chance = random.Random(5)
    wanted = {size: generated(model, [9] * size, 3) for size in (1, 4, 20)}
    whole = 0
    for _ in range(300):
        answers = []
        for _ in range(chance.randint(1, 3)):
            size = chance.choice(list(wanted))
            answers.append((Answer(engine, request_of([9] * size, chance.randint(1, 3))), size))
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            if chance.random() < 0.4:
                chance.choice(answers)[0].ticket.cancel()
        for answer, size in answers:
            last = await answer.end()
            assert answer.tokens == wanted[size][: len(answer.tokens)]
            whole += last.finish_reason == "length"
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.waiting_tokens, stats.kv_usage) == (0, 0, 0, 0)
    assert whole > 100
    # All slots are still there.
    answers = [(answer, 0) for answer in fill(engine, _SLOTS)]
    for answer, _ in answers:
        await answer.has(1)
    await cancel([answer for answer, _ in answers])


class _Fails:
    """A layer that fails when a certain token passes: a stand-in for whatever may go wrong with one request."""

    def __init__(self, model: PreTrainedModel, token: int) -> None:
        self._handle = model.get_input_embeddings().register_forward_pre_hook(self)
        self._token = token

    def __call__(self, module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if (arguments[0] == self._token).any():
            raise RuntimeError("out of luck")

    def remove(self) -> None:
        self._handle.remove()


async def test_a_failing_request_fails_alone(engine: Engine, model: PreTrainedModel) -> None:
    wanted = generated(model, [7, 8], 40)
    third = next(token for token in generated(model, [5], 9)[3:] if token not in wanted)
    fails = _Fails(model, third)
    try:
        runs = Answer(engine, request_of([7, 8], 40))
        in_decode = Answer(engine, request_of([5], 40))
        error = (await in_decode.end()).error
        assert isinstance(error, Unavailable)
        assert "out of luck" in error.message
        in_prefill = [Answer(engine, request_of(prompt, 2)) for prompt in ([6, third], [6, 7])]
        assert (await in_prefill[0].end()).error is not None
        assert (await in_prefill[1].end()).finish_reason == "length"
        assert (await runs.end()).finish_reason == "length"
        assert runs.tokens == wanted
        assert engine.failure is None
    finally:
        fails.remove()


async def test_a_model_that_can_do_nothing_any_more_fails_the_engine(
    loaded: LoadedModel, model: PreTrainedModel
) -> None:
    async with running(loaded, EngineOptions(max_num_seqs=1, threads=1)) as engine:
        answers = fill(engine, 2)
        await answers[0].has(1)

        def broken(module: torch.nn.Module, arguments: Any) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        handle = model.get_input_embeddings().register_forward_pre_hook(broken)
        try:
            for answer in answers:
                assert isinstance((await answer.end()).error, Unavailable)
        finally:
            handle.remove()
        assert "illegal memory access" in str(engine.failure)
        with pytest.raises(Unavailable, match="illegal memory access"):
            Answer(engine, request_of([5], 2))


@pytest.mark.parametrize(("asked", "limit"), [(None, 100), (300, 300)])
async def test_the_context_is_what_memory_holds_unless_a_length_is_asked_for(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: int | None, limit: int
) -> None:
    # Two layers of two heads of 16 numbers, keys and values, 4 bytes each, for 4 sequences of 100 tokens.
    there = machine_with(tmp_path, available=1 << 40, limit=int(4 * 100 * 512 / 0.8) + 1)
    monkeypatch.setattr(choice, "free_memory", lambda root: free_memory(there))
    async with running(loaded, EngineOptions(max_num_seqs=4, max_model_len=asked, threads=1)) as engine:
        assert engine.max_model_len == limit
        with pytest.raises(ContextLengthExceeded, match=f"context is {limit} tokens"):
            Answer(engine, request_of([5], limit))
        assert (await Answer(engine, request_of([5], limit - 1)).end()).finish_reason == "length"


class _Notes(Unobserved):
    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.loads: list[Load] = []

    def load(self, load: Load) -> None:
        self.loads.append(load)

    def started(self, waited_s: float) -> None:
        self.notes.append(("started",))

    def prefilled(self, tokens: int) -> None:
        self.notes.append(("prefilled", tokens))

    def first_token(self, seconds: float) -> None:
        self.notes.append(("first",))

    def next_token(self, seconds: float) -> None:
        self.notes.append(("next",))

    def ended(self, reason: str, prompt_tokens: int, new_tokens: int, seconds: float) -> None:
        self.notes.append(("ended", reason, prompt_tokens, new_tokens))


async def test_an_observer_is_told_what_happens(loaded: LoadedModel) -> None:
    notes = _Notes()
    async with running(loaded, EngineOptions(max_num_seqs=2, threads=1), observer=notes) as engine:
        await Answer(engine, request_of([5, 6, 7], 3)).end()
    assert notes.notes == [
        ("started",), ("prefilled", 3), ("first",), ("next",), ("next",), ("ended", "length", 3, 3),
    ]  # fmt: skip
    assert notes.loads[0] == Load(waiting=1, waiting_tokens=3)
    assert max(load.running for load in notes.loads) == 1
    assert max(load.kv_usage for load in notes.loads) == pytest.approx(3 / 4096, rel=1)
    assert notes.loads[-1] == Load()


async def test_something_else_runs_on_the_model_while_sequences_go_on(engine: Engine) -> None:
    runs = Answer(engine, request_of([9], 1000))
    await runs.has(1)

    def work(turn: Any) -> tuple[int, bool]:
        before = len(threading.current_thread().name)
        return before, all(turn() for _ in range(10))

    before = len(runs.tokens)
    assert await engine.exclusive(work) == (len("engine"), True)
    await asyncio.sleep(0)
    assert len(runs.tokens) - before >= 10
    await cancel([runs])


async def test_a_cancelled_piece_of_work_is_told_so_at_its_next_turn(engine: Engine) -> None:
    told, began = threading.Event(), threading.Event()

    def work(turn: Any) -> None:
        began.set()
        while turn():
            pass
        told.set()

    task = asyncio.create_task(engine.exclusive(work))
    await asyncio.to_thread(began.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(told.wait, 10)


async def test_an_error_of_other_work_is_its_callers(engine: Engine) -> None:
    def work(turn: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await engine.exclusive(work)
