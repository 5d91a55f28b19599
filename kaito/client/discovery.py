"""Discovery: which kinds the API server serves, where, and what can be done with them."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable

from kaito.client.discovery_documents import ServedKind, Snapshot, fetch
from kaito.client.errors import NoSuchKind
from kaito.client.transport import Request, Response
from kaito.kube.resource import ResourceType
from kaito.kube.unstructured import UnstructuredObject, unstructured_class

REFRESH_S = 10.0
_NEAREST = 3


class Discovery:
    """What an API server serves, asked once and remembered; asked again when a kind is not in it.

    A kind that is not served costs no more than one refresh in `refresh_s`, however often it is asked for. One API
    group that cannot be discovered (the server behind it is away) harms no other. Safe to share between tasks, which
    share one fetch; a cancelled one leaves what was known.

    Args:
        ask: sends a request.
        refresh_s: seconds that must lie between two fetches.
    """

    def __init__(self, ask: Callable[[Request], Awaitable[Response]], *, refresh_s: float = REFRESH_S) -> None:
        self._ask = ask
        self._refresh_s = refresh_s
        self._snapshot: Snapshot | None = None
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def kinds(self) -> tuple[ServedKind, ...]:
        """All kinds that are served, in all their versions, each group's preferred version first.

        Raises:
            ApiError, TransportError: the API server does not say.
        """
        return (await self._known()).kinds

    async def find(self, api_version: str, kind: str) -> ServedKind:
        """What is served under this version and kind.

        Raises:
            NoSuchKind: nothing; the text names what may have been meant, and what could not be discovered.
            ApiError, TransportError: the API server does not say.
        """
        group = api_version.rpartition("/")[0]
        return await self._first(
            lambda served: (served.type.api_version, served.type.kind) == (api_version, kind), api_version, kind, group
        )

    async def preferred(self, group: str, kind: str) -> ServedKind:
        """A kind in the version that the API server prefers.

        Args:
            group: API group; empty for the core group.
            kind: such as ``Deployment``.

        Raises:
            NoSuchKind, ApiError, TransportError: as for `find`.
        """
        return await self._first(lambda served: (served.type.group, served.type.kind) == (group, kind), "", kind, group)

    async def named(self, name: str) -> ServedKind:
        """A kind by any name that kubectl takes: its plural, singular, short name or kind, in any case, with ``.group``
        or without.

        Raises:
            NoSuchKind, ApiError, TransportError: as for `find`.
        """
        word, _, group = name.lower().partition(".")
        return await self._first(
            lambda served: word in served.names and group in ("", served.type.group), "", name, group or None
        )

    async def resource_type(self, api_version: str, kind: str) -> ResourceType:
        """Where a kind lives: its plural and its scope. See `find`."""
        return (await self.find(api_version, kind)).type

    async def unstructured(self, api_version: str, kind: str) -> type[UnstructuredObject]:
        """The class over plain JSON for a kind, with the right plural and scope. See `find` and `Unstructured`."""
        return unstructured_class(await self.resource_type(api_version, kind))

    def forget(self) -> None:
        """Makes the next question be asked anew."""
        self._snapshot = None
        self._fetched_at = float("-inf")

    async def _first(
        self, wanted: Callable[[ServedKind], bool], api_version: str, kind: str, group: str | None
    ) -> ServedKind:
        snapshot = await self._known()
        for attempt in range(2):
            found = next(filter(wanted, snapshot.kinds), None)
            if found is not None:
                return found
            if attempt == 0:
                snapshot = await self._refreshed(snapshot)
        raise _no_such_kind(snapshot, api_version, kind, group, self._refresh_s)

    async def _known(self) -> Snapshot:
        return self._snapshot or await self._refreshed(None)

    async def _refreshed(self, seen: Snapshot | None) -> Snapshot:
        """A snapshot that is newer than the one seen, if that is not too young."""
        async with self._lock:
            if self._snapshot is not None and self._snapshot is not seen:
                return self._snapshot
            now = asyncio.get_running_loop().time()
            if self._snapshot is not None and now - self._fetched_at < self._refresh_s:
                return self._snapshot
            self._snapshot = await fetch(self._ask)
            self._fetched_at = asyncio.get_running_loop().time()
            return self._snapshot


def _no_such_kind(snapshot: Snapshot, api_version: str, kind: str, group: str | None, refresh_s: float) -> NoSuchKind:
    nearest = tuple(_nearest(snapshot.kinds, api_version, kind))
    broken = {
        version: why
        for version, why in snapshot.broken.items()
        if group is None or version == group or version.rpartition("/")[0] == group
    }
    what = f"{api_version} {kind}" if api_version else f"{kind} in group {group!r}" if group is not None else kind
    text = f"the API server serves no {what}"
    if nearest:
        text += f"; did you mean {', '.join(nearest)}?"
    for version, why in broken.items():
        text += f"; it may be in {version}, which cannot be discovered now: {why}"
    if not nearest and not broken:
        text += "; install its CustomResourceDefinition, or check group and version with `kubectl api-resources`"
    text += f" (this may be {refresh_s:.0f} s old; client.discovery.forget() has it asked anew)"
    return NoSuchKind(text, api_version=api_version, kind=kind, nearest=nearest, broken=tuple(broken))


def _nearest(kinds: Iterable[ServedKind], api_version: str, kind: str) -> list[str]:
    """The same kind elsewhere first, then those of similar names."""
    names: dict[str, list[ResourceType]] = {}
    for served in kinds:
        names.setdefault(served.type.kind.lower(), []).append(served.type)
    similar = difflib.get_close_matches(kind.lower(), names, n=_NEAREST, cutoff=0.75)
    found = [place for name in similar for place in names[name]]
    return [f"{place.kind} ({place.api_version})" for place in found][:_NEAREST]
