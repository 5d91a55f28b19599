"""Log probabilities in OpenAI's two shapes."""

from __future__ import annotations

from collections.abc import Sequence

from kaito.inference.http.openai.responses import ChatLogprob, ChatLogprobs, CompletionLogprobs, TopLogprob
from kaito.inference.requests import TokenLogprob
from kaito.inference.runtime import Tokenizer

_LOWEST = -9999.0  # vLLM's stand-in for minus infinity, which JSON lacks


class TokenTexts:
    """Texts of tokens, each looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    def bytes(self, token: int) -> list[int]:
        """Those of a token."""
        return list(self._tokenizer.token_bytes(token))

    def __getitem__(self, token: int) -> str:
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = self._tokenizer.token_text(token)
        return text


def chat_logprobs(texts: TokenTexts, logprobs: Sequence[TokenLogprob]) -> ChatLogprobs:
    """As a chat completion has them."""
    content: list[ChatLogprob] = [
        {
            **_top(texts, each.token, each.logprob),
            "top_logprobs": [_top(texts, token, logprob) for token, logprob in each.top],
        }
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(texts: TokenTexts, logprobs: Sequence[TokenLogprob], offset: int) -> CompletionLogprobs:
    """As a completion has them.

    Args:
        texts: of tokens.
        logprobs: one for each token.
        offset: characters of the text before the first of them.
    """
    tokens = [texts[each.token] for each in logprobs]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [max(each.logprob, _LOWEST) for each in logprobs],
        "top_logprobs": [_by_text(texts, each) for each in logprobs],
        "text_offset": offsets,
    }


def _top(texts: TokenTexts, token: int, logprob: float) -> TopLogprob:
    return {"token": texts[token], "logprob": max(logprob, _LOWEST), "bytes": texts.bytes(token)}


def _by_text(texts: TokenTexts, each: TokenLogprob) -> dict[str, float]:
    # Several tokens may have one text; the likeliest of them, which comes first, stays.
    by_text: dict[str, float] = {}
    for token, logprob in (*each.top, (each.token, each.logprob)):
        by_text.setdefault(texts[token], max(logprob, _LOWEST))
    return by_text
