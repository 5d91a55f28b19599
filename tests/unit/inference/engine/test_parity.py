"""Greedy answers of the engine are those of transformers' own `generate`, token for token, whatever runs beside."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from kaito.inference.engine.choice import explain_difference, slot_layers
from kaito.inference.engine.forward import SlotForward
from kaito.inference.engine.slots import SlotCache
from kaito.inference.lora import Adapters
from kaito.inference.options import EngineOptions
from tests.unit.inference.engine.driver import Answer, generated, loaded_of, request_of, running

_COMMON: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MIXED: dict[str, Any] = {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BATCHED: dict[str, PreTrainedConfig] = {
    "phi3": Phi3Config(**_COMMON, original_max_position_embeddings=512),
    "phi3 with a sliding window": Phi3Config(**_COMMON, original_max_position_embeddings=512, sliding_window=9),
    "llama": LlamaConfig(**_COMMON),
    "mistral with a sliding window": MistralConfig(**_COMMON, sliding_window=9),
    "qwen2": Qwen2Config(**_COMMON),
    "qwen3, sliding windows in one of its layers": Qwen3Config(
        **_COMMON, head_dim=16, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
    "gemma2": Gemma2Config(**_COMMON, **_MIXED),
    "gemma3": Gemma3TextConfig(**_COMMON, **_MIXED),
    "gpt2": GPT2Config(vocab_size=199, n_embd=64, n_layer=2, n_head=4, n_positions=512, **_ENDS),
    "gpt_neox": GPTNeoXConfig(**{**_COMMON, "num_key_value_heads": None}),
    "falcon": FalconConfig(
        vocab_size=199, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
        new_decoder_architecture=True, max_position_embeddings=512, **_ENDS,
    ),
    "opt": OPTConfig(
        vocab_size=199, hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=64, max_position_embeddings=512, **_ENDS,
    ),
}  # fmt: skip
_ONE_BY_ONE: dict[str, PreTrainedConfig] = {
    "bloom": BloomConfig(vocab_size=199, hidden_size=64, n_layer=2, n_head=4, **_ENDS),
    "mamba": MambaConfig(vocab_size=199, hidden_size=32, num_hidden_layers=2, state_size=4, **_ENDS),
}


def make(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A model with weights spread so widely that no two tokens are about as likely."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "A_log" not in name:
                parameter.normal_(0.0, 1.5 / parameter.shape[-1] ** 0.5)
    return model.eval()


def prompts_of(seed: int, sizes: list[int], vocabulary: int = 199) -> list[list[int]]:
    """Random prompts."""
    chance = random.Random(seed)
    return [[chance.randrange(3, vocabulary) for _ in range(size)] for size in sizes]


@pytest.mark.parametrize("name", [*_BATCHED, *_ONE_BY_ONE])
async def test_answers_are_those_of_generate_for_mixed_lengths_and_arrivals(name: str, tiny: Path) -> None:
    model = make({**_BATCHED, **_ONE_BY_ONE}[name])
    prompts = prompts_of(1, [5, 40, 1, 23, 17, 60])
    lengths = [30, 12, 25, 18, 9, 20]
    options = EngineOptions(max_num_seqs=4, prefill_tokens=16, threads=1)
    async with running(loaded_of(model, tiny), options) as engine:
        assert engine.batched is (name in _BATCHED)
        answers: list[Answer] = []
        for prompt, length in zip(prompts, lengths, strict=True):
            answers.append(Answer(engine, request_of(prompt, length)))
            if len(answers) % 2:
                await answers[-1].has(3)
        for answer in answers:
            await answer.end()
    for answer, prompt, length in zip(answers, prompts, lengths, strict=True):
        assert answer.tokens == generated(model, prompt, length), f"a prompt of {len(prompt)} tokens"


@pytest.mark.parametrize("name", _BATCHED)
@torch.inference_mode()
def test_prompts_that_go_through_one_after_the_other_have_the_logits_they_have_alone(name: str) -> None:
    model = make(_BATCHED[name])
    cache = SlotCache(slot_layers(model), 8, 512)
    forward = SlotForward(model, cache)
    assert explain_difference(model, forward, cache) is None
    assert forward.flat
    prompts = prompts_of(3, [5, 40, 1, 23])
    logits = forward.prefill(2, prompts, [0] * len(prompts))
    following = forward.decode(2, [7] * len(prompts), [len(prompt) for prompt in prompts])
    for row, prompt in enumerate(prompts):
        alone = model(input_ids=torch.tensor([[*prompt, 7]])).logits[0, -2:]
        torch.testing.assert_close(torch.stack((logits[row], following[row])), alone, atol=1e-4, rtol=1e-4)


async def test_a_model_that_wants_positions_to_rise_has_its_prompts_padded(tiny: Path) -> None:
    model = make(_BATCHED["llama"])
    embeddings = model.model.rotary_emb
    plain = embeddings.forward

    def rising(x: torch.Tensor, position_ids: torch.Tensor) -> Any:
        if (position_ids.diff() < 0).any():
            raise ValueError("positions fall")
        return plain(x, position_ids)

    prompts = prompts_of(5, [5, 9, 7, 12])
    wanted = [generated(model, prompt, 8) for prompt in prompts]
    embeddings.forward = rising
    async with running(loaded_of(model, tiny), EngineOptions(threads=1)) as engine:
        assert engine.batched
        answers = [Answer(engine, request_of(prompt, 8)) for prompt in prompts]
        for answer in answers:
            await answer.end()
    assert [answer.tokens for answer in answers] == wanted


async def test_each_row_of_a_batch_has_its_own_adapters(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model").eval()
    adapters = Adapters.attach(model, tiny / "adapters", {})
    prompts = prompts_of(2, [5, 30, 8, 12, 21, 9], 300)
    strengths = [{}, {"one": 1.0}, {"two": -0.5}, {"one": 0.7, "two": 1.5}, {"one": 0.0}, {"two": 1.0}]
    wanted = []
    for prompt, strength in zip(prompts, strengths, strict=True):
        with adapters.applied(adapters.weights([strength])):
            wanted.append(generated(model, prompt, 16))
    assert len(set(map(tuple, wanted))) == 6
    async with running(loaded_of(model, tiny), EngineOptions(max_num_seqs=4, threads=1), adapters=adapters) as engine:
        answers = [
            Answer(engine, request_of(prompt, 16, adapters=strength))
            for prompt, strength in zip(prompts, strengths, strict=True)
        ]
        for answer in answers:
            await answer.end()
    assert [answer.tokens for answer in answers] == wanted


async def test_sequences_beyond_the_length_where_rotary_frequencies_change_run_alone(tiny: Path) -> None:
    # Phi-3 of a long context: from 32 tokens on, transformers computes all keys anew with other frequencies.
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 9.0],
        "original_max_position_embeddings": 32,
    }
    model = make(Phi3Config(**_COMMON, original_max_position_embeddings=32, rope_parameters=rope))
    prompts = prompts_of(4, [5, 25, 50, 8])
    lengths = [20, 20, 10, 24]
    async with running(loaded_of(model, tiny), EngineOptions(max_num_seqs=4, threads=1)) as engine:
        assert engine.batched
        answers = [Answer(engine, request_of(prompt, size)) for prompt, size in zip(prompts, lengths, strict=True)]
        for answer in answers:
            await answer.end()
    for answer, prompt, size in zip(answers, prompts, lengths, strict=True):
        assert answer.tokens == generated(model, prompt, size), f"a prompt of {len(prompt)} tokens"


async def test_a_model_whose_cache_misbehaves_is_found_out_and_runs_one_by_one(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(_BATCHED["llama"])
    # As a model would that takes no position_ids and counts by itself.
    embeddings = model.model.rotary_emb
    plain = embeddings.forward
    embeddings.forward = lambda x, position_ids: plain(x, torch.arange(x.shape[1])[None])
    async with running(loaded_of(model, tiny), EngineOptions(threads=1)) as engine:
        assert not engine.batched
    assert "one by one" in caplog.text
    assert "logits differ" in caplog.text
