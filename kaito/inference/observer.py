"""What the engine tells whoever measures it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

Ended = Literal["stop", "length", "abort", "error"]


@dataclass(frozen=True, slots=True)
class Load:
    """How much is in the engine now.

    Attributes:
        running: sequences that have a slot.
        waiting: requests without one.
        waiting_tokens: their prompt tokens together.
        kv_usage: used part of the key-value cache, 0 to 1.
        running_adapters: names of adapters that running sequences use.
        waiting_adapters: those that waiting ones use.
    """

    running: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    kv_usage: float = 0.0
    running_adapters: Collection[str] = ()
    waiting_adapters: Collection[str] = ()


class Observer(Protocol):
    """Called in the engine's thread (`load` in the loop's, too), so nothing here waits. Times are in seconds."""

    def load(self, load: Load) -> None:
        """After each step, and when a request comes or goes: the load as it is now."""
        ...

    def started(self, waited_s: float) -> None:
        """A request got a slot, so long after it arrived."""
        ...

    def prefilled(self, tokens: int) -> None:
        """So many prompt tokens were worked on."""
        ...

    def first_token(self, seconds: float) -> None:
        """A request's first token came, so long after the request arrived."""
        ...

    def next_token(self, seconds: float) -> None:
        """A further token of a request came, so long after its last one."""
        ...

    def ended(self, reason: Ended, prompt_tokens: int, new_tokens: int, seconds: float) -> None:
        """A request ended, so long after it arrived, whether or not it ever had a slot."""
        ...


class Unobserved:
    """An `Observer` that nobody listens to."""

    def load(self, load: Load) -> None:
        """Nothing."""

    def started(self, waited_s: float) -> None:
        """Nothing."""

    def prefilled(self, tokens: int) -> None:
        """Nothing."""

    def first_token(self, seconds: float) -> None:
        """Nothing."""

    def next_token(self, seconds: float) -> None:
        """Nothing."""

    def ended(self, reason: Ended, prompt_tokens: int, new_tokens: int, seconds: float) -> None:
        """Nothing."""
