"""Finds stop strings in text that comes piece by piece."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Lets text through but for what could still become a stop string.

    The stop string that ends first counts; of several that end together the longest. The work for each character does
    not depend on how long the text or the stop strings are (Knuth, Morris and Pratt).
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._matches = [_Match(stop) for stop in sorted({stop for stop in stops if stop}, key=len, reverse=True)]
        self._first = {match.stop[0] for match in self._matches}
        self._held = ""

    def push(self, text: str, *, armed: bool = True) -> tuple[str, str | None]:
        """Takes text.

        Args:
            text: what came.
            armed: whether a stop string that ends in it counts.

        Returns:
            Text that is let through, and the stop string that was found: then nothing comes after that text.
        """
        if not self._held and self._first.isdisjoint(text):
            return text, None
        held = self._held + text
        before = len(self._held)
        for position, character in enumerate(text, before + 1):
            for match in self._matches:
                match.advance(character)
                if match.complete and armed:
                    self._held = ""
                    return held[: position - len(match.stop)], match.stop
        end = len(held) - max(match.length for match in self._matches)
        self._held = held[end:]
        return held[:end], None

    def flush(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


class _Match:
    """How much of a stop string the text ends with."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0
        self.complete = False
        # For each beginning of it: how much of the stop string that ends with, without being all of it. Only as far as
        # the text has come: stop strings may be as long as a request, and there may be many.
        self._shorter = [0]

    def advance(self, character: str) -> None:
        while self.length and self.stop[self.length] != character:
            self.length = self._shorter[self.length - 1]
        self.length += self.stop[self.length] == character
        if self.length > len(self._shorter):
            self._extend()
        self.complete = self.length == len(self.stop)
        if self.complete:
            self.length = self._shorter[-1]

    def _extend(self) -> None:
        character, length = self.stop[len(self._shorter)], self._shorter[-1]
        while length and self.stop[length] != character:
            length = self._shorter[length - 1]
        self._shorter.append(length + (self.stop[length] == character))
