"""Text of tokens that come one by one: the same as of all of them at once, in whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

_UNKNOWN = "\ufffd"
# How far back the text of a token may depend on what came before: a character has at most four bytes, thus tokens.
_CONTEXT = 6
_WINDOW = 16


class Decoder(Protocol):
    """What a detokenizer needs of a tokenizer."""

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...

    def has_text(self, token: int, *, skip_special_tokens: bool = True) -> bool:
        """Whether a token counts when text is made; special tokens that are skipped do not."""
        ...

    @property
    def adds_bytes(self) -> bool:
        """Whether each token adds the same bytes to UTF-8 text wherever it is."""
        ...

    def utf8(self, token: int) -> bytes:
        """Those bytes."""
        ...

    def byte(self, token: int) -> int | None:
        """The byte of a token that stands for one where the vocabulary has no better, such as ``<0xE6>``."""
        ...


class Detokenizer:
    """Gathers the bytes of tokens; where these depend on what is beside them, it decodes a window of the last
    ones again with each token, so that the cost does not grow with the text.

    A character of which bytes are missing waits for them, until it is clear that they do not come: then it comes out
    as U+FFFD, as from `decode`. Only of byte tokens `decode` throws away whole runs with one wrong byte in them; here
    their right characters stay, since they have been given away.
    """

    def __init__(self, tokenizer: Decoder, *, skip_special_tokens: bool) -> None:
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._window: list[int] = []
        self._done = 0  # characters of the window's text that were given away
        self._bytes: codecs.IncrementalDecoder | None = None
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace") if tokenizer.adds_bytes else None
        self._held = ""

    def push(self, token: int) -> str:
        """The text that a token adds."""
        if not self._tokenizer.has_text(token, skip_special_tokens=self._skip):
            return ""
        if self._utf8 is not None:
            text = self._held + self._utf8.decode(self._tokenizer.utf8(token))
            self._held = _UNKNOWN if text.endswith(_UNKNOWN) and not self._utf8.getstate()[0] else ""
            return text.removesuffix(self._held)
        byte = self._tokenizer.byte(token)
        if byte is not None:
            text = "" if self._bytes is not None else self._rest()
            if self._bytes is None:
                self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
            self._window.append(token)
            return text + self._bytes.decode(bytes([byte]))
        rest = self._end_of_bytes()
        self._window.append(token)
        text = self._text()
        end = len(text) - text.endswith(_UNKNOWN)
        new, self._done = text[self._done : end], max(self._done, end)
        if len(self._window) >= _WINDOW:
            self._slide()
        return rest + new

    def flush(self) -> str:
        """The text that was held back; nothing comes after it."""
        if self._utf8 is not None:
            return self._held + self._utf8.decode(b"", final=True)
        return self._end_of_bytes() + self._rest()

    def _text(self) -> str:
        return self._tokenizer.decode(self._window, skip_special_tokens=self._skip)

    def _rest(self) -> str:
        text = self._text()
        rest, self._done = text[self._done :], len(text)
        return rest

    def _end_of_bytes(self) -> str:
        if self._bytes is None:
            return ""
        rest, self._bytes = self._bytes.decode(b"", final=True), None
        self._slide()
        self._done = len(self._text())
        return rest

    def _slide(self) -> None:
        self._window = self._window[-_CONTEXT:]
        text = self._text()
        self._done = len(text) - text.endswith(_UNKNOWN)
