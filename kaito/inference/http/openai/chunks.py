"""Chunks of a stream. One is written for each token, so all that does not change in them is written once."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass

import msgspec

from kaito import __version__
from kaito.inference.http.openai.fields import StreamOptions
from kaito.inference.http.openai.responses import Usage
from kaito.inference.requests import Delta
from kaito.inference.runtime import Runtime

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Identity:
    """What all answers and chunks of one call begin with.

    Attributes:
        id: of the call.
        created: when it came, in seconds of Unix time.
        model: name that it gave, or the base model's.
        system_fingerprint: changes with whatever could make the same seed answer otherwise.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def of_call(cls, kind: str, runtime: Runtime, model: str | None) -> Identity:
        """A new one; its id starts with a kind."""
        base = runtime.models()[0]
        source = "\0".join((__version__, runtime.name, base.name, base.root))
        fingerprint = f"kaito-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        return cls(f"{kind}-{uuid.uuid4().hex}", int(time.time()), model or base.name, fingerprint)


def usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    """OpenAI's count of tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class ChunkWriter:
    """Writes the chunks of one call, and counts its tokens."""

    def __init__(
        self, kind: str, identity: Identity, choices: int, prompt_tokens: int, options: StreamOptions | None
    ) -> None:
        """For a call.

        Args:
            kind: the chunks' `object`.
            identity: of the call.
            choices: how many answers it has.
            prompt_tokens: of all its prompts.
            options: what it asks for beside the answers.
        """
        head = encode({"id": identity.id, "object": kind, "created": identity.created, "model": identity.model})
        self._head = b'data: %b,"system_fingerprint":%b,"choices":[' % (head[:-1], encode(identity.system_fingerprint))
        self._starts = [b'%b{"index":%d,' % (self._head, index) for index in range(choices)]
        self._each_tells = bool(options and options.continuous_usage_stats)
        self._last_tells = bool(options and options.include_usage)
        self._end = b"]%b}\n\n" % (b',"usage":null' if self._last_tells else b"")
        self.prompt_tokens, self.tokens = prompt_tokens, 0

    def first(self, index: int, body: bytes) -> bytes:
        """A chunk before any token, such as one with the role."""
        return b'%b%b,"logprobs":null,"finish_reason":null}%b' % (self._starts[index], body, self._tail())

    def next(self, index: int, body: bytes, delta: Delta, logprobs: object) -> bytes:
        """The chunk of a delta.

        Args:
            index: of the answer.
            body: the text's field, written.
            delta: its tokens are counted, and its reasons shown.
            logprobs: in the shape of these chunks; none: null.
        """
        self.tokens += len(delta.tokens)
        written = b"null" if logprobs is None else encode(logprobs)
        if delta.finish_reason is None:
            reasons = b"null"
        else:
            reasons = b'%b,"stop_reason":%b' % (encode(delta.finish_reason), encode(delta.stop_reason))
        return b'%b%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._starts[index],
            body,
            written,
            reasons,
            self._tail(),
        )

    def skip(self, delta: Delta) -> None:
        """Counts the tokens of a delta that has nothing to show yet."""
        self.tokens += len(delta.tokens)

    @property
    def shows_every_delta(self) -> bool:
        """Whether even one without text is to be told of."""
        return self._each_tells

    def last(self) -> bytes:
        """The chunk with the number of tokens, if it is wanted; else nothing."""
        return b"%b%b" % (self._head, self._usage()) if self._last_tells else b""

    def _tail(self) -> bytes:
        return self._usage() if self._each_tells else self._end

    def _usage(self) -> bytes:
        return b'],"usage":%b}\n\n' % encode(usage(self.prompt_tokens, self.tokens))
