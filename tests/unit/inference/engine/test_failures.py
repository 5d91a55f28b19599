"""What a pass that fails, or that gives no numbers, leaves behind: nothing that others could notice."""

from __future__ import annotations

import asyncio
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, PreTrainedModel

from kaito.inference.engine import Engine
from kaito.inference.engine.forward import SlotForward
from kaito.inference.errors import RequestError, Unavailable
from kaito.inference.options import EngineOptions
from kaito.inference.requests import Sampling
from tests.unit.inference.engine.driver import Answer, generated, loaded_of, request_of, running

_OPTIONS = EngineOptions(max_num_seqs=3, threads=1)


@pytest.fixture
def model(tiny: Path) -> PreTrainedModel:
    """One for each test: they break it."""
    return AutoModelForCausalLM.from_pretrained(tiny / "model").eval()


async def test_numbers_that_are_none_are_gone_from_where_a_prompt_was_padded(
    model: PreTrainedModel, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of a model that does not take prompts one after the other.
    monkeypatch.setattr(SlotForward, "flat", False)
    wanted = [generated(model, [7, 8], 60), generated(model, [11, 12, 13], 30)]
    model.get_input_embeddings().weight.data[299] = math.nan
    async with running(loaded_of(model, tiny), _OPTIONS) as engine:
        runs = Answer(engine, request_of([7, 8], 60))
        await runs.has(1)
        long, short = Answer(engine, request_of([5] * 15, 1)), Answer(engine, request_of([299], 1))
        assert isinstance((await short.end()).error, RequestError)
        await long.end()
        await runs.has(20)
        after = [Answer(engine, request_of([11, 12, 13], 30)) for _ in range(2)]
        assert [(await each.end()).error for each in after] == [None, None]
        assert [each.tokens for each in after] == [wanted[1]] * 2
        await runs.end()
        assert runs.tokens == wanted[0]


async def test_a_prompt_whose_numbers_are_none_spoils_no_other_of_its_pass(model: PreTrainedModel, tiny: Path) -> None:
    prompts = [[5, 6, 7], [11, 12, 13, 14], [8, 9]]
    seeded = Sampling(seed=1)
    async with running(loaded_of(model, tiny), _OPTIONS) as engine:
        drawn = Answer(engine, request_of(prompts[2], 9, sampling=seeded))
        await drawn.end()
    wanted = [*(generated(model, prompt, 9) for prompt in prompts[:2]), drawn.tokens]
    model.get_input_embeddings().weight.data[299] = math.nan
    async with running(loaded_of(model, tiny), EngineOptions(max_num_seqs=4, threads=1)) as engine:
        requests = [*(request_of(prompt, 9) for prompt in prompts[:2]), request_of(prompts[2], 9, sampling=seeded)]
        bad = Answer(engine, request_of([299, 5, 5], 9))
        answers = [Answer(engine, request) for request in requests]
        assert isinstance((await bad.end()).error, RequestError)
        for answer in answers:
            assert (await answer.end()).error is None
        assert [answer.tokens for answer in answers] == wanted
        assert engine.stats().kv_usage == 0


class _Room:
    """A stand-in for the tensors of a pass."""


async def test_a_pass_that_failed_holds_no_memory_while_its_rows_are_tried_one_by_one(
    model: PreTrainedModel, tiny: Path
) -> None:
    rooms: list[weakref.ref[_Room]] = []
    held: list[bool] = []

    def lacks_memory(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].shape[0] == 2:
            room = _Room()
            rooms.append(weakref.ref(room))
            raise torch.OutOfMemoryError("not enough memory")
        held.extend(room() is not None for room in rooms)

    wanted = [generated(model, prompt, 8) for prompt in ([7, 8], [9, 10])]
    async with running(loaded_of(model, tiny), _OPTIONS) as engine:
        handle = model.get_input_embeddings().register_forward_pre_hook(lacks_memory)
        answers = [Answer(engine, request_of(prompt, 8)) for prompt in ([7, 8], [9, 10])]
        for answer in answers:
            await answer.end()
        handle.remove()
    assert [answer.tokens for answer in answers] == wanted
    # The prefill and each step.
    assert len(rooms) == 8
    assert held
    assert not any(held)


async def test_a_sequence_whose_own_cache_a_failed_pass_may_have_spoilt_ends(tiny: Path) -> None:
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=199, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    wanted = generated(model, [9, 10, 11], 12)
    calls = 0

    def fails_once(module: torch.nn.Module, arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise RuntimeError("out of luck")

    async with running(loaded_of(model, tiny), _OPTIONS) as engine:
        assert not engine.batched
        # When the first of its layers has taken a token into its state.
        handle = model.backbone.layers[1].register_forward_pre_hook(fails_once)
        answers = [Answer(engine, request_of([9, 10, 11], 12)) for _ in range(2)]
        ends = [await answer.end() for answer in answers]
        handle.remove()
    failed, whole = sorted(answers, key=lambda answer: len(answer.tokens))
    assert isinstance(failed.updates[-1].error, Unavailable)
    assert failed.tokens == wanted[: len(failed.tokens)]
    assert whole.tokens == wanted
    assert sum(end.error is None for end in ends) == 1


async def _interrupted(engine: Engine, model: PreTrainedModel) -> asyncio.Task[list[int]]:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(turn: Any) -> list[int]:
        loop.call_soon_threadsafe(began.set)
        while turn():
            pass
        return []

    task = asyncio.create_task(engine.exclusive(work))
    await began.wait()
    return task


async def test_other_work_that_a_drain_or_a_stop_cuts_short_is_no_answer(model: PreTrainedModel, tiny: Path) -> None:
    async with running(loaded_of(model, tiny), _OPTIONS) as engine:
        task = await _interrupted(engine, model)
        await engine.drain(0)
        with pytest.raises(Unavailable, match="stopping"):
            await task
    async with running(loaded_of(model, tiny), _OPTIONS) as engine:
        task = await _interrupted(engine, model)
    with pytest.raises(Unavailable, match="stopping"):
        await task
