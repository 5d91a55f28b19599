"""Conversation: what was said so far, and how the next answer is to be made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

Message = dict[str, str]


@dataclass(slots=True)
class Settings:
    """How answers are made; what is None is left to the server.

    Attributes:
        temperature: 0: always the likeliest word.
        top_p: share of the likely words that are drawn from.
        max_tokens: length of an answer at most.
        seed: the same one gives the same answer.
    """

    temperature: float | None = 0.7
    top_p: float | None = 0.9
    max_tokens: int | None = 1024
    seed: int | None = None

    def set(self, name: str, text: str) -> None:
        """Changes one; ``-`` leaves it to the server.

        Raises:
            ValueError: there is none of that name, or that is no value for it.
        """
        name = name.replace("-", "_")
        names = [each.name for each in fields(self)]
        if name not in names:
            raise ValueError(f"there is no {name}; choose from {', '.join(names)}")
        kind = int if name in ("max_tokens", "seed") else float
        try:
            setattr(self, name, None if text == "-" else kind(text))
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} {text}: give {what}, or - to leave it to the server") from None

    def given(self) -> dict[str, Any]:
        """Those that are not left to the server."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(slots=True)
class Conversation:
    """What was said so far.

    Attributes:
        model: who is asked.
        system: what the model is told before all else; empty: nothing.
        settings: how answers are made.
        messages: what the user and the model said in turn.
    """

    model: str = ""
    system: str = ""
    settings: Settings = field(default_factory=Settings)
    messages: list[Message] = field(default_factory=list)

    def body(self, question: str, *, stream: bool) -> dict[str, Any]:
        """The request that asks a question after all that was said."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, *self.messages, {"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, **self.settings.given()}
        return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body

    def took_place(self, question: str, answer: str) -> None:
        """Keeps a turn; one that came to nothing is not kept, so that the next question is not spoilt by it."""
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        """Forgets what was said; the system prompt stays."""
        self.messages.clear()
