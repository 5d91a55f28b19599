"""transformers' own `generate`, on the engine's model, for what the engine has not: beams, contrastive search, …"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from kaito.inference.engine.engine import Engine, Turn
from kaito.inference.errors import BadRequest, Unavailable
from kaito.inference.loading import LoadedModel
from kaito.inference.lora import Adapters

# Arguments that are no wish of a client's: what goes in, code and objects of this process, how the model is run.
_NAMES = """
inputs input_ids inputs_embeds decoder_input_ids attention_mask position_ids labels cache past_key_values
cache_implementation cache_config compile_config disable_compile prefill_chunk_size continuous_batching_config
generation_config use_model_defaults logits_processor stopping_criteria prefix_allowed_tokens_fn logits_to_keep
assistant_model assistant_tokenizer tokenizer streamer synced_gpus custom_generate trust_remote_code
output_attentions output_hidden_states watermarking_config
"""
_REFUSED = frozenset(_NAMES.split())
# Each multiplies the memory of a call.
_MANY = ("num_beams", "num_return_sequences")
_MOST = 64
_DEFAULT_NEW_TOKENS = 20


class _NotWanted(Exception):
    """The caller has gone."""


class _Turns(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        if not self._turn():
            raise _NotWanted
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


async def generate(
    engine: Engine,
    loaded: LoadedModel,
    adapters: Adapters,
    prompt: Sequence[int],
    kwargs: Mapping[str, Any],
    strengths: Mapping[str, float],
) -> list[list[int]]:
    """New tokens of each sequence; see `WithTransformers`."""
    _check(kwargs)
    new = _new_tokens(len(prompt), kwargs)
    engine.check_prompt(prompt, new, strengths)
    many = max(_MANY, key=lambda name: kwargs.get(name, 1))
    if kwargs.get(many, 1) > 1:
        engine.check_memory(kwargs[many], len(prompt) + new, f"generate_kwargs.{many}")
    return await engine.exclusive(lambda turn: _run(loaded, adapters, prompt, kwargs, strengths, turn))


def _check(kwargs: Mapping[str, Any]) -> None:
    for name, value in kwargs.items():
        where = f"generate_kwargs.{name}"
        if name in _REFUSED:
            raise BadRequest(f"{where} cannot be set by a request; leave it out", param=where)
        if name in _MANY and not (type(value) is int and 1 <= value <= _MOST):
            raise BadRequest(f"{where} is {value!r}; it must be a whole number from 1 to {_MOST}", param=where)
        if name in ("max_length", "max_new_tokens") and type(value) is not int:
            raise BadRequest(f"{where} is {value!r}; it must be a whole number", param=where)


def _new_tokens(size: int, kwargs: Mapping[str, Any]) -> int:
    if (given := kwargs.get("max_new_tokens")) is not None:
        return int(given)
    if (whole := kwargs.get("max_length")) is not None:
        return max(1, int(whole) - size)
    return _DEFAULT_NEW_TOKENS


def _run(
    loaded: LoadedModel,
    adapters: Adapters,
    prompt: Sequence[int],
    kwargs: Mapping[str, Any],
    strengths: Mapping[str, float],
    turn: Turn,
) -> list[list[int]]:
    tokens = torch.tensor([list(prompt)], device=loaded.model.device)
    extra: dict[str, Any] = {"tokenizer": loaded.tokenizer} if kwargs.get("stop_strings") else {}
    if kwargs.get("max_new_tokens") is None and kwargs.get("max_length") is None:
        # transformers' own default, said so that it does not warn of it.
        extra["max_new_tokens"] = _DEFAULT_NEW_TOKENS
    try:
        # One row of strengths serves every beam.
        with adapters.applied(adapters.weights([strengths])):
            out = loaded.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                stopping_criteria=StoppingCriteriaList([_Turns(turn)]),
                **extra,
                **kwargs,
            )
    except _NotWanted:
        return []
    except (
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
    ) as no:
        raise BadRequest(f"transformers refuses these generate_kwargs: {no}", param="generate_kwargs") from no
    except (MemoryError, RuntimeError) as error:
        raise Unavailable(f"transformers failed on this request: {type(error).__name__}: {error}") from error
    ends = _ends(loaded, kwargs)
    return [_until(row, ends) for row in getattr(out, "sequences", out)[:, len(prompt) :].tolist()]


def _ends(loaded: LoadedModel, kwargs: Mapping[str, Any]) -> frozenset[int]:
    given = kwargs.get("eos_token_id")
    if given is None:
        return loaded.eos_token_ids
    return frozenset(given if isinstance(given, list) else [given])


def _until(row: list[int], ends: frozenset[int]) -> list[int]:
    # What follows an end is padding to the longest of the sequences.
    end = next((index for index, token in enumerate(row) if token in ends), len(row))
    return row[: end + 1]
