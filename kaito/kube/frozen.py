"""Values that cannot be changed: what a cached object is made of, so that no reader can spoil it for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict whose contents cannot be changed; still a real dict, so every JSON encoder and ``==`` takes it as one."""

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("this mapping belongs to a frozen object: take obj.edit() and assign a new mapping there")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __deepcopy__(self, _memo: object) -> FrozenDict[K, V]:
        return self

    def __reduce__(self) -> tuple[type, tuple[dict[K, V]]]:
        return (type(self), (dict(self),))


def freeze(value: Any) -> Any:
    """Turns a decoded JSON value into one of tuples and `FrozenDict`, all the way down."""
    # By exact type first: this runs on every unknown field of every object read, and isinstance of an ABC is slow.
    kind = type(value)
    if kind is str or kind is FrozenDict:
        return value
    if kind is dict or isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple([freeze(item) for item in value])
    return value


def thaw(value: Any) -> Any:
    """Makes plain dicts and lists of a frozen JSON value: a private copy to write in."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [thaw(item) for item in value]
    return value


if TYPE_CHECKING:
    FrozenMap = Mapping
else:

    class FrozenMap:
        """``FrozenMap[str, str]`` as a model's field: a mapping to type checkers, a `FrozenDict` at run time."""

        def __class_getitem__(cls, parameters: tuple[Any, Any]) -> Any:
            key, value = parameters
            return Annotated[dict[key, value], AfterValidator(FrozenDict)]


FrozenJson = Annotated[Any, AfterValidator(freeze)]
"""Any JSON value, frozen on the way in: for fields whose schema is somebody else's (pod templates, unknown fields)."""
