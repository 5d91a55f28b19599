"""Unstructured: any kind without a class of its own, as a class over plain JSON; frozen and lossless like all."""

from collections.abc import Iterator, KeysView
from functools import cache
from types import new_class
from typing import Any

from kaito.kube.frozen import freeze, thaw
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.resource import Resource, ResourceType, guess_plural


class UnstructuredObject(Resource):
    """An object of a kind that has no class: ``obj["spec"]["replicas"]``, by the names on the wire.

    ``obj.metadata`` and ``obj.key`` are typed, as those of every resource. All else is what JSON is, frozen. A draft
    from `edit` takes whole values: ``draft["spec"] = {**draft["spec"], "replicas": 3}``.
    """

    def __getitem__(self, field: str) -> Any:
        """The frozen value of a field.

        Raises:
            KeyError: the object has no such field.
        """
        match field:
            case "apiVersion":
                return self.api_version
            case "kind":
                return self.kind
            case "metadata":
                return freeze(self.metadata.to_dict())
            case _:
                return self._content[field]

    def __setitem__(self, field: str, value: object) -> None:
        """Assigns a field of a draft.

        Raises:
            FrozenModelError: the object is no draft.
            pydantic.ValidationError: it is a metadata or kind that cannot be one.
        """
        match field:
            case "apiVersion":
                self.api_version = str(value)
            case "kind":
                self.kind = str(value)
            case "metadata":
                self.metadata = ObjectMeta.model_validate(thaw(value))
            case _:
                setattr(self, field, value)

    def __delitem__(self, field: str) -> None:
        """Takes a field out of a draft.

        Raises:
            FrozenModelError: the object is no draft.
            KeyError: it has no such field, or not one that can be taken out.
        """
        if not hasattr(self, "_draft"):
            self._refuse_change(field)
        del self._content[field]

    def __contains__(self, field: object) -> bool:
        return field in self.keys()

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> KeysView[str]:
        """The fields that the object has, by their names on the wire."""
        return dict.fromkeys(("apiVersion", "kind", "metadata", *self._content)).keys()

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field, or the default."""
        try:
            return self[field]
        except KeyError:
            return default

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Names the object and shows nothing of it: any kind may hold secrets."""
        yield "key", str(self.key)
        yield "resource_version", self.metadata.resource_version

    def to_dict(self) -> dict[str, Any]:
        """Returns the wire form; nulls are kept, since nothing is known of what they mean."""
        head = {"apiVersion": self.api_version, "kind": self.kind, "metadata": self.metadata.to_dict()}
        return head | {field: thaw(value) for field, value in self._content.items()}

    @property
    def _content(self) -> dict[str, Any]:
        return self.__pydantic_extra__ or {}


def Unstructured(api_version: str, kind: str, *, plural: str = "", namespaced: bool = True) -> type[UnstructuredObject]:
    """Returns the class for a kind, the same one for the same arguments: it does whatever a `Resource` does.

    Args:
        api_version: ``group/version``, or ``v1`` for the core group.
        kind: such as ``Widget``.
        plural: the name in URLs; default a guess (`guess_plural`). ``await client.discovery.unstructured(api_version,
            kind)`` asks the API server instead, for this and for the scope.
        namespaced: False for cluster-scoped kinds.

    Raises:
        ValueError: the version or the kind cannot be one.
    """
    group, slash, version = api_version.rpartition("/")
    if not version or "/" in group or (slash and not group):
        raise ValueError(
            f"Unstructured: api_version {api_version!r}: expected GROUP/VERSION, or VERSION for core kinds"
        )
    if not kind.isidentifier():
        raise ValueError(f"Unstructured: kind {kind!r}: expected a name such as Widget")
    return unstructured_class(ResourceType(group, version, kind, plural or guess_plural(kind), namespaced))


@cache
def unstructured_class(resource: ResourceType) -> type[UnstructuredObject]:
    """The class for a kind of which everything is known; the same one each time, since caches go by class."""
    return new_class(resource.kind, (UnstructuredObject,), resource._asdict(), _describe(resource))


def _describe(resource: ResourceType) -> Any:
    def body(namespace: dict[str, object]) -> None:
        namespace["__module__"] = __name__
        namespace["__doc__"] = f"{resource.kind} of {resource.api_version}, as plain JSON."

    return body


__all__ = ["Unstructured", "UnstructuredObject", "unstructured_class"]
