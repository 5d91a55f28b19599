"""ListCutter: cuts a list into its objects while it arrives, so that it is never in memory as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from kaito.client import wire

_ITEMS = b'"items":['
_FIRST_KEY = re.compile(rb'\{"[^"\\]*":')
_LONGEST_KEY = 256
# How often an object is tried whose braces do not match: those in its texts are counted too.
_TRIES = 16
_is_whole = msgspec.json.Decoder(msgspec.Raw).decode


class ListCutter:
    """Takes the JSON of a list in pieces and gives its objects back, each as bytes of its own.

    An object ends before ``},`` and the key that the first object begins with; whether it really does there is tried by
    parsing it, since lists inside of objects can look the same and the beginning of an object is never a whole one.
    What is not written so (other white space, objects that begin with different keys) is left for the end, where all
    that remains is parsed at once: slower, and as right.
    """

    def __init__(self) -> None:
        self._head = b""
        self._rest = b""
        self._searched = 0
        self._separator = b""
        self._depth = self._counted = self._tries = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Takes a piece and yields the objects that end in it; exhaust it before the next piece."""
        self._rest += chunk
        if not self._separator and not self._begins():
            return
        start = 0
        while (end := self._rest.find(self._separator, max(start, self._searched))) >= 0:
            self._depth += self._rest.count(b"{", self._counted, end + 1) - self._rest.count(
                b"}", self._counted, end + 1
            )
            self._counted = self._searched = end + 1
            if self._is_worth_trying() and _whole(item := self._rest[start : end + 1]):
                yield item
                start = self._searched = self._counted = end + 2
                self._depth = self._tries = 0
        self._rest = self._rest[start:]
        self._counted = max(0, self._counted - start)
        # A separator may have begun at the end of what there is.
        self._searched = max(0, self._searched - start, len(self._rest) - len(self._separator))

    def _is_worth_trying(self) -> bool:
        """Whether what there is can be a whole object: its braces say so, unless texts hold some.

        Parsing a long object at each of its inner ends would take a time that grows with the square of its length.
        """
        if self._depth == 0:
            return True
        self._tries += 1
        return self._tries <= _TRIES

    def close(self) -> wire.ListPage:
        """Returns what has not been given back yet: the last objects, and what the list says of itself.

        Raises:
            msgspec.DecodeError: it is no list, or was cut off.
        """
        return wire.decode_page(self._head + self._rest)

    def _begins(self) -> bool:
        """Finds where the objects begin and what parts them."""
        if not self._head:
            before, items, after = self._rest.partition(_ITEMS)
            if not items:
                return False
            self._head, self._rest = before + items, after
        key = _FIRST_KEY.match(self._rest, 0, _LONGEST_KEY)
        if key is None:
            return False
        self._separator = b"}," + key[0]
        return True


def _whole(item: bytes) -> bool:
    try:
        _is_whole(item)
    except msgspec.DecodeError:
        return False
    return True
