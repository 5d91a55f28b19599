"""What the HTTP server needs of whatever runs the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from kaito.inference.requests import Delta, GenerationRequest


class State(Enum):
    """The life of a runtime, in order; `FAILED` may follow any of them."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a runtime stands.

    Attributes:
        state: its state.
        detail: for people: what is being loaded and how far, or what failed.
    """

    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that requests may give as their `model`.

    Attributes:
        name: that name.
        root: folder or hub id that it was loaded from.
        parent: name of the base model, for an adapter; none for the base model.
        max_model_len: tokens of prompt and answer together.
        strength: what an adapter counts where a request does not say, 0 to 1 by the Workspace; none for the base model.
        vocab_size: token ids are less than it; none where only the runtime knows.
    """

    name: str
    root: str
    parent: str | None
    max_model_len: int
    strength: float | None = None
    vocab_size: int | None = None


class Generation(Protocol):
    """One running request: an asynchronous iterator of deltas.

    To leave it is to cancel it: `aclose`, or the end of the `async for`'s task, gives its slot back within one step.
    """

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    async def __anext__(self) -> Delta:
        """The next delta.

        Raises:
            RequestTimeout: It took longer than a request may take.
            Unavailable: The engine failed.
            StopAsyncIteration: After the delta with a finish reason.
        """
        ...

    async def aclose(self) -> None:
        """Cancels what still runs. Does nothing when all has come."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back, and the model's chat template. Nothing here waits but `encode_async`."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]: ...

    async def encode_async(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        """The same as `encode`, for texts of any length: long ones do not hold up the loop."""
        ...

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...

    def token_text(self, token: int) -> str:
        """One token's text, as log probabilities show it."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to UTF-8 text: log probabilities show it where a token is no whole character."""
        ...

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Messages as the model's chat template writes them.

        Raises:
            BadRequest: The model has no chat template, or it refuses these messages.
        """
        ...


class Runtime(Protocol):
    """Loads a model and runs requests on it."""

    name: str

    def status(self) -> Status: ...

    async def load(self) -> None:
        """Loads and warms up; `status` tells how far it is. Returns when ready.

        Raises:
            StartError: The model cannot be served here.
        """
        ...

    def models(self) -> Sequence[ServedModel]:
        """The base model, then each adapter by name."""
        ...

    def tokenizer(self) -> Tokenizer:
        """Only of a runtime that is ready."""
        ...

    async def submit(self, requests: Sequence[GenerationRequest]) -> Sequence[Generation]:
        """Queues requests, all of them or none.

        Raises:
            ContextLengthExceeded: Prompt and max_tokens do not fit the model's context.
            ModelNotFound: No adapter of a name.
            Overloaded: As much waits as may wait.
            Unavailable: Loading, draining, or failed.
        """
        ...

    def defaults(self) -> Mapping[str, Any]:
        """The model's generation_config.json, what it sets: temperature, top_p, eos_token_id, …"""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new, waits for what runs, then aborts the rest with finish reason ``abort``."""
        ...

    async def close(self) -> None:
        """Ends threads and processes."""
        ...


@runtime_checkable
class WithMetrics(Protocol):
    """A runtime that measures itself."""

    async def metrics(self) -> str:
        """In Prometheus' text format; empty while there is nothing to tell."""
        ...


@runtime_checkable
class WithTransformers(Protocol):
    """A runtime that can also call transformers' own `generate`, for what no engine here has: beams, contrasts, …"""

    async def generate_with_transformers(
        self, prompt: Sequence[int], kwargs: Mapping[str, Any], adapters: Mapping[str, float]
    ) -> Sequence[Sequence[int]]:
        """New tokens of each sequence that it returns, one call after the other.

        A cancelled call ends within one step of `generate`.

        Args:
            prompt: token ids, at least one.
            kwargs: of ``GenerationMixin.generate``, as a client gave them; lengths among them.
            adapters: strength by name.

        Raises:
            BadRequest: transformers refuses them; in its words.
            ModelNotFound: No adapter of a name.
            Overloaded: As much waits as may wait.
            RequestTimeout: It took longer than a request may take.
            Unavailable: Loading, draining, or failed.
        """
        ...
