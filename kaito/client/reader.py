"""Reader: what a client asks before it asks the API server; a cache is one."""

from __future__ import annotations

from typing import Protocol, TypeVar

from kaito.client.results import ObjectList
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)


class Reader(Protocol):
    """Reads kinds that it serves; a cache is one."""

    def serves(self, kind: type[Resource], namespace: str | None) -> bool:
        """Whether objects of this kind (in this namespace; None: in all) are read here."""
        ...

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        """Reads one object."""
        ...

    async def list(
        self, kind: type[R], *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> ObjectList[R]:
        """Reads all that match."""
        ...
