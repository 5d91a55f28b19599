"""Session: turns of a conversation and commands between them, as a person types them or a pipe brings them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import typer

from kaito.catalog.nearest import did_you_mean
from kaito.cli.chat.conversation import Conversation
from kaito.cli.chat.server import ChatError, ChatServer, Piece
from kaito.cli.control import CONTROL

HELP = """\
/help             this
/quit             end; so does Ctrl-D
/clear            forget what was said; the system prompt stays
/system [TEXT]    show, or set, what the model is told before all else; /system - takes it away
/model [NAME]     show, or choose, who is asked
/models           who can be asked: the base model and its adapters
/params           how answers are made
/set NAME VALUE   change that: temperature, top_p, max_tokens, seed; - leaves it to the server
Ctrl-C stops an answer, and a second one ends. Text that begins with a slash: put a blank before it."""


@dataclass(slots=True)
class Answer:
    """An answer in the making."""

    began: float = field(default_factory=time.monotonic)
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    model: str = ""
    seconds: float = 0.0

    def add(self, piece: Piece) -> None:
        """The next piece has come."""
        self.text += piece.text
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.usage = dict(piece.usage) or self.usage
        self.model = piece.model or self.model
        self.seconds = time.monotonic() - self.began

    @property
    def tokens_per_second(self) -> float | None:
        """From the question on; None if the server counts none."""
        tokens = self.usage.get("completion_tokens")
        return round(tokens / self.seconds, 1) if tokens is not None and self.seconds > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text,
            "model": self.model,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": self.tokens_per_second,
        }


@dataclass(slots=True)
class Session:
    """One conversation with one server.

    Args:
        runner: on whose loop the server is asked; between turns, while a person types, it stands still.
        server: who answers.
        conversation: what was said so far.
        stream: whether answers are shown as they are written.
        as_json: one object for each answer, in place of its text.
        quiet: answers alone, without what is told about them.
    """

    runner: asyncio.Runner
    server: ChatServer
    conversation: Conversation
    stream: bool = True
    as_json: bool = False
    quiet: bool = True
    failures: int = 0

    def talk(self, read: Callable[[], str]) -> None:
        """Asks what a person types until that ends; Ctrl-C stops an answer, a second one ends."""
        stopped = False
        while True:
            try:
                line = read()
            except EOFError:
                typer.echo(err=True)
                return
            except KeyboardInterrupt:
                if stopped:
                    typer.echo(err=True)
                    return
                stopped = True
                typer.echo("\nCtrl-C once more, or Ctrl-D, ends", err=True)
                continue
            try:
                stopped = False
                if not self.take(line):
                    return
            except KeyboardInterrupt:
                stopped = True
                typer.echo("\nstopped; Ctrl-C once more, or Ctrl-D, ends", err=True)

    def feed(self, lines: Iterable[str]) -> None:
        """Asks line after line of a text."""
        for line in lines:
            if not self.take(line):
                return

    def take(self, line: str) -> bool:
        """Does what a line asks for; False: it asks for the end.

        Raises:
            KeyboardInterrupt: Ctrl-C stopped the answer; what there was of it is kept.
        """
        if not line.strip():
            return True
        try:
            if line.startswith("/"):
                name, _, rest = line[1:].strip().partition(" ")
                return self._command(name, rest.strip())
            self.ask(line.strip())
        except (ChatError, ValueError) as error:
            self.failures += 1
            typer.echo(f"kaito: {error}", err=True)
        return True

    def ask(self, question: str) -> None:
        """Asks, shows the answer, and keeps both.

        Raises:
            ChatError: there is no whole answer; the turn is taken back.
            KeyboardInterrupt: as for `take`.
        """
        answer = Answer()
        try:
            self.runner.run(self._answer(question, answer))
        except ChatError:
            if answer.text and not self.as_json:
                typer.echo()
            raise
        except KeyboardInterrupt:
            if answer.text:
                self.conversation.took_place(question, answer.text)
            raise
        self.conversation.took_place(question, answer.text)
        self._tell(answer)

    async def _answer(self, question: str, answer: Answer) -> None:
        async for piece in self.server.ask(self.conversation.body(question, stream=self.stream)):
            answer.add(piece)
            if piece.text and not self.as_json:
                sys.stdout.write(CONTROL.sub("", piece.text))
                sys.stdout.flush()

    def _tell(self, answer: Answer) -> None:
        if self.as_json:
            typer.echo(json.dumps(answer.to_dict(), ensure_ascii=False))
            return
        typer.echo()
        if self.quiet:
            return
        rate = f", {answer.tokens_per_second} tokens/s" if answer.tokens_per_second is not None else ""
        cut = "; it was cut at max_tokens: /set max_tokens N" if answer.finish_reason == "length" else ""
        typer.secho(f"({answer.seconds:.1f} s{rate}{cut})", dim=True, err=True)

    def _command(self, name: str, rest: str) -> bool:
        match name:
            case "quit" | "exit":
                return False
            case "help":
                _say(HELP)
            case "clear":
                self.conversation.clear()
                _say("forgotten")
            case "models":
                _say("\n".join(self.runner.run(self.server.models())))
            case "model":
                self._model(rest)
            case "params":
                given = self.conversation.settings.given()
                _say("\n".join(f"{key} {value}" for key, value in given.items()) or "all are left to the server")
            case "set":
                key, _, value = rest.replace("=", " ").partition(" ")
                self.conversation.settings.set(key, value.strip())
            case "system":
                self._system(rest)
            case _:
                known = ("help", "quit", "clear", "system", "model", "models", "params", "set")
                meant = did_you_mean(name, known)
                raise ValueError(f"/{name} is no command" + (f"; did you mean /{meant}?" if meant else "; see /help"))
        return True

    def _model(self, name: str) -> None:
        if name:
            self.conversation.model = chosen(name, self.runner.run(self.server.models()))
        _say(self.conversation.model)

    def _system(self, text: str) -> None:
        if text:
            self.conversation.system = "" if text == "-" else text
        _say(self.conversation.system or "there is no system prompt")


def chosen(name: str, models: list[str]) -> str:
    """The model that is asked: the one that was named, or the base model.

    Raises:
        ValueError: there is none of that name.
    """
    if not name and models:
        return models[0]
    if name in models:
        return name
    meant = did_you_mean(name, models)
    raise ValueError(
        f"there is no model {name}" + (f"; did you mean {meant}?" if meant else f"; there are: {', '.join(models)}")
    )


def _say(text: str) -> None:
    typer.echo(text, err=True)
