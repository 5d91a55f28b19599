"""The model's tokenizer and chat template."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kaito.inference.errors import BadRequest

# Characters whose encoding takes longer than a step of the loop should; a thread takes over from there.
THREAD_FROM = 4096


class ModelTokenizer:
    """A `kaito.inference.runtime.Tokenizer` on transformers' own. Make one for a model and keep it.

    For the event loop; `encode_async` alone uses other threads.

    What a template renders is encoded with `add_special_tokens=False`, since templates write their own. A special
    token that is written out in a message's content becomes that token, as with every server of this field: content
    cannot run code in the template, but it can pretend to be another turn. Whoever shows a model untrusted text has
    to expect that.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # transformers sets up its backend with the first call: truncation, padding, splitting of special tokens.
        tokenizer.encode("")
        plain = isinstance(tokenizer, PreTrainedTokenizerFast) and all(
            getattr(type(tokenizer), name, None) is getattr(PreTrainedTokenizerFast, name)
            for name in ("encode", "decode", "_encode_plus", "_decode")
        )
        self._backend = tokenizer.backend_tokenizer if plain else None
        self._utf8: dict[int, bytes] = {}
        self._seen: set[int] = set()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        """A text's token ids.

        Raises:
            BadRequest: The text has half a surrogate pair in it.
        """
        _check(text)
        if self._backend is None:
            return tuple(self._tokenizer.encode(text, add_special_tokens=add_special_tokens, verbose=False))
        return tuple(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    async def encode_async(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        """The same, with long texts encoded in a thread: a megabyte takes a second.

        A cancelled call returns at once; the thread ends its work for nothing.

        Raises:
            BadRequest: The text has half a surrogate pair in it.
        """
        if len(text) < THREAD_FROM:
            return self.encode(text, add_special_tokens=add_special_tokens)
        _check(text)
        return await asyncio.to_thread(self._encode_long, text, add_special_tokens)

    def _encode_long(self, text: str, add_special_tokens: bool) -> tuple[int, ...]:
        if self._backend is None:
            return self.encode(text, add_special_tokens=add_special_tokens)
        # Only the backend's batches let other threads run meanwhile.
        [encoding] = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return tuple(encoding.ids)

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids; ids that the tokenizer does not know have none.

        Raises:
            BadRequest: An id is negative or has more than 32 bits.
        """
        try:
            if self._backend is None:
                text = self._tokenizer.decode(
                    list(tokens), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
                )
            else:
                text = self._backend.decode(list(tokens), skip_special_tokens=skip_special_tokens)
        except OverflowError:
            raise BadRequest(
                f"token ids are 0 to {len(self._tokenizer) - 1}; got {min(tokens)} to {max(tokens)}", param="tokens"
            ) from None
        return str(text)

    def has_text(self, token: int, *, skip_special_tokens: bool = True) -> bool:
        """Whether a token counts when text is made: the tokenizer knows it, and it is not skipped as special."""
        return not (skip_special_tokens and token in self._special) and self._known(token)

    @cached_property
    def adds_bytes(self) -> bool:
        """Whether each token adds the same bytes to UTF-8 text wherever it is, as in GPT-2's kind of vocabulary."""
        return self._decoder.get("type") == "ByteLevel"

    def utf8(self, token: int) -> bytes:
        """Those bytes, of a token that the tokenizer knows."""
        if (found := self._utf8.get(token)) is None:
            found = self._utf8[token] = _bytes_of(str(self._tokenizer.convert_ids_to_tokens(token)))
        return found

    def byte(self, token: int) -> int | None:
        """The byte of a token that stands for one where the vocabulary has no better, such as ``<0xE6>``."""
        return self._bytes.get(token)

    def token_text(self, token: int) -> str:
        """One token's text, as log probabilities show it: U+FFFD for bytes that make no whole character."""
        return self.token_bytes(token).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to UTF-8 text, in the midst of it; empty for ids that the tokenizer does not know."""
        if not self._known(token):
            return b""
        name = str(self._tokenizer.convert_ids_to_tokens(token))
        if token in self._special:
            return name.encode()
        if token in self._bytes:
            return bytes([self._bytes[token]])
        if self.adds_bytes:
            return self.utf8(token)
        # With something before it, or a leading space would be left out.
        before = self.decode(self._before)
        return self.decode([*self._before, token], skip_special_tokens=False)[len(before) :].encode()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Messages as the model's chat template writes them. It looks at nothing that the template does not look at.

        Encode it with `add_special_tokens=False`.

        Raises:
            BadRequest: The model has no chat template, or it refuses these messages.
        """
        if not self._tokenizer.chat_template:
            raise BadRequest(
                "this model has no chat template; send a plain prompt to /v1/completions, or start the server with "
                "--chat-template",
                param="messages",
            )
        if continue_final_message and add_generation_prompt:
            raise BadRequest(
                "continue_final_message and add_generation_prompt are both true; the one continues the last message, "
                "the other begins a new one: set add_generation_prompt to false",
                param="continue_final_message",
            )
        kwargs = dict(template_kwargs or {})
        if reserved := sorted(_RESERVED & kwargs.keys()):
            raise BadRequest(
                f"chat_template_kwargs: {', '.join(reserved)} cannot be set there; only names that the model's chat "
                "template gives a meaning of its own, such as enable_thinking",
                param=f"chat_template_kwargs.{reserved[0]}",
            )
        try:
            rendered = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **kwargs,
            )
        except Exception as error:
            # A template is a program of the model's author: what it trips over depends on the messages.
            words = str(error) or type(error).__name__
            raise BadRequest(f"the model's chat template refuses these messages: {words}", param="messages") from error
        return str(rendered)

    def _known(self, token: int) -> bool:
        if self._backend is None:
            return 0 <= token < len(self._tokenizer)
        if token not in self._seen:
            if not 0 <= token < 2**32 or self._backend.id_to_token(token) is None:
                return False
            self._seen.add(token)
        return True

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self._tokenizer.added_tokens_decoder
        return frozenset(token for token, content in added.items() if content.special)

    @cached_property
    def _decoder(self) -> dict[str, Any]:
        """How the backend says that it makes text of tokens; empty if it is not known."""
        decoder = getattr(self._backend, "decoder", None)
        return {} if decoder is None else dict(json.loads(decoder.__getstate__()))

    @cached_property
    def _bytes(self) -> Mapping[int, int]:
        steps = [self._decoder, *self._decoder.get("decoders", ())]
        if not any(step.get("type") == "ByteFallback" for step in steps):
            return {}
        tokens = {byte: self._backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256)} if self._backend else {}
        return {token: byte for byte, token in tokens.items() if token is not None}

    @cached_property
    def _before(self) -> tuple[int, ...]:
        return self.encode("a", add_special_tokens=False)


def _check(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"character {error.start} of the text is half a surrogate pair ({text[error.start]!r}), which is no "
            "character; send the pair or leave it out"
        ) from None


def _bytes_of(name: str) -> bytes:
    values = [_BYTE_OF.get(character) for character in name]
    return name.encode() if None in values else bytes(value for value in values if value is not None)


def _byte_of_character() -> Mapping[str, int]:
    """GPT-2's way to write bytes: printable Latin-1 stands for itself, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_of_character()
# Arguments of the rendering itself, through which a request could bring its own template or files.
_RESERVED = {*inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters, "messages", "self"}
