"""From a body to the tokens that are continued, and from the answer's text to the result."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaito.inference.errors import BadRequest, ModelNotFound
from kaito.inference.http.chat.body import ChatRequest, Message, Strength
from kaito.inference.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is continued.

    Attributes:
        tokens: those of the prefix included.
        prefix_tokens: how many of them are the prefix's, which a total length does not count.
        head: text that comes before each answer.
        last: the message that is continued or comes new, for a conversation; none for a plain prompt.
    """

    tokens: tuple[int, ...]
    prefix_tokens: int = 0
    head: str = ""
    last: Message | None = None

    def result(self, texts: Sequence[str]) -> str:
        """The answer's `Result`: of a conversation its last message, as Python writes a dict."""
        if self.last is None:
            return "".join(self.head + text for text in texts)
        return str({"role": self.last.role, "content": self.last.content + texts[-1]})


async def read_prompt(runtime: Runtime, body: ChatRequest) -> Prompt:
    """The tokens of a body.

    Raises:
        BadRequest: There is neither a prompt nor a conversation, or the chat template refuses it.
    """
    if body.prompt:
        prompt = await _of_text(runtime, body, body.prompt)
    elif body.messages:
        prompt = await _of_messages(runtime, body.messages)
    elif body.messages is not None:
        raise BadRequest("Conversational parameter messages required", param="messages")
    else:
        raise BadRequest("Text generation parameter prompt required", param="prompt")
    if not prompt.tokens:
        raise BadRequest("the prompt has no tokens", param="prompt")
    return prompt


def strengths(runtime: Runtime, asked: Sequence[Strength] | None) -> Mapping[str, float]:
    """Strength by adapter name: what a body lists, else all adapters at their strengths from the start.

    Raises:
        ModelNotFound: There is no such adapter.
        BadRequest: One is listed twice.
    """
    known = {
        model.name: 1.0 if model.strength is None else model.strength for model in runtime.models() if model.parent
    }
    if asked is None:
        return known
    found: dict[str, float] = {}
    for each in asked:
        if each.name not in known:
            [*near] = difflib.get_close_matches(each.name, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ModelNotFound(
                f"lora: there is no adapter {each.name[:100]!r}; served: {', '.join(known) or 'none'}{meant}",
                param="lora",
            )
        if each.name in found:
            raise BadRequest(f"lora: {each.name} is listed twice", param="lora")
        found[each.name] = known[each.name] if each.strength is None else each.strength
    return found


async def _of_text(runtime: Runtime, body: ChatRequest, text: str) -> Prompt:
    tokenizer, keywords = runtime.tokenizer(), body.keywords()
    special = keywords.get("add_special_tokens") is not False
    prefix = body.prefix or ""
    tokens = await tokenizer.encode_async(prefix + text, add_special_tokens=special)
    prefix_tokens = len(await tokenizer.encode_async(prefix, add_special_tokens=False)) if prefix else 0
    if body.handle_long_generation is not None:
        tokens = _cut(tokens, body.handle_long_generation, keywords, runtime.models()[0].max_model_len)
    return Prompt(tokens, prefix_tokens, head="" if body.return_full_text is False else text)


async def _of_messages(runtime: Runtime, messages: Sequence[Message]) -> Prompt:
    tokenizer = runtime.tokenizer()
    # As transformers does: an answer that has begun is continued.
    begun = messages[-1].role == "assistant"
    text = tokenizer.render(
        [message.model_dump() for message in messages], add_generation_prompt=not begun, continue_final_message=begun
    )
    tokens = await tokenizer.encode_async(text, add_special_tokens=False)
    return Prompt(tokens, last=messages[-1] if begun else Message(role="assistant", content=""))


def _cut(tokens: tuple[int, ...], how: str, keywords: Mapping[str, Any], context: int) -> tuple[int, ...]:
    """The end of a prompt that leaves no room; the words are transformers'."""
    if how != "hole":
        raise BadRequest(
            f"{how} is not a valid value for `handle_long_generation` parameter expected [None, 'hole']",
            param="handle_long_generation",
        )
    count = keywords.get("max_new_tokens")
    if count is None:
        count = (keywords.get("max_length") or 0) - len(tokens)
        if count < 0:
            raise BadRequest("We cannot infer how many new tokens are expected", param="handle_long_generation")
    if len(tokens) + count <= context:
        return tokens
    if count >= context:
        raise BadRequest(
            "We cannot use `hole` to handle this generation the number of desired tokens exceeds the models max length",
            param="handle_long_generation",
        )
    return tokens[count - context :]
