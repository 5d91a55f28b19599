"""From a request's fields to what the runtime is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request

from kaito.inference.errors import BadRequest, ContextLengthExceeded, ModelNotFound
from kaito.inference.http.openai.fields import AdapterStrength, GenerationFields, Message
from kaito.inference.requests import GenerationRequest, Sampling
from kaito.inference.runtime import Runtime, ServedModel

_SEEDS = 2**63


def runtime_of(request: Request) -> Runtime:
    """The runtime of a request's application: a ready one, or `kaito.inference.http.gate` would have answered."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def find_model(runtime: Runtime, name: str | None, param: str | None = "model") -> ServedModel:
    """The model or adapter of a name; the base model for none.

    Raises:
        ModelNotFound: None has it.
    """
    models = runtime.models()
    if name is None:
        return models[0]
    for each in models:
        if each.name == name:
            return each
    raise _not_found(name, [each.name for each in models], "model", param)


def adapters(runtime: Runtime, model: ServedModel, asked: Sequence[AdapterStrength] | None) -> Mapping[str, float]:
    """Strength by adapter: what the request lists, else the adapter that its model's name is.

    Raises:
        ModelNotFound: No adapter has such a name.
        BadRequest: One is listed twice.
    """
    if asked is None:
        return {} if model.parent is None else {model.name: _own(model)}
    known = {each.name: each for each in runtime.models() if each.parent is not None}
    strengths: dict[str, float] = {}
    for index, each in enumerate(asked):
        if each.name not in known:
            raise _not_found(each.name, known, "adapter", f"lora[{index}].name")
        if each.name in strengths:
            raise BadRequest(
                f"lora[{index}].name: {each.name} is listed twice; give each adapter once", param=f"lora[{index}].name"
            )
        strengths[each.name] = _own(known[each.name]) if each.strength is None else each.strength
    return strengths


def generation_request(
    fields: GenerationFields,
    runtime: Runtime,
    prompt: tuple[int, ...],
    *,
    param: str,
    max_tokens: int | None,
    default_max_tokens: int | None,
    logprobs: int | None,
) -> GenerationRequest:
    """What the runtime is asked for one prompt of a request, whose fields these are.

    Args:
        fields: the request.
        runtime: on which it is to run.
        prompt: token ids.
        param: the prompt's field, which errors name.
        max_tokens: what the request says.
        default_max_tokens: if it says nothing; none: what the prompt leaves of the context.
        logprobs: how many likeliest tokens are asked for with each.

    Raises:
        ContextLengthExceeded: It does not fit.
        BadRequest: Fields contradict each other, or a token id is none of the model's.
        ModelNotFound: There is no such model or adapter.
    """
    model = find_model(runtime, fields.model)
    count = _max_tokens(len(prompt), max_tokens, default_max_tokens, model.max_model_len, param)
    min_tokens = fields.min_tokens or 0
    if min_tokens > count:
        raise BadRequest(f"min_tokens: must be at most max_tokens, {count}, was {min_tokens}", param="min_tokens")
    return GenerationRequest(
        prompt=prompt,
        max_tokens=count,
        min_tokens=min_tokens,
        sampling=_sampling(fields, runtime.defaults(), model),
        stop=fields.stops,
        stop_token_ids=frozenset(fields.stop_token_ids or ()),
        include_stop=bool(fields.include_stop_str_in_output),
        ignore_eos=bool(fields.ignore_eos),
        skip_special_tokens=fields.skip_special_tokens is not False,
        logprobs=logprobs,
        adapters=adapters(runtime, model, fields.lora),
    )


def choices(request: GenerationRequest, n: int | None) -> list[GenerationRequest]:
    """The n requests of one prompt: with a seed, each has its own, which is the same each time."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * (n or 1)
    seeds = ((seed + index + _SEEDS) % (2 * _SEEDS) - _SEEDS for index in range(n or 1))
    return [replace(request, sampling=replace(request.sampling, seed=each)) for each in seeds]


def rendered(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a chat template takes them. Templates know ``system``, not OpenAI's newer ``developer``."""
    return [
        {
            "role": "system" if each.role == "developer" else each.role,
            "content": each.text,
            **({} if each.name is None else {"name": each.name}),
        }
        for each in messages
    ]


def check_tokens(tokens: Iterable[int], vocab_size: int | None, param: str) -> None:
    """Raises `BadRequest` for a token id that the model does not have."""
    for index, token in enumerate(tokens):
        check_token(token, vocab_size, f"{param}[{index}]")


def check_token(token: int, vocab_size: int | None, param: str) -> None:
    """Raises `BadRequest` if the model does not have a token id."""
    if vocab_size is not None and token >= vocab_size:
        raise BadRequest(f"{param}: must be a token id of this model, 0 to {vocab_size - 1}, was {token}", param=param)


def _max_tokens(prompt: int, asked: int | None, default: int | None, context: int, param: str) -> int:
    left = context - prompt
    if prompt == 0:
        raise BadRequest(f"{param}: the prompt has no tokens; give it at least one", param=param)
    if left < 1:
        raise ContextLengthExceeded(
            f"{param}: the prompt has {prompt} tokens and the model's context is {context}, prompt and answer together;"
            f" shorten the prompt to {context - 1} tokens or fewer",
            param=param,
        )
    if asked is not None and asked > left:
        raise ContextLengthExceeded(
            f"{prompt} tokens of {param} and {asked} of max_tokens are more than the model's context of {context};"
            f" ask for {left} tokens or fewer, or shorten the prompt",
            param=param,
        )
    return asked if asked is not None else left if default is None else min(default, left)


def _sampling(fields: GenerationFields, defaults: Mapping[str, Any], model: ServedModel) -> Sampling:
    def value(name: str, otherwise: float) -> Any:
        given = getattr(fields, name)
        default = defaults.get(name) if given is None else given
        return otherwise if default is None else default

    bias = {_token(name): value for name, value in (fields.logit_bias or {}).items()}
    for token in bias:
        check_token(token, model.vocab_size, f"logit_bias.{token}")
    allowed = fields.allowed_token_ids
    check_tokens(allowed or (), model.vocab_size, "allowed_token_ids")
    check_tokens(fields.stop_token_ids or (), model.vocab_size, "stop_token_ids")
    return Sampling(
        temperature=value("temperature", 1.0),
        top_k=max(0, value("top_k", 0)),
        top_p=value("top_p", 1.0),
        min_p=value("min_p", 0.0),
        typical_p=value("typical_p", 1.0),
        repetition_penalty=value("repetition_penalty", 1.0),
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        logit_bias=bias,
        allowed_token_ids=None if allowed is None else tuple(allowed),
        seed=fields.seed,
    )


def _token(name: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) < 10):
        raise BadRequest(
            f"logit_bias.{name[:60]}: its keys must be token ids in decimal digits", param=f"logit_bias.{name[:60]}"
        )
    return int(name)


def _own(adapter: ServedModel) -> float:
    return 1.0 if adapter.strength is None else adapter.strength


def _not_found(name: str, known: Iterable[str], kind: str, param: str | None) -> ModelNotFound:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    served = f"served: {', '.join(names)}" if names else "none is served"
    return ModelNotFound(f"no {kind} {name[:200]!r} is served here; {hint}{served}", param=param)
