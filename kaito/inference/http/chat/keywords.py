"""Keywords of transformers' `generate`, as requests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from kaito.inference.errors import BadRequest, ContextLengthExceeded
from kaito.inference.requests import GenerationRequest, Sampling

# What transformers' pipeline takes where nothing is said.
_DEFAULT_NEW_TOKENS = 256
_MOST_SEQUENCES = 64
# Each is looked for in every character of an answer.
_MOST_STOPS = 64
_SEEDS = 2**63

# Of the engine, with what it can do of each. The rest, and any other keyword, goes to transformers' own `generate`,
# whose words are those of the original where it refuses.
_ENGINE: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "max_length": lambda value: True,
        "min_length": lambda value: value >= 0,
        "max_new_tokens": lambda value: value > 0,
        "min_new_tokens": lambda value: value >= 0,
        "do_sample": lambda value: True,
        "temperature": lambda value: value > 0,
        "top_k": lambda value: value >= 0,
        "top_p": lambda value: 0 <= value <= 1,
        "typical_p": lambda value: 0 < value <= 1,
        "min_p": lambda value: 0 <= value <= 1,
        "repetition_penalty": lambda value: value > 0,
        "no_repeat_ngram_size": lambda value: value >= 0,
        "bad_words_ids": lambda value: bool(value) and all(value),
        "num_return_sequences": lambda value: value >= 1,
        "eos_token_id": lambda value: True,
        "stop_strings": lambda value: True,
        "seed": lambda value: True,
        # These ask for nothing, or change what is not seen: padding, scores, the work of beams.
        "pad_token_id": lambda value: True,
        "num_beams": lambda value: value == 1,
        "num_beam_groups": lambda value: value == 1,
        "early_stopping": lambda value: True,
        "length_penalty": lambda value: True,
        "diversity_penalty": lambda value: value == 0,
        "encoder_no_repeat_ngram_size": lambda value: value == 0,
        "remove_invalid_values": lambda value: value is False,
        "output_scores": lambda value: isinstance(value, bool),
        "output_logits": lambda value: isinstance(value, bool),
        "return_dict_in_generate": lambda value: isinstance(value, bool),
        "use_cache": lambda value: value is True,
    }
)
OF_PIPELINE = frozenset({"skip_special_tokens", "add_special_tokens"})
"""Keywords that transformers' pipeline keeps for itself: they are about text, not about tokens."""

# Keywords of `generate` that are no numbers and strings, or that reach beyond the request.
_REFUSED = frozenset(
    {
        "inputs",
        "input_ids",
        "inputs_embeds",
        "attention_mask",
        "generation_config",
        "logits_processor",
        "stopping_criteria",
        "prefix_allowed_tokens_fn",
        "synced_gpus",
        "assistant_model",
        "assistant_tokenizer",
        "streamer",
        "custom_generate",
        "trust_remote_code",
        "tokenizer",
        "cache",
        "past_key_values",
        "cache_implementation",
        "cache_config",
        "compile_config",
        "disable_compile",
        "negative_prompt_ids",
        "negative_prompt_attention_mask",
        "use_model_defaults",
        "watermarking_config",
        "return_tensors",
        "return_text",
        "return_type",
        "truncation",
        "padding",
        "tools",
        "documents",
        "tokenizer_encode_kwargs",
        "continue_final_message",
    }
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many new tokens there may be, and have to be."""

    most: int
    least: int


def lengths(keywords: Mapping[str, Any], prompt: int, prefix: int, context: int) -> Lengths:
    """What the four keywords of length leave for the answer.

    Args:
        keywords: of `generate`.
        prompt: its tokens, those of the prefix included.
        prefix: those of the prefix, which a total length does not count.
        context: tokens that the model can have in all; an answer ends there.

    Raises:
        BadRequest: Prompt alone is as long as prompt and answer may be.
    """
    if prompt >= context:
        raise ContextLengthExceeded(
            f"The prompt has {prompt} tokens; this model has {context} for prompt and answer together. Shorten the "
            "prompt, or send handle_long_generation: hole to have its start cut off.",
            param="prompt",
        )
    most = keywords.get("max_new_tokens")
    if most is None:
        total = keywords.get("max_length")
        most = _DEFAULT_NEW_TOKENS if total is None else total + prefix - prompt
        if total is not None and most < 1:
            # transformers' words.
            raise BadRequest(
                f"Input length of input_ids is {prompt}, but `max_length` is set to {total + prefix}. This can lead to "
                "unexpected behavior. You should consider increasing `max_length` or, better yet, setting "
                "`max_new_tokens`.",
                param="max_length",
            )
    most = min(most, context - prompt)
    least = max((keywords.get("min_length") or 0) + prefix - prompt, keywords.get("min_new_tokens") or 0, 0)
    return Lengths(most, min(least, most))


def beyond_engine(keywords: Mapping[str, Any]) -> list[str]:
    """Names of the keywords that only transformers' own `generate` can do, or refuse in its own words.

    Raises:
        BadRequest: One is not for clients at all.
    """
    given = {name: value for name, value in keywords.items() if value is not None}
    if refused := sorted(_REFUSED & given.keys()):
        raise BadRequest(f"generate_kwargs.{refused[0]} cannot be set here", param=f"generate_kwargs.{refused[0]}")
    beyond = [name for name, value in given.items() if name not in OF_PIPELINE and not _can(name, value)]
    greedy = not given.get("do_sample")
    if greedy and given.get("num_return_sequences", 1) > 1:
        beyond.append("num_return_sequences")
    # Without sampling these are not looked at, so a value out of range asks for nothing.
    ignored = ("temperature", "top_k", "top_p", "typical_p", "min_p") if greedy else ()
    return [name for name in beyond if name not in ignored]


def engine_requests(
    keywords: Mapping[str, Any], prompt: tuple[int, ...], length: Lengths, adapters: Mapping[str, float]
) -> list[GenerationRequest]:
    """One request for each sequence that is to be returned.

    Args:
        keywords: of `generate`, all of them the engine's.
        prompt: token ids.
        length: of the answer.
        adapters: strength by name.

    Raises:
        BadRequest: A keyword has too much of something.
    """
    count = keywords.get("num_return_sequences") or 1
    if count > _MOST_SEQUENCES:
        raise BadRequest(
            f"num_return_sequences is {count}; at most {_MOST_SEQUENCES} are returned", param="num_return_sequences"
        )
    ends = keywords.get("eos_token_id")
    strings = keywords.get("stop_strings") or ()
    if not isinstance(strings, str) and len(strings) > _MOST_STOPS:
        raise BadRequest(f"{len(strings)} stop_strings are given; at most {_MOST_STOPS} may be", param="stop_strings")
    request = GenerationRequest(
        prompt=prompt,
        max_tokens=length.most,
        min_tokens=length.least,
        sampling=_sampling(keywords),
        stop=(strings,) if isinstance(strings, str) else tuple(strings),
        stop_token_ids=frozenset(() if ends is None else ends if isinstance(ends, list) else [ends]),
        include_stop=True,
        ignore_eos=ends is not None,
        skip_special_tokens=keywords.get("skip_special_tokens") is not False,
        adapters=adapters,
    )
    seed = request.sampling.seed
    if seed is None or count == 1:
        return [request] * count
    seeds = ((seed + index + _SEEDS) % (2 * _SEEDS) - _SEEDS for index in range(count))
    return [replace(request, sampling=replace(request.sampling, seed=each)) for each in seeds]


def transformers_keywords(keywords: Mapping[str, Any], beyond: Sequence[str], length: Lengths) -> dict[str, Any]:
    """The keywords as transformers' own `generate` takes them.

    Args:
        keywords: all of the request.
        beyond: those of them for which the engine is not enough, for the error.
        length: of the answer.

    Raises:
        BadRequest: There is a seed: `generate` draws from one source of randomness for all.
    """
    given = {name: value for name, value in keywords.items() if value is not None}
    if given.pop("seed", None) is not None and given.get("do_sample"):
        raise BadRequest(f"seed: not together with {beyond[0]}; leave one of them out", param="seed")
    if length.most > 0:
        for name in ("max_length", "min_length", "min_new_tokens"):
            given.pop(name, None)
        given |= {"max_new_tokens": length.most, "min_new_tokens": length.least}
    return {name: value for name, value in given.items() if name not in OF_PIPELINE}


def _can(name: str, value: Any) -> bool:
    can = _ENGINE.get(name)
    try:
        return can is not None and can(value)
    except TypeError:
        return False


def _sampling(keywords: Mapping[str, Any]) -> Sampling:
    def value(name: str, off: Any) -> Any:
        given = keywords.get(name)
        return off if given is None else given

    always = Sampling(
        temperature=0.0,
        repetition_penalty=value("repetition_penalty", 1.0),
        no_repeat_ngram_size=value("no_repeat_ngram_size", 0),
        bad_words_ids=tuple(tuple(words) for words in value("bad_words_ids", ())),
        seed=keywords.get("seed"),
    )
    if not keywords.get("do_sample"):
        return always
    return replace(
        always,
        temperature=value("temperature", 1.0),
        top_k=value("top_k", 0),
        top_p=value("top_p", 1.0),
        min_p=value("min_p", 0.0),
        typical_p=value("typical_p", 1.0),
    )
