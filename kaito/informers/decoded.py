"""DecodedObjects: a small, bounded memory of models decoded from entries, shared since they are frozen."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from kaito.informers.entry import Entry
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)

DEFAULT_LIMIT = 256


class DecodedObjects:
    """Least recently used models by (class, uid, resourceVersion).

    Bounded, because a model takes some ten times its bytes and the garbage collector walks it: one per object would
    cost more than the whole store.

    Args:
        limit: how many are kept.
        partial: whether entries hold only parts of their objects, which models are marked for.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, *, partial: bool = False) -> None:
        self._limit = limit
        self._partial = partial
        self._models: OrderedDict[tuple[type[Resource], str, int], Resource] = OrderedDict()

    def decode(self, kind: type[R], entry: Entry) -> R:
        """Returns the model of an entry.

        Raises:
            pydantic.ValidationError: the object breaks the class's schema.
        """
        identity = (kind, entry.uid, entry.rv)
        model = self._models.get(identity)
        if model is not None:
            self._models.move_to_end(identity)
            return model  # type: ignore[return-value]
        decoded = kind.model_validate_json(entry.raw)
        if self._partial:
            decoded.as_partial()
        self._models[identity] = decoded
        if len(self._models) > self._limit:
            self._models.popitem(last=False)
        return decoded
